//! Interactions: what runs asked people. They are answered by the run that goes on with the answer.

use axum::Json;
use axum::extract::State;
use runledger_core::{
    Interaction, InteractionFilter, InteractionId, InteractionStatus, OwnerId, Page, Scope, ThreadId,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::list_range;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, ThreadPath};
use crate::problem::Problem;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(list_of_thread)).routes(routes!(get))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct InteractionPath {
    /// The thread.
    thread_id: ThreadId,
    /// The interaction.
    interaction_id: InteractionId,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those with this status: `open`, `answered`.
    status: Option<String>,
    /// For the system: only those of this owner.
    owner: Option<OwnerId>,
    /// Where the previous page ended: its `next_cursor`.
    cursor: Option<String>,
    /// Interactions at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

async fn page(
    app: &App,
    scope: &Scope,
    thread_id: Option<ThreadId>,
    query: &ListQuery,
) -> Result<Json<Page<Interaction>>, Problem> {
    let range = list_range(query.limit, query.cursor.as_deref())?;
    let status =
        query.status.as_deref().map(|status| InteractionStatus::parse("status", status)).transpose()?;
    let filter = InteractionFilter { thread_id, status };
    Ok(Json(app.ledger.interactions().list(scope, &filter, &range).await?))
}

/// What was asked on all threads, newest first.
#[utoipa::path(
    get,
    path = "/interactions",
    tag = "interactions",
    operation_id = "list_interactions",
    params(ListQuery),
    responses((status = 200, description = "A page of them.", body = Page<Interaction>))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Interaction>>, Problem> {
    let scope = caller.of_owner(query.owner.clone())?;
    page(&app, &scope, None, &query).await
}

/// What was asked on a thread, newest first.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/interactions",
    tag = "interactions",
    operation_id = "list_thread_interactions",
    params(ThreadPath, ListQuery),
    responses((status = 200, description = "A page of them.", body = Page<Interaction>))
)]
async fn list_of_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Interaction>>, Problem> {
    let scope = caller.of_owner(query.owner.clone())?;
    page(&app, &scope, Some(path.thread_id), &query).await
}

/// A question, and its answer where it has one.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/interactions/{interaction_id}",
    tag = "interactions",
    operation_id = "get_interaction",
    params(InteractionPath),
    responses((status = 200, description = "The interaction.", body = Interaction))
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<InteractionPath>,
) -> Result<Json<Interaction>, Problem> {
    let interactions = app.ledger.interactions();
    Ok(Json(interactions.get(&caller.scope, &path.thread_id, &path.interaction_id).await?))
}
