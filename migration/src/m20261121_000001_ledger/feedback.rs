//! What people think of runs and messages.

use sea_orm_migration::sea_query::{Expr, ExprTrait};

use crate::table::{Index, Kind, Table, optional, required};

/// What one person thinks of a run, or of one of its messages. Nobody has two opinions of the same; those of nobody
/// are not told apart.
pub(super) fn feedback() -> Table {
    Table::new(
        "feedback",
        &["thread_id", "feedback_id"],
        [
            required("thread_id", Kind::Key),
            required("feedback_id", Kind::Key),
            required("run_id", Kind::Key),
            optional("item_id", Kind::Key),
            optional("owner_id", Kind::Key),
            required("rating", Kind::Bigint),
            optional("comment", Kind::Text),
            required("created_at", Kind::Instant),
            required("updated_at", Kind::Instant),
        ],
    )
    .index(
        Index::unique("uq_feedback_run", &["thread_id", "run_id", "owner_id"])
            .only_where(Expr::col("item_id").is_null()),
    )
    .index(
        Index::unique("uq_feedback_item", &["thread_id", "run_id", "item_id", "owner_id"])
            .only_where(Expr::col("item_id").is_not_null()),
    )
    .index(Index::on("ix_feedback_created", &["thread_id", "created_at", "feedback_id"]))
    .index(Index::on("ix_feedback_run", &["thread_id", "run_id", "created_at", "feedback_id"]))
    .index(Index::on("ix_feedback_owner", &["owner_id"]).only_where(Expr::col("owner_id").is_not_null()))
}
