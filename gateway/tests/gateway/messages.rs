//! Messages.

use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use runledger_core::view::legacy::deerflow::DeerFlow;
use runledger_core::{EventFilter, SeqRange};
use serde_json::{Value, json};

use crate::support::{Server, owner, said, still};

/// A run with reasoning, a tool call, and what a sub-agent and a middleware said.
async fn conversation(server: &Server, run: &str, text: &str) {
    let new = json!({
        "run_id": run, "if_not_exists": "create",
        "input": {"messages": [{"role": "user", "content": text, "id": format!("{run}-in")}]},
    });
    let path = format!("/api/threads/t/runs/{run}/events");
    let epoch = server.post("alice", "/api/threads/t/runs", &new).await.expect(200)["epoch"].clone();
    let thought = |of: &str| {
        json!({
            "event_type": "item.completed", "category": "reasoning", "caller": "lead_agent",
            "item": {
                "item_id": format!("{of}/reasoning"), "item_kind": "reasoning", "item_status": "completed",
                "parent_item_id": of,
            },
            "content": {"text": format!("thinking of {of}")}, "created_at": "2026-01-02T03:04:05Z",
        })
    };
    let (first, last) = (format!("{run}-first"), format!("{run}-last"));
    let asks = json!({"content": "", "tool_calls": [{"id": "k", "name": "ls", "args": {}}]});
    let events = [
        thought(&first),
        said(&first, "agent_message", "lead_agent", asks),
        said(&format!("{run}-sub"), "agent_message", "subagent:research", json!({"content": "sub"})),
        said(&format!("{run}-title"), "agent_message", "middleware:title", json!({"content": "title"})),
        json!({"event_type": "note", "category": "message", "content": "no message of DeerFlow's"}),
        thought(&last),
        said(&last, "agent_message", "lead_agent", json!({"content": format!("{text}!")})),
    ];
    let batch = json!({"epoch": epoch, "ordinal": 0, "events": events, "finish": {"status": "success"}});
    server.post("alice", &path, &batch).await.expect(200);
}

fn seqs(rows: &Value) -> Vec<u64> {
    rows.as_array().unwrap().iter().map(|row| row["seq"].as_u64().unwrap()).collect()
}

fn said_in(rows: &Value) -> Vec<String> {
    let text = |row: &Value| row["content"]["content"].as_str().unwrap_or("-").to_owned();
    rows.as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn messages_are_rows_as_deerflow_has_them_or_as_the_log_has_them() {
    let server = Server::new();
    conversation(&server, "r", "Hello").await;
    let rows = server.get("alice", "/api/threads/t/messages").await.expect(200);
    assert_json_snapshot!("rows_of_deerflow", still(rows.clone()));
    let run = server.get("alice", "/api/threads/t/runs/r/messages").await.expect(200);
    assert_eq!((&run["data"], &run["has_more"]), (&rows, &json!(false)));
    assert_eq!(server.get("alice", "/api/runs/r/messages").await.expect(200), run);
    let canonical = server.get("alice", "/api/threads/t/messages?format=canonical&limit=1").await.expect(200);
    assert_json_snapshot!("a_row_of_the_log", still(canonical));
    server.get("alice", "/api/threads/t/messages?format=x").await.expect(422);
}

/// A page that begins anywhere has the rows that a fold of the whole log gives.
#[tokio::test]
async fn a_page_has_the_rows_of_a_fold_from_the_start() {
    let server = Server::new();
    for run in ["r1", "r2", "r3"] {
        conversation(&server, run, run).await;
    }
    let (scope, thread) = (owner("alice"), "t".parse().unwrap());
    let range = SeqRange::after(0, 1_000);
    let log =
        server.ledger.events().list_events(&scope, &thread, &EventFilter::default(), &range).await.unwrap();
    let mut fold = DeerFlow::default();
    let all: Vec<Value> = log
        .items
        .iter()
        .filter_map(|event| fold.take(event))
        .map(|row| row.decode::<Value>().unwrap())
        .filter(|row| row["category"] == "message")
        .collect();
    assert!(all.len() >= 15 && all.iter().any(|row| row.to_string().contains("thinking of r2-last")));
    let without = |rows: &Value| {
        let mut rows = rows.as_array().unwrap().clone();
        rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("feedback")));
        rows
    };
    for limit in [1, 2, 3, 7, 200] {
        let (mut forward, mut after) = (Vec::new(), 0);
        loop {
            let path = format!("/api/threads/t/messages?limit={limit}&after_seq={after}");
            let rows = server.get("alice", &path).await.expect(200);
            forward.extend(without(&rows));
            match seqs(&rows).last() {
                Some(last) => after = *last,
                None => break,
            }
        }
        assert_eq!(forward, all, "{limit} forward");
        let (mut backward, mut before) = (Vec::new(), u64::MAX);
        loop {
            let path = format!("/api/threads/t/messages?limit={limit}&before_seq={before}");
            let rows = server.get("alice", &path).await.expect(200);
            match seqs(&rows).first() {
                Some(first) => before = *first,
                None => break,
            }
            backward.splice(0..0, without(&rows));
        }
        assert_eq!(backward, all, "{limit} backward");
    }
}

#[tokio::test]
async fn a_page_leaves_out_what_is_hidden_and_what_is_no_conversation() {
    let server = Server::new();
    for run in ["r1", "r2", "r3"] {
        conversation(&server, run, run).await;
    }
    let hidden = json!({"visibility": "superseded"});
    server.put("alice", "/api/threads/t/runs/r2/visibility", &hidden).await.expect(200);
    let mut told = Vec::new();
    let mut path = "/api/threads/t/messages/page?limit=2".to_owned();
    loop {
        let page = server.get("alice", &path).await.expect(200);
        told.splice(0..0, said_in(&page["data"]));
        if page["has_more"] == json!(false) {
            assert_eq!(page["next_before_seq"], Value::Null);
            break;
        }
        assert_eq!(page["next_before_seq"], page["data"][0]["seq"]);
        path = format!("/api/threads/t/messages/page?limit=2&before_seq={}", page["next_before_seq"]);
    }
    assert_eq!(told, ["r1", "", "r1!", "r3", "", "r3!"]);
    let all = server.get("alice", "/api/threads/t/messages").await.expect(200);
    assert_eq!(said_in(&all), ["r1", "", "sub", "title", "r1!", "r3", "", "sub", "title", "r3!"]);
    let of_hidden = server.get("alice", "/api/runs/r2/messages?limit=1").await.expect(200);
    assert_eq!((said_in(&of_hidden["data"]), &of_hidden["has_more"]), (vec!["r2!".to_owned()], &json!(true)));
}

#[tokio::test]
async fn a_scan_for_what_is_shown_is_bounded_and_goes_on() {
    let server = Server::new();
    conversation(&server, "r1", "first").await;
    let epoch = server.admitted("t", "r2").await;
    let mut ordinal = 0;
    for _ in 0..3 {
        let noise: Vec<Value> = (ordinal..ordinal + 900)
            .map(|number| {
                said(&format!("n{number}"), "agent_message", "middleware:x", json!({"content": "x"}))
            })
            .collect();
        let batch = json!({"epoch": epoch, "ordinal": ordinal, "events": noise});
        server.post("alice", "/api/threads/t/runs/r2/events", &batch).await.expect(200);
        ordinal += 900;
    }
    let page = server.get("alice", "/api/threads/t/messages/page?limit=5").await.expect(200);
    assert_eq!((&page["data"], &page["has_more"]), (&json!([]), &json!(true)));
    let path = format!("/api/threads/t/messages/page?limit=5&before_seq={}", page["next_before_seq"]);
    let rest = server.get("alice", &path).await.expect(200);
    assert_eq!(
        (said_in(&rest["data"]), &rest["has_more"]),
        (vec!["first".to_owned(), String::new(), "first!".to_owned()], &json!(false))
    );
}

#[tokio::test]
async fn the_last_message_of_a_run_has_what_the_caller_thinks_of_it() {
    let server = Server::new();
    conversation(&server, "r1", "one").await;
    conversation(&server, "r2", "two").await;
    let up = json!({"rating": 1, "comment": "good"});
    server.put("alice", "/api/threads/t/runs/r1/feedback", &up).await.expect(200);
    let down = json!({"rating": -1, "message_id": "r2-first"});
    server.post("alice", "/api/threads/t/runs/r2/feedback", &down).await.expect(200);
    server.put("system", "/api/threads/t/runs/r2/feedback", &up).await.expect(200);
    let ratings = |rows: &Value| -> Vec<Value> {
        let rated = rows.as_array().unwrap().iter().filter(|row| !row["feedback"].is_null());
        rated
            .map(|row| json!([row["content"]["id"], row["feedback"]["rating"], row["feedback"]["comment"]]))
            .collect()
    };
    let rows = server.get("alice", "/api/threads/t/messages").await.expect(200);
    assert_eq!(ratings(&rows), [json!(["r1-last", 1, "good"]), json!(["r2-first", -1, null])]);
    let rows = server.get("system", "/api/threads/t/messages").await.expect(200);
    assert_eq!(ratings(&rows), [json!(["r2-last", 1, "good"])]);
}
