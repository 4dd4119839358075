//! Runs.

use axum::body::Body;
use axum::http::{Method, Request};
use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use runledger_core::MemoryLedger;
use runledger_gateway::{Gateway, Options};
use serde_json::{Value, json};

use crate::support::{Believing, Server, answered, still};

const RUNS: &str = "/api/threads/t/runs";

fn create(run: &str) -> Value {
    json!({"run_id": run, "if_not_exists": "create"})
}

#[tokio::test]
async fn a_run_has_its_input_before_anything_else() {
    let server = Server::new();
    let new = json!({
        "run_id": "r", "assistant_id": "lead", "model_name": "m", "if_not_exists": "create",
        "input": {"messages": [
            {"role": "user", "content": "Hello", "id": "m1"},
            {"type": "human", "content": [{"type": "text", "text": "again"}], "name": "A"},
            "plain",
        ]},
        "metadata": {"secret": "s"}, "kwargs": {"a": 1}, "config": {"configurable": {"token": "t"}},
        "budget": {"max_tokens": 10}, "lease": {"worker_id": "w", "ttl_seconds": 30},
    });
    let answer = server.post("alice", RUNS, &new).await;
    assert_eq!(answer.header("content-location"), Some("/api/threads/t/runs/r"));
    let made = answer.expect(200);
    assert_json_snapshot!("a_run", still(made.clone()));
    for path in ["/api/threads/t/runs/r", "/api/runs/r"] {
        assert_eq!(server.get("alice", path).await.expect(200), made);
    }
    let events = server.get("alice", "/api/runs/r/events").await.expect(200);
    assert_json_snapshot!("an_input", still(events));
}

#[tokio::test]
async fn without_a_thread_there_is_no_run_unless_one_is_made() {
    let server = Server::new();
    assert_eq!(server.post("alice", RUNS, &json!({})).await.kind(), "#not_found");
    server.post("alice", RUNS, &create("r")).await.expect(200);
    assert_eq!(server.post("mallory", RUNS, &create("r2")).await.kind(), "#not_found");
    let alone = server.post("alice", "/api/runs", &json!({"assistant_id": "lead"})).await.expect(200);
    let thread = alone["thread_id"].as_str().unwrap();
    let thread = server.get("alice", &format!("/api/threads/{thread}")).await.expect(200);
    assert_eq!((&thread["assistant_id"], &thread["status"]), (&json!("lead"), &json!("busy")));
}

#[tokio::test]
async fn the_same_request_under_its_key_is_the_same_run() {
    let server = Server::new();
    let key = [("idempotency-key", "k")];
    for (path, body) in
        [(RUNS, json!({"if_not_exists": "create", "kwargs": {"a": 1, "b": 2}})), ("/api/runs", json!({}))]
    {
        let first = server.ask("alice", Method::POST, path, &key, &body).await;
        assert_eq!(first.header("idempotent-replayed"), None);
        let again = server.ask("alice", Method::POST, path, &key, &body).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(first.expect(200), again.expect(200));
        let other = server.ask("alice", Method::POST, path, &key, &json!({"model_name": "other"})).await;
        assert_eq!((other.status, other.kind()), (409, "#conflict"));
        // Another owner's key is another key.
        let foreign = if path == RUNS { "bob" } else { "carol" };
        let theirs = server.ask(foreign, Method::POST, "/api/runs", &key, &body).await;
        assert_eq!((theirs.status, theirs.header("idempotent-replayed")), (200, None));
    }
    let empty = server.ask("alice", Method::POST, RUNS, &[("idempotency-key", "")], &json!({})).await;
    assert_eq!(empty.field(), Some("Idempotency-Key"));
}

#[tokio::test]
async fn what_a_taken_thread_means_is_the_strategy() {
    let server = Server::new();
    server.admitted("t", "r1").await;
    assert_eq!(server.post("alice", RUNS, &json!({"run_id": "r2"})).await.kind(), "#conflict");
    assert_eq!(
        server.post("alice", RUNS, &json!({"run_id": "r1", "multitask_strategy": "enqueue"})).await.kind(),
        "#already_exists"
    );
    for (run, strategy) in [("r3", "enqueue"), ("r4", "interrupt"), ("r5", "rollback")] {
        let new = json!({"run_id": run, "multitask_strategy": strategy});
        server.post("alice", RUNS, &new).await.expect(200);
    }
    let runs = server.get("alice", RUNS).await.expect(200);
    let told: Vec<Value> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| json!([run["run_id"], run["status"], run["stop_reason"], run["visibility"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["r5", "pending", null, "shown"]),
            json!(["r4", "error", "rolled_back", "rolled_back"]),
            json!(["r3", "pending", null, "shown"]),
            json!(["r1", "interrupted", "replaced", "shown"]),
        ]
    );
    let queued = server.get("alice", "/api/threads/t/runs?status=queued").await.expect(200);
    assert_eq!(queued[0]["run_id"], "r3");
    assert_eq!(server.post("alice", RUNS, &json!({"multitask_strategy": "x"})).await.status, 422);
}

#[tokio::test]
async fn runs_are_listed_page_by_page() {
    let server = Server::new();
    for run in ["r1", "r2", "r3"] {
        server.admitted("t", run).await;
        server.post("alice", &format!("{RUNS}/{run}/cancel"), &Value::Null).await.expect(202);
    }
    let mut listed = Vec::new();
    let mut path = format!("{RUNS}?limit=2");
    loop {
        let page = server.get("alice", &path).await;
        let runs = page.body.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned());
        listed.extend(runs);
        match page.header("x-next-cursor") {
            Some(cursor) => path = format!("{RUNS}?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, ["r3", "r2", "r1"]);
    let all = server.get("alice", "/api/runs?status=interrupted&limit=1").await.expect(200);
    assert_eq!((&all["items"][0]["run_id"], &all["has_more"]), (&json!("r3"), &json!(true)));
    assert_eq!(server.get("mallory", "/api/runs").await.expect(200)["items"], json!([]));
    assert_eq!(server.get("alice", "/api/runs?thread_id=other").await.kind(), "#not_found");
}

#[tokio::test]
async fn a_run_is_stopped_once() {
    let server = Server::new();
    let lease = json!({"worker_id": "w", "ttl_seconds": 60});
    let new = json!({"run_id": "held", "if_not_exists": "create", "lease": lease});
    server.post("alice", RUNS, &new).await.expect(200);
    let cancel = format!("{RUNS}/held/cancel");
    assert_eq!(server.post("alice", &cancel, &Value::Null).await.expect(202)["status"], "pending");
    // Its worker does not answer in no time.
    server.post("alice", &format!("{cancel}?wait=1&timeout=0"), &Value::Null).await.expect(202);
    let leases =
        server.post("system", "/api/workers/w/heartbeat", &json!({"ttl_seconds": 60})).await.expect(200);
    assert_eq!(leases["leases"][0]["cancel_action"], "interrupt");
    let beat = server.post("alice", "/api/workers/w/heartbeat", &json!({"ttl_seconds": 60})).await;
    assert_eq!((beat.status, beat.kind()), (403, "#forbidden"));
    let epoch = leases["leases"][0]["epoch"].as_u64().unwrap();
    let finish = json!({"epoch": epoch, "ordinal": 0, "finish": {"status": "success"}});
    let told = server.post("alice", &format!("{RUNS}/held/events"), &finish).await.expect(200);
    assert_eq!(
        (&told["run"]["status"], &told["run"]["stop_reason"]),
        (&json!("interrupted"), &json!("cancelled"))
    );

    server.admitted("t", "free").await;
    let cancel = format!("{RUNS}/free/cancel");
    server.post("alice", &format!("{cancel}?wait=true&action=rollback"), &Value::Null).await.expect(204);
    server.post("alice", &format!("{cancel}?action=rollback"), &Value::Null).await.expect(202);
    assert_eq!(server.post("alice", &cancel, &Value::Null).await.kind(), "#not_cancellable");
    assert_eq!(server.post("mallory", &cancel, &Value::Null).await.kind(), "#not_found");
    server.post("alice", &format!("{cancel}?action=x"), &Value::Null).await.expect(422);
    server.post("alice", &format!("{cancel}?wait=x"), &Value::Null).await.expect(422);
}

#[tokio::test]
async fn a_join_ends_with_its_run() {
    let server = Server::new();
    let epoch = server.admitted("t", "r").await;
    let join = format!("{RUNS}/r/join");
    assert_eq!(server.get("alice", &format!("{join}?timeout=0")).await.expect(202)["status"], "pending");
    let waiting = tokio::spawn({
        let (server, join) = (server.clone(), format!("{join}?timeout=600"));
        async move { server.get("alice", &join).await }
    });
    let events = format!("{RUNS}/r/events");
    for ordinal in 0..3 {
        let note = json!({"event_type": "note", "category": "trace", "content": ordinal});
        let batch = json!({"epoch": epoch, "ordinal": ordinal, "events": [note]});
        server.post("alice", &events, &batch).await.expect(200);
    }
    let finish = json!({"epoch": epoch, "ordinal": 3, "finish": {"status": "success"}});
    server.post("alice", &events, &finish).await.expect(200);
    let joined = waiting.await.unwrap().expect(200);
    assert_eq!((&joined["status"], &joined["token_usage_by_model"]), (&json!("success"), &json!({})));
    assert_eq!(server.get("alice", &join).await.expect(200), joined);
    assert_eq!(server.get("mallory", &join).await.kind(), "#not_found");
}

#[tokio::test]
async fn a_run_is_where_its_admission_says_whatever_its_ids_are() {
    let ledger = MemoryLedger::new().ledger();
    let inner = Gateway::new(ledger, Believing).router();
    let router = axum::Router::new().nest("/ledger", inner);
    let ask = async |method: Method, path: &str, body: &Value| {
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer alice");
        let request = request.header("content-type", "application/json");
        answered(&router, request.body(Body::from(body.to_string())).unwrap()).await
    };
    for (thread, run) in [("a/b", "r"), ("a?b", "50%"), ("a#b c", "\u{9879}/\u{e9}")] {
        let new = json!({"thread_id": thread, "run_id": run});
        let answer = ask(Method::POST, "/ledger/api/runs", &new).await;
        let location = answer.header("content-location").unwrap().to_owned();
        let found = ask(Method::GET, &location, &Value::Null).await.expect(200);
        assert_eq!((&found["thread_id"], &found["run_id"]), (&json!(thread), &json!(run)), "{location}");
    }
}

#[tokio::test]
async fn who_waits_for_a_run_is_answered_before_the_server_stops() {
    let options = Options::default();
    let shutdown = options.shutdown.clone();
    let server = Server::with_options(options);
    server.admitted("t", "r").await;
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { server.get("alice", &format!("{RUNS}/r/join?timeout=600")).await }
    });
    // It waits by then, or sees at once that it must not.
    tokio::task::yield_now().await;
    shutdown.begin();
    assert_eq!(waiting.await.unwrap().expect(202)["status"], "pending");
}

#[tokio::test]
async fn runs_are_undone_shown_again_and_deleted() {
    let server = Server::new();
    for run in ["r1", "r2", "r3"] {
        server.admitted("t", run).await;
        server.post("alice", &format!("{RUNS}/{run}/cancel"), &Value::Null).await.expect(202);
    }
    let undone = server.post("alice", &format!("{RUNS}/r2/rewind"), &Value::Null).await.expect(200);
    assert_eq!(undone, json!({"run_ids": ["r2", "r3"]}));
    let shown = json!({"visibility": "shown"});
    let run = server.put("alice", &format!("{RUNS}/r3/visibility"), &shown).await.expect(200);
    assert_eq!(run["visibility"], "shown");
    assert_json_snapshot!("a_deleted_run", server.delete("alice", &format!("{RUNS}/r1")).await.expect(200));
    assert_eq!(server.delete("alice", &format!("{RUNS}/r1")).await.kind(), "#not_found");
    server.admitted("t", "r4").await;
    for (method, path) in [(Method::DELETE, "r4"), (Method::POST, "r4/rewind")] {
        let refused = server.ask("alice", method, &format!("{RUNS}/{path}"), &[], &Value::Null).await;
        assert_eq!(refused.kind(), "#conflict", "{path}");
    }
}
