//! All threads of a database, for what goes through every one of them: pruning and copying.

use runledger_core::{Result, ThreadId};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

use super::{rows, unreadable};
use crate::connect::Database;

/// Threads of one page.
const PAGE: u64 = 500;

/// Which threads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Walk {
    /// Those that are there.
    Alive,
    /// Deleted ones too, of which the head is left.
    All,
}

impl Walk {
    fn condition(self) -> &'static str {
        match self {
            Self::Alive => "state <> 'deleted'",
            Self::All => "TRUE",
        }
    }

    /// How many there are.
    pub(crate) async fn count(self, database: &Database) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM thread_heads WHERE {}", self.condition());
        let statement = Statement::from_string(database.reader.get_database_backend(), sql);
        let found = rows(&database.reader, "to count the threads", statement).await?;
        let count =
            found.first().map(|row| row.try_get_by_index::<i64>(0)).transpose().map_err(unreadable)?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Those that come after one in the order of their ids; none at the end.
    pub(crate) async fn after(self, database: &Database, after: Option<&ThreadId>) -> Result<Vec<ThreadId>> {
        let statement = self.page(database.reader.get_database_backend(), after);
        let found = rows(&database.reader, "to list the threads", statement).await?;
        found
            .iter()
            .map(|row| ThreadId::new(row.try_get_by_index::<String>(0).map_err(unreadable)?))
            .collect()
    }

    pub(super) fn page(self, backend: DatabaseBackend, after: Option<&ThreadId>) -> Statement {
        let sql = format!(
            "SELECT thread_id FROM thread_heads WHERE thread_id > $1 AND {} ORDER BY thread_id LIMIT {PAGE}",
            self.condition()
        );
        // No id is empty.
        Statement::from_sql_and_values(backend, sql, [after.map_or("", ThreadId::as_str).into()])
    }
}
