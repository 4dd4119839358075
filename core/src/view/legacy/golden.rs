//! Each kind of item against what other systems have for it.
//!
//! The fixtures are written by hand, from the references of these systems and their recordings: an item's records as
//! they are stored, and what each shape makes of them.

use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::Value;

use super::codex::Codex;
use super::langchain::LangChain;
use super::openai_chat::OpenAiChat;
use super::openai_responses::OpenAiResponses;
use super::testing::Log;
use crate::{Event, ItemKind, ItemStatus, RawJson};

#[derive(Deserialize)]
struct Fixture {
    kind: ItemKind,
    records: Vec<Record>,
    codex: Vec<Vec<Value>>,
    chat: Vec<Value>,
    responses: Vec<Value>,
    langchain: Vec<Value>,
}

#[derive(Deserialize)]
struct Record {
    status: ItemStatus,
    content: Value,
}

impl Fixture {
    fn log(&self) -> Vec<Event> {
        let log = self.records.iter().fold(Log::default(), |log, record| {
            log.marked("i1", self.kind.clone(), record.status.clone(), &record.content.to_string())
        });
        log.events()
    }
}

fn fixtures() -> Vec<Fixture> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/items");
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap()).collect()
}

fn values(records: Vec<RawJson>) -> Vec<Value> {
    records.iter().map(|record| record.decode().unwrap()).collect()
}

#[test]
fn every_kind_has_a_fixture() {
    let mut kinds: Vec<ItemKind> = fixtures().into_iter().map(|fixture| fixture.kind).collect();
    kinds.retain(|kind| !matches!(kind, ItemKind::Extension { .. }));
    kinds.sort();
    let mut known = ItemKind::KNOWN.to_vec();
    known.sort();
    assert_eq!(kinds, known);
}

#[test]
fn codex_knows_each_kind_of_item() {
    for fixture in fixtures() {
        let mut codex = Codex::default();
        let told: Vec<Vec<Value>> = fixture.log().iter().map(|event| values(codex.take(event))).collect();
        let payload = |line: &Value| {
            assert_eq!(line["type"], "event_msg");
            line["payload"].clone()
        };
        let told: Vec<Vec<Value>> = told.iter().map(|lines| lines.iter().map(payload).collect()).collect();
        assert_eq!(told, fixture.codex, "{}", fixture.kind);
    }
}

#[test]
fn chat_messages_of_each_kind_of_item() {
    for fixture in fixtures() {
        let mut chat = OpenAiChat::default();
        let mut told: Vec<RawJson> = fixture.log().iter().flat_map(|event| chat.take(event)).collect();
        told.extend(chat.finish());
        assert_eq!(values(told), fixture.chat, "{}", fixture.kind);
    }
}

#[test]
fn responses_items_of_each_kind_of_item() {
    for fixture in fixtures() {
        let mut responses = OpenAiResponses::default();
        let told = fixture.log().iter().flat_map(|event| responses.take(event)).collect();
        assert_eq!(values(told), fixture.responses, "{}", fixture.kind);
    }
}

#[test]
fn langchain_messages_of_each_kind_of_item() {
    for fixture in fixtures() {
        let mut messages = LangChain::default();
        let told = fixture.log().iter().flat_map(|event| messages.take(event)).collect();
        assert_eq!(values(told), fixture.langchain, "{}", fixture.kind);
    }
}

/// The items that real clients wrote have the fields that ours have, each of the same type.
#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn codex_items_have_the_fields_of_recorded_ones() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/codex");
    let Ok(folders) = std::fs::read_dir(root) else {
        eprintln!("SKIPPED: no recordings at {root}");
        return;
    };
    let ours: Vec<Value> = fixtures()
        .iter()
        .filter_map(|fixture| fixture.codex.last()?.first().map(|event| event["item"].clone()))
        .collect();
    let mut compared = 0;
    for folder in folders {
        for file in std::fs::read_dir(folder.unwrap().path()).into_iter().flatten() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let text = std::fs::read(path).unwrap();
            for line in text.split(|byte| *byte == b'\n') {
                let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
                let item = &line["payload"]["item"];
                let Some(ours) = ours.iter().find(|ours| ours["type"] == item["type"]) else { continue };
                compared += 1;
                for (name, value) in item.as_object().unwrap() {
                    let same = std::mem::discriminant(value) == std::mem::discriminant(&ours[name]);
                    assert!(same || value.is_null(), "{name} of {item}");
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}
