//! Usage.

use std::fmt;

use async_trait::async_trait;

use crate::record::{UsageBreakdown, UsageRecord};
use crate::{Result, RunId, Scope, SourceId, ThreadId};

/// Reads usage. It is written with commits.
#[async_trait]
pub trait UsageStore: fmt::Debug + Send + Sync + 'static {
    /// The usage records of a run, ascending by source id, from the one after `after`.
    /// A limit of 0 is `InvalidInput`, over 1,000 is capped.
    async fn list_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        after: Option<&SourceId>,
        limit: u32,
    ) -> Result<Vec<UsageRecord>>;

    /// Sums over one run.
    async fn by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<UsageBreakdown>;

    /// Sums over a thread. Runs that ended count however they ended, hidden ones too; those that have
    /// not count where `include_active`.
    async fn by_thread(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        include_active: bool,
    ) -> Result<UsageBreakdown>;
}
