//! The stores of one backend, and what is the same for all of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;

use super::lifecycle::LOOKS;
use super::tail::{self, TailItem};
use super::{
    AgentRunStore, ApiTokenStore, BlobStore, Capabilities, ContextStore, EventStore, FeedbackStore,
    ImportStore, InteractionStore, ItemStore, RunStore, SearchStore, ThreadStore, UsageStore,
};
use crate::commit::{Admission, Commit, JournalMark, Receipt, RunProgress, Transition};
use crate::record::{
    CancelAction, EventDraft, NewInteraction, NewThread, ONCE_TERMINAL, Outcome, Run, RunStatus, UsageDraft,
    WhenTaken,
};
use crate::{Error, ErrorKind, Result, RunId, Scope, ThreadId, Timestamp};

/// The stores of one backend. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Stores>);

/// What a [`Ledger`] is made of.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is documented at its trait")]
pub struct Stores {
    pub threads: Arc<dyn ThreadStore>,
    pub runs: Arc<dyn RunStore>,
    pub events: Arc<dyn EventStore>,
    pub items: Arc<dyn ItemStore>,
    pub usage: Arc<dyn UsageStore>,
    pub context: Arc<dyn ContextStore>,
    pub interactions: Arc<dyn InteractionStore>,
    pub agent_runs: Arc<dyn AgentRunStore>,
    pub blobs: Arc<dyn BlobStore>,
    pub imports: Arc<dyn ImportStore>,
    pub search: Arc<dyn SearchStore>,
    pub feedback: Arc<dyn FeedbackStore>,
    pub api_tokens: Arc<dyn ApiTokenStore>,
}

impl Stores {
    /// One store that is all of them.
    #[must_use]
    pub fn all<S>(store: Arc<S>) -> Self
    where
        S: ThreadStore
            + RunStore
            + EventStore
            + ItemStore
            + UsageStore
            + ContextStore
            + InteractionStore
            + AgentRunStore
            + BlobStore
            + ImportStore
            + SearchStore
            + FeedbackStore
            + ApiTokenStore,
    {
        Self {
            threads: Arc::<S>::clone(&store),
            runs: Arc::<S>::clone(&store),
            events: Arc::<S>::clone(&store),
            items: Arc::<S>::clone(&store),
            usage: Arc::<S>::clone(&store),
            context: Arc::<S>::clone(&store),
            interactions: Arc::<S>::clone(&store),
            agent_runs: Arc::<S>::clone(&store),
            blobs: Arc::<S>::clone(&store),
            imports: Arc::<S>::clone(&store),
            search: Arc::<S>::clone(&store),
            feedback: Arc::<S>::clone(&store),
            api_tokens: store,
        }
    }
}

/// A run to admit.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The thread it runs on.
    pub thread_id: ThreadId,
    /// Its id.
    pub run_id: RunId,
    /// What is stored of it.
    pub admission: Admission,
    /// Its input, durable before any model is called.
    pub input: Vec<EventDraft>,
    /// Creates the thread in the same transaction if it does not exist.
    pub create_missing: Option<NewThread>,
}

impl NewRun {
    /// A run without input on an existing thread.
    #[must_use]
    pub fn new(thread_id: ThreadId, run_id: RunId) -> Self {
        Self { thread_id, run_id, admission: Admission::default(), input: Vec::new(), create_missing: None }
    }
}

/// The answer of [`Ledger::admit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The run: the new one, or the one its idempotency key stands for.
    pub run: Run,
    /// Whether it is the new one. If not, nothing was written.
    pub created: bool,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The run's thread.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// Its epoch, and how many events its journal sent before these.
    pub mark: JournalMark,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// The last events; exactly one has the once key [`ONCE_TERMINAL`](crate::ONCE_TERMINAL).
    pub events: Vec<EventDraft>,
    /// The last model calls.
    pub usage: Vec<UsageDraft>,
    /// What else is known of the run.
    pub progress: RunProgress,
    /// What it asks a person; then it ends as interrupted, waiting for input.
    pub asks: Vec<NewInteraction>,
}

impl Finish {
    fn into_commit(self) -> Commit {
        Commit {
            mark: Some(self.mark),
            events: self.events,
            usage: self.usage,
            progress: self.progress,
            transition: Some(Transition::Finish { outcome: self.outcome, asks: self.asks, at: self.at }),
            ..Commit::of_run(self.thread_id, self.run_id)
        }
    }

    /// The same end of a run that was asked to stop.
    fn into_asked(mut self, outcome: Outcome) -> Self {
        for event in &mut self.events {
            if event.once_key.as_deref() == Some(ONCE_TERMINAL) {
                *event = EventDraft::terminal(&outcome, None, event.created_at);
            }
        }
        // Whoever asked it to stop waits for no answer.
        Self { outcome, asks: Vec::new(), ..self }
    }
}

/// The answer of [`Ledger::finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The run with the outcome that is stored.
    pub run: Run,
    /// What this call stored; `None` where the run had ended before and nothing was written.
    pub receipt: Option<Receipt>,
}

impl Ledger {
    /// Puts the stores of one backend together.
    #[must_use]
    pub fn new(stores: Stores) -> Self {
        Self(Arc::new(stores))
    }

    /// The same stores with another log, for those who wrap one.
    #[must_use]
    pub fn with_events(&self, events: Arc<dyn EventStore>) -> Self {
        Self::new(Stores { events, ..Stores::clone(&self.0) })
    }

    /// What the backend can do. What it cannot is [`Error::Unsupported`].
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.0.events.capabilities()
    }

    /// Threads.
    #[must_use]
    pub fn threads(&self) -> &dyn ThreadStore {
        &*self.0.threads
    }

    /// Runs.
    #[must_use]
    pub fn runs(&self) -> &dyn RunStore {
        &*self.0.runs
    }

    /// The log.
    #[must_use]
    pub fn events(&self) -> &dyn EventStore {
        &*self.0.events
    }

    /// The item index.
    #[must_use]
    pub fn items(&self) -> &dyn ItemStore {
        &*self.0.items
    }

    /// Usage.
    #[must_use]
    pub fn usage(&self) -> &dyn UsageStore {
        &*self.0.usage
    }

    /// Context windows.
    #[must_use]
    pub fn context(&self) -> &dyn ContextStore {
        &*self.0.context
    }

    /// Questions to people.
    #[must_use]
    pub fn interactions(&self) -> &dyn InteractionStore {
        &*self.0.interactions
    }

    /// Agent runs.
    #[must_use]
    pub fn agent_runs(&self) -> &dyn AgentRunStore {
        &*self.0.agent_runs
    }

    /// Feedback.
    #[must_use]
    pub fn feedback(&self) -> &dyn FeedbackStore {
        &*self.0.feedback
    }

    /// Tokens of an API.
    #[must_use]
    pub fn api_tokens(&self) -> &dyn ApiTokenStore {
        &*self.0.api_tokens
    }

    /// Large payloads.
    #[must_use]
    pub fn blobs(&self) -> &dyn BlobStore {
        &*self.0.blobs
    }

    /// Where imports stand.
    #[must_use]
    pub fn imports(&self) -> &dyn ImportStore {
        &*self.0.imports
    }

    /// The index that [`Ledger::search`] reads.
    #[must_use]
    pub fn search_index(&self) -> &dyn SearchStore {
        &*self.0.search
    }

    /// Admits a run: its row, the thread's slot, a new epoch and its input in one commit.
    ///
    /// With an idempotency key, a second admission is answered with the run of the first if the
    /// request is the same, and is `Conflict` if it is not. What a slot that another run holds means
    /// is the admission's [`MultitaskStrategy`](crate::MultitaskStrategy): the answer is `Conflict`, or the
    /// other run is ended, or this one is queued, as [`Admitted::run`] tells.
    pub async fn admit(&self, scope: &Scope, new: NewRun) -> Result<Admitted> {
        if new.admission.payer_run_id.is_some() {
            let reason = "is set; a run that another one pays for is handed over by Ledger::delegate";
            return Err(Error::invalid("payer_run_id", reason));
        }
        self.admit_now(scope, new).await
    }

    /// The same for a run that another one may pay for.
    pub(super) async fn admit_now(&self, scope: &Scope, new: NewRun) -> Result<Admitted> {
        if let Some(run) = self.admitted_before(scope, &new).await? {
            return Ok(Admitted { run, created: false });
        }
        let commit = Commit {
            create_missing: new.create_missing.clone(),
            transition: Some(Transition::Admit(Box::new(new.admission.clone()))),
            ..Commit::of_run(new.thread_id.clone(), new.run_id.clone())
        }
        .with_events(new.input.clone());
        match self.0.events.append(scope, commit).await {
            Ok(receipt) => {
                let run = self.0.runs.get(scope, &new.thread_id, &new.run_id).await?;
                // Somebody may have acquired it since; under which epoch it was admitted is certain.
                let waits = new.admission.multitask_strategy.when_taken() == WhenTaken::Wait;
                let run = if waits { run } else { Run { epoch: receipt.epoch, ..run } };
                Ok(Admitted { run, created: true })
            }
            // Somebody with the same key may have come first.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) => {
                match self.admitted_before(scope, &new).await? {
                    Some(run) => Ok(Admitted { run, created: false }),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn admitted_before(&self, scope: &Scope, new: &NewRun) -> Result<Option<Run>> {
        let Some(key) = &new.admission.idempotency_key else { return Ok(None) };
        match self.0.runs.find_by_idempotency_key(scope, &new.thread_id, key).await {
            Ok(Some(run)) if run.request_hash == new.admission.request_hash => Ok(Some(run)),
            Ok(Some(run)) => Err(Error::conflict(
                "idempotency_key",
                run.request_hash.as_deref().unwrap_or("no request_hash"),
                new.admission.request_hash.as_deref().unwrap_or("no request_hash"),
            )),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound && new.create_missing.is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a run: its last events, usage, status and totals, and the thread's status, in one commit.
    ///
    /// A run that was asked to stop ends as it was asked to, whatever `finish` says, with the events
    /// and usage that it brings: [`Finished::run`] tells. On a run that has ended nothing is written
    /// and the stored outcome is returned. The transcript of its agent run is folded right after, or
    /// by the next [`Ledger::fold_ended`].
    ///
    /// An ephemeral thread is deleted right after its run is stored as a success, and so is `NotFound` for
    /// whoever asks later. Runs of it and of those below it that others pay for are settled before.
    pub async fn finish(&self, scope: &Scope, finish: Finish) -> Result<Finished> {
        let finished = self.end(scope, finish).await?;
        self.fold_after_end(scope, finished.run.agent_run_id.as_ref()).await;
        if finished.receipt.is_some() && finished.run.status == RunStatus::Success {
            self.discard_ephemeral(scope, &finished.run).await;
        }
        Ok(finished)
    }

    async fn end(&self, scope: &Scope, finish: Finish) -> Result<Finished> {
        let (thread, run) = (finish.thread_id.clone(), finish.run_id.clone());
        let mut looks = 1;
        let asked = loop {
            let error = match self.0.events.append(scope, finish.clone().into_commit()).await {
                Ok(receipt) => {
                    let run = self.0.runs.get(scope, &thread, &run).await?;
                    return Ok(Finished { run, receipt: Some(receipt) });
                }
                Err(error) => error,
            };
            let lease = match error.kind() {
                ErrorKind::Cancelled => self.0.runs.lease(scope, &thread, &run).await?,
                // A conflict is another end under the mark of the stored one.
                ErrorKind::LeaseLost | ErrorKind::Conflict => None,
                _ => return Err(error),
            };
            if let Some(action) = lease.and_then(|lease| lease.cancel_action) {
                break action.outcome();
            }
            let stored = self.0.runs.get(scope, &thread, &run).await?;
            if stored.status.is_terminal() {
                // It may be the end that an earlier call stored in the place of this one.
                let asked = [CancelAction::Interrupt, CancelAction::Rollback].map(|action| action.outcome());
                let told = asked.into_iter().find(|asked| {
                    stored.epoch == finish.mark.epoch && stored.ended_as(asked) && *asked != finish.outcome
                });
                match told {
                    Some(told) => break told,
                    None => return Ok(Finished { run: stored, receipt: None }),
                }
            }
            // Only a run that was asked to stop and changed hands since is looked at anew.
            if error.kind() != ErrorKind::Cancelled || looks >= LOOKS {
                return Err(error);
            }
            looks += 1;
        };
        match self.0.events.append(scope, finish.into_asked(asked).into_commit()).await {
            Ok(receipt) => {
                let run = self.0.runs.get(scope, &thread, &run).await?;
                Ok(Finished { run, receipt: Some(receipt) })
            }
            // It may be stored: whoever sends it again is told.
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(error) => {
                let run = self.0.runs.get(scope, &thread, &run).await?;
                if run.status.is_terminal() { Ok(Finished { run, receipt: None }) } else { Err(error) }
            }
        }
    }

    /// Follows a thread's log from after `after_seq`, without skipping.
    ///
    /// Appends of this process are seen at once, those of others within `poll`: one query an interval looks for
    /// all who follow anything of this ledger. A database that cannot be reached right now is waited for. The stream
    /// ends after its first error, which is `NotFound` once the thread is deleted or somebody else's, and
    /// `Unavailable` once the ledger is closed.
    #[must_use]
    pub fn tail(
        &self,
        scope: Scope,
        thread: ThreadId,
        after_seq: u64,
        poll: Duration,
    ) -> BoxStream<'static, Result<TailItem>> {
        let (events, threads) = (Arc::clone(&self.0.events), Arc::clone(&self.0.threads));
        tail::tail(events, threads, scope, thread, after_seq, poll)
    }
}
