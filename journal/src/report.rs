//! What became of everything that was recorded.

use std::path::PathBuf;

use runledger_core::{Error, Event, EventDraft, Run, text};
use serde::{Deserialize, Serialize};

/// An event or usage record that the store refuses by itself, and that was left out.
///
/// An event's place in the log has a `trace` event of type [`QUARANTINED`] with the same facts,
/// so that the journal's numbers have no hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its number in the run's journal; `None` for a usage record.
    pub ordinal: Option<u64>,
    /// What it was: the event type, `usage`, `progress`, or `child_thread_id` where only that was
    /// left out of a usage record.
    pub event_type: String,
    /// Its payload's size.
    pub bytes: u64,
    /// A fingerprint of its payload, to find it again where it came from.
    pub fingerprint: String,
    /// Why it was refused.
    pub reason: String,
}

/// The type of the event that stands for one that could not be stored.
pub const QUARANTINED: &str = "journal.quarantined";

impl Quarantined {
    pub(crate) fn event(ordinal: Option<u64>, event: &EventDraft, error: &Error) -> Self {
        let content = event.content.as_str();
        Self {
            ordinal,
            event_type: event.event_type.as_str().to_owned(),
            bytes: content.len() as u64,
            fingerprint: text::fingerprint(content),
            reason: reason(error),
        }
    }

    /// What the note says, where it stands for this event.
    pub(crate) fn in_place_of(note: &Event, event: &EventDraft) -> Option<Self> {
        if note.event_type.as_str() != QUARANTINED {
            return None;
        }
        let said: Self = note.content.decode().ok()?;
        let same = said.event_type == event.event_type.as_str()
            && said.fingerprint == text::fingerprint(event.content.as_str());
        same.then_some(said)
    }

    pub(crate) fn other(what: &str, named: &str, error: &Error) -> Self {
        Self {
            ordinal: None,
            event_type: what.to_owned(),
            bytes: 0,
            fingerprint: text::fingerprint(named),
            reason: reason(error),
        }
    }
}

/// The error with its causes, short enough to store.
pub(crate) fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    text::summary(&reason).unwrap_or_default()
}

/// What became of everything that was recorded.
///
/// Every event that was recorded is counted once in `written`, `fenced`, `lost` or `left_in_spool`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Events in the log, those of an earlier try included.
    pub written: u64,
    /// Of these, events that an earlier try or an earlier import had stored.
    pub already_stored: u64,
    /// Commits that were sent again.
    pub retried: u64,
    /// Events that went through the spool, wherever they are now.
    pub spooled: u64,
    /// Of these, events in a spool file that is left behind and waits for
    /// [`recover`](crate::spool::recover).
    pub left_in_spool: u64,
    /// The spool file that is left behind: what the database did not take, or (`*.fenced`,
    /// `*.corrupt`) what it refused or could not be read back.
    pub spool_file: Option<PathBuf>,
    /// Whether the end of the run is in that file, and a recovery will store it.
    pub end_in_spool: bool,
    /// What the store refused by itself.
    pub quarantined: Vec<Quarantined>,
    /// Events refused because the run was taken away, had ended otherwise, or is gone.
    pub fenced: u64,
    /// Events that are not known to be in the log, and nowhere else: the store answered with an error
    /// that no retry mends, was away for too long without a spool, or the spool was full, too slow
    /// or damaged.
    pub lost: u64,
    /// Usage records that are not stored for the same reasons. Those of a run that was taken away are.
    pub usage_lost: u64,
    /// The most events that were held in memory at once.
    pub queued_peak: u64,
    /// The most bytes that were held in memory at once: payloads, metadata, and a fixed part each.
    pub queued_bytes_peak: u64,
    /// Why the journal stopped, if it did.
    pub stopped: Option<String>,
}

/// A run that its journal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedRun {
    /// The run as it is stored.
    pub run: Run,
    /// Whether this journal ended it; if not, somebody else had.
    pub ended_here: bool,
    /// What became of everything recorded until then.
    pub report: Report,
}
