//! Context windows.

use runledger_core::view::context::{ContextMessage, ContextWindow, MessageBody};
use runledger_core::{ItemId, RawJson, RunId, ThreadId};
use serde::Serialize;
use utoipa::ToSchema;

/// The messages a model would be sent next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireWindow {
    /// The thread.
    pub thread_id: ThreadId,
    /// The compaction the window is made of.
    pub compact_seq: Option<u64>,
    /// The thread's last compaction, which may be one of a hidden run: what a fold of this window expects.
    pub last_compact_seq: Option<u64>,
    /// The thread's system prompt, which comes before everything.
    pub system_prompt: Option<String>,
    /// The messages in logical order.
    pub messages: Vec<WireWindowMessage>,
}

/// A message of a context window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireWindowMessage {
    /// The event that it is.
    pub seq: u64,
    /// Its run.
    pub run_id: Option<RunId>,
    /// Its item.
    pub item_id: Option<ItemId>,
    /// Who says it.
    #[schema(examples("user", "agent", "tool", "reasoning", "note", "prompt", "other"))]
    pub kind: String,
    /// Its payload.
    pub content: RawJson,
}

impl From<ContextWindow> for WireWindow {
    fn from(window: ContextWindow) -> Self {
        Self {
            thread_id: window.thread_id,
            compact_seq: window.compact_seq,
            last_compact_seq: window.last_compact_seq,
            system_prompt: window.system_prompt,
            messages: window.messages.into_iter().map(WireWindowMessage::from).collect(),
        }
    }
}

impl From<ContextMessage> for WireWindowMessage {
    fn from(message: ContextMessage) -> Self {
        let ContextMessage { event, body } = message;
        Self {
            seq: event.seq,
            run_id: event.run_id,
            item_id: event.item.map(|item| item.item_id),
            kind: message_kind(&body).to_owned(),
            content: event.content,
        }
    }
}

/// Who says a message.
#[must_use]
pub fn message_kind(body: &MessageBody) -> &'static str {
    match body {
        MessageBody::User(_) => "user",
        MessageBody::Agent(_) => "agent",
        MessageBody::Tool(_) => "tool",
        MessageBody::Reasoning(_) => "reasoning",
        MessageBody::Note(_) => "note",
        MessageBody::Prompt(_) => "prompt",
        MessageBody::Other => "other",
    }
}
