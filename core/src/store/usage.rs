//! Usage.

use std::fmt;

use async_trait::async_trait;

use crate::record::{UsageBreakdown, UsageBy, UsageRecord, UsageSum};
use crate::{Error, ListRange, MAX_LIMIT, Result, RunId, Scope, SourceId, ThreadId, Timestamp};

/// Whose model calls a report sums. A foreign or missing thread is `NotFound`; a run that made none, or is
/// not there, has no sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UsageOf {
    /// All that the scope sees, those of deleted threads included: of an owner, the records stamped with it.
    /// A record that repeats what another thread took is left out, so that each call counts once.
    #[default]
    All,
    /// A thread's own, and what its records repeat of its sub-agents.
    Thread(ThreadId),
    /// A thread's and those of all threads below it that the scope sees, or saw until they were deleted.
    /// A record that repeats what a thread of the tree took is left out, so that each call counts once.
    Tree(ThreadId),
    /// A run's own.
    Run(ThreadId, RunId),
}

/// A usage report: which calls, and by what they are summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// Whose.
    pub of: UsageOf,
    /// By what they are summed.
    pub by: UsageBy,
    /// Only calls that ended at this time or later.
    pub from: Option<Timestamp>,
    /// Only calls that ended before this time.
    pub before: Option<Timestamp>,
    /// Only sums whose key comes after this one.
    pub after: Option<String>,
    /// Sums at most; 0 is refused, over 1,000 is capped.
    pub limit: u32,
}

impl UsageQuery {
    /// Everything of these calls, at most 1,000 sums.
    #[must_use]
    pub fn new(of: UsageOf, by: UsageBy) -> Self {
        Self { of, by, from: None, before: None, after: None, limit: MAX_LIMIT }
    }

    /// Checks it and gives the limit that holds, for those who implement a store. `InvalidInput` where an
    /// owner asks for sums by owner, or sums by round are asked for of more than one thread.
    pub fn check(&self, scope: &Scope) -> Result<u32> {
        if self.by == UsageBy::Owner && scope.owner().is_some() {
            return Err(Error::invalid("by", "is owner; only the system sums up by owner"));
        }
        if self.by == UsageBy::Round && matches!(self.of, UsageOf::All | UsageOf::Tree(_)) {
            return Err(Error::invalid("by", "is round; name one thread or one run"));
        }
        // No stored key has one, and PostgreSQL takes none in a parameter.
        if self.after.as_ref().is_some_and(|after| after.contains('\0')) {
            return Err(Error::invalid("after", "contains NUL; give the key of the last sum"));
        }
        ListRange::newest(self.limit).checked_limit()
    }
}

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

    /// Sums of model calls, ascending by the bytes of their keys. What nobody called has no sum.
    async fn report(&self, scope: &Scope, query: &UsageQuery) -> Result<Vec<UsageSum>>;
}
