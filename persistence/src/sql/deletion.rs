//! Deletions: of a run, of a log, of a thread.
//!
//! Each is one transaction under the locks of the head rows, and is refused while a run is active.
//! A deletion never frees a seq: the head keeps its `next_seq`, and the ranges that went are noted with
//! who took them, so that a gap in a log can be told from a loss.

use std::slice;

use runledger_core::{Deleted, Error, OwnerId, Result, RunId, Scope, ThreadId, Timestamp, view};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement, Value};

use super::{blobs, execute, probe, rows, signed, tree, unreadable};
use crate::connect::Database;

/// Tables below a thread that are gone with its log, or with a run of it, besides those whose rows are counted.
const WITH_THE_LOG: [&str; 6] =
    ["queued_inputs", "run_leases", "compactions", "interactions", "feedback", "search_documents"];

/// Tables below a thread that are gone only with the thread itself. What was deleted stays noted, and what was
/// spent stays counted.
const WITH_THE_THREAD: [&str; 3] = ["quarantine", "search_progress", "threads"];

/// Tables below a thread that are gone with its log; with a run of it only where no other event needs them.
const WITH_THE_EVENTS: [&str; 2] = ["blobs", "event_blobs"];

/// Deletes a run with all that is its own.
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

/// Deletes a thread and what goes with it, but for the heads and the usage.
pub(super) async fn of_thread(database: &Database, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
    let (scope, thread) = (scope.clone(), thread.clone());
    let (deleted, ends) = database
        .transaction("to delete the thread", move |txn| {
            let (scope, thread) = (scope.clone(), thread.clone());
            Box::pin(async move { delete_thread(txn, &scope, &thread).await })
        })
        .await?;
    // Whoever follows a log learns now that it has ended.
    for thread in ends {
        database.signal.stir(&thread);
    }
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
    let rows = Rows { connection, threads: slice::from_ref(thread), run: Some(run) };
    // First, because the run's row says where its events are.
    let (events, messages) = rows.delete_events(Noted { reason: "run deleted", by: scope.owner() }).await?;
    blobs::release(connection, thread, blobs::Gone::Run(run)).await?;
    let runs = rows.delete("runs").await?;
    if runs == 0 {
        return Err(Error::not_found("run", run));
    }
    for table in WITH_THE_LOG {
        rows.delete(table).await?;
    }
    rows.take_back_answers(run).await?;
    let deleted = Deleted {
        events,
        items: rows.delete("thread_items").await?,
        usage: rows.delete("usage_records").await?,
        runs,
        agent_runs: rows.delete("agent_runs").await?,
        ..Deleted::default()
    };
    let left = head.message_count.saturating_sub(messages);
    let sql = "UPDATE thread_heads SET message_count = $2, updated_at = $3, \
               last_compact_seq = (SELECT MAX(compact_seq) FROM compactions WHERE thread_id = $1) \
               WHERE thread_id = $1";
    let values = vec![thread.as_str().into(), signed(left).into(), now()];
    execute(connection, "to count the messages", rows.statement(sql, values)).await?;
    Ok(deleted)
}

async fn delete_log(connection: &impl ConnectionTrait, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
    let head = probe::lock_head(connection, scope, thread).await?;
    probe::require_no_active_run(&head)?;
    let rows = Rows { connection, threads: slice::from_ref(thread), run: None };
    let (events, _) = rows.delete_events(Noted { reason: "log emptied", by: scope.owner() }).await?;
    let usage = rows.delete("usage_records").await?;
    let deleted = Deleted { events, usage, ..rows.delete_below().await? };
    let sql = "UPDATE thread_heads SET message_count = 0, last_compact_seq = NULL, updated_at = $2 \
               WHERE thread_id = $1";
    let values = vec![thread.as_str().into(), now()];
    execute(connection, "to count the messages", rows.statement(sql, values)).await?;
    Ok(deleted)
}

/// The threads that went.
type Ends = Vec<ThreadId>;

async fn delete_thread(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<(Deleted, Ends)> {
    let locked = tree::lock(connection, scope, thread).await?;
    let felled = view::tree::fell(thread, locked.above.as_ref(), &locked.below);
    let mut ends = Ends::new();
    for id in &felled.going {
        let head =
            locked.heads.get(id).ok_or_else(|| Error::corrupt("thread", format!("{id} has no head")))?;
        probe::require_no_active_run(head)?;
        ends.push(id.clone());
    }
    let mut deleted = Deleted::default();
    for threads in felled.going.chunks(tree::CHUNK) {
        let rows = Rows { connection, threads, run: None };
        rows.note_threads(scope.owner()).await?;
        let below = rows.delete_below().await?;
        deleted.events += rows.delete("run_events").await?;
        deleted.items += below.items;
        deleted.runs += below.runs;
        deleted.agent_runs += below.agent_runs;
        deleted.threads += threads.len() as u64;
        for table in WITH_THE_THREAD {
            rows.delete(table).await?;
        }
        rows.leave_tombstones().await?;
    }
    for place in &felled.given {
        tree::give(connection, place).await?;
    }
    for place in &felled.lifted {
        tree::lift(connection, place).await?;
    }
    Ok((deleted, ends))
}

fn now() -> Value {
    Timestamp::now().to_chrono().into()
}

/// What is written down of numbers that go.
#[derive(Clone, Copy)]
struct Noted<'a> {
    reason: &'static str,
    by: Option<&'a OwnerId>,
}

/// The rows of threads, or of one run of one thread, that a transaction removes.
struct Rows<'a, C> {
    connection: &'a C,
    threads: &'a [ThreadId],
    run: Option<&'a RunId>,
}

impl<C: ConnectionTrait> Rows<'_, C> {
    /// Which rows of a table that has no index by seq, and the values; of a run `$1` is the thread, `$2` the run.
    fn condition(&self) -> (String, Vec<Value>) {
        let mut values = Vec::new();
        let threads = tree::list(&mut values, self.threads);
        let mut condition = format!("thread_id IN ({threads})");
        if let Some(run) = self.run {
            values.push(run.as_str().into());
            condition.push_str(&format!(" AND run_id = ${}", values.len()));
        }
        (condition, values)
    }

    /// Which events. Those of a run are within the range its row says, and have no index of their own.
    fn condition_of_events(&self) -> (String, Vec<Value>) {
        let (mut condition, values) = self.condition();
        if self.run.is_some() {
            condition.push_str(
                " AND seq >= (SELECT first_seq FROM runs WHERE thread_id = $1 AND run_id = $2) \
                 AND seq <= (SELECT last_seq FROM runs WHERE thread_id = $1 AND run_id = $2)",
            );
        }
        (condition, values)
    }

    fn statement(&self, sql: impl Into<String>, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.connection.get_database_backend(), sql, values)
    }

    async fn delete(&self, table: &'static str) -> Result<u64> {
        let (condition, values) = self.condition();
        let statement = self.statement(format!("DELETE FROM {table} WHERE {condition}"), values);
        Ok(execute(self.connection, "to delete rows", statement).await?.rows_affected())
    }

    /// Opens the questions again that a run answered: the answer was given with it, and goes with it.
    async fn take_back_answers(&self, run: &RunId) -> Result<()> {
        let mut values = vec![run.as_str().into()];
        let threads = tree::list(&mut values, self.threads);
        let sql = format!(
            "UPDATE interactions SET status = 'open', answer = NULL, answer_run_id = NULL, answered_at = NULL \
             WHERE thread_id IN ({threads}) AND answer_run_id = $1"
        );
        execute(self.connection, "to take back answers", self.statement(sql, values)).await.map(drop)
    }

    /// Everything below the threads but events and usage.
    async fn delete_below(&self) -> Result<Deleted> {
        for table in WITH_THE_LOG.into_iter().chain(WITH_THE_EVENTS) {
            self.delete(table).await?;
        }
        Ok(Deleted {
            items: self.delete("thread_items").await?,
            runs: self.delete("runs").await?,
            agent_runs: self.delete("agent_runs").await?,
            ..Deleted::default()
        })
    }

    /// Deletes the events and notes which seqs went; says how many events, and how many messages.
    async fn delete_events(&self, noted: Noted<'_>) -> Result<(u64, u64)> {
        let messages = self.messages().await?;
        let (condition, values) = self.condition_of_events();
        let backend = self.connection.get_database_backend();
        let statement = ranges(backend, &condition, values.clone(), noted.reason, noted.by);
        execute(self.connection, "to note the deletion", statement).await?;
        let statement = self.statement(format!("DELETE FROM run_events WHERE {condition}"), values);
        let events = execute(self.connection, "to delete events", statement).await?.rows_affected();
        Ok((events, messages))
    }

    /// Notes that the threads went, from 0, which no event has, through the last number they gave.
    async fn note_threads(&self, owner: Option<&OwnerId>) -> Result<()> {
        let mut values = vec![owner.map(OwnerId::as_str).into(), now()];
        let threads = tree::list(&mut values, self.threads);
        let sql = format!(
            "INSERT INTO deletions (thread_id, from_seq, through_seq, reason, deleted_by, deleted_at)
             SELECT thread_id, 0, next_seq - 1, 'thread deleted', $1, $2
             FROM thread_heads WHERE thread_id IN ({threads})"
        );
        execute(self.connection, "to note the deletion", self.statement(sql, values)).await.map(drop)
    }

    /// Leaves the heads, and the usage without what the providers said of it.
    async fn leave_tombstones(&self) -> Result<()> {
        let mut values = vec![now()];
        let threads = tree::list(&mut values, self.threads);
        let sql = format!(
            "UPDATE thread_heads SET state = 'deleted', message_count = 0, last_compact_seq = NULL, \
             updated_at = $1 WHERE thread_id IN ({threads})"
        );
        execute(self.connection, "to leave the tombstone", self.statement(sql, values)).await?;
        let (condition, values) = self.condition();
        let sql = format!("UPDATE usage_records SET raw = NULL WHERE {condition} AND raw IS NOT NULL");
        execute(self.connection, "to leave the usage", self.statement(sql, values)).await.map(drop)
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
    by: Option<&OwnerId>,
) -> Statement {
    let (reason_at, time_at, by_at) = (values.len() + 1, values.len() + 2, values.len() + 3);
    values.extend([reason.into(), now(), by.map(OwnerId::as_str).into()]);
    let sql = format!(
        "INSERT INTO deletions (thread_id, from_seq, through_seq, reason, deleted_at, deleted_by)
         SELECT thread_id, MIN(seq), MAX(seq), ${reason_at}, ${time_at}, ${by_at}
         FROM (SELECT thread_id, seq, seq - ROW_NUMBER() OVER (ORDER BY seq) AS stretch
               FROM run_events WHERE {condition}) AS going
         GROUP BY thread_id, stretch"
    );
    Statement::from_sql_and_values(backend, sql, values)
}
