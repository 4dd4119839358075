//! Runs, and the leases that say which worker holds one.

use sea_orm_migration::sea_query::{Expr, ExprTrait};

use crate::table::{Index, Kind, Table, counter, optional, required};

/// One execution of an agent on a thread, with its totals and its budget.
pub(super) fn runs() -> Table {
    Table::new(
        "runs",
        &["thread_id", "run_id"],
        [
            required("thread_id", Kind::Key),
            required("run_id", Kind::Key),
            optional("owner_id", Kind::Key),
            optional("assistant_id", Kind::Key),
            required("status", Kind::Key),
            required("visibility", Kind::Key),
            required("operation_kind", Kind::Key),
            required("multitask_strategy", Kind::Key),
            optional("queue_no", Kind::Bigint),
            optional("idempotency_key", Kind::Key),
            optional("request_hash", Kind::Key),
            optional("model_name", Kind::Key),
            required("metadata", Kind::Json),
            required("kwargs", Kind::Json),
            optional("error", Kind::Text),
            optional("stop_reason", Kind::Text),
            optional("follow_up_to_run_id", Kind::Key),
            optional("parent_run_id", Kind::Key),
            optional("agent_run_id", Kind::Key),
            optional("payer_run_id", Kind::Key),
            required("epoch", Kind::Bigint),
            counter("input_tokens"),
            counter("output_tokens"),
            counter("total_tokens"),
            counter("cache_read_tokens"),
            counter("cache_write_tokens"),
            counter("reasoning_tokens"),
            counter("llm_calls"),
            counter("lead_agent_tokens"),
            counter("subagent_tokens"),
            counter("middleware_tokens"),
            counter("cost_nanos"),
            optional("max_tokens", Kind::Bigint),
            optional("max_cost_nanos", Kind::Bigint),
            optional("max_iterations", Kind::Bigint),
            counter("iterations"),
            counter("reserved_tokens"),
            counter("reserved_cost_nanos"),
            counter("allowance_tokens"),
            counter("allowance_cost_nanos"),
            optional("first_seq", Kind::Bigint),
            optional("last_seq", Kind::Bigint),
            counter("message_count"),
            optional("first_human_message", Kind::Text),
            optional("last_ai_message", Kind::Text),
            required("created_at", Kind::Instant),
            optional("started_at", Kind::Instant),
            optional("finished_at", Kind::Instant),
            required("updated_at", Kind::Instant),
        ],
    )
    .updated_in_place()
    .index(
        // The last defence of "at most one run is active on a thread".
        Index::unique("uq_runs_active", &["thread_id"])
            .only_where(Expr::col("status").is_in(["pending", "running"])),
    )
    .index(
        Index::unique("uq_runs_idempotency", &["thread_id", "idempotency_key"])
            .only_where(Expr::col("idempotency_key").is_not_null()),
    )
    .index(
        Index::on("ix_runs_queued", &["thread_id", "queue_no"]).only_where(Expr::col("status").eq("queued")),
    )
    .index(Index::on("ix_runs_thread_created", &["thread_id", "created_at", "run_id"]))
    .index(Index::on("ix_runs_owner_created", &["owner_id", "created_at", "run_id", "thread_id"]))
    .index(Index::on("ix_runs_created", &["created_at", "run_id", "thread_id"]))
    .index(Index::on("ix_runs_run", &["run_id"]))
    .index(
        // Few, and asked for by every reader of messages. The last, for SQLite takes the newest of those it deems equal.
        Index::on("ix_runs_hidden", &["thread_id", "run_id"]).only_where(Expr::col("visibility").ne("shown")),
    )
}

/// What a queued run brings to the log when it gets the slot, and who holds it then. Apart, so that
/// lists of runs do not read it.
pub(super) fn queued_inputs() -> Table {
    Table::new(
        "queued_inputs",
        &["thread_id", "run_id"],
        [
            required("thread_id", Kind::Key),
            required("run_id", Kind::Key),
            required("input", Kind::Text),
            optional("worker_id", Kind::Key),
            optional("lease_micros", Kind::Bigint),
        ],
    )
}

/// Who holds a run until when. Heartbeats touch this narrow row and nothing else.
pub(super) fn run_leases() -> Table {
    Table::new(
        "run_leases",
        &["thread_id", "run_id"],
        [
            required("thread_id", Kind::Key),
            required("run_id", Kind::Key),
            required("worker_id", Kind::Key),
            required("epoch", Kind::Bigint),
            required("expires_at", Kind::Instant),
            optional("cancel_action", Kind::Key),
            optional("cancel_requested_at", Kind::Instant),
        ],
    )
    .index(Index::on("ix_run_leases_expires", &["expires_at"]))
    .index(Index::on("ix_run_leases_worker", &["worker_id"]))
}
