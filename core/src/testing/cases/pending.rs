//! Tool calls without a result, runs that another worker goes on with, and threads that are healed.

use std::time::Duration;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Abort, Admission, AgentMessage, CallId, Caller, CancelAction, Category, Claim, Commit, ErrorKind, Event,
    EventDraft, ItemError, ItemKind, ItemMark, ItemStatus, Ledger, MultitaskStrategy, NewBlob, NewLease,
    NewRun, Outcome, PendingCall, RawJson, RunStatus, Scope, Sweep, TokenCounts, ToolCall, ToolRequest,
    WorkerId, offload,
};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_micros(1);
const EXPIRED: Claim = Claim::Expired { grace: Duration::ZERO };

fn lease(worker: &str, ttl: Duration) -> NewLease {
    NewLease { worker_id: ok(WorkerId::new(worker)), ttl }
}

/// A run of alice's that a worker holds.
async fn held(ledger: &Ledger, ttl: Duration) -> Admitted {
    let t = thread(ledger, &alice(), "t").await;
    let admission = Admission { lease: Some(lease("w", ttl)), created_at: at(0), ..Admission::default() };
    let run =
        ok(ledger.admit(&alice(), NewRun { admission, ..NewRun::new(t.clone(), run_id("r")) }).await).run;
    Admitted { thread: t, run: run.run_id, epoch: run.epoch }
}

fn args(id: &str) -> RawJson {
    json(&format!(r#"{{"of": "{id}"}}"#))
}

/// What an agent says that asks for tools.
fn asking(id: &str, calls: &[&str]) -> EventDraft {
    let request =
        |id: &&str| ToolRequest { id: Some((*id).to_owned()), name: "count".to_owned(), args: args(id) };
    let message = AgentMessage {
        content: RawJson::string("let me see"),
        tool_calls: calls.iter().map(request).collect(),
        ..AgentMessage::default()
    };
    EventDraft { content: ok(RawJson::encode("content", &message)), ..ai(id, "lead_agent") }
}

/// The start of a call that a message asks for.
fn begun(id: &str, message: &str) -> EventDraft {
    let mark = ItemMark {
        call_id: Some(ok(CallId::new(id))),
        parent_item_id: Some(item_id(message)),
        ..ItemMark::new(item_id(id), ItemKind::ToolCall, ItemStatus::InProgress)
    };
    let content = ok(RawJson::encode("content", &ToolCall::asked("count", args(id))));
    EventDraft {
        caller: Some(Caller::lead_agent()),
        created_at: at(0),
        ..EventDraft::item(mark, Category::Lifecycle, content)
    }
}

/// The start of a call that the model gave no id.
fn unnamed(id: &str, message: &str) -> EventDraft {
    let begun = begun(id, message);
    EventDraft { item: begun.item.map(|item| ItemMark { call_id: None, ..item }), ..begun }
}

/// A message and its calls, as one commit.
fn batch(message: &str, calls: &[&str]) -> Vec<EventDraft> {
    std::iter::once(asking(message, calls)).chain(calls.iter().map(|id| begun(id, message))).collect()
}

async fn asked(ledger: &Ledger, run: &Admitted, ordinal: u64, message: &str, calls: &[&str]) {
    ok(ledger.events().append(&alice(), run.commit(ordinal, batch(message, calls))).await);
}

async fn pending(ledger: &Ledger, run: &Admitted) -> Vec<PendingCall> {
    ok(ledger.pending(&alice(), &run.thread).await)
}

fn ids(calls: &[PendingCall]) -> Vec<&str> {
    calls.iter().map(|call| call.item.item_id.as_str()).collect()
}

fn result(call: &PendingCall, text: &str) -> ToolCall {
    ToolCall { content: Some(RawJson::string(text)), ..call.call.clone() }
}

async fn resumed(ledger: &Ledger, run: &Admitted, worker: &str) -> Admitted {
    let claim = Claim::Epoch(run.epoch);
    let next = Some(lease(worker, LONG));
    let resumed = ok(ledger.resume_run(&alice(), &run.thread, &run.run, claim, next, at(5)).await);
    Admitted { epoch: resumed.epoch, ..run.clone() }
}

/// The results of calls in the log.
async fn results(ledger: &Ledger, run: &Admitted) -> Vec<Event> {
    let events = log(ledger, &run.thread).await;
    let is_result = |event: &Event| {
        event.category == Category::Message
            && event
                .item
                .as_ref()
                .is_some_and(|item| item.kind.is_call() && item.status != ItemStatus::InProgress)
    };
    events.into_iter().filter(is_result).collect()
}

/// The window as chat messages, by role and call.
async fn chat(ledger: &Ledger, run: &Admitted) -> Vec<(String, Vec<String>)> {
    let window = ok(ledger.context().load(&alice(), &run.thread).await);
    let messages = window.to_openai_chat();
    let read = |message: &RawJson| {
        let message: serde_json::Value = ok(message.decode());
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        let ids = calls.iter().map(|call| call["id"].clone()).chain([message["tool_call_id"].clone()]);
        let ids = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
        (message["role"].as_str().unwrap_or_default().to_owned(), ids)
    };
    messages.iter().map(read).collect()
}

fn said(role: &str, ids: &[&str]) -> (String, Vec<String>) {
    (role.to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())
}

async fn all<T: Send + 'static>(tasks: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for task in tasks {
        match task.await {
            Ok(answer) => answers.push(answer),
            Err(error) => panic!("a task failed: {error}"),
        }
    }
    answers
}

/// A call that the model gave no id is answered as any other when its run is ended from outside: a message, which is
/// its one result, so that the window is whole.
pub async fn a_call_without_an_id_is_answered_from_outside(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    ok(ledger.events().append(&alice(), run.commit(0, vec![asking("m", &[""]), unnamed("x", "m")])).await);
    assert_eq!(ids(&pending(ledger, &run).await), ["x"]);
    let (claim, outcome) = (Claim::Epoch(run.epoch), Outcome::interrupted("gone"));
    ok(ledger.interrupt(&alice(), &run.thread, &run.run, claim, outcome, at(9)).await);
    let results = results(ledger, &run).await;
    let told: Vec<_> = results.iter().map(|event| (event.seq, event.once_key.as_deref())).collect();
    assert_eq!(told, [(3, Some("result:x"))]);
    let roles: Vec<String> = chat(ledger, &run).await.into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["assistant", "tool"]);
    let healed = ok(ledger.heal(&alice(), &run.thread, Claim::Epoch(run.epoch), at(10)).await);
    assert_eq!((healed.closed, healed.answered), (vec![], vec![]));
}

/// What is pending is what messages asked for and nothing answered, with everything that is needed to execute it.
pub async fn a_call_without_a_result_is_pending(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a", "b", "c"]).await;
    let other = item("plan", ItemKind::Plan, ItemStatus::InProgress, Category::Lifecycle);
    let sub = item("s", ItemKind::SubAgentActivity, ItemStatus::InProgress, Category::Subagent);
    ok(commit(ledger, run.commit(4, vec![tool_ended("b", ItemStatus::Completed), other, sub])).await);
    let found = pending(ledger, &run).await;
    assert_eq!(ids(&found), ["a", "c"]);
    let c = &found[1];
    assert_eq!(c.call, ToolCall::asked("count", args("c")));
    assert_eq!(c.item.parent_item_id, Some(item_id("m")));
    assert_eq!(c.item.caller, Some(Caller::lead_agent()));
    assert_eq!((c.started.seq, c.item.started_seq, c.item.claimed_epoch), (4, 4, None));
    let open = ok(ledger.open_items(&alice(), &run.thread, Some(&run.run)).await);
    let open: Vec<_> = open.iter().map(|open| open.item.item_id.as_str()).collect();
    assert_eq!(open, ["a", "c", "plan", "s"]);
}

/// Calls far apart in a long log are found, and those of a start with another shape as well.
pub async fn calls_far_apart_are_pending(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    let mut odd = begun("odd", "m");
    odd.content = json(r#"{"command": ["ls"]}"#);
    if let Some(mark) = &mut odd.item {
        mark.kind = ItemKind::CommandExecution;
    }
    asked(ledger, &run, 0, "m", &["a"]).await;
    ok(commit(ledger, run.commit(2, (0..200).map(|n| note(&n.to_string())).collect())).await);
    ok(commit(ledger, run.commit(202, vec![odd])).await);
    let found = pending(ledger, &run).await;
    assert_eq!(ids(&found), ["a", "odd"]);
    assert_eq!(found[1].call, ToolCall::asked("command_execution", json(r#"{"command": ["ls"]}"#)));
}

/// A call ends once: of many results one is stored, and the log has one message for it.
pub async fn one_of_many_results_is_stored(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a", "b"]).await;
    let a = pending(ledger, &run).await.remove(0);
    let complete = |number: i64| {
        let (ledger, a, epoch) = (ledger.clone(), a.clone(), run.epoch);
        async move {
            let told = result(&a, &number.to_string());
            ledger.complete_call(&alice(), &a, epoch, told, at(number)).await
        }
    };
    let answers = all((0..8).map(complete).collect()).await;
    let stored: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(stored, [&4]);
    for answer in answers.into_iter().filter(std::result::Result::is_err) {
        assert_eq!(kind(answer), ErrorKind::Conflict);
    }
    assert_eq!(seqs(&results(ledger, &run).await), [4]);
    assert_eq!(ids(&pending(ledger, &run).await), ["b"]);
}

/// A result that is told again, because its answer was lost, is answered as it was; another one is not.
pub async fn a_repeated_result_is_answered(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a", "b"]).await;
    let calls = pending(ledger, &run).await;
    let [a, b] = calls.as_slice() else { panic!("{calls:?}") };
    let end = async |text: &str, second| {
        ledger.complete_call(&alice(), a, run.epoch, result(a, text), at(second)).await
    };
    assert_eq!(ok(end("1", 3).await), 4);
    let failed = ToolCall {
        error: Some(ItemError { error_type: "Io".to_owned(), message: "no such file".to_owned() }),
        ..b.call.clone()
    };
    assert_eq!(ok(ledger.complete_call(&alice(), b, run.epoch, failed, at(4)).await), 5);
    assert_eq!(ok(end("1", 3).await), 4);
    assert_eq!(kind(end("2", 3).await), ErrorKind::Conflict);
    assert_eq!(kind(end("1", 4).await), ErrorKind::Conflict);
    let entries: Vec<_> = results(ledger, &run).await;
    let status: Vec<_> =
        entries.iter().filter_map(|event| event.item.as_ref()).map(|item| &item.status).collect();
    assert_eq!(status, [&ItemStatus::Completed, &ItemStatus::Failed]);
    assert_eq!(
        chat(ledger, &run).await,
        [said("assistant", &["a", "b"]), said("tool", &["a"]), said("tool", &["b"])]
    );
}

/// A call that is not executed ends with what the model is told.
pub async fn an_aborted_call_tells_the_model_why(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a", "b"]).await;
    let calls = pending(ledger, &run).await;
    let ends = [Abort::Declined("not allowed here".to_owned()), Abort::Interrupted("too late".to_owned())];
    for (call, end) in calls.iter().zip(ends) {
        ok(ledger.abort_call(&alice(), call, run.epoch, end, at(3)).await);
    }
    let told: Vec<_> =
        results(ledger, &run).await.iter().map(|event| ok(event.content.decode::<ToolCall>())).collect();
    let told: Vec<_> = told.into_iter().filter_map(|call| call.content).collect();
    assert_eq!(told, [RawJson::string("not allowed here"), RawJson::string("too late")]);
    let items = ok(ledger
        .items()
        .list(&alice(), &run.thread, &Default::default(), &crate::SeqRange::after(1, 9))
        .await);
    let status: Vec<_> = items.items.iter().map(|item| item.status.as_str()).collect();
    assert_eq!(status, ["declined", "interrupted"]);
    assert_eq!(pending(ledger, &run).await, []);
}

/// Of many who want to execute a call one may.
pub async fn one_of_many_claims_is_granted(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a"]).await;
    let a = pending(ledger, &run).await.remove(0);
    let claim = |_| {
        let (ledger, a, epoch) = (ledger.clone(), a.clone(), run.epoch);
        async move { ledger.claim_call(&alice(), &a, epoch).await }
    };
    let answers = all((0..8).map(claim).collect()).await;
    let (granted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(std::result::Result::is_ok);
    let granted: Vec<_> = granted.into_iter().map(ok).collect();
    let [granted] = granted.as_slice() else { panic!("{granted:?}") };
    assert_eq!((granted.claimed_before, granted.item.claimed_epoch), (None, Some(run.epoch)));
    for answer in refused {
        assert_eq!(kind(answer), ErrorKind::Conflict);
    }
    assert_eq!(pending(ledger, &run).await[0].item, granted.item);
    ok(ledger.complete_call(&alice(), &a, run.epoch, result(&a, "1"), at(3)).await);
    assert_eq!(kind(ledger.claim_call(&alice(), &a, run.epoch).await), ErrorKind::Conflict);
}

/// Who goes on with a run learns which calls the one before had begun to execute, and executes each once.
pub async fn a_resumed_call_says_who_had_it(ledger: &Ledger) {
    let first = held(ledger, LONG).await;
    asked(ledger, &first, 0, "m", &["a", "b"]).await;
    let calls = pending(ledger, &first).await;
    ok(ledger.claim_call(&alice(), &calls[0], first.epoch).await);
    let second = resumed(ledger, &first, "x").await;
    assert_eq!(ids(&pending(ledger, &second).await), ["a", "b"]);
    for (call, before) in calls.iter().zip([Some(first.epoch), None]) {
        let late = ledger.claim_call(&alice(), call, first.epoch).await;
        assert_eq!(kind(late), ErrorKind::LeaseLost);
        let claimed = ok(ledger.claim_call(&alice(), call, second.epoch).await);
        assert_eq!((claimed.claimed_before, claimed.item.claimed_epoch), (before, Some(second.epoch)));
        assert_eq!(kind(ledger.claim_call(&alice(), call, second.epoch).await), ErrorKind::Conflict);
    }
}

/// Who held a run before it was resumed writes no more: no event, no result, no end.
pub async fn a_resumed_run_fences_who_held_it(ledger: &Ledger) {
    let first = held(ledger, LONG).await;
    ok(ledger.events().append(&alice(), first.start()).await);
    asked(ledger, &first, 0, "m", &["a"]).await;
    let a = pending(ledger, &first).await.remove(0);
    let second = resumed(ledger, &first, "x").await;
    let before = ok(ledger.threads().head(&alice(), &first.thread).await);
    assert_eq!((before.epoch, before.journal_ordinal), (second.epoch, 0));
    let late = ledger.events().append(&alice(), first.commit(2, vec![note("late")])).await;
    assert_eq!(kind(late), ErrorKind::LeaseLost);
    let late = ledger.complete_call(&alice(), &a, first.epoch, result(&a, "late"), at(6)).await;
    assert_eq!(kind(late), ErrorKind::LeaseLost);
    let late = ledger.abort_call(&alice(), &a, first.epoch, Abort::Declined("late".to_owned()), at(6)).await;
    assert_eq!(kind(late), ErrorKind::LeaseLost);
    assert_eq!(
        kind(ledger.finish(&alice(), first.finish(2, Outcome::success())).await),
        ErrorKind::LeaseLost
    );
    assert_eq!(ok(ledger.threads().head(&alice(), &first.thread).await), before);
    ok(ledger.events().append(&alice(), second.commit(0, vec![note("on")])).await);
    ok(ledger.complete_call(&alice(), &a, second.epoch, result(&a, "1"), at(6)).await);
    let ended = ok(ledger.finish(&alice(), second.finish(2, Outcome::success())).await);
    assert_eq!((ended.run.status, ended.run.epoch), (RunStatus::Success, second.epoch));
    assert_eq!(ok(ledger.runs().lease(&alice(), &first.thread, &first.run).await), None);
}

/// A resumed run is the run it was: its input, totals, times and open items, with another holder.
pub async fn a_resumed_run_is_the_run_it_was(ledger: &Ledger) {
    let first = held(ledger, LONG).await;
    ok(ledger.events().append(&alice(), first.start()).await);
    let mut working = first.commit(0, batch("m", &["a"]));
    working.usage = vec![call("c", TokenCounts::of(10, 5))];
    ok(ledger.events().append(&alice(), working).await);
    let before = ok(ledger.runs().get(&alice(), &first.thread, &first.run).await);
    let claim = Claim::Epoch(first.epoch);
    let next = Some(lease("x", LONG));
    let after = ok(ledger.resume_run(&alice(), &first.thread, &first.run, claim, next, at(7)).await);
    assert!(after.epoch > before.epoch);
    let expected = crate::Run { epoch: after.epoch, updated_at: at(7), ..before };
    assert_eq!(after, expected);
    assert_eq!(ok(ledger.runs().get(&alice(), &first.thread, &first.run).await), expected);
    let held = ok(ledger.runs().lease(&alice(), &first.thread, &first.run).await);
    let held = held.map(|lease| (lease.worker_id.to_string(), lease.epoch));
    assert_eq!(held, Some(("x".to_owned(), after.epoch)));
    assert_eq!(seqs(&log(ledger, &first.thread).await), [1, 2]);
    let renewed = ok(ledger.runs().renew_leases(&Scope::System, &ok(WorkerId::new("w")), LONG).await);
    assert_eq!(renewed, []);
}

/// A run is resumed by a claim that holds, and only while it is active.
pub async fn a_run_is_resumed_by_a_claim_that_holds(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    let resume = async |name: &str, claim| {
        ledger.resume_run(&alice(), &run.thread, &run_id(name), claim, Some(lease("x", LONG)), at(5)).await
    };
    let unleased = Claim::Unleased { idle: Duration::ZERO };
    for claim in [EXPIRED, unleased, Claim::Epoch(run.epoch + 1)] {
        assert_eq!(kind(resume("r", claim).await), ErrorKind::Conflict, "{claim:?}");
    }
    assert_eq!(kind(resume("none", EXPIRED).await), ErrorKind::NotFound);
    let mut waiting = NewRun::new(run.thread.clone(), run_id("q"));
    waiting.admission.multitask_strategy = MultitaskStrategy::Enqueue;
    ok(ledger.admit(&alice(), waiting).await);
    assert_eq!(kind(resume("q", Claim::Epoch(0)).await), ErrorKind::Conflict);
    let long = Some(lease("x", Duration::from_secs(48 * 60 * 60)));
    let claim = Claim::Epoch(run.epoch);
    let refused = ledger.resume_run(&alice(), &run.thread, &run.run, claim, long, at(5)).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    let taken = ok(resume("r", Claim::Epoch(run.epoch)).await);
    // It was handed over without a lease: then its silence is what it is judged by.
    let bare =
        ok(ledger.resume_run(&alice(), &run.thread, &run.run, Claim::Epoch(taken.epoch), None, at(6)).await);
    assert_eq!(ok(ledger.runs().lease(&alice(), &run.thread, &run.run).await), None);
    let idle = ok(resume("r", unleased).await);
    assert!(idle.epoch > bare.epoch);
    let run = Admitted { epoch: idle.epoch, ..run };
    ok(ledger.finish(&alice(), run.finish(0, Outcome::success())).await);
    for claim in [EXPIRED, unleased, Claim::Epoch(idle.epoch)] {
        let again = ledger.resume_run(&alice(), &run.thread, &run.run, claim, None, at(9)).await;
        assert_eq!(kind(again), ErrorKind::Conflict, "{claim:?}");
    }
}

/// Resumes and sweeps of an expired run: one of all gets it.
pub async fn resumes_and_sweeps_exclude_each_other(ledger: &Ledger) {
    let run = held(ledger, SHORT).await;
    asked(ledger, &run, 0, "m", &["a"]).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let task = |number: usize| {
        let (ledger, run) = (ledger.clone(), run.clone());
        async move {
            if number.is_multiple_of(2) {
                let next = Some(lease(&format!("w{number}"), LONG));
                let resumed = ledger.resume_run(&alice(), &run.thread, &run.run, EXPIRED, next, at(5)).await;
                resumed.map(|_| 1).or_else(|error| match error.kind() {
                    ErrorKind::Conflict => Ok(0),
                    _ => Err(error),
                })
            } else {
                let sweep = Sweep { grace: Duration::ZERO, unleased: None };
                ledger.claim_expired(&Scope::System, &sweep, at(5)).await.map(|swept| swept.ended.len())
            }
        }
    };
    let won: Vec<usize> = all((0..8).map(task).collect()).await.into_iter().map(ok).collect();
    assert_eq!(won.iter().sum::<usize>(), 1, "{won:?}");
    let stored = ok(ledger.runs().get(&alice(), &run.thread, &run.run).await);
    let open = pending(ledger, &run).await;
    assert_eq!(stored.status.is_terminal(), open.is_empty(), "{stored:?}");
    assert_eq!(results(ledger, &run).await.len(), usize::from(open.is_empty()));
}

/// A thread tells all that is needed to go on with it, to whoever may see it.
pub async fn a_thread_tells_what_is_needed_to_go_on(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    let mut working = run.commit(0, batch("m", &["a"]));
    working.usage = vec![
        crate::UsageDraft { round_index: Some(4), ..call("c1", TokenCounts::of(1, 1)) },
        crate::UsageDraft { round_index: Some(2), ..call("c2", TokenCounts::of(1, 1)) },
    ];
    ok(ledger.events().append(&alice(), working).await);
    let told = ok(ledger.resume(&alice(), &run.thread).await);
    assert_eq!(told.thread, ok(ledger.threads().get(&alice(), &run.thread).await));
    assert_eq!(told.head, ok(ledger.threads().head(&alice(), &run.thread).await));
    assert_eq!(told.window, ok(ledger.context().load(&alice(), &run.thread).await));
    assert_eq!(told.pending, pending(ledger, &run).await);
    assert_eq!(told.questions, []);
    let Some(active) = told.active else { panic!("the run holds the slot") };
    assert_eq!(
        (active.run.run_id, active.run.epoch, active.last_round),
        (run.run.clone(), run.epoch, Some(4))
    );
    assert_eq!(active.lease.map(|lease| lease.worker_id.to_string()).as_deref(), Some("w"));
    let events = log(ledger, &run.thread).await;
    ok(ledger.finish(&alice(), run.finish(2, Outcome::success())).await);
    assert_eq!(ok(ledger.resume(&alice(), &run.thread).await).active, None);
    assert_eq!(events.len(), 2);
}

/// Nobody else sees or changes what is pending.
pub async fn what_is_pending_is_its_owners(ledger: &Ledger) {
    let run = held(ledger, SHORT).await;
    asked(ledger, &run, 0, "m", &["a"]).await;
    let a = pending(ledger, &run).await.remove(0);
    let before = ok(ledger.threads().head(&alice(), &run.thread).await);
    let (stranger, t) = (&mallory(), &run.thread);
    assert_eq!(kind(ledger.pending(stranger, t).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.claim_call(stranger, &a, run.epoch).await), ErrorKind::NotFound);
    let complete = ledger.complete_call(stranger, &a, run.epoch, a.call.clone(), at(3)).await;
    assert_eq!(kind(complete), ErrorKind::NotFound);
    let abort = ledger.abort_call(stranger, &a, run.epoch, Abort::Declined(String::new()), at(3)).await;
    assert_eq!(kind(abort), ErrorKind::NotFound);
    assert_eq!(kind(ledger.resume(stranger, t).await), ErrorKind::NotFound);
    let resume = ledger.resume_run(stranger, t, &run.run, Claim::Epoch(run.epoch), None, at(3)).await;
    assert_eq!(kind(resume), ErrorKind::NotFound);
    assert_eq!(kind(ledger.heal(stranger, t, EXPIRED, at(3)).await), ErrorKind::NotFound);
    assert_eq!(ok(ledger.threads().head(&alice(), t).await), before);
    assert_eq!(pending(ledger, &run).await, [a]);
}

/// A run that was asked to stop is not handed on: a sweep ends it as it was asked to.
pub async fn a_run_that_was_asked_to_stop_is_not_resumed(ledger: &Ledger) {
    let run = held(ledger, SHORT).await;
    ok(ledger.runs().request_cancel(&alice(), &run.thread, &run.run, CancelAction::Rollback, at(1)).await);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let next = Some(lease("x", LONG));
    let refused = ledger.resume_run(&alice(), &run.thread, &run.run, EXPIRED, next, at(5)).await;
    assert_eq!(kind(refused), ErrorKind::Cancelled);
    let sweep = Sweep { grace: Duration::ZERO, unleased: None };
    let ended = ok(ledger.claim_expired(&Scope::System, &sweep, at(5)).await).ended;
    assert_eq!(
        ended.iter().map(|claimed| claimed.run.stop_reason.as_deref()).collect::<Vec<_>>(),
        [Some("rolled_back")]
    );
}

/// A thread whose worker is gone amid a batch is healed: its run ends, and each call has what the model is told.
pub async fn a_healed_thread_has_a_legal_history(ledger: &Ledger) {
    let run = held(ledger, SHORT).await;
    asked(ledger, &run, 0, "m", &["a", "b", "c"]).await;
    let a = pending(ledger, &run).await.remove(0);
    ok(ledger.complete_call(&alice(), &a, run.epoch, result(&a, "1"), at(3)).await);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let healed = ok(ledger.heal(&alice(), &run.thread, EXPIRED, at(9)).await);
    let Some(ended) = healed.ended else { panic!("the run had no worker") };
    assert_eq!((ended.run.status, ended.run.finished_at), (RunStatus::Interrupted, Some(at(9))));
    let open: Vec<_> = ended.interrupted.iter().map(|item| item.item_id.as_str()).collect();
    assert_eq!((open, healed.closed, healed.answered), (vec!["b", "c"], vec![], vec![]));
    let legal = [
        said("assistant", &["a", "b", "c"]),
        said("tool", &["a"]),
        said("tool", &["b"]),
        said("tool", &["c"]),
    ];
    assert_eq!(chat(ledger, &run).await, legal);
    let whole = log(ledger, &run.thread).await;
    assert_eq!(ok(ledger.heal(&alice(), &run.thread, EXPIRED, at(10)).await), crate::Healed::default());
    assert_eq!(log(ledger, &run.thread).await, whole);
}

/// Calls that a log has no item of, and items that an ended run left open, get their one end, whoever heals.
pub async fn calls_without_an_item_get_their_end(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a"]).await;
    let a = pending(ledger, &run).await.remove(0);
    ok(ledger.complete_call(&alice(), &a, run.epoch, result(&a, "1"), at(3)).await);
    // As an imported log may have it: a message whose calls were never begun, one without an id among them.
    let mut lone = asking("n", &["x", "y"]);
    let mut message: AgentMessage = ok(lone.content.decode());
    message.tool_calls[1].id = None;
    lone.content = ok(RawJson::encode("content", &message));
    ok(commit(ledger, run.commit(3, vec![lone])).await);
    ok(ledger.finish(&alice(), run.finish(4, Outcome::success())).await);
    // And a record that came late and never ended.
    let late = vec![begun("z", "m"), item("s", ItemKind::Plan, ItemStatus::InProgress, Category::Lifecycle)];
    ok(commit(ledger, run.unmarked(late)).await);
    let next = admit(ledger, &run.thread, "next").await;
    ok(commit(ledger, next.commit(0, batch("o", &["p"]))).await);
    assert_eq!(kind(ledger.heal(&alice(), &run.thread, EXPIRED, at(9)).await), ErrorKind::Conflict);
    finish(ledger, &next, 2).await;
    let heal = |_| {
        let (ledger, thread) = (ledger.clone(), run.thread.clone());
        async move { ledger.heal(&alice(), &thread, EXPIRED, at(9)).await }
    };
    let healed: Vec<_> = all((0..4).map(heal).collect()).await.into_iter().map(ok).collect();
    let mut closed: Vec<_> = healed.iter().flat_map(|healed| &healed.closed).collect();
    closed.sort_by_key(|item| item.started_seq);
    let closed: Vec<_> = closed.iter().map(|item| item.item_id.as_str()).collect();
    assert_eq!(closed, ["z", "s", "p"]);
    assert_eq!(healed.iter().map(|healed| healed.answered.len()).sum::<usize>(), 2);
    assert_eq!(pending(ledger, &run).await, []);
    let legal = [
        said("assistant", &["a"]),
        said("tool", &["a"]),
        said("assistant", &["x", "n/1"]),
        said("tool", &["x"]),
        said("tool", &["n/1"]),
        said("assistant", &["p"]),
        said("tool", &["p"]),
        // Nobody asked for it, so a message that does is made.
        said("assistant", &["z"]),
        said("tool", &["z"]),
    ];
    assert_eq!(chat(ledger, &run).await, legal);
    let whole = log(ledger, &run.thread).await;
    assert_eq!(ok(ledger.heal(&alice(), &run.thread, EXPIRED, at(10)).await), crate::Healed::default());
    assert_eq!(log(ledger, &run.thread).await, whole);
}

/// A thread that somebody works on is not healed.
pub async fn a_held_thread_is_not_healed(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    asked(ledger, &run, 0, "m", &["a"]).await;
    assert_eq!(kind(ledger.heal(&alice(), &run.thread, EXPIRED, at(9)).await), ErrorKind::Conflict);
    assert_eq!(ids(&pending(ledger, &run).await), ["a"]);
}

/// The same with the large texts of its payload kept apart.
fn slim(place: usize, event: EventDraft) -> (EventDraft, Vec<NewBlob>) {
    match offload(&event.content, place, 100) {
        Some((content, blobs)) => (EventDraft { content, ..event }, blobs),
        None => panic!("nothing is large"),
    }
}

/// What a call was asked is what its end says, also where it is kept apart: not how it begins.
pub async fn arguments_kept_apart_stay_whole(ledger: &Ledger) {
    let run = held(ledger, LONG).await;
    let large = json(&format!(r#"{{"patch": "{}"}}"#, "p".repeat(5_000)));
    let call = ok(RawJson::encode("content", &ToolCall::asked("count", large.clone())));
    let message = AgentMessage {
        content: RawJson::string("let me see"),
        tool_calls: ["c1", "c2"]
            .map(|id| ToolRequest { id: Some(id.to_owned()), name: "count".to_owned(), args: large.clone() })
            .into(),
        ..AgentMessage::default()
    };
    let asking = EventDraft { content: ok(RawJson::encode("content", &message)), ..ai("m", "lead_agent") };
    // Of the second one there is no more than the message that asks for it, as in an imported log.
    let (asking, mut blobs) = slim(0, asking);
    let (begun, of_call) = slim(1, EventDraft { content: call, ..begun("c1", "m") });
    blobs.extend(of_call);
    ok(ledger.events().append(&alice(), Commit { blobs, ..run.commit(0, vec![asking, begun]) }).await);

    let calls = pending(ledger, &run).await;
    let found = calls.first().unwrap_or_else(|| panic!("nothing is pending"));
    let whole = async |args: &RawJson| ok(ledger.whole(&alice(), &run.thread, args).await);
    assert_eq!((found.call.name.as_str(), whole(&found.call.args).await), ("count", large.clone()));
    let declined = Abort::Declined("no".to_owned());
    ok(ledger.abort_call(&alice(), found, run.epoch, declined, at(3)).await);
    ok(ledger.heal(&alice(), &run.thread, Claim::Epoch(run.epoch), at(6)).await);
    let ends = results(ledger, &run).await;
    assert_eq!(ends.len(), 2);
    for end in ends {
        let told = ok(ToolCall::read(&end.content));
        assert!(told.args != large && whole(&told.args).await == large, "{:?}", end.item);
    }
    // Each of the four that say it is a reference to what is kept apart.
    let kept = ok(ledger.blobs().list(&alice(), &run.thread, None, 10).await);
    assert_eq!(kept.iter().map(|blob| (blob.bytes, blob.events)).collect::<Vec<_>>(), [(5_000, 4)]);
}
