//! Sums of model calls.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use serde_json::{Value, json};

use crate::{Place, fixture};

#[tokio::test]
async fn calls_are_summed_by_what_they_have_in_common() {
    let place = Place::new();
    place.import("mini-swe-agent", &fixture("fix.traj.json")).await;
    insta::assert_snapshot!("usage_by_model", place.run(&["usage", "--by", "model"]).await.out);
    insta::assert_json_snapshot!(
        "usage_by_day",
        place.run(&["usage", "--by", "day", "--thread", "demo__fix-1", "--tree", "--json"]).await.json()
    );
    let keys = async |arguments: &[&str]| {
        let report = place.run(&[&["usage", "--json", "--by"][..], arguments].concat()).await.json();
        report["items"].as_array().unwrap().iter().map(|sum| sum["key"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&["run"]).await, [json!("demo__fix-1/demo__fix-1-run-1")]);
    assert_eq!(keys(&["thread"]).await, [json!("demo__fix-1")]);
    assert_eq!(keys(&["owner"]).await, [json!("")]);
    assert_eq!(keys(&["caller", "--run", "demo__fix-1-run-1"]).await, [json!("lead_agent")]);
    assert_eq!(keys(&["round", "--run", "demo__fix-1-run-1"]).await.len(), 1);
    assert_eq!(keys(&["model", "--before", "2000-01-01"]).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_report_goes_on_where_the_page_ended() {
    let place = Place::new();
    place.import("mini-swe-agent", &fixture("fix.traj.json")).await;
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let first = place.run(&["usage", "--by", "thread", "--limit", "1", "--json"]).await.json();
    assert_eq!(first["has_more"], json!(true));
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = place.run(&["usage", "--by", "thread", "--cursor", cursor, "--json"]).await.json();
    assert_eq!((&next["has_more"], &next["total"]), (&json!(false), &first["total"]));
    let keys = [&first, &next].map(|page| page["items"][0]["key"].clone());
    assert_eq!(keys, [json!("demo__fix-1"), json!("weather")]);
}

#[tokio::test]
async fn what_a_report_cannot_be_of_is_said() {
    let place = Place::new();
    place.import("mini-swe-agent", &fixture("fix.traj.json")).await;
    for (arguments, said) in [
        (&["usage"][..], "--thread"),
        (&["usage", "--thread", "demo__fix-1", "--tree"], "--by"),
        (&["usage", "--by", "model", "--tree"], "--thread"),
        (&["usage", "--thread", "demo__fix-1", "--from", "2026-11-21"], "--by"),
        (&["usage", "--by", "day", "--from", "yesterday"], "is no date; give 2026-11-21"),
    ] {
        let error = Cli::try_parse_from(["runledger"].iter().chain(arguments)).unwrap_err().to_string();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    for (arguments, code, said) in [
        (&["usage", "--by", "round"][..], 2, "name one thread or one run"),
        (&["usage", "--by", "owner", "--owner", "bob"], 2, "only the system sums up by owner"),
        (&["usage", "--by", "day", "--limit", "0"], 2, "limit"),
        (&["usage", "--by", "day", "--thread", "none"], 1, "not found"),
        (&["usage", "--by", "day", "--thread", "demo__fix-1", "--owner", "bob"], 1, "not found"),
        (&["usage", "--by", "day", "--run", "none"], 1, "not found"),
    ] {
        let answer = place.run(arguments).await;
        assert_eq!(answer.code, code, "{arguments:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{arguments:?}: {}", answer.err);
    }
}

/// Tokens and billionths of a dollar, by a key.
type Sums = BTreeMap<String, (u64, u64)>;

fn add(sums: &mut Sums, key: &str, tokens: u64, cost_nanos: u64) {
    // What gave no tokens is counted as a call, which the files do not count alike.
    if tokens > 0 {
        let sum = sums.entry(key.to_owned()).or_default();
        *sum = (sum.0 + tokens, sum.1 + cost_nanos);
    }
}

/// The day of a moment in seconds since 1970.
fn day(seconds: i64) -> String {
    let at = runledger_core::Timestamp::from_unix_micros(seconds * 1_000_000).unwrap();
    at.to_chrono().date_naive().to_string()
}

/// What the trajectories say of their calls.
fn trajectories(folder: &Path, models: &mut Sums, days: &mut Sums) {
    for entry in fs::read_dir(folder).unwrap() {
        let file: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for message in file["messages"].as_array().unwrap() {
            let response = &message["extra"]["response"];
            let Some(tokens) = response["usage"]["total_tokens"].as_u64() else { continue };
            // One provider says what a call cost; of another the agent says it.
            let dollars =
                response["usage"]["cost"].as_f64().or(message["extra"]["cost"].as_f64()).unwrap_or_default();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small, positive number"
            )]
            let nanos = (dollars * 1e9).round() as u64;
            add(models, response["model"].as_str().unwrap(), tokens, nanos);
            add(days, &day(response["created"].as_i64().unwrap()), tokens, nanos);
        }
    }
}

/// What another system made of the recorded callbacks, and when their first id was made.
fn recordings(folder: &Path, models: &mut Sums, days: &mut Sums) {
    for entry in fs::read_dir(folder).unwrap() {
        let scenario = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(scenario.join("expected.json")) else { continue };
        // Half a surrogate pair is not JSON to this reader; the numbers stand beside it.
        let text = text.replace("\\ud", "\\u0d").replace("\\uD", "\\u0d");
        let file: Value = serde_json::from_str(&text).unwrap();
        let lines = fs::read_to_string(scenario.join("callbacks.jsonl")).unwrap();
        // The first 48 bits of an id of version 7 are milliseconds since 1970.
        let id = lines
            .split("\"run_id\":\"")
            .skip(1)
            .map(|rest| &rest[..36])
            .find(|id| &id[14..15] == "7")
            .unwrap();
        let made = i64::from_str_radix(&id[..13].replace('-', ""), 16).unwrap();
        for run in file["runs"].as_array().unwrap() {
            for (model, used) in run["completion_data"]["token_usage_by_model"].as_object().unwrap() {
                let tokens = used["total_tokens"].as_u64().unwrap();
                add(models, model, tokens, 0);
                add(days, &day(made / 1_000), tokens, 0);
            }
        }
    }
}

/// Everything in the folder of real recordings by model and by day, against sums made from the files alone.
#[tokio::test]
async fn usage_of_real_recordings_is_what_the_files_say() {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let Some(data) = above.map(|folder| folder.join("shared/data")).find(|data| data.is_dir()) else {
        eprintln!("SKIPPED: the folder of real recordings is not there");
        return;
    };
    let place = Place::new();
    place.import("mini-swe-agent", &data.join("mini-swe-agent")).await;
    place.import("langgraph-thread", &data.join("langgraph-threads")).await;
    place.import("callbacks", &data.join("callbacks")).await;
    let (mut models, mut days) = (Sums::new(), Sums::new());
    trajectories(&data.join("mini-swe-agent"), &mut models, &mut days);
    recordings(&data.join("callbacks"), &mut models, &mut days);
    assert_ne!((models.len(), days.len()), (0, 0));
    for (by, expected) in [("model", models), ("day", days)] {
        let said = place.run(&["usage", "--by", by, "--limit", "1000"]).await;
        eprintln!("{}", said.out);
        let report = place.run(&["usage", "--by", by, "--limit", "1000", "--json"]).await.json();
        let mut sums = Sums::new();
        for sum in report["items"].as_array().unwrap() {
            let tokens = sum["tokens"]["total_tokens"].as_u64().unwrap();
            add(&mut sums, sum["key"].as_str().unwrap(), tokens, sum["cost_nanos"].as_u64().unwrap());
        }
        assert_eq!(sums, expected, "by {by}");
        let total = |sums: &Sums| sums.values().map(|(tokens, _)| tokens).sum::<u64>();
        assert_eq!(report["total"]["tokens"]["total_tokens"], json!(total(&expected)));
    }
}
