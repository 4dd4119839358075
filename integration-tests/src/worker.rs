//! What a worker process of a test does: the tests that need many processes start this crate's
//! program `runledger-test-worker` many times, each with one [`Job`] as JSON, and read one [`Outcome`] from each.

use runledger_core::{Category, Commit, EventDraft, EventType, RawJson, RunId, Scope, ThreadId};
use runledger_persistence::{Config, connect};
use serde::{Deserialize, Serialize};

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
    /// Brings the schema up to date.
    Migrate {
        /// The database.
        url: String,
    },
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
    /// How many migrations this worker applied.
    Migrated {
        /// Of those that exist.
        applied: usize,
    },
}

/// Does the job; the error is text for the test that started the worker.
pub async fn work(job: Job) -> Result<Outcome, String> {
    match job {
        Job::Append { url, thread, writer, commits, events } => {
            append(&url, &thread, &writer, commits, events).await.map_err(|error| chain(&error))
        }
        Job::PutIfAbsent { url, thread, run, once_key } => {
            put_if_absent(&url, &thread, &run, once_key).await.map_err(|error| chain(&error))
        }
        Job::Migrate { url } => {
            let report = runledger_migration::up(&url, &runledger_migration::UpOptions::default())
                .await
                .map_err(|error| chain(&error))?;
            Ok(Outcome::Migrated { applied: report.applied.len() })
        }
    }
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
