//! What a store writes by itself when a run is ended from outside, or gets the slot it waited for.

use super::check::blob_uses;
use super::{ContentSize, Expected, Prepared, RunProgress};
use crate::record::{Event, EventDraft, ItemKind, ItemMark, ItemStatus, Outcome, event_type};
use crate::view::items;
use crate::{Category, EventType, RunId, ThreadId, Timestamp};

impl Prepared {
    /// The end of a run that its journal does not write: for each item that is open an explicit
    /// completion as interrupted, and the terminal event.
    ///
    /// `open` are the events that started these items, in their order. A completion repeats what is
    /// known of its item, so that it can be read without its start.
    #[must_use]
    pub fn closing(thread: &ThreadId, run: &RunId, open: &[Event], outcome: &Outcome, at: Timestamp) -> Self {
        let mut events: Vec<EventDraft> =
            open.iter().filter_map(|started| interrupted(started, at)).collect();
        events.push(EventDraft::terminal(outcome, None, at));
        let mut prepared = Self::of_store(thread, run, events);
        for (size, started) in prepared.sizes.iter_mut().zip(open) {
            *size = ContentSize { bytes: started.content_bytes, truncated: started.truncated };
        }
        prepared
    }

    /// What a run that waited brings to the log when it gets the slot: its input.
    #[must_use]
    pub fn input(thread: &ThreadId, run: &RunId, events: Vec<EventDraft>) -> Self {
        Self::of_store(thread, run, events)
    }

    fn of_store(thread: &ThreadId, run: &RunId, events: Vec<EventDraft>) -> Self {
        let sizes = events
            .iter()
            .map(|event| ContentSize { bytes: event.content.as_str().len() as u64, truncated: false });
        Self {
            thread_id: thread.clone(),
            run_id: Some(run.clone()),
            mark: None,
            expected: Expected::Any,
            create_missing: None,
            sizes: sizes.collect(),
            usage: Vec::new(),
            progress: RunProgress::default(),
            blobs: Vec::new(),
            blob_uses: blob_uses(&events),
            transition: None,
            item_changes: items::project(
                events.iter().enumerate().map(|(offset, event)| (offset as u64, event)),
            ),
            message_count: events.iter().filter(|event| event.category == Category::Message).count() as u64,
            events,
        }
    }
}

/// The completion of an item that was open when its run ended.
fn interrupted(started: &Event, at: Timestamp) -> Option<EventDraft> {
    let mark = started.item.clone()?;
    // The model is told of every call it asked for, so the end of one is a message.
    let is_call = mark.kind != ItemKind::SubAgentActivity && mark.is_call(&started.content);
    let category = if is_call { Category::Message } else { started.category.clone() };
    let mut completed = EventDraft {
        event_type: EventType::from_stored(event_type::ITEM_COMPLETED),
        category,
        caller: started.caller.clone(),
        task_id: started.task_id.clone(),
        item: Some(ItemMark { status: ItemStatus::Interrupted, ..mark }),
        once_key: None,
        content: started.content.clone(),
        whole_bytes: started.truncated.then_some(started.content_bytes),
        metadata: None,
        created_at: at,
    };
    completed.mark_result();
    Some(completed)
}
