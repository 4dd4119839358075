//! The item index: items and turns as pages, who executes what is open, and the index's own repair.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use super::RunVisibility;
use crate::record::{Item, ItemEntry, ItemStatus, Run, Thread};
use crate::verify::{Rebuilt, Verified};
use crate::{
    Cursor, Error, ItemId, ItemKind, MAX_LIMIT, RawJson, Result, RunId, Scope, SeqPage, SeqRange, ThreadId,
};

/// The most turns in one page.
pub const MAX_TURNS: u32 = 100;

/// The most items that are read by their ids at once.
pub const MAX_ITEM_IDS: usize = 100;

/// Which items to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemFilter {
    /// Only those of this run.
    pub run_id: Option<RunId>,
    /// Only those with this status; `in_progress` is what is still pending.
    pub status: Option<ItemStatus>,
}

/// Which number of an item a range is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemSeq {
    /// Where it began: the order in which items are shown.
    #[default]
    Started,
    /// Where it last changed: whoever reads on after the last page's `projected_through` is told each item
    /// that began or ended since.
    Updated,
}

/// In which order a page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListOrder {
    /// The oldest first.
    #[default]
    OldestFirst,
    /// The newest first.
    NewestFirst,
}

/// Whether rows of a list come with what may be large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// Without: items as the index has them, threads without system prompt, config and metadata, runs without kwargs
    /// and metadata. Documents are empty objects in their place.
    Omitted,
    /// As they are stored, items with their contents from the log.
    #[default]
    Read,
}

impl Contents {
    /// The thread as a list has it, for those who implement a store.
    #[must_use]
    pub fn of_thread(self, thread: Thread) -> Thread {
        match self {
            Self::Read => thread,
            Self::Omitted => {
                let (config, metadata) = (RawJson::empty_object(), RawJson::empty_object());
                Thread { system_prompt: None, config, metadata, ..thread }
            }
        }
    }
}

/// Which items to list, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemQuery {
    /// Which of them.
    pub filter: ItemFilter,
    /// Only those of this kind. No index knows kinds: what is looked at is all of the range, until the page is full.
    pub kind: Option<ItemKind>,
    /// Whether those of hidden runs are among them. Of a run that is asked for by its id they always are.
    pub visibility: RunVisibility,
    /// What `range` is over.
    pub by: ItemSeq,
    /// Which part of them. The seqs of an item are what goes on from it, in both directions.
    pub range: SeqRange,
    /// In which order the page is; which items it has does not depend on it.
    pub order: ListOrder,
    /// Whether they come with their contents.
    pub contents: Contents,
}

/// Items, and how far the index they are from had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPage {
    /// The items, those in progress included.
    pub items: Vec<Item>,
    /// Whether the range has further items on the side the page was not anchored to, as of a
    /// [`SeqPage`].
    pub has_more: bool,
    /// The last event of the thread at the moment of the read. The index is written with the log, so it
    /// knows every event up to here: who reads on by [`ItemSeq::Updated`] goes on after this number, once
    /// a page has no more.
    pub projected_through: u64,
    /// Whether the range begins at the end of what there is, or beyond it. An empty page that is not beyond
    /// says that there is no such item; one that is says that there was nothing to look at.
    pub is_beyond: bool,
}

impl ItemPage {
    /// The page of items that were read in ascending order of the query's seq.
    #[must_use]
    pub fn new(page: SeqPage<Item>, query: &ItemQuery, projected_through: u64) -> Self {
        let SeqPage { mut items, has_more } = page;
        if query.order == ListOrder::NewestFirst {
            items.reverse();
        }
        let is_beyond = query.range.after_seq.is_some_and(|after| after >= projected_through);
        Self { items, has_more, projected_through, is_beyond }
    }
}

/// How much of a turn is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnView {
    /// The run alone.
    NotLoaded,
    /// What the person said first, and the agent's final message.
    #[default]
    Summary,
    /// Its items from the first on.
    Full,
}

/// Where a page of turns begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TurnStart {
    /// At the first turn of the order.
    #[default]
    First,
    /// After a turn, in the order.
    After(Cursor),
    /// So that it ends right before a turn, in the order.
    Before(Cursor),
}

/// Which turns to list, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnQuery {
    /// Only this run, whether it is hidden or not.
    pub run_id: Option<RunId>,
    /// How much of each.
    pub view: TurnView,
    /// Whether hidden runs are among them.
    pub visibility: RunVisibility,
    /// By when their runs were asked for.
    pub order: ListOrder,
    /// Where the page begins.
    pub start: TurnStart,
    /// Turns at most; 0 is refused, over 100 is capped.
    pub limit: u32,
    /// Of the full view: items of each turn at most. 0 is refused; where all turns of the page could have
    /// more than 1,000 together, each has its share of these.
    pub items: u32,
}

impl Default for TurnQuery {
    /// The newest 25 turns, in summary.
    fn default() -> Self {
        Self {
            run_id: None,
            view: TurnView::Summary,
            visibility: RunVisibility::Shown,
            order: ListOrder::NewestFirst,
            start: TurnStart::First,
            limit: 25,
            items: 100,
        }
    }
}

impl TurnQuery {
    /// Checks the query and gives the turns that a page has at most.
    pub fn checked_limit(&self) -> Result<u32> {
        if self.limit == 0 {
            return Err(Error::invalid("limit", "is 0; ask for 1 to 100 turns"));
        }
        if self.items == 0 {
            return Err(Error::invalid("items", "is 0; ask for 1 to 1000, or for the view not_loaded"));
        }
        Ok(self.limit.min(MAX_TURNS))
    }

    /// How many items each of so many turns may have, for those who implement a store.
    #[must_use]
    pub fn items_of_each(&self, turns: usize) -> usize {
        (self.items as usize).min(MAX_LIMIT as usize / turns.max(1)).max(1)
    }

    /// Whether the turns are read from the newest on, for those who implement a store: the order's way, and the
    /// other way where the page ends before a turn.
    #[must_use]
    pub fn reads_newest_first(&self) -> bool {
        (self.order == ListOrder::NewestFirst) != matches!(self.start, TurnStart::Before(_))
    }
}

/// A run, and what of its items is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The run.
    pub run: Run,
    /// How much of it is here.
    pub view: TurnView,
    /// Its items with their contents, in the order they began.
    ///
    /// In summary: the first `user_message`, and the final message. That is the newest completed `agent_message`
    /// of the lead agent with the phase `final_answer`, of its last 32; where none has that phase, the last.
    pub items: Vec<Item>,
    /// Of the full view: whether the turn has further items. They are listed after the last one here, by the run.
    pub has_more: bool,
}

/// Turns, in the order that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnPage {
    /// The turns.
    pub turns: Vec<Turn>,
    /// Whether there are further turns on the side the page was read to: later ones in the order, earlier ones
    /// where it ends before a turn.
    pub has_more: bool,
    /// The position of the first turn; what is [before](TurnStart::Before) it comes before this page.
    pub previous: Option<Cursor>,
    /// The position of the last turn; what is [after](TurnStart::After) it comes after this page, turns that
    /// began meanwhile included where the oldest is first.
    pub next: Option<Cursor>,
    /// The last event of the thread at the moment of the read: the index knows every event up to here. Where it
    /// is 0 nothing has happened on the thread.
    pub projected_through: u64,
}

impl TurnPage {
    /// Makes the page of up to `limit + 1` turns in the order they were read.
    #[must_use]
    pub fn new(query: &TurnQuery, limit: u32, mut turns: Vec<Turn>, projected_through: u64) -> Self {
        let has_more = turns.len() > limit as usize;
        turns.truncate(limit as usize);
        if matches!(query.start, TurnStart::Before(_)) {
            turns.reverse();
        }
        let cursor = |turn: &Turn| Cursor::at_run(turn.run.created_at, &turn.run.run_id, &turn.run.thread_id);
        let (previous, next) = (turns.first().map(cursor), turns.last().map(cursor));
        Self { turns, has_more, previous, next, projected_through }
    }
}

/// A claim to execute a tool call that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedItem {
    /// The item, claimed under the epoch of whoever asked.
    pub item: ItemEntry,
    /// The epoch that claimed it before: whoever it was may have executed it, wholly or in part, and was gone
    /// before the result was stored.
    pub claimed_before: Option<u64>,
}

/// Refuses more ids than are read at once, and none.
pub fn check_item_ids(items: &[ItemId]) -> Result<()> {
    if items.is_empty() || items.len() > MAX_ITEM_IDS {
        let reason = format!("has {} ids; 1 to {MAX_ITEM_IDS} are taken", items.len());
        return Err(Error::invalid("items", reason));
    }
    Ok(())
}

/// Reads the item index, says who executes what it has open, and mends it.
///
/// To ensure correctness:
/// - a page is of one moment: its items, their contents and `projected_through`;
/// - the content of an item is that of the event at its `updated_seq`;
/// - a rebuilt index is the one that the appends would have made of the events that are there.
#[async_trait]
pub trait ItemStore: fmt::Debug + Send + Sync + 'static {
    /// One item.
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId, item: &ItemId) -> Result<ItemEntry>;

    /// Items of a run by their ids, 1 to 100 of them, with their contents, in the order they began. What
    /// the run has no item of is not among them.
    async fn read(&self, scope: &Scope, thread: &ThreadId, run: &RunId, items: &[ItemId])
    -> Result<ItemPage>;

    /// A page of items.
    async fn page(&self, scope: &Scope, thread: &ThreadId, query: &ItemQuery) -> Result<ItemPage>;

    /// Rows of the index in the order they began, of hidden runs too; the range is over their `started_seq`.
    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ItemFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<ItemEntry>> {
        let query = ItemQuery {
            filter: filter.clone(),
            visibility: RunVisibility::All,
            range: *range,
            contents: Contents::Omitted,
            ..ItemQuery::default()
        };
        let page = self.page(scope, thread, &query).await?;
        let items = page.items.into_iter().map(|item| item.entry).collect();
        Ok(SeqPage { items, has_more: page.has_more })
    }

    /// A page of turns: the thread's runs and what of their items the view shows.
    async fn turns(&self, scope: &Scope, thread: &ThreadId, query: &TurnQuery) -> Result<TurnPage>;

    /// Claims an open item of a run for execution under the run's epoch: of several callers one gets it.
    ///
    /// `LeaseLost` where the run does not hold the thread's slot under that epoch; `Conflict` where the item
    /// has ended, or was claimed under the same epoch before.
    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem>;

    /// Makes the thread's index anew from its log, in one transaction that appends to the thread wait for.
    ///
    /// Claims stay. A record that cannot be read is noted as quarantined and left out, and stops nothing.
    async fn rebuild(&self, scope: &Scope, thread: &ThreadId) -> Result<Rebuilt>;

    /// Compares the thread's index, counts and totals with its log and usage, at one moment and without
    /// keeping anybody from anything. Damage is told and never an error.
    async fn verify(&self, scope: &Scope, thread: &ThreadId) -> Result<Verified>;
}
