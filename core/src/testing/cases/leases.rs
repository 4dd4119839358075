//! Leases: renewal, cancellation, takeover.

use std::time::Duration;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, CancelAction, Cancellation, Claim, ErrorKind, EventFilter, Ledger, NewLease, NewRun, Outcome,
    RunStatus, Scope, SeqRange, Sweep, ThreadStatus, Visibility, WorkerId,
};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_micros(1);
const EXPIRED: Sweep = Sweep { grace: Duration::ZERO, unleased: None };

fn worker(name: &str) -> WorkerId {
    ok(WorkerId::new(name))
}

async fn leased(ledger: &Ledger, thread: &str, by: &str, ttl: Duration) -> Admitted {
    let t = crate::testing::build::thread(ledger, &alice(), thread).await;
    let lease = Some(NewLease { worker_id: worker(by), ttl });
    let new = NewRun {
        admission: Admission { lease, created_at: at(0), ..Admission::default() },
        ..NewRun::new(t.clone(), run_id("r"))
    };
    let run = ok(ledger.admit(&alice(), new).await).run;
    Admitted { thread: t, run: run.run_id, epoch: run.epoch }
}

/// Waits until a lease of a microsecond has ended by the database's clock.
async fn past() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// A lease comes with the admission and goes with the end.
pub async fn a_lease_lasts_as_long_as_its_run(ledger: &Ledger) {
    let run = leased(ledger, "t", "w", LONG).await;
    let lease = ok(ledger.runs().lease(&alice(), &run.thread, &run.run).await);
    let lease = lease.map(|lease| (lease.worker_id, lease.epoch, lease.cancel_action));
    assert_eq!(lease, Some((worker("w"), run.epoch, None)));
    finish(ledger, &run, 0).await;
    assert_eq!(ok(ledger.runs().lease(&alice(), &run.thread, &run.run).await), None);
    let missing = ledger.runs().lease(&alice(), &run.thread, &run_id("none")).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
}

/// A lease that lasts no time, or a day and more, is refused.
pub async fn a_lease_needs_a_length(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    for ttl in [Duration::ZERO, Duration::from_secs(90_000)] {
        let lease = Some(NewLease { worker_id: worker("w"), ttl });
        let admission = Admission { lease, ..Admission::default() };
        let new = NewRun { admission, ..NewRun::new(t.clone(), run_id("r")) };
        assert_eq!(kind(ledger.admit(&Scope::System, new).await), ErrorKind::InvalidInput);
        let renewed = ledger.runs().renew_leases(&Scope::System, &worker("w"), ttl).await;
        assert_eq!(kind(renewed), ErrorKind::InvalidInput);
    }
}

/// One heartbeat renews all runs of a worker and nobody else's.
pub async fn a_heartbeat_renews_a_workers_runs(ledger: &Ledger) {
    let (a, b) = (leased(ledger, "a", "w", SHORT).await, leased(ledger, "b", "w", SHORT).await);
    let other = leased(ledger, "c", "x", SHORT).await;
    past().await;
    let renewed = ok(ledger.runs().renew_leases(&Scope::System, &worker("w"), LONG).await);
    let mut held: Vec<_> = renewed.iter().map(|lease| (lease.thread_id.as_str(), lease.epoch)).collect();
    held.sort_unstable();
    assert_eq!(held, [("a", a.epoch), ("b", b.epoch)]);
    let ended = ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended;
    assert_eq!(ended.iter().map(|claimed| &claimed.run.thread_id).collect::<Vec<_>>(), [&other.thread]);
    assert_eq!(ok(ledger.runs().renew_leases(&Scope::System, &worker("x"), LONG).await), []);
}

/// Leases of a worker are the system's business.
pub async fn leases_are_the_systems(ledger: &Ledger) {
    leased(ledger, "t", "w", SHORT).await;
    let runs = ledger.runs();
    assert_eq!(kind(runs.renew_leases(&alice(), &worker("w"), LONG).await), ErrorKind::InvalidInput);
    assert_eq!(kind(runs.list_claimable(&alice(), &EXPIRED, 10).await), ErrorKind::InvalidInput);
    assert_eq!(kind(ledger.claim_expired(&alice(), &EXPIRED, at(1)).await), ErrorKind::InvalidInput);
}

/// A run whose lease has ended is ended: open items closed, one terminal event, the thread free.
pub async fn an_expired_run_is_taken_over(ledger: &Ledger) {
    let run = leased(ledger, "t", "w", SHORT).await;
    ok(commit(ledger, run.start()).await);
    let open = vec![
        message("m"),
        tool_started("a"),
        tool_started("b"),
        tool_ended("a", crate::ItemStatus::Completed),
    ];
    ok(commit(ledger, run.commit(0, open)).await);
    past().await;
    let ended = ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended;
    let [claimed] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!((claimed.run.status.as_str(), claimed.run.finished_at), ("interrupted", Some(at(9))));
    assert_eq!(claimed.run.stop_reason.as_deref(), Some("lease_expired"));
    let open: Vec<_> = claimed.interrupted.iter().map(|item| item.item_id.as_str()).collect();
    assert_eq!(open, ["b"]);
    let events = log(ledger, &run.thread).await;
    assert_eq!(seqs(&events), [1, 2, 3, 4, 5, 6]);
    assert_eq!(events.last().map(|event| event.event_type.as_str()), Some("run.interrupted"));
    let thread = ok(ledger.threads().get(&alice(), &run.thread).await);
    assert_eq!((thread.status, thread.updated_at), (ThreadStatus::Interrupted, at(9)));
    assert_eq!(ok(ledger.threads().head(&alice(), &run.thread).await).active_run_id, None);
    assert_eq!(kind(commit(ledger, run.commit(4, vec![note("late")])).await), ErrorKind::LeaseLost);
    assert_eq!(ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended, []);
}

/// A lease that lasts is left alone, and so is one that has only just ended.
pub async fn a_held_run_is_left_alone(ledger: &Ledger) {
    let held = leased(ledger, "held", "w", LONG).await;
    let late = leased(ledger, "late", "x", SHORT).await;
    past().await;
    let patient = Sweep { grace: LONG, unleased: None };
    assert_eq!(ok(ledger.claim_expired(&Scope::System, &patient, at(9)).await).ended, []);
    for (run, claim) in [
        (&held, Claim::Expired { grace: Duration::ZERO }),
        (&late, Claim::Expired { grace: LONG }),
        (&held, Claim::Unleased { idle: Duration::ZERO }),
        (&held, Claim::Epoch(held.epoch + 1)),
    ] {
        let outcome = Outcome::interrupted("test");
        let refused = ledger.interrupt(&Scope::System, &run.thread, &run.run, claim, outcome, at(9)).await;
        assert_eq!(kind(refused), ErrorKind::Conflict, "{claim:?}");
    }
    assert_eq!(log(ledger, &held.thread).await, []);
}

/// Whoever is to be left alone for ever is.
pub async fn a_grace_without_end_ends_nobody(ledger: &Ledger) {
    let late = leased(ledger, "late", "x", SHORT).await;
    let bare = running(ledger).await;
    past().await;
    let never = Sweep { grace: Duration::MAX, unleased: Some(Duration::MAX) };
    let swept = ok(ledger.claim_expired(&Scope::System, &never, at(9)).await);
    assert_eq!((swept.ended, swept.failed.len()), (vec![], 0));
    for (run, claim) in
        [(&late, Claim::Expired { grace: never.grace }), (&bare, Claim::Unleased { idle: Duration::MAX })]
    {
        let outcome = Outcome::interrupted("test");
        let refused = ledger.interrupt(&Scope::System, &run.thread, &run.run, claim, outcome, at(9)).await;
        assert_eq!(kind(refused), ErrorKind::Conflict, "{claim:?}");
    }
}

/// A run without a lease is ended only by who says so.
pub async fn a_run_without_a_lease_is_taken_over_on_request(ledger: &Ledger) {
    let run = running(ledger).await;
    assert_eq!(ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended, []);
    let lately = Sweep { unleased: Some(LONG), ..EXPIRED };
    assert_eq!(ok(ledger.claim_expired(&Scope::System, &lately, at(9)).await).ended, []);
    let all = Sweep { unleased: Some(Duration::ZERO), ..EXPIRED };
    let ended = ok(ledger.claim_expired(&Scope::System, &all, at(9)).await).ended;
    assert_eq!(ended.iter().map(|claimed| &claimed.run.run_id).collect::<Vec<_>>(), [&run.run]);
}

/// Many sweepers: each run has one winner.
pub async fn each_expired_run_has_one_sweeper(ledger: &Ledger) {
    for number in 0..12 {
        leased(ledger, &format!("t{number}"), "w", SHORT).await;
    }
    past().await;
    let sweeps: Vec<_> = (0..8)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended })
        })
        .collect();
    let mut ended = Vec::new();
    for sweep in sweeps {
        match sweep.await {
            Ok(claimed) => ended.extend(claimed.into_iter().map(|claimed| claimed.run.thread_id.to_string())),
            Err(error) => panic!("a sweeper failed: {error}"),
        }
    }
    ended.sort();
    let mut all: Vec<_> = (0..12).map(|number| format!("t{number}")).collect();
    all.sort();
    assert_eq!(ended, all);
    for name in all {
        let events = log(ledger, &thread_id(&name)).await;
        assert_eq!(events.len(), 1, "{name}");
    }
}

/// A heartbeat and sweepers race: a run that was renewed is never ended, one that was ended is not renewed.
pub async fn a_renewal_and_a_takeover_exclude_each_other(ledger: &Ledger) {
    for round in 0..20 {
        let run = leased(ledger, &format!("t{round}"), &format!("w{round}"), SHORT).await;
        past().await;
        let (heart, sweeper) = (ledger.clone(), ledger.clone());
        let name = worker(&format!("w{round}"));
        let renewal =
            tokio::spawn(async move { heart.runs().renew_leases(&Scope::System, &name, LONG).await });
        let sweep = tokio::spawn(async move { sweeper.claim_expired(&Scope::System, &EXPIRED, at(9)).await });
        let (renewed, ended) = match (renewal.await, sweep.await) {
            (Ok(renewed), Ok(swept)) => (ok(renewed).len(), ok(swept).ended.len()),
            (renewal, sweep) => panic!("a task failed: {renewal:?} {sweep:?}"),
        };
        assert_eq!(renewed + ended, 1, "round {round}");
        let active = ok(ledger.threads().head(&Scope::System, &run.thread).await).active_run_id;
        assert_eq!(active.is_some(), renewed == 1);
    }
}

/// Whoever asks first says what a run becomes; its worker learns of it with its next heartbeat.
pub async fn the_first_cancel_holds(ledger: &Ledger) {
    let run = leased(ledger, "t", "w", LONG).await;
    let (scope, t, r) = (&alice(), &run.thread, &run.run);
    for action in [CancelAction::Rollback, CancelAction::Interrupt] {
        let asked = ok(ledger.cancel(scope, t, r, action, at(3)).await);
        let Cancellation::Requested(lease) = asked else { panic!("{asked:?}") };
        assert_eq!(
            (lease.cancel_action, lease.cancel_requested_at),
            (Some(CancelAction::Rollback), Some(at(3)))
        );
    }
    let renewed = ok(ledger.runs().renew_leases(&Scope::System, &worker("w"), LONG).await);
    let actions: Vec<_> = renewed.into_iter().map(|lease| lease.cancel_action).collect();
    assert_eq!(actions, [Some(CancelAction::Rollback)]);
    ok(commit(ledger, run.commit(0, vec![message("still writing")])).await);
    assert_eq!(
        kind(ledger.cancel(&mallory(), t, r, CancelAction::Interrupt, at(4)).await),
        ErrorKind::NotFound
    );
}

/// A run that was asked to stop ends as asked, with the events and the usage that its end brings.
pub async fn a_cancelled_run_ends_as_asked(ledger: &Ledger) {
    for (action, status, reason, shown) in [
        (CancelAction::Interrupt, "interrupted", "cancelled", Visibility::Shown),
        (CancelAction::Rollback, "error", "rolled_back", Visibility::RolledBack),
    ] {
        let run = leased(ledger, action.as_str(), "w", LONG).await;
        ok(ledger.cancel(&alice(), &run.thread, &run.run, action.clone(), at(3)).await);
        let mut end = run.finish(0, Outcome::success());
        end.events.insert(0, message("last words"));
        end.usage.push(call("c", crate::TokenCounts::of(5, 6)));
        let finished = ok(ledger.finish(&alice(), end.clone()).await);
        assert_eq!(
            (finished.run.status.as_str(), finished.run.stop_reason.as_deref()),
            (status, Some(reason))
        );
        assert_eq!((finished.run.visibility.clone(), finished.run.totals.total_tokens), (shown, 11));
        assert_eq!(finished.receipt.map(|receipt| receipt.seqs), Some(vec![1, 2]));
        let events = log(ledger, &run.thread).await;
        let types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
        assert_eq!(types, ["note", if status == "error" { "run.failed" } else { "run.interrupted" }]);
        // The answer was lost: the same end is answered as it was stored.
        let again = ok(ledger.finish(&alice(), end).await);
        assert_eq!(
            again.receipt.map(|receipt| (receipt.seqs, receipt.already_stored)),
            Some((vec![1, 2], 2))
        );
        let cancelled = ok(ledger.cancel(&alice(), &run.thread, &run.run, action, at(4)).await);
        assert!(
            matches!(cancelled, Cancellation::AlreadyEnded(run) if run.finished_at == finished.run.finished_at)
        );
    }
}

/// A run that nobody holds is ended by the request itself.
pub async fn a_run_that_nobody_holds_is_ended_by_the_request(ledger: &Ledger) {
    let bare = running(ledger).await;
    let ended =
        ok(ledger.cancel(&Scope::System, &bare.thread, &bare.run, CancelAction::Interrupt, at(3)).await);
    assert!(matches!(ended, Cancellation::Ended(claimed) if claimed.run.status == RunStatus::Interrupted));
    assert_eq!(kind(commit(ledger, bare.commit(0, vec![note("late")])).await), ErrorKind::LeaseLost);
    let gone = leased(ledger, "gone", "w", SHORT).await;
    past().await;
    let ended = ok(ledger.cancel(&alice(), &gone.thread, &gone.run, CancelAction::Rollback, at(3)).await);
    assert!(
        matches!(ended, Cancellation::Ended(claimed) if claimed.run.visibility == Visibility::RolledBack)
    );
}

/// Many ask at once, and the worker ends it meanwhile: one terminal event, and everybody is told the truth.
pub async fn cancels_and_the_end_meet(ledger: &Ledger) {
    let run = leased(ledger, "t", "w", LONG).await;
    let asking: Vec<_> = (0..8)
        .map(|number| {
            let (ledger, run) = (ledger.clone(), run.clone());
            let action = if number % 2 == 0 { CancelAction::Interrupt } else { CancelAction::Rollback };
            tokio::spawn(async move { ledger.cancel(&alice(), &run.thread, &run.run, action, at(3)).await })
        })
        .collect();
    let finished = ok(ledger.finish(&alice(), run.finish(0, Outcome::success())).await).run;
    let mut asked = Vec::new();
    for task in asking {
        match task.await.map(ok) {
            Ok(Cancellation::Requested(lease)) => asked.extend(lease.cancel_action),
            Ok(Cancellation::AlreadyEnded(run)) => assert_eq!(run.status, finished.status),
            other => panic!("{other:?}"),
        }
    }
    asked.dedup();
    match asked.as_slice() {
        // Asked or not: the run may have ended as asked before whoever asked looked again.
        [] => {
            let asked = [CancelAction::Interrupt, CancelAction::Rollback].map(|action| action.outcome());
            let ended = asked.iter().any(|asked| finished.ended_as(asked));
            assert!(ended || finished.status == RunStatus::Success, "{finished:?}");
        }
        [action] => assert!(finished.ended_as(&action.outcome()), "{finished:?}"),
        several => panic!("{several:?}"),
    }
    let all = EventFilter::of_run(run.run.clone());
    let page = ok(ledger.events().list_events(&alice(), &run.thread, &all, &SeqRange::default()).await);
    assert_eq!(page.items.len(), 1);
}

/// What a sweep ends of a run that was asked to stop is ended as asked.
pub async fn a_sweep_ends_as_asked(ledger: &Ledger) {
    let run = leased(ledger, "t", "w", LONG).await;
    ok(ledger.cancel(&alice(), &run.thread, &run.run, CancelAction::Rollback, at(3)).await);
    ok(ledger.runs().renew_leases(&Scope::System, &worker("w"), SHORT).await);
    past().await;
    let ended = ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended;
    assert_eq!(
        ended.iter().map(|claimed| claimed.run.visibility.clone()).collect::<Vec<_>>(),
        [Visibility::RolledBack]
    );
}

/// What ends a run from outside ends it as it was asked to: the first action holds, whoever comes then.
pub async fn a_replaced_run_ends_as_it_was_asked_to(ledger: &Ledger) {
    for number in 0..2 {
        let run = leased(ledger, &format!("t{number}"), "w", LONG).await;
        let asked = ledger.cancel(&alice(), &run.thread, &run.run, CancelAction::Rollback, at(3)).await;
        assert!(matches!(ok(asked), Cancellation::Requested(_)));
        if number == 0 {
            let admission =
                Admission { multitask_strategy: crate::MultitaskStrategy::Interrupt, ..Admission::default() };
            let new = NewRun { admission, ..NewRun::new(run.thread.clone(), run_id("b")) };
            ok(ledger.admit(&alice(), new).await);
        } else {
            let (claim, outcome) = (Claim::Epoch(run.epoch), Outcome::interrupted("shutdown"));
            ok(ledger.interrupt(&Scope::System, &run.thread, &run.run, claim, outcome, at(4)).await);
        }
        let ended = run_of(ledger, &run).await;
        assert!(ended.ended_as(&Outcome::rolled_back()), "{ended:?}");
        assert_eq!(ended.visibility, Visibility::RolledBack);
        assert_eq!(log(ledger, &run.thread).await[0].event_type.as_str(), "run.failed");
    }
}

/// A takeover gives the slot to the next in the queue.
pub async fn a_takeover_promotes_the_queue(ledger: &Ledger) {
    let run = leased(ledger, "t", "w", SHORT).await;
    let admission =
        Admission { multitask_strategy: crate::MultitaskStrategy::Enqueue, ..Admission::default() };
    let new = NewRun { admission, input: vec![message("b")], ..NewRun::new(run.thread.clone(), run_id("b")) };
    ok(ledger.admit(&alice(), new).await);
    past().await;
    assert_eq!(ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended.len(), 1);
    let head = ok(ledger.threads().head(&alice(), &run.thread).await);
    assert_eq!((head.active_run_id, head.next_seq), (Some(run_id("b")), 3));
    assert_eq!(ok(ledger.claim_expired(&Scope::System, &EXPIRED, at(9)).await).ended, []);
}
