//! Events: the records of a thread's log.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ItemKind, ItemStatus, Outcome, TerminalStatus, ToolCall};
use crate::{CallId, Error, ItemId, MAX_ID_BYTES, RawJson, Result, RunId, TaskId, ThreadId, Timestamp, text};

/// The once key of a run's terminal event: a run has exactly one.
pub const ONCE_TERMINAL: &str = "run.terminal";

/// The event types this project writes. Applications may append others.
pub mod event_type {
    /// An item began; its content is what is known of it.
    pub const ITEM_STARTED: &str = "item.started";
    /// An item ended; its content is the whole item.
    pub const ITEM_COMPLETED: &str = "item.completed";
    /// A run started.
    pub const RUN_STARTED: &str = "run.started";
    /// A run ended well.
    pub const RUN_COMPLETED: &str = "run.completed";
    /// A run failed.
    pub const RUN_FAILED: &str = "run.failed";
    /// A run was stopped.
    pub const RUN_INTERRUPTED: &str = "run.interrupted";
    /// A run was ended by its time limit.
    pub const RUN_TIMED_OUT: &str = "run.timed_out";
    /// A run was ended because its budget was spent.
    pub const RUN_BUDGET_EXHAUSTED: &str = "run.budget_exhausted";
    /// What an agent run came to: `{output, confidence?}`. It counts where the run completes.
    pub const RUN_OUTPUT: &str = "run.output";
    /// A run's deliverables.
    pub const RUN_DELIVERY: &str = "run.delivery";
    /// A model call began.
    pub const LLM_STARTED: &str = "llm.started";
    /// A model call failed.
    pub const LLM_FAILED: &str = "llm.failed";
    /// Files changed.
    pub const WORKSPACE_CHANGES: &str = "workspace_changes";
}

/// What kind of record an event is, 1 to 64 characters: one of [`event_type`], or the application's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Box<str>);

impl EventType {
    /// The longest event type, in characters.
    pub const MAX_CHARS: usize = 64;

    /// Takes an event type; [`Error::InvalidInput`] where it is empty, too long or not printable.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check_label("event_type", text, Self::MAX_CHARS)?;
        Ok(Self(text.into()))
    }

    /// Takes text as a store returned it.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The event type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(field: &'static str, text: &str, max: usize) -> Result<()> {
    let count = text.chars().count();
    if count == 0 || count > max {
        return Err(Error::invalid(field, format!("has {count} characters; 1 to {max} are taken")));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => {
            Err(Error::invalid(field, format!("contains the control character U+{:04X}", u32::from(c))))
        }
        None => Ok(()),
    }
}

/// What an event is about, 1 to 16 characters. Message readers show `message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are the words of the table in ARCHITECTURE.md")]
pub enum Category {
    Message,
    Reasoning,
    Lifecycle,
    Trace,
    Middleware,
    Context,
    Outputs,
    Workspace,
    Subagent,
    Error,
    /// An application's own.
    Custom(Box<str>),
}

impl Category {
    /// The longest category, in characters.
    pub const MAX_CHARS: usize = 16;

    /// Takes a category; [`Error::InvalidInput`] where it is empty, too long or not printable.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check_label("category", text, Self::MAX_CHARS)?;
        Ok(Self::from_stored(text))
    }

    /// Takes text as a store returned it.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        match text {
            "message" => Self::Message,
            "reasoning" => Self::Reasoning,
            "lifecycle" => Self::Lifecycle,
            "trace" => Self::Trace,
            "middleware" => Self::Middleware,
            "context" => Self::Context,
            "outputs" => Self::Outputs,
            "workspace" => Self::Workspace,
            "subagent" => Self::Subagent,
            "error" => Self::Error,
            other => Self::Custom(other.into()),
        }
    }

    /// The category as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Message => "message",
            Self::Reasoning => "reasoning",
            Self::Lifecycle => "lifecycle",
            Self::Trace => "trace",
            Self::Middleware => "middleware",
            Self::Context => "context",
            Self::Outputs => "outputs",
            Self::Workspace => "workspace",
            Self::Subagent => "subagent",
            Self::Error => "error",
            Self::Custom(text) => text,
        }
    }
}

/// Who caused an event: `lead_agent`, `subagent:{name}`, `middleware:{name}`, or the application's own word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(Box<str>);

impl Caller {
    /// The longest caller, in characters.
    pub const MAX_CHARS: usize = 128;

    /// Takes a caller; [`Error::InvalidInput`] where it is empty, too long or not printable.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check_label("caller", text, Self::MAX_CHARS)?;
        Ok(Self(text.into()))
    }

    /// The agent a run is about.
    #[must_use]
    pub fn lead_agent() -> Self {
        Self("lead_agent".into())
    }

    /// Takes text as a store returned it.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The caller as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of a run's three token buckets the caller's calls count in; words of neither a
    /// sub-agent nor a middleware are the lead agent's.
    #[must_use]
    pub fn kind(&self) -> super::CallerKind {
        if self.0.starts_with("subagent:") {
            super::CallerKind::Subagent
        } else if self.0.starts_with("middleware:") {
            super::CallerKind::Middleware
        } else {
            super::CallerKind::LeadAgent
        }
    }
}

macro_rules! as_text {
    ($($name:ident),+) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok(Self::from_stored(&text))
            }
        }
    )+ };
}

as_text!(EventType, Category, Caller);

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventType({:?})", self.as_str())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?})", self.as_str())
    }
}

/// What makes an event a record of an item. Kept beside the payload, so that the item index
/// is projected without ever parsing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemMark {
    /// The item.
    pub item_id: ItemId,
    /// What it is.
    #[serde(rename = "item_kind")]
    pub kind: ItemKind,
    /// Where it stands after this event: `in_progress` marks its start, any other its completion.
    #[serde(rename = "item_status")]
    pub status: ItemStatus,
    /// The tool call it is about.
    pub call_id: Option<CallId>,
    /// The item it is part of.
    pub parent_item_id: Option<ItemId>,
}

impl ItemMark {
    /// A mark without a call and a parent.
    #[must_use]
    pub fn new(item_id: ItemId, kind: ItemKind, status: ItemStatus) -> Self {
        Self { item_id, kind, status, call_id: None, parent_item_id: None }
    }

    /// Whether the item, with this content, is a call whose end the model is told: it gave the call an id, or the
    /// content of an item that is a call by its kind has the shape of one that a model asked for without.
    #[must_use]
    pub fn is_call(&self, content: &RawJson) -> bool {
        self.call_id.is_some() || (self.kind.is_call() && content.decode::<ToolCall>().is_ok())
    }
}

/// An event before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventDraft {
    /// What kind of record it is.
    pub event_type: EventType,
    /// What it is about.
    pub category: Category,
    /// Who caused it.
    pub caller: Option<Caller>,
    /// The delegated task it belongs to.
    pub task_id: Option<TaskId>,
    /// The item it records.
    pub item: Option<ItemMark>,
    /// At most one event of a run has this key, 1 to 128 characters.
    pub once_key: Option<String>,
    /// The payload.
    pub content: RawJson,
    /// The payload's size in bytes before whoever hands it in left a part out of it; `None` where it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_bytes: Option<u64>,
    /// Further facts, a JSON object.
    pub metadata: Option<RawJson>,
    /// When it happened.
    pub created_at: Timestamp,
}

impl EventDraft {
    /// An event that happened now, without a caller, task, item or once key.
    #[must_use]
    pub fn new(event_type: EventType, category: Category, content: RawJson) -> Self {
        Self {
            event_type,
            category,
            caller: None,
            task_id: None,
            item: None,
            once_key: None,
            content,
            whole_bytes: None,
            metadata: None,
            created_at: Timestamp::now(),
        }
    }

    /// The record of an item: `item.started` or `item.completed` by the mark's status.
    #[must_use]
    pub fn item(mark: ItemMark, category: Category, content: RawJson) -> Self {
        let event_type = if mark.status == ItemStatus::InProgress {
            event_type::ITEM_STARTED
        } else {
            event_type::ITEM_COMPLETED
        };
        Self { item: Some(mark), ..Self::new(EventType::from_stored(event_type), category, content) }
    }
}

impl EventDraft {
    /// The once key of the result of a call: the model is told of each call's end once, whoever tells it.
    ///
    /// A result is the completion of a call's item ([`ItemMark::is_call`]), of category `message`. Without a once key
    /// of its own it gets this one when it is stored.
    #[must_use]
    pub fn result_key(item: &ItemId) -> String {
        const RESULT: &str = "result:";
        if item.as_str().len() + RESULT.len() <= MAX_ID_BYTES {
            format!("{RESULT}{item}")
        } else {
            format!("{RESULT}#{}", text::fingerprint(item.as_str()))
        }
    }

    /// Gives the result of a call its once key.
    pub(crate) fn mark_result(&mut self) {
        if let (None, Category::Message, Some(mark)) = (&self.once_key, &self.category, &self.item)
            && mark.status != ItemStatus::InProgress
            && mark.is_call(&self.content)
        {
            self.once_key = Some(Self::result_key(&mark.item_id));
        }
    }

    /// The one event that ends a run: its content is the status and, where there are such, the
    /// `stop_reason` and the `error`. `cause` is the class and the message of the error that ended
    /// it, and is told where that is how the run ended.
    #[must_use]
    pub fn terminal(outcome: &Outcome, cause: Option<(&str, &str)>, at: Timestamp) -> Self {
        #[derive(Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        struct Cause<'a> {
            message: &'a str,
            #[serde(rename = "type")]
            class: &'a str,
        }
        #[derive(Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        struct Content<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            cause: Option<Cause<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a str>,
            status: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            stop_reason: Option<&'a str>,
        }
        let status = outcome.status.status();
        let failed = outcome.status == TerminalStatus::Error;
        let content = Content {
            cause: cause.filter(|_| failed).map(|(class, message)| Cause { message, class }),
            error: outcome.error.as_deref(),
            status: status.as_str(),
            stop_reason: outcome.stop_reason.as_deref(),
        };
        // Text of ours and of the caller always has a JSON form.
        let content = serde_json::to_string(&content).unwrap_or_else(|_| "null".to_owned());
        Self {
            once_key: Some(ONCE_TERMINAL.to_owned()),
            created_at: at,
            ..Self::new(
                EventType::from_stored(outcome.status.event_type()),
                Category::Lifecycle,
                RawJson::from_stored(&content),
            )
        }
    }
}

/// One record of a thread's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The thread whose log it is in.
    pub thread_id: ThreadId,
    /// Its number: from 1, gap-free, in commit order, never used twice.
    pub seq: u64,
    /// The run it belongs to; `None` for records of the thread itself.
    pub run_id: Option<RunId>,
    /// Its number in the run's journal.
    pub journal_ordinal: Option<u64>,
    /// What kind of record it is.
    pub event_type: EventType,
    /// What it is about.
    pub category: Category,
    /// Who caused it.
    pub caller: Option<Caller>,
    /// The delegated task it belongs to.
    pub task_id: Option<TaskId>,
    /// The item it records.
    pub item: Option<ItemMark>,
    /// At most one event of the run has this key.
    pub once_key: Option<String>,
    /// The payload.
    pub content: RawJson,
    /// The payload's size in bytes before anything was left out.
    pub content_bytes: u64,
    /// Whether part of the payload was left out.
    pub truncated: bool,
    /// Further facts, a JSON object.
    pub metadata: Option<RawJson>,
    /// When it happened.
    pub created_at: Timestamp,
}

impl Event {
    /// How many bytes its payloads have as they are stored: content and metadata.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.content.as_str().len() + self.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len())
    }

    /// Whether it is an agent's message that a person sees: completed, and not a middleware's.
    #[must_use]
    pub fn is_visible_ai(&self) -> bool {
        self.category == Category::Message
            && self.item.as_ref().is_some_and(|item| {
                item.kind == ItemKind::AgentMessage && item.status == ItemStatus::Completed
            })
            && self.caller.as_ref().is_none_or(|caller| caller.kind() != super::CallerKind::Middleware)
    }
}

/// What the views of a log know of an event: what stands beside its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Its number.
    pub seq: u64,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// What it is about.
    pub category: Category,
    /// Who caused it.
    pub caller: Option<Caller>,
    /// The item it records.
    pub item: Option<ItemMark>,
    /// When it happened.
    pub created_at: Timestamp,
}

impl From<Event> for Envelope {
    fn from(event: Event) -> Self {
        Self {
            seq: event.seq,
            run_id: event.run_id,
            category: event.category,
            caller: event.caller,
            item: event.item,
            created_at: event.created_at,
        }
    }
}
