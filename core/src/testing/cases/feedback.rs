//! What people think of runs and messages.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Cursor, Erasure, ErrorKind, Feedback, FeedbackFilter, FeedbackId, FeedbackPatch, FeedbackStats, Fork,
    ItemStatus, Ledger, ListRange, NewFeedback, OwnerId, Patch, Rating, RunId, Scope, ThreadId,
};

fn id(text: &str) -> FeedbackId {
    ok(FeedbackId::new(text))
}

fn name(scope: &Scope) -> OwnerId {
    scope.owner().cloned().unwrap_or_else(|| panic!("the system has no name"))
}

/// Approval of a run of alice's thread, given at second 10.
fn like(feedback: &str, run: &str) -> NewFeedback {
    NewFeedback {
        thread_id: thread_id("t"),
        feedback_id: id(feedback),
        run_id: run_id(run),
        item_id: None,
        rating: Rating::Up,
        comment: None,
        at: at(10),
    }
}

/// The same of a message of the run.
fn like_message(feedback: &str, run: &str, item: &str) -> NewFeedback {
    NewFeedback { item_id: Some(item_id(item)), ..like(feedback, run) }
}

/// Alice's thread with ended runs, each with the messages `a` and `b`.
async fn scene(ledger: &Ledger, runs: &[&str]) -> ThreadId {
    let t = thread(ledger, &alice(), "t").await;
    for name in runs {
        said(ledger, &t, name).await;
    }
    t
}

async fn said(ledger: &Ledger, t: &ThreadId, name: &str) {
    let run = admit(ledger, t, name).await;
    let messages = ["a", "b"].map(|id| tool_ended(id, ItemStatus::Completed));
    ok(commit(ledger, run.commit(0, messages.to_vec())).await);
    finish(ledger, &run, 2).await;
}

async fn listed(ledger: &Ledger, scope: &Scope, filter: &FeedbackFilter) -> Vec<Feedback> {
    let range = ListRange::default();
    ok(ledger.feedback().list(scope, &thread_id("t"), filter, &range).await).items
}

async fn ids(ledger: &Ledger) -> Vec<String> {
    let all = listed(ledger, &Scope::System, &FeedbackFilter::default()).await;
    all.iter().map(|feedback| feedback.feedback_id.to_string()).collect()
}

/// What was given is what is read, with who gave it.
pub async fn feedback_comes_back_whole(ledger: &Ledger) {
    let t = scene(ledger, &["r"]).await;
    let new = NewFeedback {
        rating: Rating::Down,
        comment: Some("not what I asked".to_owned()),
        ..like_message("f", "r", "a")
    };
    let given = ok(ledger.feedback().create(&alice(), new).await);
    let expected = Feedback {
        thread_id: t.clone(),
        feedback_id: id("f"),
        run_id: run_id("r"),
        item_id: Some(item_id("a")),
        owner_id: alice().owner().cloned(),
        rating: Rating::Down,
        comment: Some("not what I asked".to_owned()),
        created_at: at(10),
        updated_at: at(10),
    };
    assert_eq!(given, expected);
    assert_eq!(ok(ledger.feedback().get(&alice(), &t, &id("f")).await), expected);
    let of_system = ok(ledger.feedback().create(&Scope::System, like("g", "r")).await);
    assert_eq!((of_system.owner_id.as_ref(), of_system.item_id.as_ref()), (None, None));
    // Whoever sees the thread sees both, the newest first, or the larger id.
    assert_eq!(listed(ledger, &alice(), &FeedbackFilter::default()).await, [of_system, expected]);
}

/// A second opinion of the same is refused where it is created, and takes the first one's place where it is put.
pub async fn a_person_has_one_opinion_of_each(ledger: &Ledger) {
    scene(ledger, &["r"]).await;
    let store = ledger.feedback();
    for (scope, prefix) in [(alice(), "a"), (Scope::System, "s")] {
        let of_run = ok(store.create(&scope, like(&format!("{prefix}1"), "r")).await);
        ok(store.create(&scope, like_message(&format!("{prefix}2"), "r", "a")).await);
        ok(store.create(&scope, like_message(&format!("{prefix}3"), "r", "b")).await);
        let again = store.create(&scope, like(&format!("{prefix}4"), "r")).await;
        assert_eq!(kind(again), ErrorKind::AlreadyExists);
        let again = store.create(&scope, like_message(&format!("{prefix}4"), "r", "a")).await;
        assert_eq!(kind(again), ErrorKind::AlreadyExists);
        let new = NewFeedback {
            rating: Rating::Down,
            comment: Some("after all".to_owned()),
            at: at(20),
            ..like(&format!("{prefix}5"), "r")
        };
        let put = ok(store.put(&scope, new).await);
        let expected = Feedback {
            rating: Rating::Down,
            comment: Some("after all".to_owned()),
            updated_at: at(20),
            ..of_run
        };
        assert_eq!(put, expected);
        assert_eq!(ok(store.get(&alice(), &thread_id("t"), &expected.feedback_id).await), expected);
    }
    assert_eq!(ids(ledger).await, ["s3", "s2", "s1", "a3", "a2", "a1"]);
    // An id is taken once, whatever it is about.
    ok(store.delete(&alice(), &thread_id("t"), &id("a2")).await);
    assert_eq!(kind(store.create(&alice(), like_message("a3", "r", "a")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(store.put(&alice(), like_message("a3", "r", "a")).await), ErrorKind::AlreadyExists);
}

/// Many who put at once leave one row, which has the id that each of them is told.
pub async fn one_of_many_puts_is_one_row(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    admit(ledger, &t, "r").await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let ledger = ledger.clone();
            let new = NewFeedback { comment: Some(number.to_string()), ..like(&format!("f{number}"), "r") };
            tokio::spawn(async move { ledger.feedback().put(&alice(), new).await })
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        match task.await {
            Ok(put) => told.push(ok(put)),
            Err(error) => panic!("{error}"),
        }
    }
    let all = listed(ledger, &alice(), &FeedbackFilter::default()).await;
    let [stored] = all.as_slice() else { panic!("{all:?}") };
    assert!(told.iter().all(|put| put.feedback_id == stored.feedback_id), "{told:?}");
    assert!(told.contains(stored), "{stored:?}");
}

/// The run and the message must be there, and be the thread's and the run's.
pub async fn what_feedback_is_about_must_be_there(ledger: &Ledger) {
    scene(ledger, &["r"]).await;
    let other = thread(ledger, &alice(), "other").await;
    said(ledger, &other, "r2").await;
    let run = admit(ledger, &other, "r3").await;
    ok(commit(ledger, run.commit(0, vec![tool_ended("c", ItemStatus::Completed)])).await);
    let store = ledger.feedback();
    for new in [
        like("f", "none"),
        like("f", "r2"),
        like_message("f", "r", "none"),
        like_message("f", "r", "c"),
        NewFeedback { thread_id: thread_id("none"), ..like("f", "r") },
    ] {
        assert_eq!(kind(store.create(&alice(), new.clone()).await), ErrorKind::NotFound);
        assert_eq!(kind(store.put(&alice(), new).await), ErrorKind::NotFound);
    }
    assert_eq!(ids(ledger).await, [""; 0]);
}

/// A comment is cleaned of NUL, and refused where it is too long.
pub async fn a_comment_has_a_length_and_no_nul(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    admit(ledger, &t, "r").await;
    let store = ledger.feedback();
    let with = |comment: String| NewFeedback { comment: Some(comment), ..like("f", "r") };
    let long = "é".repeat(10_001);
    for answer in
        [store.create(&alice(), with(long.clone())).await, store.put(&alice(), with(long.clone())).await]
    {
        assert_eq!(kind(answer), ErrorKind::InvalidInput);
    }
    let longest = "é".repeat(10_000);
    let given = ok(store.create(&alice(), with(longest.clone())).await);
    assert_eq!(given.comment, Some(longest));
    let patch =
        |comment: &str| FeedbackPatch { comment: Patch::Set(comment.to_owned()), ..Default::default() };
    let refused = store.update(&alice(), &t, &id("f"), patch(&long), at(20)).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    assert_eq!(ok(store.get(&alice(), &t, &id("f")).await), given);
    let cleaned = ok(store.update(&alice(), &t, &id("f"), patch("a\0b"), at(20)).await);
    assert_eq!(cleaned.comment.as_deref(), Some("a\u{fffd}b [1 NUL character replaced]"));
}

/// A change changes what it names; what was taken back is gone, and may be given anew.
pub async fn feedback_is_changed_and_taken_back(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    admit(ledger, &t, "r").await;
    let store = ledger.feedback();
    let given =
        ok(store.create(&alice(), NewFeedback { comment: Some("x".to_owned()), ..like("f", "r") }).await);
    let patch = FeedbackPatch { rating: Some(Rating::Down), comment: Patch::Keep };
    let changed = ok(store.update(&alice(), &t, &id("f"), patch, at(20)).await);
    assert_eq!(changed, Feedback { rating: Rating::Down, updated_at: at(20), ..given.clone() });
    let patch = FeedbackPatch { rating: None, comment: Patch::Clear };
    let changed = ok(store.update(&alice(), &t, &id("f"), patch, at(30)).await);
    let expected = Feedback { rating: Rating::Down, comment: None, updated_at: at(30), ..given };
    assert_eq!(changed, expected);
    assert_eq!(ok(store.get(&alice(), &t, &id("f")).await), expected);
    ok(store.delete(&alice(), &t, &id("f")).await);
    let none = FeedbackPatch::default();
    assert_eq!(kind(store.get(&alice(), &t, &id("f")).await), ErrorKind::NotFound);
    assert_eq!(kind(store.update(&alice(), &t, &id("f"), none, at(40)).await), ErrorKind::NotFound);
    assert_eq!(kind(store.delete(&alice(), &t, &id("f")).await), ErrorKind::NotFound);
    ok(store.create(&alice(), like("f", "r")).await);
}

/// Lists narrow by run and message, and come in pages, the newest first.
pub async fn feedback_is_listed_in_pages(ledger: &Ledger) {
    let t = scene(ledger, &["r1", "r2"]).await;
    let store = ledger.feedback();
    let news = [like("f1", "r1"), like_message("f2", "r1", "a"), like_message("f3", "r1", "b")]
        .into_iter()
        .chain([like("f4", "r2"), like_message("f5", "r2", "a")]);
    for (number, new) in news.enumerate() {
        let second = 10 + i64::try_from(number / 2).unwrap_or_default();
        ok(store.create(&alice(), NewFeedback { at: at(second), ..new }).await);
    }
    let of_runs = |ids: &[&str], item_id| FeedbackFilter {
        run_ids: ids.iter().copied().map(run_id).collect(),
        item_id,
    };
    let expected: [(FeedbackFilter, &[&str]); 6] = [
        (FeedbackFilter::default(), &["f5", "f4", "f3", "f2", "f1"]),
        (of_runs(&["r1"], None), &["f3", "f2", "f1"]),
        (of_runs(&["none", "r2", "r1"], None), &["f5", "f4", "f3", "f2", "f1"]),
        (of_runs(&[], Some(item_id("a"))), &["f5", "f2"]),
        (of_runs(&["r1"], Some(item_id("a"))), &["f2"]),
        (of_runs(&["none"], None), &[]),
    ];
    for (filter, expected) in expected {
        for scope in [alice(), Scope::System] {
            let mut seen = Vec::new();
            let mut range = ListRange::newest(2);
            loop {
                let page = ok(store.list(&scope, &t, &filter, &range).await);
                seen.extend(page.items.iter().map(|feedback| feedback.feedback_id.to_string()));
                match page.next_cursor {
                    Some(cursor) => range.cursor = Some(ok(Cursor::parse(cursor.as_str()))),
                    None => break,
                }
            }
            assert_eq!(seen, expected, "{filter:?}");
        }
    }
    let none = store.list(&alice(), &t, &FeedbackFilter::default(), &ListRange::newest(0)).await;
    assert_eq!(kind(none), ErrorKind::InvalidInput);
    let many = FeedbackFilter { run_ids: vec![run_id("r1"); 1_001], item_id: None };
    assert_eq!(kind(store.list(&alice(), &t, &many, &ListRange::newest(1)).await), ErrorKind::InvalidInput);
}

/// Ratings of a run and of its messages are counted together; runs without any are left out.
pub async fn ratings_are_counted_by_run(ledger: &Ledger) {
    let t = scene(ledger, &["r1", "r2", "r3"]).await;
    let store = ledger.feedback();
    ok(store.create(&alice(), like("f1", "r1")).await);
    ok(store.create(&alice(), NewFeedback { rating: Rating::Down, ..like_message("f2", "r1", "a") }).await);
    ok(store.create(&Scope::System, like("f3", "r1")).await);
    ok(store.create(&alice(), NewFeedback { rating: Rating::Down, ..like("f4", "r2") }).await);
    let asked = ["r1", "r2", "r3", "none"].map(run_id);
    let expected = BTreeMap::from([
        (run_id("r1"), FeedbackStats { total: 3, positive: 2, negative: 1 }),
        (run_id("r2"), FeedbackStats { total: 1, positive: 0, negative: 1 }),
    ]);
    assert_eq!(ok(store.stats(&alice(), &t, &asked).await), expected);
    assert_eq!(ok(store.stats(&alice(), &t, &[]).await), BTreeMap::new());
    let many: Vec<RunId> = (0..1_001).map(|number| run_id(&format!("r{number}"))).collect();
    assert_eq!(kind(store.stats(&alice(), &t, &many).await), ErrorKind::InvalidInput);
}

/// A stranger neither sees nor changes it, and is told of nothing.
pub async fn feedback_is_its_threads(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    admit(ledger, &t, "r").await;
    let store = ledger.feedback();
    let given = ok(store.create(&alice(), like("f", "r")).await);
    let (scope, filter, range) = (mallory(), FeedbackFilter::default(), ListRange::default());
    let patch = FeedbackPatch { rating: Some(Rating::Down), comment: Patch::Keep };
    for answer in [
        kind(store.create(&scope, like("g", "r")).await),
        kind(store.put(&scope, like("g", "r")).await),
        kind(store.get(&scope, &t, &id("f")).await),
        kind(store.list(&scope, &t, &filter, &range).await),
        kind(store.update(&scope, &t, &id("f"), patch, at(20)).await),
        kind(store.delete(&scope, &t, &id("f")).await),
        kind(store.stats(&scope, &t, &[run_id("r")]).await),
    ] {
        assert_eq!(answer, ErrorKind::NotFound);
    }
    assert_eq!(listed(ledger, &alice(), &filter).await, [given]);
    // An id belongs to its thread: the same one on another is another.
    let theirs = thread(ledger, &mallory(), "m").await;
    admit(ledger, &theirs, "r").await;
    ok(store.create(&mallory(), NewFeedback { thread_id: theirs, ..like("f", "r") }).await);
}

/// It goes with the run it is about, with the log, and with the thread.
pub async fn feedback_goes_with_its_run_and_its_thread(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    for run in ["r1", "r2"] {
        let run = admit(ledger, &t, run).await;
        ok(commit(ledger, run.commit(0, vec![note("n")])).await);
        finish(ledger, &run, 1).await;
    }
    let store = ledger.feedback();
    ok(store.create(&alice(), like("f1", "r1")).await);
    ok(store.create(&alice(), like("f2", "r2")).await);
    ok(ledger.events().delete_by_run(&alice(), &t, &run_id("r1")).await);
    assert_eq!(ids(ledger).await, ["f2"]);
    ok(ledger.events().delete_by_thread(&alice(), &t).await);
    assert_eq!(ids(ledger).await, [""; 0]);
    admit(ledger, &t, "r3").await;
    let run = ok(ledger.runs().get(&alice(), &t, &run_id("r3")).await);
    finish(ledger, &Admitted { thread: t.clone(), run: run.run_id, epoch: run.epoch }, 0).await;
    ok(store.create(&alice(), like("f3", "r3")).await);
    ok(ledger.threads().delete(&alice(), &t).await);
    assert_eq!(kind(store.get(&Scope::System, &t, &id("f3")).await), ErrorKind::NotFound);
}

/// The next owner of a thread sees what was thought before, and by whom.
pub async fn a_thread_that_changes_hands_keeps_what_was_thought(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    admit(ledger, &t, "r").await;
    let given = ok(ledger.feedback().create(&alice(), like("f", "r")).await);
    ok(ledger.threads().set_owner(&Scope::System, &t, mallory().owner().cloned()).await);
    assert_eq!(kind(ledger.feedback().get(&alice(), &t, &id("f")).await), ErrorKind::NotFound);
    assert_eq!(ok(ledger.feedback().get(&mallory(), &t, &id("f")).await), given);
    let theirs = ok(ledger.feedback().create(&mallory(), like("g", "r")).await);
    assert_eq!(listed(ledger, &mallory(), &FeedbackFilter::default()).await, [theirs, given]);
}

/// An anonymised owner's feedback is nobody's, wherever it is; a deleted owner's is gone.
pub async fn an_erased_owner_leaves_no_name(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    admit(ledger, &t, "r").await;
    let store = ledger.feedback();
    let hers = ok(store.create(&alice(), like("a", "r")).await);
    ok(ledger.threads().set_owner(&Scope::System, &t, Some(name(&mallory()))).await);
    let his = ok(store.create(&mallory(), like("m", "r")).await);
    let of_system = ok(store.create(&Scope::System, like("s", "r")).await);
    ok(ledger.erase_owner(&Scope::System, &name(&alice()), Erasure::Anonymise, at(50)).await);
    let nobodys = Feedback { owner_id: None, ..hers };
    assert_eq!(
        listed(ledger, &mallory(), &FeedbackFilter::default()).await,
        [of_system.clone(), his, nobodys.clone()]
    );
    ok(ledger.threads().set_owner(&Scope::System, &t, None).await);
    ok(ledger.erase_owner(&Scope::System, &name(&mallory()), Erasure::Delete, at(60)).await);
    assert_eq!(listed(ledger, &Scope::System, &FeedbackFilter::default()).await, [of_system, nobodys]);
}

/// A fork begins without it.
pub async fn a_fork_leaves_it_to_the_source(ledger: &Ledger) {
    let t = scene(ledger, &["r"]).await;
    let given = ok(ledger.feedback().create(&alice(), like("f", "r")).await);
    let fork = Fork { at: at(99), ..Fork::new(t, thread_id("fork")) };
    ok(ledger.fork(&alice(), fork).await);
    let (filter, range) = (FeedbackFilter::default(), ListRange::default());
    let copied = ok(ledger.feedback().list(&alice(), &thread_id("fork"), &filter, &range).await);
    assert_eq!(copied.items, []);
    assert_eq!(listed(ledger, &alice(), &filter).await, [given]);
}
