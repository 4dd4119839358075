//! What a runtime tells while an agent runs.
//!
//! The names are LangChain's, so that a handler there maps onto this trait one to one; payloads
//! are raw JSON, so that a huge or odd one passes through unharmed. Beside them are the item
//! lifecycle, for runtimes that already speak it, and the records an application makes itself.

use runledger_core::{Caller, Category, ItemMark, RawJson, TaskId, ThreadId, Timestamp, TokenCounts};

use crate::pricing::Price;

/// What every callback says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The runtime's id of the chain, model call or tool call. Not the ledger's run.
    pub run_id: &'a str,
    /// The one it is part of; `None` at the root.
    pub parent_run_id: Option<&'a str>,
    /// Tags, inherited ones first; the first that names a caller says who acts.
    pub tags: &'a [String],
    /// What the runtime adds, a JSON object.
    pub metadata: Option<&'a RawJson>,
    /// When it happened.
    pub at: Timestamp,
}

impl<'a> Context<'a> {
    /// A root callback that happens now, without tags and metadata.
    #[must_use]
    pub fn new(run_id: &'a str) -> Self {
        Self { run_id, parent_run_id: None, tags: &[], metadata: None, at: Timestamp::now() }
    }

    /// The same as a part of `parent`.
    #[must_use]
    pub fn below(self, parent: &'a str) -> Self {
        Self { parent_run_id: Some(parent), ..self }
    }
}

/// Why something failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The error's class, as the runtime names it.
    pub error_type: &'a str,
    /// What it says.
    pub message: &'a str,
}

/// A chain started.
#[derive(Clone, Copy, Debug)]
pub struct ChainStart<'a> {
    /// Which.
    pub context: Context<'a>,
    /// Its name.
    pub name: Option<&'a str>,
}

/// A chain ended.
#[derive(Clone, Copy, Debug)]
pub struct ChainEnd<'a> {
    /// Which.
    pub context: Context<'a>,
    /// What it returned: a state with `messages`, a command, or anything else.
    pub outputs: Option<&'a RawJson>,
}

/// A chain, model call or tool failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// Which.
    pub context: Context<'a>,
    /// Why.
    pub error: Failure<'a>,
}

/// A chat model was called.
#[derive(Clone, Copy, Debug)]
pub struct ChatModelStart<'a> {
    /// The call. `ls_model_name` and `ls_provider` of its metadata name the model.
    pub context: Context<'a>,
    /// The messages shown to it: an array of messages, or an array of such arrays.
    pub messages: &'a RawJson,
}

/// A text model was called.
#[derive(Clone, Copy, Debug)]
pub struct LlmStart<'a> {
    /// The call.
    pub context: Context<'a>,
    /// The prompts, an array of strings.
    pub prompts: &'a RawJson,
}

/// A model sent a piece of its answer.
#[derive(Clone, Copy, Debug)]
pub struct LlmNewToken<'a> {
    /// The call.
    pub context: Context<'a>,
    /// Text, or an array of content blocks.
    pub token: &'a RawJson,
    /// The chunk it came with, or its message: `{"id", "additional_kwargs", "tool_call_chunks"}`. Its id is the one that
    /// the whole answer will have; without one it is taken to be LangChain's, made of the call's.
    pub chunk: Option<&'a RawJson>,
}

/// A model answered.
#[derive(Clone, Copy, Debug)]
pub struct LlmEnd<'a> {
    /// The call.
    pub context: Context<'a>,
    /// `{"generations": [[{"text", "message"}]]}`.
    pub response: &'a RawJson,
}

/// A tool was called.
#[derive(Clone, Copy, Debug)]
pub struct ToolStart<'a> {
    /// The tool's run.
    pub context: Context<'a>,
    /// The tool.
    pub name: &'a str,
    /// Its arguments.
    pub inputs: Option<&'a RawJson>,
    /// The call it answers, as the model named it.
    pub tool_call_id: Option<&'a str>,
}

/// A tool returned.
#[derive(Clone, Copy, Debug)]
pub struct ToolEnd<'a> {
    /// The tool's run.
    pub context: Context<'a>,
    /// The tool.
    pub name: Option<&'a str>,
    /// A tool message, a command, or a bare value.
    pub output: &'a RawJson,
}

/// A tool failed. Whether somebody handles that shows later.
#[derive(Clone, Copy, Debug)]
pub struct ToolError<'a> {
    /// The tool's run.
    pub context: Context<'a>,
    /// Why.
    pub error: Failure<'a>,
    /// The call it was to answer.
    pub tool_call_id: Option<&'a str>,
}

/// Something the application says through the runtime.
#[derive(Clone, Copy, Debug)]
pub struct CustomEvent<'a> {
    /// The surrounding chain.
    pub context: Context<'a>,
    /// Its name.
    pub name: &'a str,
    /// What it says.
    pub data: &'a RawJson,
}

/// An item of a runtime that speaks of items itself.
#[derive(Clone, Debug)]
pub struct ItemRecord<'a> {
    /// The item, and where it stands now.
    pub mark: ItemMark,
    /// What the event is about.
    pub category: Category,
    /// Who caused it.
    pub caller: Option<Caller>,
    /// What is known of the item: at its completion the whole of it.
    pub content: &'a RawJson,
    /// When it happened.
    pub at: Timestamp,
}

/// A middleware changed something.
#[derive(Clone, Copy, Debug)]
pub struct MiddlewareRecord<'a> {
    /// What the event is called: `middleware:{tag}`.
    pub tag: &'a str,
    /// The middleware.
    pub name: &'a str,
    /// Where it acted.
    pub hook: &'a str,
    /// What it did.
    pub action: &'a str,
    /// What that changed.
    pub changes: &'a RawJson,
    /// When it happened.
    pub at: Timestamp,
}

/// A model call that was counted elsewhere, a sub-agent's say.
#[derive(Clone, Debug)]
pub struct ExternalUsage<'a> {
    /// The call, in the ids of whoever counted it. Told twice, it is counted once.
    pub source_id: &'a str,
    /// Who made it.
    pub caller: Caller,
    /// The model that answered.
    pub model: Option<&'a str>,
    /// What it took.
    pub tokens: TokenCounts,
    /// What it cost, where whoever counted it knows; else it is priced as the runtime's own calls are.
    pub price: Option<Price>,
    /// The sub-agent's thread, where its own record of the call is.
    pub child_thread_id: Option<ThreadId>,
    /// When it was told.
    pub at: Timestamp,
}

/// What a sub-agent does.
#[derive(Clone, Copy, Debug)]
pub enum SubagentPhase<'a> {
    /// It was given a task.
    Start {
        /// What it is to do.
        description: &'a str,
    },
    /// It took a step.
    Step {
        /// What it did.
        detail: &'a RawJson,
    },
    /// It is done.
    End {
        /// How.
        status: SubagentStatus,
        /// What it says of it.
        detail: Option<&'a RawJson>,
    },
}

/// How a sub-agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants say it")]
pub enum SubagentStatus {
    Completed,
    Failed,
    Cancelled,
}

/// A sub-agent's activity, as the run that delegated to it sees it.
#[derive(Clone, Debug)]
pub struct SubagentRecord<'a> {
    /// The delegated task.
    pub task_id: TaskId,
    /// Which agent has it; the events' caller is `subagent:{name}`.
    pub agent: Option<&'a str>,
    /// What it does.
    pub phase: SubagentPhase<'a>,
    /// When it happened.
    pub at: Timestamp,
}

/// What a runtime calls while an agent runs. Every call is synchronous and cheap: it neither waits
/// nor fails, and may come from any thread. What an implementation does not need does nothing.
#[expect(unused_variables, reason = "the names of parameters that do nothing document the call")]
pub trait RuntimeCallbacks: Send + Sync {
    /// A chain started; the root chain is the run.
    fn on_chain_start(&self, start: ChainStart<'_>) {}
    /// A chain ended.
    fn on_chain_end(&self, end: ChainEnd<'_>) {}
    /// A chain failed. Each enclosing chain says so again.
    fn on_chain_error(&self, failed: Failed<'_>) {}
    /// A chat model was called.
    fn on_chat_model_start(&self, start: ChatModelStart<'_>) {}
    /// A text model was called.
    fn on_llm_start(&self, start: LlmStart<'_>) {}
    /// A model sent a piece of its answer. Those who listen hear it; it is recorded nowhere.
    fn on_llm_new_token(&self, token: LlmNewToken<'_>) {}
    /// A model answered.
    fn on_llm_end(&self, end: LlmEnd<'_>) {}
    /// A model call failed.
    fn on_llm_error(&self, failed: Failed<'_>) {}
    /// A tool was called.
    fn on_tool_start(&self, start: ToolStart<'_>) {}
    /// A tool returned.
    fn on_tool_end(&self, end: ToolEnd<'_>) {}
    /// A tool failed.
    fn on_tool_error(&self, failed: ToolError<'_>) {}
    /// The application said something through the runtime.
    fn on_custom_event(&self, event: CustomEvent<'_>) {}

    /// An item began.
    fn on_item_started(&self, item: ItemRecord<'_>) {}
    /// An item ended.
    fn on_item_completed(&self, item: ItemRecord<'_>) {}

    /// A middleware changed something.
    fn record_middleware(&self, record: MiddlewareRecord<'_>) {}
    /// The memory context that the run works with; told again, it changes nothing.
    fn record_memory_context(&self, content: &RawJson, at: Timestamp) {}
    /// A model call was counted elsewhere.
    fn record_external_usage(&self, usage: ExternalUsage<'_>) {}
    /// A sub-agent started, took a step, or ended.
    fn record_subagent(&self, record: SubagentRecord<'_>) {}
    /// The deliverables so far are complete.
    fn record_delivery(&self, at: Timestamp) {}
    /// Files changed.
    fn record_workspace_changes(&self, changes: &RawJson, at: Timestamp) {}
    /// What the run's summary says the person said, where the application knows better than the
    /// messages shown to the model.
    fn set_first_human_message(&self, text: &str) {}
}
