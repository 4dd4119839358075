//! `up` and `down` from the library.

use pretty_assertions::assert_eq;
use runledger_migration::{DownOptions, Error, SCHEMA_VERSION, UpOptions, down, needed, tables, up, up_on};
use sea_orm_migration::sea_orm::{ConnectionTrait, Database};

use crate::{
    database::{TestDatabase, migrated_by_a_newer_version},
    on_each_backend,
};

on_each_backend!(
    up_creates_every_table,
    up_twice_changes_nothing,
    down_leaves_nothing,
    down_keeps_what_is_not_the_ledgers,
    a_newer_schema_is_refused_both_ways,
    a_failure_takes_everything_back,
    a_foreign_table_of_the_same_name_is_refused,
    zero_steps_are_refused,
);

async fn up_creates_every_table(database: &TestDatabase) {
    let report = up(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(report.applied, needed());

    let mut expected: Vec<_> = tables();
    expected.push("runledger_migrations");
    let mut found = table_names(database).await;
    if database.is_sqlite() {
        expected.push("search_words");
        // What SQLite keeps words in.
        found.retain(|table| !table.starts_with("search_words_"));
    }
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(database.rows("SELECT version FROM runledger_migrations").await, needed(),);
}

async fn up_twice_changes_nothing(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    let before = database.catalog().await;
    let report = up(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(report.applied, Vec::<String>::new());
    assert_eq!(database.catalog().await, before);
}

async fn down_leaves_nothing(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    // More steps than there are take back what is there.
    let report = down(database.url(), &DownOptions::steps(99)).await.unwrap();
    assert_eq!(report.reverted, [SCHEMA_VERSION]);
    assert!(report.version_table_dropped);
    assert_eq!(table_names(database).await, Vec::<String>::new());

    let again = down(database.url(), &DownOptions::steps(1)).await.unwrap();
    assert_eq!(again.reverted, Vec::<String>::new());
    assert!(!again.version_table_dropped);

    let report = up(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(report.applied, needed());
}

async fn down_keeps_what_is_not_the_ledgers(database: &TestDatabase) {
    database.execute("CREATE TABLE app_orders (id text PRIMARY KEY)").await;
    up(database.url(), &UpOptions::default()).await.unwrap();
    down(database.url(), &DownOptions::steps(1)).await.unwrap();
    assert_eq!(table_names(database).await, ["app_orders"]);
}

async fn a_newer_schema_is_refused_both_ways(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    migrated_by_a_newer_version(database).await;
    let before = database.catalog().await;
    let told = "the database was written by a newer version: it has m29990101_000001_future, this \
                program knows up to m20261121_000001_ledger; use that newer version";

    let error = up(database.url(), &UpOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), told);
    let error = down(database.url(), &DownOptions::steps(1)).await.unwrap_err();
    assert_eq!(error.to_string(), told);
    assert_eq!(database.catalog().await, before);
}

async fn a_failure_takes_everything_back(database: &TestDatabase) {
    // The name of one of the last indexes is taken, so the migration fails near its end.
    database
        .execute("CREATE TABLE app_orders (id text); CREATE INDEX ix_agent_runs_thread ON app_orders (id)")
        .await;
    let before = database.catalog().await;
    let error = up(database.url(), &UpOptions::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database refused to apply m20261121_000001_ledger; nothing was changed",
    );
    assert_eq!(database.catalog().await, before);

    database.execute("DROP INDEX ix_agent_runs_thread").await;
    let report = up(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(report.applied, needed());
}

async fn a_foreign_table_of_the_same_name_is_refused(database: &TestDatabase) {
    database.execute("CREATE TABLE runs (id text)").await;
    let error = up(database.url(), &UpOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::TableTaken { table } if table == "runs"), "{error}");
    assert_eq!(table_names(database).await, ["runs"]);
}

async fn zero_steps_are_refused(database: &TestDatabase) {
    let options = UpOptions { steps: Some(0), ..UpOptions::default() };
    for error in [
        up(database.url(), &options).await.unwrap_err(),
        down(database.url(), &DownOptions::steps(0)).await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "invalid steps: 0 would do nothing; give 1 or more",);
    }
}

#[tokio::test]
async fn a_new_sqlite_file_gets_its_lasting_settings() {
    let database = TestDatabase::sqlite();
    up(database.url(), &UpOptions::default()).await.unwrap();
    // 2 is INCREMENTAL.
    assert_eq!(database.catalog().await["settings"], ["8192 2 wal"]);
}

#[tokio::test]
async fn an_applications_sqlite_file_keeps_its_settings() {
    let database = TestDatabase::sqlite();
    database.execute("PRAGMA page_size = 1024; CREATE TABLE app_orders (id text)").await;
    up(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(database.catalog().await["settings"], ["1024 0 delete"]);
}

#[tokio::test]
async fn a_database_in_memory_is_migrated_on_its_connection() {
    let connection = Database::connect("sqlite::memory:").await.unwrap();
    let report = up_on(&connection, &UpOptions::default()).await.unwrap();
    assert_eq!(report.applied, needed());
    let inserted = connection
        .execute_unprepared(
            "INSERT INTO thread_heads (thread_id, state, next_seq, updated_at) \
             VALUES ('t', 'open', 1, '2026-11-21T00:00:00+00:00')",
        )
        .await
        .unwrap();
    assert_eq!(inserted.rows_affected(), 1);
}

/// A search path that starts with another schema puts the ledger there.
#[tokio::test]
async fn a_ledger_lives_in_the_schema_of_its_url() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    database.execute("CREATE SCHEMA ledger; CREATE TABLE runs (id text)").await;
    let url = format!("{}?options=-csearch_path%3Dledger", database.url());
    up(&url, &UpOptions::default()).await.unwrap();
    let schemas = database
        .rows("SELECT schemaname::text FROM pg_tables WHERE tablename = 'runledger_migrations'")
        .await;
    assert_eq!(schemas, ["ledger"]);
    down(&url, &DownOptions::steps(1)).await.unwrap();
    assert_eq!(table_names(&database).await, ["runs"]);
}

async fn table_names(database: &TestDatabase) -> Vec<String> {
    database
        .rows(if database.is_sqlite() {
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        } else {
            "SELECT tablename::text FROM pg_tables \
             WHERE schemaname NOT IN ('pg_catalog', 'information_schema') \
             ORDER BY tablename COLLATE \"C\""
        })
        .await
}

#[tokio::test]
async fn a_path_of_odd_characters_is_a_path() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["my ledger.db", "a:b.db", "ä.db"] {
        let url = format!("sqlite://{}/{name}", folder.path().display());
        up(&url, &UpOptions::default()).await.unwrap();
        assert!(folder.path().join(name).exists(), "{name}");
    }
}
