//! Journals that write, run after run, while something is broken around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use runledger_core::{Error, Ledger, NewThread, Result, RunId, Scope, ThreadId};
use runledger_journal::{Report, spool};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::audit::Audit;
use crate::script::{RunScript, Spooling, Told, Writer};

const PAUSE: Duration = Duration::from_millis(5);

/// Steps of one run, and bytes of each.
const STEPS: u64 = 12;
const PADDING: usize = 400;

/// Bytes of the file of a writer whose disk is as good as full: less than one of its commits has.
const NO_ROOM: u64 = 1_024;

/// Writers, each with a thread of its own. Of four, one is a journal in memory, one spools, one spools
/// to a disk that is full, and one writes by marks.
#[derive(Debug)]
pub struct Load {
    spool: TempDir,
    acknowledged: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Written>>>,
}

/// What one writer wrote.
#[derive(Debug)]
struct Written {
    thread: ThreadId,
    runs: Vec<RunScript>,
    retried: u64,
    spooled: u64,
}

/// What a load came to.
#[derive(Debug)]
pub struct Outcome {
    /// How many events were acknowledged.
    pub acknowledged: u64,
    /// How often something was sent again.
    pub retried: u64,
    /// How many events went through the spool.
    pub spooled: u64,
    /// What is stored.
    pub audit: Audit,
}

impl Load {
    /// Starts so many writers on the ledger; `quiet` is the same ledger by a way that nothing breaks.
    ///
    /// # Errors
    /// When the threads cannot be created.
    pub async fn start(ledger: &Ledger, quiet: &Ledger, writers: usize) -> Result<Self> {
        let (acknowledged, stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let spool = tempfile::tempdir()
            .map_err(|error| Error::invalid("folder", format!("cannot be made: {error}")))?;
        let mut load = Self {
            spool,
            acknowledged: Arc::clone(&acknowledged),
            stopping: Arc::clone(&stopping),
            writers: Vec::new(),
        };
        for number in 0..writers {
            let thread = ThreadId::generate();
            quiet.threads().create(&Scope::System, NewThread::new(thread.clone())).await?;
            let writer = if number % 4 == 3 { Writer::Marks } else { Writer::Journal };
            let spooling =
                |max_file_bytes| Some(Spooling { folder: load.spool.path().to_owned(), max_file_bytes });
            let spool = match number % 4 {
                1 => spooling(u64::MAX),
                2 => spooling(NO_ROOM),
                _ => None,
            };
            let script =
                RunScript { thread, run: RunId::generate(), writer, steps: STEPS, padding: PADDING, spool };
            let (ledger, acknowledged, stopping) =
                (ledger.clone(), Arc::clone(&acknowledged), Arc::clone(&stopping));
            load.writers.push(tokio::spawn(write(ledger, script, acknowledged, stopping)));
        }
        Ok(load)
    }

    /// Waits until that many more events are acknowledged: the load goes on.
    ///
    /// # Panics
    /// When a writer broke off, for then it does not.
    pub async fn goes_on(&self, events: u64) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + events;
        while self.acknowledged.load(Ordering::Relaxed) < enough {
            assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer broke off");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets each writer end the run that it is at, and looks at everything by the quiet way.
    ///
    /// # Panics
    /// When a writer panicked, or a spool file is left.
    ///
    /// # Errors
    /// What the first writer that failed was answered.
    pub async fn stop(self, quiet: &Ledger) -> Result<Outcome> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut outcome = Outcome { acknowledged: 0, retried: 0, spooled: 0, audit: Audit::default() };
        for writer in self.writers {
            let written = match writer.await {
                Ok(written) => written?,
                Err(error) => panic!("a writer broke off: {error}"),
            };
            outcome.retried += written.retried;
            outcome.spooled += written.spooled;
            outcome.audit.add(Audit::runs(quiet, &written.thread, &written.runs, 0).await?);
        }
        outcome.acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let left = spool::list(self.spool.path()).await?;
        assert_eq!(left, [], "everything is stored, and every writer closed its journals");
        Ok(outcome)
    }
}

async fn write(
    ledger: Ledger,
    first: RunScript,
    acknowledged: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
) -> Result<Written> {
    let mut written = Written { thread: first.thread.clone(), runs: Vec::new(), retried: 0, spooled: 0 };
    while !stopping.load(Ordering::Relaxed) || written.runs.is_empty() {
        let script = RunScript { run: RunId::generate(), ..first.clone() };
        let so_far = AtomicU64::new(0);
        let acknowledge = |_: &RunId, count: u64| {
            let before = so_far.fetch_max(count, Ordering::Relaxed);
            acknowledged.fetch_add(count.saturating_sub(before), Ordering::Relaxed);
        };
        let batch = 1 + written.runs.len() as u64 % 3;
        let Told { report, retried } = script.tell(&ledger, batch, &acknowledge).await?;
        written.retried += retried + report.as_ref().map_or(0, |report| report.retried);
        if let Some(report) = report {
            written.spooled += report.spooled;
            require_nothing_lost(&report);
        }
        written.runs.push(script);
    }
    Ok(written)
}

/// What a journal reports of a database that always came back.
fn require_nothing_lost(report: &Report) {
    let lost = (report.lost, report.usage_lost, report.fenced, report.quarantined.len());
    assert_eq!(lost, (0, 0, 0, 0), "{report:?}");
    assert_eq!((&report.stopped, &report.spool_file), (&None, &None), "{report:?}");
}
