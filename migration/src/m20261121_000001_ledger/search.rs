//! Full-text search: a view of the log that lags, and can be dropped and made anew.

use crate::table::{Index, Kind, Table, optional, required};

/// The text of an event, without its JSON. Who may see it is said by the thread's head alone.
pub(super) fn search_documents() -> Table {
    Table::new(
        "search_documents",
        &["thread_id", "seq"],
        [
            required("thread_id", Kind::Key),
            required("seq", Kind::Bigint),
            optional("run_id", Kind::Key),
            optional("item_id", Kind::Key),
            optional("item_kind", Kind::Key),
            required("created_at", Kind::Instant),
            required("text", Kind::Text),
            required("words", Kind::Words),
        ],
    )
    .words("search_words")
    .index(Index::of_words("ix_search_documents_words", &["words"]))
}

/// Up to which number each thread is indexed.
pub(super) fn search_progress() -> Table {
    Table::new(
        "search_progress",
        &["thread_id"],
        [required("thread_id", Kind::Key), required("indexed_seq", Kind::Bigint)],
    )
    .updated_in_place()
}
