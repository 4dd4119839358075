//! How fast commits are stored: `wN bM` is N concurrent writers with a thread each, M events to a
//! commit. Every commit is one of a journal: a mark, an item for 40 % of its events, a model call
//! for each ten. On a SQLite file, and on PostgreSQL where `RUNLEDGER_TEST_DATABASE_URL` names a
//! server; its database is left there, named `append_` and a number.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use runledger_core::{
    Category, Commit, EventDraft, EventType, ItemKind, ItemMark, ItemStatus, JournalMark, NewRun, NewThread,
    RawJson, RunId, Scope, SourceId, ThreadId, TokenCounts, UsageDraft,
};
use runledger_migration::{UpOptions, up};
use runledger_persistence::{Config, SqlLedger, connect};
use sea_orm::{ConnectionTrait, Database};
use tokio::runtime::Runtime;

/// Writers and events of a commit.
const LOADS: [(usize, usize); 4] = [(1, 1), (1, 20), (1, 100), (32, 1)];

/// Bytes of an event's text.
const TEXT: usize = 900;

/// One run that appends.
struct Writer {
    ledger: SqlLedger,
    thread: ThreadId,
    run: RunId,
    epoch: u64,
    ordinal: AtomicU64,
    content: RawJson,
}

impl Writer {
    async fn new(ledger: &SqlLedger) -> Self {
        let (thread, run) = (ThreadId::generate(), RunId::generate());
        let create_missing = Some(NewThread::new(thread.clone()));
        let new = NewRun { create_missing, ..NewRun::new(thread.clone(), run.clone()) };
        let epoch = ledger.admit(&Scope::System, new).await.unwrap().run.epoch;
        let content = RawJson::string(&"x".repeat(TEXT));
        Self { ledger: ledger.clone(), thread, run, epoch, ordinal: AtomicU64::new(0), content }
    }

    fn event(&self, number: u64) -> EventDraft {
        if number % 5 < 2 {
            let item = format!("item-{number}").parse().unwrap();
            let mark = ItemMark::new(item, ItemKind::AgentMessage, ItemStatus::Completed);
            return EventDraft::item(mark, Category::Message, self.content.clone());
        }
        EventDraft::new(EventType::new("llm.started").unwrap(), Category::Lifecycle, self.content.clone())
    }

    async fn append(&self, events: usize) {
        let ordinal = self.ordinal.fetch_add(events as u64, Ordering::Relaxed);
        let numbers = ordinal..ordinal + events as u64;
        let calls = numbers.clone().filter(|number| number % 10 == 0).map(|number| {
            UsageDraft::new(SourceId::new(format!("call-{number}")).unwrap(), TokenCounts::of(100, 10))
        });
        let commit = Commit {
            usage: calls.collect(),
            mark: Some(JournalMark { epoch: self.epoch, ordinal }),
            ..Commit::of_run(self.thread.clone(), self.run.clone())
        };
        let commit = commit.with_events(numbers.map(|number| self.event(number)).collect());
        self.ledger.events().append(&Scope::System, commit).await.unwrap();
    }
}

fn loads(criterion: &mut Criterion, runtime: &Runtime, name: &str, ledger: &SqlLedger) {
    let mut group = criterion.benchmark_group(format!("append/{name}"));
    for (writers, events) in LOADS {
        let all: Vec<Writer> =
            runtime.block_on(async { join_all((0..writers).map(|_| Writer::new(ledger))).await });
        group.throughput(Throughput::Elements((writers * events) as u64));
        group.bench_function(format!("w{writers} b{events}"), |bencher| {
            bencher.to_async(runtime).iter(|| join_all(all.iter().map(|writer| writer.append(events))));
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let open = |url: String| {
        runtime.block_on(async {
            up(&url, &UpOptions::default()).await.unwrap();
            connect(Config::new(url)).await.unwrap()
        })
    };
    let ledger = open(url);
    loads(criterion, &runtime, "sqlite", &ledger);
    runtime.block_on(ledger.close());
    let Ok(server) = std::env::var("RUNLEDGER_TEST_DATABASE_URL") else { return };
    let name = format!("append_{}", std::process::id());
    runtime.block_on(async {
        let admin = Database::connect(&server).await.unwrap();
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    });
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    let ledger = open(url.into());
    loads(criterion, &runtime, "postgresql", &ledger);
    runtime.block_on(ledger.close());
}

criterion_group!(benches, append);
criterion_main!(benches);
