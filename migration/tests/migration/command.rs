//! The command as people and scripts meet it: exit codes, text and JSON.

use std::process::Command;

use pretty_assertions::assert_eq;
use runledger_migration::{SCHEMA_VERSION, needed};
use serde_json::json;

use crate::{
    database::{TestDatabase, migrated_by_a_newer_version},
    on_each_backend,
};

on_each_backend!(
    check_answers_by_its_exit_code,
    a_newer_schema_has_its_exit_code,
    down_wants_a_yes,
    reports_are_documents,
    text_is_for_people,
);

async fn check_answers_by_its_exit_code(database: &TestDatabase) {
    let verdict = || {
        let (code, report) = database.run(&["check"]);
        (code, report["verdict"].clone())
    };
    assert_eq!(verdict(), (1, json!("absent")));
    assert_eq!(database.run(&["up"]).0, 0);
    assert_eq!(verdict(), (0, json!("fits")));
    database.execute("DROP INDEX ix_runs_run").await;
    assert_eq!(verdict(), (1, json!("damaged")));
}

async fn a_newer_schema_has_its_exit_code(database: &TestDatabase) {
    assert_eq!(database.run(&["up"]).0, 0);
    migrated_by_a_newer_version(database).await;
    for arguments in [&["up"][..], &["down", "--steps", "1", "--yes"], &["plan"]] {
        let (code, report) = database.run(arguments);
        assert_eq!((code, &report["error"]["kind"]), (1, &json!("newer_schema")), "{arguments:?}");
    }
    let (code, report) = database.run(&["check"]);
    assert_eq!((code, &report["verdict"]), (1, &json!("newer")));
    let (code, report) = database.run(&["status"]);
    assert_eq!((code, &report["migrations"][1]["state"]), (0, &json!("newer")));
}

async fn down_wants_a_yes(database: &TestDatabase) {
    assert_eq!(database.run(&["up"]).0, 0);
    let (code, report) = database.run(&["down", "--steps", "1"]);
    assert_eq!(
        (code, report),
        (
            2,
            json!({"error": {
                "kind": "invalid_input",
                "message": "invalid down: it deletes the data in the tables of these migrations; \
                            say --yes",
            }})
        ),
    );
    assert_eq!(database.run(&["check"]).0, 0);
}

async fn reports_are_documents(database: &TestDatabase) {
    let backend = if database.is_sqlite() { "sqlite" } else { "postgresql" };
    let (code, report) = database.run(&["status"]);
    assert_eq!(
        (code, report),
        (
            0,
            json!({
                "database": database.url(),
                "backend": backend,
                "exists": !database.is_sqlite(),
                "migrations": [{"name": SCHEMA_VERSION, "state": "pending", "applied_at": null}],
                "users_foreign_key": null,
            })
        ),
    );
    let (code, report) = database.run(&["up", "--steps", "1"]);
    assert_eq!(
        (code, report),
        (
            0,
            json!({
                "database": database.url(),
                "backend": backend,
                "applied": needed(),
                "users_foreign_key_added": false,
            })
        ),
    );
    let (code, report) = database.run(&["check"]);
    assert_eq!(
        (code, report),
        (
            0,
            json!({
                "database": database.url(),
                "backend": backend,
                "verdict": "fits",
                "pending": [],
                "newer": [],
                "missing": [],
                "remedy": null,
            })
        ),
    );
    let (code, report) = database.run(&["plan"]);
    assert_eq!(
        (code, report),
        (0, json!({"database": database.url(), "backend": backend, "statements": []})),
    );
    let (code, report) = database.run(&["down", "--steps", "1", "--yes"]);
    assert_eq!(
        (code, report),
        (
            0,
            json!({
                "database": database.url(),
                "backend": backend,
                "reverted": [SCHEMA_VERSION],
                "version_table_dropped": true,
            })
        ),
    );
}

async fn text_is_for_people(database: &TestDatabase) {
    let url = database.url();
    let told = |arguments: &[&str]| {
        let output = database.command(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(told(&["up"]), format!("applied {SCHEMA_VERSION}\n"));
    assert_eq!(told(&["up"]), format!("nothing to do: {url} is up to date\n"));
    assert_eq!(told(&["check"]), format!("the schema fits: {url}\n"));
    assert_eq!(told(&["plan"]), format!("-- nothing to do: {url} is up to date\n"));
    let status = told(&["status"]);
    assert!(status.starts_with(&format!("database {url}\napplied  {SCHEMA_VERSION}  2")), "{status}");
}

#[test]
fn looking_at_a_missing_file_does_not_create_it() {
    let database = TestDatabase::sqlite();
    let path = database.url().trim_start_matches("sqlite://").to_owned();
    for (arguments, expected) in
        [(&["status"][..], 0), (&["plan"], 0), (&["check"], 1), (&["down", "--steps", "1", "--yes"], 0)]
    {
        let (code, report) = database.run(arguments);
        assert_eq!(code, expected, "{report}");
        assert!(!std::path::Path::new(&path).exists(), "{arguments:?}");
    }
}

#[test]
fn usage_errors_and_unusable_urls_are_told_apart() {
    let database = TestDatabase::sqlite();
    let code = |url: &str, arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_runledger-migrate"))
            .env("RUNLEDGER_DATABASE_URL", url)
            .args(arguments)
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert!(!told.contains("hunter2"), "{told}");
        output.status.code().unwrap()
    };
    let url = database.url();
    assert_eq!(code(url, &["up", "--steps", "0"]), 2);
    assert_eq!(code(url, &["up", "--users-table", "users"]), 2);
    assert_eq!(code(url, &["sideways"]), 2);
    assert_eq!(code("mysql://root:hunter2@localhost/x", &["up"]), 2);
    assert_eq!(code("mysql://root:hunter2@localhost/x", &["up", "--help"]), 0);
    assert_eq!(code("sqlite:///no/such/folder/x.db", &["up"]), 3);
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let mut url: url::Url = database.url().parse().unwrap();
    url.set_password(Some("hunter2")).unwrap();
    url.set_path("no_such_database");
    for arguments in [&["status"][..], &["up"], &["check", "--json"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_runledger-migrate"))
            .args(arguments)
            .args(["--database-url", url.as_str()])
            .output()
            .unwrap();
        let told = [&output.stdout[..], &output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.contains("does not answer"), "{told}");
        assert_eq!(output.status.code(), Some(3), "{told}");
    }
}
