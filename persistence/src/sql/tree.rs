//! Trees of threads: children, their places, and the locks of what is changed as a whole.
//!
//! What touches several threads locks their heads in the order of their ids, as appends do. Who is spawned
//! while they are looked for is found by the next look, and locked too: whoever spawns holds the head of the
//! parent, so nothing is missed once all are locked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runledger_core::view::tree::Place;
use runledger_core::{
    ChildFilter, Contents, Error, HeadState, ItemEntry, ListRange, Result, Run, RunId, Scope, Spawn, Thread,
    ThreadHead, ThreadId, ThreadLifecycle, Timestamp,
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Statement, Value,
};

use super::{execute, items, listed, position, probe, record, records, rows, runs, threads, unreadable};
use crate::dialect;
use crate::entity::thread::{Column, Entity};
use crate::entity::thread_head::{Column as HeadColumn, Entity as Heads, Model as HeadModel};
use crate::entity::{run, thread_item};

/// Heads that one statement locks, and threads that one statement changes.
pub(super) const CHUNK: usize = 500;

/// Judges where a new thread comes from, under the lock of its parent's head.
pub(super) async fn place(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    spawn: Spawn,
    new: Thread,
) -> Result<Thread> {
    let head = probe::lock_head(connection, scope, &spawn.parent_thread_id).await?;
    head.require_open()?;
    let backend = connection.get_database_backend();
    let (parent, run) = (&spawn.parent_thread_id, &spawn.run_id);
    let statement = runs::get(backend, scope, parent, run);
    let found = record::<run::Model, Run>(connection, "to read the run", statement).await?;
    found.ok_or_else(|| Error::not_found("run", run))?;
    if let Some(item) = &spawn.item_id {
        let statement = items::get(backend, scope, parent, run, item);
        let found =
            record::<thread_item::Model, ItemEntry>(connection, "to read the item", statement).await?;
        found.ok_or_else(|| Error::not_found("item", item))?;
    }
    let parent = threads::get(connection, scope, parent).await?;
    spawn.place(new, &parent)
}

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn children(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    filter: &ChildFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select = Entity::find()
        .filter(Column::ParentThreadId.eq(thread.as_str()))
        .filter(probe::visible(scope, thread));
    if !filter.spawn_run_ids.is_empty() {
        select = select.filter(Column::SpawnRunId.is_in(filter.spawn_run_ids.iter().map(RunId::as_str)));
    }
    if filter.contents == Contents::Omitted {
        select = listed(select, &[Column::Config, Column::Metadata], &[Column::SystemPrompt]);
    }
    if let Some(cursor) = &range.cursor {
        let (at, id) = position(cursor)?;
        let row =
            Expr::tuple([Expr::col((Entity, Column::CreatedAt)), Expr::col((Entity, Column::ThreadId))]);
        select = select.filter(row.lt(Expr::tuple([Expr::val(at), Expr::val(id)])));
    }
    Ok(select
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::ThreadId)
        .limit(u64::from(limit) + 1)
        .build(backend))
}

/// Ephemeral threads that have served.
pub(super) fn spent(backend: DatabaseBackend, idle: Duration, limit: u32) -> Statement {
    let mut values = Vec::new();
    let before = dialect::ago(backend, idle, &mut values);
    // A thread is idle before it had a run, too, and whatever else its last one came to than a failure. The last is
    // the one that had the slot last: of those that ended in the queue none had it.
    let sql = format!(
        "SELECT t.thread_id FROM threads t
         WHERE t.lifecycle = 'ephemeral' AND t.updated_at < {before}
           AND t.status = 'idle' AND t.archived_at IS NULL
           AND (SELECT 1 FROM runs r WHERE r.thread_id = t.thread_id AND r.status = 'success'
                AND r.epoch = (SELECT MAX(l.epoch) FROM runs l WHERE l.thread_id = t.thread_id) LIMIT 1) = 1
         ORDER BY t.updated_at, t.thread_id LIMIT {limit}"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// Archives the thread, or takes that back, under the lock of its head.
pub(super) async fn set_state(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
    wanted: &HeadState,
    at: Timestamp,
) -> Result<Thread> {
    let head = probe::lock_head(connection, scope, thread).await?;
    if head.state != *wanted {
        let archived_at = if *wanted == HeadState::Archived {
            probe::require_no_active_run(&head)?;
            Some(at.to_chrono())
        } else {
            None
        };
        let backend = connection.get_database_backend();
        // Not `updated_at` of the head: it says when the log last grew.
        let sql = "UPDATE thread_heads SET state = $2 WHERE thread_id = $1";
        let values: Vec<Value> = vec![thread.as_str().into(), wanted.as_str().into()];
        execute(connection, "to archive", Statement::from_sql_and_values(backend, sql, values)).await?;
        let sql = "UPDATE threads SET archived_at = $2, updated_at = $3 WHERE thread_id = $1";
        let values: Vec<Value> = vec![thread.as_str().into(), archived_at.into(), at.to_chrono().into()];
        execute(connection, "to archive", Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    threads::get(connection, scope, thread).await
}

/// A thread and all below it that are there, with their places.
pub(super) fn places(backend: DatabaseBackend, thread: &ThreadId) -> Statement {
    // UNION, so that rows which name each other end, too.
    let sql = "WITH RECURSIVE tree(thread_id, parent_thread_id, lifecycle, spawn_depth) AS (
                 SELECT thread_id, parent_thread_id, lifecycle, spawn_depth FROM threads WHERE thread_id = $1
                 UNION
                 SELECT t.thread_id, t.parent_thread_id, t.lifecycle, t.spawn_depth
                 FROM tree JOIN threads t ON t.parent_thread_id = tree.thread_id)
               SELECT thread_id, parent_thread_id, lifecycle, spawn_depth FROM tree";
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into()])
}

/// The place of one thread.
pub(super) fn place_of(backend: DatabaseBackend, thread: &ThreadId) -> Statement {
    let sql = "SELECT thread_id, parent_thread_id, lifecycle, spawn_depth FROM threads WHERE thread_id = $1";
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into()])
}

/// The heads of a thread and of all below it, deleted ones too.
pub(super) fn family(backend: DatabaseBackend, thread: &ThreadId) -> Statement {
    let sql = "WITH RECURSIVE family(thread_id) AS (
                 SELECT thread_id FROM thread_heads WHERE thread_id = $1
                 UNION
                 SELECT h.thread_id FROM family JOIN thread_heads h ON h.parent_thread_id = family.thread_id)
               SELECT thread_id FROM family";
    Statement::from_sql_and_values(backend, sql, [thread.as_str().into()])
}

/// A tree that nobody else changes until the transaction ends.
pub(super) struct Tree {
    /// The thread above, where there is one.
    pub(super) above: Option<Place>,
    /// The threads below, in no order.
    pub(super) below: Vec<Place>,
    /// The heads of all of them.
    pub(super) heads: BTreeMap<ThreadId, ThreadHead>,
}

/// Locks a thread, all below it and the one above. `NotFound` where the scope does not see it.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<Tree> {
    // Before anything of somebody else's is locked.
    probe::require(connection, scope, thread).await?;
    let backend = connection.get_database_backend();
    let mut locks = Locks::default();
    loop {
        let found = read_places(connection, places(backend, thread)).await?;
        let parent = found
            .iter()
            .find(|place| place.thread_id == *thread)
            .and_then(|place| place.parent_thread_id.clone());
        let wanted = found.iter().map(|place| &place.thread_id).chain(&parent).chain([thread]);
        if locks.take(connection, wanted.cloned().collect()).await? {
            continue;
        }
        let head = locks.heads.get(thread);
        head.filter(|head| head.state != HeadState::Deleted && scope.sees(head.owner_id.as_ref()))
            .ok_or_else(|| Error::not_found("thread", thread))?;
        let above = match &parent {
            // It may be missing where a part of a tree was copied.
            Some(parent) => read_places(connection, place_of(backend, parent)).await?.pop(),
            None => None,
        };
        let below = found.into_iter().filter(|place| place.thread_id != *thread).collect();
        return Ok(Tree { above, below, heads: locks.heads });
    }
}

/// Locks the heads of a thread, which must be there, and of all below it, deleted ones too.
pub(super) async fn lock_family(
    connection: &impl ConnectionTrait,
    thread: &ThreadId,
) -> Result<BTreeMap<ThreadId, ThreadHead>> {
    probe::require(connection, &Scope::System, thread).await?;
    let mut locks = Locks::default();
    loop {
        let statement = family(connection.get_database_backend(), thread);
        let found = read_ids(connection, "to look below the thread", statement).await?;
        if !locks.take(connection, found.into_iter().collect()).await? {
            return Ok(locks.heads);
        }
    }
}

/// Heads that are locked, and what was looked for.
#[derive(Default)]
struct Locks {
    heads: BTreeMap<ThreadId, ThreadHead>,
    /// Those that have no head, too.
    sought: BTreeSet<ThreadId>,
}

impl Locks {
    /// Locks what is not locked yet; says whether there was any.
    async fn take(&mut self, connection: &impl ConnectionTrait, wanted: BTreeSet<ThreadId>) -> Result<bool> {
        let new: Vec<ThreadId> = wanted.difference(&self.sought).cloned().collect();
        for chunk in new.chunks(CHUNK) {
            let select = Heads::find()
                .filter(HeadColumn::ThreadId.is_in(chunk.iter().map(ThreadId::as_str)))
                .order_by_asc(HeadColumn::ThreadId)
                .lock_exclusive()
                .build(connection.get_database_backend());
            let heads = records::<HeadModel, ThreadHead>(connection, "to lock the heads", select).await?;
            self.heads.extend(heads.into_iter().map(|head| (head.thread_id.clone(), head)));
        }
        let any = !new.is_empty();
        self.sought.extend(new);
        Ok(any)
    }
}

async fn read_places(connection: &impl ConnectionTrait, statement: Statement) -> Result<Vec<Place>> {
    let found = rows(connection, "to look at the tree", statement).await?;
    found
        .iter()
        .map(|row| {
            let depth: i64 = row.try_get_by_index(3).map_err(unreadable)?;
            let lifecycle: String = row.try_get_by_index(2).map_err(unreadable)?;
            Ok(Place {
                thread_id: id(row.try_get_by_index(0).map_err(unreadable)?)?,
                parent_thread_id: row
                    .try_get_by_index::<Option<String>>(1)
                    .map_err(unreadable)?
                    .map(id)
                    .transpose()?,
                lifecycle: ThreadLifecycle::from_stored(&lifecycle),
                spawn_depth: u32::try_from(depth)
                    .map_err(|_| Error::corrupt("thread", "spawn_depth is out of range"))?,
            })
        })
        .collect()
}

fn id(stored: String) -> Result<ThreadId> {
    ThreadId::new(stored).map_err(|error| Error::corrupt("thread", error.to_string()))
}

/// The places of so many values in a statement, as `$3, $4`, after those that are there.
pub(super) fn list(values: &mut Vec<Value>, ids: &[ThreadId]) -> String {
    let from = values.len();
    values.extend(ids.iter().map(|id| Value::from(id.as_str())));
    (from + 1..=values.len()).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

/// Writes down which run spawned a thread no more, where it belongs now, and how deep it is.
pub(super) async fn give(connection: &impl ConnectionTrait, place: &Place) -> Result<()> {
    let backend = connection.get_database_backend();
    let parent = place.parent_thread_id.as_ref().map(ThreadId::as_str);
    let sql = "UPDATE threads SET parent_thread_id = $2, spawn_run_id = NULL, spawn_item_id = NULL, \
               spawn_depth = $3, kind = $4 WHERE thread_id = $1";
    let kind = if parent.is_some() { "subagent" } else { "root" };
    let values: Vec<Value> = vec![
        place.thread_id.as_str().into(),
        parent.into(),
        i64::from(place.spawn_depth).into(),
        kind.into(),
    ];
    execute(connection, "to give a thread away", Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let sql = "UPDATE thread_heads SET parent_thread_id = $2 WHERE thread_id = $1";
    let values: Vec<Value> = vec![place.thread_id.as_str().into(), parent.into()];
    execute(connection, "to give a thread away", Statement::from_sql_and_values(backend, sql, values))
        .await?;
    Ok(())
}

/// Writes down how deep a thread is.
pub(super) async fn lift(connection: &impl ConnectionTrait, place: &Place) -> Result<()> {
    let sql = "UPDATE threads SET spawn_depth = $2 WHERE thread_id = $1";
    let values: Vec<Value> = vec![place.thread_id.as_str().into(), i64::from(place.spawn_depth).into()];
    let update = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    execute(connection, "to lift a thread", update).await.map(drop)
}

/// The ids that a statement finds.
pub(super) async fn read_ids(
    connection: &impl ConnectionTrait,
    operation: &'static str,
    statement: Statement,
) -> Result<Vec<ThreadId>> {
    let found = rows(connection, operation, statement).await?;
    found.iter().map(|row| id(row.try_get_by_index(0).map_err(unreadable)?)).collect()
}
