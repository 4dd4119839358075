//! Where an import stands, and what it or a projector could not read.

use crate::table::{Kind, Table, optional, required};

/// A record that could not be read, with its reason. It stands beside the log, so one bad
/// record stops nothing. An import without a thread puts the identity of its source in
/// `thread_id`.
pub(super) fn quarantine() -> Table {
    Table::new(
        "quarantine",
        &["thread_id", "quarantine_id"],
        [
            required("thread_id", Kind::Key),
            required("quarantine_id", Kind::Key),
            optional("seq", Kind::Bigint),
            optional("source", Kind::Text),
            required("reason", Kind::Text),
            required("content_hash", Kind::Key),
            optional("content", Kind::Text),
            required("created_at", Kind::Instant),
        ],
    )
}

/// How far a source was read, so that the same file again writes nothing. Keyed by the source:
/// one may hold many threads.
pub(super) fn import_cursors() -> Table {
    Table::new(
        "import_cursors",
        &["source"],
        [
            required("source", Kind::Key),
            required("byte_offset", Kind::Bigint),
            optional("last_line_hash", Kind::Key),
            optional("thread_id", Kind::Key),
            required("updated_at", Kind::Instant),
        ],
    )
}
