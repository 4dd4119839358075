//! A run that this process executes.

use std::sync::Arc;

use runledger_core::{ErrorKind, NewInteraction, Outcome, Result, Run, Timestamp};
use tokio_util::sync::CancellationToken;

use super::RunManager;
use super::held::{Held, StopReason};
use crate::report::{FinishedRun, Report};
use crate::run_journal::{Ender, RunJournal};

/// The stop reason of a run whose handle was dropped.
pub(super) const ABANDONED: &str = "abandoned";

/// A run that this process holds: its journal, its cancel token, its end.
///
/// A runtime stops when the token is cancelled, and finishes the run then, too; with which outcome
/// does not matter where somebody asked for another. Dropped without [`ManagedRun::finish`] (by a
/// panic, say), the run is ended as interrupted, `abandoned`, with everything recorded until then.
#[derive(Debug)]
pub struct ManagedRun {
    // In this order: the end is asked for before the journal is closed.
    hold: Hold,
    journal: RunJournal,
}

/// This process's claim on a run, and its end where nobody asks for it.
#[derive(Debug)]
struct Hold {
    manager: RunManager,
    held: Arc<Held>,
    ender: Ender,
    /// Whether the end was asked for.
    finished: bool,
    /// Whether it is known what becomes of the run.
    settled: bool,
}

impl ManagedRun {
    pub(super) fn new(manager: RunManager, held: Arc<Held>, journal: RunJournal) -> Self {
        let hold = Hold { manager, held, ender: journal.ender(), finished: false, settled: false };
        Self { hold, journal }
    }

    /// The run as it was admitted, or resumed.
    #[must_use]
    pub fn run(&self) -> &Run {
        self.journal.run()
    }

    /// Where the runtime's callbacks go.
    #[must_use]
    pub fn journal(&self) -> &RunJournal {
        &self.journal
    }

    /// Cancelled when the run is to stop; [`ManagedRun::stopped`] says why.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.hold.held.token.clone()
    }

    /// Why the run is to stop, if it is.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.hold.held.stopped()
    }

    /// Ends the run: see [`RunJournal::finish`]. A run that was asked to stop ends as asked; a run that
    /// was taken away has ended, as the answer says.
    pub async fn finish(&mut self, outcome: Outcome) -> Result<FinishedRun> {
        let answer = self.hold.ender.finish(outcome, Timestamp::now()).await;
        self.hold.ended(answer)
    }

    /// Ends the run with questions to people: see [`RunJournal::finish_asking`]. A run that was asked to stop
    /// asks nobody.
    pub async fn finish_asking(&mut self, asks: Vec<NewInteraction>) -> Result<FinishedRun> {
        self.journal.check_asks(&asks).await?;
        let answer = self.hold.ender.finish_asking(asks, Timestamp::now()).await;
        self.hold.ended(answer)
    }
    /// Writes what is left and reports what became of everything: see [`RunJournal::close`]. A run that
    /// was not finished is ended as interrupted, `abandoned`.
    pub async fn close(mut self) -> Result<Report> {
        if !self.hold.finished {
            // How it went is in the report.
            let _ = self.finish(self.hold.abandoned()).await;
        }
        let report = self.journal.close().await?;
        self.hold.settled = true;
        self.hold.manager.shared.registry.close(&self.hold.held, Some(&report));
        Ok(report)
    }
}

impl Hold {
    /// Notes what the end was answered with.
    fn ended(&mut self, answer: Result<FinishedRun>) -> Result<FinishedRun> {
        match &answer {
            Ok(_) => {
                (self.finished, self.settled) = (true, true);
                self.manager.shared.registry.remove(&self.held);
            }
            // The end is in the journal's hands; the lease is kept until its last word.
            Err(error) if error.kind() == ErrorKind::Unavailable => self.finished = true,
            Err(_) => {}
        }
        answer
    }

    fn abandoned(&self) -> Outcome {
        Outcome::interrupted(match self.held.stopped() {
            Some(StopReason::Cancelled(_)) => Outcome::CANCELLED,
            Some(StopReason::Shutdown) => super::SHUTDOWN,
            _ => ABANDONED,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let ended = (!self.finished).then(|| self.ender.finish(self.abandoned(), Timestamp::now()));
        let closed = self.ender.close();
        let (manager, held) = (self.manager.clone(), Arc::clone(&self.held));
        // The task takes the manager along: the lease is renewed until the run has ended.
        let runtime = self.manager.shared.runtime.clone();
        runtime.spawn(async move {
            if let Some(ended) = ended
                && let Err(error) = ended.await
            {
                tracing::warn!(run_id = %held.run_id, %error, "an abandoned run could not be ended yet");
            }
            let report = closed.await.ok();
            manager.shared.registry.close(&held, report.as_ref());
        });
    }
}
