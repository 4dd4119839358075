//! What is left to do on a database: computed once, for `plan` to print and `up` to run.

use std::time::Duration;

use sea_orm_migration::sea_orm::ConnectionTrait;

use crate::{
    Error,
    m20261121_000001_ledger::AGENT_RUNS,
    migrator::Migration,
    users::{self, UsersTable},
    version,
};

/// What an `up` (or the plan of one) is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpOptions {
    /// How many pending migrations to apply, at least 1; all of them when absent.
    pub steps: Option<u32>,
    /// The users table that `agent_runs.owner_id` refers to, with `ON DELETE SET NULL`.
    pub users: Option<UsersTable>,
    /// How long to wait while another program migrates.
    pub wait: Duration,
}

impl UpOptions {
    /// How long to wait for the lock unless told otherwise: longer than a migration of a large
    /// database should take, so that whoever starts meanwhile does not fail.
    pub const DEFAULT_WAIT: Duration = Duration::from_mins(10);
}

impl Default for UpOptions {
    fn default() -> Self {
        Self { steps: None, users: None, wait: Self::DEFAULT_WAIT }
    }
}

/// What is left to do.
#[derive(Debug)]
pub(crate) struct Work {
    /// The migrations to apply, oldest first.
    pub(crate) migrations: Vec<Migration>,
    /// How the foreign key to the users table comes into being.
    pub(crate) users: users::Step,
}

impl Work {
    pub(crate) fn is_empty(&self) -> bool {
        self.migrations.is_empty() && self.users == users::Step::Nothing
    }
}

/// Compares the database with what `options` ask for, and refuses what cannot end well. Call it
/// inside a transaction, so that all of its questions are about one state.
pub(crate) async fn remaining(connection: &impl ConnectionTrait, options: &UpOptions) -> Result<Work, Error> {
    let applied = version::applied(connection).await?;
    version::refuse_newer(&applied)?;
    let mut migrations = version::pending(&applied);
    if let Some(steps) = options.steps {
        let steps = at_least_one(steps)?;
        migrations.truncate(usize::try_from(steps).unwrap_or(usize::MAX));
    }
    let tables: Vec<&str> = migrations.iter().flat_map(|migration| (migration.tables)()).collect();
    for table in &tables {
        if version::has_table(connection, table).await? {
            return Err(Error::TableTaken { table: (*table).to_owned() });
        }
    }
    let creates_agent_runs = tables.contains(&AGENT_RUNS);
    let users = users::step(connection, options.users.as_ref(), creates_agent_runs).await?;
    Ok(Work { migrations, users })
}

/// Refuses 0 steps, which would do nothing and look like success.
pub(crate) fn at_least_one(steps: u32) -> Result<u32, Error> {
    if steps == 0 {
        return Err(Error::InvalidInput {
            field: "steps",
            reason: "0 would do nothing; give 1 or more".to_owned(),
        });
    }
    Ok(steps)
}
