//! Leases, and which runs may be taken from their workers.

use std::time::Duration;

use runledger_core::commit::check_ttl;
use runledger_core::{
    CancelAction, Claim, Claimable, Error, Lease, ListRange, Result, RunId, Scope, Sweep, ThreadId,
    Timestamp, WorkerId, require_system,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryTrait, Statement, Value,
};

use super::{probe, record, records, rows, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::run_lease::{Column, Entity, Model};

pub(super) fn get(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, run: &RunId) -> Statement {
    Entity::find()
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::RunId.eq(run.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

/// Notes the action unless one is noted, and returns the lease.
pub(super) fn request_cancel(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    action: &CancelAction,
    at: Timestamp,
) -> Statement {
    let mut values: Vec<Value> =
        vec![thread.as_str().into(), run.as_str().into(), action.as_str().into(), at.to_chrono().into()];
    let owned = scope.owner().map(|owner| {
        values.push(owner.as_str().into());
        format!("AND h.owner_id = ${}", values.len())
    });
    let sql = format!(
        "UPDATE run_leases SET cancel_action = COALESCE(cancel_action, $3),
           cancel_requested_at = COALESCE(cancel_requested_at, $4)
         WHERE thread_id = $1 AND run_id = $2 AND EXISTS (
           SELECT 1 FROM thread_heads h
           WHERE h.thread_id = $1 AND h.state <> 'deleted' {})
         RETURNING thread_id, run_id, worker_id, epoch, expires_at, cancel_action, cancel_requested_at",
        owned.unwrap_or_default()
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// Extends what a worker holds, a lease that has ended too: nobody has taken the run, or it would be gone.
pub(super) fn renew(backend: DatabaseBackend, worker: &WorkerId, ttl: Duration) -> Statement {
    let mut values: Vec<Value> = vec![worker.as_str().into()];
    let until = dialect::later(backend, ttl, &mut values);
    // SQLite has one writer. On PostgreSQL leases are locked in the order in which the ends of runs
    // lock them, or the two would wait for each other.
    let (locked, of_worker) = match backend {
        DatabaseBackend::Postgres => (
            "WITH held(held_thread, held_run) AS MATERIALIZED (
               SELECT thread_id, run_id FROM run_leases WHERE worker_id = $1
               ORDER BY thread_id, run_id FOR UPDATE)",
            "FROM held WHERE thread_id = held_thread AND run_id = held_run",
        ),
        _ => ("", "WHERE worker_id = $1"),
    };
    let sql = format!(
        "{locked} UPDATE run_leases SET expires_at = {until} {of_worker}
         RETURNING thread_id, run_id, worker_id, epoch, expires_at, cancel_action, cancel_requested_at"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

pub(super) fn expired(backend: DatabaseBackend, grace: Duration, limit: u32) -> Statement {
    let mut values = Vec::new();
    let before = dialect::ago(backend, grace, &mut values);
    let sql = format!("SELECT thread_id, run_id FROM run_leases WHERE expires_at < {before} LIMIT {limit}");
    Statement::from_sql_and_values(backend, sql, values)
}

/// Active runs are few, and have an index.
pub(super) fn unleased(backend: DatabaseBackend, idle: Duration, limit: u32) -> Statement {
    let mut values = Vec::new();
    let before = dialect::ago(backend, idle, &mut values);
    let sql = format!(
        "SELECT r.thread_id, r.run_id FROM runs r
         JOIN thread_heads h ON h.thread_id = r.thread_id AND h.active_run_id = r.run_id
         WHERE r.status IN ('pending', 'running') AND h.updated_at <= {before} AND NOT EXISTS (
           SELECT 1 FROM run_leases l WHERE l.thread_id = r.thread_id AND l.run_id = r.run_id)
         LIMIT {limit}"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

pub(super) async fn lease(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<Option<Lease>> {
    let statement = get(database.reader.get_database_backend(), scope, thread, run);
    record::<Model, Lease>(&database.reader, "to read the lease", statement).await
}

pub(super) async fn cancel(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    action: &CancelAction,
    at: Timestamp,
) -> Result<Option<Lease>> {
    if action.as_str().contains('\0') {
        return Err(Error::invalid("cancel_action", "contains NUL"));
    }
    let operation = "to note the request";
    let statement = request_cancel(database.reader.get_database_backend(), scope, thread, run, action, at);
    let noted = database.transaction(operation, move |txn| {
        let statement = statement.clone();
        Box::pin(async move { record::<Model, Lease>(txn, operation, statement).await })
    });
    noted.await
}

pub(super) async fn renew_all(
    database: &Database,
    scope: &Scope,
    worker: &WorkerId,
    ttl: Duration,
) -> Result<Vec<Lease>> {
    require_system(scope)?;
    check_ttl(ttl)?;
    let operation = "to renew the leases";
    let worker = worker.clone();
    let renewed = database.renewal(operation, move |txn| {
        // SQLite's time is taken here, when nobody else writes any more: a wait takes nothing off a lease.
        let statement = renew(txn.get_database_backend(), &worker, ttl);
        Box::pin(async move { records::<Model, Lease>(txn, operation, statement).await })
    });
    renewed.await
}

pub(super) async fn claimable(
    database: &Database,
    scope: &Scope,
    sweep: &Sweep,
    limit: u32,
) -> Result<Vec<Claimable>> {
    require_system(scope)?;
    let limit = ListRange::newest(limit).checked_limit()?;
    let backend = database.reader.get_database_backend();
    let mut found = Vec::new();
    let mut asked = vec![(expired(backend, sweep.grace, limit), Claim::Expired { grace: sweep.grace })];
    if let Some(idle) = sweep.unleased {
        asked.push((unleased(backend, idle, limit), Claim::Unleased { idle }));
    }
    for (statement, claim) in asked {
        for row in rows(&database.reader, "to look for runs without a worker", statement).await? {
            let cell = |at| row.try_get_by_index::<String>(at).map_err(unreadable);
            found.push(Claimable {
                thread_id: ThreadId::try_from(cell(0)?)?,
                run_id: RunId::try_from(cell(1)?)?,
                claim,
            });
        }
    }
    found.truncate(limit as usize);
    Ok(found)
}
