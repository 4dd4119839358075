//! What happens between batches: other writers, readers, and the end of the one who prunes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use pretty_assertions::assert_eq;
use runledger_core::{
    BlobHash, Category, Commit, EventDraft, EventFilter, RawJson, RunVisibility, Scope, SeqRange, TailItem,
    offload,
};
use runledger_persistence::SqlLedger;
use runledger_persistence::retention::PrunePolicy;

use super::scene::{
    HOUR, MINUTE, admit, ago, append, create, ended, event, finish, is_consistent, item, own, prune, seqs,
    thread,
};
use super::{backend, on_both};
use crate::backend::Fresh;

on_both!(
    one_that_was_ended_half_way_is_gone_on_with,
    appends_go_on_meanwhile,
    two_at_once_remove_each_event_once,
    readers_page_over_what_is_gone,
    blobs_go_with_the_last_event_that_names_them,
);

/// Events of every kind, so many times eight; three of eight are messages.
fn many(count: u32) -> Vec<EventDraft> {
    use runledger_core::ItemStatus::{Completed, InProgress};
    let at = ago(2 * HOUR);
    let mut events = Vec::new();
    for n in 0..count {
        let (tool, answer) = (format!("tool-{n}"), format!("answer-{n}"));
        events.extend([
            event(Category::Message, at),
            event(Category::Trace, at),
            item(&tool, InProgress, Category::Lifecycle, at),
            event(Category::Trace, at),
            event(Category::Reasoning, at),
            item(&answer, Completed, Category::Message, at),
            event(Category::Trace, at),
            item(&tool, Completed, Category::Message, at),
        ]);
    }
    events
}

/// Each run has a large text of its own and one that all share.
async fn blobs_go_with_the_last_event_that_names_them(ledger: &SqlLedger, _fresh: &Fresh) {
    create(ledger, "t").await;
    for (name, at) in [("r1", ago(3 * HOUR)), ("r2", ago(2 * HOUR)), ("r3", ago(MINUTE))] {
        let epoch = admit(ledger, "t", name, at, Vec::new()).await;
        let mut commit = Commit::of_run(thread("t"), super::scene::run(name));
        for (place, text) in [name.repeat(100), "shared".repeat(100)].iter().enumerate() {
            let (content, blobs) = offload(&RawJson::string(text), place, 100).unwrap();
            commit.events.push(EventDraft { content, ..event(Category::Message, at) });
            commit.blobs.extend(blobs);
        }
        append(ledger, commit).await;
        finish(ledger, "t", name, epoch, at).await;
    }
    let hash = |text: &str| BlobHash::of(text.repeat(100).as_bytes());
    for (left, uses) in [(vec!["r1", "r2", "r3"], 3), (vec!["r3"], 1), (vec!["r3"], 1)] {
        let found = ledger.blobs().list(&Scope::System, &thread("t"), None, 100).await.unwrap();
        let mut expected: Vec<_> = left.iter().map(|name| (hash(name), 1)).collect();
        expected.push((hash("shared"), uses));
        expected.sort();
        assert_eq!(found.into_iter().map(|it| (it.hash, it.events)).collect::<Vec<_>>(), expected);
        prune(ledger, &PrunePolicy::new(HOUR)).await;
    }
}

/// One long run of so many times eight events, and its end.
async fn long(ledger: &SqlLedger, on: &str, name: &str, count: u32) {
    let epoch = admit(ledger, on, name, ago(2 * HOUR), Vec::new()).await;
    for chunk in many(count).chunks(500) {
        append(ledger, Commit::of_run(thread(on), super::scene::run(name)).with_events(chunk.to_vec())).await;
    }
    finish(ledger, on, name, epoch, ago(2 * HOUR)).await;
}

/// Ended after each number of batches there is.
async fn one_that_was_ended_half_way_is_gone_on_with(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    long(ledger, "t", "r1", 200).await;
    ended(ledger, "t", "r2", ago(2 * HOUR)).await;
    long(ledger, "t", "r3", 150).await;
    let policy = PrunePolicy::new(HOUR);
    let mut left = seqs(&fresh.url, "t").await.len();
    assert_eq!(left, 1_601 + 6 + 1_201);
    for _ in 0..2 {
        // Dropped in the next batch, wherever that is.
        let batches = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&batches);
        let mut call =
            Box::pin(ledger.prune(&Scope::System, &policy, move |_| told.store(true, Ordering::SeqCst)));
        while !batches.load(Ordering::SeqCst) {
            tokio::select! {
                done = &mut call => panic!("{done:?}"),
                () = tokio::time::sleep(Duration::from_micros(50)) => {}
            }
        }
        drop(call);
        is_consistent(ledger, &fresh.url, "t").await;
        let now = seqs(&fresh.url, "t").await.len();
        assert!(now < left && now > 0, "{now} of {left} are left");
        left = now;
    }
    let report = prune(ledger, &policy).await;
    assert_eq!((report.removed.events, report.after.events), (left as u64, 0));
    is_consistent(ledger, &fresh.url, "t").await;
}

/// On the same thread and on another, of a run and of none; not one is refused or lost.
async fn appends_go_on_meanwhile(ledger: &SqlLedger, fresh: &Fresh) {
    for on in ["t", "u"] {
        create(ledger, on).await;
        long(ledger, on, "old", 400).await;
    }
    let epoch = admit(ledger, "t", "now", ago(MINUTE), Vec::new()).await;
    let pruned = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = [("t", Some("now")), ("t", None), ("u", None)]
        .into_iter()
        .map(|(on, run)| {
            let (ledger, pruned) = (ledger.clone(), Arc::clone(&pruned));
            tokio::spawn(async move {
                let mut written = 0_u64;
                while !pruned.load(Ordering::SeqCst) || written < 20 {
                    let commit = match run {
                        Some(run) => Commit::of_run(thread(on), super::scene::run(run)),
                        None => Commit::new(thread(on)),
                    };
                    let fresh_event = vec![event(Category::Message, ago(Duration::ZERO))];
                    append(&ledger, commit.with_events(fresh_event)).await;
                    written += 1;
                }
                written
            })
        })
        .collect();
    let report = prune(ledger, &PrunePolicy::new(HOUR)).await;
    pruned.store(true, Ordering::SeqCst);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    finish(ledger, "t", "now", epoch, ago(Duration::ZERO)).await;
    assert_eq!(report.removed.events, 2 * 3_201);
    let left = seqs(&fresh.url, "t").await.len() + seqs(&fresh.url, "u").await.len();
    assert_eq!(left as u64, written + 1);
    for on in ["t", "u"] {
        is_consistent(ledger, &fresh.url, on).await;
    }
}

async fn two_at_once_remove_each_event_once(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    long(ledger, "t", "old", 500).await;
    let policy = PrunePolicy::new(HOUR);
    let (one, other) = tokio::join!(prune(ledger, &policy), prune(ledger, &policy));
    assert_eq!(one.removed.events + other.removed.events, 4_001);
    assert_eq!(seqs(&fresh.url, "t").await.len(), 0);
    is_consistent(ledger, &fresh.url, "t").await;
}

/// Pages are full of what is left, and who follows the log is told of the gap.
async fn readers_page_over_what_is_gone(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    own(ledger, "t", vec![event(Category::Message, ago(MINUTE))]).await;
    long(ledger, "t", "old", 200).await;
    own(ledger, "t", vec![event(Category::Message, ago(MINUTE)); 2]).await;
    prune(ledger, &PrunePolicy::new(HOUR)).await;
    is_consistent(ledger, &fresh.url, "t").await;

    let all = EventFilter::default();
    for (range, expected, has_more) in [
        (SeqRange::after(0, 2), vec![1, 1_603], true),
        (SeqRange::after(1, 2), vec![1_603, 1_604], false),
        (SeqRange::after(700, 1), vec![1_603], true),
        (SeqRange::before(1_603, 2), vec![1], false),
        (SeqRange::last(2), vec![1_603, 1_604], true),
    ] {
        let page = ledger.events().list_events(&Scope::System, &thread("t"), &all, &range).await.unwrap();
        let seqs: Vec<u64> = page.items.iter().map(|event| event.seq).collect();
        assert_eq!((seqs, page.has_more), (expected.clone(), has_more), "{range:?}");
        let messages = ledger.events();
        let page =
            messages.list_messages(&Scope::System, &thread("t"), RunVisibility::Shown, &range).await.unwrap();
        assert_eq!(page.items.iter().map(|event| event.seq).collect::<Vec<_>>(), expected, "{range:?}");
    }
    let tail = ledger.tail(Scope::System, thread("t"), 0, Duration::from_millis(10));
    let told: Vec<_> = tail.take(4).map(Result::unwrap).collect().await;
    let told: Vec<(u64, u64)> = told
        .into_iter()
        .map(|item| match item {
            TailItem::Event(event) => (event.seq, event.seq),
            TailItem::Gap { from_seq, through_seq } => (from_seq, through_seq),
        })
        .collect();
    assert_eq!(told, [(1, 1), (2, 1_602), (1_603, 1_603), (1_604, 1_604)]);
}
