//! Streams over a memory ledger, read as a client reads them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, AgentRunId, Applied, CancelAction, Category, Claimable, Commit, DeltaKind, Error, Event,
    EventDraft, EventType, Finish, ItemId, ItemKind, ItemMark, ItemStatus, JournalMark, Lease, Ledger,
    ListRange, LiveDelta, MemoryLedger, NewAgentRun, NewRun, NewThread, Outcome, OwnerId, Page, RawJson,
    Reservation, Reserve, Result as LedgerResult, Run, RunFilter, RunId, RunProgress, RunStore, Scope,
    Stores, Sweep, ThreadId, Timestamp, Visibility, WorkerId,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Auth, AuthError, Caller, Gateway, Options};

/// Believes whatever name a request gives, until it lets in nobody any more.
#[derive(Clone, Debug, Default)]
struct Named(Arc<AtomicBool>);

#[async_trait]
impl Auth for Named {
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(AuthError::Unauthenticated("it was revoked".to_owned()));
        }
        let name = request.headers.get("x-owner").and_then(|name| name.to_str().ok());
        Ok(Caller::new(name.map_or(Scope::System, |name| Scope::Owner(OwnerId::new(name).unwrap()))))
    }
}

/// Answers the next looks at a run as it was told to, and everything else as the memory ledger does.
#[derive(Debug)]
struct Scripted(MemoryLedger, Mutex<VecDeque<LedgerResult<Run>>>);

#[async_trait]
impl RunStore for Scripted {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> LedgerResult<Run> {
        let told = self.1.lock().unwrap().pop_front();
        match told {
            Some(told) => told,
            None => RunStore::get(&self.0, scope, thread, run).await,
        }
    }
    async fn find(&self, scope: &Scope, run: &RunId) -> LedgerResult<Run> {
        RunStore::find(&self.0, scope, run).await
    }
    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> LedgerResult<Option<Run>> {
        self.0.find_by_idempotency_key(scope, thread, key).await
    }
    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> LedgerResult<Page<Run>> {
        RunStore::list(&self.0, scope, filter, range).await
    }
    async fn set_visibility(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> LedgerResult<Run> {
        self.0.set_visibility(scope, thread, run, visibility).await
    }
    async fn rewind(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> LedgerResult<Vec<RunId>> {
        self.0.rewind(scope, thread, run).await
    }
    async fn reserve(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> LedgerResult<Reservation> {
        self.0.reserve(scope, thread, run, epoch, wanted).await
    }
    async fn release(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> LedgerResult<()> {
        self.0.release(scope, thread, run, epoch, given).await
    }
    async fn lease(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> LedgerResult<Option<Lease>> {
        self.0.lease(scope, thread, run).await
    }
    async fn request_cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> LedgerResult<Option<Lease>> {
        self.0.request_cancel(scope, thread, run, action, at).await
    }
    async fn renew_leases(
        &self,
        scope: &Scope,
        worker: &WorkerId,
        ttl: Duration,
    ) -> LedgerResult<Vec<Lease>> {
        self.0.renew_leases(scope, worker, ttl).await
    }
    async fn list_claimable(&self, scope: &Scope, sweep: &Sweep, limit: u32) -> LedgerResult<Vec<Claimable>> {
        self.0.list_claimable(scope, sweep, limit).await
    }
}

struct Scene {
    ledger: Ledger,
    router: Router,
    thread: ThreadId,
    auth: Named,
}

impl Scene {
    async fn new() -> Self {
        Self::with_heartbeat(Duration::from_secs(3_600)).await
    }

    async fn with_heartbeat(heartbeat: Duration) -> Self {
        Self::over(MemoryLedger::new().ledger(), heartbeat).await
    }

    async fn over(ledger: Ledger, heartbeat: Duration) -> Self {
        let options = Options { poll: Duration::from_millis(20), heartbeat, ..Options::default() };
        let auth = Named::default();
        let router = Gateway::new(ledger.clone(), auth.clone()).with_options(options).router();
        let thread = ThreadId::new("t").unwrap();
        ledger.threads().create(&owner("alice"), NewThread::new(thread.clone())).await.unwrap();
        Self { ledger, router, thread, auth }
    }

    async fn admit(&self, run: &str) -> Run {
        self.admit_with(run, Admission::default()).await
    }

    async fn admit_with(&self, run: &str, admission: Admission) -> Run {
        let new = NewRun { admission, ..NewRun::new(self.thread.clone(), RunId::new(run).unwrap()) };
        self.ledger.admit(&Scope::System, new).await.unwrap().run
    }

    async fn append(&self, run: Option<&str>, event: EventDraft) {
        let commit = match run {
            Some(run) => Commit::of_run(self.thread.clone(), RunId::new(run).unwrap()),
            None => Commit::new(self.thread.clone()),
        };
        self.ledger.events().append(&Scope::System, commit.with_events(vec![event])).await.unwrap();
    }

    async fn finish(&self, run: &Run) {
        let (outcome, at) = (Outcome::success(), Timestamp::now());
        let finish = Finish {
            thread_id: run.thread_id.clone(),
            run_id: run.run_id.clone(),
            mark: JournalMark { epoch: run.epoch, ordinal: 0 },
            events: vec![EventDraft::terminal(&outcome, None, at)],
            outcome,
            at,
            usage: Vec::new(),
            asks: Vec::new(),
            progress: RunProgress::default(),
        };
        self.ledger.finish(&Scope::System, finish).await.unwrap();
    }

    fn say(&self, item: &str, text: &str) {
        self.ledger.events().signal().say(LiveDelta {
            thread_id: self.thread.clone(),
            run_id: RunId::new("r").unwrap(),
            item_id: ItemId::new(item).unwrap(),
            kind: DeltaKind::Text,
            text: text.to_owned(),
        });
    }

    async fn get(&self, path: &str, last: Option<&str>, name: &str) -> axum::response::Response {
        let mut request = Request::get(format!("/api{path}")).header("x-owner", name);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn open(&self, path: &str, last: Option<u64>) -> Client {
        let response = self.get(path, last.map(|last| last.to_string()).as_deref(), "alice").await;
        assert_eq!(response.status(), StatusCode::OK);
        Client { body: response.into_body(), text: String::new() }
    }

    async fn problem(&self, path: &str, last: Option<&str>, name: &str) -> (u16, Value) {
        let response = self.get(path, last, name).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

fn owner(name: &str) -> Scope {
    Scope::Owner(OwnerId::new(name).unwrap())
}

fn note(text: &str) -> EventDraft {
    EventDraft::new(EventType::new("note").unwrap(), Category::new("note").unwrap(), RawJson::string(text))
}

fn said(item: &str) -> EventDraft {
    let mark = ItemMark::new(ItemId::new(item).unwrap(), ItemKind::AgentMessage, ItemStatus::Completed);
    EventDraft::item(mark, Category::Message, RawJson::parse("content", r#"{"content":"done"}"#).unwrap())
}

/// One frame as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    name: String,
    id: Option<u64>,
    data: Value,
}

impl Frame {
    fn event(&self) -> Event {
        serde_json::from_value(self.data.clone()).unwrap()
    }
}

struct Client {
    body: Body,
    text: String,
}

impl Client {
    /// The next block of lines, comments included.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next frame with a name.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let block = self.block().await?;
            let mut fields: BTreeMap<&str, String> = BTreeMap::new();
            for (name, value) in block.lines().filter_map(|line| line.split_once(": ")) {
                let field = fields.entry(name).or_default();
                if !field.is_empty() {
                    field.push('\n');
                }
                field.push_str(value);
            }
            if let Some(name) = fields.remove("event") {
                let id = fields.get("id").map(|id| id.parse().unwrap());
                return Some(Frame { name, id, data: serde_json::from_str(&fields["data"]).unwrap() });
            }
        }
    }

    async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

/// What a frame is, in short.
fn short(frame: &Frame) -> String {
    match frame.name.as_str() {
        "event" => format!("event {} {}", frame.id.unwrap(), frame.event().event_type),
        "delta" => format!("delta {}", frame.data["text"].as_str().unwrap()),
        name => format!("{name} {}", frame.data),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_fifty_times_misses_nothing_and_repeats_nothing() {
    const EVENTS: u64 = 5_000;
    let scene = Arc::new(Scene::new().await);
    let run = scene.admit("r").await;
    let writer = {
        let (scene, run) = (Arc::clone(&scene), run.clone());
        tokio::spawn(async move {
            for number in 1..EVENTS {
                scene.say("i", &number.to_string());
                scene.append(Some("r"), note(&number.to_string())).await;
                if number.is_multiple_of(64) {
                    tokio::task::yield_now().await;
                }
            }
            scene.finish(&run).await;
        })
    };
    let (mut seen, mut last, mut connections, mut random) = (Vec::new(), None, 0_u64, 7_u64);
    'connections: loop {
        connections += 1;
        let mut client = scene.open("/threads/t/runs/r/stream", last).await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A hundred a connection on average, so that there are fifty before the end.
        let mut left = if connections <= 50 { (random >> 33) % 190 } else { u64::MAX };
        while left > 0 {
            let frame = client.next().await.expect("the stream ended without its end");
            match frame.name.as_str() {
                "event" => {
                    let event = frame.event();
                    assert_eq!(frame.id, Some(event.seq));
                    seen.push(event.seq);
                    last = Some(event.seq);
                    left -= 1;
                }
                "delta" | "lagged" => {}
                "end" => {
                    assert_eq!(frame.data, json!({"run_id": "r", "status": "success"}));
                    assert_eq!(client.next().await, None);
                    break 'connections;
                }
                _ => panic!("{frame:?}"),
            }
        }
    }
    writer.await.unwrap();
    assert!(connections > 50, "{connections} connections");
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_stream_of_a_thread_begins_with_what_is_new_and_is_open_at_once() {
    let scene = Scene::new().await;
    scene.append(None, note("old")).await;
    let response = scene.get("/threads/t/stream", None, "alice").await;
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(
        ["content-type", "cache-control", "x-accel-buffering"].map(header),
        ["text/event-stream", "no-store", "no"].map(|value| Some(value.to_owned()))
    );
    let mut client = Client { body: response.into_body(), text: String::new() };
    assert_eq!(client.block().await.as_deref(), Some("retry: 1000\n: open\nid: 1"));
    scene.append(None, note("two\nlines")).await;
    let frame = client.next().await.unwrap();
    assert_eq!((frame.id, frame.event().content.decode().ok()), (Some(2), Some("two\nlines".to_owned())));
    let mut all = scene.open("/threads/t/stream?after_seq=0", None).await;
    assert_eq!(all.next().await.unwrap().id, Some(1));
    assert_eq!(all.next().await, Some(frame));
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_frame_goes_on_where_it_began() {
    let scene = Scene::new().await;
    scene.append(None, note("old")).await;
    let mut client = scene.open("/threads/t/stream", None).await;
    let opened = client.block().await.unwrap();
    let seen = opened.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().parse().unwrap();
    drop(client);
    scene.append(None, note("meanwhile")).await;
    let mut again = scene.open("/threads/t/stream", Some(seen)).await;
    assert_eq!(again.next().await.unwrap().id, Some(2));
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_says_that_it_is_there() {
    let scene = Scene::with_heartbeat(Duration::from_millis(10)).await;
    let mut client = scene.open("/threads/t/stream", None).await;
    client.block().await;
    assert_eq!(client.block().await.as_deref(), Some(": still here"));
    assert_eq!(client.block().await.as_deref(), Some(": still here"));
}

#[tokio::test]
async fn a_stream_ends_for_a_caller_who_is_let_in_no_more() {
    let scene = Scene::with_heartbeat(Duration::from_millis(10)).await;
    let run = scene.admit("r").await;
    let mut clients = Vec::new();
    for path in ["/threads/t/stream", "/threads/t/runs/r/stream"] {
        let mut client = scene.open(path, None).await;
        client.block().await;
        clients.push(client);
    }
    scene.auth.0.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Though there is something to be sent, and no time to beat.
    scene.finish(&run).await;
    for client in &mut clients {
        let frames = client.rest().await;
        let told: Vec<_> = frames.iter().map(|frame| (frame.name.as_str(), &frame.data["status"])).collect();
        assert_eq!(told, [("error", &json!(401))]);
    }
}

#[tokio::test]
async fn deltas_come_between_the_events_around_them() {
    let scene = Scene::new().await;
    scene.admit("r").await;
    let mut client = scene.open("/threads/t/stream", None).await;
    client.block().await;
    // Nothing is read meanwhile: what the stream makes of it is its own order.
    scene.append(Some("r"), note("before")).await;
    scene.say("i", "Hel");
    scene.say("i", "lo");
    scene.append(Some("r"), said("i")).await;
    scene.say("j", "Next");
    scene.append(Some("r"), said("j")).await;
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(short(&client.next().await.unwrap()));
    }
    assert_eq!(
        order,
        [
            "event 1 note",
            "delta Hel",
            "delta lo",
            "event 2 item.completed",
            "delta Next",
            "event 3 item.completed"
        ]
    );
}

#[tokio::test]
async fn a_run_that_has_ended_is_replayed_with_its_gap_and_its_end() {
    let scene = Scene::new().await;
    scene.append(None, note("of the thread")).await;
    let run = scene.admit("r").await;
    scene.append(Some("r"), note("of the run")).await;
    scene.append(None, note("of the thread")).await;
    scene.finish(&run).await;
    let ended = json!({"run_id": "r", "status": "success"});
    let whole: Vec<String> =
        scene.open("/threads/t/runs/r/stream", None).await.rest().await.iter().map(short).collect();
    assert_eq!(
        whole,
        ["event 2 note".to_owned(), "event 4 run.completed".to_owned(), format!("end {ended}")]
    );
    let again: Vec<String> =
        scene.open("/runs/r/stream", Some(4)).await.rest().await.iter().map(short).collect();
    assert_eq!(again, [format!("end {ended}")]);
}

#[tokio::test]
async fn a_queued_run_is_waited_for() {
    let scene = Scene::new().await;
    let first = scene.admit("first").await;
    let waits =
        Admission { multitask_strategy: runledger_core::MultitaskStrategy::Enqueue, ..Admission::default() };
    scene.admit_with("r", waits).await;
    let mut client = scene.open("/threads/t/runs/r/stream", None).await;
    scene.append(Some("first"), note("not of the run")).await;
    scene.finish(&first).await;
    let run =
        scene.ledger.runs().get(&Scope::System, &scene.thread, &RunId::new("r").unwrap()).await.unwrap();
    scene.append(Some("r"), note("of the run")).await;
    scene.finish(&run).await;
    let frames: Vec<String> = client.rest().await.iter().map(|frame| frame.name.clone()).collect();
    assert_eq!(frames, ["event", "event", "end"]);
}

#[tokio::test]
async fn numbers_that_were_deleted_are_a_gap() {
    let scene = Scene::new().await;
    let run = scene.admit("r").await;
    scene.append(Some("r"), note("goes")).await;
    scene.finish(&run).await;
    scene.append(None, note("stays")).await;
    scene.ledger.events().delete_by_run(&Scope::System, &scene.thread, &run.run_id).await.unwrap();
    let mut client = scene.open("/threads/t/stream?after_seq=0", None).await;
    let gap = client.next().await.unwrap();
    assert_eq!(
        gap,
        Frame { name: "gap".to_owned(), id: Some(2), data: json!({"from_seq": 1, "through_seq": 2}) }
    );
    assert_eq!(client.next().await.unwrap().id, Some(3));
    // What is missing at the end is known as soon as something of the thread is told.
    let run = scene.admit("q").await;
    scene.append(Some("q"), note("goes")).await;
    scene.finish(&run).await;
    scene.ledger.events().delete_by_run(&Scope::System, &scene.thread, &run.run_id).await.unwrap();
    let mut late = scene.open("/threads/t/stream?after_seq=3", None).await;
    assert_eq!(late.next().await.unwrap().data, json!({"from_seq": 4, "through_seq": 5}));
}

#[tokio::test]
async fn the_end_of_a_run_that_is_gone_from_the_log_is_told_when_the_ledger_is_back() {
    let memory = MemoryLedger::new();
    let runs = Arc::new(Scripted(memory.clone(), Mutex::default()));
    let stores = Stores { runs: Arc::<Scripted>::clone(&runs), ..Stores::all(Arc::new(memory)) };
    let scene = Scene::over(Ledger::new(stores), Duration::from_secs(3_600)).await;
    let run = scene.admit("r").await;
    scene.append(Some("r"), note("one")).await;
    let mut client = scene.open("/threads/t/runs/r/stream", None).await;
    assert_eq!(client.next().await.unwrap().id, Some(1));
    scene.finish(&run).await;
    let ended = scene.ledger.runs().get(&Scope::System, &scene.thread, &run.run_id).await.unwrap();
    scene.ledger.events().delete_by_run(&Scope::System, &scene.thread, &run.run_id).await.unwrap();
    let away = || Error::Unavailable { applied: Applied::No, source: "it is away".into() };
    runs.1.lock().unwrap().extend([Err(away()), Err(away()), Ok(ended)]);
    let frames: Vec<String> = client.rest().await.iter().map(short).collect();
    let expected = [json!({"from_seq": 2, "through_seq": 2}), json!({"run_id": "r", "status": "success"})];
    assert_eq!(frames, [format!("gap {}", expected[0]), format!("end {}", expected[1])]);
}

#[tokio::test]
async fn a_stream_ends_with_its_thread_and_for_whom_it_is_not_theirs_any_more() {
    for deleted in [true, false] {
        let scene = Scene::new().await;
        let mut client = scene.open("/threads/t/stream", None).await;
        client.block().await;
        // It waits by the time that happens.
        let early = tokio::time::timeout(Duration::from_millis(50), client.next()).await;
        assert!(early.is_err(), "{early:?}");
        if deleted {
            scene.ledger.threads().delete(&Scope::System, &scene.thread).await.unwrap();
        } else {
            let bob = Some(OwnerId::new("bob").unwrap());
            scene.ledger.threads().set_owner(&Scope::System, &scene.thread, bob).await.unwrap();
        }
        let frames = client.rest().await;
        let ends: Vec<_> = frames.iter().map(|frame| (frame.name.as_str(), &frame.data["status"])).collect();
        assert_eq!(ends, [("error", &json!(404))]);
    }
}

#[tokio::test]
async fn a_ledger_that_is_closed_ends_its_streams() {
    let scene = Scene::new().await;
    let mut client = scene.open("/threads/t/stream", None).await;
    client.block().await;
    scene.ledger.events().signal().close();
    let frame = client.next().await.unwrap();
    assert_eq!((frame.name.as_str(), &frame.data["status"]), ("error", &json!(503)));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn positions_that_are_none_are_refused_by_name() {
    let scene = Scene::new().await;
    let run = scene.admit("r").await;
    scene.finish(&run).await;
    let paths = ["/threads/t/stream", "/threads/t/runs/r/stream", "/runs/r/stream"];
    for path in paths {
        for last in ["-1", "x", "2", "99999999999999999999", "1.0", "\u{e9}"] {
            let (status, problem) = scene.problem(path, Some(last), "alice").await;
            assert_eq!((status, &problem["field"]), (422, &json!("Last-Event-ID")), "{path} {last}");
        }
        let (status, problem) = scene.problem(&format!("{path}?after_seq=2"), None, "alice").await;
        assert_eq!((status, &problem["field"]), (422, &json!("after_seq")), "{path}");
        assert_eq!(scene.problem(&format!("{path}?after_seq=-1"), None, "alice").await.0, 422, "{path}");
        let (status, problem) = scene.problem(&format!("{path}?after=1"), None, "alice").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 422 && detail.contains("`after`"), "{path} {detail}");
        assert_eq!(scene.problem(path, None, "mallory").await.0, 404, "{path}");
        // The last end is no place to begin anew, and no problem.
        assert_eq!(scene.get(path, Some("1"), "alice").await.status(), StatusCode::OK, "{path}");
    }
    for path in ["/threads/x/stream", "/threads/t/runs/x/stream", "/runs/x/stream", "/agent-runs/x/stream"] {
        assert_eq!(scene.problem(path, None, "alice").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn the_last_frame_of_an_agent_run_says_whether_it_is_stored() {
    let scene = Scene::new().await;
    let id = AgentRunId::new("a").unwrap();
    let agent_run = Some(NewAgentRun::new(id, "finder", "Find it"));
    let run = scene.admit_with("r", Admission { agent_run, ..Admission::default() }).await;
    scene.append(Some("r"), said("i")).await;
    let mut client = scene.open("/agent-runs/a/stream", None).await;
    let first = client.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), first.id, &first.data["kind"]),
        ("step", Some(0), &json!("llm_response"))
    );
    scene.append(Some("r"), said("j")).await;
    assert_eq!(client.next().await.unwrap().id, Some(1));
    scene.finish(&run).await;
    let end = json!({"agent_run_id": "a", "status": "completed", "persisted": true});
    assert_eq!(client.rest().await, [Frame { name: "end".to_owned(), id: None, data: end.clone() }]);
    // It is the same for whoever comes back when all is stored.
    let again = scene.open("/agent-runs/a/stream", Some(0)).await.rest().await;
    assert_eq!(again.iter().map(|frame| frame.id).collect::<Vec<_>>(), [Some(1), None]);
    assert_eq!(again.last().unwrap().data, end);
    assert_eq!(scene.problem("/agent-runs/a/stream", Some("2"), "alice").await.0, 422);
    assert_eq!(scene.problem("/agent-runs/a/stream?after_seq=0", None, "alice").await.0, 422);
}
