//! Records in the shapes that programs read.
//!
//! A run has the wire names of DeerFlow's API and the LangGraph platform, so that their consumers
//! read it unchanged; what only this ledger knows stands beside them under its own name.

use runledger_core::{Run, RunStatus, SeqPage, SeqRange, Timestamp};
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
