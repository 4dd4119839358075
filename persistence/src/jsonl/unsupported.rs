//! The stores that a folder of files lacks.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use runledger_core::verify::{Rebuilt, Verified};
use runledger_core::view::context::ContextWindow;
use runledger_core::view::search::SearchQuery;
use runledger_core::{
    AgentRun, AgentRunFilter, AgentRunId, AgentRunStanding, AgentRunStore, AgentRunSummary, ApiToken,
    ApiTokenFilter, ApiTokenId, ApiTokenStore, Blob, BlobEntry, BlobHash, BlobStore, CancelAction,
    Capability, Claimable, ClaimedItem, Compaction, ContextStore, Error, Feedback, FeedbackFilter,
    FeedbackId, FeedbackPatch, FeedbackStats, FeedbackStore, FoldedSteps, ImportCursor, ImportSource,
    ImportStore, IndexBudget, Indexed, Interaction, InteractionFilter, InteractionId, InteractionStore,
    ItemEntry, ItemId, ItemPage, ItemQuery, ItemStore, Lease, ListRange, NewFeedback, Page, QuarantineId,
    Quarantined, RecordedAgentRun, Reservation, Reserve, Result, Run, RunFilter, RunId, RunStore, Scope,
    SearchFilter, SearchPage, SearchStore, SeqPage, SeqRange, SourceId, StoredAgentRun, Sweep, ThreadId,
    Timestamp, TurnPage, TurnQuery, Unfolded, UsageBreakdown, UsageQuery, UsageRecord, UsageStore, UsageSum,
    Visibility, WorkerId,
};

/// Answers everything with [`Error::Unsupported`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacking;

fn no_runs() -> Error {
    Capability::Runs.unsupported()
}

#[async_trait]
impl RunStore for Lacking {
    async fn get(&self, _: &Scope, _: &ThreadId, _: &RunId) -> Result<Run> {
        Err(no_runs())
    }

    async fn find(&self, _: &Scope, _: &RunId) -> Result<Run> {
        Err(no_runs())
    }

    async fn find_by_idempotency_key(&self, _: &Scope, _: &ThreadId, _: &str) -> Result<Option<Run>> {
        Err(no_runs())
    }

    async fn list(&self, _: &Scope, _: &RunFilter, _: &ListRange) -> Result<Page<Run>> {
        Err(no_runs())
    }

    async fn set_visibility(&self, _: &Scope, _: &ThreadId, _: &RunId, _: Visibility) -> Result<Run> {
        Err(no_runs())
    }

    async fn rewind(&self, _: &Scope, _: &ThreadId, _: &RunId) -> Result<Vec<RunId>> {
        Err(no_runs())
    }

    async fn lease(&self, _: &Scope, _: &ThreadId, _: &RunId) -> Result<Option<Lease>> {
        Err(no_runs())
    }

    async fn request_cancel(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: &RunId,
        _: CancelAction,
        _: Timestamp,
    ) -> Result<Option<Lease>> {
        Err(no_runs())
    }

    async fn renew_leases(&self, _: &Scope, _: &WorkerId, _: Duration) -> Result<Vec<Lease>> {
        Err(no_runs())
    }

    async fn list_claimable(&self, _: &Scope, _: &Sweep, _: u32) -> Result<Vec<Claimable>> {
        Err(no_runs())
    }

    async fn reserve(&self, _: &Scope, _: &ThreadId, _: &RunId, _: u64, _: Reserve) -> Result<Reservation> {
        Err(no_runs())
    }

    async fn release(&self, _: &Scope, _: &ThreadId, _: &RunId, _: u64, _: Reserve) -> Result<()> {
        Err(no_runs())
    }
}

#[async_trait]
impl ItemStore for Lacking {
    async fn get(&self, _: &Scope, _: &ThreadId, _: &RunId, _: &ItemId) -> Result<ItemEntry> {
        Err(Capability::Items.unsupported())
    }

    async fn read(&self, _: &Scope, _: &ThreadId, _: &RunId, _: &[ItemId]) -> Result<ItemPage> {
        Err(Capability::Items.unsupported())
    }

    async fn page(&self, _: &Scope, _: &ThreadId, _: &ItemQuery) -> Result<ItemPage> {
        Err(Capability::Items.unsupported())
    }

    async fn turns(&self, _: &Scope, _: &ThreadId, _: &TurnQuery) -> Result<TurnPage> {
        Err(Capability::Items.unsupported())
    }

    async fn rebuild(&self, _: &Scope, _: &ThreadId) -> Result<Rebuilt> {
        Err(Capability::Items.unsupported())
    }

    async fn verify(&self, _: &Scope, _: &ThreadId) -> Result<Verified> {
        Err(Capability::Items.unsupported())
    }

    async fn claim(&self, _: &Scope, _: &ThreadId, _: &RunId, _: &ItemId, _: u64) -> Result<ClaimedItem> {
        Err(Capability::Items.unsupported())
    }
}

#[async_trait]
impl UsageStore for Lacking {
    async fn list_by_run(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: &RunId,
        _: Option<&SourceId>,
        _: u32,
    ) -> Result<Vec<UsageRecord>> {
        Err(Capability::Usage.unsupported())
    }

    async fn by_run(&self, _: &Scope, _: &ThreadId, _: &RunId) -> Result<UsageBreakdown> {
        Err(Capability::Usage.unsupported())
    }

    async fn by_thread(&self, _: &Scope, _: &ThreadId, _: bool) -> Result<UsageBreakdown> {
        Err(Capability::Usage.unsupported())
    }

    async fn report(&self, _: &Scope, _: &UsageQuery) -> Result<Vec<UsageSum>> {
        Err(Capability::Usage.unsupported())
    }
}

fn no_sessions() -> Error {
    Capability::Sessions.unsupported()
}

#[async_trait]
impl ContextStore for Lacking {
    async fn load(&self, _: &Scope, _: &ThreadId) -> Result<ContextWindow> {
        Err(no_sessions())
    }

    async fn list_compactions(&self, _: &Scope, _: &ThreadId, _: &SeqRange) -> Result<SeqPage<Compaction>> {
        Err(no_sessions())
    }
}

#[async_trait]
impl InteractionStore for Lacking {
    async fn get(&self, _: &Scope, _: &ThreadId, _: &InteractionId) -> Result<Interaction> {
        Err(no_sessions())
    }

    async fn list(&self, _: &Scope, _: &InteractionFilter, _: &ListRange) -> Result<Page<Interaction>> {
        Err(no_sessions())
    }
}

#[async_trait]
impl BlobStore for Lacking {
    async fn get(&self, _: &Scope, _: &ThreadId, _: &BlobHash) -> Result<Blob> {
        Err(Capability::Blobs.unsupported())
    }

    async fn entry(&self, _: &Scope, _: &ThreadId, _: &BlobHash) -> Result<BlobEntry> {
        Err(Capability::Blobs.unsupported())
    }

    async fn list(&self, _: &Scope, _: &ThreadId, _: Option<&BlobHash>, _: u32) -> Result<Vec<BlobEntry>> {
        Err(Capability::Blobs.unsupported())
    }
}

#[async_trait]
impl AgentRunStore for Lacking {
    async fn record(&self, _: &Scope, _: AgentRun) -> Result<RecordedAgentRun> {
        Err(no_sessions())
    }

    async fn get(&self, _: &Scope, _: &AgentRunId) -> Result<StoredAgentRun> {
        Err(no_sessions())
    }

    async fn standing(&self, _: &Scope, _: &AgentRunId) -> Result<AgentRunStanding> {
        Err(no_sessions())
    }

    async fn list(&self, _: &Scope, _: &AgentRunFilter, _: &ListRange) -> Result<Page<AgentRunSummary>> {
        Err(no_sessions())
    }

    async fn fold(&self, _: &Scope, _: &AgentRunId, _: FoldedSteps) -> Result<bool> {
        Err(no_sessions())
    }

    async fn list_unfolded(&self, _: &Scope, _: Option<&AgentRunId>, _: u32) -> Result<Vec<Unfolded>> {
        Err(no_sessions())
    }

    async fn delete(&self, _: &Scope, _: &AgentRunId) -> Result<()> {
        Err(no_sessions())
    }
}

#[async_trait]
impl ImportStore for Lacking {
    async fn cursor(&self, _: &Scope, _: &ThreadId, _: &ImportSource) -> Result<Option<ImportCursor>> {
        Err(no_sessions())
    }

    async fn set_cursor(&self, _: &Scope, _: &ThreadId, _: ImportCursor) -> Result<()> {
        Err(no_sessions())
    }

    async fn quarantine(&self, _: &Scope, _: &ThreadId, _: Vec<Quarantined>) -> Result<u64> {
        Err(no_sessions())
    }

    async fn list_quarantined(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: Option<&QuarantineId>,
        _: u32,
    ) -> Result<Vec<Quarantined>> {
        Err(no_sessions())
    }
}

#[async_trait]
impl SearchStore for Lacking {
    async fn index(&self, _: &Scope, _: Option<&ThreadId>, _: IndexBudget) -> Result<Indexed> {
        Err(Capability::Search.unsupported())
    }

    async fn forget(&self, _: &Scope, _: &ThreadId) -> Result<()> {
        Err(Capability::Search.unsupported())
    }

    async fn find(&self, _: &Scope, _: &SearchQuery, _: &SearchFilter, _: &ListRange) -> Result<SearchPage> {
        Err(Capability::Search.unsupported())
    }
}

fn no_feedback() -> Error {
    Capability::Feedback.unsupported()
}

#[async_trait]
impl FeedbackStore for Lacking {
    async fn create(&self, _: &Scope, _: NewFeedback) -> Result<Feedback> {
        Err(no_feedback())
    }

    async fn put(&self, _: &Scope, _: NewFeedback) -> Result<Feedback> {
        Err(no_feedback())
    }

    async fn get(&self, _: &Scope, _: &ThreadId, _: &FeedbackId) -> Result<Feedback> {
        Err(no_feedback())
    }

    async fn list(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: &FeedbackFilter,
        _: &ListRange,
    ) -> Result<Page<Feedback>> {
        Err(no_feedback())
    }

    async fn update(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: &FeedbackId,
        _: FeedbackPatch,
        _: Timestamp,
    ) -> Result<Feedback> {
        Err(no_feedback())
    }

    async fn delete(&self, _: &Scope, _: &ThreadId, _: &FeedbackId) -> Result<()> {
        Err(no_feedback())
    }

    async fn stats(&self, _: &Scope, _: &ThreadId, _: &[RunId]) -> Result<BTreeMap<RunId, FeedbackStats>> {
        Err(no_feedback())
    }
}

#[async_trait]
impl ApiTokenStore for Lacking {
    async fn create(&self, _: &Scope, _: ApiToken) -> Result<()> {
        Err(Capability::ApiTokens.unsupported())
    }

    async fn find(&self, _: &Scope, _: &str) -> Result<ApiToken> {
        Err(Capability::ApiTokens.unsupported())
    }

    async fn list(&self, _: &Scope, _: &ApiTokenFilter, _: &ListRange) -> Result<Page<ApiToken>> {
        Err(Capability::ApiTokens.unsupported())
    }

    async fn revoke(&self, _: &Scope, _: &ApiTokenId, _: Timestamp) -> Result<ApiToken> {
        Err(Capability::ApiTokens.unsupported())
    }
}
