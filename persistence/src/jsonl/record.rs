//! The records of a thread's files: what the payloads of events are.

use runledger_core::{
    Caller, Category, Error, Event, EventType, ItemMark, RawJson, RunId, TaskId, ThreadId, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::envelope::{self, Envelope};

/// The version of the format that is written here. One that is newer is read as far as its
/// envelope says, and nothing is written beside it.
pub(super) const VERSION: u64 = 1;

/// What a deleted run leaves in the place of its records. Its payload is `null`, which no event's is.
const RUN_DELETED: &str = "run.deleted";

impl Envelope<'_> {
    /// Whether it stands for a run that was deleted.
    pub(super) fn is_tombstone(&self) -> bool {
        self.event_type == RUN_DELETED && self.payload == b"null"
    }

    /// The event it holds. A newer version may hold what is none.
    pub(super) fn event(self, thread: &ThreadId) -> Result<Event, Error> {
        let payload: Payload = serde_json::from_slice(self.payload).map_err(|error| {
            if self.version > VERSION {
                newer(self.version, format!("event {} of thread {thread}", self.seq))
            } else {
                let reason = format!("the payload of seq {} is none of an event: {error}", self.seq);
                Error::Corrupt { what: "record", reason, source: Some(Box::new(error)) }
            }
        })?;
        Ok(Event {
            thread_id: thread.clone(),
            seq: self.seq,
            run_id: self.run_id,
            journal_ordinal: None,
            event_type: EventType::from_stored(&self.event_type),
            category: payload.category,
            caller: payload.caller,
            task_id: payload.task_id,
            item: payload.item,
            once_key: payload.once_key,
            content: payload
                .content
                .or(payload.content_text.map(|text| RawJson::from_stored(&text)))
                .unwrap_or_default(),
            content_bytes: payload.content_bytes,
            truncated: payload.truncated,
            metadata: payload.metadata.or(payload.metadata_text.map(|text| RawJson::from_stored(&text))),
            created_at: payload.created_at,
        })
    }
}

/// The error of whoever meets what a newer version wrote.
pub(super) fn newer(version: u64, of: String) -> Error {
    Error::SchemaMismatch {
        found: format!("version {version} in {of}"),
        needed: format!("version {VERSION} of the JSONL format"),
    }
}

/// What an event's record holds beyond its envelope. A document that has line breaks between its
/// tokens goes into the field that ends in `_text`, as text, for `\n` ends a record.
#[derive(Deserialize)]
struct Payload {
    category: Category,
    created_at: Timestamp,
    #[serde(default)]
    caller: Option<Caller>,
    #[serde(default)]
    task_id: Option<TaskId>,
    #[serde(default)]
    item: Option<ItemMark>,
    #[serde(default)]
    once_key: Option<String>,
    content_bytes: u64,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    metadata: Option<RawJson>,
    #[serde(default)]
    metadata_text: Option<String>,
    #[serde(default)]
    content: Option<RawJson>,
    #[serde(default)]
    content_text: Option<String>,
}

/// [`Payload`] as it is written.
#[derive(Serialize)]
struct Written<'a> {
    category: &'a Category,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a Caller>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a ItemMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    once_key: Option<&'a str>,
    content_bytes: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_text: Option<&'a str>,
}

/// A document as it stands in a line, or as text where that would not bring it back byte for byte.
fn document(document: &RawJson) -> (Option<&RawValue>, Option<&str>) {
    let text = document.as_str();
    let raw = if text.contains('\n') { None } else { serde_json::from_str::<&RawValue>(text).ok() };
    match raw.filter(|raw| raw.get() == text) {
        Some(raw) => (Some(raw), None),
        None => (None, Some(text)),
    }
}

/// Adds the record of an event; `end` marks the last of a commit.
pub(super) fn push_event(lines: &mut Vec<u8>, event: &Event, end: bool) -> Result<(), Error> {
    let (content, content_text) = document(&event.content);
    let (metadata, metadata_text) = event.metadata.as_ref().map(document).unwrap_or_default();
    let payload = Written {
        category: &event.category,
        created_at: event.created_at,
        caller: event.caller.as_ref(),
        task_id: event.task_id.as_ref(),
        item: event.item.as_ref(),
        once_key: event.once_key.as_deref(),
        content_bytes: event.content_bytes,
        truncated: event.truncated,
        metadata,
        metadata_text,
        content,
        content_text,
    };
    push(lines, event.seq, event.run_id.as_ref(), event.event_type.as_str(), end, &payload)
}

/// The record that stands for a deleted run; `last_seq` is the last number that was given on the thread.
pub(super) fn tombstone(run: &RunId, last_seq: u64) -> Result<Vec<u8>, Error> {
    let mut line = Vec::new();
    push(&mut line, last_seq, Some(run), RUN_DELETED, true, &())?;
    Ok(line)
}

/// Adds a record with any payload.
pub(super) fn push<T: Serialize>(
    lines: &mut Vec<u8>,
    seq: u64,
    run: Option<&RunId>,
    event_type: &str,
    end: bool,
    payload: &T,
) -> Result<(), Error> {
    envelope::push(lines, VERSION, seq, run, event_type, end, payload)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::LARGEST;

    fn event(content: &str) -> Event {
        Event {
            thread_id: ThreadId::new("t").unwrap(),
            seq: 7,
            run_id: Some(RunId::new("r\"1").unwrap()),
            journal_ordinal: None,
            event_type: EventType::new("note").unwrap(),
            category: Category::Message,
            caller: Some(Caller::lead_agent()),
            task_id: None,
            item: None,
            once_key: Some("k".to_owned()),
            content: RawJson::from_stored(content),
            content_bytes: content.len() as u64,
            truncated: false,
            metadata: Some(RawJson::from_stored("{\n}")),
            created_at: Timestamp::from_unix_micros(1_700_000_000_000_000).unwrap(),
        }
    }

    fn line(event: &Event, end: bool) -> Vec<u8> {
        let mut lines = Vec::new();
        push_event(&mut lines, event, end).unwrap();
        assert_eq!(lines.pop(), Some(b'\n'));
        assert!(!lines.contains(&b'\n'));
        lines
    }

    #[test]
    fn a_record_looks_like_this() {
        assert_eq!(
            String::from_utf8(line(&event("[1,\"\u{2028}\"]"), true)).unwrap(),
            "{\"v\":1,\"seq\":7,\"run_id\":\"r\\\"1\",\"type\":\"note\",\"end\":true,\"crc\":\"8fb28cb4\",\"payload\":\
             {\"category\":\"message\",\"created_at\":\"2023-11-14T22:13:20.000000+00:00\",\"caller\":\"lead_agent\",\
             \"once_key\":\"k\",\"content_bytes\":9,\"metadata_text\":\"{\\n}\",\"content\":[1,\"\u{2028}\"]}}",
        );
    }

    #[test]
    fn an_event_comes_back_byte_for_byte() {
        for content in [
            "null",
            "\"\\u0000\"",
            "{\n\t\"a\":\r\n1}",
            " 1 ",
            "no json",
            "\"\u{85}\u{2028}\u{2029}\"",
            "[-0,1e400]",
        ] {
            let stored = event(content);
            let line = line(&stored, false);
            let envelope = Envelope::parse(&line).unwrap();
            assert_eq!((envelope.seq, envelope.end), (7, false));
            assert_eq!(envelope.event(&stored.thread_id).unwrap(), stored);
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_told() {
        let mut line = Vec::new();
        envelope::push(&mut line, VERSION + 1, 7, None, "note", true, &["newer"]).unwrap();
        let envelope = Envelope::parse(&line[..line.len() - 1]).unwrap();
        assert_eq!((envelope.version, envelope.seq, envelope.end), (VERSION + 1, 7, true));
        let error = envelope.event(&ThreadId::new("t").unwrap()).unwrap_err();
        assert_eq!(error.kind(), runledger_core::ErrorKind::SchemaMismatch);
    }

    #[test]
    fn every_changed_or_missing_byte_is_seen() {
        let line = line(&event("[1,2]"), true);
        for place in 0..line.len() {
            let mut changed = line.clone();
            changed[place] ^= 1;
            assert!(Envelope::parse(&changed).is_err(), "byte {place}");
            assert!(Envelope::parse(&line[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_seq_that_nothing_could_follow_is_of_no_record() {
        for (seq, is_one) in [(LARGEST, true), (LARGEST + 1, false), (u64::MAX, false)] {
            assert_eq!(Envelope::parse(&line(&Event { seq, ..event("1") }, true)).is_ok(), is_one, "{seq}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
            let _ = Envelope::parse(&bytes);
            let mut line = line(&event("[1]"), true);
            line.truncate(cut);
            line.extend_from_slice(&bytes);
            let _ = Envelope::parse(&line);
        }
    }
}
