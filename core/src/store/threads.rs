//! Threads.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Contents, Deleted};
use crate::record::{NewThread, Thread, ThreadHead, ThreadPatch, ThreadStatus};
use crate::{
    AssistantId, Cursor, Error, ErrorKind, ListRange, OwnerId, Page, RawJson, RawObject, Result, RunId,
    Scope, ThreadId, Timestamp, text,
};

/// Which threads to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFilter {
    /// Only those with this status.
    pub status: Option<ThreadStatus>,
    /// Only those made for this agent definition.
    pub assistant_id: Option<AssistantId>,
    /// Only those that are pinned, or only those that are not.
    pub pinned: Option<bool>,
    /// Only those whose metadata has all of these, at the top level.
    pub metadata: Vec<MetadataMatch>,
    /// Whether they come with `system_prompt`, `config` and `metadata`.
    pub contents: Contents,
}

/// The most matches of metadata in one filter.
const MAX_MATCHES: usize = 8;

/// The longest key that metadata is matched by, in bytes.
const MAX_KEY_BYTES: usize = 64;

/// The longest text that metadata is matched with, in characters.
const MAX_TEXT_CHARS: usize = 1_000;

impl ThreadFilter {
    /// The most threads that one page looks at, of those that are pinned and of the others each. One that does not
    /// fill up within them is short, and [`Page::next_cursor`] says where the next one goes on.
    pub const EXAMINED: u32 = 5_000;

    /// Refuses matches that nothing is looked for by.
    pub fn check(&self) -> Result<()> {
        if self.metadata.len() > MAX_MATCHES {
            let reason = format!("has {} matches; give at most {MAX_MATCHES}", self.metadata.len());
            return Err(Error::invalid("metadata", reason));
        }
        self.metadata.iter().try_for_each(MetadataMatch::check)
    }

    /// Whether it leaves threads out that stand between others in a list: then a page looks at a bounded
    /// number of them.
    #[must_use]
    pub fn passes_over(&self) -> bool {
        self.status.is_some() || self.assistant_id.is_some() || !self.metadata.is_empty()
    }

    /// Whether the thread passes.
    #[must_use]
    pub fn accepts(&self, thread: &Thread) -> bool {
        self.pinned.is_none_or(|pinned| thread.pinned == pinned)
            && self.status.as_ref().is_none_or(|status| thread.status == *status)
            && self.assistant_id.as_ref().is_none_or(|id| thread.assistant_id.as_ref() == Some(id))
            && (self.metadata.is_empty() || {
                let metadata = Metadata::of(&thread.metadata);
                self.metadata.iter().all(|wanted| metadata.has(wanted))
            })
    }

    /// The page of `threads`, for those who implement a store without an index: all that the scope sees, in
    /// any order.
    pub fn page(&self, mut threads: Vec<Thread>, range: &ListRange) -> Result<Page<Thread>> {
        self.check()?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::thread_position).transpose()?;
        let place = |thread: &Thread| (thread.pinned, thread.updated_at, thread.thread_id.clone());
        threads.retain(|thread| {
            let place = (thread.pinned, thread.updated_at, thread.thread_id.as_str());
            self.pinned.is_none_or(|pinned| thread.pinned == pinned) && end.is_none_or(|end| place < end)
        });
        threads.sort_by_cached_key(|thread| std::cmp::Reverse(place(thread)));
        let examined = Self::EXAMINED as usize;
        let pinned = threads.iter().take_while(|thread| thread.pinned).count();
        // What is not pinned is looked at where all that is pinned was.
        let reach = if pinned > examined { examined } else { pinned + examined };
        let mut edge = None;
        if self.passes_over() && threads.len() > reach {
            threads.truncate(reach);
            edge = threads.last().map(Cursor::at_thread);
        }
        threads.retain(|thread| self.accepts(thread));
        let threads = threads.into_iter().map(|thread| self.contents.of_thread(thread)).collect();
        Ok(Page::from_rows(threads, limit, Cursor::at_thread).going_on_after(edge))
    }
}

/// The top level of a thread's metadata, for matches.
struct Metadata(Option<RawObject>);

impl Metadata {
    fn of(metadata: &RawJson) -> Self {
        // Escaped, so that keys with half a character are text, too.
        Self(RawObject::parse(&RawJson::from_stored(&text::escape_jsonb(metadata.as_str()))))
    }

    fn has(&self, wanted: &MetadataMatch) -> bool {
        let stored = self.0.as_ref().and_then(|fields| fields.get(&wanted.key));
        stored.is_some_and(|stored| stored.is_same_value(&wanted.value.to_jsonb()))
    }
}

/// What a key at the top level of a thread's metadata must have. Types are told apart: `true` is not 1, and a key
/// that is not there is not `null`. Of a key that is repeated, the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataMatch {
    /// The key: 1 to 64 of `A-Z a-z 0-9 _ - .`
    pub key: String,
    /// The value.
    pub value: MetadataValue,
}

/// A value that metadata can be matched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; 1 and 1.0 are the same number, as they are in JSON.
    Number(i64),
    /// Text, compared exactly.
    Text(String),
}

impl MetadataMatch {
    fn check(&self) -> Result<()> {
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if self.key.is_empty() || self.key.len() > MAX_KEY_BYTES || !self.key.bytes().all(is_key) {
            let reason = format!(
                "is matched by a key that is none; a key has 1 to {MAX_KEY_BYTES} characters of A-Z a-z 0-9 _ - ."
            );
            return Err(Error::invalid("metadata", reason));
        }
        match &self.value {
            MetadataValue::Text(text) if text.chars().nth(MAX_TEXT_CHARS).is_some() => {
                let reason = format!(
                    "is matched under {} with a longer text than any; give at most {MAX_TEXT_CHARS} characters",
                    self.key
                );
                Err(Error::invalid("metadata", reason))
            }
            _ => Ok(()),
        }
    }
}

impl MetadataValue {
    /// The value as a jsonb column has it, for those who implement a store: JSON, with what such a column
    /// refuses [escaped](text::escape_jsonb).
    #[must_use]
    pub fn to_jsonb(&self) -> RawJson {
        match self {
            Self::Null => RawJson::null(),
            Self::Bool(value) => RawJson::from_stored(if *value { "true" } else { "false" }),
            Self::Number(value) => RawJson::from_stored(&value.to_string()),
            Self::Text(value) => RawJson::from_stored(&text::escape_jsonb(RawJson::string(value).as_str())),
        }
    }
}

/// Numbers of a log that were taken away, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deletion {
    /// The thread, which may be gone itself.
    pub thread_id: ThreadId,
    /// The first number; 0, which no event has, where the thread itself went.
    pub from_seq: u64,
    /// The last number. Of a thread that went, the last it ever gave.
    pub through_seq: u64,
    /// Why: `run deleted`, `log emptied`, `thread deleted`, or what a retention policy says.
    pub reason: String,
    /// Who: an owner, or the system where it is `None`.
    pub deleted_by: Option<OwnerId>,
    /// When.
    pub deleted_at: Timestamp,
}

/// Which deletions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionFilter {
    /// Only those of this thread, which may be gone.
    pub thread_id: Option<ThreadId>,
}

/// What becomes of what an owner had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Nobody owns it any more; the system still reads it. What was said stays as it is.
    Anonymise,
    /// It is deleted, with the usage and the names on what was deleted before.
    Delete,
}

/// What an erasure changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Erased {
    /// Threads.
    pub threads: u64,
    /// Agent runs.
    pub agent_runs: u64,
    /// Usage records, those of deleted threads included.
    pub usage: u64,
}

/// What only the system may do: `InvalidInput` for an owner.
pub fn require_system_scope(scope: &Scope, what: &str) -> Result<()> {
    match scope.owner() {
        None => Ok(()),
        Some(_) => Err(Error::invalid("scope", format!("is an owner's; only the system {what}"))),
    }
}

/// Which children of a thread to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildFilter {
    /// Only those that these runs spawned, at most 1,000 of them; none means all.
    pub spawn_run_ids: Vec<RunId>,
    /// Whether they come with `system_prompt`, `config` and `metadata`.
    pub contents: Contents,
}

/// Keeps threads.
#[async_trait]
pub trait ThreadStore: fmt::Debug + Send + Sync + 'static {
    /// Creates a thread and its empty log. A taken id, a deleted thread's included, is `AlreadyExists`.
    ///
    /// Where an agent spawns it ([`NewThread::spawn`]), the parent is judged under the lock of its head:
    /// `NotFound` for a thread, run or item that is not there, `Conflict` where the parent is archived,
    /// `InvalidInput` where the thread would be too deep. It has its parent's owner.
    async fn create(&self, scope: &Scope, new: NewThread) -> Result<Thread>;

    /// The thread.
    async fn get(&self, scope: &Scope, thread: &ThreadId) -> Result<Thread>;

    /// The thread's head: its numbers, owner and active run.
    async fn head(&self, scope: &Scope, thread: &ThreadId) -> Result<ThreadHead>;

    /// The heads of these threads, at most 1,000, in no particular order. Those that are deleted, missing or
    /// foreign are left out.
    async fn heads(&self, scope: &Scope, threads: &[ThreadId]) -> Result<Vec<ThreadHead>> {
        let mut heads = Vec::with_capacity(threads.len());
        for thread in threads {
            match self.head(scope, thread).await {
                Ok(head) => heads.push(head),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heads)
    }

    /// Threads the scope sees, pinned ones first, then last updated first.
    async fn list(&self, scope: &Scope, filter: &ThreadFilter, range: &ListRange) -> Result<Page<Thread>>;

    /// Edits a thread, an archived one too; `at` becomes its `updated_at` unless the patch
    /// [only pins](ThreadPatch::only_pins). Concurrent edits of different metadata keys both hold.
    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        patch: ThreadPatch,
        at: Timestamp,
    ) -> Result<Thread>;

    /// Gives the thread and all below it to another owner, or to nobody, with the usage of what was deleted
    /// there. For the system only: `InvalidInput` for an owner.
    ///
    /// A tree has one owner: the thread of a sub-agent is not given away from under its parent (`Conflict`).
    async fn set_owner(&self, scope: &Scope, thread: &ThreadId, owner: Option<OwnerId>) -> Result<Thread>;

    /// The threads that agents of this one spawned, newest first.
    async fn list_children(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ChildFilter,
        range: &ListRange,
    ) -> Result<Page<Thread>>;

    /// Says that the thread takes no more appends, runs, folds or children. It can be read, edited and
    /// deleted. `Conflict` while a run is active, and so while one is queued; an archived thread stays as it is.
    async fn archive(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread>;

    /// Takes that back; an open thread stays as it is.
    async fn unarchive(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread>;

    /// Deletes the thread and all below it, in one transaction. Its id and numbers are never used again.
    ///
    /// Its ephemeral and linked children go with it, and theirs; detached ones are given to its parent, or
    /// become roots, and keep what is below them. `Conflict` while a run is active on one that goes.
    ///
    /// Usage records stay, without what the provider said of them: what was spent was spent. They count in
    /// the trees above, and in what the owner used.
    async fn delete(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted>;

    /// Ephemeral threads whose last run succeeded, that were not touched for this long (`updated_at`) and are
    /// not archived: at most `limit`, the oldest first. For the system only: `InvalidInput` for an owner.
    async fn list_spent(&self, scope: &Scope, idle: Duration, limit: u32) -> Result<Vec<ThreadId>>;

    /// What was deleted, by whom and why, newest first. For the system only: `InvalidInput` for an owner.
    async fn list_deletions(
        &self,
        scope: &Scope,
        filter: &DeletionFilter,
        range: &ListRange,
    ) -> Result<Page<Deletion>>;

    /// The steps of [`Ledger::erase_owner`](super::Ledger::erase_owner) beside threads, which it sees to
    /// itself. For the system only: `InvalidInput` for an owner.
    ///
    /// [`Erasure::Anonymise`] takes the owner's name off usage records, agent runs and feedback, wherever they
    /// belong. [`Erasure::Delete`] removes those records and runs that have no thread, and all feedback. Both take
    /// it off the tombstones of threads and off the notes of who deleted what, and remove the owner's tokens.
    async fn erase_remains(&self, scope: &Scope, owner: &OwnerId, erasure: Erasure) -> Result<Erased>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn has(document: &str, key: &str, value: MetadataValue) -> bool {
        Metadata::of(&RawJson::from_stored(document)).has(&MetadataMatch { key: key.to_owned(), value })
    }

    #[test]
    fn values_are_told_apart_by_their_types_and_not_by_their_spelling() {
        let text = |text: &str| MetadataValue::Text(text.to_owned());
        let document = r#"{"n":1.0,"b":true,"z":null,"t":"1","d":1,"d":2}"#;
        for (key, value, expected) in [
            ("n", MetadataValue::Number(1), true),
            ("n", MetadataValue::Bool(true), false),
            ("n", text("1"), false),
            ("b", MetadataValue::Bool(true), true),
            ("b", MetadataValue::Number(1), false),
            ("z", MetadataValue::Null, true),
            ("missing", MetadataValue::Null, false),
            ("t", text("1"), true),
            ("t", MetadataValue::Number(1), false),
            ("d", MetadataValue::Number(2), true),
            ("d", MetadataValue::Number(1), false),
        ] {
            assert_eq!(has(document, key, value.clone()), expected, "{key} {value:?}");
        }
        assert!(has(r#"{"\u0061":"\u0000"}"#, "a", text("\0")));
        assert!(!has(r#"{"a":"\ud800"}"#, "a", text("\u{f5e7}d800")));
    }
}
