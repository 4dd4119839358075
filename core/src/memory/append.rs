//! The commit, judged and stored.

use crate::commit::{Admission, CHILD_THREAD, Commit, Expected, JournalMark, Prepared, Receipt, Transition};
use crate::record::{
    AgentRunStatus, Estimate, Event, InteractionStatus, ItemEntry, NewCompaction, Outcome, Run, RunStatus,
    RunTotals, ThreadStatus, TotalsChange, Visibility, WhenTaken,
};
use crate::{Error, Result, RunId, Scope, ThreadId, Timestamp};

use super::MemoryLedger;
use super::agent_runs::begun;
use super::state::Log;

impl MemoryLedger {
    pub(super) fn append_now(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        let prepared = commit.prepare(&self.limits)?;
        let thread = prepared.thread_id.clone();
        let mut state = self.state();
        // A deleted child keeps its owner: what it took is told after it is gone, too.
        let known = |child: &ThreadId| {
            state.threads.get(child).is_some_and(|log| scope.sees(log.head.owner_id.as_ref()))
        };
        let unknown_child = prepared.child_threads().find(|child| !known(child));
        let new_agent_run = match &prepared.transition {
            Some(Transition::Admit(admission)) => admission.agent_run.as_ref(),
            _ => None,
        };
        // What is judged beyond the thread itself.
        let beyond = match (unknown_child, new_agent_run) {
            (Some(child), _) => Some(Error::not_found(CHILD_THREAD, child)),
            (None, Some(new)) => state.check_new_agent_run(scope, new).err(),
            (None, None) => None,
        };
        let missing = match state.log(scope, &thread) {
            Ok(_) => None,
            // A tombstone or somebody else's thread is never made anew.
            Err(error) if state.threads.contains_key(&thread) => return Err(error),
            Err(error) => match &prepared.create_missing {
                Some(new) => Some(Log::new(new.clone().into_thread(scope)?)),
                None => return Err(error),
            },
        };
        let receipt = match missing {
            Some(mut log) => {
                let receipt = log.append(prepared, beyond)?;
                state.threads.insert(thread.clone(), log);
                receipt
            }
            None => state.log_mut(scope, &thread)?.append(prepared, beyond)?,
        };
        let log = state.log_mut(&Scope::System, &thread)?;
        let last_seq = log.head.next_seq - 1;
        let (begun, ended) = (std::mem::take(&mut log.begun), std::mem::take(&mut log.ended));
        for begun in begun {
            state.agent_runs.insert(begun.agent_run.agent_run_id.clone(), begun);
        }
        for (id, outcome, at) in ended {
            if let Some(stored) = state.agent_runs.get_mut(&id) {
                stored.agent_run.status = AgentRunStatus::of(&outcome);
                stored.agent_run.error = outcome.error;
                stored.agent_run.finished_at = Some(at);
            }
        }
        drop(state);
        self.signal.publish(&thread, last_seq);
        Ok(receipt)
    }
}

impl Log {
    /// Judges everything before it changes anything.
    fn append(&mut self, prepared: Prepared, beyond: Option<Error>) -> Result<Receipt> {
        let mut seqs = Vec::new();
        let mut prepared = prepared;
        let marked = prepared.mark.zip(prepared.run_id.clone());
        if let Some((mark, run)) = &marked
            && let Some(receipt) = self.finished_before(&prepared, run, *mark)?
        {
            return Ok(receipt);
        }
        prepared.require_open(&self.head)?;
        if let Some((mark, run)) = marked {
            self.require_mark(&run, mark)?;
            seqs = self.stored_prefix(&prepared, &run, mark)?;
            let started = self.runs.get(&run).is_some_and(|run| run.status == RunStatus::Running);
            prepared = prepared.without_stored(seqs.len(), started);
        }
        let next_seq = seqs.first().copied().unwrap_or(self.head.next_seq);
        if let Expected::NextSeq(expected) = prepared.expected
            && expected != next_seq
        {
            return Err(Error::conflict("next_seq", expected, next_seq));
        }
        let already_stored = seqs.len();
        self.require_run(&prepared)?;
        if let Some(error) = beyond {
            return Err(error);
        }
        self.require_new_once_keys(&prepared)?;
        self.written_at = Timestamp::now();
        match &prepared.transition {
            Some(Transition::Interrupt { outcome, at, .. }) => {
                if let Some(run) = &prepared.run_id {
                    seqs = self.close(&run.clone(), &outcome.clone(), *at);
                }
            }
            Some(Transition::Admit(admission)) if self.head.active_run_id.is_some() => {
                match admission.multitask_strategy.when_taken() {
                    WhenTaken::Replace(outcome) => {
                        let at = admission.created_at;
                        if let Some(active) = self.head.active_run_id.clone() {
                            self.close(&active, &outcome, at);
                        }
                        seqs = self.store(prepared);
                    }
                    WhenTaken::Wait | WhenTaken::Refuse => self.enqueue(prepared),
                }
            }
            _ => seqs.extend(self.store(prepared)),
        }
        self.promote();
        Ok(Receipt { seqs, already_stored, next_seq: self.head.next_seq, epoch: self.head.epoch })
    }

    /// The answer to a repeated end of the run that the same journal ended.
    fn finished_before(
        &self,
        prepared: &Prepared,
        run: &RunId,
        mark: JournalMark,
    ) -> Result<Option<Receipt>> {
        if !matches!(prepared.transition, Some(Transition::Finish { .. })) {
            return Ok(None);
        }
        let Some(stored) = self.runs.get(run) else { return Ok(None) };
        if !stored.status.is_terminal() || stored.epoch != mark.epoch {
            return Ok(None);
        }
        let seqs = self.seqs_by_ordinal(prepared, run, mark, prepared.events.len())?;
        Ok(seqs.map(|seqs| Receipt {
            already_stored: seqs.len(),
            seqs,
            next_seq: self.head.next_seq,
            epoch: self.head.epoch,
        }))
    }

    fn require_mark(&self, run: &RunId, mark: JournalMark) -> Result<()> {
        if self.head.active_run_id.as_ref() != Some(run) || self.head.epoch != mark.epoch {
            return Err(Error::LeaseLost { run_id: run.to_string(), epoch: mark.epoch });
        }
        if mark.ordinal > self.head.journal_ordinal {
            return Err(Error::conflict("journal ordinal", self.head.journal_ordinal, mark.ordinal));
        }
        Ok(())
    }

    /// The seqs of those events of the commit that an earlier try stored.
    fn stored_prefix(&self, prepared: &Prepared, run: &RunId, mark: JournalMark) -> Result<Vec<u64>> {
        let behind = self.head.journal_ordinal - mark.ordinal;
        let count = prepared.events.len().min(usize::try_from(behind).unwrap_or(usize::MAX));
        self.seqs_by_ordinal(prepared, run, mark, count)?.ok_or_else(|| {
            Error::conflict("journal event", format!("ordinal {}", mark.ordinal), "a deleted event")
        })
    }

    /// The seqs of the first `count` events by their ordinals, each checked to be the same event;
    /// `None` where one is not stored.
    fn seqs_by_ordinal(
        &self,
        prepared: &Prepared,
        run: &RunId,
        mark: JournalMark,
        count: usize,
    ) -> Result<Option<Vec<u64>>> {
        let mut seqs = Vec::with_capacity(count);
        for offset in 0..count {
            let ordinal = mark.ordinal + offset as u64;
            let newest =
                self.events.values().rev().find(|event| {
                    event.run_id.as_ref() == Some(run) && event.journal_ordinal == Some(ordinal)
                });
            let Some(event) = newest else { return Ok(None) };
            prepared.require_same(offset, event)?;
            seqs.push(event.seq);
        }
        Ok(Some(seqs))
    }

    fn require_run(&self, prepared: &Prepared) -> Result<()> {
        let Some(run_id) = &prepared.run_id else { return Ok(()) };
        if let Some(Transition::Admit(admission)) = &prepared.transition {
            if admission.multitask_strategy.when_taken() == WhenTaken::Refuse {
                self.require_idle()?;
            }
            if self.runs.contains_key(run_id) {
                return Err(Error::already_exists("run", run_id));
            }
            return self.require_admissible(admission);
        }
        if let Some(Transition::Fold(fold)) = &prepared.transition {
            fold.require(&self.head, run_id)?;
        }
        let run = self.run(run_id)?;
        prepared.require_begun(&run.status)?;
        if let Some(transition) = &prepared.transition {
            transition.require_from(&run.status)?;
            self.require_lease(run, transition)?;
        }
        Ok(())
    }

    fn require_admissible(&self, admission: &Admission) -> Result<()> {
        for other in [&admission.follow_up_to_run_id, &admission.parent_run_id].into_iter().flatten() {
            self.run(other)?;
        }
        if let Some(key) = &admission.idempotency_key
            && let Some(run) = self.runs.values().find(|run| run.idempotency_key.as_ref() == Some(key))
        {
            return Err(Error::conflict("idempotency_key", "unused", &run.run_id));
        }
        match &admission.answer {
            Some(answer) => self.require_open(&answer.interaction_id),
            None => Ok(()),
        }
    }

    fn require_new_once_keys(&self, prepared: &Prepared) -> Result<()> {
        for key in prepared.events.iter().filter_map(|event| event.once_key.as_deref()) {
            if let Some(event) = self.once(prepared.run_id.as_ref(), key) {
                return Err(Error::conflict("once_key", "unused", format!("used by seq {}", event.seq)));
            }
        }
        Ok(())
    }

    /// The run's event with this once key.
    pub(super) fn once(&self, run: Option<&RunId>, key: &str) -> Option<&Event> {
        self.events
            .values()
            .find(|event| event.run_id.as_ref() == run && event.once_key.as_deref() == Some(key))
    }

    /// Stores a commit that was judged, and gives the seqs of its events.
    pub(super) fn store(&mut self, prepared: Prepared) -> Vec<u64> {
        let base = self.head.next_seq;
        let count = prepared.events.len() as u64;
        self.admit(&prepared);
        if prepared.mark.is_some() {
            self.head.journal_ordinal += count;
        }
        self.head.next_seq += count;
        self.head.message_count += prepared.message_count;
        self.store_usage(&prepared);
        self.store_items(&prepared, base);
        if let Some(run) = prepared.run_id.as_ref().and_then(|id| self.runs.get_mut(id)) {
            run.message_count += prepared.message_count;
            if count > 0 {
                run.first_seq = run.first_seq.or(Some(base));
                run.last_seq = Some(base + count - 1);
            }
            let progress = &prepared.progress;
            run.first_human_message = run.first_human_message.take().or(progress.first_human_message.clone());
            run.last_ai_message = progress.last_ai_message.clone().or(run.last_ai_message.take());
            run.model_name = run.model_name.take().or(progress.model_name.clone());
        }
        self.transit(&prepared);
        self.store_events(prepared, base);
        (base..base + count).collect()
    }

    fn admit(&mut self, prepared: &Prepared) {
        let (Some(Transition::Admit(admission)), Some(run_id)) = (&prepared.transition, &prepared.run_id)
        else {
            return;
        };
        let (run_id, admission) = (run_id.clone(), admission.clone());
        self.open_epoch(&run_id);
        let run = self.new_run(&run_id, &admission);
        if let Some(lease) = &admission.lease {
            self.put_lease(&run_id, lease);
        }
        self.set_thread_status(ThreadStatus::Busy, admission.created_at);
        self.note_admission(&run, &admission);
        self.runs.insert(run_id, Run { status: RunStatus::Pending, epoch: self.head.epoch, ..run });
    }

    /// What an admission stores beside its run.
    pub(super) fn note_admission(&mut self, run: &Run, admission: &Admission) {
        if let Some(answer) = &admission.answer
            && let Some(interaction) = self.interactions.get_mut(&answer.interaction_id)
        {
            interaction.status = InteractionStatus::Answered;
            interaction.answer = Some(answer.value.clone());
            interaction.answer_run_id = Some(run.run_id.clone());
            interaction.answered_at = Some(admission.created_at);
        }
        self.begun.extend(admission.agent_run.iter().map(|new| begun(new, run)));
    }

    /// A run as it is before it gets the slot.
    pub(super) fn new_run(&self, run_id: &RunId, admission: &Admission) -> Run {
        Run {
            thread_id: self.head.thread_id.clone(),
            run_id: run_id.clone(),
            owner_id: self.head.owner_id.clone(),
            assistant_id: admission.assistant_id.clone(),
            status: RunStatus::Queued,
            visibility: Visibility::Shown,
            operation_kind: admission.operation_kind.clone(),
            multitask_strategy: admission.multitask_strategy.clone(),
            queue_no: None,
            idempotency_key: admission.idempotency_key.clone(),
            request_hash: admission.request_hash.clone(),
            model_name: admission.model_name.clone(),
            metadata: admission.metadata.clone(),
            kwargs: admission.kwargs.clone(),
            error: None,
            stop_reason: None,
            follow_up_to_run_id: admission.follow_up_to_run_id.clone(),
            parent_run_id: admission.parent_run_id.clone(),
            agent_run_id: admission.agent_run.as_ref().map(|new| new.agent_run_id.clone()),
            payer_run_id: admission.payer_run_id.clone(),
            epoch: 0,
            totals: RunTotals::default(),
            budget: admission.budget,
            iterations: 0,
            reserved: Estimate::default(),
            allowances: Estimate::default(),
            first_seq: None,
            last_seq: None,
            message_count: 0,
            first_human_message: admission.first_human_message.clone(),
            last_ai_message: None,
            created_at: admission.created_at,
            started_at: None,
            finished_at: None,
            updated_at: admission.created_at,
        }
    }

    /// Gives a run the slot, under a new epoch.
    pub(super) fn open_epoch(&mut self, run: &RunId) {
        self.head.epoch += 1;
        self.head.journal_ordinal = 0;
        self.head.active_run_id = Some(run.clone());
    }

    fn transit(&mut self, prepared: &Prepared) {
        let (Some(transition), Some(run_id)) = (&prepared.transition, &prepared.run_id) else { return };
        let Some(run) = self.runs.get_mut(run_id) else { return };
        match transition {
            Transition::Admit(_) | Transition::Interrupt { .. } => {}
            Transition::Acquire { lease, at } => {
                run.updated_at = *at;
                run.epoch = self.head.epoch + 1;
                let (run_id, lease) = (run_id.clone(), lease.clone());
                self.open_epoch(&run_id);
                self.put_lease(&run_id, &lease);
            }
            Transition::Start { at } => {
                run.status = RunStatus::Running;
                run.started_at = Some(*at);
                run.updated_at = *at;
            }
            Transition::Finish { outcome, asks, at } => {
                let (run_id, outcome) = (run_id.clone(), outcome.clone());
                self.end(&run_id, &outcome, *at);
                for ask in asks {
                    let interaction = ask.clone().into_interaction(
                        self.head.thread_id.clone(),
                        run_id.clone(),
                        self.head.owner_id.clone(),
                        *at,
                    );
                    self.interactions.insert(ask.interaction_id.clone(), interaction);
                }
            }
            Transition::Resume { lease, at, .. } => {
                run.updated_at = *at;
                run.reserved = Estimate::default();
                run.epoch = self.head.epoch + 1;
                let (run_id, lease) = (run_id.clone(), lease.clone());
                self.open_epoch(&run_id);
                self.leases.remove(&run_id);
                if let Some(lease) = &lease {
                    self.put_lease(&run_id, lease);
                }
            }
            Transition::Fold(fold) => {
                let number = self.head.last_compact_seq.unwrap_or(0) + 1;
                let note = self.head.next_seq - 1;
                let thread = self.head.thread_id.clone();
                let compaction =
                    NewCompaction::clone(fold).into_compaction(thread, run_id.clone(), number, note);
                self.head.last_compact_seq = Some(number);
                self.compactions.insert(number, compaction);
            }
        }
    }

    pub(super) fn end(&mut self, run_id: &RunId, outcome: &Outcome, at: Timestamp) {
        let Some(run) = self.runs.get_mut(run_id) else { return };
        run.status = outcome.status.status();
        run.visibility = outcome.visibility();
        run.error = outcome.error.clone();
        run.stop_reason = outcome.stop_reason.clone();
        run.queue_no = None;
        run.reserved = Estimate::default();
        run.allowances = Estimate::default();
        self.ended.extend(run.agent_run_id.clone().map(|id| (id, outcome.clone(), at)));
        run.finished_at = Some(at);
        run.updated_at = at;
        self.leases.remove(run_id);
        self.queued.remove(run_id);
        if self.head.active_run_id.as_ref() == Some(run_id) {
            self.head.active_run_id = None;
            self.head.epoch += 1;
            self.set_thread_status(outcome.thread_status(), at);
        }
    }

    pub(super) fn set_thread_status(&mut self, status: ThreadStatus, at: Timestamp) {
        if let Some(thread) = &mut self.thread {
            thread.status = status;
            thread.updated_at = at;
        }
    }

    /// Stores the model calls and adds them to their runs' totals.
    fn store_usage(&mut self, prepared: &Prepared) {
        for call in &prepared.usage {
            let (run, change, settled) = match self.usage.get_mut(&call.source_id) {
                Some(stored) => match stored.complete(call) {
                    Some(change) => (stored.run_id.clone(), change, Estimate::default()),
                    None => continue,
                },
                None => {
                    let (thread, run) = (prepared.thread_id.clone(), prepared.run_id.clone());
                    let record = call.clone().into_record(thread, run.clone(), self.head.owner_id.clone());
                    self.usage.insert(call.source_id.clone(), record);
                    (run, TotalsChange::of_call(call), prepared.settled_by(call))
                }
            };
            if let Some(run) = run.and_then(|run| self.runs.get_mut(&run)) {
                change.apply(&mut run.totals);
                run.settle(settled, call.settles_for());
            }
        }
    }

    fn store_items(&mut self, prepared: &Prepared, base: u64) {
        let Some(run_id) = &prepared.run_id else { return };
        for change in &prepared.item_changes {
            let mut change = change.clone();
            change.started_seq += base;
            change.updated_seq += base;
            change.completed_seq = change.completed_seq.map(|seq| seq + base);
            let key = (run_id.clone(), change.item_id.clone());
            match self.items.get_mut(&key) {
                Some(entry) => entry.merge(&change),
                None => {
                    self.items.insert(key, ItemEntry::of(&prepared.thread_id, run_id, change));
                }
            }
        }
    }

    fn store_events(&mut self, mut prepared: Prepared, base: u64) {
        for blob in std::mem::take(&mut prepared.blobs) {
            self.blobs.entry(blob.hash).or_insert_with(|| (blob.media_type, blob.bytes.into()));
        }
        for named in std::mem::take(&mut prepared.blob_uses) {
            if self.blobs.contains_key(&named.hash) {
                self.event_blobs.insert((base + named.event as u64, named.hash));
            }
        }
        self.events.extend(prepared.into_events(base).map(|event| (event.seq, event)));
    }
}
