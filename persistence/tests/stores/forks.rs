//! What a fork of a long thread takes.

use std::time::Instant;

use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, EventDraft, EventType, Finish, Fork, JournalMark, NewRun, NewThread, Outcome, RawJson,
    RunId, RunProgress, Scope, ThreadId, Timestamp,
};
use runledger_persistence::SqlLedger;

use crate::backend;

/// Runs, and events of each with its end.
const RUNS: u64 = 100;
const EVENTS: u64 = 1_000;

/// The most memory the process has had, in KiB; nothing where the system does not say.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

async fn long(ledger: &SqlLedger, thread: &ThreadId) {
    let scope = Scope::System;
    ledger.threads().create(&scope, NewThread::new(thread.clone())).await.unwrap();
    let note = EventType::new("note").unwrap();
    let event = EventDraft::new(note, Category::Message, RawJson::string(&"some words of it ".repeat(24)));
    for number in 0..RUNS {
        let run = RunId::new(format!("r{number}")).unwrap();
        let epoch = ledger.admit(&scope, NewRun::new(thread.clone(), run.clone())).await.unwrap().run.epoch;
        let said = vec![event.clone(); EVENTS as usize - 1];
        let commit = Commit::of_run(thread.clone(), run.clone()).with_events(said);
        ledger.events().append(&scope, commit).await.unwrap();
        let (outcome, at) = (Outcome::success(), Timestamp::now());
        let finish = Finish {
            thread_id: thread.clone(),
            run_id: run,
            mark: JournalMark { epoch, ordinal: 0 },
            events: vec![EventDraft::terminal(&outcome, None, at)],
            outcome,
            at,
            usage: Vec::new(),
            progress: RunProgress::default(),
            asks: Vec::new(),
        };
        ledger.finish(&scope, finish).await.unwrap();
    }
}

#[expect(clippy::print_stderr, reason = "the figures are what somebody runs this for")]
async fn measure(backend: &str, ledger: &SqlLedger) {
    let source = ThreadId::new("long").unwrap();
    long(ledger, &source).await;
    let (before, start) = (peak_kib(), Instant::now());
    let fork = Fork::new(source, ThreadId::new("fork").unwrap());
    let forked = ledger.fork(&Scope::System, fork).await.unwrap();
    assert_eq!((forked.events, forked.written), (RUNS * EVENTS, RUNS * EVENTS));
    eprintln!(
        "{backend}: {} events in {:.1} s; peak {:?} KiB before, {:?} KiB after",
        forked.events,
        start.elapsed().as_secs_f64(),
        before,
        peak_kib()
    );
}

/// `cargo test --release -p runledger-persistence --test stores forks -- --ignored --nocapture`
#[tokio::test]
#[ignore = "measures time and memory, for a release build that does nothing else"]
async fn a_long_thread_is_forked() {
    let (ledger, _fresh) = backend::sqlite().await;
    measure("SQLite", &ledger).await;
    ledger.close().await;
    if let Some((ledger, _fresh)) = backend::postgresql().await {
        measure("PostgreSQL", &ledger).await;
        ledger.close().await;
    }
}
