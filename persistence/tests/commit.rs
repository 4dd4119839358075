//! The write path under what the kit cannot do: groups, retries, callers that leave, a connection
//! that dies. On a SQLite file and in memory, and on PostgreSQL where `RUNLEDGER_TEST_DATABASE_URL`
//! names a server.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should end there")]

use std::time::Duration;

use futures_util::future::join_all;
use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, ErrorKind, EventDraft, EventFilter, EventType, Expected, Finish, ItemKind, ItemMark,
    ItemStatus, JournalMark, Ledger, NewRun, NewThread, ONCE_TERMINAL, Outcome, RawJson, Result, RunId,
    RunProgress, RunStatus, Scope, SeqRange, SourceId, ThreadId, Timestamp, TokenCounts, Transition,
    UsageDraft,
};
use runledger_migration::{UpOptions, up, up_on};
use runledger_persistence::{Config, Connecting, SqlLedger, connect};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

const SERVER: &str = "RUNLEDGER_TEST_DATABASE_URL";

/// A migrated database of its own, and what keeps it.
struct Backend {
    ledger: SqlLedger,
    /// Where another may find it.
    url: Option<String>,
    server: Option<(DatabaseConnection, String)>,
    _folder: Option<tempfile::TempDir>,
}

async fn file() -> Backend {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
    up(&url, &UpOptions::default()).await.unwrap();
    let ledger = connect(Config::new(&url)).await.unwrap();
    Backend { ledger, url: Some(url), server: None, _folder: Some(folder) }
}

async fn memory() -> Backend {
    let connecting = Connecting::open(Config::new("sqlite::memory:")).await.unwrap();
    up_on(connecting.database(), &UpOptions::default()).await.unwrap();
    Backend { ledger: connecting.ledger().await.unwrap(), url: None, server: None, _folder: None }
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
async fn server() -> Option<Backend> {
    let Ok(url) = std::env::var(SERVER) else {
        eprintln!("SKIPPED: set {SERVER} to a PostgreSQL server to run this there");
        return None;
    };
    let admin = Database::connect(&url).await.unwrap();
    let name = format!("commit_{}", ThreadId::generate().as_str().replace('-', "_"));
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut own = url::Url::parse(&url).unwrap();
    own.set_path(&name);
    up(own.as_str(), &UpOptions::default()).await.unwrap();
    let ledger = connect(Config::new(own.clone())).await.unwrap();
    Some(Backend { ledger, url: Some(own.into()), server: Some((admin, name)), _folder: None })
}

async fn backends() -> Vec<Backend> {
    let mut all = vec![file().await, memory().await];
    all.extend(server().await);
    all
}

impl Backend {
    async fn end(self) {
        self.ledger.close().await;
        if let Some((admin, name)) = self.server {
            admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
        }
    }
}

fn thread(name: &str) -> ThreadId {
    ThreadId::new(name).unwrap()
}

fn run(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

fn note(text: &str) -> EventDraft {
    EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::string(text))
}

fn mark(epoch: u64, ordinal: u64) -> JournalMark {
    JournalMark { epoch, ordinal }
}

/// Admits a run on a new thread, and gives its epoch.
async fn admitted(ledger: &Ledger, t: &ThreadId, r: &RunId) -> u64 {
    let new = NewRun { create_missing: Some(NewThread::new(t.clone())), ..NewRun::new(t.clone(), r.clone()) };
    ledger.admit(&Scope::System, new).await.unwrap().run.epoch
}

async fn contents(ledger: &Ledger, t: &ThreadId) -> Vec<(u64, String)> {
    let range = SeqRange::after(0, 1_000);
    let page = ledger.events().list_events(&Scope::System, t, &EventFilter::default(), &range).await.unwrap();
    page.items.into_iter().map(|event| (event.seq, event.content.decode().unwrap())).collect()
}

async fn append(ledger: &Ledger, commit: Commit) -> Result<Vec<u64>> {
    Ok(ledger.events().append(&Scope::System, commit).await?.seqs)
}

#[tokio::test]
async fn a_refused_member_of_a_group_fails_nobody_else() {
    for backend in backends().await {
        let ledger = &backend.ledger;
        let t = thread("t");
        let new = NewThread::new(t.clone());
        ledger.threads().create(&Scope::System, new).await.unwrap();
        for round in 0..3 {
            // All are polled before the lane is, so that they meet in one group.
            let commits = (0..30).map(|number| {
                let commit = Commit::new(t.clone()).with_events(vec![note(&format!("{round}.{number}"))]);
                match number % 5 {
                    1 => Commit { expected: Expected::NextSeq(9_999), ..commit },
                    2 => Commit { run_id: Some(run("none")), ..commit },
                    3 => Commit { thread_id: thread("none"), ..commit },
                    _ => commit,
                }
            });
            let kinds: Vec<Option<ErrorKind>> = join_all(commits.map(|commit| append(ledger, commit)))
                .await
                .into_iter()
                .map(|answer| answer.err().map(|error| error.kind()))
                .collect();
            let expected: Vec<Option<ErrorKind>> = (0..30)
                .map(|number| match number % 5 {
                    1 => Some(ErrorKind::Conflict),
                    2 | 3 => Some(ErrorKind::NotFound),
                    _ => None,
                })
                .collect();
            assert_eq!(kinds, expected);
        }
        let seqs: Vec<u64> = contents(ledger, &t).await.into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(seqs, (1..=36).collect::<Vec<u64>>());
        backend.end().await;
    }
}

#[tokio::test]
async fn a_repeated_mark_is_answered_and_stored_once() {
    for backend in backends().await {
        let ledger = &backend.ledger;
        let (t, r) = (thread("t"), run("r"));
        let epoch = admitted(ledger, &t, &r).await;
        let send = |ordinal: u64, texts: &[&str]| {
            Commit::of_run(t.clone(), r.clone())
                .with_mark(mark(epoch, ordinal))
                .with_events(texts.iter().map(|text| note(text)).collect())
        };
        assert_eq!(append(ledger, send(0, &["a", "b"])).await.unwrap(), [1, 2]);
        assert_eq!(append(ledger, send(0, &["a", "b"])).await.unwrap(), [1, 2]);
        assert_eq!(append(ledger, send(1, &["b", "c"])).await.unwrap(), [2, 3]);
        assert_eq!(append(ledger, send(1, &["x"])).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(append(ledger, send(9, &["x"])).await.unwrap_err().kind(), ErrorKind::Conflict);
        // The same commit many times at once, some of them in one group.
        let all = join_all((0..20).map(|_| append(ledger, send(3, &["d", "e"])))).await;
        assert_eq!(all.into_iter().map(Result::unwrap).collect::<Vec<_>>(), vec![vec![4, 5]; 20]);
        let old = Commit { mark: Some(mark(epoch + 1, 0)), ..send(0, &["x"]) };
        assert_eq!(append(ledger, old).await.unwrap_err().kind(), ErrorKind::LeaseLost);
        let texts: Vec<String> = contents(ledger, &t).await.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["a", "b", "c", "d", "e"]);
        backend.end().await;
    }
}

#[tokio::test]
async fn a_run_grows_by_what_is_stored_and_ends_at_once() {
    for backend in backends().await {
        let ledger = &backend.ledger;
        let (t, r) = (thread("t"), run("r"));
        let epoch = admitted(ledger, &t, &r).await;
        let of_run = |ordinal| Commit::of_run(t.clone(), r.clone()).with_mark(mark(epoch, ordinal));
        let start = Commit { transition: Some(Transition::Start { at: Timestamp::now() }), ..of_run(0) };
        append(ledger, start).await.unwrap();
        let item = |status| {
            let mark = ItemMark::new("i".parse().unwrap(), ItemKind::ToolCall, status);
            EventDraft::item(mark, Category::Message, RawJson::string("item"))
        };
        let call = |total: u64| UsageDraft::new(SourceId::new("call").unwrap(), TokenCounts::of(total, 0));
        // New, then completed, then ignored.
        for (ordinal, (total, status)) in
            [(0, ItemStatus::InProgress), (7, ItemStatus::Completed), (9, ItemStatus::Failed)]
                .into_iter()
                .enumerate()
        {
            let progress =
                RunProgress { last_ai_message: Some(format!("said {ordinal}")), ..RunProgress::default() };
            let commit = Commit { usage: vec![call(total)], progress, ..of_run(ordinal as u64) };
            append(ledger, commit.with_events(vec![item(status)])).await.unwrap();
        }
        let finish = Finish {
            thread_id: t.clone(),
            run_id: r.clone(),
            mark: mark(epoch, 3),
            events: vec![EventDraft { once_key: Some(ONCE_TERMINAL.to_owned()), ..note("end") }],
            usage: Vec::new(),
            progress: RunProgress::default(),
            outcome: Outcome::success(),
            at: Timestamp::now(),
            asks: Vec::new(),
        };
        let first = ledger.finish(&Scope::System, finish.clone()).await.unwrap();
        let again = ledger.finish(&Scope::System, finish).await.unwrap();
        assert_eq!(first.run, again.run);
        assert_eq!(again.receipt.map(|receipt| receipt.already_stored), Some(1));
        let ended = first.run;
        assert_eq!(
            (
                ended.status,
                ended.totals.llm_calls,
                ended.totals.total_tokens,
                ended.first_seq,
                ended.last_seq
            ),
            (RunStatus::Success, 1, 7, Some(1), Some(4)),
        );
        assert_eq!((ended.message_count, ended.last_ai_message.as_deref()), (4, Some("said 2")));
        let entry = ledger.items().get(&Scope::System, &t, &r, &"i".parse().unwrap()).await.unwrap();
        assert_eq!(
            (entry.status, entry.started_seq, entry.completed_seq),
            (ItemStatus::Completed, 1, Some(2))
        );
        let head = ledger.threads().head(&Scope::System, &t).await.unwrap();
        assert_eq!(
            (head.active_run_id, head.epoch, head.next_seq, head.message_count),
            (None, epoch + 1, 5, 4)
        );
        let late = Commit::of_run(t.clone(), r.clone()).with_events(vec![note("late")]);
        assert_eq!(append(ledger, late).await.unwrap(), [5]);
        backend.end().await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_leaves_no_half() {
    for backend in backends().await {
        let ledger = &backend.ledger;
        let t = thread("t");
        ledger.threads().create(&Scope::System, NewThread::new(t.clone())).await.unwrap();
        for number in 0..40_u64 {
            let commit = Commit::new(t.clone()).with_events(vec![note("left"), note("left")]);
            let wait = Duration::from_micros(number * 50);
            let _ = tokio::time::timeout(wait, append(ledger, commit)).await;
        }
        let last = append(ledger, Commit::new(t.clone()).with_events(vec![note("last")])).await.unwrap();
        let stored = contents(ledger, &t).await;
        let seqs: Vec<u64> = stored.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=last[0]).collect::<Vec<u64>>());
        assert_eq!(seqs.len() % 2, 1);
        backend.end().await;
    }
}

#[tokio::test]
async fn two_ledgers_write_one_thread_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut urls = vec![format!("sqlite://{}", folder.path().join("ledger.db").display())];
    up(&urls[0], &UpOptions::default()).await.unwrap();
    let server = server().await;
    if let Some((_, name)) = server.as_ref().and_then(|backend| backend.server.as_ref()) {
        let mut own = url::Url::parse(&std::env::var(SERVER).unwrap()).unwrap();
        own.set_path(name);
        urls.push(own.into());
    }
    for url in urls {
        let (one, two) =
            (connect(Config::new(&url)).await.unwrap(), connect(Config::new(&url)).await.unwrap());
        let t = thread("t");
        one.threads().create(&Scope::System, NewThread::new(t.clone())).await.unwrap();
        let write = |ledger: SqlLedger| async move {
            for _ in 0..50 {
                append(&ledger, Commit::new(thread("t")).with_events(vec![note("x"), note("y")]))
                    .await
                    .unwrap();
            }
        };
        tokio::join!(write(one.clone()), write(two.clone()), write(one.clone()), write(two.clone()));
        let stored = contents(&one, &t).await;
        let expected: Vec<(u64, String)> =
            (1..=400).map(|seq| (seq, if seq % 2 == 1 { "x" } else { "y" }.to_owned())).collect();
        assert_eq!(stored, expected);
        one.close().await;
        two.close().await;
    }
    if let Some(server) = server {
        server.end().await;
    }
}

#[tokio::test]
async fn a_connection_that_dies_is_replaced() {
    let Some(backend) = server().await else { return };
    let ledger = &backend.ledger;
    let (t, r) = (thread("t"), run("r"));
    let epoch = admitted(ledger, &t, &r).await;
    let (admin, name) = backend.server.as_ref().unwrap();
    for ordinal in 0..10 {
        admin
            .execute_unprepared(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            ))
            .await
            .unwrap();
        let commit = Commit::of_run(t.clone(), r.clone()).with_mark(mark(epoch, ordinal));
        let seqs = append(ledger, commit.with_events(vec![note("x")])).await.unwrap();
        assert_eq!(seqs, [ordinal + 1]);
    }
    backend.end().await;
}

#[tokio::test]
async fn a_closed_ledger_says_so() {
    let backend = file().await;
    let ledger = backend.ledger.clone();
    backend.end().await;
    let error = append(&ledger, Commit::new(thread("t")).with_events(vec![note("x")])).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
}

/// Another process that is first to make the thread is no reason to refuse.
#[tokio::test]
async fn two_that_make_one_thread_both_append() {
    for backend in backends().await {
        // In memory there is one connection, and so nobody else.
        let Some(url) = &backend.url else { continue };
        let other = connect(Config::new(url)).await.unwrap();
        for round in 0..30 {
            let t = thread(&format!("t{round}"));
            let commit = Commit {
                create_missing: Some(NewThread::new(t.clone())),
                ..Commit::new(t.clone()).with_events(vec![note("x")])
            };
            let (one, two) = tokio::join!(append(&backend.ledger, commit.clone()), append(&other, commit));
            let mut seqs = [one.unwrap(), two.unwrap()].concat();
            seqs.sort_unstable();
            assert_eq!(seqs, [1, 2]);
        }
        other.close().await;
        backend.end().await;
    }
}

/// A server that says nothing any more holds nobody up for ever.
#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let Some(backend) = server().await else { return };
    let mut url = url::Url::parse(backend.url.as_deref().unwrap()).unwrap();
    let target = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let (silence, silent) = tokio::sync::watch::channel(false);
    let proxy = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        loop {
            let Ok((mut near, _)) = listener.accept().await else { return };
            let (target, mut silent) = (target.clone(), silent.clone());
            open.spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                let is_silent = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
                    changed = silent.changed() => changed.is_ok(),
                };
                if is_silent {
                    // Nothing is passed on, and nothing is closed.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let config = Config::new(url).with_statement_timeout(Duration::from_millis(100));
    let ledger = connect(config).await.unwrap();
    let t = thread("t");
    ledger.threads().create(&Scope::System, NewThread::new(t.clone())).await.unwrap();
    let commit = Commit::new(t.clone()).with_events(vec![note("x")]);
    append(&ledger, commit.clone()).await.unwrap();
    silence.send(true).unwrap();
    let (appended, read) = tokio::join!(append(&ledger, commit), ledger.threads().get(&Scope::System, &t));
    assert_eq!(appended.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
    ledger.close().await;
    proxy.abort();
    backend.end().await;
}
