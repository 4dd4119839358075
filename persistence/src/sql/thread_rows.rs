//! The rows of one thread as they were at one moment, read leniently: what cannot be read is told and skipped.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use runledger_core::verify::{ItemKey, ThreadRows, Unreadable};
use runledger_core::{
    Envelope, Error, Event, ItemEntry, ItemId, Result, Run, RunId, Scope, SeqSpan, ThreadHead, ThreadId,
    UsageRecord,
};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, DatabaseTransaction, EntityTrait,
    FromQueryResult, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait, Statement, Value,
};

use super::{probe, rows, signed, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::cell::{ByPosition as _, Cells};
use crate::entity::{run, run_event, thread_head, thread_item, usage_record};
use crate::patience::Patient;

const READING: &str = "to verify a thread";

/// Rows of one page.
const PAGE: u64 = 1_000;

/// What a rebuild calls the records that it cannot read, in `quarantine.source`.
pub(super) const OF_THE_LOG: &str = "log";

/// The rows of a thread that the scope sees.
pub(super) struct SqlRows {
    snapshot: Patient<DatabaseTransaction>,
    thread: ThreadId,
    head: Result<ThreadHead, Unreadable>,
    after_deletion: i64,
    after_run: String,
    after_event: i64,
    after_item: (String, String),
    after_usage: String,
}

impl SqlRows {
    /// `NotFound` where the scope sees no such thread.
    pub(super) async fn open(database: &Database, scope: &Scope, thread: &ThreadId) -> Result<Self> {
        let snapshot = database.snapshot(READING).await?;
        let statement = probe::head_select(scope, thread).build(snapshot.get_database_backend());
        let found = rows(&snapshot, READING, statement).await;
        let head = match found {
            Ok(found) => found.first().map(|row| readable::<thread_head::Model, ThreadHead>(row, "")),
            Err(error) => {
                let _ = snapshot.rollback().await;
                return Err(error);
            }
        };
        let Some(head) = head else {
            // It only read.
            let _ = snapshot.rollback().await;
            return Err(Error::not_found("thread", thread));
        };
        Ok(Self {
            snapshot,
            thread: thread.clone(),
            head,
            after_deletion: i64::MIN,
            after_run: String::new(),
            after_event: i64::MIN,
            after_item: (String::new(), String::new()),
            after_usage: String::new(),
        })
    }

    /// Gives the connection back.
    pub(super) async fn close(self) {
        // It only read.
        let _ = self.snapshot.rollback().await;
    }

    fn backend(&self) -> DatabaseBackend {
        self.snapshot.get_database_backend()
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        rows(&self.snapshot, READING, statement).await
    }
}

/// A row as a record, or why it is none.
fn readable<M, R>(row: &QueryResult, key: &str) -> Result<R, Unreadable>
where
    M: FromQueryResult,
    R: TryFrom<M, Error = Error>,
{
    M::from_query_result(row, "")
        .map_err(unreadable)
        .and_then(R::try_from)
        .map_err(|error| Unreadable { key: key.to_owned(), reason: reason(&error) })
}

/// Why a row cannot be read, down to the first cause.
fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason.push_str(&format!(": {error}"));
        cause = error.source();
    }
    reason
}

/// The number and the envelope of a row of [`events_after`] or [`events_at`].
pub(super) fn envelope(row: &QueryResult) -> Result<(i64, Result<Envelope, Unreadable>)> {
    let seq: i64 = row.try_get_by_index(1).map_err(unreadable)?;
    let event = run_event::Model::by_position(&mut Cells::new(row))
        .map_err(unreadable)
        .and_then(Event::try_from)
        .map(Envelope::from)
        .map_err(|error| Unreadable { key: seq.to_string(), reason: reason(&error) });
    Ok((seq, event))
}

/// The columns of an event in their order, without its payload: nothing here looks at that.
const ENVELOPE: &str = "thread_id, seq, run_id, journal_ordinal, once_key, event_type, category, caller, \
    task_id, item_id, item_kind, item_status, call_id, parent_item_id, '' AS content, content_bytes, truncated, \
    CAST(NULL AS text) AS metadata, created_at";

pub(super) fn events_after(backend: DatabaseBackend, thread: &ThreadId, after: i64) -> Statement {
    let sql = format!(
        "SELECT {ENVELOPE} FROM run_events WHERE thread_id = $1 AND seq > $2 ORDER BY seq LIMIT {PAGE}"
    );
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into(), after.into()])
}

pub(super) fn events_at(backend: DatabaseBackend, thread: &ThreadId, seqs: &[u64]) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    values.extend(seqs.iter().map(|seq| Value::from(signed(*seq))));
    let of_thread = dialect::places(backend, 1, 1);
    let places = dialect::places(backend, 2, values.len());
    let sql =
        format!("SELECT {ENVELOPE} FROM run_events WHERE thread_id = {of_thread} AND seq IN ({places})");
    Statement::from_sql_and_values(backend, sql, values)
}

pub(super) fn removed_after(backend: DatabaseBackend, thread: &ThreadId, after: i64) -> Statement {
    let sql = format!(
        "SELECT from_seq, through_seq FROM deletions WHERE thread_id = $1 AND from_seq > $2 \
         ORDER BY from_seq LIMIT {PAGE}"
    );
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into(), after.into()])
}

/// A removed range, and the key that the next page begins after.
pub(super) fn removed(row: &QueryResult) -> Result<(i64, SeqSpan)> {
    let from: i64 = row.try_get_by_index(0).map_err(unreadable)?;
    let through: i64 = row.try_get_by_index(1).map_err(unreadable)?;
    let number = |seq: i64| u64::try_from(seq).unwrap_or_default();
    Ok((from, SeqSpan { from: number(from), through: number(through) }))
}

pub(super) fn runs_after(backend: DatabaseBackend, thread: &ThreadId, after: &str) -> Statement {
    run::Entity::find()
        .filter(run::Column::ThreadId.eq(thread.as_str()))
        .filter(run::Column::RunId.gt(after))
        .order_by_asc(run::Column::RunId)
        .limit(100)
        .build(backend)
}

/// A run of [`runs_after`], and the key that the next page begins after.
pub(super) fn run(row: &QueryResult) -> Result<(String, Result<Run, Unreadable>)> {
    let key: String = row.try_get("", "run_id").map_err(unreadable)?;
    let run = readable::<run::Model, Run>(row, &key);
    Ok((key, run))
}

pub(super) fn items_after(
    backend: DatabaseBackend,
    thread: &ThreadId,
    (run, item): (&str, &str),
) -> Statement {
    let sql = format!(
        "SELECT * FROM thread_items WHERE thread_id = $1 AND (run_id, item_id) > ($2, $3) \
         ORDER BY run_id, item_id LIMIT {PAGE}"
    );
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into(), run.into(), item.into()])
}

/// The rows of these items, in statements of so many runs that SQLite takes the depth of each.
pub(super) fn items_of(backend: DatabaseBackend, thread: &ThreadId, keys: &[ItemKey]) -> Vec<Statement> {
    let mut runs: BTreeMap<&RunId, Vec<&str>> = BTreeMap::new();
    for (run, item) in keys {
        runs.entry(run).or_default().push(item.as_str());
    }
    let conditions: Vec<Expr> = runs
        .into_iter()
        .map(|(run, items)| {
            // Each with the whole key: SQLite walks the index of all of them where only one part is common.
            let of_run = thread_item::Column::ThreadId
                .eq(thread.as_str())
                .and(thread_item::Column::RunId.eq(run.as_str()));
            of_run.and(thread_item::Column::ItemId.is_in(items))
        })
        .collect();
    conditions
        .chunks(100)
        .map(|conditions| {
            thread_item::Entity::find()
                .filter(conditions.iter().cloned().fold(Condition::any(), Condition::add))
                .build(backend)
        })
        .collect()
}

pub(super) fn usage_after(backend: DatabaseBackend, thread: &ThreadId, after: &str) -> Statement {
    usage_record::Entity::find()
        .filter(usage_record::Column::ThreadId.eq(thread.as_str()))
        .filter(usage_record::Column::SourceId.gt(after))
        .order_by_asc(usage_record::Column::SourceId)
        .limit(100)
        .build(backend)
}

pub(super) fn quarantined(backend: DatabaseBackend, thread: &ThreadId) -> Statement {
    let sql = "SELECT seq, source FROM quarantine WHERE thread_id = $1";
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into()])
}

#[async_trait]
impl ThreadRows for SqlRows {
    async fn head(&mut self) -> Result<Result<ThreadHead, Unreadable>> {
        Ok(self.head.clone())
    }

    async fn quarantined(&mut self) -> Result<(BTreeSet<u64>, u64)> {
        let found = self.rows(quarantined(self.backend(), &self.thread)).await?;
        let mut seqs = BTreeSet::new();
        for row in &found {
            let seq: Option<i64> = row.try_get_by_index(0).map_err(unreadable)?;
            let source: Option<String> = row.try_get_by_index(1).map_err(unreadable)?;
            if source.as_deref() == Some(OF_THE_LOG) {
                seqs.extend(seq.and_then(|seq| u64::try_from(seq).ok()));
            }
        }
        Ok((seqs, found.len() as u64))
    }

    async fn deletions(&mut self) -> Result<Vec<SeqSpan>> {
        let found = self.rows(removed_after(self.backend(), &self.thread, self.after_deletion)).await?;
        let mut spans = Vec::with_capacity(found.len());
        for row in &found {
            let (key, span) = removed(row)?;
            self.after_deletion = key;
            spans.push(span);
        }
        Ok(spans)
    }

    async fn runs(&mut self) -> Result<Vec<Result<Run, Unreadable>>> {
        let found = self.rows(runs_after(self.backend(), &self.thread, &self.after_run)).await?;
        let mut runs = Vec::with_capacity(found.len());
        for row in &found {
            let (key, run) = run(row)?;
            self.after_run = key;
            runs.push(run);
        }
        Ok(runs)
    }

    async fn events(&mut self) -> Result<Vec<(u64, Result<Envelope, Unreadable>)>> {
        let found = self.rows(events_after(self.backend(), &self.thread, self.after_event)).await?;
        let mut events = Vec::with_capacity(found.len());
        for row in &found {
            let (seq, event) = envelope(row)?;
            self.after_event = seq;
            events.push((u64::try_from(seq).unwrap_or_default(), event));
        }
        Ok(events)
    }

    async fn events_at(&mut self, seqs: &[u64]) -> Result<Vec<Envelope>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.rows(events_at(self.backend(), &self.thread, seqs)).await?;
        let mut events = Vec::with_capacity(found.len());
        for row in &found {
            events.extend(envelope(row)?.1.ok());
        }
        Ok(events)
    }

    async fn items(&mut self) -> Result<Vec<Result<ItemEntry, Unreadable>>> {
        let (run, item) = &self.after_item;
        let found = self.rows(items_after(self.backend(), &self.thread, (run, item))).await?;
        let mut items = Vec::with_capacity(found.len());
        for row in &found {
            let run: String = row.try_get("", "run_id").map_err(unreadable)?;
            let item: String = row.try_get("", "item_id").map_err(unreadable)?;
            items.push(readable::<thread_item::Model, ItemEntry>(row, &format!("{run} {item}")));
            self.after_item = (run, item);
        }
        Ok(items)
    }

    async fn items_of(&mut self, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Option<ItemEntry>>> {
        let mut found = HashMap::new();
        for statement in items_of(self.backend(), &self.thread, keys) {
            for row in self.rows(statement).await? {
                let run: String = row.try_get("", "run_id").map_err(unreadable)?;
                let item: String = row.try_get("", "item_id").map_err(unreadable)?;
                let entry = readable::<thread_item::Model, ItemEntry>(&row, &item).ok();
                found.insert((RunId::try_from(run)?, ItemId::try_from(item)?), entry);
            }
        }
        Ok(found)
    }

    async fn usage(&mut self) -> Result<Vec<Result<UsageRecord, Unreadable>>> {
        let found = self.rows(usage_after(self.backend(), &self.thread, &self.after_usage)).await?;
        let mut usage = Vec::with_capacity(found.len());
        for row in &found {
            let key: String = row.try_get("", "source_id").map_err(unreadable)?;
            usage.push(readable::<usage_record::Model, UsageRecord>(row, &key));
            self.after_usage = key;
        }
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use sea_orm::{IdenStatic, Iterable};

    /// They are read by position.
    #[test]
    fn an_envelope_has_every_column_of_an_event_in_its_place() {
        let selected: Vec<&str> =
            ENVELOPE.split(", ").map(|column| column.rsplit(' ').next().unwrap_or_default()).collect();
        let columns: Vec<&str> = run_event::Column::iter().map(|column| column.as_str()).collect();
        assert_eq!(selected, columns);
    }
}
