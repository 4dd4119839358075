//! Agent runs recorded while they go on: by whom they are ended, and what their callers get whatever becomes of them.

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    AgentRun, AgentRunId, AgentRunRecord, AgentRunStatus, BudgetLimit, CancelAction, Error, ErrorKind,
    ItemId, ItemKind, ItemMark, ItemStatus, Ledger, MemoryLedger, NewAgentRun, NewRun, NewThread, RawJson,
    RunId, Scope, ThreadId, Timestamp,
};
use runledger_journal::callbacks::ItemRecord;
use runledger_journal::{AgentRunRecorder, ManagerSettings, RunManager, Settings, record_agent_run};

fn id(id: &str) -> AgentRunId {
    AgentRunId::new(id).unwrap()
}

fn about(name: &str) -> NewAgentRun {
    NewAgentRun::new(id(name), "buddy", "Find the word")
}

fn new_run(name: &str) -> NewRun {
    let thread = ThreadId::new(name).unwrap();
    NewRun {
        create_missing: Some(NewThread::new(thread.clone())),
        ..NewRun::new(thread, RunId::new("r").unwrap())
    }
}

async fn begun(ledger: &Ledger, name: &str) -> AgentRunRecorder {
    let recorder =
        AgentRunRecorder::begin(ledger, &Scope::System, about(name), new_run(name), Settings::default())
            .await;
    let recorder = recorder.unwrap();
    say(&recorder);
    recorder
}

/// The agent says something.
fn say(recorder: &AgentRunRecorder) {
    recorder.callbacks().on_item_completed(ItemRecord {
        mark: ItemMark::new(ItemId::new("m").unwrap(), ItemKind::AgentMessage, ItemStatus::Completed),
        category: runledger_core::Category::Message,
        caller: None,
        content: &RawJson::parse("content", r#"{"content":"Let me look."}"#).unwrap(),
        at: Timestamp::now(),
    });
}

async fn read(ledger: &Ledger, name: &str) -> AgentRun {
    ledger.agent_run(&Scope::System, &id(name)).await.unwrap()
}

/// TextStack 3.5 #2, #3, #4: each end keeps what was done until then, and the row is there from the start.
#[tokio::test]
async fn every_end_is_stored_with_what_was_done() {
    let ledger = MemoryLedger::new().ledger();
    let recorder = begun(&ledger, "a").await;
    assert_eq!(read(&ledger, "a").await.status, AgentRunStatus::Running);
    let ended = recorder.completed("three", Some(0.5)).await.unwrap();
    assert_eq!((&ended.status, ended.ended_here, ended.report.lost), (&AgentRunStatus::Completed, true, 0));
    let run = read(&ledger, "a").await;
    assert_eq!((run.output.as_deref(), run.confidence, run.steps.len()), (Some("three"), Some(0.5), 1));

    let spent = begun(&ledger, "b").await.budget_exhausted(BudgetLimit::MaxIterations).await.unwrap();
    let failed = begun(&ledger, "c").await.failed("529").await.unwrap();
    let cancelled = begun(&ledger, "d").await.cancelled().await.unwrap();
    for (name, ended, status) in [
        ("b", spent, AgentRunStatus::BudgetExhausted),
        ("c", failed, AgentRunStatus::Failed),
        ("d", cancelled, AgentRunStatus::Cancelled),
    ] {
        let run = read(&ledger, name).await;
        assert_eq!((&ended.status, &run.status), (&status, &status));
        assert_eq!((run.steps.len(), run.usage.iterations, run.output), (1, 1, None));
        assert!(ledger.agent_runs().get(&Scope::System, &id(name)).await.unwrap().folded);
    }
}

/// TextStack 3.5 #2: whoever asked for it went away, and the end is stored all the same.
#[tokio::test]
async fn an_end_goes_on_though_nobody_waits() {
    let ledger = MemoryLedger::new().ledger();
    drop(begun(&ledger, "a").await.completed("three", None));
    while read(&ledger, "a").await.status.is_running() {
        tokio::task::yield_now().await;
    }
    let run = read(&ledger, "a").await;
    assert_eq!((run.output.as_deref(), run.steps.len()), (Some("three"), 1));
}

/// TextStack 3.5 #6, #10: a record that cannot be written changes no result, and is reported.
#[tokio::test]
async fn a_lost_record_changes_no_result() {
    let ledger = MemoryLedger::new().ledger();
    let recorder = begun(&ledger, "a").await;
    ledger
        .interrupt(
            &Scope::System,
            &ThreadId::new("a").unwrap(),
            &RunId::new("r").unwrap(),
            runledger_core::Claim::Epoch(recorder.run().unwrap().epoch),
            runledger_core::Outcome::interrupted("taken"),
            Timestamp::now(),
        )
        .await
        .unwrap();
    // Somebody else ended it: the result is the caller's, the record says how it ended.
    let done = recorder.finish(Ok::<_, Error>(41 + 1), |result| result.to_string()).await;
    assert_eq!(done.result.unwrap(), 42);
    let ended = done.persisted.unwrap();
    assert_eq!((ended.status, ended.ended_here), (AgentRunStatus::Interrupted, false));

    // The id is taken, so nothing could be begun.
    let refused =
        AgentRunRecorder::begin(&ledger, &Scope::System, about("a"), new_run("b"), Settings::default()).await;
    let recorder = AgentRunRecorder::unrecorded(id("a"), refused.unwrap_err());
    say(&recorder);
    let done = recorder.finish(Err::<u8, _>("the answer"), ToString::to_string).await;
    assert_eq!(done.result.unwrap_err(), "the answer");
    assert_eq!(done.persisted.unwrap_err().kind(), ErrorKind::AlreadyExists);

    let record = AgentRunRecord::new(about("a"), Timestamp::now()).failed("no");
    let done = record_agent_run(&ledger, &Scope::System, record, "result").await;
    assert_eq!(done.result, "result");
    assert_eq!(done.persisted.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

/// A finished record is stored once, however often it is given.
#[tokio::test]
async fn a_finished_record_is_stored_once() {
    let ledger = MemoryLedger::new().ledger();
    let record = AgentRunRecord::new(about("a"), Timestamp::now()).completed("three", None);
    for created in [true, false] {
        let done = record_agent_run(&ledger, &Scope::System, record.clone(), ()).await;
        assert_eq!(done.persisted.unwrap().created, created);
    }
}

fn settings() -> ManagerSettings {
    ManagerSettings {
        lease: Duration::from_secs(600),
        heartbeat: Duration::from_millis(10),
        sweep_every: Duration::from_millis(10),
        grace: Duration::ZERO,
        unleased: Some(Duration::ZERO),
        ..ManagerSettings::default()
    }
}

/// A process that is gone leaves an interrupted agent run with its steps: another process's look ends and folds it.
#[tokio::test]
async fn a_sweep_ends_and_folds_what_a_dead_process_left() {
    let ledger = MemoryLedger::new().ledger();
    let recorder = begun(&ledger, "a").await;
    // Without an end, what was recorded is written and the run stays as it is.
    drop(recorder);
    while read(&ledger, "a").await.steps.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (manager, _) = RunManager::start(ledger.clone(), settings()).await.unwrap();
    loop {
        let stored = ledger.agent_runs().get(&Scope::System, &id("a")).await.unwrap();
        if stored.folded {
            assert_eq!(stored.agent_run.status, AgentRunStatus::Interrupted);
            assert_eq!((stored.agent_run.steps.len(), stored.agent_run.output), (1, None));
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    manager.shutdown(Duration::from_secs(10)).await;
}

/// What was cancelled is reported as cancelled, whatever the agent came to.
#[tokio::test]
async fn a_cancelled_agent_run_is_told_as_such() {
    let ledger = MemoryLedger::new().ledger();
    let settings = ManagerSettings { unleased: None, ..settings() };
    let (manager, _) = RunManager::start(ledger.clone(), settings).await.unwrap();
    let recorder =
        AgentRunRecorder::begin_managed(&manager, &Scope::System, about("a"), new_run("a")).await.unwrap();
    say(&recorder);
    let run = recorder.run().unwrap().clone();
    manager.cancel(&Scope::System, &run.thread_id, &run.run_id, CancelAction::Interrupt).await.unwrap();
    recorder.cancel_token().cancelled().await;
    let done = recorder.finish(Ok::<_, Error>("three"), ToString::to_string).await;
    assert_eq!(done.result.unwrap(), "three");
    assert_eq!(done.persisted.unwrap().status, AgentRunStatus::Cancelled);
    let stored = read(&ledger, "a").await;
    assert_eq!((&stored.status, stored.output, stored.steps.len()), (&AgentRunStatus::Cancelled, None, 1));
    manager.shutdown(Duration::from_secs(10)).await;
}
