//! The log itself.

use axum::Json;
use axum::extract::State;
use runledger_core::{
    Caller as EventCaller, EventFilter, EventType, RunId, Scope, SeqPage, SeqRange, TaskId, ThreadId,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{BareRunPath, rows_of};
use super::runs::thread_of;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, RunPath, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WireEventPage, WireSeqPage, redacted_event};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_thread_events))
        .routes(routes!(list_run_events))
        .routes(routes!(list_bare_run_events))
}

/// Which events of a thread.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ThreadEventsQuery {
    /// Only those before this seq: the last of them, unless `after_seq` is given too.
    before_seq: Option<u64>,
    /// Only those after this seq, the first of them. Without either they are read from the first.
    after_seq: Option<u64>,
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Which events of a run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RunEventsQuery {
    /// Only these types, with commas between them.
    event_types: Option<String>,
    /// Only those of this task.
    task_id: Option<TaskId>,
    /// Only those that this one caused: `lead_agent`, `subagent:research`.
    caller: Option<String>,
    /// Only those before this seq: the last of them, unless `after_seq` is given too.
    before_seq: Option<u64>,
    /// Only those after this seq, the first of them. Without either they are read from the first.
    after_seq: Option<u64>,
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

impl RunEventsQuery {
    fn filter(&self, run: RunId) -> Result<EventFilter, Problem> {
        let types = self.event_types.as_deref().unwrap_or_default();
        let types = types.split(',').map(str::trim).filter(|name| !name.is_empty());
        let event_types = types
            .map(EventType::new)
            .collect::<Result<_, _>>()
            .map_err(|error| Problem { field: Some("event_types".to_owned()), ..Problem::from(error) })?;
        Ok(EventFilter {
            run_id: Some(run),
            event_types,
            task_id: self.task_id.clone(),
            caller: self.caller.as_deref().map(EventCaller::new).transpose()?,
        })
    }
}

fn range(limit: Option<u32>, before_seq: Option<u64>, after_seq: Option<u64>) -> Result<SeqRange, Problem> {
    let limit = rows_of(limit)?;
    let after_seq = after_seq.or(if before_seq.is_none() { Some(0) } else { None });
    Ok(SeqRange { limit, before_seq, after_seq })
}

async fn page(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    filter: &EventFilter,
    range: SeqRange,
) -> Result<Json<WireEventPage>, Problem> {
    let SeqPage { items, has_more } = app.ledger.events().list_events(scope, thread, filter, &range).await?;
    let shown = |event| redacted_event(event, &app.options.redacted_keys);
    let page = SeqPage { items: items.into_iter().map(shown).collect(), has_more };
    Ok(Json(WireSeqPage::new(page, &range, |event| event.seq).into()))
}

/// The log of a thread.
#[utoipa::path(
    get, path = "/threads/{thread_id}/events", tag = "events", operation_id = "list_thread_events",
    params(ThreadPath, ThreadEventsQuery),
    responses((status = 200, description = "The events, ascending", body = WireEventPage)),
)]
async fn list_thread_events(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ThreadEventsQuery>,
) -> Result<Json<WireEventPage>, Problem> {
    let range = range(query.limit, query.before_seq, query.after_seq)?;
    page(&app, &caller.scope, &path.thread_id, &EventFilter::default(), range).await
}

/// The events of a run.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}/events", tag = "events", operation_id = "list_run_events",
    params(RunPath, RunEventsQuery),
    responses((status = 200, description = "The events, ascending", body = WireEventPage)),
)]
async fn list_run_events(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Query(query): Query<RunEventsQuery>,
) -> Result<Json<WireEventPage>, Problem> {
    require_run(&app, &caller.scope, &path.thread_id, &path.run_id).await?;
    let range = range(query.limit, query.before_seq, query.after_seq)?;
    page(&app, &caller.scope, &path.thread_id, &query.filter(path.run_id)?, range).await
}

/// The events of a run, whatever thread it is on.
#[utoipa::path(
    get, path = "/runs/{run_id}/events", tag = "events", operation_id = "list_bare_run_events",
    params(BareRunPath, RunEventsQuery),
    responses((status = 200, description = "The events, ascending", body = WireEventPage)),
)]
async fn list_bare_run_events(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<BareRunPath>,
    Query(query): Query<RunEventsQuery>,
) -> Result<Json<WireEventPage>, Problem> {
    let thread = thread_of(&app, &caller.scope, &path.run_id).await?;
    let range = range(query.limit, query.before_seq, query.after_seq)?;
    page(&app, &caller.scope, &thread, &query.filter(path.run_id)?, range).await
}

/// 404 for a run that is not there, where the backend knows runs: else it has no events, which is no error.
pub(super) async fn require_run(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<(), Problem> {
    if app.ledger.capabilities().runs {
        app.ledger.runs().get(scope, thread, run).await?;
    }
    Ok(())
}
