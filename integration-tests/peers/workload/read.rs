//! Reads of a log of some length, and how they grow with it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runledger_core::{
    BoxError, Commit, EventFilter, ItemQuery, JournalMark, ListRange, NewRun, RunFilter, RunId,
    RunVisibility, Scope, SeqRange, ThreadFilter, UsageBy, UsageOf, UsageQuery,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};

use super::fill::{Filled, RUN, fill};
use crate::contender::python::{Peer, PythonPeer};
use crate::contender::{About, Appends as _, Backend, Setting, sqlite_limit};
use crate::measure::{Spread, median, settle};
use crate::report::{ReadRow, Size, say};
use crate::work::{Work, draft};
use crate::{Bench, line};

/// Rows of a page.
const PAGE: u32 = 50;
/// What a peer may take to be filled.
const FILLING: Duration = Duration::from_secs(60);

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Newest,
    First,
    Middle,
}

/// What is read, or in one case written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Events(At),
    Messages(At),
    /// All events of the run amid the log.
    Run,
    Count,
    Threads,
    Runs,
    Items,
    Context,
    UsageOfThread,
    UsageOfOwner,
    /// One event at the end of the log.
    Append,
}

const OPS: [Op; 15] = [
    Op::Events(At::Newest),
    Op::Events(At::Middle),
    Op::Events(At::First),
    Op::Messages(At::Newest),
    Op::Messages(At::Middle),
    Op::Messages(At::First),
    Op::Run,
    Op::Count,
    Op::Threads,
    Op::Runs,
    Op::Items,
    Op::Context,
    Op::UsageOfThread,
    Op::UsageOfOwner,
    Op::Append,
];

impl Op {
    fn is_page(self) -> bool {
        matches!(self, Self::Events(_) | Self::Messages(_))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Events(At::Newest) => "50 events, newest",
            Self::Events(At::Middle) => "50 events, middle",
            Self::Events(At::First) => "50 events, first",
            Self::Messages(At::Newest) => "50 messages, newest",
            Self::Messages(At::Middle) => "50 messages, middle",
            Self::Messages(At::First) => "50 messages, first",
            Self::Run => "a run's 500 events",
            Self::Count => "count of messages",
            Self::Threads => "50 threads of an owner",
            Self::Runs => "50 runs of an owner",
            Self::Items => "50 items with contents, newest",
            Self::Context => "context window of 100 messages",
            Self::UsageOfThread => "usage of the thread, in all",
            Self::UsageOfOwner => "usage of an owner, by model",
            Self::Append => "append of 1 event",
        }
    }

    /// Whether it costs what it sums, by its nature.
    fn sums(self) -> bool {
        matches!(self, Self::UsageOfThread | Self::UsageOfOwner)
    }
}

/// One that reads what somebody filled.
#[async_trait]
trait Reads: Send {
    /// Whether there is such a thing.
    fn can(&self, op: Op) -> bool;

    /// Does it.
    async fn once(&mut self, op: Op) -> Result<(), BoxError>;

    /// Does it so often, after once for warming up; `None` where there is no such thing.
    async fn read(&mut self, op: Op, times: usize) -> Result<Option<Spread>, BoxError> {
        if !self.can(op) {
            return Ok(None);
        }
        self.once(op).await?;
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            let began = Instant::now();
            self.once(op).await?;
            took.push(began.elapsed());
        }
        Ok(Some(Spread::of(took)))
    }

    async fn close(self: Box<Self>) {}
}

/// A page with less than it should have measures something else.
fn require(rows: usize, wanted: usize) -> Result<(), BoxError> {
    if rows == wanted { Ok(()) } else { Err(format!("{rows} rows were read instead of {wanted}").into()) }
}

fn range(at: At, events: u64) -> SeqRange {
    match at {
        At::Newest => SeqRange::last(PAGE),
        At::First => SeqRange::after(0, PAGE),
        At::Middle => SeqRange::before(events / 2, PAGE),
    }
}

/// Ours.
struct Ours {
    filled: Arc<Filled>,
    work: Arc<Work>,
    /// The run that appends, its epoch, and how many events it has.
    writing: Option<(RunId, u64, u64)>,
}

#[async_trait]
impl Reads for Ours {
    fn can(&self, op: Op) -> bool {
        let can = self.filled.ledger.ledger.capabilities();
        match op {
            Op::Events(_) | Op::Messages(_) | Op::Run | Op::Count | Op::Threads => true,
            Op::Runs | Op::Append => can.runs,
            Op::Items => can.items,
            Op::Context => can.sessions,
            Op::UsageOfThread | Op::UsageOfOwner => can.usage,
        }
    }

    async fn once(&mut self, op: Op) -> Result<(), BoxError> {
        let Filled { ledger, events, thread, run, chat, owner, .. } = &*self.filled;
        let (ledger, page) = (&ledger.ledger, PAGE as usize);
        match op {
            Op::Events(at) => {
                let (filter, range) = (EventFilter::default(), range(at, *events));
                require(ledger.events().list_events(owner, thread, &filter, &range).await?.items.len(), page)
            }
            Op::Messages(at) => {
                let (shown, range) = (RunVisibility::Shown, range(at, *events));
                require(ledger.events().list_messages(owner, thread, shown, &range).await?.items.len(), page)
            }
            Op::Run => {
                let (filter, range) = (EventFilter::of_run(run.clone()), SeqRange::last(RUN as u32));
                let read = ledger.events().list_events(owner, thread, &filter, &range).await?;
                require(read.items.len(), RUN as usize)
            }
            Op::Count => {
                let count = ledger.events().count_messages(owner, thread, RunVisibility::Shown).await?;
                if count > 0 { Ok(()) } else { Err("no message was counted".into()) }
            }
            Op::Threads => {
                let range = ListRange::newest(PAGE);
                let threads = ledger.threads().list(owner, &ThreadFilter::default(), &range).await?;
                require(threads.items.len(), page.min(2 + (*events / 100) as usize))
            }
            Op::Runs => {
                let range = ListRange::newest(PAGE);
                let runs = ledger.runs().list(owner, &RunFilter::default(), &range).await?;
                let there = 1 + (*events / RUN) as usize;
                // Of what appends, too, once it has begun.
                if runs.items.len() >= page.min(there) { Ok(()) } else { require(runs.items.len(), there) }
            }
            Op::Items => {
                let query = ItemQuery { range: SeqRange::last(PAGE), ..ItemQuery::default() };
                require(ledger.items().page(owner, thread, &query).await?.items.len(), page)
            }
            Op::Context => {
                let window = ledger.context().load(owner, chat).await?;
                if window.messages.is_empty() { Err("the window is empty".into()) } else { Ok(()) }
            }
            Op::UsageOfThread => {
                let query = UsageQuery::new(UsageOf::Thread(thread.clone()), UsageBy::Total);
                require(ledger.usage().report(owner, &query).await?.len(), 1)
            }
            Op::UsageOfOwner => {
                let query = UsageQuery::new(UsageOf::All, UsageBy::Model);
                require(ledger.usage().report(owner, &query).await?.len(), 1)
            }
            Op::Append => self.append().await,
        }
    }
}

impl Ours {
    async fn append(&mut self) -> Result<(), BoxError> {
        let (ledger, thread) = (&self.filled.ledger.ledger, &self.filled.thread);
        let (run, epoch, ordinal) = match self.writing.take() {
            Some(writing) => writing,
            None => {
                let run = RunId::generate();
                let new = NewRun::new(thread.clone(), run.clone());
                let epoch = ledger.admit(&Scope::System, new).await?.run.epoch;
                (run, epoch, 0)
            }
        };
        let commit = Commit::of_run(thread.clone(), run.clone())
            .with_events(vec![draft(&self.work, ordinal)?])
            .with_mark(JournalMark { epoch, ordinal });
        ledger.events().append(&Scope::System, commit).await?;
        self.writing = Some((run, epoch, ordinal + 1));
        Ok(())
    }
}

/// The page's columns, and how the bare drivers ask for it.
const SELECT: &str = "SELECT thread_id, seq, run_id, journal_ordinal, once_key, event_type, category, caller, task_id, \
                      item_id, item_kind, item_status, call_id, parent_item_id, content, content_bytes, truncated, \
                      metadata, created_at FROM run_events WHERE thread_id = ";
/// The first is the condition of the partial index.
const MESSAGES: &str = " AND category IN ('message', 'reasoning') AND category = 'message'";

/// The text of a page's statement for the bare drivers.
fn select(op: Op, filled: &Filled) -> Result<String, BoxError> {
    let (only, at) = match op {
        Op::Events(at) => ("", at),
        Op::Messages(at) => (MESSAGES, at),
        _ => return Err(format!("{} is no page", op.name()).into()),
    };
    let (events, thread) = (filled.events, &filled.thread);
    let place = match at {
        At::Newest => "ORDER BY seq DESC".to_owned(),
        At::First => "AND seq > 0 ORDER BY seq".to_owned(),
        At::Middle => format!("AND seq < {} ORDER BY seq DESC", events / 2),
    };
    // One more than is shown says whether there are more.
    Ok(format!("{SELECT}'{thread}'{only} {place} LIMIT {}", PAGE + 1))
}

/// The bare driver of SQLite on what ours filled.
struct BareSqlite {
    filled: Arc<Filled>,
    connection: rusqlite::Connection,
}

impl BareSqlite {
    fn open(filled: &Arc<Filled>) -> Result<Self, BoxError> {
        let url = filled.ledger.url.as_deref().unwrap_or_default();
        let path = Path::new(url.trim_start_matches("sqlite://"));
        let connection = sqlite_limit::connect(path, Setting::SqliteNormal)?;
        Ok(Self { filled: Arc::clone(filled), connection })
    }
}

#[async_trait]
impl Reads for BareSqlite {
    fn can(&self, op: Op) -> bool {
        op.is_page()
    }

    async fn once(&mut self, op: Op) -> Result<(), BoxError> {
        let mut statement = self.connection.prepare_cached(&select(op, &self.filled)?)?;
        let mut rows = statement.query([])?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            // Owned, as everybody who hands a page on has it.
            let cells: Vec<rusqlite::types::Value> =
                (0..19).map(|column| row.get(column)).collect::<Result<_, _>>()?;
            page.push(cells);
        }
        require(page.len(), PAGE as usize + 1)
    }
}

/// The bare driver that ours has below it on PostgreSQL.
struct BareSqlx {
    filled: Arc<Filled>,
    connection: sqlx::PgConnection,
}

impl BareSqlx {
    async fn open(filled: &Arc<Filled>) -> Result<Self, BoxError> {
        let url = filled.ledger.url.as_deref().unwrap_or_default();
        Ok(Self { filled: Arc::clone(filled), connection: sqlx::PgConnection::connect(url).await? })
    }
}

#[async_trait]
impl Reads for BareSqlx {
    fn can(&self, op: Op) -> bool {
        op.is_page()
    }

    async fn once(&mut self, op: Op) -> Result<(), BoxError> {
        let query = sqlx::query(sqlx::AssertSqlSafe(select(op, &self.filled)?));
        let rows = query.fetch_all(&mut self.connection).await?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut texts: Vec<Option<String>> = Vec::with_capacity(19);
            for column in [0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17] {
                texts.push(row.try_get(column)?);
            }
            let numbers: (i64, Option<i64>, i64, bool) =
                (row.try_get(1)?, row.try_get(3)?, row.try_get(15)?, row.try_get(16)?);
            let at: chrono::DateTime<chrono::Utc> = row.try_get(18)?;
            page.push((texts, numbers, at));
        }
        require(page.len(), PAGE as usize + 1)
    }
}

/// A peer that was filled.
struct Python(PythonPeer);

const THREAD: &str = "long";

impl Python {
    fn question(op: Op, times: usize) -> Option<Value> {
        match op {
            Op::Events(at) => {
                let at = match at {
                    At::Newest => "newest",
                    At::First => "first",
                    At::Middle => "middle",
                };
                Some(json!({"op": "page", "thread": THREAD, "limit": PAGE, "at": at, "times": times}))
            }
            Op::Count => Some(json!({"op": "count", "thread": THREAD, "times": times})),
            _ => None,
        }
    }
}

#[async_trait]
impl Reads for Python {
    fn can(&self, op: Op) -> bool {
        Self::question(op, 1).is_some()
    }

    async fn once(&mut self, op: Op) -> Result<(), BoxError> {
        self.read(op, 1).await.map(drop)
    }

    /// It takes the time by itself, without the pipe.
    async fn read(&mut self, op: Op, times: usize) -> Result<Option<Spread>, BoxError> {
        match Self::question(op, times) {
            Some(question) => self.0.read(question).await,
            None => Ok(None),
        }
    }

    async fn close(self: Box<Self>) {
        Box::new(self.0).close().await;
    }
}

/// A contender at work, and what each round gave for each thing.
struct Entry {
    about: About,
    reader: Box<dyn Reads>,
    read: Vec<(Op, Vec<Spread>)>,
}

impl Entry {
    fn new(about: About, reader: Box<dyn Reads>) -> Self {
        Self { about, reader, read: OPS.map(|op| (op, Vec::new())).into() }
    }

    async fn round(&mut self, bench: &Bench, events: u64, at: usize) -> Result<(), BoxError> {
        let (op, read) = &mut self.read[at];
        // What takes longer by its nature is not done as often.
        let times = if op.sums() { bench.arguments.reads().div_ceil(10) } else { bench.arguments.reads() };
        if *op == Op::Append && !bench.arguments.smoke {
            settle().await;
        }
        if let Some(spread) = self.reader.read(*op, times).await? {
            let what = line(GROUP, &workload(events), &self.about);
            say(&format!("{what}: {}: p50 {:.0} us, p99 {:.0} us", op.name(), spread.p50, spread.p99));
            read.push(spread);
        }
        Ok(())
    }

    /// The medians of what it has.
    async fn finish(self, events: u64) -> Vec<ReadRow> {
        let measured = self.read.iter().filter(|(_, read)| !read.is_empty());
        let rows = measured.map(|(op, read)| ReadRow {
            op: op.name(),
            events,
            about: self.about.clone(),
            p50: median(read.iter().map(|spread| spread.p50)),
            p99: median(read.iter().map(|spread| spread.p99)),
            sums: op.sums(),
        });
        let rows = rows.collect();
        self.reader.close().await;
        rows
    }
}

/// The group's name on stderr.
const GROUP: &str = "read";

fn workload(events: u64) -> String {
    match events {
        1_000_000.. => format!("{}M", events / 1_000_000),
        _ => format!("{}k", events / 1_000),
    }
}

/// Fills and opens every contender that is wanted.
async fn open(bench: &mut Bench, events: u64) -> Result<Vec<Entry>, BoxError> {
    let mut entries = Vec::new();
    for setting in [Setting::SqliteNormal, Setting::Postgresql, Setting::Jsonl, Setting::Memory] {
        let about = setting.ours();
        let too_large = events > 200_000 && matches!(setting, Setting::Jsonl | Setting::Memory);
        let wanted = bench.wants(GROUP, &workload(events), &about) && bench.has(setting.backend());
        if !wanted || too_large {
            continue;
        }
        say(&format!("filling {} with {events} events", about.name));
        let filled = Arc::new(fill(setting, &bench.place, &bench.work, events).await?);
        let bare: Option<(&str, Box<dyn Reads>)> = match setting {
            Setting::SqliteNormal => Some(("limit, rusqlite", Box::new(BareSqlite::open(&filled)?))),
            Setting::Postgresql => Some(("limit, sqlx", Box::new(BareSqlx::open(&filled).await?))),
            _ => None,
        };
        if let Some(bytes) = stored_bytes(setting, &filled).await? {
            let (backend, payload) = (setting.backend(), filled.payload);
            bench.report.sizes.push(Size { backend, events, bytes, payload });
        }
        let mut ours = about.clone();
        ours.limit = bare.as_ref().map(|(name, _)| (*name).to_owned());
        let work = Arc::clone(&bench.work);
        entries.push(Entry::new(ours, Box::new(Ours { filled, work, writing: None })));
        if let Some((name, reader)) = bare {
            entries.push(Entry::new(About { name: name.to_owned(), limit: None, ..about }, reader));
        }
    }
    for peer in &bench.peers.all {
        if events > 200_000 || !bench.wants(GROUP, &workload(events), &peer.about) {
            continue;
        }
        match filled_peer(bench, peer, events).await {
            Ok(Some(python)) => entries.push(Entry::new(peer.about.clone(), Box::new(Python(python)))),
            Ok(None) => {}
            Err(error) => bench.failed(GROUP, &workload(events), &peer.about, &error)?,
        }
    }
    Ok(entries)
}

/// A peer with a long log; none where filling it takes too long.
async fn filled_peer(bench: &Bench, peer: &Peer, events: u64) -> Result<Option<PythonPeer>, BoxError> {
    let mut python = bench.peers.open(peer, &bench.place).await?;
    let trial = events.min(2_000);
    let began = Instant::now();
    python.fill("trial", trial).await?;
    let expected = began.elapsed() * (events / trial) as u32;
    if expected > FILLING {
        let what = line(GROUP, &workload(events), &peer.about);
        say(&format!("SKIPPED {what}: to fill it would take {} s", expected.as_secs()));
        Box::new(python).close().await;
        return Ok(None);
    }
    python.fill(THREAD, events).await?;
    Ok(Some(python))
}

/// What is on the disk, all indexes included, after what each database does by itself in time.
async fn stored_bytes(setting: Setting, filled: &Filled) -> Result<Option<u64>, BoxError> {
    let url = filled.ledger.url.as_deref().unwrap_or_default();
    match setting.backend() {
        Backend::Sqlite => {
            let path = Path::new(url.trim_start_matches("sqlite://"));
            let connection = sqlite_limit::connect(path, setting)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(Some(std::fs::metadata(path)?.len()))
        }
        Backend::Postgresql => {
            let mut connection = sqlx::PgConnection::connect(url).await?;
            sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut connection).await?;
            let bytes: i64 = sqlx::query_scalar(
                "SELECT CAST(sum(pg_total_relation_size(oid)) AS bigint) FROM pg_class \
                 WHERE relkind = 'r' AND relnamespace = CAST('public' AS regnamespace)",
            )
            .fetch_one(&mut connection)
            .await?;
            Ok(Some(bytes.try_into()?))
        }
        Backend::Files | Backend::Memory => Ok(None),
    }
}

/// Reads at each size in turns.
pub(crate) async fn run(bench: &mut Bench) -> Result<(), BoxError> {
    for events in bench.arguments.sizes() {
        let mut entries: Vec<Option<Entry>> = open(bench, events).await?.into_iter().map(Some).collect();
        let count = entries.len();
        for round in 0..bench.arguments.rounds() {
            for at in 0..OPS.len() {
                for turn in 0..count {
                    let place = &mut entries[(turn + round) % count];
                    let Some(mut entry) = place.take() else { continue };
                    match entry.round(bench, events, at).await {
                        Ok(()) => *place = Some(entry),
                        Err(error) => bench.failed(GROUP, &workload(events), &entry.about, &error)?,
                    }
                }
            }
        }
        for entry in entries.into_iter().flatten() {
            bench.report.reads.extend(entry.finish(events).await);
        }
    }
    Ok(())
}
