//! Runs, as readers see them. They are written by [`Ledger::admit`](super::Ledger::admit), by
//! commits, and by [`Ledger::finish`](super::Ledger::finish).

use std::fmt;

use async_trait::async_trait;

use crate::record::{OperationKind, Run, RunStatus};
use crate::{ListRange, Page, Result, RunId, Scope, ThreadId};

/// Which runs to list. With a thread, that thread's; without one, all that the scope sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those of this thread; a foreign or missing one is `NotFound`.
    pub thread_id: Option<ThreadId>,
    /// Only those with this status.
    pub status: Option<RunStatus>,
    /// Only those of this kind.
    pub operation_kind: Option<OperationKind>,
}

/// Reads runs.
#[async_trait]
pub trait RunStore: fmt::Debug + Send + Sync + 'static {
    /// The run.
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Run>;

    /// The run with this id on any thread the scope sees; of several, the newest.
    async fn find(&self, scope: &Scope, run: &RunId) -> Result<Run>;

    /// The run that was admitted with this key on the thread, if any.
    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> Result<Option<Run>>;

    /// Runs, newest first.
    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> Result<Page<Run>>;
}
