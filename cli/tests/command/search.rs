//! `search` and `reindex`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::{Place, fixture};

/// Two recordings, one of alice's.
async fn filled() -> Place {
    let place = Place::new();
    for (format, file, owner) in
        [("mini-swe-agent", "fix.traj.json", "bob"), ("langgraph-thread", "weather.json", "alice")]
    {
        let said = place.run(&["import", format, fixture(file).to_str().unwrap(), "--owner", owner]).await;
        assert_eq!(said.code, 0, "{}", said.err);
    }
    place
}

fn threads(found: &Value) -> Vec<&str> {
    found["items"].as_array().unwrap().iter().map(|hit| hit["thread_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_was_said_is_found_with_its_place() {
    let place = filled().await;
    let found = place.run(&["search", "weather", "--json"]).await.json();
    assert!(!threads(&found).is_empty(), "{found}");
    assert_eq!(found["behind"], json!({"threads": 0, "events": 0}));
    let hit = &found["items"][0];
    assert_eq!(hit["thread_id"], json!("weather"));
    let text: Vec<char> = hit["snippet"]["text"].as_str().unwrap().chars().collect();
    let (from, to) = (hit["snippet"]["marks"][0][0].as_u64(), hit["snippet"]["marks"][0][1].as_u64());
    let marked: String = text[from.unwrap() as usize..to.unwrap() as usize].iter().collect();
    assert_eq!(marked.to_lowercase(), "weather");
    let said = place.run(&["search", "weather"]).await;
    assert!(said.out.contains(" weather seq ") && said.err.is_empty(), "{} {}", said.out, said.err);
    let none = place.run(&["search", "nothing-like-this"]).await;
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "nothing found\n"));
}

#[tokio::test]
async fn a_search_is_of_an_owner_and_filtered() {
    let place = filled().await;
    for (args, is_found) in [
        (&["--owner", "alice"][..], true),
        (&["--owner", "bob"], false),
        (&["--thread", "weather", "--kind", "reasoning", "--kind", "agent_message"], true),
        (&["--kind", "plan"], false),
        (&["--from", "2000-01-01T00:00:00Z", "--hidden"], true),
        (&["--before", "2000-01-01T00:00:00Z"], false),
    ] {
        let found = place.run(&[&["search", "weather", "--json"], args].concat()).await.json();
        assert_eq!(threads(&found).contains(&"weather"), is_found, "{args:?}");
    }
    let first = place.run(&["search", "a*", "--limit", "1", "--json"]).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = place.run(&["search", "a*", "--limit", "1", "--cursor", cursor, "--json"]).await.json();
    assert_ne!((&first["items"][0]["seq"], threads(&first)), (&second["items"][0]["seq"], threads(&second)));
    for (args, code) in [
        (&["search", "..."][..], 2),
        (&["search", "x", "--limit", "0"], 2),
        (&["search", "x", "--cursor", "x"], 2),
        (&["search", "x", "--thread", "weather", "--owner", "bob"], 1),
        (&["reindex", "--thread", "none"], 1),
    ] {
        assert_eq!(place.run(args).await.code, code, "{args:?}");
    }
}

#[tokio::test]
async fn an_index_is_made_anew() {
    let place = filled().await;
    let behind = place.run(&["reindex", "--behind", "--json"]).await.json();
    assert_eq!((&behind["threads"], &behind["unreadable"]), (&json!(2), &json!(0)));
    assert!(behind["documents"].as_u64() > Some(2), "{behind}");
    let found = place.run(&["search", "weather", "--json"]).await.json();
    assert_eq!(place.run(&["reindex", "--json"]).await.json(), behind);
    assert_eq!(place.run(&["search", "weather", "--json"]).await.json(), found);
    let again = place.run(&["reindex", "--behind", "--json"]).await.json();
    assert_eq!(again, json!({"threads": 2, "events": 0, "documents": 0, "unreadable": 0}));
    let said = place.run(&["reindex", "--thread", "weather", "--owner", "alice"]).await;
    assert!(said.code == 0 && said.out.ends_with(" on 1 thread\n"), "{} {}", said.out, said.err);
}
