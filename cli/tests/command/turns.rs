//! Turns and items of what was imported.

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use serde_json::{Value, json};

use crate::{Place, fixture};

async fn weather() -> Place {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    place
}

fn texts(items: &Value, name: &str) -> Vec<String> {
    items.as_array().unwrap().iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

/// Every turn once, whichever way they are read, and their items as the items' own list has them.
#[tokio::test]
async fn turns_are_listed_in_pages_with_their_items() {
    let place = weather().await;
    let all = place.run(&["turns", "--thread", "weather", "--view", "full", "--json"]).await.json();
    let turns = all["turns"].as_array().unwrap();
    assert!(turns.len() > 1 && all["has_more"] == json!(false));
    assert!(turns.iter().all(|turn| turn["view"] == json!("full") && turn["has_more"] == json!(false)));
    let mut runs: Vec<String> =
        turns.iter().map(|turn| turn["run"]["run_id"].as_str().unwrap().to_owned()).collect();

    let mut paged = Vec::new();
    let mut cursor = None;
    loop {
        let mut args = vec!["turns", "--thread", "weather", "--view", "not_loaded", "--limit", "1", "--json"];
        let given: String;
        if let Some(text) = cursor {
            given = text;
            args.extend(["--cursor", given.as_str()]);
        }
        let page = place.run(&args).await.json();
        paged.extend(
            page["turns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|turn| turn["run"]["run_id"].as_str().unwrap().to_owned()),
        );
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if page["has_more"] == json!(false) {
            break;
        }
    }
    assert_eq!(paged, runs);
    let oldest = place.run(&["turns", "--thread", "weather", "--order", "oldest", "--json"]).await.json();
    runs.reverse();
    let listed: Vec<String> = oldest["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| turn["run"]["run_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, runs);
    assert_eq!(texts(&oldest["turns"][0]["items"], "item_kind"), ["user_message", "agent_message"]);

    let items = place.run(&["items", "--thread", "weather", "--after", "0", "--json"]).await.json();
    let mut of_turns: Vec<Value> =
        turns.iter().rev().flat_map(|turn| turn["items"].as_array().unwrap().clone()).collect();
    of_turns.sort_by_key(|item| item["started_seq"].as_u64());
    assert_eq!(items["items"], json!(of_turns));
    let one = place.run(&["turns", "--thread", "weather", "--run", &runs[0], "--json"]).await.json();
    assert_eq!(one["turns"], json!([oldest["turns"][0]]));
}

#[tokio::test]
async fn items_are_listed_by_what_is_asked() {
    let place = weather().await;
    let all = place.run(&["items", "--thread", "weather", "--after", "0", "--json"]).await.json();
    let through = all["projected_through"].as_u64().unwrap();
    assert_eq!(
        (&all["has_more"], &all["is_beyond"], &all["next_after_seq"]),
        (&json!(false), &json!(false), &json!(null))
    );
    let newest = place
        .run(&["items", "--thread", "weather", "--order", "newest", "--limit", "2", "--json"])
        .await
        .json();
    let count = all["items"].as_array().unwrap().len();
    assert_eq!(newest["items"], json!([all["items"][count - 1], all["items"][count - 2]]));
    assert_eq!(newest["next_before_seq"], all["items"][count - 2]["started_seq"]);

    let changed = place.run(&["items", "--thread", "weather", "--after-updated", "0", "--json"]).await.json();
    assert_eq!(changed["next_updated_after"], json!(through));
    let watermark = through.to_string();
    let since = ["items", "--thread", "weather", "--after-updated", &watermark, "--json"];
    let none = place.run(&since).await.json();
    assert_eq!((&none["items"], &none["is_beyond"]), (&json!([]), &json!(true)));

    let first = &all["items"][0];
    let (run, id) = (first["run_id"].as_str().unwrap(), first["item_id"].as_str().unwrap());
    let args = ["items", "--thread", "weather", "--run", run, "--id", id, "--json"];
    assert_eq!(place.run(&args).await.json()["items"], json!([first]));
    let args = ["items", "--thread", "weather", "--run", run, "--no-content", "--json"];
    assert!(
        place.run(&args).await.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["content"].is_null())
    );

    let said = place.run(&["items", "--thread", "weather", "--limit", "1"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.starts_with("there are more: add --before "), "{}", said.err);
    let said = place.run(&["turns", "--thread", "weather"]).await;
    assert!(said.code == 0 && said.out.contains("user_message"), "{}", said.out);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let place = weather().await;
    assert_eq!(place.run(&["turns", "--thread", "none"]).await.code, 1);
    assert_eq!(place.run(&["items", "--thread", "none"]).await.code, 1);
    assert_eq!(place.run(&["turns", "--thread", "weather", "--cursor", "x"]).await.code, 2);
    assert_eq!(place.run(&["turns", "--thread", "weather", "--limit", "0"]).await.code, 2);
    for args in [
        vec!["turns"],
        vec!["turns", "--thread", "t", "--view", "all"],
        vec!["items", "--thread", "t", "--id", "i"],
        vec!["items", "--thread", "t", "--after", "1", "--after-updated", "1"],
    ] {
        let error = Cli::try_parse_from(std::iter::once("runledger").chain(args)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
