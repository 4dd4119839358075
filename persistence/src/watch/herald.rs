//! Who tells.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runledger_core::{Hint, Relay, ThreadId};
use sqlx::PgPool;
use tokio::sync::Notify;

use super::{CHANNEL, MOST, TOGETHER, payload};

/// How long nothing is told after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be told.
#[derive(Debug)]
pub(super) struct Pending {
    inside: Mutex<Inside>,
    filled: Notify,
    origin: u64,
}

#[derive(Debug, Default)]
struct Inside {
    /// No more than one over what can be told.
    prints: HashSet<u64>,
    is_closed: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Self { inside: Mutex::default(), filled: Notify::new(), origin: super::origin() }
    }
}

impl Pending {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose notifications these are.
    pub(super) fn origin(&self) -> u64 {
        self.origin
    }

    pub(super) fn close(&self) {
        self.inside().is_closed = true;
        self.filled.notify_one();
    }

    /// What a notification says now; `None` where there is nothing to tell.
    fn take(&self) -> Option<String> {
        let mut inside = self.inside();
        let told = (!inside.prints.is_empty()).then(|| payload(self.origin, inside.prints.iter().copied()));
        inside.prints.clear();
        told
    }
}

impl Relay for Pending {
    fn pass_on(&self, thread: &ThreadId) {
        let mut inside = self.inside();
        let is_first = inside.prints.is_empty();
        if inside.prints.len() <= MOST && !inside.is_closed {
            inside.prints.insert(Hint::fingerprint(thread));
        }
        drop(inside);
        if is_first {
            self.filled.notify_one();
        }
    }
}

/// The task that tells it.
pub(super) struct Herald {
    pub(super) pool: PgPool,
    pub(super) pending: Arc<Pending>,
}

impl Herald {
    /// Tells until the ledger is closed.
    pub(super) async fn run(self) {
        loop {
            self.pending.filled.notified().await;
            if self.pending.inside().is_closed {
                return;
            }
            tokio::time::sleep(TOGETHER).await;
            let Some(payload) = self.pending.take() else { continue };
            let told =
                sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&self.pool);
            match tokio::time::timeout(PAUSE * 5, told).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "other processes were not told of appends; they look by themselves");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => tracing::debug!("other processes were not told of appends in time"),
            }
        }
    }
}
