//! Pages of 50 from a log of 200,000 events: what a reader pays, wherever in the log it reads.
//!
//! The events are written to the table directly, because this bench is about reading.
//! `RUNLEDGER_TEST_DATABASE_URL` names a PostgreSQL server to measure as well;
//! `RUNLEDGER_BENCH_EVENTS` changes the length of the log.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use runledger_core::{
    EventFilter, ItemFilter, ListRange, NewThread, RunFilter, RunId, RunVisibility, Scope, SeqRange,
    ThreadFilter, ThreadId,
};
use runledger_migration::{UpOptions, up};
use runledger_persistence::{Config, SqlLedger, connect};
use sea_orm::{ConnectionTrait, DatabaseBackend};
use tokio::runtime::Runtime;

const THREAD: &str = "bench";

/// Events of one run of the log.
const RUN_EVENTS: u64 = 500;

fn events() -> u64 {
    std::env::var("RUNLEDGER_BENCH_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000)
}

/// Fills the log: payloads of about 1,000 bytes, every third event a message, every fifth an item.
async fn fill(url: &str) {
    let connection = sea_orm::Database::connect(url).await.unwrap();
    let (time, jsonb) = match connection.get_database_backend() {
        DatabaseBackend::Sqlite => {
            ("strftime('%Y-%m-%dT%H:%M:%S+00:00', 1767225600 + i, 'unixepoch')", "'{}'")
        }
        _ => ("to_timestamp(1767225600 + i)", "CAST('{}' AS jsonb)"),
    };
    let count = events();
    let numbers =
        |n: u64| format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n}) ");
    let content = format!(r#"{{"text":"{}"}}"#, "some text of a message ".repeat(43));
    for statement in [
        format!(
            "{} INSERT INTO run_events (thread_id, seq, run_id, event_type, category, item_id, item_kind, item_status,
                                        content, content_bytes, truncated, created_at)
             SELECT '{THREAD}', i, 'r' || (i / {RUN_EVENTS}), 'item.completed',
                    CASE WHEN i % 3 = 0 THEN 'message' ELSE 'trace' END, 'i' || i, 'agent_message', 'completed',
                    '{content}', {}, false, {time} FROM n",
            numbers(count),
            content.len()
        ),
        format!(
            "{} INSERT INTO thread_items (thread_id, run_id, item_id, item_kind, status, started_seq, updated_seq, started_at)
             SELECT '{THREAD}', 'r' || (i * 5 / {RUN_EVENTS}), 'i' || (i * 5), 'agent_message', 'completed', i * 5, i * 5,
                    {time} FROM n",
            numbers(count / 5)
        ),
        format!(
            "{} INSERT INTO runs (thread_id, run_id, status, visibility, operation_kind, multitask_strategy, metadata,
                                  kwargs, epoch, first_seq, last_seq, created_at, updated_at)
             SELECT '{THREAD}', 'r' || i, 'success', 'shown', 'run', 'reject', {jsonb}, {jsonb}, i,
                    i * {RUN_EVENTS}, i * {RUN_EVENTS} + {RUN_EVENTS} - 1, {time}, {time} FROM n",
            numbers(count / RUN_EVENTS)
        ),
        format!("UPDATE thread_heads SET next_seq = {} WHERE thread_id = '{THREAD}'", count + 1),
        "ANALYZE".to_owned(),
    ] {
        connection.execute_unprepared(&statement).await.unwrap();
    }
    connection.close().await.unwrap();
}

async fn open(url: &str) -> SqlLedger {
    up(url, &UpOptions::default()).await.unwrap();
    let ledger = connect(Config::new(url)).await.unwrap();
    ledger.threads().create(&Scope::System, NewThread::new(thread())).await.unwrap();
    fill(url).await;
    ledger
}

fn thread() -> ThreadId {
    ThreadId::new(THREAD).unwrap()
}

fn measure(criterion: &mut Criterion, backend: &str, runtime: &Runtime, ledger: &SqlLedger) {
    let (thread, middle) = (thread(), events() / 2);
    let run = RunId::new(format!("r{}", middle / RUN_EVENTS)).unwrap();
    let mut group = criterion.benchmark_group(format!("page of 50/{backend}"));
    for (name, range) in [
        ("newest", SeqRange::last(50)),
        ("first", SeqRange::after(0, 50)),
        ("middle", SeqRange::before(middle, 50)),
    ] {
        group.bench_function(format!("events {name}"), |bench| {
            bench.to_async(runtime).iter(|| async {
                let filter = EventFilter::default();
                black_box(
                    ledger.events().list_events(&Scope::System, &thread, &filter, &range).await.unwrap(),
                )
            });
        });
        group.bench_function(format!("messages {name}"), |bench| {
            bench.to_async(runtime).iter(|| async {
                let shown = RunVisibility::Shown;
                black_box(
                    ledger.events().list_messages(&Scope::System, &thread, shown, &range).await.unwrap(),
                )
            });
        });
    }
    group.bench_function("events of a run", |bench| {
        bench.to_async(runtime).iter(|| async {
            let (filter, range) = (EventFilter::of_run(run.clone()), SeqRange::last(50));
            black_box(ledger.events().list_events(&Scope::System, &thread, &filter, &range).await.unwrap())
        });
    });
    group.bench_function("items of a run", |bench| {
        bench.to_async(runtime).iter(|| async {
            let filter = ItemFilter { run_id: Some(run.clone()), status: None };
            black_box(
                ledger.items().list(&Scope::System, &thread, &filter, &SeqRange::last(50)).await.unwrap(),
            )
        });
    });
    group.bench_function("runs", |bench| {
        bench.to_async(runtime).iter(|| async {
            let filter = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
            black_box(ledger.runs().list(&Scope::System, &filter, &ListRange::default()).await.unwrap())
        });
    });
    group.bench_function("threads", |bench| {
        bench.to_async(runtime).iter(|| async {
            let filter = ThreadFilter::default();
            black_box(ledger.threads().list(&Scope::System, &filter, &ListRange::default()).await.unwrap())
        });
    });
    group.finish();
}

fn pages(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let ledger = runtime.block_on(open(&url));
    measure(criterion, "sqlite", &runtime, &ledger);
    runtime.block_on(ledger.close());

    let Ok(server) = std::env::var("RUNLEDGER_TEST_DATABASE_URL") else { return };
    let name = format!("bench_page_{}", std::process::id());
    let admin = runtime.block_on(sea_orm::Database::connect(&server)).unwrap();
    runtime.block_on(admin.execute_unprepared(&format!("CREATE DATABASE {name}"))).unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    let ledger = runtime.block_on(open(url.as_str()));
    measure(criterion, "postgresql", &runtime, &ledger);
    runtime.block_on(ledger.close());
    runtime.block_on(admin.execute_unprepared(&format!("DROP DATABASE {name}"))).unwrap();
}

criterion_group!(benches, pages);
criterion_main!(benches);
