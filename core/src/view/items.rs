//! The projector: from a slice of the log to changes of the item index, and to items.
//!
//! One pure rule, used inline by every store, by whoever rebuilds the index and by whoever reads a log
//! live. It reads the envelope of an event only, so no payload can make it fail.
//!
//! The rule: the first record of an item makes its row and says what it is, and where and when it began. Until
//! it has ended, a later record adds what the row lacks of call, parent and caller. The first record that
//! completes it ends it, and nothing after that changes it. So it does not matter how a log is cut: the changes
//! of two consecutive slices, one merged into the other, are the change of both together.

use std::collections::{BTreeMap, HashMap};

use crate::record::{Envelope, Item};
use crate::{
    CallId, Caller, Event, EventDraft, ItemEntry, ItemId, ItemKind, ItemMark, ItemStatus, RunId, Timestamp,
};

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
    /// The event that ended it, or began it while it goes on.
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

/// The part of a row that later records change.
pub(crate) struct Standing<'a> {
    pub(crate) status: &'a mut ItemStatus,
    pub(crate) completed_seq: &'a mut Option<u64>,
    pub(crate) updated_seq: &'a mut u64,
    pub(crate) completed_at: &'a mut Option<Timestamp>,
    pub(crate) parent_item_id: &'a mut Option<ItemId>,
    pub(crate) call_id: &'a mut Option<CallId>,
    pub(crate) caller: &'a mut Option<Caller>,
}

impl Standing<'_> {
    pub(crate) fn merge(self, later: &ItemChange) {
        if *self.status != ItemStatus::InProgress {
            return;
        }
        if later.status != ItemStatus::InProgress {
            *self.status = later.status.clone();
            *self.completed_seq = later.completed_seq;
            *self.updated_seq = later.updated_seq;
            *self.completed_at = later.completed_at;
        }
        *self.call_id = self.call_id.take().or_else(|| later.call_id.clone());
        *self.parent_item_id = self.parent_item_id.take().or_else(|| later.parent_item_id.clone());
        *self.caller = self.caller.take().or_else(|| later.caller.clone());
    }
}

impl ItemChange {
    /// What one record of an item changes.
    #[must_use]
    pub fn of(seq: u64, mark: &ItemMark, caller: Option<&Caller>, at: Timestamp) -> Self {
        let completed = mark.status != ItemStatus::InProgress;
        Self {
            item_id: mark.item_id.clone(),
            kind: mark.kind.clone(),
            status: mark.status.clone(),
            started_seq: seq,
            completed_seq: completed.then_some(seq),
            updated_seq: seq,
            started_at: at,
            completed_at: completed.then_some(at),
            parent_item_id: mark.parent_item_id.clone(),
            call_id: mark.call_id.clone(),
            caller: caller.cloned(),
        }
    }

    /// What an event of a run changes, where it is the record of an item. An event of no run has no item.
    #[must_use]
    pub fn of_envelope(event: &Envelope) -> Option<(RunId, Self)> {
        let (run, mark) = (event.run_id.clone()?, event.item.as_ref()?);
        Some((run, Self::of(event.seq, mark, event.caller.as_ref(), event.created_at)))
    }

    /// Merges a later record of the same item into this one.
    pub fn merge(&mut self, later: &Self) {
        self.standing().merge(later);
    }

    fn standing(&mut self) -> Standing<'_> {
        Standing {
            status: &mut self.status,
            completed_seq: &mut self.completed_seq,
            updated_seq: &mut self.updated_seq,
            completed_at: &mut self.completed_at,
            parent_item_id: &mut self.parent_item_id,
            call_id: &mut self.call_id,
            caller: &mut self.caller,
        }
    }
}

/// The changes that the events of one run cause, at most one for each item, in order of their first record.
#[must_use]
pub fn project<'a>(events: impl IntoIterator<Item = (u64, &'a EventDraft)>) -> Vec<ItemChange> {
    let records = events.into_iter().filter_map(|(seq, event)| {
        let mark = event.item.as_ref()?;
        Some(((), ItemChange::of(seq, mark, event.caller.as_ref(), event.created_at)))
    });
    merged(records).into_iter().map(|((), change)| change).collect()
}

/// The changes that a slice of a log causes, at most one for each item, in order of their first record.
#[must_use]
pub fn project_slice<'a>(events: impl IntoIterator<Item = &'a Envelope>) -> Vec<(RunId, ItemChange)> {
    merged(events.into_iter().filter_map(ItemChange::of_envelope))
}

/// The changes of records in the order of the log, those of one item merged into its first.
fn merged<R: Clone + Eq + std::hash::Hash>(
    records: impl Iterator<Item = (R, ItemChange)>,
) -> Vec<(R, ItemChange)> {
    let mut changes: Vec<(R, ItemChange)> = Vec::new();
    let mut places: HashMap<(R, ItemId), usize> = HashMap::new();
    for (run, change) in records {
        let place = *places.entry((run.clone(), change.item_id.clone())).or_insert(changes.len());
        match changes.get_mut(place) {
            Some((_, known)) => known.merge(&change),
            None => changes.push((run, change)),
        }
    }
    changes
}

/// The items of a log that is read as it grows: events in, items with their contents out, by the rule of the
/// index. So what a live reader shows is what the store answers about the same events, but for claims, which
/// are no events.
///
/// It may begin with items that a store answered, and go on with the events after what they were projected
/// through. An event that was seen before changes nothing.
///
/// ```
/// # use runledger_core::view::items::ItemReducer;
/// # fn follow(page: runledger_core::ItemPage, tail: Vec<runledger_core::Event>) {
/// let mut items: ItemReducer = page.items.into_iter().collect();
/// for event in &tail {
///     if let Some(item) = items.apply(event) {
///         println!("{} is {}", item.entry.item_id, item.entry.status);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemReducer {
    items: BTreeMap<u64, Item>,
    places: HashMap<(RunId, ItemId), u64>,
}

impl ItemReducer {
    /// Takes in the next event; gives the item that it changed, if it did.
    pub fn apply(&mut self, event: &Event) -> Option<&Item> {
        let (run, mark) = (event.run_id.as_ref()?, event.item.as_ref()?);
        let change = ItemChange::of(event.seq, mark, event.caller.as_ref(), event.created_at);
        let key = (run.clone(), change.item_id.clone());
        let Some(place) = self.places.get(&key) else {
            self.places.insert(key, event.seq);
            let entry = ItemEntry::of(&event.thread_id, run, change);
            return Some(self.items.entry(event.seq).or_insert_with(|| Item::of(entry, event)));
        };
        let item = self.items.get_mut(place)?;
        if event.seq <= item.entry.updated_seq {
            return None;
        }
        let before = item.entry.clone();
        item.entry.merge(&change);
        if item.entry == before {
            return None;
        }
        if item.entry.updated_seq == event.seq {
            *item = Item::of(item.entry.clone(), event);
        }
        Some(item)
    }

    /// Takes in the next event, for whoever tells a log of any length: gives the item that it begins or ends, and
    /// keeps of one that ended no more than that it did. So the items that are kept are those that go on.
    pub fn tell(&mut self, event: &Event) -> Option<Item> {
        let item = self.apply(event)?.clone();
        if item.entry.status != ItemStatus::InProgress {
            self.items.remove(&item.entry.started_seq);
        }
        (item.entry.updated_seq == event.seq).then_some(item)
    }

    /// The items, in the order they began.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = &Item> {
        self.items.values()
    }

    /// An item of a run.
    #[must_use]
    pub fn get(&self, run: &RunId, item: &ItemId) -> Option<&Item> {
        self.items.get(self.places.get(&(run.clone(), item.clone()))?)
    }
}

impl FromIterator<Item> for ItemReducer {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut reducer = Self::default();
        for item in items {
            let entry = &item.entry;
            reducer.places.insert((entry.run_id.clone(), entry.item_id.clone()), entry.started_seq);
            reducer.items.insert(entry.started_seq, item);
        }
        reducer
    }
}

#[cfg(test)]
mod tests;
