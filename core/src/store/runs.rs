//! Runs, as readers see them, and their leases. Runs are written by [`Ledger::admit`](super::Ledger::admit),
//! by commits, and by [`Ledger::finish`](super::Ledger::finish).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::Contents;
use crate::commit::{Claim, MAX_COST_NANOS, MAX_COUNT};
use crate::record::{
    BudgetLimit, CancelAction, Estimate, Lease, OperationKind, ReservedFor, Run, RunStatus, Visibility,
};
use crate::{Error, ListRange, Page, Result, RunId, Scope, ThreadId, Timestamp, WorkerId};

/// Which runs to list. With a thread, that thread's; without one, all that the scope sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those of this thread; a foreign or missing one is `NotFound`.
    pub thread_id: Option<ThreadId>,
    /// Only these, at most 1,000 of them; none means all.
    pub run_ids: Vec<RunId>,
    /// Only those with this status.
    pub status: Option<RunStatus>,
    /// Only those of this kind.
    pub operation_kind: Option<OperationKind>,
    /// Only those asked for at this time or later.
    pub created_from: Option<Timestamp>,
    /// Only those asked for before this time.
    pub created_before: Option<Timestamp>,
    /// Whether they come with `kwargs` and `metadata`.
    pub contents: Contents,
}

/// Which runs may be taken away from their workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Those whose lease ended longer than this ago, by the database's clock.
    pub grace: Duration,
    /// With a duration: also those without a lease whose thread's log has not grown for that long, by
    /// the clock of whoever wrote last. A start of the only process that works on a database
    /// gives zero; where some workers take no leases, `None` leaves theirs alone.
    pub unleased: Option<Duration>,
}

/// A run that may be taken away from its worker. Whether it still may is judged when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimable {
    /// The run's thread.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// Why.
    pub claim: Claim,
}

/// What a model call, or a sub-agent, wants of its run's budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// What it is expected to use at most.
    pub estimate: Estimate,
    /// What for.
    pub purpose: ReservedFor,
}

impl Reserve {
    /// A model call of the run itself.
    #[must_use]
    pub fn call(estimate: Estimate) -> Self {
        Self { estimate, purpose: ReservedFor::Iteration }
    }

    /// What a sub-agent may use.
    #[must_use]
    pub fn allowance(estimate: Estimate) -> Self {
        Self { estimate, purpose: ReservedFor::SubAgent }
    }

    /// Refuses what no call uses, for those who implement a store.
    pub fn check(&self) -> Result<()> {
        if self.estimate.tokens > MAX_COUNT {
            return Err(Error::invalid("tokens", format!("is above {MAX_COUNT}")));
        }
        if self.estimate.cost_nanos > MAX_COST_NANOS {
            return Err(Error::invalid("cost_nanos", format!("is above {MAX_COST_NANOS}")));
        }
        Ok(())
    }
}

/// The answer of [`RunStore::reserve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The call may be made; its usage record [`settles`](crate::UsageDraft::settles) it. The run is as it is then.
    Granted(Box<Run>),
    /// The budget does not have it, and nothing was reserved.
    Refused(BudgetLimit),
}

/// Refuses an owner's scope where only the system may ask.
pub fn require_system(scope: &Scope) -> Result<()> {
    match scope.owner() {
        Some(_) => {
            Err(Error::invalid("scope", "is an owner's; leases of a worker are the system's business"))
        }
        None => Ok(()),
    }
}

/// Reads runs, hides them, and keeps their leases.
#[async_trait]
pub trait RunStore: fmt::Debug + Send + Sync + 'static {
    /// The run.
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Run>;

    /// The run with this id on any thread the scope sees; of several, the newest.
    async fn find(&self, scope: &Scope, run: &RunId) -> Result<Run>;

    /// The run that was admitted with this key on the thread, if any.
    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> Result<Option<Run>>;

    /// Runs, newest first.
    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> Result<Page<Run>>;

    /// Says whether readers show a run that has ended: `superseded` where a later run took its place,
    /// `rolled_back` where it is undone, `shown` to take that back. `Conflict` while it has not ended.
    async fn set_visibility(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> Result<Run>;

    /// Undoes a run and every later one of the thread: they become `rolled_back`, nothing is
    /// rewritten. Returns those that were shown until now, the oldest first. `Conflict` while a run is active.
    ///
    /// A run that ended in the queue never had the slot: none is later than it, and it is undone alone.
    async fn rewind(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Vec<RunId>>;

    /// Sets aside what a call may use, if the run's budget has it beside what was used and what is set
    /// aside already. `LeaseLost` where the run does not hold the thread's slot under this epoch.
    ///
    /// What was set aside comes back with the usage record that settles it, and when the run ends; for calls also
    /// when the run is [resumed](crate::Transition::Resume), for who made them is gone.
    async fn reserve(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> Result<Reservation>;

    /// Gives back what was set aside for a call that is not made, its iteration included, or for a sub-agent that
    /// is not spawned, so that no usage record settles it. `given` is what was wanted. `LeaseLost` where the run
    /// does not hold the thread's slot under this epoch.
    ///
    /// It is not exactly-once: a release whose answer was lost is not repeated. What is not given back
    /// comes back when the run ends.
    async fn release(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> Result<()>;

    /// The run's lease, if it has one.
    async fn lease(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Option<Lease>>;

    /// Asks the worker that holds a run to stop it. The first action holds; the lease is returned as
    /// it is then. `None` where the run has no lease, because it ended, waits, or was admitted without one.
    async fn request_cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Option<Lease>>;

    /// Extends all leases of a worker to `ttl` from now, by the database's clock, in one statement, and
    /// returns them: what is missing was taken away. For the system only: `InvalidInput` for an owner.
    async fn renew_leases(&self, scope: &Scope, worker: &WorkerId, ttl: Duration) -> Result<Vec<Lease>>;

    /// Runs that may be taken away, at most `limit`, in no particular order. For the system only:
    /// `InvalidInput` for an owner.
    async fn list_claimable(&self, scope: &Scope, sweep: &Sweep, limit: u32) -> Result<Vec<Claimable>>;
}
