//! What a worker process of a test does: the tests that need many processes start this crate's
//! program `runledger-test-worker` many times, each with one [`Job`] as JSON, and read its [`Outcome`]s: one,
//! but for a job that says what is durable as it goes on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runledger_core::{Category, Commit, EventDraft, EventType, RawJson, RunId, Scope, ThreadId};
use runledger_persistence::{Config, connect};
use serde::{Deserialize, Serialize};

use crate::agent_loop::{self, Part};
use crate::crew;
use crate::script::{Durable, ThreadScript};

/// One worker's job, passed as its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Appends `commits` commits of `events` events each to `thread`.
    Append {
        /// The database.
        url: String,
        /// The thread, which exists.
        thread: ThreadId,
        /// The worker's name, written into each event.
        writer: String,
        /// How many commits.
        commits: u64,
        /// Events in each.
        events: u64,
    },
    /// Puts one event of a run unless it is there.
    PutIfAbsent {
        /// The database.
        url: String,
        /// The thread, which exists.
        thread: ThreadId,
        /// The run, which exists.
        run: RunId,
        /// The event's once key.
        once_key: String,
    },
    /// Lives a part of the agent loop that is the example of `runledger-journal`.
    Agent {
        /// The database.
        url: String,
        /// Where its tools work.
        folder: PathBuf,
        /// Which part.
        part: AgentPart,
    },
    /// Goes through a heap of runs with others.
    Crew(crew::CrewJob),
    /// Brings the schema up to date.
    Migrate {
        /// The database.
        url: String,
    },
    /// Tells threads, all at once, and says what of them is durable as it becomes so.
    Tell {
        /// The database.
        url: String,
        /// The threads.
        threads: Vec<ThreadScript>,
        /// How many steps of a run go together.
        batch: u64,
        /// Where to die on the way.
        death: Option<Death>,
    },
}

/// A part of the agent loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentPart {
    /// Three sends.
    Sends,
    /// A fourth one, amid whose tool calls the process dies.
    Killed,
    /// Going on with it.
    Resume,
    /// Going on with it, and dying after one more call.
    ResumeAndDie,
}

/// The place at which a worker ends its process, as a `kill -9` from outside would: nothing is
/// unwound, flushed or closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The fail point's name.
    pub point: String,
    /// How often it is reached until then, from 1.
    pub hit: u32,
}

/// What a worker did, printed as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The seqs of the appended events, in the worker's order.
    Appended {
        /// One for each event.
        seqs: Vec<u64>,
    },
    /// The event's seq, and whether this worker wrote it.
    Put {
        /// The stored event's.
        seq: u64,
        /// Whether this worker wrote it.
        created: bool,
    },
    /// What the agent told.
    Agent {
        /// Line by line.
        said: Vec<String>,
    },
    /// What it did of the heap.
    Crew(crew::CrewReport),
    /// How many migrations this worker applied.
    Migrated {
        /// Of those that exist.
        applied: usize,
    },
    /// Something of a thread is durable now.
    Durable {
        /// Which of the job's threads.
        thread: usize,
        /// What.
        what: Durable,
    },
    /// Every thread is told to its end.
    Told,
}

/// Does the job; `say` is told what is done on the way, the answer is what is done in the end. The
/// error is text for the test that started the worker.
pub async fn work(job: Job, say: impl Fn(&Outcome) + Sync) -> Result<Outcome, String> {
    match job {
        Job::Append { url, thread, writer, commits, events } => {
            append(&url, &thread, &writer, commits, events).await.map_err(|error| chain(&error))
        }
        Job::PutIfAbsent { url, thread, run, once_key } => {
            put_if_absent(&url, &thread, &run, once_key).await.map_err(|error| chain(&error))
        }
        Job::Agent { url, folder, part } => agent(&url, &folder, part).await,
        Job::Crew(job) => crew::work(&job).await.map(Outcome::Crew).map_err(|error| chain(&error)),
        Job::Migrate { url } => {
            let report = runledger_migration::up(&url, &runledger_migration::UpOptions::default())
                .await
                .map_err(|error| chain(&error))?;
            Ok(Outcome::Migrated { applied: report.applied.len() })
        }
        Job::Tell { url, threads, batch, death } => {
            if let Some(death) = death {
                die_at(&death)?;
            }
            tell(&url, &threads, batch, &say).await.map_err(|error| chain(&error))
        }
    }
}

#[cfg(feature = "chaos")]
fn die_at(death: &Death) -> Result<(), String> {
    use std::sync::atomic::{AtomicU32, Ordering};

    let Death { point, hit } = death.clone();
    let Some(place) = runledger_persistence::fail_point::FailPoint::named(&point) else {
        return Err(format!("there is no fail point {point}"));
    };
    let reached = AtomicU32::new(0);
    place.on_reach(move || {
        if reached.fetch_add(1, Ordering::Relaxed) + 1 == hit {
            // Long enough for an answer that was given too soon to be printed by another thread.
            std::thread::sleep(Duration::from_millis(20));
            std::process::abort();
        }
    });
    Ok(())
}

#[cfg(not(feature = "chaos"))]
fn die_at(death: &Death) -> Result<(), String> {
    Err(format!("a worker dies at {} only if it is built with the feature chaos", death.point))
}

async fn tell(
    url: &str,
    threads: &[ThreadScript],
    batch: u64,
    say: &(impl Fn(&Outcome) + Sync),
) -> runledger_core::Result<Outcome> {
    // Whatever was killed before may hold a lock for a moment.
    let ledger = connect(Config { busy_timeout: Duration::from_secs(30), ..Config::new(url) }).await?;
    let tell = |(thread, script): (usize, &ThreadScript)| {
        let (ledger, script) = (ledger.ledger(), script.clone());
        async move { script.tell(&ledger, batch, &|what| say(&Outcome::Durable { thread, what })).await }
    };
    futures_util::future::try_join_all(threads.iter().enumerate().map(tell)).await?;
    ledger.close().await;
    Ok(Outcome::Told)
}

async fn agent(url: &str, folder: &Path, part: AgentPart) -> Result<Outcome, String> {
    let part = match part {
        AgentPart::Sends => Part::Sends,
        AgentPart::Killed => Part::Killed,
        AgentPart::Resume => Part::Resume { dies: false },
        AgentPart::ResumeAndDie => Part::Resume { dies: true },
    };
    let sql = connect(Config::new(url)).await.map_err(|error| chain(&error))?;
    let said = Mutex::new(Vec::new());
    let hear = |line: String| said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    let done = agent_loop::act(sql.ledger(), folder, part, &hear).await;
    sql.close().await;
    done.map_err(|error| error.to_string())?;
    Ok(Outcome::Agent { said: said.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

async fn append(
    url: &str,
    thread: &ThreadId,
    writer: &str,
    commits: u64,
    events: u64,
) -> runledger_core::Result<Outcome> {
    let ledger = connect(Config::new(url)).await?;
    let mut seqs = Vec::new();
    for commit in 0..commits {
        let drafts = (0..events)
            .map(|event| note(writer, commit * events + event))
            .collect::<runledger_core::Result<Vec<_>>>()?;
        let commit = Commit::new(thread.clone()).with_events(drafts);
        seqs.extend(ledger.events().append(&Scope::System, commit).await?.seqs);
    }
    ledger.close().await;
    Ok(Outcome::Appended { seqs })
}

async fn put_if_absent(
    url: &str,
    thread: &ThreadId,
    run: &RunId,
    once_key: String,
) -> runledger_core::Result<Outcome> {
    let ledger = connect(Config::new(url)).await?;
    let event = EventDraft { once_key: Some(once_key), ..note("put", 0)? };
    let put = ledger.events().put_if_absent(&Scope::System, thread, run, event).await?;
    ledger.close().await;
    Ok(Outcome::Put { seq: put.event.seq, created: put.created })
}

fn note(writer: &str, number: u64) -> runledger_core::Result<EventDraft> {
    let content = RawJson::encode("content", &(writer, number))?;
    Ok(EventDraft::new(EventType::new("note")?, Category::Custom("note".into()), content))
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
