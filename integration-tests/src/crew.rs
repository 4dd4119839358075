//! Workers that share a heap of runs, die in the middle of them and take them from each other.
//!
//! Each is a process with a [`RunManager`]. They go through the same runs, each in its own order:
//! whoever admits a run executes it, or dies, or has it stolen. What a worker was told to be durable
//! it writes into a file of its own before it goes on.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runledger_core::{
    Admission as NewAdmission, Claim, ErrorKind, ItemId, ItemKind, ItemMark, ItemStatus, Ledger,
    MultitaskStrategy, NewRun, NewThread, Outcome, RawJson, Result, RunFilter, RunId, RunStatus, Scope,
    ThreadId, Timestamp, TokenCounts,
};
use runledger_core::{Caller, Category, ListRange};
use runledger_journal::callbacks::{ExternalUsage, ItemRecord, RuntimeCallbacks};
use runledger_journal::{
    Admission, ManagedRun, ManagerSettings, Overflow, RunManager, Settings, SpoolSettings, user_message,
};
use runledger_persistence::{Config, connect};
use serde::{Deserialize, Serialize};

const SCOPE: Scope = Scope::System;

/// Model calls of a run that is executed to its end.
pub const STEPS: u64 = 4;

/// What one worker of a crew is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CrewJob {
    /// The database.
    pub url: String,
    /// Where its journals spool, and where it notes what it was told to be durable.
    pub folder: PathBuf,
    /// Chance begins here; another worker, another number.
    pub seed: u64,
    /// How many runs there are.
    pub runs: u64,
    /// On how many threads.
    pub threads: u64,
    /// The chance, in a hundred, that the process dies in the middle of a run.
    pub deadly: u64,
    /// The chance, in a hundred, that it takes somebody's run before one of its own.
    pub thievish: u64,
}

/// What a worker was told of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The run.
    pub run: RunId,
    /// The epoch it had it under.
    pub epoch: u64,
    /// So many steps were durable.
    pub steps: u64,
}

/// What a worker did, if it lived to say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrewReport {
    /// Runs it ended itself.
    pub ended: u64,
    /// Runs that were taken from it.
    pub lost: u64,
    /// Runs it took from others.
    pub stolen: u64,
}

/// Numbers that look like chance: the same for the same seed.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// The id of a run of the heap.
///
/// # Errors
/// Never, in truth.
pub fn run_id(number: u64) -> Result<RunId> {
    RunId::new(format!("run-{number:04}"))
}

/// The thread of a run.
///
/// # Errors
/// Never, in truth.
pub fn thread_id(job: &CrewJob, number: u64) -> Result<ThreadId> {
    ThreadId::new(format!("thread-{:03}", number % job.threads.max(1)))
}

/// Goes through the heap until every run has ended.
///
/// # Errors
/// What the ledger answers that none of this explains.
pub async fn work(job: &CrewJob) -> Result<CrewReport> {
    let ledger = connect(Config::new(&job.url)).await?;
    let settings = ManagerSettings {
        lease: Duration::from_millis(1_500),
        heartbeat: Duration::from_millis(200),
        grace: Duration::from_millis(100),
        sweep_every: Duration::from_millis(300),
        poll: Duration::from_millis(50),
        journal: Settings {
            batch_events: 4,
            batch_delay: Duration::from_millis(5),
            overflow: Overflow::Spool(SpoolSettings::new(job.folder.join("spool"))),
            ..Settings::default()
        },
        ..ManagerSettings::default()
    };
    let (manager, _) = RunManager::start(Ledger::clone(&ledger), settings).await?;
    let mut worker = Worker {
        notes: notes(&job.folder, job.seed)?,
        chance: Chance(job.seed),
        report: CrewReport::default(),
        manager,
        job,
    };
    let mut left: Vec<u64> = (0..job.runs).collect();
    while !left.is_empty() {
        let at = worker.chance.below(left.len() as u64) as usize;
        let number = left[at];
        if worker.attend(number).await? {
            left.swap_remove(at);
        } else {
            tokio::time::sleep(Duration::from_millis(worker.chance.below(20))).await;
        }
    }
    let Worker { manager, report, .. } = worker;
    manager.shutdown(Duration::from_secs(60)).await;
    ledger.close().await;
    Ok(report)
}

fn notes(folder: &Path, seed: u64) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(format!("{seed}.acknowledged")));
    file.map_err(|error| runledger_core::Error::invalid("folder", error.to_string()))
}

/// What a crew of this folder was told to be durable, a torn last line of a killed worker left out.
///
/// # Errors
/// When the folder cannot be read.
pub fn acknowledged(folder: &Path) -> std::io::Result<Vec<Acknowledged>> {
    let mut told = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "acknowledged") {
            let text = std::fs::read_to_string(&path)?;
            told.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
    }
    Ok(told)
}

struct Worker<'a> {
    job: &'a CrewJob,
    manager: RunManager,
    chance: Chance,
    report: CrewReport,
    notes: File,
}

impl Worker<'_> {
    /// Looks after a run; true once it has ended.
    async fn attend(&mut self, number: u64) -> Result<bool> {
        let (run, thread) = (run_id(number)?, thread_id(self.job, number)?);
        match self.manager.ledger().runs().get(&SCOPE, &thread, &run).await {
            Ok(stored) => return Ok(stored.status.is_terminal()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.chance.percent(self.job.thievish) {
            self.steal().await?;
        }
        let strategy = match self.chance.below(10) {
            0 => MultitaskStrategy::Interrupt,
            1 => MultitaskStrategy::Rollback,
            2 | 3 => MultitaskStrategy::Enqueue,
            _ => MultitaskStrategy::Reject,
        };
        let new = NewRun {
            create_missing: Some(NewThread::new(thread.clone())),
            admission: NewAdmission { multitask_strategy: strategy, ..NewAdmission::default() },
            input: vec![user_message(ItemId::new("u")?, RawJson::string("Go on."), Timestamp::now())],
            ..NewRun::new(thread, run)
        };
        match self.manager.admit(&SCOPE, new).await {
            Ok(Admission::Active(run)) => self.execute(run).await?,
            Ok(Admission::Queued(mut run)) => {
                if let Some(run) = run.wait().await? {
                    self.execute(run).await?;
                }
            }
            Ok(Admission::Existing(_)) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    /// Ends a run that goes on anywhere, whoever holds it.
    async fn steal(&mut self) -> Result<()> {
        let ledger = self.manager.ledger().clone();
        let running = RunFilter { status: Some(RunStatus::Running), ..RunFilter::default() };
        let page = ledger.runs().list(&SCOPE, &running, &ListRange::newest(10)).await?;
        if page.items.is_empty() {
            return Ok(());
        }
        let victim = &page.items[self.chance.below(page.items.len() as u64) as usize];
        let claim = Claim::Epoch(victim.epoch);
        let outcome = Outcome::interrupted("stolen");
        let (thread, run) = (&victim.thread_id, &victim.run_id);
        match ledger.interrupt(&SCOPE, thread, run, claim, outcome, Timestamp::now()).await {
            Ok(_) => self.report.stolen += 1,
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn execute(&mut self, mut run: ManagedRun) -> Result<()> {
        let dies_at = self.chance.percent(self.job.deadly).then(|| self.chance.below(STEPS * 2));
        for step in 0..STEPS {
            if run.cancel_token().is_cancelled() {
                break;
            }
            record(&run, step)?;
            self.die(dies_at, step * 2);
            match run.journal().barrier().await {
                Ok(()) => self.note(&run, step + 1)?,
                Err(error) if error.kind() == ErrorKind::LeaseLost => break,
                Err(error) => return Err(error),
            }
            self.die(dies_at, step * 2 + 1);
            tokio::time::sleep(Duration::from_millis(self.chance.below(8))).await;
        }
        let finished = run.finish(Outcome::success()).await?;
        if finished.ended_here {
            self.report.ended += 1;
        } else {
            self.report.lost += 1;
        }
        let report = run.close().await?;
        if report.lost > 0 || report.usage_lost > 0 {
            return Err(runledger_core::Error::corrupt("journal", format!("{report:?}")));
        }
        Ok(())
    }

    fn die(&self, at: Option<u64>, now: u64) {
        if at == Some(now) {
            std::process::abort();
        }
    }

    fn note(&mut self, run: &ManagedRun, steps: u64) -> Result<()> {
        let told = Acknowledged { run: run.run().run_id.clone(), epoch: run.run().epoch, steps };
        let line = RawJson::encode("acknowledged", &told)?;
        // One write, so that a killed worker leaves whole lines or a torn last one.
        self.notes
            .write_all(format!("{}\n", line.as_str()).as_bytes())
            .map_err(|error| runledger_core::Error::invalid("folder", error.to_string()))
    }
}

/// A tool call and a model call.
fn record(run: &ManagedRun, step: u64) -> Result<()> {
    let journal = run.journal();
    let id = ItemId::new(format!("call-{step}"))?;
    let content = RawJson::encode("content", &step)?;
    let item = |status, category| ItemRecord {
        mark: ItemMark::new(id.clone(), ItemKind::ToolCall, status),
        category,
        caller: Some(Caller::lead_agent()),
        content: &content,
        at: Timestamp::now(),
    };
    journal.on_item_started(item(ItemStatus::InProgress, Category::Lifecycle));
    journal.record_external_usage(ExternalUsage {
        source_id: &format!("model-{step}"),
        tokens: TokenCounts::of(10 + step, 1),
        caller: Caller::lead_agent(),
        model: Some("m"),
        price: None,
        child_thread_id: None,
        at: Timestamp::now(),
    });
    journal.on_item_completed(item(ItemStatus::Completed, Category::Message));
    Ok(())
}
