//! Threads.

use runledger_core::{
    AssistantId, Interaction, ItemId, OwnerId, RawJson, RunId, Thread, ThreadId, ThreadKind, ThreadLifecycle,
    ThreadStatus, Timestamp,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::redact::redacted;
use super::thread_pin;

/// A thread as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireThread {
    /// Its id.
    pub thread_id: ThreadId,
    /// The agent definition it was made for.
    pub assistant_id: Option<AssistantId>,
    /// What it is doing.
    pub status: ThreadStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a run was last admitted or ended on it, or it was last edited.
    pub updated_at: Timestamp,
    /// Notes of the application; `deerflow_pinned` is among them where it is pinned.
    pub metadata: RawJson,
    /// Of the runtime's state the title, which is all of it that is known here.
    pub values: WireThreadValues,
    /// What was asked of a person and not answered, the newest first; empty in lists.
    pub interrupts: Vec<Interaction>,
    /// Who may see it; null is for the system only.
    pub owner_id: Option<OwnerId>,
    /// A title for people.
    pub display_name: Option<String>,
    /// Whether it stands before all others in lists.
    pub pinned: bool,
    /// The system prompt its runs start with.
    pub system_prompt: Option<String>,
    /// The model its runs use unless told otherwise.
    pub model: Option<String>,
    /// Settings of the application.
    pub config: RawJson,
    /// Who started it.
    pub kind: ThreadKind,
    /// The thread whose agent spawned it, or the one it was given to when that was deleted.
    pub parent_thread_id: Option<ThreadId>,
    /// The run of the parent that spawned it.
    pub spawn_run_id: Option<RunId>,
    /// The tool call of that run that spawned it.
    pub spawn_item_id: Option<ItemId>,
    /// 0 for a root thread, its parent's plus 1 otherwise.
    pub spawn_depth: u32,
    /// What happens to it when its parent ends.
    pub lifecycle: ThreadLifecycle,
    /// The thread it was forked from.
    pub forked_from_thread_id: Option<ThreadId>,
    /// The last seq of that thread it shares.
    pub forked_at_seq: Option<u64>,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// What is known of a runtime's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireThreadValues {
    /// The title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl WireThread {
    /// A thread, without the values of these keys in its documents.
    #[must_use]
    pub fn new(thread: Thread, interrupts: Vec<Interaction>, redacted_keys: &[String]) -> Self {
        let metadata = redacted(&thread.metadata, redacted_keys);
        let metadata = if thread.pinned { thread_pin::shown(&metadata) } else { metadata };
        Self {
            thread_id: thread.thread_id,
            assistant_id: thread.assistant_id,
            status: thread.status,
            created_at: thread.created_at,
            updated_at: thread.updated_at,
            metadata,
            values: WireThreadValues { title: thread.display_name.clone() },
            interrupts,
            owner_id: thread.owner_id,
            display_name: thread.display_name,
            pinned: thread.pinned,
            system_prompt: thread.system_prompt,
            model: thread.model,
            config: redacted(&thread.config, redacted_keys),
            kind: thread.kind,
            parent_thread_id: thread.parent_thread_id,
            spawn_run_id: thread.spawn_run_id,
            spawn_item_id: thread.spawn_item_id,
            spawn_depth: thread.spawn_depth,
            lifecycle: thread.lifecycle,
            forked_from_thread_id: thread.forked_from_thread_id,
            forked_at_seq: thread.forked_at_seq,
            archived_at: thread.archived_at,
        }
    }
}
