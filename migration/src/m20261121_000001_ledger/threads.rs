//! Threads: the row people list, and the hot row that every append takes first.

use sea_orm_migration::sea_query::{Expr, ExprTrait};

use crate::table::{Index, Kind, Table, counter, optional, required};

/// One conversation. Wide and written rarely, so it is apart from `thread_heads`.
pub(super) fn threads() -> Table {
    Table::new(
        "threads",
        &["thread_id"],
        [
            required("thread_id", Kind::Key),
            optional("owner_id", Kind::Key),
            optional("assistant_id", Kind::Key),
            optional("display_name", Kind::Text),
            required("status", Kind::Key),
            required("kind", Kind::Key),
            optional("parent_thread_id", Kind::Key),
            optional("spawn_run_id", Kind::Key),
            optional("spawn_item_id", Kind::Key),
            counter("spawn_depth"),
            required("lifecycle", Kind::Key),
            optional("forked_from_thread_id", Kind::Key),
            optional("forked_at_seq", Kind::Bigint),
            optional("system_prompt", Kind::Text),
            optional("model", Kind::Text),
            required("config", Kind::Json),
            required("metadata", Kind::Json),
            required("pinned", Kind::Boolean),
            optional("archived_at", Kind::Instant),
            required("created_at", Kind::Instant),
            required("updated_at", Kind::Instant),
        ],
    )
    .index(
        // Few, and looked through by every sweep.
        Index::on("ix_threads_ephemeral", &["updated_at", "thread_id"])
            .only_where(Expr::col("lifecycle").eq("ephemeral")),
    )
    .index(Index::on("ix_threads_owner_listed", &["owner_id", "pinned", "updated_at", "thread_id"]))
    .index(Index::on("ix_threads_listed", &["pinned", "updated_at", "thread_id"]))
    .index(
        Index::on("ix_threads_parent", &["parent_thread_id", "created_at", "thread_id"])
            .only_where(Expr::col("parent_thread_id").is_not_null()),
    )
}

/// What an append must check, and the next number of the log. Narrow, updated by every commit,
/// with no index over what an append changes, so that an update stays on its page. A deleted thread keeps
/// its row: its numbers are never used again, and what it took counts in its parent's tree.
pub(super) fn thread_heads() -> Table {
    Table::new(
        "thread_heads",
        &["thread_id"],
        [
            required("thread_id", Kind::Key),
            optional("owner_id", Kind::Key),
            optional("parent_thread_id", Kind::Key),
            required("state", Kind::Key),
            required("next_seq", Kind::Bigint),
            counter("message_count"),
            optional("active_run_id", Kind::Key),
            counter("epoch"),
            counter("journal_ordinal"),
            optional("last_compact_seq", Kind::Bigint),
            required("updated_at", Kind::Instant),
        ],
    )
    .updated_in_place()
    .index(
        Index::on("ix_thread_heads_parent", &["parent_thread_id"])
            .only_where(Expr::col("parent_thread_id").is_not_null()),
    )
    .index(
        // Tombstones still say whose they were.
        Index::on("ix_thread_heads_deleted", &["owner_id"]).only_where(Expr::col("state").eq("deleted")),
    )
}
