//! The item index: what is visible of runs, what is pending, and whether it agrees with the log.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runledger_core::verify::Verified;
use runledger_core::{Contents, ItemFilter, ItemQuery, ItemSeq, ItemStatus, ListOrder, RunId, SeqRange};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::rows_of;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{ItemPath, Path, Query, RunPath, ThreadPath, visibility};
use crate::problem::Problem;
use crate::wire::{WireItem, WireItemPage, WirePendingCall};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_run))
        .routes(routes!(get))
        .routes(routes!(pending))
        .routes(routes!(verify))
}

/// Which come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum First {
    /// The oldest.
    #[default]
    Oldest,
    /// The newest.
    Newest,
}

impl From<First> for ListOrder {
    fn from(first: First) -> Self {
        match first {
            First::Oldest => Self::OldestFirst,
            First::Newest => Self::NewestFirst,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only items of this run.
    run_id: Option<RunId>,
    /// Only items with this status: `in_progress`, `completed`, `failed`, `declined`, `interrupted`.
    status: Option<String>,
    /// Which come first on the page; which items it has does not depend on it.
    #[param(inline)]
    order: Option<First>,
    /// Only items that began before this seq; alone, the last of them.
    before_seq: Option<u64>,
    /// Only items that began after this seq, the first of them; 0 is the beginning.
    after_seq: Option<u64>,
    /// Only items that began or ended after this seq, in the order of their last change: the `next_updated_after` of
    /// the page before.
    updated_after: Option<u64>,
    /// Whether they come with what they say; they do unless this is false.
    content: Option<bool>,
    /// Whether items of hidden runs are among them. Of a run that is asked for by its id they always are.
    include_hidden: Option<bool>,
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

impl ListQuery {
    fn into_query(self, run_id: Option<RunId>) -> Result<ItemQuery, Problem> {
        let limit = rows_of(self.limit)?;
        let (by, range) = match (self.updated_after, self.before_seq, self.after_seq) {
            (Some(after), None, None) => (ItemSeq::Updated, SeqRange::after(after, limit)),
            (None, before_seq, after_seq) => (ItemSeq::Started, SeqRange { limit, before_seq, after_seq }),
            (Some(_), _, _) => {
                let reason = "is given beside before_seq or after_seq, which are of another order; give one";
                return Err(Problem::invalid("updated_after", reason));
            }
        };
        let status = self.status.as_deref().map(|status| ItemStatus::parse("status", status)).transpose()?;
        Ok(ItemQuery {
            filter: ItemFilter { run_id, status },
            kind: None,
            visibility: visibility(self.include_hidden),
            by,
            range,
            order: self.order.unwrap_or_default().into(),
            contents: if self.content.unwrap_or(true) { Contents::Read } else { Contents::Omitted },
        })
    }
}

/// The items of a thread, those in progress included.
///
/// A page is of one moment: `projected_through` is the last event that it knows of. Whoever reads on by `updated_after`
/// misses no change and is told none twice.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/items",
    tag = "items",
    operation_id = "list_items",
    params(ThreadPath, ListQuery),
    responses((status = 200, description = "A page of them.", body = WireItemPage))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<WireItemPage>, Problem> {
    let run = query.run_id.clone();
    let query = query.into_query(run)?;
    let page = app.ledger.items().page(&caller.scope, &path.thread_id, &query).await?;
    Ok(Json(WireItemPage::new(page, &query)))
}

/// The items of a run.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/runs/{run_id}/items",
    tag = "items",
    operation_id = "list_run_items",
    params(RunPath, ListQuery),
    responses((status = 200, description = "A page of them.", body = WireItemPage))
)]
async fn list_of_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<WireItemPage>, Problem> {
    if query.run_id.as_ref().is_some_and(|run| *run != path.run_id) {
        return Err(Problem::invalid("run_id", "is another than the path's; leave it out"));
    }
    // A run that is not there has no items, and is not there.
    app.ledger.runs().get(&caller.scope, &path.thread_id, &path.run_id).await?;
    let query = query.into_query(Some(path.run_id))?;
    let page = app.ledger.items().page(&caller.scope, &path.thread_id, &query).await?;
    Ok(Json(WireItemPage::new(page, &query)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ItemGetQuery {
    /// Whether large parts that were taken out of the payload are put back.
    whole: Option<bool>,
}

/// An item with what it says.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/runs/{run_id}/items/{item_id}",
    tag = "items",
    operation_id = "get_item",
    params(ItemPath, ItemGetQuery),
    responses((status = 200, description = "The item.", body = WireItem))
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ItemPath>,
    Query(query): Query<ItemGetQuery>,
) -> Result<Json<WireItem>, Problem> {
    let ItemPath { thread_id, run_id, item_id } = &path;
    let asked = std::slice::from_ref(item_id);
    let page = app.ledger.items().read(&caller.scope, thread_id, run_id, asked).await?;
    let Some(mut item) = page.items.into_iter().next() else {
        return Err(runledger_core::Error::not_found("item", item_id).into());
    };
    if let (true, Some(content)) = (query.whole.unwrap_or_default(), &item.content) {
        item.content = Some(app.ledger.whole(&caller.scope, thread_id, content).await?);
    }
    Ok(Json(item.into()))
}

/// The tool calls of a thread that have no result yet.
#[derive(Debug, Serialize, ToSchema)]
struct PendingCalls {
    /// The calls, in the order they began.
    items: Vec<WirePendingCall>,
}

/// The tool calls of a thread that have no result yet, in the order they began.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/pending-calls",
    tag = "items",
    operation_id = "list_pending_calls",
    params(ThreadPath),
    responses((status = 200, description = "All of them.", body = PendingCalls))
)]
async fn pending(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
) -> Result<Json<PendingCalls>, Problem> {
    let pending = app.ledger.pending(&caller.scope, &path.thread_id).await?;
    Ok(Json(PendingCalls { items: pending.into_iter().map(WirePendingCall::from).collect() }))
}

/// Compares what is stored of a thread with itself.
///
/// The index, the counts and the totals are compared with the log and the usage, as they are at one moment. What does not
/// fit is told as `findings` and is no error. It reads the whole log of the thread, so few are verified at once: 503 while
/// there are others.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/verify",
    tag = "items",
    operation_id = "verify_thread",
    params(ThreadPath),
    responses((status = 200, description = "What was found.", body = Verified))
)]
async fn verify(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
) -> Result<Json<Verified>, Problem> {
    let Ok(_turn) = app.verifying.try_acquire() else {
        let detail = "other threads are being verified; ask again when they are done";
        let busy = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        return Err(Problem { retryable: true, ..busy });
    };
    Ok(Json(app.ledger.items().verify(&caller.scope, &path.thread_id).await?))
}
