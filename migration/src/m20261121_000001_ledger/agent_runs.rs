//! Agent runs: a goal with its whole transcript in one record.

use sea_orm_migration::sea_query::{Expr, ExprTrait};

use super::AGENT_RUNS;
use crate::table::{Index, Kind, Table, counter, optional, required};

/// A goal-driven run as one record. It has its own id because it may exist without a thread. Where
/// `steps` is NULL they are in the log of its thread.
pub(super) fn agent_runs() -> Table {
    Table::new(
        AGENT_RUNS,
        &["agent_run_id"],
        [
            required("agent_run_id", Kind::Key),
            required("agent", Kind::Key),
            optional("owner_id", Kind::Key),
            optional("subject_id", Kind::Key),
            optional("thread_id", Kind::Key),
            optional("run_id", Kind::Key),
            optional("parent_agent_run_id", Kind::Key),
            required("goal", Kind::Text),
            required("status", Kind::Key),
            optional("output", Kind::Text),
            optional("steps", Kind::Json),
            counter("iterations"),
            counter("tool_calls"),
            counter("input_tokens"),
            counter("output_tokens"),
            optional("cost_nanos", Kind::Bigint),
            optional("latency_ms", Kind::Bigint),
            optional("model", Kind::Key),
            optional("confidence", Kind::Double),
            optional("error", Kind::Text),
            required("started_at", Kind::Instant),
            optional("finished_at", Kind::Instant),
            required("created_at", Kind::Instant),
        ],
    )
    .index(
        Index::on("ix_agent_runs_owner_created", &["owner_id", "created_at", "agent_run_id"])
            .only_where(Expr::col("owner_id").is_not_null()),
    )
    .index(Index::on("ix_agent_runs_created", &["created_at", "agent_run_id"]))
    .index(Index::on("ix_agent_runs_agent", &["agent", "created_at", "agent_run_id"]))
    .index(
        Index::on("ix_agent_runs_parent", &["parent_agent_run_id", "created_at", "agent_run_id"])
            .only_where(Expr::col("parent_agent_run_id").is_not_null()),
    )
    .index(
        // Those whose steps are in the log only.
        Index::on("ix_agent_runs_unfolded", &["agent_run_id"]).only_where(Expr::col("steps").is_null()),
    )
    .index(Index::on("ix_agent_runs_thread", &["thread_id", "run_id"]))
}
