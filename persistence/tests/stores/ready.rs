//! Whether a ledger says that it can answer.

use pretty_assertions::assert_eq;
use runledger_core::{ErrorKind, Ledger};
use runledger_persistence::jsonl::{JsonlConfig, JsonlLedger};
use sea_orm::ConnectionTrait;

use crate::backend::{self, Fresh};

async fn a_schema_that_does_not_fit_is_told(ledger: &Ledger, fresh: &Fresh) {
    ledger.events().ready().await.unwrap();
    let database = sea_orm::Database::connect(&fresh.url).await.unwrap();
    let newer = "INSERT INTO runledger_migrations (version, applied_at) VALUES ('m99990101_000001_later', 1)";
    database.execute_unprepared(newer).await.unwrap();
    let told = ledger.events().ready().await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::SchemaMismatch);
    database
        .execute_unprepared("DELETE FROM runledger_migrations WHERE version LIKE 'm9999%'")
        .await
        .unwrap();
    ledger.events().ready().await.unwrap();
    database.execute_unprepared("DROP TABLE runledger_migrations").await.unwrap();
    assert_eq!(ledger.events().ready().await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_told_on_sqlite() {
    let (ledger, fresh) = backend::sqlite().await;
    a_schema_that_does_not_fit_is_told(&ledger, &fresh).await;
    ledger.close().await;
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_told_on_postgresql() {
    if let Some((ledger, fresh)) = backend::postgresql().await {
        a_schema_that_does_not_fit_is_told(&ledger, &fresh).await;
        ledger.close().await;
    }
}

#[tokio::test]
async fn a_folder_that_is_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let files = JsonlLedger::open(&path, JsonlConfig::default()).await.unwrap();
    let ledger = files.ledger();
    ledger.events().ready().await.unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    assert!(ledger.events().ready().await.is_err());
}
