//! The one task that writes a run's journal.
//!
//! What callbacks record goes from the queue to the [`Sender`], piece by piece and in order. Where
//! the database does not keep up, or is away, pieces go into the spool first and are read back from
//! it; the file work is done while the sender waits for the database. The task owns what it has taken
//! until the store or the spool has it, so that nobody who gives up waiting loses anything.

use std::sync::Arc;

use runledger_core::Error;
use tokio::time::Instant;

use crate::intake::{Ask, Flight, Held, Intake, Waiting, until};
use crate::queue::{Shared, Size};
use crate::report::{FinishedRun, Report};
use crate::run_journal::Settings;
use crate::sender::{Sender, Unsent};
use crate::spool::{FENCED, Head, Spool};

/// A task of its own for each run.
#[derive(Debug)]
pub(crate) struct Writer {
    intake: Intake,
    sender: Sender,
}

impl Drop for Writer {
    /// Whoever asks from now on would wait for nobody.
    fn drop(&mut self) {
        self.intake.shared.writer_left(None);
    }
}

/// The answer to a barrier before which records were dropped.
fn incomplete(dropped: u64) -> Error {
    let reason = format!(
        "{dropped} records were dropped, for memory was full and neither the database nor the spool took more;          allow more in SpoolSettings, or record less at once"
    );
    Error::corrupt("journal", reason)
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        head: Head,
        most: Size,
        sender: Sender,
    ) -> Self {
        Self { intake: Intake::new(shared, settings, head, most, sender.progress()), sender }
    }

    /// Writes until it is told to close, or nobody is left to record.
    pub(crate) async fn run(mut self) {
        loop {
            if self.sender.stopped().is_some() {
                self.settle_stopped().await;
            } else if let Some(flight) = self.next().await {
                if !self.deliver(flight).await {
                    break;
                }
                self.answer().await;
                continue;
            }
            self.answer().await;
            if self.intake.closing && (self.sender.stopped().is_some() || self.intake.is_idle()) {
                break;
            }
            self.intake.wait().await;
            self.intake.take_all();
        }
        self.close().await;
    }

    /// What is to be sent next, if anything is.
    async fn next(&mut self) -> Option<Flight> {
        let base = (self.sender.ordinal(), self.sender.is_late());
        while let Some(spool) = &self.intake.spool {
            if spool.is_drained() {
                self.intake.remove_spool().await;
                break;
            }
            // New records go behind the spool, as soon as they would have gone to the database.
            if self.intake.look().is_some() {
                self.intake.take_all();
                if self.intake.may_spill() {
                    self.intake.spill(None, base).await;
                }
            }
            let Some(spool) = &self.intake.spool else { break };
            match spool.read(self.intake.most).await {
                Ok(read) => {
                    self.intake.shared.hold(read.size);
                    self.sender.seek(read.ordinal);
                    return Some(Flight {
                        held: Held { piece: Arc::new(read.piece), size: read.size },
                        ordinal: read.ordinal,
                        late: read.late,
                        since: Instant::now(),
                        pieces: read.batches,
                        end: Some(read.end),
                    });
                }
                Err(error) => {
                    let lost = self.intake.give_up_spool(&error).await;
                    self.sender.report.lost += lost;
                    self.sender.seek(base.0);
                }
            }
        }
        let Some(held) = self.intake.stash.pop_front() else {
            // Whatever the disk did not take, the database has.
            self.intake.repair = None;
            return None;
        };
        let (ordinal, late) = base;
        Some(Flight { held, ordinal, late, since: Instant::now(), pieces: 1, end: None })
    }

    /// Sends a piece, and takes care of the queue meanwhile. False where the patience of a
    /// close is over.
    async fn deliver(&mut self, mut flight: Flight) -> bool {
        let Self { intake, sender } = self;
        let piece = Arc::clone(&flight.held.piece);
        let answer = {
            let sending = sender.deliver(&piece);
            tokio::pin!(sending);
            loop {
                if !intake.tend(&mut flight).await {
                    break None;
                }
                let wakes = intake.wakes(&flight);
                tokio::select! {
                    biased;
                    answer = &mut sending => break Some(answer),
                    () = intake.shared.wake.notified() => {}
                    () = until(wakes) => {}
                }
            }
        };
        let Flight { held, ordinal, late, pieces, end, .. } = flight;
        match answer {
            Some(Ok(ended)) => {
                intake.settled += pieces;
                intake.shared.release(held.size);
                if let (Some(spool), Some(end)) = (&mut intake.spool, end) {
                    spool.advance(end, piece.events());
                }
                if let Some((run, ended_here)) = ended {
                    let report = self.report();
                    if let Some(reply) = self.intake.take_end() {
                        // Nobody may be waiting any more; what was written is written.
                        let _ = reply.send(Ok(FinishedRun { run, ended_here, report }));
                    }
                }
                true
            }
            Some(Err(Unsent(rest))) => {
                intake.settled += pieces;
                if intake.keeps(sender) {
                    intake.keep(held, end, sender.ordinal() - ordinal);
                    sender.seek(ordinal);
                    return true;
                }
                intake.shared.release(held.size);
                match (&mut intake.spool, end) {
                    (Some(spool), Some(end)) => {
                        spool.advance(end, piece.events());
                        sender.fence(rest).await;
                    }
                    _ => sender.abandon(rest).await,
                }
                true
            }
            None => {
                intake.keep(held, end, sender.ordinal() - ordinal);
                intake.take_all();
                intake.spill(None, (ordinal, late)).await;
                false
            }
        }
    }

    /// What becomes of records after the sender stopped: they wait in the spool where a later try may
    /// store them, else they are given up.
    async fn settle_stopped(&mut self) {
        let Self { intake, sender } = self;
        if intake.keeps(sender) {
            if intake.may_spill() || intake.closing {
                intake.spill(None, (sender.ordinal(), sender.is_late())).await;
            }
            intake.settled = intake.made;
            return;
        }
        while let Some(spool) = &intake.spool {
            if spool.is_blank() {
                intake.remove_spool().await;
                break;
            }
            if spool.is_drained() {
                intake.put_aside(FENCED).await;
                break;
            }
            match spool.read(intake.most).await {
                Ok(read) => {
                    if let Some(spool) = &mut intake.spool {
                        spool.advance(read.end, read.piece.events());
                    }
                    sender.fence(read.piece.into_batch()).await;
                }
                Err(error) => {
                    let lost = intake.give_up_spool(&error).await;
                    sender.report.lost += lost;
                }
            }
        }
        while let Some(held) = intake.stash.pop_front() {
            intake.shared.release(held.size);
            sender.abandon(Arc::unwrap_or_clone(held.piece).into_batch()).await;
        }
        intake.settled = intake.made;
    }

    /// Answers whoever waits for what is settled.
    async fn answer(&mut self) {
        let Self { intake, sender } = self;
        while let Some(first) = intake.waiting.front() {
            if first.after > intake.settled {
                return;
            }
            if let Ask::Close(_) = first.ask {
                return;
            }
            let Some(Waiting { ask, asked, .. }) = intake.waiting.pop_front() else { return };
            match ask {
                Ask::Barrier(reply, dropped) => {
                    let missing = intake.shared.untold(dropped);
                    match sender.standing() {
                        Ok(()) if missing > 0 => {
                            if reply.send(Err(incomplete(missing))).is_ok() {
                                intake.shared.tell(dropped);
                            }
                        }
                        standing => drop(reply.send(standing)),
                    }
                }
                // The end was not sent, for the run had ended, or was taken away and so ended.
                Ask::End(reply) | Ask::EndedBefore(reply) => {
                    let patience = until(intake.patience(asked));
                    let ended = tokio::select! {
                        ended = sender.ended() => ended,
                        () = patience => sender.standing().and_then(|()| Err(intake.waits())),
                    };
                    let report = intake.report(sender);
                    drop(reply.send(ended.map(|run| FinishedRun { run, ended_here: false, report })));
                }
                Ask::Close(_) => {}
            }
        }
    }

    fn report(&self) -> Report {
        self.intake.report(&self.sender)
    }

    /// The last word.
    async fn close(mut self) {
        let Self { intake, sender } = &mut self;
        if intake.spool.as_ref().is_some_and(Spool::is_drained) {
            intake.remove_spool().await;
        }
        let mut stored = std::mem::take(&mut intake.partly);
        for held in intake.stash.drain(..) {
            let batch = Arc::unwrap_or_clone(held.piece).into_batch();
            sender.report.lost += batch.events.len() as u64 - std::mem::take(&mut stored);
            sender.report.usage_lost += batch.usage.len() as u64;
        }
        let report = self.report();
        let run_id = self.intake.head.run_id();
        if report.lost > 0 || report.usage_lost > 0 {
            tracing::error!(%run_id, lost = report.lost, usage_lost = report.usage_lost, "records of a run are lost");
        }
        if let Some(file) = &report.spool_file {
            tracing::warn!(%run_id, file = %file.display(), events = report.left_in_spool, "records of a run are left in the spool");
        }
        self.intake.shared.writer_left(Some(&report));
        for Waiting { ask, .. } in std::mem::take(&mut self.intake.waiting) {
            match ask {
                Ask::Close(Some(reply)) => drop(reply.send(report.clone())),
                Ask::Close(None) => {}
                Ask::Barrier(reply, _) => drop(reply.send(Err(self.intake.waits()))),
                Ask::End(reply) | Ask::EndedBefore(reply) => drop(reply.send(Err(self.intake.waits()))),
            }
        }
    }
}
