//! Imports that cannot be, and what they leave behind.

use pretty_assertions::assert_eq;
use runledger_core::{MAX_COUNT, Scope, ThreadId};
use serde_json::{Value, json};
use std::fs;

use crate::{Place, fixture};

/// A message above the 64 MiB that a store takes stops neither its own file nor the next.
#[tokio::test]
async fn what_the_store_refuses_is_left_out_and_told_after_everything_else() {
    let place = Place::new();
    let text = fs::read_to_string(fixture("callbacks.jsonl")).unwrap();
    let huge = text.replace("\"content\":\"Hello.\"", &format!("\"content\":\"{}\"", "x".repeat(65 << 20)));
    fs::create_dir(place.path("in")).unwrap();
    fs::write(place.path("in/a.jsonl"), huge).unwrap();
    fs::write(place.path("in/b.jsonl"), text.replace("\"recorded\"", "\"other\"")).unwrap();
    let said = place.run(&["import", "callbacks", place.path("in").to_str().unwrap(), "--json"]).await;
    let summary: Value = serde_json::from_str(&said.out).unwrap();
    let shown = ["files", "threads", "runs", "quarantined"].map(|name| summary[name].as_u64());
    assert_eq!((said.code, shown), (1, [Some(2), Some(2), Some(2), Some(1)]));
    let error: Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("left out: 1 record of ") && message.contains("a.jsonl"), "{message}");
    let notes = place.run(&[
        "events",
        "--run",
        "r1",
        "--thread",
        "recorded",
        "--type",
        "journal.quarantined",
        "--json",
    ]);
    assert_eq!(notes.await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_files_are_named_with_their_line_and_nothing_is_written() {
    let cases = [
        ("langgraph-thread", "bad.json", "{\n \"values\": {,\n}", "bad.json:2: "),
        (
            "langgraph-thread",
            "bad.json",
            "{\"values\":{\"messages\":[]}}",
            "bad.json:1: values.messages is empty",
        ),
        (
            "langgraph-thread",
            "bad.json",
            "{\"created_at\":\"2026-01-01T00:00:00Z\",\"values\":{\"messages\":[{\"type\":\"robot\",\"content\":\"\"}]}}",
            "bad.json:1: values.messages[0].type is \"robot\"",
        ),
        (
            "mini-swe-agent",
            "bad.traj.json",
            "{\"instance_id\":\"x\",\n\"info\":{},\"messages\":3}",
            "bad.traj.json:2: ",
        ),
        (
            "mini-swe-agent",
            "bad.traj.json",
            "{\"instance_id\":\"x\",\"info\":{},\"messages\":[]}",
            "nothing says when",
        ),
        ("callbacks", "bad.jsonl", "\n{\"n\":", "bad.jsonl:"),
    ];
    for (format, name, text, expected) in cases {
        let place = Place::new();
        fs::write(place.path(name), text).unwrap();
        let good = match format {
            "langgraph-thread" => "weather.json",
            "mini-swe-agent" => "fix.traj.json",
            _ => "callbacks.jsonl",
        };
        let (good, bad) = (fixture(good), place.path(name));
        let said =
            place.run(&["import", format, good.to_str().unwrap(), bad.to_str().unwrap(), "--json"]).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{format}: {}", said.err);
        let error: Value = serde_json::from_str(&said.err).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        assert_eq!(error["error"]["exit_code"], json!(2));
        assert!(!place.database().exists(), "{format}");
    }
}

/// Whole numbers count in every spelling, and nothing else becomes a count silently.
#[tokio::test]
async fn counts_are_whole_numbers_or_refused_with_field_and_line() {
    let thread = |usage: &str| {
        let text = fs::read_to_string(fixture("weather.json")).unwrap();
        let given = r#""usage_metadata": { "input_tokens": 20, "output_tokens": 5, "total_tokens": 25 }"#;
        assert!(text.contains(given));
        text.replace(given, &format!("\"usage_metadata\":\n{{\n{usage}}}"))
    };
    let trajectory = |usage: &str| {
        let text = fs::read_to_string(fixture("fix.traj.json")).unwrap();
        let given = r#"{ "prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220 }"#;
        assert!(text.contains(given));
        text.replace(given, &format!("{{\n{usage}}}"))
    };
    let import = async |format: &str, text: String| {
        let place = Place::new();
        let file = place.path(if format == "mini-swe-agent" { "a.traj.json" } else { "a.json" });
        fs::write(&file, text).unwrap();
        let said = place.run(&["import", format, file.to_str().unwrap(), "--json"]).await;
        assert_eq!(place.database().exists(), said.code == 0);
        said
    };
    let good = thread(r#""input_tokens": 1e3, "output_tokens": 12.0, "total_tokens": null"#);
    let counts = ["input_tokens", "output_tokens", "total_tokens"];
    let summary: Value = serde_json::from_str(&import("langgraph-thread", good).await.out).unwrap();
    assert_eq!(counts.map(|name| summary[name].as_u64()), [Some(1_000), Some(12), Some(1_012)]);
    let good = trajectory(r#""prompt_tokens": 2.0e2, "completion_tokens": 20.000"#);
    let summary: Value = serde_json::from_str(&import("mini-swe-agent", good).await.out).unwrap();
    assert_eq!(counts.map(|name| summary[name].as_u64()), [Some(600), Some(60), Some(660)]);

    let field = "values.messages[6].usage_metadata";
    for (usage, name, shown) in [
        (r#""input_tokens": 18446744073709551615"#, "input_tokens", "18446744073709551615"),
        ("\"input_tokens\": 1,\n\"output_tokens\": -5", "output_tokens", "-5"),
        (r#""total_tokens": 1e40"#, "total_tokens", "1e40"),
        (r#""input_token_details": {"cache_read": 0.5}"#, "input_token_details.cache_read", "0.5"),
        (r#""input_tokens": "12""#, "input_tokens", "\\\"12\\\""),
    ] {
        let said = import("langgraph-thread", thread(usage)).await;
        let line = if name == "output_tokens" { 22 } else { 21 };
        let expected =
            format!("a.json:{line}: {field}.{name} is {shown}, not a whole number from 0 to 2^63 - 1");
        assert!(said.code == 2 && said.err.contains(&expected), "{expected}\n{}", said.err);
    }
    let said = import("mini-swe-agent", trajectory(r#""prompt_tokens": 1.5"#)).await;
    let expected = "messages[4].extra.response.usage.prompt_tokens is 1.5, not a whole number";
    assert!(said.code == 2 && said.err.contains(expected), "{}", said.err);
}

/// The usage of the fixture's model calls is replaced; nothing of the file may be stored.
#[tokio::test]
async fn what_no_store_takes_is_refused_before_anything_is_written() {
    for count in [i64::MAX as u64, MAX_COUNT + 1] {
        let usages = [json!({ "prompt_tokens": count, "completion_tokens": 5 })];
        let place = Place::new();
        let mut file: Value =
            serde_json::from_str(&fs::read_to_string(fixture("fix.traj.json")).unwrap()).unwrap();
        let messages = file["messages"].as_array_mut().unwrap();
        for (message, usage) in messages.iter_mut().filter(|m| m["role"] == "assistant").zip(usages) {
            message["extra"]["response"]["usage"] = usage;
        }
        fs::write(place.path("bad.traj.json"), file.to_string()).unwrap();
        let (good, bad) = (fixture("fix.traj.json"), place.path("bad.traj.json"));
        fs::write(place.path("good.traj.json"), fs::read_to_string(good).unwrap().replace("fix-1", "fix-0"))
            .unwrap();
        let said = place
            .run(&[
                "import",
                "mini-swe-agent",
                place.path("good.traj.json").to_str().unwrap(),
                bad.to_str().unwrap(),
            ])
            .await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
        let named = said.err.contains("bad.traj.json: run \"demo__fix-1-run-1\": ");
        assert!(named && said.err.contains("has a count above"), "{}", said.err);
        assert!(!place.database().exists());
    }
}

/// A folder with a new thread and somebody else's: neither is written, in any format.
#[tokio::test]
async fn an_import_that_meets_a_foreign_thread_writes_nothing() {
    for (format, fixture_name, ending, id) in [
        ("langgraph-thread", "weather.json", "json", None),
        ("mini-swe-agent", "fix.traj.json", "traj.json", Some("demo__fix-1")),
        ("callbacks", "callbacks.jsonl", "jsonl", Some("recorded")),
    ] {
        let place = Place::new();
        let text = fs::read_to_string(fixture(fixture_name)).unwrap();
        fs::create_dir(place.path("in")).unwrap();
        for name in ["z_alice", "a_new"] {
            let text =
                id.map_or(text.clone(), |id| text.replace(&format!("\"{id}\""), &format!("\"{name}\"")));
            fs::write(place.path("in").join(format!("{name}.{ending}")), text).unwrap();
        }
        let theirs = place.path("in").join(format!("z_alice.{ending}"));
        let said = place.run(&["import", format, theirs.to_str().unwrap(), "--owner", "alice"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let folder = place.path("in");
        let said = place.run(&["import", format, folder.to_str().unwrap(), "--owner", "bob", "--json"]).await;
        let error: Value = serde_json::from_str(&said.err).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        let expected = format!("{}: thread \"z_alice\" is somebody else's", theirs.display());
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(
            (said.code, said.out.as_str(), &error["error"]["kind"]),
            (1, "", &json!("already_exists"))
        );
        let threads = place.run(&["threads", "--json"]).await.json();
        assert_eq!(threads["items"].as_array().unwrap().len(), 1, "{format}");
    }
}

#[tokio::test]
async fn a_deleted_thread_is_not_imported_again() {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let ledger = place.ledger().await;
    ledger.threads().delete(&Scope::System, &ThreadId::new("weather").unwrap()).await.unwrap();
    ledger.close().await;
    let said = place.run(&["import", "langgraph-thread", fixture("weather.json").to_str().unwrap()]).await;
    let expected = "weather.json: thread \"weather\" is somebody else's, or was deleted";
    assert!(said.code == 1 && said.err.contains(expected), "{}", said.err);
}
