//! Which of a file's events are in their run's log already.

use std::collections::BTreeMap;

use runledger_core::{Event, EventDraft, EventType, Timestamp};

use crate::report::{QUARANTINED, Quarantined};

/// What tells a run's stored events apart, by their numbers in its journal. Under another epoch
/// the same number may be another event.
#[derive(Debug, Default)]
pub(super) struct Log(BTreeMap<u64, Vec<Stored>>);

#[derive(Debug)]
struct Stored {
    event_type: EventType,
    created_at: Timestamp,
    bytes: u64,
    note: Option<Event>,
}

impl Log {
    pub(super) fn add(&mut self, event: &Event) {
        let Some(ordinal) = event.journal_ordinal else { return };
        let note = (event.event_type.as_str() == QUARANTINED).then(|| event.clone());
        self.0.entry(ordinal).or_default().push(Stored {
            event_type: event.event_type.clone(),
            created_at: event.created_at,
            bytes: event.content_bytes,
            note,
        });
    }

    /// Whether the event, or the note that stands for it, is there.
    pub(super) fn has(&self, event: &EventDraft, ordinal: u64) -> bool {
        let same = |stored: &Stored| {
            let noted = stored.note.as_ref().and_then(|note| Quarantined::in_place_of(note, event));
            noted.is_some()
                || (stored.event_type == event.event_type
                    && stored.created_at == event.created_at
                    && stored.bytes == event.content.as_str().len() as u64)
        };
        self.0.get(&ordinal).is_some_and(|stored| stored.iter().any(same))
    }
}
