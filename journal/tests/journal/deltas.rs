//! What is told of an answer while it comes.

use pretty_assertions::assert_eq;
use runledger_core::{
    DeltaKind, Event, EventFilter, Heard, Ledger, Listener, MemoryLedger, NewRun, NewThread, Outcome,
    RawJson, RunId, Scope, SeqRange, ThreadId,
};
use runledger_journal::RunJournal;
use runledger_journal::callbacks::{ChatModelStart, Context, LlmEnd, LlmNewToken, RuntimeCallbacks as _};

fn json(text: &str) -> RawJson {
    RawJson::parse("test", text).unwrap()
}

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

async fn begin(ledger: &Ledger) -> RunJournal {
    let run = NewRun {
        create_missing: Some(NewThread::new(thread())),
        ..NewRun::new(thread(), RunId::new("r").unwrap())
    };
    RunJournal::begin(ledger, &Scope::System, run).await.unwrap()
}

fn token(journal: &RunJournal, call: &str, token: &str, chunk: Option<&str>) {
    let (token, chunk) = (json(token), chunk.map(json));
    let token = LlmNewToken { context: Context::new(call), token: &token, chunk: chunk.as_ref() };
    journal.on_llm_new_token(token);
}

fn start(journal: &RunJournal, call: &str, tags: &[String]) {
    let context = Context { tags, ..Context::new(call) };
    journal.on_chat_model_start(ChatModelStart { context, messages: &json("[[]]") });
}

fn answer(journal: &RunJournal, call: &str, message: &str) {
    let response = json(&format!(r#"{{"generations":[[{{"text":"","message":{message}}}]]}}"#));
    journal.on_llm_end(LlmEnd { context: Context::new(call), response: &response });
}

/// What waits for the listener, in short.
fn heard(listener: &Listener) -> Vec<(DeltaKind, String, String)> {
    std::iter::from_fn(|| listener.heard_before(u64::MAX))
        .map(|heard| match heard {
            Heard::Delta(delta) => (delta.kind, delta.item_id.to_string(), delta.text.clone()),
            Heard::Lagged(count) => panic!("{count} were lost"),
        })
        .collect()
}

async fn log(ledger: &Ledger) -> Vec<Event> {
    let range = SeqRange::after(0, 1_000);
    let filter = EventFilter::default();
    ledger.events().list_events(&Scope::System, &thread(), &filter, &range).await.unwrap().items
}

#[tokio::test]
async fn pieces_have_the_ids_of_what_they_become_and_are_stored_nowhere() {
    let ledger = MemoryLedger::new().ledger();
    let journal = begin(&ledger).await;
    let listener = ledger.events().signal().listen(&thread());
    start(&journal, "l1", &[]);
    token(
        &journal,
        "l1",
        r#""""#,
        Some(r#"{"message":{"id":"m1","additional_kwargs":{"reasoning_content":"Hm."}}}"#),
    );
    token(&journal, "l1", r#""Let me ""#, Some(r#"{"message":{"id":"m1"}}"#));
    token(
        &journal,
        "l1",
        r#"[{"type":"text","text":"look."},{"type":"thinking","thinking":"Where?"}]"#,
        None,
    );
    for chunk in [
        r#"{"message":{"id":"m1","tool_call_chunks":[{"index":0,"id":"c1","name":"ls","args":""}]}}"#,
        r#"{"message":{"id":"m1","tool_call_chunks":[{"index":0,"args":"{\"path\":"}]}}"#,
        r#"{"message":{"id":"m1","tool_call_chunks":[{"index":0,"args":"\"/\"}"}]}}"#,
    ] {
        token(&journal, "l1", r#""""#, Some(chunk));
    }
    let pieces = heard(&listener);
    answer(
        &journal,
        "l1",
        r#"{"type":"ai","id":"m1","content":"Let me look.","additional_kwargs":{"reasoning_content":"Hm."},
            "tool_calls":[{"name":"ls","args":{"path":"/"},"id":"c1"}]}"#,
    );
    journal.finish(Outcome::success()).await.unwrap();
    let piece = |kind, item: &str, text: &str| (kind, item.to_owned(), text.to_owned());
    assert_eq!(
        pieces,
        [
            piece(DeltaKind::Reasoning, "m1/reasoning", "Hm."),
            piece(DeltaKind::Text, "m1", "Let me "),
            piece(DeltaKind::Text, "m1", "look."),
            piece(DeltaKind::Reasoning, "m1", "Where?"),
            piece(DeltaKind::Arguments, "c1", "{\"path\":"),
            piece(DeltaKind::Arguments, "c1", "\"/\"}"),
        ]
    );
    let items: Vec<String> = log(&ledger)
        .await
        .iter()
        .filter_map(|event| Some(event.item.as_ref()?.item_id.to_string()))
        .collect();
    // The call is open when the run ends, and is closed with it.
    assert_eq!(items, ["m1/reasoning", "m1", "c1", "c1"]);
}

#[tokio::test]
async fn an_answer_without_ids_is_told_under_the_ones_it_gets() {
    let ledger = MemoryLedger::new().ledger();
    let journal = begin(&ledger).await;
    let listener = ledger.events().signal().listen(&thread());
    start(&journal, "l1", &[]);
    token(&journal, "l1", r#""a""#, None);
    answer(&journal, "l1", r#"{"type":"ai","id":"lc_run--l1","content":"a"}"#);
    // Its id is taken: the answer gets one of its own.
    start(&journal, "l2", &[]);
    token(&journal, "l2", r#""b""#, Some(r#"{"id":"lc_run--l1"}"#));
    answer(&journal, "l2", r#"{"type":"ai","id":"lc_run--l1","content":"b"}"#);
    token(&journal, "l2", r#""too late""#, None);
    start(&journal, "title", &["middleware:title".to_owned()]);
    token(&journal, "title", r#""nobody's business""#, None);
    journal.finish(Outcome::success()).await.unwrap();
    let told: Vec<String> = heard(&listener).into_iter().map(|(_, item, _)| item).collect();
    let kept: Vec<String> = log(&ledger)
        .await
        .iter()
        .filter_map(|event| Some(event.item.as_ref()?.item_id.to_string()))
        .collect();
    assert_eq!((told.clone(), told), (kept, vec!["lc_run--l1".to_owned(), "l2-0".to_owned()]));
}

#[tokio::test]
async fn the_log_is_the_same_whether_somebody_listens_or_not() {
    let mut logs = Vec::new();
    for listens in [true, false] {
        let ledger = MemoryLedger::new().ledger();
        let journal = begin(&ledger).await;
        let _listener = listens.then(|| ledger.events().signal().listen(&thread()));
        start(&journal, "l1", &[]);
        token(&journal, "l1", r#""a""#, Some(r#"{"id":"told"}"#));
        answer(&journal, "l1", r#"{"type":"ai","id":"kept","content":"a"}"#);
        journal.finish(Outcome::success()).await.unwrap();
        let events = log(&ledger).await;
        logs.push(events.into_iter().map(|event| (event.event_type, event.item)).collect::<Vec<_>>());
    }
    assert_eq!(logs[0], logs[1]);
}
