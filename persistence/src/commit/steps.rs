//! The rows that are written rarely: threads, admissions, starts, ends, completed usage. One
//! statement each, the same for both databases.

use runledger_core::{HeadState, Thread, ThreadId, ThreadStatus, Timestamp, UsageRecord, text};

use super::decide::{NewRunRow, Step, Writes, thread_status};
use super::rows::{self, signed};
use super::statement::{Statement, Value};
use crate::dialect::Dialect;

/// The statements for everything of `writes` but the rows of the hot path, to be run before it.
pub(super) fn statements(dialect: Dialect, writes: &Writes) -> Vec<Statement> {
    let mut statements = Vec::new();
    for thread in &writes.threads {
        statements.push(insert_thread(dialect, thread));
        statements.push(insert_head(dialect, thread));
    }
    for step in &writes.steps {
        statements.push(match step {
            Step::Admit(row) => insert_run(dialect, row),
            Step::Start { thread, run, at } => {
                let mut update = Statement::new(dialect, "UPDATE runs SET status = 'running', started_at = ");
                update.bind(at.to_chrono()).push(", updated_at = ").bind(at.to_chrono());
                update.push(" WHERE thread_id = ").bind(thread.as_str());
                update.push(" AND run_id = ").bind(run.as_str());
                update
            }
            Step::Finish { thread, run, outcome, at } => {
                let mut update = Statement::new(dialect, "UPDATE runs SET status = ");
                update.bind(outcome.status.status().as_str());
                update.push(", error = ").bind(outcome.error.as_deref());
                update.push(", stop_reason = ").bind(outcome.stop_reason.as_deref());
                update.push(", finished_at = ").bind(at.to_chrono());
                update.push(", updated_at = ").bind(at.to_chrono());
                update.push(" WHERE thread_id = ").bind(thread.as_str());
                update.push(" AND run_id = ").bind(run.as_str());
                update
            }
        });
        if let Some((thread, status, at)) = thread_status(step) {
            statements.push(update_thread(dialect, thread, &status, at));
        }
    }
    statements.extend(writes.completed.values().map(|call| complete_usage(dialect, call)));
    statements
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
            "pending".into(),
            "shown".into(),
            admission.operation_kind.as_str().into(),
            admission.multitask_strategy.as_str().into(),
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
