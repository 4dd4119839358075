//! Whether what is stored of a thread agrees with itself.
//!
//! The log and the usage records are the authority; the item index, the counts and the totals are views of them
//! that every append updates. [`verify`] reads all of it once, page by page, and names what does not fit, as a
//! [`Finding`]. It judges rows and knows no database: a backend gives it the rows of one thread as they were at one
//! moment ([`ThreadRows`]), unreadable ones as such, so that damage is told and stops nothing. Beside a
//! page it holds a few numbers of each run and each removed range, and the items that are open.
//!
//! What retention removed is no damage. A log does not say any more what was removed of it, so a view that says
//! more than the log is believed where the log had numbers that are noted as removed: an item that is not in
//! the index may have lost its completion, and one that begins where it ended may have begun before.

mod check;
mod removed;
mod rows;

use serde::Serialize;

use crate::record::SeqSpan;
use crate::wire::text_enum;
use crate::{ItemId, RunId, ThreadId};

pub use check::verify;
pub use removed::{Removed, with_removed};
pub use rows::{ItemKey, ThreadRows, Unreadable};

/// The most findings of a thread that are kept, and the most gaps of a log; further ones are counted.
pub const MAX_FINDINGS: usize = 1_000;

text_enum! {
    /// What does not fit.
    pub enum FindingKind {
        /// Numbers of the log that no event has, and that no deletion explains.
        Gap = "gap",
        /// A row that cannot be read, of the log too unless it is quarantined.
        UnreadableRow = "unreadable_row",
        /// The head's next number is not the one after the log's last.
        NextSeq = "next_seq",
        /// The head, or a run, counts other messages than the log has.
        MessageCount = "message_count",
        /// The head and the runs do not agree on which run holds the slot.
        ActiveRun = "active_run",
        /// Events of a run that there is not.
        EventWithoutRun = "event_without_run",
        /// Events of a run beyond the range that its row says.
        EventOutsideRun = "event_outside_run",
        /// An item of the log that the index does not have.
        ItemMissing = "item_missing",
        /// An item of the index whose records are not in the log.
        ItemExtra = "item_extra",
        /// An item of the index that the log tells otherwise.
        ItemDiffers = "item_differs",
        /// An item of a run that there is not.
        ItemWithoutRun = "item_without_run",
        /// Usage of a run that there is not.
        UsageWithoutRun = "usage_without_run",
        /// A run's totals are not the sum of its usage.
        Totals = "totals",
    }
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The run it is about.
    pub run_id: Option<RunId>,
    /// The item it is about.
    pub item_id: Option<ItemId>,
    /// The event it is about, or the first of several.
    pub seq: Option<u64>,
    /// What is stored, and what should be.
    pub detail: String,
}

/// What [`ItemStore::verify`](crate::ItemStore::verify) found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verified {
    /// The thread.
    pub thread_id: ThreadId,
    /// Events of its log.
    pub events: u64,
    /// Rows of its index.
    pub items: u64,
    /// Its runs.
    pub runs: u64,
    /// Its usage records.
    pub usage: u64,
    /// Records that an import or a rebuild could not read and noted.
    pub quarantined: u64,
    /// What does not fit, the first 1,000.
    pub findings: Vec<Finding>,
    /// How many there are beyond these.
    pub more_findings: u64,
}

impl Verified {
    /// Nothing was found yet.
    #[must_use]
    pub fn new(thread_id: ThreadId) -> Self {
        Self {
            thread_id,
            events: 0,
            items: 0,
            runs: 0,
            usage: 0,
            quarantined: 0,
            findings: Vec::new(),
            more_findings: 0,
        }
    }

    /// Whether everything fits. A quarantined record is known and no finding.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}

/// What [`ItemStore::rebuild`](crate::ItemStore::rebuild) did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rebuilt {
    /// The thread.
    pub thread_id: ThreadId,
    /// Events that were read.
    pub events: u64,
    /// Rows that the index had.
    pub items_before: u64,
    /// Rows that it has.
    pub items: u64,
    /// Events that cannot be read, and were noted as quarantined.
    pub quarantined: u64,
    /// Numbers that no event has, and that no deletion explains: the first 1,000 ranges.
    pub gaps: Vec<SeqSpan>,
    /// How many ranges there are beyond these.
    pub more_gaps: u64,
}

impl Rebuilt {
    /// Nothing was rebuilt yet.
    #[must_use]
    pub fn new(thread_id: ThreadId) -> Self {
        Self {
            thread_id,
            events: 0,
            items_before: 0,
            items: 0,
            quarantined: 0,
            gaps: Vec::new(),
            more_gaps: 0,
        }
    }

    /// Notes a range that is missing.
    pub fn note_gap(&mut self, gap: SeqSpan) {
        if self.gaps.len() < MAX_FINDINGS {
            self.gaps.push(gap);
        } else {
            self.more_gaps += 1;
        }
    }
}

#[cfg(test)]
mod tests;
