//! Large parts of payloads, and which events name them.

use crate::table::{Index, Kind, Table, required};

/// A large part of a payload, once per thread, under the hash of what it holds.
pub(super) fn blobs() -> Table {
    Table::new(
        "blobs",
        &["thread_id", "blob_hash"],
        [
            required("thread_id", Kind::Key),
            required("blob_hash", Kind::Key),
            required("media_type", Kind::Key),
            required("bytes", Kind::Bigint),
            required("content", Kind::Bytes),
        ],
    )
}

/// An event that names a blob: a blob without such a row is gone.
pub(super) fn event_blobs() -> Table {
    Table::new(
        "event_blobs",
        &["thread_id", "seq", "blob_hash"],
        [required("thread_id", Kind::Key), required("seq", Kind::Bigint), required("blob_hash", Kind::Key)],
    )
    .index(Index::on("ix_event_blobs_blob", &["thread_id", "blob_hash"]))
}
