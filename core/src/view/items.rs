//! The projector: from a slice of the log to changes of the item index.
//!
//! One pure function, used inline by every store and by whoever rebuilds the index. It reads
//! the envelope of an event only, so no payload can make it fail.
//!
//! The rule of the index: a row is made by the first record of an item and changes once more,
//! by the first record that completes it. Later records of the same item change nothing.

use crate::{CallId, Caller, EventDraft, ItemId, ItemKind, ItemStatus, Timestamp};

/// A change to one row of the item index: what to insert, or what to merge into the stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemChange {
    /// The item.
    pub item_id: ItemId,
    /// What it is.
    pub kind: ItemKind,
    /// Where it stands afterwards.
    pub status: ItemStatus,
    /// The event that began it, if the row is new.
    pub started_seq: u64,
    /// The event that ended it.
    pub completed_seq: Option<u64>,
    /// The last event that changed the row.
    pub updated_seq: u64,
    /// When it began, if the row is new.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The item it is part of.
    pub parent_item_id: Option<ItemId>,
    /// The tool call it is about.
    pub call_id: Option<CallId>,
    /// Who caused it.
    pub caller: Option<Caller>,
}

impl ItemChange {
    fn of(seq: u64, event: &EventDraft) -> Option<Self> {
        let mark = event.item.as_ref()?;
        let completed = mark.status != ItemStatus::InProgress;
        Some(Self {
            item_id: mark.item_id.clone(),
            kind: mark.kind.clone(),
            status: mark.status.clone(),
            started_seq: seq,
            completed_seq: completed.then_some(seq),
            updated_seq: seq,
            started_at: event.created_at,
            completed_at: completed.then_some(event.created_at),
            parent_item_id: mark.parent_item_id.clone(),
            call_id: mark.call_id.clone(),
            caller: event.caller.clone(),
        })
    }

    /// Merges a later record of the same item into this one.
    pub fn merge(&mut self, later: &Self) {
        if self.status != ItemStatus::InProgress || later.status == ItemStatus::InProgress {
            return;
        }
        self.status = later.status.clone();
        self.completed_seq = later.completed_seq;
        self.updated_seq = later.updated_seq;
        self.completed_at = later.completed_at;
        self.call_id = self.call_id.take().or_else(|| later.call_id.clone());
        self.parent_item_id = self.parent_item_id.take().or_else(|| later.parent_item_id.clone());
        self.caller = self.caller.take().or_else(|| later.caller.clone());
    }
}

/// The changes that the events of one run cause, at most one for each item, in order of their first record.
#[must_use]
pub fn project<'a>(events: impl IntoIterator<Item = (u64, &'a EventDraft)>) -> Vec<ItemChange> {
    let mut changes: Vec<ItemChange> = Vec::new();
    for change in events.into_iter().filter_map(|(seq, event)| ItemChange::of(seq, event)) {
        match changes.iter_mut().find(|known| known.item_id == change.item_id) {
            Some(known) => known.merge(&change),
            None => changes.push(change),
        }
    }
    changes
}
