//! Threads.

use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use runledger_core::NewThread;
use runledger_gateway::Options;
use serde_json::{Value, json};

use crate::support::{Server, still};

fn ids(threads: &Value) -> Vec<&str> {
    threads.as_array().unwrap().iter().map(|thread| thread["thread_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let answer = Server::new().get("alice", "/api/nowhere").await;
    assert_eq!((answer.status, answer.kind()), (404, "#no_such_path"));
}

#[tokio::test]
async fn a_thread_is_made_once_and_shown_without_its_secrets() {
    let server = Server::new();
    let new = json!({
        "thread_id": "t", "assistant_id": "lead", "values": {"title": "A title"}, "model": "m",
        "metadata": {"deerflow_pinned": true, "n": 1.50, "deep": [{"API_Key": {"a": 1}}]},
        "config": {"password": "p", "temperature": 0},
    });
    let made = server.post("alice", "/api/threads", &new).await.expect(200);
    assert_json_snapshot!("a_thread", still(made.clone()));
    assert_eq!(server.get("alice", "/api/threads/t").await.expect(200), made);
    assert_eq!(server.post("alice", "/api/threads", &json!({"thread_id": "t"})).await.expect(200), made);
    let raise = json!({"thread_id": "t", "if_exists": "raise"});
    for (who, body) in [("alice", &raise), ("mallory", &new), ("mallory", &raise)] {
        let refused = server.post(who, "/api/threads", body).await;
        assert_eq!((refused.status, refused.kind()), (409, "#already_exists"), "{who}");
    }
    let stored = server.ledger.threads().get(&crate::support::owner("alice"), &"t".parse().unwrap()).await;
    assert_eq!(stored.unwrap().metadata.as_str(), r#"{"deep":[{"API_Key":{"a":1}}],"n":1.5}"#);
}

#[tokio::test]
async fn only_the_system_makes_threads_for_others_and_gives_them_away() {
    let server = Server::new();
    let new = json!({"thread_id": "t", "owner_id": "alice"});
    let refused = server.post("mallory", "/api/threads", &new).await;
    assert_eq!((refused.status, refused.field()), (422, Some("owner_id")));
    server.post("system", "/api/threads", &new).await.expect(200);
    // Whoever asks for somebody's thread is not given another's of the id.
    server.post("system", "/api/threads", &new).await.expect(200);
    for other in [json!({"thread_id": "t", "owner_id": "bob"}), json!({"thread_id": "t"})] {
        assert_eq!(server.post("system", "/api/threads", &other).await.kind(), "#already_exists");
    }
    let to_bob = json!({"owner_id": "bob"});
    for who in ["alice", "mallory"] {
        let refused = server.put(who, "/api/threads/t/owner", &to_bob).await;
        assert_eq!((refused.status, refused.kind()), (403, "#forbidden"));
    }
    server.put("system", "/api/threads/t/owner", &to_bob).await.expect(200);
    assert_eq!(server.get("alice", "/api/threads/t").await.kind(), "#not_found");
    server.get("bob", "/api/threads/t").await.expect(200);
    server.put("system", "/api/threads/t/owner", &json!({})).await.expect(422);
    server.put("system", "/api/threads/t/owner", &json!({"owner_id": null})).await.expect(200);
    server.get("bob", "/api/threads/t").await.expect(404);
}

#[tokio::test]
async fn threads_are_found_by_their_metadata_the_pinned_first() {
    let server = Server::new();
    for (id, metadata) in [
        ("a", json!({"kind": "chat", "n": 1, "flag": true, "nothing": null})),
        ("b", json!({"kind": "chat", "n": "1", "flag": 1})),
        ("c", json!({"kind": "task", "deerflow_pinned": true})),
    ] {
        let new = json!({"thread_id": id, "metadata": metadata, "assistant_id": id});
        server.post("alice", "/api/threads", &new).await.expect(200);
    }
    for (search, found) in [
        (json!({}), vec!["c", "b", "a"]),
        (json!({"metadata": {"kind": "chat"}}), vec!["b", "a"]),
        (json!({"metadata": {"n": 1.0}}), vec!["a"]),
        (json!({"metadata": {"n": "1"}}), vec!["b"]),
        (json!({"metadata": {"flag": true, "nothing": null}}), vec!["a"]),
        (json!({"metadata": {"missing": null}}), vec![]),
        (json!({"metadata": {"deerflow_pinned": true}}), vec!["c"]),
        (json!({"pinned": false}), vec!["b", "a"]),
        (json!({"assistant_id": "a"}), vec!["a"]),
        (json!({"status": "busy"}), vec![]),
        (json!({"offset": 1, "limit": 1}), vec!["b"]),
    ] {
        let answer = server.post("alice", "/api/threads/search", &search).await.expect(200);
        assert_eq!(ids(&answer), found, "{search}");
    }
    let mut found = Vec::new();
    let mut search = json!({"limit": 1});
    loop {
        let page = server.post("alice", "/api/threads/search", &search).await;
        let cursor = page.header("x-next-cursor").map(str::to_owned);
        found.extend(ids(&page.body).into_iter().map(str::to_owned));
        match cursor {
            Some(cursor) => search = json!({"limit": 1, "cursor": cursor}),
            None => break,
        }
    }
    assert_eq!(found, ["c", "b", "a"]);
    assert_eq!(server.post("mallory", "/api/threads/search", &json!({})).await.expect(200), json!([]));
}

#[tokio::test]
async fn a_list_is_walked_by_its_header_whatever_ids_it_has() {
    let server = Server::new();
    let ids = ["a b", "50%25", "a&b+c", "\"#$!", "\u{9879}", "a/b?c=d"];
    for id in ids {
        server.post("alice", "/api/threads", &json!({"thread_id": id})).await.expect(200);
    }
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..=ids.len() {
        let page = server.post("alice", "/api/threads/search", &json!({"limit": 1, "cursor": cursor})).await;
        found.extend(self::ids(&page.body).into_iter().map(str::to_owned));
        cursor = page.header("x-next-cursor").map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, ids.map(str::to_owned).into_iter().rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn an_offset_leaves_out_rows_once_or_is_refused() {
    let server = Server::new();
    for id in ["a", "b", "c"] {
        server.post("alice", "/api/threads", &json!({"thread_id": id})).await.expect(200);
    }
    let first = server.post("alice", "/api/threads/search", &json!({"limit": 1, "offset": 1})).await;
    let cursor = first.header("x-next-cursor").unwrap().to_owned();
    assert_eq!(ids(&first.expect(200)), ["b"]);
    let on = json!({"limit": 1, "cursor": cursor});
    assert_eq!(ids(&server.post("alice", "/api/threads/search", &on).await.expect(200)), ["a"]);
    let both = json!({"limit": 1, "offset": 1, "cursor": cursor});
    assert_eq!(server.post("alice", "/api/threads/search", &both).await.field(), Some("offset"));
    // More of them than a search looks at: none of those rows is known to be left out.
    for number in 0..20_000 {
        let new = NewThread::new(format!("n{number}").parse().unwrap());
        server.ledger.threads().create(&crate::support::owner("alice"), new).await.unwrap();
    }
    let search = json!({"metadata": {"kind": "x"}, "offset": 1});
    assert_eq!(server.post("alice", "/api/threads/search", &search).await.field(), Some("offset"));
    let search = json!({"metadata": {"kind": "x"}});
    let found = server.post("alice", "/api/threads/search", &search).await;
    assert!(found.header("x-next-cursor").is_some() && found.body == json!([]));
}

#[tokio::test]
async fn an_edit_changes_what_it_names() {
    let server = Server::new();
    let new = json!({"thread_id": "t", "metadata": {"a": 1, "b": 2}, "model": "m", "display_name": "old"});
    let made = server.post("alice", "/api/threads", &new).await.expect(200);
    let pinned = json!({"metadata": {"deerflow_pinned": true}});
    let shown = server.patch("alice", "/api/threads/t", &pinned).await.expect(200);
    assert_eq!((&shown["pinned"], &shown["updated_at"]), (&json!(true), &made["updated_at"]));
    assert_eq!(shown["metadata"], json!({"a": 1, "b": 2, "deerflow_pinned": true}));
    let edit =
        json!({"metadata": {"a": null, "c": 3}, "values": {"title": "new"}, "model": null, "pinned": false});
    let shown = server.patch("alice", "/api/threads/t", &edit).await.expect(200);
    assert_eq!(shown["metadata"], json!({"b": 2, "c": 3}));
    let told = [&shown["display_name"], &shown["values"]["title"], &shown["model"], &shown["pinned"]];
    assert_eq!(told, [&json!("new"), &json!("new"), &Value::Null, &json!(false)]);
    assert_eq!(server.patch("mallory", "/api/threads/t", &edit).await.kind(), "#not_found");
}

#[tokio::test]
async fn an_archived_thread_takes_nothing_and_a_deleted_one_is_gone() {
    let server = Server::new();
    server.admitted("t", "r").await;
    for (method, path) in [("POST", "/api/threads/t/archive"), ("DELETE", "/api/threads/t")] {
        let refused = server.ask("alice", method.parse().unwrap(), path, &[], &Value::Null).await;
        assert_eq!((refused.status, refused.kind()), (409, "#conflict"), "{path}");
    }
    server.post("alice", "/api/threads/t/runs/r/cancel", &Value::Null).await.expect(202);
    let archived = server.post("alice", "/api/threads/t/archive", &Value::Null).await.expect(200);
    assert!(archived["archived_at"].is_string());
    let run = json!({"run_id": "r2"});
    assert_eq!(server.post("alice", "/api/threads/t/runs", &run).await.kind(), "#conflict");
    let open = server.post("alice", "/api/threads/t/unarchive", &Value::Null).await.expect(200);
    assert!(open["archived_at"].is_null());
    assert_json_snapshot!("a_deletion", server.delete("alice", "/api/threads/t").await.expect(200));
    assert_eq!(server.delete("alice", "/api/threads/t").await.kind(), "#not_found");
    assert_eq!(server.get("alice", "/api/deletions").await.kind(), "#forbidden");
    let deletions = server.get("system", "/api/deletions?thread_id=t").await.expect(200);
    assert_json_snapshot!("deletions", still(deletions));
}

#[tokio::test]
async fn a_fork_has_what_its_source_shows_and_children_are_listed() {
    let server = Server::new();
    for (run, text) in [("r1", "one"), ("r2", "two")] {
        let new = json!({"run_id": run, "if_not_exists": "create", "input": {"messages": [text]}});
        server.post("alice", "/api/threads/t/runs", &new).await.expect(200);
        server.post("alice", &format!("/api/threads/t/runs/{run}/cancel"), &Value::Null).await.expect(202);
    }
    let fork = json!({"thread_id": "f", "before_run_id": "r2"});
    let forked = server.post("alice", "/api/threads/t/fork", &fork).await.expect(200);
    assert_eq!((&forked["events"], &forked["written"]), (&json!(2), &json!(2)));
    assert_eq!(forked["thread"]["forked_from_thread_id"], "t");
    let runs = server.get("alice", "/api/threads/f/runs").await.expect(200);
    assert_eq!(runs.as_array().unwrap().len(), 1);
    let both = json!({"before_run_id": "r2", "through_run_id": "r1"});
    assert_eq!(server.post("alice", "/api/threads/t/fork", &both).await.field(), Some("through_run_id"));
    assert_eq!(server.post("mallory", "/api/threads/t/fork", &json!({})).await.kind(), "#not_found");

    let child = json!({"thread_id": "c", "spawn": {"parent_thread_id": "t", "run_id": "r1"}});
    let spawned = server.post("alice", "/api/threads", &child).await.expect(200);
    assert_eq!(server.post("system", "/api/threads", &child).await.expect(200), spawned);
    let children = server.get("alice", "/api/threads/t/children").await.expect(200);
    assert_eq!((ids(&children["items"]), &children["has_more"]), (vec!["c"], &json!(false)));
    let deep = json!({"spawn": {"parent_thread_id": "c", "run_id": "r1", "max_depth": 1}});
    assert_eq!(server.post("alice", "/api/threads", &deep).await.kind(), "#not_found");
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_by_its_field() {
    let server = Server::new();
    server.admitted("t", "r").await;
    let long = "x".repeat(129);
    for (method, path, body, field) in [
        ("POST", "/api/threads", json!({"thread_id": long}), "thread_id"),
        ("POST", "/api/threads", json!({"thread_id": 1}), "thread_id"),
        ("POST", "/api/threads", json!({"metadata": []}), "metadata"),
        ("POST", "/api/threads", json!({"metadata": {"deerflow_pinned": 1}}), "metadata.deerflow_pinned"),
        (
            "POST",
            "/api/threads",
            json!({"spawn": {"parent_thread_id": "t", "run_id": "r", "lifecycle": "x"}}),
            "lifecycle",
        ),
        ("POST", "/api/threads/search", json!({"limit": 0}), "limit"),
        ("POST", "/api/threads/search", json!({"limit": 1001}), "limit"),
        ("POST", "/api/threads/search", json!({"limit": -1}), "limit"),
        ("POST", "/api/threads/search", json!({"limit": 1000, "offset": 1}), "offset"),
        ("POST", "/api/threads/search", json!({"cursor": "x"}), "cursor"),
        ("POST", "/api/threads/search", json!({"status": "x"}), "status"),
        ("POST", "/api/threads/search", json!({"metadata": {"a": 1.5}}), "metadata.a"),
        ("POST", "/api/threads/search", json!({"metadata": {"a": {}}}), "metadata.a"),
        ("PATCH", "/api/threads/t", json!({"metadata": 1}), "metadata"),
        ("GET", "/api/threads/t/runs?limit=0", Value::Null, "limit"),
        ("GET", "/api/threads/t/runs?limit=99999999999", Value::Null, "limit"),
        ("GET", "/api/threads/t/events?limit=1001", Value::Null, "limit"),
        ("GET", "/api/threads/t/items?limit=1001", Value::Null, "limit"),
        ("GET", "/api/threads/t/turns?limit=101", Value::Null, "limit"),
        ("GET", "/api/threads/t/turns?items=1001", Value::Null, "items"),
        ("GET", "/api/threads/t/compactions?limit=1001", Value::Null, "limit"),
        ("GET", "/api/threads/t/blobs?limit=1001", Value::Null, "limit"),
        ("GET", "/api/threads/t/runs/r/usage?limit=1001", Value::Null, "limit"),
        ("GET", "/api/agent-runs?limit=1001", Value::Null, "limit"),
        ("GET", "/api/interactions?limit=0", Value::Null, "limit"),
        ("GET", "/api/search?q=x&limit=1001", Value::Null, "limit"),
        ("GET", "/api/usage?limit=1001", Value::Null, "limit"),
        ("GET", "/api/threads/t/runs?status=x", Value::Null, "status"),
        ("GET", "/api/threads/t/messages?limit=201", Value::Null, "limit"),
        ("GET", "/api/threads/t/messages/page?after_seq=1", Value::Null, "after_seq"),
        ("GET", "/api/threads/t/runs/r/events?event_types=a%0Ab", Value::Null, "event_types"),
        ("GET", "/api/threads/t/runs/r/join?timeout=601", Value::Null, "timeout"),
        ("GET", "/api/threads/t/runs/r/join?timeout=NaN", Value::Null, "timeout"),
        ("GET", "/api/threads/a%00b", Value::Null, "path"),
        ("PUT", "/api/threads/t/runs/r/visibility", json!({"visibility": "x"}), "visibility"),
        ("POST", "/api/threads/t/runs", json!({"thread_id": "u"}), "thread_id"),
        ("POST", "/api/threads/t/runs", json!({"kwargs": []}), "kwargs"),
        ("POST", "/api/threads/t/runs", json!({"operation_kind": "x"}), "operation_kind"),
        ("POST", "/api/threads/t/runs", json!({"budget": {"max_tokens": u64::MAX}}), "max_tokens"),
        (
            "POST",
            "/api/threads/t/runs",
            json!({"lease": {"worker_id": "w", "ttl_seconds": 0}}),
            "ttl_seconds",
        ),
        ("POST", "/api/threads/t/runs", json!({"input": {"messages": [1]}}), "input.messages[0]"),
        (
            "POST",
            "/api/threads/t/runs",
            json!({"input": {"messages": ["a", {"role": "system", "content": "b"}]}}),
            "input.messages[1].role",
        ),
        (
            "POST",
            "/api/threads/t/runs",
            json!({"input": {"messages": [{"type": "human"}]}}),
            "input.messages[0].content",
        ),
        ("POST", "/api/threads/t/runs/r/events", json!({"ordinal": 0}), "epoch"),
        ("POST", "/api/threads/t/runs/r/events", json!({"epoch": u64::MAX, "ordinal": 0}), "epoch"),
        ("POST", "/api/threads/t/runs/r/events", json!({"start": true}), "epoch"),
        ("POST", "/api/threads/t/runs/r/events", json!({}), "events"),
        (
            "POST",
            "/api/threads/t/runs/r/events",
            json!({"epoch": 1, "ordinal": 0, "start": true, "finish": {"status": "success"}}),
            "finish",
        ),
        (
            "POST",
            "/api/threads/t/events",
            json!({"events": [{"event_type": "", "category": "x", "content": 1}]}),
            "events[0].event_type",
        ),
        (
            "POST",
            "/api/threads/t/runs/r/events",
            json!({"events": [{"event_type": "x", "category": "x", "content": 1, "item": {"item_id": "i", "item_kind": "x", "item_status": "completed"}}]}),
            "events[0].item_kind",
        ),
        (
            "POST",
            "/api/threads/t/runs/r/events",
            json!({"usage": [{"source_id": "s", "input_tokens": u64::MAX}]}),
            "usage",
        ),
        ("POST", "/api/workers/w/heartbeat", json!({"ttl_seconds": 1e300}), "ttl_seconds"),
    ] {
        let refused = server.ask("system", method.parse().unwrap(), path, &[], &body).await;
        assert_eq!((refused.status, refused.field()), (422, Some(field)), "{method} {path} {body}");
    }
    for (path, body) in [
        ("/api/threads", json!({"nonsense": 1})),
        ("/api/threads/search", json!({"nonsense": 1})),
        ("/api/threads/t/runs", json!({"nonsense": 1})),
        ("/api/threads/t/runs", json!({"input": {"messages": [], "nonsense": 1}})),
        ("/api/threads/t/runs/r/events", json!({"nonsense": 1})),
        ("/api/threads/t/runs/r/feedback", json!({"rating": 1, "nonsense": 1})),
    ] {
        let refused = server.post("alice", path, &body).await;
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(refused.status == 422 && detail.contains("nonsense"), "{path} {detail}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let server = Server::with_options(Options { body_limit: 100, ..Options::default() });
    let refused = server.post("alice", "/api/threads", &json!({"display_name": "x".repeat(100)})).await;
    assert_eq!((refused.status, refused.kind()), (413, "#too_large"));
}
