//! The command from its arguments to what it prints, on a SQLite file of its own each time.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::{Cli, Output};
use runledger_core::{
    Category, Commit, EventDraft, EventType, ItemId, ItemKind, ItemMark, ItemStatus, MAX_COUNT, NewRun,
    NewThread, RawJson, RunId, Scope, ThreadId,
};
use runledger_persistence::{Config, SqlLedger, connect};
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

    fn url(&self) -> String {
        format!("sqlite://{}", self.database().display())
    }

    /// The ledger itself, for what no command does.
    async fn ledger(&self) -> SqlLedger {
        connect(Config::new(self.url())).await.unwrap()
    }

    async fn run(&self, args: &[&str]) -> Said {
        let url = self.url();
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

/// A summary of which nothing was left out.
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
    let counts = names.into_iter().zip(counts).chain([("quarantined", 0)]);
    counts.map(|(name, count)| (name.to_owned(), Value::from(count))).collect()
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
    let list = place.run(&["runs", "--json"]).await.json();
    assert_eq!(list["items"][0].get("token_usage_by_model"), None);
    insta::assert_snapshot!("trajectory_replay", place.run(&["replay", "demo__fix-1"]).await.out);
}

/// The names of DeerFlow's `GET /threads/{t}/token-usage`.
#[tokio::test]
async fn usage_of_a_thread_has_the_names_its_consumers_know() {
    let place = Place::new();
    place.import("mini-swe-agent", &fixture("fix.traj.json")).await;
    let usage = place.run(&["usage", "--thread", "demo__fix-1", "--json"]).await.json();
    let names =
        ["thread_id", "total_tokens", "total_input_tokens", "total_output_tokens", "total_runs", "by_caller"];
    let expected =
        json!(["demo__fix-1", 660, 600, 60, 1, { "lead_agent": 660, "subagent": 0, "middleware": 0 }]);
    assert_eq!(Value::from(names.map(|name| usage[name].clone()).to_vec()), expected);
    let model = &usage["by_model"]["vendor/model-b"];
    assert_eq!([&model["tokens"], &model["runs"]], [&json!(660), &json!(1)]);
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

/// Stores a run whose input is these items.
async fn admit(place: &Place, thread: &str, items: Vec<(ItemKind, Value)>) {
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let id = ThreadId::new(thread).unwrap();
    let input = items.into_iter().enumerate().map(|(index, (kind, content))| {
        let mark = ItemMark::new(ItemId::new(format!("i{index}")).unwrap(), kind, ItemStatus::Completed);
        EventDraft::item(mark, Category::Message, RawJson::from(content))
    });
    let run = NewRun {
        input: input.collect(),
        create_missing: Some(NewThread::new(id.clone())),
        ..NewRun::new(id, RunId::new("r1").unwrap())
    };
    ledger.admit(&Scope::System, run).await.unwrap();
    ledger.close().await;
}

/// Another producer's payloads are told on one line each, and what comes after them is told too.
#[tokio::test]
async fn replay_goes_on_after_a_payload_of_another_shape() {
    let place = Place::new();
    let kinds = [
        ItemKind::UserMessage,
        ItemKind::HookPrompt,
        ItemKind::AgentMessage,
        ItemKind::Reasoning,
        ItemKind::ToolCall,
        ItemKind::CommandExecution,
    ];
    let mut items: Vec<_> = kinds.iter().map(|kind| (kind.clone(), json!({ "other": 1 }))).collect();
    items.push((ItemKind::AgentMessage, json!({ "content": "The last word." })));
    admit(&place, "t", items).await;
    let said = place.run(&["replay", "t"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for kind in kinds {
        let line = format!("  {kind} completed: {{\"other\":1}}\n");
        assert!(said.out.contains(&line), "{line} is missing in:\n{}", said.out);
    }
    assert!(said.out.contains("    The last word.\n"), "{}", said.out);
}

/// The document has each run with its events, as the other readers give them, and what the thread
/// itself has; late records stand with their run.
#[tokio::test]
async fn replay_is_one_json_document_too() {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let read = async |args: &[&str]| place.run(&[args, &["--json"]].concat()).await.json();
    let whole = read(&["replay", "weather"]).await;
    assert_eq!((whole["runs"].as_array().unwrap().len(), &whole["events"]), (2, &json!([])));

    let ledger = place.ledger().await;
    let thread = ThreadId::new("weather").unwrap();
    let note = || {
        EventDraft::new(EventType::new("context:note").unwrap(), Category::Context, RawJson::string("late"))
    };
    let late = Commit::of_run(thread.clone(), RunId::new("weather-run-1").unwrap());
    for commit in [Commit::new(thread.clone()), late] {
        ledger.events().append(&Scope::System, commit.with_events(vec![note()])).await.unwrap();
    }
    ledger.close().await;
    let whole = read(&["replay", "weather"]).await;
    assert_eq!(whole["thread"], read(&["threads"]).await["items"][0]);
    let mut runs = Vec::new();
    let listed = read(&["runs", "--thread", "weather"]).await;
    for run in ["weather-run-1", "weather-run-2"] {
        let listed =
            listed["items"].as_array().unwrap().iter().find(|listed| listed["run_id"] == run).unwrap();
        let events = read(&["events", "--run", run, "--after-seq", "0"]).await;
        runs.push(json!({ "run": listed, "events": events["items"] }));
    }
    assert_eq!(whole["runs"], json!(runs));
    let own: Vec<_> = whole["events"].as_array().unwrap().iter().map(|event| event["seq"].clone()).collect();
    assert_eq!(own, [json!(16)]);

    let one = read(&["replay", "weather", "--run", "weather-run-2"]).await;
    assert_eq!(one, json!({ "thread": whole["thread"], "runs": [runs[1]], "events": [] }));
    let said = place.run(&["replay", "nowhere", "--json"]).await;
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((said.code, said.out.as_str(), &error["error"]["kind"]), (1, "", &json!("not_found")));
}

#[tokio::test]
async fn replay_reads_a_log_of_many_pages_once() {
    let place = Place::new();
    let said = |index| (ItemKind::UserMessage, json!({ "content": format!("message {index}") }));
    admit(&place, "long", (1..=450).map(said).collect()).await;
    let whole = place.run(&["replay", "long", "--json"]).await.json();
    let events = whole["runs"][0]["events"].as_array().unwrap();
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=450).collect::<Vec<_>>());
    let told = place.run(&["replay", "long"]).await.out;
    assert_eq!(told.matches("    message ").count(), 450);
}

#[tokio::test]
async fn replay_says_that_text_was_cut_only_where_it_was() {
    let place = Place::new();
    let tool = |content: String| (ItemKind::ToolCall, json!({ "name": "t", "args": {}, "content": content }));
    let lines = |count: usize| "a\r\n".repeat(count);
    admit(
        &place,
        "t",
        vec![(ItemKind::UserMessage, json!({ "content": "one\r\ntwo\r\n\r\nthree\r\n" })), tool(lines(8))],
    )
    .await;
    let said = place.run(&["replay", "t"]).await.out;
    assert!(said.contains("    one\n    two\n\n    three\n") && !said.contains("[cut"), "{said}");

    let place = Place::new();
    admit(&place, "t", vec![tool(lines(9)), tool("é".repeat(801))]).await;
    let said = place.run(&["replay", "t"]).await.out;
    assert!(said.contains("[cut: 24 bytes of 27 bytes shown]"), "{said}");
    assert!(said.contains("[cut: 1,600 bytes of 1,602 bytes shown]"), "{said}");
    assert!(!place.run(&["replay", "t", "--full"]).await.out.contains("[cut"));
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
    ] {
        let said = place.run(&args).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{args:?}: {}", said.err);
        assert!(said.err.contains("not found"), "{}", said.err);
    }
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
}
