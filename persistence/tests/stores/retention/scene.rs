//! Threads with runs that ended at chosen times, and what must hold of a log whatever was removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, Category, Commit, EventDraft, EventType, Finish, ItemFilter, ItemId, ItemKind, ItemMark,
    ItemStatus, JournalMark, NewRun, NewThread, Outcome, RawJson, RunId, RunProgress, RunVisibility, Scope,
    SeqRange, ThreadId, Timestamp,
};
use runledger_persistence::SqlLedger;
use runledger_persistence::retention::{PrunePolicy, PruneReport};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn ago(by: Duration) -> Timestamp {
    Timestamp::now().before(by)
}

pub(super) fn thread(name: &str) -> ThreadId {
    ThreadId::new(name).unwrap()
}

pub(super) fn run(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

pub(super) async fn create(ledger: &SqlLedger, name: &str) {
    ledger.threads().create(&Scope::System, NewThread::new(thread(name))).await.unwrap();
}

/// An event of 10 bytes from then.
pub(super) fn event(category: Category, at: Timestamp) -> EventDraft {
    let note = EventType::new("note").unwrap();
    EventDraft { created_at: at, ..EventDraft::new(note, category, RawJson::string("12345678")) }
}

pub(super) fn item(id: &str, status: ItemStatus, category: Category, at: Timestamp) -> EventDraft {
    let mark = ItemMark::new(ItemId::new(id).unwrap(), ItemKind::ToolCall, status);
    EventDraft { created_at: at, ..EventDraft::item(mark, category, RawJson::string("12345678")) }
}

/// What a small run does: it is asked, starts a tool, traces, hears of the tool and answers. Five events,
/// three of them messages.
pub(super) fn work(at: Timestamp) -> Vec<EventDraft> {
    vec![
        event(Category::Message, at),
        item("tool", ItemStatus::InProgress, Category::Lifecycle, at),
        event(Category::Trace, at),
        item("tool", ItemStatus::Completed, Category::Message, at),
        item("answer", ItemStatus::Completed, Category::Message, at),
    ]
}

pub(super) async fn append(ledger: &SqlLedger, commit: Commit) -> Vec<u64> {
    ledger.events().append(&Scope::System, commit).await.unwrap().seqs
}

/// Appends events of no run.
pub(super) async fn own(ledger: &SqlLedger, on: &str, events: Vec<EventDraft>) -> Vec<u64> {
    append(ledger, Commit::new(thread(on)).with_events(events)).await
}

/// Admits a run with these events as its input; its epoch.
pub(super) async fn admit(
    ledger: &SqlLedger,
    on: &str,
    name: &str,
    at: Timestamp,
    events: Vec<EventDraft>,
) -> u64 {
    let admission = Admission { created_at: at, ..Admission::default() };
    let new = NewRun { admission, input: events, ..NewRun::new(thread(on), run(name)) };
    ledger.admit(&Scope::System, new).await.unwrap().run.epoch
}

pub(super) async fn finish(ledger: &SqlLedger, on: &str, name: &str, epoch: u64, at: Timestamp) {
    let outcome = Outcome::success();
    let finish = Finish {
        thread_id: thread(on),
        run_id: run(name),
        mark: JournalMark { epoch, ordinal: 0 },
        events: vec![EventDraft::terminal(&outcome, None, at)],
        outcome,
        at,
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(&Scope::System, finish).await.unwrap();
}

/// A run of six events, three of them messages, that ended then.
pub(super) async fn ended(ledger: &SqlLedger, on: &str, name: &str, at: Timestamp) {
    let epoch = admit(ledger, on, name, at.before(MINUTE), work(at)).await;
    finish(ledger, on, name, epoch, at).await;
}

pub(super) async fn prune(ledger: &SqlLedger, policy: &PrunePolicy) -> PruneReport {
    ledger.prune(&Scope::System, policy, |_| ()).await.unwrap()
}

/// All rows of a statement, by the database itself.
pub(super) async fn query(url: &str, sql: &str) -> Vec<QueryResult> {
    let database = sea_orm::Database::connect(url).await.unwrap();
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let rows = database.query_all_raw(statement).await.unwrap();
    database.close().await.unwrap();
    rows
}

async fn numbers<const N: usize>(url: &str, sql: &str) -> Vec<[i64; N]> {
    let row = |row: &QueryResult| std::array::from_fn(|at| row.try_get_by_index(at).unwrap());
    query(url, sql).await.iter().map(row).collect()
}

/// The seqs that are in the log of a thread.
pub(super) async fn seqs(url: &str, on: &str) -> Vec<i64> {
    let sql = format!("SELECT seq FROM run_events WHERE thread_id = '{on}' ORDER BY seq");
    numbers::<1>(url, &sql).await.into_iter().flatten().collect()
}

/// Every number that was given is in the log or noted as deleted and never both; counts are those of the log; no
/// item names an event that is gone; and readers agree with all of it.
pub(super) async fn is_consistent(ledger: &SqlLedger, url: &str, on: &str) {
    let head = ledger.threads().head(&Scope::System, &thread(on)).await.unwrap();
    let mut known: BTreeSet<i64> = BTreeSet::new();
    for seq in seqs(url, on).await {
        assert!(known.insert(seq), "{seq} is there twice");
    }
    let sql = format!("SELECT from_seq, through_seq FROM deletions WHERE thread_id = '{on}'");
    for [from, through] in numbers(url, &sql).await {
        for seq in from..=through {
            assert!(known.insert(seq), "{seq} is noted as deleted and there, or twice");
        }
    }
    let given: BTreeSet<i64> = (1..i64::try_from(head.next_seq).unwrap()).collect();
    assert_eq!(known, given);

    let sql = format!(
        "SELECT r.message_count, (SELECT COUNT(*) FROM run_events e WHERE e.thread_id = r.thread_id
           AND e.run_id = r.run_id AND e.category = 'message') FROM runs r WHERE r.thread_id = '{on}'"
    );
    for [said, counted] in numbers(url, &sql).await {
        assert_eq!(said, counted);
    }
    for visibility in [RunVisibility::All, RunVisibility::Shown] {
        let said = ledger.events().count_messages(&Scope::System, &thread(on), visibility).await.unwrap();
        let (mut listed, mut after) = (0, 0);
        loop {
            let range = SeqRange::after(after, 100);
            let page =
                ledger.events().list_messages(&Scope::System, &thread(on), visibility, &range).await.unwrap();
            listed += page.items.len() as u64;
            after = page.items.last().map_or(after, |event| event.seq);
            if !page.has_more {
                break;
            }
        }
        assert_eq!(said, listed, "{visibility:?}");
    }
    let sql = format!(
        "SELECT i.started_seq FROM thread_items i WHERE i.thread_id = '{on}' AND (
           NOT EXISTS (SELECT 1 FROM run_events e WHERE e.thread_id = i.thread_id AND e.seq = i.started_seq)
           OR NOT EXISTS (SELECT 1 FROM run_events e WHERE e.thread_id = i.thread_id AND e.seq = i.updated_seq)
           OR (i.completed_seq IS NOT NULL AND i.completed_seq <> i.updated_seq))"
    );
    assert_eq!(numbers::<1>(url, &sql).await, [] as [[i64; 1]; 0], "items that name what is gone");

    // What is left agrees with itself, and is what a rebuild makes of it.
    let items = async || {
        let range = SeqRange::after(0, 1_000);
        ledger.items().list(&Scope::System, &thread(on), &ItemFilter::default(), &range).await.unwrap().items
    };
    let before = items().await;
    let verified = ledger.items().verify(&Scope::System, &thread(on)).await.unwrap();
    assert_eq!(verified.findings, []);
    let rebuilt = ledger.items().rebuild(&Scope::System, &thread(on)).await.unwrap();
    assert_eq!((rebuilt.gaps, rebuilt.quarantined), (vec![], 0));
    assert_eq!(items().await, before);
}

/// Every row of the tables that pruning may touch.
pub(super) async fn dump(url: &str) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for (table, row) in [
        ("run_events", "thread_id || '/' || CAST(seq AS text)"),
        ("deletions", "thread_id || '/' || CAST(from_seq AS text) || '/' || reason"),
        ("thread_items", "thread_id || '/' || item_id || '/' || CAST(started_seq AS text)"),
        (
            "runs",
            "thread_id || '/' || run_id || '/' || CAST(message_count AS text) || '/' || CAST(updated_at AS text)",
        ),
        (
            "thread_heads",
            "thread_id || '/' || CAST(message_count AS text) || '/' || CAST(next_seq AS text) || '/' || CAST(updated_at AS text)",
        ),
    ] {
        let rows = query(url, &format!("SELECT {row} FROM {table} ORDER BY 1")).await;
        tables.insert(table, rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect());
    }
    tables
}
