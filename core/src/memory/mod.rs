//! The memory ledger: the reference implementation and the oracle of the other backends.
//!
//! It keeps everything in maps under one lock and judges every call in the plainest way, so that
//! what a call means can be read here. Nothing outlives the process.

mod agent_runs;
mod api_tokens;
mod append;
mod blobs;
mod context;
mod delete;
mod feedback;
mod imports;
mod interactions;
mod items;
mod lifecycle;
mod read;
mod search;
mod state;
mod threads;
mod usage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::commit::Limits;
use crate::store::{AppendSignal, Ledger, Stores};
use state::State;

/// A ledger in memory.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> runledger_core::Result<()> {
/// use runledger_core::{MemoryLedger, NewThread, Scope, ThreadId};
///
/// let ledger = MemoryLedger::new().ledger();
/// let thread = ThreadId::new("t1")?;
/// ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await?;
/// assert_eq!(ledger.threads().head(&Scope::System, &thread).await?.next_seq, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger {
    state: Arc<Mutex<State>>,
    limits: Limits,
    signal: AppendSignal,
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty ledger with these payload sizes.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Its stores.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Stores::all(Arc::new(self.clone())))
    }

    /// A panic of another holder leaves the state as it was: every change is made on values that were
    /// checked before.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
