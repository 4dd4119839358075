//! `runs`: one row per execution, its totals kept up with each commit.

use runledger_core::{
    Budget, Error, Estimate, MultitaskStrategy, OperationKind, Result, Run, RunStatus, RunTotals, Visibility,
};
use sea_orm::entity::prelude::*;

use super::cell::{self, Table, by_position};

const TABLE: Table = Table("run");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: String,
    pub owner_id: Option<String>,
    pub assistant_id: Option<String>,
    pub status: String,
    pub visibility: String,
    pub operation_kind: String,
    pub multitask_strategy: String,
    pub queue_no: Option<i64>,
    pub idempotency_key: Option<String>,
    pub request_hash: Option<String>,
    pub model_name: Option<String>,
    // As text: a JSON value of a driver would round numbers.
    #[sea_orm(column_type = "JsonBinary", select_as = "text")]
    pub metadata: String,
    #[sea_orm(column_type = "JsonBinary", select_as = "text")]
    pub kwargs: String,
    pub error: Option<String>,
    pub stop_reason: Option<String>,
    pub follow_up_to_run_id: Option<String>,
    pub parent_run_id: Option<String>,
    pub agent_run_id: Option<String>,
    pub payer_run_id: Option<String>,
    pub epoch: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub total_tokens: i64,
    pub cache_read_tokens: i64,
    pub cache_write_tokens: i64,
    pub reasoning_tokens: i64,
    pub llm_calls: i64,
    pub lead_agent_tokens: i64,
    pub subagent_tokens: i64,
    pub middleware_tokens: i64,
    pub cost_nanos: i64,
    pub max_tokens: Option<i64>,
    pub max_cost_nanos: Option<i64>,
    pub max_iterations: Option<i64>,
    pub iterations: i64,
    pub reserved_tokens: i64,
    pub reserved_cost_nanos: i64,
    pub allowance_tokens: i64,
    pub allowance_cost_nanos: i64,
    pub first_seq: Option<i64>,
    pub last_seq: Option<i64>,
    pub message_count: i64,
    pub first_human_message: Option<String>,
    pub last_ai_message: Option<String>,
    pub created_at: DateTimeUtc,
    pub started_at: Option<DateTimeUtc>,
    pub finished_at: Option<DateTimeUtc>,
    pub updated_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

by_position! {
    thread_id, run_id, owner_id, assistant_id, status, visibility, operation_kind, multitask_strategy,
    queue_no, idempotency_key, request_hash, model_name, metadata, kwargs, error, stop_reason,
    follow_up_to_run_id, parent_run_id, agent_run_id, payer_run_id, epoch, input_tokens, output_tokens,
    total_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, llm_calls, lead_agent_tokens,
    subagent_tokens, middleware_tokens, cost_nanos, max_tokens, max_cost_nanos, max_iterations, iterations,
    reserved_tokens, reserved_cost_nanos, allowance_tokens, allowance_cost_nanos, first_seq, last_seq,
    message_count, first_human_message, last_ai_message, created_at, started_at, finished_at, updated_at,
}

impl Model {
    fn totals(&self) -> Result<RunTotals> {
        Ok(RunTotals {
            input_tokens: TABLE.count("input_tokens", self.input_tokens)?,
            output_tokens: TABLE.count("output_tokens", self.output_tokens)?,
            total_tokens: TABLE.count("total_tokens", self.total_tokens)?,
            cache_read_tokens: TABLE.count("cache_read_tokens", self.cache_read_tokens)?,
            cache_write_tokens: TABLE.count("cache_write_tokens", self.cache_write_tokens)?,
            reasoning_tokens: TABLE.count("reasoning_tokens", self.reasoning_tokens)?,
            llm_calls: TABLE.count("llm_calls", self.llm_calls)?,
            lead_agent_tokens: TABLE.count("lead_agent_tokens", self.lead_agent_tokens)?,
            subagent_tokens: TABLE.count("subagent_tokens", self.subagent_tokens)?,
            middleware_tokens: TABLE.count("middleware_tokens", self.middleware_tokens)?,
            cost_nanos: TABLE.count("cost_nanos", self.cost_nanos)?,
        })
    }
}

impl TryFrom<Model> for Run {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            totals: row.totals()?,
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            run_id: TABLE.id("run_id", row.run_id)?,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            assistant_id: TABLE.optional_id("assistant_id", row.assistant_id)?,
            status: RunStatus::from_stored(&row.status),
            visibility: Visibility::from_stored(&row.visibility),
            operation_kind: OperationKind::from_stored(&row.operation_kind),
            multitask_strategy: MultitaskStrategy::from_stored(&row.multitask_strategy),
            queue_no: TABLE.optional_count("queue_no", row.queue_no)?,
            idempotency_key: row.idempotency_key,
            request_hash: row.request_hash,
            model_name: row.model_name,
            metadata: cell::jsonb(&row.metadata),
            kwargs: cell::jsonb(&row.kwargs),
            error: row.error,
            stop_reason: row.stop_reason,
            follow_up_to_run_id: TABLE.optional_id("follow_up_to_run_id", row.follow_up_to_run_id)?,
            parent_run_id: TABLE.optional_id("parent_run_id", row.parent_run_id)?,
            agent_run_id: TABLE.optional_id("agent_run_id", row.agent_run_id)?,
            payer_run_id: TABLE.optional_id("payer_run_id", row.payer_run_id)?,
            epoch: TABLE.count("epoch", row.epoch)?,
            budget: Budget {
                max_tokens: TABLE.optional_count("max_tokens", row.max_tokens)?,
                max_cost_nanos: TABLE.optional_count("max_cost_nanos", row.max_cost_nanos)?,
                max_iterations: TABLE.optional_count("max_iterations", row.max_iterations)?,
            },
            iterations: TABLE.count("iterations", row.iterations)?,
            reserved: Estimate {
                tokens: TABLE.count("reserved_tokens", row.reserved_tokens)?,
                cost_nanos: TABLE.count("reserved_cost_nanos", row.reserved_cost_nanos)?,
            },
            allowances: Estimate {
                tokens: TABLE.count("allowance_tokens", row.allowance_tokens)?,
                cost_nanos: TABLE.count("allowance_cost_nanos", row.allowance_cost_nanos)?,
            },
            first_seq: TABLE.optional_count("first_seq", row.first_seq)?,
            last_seq: TABLE.optional_count("last_seq", row.last_seq)?,
            message_count: TABLE.count("message_count", row.message_count)?,
            first_human_message: row.first_human_message,
            last_ai_message: row.last_ai_message,
            created_at: row.created_at.into(),
            started_at: cell::optional_time(row.started_at),
            finished_at: cell::optional_time(row.finished_at),
            updated_at: row.updated_at.into(),
        })
    }
}
