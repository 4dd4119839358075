//! What the writer has taken from the queue, the spool it keeps, and who waits for what.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use runledger_core::{Error, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::queue::{Entry, FinishEntry, Seen, Shared, Size};
use crate::report::{FinishedRun, Report};
use crate::run_journal::{Overflow, Settings};
use crate::sender::{Ending, Piece, Progress, Sender, Stop, waits};
use crate::spool::{CORRUPT, Cursor, Head, ReadError, Spool};

/// What has been taken from the queue, and who waits for what.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) shared: Arc<Shared>,
    settings: Settings,
    /// The head of a spool file, should one be needed.
    pub(crate) head: Head,
    /// The most of one piece.
    pub(crate) most: Size,
    /// Pieces in memory, behind all those in the spool.
    pub(crate) stash: VecDeque<Held>,
    /// How many events of the first of them are stored already.
    pub(crate) partly: u64,
    pub(crate) spool: Option<Spool>,
    spooled: u64,
    /// After the spool failed: when it is tried again.
    pub(crate) repair: Option<(Backoff, Instant)>,
    pub(crate) waiting: VecDeque<Waiting>,
    /// How many pieces were made, and how many of them are settled.
    pub(crate) made: u64,
    pub(crate) settled: u64,
    /// When what waits in the queue is taken.
    due: Option<Instant>,
    pub(crate) progress: Progress,
    /// The number of the piece that ends the run.
    end: Option<u64>,
    pub(crate) closing: bool,
    /// The name of a file that was put aside.
    aside: Option<PathBuf>,
}

/// A piece in memory.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) piece: Arc<Piece>,
    pub(crate) size: Size,
}

/// Somebody who waits, in the order of their asking.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// It is answered when so many pieces are settled.
    pub(crate) after: u64,
    pub(crate) asked: Instant,
    pub(crate) ask: Ask,
}

#[derive(Debug)]
pub(crate) enum Ask {
    /// With how many records had been dropped when it was asked.
    Barrier(oneshot::Sender<Result<()>>, u64),
    /// The end of the run, answered when its piece is.
    End(oneshot::Sender<Result<FinishedRun>>),
    /// A further end of the run.
    EndedBefore(oneshot::Sender<Result<FinishedRun>>),
    Close(Option<oneshot::Sender<Report>>),
}

/// What is being sent.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) held: Held,
    /// The place of its first event.
    pub(crate) ordinal: u64,
    pub(crate) late: bool,
    pub(crate) since: Instant,
    /// How many pieces it is.
    pub(crate) pieces: u64,
    /// Where it ends in the spool, if it is there.
    pub(crate) end: Option<Cursor>,
}

impl Intake {
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        head: Head,
        most: Size,
        progress: Progress,
    ) -> Self {
        Self {
            shared,
            settings,
            head,
            most,
            stash: VecDeque::new(),
            partly: 0,
            spool: None,
            spooled: 0,
            repair: None,
            waiting: VecDeque::new(),
            made: 0,
            settled: 0,
            due: None,
            progress,
            end: None,
            closing: false,
            aside: None,
        }
    }

    /// Takes everything out of the queue, as pieces, and notes who waits for what.
    pub(crate) fn take_all(&mut self) {
        self.due = None;
        loop {
            let (batch, size, request) = {
                let mut inner = self.shared.lock();
                let (batch, size) = inner.take_batch(self.most);
                (batch, size, inner.take_request())
            };
            let nothing = batch.is_empty() && request.is_none();
            if nothing {
                return;
            }
            let ask = match request {
                Some(Entry::Finish(finish)) if self.end.is_none() => {
                    self.end = Some(self.made + 1);
                    let mut whole = size;
                    whole += finish.size();
                    let FinishEntry { outcome, asks, at, closing, reply } = *finish;
                    let mut batch = batch;
                    batch.add(closing.recorded);
                    let ending = Ending { batch, terminal: closing.terminal, outcome, asks, at };
                    self.stash_piece(Piece::End(Box::new(ending)), whole);
                    Some(Ask::End(reply))
                }
                other => {
                    if !batch.is_empty() {
                        self.stash_piece(Piece::Batch(batch), size);
                    }
                    match other {
                        Some(Entry::Finish(finish)) => {
                            self.shared.release(finish.size());
                            Some(Ask::EndedBefore(finish.reply))
                        }
                        Some(Entry::Barrier(reply, dropped)) => Some(Ask::Barrier(reply, dropped)),
                        Some(Entry::Close(reply)) => {
                            self.closing = true;
                            Some(Ask::Close(reply))
                        }
                        Some(Entry::Group(..)) | None => None,
                    }
                }
            };
            if let Some(ask) = ask {
                self.waiting.push_back(Waiting { after: self.made, asked: Instant::now(), ask });
            }
        }
    }

    fn stash_piece(&mut self, piece: Piece, size: Size) {
        self.made += 1;
        self.stash.push_back(Held { piece: Arc::new(piece), size });
    }

    /// Whether the queue is to be taken now. Sets the time for it otherwise.
    pub(crate) fn look(&mut self) -> Option<Seen> {
        let seen = self.shared.see();
        let now = Instant::now();
        if seen.requested || seen.full || seen.pressed || self.due.is_some_and(|due| due <= now) {
            return Some(seen);
        }
        if !seen.empty && self.due.is_none() {
            self.due = now.checked_add(self.settings.batch_delay);
        }
        None
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.shared.see().empty && self.stash.is_empty()
    }

    /// Waits until the queue is to be taken.
    pub(crate) async fn wait(&mut self) {
        while self.look().is_none() {
            let repair = self.repair.as_ref().filter(|_| !self.stash.is_empty()).map(|(_, at)| *at);
            if repair.is_some_and(|at| at <= Instant::now()) || self.closing {
                return;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = until(earliest([self.due, repair])) => {}
            }
        }
    }

    /// When something is to be done while a piece is on its way.
    pub(crate) fn wakes(&mut self, flight: &Flight) -> Option<Instant> {
        // Sets the time at which the queue is taken.
        let seen = self.look();
        let wanted = match &self.settings.overflow {
            Overflow::Memory => None,
            Overflow::Spool(_) if self.spool.is_none() && seen.is_some_and(|seen| seen.pressed) => {
                Some(flight.since)
            }
            Overflow::Spool(settings) if self.spool.is_none() => flight.since.checked_add(settings.after),
            Overflow::Spool(_) if self.is_unspooled(flight) || seen.is_some_and(|seen| !seen.empty) => {
                Some(flight.since)
            }
            Overflow::Spool(_) => self.due,
        };
        // A disk that failed is given its pause, and is nothing to wake for by itself.
        let spills = wanted.map(|at| self.repair.as_ref().map_or(at, |(_, repair)| at.max(*repair)));
        earliest([spills, self.deadline()])
    }

    /// Whether something is in memory that goes behind what the spool has.
    fn is_unspooled(&self, flight: &Flight) -> bool {
        flight.end.is_none() || !self.stash.is_empty()
    }

    /// What is done while a piece is on its way. False where the patience of a close is over.
    pub(crate) async fn tend(&mut self, flight: &mut Flight) -> bool {
        let seen = self.look();
        let requested = seen.is_some_and(|seen| seen.requested);
        if requested {
            self.take_all();
        }
        let now = Instant::now();
        let over = self.deadline().is_some_and(|deadline| deadline <= now);
        if let Overflow::Spool(settings) = &self.settings.overflow {
            let begins = flight.since.elapsed() >= settings.after || seen.is_some_and(|seen| seen.pressed);
            let wanted =
                if self.spool.is_some() { seen.is_some() || self.is_unspooled(flight) } else { begins };
            if over || (wanted && self.may_spill()) {
                self.take_all();
                let base = (flight.ordinal, flight.late);
                self.spill(Some(flight), base).await;
            }
        }
        !over || self.expire()
    }

    /// When the first who waits for the database has waited long enough.
    fn deadline(&self) -> Option<Instant> {
        let patient =
            |waiting: &&Waiting| matches!(waiting.ask, Ask::End(_) | Ask::EndedBefore(_) | Ask::Close(_));
        let asked = self.waiting.iter().find(patient)?.asked;
        self.patience(asked)
    }

    /// Until when who asked then waits for the database.
    pub(crate) fn patience(&self, asked: Instant) -> Option<Instant> {
        asked.max(self.progress.at()).checked_add(self.settings.close_patience)
    }

    /// Answers who has waited long enough. False where that is a close.
    fn expire(&mut self) -> bool {
        let patience = self.settings.close_patience;
        let mut kept = VecDeque::new();
        let mut closes = false;
        for waiting in std::mem::take(&mut self.waiting) {
            let over = waiting.asked.max(self.progress.at()).elapsed() >= patience;
            match waiting.ask {
                Ask::End(reply) | Ask::EndedBefore(reply) if over => drop(reply.send(Err(self.waits()))),
                ask => {
                    closes |= over && matches!(ask, Ask::Close(_));
                    kept.push_back(Waiting { ask, ..waiting });
                }
            }
        }
        self.waiting = kept;
        !closes
    }

    pub(crate) fn waits(&self) -> Error {
        waits(match &self.spool {
            Some(spool) => format!("what was recorded waits in {}", spool.path().display()),
            None => "what was recorded waits in memory until the journal is closed".to_owned(),
        })
    }

    /// Who asked for the end of the run.
    pub(crate) fn take_end(&mut self) -> Option<oneshot::Sender<Result<FinishedRun>>> {
        let at = self.waiting.iter().position(|waiting| matches!(waiting.ask, Ask::End(_)))?;
        match self.waiting.remove(at)?.ask {
            Ask::End(reply) => Some(reply),
            Ask::Barrier(..) | Ask::EndedBefore(_) | Ask::Close(_) => None,
        }
    }

    /// Puts what is in memory into the spool: what is on its way first, for it is first in order.
    /// `base` is the place of the first event that is not stored.
    pub(crate) async fn spill(&mut self, flight: Option<&mut Flight>, (ordinal, late): (u64, bool)) {
        let Overflow::Spool(settings) = &self.settings.overflow else { return };
        let nothing = flight.as_ref().is_none_or(|flight| flight.end.is_some()) && self.stash.is_empty();
        if nothing {
            return;
        }
        if self.spool.is_none() {
            match Spool::create(settings.clone(), self.head.clone(), ordinal, late).await {
                Ok(spool) => {
                    tracing::warn!(run_id = %self.head.run_id(), file = %spool.path().display(), "the spool takes over");
                    self.spool = Some(spool);
                }
                Err(error) => return self.spool_failed(&error),
            }
        }
        let Some(spool) = &mut self.spool else { return };
        if let Some(flight) = flight
            && flight.end.is_none()
        {
            match spool.append(Arc::clone(&flight.held.piece)).await {
                Ok(end) => flight.end = Some(end),
                Err(error) => return self.spool_failed(&error),
            }
            self.spooled += flight.held.piece.events();
        }
        while let Some(held) = self.stash.front() {
            if let Err(error) = spool.append(Arc::clone(&held.piece)).await {
                return self.spool_failed(&error);
            }
            self.spooled += held.piece.events();
            self.shared.release(held.size);
            spool.discount(std::mem::take(&mut self.partly));
            self.stash.pop_front();
        }
        self.repair = None;
    }

    /// Whether the spool is well, or may be again.
    pub(crate) fn may_spill(&self) -> bool {
        self.repair.as_ref().is_none_or(|(_, at)| *at <= Instant::now())
    }

    /// What the spool did not take stays in memory, and is offered again.
    fn spool_failed(&mut self, error: &io::Error) {
        let mut backoff = match self.repair.take() {
            Some((backoff, _)) => backoff,
            None => {
                tracing::error!(run_id = %self.head.run_id(), %error, "the spool cannot be written; records are held in memory");
                Backoff::new(&self.settings)
            }
        };
        let at = Instant::now() + backoff.next_delay();
        self.repair = Some((backoff, at));
    }

    pub(crate) async fn remove_spool(&mut self) {
        if let Some(spool) = self.spool.take()
            && let Err(error) = spool.remove().await
        {
            // Everything in it is stored: whoever recovers it writes nothing.
            tracing::warn!(file = %spool.path().display(), %error, "a spool file cannot be removed");
            self.aside = Some(spool.path().to_owned());
        }
    }

    pub(crate) async fn put_aside(&mut self, ending: &'static str) {
        let Some(spool) = self.spool.take() else { return };
        self.aside = Some(match spool.set_aside(ending).await {
            Ok(path) => path,
            Err(error) => {
                tracing::error!(file = %spool.path().display(), %error, "a spool file cannot be renamed");
                spool.path().to_owned()
            }
        });
    }

    /// Keeps a spool that cannot be read aside, and tells those who wait for what was in it. Says how
    /// many of its events are lost by it.
    pub(crate) async fn give_up_spool(&mut self, error: &ReadError) -> u64 {
        let Some(spool) = &self.spool else { return 0 };
        let (lost, reason) = (spool.unsent(), error.to_string());
        tracing::error!(file = %spool.path().display(), reason, "a spool file cannot be read back and is kept aside");
        self.put_aside(CORRUPT).await;
        let sent = std::mem::replace(&mut self.settled, self.made - self.stash.len() as u64);
        // An end that was in it may be asked for again.
        self.end = self.end.filter(|end| *end <= sent || *end > self.settled);
        let corrupt = || Error::Corrupt { what: "spool file", reason: reason.clone(), source: None };
        let mut kept = VecDeque::new();
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.ask {
                Ask::Barrier(reply, _) if waiting.after <= self.settled => drop(reply.send(Err(corrupt()))),
                Ask::End(reply) if waiting.after <= self.settled => drop(reply.send(Err(corrupt()))),
                ask => kept.push_back(Waiting { ask, ..waiting }),
            }
        }
        self.waiting = kept;
        lost
    }

    /// Whether what the sender did not store is kept for another try.
    pub(crate) fn keeps(&self, sender: &Sender) -> bool {
        let may_pass = sender.stopped().is_none_or(|(_, stop)| stop == Stop::Away);
        may_pass && matches!(self.settings.overflow, Overflow::Spool(_))
    }

    /// Takes back what was on its way and of which `stored` events are in the log, in front of all
    /// that is not in the spool.
    pub(crate) fn keep(&mut self, held: Held, end: Option<Cursor>, stored: u64) {
        match (end, &mut self.spool) {
            (Some(_), Some(spool)) => {
                spool.discount(stored);
                self.shared.release(held.size);
            }
            _ => {
                self.partly = stored;
                self.stash.push_front(held);
            }
        }
    }

    pub(crate) fn report(&self, sender: &Sender) -> Report {
        let tally = self.shared.tally();
        let mut report = sender.report.clone();
        report.lost += tally.lost;
        report.usage_lost += tally.usage_lost;
        report.queued_peak = tally.peak.events as u64;
        report.queued_bytes_peak = tally.peak.bytes as u64;
        report.spooled = self.spooled;
        report.end_in_spool = self.spool.as_ref().is_some_and(Spool::ends_run);
        report.left_in_spool = self.spool.as_ref().map_or(0, Spool::unsent);
        let path = self.spool.as_ref().map(|spool| spool.path().to_owned());
        report.spool_file = path.or_else(|| self.aside.clone());
        report
    }
}

pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}
