//! Owners: a tree that is given to another, and what is left of one who is forgotten.

use std::time::Duration;

use runledger_core::{
    Erased, Erasure, Error, ErrorKind, HeadState, OwnerId, Result, Scope, Thread, ThreadId, Timestamp,
};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement, Value};

use super::{execute, probe, rows, threads, tree, unreadable};
use crate::connect::Database;

/// Tables below a thread that say whose it is.
const OWNED: [&str; 6] = ["thread_heads", "threads", "runs", "usage_records", "interactions", "agent_runs"];

/// What is found by whose it is, and is made anew for the next owner.
const FOUND_BY_OWNER: [&str; 2] = ["search_documents", "search_progress"];

/// Rows of one step of an erasure: no lock and no statement lasts long.
const STEP: u64 = 10_000;

/// Gives a thread and all below it to another owner, with what was deleted there.
pub(super) async fn set_owner(
    connection: &impl ConnectionTrait,
    thread: &ThreadId,
    owner: Option<&OwnerId>,
) -> Result<Thread> {
    let heads = tree::lock_family(connection, thread).await?;
    let head = heads
        .get(thread)
        .filter(|head| head.state != HeadState::Deleted)
        .ok_or_else(|| Error::not_found("thread", thread))?;
    if let Some(parent) = &head.parent_thread_id {
        match probe::head(connection, &Scope::System, parent).await {
            Ok(parent) if parent.owner_id == head.owner_id && parent.owner_id.as_ref() != owner => {
                return Err(Error::conflict("parent thread", "none", &parent.thread_id));
            }
            Ok(_) => {}
            // A part of a tree was copied.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let family: Vec<ThreadId> = heads.into_keys().collect();
    let backend = connection.get_database_backend();
    for chunk in family.chunks(tree::CHUNK) {
        for table in OWNED {
            let mut values: Vec<Value> = vec![owner.map(OwnerId::as_str).into()];
            let ids = tree::list(&mut values, chunk);
            let sql = format!("UPDATE {table} SET owner_id = $1 WHERE thread_id IN ({ids})");
            let update = Statement::from_sql_and_values(backend, sql, values);
            execute(connection, "to change the owner", update).await?;
        }
        for table in FOUND_BY_OWNER {
            let mut values = Vec::new();
            let ids = tree::list(&mut values, chunk);
            let sql = format!("DELETE FROM {table} WHERE thread_id IN ({ids})");
            let delete = Statement::from_sql_and_values(backend, sql, values);
            execute(connection, "to change the owner", delete).await?;
        }
    }
    threads::get(connection, &Scope::System, thread).await
}

/// The tables whose rows are erased in steps, by when they were made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Remains {
    Usage,
    AgentRuns,
}

impl Remains {
    fn table(self) -> &'static str {
        match self {
            Self::Usage => "usage_records",
            Self::AgentRuns => "agent_runs",
        }
    }

    /// When the last row of the next full step was made.
    pub(super) fn next(self, backend: DatabaseBackend, owner: &OwnerId, after: DateTimeUtc) -> Statement {
        let sql = format!(
            "SELECT created_at FROM {} WHERE owner_id = $1 AND created_at > $2 \
             ORDER BY created_at LIMIT 1 OFFSET {}",
            self.table(),
            STEP - 1
        );
        Statement::from_sql_and_values(backend, sql, [owner.as_str().into(), after.into()])
    }

    /// Erases what was made after one time and up to another.
    pub(super) fn erase(
        self,
        backend: DatabaseBackend,
        owner: &OwnerId,
        erasure: Erasure,
        (after, through): (DateTimeUtc, DateTimeUtc),
    ) -> Statement {
        let table = self.table();
        let of_step = "owner_id = $1 AND created_at > $2 AND created_at <= $3";
        let sql = match erasure {
            Erasure::Anonymise => format!("UPDATE {table} SET owner_id = NULL WHERE {of_step}"),
            Erasure::Delete => format!(
                "DELETE FROM {table} WHERE {of_step} \
                 AND (SELECT 1 FROM threads t WHERE t.thread_id = {table}.thread_id) IS NULL"
            ),
        };
        let values: Vec<Value> = vec![owner.as_str().into(), after.into(), through.into()];
        Statement::from_sql_and_values(backend, sql, values)
    }
}

/// Takes the owner's name off the tombstones of threads.
pub(super) fn of_tombstones(backend: DatabaseBackend, owner: &OwnerId) -> Statement {
    let sql = "UPDATE thread_heads SET owner_id = NULL WHERE owner_id = $1 AND state = 'deleted'";
    Statement::from_sql_and_values(backend, sql, [owner.as_str().into()])
}

/// Takes the owner's name off the notes of who deleted what.
pub(super) fn of_deletions(backend: DatabaseBackend, owner: &OwnerId) -> Statement {
    let sql = "UPDATE deletions SET deleted_by = NULL WHERE deleted_by = $1";
    Statement::from_sql_and_values(backend, sql, [owner.as_str().into()])
}

/// Takes the owner's name off feedback, or removes it, wherever it was given.
pub(super) fn of_feedback(backend: DatabaseBackend, owner: &OwnerId, erasure: Erasure) -> Statement {
    let sql = match erasure {
        Erasure::Anonymise => "UPDATE feedback SET owner_id = NULL WHERE owner_id = $1",
        Erasure::Delete => "DELETE FROM feedback WHERE owner_id = $1",
    };
    Statement::from_sql_and_values(backend, sql, [owner.as_str().into()])
}

/// Removes the owner's tokens: nobody speaks for whom nobody knows.
pub(super) fn of_api_tokens(backend: DatabaseBackend, owner: &OwnerId) -> Statement {
    let sql = "DELETE FROM api_tokens WHERE owner_id = $1";
    Statement::from_sql_and_values(backend, sql, [owner.as_str().into()])
}

/// Erases what is not a thread's, in steps: whoever is ended half-way goes on the next time.
pub(super) async fn remains(database: &Database, owner: &OwnerId, erasure: Erasure) -> Result<Erased> {
    let erased = Erased {
        threads: 0,
        agent_runs: of_table(database, Remains::AgentRuns, owner, erasure).await?,
        usage: of_table(database, Remains::Usage, owner, erasure).await?,
    };
    let backend = database.writer.get_database_backend();
    for statement in [
        of_tombstones(backend, owner),
        of_deletions(backend, owner),
        of_feedback(backend, owner, erasure),
        of_api_tokens(backend, owner),
    ] {
        written(database, statement).await?;
    }
    Ok(erased)
}

async fn of_table(database: &Database, of: Remains, owner: &OwnerId, erasure: Erasure) -> Result<u64> {
    let backend = database.writer.get_database_backend();
    // A moment before the first that there is.
    let mut after = Timestamp::from(DateTimeUtc::MIN_UTC).to_chrono() - Duration::from_micros(1);
    let end = Timestamp::from(DateTimeUtc::MAX_UTC).to_chrono();
    let mut erased = 0;
    loop {
        let statement = of.next(backend, owner, after);
        let found = rows(&database.reader, "to look for what is erased", statement).await?;
        let next: Option<DateTimeUtc> =
            found.first().map(|row| row.try_get_by_index(0)).transpose().map_err(unreadable)?;
        let through = next.unwrap_or(end);
        let statement = of.erase(backend, owner, erasure, (after, through));
        erased += written(database, statement).await?;
        match next {
            Some(through) => after = through,
            None => return Ok(erased),
        }
    }
}

async fn written(database: &Database, statement: Statement) -> Result<u64> {
    database
        .transaction("to erase an owner", move |txn| {
            let statement = statement.clone();
            Box::pin(async move { Ok(execute(txn, "to erase an owner", statement).await?.rows_affected()) })
        })
        .await
}
