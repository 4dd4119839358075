//! What goes on beside the runs: heartbeats, and sweeps for runs of processes that are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use runledger_core::{Claim, ErrorKind, Lease, Outcome, Scope, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::held::{Key, StopReason};
use super::{Shared, managed};

/// Renews the leases of this process until it is told to stop.
pub(super) async fn renew(shared: Arc<Shared>) {
    let mut beat = interval(shared.settings.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut strangers = HashSet::new();
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = beat.tick() => strangers = heartbeat(&shared, strangers).await,
        }
    }
}

/// Looks for spool files and runs that nobody works on until it is told to stop.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let mut look = interval(shared.settings.sweep_every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is at once, and the start has just looked.
    look.tick().await;
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = look.tick() => {
                if let Err(error) = shared.recover().await {
                    tracing::warn!(%error, "the spool could not be recovered; it is tried again");
                }
                if let Err(error) = shared.sweep().await {
                    tracing::warn!(%error, "a look for runs without a worker failed; the next one is soon");
                }
            }
        }
    }
}

/// One statement for all runs of this process, asked for though none are known: the answer to an
/// admission may have been lost. Gives the leases that nobody here knows.
async fn heartbeat(shared: &Shared, strangers: HashSet<Key>) -> HashSet<Key> {
    // Before the statement: a run that is admitted meanwhile may or may not be in the answer.
    let held = shared.registry.all();
    let asked = Instant::now();
    let (worker, ttl) = (&shared.settings.worker_id, shared.settings.lease);
    let answer = timeout(ttl, shared.ledger.runs().renew_leases(&Scope::System, worker, ttl)).await;
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
            return strangers;
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
    unknown(shared, leases, &strangers).await
}

/// Ends the runs under a lease of this process that nothing in it knows, seen by two heartbeats: those
/// whose admission was answered to nobody. Otherwise they would be renewed for ever.
async fn unknown(shared: &Shared, leases: HashMap<Key, Lease>, seen: &HashSet<Key>) -> HashSet<Key> {
    let mut left = HashSet::new();
    for (key, lease) in leases {
        if shared.registry.expects(&key) || shared.registry.get(&key.0, &key.1).is_some() {
            continue;
        }
        if !seen.contains(&key) {
            left.insert(key);
            continue;
        }
        let outcome = lease
            .cancel_action
            .map_or_else(|| Outcome::interrupted(managed::ABANDONED), |action| action.outcome());
        let claim = Claim::Epoch(lease.epoch);
        let (thread, run) = (&key.0, &key.1);
        let ended = shared.ledger.interrupt(&Scope::System, thread, run, claim, outcome, Timestamp::now());
        match ended.await {
            Ok(_) => tracing::warn!(%thread, %run, "ended a run of this worker that nobody received"),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => {
                tracing::warn!(%thread, %run, %error, "a run that nobody received could not be ended");
                left.insert(key);
            }
        }
    }
    left
}
