//! Connections to a SQLite file by a driver that is called where the work is.
//!
//! sqlx passes each row, and the end of each statement, from a thread of its own to the task that waits, which costs
//! more than most rows and statements do. What is done most often goes to a thread as a whole instead, by the same
//! SQLite: groups of commits ([`commit`](crate::commit)), and pages.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runledger_core::Result;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, Statement, Value};
use tokio::sync::{AcquireError, Semaphore};

use crate::disk::blocking;
use crate::entity::cell::Cells;
use crate::error_map;

/// How many statements stay prepared on a connection.
const PREPARED: usize = 64;

/// Where the file is, and what each connection to it is set to, whatever its driver.
#[derive(Clone, Debug)]
pub(crate) struct FileSettings {
    pub(crate) path: PathBuf,
    pub(crate) vfs: Option<String>,
    pub(crate) busy_timeout: Duration,
    pub(crate) pragmas: [(&'static str, &'static str); 5],
}

impl FileSettings {
    /// Opens a connection, with one more setting.
    pub(crate) fn open(&self, setting: (&str, &str)) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str())?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        for (name, value) in self.pragmas.into_iter().chain([setting]) {
            connection.pragma_update(None, name, value)?;
        }
        Ok(connection)
    }
}

/// The driver's error as one of the other's; [`Trouble`](error_map::Trouble) knows both.
pub(crate) fn told(error: rusqlite::Error) -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(error))
}

/// A moment as sqlx writes it, so that all rows sort alike.
pub(crate) fn time_text(time: &DateTimeUtc) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false)
}

/// Reads pages of a file.
#[derive(Debug)]
pub(crate) struct FileReader {
    settings: Arc<FileSettings>,
    /// How long one waits for a connection.
    patience: Duration,
    /// As many as there may be connections.
    places: Arc<Semaphore>,
    most: u32,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl FileReader {
    /// Opens its connections when they are needed.
    pub(crate) fn new(settings: Arc<FileSettings>, most: u32, patience: Duration) -> Self {
        Self {
            settings,
            patience,
            places: Arc::new(Semaphore::new(most as usize)),
            most,
            idle: Arc::default(),
        }
    }

    /// What a statement finds, row by row.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        statement: Statement,
        decode: fn(&mut Cells<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        note_call!(&statement.sql);
        let refused = |error| error_map::map(operation, error);
        let place = tokio::time::timeout(self.patience, Arc::clone(&self.places).acquire_owned());
        let place =
            place.await.map_err(|_| refused(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))?.map_err(
                |AcquireError { .. }| refused(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
            )?;
        let (settings, idle) = (Arc::clone(&self.settings), Arc::clone(&self.idle));
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let read = blocking(operation, move || {
            let connection = connection.map_or_else(|| settings.open(("query_only", "ON")), Ok)?;
            // A connection that failed is not used again.
            let found = rows(&connection, &statement, decode)?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(place);
            Ok(found)
        });
        read.await?.map_err(|error| refused(DbErr::Query(RuntimeErr::SqlxError(told(error).into()))))?
    }

    /// Waits for those who read, and closes every connection. Later reads are refused.
    pub(crate) async fn close(&self) {
        // Whoever closed it before has closed the connections, too.
        if let Ok(_all) = self.places.acquire_many(self.most).await {
            self.places.close();
            let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
            // Nothing was written; a failure to say goodbye changes nothing.
            let _ = blocking("to close the file", move || drop(idle)).await;
        }
    }
}

/// The rows; the inner error is of one that cannot be read.
fn rows<T>(
    connection: &Connection,
    statement: &Statement,
    decode: fn(&mut Cells<'_>) -> Result<T>,
) -> rusqlite::Result<Result<Vec<T>>> {
    let values = statement.values.as_ref().map(|values| values.0.as_slice()).unwrap_or_default();
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    for place in 1..=prepared.parameter_count() {
        // Numbered as on PostgreSQL, `$2` may stand before `$1`; SQLite counts them as they come.
        let number = prepared.parameter_name(place).and_then(|name| name.get(1..)?.parse().ok());
        if let Some(value) = values.get(number.unwrap_or(place).wrapping_sub(1)) {
            prepared.raw_bind_parameter(place, Bound(value))?;
        }
    }
    let mut rows = prepared.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match decode(&mut Cells::of_file(row)) {
            Ok(record) => found.push(record),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(found))
}

/// A value of a statement.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let borrowed = match self.0 {
            Value::String(Some(text)) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Value::Bool(Some(flag)) => ValueRef::Integer((*flag).into()),
            Value::Int(Some(number)) => ValueRef::Integer((*number).into()),
            Value::Unsigned(Some(number)) => ValueRef::Integer((*number).into()),
            Value::BigInt(Some(number)) => ValueRef::Integer(*number),
            Value::BigUnsigned(Some(number)) => ValueRef::Integer(i64::try_from(*number).unwrap_or(i64::MAX)),
            Value::ChronoDateTimeUtc(Some(time)) => return Ok(time_text(time).into()),
            Value::String(None)
            | Value::Bytes(None)
            | Value::Bool(None)
            | Value::Int(None)
            | Value::Unsigned(None)
            | Value::BigInt(None)
            | Value::BigUnsigned(None)
            | Value::ChronoDateTimeUtc(None) => ValueRef::Null,
            other => {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    format!("no statement of a page has a value like {other:?}").into(),
                ));
            }
        };
        Ok(ToSqlOutput::Borrowed(borrowed))
    }
}
