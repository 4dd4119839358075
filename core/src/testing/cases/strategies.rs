//! What an admission does when the thread's slot is taken, and the queue.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, CancelAction, Cancellation, ErrorKind, Ledger, MultitaskStrategy, NewLease, NewRun, Outcome,
    Run, RunStatus, RunVisibility, Scope, SeqRange, ThreadId, ThreadStatus, Visibility, WorkerId,
};

fn asking(thread: &ThreadId, run: &str, strategy: MultitaskStrategy) -> NewRun {
    let admission = Admission { multitask_strategy: strategy, created_at: at(2), ..Admission::default() };
    NewRun { admission, input: vec![message(run)], ..NewRun::new(thread.clone(), run_id(run)) }
}

async fn ask(ledger: &Ledger, thread: &ThreadId, run: &str, strategy: MultitaskStrategy) -> Run {
    ok(ledger.admit(&Scope::System, asking(thread, run, strategy)).await).run
}

async fn busy(ledger: &Ledger) -> Admitted {
    let run = running(ledger).await;
    ok(commit(ledger, run.start()).await);
    ok(commit(ledger, run.commit(0, vec![message("asked"), tool_started("call")])).await);
    run
}

/// A run that is replaced is interrupted: its open items are closed, its one terminal event is
/// written, and the new run has the slot under a new epoch.
pub async fn an_interrupting_run_takes_the_slot(ledger: &Ledger) {
    let old = busy(ledger).await;
    let new = ask(ledger, &old.thread, "new", MultitaskStrategy::Interrupt).await;
    let ended = run_of(ledger, &old).await;
    assert_eq!((ended.status.as_str(), ended.stop_reason.as_deref()), ("interrupted", Some("replaced")));
    assert_eq!((ended.finished_at, ended.visibility), (Some(at(2)), Visibility::Shown));
    assert_eq!((ended.message_count, ended.last_seq), (2, Some(4)));
    assert_eq!((new.status, new.first_seq), (RunStatus::Pending, Some(5)));
    assert!(new.epoch > ended.epoch);
    let events = log(ledger, &old.thread).await;
    assert_eq!(seqs(&events), [1, 2, 3, 4, 5]);
    let item = ok(ledger.items().get(&Scope::System, &old.thread, &old.run, &item_id("call")).await);
    assert_eq!((item.status.as_str(), item.completed_seq), ("interrupted", Some(3)));
    assert_eq!((events[2].content.as_str(), events[2].category.as_str()), (r#"{"name":"tool"}"#, "message"));
    assert_eq!(events[3].event_type.as_str(), "run.interrupted");
    assert_eq!(events[3].content.as_str(), r#"{"status":"interrupted","stop_reason":"replaced"}"#);
    let head = ok(ledger.threads().head(&Scope::System, &old.thread).await);
    assert_eq!((head.active_run_id, head.next_seq, head.message_count), (Some(new.run_id), 6, 3));
    let thread = ok(ledger.threads().get(&Scope::System, &old.thread).await);
    assert_eq!(thread.status, ThreadStatus::Busy);
    // What the old run still sends is refused, and its own end finds the stored one.
    assert_eq!(kind(commit(ledger, old.commit(2, vec![note("late")])).await), ErrorKind::LeaseLost);
    let finished = ok(ledger.finish(&Scope::System, old.finish(2, Outcome::success())).await);
    assert_eq!((finished.run.status, finished.receipt), (RunStatus::Interrupted, None));
}

/// A run that is rolled back ends as an error, and readers leave it out.
pub async fn a_rolled_back_run_is_hidden(ledger: &Ledger) {
    let old = busy(ledger).await;
    let new = ask(ledger, &old.thread, "new", MultitaskStrategy::Rollback).await;
    let ended = run_of(ledger, &old).await;
    assert_eq!((ended.status.as_str(), ended.stop_reason.as_deref()), ("error", Some("rolled_back")));
    assert_eq!(ended.visibility, Visibility::RolledBack);
    let (scope, t) = (&Scope::System, &old.thread);
    let shown = ok(ledger.events().list_messages(scope, t, RunVisibility::Shown, &SeqRange::default()).await);
    assert_eq!(texts(&shown.items), ["new"]);
    assert_eq!(ok(ledger.events().count_messages(scope, t, RunVisibility::Shown).await), 1);
    assert_eq!(ok(ledger.events().count_messages(scope, t, RunVisibility::All).await), 3);
    assert_eq!(new.status, RunStatus::Pending);
}

/// A refused admission ends nobody's run.
pub async fn a_refused_admission_replaces_nothing(ledger: &Ledger) {
    let old = busy(ledger).await;
    let mut again = asking(&old.thread, "r", MultitaskStrategy::Interrupt);
    assert_eq!(kind(ledger.admit(&Scope::System, again.clone()).await), ErrorKind::AlreadyExists);
    again.run_id = run_id("new");
    again.admission.follow_up_to_run_id = Some(run_id("none"));
    assert_eq!(kind(ledger.admit(&Scope::System, again).await), ErrorKind::NotFound);
    assert_eq!(run_of(ledger, &old).await.status, RunStatus::Running);
    assert_eq!(log(ledger, &old.thread).await.len(), 2);
    let free = thread(ledger, &Scope::System, "free").await;
    for strategy in [MultitaskStrategy::Interrupt, MultitaskStrategy::Rollback, MultitaskStrategy::Enqueue] {
        let run = ask(ledger, &free, strategy.as_str(), strategy.clone()).await;
        let run = Admitted { thread: free.clone(), run: run.run_id, epoch: run.epoch };
        assert_eq!(finish(ledger, &run, 0).await.status, RunStatus::Success);
    }
}

/// Queued runs get the slot in their order, each when the one before it has ended, and bring their input then.
pub async fn queued_runs_are_admitted_in_order(ledger: &Ledger) {
    let first = running(ledger).await;
    for name in ["b", "c"] {
        let run = ask(ledger, &first.thread, name, MultitaskStrategy::Enqueue).await;
        assert_eq!((run.status, run.epoch, run.first_seq), (RunStatus::Queued, 0, None));
    }
    let queued = ok(ledger.runs().get(&Scope::System, &first.thread, &run_id("c")).await);
    assert_eq!(queued.queue_no, Some(2));
    assert_eq!(log(ledger, &first.thread).await, []);
    ok(commit(ledger, first.commit(0, vec![message("a")])).await);
    let mut active = first.clone();
    let mut ordinal = 1;
    for name in ["b", "c"] {
        finish(ledger, &active, ordinal).await;
        let run = ok(ledger.runs().get(&Scope::System, &first.thread, &run_id(name)).await);
        assert_eq!((run.status.as_str(), run.queue_no), ("pending", None));
        let head = ok(ledger.threads().head(&Scope::System, &first.thread).await);
        assert_eq!((head.active_run_id.as_ref(), head.epoch), (Some(&run.run_id), run.epoch));
        assert_eq!(head.journal_ordinal, 0);
        let status = ok(ledger.threads().get(&Scope::System, &first.thread).await).status;
        assert_eq!(status, ThreadStatus::Busy);
        active = Admitted { thread: first.thread.clone(), run: run.run_id, epoch: run.epoch };
        ordinal = 0;
    }
    finish(ledger, &active, 0).await;
    let events = log(ledger, &first.thread).await;
    assert_eq!(texts(&events[..1]), ["a"]);
    assert_eq!(texts(&[events[2].clone(), events[4].clone()]), ["b", "c"]);
    assert_eq!(seqs(&events), [1, 2, 3, 4, 5, 6]);
    let status = ok(ledger.threads().get(&Scope::System, &first.thread).await).status;
    assert_eq!(status, ThreadStatus::Idle);
    let counted = ok(ledger.threads().head(&Scope::System, &first.thread).await).message_count;
    assert_eq!(counted, 3);
}

/// A queued run whose slot came free works as any other.
pub async fn a_promoted_run_is_acquired_once(ledger: &Ledger) {
    let first = running(ledger).await;
    ask(ledger, &first.thread, "b", MultitaskStrategy::Enqueue).await;
    let lease = |worker: &str| NewLease {
        worker_id: ok(WorkerId::new(worker)),
        ttl: std::time::Duration::from_secs(600),
    };
    let (scope, b) = (&Scope::System, &run_id("b"));
    let early = ledger.acquire(scope, &first.thread, b, lease("w"), at(3)).await;
    assert_eq!(kind(early), ErrorKind::Conflict);
    finish(ledger, &first, 0).await;
    let promoted = ok(ledger.runs().get(scope, &first.thread, b).await);
    let acquired = ok(ledger.acquire(scope, &first.thread, b, lease("w"), at(3)).await);
    assert!(acquired.epoch > promoted.epoch);
    assert_eq!(kind(ledger.acquire(scope, &first.thread, b, lease("x"), at(4)).await), ErrorKind::Conflict);
    let held = ok(ledger.runs().lease(scope, &first.thread, b).await);
    assert_eq!(
        held.map(|held| (held.worker_id.to_string(), held.epoch)),
        Some(("w".to_owned(), acquired.epoch))
    );
    let run = Admitted { thread: first.thread.clone(), run: b.clone(), epoch: acquired.epoch };
    ok(commit(ledger, run.start()).await);
    assert_eq!(finish(ledger, &run, 0).await.epoch, acquired.epoch);
}

/// A queued run that asked for a lease gets it with the slot; until then it has none to renew or to lose.
pub async fn a_promoted_run_is_held_by_who_asked(ledger: &Ledger) {
    let first = running(ledger).await;
    let mut new = asking(&first.thread, "b", MultitaskStrategy::Enqueue);
    let ttl = std::time::Duration::from_secs(600);
    new.admission.lease = Some(NewLease { worker_id: ok(WorkerId::new("w")), ttl });
    ok(ledger.admit(&Scope::System, new).await);
    let (scope, b) = (&Scope::System, &run_id("b"));
    assert_eq!(ok(ledger.runs().lease(scope, &first.thread, b).await), None);
    assert_eq!(ok(ledger.runs().renew_leases(scope, &ok(WorkerId::new("w")), ttl).await), []);
    finish(ledger, &first, 0).await;
    let promoted = ok(ledger.runs().get(scope, &first.thread, b).await);
    let renewed = ok(ledger.runs().renew_leases(scope, &ok(WorkerId::new("w")), ttl).await);
    let held: Vec<_> = renewed.iter().map(|lease| (lease.run_id.as_str(), lease.epoch)).collect();
    assert_eq!(held, [("b", promoted.epoch)]);
    let other = NewLease { worker_id: ok(WorkerId::new("x")), ttl };
    assert_eq!(kind(ledger.acquire(scope, &first.thread, b, other, at(3)).await), ErrorKind::Conflict);
}

/// A queued run may be cancelled, or deleted, and the queue goes on without it.
pub async fn a_queued_run_is_cancelled(ledger: &Ledger) {
    let first = running(ledger).await;
    for name in ["b", "c", "d"] {
        ask(ledger, &first.thread, name, MultitaskStrategy::Enqueue).await;
    }
    let (scope, t) = (&Scope::System, &first.thread);
    let ended = ok(ledger.cancel(scope, t, &run_id("b"), CancelAction::Interrupt, at(3)).await);
    let Cancellation::Ended(ended) = ended else { panic!("{ended:?}") };
    assert_eq!((ended.run.status.as_str(), ended.run.queue_no), ("interrupted", None));
    assert_eq!(ok(ledger.threads().head(scope, t).await).active_run_id.as_ref(), Some(&first.run));
    assert_eq!(ok(ledger.events().delete_by_run(scope, t, &run_id("c")).await).runs, 1);
    finish(ledger, &first, 0).await;
    let head = ok(ledger.threads().head(scope, t).await);
    assert_eq!(head.active_run_id, Some(run_id("d")));
    assert_eq!(log(ledger, t).await.last().map(|event| event.run_id.clone()), Some(Some(run_id("d"))));
}

/// A run that takes the slot leaves the queue as it is.
pub async fn the_queue_waits_behind_a_replacing_run(ledger: &Ledger) {
    let first = running(ledger).await;
    ask(ledger, &first.thread, "b", MultitaskStrategy::Enqueue).await;
    let new = ask(ledger, &first.thread, "c", MultitaskStrategy::Interrupt).await;
    let (scope, t) = (&Scope::System, &first.thread);
    assert_eq!(ok(ledger.runs().get(scope, t, &run_id("b")).await).status, RunStatus::Queued);
    finish(ledger, &Admitted { thread: t.clone(), run: new.run_id, epoch: new.epoch }, 0).await;
    assert_eq!(ok(ledger.threads().head(scope, t).await).active_run_id, Some(run_id("b")));
}

/// A run that waits has no events before its input: a once key of that is still unused when it gets the slot.
pub async fn nothing_is_appended_to_a_run_that_waits(ledger: &Ledger) {
    let first = running(ledger).await;
    let mut new = asking(&first.thread, "b", MultitaskStrategy::Enqueue);
    new.input[0].once_key = Some("k".to_owned());
    ok(ledger.admit(&Scope::System, new).await);
    let (scope, t, b) = (&Scope::System, &first.thread, &run_id("b"));
    let waiting = Admitted { thread: t.clone(), run: b.clone(), epoch: 0 };
    let keyed = crate::EventDraft { once_key: Some("k".to_owned()), ..note("early") };
    let put = ledger.events().put_if_absent(scope, t, b, keyed.clone()).await;
    assert_eq!(kind(put), ErrorKind::Conflict);
    assert_eq!(kind(commit(ledger, waiting.unmarked(vec![note("early")])).await), ErrorKind::Conflict);
    finish(ledger, &first, 0).await;
    let promoted = ok(ledger.runs().get(scope, t, b).await);
    assert_eq!((promoted.status, promoted.message_count), (RunStatus::Pending, 1));
    let put = ok(ledger.events().put_if_absent(scope, t, b, keyed).await);
    assert_eq!((put.created, texts(&[put.event])), (false, vec!["b".to_owned()]));
}

/// An input that waits comes back whole, so one that could not is refused before it waits.
pub async fn an_input_that_is_not_json_does_not_wait(ledger: &Ledger) {
    let first = running(ledger).await;
    let mut new = asking(&first.thread, "b", MultitaskStrategy::Enqueue);
    new.input[0].content = crate::RawJson::from_stored("not json");
    assert_eq!(kind(ledger.admit(&Scope::System, new).await), ErrorKind::InvalidInput);
    finish(ledger, &first, 0).await;
    assert_eq!(ok(ledger.threads().head(&Scope::System, &first.thread).await).active_run_id, None);
}

/// An idempotency key stands for a queued run, too.
pub async fn a_queued_run_keeps_its_key(ledger: &Ledger) {
    let first = running(ledger).await;
    let mut new = asking(&first.thread, "b", MultitaskStrategy::Enqueue);
    new.admission.idempotency_key = Some("k".to_owned());
    assert!(ok(ledger.admit(&Scope::System, new.clone()).await).created);
    new.run_id = run_id("c");
    let again = ok(ledger.admit(&Scope::System, new).await);
    assert_eq!((again.created, again.run.run_id.as_str()), (false, "b"));
}
