//! Appends of runtimes in other languages.

use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::{Server, said, still};

const RUN: &str = "/api/threads/t/runs/r";
const EVENTS: &str = "/api/threads/t/runs/r/events";

fn note(text: &str) -> Value {
    json!({"event_type": "note", "category": "trace", "content": text, "metadata": {"token": "t"}})
}

#[tokio::test]
async fn a_run_is_written_exactly_once() {
    let server = Server::new();
    let epoch = server.admitted("t", "r").await;
    let batches = [
        json!({"epoch": epoch, "ordinal": 0, "start": true, "events": [note("a"), note("b")]}),
        json!({
            "epoch": epoch, "ordinal": 2, "last_ai_message": "Hi",
            "events": [said("m", "agent_message", "lead_agent", json!({"content": "Hi"}))],
            "usage": [{"source_id": "c1", "model": "gpt", "input_tokens": 3, "output_tokens": 4}],
        }),
        json!({"epoch": epoch, "ordinal": 3, "finish": {"status": "error", "error": "no", "stop_reason": "x"}}),
    ];
    let mut first = Vec::new();
    for batch in &batches {
        first.push(server.post("alice", EVENTS, batch).await.expect(200));
        // The answer was lost, say.
        let again = server.post("alice", EVENTS, batch).await.expect(200);
        assert_eq!(again["seqs"], first.last().unwrap()["seqs"]);
        assert_eq!(again["already_stored"], batch["events"].as_array().map_or(1, Vec::len));
    }
    assert_json_snapshot!("what_was_stored", still(json!(first)));
    let log = server.get("alice", EVENTS).await.expect(200);
    let types: Vec<&str> =
        log["data"].as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["note", "note", "item.completed", "run.failed"]);
    assert_eq!(log["data"][0]["metadata"], json!({"token": "[redacted]"}));
    let run = server.get("alice", RUN).await.expect(200);
    assert_eq!((&run["total_tokens"], &run["last_ai_message"]), (&json!(7), &json!("Hi")));
    assert_eq!(run["token_usage_by_model"]["gpt"]["total_tokens"], 7);
}

#[tokio::test]
async fn who_lost_the_run_and_who_is_out_of_step_is_told() {
    let server = Server::new();
    let epoch = server.admitted("t", "r").await;
    let batch = |epoch: u64, ordinal: u64, text: &str| json!({"epoch": epoch, "ordinal": ordinal, "events": [note(text)]});
    server.post("alice", EVENTS, &batch(epoch, 0, "a")).await.expect(200);
    for (batch, kind) in [
        (batch(epoch, 0, "another"), "#conflict"),
        (batch(epoch, 5, "a gap"), "#conflict"),
        (batch(epoch + 1, 1, "b"), "#lease_lost"),
    ] {
        let refused = server.post("alice", EVENTS, &batch).await;
        assert_eq!((refused.status, refused.kind()), (409, kind), "{batch}");
    }
    let resumed = server.post("alice", &format!("{RUN}/resume"), &json!({"epoch": epoch})).await.expect(200);
    assert_eq!(server.post("alice", EVENTS, &batch(epoch, 1, "late")).await.kind(), "#lease_lost");
    let now = resumed["epoch"].as_u64().unwrap();
    server.post("alice", EVENTS, &batch(now, 0, "b")).await.expect(200);
    assert_eq!(server.post("mallory", EVENTS, &batch(now, 1, "c")).await.kind(), "#not_found");
    server.post("alice", &format!("{RUN}/cancel"), &Value::Null).await.expect(202);
    assert_eq!(server.post("alice", EVENTS, &batch(now, 1, "c")).await.kind(), "#lease_lost");
    // A record that arrives late belongs to the run that began it.
    server.post("alice", EVENTS, &json!({"events": [note("late")]})).await.expect(200);
    // An end that comes after the end is answered with what is stored.
    let finish = json!({"epoch": now, "ordinal": 1, "finish": {"status": "success"}});
    let told = server.post("alice", EVENTS, &finish).await.expect(200);
    assert_eq!(
        (&told["seqs"], &told["next_seq"], &told["run"]["status"]),
        (&json!([]), &Value::Null, &json!("interrupted"))
    );
}

#[tokio::test]
async fn a_question_is_open_until_it_is_answered() {
    let server = Server::new();
    let epoch = server.admitted("t", "r").await;
    let ask = json!({"interaction_id": "q", "kind": "approval", "request": {"a": 1}});
    let finish = json!({"status": "interrupted", "stop_reason": "waiting_for_input", "asks": [ask]});
    let batch = json!({"epoch": epoch, "ordinal": 0, "finish": finish});
    server.post("alice", EVENTS, &batch).await.expect(200);
    let thread = server.get("alice", "/api/threads/t").await.expect(200);
    assert_eq!(
        (&thread["status"], &thread["interrupts"][0]["interaction_id"]),
        (&json!("interrupted"), &json!("q"))
    );
    let answer = json!({"run_id": "r2", "answer": {"interaction_id": "q", "value": true}});
    server.post("alice", "/api/threads/t/runs", &answer).await.expect(200);
    assert_eq!(server.get("alice", "/api/threads/t").await.expect(200)["interrupts"], json!([]));
    server.post("alice", "/api/threads/t/runs/r2/cancel", &Value::Null).await.expect(202);
    let again = json!({"run_id": "r3", "answer": {"interaction_id": "q", "value": true}});
    assert_eq!(server.post("alice", "/api/threads/t/runs", &again).await.kind(), "#conflict");
}

#[tokio::test]
async fn a_thread_has_records_of_its_own() {
    let server = Server::new();
    server.post("alice", "/api/threads", &json!({"thread_id": "t"})).await.expect(200);
    let batch = json!({"events": [note("a")], "expected_next_seq": 1});
    let stored = server.post("alice", "/api/threads/t/events", &batch).await.expect(200);
    assert_eq!(stored, json!({"seqs": [1], "already_stored": 0, "next_seq": 2, "epoch": 0}));
    assert_eq!(server.post("alice", "/api/threads/t/events", &batch).await.kind(), "#conflict");
    let events = server.get("alice", "/api/threads/t/events").await.expect(200);
    assert_eq!(events["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn events_are_read_in_both_directions() {
    let server = Server::new();
    let epoch = server.admitted("t", "r").await;
    let events: Vec<Value> = (0..5).map(|number| note(&number.to_string())).collect();
    server.post("alice", EVENTS, &json!({"epoch": epoch, "ordinal": 0, "events": events})).await.expect(200);
    for (query, seqs, has_more, before, after) in [
        ("limit=2", json!([1, 2]), true, Value::Null, json!(2)),
        ("limit=2&after_seq=2", json!([3, 4]), true, Value::Null, json!(4)),
        ("limit=2&after_seq=4", json!([5]), false, Value::Null, Value::Null),
        ("limit=2&before_seq=5", json!([3, 4]), true, json!(3), Value::Null),
        ("limit=2&before_seq=3", json!([1, 2]), false, Value::Null, Value::Null),
        (
            "before_seq=18446744073709551615&event_types=note,other",
            json!([1, 2, 3, 4, 5]),
            false,
            Value::Null,
            Value::Null,
        ),
        ("event_types=other", json!([]), false, Value::Null, Value::Null),
        ("caller=lead_agent", json!([]), false, Value::Null, Value::Null),
        ("task_id=x", json!([]), false, Value::Null, Value::Null),
    ] {
        for path in [EVENTS, "/api/runs/r/events"] {
            let page = server.get("alice", &format!("{path}?{query}")).await.expect(200);
            let told: Vec<&Value> =
                page["data"].as_array().unwrap().iter().map(|event| &event["seq"]).collect();
            assert_eq!(json!(told), seqs, "{query}");
            let goes_on = (&page["has_more"], &page["next_before_seq"], &page["next_after_seq"]);
            assert_eq!(goes_on, (&json!(has_more), &before, &after), "{query}");
        }
    }
}

#[tokio::test]
async fn a_waiting_run_is_acquired_its_calls_claimed_and_its_budget_kept() {
    let server = Server::new();
    let new = json!({"run_id": "r", "if_not_exists": "create", "budget": {"max_tokens": 10}});
    server.post("alice", "/api/threads/t/runs", &new).await.expect(200);
    let lease = json!({"worker_id": "w", "ttl_seconds": 60});
    let epoch =
        server.post("alice", &format!("{RUN}/acquire"), &lease).await.expect(200)["epoch"].as_u64().unwrap();
    assert_eq!(server.post("alice", &format!("{RUN}/acquire"), &lease).await.kind(), "#conflict");
    let call = json!({
        "event_type": "item.started", "category": "lifecycle",
        "item": {"item_id": "c", "item_kind": "tool_call", "item_status": "in_progress", "call_id": "k"},
        "content": {"name": "bash", "args": {}},
    });
    let batch = json!({"epoch": epoch, "ordinal": 0, "start": true, "events": [call]});
    server.post("alice", EVENTS, &batch).await.expect(200);
    let claim = format!("{RUN}/items/c/claim");
    let claimed = server.post("alice", &claim, &json!({"epoch": epoch})).await.expect(200);
    assert_eq!(
        (&claimed["item"]["claimed_epoch"], &claimed["claimed_before"]),
        (&json!(epoch), &Value::Null)
    );
    assert_eq!(server.post("alice", &claim, &json!({"epoch": epoch})).await.kind(), "#conflict");
    assert_eq!(server.post("alice", &claim, &json!({"epoch": epoch + 1})).await.kind(), "#lease_lost");
    let share = |tokens: u64| json!({"epoch": epoch, "estimate": {"tokens": tokens}, "purpose": "call"});
    let reserve = format!("{RUN}/budget/reserve");
    assert_eq!(
        server.post("alice", &reserve, &share(8)).await.expect(200),
        json!({"granted": true, "limit": null})
    );
    assert_eq!(
        server.post("alice", &reserve, &share(3)).await.expect(200),
        json!({"granted": false, "limit": "max_tokens"})
    );
    server.post("alice", &format!("{RUN}/budget/release"), &share(8)).await.expect(204);
    assert_eq!(server.post("alice", &reserve, &share(3)).await.expect(200)["granted"], true);
}
