//! What is read back: lists, sums and replays.

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use runledger_core::{
    Category, Commit, EventDraft, EventType, ItemId, ItemKind, ItemMark, ItemStatus, NewRun, NewThread,
    RawJson, RunId, Scope, ThreadId,
};
use serde_json::{Value, json};

use crate::{Place, Said, fixture};

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

/// Ids come from files of others, and a terminal obeys what is in them.
#[tokio::test]
async fn replay_shows_ids_that_would_turn_the_line_around() {
    let place = Place::new();
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let thread = ThreadId::new("t\u{202e}").unwrap();
    let note = EventDraft::new(EventType::new("note").unwrap(), Category::Trace, RawJson::null());
    let run = NewRun {
        input: vec![note],
        create_missing: Some(NewThread::new(thread.clone())),
        ..NewRun::new(thread.clone(), RunId::new("r\u{2066}").unwrap())
    };
    ledger.admit(&Scope::System, run).await.unwrap();
    ledger.close().await;
    let said = place.run(&["replay", thread.as_str()]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("thread t\\u{202e}\n") && said.out.contains("run r\\u{2066}  "),
        "{}",
        said.out
    );
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
async fn runs_are_filtered_by_status_kind_and_time() {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let all = place.run(&["runs", "--json"]).await.json();
    let runs = all["items"].as_array().unwrap();
    let count = async |args: &[&str]| {
        let found = place.run(&[&["runs", "--json"], args].concat()).await.json();
        found["items"].as_array().unwrap().len()
    };
    let of_status = runs.iter().filter(|run| run["status"] == "success").count();
    assert_eq!(count(&["--status", "success"]).await, of_status);
    assert_eq!(count(&["--status", "queued"]).await, 0);
    assert_eq!((count(&["--kind", "run"]).await, count(&["--kind", "delete"]).await), (runs.len(), 0));
    let newest = runs[0]["created_at"].as_str().unwrap();
    let earlier = runs.iter().filter(|run| run["created_at"].as_str().unwrap() < newest).count();
    assert_eq!(
        (count(&["--from", newest]).await, count(&["--before", newest]).await),
        (runs.len() - earlier, earlier)
    );
    assert_eq!(count(&["--from", "2100-01-01T00:00:00Z"]).await, 0);
    for wrong in [["--status", "done"], ["--kind", "walk"], ["--from", "yesterday"]] {
        let refused = Cli::try_parse_from([&["runledger", "runs"][..], &wrong].concat()).unwrap_err();
        assert_eq!(refused.exit_code(), 2, "{wrong:?}");
    }
    let usage = |ended: &'static [&str]| [&["usage", "--thread", "weather", "--json"][..], ended].concat();
    let (whole, ended) = (place.run(&usage(&[])).await.json(), place.run(&usage(&["--ended"])).await.json());
    assert_eq!(whole, ended);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_an_error_with_a_remedy() {
    let place = Place::new();
    let said = place.run(&["threads"]).await;
    assert_eq!((said.code, said.out.as_str()), (3, ""));
    assert!(said.err.starts_with("error: ") && said.err.contains("runledger migrate up"), "{}", said.err);
    assert!(!place.database().exists());
}
