//! Agent runs.

use std::cmp::Reverse;

use crate::record::{AgentRun, AgentRunStatus, AgentRunSummary, AgentUsage, FoldedSteps, NewAgentRun, Run};
use crate::store::{
    AgentRunFilter, AgentRunStanding, RecordedAgentRun, StoredAgentRun, Unfolded, require_system,
};
use crate::{AgentRunId, Cursor, Error, ListRange, Page, Result, Scope};

use super::MemoryLedger;
use super::state::State;

impl MemoryLedger {
    pub(super) fn record_now(&self, scope: &Scope, agent_run: AgentRun) -> Result<RecordedAgentRun> {
        let agent_run = agent_run.into_record(scope, &self.limits)?;
        let mut state = self.state();
        let id = &agent_run.agent_run_id;
        if let Some(stored) = state.agent_runs.get(id) {
            let known = &stored.agent_run;
            if scope.sees(known.owner_id.as_ref()) && agent_run.is_same_record(known) {
                return Ok(RecordedAgentRun { agent_run: known.clone(), created: false });
            }
            return Err(Error::already_exists("agent run", id));
        }
        if let Some(parent) = &agent_run.parent_agent_run_id {
            state.agent_run(scope, parent)?;
        }
        let stored = StoredAgentRun { agent_run: agent_run.clone(), folded: true };
        state.agent_runs.insert(id.clone(), stored);
        Ok(RecordedAgentRun { agent_run, created: true })
    }

    pub(super) fn agent_run_now(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<StoredAgentRun> {
        self.state().agent_run(scope, agent_run).cloned()
    }

    pub(super) fn agent_run_standing_now(
        &self,
        scope: &Scope,
        agent_run: &AgentRunId,
    ) -> Result<AgentRunStanding> {
        let state = self.state();
        let stored = state.agent_run(scope, agent_run)?;
        let steps = stored.folded.then_some(stored.agent_run.steps.len() as u64);
        Ok(AgentRunStanding { summary: stored.agent_run.clone().into_summary(), steps })
    }

    pub(super) fn list_agent_runs_now(
        &self,
        scope: &Scope,
        filter: &AgentRunFilter,
        range: &ListRange,
    ) -> Result<Page<AgentRunSummary>> {
        filter.check()?;
        let limit = range.checked_limit()?;
        let after = range.cursor.as_ref().map(Cursor::position).transpose()?;
        let state = self.state();
        let place = |run: &AgentRun| (run.created_at, run.agent_run_id.clone());
        let mut found: Vec<&AgentRun> = state
            .agent_runs
            .values()
            .map(|stored| &stored.agent_run)
            .filter(|run| scope.sees(run.owner_id.as_ref()) && filter.accepts(run))
            .filter(|run| after.is_none_or(|after| (run.created_at, run.agent_run_id.as_str()) < after))
            .collect();
        found.sort_by_key(|run| Reverse(place(run)));
        let found =
            found.into_iter().take(limit as usize + 1).map(|run| run.clone().into_summary()).collect();
        Ok(Page::from_rows(found, limit, |run: &AgentRunSummary| {
            Cursor::at(run.created_at, run.agent_run_id.as_str())
        }))
    }

    pub(super) fn fold_steps_now(
        &self,
        scope: &Scope,
        agent_run: &AgentRunId,
        folded: FoldedSteps,
    ) -> Result<bool> {
        let folded = folded.prepare()?;
        let mut state = self.state();
        state.agent_run(scope, agent_run)?;
        let Some(stored) = state.agent_runs.get_mut(agent_run) else { return Ok(false) };
        if stored.folded {
            return Ok(false);
        }
        let stored_run = &mut stored.agent_run;
        if stored_run.status.is_running() {
            return Err(Error::conflict("agent run status", "ended", &stored_run.status));
        }
        stored_run.output = folded.output.filter(|_| stored_run.status == AgentRunStatus::Completed);
        stored_run.steps = folded.steps;
        stored_run.usage = folded.usage;
        stored_run.model = folded.model;
        stored_run.confidence = folded.confidence;
        stored.folded = true;
        Ok(true)
    }

    pub(super) fn list_unfolded_now(
        &self,
        scope: &Scope,
        after: Option<&AgentRunId>,
        limit: u32,
    ) -> Result<Vec<Unfolded>> {
        require_system(scope)?;
        let limit = ListRange::newest(limit).checked_limit()?;
        let state = self.state();
        let unfolded = state.agent_runs.values().filter(|stored| {
            !stored.folded
                && !stored.agent_run.status.is_running()
                && after.is_none_or(|after| stored.agent_run.agent_run_id > *after)
        });
        let found = unfolded.filter_map(|stored| {
            Some(Unfolded {
                agent_run_id: stored.agent_run.agent_run_id.clone(),
                thread_id: stored.agent_run.thread_id.clone()?,
                run_id: stored.agent_run.run_id.clone()?,
            })
        });
        Ok(found.take(limit as usize).collect())
    }

    pub(super) fn delete_agent_run_now(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<()> {
        let mut state = self.state();
        let thread = state.agent_run(scope, agent_run)?.agent_run.thread_id.clone();
        if let Some(thread) = thread
            && state.threads.get(&thread).is_some_and(|log| log.thread.is_some())
        {
            return Err(Error::conflict("thread of the agent run", "none", thread));
        }
        state.agent_runs.remove(agent_run);
        Ok(())
    }
}

impl State {
    pub(super) fn agent_run(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<&StoredAgentRun> {
        self.agent_runs
            .get(agent_run)
            .filter(|stored| scope.sees(stored.agent_run.owner_id.as_ref()))
            .ok_or_else(|| Error::not_found("agent run", agent_run))
    }

    /// What a new agent run is refused for.
    pub(super) fn check_new_agent_run(&self, scope: &Scope, new: &NewAgentRun) -> Result<()> {
        if self.agent_runs.contains_key(&new.agent_run_id) {
            return Err(Error::already_exists("agent run", &new.agent_run_id));
        }
        match &new.parent_agent_run_id {
            Some(parent) => self.agent_run(scope, parent).map(drop),
            None => Ok(()),
        }
    }
}

/// The agent run that begins with a run.
pub(super) fn begun(new: &NewAgentRun, run: &Run) -> StoredAgentRun {
    let agent_run = AgentRun {
        agent_run_id: new.agent_run_id.clone(),
        agent: new.agent.clone(),
        owner_id: run.owner_id.clone(),
        subject_id: new.subject_id.clone(),
        thread_id: Some(run.thread_id.clone()),
        run_id: Some(run.run_id.clone()),
        parent_agent_run_id: new.parent_agent_run_id.clone(),
        goal: new.goal.clone(),
        status: AgentRunStatus::Running,
        output: None,
        steps: Vec::new(),
        usage: AgentUsage::default(),
        model: run.model_name.clone(),
        confidence: None,
        error: None,
        started_at: run.created_at,
        finished_at: None,
        created_at: run.created_at,
    };
    StoredAgentRun { agent_run, folded: false }
}
