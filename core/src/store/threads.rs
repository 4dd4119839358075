//! Threads.

use std::fmt;

use async_trait::async_trait;

use super::Deleted;
use crate::record::{NewThread, Thread, ThreadHead, ThreadPatch, ThreadStatus};
use crate::{ListRange, OwnerId, Page, Result, Scope, ThreadId, Timestamp};

/// Which threads to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFilter {
    /// Only those with this status.
    pub status: Option<ThreadStatus>,
}

/// Keeps threads.
#[async_trait]
pub trait ThreadStore: fmt::Debug + Send + Sync + 'static {
    /// Creates a thread and its empty log. A taken id, a deleted thread's included, is `AlreadyExists`.
    async fn create(&self, scope: &Scope, new: NewThread) -> Result<Thread>;

    /// The thread.
    async fn get(&self, scope: &Scope, thread: &ThreadId) -> Result<Thread>;

    /// The thread's head: its numbers, owner and active run.
    async fn head(&self, scope: &Scope, thread: &ThreadId) -> Result<ThreadHead>;

    /// Threads the scope sees, last updated first.
    async fn list(&self, scope: &Scope, filter: &ThreadFilter, range: &ListRange) -> Result<Page<Thread>>;

    /// Edits a thread; `at` becomes its `updated_at`. Concurrent edits of different metadata keys both hold.
    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        patch: ThreadPatch,
        at: Timestamp,
    ) -> Result<Thread>;

    /// Gives the thread to another owner, or to nobody. For the system only: `InvalidInput` for an owner.
    async fn set_owner(&self, scope: &Scope, thread: &ThreadId, owner: Option<OwnerId>) -> Result<Thread>;

    /// Deletes the thread and all below it. Its id and numbers are never used again.
    /// `Conflict` while a run is active.
    async fn delete(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted>;
}
