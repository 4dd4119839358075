//! Agent runs whole: what is stored of them, or what the log says while that is not folded.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::tail::pause_after;
use super::{AgentRunStanding, EventFilter, Ledger, TailItem};
use crate::record::{
    AgentRun, AgentRunStatus, AgentRunSummary, AgentStep, AgentUsage, FoldedSteps, MAX_STEPS_BYTES,
};
use crate::view::transcript::{MAX_STEP_BYTES, Transcript};
use crate::{AgentRunId, Error, ErrorKind, MAX_LIMIT, Result, RunId, Scope, SeqRange, ThreadId};

/// How many events of a run are read at once.
const PAGE: u32 = 200;

/// How large payloads of steps are at most. The later ones are for transcripts that do not fit otherwise.
const PAYLOADS: [usize; 4] = [MAX_STEP_BYTES, MAX_STEP_BYTES / 16, MAX_STEP_BYTES / 256, 256];

/// The answer of [`Ledger::fold_ended`].
#[derive(Debug, Default)]
pub struct FoldedEnds {
    /// The agent runs whose steps this call stored.
    pub folded: Vec<AgentRunId>,
    /// Those whose steps could not be stored, and why. They stay readable from the log.
    pub failed: Vec<(AgentRunId, Error)>,
}

impl Ledger {
    /// An agent run with its whole transcript: as it is stored, or as the log says it while it goes on and
    /// until it is folded. Both are the same to the byte.
    ///
    /// A transcript of more than [`MAX_STEPS_BYTES`] has its payloads cut further.
    pub async fn agent_run(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<AgentRun> {
        let stored = self.agent_runs().get(scope, agent_run).await?;
        if stored.folded {
            return Ok(stored.agent_run);
        }
        let summary = stored.agent_run.clone().into_summary();
        let standing = AgentRunStanding { summary, steps: None };
        match self.unfolded(&standing) {
            None => Ok(stored.agent_run),
            Some((thread, run)) => {
                let folded = match self.transcribed(scope, &standing, &thread, &run).await {
                    Ok(folded) => folded,
                    // Events may be gone as soon as they are folded.
                    Err(error) => return self.folded_since(scope, agent_run, error).await,
                };
                let FoldedSteps { output, steps, usage, model, confidence } = folded;
                Ok(AgentRun { output, steps, usage, model, confidence, ..stored.agent_run })
            }
        }
    }

    async fn folded_since(&self, scope: &Scope, id: &AgentRunId, error: Error) -> Result<AgentRun> {
        let stored = self.agent_runs().get(scope, id).await?;
        if stored.folded { Ok(stored.agent_run) } else { Err(error) }
    }

    /// Stores the transcript of an agent run that has ended with its row, and says whether this call did: it
    /// is done once. `Conflict` where the agent run goes on.
    pub async fn fold_agent_run(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<bool> {
        let stored = self.agent_runs().standing(scope, agent_run).await?;
        let Some((thread, run)) = self.unfolded(&stored) else { return Ok(false) };
        if stored.summary.status.is_running() {
            return Err(Error::conflict("agent run status", "ended", &stored.summary.status));
        }
        let folded = match self.transcribed(scope, &stored, &thread, &run).await {
            Ok(folded) => folded,
            // Its run was deleted: there is nothing left to be read.
            Err(error) if error.kind() == ErrorKind::NotFound => nothing_left(&stored.summary),
            Err(error) => return Err(error),
        };
        self.agent_runs().fold(scope, agent_run, folded).await
    }

    /// Folds the agent runs that ended and that nobody folded, at most `limit`: those whose process was gone
    /// right after their end, or before it. One that cannot be folded keeps no other from it. For the
    /// system only.
    pub async fn fold_ended(&self, scope: &Scope, limit: u32) -> Result<FoldedEnds> {
        let mut ends = FoldedEnds::default();
        let mut after: Option<AgentRunId> = None;
        loop {
            let left = limit.saturating_sub(u32::try_from(ends.folded.len()).unwrap_or(u32::MAX));
            if left == 0 && after.is_some() {
                return Ok(ends);
            }
            let page = left.min(MAX_LIMIT);
            let unfolded = self.agent_runs().list_unfolded(scope, after.as_ref(), page).await?;
            let is_last = unfolded.len() < page as usize;
            after = unfolded.last().map(|last| last.agent_run_id.clone());
            for found in unfolded {
                match self.fold_agent_run(scope, &found.agent_run_id).await {
                    Ok(true) => ends.folded.push(found.agent_run_id),
                    // Another folded or deleted it.
                    Ok(false) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => ends.failed.push((found.agent_run_id, error)),
                }
            }
            if is_last {
                return Ok(ends);
            }
        }
    }

    /// Folds the agent run of a run that has just ended. What fails is repeated by the next
    /// [`Ledger::fold_ended`], and the transcript is in the log until then.
    pub(super) async fn fold_after_end(&self, scope: &Scope, agent_run: Option<&AgentRunId>) {
        if let Some(agent_run) = agent_run {
            let _ = self.fold_agent_run(scope, agent_run).await;
        }
    }

    /// Follows the steps of an agent run from the one after `after`, or from the first, until it has
    /// ended: what a reader needs that lost its connection. Each is the step that will be stored.
    ///
    /// Appends of this process are seen at once, those of others within `poll`. The stream ends after its
    /// first error.
    pub async fn follow_steps(
        &self,
        scope: &Scope,
        agent_run: &AgentRunId,
        after: Option<u64>,
        poll: Duration,
    ) -> Result<BoxStream<'static, Result<AgentStep>>> {
        let stored = self.agent_runs().standing(scope, agent_run).await?;
        let is_wanted = move |step: &AgentStep| after.is_none_or(|after| step.index > after);
        let Some((thread, run)) = self.unfolded(&stored) else {
            let steps = self.agent_runs().get(scope, agent_run).await?.agent_run.steps;
            return Ok(stream::iter(steps.into_iter().filter(is_wanted).map(Ok)).boxed());
        };
        let first = self.runs().get(scope, &thread, &run).await?.first_seq.unwrap_or(1);
        let tail = self.tail(scope.clone(), thread, first.saturating_sub(1), poll);
        let steps = Following {
            ledger: self.clone(),
            scope: scope.clone(),
            agent_run: agent_run.clone(),
            run,
            source: Source::Log(tail),
            transcript: Transcript::default(),
            told: 0,
        };
        let steps =
            stream::unfold(steps, |mut steps| async move { steps.next().await.map(|step| (step, steps)) });
        Ok(steps.filter(move |step| std::future::ready(step.as_ref().map_or(true, is_wanted))).boxed())
    }

    /// The run whose events are the transcript, where that is not stored.
    fn unfolded(&self, stored: &AgentRunStanding) -> Option<(ThreadId, RunId)> {
        if stored.is_folded() {
            return None;
        }
        Some((stored.summary.thread_id.clone()?, stored.summary.run_id.clone()?))
    }

    /// What the log says of an agent run, in pages, however long it is.
    async fn transcribed(
        &self,
        scope: &Scope,
        stored: &AgentRunStanding,
        thread: &ThreadId,
        run: &RunId,
    ) -> Result<FoldedSteps> {
        // First: what the events say after that is no more than this.
        let totals = self.runs().get(scope, thread, run).await?;
        let filter = EventFilter::of_run(run.clone());
        let mut payloads = PAYLOADS.into_iter();
        'cut: loop {
            let Some(payload_bytes) = payloads.next() else {
                let (limit, actual) = (MAX_STEPS_BYTES as u64, MAX_STEPS_BYTES as u64 + 1);
                return Err(Error::TooLarge { field: "steps", limit, actual });
            };
            let mut transcript = Transcript::with_payloads_of(payload_bytes);
            let (mut steps, mut bytes, mut after) = (Vec::new(), 0_usize, 0);
            loop {
                let range = SeqRange::after(after, PAGE);
                let page = self.events().list_events(scope, thread, &filter, &range).await?;
                for event in &page.items {
                    after = event.seq;
                    let Some(step) = transcript.take(event) else { continue };
                    bytes += step.bytes();
                    if bytes > MAX_STEPS_BYTES {
                        continue 'cut;
                    }
                    steps.push(step);
                }
                if !page.has_more {
                    break;
                }
            }
            let completed = stored.summary.status == AgentRunStatus::Completed;
            return Ok(FoldedSteps {
                output: transcript.output().filter(|_| completed).map(str::to_owned),
                confidence: transcript.confidence().filter(|_| completed),
                usage: transcript.usage(&totals),
                model: totals.model_name.or_else(|| stored.summary.model.clone()),
                steps,
            });
        }
    }
}

/// The steps of an agent run as they are stored.
struct Following {
    ledger: Ledger,
    scope: Scope,
    agent_run: AgentRunId,
    run: RunId,
    source: Source,
    transcript: Transcript,
    /// How many steps were given.
    told: u64,
}

enum Source {
    Log(BoxStream<'static, Result<TailItem>>),
    /// What was folded before it could be read from the log.
    Stored(std::vec::IntoIter<AgentStep>),
    Over,
}

impl Following {
    async fn next(&mut self) -> Option<Result<AgentStep>> {
        loop {
            let item = match &mut self.source {
                Source::Over => return None,
                Source::Stored(steps) => return steps.next().map(Ok),
                Source::Log(_) if self.transcript.is_over() => return None,
                Source::Log(tail) => tail.next().await?,
            };
            match item {
                Ok(TailItem::Event(event)) if event.run_id.as_ref() == Some(&self.run) => {
                    if let Some(step) = self.transcript.take(&event) {
                        self.told = step.index + 1;
                        return Some(Ok(step));
                    }
                }
                Ok(TailItem::Event(_)) => {}
                Ok(TailItem::Gap { .. }) => {
                    if let Err(error) = self.look().await {
                        self.source = Source::Over;
                        return Some(Err(error));
                    }
                }
                Err(error) => {
                    self.source = Source::Over;
                    return Some(Err(error));
                }
            }
        }
    }

    /// What is gone from the log may be the run's end, which nothing tells again: what is stored does. Nothing goes of
    /// a run that goes on, nor of one that has ended until its steps are folded.
    async fn look(&mut self) -> Result<()> {
        let mut failures = 0;
        let stored = loop {
            match self.ledger.agent_runs().standing(&self.scope, &self.agent_run).await {
                Err(error) if error.is_retryable() && !self.ledger.events().signal().is_closed() => {
                    tokio::time::sleep(pause_after(failures)).await;
                    failures += 1;
                }
                stored => break stored?,
            }
        };
        if stored.is_folded() {
            let stored = self.ledger.agent_runs().get(&self.scope, &self.agent_run).await?;
            let mut steps = stored.agent_run.steps;
            let told = usize::try_from(self.told).map_or(steps.len(), |told| told.min(steps.len()));
            self.source = Source::Stored(steps.split_off(told).into_iter());
        }
        Ok(())
    }
}

/// The transcript of an agent run whose log is gone.
fn nothing_left(agent_run: &AgentRunSummary) -> FoldedSteps {
    let latency_ms = agent_run.finished_at.map(|at| at.millis_since(agent_run.started_at));
    FoldedSteps {
        output: None,
        steps: Vec::new(),
        usage: AgentUsage { latency_ms, ..AgentUsage::default() },
        model: agent_run.model.clone(),
        confidence: None,
    }
}
