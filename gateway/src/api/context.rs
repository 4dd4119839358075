//! The context window of a thread, and its compaction.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use runledger_core::{Compaction, Fold, ItemId, RawJson, RunId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::SeqQuery;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, Query, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WireSeqPage, WireWindow};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(window)).routes(routes!(compactions)).routes(routes!(compact))
}

/// The shape of a context window.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WindowFormat {
    /// Messages with their seqs and payloads.
    #[default]
    Canonical,
    /// What a chat API takes: an array of messages.
    Openai,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WindowQuery {
    /// The shape.
    #[param(inline)]
    format: Option<WindowFormat>,
}

/// The messages a model would be sent next.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/context",
    tag = "context",
    operation_id = "get_context",
    params(ThreadPath, WindowQuery),
    responses((status = 200, description = "The window; with `format=openai` its messages alone, as a chat API takes them.",
        body = inline(WindowBody)))
)]
async fn window(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<WindowQuery>,
) -> Result<Json<WindowBody>, Problem> {
    let window = app.ledger.context().load(&caller.scope, &path.thread_id).await?;
    Ok(Json(match query.format.unwrap_or_default() {
        WindowFormat::Canonical => WindowBody::Canonical(window.into()),
        WindowFormat::Openai => WindowBody::Openai(window.to_openai_chat()),
    }))
}

/// A window in the shape that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum WindowBody {
    /// With seqs and payloads.
    Canonical(WireWindow),
    /// As a chat API takes it.
    Openai(Vec<RawJson>),
}

/// The compactions of a thread, hidden runs' included, ascending by their numbers.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/compactions",
    tag = "context",
    operation_id = "list_compactions",
    params(ThreadPath, SeqQuery),
    responses((status = 200, description = "A page of them; its cursors are numbers of compactions.", body = WireSeqPage<Compaction>))
)]
async fn compactions(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<SeqQuery>,
) -> Result<Json<WireSeqPage<Compaction>>, Problem> {
    let range = query.range()?;
    let page = app.ledger.context().list_compactions(&caller.scope, &path.thread_id, &range).await?;
    Ok(Json(WireSeqPage::new(page, &range, |compaction| compaction.compact_seq)))
}

/// A note in the place of part of a context window.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Compact {
    /// What stands for the messages from now on.
    #[schema(min_length = 1)]
    note: String,
    /// The messages that it stands for, by their seqs.
    #[schema(value_type = Option<Vec<u64>>)]
    seqs: Option<BTreeSet<u64>>,
    /// In the place of `seqs`: how many exchanges stay, each from a person's message on. What is older is folded.
    keep_last: Option<usize>,
    /// The last compaction that the seqs were chosen after, 0 where there was none. With another one, nothing is
    /// folded. Without it, whatever is last.
    expected_last_compact_seq: Option<u64>,
    /// The run that the note belongs to; without it, that of the window's newest message.
    run_id: Option<RunId>,
    /// The note's item: the same request under the same item is answered with what it did.
    item_id: Option<ItemId>,
    /// The epoch the run holds the thread's slot under, where it is made by whoever executes the run.
    epoch: Option<u64>,
    /// Tokens of the window before, as the model counts them; without it, an estimate.
    before_tokens: Option<u64>,
    /// Tokens of the window after.
    after_tokens: Option<u64>,
    /// The round of the agent's loop it is made in.
    round_index: Option<u64>,
}

/// Replaces part of a thread's context window by a note. The log keeps what it has.
#[utoipa::path(
    post,
    path = "/threads/{thread_id}/compact",
    tag = "context",
    operation_id = "compact",
    params(ThreadPath),
    request_body = Compact,
    responses(
        (status = 200, description = "What was folded.", body = Compaction),
        (status = 409, description = "Another compaction came first, or the run does not hold the slot under that epoch.",
            body = Problem, content_type = "application/problem+json"),
    )
)]
async fn compact(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Body(wanted): Body<Compact>,
) -> Result<Json<Compaction>, Problem> {
    if wanted.note.trim().is_empty() {
        return Err(Problem::invalid("note", "is empty; say what the folded messages came to"));
    }
    let window = app.ledger.context().load(&caller.scope, &path.thread_id).await?;
    let seqs = match (wanted.seqs, wanted.keep_last) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("keep_last", "is given beside seqs; give one of them"));
        }
        (Some(seqs), None) => seqs,
        (None, Some(exchanges)) => window.before_last(exchanges),
        (None, None) => return Err(Problem::invalid("seqs", "is missing; give seqs or keep_last")),
    };
    let (mut fold, newest) =
        (Fold::estimated(&window, RunId::generate(), seqs, &wanted.note), window.last_run());
    fold.run_id = wanted.run_id.or(newest).ok_or_else(|| {
        Problem::invalid("run_id", "is missing, and no message of the window has a run; name one")
    })?;
    if let Some(expected) = wanted.expected_last_compact_seq {
        fold.expected_last = Some(expected).filter(|expected| *expected > 0);
    }
    fold.item_id = wanted.item_id.unwrap_or(fold.item_id);
    fold.before_tokens = wanted.before_tokens.unwrap_or(fold.before_tokens);
    fold.after_tokens = wanted.after_tokens.unwrap_or(fold.after_tokens);
    fold.epoch = wanted.epoch;
    fold.round_index = wanted.round_index;
    Ok(Json(app.ledger.fold_window(&caller.scope, &window, fold).await?))
}
