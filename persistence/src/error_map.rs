//! From a driver's error to the contract's: the one place that knows the codes of both databases.
//!
//! The URL is in no error of a driver, and a password in none either; messages of a server name
//! the user at most.

use std::sync::Arc;

use runledger_core::{Applied, BoxError, Error};
use sea_orm::{DbErr, RuntimeErr};

/// What can be done about an error of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing was written, and the same may succeed at once: a deadlock, a file that was busy.
    Again,
    /// Nothing was written, for somebody holds a lock that was waited for long enough.
    Held,
    /// The server ended the connection before it did anything, or this one is of no use; another may do.
    Ended,
    /// The connection broke: whether what was being done was done is not known.
    Lost,
    /// There is no connection to be had, so nothing was done.
    Unreachable,
    /// The database works and cannot do it now: no room, no memory, read-only after a failover, a
    /// timeout. Nothing was written.
    Unable,
    /// A rule of the schema was broken: a taken key, a missing value, a guard that did not hold.
    Broken,
    /// Anything else.
    Other,
}

/// PostgreSQL: serialisation failure, deadlock.
const AGAIN: [&str; 2] = ["40001", "40P01"];

/// PostgreSQL: a lock that was not to be had in time.
const HELD: &str = "55P03";

/// PostgreSQL's codes of a server that goes away, takes no further connection, or ended one that
/// was idle or whose transaction lasted too long; of one that does not let us in, for its passwords
/// are being changed or it is being restored; and of a prepared statement that is not what it was, for
/// a pooler keeps it on another connection or a migration changed its table.
const ENDED: [&str; 12] =
    ["57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04", "53300", "28", "3D000", "26000", "0A000"];

/// The codes of a row that a foreign key does not find. There is one: to the application's users table.
const NO_SUCH_USER: [&str; 2] = ["23503", "787"];

/// PostgreSQL's code of a transaction whose end is not known.
const UNKNOWN: &str = "40003";

/// PostgreSQL's classes of a server without resources, one that was told to stop what it did, and
/// one whose disk fails; and a transaction that may only read.
const UNABLE: [&str; 4] = ["53", "57", "58", "25006"];

impl Trouble {
    /// Whether a COMMIT that was answered so may have happened. A server that is shut down may say
    /// so after it committed.
    pub(crate) fn hides_the_outcome(self) -> bool {
        matches!(self, Self::Lost | Self::Ended)
    }

    /// Whether the connection is of no more use.
    pub(crate) fn ends_the_connection(self) -> bool {
        matches!(self, Self::Lost | Self::Ended | Self::Unreachable)
    }

    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code();
                Self::of_code(code.as_deref().unwrap_or_default())
            }
            // What SQLite says by its other driver.
            sqlx::Error::AnyDriverError(error) => match error.downcast_ref::<rusqlite::Error>() {
                Some(rusqlite::Error::SqliteFailure(error, _)) => {
                    Self::of_code(&error.extended_code.to_string())
                }
                _ => Self::Other,
            },
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => Self::Lost,
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => Self::Unreachable,
            _ => Self::Other,
        }
    }

    /// PostgreSQL's codes have five characters; SQLite's are numbers, the low byte being the class.
    fn of_code(code: &str) -> Self {
        if code.len() == 5 {
            return match code {
                HELD => Self::Held,
                _ if AGAIN.contains(&code) => Self::Again,
                _ if ENDED.iter().any(|class| code.starts_with(class)) => Self::Ended,
                UNKNOWN => Self::Lost,
                // The guard of a commit divides by zero where it does not hold.
                _ if code.starts_with("23") || code == "22012" => Self::Broken,
                _ if code.starts_with("08") => Self::Lost,
                _ if UNABLE.iter().any(|class| code.starts_with(class)) => Self::Unable,
                _ => Self::Other,
            };
        }
        match code.parse::<u32>().map(|code| code & 0xff) {
            // Busy and locked.
            Ok(5 | 6) => Self::Again,
            // The disk failed: whether a commit holds shows when the file is opened anew.
            Ok(10) => Self::Lost,
            // No memory, read-only, interrupted, no room, cannot be opened.
            Ok(7 | 8 | 9 | 13 | 14) => Self::Unable,
            Ok(19) => Self::Broken,
            _ => Self::Other,
        }
    }
}

/// The contract's error for one of SeaORM. `operation` completes "the database refused".
pub(crate) fn map(operation: &'static str, error: DbErr) -> Error {
    let trouble = match &error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Trouble::of(cause),
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Trouble::Unreachable,
        _ => Trouble::Other,
    };
    classified(operation, trouble, Box::new(error), Applied::No)
}

/// As [`map`], for the COMMIT: where its answer was lost, it may have happened.
pub(crate) fn map_commit(operation: &'static str, error: DbErr) -> Error {
    match map(operation, error) {
        Error::Unavailable { source, .. } if cause_of(&source).hides_the_outcome() => {
            Error::Unavailable { applied: Applied::Unknown, source }
        }
        other => other,
    }
}

/// What can be done about an error of SeaORM.
pub(crate) fn trouble_of(error: &Error) -> Trouble {
    match error {
        Error::Unavailable { source, .. } | Error::Backend { source, .. } => cause_of(source),
        _ => Trouble::Other,
    }
}

fn cause_of(source: &BoxError) -> Trouble {
    match source.downcast_ref::<DbErr>() {
        Some(
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)),
        ) => Trouble::of(cause),
        _ => Trouble::Other,
    }
}

/// The contract's error for one of sqlx; `applied` says whether the write may have happened.
pub(crate) fn map_sqlx(operation: &'static str, error: sqlx::Error, applied: Applied) -> Error {
    let trouble = Trouble::of(&error);
    classified(operation, trouble, Box::new(error), applied)
}

/// As [`map_sqlx`], for an error that several callers get.
pub(crate) fn map_shared(operation: &'static str, error: &Arc<sqlx::Error>, applied: Applied) -> Error {
    classified(operation, Trouble::of(error), Box::new(Arc::clone(error)), applied)
}

fn classified(operation: &'static str, trouble: Trouble, source: BoxError, applied: Applied) -> Error {
    match trouble {
        Trouble::Again
        | Trouble::Held
        | Trouble::Ended
        | Trouble::Lost
        | Trouble::Unreachable
        | Trouble::Unable => Error::Unavailable { applied, source },
        Trouble::Broken if names_no_user(&source) => Error::invalid(
            "owner_id",
            "is not in the application's users table, which agent runs refer to; create the user first, or \
             leave the owner out",
        ),
        Trouble::Broken | Trouble::Other => Error::Backend { operation, source },
    }
}

/// Whether the owner of an agent run is not in the application's users table.
fn names_no_user(source: &BoxError) -> bool {
    let refused = |error: &sqlx::Error| {
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| NO_SUCH_USER.contains(&code.as_ref()))
    };
    match source.downcast_ref::<DbErr>() {
        Some(
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)),
        ) => refused(cause),
        _ => match source.downcast_ref::<Arc<sqlx::Error>>() {
            Some(cause) => refused(cause),
            None => source.downcast_ref::<sqlx::Error>().is_some_and(refused),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::ErrorKind;

    #[test]
    fn codes_of_both_databases_are_classed() {
        for (code, trouble) in [
            ("40001", Trouble::Again),
            ("40P01", Trouble::Again),
            ("55P03", Trouble::Held),
            ("57P01", Trouble::Ended),
            ("53300", Trouble::Ended),
            ("08006", Trouble::Lost),
            ("23505", Trouble::Broken),
            ("23503", Trouble::Broken),
            ("787", Trouble::Broken),
            ("22012", Trouble::Broken),
            ("42P01", Trouble::Other),
            ("53100", Trouble::Unable),
            ("57014", Trouble::Unable),
            ("57P05", Trouble::Ended),
            ("25P03", Trouble::Ended),
            ("58030", Trouble::Unable),
            ("25006", Trouble::Unable),
            ("25001", Trouble::Other),
            ("25P04", Trouble::Ended),
            ("28P01", Trouble::Ended),
            ("28000", Trouble::Ended),
            ("3D000", Trouble::Ended),
            ("26000", Trouble::Ended),
            ("0A000", Trouble::Ended),
            ("40003", Trouble::Lost),
            ("42501", Trouble::Other),
            ("XX000", Trouble::Other),
            ("5", Trouble::Again),
            ("6", Trouble::Again),
            ("517", Trouble::Again),
            ("261", Trouble::Again),
            ("10", Trouble::Lost),
            ("1034", Trouble::Lost),
            ("8", Trouble::Unable),
            ("13", Trouble::Unable),
            ("1299", Trouble::Broken),
            ("2067", Trouble::Broken),
            ("1", Trouble::Other),
            ("", Trouble::Other),
        ] {
            assert_eq!(Trouble::of_code(code), trouble, "{code}");
        }
    }

    #[test]
    fn a_pool_without_room_is_unavailable_and_wrote_nothing() {
        let error = map_sqlx("to append", sqlx::Error::PoolTimedOut, Applied::No);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(map("to read", DbErr::Custom("x".to_owned())).kind(), ErrorKind::Backend);
    }
}
