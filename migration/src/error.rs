//! The one error of this crate, by what the operator has to do about it.
//!
//! The remedy is in the text; the driver's words are kept as the source and never repeated; no
//! variant can hold a password.

use sea_orm_migration::sea_orm::{DbErr, RuntimeErr, sqlx};

use crate::migrator::MIGRATION_TABLE;

/// Why an operation on the schema did not happen. Whatever the variant, the database is as it
/// was before the call: an `up` or `down` is one transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database URL names no database that a ledger can live in.
    #[error(
        "cannot use the database url {url}: {reason}; give sqlite://PATH, sqlite::memory: or \
         postgres://USER@HOST/DATABASE"
    )]
    Url {
        /// The URL without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An argument can mean nothing, whatever the database holds.
    #[error("invalid {field}: {reason}")]
    InvalidInput {
        /// The argument.
        field: &'static str,
        /// What is wrong and what is accepted.
        reason: String,
    },

    /// The database could not be opened or went away.
    #[error("cannot use the database: {remedy}")]
    Unavailable {
        /// What to look at.
        remedy: String,
        /// The driver's error.
        #[source]
        source: DbErr,
    },

    /// Another migration, or an application's transaction, held a lock for too long.
    #[error(
        "the database stayed locked while waiting to {doing}: another migration or a long \
         transaction holds it; run it again when that has ended, or wait longer"
    )]
    Busy {
        /// What was about to happen.
        doing: String,
        /// The driver's error.
        #[source]
        source: DbErr,
    },

    /// The database has migrations this program does not know: a newer version wrote it.
    #[error(
        "the database was written by a newer version: it has {}, this program knows up to \
         {known}; use that newer version",
        found.join(", ")
    )]
    NewerSchema {
        /// The applied migrations that are unknown here, in order.
        found: Vec<String>,
        /// The newest migration of this program.
        known: &'static str,
    },

    /// A table of the ledger's name exists and is not the ledger's.
    #[error(
        "table {table} exists already and is not the ledger's ({MIGRATION_TABLE} does not list \
         it); give the ledger a database or, on PostgreSQL, a schema of its own \
         (add ?options=-csearch_path%3DNAME to the url)"
    )]
    TableTaken {
        /// The table.
        table: String,
    },

    /// The foreign key to the application's users table cannot be had as asked.
    #[error("cannot add the foreign key to users table {users}: {reason}")]
    UsersTable {
        /// The users table and its key, as asked for.
        users: String,
        /// What is wrong and what to do.
        reason: String,
    },

    /// The database refused a statement.
    #[error("the database refused to {doing}; nothing was changed")]
    Refused {
        /// What was about to happen.
        doing: String,
        /// The driver's error.
        #[source]
        source: DbErr,
    },
}

impl Error {
    /// A short, stable name of the variant, for programs that read the command's JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::InvalidInput { .. } => "invalid_input",
            Self::Unavailable { .. } => "unavailable",
            Self::Busy { .. } => "busy",
            Self::NewerSchema { .. } => "newer_schema",
            Self::TableTaken { .. } => "table_taken",
            Self::UsersTable { .. } => "users_table",
            Self::Refused { .. } => "refused",
        }
    }

    /// Sorts a driver's error by what helps against it. `doing` completes "refused to ...".
    pub(crate) fn while_doing(doing: impl Into<String>) -> impl FnOnce(DbErr) -> Self {
        let doing = doing.into();
        move |source| match Trouble::of(&source) {
            Trouble::Locked => Self::Busy { doing, source },
            Trouble::Gone => Self::Unavailable {
                remedy: format!("it went away while trying to {doing}; run it again"),
                source,
            },
            Trouble::Other => Self::Refused { doing, source },
        }
    }
}

/// What a driver's error means for somebody who can only wait or try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Somebody else holds a lock.
    Locked,
    /// The connection or the server is gone.
    Gone,
    /// Trying again will not help.
    Other,
}

impl Trouble {
    /// Classifies by the driver's codes: SQLSTATE on PostgreSQL, the result code on SQLite.
    pub(crate) fn of(error: &DbErr) -> Self {
        let (DbErr::Conn(RuntimeErr::SqlxError(driver))
        | DbErr::Exec(RuntimeErr::SqlxError(driver))
        | DbErr::Query(RuntimeErr::SqlxError(driver))) = error
        else {
            return match error {
                DbErr::ConnectionAcquire(_) => Self::Gone,
                _ => Self::Other,
            };
        };
        match &**driver {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Self::Gone,
            sqlx::Error::Database(database) => {
                database.code().map_or(Self::Other, |code| Self::of_code(&code))
            }
            _ => Self::Other,
        }
    }

    fn of_code(code: &str) -> Self {
        // SQLite writes extended result codes as decimal numbers; the low byte is the class:
        // 5 is busy, 6 is locked. SQLSTATEs have five characters, so the two never meet.
        const BUSY: u32 = 5;
        const LOCKED: u32 = 6;
        if code.len() < 5 {
            return match code.parse::<u32>().map(|number| number & 0xff) {
                Ok(BUSY | LOCKED) => Self::Locked,
                _ => Self::Other,
            };
        }
        match code {
            "55P03" | "40001" | "40P01" => Self::Locked,
            _ if code.starts_with("08") || code.starts_with("57P") => Self::Gone,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::Trouble;

    #[test]
    fn codes_are_sorted_by_what_helps() {
        let sorted =
            |codes: &[&str]| -> Vec<Trouble> { codes.iter().map(|code| Trouble::of_code(code)).collect() };
        assert_eq!(sorted(&["5", "6", "261", "517", "55P03", "40001", "40P01"]), vec![Trouble::Locked; 7],);
        assert_eq!(sorted(&["57P01", "08006"]), vec![Trouble::Gone; 2]);
        assert_eq!(sorted(&["1", "14", "787", "42501", "23505"]), vec![Trouble::Other; 5],);
    }
}
