//! What the memory ledger holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::record::{
    ApiToken, BlobHash, Compaction, Event, EventDraft, Feedback, HeadState, ImportCursor, Interaction,
    ItemEntry, Lease, NewLease, Outcome, Quarantined, Run, Thread, ThreadHead, UsageRecord,
};
use crate::store::{Deletion, StoredAgentRun};
use crate::{
    AgentRunId, ApiTokenId, Error, FeedbackId, ImportSource, InteractionId, ItemId, QuarantineId, Result,
    RunId, Scope, SourceId, ThreadId, Timestamp,
};

/// Every thread, deleted ones included: their heads are tombstones.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) threads: BTreeMap<ThreadId, Log>,
    pub(super) agent_runs: BTreeMap<AgentRunId, StoredAgentRun>,
    /// How far sources were read, each into one thread.
    pub(super) cursors: BTreeMap<ImportSource, (ThreadId, ImportCursor)>,
    pub(super) api_tokens: BTreeMap<ApiTokenId, ApiToken>,
}

/// A thread and all below it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) head: ThreadHead,
    /// `None` once the thread is deleted.
    pub(super) thread: Option<Thread>,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) events: BTreeMap<u64, Event>,
    pub(super) items: BTreeMap<(RunId, ItemId), ItemEntry>,
    pub(super) usage: BTreeMap<SourceId, UsageRecord>,
    pub(super) leases: BTreeMap<RunId, Lease>,
    /// What queued runs bring to the log when they get the slot, and who holds them then.
    pub(super) queued: BTreeMap<RunId, (Vec<EventDraft>, Option<NewLease>)>,
    pub(super) compactions: BTreeMap<u64, Compaction>,
    pub(super) interactions: BTreeMap<InteractionId, Interaction>,
    pub(super) feedback: BTreeMap<FeedbackId, Feedback>,
    /// Media types and bytes.
    pub(super) blobs: BTreeMap<BlobHash, (String, Arc<[u8]>)>,
    /// Which events name which of them.
    pub(super) event_blobs: BTreeSet<(u64, BlobHash)>,
    pub(super) quarantine: BTreeMap<QuarantineId, Quarantined>,
    /// What was taken away of it, in order.
    pub(super) deletions: Vec<Deletion>,
    /// Agent runs that a commit began, and those that it ended, until the ledger has noted them.
    pub(super) begun: Vec<StoredAgentRun>,
    pub(super) ended: Vec<(AgentRunId, Outcome, Timestamp)>,
    /// When the log last grew.
    pub(super) written_at: Timestamp,
    /// Up to which number it can be searched.
    pub(super) indexed_seq: u64,
}

impl Log {
    pub(super) fn new(thread: Thread) -> Self {
        Self {
            head: ThreadHead::new(&thread),
            thread: Some(thread),
            runs: BTreeMap::new(),
            events: BTreeMap::new(),
            items: BTreeMap::new(),
            usage: BTreeMap::new(),
            leases: BTreeMap::new(),
            queued: BTreeMap::new(),
            compactions: BTreeMap::new(),
            interactions: BTreeMap::new(),
            feedback: BTreeMap::new(),
            blobs: BTreeMap::new(),
            event_blobs: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            deletions: Vec::new(),
            begun: Vec::new(),
            ended: Vec::new(),
            written_at: Timestamp::now(),
            indexed_seq: 0,
        }
    }

    fn visible_to(&self, scope: &Scope) -> bool {
        self.head.state != HeadState::Deleted && scope.sees(self.head.owner_id.as_ref())
    }

    pub(super) fn run(&self, run: &RunId) -> Result<&Run> {
        self.runs.get(run).ok_or_else(|| Error::not_found("run", run))
    }

    /// Refuses while a run holds the slot.
    pub(super) fn require_idle(&self) -> Result<()> {
        match &self.head.active_run_id {
            Some(run) => Err(Error::conflict("active run", "none", run)),
            None => Ok(()),
        }
    }
}

impl State {
    /// The log, if the scope sees it.
    pub(super) fn log(&self, scope: &Scope, thread: &ThreadId) -> Result<&Log> {
        self.threads
            .get(thread)
            .filter(|log| log.visible_to(scope))
            .ok_or_else(|| Error::not_found("thread", thread))
    }

    /// The log to change, if the scope sees it.
    pub(super) fn log_mut(&mut self, scope: &Scope, thread: &ThreadId) -> Result<&mut Log> {
        self.threads
            .get_mut(thread)
            .filter(|log| log.visible_to(scope))
            .ok_or_else(|| Error::not_found("thread", thread))
    }
}
