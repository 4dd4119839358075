//! Runs that are cancelled, taken over or picked up: the same for every backend, built on commits.

use std::time::Duration;

use super::{Claimable, ItemFilter, Ledger, Sweep};
use crate::commit::{Claim, Commit, Transition};
use crate::record::{CancelAction, ItemEntry, ItemStatus, Lease, NewLease, Outcome, Run, RunStatus};
use crate::{Error, ErrorKind, MAX_LIMIT, Result, RunId, Scope, SeqRange, ThreadId, Timestamp};

/// The answer of [`Ledger::cancel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The worker that holds the run was asked; the lease says what for, which is what was asked first.
    Requested(Box<Lease>),
    /// The run was ended at once, for nobody holds it.
    Ended(Box<Claimed>),
    /// The run had ended before.
    AlreadyEnded(Box<Run>),
}

/// A run that was ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The run as it is stored.
    pub run: Run,
    /// The items that were open when it was ended, tool calls without a result among them.
    pub interrupted: Vec<ItemEntry>,
}

/// The answer of [`Ledger::claim_expired`].
#[derive(Debug, Default)]
pub struct Swept {
    /// The runs that this call ended.
    pub ended: Vec<Claimed>,
    /// The runs that could not be ended, and why. Those that others ended, renewed or deleted
    /// meanwhile are not among them. Where an answer was lost, or the run could not be read after its
    /// end, the end may be stored.
    pub failed: Vec<(Claimable, Error)>,
}

/// How often a run is looked at anew that changes hands while it is cancelled or ended.
pub(super) const LOOKS: u32 = 8;

/// How often a run that was ended is read before its end is told as a failure, and the pause before the
/// second look; each further one is twice as long.
const READS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

impl Ledger {
    /// Asks a run to stop, or ends it where nobody is there to be asked.
    ///
    /// - A run whose worker holds a lease is asked: the worker sees it at its next heartbeat. Of several
    ///   actions the first holds.
    /// - A run that is queued, was admitted without a lease, or whose lease has ended is ended at once; a
    ///   worker that still runs it has lost it.
    pub async fn cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Cancellation> {
        let mut looks = 1;
        loop {
            let stored = self.runs().get(scope, thread, run).await?;
            if stored.status.is_terminal() {
                return Ok(Cancellation::AlreadyEnded(Box::new(stored)));
            }
            let asked = match stored.status {
                RunStatus::Queued => None,
                _ => self.runs().request_cancel(scope, thread, run, action.clone(), at).await?,
            };
            let claim = match &asked {
                Some(_) => Claim::Expired { grace: Duration::ZERO },
                None => Claim::Epoch(stored.epoch),
            };
            let error = match self.interrupt(scope, thread, run, claim, action.outcome(), at).await {
                Ok(claimed) => return Ok(Cancellation::Ended(Box::new(claimed))),
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Conflict {
                return Err(error);
            }
            if let Some(asked) = asked {
                // Somebody holds it.
                let held = self.runs().lease(scope, thread, run).await?;
                if held.is_some_and(|held| held.epoch == asked.epoch) {
                    return Ok(Cancellation::Requested(Box::new(asked)));
                }
            }
            // It started, ended or changed hands between the two looks.
            if looks >= LOOKS {
                return Err(error);
            }
            looks += 1;
        }
    }

    /// Ends a run from outside, as it was asked to if it was asked to stop, else with this outcome.
    /// `Conflict` where the claim does not hold.
    pub async fn interrupt(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        claim: Claim,
        outcome: Outcome,
        at: Timestamp,
    ) -> Result<Claimed> {
        let transition = Some(Transition::Interrupt { outcome, claim, at });
        let commit = Commit { transition, ..Commit::of_run(thread.clone(), run.clone()) };
        let receipt = self.events().append(scope, commit).await?;
        let ended_at = receipt.seqs.first().copied().unwrap_or(u64::MAX);
        // The end is stored, and nobody tells what it closed a second time.
        let mut read = 1;
        loop {
            match self.claimed(scope, thread, run, ended_at).await {
                Err(error) if error.is_retryable() && read < READS => {
                    tokio::time::sleep(PAUSE * (1 << (read - 1))).await;
                    read += 1;
                }
                claimed => return claimed,
            }
        }
    }

    async fn claimed(&self, scope: &Scope, thread: &ThreadId, run: &RunId, ended_at: u64) -> Result<Claimed> {
        let run = self.runs().get(scope, thread, run).await?;
        let interrupted = self.interrupted(scope, &run, ended_at).await?;
        self.fold_after_end(scope, run.agent_run_id.as_ref()).await;
        Ok(Claimed { run, interrupted })
    }

    /// The items of a run that were closed as interrupted from a seq on.
    async fn interrupted(&self, scope: &Scope, run: &Run, from: u64) -> Result<Vec<ItemEntry>> {
        let filter = ItemFilter { run_id: Some(run.run_id.clone()), status: Some(ItemStatus::Interrupted) };
        let mut found = Vec::new();
        let mut range = SeqRange::after(0, MAX_LIMIT);
        loop {
            let page = self.items().list(scope, &run.thread_id, &filter, &range).await?;
            let Some(last) = page.items.last().map(|item| item.started_seq) else { return Ok(found) };
            found.extend(
                page.items.into_iter().filter(|item| item.completed_seq.is_some_and(|seq| seq >= from)),
            );
            if !page.has_more {
                return Ok(found);
            }
            range = SeqRange::after(last, MAX_LIMIT);
        }
    }

    /// Ends the runs whose workers are gone, and tells those that this call ended beside those that it
    /// could not end: one of them keeps no other from being ended. Any number of callers may sweep at
    /// once: each run is ended by one of them. For the system only.
    ///
    /// An error is of the first look for such runs. Where the ledger is away for a later one, what was
    /// done until then is told, and the next sweep goes on.
    pub async fn claim_expired(&self, scope: &Scope, sweep: &Sweep, at: Timestamp) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut claimable = self.runs().list_claimable(scope, sweep, MAX_LIMIT).await?;
        loop {
            let full = claimable.len() >= MAX_LIMIT as usize;
            let before = swept.ended.len();
            for claimable in claimable {
                let known = |(failed, _): &(Claimable, Error)| {
                    failed.thread_id == claimable.thread_id && failed.run_id == claimable.run_id
                };
                if swept.failed.iter().any(known) {
                    continue;
                }
                let error = match self.claim(scope, &claimable, at).await {
                    Ok(claimed) => {
                        swept.ended.extend(claimed);
                        continue;
                    }
                    Err(error) => error,
                };
                // One run that is held up is left behind; a ledger that is away answers for none.
                let away = error.kind() == ErrorKind::Unavailable
                    && self.runs().list_claimable(scope, sweep, 1).await.is_err();
                swept.failed.push((claimable, error));
                if away {
                    return Ok(swept);
                }
            }
            if !full || swept.ended.len() == before {
                return Ok(swept);
            }
            claimable = match self.runs().list_claimable(scope, sweep, MAX_LIMIT).await {
                Ok(claimable) => claimable,
                // What was ended is told by nobody else.
                Err(_) => return Ok(swept),
            };
        }
    }

    /// Ends a run of [`RunStore::list_claimable`](super::RunStore::list_claimable). `None` where it was
    /// renewed, ended, deleted or claimed by another since.
    pub async fn claim(
        &self,
        scope: &Scope,
        claimable: &Claimable,
        at: Timestamp,
    ) -> Result<Option<Claimed>> {
        let Claimable { thread_id, run_id, claim } = claimable;
        let outcome = Outcome::interrupted(Outcome::LEASE_EXPIRED);
        match self.interrupt(scope, thread_id, run_id, *claim, outcome, at).await {
            Ok(claimed) => Ok(Some(claimed)),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an admitted run that nobody has leased (one that was queued, say) to a worker, under a
    /// new epoch. `Conflict` where it has started or somebody holds it.
    pub async fn acquire(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        lease: NewLease,
        at: Timestamp,
    ) -> Result<Run> {
        let transition = Some(Transition::Acquire { lease, at });
        let commit = Commit { transition, ..Commit::of_run(thread.clone(), run.clone()) };
        let epoch = self.events().append(scope, commit).await?.epoch;
        // Read anew, because another may have ended it since; under which epoch it was acquired is certain.
        Ok(Run { epoch, ..self.runs().get(scope, thread, run).await? })
    }
}
