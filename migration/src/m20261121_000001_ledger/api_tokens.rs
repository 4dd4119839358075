//! Tokens of an API.

use crate::table::{Index, Kind, Table, optional, required};

/// A token by what it hashes to. It is no thread's, so its keys are its own.
pub(super) fn api_tokens() -> Table {
    Table::new(
        "api_tokens",
        &["token_id"],
        [
            required("token_id", Kind::Key),
            required("token_hash", Kind::Key),
            optional("owner_id", Kind::Key),
            optional("label", Kind::Text),
            required("created_at", Kind::Instant),
            optional("expires_at", Kind::Instant),
            optional("revoked_at", Kind::Instant),
        ],
    )
    .index(Index::unique("uq_api_tokens_hash", &["token_hash"]))
    .index(Index::on("ix_api_tokens_created", &["created_at", "token_id"]))
    .index(Index::on("ix_api_tokens_owner", &["owner_id", "created_at", "token_id"]))
}
