//! Eight workers on two hundred runs, dying and stealing: each run ends once, nothing that was
//! acknowledged is missing, and nothing is written under an epoch that has passed.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use pretty_assertions::assert_eq;
use runledger_core::{
    Event, ItemFilter, ItemStatus, Ledger, Run, RunFilter, RunId, Scope, SeqRange, SourceId, ThreadId,
};
use runledger_integration_tests::audit::{Audit, log};
use runledger_integration_tests::crew::{self, Acknowledged, CrewJob, CrewReport};
use runledger_integration_tests::fault_table::Row;
use runledger_integration_tests::worker::{Job, Outcome};
use runledger_integration_tests::{TestDatabase, postgres, sqlite};
use runledger_journal::spool::{self, SpoolState};
use runledger_persistence::{Config, connect};
use tokio::process::Command;

const SCOPE: Scope = Scope::System;
const WORKERS: u64 = 8;
const RUNS: u64 = 200;
const THREADS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_a_crew_that_dies_and_steals_loses_nothing() {
    share_a_heap("SQLite", &sqlite::database().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_crew_that_dies_and_steals_loses_nothing() {
    if let Some(server) = postgres::server() {
        share_a_heap("PostgreSQL", &server.database().await).await;
    }
}

/// Works until a worker lives to the end; says what it did and how often one died.
async fn employ(mut job: CrewJob) -> (CrewReport, u64) {
    let mut deaths = 0;
    loop {
        let argument = serde_json::to_string(&Job::Crew(job.clone())).expect("a job is JSON");
        let child = Command::new(env!("CARGO_BIN_EXE_runledger-test-worker"))
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker");
        let output = child.wait_with_output().await.expect("a worker's end");
        if output.status.success() {
            let outcome = serde_json::from_slice(&output.stdout).expect("an outcome");
            let Outcome::Crew(report) = outcome else { panic!("{outcome:?} is no answer of a crew") };
            return (report, deaths);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "a worker failed: {said}");
        deaths += 1;
        // The next one has another fate.
        job.seed += 1_000;
    }
}

async fn share_a_heap(backend: &str, database: &TestDatabase) {
    let folder = tempfile::tempdir().expect("a folder");
    let job = |seed| CrewJob {
        url: database.url().to_owned(),
        folder: folder.path().to_owned(),
        seed,
        runs: RUNS,
        threads: THREADS,
        deadly: 8,
        thievish: 4,
    };
    let workers: Vec<_> = (0..WORKERS).map(|seed| tokio::spawn(employ(job(seed)))).collect();
    let (mut done, mut deaths) = (CrewReport::default(), 0);
    for worker in workers {
        let (report, died) = worker.await.expect("a worker's keeper");
        done.ended += report.ended;
        done.lost += report.lost;
        done.stolen += report.stolen;
        deaths += died;
    }
    let sql = connect(Config::new(database.url())).await.expect("a ledger");
    let ledger = sql.ledger();
    let told = crew::acknowledged(folder.path()).expect("the notes");
    let mut acknowledged: BTreeMap<RunId, Acknowledged> = BTreeMap::new();
    for told in told {
        let known = acknowledged.entry(told.run.clone()).or_insert_with(|| told.clone());
        known.steps = known.steps.max(told.steps);
    }
    let (mut runs, mut found, mut ends) = (0, 0, BTreeMap::<String, u64>::new());
    for number in 0..THREADS {
        let thread = ThreadId::new(format!("thread-{number:03}")).expect("an id");
        let events = log(&ledger, &thread).await.expect("a log");
        let head = ledger.threads().head(&SCOPE, &thread).await.expect("a head");
        assert_eq!(head.active_run_id, None);
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..head.next_seq).collect::<Vec<_>>(), "{thread}");
        let open = ItemFilter { run_id: None, status: Some(ItemStatus::InProgress) };
        let open = ledger.items().list(&SCOPE, &thread, &open, &SeqRange::last(1_000)).await.expect("items");
        assert_eq!(open.items, []);
        let filter = RunFilter { thread_id: Some(thread), ..RunFilter::default() };
        let stored = ledger.runs().list(&SCOPE, &filter, &Default::default()).await.expect("runs");
        for run in stored.items {
            found += audit_run(&ledger, &run, &events, acknowledged.get(&run.run_id)).await;
            *ends.entry(run.stop_reason.unwrap_or_else(|| run.status.to_string())).or_default() += 1;
            runs += 1;
        }
    }
    // Whoever lived to the end recovered what the dead had left. What was refused belongs to runs that were
    // taken from the living.
    for file in spool::list(&folder.path().join("spool")).await.expect("the spool") {
        assert_eq!(file.state, SpoolState::Fenced, "{file:?}");
        let id = file.run_id.as_ref().expect("a head");
        let run = ledger.runs().find(&SCOPE, id).await.expect("a run");
        assert_ne!(run.stop_reason.as_deref(), Some("lease_expired"), "{file:?}");
    }
    sql.close().await;
    assert_eq!(runs, RUNS);
    crate::say(&format!(
        "{backend}: {deaths} deaths, {} thefts that were told, runs ended as {ends:?}",
        done.stolen
    ));
    let acknowledged = acknowledged.values().map(|told| told.steps).sum();
    let audit = Audit { found, ..Audit::default() };
    let fault = "8 workers on 200 runs, deaths and thefts (steps)";
    Row { fault, backend, injected: deaths + done.stolen, acknowledged, audit: &audit }.record();
}

/// Says how many of the acknowledged steps of a run are stored.
async fn audit_run(ledger: &Ledger, run: &Run, log: &[Event], told: Option<&Acknowledged>) -> u64 {
    let id = &run.run_id;
    let events: Vec<&Event> = log.iter().filter(|event| event.run_id.as_ref() == Some(id)).collect();
    assert!(run.status.is_terminal(), "{id} is {}", run.status);
    let ends: Vec<&&Event> = events.iter().filter(|event| event.once_key.is_some()).collect();
    let [end] = ends.as_slice() else { panic!("{id} has {} terminal events", ends.len()) };
    let said: serde_json::Value = end.content.decode().expect("a terminal event");
    assert_eq!(said["status"], run.status.as_str(), "{id}");
    // What the journal writes is numbered without a hole, and none of it comes after the end.
    let ordinals: Vec<u64> = events.iter().filter_map(|event| event.journal_ordinal).collect();
    assert_eq!(ordinals, (0..ordinals.len() as u64).collect::<Vec<_>>(), "{id}");
    let late = events.iter().filter(|event| event.journal_ordinal.is_some() && event.seq > end.seq).count();
    assert_eq!(late, 0, "{id} was written to under an epoch that had passed");
    let calls = ledger.usage().list_by_run(&SCOPE, &run.thread_id, id, None, 1_000).await.expect("usage");
    let tokens: u64 = calls.iter().map(|call| call.tokens.total).sum();
    assert_eq!((run.totals.llm_calls, run.totals.total_tokens), (calls.len() as u64, tokens), "{id}");
    let messages = events.iter().filter(|event| event.category.as_str() == "message").count() as u64;
    assert_eq!(run.message_count, messages, "{id}");
    // A step is there when its tool call has its own result, and what its model call took is counted.
    let is_done = |step: &u64| {
        let result = events.iter().any(|event| {
            event.item.as_ref().is_some_and(|item| {
                item.item_id.as_str() == format!("call-{step}") && item.status == ItemStatus::Completed
            })
        });
        let source = SourceId::external(id, &format!("model-{step}"));
        let call = calls.iter().any(|call| call.source_id == source && call.tokens.total == 11 + step);
        result && call
    };
    (0..told.map_or(0, |told| told.steps)).filter(is_done).count() as u64
}
