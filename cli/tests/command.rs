//! The command from its arguments to what it prints, on a SQLite file of its own each time.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::{Cli, Output};
use serde_json::{Value, json};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A folder with a database.
struct Place {
    folder: tempfile::TempDir,
}

struct Said {
    code: u8,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("ledger.db")
    }

    async fn run(&self, args: &[&str]) -> Said {
        let url = format!("sqlite://{}", self.database().display());
        let args = ["runledger"].iter().chain(args).copied().chain(["--database-url", &url]);
        let cli = Cli::try_parse_from(args).unwrap();
        let (out, err) = (Written::default(), Written::default());
        let code = runledger::run(&cli, &mut Output::to(Box::new(out.clone()), Box::new(err.clone()))).await;
        Said { code, out: out.text(), err: err.text() }
    }

    async fn import(&self, format: &str, path: &Path) -> Value {
        let said = self.run(&["import", format, path.to_str().unwrap(), "--json"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn summary(counts: [u64; 11]) -> Value {
    let names = [
        "files",
        "threads",
        "runs",
        "events",
        "messages",
        "usage_records",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cost_nanos",
        "skipped",
    ];
    names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), Value::from(count))).collect()
}

#[tokio::test]
async fn the_demo_runs_twice_and_both_are_listed() {
    let place = Place::new();
    for expected in 1..=2 {
        let said = place.run(&["demo"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        for part in
            ["count_words ->", "I counted", "scripted-demo", "= success", "runledger replay", "ledger.db"]
        {
            assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
        }
        let threads = place.run(&["threads", "--json"]).await.json();
        assert_eq!(threads["items"].as_array().unwrap().len(), expected);
    }
}

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

#[tokio::test]
async fn bad_files_are_named_with_their_line_and_nothing_is_written() {
    let cases = [
        ("langgraph-thread", "bad.json", "{\n \"values\": {,\n}", "bad.json:2: "),
        (
            "langgraph-thread",
            "bad.json",
            "{\"values\":{\"messages\":[]}}",
            "bad.json: values.messages is empty",
        ),
        (
            "langgraph-thread",
            "bad.json",
            "{\"created_at\":\"2026-01-01T00:00:00Z\",\"values\":{\"messages\":[{\"type\":\"robot\",\"content\":\"\"}]}}",
            "bad.json: values.messages[0].type is \"robot\"",
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

#[tokio::test]
async fn owners_see_their_own_and_nothing_else() {
    let place = Place::new();
    let file = fixture("weather.json");
    let said = place.run(&["import", "langgraph-thread", file.to_str().unwrap(), "--owner", "alice"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let listed = |said: Said| said.json()["items"].as_array().unwrap().len();
    assert_eq!(listed(place.run(&["threads", "--owner", "alice", "--json"]).await), 1);
    assert_eq!(listed(place.run(&["threads", "--owner", "bob", "--json"]).await), 0);
    for args in [
        vec!["messages", "--thread", "weather", "--owner", "bob"],
        vec!["events", "--run", "weather-run-1", "--owner", "bob"],
        vec!["usage", "--thread", "weather", "--owner", "bob"],
        vec!["runs", "--thread", "weather", "--owner", "bob"],
        vec!["replay", "weather", "--owner", "bob"],
        vec!["import", "langgraph-thread", file.to_str().unwrap(), "--owner", "bob"],
    ] {
        let said = place.run(&args).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{args:?}: {}", said.err);
        assert!(said.err.contains("not found"), "{}", said.err);
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended() {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let base = ["messages", "--thread", "weather", "--limit", "3", "--json"];
    let seqs = |page: &Value| -> Vec<u64> {
        page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
    };
    let last = place.run(&base).await.json();
    assert_eq!((&last["has_more"], &last["next_after_seq"]), (&json!(true), &Value::Null));
    let before = last["next_before_seq"].to_string();
    let earlier = place.run(&[&base[..], &["--before-seq", &before]].concat()).await.json();
    let first = place.run(&[&base[..], &["--after-seq", "0"]].concat()).await.json();
    let next = first["next_after_seq"].to_string();
    let second = place.run(&[&base[..], &["--after-seq", &next]].concat()).await.json();
    assert_eq!(
        [seqs(&earlier), seqs(&last)].concat()[..],
        [seqs(&first), seqs(&second)].concat()[1..]
            .iter()
            .copied()
            .chain(seqs(&last).last().copied())
            .collect::<Vec<_>>()[..]
    );
    let runs = place.run(&["runs", "--limit", "1", "--json"]).await.json();
    let cursor = runs["next_cursor"].as_str().unwrap();
    let rest = place.run(&["runs", "--limit", "1", "--json", "--cursor", cursor]).await.json();
    assert_eq!((&rest["has_more"], &rest["next_cursor"]), (&json!(false), &Value::Null));
    let types = place
        .run(&[
            "events",
            "--run",
            "weather-run-1",
            "--type",
            "run.started",
            "--type",
            "run.completed",
            "--json",
        ])
        .await
        .json();
    assert_eq!(types["items"].as_array().unwrap().len(), 2);
    assert_eq!(place.run(&["messages", "--thread", "weather", "--limit", "0"]).await.code, 2);
    assert_eq!(place.run(&["runs", "--cursor", "nonsense"]).await.code, 2);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_an_error_with_a_remedy() {
    let place = Place::new();
    let said = place.run(&["threads"]).await;
    assert_eq!((said.code, said.out.as_str()), (3, ""));
    assert!(said.err.starts_with("error: ") && said.err.contains("runledger migrate up"), "{}", said.err);
    assert!(!place.database().exists());
}

/// Everything in the folder of real recordings, against sums made from the files alone.
#[tokio::test]
async fn real_recordings_come_in_with_their_own_totals() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.is_dir() {
        eprintln!("SKIPPED: the folder of real recordings is not there");
        return;
    }
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
}
