//! Threads.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    AssistantId, Contents, Cursor, ErrorKind, HeadState, Ledger, ListRange, MetadataMatch, MetadataValue,
    NewThread, Page, Patch, RawJson, Scope, Thread, ThreadFilter, ThreadHead, ThreadId, ThreadKind,
    ThreadLifecycle, ThreadPatch, ThreadStatus,
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
    let expected = Thread {
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
        pinned: false,
        archived_at: None,
        created_at: at(3),
        updated_at: at(3),
    };
    assert_eq!(made, expected);
    assert_eq!(ok(made.config.decode::<serde_json::Value>()), serde_json::json!({"a": 1}));
    let stored = ok(ledger.threads().get(&alice(), &thread_id("t")).await);
    assert_eq!(Thread { config: made.config.clone(), metadata: made.metadata.clone(), ..stored }, made);
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
        pinned: None,
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

fn names(page: &Page<Thread>) -> Vec<&str> {
    page.items.iter().map(|thread| thread.thread_id.as_str()).collect()
}

/// The names of all threads that pass, read in pages of three.
async fn listed(ledger: &Ledger, scope: &Scope, filter: &ThreadFilter) -> Vec<String> {
    let mut seen = Vec::new();
    let mut range = ListRange::newest(3);
    loop {
        let page = ok(ledger.threads().list(scope, filter, &range).await);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        match page.next_cursor {
            Some(cursor) => range.cursor = Some(ok(Cursor::parse(cursor.as_str()))),
            None => return seen,
        }
    }
}

/// A list may leave out what may be large, and is the same otherwise: it is filtered by what it leaves out.
pub async fn threads_are_listed_without_documents(ledger: &Ledger) {
    let new = NewThread {
        system_prompt: Some("Be brief.".to_owned()),
        config: json(r#"{"c":1}"#),
        metadata: json(r#"{"k":"v"}"#),
        pinned: true,
        ..NewThread::new(thread_id("t"))
    };
    ok(ledger.threads().create(&alice(), new).await);
    let made = ok(ledger.threads().get(&alice(), &thread_id("t")).await);
    assert!(made.pinned);
    let (config, metadata) = (RawJson::empty_object(), RawJson::empty_object());
    let bare = Thread { system_prompt: None, config, metadata, ..made.clone() };
    let matches = |value: &str| {
        vec![MetadataMatch { key: "k".to_owned(), value: MetadataValue::Text(value.to_owned()) }]
    };
    for (metadata, contents, expected) in [
        (Vec::new(), Contents::Omitted, vec![bare.clone()]),
        (matches("v"), Contents::Omitted, vec![bare]),
        (matches("w"), Contents::Omitted, Vec::new()),
        (matches("v"), Contents::Read, vec![made]),
    ] {
        let filter = ThreadFilter { metadata, contents, ..ThreadFilter::default() };
        let page = ok(ledger.threads().list(&alice(), &filter, &ListRange::default()).await);
        assert_eq!(page.items, expected, "{filter:?}");
    }
}

/// Threads are listed last updated first, in pages, also where times are equal.
pub async fn threads_are_listed_in_pages(ledger: &Ledger) {
    for number in 0..7 {
        let t = thread(ledger, &alice(), &format!("t{number}")).await;
        let at = at(10 + number / 3);
        ok(ledger.threads().update(&alice(), &t, ThreadPatch::default(), at).await);
    }
    for scope in [alice(), Scope::System] {
        let seen = listed(ledger, &scope, &ThreadFilter::default()).await;
        assert_eq!(seen, ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]);
    }
}

async fn pin(ledger: &Ledger, thread: &ThreadId, pinned: bool) -> Thread {
    let patch = ThreadPatch { pinned: Some(pinned), ..ThreadPatch::default() };
    ok(ledger.threads().update(&Scope::System, thread, patch, at(90)).await)
}

/// Pinned threads stand before all others, in the same order among themselves, and the pages go over from the
/// one to the other.
pub async fn pinned_threads_come_first(ledger: &Ledger) {
    for number in 0..9 {
        let t = thread(ledger, &alice(), &format!("t{number}")).await;
        let at = at(10 + number / 2);
        ok(ledger.threads().update(&alice(), &t, ThreadPatch::default(), at).await);
    }
    for name in ["t1", "t4", "t2", "t6"] {
        pin(ledger, &thread_id(name), true).await;
    }
    pin(ledger, &thread_id("t2"), false).await;
    for scope in [alice(), Scope::System] {
        let seen = listed(ledger, &scope, &ThreadFilter::default()).await;
        assert_eq!(seen, ["t6", "t4", "t1", "t8", "t7", "t5", "t3", "t2", "t0"]);
    }
}

/// A patch that pins a thread, or takes that back, and does nothing else leaves the time of its last update.
pub async fn pinning_is_no_news(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    for pinned in [true, true, false] {
        let edited = pin(ledger, &t, pinned).await;
        assert_eq!((edited.pinned, edited.updated_at), (pinned, at(0)));
        assert_eq!(ok(ledger.threads().get(&alice(), &t).await), edited);
    }
    let more = ThreadPatch { pinned: Some(true), model: Patch::Clear, ..ThreadPatch::default() };
    let edited = ok(ledger.threads().update(&alice(), &t, more, at(7)).await);
    assert_eq!((edited.pinned, edited.updated_at), (true, at(7)));
    let other = ok(ledger.threads().update(&alice(), &t, ThreadPatch::default(), at(8)).await);
    assert_eq!((other.pinned, other.updated_at), (true, at(8)));
    assert_eq!(ok(ledger.threads().get(&alice(), &t).await), other);
}

/// Lists narrow by status, and refuse a limit of 0.
pub async fn threads_are_filtered_by_status(ledger: &Ledger) {
    let busy = thread(ledger, &Scope::System, "busy").await;
    thread(ledger, &Scope::System, "idle").await;
    admit(ledger, &busy, "r").await;
    let filter = ThreadFilter { status: Some(ThreadStatus::Busy), ..Default::default() };
    let page = ok(ledger.threads().list(&Scope::System, &filter, &ListRange::default()).await);
    assert_eq!(names(&page), [busy.as_str()]);
    let none = ledger.threads().list(&Scope::System, &filter, &ListRange::newest(0)).await;
    assert_eq!(kind(none), ErrorKind::InvalidInput);
}

/// Lists narrow by the agent definition and by what is pinned.
pub async fn threads_are_filtered_by_agent_and_pin(ledger: &Ledger) {
    for (number, agent) in
        [Some("writer"), Some("reader"), None, Some("writer"), Some("writer")].iter().enumerate()
    {
        let new = NewThread {
            assistant_id: agent.map(|agent| ok(AssistantId::new(agent))),
            created_at: at(10),
            ..NewThread::new(thread_id(&format!("t{number}")))
        };
        ok(ledger.threads().create(&alice(), new).await);
    }
    pin(ledger, &thread_id("t0"), true).await;
    pin(ledger, &thread_id("t2"), true).await;
    let agent = |name| Some(ok(AssistantId::new(name)));
    let expected: [(Option<AssistantId>, Option<bool>, &[&str]); 7] = [
        (agent("writer"), None, &["t0", "t4", "t3"]),
        (agent("reader"), None, &["t1"]),
        (agent("nobody"), None, &[]),
        (None, Some(true), &["t2", "t0"]),
        (None, Some(false), &["t4", "t3", "t1"]),
        (agent("writer"), Some(true), &["t0"]),
        (agent("writer"), Some(false), &["t4", "t3"]),
    ];
    for (assistant_id, pinned, expected) in expected {
        let filter = ThreadFilter { assistant_id, pinned, ..ThreadFilter::default() };
        for scope in [alice(), Scope::System] {
            assert_eq!(listed(ledger, &scope, &filter).await, expected, "{filter:?}");
        }
        assert_eq!(listed(ledger, &mallory(), &filter).await, [""; 0]);
    }
}

fn metadata(matches: &[(&str, MetadataValue)]) -> ThreadFilter {
    let of =
        |(key, value): &(&str, MetadataValue)| MetadataMatch { key: (*key).to_owned(), value: value.clone() };
    ThreadFilter { metadata: matches.iter().map(of).collect(), ..ThreadFilter::default() }
}

fn text(value: &str) -> MetadataValue {
    MetadataValue::Text(value.to_owned())
}

async fn threads_with(ledger: &Ledger, documents: &[&str]) {
    for (number, document) in documents.iter().enumerate() {
        let new = NewThread {
            metadata: json(document),
            created_at: at(10),
            ..NewThread::new(thread_id(&format!("t{number}")))
        };
        ok(ledger.threads().create(&alice(), new).await);
    }
}

/// Metadata is matched at the top level, with all of the matches, and types are told apart.
pub async fn threads_are_filtered_by_metadata(ledger: &Ledger) {
    use MetadataValue::{Bool, Null, Number};
    threads_with(
        ledger,
        &[
            r#"{"k":1,"who":"ann"}"#,
            r#"{"k":"1","who":"bob"}"#,
            r#"{"k":true,"who":"ann"}"#,
            r#"{"k":null}"#,
            r#"{"k":[1]}"#,
            r#"{"k":{"k":1}}"#,
            r#"{"deep":{"k":1},"k.x":"dot","k-y":-7,"K":1}"#,
            r#"{"k":false,"who":"Ann"}"#,
        ],
    )
    .await;
    /// What is asked for, and the threads that have it.
    type Case<'a> = (&'a [(&'a str, MetadataValue)], &'a [&'a str]);
    let expected: [Case<'_>; 15] = [
        (&[("k", Number(1))], &["t0"]),
        (&[("k", text("1"))], &["t1"]),
        (&[("k", Bool(true))], &["t2"]),
        (&[("k", Null)], &["t3"]),
        (&[("k", Bool(false))], &["t7"]),
        (&[("k", Number(0))], &[]),
        (&[("k", text("true"))], &[]),
        (&[("k", text("null"))], &[]),
        (&[("k", text("[1]"))], &[]),
        (&[("none", Null)], &[]),
        (&[("K", Number(1))], &["t6"]),
        (&[("k.x", text("dot"))], &["t6"]),
        (&[("k-y", Number(-7))], &["t6"]),
        (&[("who", text("ann"))], &["t2", "t0"]),
        (&[("who", text("ann")), ("k", Number(1))], &["t0"]),
    ];
    for (matches, expected) in expected {
        for scope in [alice(), Scope::System] {
            assert_eq!(listed(ledger, &scope, &metadata(matches)).await, expected, "{matches:?}");
        }
    }
    // What looks like a path, a pattern or the end of a text is none.
    for odd in ["%", "_nn", "a%", "ann' OR '1'='1", "\"", "\\", "$.who", ""] {
        assert_eq!(listed(ledger, &alice(), &metadata(&[("who", text(odd))])).await, [""; 0], "{odd}");
    }
}

/// How a document spells a key, a number or a character makes no difference, and what databases refuse is matched
/// as what it is.
pub async fn metadata_is_matched_as_it_was_spelled(ledger: &Ledger) {
    use MetadataValue::Number;
    threads_with(
        ledger,
        &[
            r#"{"n":1.0,"s":"\u00e9"}"#,
            r#"{"\u006e":1e0,"s":"é"}"#,
            r#"{"n":10e-1,"s":"e\u0301"}"#,
            r#"{"n":1,"n":2,"s":"a\u0000b"}"#,
            r#"{"n":1.00000000000000000001,"s":"a\u0000"}"#,
            r#"{"n":9007199254740993,"s":"\ud83d\ude00"}"#,
            r#"{"n":9223372036854775807,"s":"\ud83d"}"#,
            "{\"n\":9223372036854775808,\"s\":\"\u{f5e7}0000\"}",
            r#"{"n":-0.0,"s":"\"\\"}"#,
        ],
    )
    .await;
    let expected: [(&str, MetadataValue, &[&str]); 15] = [
        ("n", Number(1), &["t2", "t1", "t0"]),
        ("n", Number(2), &["t3"]),
        ("n", Number(0), &["t8"]),
        ("n", Number(9_007_199_254_740_993), &["t5"]),
        ("n", Number(9_007_199_254_740_992), &[]),
        ("n", Number(i64::MAX), &["t6"]),
        ("n", Number(i64::MIN), &[]),
        ("s", text("é"), &["t1", "t0"]),
        ("s", text("e\u{301}"), &["t2"]),
        ("s", text("a\0b"), &["t3"]),
        ("s", text("a\0"), &["t4"]),
        ("s", text("😀"), &["t5"]),
        ("s", text("\u{fffd}"), &[]),
        ("s", text("\u{f5e7}0000"), &["t7"]),
        ("s", text("\"\\"), &["t8"]),
    ];
    for (key, value, expected) in expected {
        let seen = listed(ledger, &alice(), &metadata(&[(key, value.clone())])).await;
        assert_eq!(seen, expected, "{key} {value:?}");
    }
}

/// Keys have a grammar, and matches and texts a number and a length.
pub async fn a_bad_match_is_refused(ledger: &Ledger) {
    thread(ledger, &alice(), "t").await;
    let long = "k".repeat(65);
    let keys = ["", "a b", "a'b", "a\"b", "$", "a->b", "é", "a\0", "a\n", "a[0]", "a/b", &long];
    let mut refused: Vec<ThreadFilter> =
        keys.iter().map(|key| metadata(&[(key, MetadataValue::Null)])).collect();
    refused.push(metadata(&vec![("k", MetadataValue::Null); 9]));
    refused.push(metadata(&[("k", text(&"é".repeat(1_001)))]));
    for filter in refused {
        let answer = ledger.threads().list(&alice(), &filter, &ListRange::default()).await;
        assert_eq!(kind(answer), ErrorKind::InvalidInput, "{filter:?}");
    }
    let longest = "K".repeat(64);
    for filter in [
        metadata(&vec![(longest.as_str(), MetadataValue::Null); 8]),
        metadata(&[("k", text(&"é".repeat(1_000)))]),
    ] {
        assert_eq!(listed(ledger, &alice(), &filter).await, [""; 0]);
    }
}

/// A cursor that was made before threads could be pinned, or by another list, is refused.
pub async fn a_cursor_of_another_list_is_refused(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    for cursor in [
        Cursor::at(at(0), t.as_str()),
        Cursor::at_pair(at(0), "r", "t"),
        Cursor::at_pair(at(0), "pinned", "a\0"),
        Cursor::at_seq(at(0), &t, 1),
    ] {
        let range = ListRange { limit: 3, cursor: Some(cursor) };
        let answer = ledger.threads().list(&alice(), &ThreadFilter::default(), &range).await;
        assert_eq!(kind(answer), ErrorKind::InvalidInput, "{range:?}");
    }
}

/// A filter that nothing passes is an empty page, and the last one.
pub async fn a_filter_may_match_nothing(ledger: &Ledger) {
    for number in 0..5 {
        thread(ledger, &alice(), &format!("t{number}")).await;
    }
    let filter = ThreadFilter {
        assistant_id: Some(ok(AssistantId::new("nobody"))),
        pinned: Some(false),
        ..metadata(&[("k", MetadataValue::Null)])
    };
    let page = ok(ledger.threads().list(&alice(), &filter, &ListRange::newest(2)).await);
    assert_eq!(page, Page { items: Vec::new(), has_more: false, next_cursor: None });
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
