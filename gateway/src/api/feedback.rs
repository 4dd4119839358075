//! Feedback on runs and messages.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use runledger_core::{
    Error, Feedback, FeedbackFilter, FeedbackId, FeedbackPatch, FeedbackStats, ItemId, ListRange,
    NewFeedback, OwnerId, Patch, Rating, RunId, Scope, ThreadId, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{BareRunPath, ListQuery, bare_list, present};
use super::problems::Conflict;
use super::runs::thread_of;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, Query, RunPath};
use crate::problem::Problem;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_feedback, create_feedback, put_feedback, delete_run_feedback))
        .routes(routes!(get_feedback_stats))
        .routes(routes!(get_feedback, update_feedback, delete_feedback))
        .routes(routes!(list_bare_run_feedback))
}

/// What somebody thinks of a run, or of one of its messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WireFeedback {
    /// Its id, unique within the thread.
    feedback_id: FeedbackId,
    /// The run.
    run_id: RunId,
    /// The thread.
    thread_id: ThreadId,
    /// Who gave it; null for the system.
    user_id: Option<OwnerId>,
    /// The message: its item. Null is the run as a whole.
    message_id: Option<ItemId>,
    /// 1 where they liked it, else -1.
    rating: Rating,
    /// What they wrote.
    comment: Option<String>,
    /// When it was given.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

impl From<Feedback> for WireFeedback {
    fn from(feedback: Feedback) -> Self {
        Self {
            feedback_id: feedback.feedback_id,
            run_id: feedback.run_id,
            thread_id: feedback.thread_id,
            user_id: feedback.owner_id,
            message_id: feedback.item_id,
            rating: feedback.rating,
            comment: feedback.comment,
            created_at: feedback.created_at,
            updated_at: feedback.updated_at,
        }
    }
}

/// Feedback to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GiveFeedback {
    /// 1 where they liked it, else -1.
    rating: Rating,
    /// What they wrote.
    #[schema(max_length = 10000)]
    comment: Option<String>,
    /// The message it is about: its item. Without one it is about the run as a whole.
    message_id: Option<ItemId>,
}

impl GiveFeedback {
    fn into_new(self, path: RunPath) -> NewFeedback {
        NewFeedback {
            thread_id: path.thread_id,
            feedback_id: FeedbackId::generate(),
            run_id: path.run_id,
            item_id: self.message_id,
            rating: self.rating,
            comment: self.comment,
            at: Timestamp::now(),
        }
    }
}

/// A change to feedback. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateFeedback {
    /// 1 where they liked it, else -1.
    rating: Option<Rating>,
    /// What they wrote; null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 10000)]
    comment: Patch<String>,
}

/// The path of a piece of feedback.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct FeedbackPath {
    /// The thread.
    thread_id: ThreadId,
    /// The run.
    run_id: RunId,
    /// The feedback.
    feedback_id: FeedbackId,
}

/// How a run was rated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WireFeedbackStats {
    /// The run.
    run_id: RunId,
    /// Ratings in all, on the run and on its messages.
    total: u64,
    /// Of these, 1.
    positive: u64,
    /// Of these, -1.
    negative: u64,
}

/// Which message.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MessageQuery {
    /// The message: its item. Without one it is the run as a whole.
    message_id: Option<ItemId>,
}

/// Give feedback for the first time.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/feedback", tag = "feedback",
    operation_id = "create_feedback",
    params(RunPath), request_body = GiveFeedback,
    responses((status = 200, description = "The feedback", body = WireFeedback), Conflict),
)]
async fn create_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<GiveFeedback>,
) -> Result<Json<WireFeedback>, Problem> {
    let feedback = app.ledger.feedback().create(&caller.scope, given.into_new(path)).await?;
    Ok(Json(feedback.into()))
}

/// Give feedback, in the place of what the caller gave on the same before.
#[utoipa::path(
    put, path = "/threads/{thread_id}/runs/{run_id}/feedback", tag = "feedback",
    operation_id = "put_feedback",
    params(RunPath), request_body = GiveFeedback,
    responses((status = 200, description = "The feedback", body = WireFeedback), Conflict),
)]
async fn put_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<GiveFeedback>,
) -> Result<Json<WireFeedback>, Problem> {
    let feedback = app.ledger.feedback().put(&caller.scope, given.into_new(path)).await?;
    Ok(Json(feedback.into()))
}

/// The caller's feedback on a run and its messages, the newest first.
///
/// The system sees everybody's.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}/feedback", tag = "feedback",
    operation_id = "list_feedback",
    params(RunPath, ListQuery),
    responses((status = 200, description = "The feedback", body = Vec<WireFeedback>,
        headers(("x-next-cursor" = Option<String>, description = "Where the next page starts, if there is one")))),
)]
async fn list_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    app.ledger.runs().get(&caller.scope, &path.thread_id, &path.run_id).await?;
    list(&app, &caller.scope, &path.thread_id, path.run_id, &query.range()?).await
}

/// The caller's feedback on a run, whatever thread it is on.
#[utoipa::path(
    get, path = "/runs/{run_id}/feedback", tag = "feedback", operation_id = "list_bare_run_feedback",
    params(BareRunPath, ListQuery),
    responses((status = 200, description = "The feedback", body = Vec<WireFeedback>,
        headers(("x-next-cursor" = Option<String>, description = "Where the next page starts, if there is one")))),
)]
async fn list_bare_run_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<BareRunPath>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let thread = thread_of(&app, &caller.scope, &path.run_id).await?;
    list(&app, &caller.scope, &thread, path.run_id, &query.range()?).await
}

async fn list(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    run: RunId,
    range: &ListRange,
) -> Result<Response, Problem> {
    let filter = FeedbackFilter { run_ids: vec![run], item_id: None };
    let page = app.ledger.feedback().list(scope, thread, &filter, range).await?;
    let own = page.items.into_iter().filter(|one| is_own(scope, one));
    let rows: Vec<WireFeedback> = own.map(WireFeedback::from).collect();
    Ok(bare_list(&rows, page.next_cursor.as_ref()))
}

/// Whether feedback is the scope's to see and to change: the system's is everybody's.
fn is_own(scope: &Scope, feedback: &Feedback) -> bool {
    scope.owner().is_none_or(|owner| feedback.owner_id.as_ref() == Some(owner))
}

/// How a run was rated, by everybody.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}/feedback/stats", tag = "feedback",
    operation_id = "get_feedback_stats",
    params(RunPath),
    responses((status = 200, description = "The counts", body = WireFeedbackStats)),
)]
async fn get_feedback_stats(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
) -> Result<Json<WireFeedbackStats>, Problem> {
    let RunPath { thread_id, run_id } = path;
    app.ledger.runs().get(&caller.scope, &thread_id, &run_id).await?;
    let asked = std::slice::from_ref(&run_id);
    let stats = app.ledger.feedback().stats(&caller.scope, &thread_id, asked).await?;
    let FeedbackStats { total, positive, negative } = stats.get(&run_id).copied().unwrap_or_default();
    Ok(Json(WireFeedbackStats { run_id, total, positive, negative }))
}

/// The caller's feedback of this id on this run.
async fn own(app: &App, scope: &Scope, path: &FeedbackPath) -> Result<Feedback, Error> {
    let feedback = app.ledger.feedback().get(scope, &path.thread_id, &path.feedback_id).await?;
    if feedback.run_id != path.run_id || !is_own(scope, &feedback) {
        return Err(Error::not_found("feedback", &path.feedback_id));
    }
    Ok(feedback)
}

/// A piece of feedback.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}/feedback/{feedback_id}", tag = "feedback",
    operation_id = "get_feedback",
    params(FeedbackPath),
    responses((status = 200, description = "The feedback", body = WireFeedback)),
)]
async fn get_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<FeedbackPath>,
) -> Result<Json<WireFeedback>, Problem> {
    Ok(Json(own(&app, &caller.scope, &path).await?.into()))
}

/// Change a piece of feedback.
#[utoipa::path(
    patch, path = "/threads/{thread_id}/runs/{run_id}/feedback/{feedback_id}", tag = "feedback",
    operation_id = "update_feedback",
    params(FeedbackPath), request_body = UpdateFeedback,
    responses((status = 200, description = "The feedback as it is now", body = WireFeedback)),
)]
async fn update_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<FeedbackPath>,
    Body(given): Body<UpdateFeedback>,
) -> Result<Json<WireFeedback>, Problem> {
    own(&app, &caller.scope, &path).await?;
    let patch = FeedbackPatch { rating: given.rating, comment: given.comment };
    let (store, at) = (app.ledger.feedback(), Timestamp::now());
    let feedback = store.update(&caller.scope, &path.thread_id, &path.feedback_id, patch, at).await?;
    Ok(Json(feedback.into()))
}

/// Take a piece of feedback back.
#[utoipa::path(
    delete, path = "/threads/{thread_id}/runs/{run_id}/feedback/{feedback_id}", tag = "feedback",
    operation_id = "delete_feedback",
    params(FeedbackPath),
    responses((status = 204, description = "It is gone")),
)]
async fn delete_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<FeedbackPath>,
) -> Result<axum::http::StatusCode, Problem> {
    own(&app, &caller.scope, &path).await?;
    app.ledger.feedback().delete(&caller.scope, &path.thread_id, &path.feedback_id).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Take back what the caller thinks of a run, or of a message.
#[utoipa::path(
    delete, path = "/threads/{thread_id}/runs/{run_id}/feedback", tag = "feedback",
    operation_id = "delete_run_feedback",
    params(RunPath, MessageQuery),
    responses((status = 204, description = "It is gone")),
)]
async fn delete_run_feedback(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Query(query): Query<MessageQuery>,
) -> Result<axum::http::StatusCode, Problem> {
    let store = app.ledger.feedback();
    let filter = FeedbackFilter { run_ids: vec![path.run_id.clone()], item_id: query.message_id.clone() };
    let mut range = ListRange::newest(runledger_core::MAX_LIMIT);
    loop {
        let page = store.list(&caller.scope, &path.thread_id, &filter, &range).await?;
        let own = page
            .items
            .iter()
            .find(|one| one.owner_id.as_ref() == caller.scope.owner() && one.item_id == query.message_id);
        if let Some(own) = own {
            store.delete(&caller.scope, &path.thread_id, &own.feedback_id).await?;
            return Ok(axum::http::StatusCode::NO_CONTENT);
        }
        let Some(cursor) = page.next_cursor else {
            return Err(Error::not_found("feedback", &path.run_id).into());
        };
        range.cursor = Some(cursor);
    }
}
