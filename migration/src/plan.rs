//! The SQL that `up` would run, with nothing run.
//!
//! The statements of a migration come from the functions that `up` executes. The few around
//! them (lock, table of versions) are built from the same definitions as SeaORM's runner uses.
//! The text can be given to `psql` or `sqlite3` by somebody who must review it first.

use sea_orm_migration::{
    sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, Schema},
    sea_query::{Expr, PostgresQueryBuilder, Query, SqliteQueryBuilder},
    seaql_migrations,
};
use serde::Serialize;

use crate::{
    Error,
    connect::{self, NEW_FILE_SETTINGS, READ_WAIT},
    migrator::{MIGRATION_TABLE, Migration},
    status::backend_name,
    table::render,
    transaction, users,
    work::{self, UpOptions},
};

/// What `up` would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// In order; none when there is nothing to do.
    pub statements: Vec<PlannedStatement>,
}

/// One statement of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedStatement {
    /// The migration it belongs to; absent for what surrounds the migrations.
    pub migration: Option<&'static str>,
    /// The statement, without a final semicolon.
    pub sql: String,
}

impl PlannedStatement {
    fn around(sql: impl Into<String>) -> Self {
        Self { migration: None, sql: sql.into() }
    }
}

/// The plan for the database at `url`. A missing SQLite file stays missing.
///
/// # Errors
/// What `up` would refuse for before it changes anything, see [`Error`].
pub async fn plan(url: &str, options: &UpOptions) -> Result<Plan, Error> {
    let database = connect::open_existing(url, READ_WAIT).await?;
    let wants_settings = database.wants_settings();
    let outcome = plan_on(database.connection(), options).await;
    database.close().await;
    let mut plan = outcome?;
    if wants_settings && !plan.statements.is_empty() {
        let settings = NEW_FILE_SETTINGS.map(PlannedStatement::around);
        plan.statements.splice(0..0, settings);
    }
    Ok(plan)
}

/// As [`plan`], on a connection that is open already.
///
/// # Errors
/// As [`plan`].
pub async fn plan_on(connection: &DatabaseConnection, options: &UpOptions) -> Result<Plan, Error> {
    let snapshot = transaction::snapshot(connection).await?;
    let outcome = statements(&snapshot, options).await;
    transaction::end(snapshot, outcome).await
}

async fn statements(snapshot: &DatabaseTransaction, options: &UpOptions) -> Result<Plan, Error> {
    let backend = snapshot.get_database_backend();
    let work = work::remaining(snapshot, options).await?;
    let mut statements = Vec::new();
    if !work.is_empty() {
        statements.push(PlannedStatement::around(transaction::begin_sql(backend)));
        let lock = transaction::lock_sql(backend, options.wait);
        statements.extend(lock.into_iter().map(PlannedStatement::around));
        if !work.migrations.is_empty() {
            statements.push(PlannedStatement::around(create_version_table(backend)));
        }
        for migration in &work.migrations {
            statements.extend(planned(migration, backend, options));
        }
        if let users::Step::Alter(sql) = work.users {
            statements.push(PlannedStatement::around(sql));
        }
        statements.push(PlannedStatement::around("COMMIT"));
    }
    Ok(Plan { backend: backend_name(backend), statements })
}

fn planned(migration: &Migration, backend: DbBackend, options: &UpOptions) -> Vec<PlannedStatement> {
    let mut statements = (migration.up)(backend, options.users.as_ref());
    statements.push(record_version(backend, migration.name));
    statements.into_iter().map(|sql| PlannedStatement { migration: Some(migration.name), sql }).collect()
}

fn create_version_table(backend: DbBackend) -> String {
    let mut create = Schema::new(backend).create_table_from_entity(seaql_migrations::Entity);
    create.table(MIGRATION_TABLE).if_not_exists();
    render(backend, &create)
}

/// The row that the runner writes, its time taken when the statement runs.
fn record_version(backend: DbBackend, name: &str) -> String {
    let now = match backend {
        DbBackend::Sqlite => "CAST(strftime('%s', 'now') AS integer)",
        _ => "CAST(extract(epoch FROM now()) AS bigint)",
    };
    let insert = Query::insert()
        .into_table(MIGRATION_TABLE)
        .columns(["version", "applied_at"])
        .values_panic([name.into(), Expr::cust(now)])
        .take();
    match backend {
        DbBackend::Sqlite => insert.to_string(SqliteQueryBuilder),
        _ => insert.to_string(PostgresQueryBuilder),
    }
}
