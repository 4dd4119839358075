//! Many processes on one database.

use pretty_assertions::assert_eq;
use runledger_core::{EventFilter, NewRun, NewThread, RunId, Scope, SeqRange, ThreadId};
use runledger_integration_tests::processes::{run_together, spawn};
use runledger_integration_tests::worker::{Job, Outcome};
use runledger_integration_tests::{TestDatabase, postgres, sqlite};

use crate::backend::{Fresh, on_each_backend};

const PROCESSES: u64 = 8;

async fn run_all(jobs: impl IntoIterator<Item = Job>) -> Vec<Outcome> {
    let workers = jobs
        .into_iter()
        .map(|job| {
            let job = serde_json::to_string(&job).expect("a job is JSON");
            spawn(env!("CARGO_BIN_EXE_runledger-test-worker"), &[job])
        })
        .collect();
    let printed = run_together(workers).await;
    printed
        .into_iter()
        .map(|lines| match lines.as_slice() {
            [line] => serde_json::from_value(line.clone()).expect("an outcome"),
            lines => panic!("a worker prints one line, not {lines:?}"),
        })
        .collect()
}

on_each_backend!(processes_append_to_one_thread, one_of_many_processes_puts);

/// Eight processes append to one thread: no error, no gap, no number twice, each one's order kept.
async fn processes_append_to_one_thread(fresh: &Fresh) {
    const COMMITS: u64 = 25;
    const EVENTS: u64 = 3;
    let ledger = fresh.ledger();
    let thread = ThreadId::generate();
    ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await.expect("a thread");
    let outcomes = run_all((0..PROCESSES).map(|writer| Job::Append {
        url: fresh.database.url().to_owned(),
        thread: thread.clone(),
        writer: writer.to_string(),
        commits: COMMITS,
        events: EVENTS,
    }))
    .await;
    let mut all = Vec::new();
    for outcome in outcomes {
        let Outcome::Appended { seqs } = outcome else { panic!("{outcome:?} is no answer to an append") };
        assert!(seqs.is_sorted_by(|a, b| a < b), "a process's own order: {seqs:?}");
        all.extend(seqs);
    }
    all.sort_unstable();
    let total = PROCESSES * COMMITS * EVENTS;
    assert_eq!(all, (1..=total).collect::<Vec<_>>());
    let page = ledger
        .events()
        .list_events(&Scope::System, &thread, &EventFilter::default(), &SeqRange::after(0, 1_000))
        .await
        .expect("a page");
    assert_eq!(page.items.iter().map(|event| event.seq).collect::<Vec<_>>(), all);
}

/// Of eight processes that put the same event, one writes it and all see it.
async fn one_of_many_processes_puts(fresh: &Fresh) {
    let ledger = fresh.ledger();
    let (thread, run) = (ThreadId::generate(), RunId::generate());
    ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await.expect("a thread");
    ledger.admit(&Scope::System, NewRun::new(thread.clone(), run.clone())).await.expect("a run");
    let outcomes = run_all((0..PROCESSES).map(|_| Job::PutIfAbsent {
        url: fresh.database.url().to_owned(),
        thread: thread.clone(),
        run: run.clone(),
        once_key: "delivery".to_owned(),
    }))
    .await;
    let created =
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Put { created: true, .. })).count();
    assert_eq!(created, 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Put { seq: 1, .. })), "{outcomes:?}");
}

async fn processes_migrate_one_database(database: &TestDatabase) {
    let outcomes = run_all((0..PROCESSES).map(|_| Job::Migrate { url: database.url().to_owned() })).await;
    let mut applied: Vec<usize> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Migrated { applied } => *applied,
            other => panic!("{other:?} is no answer to a migration"),
        })
        .collect();
    applied.sort_unstable();
    let mut expected = vec![0; PROCESSES as usize - 1];
    expected.push(runledger_migration::needed().len());
    assert_eq!(applied, expected, "one applies everything, the others find nothing to do");
}

/// Eight processes start on a file that does not exist yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_migrate_a_new_file() {
    processes_migrate_one_database(&sqlite::empty_database()).await;
}

/// Eight processes start on an empty PostgreSQL database.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_migrate_an_empty_postgresql_database() {
    if let Some(server) = postgres::server() {
        processes_migrate_one_database(&server.empty_database().await).await;
    }
}
