//! Lists of many threads: how far a page looks.

use pretty_assertions::assert_eq;
use runledger_core::{
    AssistantId, Ledger, ListRange, MemoryLedger, NewThread, OwnerId, Scope, ThreadFilter, ThreadId,
    ThreadPatch, Timestamp,
};
use sea_orm::ConnectionTrait;

use crate::backend::{self, Fresh};

/// Enough of each side that a page ends before it has seen all of it.
const PINNED: u64 = 5_003;
const OTHERS: u64 = 10_007;

fn alice() -> Scope {
    Scope::Owner(OwnerId::new("alice").unwrap())
}

fn at(n: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_767_225_600_000_000 + i64::try_from(n).unwrap() * 1_000_000).unwrap()
}

/// Each thousandth thread is a writer's.
fn is_writers(n: u64) -> bool {
    n.is_multiple_of(1_000)
}

fn writers() -> AssistantId {
    AssistantId::new("writer").unwrap()
}

/// The threads as they are written to a database: one statement, for one by one takes long.
async fn fill(url: &str) {
    let database = sea_orm::Database::connect(url).await.unwrap();
    let time = if url.starts_with("sqlite") {
        "strftime('%Y-%m-%dT%H:%M:%S+00:00', 1767225600 + i, 'unixepoch')"
    } else {
        "to_timestamp(1767225600 + i)"
    };
    let document = if url.starts_with("sqlite") { "'{}'" } else { "CAST('{}' AS jsonb)" };
    let total = PINNED + OTHERS;
    let numbers =
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {total})");
    for sql in [
        format!(
            "{numbers} INSERT INTO threads (thread_id, owner_id, assistant_id, status, kind, lifecycle, config, \
             metadata, pinned, created_at, updated_at) SELECT 't' || i, 'alice', \
             CASE WHEN i % 1000 = 0 THEN 'writer' END, 'idle', 'root', 'detached', {document}, {document}, \
             i <= {PINNED}, {time}, {time} FROM n"
        ),
        format!(
            "{numbers} INSERT INTO thread_heads (thread_id, owner_id, state, next_seq, updated_at) \
             SELECT 't' || i, 'alice', 'open', 1, {time} FROM n"
        ),
    ] {
        database.execute_unprepared(&sql).await.unwrap();
    }
    database.close().await.unwrap();
}

/// The same threads in memory.
async fn filled() -> Ledger {
    let memory = MemoryLedger::new().ledger();
    for n in 1..=PINNED + OTHERS {
        let id = ThreadId::new(format!("t{n}")).unwrap();
        let assistant_id = is_writers(n).then(writers);
        let new = NewThread { assistant_id, created_at: at(n), ..NewThread::new(id.clone()) };
        memory.threads().create(&alice(), new).await.unwrap();
        if n <= PINNED {
            let pin = ThreadPatch { pinned: Some(true), ..ThreadPatch::default() };
            memory.threads().update(&alice(), &id, pin, at(n)).await.unwrap();
        }
    }
    memory
}

/// The ids of each page, and where the next one begins.
type Pages = Vec<(Vec<String>, Option<String>)>;

async fn pages(ledger: &Ledger, filter: &ThreadFilter, limit: u32) -> Pages {
    let mut pages = Pages::new();
    let mut range = ListRange::newest(limit);
    loop {
        let page = ledger.threads().list(&alice(), filter, &range).await.unwrap();
        let ids = page.items.iter().map(|thread| thread.thread_id.to_string()).collect();
        pages.push((ids, page.next_cursor.as_ref().map(|cursor| cursor.as_str().to_owned())));
        match page.next_cursor {
            Some(cursor) => range.cursor = Some(cursor),
            None => return pages,
        }
    }
}

async fn a_page_looks_at_so_many(ledger: &Ledger, fresh: &Fresh) {
    fill(&fresh.url).await;
    let memory = filled().await;
    let of_nobody = Some(AssistantId::new("nobody").unwrap());
    let nothing = ThreadFilter { assistant_id: of_nobody, ..ThreadFilter::default() };
    let few = ThreadFilter { assistant_id: Some(writers()), ..ThreadFilter::default() };
    let few_others = ThreadFilter { pinned: Some(false), ..few.clone() };
    for (filter, limit) in [(&nothing, 50), (&few, 3), (&few, 50), (&few_others, 4)] {
        assert_eq!(pages(ledger, filter, limit).await, pages(&memory, filter, limit).await);
    }
    // 5,000 pinned ones; the last of them and 5,000 others; twice as many others, in all.
    let looked: Vec<usize> = pages(ledger, &nothing, 50).await.iter().map(|(ids, _)| ids.len()).collect();
    assert_eq!(looked, [0; 4]);
    let found: Vec<String> = pages(ledger, &few, 50).await.into_iter().flat_map(|(ids, _)| ids).collect();
    let expected = (1..=5).rev().chain((6..=15).rev()).map(|n| format!("t{}", n * 1_000));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_looks_at_so_many_on_sqlite() {
    let (ledger, fresh) = backend::sqlite().await;
    a_page_looks_at_so_many(&ledger, &fresh).await;
    ledger.close().await;
}

#[tokio::test]
async fn a_page_looks_at_so_many_on_postgresql() {
    if let Some((ledger, fresh)) = backend::postgresql().await {
        a_page_looks_at_so_many(&ledger, &fresh).await;
        ledger.close().await;
    }
}
