//! The connection that writes plain groups to a SQLite file.
//!
//! sqlx passes each statement's end from its thread to the task that waits, which costs more than the statement.
//! So a group goes to a thread as a whole, by the same SQLite but another driver.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params_from_iter};
use sqlx::sqlite::SqliteConnectOptions;

use super::connection::{FileSettings, NO_CHECKPOINTS};
use super::statement::{Statement, Value};

/// How many statements stay prepared: seven sizes of five tables, and some.
const PREPARED: usize = 64;

/// A connection, once there was something to write.
#[derive(Debug, Default)]
pub(super) struct FileWriter(Option<Connection>);

impl FileWriter {
    /// Writes all of it, or nothing.
    pub(super) async fn write(
        &mut self,
        options: &SqliteConnectOptions,
        settings: &FileSettings,
        statements: Vec<Statement>,
    ) -> Result<(), sqlx::Error> {
        let connection = match self.0.take() {
            Some(connection) => connection,
            None => {
                let (path, settings) = (options.get_filename().to_path_buf(), settings.clone());
                in_thread(move || opened(&path, &settings)).await?.map_err(told)?
            }
        };
        let (connection, outcome) = in_thread(move || {
            let outcome = run(&connection, &statements);
            let is_usable =
                outcome.is_ok() || connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            (is_usable.then_some(connection), outcome)
        })
        .await?;
        self.0 = connection;
        outcome.map_err(told)
    }

    pub(super) async fn close(self) {
        if let Some(connection) = self.0 {
            // Everything is committed; a failure to say goodbye changes nothing.
            let _ = in_thread(move || drop(connection)).await;
        }
    }
}

async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, sqlx::Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| sqlx::Error::WorkerCrashed)
}

fn opened(path: &Path, settings: &FileSettings) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match &settings.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str())?,
        None => Connection::open_with_flags(path, flags)?,
    };
    connection.busy_timeout(settings.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    for (name, value) in settings.pragmas.into_iter().chain([NO_CHECKPOINTS]) {
        connection.pragma_update(None, name, value)?;
    }
    Ok(connection)
}

fn run(connection: &Connection, statements: &[Statement]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for statement in statements {
        connection.prepare_cached(&statement.sql)?.execute(params_from_iter(&statement.values))?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
        let borrowed = match self {
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Bool(flag) => ValueRef::Integer((*flag).into()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            // As sqlx writes it, so that all rows sort alike.
            Self::Time(Some(time)) => {
                let text = time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false);
                return Ok(ToSqlOutput::Owned(Owned::Text(text)));
            }
            Self::Text(None) | Self::Int(None) | Self::Time(None) => ValueRef::Null,
            Self::Texts(_) | Self::Ints(_) | Self::Bools(_) | Self::Times(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure("SQLite has no arrays".into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(borrowed))
    }
}

/// What the lane is told. Whatever it is but a disk that failed, nothing was written.
fn told(error: rusqlite::Error) -> sqlx::Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::SystemIoFailure) => sqlx::Error::Io(std::io::Error::other(error)),
        _ => sqlx::Error::AnyDriverError(Box::new(error)),
    }
}
