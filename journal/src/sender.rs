//! What sends a run's commits to the ledger.
//!
//! Each commit carries the journal's mark: sent again after a lost answer, it is stored once.
//! Three kinds of refusal have three answers: the store is away (wait, send again, keep the
//! order), the content is refused (find the one record, put a note in its place), the run is no
//! longer ours (stop, and hand back what was not stored).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use runledger_core::{
    Applied, CHILD_THREAD, Category, Commit, Error, EventDraft, EventFilter, EventType, Finish, Finished,
    JournalMark, Ledger, NewInteraction, Outcome, RawJson, Receipt, Result, Run, RunId, RunProgress, Scope,
    SeqRange, ThreadId, Timestamp, Transition, UsageDraft,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::mapping::Recorded;
use crate::queue::Batch;
use crate::report::{QUARANTINED, Quarantined, Report, reason};
use crate::run_journal::{Overflow, Settings};

/// How often a commit is sent again that the database refuses without saying that it may pass.
const BACKEND_TRIES: u32 = 3;
/// The same for what cannot be divided, where nothing shows that the database is well: about ten seconds
/// by the default pauses.
const LAST_TRIES: u32 = 8;

/// What is sent as one: a part of the run, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Batch(Batch),
    End(Box<Ending>),
}

/// The end of a run, with what still waits before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) batch: Batch,
    pub(crate) terminal: EventDraft,
    pub(crate) outcome: Outcome,
    /// What the run asks people.
    pub(crate) asks: Vec<NewInteraction>,
    pub(crate) at: Timestamp,
}

impl Piece {
    /// How many events it puts into the log.
    pub(crate) fn events(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.events.len() as u64,
            Self::End(ending) => ending.batch.events.len() as u64 + 1,
        }
    }

    pub(crate) fn into_batch(self) -> Batch {
        match self {
            Self::Batch(batch) => batch,
            Self::End(ending) => {
                let Ending { mut batch, terminal, .. } = *ending;
                batch.events.push(terminal);
                batch
            }
        }
    }
}

/// Which run is written to, and from where on.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) thread_id: ThreadId,
    pub(crate) run_id: RunId,
    pub(crate) epoch: u64,
    /// How many events were sent under the epoch before.
    pub(crate) ordinal: u64,
    /// Whether the run is running, not pending.
    pub(crate) started: bool,
    /// Whether the run has ended. Its commits are judged by mark before, and afterwards, when what
    /// comes is late, by a once key of each event.
    pub(crate) late: bool,
}

/// When the database last took something: also for those who watch a sender at work.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(crate) fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Sender {
    ledger: Ledger,
    scope: Scope,
    to: Target,
    settings: Settings,
    cancel: CancellationToken,
    progress: Progress,
    /// Since when usage is told again, once it was not taken.
    usage_since: Option<Instant>,
    /// Why nothing is sent any more.
    stopped: Option<Error>,
    pub(crate) report: Report,
}

/// Why a commit was not stored.
enum Refused {
    /// Something in it cannot be stored; the store itself is well.
    Content(Error),
    /// Nothing more can be written.
    Stop,
}

/// The sender stopped; with what it did not store.
#[derive(Debug)]
pub(crate) struct Unsent(pub(crate) Batch);

/// Why a sender stopped, by what becomes of what it did not store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The run was taken away, has ended otherwise, or is gone with its thread.
    Taken,
    /// The store will not take it, whenever it is asked.
    Refused,
    /// The store may take it another time.
    Away,
}

impl Stop {
    fn of(error: &Error) -> Self {
        match error {
            Error::LeaseLost { .. } | Error::NotFound { .. } => Self::Taken,
            Error::Unavailable { .. } | Error::SchemaMismatch { .. } | Error::Backend { .. } => Self::Away,
            _ => Self::Refused,
        }
    }
}

impl Sender {
    pub(crate) fn new(
        ledger: Ledger,
        scope: Scope,
        to: Target,
        settings: Settings,
        cancel: CancellationToken,
    ) -> Self {
        let (progress, report) = (Progress::now(), Report::default());
        Self { ledger, scope, to, settings, cancel, progress, usage_since: None, stopped: None, report }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// How many events were sent under the epoch, late ones included.
    pub(crate) fn ordinal(&self) -> u64 {
        self.to.ordinal
    }

    /// Goes on from another place of the run.
    pub(crate) fn seek(&mut self, ordinal: u64) {
        self.to.ordinal = ordinal;
    }

    pub(crate) fn is_late(&self) -> bool {
        self.to.late
    }

    /// Why it stopped, if it did.
    pub(crate) fn stopped(&self) -> Option<(&Error, Stop)> {
        self.stopped.as_ref().map(|error| (error, Stop::of(error)))
    }

    /// Whether everything sent so far is durable.
    pub(crate) fn standing(&self) -> Result<()> {
        self.stopped().map_or(Ok(()), |(error, _)| Err(again(error)))
    }

    /// Sends a piece until it is stored, record by record where the store refuses its content. The
    /// end of the run is answered with the run, and whether it was ended here.
    pub(crate) async fn deliver(&mut self, piece: &Piece) -> Result<Option<(Run, bool)>, Unsent> {
        match piece {
            Piece::Batch(batch) => self.write(batch.clone()).await.map(|()| None),
            Piece::End(ending) => self.end((**ending).clone()).await.map(Some),
        }
    }

    /// Writes a batch, record by record where the store refuses its content.
    async fn write(&mut self, batch: Batch) -> Result<(), Unsent> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut parts = VecDeque::from([batch]);
        // What was stored since a refusal shows that the database is well, and the content is not.
        let (mut refused, mut well) = (false, false);
        while let Some(part) = parts.pop_front() {
            let tries = if well || !part.is_one() { BACKEND_TRIES } else { LAST_TRIES };
            let answer = self.commit(&part, tries).await;
            well |= refused && answer.is_ok();
            refused |= answer.is_err();
            match answer {
                Ok(()) => {}
                Err(Refused::Stop) => return Err(unsent(part, parts)),
                Err(Refused::Content(error)) => match part.split() {
                    Ok((first, second)) => {
                        parts.push_front(second);
                        parts.push_front(first);
                    }
                    Err(one) => match self.replace(one, error).await {
                        Ok(Some(instead)) => parts.push_front(instead),
                        Ok(None) => {}
                        Err(one) => return Err(unsent(one, parts)),
                    },
                },
            }
        }
        Ok(())
    }

    /// Settles the one record that the store refuses: what stands in its place, if anything does, or
    /// the record itself where the sender stopped.
    async fn replace(&mut self, one: Batch, error: Error) -> Result<Option<Batch>, Batch> {
        match error {
            Error::Conflict { .. } => self.known(one, error).await.map(|()| None),
            error => self.leave_out(one, error).await,
        }
    }

    /// Settles the one record in whose place something is stored: itself, or its note.
    async fn known(&mut self, one: Batch, error: Error) -> Result<(), Batch> {
        if let Error::Conflict { what: "once_key", .. } = error {
            self.already_stored(&one);
            return Ok(());
        }
        match self.find_note(&one).await {
            Ok(Some(note)) => {
                self.report.quarantined.push(note);
                self.already_stored(&one);
                Ok(())
            }
            Ok(None) => {
                self.stop(error);
                Err(one)
            }
            Err(()) => Err(one),
        }
    }

    fn already_stored(&mut self, one: &Batch) {
        let count = one.events.len() as u64;
        self.report.written += count;
        self.report.already_stored += count;
        self.to.ordinal += count;
    }

    /// The note that an earlier try stored in the event's place.
    async fn find_note(&mut self, one: &Batch) -> Result<Option<Quarantined>, ()> {
        let Some(event) = one.events.first() else { return Ok(None) };
        let filter = EventFilter {
            event_types: vec![EventType::from_stored(QUARANTINED)],
            ..EventFilter::of_run(self.to.run_id.clone())
        };
        let (mut after, mut backoff) = (0, Backoff::new(&self.settings));
        loop {
            let range = SeqRange::after(after, runledger_core::MAX_LIMIT);
            let page = match self
                .ledger
                .events()
                .list_events(&self.scope, &self.to.thread_id, &filter, &range)
                .await
            {
                Ok(page) => page,
                Err(error) => match self.judge(error, &mut backoff, BACKEND_TRIES).await {
                    Ok(()) => continue,
                    Err(Refused::Content(error)) => {
                        self.stop(error);
                        return Err(());
                    }
                    Err(Refused::Stop) => return Err(()),
                },
            };
            let here = page.items.iter().find(|found| found.journal_ordinal == Some(self.to.ordinal));
            if let Some(here) = here {
                return Ok(Quarantined::in_place_of(here, event));
            }
            match page.items.last() {
                Some(last) if page.has_more => after = last.seq,
                _ => return Ok(None),
            }
        }
    }

    /// Leaves out the one record that the store refuses, and gives what stands in its place, if that is
    /// still to be stored; the record itself where the sender stopped.
    async fn leave_out(&mut self, mut one: Batch, error: Error) -> Result<Option<Batch>, Batch> {
        let run_id = &self.to.run_id;
        if let Error::NotFound { what: CHILD_THREAD, .. } = error
            && let Some(call) = one.usage.first_mut()
            && let Some(child) = call.child_thread_id.take()
        {
            // What it took counts; only whose call it repeats is not known here.
            tracing::warn!(%run_id, %child, "a usage record names a thread that is not there");
            self.report.quarantined.push(Quarantined::other("child_thread_id", child.as_str(), &error));
            return Ok(Some(one));
        }
        if !one.events.is_empty() {
            return self.quarantine(one, error).await.map(|()| None);
        }
        let (what, named) = match one.usage.first() {
            Some(call) => ("usage", call.source_id.to_string()),
            None => ("progress", String::new()),
        };
        tracing::warn!(%run_id, what, "a record was refused and left out");
        self.report.quarantined.push(Quarantined::other(what, &named, &error));
        Ok(None)
    }

    /// Stores a note in the place of the one event that the store refuses. A store that refuses even the
    /// bare note refuses anything: with a spool the event is tried again until one of the two is
    /// taken, without one the sender stops.
    async fn quarantine(&mut self, one: Batch, error: Error) -> Result<(), Batch> {
        let (mut error, mut pauses) = (error, Backoff::new(&self.settings));
        loop {
            let Some(event) = one.events.first() else { return Ok(()) };
            let ordinal = (!self.to.late).then_some(self.to.ordinal);
            let entry = Quarantined::event(ordinal, event, &error);
            for note in notes(event, &entry) {
                // Once, for an error may pass between two tries of it.
                match self.commit(&Batch { events: vec![note], ..Batch::default() }, 0).await {
                    Ok(()) => {
                        let run_id = &self.to.run_id;
                        tracing::warn!(%run_id, ordinal, event_type = %event.event_type, "an event was refused and replaced by a note");
                        self.report.quarantined.push(entry);
                        return Ok(());
                    }
                    Err(Refused::Content(refused @ Error::Conflict { what, .. })) => {
                        if what == "once_key" {
                            self.report.quarantined.push(entry);
                        }
                        return self.known(one, refused).await;
                    }
                    Err(Refused::Content(refused)) => error = refused,
                    Err(Refused::Stop) => return Err(one),
                }
            }
            let waits = matches!(self.settings.overflow, Overflow::Spool(_)) && !pauses.is_over();
            if !waits || !matches!(error, Error::Backend { .. }) {
                self.stop(error);
                return Err(one);
            }
            sleep(pauses.next_delay()).await;
            match self.commit(&one, BACKEND_TRIES).await {
                Ok(()) => return Ok(()),
                Err(Refused::Content(refused)) => error = refused,
                Err(Refused::Stop) => return Err(one),
            }
        }
    }

    /// Sends one commit until it is stored or refused.
    async fn commit(&mut self, batch: &Batch, tries: u32) -> Result<(), Refused> {
        let mut backoff = Backoff::new(&self.settings);
        loop {
            if self.stopped.is_some() {
                return Err(Refused::Stop);
            }
            let commit = if self.to.late {
                self.of_run(self.late(&batch.events), None)
            } else {
                self.of_run(batch.events.clone(), Some(self.mark()))
            };
            let starting = !self.to.started && commit.mark.is_some();
            let commit = Commit {
                usage: batch.usage.clone(),
                progress: batch.progress.clone(),
                transition: starting.then(|| Transition::Start { at: starts_at(batch) }),
                ..commit
            };
            match self.ledger.events().append(&self.scope, commit).await {
                Ok(receipt) => {
                    self.stored(&receipt);
                    return Ok(());
                }
                Err(error) => self.judge(error, &mut backoff, tries).await?,
            }
        }
    }

    fn of_run(&self, events: Vec<EventDraft>, mark: Option<JournalMark>) -> Commit {
        Commit { mark, ..Commit::of_run(self.to.thread_id.clone(), self.to.run_id.clone()) }
            .with_events(events)
    }

    fn mark(&self) -> JournalMark {
        JournalMark { epoch: self.to.epoch, ordinal: self.to.ordinal }
    }

    /// Late events have no mark; a key of their place keeps them from being stored twice.
    fn late(&self, events: &[EventDraft]) -> Vec<EventDraft> {
        let key = |offset: usize| late_key(self.to.epoch, self.to.ordinal + offset as u64);
        let mut events = events.to_vec();
        for (offset, event) in events.iter_mut().enumerate() {
            event.once_key.get_or_insert_with(|| key(offset));
        }
        events
    }

    fn stored(&mut self, receipt: &Receipt) {
        self.progress.renew();
        self.to.started = true;
        self.report.written += receipt.seqs.len() as u64;
        self.report.already_stored += receipt.already_stored as u64;
        self.to.ordinal += receipt.seqs.len() as u64;
    }

    /// Waits where sending again may help; else says why it cannot. Whatever is sent here may be
    /// sent again: it has a mark, or once keys.
    async fn judge(&mut self, error: Error, backoff: &mut Backoff, tries: u32) -> Result<(), Refused> {
        match error {
            Error::Unavailable { .. } => {
                if backoff.is_over() {
                    self.stop(error);
                    return Err(Refused::Stop);
                }
                self.report.retried += 1;
                tracing::debug!(run_id = %self.to.run_id, reason = %reason(&error), "the store is away; sending again");
                sleep(backoff.next_delay()).await;
                Ok(())
            }
            // A database may refuse for a reason that nobody thought of and that passes.
            Error::Backend { .. } if backoff.tried < tries => {
                self.report.retried += 1;
                tracing::debug!(run_id = %self.to.run_id, reason = %reason(&error), "refused; sending again");
                sleep(backoff.next_delay()).await;
                Ok(())
            }
            Error::InvalidInput { .. }
            | Error::TooLarge { .. }
            | Error::Backend { .. }
            | Error::Conflict { what: "journal event", .. }
            | Error::NotFound { what: CHILD_THREAD, .. } => Err(Refused::Content(error)),
            Error::Conflict { what: "once_key", .. } if self.to.late => Err(Refused::Content(error)),
            other => {
                self.stop(other);
                Err(Refused::Stop)
            }
        }
    }

    fn stop(&mut self, error: Error) {
        tracing::error!(run_id = %self.to.run_id, reason = %reason(&error), "the journal stops");
        self.report.stopped = Some(reason(&error));
        if Stop::of(&error) == Stop::Taken {
            self.cancel.cancel();
        }
        self.stopped = Some(error);
    }

    /// Gives up a batch that nobody will store.
    pub(crate) async fn abandon(&mut self, batch: Batch) {
        if matches!(self.stopped(), Some((_, Stop::Taken))) {
            return self.fence(batch).await;
        }
        self.report.lost += batch.events.len() as u64;
        self.report.usage_lost += batch.usage.len() as u64;
    }

    /// Gives up a batch of a run that is not ours any more: its events are counted, and what its calls
    /// took is stored all the same, for it was spent.
    pub(crate) async fn fence(&mut self, batch: Batch) {
        self.report.fenced += batch.events.len() as u64;
        self.store_usage(batch.usage).await;
    }

    /// All calls of a run that was taken away share one patience: somebody waits for the journal to close.
    fn waits_for_usage(&mut self) -> bool {
        self.usage_since.get_or_insert_with(Instant::now).elapsed() < self.settings.close_patience
    }

    async fn store_usage(&mut self, usage: Vec<UsageDraft>) {
        let mut backoff = Backoff::new(&self.settings);
        for call in usage {
            let late = Commit { usage: vec![call], ..self.of_run(Vec::new(), None) };
            loop {
                match self.ledger.events().append(&self.scope, late.clone()).await {
                    Ok(_) => {
                        self.usage_since = None;
                        break;
                    }
                    // A call is stored once, however often it is told.
                    Err(Error::Unavailable { .. }) if !backoff.is_over() && self.waits_for_usage() => {
                        self.report.retried += 1;
                        sleep(backoff.next_delay()).await;
                    }
                    Err(error) => {
                        tracing::warn!(run_id = %self.to.run_id, reason = %reason(&error), "a usage record was refused");
                        self.report.usage_lost += 1;
                        break;
                    }
                }
            }
        }
    }

    /// Ends the run: what waits, what is still open and the terminal event in one commit; where
    /// that is refused for its content, the terminal event by itself after the rest.
    async fn end(&mut self, ending: Ending) -> Result<(Run, bool), Unsent> {
        let Ending { mut batch, terminal, outcome, asks, at } = ending;
        if !self.to.started && !self.to.late {
            let before = std::mem::take(&mut batch);
            if before.is_empty() {
                self.start_empty(at).await;
            } else if let Err(Unsent(mut rest)) = self.write(before).await {
                rest.events.push(terminal);
                return Err(Unsent(rest));
            }
        }
        let mut finish = Finish {
            thread_id: self.to.thread_id.clone(),
            run_id: self.to.run_id.clone(),
            mark: self.mark(),
            outcome,
            at,
            events: batch.events.clone(),
            usage: batch.usage.clone(),
            progress: batch.progress.clone(),
            asks,
        };
        finish.events.push(terminal.clone());
        let answer = match self.send_finish(&mut finish, BACKEND_TRIES).await {
            Err(Refused::Content(error)) => {
                tracing::debug!(run_id = %self.to.run_id, reason = %reason(&error), "the end is written apart");
                if let Err(Unsent(mut rest)) = self.write(batch).await {
                    rest.events.push(terminal);
                    return Err(Unsent(rest));
                }
                finish.events = vec![terminal];
                finish.usage = Vec::new();
                finish.progress = RunProgress::default();
                self.send_finish(&mut finish, LAST_TRIES).await
            }
            other => other,
        };
        let last = Batch { events: finish.events, usage: finish.usage, progress: finish.progress };
        match answer {
            Ok(Finished { run, receipt }) => {
                let ended_here = receipt.is_some();
                match receipt {
                    Some(receipt) => self.stored(&receipt),
                    None => {
                        self.cancel.cancel();
                        self.to.ordinal += last.events.len() as u64;
                        self.fence(last).await;
                    }
                }
                self.to.late = true;
                Ok((run, ended_here))
            }
            Err(Refused::Content(error)) => {
                self.stop(error);
                Err(Unsent(last))
            }
            Err(Refused::Stop) => Err(Unsent(last)),
        }
    }

    /// Starts a run that ends without having recorded anything.
    async fn start_empty(&mut self, at: Timestamp) {
        let start = Commit {
            transition: Some(Transition::Start { at }),
            ..self.of_run(Vec::new(), Some(self.mark()))
        };
        // If this fails, the end says so: it is sent next, under the same mark.
        if let Err(error) = self.ledger.events().append(&self.scope, start).await {
            tracing::debug!(run_id = %self.to.run_id, reason = %reason(&error), "the start was not written");
        }
        self.to.started = true;
    }

    async fn send_finish(&mut self, finish: &mut Finish, tries: u32) -> Result<Finished, Refused> {
        let mut backoff = Backoff::new(&self.settings);
        loop {
            if self.stopped.is_some() {
                return Err(Refused::Stop);
            }
            finish.mark = self.mark();
            match self.ledger.finish(&self.scope, finish.clone()).await {
                Ok(finished) => return Ok(finished),
                Err(error) => self.judge(error, &mut backoff, tries).await?,
            }
        }
    }

    /// The run as it ended without this sender; else why nothing is sent.
    pub(crate) async fn ended(&self) -> Result<Run> {
        match self.standing() {
            Ok(()) => self.run().await,
            Err(error) => match self.stopped() {
                Some((_, Stop::Taken)) => {
                    self.run_patiently().await.ok().filter(|run| run.status.is_terminal()).ok_or(error)
                }
                _ => Err(error),
            },
        }
    }

    /// The run as it is stored, waited for as a commit is.
    pub(crate) async fn run_patiently(&self) -> Result<Run> {
        let mut backoff = Backoff::new(&self.settings);
        loop {
            match self.run().await {
                Err(Error::Unavailable { .. }) if !backoff.is_over() => sleep(backoff.next_delay()).await,
                answer => return answer,
            }
        }
    }

    /// The run as it is stored.
    pub(crate) async fn run(&self) -> Result<Run> {
        self.ledger.runs().get(&self.scope, &self.to.thread_id, &self.to.run_id).await
    }
}

/// What may stand for an event: with the mark of its item, for what was completed is not open, whatever its
/// payload was; and bare, where the store does not take what the note kept of the event.
fn notes(event: &EventDraft, entry: &Quarantined) -> Vec<EventDraft> {
    let content = RawJson::encode("content", entry).unwrap_or_default();
    let bare = EventDraft {
        created_at: event.created_at,
        once_key: event.once_key.clone(),
        ..EventDraft::new(EventType::from_stored(QUARANTINED), Category::Trace, content)
    };
    let (item, caller, task_id) = (event.item.clone(), event.caller.clone(), event.task_id.clone());
    if item.is_none() && caller.is_none() && task_id.is_none() {
        return vec![bare];
    }
    vec![EventDraft { item, caller, task_id, ..bare.clone() }, bare]
}

/// The key of a late event: where it stands in its run's journal.
pub(crate) fn late_key(epoch: u64, ordinal: u64) -> String {
    format!("journal.late/{epoch}/{ordinal}")
}

fn unsent(first: Batch, rest: impl IntoIterator<Item = Batch>) -> Unsent {
    let mut whole = first;
    for Batch { events, usage, progress } in rest {
        whole.add(Recorded { events, usage, progress });
    }
    Unsent(whole)
}

/// When a run started: with its first event.
fn starts_at(batch: &Batch) -> Timestamp {
    let first = batch.events.first().map(|event| event.created_at);
    first.or_else(|| batch.usage.first().map(|call| call.created_at)).unwrap_or_else(Timestamp::now)
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

/// The database is away, and the caller does not wait longer.
pub(crate) fn waits(where_it_is: String) -> Error {
    Error::Unavailable { applied: Applied::Unknown, source: where_it_is.into() }
}
