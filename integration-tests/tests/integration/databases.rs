//! Every test gets a database of its own, from whichever server there is.

use pretty_assertions::assert_eq;
use runledger_integration_tests::{TestDatabase, postgres, sqlite};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use sqlx::{Connection as _, PgConnection};

async fn open(database: &TestDatabase) -> DatabaseConnection {
    Database::connect(database.url()).await.unwrap()
}

/// Each of two databases keeps what was written to it, and only that.
async fn are_isolated(first: &TestDatabase, second: &TestDatabase) {
    let (one, two) = (open(first).await, open(second).await);
    one.execute_unprepared("CREATE TABLE only_here (id bigint PRIMARY KEY)").await.unwrap();
    one.execute_unprepared("INSERT INTO only_here VALUES (1)").await.unwrap();
    assert!(two.execute_unprepared("INSERT INTO only_here VALUES (2)").await.is_err());
    let kept = one.execute_unprepared("DELETE FROM only_here").await.unwrap();
    assert_eq!(kept.rows_affected(), 1);
    one.close().await.unwrap();
    two.close().await.unwrap();
}

async fn fits(database: &TestDatabase) -> bool {
    runledger_migration::check(database.url()).await.unwrap().fits()
}

#[tokio::test]
async fn sqlite_databases_are_migrated_and_isolated() {
    let (first, second) = (sqlite::database().await, sqlite::database().await);
    assert!(fits(&first).await && fits(&second).await);
    are_isolated(&first, &second).await;
}

#[tokio::test]
async fn postgres_databases_are_migrated_and_isolated() {
    let Some(server) = postgres::server() else { return };
    let (first, second) = tokio::join!(server.database(), server.database());
    assert!(fits(&first).await && fits(&second).await);
    are_isolated(&first, &second).await;
}

#[tokio::test]
async fn an_empty_postgres_database_has_no_table() {
    let Some(server) = postgres::server() else { return };
    let database = server.empty_database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(tables, Vec::<String>::new());
}

#[tokio::test]
async fn a_postgres_database_goes_with_its_value_even_while_it_is_used() {
    let Some(server) = postgres::server() else { return };
    let database = server.database().await;
    let mut user = PgConnection::connect(database.url()).await.unwrap();
    let name: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut user).await.unwrap();
    drop(database);
    // The answer comes after the removal: requests are served in order.
    drop(server.empty_database().await);
    let mut admin = PgConnection::connect(server.url()).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(left, 0, "{name}");
}

#[tokio::test]
async fn a_container_of_ones_own_is_a_server_apart() {
    let Some(container) = postgres::container().await else { return };
    let mut connection = PgConnection::connect(container.url()).await.unwrap();
    let answer: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&mut connection).await.unwrap();
    assert_eq!(answer, 1);
    assert!(container.container().is_running().await.unwrap());
}
