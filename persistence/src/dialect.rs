//! What the two databases spell differently, and the one place that knows it.

use runledger_core::{Error, Result};
use sea_orm::DatabaseBackend;
use sea_orm::sea_query::{Expr, ExprTrait};

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

/// A document for a jsonb column: jsonb on PostgreSQL, text on SQLite.
pub(crate) fn jsonb(backend: DatabaseBackend, document: &str) -> Expr {
    match backend {
        DatabaseBackend::Postgres => Expr::val(document).cast_as("jsonb"),
        _ => Expr::val(document),
    }
}
