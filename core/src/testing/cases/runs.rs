//! A run's life.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, Commit, Contents, ErrorKind, Ledger, ListRange, NewRun, Outcome, RawJson, RunFilter,
    RunStatus, Scope, TerminalStatus, ThreadStatus, Transition,
};

fn new_run(thread: &crate::ThreadId, run: &str, admission: Admission) -> NewRun {
    NewRun { admission, ..NewRun::new(thread.clone(), run_id(run)) }
}

/// The input is in the log when the admission returns, before anything else can happen.
pub async fn input_is_durable_at_admission(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let admission = Admission { first_human_message: Some(" hello ".to_owned()), ..Admission::default() };
    let new = NewRun { input: vec![message("hello")], ..new_run(&t, "r", admission) };
    let admitted = ok(ledger.admit(&Scope::System, new).await);
    assert!(admitted.created);
    assert_eq!(texts(&log(ledger, &t).await), ["hello"]);
    let run = admitted.run;
    assert_eq!(run.status, RunStatus::Pending);
    assert_eq!((run.first_seq, run.last_seq, run.message_count), (Some(1), Some(1), 1));
    assert_eq!(run.first_human_message.as_deref(), Some("hello"));
}

/// Admission, start and end move the run, the thread and the head together.
pub async fn a_run_is_admitted_started_and_finished(ledger: &Ledger) {
    let run = running(ledger).await;
    let status = async || ok(ledger.threads().get(&Scope::System, &run.thread).await).status;
    let head = async || ok(ledger.threads().head(&Scope::System, &run.thread).await);
    assert_eq!(status().await, ThreadStatus::Busy);
    assert_eq!(head().await.active_run_id.as_ref(), Some(&run.run));
    ok(commit(ledger, run.start()).await);
    let started = run_of(ledger, &run).await;
    assert_eq!((started.status, started.started_at), (RunStatus::Running, Some(at(1))));
    let ended = finish(ledger, &run, 0).await;
    assert_eq!((ended.status, ended.finished_at), (RunStatus::Success, Some(at(9))));
    assert_eq!(status().await, ThreadStatus::Idle);
    assert_eq!(head().await.active_run_id, None);
    assert_eq!(head().await.epoch, run.epoch + 1);
}

/// Each outcome gives the run and the thread their status.
pub async fn every_outcome_has_its_status(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    for (number, (status, run_status, thread_status)) in [
        (TerminalStatus::Success, RunStatus::Success, ThreadStatus::Idle),
        (TerminalStatus::Error, RunStatus::Error, ThreadStatus::Error),
        (TerminalStatus::Timeout, RunStatus::Timeout, ThreadStatus::Error),
        (TerminalStatus::Interrupted, RunStatus::Interrupted, ThreadStatus::Interrupted),
        (TerminalStatus::BudgetExhausted, RunStatus::BudgetExhausted, ThreadStatus::Idle),
    ]
    .into_iter()
    .enumerate()
    {
        let run = admit(ledger, &t, &format!("r{number}")).await;
        let outcome = Outcome { status, error: Some("why".to_owned()), stop_reason: Some("stop".to_owned()) };
        let ended = ok(ledger.finish(&Scope::System, run.finish(0, outcome)).await).run;
        assert_eq!(ended.status, run_status);
        assert_eq!((ended.error.as_deref(), ended.stop_reason.as_deref()), (Some("why"), Some("stop")));
        assert_eq!(ok(ledger.threads().get(&Scope::System, &t).await).status, thread_status);
        assert_eq!(
            log(ledger, &t).await.last().map(|event| event.event_type.to_string()).as_deref(),
            Some(status.event_type())
        );
    }
}

/// The last events, the usage and the status are one commit.
pub async fn the_end_is_one_commit(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut end = run.finish(0, Outcome::success());
    end.events.insert(0, message("last"));
    end.usage.push(call("c", crate::TokenCounts::of(3, 4)));
    end.progress.last_ai_message = Some("last".to_owned());
    let ended = ok(ledger.finish(&Scope::System, end).await).run;
    assert_eq!((ended.totals.total_tokens, ended.totals.llm_calls), (7, 1));
    assert_eq!((ended.message_count, ended.last_ai_message.as_deref()), (1, Some("last")));
    assert_eq!((ended.first_seq, ended.last_seq), (Some(1), Some(2)));
}

/// A run ends with exactly one terminal event, and nothing else has its key.
pub async fn the_terminal_event_is_exactly_one(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut end = run.finish(0, Outcome::success());
    end.events.clear();
    assert_eq!(kind(ledger.finish(&Scope::System, end).await), ErrorKind::InvalidInput);
    let early = run.commit(0, vec![terminal(&Outcome::success())]);
    assert_eq!(kind(commit(ledger, early).await), ErrorKind::InvalidInput);
    assert_eq!(log(ledger, &run.thread).await, []);
}

/// A thread has one slot.
pub async fn a_taken_slot_is_a_conflict(ledger: &Ledger) {
    let run = running(ledger).await;
    let refusal =
        refused(ledger.admit(&Scope::System, new_run(&run.thread, "r2", Admission::default())).await);
    assert_eq!(refusal.kind(), ErrorKind::Conflict);
    assert!(refusal.to_string().contains("active run"), "{refusal}");
    finish(ledger, &run, 0).await;
    admit(ledger, &run.thread, "r2").await;
}

/// A run's id is taken for ever on its thread.
pub async fn a_taken_run_id_already_exists(ledger: &Ledger) {
    let run = running(ledger).await;
    finish(ledger, &run, 0).await;
    let again = ledger.admit(&Scope::System, new_run(&run.thread, "r", Admission::default())).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
    let other = thread(ledger, &Scope::System, "other").await;
    admit(ledger, &other, "r").await;
}

/// Starting again with something new, or after the end, is refused.
pub async fn a_run_starts_once(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.start()).await);
    let again = run.start().with_events(vec![note("a")]);
    assert_eq!(kind(commit(ledger, again).await), ErrorKind::Conflict);
    finish(ledger, &run, 0).await;
    assert_eq!(kind(commit(ledger, run.start()).await), ErrorKind::LeaseLost);
}

/// Steps need the mark of the admission, and an admission has none.
pub async fn transitions_need_their_mark(ledger: &Ledger) {
    let run = running(ledger).await;
    let bare = Commit { transition: Some(Transition::Start { at: at(1) }), ..run.unmarked(Vec::new()) };
    assert_eq!(kind(commit(ledger, bare).await), ErrorKind::InvalidInput);
    let marked = Commit {
        transition: Some(Transition::Admit(Box::default())),
        ..Admitted { run: run_id("r2"), ..run.clone() }.commit(0, Vec::new())
    };
    assert_eq!(kind(commit(ledger, marked).await), ErrorKind::InvalidInput);
}

/// The same key and the same request are the same run; the same key and another request are a conflict.
pub async fn an_idempotency_key_is_one_run(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let keyed = |run, hash: &str| {
        let admission = Admission {
            idempotency_key: Some("key".to_owned()),
            request_hash: Some(hash.to_owned()),
            ..Admission::default()
        };
        new_run(&t, run, admission)
    };
    let first = ok(ledger.admit(&Scope::System, keyed("r1", "h")).await);
    let second = ok(ledger.admit(&Scope::System, keyed("r2", "h")).await);
    assert_eq!((second.created, second.run.run_id), (false, first.run.run_id));
    assert_eq!(kind(ledger.admit(&Scope::System, keyed("r3", "other")).await), ErrorKind::Conflict);
    let found = ok(ledger.runs().find_by_idempotency_key(&Scope::System, &t, "key").await);
    assert_eq!(found.map(|run| run.run_id), Some(run_id("r1")));
    assert_eq!(ok(ledger.runs().find_by_idempotency_key(&Scope::System, &t, "none").await), None);
}

/// A key is the thread's own, and outlives the run.
pub async fn an_idempotency_key_outlives_its_run(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let keyed = |thread: &crate::ThreadId, run| {
        new_run(thread, run, Admission { idempotency_key: Some("key".to_owned()), ..Admission::default() })
    };
    let first = ok(ledger.admit(&Scope::System, keyed(&t, "r1")).await).run;
    finish(ledger, &Admitted { thread: t.clone(), run: first.run_id.clone(), epoch: first.epoch }, 0).await;
    let second = ok(ledger.admit(&Scope::System, keyed(&t, "r2")).await);
    assert_eq!((second.created, second.run.status), (false, RunStatus::Success));
    let other = thread(ledger, &Scope::System, "other").await;
    assert!(ok(ledger.admit(&Scope::System, keyed(&other, "r1")).await).created);
}

/// An admission can make its thread.
pub async fn an_admission_creates_a_missing_thread(ledger: &Ledger) {
    let t = thread_id("t");
    let new = NewRun {
        create_missing: Some(crate::NewThread::new(t.clone())),
        ..new_run(&t, "r", Admission { idempotency_key: Some("k".to_owned()), ..Admission::default() })
    };
    let admitted = ok(ledger.admit(&alice(), new).await);
    assert_eq!(admitted.run.owner_id.as_ref(), alice().owner());
    assert_eq!(ok(ledger.threads().get(&alice(), &t).await).status, ThreadStatus::Busy);
}

/// Records that arrive after the end belong to the run that started them.
pub async fn late_records_belong_to_their_run(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![tool_started("call")])).await);
    finish(ledger, &run, 1).await;
    let mut late = run.unmarked(vec![tool_ended("call", crate::ItemStatus::Completed)]);
    late.usage.push(call("c", crate::TokenCounts::of(1, 1)));
    assert_eq!(ok(commit(ledger, late).await).seqs, [3]);
    let stored = run_of(ledger, &run).await;
    assert_eq!(
        (stored.status, stored.last_seq, stored.totals.total_tokens),
        (RunStatus::Success, Some(3), 2)
    );
    let item = ok(ledger.items().get(&Scope::System, &run.thread, &run.run, &item_id("call")).await);
    assert_eq!(item.completed_seq, Some(3));
}

/// Everything of an admission comes back; documents are equal as JSON.
pub async fn an_admission_comes_back_whole(ledger: &Ledger) {
    let first = running(ledger).await;
    finish(ledger, &first, 0).await;
    let admission = Admission {
        assistant_id: Some(ok(crate::AssistantId::new("writer"))),
        operation_kind: crate::OperationKind::CheckpointWrite,
        model_name: Some("m".to_owned()),
        metadata: json(r#"{"a":{"b":[1,2.5,null,"\u0000"]}}"#),
        kwargs: json(r#"{"k":true}"#),
        follow_up_to_run_id: Some(first.run.clone()),
        parent_run_id: Some(first.run.clone()),
        created_at: at(5),
        ..Admission::default()
    };
    let run = ok(ledger.admit(&Scope::System, new_run(&first.thread, "r2", admission.clone())).await).run;
    assert_eq!(run.assistant_id, admission.assistant_id);
    assert_eq!(run.operation_kind, admission.operation_kind);
    assert_eq!(run.model_name, admission.model_name);
    assert_eq!(
        ok(run.metadata.decode::<serde_json::Value>()),
        ok(admission.metadata.decode::<serde_json::Value>())
    );
    assert_eq!(
        ok(run.kwargs.decode::<serde_json::Value>()),
        ok(admission.kwargs.decode::<serde_json::Value>())
    );
    assert_eq!(
        (run.follow_up_to_run_id, run.parent_run_id),
        (admission.follow_up_to_run_id, admission.parent_run_id)
    );
    assert_eq!((run.created_at, run.updated_at), (at(5), at(5)));
}

/// Runs are listed newest first, in pages without a hole or a double, also where times are equal.
pub async fn runs_are_listed_in_pages(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    for number in 0..7 {
        let run = admit_at(ledger, &t, &format!("r{number}"), number / 3).await;
        finish(ledger, &run, 0).await;
    }
    for filter in [RunFilter { thread_id: Some(t.clone()), ..RunFilter::default() }, RunFilter::default()] {
        let mut seen = Vec::new();
        let mut range = ListRange::newest(2);
        loop {
            let page = ok(ledger.runs().list(&Scope::System, &filter, &range).await);
            seen.extend(page.items.iter().map(|run| run.run_id.to_string()));
            assert_eq!(page.has_more, page.next_cursor.is_some());
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(cursor),
                None => break,
            }
        }
        assert_eq!(seen, ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]);
    }
}

/// Runs of several threads may have one id and one time; each is listed once.
pub async fn runs_of_several_threads_may_share_an_id(ledger: &Ledger) {
    for name in ["a", "b", "c"] {
        let t = thread(ledger, &alice(), name).await;
        admit_at(ledger, &t, "r", 1).await;
    }
    for scope in [alice(), Scope::System] {
        let mut seen = Vec::new();
        let mut range = ListRange::newest(1);
        loop {
            let page = ok(ledger.runs().list(&scope, &RunFilter::default(), &range).await);
            seen.extend(page.items.iter().map(|run| run.thread_id.to_string()));
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(cursor),
                None => break,
            }
        }
        assert_eq!(seen, ["c", "b", "a"]);
    }
}

/// Lists narrow by status and kind.
pub async fn runs_are_filtered(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let done = admit(ledger, &t, "done").await;
    finish(ledger, &done, 0).await;
    let admission = Admission { operation_kind: crate::OperationKind::Delete, ..Admission::default() };
    ok(ledger.admit(&Scope::System, new_run(&t, "deleting", admission)).await);
    let list = async |filter: RunFilter| {
        let page = ok(ledger.runs().list(&Scope::System, &filter, &ListRange::default()).await);
        page.items.into_iter().map(|run| run.run_id.to_string()).collect::<Vec<_>>()
    };
    let by_status = RunFilter { status: Some(RunStatus::Success), ..RunFilter::default() };
    assert_eq!(list(by_status).await, ["done"]);
    let by_kind = RunFilter { operation_kind: Some(crate::OperationKind::Delete), ..RunFilter::default() };
    assert_eq!(list(by_kind).await, ["deleting"]);
    for (ids, expected) in
        [(["done", "none"], vec!["done"]), (["deleting", "done"], vec!["deleting", "done"])]
    {
        for thread_id in [None, Some(t.clone())] {
            let by_id = RunFilter { thread_id, run_ids: ids.map(run_id).to_vec(), ..RunFilter::default() };
            assert_eq!(list(by_id).await, expected);
        }
    }
    let many = RunFilter { run_ids: vec![run_id("done"); 1_001], ..RunFilter::default() };
    let refused = ledger.runs().list(&Scope::System, &many, &ListRange::default()).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
}

/// A list may leave out what may be large, and is the same otherwise.
pub async fn runs_are_listed_without_documents(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let admission = Admission {
        metadata: json(r#"{"a":1}"#),
        kwargs: json(r#"{"k":true}"#),
        model_name: Some("m".to_owned()),
        ..Admission::default()
    };
    ok(ledger.admit(&alice(), new_run(&t, "r", admission)).await);
    let run = ok(ledger.runs().get(&alice(), &t, &run_id("r")).await);
    let contents = Contents::Omitted;
    for filter in [
        RunFilter { contents, ..RunFilter::default() },
        RunFilter { contents, thread_id: Some(t.clone()), ..RunFilter::default() },
    ] {
        let page = ok(ledger.runs().list(&alice(), &filter, &ListRange::default()).await);
        let (kwargs, metadata) = (RawJson::empty_object(), RawJson::empty_object());
        assert_eq!(page.items, [crate::Run { kwargs, metadata, ..run.clone() }]);
    }
    let whole = ok(ledger.runs().list(&alice(), &RunFilter::default(), &ListRange::default()).await);
    assert_eq!(whole.items, [run]);
}

/// Runs are filtered by when they were asked for: from a moment on, and before another.
pub async fn runs_are_filtered_by_time(ledger: &Ledger) {
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let t = thread(ledger, &alice(), name).await;
        admit_at(ledger, &t, name, number as i64).await;
    }
    let list = async |created_from, created_before, thread_id| {
        let filter = RunFilter { created_from, created_before, thread_id, ..RunFilter::default() };
        let mut found = Vec::new();
        let mut range = ListRange::newest(1);
        loop {
            let page = ok(ledger.runs().list(&alice(), &filter, &range).await);
            found.extend(page.items.iter().map(|run| run.run_id.to_string()));
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(cursor),
                None => return found,
            }
        }
    };
    assert_eq!(list(Some(at(1)), None, None).await, ["c", "b"]);
    assert_eq!(list(None, Some(at(2)), None).await, ["b", "a"]);
    assert_eq!(list(Some(at(1)), Some(at(2)), None).await, ["b"]);
    assert_eq!(list(Some(at(1)), None, Some(thread_id("a"))).await, [""; 0]);
}

/// A run is found by its id alone, where the scope sees it.
pub async fn a_run_is_found_by_its_id(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let run = admit(ledger, &t, "r").await;
    assert_eq!(ok(ledger.runs().find(&alice(), &run.run).await).thread_id, t);
    assert_eq!(kind(ledger.runs().find(&mallory(), &run.run).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.runs().find(&alice(), &run_id("none")).await), ErrorKind::NotFound);
}

/// No two admissions of a thread share an epoch, and it only grows.
pub async fn each_admission_has_its_own_epoch(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let mut last = 0;
    for number in 0..4 {
        let run = admit(ledger, &t, &format!("r{number}")).await;
        assert!(run.epoch > last, "{} after {last}", run.epoch);
        let receipt = ok(commit(ledger, run.commit(0, vec![note("a")])).await);
        assert_eq!(receipt.epoch, run.epoch);
        finish(ledger, &run, 1).await;
        last = ok(ledger.threads().head(&Scope::System, &t).await).epoch;
        assert!(last > run.epoch, "{last} after {}", run.epoch);
    }
}
