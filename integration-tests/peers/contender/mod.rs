//! Who is measured: ours, the limits and the peers.

pub(crate) mod archive;
pub(crate) mod file_limit;
pub(crate) mod journal;
pub(crate) mod ours;
pub(crate) mod postgres_limit;
pub(crate) mod python;
pub(crate) mod sqlite_limit;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use async_trait::async_trait;
use runledger_core::BoxError;
use runledger_integration_tests::TestDatabase;
use runledger_integration_tests::postgres::Server;
use serde::Serialize;
use tempfile::TempDir;

use crate::measure::{Stint, Written};
use crate::work::Work;

/// Where a contender keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    Sqlite,
    Postgresql,
    Files,
    Memory,
}

impl fmt::Display for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgresql => "PostgreSQL",
            Self::Files => "files",
            Self::Memory => "memory",
        })
    }
}

/// A backend with its durability: what ours and the limits have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    SqliteNormal,
    SqliteFull,
    Postgresql,
    PostgresqlRelaxed,
    Jsonl,
    JsonlSynced,
    Memory,
}

impl Setting {
    pub(crate) const ALL: [Self; 7] = [
        Self::SqliteNormal,
        Self::SqliteFull,
        Self::Postgresql,
        Self::PostgresqlRelaxed,
        Self::Jsonl,
        Self::JsonlSynced,
        Self::Memory,
    ];

    pub(crate) fn backend(self) -> Backend {
        match self {
            Self::SqliteNormal | Self::SqliteFull => Backend::Sqlite,
            Self::Postgresql | Self::PostgresqlRelaxed => Backend::Postgresql,
            Self::Jsonl | Self::JsonlSynced => Backend::Files,
            Self::Memory => Backend::Memory,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SqliteNormal => "SQLite NORMAL",
            Self::SqliteFull => "SQLite FULL",
            Self::Postgresql => "PostgreSQL",
            Self::PostgresqlRelaxed => "PostgreSQL relaxed",
            Self::Jsonl => "JSONL",
            Self::JsonlSynced => "JSONL synced",
            Self::Memory => "memory",
        }
    }

    fn durability(self) -> &'static str {
        match self {
            Self::SqliteNormal => "process; consistent after a loss of power (synchronous = NORMAL)",
            Self::SqliteFull => "loss of power (synchronous = FULL)",
            Self::Postgresql => "loss of power (synchronous_commit = on)",
            Self::PostgresqlRelaxed => "process; consistent after a loss of power (synchronous_commit = off)",
            Self::Jsonl => "process (write)",
            Self::JsonlSynced => "loss of power (fsync)",
            Self::Memory => "nothing",
        }
    }

    fn limit_name(self) -> String {
        format!("limit, {}", self.name())
    }

    /// Ours with this setting.
    pub(crate) fn ours(self) -> About {
        About {
            name: format!("Runledger, {}", self.name()),
            backend: self.backend(),
            durability: self.durability().to_owned(),
            limit: (self != Self::Memory).then(|| self.limit_name()),
        }
    }

    /// The bare driver with this setting; nothing is below memory.
    pub(crate) fn limit(self) -> Option<About> {
        (self != Self::Memory).then(|| About {
            name: self.limit_name(),
            backend: self.backend(),
            durability: self.durability().to_owned(),
            limit: None,
        })
    }
}

/// Who a contender is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) backend: Backend,
    /// What an `Ok` of it survives the end of, and by which setting.
    pub(crate) durability: String,
    /// The limit it is compared with: the bare driver with the same durability.
    pub(crate) limit: Option<String>,
}

/// Writers that append at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) writers: usize,
    /// Events of a commit.
    pub(crate) batch: usize,
    /// Commits of each writer.
    pub(crate) commits: usize,
    /// Whether all write to one thread, rather than each to its own.
    pub(crate) same_thread: bool,
}

impl Load {
    /// Events of all writers.
    pub(crate) fn events(&self) -> u64 {
        (self.writers * self.batch * self.commits) as u64
    }

    /// Events that come first, to warm up.
    pub(crate) fn warm_up(&self) -> u64 {
        (self.writers * self.batch) as u64
    }

    /// The numbers of the events of a writer's commit. The first commit is for warming up; of writers on one thread
    /// no two have the same.
    pub(crate) fn numbers(&self, writer: usize, commit: usize) -> std::ops::Range<u64> {
        let before = if self.same_thread { writer * (self.commits + 1) + commit } else { commit };
        let first = (before * self.batch) as u64;
        first..first + self.batch as u64
    }
}

/// One that appends. Each has a database or a folder of its own.
#[async_trait]
pub(crate) trait Appends: Send {
    /// Appends to new threads. A commit of each writer that is not counted comes first, so that statements are
    /// prepared.
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError>;

    /// How many events it has.
    async fn stored(&mut self) -> Result<u64, BoxError>;

    /// Lets go of everything.
    async fn close(self: Box<Self>);
}

/// Where databases are made.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) postgresql: Option<&'static Server>,
}

/// A folder or a database, which goes with this value.
#[derive(Debug)]
pub(crate) enum Home {
    Folder(TempDir),
    Database(TestDatabase),
}

impl Home {
    /// Of its database.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => format!("sqlite://{}", folder.path().join("ledger.db").display()),
            Self::Database(database) => database.url().to_owned(),
        }
    }
}

impl Place {
    pub(crate) fn new_folder(&self) -> Result<TempDir, BoxError> {
        Ok(tempfile::Builder::new().prefix("runledger-peers-").tempdir_in(&self.folder)?)
    }

    /// A migrated database of one's own.
    pub(crate) async fn database(&self, backend: Backend) -> Result<Home, BoxError> {
        match backend {
            Backend::Postgresql => {
                let server = self.postgresql.ok_or("there is no PostgreSQL")?;
                Ok(Home::Database(server.database().await))
            }
            _ => {
                let home = Home::Folder(self.new_folder()?);
                runledger_migration::up(&home.url(), &runledger_migration::UpOptions::default()).await?;
                Ok(home)
            }
        }
    }
}

/// Writers that are threads: each stores its commits one after the other, by its number and theirs. The first is to warm up.
fn in_threads(
    load: Load,
    store: impl Fn(usize, usize) -> Result<(), BoxError> + Sync,
) -> Result<Written, BoxError> {
    let (ready, store) = (Barrier::new(load.writers + 1), &store);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..load.writers)
            .map(|writer| {
                let ready = &ready;
                scope.spawn(move || {
                    let warm = store(writer, 0);
                    ready.wait();
                    warm?;
                    let mut stint = Stint::begin(load.commits);
                    for commit in 1..=load.commits {
                        let began = Instant::now();
                        store(writer, commit)?;
                        stint.note(began);
                    }
                    Ok::<Stint, BoxError>(stint)
                })
            })
            .collect();
        ready.wait();
        let mut stints = Vec::with_capacity(load.writers);
        for writer in writers {
            stints.push(writer.join().map_err(|_| "a writer of the limit panicked")??);
        }
        Ok(Written::by(load.events(), stints).after(load.warm_up()))
    })
}
