//! Runs: admitted, listed, stopped, waited for, hidden, deleted.

mod create;
mod input;
mod stop;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use runledger_core::{
    ErrorKind, OperationKind, Run, RunFilter, RunId, RunStatus, Scope, ThreadId, Timestamp, Visibility,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{BareRunPath, bare_list, list_range};
use super::problems::Conflict;
use super::threads::Removed;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, Query, RunPath, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WirePage, WireRun};

pub(super) use create::{NewLeaseBody, lease_of};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create::create_run, list_thread_runs))
        .routes(routes!(create::create_run_with_thread, list_runs))
        .routes(routes!(get_run, delete_run))
        .routes(routes!(find_run))
        .routes(routes!(stop::cancel_run))
        .routes(routes!(stop::join_run))
        .routes(routes!(rewind_run))
        .routes(routes!(set_run_visibility))
}

/// A run as it is answered.
pub(super) fn shown(app: &App, run: &Run) -> WireRun {
    WireRun::from(run).redacted(&app.options.redacted_keys)
}

/// A run as it is answered, with what each model took.
async fn shown_whole(app: &App, scope: &Scope, run: &Run) -> Result<Json<WireRun>, Problem> {
    let mut wire = shown(app, run);
    match app.ledger.usage().by_run(scope, &run.thread_id, &run.run_id).await {
        Ok(usage) => wire.with_models(&usage),
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Json(wire))
}

/// The run with this id on any thread the caller sees.
pub(super) async fn thread_of(app: &App, scope: &Scope, run: &RunId) -> Result<ThreadId, Problem> {
    Ok(app.ledger.runs().find(scope, run).await?.thread_id)
}

/// Which runs of a thread.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ThreadRunsQuery {
    /// Only those with this status: `queued`, `pending`, `running`, or one of those of ended runs.
    status: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where the previous page ended: its header `X-Next-Cursor`.
    cursor: Option<String>,
}

/// The runs of a thread, the newest first.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs", tag = "runs", operation_id = "list_thread_runs",
    params(ThreadPath, ThreadRunsQuery),
    responses(
        (status = 200, description = "The runs", body = Vec<WireRun>,
            headers(("x-next-cursor" = Option<String>, description = "Where the next page starts, if there is one"))),
    ),
)]
async fn list_thread_runs(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ThreadRunsQuery>,
) -> Result<Response, Problem> {
    let filter = RunFilter {
        thread_id: Some(path.thread_id),
        status: status_of(query.status.as_deref())?,
        operation_kind: Some(OperationKind::Run),
        ..RunFilter::default()
    };
    let range = list_range(query.limit, query.cursor.as_deref())?;
    let page = app.ledger.runs().list(&caller.scope, &filter, &range).await?;
    let rows: Vec<WireRun> = page.items.iter().map(|run| shown(&app, run)).collect();
    Ok(bare_list(&rows, page.next_cursor.as_ref()))
}

fn status_of(given: Option<&str>) -> Result<Option<RunStatus>, Problem> {
    Ok(given.map(|status| RunStatus::parse("status", status)).transpose()?)
}

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunsQuery {
    /// Only those of this thread.
    thread_id: Option<ThreadId>,
    /// Only those with this status: `queued`, `pending`, `running`, or one of those of ended runs.
    status: Option<String>,
    /// Only those of this kind: `run`, `checkpoint_write`, `artifact_write` or `delete`.
    operation_kind: Option<String>,
    /// Only those asked for at this time or later.
    created_from: Option<Timestamp>,
    /// Only those asked for before this time.
    created_before: Option<Timestamp>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where the previous page ended.
    cursor: Option<String>,
}

/// The runs of all threads, the newest first.
#[utoipa::path(
    get, path = "/runs", tag = "runs", operation_id = "list_runs",
    params(RunsQuery),
    responses((status = 200, description = "The runs", body = WirePage<WireRun>)),
)]
async fn list_runs(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RunsQuery>,
) -> Result<Json<WirePage<WireRun>>, Problem> {
    let kind = query.operation_kind.as_deref();
    let filter = RunFilter {
        thread_id: query.thread_id,
        status: status_of(query.status.as_deref())?,
        operation_kind: kind.map(|kind| OperationKind::parse("operation_kind", kind)).transpose()?,
        created_from: query.created_from,
        created_before: query.created_before,
        ..RunFilter::default()
    };
    let range = list_range(query.limit, query.cursor.as_deref())?;
    let page = app.ledger.runs().list(&caller.scope, &filter, &range).await?;
    Ok(Json(WirePage::of(page, |run| shown(&app, &run))))
}

/// A run.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}", tag = "runs", operation_id = "get_run",
    params(RunPath),
    responses((status = 200, description = "The run", body = WireRun)),
)]
async fn get_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
) -> Result<Json<WireRun>, Problem> {
    let run = app.ledger.runs().get(&caller.scope, &path.thread_id, &path.run_id).await?;
    shown_whole(&app, &caller.scope, &run).await
}

/// A run, whatever thread it is on.
#[utoipa::path(
    get, path = "/runs/{run_id}", tag = "runs", operation_id = "find_run",
    params(BareRunPath),
    responses((status = 200, description = "The run", body = WireRun)),
)]
async fn find_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<BareRunPath>,
) -> Result<Json<WireRun>, Problem> {
    let run = app.ledger.runs().find(&caller.scope, &path.run_id).await?;
    shown_whole(&app, &caller.scope, &run).await
}

/// Delete a run.
///
/// With its events, items, usage and feedback. Not while it is active.
#[utoipa::path(
    delete, path = "/threads/{thread_id}/runs/{run_id}", tag = "runs", operation_id = "delete_run",
    params(RunPath),
    responses((status = 200, description = "It is gone", body = Removed), Conflict),
)]
async fn delete_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
) -> Result<Json<Removed>, Problem> {
    let deleted = app.ledger.events().delete_by_run(&caller.scope, &path.thread_id, &path.run_id).await?;
    Ok(Removed::new(format!("run {} is deleted", path.run_id), deleted))
}

/// The runs that a rewind undid.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rewound {
    /// Those that were shown until now, the oldest first.
    run_ids: Vec<RunId>,
}

/// Undo a run and every later one.
///
/// They are hidden, and nothing is rewritten. Not while a run is active.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/rewind", tag = "runs", operation_id = "rewind_run",
    params(RunPath),
    responses((status = 200, description = "Which were undone", body = Rewound), Conflict),
)]
async fn rewind_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
) -> Result<Json<Rewound>, Problem> {
    let run_ids = app.ledger.runs().rewind(&caller.scope, &path.thread_id, &path.run_id).await?;
    Ok(Json(Rewound { run_ids }))
}

/// Whether readers are to show a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetVisibility {
    /// `shown`, `superseded` or `rolled_back`.
    #[schema(examples("shown", "superseded", "rolled_back"))]
    visibility: String,
}

/// Hide an ended run, or show it again.
#[utoipa::path(
    put, path = "/threads/{thread_id}/runs/{run_id}/visibility", tag = "runs",
    operation_id = "set_run_visibility",
    params(RunPath), request_body = SetVisibility,
    responses((status = 200, description = "The run", body = WireRun), Conflict),
)]
async fn set_run_visibility(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<SetVisibility>,
) -> Result<Json<WireRun>, Problem> {
    let visibility = Visibility::parse("visibility", &given.visibility)?;
    let runs = app.ledger.runs();
    let run = runs.set_visibility(&caller.scope, &path.thread_id, &path.run_id, visibility).await?;
    shown_whole(&app, &caller.scope, &run).await
}
