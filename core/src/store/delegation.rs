//! Sub-agents that are paid for by the run that spawns them: an allowance of its budget, and the bill.
//!
//! Both are built on the stores, the same for every backend: what a child may use is set aside of its
//! parent's budget before the child exists, and one usage record of the parent charges what it used and
//! gives the rest back. So a tree of agents never uses more than the budget of its root allows.

use super::{Ledger, NewRun, Reservation, Reserve};
use crate::commit::{MAX_COST_NANOS, MAX_COUNT, MAX_EVENTS};
use crate::record::{
    BudgetLimit, Estimate, NewThread, Run, RunTotals, Spawn, Thread, TokenCounts, UsageDraft,
};
use crate::{
    Applied, AssistantId, Caller, Commit, Error, Receipt, Result, RunId, Scope, SourceId, ThreadId, Timestamp,
};

/// A run that is handed to a sub-agent.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The sub-agent's thread. Its [`spawn`](NewThread::spawn) names the thread and the run that pay.
    pub child: NewThread,
    /// The epoch under which the run that pays holds its thread's slot.
    pub epoch: u64,
    /// The sub-agent's run, on its thread. The budget of its admission is the allowance: what is limited
    /// for the run that pays is limited for the child, too.
    pub run: NewRun,
}

/// The answer of [`Ledger::delegate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delegated {
    /// The sub-agent's run, admitted on its new thread.
    Admitted(Box<Run>),
    /// The budget of the run that was to pay does not have the allowance; nothing was written.
    Refused(BudgetLimit),
}

impl Delegation {
    /// The run that pays, and what the child may use.
    fn check(&self) -> Result<(&Spawn, Estimate)> {
        let Some(spawn) = &self.child.spawn else {
            return Err(Error::invalid("spawn", "is missing; it names the run that pays for the child"));
        };
        if self.run.thread_id != self.child.thread_id {
            return Err(Error::invalid("thread_id", "of the run is not that of the child's thread"));
        }
        if self.run.admission.payer_run_id.is_some() {
            return Err(Error::invalid("payer_run_id", "is set; the child's spawn names the run that pays"));
        }
        if self.run.create_missing.is_some() {
            return Err(Error::invalid(
                "create_missing",
                "is set; a sub-agent's thread is made with its spawn",
            ));
        }
        let budget = &self.run.admission.budget;
        Ok((
            spawn,
            Estimate {
                tokens: budget.max_tokens.unwrap_or(0),
                cost_nanos: budget.max_cost_nanos.unwrap_or(0),
            },
        ))
    }

    /// Refuses a child without a limit where the run that pays has one.
    fn require_limits(&self, parent: &Run) -> Result<()> {
        let (has, wants) = (&parent.budget, &self.run.admission.budget);
        for (field, has, wants) in [
            ("max_tokens", has.max_tokens, wants.max_tokens),
            ("max_cost_nanos", has.max_cost_nanos, wants.max_cost_nanos),
        ] {
            if has.is_some() && wants.is_none() {
                let reason =
                    "is missing; the run that pays has this limit, so say how much of it the child gets";
                return Err(Error::invalid(field, reason));
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Hands a run to a sub-agent: sets its allowance aside of the budget of the run that spawns it, makes its
    /// thread, and admits its run with the allowance for a budget. [`Ledger::settle_child`] charges it
    /// when it has ended.
    ///
    /// `LeaseLost` where the run that pays is not held under the epoch any more. What is refused after the
    /// allowance was set aside gives it back and leaves no thread. Where the answer was lost, the
    /// sub-agent may be there, so its allowance stays set aside until it is settled or the run that
    /// pays ends. A sub-agent does not count as one of its parent's iterations.
    pub async fn delegate(&self, scope: &Scope, delegation: Delegation) -> Result<Delegated> {
        let (spawn, estimate) = delegation.check()?;
        let (thread, run, epoch) = (spawn.parent_thread_id.clone(), spawn.run_id.clone(), delegation.epoch);
        delegation.require_limits(&self.runs().get(scope, &thread, &run).await?)?;
        let wanted = Reserve::allowance(estimate);
        match self.runs().reserve(scope, &thread, &run, epoch, wanted).await? {
            Reservation::Granted(_) => {}
            Reservation::Refused(limit) => return Ok(Delegated::Refused(limit)),
        }
        let mut child_run = delegation.run;
        child_run.admission.payer_run_id = Some(run.clone());
        match self.spawn(scope, delegation.child, child_run).await {
            Ok(child) => Ok(Delegated::Admitted(Box::new(child))),
            Err(error) => {
                if !matches!(error, Error::Unavailable { applied: Applied::Unknown, .. }) {
                    // What cannot be given back comes back when the run ends, and the refusal is what counts.
                    let released = self.runs().release(scope, &thread, &run, epoch, wanted).await;
                    drop(released);
                }
                Err(error)
            }
        }
    }

    async fn spawn(&self, scope: &Scope, child: NewThread, run: NewRun) -> Result<Run> {
        let thread = self.threads().create(scope, child).await?;
        match self.admit_now(scope, run).await {
            Ok(admitted) => Ok(admitted.run),
            Err(error) => {
                if !matches!(error, Error::Unavailable { applied: Applied::Unknown, .. }) {
                    // It was made for this run alone. One that cannot be deleted is an empty thread.
                    drop(self.threads().delete(scope, &thread.thread_id).await);
                }
                Err(error)
            }
        }
    }

    /// Charges what a sub-agent's run took to the run that spawned it, and gives back the rest of its
    /// allowance: one usage record of that run, by `subagent:` and the sub-agent's assistant, or as many as it takes
    /// where that is more than one call may cost. However often and by however many processes it is done, the first
    /// counts.
    ///
    /// `run` is one that [`Ledger::delegate`] admitted, or this is `InvalidInput`; it has ended, however, or this is
    /// `Conflict`. What it takes after it was settled is its own. It is settled before its thread is deleted, and
    /// also where the run that pays has ended or changed hands, for it was spent. Who deletes an ephemeral thread
    /// that has served settles it before; then this is `NotFound`, as it is where the run that pays is gone.
    pub async fn settle_child(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Receipt> {
        let child = self.threads().get(scope, thread).await?;
        let ended = self.runs().get(scope, thread, run).await?;
        let Some(payer) = ended.payer_run_id.clone() else {
            return Err(Error::invalid(
                "run_id",
                "was not handed over by a run that pays for it; see delegate",
            ));
        };
        // A child that was given to the thread above its parent names no spawning run any more.
        let parent = child.parent_thread_id.clone().filter(|_| child.spawn_run_id.as_ref() == Some(&payer));
        let parent = parent.ok_or_else(|| Error::not_found("run that pays", &payer))?;
        if !ended.status.is_terminal() {
            return Err(Error::conflict("run status", "ended", &ended.status));
        }
        let bill = Commit { usage: bill(&child, &ended)?, ..Commit::of_run(parent, payer) };
        self.events().append(scope, bill).await
    }
}

/// The records that charge a sub-agent's run: what is beyond one record's limits is the next one's, so that what
/// was charged once is part of what is charged again.
fn bill(thread: &Thread, run: &Run) -> Result<Vec<UsageDraft>> {
    let assistant = run.assistant_id.as_ref().or(thread.assistant_id.as_ref());
    let name = assistant.map_or("unnamed", AssistantId::as_str);
    let caller: String = format!("subagent:{name}").chars().take(Caller::MAX_CHARS).collect();
    let caller = Caller::new(caller)?;
    let first = SourceId::of_child(&thread.thread_id, &run.run_id);
    let mut settles = Estimate {
        tokens: run.budget.max_tokens.unwrap_or(0),
        cost_nanos: run.budget.max_cost_nanos.unwrap_or(0),
    };
    let mut left = run.totals;
    let mut records = Vec::new();
    // What is beyond a commit's limit is refused with it.
    while records.is_empty() || (is_owed(&left) && records.len() <= MAX_EVENTS) {
        let source = match records.len() {
            0 => first.clone(),
            before => SourceId::new(format!("{first}#{}", before + 1))?,
        };
        let cost_nanos = take(&mut left.cost_nanos, MAX_COST_NANOS);
        records.push(UsageDraft {
            caller: caller.clone(),
            model: run.model_name.clone(),
            cost_nanos: (cost_nanos > 0).then_some(cost_nanos),
            child_thread_id: Some(thread.thread_id.clone()),
            settles: std::mem::take(&mut settles),
            created_at: run.finished_at.unwrap_or_else(Timestamp::now),
            ..UsageDraft::new(source, take_tokens(&mut left))
        });
    }
    Ok(records)
}

fn is_owed(left: &RunTotals) -> bool {
    left.total_tokens > 0 || left.cost_nanos > 0
}

fn take(left: &mut u64, most: u64) -> u64 {
    let taken = (*left).min(most);
    *left -= taken;
    taken
}

fn take_tokens(left: &mut RunTotals) -> TokenCounts {
    // A total of 0 would be taken for one that nobody told.
    if left.total_tokens == 0 {
        return TokenCounts::default();
    }
    TokenCounts {
        input: take(&mut left.input_tokens, MAX_COUNT),
        output: take(&mut left.output_tokens, MAX_COUNT),
        total: take(&mut left.total_tokens, MAX_COUNT),
        cache_read: take(&mut left.cache_read_tokens, MAX_COUNT),
        cache_write: take(&mut left.cache_write_tokens, MAX_COUNT),
        reasoning: take(&mut left.reasoning_tokens, MAX_COUNT),
    }
}
