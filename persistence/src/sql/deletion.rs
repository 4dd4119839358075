//! Deletions: of a run, of a log, of a thread.
//!
//! Each is one transaction under the lock of the head row, and is refused while a run is active.
//! A deletion never frees a seq: the head keeps its `next_seq`, and the ranges that went are noted,
//! so that a gap in a log can be told from a loss.

use runledger_core::{Deleted, Error, Result, RunId, Scope, ThreadHead, ThreadId, Timestamp};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement, Value};

use super::{execute, probe, rows, signed, unreadable};
use crate::connect::Database;

/// Tables below a thread that are gone with its log, besides those whose rows are counted.
const WITH_THE_LOG: [&str; 3] = ["queued_inputs", "run_leases", "compactions"];

/// Tables below a thread that are gone only with the thread itself.
const WITH_THE_THREAD: [&str; 3] = ["deletions", "quarantine", "threads"];

/// Deletes a run with its events, items and usage.
pub(super) async fn of_run(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<Deleted> {
    let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
    database
        .transaction("to delete the run", move |txn| {
            let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
            Box::pin(async move { delete_run(txn, &scope, &thread, &run).await })
        })
        .await
}

/// Empties a log; the thread stays and counts on.
pub(super) async fn of_log(database: &Database, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
    let (scope, thread) = (scope.clone(), thread.clone());
    database
        .transaction("to empty the log", move |txn| {
            let (scope, thread) = (scope.clone(), thread.clone());
            Box::pin(async move { delete_log(txn, &scope, &thread).await })
        })
        .await
}

/// Deletes a thread and all below it but its head.
pub(super) async fn of_thread(database: &Database, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
    let (scope, id) = (scope.clone(), thread.clone());
    let (deleted, head) = database
        .transaction("to delete the thread", move |txn| {
            let (scope, thread) = (scope.clone(), id.clone());
            Box::pin(async move { delete_thread(txn, &scope, &thread).await })
        })
        .await?;
    // Whoever follows the log learns now that it has ended.
    database.signal.publish(thread, head.next_seq);
    Ok(deleted)
}

async fn delete_run(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<Deleted> {
    let head = probe::lock_head(connection, scope, thread).await?;
    if head.active_run_id.as_ref() == Some(run) {
        return Err(Error::conflict("active run", "none", run));
    }
    let rows = Rows { connection, thread, run: Some(run) };
    // First, because the run's row says where its events are.
    let (events, messages) = rows.delete_events(Some("run deleted")).await?;
    let runs = rows.delete("runs").await?;
    if runs == 0 {
        return Err(Error::not_found("run", run));
    }
    rows.delete("queued_inputs").await?;
    rows.delete("run_leases").await?;
    let (items, usage) = (rows.delete("thread_items").await?, rows.delete("usage_records").await?);
    let deleted = Deleted { events, items, usage, runs };
    let left = head.message_count.saturating_sub(messages);
    let sql = "UPDATE thread_heads SET message_count = $2, updated_at = $3 WHERE thread_id = $1";
    rows.execute("to count the messages", sql, vec![signed(left).into(), now()]).await?;
    Ok(deleted)
}

async fn delete_log(connection: &impl ConnectionTrait, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
    let head = probe::lock_head(connection, scope, thread).await?;
    probe::require_no_active_run(&head)?;
    let rows = Rows { connection, thread, run: None };
    let deleted = rows.delete_log(Some("log emptied")).await?;
    let sql = "UPDATE thread_heads SET message_count = 0, last_compact_seq = NULL, updated_at = $2 \
               WHERE thread_id = $1";
    rows.execute("to count the messages", sql, vec![now()]).await?;
    Ok(deleted)
}

async fn delete_thread(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<(Deleted, ThreadHead)> {
    let head = probe::lock_head(connection, scope, thread).await?;
    probe::require_no_active_run(&head)?;
    let rows = Rows { connection, thread, run: None };
    let deleted = rows.delete_log(None).await?;
    for table in WITH_THE_THREAD {
        rows.delete(table).await?;
    }
    let sql = "UPDATE thread_heads SET state = 'deleted', message_count = 0, last_compact_seq = NULL, \
               updated_at = $2 WHERE thread_id = $1";
    rows.execute("to leave the tombstone", sql, vec![now()]).await?;
    Ok((deleted, head))
}

fn now() -> Value {
    Timestamp::now().to_chrono().into()
}

/// The rows of a thread, or of one run of it, that a transaction removes.
struct Rows<'a, C> {
    connection: &'a C,
    thread: &'a ThreadId,
    run: Option<&'a RunId>,
}

impl<C: ConnectionTrait> Rows<'_, C> {
    /// Which rows of a table that has no index by seq, and the values of `$1` and, of a run, `$2`.
    fn condition(&self) -> (&'static str, Vec<Value>) {
        match self.run {
            None => ("thread_id = $1", vec![self.thread.as_str().into()]),
            Some(run) => {
                ("thread_id = $1 AND run_id = $2", vec![self.thread.as_str().into(), run.as_str().into()])
            }
        }
    }

    /// Which events. Those of a run are within the range its row says, and have no index of their own.
    fn condition_of_events(&self) -> (&'static str, Vec<Value>) {
        let (condition, values) = self.condition();
        match self.run {
            None => (condition, values),
            Some(_) => (
                "thread_id = $1 AND run_id = $2 \
                 AND seq >= (SELECT first_seq FROM runs WHERE thread_id = $1 AND run_id = $2) \
                 AND seq <= (SELECT last_seq FROM runs WHERE thread_id = $1 AND run_id = $2)",
                values,
            ),
        }
    }

    fn statement(&self, sql: impl Into<String>, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.connection.get_database_backend(), sql, values)
    }

    /// Runs `sql`, whose `$1` is the thread and whose other values are `more`.
    async fn execute(&self, operation: &'static str, sql: &str, more: Vec<Value>) -> Result<u64> {
        let mut values = vec![Value::from(self.thread.as_str())];
        values.extend(more);
        Ok(execute(self.connection, operation, self.statement(sql, values)).await?.rows_affected())
    }

    async fn delete(&self, table: &'static str) -> Result<u64> {
        let (condition, values) = self.condition();
        let statement = self.statement(format!("DELETE FROM {table} WHERE {condition}"), values);
        Ok(execute(self.connection, "to delete rows", statement).await?.rows_affected())
    }

    async fn delete_log(&self, reason: Option<&'static str>) -> Result<Deleted> {
        for table in WITH_THE_LOG {
            self.delete(table).await?;
        }
        let (events, _) = self.delete_events(reason).await?;
        Ok(Deleted {
            events,
            items: self.delete("thread_items").await?,
            usage: self.delete("usage_records").await?,
            runs: self.delete("runs").await?,
        })
    }

    /// Deletes the events; says how many events, and how many messages. With a reason it is noted which
    /// seqs went: of a thread that goes as a whole its tombstone says enough.
    async fn delete_events(&self, reason: Option<&'static str>) -> Result<(u64, u64)> {
        let messages = self.messages().await?;
        let (condition, values) = self.condition_of_events();
        if let Some(reason) = reason {
            let backend = self.connection.get_database_backend();
            let statement = ranges(backend, condition, values.clone(), reason);
            execute(self.connection, "to note the deletion", statement).await?;
        }
        let statement = self.statement(format!("DELETE FROM run_events WHERE {condition}"), values);
        let events = execute(self.connection, "to delete events", statement).await?.rows_affected();
        Ok((events, messages))
    }

    async fn messages(&self) -> Result<u64> {
        let (condition, values) = self.condition_of_events();
        let sql = format!(
            "SELECT COUNT(*) FROM run_events \
             WHERE {condition} AND category IN ('message', 'reasoning') AND category = 'message'"
        );
        let counted = rows(self.connection, "to count the messages", self.statement(sql, values)).await?;
        let count = counted.first().map(|row| row.try_get_by_index::<i64>(0)).transpose();
        Ok(count.map_err(unreadable)?.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }
}

/// Notes the seqs of the events that `condition` finds, before they go. Consecutive ones are one range: their
/// distance to their own row number is the same within a range and differs between ranges.
pub(super) fn ranges(
    backend: DatabaseBackend,
    condition: &str,
    mut values: Vec<Value>,
    reason: &str,
) -> Statement {
    let (reason_at, time_at) = (values.len() + 1, values.len() + 2);
    values.extend([reason.into(), now()]);
    let sql = format!(
        "INSERT INTO deletions (thread_id, from_seq, through_seq, reason, deleted_at)
         SELECT thread_id, MIN(seq), MAX(seq), ${reason_at}, ${time_at}
         FROM (SELECT thread_id, seq, seq - ROW_NUMBER() OVER (ORDER BY seq) AS stretch
               FROM run_events WHERE {condition}) AS going
         GROUP BY thread_id, stretch"
    );
    Statement::from_sql_and_values(backend, sql, values)
}
