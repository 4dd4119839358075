//! What is persisted, as JSON: each payload against a fixture, each envelope against a snapshot.
//!
//! A fixture is what a ledger out there holds. One that is read differently than before, or a snapshot that
//! changes, is a change of what is stored: it needs a reader for the old shape first.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should end there")]

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use runledger_core::{
    AgentMessage, AgentRun, AgentRunId, AgentRunStatus, AgentStep, AgentUsage, ApiToken, ApiTokenId, CallId,
    Caller, Category, CollabAgentCall, CommandExecution, CompactionNote, DynamicToolCall, Event, EventType,
    Feedback, FeedbackId, FileChange, FileEdit, HookFragment, HookPrompt, ImageGeneration, ImageView, Item,
    ItemBody, ItemEntry, ItemError, ItemId, ItemKind, ItemMark, ItemStatus, McpToolCall, Origin, OwnerId,
    Plan, Rating, RawJson, ReasoningText, ReviewEntered, ReviewExited, RunId, StepKind, SubAgentActivity,
    TaskId, ThreadId, Timestamp, ToolCall, ToolRequest, UserMessage, WebSearch,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Fixture {
    kind: ItemKind,
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    status: ItemStatus,
    content: RawJson,
}

fn fixtures() -> Vec<Fixture> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/items");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn each_payload_is_read_whole_and_written_as_it_was() {
    let mut read = Vec::new();
    for Fixture { kind, records } in fixtures() {
        for Record { status, content } in records {
            let body = ItemBody::of(&kind, &content);
            assert!(!matches!(body, ItemBody::Other(_)), "{kind} {status}: {content}");
            assert!(body.payload().is_same_value(&content), "{kind} {status}: {} {content}", body.payload());
            assert_eq!(body.call().is_some(), kind.is_call(), "{kind}");
            read.push((
                kind.to_string(),
                status,
                ItemBody::of(&kind, &RawJson::from(content.decode::<Value>().unwrap())),
            ));
        }
    }
    // So that each value is known to be in its own field.
    insta::assert_debug_snapshot!("payloads", read);
}

/// A newer version adds fields; an older one keeps reading.
#[test]
fn fields_of_a_newer_version_are_tolerated() {
    for Fixture { kind, records } in fixtures() {
        for Record { content, .. } in records {
            let mut newer: Value = content.decode().unwrap();
            newer["added_later"] = json!({"x": [1]});
            if let Some(detail) = newer.get_mut("detail").filter(|_| kind.is_call()) {
                detail["added_later"] = json!(true);
            }
            let (old, new) = (ItemBody::of(&kind, &content), ItemBody::of(&kind, &RawJson::from(&newer)));
            let same = old.payload().is_same_value(&new.payload());
            // What an extension's call has in its detail is its own, and kept.
            assert!(same || matches!(kind, ItemKind::Extension { .. }), "{kind}: {}", new.payload());
        }
    }
}

#[test]
fn a_payload_of_another_shape_is_kept_as_it_is() {
    let kinds = ItemKind::KNOWN
        .iter()
        .cloned()
        .chain([ItemKind::extension("clock", "sleep").unwrap(), ItemKind::from_stored("newer")]);
    for kind in kinds {
        for text in [
            "null",
            "3",
            "\"text\"",
            "[]",
            "[{}]",
            "[\"text\"]",
            "{\"name\":1,\"content\":2,\"text\":3,\"target\":4}",
            "not JSON",
            "",
        ] {
            let content = RawJson::from_stored(text);
            let body = ItemBody::of(&kind, &content);
            // An object may say nothing that its kind has: then it says nothing.
            let is_empty = text.starts_with('{') && !matches!(body, ItemBody::Other(_));
            assert!(body == ItemBody::Other(content) || is_empty, "{kind} {text}: {body:?}");
        }
    }
}

/// A detail of another shape makes no call unreadable, and is not lost.
#[test]
fn a_call_is_a_call_whatever_its_detail_is() {
    for detail in ["[1]", "{\"command\":7}", "[[\"ls\"]]", "\"text\"", "{\"added_later\":1}"] {
        let content = format!("{{\"name\":\"sh\",\"args\":{{}},\"detail\":{detail}}}");
        let body = ItemBody::of(&ItemKind::CommandExecution, &RawJson::from_stored(&content));
        assert_eq!(body.call().map(|call| call.name.as_str()), Some("sh"));
        assert_eq!(body.payload().as_str(), content);
    }
}

#[test]
fn text_that_no_string_holds_is_read_with_a_replacement() {
    let content = RawJson::from_stored(r#"{"text":"caf\udce9"}"#);
    let body = ItemBody::of(&ItemKind::Plan, &content);
    assert_eq!(body, ItemBody::Plan(Plan { text: "caf\u{fffd}".to_owned() }));
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_795_230_448_000_000 + seconds * 1_000_001).unwrap()
}

fn event(status: ItemStatus) -> Event {
    let mark = ItemMark {
        call_id: Some(CallId::new("call_1").unwrap()),
        parent_item_id: Some(ItemId::new("msg_1").unwrap()),
        ..ItemMark::new(ItemId::new("item_1").unwrap(), ItemKind::CommandExecution, status)
    };
    Event {
        thread_id: ThreadId::new("thread-1").unwrap(),
        seq: 7,
        run_id: RunId::new("run-1").ok(),
        journal_ordinal: Some(3),
        event_type: EventType::new("item.completed").unwrap(),
        category: Category::Message,
        caller: Some(Caller::lead_agent()),
        task_id: TaskId::new("task-1").ok(),
        item: Some(mark),
        once_key: Some("result:item_1".to_owned()),
        content: RawJson::from_stored("{\"n\":1.50,\"s\":\"\\udce9\"}"),
        content_bytes: 24,
        truncated: false,
        metadata: Some(RawJson::from_stored("{\"origin\":\"tool_end\"}")),
        created_at: at(0),
    }
}

fn entry(status: ItemStatus) -> ItemEntry {
    let is_over = status != ItemStatus::InProgress;
    ItemEntry {
        thread_id: ThreadId::new("thread-1").unwrap(),
        run_id: RunId::new("run-1").unwrap(),
        item_id: ItemId::new("item_1").unwrap(),
        item_kind: ItemKind::CommandExecution,
        status,
        started_seq: 6,
        completed_seq: is_over.then_some(7),
        updated_seq: if is_over { 7 } else { 6 },
        started_at: at(0),
        completed_at: is_over.then(|| at(1)),
        parent_item_id: ItemId::new("msg_1").ok(),
        call_id: CallId::new("call_1").ok(),
        caller: Some(Caller::lead_agent()),
        claimed_epoch: Some(2),
    }
}

/// Written, it is this; read again, it is the same.
fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    record: &T,
) -> String {
    let text = serde_json::to_string(record).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), record);
    text
}

#[test]
fn events_and_items_have_one_shape_in_each_status() {
    let statuses = || ItemStatus::KNOWN.iter().cloned().chain([ItemStatus::from_stored("newer")]);
    let events: Vec<String> = statuses().map(|status| round_trip(&event(status))).collect();
    insta::assert_snapshot!("events", events.join("\n"));
    let item = |status: ItemStatus| Item {
        content: (status != ItemStatus::Interrupted)
            .then(|| RawJson::from_stored("{\"name\":\"sh\",\"args\":1.50}")),
        entry: entry(status),
        content_bytes: 40_000,
        truncated: true,
    };
    let items: Vec<String> = statuses().map(|status| round_trip(&item(status))).collect();
    insta::assert_snapshot!("items", items.join("\n"));
    let own = Event {
        item: None,
        run_id: None,
        metadata: None,
        caller: None,
        task_id: None,
        once_key: None,
        journal_ordinal: None,
        ..event(ItemStatus::Completed)
    };
    insta::assert_snapshot!("event_of_no_item", round_trip(&own));
}

#[test]
fn an_agent_run_has_one_shape() {
    let step = |index, kind, payload: &str| AgentStep {
        index,
        iteration: 1,
        kind,
        payload: RawJson::from_stored(payload),
        at: at(1),
    };
    let whole = AgentRun {
        agent_run_id: AgentRunId::new("agent-run-1").unwrap(),
        agent: "study_buddy".to_owned(),
        owner_id: OwnerId::new("alice").ok(),
        subject_id: Some("edition-9".to_owned()),
        thread_id: ThreadId::new("thread-1").ok(),
        run_id: RunId::new("run-1").ok(),
        parent_agent_run_id: AgentRunId::new("agent-run-0").ok(),
        goal: "explain".to_owned(),
        status: AgentRunStatus::Completed,
        output: Some("explained".to_owned()),
        steps: vec![
            step(0, StepKind::LlmResponse, r#"{"text":"","tool_calls":[{"args":{"n":1.5},"name":"add"}]}"#),
            step(1, StepKind::ToolResult, r#"{"args":{"n":1.5},"ok":true,"result":"3","tool":"add"}"#),
            step(2, StepKind::SubAgent, r#"{"ok":false}"#),
            step(3, StepKind::Plan, r#"{"plan":"next"}"#),
        ],
        usage: AgentUsage {
            iterations: 1,
            tool_calls: 1,
            input_tokens: 10,
            output_tokens: 5,
            cost_nanos: Some(1_200),
            latency_ms: Some(1_000),
        },
        model: Some("m-1".to_owned()),
        confidence: Some(0.75),
        error: None,
        started_at: at(0),
        finished_at: Some(at(1)),
        created_at: at(2),
    };
    insta::assert_snapshot!("agent_run", round_trip(&whole));
    let statuses: Vec<&str> = AgentRunStatus::KNOWN.iter().map(AgentRunStatus::as_str).collect();
    insta::assert_snapshot!("agent_run_statuses", statuses.join("\n"));
    let running = AgentRun {
        status: AgentRunStatus::Running,
        output: None,
        confidence: None,
        finished_at: None,
        steps: Vec::new(),
        usage: AgentUsage::default(),
        ..whole
    };
    insta::assert_snapshot!("agent_run_that_goes_on", round_trip(&running));
}

/// Where a message is from stands in the event's metadata.
#[test]
fn feedback_and_tokens_have_one_shape() {
    let feedback = Feedback {
        thread_id: ThreadId::new("thread-1").unwrap(),
        feedback_id: FeedbackId::new("feedback-1").unwrap(),
        run_id: RunId::new("run-1").unwrap(),
        item_id: Some(ItemId::new("item-1").unwrap()),
        owner_id: Some(OwnerId::new("alice").unwrap()),
        rating: Rating::Down,
        comment: Some("not what I asked".to_owned()),
        created_at: at(1),
        updated_at: at(2),
    };
    insta::assert_snapshot!("feedback", round_trip(&feedback));
    let token = ApiToken {
        token_id: ApiTokenId::new("token-1").unwrap(),
        token_hash: "0".repeat(64),
        owner_id: None,
        label: Some("laptop".to_owned()),
        created_at: at(1),
        expires_at: Some(at(2)),
        revoked_at: None,
    };
    insta::assert_snapshot!("api_token", round_trip(&token));
}

#[test]
fn origins_have_their_words() {
    let words: Vec<&str> = Origin::KNOWN.iter().map(Origin::as_str).collect();
    insta::assert_snapshot!("origins", words.join("\n"));
    for origin in Origin::KNOWN.iter().cloned().chain([Origin::from_stored("newer")]) {
        let metadata = json!({"origin": origin.as_str(), "added_later": 1});
        let event = Event { metadata: Some(RawJson::from(metadata)), ..event(ItemStatus::Completed) };
        assert_eq!(Origin::of(&event), Some(origin));
    }
    for metadata in [None, Some("{}"), Some("{\"origin\":3}"), Some("[]")] {
        let event = Event { metadata: metadata.map(RawJson::from_stored), ..event(ItemStatus::Completed) };
        assert_eq!(Origin::of(&event), None);
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-z\\PC\"\\\\\n\u{0}]{0,12}"
}

/// Any JSON but `null`, which stands for a field that is missing.
fn raw() -> impl Strategy<Value = RawJson> {
    prop_oneof![
        text().prop_map(|text| RawJson::string(&text)),
        (any::<i64>(), text()).prop_map(|(n, text)| RawJson::from(json!({"n": n, "parts": [text, null]}))),
        Just(RawJson::from_stored("[{\"type\":\"text\",\"text\":\"\\udce9\"},1.50e400]")),
    ]
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    of: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    proptest::option::of(of).boxed()
}

fn call() -> impl Strategy<Value = ToolCall> {
    let error = (text(), text()).prop_map(|(error_type, message)| ItemError { error_type, message });
    (text(), raw(), maybe(raw()), maybe(error), maybe(any::<u64>()), maybe(raw())).prop_map(
        |(name, args, content, error, duration_ms, extra)| ToolCall {
            name,
            args,
            content,
            error,
            duration_ms,
            detail: None,
            extra,
        },
    )
}

fn body() -> impl Strategy<Value = (ItemKind, ItemBody)> {
    let request = (maybe(text()), text(), raw()).prop_map(|(id, name, args)| ToolRequest { id, name, args });
    let edit = (text(), maybe(text()), maybe(text()), maybe(text())).prop_map(
        |(edit, content, unified_diff, move_path)| FileEdit { edit, content, unified_diff, move_path },
    );
    let texts = || proptest::collection::vec(text(), 0..3);
    let words = || (maybe(text()), maybe(text()), maybe(text()), maybe(text()), maybe(text()));
    prop_oneof![
        (raw(), maybe(text()), maybe(raw())).prop_map(|(content, client_id, extra)| {
            (ItemKind::UserMessage, ItemBody::UserMessage(UserMessage { content, client_id, extra }))
        }),
        (raw(), proptest::collection::vec(request, 0..3), words(), maybe(raw()), maybe(any::<u64>()))
            .prop_map(|(content, tool_calls, (model, phase, delivery, _, _), other, number)| {
                let message = AgentMessage {
                    content,
                    tool_calls,
                    model,
                    usage: other.clone(),
                    latency_ms: number,
                    call_index: number,
                    phase,
                    delivery,
                    memory_citation: other.clone(),
                    questions: other.clone(),
                    extra: other,
                };
                (ItemKind::AgentMessage, ItemBody::AgentMessage(message))
            }),
        (text(), texts(), texts(), maybe(raw())).prop_map(|(text, summary, raw, extra)| {
            (ItemKind::Reasoning, ItemBody::Reasoning(ReasoningText { text, summary, raw, extra }))
        }),
        text().prop_map(|text| (ItemKind::Plan, ItemBody::Plan(Plan { text }))),
        (call(), maybe(texts()), words(), words(), maybe(raw()), maybe(any::<i64>())).prop_map(
            |(
                call,
                command,
                (cwd, source, process_id, stdout, stderr),
                (a, b, c, d, _),
                parsed,
                exit_code,
            )| {
                let detail = CommandExecution {
                    command,
                    cwd,
                    parsed,
                    source,
                    process_id,
                    interaction_input: a,
                    exit_code,
                    stdout,
                    stderr,
                    formatted_output: b,
                    plugin_id: c,
                    script_path: d,
                };
                (ItemKind::CommandExecution, ItemBody::CommandExecution(call, detail))
            }
        ),
        (call(), maybe(proptest::collection::btree_map(text(), edit, 0..3)), maybe(any::<bool>()), words())
            .prop_map(|(call, changes, auto_approved, (stdout, stderr, _, _, _))| {
                let detail = FileChange { changes, auto_approved, stdout, stderr };
                (ItemKind::FileChange, ItemBody::FileChange(call, detail))
            }),
        (call(), words(), words(), maybe(raw()), maybe(any::<bool>())).prop_map(
            |(
                call,
                (server, connector_id, app_resource_uri, app_name, action_name),
                (link_id, plugin_id, ..),
                other,
                flag,
            )| {
                let detail = McpToolCall {
                    server,
                    structured_content: other.clone(),
                    is_error: flag,
                    read_only: flag,
                    connector_id,
                    app_resource_uri,
                    app_name,
                    action_name,
                    link_id,
                    plugin_id,
                    result_extra: other,
                };
                (ItemKind::McpToolCall, ItemBody::McpToolCall(call, detail))
            }
        ),
        (call(), maybe(text()), maybe(any::<bool>())).prop_map(|(call, namespace, success)| {
            (ItemKind::ToolCall, ItemBody::ToolCall(call, DynamicToolCall { namespace, success }))
        }),
        (call(), maybe(text()), maybe(raw())).prop_map(|(call, query, action)| {
            (ItemKind::WebSearch, ItemBody::WebSearch(call, WebSearch { query, action }))
        }),
        (call(), maybe(text())).prop_map(|(call, path)| {
            (ItemKind::ImageView, ItemBody::ImageView(call, ImageView { path }))
        }),
        (call(), words()).prop_map(|(call, (provider_status, revised_prompt, saved_path, ..))| {
            let detail = ImageGeneration { provider_status, revised_prompt, saved_path };
            (ItemKind::ImageGeneration, ItemBody::ImageGeneration(call, detail))
        }),
        (call(), maybe(texts()), words(), maybe(raw())).prop_map(
            |(call, receiver_thread_ids, (sender_thread_id, prompt, model, reasoning_effort, _), other)| {
                let detail = CollabAgentCall {
                    sender_thread_id,
                    receiver_thread_ids,
                    receiver_agents: other.clone(),
                    prompt,
                    model,
                    reasoning_effort,
                    agents_states: other,
                };
                (ItemKind::CollabAgentCall, ItemBody::CollabAgentCall(call, detail))
            }
        ),
        (words(), maybe(text()), maybe(raw())).prop_map(
            |((description, activity, agent_thread_id, agent_path, model), reasoning_effort, detail)| {
                let activity = SubAgentActivity {
                    description,
                    activity,
                    agent_thread_id,
                    agent_path,
                    model,
                    reasoning_effort,
                    detail,
                };
                (ItemKind::SubAgentActivity, ItemBody::SubAgentActivity(activity))
            }
        ),
        (raw(), maybe(raw())).prop_map(|(content, extra)| {
            (ItemKind::ContextCompaction, ItemBody::ContextCompaction(CompactionNote { content, extra }))
        }),
        (maybe(raw()), maybe(text())).prop_map(|(target, hint)| {
            (ItemKind::ReviewEntered, ItemBody::ReviewEntered(ReviewEntered { target, hint }))
        }),
        maybe(raw())
            .prop_map(|output| (ItemKind::ReviewExited, ItemBody::ReviewExited(ReviewExited { output }))),
        (raw(), text(), maybe(text())).prop_map(|(content, text, hook_run_id)| {
            let fragments = vec![HookFragment { text, hook_run_id }];
            (ItemKind::HookPrompt, ItemBody::HookPrompt(HookPrompt { content, fragments }))
        }),
        (call(), maybe(raw())).prop_map(|(call, detail)| {
            let kind = ItemKind::from_stored("clock.sleep");
            (kind, ItemBody::Extension(ToolCall { detail, ..call }))
        }),
    ]
}

proptest! {
    /// What is written is read as it was meant.
    #[test]
    fn a_body_comes_back_from_its_payload((kind, body) in body()) {
        prop_assert_eq!(ItemBody::of(&kind, &body.payload()), body);
    }
}
