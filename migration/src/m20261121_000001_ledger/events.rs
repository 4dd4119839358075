//! The log of a thread and what is kept about it: the item index, folds and deletions.

use sea_orm_migration::sea_query::{Expr, ExprTrait};

use crate::table::{Index, Kind, Table, optional, required};

/// The append-only log, the authority of everything. It has as few indexes as reading allows:
/// a run is the key range between its first and last seq, so there is none by run.
pub(super) fn run_events() -> Table {
    Table::new(
        "run_events",
        &["thread_id", "seq"],
        [
            required("thread_id", Kind::Key),
            required("seq", Kind::Bigint),
            optional("run_id", Kind::Key),
            optional("journal_ordinal", Kind::Bigint),
            optional("once_key", Kind::Key),
            required("event_type", Kind::Key),
            required("category", Kind::Key),
            optional("caller", Kind::Key),
            optional("task_id", Kind::Key),
            optional("item_id", Kind::Key),
            optional("item_kind", Kind::Key),
            optional("item_status", Kind::Key),
            optional("call_id", Kind::Key),
            optional("parent_item_id", Kind::Key),
            required("content", Kind::Text),
            required("content_bytes", Kind::Bigint),
            required("truncated", Kind::Boolean),
            optional("metadata", Kind::Text),
            required("created_at", Kind::Instant),
        ],
    )
    .index(
        Index::on("ix_run_events_messages", &["thread_id", "seq"])
            .only_where(Expr::col("category").is_in(["message", "reasoning"])),
    )
    .index(
        Index::unique("uq_run_events_once", &["thread_id", "run_id", "once_key"])
            .only_where(Expr::col("once_key").is_not_null()),
    )
}

/// Where each item starts and ends in the log: an index, never a copy.
pub(super) fn thread_items() -> Table {
    Table::new(
        "thread_items",
        &["thread_id", "run_id", "item_id"],
        [
            required("thread_id", Kind::Key),
            required("run_id", Kind::Key),
            required("item_id", Kind::Key),
            required("item_kind", Kind::Key),
            required("status", Kind::Key),
            required("started_seq", Kind::Bigint),
            optional("completed_seq", Kind::Bigint),
            required("updated_seq", Kind::Bigint),
            required("started_at", Kind::Instant),
            optional("completed_at", Kind::Instant),
            optional("parent_item_id", Kind::Key),
            optional("call_id", Kind::Key),
            optional("caller", Kind::Key),
            optional("claimed_epoch", Kind::Bigint),
        ],
    )
    .index(Index::on("ix_thread_items_started", &["thread_id", "started_seq"]))
    .index(Index::on("ix_thread_items_updated", &["thread_id", "updated_seq"]))
    .index(
        Index::on("ix_thread_items_open", &["thread_id", "started_seq"])
            .only_where(Expr::col("status").eq("in_progress")),
    )
    .index(
        // Summaries of turns look for the first and the last message amid whatever else a run did.
        Index::on("ix_thread_items_messages", &["thread_id", "started_seq"])
            .only_where(Expr::col("item_kind").is_in(["agent_message", "user_message"])),
    )
}

/// One fold of the context window: what went into the note and what is active after it.
pub(super) fn compactions() -> Table {
    Table::new(
        "compactions",
        &["thread_id", "compact_seq"],
        [
            required("thread_id", Kind::Key),
            required("compact_seq", Kind::Bigint),
            required("note_seq", Kind::Bigint),
            required("folded", Kind::Text),
            required("active_window", Kind::Text),
            required("through_seq", Kind::Bigint),
            required("before_tokens", Kind::Bigint),
            required("after_tokens", Kind::Bigint),
            optional("round_index", Kind::Bigint),
            required("run_id", Kind::Key),
            required("created_at", Kind::Instant),
        ],
    )
}

/// A range of numbers whose events were deleted, so that a gap in the log is explained. A thread that was deleted
/// has one from 0, which no event has.
pub(super) fn deletions() -> Table {
    Table::new(
        "deletions",
        &["thread_id", "from_seq"],
        [
            required("thread_id", Kind::Key),
            required("from_seq", Kind::Bigint),
            required("through_seq", Kind::Bigint),
            required("reason", Kind::Text),
            optional("deleted_by", Kind::Key),
            required("deleted_at", Kind::Instant),
        ],
    )
    .index(Index::on("ix_deletions_deleted", &["deleted_at", "thread_id", "from_seq"]))
    .index(Index::on("ix_deletions_thread", &["thread_id", "deleted_at", "from_seq"]))
    .index(Index::on("ix_deletions_by", &["deleted_by"]).only_where(Expr::col("deleted_by").is_not_null()))
}

/// A question to a person that a run ended with, and the answer another run began with.
pub(super) fn interactions() -> Table {
    Table::new(
        "interactions",
        &["thread_id", "interaction_id"],
        [
            required("thread_id", Kind::Key),
            required("interaction_id", Kind::Key),
            optional("owner_id", Kind::Key),
            required("run_id", Kind::Key),
            optional("item_id", Kind::Key),
            required("kind", Kind::Key),
            required("request", Kind::Text),
            required("status", Kind::Key),
            optional("answer", Kind::Text),
            optional("answer_run_id", Kind::Key),
            required("created_at", Kind::Instant),
            optional("answered_at", Kind::Instant),
        ],
    )
    .index(Index::on("ix_interactions_thread", &["thread_id", "created_at", "interaction_id"]))
    .index(Index::on("ix_interactions_owner", &["owner_id", "created_at", "interaction_id", "thread_id"]))
    .index(Index::on("ix_interactions_created", &["created_at", "interaction_id", "thread_id"]))
}
