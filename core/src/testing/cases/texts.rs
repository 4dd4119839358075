//! Text that databases refuse, cut or change.

use pretty_assertions::assert_eq;
use serde_json::Value;

use crate::testing::build::*;
use crate::{
    Category, Commit, EventDraft, Ledger, ListRange, NewThread, Outcome, Patch, RunStatus, Scope,
    ThreadFilter, ThreadPatch,
};

/// Documents that must come back byte for byte.
const DOCUMENTS: [&str; 9] = [
    r#""\u0000""#,
    r#"{"\u0000":"a\u0000b"}"#,
    r#"["\udce9","\ud83d\ude00","\ud83d"]"#,
    "\"\u{2028}\u{2029}\u{85}\u{feff}\"",
    r#"{"b":1,"a":2,"b":3}"#,
    "[-0,-1,1e400,-1E-400,12345678901234567890123456789,0.1000,1.0]",
    r#" { "spaced" : [ ] } "#,
    "{\n\t\"lines\":\r\n[\n1 ]}",
    r#""'; DROP TABLE run_events; -- \\ \" $1 ? :x""#,
];

/// Payloads and metadata of events come back byte for byte.
pub async fn payloads_come_back_byte_for_byte(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let events: Vec<EventDraft> = DOCUMENTS
        .iter()
        .map(|document| EventDraft {
            content: json(document),
            metadata: Some(json(&format!(r#"{{"m":{document}}}"#))),
            ..note("")
        })
        .collect();
    append(ledger, &t, events.clone()).await;
    for (stored, sent) in log(ledger, &t).await.into_iter().zip(events) {
        assert_eq!(stored.content.as_str(), sent.content.as_str());
        assert_eq!(stored.metadata, sent.metadata);
        assert_eq!(stored.content_bytes, sent.content.as_str().len() as u64);
    }
}

/// Ten megabytes are no trouble.
pub async fn a_large_payload_comes_back(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let large = "é".repeat(5 * 1024 * 1024);
    append(ledger, &t, vec![message(&large)]).await;
    let stored = log(ledger, &t).await.remove(0);
    assert!(!stored.truncated);
    assert!(ok(stored.content.decode::<String>()) == large, "the text differs");
}

/// Documents in jsonb columns come back equal as JSON, every string exact.
pub async fn documents_come_back_as_json(ledger: &Ledger) {
    let document = json(
        "{\"nul\":\"a\\u0000b\",\"\\u0000key\":\"\u{f5e7}0000\",\"n\":[1,-2.5,12345678901234567890],\"u\":\"\u{2028}\"}",
    );
    let new =
        NewThread { config: document.clone(), metadata: document.clone(), ..NewThread::new(thread_id("t")) };
    ok(ledger.threads().create(&Scope::System, new).await);
    let stored = ok(ledger.threads().get(&Scope::System, &thread_id("t")).await);
    let expected: Value = ok(document.decode());
    assert_eq!(ok(stored.config.decode::<Value>()), expected);
    assert_eq!(ok(stored.metadata.decode::<Value>()), expected);
    let patch = ThreadPatch { metadata: Some(json(r#"{"more":"\u0000"}"#)), ..ThreadPatch::default() };
    let patched = ok(ledger.threads().update(&Scope::System, &thread_id("t"), patch, at(1)).await);
    let mut expected = expected;
    expected["more"] = Value::from("\0");
    assert_eq!(ok(patched.metadata.decode::<Value>()), expected);
}

/// An error text with NUL is cleaned and said, and the run ends.
pub async fn an_error_with_nul_ends_the_run(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut end = run.finish(0, Outcome::error("a\0b"));
    end.progress.last_ai_message = Some("x\0y".to_owned());
    let ended = ok(ledger.finish(&Scope::System, end).await).run;
    assert_eq!(ended.status, RunStatus::Error);
    assert_eq!(ended.error.as_deref(), Some("a\u{fffd}b [1 NUL character replaced]"));
    assert_eq!(ended.last_ai_message.as_deref(), Some("x\u{fffd}y [1 NUL character replaced]"));
}

/// Titles with NUL are cleaned.
pub async fn a_title_with_nul_is_cleaned(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let patch = ThreadPatch { display_name: Patch::Set("a\0".to_owned()), ..ThreadPatch::default() };
    let edited = ok(ledger.threads().update(&Scope::System, &t, patch, at(1)).await);
    assert_eq!(edited.display_name.as_deref(), Some("a\u{fffd} [1 NUL character replaced]"));
}

/// A long trace is cut to valid JSON and says so; a long message is not.
pub async fn long_traces_are_cut_and_messages_are_not(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let long = json(&format!(r#"{{"text":"{}"}}"#, "é".repeat(20_000)));
    let trace = EventDraft { category: Category::Trace, content: long.clone(), ..note("") };
    let kept = EventDraft { category: Category::Message, content: long.clone(), ..note("") };
    ok(commit(ledger, Commit::new(t.clone()).with_events(vec![trace, kept])).await);
    let stored = log(ledger, &t).await;
    let size = long.as_str().len() as u64;
    assert_eq!(
        stored.iter().map(|event| (event.truncated, event.content_bytes)).collect::<Vec<_>>(),
        [(true, size), (false, size)]
    );
    let (Some(cut), Some(whole)) = (stored.first(), stored.last()) else { panic!("two events") };
    assert!(cut.content.as_str().len() < 12 * 1024, "{} bytes", cut.content.as_str().len());
    ok(cut.content.decode::<Value>());
    assert_eq!(whole.content, long);
}

/// A trace that is cut stays below its size however it is spelled, and what fits is not cut.
pub async fn traces_are_measured_as_they_are_spelled(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    for unit in ["\\\"", "\\u0001", "\\ud83d\\ude00", "\\ud800", "x"] {
        let short = json(&format!("\"{}\"", unit.repeat(10_000 / unit.len())));
        let long = json(&format!("\"{}\"", unit.repeat(30_000 / unit.len())));
        let object = json(&format!("{{\"k\":{long}}}"));
        let traces = [&short, &long, &object].map(|content| EventDraft {
            category: Category::Trace,
            content: content.clone(),
            ..note("")
        });
        let receipt = append(ledger, &t, traces.to_vec()).await;
        let stored = log(ledger, &t).await;
        let stored: Vec<_> = stored.iter().filter(|event| receipt.seqs.contains(&event.seq)).collect();
        let cut: Vec<bool> = stored.iter().map(|event| event.truncated).collect();
        assert_eq!(cut, [false, true, true], "{unit}");
        assert_eq!(stored.first().map(|event| &event.content), Some(&short));
        for event in &stored[1..] {
            assert!(event.content.as_str().len() < 11 * 1024, "{unit}: {}", event.content.as_str().len());
            ok(crate::RawJson::parse("content", event.content.as_str()));
        }
    }
}

/// Documents that a database may not take are refused by all, with the field's name.
pub async fn documents_beyond_a_databases_means_are_refused(ledger: &Ledger) {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let long = format!("{{\"a\":{}}}", "9".repeat(200_000));
    for document in [r#"{"a":1e200000}"#, r#"{"a":-0.1E-99999}"#, deep.as_str(), long.as_str()] {
        let document = crate::RawJson::from_stored(document);
        let new = NewThread { metadata: document, ..NewThread::new(thread_id("t")) };
        assert_eq!(kind(ledger.threads().create(&Scope::System, new).await), crate::ErrorKind::InvalidInput);
    }
    let fine = json(r#"{"a":[1e300,-1.5E-300,"1e999999[[[[",12345678901234567890123456789]}"#);
    let new = NewThread { metadata: fine.clone(), ..NewThread::new(thread_id("t")) };
    ok(ledger.threads().create(&Scope::System, new).await);
}

/// A key with half a character can be stored, and others beside it changed.
pub async fn a_key_with_half_a_character_is_a_key(ledger: &Ledger) {
    let metadata = json(r#"{"\ud800":1,"b":2}"#);
    let new = NewThread { metadata, ..NewThread::new(thread_id("t")) };
    ok(ledger.threads().create(&Scope::System, new).await);
    let patch = ThreadPatch { metadata: Some(json(r#"{"b":null,"\udfff":3}"#)), ..ThreadPatch::default() };
    let patched = ok(ledger.threads().update(&Scope::System, &thread_id("t"), patch, at(1)).await);
    let spaceless: String = patched.metadata.as_str().chars().filter(|c| !c.is_whitespace()).collect();
    assert_eq!(spaceless, r#"{"\ud800":1,"\udfff":3}"#);
}

/// Labels with NUL, which serde lets in, are refused.
pub async fn labels_with_nul_are_refused(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let event_type: crate::EventType = ok(json(r#""a\u0000b""#).decode());
    let event = EventDraft { event_type: event_type.clone(), ..note("") };
    let refused =
        ledger.events().append(&Scope::System, Commit::new(t.clone()).with_events(vec![event])).await;
    assert_eq!(kind(refused), crate::ErrorKind::InvalidInput);
    let filter =
        crate::EventFilter { event_types: vec![event_type], ..crate::EventFilter::of_run(run_id("r")) };
    let listed = ledger.events().list_events(&Scope::System, &t, &filter, &crate::SeqRange::default()).await;
    assert_eq!(kind(listed), crate::ErrorKind::InvalidInput);
}

/// Times come back as they were, to the microsecond.
pub async fn times_keep_their_microseconds(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let times = [0, 1, 999_999, 1_000_000, 1_700_000_000_123_456, -1]
        .map(|micros| ok(crate::Timestamp::from_unix_micros(micros)));
    let events = times.iter().map(|at| EventDraft { created_at: *at, ..note("") }).collect();
    append(ledger, &t, events).await;
    assert_eq!(log(ledger, &t).await.iter().map(|event| event.created_at).collect::<Vec<_>>(), times);
}

/// Ids of other scripts, of the longest length and of odd characters name the same row again.
pub async fn ids_of_other_scripts_carry_over(ledger: &Ledger) {
    let ids =
        ["\u{9879}\u{76ee}/1", "\u{1f600}", "a'b\"c\\d %_$1?", "caf\u{e9}", "cafe\u{301}", &"x".repeat(128)];
    for id in ids {
        let t = thread(ledger, &Scope::System, id).await;
        let run = admit(ledger, &t, id).await;
        ok(commit(ledger, run.commit(0, vec![tool_started(id)])).await);
        let stored = log(ledger, &t).await.remove(0);
        assert_eq!(stored.run_id.as_ref().map(|run| run.as_str()), Some(id));
        assert_eq!(stored.item.as_ref().map(|item| item.item_id.as_str()), Some(id));
        if ledger.capabilities().runs {
            assert_eq!(run_of(ledger, &run).await.run_id.as_str(), id);
        }
        if ledger.capabilities().items {
            let item = ok(ledger.items().get(&Scope::System, &t, &run.run, &item_id(id)).await);
            assert_eq!(item.item_id.as_str(), id);
        }
    }
    let all =
        ok(ledger.threads().list(&Scope::System, &ThreadFilter::default(), &ListRange::default()).await);
    assert_eq!(all.items.len(), ids.len());
}

/// Rows of one time are ordered by the bytes of their ids, whatever the language of the database.
pub async fn ids_are_ordered_by_their_bytes(ledger: &Ledger) {
    let ids = ["a", "B", "\u{e4}", "Z", "a-b", "ab", "_", "10", "9"];
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    if ledger.capabilities().usage {
        let run = running(ledger).await;
        let calls = ids.iter().map(|id| call(id, crate::TokenCounts::of(1, 1))).collect();
        ok(commit(ledger, Commit { usage: calls, ..run.unmarked(Vec::new()) }).await);
        let calls = ok(ledger.usage().list_by_run(&Scope::System, &run.thread, &run.run, None, 100).await);
        assert_eq!(calls.iter().map(|call| call.source_id.as_str()).collect::<Vec<_>>(), sorted);
    }
    for id in ids {
        thread(ledger, &alice(), id).await;
    }
    let mut seen = Vec::new();
    let mut range = ListRange::newest(2);
    loop {
        let page = ok(ledger.threads().list(&alice(), &ThreadFilter::default(), &range).await);
        seen.extend(page.items.iter().map(|thread| thread.thread_id.to_string()));
        match page.next_cursor {
            Some(cursor) => range.cursor = Some(cursor),
            None => break,
        }
    }
    sorted.reverse();
    assert_eq!(seen, sorted);
}
