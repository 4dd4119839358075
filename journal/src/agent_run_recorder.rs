//! Recording an agent run: a goal, everything done to reach it, and what came of it.
//!
//! The record is a by-product of the work and never decides over it. So the ends of a recorder take
//! no part in the result: they report beside it what became of the record, and go on to their end
//! though whoever asked for them goes away, as an HTTP request does when its reader closes the page.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use runledger_core::view::transcript::Told;
use runledger_core::{
    AgentRun, AgentRunId, AgentRunStatus, Applied, BudgetLimit, Error, Ledger, NewAgentRun, NewRun, Outcome,
    RecordedAgentRun, Result, Run, Scope, Timestamp,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::callbacks::RuntimeCallbacks;
use crate::lifecycle::{Admission, ManagedRun, RunManager};
use crate::report::{FinishedRun, Report};
use crate::run_journal::{RunJournal, Settings};

/// How often a finished record is sent to a ledger that is away.
const TRIES: u32 = 8;

/// Records an agent run while it goes on.
///
/// The agent run's row is stored when this is made, in the transaction that admits its run; its steps are
/// what the callbacks record; its end is one of the methods that take the recorder. Dropped without one, a
/// run of a [`RunManager`] is ended as interrupted, and any other is left to whoever sweeps for runs without
/// a worker: its agent run is then `interrupted`, with all steps that were recorded.
#[derive(Debug)]
pub struct AgentRunRecorder {
    agent_run_id: AgentRunId,
    held: Held,
    runtime: Option<Handle>,
}

#[derive(Debug)]
enum Held {
    Managed(Box<ManagedRun>),
    Own(Box<RunJournal>),
    Nothing(Error),
}

/// What is recorded of a run that could not be begun.
struct Unrecorded;

impl RuntimeCallbacks for Unrecorded {}

/// A result as it was given, and beside it what became of its record.
#[derive(Debug)]
#[must_use = "the result of the agent is in it"]
pub struct Recorded<T, R = EndedAgentRun> {
    /// The result, which nothing that happened to the record has changed.
    pub result: T,
    /// What is stored, or why it is not known to be. That was logged.
    pub persisted: Result<R>,
}

/// An agent run that has ended, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedAgentRun {
    /// The agent run.
    pub agent_run_id: AgentRunId,
    /// How it ended. Another end than the one that was given says that somebody asked it to stop, or took it.
    pub status: AgentRunStatus,
    /// Whether this recorder ended it; if not, somebody else had.
    pub ended_here: bool,
    /// Its run.
    pub run: Run,
    /// What became of everything recorded.
    pub report: Report,
}

/// The answer to the end of an agent run. It was asked for already, and goes on without this.
#[derive(Debug)]
#[must_use = "it says whether the end is stored"]
pub struct Ending(oneshot::Receiver<Result<EndedAgentRun>>);

impl Future for Ending {
    type Output = Result<EndedAgentRun>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(runtime_gone())))
    }
}

impl AgentRunRecorder {
    /// Admits a run with its agent run, and opens its journal: see [`RunJournal::begin_with`]. With
    /// [`NewRun::create_missing`] it makes the thread too. Must be called in a tokio runtime.
    pub async fn begin(
        ledger: &Ledger,
        scope: &Scope,
        agent_run: NewAgentRun,
        mut run: NewRun,
        settings: Settings,
    ) -> Result<Self> {
        let agent_run_id = agent_run.agent_run_id.clone();
        run.admission.agent_run = Some(agent_run);
        let journal = RunJournal::begin_with(ledger, scope, run, settings).await?;
        Ok(Self { agent_run_id, held: Held::Own(Box::new(journal)), runtime: Handle::try_current().ok() })
    }

    /// As [`AgentRunRecorder::begin`], under a lease of the manager's: should this process go away,
    /// the sweep of another ends the agent run. Where the run has to wait for others of its thread, this
    /// waits too. An idempotency key that stands for another run already is [`Error::AlreadyExists`].
    pub async fn begin_managed(
        manager: &RunManager,
        scope: &Scope,
        agent_run: NewAgentRun,
        mut run: NewRun,
    ) -> Result<Self> {
        let agent_run_id = agent_run.agent_run_id.clone();
        run.admission.agent_run = Some(agent_run);
        let run = match manager.admit(scope, run).await? {
            Admission::Active(run) => run,
            Admission::Queued(mut queued) => match queued.wait().await? {
                Some(run) => run,
                None => return Err(Error::conflict("run status", "pending", "ended while it was queued")),
            },
            Admission::Existing(run) => return Err(Error::already_exists("run", &run.run_id)),
        };
        Ok(Self { agent_run_id, held: Held::Managed(Box::new(run)), runtime: Handle::try_current().ok() })
    }

    /// A recorder that records nothing, for an agent that works though its run could not be begun: its
    /// end reports why.
    ///
    /// ```ignore
    /// let recorder = match AgentRunRecorder::begin(&ledger, &scope, agent_run, run, settings).await {
    ///     Ok(recorder) => recorder,
    ///     Err(error) => AgentRunRecorder::unrecorded(id, error),
    /// };
    /// ```
    #[must_use]
    pub fn unrecorded(agent_run_id: AgentRunId, error: Error) -> Self {
        Self { agent_run_id, held: Held::Nothing(error), runtime: Handle::try_current().ok() }
    }

    /// The agent run.
    #[must_use]
    pub fn agent_run_id(&self) -> &AgentRunId {
        &self.agent_run_id
    }

    /// The run as it was admitted, where it was.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        self.own().map(RunJournal::run)
    }

    /// Where the runtime's callbacks go.
    #[must_use]
    pub fn callbacks(&self) -> &dyn RuntimeCallbacks {
        match self.own() {
            Some(journal) => journal,
            None => &Unrecorded,
        }
    }

    /// Cancelled when the agent is to stop.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        match &self.held {
            Held::Managed(run) => run.cancel_token(),
            Held::Own(journal) => journal.cancel_token(),
            Held::Nothing(_) => CancellationToken::new(),
        }
    }

    fn own(&self) -> Option<&RunJournal> {
        match &self.held {
            Held::Managed(run) => Some(run.journal()),
            Held::Own(journal) => Some(journal),
            Held::Nothing(_) => None,
        }
    }

    /// It reached its goal, with this output and, where it says so, how sure it is of it, from 0 to 1.
    ///
    /// This, as every end, is asked for at once and goes on though the answer is not waited for.
    pub fn completed(self, output: impl Into<String>, confidence: Option<f64>) -> Ending {
        self.end_with(Outcome::success(), Some(Told { output: output.into(), confidence }))
    }

    /// It is ended because its budget was spent; what it did is kept, as by all that follow.
    pub fn budget_exhausted(self, limit: BudgetLimit) -> Ending {
        self.end_with(Outcome::budget_exhausted(limit), None)
    }

    /// It failed.
    pub fn failed(self, error: impl fmt::Display) -> Ending {
        self.end_with(Outcome::error(error.to_string()), None)
    }

    /// Whoever asked for it stopped it.
    pub fn cancelled(self) -> Ending {
        self.end_with(Outcome::interrupted(Outcome::CANCELLED), None)
    }

    /// Ends it as a result says, and gives the result back as it is: completed with the text that
    /// `output` makes of it, or failed with its error.
    pub fn finish<T, E: fmt::Display>(
        self,
        result: std::result::Result<T, E>,
        output: impl FnOnce(&T) -> String,
    ) -> impl Future<Output = Recorded<std::result::Result<T, E>>> {
        let told = result.as_ref().map(|value| Told { output: output(value), confidence: None });
        let ended = match told {
            Ok(told) => self.end_with(Outcome::success(), Some(told)),
            Err(error) => {
                let error = error.to_string();
                self.end_with(Outcome::error(error), None)
            }
        };
        async move { Recorded { persisted: ended.await, result } }
    }

    fn end_with(self, outcome: Outcome, told: Option<Told>) -> Ending {
        if let (Some(told), Some(journal)) = (&told, self.own()) {
            journal.record_output(told, Timestamp::now());
        }
        let (reply, answer) = oneshot::channel();
        if let Some(runtime) = self.runtime.clone() {
            runtime.spawn(async move {
                let agent_run_id = self.agent_run_id.clone();
                let ended = self.end_now(outcome).await;
                if let Err(error) = &ended {
                    tracing::error!(%agent_run_id, %error, "the end of an agent run is not stored yet");
                }
                let _ = reply.send(ended);
            });
        }
        Ending(answer)
    }

    async fn end_now(self, outcome: Outcome) -> Result<EndedAgentRun> {
        let (finished, report) = match self.held {
            Held::Nothing(error) => return Err(error),
            Held::Managed(mut run) => (run.finish(outcome).await, run.close().await),
            Held::Own(journal) => (journal.finish(outcome).await, journal.close().await),
        };
        let FinishedRun { run, ended_here, report: so_far } = finished?;
        Ok(EndedAgentRun {
            agent_run_id: self.agent_run_id,
            status: AgentRunStatus::of_run(&run),
            ended_here,
            run,
            report: report.unwrap_or(so_far),
        })
    }
}

/// Stores a finished agent run of which only the record is there, and gives the result back as it is.
///
/// It is asked for at once, sent again while the ledger is away, and goes on though the answer is not
/// waited for; the same record twice is stored once. Must be called in a tokio runtime.
pub fn record_agent_run<T>(
    ledger: &Ledger,
    scope: &Scope,
    agent_run: AgentRun,
    result: T,
) -> impl Future<Output = Recorded<T, RecordedAgentRun>> + use<T> {
    let (ledger, scope) = (ledger.clone(), scope.clone());
    let (reply, answer) = oneshot::channel();
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let mut backoff = Backoff::new(&Settings::default());
            let recorded = loop {
                match ledger.agent_runs().record(&scope, agent_run.clone()).await {
                    Err(error) if error.is_retryable() && backoff.tried < TRIES => {
                        tokio::time::sleep(backoff.next_delay()).await;
                    }
                    recorded => break recorded,
                }
            };
            if let Err(error) = &recorded {
                let agent_run_id = &agent_run.agent_run_id;
                tracing::error!(%agent_run_id, %error, "an agent run is not stored");
            }
            let _ = reply.send(recorded);
        });
    }
    async move { Recorded { persisted: answer.await.unwrap_or_else(|_| Err(runtime_gone())), result } }
}

fn runtime_gone() -> Error {
    Error::Unavailable {
        applied: Applied::Unknown,
        source: "there is no tokio runtime, or it is gone".into(),
    }
}
