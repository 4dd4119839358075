//! Threads.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Deleted;
use crate::record::{NewThread, Thread, ThreadHead, ThreadPatch, ThreadStatus};
use crate::{ListRange, OwnerId, Page, Result, Scope, ThreadId, Timestamp};

/// Which threads to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFilter {
    /// Only those with this status.
    pub status: Option<ThreadStatus>,
}

/// Numbers of a log that were taken away, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        Some(_) => Err(crate::Error::invalid("scope", format!("is an owner's; only the system {what}"))),
    }
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

    /// Threads the scope sees, last updated first.
    async fn list(&self, scope: &Scope, filter: &ThreadFilter, range: &ListRange) -> Result<Page<Thread>>;

    /// Edits a thread, an archived one too; `at` becomes its `updated_at`. Concurrent edits of different
    /// metadata keys both hold.
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
    /// [`Erasure::Anonymise`] takes the owner's name off usage records and agent runs, wherever they belong.
    /// [`Erasure::Delete`] removes those that have no thread. Both take it off the tombstones of threads, and
    /// off the notes of who deleted what.
    async fn erase_remains(&self, scope: &Scope, owner: &OwnerId, erasure: Erasure) -> Result<Erased>;
}
