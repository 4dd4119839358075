//! Taking migrations back. It deletes what the tables hold; the command asks for `--yes`.

use std::time::Duration;

use sea_orm_migration::{
    MigratorTraitSelf,
    sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction},
    sea_query::Table,
};
use serde::Serialize;

use crate::{
    Error, connect,
    migrator::{MIGRATION_TABLE, Migrator},
    status::backend_name,
    table::render,
    transaction, version,
    work::{UpOptions, at_least_one},
};

/// What a `down` is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownOptions {
    /// How many migrations to take back, newest first, at least 1.
    pub steps: u32,
    /// How long to wait while another program migrates.
    pub wait: Duration,
}

impl DownOptions {
    /// Takes back `steps` migrations and waits as long as an `up` would.
    #[must_use]
    pub const fn steps(steps: u32) -> Self {
        Self { steps, wait: UpOptions::DEFAULT_WAIT }
    }
}

/// What a `down` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DownReport {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// The migrations that were taken back, newest first.
    pub reverted: Vec<String>,
    /// Whether the table of versions went too, nothing of the ledger being left.
    pub version_table_dropped: bool,
}

/// Takes back the newest migrations of the database at `url`, in one transaction under the lock
/// of `up`. Only the ledger's own tables are dropped, never with what an application built on
/// them. A missing SQLite file stays missing.
///
/// # Errors
/// Every variant of [`Error`]; [`Error::NewerSchema`] when a newer program migrated it, because
/// only that one knows the way back.
pub async fn down(url: &str, options: &DownOptions) -> Result<DownReport, Error> {
    let database = connect::open_existing(url, options.wait).await?;
    let outcome = down_on(database.connection(), options).await;
    database.close().await;
    outcome
}

/// As [`down`], on a connection that is open already.
///
/// # Errors
/// As [`down`].
pub async fn down_on(connection: &DatabaseConnection, options: &DownOptions) -> Result<DownReport, Error> {
    let steps = at_least_one(options.steps)?;
    let transaction = transaction::exclusive(connection, options.wait).await?;
    let outcome = revert(&transaction, steps).await;
    transaction::end(transaction, outcome).await
}

async fn revert(transaction: &DatabaseTransaction, steps: u32) -> Result<DownReport, Error> {
    let backend = transaction.get_database_backend();
    let mut applied = version::applied(transaction).await?;
    version::refuse_newer(&applied)?;
    let mut reverted = Vec::new();
    for _ in 0..steps {
        let Some(newest) = applied.pop() else { break };
        Migrator::default().down(transaction, Some(1)).await.map_err(Error::while_doing(format!(
            "take back {} (does the application refer to its tables?)",
            newest.name
        )))?;
        reverted.push(newest.name);
    }
    let drops_versions = applied.is_empty() && version::has_table(transaction, MIGRATION_TABLE).await?;
    if drops_versions {
        let drop = render(backend, Table::drop().table(MIGRATION_TABLE));
        transaction
            .execute_unprepared(&drop)
            .await
            .map_err(Error::while_doing("drop the table of versions"))?;
    }
    Ok(DownReport { backend: backend_name(backend), reverted, version_table_dropped: drops_versions })
}
