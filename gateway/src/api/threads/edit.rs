//! Editing and deleting threads.

use axum::Json;
use axum::extract::State;
use runledger_core::{AssistantId, Patch, RawJson, ThreadPatch, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;

use super::create::NewValues;
use super::{Removed, shown_whole};
use crate::api::params::present;
use crate::api::problems::Conflict;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WireThread, thread_pin};

/// What to change of a thread. What is left out stays, what is null is emptied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateThread {
    /// Keys to set in the metadata; those that are null are removed.
    #[schema(value_type = Option<Object>)]
    metadata: Option<RawJson>,
    /// The title.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    display_name: Patch<String>,
    /// The same title, where DeerFlow has it.
    values: Option<NewValues>,
    /// Whether it stands before all others in lists. A change of nothing else leaves `updated_at` as it is.
    pinned: Option<bool>,
    /// The agent definition.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    assistant_id: Patch<AssistantId>,
    /// The model.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    model: Patch<String>,
}

impl UpdateThread {
    fn into_patch(self) -> Result<ThreadPatch, Problem> {
        let (metadata, told) = match &self.metadata {
            Some(metadata) => {
                let (rest, told) = thread_pin::taken_out(metadata)?;
                // What only pins is an edit of nothing else.
                let is_pin = told.is_some() && rest == RawJson::empty_object();
                (Some(rest).filter(|_| !is_pin), told)
            }
            None => (None, None),
        };
        let title = self.values.and_then(|values| values.title);
        let display_name = match (self.display_name, title) {
            (Patch::Keep, Some(title)) => Patch::Set(title),
            (given, _) => given,
        };
        Ok(ThreadPatch {
            display_name,
            assistant_id: self.assistant_id,
            pinned: self.pinned.or(told),
            model: self.model,
            metadata,
        })
    }
}

/// Edit a thread.
#[utoipa::path(
    patch, path = "/threads/{thread_id}", tag = "threads", operation_id = "update_thread",
    params(ThreadPath), request_body = UpdateThread,
    responses((status = 200, description = "The thread as it is now", body = WireThread), Conflict),
)]
pub(super) async fn update_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Body(given): Body<UpdateThread>,
) -> Result<Json<WireThread>, Problem> {
    let patch = given.into_patch()?;
    let at = Timestamp::now();
    let thread = app.ledger.threads().update(&caller.scope, &path.thread_id, patch, at).await?;
    shown_whole(&app, &caller.scope, thread).await
}

/// Delete a thread and all below it.
///
/// With its log, its runs and their feedback; what was spent stays counted. Not while a run is active on it.
#[utoipa::path(
    delete, path = "/threads/{thread_id}", tag = "threads", operation_id = "delete_thread",
    params(ThreadPath),
    responses((status = 200, description = "It is gone", body = Removed), Conflict),
)]
pub(super) async fn delete_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
) -> Result<Json<Removed>, Problem> {
    let deleted = app.ledger.threads().delete(&caller.scope, &path.thread_id).await?;
    Ok(Removed::new(format!("thread {} is deleted", path.thread_id), deleted))
}
