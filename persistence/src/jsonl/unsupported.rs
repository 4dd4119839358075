//! The stores that a folder of files lacks.

use std::time::Duration;

use async_trait::async_trait;
use runledger_core::{
    CancelAction, Capability, Claimable, Error, ItemEntry, ItemFilter, ItemId, ItemStore, Lease, ListRange,
    Page, Result, Run, RunFilter, RunId, RunStore, Scope, SeqPage, SeqRange, SourceId, Sweep, ThreadId,
    Timestamp, UsageBreakdown, UsageRecord, UsageStore, Visibility, WorkerId,
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
}

#[async_trait]
impl ItemStore for Lacking {
    async fn get(&self, _: &Scope, _: &ThreadId, _: &RunId, _: &ItemId) -> Result<ItemEntry> {
        Err(Capability::Items.unsupported())
    }

    async fn list(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: &ItemFilter,
        _: &SeqRange,
    ) -> Result<SeqPage<ItemEntry>> {
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
}
