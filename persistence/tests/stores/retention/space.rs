//! The files of SQLite databases.

use pretty_assertions::assert_eq;
use runledger_core::{Category, EventDraft, RawJson};
use runledger_migration::{UpOptions, up};
use runledger_persistence::retention::{PruneMode, PrunePolicy, Shrinks};
use runledger_persistence::{Config, SqlLedger, connect};
use sea_orm::ConnectionTrait;

use super::backend;
use super::scene::{HOUR, ago, create, event, is_consistent, own, prune, query};

/// 16 MiB of old events.
async fn fill(ledger: &SqlLedger) {
    create(ledger, "t").await;
    let large = EventDraft {
        content: RawJson::string(&"x".repeat(8 << 10)),
        ..event(Category::Message, ago(2 * HOUR))
    };
    for _ in 0..8 {
        own(ledger, "t", vec![large.clone(); 256]).await;
    }
}

fn length(url: &str) -> u64 {
    std::fs::metadata(url.trim_start_matches("sqlite://")).unwrap().len()
}

#[tokio::test]
async fn a_sqlite_file_gets_smaller() {
    let (ledger, fresh) = backend::sqlite().await;
    fill(&ledger).await;
    let policy = PrunePolicy::new(HOUR);
    let dry = prune(&ledger, &PrunePolicy { mode: PruneMode::DryRun, ..policy.clone() }).await.file.unwrap();
    assert_eq!((dry.bytes_after, dry.shrinks), (None, Shrinks::Yes));
    let report = prune(&ledger, &policy).await;
    assert_eq!(report.removed.events, 2_048);
    let file = report.file.unwrap();
    assert_eq!(file.shrinks, Shrinks::Yes);
    assert!(file.bytes_before >= report.removed.bytes, "{file:?}");
    assert_eq!(file.bytes_after, Some(length(&fresh.url)));
    assert!(file.bytes_after.unwrap() < 1 << 20, "{file:?}");
    let free = query(&fresh.url, "PRAGMA freelist_count").await;
    assert_eq!(free[0].try_get_by_index::<i64>(0).unwrap(), 0);
    ledger.close().await;
}

/// Although no page of the log is empty when half of the events are gone from each.
#[tokio::test]
async fn a_file_gets_smaller_where_what_goes_lies_among_what_stays() {
    let (ledger, fresh) = backend::sqlite().await;
    create(&ledger, "t").await;
    let text = |category: Category, length: usize| EventDraft {
        content: RawJson::string(&format!("{category}{}", "x".repeat(length))),
        ..event(category, ago(2 * HOUR))
    };
    let mixed = [
        text(Category::Message, 1_000),
        text(Category::Trace, 1_000),
        text(Category::Trace, 2_000),
        text(Category::Context, 100_000),
        text(Category::Trace, 3_000),
        text(Category::Reasoning, 500),
    ];
    for _ in 0..8 {
        own(&ledger, "t", mixed.iter().cloned().cycle().take(240).collect()).await;
    }
    let read = async || {
        let all = "SELECT CAST(seq AS text) || category || content FROM run_events WHERE category <> 'trace' ORDER BY seq";
        let rows = query(&fresh.url, all).await;
        rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()).collect::<Vec<_>>()
    };
    let left = read().await;
    let policy = PrunePolicy { categories: vec![Category::Trace], ..PrunePolicy::new(HOUR) };
    let report = prune(&ledger, &policy).await;
    let file = report.file.unwrap();
    let (bytes_after, stays) = (file.bytes_after.unwrap(), report.after.bytes);
    assert!(bytes_after < stays + stays / 8, "{file:?} {stays}");
    assert_eq!(read().await, left);
    is_consistent(&ledger, &fresh.url, "t").await;
    assert_eq!(own(&ledger, "t", vec![event(Category::Message, ago(HOUR))]).await, [1_921]);
    is_consistent(&ledger, &fresh.url, "t").await;
    ledger.close().await;
}

/// Neither what was gathered once nor what was never removed from is written again.
#[tokio::test]
async fn what_lies_well_is_left_where_it_is() {
    let (ledger, fresh) = backend::sqlite().await;
    create(&ledger, "t").await;
    let places = async || {
        let rows = query(&fresh.url, "SELECT rowid FROM run_events ORDER BY seq").await;
        rows.iter().map(|row| row.try_get_by_index::<i64>(0).unwrap()).collect::<Vec<_>>()
    };
    let mixed = [Category::Message, Category::Trace].map(|category| event(category, ago(2 * HOUR)));
    for old in [false, true, false] {
        for _ in 0..6 {
            let events = if old { mixed.to_vec() } else { vec![event(Category::Trace, ago(HOUR / 2)); 2] };
            own(&ledger, "t", events.into_iter().cycle().take(200).collect()).await;
        }
    }
    let policy = PrunePolicy { categories: vec![Category::Trace], ..PrunePolicy::new(HOUR) };
    assert_eq!(prune(&ledger, &policy).await.removed.events, 600);
    let gathered = places().await;
    // All of the middle are at the end, but for those that share their step with what lies well.
    assert!(gathered[1_200..1_800].iter().all(|place| *place > 3_600), "{gathered:?}");
    prune(&ledger, &policy).await;
    prune(&ledger, &policy).await;
    let settled = places().await;
    prune(&ledger, &policy).await;
    assert_eq!(places().await, settled);
    is_consistent(&ledger, &fresh.url, "t").await;
    ledger.close().await;
}

#[tokio::test]
async fn a_file_that_was_made_to_keep_its_size_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("old.db").display());
    // Not a new file to the migration, so its settings are the application's.
    let database = sea_orm::Database::connect(format!("{url}?mode=rwc")).await.unwrap();
    database.execute_unprepared("CREATE TABLE notes (id INTEGER)").await.unwrap();
    database.close().await.unwrap();
    up(&url, &UpOptions::default()).await.unwrap();
    let ledger = connect(Config::new(&url)).await.unwrap();
    fill(&ledger).await;
    let file = prune(&ledger, &PrunePolicy::new(HOUR)).await.file.unwrap();
    assert_eq!(file.shrinks, Shrinks::No);
    assert!(file.bytes_after.unwrap() >= 16 << 20, "{file:?}");
    // What comes free is used again.
    let used = length(&url);
    for _ in 0..4 {
        own(&ledger, "t", vec![event(Category::Message, ago(HOUR)); 256]).await;
    }
    assert_eq!(prune(&ledger, &PrunePolicy::new(24 * HOUR)).await.file.unwrap().bytes_after, Some(used));
    ledger.close().await;
}

/// A reader that has begun before keeps the file from getting smaller, and is not waited for without end.
#[tokio::test]
async fn a_file_that_is_read_gets_smaller_later() {
    let (ledger, fresh) = backend::sqlite().await;
    fill(&ledger).await;
    ledger.close().await;
    let quick = Config { busy_timeout: std::time::Duration::from_millis(50), ..Config::new(&fresh.url) };
    let ledger = connect(quick).await.unwrap();
    let reader = sea_orm::Database::connect(&fresh.url).await.unwrap();
    let open = sea_orm::TransactionTrait::begin(&reader).await.unwrap();
    open.execute_unprepared("SELECT COUNT(*) FROM run_events").await.unwrap();
    let report = prune(&ledger, &PrunePolicy::new(HOUR)).await;
    let file = report.file.unwrap();
    assert_eq!((report.removed.events, file.shrinks), (2_048, Shrinks::Later));
    open.rollback().await.unwrap();
    reader.close().await.unwrap();
    ledger.close().await;
    assert!(length(&fresh.url) < 1 << 20);
}

#[tokio::test]
async fn a_database_in_memory_has_no_file() {
    let ledger = backend::sqlite_memory().await;
    fill(&ledger).await;
    let report = prune(&ledger, &PrunePolicy::new(HOUR)).await;
    assert_eq!((report.removed.events, report.file), (2_048, None));
    ledger.close().await;
}
