//! Rollouts in pieces: it makes no difference in how many imports a file is read, nor in which order files are.

use std::fs;
use std::path::PathBuf;

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, ItemStatus, MultitaskStrategy, NewRun, RunId, RunStatus, Scope, ThreadId, UsageBy, UsageOf,
    UsageQuery,
};
use serde_json::{Value, json};

use crate::Place;
use crate::rollouts::{import, items, runs, told};

const THREAD: &str = "01a1fc12-0000-7000-8000-000000000001";
const FORK: &str = "01a1fc12-0000-7000-8000-000000000002";

fn name(thread: &str) -> String {
    format!("rollout-2026-11-21T03-07-28-{thread}.jsonl")
}

fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

/// The lines of a rollout, numbered.
fn lines(records: &[(&str, Value)]) -> Vec<String> {
    let line = |(ordinal, (kind, payload)): (usize, &(&str, Value))| {
        format!(
            "{{\"timestamp\":\"2026-11-21T03:07:28.000Z\",\"ordinal\":{ordinal},\"type\":{},\"payload\":{payload}}}\n",
            json!(kind)
        )
    };
    records.iter().enumerate().map(line).collect()
}

fn session(thread: &str) -> (&'static str, Value) {
    ("session_meta", json!({"id": thread, "history_mode": "paginated", "model_provider": "openai"}))
}

fn begin(turn: &str) -> (&'static str, Value) {
    ("event_msg", json!({"type": "task_started", "turn_id": turn}))
}

fn end(turn: &str) -> (&'static str, Value) {
    ("event_msg", json!({"type": "task_complete", "turn_id": turn}))
}

fn item(turn: &str, item: &Value) -> (&'static str, Value) {
    ("event_msg", json!({"type": "item_completed", "turn_id": turn, "item": item}))
}

fn used(response: &str, tokens: u64) -> (&'static str, Value) {
    let usage = json!({"input_tokens": tokens - 1, "output_tokens": 1, "total_tokens": tokens});
    ("token_usage_record", json!({"response_id": response, "usage": usage}))
}

fn counted(tokens: u64) -> (&'static str, Value) {
    let total = json!({"input_tokens": tokens - 1, "output_tokens": 1, "total_tokens": tokens});
    ("event_msg", json!({"type": "token_count", "info": {"total_token_usage": total}}))
}

/// Imports a file whole, and cut after each line into another ledger, and finds the same in both.
async fn comes_in_the_same_in_pieces(records: &[(&str, Value)]) -> Place {
    let (lines, whole) = (lines(records), Place::new());
    let file = whole.path(&name(THREAD));
    fs::write(&file, lines.concat()).unwrap();
    import(&whole, &[file]).await;
    let sql = whole.ledger().await;
    let expected = told(&sql.ledger(), &thread(THREAD)).await;
    sql.close().await;
    for cut in 1..lines.len() {
        let pieces = Place::new();
        let file = pieces.path(&name(THREAD));
        for end in [cut, lines.len()] {
            fs::write(&file, lines[..end].concat()).unwrap();
            import(&pieces, std::slice::from_ref(&file)).await;
        }
        let sql = pieces.ledger().await;
        assert_eq!(told(&sql.ledger(), &thread(THREAD)).await, expected, "cut after {cut} lines");
        sql.close().await;
    }
    whole
}

#[tokio::test]
async fn a_response_that_is_told_again_takes_nothing_more() {
    let records = [
        session(THREAD),
        begin("t1"),
        used("r1", 100),
        used("r1", 100),
        counted(250),
        end("t1"),
        begin("t2"),
        used("", 40),
        used("r1", 100),
        used("r2", 30),
        counted(330),
        end("t2"),
    ];
    let place = comes_in_the_same_in_pieces(&records).await;
    let sql = place.ledger().await;
    let usage = sql.usage().by_thread(&Scope::System, &thread(THREAD), true).await.unwrap();
    // The file's last total.
    assert_eq!(usage.totals.total_tokens, 330);
    sql.close().await;
}

#[tokio::test]
async fn a_process_with_much_output_goes_on_in_any_pieces() {
    let head = "Process running with session ID 7\nOutput:\n";
    let output = format!("{head}{}", "o".repeat(40_000));
    let arguments = json!({"cmd": "a".repeat(40_000)}).to_string();
    let call =
        json!({"type": "function_call", "name": "exec_command", "arguments": arguments, "call_id": "c1"});
    let done = json!({
        "type": "CommandExecution", "id": "c1", "command": ["sh"], "cwd": "/", "status": "completed",
        "aggregated_output": "all of it", "exit_code": 0,
    });
    let records = [
        session(THREAD),
        begin("t1"),
        ("response_item", call),
        ("response_item", json!({"type": "function_call_output", "call_id": "c1", "output": output})),
        end("t1"),
        item("t1", &done),
    ];
    let place = comes_in_the_same_in_pieces(&records).await;
    let sql = place.ledger().await;
    let found = items(&sql.ledger(), &thread(THREAD), &RunId::new("t1").unwrap()).await;
    assert_eq!(found.iter().map(|item| item.status.clone()).collect::<Vec<_>>(), [ItemStatus::Completed]);
    sql.close().await;
}

/// More of what is no record than is stored at once, before the first line that is one.
#[tokio::test]
async fn no_part_of_a_file_that_begins_unreadable_is_lost() {
    let place = Place::new();
    let file = place.path(&name(THREAD));
    let unreadable: String = (0..1_200).map(|number| format!("{number} is no record\n")).collect();
    fs::write(&file, unreadable + &lines(&[begin("t1"), end("t1")]).concat()).unwrap();
    let summary = import(&place, std::slice::from_ref(&file)).await;
    assert_eq!((&summary["quarantined"], &summary["threads"]), (&json!(1_200), &json!(1)));
    let sql = place.ledger().await;
    let first = sql.imports().list_quarantined(&Scope::System, &thread(THREAD), None, 1_000).await.unwrap();
    assert_eq!(first.first().and_then(|part| part.content.clone()).as_deref(), Some("0 is no record"));
    let after = first.last().map(|part| &part.quarantine_id);
    let rest = sql.imports().list_quarantined(&Scope::System, &thread(THREAD), after, 1_000).await.unwrap();
    assert_eq!(first.len() + rest.len(), 1_200);
    sql.close().await;
}

/// A turn beside a review is admitted, and then ended: an import that was cut short in between is gone on with.
#[tokio::test]
async fn a_turn_that_was_left_waiting_is_ended() {
    let place = Place::new();
    let file = place.path(&name(THREAD));
    let entered = json!({"type": "EnteredReviewMode", "id": "i1", "review": "look"});
    let exited = json!({"type": "ExitedReviewMode", "id": "i2"});
    let said = json!({"type": "AgentMessage", "id": "m1", "content": [{"type": "Text", "text": "fine"}]});
    let all = lines(&[
        session(THREAD),
        begin("t1"),
        item("t1", &entered),
        begin("t2"),
        item("t2", &said),
        item("t1", &exited),
        end("t1"),
    ]);
    fs::write(&file, all[..3].concat()).unwrap();
    import(&place, std::slice::from_ref(&file)).await;
    let sql = place.ledger().await;
    let admission = Admission { multitask_strategy: MultitaskStrategy::Enqueue, ..Admission::default() };
    let waits = NewRun { admission, ..NewRun::new(thread(THREAD), RunId::new("t2").unwrap()) };
    assert_eq!(sql.admit(&Scope::System, waits).await.unwrap().run.status, RunStatus::Queued);
    sql.close().await;
    fs::write(&file, all.concat()).unwrap();
    import(&place, std::slice::from_ref(&file)).await;
    let sql = place.ledger().await;
    let mut found: Vec<(String, RunStatus, Option<String>)> = runs(&sql.ledger(), &thread(THREAD))
        .await
        .into_iter()
        .map(|run| (run.run_id.to_string(), run.status, run.stop_reason))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("t1".to_owned(), RunStatus::Success, None),
        ("t2".to_owned(), RunStatus::Interrupted, Some("incomplete".to_owned())),
    ];
    assert_eq!(found, expected);
    sql.close().await;
}

/// A base with one response and a fork of it with another.
fn base_and_fork(place: &Place) -> [PathBuf; 2] {
    let base = lines(&[session(THREAD), begin("t1"), used("r1", 100), end("t1")]).concat();
    let meta = json!({
        "id": FORK, "history_mode": "paginated", "forked_from_id": THREAD,
        "history_base": {"thread_id": THREAD, "end_byte_offset": base.len(), "end_ordinal_exclusive": 4},
    });
    let fork = lines(&[("session_meta", meta), begin("t2"), used("r2", 50), end("t2")]).concat();
    let folder = place.path("sessions");
    fs::create_dir_all(&folder).unwrap();
    [(THREAD, base), (FORK, fork)].map(|(id, text)| {
        let file = folder.join(name(id));
        fs::write(&file, text).unwrap();
        file
    })
}

/// What all model calls took that the ledger knows of.
async fn sum(place: &Place) -> u64 {
    let sql = place.ledger().await;
    let all = UsageQuery::new(UsageOf::All, UsageBy::Total);
    let sums = sql.usage().report(&Scope::System, &all).await.unwrap();
    sql.close().await;
    sums.iter().map(|sum| sum.tokens.total).sum()
}

#[tokio::test]
async fn a_fork_is_counted_once_with_its_base() {
    let place = Place::new();
    let [base, fork] = base_and_fork(&place);
    // The fork alone is asked for.
    let summary = import(&place, std::slice::from_ref(&fork)).await;
    let read = summary["rollouts"].as_array().unwrap().iter().map(|report| report["rollout_id"].clone());
    assert_eq!(read.collect::<Vec<_>>(), [json!(THREAD), json!(FORK)]);
    assert_eq!(sum(&place).await, 150);
    for files in [vec![base.clone()], vec![fork.clone()], vec![base, fork.clone()]] {
        import(&place, &files).await;
        assert_eq!(sum(&place).await, 150);
    }
    let sql = place.ledger().await;
    let made = sql.threads().get(&Scope::System, &thread(FORK)).await.unwrap();
    assert_eq!(made.forked_from_thread_id, Some(thread(THREAD)));
    sql.close().await;
    // What nobody asked for is not gone on with.
    let mut more = fs::read_to_string(place.path("sessions").join(name(THREAD))).unwrap();
    more.push_str("{\"type\":\"x\"}\n");
    fs::write(place.path("sessions").join(name(THREAD)), more).unwrap();
    let summary = import(&place, &[fork]).await;
    assert_eq!((summary["rollouts"].as_array().unwrap().len(), &summary["events"]), (1, &json!(0)));
}

#[tokio::test]
async fn a_fork_of_what_was_deleted_is_counted_once() {
    let place = Place::new();
    let [base, fork] = base_and_fork(&place);
    import(&place, &[base]).await;
    let sql = place.ledger().await;
    sql.threads().delete(&Scope::System, &thread(THREAD)).await.unwrap();
    sql.close().await;
    import(&place, &[fork]).await;
    assert_eq!(sum(&place).await, 150);
}
