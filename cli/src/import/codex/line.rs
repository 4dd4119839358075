//! One line as a record, and the line that a record was.
//!
//! What the payload says becomes the event's content. What stands around it, and what is needed to
//! write the very line again, is kept small in the event's metadata, under `codex`.

use runledger_core::{Event, ItemId, ItemMark, RawJson, RunId, ThreadId};
use serde::{Deserialize, Serialize};

use super::json::{Members, Object, string};
use super::shape::{self, Named};

/// The keys of a line, in Codex's order.
const KEYS: [&str; 5] = ["timestamp", "ordinal", "type", "payload", "metadata"];

/// What a line says.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) text: &'a str,
    pub(crate) timestamp: Option<String>,
    pub(crate) ordinal: Option<u64>,
    /// Its type; empty where it has none.
    pub(crate) kind: String,
    pub(crate) payload: &'a str,
    pub(crate) members: Members<'a>,
    metadata: Option<&'a str>,
    is_canonical: bool,
}

impl<'a> Record<'a> {
    /// Reads a line; `None` where it is no JSON object.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let line = Members::parse(text)?;
        let payload = line.get("payload").unwrap_or("null");
        let places: Vec<_> =
            line.iter().map(|(key, _)| KEYS.iter().position(|known| *known == key)).collect();
        let is_canonical = places.is_sorted_by(|one, next| one.is_some() && one < next)
            && places.iter().all(Option::is_some);
        Some(Self {
            text,
            timestamp: line.string("timestamp"),
            ordinal: line.count("ordinal").filter(|ordinal| i64::try_from(*ordinal).is_ok()),
            kind: line.string("type").unwrap_or_default(),
            payload,
            members: Members::parse(payload).unwrap_or_default(),
            metadata: line.get("metadata"),
            is_canonical,
        })
    }

    /// The payload's type; empty where it has none.
    pub(crate) fn payload_kind(&self) -> String {
        self.members.string("type").unwrap_or_default()
    }

    /// The turn that it names.
    pub(crate) fn turn(&self) -> Option<String> {
        let passed = || self.members.object("internal_chat_message_metadata_passthrough");
        self.members.string("turn_id").or_else(|| passed()?.string("turn_id"))
    }
}

/// The metadata of an event that was a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) codex: Written,
}

/// How a line was written, but for what its event says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Where it begins in its file.
    pub(crate) at: u64,
    /// Where the next one begins.
    pub(crate) to: u64,
    /// Its file, where that is not the one that is named as its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ordinal: Option<u64>,
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<RawJson>,
    /// The shape the content was made of; none where it is the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shape: Option<String>,
    /// Whether the shape is that of a payload's item.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_item: bool,
    /// The keys in their order, where that is not Codex's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<String>,
    /// The thread that the payload names, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at_ms: Option<RawJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) completed_at_ms: Option<RawJson>,
    /// The whole line, where it cannot be made of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<String>,
}

/// An event, seen as what its line was made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) thread: &'a ThreadId,
    pub(crate) run: Option<&'a RunId>,
    pub(crate) item: Option<&'a ItemMark>,
    pub(crate) content: &'a RawJson,
}

impl<'a> Source<'a> {
    /// What an event says; `content` is its payload with the large parts that are stored apart.
    pub(crate) fn of(event: &'a Event, content: &'a RawJson) -> Self {
        Self { thread: &event.thread_id, run: event.run_id.as_ref(), item: event.item.as_ref(), content }
    }

    fn item_id(self) -> Option<&'a ItemId> {
        self.item.map(|item| &item.item_id)
    }
}

impl Written {
    /// How this line was written.
    pub(crate) fn of(record: &Record<'_>, at: u64, to: u64) -> Self {
        Self {
            at,
            to,
            timestamp: record.timestamp.clone(),
            ordinal: record.ordinal,
            kind: record.kind.clone(),
            metadata: record.metadata.map(RawJson::from_stored),
            ..Self::default()
        }
    }

    /// What an event's metadata says, if it was a line.
    pub(crate) fn read(event: &Event) -> Option<Self> {
        event.metadata.as_ref()?.decode::<Metadata>().ok().map(|metadata| metadata.codex)
    }

    /// Sees to it that the line can be written again: where it could not be made of the rest, it is kept.
    pub(crate) fn keep(mut self, record: &Record<'_>, source: Source<'_>) -> Self {
        if record.is_canonical && self.line(source).as_deref() == Some(record.text) {
            return self;
        }
        let item = record.members.object("item");
        let members = if self.is_item { item.as_ref() } else { Some(&record.members) };
        self.keys = match (&self.shape, members) {
            (Some(_), Some(members)) => members.iter().map(|(key, _)| key.to_owned()).collect(),
            _ => Vec::new(),
        };
        if !record.is_canonical || self.line(source).as_deref() != Some(record.text) {
            self.keys = Vec::new();
            self.line = Some(record.text.to_owned());
        }
        self
    }

    /// The line.
    pub(crate) fn line(&self, source: Source<'_>) -> Option<String> {
        if let Some(line) = &self.line {
            return Some(line.clone());
        }
        let mut line = Object::default();
        if let Some(timestamp) = &self.timestamp {
            line.put("timestamp", RawJson::string(timestamp).as_str());
        }
        if let Some(ordinal) = self.ordinal {
            line.put("ordinal", &ordinal.to_string());
        }
        if !self.kind.is_empty() {
            line.put("type", RawJson::string(&self.kind).as_str());
        }
        line.put("payload", &self.payload(source)?);
        if let Some(metadata) = &self.metadata {
            line.put("metadata", metadata.as_str());
        }
        Some(line.text())
    }

    fn payload(&self, source: Source<'_>) -> Option<String> {
        let Some(shape) = &self.shape else { return Some(source.content.as_str().to_owned()) };
        let named = Named {
            id: source.item_id().map_or("", AsRef::as_ref),
            turn: source.run.map_or("", AsRef::as_ref),
            status: source.item.map_or("", |item| item.status.as_str()),
            keys: &self.keys,
        };
        if !self.is_item {
            return shape::of_payload(shape)?.write(source.content, &named);
        }
        let item = match shape::of_item(shape) {
            Some(shape) => shape.write(source.content, &named)?,
            None => source.content.as_str().to_owned(),
        };
        let mut payload = Object::default();
        payload.put("type", "\"item_completed\"");
        payload.put(
            "thread_id",
            RawJson::string(self.thread.as_deref().unwrap_or(source.thread.as_str())).as_str(),
        );
        payload.put("turn_id", RawJson::string(named.turn).as_str());
        payload.put("item", &item);
        for (name, value) in
            [("started_at_ms", &self.started_at_ms), ("completed_at_ms", &self.completed_at_ms)]
        {
            if let Some(value) = value {
                payload.put(name, value.as_str());
            }
        }
        Some(payload.text())
    }
}

/// What a line without its own words for it is called in the log: 1 to 64 characters.
pub(crate) fn event_type(record: &Record<'_>) -> String {
    let word = |text: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
        (1..=50).contains(&text.len()) && text.bytes().all(known)
    };
    let payload = string(record.members.get("type").unwrap_or_default()).unwrap_or_default();
    let name = if record.kind == "event_msg" && word(&payload) { &payload } else { &record.kind };
    if word(name) { format!("codex.{name}") } else { "codex.unknown".to_owned() }
}
