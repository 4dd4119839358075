//! What a deletion takes along, and what it leaves.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Commit, Cursor, Deleted, Deletion, DeletionFilter, ErrorKind, ItemFilter, ItemStatus, Ledger, ListRange,
    RunVisibility, Scope, SeqRange, ThreadId, TokenCounts,
};

/// A thread with two ended runs of three events each, an item and a call in the first.
async fn two_runs(ledger: &Ledger) -> (Admitted, Admitted) {
    let first = running(ledger).await;
    let mut batch = first.commit(0, vec![message("a"), tool_ended("i", ItemStatus::Completed)]);
    if ledger.capabilities().usage {
        batch.usage.push(call("c", TokenCounts::of(1, 1)));
    }
    ok(commit(ledger, batch).await);
    end(ledger, &first, 2).await;
    let second = admit(ledger, &first.thread, "r2").await;
    ok(commit(ledger, second.commit(0, vec![message("b"), note("c")])).await);
    end(ledger, &second, 2).await;
    (first, second)
}

async fn items(ledger: &Ledger, thread: &ThreadId) -> usize {
    if !ledger.capabilities().items {
        return 0;
    }
    let page =
        ledger.items().list(&Scope::System, thread, &ItemFilter::default(), &SeqRange::default()).await;
    ok(page).items.len()
}

/// A run goes with its events, items and usage; the other stays.
pub async fn a_run_goes_with_all_below_it(ledger: &Ledger) {
    let (first, second) = two_runs(ledger).await;
    let deleted = ok(ledger.events().delete_by_run(&Scope::System, &first.thread, &first.run).await);
    assert_eq!(
        deleted,
        kept(ledger, Deleted { events: 3, items: 1, usage: 1, runs: 1, ..Deleted::default() })
    );
    assert_eq!(seqs(&log(ledger, &first.thread).await), [4, 5, 6]);
    assert_eq!(items(ledger, &first.thread).await, 0);
    if ledger.capabilities().usage {
        assert_eq!(
            ok(ledger.usage().by_thread(&Scope::System, &first.thread, true).await).totals.llm_calls,
            0
        );
    }
    assert_eq!(
        ok(ledger.events().count_messages(&Scope::System, &first.thread, RunVisibility::All).await),
        1
    );
    if ledger.capabilities().runs {
        let gone = ledger.runs().get(&Scope::System, &first.thread, &first.run).await;
        assert_eq!(kind(gone), ErrorKind::NotFound);
        assert_eq!(run_of(ledger, &second).await.message_count, 1);
    }
    let again = ledger.events().delete_by_run(&Scope::System, &first.thread, &first.run).await;
    assert_eq!(kind(again), ErrorKind::NotFound);
}

/// The newest run's numbers are not used again.
pub async fn a_deletion_never_frees_a_seq(ledger: &Ledger) {
    let (first, second) = two_runs(ledger).await;
    ok(ledger.events().delete_by_run(&Scope::System, &first.thread, &second.run).await);
    assert_eq!(append(ledger, &first.thread, vec![note("next")]).await.seqs, [7]);
    ok(ledger.events().delete_by_thread(&Scope::System, &first.thread).await);
    assert_eq!(append(ledger, &first.thread, vec![note("next")]).await.seqs, [8]);
}

/// An emptied thread stays and counts on.
pub async fn a_log_is_emptied(ledger: &Ledger) {
    let (first, _) = two_runs(ledger).await;
    append(ledger, &first.thread, vec![message("of nobody")]).await;
    let deleted = ok(ledger.events().delete_by_thread(&Scope::System, &first.thread).await);
    assert_eq!(
        deleted,
        kept(ledger, Deleted { events: 7, items: 1, usage: 1, runs: 2, ..Deleted::default() })
    );
    assert_eq!(log(ledger, &first.thread).await, []);
    assert_eq!(items(ledger, &first.thread).await, 0);
    assert_eq!(
        ok(ledger.events().count_messages(&Scope::System, &first.thread, RunVisibility::All).await),
        0
    );
    let again = ok(ledger.events().delete_by_thread(&Scope::System, &first.thread).await);
    assert_eq!(again, Deleted::default());
    admit(ledger, &first.thread, "r").await;
}

/// A run that is active is not deleted, and neither is the thread around it.
pub async fn what_is_active_is_not_deleted(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    let events = ledger.events();
    assert_eq!(kind(events.delete_by_run(&Scope::System, &run.thread, &run.run).await), ErrorKind::Conflict);
    assert_eq!(kind(events.delete_by_thread(&Scope::System, &run.thread).await), ErrorKind::Conflict);
    assert_eq!(kind(ledger.threads().delete(&Scope::System, &run.thread).await), ErrorKind::Conflict);
    assert_eq!(log(ledger, &run.thread).await.len(), 1);
}

/// An ended run may go while another is active.
pub async fn an_ended_run_is_deleted_beside_an_active_one(ledger: &Ledger) {
    let (first, _) = two_runs(ledger).await;
    let active = admit(ledger, &first.thread, "r3").await;
    ok(ledger.events().delete_by_run(&Scope::System, &first.thread, &first.run).await);
    assert_eq!(ok(commit(ledger, active.commit(0, vec![note("on")])).await).seqs, [7]);
}

/// A deleted thread is gone for every reader, and takes no append.
pub async fn a_deleted_thread_is_gone(ledger: &Ledger) {
    let (first, _) = two_runs(ledger).await;
    let deleted = ok(ledger.threads().delete(&Scope::System, &first.thread).await);
    assert_eq!(
        deleted,
        kept(ledger, Deleted { events: 6, items: 1, runs: 2, threads: 1, ..Deleted::default() })
    );
    assert_eq!(kind(ledger.threads().get(&Scope::System, &first.thread).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.threads().delete(&Scope::System, &first.thread).await), ErrorKind::NotFound);
    if ledger.capabilities().runs {
        assert_eq!(kind(ledger.runs().find(&Scope::System, &first.run).await), ErrorKind::NotFound);
    }
    let late = Commit::new(first.thread.clone()).with_events(vec![note("late")]);
    assert_eq!(kind(commit(ledger, late).await), ErrorKind::NotFound);
    let late = first.unmarked(vec![note("late")]);
    assert_eq!(kind(commit(ledger, late).await), ErrorKind::NotFound);
}

/// Pages are full of what is left, whatever was between.
pub async fn pages_step_over_what_is_gone(ledger: &Ledger) {
    let (first, second) = two_runs(ledger).await;
    append(ledger, &first.thread, vec![message("7"), message("8")]).await;
    ok(ledger.events().delete_by_run(&Scope::System, &first.thread, &second.run).await);
    for (range, expected, has_more) in [
        (SeqRange::after(2, 2), vec![3, 7], true),
        (SeqRange::after(4, 2), vec![7, 8], false),
        (SeqRange::before(8, 2), vec![3, 7], true),
        (SeqRange::last(3), vec![3, 7, 8], true),
    ] {
        let filter = crate::EventFilter::default();
        let page = ok(ledger.events().list_events(&Scope::System, &first.thread, &filter, &range).await);
        assert_eq!((seqs(&page.items), page.has_more), (expected, has_more), "{range:?}");
    }
}

/// A deleted run takes no late record.
pub async fn nothing_is_put_on_a_deleted_run(ledger: &Ledger) {
    let (first, _) = two_runs(ledger).await;
    ok(ledger.events().delete_by_run(&Scope::System, &first.thread, &first.run).await);
    assert_eq!(kind(commit(ledger, first.unmarked(vec![note("late")])).await), ErrorKind::NotFound);
    let event = crate::EventDraft { once_key: Some("k".to_owned()), ..note("late") };
    let put = ledger.events().put_if_absent(&Scope::System, &first.thread, &first.run, event).await;
    assert_eq!(kind(put), ErrorKind::NotFound);
    assert_eq!(log(ledger, &first.thread).await.len(), 3);
}

/// What was deleted of a thread, oldest first, without the times.
async fn noted(ledger: &Ledger, thread: &ThreadId) -> Vec<(u64, u64, String, Option<String>)> {
    let filter = DeletionFilter { thread_id: Some(thread.clone()) };
    let page = ok(ledger.threads().list_deletions(&Scope::System, &filter, &ListRange::default()).await);
    let told =
        |it: Deletion| (it.from_seq, it.through_seq, it.reason, it.deleted_by.map(|by| by.to_string()));
    let mut noted: Vec<_> = page.items.into_iter().map(told).collect();
    noted.reverse();
    noted
}

/// Every deletion says which numbers went, why, and who took them; it outlives the thread.
pub async fn every_deletion_says_who_and_why(ledger: &Ledger) {
    let (first, second) = two_runs(ledger).await;
    let t = &first.thread;
    ok(ledger.threads().set_owner(&Scope::System, t, alice().owner().cloned()).await);
    append(ledger, t, vec![note("7")]).await;
    ok(ledger.events().delete_by_run(&alice(), t, &second.run).await);
    ok(ledger.events().delete_by_thread(&Scope::System, t).await);
    append(ledger, t, vec![note("8")]).await;
    ok(ledger.threads().delete(&alice(), t).await);
    let by = |name: &str| Some(name.to_owned());
    let expected = [
        (4, 6, "run deleted".to_owned(), by("alice")),
        // Two ranges of one deletion, of one time.
        (1, 3, "log emptied".to_owned(), None),
        (7, 7, "log emptied".to_owned(), None),
        (0, 8, "thread deleted".to_owned(), by("alice")),
    ];
    assert_eq!(noted(ledger, t).await, expected);
    // A log that never had an event.
    let empty = thread(ledger, &alice(), "empty").await;
    ok(ledger.threads().delete(&Scope::System, &empty).await);
    assert_eq!(noted(ledger, &empty).await, [(0, 0, "thread deleted".to_owned(), None)]);
}

/// Deletions are listed newest first, in pages, for the system alone.
pub async fn deletions_are_listed_in_pages(ledger: &Ledger) {
    for number in 0..7 {
        let t = thread(ledger, &alice(), &format!("t{number}")).await;
        ok(ledger.threads().delete(&alice(), &t).await);
    }
    let filter = DeletionFilter::default();
    let all = ok(ledger.threads().list_deletions(&Scope::System, &filter, &ListRange::default()).await).items;
    assert!(all.is_sorted_by_key(|it| std::cmp::Reverse((it.deleted_at, it.thread_id.clone(), it.from_seq))));
    assert_eq!(all.len(), 7);
    let mut seen = Vec::new();
    let mut range = ListRange::newest(3);
    loop {
        let page = ok(ledger.threads().list_deletions(&Scope::System, &filter, &range).await);
        seen.extend(page.items);
        match page.next_cursor {
            Some(cursor) => range.cursor = Some(ok(Cursor::parse(cursor.as_str()))),
            None => break,
        }
    }
    assert_eq!(seen, all);
    let range = ListRange { limit: 3, cursor: Some(Cursor::at(at(0), "t")) };
    let foreign = ledger.threads().list_deletions(&Scope::System, &filter, &range).await;
    assert_eq!(kind(foreign), ErrorKind::InvalidInput);
    let owned = ledger.threads().list_deletions(&alice(), &filter, &ListRange::default()).await;
    assert_eq!(kind(owned), ErrorKind::InvalidInput);
}
