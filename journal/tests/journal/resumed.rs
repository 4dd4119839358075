//! Runs that another process goes on with, calls that are claimed and ended, and questions to people.

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Abort, Admission as NewAdmission, Answer, CallId, CancelAction, Claim, ErrorKind, Event, EventFilter,
    Fold, InteractionId, ItemError, ItemId, ItemKind, ItemMark, ItemStatus, Ledger, MemoryLedger,
    NewInteraction, NewRun, NewThread, Outcome, PendingCall, RawJson, Run, RunId, RunStatus, Scope, SeqRange,
    TaskId, ThreadId, Timestamp, ToolCall, WorkerId,
};
use runledger_core::{Category, NewLease};
use runledger_journal::callbacks::{
    ChainStart, ChatModelStart, Context, ItemRecord, LlmEnd, RuntimeCallbacks, SubagentPhase, SubagentRecord,
    SubagentStatus, ToolEnd, ToolStart,
};
use runledger_journal::{
    Admission, ManagedRun, ManagerSettings, OnExpired, Overflow, RunJournal, RunManager, Settings,
    SpoolSettings, StopReason, spool, user_message,
};
use serde_json::json;

use crate::faults::Faulty;

const SCOPE: Scope = Scope::System;

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn run() -> RunId {
    RunId::new("r").unwrap()
}

fn new_run(name: &str) -> NewRun {
    let said =
        user_message(ItemId::new(format!("{name}-u")).unwrap(), RawJson::string("go"), Timestamp::now());
    NewRun {
        create_missing: Some(NewThread::new(thread())),
        input: vec![said],
        ..NewRun::new(thread(), RunId::new(name).unwrap())
    }
}

/// A model that asks for these tools, named as each process names its first call.
fn asks(journal: &RunJournal, calls: &[&str]) {
    let context = Context::new("model-1");
    journal.on_chat_model_start(ChatModelStart { context, messages: &RawJson::from(json!([])) });
    let calls: Vec<_> =
        calls.iter().map(|id| json!({"id": id, "name": "count", "args": {"of": id}})).collect();
    let message = json!({"type": "ai", "content": "let me see", "tool_calls": calls,
        "usage_metadata": {"input_tokens": 10, "output_tokens": 5}});
    let response = RawJson::from(json!({"generations": [[{"message": message}]]}));
    journal.on_llm_end(LlmEnd { context, response: &response });
}

fn returns(journal: &RunJournal, tool_run: &str, call: &str, text: &str) {
    let context = Context::new(tool_run);
    journal.on_tool_start(ToolStart { context, name: "count", inputs: None, tool_call_id: Some(call) });
    let output = RawJson::from(json!({"type": "tool", "content": text, "tool_call_id": call}));
    journal.on_tool_end(ToolEnd { context, name: Some("count"), output: &output });
}

fn starts(journal: &RunJournal) {
    journal.on_chain_start(ChainStart { context: Context::new("loop"), name: None });
}

async fn events(ledger: &Ledger) -> Vec<Event> {
    let (filter, range) = (EventFilter::default(), SeqRange::after(0, 1_000));
    ledger.events().list_events(&SCOPE, &thread(), &filter, &range).await.unwrap().items
}

/// Each event as its type, its item and where that stands.
fn told(events: &[Event]) -> Vec<String> {
    let name = |event: &Event| match &event.item {
        Some(item) => format!("{} {} {}", item.kind, item.item_id, item.status),
        None => event.event_type.to_string(),
    };
    events.iter().map(name).collect()
}

async fn stored(ledger: &Ledger) -> Run {
    ledger.runs().get(&SCOPE, &thread(), &run()).await.unwrap()
}

fn ids(calls: &[PendingCall]) -> Vec<String> {
    calls.iter().map(|call| call.item.item_id.to_string()).collect()
}

/// The roles of the chat messages that a model would be sent.
async fn roles(ledger: &Ledger) -> Vec<String> {
    let window = ledger.context().load(&SCOPE, &thread()).await.unwrap();
    let role = |message: &RawJson| {
        let message: serde_json::Value = message.decode().unwrap();
        message["role"].as_str().unwrap().to_owned()
    };
    window.to_openai_chat().iter().map(role).collect()
}

/// The journal of the run under a new epoch, as another process opens it.
async fn resumed(ledger: &Ledger) -> RunJournal {
    let claim = Claim::Epoch(stored(ledger).await.epoch);
    ledger.resume_run(&SCOPE, &thread(), &run(), claim, None, Timestamp::now()).await.unwrap();
    RunJournal::resume(ledger, &SCOPE, &thread(), &run(), Settings::default()).await.unwrap()
}

#[tokio::test]
async fn a_resumed_journal_goes_on_where_the_log_ends() {
    let ledger = MemoryLedger::new().ledger();
    let first = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    starts(&first);
    first.record_memory_context(&RawJson::string("m"), Timestamp::now());
    asks(&first, &["a", "b"]);
    returns(&first, "tool-1", "a", "1");
    first.barrier().await.unwrap();
    let left = told(&events(&ledger).await);

    // The second process names its chain, its model call and its tools as the first did.
    let second = resumed(&ledger).await;
    starts(&second);
    second.record_memory_context(&RawJson::string("m"), Timestamp::now());
    assert_eq!(ids(&second.pending().await.unwrap()), ["b"]);
    returns(&second, "tool-1", "b", "2");
    // What the first process has ended does not end again.
    returns(&second, "tool-2", "b", "3");
    asks(&second, &["a"]);
    assert_eq!(ids(&second.pending().await.unwrap()), ["model-1-call"]);
    returns(&second, "tool-3", "a", "4");
    let finished = second.finish(Outcome::success()).await.unwrap();
    assert_eq!((finished.run.status, finished.run.totals.llm_calls), (RunStatus::Success, 2));
    assert_eq!(finished.run.totals.total_tokens, 30);

    let log = events(&ledger).await;
    let went_on = told(&log).split_off(left.len());
    let expected = [
        "tool_call b completed",
        "tool_call tool-2 in_progress",
        "tool_call tool-2 completed",
        "llm.started",
        "agent_message model-1-0-2 completed",
        "tool_call model-1-call in_progress",
        "tool_call model-1-call completed",
        "run.completed",
    ];
    assert_eq!(went_on, expected);
    let indexes: Vec<u64> = log
        .iter()
        .filter(|event| event.event_type.as_str() == "llm.started")
        .map(|event| event.content.decode::<serde_json::Value>().unwrap()["call_index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, [1, 2]);
    let late = first.finish(Outcome::success()).await.unwrap();
    assert!(!late.ended_here);
}

#[tokio::test]
async fn what_another_process_left_open_is_ended() {
    let ledger = MemoryLedger::new().ledger();
    let first = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    let at = Timestamp::now();
    let task = |name: &str| TaskId::new(name).unwrap();
    for name in ["s1", "s2"] {
        let phase = SubagentPhase::Start { description: "look" };
        first.record_subagent(SubagentRecord { task_id: task(name), agent: Some("scout"), phase, at });
    }
    let content = RawJson::from(json!({"command": ["ls"]}));
    let item = |id: &str, kind, status, call: bool| ItemRecord {
        mark: ItemMark {
            call_id: call.then(|| CallId::new(id).unwrap()),
            ..ItemMark::new(ItemId::new(id).unwrap(), kind, status)
        },
        category: if call { Category::Message } else { Category::Lifecycle },
        caller: None,
        content: &content,
        at,
    };
    for id in ["x1", "x2", "x3"] {
        first.on_item_started(item(id, ItemKind::CommandExecution, ItemStatus::InProgress, true));
    }
    first.on_item_started(item("p", ItemKind::Plan, ItemStatus::InProgress, false));
    first.barrier().await.unwrap();
    let left = events(&ledger).await.len();

    let second = resumed(&ledger).await;
    let phase = SubagentPhase::End { status: SubagentStatus::Completed, detail: None };
    second.record_subagent(SubagentRecord { task_id: task("s1"), agent: None, phase, at });
    second.on_item_completed(item("x1", ItemKind::CommandExecution, ItemStatus::Completed, true));
    let calls = second.pending().await.unwrap();
    assert_eq!(ids(&calls), ["x2", "x3"]);
    assert_eq!(calls[0].call, ToolCall::asked("command_execution", content.clone()));
    let result = ToolCall { content: Some(RawJson::string("ok")), ..calls[0].call.clone() };
    second.complete_call(&calls[0], result.clone(), at);
    second.complete_call(&calls[0], result, at);
    second.finish(Outcome::interrupted("cancelled")).await.unwrap();
    let log = events(&ledger).await.split_off(left);
    let expected = [
        "sub_agent_activity s1 completed",
        "command_execution x1 completed",
        "command_execution x2 completed",
        "command_execution x3 interrupted",
        "plan p interrupted",
        "sub_agent_activity s2 interrupted",
        "run.interrupted",
    ];
    assert_eq!(told(&log), expected);
    let described: Vec<_> =
        log.iter().filter(|event| event.task_id.is_some()).map(|event| event.content.as_str()).collect();
    assert_eq!(described, [r#"{"description":"look"}"#; 2]);
    let categories: Vec<_> = log.iter().map(|event| event.category.as_str()).collect();
    assert_eq!(
        categories,
        ["subagent", "message", "message", "message", "lifecycle", "subagent", "lifecycle"]
    );
}

#[tokio::test]
async fn whoever_held_a_resumed_run_is_told_and_writes_no_more() {
    let ledger = MemoryLedger::new().ledger();
    let first = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    asks(&first, &["a"]);
    let calls = first.pending().await.unwrap();
    let second = resumed(&ledger).await;
    let before = events(&ledger).await;
    assert_eq!(first.claim_call(&calls[0]).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    first.complete_call(&calls[0], calls[0].call.clone(), Timestamp::now());
    assert_eq!(first.barrier().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    first.cancel_token().cancelled().await;
    assert_eq!(events(&ledger).await, before);
    assert_eq!(second.claim_call(&calls[0]).await.unwrap().claimed_before, None);
    returns(&second, "x", "a", "1");
    assert_eq!(second.finish(Outcome::success()).await.unwrap().run.status, RunStatus::Success);
    let report = first.close().await.unwrap();
    assert_eq!((report.fenced, report.lost), (1, 0));
}

#[tokio::test]
async fn a_batch_that_is_cut_short_leaves_no_call_unanswered() {
    let ledger = MemoryLedger::new().ledger();
    let journal = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    asks(&journal, &["a", "b", "c"]);
    returns(&journal, "x", "a", "1");
    let calls = journal.pending().await.unwrap();
    journal.abort_call(&calls[0], Abort::Declined("no".to_owned()), Timestamp::now());
    journal.finish(Outcome::interrupted("cancelled")).await.unwrap();
    assert_eq!(ledger.pending(&SCOPE, &thread()).await.unwrap(), []);
    assert_eq!(roles(&ledger).await, ["user", "assistant", "tool", "tool", "tool"]);
    let log = events(&ledger).await;
    assert_eq!(
        told(&log)[6..9],
        ["tool_call a completed", "tool_call b declined", "tool_call c interrupted"]
    );
}

#[tokio::test]
async fn a_call_has_one_result_whoever_tells_it() {
    let ledger = MemoryLedger::new().ledger();
    let journal = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    asks(&journal, &["a", "b", "c"]);
    let calls = journal.pending().await.unwrap();
    let content = RawJson::encode("content", &calls[0].call).unwrap();
    let item = |call: &PendingCall, status| ItemRecord {
        mark: ItemMark {
            call_id: call.item.call_id.clone(),
            parent_item_id: call.item.parent_item_id.clone(),
            ..ItemMark::new(call.item.item_id.clone(), ItemKind::ToolCall, status)
        },
        category: Category::Message,
        caller: None,
        content: &content,
        at: Timestamp::now(),
    };
    // By the tool, by its item, and as a call; in every order.
    returns(&journal, "x", "a", "1");
    journal.on_item_completed(item(&calls[0], ItemStatus::Completed));
    journal.complete_call(&calls[0], calls[0].call.clone(), Timestamp::now());
    journal.on_item_started(item(&calls[1], ItemStatus::InProgress));
    journal.on_item_completed(item(&calls[1], ItemStatus::Failed));
    returns(&journal, "y", "b", "2");
    journal.complete_call(&calls[1], calls[1].call.clone(), Timestamp::now());
    journal.on_item_started(item(&calls[2], ItemStatus::InProgress));
    journal.complete_call(&calls[2], calls[2].call.clone(), Timestamp::now());
    journal.on_item_completed(item(&calls[2], ItemStatus::Completed));
    journal.on_item_started(item(&calls[2], ItemStatus::InProgress));
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!((finished.report.quarantined, finished.report.stopped), (vec![], None));
    let log = events(&ledger).await;
    let results = |id: &str| {
        let is_it = |event: &&Event| {
            event.category == Category::Message
                && event.item.as_ref().is_some_and(|item| item.item_id.as_str() == id)
        };
        log.iter().filter(is_it).count()
    };
    assert_eq!(["a", "b", "c"].map(results), [1, 1, 1]);
    assert_eq!(ledger.pending(&SCOPE, &thread()).await.unwrap(), []);
}

/// The result of a call is stored as whoever executed it tells it, whether the journal knows the call by the model's
/// message or by its item alone.
#[tokio::test]
async fn a_result_is_stored_as_it_is_told() {
    let ledger = MemoryLedger::new().ledger();
    let journal = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    asks(&journal, &["a", "b"]);
    let mark = ItemMark {
        call_id: Some(CallId::new("c").unwrap()),
        ..ItemMark::new(ItemId::new("c").unwrap(), ItemKind::CommandExecution, ItemStatus::InProgress)
    };
    let (content, at) = (RawJson::from(json!({"cmd": "ls"})), Timestamp::now());
    let category = Category::Message;
    journal.on_item_started(ItemRecord { mark, category, caller: None, content: &content, at });
    let calls = journal.pending().await.unwrap();
    assert_eq!(ids(&calls), ["a", "b", "c"]);
    let error = Some(ItemError { error_type: "E".to_owned(), message: "no".to_owned() });
    let ran = ToolCall {
        content: Some(RawJson::string("x")),
        duration_ms: Some(42),
        detail: Some(RawJson::from(json!({"exit_code": 3}))),
        extra: Some(RawJson::from(json!({"host": "h"}))),
        ..ToolCall::default()
    };
    let failed = ToolCall { error, ..ran.clone() };
    for (call, told) in calls.iter().zip([&ran, &failed, &failed]) {
        let ToolCall { name, args, .. } = call.call.clone();
        journal.complete_call(call, ToolCall { name, args, ..told.clone() }, at);
    }
    journal.finish(Outcome::success()).await.unwrap();
    let is_result = |event: &&Event| event.category == Category::Message && event.item.is_some();
    let log = events(&ledger).await;
    let results: Vec<_> = log
        .iter()
        .filter(is_result)
        .filter_map(|event| {
            Some((event.item.as_ref()?.status.clone(), event.content.decode::<ToolCall>().ok()?))
        })
        .collect();
    let expected = [ItemStatus::Completed, ItemStatus::Failed, ItemStatus::Failed];
    let told = calls.iter().zip([&ran, &failed, &failed]).map(|(call, told)| {
        let ToolCall { name, args, .. } = call.call.clone();
        ToolCall { name, args, ..told.clone() }
    });
    assert_eq!(results, expected.into_iter().zip(told).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_fold_is_made_under_the_runs_epoch() {
    let ledger = MemoryLedger::new().ledger();
    let journal = RunJournal::begin(&ledger, &SCOPE, new_run("r")).await.unwrap();
    asks(&journal, &["a"]);
    returns(&journal, "x", "a", "1");
    journal.barrier().await.unwrap();
    let window = ledger.context().load(&SCOPE, &thread()).await.unwrap();
    let all = || window.messages.iter().map(|message| message.seq()).collect();
    let second = resumed(&ledger).await;
    let late = journal.fold(Fold::new(&window, run(), all(), "late")).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::LeaseLost);
    let folded = second.fold(Fold::new(&window, run(), all(), "what was")).await.unwrap();
    assert_eq!((folded.compact_seq, folded.run_id), (1, run()));
    returns(&second, "y", "b", "2");
    second.finish(Outcome::success()).await.unwrap();
    // The call that came after the fold was asked for by nobody, so a message that does is made.
    assert_eq!(roles(&ledger).await, ["system", "assistant", "tool"]);
}

fn settings() -> ManagerSettings {
    ManagerSettings {
        lease: Duration::from_millis(200),
        heartbeat: Duration::from_millis(20),
        sweep_every: Duration::from_millis(10),
        grace: Duration::ZERO,
        on_expired: OnExpired::Leave,
        ..ManagerSettings::default()
    }
}

async fn manager(ledger: &Ledger) -> RunManager {
    RunManager::start(ledger.clone(), settings()).await.unwrap().0
}

/// A run whose worker is gone since its lease ended, with two calls open.
async fn left_behind(ledger: &Ledger) {
    let lease = NewLease { worker_id: WorkerId::generate(), ttl: Duration::from_millis(1) };
    let admission = NewAdmission { lease: Some(lease), ..NewAdmission::default() };
    let journal = RunJournal::begin(ledger, &SCOPE, NewRun { admission, ..new_run("r") }).await.unwrap();
    asks(&journal, &["a", "b"]);
    journal.close().await.unwrap();
}

async fn resumable(manager: &RunManager) {
    while manager.resumable().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn of_several_that_resume_one_executes_each_call_once() {
    let ledger = MemoryLedger::new().ledger();
    left_behind(&ledger).await;
    let managers = [manager(&ledger).await, manager(&ledger).await, manager(&ledger).await];
    resumable(&managers[0]).await;
    let (thread, run) = (thread(), run());
    let (a, b, c) = tokio::join!(
        managers[0].resume(&SCOPE, &thread, &run),
        managers[1].resume(&SCOPE, &thread, &run),
        managers[2].resume(&SCOPE, &thread, &run),
    );
    let (won, lost): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    let mut won: Vec<ManagedRun> = won.into_iter().map(Result::unwrap).collect();
    assert_eq!((won.len(), lost.len()), (1, 2));
    assert!(lost.iter().all(|lost| lost.as_ref().unwrap_err().kind() == ErrorKind::Conflict));
    let held: usize = managers.iter().map(RunManager::held).sum();
    assert_eq!(held, 1);
    let mut managed = won.remove(0);
    for call in managed.journal().pending().await.unwrap() {
        managed.journal().claim_call(&call).await.unwrap();
        let again = managed.journal().claim_call(&call).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
        let result = ToolCall { content: Some(RawJson::string("1")), ..call.call.clone() };
        managed.journal().complete_call(&call, result, Timestamp::now());
    }
    assert_eq!(managed.finish(Outcome::success()).await.unwrap().run.status, RunStatus::Success);
    assert_eq!(roles(&ledger).await, ["user", "assistant", "tool", "tool"]);
    let again = managers[1].resume(&SCOPE, &thread, &run).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_sweep_leaves_a_run_to_be_resumed_unless_it_was_asked_to_stop() {
    let ledger = MemoryLedger::new().ledger();
    left_behind(&ledger).await;
    let manager = manager(&ledger).await;
    resumable(&manager).await;
    assert_eq!(manager.sweep().await.unwrap(), []);
    assert_eq!(stored(&ledger).await.status, RunStatus::Running);
    ledger
        .runs()
        .request_cancel(&SCOPE, &thread(), &run(), CancelAction::Interrupt, Timestamp::now())
        .await
        .unwrap();
    let refused = manager.resume(&SCOPE, &thread(), &run()).await;
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Cancelled | ErrorKind::Conflict));
    while !stored(&ledger).await.status.is_terminal() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stored(&ledger).await.stop_reason.as_deref(), Some("cancelled"));
    assert_eq!(roles(&ledger).await, ["user", "assistant", "tool", "tool"]);
}

#[tokio::test]
async fn a_run_that_somebody_holds_is_not_resumed() {
    let ledger = MemoryLedger::new().ledger();
    let long = ManagerSettings { lease: Duration::from_secs(600), ..settings() };
    let holder = RunManager::start(ledger.clone(), long).await.unwrap().0;
    let Admission::Active(mut managed) = holder.admit(&SCOPE, new_run("r")).await.unwrap() else { panic!() };
    let other = manager(&ledger).await;
    assert_eq!(other.resumable().await.unwrap(), []);
    for manager in [&other, &holder] {
        let refused = manager.resume(&SCOPE, &thread(), &run()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(managed.stopped(), None::<StopReason>);
    managed.finish(Outcome::success()).await.unwrap();
}

/// The epoch of the run, once it is above this one.
async fn epoch_above(ledger: &Ledger, epoch: u64) -> u64 {
    loop {
        let run = stored(ledger).await;
        if run.epoch > epoch {
            return run.epoch;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_outage_after_a_run_changed_hands_is_waited_for() {
    let faulty = Faulty::new([]);
    let ledger = faulty.ledger();
    left_behind(&ledger).await;
    let before = stored(&ledger).await.epoch;
    let manager = manager(&ledger).await;
    resumable(&manager).await;
    faulty.set_unread(true);
    let resuming = tokio::spawn({
        let manager = manager.clone();
        async move { manager.resume(&SCOPE, &thread(), &run()).await }
    });
    let epoch = epoch_above(&ledger, before).await;
    // Longer than the heartbeats after which a run that nobody knows is ended.
    tokio::time::sleep(settings().heartbeat * 5).await;
    faulty.set_unread(false);
    let mut managed = resuming.await.unwrap().unwrap();
    assert_eq!((managed.run().epoch, managed.stopped()), (epoch, None));
    assert_eq!(ids(&managed.journal().pending().await.unwrap()), ["a", "b"]);
    assert_eq!(managed.finish(Outcome::success()).await.unwrap().run.status, RunStatus::Success);
}

#[tokio::test]
async fn a_run_that_was_resumed_and_cannot_be_read_is_let_go_and_not_ended() {
    let faulty = Faulty::new([]);
    let ledger = faulty.ledger();
    left_behind(&ledger).await;
    let impatient = ManagerSettings {
        journal: Settings { give_up_after: Some(Duration::ZERO), ..Settings::default() },
        ..settings()
    };
    let first = RunManager::start(ledger.clone(), impatient).await.unwrap().0;
    resumable(&first).await;
    faulty.set_unread(true);
    let resume = async || first.resume(&SCOPE, &thread(), &run()).await;
    assert_eq!(resume().await.unwrap_err().kind(), ErrorKind::Unavailable);
    // Again at once, by the same process.
    let again = resume().await.unwrap_err();
    assert!(matches!(again.kind(), ErrorKind::Unavailable | ErrorKind::Conflict), "{again}");
    let worker = first.worker_id().clone();
    while ledger.runs().lease(&SCOPE, &thread(), &run()).await.unwrap().unwrap().worker_id == worker {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((stored(&ledger).await.status, first.held()), (RunStatus::Running, 0));
    faulty.set_unread(false);
    let second = manager(&ledger).await;
    let mut managed = loop {
        match second.resume(&SCOPE, &thread(), &run()).await {
            Ok(managed) => break managed,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(ids(&managed.journal().pending().await.unwrap()), ["a", "b"]);
    assert_eq!(managed.finish(Outcome::success()).await.unwrap().run.status, RunStatus::Success);
}

fn question(name: &str) -> NewInteraction {
    NewInteraction {
        interaction_id: InteractionId::new(name).unwrap(),
        kind: "approval".to_owned(),
        request: RawJson::from(json!({"may I": name})),
        item_id: None,
    }
}

async fn answered(manager: &RunManager, run: &str, to: &str) -> runledger_core::Result<Admission> {
    let answer = Answer { interaction_id: InteractionId::new(to).unwrap(), value: RawJson::string("yes") };
    let admission = NewAdmission { answer: Some(answer), ..NewAdmission::default() };
    manager.admit(&SCOPE, NewRun { admission, ..new_run(run) }).await
}

#[tokio::test]
async fn a_question_of_one_process_is_answered_in_another_once() {
    let ledger = MemoryLedger::new().ledger();
    let (asker, other) = (manager(&ledger).await, manager(&ledger).await);
    let Admission::Active(mut managed) = asker.admit(&SCOPE, new_run("r")).await.unwrap() else { panic!() };
    // A question that cannot be stored keeps the run going.
    let odd = NewInteraction { kind: String::new(), ..question("q") };
    let refused = managed.finish_asking(vec![odd]).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(stored(&ledger).await.status, RunStatus::Pending);
    let ended = managed.finish_asking(vec![question("q")]).await.unwrap();
    assert_eq!(ended.run.stop_reason.as_deref(), Some("waiting_for_input"));
    assert_eq!(asker.held(), 0);
    let Admission::Active(mut on) = answered(&other, "on", "q").await.unwrap() else { panic!() };
    let twice = answered(&asker, "twice", "q").await;
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Conflict);
    let taken = on.finish_asking(vec![question("q")]).await;
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AlreadyExists);
    on.finish(Outcome::success()).await.unwrap();
    let id = InteractionId::new("q").unwrap();
    let answer = ledger.interactions().get(&SCOPE, &thread(), &id).await.unwrap();
    assert_eq!(answer.answer_run_id, Some(RunId::new("on").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn questions_survive_in_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let settings = Settings {
        overflow: Overflow::Spool(SpoolSettings::new(folder.path())),
        close_patience: Duration::from_secs(3),
        ..Settings::default()
    };
    let ledger = faulty.ledger();
    let journal = RunJournal::begin_with(&ledger, &SCOPE, new_run("r"), settings).await.unwrap();
    asks(&journal, &["a"]);
    journal.barrier().await.unwrap();
    faulty.set_away(true);
    let asking = journal.finish_asking(vec![question("q"), question("p")]).await;
    assert_eq!(asking.unwrap_err().kind(), ErrorKind::Unavailable);
    let report = journal.close().await.unwrap();
    assert!(report.end_in_spool, "{report:?}");
    faulty.set_away(false);
    let recovered = spool::recover(&ledger, &SCOPE, folder.path(), Duration::from_secs(1)).await.unwrap();
    assert!(recovered.is_complete(), "{recovered:?}");
    assert_eq!(stored(&ledger).await.stop_reason.as_deref(), Some("waiting_for_input"));
    let questions = ledger.resume(&SCOPE, &thread()).await.unwrap().questions;
    let mut asked: Vec<_> =
        questions.iter().map(|it| (it.interaction_id.as_str(), it.request.as_str())).collect();
    asked.sort_unstable();
    assert_eq!(asked, [("p", r#"{"may I":"p"}"#), ("q", r#"{"may I":"q"}"#)]);
    assert_eq!(roles(&ledger).await, ["user", "assistant", "tool"]);
}
