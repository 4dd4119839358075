//! `check` sees what is really there.

use pretty_assertions::assert_eq;
use runledger_migration::{
    CheckReport, MigrationState, SCHEMA_VERSION, UpOptions, Verdict, check, status, up,
};

use crate::{
    database::{TestDatabase, migrated_by_a_newer_version},
    on_each_backend,
};

on_each_backend!(
    what_was_removed_by_hand_is_named,
    a_newer_schema_is_named,
    more_than_needed_is_fine,
    status_follows_the_versions,
);

async fn what_was_removed_by_hand_is_named(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    database
        .execute(
            "DROP INDEX ix_runs_run; DROP TABLE deletions; \
             ALTER TABLE usage_records DROP COLUMN latency_ms; DROP TABLE run_leases",
        )
        .await;
    let report = check(database.url()).await.unwrap();
    assert_eq!(report.verdict, Verdict::Damaged);
    assert_eq!(
        report.missing,
        ["table deletions", "table run_leases", "column usage_records.latency_ms", "index ix_runs_run",],
    );
}

async fn a_newer_schema_is_named(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    migrated_by_a_newer_version(database).await;
    let CheckReport { verdict, newer, .. } = check(database.url()).await.unwrap();
    assert_eq!(verdict, Verdict::Newer);
    assert_eq!(newer, ["m29990101_000001_future"]);
    assert_eq!(
        states(database).await,
        [
            (SCHEMA_VERSION.to_owned(), MigrationState::Applied),
            ("m29990101_000001_future".to_owned(), MigrationState::Newer),
        ],
    );
}

async fn more_than_needed_is_fine(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    database
        .execute(
            "ALTER TABLE runs ADD COLUMN app_note text; CREATE INDEX app_runs ON runs (app_note); \
             CREATE TABLE app_orders (id text)",
        )
        .await;
    assert_eq!(check(database.url()).await.unwrap().verdict, Verdict::Fits);
}

async fn status_follows_the_versions(database: &TestDatabase) {
    let pending = [(SCHEMA_VERSION.to_owned(), MigrationState::Pending)];
    assert_eq!(states(database).await, pending);
    assert_eq!(check(database.url()).await.unwrap().verdict, Verdict::Absent);
    up(database.url(), &UpOptions::default()).await.unwrap();
    let applied = [(SCHEMA_VERSION.to_owned(), MigrationState::Applied)];
    assert_eq!(states(database).await, applied);
    assert_eq!(check(database.url()).await.unwrap().verdict, Verdict::Fits);
}

async fn states(database: &TestDatabase) -> Vec<(String, MigrationState)> {
    let report = status(database.url()).await.unwrap();
    let migrations = report.migrations.into_iter();
    migrations.map(|migration| (migration.name, migration.state)).collect()
}
