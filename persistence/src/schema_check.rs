//! Whether the database has the schema this version writes. A look, never a change.

use runledger_core::{Error, Result};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

use crate::error_map;

/// The migrations this version needs, in order. A test compares them with those that exist.
pub(crate) const NEEDED: [&str; 1] = ["m20261121_000001_ledger"];

/// Where the migrations that were applied are noted.
const TABLE: &str = "runledger_migrations";

/// [`Error::SchemaMismatch`] unless exactly the migrations this version needs were applied.
pub(crate) async fn check(database: &impl ConnectionTrait) -> Result<()> {
    let applied = applied(database).await?;
    if applied == NEEDED {
        return Ok(());
    }
    let found = match applied.last() {
        None => "empty".to_owned(),
        Some(last) => format!("at {last}"),
    };
    Err(mismatch(found))
}

/// The error of a database that is not what is needed.
pub(crate) fn mismatch(found: String) -> Error {
    Error::SchemaMismatch { found, needed: NEEDED.join(", ") }
}

async fn applied(database: &impl ConnectionTrait) -> Result<Vec<String>> {
    const OPERATION: &str = "to read the schema's version";
    let backend = database.get_database_backend();
    let exists = match backend {
        DatabaseBackend::Postgres => format!("SELECT 1 WHERE to_regclass('{TABLE}') IS NOT NULL"),
        _ => format!("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{TABLE}'"),
    };
    let failed = |error| error_map::map(OPERATION, error);
    if database.query_one_raw(Statement::from_string(backend, exists)).await.map_err(failed)?.is_none() {
        return Ok(Vec::new());
    }
    let select = Statement::from_string(backend, format!("SELECT version FROM {TABLE} ORDER BY version"));
    let rows = database.query_all_raw(select).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get_by_index(0).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_that_exist_are_those_needed() {
        assert_eq!(runledger_migration::needed(), NEEDED);
    }
}
