//! Following a log.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{ErrorKind, Ledger, Result, Scope, TailItem, ThreadId};

/// How often these tails look without being told; the guard against a hang is far longer.
const POLL: Duration = Duration::from_secs(2);
const GUARD: Duration = Duration::from_secs(120);

fn tail(ledger: &Ledger, thread: &ThreadId, after: u64) -> BoxStream<'static, Result<TailItem>> {
    ledger.tail(Scope::System, thread.clone(), after, POLL)
}

async fn next(tail: &mut BoxStream<'static, Result<TailItem>>) -> Option<Result<TailItem>> {
    match tokio::time::timeout(GUARD, tail.next()).await {
        Ok(item) => item,
        Err(_) => panic!("the tail gave nothing for {GUARD:?}"),
    }
}

/// The seq of the next event, or the gap's ends.
async fn seq(tail: &mut BoxStream<'static, Result<TailItem>>) -> (u64, u64) {
    match next(tail).await {
        Some(Ok(TailItem::Event(event))) => (event.seq, event.seq),
        Some(Ok(TailItem::Gap { from_seq, through_seq })) => (from_seq, through_seq),
        other => panic!("the tail ended: {other:?}"),
    }
}

/// What is stored comes first, what is appended meanwhile follows, nothing is skipped.
pub async fn a_tail_replays_and_follows(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    append(ledger, &t, vec![note("a"), note("b")]).await;
    let mut from_start = tail(ledger, &t, 0);
    let mut from_one = tail(ledger, &t, 1);
    assert_eq!((seq(&mut from_start).await, seq(&mut from_start).await), ((1, 1), (2, 2)));
    assert_eq!(seq(&mut from_one).await, (2, 2));
    append(ledger, &t, vec![note("c")]).await;
    assert_eq!((seq(&mut from_start).await, seq(&mut from_one).await), ((3, 3), (3, 3)));
}

/// A long log is followed over many pages, in order.
pub async fn a_tail_crosses_pages(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    append(ledger, &t, vec![note("x"); 450]).await;
    let mut tail = tail(ledger, &t, 0);
    for expected in 1..=450 {
        assert_eq!(seq(&mut tail).await, (expected, expected));
    }
}

/// What was deleted before it could be given is said.
pub async fn a_tail_says_what_is_gone(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    end(ledger, &run, 1).await;
    append(ledger, &run.thread, vec![note("b")]).await;
    ok(ledger.events().delete_by_run(&Scope::System, &run.thread, &run.run).await);
    let mut tail = tail(ledger, &run.thread, 0);
    assert_eq!((seq(&mut tail).await, seq(&mut tail).await), ((1, 2), (3, 3)));
}

/// The tail of a thread that is deleted ends with `NotFound`.
pub async fn a_tail_ends_with_its_thread(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    append(ledger, &t, vec![note("a")]).await;
    let mut tail = tail(ledger, &t, 0);
    assert_eq!(seq(&mut tail).await, (1, 1));
    ok(ledger.threads().delete(&Scope::System, &t).await);
    match next(&mut tail).await {
        Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
        other => panic!("no error: {other:?}"),
    }
    assert!(next(&mut tail).await.is_none());
}

/// A stranger follows nothing.
pub async fn a_stranger_follows_nothing(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let mut tail = ledger.tail(mallory(), t, 0, POLL);
    match next(&mut tail).await {
        Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
        other => panic!("no error: {other:?}"),
    }
}

/// An append of this process wakes the tail: it does not wait for its next look.
pub async fn an_append_wakes_the_tail(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    append(ledger, &t, vec![note("a")]).await;
    let never = GUARD * 10;
    let mut tail = ledger.tail(Scope::System, t.clone(), 0, never);
    assert_eq!(seq(&mut tail).await, (1, 1));
    let mut waiting = Box::pin(seq(&mut tail));
    // Long enough for the tail to have looked and gone to sleep; where it has not, the case is only weaker.
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "{early:?} came before it was appended");
    append(ledger, &t, vec![note("b")]).await;
    assert_eq!(waiting.await, (2, 2));
}
