//! Threads.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    AssistantId, Cursor, ErrorKind, HeadState, Ledger, ListRange, NewThread, Patch, Scope, ThreadFilter,
    ThreadHead, ThreadKind, ThreadLifecycle, ThreadPatch, ThreadStatus,
};

/// A new thread has what it was given, and defaults for the rest.
pub async fn a_thread_comes_back_whole(ledger: &Ledger) {
    let new = NewThread {
        assistant_id: Some(ok(AssistantId::new("writer"))),
        display_name: Some("Title".to_owned()),
        system_prompt: Some("Be brief.".to_owned()),
        model: Some("m".to_owned()),
        config: json(r#"{"a":1}"#),
        metadata: json(r#"{"b":[]}"#),
        created_at: at(3),
        ..NewThread::new(thread_id("t"))
    };
    let made = ok(ledger.threads().create(&alice(), new).await);
    let expected = crate::Thread {
        thread_id: thread_id("t"),
        owner_id: alice().owner().cloned(),
        assistant_id: Some(ok(AssistantId::new("writer"))),
        display_name: Some("Title".to_owned()),
        status: ThreadStatus::Idle,
        kind: ThreadKind::Root,
        parent_thread_id: None,
        spawn_run_id: None,
        spawn_item_id: None,
        spawn_depth: 0,
        lifecycle: ThreadLifecycle::Detached,
        forked_from_thread_id: None,
        forked_at_seq: None,
        system_prompt: Some("Be brief.".to_owned()),
        model: Some("m".to_owned()),
        config: made.config.clone(),
        metadata: made.metadata.clone(),
        archived_at: None,
        created_at: at(3),
        updated_at: at(3),
    };
    assert_eq!(made, expected);
    assert_eq!(ok(made.config.decode::<serde_json::Value>()), serde_json::json!({"a": 1}));
    let stored = ok(ledger.threads().get(&alice(), &thread_id("t")).await);
    assert_eq!(
        crate::Thread { config: made.config.clone(), metadata: made.metadata.clone(), ..stored },
        made
    );
}

/// A new head is at the beginning.
pub async fn a_new_head_is_at_the_beginning(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let expected = ThreadHead {
        thread_id: t.clone(),
        owner_id: alice().owner().cloned(),
        state: HeadState::Open,
        next_seq: 1,
        message_count: 0,
        active_run_id: None,
        epoch: 0,
        journal_ordinal: 0,
        parent_thread_id: None,
        last_compact_seq: None,
    };
    assert_eq!(ok(ledger.threads().head(&alice(), &t).await), expected);
}

/// An id is taken once.
pub async fn a_taken_id_already_exists(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    assert_eq!(kind(ledger.threads().create(&alice(), NewThread::new(t)).await), ErrorKind::AlreadyExists);
}

/// Documents must be objects.
pub async fn documents_must_be_objects(ledger: &Ledger) {
    for new in [
        NewThread { config: json("[]"), ..NewThread::new(thread_id("t")) },
        NewThread { metadata: json("null"), ..NewThread::new(thread_id("t")) },
    ] {
        assert_eq!(kind(ledger.threads().create(&alice(), new).await), ErrorKind::InvalidInput);
    }
}

/// An edit changes what it names: keys of the metadata are set, `null` removes one, the rest stays.
pub async fn an_edit_changes_what_it_names(ledger: &Ledger) {
    let new = NewThread {
        display_name: Some("old".to_owned()),
        model: Some("m".to_owned()),
        metadata: json(r#"{"keep":{"deep":1},"drop":1,"set":1}"#),
        created_at: at(0),
        ..NewThread::new(thread_id("t"))
    };
    ok(ledger.threads().create(&alice(), new).await);
    let patch = ThreadPatch {
        display_name: Patch::Set("new".to_owned()),
        model: Patch::Clear,
        assistant_id: Patch::Keep,
        metadata: Some(json(r#"{"drop":null,"set":2,"more":"x"}"#)),
    };
    let edited = ok(ledger.threads().update(&alice(), &thread_id("t"), patch, at(7)).await);
    assert_eq!((edited.display_name.as_deref(), edited.model.as_deref()), (Some("new"), None));
    assert_eq!((edited.created_at, edited.updated_at), (at(0), at(7)));
    let expected = serde_json::json!({"keep": {"deep": 1}, "set": 2, "more": "x"});
    assert_eq!(ok(edited.metadata.decode::<serde_json::Value>()), expected);
    let stored = ok(ledger.threads().get(&alice(), &thread_id("t")).await);
    assert_eq!(ok(stored.metadata.decode::<serde_json::Value>()), expected);
}

/// Threads are listed last updated first, in pages, also where times are equal.
pub async fn threads_are_listed_in_pages(ledger: &Ledger) {
    for number in 0..7 {
        let t = thread(ledger, &alice(), &format!("t{number}")).await;
        let at = at(10 + number / 3);
        ok(ledger.threads().update(&alice(), &t, ThreadPatch::default(), at).await);
    }
    for scope in [alice(), Scope::System] {
        let mut seen = Vec::new();
        let mut range = ListRange::newest(3);
        loop {
            let page = ok(ledger.threads().list(&scope, &ThreadFilter::default(), &range).await);
            seen.extend(page.items.iter().map(|thread| thread.thread_id.to_string()));
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(ok(Cursor::parse(cursor.as_str()))),
                None => break,
            }
        }
        assert_eq!(seen, ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]);
    }
}

/// Lists narrow by status, and refuse a limit of 0.
pub async fn threads_are_filtered_by_status(ledger: &Ledger) {
    let busy = thread(ledger, &Scope::System, "busy").await;
    thread(ledger, &Scope::System, "idle").await;
    admit(ledger, &busy, "r").await;
    let filter = ThreadFilter { status: Some(ThreadStatus::Busy) };
    let page = ok(ledger.threads().list(&Scope::System, &filter, &ListRange::default()).await);
    assert_eq!(page.items.iter().map(|thread| &thread.thread_id).collect::<Vec<_>>(), [&busy]);
    let none = ledger.threads().list(&Scope::System, &filter, &ListRange::newest(0)).await;
    assert_eq!(kind(none), ErrorKind::InvalidInput);
}

/// Appends leave the time of the last update alone; admissions and ends of runs set it.
pub async fn appends_do_not_touch_the_thread(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    append(ledger, &t, vec![message("a")]).await;
    let updated = async || ok(ledger.threads().get(&Scope::System, &t).await).updated_at;
    assert_eq!(updated().await, at(0));
    if ledger.capabilities().runs {
        let run = admit_at(ledger, &t, "r", 4).await;
        assert_eq!(updated().await, at(4));
        finish(ledger, &run, 0).await;
        assert_eq!(updated().await, at(9));
    }
}

/// An edit that is refused changes nothing, not even what came before the fault.
pub async fn a_refused_edit_changes_nothing(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let before = ok(ledger.threads().get(&alice(), &t).await);
    let patch = ThreadPatch {
        display_name: Patch::Set("new".to_owned()),
        metadata: Some(json("[1]")),
        ..ThreadPatch::default()
    };
    assert_eq!(kind(ledger.threads().update(&alice(), &t, patch, at(7)).await), ErrorKind::InvalidInput);
    assert_eq!(ok(ledger.threads().get(&alice(), &t).await), before);
}
