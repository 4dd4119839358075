//! Opening a lane's connection.

use std::sync::Arc;
use std::thread;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::statement::Connection;
use crate::patience::Patience;
use crate::sqlite_file::FileSettings;

/// How many bytes a lane writes between checkpoints of SQLite's log.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// By how many pages the log grows between checkpoints: 256 MiB. A small commit has far more pages than bytes.
const CHECKPOINT_PAGES: u32 = 32_768;

/// How many pages the log has at most, about: 1 GiB.
const MOST_PAGES: u32 = 4 * CHECKPOINT_PAGES;

/// A checkpoint inside a commit is the slowest commit of all; see [`Checkpoints`].
pub(super) const NO_CHECKPOINTS: (&str, &str) = ("wal_autocheckpoint", "0");

/// Opens a lane's connections.
#[derive(Clone, Debug)]
pub(crate) enum Opener {
    Postgres(Box<PgConnectOptions>, Patience),
    File(Box<SqliteConnectOptions>, Arc<FileSettings>),
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

    /// Whether a lane has a thread of its own: that of a SQLite file waits for the disk itself.
    pub(super) fn has_a_thread(&self) -> bool {
        matches!(self, Self::File(..))
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
    /// How many pages the log had when the last one began, and when it was last looked at.
    began: u32,
    pages: u32,
    running: Option<thread::JoinHandle<()>>,
}

impl Checkpoints {
    /// Counts what was written, and starts a checkpoint when it is time: `pages` is how long the log is. The answer is
    /// whether it has outgrown those, because the lane never pauses, and must be moved by the lane itself.
    pub(super) fn wrote(&mut self, opener: &Opener, bytes: u64, pages: u32) -> bool {
        let Opener::File(_, settings) = opener else { return false };
        self.written = self.written.saturating_add(bytes);
        if pages < self.pages {
            // All of it was moved, so it is written from its beginning again.
            self.began = 0;
        }
        self.pages = pages;
        let is_due = self.written >= CHECKPOINT_BYTES || pages >= self.began.saturating_add(CHECKPOINT_PAGES);
        if !is_due || self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        (self.written, self.began) = (0, pages);
        if pages >= MOST_PAGES {
            return true;
        }
        let settings = Arc::clone(settings);
        let started = thread::Builder::new().name("runledger-log".to_owned()).spawn(move || {
            let moved = settings.open(NO_CHECKPOINTS).and_then(|connection| {
                fail_point!(CheckpointDue);
                let moved = checkpoint(&connection);
                fail_point!(CheckpointDone);
                moved
            });
            if let Err(error) = moved {
                // The log only grows a little longer: the next one moves it all.
                tracing::warn!(%error, "a checkpoint of the database's log failed");
            }
        });
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => tracing::warn!(%error, "there is no thread for a checkpoint of the database's log"),
        }
        false
    }

    /// Waits for the checkpoint that runs.
    pub(super) fn finish(self) {
        if let Some(thread) = self.running {
            // It said so itself if it failed.
            let _ = thread.join();
        }
    }
}

/// Moves what no reader needs in the log any more.
pub(super) fn checkpoint(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    // A row of figures, which nobody needs.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
