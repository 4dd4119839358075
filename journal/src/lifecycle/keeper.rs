//! What goes on beside the runs: heartbeats, and sweeps for runs of processes that are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use runledger_core::{
    Claim, ErrorKind, Lease, MAX_LIMIT, NewLease, Outcome, Result, Scope, Timestamp, WorkerId,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::held::{Key, StopReason};
use super::{Shared, managed};

/// Renews the leases of this process until it is told to stop.
pub(super) async fn renew(shared: Arc<Shared>) {
    let mut beat = interval(shared.settings.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut strangers = Strangers::default();
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = beat.tick() => heartbeat(&shared, &mut strangers).await,
        }
    }
}

/// Looks for spool files, runs that nobody works on and threads that have served until it is told to stop.
pub(super) async fn sweep(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = sleep(shared.settings.sweep_every) => {
                if let Err(error) = shared.recover().await {
                    tracing::warn!(%error, "the spool could not be recovered; it is tried again");
                }
                if let Err(error) = shared.sweep().await {
                    tracing::warn!(%error, "a look for runs without a worker failed; the next one is soon");
                }
                shared.fold_ended().await;
                if let Err(error) = discard(&shared).await {
                    tracing::warn!(%error, "threads that have served could not be deleted; the next look is soon");
                }
            }
        }
    }
}

/// How long ephemeral threads are left that have served: whoever ended the run deletes them at once.
const SPENT: Duration = Duration::from_secs(60);

/// Deletes ephemeral threads whose runs succeeded, wherever that was.
async fn discard(shared: &Shared) -> Result<()> {
    if !shared.ledger.capabilities().sessions {
        return Ok(());
    }
    for thread_id in shared.ledger.discard_spent(&Scope::System, SPENT, MAX_LIMIT).await? {
        tracing::debug!(%thread_id, "deleted an ephemeral thread whose run succeeded");
    }
    Ok(())
}

/// One statement for all runs of this process, asked for though none are known: the answer to an
/// admission may have been lost.
async fn heartbeat(shared: &Arc<Shared>, strangers: &mut Strangers) {
    // Before the statement: a run that is admitted meanwhile may or may not be in the answer.
    let held = shared.registry.all();
    let asked = Instant::now();
    let (worker, ttl) = (&shared.settings.worker_id, shared.settings.lease);
    // Another try must fit into the lease.
    let answer = timeout(ttl / 2, shared.ledger.runs().renew_leases(&Scope::System, worker, ttl)).await;
    let leases = match answer {
        Ok(Ok(leases)) => leases,
        failed => {
            match failed {
                Ok(Err(error)) => tracing::warn!(%error, runs = held.len(), "leases could not be renewed"),
                _ => tracing::warn!(runs = held.len(), "leases could not be renewed in time"),
            }
            let silence = shared.settings.stop_after_silence;
            for held in held.iter().filter(|held| silence.is_some_and(|most| held.silent_for() >= most)) {
                held.stop(StopReason::Silence);
            }
            return;
        }
    };
    shared.registry.beat();
    let mut leases: HashMap<Key, Lease> =
        leases.into_iter().map(|lease| ((lease.thread_id.clone(), lease.run_id.clone()), lease)).collect();
    for held in held {
        match leases.remove(&(held.thread_id.clone(), held.run_id.clone())) {
            Some(lease) if lease.epoch == held.epoch => {
                held.confirm(asked);
                if let Some(action) = lease.cancel_action {
                    held.stop(StopReason::Cancelled(action));
                }
            }
            // Ended, or taken away; what of it is still to be written is told by the ledger.
            _ => {
                held.stop(StopReason::LeaseLost);
                shared.registry.remove(&held);
            }
        }
    }
    strangers.see(shared, leases);
}

/// The leases of this process that nothing in it knows.
#[derive(Debug, Default)]
struct Strangers {
    /// What the last heartbeat saw of them.
    seen: HashSet<Key>,
    /// What ends those that two heartbeats saw. No heartbeat waits for it.
    ending: Option<JoinHandle<()>>,
}

impl Strangers {
    /// Ends the runs that two heartbeats saw and nobody knows: those whose admission was answered to
    /// nobody. Otherwise they would be renewed for ever. Those that were resumed and could not be opened are
    /// let go.
    fn see(&mut self, shared: &Arc<Shared>, leases: HashMap<Key, Lease>) {
        shared.registry.forget_resumed(|key| leases.contains_key(key), shared.settings.beats());
        let unknown = leases.into_iter().filter(|(key, _)| !is_known(shared, key));
        let unknown: HashMap<Key, Lease> = unknown.collect();
        let now: HashSet<Key> = unknown.keys().cloned().collect();
        let before = std::mem::replace(&mut self.seen, now);
        let twice: Vec<Lease> =
            unknown.into_iter().filter(|(key, _)| before.contains(key)).map(|(_, lease)| lease).collect();
        if !twice.is_empty() && self.ending.as_ref().is_none_or(JoinHandle::is_finished) {
            self.ending = Some(shared.runtime.spawn(end(Arc::clone(shared), twice)));
        }
    }
}

fn is_known(shared: &Shared, key: &Key) -> bool {
    shared.registry.expects(key) || shared.registry.get(&key.0, &key.1).is_some()
}

async fn end(shared: Arc<Shared>, strangers: Vec<Lease>) {
    for lease in strangers {
        if lease.cancel_action.is_none() && shared.registry.resumes(&lease.thread_id, &lease.run_id) {
            let_go(&shared, &lease).await;
            continue;
        }
        let (thread, run) = (lease.thread_id, lease.run_id);
        let outcome = lease
            .cancel_action
            .map_or_else(|| Outcome::interrupted(managed::ABANDONED), |action| action.outcome());
        let claim = Claim::Epoch(lease.epoch);
        let ended = shared.ledger.interrupt(&Scope::System, &thread, &run, claim, outcome, Timestamp::now());
        match ended.await {
            Ok(_) => tracing::warn!(%thread, %run, "ended a run of this worker that nobody received"),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
            // The next heartbeat sees it again.
            Err(error) => {
                tracing::warn!(%thread, %run, %error, "a run that nobody received could not be ended")
            }
        }
    }
}

/// The shortest lease that there is.
const OVER: Duration = Duration::from_micros(1);

/// Lets go of a run that this process resumed and could not open: it gets an epoch of nobody, whose lease is over,
/// and becomes of it what becomes of any run whose worker is gone.
async fn let_go(shared: &Shared, lease: &Lease) {
    let (thread, run) = (&lease.thread_id, &lease.run_id);
    let nobody = NewLease { worker_id: WorkerId::generate(), ttl: OVER };
    let claim = Claim::Epoch(lease.epoch);
    let at = Timestamp::now();
    match shared.ledger.resume_run(&Scope::System, thread, run, claim, Some(nobody), at).await {
        Ok(_) => {
            tracing::warn!(%thread, %run, "let go of a run that was resumed and could not be read");
            shared.registry.end_resume(thread, run);
        }
        // The next heartbeat sees it again, if it is still this process's.
        Err(error) => tracing::warn!(%thread, %run, %error, "a run that could not be read is still held"),
    }
}
