//! The judgement of a commit: pure, and the same for both databases.
//!
//! [`decide`] looks at [`Facts`], answers, and where it accepts notes the rows to write in
//! [`Writes`] and updates the facts, so that several commits of one group are judged one after the
//! other as if each had been stored before the next.

mod note;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use runledger_core::commit::ContentSize;
use runledger_core::view::items::ItemChange;
use runledger_core::{
    Admission, AgentRunId, BlobHash, CHILD_THREAD, CancelAction, Claim, Compaction, Error, Estimate, Event,
    EventDraft, Expected, HeadState, Interaction, InteractionId, InteractionStatus, JournalMark, NewBlob,
    NewLease, NewThread, Outcome, OwnerId, Prepared, Receipt, RunId, RunProgress, RunStatus, Scope, SourceId,
    Thread, ThreadHead, ThreadId, Timestamp, TotalsChange, Transition, UsageRecord, WhenTaken,
};

pub(super) use note::thread_status;

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunFacts {
    pub(super) status: RunStatus,
    pub(super) epoch: u64,
    pub(super) agent_run: Option<AgentRunId>,
}

/// What is known of a run's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseFacts {
    pub(super) worker: String,
    /// How many microseconds ago it ended, by the database's clock; negative while it lasts.
    pub(super) ended_for: i64,
    pub(super) cancel: Option<CancelAction>,
}

/// The run that gets a thread's slot next.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) run: RunId,
    /// What it brings to the log.
    pub(super) input: Vec<EventDraft>,
    /// Who holds it then.
    pub(super) lease: Option<NewLease>,
}

/// A thread and something of it.
pub(super) type Of<T> = (ThreadId, T);

/// What is known of the threads of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Whether only heads are known. Then all else is taken for new, the active run for there, and
    /// the statement fails where that is wrong.
    pub(super) assumed: bool,
    pub(super) heads: HashMap<ThreadId, ThreadHead>,
    pub(super) runs: HashMap<Of<RunId>, RunFacts>,
    /// The owners of the child threads that are there, or were.
    pub(super) children: HashMap<ThreadId, Option<OwnerId>>,
    /// The owners of the agent runs that are there.
    pub(super) agent_runs: HashMap<AgentRunId, Option<OwnerId>>,
    /// Where the questions stand that commits ask or answer.
    pub(super) interactions: HashMap<Of<InteractionId>, InteractionStatus>,
    /// The calls that are stored.
    pub(super) usage: HashMap<Of<SourceId>, UsageRecord>,
    /// The seq of each once key that is taken.
    pub(super) once: HashMap<(ThreadId, RunId, String), u64>,
    /// The run of each idempotency key that is taken.
    pub(super) idempotency: HashMap<Of<String>, RunId>,
    /// Events that an earlier try of a commit stored, by ordinal; the newest of each.
    pub(super) stored: HashMap<Of<RunId>, BTreeMap<u64, Event>>,
    /// The leases of runs that are to end, to be replaced or to be acquired.
    pub(super) leases: HashMap<Of<RunId>, LeaseFacts>,
    /// For how many microseconds a log has not grown.
    pub(super) idle: HashMap<ThreadId, i64>,
    /// What started the open items of runs that are to be ended from outside.
    pub(super) open: HashMap<Of<RunId>, Vec<Event>>,
    /// Who gets a slot that comes free.
    pub(super) waiting: HashMap<ThreadId, Vec<Waiting>>,
    /// The last place in a thread's queue.
    pub(super) queue_ends: HashMap<ThreadId, u64>,
    /// Threads whose runs took a step since all this was read.
    pub(super) stepped: HashSet<ThreadId>,
}

/// The answer to one commit.
#[derive(Debug)]
pub(super) enum Decision {
    Stored(Receipt),
    Refused(Error),
    /// It repeats what an earlier commit of the same group stores: ask again when that is stored.
    Later,
}

/// An event to insert: that of a commit at an offset.
#[derive(Clone, Debug)]
pub(super) struct EventRow {
    commit: Arc<Prepared>,
    offset: usize,
    pub(super) seq: u64,
}

impl EventRow {
    pub(super) fn thread(&self) -> &ThreadId {
        &self.commit.thread_id
    }

    pub(super) fn run(&self) -> Option<&RunId> {
        self.commit.run_id.as_ref()
    }

    pub(super) fn draft(&self) -> &EventDraft {
        &self.commit.events[self.offset]
    }

    pub(super) fn size(&self) -> ContentSize {
        self.commit.sizes[self.offset]
    }

    pub(super) fn ordinal(&self) -> Option<u64> {
        self.commit.mark.map(|mark| mark.ordinal + self.offset as u64)
    }
}

/// A row of the item index to insert or merge.
#[derive(Clone, Debug)]
pub(super) struct ItemRow {
    pub(super) thread: ThreadId,
    pub(super) run: RunId,
    pub(super) change: ItemChange,
}

/// A blob that a commit brings, by its place among them.
#[derive(Clone, Debug)]
pub(super) struct BlobRow {
    commit: Arc<Prepared>,
    place: usize,
}

impl BlobRow {
    pub(super) fn thread(&self) -> &ThreadId {
        &self.commit.thread_id
    }

    pub(super) fn blob(&self) -> &NewBlob {
        &self.commit.blobs[self.place]
    }
}

/// What a run's row changes by.
#[derive(Clone, Debug, Default)]
pub(super) struct RunDelta {
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    pub(super) message_count: u64,
    pub(super) totals: TotalsChange,
    /// What of its calls' reservations was settled.
    pub(super) settled: Estimate,
    /// What of its sub-agents' allowances was settled.
    pub(super) settled_allowances: Estimate,
    pub(super) progress: RunProgress,
}

/// A head as it was found and as it becomes.
#[derive(Clone, Debug)]
pub(super) struct HeadChange {
    pub(super) before: ThreadHead,
    pub(super) after: ThreadHead,
}

/// A run to insert.
#[derive(Clone, Debug)]
pub(super) struct NewRunRow {
    pub(super) thread: ThreadId,
    pub(super) run: RunId,
    pub(super) owner: Option<OwnerId>,
    pub(super) epoch: u64,
    /// Its place in the queue, and its input, if it has to wait.
    pub(super) queued: Option<(u64, Vec<EventDraft>)>,
    pub(super) admission: Box<Admission>,
}

/// A step of a run's life to write, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Admit(Box<NewRunRow>),
    Start {
        thread: ThreadId,
        run: RunId,
        at: Timestamp,
    },
    /// Another run of the thread may have the slot.
    Finish {
        thread: ThreadId,
        run: RunId,
        /// The agent run that ends with it.
        agent_run: Option<AgentRunId>,
        outcome: Outcome,
        held_slot: bool,
        at: Timestamp,
    },
    /// A run that ended asks this.
    Ask(Box<Interaction>),
    Acquire {
        thread: ThreadId,
        run: RunId,
        epoch: u64,
        lease: NewLease,
        at: Timestamp,
    },
    Promote {
        thread: ThreadId,
        run: RunId,
        epoch: u64,
        lease: Option<NewLease>,
        at: Timestamp,
    },
    Resume {
        thread: ThreadId,
        run: RunId,
        epoch: u64,
        lease: Option<NewLease>,
        at: Timestamp,
    },
    Fold(Box<Compaction>),
}

/// The rows a group writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Writes {
    pub(super) threads: Vec<Thread>,
    pub(super) steps: Vec<Step>,
    pub(super) heads: BTreeMap<ThreadId, HeadChange>,
    pub(super) runs: BTreeMap<Of<RunId>, RunDelta>,
    pub(super) events: Vec<EventRow>,
    pub(super) items: Vec<ItemRow>,
    pub(super) blobs: Vec<BlobRow>,
    /// The events that name blobs, by their seqs. It counts where the thread has the blob.
    pub(super) blob_uses: Vec<Of<(u64, BlobHash)>>,
    /// Model calls to insert.
    pub(super) usage: BTreeMap<Of<SourceId>, UsageRecord>,
    /// Stored model calls as they become.
    pub(super) completed: BTreeMap<Of<SourceId>, UsageRecord>,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
}

/// Judges a commit and notes what it writes.
pub(super) fn decide(
    facts: &mut Facts,
    writes: &mut Writes,
    scope: &Scope,
    commit: &Arc<Prepared>,
) -> Decision {
    match judge(facts, writes, scope, commit) {
        Err(Refusal::Error(error)) => Decision::Refused(error),
        Err(Refusal::Later) => Decision::Later,
        Ok(Judgement::Before(receipt)) => Decision::Stored(receipt),
        Ok(Judgement::Store { head, thread, seqs, left }) => {
            if let Some(thread) = thread {
                writes.threads.push(*thread);
            }
            Decision::Stored(note::store(facts, writes, head, &left, seqs))
        }
    }
}

enum Refusal {
    Error(Error),
    Later,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

enum Judgement {
    /// All of it is stored already.
    Before(Receipt),
    /// To be stored is what is left, for the first events have these seqs already.
    Store { head: ThreadHead, thread: Option<Box<Thread>>, seqs: Vec<u64>, left: Arc<Prepared> },
}

fn judge(
    facts: &Facts,
    writes: &Writes,
    scope: &Scope,
    commit: &Arc<Prepared>,
) -> Result<Judgement, Refusal> {
    let (head, thread) = find_head(facts, scope, commit)?;
    require_fresh(facts, writes, &head, commit)?;
    let mut seqs = Vec::new();
    let marked = commit.mark.zip(commit.run_id.as_ref());
    if let Some((mark, run)) = marked
        && let Some(receipt) = finished_before(facts, &head, commit, run, mark)?
    {
        return Ok(Judgement::Before(receipt));
    }
    commit.require_open(&head)?;
    if let Some((mark, run)) = marked {
        require_mark(&head, run, mark)?;
        seqs = stored_prefix(facts, &head, commit, run, mark)?;
    }
    let next_seq = seqs.first().copied().unwrap_or(head.next_seq);
    if let Expected::NextSeq(expected) = commit.expected
        && expected != next_seq
    {
        return Err(Error::conflict("next_seq", expected, next_seq).into());
    }
    let left = left_of(facts, commit, seqs.len());
    require_run(facts, &head, &left)?;
    require_children(facts, scope, &left)?;
    require_agent_runs(facts, scope, &left)?;
    require_new_once_keys(facts, &left)?;
    Ok(Judgement::Store { head, thread, seqs, left })
}

fn find_head(
    facts: &Facts,
    scope: &Scope,
    commit: &Prepared,
) -> Result<(ThreadHead, Option<Box<Thread>>), Error> {
    let missing = || Error::not_found("thread", &commit.thread_id);
    if let Some(head) = facts.heads.get(&commit.thread_id) {
        let visible = head.state != HeadState::Deleted && scope.sees(head.owner_id.as_ref());
        return if visible { Ok((head.clone(), None)) } else { Err(missing()) };
    }
    let new: &NewThread = commit.create_missing.as_ref().ok_or_else(missing)?;
    let thread = new.clone().into_thread(scope)?;
    Ok((ThreadHead::new(&thread), Some(Box::new(thread))))
}

/// The answer to a repeated end of the run that the same journal ended.
fn finished_before(
    facts: &Facts,
    head: &ThreadHead,
    commit: &Prepared,
    run: &RunId,
    mark: JournalMark,
) -> Result<Option<Receipt>, Refusal> {
    if !matches!(commit.transition, Some(Transition::Finish { .. })) {
        return Ok(None);
    }
    let key = (commit.thread_id.clone(), run.clone());
    let ended = facts.runs.get(&key).is_some_and(|run| run.status.is_terminal() && run.epoch == mark.epoch);
    if !ended {
        return Ok(None);
    }
    let seqs = seqs_by_ordinal(facts, commit, run, mark, commit.events.len())?;
    Ok(seqs.map(|seqs| Receipt {
        already_stored: seqs.len(),
        seqs,
        next_seq: head.next_seq,
        epoch: head.epoch,
    }))
}

fn require_mark(head: &ThreadHead, run: &RunId, mark: JournalMark) -> Result<(), Error> {
    if head.active_run_id.as_ref() != Some(run) || head.epoch != mark.epoch {
        return Err(Error::LeaseLost { run_id: run.to_string(), epoch: mark.epoch });
    }
    if mark.ordinal > head.journal_ordinal {
        return Err(Error::conflict("journal ordinal", head.journal_ordinal, mark.ordinal));
    }
    Ok(())
}

/// The seqs of those events of the commit that an earlier try stored.
fn stored_prefix(
    facts: &Facts,
    head: &ThreadHead,
    commit: &Prepared,
    run: &RunId,
    mark: JournalMark,
) -> Result<Vec<u64>, Refusal> {
    let behind = usize::try_from(head.journal_ordinal - mark.ordinal).unwrap_or(usize::MAX);
    let count = commit.events.len().min(behind);
    seqs_by_ordinal(facts, commit, run, mark, count)?.ok_or_else(|| {
        Error::conflict("journal event", format!("ordinal {}", mark.ordinal), "a deleted event").into()
    })
}

/// The seqs of the first `count` events by their ordinals, each checked to be the same event;
/// `None` where one is not stored.
fn seqs_by_ordinal(
    facts: &Facts,
    commit: &Prepared,
    run: &RunId,
    mark: JournalMark,
    count: usize,
) -> Result<Option<Vec<u64>>, Refusal> {
    if count == 0 {
        return Ok(Some(Vec::new()));
    }
    let key = (commit.thread_id.clone(), run.clone());
    // Not looked up, because it was not behind when the group's facts were read.
    let stored = facts.stored.get(&key).ok_or(Refusal::Later)?;
    let mut seqs = Vec::with_capacity(count);
    for offset in 0..count {
        let Some(event) = stored.get(&(mark.ordinal + offset as u64)) else { return Ok(None) };
        commit.require_same(offset, event)?;
        seqs.push(event.seq);
    }
    Ok(Some(seqs))
}

fn require_run(facts: &Facts, head: &ThreadHead, commit: &Prepared) -> Result<(), Error> {
    let Some(run_id) = &commit.run_id else { return Ok(()) };
    let find = |run: &RunId| facts.runs.get(&(commit.thread_id.clone(), run.clone()));
    let missing = |run: &RunId| Error::not_found("run", run);
    if let Some(Transition::Admit(admission)) = &commit.transition {
        if let Some(active) = &head.active_run_id
            && admission.multitask_strategy.when_taken() == WhenTaken::Refuse
        {
            return Err(Error::conflict("active run", "none", active));
        }
        if find(run_id).is_some() {
            return Err(Error::already_exists("run", run_id));
        }
        for other in [&admission.follow_up_to_run_id, &admission.parent_run_id].into_iter().flatten() {
            find(other).ok_or_else(|| missing(other))?;
        }
        let key = admission.idempotency_key.as_ref().map(|key| (commit.thread_id.clone(), key.clone()));
        return match key.and_then(|key| facts.idempotency.get(&key)) {
            Some(run) => Err(Error::conflict("idempotency_key", "unused", run)),
            None => require_open(facts, commit, admission),
        };
    }
    if let Some(Transition::Fold(fold)) = &commit.transition {
        fold.require(head, run_id)?;
    }
    if facts.assumed && head.active_run_id.as_ref() == Some(run_id) && commit.transition.is_none() {
        return Ok(());
    }
    let run = find(run_id).ok_or_else(|| missing(run_id))?;
    commit.require_begun(&run.status)?;
    let Some(transition) = &commit.transition else { return Ok(()) };
    transition.require_from(&run.status)?;
    require_lease(facts, commit, run_id, run, transition)?;
    if let Transition::Finish { asks, .. } = transition {
        let asked =
            |id: &InteractionId| facts.interactions.contains_key(&(commit.thread_id.clone(), id.clone()));
        if let Some(ask) = asks.iter().find(|ask| asked(&ask.interaction_id)) {
            return Err(Error::already_exists("interaction", &ask.interaction_id));
        }
    }
    Ok(())
}

/// An admission answers a question that is open, or none.
fn require_open(facts: &Facts, commit: &Prepared, admission: &Admission) -> Result<(), Error> {
    let Some(answer) = &admission.answer else { return Ok(()) };
    let id = &answer.interaction_id;
    match facts.interactions.get(&(commit.thread_id.clone(), id.clone())) {
        None => Err(Error::not_found("interaction", id)),
        Some(InteractionStatus::Open) => Ok(()),
        Some(status) => Err(Error::conflict("interaction", "open", status)),
    }
}

/// What a step asks of the run's lease.
fn require_lease(
    facts: &Facts,
    commit: &Prepared,
    run_id: &RunId,
    run: &RunFacts,
    transition: &Transition,
) -> Result<(), Error> {
    let lease = facts.leases.get(&(commit.thread_id.clone(), run_id.clone()));
    match transition {
        Transition::Acquire { .. } => match lease {
            Some(lease) => Err(Error::conflict("lease", "none", &lease.worker)),
            None => Ok(()),
        },
        Transition::Finish { outcome, .. } => match lease.and_then(|lease| lease.cancel.as_ref()) {
            Some(action) if action.outcome() != *outcome => {
                Err(Error::Cancelled { run_id: run_id.to_string() })
            }
            _ => Ok(()),
        },
        // Its next holder would not know that it is to stop.
        Transition::Resume { .. } if lease.is_some_and(|lease| lease.cancel.is_some()) => {
            Err(Error::Cancelled { run_id: run_id.to_string() })
        }
        Transition::Resume { claim, .. } => {
            let idle = facts.idle.get(&commit.thread_id).copied().unwrap_or_default();
            require_claim(run, lease, idle, *claim)
        }
        Transition::Interrupt { claim, .. } if run.status != RunStatus::Queued => {
            let idle = facts.idle.get(&commit.thread_id).copied().unwrap_or_default();
            require_claim(run, lease, idle, *claim)
        }
        _ => Ok(()),
    }
}

fn require_claim(run: &RunFacts, lease: Option<&LeaseFacts>, idle: i64, claim: Claim) -> Result<(), Error> {
    let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match (claim, lease) {
        (Claim::Epoch(epoch), _) if epoch == run.epoch => Ok(()),
        (Claim::Epoch(epoch), _) => Err(Error::conflict("epoch", epoch, run.epoch)),
        (Claim::Expired { grace }, Some(lease)) if lease.ended_for > micros(grace) => Ok(()),
        (Claim::Expired { .. }, Some(lease)) => Err(Error::conflict("lease", "expired", &lease.worker)),
        (Claim::Expired { .. }, None) => Err(Error::conflict("lease", "expired", "none")),
        (Claim::Unleased { .. }, Some(lease)) => Err(Error::conflict("lease", "none", &lease.worker)),
        (Claim::Unleased { idle: wanted }, None) if idle >= micros(wanted) => Ok(()),
        (Claim::Unleased { .. }, None) => Err(Error::conflict("log", "idle", "written to")),
    }
}

/// A step is judged by what was read before the group's own commits; where one of those touched it,
/// it is asked again when that is stored.
fn require_fresh(
    facts: &Facts,
    writes: &Writes,
    head: &ThreadHead,
    commit: &Prepared,
) -> Result<(), Refusal> {
    let Some(transition) = &commit.transition else { return Ok(()) };
    let closes = match transition {
        Transition::Interrupt { .. } => true,
        Transition::Admit(admission) => {
            head.active_run_id.is_some()
                && matches!(admission.multitask_strategy.when_taken(), WhenTaken::Replace(_))
        }
        _ => false,
    };
    let stale =
        facts.stepped.contains(&commit.thread_id) || closes && writes.heads.contains_key(&commit.thread_id);
    if stale { Err(Refusal::Later) } else { Ok(()) }
}

fn require_children(facts: &Facts, scope: &Scope, commit: &Prepared) -> Result<(), Error> {
    for child in commit.child_threads() {
        // A deleted child keeps its owner: what it took is told after it is gone, too.
        let known = facts.children.get(child).is_some_and(|owner| scope.sees(owner.as_ref()));
        if !known {
            return Err(Error::not_found(CHILD_THREAD, child));
        }
    }
    Ok(())
}

/// A new agent run has an id of its own, and a parent that the scope sees.
fn require_agent_runs(facts: &Facts, scope: &Scope, commit: &Prepared) -> Result<(), Error> {
    let Some(Transition::Admit(admission)) = &commit.transition else { return Ok(()) };
    let Some(new) = &admission.agent_run else { return Ok(()) };
    if facts.agent_runs.contains_key(&new.agent_run_id) {
        return Err(Error::already_exists("agent run", &new.agent_run_id));
    }
    match &new.parent_agent_run_id {
        Some(parent) if !facts.agent_runs.get(parent).is_some_and(|owner| scope.sees(owner.as_ref())) => {
            Err(Error::not_found("agent run", parent))
        }
        _ => Ok(()),
    }
}

/// What of the commit is not stored yet.
fn left_of(facts: &Facts, commit: &Arc<Prepared>, stored: usize) -> Arc<Prepared> {
    let run = commit.run_id.as_ref().and_then(|run| facts.runs.get(&(commit.thread_id.clone(), run.clone())));
    let started = run.is_some_and(|run| run.status == RunStatus::Running);
    let starts = matches!(commit.transition, Some(Transition::Start { .. }));
    if stored == 0 && !(starts && started && commit.events.is_empty()) {
        return Arc::clone(commit);
    }
    Arc::new(Prepared::clone(commit).without_stored(stored, started))
}

fn require_new_once_keys(facts: &Facts, commit: &Prepared) -> Result<(), Error> {
    let Some(run) = &commit.run_id else { return Ok(()) };
    for key in commit.events.iter().filter_map(|event| event.once_key.as_ref()) {
        if let Some(seq) = facts.once.get(&(commit.thread_id.clone(), run.clone(), key.clone())) {
            return Err(Error::conflict("once_key", "unused", format!("used by seq {seq}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
