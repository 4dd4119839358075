//! What is stored: one module per record.

mod event;
mod item;
mod lease;
mod payload;
mod run;
mod thread;
mod usage;

pub use event::{Caller, Category, Event, EventDraft, EventType, ItemMark, ONCE_TERMINAL, event_type};
pub use item::{ItemEntry, ItemKind, ItemStatus};
pub use lease::{CancelAction, Lease, NewLease};
pub use payload::{
    AgentMessage, ContentText, ItemError, Origin, ReasoningText, SubAgentActivity, ToolCall, ToolRequest,
    UserMessage,
};
pub use run::{
    MultitaskStrategy, OperationKind, Outcome, Run, RunStatus, RunTotals, TerminalStatus, Visibility,
    WhenTaken,
};
pub(crate) use thread::require_object;
pub use thread::{
    HeadState, NewThread, Patch, Thread, ThreadHead, ThreadKind, ThreadLifecycle, ThreadPatch, ThreadStatus,
};
pub use usage::{CallerKind, ModelUsage, TokenCounts, UsageBreakdown, UsageDraft, UsageRecord};
