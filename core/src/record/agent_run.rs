//! Agent runs: a goal, and the whole transcript of how it was pursued, in one record.

use serde::{Deserialize, Serialize};

use super::{BudgetLimit, Outcome, Run, RunStatus, TerminalStatus};
use crate::commit::Limits;
use crate::wire::text_enum;
use crate::{AgentRunId, Error, OwnerId, RawJson, Result, RunId, Scope, ThreadId, Timestamp, text};

text_enum! {
    /// Where an agent run stands. All but `running` are terminal.
    pub enum AgentRunStatus {
        /// It goes on.
        Running = "running",
        /// It reached its goal.
        Completed = "completed",
        /// It was ended because its budget was spent; what it did is kept.
        BudgetExhausted = "budget_exhausted",
        /// It failed; what it did is kept.
        Failed = "failed",
        /// It was stopped by whoever asked for it.
        Cancelled = "cancelled",
        /// Its process was gone, or something else than its caller stopped it.
        Interrupted = "interrupted",
    }
}

impl AgentRunStatus {
    /// The status of an agent run whose run ended like this.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome.status {
            TerminalStatus::Success => Self::Completed,
            TerminalStatus::BudgetExhausted => Self::BudgetExhausted,
            TerminalStatus::Error if outcome.is_rolled_back() => Self::Cancelled,
            TerminalStatus::Error | TerminalStatus::Timeout => Self::Failed,
            TerminalStatus::Interrupted if outcome.stop_reason.as_deref() == Some(Outcome::CANCELLED) => {
                Self::Cancelled
            }
            TerminalStatus::Interrupted => Self::Interrupted,
        }
    }

    /// The status of the agent run that this run is of.
    #[must_use]
    pub fn of_run(run: &Run) -> Self {
        let status = match &run.status {
            RunStatus::Queued | RunStatus::Pending | RunStatus::Running => return Self::Running,
            RunStatus::Unknown(text) => return Self::Unknown(text.clone()),
            RunStatus::Success => TerminalStatus::Success,
            RunStatus::Error => TerminalStatus::Error,
            RunStatus::Timeout => TerminalStatus::Timeout,
            RunStatus::Interrupted => TerminalStatus::Interrupted,
            RunStatus::BudgetExhausted => TerminalStatus::BudgetExhausted,
        };
        Self::of(&Outcome { status, error: run.error.clone(), stop_reason: run.stop_reason.clone() })
    }

    /// Whether it goes on. What a newer version writes has ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        *self == Self::Running
    }
}

text_enum! {
    /// What a step is, and the shape of its payload. `caller` is there where it is not the lead agent, and
    /// `truncated: true` where part of the payload is in the log only.
    pub enum StepKind {
        /// A model answered: `{text, tool_calls: [{id?, name, args}], model?, usage?, caller?}`.
        LlmResponse = "llm_response",
        /// A tool returned, or will not any more: `{tool, call_id?, args, ok, result?, error?, caller?}`.
        ToolResult = "tool_result",
        /// A sub-agent is done: `{ok, task_id?, description?, detail?, error?, caller?}`. Its own transcript is
        /// an agent run of its own.
        SubAgent = "sub_agent",
        /// What the agent intends to do: the object that the runtime gave, or `{plan}` where it is none.
        Plan = "plan",
    }
}

/// One step of a transcript. The same shape is sent while the run goes on and stored when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentStep {
    /// Its number in the transcript, from 0, without gaps.
    pub index: u64,
    /// Which model call of the run it belongs to, from 1; 0 before the first.
    pub iteration: u64,
    /// What it is.
    pub kind: StepKind,
    /// What happened, a JSON object whose shape is the kind's, in its one spelling ([`RawJson::canonical`]).
    pub payload: RawJson,
    /// When.
    pub at: Timestamp,
}

/// The most bytes that the steps of one agent run take in their JSON form.
pub const MAX_STEPS_BYTES: usize = 64 * 1024 * 1024;

impl AgentStep {
    /// What it takes in its JSON form, about.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.as_str().len() + 128
    }
}

/// Checks that steps are numbered from 0 without gaps, are objects and fit, and spells them in the one way.
fn prepare_steps(steps: &mut [AgentStep]) -> Result<()> {
    let mut bytes = 0;
    for (number, step) in steps.iter_mut().enumerate() {
        if step.index != number as u64 {
            let reason = format!("have the index {} at place {number}; number them from 0", step.index);
            return Err(Error::invalid("steps", reason));
        }
        if step.iteration > crate::MAX_COUNT {
            return Err(Error::invalid("steps.iteration", format!("is {} at step {number}", step.iteration)));
        }
        text::require_no_nul("steps.kind", step.kind.as_str())?;
        step.payload = step.payload.canonical();
        super::require_object("steps.payload", &step.payload)?;
        bytes += step.bytes();
    }
    if bytes > MAX_STEPS_BYTES {
        let (limit, actual) = (MAX_STEPS_BYTES as u64, bytes as u64);
        return Err(Error::TooLarge { field: "steps", limit, actual });
    }
    Ok(())
}

/// What an agent run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AgentUsage {
    /// Answers of a model to the agent itself.
    pub iterations: u64,
    /// Tools that returned or failed.
    pub tool_calls: u64,
    /// Input tokens, cached ones included, sub-agents' too.
    pub input_tokens: u64,
    /// Output tokens, reasoning included, sub-agents' too.
    pub output_tokens: u64,
    /// Cost in billionths of a US dollar; `None` where nobody priced it.
    pub cost_nanos: Option<u64>,
    /// From its start to its end, in milliseconds.
    pub latency_ms: Option<u64>,
}

impl AgentUsage {
    /// Refuses what no column takes.
    fn check(&self) -> Result<()> {
        let counts = [
            ("usage.iterations", self.iterations),
            ("usage.tool_calls", self.tool_calls),
            ("usage.input_tokens", self.input_tokens),
            ("usage.output_tokens", self.output_tokens),
            ("usage.cost_nanos", self.cost_nanos.unwrap_or(0)),
            ("usage.latency_ms", self.latency_ms.unwrap_or(0)),
        ];
        match counts.into_iter().find(|(_, count)| i64::try_from(*count).is_err()) {
            Some((field, count)) => {
                Err(Error::invalid(field, format!("is {count}; at most 2^63 - 1 is taken")))
            }
            None => Ok(()),
        }
    }
}

/// What the admission of a run stores of its agent run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAgentRun {
    /// Its id.
    pub agent_run_id: AgentRunId,
    /// The agent: 1 to 128 bytes, such as `study_buddy` or `crew.critic`.
    pub agent: String,
    /// What it is to reach.
    pub goal: String,
    /// What it is about, in the application's ids.
    pub subject_id: Option<String>,
    /// The agent run that delegated to it; must be visible to the scope.
    pub parent_agent_run_id: Option<AgentRunId>,
}

impl NewAgentRun {
    /// An agent run without a subject and a parent.
    #[must_use]
    pub fn new(agent_run_id: AgentRunId, agent: impl Into<String>, goal: impl Into<String>) -> Self {
        Self {
            agent_run_id,
            agent: agent.into(),
            goal: goal.into(),
            subject_id: None,
            parent_agent_run_id: None,
        }
    }

    /// Checks the labels and cleans the text.
    pub fn check(self) -> Result<Self> {
        check_label("agent", &self.agent)?;
        if let Some(subject) = &self.subject_id {
            check_label("subject_id", subject)?;
        }
        Ok(Self { goal: text::clean(&self.goal).into_owned(), ..self })
    }
}

/// A label of an agent run: what every id obeys.
fn check_label(field: &'static str, text: &str) -> Result<()> {
    crate::ItemId::new(text).map(drop).map_err(|error| match error {
        Error::InvalidInput { reason, .. } => Error::InvalidInput { field, reason },
        other => other,
    })
}

/// An agent run with its whole transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentRun {
    /// Its id.
    pub agent_run_id: AgentRunId,
    /// The agent.
    pub agent: String,
    /// Who may see it; `None` is for the system only.
    pub owner_id: Option<OwnerId>,
    /// What it is about, in the application's ids.
    pub subject_id: Option<String>,
    /// The thread its run is on; `None` where only the finished record was given.
    pub thread_id: Option<ThreadId>,
    /// Its run; `None` where only the finished record was given.
    pub run_id: Option<RunId>,
    /// The agent run that delegated to it.
    pub parent_agent_run_id: Option<AgentRunId>,
    /// What it was to reach.
    pub goal: String,
    /// Where it stands.
    pub status: AgentRunStatus,
    /// What it came to; only where it completed.
    pub output: Option<String>,
    /// What it did, in order. While it goes on, what is in the log so far.
    pub steps: Vec<AgentStep>,
    /// What it took. While it goes on, what is in the log so far.
    pub usage: AgentUsage,
    /// The model it mainly used.
    pub model: Option<String>,
    /// How sure it is of its output, from 0 to 1, where it says so.
    pub confidence: Option<f64>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

impl AgentRun {
    /// Checks a finished record, stamps it with the scope's owner, and makes it what every backend stores:
    /// texts without NUL, steps in their one spelling. For those who implement a store.
    pub fn into_record(mut self, scope: &Scope, limits: &Limits) -> Result<Self> {
        for (field, is_given) in [("thread_id", self.thread_id.is_some()), ("run_id", self.run_id.is_some())]
        {
            if is_given {
                let reason = "is given; an agent run with a run is recorded by its admission";
                return Err(Error::invalid(field, reason));
            }
        }
        if let AgentRunStatus::Running | AgentRunStatus::Unknown(_) = self.status {
            let reason = format!("is {}; only a finished agent run is recorded", self.status);
            return Err(Error::invalid("status", reason));
        }
        if self.finished_at.is_none() {
            return Err(Error::invalid("finished_at", "is missing; only a finished agent run is recorded"));
        }
        if self.output.is_some() && self.status != AgentRunStatus::Completed {
            let reason =
                format!("is given though the agent run is {}; only a completed one has it", self.status);
            return Err(Error::invalid("output", reason));
        }
        self.owner_id = match (scope, self.owner_id) {
            (Scope::System, owner) => owner,
            (Scope::Owner(own), None) => Some(own.clone()),
            (Scope::Owner(own), Some(owner)) if *own == owner => Some(owner),
            (Scope::Owner(_), Some(_)) => {
                let reason = "is not the scope's owner; only the system records for somebody else";
                return Err(Error::invalid("owner_id", reason));
            }
        };
        check_label("agent", &self.agent)?;
        if let Some(subject) = &self.subject_id {
            check_label("subject_id", subject)?;
        }
        check_confidence(self.confidence)?;
        self.usage.check()?;
        let model = self.model.take();
        for (field, given) in
            [("goal", Some(&mut self.goal)), ("output", self.output.as_mut()), ("error", self.error.as_mut())]
        {
            let Some(given) = given else { continue };
            let (limit, actual) = (limits.content_bytes as u64, given.len() as u64);
            if actual > limit {
                return Err(Error::TooLarge { field, limit, actual });
            }
            *given = text::clean(given).into_owned();
        }
        self.model = model.map(|model| text::clean(&model).into_owned());
        prepare_steps(&mut self.steps)?;
        Ok(self)
    }

    /// Whether both are the same record. When it was recorded is told by whoever stored it first.
    #[must_use]
    pub fn is_same_record(&self, other: &Self) -> bool {
        Self { created_at: self.created_at, ..other.clone() } == *self
    }

    /// What lists give of it.
    #[must_use]
    pub fn into_summary(self) -> AgentRunSummary {
        AgentRunSummary {
            agent_run_id: self.agent_run_id,
            agent: self.agent,
            owner_id: self.owner_id,
            subject_id: self.subject_id,
            thread_id: self.thread_id,
            run_id: self.run_id,
            parent_agent_run_id: self.parent_agent_run_id,
            goal: self.goal.chars().take(SUMMARY_GOAL_CHARS as usize).collect(),
            status: self.status,
            usage: self.usage,
            model: self.model,
            confidence: self.confidence,
            error: self.error,
            started_at: self.started_at,
            finished_at: self.finished_at,
            created_at: self.created_at,
        }
    }
}

fn check_confidence(confidence: Option<f64>) -> Result<()> {
    match confidence {
        Some(given) if !(0.0..=1.0).contains(&given) => {
            Err(Error::invalid("confidence", format!("is {given}; give a number from 0 to 1")))
        }
        _ => Ok(()),
    }
}

/// What is known of a finished agent run that was not written down while it went on: the one way to a
/// record for [`AgentRunStore::record`](crate::AgentRunStore::record), however it ended.
///
/// ```
/// use runledger_core::{AgentRunId, AgentRunRecord, NewAgentRun, RawJson, StepKind, Timestamp};
///
/// let about = NewAgentRun::new(AgentRunId::generate(), "study_buddy", "Explain chapter 3");
/// let mut record = AgentRunRecord::new(about, Timestamp::now());
/// let payload = RawJson::parse("payload", r#"{"text":"Let me look.","tool_calls":[]}"#)?;
/// record.push(StepKind::LlmResponse, payload, Timestamp::now());
/// record.usage.input_tokens = 812;
///
/// let stopped = record.failed("the model answered with 529");
/// assert_eq!((stopped.steps.len(), stopped.usage.input_tokens, stopped.output), (1, 812, None));
/// # Ok::<(), runledger_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRunRecord {
    /// What it was to do.
    pub about: NewAgentRun,
    /// Who may see it, where the system records it; an owner's are stamped.
    pub owner_id: Option<OwnerId>,
    /// The model it mainly used.
    pub model: Option<String>,
    /// What it did, all of it, however it ended.
    pub steps: Vec<AgentStep>,
    /// What it took, all of it, however it ended. A latency of `None` is the time from start to end.
    pub usage: AgentUsage,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl AgentRunRecord {
    /// An agent run that did nothing yet and ends now.
    #[must_use]
    pub fn new(about: NewAgentRun, started_at: Timestamp) -> Self {
        Self {
            about,
            owner_id: None,
            model: None,
            steps: Vec::new(),
            usage: AgentUsage::default(),
            started_at,
            finished_at: Timestamp::now(),
        }
    }

    /// Adds a step, which gets the next number, and counts it.
    pub fn push(&mut self, kind: StepKind, payload: RawJson, at: Timestamp) {
        self.usage.iterations += u64::from(kind == StepKind::LlmResponse);
        self.usage.tool_calls += u64::from(kind == StepKind::ToolResult);
        let iteration = self.usage.iterations;
        self.steps.push(AgentStep { index: self.steps.len() as u64, iteration, kind, payload, at });
    }

    /// It reached its goal.
    #[must_use]
    pub fn completed(self, output: impl Into<String>, confidence: Option<f64>) -> AgentRun {
        let (output, done) = (Some(output.into()), self.ended(&Outcome::success()));
        AgentRun { output, confidence, ..done }
    }

    /// It was ended because its budget was spent. What it did until then is kept, as in all that follow.
    #[must_use]
    pub fn budget_exhausted(self, limit: BudgetLimit) -> AgentRun {
        self.ended(&Outcome::budget_exhausted(limit))
    }

    /// It failed.
    #[must_use]
    pub fn failed(self, error: impl Into<String>) -> AgentRun {
        self.ended(&Outcome::error(error))
    }

    /// Whoever asked for it stopped it.
    #[must_use]
    pub fn cancelled(self) -> AgentRun {
        self.ended(&Outcome::interrupted(Outcome::CANCELLED))
    }

    /// Something else stopped it, or its process went away.
    #[must_use]
    pub fn interrupted(self, error: impl Into<String>) -> AgentRun {
        let outcome = Outcome { error: Some(error.into()), ..Outcome::interrupted(Outcome::LEASE_EXPIRED) };
        self.ended(&outcome)
    }

    fn ended(self, outcome: &Outcome) -> AgentRun {
        let took = self.finished_at.millis_since(self.started_at);
        AgentRun {
            agent_run_id: self.about.agent_run_id,
            agent: self.about.agent,
            owner_id: self.owner_id,
            subject_id: self.about.subject_id,
            thread_id: None,
            run_id: None,
            parent_agent_run_id: self.about.parent_agent_run_id,
            goal: self.about.goal,
            status: AgentRunStatus::of(outcome),
            output: None,
            steps: self.steps,
            usage: AgentUsage { latency_ms: self.usage.latency_ms.or(Some(took)), ..self.usage },
            model: self.model,
            confidence: None,
            error: outcome.error.clone(),
            started_at: self.started_at,
            finished_at: Some(self.finished_at),
            created_at: Timestamp::now(),
        }
    }
}

/// The most characters of a goal in a listing.
pub const SUMMARY_GOAL_CHARS: u32 = 120;

/// An agent run without its output and steps, and with the beginning of its goal: what lists give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentRunSummary {
    /// Its id.
    pub agent_run_id: AgentRunId,
    /// The agent.
    pub agent: String,
    /// Who may see it.
    pub owner_id: Option<OwnerId>,
    /// What it is about.
    pub subject_id: Option<String>,
    /// The thread its run is on.
    pub thread_id: Option<ThreadId>,
    /// Its run.
    pub run_id: Option<RunId>,
    /// The agent run that delegated to it.
    pub parent_agent_run_id: Option<AgentRunId>,
    /// The first 120 characters of its goal.
    pub goal: String,
    /// Where it stands.
    pub status: AgentRunStatus,
    /// What it took; zeros while it goes on.
    pub usage: AgentUsage,
    /// The model it mainly used.
    pub model: Option<String>,
    /// How sure it is of its output.
    pub confidence: Option<f64>,
    /// What went wrong.
    pub error: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

/// What is stored of an agent run when its steps are folded out of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedSteps {
    /// What it came to.
    pub output: Option<String>,
    /// What it did.
    pub steps: Vec<AgentStep>,
    /// What it took.
    pub usage: AgentUsage,
    /// The model it mainly used.
    pub model: Option<String>,
    /// How sure it is of its output.
    pub confidence: Option<f64>,
}

impl FoldedSteps {
    /// Checks what is to be stored and makes it what every backend stores. For those who implement a store.
    pub fn prepare(mut self) -> Result<Self> {
        check_confidence(self.confidence)?;
        self.usage.check()?;
        self.output = self.output.map(|output| text::clean(&output).into_owned());
        self.model = self.model.map(|model| text::clean(&model).into_owned());
        prepare_steps(&mut self.steps)?;
        Ok(self)
    }
}
