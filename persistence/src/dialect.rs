//! What the two databases spell differently, and the one place that knows it.

use std::time::Duration;

use runledger_core::{Error, Result, Timestamp};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{DatabaseBackend, Value};

/// A database the ledger runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// The dialect that a URL names.
    pub(crate) fn of_url(url: &str) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" => Ok(Self::Postgres),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(Error::invalid(
                "url",
                "names no database of a ledger; give sqlite://PATH, sqlite::memory: or postgres://USER@HOST/DATABASE",
            )),
        }
    }
}

/// So much later than the moment of writing, by the database's clock; SQLite's is this machine's. The
/// value takes its place in `values`.
pub(crate) fn later(backend: DatabaseBackend, by: Duration, values: &mut Vec<Value>) -> String {
    // Not the statement's time: it may have waited for a lock since.
    moment(backend, "clock_timestamp() +", Timestamp::now().after(by), by, values)
}

/// Longer ago than anything; PostgreSQL has no moment much further back.
const AGES: Duration = Duration::from_secs(1_000 * 366 * 24 * 60 * 60);

/// So much ago, by the database's clock.
pub(crate) fn ago(backend: DatabaseBackend, by: Duration, values: &mut Vec<Value>) -> String {
    // Stable within a statement, so that an index can be searched for it.
    let by = by.min(AGES);
    moment(backend, "now() -", Timestamp::now().before(by), by, values)
}

fn moment(
    backend: DatabaseBackend,
    from: &str,
    here: Timestamp,
    by: Duration,
    values: &mut Vec<Value>,
) -> String {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    let postgres = backend == DatabaseBackend::Postgres;
    values.push(if postgres { micros.into() } else { here.to_chrono().into() });
    let place = values.len();
    if postgres { format!("({from} ${place} * interval '1 microsecond')") } else { format!("${place}") }
}

/// A document for a jsonb column: jsonb on PostgreSQL, text on SQLite.
pub(crate) fn jsonb(backend: DatabaseBackend, document: &str) -> Expr {
    match backend {
        DatabaseBackend::Postgres => Expr::val(document).cast_as("jsonb"),
        _ => Expr::val(document),
    }
}
