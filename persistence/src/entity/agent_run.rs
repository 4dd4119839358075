//! `agent_runs`: one row per agent run, with its whole transcript.

use runledger_core::{
    AgentRun, AgentRunStatus, AgentRunSummary, AgentStep, AgentUsage, Error, Result, StoredAgentRun, text,
};
use sea_orm::FromQueryResult;
use sea_orm::entity::prelude::*;

use super::cell::{self, Table};

const TABLE: Table = Table("agent run");

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
    pub steps: Option<String>,
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

/// A row as lists read it: without output and steps, and with the beginning of the goal.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Listed {
    agent_run_id: String,
    agent: String,
    owner_id: Option<String>,
    subject_id: Option<String>,
    thread_id: Option<String>,
    run_id: Option<String>,
    parent_agent_run_id: Option<String>,
    goal: String,
    status: String,
    iterations: i64,
    tool_calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_nanos: Option<i64>,
    latency_ms: Option<i64>,
    model: Option<String>,
    confidence: Option<f64>,
    error: Option<String>,
    started_at: DateTimeUtc,
    finished_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
}

/// The steps as the column takes them.
pub(crate) fn steps_document(steps: &[AgentStep]) -> Result<String> {
    let document = runledger_core::RawJson::encode("steps", steps)?;
    Ok(text::escape_jsonb(document.as_str()).into_owned())
}

/// The steps as they were before the column took them: keys and numbers in their one spelling again.
fn steps(document: &str) -> Result<Vec<AgentStep>> {
    let read = cell::jsonb(document).decode::<Vec<AgentStep>>();
    let mut steps = read.map_err(|error| Error::Corrupt {
        what: "agent run",
        reason: "column steps holds no steps".to_owned(),
        source: Some(Box::new(error)),
    })?;
    for step in &mut steps {
        step.payload = step.payload.canonical();
    }
    Ok(steps)
}

impl TryFrom<Model> for StoredAgentRun {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        let folded = row.steps.is_some();
        let agent_run = AgentRun {
            steps: row.steps.as_deref().map(steps).transpose()?.unwrap_or_default(),
            agent_run_id: TABLE.id("agent_run_id", row.agent_run_id)?,
            agent: row.agent,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            subject_id: row.subject_id,
            thread_id: TABLE.optional_id("thread_id", row.thread_id)?,
            run_id: TABLE.optional_id("run_id", row.run_id)?,
            parent_agent_run_id: TABLE.optional_id("parent_agent_run_id", row.parent_agent_run_id)?,
            goal: row.goal,
            status: AgentRunStatus::from_stored(&row.status),
            output: row.output,
            usage: AgentUsage {
                iterations: TABLE.count("iterations", row.iterations)?,
                tool_calls: TABLE.count("tool_calls", row.tool_calls)?,
                input_tokens: TABLE.count("input_tokens", row.input_tokens)?,
                output_tokens: TABLE.count("output_tokens", row.output_tokens)?,
                cost_nanos: TABLE.optional_count("cost_nanos", row.cost_nanos)?,
                latency_ms: TABLE.optional_count("latency_ms", row.latency_ms)?,
            },
            model: row.model,
            confidence: row.confidence,
            error: row.error,
            started_at: row.started_at.into(),
            finished_at: cell::optional_time(row.finished_at),
            created_at: row.created_at.into(),
        };
        Ok(Self { agent_run, folded })
    }
}

impl TryFrom<Listed> for AgentRunSummary {
    type Error = Error;

    fn try_from(row: Listed) -> Result<Self> {
        Ok(Self {
            agent_run_id: TABLE.id("agent_run_id", row.agent_run_id)?,
            agent: row.agent,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            subject_id: row.subject_id,
            thread_id: TABLE.optional_id("thread_id", row.thread_id)?,
            run_id: TABLE.optional_id("run_id", row.run_id)?,
            parent_agent_run_id: TABLE.optional_id("parent_agent_run_id", row.parent_agent_run_id)?,
            goal: row.goal,
            status: AgentRunStatus::from_stored(&row.status),
            usage: AgentUsage {
                iterations: TABLE.count("iterations", row.iterations)?,
                tool_calls: TABLE.count("tool_calls", row.tool_calls)?,
                input_tokens: TABLE.count("input_tokens", row.input_tokens)?,
                output_tokens: TABLE.count("output_tokens", row.output_tokens)?,
                cost_nanos: TABLE.optional_count("cost_nanos", row.cost_nanos)?,
                latency_ms: TABLE.optional_count("latency_ms", row.latency_ms)?,
            },
            model: row.model,
            confidence: row.confidence,
            error: row.error,
            started_at: row.started_at.into(),
            finished_at: cell::optional_time(row.finished_at),
            created_at: row.created_at.into(),
        })
    }
}
