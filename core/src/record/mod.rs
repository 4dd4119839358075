//! What is stored: one module per record.

mod agent_run;
mod api_token;
mod blob;
mod compaction;
mod event;
mod feedback;
mod import;
mod interaction;
mod item;
mod item_body;
mod lease;
mod payload;
mod run;
mod thread;
mod usage;

pub use agent_run::{
    AgentRun, AgentRunRecord, AgentRunStatus, AgentRunSummary, AgentStep, AgentUsage, FoldedSteps,
    MAX_STEPS_BYTES, NewAgentRun, SUMMARY_GOAL_CHARS, StepKind,
};
pub use api_token::ApiToken;
pub(crate) use blob::inlined;
pub use blob::{
    BLOB_BYTES, Blob, BlobEntry, BlobForm, BlobHash, BlobRef, BlobUse, MAX_EVENT_BLOBS, NewBlob, blob_refs,
    inline, offload,
};
pub(crate) use compaction::require_last;
pub use compaction::{Compaction, CompactionNote, NewCompaction, SeqSpan};
pub use event::{
    Caller, Category, Envelope, Event, EventDraft, EventType, ItemMark, ONCE_TERMINAL, event_type,
};
pub use feedback::{Feedback, FeedbackPatch, FeedbackStats, NewFeedback, Rating};
pub use import::{ImportCursor, Quarantined};
pub use interaction::{Answer, Interaction, InteractionStatus, NewInteraction};
pub use item::{ItemEntry, ItemKind, ItemStatus};
pub use item_body::{
    CollabAgentCall, CommandExecution, DynamicToolCall, FileChange, FileEdit, HookFragment, HookPrompt,
    ImageGeneration, ImageView, Item, ItemBody, McpToolCall, Plan, ReviewEntered, ReviewExited, WebSearch,
};
pub use lease::{CancelAction, Lease, NewLease};
pub use payload::{
    AgentMessage, ContentText, ItemError, Origin, ReasoningText, SubAgentActivity, ToolCall, ToolRequest,
    UserMessage,
};
pub use run::{
    Budget, BudgetLimit, Estimate, MultitaskStrategy, OperationKind, Outcome, ReservedFor, Run, RunStatus,
    RunTotals, TerminalStatus, Visibility, WhenTaken,
};
pub(crate) use thread::require_object;
pub use thread::{
    DEFAULT_MAX_DEPTH, ForkOrigin, HeadState, NewThread, Patch, Spawn, Thread, ThreadHead, ThreadKind,
    ThreadLifecycle, ThreadPatch, ThreadStatus,
};
pub use usage::{
    CallerKind, ModelUsage, TokenCounts, TotalsChange, UNKNOWN_MODEL, UsageBreakdown, UsageBy, UsageDraft,
    UsageRecord, UsageSum,
};
