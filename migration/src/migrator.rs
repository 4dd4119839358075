//! The list of migrations, and the adapter through which SeaORM's runner applies them.
//!
//! A migration is two pure functions from a backend to SQL. `plan` prints what they return and
//! the adapter executes it, so the two cannot differ. The runner opens a savepoint per
//! migration inside the one transaction of [`crate::transaction`] and keeps the table of versions.

use async_trait::async_trait;
use sea_orm_migration::{
    MigrationName, MigrationTrait, MigratorTraitSelf, SchemaManager,
    sea_orm::{ConnectionTrait, DbBackend, DbErr, DynIden},
    sea_query::IntoIden,
};

use crate::{m20261121_000001_ledger, users::UsersTable};

/// The table that lists the applied migrations: our own, because the usual name belongs to the
/// application whose database this may be.
pub const MIGRATION_TABLE: &str = "runledger_migrations";

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// `m`, the date, a number within the day, and a word. Order of names is order of time.
    pub(crate) name: &'static str,
    /// The tables it creates.
    pub(crate) tables: fn() -> Vec<&'static str>,
    /// The statements that apply it.
    pub(crate) up: fn(DbBackend, Option<&UsersTable>) -> Vec<String>,
    /// The statements that take it back.
    pub(crate) down: fn(DbBackend) -> Vec<String>,
}

/// Every migration, oldest first. A released one is never edited; a snapshot test holds its SQL.
pub(crate) const MIGRATIONS: &[Migration] = &[m20261121_000001_ledger::MIGRATION];

/// The names of the migrations this program needs applied, oldest first.
#[must_use]
pub fn needed() -> Vec<&'static str> {
    MIGRATIONS.iter().map(|migration| migration.name).collect()
}

/// SeaORM's runner over [`MIGRATIONS`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Migrator {
    /// The users table that the ledger's tables refer to, if any.
    pub(crate) users: Option<UsersTable>,
}

impl MigratorTraitSelf for Migrator {
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        MIGRATIONS
            .iter()
            .map(|migration| {
                Box::new(Applier { migration: *migration, users: self.users.clone() })
                    as Box<dyn MigrationTrait>
            })
            .collect()
    }

    fn migration_table_name(&self) -> DynIden {
        MIGRATION_TABLE.into_iden()
    }
}

/// A [`Migration`] as SeaORM wants it.
struct Applier {
    migration: Migration,
    users: Option<UsersTable>,
}

impl MigrationName for Applier {
    fn name(&self) -> &str {
        self.migration.name
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait elides it, and an implementation must spell its signature the same way"
)]
#[async_trait]
impl MigrationTrait for Applier {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        execute_all(manager, (self.migration.up)(backend, self.users.as_ref())).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        execute_all(manager, (self.migration.down)(backend)).await
    }

    // SQLite migrations are not in a transaction unless asked.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn execute_all(manager: &SchemaManager<'_>, statements: Vec<String>) -> Result<(), DbErr> {
    for statement in statements {
        manager.get_connection().execute_unprepared(&statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::needed;
    use crate::SCHEMA_VERSION;

    #[test]
    fn names_are_in_order_and_the_last_is_the_schema_version() {
        let names = needed();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert_eq!(names.last(), Some(&SCHEMA_VERSION));
    }
}
