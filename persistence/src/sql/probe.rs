//! Who may see a thread: the condition that every statement on a thread's rows carries.

use runledger_core::{Error, MAX_LIMIT, Result, Scope, ThreadHead, ThreadId};
use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    QueryTrait, Select, Statement, Value,
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

/// The heads of these threads, read by their keys in one statement whose text does not depend on their number. One that
/// cannot be read is left out: it must not hide the others from who watches them all.
pub(super) async fn heads(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    threads: &[ThreadId],
) -> Result<Vec<ThreadHead>> {
    if threads.len() > MAX_LIMIT as usize {
        let reason = format!("has {} ids; ask for at most {MAX_LIMIT}", threads.len());
        return Err(Error::invalid("threads", reason));
    }
    let backend = connection.get_database_backend();
    let given = match backend {
        DatabaseBackend::Postgres => "SELECT jsonb_array_elements_text($1::jsonb)",
        _ => "SELECT value FROM json_each($1)",
    };
    let ids = serde_json::Value::from_iter(threads.iter().map(ThreadId::as_str)).to_string();
    let mut values: Vec<Value> = vec![ids.into()];
    let mut sql = format!("SELECT * FROM thread_heads WHERE thread_id IN ({given}) AND state <> 'deleted'");
    if let Some(owner) = scope.owner() {
        sql.push_str(" AND owner_id = $2");
        values.push(owner.as_str().into());
    }
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let rows = rows(connection, "to look at threads", statement).await?;
    let heads =
        rows.iter().filter_map(|row| ThreadHead::try_from(Model::from_query_result(row, "").ok()?).ok());
    Ok(heads.collect())
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
