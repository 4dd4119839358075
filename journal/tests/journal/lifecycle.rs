//! Runs that are held, cancelled, stolen, queued and abandoned, by managers of several processes.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission as NewAdmission, CancelAction, Cancellation, Claim, Commit, ErrorKind, ItemId, ItemKind,
    ItemMark, ItemStatus, JournalMark, Ledger, MemoryLedger, MultitaskStrategy, NewLease, NewRun, NewThread,
    Outcome, RawJson, Run, RunId, RunStatus, Scope, ThreadId, Timestamp, Visibility, WorkerId,
};
use runledger_core::{Category, EventDraft};
use runledger_journal::callbacks::RuntimeCallbacks;
use runledger_journal::{
    Admission, ManagedRun, ManagerSettings, Overflow, QueuedRun, RunJournal, RunManager, Settings,
    SpoolSettings, StopReason, spool,
};

use crate::faults::{Faulty, change, events};

/// Quick to notice, slow to give up: nothing here may depend on how busy the machine is.
fn settings() -> ManagerSettings {
    ManagerSettings {
        lease: Duration::from_secs(600),
        heartbeat: Duration::from_millis(10),
        sweep_every: Duration::from_millis(10),
        grace: Duration::ZERO,
        poll: Duration::from_millis(10),
        ..ManagerSettings::default()
    }
}

async fn manager(ledger: &Ledger) -> RunManager {
    RunManager::start(ledger.clone(), settings()).await.unwrap().0
}

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn asking(run: &str, strategy: MultitaskStrategy) -> NewRun {
    let at = Timestamp::now();
    let input = vec![runledger_journal::user_message(
        ItemId::new(format!("{run}-u")).unwrap(),
        RawJson::string(run),
        at,
    )];
    NewRun {
        create_missing: Some(NewThread::new(thread())),
        admission: NewAdmission { multitask_strategy: strategy, ..NewAdmission::default() },
        input,
        ..NewRun::new(thread(), RunId::new(run).unwrap())
    }
}

async fn active(manager: &RunManager, run: &str) -> ManagedRun {
    match manager.admit(&Scope::System, asking(run, MultitaskStrategy::Reject)).await.unwrap() {
        Admission::Active(run) => run,
        other => panic!("{other:?}"),
    }
}

async fn queued(manager: &RunManager, run: &str) -> QueuedRun {
    match manager.admit(&Scope::System, asking(run, MultitaskStrategy::Enqueue)).await.unwrap() {
        Admission::Queued(run) => run,
        other => panic!("{other:?}"),
    }
}

async fn stored(ledger: &Ledger, run: &str) -> Run {
    ledger.runs().get(&Scope::System, &thread(), &RunId::new(run).unwrap()).await.unwrap()
}

/// Looks until it is so.
async fn until<F: Future<Output = bool>>(mut so: impl FnMut() -> F) {
    while !so().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ended(ledger: &Ledger, run: &str) -> Run {
    until(async || stored(ledger, run).await.status.is_terminal()).await;
    stored(ledger, run).await
}

fn how(run: &Run) -> (&str, Option<&str>) {
    (run.status.as_str(), run.stop_reason.as_deref())
}

#[tokio::test]
async fn a_managed_run_is_held_while_it_goes_on() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let mut run = active(&manager, "r").await;
    assert_eq!((manager.held(), run.stopped()), (1, None));
    assert_eq!(stored(&ledger, "r").await.first_human_message.as_deref(), Some("r"));
    let lease = ledger.runs().lease(&Scope::System, &thread(), &run.run().run_id).await.unwrap().unwrap();
    until(async || {
        let now = ledger.runs().lease(&Scope::System, &thread(), &run.run().run_id).await.unwrap();
        now.unwrap().expires_at > lease.expires_at
    })
    .await;
    change(run.journal(), "a");
    let finished = run.finish(Outcome::success()).await.unwrap();
    assert_eq!((how(&finished.run), finished.ended_here), (("success", None), true));
    assert_eq!(manager.held(), 0);
    let report = run.close().await.unwrap();
    assert_eq!((report.written, report.lost, report.fenced), (2, 0, 0));
    assert_eq!(
        ledger.runs().lease(&Scope::System, &thread(), &RunId::new("r").unwrap()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn nothing_is_kept_of_finished_runs() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    for number in 0..100 {
        let mut run = active(&manager, &format!("r{number}")).await;
        run.finish(Outcome::success()).await.unwrap();
        run.close().await.unwrap();
        assert_eq!(manager.held(), 0);
    }
}

#[tokio::test]
async fn a_run_of_this_process_is_told_to_stop_at_once() {
    let ledger = MemoryLedger::new().ledger();
    let slow = ManagerSettings { heartbeat: Duration::from_secs(200), ..settings() };
    let manager = RunManager::start(ledger.clone(), slow).await.unwrap().0;
    let mut run = active(&manager, "r").await;
    let asked = manager.cancel(&Scope::System, &thread(), &run.run().run_id, CancelAction::Rollback).await;
    assert!(matches!(asked.unwrap(), Cancellation::Requested(_)));
    assert!(run.cancel_token().is_cancelled());
    assert_eq!(run.stopped(), Some(StopReason::Cancelled(CancelAction::Rollback)));
    let again = manager.cancel(&Scope::System, &thread(), &run.run().run_id, CancelAction::Interrupt).await;
    assert!(
        matches!(again.unwrap(), Cancellation::Requested(lease) if lease.cancel_action == Some(CancelAction::Rollback))
    );
    let finished = run.finish(Outcome::success()).await.unwrap();
    assert_eq!(how(&finished.run), ("error", Some("rolled_back")));
    assert_eq!((finished.run.visibility, finished.ended_here), (Visibility::RolledBack, true));
}

#[tokio::test]
async fn a_run_of_another_process_is_told_with_its_heartbeat() {
    let ledger = MemoryLedger::new().ledger();
    let (worker, other) = (manager(&ledger).await, manager(&ledger).await);
    let mut run = active(&worker, "r").await;
    other.cancel(&Scope::System, &thread(), &run.run().run_id, CancelAction::Interrupt).await.unwrap();
    run.cancel_token().cancelled().await;
    assert_eq!(run.stopped(), Some(StopReason::Cancelled(CancelAction::Interrupt)));
    let finished = run.finish(Outcome::error("stopped in the middle")).await.unwrap();
    assert_eq!(how(&finished.run), ("interrupted", Some("cancelled")));
    let log = events(&ledger, &thread()).await;
    assert_eq!(log.last().unwrap().event_type.as_str(), "run.interrupted");
}

#[tokio::test]
async fn a_stolen_run_is_told_and_its_writes_are_refused() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let mut run = active(&manager, "r").await;
    let claim = Claim::Epoch(run.run().epoch);
    let id = run.run().run_id.clone();
    let outcome = Outcome::interrupted("stolen");
    ledger.interrupt(&Scope::System, &thread(), &id, claim, outcome, Timestamp::now()).await.unwrap();
    run.cancel_token().cancelled().await;
    assert_eq!(run.stopped(), Some(StopReason::LeaseLost));
    until(async || manager.held() == 0).await;
    change(run.journal(), "late");
    let finished = run.finish(Outcome::success()).await.unwrap();
    assert_eq!((how(&finished.run), finished.ended_here), (("interrupted", Some("stolen")), false));
    let report = run.close().await.unwrap();
    assert_eq!((report.written, report.lost), (0, 0));
    assert!(report.fenced >= 1, "{report:?}");
}

#[tokio::test]
async fn a_replaced_run_is_told_at_once() {
    let ledger = MemoryLedger::new().ledger();
    let slow = ManagerSettings { heartbeat: Duration::from_secs(200), ..settings() };
    let manager = RunManager::start(ledger.clone(), slow).await.unwrap().0;
    let old = active(&manager, "old").await;
    let admitted = manager.admit(&Scope::System, asking("new", MultitaskStrategy::Interrupt)).await.unwrap();
    let Admission::Active(mut new) = admitted else { panic!("{admitted:?}") };
    assert_eq!(old.stopped(), Some(StopReason::LeaseLost));
    drop(old);
    new.finish(Outcome::success()).await.unwrap();
    assert_eq!(how(&stored(&ledger, "old").await), ("interrupted", Some("replaced")));
    assert_eq!(how(&stored(&ledger, "new").await), ("success", None));
    until(async || manager.held() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_admissions_at_once_the_last_run_goes_on() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    for round in 0..50 {
        let admissions = (0..4).map(|number| {
            let (manager, new) =
                (manager.clone(), asking(&format!("r{round}-{number}"), MultitaskStrategy::Interrupt));
            tokio::spawn(async move { manager.admit(&Scope::System, new).await.unwrap() })
        });
        let mut runs = Vec::new();
        for admission in admissions.collect::<Vec<_>>() {
            let Admission::Active(run) = admission.await.unwrap() else { panic!("no run waits") };
            runs.push(run);
        }
        runs.sort_by_key(|run| run.run().epoch);
        let mut last = runs.pop().unwrap();
        assert_eq!(last.stopped(), None);
        assert!(runs.iter().all(|run| run.stopped() == Some(StopReason::LeaseLost)));
        let finished = last.finish(Outcome::success()).await.unwrap();
        assert_eq!((how(&finished.run), finished.ended_here), (("success", None), true));
    }
}

#[tokio::test]
async fn a_dropped_run_is_ended_with_what_it_recorded() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let run = active(&manager, "r").await;
    run.journal().on_item_started(runledger_journal::callbacks::ItemRecord {
        mark: ItemMark::new(ItemId::new("i").unwrap(), ItemKind::ToolCall, ItemStatus::InProgress),
        category: Category::Lifecycle,
        caller: None,
        content: &RawJson::null(),
        at: Timestamp::now(),
    });
    drop(run);
    assert_eq!(how(&ended(&ledger, "r").await), ("interrupted", Some("abandoned")));
    let types: Vec<_> =
        events(&ledger, &thread()).await.iter().map(|event| event.event_type.to_string()).collect();
    assert_eq!(types, ["item.completed", "item.started", "item.completed", "run.interrupted"]);
    until(async || manager.held() == 0).await;
}

#[tokio::test]
async fn an_admission_that_nobody_receives_is_ended() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let new = asking("r", MultitaskStrategy::Reject);
    let mut admission = Box::pin(manager.admit(&Scope::System, new));
    // The caller gives up as early as it can.
    assert!(futures_poll_once(&mut admission).await);
    drop(admission);
    until(async || {
        let run = ledger.runs().get(&Scope::System, &thread(), &RunId::new("r").unwrap()).await;
        run.is_ok_and(|run| run.status.is_terminal())
    })
    .await;
    assert_eq!(how(&stored(&ledger, "r").await), ("interrupted", Some("abandoned")));
    until(async || manager.held() == 0).await;
}

/// Polls once; true where it is not done.
async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

#[tokio::test]
async fn an_admission_whose_answer_is_lost_is_ended() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    // As if the answer had been lost: a lease of this worker that nothing here knows.
    let worker_id = manager.worker_id().clone();
    let admission = NewAdmission {
        lease: Some(NewLease { worker_id, ttl: Duration::from_secs(600) }),
        ..NewAdmission::default()
    };
    let new = NewRun { admission, ..asking("r", MultitaskStrategy::Reject) };
    ledger.admit(&Scope::System, new).await.unwrap();
    assert_eq!(how(&ended(&ledger, "r").await), ("interrupted", Some("abandoned")));
}

#[tokio::test]
async fn queued_runs_follow_each_other() {
    let ledger = MemoryLedger::new().ledger();
    let (here, there) = (manager(&ledger).await, manager(&ledger).await);
    let mut first = active(&here, "a").await;
    let (mut second, mut third) = (queued(&there, "b").await, queued(&here, "c").await);
    assert_eq!(second.run().status, RunStatus::Queued);
    first.finish(Outcome::success()).await.unwrap();
    let mut second = second.wait().await.unwrap().unwrap();
    assert_eq!((there.held(), here.held()), (1, 0));
    change(second.journal(), "b works");
    second.finish(Outcome::error("b failed")).await.unwrap();
    let mut third = third.wait().await.unwrap().unwrap();
    third.finish(Outcome::success()).await.unwrap();
    let said: Vec<_> = events(&ledger, &thread())
        .await
        .into_iter()
        .filter(|event| event.category == Category::Message)
        .map(|event| event.run_id.unwrap().to_string())
        .collect();
    assert_eq!(said, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_queued_run_is_cancelled_or_let_go() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let mut first = active(&manager, "a").await;
    let (mut second, third) = (queued(&manager, "b").await, queued(&manager, "c").await);
    let id = second.run().run_id.clone();
    manager.cancel(&Scope::System, &thread(), &id, CancelAction::Interrupt).await.unwrap();
    assert!(second.wait().await.unwrap().is_none());
    drop(third);
    assert_eq!(how(&ended(&ledger, "c").await), ("interrupted", Some("cancelled")));
    first.finish(Outcome::success()).await.unwrap();
    let head = ledger.threads().head(&Scope::System, &thread()).await.unwrap();
    assert_eq!(head.active_run_id, None);
}

/// A run of a process that is gone, with a tool call that is open.
async fn left_by_the_dead(ledger: &Ledger, thread: &ThreadId, run: &str) {
    let worker_id = WorkerId::new("dead").unwrap();
    let admission = NewAdmission {
        lease: Some(NewLease { worker_id, ttl: Duration::from_secs(1) }),
        ..NewAdmission::default()
    };
    let new = NewRun {
        admission,
        create_missing: Some(NewThread::new(thread.clone())),
        ..NewRun::new(thread.clone(), RunId::new(run).unwrap())
    };
    let run = ledger.admit(&Scope::System, new).await.unwrap().run;
    let call = ItemMark::new(ItemId::new("call").unwrap(), ItemKind::ToolCall, ItemStatus::InProgress);
    let commit = Commit::of_run(thread.clone(), run.run_id.clone())
        .with_events(vec![EventDraft::item(call, Category::Lifecycle, RawJson::null())])
        .with_mark(JournalMark { epoch: run.epoch, ordinal: 0 });
    ledger.events().append(&Scope::System, commit).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_dead_workers_left_is_taken_over() {
    let ledger = Faulty::new([]).ledger();
    left_by_the_dead(&ledger, &thread(), "r").await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let settings = ManagerSettings {
        on_claimed: Some(Arc::new(move |claimed| {
            assert_ne!(claimed.run.run_id.as_str(), "odd", "a callback that panics");
            tell.lock().unwrap().push(claimed.clone());
        })),
        ..ManagerSettings::default()
    };
    let (manager, takeover) = RunManager::start(ledger.clone(), settings).await.unwrap();
    assert_eq!(takeover.claimed, []);
    until(async || !told.lock().unwrap().is_empty()).await;
    let [claimed] = &told.lock().unwrap().clone()[..] else { panic!("one run") };
    assert_eq!(
        (claimed.run.run_id.as_str(), how(&claimed.run)),
        ("r", ("interrupted", Some("lease_expired")))
    );
    assert_eq!(claimed.interrupted.iter().map(|item| item.item_id.as_str()).collect::<Vec<_>>(), ["call"]);
    // The thread is free.
    active(&manager, "next").await.finish(Outcome::success()).await.unwrap();
    // What its callback does not bear is no reason to leave the next one.
    for run in ["odd", "even"] {
        left_by_the_dead(&ledger, &ThreadId::new(run).unwrap(), run).await;
        until(async || {
            let (thread, run) = (ThreadId::new(run).unwrap(), RunId::new(run).unwrap());
            ledger.runs().get(&Scope::System, &thread, &run).await.unwrap().status.is_terminal()
        })
        .await;
    }
    until(async || told.lock().unwrap().len() == 2).await;
}

/// What another process is storing, or could not store yet, is stored before the run is ended; and one
/// that holds the file for ever does not keep the run for ever.
#[tokio::test(start_paused = true)]
async fn a_run_is_left_to_the_file_that_somebody_drains() {
    for hangs in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let faulty = Faulty::new([]);
        let ledger = faulty.ledger();
        let journal =
            Settings { overflow: Overflow::Spool(SpoolSettings::new(folder.path())), ..Settings::default() };
        let lease = NewLease { worker_id: WorkerId::new("dead").unwrap(), ttl: Duration::from_secs(30) };
        let mut new = asking("r", MultitaskStrategy::Reject);
        new.admission.lease = Some(lease);
        let run = RunJournal::begin_with(&ledger, &Scope::System, new, journal.clone()).await.unwrap();
        faulty.set_away(true);
        change(&run, "it waits");
        let file = run.close().await.unwrap().spool_file.unwrap();
        faulty.set_away(false);
        let drained = std::fs::File::open(&file).unwrap();
        drained.lock().unwrap();
        let settings = ManagerSettings { journal, ..ManagerSettings::default() };
        let (_manager, _) = RunManager::start(ledger.clone(), settings).await.unwrap();
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(stored(&ledger, "r").await.status, RunStatus::Pending);
        if !hangs {
            drop(drained);
        }
        assert_eq!(how(&ended(&ledger, "r").await), ("interrupted", Some("lease_expired")));
        let types: Vec<_> =
            events(&ledger, &thread()).await.iter().map(|event| event.event_type.to_string()).collect();
        let expected = ["item.completed", "workspace_changes", "run.interrupted"];
        assert_eq!(types.iter().map(String::as_str).eq(expected), !hangs, "{types:?}");
    }
}

/// The ledger comes back at any moment between two heartbeats and two sweeps of two processes, while a
/// third one starts: all leases have ended, and all workers live.
#[tokio::test(start_paused = true)]
async fn an_outage_that_is_longer_than_a_lease_costs_no_living_run() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let ledger = faulty.ledger();
    let settings = || ManagerSettings {
        journal: Settings {
            overflow: Overflow::Spool(SpoolSettings::new(folder.path())),
            ..Settings::default()
        },
        ..ManagerSettings::default()
    };
    let start = async || RunManager::start(ledger.clone(), settings()).await.unwrap().0;
    for outage in (60..120).step_by(7) {
        let first = start().await;
        tokio::time::sleep(Duration::from_secs(outage % 10)).await;
        let second = start().await;
        let mut run = active(&first, &format!("r{outage}")).await;
        change(run.journal(), "before");
        run.journal().barrier().await.unwrap();
        faulty.set_away(true);
        change(run.journal(), "while it is away");
        tokio::time::sleep(Duration::from_secs(outage)).await;
        faulty.set_away(false);
        let third = start().await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(run.stopped(), None, "after {outage} s");
        let finished = run.finish(Outcome::success()).await.unwrap();
        assert_eq!((how(&finished.run), finished.ended_here), (("success", None), true));
        let report = run.close().await.unwrap();
        assert_eq!((report.written, report.fenced, report.lost), (3, 0, 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        drop((first, second, third));
    }
}

#[tokio::test]
async fn a_shutdown_stops_runs_and_ends_those_that_do_not() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let mut good = active(&manager, "good").await;
    let ending = tokio::spawn(async move {
        good.cancel_token().cancelled().await;
        assert_eq!(good.stopped(), Some(StopReason::Shutdown));
        good.finish(Outcome::interrupted("shutdown")).await.unwrap()
    });
    let other = NewThread::new(ThreadId::new("other").unwrap());
    let mut new = asking("stubborn", MultitaskStrategy::Reject);
    (new.thread_id, new.create_missing) = (other.thread_id.clone(), Some(other.clone()));
    let Admission::Active(stubborn) = manager.admit(&Scope::System, new).await.unwrap() else { panic!() };
    assert_eq!(manager.clone().shutdown(Duration::from_millis(500)).await, 1);
    assert_eq!(how(&ending.await.unwrap().run), ("interrupted", Some("shutdown")));
    let run = ledger.runs().get(&Scope::System, &other.thread_id, &stubborn.run().run_id).await.unwrap();
    assert_eq!(how(&run), ("interrupted", Some("shutdown")));
    // One that comes now is told so at once.
    assert_eq!(active(&manager, "late").await.stopped(), Some(StopReason::Shutdown));
}

/// The ledger is back before the shutdown, or only at the next start.
#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_an_end_that_waits_in_the_spool_what_it_is() {
    for back in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let faulty = Faulty::new([]);
        let ledger = faulty.ledger();
        let settings = || ManagerSettings {
            journal: Settings {
                overflow: Overflow::Spool(SpoolSettings::new(folder.path())),
                ..Settings::default()
            },
            ..ManagerSettings::default()
        };
        let (manager, _) = RunManager::start(ledger.clone(), settings()).await.unwrap();
        let mut run = active(&manager, "r").await;
        faulty.set_away(true);
        assert_eq!(run.finish(Outcome::success()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(run.close().await.unwrap().end_in_spool);
        faulty.set_away(!back);
        assert_eq!(manager.shutdown(Duration::from_secs(15)).await, 0);
        if !back {
            faulty.set_away(false);
            let (_next, takeover) = RunManager::start(ledger.clone(), settings()).await.unwrap();
            assert!(takeover.recovered.unwrap().is_complete());
        }
        assert_eq!(how(&stored(&ledger, "r").await), ("success", None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// One of the runs that nobody received cannot be ended: the others of the process live on.
#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_a_run_that_nobody_received_is_ended() {
    let ledger = Faulty::new([]).stuck_at("stray").ledger();
    let start = async || RunManager::start(ledger.clone(), ManagerSettings::default()).await.unwrap().0;
    let (manager, _other) = (start().await, start().await);
    let stray = ThreadId::new("stray").unwrap();
    let lease = NewLease { worker_id: manager.worker_id().clone(), ttl: Duration::from_secs(30) };
    let new = NewRun {
        admission: NewAdmission { lease: Some(lease), ..NewAdmission::default() },
        create_missing: Some(NewThread::new(stray.clone())),
        ..NewRun::new(stray, RunId::new("stray").unwrap())
    };
    ledger.admit(&Scope::System, new).await.unwrap();
    let mut run = active(&manager, "r").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(run.stopped(), None);
    let finished = run.finish(Outcome::success()).await.unwrap();
    assert_eq!((how(&finished.run), finished.ended_here), (("success", None), true));
}

/// The ledger goes away in the middle of a run, which is ended and closed meanwhile: its spool is
/// stored by the same process when the ledger is back, and the run ends as it was told to.
#[tokio::test]
async fn what_is_left_in_the_spool_is_stored_when_the_ledger_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let ledger = faulty.ledger();
    let journal = Settings {
        close_patience: Duration::from_millis(50),
        overflow: Overflow::Spool(SpoolSettings {
            after: Duration::from_millis(5),
            ..SpoolSettings::new(folder.path())
        }),
        ..Settings::default()
    };
    let (manager, _) =
        RunManager::start(ledger.clone(), ManagerSettings { journal, ..settings() }).await.unwrap();
    let mut run = active(&manager, "r").await;
    change(run.journal(), "before");
    run.journal().barrier().await.unwrap();
    faulty.set_away(true);
    change(run.journal(), "while it is away");
    let refused = run.finish(Outcome::success()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let report = run.close().await.unwrap();
    assert_eq!((report.left_in_spool, report.lost), (2, 0));
    assert_eq!(manager.held(), 1);
    faulty.set_away(false);
    assert_eq!(how(&ended(&ledger, "r").await), ("success", None));
    until(async || manager.held() == 0).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Runs of which nothing is left that could end them: they are ended for having no worker.
#[tokio::test]
async fn a_run_whose_end_was_lost_is_ended() {
    let faulty = Faulty::new([]);
    let ledger = faulty.ledger();
    let journal = Settings { close_patience: Duration::from_millis(20), ..Settings::default() };
    let (manager, _) =
        RunManager::start(ledger.clone(), ManagerSettings { journal, ..settings() }).await.unwrap();
    for (name, drops) in [("closed", false), ("dropped", true)] {
        let mut run = active(&manager, name).await;
        faulty.set_away(true);
        assert_eq!(run.finish(Outcome::success()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        if drops {
            drop(run);
            until(async || manager.held() == 0).await;
        } else {
            assert!(run.close().await.unwrap().lost > 0);
        }
        faulty.set_away(false);
        assert_eq!(how(&ended(&ledger, name).await), ("interrupted", Some("abandoned")));
        until(async || manager.held() == 0).await;
    }
}

/// The disk took a part of the run and not its end; or all of it, and damaged it afterwards.
#[tokio::test]
async fn a_run_whose_end_is_in_no_spool_file_is_ended() {
    for damaged in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let faulty = Faulty::new([]);
        let ledger = faulty.ledger();
        let spool = SpoolSettings {
            after: Duration::from_millis(5),
            max_file_bytes: if damaged { u64::MAX } else { 2_000 },
            ..SpoolSettings::new(folder.path())
        };
        let journal = Settings {
            batch_events: 1,
            close_patience: Duration::from_millis(50),
            overflow: Overflow::Spool(spool),
            ..Settings::default()
        };
        let (manager, _) =
            RunManager::start(ledger.clone(), ManagerSettings { journal, ..settings() }).await.unwrap();
        let mut run = active(&manager, "r").await;
        faulty.set_away(true);
        change(run.journal(), "it fits");
        until(async || spool::list(folder.path()).await.unwrap().iter().any(|file| file.events == 1)).await;
        change(run.journal(), &"x".repeat(4_000));
        let refused = run.finish(Outcome::success()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        let report = run.close().await.unwrap();
        assert_eq!((report.end_in_spool, report.left_in_spool > 0), (damaged, true));
        if damaged {
            let file = report.spool_file.unwrap();
            let mut bytes = std::fs::read(&file).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            std::fs::write(&file, &bytes).unwrap();
        }
        faulty.set_away(false);
        assert_eq!(how(&ended(&ledger, "r").await), ("interrupted", Some("abandoned")));
        until(async || manager.held() == 0).await;
    }
}

#[tokio::test]
async fn an_idempotency_key_is_one_run() {
    let ledger = MemoryLedger::new().ledger();
    let manager = manager(&ledger).await;
    let keyed = || {
        let mut new = asking("r", MultitaskStrategy::Reject);
        new.admission.idempotency_key = Some("k".to_owned());
        new
    };
    let first = manager.admit(&Scope::System, keyed()).await.unwrap();
    assert!(matches!(first, Admission::Active(_)));
    let second = manager.admit(&Scope::System, keyed()).await.unwrap();
    assert!(matches!(second, Admission::Existing(run) if run.run_id.as_str() == "r"));
    assert_eq!(manager.held(), 1);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_costs_no_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let ledger = MemoryLedger::new().ledger();
    let journal = Settings { overflow: Overflow::Spool(SpoolSettings::new(&folder)), ..Settings::default() };
    let with_spool = || ManagerSettings { journal: journal.clone(), ..settings() };
    let (manager, _) = RunManager::start(ledger.clone(), with_spool()).await.unwrap();
    let run = active(&manager, "r").await;
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    let new = asking("new", MultitaskStrategy::Interrupt);
    let refused = manager.admit(&Scope::System, new).await.unwrap_err().to_string();
    assert!(refused.starts_with("invalid overflow.folder: "), "{refused}");
    assert_eq!((run.stopped(), stored(&ledger, "r").await.status), (None, RunStatus::Pending));
    let refused = RunManager::start(ledger, with_spool()).await.unwrap_err().to_string();
    assert!(refused.starts_with("invalid overflow.folder: "), "{refused}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let ledger = MemoryLedger::new().ledger();
    let beats = ManagerSettings { heartbeat: Duration::from_secs(20), ..ManagerSettings::default() };
    let never = ManagerSettings { sweep_every: Duration::ZERO, ..ManagerSettings::default() };
    let long = ManagerSettings { lease: Duration::from_secs(24 * 60 * 60 + 1), ..ManagerSettings::default() };
    for (settings, field) in [(beats, "heartbeat"), (never, "sweep_every"), (long, "lease")] {
        let refused = RunManager::start(ledger.clone(), settings).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("invalid {field}: ")), "{refused}");
    }
    let ever = Duration::MAX;
    let seldom = ManagerSettings { sweep_every: ever, grace: ever, poll: ever, ..ManagerSettings::default() };
    let (manager, _) = RunManager::start(ledger.clone(), seldom).await.unwrap();
    manager.shutdown(ever).await;
}
