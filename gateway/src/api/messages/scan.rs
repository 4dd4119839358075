//! Pages of what is shown of a log, where not everything is.

use runledger_core::{Event, EventStore, Result, RunId, RunVisibility, Scope, SeqPage, SeqRange, ThreadId};

/// How many messages are read at once after the first look.
const BATCH: u32 = 200;

/// How often a page reads on for messages that are shown.
const LOOKS: usize = 10;

/// Which part of a log a page is of: as [`SeqRange`] has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Rows at most.
    pub(super) limit: usize,
    /// Only those with a smaller seq.
    pub(super) before_seq: Option<u64>,
    /// Only those with a larger seq.
    pub(super) after_seq: Option<u64>,
}

/// What is read: the messages of shown runs, or those of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) events: &'a dyn EventStore,
    pub(super) scope: &'a Scope,
    pub(super) thread: &'a ThreadId,
    pub(super) run: Option<&'a RunId>,
}

impl Source<'_> {
    async fn read(&self, range: &SeqRange) -> Result<SeqPage<Event>> {
        match self.run {
            Some(run) => self.events.list_messages_by_run(self.scope, self.thread, run, range).await,
            None => self.events.list_messages(self.scope, self.thread, RunVisibility::Shown, range).await,
        }
    }
}

/// Rows that are shown, and where to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned<T> {
    /// The rows, ascending by seq.
    pub(super) rows: Vec<(Event, T)>,
    /// Whether there may be further ones in the direction the page was read.
    pub(super) has_more: bool,
    /// The `before_seq` that goes on with earlier ones.
    pub(super) next_before_seq: Option<u64>,
    /// The `after_seq` that goes on with later ones.
    pub(super) next_after_seq: Option<u64>,
}

/// Reads until the page is full: forward from `after_seq`, else backward from the end of the window. What `shape` makes
/// nothing of is left out. After 10 looks, or as many bytes as a page may have, it is short, and goes on where it
/// stopped.
pub(super) async fn scan<T>(
    source: Source<'_>,
    window: Window,
    shape: impl Fn(&Event) -> Option<T>,
) -> Result<Scanned<T>> {
    let is_forward = window.after_seq.is_some();
    let mut rows: Vec<(Event, T)> = Vec::new();
    // One more than the page has tells whether there are more.
    let first = u32::try_from(window.limit.saturating_add(1)).unwrap_or(BATCH);
    let mut range = SeqRange { limit: first, before_seq: window.before_seq, after_seq: window.after_seq };
    let mut go_on = None;
    'reading: for look in 1..=LOOKS {
        let mut page = source.read(&range).await?;
        if !is_forward {
            page.items.reverse();
        }
        let last = page.items.last().map(|event| event.seq);
        // One that ends before its limit has as many bytes as a page may have.
        let is_last_look = look == LOOKS || (page.has_more && page.items.len() < range.limit as usize);
        for event in page.items {
            let Some(row) = shape(&event) else { continue };
            if rows.len() >= window.limit {
                go_on = rows.last().map(|(event, _)| event.seq);
                break 'reading;
            }
            rows.push((event, row));
        }
        let Some(last) = last.filter(|_| page.has_more) else { break };
        range = SeqRange { limit: BATCH, ..range };
        if is_forward {
            range.after_seq = Some(last);
        } else {
            range.before_seq = Some(last);
        }
        if is_last_look {
            go_on = Some(last);
            break;
        }
    }
    if !is_forward {
        rows.reverse();
    }
    Ok(Scanned {
        rows,
        has_more: go_on.is_some(),
        next_before_seq: go_on.filter(|_| !is_forward),
        next_after_seq: go_on.filter(|_| is_forward),
    })
}
