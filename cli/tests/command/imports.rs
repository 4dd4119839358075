//! What comes in.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

use crate::{Place, fixture, summary};

#[tokio::test]
async fn a_langgraph_thread_comes_in_once() {
    let place = Place::new();
    let file = fixture("weather.json");
    // Run 1: input, start, context, reasoning, message, 2 started, 1 completed, message, 1 interrupted, end.
    // Run 2: input, start, message, end.
    assert_eq!(place.import("langgraph-thread", &file).await, summary([1, 1, 2, 15, 7, 1, 20, 5, 25, 0, 0]));
    assert_eq!(place.import("langgraph-thread", &file).await, summary([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]));
    let events = place.run(&["events", "--thread", "weather", "--after-seq", "0", "--json"]).await.json();
    assert_eq!(events["items"].as_array().unwrap().len(), 15);
    insta::assert_json_snapshot!("langgraph_events", events);
    insta::assert_json_snapshot!(
        "langgraph_runs",
        place.run(&["runs", "--thread", "weather", "--json"]).await.json()
    );
    insta::assert_json_snapshot!("langgraph_threads", place.run(&["threads", "--json"]).await.json());
    insta::assert_snapshot!("langgraph_replay", place.run(&["replay", "weather"]).await.out);
}

#[tokio::test]
async fn a_longer_thread_adds_its_new_runs_and_a_changed_one_is_refused() {
    let place = Place::new();
    let whole: Value = serde_json::from_str(&fs::read_to_string(fixture("weather.json")).unwrap()).unwrap();
    let mut first = whole.clone();
    first["values"]["messages"].as_array_mut().unwrap().truncate(5);
    let file = place.path("growing.json");
    fs::write(&file, first.to_string()).unwrap();
    assert_eq!(place.import("langgraph-thread", &file).await["runs"], json!(1));
    fs::write(&file, whole.to_string()).unwrap();
    let again = place.import("langgraph-thread", &file).await;
    assert_eq!((&again["runs"], &again["skipped"], &again["events"]), (&json!(1), &json!(1), &json!(4)));

    first["values"]["messages"][4]["content"] = json!("No.");
    fs::write(&file, first.to_string()).unwrap();
    let said = place.run(&["import", "langgraph-thread", file.to_str().unwrap()]).await;
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("growing.json: run \"growing-run-1\" is in the ledger with other content"),
        "{}",
        said.err
    );
    assert_eq!(
        place.run(&["runs", "--thread", "growing", "--json"]).await.json()["items"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn a_trajectory_comes_in_once_with_exact_costs() {
    let place = Place::new();
    let file = fixture("fix.traj.json");
    // 1.5 billionths count as 2, 1.2e-05 dollars are 12,000, and null is no cost.
    assert_eq!(
        place.import("mini-swe-agent", &file).await,
        summary([1, 1, 1, 13, 7, 3, 600, 60, 660, 12_002, 0])
    );
    assert_eq!(place.import("mini-swe-agent", &file).await, summary([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    insta::assert_json_snapshot!(
        "trajectory_run",
        place.run(&["runs", "--run", "demo__fix-1-run-1", "--json"]).await.json()
    );
    insta::assert_json_snapshot!(
        "trajectory_usage",
        place.run(&["usage", "--run", "demo__fix-1-run-1", "--json"]).await.json()
    );
    let list = place.run(&["runs", "--json"]).await.json();
    assert_eq!(list["items"][0].get("token_usage_by_model"), None);
    insta::assert_snapshot!("trajectory_replay", place.run(&["replay", "demo__fix-1"]).await.out);
}

#[tokio::test]
async fn recorded_callbacks_come_in_once() {
    let place = Place::new();
    let folder = place.path("recordings/inner");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(fixture("callbacks.jsonl"), folder.join("callbacks.jsonl")).unwrap();
    let first = place.import("callbacks", &place.path("recordings")).await;
    let shown = ["threads", "runs", "messages", "usage_records", "total_tokens", "skipped"]
        .map(|name| first[name].as_u64().unwrap());
    assert_eq!(shown, [1, 1, 2, 1, 9, 0]);
    let again = place.import("callbacks", &place.path("recordings")).await;
    assert_eq!(again, summary([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
}

/// Links to folders lead to the same files again, those to a folder above without end.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_several_paths_lead_to_is_imported_once() {
    let place = Place::new();
    fs::create_dir_all(place.path("loop/sub")).unwrap();
    fs::copy(fixture("weather.json"), place.path("loop/sub/l.json")).unwrap();
    for (target, link) in [("..", "loop/sub/up"), (".", "loop/sub/self"), ("sub", "loop/again")] {
        std::os::unix::fs::symlink(target, place.path(link)).unwrap();
    }
    let paths = ["loop", "loop/sub", "loop/again/l.json"].map(|path| place.path(path));
    let paths = paths.each_ref().map(|path| path.to_str().unwrap());
    let said = place.run(&["import", "langgraph-thread", paths[0], paths[1], paths[2], "--json"]).await;
    let summary: Value = serde_json::from_str(&said.out).unwrap_or_default();
    assert_eq!((said.code, &summary["files"]), (0, &json!(1)), "{}", said.err);
}

/// Models give one id to two calls now and then: the first that was asked for is answered first.
#[tokio::test]
async fn calls_that_share_an_id_are_answered_in_their_order() {
    let place = Place::new();
    let call = |city: &str| json!({ "name": "weather", "args": { "city": city }, "id": "c" });
    let told =
        |said: &str| json!({ "type": "tool", "name": "weather", "tool_call_id": "c", "content": said });
    let messages = json!([
        { "type": "human", "content": "Where is it cold?" },
        { "type": "ai", "content": "", "tool_calls": [call("Bern"), call("Rome"), call("Oslo")] },
        told("3 degrees"),
        told("20 degrees"),
        { "type": "ai", "content": "In Bern." },
    ]);
    let state = json!({ "values": { "messages": messages }, "created_at": "2026-01-02T03:04:05Z" });
    fs::write(place.path("twice.json"), state.to_string()).unwrap();
    place.import("langgraph-thread", &place.path("twice.json")).await;
    let events = place.run(&["events", "--thread", "twice", "--after-seq", "0", "--json"]).await.json();
    let calls: Vec<Value> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["item"]["item_kind"] == "tool_call")
        .map(|event| {
            let (item, content) = (&event["item"], &event["content"]);
            json!([item["item_id"], item["item_status"], content["args"]["city"], content["content"]])
        })
        .collect();
    assert_eq!(
        calls,
        [
            json!(["c", "in_progress", "Bern", null]),
            json!(["message-1-call", "in_progress", "Rome", null]),
            json!(["message-1-call-2", "in_progress", "Oslo", null]),
            json!(["c", "completed", "Bern", "3 degrees"]),
            json!(["message-1-call", "completed", "Rome", "20 degrees"]),
            json!(["message-1-call-2", "interrupted", "Oslo", null]),
        ]
    );
}

/// Everything in the folder of real recordings, against sums made from the files alone.
#[tokio::test]
async fn real_recordings_come_in_with_their_own_totals() {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let Some(data) = above.map(|folder| folder.join("shared/data")).find(|data| data.is_dir()) else {
        eprintln!("SKIPPED: the folder of real recordings is not there");
        return;
    };
    let place = Place::new();
    let (mut calls, mut total, mut files) = (0, 0, 0);
    for entry in fs::read_dir(data.join("mini-swe-agent")).unwrap() {
        let file: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        files += 1;
        for message in file["messages"].as_array().unwrap() {
            if let Some(usage) = message["extra"]["response"]["usage"].as_object() {
                calls += 1;
                total += usage["total_tokens"].as_u64().unwrap();
            }
        }
    }
    let swe = place.import("mini-swe-agent", &data.join("mini-swe-agent")).await;
    let shown =
        ["files", "threads", "runs", "usage_records", "total_tokens"].map(|name| swe[name].as_u64().unwrap());
    assert_eq!(shown, [files, files, files, calls, total]);

    let (mut threads, mut runs, mut messages) = (0, 0, 0);
    for entry in fs::read_dir(data.join("langgraph-threads")).unwrap() {
        let file: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let kinds =
            file["values"]["messages"].as_array().unwrap().iter().map(|m| m["type"].as_str().unwrap());
        let kinds: Vec<&str> = kinds.collect();
        threads += 1;
        runs += kinds.iter().filter(|kind| **kind == "human").count() as u64;
        messages += kinds.iter().filter(|kind| **kind != "system").count() as u64;
    }
    let graph = place.import("langgraph-thread", &data.join("langgraph-threads")).await;
    let shown = ["threads", "runs", "messages", "usage_records"].map(|name| graph[name].as_u64().unwrap());
    assert_eq!(shown, [threads, runs, messages, 0]);

    let (mut tokens, mut runs) = (0, 0);
    for entry in fs::read_dir(data.join("callbacks")).unwrap() {
        let expected = entry.unwrap().path().join("expected.json");
        let Ok(text) = fs::read_to_string(&expected) else { continue };
        // Half a surrogate pair is not JSON to this reader; the numbers stand beside it.
        let text = text.replace("\\ud", "\\u0d").replace("\\uD", "\\u0d");
        let file: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
        for run in file["runs"].as_array().unwrap() {
            runs += 1;
            tokens += run["completion_data"]["total_tokens"].as_u64().unwrap();
        }
    }
    let recorded = place.import("callbacks", &data.join("callbacks")).await;
    assert_eq!([&recorded["runs"], &recorded["total_tokens"]], [&json!(runs), &json!(tokens)]);

    for (format, folder) in [
        ("mini-swe-agent", "mini-swe-agent"),
        ("langgraph-thread", "langgraph-threads"),
        ("callbacks", "callbacks"),
    ] {
        let again = place.import(format, &data.join(folder)).await;
        let shown = ["threads", "runs", "events", "usage_records"].map(|name| again[name].as_u64().unwrap());
        assert_eq!(shown, [0, 0, 0, 0], "{format}");
    }
    assert_eq!(carried(&place).await, place.json(&["threads", "--limit", "1000", "--json"]).await);
}

/// The threads after they went to a folder of archives and from there to another database, verified.
async fn carried(place: &Place) -> Value {
    let other = Place::new();
    let folder = place.path("archives");
    let folder = folder.to_str().unwrap();
    let exported = place.json(&["archive", "export", folder, "--verify", "--json"]).await;
    let imported = other.json(&["archive", "import", folder, "--verify", "--json"]).await;
    assert_eq!(imported, exported);
    assert_eq!((&imported["verified"], &imported["refused"]), (&imported["copied"], &json!(0)));
    other.json(&["threads", "--limit", "1000", "--json"]).await
}
