//! `plan` prints what `up` runs.

use pretty_assertions::assert_eq;
use runledger_migration::{Plan, UpOptions, UsersTable, check, plan, up};

use crate::{database::TestDatabase, on_each_backend};

on_each_backend!(
    running_the_plan_by_hand_gives_the_same_database_as_up,
    the_plan_with_a_users_table_is_complete,
    planning_changes_nothing,
    there_is_no_plan_when_nothing_is_to_do,
);

async fn running_the_plan_by_hand_gives_the_same_database_as_up(database: &TestDatabase) {
    by_hand_equals_up(database, &UpOptions::default()).await;
}

async fn the_plan_with_a_users_table_is_complete(database: &TestDatabase) {
    // The application's table goes when the ledger does, to come again for the second try.
    database.execute("CREATE TABLE app_users (id text PRIMARY KEY)").await;
    let options =
        UpOptions { users: Some(UsersTable::new("app_users", "id").unwrap()), ..UpOptions::default() };
    by_hand_equals_up(database, &options).await;
}

/// Runs the plan's text, notes the catalog, goes down, runs `up` and compares.
async fn by_hand_equals_up(database: &TestDatabase, options: &UpOptions) {
    let script = script(&plan(database.url(), options).await.unwrap());
    database.execute(&script).await;
    let by_hand = database.catalog().await;
    assert!(check(database.url()).await.unwrap().fits());
    let left = plan(database.url(), options).await.unwrap();
    assert_eq!(script_of(&left), "");

    let (code, report) = database.run(&["down", "--steps", "1", "--yes"]);
    assert_eq!(code, 0, "{report}");
    up(database.url(), options).await.unwrap();
    assert_eq!(database.catalog().await, by_hand);
}

async fn planning_changes_nothing(database: &TestDatabase) {
    let first = plan(database.url(), &UpOptions::default()).await.unwrap();
    let second = plan(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(first, second);
    if database.is_sqlite() {
        let path = database.url().trim_start_matches("sqlite://");
        assert!(!std::path::Path::new(path).exists());
    } else {
        assert_eq!(database.catalog().await["tables"], Vec::<String>::new());
    }
}

async fn there_is_no_plan_when_nothing_is_to_do(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    let plan = plan(database.url(), &UpOptions::default()).await.unwrap();
    assert_eq!(script_of(&plan), "");
}

fn script(plan: &Plan) -> String {
    let script = script_of(plan);
    assert!(script.contains("CREATE TABLE \"run_events\""), "{script}");
    script
}

fn script_of(plan: &Plan) -> String {
    let statements = plan.statements.iter();
    statements.map(|statement| format!("{};\n", statement.sql)).collect()
}
