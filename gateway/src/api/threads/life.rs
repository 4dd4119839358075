//! Archiving, giving away and forking threads, and what was deleted.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runledger_core::{
    ChildFilter, Deletion, DeletionFilter, Fork, ForkPoint, ItemId, OwnerId, RunId, ThreadId, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{shown, shown_whole};
use crate::api::params::{ListQuery, list_range};
use crate::api::problems::Conflict;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, Query, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WirePage, WireThread};

/// Refuses an owner what only the system does.
pub(in crate::api) fn require_system(caller: &Caller, what: &str) -> Result<(), Problem> {
    match caller.scope.owner() {
        None => Ok(()),
        Some(_) => {
            let detail = format!("only the system {what}; ask with a token of the system");
            Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
        }
    }
}

/// Archive a thread.
///
/// It takes no more records, runs or children until it is unarchived, and can be read, edited and deleted.
#[utoipa::path(
    post, path = "/threads/{thread_id}/archive", tag = "threads", operation_id = "archive_thread",
    params(ThreadPath),
    responses((status = 200, description = "The thread", body = WireThread), Conflict),
)]
pub(super) async fn archive_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
) -> Result<Json<WireThread>, Problem> {
    let thread = app.ledger.threads().archive(&caller.scope, &path.thread_id, Timestamp::now()).await?;
    shown_whole(&app, &caller.scope, thread).await
}

/// Open an archived thread again.
#[utoipa::path(
    post, path = "/threads/{thread_id}/unarchive", tag = "threads", operation_id = "unarchive_thread",
    params(ThreadPath),
    responses((status = 200, description = "The thread", body = WireThread), Conflict),
)]
pub(super) async fn unarchive_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
) -> Result<Json<WireThread>, Problem> {
    let thread = app.ledger.threads().unarchive(&caller.scope, &path.thread_id, Timestamp::now()).await?;
    shown_whole(&app, &caller.scope, thread).await
}

/// Whose a thread is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetOwner {
    /// The owner; null is nobody but the system.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    owner_id: Option<OwnerId>,
}

/// Give a thread and all below it to another owner.
///
/// For the system only.
#[utoipa::path(
    put, path = "/threads/{thread_id}/owner", tag = "threads", operation_id = "set_thread_owner",
    params(ThreadPath), request_body = SetOwner,
    responses((status = 200, description = "The thread", body = WireThread), Conflict),
)]
pub(super) async fn set_thread_owner(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Body(given): Body<SetOwner>,
) -> Result<Json<WireThread>, Problem> {
    require_system(&caller, "gives threads away")?;
    let thread = app.ledger.threads().set_owner(&caller.scope, &path.thread_id, given.owner_id).await?;
    shown_whole(&app, &caller.scope, thread).await
}

/// Up to where to fork a thread: at most one of the points; without one, all that is there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForkThread {
    /// The new thread's id. With the same id a fork that was cut short goes on, and one that is whole is answered.
    thread_id: Option<ThreadId>,
    /// Everything before this run began.
    before_run_id: Option<RunId>,
    /// Through the end of this run.
    through_run_id: Option<RunId>,
    /// Through the last record of this item.
    through_item: Option<ItemPoint>,
}

/// An item of a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemPoint {
    /// The run.
    run_id: RunId,
    /// The item.
    item_id: ItemId,
}

/// A fork.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Forked {
    /// The new thread.
    thread: WireThread,
    /// How many events of the source it has.
    events: u64,
    /// How many of them this request wrote.
    written: u64,
}

impl ForkThread {
    fn point(self) -> Result<ForkPoint, Problem> {
        match (self.before_run_id, self.through_run_id, self.through_item) {
            (None, None, None) => Ok(ForkPoint::Latest),
            (Some(run), None, None) => Ok(ForkPoint::BeforeRun(run)),
            (None, Some(run), None) => Ok(ForkPoint::Run(run)),
            (None, None, Some(item)) => Ok(ForkPoint::Item(item.run_id, item.item_id)),
            _ => {
                let reason =
                    "is not the only point; give one of before_run_id, through_run_id and through_item";
                Err(Problem::invalid("through_run_id", reason))
            }
        }
    }
}

/// Make a thread of what another shows up to a point.
#[utoipa::path(
    post, path = "/threads/{thread_id}/fork", tag = "threads", operation_id = "fork_thread",
    params(ThreadPath), request_body = ForkThread,
    responses((status = 200, description = "The new thread", body = Forked), Conflict),
)]
pub(super) async fn fork_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Body(mut given): Body<ForkThread>,
) -> Result<Json<Forked>, Problem> {
    let thread_id = given.thread_id.take().unwrap_or_else(ThreadId::generate);
    let fork = Fork::new(path.thread_id, thread_id).through(given.point()?);
    let forked = app.ledger.fork(&caller.scope, fork).await?;
    let thread = shown(&app, forked.thread);
    Ok(Json(Forked { thread, events: forked.events, written: forked.written }))
}

/// The threads that agents of a thread spawned.
#[utoipa::path(
    get, path = "/threads/{thread_id}/children", tag = "threads", operation_id = "list_child_threads",
    params(ThreadPath, ListQuery),
    responses((status = 200, description = "The newest first", body = WirePage<WireThread>)),
)]
pub(super) async fn list_child_threads(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<WirePage<WireThread>>, Problem> {
    let (filter, range) = (ChildFilter::default(), query.range()?);
    let page = app.ledger.threads().list_children(&caller.scope, &path.thread_id, &filter, &range).await?;
    Ok(Json(WirePage::of(page, |thread| shown(&app, thread))))
}

/// Which deletions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeletionsQuery {
    /// Only those of this thread, which may be gone.
    thread_id: Option<ThreadId>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where the previous page ended.
    cursor: Option<String>,
}

/// What was deleted, by whom and why.
///
/// For the system only.
#[utoipa::path(
    get, path = "/deletions", tag = "threads", operation_id = "list_deletions",
    params(DeletionsQuery),
    responses((status = 200, description = "The newest first", body = WirePage<Deletion>)),
)]
pub(super) async fn list_deletions(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<DeletionsQuery>,
) -> Result<Json<WirePage<Deletion>>, Problem> {
    require_system(&caller, "looks at what was deleted")?;
    let range = list_range(query.limit, query.cursor.as_deref())?;
    let filter = DeletionFilter { thread_id: query.thread_id };
    let page = app.ledger.threads().list_deletions(&caller.scope, &filter, &range).await?;
    Ok(Json(WirePage::of(page, |deletion| deletion)))
}
