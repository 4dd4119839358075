//! `agent_runs`: one row per agent run, with its whole transcript.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_run_id: String,
    pub agent: String,
    pub owner_id: Option<String>,
    pub subject_id: Option<String>,
    pub thread_id: Option<String>,
    pub run_id: Option<String>,
    pub parent_agent_run_id: Option<String>,
    pub goal: String,
    pub status: String,
    pub output: Option<String>,
    #[sea_orm(column_type = "JsonBinary", select_as = "text")]
    pub steps: String,
    pub iterations: i64,
    pub tool_calls: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub cost_nanos: Option<i64>,
    pub latency_ms: Option<i64>,
    pub model: Option<String>,
    pub confidence: Option<f64>,
    pub error: Option<String>,
    pub started_at: DateTimeUtc,
    pub finished_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
