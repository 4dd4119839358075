//! What a runtime in Rust records through the trait, call by call.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use runledger_core::{
    Caller, Category, Event, EventFilter, ItemFilter, ItemId, ItemKind, ItemMark, ItemStatus, Ledger,
    MemoryLedger, NewRun, NewThread, Origin, Outcome, RawJson, RunId, Scope, SeqRange, TaskId, ThreadId,
    Timestamp, TokenCounts, ToolCall, UserMessage,
};
use runledger_journal::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, Context, ExternalUsage, Failed, Failure, ItemRecord, LlmEnd,
    RuntimeCallbacks, SubagentPhase, SubagentRecord, SubagentStatus, ToolEnd, ToolError, ToolStart,
};
use runledger_journal::{FinishedRun, RunJournal};

struct Bench {
    ledger: Ledger,
    journal: RunJournal,
}

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn json(text: &str) -> RawJson {
    RawJson::parse("test", text).unwrap()
}

impl Bench {
    async fn new() -> Self {
        let ledger = MemoryLedger::new().ledger();
        let run = NewRun {
            create_missing: Some(NewThread::new(thread())),
            ..NewRun::new(thread(), RunId::new("r").unwrap())
        };
        let journal = RunJournal::begin(&ledger, &Scope::System, run).await.unwrap();
        Self { ledger, journal }
    }

    async fn end(&self) -> (FinishedRun, Vec<Event>) {
        let finished = self.journal.finish(Outcome::success()).await.unwrap();
        let filter = EventFilter::default();
        let range = SeqRange::after(0, 1_000);
        let page = self.ledger.events().list_events(&Scope::System, &thread(), &filter, &range).await;
        (finished, page.unwrap().items)
    }

    fn answer(&self, call: &str, message: &str) {
        let response = json(&format!(r#"{{"generations":[[{{"text":"","message":{message}}}]]}}"#));
        self.journal.on_llm_end(LlmEnd { context: Context::new(call), response: &response });
    }

    fn tool_end(&self, run: &str, output: &str) {
        let output = &json(output);
        self.journal.on_tool_end(ToolEnd { context: Context::new(run), name: Some("tool"), output });
    }
}

/// Event type, item id, kind and status of each event of an item.
fn items(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| {
            let item = event.item.as_ref()?;
            Some(format!("{} {} {} {}", event.category.as_str(), item.item_id, item.kind, item.status))
        })
        .collect()
}

#[tokio::test]
async fn equal_call_ids_get_items_of_their_own() {
    let bench = Bench::new().await;
    let asks = r#"{"type":"ai","content":"","id":"a","tool_calls":[{"name":"x","args":{},"id":"call"}]}"#;
    for (call, tool) in [("l1", "t1"), ("l2", "t2")] {
        bench.answer(call, asks);
        let context = Context::new(tool);
        let start = ToolStart { context, name: "x", inputs: None, tool_call_id: Some("call") };
        bench.journal.on_tool_start(start);
        bench.tool_end(tool, r#"{"type":"tool","content":"ok","tool_call_id":"call"}"#);
        // A handler that is listed twice tells everything twice.
        bench.tool_end(tool, r#"{"type":"tool","content":"ok","tool_call_id":"call"}"#);
        bench.answer(call, asks);
    }
    let (_, events) = bench.end().await;
    assert_eq!(
        items(&events),
        [
            "message a agent_message completed",
            "lifecycle call tool_call in_progress",
            "message call tool_call completed",
            "message l2-0 agent_message completed",
            "lifecycle l2-call tool_call in_progress",
            "message l2-call tool_call completed",
        ]
    );
}

#[tokio::test]
async fn a_message_and_its_tool_calls_are_one_commit() {
    let bench = Bench::new().await;
    let calls: Vec<String> = (0..45).map(|n| format!(r#"{{"name":"x","args":{{}},"id":"c{n}"}}"#)).collect();
    bench.answer("l", &format!(r#"{{"type":"ai","content":"","tool_calls":[{}]}}"#, calls.join(",")));
    bench.journal.barrier().await.unwrap();
    let filter = ItemFilter { run_id: None, status: Some(ItemStatus::InProgress) };
    let range = SeqRange::after(0, 100);
    let open = bench.ledger.items().list(&Scope::System, &thread(), &filter, &range).await.unwrap();
    assert_eq!(open.items.len(), 45);
    let head = bench.ledger.threads().head(&Scope::System, &thread()).await.unwrap();
    assert_eq!(head.next_seq, 47);
}

#[tokio::test]
async fn content_is_stored_as_it_was_given() {
    let bench = Bench::new().await;
    let content =
        "[{\"type\":\"text\",\"text\":\"caf\\udce9 \\u0000\"},{\"n\":123456789012345678901234567890}]";
    let shown = json(&format!(r#"[{{"type":"human","content":{content},"extra":1e999}}]"#));
    let start = ChatModelStart { context: Context::new("l1"), messages: &shown };
    bench.journal.on_chat_model_start(start);
    let (finished, events) = bench.end().await;
    let message: UserMessage = events[0].content.decode().unwrap();
    assert_eq!(message.content.as_str(), content);
    assert_eq!(message.extra.unwrap().as_str(), r#"{"type":"human","extra":1e999}"#);
    let summary = finished.run.first_human_message;
    assert_eq!(summary.as_deref(), Some("caf\u{fffd} \u{fffd} [1 NUL character replaced]"));
}

#[tokio::test]
async fn a_failed_tool_waits_for_what_the_model_is_told() {
    let bench = Bench::new().await;
    let fail = |run: &str, parent: Option<&str>| {
        let mut context = Context::new(run);
        context.parent_run_id = parent;
        bench.journal.on_tool_start(ToolStart { context, name: "x", inputs: None, tool_call_id: Some(run) });
        let error = Failure { error_type: "E", message: "m" };
        bench.journal.on_tool_error(ToolError { context, error, tool_call_id: Some(run) });
    };
    // Told by the end of its chain, by the chain's error, by nobody, and without a chain at all.
    fail("told", Some("chain-1"));
    fail("unhandled", Some("chain-2"));
    fail("forgotten", Some("chain-3"));
    fail("alone", None);
    let outputs = json(r#"{"messages":[{"type":"tool","content":"Sorry.","tool_call_id":"told"}]}"#);
    let context = Context::new("chain-1").below("root");
    bench.journal.on_chain_end(ChainEnd { context, outputs: Some(&outputs) });
    let context = Context::new("chain-2").below("root");
    let error = Failure { error_type: "E", message: "m" };
    bench.journal.on_chain_error(Failed { context, error });
    let (_, events) = bench.end().await;
    let failed: Vec<(String, Option<String>, bool)> = events
        .iter()
        .filter(|event| Origin::of(event) == Some(Origin::ToolError))
        .map(|event| {
            let call: ToolCall = event.content.decode().unwrap();
            let id = event.item.as_ref().unwrap().item_id.to_string();
            (id, call.content.map(|content| content.to_string()), call.error.is_some())
        })
        .collect();
    let row = |id: &str, told: Option<&str>| (id.to_owned(), told.map(str::to_owned), true);
    assert_eq!(
        failed,
        [row("alone", None), row("told", Some("\"Sorry.\"")), row("unhandled", None), row("forgotten", None)]
    );
}

#[tokio::test]
async fn sub_agents_and_items_that_never_end_are_interrupted() {
    let bench = Bench::new().await;
    let at = Timestamp::now();
    let tell = |task: &str, phase: SubagentPhase<'_>| {
        let task_id = TaskId::new(task).unwrap();
        bench.journal.record_subagent(SubagentRecord { task_id, agent: Some("looker"), phase, at });
    };
    tell("one", SubagentPhase::Start { description: "look" });
    tell("two", SubagentPhase::Start { description: "wait" });
    tell("one", SubagentPhase::Step { detail: &json(r#"{"n":1}"#) });
    tell("one", SubagentPhase::End { status: SubagentStatus::Completed, detail: Some(&json("\"found\"")) });
    tell("three", SubagentPhase::End { status: SubagentStatus::Failed, detail: None });
    let empty = RawJson::empty_object();
    let record = |id: &str, status| ItemRecord {
        mark: ItemMark::new(ItemId::new(id).unwrap(), ItemKind::CommandExecution, status),
        category: Category::Message,
        caller: Some(Caller::lead_agent()),
        content: &empty,
        at,
    };
    bench.journal.on_item_started(record("done", ItemStatus::InProgress));
    bench.journal.on_item_started(record("left", ItemStatus::InProgress));
    bench.journal.on_item_completed(record("done", ItemStatus::Declined));
    let (finished, events) = bench.end().await;
    assert_eq!(
        items(&events),
        [
            "subagent one sub_agent_activity in_progress",
            "subagent two sub_agent_activity in_progress",
            "subagent one sub_agent_activity completed",
            "subagent three sub_agent_activity in_progress",
            "subagent three sub_agent_activity failed",
            "lifecycle done command_execution in_progress",
            "lifecycle left command_execution in_progress",
            "message done command_execution declined",
            "message left command_execution interrupted",
            "subagent two sub_agent_activity interrupted",
        ]
    );
    let step = events.iter().find(|event| event.event_type.as_str() == "subagent.step").unwrap();
    assert_eq!(step.task_id, TaskId::new("one").ok());
    assert_eq!(step.caller, Caller::new("subagent:looker").ok());
    assert_eq!(finished.run.message_count, 2);
}

#[tokio::test]
async fn calls_counted_elsewhere_are_counted_once_and_every_call_is_a_call() {
    let bench = Bench::new().await;
    let at = Timestamp::now();
    let tell = |source_id: &str, tokens: TokenCounts| {
        let caller = Caller::new("subagent:looker").unwrap();
        let usage =
            ExternalUsage { source_id, caller, model: None, tokens, price: None, child_thread_id: None, at };
        bench.journal.record_external_usage(usage);
    };
    tell("x", TokenCounts::default());
    tell("x", TokenCounts::of(1, 2));
    tell("x", TokenCounts::of(100, 200));
    tell("", TokenCounts::of(100, 200));
    let messages = json("[[]]");
    // One that answers, one that fails, one that is never heard of again.
    for call in ["x", "failed", "lost"] {
        bench
            .journal
            .on_chat_model_start(ChatModelStart { context: Context::new(call), messages: &messages });
    }
    bench
        .answer("x", r#"{"type":"ai","content":"a","usage_metadata":{"input_tokens":5,"output_tokens":-1}}"#);
    let error = Failure { error_type: "E", message: "" };
    bench.journal.on_llm_error(Failed { context: Context::new("failed"), error });
    let (finished, _) = bench.end().await;
    let totals = finished.run.totals;
    assert_eq!((totals.llm_calls, totals.total_tokens, totals.subagent_tokens), (4, 8, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_come_from_any_thread() {
    let bench = Arc::new(Bench::new().await);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bench = Arc::clone(&bench);
            scope.spawn(move || {
                for number in 0..100 {
                    let changes = RawJson::from(serde_json::json!([thread, number]));
                    bench.journal.record_workspace_changes(&changes, Timestamp::now());
                }
            });
        }
    });
    let (finished, events) = bench.end().await;
    assert_eq!(finished.report.written, 401);
    let mut next = [0; 4];
    for event in events.iter().filter(|event| event.category == Category::Workspace) {
        let [thread, number]: [usize; 2] = event.content.decode().unwrap();
        assert_eq!(number, next[thread]);
        next[thread] += 1;
    }
    assert_eq!(next, [100; 4]);
}

#[tokio::test]
async fn odd_payloads_are_no_reason_to_panic_or_to_stop() {
    let bench = Bench::new().await;
    for text in [
        "null",
        "3",
        "\"x\"",
        "[]",
        "{}",
        "[[[]]]",
        r#"{"generations":3}"#,
        r#"{"generations":[[{"message":{}}]]}"#,
    ] {
        let payload = json(text);
        let context = Context { metadata: Some(&payload), ..Context::new("same") };
        bench.journal.on_chain_start(ChainStart { context, name: None });
        bench.journal.on_chat_model_start(ChatModelStart { context, messages: &payload });
        bench.journal.on_llm_end(LlmEnd { context, response: &payload });
        let start = ToolStart { context, name: "", inputs: Some(&payload), tool_call_id: Some("\0") };
        bench.journal.on_tool_start(start);
        bench.journal.on_tool_end(ToolEnd { context, name: None, output: &payload });
        bench.journal.on_chain_end(ChainEnd { context, outputs: Some(&payload) });
    }
    let (finished, _) = bench.end().await;
    assert_eq!((finished.report.lost, finished.report.quarantined), (0, Vec::new()));
}

impl Bench {
    fn tool_start(&self, run: &str, call: &str) {
        let context = Context::new(run).below("node");
        self.journal.on_tool_start(ToolStart { context, name: "x", inputs: None, tool_call_id: Some(call) });
    }

    fn contents(events: &[Event], id: &str) -> Vec<ToolCall> {
        let of = |event: &&Event| event.item.as_ref().is_some_and(|item| item.item_id.as_str() == id);
        events.iter().filter(of).map(|event| event.content.decode_lossy().unwrap()).collect()
    }
}

const ASKS: &str =
    r#"{"type":"ai","content":"","id":"a","tool_calls":[{"name":"x","args":{"n":1},"id":"c"}]}"#;

#[tokio::test]
async fn a_tool_that_is_tried_again_and_succeeds_has_succeeded() {
    let bench = Bench::new().await;
    bench.answer("l1", ASKS);
    bench.tool_start("t1", "c");
    bench.journal.on_tool_error(ToolError {
        context: Context::new("t1").below("node"),
        error: Failure { error_type: "TimeoutError", message: "first try" },
        tool_call_id: Some("c"),
    });
    bench.tool_start("t2", "c");
    bench.tool_end("t2", r#"{"type":"tool","status":"success","content":"ok","tool_call_id":"c"}"#);
    bench.journal.on_chain_end(ChainEnd { context: Context::new("node").below("root"), outputs: None });
    let (_, events) = bench.end().await;
    assert_eq!(items(&events)[1..], ["lifecycle c tool_call in_progress", "message c tool_call completed"]);
    let told = Bench::contents(&events, "c").pop().unwrap();
    assert_eq!((told.content, told.error), (Some(RawJson::string("ok")), None));
}

#[tokio::test]
async fn calls_of_one_message_with_one_id_have_results_of_their_own() {
    let bench = Bench::new().await;
    let twice = r#"{"type":"ai","content":"","id":"a","tool_calls":[
        {"name":"x","args":{"n":1},"id":"c"},{"name":"x","args":{"n":2},"id":"c"}]}"#;
    bench.answer("l1", twice);
    bench.tool_start("t1", "c");
    bench.tool_start("t2", "c");
    bench.tool_end("t2", r#"{"type":"tool","content":"two","tool_call_id":"c"}"#);
    bench.tool_end("t1", r#"{"type":"tool","content":"one","tool_call_id":"c"}"#);
    let (_, events) = bench.end().await;
    for (id, args, content) in [("c", r#"{"n":1}"#, "one"), ("l1-call", r#"{"n":2}"#, "two")] {
        let told = Bench::contents(&events, id).pop().unwrap();
        assert_eq!((told.args.as_str(), told.content), (args, Some(RawJson::string(content))), "{id}");
    }
    assert_eq!(items(&events).len(), 5);
}

#[tokio::test]
async fn what_a_tool_gives_after_the_end_is_kept_and_is_no_message() {
    let bench = Bench::new().await;
    bench.answer("l1", ASKS);
    bench.tool_start("t1", "c");
    bench.journal.finish(Outcome::interrupted("cancelled")).await.unwrap();
    bench.tool_end("t1", r#"{"type":"tool","content":"wrote 5 files","tool_call_id":"c"}"#);
    bench.tool_end("t1", r#"{"type":"tool","content":"wrote 5 files","tool_call_id":"c"}"#);
    let (finished, events) = bench.end().await;
    assert_eq!(items(&events)[2..], ["message c tool_call interrupted", "lifecycle c tool_call completed"]);
    let told = Bench::contents(&events, "c").pop().unwrap();
    assert_eq!(told.content, Some(RawJson::string("wrote 5 files")));
    assert_eq!((finished.run.message_count, told.args.as_str()), (2, r#"{"n":1}"#));
    let item = bench.ledger.items();
    let item = item.get(&Scope::System, &thread(), &finished.run.run_id, &ItemId::new("c").unwrap()).await;
    assert_eq!(item.unwrap().status, ItemStatus::Interrupted);
}

#[tokio::test]
async fn a_call_that_repeats_an_id_does_not_take_the_old_result() {
    let bench = Bench::new().await;
    bench.answer("l1", ASKS);
    bench.tool_start("t1", "c");
    bench.tool_end("t1", r#"{"type":"tool","content":"old","tool_call_id":"c"}"#);
    bench.answer("l2", &ASKS.replace("\"a\"", "\"a2\""));
    let old = r#"{"type":"tool","content":"old","tool_call_id":"c"}"#;
    let shown = |messages: &str| json(&format!("[[{messages}]]"));
    let not_yet = shown(old);
    let context = Context::new("l3");
    bench.journal.on_chat_model_start(ChatModelStart { context, messages: &not_yet });
    let told = shown(&format!(
        r#"{ASKS},{old},{},{{"type":"tool","status":"error","content":"no such tool","tool_call_id":"c"}}"#,
        ASKS.replace("\"a\"", "\"a2\"")
    ));
    bench.journal.on_chat_model_start(ChatModelStart { context: Context::new("l4"), messages: &told });
    let (_, events) = bench.end().await;
    assert_eq!(items(&events)[5..], ["message l2-call tool_call failed"]);
    let told = Bench::contents(&events, "l2-call").pop().unwrap();
    assert_eq!(told.content, Some(RawJson::string("no such tool")));
}

#[tokio::test]
async fn results_of_one_message_are_told_in_the_order_it_asked() {
    let bench = Bench::new().await;
    let twice = r#"{"type":"ai","content":"","id":"a","tool_calls":[
        {"name":"x","args":{"n":1},"id":"c"},{"name":"x","args":{"n":2},"id":"c"}]}"#;
    bench.answer("l1", twice);
    bench.tool_start("t1", "c");
    bench.tool_end("t1", r#"{"type":"tool","content":"one","tool_call_id":"c"}"#);
    let result = |content: &str| format!(r#"{{"type":"tool","content":"{content}","tool_call_id":"c"}}"#);
    let shown = json(&format!("[[{twice},{},{}]]", result("one"), result("two")));
    bench.journal.on_chat_model_start(ChatModelStart { context: Context::new("l2"), messages: &shown });
    let (_, events) = bench.end().await;
    let told = Bench::contents(&events, "l1-call").pop().unwrap();
    assert_eq!(told.content, Some(RawJson::string("two")));
}

#[tokio::test]
async fn counts_are_read_in_any_spelling() {
    for (spelled, input) in
        [("1500", 1_500), ("1.5e3", 1_500), ("12.0", 12), ("-5", 0), ("1e40", 0), ("\"7\"", 0)]
    {
        let bench = Bench::new().await;
        let usage = format!(r#"{{"input_tokens":{spelled},"output_tokens":1}}"#);
        bench.answer("l", &format!(r#"{{"type":"ai","content":"x","usage_metadata":{usage}}}"#));
        let (finished, _) = bench.end().await;
        assert_eq!(finished.run.totals.input_tokens, input, "{spelled}");
    }
}

#[tokio::test]
async fn runs_that_number_their_calls_alike_are_counted_apart() {
    let ledger = MemoryLedger::new().ledger();
    for run in ["r1", "r2"] {
        let new = NewRun {
            create_missing: Some(NewThread::new(thread())),
            ..NewRun::new(thread(), RunId::new(run).unwrap())
        };
        let journal = RunJournal::begin(&ledger, &Scope::System, new).await.unwrap();
        let bench = Bench { ledger: ledger.clone(), journal };
        let usage = r#"{"input_tokens":100,"output_tokens":1}"#;
        bench.answer("call-1", &format!(r#"{{"type":"ai","content":"x","usage_metadata":{usage}}}"#));
        assert_eq!(bench.end().await.0.run.totals.total_tokens, 101, "{run}");
    }
}

#[tokio::test]
async fn usage_that_names_a_thread_that_is_not_there_counts_without_it() {
    let bench = Bench::new().await;
    bench.journal.record_external_usage(ExternalUsage {
        source_id: "s",
        caller: Caller::new("subagent:x").unwrap(),
        model: None,
        tokens: TokenCounts::of(10, 1),
        price: None,
        child_thread_id: Some(ThreadId::new("nowhere").unwrap()),
        at: Timestamp::now(),
    });
    bench.journal.barrier().await.unwrap();
    let (finished, _) = bench.end().await;
    assert_eq!(finished.run.totals.subagent_tokens, 11);
    let told: Vec<&str> = finished.report.quarantined.iter().map(|it| it.event_type.as_str()).collect();
    assert_eq!(told, ["child_thread_id"]);
}
