//! What the content of an item's record is, by kind.
//!
//! The kind, id and status are beside the payload ([`ItemMark`](super::ItemMark)) and not in it.
//! `extra` holds, as given, what a source's message has beyond the named fields, so that
//! the source's own shape can be made again and nothing is stored twice.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Event;
use crate::RawJson;
use crate::wire::text_enum;

text_enum! {
    /// Where a journal has a message from. Kept in the event's metadata, under `origin`, so that
    /// views which count as another system does can tell the messages that system saw.
    pub enum Origin {
        /// It was given when the run was admitted.
        Admission = "admission",
        /// A model call showed it first.
        ModelInput = "model_input",
        /// A model call showed it first, after the application had set the run's summary itself.
        ModelInputPreset = "model_input_preset",
        /// A chat model answered it.
        LlmEnd = "llm_end",
        /// A text model answered it; the text was no message.
        LlmText = "llm_text",
        /// A tool returned it as a message.
        ToolEnd = "tool_end",
        /// A tool returned something else than a message.
        ToolValue = "tool_value",
        /// A tool returned it in an update given as a list of pairs.
        ToolPairs = "tool_pairs",
        /// A tool failed.
        ToolError = "tool_error",
        /// No callback told it: only the state that a later model call or the end of the run shows has it.
        State = "state",
        /// The run ended before the tool did.
        RunEnd = "run_end",
    }
}

impl Origin {
    /// The origin an event's metadata names.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        #[derive(Deserialize)]
        struct Named {
            origin: Origin,
        }
        event.metadata.as_ref()?.decode_lossy::<Named>().ok().map(|named| named.origin)
    }
}

/// What a person said: the content of a `user_message`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserMessage {
    /// Text, or an array of content parts as chat APIs have them.
    pub content: RawJson,
    /// The message's id in the client it was written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What else the source's message has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<RawJson>,
}

/// What an agent said: the content of an `agent_message`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentMessage {
    /// Text, or an array of content parts as chat APIs have them.
    pub content: RawJson,
    /// The tools it asked for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolRequest>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens of the call, as the provider gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<RawJson>,
    /// How long the call took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Which call of the run it was, from 1, in start order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_index: Option<u64>,
    /// Whether it is the run's answer or said on the way: `final_answer`, `commentary`, or the runtime's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// How it is delivered, as the runtime says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// The memories it cites, as the runtime gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_citation: Option<RawJson>,
    /// What it asks the person, as the runtime gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<RawJson>,
    /// What else the source's message has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<RawJson>,
}

/// A tool that a message asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ToolRequest {
    /// The call's id, where the model gave one.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// Its arguments: usually an object, or text where the model wrote no valid JSON.
    pub args: RawJson,
}

/// Reasoning that stands apart from a message: the content of a `reasoning` item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReasoningText {
    /// The reasoning, or where there are summaries, these, with an empty line between them.
    pub text: String,
    /// Its summaries, where the model gives such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summary: Vec<String>,
    /// Its raw parts, where the model gives such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<String>,
    /// What else the source's record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<RawJson>,
}

/// A tool call, at its start without a result and at its completion with one: the content of
/// `tool_call`, `command_execution` and their kin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub args: RawJson,
    /// What it returned: text, or an array of content parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<RawJson>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
    /// How long it ran, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What a call of its kind has beyond that: the JSON of [`CommandExecution`](super::CommandExecution),
    /// [`FileChange`](super::FileChange) or another detail of [`ItemBody`](super::ItemBody).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<RawJson>,
    /// What else the source's message has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<RawJson>,
}

impl ToolCall {
    /// A call that was asked for and has no result yet.
    #[must_use]
    pub fn asked(name: impl Into<String>, args: RawJson) -> Self {
        Self { name: name.into(), args, ..Self::default() }
    }

    /// Reads the payload of a call's record as it is stored: where a large part of the arguments or the result is
    /// kept apart, its [`BlobRef`](super::BlobRef) stays, so that whoever repeats it in a record of the same thread
    /// says the same, and [`Ledger::whole`](crate::Ledger::whole) gives all of it to whoever executes the call.
    pub fn read(content: &RawJson) -> crate::Result<Self> {
        // What has to be text, the tool's name for one, is shown.
        content.decode().or_else(|_| content.shown().decode())
    }
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemError {
    /// The error's class, as the runtime names it.
    #[serde(rename = "type")]
    pub error_type: String,
    /// What it says.
    pub message: String,
}

/// What a sub-agent does, seen from the run that delegated to it: the content of a `sub_agent_activity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubAgentActivity {
    /// What it was asked to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it did, in a word: `started`, `interacted`, `interrupted`, `completed`, or the runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<String>,
    /// Its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_thread_id: Option<String>,
    /// Where it stands among the agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_path: Option<String>,
    /// Its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much it reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// What it did or how it ended, as the runtime reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<RawJson>,
}

/// The plain text of a message's content.
pub trait ContentText {
    /// Text content as it is; of an array the text parts, joined without a separator; else empty. Of large text
    /// that is stored apart, how it begins.
    fn text(&self) -> String;
}

impl ContentText for RawJson {
    fn text(&self) -> String {
        match self.shown().decode_lossy::<Value>() {
            Ok(Value::String(text)) => text,
            Ok(Value::Array(parts)) => parts.iter().filter_map(part_text).collect(),
            Ok(_) | Err(_) => String::new(),
        }
    }
}

fn part_text(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
            None | Some("text" | "input_text" | "output_text") => fields.get("text").and_then(Value::as_str),
            Some(_) => None,
        },
        _ => None,
    }
}
