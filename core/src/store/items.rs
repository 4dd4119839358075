//! The item index.

use std::fmt;

use async_trait::async_trait;

use crate::record::{ItemEntry, ItemStatus};
use crate::{ItemId, Result, RunId, Scope, SeqPage, SeqRange, ThreadId};

/// Which items to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemFilter {
    /// Only those of this run.
    pub run_id: Option<RunId>,
    /// Only those with this status; `in_progress` is what is still pending.
    pub status: Option<ItemStatus>,
}

/// A claim to execute a tool call that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedItem {
    /// The item, claimed under the epoch of whoever asked.
    pub item: ItemEntry,
    /// The epoch that claimed it before: whoever it was may have executed it, wholly or in part, and was gone
    /// before the result was stored.
    pub claimed_before: Option<u64>,
}

/// Reads the item index, and says who executes what it has open.
#[async_trait]
pub trait ItemStore: fmt::Debug + Send + Sync + 'static {
    /// One item.
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId, item: &ItemId) -> Result<ItemEntry>;

    /// Items in the order they began; the range is over their `started_seq`.
    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ItemFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<ItemEntry>>;

    /// Claims an open item of a run for execution under the run's epoch: of several callers one gets it.
    ///
    /// `LeaseLost` where the run does not hold the thread's slot under that epoch; `Conflict` where the item
    /// has ended, or was claimed under the same epoch before.
    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem>;
}
