//! The rule that lets a ledger be distributed by thread: every unique key contains `thread_id`.

use pretty_assertions::assert_eq;
use runledger_migration::{UpOptions, partitioned_by_thread, up};

use crate::{database::TestDatabase, on_each_backend};

on_each_backend!(what_is_unique_below_a_thread_contains_the_thread, what_is_unique_is_enforced,);

/// `table index-columns` of every unique index without `thread_id`. What SQLite's full-text search keeps for
/// itself is left out.
const SQLITE_UNIQUE: &str = "SELECT m.name, group_concat(c.name) FROM sqlite_master m, \
     pragma_index_list(m.name) i, pragma_index_info(i.name) c \
     WHERE m.type = 'table' AND i.\"unique\" AND m.name NOT LIKE 'search\\_words\\_%' ESCAPE '\\' \
     GROUP BY m.name, i.name HAVING NOT max(c.name = 'thread_id') ORDER BY 1, 2";
const POSTGRES_UNIQUE: &str = "SELECT t.relname::text, string_agg(a.attname, ',') FROM pg_index i \
     JOIN pg_class t ON t.oid = i.indrelid \
     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (i.indkey) \
     WHERE i.indisunique AND t.relnamespace = 'public'::regnamespace \
     GROUP BY t.relname, i.indexrelid HAVING NOT bool_or(a.attname = 'thread_id') ORDER BY 1, 2";

async fn what_is_unique_below_a_thread_contains_the_thread(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    let question = if database.is_sqlite() { SQLITE_UNIQUE } else { POSTGRES_UNIQUE };
    assert_eq!(
        database.rows(question).await,
        [
            "agent_runs agent_run_id",
            "api_tokens token_hash",
            "api_tokens token_id",
            "import_cursors source",
            "runledger_migrations version",
        ],
    );
}

async fn what_is_unique_is_enforced(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    database.execute(&run("t", "r1", "running", "NULL")).await;
    database.execute(&run("t", "r2", "success", "'key'")).await;
    // Ids belong to their thread: the same ones on another thread are other runs.
    database.execute(&run("u", "r1", "pending", "'key'")).await;
    for (second, what) in [
        (run("t", "r3", "pending", "NULL"), "a second active run"),
        (run("t", "r3", "success", "'key'"), "the same idempotency key"),
        (run("t", "r2", "success", "NULL"), "the same id"),
    ] {
        let refusal = database.refusal(&second).await;
        let told = refusal.unwrap_or_default().to_lowercase();
        assert!(told.contains("unique"), "{what}: {told}");
    }
    // Without a key, any number of finished or queued runs.
    database.execute(&run("t", "r4", "success", "NULL")).await;
    database.execute(&run("t", "r5", "queued", "NULL")).await;
}

fn run(thread: &str, run: &str, status: &str, key: &str) -> String {
    format!(
        "INSERT INTO runs (thread_id, run_id, status, visibility, operation_kind, \
         multitask_strategy, metadata, kwargs, epoch, created_at, updated_at, idempotency_key) \
         VALUES ('{thread}', '{run}', '{status}', 'shown', 'run', 'reject', '{{}}', '{{}}', 1, \
         '2026-11-21T00:00:00+00:00', '2026-11-21T00:00:00+00:00', {key})"
    )
}

/// PostgreSQL refuses to partition a table by a column that one of its unique keys lacks.
#[tokio::test]
async fn the_thread_tables_can_be_partitioned_by_thread() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    for statement in partitioned_by_thread(2) {
        database.execute(&statement).await;
    }
    let partitioned = database
        .rows(
            "SELECT c.relname::text, pg_get_partkeydef(c.oid), \
             (SELECT count(*)::text FROM pg_inherits i WHERE i.inhparent = c.oid) \
             FROM pg_class c WHERE c.relkind = 'p' ORDER BY c.relname COLLATE \"C\"",
        )
        .await;
    let expected: Vec<String> = [
        "blobs",
        "compactions",
        "deletions",
        "event_blobs",
        "feedback",
        "interactions",
        "quarantine",
        "queued_inputs",
        "run_events",
        "run_leases",
        "runs",
        "search_documents",
        "search_progress",
        "thread_heads",
        "thread_items",
        "threads",
        "usage_records",
    ]
    .iter()
    .map(|table| format!("{table} HASH (thread_id) 2"))
    .collect();
    assert_eq!(partitioned, expected);

    // The keys hold across the partitions.
    database.execute(&run("t", "r1", "running", "NULL")).await;
    let refusal = database.refusal(&run("t", "r2", "running", "NULL")).await;
    assert!(refusal.is_some_and(|told| told.contains("duplicate key")));
}
