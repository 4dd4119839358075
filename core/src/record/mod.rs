//! What is stored: one module per record.

mod agent_run;
mod compaction;
mod event;
mod interaction;
mod item;
mod lease;
mod payload;
mod run;
mod thread;
mod usage;

pub use agent_run::{
    AgentRun, AgentRunRecord, AgentRunStatus, AgentRunSummary, AgentStep, AgentUsage, FoldedSteps,
    MAX_STEPS_BYTES, NewAgentRun, SUMMARY_GOAL_CHARS, StepKind,
};
pub(crate) use compaction::require_last;
pub use compaction::{Compaction, CompactionNote, NewCompaction, SeqSpan};
pub use event::{Caller, Category, Event, EventDraft, EventType, ItemMark, ONCE_TERMINAL, event_type};
pub use interaction::{Answer, Interaction, InteractionStatus, NewInteraction};
pub use item::{ItemEntry, ItemKind, ItemStatus};
pub use lease::{CancelAction, Lease, NewLease};
pub use payload::{
    AgentMessage, ContentText, ItemError, Origin, ReasoningText, SubAgentActivity, ToolCall, ToolRequest,
    UserMessage,
};
pub use run::{
    Budget, BudgetLimit, Estimate, MultitaskStrategy, OperationKind, Outcome, Run, RunStatus, RunTotals,
    TerminalStatus, Visibility, WhenTaken,
};
pub(crate) use thread::require_object;
pub use thread::{
    DEFAULT_MAX_DEPTH, HeadState, NewThread, Patch, Spawn, Thread, ThreadHead, ThreadKind, ThreadLifecycle,
    ThreadPatch, ThreadStatus,
};
pub use usage::{
    CallerKind, ModelUsage, TokenCounts, TotalsChange, UNKNOWN_MODEL, UsageBreakdown, UsageBy, UsageDraft,
    UsageRecord, UsageSum,
};
