//! The connection that writes plain groups to a SQLite file.

use std::cell::Cell;

use rusqlite::{Connection, params_from_iter};

use super::connection::{NO_CHECKPOINTS, checkpoint};
use super::statement::{Statement, Value};
use crate::sqlite_file::{FileSettings, time_text, told};

thread_local! {
    /// How many pages the log has: SQLite tells a function that has nothing of its own, and a lane has its thread.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// A connection, once there was something to write.
#[derive(Debug, Default)]
pub(super) struct FileWriter(Option<Connection>);

impl FileWriter {
    /// Writes all of it, or nothing. It blocks: the lane of a file has a thread of its own.
    pub(super) fn write(
        &mut self,
        settings: &FileSettings,
        statements: &[Statement],
    ) -> Result<(), sqlx::Error> {
        note_call!(&statements.iter().map(|statement| &*statement.sql).collect::<Vec<_>>().join(";"));
        let connection = match &self.0 {
            Some(connection) => connection,
            None => {
                let connection = settings.open(NO_CHECKPOINTS).map_err(told)?;
                connection.wal_hook(Some(|_, pages| {
                    LOG_PAGES.set(pages.unsigned_abs());
                    Ok(())
                }));
                self.0.insert(connection)
            }
        };
        let outcome = run(connection, statements);
        if outcome.is_err() && !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_err() {
            self.0 = None;
        }
        outcome.map_err(told)
    }

    /// How many pages the log had after the last commit of this lane's connection.
    pub(super) fn log_pages(&self) -> u32 {
        LOG_PAGES.get()
    }

    /// Moves the log into the database while nobody writes it here.
    pub(super) fn move_log(&self) {
        if let Some(connection) = &self.0
            && let Err(error) = checkpoint(connection)
        {
            tracing::warn!(%error, "the database's log could not be moved; it grows");
        }
    }
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
        use rusqlite::types::{ToSqlOutput, ValueRef};
        let borrowed = match self {
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Bool(flag) => ValueRef::Integer((*flag).into()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Time(Some(time)) => {
                return Ok(time_text(time).into());
            }
            Self::Text(None) | Self::Int(None) | Self::Time(None) => ValueRef::Null,
            Self::Texts(_) | Self::Ints(_) | Self::Bools(_) | Self::Times(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure("SQLite has no arrays".into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(borrowed))
    }
}
