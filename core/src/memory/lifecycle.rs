//! Runs that wait, are taken over or hidden, and their leases.

use std::time::Duration;

use crate::commit::{Claim, Prepared, Transition, check_ttl};
use crate::record::{
    CancelAction, Event, ItemStatus, Lease, NewLease, Outcome, Run, RunStatus, ThreadStatus, Visibility,
};
use crate::store::{Claimable, ClaimedItem, Reservation, Reserve, Sweep, require_system};
use crate::{Error, ItemId, Result, RunId, Scope, ThreadId, Timestamp, WorkerId};

use super::MemoryLedger;
use super::state::Log;

impl Log {
    /// What a step asks of the run's lease.
    pub(super) fn require_lease(&self, run: &Run, transition: &Transition) -> Result<()> {
        let lease = self.leases.get(&run.run_id);
        match transition {
            Transition::Acquire { .. } => match lease {
                Some(lease) => Err(Error::conflict("lease", "none", &lease.worker_id)),
                None => Ok(()),
            },
            Transition::Finish { outcome, asks, .. } => {
                match lease.and_then(|lease| lease.cancel_action.as_ref()) {
                    Some(action) if action.outcome() != *outcome => {
                        Err(Error::Cancelled { run_id: run.run_id.to_string() })
                    }
                    _ => self.require_unasked(asks),
                }
            }
            // Its next holder would not know that it is to stop.
            Transition::Resume { .. } if lease.is_some_and(|lease| lease.cancel_action.is_some()) => {
                Err(Error::Cancelled { run_id: run.run_id.to_string() })
            }
            Transition::Resume { claim, .. } => self.require_claim(run, lease, *claim),
            Transition::Interrupt { claim, .. } if run.status != RunStatus::Queued => {
                self.require_claim(run, lease, *claim)
            }
            _ => Ok(()),
        }
    }

    fn require_claim(&self, run: &Run, lease: Option<&Lease>, claim: Claim) -> Result<()> {
        let now = Timestamp::now();
        match (claim, lease) {
            (Claim::Epoch(epoch), _) if epoch == run.epoch => Ok(()),
            (Claim::Epoch(epoch), _) => Err(Error::conflict("epoch", epoch, run.epoch)),
            (Claim::Expired { grace }, Some(lease)) if lease.expires_at.after(grace) < now => Ok(()),
            (Claim::Expired { .. }, Some(lease)) => {
                Err(Error::conflict("lease", "expired", &lease.worker_id))
            }
            (Claim::Expired { .. }, None) => Err(Error::conflict("lease", "expired", "none")),
            (Claim::Unleased { .. }, Some(lease)) => Err(Error::conflict("lease", "none", &lease.worker_id)),
            (Claim::Unleased { idle }, None) if self.written_at.after(idle) <= now => Ok(()),
            (Claim::Unleased { .. }, None) => Err(Error::conflict("log", "idle", "written to")),
        }
    }

    pub(super) fn put_lease(&mut self, run: &RunId, lease: &NewLease) {
        let lease = Lease {
            thread_id: self.head.thread_id.clone(),
            run_id: run.clone(),
            worker_id: lease.worker_id.clone(),
            epoch: self.head.epoch,
            expires_at: Timestamp::now().after(lease.ttl),
            cancel_action: None,
            cancel_requested_at: None,
        };
        self.leases.insert(run.clone(), lease);
    }

    /// Stores a run that has to wait.
    pub(super) fn enqueue(&mut self, prepared: Prepared) {
        let (Some(Transition::Admit(admission)), Some(run_id)) = (&prepared.transition, &prepared.run_id)
        else {
            return;
        };
        let last = self.runs.values().filter_map(|run| run.queue_no).max().unwrap_or(0);
        let run = Run { queue_no: Some(last + 1), ..self.new_run(run_id, admission) };
        self.note_admission(&run, admission);
        self.runs.insert(run_id.clone(), run);
        let lease = admission.lease.clone();
        self.queued.insert(run_id.clone(), (prepared.events, lease));
    }

    /// Gives the free slot to the run that waits longest.
    pub(super) fn promote(&mut self) {
        if self.head.active_run_id.is_some() {
            return;
        }
        let waiting = self.runs.values().filter(|run| run.status == RunStatus::Queued);
        let Some(run_id) = waiting.min_by_key(|run| run.queue_no).map(|run| run.run_id.clone()) else {
            return;
        };
        self.open_epoch(&run_id);
        let at = self.thread.as_ref().map_or_else(Timestamp::now, |thread| thread.updated_at);
        if let Some(run) = self.runs.get_mut(&run_id) {
            run.status = RunStatus::Pending;
            run.queue_no = None;
            run.epoch = self.head.epoch;
            run.updated_at = at;
        }
        self.set_thread_status(ThreadStatus::Busy, at);
        let (input, lease) = self.queued.remove(&run_id).unwrap_or_default();
        if let Some(lease) = &lease {
            self.put_lease(&run_id, lease);
        }
        self.store(Prepared::input(&self.head.thread_id.clone(), &run_id, input));
    }

    /// Ends a run whose journal does not, as it was asked to if it was, and gives the seqs of the events
    /// that say so.
    pub(super) fn close(&mut self, run: &RunId, outcome: &Outcome, at: Timestamp) -> Vec<u64> {
        let asked = self.leases.get(run).and_then(|lease| lease.cancel_action.as_ref());
        let asked = asked.map(CancelAction::outcome);
        let outcome = asked.as_ref().unwrap_or(outcome);
        let mut open: Vec<u64> = self
            .items
            .values()
            .filter(|item| item.run_id == *run && item.status == ItemStatus::InProgress)
            .map(|item| item.started_seq)
            .collect();
        open.sort_unstable();
        let started: Vec<Event> = open.iter().filter_map(|seq| self.events.get(seq).cloned()).collect();
        let closing = Prepared::closing(&self.head.thread_id.clone(), run, &started, outcome, at);
        let seqs = self.store(closing);
        self.end(run, outcome, at);
        seqs
    }
}

impl MemoryLedger {
    pub(super) fn set_visibility_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> Result<Run> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let stored = log.runs.get_mut(run).ok_or_else(|| Error::not_found("run", run))?;
        if !stored.status.is_terminal() {
            return Err(Error::conflict("run status", "an ended run", &stored.status));
        }
        stored.visibility = visibility;
        Ok(stored.clone())
    }

    pub(super) fn rewind_now(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Vec<RunId>> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        log.require_idle()?;
        let from = log.run(run)?.epoch;
        let undone = |other: &Run| other.run_id == *run || from > 0 && other.epoch >= from;
        let mut undone: Vec<&mut Run> = log
            .runs
            .values_mut()
            .filter(|other| undone(other) && other.visibility == Visibility::Shown)
            .collect();
        undone.sort_by_key(|run| run.epoch);
        Ok(undone
            .into_iter()
            .map(|run| {
                run.visibility = Visibility::RolledBack;
                run.run_id.clone()
            })
            .collect())
    }

    pub(super) fn lease_now(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Option<Lease>> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        log.run(run)?;
        Ok(log.leases.get(run).cloned())
    }

    pub(super) fn reserve_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> Result<Reservation> {
        wanted.check()?;
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        log.run(run)?;
        log.head.require_held(run, epoch)?;
        let Some(stored) = log.runs.get_mut(run) else { return Err(Error::not_found("run", run)) };
        match stored.reserve(wanted.estimate, wanted.purpose) {
            Some(limit) => Ok(Reservation::Refused(limit)),
            None => Ok(Reservation::Granted(Box::new(stored.clone()))),
        }
    }

    pub(super) fn release_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> Result<()> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        log.run(run)?;
        log.head.require_held(run, epoch)?;
        if let Some(stored) = log.runs.get_mut(run) {
            stored.release(given.estimate, given.purpose);
        }
        Ok(())
    }

    pub(super) fn claim_item_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let key = (run.clone(), item.clone());
        if !log.items.contains_key(&key) {
            return Err(Error::not_found("item", item));
        }
        log.head.require_held(run, epoch)?;
        let Some(entry) = log.items.get_mut(&key) else { return Err(Error::not_found("item", item)) };
        let claimed_before = entry.claim(epoch)?;
        Ok(ClaimedItem { item: entry.clone(), claimed_before })
    }

    pub(super) fn request_cancel_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Option<Lease>> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        log.run(run)?;
        let Some(lease) = log.leases.get_mut(run) else { return Ok(None) };
        if lease.cancel_action.is_none() {
            lease.cancel_action = Some(action);
            lease.cancel_requested_at = Some(at);
        }
        Ok(Some(lease.clone()))
    }

    pub(super) fn renew_leases_now(
        &self,
        scope: &Scope,
        worker: &WorkerId,
        ttl: Duration,
    ) -> Result<Vec<Lease>> {
        require_system(scope)?;
        check_ttl(ttl)?;
        let expires_at = Timestamp::now().after(ttl);
        let mut state = self.state();
        let leases = state.threads.values_mut().flat_map(|log| log.leases.values_mut());
        Ok(leases
            .filter(|lease| lease.worker_id == *worker)
            .map(|lease| {
                lease.expires_at = expires_at;
                lease.clone()
            })
            .collect())
    }

    pub(super) fn list_claimable_now(
        &self,
        scope: &Scope,
        sweep: &Sweep,
        limit: u32,
    ) -> Result<Vec<Claimable>> {
        require_system(scope)?;
        let limit = crate::ListRange::newest(limit).checked_limit()?;
        let state = self.state();
        let claims = state.threads.values().filter_map(|log| {
            let run = log.runs.get(log.head.active_run_id.as_ref()?)?;
            let lease = log.leases.get(&run.run_id);
            let claim = match (lease, sweep.unleased) {
                (Some(_), _) => Claim::Expired { grace: sweep.grace },
                (None, Some(idle)) => Claim::Unleased { idle },
                (None, None) => return None,
            };
            log.require_claim(run, lease, claim).ok()?;
            Some(Claimable { thread_id: run.thread_id.clone(), run_id: run.run_id.clone(), claim })
        });
        Ok(claims.take(limit as usize).collect())
    }
}
