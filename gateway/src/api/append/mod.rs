//! Appends, for runtimes in other languages: what a journal does in a process, done over HTTP.
//!
//! A runtime sends a run's events in batches. The epoch it holds the run under is the fence, and the ordinal says how
//! many it sent before: a batch that is sent again is answered as the first was, and who lost the run is told.

mod batch;
mod hold;

use axum::Json;
use axum::extract::State;
use runledger_core::{
    Commit, EventDraft, Expected, Finish, JournalMark, ONCE_TERMINAL, Outcome, Receipt, RunProgress,
    TerminalStatus, Timestamp, Transition,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::number;
use super::problems::Conflict;
use super::runs::shown;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, RunPath, ThreadPath};
use crate::problem::Problem;
use crate::wire::WireRun;
use batch::{NewAsk, NewEvent, NewUsage};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(append_run_events))
        .routes(routes!(append_thread_events))
        .routes(routes!(hold::heartbeat))
        .routes(routes!(hold::acquire_run))
        .routes(routes!(hold::resume_run))
        .routes(routes!(hold::claim_item))
        .routes(routes!(hold::reserve_budget))
        .routes(routes!(hold::release_budget))
}

/// What a runtime sends of a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendRunEvents {
    /// The epoch it holds the run under. Without it and the ordinal the events are late records of the run, which may
    /// have ended, and are stored as often as they are sent, except for their once keys.
    epoch: Option<u64>,
    /// How many events it sent under this epoch before.
    ordinal: Option<u64>,
    /// The events, in order.
    #[serde(default)]
    #[schema(max_items = 2000)]
    events: Vec<NewEvent>,
    /// Model calls; each counts once, however often it is told.
    #[serde(default)]
    #[schema(max_items = 2000)]
    usage: Vec<NewUsage>,
    /// Whether the run starts with this batch.
    #[serde(default)]
    start: bool,
    /// How the run ends with this batch.
    finish: Option<FinishBody>,
    /// What the lead agent said last, for the run's summary.
    last_ai_message: Option<String>,
    /// The model mainly used.
    model_name: Option<String>,
}

/// How a run ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinishBody {
    /// In a word.
    status: FinishStatus,
    /// What went wrong, for people.
    error: Option<String>,
    /// Why it stopped, for programs.
    stop_reason: Option<String>,
    /// What it asks a person: then it ends as interrupted with the stop reason `waiting_for_input`.
    #[serde(default)]
    asks: Vec<NewAsk>,
}

/// How a run ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishStatus {
    /// Well.
    Success,
    /// It failed.
    Error,
    /// Its time was over.
    Timeout,
    /// It was stopped, or waits for a person.
    Interrupted,
    /// Its budget was spent.
    BudgetExhausted,
}

impl From<FinishStatus> for TerminalStatus {
    fn from(status: FinishStatus) -> Self {
        match status {
            FinishStatus::Success => Self::Success,
            FinishStatus::Error => Self::Error,
            FinishStatus::Timeout => Self::Timeout,
            FinishStatus::Interrupted => Self::Interrupted,
            FinishStatus::BudgetExhausted => Self::BudgetExhausted,
        }
    }
}

/// What was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Appended {
    /// The seq of each event, in order, those that an earlier request stored included. Of a batch that ends a run
    /// the last may be the one that says so.
    seqs: Vec<u64>,
    /// How many of them an earlier request had stored.
    already_stored: u64,
    /// The seq the thread's next event gets; null where the run had ended before and nothing was written.
    next_seq: Option<u64>,
    /// The thread's epoch after this.
    epoch: Option<u64>,
    /// The run as it is stored, where the batch ends it: a run that was asked to stop ends as it was asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<WireRun>,
}

impl Appended {
    fn new(receipt: Option<Receipt>, run: Option<WireRun>) -> Json<Self> {
        let (next_seq, epoch) = receipt.as_ref().map(|receipt| (receipt.next_seq, receipt.epoch)).unzip();
        let already_stored = receipt.as_ref().map_or(0, |receipt| receipt.already_stored as u64);
        let seqs = receipt.map(|receipt| receipt.seqs).unwrap_or_default();
        Json(Self { seqs, already_stored, next_seq, epoch, run })
    }
}

impl AppendRunEvents {
    fn mark(&self) -> Result<Option<JournalMark>, Problem> {
        match (self.epoch, self.ordinal) {
            (Some(epoch), Some(ordinal)) => {
                Ok(Some(JournalMark { epoch: number("epoch", epoch)?, ordinal: number("ordinal", ordinal)? }))
            }
            (None, None) if self.start || self.finish.is_some() => {
                let reason = "is missing; a run is started and ended under the epoch it is held with";
                Err(Problem::invalid("epoch", reason))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Problem::invalid("ordinal", "is missing; an epoch comes with one")),
            (None, Some(_)) => Err(Problem::invalid("epoch", "is missing; an ordinal counts under one")),
        }
    }
}

/// Append events to a run.
///
/// All of the batch is stored, or nothing. The same batch again is answered as the first was.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/events", tag = "events",
    operation_id = "append_run_events",
    params(RunPath), request_body = AppendRunEvents,
    responses((status = 200, description = "What was stored", body = Appended), Conflict),
)]
async fn append_run_events(
    State(app): State<App>,
    caller: Caller,
    Path(RunPath { thread_id, run_id }): Path<RunPath>,
    Body(given): Body<AppendRunEvents>,
) -> Result<Json<Appended>, Problem> {
    let at = Timestamp::now();
    let mark = given.mark()?;
    if given.start && given.finish.is_some() {
        return Err(Problem::invalid("finish", "comes with start; start the run with an earlier batch"));
    }
    let mut events = batch::events(given.events, at)?;
    let usage = batch::usage(given.usage, at)?;
    let progress = RunProgress {
        last_ai_message: given.last_ai_message,
        model_name: given.model_name,
        ..RunProgress::default()
    };
    if let (Some(finish), Some(mark)) = (given.finish, mark) {
        let FinishBody { status, error, stop_reason, asks } = finish;
        let outcome = Outcome { status: status.into(), error, stop_reason };
        let asks = asks.into_iter().map(NewAsk::into_interaction).collect();
        if !events.iter().any(|event| event.once_key.as_deref() == Some(ONCE_TERMINAL)) {
            events.push(EventDraft::terminal(&outcome, None, at));
        }
        let finish = Finish { thread_id, run_id, mark, outcome, at, events, usage, progress, asks };
        let finished = app.ledger.finish(&caller.scope, finish).await?;
        return Ok(Appended::new(finished.receipt, Some(shown(&app, &finished.run))));
    }
    let commit = Commit {
        mark,
        events,
        usage,
        progress,
        transition: given.start.then_some(Transition::Start { at }),
        ..Commit::of_run(thread_id, run_id)
    };
    let receipt = app.ledger.events().append(&caller.scope, commit).await?;
    Ok(Appended::new(Some(receipt), None))
}

/// Records of a thread itself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendThreadEvents {
    /// The events, in order.
    #[schema(min_items = 1, max_items = 2000)]
    events: Vec<NewEvent>,
    /// The seq that the first of them must get: a batch that is sent again with it is a conflict, and stored once.
    expected_next_seq: Option<u64>,
}

/// Append records of a thread that belong to no run.
#[utoipa::path(
    post, path = "/threads/{thread_id}/events", tag = "events", operation_id = "append_thread_events",
    params(ThreadPath), request_body = AppendThreadEvents,
    responses((status = 200, description = "What was stored", body = Appended), Conflict),
)]
async fn append_thread_events(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Body(given): Body<AppendThreadEvents>,
) -> Result<Json<Appended>, Problem> {
    let expected = match given.expected_next_seq {
        Some(seq) => Expected::NextSeq(number("expected_next_seq", seq)?),
        None => Expected::Any,
    };
    let events = batch::events(given.events, Timestamp::now())?;
    let commit = Commit { expected, ..Commit::new(path.thread_id) }.with_events(events);
    let receipt = app.ledger.events().append(&caller.scope, commit).await?;
    Ok(Appended::new(Some(receipt), None))
}
