use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::DeerFlow;
use crate::view::legacy::testing::{Log, call};
use crate::{
    Category, EventDraft, ItemId, ItemKind, ItemStatus, Outcome, RawJson, TaskId, TerminalStatus, Timestamp,
};

/// The records as `[event_type, category, content, metadata]`, by their seqs.
fn told(log: Log) -> Vec<(u64, Value)> {
    let mut events = DeerFlow::default();
    let told = log.events().into_iter().filter_map(|event| events.take(&event));
    let told = told.map(|record| record.decode::<Value>().unwrap());
    let parts = |record: Value| {
        let parts = ["event_type", "category", "content", "metadata"].map(|name| record[name].clone());
        (record["seq"].as_u64().unwrap(), Value::from(parts.to_vec()))
    };
    told.map(parts).collect()
}

#[test]
fn messages_are_events_of_their_speakers() {
    let human = r#"{"content":"Mine.","extra":{"additional_kwargs":{},"response_metadata":{},"type":"human","name":null,"id":"h1","model_content":"Mine, and more."}}"#;
    let ai = r#"{"content":"Sure.","tool_calls":[{"id":"c1","name":"add","args":{"n":1}}],"model":"m","usage":{"input_tokens":2,"output_tokens":1,"total_tokens":3},"latency_ms":12,"call_index":1,"extra":{"additional_kwargs":{},"response_metadata":{"model_name":"m"},"type":"ai","name":null,"id":"a1","invalid_tool_calls":[]}}"#;
    let log = Log::default()
        .item("h1", ItemKind::UserMessage, human)
        .item("a1/reasoning", ItemKind::Reasoning, r#"{"text":"Hm."}"#)
        .with(|event| event.item.as_mut().unwrap().parent_item_id = ItemId::new("a1").ok())
        .item("a1", ItemKind::AgentMessage, ai)
        .by("subagent:x")
        .marked("c1", ItemKind::ToolCall, ItemStatus::InProgress, r#"{"name":"add","args":{"n":1}}"#)
        .result("c1", "c1", Some("a1"), &call("add", "2"))
        .item("n", ItemKind::ContextCompaction, r#"{"content":"note"}"#)
        .item("p", ItemKind::Plan, r#"{"text":"plan"}"#);
    let usage = json!({"input_tokens": 2, "output_tokens": 1, "total_tokens": 3});
    assert_eq!(
        told(log),
        [
            (
                1,
                json!(["llm.human.input", "message",
                {"content": "Mine.", "additional_kwargs": {}, "response_metadata": {}, "type": "human", "name": null, "id": "h1"},
                {"caller": "lead_agent"}])
            ),
            (
                3,
                json!(["llm.ai.response", "message",
                {"content": "Sure.", "additional_kwargs": {"reasoning_content": "Hm."}, "response_metadata": {"model_name": "m"},
                 "type": "ai", "name": null, "id": "a1",
                 "tool_calls": [{"name": "add", "args": {"n": 1}, "id": "c1", "type": "tool_call"}],
                 "invalid_tool_calls": [], "usage_metadata": usage},
                {"caller": "subagent:x", "usage": usage, "latency_ms": 12, "llm_call_index": 1}])
            ),
            (
                5,
                json!(["llm.tool.result", "message",
                {"content": "2", "additional_kwargs": {}, "response_metadata": {}, "type": "tool", "name": "add", "id": null,
                 "tool_call_id": "c1", "artifact": null, "status": "success"},
                {}])
            ),
        ]
    );
}

#[test]
fn what_is_no_message_has_deerflows_words() {
    let failed =
        Outcome { status: TerminalStatus::Error, error: Some("no route".to_owned()), stop_reason: None };
    let end = |outcome: &Outcome, cause| EventDraft::terminal(outcome, cause, Timestamp::now());
    let in_task = |event: &mut crate::Event| event.task_id = TaskId::new("k").ok();
    let log = Log::default()
        .event("run.started", Category::Lifecycle, r#"{"chain":"agent"}"#)
        .event("llm.started", Category::Trace, "{}")
        .event("llm.failed", Category::Trace, r#"{"error":{"type":"E","message":"busy"}}"#)
        .event("middleware:title", Category::Middleware, r#"{"name":"title"}"#)
        .event("context:memory", Category::Context, r#"{"content_sha256":"ab"}"#)
        .marked("k", ItemKind::SubAgentActivity, ItemStatus::InProgress, r#"{"description":"dig"}"#)
        .with(in_task)
        .event("subagent.step", Category::Subagent, r#"{"kind":"ai","text":"hm"}"#)
        .with(in_task)
        .marked("k", ItemKind::SubAgentActivity, ItemStatus::Interrupted, r#"{"detail":{"error":"stopped"}}"#)
        .with(in_task)
        .event("run.delivery", Category::Outputs, r#"{"presented":0}"#)
        .event("journal.fenced", Category::Trace, "{}")
        .draft(end(&Outcome::success(), None))
        .draft(end(&failed, Some(("ValueError", "no route"))))
        .draft(end(&Outcome::interrupted("cancelled"), None));
    assert_eq!(
        told(log),
        [
            (1, json!(["run.start", "trace", {"chain": "agent"}, {"caller": "lead_agent"}])),
            (3, json!(["llm.error", "trace", "busy", {}])),
            (4, json!(["middleware:title", "middleware", {"name": "title"}, {}])),
            (5, json!(["context:memory", "context", {"content_sha256": "ab"}, {}])),
            (
                6,
                json!(["subagent.start", "subagent", {"task_id": "k", "description": "dig"}, {"task_id": "k"}])
            ),
            (7, json!(["subagent.step", "subagent", {"task_id": "k", "kind": "ai", "text": "hm"}, {}])),
            (
                8,
                json!(["subagent.end", "subagent", {"task_id": "k", "status": "cancelled", "error": "stopped"}, {"task_id": "k"}])
            ),
            (9, json!(["run.delivery", "outputs", {"presented": 0}, {}])),
            (11, json!(["run.end", "outputs", {"status": "success"}, {"status": "success"}])),
            (12, json!(["run.error", "error", "no route", {"error_type": "ValueError"}])),
            (13, json!(["run.error", "error", "interrupted", {"error_type": "interrupted"}])),
        ]
    );
}

#[test]
fn a_record_stands_under_the_logs_number_and_time() {
    let log = Log::default().event("run.started", Category::Lifecycle, "[]").events();
    let record = DeerFlow::default().take(&log[0]).unwrap();
    assert_eq!(
        record,
        RawJson::from_stored(
            r#"{"thread_id":"t","run_id":"r","event_type":"run.start","category":"trace","content":{"chain":"unknown"},"metadata":{"caller":"lead_agent"},"seq":1,"created_at":"2026-11-21T03:07:28.250+00:00"}"#
        )
    );
}
