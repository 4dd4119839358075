//! Making threads.

use axum::Json;
use axum::extract::State;
use runledger_core::{
    AssistantId, DEFAULT_MAX_DEPTH, ErrorKind, ItemId, NewThread, OwnerId, RawJson, RunId, Scope, Spawn,
    Thread, ThreadId, ThreadLifecycle,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::shown_whole;
use crate::api::problems::Conflict;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::Body;
use crate::problem::Problem;
use crate::wire::{WireThread, thread_pin};

/// A thread to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateThread {
    /// Its id; one is made where it has none.
    thread_id: Option<ThreadId>,
    /// The agent definition it is for.
    assistant_id: Option<AssistantId>,
    /// Notes of the application.
    #[schema(value_type = Option<Object>)]
    metadata: Option<RawJson>,
    /// Settings of the application.
    #[schema(value_type = Option<Object>)]
    config: Option<RawJson>,
    /// A title for people.
    display_name: Option<String>,
    /// The same title, where DeerFlow has it.
    values: Option<NewValues>,
    /// The model its runs use unless told otherwise.
    model: Option<String>,
    /// The system prompt its runs start with.
    system_prompt: Option<String>,
    /// Whether it stands before all others in lists.
    pinned: Option<bool>,
    /// What to do where the caller has a thread with this id.
    #[serde(default)]
    if_exists: IfExists,
    /// Whose it is: only the system makes threads for others.
    owner_id: Option<OwnerId>,
    /// Where it comes from, if an agent makes it.
    spawn: Option<NewSpawn>,
}

/// What a thread's state begins with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewValues {
    /// The title.
    pub(super) title: Option<String>,
}

/// What to do where a thread is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IfExists {
    /// Refuse.
    Raise,
    /// Answer with it as it is.
    #[default]
    DoNothing,
}

/// Where a sub-agent's thread comes from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSpawn {
    /// The thread whose agent spawns it.
    parent_thread_id: ThreadId,
    /// The run that spawns it.
    run_id: RunId,
    /// The tool call that spawns it.
    item_id: Option<ItemId>,
    /// What happens to it when its parent ends: `ephemeral`, `linked` or `detached`.
    #[schema(default = "linked")]
    lifecycle: Option<String>,
    /// The deepest a thread may be; a root thread is at 0.
    #[schema(default = 3)]
    max_depth: Option<u32>,
}

impl NewSpawn {
    fn into_spawn(self) -> Result<Spawn, Problem> {
        let lifecycle =
            self.lifecycle.map(|given| ThreadLifecycle::parse("lifecycle", &given)).transpose()?;
        Ok(Spawn {
            parent_thread_id: self.parent_thread_id,
            run_id: self.run_id,
            item_id: self.item_id,
            lifecycle: lifecycle.unwrap_or(ThreadLifecycle::Linked),
            max_depth: self.max_depth.unwrap_or(DEFAULT_MAX_DEPTH),
        })
    }
}

/// Whose a thread would be.
enum Whose {
    /// This owner's, or nobody's.
    Owner(Option<OwnerId>),
    /// Whoever has the parent: a child has no other owner.
    Parent(ThreadId),
}

impl Whose {
    fn of(scope: &Scope, new: &NewThread) -> Self {
        match &new.spawn {
            Some(spawn) => Self::Parent(spawn.parent_thread_id.clone()),
            None => Self::Owner(scope.owner().or(new.owner_id.as_ref()).cloned()),
        }
    }

    /// Whether a thread that is there already is theirs: the system sees everybody's.
    fn is_met_by(&self, thread: &Thread) -> bool {
        match self {
            Self::Owner(owner) => thread.owner_id == *owner,
            Self::Parent(parent) => thread.parent_thread_id.as_ref() == Some(parent),
        }
    }
}

/// Make a thread.
///
/// The same id again is answered with the thread as it is, unless `if_exists` is `raise` or it is not whose it
/// would have been.
#[utoipa::path(
    post, path = "/threads", tag = "threads", operation_id = "create_thread",
    request_body = CreateThread,
    responses((status = 200, description = "The thread", body = WireThread), Conflict),
)]
pub(super) async fn create_thread(
    State(app): State<App>,
    caller: Caller,
    Body(given): Body<CreateThread>,
) -> Result<Json<WireThread>, Problem> {
    let threads = app.ledger.threads();
    let thread_id = given.thread_id.clone().unwrap_or_else(ThreadId::generate);
    let (metadata, told) = match &given.metadata {
        Some(metadata) => thread_pin::taken_out(metadata)?,
        None => (RawJson::empty_object(), None),
    };
    let new = NewThread {
        owner_id: given.owner_id,
        assistant_id: given.assistant_id,
        display_name: given.display_name.or(given.values.and_then(|values| values.title)),
        system_prompt: given.system_prompt,
        model: given.model,
        config: given.config.unwrap_or_else(RawJson::empty_object),
        metadata,
        pinned: given.pinned.or(told).unwrap_or_default(),
        spawn: given.spawn.map(NewSpawn::into_spawn).transpose()?,
        ..NewThread::new(thread_id.clone())
    };
    let wanted = Whose::of(&caller.scope, &new);
    let thread = match threads.create(&caller.scope, new).await {
        Ok(thread) => thread,
        Err(error) if error.kind() == ErrorKind::AlreadyExists && given.if_exists == IfExists::DoNothing => {
            match threads.get(&caller.scope, &thread_id).await {
                Ok(thread) if wanted.is_met_by(&thread) => thread,
                // It is somebody else's, or was deleted: nothing of it is told.
                Ok(_) => return Err(error.into()),
                Err(other) if other.kind() == ErrorKind::NotFound => return Err(error.into()),
                Err(other) => return Err(other.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    shown_whole(&app, &caller.scope, thread).await
}
