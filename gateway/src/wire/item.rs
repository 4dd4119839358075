//! Items, turns, and calls that are pending.

use runledger_core::{
    Item, ItemEntry, ItemPage, ItemQuery, ItemSeq, PendingCall, RawJson, ToolCall, Turn, TurnPage, TurnView,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::WireRun;

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireItem {
    /// Its row of the index.
    #[serde(flatten)]
    pub entry: ItemEntry,
    /// What it says: of its completion, or of its start while it goes on.
    pub content: Option<RawJson>,
    /// The payload's size in bytes before anything was left out.
    pub content_bytes: u64,
    /// Whether part of the payload was left out.
    pub truncated: bool,
}

impl From<Item> for WireItem {
    fn from(item: Item) -> Self {
        let Item { entry, content, content_bytes, truncated } = item;
        Self { entry, content, content_bytes, truncated }
    }
}

/// A page of items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireItemPage {
    /// The items.
    pub items: Vec<WireItem>,
    /// Whether there are further ones in the direction the page was read.
    pub has_more: bool,
    /// The last event that the page knows of.
    pub projected_through: u64,
    /// Whether the range begins at the end of what there is, or beyond it.
    pub is_beyond: bool,
    /// The `after_seq` that goes on with later items.
    pub next_after_seq: Option<u64>,
    /// The `before_seq` that goes on with earlier ones.
    pub next_before_seq: Option<u64>,
    /// The `updated_after` that goes on with what changes later; always there where that was asked for.
    pub next_updated_after: Option<u64>,
}

impl WireItemPage {
    /// The page that a query was answered with.
    #[must_use]
    pub fn new(page: ItemPage, query: &ItemQuery) -> Self {
        let seqs = || page.items.iter().map(|item| item.entry.started_seq);
        let (next_after_seq, next_before_seq, next_updated_after) = match query.by {
            ItemSeq::Updated => {
                let last = page.items.iter().map(|item| item.entry.updated_seq).max();
                (None, None, if page.has_more { last } else { Some(page.projected_through) })
            }
            ItemSeq::Started if !page.has_more => (None, None, None),
            ItemSeq::Started if query.range.after_seq.is_some() => (seqs().max(), None, None),
            ItemSeq::Started => (None, seqs().min(), None),
        };
        Self {
            has_more: page.has_more,
            projected_through: page.projected_through,
            is_beyond: page.is_beyond,
            next_after_seq,
            next_before_seq,
            next_updated_after,
            items: page.items.into_iter().map(WireItem::from).collect(),
        }
    }
}

/// A run, and what of its items is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireTurn {
    /// The run.
    pub run: WireRun,
    /// How much of it is here.
    pub view: TurnView,
    /// Its items, in the order they began.
    pub items: Vec<WireItem>,
    /// Of the full view: whether it has further items.
    pub has_more: bool,
}

impl WireTurn {
    fn new(turn: Turn, redacted_keys: &[String]) -> Self {
        Self {
            run: WireRun::from(&turn.run).redacted(redacted_keys),
            view: turn.view,
            items: turn.items.into_iter().map(WireItem::from).collect(),
            has_more: turn.has_more,
        }
    }
}

/// A page of turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireTurnPage {
    /// The turns, in the order that was asked for.
    pub turns: Vec<WireTurn>,
    /// Whether there are further ones in the direction the page was read.
    pub has_more: bool,
    /// What comes before the first turn here.
    pub previous_cursor: Option<String>,
    /// What comes after the last one.
    pub next_cursor: Option<String>,
    /// The last event that the page knows of.
    pub projected_through: u64,
}

impl WireTurnPage {
    /// The page, without the values of these keys in documents of runs.
    #[must_use]
    pub fn new(page: TurnPage, redacted_keys: &[String]) -> Self {
        Self {
            turns: page.turns.into_iter().map(|turn| WireTurn::new(turn, redacted_keys)).collect(),
            has_more: page.has_more,
            previous_cursor: page.previous.map(|cursor| cursor.as_str().to_owned()),
            next_cursor: page.next.map(|cursor| cursor.as_str().to_owned()),
            projected_through: page.projected_through,
        }
    }
}

/// A tool call that has no result yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WirePendingCall {
    /// The call's item: its run, who asked, the id that the model knows it by, and under which epoch it was claimed.
    pub item: ItemEntry,
    /// The tool and its arguments.
    pub call: ToolCall,
}

impl From<PendingCall> for WirePendingCall {
    fn from(pending: PendingCall) -> Self {
        Self { item: pending.item, call: pending.call }
    }
}
