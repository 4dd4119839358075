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

/// Reads the item index.
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
}
