//! Threads: one conversation each, the owner of one log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text;
use crate::wire::text_enum;
use crate::{AssistantId, Error, ItemId, OwnerId, RawJson, Result, RunId, ThreadId, Timestamp};

text_enum! {
    /// What a thread is doing, as the LangGraph platform names it.
    pub enum ThreadStatus {
        /// No run is active; the last one, if any, ended well.
        Idle = "idle",
        /// A run is active.
        Busy = "busy",
        /// The last run was interrupted.
        Interrupted = "interrupted",
        /// The last run failed.
        Error = "error",
    }
}

text_enum! {
    /// Who started a thread.
    pub enum ThreadKind {
        /// A person or a program.
        Root = "root",
        /// An agent, through a tool call.
        Subagent = "subagent",
    }
}

text_enum! {
    /// What happens to a sub-agent's thread when its parent ends.
    pub enum ThreadLifecycle {
        /// Deleted when the run that spawned it succeeds.
        Ephemeral = "ephemeral",
        /// Deleted with its parent.
        Linked = "linked",
        /// Outlives its parent.
        Detached = "detached",
    }
}

text_enum! {
    /// Whether a thread takes appends.
    pub enum HeadState {
        /// It does.
        Open = "open",
        /// It can be read, and takes none until it is unarchived.
        Archived = "archived",
        /// It is gone; only its numbers are kept, so that they are never used again.
        Deleted = "deleted",
    }
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub thread_id: ThreadId,
    /// Who may see it; `None` is for the system only.
    pub owner_id: Option<OwnerId>,
    /// The agent definition it was made for.
    pub assistant_id: Option<AssistantId>,
    /// A title for people.
    pub display_name: Option<String>,
    /// What it is doing.
    pub status: ThreadStatus,
    /// Who started it.
    pub kind: ThreadKind,
    /// The thread whose agent spawned it.
    pub parent_thread_id: Option<ThreadId>,
    /// The run that spawned it.
    pub spawn_run_id: Option<RunId>,
    /// The tool call that spawned it.
    pub spawn_item_id: Option<ItemId>,
    /// 0 for a root thread, its parent's plus 1 otherwise.
    pub spawn_depth: u32,
    /// What happens to it when its parent ends.
    pub lifecycle: ThreadLifecycle,
    /// The thread it was forked from.
    pub forked_from_thread_id: Option<ThreadId>,
    /// The last seq of that thread it shares.
    pub forked_at_seq: Option<u64>,
    /// The system prompt its runs start with.
    pub system_prompt: Option<String>,
    /// The model its runs use unless told otherwise.
    pub model: Option<String>,
    /// Settings of the application, a JSON object; key order is not kept.
    pub config: RawJson,
    /// Notes of the application, a JSON object; key order is not kept.
    pub metadata: RawJson,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a run was last admitted or ended on it, or it was last edited; appends do not count.
    pub updated_at: Timestamp,
}

/// The numbers an append is checked against and advances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadHead {
    /// The thread.
    pub thread_id: ThreadId,
    /// A copy of the thread's owner, so that one row answers every check.
    pub owner_id: Option<OwnerId>,
    /// Whether it takes appends.
    pub state: HeadState,
    /// The seq the next event gets; the first is 1.
    pub next_seq: u64,
    /// How many events of category `message` the log holds.
    pub message_count: u64,
    /// The run that holds the thread's one active slot.
    pub active_run_id: Option<RunId>,
    /// Grows at each admission and end of a run; the fencing token.
    pub epoch: u64,
    /// How many journal events were stored under this epoch.
    pub journal_ordinal: u64,
}

/// What a new thread is made of; everything but the id has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewThread {
    /// Its id.
    pub thread_id: ThreadId,
    /// Who may see it. `None` stamps the scope's owner; only the system may name another.
    pub owner_id: Option<OwnerId>,
    /// The agent definition it is for.
    pub assistant_id: Option<AssistantId>,
    /// A title for people.
    pub display_name: Option<String>,
    /// The system prompt its runs start with.
    pub system_prompt: Option<String>,
    /// The model its runs use unless told otherwise.
    pub model: Option<String>,
    /// Settings of the application; must be a JSON object.
    pub config: RawJson,
    /// Notes of the application; must be a JSON object.
    pub metadata: RawJson,
    /// When it was created.
    pub created_at: Timestamp,
}

impl NewThread {
    /// A thread with this id, created now, everything else at its default.
    #[must_use]
    pub fn new(thread_id: ThreadId) -> Self {
        Self {
            thread_id,
            owner_id: None,
            assistant_id: None,
            display_name: None,
            system_prompt: None,
            model: None,
            config: RawJson::empty_object(),
            metadata: RawJson::empty_object(),
            created_at: Timestamp::now(),
        }
    }

    /// Checks the fields and makes the record a store keeps, stamped with the scope's owner.
    pub fn into_thread(self, scope: &crate::Scope) -> Result<Thread> {
        let owner_id = match (scope, self.owner_id) {
            (crate::Scope::System, owner) => owner,
            (crate::Scope::Owner(own), None) => Some(own.clone()),
            (crate::Scope::Owner(own), Some(owner)) if *own == owner => Some(owner),
            (crate::Scope::Owner(_), Some(_)) => {
                return Err(Error::invalid(
                    "owner_id",
                    "is not the scope's owner; only the system creates a thread for somebody else",
                ));
            }
        };
        text::require_jsonb("config", &self.config)?;
        text::require_jsonb("metadata", &self.metadata)?;
        Ok(Thread {
            thread_id: self.thread_id,
            owner_id,
            assistant_id: self.assistant_id,
            display_name: self.display_name.map(|given| text::clean(&given).into_owned()),
            status: ThreadStatus::Idle,
            kind: ThreadKind::Root,
            parent_thread_id: None,
            spawn_run_id: None,
            spawn_item_id: None,
            spawn_depth: 0,
            lifecycle: ThreadLifecycle::Detached,
            forked_from_thread_id: None,
            forked_at_seq: None,
            system_prompt: self.system_prompt.map(|given| text::clean(&given).into_owned()),
            model: self.model.map(|given| text::clean(&given).into_owned()),
            config: self.config,
            metadata: self.metadata,
            archived_at: None,
            created_at: self.created_at,
            updated_at: self.created_at,
        })
    }
}

/// Refuses a document that is not an object.
pub(crate) fn require_object(field: &'static str, document: &RawJson) -> Result<()> {
    if document.is_object() { Ok(()) } else { Err(Error::invalid(field, "must be a JSON object")) }
}

/// A change to one optional field.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Empty it.
    Clear,
    /// Give it this value.
    Set(T),
}

/// An edit of a thread. [`ThreadPatch::default`] changes nothing but `updated_at`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ThreadPatch {
    /// The title.
    pub display_name: Patch<String>,
    /// The agent definition.
    pub assistant_id: Patch<AssistantId>,
    /// The model.
    pub model: Patch<String>,
    /// Keys to set in the metadata, a JSON object: each top-level key replaces the stored one,
    /// `null` removes it, keys not named stay.
    pub metadata: Option<RawJson>,
}

impl<T> Patch<T> {
    /// Makes the change.
    pub fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }
}

impl Thread {
    /// Makes the edit; on an error nothing is changed.
    pub fn apply(&mut self, patch: ThreadPatch, at: Timestamp) -> Result<()> {
        let metadata = match &patch.metadata {
            Some(changes) => merge_objects(&self.metadata, changes)?,
            None => self.metadata.clone(),
        };
        let clean = |patch: Patch<String>| match patch {
            Patch::Set(given) => Patch::Set(text::clean(&given).into_owned()),
            other => other,
        };
        clean(patch.display_name).apply(&mut self.display_name);
        clean(patch.model).apply(&mut self.model);
        patch.assistant_id.apply(&mut self.assistant_id);
        self.metadata = metadata;
        self.updated_at = at;
        Ok(())
    }
}

/// The stored object with the top-level keys of `changes` set, and those that are `null` removed.
/// Values stay raw, so numbers and nested strings are not touched.
fn merge_objects(stored: &RawJson, changes: &RawJson) -> Result<RawJson> {
    text::require_jsonb("metadata", changes)?;
    // Escaped, so that keys with half a character are text, too.
    let escaped = |document: &RawJson| RawJson::from_stored(&text::escape_jsonb(document.as_str()));
    let mut fields: BTreeMap<String, RawJson> = escaped(stored).decode()?;
    let changes: BTreeMap<String, RawJson> = escaped(changes)
        .decode()
        .map_err(|error| Error::invalid("metadata", format!("cannot be merged: {error}")))?;
    for (key, value) in changes {
        if value == RawJson::null() {
            fields.remove(&key);
        } else {
            fields.insert(key, value);
        }
    }
    let merged = RawJson::encode("metadata", &fields)?;
    Ok(RawJson::from_stored(&text::unescape_jsonb(merged.as_str())))
}
