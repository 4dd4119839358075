//! Runs.

use std::collections::BTreeMap;

use runledger_core::{
    AssistantId, OwnerId, RawJson, Run, RunId, RunStatus, ThreadId, Timestamp, TokenCounts, UsageBreakdown,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::redact::redacted;

/// A run as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireRun {
    /// Its id, unique within the thread.
    pub run_id: RunId,
    /// The thread it runs on.
    pub thread_id: ThreadId,
    /// The thread's owner when it was admitted.
    pub owner_id: Option<OwnerId>,
    /// The agent definition it runs.
    pub assistant_id: Option<AssistantId>,
    /// Where it stands, as [`wire_status`] names it.
    #[schema(examples(
        "pending",
        "running",
        "success",
        "error",
        "timeout",
        "interrupted",
        "budget_exhausted"
    ))]
    pub status: String,
    /// Notes of the application.
    pub metadata: RawJson,
    /// Arguments of the run.
    pub kwargs: RawJson,
    /// What its admission did when the thread's slot was taken.
    pub multitask_strategy: String,
    /// What it does with the slot.
    pub operation_kind: String,
    /// Whether readers show it.
    #[schema(examples("shown", "superseded", "rolled_back"))]
    pub visibility: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Input tokens, cached ones included.
    pub total_input_tokens: u64,
    /// Output tokens, reasoning included.
    pub total_output_tokens: u64,
    /// Input and output.
    pub total_tokens: u64,
    /// Model calls, failed ones and sub-agents' included.
    pub llm_call_count: u64,
    /// Of the total: the lead agent's.
    pub lead_agent_tokens: u64,
    /// Of the total: sub-agents'.
    pub subagent_tokens: u64,
    /// Of the total: middleware's.
    pub middleware_tokens: u64,
    /// Of the input: read from a cache.
    pub cache_read_tokens: u64,
    /// Of the input: written to a cache.
    pub cache_write_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
    /// What each model took; only where one run is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_usage_by_model: Option<BTreeMap<String, TokenCounts>>,
    /// How many messages it has.
    pub message_count: u64,
    /// Why it stopped, for programs.
    pub stop_reason: Option<String>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// The model it mainly used.
    pub model_name: Option<String>,
    /// What the person said, at most 2,000 characters.
    pub first_human_message: Option<String>,
    /// What the lead agent said last, at most 2,000 characters.
    pub last_ai_message: Option<String>,
    /// The run it answers.
    pub follow_up_to_run_id: Option<RunId>,
    /// The run that started it.
    pub parent_run_id: Option<RunId>,
    /// The epoch it holds the thread's slot under, or held it last; 0 while it is queued.
    pub epoch: u64,
    /// The seq of its first event.
    pub first_seq: Option<u64>,
    /// The seq of its last event so far.
    pub last_seq: Option<u64>,
}

impl From<&Run> for WireRun {
    fn from(run: &Run) -> Self {
        Self {
            run_id: run.run_id.clone(),
            thread_id: run.thread_id.clone(),
            owner_id: run.owner_id.clone(),
            assistant_id: run.assistant_id.clone(),
            status: wire_status(&run.status).to_owned(),
            metadata: run.metadata.clone(),
            kwargs: run.kwargs.clone(),
            multitask_strategy: run.multitask_strategy.to_string(),
            operation_kind: run.operation_kind.to_string(),
            visibility: run.visibility.to_string(),
            created_at: run.created_at,
            updated_at: run.updated_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            total_input_tokens: run.totals.input_tokens,
            total_output_tokens: run.totals.output_tokens,
            total_tokens: run.totals.total_tokens,
            llm_call_count: run.totals.llm_calls,
            lead_agent_tokens: run.totals.lead_agent_tokens,
            subagent_tokens: run.totals.subagent_tokens,
            middleware_tokens: run.totals.middleware_tokens,
            cache_read_tokens: run.totals.cache_read_tokens,
            cache_write_tokens: run.totals.cache_write_tokens,
            reasoning_tokens: run.totals.reasoning_tokens,
            cost_nanos: run.totals.cost_nanos,
            token_usage_by_model: None,
            message_count: run.message_count,
            stop_reason: run.stop_reason.clone(),
            error: run.error.clone(),
            model_name: run.model_name.clone(),
            first_human_message: run.first_human_message.clone(),
            last_ai_message: run.last_ai_message.clone(),
            follow_up_to_run_id: run.follow_up_to_run_id.clone(),
            parent_run_id: run.parent_run_id.clone(),
            epoch: run.epoch,
            first_seq: run.first_seq,
            last_seq: run.last_seq,
        }
    }
}

impl WireRun {
    /// Adds what each model took.
    pub fn with_models(&mut self, usage: &UsageBreakdown) {
        let models = usage.by_model.iter().map(|(model, used)| (model.clone(), used.tokens));
        self.token_usage_by_model = Some(models.collect());
    }

    /// Without the values of these keys in its documents.
    #[must_use]
    pub fn redacted(self, keys: &[String]) -> Self {
        let (metadata, kwargs) = (redacted(&self.metadata, keys), redacted(&self.kwargs, keys));
        Self { metadata, kwargs, ..self }
    }
}

/// The LangGraph platform's name of a status: a queued run is `pending` there.
#[must_use]
pub fn wire_status(status: &RunStatus) -> &str {
    match status {
        RunStatus::Queued => RunStatus::Pending.as_str(),
        other => other.as_str(),
    }
}
