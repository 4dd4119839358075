//! One atomic append.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Category, Commit, ErrorKind, Expected, Ledger, MAX_ID_BYTES, NewThread, RawJson, RunProgress,
    RunVisibility, Scope, ThreadPatch, commit::MAX_COMMIT_BYTES, commit::MAX_EVENTS,
};

/// The first event is 1, and numbers go on across commits.
pub async fn seqs_start_at_one_without_gaps(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    assert_eq!(append(ledger, &t, vec![note("a"), note("b")]).await.seqs, [1, 2]);
    let receipt = append(ledger, &t, vec![note("c")]).await;
    assert_eq!((receipt.seqs, receipt.next_seq, receipt.already_stored), (vec![3], 4, 0));
    assert_eq!(texts(&log(ledger, &t).await), ["a", "b", "c"]);
}

/// Each thread counts for itself.
pub async fn threads_count_independently(ledger: &Ledger) {
    let (a, b) = (thread(ledger, &Scope::System, "a").await, thread(ledger, &Scope::System, "b").await);
    append(ledger, &a, vec![note("a1"), note("a2")]).await;
    assert_eq!(append(ledger, &b, vec![note("b1")]).await.seqs, [1]);
}

/// Everything of an event comes back.
pub async fn an_event_comes_back_whole(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut draft = tool_started("call");
    draft.caller = Some(ok(crate::Caller::new("subagent:writer")));
    draft.task_id = Some(ok(crate::TaskId::new("task")));
    draft.once_key = Some("once".to_owned());
    draft.metadata = Some(json(r#"{"b":1,"a":[null]}"#));
    if let Some(mark) = &mut draft.item {
        mark.parent_item_id = Some(item_id("parent"));
    }
    ok(commit(ledger, run.commit(0, vec![draft.clone()])).await);
    let stored = log(ledger, &run.thread).await.remove(0);
    let expected = crate::Event {
        thread_id: run.thread.clone(),
        seq: 1,
        run_id: Some(run.run.clone()),
        journal_ordinal: run.journal_ordinal(0),
        event_type: draft.event_type,
        category: draft.category,
        caller: draft.caller,
        task_id: draft.task_id,
        item: draft.item,
        once_key: draft.once_key,
        content_bytes: draft.content.as_str().len() as u64,
        content: draft.content,
        truncated: false,
        metadata: draft.metadata,
        created_at: draft.created_at,
    };
    assert_eq!(stored, expected);
}

/// An expectation that holds lets the commit through; one that does not is a conflict that says both.
pub async fn an_expected_seq_is_checked(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let expecting = |seq| Commit {
        expected: Expected::NextSeq(seq),
        ..Commit::new(t.clone()).with_events(vec![note("a")])
    };
    assert_eq!(ok(commit(ledger, expecting(1)).await).seqs, [1]);
    let error = refused(commit(ledger, expecting(1)).await);
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains("expected 1") && text.contains("found 2"), "{text}");
    assert_eq!(log(ledger, &t).await.len(), 1);
}

/// A thread that does not exist is made in the commit that asks for it, and only once.
pub async fn a_missing_thread_is_created_on_request(ledger: &Ledger) {
    let t = thread_id("t");
    assert_eq!(
        kind(commit(ledger, Commit::new(t.clone()).with_events(vec![note("a")])).await),
        ErrorKind::NotFound
    );
    let creating = Commit {
        create_missing: Some(NewThread::new(t.clone())),
        ..Commit::new(t.clone()).with_events(vec![note("a")])
    };
    assert_eq!(ok(ledger.events().append(&alice(), creating.clone()).await).seqs, [1]);
    assert_eq!(ok(ledger.events().append(&alice(), creating.clone()).await).seqs, [2]);
    let made = ok(ledger.threads().get(&alice(), &t).await);
    assert_eq!(made.owner_id.as_ref(), alice().owner());
    assert_eq!(kind(ledger.events().append(&mallory(), creating).await), ErrorKind::NotFound);
}

/// A commit that is refused for another reason makes no thread.
pub async fn a_refused_commit_creates_no_thread(ledger: &Ledger) {
    let t = thread_id("t");
    let refused_commit = Commit {
        expected: Expected::NextSeq(7),
        create_missing: Some(NewThread::new(t.clone())),
        ..Commit::new(t.clone()).with_events(vec![note("a")])
    };
    assert_eq!(kind(commit(ledger, refused_commit).await), ErrorKind::Conflict);
    assert_eq!(kind(ledger.threads().get(&Scope::System, &t).await), ErrorKind::NotFound);
}

/// A deleted thread is not revived by a commit.
pub async fn a_deleted_thread_is_not_revived(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    append(ledger, &t, vec![note("a")]).await;
    ok(ledger.threads().delete(&Scope::System, &t).await);
    let reviving = Commit {
        create_missing: Some(NewThread::new(t.clone())),
        ..Commit::new(t.clone()).with_events(vec![note("b")])
    };
    assert_eq!(kind(commit(ledger, reviving).await), ErrorKind::NotFound);
    assert_eq!(
        kind(ledger.threads().create(&Scope::System, NewThread::new(t)).await),
        ErrorKind::AlreadyExists
    );
}

/// A commit that says nothing is refused, and so is one that says too much.
pub async fn empty_and_oversized_commits_are_refused(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    assert_eq!(kind(commit(ledger, Commit::new(t.clone())).await), ErrorKind::InvalidInput);
    let many = vec![note("a"); MAX_EVENTS + 1];
    assert_eq!(kind(commit(ledger, Commit::new(t.clone()).with_events(many)).await), ErrorKind::InvalidInput);
    assert_eq!(append(ledger, &t, vec![note("a"); MAX_EVENTS]).await.seqs.len(), MAX_EVENTS);
    // Each of them is small enough.
    let large = note(&"x".repeat(MAX_COMMIT_BYTES / MAX_EVENTS));
    let many = Commit::new(t.clone()).with_events(vec![large; MAX_EVENTS]);
    assert_eq!(kind(commit(ledger, many).await), ErrorKind::TooLarge);
}

/// Items, marks, progress and once keys belong to a run.
pub async fn what_belongs_to_a_run_needs_one(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let bare = Commit::new(t.clone());
    let once = crate::EventDraft { once_key: Some("k".to_owned()), ..note("a") };
    let progress = RunProgress { model_name: Some("m".to_owned()), ..RunProgress::default() };
    for wrong in [
        bare.clone().with_events(vec![tool_started("i")]),
        bare.clone().with_events(vec![once]),
        Commit { progress, ..bare.clone() },
        bare.with_events(vec![note("a")]).with_mark(crate::JournalMark { epoch: 0, ordinal: 0 }),
    ] {
        assert_eq!(kind(commit(ledger, wrong).await), ErrorKind::InvalidInput);
    }
}

/// A commit of a run that the thread does not have is refused.
pub async fn an_unknown_run_is_not_found(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let stray = Commit::of_run(t.clone(), run_id("nobody")).with_events(vec![note("a")]);
    assert_eq!(kind(commit(ledger, stray).await), ErrorKind::NotFound);
    assert_eq!(log(ledger, &t).await, []);
}

/// What a run's commits say of it is kept: the first human message, the last of the agent.
pub async fn progress_is_kept_on_the_run(ledger: &Ledger) {
    let run = running(ledger).await;
    let saying = |ordinal, human: Option<&str>, ai: Option<&str>, model: Option<&str>| Commit {
        progress: RunProgress {
            first_human_message: human.map(str::to_owned),
            last_ai_message: ai.map(str::to_owned),
            model_name: model.map(str::to_owned),
        },
        ..run.commit(ordinal, vec![note("a")])
    };
    ok(commit(ledger, saying(0, Some(" first "), None, Some("m1"))).await);
    ok(commit(ledger, saying(1, Some("second"), Some("one"), Some("m2"))).await);
    ok(commit(ledger, saying(2, None, Some("two"), None)).await);
    ok(commit(ledger, saying(3, None, None, None)).await);
    let stored = run_of(ledger, &run).await;
    assert_eq!(stored.first_human_message.as_deref(), Some("first"));
    assert_eq!(stored.last_ai_message.as_deref(), Some("two"));
    assert_eq!(stored.model_name.as_deref(), Some("m1"));
    assert_eq!((stored.first_seq, stored.last_seq), (Some(1), Some(4)));
}

/// Messages are counted as they are appended, on the thread and on the run.
pub async fn messages_are_counted(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run.thread, vec![message("a"), note("b")]).await;
    ok(commit(ledger, run.commit(0, vec![message("c"), message("d"), note("e")])).await);
    assert_eq!(ok(ledger.events().count_messages(&Scope::System, &run.thread, RunVisibility::All).await), 3);
    if ledger.capabilities().runs {
        assert_eq!(run_of(ledger, &run).await.message_count, 2);
    }
}

/// A label or metadata that breaks the rules names the field.
pub async fn bad_fields_are_named(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let odd = crate::EventDraft { metadata: Some(RawJson::string("no object")), ..note("a") };
    let error = refused(commit(ledger, Commit::new(t.clone()).with_events(vec![odd])).await);
    assert!(error.to_string().contains("metadata"), "{error}");
    assert_eq!(kind(crate::EventType::new("x".repeat(65))), ErrorKind::InvalidInput);
    assert_eq!(kind(Category::new("x".repeat(17))), ErrorKind::InvalidInput);
    assert_eq!(kind(crate::ThreadId::new("x".repeat(MAX_ID_BYTES + 1))), ErrorKind::InvalidInput);
    let patch = ThreadPatch { metadata: Some(json("[1]")), ..ThreadPatch::default() };
    let error = refused(ledger.threads().update(&Scope::System, &t, patch, at(1)).await);
    assert!(error.to_string().contains("metadata"), "{error}");
}

/// Of several faults the first is told: the thread's, then the mark's, the expectation's, the run's, the key's.
pub async fn the_first_fault_is_told(ledger: &Ledger) {
    let run = running(ledger).await;
    let once = crate::EventDraft { once_key: Some("k".to_owned()), ..note("a") };
    ok(commit(ledger, run.commit(0, vec![once.clone()])).await);
    let stray = Admitted { run: run_id("nobody"), ..run.clone() };
    let expecting = |commit: Commit| Commit { expected: Expected::NextSeq(9), ..commit };
    let gone = Admitted { thread: thread_id("none"), ..stray.clone() };
    let what = async |commit_of: Commit| refused(commit(ledger, commit_of).await);
    let error = what(expecting(gone.commit(7, vec![once.clone()]))).await;
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("none"), "{error}");
    assert_eq!(what(expecting(stray.commit(7, vec![once.clone()]))).await.kind(), ErrorKind::LeaseLost);
    let error = what(expecting(stray.unmarked(vec![once.clone()]))).await;
    assert!(error.to_string().contains("next_seq"), "{error}");
    assert_eq!(what(stray.unmarked(vec![once.clone()])).await.kind(), ErrorKind::NotFound);
    let error = what(run.commit(7, vec![once.clone()])).await;
    assert!(error.to_string().contains("journal ordinal"), "{error}");
    let error = what(run.commit(1, vec![once])).await;
    assert!(error.to_string().contains("once_key"), "{error}");
}

/// A commit that is refused leaves nothing: no event, item, call, progress, and no step of the head.
pub async fn a_refused_commit_changes_nothing(ledger: &Ledger) {
    let run = running(ledger).await;
    let once = crate::EventDraft { once_key: Some("k".to_owned()), ..note("a") };
    ok(commit(ledger, run.commit(0, vec![once.clone()])).await);
    let stored = run_of(ledger, &run).await;
    let head = ok(ledger.threads().head(&Scope::System, &run.thread).await);
    let refusal = Commit {
        usage: vec![call("c", crate::TokenCounts::of(1, 1))],
        progress: RunProgress { last_ai_message: Some("said".to_owned()), ..RunProgress::default() },
        ..run.commit(1, vec![message("m"), tool_started("i"), once])
    };
    assert_eq!(kind(commit(ledger, refusal).await), ErrorKind::Conflict);
    assert_eq!(run_of(ledger, &run).await, stored);
    assert_eq!(ok(ledger.threads().head(&Scope::System, &run.thread).await), head);
    assert_eq!(log(ledger, &run.thread).await.len(), 1);
    let item = ledger.items().get(&Scope::System, &run.thread, &run.run, &item_id("i")).await;
    assert_eq!(kind(item), ErrorKind::NotFound);
    assert_eq!(ok(ledger.usage().by_thread(&Scope::System, &run.thread, true).await).totals.llm_calls, 0);
}
