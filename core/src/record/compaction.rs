//! Compactions: part of a thread's context window replaced by a note. The log itself is not changed.

use serde::{Deserialize, Serialize};

use super::ThreadHead;
use crate::{Error, RawJson, Result, RunId, ThreadId, Timestamp};

/// Consecutive messages of a context window, by the seqs of the first and the last. Where the log has
/// other records between them, those are not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct SeqSpan {
    /// The first.
    pub from: u64,
    /// The last.
    pub through: u64,
}

impl From<(u64, u64)> for SeqSpan {
    fn from((from, through): (u64, u64)) -> Self {
        Self { from, through }
    }
}

impl From<SeqSpan> for (u64, u64) {
    fn from(span: SeqSpan) -> Self {
        (span.from, span.through)
    }
}

/// What the content of a `context_compaction` is: the note that stands for what was folded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompactionNote {
    /// Text, or an array of content parts as chat APIs have them.
    pub content: RawJson,
    /// What else the runtime notes, a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<RawJson>,
}

/// What a commit with a fold stores besides its note, the commit's only event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCompaction {
    /// What the note stands for.
    pub folded: Vec<SeqSpan>,
    /// What the model is still shown before the note.
    pub before_note: Vec<SeqSpan>,
    /// What it is still shown after the note.
    pub after_note: Vec<SeqSpan>,
    /// Every message with a larger seq comes after all of these.
    pub through_seq: u64,
    /// Tokens of the window before.
    pub before_tokens: u64,
    /// Tokens of the window after.
    pub after_tokens: u64,
    /// The round of the agent's loop it was made in.
    pub round_index: Option<u64>,
    /// The compaction the window was loaded with; with another one the commit is `Conflict`.
    pub expected_last: Option<u64>,
    /// The epoch the run must hold the thread's slot under, where it is made by whoever executes the run.
    pub epoch: Option<u64>,
    /// When.
    pub at: Timestamp,
}

/// The audit record of a fold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Compaction {
    /// The thread.
    pub thread_id: ThreadId,
    /// Its number on the thread, from 1.
    pub compact_seq: u64,
    /// The seq of the note.
    pub note_seq: u64,
    /// The run the note belongs to.
    pub run_id: RunId,
    /// What was folded.
    pub folded: Vec<SeqSpan>,
    /// What is in the window after it, in logical order, the note included.
    pub window: Vec<SeqSpan>,
    /// Messages with a larger seq come after these, but for the note.
    pub through_seq: u64,
    /// Tokens of the window before.
    pub before_tokens: u64,
    /// Tokens of the window after.
    pub after_tokens: u64,
    /// The round of the agent's loop it was made in.
    pub round_index: Option<u64>,
    /// When.
    pub created_at: Timestamp,
}

impl NewCompaction {
    /// Judges it by the thread's head: `LeaseLost` where it is to be made by whoever holds the run and that has
    /// changed, `Conflict` where another compaction came first.
    pub fn require(&self, head: &ThreadHead, run: &RunId) -> Result<()> {
        if let Some(epoch) = self.epoch {
            head.require_held(run, epoch)?;
        }
        require_last(self.expected_last, head.last_compact_seq)
    }

    /// The record of it under these numbers.
    #[must_use]
    pub fn into_compaction(
        self,
        thread_id: ThreadId,
        run_id: RunId,
        compact_seq: u64,
        note_seq: u64,
    ) -> Compaction {
        let note = SeqSpan { from: note_seq, through: note_seq };
        let window = self.before_note.into_iter().chain([note]).chain(self.after_note).collect();
        Compaction {
            thread_id,
            compact_seq,
            note_seq,
            run_id,
            folded: self.folded,
            window,
            through_seq: self.through_seq,
            before_tokens: self.before_tokens,
            after_tokens: self.after_tokens,
            round_index: self.round_index,
            created_at: self.at,
        }
    }
}

/// `Conflict` where a thread's last compaction is another than expected.
pub(crate) fn require_last(expected: Option<u64>, last: Option<u64>) -> Result<()> {
    if expected == last {
        return Ok(());
    }
    let number = |last: Option<u64>| last.map_or_else(|| "none".to_owned(), |last| last.to_string());
    Err(Error::conflict("last compaction", number(expected), number(last)))
}
