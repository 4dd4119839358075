//! The optional foreign key to the application's users table.

use pretty_assertions::assert_eq;
use runledger_migration::{Error, UpOptions, UsersTable, status, up};

use crate::{database::TestDatabase, on_each_backend};

on_each_backend!(
    deleting_a_user_leaves_agent_runs_without_owner,
    an_owner_must_be_a_user,
    asking_again_changes_nothing,
    a_key_that_cannot_match_is_refused,
    a_missing_users_table_is_refused,
    a_ledger_that_exists_already,
);

fn with_users(table: &str, key: &str) -> UpOptions {
    UpOptions { users: Some(UsersTable::new(table, key).unwrap()), ..UpOptions::default() }
}

async fn with_two_users(database: &TestDatabase) {
    database
        .execute(
            "CREATE TABLE app_users (id text PRIMARY KEY, age integer); \
             INSERT INTO app_users VALUES ('ada', 36), ('bob', 41)",
        )
        .await;
}

fn agent_run(id: &str, owner: &str) -> String {
    format!(
        "INSERT INTO agent_runs (agent_run_id, agent, owner_id, goal, status, steps, started_at, \
         created_at) VALUES ('{id}', 'a', {owner}, 'g', 'running', '[]', \
         '2026-11-21T00:00:00+00:00', '2026-11-21T00:00:00+00:00')"
    )
}

async fn deleting_a_user_leaves_agent_runs_without_owner(database: &TestDatabase) {
    with_two_users(database).await;
    let report = up(database.url(), &with_users("app_users", "id")).await.unwrap();
    assert!(report.users_foreign_key_added);
    database.execute(&agent_run("1", "'ada'")).await;
    database.execute(&agent_run("2", "'bob'")).await;
    database.execute(&agent_run("3", "NULL")).await;
    database.execute("DELETE FROM app_users WHERE id = 'ada'").await;
    let rows = database.rows("SELECT agent_run_id, owner_id FROM agent_runs ORDER BY agent_run_id").await;
    assert_eq!(rows, ["1 NULL", "2 bob", "3 NULL"]);
}

async fn an_owner_must_be_a_user(database: &TestDatabase) {
    with_two_users(database).await;
    up(database.url(), &with_users("app_users", "id")).await.unwrap();
    let refusal = database.refusal(&agent_run("1", "'eve'")).await;
    let told = refusal.unwrap_or_default().to_lowercase();
    assert!(told.contains("foreign key"), "{told}");
}

async fn asking_again_changes_nothing(database: &TestDatabase) {
    with_two_users(database).await;
    let options = with_users("app_users", "id");
    up(database.url(), &options).await.unwrap();
    let before = database.catalog().await;
    let report = up(database.url(), &options).await.unwrap();
    assert_eq!((report.applied, report.users_foreign_key_added), (Vec::new(), false));
    assert_eq!(database.catalog().await, before);
    let shown = status(database.url()).await.unwrap().users_foreign_key;
    let expected = if database.is_sqlite() { "app_users(id)" } else { "public.app_users(id)" };
    assert_eq!(shown.as_deref(), Some(expected));

    database.execute("CREATE TABLE others (id text PRIMARY KEY)").await;
    let error = up(database.url(), &with_users("others", "id")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot add the foreign key to users table others(id): agent_runs already refers to \
             {expected}; drop that foreign key first"
        ),
    );
}

async fn a_key_that_cannot_match_is_refused(database: &TestDatabase) {
    with_two_users(database).await;
    database.execute("CREATE TABLE accounts (id uuid PRIMARY KEY, name text)").await;
    let before = database.catalog().await;
    for (table, key, reason) in [
        (
            "accounts",
            "id",
            "its type is uuid, but owners are text; a uuid or integer key does not match, so \
             point it at a unique text column that holds the same ids",
        ),
        (
            "app_users",
            "age",
            "its type is integer, but owners are text; a uuid or integer key does not match, so \
             point it at a unique text column that holds the same ids",
        ),
        ("accounts", "name", "the column is not unique; add a unique index to it"),
        ("app_users", "nick", "there is no such column; create the users table before the ledger"),
    ] {
        let error = up(database.url(), &with_users(table, key)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot add the foreign key to users table {table}({key}): {reason}"),
        );
    }
    assert_eq!(database.catalog().await, before);
}

async fn a_missing_users_table_is_refused(database: &TestDatabase) {
    let error = up(database.url(), &with_users("app_users", "id")).await.unwrap_err();
    assert!(matches!(error, Error::UsersTable { .. }), "{error}");
}

async fn a_ledger_that_exists_already(database: &TestDatabase) {
    with_two_users(database).await;
    up(database.url(), &UpOptions::default()).await.unwrap();
    database.execute(&agent_run("1", "'eve'")).await;
    let outcome = up(database.url(), &with_users("app_users", "id")).await;
    if database.is_sqlite() {
        let told = outcome.unwrap_err().to_string();
        assert!(told.contains("SQLite takes a foreign key only when the table is created"), "{told}");
        return;
    }
    // PostgreSQL adds it later, once every owner is a user.
    let told = outcome.unwrap_err().to_string();
    assert!(told.contains("every owner of an agent run must be in it"), "{told}");
    database.execute("INSERT INTO app_users VALUES ('eve', 1)").await;
    let report = up(database.url(), &with_users("app_users", "id")).await.unwrap();
    assert!(report.users_foreign_key_added);
    database.execute("DELETE FROM app_users").await;
    assert_eq!(database.rows("SELECT owner_id FROM agent_runs").await, ["NULL"]);
}

/// The users table may live in another schema than the ledger.
#[tokio::test]
async fn a_users_table_in_its_own_schema() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    database.execute("CREATE SCHEMA app; CREATE TABLE app.users (id varchar(40) UNIQUE)").await;
    let users = UsersTable::new("users", "id").unwrap().in_schema("app").unwrap();
    let options = UpOptions { users: Some(users), ..UpOptions::default() };
    let report = up(database.url(), &options).await.unwrap();
    assert!(report.users_foreign_key_added);
    let again = up(database.url(), &options).await.unwrap();
    assert!(!again.users_foreign_key_added);
}
