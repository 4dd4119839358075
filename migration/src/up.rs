//! Applying what is pending.

use sea_orm_migration::{
    MigratorTraitSelf,
    sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction},
};
use serde::Serialize;

use crate::{
    Error, connect,
    migrator::{Migrator, needed},
    status::backend_name,
    transaction, users, version,
    work::{self, UpOptions},
};

/// What an `up` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UpReport {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// The migrations that this call applied, oldest first; none when another program was
    /// first or the schema was up to date.
    pub applied: Vec<String>,
    /// Whether this call added the foreign key to the users table.
    pub users_foreign_key_added: bool,
}

/// Brings the database at `url` up to this program's schema. A missing SQLite file is created.
///
/// All of it is one transaction under one lock: any number of programs may call this at once,
/// one of them does the work, all succeed; after a failure nothing is changed.
///
/// # Errors
/// Every variant of [`Error`]; [`Error::NewerSchema`] when a newer program migrated it.
pub async fn up(url: &str, options: &UpOptions) -> Result<UpReport, Error> {
    let connection = connect::open_or_create(url, options.wait).await?;
    let outcome = up_on(&connection, options).await;
    connect::close(connection).await;
    outcome
}

/// As [`up`], on a connection that is open already (a database in memory, say). On SQLite the
/// waiting time is the connection's busy timeout, and a new file keeps the settings it has.
///
/// # Errors
/// As [`up`].
pub async fn up_on(connection: &DatabaseConnection, options: &UpOptions) -> Result<UpReport, Error> {
    if options.users.is_none() && is_current(connection).await? {
        // Nothing to write needs no lock, no right to create tables and no waiting behind a
        // long transaction. It is as if this call had come just before whoever holds the lock.
        return Ok(UpReport {
            backend: backend_name(connection.get_database_backend()),
            applied: Vec::new(),
            users_foreign_key_added: false,
        });
    }
    let transaction = transaction::exclusive(connection, options.wait).await?;
    let outcome = apply(&transaction, options).await;
    transaction::end(transaction, outcome).await
}

async fn is_current(connection: &DatabaseConnection) -> Result<bool, Error> {
    let applied = version::applied(connection).await?;
    Ok(applied.iter().map(|row| row.name.as_str()).eq(needed()))
}

async fn apply(transaction: &DatabaseTransaction, options: &UpOptions) -> Result<UpReport, Error> {
    let work = work::remaining(transaction, options).await?;
    let migrator = Migrator { users: options.users.clone() };
    let mut applied = Vec::with_capacity(work.migrations.len());
    for migration in &work.migrations {
        // One at a time, so that an error names the migration.
        migrator
            .up(transaction, Some(1))
            .await
            .map_err(Error::while_doing(format!("apply {}", migration.name)))?;
        applied.push(migration.name.to_owned());
    }
    if let users::Step::Alter(statement) = &work.users {
        transaction.execute_unprepared(statement).await.map_err(Error::while_doing(
            "add the foreign key to the users table (every owner of an agent run must be in \
                 it)",
        ))?;
    }
    Ok(UpReport {
        backend: backend_name(transaction.get_database_backend()),
        applied,
        users_foreign_key_added: work.users != users::Step::Nothing,
    })
}
