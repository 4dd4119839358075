//! Agent runs: what agents were to reach, and what they did for it.

use axum::Json;
use axum::extract::State;
use runledger_core::{
    AgentMatch, AgentRun, AgentRunFilter, AgentRunId, AgentRunStatus, AgentRunSummary, OwnerId, Page,
    Timestamp,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::list_range;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::problem::Problem;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct AgentRunPath {
    /// The agent run.
    agent_run_id: AgentRunId,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those of the agent with this name.
    agent: Option<String>,
    /// Only those of agents whose names begin like this: `crew.` finds `crew.critic`.
    agent_prefix: Option<String>,
    /// Only those with this status: `running`, `completed`, `budget_exhausted`, `failed`, `cancelled`, `interrupted`.
    status: Option<String>,
    /// Only those that this agent run delegated to.
    parent_agent_run_id: Option<AgentRunId>,
    /// Only those recorded at this time or later.
    from: Option<Timestamp>,
    /// Only those recorded before this time.
    before: Option<Timestamp>,
    /// For the system: only those of this owner.
    owner: Option<OwnerId>,
    /// Where the previous page ended: its `next_cursor`.
    cursor: Option<String>,
    /// Agent runs at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Agent runs, newest first, without their outputs and steps.
#[utoipa::path(
    get,
    path = "/agent-runs",
    tag = "agent-runs",
    operation_id = "list_agent_runs",
    params(ListQuery),
    responses((status = 200, description = "A page of them.", body = Page<AgentRunSummary>))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<AgentRunSummary>>, Problem> {
    let range = list_range(query.limit, query.cursor.as_deref())?;
    let agent = match (query.agent, query.agent_prefix) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("agent_prefix", "is given beside agent; give one of them"));
        }
        (Some(name), None) => Some(AgentMatch::Exact(name)),
        (None, prefix) => prefix.map(AgentMatch::Prefix),
    };
    let filter = AgentRunFilter {
        agent,
        status: query.status.as_deref().map(|status| AgentRunStatus::parse("status", status)).transpose()?,
        parent_agent_run_id: query.parent_agent_run_id,
        created_from: query.from,
        created_before: query.before,
    };
    let scope = caller.of_owner(query.owner)?;
    Ok(Json(app.ledger.agent_runs().list(&scope, &filter, &range).await?))
}

/// An agent run with its whole transcript: while it goes on, as far as it has come.
#[utoipa::path(
    get,
    path = "/agent-runs/{agent_run_id}",
    tag = "agent-runs",
    operation_id = "get_agent_run",
    params(AgentRunPath),
    responses((status = 200, description = "The agent run.", body = AgentRun))
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<AgentRunPath>,
) -> Result<Json<AgentRun>, Problem> {
    Ok(Json(app.ledger.agent_run(&caller.scope, &path.agent_run_id).await?))
}
