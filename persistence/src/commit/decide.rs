//! The judgement of a commit: pure, and the same for both databases.
//!
//! [`decide`] looks at [`Facts`], answers, and where it accepts notes the rows to write in
//! [`Writes`] and updates the facts, so that several commits of one group are judged one after the
//! other as if each had been stored before the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use runledger_core::commit::ContentSize;
use runledger_core::view::items::ItemChange;
use runledger_core::{
    Admission, CHILD_THREAD, Error, Event, EventDraft, Expected, HeadState, JournalMark, NewThread, Outcome,
    OwnerId, Prepared, Receipt, RunId, RunProgress, RunStatus, RunTotals, Scope, SourceId, Thread,
    ThreadHead, ThreadId, ThreadStatus, Timestamp, Transition, UsageRecord,
};

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunFacts {
    pub(super) status: RunStatus,
    pub(super) epoch: u64,
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
    /// The calls that are stored.
    pub(super) usage: HashMap<Of<SourceId>, UsageRecord>,
    /// The seq of each once key that is taken.
    pub(super) once: HashMap<(ThreadId, RunId, String), u64>,
    /// The run of each idempotency key that is taken.
    pub(super) idempotency: HashMap<Of<String>, RunId>,
    /// Events that an earlier try of a commit stored, by ordinal; the newest of each.
    pub(super) stored: HashMap<Of<RunId>, BTreeMap<u64, Event>>,
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

/// What a run's row grows by.
#[derive(Clone, Debug, Default)]
pub(super) struct RunDelta {
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    pub(super) message_count: u64,
    pub(super) totals: RunTotals,
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
    pub(super) admission: Box<Admission>,
}

/// A step of a run's life to write, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Admit(Box<NewRunRow>),
    Start { thread: ThreadId, run: RunId, at: Timestamp },
    Finish { thread: ThreadId, run: RunId, outcome: Outcome, at: Timestamp },
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
    match judge(facts, scope, commit) {
        Err(Refusal::Error(error)) => Decision::Refused(error),
        Err(Refusal::Later) => Decision::Later,
        Ok(Judgement::Before(receipt)) => Decision::Stored(receipt),
        Ok(Judgement::Store { head, thread, seqs, left }) => {
            if let Some(thread) = thread {
                writes.threads.push(*thread);
            }
            Decision::Stored(store(facts, writes, head, &left, seqs))
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

fn judge(facts: &Facts, scope: &Scope, commit: &Arc<Prepared>) -> Result<Judgement, Refusal> {
    match &commit.transition {
        None | Some(Transition::Admit(_) | Transition::Start { .. } | Transition::Finish { .. }) => {}
        Some(_) => return Err(Error::Unsupported { operation: "this transition" }.into()),
    }
    let (head, thread) = find_head(facts, scope, commit)?;
    if head.state == HeadState::Archived {
        return Err(Error::conflict("thread state", "open", &head.state).into());
    }
    let mut seqs = Vec::new();
    if let (Some(mark), Some(run)) = (commit.mark, &commit.run_id) {
        if let Some(receipt) = finished_before(facts, &head, commit, run, mark)? {
            return Ok(Judgement::Before(receipt));
        }
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
    let head = ThreadHead {
        thread_id: thread.thread_id.clone(),
        owner_id: thread.owner_id.clone(),
        state: HeadState::Open,
        next_seq: 1,
        message_count: 0,
        active_run_id: None,
        epoch: 0,
        journal_ordinal: 0,
    };
    Ok((head, Some(Box::new(thread))))
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
        if let Some(active) = &head.active_run_id {
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
            None => Ok(()),
        };
    }
    if facts.assumed && head.active_run_id.as_ref() == Some(run_id) && commit.transition.is_none() {
        return Ok(());
    }
    let run = find(run_id).ok_or_else(|| missing(run_id))?;
    commit.transition.as_ref().map_or(Ok(()), |transition| transition.require_from(&run.status))
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

/// Notes the rows of a commit that was accepted.
fn store(
    facts: &mut Facts,
    writes: &mut Writes,
    before: ThreadHead,
    commit: &Arc<Prepared>,
    mut seqs: Vec<u64>,
) -> Receipt {
    let already_stored = seqs.len();
    let base = before.next_seq;
    let count = commit.events.len() as u64;
    seqs.extend(base..base + count);
    let mut head = before.clone();
    step(facts, writes, &mut head, commit);
    if commit.mark.is_some() {
        head.journal_ordinal += count;
    }
    head.next_seq += count;
    head.message_count += commit.message_count;
    note_usage(facts, writes, &head, commit);
    note_items(writes, commit, base);
    note_run(writes, commit, base);
    note_events(facts, writes, commit, base);
    let receipt = Receipt { seqs, already_stored, next_seq: head.next_seq, epoch: head.epoch };
    let change = writes
        .heads
        .entry(commit.thread_id.clone())
        .or_insert_with(|| HeadChange { before, after: head.clone() });
    change.after = head.clone();
    facts.heads.insert(commit.thread_id.clone(), head);
    receipt
}

fn step(facts: &mut Facts, writes: &mut Writes, head: &mut ThreadHead, commit: &Prepared) {
    let (Some(transition), Some(run)) = (&commit.transition, &commit.run_id) else { return };
    let (thread, run) = (commit.thread_id.clone(), run.clone());
    let key = (thread.clone(), run.clone());
    match transition {
        Transition::Admit(admission) => {
            head.epoch += 1;
            head.journal_ordinal = 0;
            head.active_run_id = Some(run.clone());
            facts.runs.insert(key, RunFacts { status: RunStatus::Pending, epoch: head.epoch });
            if let Some(used) = &admission.idempotency_key {
                facts.idempotency.insert((thread.clone(), used.clone()), run.clone());
            }
            let (owner, epoch, admission) = (head.owner_id.clone(), head.epoch, admission.clone());
            writes.steps.push(Step::Admit(Box::new(NewRunRow { thread, run, owner, epoch, admission })));
        }
        Transition::Start { at } => {
            if let Some(facts) = facts.runs.get_mut(&key) {
                facts.status = RunStatus::Running;
            }
            writes.steps.push(Step::Start { thread, run, at: *at });
        }
        Transition::Finish { outcome, at } => {
            head.active_run_id = None;
            head.epoch += 1;
            if let Some(facts) = facts.runs.get_mut(&key) {
                facts.status = outcome.status.status();
            }
            writes.steps.push(Step::Finish { thread, run, outcome: outcome.clone(), at: *at });
        }
        // `judge` let no other through.
        _ => {}
    }
}

/// Notes the model calls, and gives what the run's totals grow by.
fn note_usage(facts: &Facts, writes: &mut Writes, head: &ThreadHead, commit: &Prepared) {
    let thread = &commit.thread_id;
    for call in &commit.usage {
        let key = (thread.clone(), call.source_id.clone());
        let noted = match writes.usage.get_mut(&key) {
            Some(new) => Some(new),
            None => writes.completed.get_mut(&key),
        };
        let grown = match (noted, facts.usage.get(&key)) {
            (Some(noted), _) => noted.complete(call).map(|growth| (noted.run_id.clone(), growth)),
            (None, Some(stored)) => {
                let mut record = stored.clone();
                record.complete(call).map(|growth| {
                    let run = record.run_id.clone();
                    writes.completed.insert(key, record);
                    (run, growth)
                })
            }
            (None, None) => {
                let (run, owner) = (commit.run_id.clone(), head.owner_id.clone());
                let mut growth = RunTotals::default();
                growth.add_call(&call.caller, &call.tokens, call.cost_nanos);
                writes.usage.insert(key, call.clone().into_record(thread.clone(), run.clone(), owner));
                Some((run, growth))
            }
        };
        if let Some((Some(run), growth)) = grown {
            writes.runs.entry((thread.clone(), run)).or_default().totals.add(&growth);
        }
    }
}

fn note_items(writes: &mut Writes, commit: &Prepared, base: u64) {
    let Some(run) = &commit.run_id else { return };
    // Rows of this run that earlier commits of the group noted; within a commit each item occurs once.
    let earlier = writes.items.len();
    for change in &commit.item_changes {
        let mut change = change.clone();
        change.started_seq += base;
        change.updated_seq += base;
        change.completed_seq = change.completed_seq.map(|seq| seq + base);
        let known = writes.items[..earlier].iter_mut().find(|row| {
            row.change.item_id == change.item_id && row.run == *run && row.thread == commit.thread_id
        });
        match known {
            Some(known) => known.change.merge(&change),
            None => {
                writes.items.push(ItemRow { thread: commit.thread_id.clone(), run: run.clone(), change });
            }
        }
    }
}

fn note_run(writes: &mut Writes, commit: &Prepared, base: u64) {
    let Some(run) = &commit.run_id else { return };
    let count = commit.events.len() as u64;
    let delta = writes.runs.entry((commit.thread_id.clone(), run.clone())).or_default();
    if count > 0 {
        delta.first_seq = delta.first_seq.or(Some(base));
        delta.last_seq = Some(base + count - 1);
    }
    delta.message_count += commit.message_count;
    let (progress, new) = (&mut delta.progress, &commit.progress);
    progress.first_human_message =
        progress.first_human_message.take().or_else(|| new.first_human_message.clone());
    progress.last_ai_message = new.last_ai_message.clone().or_else(|| progress.last_ai_message.take());
    progress.model_name = progress.model_name.take().or_else(|| new.model_name.clone());
}

fn note_events(facts: &mut Facts, writes: &mut Writes, commit: &Arc<Prepared>, base: u64) {
    for offset in 0..commit.events.len() {
        let seq = base + offset as u64;
        if let (Some(key), Some(run)) = (&commit.events[offset].once_key, &commit.run_id) {
            facts.once.insert((commit.thread_id.clone(), run.clone(), key.clone()), seq);
        }
        writes.events.push(EventRow { commit: Arc::clone(commit), offset, seq });
    }
    // What is stored from now on is not in the facts: a commit that asks for it waits.
    if let (Some(run), true) = (&commit.run_id, commit.mark.is_some() && !commit.events.is_empty()) {
        facts.stored.remove(&(commit.thread_id.clone(), run.clone()));
    }
}

/// The status of a run's thread after a step.
pub(super) fn thread_status(step: &Step) -> Option<(&ThreadId, ThreadStatus, Timestamp)> {
    match step {
        Step::Admit(row) => Some((&row.thread, ThreadStatus::Busy, row.admission.created_at)),
        Step::Start { .. } => None,
        Step::Finish { thread, outcome, at, .. } => Some((thread, outcome.status.thread_status(), *at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{Category, Commit, ErrorKind, EventType, Limits, RawJson, TokenCounts, UsageDraft};

    fn head() -> ThreadHead {
        ThreadHead {
            thread_id: ThreadId::new("t").unwrap(),
            owner_id: Some(OwnerId::new("o").unwrap()),
            state: HeadState::Open,
            next_seq: 10,
            message_count: 3,
            active_run_id: Some(RunId::new("r").unwrap()),
            epoch: 5,
            journal_ordinal: 4,
        }
    }

    fn facts(head: ThreadHead) -> Facts {
        let mut facts = Facts::default();
        let run = RunFacts { status: RunStatus::Running, epoch: 5 };
        facts.runs.insert((head.thread_id.clone(), RunId::new("r").unwrap()), run);
        facts.heads.insert(head.thread_id.clone(), head);
        facts
    }

    fn commit(run: Option<&str>, mark: Option<(u64, u64)>, events: usize) -> Commit {
        let event = EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::null());
        Commit {
            run_id: run.map(|run| RunId::new(run).unwrap()),
            mark: mark.map(|(epoch, ordinal)| JournalMark { epoch, ordinal }),
            events: vec![event; events],
            ..Commit::new(ThreadId::new("t").unwrap())
        }
    }

    fn ask(facts: &mut Facts, writes: &mut Writes, scope: &Scope, commit: Commit) -> Result<Receipt, String> {
        let prepared = Arc::new(commit.prepare(&Limits::default()).unwrap());
        match decide(facts, writes, scope, &prepared) {
            Decision::Stored(receipt) => Ok(receipt),
            Decision::Refused(error) => Err(error.kind().as_str().to_owned()),
            Decision::Later => Err("later".to_owned()),
        }
    }

    fn kind(head: ThreadHead, scope: &Scope, commit: Commit) -> String {
        let (mut facts, mut writes) = (facts(head), Writes::default());
        let error = ask(&mut facts, &mut writes, scope, commit).unwrap_err();
        assert!(writes.is_empty() && writes.events.is_empty(), "a refusal writes nothing");
        error
    }

    #[test]
    fn each_refusal_has_its_kind() {
        let system = &Scope::System;
        let stranger = &Scope::Owner(OwnerId::new("x").unwrap());
        let with_state = |state| ThreadHead { state, ..head() };
        let not_found = ErrorKind::NotFound.as_str();
        assert_eq!(kind(head(), stranger, commit(None, None, 1)), not_found);
        assert_eq!(kind(with_state(HeadState::Deleted), system, commit(None, None, 1)), not_found);
        assert_eq!(kind(with_state(HeadState::Archived), system, commit(None, None, 1)), "conflict");
        let expected = Commit { expected: Expected::NextSeq(9), ..commit(None, None, 1) };
        assert_eq!(kind(head(), system, expected), "conflict");
        assert_eq!(kind(head(), system, commit(Some("r"), Some((4, 4)), 1)), "lease_lost");
        assert_eq!(kind(head(), system, commit(Some("x"), Some((5, 4)), 1)), "lease_lost");
        assert_eq!(kind(head(), system, commit(Some("r"), Some((5, 5)), 1)), "conflict");
        assert_eq!(kind(head(), system, commit(Some("x"), None, 1)), not_found);
        assert_eq!(kind(head(), system, commit(Some("r"), Some((5, 3)), 1)), "later");
        let admit =
            Commit { transition: Some(Transition::Admit(Box::default())), ..commit(Some("new"), None, 0) };
        assert_eq!(kind(head(), system, admit.clone()), "conflict");
        let idle = ThreadHead { active_run_id: None, ..head() };
        assert_eq!(
            kind(idle, system, Commit { run_id: Some(RunId::new("r").unwrap()), ..admit }),
            "already_exists"
        );
    }

    #[test]
    fn commits_of_a_group_follow_each_other() {
        let (mut facts, mut writes) = (facts(head()), Writes::default());
        let call = |total| UsageDraft::new(SourceId::new("c").unwrap(), TokenCounts::of(total, 0));
        let first = Commit { usage: vec![call(0)], ..commit(Some("r"), Some((5, 4)), 2) };
        let second = Commit { usage: vec![call(7)], ..commit(Some("r"), Some((5, 6)), 1) };
        let third = Commit { usage: vec![call(9)], ..commit(None, None, 1) };
        let seqs = [first, second, third]
            .map(|commit| ask(&mut facts, &mut writes, &Scope::System, commit).unwrap().seqs);
        assert_eq!(seqs, [vec![10, 11], vec![12], vec![13]]);
        let change = &writes.heads[&ThreadId::new("t").unwrap()];
        let after = ThreadHead { next_seq: 14, message_count: 7, journal_ordinal: 7, ..head() };
        assert_eq!((&change.before, &change.after), (&head(), &after));
        let delta = writes.runs.values().next().unwrap();
        assert_eq!((delta.first_seq, delta.last_seq, delta.message_count), (Some(10), Some(12), 3));
        assert_eq!((delta.totals.llm_calls, delta.totals.total_tokens), (1, 7));
        assert_eq!(writes.usage.values().map(|call| call.tokens.total).collect::<Vec<_>>(), [7]);
        let again = ask(&mut facts, &mut writes, &Scope::System, commit(Some("r"), Some((5, 4)), 2));
        assert_eq!(again.unwrap_err(), "later");
    }

    #[test]
    fn a_missing_thread_is_made_only_where_that_is_asked_for() {
        let (mut facts, mut writes) = (Facts::default(), Writes::default());
        assert_eq!(
            ask(&mut facts, &mut writes, &Scope::System, commit(None, None, 1)).unwrap_err(),
            "not_found"
        );
        let new = Commit {
            create_missing: Some(NewThread::new(ThreadId::new("t").unwrap())),
            ..commit(None, None, 2)
        };
        let refused = Commit { run_id: Some(RunId::new("r").unwrap()), ..new.clone() };
        assert_eq!(ask(&mut facts, &mut writes, &Scope::System, refused).unwrap_err(), "not_found");
        assert!(writes.threads.is_empty());
        assert_eq!(ask(&mut facts, &mut writes, &Scope::System, new).unwrap().seqs, [1, 2]);
        assert_eq!(writes.threads.len(), 1);
    }
}
