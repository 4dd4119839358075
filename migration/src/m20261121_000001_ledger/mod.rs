//! The first schema: threads and their log, runs, usage, and agent runs.
//!
//! Rules every table here keeps:
//! - a table below a thread leads its primary key with `thread_id` and has it in every unique
//!   index, because `thread_id` is the distribution column on a distributed PostgreSQL;
//! - no foreign keys between our tables: they cost on the hot path and bind shards together.
//!   The store's transactions keep the rows consistent;
//! - no checks on statuses and kinds: a newer program may add values that an older one keeps.

mod agent_runs;
mod api_tokens;
mod blobs;
mod events;
mod feedback;
mod imports;
mod runs;
mod search;
mod threads;
mod usage;

use sea_orm_migration::sea_orm::DbBackend;

use crate::{migrator::Migration, table::Table, users::UsersTable};

/// The name of this migration and, as the newest, of the schema this crate builds.
pub const NAME: &str = "m20261121_000001_ledger";

/// The table that may have a foreign key to the application's users.
pub(crate) const AGENT_RUNS: &str = "agent_runs";

pub(crate) const MIGRATION: Migration =
    Migration { name: NAME, tables: table_names, up: create_all, down: drop_all };

/// The tables of the schema, in the order in which they are created.
fn definitions() -> Vec<Table> {
    vec![
        threads::threads(),
        threads::thread_heads(),
        runs::runs(),
        runs::queued_inputs(),
        runs::run_leases(),
        events::run_events(),
        events::thread_items(),
        usage::usage_records(),
        blobs::blobs(),
        blobs::event_blobs(),
        events::compactions(),
        events::interactions(),
        events::deletions(),
        imports::quarantine(),
        imports::import_cursors(),
        agent_runs::agent_runs(),
        search::search_documents(),
        search::search_progress(),
        feedback::feedback(),
        api_tokens::api_tokens(),
    ]
}

/// The names of the tables of a ledger, in the order in which they are created. The table of
/// versions is not among them.
#[must_use]
pub fn table_names() -> Vec<&'static str> {
    definitions().iter().map(Table::name).collect()
}

/// The tables that hold words, on SQLite only.
pub(crate) fn words_tables() -> Vec<&'static str> {
    definitions().iter().filter_map(Table::words_table).collect()
}

/// PostgreSQL only: the statements that build every table below a thread as `partitions` hash
/// partitions of `thread_id`. Made from the same definitions as the schema, it shows on a plain
/// PostgreSQL that the keys allow a layout distributed by thread.
#[must_use]
pub fn partitioned_by_thread(partitions: u32) -> Vec<String> {
    const COLUMN: &str = "thread_id";
    definitions()
        .iter()
        .filter(|table| table.key().contains(&COLUMN))
        .flat_map(|table| table.partitioned_sql(COLUMN, partitions))
        .collect()
}

fn create_all(backend: DbBackend, users: Option<&UsersTable>) -> Vec<String> {
    definitions()
        .into_iter()
        .map(|table| match users {
            // SQLite takes a foreign key with the table only; PostgreSQL also later, so there
            // one statement serves new and existing tables.
            Some(users) if table.name() == AGENT_RUNS && backend == DbBackend::Sqlite => {
                table.foreign_key(users.foreign_key())
            }
            _ => table,
        })
        .flat_map(|table| table.create_sql(backend))
        .collect()
}

fn drop_all(backend: DbBackend) -> Vec<String> {
    definitions().iter().rev().flat_map(|table| table.drop_sql(backend)).collect()
}

#[cfg(test)]
mod tests {
    use sea_orm_migration::sea_orm::DbBackend;

    use super::{create_all, drop_all};

    /// A released migration is never edited: databases that have it will not run it again.
    #[test]
    fn its_sql_stays_what_it_was() {
        for (name, backend) in [("sqlite", DbBackend::Sqlite), ("postgresql", DbBackend::Postgres)] {
            let statements = [create_all(backend, None), drop_all(backend)].concat();
            // One column per line, so that a difference can be read.
            let text = statements.join(";\n\n").replace(", \"", ",\n  \"");
            insta::assert_snapshot!(name, text);
        }
    }
}
