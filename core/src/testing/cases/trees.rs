//! Trees of threads: spawned, archived, and deleted as trees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pretty_assertions::assert_eq;

use super::concurrency::together;
use crate::testing::build::*;
use crate::{
    ChildFilter, Commit, Contents, Cursor, Deleted, DeletionFilter, Error, ErrorKind, ItemStatus, Ledger,
    ListRange, NewRun, NewThread, Outcome, Patch, RawJson, Scope, Spawn, Thread, ThreadFilter, ThreadId,
    ThreadKind, ThreadLifecycle, ThreadPatch, TokenCounts,
};

/// A thread of alice's with an ended run `r` that has a tool call `call`.
async fn parent(ledger: &Ledger, id: &str) -> ThreadId {
    let t = thread(ledger, &alice(), id).await;
    let run = admit(ledger, &t, "r").await;
    let calls = vec![tool_started("call"), tool_ended("call", ItemStatus::Completed)];
    ok(commit(ledger, run.commit(0, calls)).await);
    finish(ledger, &run, 2).await;
    t
}

fn spawn(parent: &ThreadId, lifecycle: ThreadLifecycle) -> Spawn {
    Spawn::new(parent.clone(), run_id("r")).with_lifecycle(lifecycle).with_max_depth(100)
}

fn child_of(parent: &ThreadId, id: &str, lifecycle: ThreadLifecycle) -> NewThread {
    let spawn = Some(spawn(parent, lifecycle));
    NewThread { spawn, created_at: at(0), ..NewThread::new(thread_id(id)) }
}

/// A child with an ended run `r`, so that it can spawn too.
async fn child(ledger: &Ledger, parent: &ThreadId, id: &str, lifecycle: ThreadLifecycle) -> ThreadId {
    let t = ok(ledger.threads().create(&alice(), child_of(parent, id, lifecycle)).await).thread_id;
    let run = admit(ledger, &t, "r").await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    // Not a success: an ephemeral one would be gone.
    ok(ledger.finish(&Scope::System, run.finish(1, Outcome::error("failed"))).await);
    t
}

async fn stored(ledger: &Ledger, thread: &ThreadId) -> Option<Thread> {
    match ledger.threads().get(&Scope::System, thread).await {
        Ok(thread) => Some(thread),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            None
        }
    }
}

/// Every thread there is.
async fn everything(ledger: &Ledger) -> BTreeMap<ThreadId, Thread> {
    let mut all = BTreeMap::new();
    let mut range = ListRange::newest(1_000);
    loop {
        let page = ok(ledger.threads().list(&Scope::System, &ThreadFilter::default(), &range).await);
        all.extend(page.items.into_iter().map(|thread| (thread.thread_id.clone(), thread)));
        match page.next_cursor {
            Some(next) => range.cursor = Some(next),
            None => return all,
        }
    }
}

/// No parent is missing, every depth is the parent's plus 1, and heads say the same as threads.
async fn require_sound(ledger: &Ledger) {
    let all = everything(ledger).await;
    for thread in all.values() {
        let head = ok(ledger.threads().head(&Scope::System, &thread.thread_id).await);
        assert_eq!(head.parent_thread_id, thread.parent_thread_id, "{thread:?}");
        let expected = match &thread.parent_thread_id {
            None => (ThreadKind::Root, 0),
            Some(parent) => match all.get(parent) {
                Some(parent) => (ThreadKind::Subagent, parent.spawn_depth + 1),
                None => panic!("the parent of {thread:?} is gone"),
            },
        };
        assert_eq!((thread.kind.clone(), thread.spawn_depth), expected, "{thread:?}");
    }
}

/// A spawned thread says which thread, run and tool call it comes from, and is its parent's owner's. The tool
/// call is not lost, whoever creates it.
pub async fn a_spawned_thread_names_its_parent_run_and_tool_call(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    for (scope, id, owner_id) in
        [(alice(), "c1", None), (Scope::System, "c2", None), (Scope::System, "c3", alice().owner().cloned())]
    {
        let spawn = Spawn::new(t.clone(), run_id("r")).by_item(item_id("call"));
        let new =
            NewThread { owner_id, spawn: Some(spawn), created_at: at(0), ..NewThread::new(thread_id(id)) };
        let made = ok(ledger.threads().create(&scope, new).await);
        let expected = Thread {
            kind: ThreadKind::Subagent,
            parent_thread_id: Some(t.clone()),
            spawn_run_id: Some(run_id("r")),
            spawn_item_id: Some(item_id("call")),
            spawn_depth: 1,
            lifecycle: ThreadLifecycle::Linked,
            owner_id: alice().owner().cloned(),
            ..made.clone()
        };
        assert_eq!(made, expected);
        assert_eq!(ok(ledger.threads().get(&alice(), &thread_id(id)).await), expected);
    }
    require_sound(ledger).await;
}

/// What a spawn names must be there, open, and the scope's.
pub async fn a_spawn_is_judged_by_its_parent(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    let other = thread(ledger, &alice(), "other").await;
    let own = Spawn::new(t.clone(), run_id("r"));
    let what = |error: &Error| match error {
        Error::NotFound { what, .. } => (*what).to_owned(),
        Error::InvalidInput { field, .. } => (*field).to_owned(),
        other => format!("{:?}", other.kind()),
    };
    let with = |spawn: Spawn| NewThread { spawn: Some(spawn), ..NewThread::new(thread_id("c")) };
    let foreign =
        NewThread { owner_id: mallory().owner().cloned(), ..with(Spawn::new(t.clone(), run_id("r"))) };
    for (scope, new, expected) in [
        (alice(), with(Spawn::new(thread_id("none"), run_id("r"))), "thread"),
        (mallory(), with(own.clone()), "thread"),
        (alice(), with(Spawn::new(t.clone(), run_id("none"))), "run"),
        (alice(), with(Spawn::new(other, run_id("r"))), "run"),
        (alice(), with(own.clone().by_item(item_id("none"))), "item"),
        (Scope::System, foreign, "owner_id"),
        (alice(), NewThread { thread_id: t.clone(), ..with(own.clone()) }, "AlreadyExists"),
    ] {
        let error = refused(ledger.threads().create(&scope, new).await);
        assert_eq!(what(&error), expected, "{error}");
    }
    ok(ledger.threads().archive(&alice(), &t, at(20)).await);
    assert_eq!(kind(ledger.threads().create(&alice(), with(own.clone())).await), ErrorKind::Conflict);
    ok(ledger.threads().unarchive(&alice(), &t, at(21)).await);
    ok(ledger.threads().delete(&alice(), &t).await);
    let error = refused(ledger.threads().create(&alice(), with(own)).await);
    assert_eq!(what(&error), "thread");
    assert_eq!(stored(ledger, &thread_id("c")).await, None);
}

/// A sub-agent spawns sub-agents down to the limit, 3 unless told otherwise.
pub async fn a_depth_has_a_limit(ledger: &Ledger) {
    let mut t = parent(ledger, "t").await;
    for depth in 1..=3 {
        t = child(ledger, &t, &format!("c{depth}"), ThreadLifecycle::Linked).await;
    }
    let deeper = NewThread {
        spawn: Some(Spawn::new(t.clone(), run_id("r"))),
        created_at: at(0),
        ..NewThread::new(thread_id("c4"))
    };
    match refused(ledger.threads().create(&alice(), deeper.clone()).await) {
        Error::InvalidInput { field, reason } => {
            assert!(
                field == "max_depth" && reason.starts_with("is 3, ") && reason.contains("depth 4"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    let allowed = NewThread { spawn: deeper.spawn.clone().map(|spawn| spawn.with_max_depth(4)), ..deeper };
    assert_eq!(ok(ledger.threads().create(&alice(), allowed).await).spawn_depth, 4);
}

/// Children are listed newest first, in pages, also where times are equal; those of a stranger are none.
pub async fn children_are_listed_in_pages(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    for number in 0..7 {
        let new = NewThread {
            created_at: at(10 + number / 3),
            system_prompt: Some("Be brief.".to_owned()),
            config: json(r#"{"k":1}"#),
            metadata: json(r#"{"k":2}"#),
            ..child_of(&t, &format!("c{number}"), ThreadLifecycle::Linked)
        };
        ok(ledger.threads().create(&alice(), new).await);
    }
    // Not a child of this one.
    let run = admit(ledger, &thread_id("c0"), "r").await;
    finish(ledger, &run, 0).await;
    child(ledger, &thread_id("c0"), "grandchild", ThreadLifecycle::Linked).await;
    let all = ChildFilter::default();
    for scope in [alice(), Scope::System] {
        let mut seen = Vec::new();
        let mut range = ListRange::newest(3);
        loop {
            let page = ok(ledger.threads().list_children(&scope, &t, &all, &range).await);
            seen.extend(page.items.iter().map(|thread| thread.thread_id.to_string()));
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(ok(Cursor::parse(cursor.as_str()))),
                None => break,
            }
        }
        assert_eq!(seen, ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]);
    }
    let list = async |runs: &[&str], contents| {
        let filter = ChildFilter { spawn_run_ids: runs.iter().copied().map(run_id).collect(), contents };
        ok(ledger.threads().list_children(&alice(), &t, &filter, &ListRange::newest(1)).await).items
    };
    let whole = ok(ledger.threads().get(&alice(), &thread_id("c6")).await);
    assert_eq!(list(&["other", "r"], Contents::Read).await, std::slice::from_ref(&whole));
    let (config, metadata) = (RawJson::empty_object(), RawJson::empty_object());
    let bare = Thread { system_prompt: None, config, metadata, ..whole };
    assert_eq!(list(&["other", "r"], Contents::Omitted).await, [bare]);
    assert_eq!(list(&["other"], Contents::Read).await, []);
    let many = ChildFilter { spawn_run_ids: vec![run_id("r"); 1_001], ..ChildFilter::default() };
    let refused = ledger.threads().list_children(&alice(), &t, &many, &ListRange::default()).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    let of_a_leaf =
        ok(ledger.threads().list_children(&alice(), &thread_id("c1"), &all, &ListRange::default()).await);
    assert_eq!(of_a_leaf.items, []);
    let none = ledger.threads().list_children(&alice(), &t, &all, &ListRange::newest(0)).await;
    assert_eq!(kind(none), ErrorKind::InvalidInput);
    let foreign = ledger.threads().list_children(&mallory(), &t, &all, &ListRange::default()).await;
    assert_eq!(kind(foreign), ErrorKind::NotFound);
}

/// What was stored before a thread was archived is answered as that, and what was spent is counted late; nothing else
/// is taken.
pub async fn an_archived_thread_takes_what_was_spent(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    let run = admit(ledger, &t, "spent").await;
    let outcome = Outcome::success();
    let transition =
        Some(crate::Transition::Finish { outcome: outcome.clone(), asks: Vec::new(), at: at(9) });
    let end = Commit { transition, ..run.commit(0, vec![terminal(&outcome)]) };
    let stored = ok(commit(ledger, end.clone()).await);
    ok(ledger.threads().archive(&alice(), &t, at(20)).await);
    let again = ok(commit(ledger, end).await);
    assert_eq!((again.seqs, again.already_stored), (stored.seqs, 1));
    let late = || vec![call("late", TokenCounts::of(3, 4))];
    ok(commit(ledger, Commit { usage: late(), ..run.unmarked(Vec::new()) }).await);
    assert_eq!(run_of(ledger, &run).await.totals.total_tokens, 7);
    let with_more = Commit { usage: late(), ..run.unmarked(vec![note("more")]) };
    assert_eq!(kind(commit(ledger, with_more).await), ErrorKind::Conflict);
}

/// An archived thread takes no append, no run and no child; it is read, edited, listed and deleted.
pub async fn an_archived_thread_takes_no_append(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    let archived = ok(ledger.threads().archive(&alice(), &t, at(20)).await);
    assert_eq!((archived.archived_at, archived.updated_at), (Some(at(20)), at(20)));
    // It stays as it is.
    assert_eq!(ok(ledger.threads().archive(&alice(), &t, at(30)).await), archived);
    let before = log(ledger, &t).await;

    let late = Commit::new(t.clone()).with_events(vec![note("late")]);
    assert_eq!(kind(ledger.events().append(&alice(), late.clone()).await), ErrorKind::Conflict);
    let late_record = Commit::of_run(t.clone(), run_id("r")).with_events(vec![note("late")]);
    assert_eq!(kind(ledger.events().append(&alice(), late_record).await), ErrorKind::Conflict);
    let new = NewRun::new(t.clone(), run_id("r2"));
    assert_eq!(kind(ledger.admit(&alice(), new.clone()).await), ErrorKind::Conflict);
    let spawned = child_of(&t, "c", ThreadLifecycle::Linked);
    assert_eq!(kind(ledger.threads().create(&alice(), spawned).await), ErrorKind::Conflict);

    assert_eq!(log(ledger, &t).await, before);
    let patch = ThreadPatch { display_name: Patch::Set("old".to_owned()), ..ThreadPatch::default() };
    let edited = ok(ledger.threads().update(&alice(), &t, patch, at(31)).await);
    assert_eq!((edited.display_name.as_deref(), edited.archived_at), (Some("old"), Some(at(20))));
    let listed = ok(ledger.threads().list(&alice(), &ThreadFilter::default(), &ListRange::default()).await);
    assert_eq!(listed.items, [edited]);

    let open = ok(ledger.threads().unarchive(&alice(), &t, at(40)).await);
    assert_eq!((open.archived_at, open.updated_at), (None, at(40)));
    assert_eq!(ok(ledger.threads().unarchive(&alice(), &t, at(50)).await), open);
    ok(ledger.events().append(&alice(), late).await);
    ok(ledger.admit(&alice(), new).await);

    let busy = ledger.threads().archive(&alice(), &t, at(60)).await;
    assert_eq!(kind(busy), ErrorKind::Conflict);
    assert_eq!(ok(ledger.threads().get(&alice(), &t).await).archived_at, None);
    assert_eq!(kind(ledger.threads().archive(&mallory(), &t, at(60)).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.threads().unarchive(&mallory(), &t, at(60)).await), ErrorKind::NotFound);
}

/// Ephemeral and linked children go with their parent, and theirs; a detached one is given to the thread above,
/// with all below it, and every depth is right again.
pub async fn a_deletion_takes_what_is_linked_and_gives_away_what_is_detached(ledger: &Ledger) {
    use ThreadLifecycle::{Detached, Ephemeral, Linked};
    let top = parent(ledger, "top").await;
    let middle = child(ledger, &top, "middle", Detached).await;
    let linked = child(ledger, &middle, "linked", Linked).await;
    let spent = child(ledger, &linked, "spent", Ephemeral).await;
    let kept = child(ledger, &linked, "kept", Detached).await;
    let below = child(ledger, &kept, "below", Ephemeral).await;
    let deeper = child(ledger, &below, "deeper", Linked).await;

    let deleted = ok(ledger.threads().delete(&alice(), &middle).await);
    assert_eq!(deleted, Deleted { threads: 3, runs: 3, events: 6, ..Deleted::default() });
    for gone in [&middle, &linked, &spent] {
        assert_eq!(stored(ledger, gone).await, None);
        let late = Commit::new(gone.clone()).with_events(vec![note("late")]);
        assert_eq!(kind(commit(ledger, late).await), ErrorKind::NotFound);
    }
    let kept = ok(ledger.threads().get(&alice(), &kept).await);
    assert_eq!((kept.parent_thread_id.as_ref(), kept.spawn_depth), (Some(&top), 1));
    assert_eq!((&kept.lifecycle, &kept.spawn_run_id, &kept.spawn_item_id), (&Detached, &None, &None));
    let below = ok(ledger.threads().get(&alice(), &below).await);
    assert_eq!((below.parent_thread_id, below.spawn_depth), (Some(kept.thread_id.clone()), 2));
    assert_eq!(below.spawn_run_id, Some(run_id("r")));
    assert_eq!(ok(ledger.threads().get(&alice(), &deeper).await).spawn_depth, 3);
    require_sound(ledger).await;

    // At the top nobody is left to take it.
    assert_eq!(ok(ledger.threads().delete(&alice(), &top).await).threads, 1);
    let root = ok(ledger.threads().get(&alice(), &kept.thread_id).await);
    assert_eq!((root.parent_thread_id, root.spawn_depth, root.kind), (None, 0, ThreadKind::Root));
    require_sound(ledger).await;
    assert_eq!(everything(ledger).await.len(), 3);
}

/// While a run is active on one that goes, nothing goes.
pub async fn a_tree_with_an_active_run_is_not_deleted(ledger: &Ledger) {
    use ThreadLifecycle::{Detached, Ephemeral, Linked};
    let t = parent(ledger, "t").await;
    let linked = child(ledger, &t, "linked", Linked).await;
    let leaf = child(ledger, &linked, "leaf", Ephemeral).await;
    let detached = child(ledger, &t, "detached", Detached).await;
    // One that stays may work on.
    admit(ledger, &detached, "r2").await;
    let active = admit(ledger, &leaf, "r2").await;
    let before = everything(ledger).await;
    assert_eq!(kind(ledger.threads().delete(&alice(), &t).await), ErrorKind::Conflict);
    assert_eq!(everything(ledger).await, before);
    assert_eq!(log(ledger, &leaf).await.len(), 2);

    ok(ledger.finish(&Scope::System, active.finish(0, Outcome::error("failed"))).await);
    assert_eq!(ok(ledger.threads().delete(&alice(), &t).await).threads, 3);
    assert_eq!(ok(ledger.threads().get(&alice(), &detached).await).parent_thread_id, None);
}

/// An ephemeral thread is gone once its run succeeded; one whose run failed stays, and so does a linked one.
pub async fn an_ephemeral_thread_is_deleted_when_its_run_succeeds(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    for (id, lifecycle, outcome, stays) in [
        ("succeeded", ThreadLifecycle::Ephemeral, Outcome::success(), false),
        ("failed", ThreadLifecycle::Ephemeral, Outcome::error("failed"), true),
        ("interrupted", ThreadLifecycle::Ephemeral, Outcome::interrupted("stopped"), true),
        ("linked", ThreadLifecycle::Linked, Outcome::success(), true),
        ("detached", ThreadLifecycle::Detached, Outcome::success(), true),
    ] {
        let c = ok(ledger.threads().create(&alice(), child_of(&t, id, lifecycle)).await).thread_id;
        let run = admit(ledger, &c, "r").await;
        let ended = ok(ledger.finish(&alice(), run.finish(0, outcome.clone())).await);
        assert_eq!(ended.run.status, outcome.status.status(), "{id}");
        assert_eq!(stored(ledger, &c).await.is_some(), stays, "{id}");
    }
}

/// A sweep deletes ephemeral threads that have served, and no other.
pub async fn a_sweep_deletes_what_has_served(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    // What ends without `Ledger::finish` is left to the sweep.
    let mut expected = Vec::new();
    for (id, lifecycle, outcome, goes) in [
        ("spent1", ThreadLifecycle::Ephemeral, Outcome::success(), true),
        ("spent2", ThreadLifecycle::Ephemeral, Outcome::success(), true),
        ("failed", ThreadLifecycle::Ephemeral, Outcome::error("failed"), false),
        ("linked", ThreadLifecycle::Linked, Outcome::success(), false),
    ] {
        let c = ok(ledger.threads().create(&alice(), child_of(&t, id, lifecycle)).await).thread_id;
        let run = admit(ledger, &c, "r").await;
        let transition =
            Some(crate::Transition::Finish { outcome: outcome.clone(), asks: Vec::new(), at: at(9) });
        ok(commit(ledger, Commit { transition, ..run.commit(0, vec![terminal(&outcome)]) }).await);
        if goes {
            expected.push(c);
        }
    }
    // Its last run did not succeed, though an earlier one did.
    let twice =
        ok(ledger.threads().create(&alice(), child_of(&t, "twice", ThreadLifecycle::Ephemeral)).await);
    let outcomes = [Outcome::success(), Outcome::budget_exhausted(crate::BudgetLimit::MaxTokens)];
    for (run, outcome) in ["z", "a"].into_iter().zip(outcomes) {
        let run = admit(ledger, &twice.thread_id, run).await;
        let transition =
            Some(crate::Transition::Finish { outcome: outcome.clone(), asks: Vec::new(), at: at(9) });
        ok(commit(ledger, Commit { transition, ..run.commit(0, vec![terminal(&outcome)]) }).await);
    }
    // Never ran, runs, and kept on purpose.
    ok(ledger.threads().create(&alice(), child_of(&t, "new", ThreadLifecycle::Ephemeral)).await);
    let busy = ok(ledger.threads().create(&alice(), child_of(&t, "busy", ThreadLifecycle::Ephemeral)).await)
        .thread_id;
    admit(ledger, &busy, "r").await;
    let before = everything(ledger).await;

    // Not so long ago.
    let age = Duration::from_secs(60 * 366 * 86_400);
    assert_eq!(ok(ledger.discard_spent(&Scope::System, age, 10).await), []);
    assert_eq!(kind(ledger.discard_spent(&alice(), age, 10).await), ErrorKind::InvalidInput);
    assert_eq!(everything(ledger).await, before);
    let minute = Duration::from_secs(60);
    assert_eq!(ok(ledger.threads().list_spent(&Scope::System, minute, 1).await), expected[..1]);
    assert_eq!(ok(ledger.discard_spent(&Scope::System, minute, 10).await), expected);
    assert_eq!(ok(ledger.discard_spent(&Scope::System, minute, 10).await), []);
    assert_eq!(everything(ledger).await.len(), before.len() - 2);
    require_sound(ledger).await;
}

/// A tree has one owner: it is given away as a whole, not a child from under its parent.
pub async fn a_tree_changes_hands_as_a_whole(ledger: &Ledger) {
    let t = parent(ledger, "t").await;
    let c = child(ledger, &t, "c", ThreadLifecycle::Linked).await;
    let grandchild = child(ledger, &c, "g", ThreadLifecycle::Detached).await;
    let bob = owner("bob").owner().cloned();
    let alone = ledger.threads().set_owner(&Scope::System, &c, bob.clone()).await;
    assert_eq!(kind(alone), ErrorKind::Conflict);
    ok(ledger.threads().set_owner(&Scope::System, &t, bob.clone()).await);
    for thread in [&t, &c, &grandchild] {
        assert_eq!(kind(ledger.threads().get(&alice(), thread).await), ErrorKind::NotFound);
        assert_eq!(ok(ledger.threads().get(&owner("bob"), thread).await).owner_id, bob);
        assert_eq!(ok(ledger.threads().head(&Scope::System, thread).await).owner_id, bob);
        assert_eq!(ok(ledger.runs().get(&owner("bob"), thread, &run_id("r")).await).owner_id, bob);
    }
}

/// Who spawns while the parent is deleted has a child that goes with it, or none; nobody's parent is missing.
pub async fn a_spawn_and_a_deletion_of_the_parent_exclude_each_other(ledger: &Ledger) {
    for round in 0..6 {
        let t = parent(ledger, &format!("t{round}")).await;
        let tasks = (0..9).map(|number| {
            let (ledger, t) = (ledger.clone(), t.clone());
            let lifecycle = if number % 2 == 0 { ThreadLifecycle::Linked } else { ThreadLifecycle::Detached };
            let new = child_of(&t, &format!("c{round}-{number}"), lifecycle.clone());
            async move {
                if number == 4 {
                    return ok(ledger.threads().delete(&alice(), &t).await).threads;
                }
                match ledger.threads().create(&alice(), new).await {
                    Ok(_) => u64::from(lifecycle == ThreadLifecycle::Linked),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                        0
                    }
                }
            }
        });
        let answers = together(tasks).await;
        let linked: u64 = answers.iter().enumerate().filter(|(at, _)| *at != 4).map(|(_, made)| made).sum();
        assert_eq!(answers.get(4), Some(&(linked + 1)), "those that were made in time went");
        assert_eq!(stored(ledger, &t).await, None);
    }
    require_sound(ledger).await;
}

/// Appends that were acknowledged are within what the deletion notes; none comes after it.
pub async fn appends_and_the_deletion_of_a_tree_meet(ledger: &Ledger) {
    for round in 0..4 {
        let t = parent(ledger, &format!("t{round}")).await;
        let c = child(ledger, &t, &format!("c{round}"), ThreadLifecycle::Linked).await;
        let tasks = (0..12).map(|number| {
            let (ledger, t, c) = (ledger.clone(), t.clone(), c.clone());
            async move {
                if number == 6 {
                    ok(ledger.threads().delete(&alice(), &t).await);
                    return 0;
                }
                let commit = Commit::new(c).with_events(vec![note("a"), note("b")]);
                match ledger.events().append(&alice(), commit).await {
                    Ok(receipt) => receipt.seqs.len() as u64,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                        0
                    }
                }
            }
        });
        let appended: u64 = together(tasks).await.into_iter().sum();
        let filter = DeletionFilter { thread_id: Some(c) };
        let noted = ok(ledger.threads().list_deletions(&Scope::System, &filter, &ListRange::default()).await);
        let ranges: Vec<_> = noted.items.iter().map(|it| (it.from_seq, it.through_seq)).collect();
        // The child's run has two events.
        assert_eq!(ranges, [(0, appended + 2)]);
    }
}

/// Of two deletions one is done, and of overlapping ones each thread goes once.
pub async fn deletions_of_one_tree_take_each_thread_once(ledger: &Ledger) {
    for round in 0..6 {
        let t = parent(ledger, &format!("t{round}")).await;
        let mut lowest = t.clone();
        let mut all = vec![t.clone()];
        for number in 0..3 {
            let id = format!("c{round}-{number}");
            lowest = child(ledger, &lowest, &id, ThreadLifecycle::Linked).await;
            all.push(lowest.clone());
        }
        let doomed: Vec<ThreadId> = all.iter().chain(&all).cloned().collect();
        let gone = together(doomed.into_iter().map(|thread| {
            let ledger = ledger.clone();
            async move {
                match ledger.threads().delete(&alice(), &thread).await {
                    Ok(deleted) => deleted.threads,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                        0
                    }
                }
            }
        }))
        .await;
        assert_eq!(gone.iter().sum::<u64>(), 4, "{gone:?}");
        for thread in &all {
            assert_eq!(stored(ledger, thread).await, None);
        }
    }
}

/// Depths are right whatever is given away while others spawn below it.
pub async fn depths_hold_while_trees_move(ledger: &Ledger) {
    for round in 0..5 {
        let top = parent(ledger, &format!("top{round}")).await;
        let middle = child(ledger, &top, &format!("m{round}"), ThreadLifecycle::Linked).await;
        let kept = child(ledger, &middle, &format!("k{round}"), ThreadLifecycle::Detached).await;
        let low = child(ledger, &kept, &format!("l{round}"), ThreadLifecycle::Linked).await;
        together((0..9).map(|number| {
            let (ledger, middle) = (ledger.clone(), middle.clone());
            let below = if number % 2 == 0 { low.clone() } else { kept.clone() };
            // Only after the middle is gone there is room for one more.
            let spawn = Spawn::new(below, run_id("r")).with_max_depth(if number % 2 == 0 { 3 } else { 2 });
            let new = NewThread {
                spawn: Some(spawn),
                created_at: at(0),
                ..NewThread::new(thread_id(&format!("d{round}-{number}")))
            };
            async move {
                if number == 4 {
                    assert_eq!(ok(ledger.threads().delete(&alice(), &middle).await).threads, 1);
                } else if let Err(error) = ledger.threads().create(&alice(), new).await {
                    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                }
            }
        }))
        .await;
    }
    require_sound(ledger).await;
    assert!(everything(ledger).await.values().all(|thread| thread.spawn_depth <= 3));
}

/// A thread as the model knows it.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    parent: Option<ThreadId>,
    lifecycle: ThreadLifecycle,
    archived: bool,
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

/// What goes with a thread, by the model.
fn going(known: &BTreeMap<ThreadId, Known>, root: &ThreadId) -> BTreeSet<ThreadId> {
    let mut gone = BTreeSet::from([root.clone()]);
    loop {
        let before = gone.len();
        for (id, thread) in known {
            let of_gone = thread.parent.as_ref().is_some_and(|parent| gone.contains(parent));
            if of_gone && thread.lifecycle != ThreadLifecycle::Detached {
                gone.insert(id.clone());
            }
        }
        if gone.len() == before {
            return gone;
        }
    }
}

/// Random spawns, archives and deletions leave what a model of them says.
pub async fn random_trees_are_what_a_model_says(ledger: &Ledger) {
    let lifecycles = [ThreadLifecycle::Ephemeral, ThreadLifecycle::Linked, ThreadLifecycle::Detached];
    let mut dice = Dice(7);
    let mut known: BTreeMap<ThreadId, Known> = BTreeMap::new();
    for step in 0..160 {
        let ids: Vec<ThreadId> = known.keys().cloned().collect();
        let chosen = ids.get(dice.roll(ids.len())).cloned();
        match (dice.roll(8), chosen) {
            (0, _) | (_, None) => {
                let id = parent(ledger, &format!("n{step}")).await;
                known.insert(
                    id,
                    Known { parent: None, lifecycle: ThreadLifecycle::Detached, archived: false },
                );
            }
            (1, Some(id)) => {
                let gone = going(&known, &id);
                let above = known.get(&id).and_then(|thread| thread.parent.clone());
                let deleted = ok(ledger.threads().delete(&alice(), &id).await);
                assert_eq!((deleted.threads, deleted.usage), (gone.len() as u64, 0));
                known.retain(|id, _| !gone.contains(id));
                for thread in known.values_mut() {
                    if thread.parent.as_ref().is_some_and(|parent| gone.contains(parent)) {
                        thread.parent = above.clone();
                    }
                }
            }
            (2, Some(id)) => {
                ok(ledger.threads().archive(&alice(), &id, at(100)).await);
                known.entry(id).and_modify(|thread| thread.archived = true);
            }
            (3, Some(id)) => {
                ok(ledger.threads().unarchive(&alice(), &id, at(100)).await);
                known.entry(id).and_modify(|thread| thread.archived = false);
            }
            (_, Some(id)) => {
                let lifecycle = lifecycles[dice.roll(3)].clone();
                if known.get(&id).is_some_and(|thread| thread.archived) {
                    let new = child_of(&id, &format!("n{step}"), lifecycle);
                    assert_eq!(kind(ledger.threads().create(&alice(), new).await), ErrorKind::Conflict);
                } else {
                    let made = child(ledger, &id, &format!("n{step}"), lifecycle.clone()).await;
                    known.insert(made, Known { parent: Some(id), lifecycle, archived: false });
                }
            }
        }
    }
    let found = everything(ledger).await;
    let told: BTreeMap<ThreadId, Known> = found
        .into_iter()
        .map(|(id, thread)| {
            let Thread { parent_thread_id: parent, lifecycle, archived_at, .. } = thread;
            (id, Known { parent, lifecycle, archived: archived_at.is_some() })
        })
        .collect();
    assert_eq!(told, known);
    require_sound(ledger).await;
}
