//! Many tasks at once.

use std::collections::BTreeSet;
use std::future::Future;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, ErrorKind, EventDraft, Ledger, NewRun, NewThread, Outcome, RunStatus, Scope, ThreadId,
    ThreadPatch, TokenCounts,
};

/// Runs the futures as tasks and gives their results in order.
pub(super) async fn together<F>(tasks: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let running: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(running.len());
    for task in running {
        match task.await {
            Ok(result) => results.push(result),
            Err(error) => panic!("a task failed: {error}"),
        }
    }
    results
}

async fn write(ledger: Ledger, thread: ThreadId, writer: usize, commits: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for number in 0..commits {
        let events = vec![note(&format!("{writer}.{number}a")), note(&format!("{writer}.{number}b"))];
        seqs.extend(append(&ledger, &thread, events).await.seqs);
    }
    seqs
}

/// Many writers on one thread: no gap, no double, each writer's order kept, batches together.
pub async fn writers_of_one_thread_leave_no_gap(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let written = together((0..32).map(|writer| write(ledger.clone(), t.clone(), writer, 10))).await;
    for seqs in &written {
        assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
        assert!(seqs.chunks(2).all(|batch| matches!(batch, [a, b] if a + 1 == *b)), "{seqs:?}");
    }
    let all: BTreeSet<u64> = written.into_iter().flatten().collect();
    assert_eq!(all, (1..=640).collect());
    assert_eq!(seqs(&log(ledger, &t).await), (1..=640).collect::<Vec<_>>());
}

/// Many writers on their own threads do not disturb each other.
pub async fn writers_of_many_threads_do_not_meet(ledger: &Ledger) {
    let mut threads = Vec::new();
    for number in 0..16 {
        threads.push(thread(ledger, &Scope::System, &format!("t{number}")).await);
    }
    let tasks = threads.into_iter().enumerate().map(|(writer, t)| write(ledger.clone(), t, writer, 10));
    for seqs in together(tasks).await {
        assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    }
}

/// Of many admissions one gets the slot.
pub async fn one_of_many_admissions_wins(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let outcomes = together((0..16).map(|number| {
        let (ledger, new) = (ledger.clone(), NewRun::new(t.clone(), run_id(&format!("r{number}"))));
        async move { ledger.admit(&Scope::System, new).await.map_err(|error| error.kind()) }
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|kind| *kind == ErrorKind::Conflict)
    );
}

/// Many admissions with one key are one run, which creates the thread too.
pub async fn admissions_with_one_key_are_one_run(ledger: &Ledger) {
    let t = thread_id("t");
    let outcomes = together((0..16).map(|number| {
        let admission = Admission { idempotency_key: Some("key".to_owned()), ..Admission::default() };
        let new = NewRun {
            admission,
            create_missing: Some(NewThread::new(t.clone())),
            ..NewRun::new(t.clone(), run_id(&format!("r{number}")))
        };
        let ledger = ledger.clone();
        async move { ok(ledger.admit(&Scope::System, new).await) }
    }))
    .await;
    let runs: BTreeSet<_> = outcomes.iter().map(|admitted| admitted.run.run_id.clone()).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(outcomes.iter().filter(|admitted| admitted.created).count(), 1);
}

/// Of many puts of one event one is stored.
pub async fn one_of_many_puts_is_stored(ledger: &Ledger) {
    let run = running(ledger).await;
    let puts =
        together(
            (0..32).map(|number| {
                let (ledger, run) = (ledger.clone(), run.clone());
                let event = EventDraft { once_key: Some("k".to_owned()), ..note(&number.to_string()) };
                async move {
                    ok(ledger.events().put_if_absent(&Scope::System, &run.thread, &run.run, event).await)
                }
            }),
        )
        .await;
    assert_eq!(puts.iter().filter(|put| put.created).count(), 1);
    let texts: BTreeSet<String> = puts.iter().map(|put| put.event.content.to_string()).collect();
    assert_eq!(texts.len(), 1);
}

/// A refused commit fails nobody else, whatever is written together.
pub async fn a_refusal_fails_nobody_else(ledger: &Ledger) {
    let run = running(ledger).await;
    let stale = Admitted { epoch: run.epoch + 1, ..run.clone() };
    let outcomes = together((0..32).map(|number| {
        let ledger = ledger.clone();
        let commit = match number % 4 {
            0 => stale.commit(0, vec![note("stale")]),
            1 => run.commit(9_999, vec![note("gap")]),
            2 => Admitted { run: run_id("nobody"), ..run.clone() }.unmarked(vec![note("stray")]),
            _ => run.unmarked(vec![note("good")]),
        };
        async move {
            (number % 4, ledger.events().append(&Scope::System, commit).await.map_err(|error| error.kind()))
        }
    }))
    .await;
    for (what, outcome) in outcomes {
        let expected =
            [Some(ErrorKind::LeaseLost), Some(ErrorKind::Conflict), Some(ErrorKind::NotFound), None];
        assert_eq!(outcome.err(), expected.get(what).cloned().flatten());
    }
    assert_eq!(texts(&log(ledger, &run.thread).await), vec!["good"; 8]);
}

/// The same marked batch sent by many is stored once.
pub async fn a_batch_sent_by_many_is_stored_once(ledger: &Ledger) {
    let run = running(ledger).await;
    let receipts = together((0..16).map(|_| {
        let (ledger, batch) = (ledger.clone(), run.commit(0, vec![note("a"), note("b")]));
        async move { ok(commit(&ledger, batch).await) }
    }))
    .await;
    assert!(receipts.iter().all(|receipt| receipt.seqs == [1, 2]), "{receipts:?}");
    assert_eq!(receipts.iter().filter(|receipt| receipt.already_stored == 0).count(), 1);
    assert_eq!(log(ledger, &run.thread).await.len(), 2);
}

/// Usage that many report at once is counted once.
pub async fn usage_reported_by_many_counts_once(ledger: &Ledger) {
    let run = running(ledger).await;
    together((0..16).map(|number| {
        let ledger = ledger.clone();
        let mut commit_of = run.unmarked(vec![note("n")]);
        commit_of.usage.push(call("shared", TokenCounts::of(1, 1)));
        commit_of.usage.push(call(&format!("own{number}"), TokenCounts::of(10, 10)));
        async move { ok(commit(&ledger, commit_of).await) }
    }))
    .await;
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.llm_calls, totals.total_tokens), (17, 2 + 16 * 20));
}

/// Of many ends of one run one is stored, and all are told the same.
pub async fn one_of_many_ends_is_stored(ledger: &Ledger) {
    let run = running(ledger).await;
    let ends = together((0..8).map(|_| {
        let (ledger, end) = (ledger.clone(), run.finish(0, Outcome::success()));
        async move { ok(ledger.finish(&Scope::System, end).await).run }
    }))
    .await;
    assert!(ends.iter().all(|run| run.status == RunStatus::Success));
    assert_eq!(log(ledger, &run.thread).await.len(), 1);
}

/// Edits of different keys all hold.
pub async fn edits_of_different_keys_all_hold(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    together((0..16).map(|number| {
        let (ledger, t) = (ledger.clone(), t.clone());
        let patch = ThreadPatch {
            metadata: Some(json(&format!(r#"{{"k{number}":{number}}}"#))),
            ..ThreadPatch::default()
        };
        async move { ok(ledger.threads().update(&Scope::System, &t, patch, at(1)).await) }
    }))
    .await;
    let metadata: serde_json::Map<String, serde_json::Value> =
        ok(ok(ledger.threads().get(&Scope::System, &t).await).metadata.decode());
    assert_eq!(metadata.len(), 16);
}
