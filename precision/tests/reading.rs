//! Records, payloads and recordings with numbers of every kind.

use pretty_assertions::assert_eq;
use runledger_core::{
    AgentMessage, Event, EventFilter, Item, ItemBody, ItemEntry, ItemKind, Ledger, MemoryLedger, RawJson,
    RunId, Scope, SeqRange, ThreadId, ToolCall, UsageRecord, UserMessage,
};
use runledger_journal::Settings;
use runledger_journal::adapters::langchain_recording::Recording;

const NUMBERS: &str = "[9223372036854775808,12.5,1795230182.5989242,1e400,-0.0,18446744073709551616]";

/// The feature is on in this build: without it a decimal of so many digits is rounded.
#[test]
fn the_feature_is_on() {
    let value: serde_json::Value = serde_json::from_str("0.10000000000000000000000000001").unwrap();
    assert_eq!(value.to_string(), "0.10000000000000000000000000001");
}

fn numbers() -> RawJson {
    RawJson::parse("numbers", NUMBERS).unwrap()
}

#[test]
fn an_event_with_any_numbers_is_read_and_written_unchanged() {
    let text = format!(
        "{{\"thread_id\":\"t\",\"seq\":9223372036854775807,\"run_id\":\"r\",\"journal_ordinal\":3,\
         \"event_type\":\"item.completed\",\"category\":\"message\",\"caller\":\"lead_agent\",\"task_id\":null,\
         \"item\":{{\"item_id\":\"i\",\"item_kind\":\"tool_call\",\"item_status\":\"completed\",\"call_id\":null,\
         \"parent_item_id\":null}},\"once_key\":null,\"content\":{{\"n\":{NUMBERS}}},\"content_bytes\":12,\
         \"truncated\":false,\"metadata\":{{\"n\":{NUMBERS}}},\"created_at\":\"2026-01-01T00:00:00.000000+00:00\"}}"
    );
    let event: Event = serde_json::from_str(&text).unwrap();
    assert_eq!(event.seq, 9_223_372_036_854_775_807);
    assert_eq!(event.content.as_str(), format!("{{\"n\":{NUMBERS}}}"));
    assert_eq!(serde_json::to_string(&event).unwrap(), text);
}

#[test]
fn payloads_are_read_with_their_numbers() {
    let content = RawJson::parse(
        "content",
        &format!(
            "{{\"name\":\"calc\",\"args\":{NUMBERS},\"content\":{NUMBERS},\"duration_ms\":12,\
             \"detail\":{{\"command\":\"calc\",\"exit_code\":1,\"unknown\":12.5}},\"extra\":{{\"t\":1795230182.5989242}}}}"
        ),
    )
    .unwrap();
    let call: ToolCall = content.decode().unwrap();
    assert_eq!(
        (&call.args, call.content.as_ref(), call.duration_ms),
        (&numbers(), Some(&numbers()), Some(12))
    );
    for kind in ItemKind::KNOWN {
        let body = ItemBody::of(kind, &content);
        assert_eq!(body.call().is_some(), kind.is_call(), "{kind}");
    }
    let message: AgentMessage = RawJson::parse(
        "content",
        &format!(
            "{{\"content\":\"x\",\"usage\":{{\"n\":{NUMBERS}}},\"latency_ms\":5,\"phase\":\"final_answer\"}}"
        ),
    )
    .and_then(|content| content.decode_lossy())
    .unwrap();
    assert_eq!(message.usage.unwrap().as_str(), format!("{{\"n\":{NUMBERS}}}"));
    assert_eq!((message.latency_ms, message.phase.as_deref()), (Some(5), Some("final_answer")));
    let said: UserMessage = RawJson::parse("content", &format!("{{\"content\":{NUMBERS}}}"))
        .and_then(|content| content.decode())
        .unwrap();
    assert_eq!(said.content, numbers());
}

/// What the workspace stores of a recording without the feature is a snapshot there; with it the same is stored,
/// and each line of the snapshot is a record that is read back whole.
#[tokio::test]
async fn a_recording_is_stored_as_without_the_feature() {
    let ledger = MemoryLedger::new().ledger();
    let recording =
        Recording::parse(include_str!("../../journal/tests/journal/fixtures/agent.jsonl").as_bytes())
            .unwrap();
    let settings = Settings { estimate_failed: false, ..Settings::default() };
    recording.import(&ledger, &Scope::System, &settings, |_| ()).await.unwrap();
    let thread = ThreadId::new("fixture").unwrap();
    let events = lines(include_str!(
        "../../journal/tests/journal/snapshots/journal__fixtures__the_stored_events_are_these.snap"
    ));
    assert_eq!(stored_events(&ledger, &thread).await, events);
    for line in &events {
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(&serde_json::to_string(&event).unwrap(), line);
    }
    let usage = lines(include_str!(
        "../../journal/tests/journal/snapshots/journal__fixtures__the_usage_records_are_these.snap"
    ));
    let run = RunId::new("first").unwrap();
    let stored = ledger.usage().list_by_run(&Scope::System, &thread, &run, None, 100).await.unwrap();
    let stored: Vec<String> = stored.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    assert_eq!(stored, usage);
    for line in &usage {
        let record: UsageRecord = serde_json::from_str(line).unwrap();
        assert_eq!(&serde_json::to_string(&record).unwrap(), line);
    }
}

/// The body of a snapshot, line by line.
fn lines(snapshot: &str) -> Vec<String> {
    let body = snapshot.splitn(3, "---\n").nth(2).unwrap();
    body.trim_end().lines().map(str::to_owned).collect()
}

async fn stored_events(ledger: &Ledger, thread: &ThreadId) -> Vec<String> {
    let range = SeqRange::after(0, 1_000);
    let page =
        ledger.events().list_events(&Scope::System, thread, &EventFilter::default(), &range).await.unwrap();
    page.items.iter().map(|event| serde_json::to_string(event).unwrap()).collect()
}

#[tokio::test]
async fn items_are_read_with_their_numbers() {
    let ledger = MemoryLedger::new().ledger();
    let recording =
        Recording::parse(include_str!("../../journal/tests/journal/fixtures/agent.jsonl").as_bytes())
            .unwrap();
    recording.import(&ledger, &Scope::System, &Settings::default(), |_| ()).await.unwrap();
    let thread = ThreadId::new("fixture").unwrap();
    let page = ledger.items().page(&Scope::System, &thread, &Default::default()).await.unwrap();
    assert!(!page.items.is_empty());
    for Item { entry, content, .. } in &page.items {
        let again: ItemEntry = serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap();
        assert_eq!(&again, entry);
        assert!(!matches!(ItemBody::of(&entry.item_kind, content.as_ref().unwrap()), ItemBody::Other(_)));
    }
}
