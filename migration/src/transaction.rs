//! The two transactions of this crate: the exclusive one that changes a schema, and the snapshot
//! that looks at it.
//!
//! One `up` or `down` runs at a time, however many programs start at once. The lock and the work share one transaction, so the lock cannot outlive the work, a program
//! that dies releases it, and a failure takes everything back. PostgreSQL takes an advisory
//! lock that ends with the transaction; SQLite's `BEGIN IMMEDIATE` is the lock.

use std::time::Duration;

use sea_orm_migration::sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::Error;

/// The PostgreSQL advisory lock that a migration of a ledger takes: the bytes of `runledgr` as
/// one number. Advisory locks belong to a database, so ledgers in two schemas of one database
/// wait for each other; that is harmless.
pub const ADVISORY_LOCK_KEY: i64 = i64::from_be_bytes(*b"runledgr");

/// How long a statement of a migration may wait for a table of the application (the users
/// table) on PostgreSQL. While it waits, everybody else's statements on that table queue behind
/// it, so it gives up soon.
const LOCKED_TABLE_WAIT: Duration = Duration::from_secs(10);

/// What `plan` shows for the start of the transaction; [`exclusive`] does the same.
pub(crate) const fn begin_sql(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Sqlite => "BEGIN IMMEDIATE",
        _ => "BEGIN ISOLATION LEVEL READ COMMITTED",
    }
}

/// The statements that take the lock once the transaction is open.
pub(crate) fn lock_sql(backend: DbBackend, wait: Duration) -> Vec<String> {
    if backend == DbBackend::Sqlite {
        return Vec::new();
    }
    // PostgreSQL reads 0 as no limit, so not waiting is one millisecond.
    let milliseconds = |duration: Duration| duration.as_millis().clamp(1, i32::MAX as u128);
    vec![
        // Time limits of the role or the server are meant for requests. By name, because
        // transaction_timeout is known from PostgreSQL 17 on only.
        "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN \
         ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')"
            .to_owned(),
        format!("SET LOCAL lock_timeout = {}", milliseconds(wait)),
        format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK_KEY})"),
        format!("SET LOCAL lock_timeout = {}", milliseconds(LOCKED_TABLE_WAIT)),
    ]
}

/// Opens the transaction and takes the lock. On SQLite the wait is the connection's busy
/// timeout.
pub(crate) async fn exclusive(
    connection: &DatabaseConnection,
    wait: Duration,
) -> Result<DatabaseTransaction, Error> {
    const DOING: &str = "take the migration lock";
    let backend = connection.get_database_backend();
    let options = match backend {
        DbBackend::Sqlite => TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        },
        // Whatever the role's default is: after waiting for the lock, the next statement must
        // see what the one before us committed.
        _ => TransactionOptions {
            isolation_level: Some(IsolationLevel::ReadCommitted),
            ..TransactionOptions::default()
        },
    };
    let transaction = connection.begin_with_options(options).await.map_err(Error::while_doing(DOING))?;
    for statement in lock_sql(backend, wait) {
        transaction.execute_unprepared(&statement).await.map_err(Error::while_doing(DOING))?;
    }
    Ok(transaction)
}

/// Opens a transaction whose reads all see one state of the database, so that a migration that
/// commits in between cannot make a half-applied schema appear.
pub(crate) async fn snapshot(connection: &DatabaseConnection) -> Result<DatabaseTransaction, Error> {
    let options = match connection.get_database_backend() {
        DbBackend::Sqlite => TransactionOptions::default(),
        _ => TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        },
    };
    connection.begin_with_options(options).await.map_err(Error::while_doing("begin to read"))
}

/// Commits when the work succeeded, takes everything back when it did not.
pub(crate) async fn end<T>(transaction: DatabaseTransaction, outcome: Result<T, Error>) -> Result<T, Error> {
    match outcome {
        Ok(done) => {
            transaction.commit().await.map_err(Error::while_doing("commit"))?;
            Ok(done)
        }
        Err(error) => {
            // The first error is the one that matters; a connection that cannot roll back is
            // rolled back by the server when it goes.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}
