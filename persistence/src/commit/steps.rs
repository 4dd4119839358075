//! The rows that are written rarely: threads, admissions, starts, ends, completed usage. One
//! statement each, the same for both databases.

use runledger_core::{
    AgentRunId, AgentRunStatus, Answer, BlobHash, Compaction, HeadState, Interaction, InteractionStatus,
    NewAgentRun, NewLease, Outcome, RunId, SeqSpan, Thread, ThreadId, ThreadStatus, Timestamp, UsageRecord,
    text,
};

use super::decide::{BlobRow, NewRunRow, Step, Writes, thread_status};
use super::rows::{self, CHUNK, signed};
use super::statement::{Statement, Value};
use crate::dialect::Dialect;
use crate::entity::compaction::spans_text;
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
            Step::Finish { thread, run, agent_run, outcome, held_slot, at } => {
                statements.extend(finish(dialect, (thread, run), outcome, *held_slot, *at));
                statements.extend(agent_run.iter().map(|id| end_agent_run(dialect, id, outcome, *at)));
            }
            Step::Ask(interaction) => statements.push(insert_interaction(dialect, interaction)),
            Step::Fold(compaction) => statements.extend(fold(dialect, compaction)),
            Step::Resume { thread, run, epoch, lease, at } => {
                statements.push(change_hands(dialect, (thread, run), *epoch, *at, NOTHING_RESERVED));
                statements.push(delete(dialect, "run_leases", thread, run));
                statements
                    .extend(lease.iter().map(|lease| insert_lease(dialect, (thread, run), *epoch, lease)));
            }
            Step::Acquire { thread, run, epoch, lease, at } => {
                statements.push(change_hands(dialect, (thread, run), *epoch, *at, ""));
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
    statements.extend(writes.blobs.chunks(CHUNK).map(|rows| insert_blobs(dialect, rows)));
    // Then, for they count where the blob is there.
    statements.extend(writes.blob_uses.chunks(CHUNK).map(|uses| use_blobs(dialect, uses)));
    statements
}

/// The row of a run, and what comes with it: a lease, or the input it keeps while it waits.
fn admit(dialect: Dialect, row: &NewRunRow) -> Vec<Statement> {
    let mut statements = vec![insert_run(dialect, row)];
    statements.extend(row.admission.agent_run.iter().map(|new| insert_agent_run(dialect, row, new)));
    statements.extend(row.admission.answer.iter().map(|answer| answer_interaction(dialect, row, answer)));
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

/// Gives back what calls had set aside.
const NOTHING_RESERVED: &str = ", reserved_tokens = 0, reserved_cost_nanos = 0";

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
    update.push(NOTHING_RESERVED).push(", allowance_tokens = 0, allowance_cost_nanos = 0");
    of_run(&mut update, thread, run);
    let below = if held_slot { "run_leases" } else { "queued_inputs" };
    vec![update, delete(dialect, below, thread, run)]
}

/// The agent run whose transcript a run is.
fn insert_agent_run(dialect: Dialect, row: &NewRunRow, new: &NewAgentRun) -> Statement {
    let at = row.admission.created_at.to_chrono();
    let columns = [
        ("agent_run_id", new.agent_run_id.as_str().into()),
        ("agent", new.agent.as_str().into()),
        ("owner_id", row.owner.as_ref().map(|id| id.as_str()).into()),
        ("subject_id", new.subject_id.as_deref().into()),
        ("thread_id", row.thread.as_str().into()),
        ("run_id", row.run.as_str().into()),
        ("parent_agent_run_id", new.parent_agent_run_id.as_ref().map(|id| id.as_str()).into()),
        ("goal", new.goal.as_str().into()),
        ("status", AgentRunStatus::Running.as_str().into()),
        ("model", row.admission.model_name.as_deref().into()),
        ("started_at", at.into()),
        ("created_at", at.into()),
    ];
    insert_row(dialect, "agent_runs", columns)
}

fn end_agent_run(dialect: Dialect, id: &AgentRunId, outcome: &Outcome, at: Timestamp) -> Statement {
    let mut update = Statement::new(dialect, "UPDATE agent_runs SET status = ");
    update.bind(AgentRunStatus::of(outcome).as_str()).push(", error = ").bind(outcome.error.as_deref());
    update.push(", finished_at = ").bind(at.to_chrono());
    update.push(" WHERE agent_run_id = ").bind(id.as_str());
    update
}

fn insert_interaction(dialect: Dialect, asked: &Interaction) -> Statement {
    let columns = [
        ("thread_id", asked.thread_id.as_str().into()),
        ("interaction_id", asked.interaction_id.as_str().into()),
        ("owner_id", asked.owner_id.as_ref().map(|id| id.as_str()).into()),
        ("run_id", asked.run_id.as_str().into()),
        ("item_id", asked.item_id.as_ref().map(|id| id.as_str()).into()),
        ("kind", asked.kind.as_str().into()),
        ("request", asked.request.as_str().into()),
        ("status", asked.status.as_str().into()),
        ("created_at", asked.created_at.to_chrono().into()),
    ];
    insert_row(dialect, "interactions", columns)
}

fn answer_interaction(dialect: Dialect, row: &NewRunRow, answer: &Answer) -> Statement {
    let mut update = Statement::new(dialect, "UPDATE interactions SET status = ");
    update.bind(InteractionStatus::Answered.as_str()).push(", answer = ").bind(answer.value.as_str());
    update.push(", answer_run_id = ").bind(row.run.as_str());
    update.push(", answered_at = ").bind(row.admission.created_at.to_chrono());
    update.push(" WHERE thread_id = ").bind(row.thread.as_str());
    update.push(" AND interaction_id = ").bind(answer.interaction_id.as_str());
    update
}

/// The audit row of a fold, and its number as the head's last.
fn fold(dialect: Dialect, compaction: &Compaction) -> [Statement; 2] {
    let spans = |spans: &[SeqSpan]| spans_text(spans).into();
    let columns = [
        ("thread_id", compaction.thread_id.as_str().into()),
        ("compact_seq", signed(compaction.compact_seq).into()),
        ("note_seq", signed(compaction.note_seq).into()),
        ("folded", spans(&compaction.folded)),
        ("active_window", spans(&compaction.window)),
        ("through_seq", signed(compaction.through_seq).into()),
        ("before_tokens", signed(compaction.before_tokens).into()),
        ("after_tokens", signed(compaction.after_tokens).into()),
        ("round_index", compaction.round_index.map(signed).into()),
        ("run_id", compaction.run_id.as_str().into()),
        ("created_at", compaction.created_at.to_chrono().into()),
    ];
    let mut update = Statement::new(dialect, "UPDATE thread_heads SET last_compact_seq = ");
    update.bind(signed(compaction.compact_seq));
    update.push(" WHERE thread_id = ").bind(compaction.thread_id.as_str());
    [insert_row(dialect, "compactions", columns), update]
}

/// The epoch that a run has from now on.
fn change_hands(
    dialect: Dialect,
    (thread, run): (&ThreadId, &RunId),
    epoch: u64,
    at: Timestamp,
    besides: &str,
) -> Statement {
    let mut update = Statement::new(dialect, "UPDATE runs SET epoch = ");
    update.bind(signed(epoch)).push(", updated_at = ").bind(at.to_chrono()).push(besides);
    of_run(&mut update, thread, run);
    update
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
            Step::Acquire { .. }
            | Step::Promote { .. }
            | Step::Ask(_)
            | Step::Resume { .. }
            | Step::Fold(_) => {}
        }
    }
}

/// Who brings a blob that is there changes nothing.
fn insert_blobs(dialect: Dialect, rows: &[BlobRow]) -> Statement {
    let columns = ["thread_id", "blob_hash", "media_type", "bytes", "content"];
    let mut statement = insert(dialect, "blobs", &columns);
    for (number, row) in rows.iter().enumerate() {
        let (blob, thread) = (row.blob(), row.thread());
        let values = [
            thread.as_str().into(),
            blob.hash.as_str().into(),
            blob.media_type.as_str().into(),
            signed(blob.bytes.len() as u64).into(),
            Value::Bytes(blob.bytes.clone()),
        ];
        statement.push(if number == 0 { "" } else { "), (" });
        bind_all(&mut statement, values);
    }
    statement.push(") ON CONFLICT (thread_id, blob_hash) DO NOTHING");
    statement
}

fn use_blobs(dialect: Dialect, uses: &[(ThreadId, (u64, BlobHash))]) -> Statement {
    let mut statement = Statement::new(dialect, "WITH v(thread_id, seq, blob_hash) AS (VALUES ");
    for (number, (thread, (seq, hash))) in uses.iter().enumerate() {
        statement.push(if number == 0 { "(" } else { ", (" }).bind(thread.as_str());
        // A parameter that is only selected has no type of its own on PostgreSQL.
        statement.push(", CAST(").bind(signed(*seq)).push(" AS bigint), ").bind(hash.as_str()).push(")");
    }
    // SQLite looks up what is right of a CROSS JOIN for each row of what is left of it.
    statement.push(
        ") INSERT INTO event_blobs (thread_id, seq, blob_hash) \
         SELECT b.thread_id, v.seq, b.blob_hash FROM v CROSS JOIN blobs b \
         WHERE b.thread_id = v.thread_id AND b.blob_hash = v.blob_hash",
    );
    statement
}

fn insert(dialect: Dialect, table: &str, columns: &[&str]) -> Statement {
    Statement::new(dialect, format!("INSERT INTO {table} ({}) VALUES (", columns.join(", ")))
}

fn insert_row<const N: usize>(dialect: Dialect, table: &str, row: [(&str, Value); N]) -> Statement {
    let mut statement = insert(dialect, table, &row.each_ref().map(|(column, _)| *column));
    bind_all(&mut statement, row.map(|(_, value)| value));
    statement.push(")");
    statement
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
            "pinned",
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
            thread.pinned.into(),
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
            "agent_run_id",
            "payer_run_id",
            "max_tokens",
            "max_cost_nanos",
            "max_iterations",
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
            admission.agent_run.as_ref().map(|new| new.agent_run_id.as_str()).into(),
            admission.payer_run_id.as_ref().map(|id| id.as_str()).into(),
            admission.budget.max_tokens.map(signed).into(),
            admission.budget.max_cost_nanos.map(signed).into(),
            admission.budget.max_iterations.map(signed).into(),
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
