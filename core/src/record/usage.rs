//! Usage: one record per model call, failed ones too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Estimate, ReservedFor, RunTotals};
use crate::{Caller, OwnerId, RawJson, RunId, SourceId, ThreadId, Timestamp};

/// The key of calls that name no model.
pub const UNKNOWN_MODEL: &str = "unknown";

/// Which of a run's three token buckets a call counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// whose total was 0 or estimated: see [`UsageRecord::complete`].
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
    /// What was reserved for the call: it comes back to the run's budget when the record is stored first, under the
    /// mark of the epoch it was reserved in; what an unmarked commit tells gives nothing back. Of a record with a
    /// `child_thread_id` it is the sub-agent's allowance, which comes back either way.
    pub settles: Estimate,
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
            settles: Estimate::default(),
            created_at: Timestamp::now(),
        }
    }

    /// What the part of the budget was set aside for that it settles.
    #[must_use]
    pub fn settles_for(&self) -> ReservedFor {
        if self.child_thread_id.is_some() { ReservedFor::SubAgent } else { ReservedFor::Call }
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Takes in a later report of the same call, and gives what the totals of this record's run change
    /// by. Only two records are completed: one whose total is 0, by a report whose total is not, and an
    /// estimate, by a report that is none and says what the call took. So a call is completed once by what
    /// is known for certain. Anything else is `None` and changes nothing.
    ///
    /// The record stays its run's and its caller's and keeps its time, and nothing known is lost. An estimate
    /// gives way to what the call took, whether that is more or less.
    pub fn complete(&mut self, later: &UsageDraft) -> Option<TotalsChange> {
        let replaces_estimate = self.estimated && !later.estimated;
        if later.tokens.total == 0 || (self.tokens.total > 0 && !replaces_estimate) {
            return None;
        }
        let tokens = if self.tokens.total > 0 { later.tokens } else { self.tokens.or_more(&later.tokens) };
        let cost_nanos = match (self.tokens.total > 0, later.cost_nanos) {
            (true, Some(known)) => Some(known),
            _ => self.cost_nanos.max(later.cost_nanos),
        };
        let mut change = TotalsChange::default();
        let (cost, before) = (cost_nanos.unwrap_or(0), self.cost_nanos.unwrap_or(0));
        let (more, less) = (cost.saturating_sub(before), before.saturating_sub(cost));
        change.more.add_tokens(&self.caller, &tokens.since(&self.tokens), Some(more));
        change.less.add_tokens(&self.caller, &self.tokens.since(&tokens), Some(less));
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
        Some(change)
    }
}

/// What the totals of a run change by. Both sides are there because an estimate may have been too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalsChange {
    /// What is added.
    pub more: RunTotals,
    /// What is taken off.
    pub less: RunTotals,
}

impl TotalsChange {
    /// A new call's.
    #[must_use]
    pub fn of_call(call: &UsageDraft) -> Self {
        let mut change = Self::default();
        change.more.add_call(&call.caller, &call.tokens, call.cost_nanos);
        change
    }

    /// Adds another change.
    pub fn add(&mut self, other: &Self) {
        self.more.add(&other.more);
        self.less.add(&other.less);
    }

    /// Makes it.
    pub fn apply(&self, totals: &mut RunTotals) {
        totals.add(&self.more);
        totals.take_off(&self.less);
    }
}

/// What one model took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageBreakdown {
    /// Runs with at least one call.
    pub total_runs: u64,
    /// Everything.
    pub totals: RunTotals,
    /// By model; calls without one are under `unknown`.
    pub by_model: BTreeMap<String, ModelUsage>,
}

/// By what model calls are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// All in one sum, whose key is empty.
    Total,
    /// The model that answered; calls without one are under `unknown`, as those of a model of that name.
    Model,
    /// Who made the call.
    Caller,
    /// The owner, for the system: calls of nobody are under the empty key.
    Owner,
    /// The day the call ended, in UTC, as `2026-11-21`.
    Day,
    /// The thread.
    Thread,
    /// The run, as `{thread_id}/{run_id}`; calls of no run are under `{thread_id}/`. A slash in the thread's
    /// id is `%2F` there and a percent sign `%25`, so that no two runs share a key.
    Run,
    /// The round of the agent's loop in its run, as `{run_id}/{round_index}` with at least six digits.
    /// Only of a thread or a run; calls without a round are under `{run_id}/`.
    Round,
}

/// What some model calls took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageSum {
    /// What they have in common.
    pub key: String,
    /// How many calls, failed ones included.
    pub llm_calls: u64,
    /// How many of them have estimated tokens.
    pub estimated_calls: u64,
    /// How many runs made them. A run counts in the sum of each key that it has a call of.
    pub runs: u64,
    /// What they took.
    pub tokens: TokenCounts,
    /// Cost in billionths of a US dollar, of the calls that were priced.
    pub cost_nanos: u64,
    /// How many of the calls have no price.
    pub unpriced_calls: u64,
}

impl UsageBy {
    /// The key of a call's sum.
    #[must_use]
    pub fn key(self, call: &UsageRecord) -> String {
        let run = call.run_id.as_ref().map_or("", |run| run.as_str());
        match self {
            Self::Total => String::new(),
            Self::Model => call.model.as_deref().unwrap_or(UNKNOWN_MODEL).to_owned(),
            Self::Caller => call.caller.as_str().to_owned(),
            Self::Owner => call.owner_id.as_ref().map_or("", |owner| owner.as_str()).to_owned(),
            // Times are in the years 0 to 9999, so that a day has ten characters.
            Self::Day => call.created_at.to_string().chars().take(10).collect(),
            Self::Thread => call.thread_id.to_string(),
            Self::Run => {
                let thread = call.thread_id.as_str().replace('%', "%25").replace('/', "%2F");
                format!("{thread}/{run}")
            }
            Self::Round => match call.round_index {
                Some(round) => format!("{run}/{round:06}"),
                None => format!("{run}/"),
            },
        }
    }
}

impl UsageSum {
    /// Adds a call; `runs` is left to whoever knows which runs were counted.
    pub fn add_call(&mut self, call: &UsageRecord) {
        self.llm_calls += 1;
        self.estimated_calls += u64::from(call.estimated);
        self.tokens.add(&call.tokens);
        self.cost_nanos = self.cost_nanos.saturating_add(call.cost_nanos.unwrap_or(0));
        self.unpriced_calls += u64::from(call.cost_nanos.is_none());
    }
}

impl RunTotals {
    /// Adds one call.
    pub fn add_call(&mut self, caller: &Caller, tokens: &TokenCounts, cost_nanos: Option<u64>) {
        self.llm_calls = self.llm_calls.saturating_add(1);
        self.add_tokens(caller, tokens, cost_nanos);
    }

    /// Adds other totals.
    pub fn add(&mut self, more: &Self) {
        self.change(more, u64::saturating_add);
    }

    fn take_off(&mut self, less: &Self) {
        self.change(less, u64::saturating_sub);
    }

    fn change(&mut self, by: &Self, with: fn(u64, u64) -> u64) {
        let change = |sum: &mut u64, by: u64| *sum = with(*sum, by);
        change(&mut self.input_tokens, by.input_tokens);
        change(&mut self.output_tokens, by.output_tokens);
        change(&mut self.total_tokens, by.total_tokens);
        change(&mut self.cache_read_tokens, by.cache_read_tokens);
        change(&mut self.cache_write_tokens, by.cache_write_tokens);
        change(&mut self.reasoning_tokens, by.reasoning_tokens);
        change(&mut self.llm_calls, by.llm_calls);
        change(&mut self.lead_agent_tokens, by.lead_agent_tokens);
        change(&mut self.subagent_tokens, by.subagent_tokens);
        change(&mut self.middleware_tokens, by.middleware_tokens);
        change(&mut self.cost_nanos, by.cost_nanos);
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
