//! `export`.

use std::fs;
use std::path::Path;

use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, EventDraft, Finish, ItemId, ItemKind, ItemMark, ItemStatus, JournalMark, NewRun,
    NewThread, Outcome, RawJson, RunId, RunProgress, Scope, ThreadId, Timestamp, Visibility,
};
use serde_json::{Value, json};

use crate::{Place, Said, fixture};

const SHAPES: [&str; 7] =
    ["events", "items", "openai-chat", "openai-responses", "langchain", "deerflow", "codex-legacy"];

fn lines(said: &Said) -> Vec<Value> {
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn weather() -> Place {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    place
}

/// The messages of a state without what stands for nothing: fields that are absent or empty are the same.
fn bare(messages: &[Value]) -> Vec<Value> {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(array) => array.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    let bare = |message: &Value| {
        let fields = message.as_object().unwrap().iter().filter(|(name, value)| {
            // A result that says nothing of its status is a success.
            !(is_nothing(value) || *name == "status" && **value == "success")
        });
        let mut fields: serde_json::Map<String, Value> =
            fields.map(|(name, value)| (name.clone(), value.clone())).collect();
        for call in fields.get_mut("tool_calls").into_iter().flat_map(|calls| calls.as_array_mut().unwrap()) {
            call["type"] = json!("tool_call");
        }
        Value::Object(fields)
    };
    messages.iter().map(bare).collect()
}

async fn langchain_comes_back(file: &Path) {
    let place = Place::new();
    place.import("langgraph-thread", file).await;
    let thread = file.file_stem().unwrap().to_str().unwrap();
    let exported = place.json(&["export", thread, "--format", "langchain"]).await;
    let exported: Vec<Value> =
        exported.as_array().unwrap().iter().map(|message| message["data"].clone()).collect();
    let state: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let given = state["values"]["messages"].as_array().unwrap();
    let (mut exported, given) = (bare(&exported), bare(given));
    // Calls that the state has no result of were interrupted, and say so here.
    exported.retain(|message| message["content"] != "the call has no result: it was interrupted");
    for (exported, given) in exported.iter_mut().zip(&given) {
        // What had no id has the one that it got here, and the tool's name is known from its call.
        for name in ["id", "name"] {
            if given.get(name).is_none() {
                exported.as_object_mut().unwrap().remove(name);
            }
        }
    }
    assert_eq!(exported, given, "{}", file.display());
}

#[tokio::test]
async fn langchain_messages_come_back_as_they_were() {
    langchain_comes_back(&fixture("weather.json")).await;
}

#[tokio::test]
async fn langchain_messages_of_recorded_threads_come_back_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/langgraph-threads");
    let Ok(files) = fs::read_dir(folder) else {
        eprintln!("SKIPPED: no recordings at {folder}");
        return;
    };
    for file in files {
        langchain_comes_back(&file.unwrap().path()).await;
    }
}

#[tokio::test]
async fn a_thread_is_told_in_every_shape() {
    let place = weather().await;
    for shape in SHAPES {
        let said = place.run(&["export", "weather", "--format", shape]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shape}");
        insta::assert_snapshot!(format!("export_{shape}"), said.out);
    }
    // The log itself loses nothing.
    let listed = place.run(&["events", "--thread", "weather", "--after-seq", "0", "--json"]).await.json();
    let told = lines(&place.run(&["export", "weather", "--format", "events"]).await);
    assert_eq!(Value::from(told), listed["items"]);
}

#[tokio::test]
async fn one_run_is_told_alone() {
    let place = weather().await;
    let only = ["export", "weather", "--run", "weather-run-2", "--format"];
    let events = lines(&place.run(&[&only[..], &["events"]].concat()).await);
    assert!(
        !events.is_empty() && events.iter().all(|event| event["run_id"] == "weather-run-2"),
        "{events:?}"
    );
    let chat = place.json(&[&only[..], &["openai-chat"]].concat()).await;
    let roles: Vec<&str> =
        chat.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant"]);
}

#[tokio::test]
async fn what_is_not_there_is_told_and_leaves_no_file() {
    let place = weather().await;
    let file = place.path("out.json");
    fs::write(&file, "before").unwrap();
    let path = file.to_str().unwrap();
    for args in [vec!["none"], vec!["weather", "--run", "none"], vec!["weather", "--owner", "eve"]] {
        let args = [&["export", "--format", "events", "--output", path][..], &args].concat();
        assert_eq!(place.run(&args).await.code, 1, "{args:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "before");
    let said = place.run(&["export", "weather", "--format", "items", "-o", path]).await;
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    let shown = place.run(&["export", "weather", "--format", "items"]).await.out;
    assert_eq!(fs::read_to_string(&file).unwrap(), shown);
    let left: Vec<_> = fs::read_dir(file.parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert_eq!(left, [""; 0]);
    let nowhere = place.path("none/out.json");
    let said = place.run(&["export", "weather", "--format", "items", "-o", nowhere.to_str().unwrap()]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("out.json"), "{}", said.err);
    assert_eq!(place.run(&["export", "weather", "--format", "items", "-o", "/"]).await.code, 2);
}

/// A run that took another one's place, items that go on, and a system prompt.
#[tokio::test]
async fn hidden_runs_are_told_when_asked_for() {
    let place = Place::new();
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let thread = ThreadId::new("t").unwrap();
    let scope = Scope::System;
    for (run, said) in [("first", "one"), ("second", "two")] {
        let run = RunId::new(run).unwrap();
        let new = NewRun {
            create_missing: Some(NewThread {
                system_prompt: Some("Be brief.".into()),
                ..NewThread::new(thread.clone())
            }),
            ..NewRun::new(thread.clone(), run.clone())
        };
        let epoch = ledger.admit(&scope, new).await.unwrap().run.epoch;
        let item = |id: &str, kind, status, content: String| {
            let mark = ItemMark::new(ItemId::new(id).unwrap(), kind, status);
            EventDraft::item(mark, Category::Message, RawJson::parse("content", &content).unwrap())
        };
        let events = vec![
            item("u", ItemKind::UserMessage, ItemStatus::Completed, json!({"content": said}).to_string()),
            item(
                "c",
                ItemKind::ToolCall,
                ItemStatus::InProgress,
                json!({"name": said, "args": {}}).to_string(),
            ),
        ];
        ledger
            .events()
            .append(&scope, Commit::of_run(thread.clone(), run.clone()).with_events(events))
            .await
            .unwrap();
        if said == "one" {
            let (outcome, at) = (Outcome::success(), Timestamp::now());
            let finish = Finish {
                thread_id: thread.clone(),
                run_id: run.clone(),
                mark: JournalMark { epoch, ordinal: 0 },
                events: vec![EventDraft::terminal(&outcome, None, at)],
                usage: Vec::new(),
                progress: RunProgress::default(),
                asks: Vec::new(),
                outcome,
                at,
            };
            ledger.finish(&scope, finish).await.unwrap();
            ledger.runs().set_visibility(&scope, &thread, &run, Visibility::Superseded).await.unwrap();
        }
    }
    ledger.close().await;
    let said = |messages: Value| -> Vec<String> {
        messages
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["content"].as_str().unwrap().to_owned())
            .collect()
    };
    let chat = ["export", "t", "--format", "openai-chat"];
    assert_eq!(said(place.json(&chat).await), ["Be brief.", "two"]);
    assert_eq!(said(place.json(&[&chat[..], &["--hidden"]].concat()).await), ["Be brief.", "one", "two"]);
    assert_eq!(said(place.json(&[&chat[..], &["--run", "first"]].concat()).await), ["one"]);
    let items = lines(&place.run(&["export", "t", "--format", "items"]).await);
    let shown: Vec<_> =
        items.iter().map(|item| [&item["entry"]["item_id"], &item["entry"]["status"]]).collect();
    assert_eq!(shown, [["u", "completed"], ["c", "in_progress"]]);
}

/// An empty thread is an empty array, and no lines.
#[tokio::test]
async fn nothing_is_told_of_an_empty_thread() {
    let place = Place::new();
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let thread = NewThread::new(ThreadId::new("t").unwrap());
    ledger.threads().create(&Scope::System, thread).await.unwrap();
    ledger.close().await;
    for shape in SHAPES {
        let said = place.run(&["export", "t", "--format", shape]).await;
        let is_array = shape.starts_with("openai") || shape == "langchain";
        assert_eq!((said.code, said.out.as_str()), (0, if is_array { "[]\n" } else { "" }), "{shape}");
    }
}
