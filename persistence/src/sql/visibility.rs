//! Runs that readers leave out. Each change is one transaction under the lock of the head row.

use runledger_core::{Error, Result, Run, RunId, Scope, ThreadId, Visibility};
use sea_orm::{ConnectionTrait, Statement, Value};

use super::{execute, probe, record, rows, runs, unreadable};
use crate::connect::Database;
use crate::entity::run::Model;

/// Shows or hides a run that has ended.
pub(super) async fn set(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    visibility: &Visibility,
) -> Result<Run> {
    if visibility.as_str().contains('\0') {
        return Err(Error::invalid("visibility", "contains NUL"));
    }
    let (scope, thread, run, visibility) = (scope.clone(), thread.clone(), run.clone(), visibility.clone());
    database
        .transaction("to show or hide the run", move |txn| {
            let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
            let visibility = visibility.clone();
            Box::pin(async move {
                probe::lock_head(txn, &scope, &thread).await?;
                let stored = get(txn, &scope, &thread, &run).await?;
                if !stored.status.is_terminal() {
                    return Err(Error::conflict("run status", "an ended run", &stored.status));
                }
                let sql = "UPDATE runs SET visibility = $3 WHERE thread_id = $1 AND run_id = $2";
                let values: Vec<Value> =
                    vec![thread.as_str().into(), run.as_str().into(), visibility.as_str().into()];
                let update = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
                execute(txn, "to show or hide the run", update).await?;
                Ok(Run { visibility, ..stored })
            })
        })
        .await
}

/// Hides a run and every later one; epochs grow with each admission.
pub(super) async fn rewind(
    database: &Database,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<Vec<RunId>> {
    let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
    database
        .transaction("to rewind the thread", move |txn| {
            let (scope, thread, run) = (scope.clone(), thread.clone(), run.clone());
            Box::pin(async move {
                let head = probe::lock_head(txn, &scope, &thread).await?;
                probe::require_no_active_run(&head)?;
                let from = get(txn, &scope, &thread, &run).await?.epoch;
                // A run that ended in the queue has no epoch, and none is later.
                let (undone, value): (_, Value) = match from {
                    0 => ("run_id = $2", run.as_str().into()),
                    from => ("epoch >= $2", super::signed(from).into()),
                };
                let sql = format!(
                    "UPDATE runs SET visibility = 'rolled_back'
                     WHERE thread_id = $1 AND {undone} AND visibility = 'shown' RETURNING run_id, epoch"
                );
                let values: Vec<Value> = vec![thread.as_str().into(), value];
                let update = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
                let mut undone = Vec::new();
                for row in rows(txn, "to rewind the thread", update).await? {
                    let run: String = row.try_get_by_index(0).map_err(unreadable)?;
                    let epoch: i64 = row.try_get_by_index(1).map_err(unreadable)?;
                    undone.push((epoch, RunId::try_from(run)?));
                }
                undone.sort();
                Ok(undone.into_iter().map(|(_, run)| run).collect())
            })
        })
        .await
}

async fn get(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<Run> {
    let statement = runs::get(connection.get_database_backend(), scope, thread, run);
    record::<Model, Run>(connection, "to read the run", statement)
        .await?
        .ok_or_else(|| Error::not_found("run", run))
}
