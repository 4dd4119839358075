//! Many programs that start at once, and one that must wait.

use std::process::Stdio;

use pretty_assertions::assert_eq;
use runledger_migration::{ADVISORY_LOCK_KEY, needed};
use sea_orm_migration::sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::{
    database::{TestDatabase, answer},
    on_each_backend,
};

const PROCESSES: usize = 8;

on_each_backend!(
    of_eight_processes_one_migrates_and_all_succeed,
    eight_processes_may_go_down_at_once,
    a_lock_held_too_long_is_an_error_that_says_so,
);

async fn of_eight_processes_one_migrates_and_all_succeed(database: &TestDatabase) {
    // Several rounds, because a race may miss once.
    for _ in 0..4 {
        let mut applied = all_at_once(database, &["up"], "applied");
        applied.sort_by_key(|names| names.as_array().map(Vec::len));
        let mut expected = vec![json!([]); PROCESSES - 1];
        expected.push(json!(needed()));
        assert_eq!(applied, expected);

        let (code, report) = database.run(&["check"]);
        assert_eq!((code, &report["verdict"]), (0, &json!("fits")));
        if database.is_sqlite() {
            // Whoever won the race for the new file, it has its lasting settings.
            assert_eq!(database.catalog().await["settings"], ["8192 2 wal"]);
        }
        let (code, _) = database.run(&["down", "--steps", "1", "--yes"]);
        assert_eq!(code, 0);
        if database.is_sqlite() {
            // The next round races for creating the file too.
            for suffix in ["", "-wal", "-shm"] {
                let path = format!("{}{suffix}", database.url().trim_start_matches("sqlite://"));
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

async fn eight_processes_may_go_down_at_once(database: &TestDatabase) {
    assert_eq!(database.run(&["up"]).0, 0);
    let mut reverted = all_at_once(database, &["down", "--steps", "9", "--yes"], "reverted");
    reverted.sort_by_key(|names| names.as_array().map(Vec::len));
    let mut expected = vec![json!([]); PROCESSES - 1];
    let mut newest_first = needed();
    newest_first.reverse();
    expected.push(json!(newest_first));
    assert_eq!(reverted, expected);
}

async fn a_lock_held_too_long_is_an_error_that_says_so(database: &TestDatabase) {
    let holder = database.connect().await;
    let take = if database.is_sqlite() {
        "BEGIN IMMEDIATE".to_owned()
    } else {
        format!("SELECT pg_advisory_lock({ADVISORY_LOCK_KEY})")
    };
    holder.execute_unprepared("CREATE TABLE app_orders (id text)").await.unwrap();
    holder.execute_unprepared(&take).await.unwrap();

    let (code, report) = database.run(&["up", "--wait", "0"]);
    assert_eq!((code, &report["error"]["kind"]), (3, &json!("busy")), "{report}");

    // Looking does not wait for whoever migrates.
    let (code, report) = database.run(&["check"]);
    assert_eq!((code, &report["verdict"]), (1, &json!("absent")), "{report}");

    holder.close().await.unwrap();
    let (code, report) = database.run(&["up", "--wait", "0"]);
    assert_eq!((code, &report["applied"]), (0, &json!(needed())), "{report}");
}

/// Starts the processes, then waits for all; gives one field of each report.
fn all_at_once(database: &TestDatabase, arguments: &[&str], field: &str) -> Vec<Value> {
    let started: Vec<_> = (0..PROCESSES)
        .map(|_| {
            database
                .command(arguments)
                .arg("--json")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    started
        .into_iter()
        .map(|process| {
            let (code, report) = answer(&process.wait_with_output().unwrap());
            assert_eq!(code, 0, "{report}");
            report[field].clone()
        })
        .collect()
}
