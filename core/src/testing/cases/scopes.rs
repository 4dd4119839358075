//! Who sees what.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, CancelAction, Capability, Claim, Commit, ErrorKind, EventDraft, EventFilter, ItemFilter,
    Ledger, ListRange, NewLease, NewRun, NewThread, Outcome, RunFilter, RunVisibility, Scope, SeqRange,
    ThreadFilter, ThreadPatch, Visibility, WorkerId,
};

/// A new thread is stamped with the scope's owner.
pub async fn a_thread_is_stamped_with_its_owner(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    assert_eq!(ok(ledger.threads().get(&alice(), &t).await).owner_id.as_ref(), alice().owner());
    assert_eq!(ok(ledger.threads().head(&Scope::System, &t).await).owner_id.as_ref(), alice().owner());
}

/// Only the system makes a thread for somebody.
pub async fn an_owner_makes_no_thread_for_another(ledger: &Ledger) {
    let for_alice = || NewThread { owner_id: alice().owner().cloned(), ..NewThread::new(thread_id("t")) };
    assert_eq!(kind(ledger.threads().create(&mallory(), for_alice()).await), ErrorKind::InvalidInput);
    ok(ledger.threads().create(&Scope::System, for_alice()).await);
    ok(ledger.threads().get(&alice(), &thread_id("t")).await);
}

/// A thread without an owner is the system's.
pub async fn a_thread_without_owner_is_the_systems(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    assert_eq!(kind(ledger.threads().get(&alice(), &t).await), ErrorKind::NotFound);
    let listed = ok(ledger.threads().list(&alice(), &ThreadFilter::default(), &ListRange::default()).await);
    assert_eq!(listed.items, []);
    ok(ledger.threads().get(&Scope::System, &t).await);
}

/// An id that somebody else holds is taken, and nothing of the other thread is told.
pub async fn a_foreign_id_is_taken(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let error = refused(ledger.threads().create(&mallory(), NewThread::new(t)).await);
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(!error.to_string().contains("alice"), "{error}");
}

/// Lists show what the scope owns.
pub async fn lists_show_what_is_owned(ledger: &Ledger) {
    for (scope, id) in [(alice(), "a1"), (mallory(), "m1"), (alice(), "a2")] {
        let t = thread(ledger, &scope, id).await;
        let run = admit(ledger, &t, &format!("run-{id}")).await;
        end(ledger, &run, 0).await;
    }
    let threads = ok(ledger.threads().list(&alice(), &ThreadFilter::default(), &ListRange::default()).await);
    assert_eq!(threads.items.iter().map(|t| t.thread_id.as_str()).collect::<Vec<_>>(), ["a2", "a1"]);
    if ledger.capabilities().runs {
        let runs = ok(ledger.runs().list(&mallory(), &RunFilter::default(), &ListRange::default()).await);
        assert_eq!(runs.items.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["run-m1"]);
    }
    let all =
        ok(ledger.threads().list(&Scope::System, &ThreadFilter::default(), &ListRange::default()).await);
    assert_eq!(all.items.len(), 3);
}

/// A run that an admission points to must be the thread's own.
pub async fn runs_pointed_to_must_be_the_threads_own(ledger: &Ledger) {
    let theirs = admit(ledger, &thread(ledger, &alice(), "a").await, "r").await;
    let mine = thread(ledger, &mallory(), "m").await;
    for admission in [
        Admission { follow_up_to_run_id: Some(theirs.run.clone()), ..Admission::default() },
        Admission { parent_run_id: Some(theirs.run.clone()), ..Admission::default() },
    ] {
        let new = NewRun { admission, ..NewRun::new(mine.clone(), run_id("x")) };
        assert_eq!(kind(ledger.admit(&mallory(), new).await), ErrorKind::NotFound);
    }
    assert_eq!(ok(ledger.threads().head(&mallory(), &mine).await).active_run_id, None);
}

/// A refused stranger changes nothing.
pub async fn a_stranger_changes_nothing(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let before = ok(ledger.threads().get(&alice(), &t).await);
    let stray = Commit::new(t.clone()).with_events(vec![note("x")]);
    assert_eq!(kind(ledger.events().append(&mallory(), stray).await), ErrorKind::NotFound);
    let patch = ThreadPatch { metadata: Some(json(r#"{"x":1}"#)), ..ThreadPatch::default() };
    assert_eq!(kind(ledger.threads().update(&mallory(), &t, patch, at(5)).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.threads().delete(&mallory(), &t).await), ErrorKind::NotFound);
    assert_eq!(ok(ledger.threads().get(&alice(), &t).await), before);
    assert_eq!(log(ledger, &t).await, []);
}

/// The system moves a thread, and its runs and usage go along.
pub async fn the_system_moves_a_thread(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let (run, has) = (admit(ledger, &t, "r").await, ledger.capabilities());
    let mut batch = run.commit(0, vec![note("a")]);
    if has.usage {
        batch.usage.push(call("c", crate::TokenCounts::of(1, 1)));
    }
    ok(commit(ledger, batch).await);
    let to = mallory().owner().cloned();
    assert_eq!(kind(ledger.threads().set_owner(&alice(), &t, to.clone()).await), ErrorKind::InvalidInput);
    ok(ledger.threads().set_owner(&Scope::System, &t, to.clone()).await);
    assert_eq!(kind(ledger.threads().get(&alice(), &t).await), ErrorKind::NotFound);
    assert_eq!(ok(ledger.threads().head(&mallory(), &t).await).owner_id, to);
    if has.runs {
        assert_eq!(ok(ledger.runs().find(&mallory(), &run.run).await).owner_id, to);
    }
    if has.usage {
        let calls = ok(ledger.usage().list_by_run(&mallory(), &t, &run.run, None, 10).await);
        assert_eq!(calls.first().map(|call| call.owner_id.clone()), Some(to));
    }
    ok(ledger.threads().set_owner(&Scope::System, &t, None).await);
    assert_eq!(kind(ledger.threads().get(&mallory(), &t).await), ErrorKind::NotFound);
}

/// Every call about somebody else's thread is refused as if there were none.
pub async fn every_call_of_a_stranger_is_refused(ledger: &Ledger) {
    let run = admit(ledger, &thread(ledger, &alice(), "t").await, "r").await;
    let mut batch = run.commit(0, vec![message("m"), tool_started("i")]);
    if ledger.capabilities().usage {
        batch.usage.push(call("c", crate::TokenCounts::of(1, 1)));
    }
    ok(commit(ledger, batch).await);
    let (scope, t, r, page) = (&mallory(), &run.thread, &run.run, &SeqRange::default());
    let lease = NewLease { worker_id: ok(WorkerId::new("w")), ttl: std::time::Duration::from_secs(1) };
    let once = EventDraft { once_key: Some("k".to_owned()), ..note("x") };
    let of_thread = RunFilter { thread_id: Some(t.clone()), ..RunFilter::default() };
    let (threads, runs, events) = (ledger.threads(), ledger.runs(), ledger.events());
    let (items, usage) = (ledger.items(), ledger.usage());
    let answers = [
        ("get", kind(threads.get(scope, t).await)),
        ("head", kind(threads.head(scope, t).await)),
        ("update", kind(threads.update(scope, t, ThreadPatch::default(), at(1)).await)),
        ("delete", kind(threads.delete(scope, t).await)),
        ("runs.get", kind(runs.get(scope, t, r).await)),
        ("runs.find", kind(runs.find(scope, r).await)),
        ("runs.find_by_idempotency_key", kind(runs.find_by_idempotency_key(scope, t, "k").await)),
        ("runs.list", kind(runs.list(scope, &of_thread, &ListRange::default()).await)),
        ("append", kind(events.append(scope, run.commit(2, vec![note("x")])).await)),
        ("put_if_absent", kind(events.put_if_absent(scope, t, r, once).await)),
        ("list_messages", kind(events.list_messages(scope, t, RunVisibility::All, page).await)),
        ("list_messages_by_run", kind(events.list_messages_by_run(scope, t, r, page).await)),
        ("list_events", kind(events.list_events(scope, t, &EventFilter::of_run(r.clone()), page).await)),
        ("count_messages", kind(events.count_messages(scope, t, RunVisibility::All).await)),
        ("last_visible", kind(events.last_visible_ai_seq_by_run(scope, t, std::slice::from_ref(r)).await)),
        ("delete_by_thread", kind(events.delete_by_thread(scope, t).await)),
        ("delete_by_run", kind(events.delete_by_run(scope, t, r).await)),
        ("items.get", kind(items.get(scope, t, r, &item_id("i")).await)),
        ("items.list", kind(items.list(scope, t, &ItemFilter::default(), page).await)),
        ("usage.list_by_run", kind(usage.list_by_run(scope, t, r, None, 10).await)),
        ("usage.by_run", kind(usage.by_run(scope, t, r).await)),
        ("set_visibility", kind(runs.set_visibility(scope, t, r, Visibility::Shown).await)),
        ("rewind", kind(runs.rewind(scope, t, r).await)),
        ("lease", kind(runs.lease(scope, t, r).await)),
        ("request_cancel", kind(runs.request_cancel(scope, t, r, CancelAction::Interrupt, at(1)).await)),
        (
            "interrupt",
            kind(ledger.interrupt(scope, t, r, Claim::Epoch(run.epoch), Outcome::success(), at(1)).await),
        ),
        ("acquire", kind(ledger.acquire(scope, t, r, lease, at(1)).await)),
        ("usage.by_thread", kind(usage.by_thread(scope, t, true).await)),
    ];
    let everywhere = ["get", "head", "update", "delete", "append", "put_if_absent", "list_messages"]
        .into_iter()
        .chain(["list_messages_by_run", "list_events", "count_messages", "last_visible"])
        .chain(["delete_by_thread", "delete_by_run"]);
    let everywhere: Vec<&str> = everywhere.collect();
    let all = ledger.capabilities().cover(Capability::ALL);
    for (call, answer) in answers {
        // What a backend does for nobody it may refuse as that.
        let lacking = !all && !everywhere.contains(&call) && answer == ErrorKind::Unsupported;
        assert!(answer == ErrorKind::NotFound || lacking, "{call}: {answer:?}");
    }
    assert_eq!(log(ledger, t).await.len(), 2);
}

/// A stranger takes no slot, not even by asking to create the thread, and ends nobody's run.
pub async fn a_stranger_neither_admits_nor_ends_a_run(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let creating = |run| NewRun {
        create_missing: Some(NewThread::new(t.clone())),
        admission: Admission { idempotency_key: Some("k".to_owned()), ..Admission::default() },
        ..NewRun::new(t.clone(), run_id(run))
    };
    assert_eq!(kind(ledger.admit(&mallory(), creating("theirs")).await), ErrorKind::NotFound);
    let run = ok(ledger.admit(&alice(), creating("mine")).await).run;
    let admitted = Admitted { thread: t.clone(), run: run.run_id.clone(), epoch: run.epoch };
    let end = admitted.finish(0, crate::Outcome::success());
    assert_eq!(kind(ledger.finish(&mallory(), end).await), ErrorKind::NotFound);
    assert_eq!(run_of(ledger, &admitted).await, run);
}
