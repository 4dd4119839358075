//! Runs: one execution of an agent on a thread, from input to outcome.

use serde::{Deserialize, Serialize};

use crate::wire::text_enum;
use crate::{AgentRunId, AssistantId, OwnerId, RawJson, RunId, ThreadId, Timestamp};

text_enum! {
    /// Where a run stands. The last five are terminal: a run never leaves them.
    pub enum RunStatus {
        /// Waits for the thread's active run to end.
        Queued = "queued",
        /// Admitted, holds the thread's slot, not started.
        Pending = "pending",
        /// Started.
        Running = "running",
        /// Ended well.
        Success = "success",
        /// Failed.
        Error = "error",
        /// Ended by its time limit.
        Timeout = "timeout",
        /// Stopped by a person, another run, or a takeover.
        Interrupted = "interrupted",
        /// Ended because its budget was spent; what it did is kept.
        BudgetExhausted = "budget_exhausted",
    }
}

impl RunStatus {
    /// Whether a run with this status has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Success | Self::Error | Self::Timeout | Self::Interrupted | Self::BudgetExhausted => true,
            Self::Queued | Self::Pending | Self::Running | Self::Unknown(_) => false,
        }
    }

    /// Whether a run with this status holds its thread's slot.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented at the variant of `RunStatus` with the same name")]
pub enum TerminalStatus {
    Success,
    Error,
    Timeout,
    Interrupted,
    BudgetExhausted,
}

impl TerminalStatus {
    /// The status a run with this ending has.
    #[must_use]
    pub fn status(self) -> RunStatus {
        match self {
            Self::Success => RunStatus::Success,
            Self::Error => RunStatus::Error,
            Self::Timeout => RunStatus::Timeout,
            Self::Interrupted => RunStatus::Interrupted,
            Self::BudgetExhausted => RunStatus::BudgetExhausted,
        }
    }

    /// The type of the terminal event of a run with this ending.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        use super::event_type as t;
        match self {
            Self::Success => t::RUN_COMPLETED,
            Self::Error => t::RUN_FAILED,
            Self::Timeout => t::RUN_TIMED_OUT,
            Self::Interrupted => t::RUN_INTERRUPTED,
            Self::BudgetExhausted => t::RUN_BUDGET_EXHAUSTED,
        }
    }
}

/// How a run ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: TerminalStatus,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// Why it stopped, for programs: `token_capped`, `waiting_for_input`, ...
    pub stop_reason: Option<String>,
}

impl Outcome {
    /// The stop reason of a run that was asked to stop.
    pub const CANCELLED: &'static str = "cancelled";
    /// The stop reason of a run that was undone.
    pub const ROLLED_BACK: &'static str = "rolled_back";
    /// The stop reason of a run whose thread's slot a later run took.
    pub const REPLACED: &'static str = "replaced";
    /// The stop reason of a run whose worker was gone.
    pub const LEASE_EXPIRED: &'static str = "lease_expired";
    /// The stop reason of a run that a fork has only the beginning of.
    pub const FORKED: &'static str = "forked";
    /// The stop reason of a run that asked a person something: its [`Interaction`](super::Interaction)s
    /// say what.
    pub const WAITING_FOR_INPUT: &'static str = "waiting_for_input";

    /// A run that ended well.
    #[must_use]
    pub fn success() -> Self {
        Self { status: TerminalStatus::Success, error: None, stop_reason: None }
    }

    /// A run that failed.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self { status: TerminalStatus::Error, error: Some(message.into()), stop_reason: None }
    }

    /// A run that was stopped.
    #[must_use]
    pub fn interrupted(stop_reason: impl Into<String>) -> Self {
        Self { status: TerminalStatus::Interrupted, error: None, stop_reason: Some(stop_reason.into()) }
    }

    /// A run that was ended because its budget was spent.
    #[must_use]
    pub fn budget_exhausted(limit: BudgetLimit) -> Self {
        Self {
            status: TerminalStatus::BudgetExhausted,
            error: Some(format!("the run's budget of {} was spent", limit.what())),
            stop_reason: Some(limit.as_str().to_owned()),
        }
    }

    /// A run that was undone: readers leave it out.
    #[must_use]
    pub fn rolled_back() -> Self {
        Self {
            status: TerminalStatus::Error,
            error: Some("the run was rolled back".to_owned()),
            stop_reason: Some(Self::ROLLED_BACK.to_owned()),
        }
    }

    /// Whether it is that of a run that was undone.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        self.status == TerminalStatus::Error && self.stop_reason.as_deref() == Some(Self::ROLLED_BACK)
    }

    /// What readers make of a run that ended like this.
    #[must_use]
    pub fn visibility(&self) -> Visibility {
        if self.is_rolled_back() { Visibility::RolledBack } else { Visibility::Shown }
    }

    /// What the thread's status is after a run that ended like this.
    #[must_use]
    pub fn thread_status(&self) -> super::ThreadStatus {
        match self.status {
            TerminalStatus::Success | TerminalStatus::BudgetExhausted => super::ThreadStatus::Idle,
            // Nothing is left of it that went wrong.
            TerminalStatus::Error if self.is_rolled_back() => super::ThreadStatus::Idle,
            TerminalStatus::Error | TerminalStatus::Timeout => super::ThreadStatus::Error,
            TerminalStatus::Interrupted => super::ThreadStatus::Interrupted,
        }
    }
}

text_enum! {
    /// Whether readers show a run.
    pub enum Visibility {
        /// They do.
        Shown = "shown",
        /// A later run took its place.
        Superseded = "superseded",
        /// It was undone.
        RolledBack = "rolled_back",
    }
}

text_enum! {
    /// What holds a thread's slot.
    pub enum OperationKind {
        /// An agent's run.
        Run = "run",
        /// A write to the runtime's checkpoint.
        CheckpointWrite = "checkpoint_write",
        /// A write to the runtime's artifacts.
        ArtifactWrite = "artifact_write",
        /// The deletion of the thread.
        Delete = "delete",
    }
}

text_enum! {
    /// What an admission does when the thread's slot is taken.
    pub enum MultitaskStrategy {
        /// It is refused.
        Reject = "reject",
        /// The run that holds it is interrupted, and the new one gets it.
        Interrupt = "interrupt",
        /// The run that holds it is undone, and the new one gets it.
        Rollback = "rollback",
        /// The new run waits until those before it have ended.
        Enqueue = "enqueue",
    }
}

/// What a taken slot means for an admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenTaken {
    /// It is refused.
    Refuse,
    /// It waits.
    Wait,
    /// The run that holds the slot ends like this first.
    Replace(Outcome),
}

impl MultitaskStrategy {
    /// What is to be done when the slot is taken. A strategy of a newer version refuses.
    #[must_use]
    pub fn when_taken(&self) -> WhenTaken {
        match self {
            Self::Reject | Self::Unknown(_) => WhenTaken::Refuse,
            Self::Interrupt => WhenTaken::Replace(Outcome::interrupted(Outcome::REPLACED)),
            Self::Rollback => WhenTaken::Replace(Outcome::rolled_back()),
            Self::Enqueue => WhenTaken::Wait,
        }
    }
}

/// What a run may use, sub-agents that it pays for included. What is `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Budget {
    /// Tokens of all model calls.
    pub max_tokens: Option<u64>,
    /// Cost in billionths of a US dollar.
    pub max_cost_nanos: Option<u64>,
    /// Model calls of its own.
    pub max_iterations: Option<u64>,
}

/// What a model call, or a sub-agent, is expected to use at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Estimate {
    /// Tokens, input and output.
    pub tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
}

/// What part of a budget is set aside for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReservedFor {
    /// A model call of the run itself, which counts against `max_iterations`. What is set aside for calls is
    /// given back when the run changes hands: who made them is gone.
    Iteration,
    /// A model call that is no iteration, a middleware's say.
    #[default]
    Call,
    /// A sub-agent. Its allowance stays set aside until it is settled, whoever holds the run.
    SubAgent,
}

impl Estimate {
    /// Adds another one.
    pub fn add(&mut self, more: &Self) {
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.cost_nanos = self.cost_nanos.saturating_add(more.cost_nanos);
    }

    /// Takes off what a settled call had reserved.
    pub fn give_back(&mut self, settled: &Self) {
        self.tokens = self.tokens.saturating_sub(settled.tokens);
        self.cost_nanos = self.cost_nanos.saturating_sub(settled.cost_nanos);
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// A limit of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is documented at the field of `Budget` with the same name")]
pub enum BudgetLimit {
    MaxTokens,
    MaxCostNanos,
    MaxIterations,
}

impl BudgetLimit {
    /// The limit's name, as a run that it ended has it for a stop reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCostNanos => "max_cost_nanos",
            Self::MaxIterations => "max_iterations",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::MaxTokens => "tokens",
            Self::MaxCostNanos => "cost",
            Self::MaxIterations => "model calls",
        }
    }
}

/// What a run used. Sums over its usage records, each counted once; 64-bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RunTotals {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Input and output.
    pub total_tokens: u64,
    /// Of the input: read from a cache.
    pub cache_read_tokens: u64,
    /// Of the input: written to a cache.
    pub cache_write_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// Model calls, failed ones and sub-agents' included.
    pub llm_calls: u64,
    /// Of the total: the lead agent's.
    pub lead_agent_tokens: u64,
    /// Of the total: sub-agents'.
    pub subagent_tokens: u64,
    /// Of the total: middleware's.
    pub middleware_tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
}

/// One execution of an agent on a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Run {
    /// The thread it runs on.
    pub thread_id: ThreadId,
    /// Its id, unique within the thread.
    pub run_id: RunId,
    /// The thread's owner when it was admitted.
    pub owner_id: Option<OwnerId>,
    /// The agent definition it runs.
    pub assistant_id: Option<AssistantId>,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether readers show it.
    pub visibility: Visibility,
    /// What it does with the thread's slot.
    pub operation_kind: OperationKind,
    /// What its admission did when the slot was taken.
    pub multitask_strategy: MultitaskStrategy,
    /// Its place among the thread's queued runs, the smallest first; `None` once it left the queue.
    pub queue_no: Option<u64>,
    /// The caller's key of its admission: the same key is the same run.
    pub idempotency_key: Option<String>,
    /// A fingerprint of the request the key stands for.
    pub request_hash: Option<String>,
    /// The model it mainly used.
    pub model_name: Option<String>,
    /// Notes of the application, a JSON object; key order is not kept.
    pub metadata: RawJson,
    /// Arguments of the run, a JSON object; key order is not kept.
    pub kwargs: RawJson,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// Why it stopped, for programs.
    pub stop_reason: Option<String>,
    /// The run it answers.
    pub follow_up_to_run_id: Option<RunId>,
    /// The run that started it.
    pub parent_run_id: Option<RunId>,
    /// The agent run whose transcript it is.
    pub agent_run_id: Option<AgentRunId>,
    /// The run of the thread above that pays for it, because [`Ledger::delegate`](crate::Ledger::delegate)
    /// handed it over; `None` where nobody else pays.
    pub payer_run_id: Option<RunId>,
    /// The epoch it holds the slot under, or held it last; 0 while it is queued.
    pub epoch: u64,
    /// What it used.
    pub totals: RunTotals,
    /// What it may use.
    pub budget: Budget,
    /// How many model calls of its own were let through by [`RunStore::reserve`](crate::RunStore::reserve).
    pub iterations: u64,
    /// What calls that were let through and have not been counted may use.
    pub reserved: Estimate,
    /// What sub-agents that it pays for and that have not been settled may use.
    pub allowances: Estimate,
    /// The seq of its first event.
    pub first_seq: Option<u64>,
    /// The seq of its last event so far.
    pub last_seq: Option<u64>,
    /// How many events of category `message` it has.
    pub message_count: u64,
    /// What the person said, at most 2,000 characters.
    pub first_human_message: Option<String>,
    /// What the lead agent said last, at most 2,000 characters.
    pub last_ai_message: Option<String>,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

impl Run {
    /// The run without what an application gave and a person reads, for whoever holds many of them.
    #[must_use]
    pub fn without_documents(self) -> Self {
        Self {
            metadata: RawJson::empty_object(),
            kwargs: RawJson::empty_object(),
            error: None,
            first_human_message: None,
            last_ai_message: None,
            ..self
        }
    }

    /// Sets aside what a call or a sub-agent may use, or says which limit of the budget does not have it.
    pub fn reserve(&mut self, estimate: Estimate, purpose: ReservedFor) -> Option<BudgetLimit> {
        let beyond = |limit: Option<u64>, used: u64, wanted: u64| {
            limit.is_some_and(|limit| used.saturating_add(wanted) > limit)
        };
        let mut taken = self.reserved;
        taken.add(&self.allowances);
        let tokens = self.totals.total_tokens.saturating_add(taken.tokens);
        let cost_nanos = self.totals.cost_nanos.saturating_add(taken.cost_nanos);
        let is_iteration = purpose == ReservedFor::Iteration;
        if is_iteration && beyond(self.budget.max_iterations, self.iterations, 1) {
            return Some(BudgetLimit::MaxIterations);
        }
        if beyond(self.budget.max_tokens, tokens, estimate.tokens) {
            return Some(BudgetLimit::MaxTokens);
        }
        if beyond(self.budget.max_cost_nanos, cost_nanos, estimate.cost_nanos) {
            return Some(BudgetLimit::MaxCostNanos);
        }
        self.iterations += u64::from(is_iteration);
        self.set_aside(purpose).add(&estimate);
        None
    }

    /// Gives back what was set aside for something that is not done.
    pub fn release(&mut self, estimate: Estimate, purpose: ReservedFor) {
        self.iterations = self.iterations.saturating_sub(u64::from(purpose == ReservedFor::Iteration));
        self.set_aside(purpose).give_back(&estimate);
    }

    /// Gives back what was set aside for what a usage record tells.
    pub(crate) fn settle(&mut self, settled: Estimate, purpose: ReservedFor) {
        self.set_aside(purpose).give_back(&settled);
    }

    fn set_aside(&mut self, purpose: ReservedFor) -> &mut Estimate {
        match purpose {
            ReservedFor::Iteration | ReservedFor::Call => &mut self.reserved,
            ReservedFor::SubAgent => &mut self.allowances,
        }
    }

    /// Whether this is how it ended.
    #[must_use]
    pub fn ended_as(&self, outcome: &Outcome) -> bool {
        self.status == outcome.status.status() && self.stop_reason == outcome.stop_reason
    }
}
