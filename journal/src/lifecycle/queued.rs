//! A run that waits for its thread's slot.

use runledger_core::{
    CancelAction, ErrorKind, EventDraft, Result, Run, RunStatus, Scope, Subscription, Timestamp,
};
use tokio::time::timeout;

use super::held::Expected;
use super::{ManagedRun, RunManager};

/// A run in the queue of its thread. Dropped before it got the slot, it is cancelled.
#[derive(Debug)]
pub struct QueuedRun {
    manager: RunManager,
    scope: Scope,
    run: Run,
    input: Vec<EventDraft>,
    expected: Option<Expected>,
}

impl QueuedRun {
    pub(super) fn new(
        manager: RunManager,
        scope: Scope,
        run: Run,
        input: Vec<EventDraft>,
        expected: Expected,
    ) -> Self {
        Self { manager, scope, run, input, expected: Some(expected) }
    }

    /// The run as it was queued.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Waits until the run gets the slot. `None` where it was cancelled while it waited, deleted, or
    /// taken by another process. An error leaves it in the queue: wait again.
    pub async fn wait(&mut self) -> Result<Option<ManagedRun>> {
        let (ledger, settings) = (self.manager.ledger().clone(), self.manager.shared.settings.clone());
        let (thread, run) = (self.run.thread_id.clone(), self.run.run_id.clone());
        let mut subscription: Subscription = ledger.events().signal().subscribe(&thread);
        loop {
            let stored = match ledger.runs().get(&self.scope, &thread, &run).await {
                Ok(stored) => stored,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self.gone()),
                Err(error) => return Err(error),
            };
            match stored.status {
                RunStatus::Queued => {
                    // A wake-up that is lost costs one look.
                    let _ = timeout(settings.poll, subscription.changed()).await;
                }
                RunStatus::Pending => {
                    let lease = ledger.runs().lease(&self.scope, &thread, &run).await?;
                    let ours = lease.is_some_and(|lease| {
                        lease.worker_id == settings.worker_id && lease.epoch == stored.epoch
                    });
                    if !ours {
                        return Ok(self.gone());
                    }
                    let held = self.manager.hold(&self.scope, stored, &self.input)?;
                    self.expected = None;
                    return Ok(Some(held));
                }
                _ => return Ok(self.gone()),
            }
        }
    }

    fn gone(&mut self) -> Option<ManagedRun> {
        self.expected = None;
        None
    }
}

impl Drop for QueuedRun {
    fn drop(&mut self) {
        let Some(expected) = self.expected.take() else { return };
        let (manager, scope, run) = (self.manager.clone(), self.scope.clone(), self.run.clone());
        let runtime = self.manager.shared.runtime.clone();
        runtime.spawn(async move {
            let (thread, id) = (&run.thread_id, &run.run_id);
            let cancelled =
                manager.ledger().cancel(&scope, thread, id, CancelAction::Interrupt, Timestamp::now()).await;
            if let Err(error) = cancelled
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(run_id = %id, %error, "a queued run that nobody waits for was not cancelled");
            }
            drop(expected);
        });
    }
}
