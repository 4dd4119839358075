//! What model calls cost.

use crate::table::{Index, Kind, Table, counter, optional, required};

/// One row per model call, failed ones too; `source_id` makes counting a call twice impossible.
pub(super) fn usage_records() -> Table {
    Table::new(
        "usage_records",
        &["thread_id", "source_id"],
        [
            required("thread_id", Kind::Key),
            required("source_id", Kind::Key),
            optional("owner_id", Kind::Key),
            optional("run_id", Kind::Key),
            optional("round_index", Kind::Bigint),
            required("caller", Kind::Key),
            optional("provider", Kind::Key),
            optional("model", Kind::Key),
            counter("input_tokens"),
            counter("output_tokens"),
            counter("total_tokens"),
            counter("cache_read_tokens"),
            counter("cache_write_tokens"),
            counter("reasoning_tokens"),
            optional("cost_nanos", Kind::Bigint),
            optional("price_table", Kind::Text),
            required("estimated", Kind::Boolean),
            optional("latency_ms", Kind::Bigint),
            optional("child_thread_id", Kind::Key),
            optional("raw", Kind::Text),
            required("created_at", Kind::Instant),
        ],
    )
    .index(Index::on("ix_usage_records_run", &["thread_id", "run_id", "source_id"]))
    .index(Index::on("ix_usage_records_owner", &["owner_id", "created_at"]))
    .index(Index::on("ix_usage_records_created", &["created_at"]))
}
