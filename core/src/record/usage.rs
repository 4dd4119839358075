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

    /// With a total: where the provider gave none, input and output.
    #[must_use]
    pub fn with_total(self) -> Self {
        let total = if self.total == 0 { self.input.saturating_add(self.output) } else { self.total };
        Self { total, ..self }
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

    /// Each count as both give it, the larger one where they differ.
    fn or_more(&self, other: &Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            total: self.total.max(other.total),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            reasoning: self.reasoning.max(other.reasoning),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(earlier.input),
            output: self.output.saturating_sub(earlier.output),
            total: self.total.saturating_sub(earlier.total),
            cache_read: self.cache_read.saturating_sub(earlier.cache_read),
            cache_write: self.cache_write.saturating_sub(earlier.cache_write),
            reasoning: self.reasoning.saturating_sub(earlier.reasoning),
        }
    }
}

/// A usage record before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageDraft {
    /// The model call. A second record with the same id is ignored, except that it completes one
    /// whose total was 0: see [`UsageRecord::complete`].
    pub source_id: SourceId,
    /// The round of the agent's loop it belongs to, from 0.
    pub round_index: Option<u64>,
    /// Who made the call.
    pub caller: Caller,
    /// Who served it.
    pub provider: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// What it took. A total of 0 is stored as the sum of input and output.
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

    /// The record that is stored of it.
    #[must_use]
    pub fn into_record(
        self,
        thread_id: ThreadId,
        run_id: Option<RunId>,
        owner_id: Option<OwnerId>,
    ) -> UsageRecord {
        UsageRecord {
            thread_id,
            source_id: self.source_id,
            owner_id,
            run_id,
            round_index: self.round_index,
            caller: self.caller,
            provider: self.provider,
            model: self.model,
            tokens: self.tokens,
            cost_nanos: self.cost_nanos,
            price_table: self.price_table,
            estimated: self.estimated,
            latency_ms: self.latency_ms,
            child_thread_id: self.child_thread_id,
            raw: self.raw,
            created_at: self.created_at,
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

impl UsageRecord {
    /// Takes in a later report of the same call, and gives what the totals of this record's run
    /// grow by. Only a record whose total is 0 is completed, once, by a report whose total is not:
    /// anything else is `None` and changes nothing.
    ///
    /// The record stays its run's and its caller's and keeps its time; no count becomes smaller and
    /// nothing known is lost.
    pub fn complete(&mut self, later: &UsageDraft) -> Option<RunTotals> {
        if self.tokens.total > 0 || later.tokens.total == 0 {
            return None;
        }
        let tokens = self.tokens.or_more(&later.tokens);
        let cost_nanos = self.cost_nanos.max(later.cost_nanos);
        let more_cost = cost_nanos.unwrap_or(0) - self.cost_nanos.unwrap_or(0);
        let mut growth = RunTotals::default();
        growth.add_tokens(&self.caller, &tokens.since(&self.tokens), Some(more_cost));
        self.tokens = tokens;
        self.cost_nanos = cost_nanos;
        self.estimated = later.estimated;
        self.round_index = self.round_index.or(later.round_index);
        self.latency_ms = later.latency_ms.or(self.latency_ms);
        let later = later.clone();
        self.provider = later.provider.or(self.provider.take());
        self.model = later.model.or(self.model.take());
        self.price_table = later.price_table.or(self.price_table.take());
        self.child_thread_id = self.child_thread_id.take().or(later.child_thread_id);
        self.raw = later.raw.or(self.raw.take());
        Some(growth)
    }
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

    /// Adds other totals.
    pub fn add(&mut self, more: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.input_tokens, more.input_tokens);
        add(&mut self.output_tokens, more.output_tokens);
        add(&mut self.total_tokens, more.total_tokens);
        add(&mut self.cache_read_tokens, more.cache_read_tokens);
        add(&mut self.cache_write_tokens, more.cache_write_tokens);
        add(&mut self.reasoning_tokens, more.reasoning_tokens);
        add(&mut self.llm_calls, more.llm_calls);
        add(&mut self.lead_agent_tokens, more.lead_agent_tokens);
        add(&mut self.subagent_tokens, more.subagent_tokens);
        add(&mut self.middleware_tokens, more.middleware_tokens);
        add(&mut self.cost_nanos, more.cost_nanos);
    }

    fn add_tokens(&mut self, caller: &Caller, tokens: &TokenCounts, cost_nanos: Option<u64>) {
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
