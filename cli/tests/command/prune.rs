//! Old events.

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use serde_json::{Value, json};

use crate::{Place, fixture};

/// What was recorded ended before now.
#[tokio::test]
async fn a_dry_run_says_what_goes_and_then_it_is_gone() {
    let place = Place::new();
    place.import("mini-swe-agent", &fixture("fix.traj.json")).await;
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let runs = place.run(&["runs", "--json"]).await.json();
    let usage = place.run(&["usage", "--run", "demo__fix-1-run-1", "--json"]).await.json();

    let dry = place.run(&["prune", "--older-than", "0s", "--dry-run", "--json"]).await.json();
    let real = place.run(&["prune", "--older-than", "0s", "--json"]).await.json();
    for name in ["threads", "runs", "before", "removed", "after", "categories"] {
        assert_eq!(dry[name], real[name], "{name}");
    }
    assert_eq!((&dry["mode"], &dry["file"]["bytes_after"]), (&json!("dry_run"), &Value::Null));
    assert_eq!((&real["mode"], &real["file"]["shrinks"]), (&json!("remove"), &json!("yes")));
    assert_eq!(real["file"]["bytes_after"], json!(std::fs::metadata(place.database()).unwrap().len()));
    assert_eq!((&real["threads"], &real["runs"]), (&json!(2), &json!(3)));
    assert_eq!((&real["removed"]["events"], &real["after"]["events"]), (&json!(28), &json!(0)));

    // What was paid for stays, and who reads a run that is gone reads no events.
    assert_eq!(place.run(&["usage", "--run", "demo__fix-1-run-1", "--json"]).await.json(), usage);
    let left = place.run(&["runs", "--json"]).await.json();
    let names = |runs: &Value, name: &str| -> Vec<Value> {
        runs["items"].as_array().unwrap().iter().map(|run| run[name].clone()).collect()
    };
    for name in ["run_id", "status", "total_tokens", "first_seq", "last_seq"] {
        assert_eq!(names(&left, name), names(&runs, name), "{name}");
    }
    assert!(names(&left, "message_count").iter().all(|count| *count == json!(0)));
    for args in [["events", "--thread", "weather", "--json"], ["messages", "--thread", "weather", "--json"]] {
        assert_eq!(place.run(&args).await.json()["items"], json!([]));
    }
    let told = place.run(&["replay", "weather"]).await;
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.contains("no events are left of 2 runs; "), "{}", told.out);
}

#[tokio::test]
async fn the_report_is_a_table_and_categories_can_be_chosen() {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let args = ["prune", "--older-than", "0s", "--category", "message", "--category", "context", "--dry-run"];
    let said = place.run(&args).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(
        lines[0].starts_with("would remove 8 events of 2 runs on 1 thread, from before "),
        "{}",
        said.out
    );
    insta::assert_snapshot!("prune_table", lines[1..lines.len() - 1].join("\n"));
    assert!(lines[lines.len() - 1].starts_with("file: "), "{}", said.out);

    let kept = place.run(&["prune", "--older-than", "0s", "--keep-last", "1", "--json"]).await.json();
    assert_eq!((&kept["runs"], &kept["after"]["events"]), (&json!(1), &json!(4)));
    let all = place.run(&["prune", "--older-than", "36525d", "--json"]).await.json();
    assert_eq!((&all["removed"]["events"], &all["runs"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    for (args, reason) in [
        (vec!["prune"], "--older-than"),
        (vec!["prune", "--older-than", "30"], "has no unit"),
        (vec!["prune", "--older-than", "1d", "--category", ""], "category"),
        (vec!["prune", "--older-than", "1d", "--keep-last", "x"], "--keep-last"),
    ] {
        let args = std::iter::once("runledger").chain(args);
        let error = Cli::try_parse_from(args).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(reason), "{error}");
    }
    // It makes no database.
    let place = Place::new();
    let said = place.run(&["prune", "--older-than", "1d", "--json"]).await;
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((said.code, &error["error"]["kind"]), (3, &json!("schema_mismatch")));
    assert!(!place.database().exists());
}
