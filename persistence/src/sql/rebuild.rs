//! Making a thread's item index anew from its log, in one transaction under the lock of its head.
//!
//! The rows that are there are marked stale and not deleted, because a claim and what retention removed are known
//! from nowhere else. The log is read once, a page at a time, and each item of a page is written over its
//! stale row or merged into the one that an earlier page wrote. What is stale in the end is not in the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use runledger_core::verify::{ItemKey, Rebuilt, Removed, Unreadable, with_removed};
use runledger_core::view::items::{ItemChange, project_slice};
use runledger_core::{
    Envelope, ItemEntry, ItemId, ItemStatus, Result, Run, RunId, Scope, ThreadHead, ThreadId, Timestamp,
};
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Statement, Value};
use sha2::{Digest, Sha256};

use super::thread_rows::{self, OF_THE_LOG};
use super::{execute, probe, rows, signed, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::thread_item::Model;

const REBUILDING: &str = "to rebuild the item index";

/// `updated_seq` of a row that was there before. No event has this number.
const STALE: i64 = -1;

/// Rows of one statement.
const ROWS: usize = 500;

const COLUMNS: [&str; 14] = [
    "thread_id",
    "run_id",
    "item_id",
    "item_kind",
    "status",
    "started_seq",
    "completed_seq",
    "updated_seq",
    "started_at",
    "completed_at",
    "parent_item_id",
    "call_id",
    "caller",
    "claimed_epoch",
];

/// Columns of the key, which come first.
const KEYS: usize = 3;

/// Makes the index anew.
pub(super) async fn rebuild(database: &Database, scope: &Scope, thread: &ThreadId) -> Result<Rebuilt> {
    let (scope, thread) = (scope.clone(), thread.clone());
    database
        .transaction(REBUILDING, move |txn| {
            let (scope, thread) = (scope.clone(), thread.clone());
            Box::pin(async move {
                let head = probe::lock_head(txn, &scope, &thread).await?;
                let mut rebuild = Rebuild {
                    connection: txn,
                    removed: Removed::default(),
                    runs: BTreeMap::new(),
                    doubtful: HashSet::new(),
                    rebuilt: Rebuilt::new(thread.clone()),
                    thread,
                };
                rebuild.all(&head).await?;
                Ok(rebuild.rebuilt)
            })
        })
        .await
}

/// One rebuild, half-way.
struct Rebuild<'a, C> {
    connection: &'a C,
    thread: ThreadId,
    removed: Removed,
    runs: BTreeMap<RunId, Run>,
    /// Items without a row whose completion may have been removed.
    doubtful: HashSet<ItemKey>,
    rebuilt: Rebuilt,
}

impl<C: ConnectionTrait> Rebuild<'_, C> {
    async fn all(&mut self, head: &ThreadHead) -> Result<()> {
        self.facts().await?;
        let thread: Vec<Value> = vec![self.thread.as_str().into()];
        let sql = "UPDATE thread_items SET updated_seq = $2 WHERE thread_id = $1";
        let mark = vec![self.thread.as_str().into(), STALE.into()];
        self.rebuilt.items_before = self.execute(sql, mark).await?;
        let sql = "DELETE FROM quarantine WHERE thread_id = $1 AND source = $2";
        self.execute(sql, vec![self.thread.as_str().into(), OF_THE_LOG.into()]).await?;
        let mut next = 1;
        let mut after = i64::MIN;
        loop {
            let backend = self.connection.get_database_backend();
            let page = self.rows(thread_rows::events_after(backend, &self.thread, after)).await?;
            if page.is_empty() {
                break;
            }
            let mut events = Vec::with_capacity(page.len());
            for row in &page {
                let (seq, event) = thread_rows::envelope(row)?;
                after = seq;
                self.rebuilt.events += 1;
                let number = u64::try_from(seq).unwrap_or_default();
                self.gap(next, number.saturating_sub(1));
                next = number + 1;
                match event {
                    Ok(event) => events.push(event),
                    Err(unreadable) => self.quarantine(seq, &unreadable).await?,
                }
            }
            self.page(&events).await?;
        }
        self.gap(next, head.last_seq());
        let sql = "DELETE FROM thread_items WHERE thread_id = $1 AND updated_seq = $2";
        self.execute(sql, vec![self.thread.as_str().into(), STALE.into()]).await?;
        for (run, item) in std::mem::take(&mut self.doubtful) {
            let sql = "DELETE FROM thread_items \
                       WHERE thread_id = $1 AND run_id = $2 AND item_id = $3 AND status = 'in_progress'";
            let key = vec![self.thread.as_str().into(), run.as_str().into(), item.as_str().into()];
            self.execute(sql, key).await?;
        }
        let count = "SELECT COUNT(*) FROM thread_items WHERE thread_id = $1";
        let counted = self.rows(self.statement(count, thread)).await?;
        let items =
            counted.first().map(|row| row.try_get_by_index::<i64>(0)).transpose().map_err(unreadable)?;
        self.rebuilt.items = items.and_then(|items| u64::try_from(items).ok()).unwrap_or_default();
        Ok(())
    }

    /// What was removed, and the runs; one whose row cannot be read is as one that there is not.
    async fn facts(&mut self) -> Result<()> {
        let backend = self.connection.get_database_backend();
        let mut after = i64::MIN;
        loop {
            let page = self.rows(thread_rows::removed_after(backend, &self.thread, after)).await?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                let (key, span) = thread_rows::removed(row)?;
                after = key;
                self.removed.add(span);
            }
        }
        let mut after = String::new();
        loop {
            let page = self.rows(thread_rows::runs_after(backend, &self.thread, &after)).await?;
            if page.is_empty() {
                return Ok(());
            }
            for row in &page {
                let (key, run) = thread_rows::run(row)?;
                after = key;
                if let Ok(run) = run {
                    let run = run.without_documents();
                    self.runs.insert(run.run_id.clone(), run);
                }
            }
        }
    }

    fn gap(&mut self, from: u64, through: u64) {
        for span in self.removed.without(from, through) {
            self.rebuilt.note_gap(span);
        }
    }

    /// Notes a record that cannot be read, by its hash; it stays where it is.
    async fn quarantine(&mut self, seq: i64, why: &Unreadable) -> Result<()> {
        self.rebuilt.quarantined += 1;
        let sql = "SELECT CAST(content AS text) FROM run_events WHERE thread_id = $1 AND seq = $2";
        let found = self.rows(self.statement(sql, vec![self.thread.as_str().into(), seq.into()])).await?;
        // Of content that is no text either, what can be had of it: nothing.
        let content =
            found.first().and_then(|row| row.try_get_by_index::<String>(0).ok()).unwrap_or_default();
        let hash: String =
            Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let sql = "INSERT INTO quarantine (thread_id, quarantine_id, seq, source, reason, content_hash, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = vec![
            self.thread.as_str().into(),
            format!("{OF_THE_LOG}:{seq}").into(),
            seq.into(),
            OF_THE_LOG.into(),
            why.reason.as_str().into(),
            format!("sha256:{hash}").into(),
            Timestamp::now().to_chrono().into(),
        ];
        self.execute(sql, values).await.map(drop)
    }

    /// Takes in a page of the log.
    async fn page(&mut self, events: &[Envelope]) -> Result<()> {
        let changes = project_slice(events);
        let keys: Vec<ItemKey> =
            changes.iter().map(|(run, change)| (run.clone(), change.item_id.clone())).collect();
        let mut stored = HashMap::new();
        let backend = self.connection.get_database_backend();
        for statement in thread_rows::items_of(backend, &self.thread, &keys) {
            for row in self.rows(statement).await? {
                let run: String = row.try_get("", "run_id").map_err(unreadable)?;
                let item: String = row.try_get("", "item_id").map_err(unreadable)?;
                stored.insert((RunId::try_from(run)?, ItemId::try_from(item)?), stored_row(&row)?);
            }
        }
        let mut entries = Vec::with_capacity(changes.len());
        for (key, (run, change)) in keys.into_iter().zip(changes) {
            entries.push(match stored.remove(&key) {
                Some(StoredRow::Rebuilt(mut entry)) => {
                    entry.merge(&change);
                    *entry
                }
                Some(StoredRow::Stale { entry, claimed_epoch }) => {
                    let change = self.with_removed(&run, change, entry.as_deref());
                    ItemEntry { claimed_epoch, ..ItemEntry::of(&self.thread, &run, change) }
                }
                None => {
                    let lost = self.runs.get(&run).is_some_and(|run| self.removed.may_have_completed(run));
                    if lost && change.status == ItemStatus::InProgress {
                        self.doubtful.insert(key);
                    }
                    ItemEntry::of(&self.thread, &run, change)
                }
            });
        }
        for entries in entries.chunks(ROWS) {
            self.write(entries).await?;
        }
        Ok(())
    }

    fn with_removed(&self, run: &RunId, change: ItemChange, stored: Option<&ItemEntry>) -> ItemChange {
        match (self.runs.get(run), stored) {
            (Some(run), Some(stored)) if self.removed.may_have_begun(run, &change) => {
                with_removed(change, stored)
            }
            (_, _) => change,
        }
    }

    async fn write(&self, entries: &[ItemEntry]) -> Result<()> {
        let mut values = Vec::with_capacity(entries.len() * COLUMNS.len());
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let first = values.len() + 1;
            values.extend(cells(entry));
            let backend = self.connection.get_database_backend();
            places.push(format!("({})", dialect::places(backend, first, values.len())));
        }
        let set: Vec<String> =
            COLUMNS.iter().skip(KEYS).map(|column| format!("{column} = excluded.{column}")).collect();
        let sql = format!(
            "INSERT INTO thread_items ({}) VALUES {} ON CONFLICT (thread_id, run_id, item_id) DO UPDATE SET {}",
            COLUMNS.join(", "),
            places.join(", "),
            set.join(", ")
        );
        self.execute(sql, values).await.map(drop)
    }

    fn statement(&self, sql: impl Into<String>, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.connection.get_database_backend(), sql, values)
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        rows(self.connection, REBUILDING, statement).await
    }

    async fn execute(&self, sql: impl Into<String>, values: Vec<Value>) -> Result<u64> {
        Ok(execute(self.connection, REBUILDING, self.statement(sql, values)).await?.rows_affected())
    }
}

/// A row of the index amid a rebuild.
enum StoredRow {
    /// An earlier page of the log wrote it.
    Rebuilt(Box<ItemEntry>),
    /// It was there before; `None` where it cannot be read, but for its claim.
    Stale { entry: Option<Box<ItemEntry>>, claimed_epoch: Option<u64> },
}

fn stored_row(row: &QueryResult) -> Result<StoredRow> {
    let updated_seq: i64 = row.try_get("", "updated_seq").map_err(unreadable)?;
    let model = Model::from_query_result(row, "").map_err(unreadable);
    if updated_seq != STALE {
        return Ok(StoredRow::Rebuilt(Box::new(model.and_then(ItemEntry::try_from)?)));
    }
    let claimed_epoch = match &model {
        Ok(model) => model.claimed_epoch.and_then(|epoch| u64::try_from(epoch).ok()),
        Err(_) => None,
    };
    let entry = model.and_then(|model| ItemEntry::try_from(Model { updated_seq: 0, ..model })).ok();
    Ok(StoredRow::Stale { entry: entry.map(Box::new), claimed_epoch })
}

/// What is stored of an item, in the order of [`COLUMNS`].
fn cells(entry: &ItemEntry) -> [Value; COLUMNS.len()] {
    [
        entry.thread_id.as_str().into(),
        entry.run_id.as_str().into(),
        entry.item_id.as_str().into(),
        entry.item_kind.to_string().into(),
        entry.status.as_str().into(),
        signed(entry.started_seq).into(),
        entry.completed_seq.map(signed).into(),
        signed(entry.updated_seq).into(),
        entry.started_at.to_chrono().into(),
        entry.completed_at.map(|at| at.to_chrono()).into(),
        entry.parent_item_id.as_ref().map(|id| id.as_str()).into(),
        entry.call_id.as_ref().map(|id| id.as_str()).into(),
        entry.caller.as_ref().map(|caller| caller.as_str()).into(),
        entry.claimed_epoch.map(signed).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::thread_item::{Column, PrimaryKey};
    use pretty_assertions::assert_eq;
    use sea_orm::{IdenStatic, Iterable, PrimaryKeyToColumn};

    #[test]
    fn every_column_is_written() {
        let columns: Vec<&str> = Column::iter().map(|column| column.as_str()).collect();
        assert_eq!(COLUMNS.to_vec(), columns);
        let key: Vec<&str> = PrimaryKey::iter().map(|key| key.into_column().as_str()).collect();
        assert_eq!(COLUMNS[..KEYS].to_vec(), key);
    }
}
