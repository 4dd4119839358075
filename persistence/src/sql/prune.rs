//! Removing the events of runs that ended long ago, in batches.
//!
//! What goes is judged by one condition, which the dry run counts by and each batch asks again under the
//! lock of the head row: between the two a run may have got a late record, or a fold a note.

use std::collections::BTreeMap;

use runledger_core::{Category, Error, ErrorKind, Result, Scope, TerminalStatus, ThreadId};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};

use super::{blobs, deletion, execute, probe, rows, signed, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::retention::{PrunePolicy, Volume};

/// Events of one batch at most.
const BATCH_EVENTS: usize = 1_000;

/// Bytes after which a batch takes no further event.
const BATCH_BYTES: u64 = 64 << 20;

/// How many numbers a batch reaches over at most: what stays between the events that go is read too.
const BATCH_SEQS: i64 = 10_000;

/// What an event takes: its payload as it is stored, and its metadata.
const BYTES: &str = "octet_length(run_events.content) + COALESCE(octet_length(run_events.metadata), 0)";

/// A policy and the moment it is applied at, the same for every batch.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) policy: PrunePolicy,
    /// What ended, or happened, before this is old.
    pub(crate) cutoff: DateTimeUtc,
}

/// A range of numbers, both ends in it.
pub(crate) type Span = (i64, i64);

/// The whole of a log.
pub(super) const ALL: Span = (0, i64::MAX);

/// The oldest of the runs of a thread that stay because they are its newest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FirstKept {
    pub(super) created_at: DateTimeUtc,
    pub(super) run_id: String,
    /// Where the log of those runs begins, where they have one.
    pub(super) first_seq: Option<i64>,
}

/// Which events of a thread go.
pub(super) struct Condition {
    sql: String,
    values: Vec<Value>,
}

impl Condition {
    /// Those of `span` that are of the policy's categories and belong to a run that has ended before the cutoff,
    /// has nothing open, whose agent run, if it has one, keeps its transcript by itself, and that is not among the newest; or to no run, if they are from before the cutoff and from
    /// before the first kept run. The notes of folds stay.
    pub(super) fn new(applied: &Applied, thread: &ThreadId, kept: Option<&FirstKept>, span: Span) -> Self {
        let mut values: Vec<Value> = vec![thread.as_str().into()];
        let mut place = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let cutoff = place(applied.cutoff.into());
        let (from, through) = (place(span.0.into()), place(span.1.into()));
        let mut of_categories = String::new();
        if !applied.policy.categories.is_empty() {
            let words = applied.policy.categories.iter().map(|category| place(category.as_str().into()));
            of_categories = format!("AND run_events.category IN ({})", words.collect::<Vec<_>>().join(", "));
        }
        let (mut older_run, mut before_kept) = (String::new(), String::new());
        if let Some(kept) = kept {
            let (at, run) = (place(kept.created_at.into()), place(kept.run_id.as_str().into()));
            older_run = format!("AND (r.created_at, r.run_id) < ({at}, {run})");
            before_kept = kept
                .first_seq
                .map(|seq| format!("AND run_events.seq < {}", place(seq.into())))
                .unwrap_or_default();
        }
        let ended = ended();
        // The subqueries that do not name the event are evaluated once for a statement.
        let sql = format!(
            "run_events.thread_id = $1 AND run_events.seq >= {from} AND run_events.seq <= {through} {of_categories}
             AND CASE WHEN run_events.run_id IS NULL THEN run_events.created_at < {cutoff} {before_kept}
                 ELSE EXISTS (
                   SELECT 1 FROM runs r
                   WHERE r.thread_id = $1 AND r.run_id = run_events.run_id
                     AND r.status IN ({ended}) AND r.finished_at < {cutoff} {older_run}
                     AND NOT EXISTS (
                       SELECT 1 FROM agent_runs a
                       WHERE a.thread_id = $1 AND a.run_id = r.run_id AND a.steps IS NULL)
                     AND r.run_id NOT IN (
                       SELECT i.run_id FROM thread_items i WHERE i.thread_id = $1 AND i.status = 'in_progress'))
                 END
             AND run_events.seq NOT IN (SELECT c.note_seq FROM compactions c WHERE c.thread_id = $1)"
        );
        Self { sql, values }
    }

    /// The statement whose text `around` makes of the condition.
    fn statement(&self, backend: DatabaseBackend, around: impl FnOnce(&str) -> String) -> Statement {
        Statement::from_sql_and_values(backend, around(&self.sql), self.values.clone())
    }

    /// Everything of the thread by category, what goes apart from what stays.
    pub(super) fn survey(&self, backend: DatabaseBackend) -> Statement {
        self.statement(backend, |goes| {
            format!(
                "SELECT category, CAST(CASE WHEN {goes} THEN 1 ELSE 0 END AS bigint), COUNT(*),
                        CAST(SUM({BYTES}) AS bigint)
                 FROM run_events WHERE run_events.thread_id = $1 GROUP BY 1, 2"
            )
        })
    }

    /// How many runs lose events.
    pub(super) fn runs(&self, backend: DatabaseBackend) -> Statement {
        self.statement(backend, |goes| format!("SELECT COUNT(DISTINCT run_id) FROM run_events WHERE {goes}"))
    }

    /// The first events that go, with their sizes.
    pub(super) fn first(&self, backend: DatabaseBackend) -> Statement {
        self.statement(backend, |goes| {
            format!("SELECT seq, CAST({BYTES} AS bigint) FROM run_events WHERE {goes} ORDER BY seq LIMIT {BATCH_EVENTS}")
        })
    }

    /// What goes, by run and category.
    pub(super) fn tally(&self, backend: DatabaseBackend) -> Statement {
        self.statement(backend, |goes| {
            format!(
                "SELECT run_id, category, COUNT(*), CAST(SUM({BYTES}) AS bigint)
                 FROM run_events WHERE {goes} GROUP BY run_id, category"
            )
        })
    }

    /// Takes the messages that go out of what their runs count.
    pub(super) fn count_in_runs(&self, backend: DatabaseBackend) -> Statement {
        self.statement(backend, |goes| {
            format!(
                "UPDATE runs SET message_count = runs.message_count - going.messages
                 FROM (SELECT run_id, COUNT(*) AS messages FROM run_events
                       WHERE {goes} AND category = 'message' GROUP BY run_id) AS going
                 WHERE runs.thread_id = $1 AND runs.run_id = going.run_id"
            )
        })
    }

    /// Notes the numbers that go.
    pub(super) fn ranges(&self, backend: DatabaseBackend, reason: &str) -> Statement {
        // Retention is the system's.
        deletion::ranges(backend, &self.sql, self.values.clone(), reason, None)
    }

    pub(super) fn delete(&self, backend: DatabaseBackend) -> Statement {
        self.statement(backend, |goes| format!("DELETE FROM run_events WHERE {goes}"))
    }
}

/// The statuses of runs that have ended, as SQL.
fn ended() -> String {
    // Words of ours, and no quote in them.
    [
        TerminalStatus::Success,
        TerminalStatus::Error,
        TerminalStatus::Timeout,
        TerminalStatus::Interrupted,
        TerminalStatus::BudgetExhausted,
    ]
    .map(|ending| format!("'{}'", ending.status()))
    .join(", ")
}

/// The `number`-th newest run of a thread, as listings order them.
pub(super) fn newest(backend: DatabaseBackend, thread: &ThreadId, number: u32) -> Statement {
    let sql = "SELECT created_at, run_id FROM runs WHERE thread_id = $1
               ORDER BY created_at DESC, run_id DESC LIMIT 1 OFFSET $2";
    let values: Vec<Value> = vec![thread.as_str().into(), i64::from(number.saturating_sub(1)).into()];
    Statement::from_sql_and_values(backend, sql, values)
}

/// The oldest run of a thread.
pub(super) fn oldest(backend: DatabaseBackend, thread: &ThreadId) -> Statement {
    let sql = "SELECT created_at, run_id FROM runs WHERE thread_id = $1 ORDER BY created_at, run_id LIMIT 1";
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into()])
}

/// Where the log of a run and the newer ones begins.
pub(super) fn first_seq(
    backend: DatabaseBackend,
    thread: &ThreadId,
    created_at: DateTimeUtc,
    run: &str,
) -> Statement {
    let sql = "SELECT MIN(first_seq) FROM runs WHERE thread_id = $1 AND (created_at, run_id) >= ($2, $3)";
    let values: Vec<Value> = vec![thread.as_str().into(), created_at.into(), run.into()];
    Statement::from_sql_and_values(backend, sql, values)
}

/// Removes the items whose completion is gone: their content was in it.
pub(super) fn delete_items(backend: DatabaseBackend, thread: &ThreadId, span: Span) -> Statement {
    let sql = "DELETE FROM thread_items
               WHERE thread_id = $1 AND updated_seq >= $2 AND updated_seq <= $3 AND status <> 'in_progress'
                 AND NOT EXISTS (
                   SELECT 1 FROM run_events e WHERE e.thread_id = $1 AND e.seq = thread_items.updated_seq)";
    Statement::from_sql_and_values(backend, sql, of_span(thread, span))
}

/// Removes the texts of events that are gone.
pub(super) fn delete_documents(backend: DatabaseBackend, thread: &ThreadId, span: Span) -> Statement {
    let sql = "DELETE FROM search_documents
               WHERE thread_id = $1 AND seq >= $2 AND seq <= $3
                 AND (SELECT 1 FROM run_events e
                      WHERE e.thread_id = $1 AND e.seq = search_documents.seq) IS NULL";
    Statement::from_sql_and_values(backend, sql, of_span(thread, span))
}

/// Lets the items whose start alone is gone begin with what is left of them.
pub(super) fn move_items(backend: DatabaseBackend, thread: &ThreadId, span: Span) -> Statement {
    let sql = "UPDATE thread_items SET started_seq = completed_seq
               WHERE thread_id = $1 AND started_seq >= $2 AND started_seq <= $3 AND completed_seq > started_seq
                 AND NOT EXISTS (
                   SELECT 1 FROM run_events e WHERE e.thread_id = $1 AND e.seq = thread_items.started_seq)";
    Statement::from_sql_and_values(backend, sql, of_span(thread, span))
}

fn of_span(thread: &ThreadId, (from, through): Span) -> Vec<Value> {
    vec![thread.as_str().into(), from.into(), through.into()]
}

/// The moment before which something is old, by the database's clock.
pub(crate) async fn cutoff(database: &Database, older_than: std::time::Duration) -> Result<DateTimeUtc> {
    let backend = database.reader.get_database_backend();
    let mut values = Vec::new();
    let sql = format!("SELECT {}", dialect::ago(backend, older_than, &mut values));
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let found = rows(&database.reader, "to read its clock", statement).await?;
    let row = found.first().ok_or_else(|| Error::corrupt("row", "the database's clock says nothing"))?;
    row.try_get_by_index(0).map_err(unreadable)
}

/// What a thread holds of a category, and what of it goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Surveyed {
    pub(crate) there: Volume,
    pub(crate) going: Volume,
}

/// What a thread holds and what of it goes.
pub(crate) async fn survey(
    database: &Database,
    applied: &Applied,
    thread: &ThreadId,
) -> Result<BTreeMap<Category, Surveyed>> {
    let condition = judge(&database.reader, applied, thread, ALL).await?;
    let statement = condition.survey(database.reader.get_database_backend());
    let mut surveyed: BTreeMap<Category, Surveyed> = BTreeMap::new();
    for row in rows(&database.reader, "to survey the log", statement).await? {
        let category: String = row.try_get_by_index(0).map_err(unreadable)?;
        let of_category = surveyed.entry(Category::from_stored(&category)).or_default();
        let found = Volume { events: count(&row, 2)?, bytes: count(&row, 3)? };
        of_category.there += found;
        if count(&row, 1)? > 0 {
            of_category.going += found;
        }
    }
    Ok(surveyed)
}

/// How many runs of a thread lose events.
pub(crate) async fn runs_going(database: &Database, applied: &Applied, thread: &ThreadId) -> Result<u64> {
    let condition = judge(&database.reader, applied, thread, ALL).await?;
    let statement = condition.runs(database.reader.get_database_backend());
    let found = rows(&database.reader, "to count the runs", statement).await?;
    found.first().map_or(Ok(0), |row| count(row, 0))
}

/// The numbers that the next batch reaches over; none where nothing is left to go. Read without a lock, so
/// that appends do not wait for the search.
pub(crate) async fn next_batch(
    database: &Database,
    applied: &Applied,
    thread: &ThreadId,
    from: i64,
) -> Result<Option<Span>> {
    let condition = judge(&database.reader, applied, thread, (from, i64::MAX)).await?;
    let statement = condition.first(database.reader.get_database_backend());
    let mut batch: Option<Span> = None;
    let mut bytes = 0_u64;
    for row in rows(&database.reader, "to find old events", statement).await? {
        let seq: i64 = row.try_get_by_index(0).map_err(unreadable)?;
        let (first, _) = *batch.get_or_insert((seq, seq));
        if bytes >= BATCH_BYTES || seq - first >= BATCH_SEQS {
            break;
        }
        bytes = bytes.saturating_add(count(&row, 1)?);
        batch = Some((first, seq));
    }
    Ok(batch)
}

/// What a batch removed of a run, or of no run, by category.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    pub(crate) run: Option<String>,
    pub(crate) category: Category,
    pub(crate) volume: Volume,
}

/// Removes what goes of `span`, in one transaction under the lock of the head row.
pub(crate) async fn remove(
    database: &Database,
    applied: &Applied,
    thread: &ThreadId,
    span: Span,
) -> Result<Vec<Removed>> {
    let (applied, thread) = (applied.clone(), thread.clone());
    database
        .transaction("to remove old events", move |txn| {
            let (applied, thread) = (applied.clone(), thread.clone());
            Box::pin(async move { remove_locked(txn, &applied, &thread, span).await })
        })
        .await
}

async fn remove_locked(
    connection: &impl ConnectionTrait,
    applied: &Applied,
    thread: &ThreadId,
    span: Span,
) -> Result<Vec<Removed>> {
    let head = match probe::lock_head(connection, &Scope::System, thread).await {
        Ok(head) => head,
        // Somebody deleted it meanwhile, and its log with it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let backend = connection.get_database_backend();
    let condition = judge(connection, applied, thread, span).await?;
    let tallied = rows(connection, "to count old events", condition.tally(backend)).await?;
    let removed = tallied.iter().map(removed).collect::<Result<Vec<_>>>()?;
    if removed.is_empty() {
        return Ok(removed);
    }
    let reason = applied.policy.reason();
    execute(connection, "to note the deletion", condition.ranges(backend, &reason)).await?;
    let messages: u64 = of_category(&removed, &Category::Message).map(|it| it.volume.events).sum();
    if messages > 0 {
        execute(connection, "to count the messages", condition.count_in_runs(backend)).await?;
        let left = head.message_count.saturating_sub(messages);
        // Not `updated_at`: it says when the log last grew, and sweepers judge runs without a lease by it.
        let sql = "UPDATE thread_heads SET message_count = $2 WHERE thread_id = $1";
        let values: Vec<Value> = vec![thread.as_str().into(), signed(left).into()];
        let update = Statement::from_sql_and_values(backend, sql, values);
        execute(connection, "to count the messages", update).await?;
    }
    let deleted =
        execute(connection, "to remove old events", condition.delete(backend)).await?.rows_affected();
    let counted: u64 = removed.iter().map(|it| it.volume.events).sum();
    if deleted != counted {
        // Somebody writes without taking the head: nothing that was counted may be kept.
        return Err(Error::conflict("old events", counted, deleted));
    }
    // Starts last: of an item that is gone as a whole there is nothing to move.
    execute(connection, "to remove items", delete_items(backend, thread, span)).await?;
    execute(connection, "to move items", move_items(backend, thread, span)).await?;
    blobs::release(connection, thread, blobs::Gone::Span(span.0, span.1)).await?;
    execute(connection, "to remove texts", delete_documents(backend, thread, span)).await?;
    Ok(removed)
}

fn of_category<'a>(removed: &'a [Removed], category: &'a Category) -> impl Iterator<Item = &'a Removed> {
    removed.iter().filter(move |it| it.category == *category)
}

fn removed(row: &QueryResult) -> Result<Removed> {
    let category: String = row.try_get_by_index(1).map_err(unreadable)?;
    Ok(Removed {
        run: row.try_get_by_index(0).map_err(unreadable)?,
        category: Category::from_stored(&category),
        volume: Volume { events: count(row, 2)?, bytes: count(row, 3)? },
    })
}

/// What the policy means for a thread as it is now.
async fn judge(
    connection: &impl ConnectionTrait,
    applied: &Applied,
    thread: &ThreadId,
    span: Span,
) -> Result<Condition> {
    let kept = first_kept(connection, applied.policy.keep_last, thread).await?;
    Ok(Condition::new(applied, thread, kept.as_ref(), span))
}

async fn first_kept(
    connection: &impl ConnectionTrait,
    keep_last: u32,
    thread: &ThreadId,
) -> Result<Option<FirstKept>> {
    if keep_last == 0 {
        return Ok(None);
    }
    let backend = connection.get_database_backend();
    let mut found = rows(connection, "to find the newest runs", newest(backend, thread, keep_last)).await?;
    if found.is_empty() {
        // There are fewer, and all of them stay.
        found = rows(connection, "to find the newest runs", oldest(backend, thread)).await?;
    }
    let Some(row) = found.first() else { return Ok(None) };
    let created_at: DateTimeUtc = row.try_get_by_index(0).map_err(unreadable)?;
    let run_id: String = row.try_get_by_index(1).map_err(unreadable)?;
    let statement = first_seq(backend, thread, created_at, &run_id);
    let first = rows(connection, "to find the newest runs", statement).await?;
    let first_seq = first.first().map_or(Ok(None), |row| row.try_get_by_index(0)).map_err(unreadable)?;
    Ok(Some(FirstKept { created_at, run_id, first_seq }))
}

fn count(row: &QueryResult, at: usize) -> Result<u64> {
    let value: i64 = row.try_get_by_index(at).map_err(unreadable)?;
    u64::try_from(value).map_err(|_| Error::corrupt("log", "counts less than nothing"))
}
