//! The stores against the memory ledger: the same writes to both, then every reader with every kind
//! of range, filter and scope must answer the same, the kinds of errors included.

use std::ops::Deref;

use pretty_assertions::assert_eq;
use runledger_core::MemoryLedger;
use runledger_core::{
    Admission, CallId, Caller, Category, Commit, EventDraft, EventFilter, EventType, FeedbackFilter,
    FeedbackId, Finish, ItemFilter, ItemId, ItemKind, ItemMark, ItemStatus, JournalMark, Ledger, ListRange,
    MetadataMatch, MetadataValue, NewFeedback, NewRun, NewThread, ONCE_TERMINAL, OperationKind, Outcome,
    OwnerId, Patch, Rating, RawJson, Result, RunFilter, RunId, RunProgress, RunStatus, RunVisibility, Scope,
    SeqRange, SourceId, TaskId, ThreadFilter, ThreadId, ThreadPatch, ThreadStatus, Timestamp, TokenCounts,
    UsageDraft,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::backend;

pub(crate) fn thread(name: &str) -> ThreadId {
    ThreadId::new(name).unwrap()
}

fn run(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

fn owner(name: &str) -> Scope {
    Scope::Owner(OwnerId::new(name).unwrap())
}

/// The `n`-th moment; records of equal time are made on purpose.
fn at(n: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_767_225_600_000_000 + i64::try_from(n / 2).unwrap() * 1_500_000).unwrap()
}

fn event(n: u64, event_type: &str, category: Category) -> EventDraft {
    let content = RawJson::encode("content", &json!({ "n": n, "text": "\u{2028} a\0b" })).unwrap();
    EventDraft {
        created_at: at(n),
        ..EventDraft::new(EventType::new(event_type).unwrap(), category, content)
    }
}

fn item(n: u64, id: &str, kind: ItemKind, status: ItemStatus, category: Category) -> EventDraft {
    let mut mark = ItemMark::new(ItemId::new(id).unwrap(), kind, status);
    mark.call_id = Some(CallId::new(format!("call-{id}")).unwrap());
    let content = RawJson::encode("content", &json!({ "n": n })).unwrap();
    EventDraft { created_at: at(n), ..EventDraft::item(mark, category, content) }
}

/// One step of a run: an agent's message, a tool that starts, sometimes one that ends, and noise.
fn step(n: u64) -> Vec<EventDraft> {
    let caller = match n % 4 {
        0 => Caller::new("middleware:title").unwrap(),
        1 => Caller::new("subagent:coder").unwrap(),
        _ => Caller::lead_agent(),
    };
    let mut message =
        item(n, &format!("m{n}"), ItemKind::AgentMessage, ItemStatus::Completed, Category::Message);
    message.caller = Some(caller);
    message.metadata = Some(RawJson::parse("metadata", r#"{"k": [1, 1e300]}"#).unwrap());
    let mut started =
        item(n, &format!("t{n}"), ItemKind::ToolCall, ItemStatus::InProgress, Category::Lifecycle);
    started.task_id = Some(TaskId::new(format!("task-{}", n % 3)).unwrap());
    let mut events = vec![message, started, event(n, "llm.started", Category::Trace)];
    if n.is_multiple_of(2) {
        let status = if n.is_multiple_of(4) { ItemStatus::Failed } else { ItemStatus::Completed };
        events.push(item(n, &format!("t{n}"), ItemKind::ToolCall, status, Category::Message));
        events.push(event(n, "thought", Category::Reasoning));
    }
    events
}

fn call(n: u64) -> UsageDraft {
    let mut call =
        UsageDraft::new(SourceId::new(format!("s{n}")).unwrap(), TokenCounts::of(n * 3, 1 << (n % 40)));
    call.caller = match n % 3 {
        0 => Caller::new("subagent:coder").unwrap(),
        1 => Caller::new("middleware:title").unwrap(),
        _ => Caller::lead_agent(),
    };
    call.model = (!n.is_multiple_of(5)).then(|| format!("model-{}", n % 2));
    call.cost_nanos = n.is_multiple_of(2).then_some(n);
    call.created_at = at(n);
    call
}

fn new_thread(name: &str, n: u64) -> NewThread {
    NewThread {
        display_name: Some(format!("thread {name}")),
        config: RawJson::parse("config", r#"{"deep":{"text":"a\u0000b"}}"#).unwrap(),
        metadata: RawJson::parse("metadata", r#"{"keep":1,"drop":2}"#).unwrap(),
        created_at: at(n),
        ..NewThread::new(thread(name))
    }
}

/// Runs `name`, from its admission to its end unless it is to stay active.
async fn execute(ledger: &Ledger, scope: &Scope, on: &ThreadId, n: u64, ends: bool) -> Result<()> {
    let id = run(&format!("{on}-r{n}"));
    let admission = Admission {
        idempotency_key: Some(format!("key-{n}")),
        model_name: Some("model-0".to_owned()),
        created_at: at(n),
        ..Admission::default()
    };
    let new = NewRun {
        admission,
        input: vec![item(
            n,
            &format!("u{n}"),
            ItemKind::UserMessage,
            ItemStatus::Completed,
            Category::Message,
        )],
        ..NewRun::new(on.clone(), id.clone())
    };
    let epoch = ledger.admit(scope, new).await?.run.epoch;
    let mut mark = JournalMark { epoch, ordinal: 0 };
    for k in 0..5 {
        let events = step(n * 10 + k);
        let count = events.len() as u64;
        let commit = Commit {
            usage: vec![call(n * 10 + k)],
            progress: RunProgress { last_ai_message: Some(format!("said {k}")), ..RunProgress::default() },
            ..Commit::of_run(on.clone(), id.clone()).with_events(events).with_mark(mark)
        };
        ledger.events().append(scope, commit).await?;
        mark.ordinal += count;
    }
    let note = Commit::new(on.clone()).with_events(vec![event(n, "note", Category::Message)]);
    ledger.events().append(scope, note).await?;
    if ends {
        let mut last = event(n, "run.completed", Category::Lifecycle);
        last.once_key = Some(ONCE_TERMINAL.to_owned());
        let outcome = if n.is_multiple_of(3) { Outcome::error("no luck") } else { Outcome::success() };
        let finish = Finish {
            thread_id: on.clone(),
            run_id: id.clone(),
            mark,
            outcome,
            at: at(n + 1),
            events: vec![last],
            usage: Vec::new(),
            progress: RunProgress::default(),
            asks: Vec::new(),
        };
        ledger.finish(scope, finish).await?;
        let late = Commit::of_run(on.clone(), id).with_events(vec![event(n, "late", Category::Message)]);
        ledger.events().append(scope, late).await?;
    }
    Ok(())
}

pub(crate) async fn write(ledger: &Ledger) -> Result<()> {
    for (n, (name, scope)) in
        [("a", owner("o1")), ("b", owner("o2")), ("c", Scope::System), ("d", owner("o1")), ("e", owner("o1"))]
            .into_iter()
            .enumerate()
    {
        ledger.threads().create(&scope, new_thread(name, n as u64)).await?;
    }
    for n in 1..=6 {
        execute(ledger, &owner("o1"), &thread("a"), n, true).await?;
    }
    execute(ledger, &owner("o1"), &thread("a"), 7, false).await?;
    execute(ledger, &owner("o2"), &thread("b"), 1, true).await?;
    execute(ledger, &Scope::System, &thread("c"), 2, true).await?;
    let pin = ThreadPatch { pinned: Some(true), ..ThreadPatch::default() };
    ledger.threads().update(&owner("o1"), &thread("d"), pin, at(90)).await?;
    for (n, (scope, of_thread, of_run, of_item)) in [
        (owner("o1"), "a", "a-r1", None),
        (owner("o1"), "a", "a-r1", Some("m10")),
        (Scope::System, "a", "a-r1", None),
        (owner("o1"), "a", "a-r2", None),
        (Scope::System, "c", "c-r2", None),
    ]
    .into_iter()
    .enumerate()
    {
        let new = NewFeedback {
            thread_id: thread(of_thread),
            feedback_id: FeedbackId::new(format!("f{n}")).unwrap(),
            run_id: run(of_run),
            item_id: of_item.map(|item| ItemId::new(item).unwrap()),
            rating: if n % 2 == 0 { Rating::Up } else { Rating::Down },
            comment: (n > 1).then(|| "\u{2028} a\0b".to_owned()),
            at: at(n as u64),
        };
        ledger.feedback().create(&scope, new).await?;
    }
    Ok(())
}

/// What readers answered, in order, each with what was asked.
#[derive(Default)]
struct Answers(Vec<(String, Value)>);

impl Answers {
    fn add<T: Serialize>(&mut self, asked: String, answer: Result<T>) {
        let answer = match answer {
            Ok(found) => serde_json::to_value(found).unwrap(),
            Err(error) => json!({ "error": error.kind().as_str() }),
        };
        self.0.push((asked, answer));
    }
}

/// A limit of 0 is not among them: where the thread is missing too, which fault is told first is open.
pub(crate) fn seq_ranges() -> Vec<SeqRange> {
    let mut ranges = vec![SeqRange::last(5_000), SeqRange::after(0, 3)];
    for limit in [1, 7] {
        ranges.push(SeqRange::last(limit));
        for seq in [1, 20, 41, 1_000, u64::MAX] {
            ranges.extend([SeqRange::after(seq, limit), SeqRange::before(seq, limit)]);
            ranges.push(SeqRange { limit, after_seq: Some(10), before_seq: Some(seq) });
        }
    }
    ranges
}

pub(crate) async fn read(ledger: &Ledger, ranges: &[SeqRange]) -> Vec<(String, Value)> {
    let mut answers = Answers::default();
    for scope in [owner("o1"), owner("o2"), Scope::System] {
        lists(ledger, &scope, &mut answers).await;
        for name in ["a", "b", "missing"] {
            let thread = thread(name);
            records(ledger, &scope, &thread, &mut answers).await;
            for range in ranges {
                logs(ledger, &scope, &thread, range, &mut answers).await;
            }
        }
    }
    answers.0
}

async fn lists(ledger: &Ledger, scope: &Scope, answers: &mut Answers) {
    let keep = MetadataMatch { key: "keep".to_owned(), value: MetadataValue::Number(1) };
    for filter in [
        ThreadFilter::default(),
        ThreadFilter { status: Some(ThreadStatus::Idle), ..ThreadFilter::default() },
        ThreadFilter { pinned: Some(false), ..ThreadFilter::default() },
        ThreadFilter { metadata: vec![keep], ..ThreadFilter::default() },
    ] {
        let mut range = ListRange::newest(2);
        loop {
            let page = ledger.threads().list(scope, &filter, &range).await;
            range.cursor = page.as_ref().ok().and_then(|page| page.next_cursor.clone());
            answers.add(format!("{scope:?} threads {filter:?}"), page);
            if range.cursor.is_none() {
                break;
            }
        }
    }
    for (thread_id, status, operation_kind) in [
        (None, None, None),
        (Some(thread("a")), None, Some(OperationKind::Run)),
        (Some(thread("a")), Some(RunStatus::Error), None),
        (Some(thread("missing")), None, None),
        (None, Some(RunStatus::Success), None),
    ] {
        let filter = RunFilter { thread_id, status, operation_kind, ..RunFilter::default() };
        let mut range = ListRange::newest(2);
        loop {
            let page = ledger.runs().list(scope, &filter, &range).await;
            range.cursor = page.as_ref().ok().and_then(|page| page.next_cursor.clone());
            answers.add(format!("{scope:?} runs {filter:?}"), page);
            if range.cursor.is_none() {
                break;
            }
        }
    }
}

async fn records(ledger: &Ledger, scope: &Scope, thread: &ThreadId, answers: &mut Answers) {
    let asked = |what: &str| format!("{scope:?} {thread} {what}");
    answers.add(asked("thread"), ledger.threads().get(scope, thread).await);
    answers.add(asked("head"), ledger.threads().head(scope, thread).await);
    answers.add(asked("count"), ledger.events().count_messages(scope, thread, RunVisibility::All).await);
    answers.add(asked("usage"), ledger.usage().by_thread(scope, thread, true).await);
    let runs: Vec<RunId> = (1..=8).map(|n| run(&format!("a-r{n}"))).collect();
    answers.add(asked("last ai"), ledger.events().last_visible_ai_seq_by_run(scope, thread, &runs).await);
    answers
        .add(asked("last ai of none"), ledger.events().last_visible_ai_seq_by_run(scope, thread, &[]).await);
    for key in ["key-1", "key-9"] {
        answers.add(asked(key), ledger.runs().find_by_idempotency_key(scope, thread, key).await);
    }
    answers.add(asked("feedback stats"), ledger.feedback().stats(scope, thread, &runs).await);
    for run_ids in [&runs[..0], &runs[..1], &runs] {
        let filter = FeedbackFilter { run_ids: run_ids.to_vec(), item_id: None };
        let page = ledger.feedback().list(scope, thread, &filter, &ListRange::newest(2)).await;
        answers.add(asked("feedback"), page);
    }
    for run in [&runs[0], &runs[6], &runs[7]] {
        let asked = |what: &str| asked(&format!("{run} {what}"));
        answers.add(asked("run"), ledger.runs().get(scope, thread, run).await);
        answers.add(asked("found"), ledger.runs().find(scope, run).await);
        answers.add(asked("usage"), ledger.usage().by_run(scope, thread, run).await);
        for item in ["t10", "t11", "none"] {
            let item = ItemId::new(item).unwrap();
            answers.add(asked("item"), ledger.items().get(scope, thread, run, &item).await);
        }
        for (after, limit) in [(None, 0), (None, 2), (Some(SourceId::new("s11").unwrap()), 50)] {
            let calls = ledger.usage().list_by_run(scope, thread, run, after.as_ref(), limit).await;
            answers.add(asked("calls"), calls);
        }
    }
}

async fn logs(ledger: &Ledger, scope: &Scope, thread: &ThreadId, range: &SeqRange, answers: &mut Answers) {
    let asked = |what: String| format!("{scope:?} {thread} {what} {range:?}");
    for visibility in [RunVisibility::Shown, RunVisibility::All] {
        let page = ledger.events().list_messages(scope, thread, visibility, range).await;
        answers.add(asked(format!("messages {visibility:?}")), page);
    }
    for id in ["a-r2", "a-r7", "none"] {
        let page = ledger.events().list_messages_by_run(scope, thread, &run(id), range).await;
        answers.add(asked(format!("messages of {id}")), page);
    }
    let of_run = EventFilter::of_run(run("a-r3"));
    let types = |types: &[&str]| types.iter().map(|text| EventType::new(text).unwrap()).collect::<Vec<_>>();
    for filter in [
        EventFilter::default(),
        of_run.clone(),
        EventFilter { event_types: types(&["llm.started", "late"]), ..of_run.clone() },
        EventFilter { task_id: Some(TaskId::new("task-1").unwrap()), ..of_run.clone() },
        EventFilter { caller: Some(Caller::lead_agent()), event_types: types(&["item.completed"]), ..of_run },
        EventFilter { caller: Some(Caller::lead_agent()), ..EventFilter::default() },
    ] {
        let page = ledger.events().list_events(scope, thread, &filter, range).await;
        answers.add(asked(format!("events {filter:?}")), page);
    }
    for run_id in [None, Some(run("a-r4")), Some(run("none"))] {
        for status in [None, Some(ItemStatus::InProgress), Some(ItemStatus::Failed)] {
            let filter = ItemFilter { run_id: run_id.clone(), status };
            let page = ledger.items().list(scope, thread, &filter, range).await;
            answers.add(asked(format!("items {filter:?}")), page);
        }
    }
}

/// Every edit and deletion, each refused one included; the readers are asked after each.
pub(crate) async fn edit(ledger: &Ledger, step: usize) -> Value {
    let mut answers = Answers::default();
    let (events, threads) = (ledger.events(), ledger.threads());
    let (o1, a) = (owner("o1"), thread("a"));
    let patch = ThreadPatch {
        display_name: Patch::Set("a\0b".to_owned()),
        model: Patch::Clear,
        metadata: Some(RawJson::parse("metadata", r#"{"drop":null,"new":{"x":"\u0000"}}"#).unwrap()),
        ..ThreadPatch::default()
    };
    match step {
        0 => answers.add("update".to_owned(), threads.update(&o1, &a, patch, at(100)).await),
        1 => answers.add("update foreign".to_owned(), threads.update(&owner("o2"), &a, patch, at(100)).await),
        2 => answers.add("active".to_owned(), events.delete_by_thread(&o1, &a).await),
        3 => answers.add("active run".to_owned(), events.delete_by_run(&o1, &a, &run("a-r7")).await),
        4 => answers.add("missing run".to_owned(), events.delete_by_run(&o1, &a, &run("none")).await),
        5 => {
            answers.add("foreign run".to_owned(), events.delete_by_run(&owner("o2"), &a, &run("a-r2")).await)
        }
        6 => answers.add("run".to_owned(), events.delete_by_run(&o1, &a, &run("a-r2")).await),
        7 => answers.add("active thread".to_owned(), threads.delete(&o1, &a).await),
        8 => answers.add("not the system".to_owned(), threads.set_owner(&o1, &a, None).await),
        9 => {
            let new = Some(OwnerId::new("o2").unwrap());
            answers.add("owner".to_owned(), threads.set_owner(&Scope::System, &a, new).await);
        }
        10 => answers.add("log".to_owned(), events.delete_by_thread(&owner("o2"), &thread("b")).await),
        11 => answers.add("thread".to_owned(), threads.delete(&owner("o2"), &thread("b")).await),
        12 => answers.add("again".to_owned(), threads.delete(&owner("o2"), &thread("b")).await),
        13 => answers.add("taken".to_owned(), threads.create(&o1, new_thread("b", 1)).await),
        _ => answers.add("new".to_owned(), threads.create(&o1, new_thread("z", 200)).await),
    }
    json!(answers.0)
}

async fn stores_answer_as_memory_does(ledger: &Ledger) {
    let memory = MemoryLedger::new().ledger();
    write(&memory).await.unwrap();
    write(ledger).await.unwrap();
    let ranges = seq_ranges();
    same(&read(&memory, &ranges).await, &read(ledger, &ranges).await);
    let few = [SeqRange::last(7), SeqRange::after(0, 5_000)];
    for step in 0..15 {
        assert_eq!(edit(ledger, step).await, edit(&memory, step).await);
        same(&read(&memory, &few).await, &read(ledger, &few).await);
    }
}

/// The first difference only: there are thousands of answers.
pub(crate) fn same(expected: &[(String, Value)], actual: &[(String, Value)]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert_eq!(actual, expected);
    }
}

#[tokio::test]
async fn sqlite_answers_as_memory_does() {
    let (ledger, _fresh) = backend::sqlite().await;
    stores_answer_as_memory_does(ledger.deref()).await;
    ledger.close().await;
}

#[tokio::test]
async fn sqlite_in_memory_answers_as_memory_does() {
    let ledger = backend::sqlite_memory().await;
    stores_answer_as_memory_does(ledger.deref()).await;
    ledger.close().await;
}

#[tokio::test]
async fn postgresql_answers_as_memory_does() {
    if let Some((ledger, _fresh)) = backend::postgresql().await {
        stores_answer_as_memory_does(ledger.deref()).await;
        ledger.close().await;
    }
}
