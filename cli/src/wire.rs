//! Records in the shapes that programs read.
//!
//! A run and a sum of usage have the wire names of DeerFlow's API and the LangGraph platform, so
//! that their consumers read them unchanged; what only this ledger knows stands beside them under
//! its own name.

use std::collections::BTreeMap;

use runledger_core::{
    ModelUsage, Run, RunId, RunStatus, SeqPage, SeqRange, SourceId, ThreadId, Timestamp, TokenCounts,
    UsageBreakdown, UsageRecord,
};
use serde::Serialize;

/// A run as programs read it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WireRun<'a> {
    run_id: &'a str,
    thread_id: &'a str,
    owner_id: Option<&'a str>,
    assistant_id: Option<&'a str>,
    status: &'a str,
    metadata: &'a runledger_core::RawJson,
    kwargs: &'a runledger_core::RawJson,
    multitask_strategy: &'a str,
    operation_kind: &'a str,
    visibility: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    total_input_tokens: u64,
    total_output_tokens: u64,
    total_tokens: u64,
    llm_call_count: u64,
    lead_agent_tokens: u64,
    subagent_tokens: u64,
    middleware_tokens: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    cost_nanos: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_usage_by_model: Option<BTreeMap<&'a str, TokenCounts>>,
    message_count: u64,
    stop_reason: Option<&'a str>,
    error: Option<&'a str>,
    model_name: Option<&'a str>,
    first_human_message: Option<&'a str>,
    last_ai_message: Option<&'a str>,
    follow_up_to_run_id: Option<&'a str>,
    parent_run_id: Option<&'a str>,
    epoch: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

impl<'a> From<&'a Run> for WireRun<'a> {
    fn from(run: &'a Run) -> Self {
        Self {
            run_id: run.run_id.as_str(),
            thread_id: run.thread_id.as_str(),
            owner_id: run.owner_id.as_ref().map(AsRef::as_ref),
            assistant_id: run.assistant_id.as_ref().map(AsRef::as_ref),
            status: wire_status(&run.status),
            metadata: &run.metadata,
            kwargs: &run.kwargs,
            multitask_strategy: run.multitask_strategy.as_str(),
            operation_kind: run.operation_kind.as_str(),
            visibility: run.visibility.as_str(),
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
            stop_reason: run.stop_reason.as_deref(),
            error: run.error.as_deref(),
            model_name: run.model_name.as_deref(),
            first_human_message: run.first_human_message.as_deref(),
            last_ai_message: run.last_ai_message.as_deref(),
            follow_up_to_run_id: run.follow_up_to_run_id.as_ref().map(AsRef::as_ref),
            parent_run_id: run.parent_run_id.as_ref().map(AsRef::as_ref),
            epoch: run.epoch,
            first_seq: run.first_seq,
            last_seq: run.last_seq,
        }
    }
}

impl<'a> WireRun<'a> {
    /// Adds what each model took.
    pub(crate) fn with_models(&mut self, usage: &'a UsageBreakdown) {
        let models = usage.by_model.iter().map(|(model, used)| (model.as_str(), used.tokens));
        self.token_usage_by_model = Some(models.collect());
    }
}

/// Usage of a thread, or of a run with its calls.
#[derive(Debug, Serialize)]
pub(crate) struct WireUsage<'a> {
    thread_id: &'a ThreadId,
    run_id: Option<&'a RunId>,
    total_tokens: u64,
    total_input_tokens: u64,
    total_output_tokens: u64,
    total_runs: u64,
    by_model: BTreeMap<&'a str, WireModel>,
    by_caller: ByCaller,
    llm_call_count: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    cost_nanos: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<&'a [UsageRecord]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<&'a SourceId>,
}

#[derive(Debug, Serialize)]
struct WireModel {
    tokens: u64,
    runs: u64,
    llm_call_count: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    cost_nanos: u64,
}

#[derive(Debug, Serialize)]
struct ByCaller {
    lead_agent: u64,
    subagent: u64,
    middleware: u64,
}

impl<'a> WireUsage<'a> {
    /// The sums, without calls.
    pub(crate) fn new(thread: &'a ThreadId, run: Option<&'a RunId>, usage: &'a UsageBreakdown) -> Self {
        let totals = &usage.totals;
        Self {
            thread_id: thread,
            run_id: run,
            total_tokens: totals.total_tokens,
            total_input_tokens: totals.input_tokens,
            total_output_tokens: totals.output_tokens,
            total_runs: usage.total_runs,
            by_model: usage.by_model.iter().map(|(model, used)| (model.as_str(), used.into())).collect(),
            by_caller: ByCaller {
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
    pub(crate) fn with_calls(&mut self, items: &'a [UsageRecord], has_more: bool) {
        self.items = Some(items);
        self.has_more = Some(has_more);
        self.next_cursor = items.last().filter(|_| has_more).map(|last| &last.source_id);
    }
}

impl From<&ModelUsage> for WireModel {
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

/// The LangGraph platform's name of a status: a queued run is `pending` there.
pub(crate) fn wire_status(status: &RunStatus) -> &str {
    match status {
        RunStatus::Queued => RunStatus::Pending.as_str(),
        other => other.as_str(),
    }
}

/// A page of a newest-first listing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WirePage<T> {
    pub(crate) items: Vec<T>,
    pub(crate) has_more: bool,
    pub(crate) next_cursor: Option<String>,
}

/// A page of a log; of the two cursors the one that goes on in the direction the page was read.
#[derive(Debug, Serialize)]
pub(crate) struct WireSeqPage<'a, T> {
    items: &'a [T],
    has_more: bool,
    next_before_seq: Option<u64>,
    next_after_seq: Option<u64>,
}

impl<'a, T> WireSeqPage<'a, T> {
    pub(crate) fn new(page: &'a SeqPage<T>, range: &SeqRange, seq: impl Fn(&T) -> u64) -> Self {
        let forward = range.after_seq.is_some();
        let first = page.items.first().filter(|_| page.has_more && !forward);
        let last = page.items.last().filter(|_| page.has_more && forward);
        Self {
            items: &page.items,
            has_more: page.has_more,
            next_before_seq: first.map(&seq),
            next_after_seq: last.map(&seq),
        }
    }
}
