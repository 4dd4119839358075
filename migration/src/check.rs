//! Whether the schema fits this program: the versions, and then what is really there.
//!
//! The table of versions says what was done, not what somebody undid by hand. So the tables,
//! columns and indexes are compared with those of a schema built in memory by the same
//! migrations. More than needed is fine: a newer column, an index of the operator's own.

use std::collections::BTreeSet;

use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, Statement,
};
use serde::Serialize;

use crate::{
    Error,
    connect::{self, READ_WAIT},
    m20261121_000001_ledger::words_tables,
    migrator::MIGRATION_TABLE,
    status::backend_name,
    transaction,
    up::up_on,
    version,
    work::UpOptions,
};

/// How a schema relates to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It is what this program needs.
    Fits,
    /// Nothing of a ledger is there yet.
    Absent,
    /// Migrations are pending.
    Behind,
    /// A newer program migrated it.
    Newer,
    /// All migrations are recorded, but something they made is gone.
    Damaged,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// Migrations of this program that are not applied.
    pub pending: Vec<String>,
    /// Applied migrations that this program does not know.
    pub newer: Vec<String>,
    /// What should be there and is not: `table runs`, `column runs.epoch`, `index ix_runs_run`.
    pub missing: Vec<String>,
    /// What to do about it; absent when the schema fits.
    pub remedy: Option<&'static str>,
}

impl CheckReport {
    /// Whether this program can work with the schema.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.verdict == Verdict::Fits
    }
}

/// Checks the database at `url`. Nothing is written; a missing SQLite file stays missing.
///
/// # Errors
/// [`Error::Url`] and [`Error::Unavailable`], or [`Error::Refused`] when the user may not read. A
/// schema that does not fit is a report, not an error.
pub async fn check(url: &str) -> Result<CheckReport, Error> {
    let database = connect::open_existing(url, READ_WAIT).await?;
    let outcome = check_on(database.connection()).await;
    database.close().await;
    outcome
}

/// As [`check`], on a connection that is open already.
///
/// # Errors
/// As [`check`].
pub async fn check_on(connection: &DatabaseConnection) -> Result<CheckReport, Error> {
    let expected = expected_objects().await?;
    let snapshot = transaction::snapshot(connection).await?;
    let outcome = compare(&snapshot, expected).await;
    transaction::end(snapshot, outcome).await
}

async fn compare(
    snapshot: &DatabaseTransaction,
    mut expected: BTreeSet<Object>,
) -> Result<CheckReport, Error> {
    if snapshot.get_database_backend() != DbBackend::Sqlite {
        // The model of what is expected is a SQLite database.
        let words = words_tables();
        expected.retain(|object| !words.contains(&object.table()));
    }
    let applied = version::applied(snapshot).await?;
    let pending: Vec<String> =
        version::pending(&applied).iter().map(|migration| migration.name.to_owned()).collect();
    let newer = version::unknown(&applied);
    // What a pending or a newer migration makes or drops says nothing.
    let missing = if pending.is_empty() && newer.is_empty() {
        missing(&expected, &objects(snapshot).await?)
    } else {
        Vec::new()
    };
    let verdict = match () {
        () if !newer.is_empty() => Verdict::Newer,
        () if applied.is_empty() => Verdict::Absent,
        () if !pending.is_empty() => Verdict::Behind,
        () if !missing.is_empty() => Verdict::Damaged,
        () => Verdict::Fits,
    };
    Ok(CheckReport {
        backend: backend_name(snapshot.get_database_backend()),
        verdict,
        pending,
        newer,
        missing,
        remedy: verdict.remedy(),
    })
}

impl Verdict {
    const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Fits => None,
            Self::Absent | Self::Behind => Some("run `runledger-migrate up`"),
            Self::Newer => Some("use the newer version of this program that migrated it"),
            Self::Damaged => Some(
                "create again what is missing (`runledger-migrate plan` on an empty database \
                 prints its SQL), or restore a backup",
            ),
        }
    }
}

/// Something a migration makes. A column or an index carries its table, so that a missing table
/// is told once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Table(String),
    Column { table: String, column: String },
    Index { table: String, index: String },
}

impl Object {
    fn table(&self) -> &str {
        match self {
            Self::Table(table) | Self::Column { table, .. } | Self::Index { table, .. } => table,
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(table) => write!(f, "table {table}"),
            Self::Column { table, column } => write!(f, "column {table}.{column}"),
            Self::Index { index, .. } => write!(f, "index {index}"),
        }
    }
}

fn missing(expected: &BTreeSet<Object>, found: &BTreeSet<Object>) -> Vec<String> {
    let table_is_there = |object: &Object| found.contains(&Object::Table(object.table().to_owned()));
    expected
        .difference(found)
        .filter(|object| matches!(object, Object::Table(_)) || table_is_there(object))
        .map(Object::to_string)
        .collect()
}

async fn expected_objects() -> Result<BTreeSet<Object>, Error> {
    let model = connect::in_memory().await?;
    up_on(&model, &UpOptions::default()).await?;
    let found = objects(&model).await;
    connect::close(model).await;
    let mut found = found?;
    // The list of versions is the runner's, and was read just before.
    found.retain(|object| object.table() != MIGRATION_TABLE);
    // What SQLite keeps words in is its own business: it differs between its versions.
    for words in words_tables() {
        let inner = format!("{words}_");
        found.retain(|object| !object.table().starts_with(&inner));
    }
    Ok(found)
}

const SQLITE_OBJECTS: &str = "SELECT 'table' AS kind, name AS of, name FROM sqlite_master \
     WHERE type = 'table' \
     UNION ALL SELECT 'column', m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c \
     WHERE m.type = 'table' \
     UNION ALL SELECT 'index', tbl_name, name FROM sqlite_master \
     WHERE type = 'index' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";

/// From the catalog, not from information_schema, which hides what the role has no rights to. An
/// index that failed to build is not there.
const POSTGRES_OBJECTS: &str = "SELECT 'table' AS kind, c.relname::text AS of, c.relname::text \
     AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') \
     UNION ALL SELECT 'column', c.relname::text, a.attname::text FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') \
     UNION ALL SELECT 'index', t.relname::text, c.relname::text FROM pg_index i \
     JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
     JOIN pg_namespace n ON n.oid = t.relnamespace \
     WHERE n.nspname = current_schema() AND i.indisvalid";

async fn objects(connection: &impl ConnectionTrait) -> Result<BTreeSet<Object>, Error> {
    let backend = connection.get_database_backend();
    let sql = match backend {
        DbBackend::Sqlite => SQLITE_OBJECTS,
        _ => POSTGRES_OBJECTS,
    };
    connection
        .query_all_raw(Statement::from_string(backend, sql))
        .await
        .and_then(|rows| {
            rows.iter()
                .map(|row| {
                    let kind: String = row.try_get_by_index(0)?;
                    let table: String = row.try_get_by_index(1)?;
                    let name: String = row.try_get_by_index(2)?;
                    Ok(match kind.as_str() {
                        "table" => Object::Table(name),
                        "column" => Object::Column { table, column: name },
                        _ => Object::Index { table, index: name },
                    })
                })
                .collect()
        })
        .map_err(Error::while_doing("read the tables"))
}
