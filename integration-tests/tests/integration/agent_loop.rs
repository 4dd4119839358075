//! The agent loop of the journal's example, in processes that die and go on for each other.

use std::collections::BTreeSet;
use std::path::Path;

use pretty_assertions::assert_eq;
use runledger_core::{
    EventFilter, ItemFilter, Ledger, ListRange, Run, RunFilter, RunId, Scope, SeqRange, ThreadFilter,
    ThreadId, ThreadKind, view::context::ContextWindow,
};
use runledger_integration_tests::processes::{run_to_end, run_together, spawn};
use runledger_integration_tests::worker::{AgentPart, Job};
use tempfile::TempDir;

use crate::backend::{Fresh, on_each_backend};

on_each_backend!(an_agent_outlives_its_process, each_call_is_executed_once_however_often_its_process_dies);

/// How many processes want to go on with what the dead one left.
const RESUMING: usize = 3;

fn worker(
    fresh: &Fresh,
    folder: &TempDir,
    part: AgentPart,
) -> runledger_integration_tests::processes::Worker {
    let (url, folder) = (fresh.database.url().to_owned(), folder.path().to_owned());
    let job = serde_json::to_string(&Job::Agent { url, folder, part }).expect("a job is JSON");
    spawn(env!("CARGO_BIN_EXE_runledger-test-worker"), &[job])
}

/// What the tools executed: the process, the tool and the call.
fn executions(folder: &Path) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(folder.join("executions.log")).expect("tools were executed");
    log.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, what)| (id.to_owned(), what.to_owned()))
        .collect()
}

/// The runs of a thread, the oldest first.
async fn runs(ledger: &Ledger, thread: &ThreadId) -> Vec<Run> {
    let filter = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    let mut runs =
        ledger.runs().list(&Scope::System, &filter, &ListRange::default()).await.expect("runs").items;
    runs.reverse();
    runs
}

fn roles(window: &ContextWindow) -> Vec<String> {
    let role = |message: &runledger_core::RawJson| {
        let message: serde_json::Value = message.decode().expect("a chat message");
        message["role"].as_str().unwrap_or_default().to_owned()
    };
    window.to_openai_chat().iter().map(role).collect()
}

/// Three sends with a sub-agent and a compaction; a fourth whose process dies amid a batch of calls; and several
/// processes that want to go on with it: one does, and each call is executed once.
async fn an_agent_outlives_its_process(fresh: &Fresh) {
    let (ledger, folder) = (fresh.ledger(), TempDir::new().expect("a folder"));
    let sends = run_together(vec![worker(fresh, &folder, AgentPart::Sends)]).await;
    let thread = std::fs::read_to_string(folder.path().join("thread.txt")).expect("the thread");
    let thread = ThreadId::new(thread).expect("an id");
    assert_eq!(sends.len(), 1);
    let sent = [
        "read_file read_file-1-1",
        "count_words count_words-1-2",
        "read_file read_file-1-1",
        "write_file write_file-1-1",
    ];
    let done = executions(folder.path());
    assert_eq!(done.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>(), sent);

    let killed = run_to_end(worker(fresh, &folder, AgentPart::Killed), None).await;
    assert!(killed.was_killed(), "{killed:?}");
    let open = ledger.pending(&Scope::System, &thread).await.expect("what it left");
    let left: Vec<_> =
        open.iter().map(|call| (call.item.item_id.as_str(), call.item.claimed_epoch)).collect();
    let first = runs(&ledger, &thread).await[3].epoch;
    assert_eq!(
        left,
        [("append_line-1-2", Some(first)), ("append_line-1-3", None), ("append_line-1-4", None)]
    );
    assert_eq!(open[2].call.args.as_str(), r#"{"path":"seasons.txt","text":"winter"}"#);

    let resuming = (0..RESUMING).map(|_| worker(fresh, &folder, AgentPart::Resume)).collect();
    run_together(resuming).await;
    let done = executions(folder.path());
    let appended: Vec<_> = done[4..].iter().map(|(_, what)| what.as_str()).collect();
    let each = [
        "append_line append_line-1-1",
        "append_line append_line-1-2",
        "append_line append_line-1-3",
        "append_line append_line-1-4",
    ];
    assert_eq!(appended, each);
    let processes: BTreeSet<_> = done[5..].iter().map(|(process, _)| process).collect();
    assert_eq!(processes.len(), 1, "one of those that resumed executed what was left: {done:?}");
    let seasons = std::fs::read_to_string(folder.path().join("seasons.txt")).expect("what the calls wrote");
    assert_eq!(seasons, "spring\nsummer\nautumn\nwinter\n");

    the_log_is_whole(&ledger, &thread, first).await;
    the_sub_agent_is_known(&ledger, &thread).await;
}

/// Processes that resume a run and die after one more call, side by side: each call is executed once, and the
/// last process finds nothing left to execute.
async fn each_call_is_executed_once_however_often_its_process_dies(fresh: &Fresh) {
    let (ledger, folder) = (fresh.ledger(), TempDir::new().expect("a folder"));
    run_together(vec![worker(fresh, &folder, AgentPart::Sends)]).await;
    let thread = std::fs::read_to_string(folder.path().join("thread.txt")).expect("the thread");
    let thread = ThreadId::new(thread).expect("an id");
    let dying = || run_to_end(worker(fresh, &folder, AgentPart::ResumeAndDie), None);
    assert!(run_to_end(worker(fresh, &folder, AgentPart::Killed), None).await.was_killed());
    let (a, b, c) = tokio::join!(dying(), dying(), dying());
    assert!([&a, &b, &c].iter().all(|ended| ended.was_killed()), "{a:?} {b:?} {c:?}");
    assert_eq!(ledger.pending(&Scope::System, &thread).await.expect("what they left"), []);
    run_together(vec![worker(fresh, &folder, AgentPart::Resume)]).await;
    let done = executions(folder.path());
    let appended: Vec<_> = done[4..].iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(appended, [1, 2, 3, 4].map(|number| format!("append_line append_line-1-{number}")));
    let processes: BTreeSet<_> = done[4..].iter().map(|(process, _)| process).collect();
    assert_eq!(processes.len(), 4, "each of them executed one: {done:?}");
    let run = runs(&ledger, &thread).await.remove(3);
    assert_eq!((run.status.as_str(), run.totals.llm_calls), ("success", 2));
    let filter = ItemFilter { run_id: Some(run.run_id.clone()), status: None };
    let items =
        ledger.items().list(&Scope::System, &thread, &filter, &SeqRange::after(0, 100)).await.expect("items");
    let claims: Vec<_> = items.items.iter().filter_map(|item| item.claimed_epoch).collect();
    assert!(claims.is_sorted_by(|a, b| a < b), "each under an epoch of its own: {claims:?}");
}

/// The continued run is one run: it started once, each of its calls has one result, and both processes' model
/// calls are counted.
async fn the_log_is_whole(ledger: &Ledger, thread: &ThreadId, first: u64) {
    let runs = runs(ledger, thread).await;
    assert_eq!(runs.iter().map(|run| run.status.as_str()).collect::<Vec<_>>(), ["success"; 4]);
    let run = &runs[3];
    assert!(run.epoch > first);
    assert_eq!((run.totals.llm_calls, run.last_ai_message.as_deref()), (2, Some("4 lines were appended.")));
    let types = events(ledger, thread, &run.run_id).await;
    let expected = [
        "item.completed user_message",
        "run.started ",
        "llm.started ",
        "item.completed agent_message",
        "item.started tool_call",
        "item.started tool_call",
        "item.started tool_call",
        "item.started tool_call",
        "item.completed tool_call",
        "item.completed tool_call",
        "item.completed tool_call",
        "item.completed tool_call",
        "llm.started ",
        "item.completed agent_message",
        "run.completed ",
    ];
    assert_eq!(types, expected);
    let filter = ItemFilter { run_id: Some(run.run_id.clone()), status: None };
    let items =
        ledger.items().list(&Scope::System, thread, &filter, &SeqRange::after(0, 100)).await.expect("items");
    let claims: Vec<_> = items.items.iter().filter_map(|item| item.claimed_epoch).collect();
    assert_eq!(claims, [first, run.epoch, run.epoch, run.epoch]);

    let window = ledger.context().load(&Scope::System, thread).await.expect("the window");
    assert_eq!(window.compact_seq, Some(1));
    let third = ["user", "assistant", "tool", "assistant"];
    let fourth = ["user", "assistant", "tool", "tool", "tool", "tool", "assistant"];
    assert_eq!(roles(&window), [&["system", "system"], &third[..], &fourth].concat());
    let compactions = ledger.context().list_compactions(&Scope::System, thread, &SeqRange::last(10)).await;
    let compactions = compactions.expect("the compactions").items;
    assert_eq!(compactions.iter().map(|it| &it.run_id).collect::<Vec<_>>(), [&runs[2].run_id]);
}

async fn events(ledger: &Ledger, thread: &ThreadId, run: &RunId) -> Vec<String> {
    let filter = EventFilter::of_run(run.clone());
    let page = ledger.events().list_events(&Scope::System, thread, &filter, &SeqRange::after(0, 1_000)).await;
    let name = |event: &runledger_core::Event| {
        let kind = event.item.as_ref().map(|item| item.kind.to_string()).unwrap_or_default();
        format!("{} {kind}", event.event_type)
    };
    page.expect("events").items.iter().map(name).collect()
}

/// The sub-agent's thread knows the call that spawned it, and what it took counts in the run that did.
async fn the_sub_agent_is_known(ledger: &Ledger, thread: &ThreadId) {
    let filter = ThreadFilter::default();
    let threads =
        ledger.threads().list(&Scope::System, &filter, &ListRange::default()).await.expect("threads").items;
    let child = threads.into_iter().find(|other| other.thread_id != *thread).expect("the sub-agent's");
    let runs = runs(ledger, thread).await;
    let spawned = (child.parent_thread_id, child.spawn_run_id, child.spawn_item_id.map(|id| id.to_string()));
    assert_eq!(
        spawned,
        (Some(thread.clone()), Some(runs[1].run_id.clone()), Some("delegate-1-1".to_owned()))
    );
    assert_eq!((child.kind, child.spawn_depth), (ThreadKind::Subagent, 1));
    let own = ledger.usage().by_thread(&Scope::System, &child.thread_id, true).await.expect("its usage");
    assert_eq!(own.totals.llm_calls, 2);
    assert_eq!(runs[1].totals.subagent_tokens, own.totals.total_tokens);
    assert_eq!(runs[1].totals.llm_calls, 4);
}
