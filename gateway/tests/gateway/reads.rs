//! What is read of runs: items, turns, usage, agent runs, contexts, questions, texts and blobs.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::Method;
use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use runledger_core::verify::{Rebuilt, Verified};
use runledger_core::{
    Admission, AgentRunId, Applied, Blob, BlobEntry, BlobHash, BlobStore, CallId, Category, ClaimedItem,
    Commit, Error, EventDraft, EventType, Finish, InteractionId, ItemEntry, ItemId, ItemKind, ItemMark,
    ItemPage, ItemQuery, ItemStatus, ItemStore, JournalMark, Ledger, MemoryLedger, NewAgentRun,
    NewInteraction, NewRun, NewThread, Outcome, RawJson, RunId, Scope, SourceId, Stores, ThreadId, Timestamp,
    TokenCounts, TurnPage, TurnQuery, UsageDraft, offload,
};
use runledger_gateway::Options;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{Server, owner};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros((1_700_000_000 + seconds) * 1_000_000).unwrap()
}

fn raw(value: &Value) -> RawJson {
    RawJson::parse("content", &value.to_string()).unwrap()
}

fn item(id: &str, kind: ItemKind, status: ItemStatus, content: &Value) -> EventDraft {
    let category = if status == ItemStatus::InProgress { Category::Lifecycle } else { Category::Message };
    let mark = ItemMark {
        call_id: (kind == ItemKind::ToolCall).then(|| CallId::new(id).unwrap()),
        ..ItemMark::new(ItemId::new(id).unwrap(), kind, status)
    };
    EventDraft { created_at: at(1), ..EventDraft::item(mark, category, raw(content)) }
}

/// How a large text begins.
const LARGE: &str = "the whole report ";

/// Alice's thread `t`: run `a` has ended with a question, run `b` has a call that is pending.
async fn filled() -> Server {
    let server = Server::with_options(Options { redacted_keys: vec!["key".into()], ..Options::default() });
    let (alice, thread) = (owner("alice"), ThreadId::new("t").unwrap());
    let ledger = &server.ledger;
    let new = NewThread {
        system_prompt: Some("Be brief.".into()),
        config: raw(&json!({ "max_context_tokens": 1000 })),
        created_at: at(0),
        ..NewThread::new(thread.clone())
    };
    let run = |id: &str| RunId::new(id).unwrap();
    let admission = |second| Admission {
        metadata: raw(&json!({ "key": "hidden", "kept": 1 })),
        created_at: at(second),
        ..Admission::default()
    };
    let goal = NewAgentRun::new(AgentRunId::new("g").unwrap(), "crew.critic", "Read the report");
    let first = NewRun {
        create_missing: Some(new),
        admission: Admission { agent_run: Some(goal), ..admission(0) },
        input: vec![item(
            "q",
            ItemKind::UserMessage,
            ItemStatus::Completed,
            &json!({ "content": "Read the report" }),
        )],
        ..NewRun::new(thread.clone(), run("a"))
    };
    let admitted = ledger.admit(&alice, first).await.unwrap();
    let asks =
        json!({ "content": "", "tool_calls": [{ "id": "c1", "name": "read", "args": { "path": "a.md" } }] });
    let result = raw(&json!({ "name": "read", "args": {}, "content": LARGE.repeat(4_000) }));
    let (result, mut blobs) = offload(&result, 1, 32 << 10).unwrap();
    let result =
        EventDraft { content: result, ..item("c1", ItemKind::ToolCall, ItemStatus::Completed, &Value::Null) };
    blobs.iter_mut().for_each(|blob| blob.event = 1);
    let used = UsageDraft {
        model: Some("m-1".into()),
        cost_nanos: Some(1_500),
        created_at: at(2),
        ..UsageDraft::new(SourceId::new("s1").unwrap(), TokenCounts::of(100, 20))
    };
    let mark = |epoch, ordinal| JournalMark { epoch, ordinal };
    let commit = Commit {
        mark: Some(mark(admitted.run.epoch, 0)),
        blobs,
        usage: vec![used],
        ..Commit::of_run(thread.clone(), run("a")).with_events(vec![
            item("m1", ItemKind::AgentMessage, ItemStatus::Completed, &asks),
            result,
            item(
                "m2",
                ItemKind::AgentMessage,
                ItemStatus::Completed,
                &json!({ "content": "It is long. Go on?" }),
            ),
        ])
    };
    ledger.events().append(&alice, commit).await.unwrap();
    let outcome = Outcome::interrupted(Outcome::WAITING_FOR_INPUT);
    let finish = Finish {
        thread_id: thread.clone(),
        run_id: run("a"),
        mark: mark(admitted.run.epoch, 3),
        events: vec![EventDraft::terminal(&outcome, None, at(3))],
        outcome,
        at: at(3),
        usage: Vec::new(),
        progress: Default::default(),
        asks: vec![NewInteraction {
            interaction_id: InteractionId::new("i").unwrap(),
            kind: "clarification".into(),
            request: raw(&json!({ "question": "Go on?" })),
            item_id: None,
        }],
    };
    ledger.finish(&alice, finish).await.unwrap();
    let second = NewRun {
        admission: admission(4),
        input: vec![item("q2", ItemKind::UserMessage, ItemStatus::Completed, &json!({ "content": "Yes" }))],
        ..NewRun::new(thread.clone(), run("b"))
    };
    let admitted = ledger.admit(&alice, second).await.unwrap();
    let commit = Commit {
        mark: Some(mark(admitted.run.epoch, 0)),
        ..Commit::of_run(thread, run("b")).with_events(vec![item(
            "c2",
            ItemKind::ToolCall,
            ItemStatus::InProgress,
            &json!({ "name": "write", "args": { "path": "b.md" } }),
        )])
    };
    ledger.events().append(&alice, commit).await.unwrap();
    server
}

#[tokio::test]
async fn items_and_turns_are_read_both_ways() {
    let server = filled().await;
    let get = async |path: &str| server.get("alice", path).await.expect(200);
    assert_json_snapshot!("turns", get("/api/threads/t/turns").await);
    assert_json_snapshot!("items", get("/api/threads/t/items?after_seq=0&limit=2&content=false").await);
    assert_json_snapshot!("item", get("/api/threads/t/runs/b/items/c2").await);
    assert_json_snapshot!("pending_calls", get("/api/threads/t/pending-calls").await);
    assert_json_snapshot!("verify", get("/api/threads/t/verify").await);

    let all = get("/api/threads/t/items?after_seq=0").await;
    let seqs = |page: &Value| -> Vec<u64> {
        page["items"].as_array().unwrap().iter().map(|item| item["started_seq"].as_u64().unwrap()).collect()
    };
    let (mut forth, mut next) = (Vec::new(), Some(0));
    while let Some(after) = next {
        let page = get(&format!("/api/threads/t/items?after_seq={after}&limit=1")).await;
        forth.extend(seqs(&page));
        next = page["next_after_seq"].as_u64();
    }
    assert_eq!(forth, seqs(&all));
    let (mut back, mut before) = (Vec::new(), Some(u64::MAX));
    while let Some(seq) = before {
        let page = get(&format!("/api/threads/t/items?before_seq={seq}&limit=2&order=newest")).await;
        back.extend(seqs(&page));
        before = page["next_before_seq"].as_u64();
    }
    back.reverse();
    assert_eq!(back, seqs(&all));
    let of_run = get("/api/threads/t/runs/b/items").await;
    assert_eq!(of_run["items"], json!(all["items"].as_array().unwrap()[4..]));

    let through = get("/api/threads/t/items?updated_after=0").await["next_updated_after"].clone();
    assert_eq!(through, all["projected_through"]);
    let none = get(&format!("/api/threads/t/items?updated_after={through}")).await;
    assert_eq!((&none["items"], &none["is_beyond"]), (&json!([]), &json!(true)));

    let newest = get("/api/threads/t/turns?limit=1&view=full").await;
    let cursor = newest["next_cursor"].as_str().unwrap();
    let oldest = get(&format!("/api/threads/t/turns?limit=1&view=not_loaded&cursor={cursor}")).await;
    assert_eq!(
        (&newest["turns"][0]["run"]["run_id"], &oldest["turns"][0]["run"]["run_id"]),
        (&json!("b"), &json!("a"))
    );
    let back = oldest["previous_cursor"].as_str().unwrap();
    let back = get(&format!("/api/threads/t/turns?limit=1&view=full&before_cursor={back}")).await;
    assert_eq!(back["turns"], newest["turns"]);
}

#[tokio::test]
async fn large_parts_are_put_back_or_saved() {
    let server = filled().await;
    let whole = server.get("alice", "/api/threads/t/runs/a/items/c1?whole=true").await.expect(200);
    assert_eq!(whole["content"]["content"], LARGE.repeat(4_000));
    let cut = server.get("alice", "/api/threads/t/runs/a/items/c1").await.expect(200);
    let hash = cut["content"]["content"]["blob"].as_str().unwrap();
    let listed = server.get("alice", "/api/threads/t/blobs").await.expect(200);
    assert_eq!((&listed["items"][0]["hash"], &listed["has_more"]), (&json!(hash), &json!(false)));

    let path = format!("/api/threads/t/blobs/{hash}");
    let answer = server.get("alice", &path).await;
    let headers = ["content-type", "x-content-type-options", "cache-control", "content-security-policy"];
    assert_eq!(
        headers.map(|name| answer.header(name).unwrap()),
        ["text/plain; charset=utf-8", "nosniff", "private, no-cache", "default-src 'none'; sandbox"]
    );
    assert!(answer.header("content-disposition").unwrap().starts_with("attachment; filename=\""));
    let tag = answer.header("etag").unwrap().to_owned();
    assert_eq!(answer.expect(200), LARGE.repeat(4_000));
    let again = server.ask("alice", Method::GET, &path, &[("if-none-match", &tag)], &Value::Null).await;
    assert_eq!(again.expect(304), Value::Null);

    let absent = format!("/api/threads/t/blobs/sha256:{}", "0".repeat(64));
    assert_eq!(server.get("alice", &absent).await.status, 404);
    assert_eq!(server.get("alice", "/api/threads/t/blobs/sha256:0").await.status, 422);
    assert_eq!(server.get("mallory", &path).await.status, 404);
}

/// Threads whose verification does not end before it is told to.
#[derive(Debug)]
struct Slow(Ledger, Semaphore);

#[async_trait]
impl ItemStore for Slow {
    async fn get(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
    ) -> runledger_core::Result<ItemEntry> {
        self.0.items().get(scope, thread, run, item).await
    }
    async fn read(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        items: &[ItemId],
    ) -> runledger_core::Result<ItemPage> {
        self.0.items().read(scope, thread, run, items).await
    }
    async fn page(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        query: &ItemQuery,
    ) -> runledger_core::Result<ItemPage> {
        self.0.items().page(scope, thread, query).await
    }
    async fn turns(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        query: &TurnQuery,
    ) -> runledger_core::Result<TurnPage> {
        self.0.items().turns(scope, thread, query).await
    }
    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> runledger_core::Result<ClaimedItem> {
        self.0.items().claim(scope, thread, run, item, epoch).await
    }
    async fn rebuild(&self, scope: &Scope, thread: &ThreadId) -> runledger_core::Result<Rebuilt> {
        self.0.items().rebuild(scope, thread).await
    }
    async fn verify(&self, scope: &Scope, thread: &ThreadId) -> runledger_core::Result<Verified> {
        drop(self.1.acquire().await.unwrap());
        self.0.items().verify(scope, thread).await
    }
}

#[tokio::test]
async fn few_threads_are_verified_at_once() {
    let memory = MemoryLedger::new();
    let slow = Arc::new(Slow(memory.ledger(), Semaphore::new(0)));
    let items = Arc::<Slow>::clone(&slow);
    let ledger = Ledger::new(Stores { items, ..Stores::all(Arc::new(memory)) });
    let server = Server::over(ledger, Options::default());
    let thread = NewThread::new(ThreadId::new("t").unwrap());
    server.ledger.threads().create(&owner("alice"), thread).await.unwrap();
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.get("alice", "/api/threads/t/verify").await })
        })
        .collect();
    // One of them is not let in, whichever comes last; only then are the others told to go on.
    while !asked.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    slow.1.add_permits(1);
    let mut statuses = Vec::new();
    for one in asked {
        let answer = one.await.unwrap();
        let retry = (answer.status == 503).then(|| answer.header("retry-after").map(str::to_owned));
        assert!(retry.is_none_or(|after| after.is_some() && answer.body["retryable"] == json!(true)));
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    server.get("alice", "/api/threads/t/verify").await.expect(200);
}

/// Blobs that are listed, and not read.
#[derive(Debug)]
struct Unread(Ledger);

#[async_trait]
impl BlobStore for Unread {
    async fn get(&self, _: &Scope, _: &ThreadId, _: &BlobHash) -> runledger_core::Result<Blob> {
        Err(Error::Unavailable { applied: Applied::No, source: "it is not to be read".into() })
    }
    async fn entry(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        hash: &BlobHash,
    ) -> runledger_core::Result<BlobEntry> {
        self.0.blobs().entry(scope, thread, hash).await
    }
    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&BlobHash>,
        limit: u32,
    ) -> runledger_core::Result<Vec<BlobEntry>> {
        self.0.blobs().list(scope, thread, after, limit).await
    }
}

#[tokio::test]
async fn a_blob_that_is_known_is_not_read_and_pages_of_blobs_have_each_once() {
    let memory = MemoryLedger::new();
    let blobs = Arc::new(Unread(memory.ledger()));
    let ledger = Ledger::new(Stores { blobs, ..Stores::all(Arc::new(memory)) });
    let server = Server::over(ledger, Options::default());
    let (alice, thread) = (owner("alice"), ThreadId::new("t").unwrap());
    server.ledger.threads().create(&alice, NewThread::new(thread.clone())).await.unwrap();
    for letter in ["a", "b", "c"] {
        let (content, blobs) = offload(&raw(&json!({ "text": letter.repeat(40_000) })), 0, 32 << 10).unwrap();
        let event = EventDraft::new(EventType::new("note").unwrap(), Category::new("note").unwrap(), content);
        let commit = Commit { blobs, ..Commit::new(thread.clone()).with_events(vec![event]) };
        server.ledger.events().append(&alice, commit).await.unwrap();
    }
    let mut found = Vec::new();
    let mut path = "/api/threads/t/blobs?limit=2".to_owned();
    loop {
        let page = server.get("alice", &path).await.expect(200);
        found.extend(page["items"].as_array().unwrap().iter().map(|blob| blob["hash"].clone()));
        assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/threads/t/blobs?limit=2&cursor={cursor}");
    }
    let all = server.get("alice", "/api/threads/t/blobs?limit=3").await.expect(200);
    assert_eq!((found.len(), &all["has_more"]), (3, &json!(false)));
    let hash = found[0].as_str().unwrap();
    let path = format!("/api/threads/t/blobs/{hash}");
    assert_eq!(server.get("alice", &path).await.status, 503);
    let tag = format!("\"{hash}\"");
    let known = [("if-none-match", tag.as_str())];
    assert_eq!(server.ask("alice", Method::GET, &path, &known, &Value::Null).await.status, 304);
    assert_eq!(server.ask("mallory", Method::GET, &path, &known, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn usage_is_summed_as_it_is_asked_for() {
    let server = filled().await;
    let get = async |path: &str| server.get("alice", path).await.expect(200);
    assert_json_snapshot!("token_usage", get("/api/threads/t/token-usage?include_active=true").await);
    assert_json_snapshot!("run_usage", get("/api/threads/t/runs/a/usage").await);
    assert_json_snapshot!("usage_by_model", get("/api/usage?by=model").await);
    let sums = ["day", "thread", "run", "caller", "total"];
    for by in sums {
        let report =
            get(&format!("/api/usage?by={by}&thread_id=t&from=2023-11-14&before=2023-11-15T00:00:00Z")).await;
        assert_eq!(
            (&report["total"]["llm_calls"], &report["items"][0]["llm_calls"]),
            (&json!(1), &json!(1)),
            "{by}"
        );
    }
    let none = get("/api/usage?by=model&from=2024-01-01").await;
    assert_eq!((&none["items"], &none["total"]["llm_calls"]), (&json!([]), &json!(0)));
    let by_owner = server.get("system", "/api/usage?by=owner").await.expect(200);
    assert_eq!(by_owner["items"][0]["key"], "alice");
    assert_eq!(server.get("system", "/api/usage?owner=alice").await.expect(200)["total"]["llm_calls"], 1);
    for (path, status) in [
        ("/api/usage?by=owner", 422),
        ("/api/usage?by=round", 422),
        ("/api/usage?run_id=a", 422),
        ("/api/usage?thread_id=t&run_id=a&tree=true", 422),
        ("/api/usage?from=yesterday", 422),
        ("/api/usage?by=moon", 422),
        ("/api/usage?owner=bob", 403),
        ("/api/usage?thread_id=none", 404),
        ("/api/threads/t/runs/none/usage", 404),
    ] {
        assert_eq!(server.get("alice", path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn agent_runs_and_questions_are_listed_and_told() {
    let server = filled().await;
    let get = async |path: &str| server.get("alice", path).await.expect(200);
    let told = get("/api/agent-runs/g").await;
    assert_eq!((&told["agent"], &told["status"]), (&json!("crew.critic"), &json!("interrupted")));
    assert_eq!(told["steps"].as_array().unwrap().len(), 3);
    for (query, count) in [
        ("", 1),
        ("?agent=crew.critic", 1),
        ("?agent_prefix=crew.", 1),
        ("?agent=crew", 0),
        ("?status=running", 0),
    ] {
        let page = get(&format!("/api/agent-runs{query}")).await;
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    }
    assert_json_snapshot!("interaction", get("/api/threads/t/interactions/i").await);
    let asked = get("/api/interactions?status=open").await;
    assert_eq!(asked, get("/api/threads/t/interactions").await);
    assert_eq!(asked["items"].as_array().unwrap().len(), 1);
    assert_eq!(get("/api/interactions?status=answered").await["items"], json!([]));
    for path in [
        "/api/agent-runs?status=odd",
        "/api/interactions?status=odd",
        "/api/agent-runs?agent=a&agent_prefix=a",
    ] {
        assert_eq!(server.get("alice", path).await.status, 422, "{path}");
    }
}

#[tokio::test]
async fn a_window_is_folded_once() {
    let server = filled().await;
    let window = server.get("alice", "/api/threads/t/context").await.expect(200);
    assert_eq!(window["messages"].as_array().unwrap().len(), 5);
    let chat = server.get("alice", "/api/threads/t/context?format=openai").await.expect(200);
    assert_eq!(chat[0], json!({ "role": "system", "content": "Be brief." }));

    let path = "/api/threads/t/compact";
    let wanted = json!({ "note": "The report is long.", "keep_last": 1, "expected_last_compact_seq": 0, "item_id": "n" });
    let folded = server.post("alice", path, &wanted).await.expect(200);
    assert_eq!((&folded["compact_seq"], &folded["folded"]), (&json!(1), &json!([[1, 4]])));
    assert_eq!(server.post("alice", path, &wanted).await.expect(200), folded);
    let other = json!({ "note": "Another.", "seqs": [1], "expected_last_compact_seq": 0 });
    let late = server.post("alice", path, &other).await;
    assert_eq!((late.status, late.kind()), (409, "#conflict"));
    let listed = server.get("alice", "/api/threads/t/compactions").await.expect(200);
    assert_eq!(listed["items"], json!([folded]));
    for (body, field) in [
        (json!({ "note": " ", "keep_last": 1 }), "note"),
        (json!({ "note": "n" }), "seqs"),
        (json!({ "note": "n", "seqs": [1], "keep_last": 1 }), "keep_last"),
        (json!({ "note": "n", "seqs": [99] }), "seqs"),
        (json!({ "note": "n", "seqs": [] }), "seqs"),
        (json!({ "keep_last": 1 }), "body"),
        (json!({ "note": "n", "keep_last": -1 }), "keep_last"),
        (json!({ "note": "n", "keep": 1 }), "keep"),
    ] {
        let answer = server.post("alice", path, &body).await;
        assert_eq!((answer.status, answer.field()), (422, Some(field)), "{body}");
    }
    assert_eq!(server.post("mallory", path, &wanted).await.status, 404);
}

#[tokio::test]
async fn what_was_said_is_found() {
    let server = filled().await;
    let found = server.get("alice", "/api/search?q=long&kinds=agent_message").await.expect(200);
    assert_json_snapshot!("search", found);
    assert_eq!(server.get("mallory", "/api/search?q=long").await.expect(200)["items"], json!([]));
    for (path, status, field) in [
        ("/api/search", 422, "query"),
        ("/api/search?q=%2A", 422, "q"),
        ("/api/search?q=long&kinds=moon", 422, "kinds"),
        ("/api/search?q=long&limit=0", 422, "limit"),
        ("/api/search?q=long&limit=-1", 422, "limit"),
        ("/api/search?q=long&cursor=x", 422, "cursor"),
        ("/api/search?q=long&when=now", 422, "when"),
        ("/api/search?q=long&from=now", 422, "from"),
    ] {
        let answer = server.get("alice", path).await;
        assert_eq!((answer.status, answer.field()), (status, Some(field)), "{path}");
    }
}

#[tokio::test]
async fn what_is_another_owners_is_not_there() {
    let server = filled().await;
    let paths = [
        "/api/threads/t/turns",
        "/api/threads/t/items",
        "/api/threads/t/runs/a/items",
        "/api/threads/t/runs/a/items/m1",
        "/api/threads/t/pending-calls",
        "/api/threads/t/verify",
        "/api/threads/t/token-usage",
        "/api/threads/t/runs/a/usage",
        "/api/usage?thread_id=t",
        "/api/agent-runs/g",
        "/api/threads/t/context",
        "/api/threads/t/compactions",
        "/api/threads/t/interactions",
        "/api/threads/t/interactions/i",
        "/api/search?q=long&thread_id=t",
        "/api/threads/t/blobs",
    ];
    for path in paths {
        assert_eq!(server.get("alice", path).await.status, 200, "{path}");
        let foreign = server.get("mallory", path).await;
        assert_eq!((foreign.status, foreign.kind()), (404, "#not_found"), "{path}");
        // And the same answer, but for the name, as to what never was.
        let absent =
            server.get("alice", &path.replace("/t/", "/u/").replace("=t", "=u").replace("/g", "/h")).await;
        let named = |body: &Value| {
            body.to_string().replace("\\\"u\\\"", "\\\"t\\\"").replace("\\\"h\\\"", "\\\"g\\\"")
        };
        assert_eq!(named(&absent.body), foreign.body.to_string(), "{path}");
    }
    assert_eq!(server.get("mallory", "/api/agent-runs").await.expect(200)["items"], json!([]));
    assert_eq!(server.get("mallory", "/api/interactions").await.expect(200)["items"], json!([]));
}
