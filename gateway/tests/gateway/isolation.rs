//! Whose what is: every path of the document, asked by somebody whose nothing is.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::{Server, said};

/// Bodies that would be taken, by operation: what needs none is asked without.
fn body(operation: &str) -> Value {
    match operation {
        "set_thread_owner" => json!({"owner_id": "mallory"}),
        "append_run_events" => json!({"events": [said("x", "agent_message", "lead_agent", json!({}))]}),
        "append_thread_events" => json!({"events": [{"event_type": "x", "category": "x", "content": 1}]}),
        "claim_item" | "reserve_budget" | "release_budget" => json!({"epoch": 1}),
        "acquire_run" => json!({"worker_id": "w", "ttl_seconds": 1}),
        "heartbeat" => json!({"ttl_seconds": 1}),
        "set_run_visibility" => json!({"visibility": "superseded"}),
        "create_feedback" | "put_feedback" => json!({"rating": 1}),
        _ => json!({}),
    }
}

/// What there is of alice's to see: nothing of it may be in an answer to mallory.
const SECRET: &str = "for alice only";

#[tokio::test]
async fn nobody_sees_or_changes_what_is_anothers() {
    let server = Server::new();
    let new = json!({
        "run_id": "r", "if_not_exists": "create", "input": {"messages": [SECRET]},
        "metadata": {"a": SECRET}, "agent_run": {"agent_run_id": "a", "agent": "x", "goal": SECRET},
    });
    let run = server.post("alice", "/api/threads/t/runs", &new).await.expect(200);
    let call = json!({
        "event_type": "item.started", "category": "lifecycle", "content": {"name": SECRET, "args": {}},
        "item": {"item_id": "i", "item_kind": "tool_call", "item_status": "in_progress", "call_id": "k"},
    });
    let batch = json!({"epoch": run["epoch"], "ordinal": 0, "events": [call]});
    server.post("alice", "/api/threads/t/runs/r/events", &batch).await.expect(200);
    let feedback =
        server.put("alice", "/api/threads/t/runs/r/feedback", &json!({"rating": 1})).await.expect(200);
    let before = everything(&server).await;

    let document = server.get("mallory", "/api/openapi.json").await.expect(200);
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/api/") || path == "/api/openapi.json" {
            continue;
        }
        let filled = path
            .replace("{thread_id}", "t")
            .replace("{run_id}", "r")
            .replace("{item_id}", "i")
            .replace("{agent_run_id}", "a")
            .replace("{interaction_id}", "q")
            .replace("{worker_id}", "w")
            .replace("{hash}", &format!("sha256:{}", "0".repeat(64)))
            .replace("{feedback_id}", feedback["feedback_id"].as_str().unwrap());
        let filled = if path == "/api/search" { format!("{filled}?q=alice") } else { filled };
        let filled = if path == "/api/usage" { format!("{filled}?by=model") } else { filled };
        assert!(!filled.contains('{'), "{filled}: say what stands for its parameter");
        for (method, operation) in item.as_object().unwrap() {
            let Some(name) = operation["operationId"].as_str() else { continue };
            let body = if operation["requestBody"].is_null() { Value::Null } else { body(name) };
            let answer =
                server.ask("mallory", method.to_uppercase().parse().unwrap(), &filled, &[], &body).await;
            let text = answer.body.to_string();
            let names_one = path.contains('{');
            let is_hidden = match answer.status {
                403 | 404 => true,
                // What needs more than this to be asked is refused before anything is looked at.
                422 => name != "set_thread_owner" && !answer.body["field"].is_null(),
                200 => !names_one,
                _ => false,
            };
            assert!(is_hidden, "{method} {filled} ({name}): {} {text}", answer.status);
            assert!(!text.contains(SECRET), "{method} {filled}: {text}");
            asked += 1;
        }
    }
    assert!(asked >= 40, "only {asked} operations");
    assert_eq!(everything(&server).await, before);
}

/// What alice has.
async fn everything(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    for path in ["", "/events", "/runs", "/messages", "/runs/r", "/runs/r/feedback"] {
        all.push(server.get("alice", &format!("/api/threads/t{path}")).await.expect(200));
    }
    all
}
