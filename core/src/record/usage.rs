//! Usage: one record per model call, failed ones too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RunTotals;
use crate::{Caller, OwnerId, RawJson, RunId, SourceId, ThreadId, Timestamp};

/// Which of a run's three token buckets a call counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants say it")]
pub enum CallerKind {
    LeadAgent,
    Subagent,
    Middleware,
}

/// Tokens of one model call, inclusive as in OpenTelemetry: the cached ones are part of the
/// input, reasoning is part of the output, and nothing is added twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenCounts {
    /// Input tokens, cached ones included.
    #[serde(rename = "input_tokens")]
    pub input: u64,
    /// Output tokens, reasoning included.
    #[serde(rename = "output_tokens")]
    pub output: u64,
    /// As the provider counted it; where it gave none, input and output.
    #[serde(rename = "total_tokens")]
    pub total: u64,
    /// Of the input: read from a cache.
    #[serde(rename = "cache_read_tokens")]
    pub cache_read: u64,
    /// Of the input: written to a cache.
    #[serde(rename = "cache_write_tokens")]
    pub cache_write: u64,
    /// Of the output: reasoning.
    #[serde(rename = "reasoning_tokens")]
    pub reasoning: u64,
}

impl TokenCounts {
    /// Input and output, their sum as the total.
    #[must_use]
    pub fn of(input: u64, output: u64) -> Self {
        Self { input, output, total: input.saturating_add(output), ..Self::default() }
    }

    /// Adds another call's tokens.
    pub fn add(&mut self, other: &Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.total = self.total.saturating_add(other.total);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// A usage record before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageDraft {
    /// The model call. A second record with the same id is ignored, except that it completes
    /// one whose total was 0.
    pub source_id: SourceId,
    /// The round of the agent's loop it belongs to, from 0.
    pub round_index: Option<u64>,
    /// Who made the call.
    pub caller: Caller,
    /// Who served it.
    pub provider: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// What it took.
    pub tokens: TokenCounts,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: Option<u64>,
    /// The price table the cost was computed with.
    pub price_table: Option<String>,
    /// Whether the tokens are an estimate.
    pub estimated: bool,
    /// How long the call took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// The sub-agent's thread whose own record this repeats; left out of sums over a tree.
    pub child_thread_id: Option<ThreadId>,
    /// The usage as the provider gave it.
    pub raw: Option<RawJson>,
    /// When the call ended.
    pub created_at: Timestamp,
}

impl UsageDraft {
    /// A call of the lead agent that ended now.
    #[must_use]
    pub fn new(source_id: SourceId, tokens: TokenCounts) -> Self {
        Self {
            source_id,
            round_index: None,
            caller: Caller::lead_agent(),
            provider: None,
            model: None,
            tokens,
            cost_nanos: None,
            price_table: None,
            estimated: false,
            latency_ms: None,
            child_thread_id: None,
            raw: None,
            created_at: Timestamp::now(),
        }
    }
}

/// One model call and what it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The thread.
    pub thread_id: ThreadId,
    /// The model call, unique within the thread.
    pub source_id: SourceId,
    /// The thread's owner when it was stored.
    pub owner_id: Option<OwnerId>,
    /// The run it counts in.
    pub run_id: Option<RunId>,
    /// The round of the agent's loop.
    pub round_index: Option<u64>,
    /// Who made the call.
    pub caller: Caller,
    /// Who served it.
    pub provider: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// What it took.
    pub tokens: TokenCounts,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: Option<u64>,
    /// The price table the cost was computed with.
    pub price_table: Option<String>,
    /// Whether the tokens are an estimate.
    pub estimated: bool,
    /// How long the call took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// The sub-agent's thread whose own record this repeats.
    pub child_thread_id: Option<ThreadId>,
    /// The usage as the provider gave it.
    pub raw: Option<RawJson>,
    /// When the call ended.
    pub created_at: Timestamp,
}

/// What one model took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsage {
    /// Its calls.
    pub llm_calls: u64,
    /// Runs that called it; a run that called two models counts for both.
    pub runs: u64,
    /// What it took.
    pub tokens: TokenCounts,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
}

/// Usage of a run or a thread, summed in the three ways people ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBreakdown {
    /// Runs with at least one call.
    pub total_runs: u64,
    /// Everything.
    pub totals: RunTotals,
    /// By model; calls without one are under `unknown`.
    pub by_model: BTreeMap<String, ModelUsage>,
}

impl RunTotals {
    /// Adds one call.
    pub fn add_call(&mut self, caller: &Caller, tokens: &TokenCounts, cost_nanos: Option<u64>) {
        self.llm_calls = self.llm_calls.saturating_add(1);
        self.add_tokens(caller, tokens, cost_nanos);
    }

    /// Adds tokens and cost of a call that was counted already.
    pub fn add_tokens(&mut self, caller: &Caller, tokens: &TokenCounts, cost_nanos: Option<u64>) {
        let bucket = match caller.kind() {
            CallerKind::LeadAgent => &mut self.lead_agent_tokens,
            CallerKind::Subagent => &mut self.subagent_tokens,
            CallerKind::Middleware => &mut self.middleware_tokens,
        };
        *bucket = bucket.saturating_add(tokens.total);
        self.input_tokens = self.input_tokens.saturating_add(tokens.input);
        self.output_tokens = self.output_tokens.saturating_add(tokens.output);
        self.total_tokens = self.total_tokens.saturating_add(tokens.total);
        self.cache_read_tokens = self.cache_read_tokens.saturating_add(tokens.cache_read);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(tokens.cache_write);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(tokens.reasoning);
        self.cost_nanos = self.cost_nanos.saturating_add(cost_nanos.unwrap_or(0));
    }
}
