//! A thread's log, read from its beginning.

use runledger_core::{Event, EventFilter, Ledger, Scope, SeqRange, ThreadId};

use crate::Failure;

/// Events read at once. Payloads can be large, so a page is small.
const PAGE: u32 = 200;

/// A log from its beginning, a page at a time.
pub(crate) struct Log<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    thread: &'a ThreadId,
    filter: EventFilter,
    after: u64,
    until: Option<u64>,
    more: bool,
}

impl<'a> Log<'a> {
    pub(crate) fn new(
        ledger: &'a Ledger,
        scope: &'a Scope,
        thread: &'a ThreadId,
        filter: EventFilter,
    ) -> Self {
        Self { ledger, scope, thread, filter, after: 0, until: None, more: true }
    }

    /// Only what is before this seq: a log that grows is read as it was.
    pub(crate) fn until(self, seq: u64) -> Self {
        Self { until: Some(seq), ..self }
    }

    /// The next page; `None` after the last.
    pub(crate) async fn page(&mut self) -> Result<Option<Vec<Event>>, Failure> {
        if !self.more {
            return Ok(None);
        }
        let range = SeqRange { before_seq: self.until, ..SeqRange::after(self.after, PAGE) };
        let page = self.ledger.events().list_events(self.scope, self.thread, &self.filter, &range).await?;
        self.after = page.items.last().map_or(self.after, |event| event.seq);
        self.more = page.has_more;
        Ok(Some(page.items))
    }
}
