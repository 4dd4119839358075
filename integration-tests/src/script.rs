//! What the runs of the tests that break things write: the same each time it is told, so that a
//! process that was killed is followed by one that tells it again from the beginning.
//!
//! A thread has a run written by commits with marks, one written through a [`RunJournal`], and one
//! that is deleted in the end; between them the thread itself is edited.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use runledger_core::{
    Admission, Caller, Category, Commit, Error, ErrorKind, EventDraft, EventType, Finish, ItemId, ItemKind,
    ItemMark, ItemStatus, JournalMark, Ledger, NewRun, NewThread, ONCE_TERMINAL, Outcome, RawJson, Result,
    RunId, RunProgress, RunStatus, Scope, SourceId, ThreadId, ThreadPatch, Timestamp, TokenCounts,
    Transition, UsageDraft, event_type,
};
use runledger_journal::callbacks::{ExternalUsage, ItemRecord, RuntimeCallbacks};
use runledger_journal::{Overflow, Report, RunJournal, Settings, SpoolSettings, user_message};
use serde::{Deserialize, Serialize};

/// The once key of the event that is put after the first half of a run's steps.
const ONCE_DELIVERY: &str = "delivery";

/// How long a call waits before it is made again that the database was away for.
const PAUSE: Duration = Duration::from_millis(20);

const SCOPE: Scope = Scope::System;

/// Who writes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Commits with marks, sent from the first again.
    Marks,
    /// A journal, which is replayed from the beginning.
    Journal,
}

/// A run: its input, its steps of three events and one model call each, its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunScript {
    /// The thread, which exists.
    pub thread: ThreadId,
    /// The run.
    pub run: RunId,
    /// Who writes it.
    pub writer: Writer,
    /// How many steps.
    pub steps: u64,
    /// How many bytes the payload of a step's message has at least.
    pub padding: usize,
    /// Where its journal spools, if it does.
    pub spool: Option<Spooling>,
}

/// A spool that takes over soon, with little memory beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spooling {
    /// Its folder.
    pub folder: PathBuf,
    /// So many bytes a file may have; beyond, it is as a disk that is full.
    pub max_file_bytes: u64,
}

impl Spooling {
    fn overflow(&self) -> Overflow {
        Overflow::Spool(SpoolSettings {
            after: Duration::from_millis(50),
            max_queued_events: 40,
            max_file_bytes: self.max_file_bytes,
            ..SpoolSettings::new(&self.folder)
        })
    }
}

/// What became of a run that was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What its journal reported; `None` of a run without one, and of one that had ended before.
    pub report: Option<Report>,
    /// How often something was done again because the database was away.
    pub retried: u64,
}

/// Hears how many of a run's events are acknowledged, counted from its first.
pub type Acknowledge<'a> = &'a (dyn Fn(&RunId, u64) + Sync);

impl RunScript {
    /// What stands in the log in the end, in order: a label for each event, see [`label`](Self::label).
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        let mut labels = vec![format!("{} u", event_type::ITEM_COMPLETED)];
        for step in 0..self.steps {
            labels.extend(step_labels(step));
            if self.writer == Writer::Marks && step == self.middle() {
                labels.push(ONCE_DELIVERY.to_owned());
            }
        }
        labels.push(ONCE_TERMINAL.to_owned());
        labels
    }

    /// An event's label: its once key, or its type and item.
    #[must_use]
    pub fn label(event: &runledger_core::Event) -> String {
        match (&event.once_key, &event.item) {
            (Some(key), _) => key.clone(),
            (None, Some(item)) => format!("{} {}", event.event_type, item.item_id),
            (None, None) => event.event_type.to_string(),
        }
    }

    /// The tokens of all its model calls together.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        (0..self.steps).map(|step| tokens(step).total).sum()
    }

    /// Tells the run from its beginning to its end, `batch` steps at a time, and goes on where it was
    /// told before.
    ///
    /// # Errors
    /// What the ledger answers, but for a database that is away: that is waited for.
    pub async fn tell(&self, ledger: &Ledger, batch: u64, acknowledge: Acknowledge<'_>) -> Result<Told> {
        match self.writer {
            Writer::Marks => self.tell_by_marks(ledger, batch.max(1), acknowledge).await,
            Writer::Journal => self.tell_by_journal(ledger, batch.max(1), acknowledge).await,
        }
    }

    /// The step after which the event with a once key of its own is put.
    fn middle(&self) -> u64 {
        self.steps / 2
    }

    fn new_run(&self) -> Result<NewRun> {
        let input = user_message(ItemId::new("u")?, RawJson::string("Go on."), at(0)?);
        let admission = Admission {
            idempotency_key: Some(self.run.to_string()),
            created_at: at(0)?,
            ..Admission::default()
        };
        Ok(NewRun { admission, input: vec![input], ..NewRun::new(self.thread.clone(), self.run.clone()) })
    }

    fn message(&self, step: u64) -> Result<RawJson> {
        RawJson::encode("content", &(step, "x".repeat(self.padding)))
    }

    async fn tell_by_marks(&self, ledger: &Ledger, batch: u64, acknowledge: Acknowledge<'_>) -> Result<Told> {
        let mut told = Told::default();
        let new = self.new_run()?;
        let admitted = patiently(&mut told.retried, async || ledger.admit(&SCOPE, new.clone()).await).await?;
        acknowledge(&self.run, 1);
        if admitted.run.status.is_terminal() {
            acknowledge(&self.run, self.labels().len() as u64);
            return Ok(told);
        }
        let mut mark = JournalMark { epoch: admitted.run.epoch, ordinal: 0 };
        let mut starts = admitted.run.status == RunStatus::Pending;
        let (mut step, mut acknowledged) = (0, 1);
        while step < self.steps {
            let half = if step <= self.middle() { self.middle() + 1 } else { self.steps };
            let next = (step + batch).min(half).min(self.steps);
            let transition =
                if std::mem::take(&mut starts) { Some(Transition::Start { at: at(1)? }) } else { None };
            let commit = Commit { transition, ..self.commit(step..next, mark)? };
            let count = commit.events.len() as u64;
            let receipt =
                patiently(&mut told.retried, async || ledger.events().append(&SCOPE, commit.clone()).await)
                    .await?;
            if receipt.seqs.len() as u64 != count {
                return Err(Error::corrupt("receipt", "has not one seq for each event"));
            }
            mark.ordinal += count;
            acknowledged += count;
            acknowledge(&self.run, acknowledged);
            if (step..next).contains(&self.middle()) {
                let put = || ledger.events().put_if_absent(&SCOPE, &self.thread, &self.run, delivery());
                patiently(&mut told.retried, put).await?;
                acknowledged += 1;
                acknowledge(&self.run, acknowledged);
            }
            step = next;
        }
        let finish = Finish {
            thread_id: self.thread.clone(),
            run_id: self.run.clone(),
            mark,
            outcome: Outcome::success(),
            at: at(self.steps + 1)?,
            events: vec![terminal(at(self.steps + 1)?)],
            usage: Vec::new(),
            progress: RunProgress::default(),
            asks: Vec::new(),
        };
        let finished =
            patiently(&mut told.retried, async || ledger.finish(&SCOPE, finish.clone()).await).await?;
        if finished.run.status != RunStatus::Success {
            return Err(Error::conflict("run status", "success", &finished.run.status));
        }
        acknowledge(&self.run, acknowledged + 1);
        Ok(told)
    }

    /// Some steps in one commit. The last call but one is told without tokens first and completed by
    /// the last step.
    fn commit(&self, steps: std::ops::Range<u64>, mark: JournalMark) -> Result<Commit> {
        let (mut events, mut usage) = (Vec::new(), Vec::new());
        for step in steps {
            let happened = at(step + 1)?;
            for (mark, category) in items(step)? {
                let content =
                    if category == Category::Message { self.message(step)? } else { RawJson::null() };
                events.push(EventDraft { created_at: happened, ..EventDraft::item(mark, category, content) });
            }
            let call = |step: u64, counts| -> Result<UsageDraft> {
                let id = SourceId::new(format!("{}-{step}", self.run))?;
                Ok(UsageDraft { created_at: happened, ..UsageDraft::new(id, counts) })
            };
            let last = step + 1 == self.steps;
            let counts = if step + 2 == self.steps { TokenCounts::default() } else { tokens(step) };
            usage.push(call(step, counts)?);
            if last && step > 0 {
                usage.push(call(step - 1, tokens(step - 1))?);
            }
        }
        Ok(Commit { usage, ..Commit::of_run(self.thread.clone(), self.run.clone()) }
            .with_events(events)
            .with_mark(mark))
    }

    async fn tell_by_journal(
        &self,
        ledger: &Ledger,
        batch: u64,
        acknowledge: Acknowledge<'_>,
    ) -> Result<Told> {
        let mut told = Told::default();
        let Some(journal) = patiently(&mut told.retried, || self.open(ledger)).await? else {
            acknowledge(&self.run, self.labels().len() as u64);
            return Ok(told);
        };
        let mut acknowledged = 1;
        acknowledge(&self.run, acknowledged);
        for step in 0..self.steps {
            let (happened, message) = (at(step + 1)?, self.message(step)?);
            for (mark, category) in items(step)? {
                let content = if category == Category::Message { message.clone() } else { RawJson::null() };
                let completed = mark.status != ItemStatus::InProgress;
                let record = ItemRecord { mark, category, caller: None, content: &content, at: happened };
                if completed { journal.on_item_completed(record) } else { journal.on_item_started(record) }
            }
            journal.record_external_usage(ExternalUsage {
                source_id: &step.to_string(),
                caller: Caller::lead_agent(),
                model: None,
                tokens: tokens(step),
                price: None,
                child_thread_id: None,
                at: happened,
            });
            if (step + 1) % batch == 0 {
                journal.barrier().await?;
                acknowledged = 1 + (step + 1) * STEP_EVENTS;
                acknowledge(&self.run, acknowledged);
            }
        }
        let finished = journal.finish_at(Outcome::success(), at(self.steps + 1)?).await?;
        if finished.run.status != RunStatus::Success {
            return Err(Error::conflict("run status", "success", &finished.run.status));
        }
        acknowledge(&self.run, self.labels().len() as u64);
        told.report = Some(journal.close().await?);
        Ok(told)
    }

    /// The run's journal, opened for the first time or again; `None` where the run has ended.
    async fn open(&self, ledger: &Ledger) -> Result<Option<RunJournal>> {
        let new = self.new_run()?;
        let settings = Settings {
            batch_delay: Duration::from_millis(2),
            retry_min: Duration::from_millis(5),
            retry_max: Duration::from_millis(200),
            // However long a machine that is busy with other tests takes.
            close_patience: Duration::from_secs(3_600),
            overflow: self.spool.as_ref().map_or(Overflow::Memory, Spooling::overflow),
            ..Settings::default()
        };
        match ledger.runs().get(&SCOPE, &self.thread, &self.run).await {
            Ok(run) if run.status.is_terminal() => Ok(None),
            Ok(_) => {
                let (thread, run) = (&self.thread, &self.run);
                RunJournal::replay(ledger, &SCOPE, thread, run, &new.input, settings).await.map(Some)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                RunJournal::begin_with(ledger, &SCOPE, new, settings).await.map(Some)
            }
            Err(error) => Err(error),
        }
    }
}

/// How many events a step has.
const STEP_EVENTS: u64 = 3;

fn items(step: u64) -> Result<[(ItemMark, Category); STEP_EVENTS as usize]> {
    let mark = |prefix: &str, kind, status| -> Result<ItemMark> {
        Ok(ItemMark::new(ItemId::new(format!("{prefix}{step}"))?, kind, status))
    };
    Ok([
        (mark("t", ItemKind::ToolCall, ItemStatus::InProgress)?, Category::Lifecycle),
        (mark("t", ItemKind::ToolCall, ItemStatus::Completed)?, Category::Message),
        (mark("m", ItemKind::AgentMessage, ItemStatus::Completed)?, Category::Message),
    ])
}

fn step_labels(step: u64) -> [String; STEP_EVENTS as usize] {
    let (started, completed) = (event_type::ITEM_STARTED, event_type::ITEM_COMPLETED);
    [format!("{started} t{step}"), format!("{completed} t{step}"), format!("{completed} m{step}")]
}

fn tokens(step: u64) -> TokenCounts {
    TokenCounts::of(10 + step, 1)
}

fn delivery() -> EventDraft {
    EventDraft {
        once_key: Some(ONCE_DELIVERY.to_owned()),
        ..EventDraft::new(
            EventType::from_stored(event_type::RUN_DELIVERY),
            Category::Outputs,
            RawJson::null(),
        )
    }
}

fn terminal(at: Timestamp) -> EventDraft {
    EventDraft {
        once_key: Some(ONCE_TERMINAL.to_owned()),
        created_at: at,
        ..EventDraft::new(
            EventType::from_stored(event_type::RUN_COMPLETED),
            Category::Lifecycle,
            RawJson::null(),
        )
    }
}

/// The moment that many seconds after a fixed one.
fn at(seconds: u64) -> Result<Timestamp> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX / 1_000_000);
    Timestamp::from_unix_micros(1_700_000_000_000_000_i64.saturating_add(seconds.saturating_mul(1_000_000)))
}

/// Does it again for as long as the database is away. What is done must bear being done twice.
async fn patiently<T, F: Future<Output = Result<T>>>(
    retried: &mut u64,
    mut call: impl FnMut() -> F,
) -> Result<T> {
    loop {
        match call().await {
            Err(Error::Unavailable { .. }) => {
                *retried += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// A thread: its runs one after the other, an edit after each, and the deletion of the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadScript {
    /// The thread, created by the first telling.
    pub thread: ThreadId,
    /// The runs that stay.
    pub runs: Vec<RunScript>,
    /// The run that goes.
    pub scratch: RunScript,
}

/// What of a thread is durable now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durable {
    /// A run's first events, that many.
    Events(RunId, u64),
    /// The edit after a run.
    Edit(RunId),
    /// The deletion of the last run.
    Deletion,
}

impl ThreadScript {
    /// A new thread of two runs that stay, told in one way and in the other.
    #[must_use]
    pub fn new(steps: u64, padding: usize) -> Self {
        let thread = ThreadId::generate();
        let run = |writer, steps| RunScript {
            thread: thread.clone(),
            run: RunId::generate(),
            writer,
            steps,
            padding,
            spool: None,
        };
        Self {
            runs: vec![run(Writer::Marks, steps), run(Writer::Journal, steps)],
            scratch: run(Writer::Marks, 1),
            thread,
        }
    }

    /// Tells the thread from its beginning to its end, and goes on where it was told before.
    ///
    /// # Errors
    /// What the ledger answers, but for a database that is away: that is waited for.
    pub async fn tell(
        &self,
        ledger: &Ledger,
        batch: u64,
        acknowledge: &(dyn Fn(Durable) + Sync),
    ) -> Result<()> {
        let (threads, mut retried) = (ledger.threads(), 0);
        let create = || threads.create(&SCOPE, NewThread::new(self.thread.clone()));
        match patiently(&mut retried, create).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let edits = patiently(&mut retried, || threads.get(&SCOPE, &self.thread)).await?.metadata;
        let events = |run: &RunId, count| acknowledge(Durable::Events(run.clone(), count));
        if !edits.as_str().contains(self.scratch.run.as_str()) {
            for run in self.runs.iter().chain([&self.scratch]) {
                run.tell(ledger, batch, &events).await?;
                let patch = ThreadPatch {
                    metadata: Some(RawJson::from(serde_json::json!({ run.run.as_str(): "told" }))),
                    ..ThreadPatch::default()
                };
                let told = at(run.steps + 2)?;
                let edit = || threads.update(&SCOPE, &self.thread, patch.clone(), told);
                patiently(&mut retried, edit).await?;
                acknowledge(Durable::Edit(run.run.clone()));
            }
        }
        let delete = || ledger.events().delete_by_run(&SCOPE, &self.thread, &self.scratch.run);
        match patiently(&mut retried, delete).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
        acknowledge(Durable::Deletion);
        Ok(())
    }
}
