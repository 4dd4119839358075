//! The context window: the messages a model would be sent next.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;

use super::Ledger;
use crate::commit::{Commit, Transition};
use crate::record::{
    Caller, Compaction, CompactionNote, EventDraft, ItemKind, ItemMark, ItemStatus, NewCompaction,
    require_last,
};
use crate::view::context::{ContextMessage, ContextWindow, estimated_tokens};
use crate::{
    Category, Error, ErrorKind, ItemId, RawJson, Result, RunId, Scope, SeqPage, SeqRange, ThreadId, Timestamp,
};

/// Reads context windows. They are folded by [`Ledger::fold`](super::Ledger::fold).
#[async_trait]
pub trait ContextStore: fmt::Debug + Send + Sync + 'static {
    /// The messages a model would be sent next, in logical order: those that the newest compaction left,
    /// its note among them, and those since; without one, all.
    ///
    /// Messages are those of [`view::context`](crate::view::context). Hidden runs are left out, and so
    /// is a compaction that one of them made. It costs what the window has, not what the log has.
    async fn load(&self, scope: &Scope, thread: &ThreadId) -> Result<ContextWindow>;

    /// The compactions, ascending by their numbers, hidden runs' included: the range is over `compact_seq`.
    async fn list_compactions(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        range: &SeqRange,
    ) -> Result<SeqPage<Compaction>>;
}

/// Part of a context window to be replaced by a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The thread.
    pub thread_id: ThreadId,
    /// The run the note belongs to: the one that needs the room, or on an idle thread its last.
    pub run_id: RunId,
    /// The note's item. The same fold again, under the same item, is answered with what is stored.
    pub item_id: ItemId,
    /// The messages that the note stands for, by their seqs; the note takes the place of the first.
    pub seqs: BTreeSet<u64>,
    /// The note.
    pub note: CompactionNote,
    /// The [`last_compact_seq`](ContextWindow::last_compact_seq) of the window that the seqs were chosen from.
    pub expected_last: Option<u64>,
    /// The epoch the run holds the thread's slot under, where it is made by whoever executes the run.
    pub epoch: Option<u64>,
    /// Tokens of the window before, as whoever folds counts them.
    pub before_tokens: u64,
    /// Tokens of the window after.
    pub after_tokens: u64,
    /// The round of the agent's loop it is made in.
    pub round_index: Option<u64>,
    /// When.
    pub at: Timestamp,
}

impl Fold {
    /// A fold of these messages of `window` into a text, made now, whose tokens nobody counted.
    #[must_use]
    pub fn new(window: &ContextWindow, run_id: RunId, seqs: BTreeSet<u64>, note: &str) -> Self {
        Self {
            thread_id: window.thread_id.clone(),
            run_id,
            item_id: ItemId::generate(),
            seqs,
            note: CompactionNote { content: RawJson::string(note), extra: None },
            expected_last: window.last_compact_seq,
            epoch: None,
            before_tokens: 0,
            after_tokens: 0,
            round_index: None,
            at: Timestamp::now(),
        }
    }

    /// The same with tokens by a rule of thumb, for whoever folds by hand and has no model to count with.
    #[must_use]
    pub fn estimated(window: &ContextWindow, run_id: RunId, seqs: BTreeSet<u64>, note: &str) -> Self {
        let is_folded = |message: &&ContextMessage| seqs.contains(&message.seq());
        let folded = window.messages.iter().filter(is_folded).map(ContextMessage::estimated_tokens).sum();
        let before_tokens = window.estimated_tokens();
        let after_tokens = before_tokens.saturating_sub(folded).saturating_add(estimated_tokens(note));
        Self { before_tokens, after_tokens, ..Self::new(window, run_id, seqs, note) }
    }

    fn into_commit(self, folded: NewCompaction) -> Result<Commit> {
        let mark = ItemMark::new(self.item_id, ItemKind::ContextCompaction, ItemStatus::Completed);
        let note = EventDraft {
            caller: Some(Caller::lead_agent()),
            created_at: self.at,
            ..EventDraft::item(mark, Category::Message, RawJson::encode("note", &self.note)?)
        };
        Ok(Commit {
            transition: Some(Transition::Fold(Box::new(folded))),
            ..Commit::of_run(self.thread_id, self.run_id).with_events(vec![note])
        })
    }
}

impl Ledger {
    /// Replaces part of a thread's context window by a note: the note and the audit record in one commit. The
    /// log keeps what it has.
    ///
    /// `Conflict` where another fold came first: load the window again and choose anew. `InvalidInput`
    /// where a seq is not in the window, or a tool call would be parted from its result.
    pub async fn fold(&self, scope: &Scope, fold: Fold) -> Result<Compaction> {
        let window = self.context().load(scope, &fold.thread_id).await?;
        self.fold_window(scope, &window, fold).await
    }

    /// The same for whoever has just loaded the window, and so need not have it loaded again. `InvalidInput` where it
    /// is another thread's.
    pub async fn fold_window(&self, scope: &Scope, window: &ContextWindow, fold: Fold) -> Result<Compaction> {
        let (thread, item) = (fold.thread_id.clone(), fold.item_id.clone());
        if window.thread_id != thread {
            return Err(Error::invalid("thread_id", "is not that of the window"));
        }
        if let Some(stored) = self.folded_before(scope, window, &item).await? {
            return Ok(stored);
        }
        // Before the seqs: of another window, they may not be there any more.
        let last = window.last_compact_seq.max(window.compact_seq);
        require_last(fold.expected_last, last)?;
        let folded = NewCompaction {
            before_tokens: fold.before_tokens,
            after_tokens: fold.after_tokens,
            round_index: fold.round_index,
            expected_last: fold.expected_last,
            epoch: fold.epoch,
            at: fold.at,
            ..window.fold(&fold.seqs)?
        };
        let run = fold.run_id.clone();
        match self.events().append(scope, fold.into_commit(folded.clone())?).await {
            Ok(receipt) => {
                // What was expected held when it was stored, so the numbers are known.
                let number = folded.expected_last.unwrap_or(0) + 1;
                let note = receipt.seqs.first().copied().unwrap_or_default();
                Ok(folded.into_compaction(thread, run, number, note))
            }
            // It may be the answer to an earlier try that was lost.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let window = self.context().load(scope, &thread).await?;
                self.folded_before(scope, &window, &item).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The compaction whose note is this item, if the window has it.
    async fn folded_before(
        &self,
        scope: &Scope,
        window: &ContextWindow,
        item: &ItemId,
    ) -> Result<Option<Compaction>> {
        let is_it = |mark: &ItemMark| mark.item_id == *item && mark.kind == ItemKind::ContextCompaction;
        let note = window.messages.iter().find(|message| message.event.item.as_ref().is_some_and(is_it));
        let Some(note) = note.map(|message| message.seq()) else { return Ok(None) };
        let mut range = SeqRange::last(crate::MAX_LIMIT);
        loop {
            let page = self.context().list_compactions(scope, &window.thread_id, &range).await?;
            let first = page.items.first().map(|compaction| compaction.compact_seq);
            if let Some(found) = page.items.into_iter().find(|compaction| compaction.note_seq == note) {
                return Ok(Some(found));
            }
            match first {
                Some(first) if page.has_more => range = SeqRange::before(first, crate::MAX_LIMIT),
                _ => return Ok(None),
            }
        }
    }
}
