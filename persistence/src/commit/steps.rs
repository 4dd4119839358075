//! The rows that are written rarely: threads, admissions, starts, ends, completed usage. One
//! statement each, the same for both databases.

use runledger_core::{
    HeadState, NewLease, Outcome, RunId, Thread, ThreadId, ThreadStatus, Timestamp, UsageRecord, text,
};

use super::decide::{NewRunRow, Step, Writes, thread_status};
use super::rows::{self, signed};
use super::statement::{Statement, Value};
use crate::dialect::Dialect;
#[cfg(feature = "failpoints")]
use crate::fail_point::FailPoint;

/// The statements for everything of `writes` but the rows of the hot path, to be run before it.
pub(super) fn statements(dialect: Dialect, writes: &Writes) -> Vec<Statement> {
    let mut statements = Vec::new();
    for thread in &writes.threads {
        statements.push(insert_thread(dialect, thread));
        statements.push(insert_head(dialect, thread));
    }
    for step in &writes.steps {
        match step {
            Step::Admit(row) => statements.extend(admit(dialect, row)),
            Step::Start { thread, run, at } => {
                let mut update = Statement::new(dialect, "UPDATE runs SET status = 'running', started_at = ");
                update.bind(at.to_chrono()).push(", updated_at = ").bind(at.to_chrono());
                of_run(&mut update, thread, run);
                statements.push(update);
            }
            Step::Finish { thread, run, outcome, held_slot, at } => {
                statements.extend(finish(dialect, (thread, run), outcome, *held_slot, *at));
            }
            Step::Acquire { thread, run, epoch, lease, at } => {
                let mut update = Statement::new(dialect, "UPDATE runs SET epoch = ");
                update.bind(signed(*epoch)).push(", updated_at = ").bind(at.to_chrono());
                of_run(&mut update, thread, run);
                statements.push(update);
                statements.push(insert_lease(dialect, (thread, run), *epoch, lease));
            }
            Step::Promote { thread, run, epoch, lease, at } => {
                let mut update =
                    Statement::new(dialect, "UPDATE runs SET status = 'pending', queue_no = NULL");
                update.push(", epoch = ").bind(signed(*epoch)).push(", updated_at = ").bind(at.to_chrono());
                of_run(&mut update, thread, run);
                statements.push(update);
                statements.push(delete(dialect, "queued_inputs", thread, run));
                statements
                    .extend(lease.iter().map(|lease| insert_lease(dialect, (thread, run), *epoch, lease)));
            }
        }
        if let Some((thread, status, at)) = thread_status(step) {
            statements.push(update_thread(dialect, thread, &status, at));
        }
    }
    statements.extend(writes.completed.values().map(|call| complete_usage(dialect, call)));
    statements
}

/// The row of a run, and what comes with it: a lease, or the input it keeps while it waits.
fn admit(dialect: Dialect, row: &NewRunRow) -> Vec<Statement> {
    let mut statements = vec![insert_run(dialect, row)];
    match (&row.queued, &row.admission.lease) {
        (Some((_, input)), _) => {
            let columns = ["thread_id", "run_id", "input", "worker_id", "lease_micros"];
            let mut statement = insert(dialect, "queued_inputs", &columns);
            // What was checked has a JSON form.
            let input = serde_json::to_string(input).unwrap_or_else(|_| "[]".to_owned());
            let lease = row.admission.lease.as_ref();
            let micros = lease.map(|lease| i64::try_from(lease.ttl.as_micros()).unwrap_or(i64::MAX));
            bind_all(
                &mut statement,
                [
                    row.thread.as_str().into(),
                    row.run.as_str().into(),
                    input.into(),
                    lease.map(|lease| lease.worker_id.as_str()).into(),
                    micros.into(),
                ],
            );
            statement.push(")");
            statements.push(statement);
        }
        (None, Some(lease)) => {
            statements.push(insert_lease(dialect, (&row.thread, &row.run), row.epoch, lease));
        }
        (None, None) => {}
    }
    statements
}

/// How a run ended, and the end of its lease. A run without the slot waited in the queue.
fn finish(
    dialect: Dialect,
    (thread, run): (&ThreadId, &RunId),
    outcome: &Outcome,
    held_slot: bool,
    at: Timestamp,
) -> Vec<Statement> {
    let mut update = Statement::new(dialect, "UPDATE runs SET status = ");
    update.bind(outcome.status.status().as_str());
    update.push(", visibility = ").bind(outcome.visibility().as_str());
    update.push(", error = ").bind(outcome.error.as_deref());
    update.push(", stop_reason = ").bind(outcome.stop_reason.as_deref());
    update.push(", finished_at = ").bind(at.to_chrono());
    update.push(", updated_at = ").bind(at.to_chrono()).push(", queue_no = NULL");
    of_run(&mut update, thread, run);
    let below = if held_slot { "run_leases" } else { "queued_inputs" };
    vec![update, delete(dialect, below, thread, run)]
}

fn of_run(statement: &mut Statement, thread: &ThreadId, run: &RunId) {
    statement.push(" WHERE thread_id = ").bind(thread.as_str()).push(" AND run_id = ").bind(run.as_str());
}

fn delete(dialect: Dialect, table: &str, thread: &ThreadId, run: &RunId) -> Statement {
    let mut statement = Statement::new(dialect, format!("DELETE FROM {table}"));
    of_run(&mut statement, thread, run);
    statement
}

fn insert_lease(
    dialect: Dialect,
    (thread, run): (&ThreadId, &RunId),
    epoch: u64,
    lease: &NewLease,
) -> Statement {
    let mut statement =
        insert(dialect, "run_leases", &["thread_id", "run_id", "worker_id", "epoch", "expires_at"]);
    bind_all(
        &mut statement,
        [thread.as_str().into(), run.as_str().into(), lease.worker_id.as_str().into(), signed(epoch).into()],
    );
    statement.push(", ").bind_later(lease.ttl).push(")");
    statement
}

/// The places at which tests end the process once these rows are written.
#[cfg(feature = "failpoints")]
pub(super) fn written(writes: &Writes) {
    for step in &writes.steps {
        match step {
            Step::Admit(_) => FailPoint::AdmissionWritten.reach(),
            Step::Start { .. } => FailPoint::StartWritten.reach(),
            Step::Finish { .. } => FailPoint::FinishWritten.reach(),
            Step::Acquire { .. } | Step::Promote { .. } => {}
        }
    }
}

fn insert(dialect: Dialect, table: &str, columns: &[&str]) -> Statement {
    Statement::new(dialect, format!("INSERT INTO {table} ({}) VALUES (", columns.join(", ")))
}

fn bind_all(statement: &mut Statement, values: impl IntoIterator<Item = Value>) {
    for (number, value) in values.into_iter().enumerate() {
        statement.push(if number == 0 { "" } else { ", " }).bind(value);
    }
}

fn insert_thread(dialect: Dialect, thread: &Thread) -> Statement {
    let mut statement = insert(
        dialect,
        "threads",
        &[
            "thread_id",
            "owner_id",
            "assistant_id",
            "display_name",
            "status",
            "kind",
            "spawn_depth",
            "lifecycle",
            "system_prompt",
            "model",
            "created_at",
            "updated_at",
            "config",
            "metadata",
        ],
    );
    bind_all(
        &mut statement,
        [
            thread.thread_id.as_str().into(),
            thread.owner_id.as_ref().map(|id| id.as_str()).into(),
            thread.assistant_id.as_ref().map(|id| id.as_str()).into(),
            thread.display_name.as_deref().into(),
            thread.status.as_str().into(),
            thread.kind.as_str().into(),
            i64::from(thread.spawn_depth).into(),
            thread.lifecycle.as_str().into(),
            thread.system_prompt.as_deref().into(),
            thread.model.as_deref().into(),
            thread.created_at.to_chrono().into(),
            thread.updated_at.to_chrono().into(),
        ],
    );
    for document in [&thread.config, &thread.metadata] {
        statement.push(", ").bind_json(text::escape_jsonb(document.as_str()).into_owned());
    }
    statement.push(")");
    statement
}

fn insert_head(dialect: Dialect, thread: &Thread) -> Statement {
    let mut statement =
        insert(dialect, "thread_heads", &["thread_id", "owner_id", "state", "next_seq", "updated_at"]);
    bind_all(
        &mut statement,
        [
            thread.thread_id.as_str().into(),
            thread.owner_id.as_ref().map(|id| id.as_str()).into(),
            HeadState::Open.as_str().into(),
            1_i64.into(),
            thread.created_at.to_chrono().into(),
        ],
    );
    statement.push(")");
    statement
}

fn insert_run(dialect: Dialect, row: &NewRunRow) -> Statement {
    let admission = &row.admission;
    let mut statement = insert(
        dialect,
        "runs",
        &[
            "thread_id",
            "run_id",
            "owner_id",
            "assistant_id",
            "status",
            "visibility",
            "operation_kind",
            "multitask_strategy",
            "queue_no",
            "idempotency_key",
            "request_hash",
            "model_name",
            "follow_up_to_run_id",
            "parent_run_id",
            "epoch",
            "first_human_message",
            "created_at",
            "updated_at",
            "metadata",
            "kwargs",
        ],
    );
    bind_all(
        &mut statement,
        [
            row.thread.as_str().into(),
            row.run.as_str().into(),
            row.owner.as_ref().map(|id| id.as_str()).into(),
            admission.assistant_id.as_ref().map(|id| id.as_str()).into(),
            if row.queued.is_none() { "pending" } else { "queued" }.into(),
            "shown".into(),
            admission.operation_kind.as_str().into(),
            admission.multitask_strategy.as_str().into(),
            row.queued.as_ref().map(|(number, _)| signed(*number)).into(),
            admission.idempotency_key.as_deref().into(),
            admission.request_hash.as_deref().into(),
            admission.model_name.as_deref().into(),
            admission.follow_up_to_run_id.as_ref().map(|id| id.as_str()).into(),
            admission.parent_run_id.as_ref().map(|id| id.as_str()).into(),
            signed(row.epoch).into(),
            admission.first_human_message.as_deref().into(),
            admission.created_at.to_chrono().into(),
            admission.created_at.to_chrono().into(),
        ],
    );
    for document in [&admission.metadata, &admission.kwargs] {
        statement.push(", ").bind_json(text::escape_jsonb(document.as_str()).into_owned());
    }
    statement.push(")");
    statement
}

fn update_thread(dialect: Dialect, thread: &ThreadId, status: &ThreadStatus, at: Timestamp) -> Statement {
    let mut update = Statement::new(dialect, "UPDATE threads SET status = ");
    update.bind(status.as_str()).push(", updated_at = ").bind(at.to_chrono());
    update.push(" WHERE thread_id = ").bind(thread.as_str());
    update
}

/// Writes a model call anew, but for its key: the first two columns.
fn complete_usage(dialect: Dialect, call: &UsageRecord) -> Statement {
    let mut update = Statement::new(dialect, "UPDATE usage_records SET ");
    let columns = rows::USAGE.iter().map(|(column, _)| *column).zip(rows::call(call));
    for (number, (column, value)) in columns.skip(2).enumerate() {
        update.push(if number == 0 { "" } else { ", " }).push(column).push(" = ").bind(value);
    }
    update.push(" WHERE thread_id = ").bind(call.thread_id.as_str());
    update.push(" AND source_id = ").bind(call.source_id.as_str());
    update
}
