//! Pages.

use runledger_core::{Event, Page, SeqPage, SeqRange};
use serde::Serialize;
use utoipa::ToSchema;

/// A page of a newest-first listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WirePage<T> {
    /// The rows, the newest first.
    pub items: Vec<T>,
    /// Whether there are further rows.
    pub has_more: bool,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
}

impl<T> WirePage<T> {
    /// A page of records, each in the shape that this makes of it.
    #[must_use]
    pub fn of<R>(page: Page<R>, shape: impl FnMut(R) -> T) -> Self {
        let next_cursor = page.next_cursor.map(|cursor| cursor.as_str().to_owned());
        Self { items: page.items.into_iter().map(shape).collect(), has_more: page.has_more, next_cursor }
    }
}

/// A page of a log; of the two cursors the one that goes on in the direction the page was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireSeqPage<T> {
    /// The rows, ascending by seq.
    pub items: Vec<T>,
    /// Whether there are further rows in the direction the page was read.
    pub has_more: bool,
    /// The `before_seq` that goes on with earlier rows.
    pub next_before_seq: Option<u64>,
    /// The `after_seq` that goes on with later rows.
    pub next_after_seq: Option<u64>,
}

impl<T> WireSeqPage<T> {
    /// A page that was read by this range.
    #[must_use]
    pub fn new(page: SeqPage<T>, range: &SeqRange, seq: impl Fn(&T) -> u64) -> Self {
        let forward = range.after_seq.is_some();
        let first = page.items.first().filter(|_| page.has_more && !forward).map(&seq);
        let last = page.items.last().filter(|_| page.has_more && forward).map(&seq);
        Self { items: page.items, has_more: page.has_more, next_before_seq: first, next_after_seq: last }
    }
}

/// A page of events; of the two cursors the one that goes on in the direction the page was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireEventPage {
    /// The events, ascending by seq.
    pub data: Vec<Event>,
    /// Whether there are further ones in the direction the page was read.
    pub has_more: bool,
    /// The `before_seq` that goes on with earlier events.
    pub next_before_seq: Option<u64>,
    /// The `after_seq` that goes on with later events.
    pub next_after_seq: Option<u64>,
}

impl From<WireSeqPage<Event>> for WireEventPage {
    fn from(page: WireSeqPage<Event>) -> Self {
        let WireSeqPage { items, has_more, next_before_seq, next_after_seq } = page;
        Self { data: items, has_more, next_before_seq, next_after_seq }
    }
}
