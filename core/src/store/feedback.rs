//! Feedback.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use crate::record::{Feedback, FeedbackPatch, FeedbackStats, NewFeedback};
use crate::{FeedbackId, ItemId, ListRange, Page, Result, RunId, Scope, ThreadId, Timestamp};

/// Which feedback of a thread to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedbackFilter {
    /// Only on these runs and their messages, at most 1,000 of them; none means all.
    pub run_ids: Vec<RunId>,
    /// Only on messages with this id; one of another run may have it, too.
    pub item_id: Option<ItemId>,
}

/// Keeps what people think of runs and messages. Whoever sees a thread sees all its feedback, and may change it.
///
/// It goes with its run, and with its thread. An owner who is deleted takes it along, one who is anonymised
/// loses it: it stays, and is nobody's. A fork leaves it to the source.
#[async_trait]
pub trait FeedbackStore: fmt::Debug + Send + Sync + 'static {
    /// Gives feedback. `AlreadyExists` where the id is taken, and where the scope's owner gave feedback on the same
    /// run and item before; `NotFound` where the run or the item is not the thread's.
    async fn create(&self, scope: &Scope, new: NewFeedback) -> Result<Feedback>;

    /// Gives feedback in the place of what the scope's owner gave on the same run and item before, whose id and
    /// time of creation stay. Otherwise as [`FeedbackStore::create`].
    async fn put(&self, scope: &Scope, new: NewFeedback) -> Result<Feedback>;

    /// One piece of feedback.
    async fn get(&self, scope: &Scope, thread: &ThreadId, feedback: &FeedbackId) -> Result<Feedback>;

    /// Feedback of a thread, newest first.
    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &FeedbackFilter,
        range: &ListRange,
    ) -> Result<Page<Feedback>>;

    /// Changes feedback.
    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        feedback: &FeedbackId,
        patch: FeedbackPatch,
        at: Timestamp,
    ) -> Result<Feedback>;

    /// Takes feedback back.
    async fn delete(&self, scope: &Scope, thread: &ThreadId, feedback: &FeedbackId) -> Result<()>;

    /// How runs of a thread were rated, at most 1,000 of them; those without feedback are left out.
    async fn stats(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, FeedbackStats>>;
}
