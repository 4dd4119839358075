//! Messages as rows of a conversation.

use runledger_core::view::legacy::deerflow::{DeerFlow, Record};
use runledger_core::{Event, Feedback, FeedbackId, Rating, RawJson, RunId, ThreadId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::redact::{redacted, redacted_event};

/// What the caller thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WireMessageFeedback {
    /// Its id.
    pub feedback_id: FeedbackId,
    /// Whether they liked it.
    pub rating: Rating,
    /// What they wrote.
    pub comment: Option<String>,
}

impl From<&Feedback> for WireMessageFeedback {
    fn from(feedback: &Feedback) -> Self {
        Self {
            feedback_id: feedback.feedback_id.clone(),
            rating: feedback.rating,
            comment: feedback.comment.clone(),
        }
    }
}

/// A message as DeerFlow's event store gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WireMessage {
    /// The thread.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: Option<RunId>,
    /// `llm.human.input`, `llm.ai.response` or `llm.tool.result`.
    pub event_type: String,
    /// `message`.
    pub category: String,
    /// The message as LangChain dumps it.
    pub content: RawJson,
    /// Who said it, and what its model call took.
    pub metadata: RawJson,
    /// Its number in the thread's log.
    pub seq: u64,
    /// When it was said.
    pub created_at: String,
    /// What the caller thinks of it; of a run as a whole it stands at the last message of the agent.
    #[serde(default)]
    pub feedback: Option<WireMessageFeedback>,
}

/// A message as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireCanonicalMessage {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// What the caller thinks of it; of a run as a whole it stands at the last message of the agent.
    pub feedback: Option<WireMessageFeedback>,
}

/// A message in the shape that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum WireMessageRow {
    /// As DeerFlow has it.
    DeerFlow(Box<WireMessage>),
    /// As the log has it.
    Canonical(Box<WireCanonicalMessage>),
}

impl WireMessageRow {
    /// The row of a message in DeerFlow's shape; `None` where it has none. `reasoning` is the record of what the model
    /// thought before it, where that stands apart.
    #[must_use]
    pub fn deerflow(message: &Event, reasoning: Option<&Event>, redacted_keys: &[String]) -> Option<Self> {
        let mut fold = DeerFlow::default();
        if let Some(reasoning) = reasoning {
            // It is kept for the message, and is no record by itself.
            drop(fold.record(reasoning));
        }
        let record = fold.record(message)?;
        Some(Self::DeerFlow(Box::new(WireMessage {
            thread_id: message.thread_id.clone(),
            run_id: message.run_id.clone(),
            event_type: record.event_type,
            category: record.category.to_owned(),
            content: record.content,
            metadata: redacted(&record.metadata.to_json(), redacted_keys),
            seq: message.seq,
            created_at: Record::created_at(message),
            feedback: None,
        })))
    }

    /// The row of a message as it is.
    #[must_use]
    pub fn canonical(message: Event, redacted_keys: &[String]) -> Self {
        let event = redacted_event(message, redacted_keys);
        Self::Canonical(Box::new(WireCanonicalMessage { event, feedback: None }))
    }

    /// With what the caller thinks of it.
    #[must_use]
    pub fn with_feedback(mut self, given: Option<WireMessageFeedback>) -> Self {
        match &mut self {
            Self::DeerFlow(row) => row.feedback = given,
            Self::Canonical(row) => row.feedback = given,
        }
        self
    }
}

/// A page of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireMessagePage {
    /// The messages, ascending by seq.
    pub data: Vec<WireMessageRow>,
    /// Whether there are further ones in the direction the page was read.
    pub has_more: bool,
    /// The `before_seq` that goes on with earlier messages.
    pub next_before_seq: Option<u64>,
    /// The `after_seq` that goes on with later messages.
    pub next_after_seq: Option<u64>,
}
