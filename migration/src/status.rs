//! Which migrations a database has, which it lacks, and which only a newer program knows.

use chrono::{DateTime, Utc};
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend};
use serde::Serialize;

use crate::{
    Error,
    connect::{self, READ_WAIT},
    migrator::needed,
    transaction, users,
    version::{self, Applied},
};

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// False when the SQLite file is not created yet.
    pub exists: bool,
    /// This program's migrations and any others that were applied, in order of their names.
    pub migrations: Vec<MigrationStatus>,
    /// The users key that agent runs refer to, if that foreign key was asked for.
    pub users_foreign_key: Option<String>,
}

/// Where one migration stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The migration's name.
    pub name: String,
    /// Its state.
    pub state: MigrationState,
    /// When it was applied, to the second.
    pub applied_at: Option<DateTime<Utc>>,
}

/// The state of one migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MigrationState {
    /// Applied, and known to this program.
    Applied,
    /// Known to this program, not applied.
    Pending,
    /// Applied, and unknown to this program: a newer one did it.
    Newer,
}

/// The status of the database at `url`. Nothing is written; a missing SQLite file stays missing.
///
/// # Errors
/// [`Error::Url`] and [`Error::Unavailable`], or [`Error::Refused`] when the user may not read.
pub async fn status(url: &str) -> Result<StatusReport, Error> {
    let database = connect::open_existing(url, READ_WAIT).await?;
    let exists = database.exists();
    let outcome = status_on(database.connection()).await;
    database.close().await;
    Ok(StatusReport { exists, ..outcome? })
}

/// As [`status`], on a connection that is open already.
///
/// # Errors
/// As [`status`].
pub async fn status_on(connection: &DatabaseConnection) -> Result<StatusReport, Error> {
    let snapshot = transaction::snapshot(connection).await?;
    let outcome = read(&snapshot).await;
    transaction::end(snapshot, outcome).await
}

async fn read(snapshot: &DatabaseTransaction) -> Result<StatusReport, Error> {
    let applied = version::applied(snapshot).await?;
    Ok(StatusReport {
        backend: backend_name(snapshot.get_database_backend()),
        exists: true,
        migrations: merged(&applied),
        users_foreign_key: users::current(snapshot).await?,
    })
}

fn merged(applied: &[Applied]) -> Vec<MigrationStatus> {
    let needed = needed();
    let recorded = applied.iter().map(|row| MigrationStatus {
        state: if needed.contains(&row.name.as_str()) {
            MigrationState::Applied
        } else {
            MigrationState::Newer
        },
        name: row.name.clone(),
        applied_at: row.at,
    });
    let pending = version::pending(applied).into_iter().map(|migration| MigrationStatus {
        name: migration.name.to_owned(),
        state: MigrationState::Pending,
        applied_at: None,
    });
    let mut all: Vec<_> = recorded.chain(pending).collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all
}

/// The backend's name in reports.
pub(crate) const fn backend_name(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Sqlite => "sqlite",
        _ => "postgresql",
    }
}
