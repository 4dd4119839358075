//! The log.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};

use super::{AppendSignal, Capabilities, Hint};
use crate::commit::{Commit, Receipt};
use crate::record::{Caller, Event, EventDraft};
use crate::{Error, EventType, Result, RunId, Scope, SeqPage, SeqRange, TaskId, ThreadId};

/// Which runs' messages a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunVisibility {
    /// Those of runs that are shown, and of no run.
    #[default]
    Shown,
    /// All.
    All,
}

/// Which events to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those of this run. The filters below need it, so that a list never scans more than one run.
    pub run_id: Option<RunId>,
    /// Only these types; empty is no filter.
    pub event_types: Vec<EventType>,
    /// Only those of this task.
    pub task_id: Option<TaskId>,
    /// Only those of this caller.
    pub caller: Option<Caller>,
}

impl EventFilter {
    /// Everything of one run.
    #[must_use]
    pub fn of_run(run: RunId) -> Self {
        Self { run_id: Some(run), ..Self::default() }
    }

    /// Checks that filters come with a run, and hold nothing that no event can have.
    pub fn check(&self) -> Result<()> {
        let filtered = !self.event_types.is_empty() || self.task_id.is_some() || self.caller.is_some();
        if filtered && self.run_id.is_none() {
            return Err(Error::invalid("run_id", "is missing; type, task and caller filters read one run"));
        }
        for event_type in &self.event_types {
            crate::text::require_no_nul("event_types", event_type.as_str())?;
        }
        crate::text::require_no_nul("caller", self.caller.as_ref().map_or("", |caller| caller.as_str()))?;
        Ok(())
    }

    /// Whether the event passes.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        self.run_id.as_ref().is_none_or(|run| event.run_id.as_ref() == Some(run))
            && (self.event_types.is_empty() || self.event_types.contains(&event.event_type))
            && self.task_id.as_ref().is_none_or(|task| event.task_id.as_ref() == Some(task))
            && self.caller.as_ref().is_none_or(|caller| event.caller.as_ref() == Some(caller))
    }
}

/// The answer of [`EventStore::put_if_absent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutIfAbsent {
    /// The stored event: the new one, or the one that was there.
    pub event: Event,
    /// Whether it is the new one.
    pub created: bool,
}

/// How many rows a deletion removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted {
    /// Events.
    pub events: u64,
    /// Rows of the item index.
    pub items: u64,
    /// Usage records: those of a deleted run, or of a log that was emptied. Those of a deleted thread stay.
    pub usage: u64,
    /// Runs.
    pub runs: u64,
    /// Threads: the one that was deleted and those that went with it.
    #[serde(default)]
    pub threads: u64,
    /// Agent runs.
    #[serde(default)]
    pub agent_runs: u64,
}

/// Keeps the log of each thread.
///
/// # To ensure correctness
///
/// - `append` is one transaction. A returned `Ok` is as durable as the backend is configured to be;
///   a returned error left nothing behind, except [`Error::Unavailable`] with
///   [`Applied::Unknown`](crate::Applied::Unknown).
/// - `seq` starts at 1 and is gap-free as allocated; commit order equals seq order; no number is
///   used twice, whatever is deleted.
/// - the thread's owner, its state, its active run, the mark and the expectation are judged under
///   the lock of the head row that allocates the seqs, never before it.
/// - with a mark: another epoch, or a run that no longer holds the slot, is
///   [`Error::LeaseLost`]. Events of an earlier try are answered with their seqs and only the rest
///   is stored; a gap in the ordinals, or another event under a stored ordinal, is
///   [`Error::Conflict`]. A repeated [`Finish`](crate::Transition::Finish) of the run that
///   the same journal ended is answered as the first was.
/// - a usage record whose `source_id` is stored is ignored, except that it completes one whose total
///   was 0; the run's totals grow by exactly what was inserted or completed.
/// - an event whose once key the run has already is [`Error::Conflict`] in `append`. The result of a call has
///   one by itself: see [`EventDraft::result_key`].
/// - after a commit is visible to readers, [`AppendSignal::publish`] is called.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a commit.
    async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt>;

    /// Stores an event of a run unless one with its once key is there. `InvalidInput` without a once key.
    async fn put_if_absent(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        event: EventDraft,
    ) -> Result<PutIfAbsent>;

    /// Events of category `message`, ascending.
    async fn list_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>>;

    /// Events of category `message` of one run, whatever its visibility, ascending.
    async fn list_messages_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>>;

    /// Events, ascending.
    async fn list_events(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &EventFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>>;

    /// How many events of category `message` the log holds.
    async fn count_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
    ) -> Result<u64>;

    /// For each of these runs that has one, the seq of its last agent message that a person sees:
    /// completed, category `message`, not a middleware's. At most 1,000 runs.
    async fn last_visible_ai_seq_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, u64>>;

    /// Empties the log: events, items, usage, runs and what belongs to them go, the thread stays and
    /// counts on. `Conflict` while a run is active.
    async fn delete_by_thread(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted>;

    /// Deletes a run with its events, items, usage, compactions, interactions, feedback and agent runs. `Conflict`
    /// while it is active. The context window is what it was before the run folded it.
    async fn delete_by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted>;

    /// What the backend can do, with all of its stores. Everything unless it says otherwise.
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    /// Whether calls can be answered now: the database answers, and its schema is the one that is needed. It
    /// writes nothing. A backend that is always there says so by leaving this as it is.
    async fn ready(&self) -> Result<()> {
        Ok(())
    }

    /// Where readers in this process wait for appends.
    fn signal(&self) -> &AppendSignal;

    /// What the backend hears of other processes' writes, while somebody listens. Hints only: readers find
    /// everything without them, an interval later.
    fn hints(&self) -> BoxStream<'static, Hint> {
        stream::pending().boxed()
    }
}

/// Refuses a question about more runs than one page has.
pub fn check_run_count(runs: &[RunId]) -> Result<()> {
    if runs.len() > crate::MAX_LIMIT as usize {
        return Err(Error::invalid(
            "runs",
            format!("has {} ids; ask for at most {}", runs.len(), crate::MAX_LIMIT),
        ));
    }
    Ok(())
}
