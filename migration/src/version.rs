//! What a database says was applied to it. Read-only: it never creates the table of versions,
//! so a user without rights to create anything can ask.

use chrono::{DateTime, Utc};
use sea_orm_migration::{
    sea_orm::{ConnectionTrait, DbBackend, Statement},
    sea_query::{Order, Query},
};

use crate::{
    Error,
    migrator::{MIGRATION_TABLE, MIGRATIONS, Migration, needed},
};

/// One row of the table of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) name: String,
    pub(crate) at: Option<DateTime<Utc>>,
}

/// The applied migrations, oldest first; none when there is no table of versions.
pub(crate) async fn applied(connection: &impl ConnectionTrait) -> Result<Vec<Applied>, Error> {
    const DOING: &str = "read the applied migrations";
    if !has_table(connection, MIGRATION_TABLE).await? {
        return Ok(Vec::new());
    }
    let select = Query::select()
        .columns(["version", "applied_at"])
        .from(MIGRATION_TABLE)
        .order_by("version", Order::Asc)
        .take();
    connection
        .query_all(&select)
        .await
        .and_then(|rows| {
            rows.iter()
                .map(|row| {
                    let seconds: i64 = row.try_get("", "applied_at")?;
                    Ok(Applied {
                        name: row.try_get("", "version")?,
                        at: DateTime::from_timestamp(seconds, 0),
                    })
                })
                .collect()
        })
        .map_err(Error::while_doing(DOING))
}

/// Whether something of that name is in the schema where new tables would go.
pub(crate) async fn has_table(connection: &impl ConnectionTrait, table: &str) -> Result<bool, Error> {
    let backend = connection.get_database_backend();
    // pg_class and not information_schema, which hides what the role has no rights to.
    let sql = match backend {
        DbBackend::Sqlite => {
            "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') \
             AND name = ? COLLATE NOCASE"
        }
        _ => {
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = current_schema() AND c.relname = $1"
        }
    };
    connection
        .query_one_raw(Statement::from_sql_and_values(backend, sql, [table.into()]))
        .await
        .map(|row| row.is_some())
        .map_err(Error::while_doing(format!("look for table {table}")))
}

/// The migrations that are not applied yet, oldest first.
pub(crate) fn pending(applied: &[Applied]) -> Vec<Migration> {
    MIGRATIONS
        .iter()
        .filter(|migration| applied.iter().all(|row| row.name != migration.name))
        .copied()
        .collect()
}

/// The applied migrations that this program does not know.
pub(crate) fn unknown(applied: &[Applied]) -> Vec<String> {
    let needed = needed();
    applied.iter().filter(|row| !needed.contains(&row.name.as_str())).map(|row| row.name.clone()).collect()
}

/// Refuses a database that a newer version wrote.
pub(crate) fn refuse_newer(applied: &[Applied]) -> Result<(), Error> {
    let found = unknown(applied);
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::NewerSchema { found, known: crate::SCHEMA_VERSION })
}
