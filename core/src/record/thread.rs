//! Threads: one conversation each, the owner of one log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text;
use crate::view::tree::Place;
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
        /// Deleted once its run succeeded, and with its parent.
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// The thread whose agent spawned it, or the one it was given to when that was deleted.
    pub parent_thread_id: Option<ThreadId>,
    /// The run of the parent that spawned it; `None` once it was given to another parent.
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
    /// The system prompt its runs start with.
    pub system_prompt: Option<String>,
    /// The model its runs use unless told otherwise.
    pub model: Option<String>,
    /// Settings of the application, a JSON object; key order is not kept.
    pub config: RawJson,
    /// Notes of the application, a JSON object; key order is not kept.
    pub metadata: RawJson,
    /// Whether it stands before all others in lists.
    pub pinned: bool,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a run was last admitted or ended on it, or it was last edited; appends do not count.
    pub updated_at: Timestamp,
}

/// The numbers an append is checked against and advances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// The thread whose agent spawned it: a copy that outlives the thread, so that what it took counts in
    /// the tree above it.
    pub parent_thread_id: Option<ThreadId>,
    /// The number of the last compaction of its context window.
    pub last_compact_seq: Option<u64>,
}

impl ThreadHead {
    /// The number of the last event that the log has had; 0 where it has had none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.next_seq.saturating_sub(1)
    }

    /// The head of a new thread.
    #[must_use]
    pub fn new(thread: &Thread) -> Self {
        Self {
            thread_id: thread.thread_id.clone(),
            owner_id: thread.owner_id.clone(),
            state: HeadState::Open,
            next_seq: 1,
            message_count: 0,
            active_run_id: None,
            epoch: 0,
            journal_ordinal: 0,
            parent_thread_id: thread.parent_thread_id.clone(),
            last_compact_seq: None,
        }
    }

    /// `LeaseLost` for whoever does not hold the thread's slot with this run under this epoch.
    pub fn require_held(&self, run: &RunId, epoch: u64) -> Result<()> {
        if self.active_run_id.as_ref() == Some(run) && self.epoch == epoch {
            return Ok(());
        }
        Err(Error::LeaseLost { run_id: run.to_string(), epoch })
    }

    /// `Conflict` unless the thread is open.
    pub fn require_open(&self) -> Result<()> {
        match self.state {
            HeadState::Open => Ok(()),
            _ => Err(Error::conflict("thread state", HeadState::Open, &self.state)),
        }
    }
}

/// How deep sub-agents may spawn sub-agents unless told otherwise.
pub const DEFAULT_MAX_DEPTH: u32 = 3;

/// Where a sub-agent's thread comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The thread whose agent spawns it; must be the scope's, and open.
    pub parent_thread_id: ThreadId,
    /// The run that spawns it; must exist on that thread.
    pub run_id: RunId,
    /// The tool call that spawns it; must be an item of that run.
    pub item_id: Option<ItemId>,
    /// What happens to it when its parent ends.
    pub lifecycle: ThreadLifecycle,
    /// The deepest a thread may be; a root thread is at 0.
    pub max_depth: u32,
}

impl Spawn {
    /// By a run, linked to its thread, at most 3 deep.
    #[must_use]
    pub fn new(parent_thread_id: ThreadId, run_id: RunId) -> Self {
        let lifecycle = ThreadLifecycle::Linked;
        Self { parent_thread_id, run_id, item_id: None, lifecycle, max_depth: DEFAULT_MAX_DEPTH }
    }

    /// With the tool call that spawns it.
    #[must_use]
    pub fn by_item(self, item_id: ItemId) -> Self {
        Self { item_id: Some(item_id), ..self }
    }

    /// With another lifecycle.
    #[must_use]
    pub fn with_lifecycle(self, lifecycle: ThreadLifecycle) -> Self {
        Self { lifecycle, ..self }
    }

    /// With another limit of the depth.
    #[must_use]
    pub fn with_max_depth(self, max_depth: u32) -> Self {
        Self { max_depth, ..self }
    }

    /// Makes a new thread a child of `parent`, for those who implement a store: they know that the run and
    /// the item are there. `InvalidInput` where it would be too deep, or somebody else's.
    pub fn place(self, new: Thread, parent: &Thread) -> Result<Thread> {
        if new.owner_id.is_some() && new.owner_id != parent.owner_id {
            return Err(Error::invalid(
                "owner_id",
                "is not the parent's owner; leave it out, a sub-agent's thread has its parent's",
            ));
        }
        let depth = parent.spawn_depth.saturating_add(1);
        if depth > self.max_depth {
            let reason = format!(
                "is {}, and the thread would be at depth {depth}; let the agent do it itself, or raise the limit",
                self.max_depth
            );
            return Err(Error::invalid("max_depth", reason));
        }
        Ok(Thread {
            owner_id: parent.owner_id.clone(),
            kind: ThreadKind::Subagent,
            parent_thread_id: Some(self.parent_thread_id),
            spawn_run_id: Some(self.run_id),
            spawn_item_id: self.item_id,
            spawn_depth: depth,
            lifecycle: self.lifecycle,
            ..new
        })
    }
}

/// Where the log of a fork comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkOrigin {
    /// The thread it was copied from; must be the scope's.
    pub source_thread_id: ThreadId,
    /// The last seq of that thread that it was copied through.
    pub through_seq: u64,
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
    /// Whether it stands before all others in lists.
    pub pinned: bool,
    /// Where it comes from, if an agent makes it. It has its parent's owner. Only
    /// [`ThreadStore::create`](crate::ThreadStore::create) takes it.
    pub spawn: Option<Spawn>,
    /// Whose log its own begins with, if it is a fork. Only [`ThreadStore::create`](crate::ThreadStore::create)
    /// takes it.
    pub fork: Option<ForkOrigin>,
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
            pinned: false,
            spawn: None,
            fork: None,
            created_at: Timestamp::now(),
        }
    }

    /// Checks the fields and makes the record of a root thread, stamped with the scope's owner. A child is
    /// made of it by [`Spawn::place`].
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
        let (forked_from_thread_id, forked_at_seq) =
            self.fork.map(|origin| (origin.source_thread_id, origin.through_seq)).unzip();
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
            forked_from_thread_id,
            forked_at_seq,
            system_prompt: self.system_prompt.map(|given| text::clean(&given).into_owned()),
            model: self.model.map(|given| text::clean(&given).into_owned()),
            config: self.config,
            metadata: self.metadata,
            pinned: self.pinned,
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

/// An edit of a thread. [`ThreadPatch::default`] changes nothing but `updated_at`; one of nothing but `pinned`
/// leaves that, too.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ThreadPatch {
    /// The title.
    pub display_name: Patch<String>,
    /// The agent definition.
    pub assistant_id: Patch<AssistantId>,
    /// Whether it stands before all others in lists. A patch of nothing else leaves `updated_at` as it is.
    pub pinned: Option<bool>,
    /// The model.
    pub model: Patch<String>,
    /// Keys to set in the metadata, a JSON object: each top-level key replaces the stored one,
    /// `null` removes it, keys not named stay.
    pub metadata: Option<RawJson>,
}

impl ThreadPatch {
    /// Whether it does nothing but pin the thread, or take that back: its place in lists is no news of it.
    #[must_use]
    pub fn only_pins(&self) -> bool {
        self.pinned.is_some() && *self == Self { pinned: self.pinned, ..Self::default() }
    }
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
    /// Its place in its tree.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            thread_id: self.thread_id.clone(),
            parent_thread_id: self.parent_thread_id.clone(),
            lifecycle: self.lifecycle.clone(),
            spawn_depth: self.spawn_depth,
        }
    }

    /// Makes the edit; on an error nothing is changed.
    pub fn apply(&mut self, patch: ThreadPatch, at: Timestamp) -> Result<()> {
        let metadata = match &patch.metadata {
            Some(changes) => merge_objects(&self.metadata, changes)?,
            None => self.metadata.clone(),
        };
        let updated_at = if patch.only_pins() { self.updated_at } else { at };
        let clean = |patch: Patch<String>| match patch {
            Patch::Set(given) => Patch::Set(text::clean(&given).into_owned()),
            other => other,
        };
        clean(patch.display_name).apply(&mut self.display_name);
        clean(patch.model).apply(&mut self.model);
        self.pinned = patch.pinned.unwrap_or(self.pinned);
        patch.assistant_id.apply(&mut self.assistant_id);
        self.metadata = metadata;
        self.updated_at = updated_at;
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
