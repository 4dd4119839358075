//! Notes the rows of what was accepted, and keeps the facts up with it.

use std::sync::Arc;

use runledger_core::{
    Admission, CancelAction, Estimate, InteractionStatus, NewCompaction, Outcome, Prepared, Receipt,
    ReservedFor, RunId, RunStatus, ThreadHead, ThreadId, ThreadStatus, Timestamp, TotalsChange, Transition,
    WhenTaken,
};

use super::{BlobRow, EventRow, Facts, HeadChange, ItemRow, NewRunRow, Of, RunFacts, Step, Writes};

/// Notes the rows of a commit that was accepted, of what it ends, and of what gets the slot after it.
pub(super) fn store(
    facts: &mut Facts,
    writes: &mut Writes,
    before: ThreadHead,
    commit: &Arc<Prepared>,
    mut seqs: Vec<u64>,
) -> Receipt {
    let already_stored = seqs.len();
    let mut head = before.clone();
    match (&commit.transition, &commit.run_id) {
        (Some(Transition::Interrupt { outcome, at, .. }), Some(run)) => {
            seqs = close(facts, writes, &mut head, run, outcome, *at);
        }
        (Some(Transition::Admit(admission)), Some(run)) if head.active_run_id.is_some() => {
            match (admission.multitask_strategy.when_taken(), head.active_run_id.clone()) {
                (WhenTaken::Replace(outcome), Some(active)) => {
                    close(facts, writes, &mut head, &active, &outcome, admission.created_at);
                    seqs = append(facts, writes, &mut head, commit);
                }
                _ => enqueue(facts, writes, &head, run, commit),
            }
        }
        _ => seqs.extend(append(facts, writes, &mut head, commit)),
    }
    if let Some(at) = commit.transition.as_ref().map(when) {
        promote(facts, writes, &mut head, at);
        facts.stepped.insert(commit.thread_id.clone());
    }
    let receipt = Receipt { seqs, already_stored, next_seq: head.next_seq, epoch: head.epoch };
    let change = writes
        .heads
        .entry(commit.thread_id.clone())
        .or_insert_with(|| HeadChange { before, after: head.clone() });
    change.after = head.clone();
    facts.heads.insert(commit.thread_id.clone(), head);
    receipt
}

/// Notes the step of a commit and its rows, and gives the seqs of its events.
fn append(facts: &mut Facts, writes: &mut Writes, head: &mut ThreadHead, commit: &Arc<Prepared>) -> Vec<u64> {
    let base = head.next_seq;
    let count = commit.events.len() as u64;
    step(facts, writes, head, commit);
    if commit.mark.is_some() {
        head.journal_ordinal += count;
    }
    head.next_seq += count;
    head.message_count += commit.message_count;
    note_usage(facts, writes, head, commit);
    note_items(writes, commit, base);
    note_blobs(writes, commit, base);
    note_run(writes, commit, base);
    note_events(facts, writes, commit, base);
    (base..base + count).collect()
}

/// When a step is taken.
fn when(transition: &Transition) -> Timestamp {
    match transition {
        Transition::Admit(admission) => admission.created_at,
        Transition::Acquire { at, .. }
        | Transition::Interrupt { at, .. }
        | Transition::Start { at }
        | Transition::Resume { at, .. }
        | Transition::Finish { at, .. } => *at,
        Transition::Fold(fold) => fold.at,
        // The judge lets no other through.
        _ => Timestamp::now(),
    }
}

/// Ends a run whose journal does not, as it was asked to if it was, and gives the seqs of the events
/// that say so.
fn close(
    facts: &mut Facts,
    writes: &mut Writes,
    head: &mut ThreadHead,
    run: &RunId,
    outcome: &Outcome,
    at: Timestamp,
) -> Vec<u64> {
    let key = (head.thread_id.clone(), run.clone());
    let asked = facts.leases.get(&key).and_then(|lease| lease.cancel.as_ref()).map(CancelAction::outcome);
    let outcome = asked.as_ref().unwrap_or(outcome);
    let open = facts.open.remove(&key).unwrap_or_default();
    let closing = Arc::new(Prepared::closing(&key.0, run, &open, outcome, at));
    let seqs = append(facts, writes, head, &closing);
    end(facts, writes, head, run, outcome, at);
    seqs
}

/// Ends a run.
fn end(
    facts: &mut Facts,
    writes: &mut Writes,
    head: &mut ThreadHead,
    run: &RunId,
    outcome: &Outcome,
    at: Timestamp,
) {
    let (thread, run) = (head.thread_id.clone(), run.clone());
    let held_slot = head.active_run_id.as_ref() == Some(&run);
    if held_slot {
        head.active_run_id = None;
        head.epoch += 1;
    }
    let mut agent_run = None;
    if let Some(facts) = facts.runs.get_mut(&(thread.clone(), run.clone())) {
        facts.status = outcome.status.status();
        agent_run.clone_from(&facts.agent_run);
    }
    writes.steps.push(Step::Finish { thread, run, agent_run, outcome: outcome.clone(), held_slot, at });
}

/// Stores a run that has to wait.
fn enqueue(facts: &mut Facts, writes: &mut Writes, head: &ThreadHead, run: &RunId, commit: &Prepared) {
    let Some(Transition::Admit(admission)) = &commit.transition else { return };
    let thread = commit.thread_id.clone();
    let number = facts.queue_ends.get(&thread).copied().unwrap_or(0) + 1;
    note_admission(facts, &thread, run, RunStatus::Queued, 0, admission);
    writes.steps.push(Step::Admit(Box::new(NewRunRow {
        thread,
        run: run.clone(),
        owner: head.owner_id.clone(),
        epoch: 0,
        queued: Some((number, commit.events.clone())),
        admission: admission.clone(),
    })));
}

/// Keeps what later commits of the group are judged by up with an admission.
fn note_admission(
    facts: &mut Facts,
    thread: &ThreadId,
    run: &RunId,
    status: RunStatus,
    epoch: u64,
    admission: &Admission,
) {
    let agent_run = admission.agent_run.as_ref().map(|new| new.agent_run_id.clone());
    if let Some(id) = &agent_run {
        let owner = facts.heads.get(thread).and_then(|head| head.owner_id.clone());
        facts.agent_runs.insert(id.clone(), owner);
    }
    facts.runs.insert((thread.clone(), run.clone()), RunFacts { status, epoch, agent_run });
    if let Some(used) = &admission.idempotency_key {
        facts.idempotency.insert((thread.clone(), used.clone()), run.clone());
    }
    if let Some(answer) = &admission.answer {
        let key = (thread.clone(), answer.interaction_id.clone());
        facts.interactions.insert(key, InteractionStatus::Answered);
    }
}

/// Gives the free slot to the run that waits longest.
fn promote(facts: &mut Facts, writes: &mut Writes, head: &mut ThreadHead, at: Timestamp) {
    if head.active_run_id.is_some() {
        return;
    }
    let waits = |facts: &Facts, run: &RunId| {
        let known = facts.runs.get(&(head.thread_id.clone(), run.clone()));
        known.is_none_or(|run| run.status == RunStatus::Queued)
    };
    let queue = facts.waiting.remove(&head.thread_id).unwrap_or_default();
    let Some(next) = queue.into_iter().find(|next| waits(facts, &next.run)) else { return };
    open_epoch(head, &next.run);
    let (thread, run, epoch) = (head.thread_id.clone(), next.run, head.epoch);
    set_pending(facts, (thread.clone(), run.clone()), epoch);
    let input = Arc::new(Prepared::input(&thread, &run, next.input));
    writes.steps.push(Step::Promote { thread, run, epoch, lease: next.lease, at });
    append(facts, writes, head, &input);
}

fn set_pending(facts: &mut Facts, key: Of<RunId>, epoch: u64) {
    let agent_run = facts.runs.remove(&key).and_then(|run| run.agent_run);
    facts.runs.insert(key, RunFacts { status: RunStatus::Pending, epoch, agent_run });
}

/// Gives a run the slot, under a new epoch.
fn open_epoch(head: &mut ThreadHead, run: &RunId) {
    head.epoch += 1;
    head.journal_ordinal = 0;
    head.active_run_id = Some(run.clone());
}

fn step(facts: &mut Facts, writes: &mut Writes, head: &mut ThreadHead, commit: &Prepared) {
    let (Some(transition), Some(run)) = (&commit.transition, &commit.run_id) else { return };
    let (thread, run) = (commit.thread_id.clone(), run.clone());
    let key = (thread.clone(), run.clone());
    match transition {
        Transition::Admit(admission) => {
            open_epoch(head, &run);
            note_admission(facts, &thread, &run, RunStatus::Pending, head.epoch, admission);
            let (owner, epoch, admission) = (head.owner_id.clone(), head.epoch, admission.clone());
            let queued = None;
            writes.steps.push(Step::Admit(Box::new(NewRunRow {
                thread,
                run,
                owner,
                epoch,
                queued,
                admission,
            })));
        }
        Transition::Start { at } => {
            if let Some(facts) = facts.runs.get_mut(&key) {
                facts.status = RunStatus::Running;
            }
            writes.steps.push(Step::Start { thread, run, at: *at });
        }
        Transition::Finish { outcome, asks, at } => {
            end(facts, writes, head, &run, outcome, *at);
            for ask in asks {
                let owner = head.owner_id.clone();
                let interaction = ask.clone().into_interaction(thread.clone(), run.clone(), owner, *at);
                let key = (thread.clone(), ask.interaction_id.clone());
                facts.interactions.insert(key, InteractionStatus::Open);
                writes.steps.push(Step::Ask(Box::new(interaction)));
            }
        }
        Transition::Resume { lease, at, .. } => {
            open_epoch(head, &run);
            if let Some(facts) = facts.runs.get_mut(&key) {
                facts.epoch = head.epoch;
            }
            let (epoch, lease) = (head.epoch, lease.clone());
            writes.steps.push(Step::Resume { thread, run, epoch, lease, at: *at });
        }
        Transition::Fold(fold) => {
            let number = head.last_compact_seq.unwrap_or(0) + 1;
            head.last_compact_seq = Some(number);
            let note = head.next_seq;
            let compaction = NewCompaction::clone(fold).into_compaction(thread, run, number, note);
            writes.steps.push(Step::Fold(Box::new(compaction)));
        }
        Transition::Acquire { lease, at } => {
            open_epoch(head, &run);
            set_pending(facts, key, head.epoch);
            let (epoch, lease) = (head.epoch, lease.clone());
            writes.steps.push(Step::Acquire { thread, run, epoch, lease, at: *at });
        }
        // An interruption is noted with what it closes; no other is let through.
        _ => {}
    }
}

/// Notes the model calls, and what their runs' totals change by.
fn note_usage(facts: &Facts, writes: &mut Writes, head: &ThreadHead, commit: &Prepared) {
    let thread = &commit.thread_id;
    for call in &commit.usage {
        let key = (thread.clone(), call.source_id.clone());
        let noted = match writes.usage.get_mut(&key) {
            Some(new) => Some(new),
            None => writes.completed.get_mut(&key),
        };
        let mut settled = Estimate::default();
        let changed = match (noted, facts.usage.get(&key)) {
            (Some(noted), _) => noted.complete(call).map(|change| (noted.run_id.clone(), change)),
            (None, Some(stored)) => {
                let mut record = stored.clone();
                record.complete(call).map(|change| {
                    let run = record.run_id.clone();
                    writes.completed.insert(key, record);
                    (run, change)
                })
            }
            (None, None) => {
                let (run, owner) = (commit.run_id.clone(), head.owner_id.clone());
                settled = commit.settled_by(call);
                writes.usage.insert(key, call.clone().into_record(thread.clone(), run.clone(), owner));
                Some((run, TotalsChange::of_call(call)))
            }
        };
        if let Some((Some(run), change)) = changed {
            let delta = writes.runs.entry((thread.clone(), run)).or_default();
            delta.totals.add(&change);
            let sum = match call.settles_for() {
                ReservedFor::Iteration | ReservedFor::Call => &mut delta.settled,
                ReservedFor::SubAgent => &mut delta.settled_allowances,
            };
            sum.add(&settled);
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

fn note_blobs(writes: &mut Writes, commit: &Arc<Prepared>, base: u64) {
    let rows = (0..commit.blobs.len()).map(|place| BlobRow { commit: Arc::clone(commit), place });
    writes.blobs.extend(rows);
    let named = commit
        .blob_uses
        .iter()
        .map(|named| (commit.thread_id.clone(), (base + named.event as u64, named.hash.clone())));
    writes.blob_uses.extend(named);
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
pub(crate) fn thread_status(step: &Step) -> Option<(&ThreadId, ThreadStatus, Timestamp)> {
    match step {
        Step::Admit(row) if row.queued.is_none() => {
            Some((&row.thread, ThreadStatus::Busy, row.admission.created_at))
        }
        Step::Promote { thread, at, .. } => Some((thread, ThreadStatus::Busy, *at)),
        Step::Finish { thread, outcome, held_slot: true, at, .. } => {
            Some((thread, outcome.thread_status(), *at))
        }
        Step::Admit(_)
        | Step::Start { .. }
        | Step::Acquire { .. }
        | Step::Finish { .. }
        | Step::Ask(_)
        | Step::Resume { .. }
        | Step::Fold(_) => None,
    }
}
