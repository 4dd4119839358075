//! Opening a lane's connection.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{ConnectOptions as _, Connection as _, Executor};

use super::statement::Connection;
use crate::patience::Patience;

/// How many bytes a lane writes between checkpoints of SQLite's log.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// A checkpoint inside a commit is the slowest commit of all; see [`Checkpoints`].
pub(super) const NO_CHECKPOINTS: (&str, &str) = ("wal_autocheckpoint", "0");

/// What each connection to a file of SQLite is set to, whatever its driver.
#[derive(Clone, Debug)]
pub(crate) struct FileSettings {
    pub(crate) vfs: Option<String>,
    pub(crate) busy_timeout: Duration,
    pub(crate) pragmas: [(&'static str, &'static str); 4],
}

/// Opens a lane's connections.
#[derive(Clone, Debug)]
pub(crate) enum Opener {
    Postgres(Box<PgConnectOptions>, Patience),
    File(Box<SqliteConnectOptions>, FileSettings),
    /// The only connection there is; borrowed for each group.
    Memory(SqlitePool),
}

impl Opener {
    pub(super) async fn open(&self) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Postgres(options, patience) => {
                let connection = patience.wait_for(options.connect()).await?;
                Ok(Connection::Postgres(Box::new(connection), *patience))
            }
            Self::File(options, _) => {
                let (name, value) = NO_CHECKPOINTS;
                let options = options.as_ref().clone().pragma(name, value);
                Ok(Connection::File(Box::new(options.connect().await?)))
            }
            Self::Memory(pool) => Ok(Connection::Memory(pool.acquire().await?)),
        }
    }

    /// Whether a lane keeps its connection between groups.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }
}

/// Moves SQLite's log into the database now and then, beside the lane.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    written: u64,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Checkpoints {
    /// Counts what was written, and starts a checkpoint when it is time.
    pub(super) fn wrote(&mut self, opener: &Opener, bytes: u64) {
        let Opener::File(options, _) = opener else { return };
        self.written = self.written.saturating_add(bytes);
        let running = self.running.as_ref().is_some_and(|task| !task.is_finished());
        if self.written < CHECKPOINT_BYTES || running {
            return;
        }
        self.written = 0;
        let options = options.as_ref().clone();
        self.running = Some(tokio::spawn(async move {
            if let Err(error) = checkpoint(&options).await {
                // The log only grows a little longer: the next one moves it all.
                tracing::warn!(%error, "a checkpoint of the database's log failed");
            }
        }));
    }

    /// Waits for the checkpoint that runs.
    pub(super) async fn finish(self) {
        if let Some(task) = self.running {
            // It said so itself if it failed.
            let _ = task.await;
        }
    }
}

async fn checkpoint(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    fail_point!(CheckpointDue);
    let outcome = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").await.map(drop);
    fail_point!(CheckpointDone);
    connection.close().await?;
    outcome
}
