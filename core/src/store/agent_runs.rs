//! Agent runs.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::record::{AgentRun, AgentRunStatus, AgentRunSummary, FoldedSteps};
use crate::{AgentRunId, ListRange, Page, Result, RunId, Scope, ThreadId, Timestamp, text};

/// Which agents' runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentMatch {
    /// Those of the agent with this name.
    Exact(String),
    /// Those of agents whose names begin like this: `crew.` finds `crew.critic`.
    Prefix(String),
}

/// Which agent runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentRunFilter {
    /// Only those of these agents.
    pub agent: Option<AgentMatch>,
    /// Only those with this status.
    pub status: Option<AgentRunStatus>,
    /// Only those that this agent run delegated to.
    pub parent_agent_run_id: Option<AgentRunId>,
    /// Only those recorded at this time or later.
    pub created_from: Option<Timestamp>,
    /// Only those recorded before this time.
    pub created_before: Option<Timestamp>,
}

impl AgentRunFilter {
    /// Refuses what no agent run can have.
    pub fn check(&self) -> Result<()> {
        if let Some(AgentMatch::Exact(agent) | AgentMatch::Prefix(agent)) = &self.agent {
            text::require_no_nul("agent", agent)?;
        }
        text::require_no_nul("status", self.status.as_ref().map_or("", |status| status.as_str()))
    }

    /// Whether the agent run passes.
    #[must_use]
    pub fn accepts(&self, agent_run: &AgentRun) -> bool {
        self.agent.as_ref().is_none_or(|agent| agent.accepts(&agent_run.agent))
            && self.status.as_ref().is_none_or(|status| agent_run.status == *status)
            && self
                .parent_agent_run_id
                .as_ref()
                .is_none_or(|parent| agent_run.parent_agent_run_id.as_ref() == Some(parent))
            && self.created_from.is_none_or(|from| agent_run.created_at >= from)
            && self.created_before.is_none_or(|before| agent_run.created_at < before)
    }
}

impl AgentMatch {
    /// Whether it is one of these agents.
    #[must_use]
    pub fn accepts(&self, agent: &str) -> bool {
        match self {
            Self::Exact(name) => agent == name,
            Self::Prefix(prefix) => agent.starts_with(prefix.as_str()),
        }
    }
}

/// The answer of [`AgentRunStore::record`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordedAgentRun {
    /// The agent run as it is stored.
    pub agent_run: AgentRun,
    /// Whether it was stored by this call. If not, nothing was written.
    pub created: bool,
}

/// What of an agent run is stored, its steps as they are: `None` where they are in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAgentRun {
    /// The agent run. Until its steps are folded they are empty, and its output, model and usage are not
    /// what it came to: [`Ledger::agent_run`](super::Ledger::agent_run) reads those from the log.
    pub agent_run: AgentRun,
    /// Whether its steps have been folded out of the log, or were recorded with it.
    pub folded: bool,
}

/// Where an agent run stands, without what may be large of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRunStanding {
    /// The agent run as lists have it. Until its steps are folded its model and usage are not what it came to.
    pub summary: AgentRunSummary,
    /// How many steps are stored with it; `None` where they are in the log.
    pub steps: Option<u64>,
}

impl AgentRunStanding {
    /// Whether its steps have been folded out of the log, or were recorded with it.
    #[must_use]
    pub fn is_folded(&self) -> bool {
        self.steps.is_some()
    }
}

/// Keeps agent runs. Those with a run are written by its admission and its end; what is read of them
/// whole is [`Ledger::agent_run`](super::Ledger::agent_run).
#[async_trait]
pub trait AgentRunStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a finished agent run that has no run of its own. The same record again is answered with
    /// what is stored; another one under a taken id is `AlreadyExists`.
    ///
    /// It is stamped with the scope's owner. `InvalidInput` where it names a thread or run, has not ended,
    /// its steps are not numbered from 0 without gaps, or the database has a table of users and not this
    /// owner. A parent that the scope does not see is `NotFound`.
    async fn record(&self, scope: &Scope, agent_run: AgentRun) -> Result<RecordedAgentRun>;

    /// What is stored of an agent run.
    async fn get(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<StoredAgentRun>;

    /// Where an agent run stands; its output and steps are not read.
    async fn standing(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<AgentRunStanding>;

    /// Agent runs, newest first, without output and steps.
    async fn list(
        &self,
        scope: &Scope,
        filter: &AgentRunFilter,
        range: &ListRange,
    ) -> Result<Page<AgentRunSummary>>;

    /// Stores the steps of an agent run that has ended, once: says whether this call did. `Conflict` where
    /// it has not ended; an output is kept where it completed.
    async fn fold(&self, scope: &Scope, agent_run: &AgentRunId, folded: FoldedSteps) -> Result<bool>;

    /// Agent runs that have ended and whose steps are in the log only, with their threads and runs,
    /// ascending by their ids from the one after `after`. A limit of 0 is `InvalidInput`, over 1,000 is
    /// capped. For the system only: `InvalidInput` for an owner.
    async fn list_unfolded(
        &self,
        scope: &Scope,
        after: Option<&AgentRunId>,
        limit: u32,
    ) -> Result<Vec<Unfolded>>;

    /// Deletes an agent run that has no thread, or whose thread is gone. `Conflict` where it has one: it
    /// goes with that. Those that it delegated to stay, and name a parent that is not there any more.
    async fn delete(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<()>;
}

/// An agent run that has ended and whose steps are in the log only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfolded {
    /// The agent run.
    pub agent_run_id: AgentRunId,
    /// The thread its steps are on.
    pub thread_id: ThreadId,
    /// The run they are of.
    pub run_id: RunId,
}
