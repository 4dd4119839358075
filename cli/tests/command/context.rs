//! `context` and `compact`.

use pretty_assertions::assert_eq;
use runledger_core::{
    CallId, Category, Commit, EventDraft, ItemId, ItemKind, ItemMark, ItemStatus, NewRun, NewThread, RawJson,
    RunId, Scope, ThreadId,
};
use serde_json::json;

use crate::Place;

fn said(id: &str, kind: ItemKind, call: Option<&str>, content: &str) -> EventDraft {
    let mark = ItemMark {
        call_id: call.map(|call| CallId::new(call).unwrap()),
        ..ItemMark::new(ItemId::new(id).unwrap(), kind, ItemStatus::Completed)
    };
    EventDraft::item(mark, Category::Message, RawJson::parse("content", content).unwrap())
}

/// Two exchanges, the first with a tool call.
async fn talked() -> Place {
    let place = Place::new();
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let (thread, run) = (ThreadId::new("t").unwrap(), RunId::new("r").unwrap());
    let new = NewRun {
        create_missing: Some(NewThread {
            system_prompt: Some("Be brief.".into()),
            ..NewThread::new(thread.clone())
        }),
        ..NewRun::new(thread.clone(), run.clone())
    };
    ledger.admit(&Scope::System, new).await.unwrap();
    let asks = r#"{"content":"","tool_calls":[{"id":"c","name":"count","args":{"path":"a.md"}}]}"#;
    let events = vec![
        said("1", ItemKind::UserMessage, None, r#"{"content":"How many words?"}"#),
        said("2", ItemKind::AgentMessage, None, asks),
        said("3", ItemKind::ToolCall, Some("c"), r#"{"name":"count","args":{},"content":"three"}"#),
        said("4", ItemKind::UserMessage, None, r#"{"content":"Thank\u001b[31m you."}"#),
    ];
    let commit = Commit::of_run(thread, run).with_events(events);
    ledger.events().append(&Scope::System, commit).await.unwrap();
    ledger.close().await;
    place
}

#[tokio::test]
async fn a_window_is_shown_as_people_and_programs_read_it() {
    let place = talked().await;
    let shown = place.run(&["context", "t"]).await;
    assert_eq!(
        (shown.code, shown.out.as_str(), shown.err.as_str()),
        (
            0,
            "seq  kind    run  content\n  -  system  -    Be brief.\n  1  user    r    How many words?\n  \
             2  agent   r    count({\"path\":\"a.md\"})\n  3  tool    r    count -> three\n  \
             4  user    r    Thank\\u{1b}[31m you.\n",
            ""
        )
    );
    let call = json!({"id": "c", "type": "function", "function": {"name": "count", "arguments": "{\"path\":\"a.md\"}"}});
    assert_eq!(
        place.run(&["context", "t", "--openai"]).await.json(),
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "How many words?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "three", "tool_call_id": "c"},
            {"role": "user", "content": "Thank\u{1b}[31m you."},
        ])
    );
    let document = place.run(&["context", "t", "--json"]).await.json();
    assert_eq!(document["messages"][2]["kind"], "tool");
    assert_eq!(place.run(&["context", "none"]).await.code, 1);
    assert_eq!(place.run(&["context", "t", "--owner", "eve"]).await.code, 1);
}

#[tokio::test]
async fn a_note_takes_the_place_of_older_exchanges() {
    let place = talked().await;
    let dry = place.run(&["compact", "t", "--note", "three words", "--keep-last", "1", "--dry-run"]).await;
    assert_eq!(
        (dry.code, dry.out.as_str()),
        (0, "would fold 3 messages into a note: the context window has 2 instead of 4\n")
    );
    for (args, part) in [
        (&["--note", " "][..], "the note is empty"),
        (&["--note", "x"], "nothing is older than the last 4 exchanges"),
        (&["--note", "x", "--seqs", "2"], "would part the call"),
        (&["--note", "x", "--seqs", "99"], "has 99, which is not in the thread's context window"),
    ] {
        let refused = place.run(&[&["compact", "t"], args].concat()).await;
        assert_eq!((refused.code, refused.err.contains(part)), (2, true), "{args:?}: {}", refused.err);
    }
    let file = place.path("note.txt");
    std::fs::write(&file, "three words").unwrap();
    let args = ["compact", "t", "--note-file", file.to_str().unwrap(), "--seqs", "1-3", "--json"];
    let folded = place.run(&args).await.json();
    assert_eq!(folded["folded"], json!([1, 2, 3]));
    assert_eq!(folded["compaction"]["window"], json!([[5, 5], [4, 4]]));
    assert!(folded["compaction"]["before_tokens"].as_u64() > folded["compaction"]["after_tokens"].as_u64());
    let shown = place.run(&["context", "t"]).await;
    assert!(shown.out.contains("  5  note    r    three words\n  4  user"), "{}", shown.out);
}
