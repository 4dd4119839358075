//! A SQLite file that another program holds while journals write.

use std::time::Duration;

use runledger_integration_tests::fault_table::{Row, is_long};
use runledger_integration_tests::load::Load;
use runledger_integration_tests::sqlite;
use runledger_persistence::{Config, connect};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

/// Somebody writes to the file for longer than anybody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn held_by_another_program() {
    let database = sqlite::database().await;
    let config = Config { busy_timeout: Duration::from_millis(5), ..Config::new(database.url()) };
    let ledger = connect(config).await.expect("a ledger");
    let load = Load::start(&ledger, &ledger, 6).await.expect("a load");
    let mut other = SqliteConnection::connect(database.url()).await.expect("a connection");
    let times = if is_long() { 50 } else { 5 };
    for _ in 0..times {
        load.goes_on(60).await;
        other.execute("BEGIN IMMEDIATE").await.expect("the file");
        // Longer than a lane tries a group.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        other.execute("ROLLBACK").await.expect("the end of it");
    }
    let outcome = load.stop(&ledger).await.expect("every writer comes to its end");
    assert!(outcome.spooled > 0, "a writer that spools waited for longer than it does");
    let (acknowledged, audit) = (outcome.acknowledged, &outcome.audit);
    Row { fault: "file held by another program", backend: "SQLite", injected: times, acknowledged, audit }
        .record();
}
