//! A run as DeerFlow's journal sums it up when the run ends.
//!
//! DeerFlow counts differently than the ledger does, and its consumers rely on it: only model
//! calls with usage are calls, calls it was told of are none, a tool result counts only where its
//! handler saw one, and a prompt without text counts again at every model call. The origin that
//! the journal keeps with each message is enough to count that way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AgentMessage, CallerKind, Category, ContentText, Event, ItemKind, Origin, Run, ToolCall, UsageRecord,
    UserMessage, event_type, text,
};

/// What one model took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ModelTokens {
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// As the provider counted them.
    pub total_tokens: u64,
    /// Read from a cache; absent in JSON where it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_read_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The answer of `RunJournal.get_completion_data()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Completion {
    /// Input tokens of all calls.
    pub total_input_tokens: u64,
    /// Output tokens of all calls.
    pub total_output_tokens: u64,
    /// All tokens.
    pub total_tokens: u64,
    /// Calls that the run saw itself and that reported usage.
    pub llm_call_count: u64,
    /// Tokens of the lead agent and of callers of no known kind.
    pub lead_agent_tokens: u64,
    /// Tokens of sub-agents.
    pub subagent_tokens: u64,
    /// Tokens of middleware.
    pub middleware_tokens: u64,
    /// By model; `unknown` where a call names none.
    pub token_usage_by_model: BTreeMap<String, ModelTokens>,
    /// Messages, as DeerFlow counts them.
    pub message_count: u64,
    /// What the lead agent said last, at most 2,000 characters.
    pub last_ai_message: Option<String>,
    /// What the person said, at most 2,000 characters.
    pub first_human_message: Option<String>,
}

/// Sums a run up from its row, its events and its usage records, all of them.
#[must_use]
pub fn completion(run: &Run, events: &[Event], usage: &[UsageRecord]) -> Completion {
    let mut sums = Completion {
        message_count: message_count(events),
        last_ai_message: run.last_ai_message.clone(),
        first_human_message: run.first_human_message.clone(),
        ..Completion::default()
    };
    for record in usage.iter().filter(|record| record.tokens.total > 0 && !record.estimated) {
        add_call(&mut sums, record);
    }
    sums
}

fn add_call(sums: &mut Completion, record: &UsageRecord) {
    let tokens = &record.tokens;
    sums.total_input_tokens = sums.total_input_tokens.saturating_add(tokens.input);
    sums.total_output_tokens = sums.total_output_tokens.saturating_add(tokens.output);
    sums.total_tokens = sums.total_tokens.saturating_add(tokens.total);
    if !record.source_id.is_external() {
        sums.llm_call_count += 1;
    }
    let bucket = match record.caller.kind() {
        CallerKind::LeadAgent => &mut sums.lead_agent_tokens,
        CallerKind::Subagent => &mut sums.subagent_tokens,
        CallerKind::Middleware => &mut sums.middleware_tokens,
    };
    *bucket = bucket.saturating_add(tokens.total);
    let model = record.model.clone().unwrap_or_else(|| "unknown".to_owned());
    let model = sums.token_usage_by_model.entry(model).or_default();
    model.input_tokens = model.input_tokens.saturating_add(tokens.input);
    model.output_tokens = model.output_tokens.saturating_add(tokens.output);
    model.total_tokens = model.total_tokens.saturating_add(tokens.total);
    model.cache_read_tokens = model.cache_read_tokens.saturating_add(tokens.cache_read);
}

fn message_count(events: &[Event]) -> u64 {
    let prompts = events.iter().filter(|event| is_lead_chat_start(event)).count() as u64;
    events
        .iter()
        .filter(|event| event.category == Category::Message)
        .map(|event| counts(event, prompts))
        .sum()
}

/// How often DeerFlow counts this message; `prompts` is how many chat calls the lead agent made.
fn counts(event: &Event, prompts: u64) -> u64 {
    match Origin::of(event) {
        Some(Origin::ModelInput) if has_no_text(event) => prompts.max(1),
        Some(Origin::State) => u64::from(tool_name(event).as_deref() == Some("ask_clarification")),
        Some(
            Origin::ModelInputPreset
            | Origin::LlmText
            | Origin::ToolValue
            | Origin::ToolPairs
            | Origin::ToolError
            | Origin::RunEnd,
        ) => 0,
        Some(
            Origin::ModelInput | Origin::Admission | Origin::LlmEnd | Origin::ToolEnd | Origin::Unknown(_),
        )
        | None => 1,
    }
}

fn has_no_text(event: &Event) -> bool {
    event
        .content
        .decode_lossy::<UserMessage>()
        .is_ok_and(|message| text::summary(&message.content.text()).is_none())
}

fn tool_name(event: &Event) -> Option<String> {
    event.content.decode_lossy::<ToolCall>().ok().map(|call| call.name)
}

fn is_lead_chat_start(event: &Event) -> bool {
    #[derive(Deserialize)]
    struct Started {
        kind: String,
    }
    event.event_type.as_str() == event_type::LLM_STARTED
        && event.caller.as_ref().is_none_or(|caller| caller.as_str() == "lead_agent")
        && event.content.decode_lossy::<Started>().is_ok_and(|started| started.kind == "chat")
}

/// What a model call of the run said instead of an answer, where the application marked its message
/// as such (`additional_kwargs.deerflow_error_fallback`): DeerFlow ends such a run as failed.
/// `Some("")` where it is marked and says nothing.
#[must_use]
pub fn llm_error_fallback(events: &[Event]) -> Option<String> {
    events
        .iter()
        .rev()
        .filter(|event| {
            event.item.as_ref().is_some_and(|item| item.kind == ItemKind::AgentMessage)
                && Origin::of(event) == Some(Origin::LlmEnd)
        })
        .find_map(|event| fallback_of(&event.content.decode_lossy().ok()?))
}

fn fallback_of(message: &AgentMessage) -> Option<String> {
    let extra = message.extra.as_ref()?.decode_lossy::<Value>().ok()?;
    let marks = extra.get("additional_kwargs")?;
    let marked = match marks.get("deerflow_error_fallback")? {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    };
    let said = |key: &str| marks.get(key).and_then(Value::as_str).and_then(text::summary);
    marked.then(|| {
        said("error_detail")
            .or_else(|| said("error_reason"))
            .or_else(|| text::summary(&message.content.text()))
            .unwrap_or_default()
    })
}
