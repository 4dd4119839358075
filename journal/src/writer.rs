//! The one task that writes a run's journal.
//!
//! It owns what it has taken from the queue until the store has it, so that nobody who gives up
//! waiting loses anything. Each commit carries the journal's mark: sent again after a lost answer,
//! it is stored once. Three kinds of refusal have three answers: the store is away (wait, send
//! again, keep the order), the content is refused (find the one record, put a note in its
//! place), the run is no longer ours (stop, and say how much was refused).

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use runledger_core::{
    Applied, CHILD_THREAD, Category, Commit, Error, ErrorKind, EventDraft, EventType, Finish, Finished,
    JournalMark, Ledger, RawJson, Receipt, Result, RunId, Scope, ThreadId, Timestamp, Transition,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::queue::{Batch, Entry, FinishEntry, Shared};
use crate::report::{FinishedRun, QUARANTINED, Quarantined, Report, reason};
use crate::run_journal::Settings;

/// How often a commit is sent again that the database refuses without saying that it may pass.
const BACKEND_TRIES: u32 = 3;

/// How the writer's commits are judged.
#[derive(Debug)]
enum Mode {
    /// By mark: the run is ours.
    Marked(JournalMark),
    /// Not at all: the run has ended, and what comes now is late.
    Late,
    /// Nothing is sent any more.
    Stopped(Error),
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ledger: Ledger,
    pub(crate) scope: Scope,
    pub(crate) thread_id: ThreadId,
    pub(crate) run_id: RunId,
    pub(crate) settings: Settings,
    mode: Mode,
    started: bool,
    report: Report,
}

/// Why a commit was not stored.
enum Refused {
    /// Something in it cannot be stored; the store itself is well.
    Content(Error),
    /// Nothing more can be written.
    Stop,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "made in one place")]
    pub(crate) fn new(
        shared: Arc<Shared>,
        ledger: Ledger,
        scope: Scope,
        thread_id: ThreadId,
        run_id: RunId,
        settings: Settings,
        epoch: u64,
        started: bool,
    ) -> Self {
        let mode = Mode::Marked(JournalMark { epoch, ordinal: 0 });
        let report = Report::default();
        Self { shared, ledger, scope, thread_id, run_id, settings, mode, started, report }
    }

    /// Writes until it is told to close, or nobody is left to record.
    pub(crate) async fn run(mut self) {
        let mut due: Option<Instant> = None;
        loop {
            let (waiting, empty, requested) = {
                let inner = self.shared.lock();
                (inner.waiting(), inner.is_empty(), inner.is_requested())
            };
            let now = Instant::now();
            let late = due.is_some_and(|due| due <= now);
            if requested || late || waiting >= self.shared.batch_events {
                due = None;
                if self.write_everything().await {
                    return;
                }
                continue;
            }
            if !empty && due.is_none() {
                due = Some(now + self.settings.batch_delay);
            }
            match due {
                None => self.shared.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.shared.wake.notified() => {}
                        () = sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Writes all that waits and answers all requests; true once it is to stop.
    async fn write_everything(&mut self) -> bool {
        loop {
            let (batch, request) = {
                let mut inner = self.shared.lock();
                let batch = inner.take_batch();
                let request = if inner.is_requested() { inner.take_request() } else { None };
                self.report.queued_peak = inner.peak as u64;
                (batch, request)
            };
            match request {
                Some(Entry::Finish(finish)) => self.finish(batch, *finish).await,
                Some(Entry::Barrier(reply)) => {
                    self.write(batch).await;
                    // Nobody may be waiting any more; what was written is written.
                    let _ = reply.send(self.standing());
                }
                Some(Entry::Close(reply)) => {
                    self.write(batch).await;
                    if let Some(reply) = reply {
                        let _ = reply.send(self.report.clone());
                    }
                    return true;
                }
                Some(Entry::Group(_)) | None if batch.is_empty() => return false,
                Some(Entry::Group(_)) | None => self.write(batch).await,
            }
        }
    }

    /// Whether everything written so far is durable.
    fn standing(&self) -> Result<()> {
        match &self.mode {
            Mode::Marked(_) | Mode::Late => Ok(()),
            Mode::Stopped(error) => Err(again(error)),
        }
    }

    /// Writes a batch, record by record where the store refuses its content.
    async fn write(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let mut parts = VecDeque::from([batch]);
        while let Some(part) = parts.pop_front() {
            match self.commit(&part).await {
                Ok(()) => {}
                Err(Refused::Stop) => {
                    self.abandon(part).await;
                    for part in parts {
                        self.abandon(part).await;
                    }
                    return;
                }
                Err(Refused::Content(error)) => match part.split() {
                    Ok((first, second)) => {
                        parts.push_front(second);
                        parts.push_front(first);
                    }
                    Err(one) => {
                        if let Some(instead) = self.quarantine(one, &error).await {
                            parts.push_front(instead);
                        }
                    }
                },
            }
        }
    }

    /// Leaves out the one record that the store refuses, and gives what stands in its place.
    async fn quarantine(&mut self, mut one: Batch, error: &Error) -> Option<Batch> {
        if let Error::NotFound { what: CHILD_THREAD, .. } = error
            && let Some(call) = one.usage.first_mut()
            && let Some(child) = call.child_thread_id.take()
        {
            // What it took counts; only whose call it repeats is not known here.
            tracing::warn!(run_id = %self.run_id, %child, "a usage record names a thread that is not there");
            self.report.quarantined.push(Quarantined::other("child_thread_id", child.as_str(), error));
            return Some(one);
        }
        let Some(event) = one.events.first().cloned() else {
            let (what, named) = match one.usage.first() {
                Some(call) => ("usage", call.source_id.to_string()),
                None => ("progress", String::new()),
            };
            tracing::warn!(run_id = %self.run_id, what, "a record was refused and left out");
            self.report.quarantined.push(Quarantined::other(what, &named, error));
            return None;
        };
        if event.event_type.as_str() == QUARANTINED {
            if event.item.is_some() || event.caller.is_some() || event.task_id.is_some() {
                // It may be what the note kept of the event.
                let bare = EventDraft { item: None, caller: None, task_id: None, ..event };
                return Some(Batch { events: vec![bare], ..Batch::default() });
            }
            // The store refuses even the bare note: it is not the content.
            self.stop(again(error));
            self.abandon(one).await;
            return None;
        }
        let ordinal = match &self.mode {
            Mode::Marked(mark) => Some(mark.ordinal),
            Mode::Late | Mode::Stopped(_) => None,
        };
        let entry = Quarantined::event(ordinal, &event, error);
        tracing::warn!(run_id = %self.run_id, ordinal, event_type = %event.event_type, "an event was refused and replaced by a note");
        let content = RawJson::encode("content", &entry).unwrap_or_default();
        self.report.quarantined.push(entry);
        // The item's mark stays: what was completed is not open, whatever its payload was.
        let note = EventDraft {
            created_at: event.created_at,
            once_key: event.once_key,
            item: event.item,
            caller: event.caller,
            task_id: event.task_id,
            ..EventDraft::new(EventType::from_stored(QUARANTINED), Category::Trace, content)
        };
        Some(Batch { events: vec![note], ..Batch::default() })
    }

    /// Sends one commit until it is stored or refused.
    async fn commit(&mut self, batch: &Batch) -> Result<(), Refused> {
        let mut backoff = Backoff::new(&self.settings);
        loop {
            let mark = match &self.mode {
                Mode::Marked(mark) => Some(*mark),
                Mode::Late => None,
                Mode::Stopped(_) => return Err(Refused::Stop),
            };
            let starting = !self.started && mark.is_some();
            let commit = Commit {
                mark,
                usage: batch.usage.clone(),
                progress: batch.progress.clone(),
                transition: starting.then(|| Transition::Start { at: starts_at(batch) }),
                ..Commit::of_run(self.thread_id.clone(), self.run_id.clone())
            }
            .with_events(batch.events.clone());
            match self.ledger.events().append(&self.scope, commit).await {
                Ok(receipt) => {
                    self.stored(&receipt);
                    return Ok(());
                }
                Err(error) => self.judge(error, mark.is_some(), &mut backoff).await?,
            }
        }
    }

    fn stored(&mut self, receipt: &Receipt) {
        self.started = true;
        self.report.written += receipt.seqs.len() as u64;
        self.report.already_stored += receipt.already_stored as u64;
        if let Mode::Marked(mark) = &mut self.mode {
            mark.ordinal += receipt.seqs.len() as u64;
        }
    }

    /// Waits where sending again may help; else says why it cannot.
    async fn judge(&mut self, error: Error, marked: bool, backoff: &mut Backoff) -> Result<(), Refused> {
        match error {
            Error::Unavailable { applied, .. } if marked || applied == Applied::No => {
                if backoff.is_over() {
                    self.stop(error);
                    return Err(Refused::Stop);
                }
                self.report.retried += 1;
                tracing::debug!(run_id = %self.run_id, reason = %reason(&error), "the store is away; sending again");
                sleep(backoff.next_delay()).await;
                Ok(())
            }
            // A database may refuse for a reason that nobody thought of and that passes.
            Error::Backend { .. } if backoff.tried < BACKEND_TRIES => {
                self.report.retried += 1;
                tracing::debug!(run_id = %self.run_id, reason = %reason(&error), "refused; sending again");
                sleep(backoff.next_delay()).await;
                Ok(())
            }
            Error::InvalidInput { .. }
            | Error::TooLarge { .. }
            | Error::Backend { .. }
            | Error::NotFound { what: CHILD_THREAD, .. } => Err(Refused::Content(error)),
            other => {
                self.stop(other);
                Err(Refused::Stop)
            }
        }
    }

    fn stop(&mut self, error: Error) {
        tracing::error!(run_id = %self.run_id, reason = %reason(&error), "the journal stops");
        self.report.stopped = Some(reason(&error));
        self.mode = Mode::Stopped(error);
    }

    /// Gives up a batch that nobody will store.
    async fn abandon(&mut self, batch: Batch) {
        if matches!(&self.mode, Mode::Stopped(error) if error.kind() == ErrorKind::LeaseLost) {
            return self.fence(batch).await;
        }
        self.report.lost += batch.events.len() as u64;
        self.report.usage_lost += batch.usage.len() as u64;
    }

    /// Gives up a batch of a run that is not ours any more: its events are counted, and what its calls
    /// took is stored all the same, for it was spent.
    async fn fence(&mut self, batch: Batch) {
        self.report.fenced += batch.events.len() as u64;
        let mut backoff = Backoff::new(&self.settings);
        for call in batch.usage {
            let late =
                Commit { usage: vec![call], ..Commit::of_run(self.thread_id.clone(), self.run_id.clone()) };
            loop {
                match self.ledger.events().append(&self.scope, late.clone()).await {
                    Ok(_) => break,
                    // A call is stored once, however often it is told.
                    Err(Error::Unavailable { .. }) if !backoff.is_over() => sleep(backoff.next_delay()).await,
                    Err(error) => {
                        tracing::warn!(run_id = %self.run_id, reason = %reason(&error), "a usage record was refused");
                        self.report.usage_lost += 1;
                        break;
                    }
                }
            }
        }
    }

    /// Ends the run: what waits, what is still open and the terminal event in one commit; where
    /// that is refused for its content, the terminal event by itself after the rest.
    async fn finish(&mut self, batch: Batch, entry: FinishEntry) {
        let FinishEntry { outcome, at, closing, reply } = entry;
        if matches!(self.mode, Mode::Late) {
            self.write(batch).await;
            let _ = reply.send(self.ended_before().await);
            return;
        }
        let mut closing_batch = Batch::default();
        if self.started {
            closing_batch = batch;
        } else if batch.is_empty() {
            self.start_empty(at).await;
        } else {
            self.write(batch).await;
        }
        closing_batch.add(closing.recorded);
        let mut finish = Finish {
            thread_id: self.thread_id.clone(),
            run_id: self.run_id.clone(),
            mark: JournalMark { epoch: 0, ordinal: 0 },
            outcome,
            at,
            events: closing_batch.events.clone(),
            usage: closing_batch.usage.clone(),
            progress: closing_batch.progress.clone(),
        };
        finish.events.push(closing.terminal.clone());
        let answer = match self.send_finish(&mut finish).await {
            Err(Refused::Content(error)) => {
                tracing::debug!(run_id = %self.run_id, reason = %reason(&error), "the end is written apart");
                self.write(closing_batch).await;
                finish.events = vec![closing.terminal];
                finish.usage = Vec::new();
                finish.progress = runledger_core::RunProgress::default();
                self.send_finish(&mut finish).await
            }
            other => other,
        };
        let last = Batch { events: finish.events, usage: finish.usage, progress: finish.progress };
        let _ = reply.send(self.finished(answer, last).await);
    }

    /// The answer to a second end of the run.
    async fn ended_before(&self) -> Result<FinishedRun> {
        let run = self.ledger.runs().get(&self.scope, &self.thread_id, &self.run_id).await?;
        Ok(FinishedRun { run, ended_here: false, report: self.report.clone() })
    }

    /// Starts a run that ends without having recorded anything.
    async fn start_empty(&mut self, at: Timestamp) {
        let Mode::Marked(mark) = &self.mode else { return };
        let commit = Commit {
            mark: Some(*mark),
            transition: Some(Transition::Start { at }),
            ..Commit::of_run(self.thread_id.clone(), self.run_id.clone())
        };
        // If this fails, the end says so: it is sent next, under the same mark.
        if let Err(error) = self.ledger.events().append(&self.scope, commit).await {
            tracing::debug!(run_id = %self.run_id, reason = %reason(&error), "the start was not written");
        }
        self.started = true;
    }

    async fn send_finish(&mut self, finish: &mut Finish) -> Result<Finished, Refused> {
        let mut backoff = Backoff::new(&self.settings);
        loop {
            let Mode::Marked(mark) = &self.mode else { return Err(Refused::Stop) };
            finish.mark = *mark;
            match self.ledger.finish(&self.scope, finish.clone()).await {
                Ok(finished) => return Ok(finished),
                Err(error) => self.judge(error, true, &mut backoff).await?,
            }
        }
    }

    async fn finished(&mut self, answer: Result<Finished, Refused>, last: Batch) -> Result<FinishedRun> {
        match answer {
            Ok(Finished { run, receipt }) => {
                let ended_here = receipt.is_some();
                match receipt {
                    Some(receipt) => self.stored(&receipt),
                    None => self.fence(last).await,
                }
                self.mode = Mode::Late;
                Ok(FinishedRun { run, ended_here, report: self.report.clone() })
            }
            Err(Refused::Content(error)) => {
                let answer = again(&error);
                self.stop(error);
                self.abandon(last).await;
                Err(answer)
            }
            Err(Refused::Stop) => {
                self.abandon(last).await;
                let ended = || Error::conflict("run", "active", "ended before");
                Err(self.standing().err().unwrap_or_else(ended))
            }
        }
    }
}

/// When a run started: with its first event.
fn starts_at(batch: &Batch) -> Timestamp {
    let first = batch.events.first().map(|event| event.created_at);
    first.or_else(|| batch.usage.first().map(|call| call.created_at)).unwrap_or_else(Timestamp::now)
}

/// Growing pauses between tries, with a random part so that many journals do not return at once.
struct Backoff {
    tried: u32,
    next: Duration,
    max: Duration,
    until: Option<Instant>,
}

impl Backoff {
    fn new(settings: &Settings) -> Self {
        let until = settings.give_up_after.map(|after| Instant::now() + after);
        Self { tried: 0, next: settings.retry_min, max: settings.retry_max, until }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn next_delay(&mut self) -> Duration {
        self.tried += 1;
        let delay = self.next;
        self.next = (self.next * 2).min(self.max);
        // Each `RandomState` has keys of its own: enough for a pause.
        let random = std::hash::RandomState::new().build_hasher().finish() % 1_000;
        delay / 2 + delay * u32::try_from(random).unwrap_or(0) / 2_000
    }
}

/// The same error once more, its cause as text: several callers wait for one answer.
fn again(error: &Error) -> Error {
    match error {
        Error::NotFound { what, id } => Error::NotFound { what, id: id.clone() },
        Error::AlreadyExists { what, id } => Error::AlreadyExists { what, id: id.clone() },
        Error::Conflict { what, expected, actual } => {
            Error::Conflict { what, expected: expected.clone(), actual: actual.clone() }
        }
        Error::LeaseLost { run_id, epoch } => Error::LeaseLost { run_id: run_id.clone(), epoch: *epoch },
        Error::InvalidInput { field, reason } => Error::InvalidInput { field, reason: reason.clone() },
        Error::TooLarge { field, limit, actual } => Error::TooLarge { field, limit: *limit, actual: *actual },
        Error::SchemaMismatch { found, needed } => {
            Error::SchemaMismatch { found: found.clone(), needed: needed.clone() }
        }
        Error::Unavailable { applied, .. } => {
            Error::Unavailable { applied: *applied, source: reason(error).into() }
        }
        other => Error::Backend { operation: "a journal's commit", source: reason(other).into() },
    }
}
