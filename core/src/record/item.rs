//! The item index: one row per visible activity, an index into the log and never a copy of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::view::items::{ItemChange, Standing};
use crate::wire::text_enum;
use crate::{CallId, Caller, Error, ItemId, Result, RunId, ThreadId, Timestamp};

text_enum! {
    /// Where an item stands. One enum for all kinds.
    pub enum ItemStatus {
        /// It began and has not ended.
        InProgress = "in_progress",
        /// It ended well.
        Completed = "completed",
        /// It failed.
        Failed = "failed",
        /// A person or a policy refused it.
        Declined = "declined",
        /// Its run ended before it did.
        Interrupted = "interrupted",
    }
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are the words of the table in ARCHITECTURE.md")]
pub enum ItemKind {
    UserMessage,
    AgentMessage,
    Reasoning,
    Plan,
    CommandExecution,
    FileChange,
    McpToolCall,
    ToolCall,
    WebSearch,
    ImageView,
    ImageGeneration,
    CollabAgentCall,
    SubAgentActivity,
    ContextCompaction,
    ReviewEntered,
    ReviewExited,
    HookPrompt,
    /// Of an extension; stored as `namespace.kind`.
    Extension {
        namespace: Box<str>,
        kind: Box<str>,
    },
    /// Written by a newer version, kept as it is.
    Unknown(Box<str>),
}

impl ItemKind {
    /// Every kind this version knows by a word of its own.
    pub const KNOWN: &'static [Self] = &[
        Self::UserMessage,
        Self::AgentMessage,
        Self::Reasoning,
        Self::Plan,
        Self::CommandExecution,
        Self::FileChange,
        Self::McpToolCall,
        Self::ToolCall,
        Self::WebSearch,
        Self::ImageView,
        Self::ImageGeneration,
        Self::CollabAgentCall,
        Self::SubAgentActivity,
        Self::ContextCompaction,
        Self::ReviewEntered,
        Self::ReviewExited,
        Self::HookPrompt,
    ];

    /// The longest kind, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// An extension's kind; both parts are words of `a-z`, `0-9` and `_`.
    pub fn extension(namespace: &str, kind: &str) -> Result<Self> {
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !word(namespace) || !word(kind) || namespace.len() + kind.len() >= Self::MAX_BYTES {
            return Err(Error::invalid(
                "item_kind",
                format!("{namespace:?}.{kind:?} is not two short words of a-z, 0-9 and _"),
            ));
        }
        Ok(Self::Extension { namespace: namespace.into(), kind: kind.into() })
    }

    /// Reads the text form.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        if let Some(known) = Self::KNOWN.iter().find(|kind| kind.word() == Some(text)) {
            return known.clone();
        }
        match text.split_once('.') {
            Some((namespace, kind)) => Self::Extension { namespace: namespace.into(), kind: kind.into() },
            None => Self::Unknown(text.into()),
        }
    }

    /// Whether an item of this kind is a tool call: somebody executes it, and the model is told its result.
    #[must_use]
    pub fn is_call(&self) -> bool {
        match self {
            Self::CommandExecution
            | Self::FileChange
            | Self::McpToolCall
            | Self::ToolCall
            | Self::WebSearch
            | Self::ImageView
            | Self::ImageGeneration
            | Self::CollabAgentCall
            | Self::Extension { .. } => true,
            Self::UserMessage
            | Self::AgentMessage
            | Self::Reasoning
            | Self::Plan
            | Self::SubAgentActivity
            | Self::ContextCompaction
            | Self::ReviewEntered
            | Self::ReviewExited
            | Self::HookPrompt
            | Self::Unknown(_) => false,
        }
    }

    fn word(&self) -> Option<&str> {
        Some(match self {
            Self::UserMessage => "user_message",
            Self::AgentMessage => "agent_message",
            Self::Reasoning => "reasoning",
            Self::Plan => "plan",
            Self::CommandExecution => "command_execution",
            Self::FileChange => "file_change",
            Self::McpToolCall => "mcp_tool_call",
            Self::ToolCall => "tool_call",
            Self::WebSearch => "web_search",
            Self::ImageView => "image_view",
            Self::ImageGeneration => "image_generation",
            Self::CollabAgentCall => "collab_agent_call",
            Self::SubAgentActivity => "sub_agent_activity",
            Self::ContextCompaction => "context_compaction",
            Self::ReviewEntered => "review_entered",
            Self::ReviewExited => "review_exited",
            Self::HookPrompt => "hook_prompt",
            Self::Extension { .. } => return None,
            Self::Unknown(text) => text,
        })
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension { namespace, kind } => write!(f, "{namespace}.{kind}"),
            other => f.pad(other.word().unwrap_or_default()),
        }
    }
}

impl Serialize for ItemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ItemKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::from_stored(&text))
    }
}

/// One row of the item index. The item's content is in the events it points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemEntry {
    /// The thread.
    pub thread_id: ThreadId,
    /// The run that started the item.
    pub run_id: RunId,
    /// The item, unique within its run.
    pub item_id: ItemId,
    /// What it is.
    pub item_kind: ItemKind,
    /// Where it stands.
    pub status: ItemStatus,
    /// The event that began it; items are ordered by it.
    pub started_seq: u64,
    /// The event that ended it.
    pub completed_seq: Option<u64>,
    /// The event that ended it, or began it while it goes on.
    pub updated_seq: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The item it is part of.
    pub parent_item_id: Option<ItemId>,
    /// The tool call it is about.
    pub call_id: Option<CallId>,
    /// Who caused it.
    pub caller: Option<Caller>,
    /// The epoch that claimed it for execution.
    pub claimed_epoch: Option<u64>,
}

impl ItemEntry {
    /// Claims it for execution under an epoch, and gives the epoch that claimed it before. `Conflict` where it has
    /// ended, or this epoch claimed it already.
    pub fn claim(&mut self, epoch: u64) -> Result<Option<u64>> {
        if self.status != ItemStatus::InProgress {
            return Err(Error::conflict("item status", ItemStatus::InProgress.as_str(), &self.status));
        }
        if self.claimed_epoch.is_some_and(|claimed| claimed >= epoch) {
            return Err(Error::conflict("claim", "none under this epoch", "claimed already"));
        }
        Ok(self.claimed_epoch.replace(epoch))
    }

    /// The new row that a change makes.
    #[must_use]
    pub fn of(thread: &ThreadId, run: &RunId, change: ItemChange) -> Self {
        Self {
            thread_id: thread.clone(),
            run_id: run.clone(),
            item_id: change.item_id,
            item_kind: change.kind,
            status: change.status,
            started_seq: change.started_seq,
            completed_seq: change.completed_seq,
            updated_seq: change.updated_seq,
            started_at: change.started_at,
            completed_at: change.completed_at,
            parent_item_id: change.parent_item_id,
            call_id: change.call_id,
            caller: change.caller,
            claimed_epoch: None,
        }
    }

    /// Merges a later change of the same item, by the rule of [`view::items`](crate::view::items).
    pub fn merge(&mut self, later: &ItemChange) {
        let standing = Standing {
            status: &mut self.status,
            completed_seq: &mut self.completed_seq,
            updated_seq: &mut self.updated_seq,
            completed_at: &mut self.completed_at,
            parent_item_id: &mut self.parent_item_id,
            call_id: &mut self.call_id,
            caller: &mut self.caller,
        };
        standing.merge(later);
    }
}
