//! Which runs this process holds.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use runledger_core::{CancelAction, Claim, Claimable, Run, RunId, ThreadId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::report::Report;

/// Why a run's cancel token was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody asked for it. The run ends as asked, whatever outcome it is finished with.
    Cancelled(CancelAction),
    /// The run was taken away: what it still writes is refused.
    LeaseLost,
    /// The ledger could not be reached for as long as was set.
    Silence,
    /// The process is shutting down.
    Shutdown,
}

impl StopReason {
    /// What a lease says of a cancellation.
    pub(super) fn of(action: Option<CancelAction>) -> Self {
        Self::Cancelled(action.unwrap_or(CancelAction::Interrupt))
    }
}

/// A run that this process holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) thread_id: ThreadId,
    pub(super) run_id: RunId,
    pub(super) epoch: u64,
    pub(super) token: CancellationToken,
    stopped: OnceLock<StopReason>,
    /// The spool file in which the run's end waits, once its journal is closed.
    file: OnceLock<PathBuf>,
    /// When the ledger last said that the run is this process's.
    confirmed: Mutex<Instant>,
}

impl Held {
    pub(super) fn new(run: &Run) -> Self {
        Self {
            thread_id: run.thread_id.clone(),
            run_id: run.run_id.clone(),
            epoch: run.epoch,
            token: CancellationToken::new(),
            stopped: OnceLock::new(),
            file: OnceLock::new(),
            confirmed: Mutex::new(Instant::now()),
        }
    }

    /// Tells the run to stop; the first reason holds.
    pub(super) fn stop(&self, reason: StopReason) {
        // Before the token, so that whoever it wakes finds the reason.
        let _ = self.stopped.set(reason);
        self.token.cancel();
    }

    /// Why it is to stop. Its journal cancels the token by itself when a write of it is refused.
    pub(super) fn stopped(&self) -> Option<StopReason> {
        match self.stopped.get() {
            Some(reason) => Some(reason.clone()),
            None => self.token.is_cancelled().then_some(StopReason::LeaseLost),
        }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.get().map(PathBuf::as_path)
    }

    pub(super) fn confirm(&self, at: Instant) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// A thread's run.
pub(super) type Key = (ThreadId, RunId);

/// How much longer than others a run is left alone of which records wait in a spool file. Not for
/// ever: who holds the file may hang.
const DRAINS: u64 = 10;

/// The runs that this process holds, one for each thread, and those it may come to hold any moment.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    emptied: Notify,
    expected: Arc<Mutex<HashSet<Key>>>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<ThreadId, Arc<Held>>,
    /// Runs whose leases have ended, and since which heartbeat every look saw them so.
    absent: HashMap<Key, u64>,
    /// Runs of which records are in spool files that the last recovery had to leave.
    spooled: HashSet<Key>,
    /// Runs that this process may have resumed and whose journals are not open, and at which heartbeat it
    /// asked for them.
    resuming: HashMap<Key, u64>,
    /// How many heartbeats the ledger answered.
    beats: u64,
    /// Whether the process is shutting down.
    stopping: bool,
}

/// Keeps a run from being taken for one that nobody in this process knows.
#[derive(Debug)]
pub(super) struct Expected {
    expected: Arc<Mutex<HashSet<Key>>>,
    key: Key,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a lease of this run is to be expected until the answer is dropped.
    pub(super) fn expect(&self, thread: &ThreadId, run: &RunId) -> Expected {
        let key = (thread.clone(), run.clone());
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        Expected { expected: Arc::clone(&self.expected), key }
    }

    /// The same, unless it is expected already.
    pub(super) fn expect_alone(&self, thread: &ThreadId, run: &RunId) -> Option<Expected> {
        let key = (thread.clone(), run.clone());
        let first = self.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        first.then(|| Expected { expected: Arc::clone(&self.expected), key })
    }

    /// Says that this process asks for a run that it is to resume, until its journal is open or it is certain
    /// that the run is not this process's.
    pub(super) fn begin_resume(&self, thread: &ThreadId, run: &RunId) {
        let mut state = self.state();
        let beats = state.beats;
        state.resuming.insert((thread.clone(), run.clone()), beats);
    }

    pub(super) fn end_resume(&self, thread: &ThreadId, run: &RunId) {
        self.state().resuming.remove(&(thread.clone(), run.clone()));
    }

    /// Whether this process resumed the run, as far as it knows, and could not open its journal.
    pub(super) fn resumes(&self, thread: &ThreadId, run: &RunId) -> bool {
        self.state().resuming.contains_key(&(thread.clone(), run.clone()))
    }

    /// Forgets runs that were asked for and whose lease `beats` heartbeats have not seen: others have them.
    pub(super) fn forget_resumed(&self, leased: impl Fn(&Key) -> bool, beats: u64) {
        let mut state = self.state();
        let now = state.beats;
        state.resuming.retain(|key, since| leased(key) || now.saturating_sub(*since) < beats);
    }

    /// Whether the last recovery left records of the run in a spool file.
    pub(super) fn is_spooled(&self, thread: &ThreadId, run: &RunId) -> bool {
        self.state().spooled.contains(&(thread.clone(), run.clone()))
    }

    pub(super) fn expects(&self, key: &Key) -> bool {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Holds a run, unless its thread has a newer one by now: who was admitted first need not be here
    /// first. The older of the two has lost its slot and is told so.
    pub(super) fn insert(&self, held: &Arc<Held>) {
        let mut state = self.state();
        let stopping = state.stopping;
        let older = match state.held.get(&held.thread_id) {
            Some(known) if known.epoch > held.epoch => Some(Arc::clone(held)),
            _ => state.held.insert(held.thread_id.clone(), Arc::clone(held)),
        };
        drop(state);
        if let Some(older) = older {
            older.stop(StopReason::LeaseLost);
        }
        if stopping {
            held.stop(StopReason::Shutdown);
        }
    }

    /// Tells all runs to stop, and those that come.
    pub(super) fn stop_all(&self) {
        self.state().stopping = true;
        for held in self.all() {
            held.stop(StopReason::Shutdown);
        }
    }

    /// Notes that the ledger answered a heartbeat.
    pub(super) fn beat(&self) {
        self.state().beats += 1;
    }

    /// Notes which runs have records in spool files that could not be stored now.
    pub(super) fn see_spooled(&self, spooled: HashSet<Key>) {
        self.state().spooled = spooled;
    }

    /// Notes which runs were seen without their workers just now, and gives those that every look saw
    /// so during so many heartbeats. What this process holds is not without its worker.
    pub(super) fn see_absent(&self, seen: Vec<Claimable>, beats: u64) -> Vec<Claimable> {
        let mut state = self.state();
        let State { held, absent, spooled, beats: now, .. } = &mut *state;
        let before = std::mem::take(absent);
        let mut due = Vec::new();
        for claimable in seen {
            let key = (claimable.thread_id.clone(), claimable.run_id.clone());
            if held.get(&key.0).is_some_and(|held| held.run_id == key.1) {
                continue;
            }
            let since = before.get(&key).copied().unwrap_or(*now);
            let patience = if spooled.contains(&key) {
                beats.saturating_mul(DRAINS)
            } else if claimable.claim == (Claim::Unleased { idle: Duration::ZERO }) {
                // Nobody is waited for where the settings say that nobody else is there.
                0
            } else {
                beats
            };
            absent.insert(key, since);
            if *now - since >= patience {
                due.push(claimable);
            }
        }
        due
    }

    pub(super) fn get(&self, thread: &ThreadId, run: &RunId) -> Option<Arc<Held>> {
        self.state().held.get(thread).filter(|held| held.run_id == *run).cloned()
    }

    /// Forgets a run, unless another one of its thread took its place.
    pub(super) fn remove(&self, held: &Arc<Held>) {
        let mut state = self.state();
        if state.held.get(&held.thread_id).is_some_and(|known| Arc::ptr_eq(known, held)) {
            state.held.remove(&held.thread_id);
            if state.held.is_empty() {
                state.held.shrink_to_fit();
                self.emptied.notify_waiters();
            }
        }
    }

    /// Lets go of a run whose journal is closed, unless a recovery is to store its end: what has no end
    /// anywhere is ended for having no worker.
    pub(super) fn close(&self, held: &Arc<Held>, report: Option<&Report>) {
        match report.filter(|report| report.end_in_spool).and_then(|report| report.spool_file.clone()) {
            // It is closed once.
            Some(file) => drop(held.file.set(file)),
            None => self.remove(held),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        self.state().held.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.state().held.len()
    }

    /// Returns when nothing is held.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{MemoryLedger, MultitaskStrategy, NewRun, NewThread, Scope};

    #[tokio::test]
    async fn of_two_runs_of_a_thread_the_newer_is_held_whichever_comes_first() {
        let ledger = MemoryLedger::new().ledger();
        let thread = ThreadId::new("t").unwrap();
        let mut runs = Vec::new();
        for name in ["older", "newer"] {
            let mut new = NewRun::new(thread.clone(), RunId::new(name).unwrap());
            new.create_missing = Some(NewThread::new(thread.clone()));
            new.admission.multitask_strategy = MultitaskStrategy::Interrupt;
            runs.push(ledger.admit(&Scope::System, new).await.unwrap().run);
        }
        for order in [[0, 1], [1, 0]] {
            let registry = Registry::default();
            let held: Vec<_> = runs.iter().map(|run| Arc::new(Held::new(run))).collect();
            order.iter().for_each(|at| registry.insert(&held[*at]));
            let stopped: Vec<_> = held.iter().map(|held| held.stopped()).collect();
            assert_eq!(stopped, [Some(StopReason::LeaseLost), None], "{order:?}");
            assert_eq!(registry.get(&thread, &runs[0].run_id).is_some(), false);
            assert_eq!(registry.get(&thread, &runs[1].run_id).is_some(), true);
        }
    }
}
