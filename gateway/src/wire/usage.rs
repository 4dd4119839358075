//! Sums of usage.

use std::collections::BTreeMap;

use runledger_core::{ModelUsage, RunId, SourceId, ThreadId, UsageBreakdown, UsageRecord};
use serde::Serialize;
use utoipa::ToSchema;

/// Usage of a thread, or of a run with its calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireUsage {
    /// The thread.
    pub thread_id: ThreadId,
    /// The run, where it is one run's.
    pub run_id: Option<RunId>,
    /// Input and output.
    pub total_tokens: u64,
    /// Input tokens, cached ones included.
    pub total_input_tokens: u64,
    /// Output tokens, reasoning included.
    pub total_output_tokens: u64,
    /// How many runs are counted.
    pub total_runs: u64,
    /// By the model that answered.
    pub by_model: BTreeMap<String, WireModelUsage>,
    /// By who called.
    pub by_caller: WireCallerUsage,
    /// Model calls, failed ones and sub-agents' included.
    pub llm_call_count: u64,
    /// Of the input: read from a cache.
    pub cache_read_tokens: u64,
    /// Of the input: written to a cache.
    pub cache_write_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
    /// A page of the run's calls, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<UsageRecord>>,
    /// Whether there are further calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_more: Option<bool>,
    /// Where the next page of calls starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<SourceId>,
}

/// What a model took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireModelUsage {
    /// Input and output.
    pub tokens: u64,
    /// Runs that used it.
    pub runs: u64,
    /// Its calls.
    pub llm_call_count: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of the input: read from a cache.
    pub cache_read_tokens: u64,
    /// Of the input: written to a cache.
    pub cache_write_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
}

/// Tokens by who called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireCallerUsage {
    /// The lead agent's.
    pub lead_agent: u64,
    /// Sub-agents'.
    pub subagent: u64,
    /// Middleware's.
    pub middleware: u64,
}

impl WireUsage {
    /// The sums, without calls.
    #[must_use]
    pub fn new(thread: &ThreadId, run: Option<&RunId>, usage: &UsageBreakdown) -> Self {
        let totals = &usage.totals;
        Self {
            thread_id: thread.clone(),
            run_id: run.cloned(),
            total_tokens: totals.total_tokens,
            total_input_tokens: totals.input_tokens,
            total_output_tokens: totals.output_tokens,
            total_runs: usage.total_runs,
            by_model: usage.by_model.iter().map(|(model, used)| (model.clone(), used.into())).collect(),
            by_caller: WireCallerUsage {
                lead_agent: totals.lead_agent_tokens,
                subagent: totals.subagent_tokens,
                middleware: totals.middleware_tokens,
            },
            llm_call_count: totals.llm_calls,
            cache_read_tokens: totals.cache_read_tokens,
            cache_write_tokens: totals.cache_write_tokens,
            reasoning_tokens: totals.reasoning_tokens,
            cost_nanos: totals.cost_nanos,
            items: None,
            has_more: None,
            next_cursor: None,
        }
    }

    /// Adds a page of the run's calls.
    pub fn with_calls(&mut self, items: &[UsageRecord], has_more: bool) {
        self.items = Some(items.to_vec());
        self.has_more = Some(has_more);
        self.next_cursor = items.last().filter(|_| has_more).map(|last| last.source_id.clone());
    }
}

impl From<&ModelUsage> for WireModelUsage {
    fn from(used: &ModelUsage) -> Self {
        Self {
            tokens: used.tokens.total,
            runs: used.runs,
            llm_call_count: used.llm_calls,
            input_tokens: used.tokens.input,
            output_tokens: used.tokens.output,
            cache_read_tokens: used.tokens.cache_read,
            cache_write_tokens: used.tokens.cache_write,
            reasoning_tokens: used.tokens.reasoning,
            cost_nanos: used.cost_nanos,
        }
    }
}
