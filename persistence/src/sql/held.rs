//! What only the worker that holds a run may do besides writing to its log: have a call of it let through, and
//! claim what it has open. Each is one transaction, judged by the run's epoch.

use runledger_core::{
    ClaimedItem, Error, ItemEntry, ItemId, Reservation, Reserve, Result, Run, RunId, Scope, ThreadId,
};
use sea_orm::{ConnectionTrait, Statement, Value};

use super::{execute, items, probe, record, runs, signed};
use crate::connect::Database;
use crate::entity::{run, thread_item};

/// Sets aside what a call may use.
pub(super) async fn reserve(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    epoch: u64,
    wanted: Reserve,
) -> Result<Reservation> {
    wanted.check()?;
    let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
    database
        .transaction("to reserve of a budget", move |txn| {
            let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
            Box::pin(async move {
                let mut stored = lock_held(txn, &scope, &thread, &run, epoch).await?;
                if let Some(limit) = stored.reserve(wanted.estimate, wanted.purpose) {
                    return Ok(Reservation::Refused(limit));
                }
                store_reserved(txn, &stored).await?;
                Ok(Reservation::Granted(Box::new(stored)))
            })
        })
        .await
}

/// Gives back what was set aside for what is not done.
pub(super) async fn release(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    epoch: u64,
    given: Reserve,
) -> Result<()> {
    let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
    database
        .transaction("to give back to a budget", move |txn| {
            let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
            Box::pin(async move {
                let mut stored = lock_held(txn, &scope, &thread, &run, epoch).await?;
                stored.release(given.estimate, given.purpose);
                store_reserved(txn, &stored).await
            })
        })
        .await
}

/// The run, which nobody else changes until the transaction ends, if it holds the slot under this epoch.
async fn lock_held(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    epoch: u64,
) -> Result<Run> {
    let head = probe::lock_head(connection, scope, thread).await?;
    let statement = runs::get(connection.get_database_backend(), scope, thread, run);
    let stored = record::<run::Model, Run>(connection, "to read the run", statement).await?;
    let stored = stored.ok_or_else(|| Error::not_found("run", run))?;
    head.require_held(run, epoch)?;
    Ok(stored)
}

async fn store_reserved(connection: &impl ConnectionTrait, run: &Run) -> Result<()> {
    let sql = "UPDATE runs SET iterations = $3, reserved_tokens = $4, reserved_cost_nanos = $5, \
               allowance_tokens = $6, allowance_cost_nanos = $7 WHERE thread_id = $1 AND run_id = $2";
    let values: Vec<Value> = vec![
        run.thread_id.as_str().into(),
        run.run_id.as_str().into(),
        signed(run.iterations).into(),
        signed(run.reserved.tokens).into(),
        signed(run.reserved.cost_nanos).into(),
        signed(run.allowances.tokens).into(),
        signed(run.allowances.cost_nanos).into(),
    ];
    let update = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    execute(connection, "to store what is reserved", update).await?;
    Ok(())
}

/// Claims an open item.
pub(super) async fn claim(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    item: &ItemId,
    epoch: u64,
) -> Result<ClaimedItem> {
    let (scope, thread, run, item) = (scope.clone(), thread.clone(), run.clone(), item.clone());
    database
        .transaction("to claim an item", move |txn| {
            let (scope, thread, run, item) = (scope.clone(), thread.clone(), run.clone(), item.clone());
            Box::pin(async move {
                let head = probe::lock_head(txn, &scope, &thread).await?;
                let statement = items::get(txn.get_database_backend(), &scope, &thread, &run, &item);
                let stored =
                    record::<thread_item::Model, ItemEntry>(txn, "to read the item", statement).await?;
                let mut entry = stored.ok_or_else(|| Error::not_found("item", &item))?;
                head.require_held(&run, epoch)?;
                let claimed_before = entry.claim(epoch)?;
                let sql = "UPDATE thread_items SET claimed_epoch = $4 \
                           WHERE thread_id = $1 AND run_id = $2 AND item_id = $3";
                let values: Vec<Value> = vec![
                    thread.as_str().into(),
                    run.as_str().into(),
                    item.as_str().into(),
                    signed(epoch).into(),
                ];
                let update = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
                execute(txn, "to claim an item", update).await?;
                Ok(ClaimedItem { item: entry, claimed_before })
            })
        })
        .await
}
