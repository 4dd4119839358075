//! Streams over HTTP and tails, where others write: another ledger on the same database stands for another process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, EventDraft, EventType, Finish, JournalMark, Ledger, NewRun, NewThread, Outcome,
    RawJson, RunId, RunProgress, Scope, TailItem, ThreadId, Timestamp,
};
use runledger_gateway::{Auth, AuthError, Caller, Gateway, Options};
use runledger_integration_tests::{postgres, sqlite};
use runledger_persistence::{Config, Notifications, SqlLedger, connect};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};

use crate::backend::{Fresh, on_each_backend};

on_each_backend!(
    a_connection_that_breaks_fifty_times_misses_nothing,
    a_notification_that_is_lost_is_found_by_the_next_look,
    tails_end_when_others_delete_their_thread,
);

#[derive(Debug)]
struct Everybody;

#[async_trait]
impl Auth for Everybody {
    async fn authenticate(&self, _: &axum::http::request::Parts) -> Result<Caller, AuthError> {
        Ok(Caller::new(Scope::System))
    }
}

/// Serves the ledger on a port of this machine.
async fn serve(ledger: Ledger, poll: Duration) -> SocketAddr {
    let options = Options { poll, ..Options::default() };
    let router = Gateway::new(ledger, Everybody).with_options(options).router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A client that asks in HTTP/1.0, whose answers are not cut into chunks.
struct Client(Lines<BufReader<TcpStream>>);

impl Client {
    async fn open(address: SocketAddr, path: &str, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        let request = format!("GET {path} HTTP/1.0\r\nHost: here\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next_line().await.unwrap().unwrap();
        assert!(status.contains(" 200 "), "{status}");
        Self(lines)
    }

    /// The event and id of the next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Option<u64>)> {
        let (mut name, mut id) = (None, None);
        loop {
            let line = self.0.next_line().await.unwrap()?;
            match line.split_once(": ") {
                Some(("event", value)) => name = Some(value.to_owned()),
                Some(("id", value)) => id = Some(value.parse().unwrap()),
                _ if line.is_empty() => match name.take() {
                    Some(name) => return Some((name, id)),
                    None => id = None,
                },
                _ => {}
            }
        }
    }
}

fn note(number: u64) -> EventDraft {
    let content = RawJson::string(&number.to_string());
    EventDraft::new(EventType::new("note").unwrap(), Category::new("note").unwrap(), content)
}

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

async fn append(ledger: &Ledger, thread: &ThreadId, events: Vec<EventDraft>) {
    ledger.events().append(&Scope::System, Commit::new(thread.clone()).with_events(events)).await.unwrap();
}

async fn another(fresh: &Fresh, notifications: Notifications) -> SqlLedger {
    connect(Config::new(fresh.database.url()).with_notifications(notifications)).await.unwrap()
}

/// However often its connection breaks, a reader of a run that another process writes is given each event once, in order.
async fn a_connection_that_breaks_fifty_times_misses_nothing(fresh: &Fresh) {
    const EVENTS: u64 = 5_000;
    let writer = another(fresh, Notifications::On).await;
    let new = NewRun {
        create_missing: Some(NewThread::new(thread())),
        ..NewRun::new(thread(), RunId::new("r").unwrap())
    };
    let run = writer.admit(&Scope::System, new).await.unwrap().run;
    let address = serve(fresh.ledger(), Duration::from_millis(100)).await;
    let writing = tokio::spawn(async move {
        for batch in (1..EVENTS).collect::<Vec<_>>().chunks(7) {
            let commit = Commit::of_run(run.thread_id.clone(), run.run_id.clone());
            let events = batch.iter().copied().map(note).collect();
            writer.events().append(&Scope::System, commit.with_events(events)).await.unwrap();
        }
        let (outcome, at) = (Outcome::success(), Timestamp::now());
        let finish = Finish {
            thread_id: run.thread_id.clone(),
            run_id: run.run_id.clone(),
            mark: JournalMark { epoch: run.epoch, ordinal: 0 },
            events: vec![EventDraft::terminal(&outcome, None, at)],
            outcome,
            at,
            usage: Vec::new(),
            asks: Vec::new(),
            progress: RunProgress::default(),
        };
        writer.finish(&Scope::System, finish).await.unwrap();
        writer.close().await;
    });
    let (mut seen, mut last, mut connections, mut random) = (Vec::new(), None, 0_u64, 11_u64);
    'connections: loop {
        connections += 1;
        let mut client = Client::open(address, "/api/threads/t/runs/r/stream", last).await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut left = if connections <= 50 { (random >> 33) % 190 } else { u64::MAX };
        while left > 0 {
            match client.next().await {
                Some((name, Some(seq))) if name == "event" => {
                    seen.push(seq);
                    last = Some(seq);
                    left -= 1;
                }
                Some((name, None)) if name == "end" => break 'connections,
                other => panic!("{other:?} after {last:?}"),
            }
        }
    }
    writing.await.unwrap();
    assert!(connections > 50, "{connections} connections");
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
}

/// What nobody tells is found all the same.
async fn a_notification_that_is_lost_is_found_by_the_next_look(fresh: &Fresh) {
    let ledger = fresh.ledger();
    ledger.threads().create(&Scope::System, NewThread::new(thread())).await.unwrap();
    let mut tail = ledger.tail(Scope::System, thread(), 0, Duration::from_millis(100));
    let writer = another(fresh, Notifications::Off).await;
    for seq in 1..=3 {
        append(&writer, &thread(), vec![note(seq)]).await;
        match tail.next().await {
            Some(Ok(TailItem::Event(event))) => assert_eq!(event.seq, seq),
            other => panic!("{other:?}"),
        }
    }
    writer.close().await;
}

/// A tail that waits learns that its thread went, or changed hands, from the look for all.
async fn tails_end_when_others_delete_their_thread(fresh: &Fresh) {
    let ledger = fresh.ledger();
    let writer = another(fresh, Notifications::Off).await;
    let mut tails = Vec::new();
    for name in ["a", "b"] {
        let thread = ThreadId::new(name).unwrap();
        let alice = Scope::Owner(runledger_core::OwnerId::new("alice").unwrap());
        ledger.threads().create(&alice, NewThread::new(thread.clone())).await.unwrap();
        append(&ledger, &thread, vec![note(1)]).await;
        for _ in 0..20 {
            let mut tail = ledger.tail(alice.clone(), thread.clone(), 0, Duration::from_millis(50));
            assert!(matches!(tail.next().await, Some(Ok(TailItem::Event(_)))));
            tails.push(tail);
        }
    }
    writer.threads().delete(&Scope::System, &ThreadId::new("a").unwrap()).await.unwrap();
    let bob = Some(runledger_core::OwnerId::new("bob").unwrap());
    writer.threads().set_owner(&Scope::System, &ThreadId::new("b").unwrap(), bob).await.unwrap();
    for tail in &mut tails {
        let ends: Vec<_> = tail.map(|item| item.map_err(|error| error.kind())).collect().await;
        assert_eq!(ends, [Err(runledger_core::ErrorKind::NotFound)]);
    }
    writer.close().await;
}

/// PostgreSQL: what another process appends is heard of long before the next look.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_of_another_process_is_heard_of() {
    let Some(fresh) = crate::backend::postgresql().await else { return };
    let ledger = fresh.ledger();
    ledger.threads().create(&Scope::System, NewThread::new(thread())).await.unwrap();
    // Nobody looks in the lifetime of this test.
    let mut tail = ledger.tail(Scope::System, thread(), 0, Duration::from_secs(36_000));
    let writer = another(&fresh, Notifications::On).await;
    for seq in 1..=3 {
        append(&writer, &thread(), vec![note(seq)]).await;
        match tail.next().await {
            Some(Ok(TailItem::Event(event))) => assert_eq!(event.seq, seq),
            other => panic!("{other:?}"),
        }
    }
    writer.close().await;
}

/// Memory, processor time and statements of 1,000 streams on which nothing happens:
/// `cargo test --workspace --test integration idle_streams -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of a minute"]
async fn idle_streams_are_measured() {
    let file = sqlite::database().await;
    measure("SQLite file", file.url()).await;
    if let Some(server) = postgres::server() {
        let database = server.database().await;
        measure("PostgreSQL", database.url()).await;
    }
}

#[expect(clippy::print_stdout, reason = "a measurement is for reading")]
async fn measure(name: &str, url: &str) {
    const STREAMS: usize = 1_000;
    const IDLE: Duration = Duration::from_secs(30);
    let ledger = connect(Config::new(url)).await.unwrap();
    let address = serve(ledger.ledger(), Duration::from_secs(1)).await;
    for number in 0..STREAMS {
        let thread = ThreadId::new(format!("t{number}")).unwrap();
        ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await.unwrap();
        append(&ledger, &thread, vec![note(1)]).await;
    }
    let before = usage();
    let mut clients = Vec::new();
    for number in 0..STREAMS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /api/threads/t{number}/stream HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::with_capacity(512, stream).lines();
        // It is open when it says so.
        while lines.next_line().await.unwrap().is_some_and(|line| !line.contains("retry")) {}
        clients.push(lines);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (open, statements, since) = (usage(), transactions(url).await, Instant::now());
    tokio::time::sleep(IDLE).await;
    let (idle, more) = (usage(), transactions(url).await);
    let seconds = since.elapsed().as_secs_f64();
    println!(
        "{name}: {STREAMS} idle streams take {} KiB each (clients included), {:.2} s of processor time in {seconds:.0} s{}",
        (open.0 - before.0) / STREAMS as u64,
        idle.1 - open.1,
        match (statements, more) {
            (Some(before), Some(after)) =>
                format!(", {:.1} transactions a second", (after - before) as f64 / seconds),
            _ => String::new(),
        }
    );
    drop(clients);
    ledger.close().await;
}

/// Resident KiB and seconds of processor time of this process, where the system says it.
fn usage() -> (u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat.rsplit(')').next().map_or(0, |rest| {
        rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
    });
    (resident.unwrap_or(0), ticks as f64 / 100.0)
}

/// How many transactions the database has seen, on PostgreSQL.
async fn transactions(url: &str) -> Option<i64> {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.ok()?;
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.ok();
    connection.close().await.ok()?;
    count
}
