//! Calls between whose steps something else happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should end there")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, Applied, CancelAction, Claim, Claimable, Error, EventDraft, Finish, JournalMark, Lease,
    Ledger, ListRange, MemoryLedger, NewLease, NewRun, NewThread, Outcome, Page, Reservation, Reserve,
    Result, Run, RunFilter, RunId, RunProgress, RunStatus, RunStore, Scope, Stores, Sweep, ThreadId,
    Timestamp, Visibility, WorkerId,
};

/// The runs of a ledger, of which those on the thread `b` cannot be read so many times, and one is ended
/// from outside when its lease is looked at.
#[derive(Debug)]
struct Disturbed {
    inner: MemoryLedger,
    refusals: AtomicU32,
    refusal: fn() -> Error,
    ends: bool,
    acquires: bool,
}

#[async_trait]
impl RunStore for Disturbed {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Run> {
        if self.acquires {
            let lease = NewLease { worker_id: WorkerId::new("w").unwrap(), ttl: Duration::from_secs(60) };
            self.inner.ledger().acquire(scope, thread, run, lease, Timestamp::now()).await?;
        }
        let take = |left: u32| left.checked_sub(1);
        if thread.as_str() == "b"
            && self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        {
            return Err((self.refusal)());
        }
        RunStore::get(&self.inner, scope, thread, run).await
    }

    async fn find(&self, scope: &Scope, run: &RunId) -> Result<Run> {
        self.inner.find(scope, run).await
    }

    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> Result<Option<Run>> {
        self.inner.find_by_idempotency_key(scope, thread, key).await
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> Result<Page<Run>> {
        RunStore::list(&self.inner, scope, filter, range).await
    }

    async fn set_visibility(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> Result<Run> {
        self.inner.set_visibility(scope, thread, run, visibility).await
    }

    async fn rewind(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Vec<RunId>> {
        self.inner.rewind(scope, thread, run).await
    }

    async fn reserve(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> Result<Reservation> {
        self.inner.reserve(scope, thread, run, epoch, wanted).await
    }

    async fn release(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> Result<()> {
        self.inner.release(scope, thread, run, epoch, given).await
    }

    async fn lease(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Option<Lease>> {
        if self.ends {
            let held = self.inner.lease(scope, thread, run).await?;
            let claim = Claim::Epoch(held.unwrap().epoch);
            let (ledger, outcome) = (self.inner.ledger(), Outcome::interrupted(Outcome::LEASE_EXPIRED));
            ledger.interrupt(scope, thread, run, claim, outcome, Timestamp::now()).await?;
        }
        self.inner.lease(scope, thread, run).await
    }

    async fn request_cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Option<Lease>> {
        self.inner.request_cancel(scope, thread, run, action, at).await
    }

    async fn renew_leases(&self, scope: &Scope, worker: &WorkerId, ttl: Duration) -> Result<Vec<Lease>> {
        self.inner.renew_leases(scope, worker, ttl).await
    }

    async fn list_claimable(&self, scope: &Scope, sweep: &Sweep, limit: u32) -> Result<Vec<Claimable>> {
        self.inner.list_claimable(scope, sweep, limit).await
    }
}

/// Three runs whose leases have ended, on the threads `a`, `b` and `c`.
async fn scene(refusals: u32, refusal: fn() -> Error) -> Ledger {
    let inner = MemoryLedger::new();
    let runs = Disturbed {
        inner: inner.clone(),
        refusals: AtomicU32::new(0),
        refusal,
        ends: false,
        acquires: false,
    };
    for name in ["a", "b", "c"] {
        let thread = ThreadId::new(name).unwrap();
        let ledger = inner.ledger();
        ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await.unwrap();
        let lease = NewLease { worker_id: WorkerId::new("w").unwrap(), ttl: Duration::from_micros(1) };
        let admission = Admission { lease: Some(lease), ..Admission::default() };
        let new = NewRun { admission, ..NewRun::new(thread, RunId::new("r").unwrap()) };
        ledger.admit(&Scope::System, new).await.unwrap();
    }
    runs.refusals.store(refusals, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ledger::new(Stores { runs: Arc::new(runs), ..Stores::all(Arc::new(inner.clone())) })
}

async fn sweep(ledger: &Ledger) -> (Vec<String>, Vec<String>) {
    let sweep = Sweep { grace: Duration::ZERO, unleased: None };
    let swept = ledger.claim_expired(&Scope::System, &sweep, Timestamp::now()).await.unwrap();
    let mut ended: Vec<_> = swept.ended.iter().map(|claimed| claimed.run.thread_id.to_string()).collect();
    ended.sort();
    (ended, swept.failed.iter().map(|(failed, _)| failed.thread_id.to_string()).collect())
}

#[tokio::test]
async fn one_run_that_cannot_be_ended_keeps_no_other_from_its_end() {
    let ledger = scene(u32::MAX, || Error::corrupt("run", "unreadable")).await;
    assert_eq!(sweep(&ledger).await, (vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned()]));
    for name in ["a", "c"] {
        let (thread, run) = (ThreadId::new(name).unwrap(), RunId::new("r").unwrap());
        let run = ledger.runs().get(&Scope::System, &thread, &run).await.unwrap();
        assert_eq!(run.status, RunStatus::Interrupted);
    }
}

#[tokio::test]
async fn an_end_whose_run_cannot_be_read_at_once_is_told() {
    let away = || Error::Unavailable { applied: Applied::No, source: "no route".into() };
    let ledger = scene(2, away).await;
    assert_eq!(sweep(&ledger).await, (["a", "b", "c"].map(str::to_owned).to_vec(), vec![]));
}

/// The worker's end is refused, for the run was asked to stop; before it looks for what it was asked, a
/// sweeper ends the run.
#[tokio::test]
async fn an_end_that_is_overtaken_is_answered_with_the_stored_one() {
    let inner = MemoryLedger::new();
    let (thread, run) = (ThreadId::new("t").unwrap(), RunId::new("r").unwrap());
    let plain = inner.ledger();
    plain.threads().create(&Scope::System, NewThread::new(thread.clone())).await.unwrap();
    let lease = NewLease { worker_id: WorkerId::new("w").unwrap(), ttl: Duration::from_secs(60) };
    let admission = Admission { lease: Some(lease), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(thread.clone(), run.clone()) };
    let epoch = plain.admit(&Scope::System, new).await.unwrap().run.epoch;
    let action = CancelAction::Interrupt;
    plain.runs().request_cancel(&Scope::System, &thread, &run, action, Timestamp::now()).await.unwrap();
    let refusal = || Error::corrupt("run", "unreadable");
    let runs =
        Disturbed { inner: inner.clone(), refusals: AtomicU32::new(0), refusal, ends: true, acquires: false };
    let ledger = Ledger::new(Stores { runs: Arc::new(runs), ..Stores::all(Arc::new(inner.clone())) });
    let outcome = Outcome::success();
    let finish = Finish {
        thread_id: thread,
        run_id: run,
        mark: JournalMark { epoch, ordinal: 0 },
        events: vec![EventDraft::terminal(&outcome, None, Timestamp::now())],
        outcome,
        at: Timestamp::now(),
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    let finished = ledger.finish(&Scope::System, finish).await.unwrap();
    assert_eq!((finished.run.status, finished.receipt), (RunStatus::Interrupted, None));
}

/// A run without a lease is acquired before the admission has read it: the admission knows its own epoch.
#[tokio::test]
async fn an_admission_is_answered_with_its_own_epoch() {
    let inner = MemoryLedger::new();
    let (thread, run) = (ThreadId::new("t").unwrap(), RunId::new("r").unwrap());
    inner.ledger().threads().create(&Scope::System, NewThread::new(thread.clone())).await.unwrap();
    let refusal = || Error::corrupt("run", "unreadable");
    let runs =
        Disturbed { inner: inner.clone(), refusals: AtomicU32::new(0), refusal, ends: false, acquires: true };
    let ledger = Ledger::new(Stores { runs: Arc::new(runs), ..Stores::all(Arc::new(inner.clone())) });
    let admitted = ledger.admit(&Scope::System, NewRun::new(thread.clone(), run.clone())).await.unwrap();
    let stored = RunStore::get(&inner, &Scope::System, &thread, &run).await.unwrap();
    assert_eq!((admitted.run.epoch, stored.epoch), (1, 2));
}
