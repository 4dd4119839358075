//! What a deletion leaves behind: every seq that was ever given is in the log or noted as deleted, and
//! in one of the two only.

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, Category, Commit, EventDraft, EventFilter, EventType, Ledger, NewRun, NewThread, RawJson,
    RunId, Scope, SeqRange, ThreadId,
};
use runledger_core::{Finish, JournalMark, ONCE_TERMINAL, Outcome, RunProgress};
use sea_orm::{ConnectionTrait, Statement};

use crate::backend::{self, Fresh};

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn run(n: u32) -> RunId {
    RunId::new(format!("r{n}")).unwrap()
}

fn events(count: usize) -> Vec<EventDraft> {
    let note = EventType::new("note").unwrap();
    vec![EventDraft::new(note, Category::Message, RawJson::string("x")); count]
}

/// Two events of a run, one of the thread amid them, the run's end, and a late one of the run before.
async fn execute(ledger: &Ledger, n: u32) {
    let new = NewRun { admission: Admission::default(), input: events(2), ..NewRun::new(thread(), run(n)) };
    let epoch = ledger.admit(&Scope::System, new).await.unwrap().run.epoch;
    let append = async |commit: Commit| ledger.events().append(&Scope::System, commit).await.unwrap();
    append(Commit::new(thread()).with_events(events(1))).await;
    if n > 1 {
        append(Commit::of_run(thread(), run(n - 1)).with_events(events(1))).await;
    }
    let mut last = events(1);
    last[0].once_key = Some(ONCE_TERMINAL.to_owned());
    let finish = Finish {
        thread_id: thread(),
        run_id: run(n),
        mark: JournalMark { epoch, ordinal: 0 },
        outcome: Outcome::success(),
        at: runledger_core::Timestamp::now(),
        events: last,
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(&Scope::System, finish).await.unwrap();
}

/// The seqs in the log, and the ranges noted as deleted.
async fn seqs(ledger: &Ledger, url: &str) -> (Vec<u64>, Vec<(i64, i64)>) {
    let all = SeqRange::after(0, 1_000);
    let page =
        ledger.events().list_events(&Scope::System, &thread(), &EventFilter::default(), &all).await.unwrap();
    let database = sea_orm::Database::connect(url).await.unwrap();
    let sql = "SELECT from_seq, through_seq FROM deletions WHERE thread_id = 't' ORDER BY from_seq";
    let rows =
        database.query_all_raw(Statement::from_string(database.get_database_backend(), sql)).await.unwrap();
    database.close().await.unwrap();
    let range = |row: &sea_orm::QueryResult| {
        (row.try_get("", "from_seq").unwrap(), row.try_get("", "through_seq").unwrap())
    };
    (page.items.iter().map(|event| event.seq).collect(), rows.iter().map(range).collect())
}

async fn no_seq_is_lost(ledger: &Ledger, fresh: &Fresh) {
    ledger.threads().create(&Scope::System, NewThread::new(thread())).await.unwrap();
    for n in 1..=3 {
        execute(ledger, n).await;
    }
    // r1: 1 2 _ 4; r2: 5 6 _ _ 9; r3: 10 11 _ _ 14; late ones of r1 at 8 and of r2 at 13.
    assert_eq!(seqs(ledger, &fresh.url).await, ((1..=14).collect(), vec![]));

    ledger.events().delete_by_run(&Scope::System, &thread(), &run(2)).await.unwrap();
    let left = (vec![1, 2, 3, 4, 7, 8, 10, 11, 12, 14], vec![(5, 6), (9, 9), (13, 13)]);
    assert_eq!(seqs(ledger, &fresh.url).await, left);

    ledger.events().delete_by_thread(&Scope::System, &thread()).await.unwrap();
    let ranges = vec![(1, 4), (5, 6), (7, 8), (9, 9), (10, 12), (13, 13), (14, 14)];
    assert_eq!(seqs(ledger, &fresh.url).await, (vec![], ranges));

    let receipt =
        ledger.events().append(&Scope::System, Commit::new(thread()).with_events(events(1))).await.unwrap();
    assert_eq!(receipt.seqs, [15]);
}

#[tokio::test]
async fn no_seq_is_lost_on_sqlite() {
    let (ledger, fresh) = backend::sqlite().await;
    no_seq_is_lost(&ledger, &fresh).await;
}

#[tokio::test]
async fn no_seq_is_lost_on_postgresql() {
    if let Some((ledger, fresh)) = backend::postgresql().await {
        no_seq_is_lost(&ledger, &fresh).await;
    }
}
