//! Who may see a thread: the condition that every statement on a thread's rows carries.

use runledger_core::{Error, Result, Scope, ThreadHead, ThreadId};
use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Select,
    Statement,
};

use super::{record, rows};
use crate::entity::thread_head::{Column, Entity, Model};

/// The head of a thread that exists for the scope.
pub(super) fn head_select(scope: &Scope, thread: &ThreadId) -> Select<Entity> {
    let select =
        Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(Column::State.ne("deleted"));
    match scope.owner() {
        Some(owner) => select.filter(Column::OwnerId.eq(owner.as_str())),
        None => select,
    }
}

/// True for every row where the thread exists for the scope, false for every row where it does not.
///
/// It does not look at the row it stands beside, so a database evaluates it once for a statement.
pub(super) fn visible(scope: &Scope, thread: &ThreadId) -> Expr {
    Expr::exists(probe(scope, thread))
}

fn probe(scope: &Scope, thread: &ThreadId) -> SelectStatement {
    let mut probe = Query::select();
    probe
        .expr(Expr::cust("1"))
        .from(Entity)
        .and_where(Column::ThreadId.eq(thread.as_str()))
        .and_where(Column::State.ne("deleted"));
    if let Some(owner) = scope.owner() {
        probe.and_where(Column::OwnerId.eq(owner.as_str()));
    }
    probe
}

/// The statement of [`require`].
pub(super) fn require_statement(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId) -> Statement {
    backend.build(&probe(scope, thread))
}

/// `NotFound` unless the thread exists for the scope: what an empty answer still has to ask.
pub(super) async fn require(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<()> {
    let statement = require_statement(connection.get_database_backend(), scope, thread);
    if rows(connection, "to look for the thread", statement).await?.is_empty() {
        return Err(Error::not_found("thread", thread));
    }
    Ok(())
}

/// Reads a thread's head.
pub(super) async fn head(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<ThreadHead> {
    let statement = head_select(scope, thread).build(connection.get_database_backend());
    record::<Model, ThreadHead>(connection, "to read the thread's head", statement)
        .await?
        .ok_or_else(|| Error::not_found("thread", thread))
}

/// Reads a thread's head and keeps everybody else from changing it until the transaction ends.
///
/// SQLite has no row locks and needs none: the transaction holds the one write lock already.
pub(super) async fn lock_head(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<ThreadHead> {
    let statement = head_select(scope, thread).lock_exclusive().build(connection.get_database_backend());
    record::<Model, ThreadHead>(connection, "to lock the thread's head", statement)
        .await?
        .ok_or_else(|| Error::not_found("thread", thread))
}

/// `Conflict` while a run holds the thread's slot.
pub(super) fn require_no_active_run(head: &ThreadHead) -> Result<()> {
    match &head.active_run_id {
        None => Ok(()),
        Some(run) => Err(Error::conflict("active run", "none", run)),
    }
}
