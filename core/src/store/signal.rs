//! How readers of the same process learn of appends without asking the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::ThreadId;

type Waiters = HashMap<ThreadId, watch::Sender<u64>>;

/// Tells waiting readers that a thread's log grew. Costs one map look-up for a thread nobody waits for,
/// and holds nothing of such threads.
#[derive(Clone, Debug, Default)]
pub struct AppendSignal {
    waiters: Arc<Mutex<Waiters>>,
}

impl AppendSignal {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that `thread` now ends with `last_seq`.
    pub fn publish(&self, thread: &ThreadId, last_seq: u64) {
        if let Some(sender) = self.waiters().get(thread) {
            sender.send_modify(|seq| *seq = last_seq.max(*seq));
        }
    }

    /// Starts to listen for appends to `thread`; what is published from now on is seen.
    #[must_use]
    pub fn subscribe(&self, thread: &ThreadId) -> Subscription {
        let mut waiters = self.waiters();
        let sender = waiters.entry(thread.clone()).or_insert_with(|| watch::Sender::new(0));
        Subscription { signal: self.clone(), thread: thread.clone(), receiver: sender.subscribe() }
    }
}

/// A reader's wait for appends to one thread.
#[derive(Debug)]
pub struct Subscription {
    signal: AppendSignal,
    thread: ThreadId,
    receiver: watch::Receiver<u64>,
}

impl Subscription {
    /// Returns when something was published since the last call.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender lives as long as this subscription does; if it were gone, waiting is all that is left.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut waiters = self.signal.waiters();
        if waiters.get(&self.thread).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.thread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_readers_wake_and_leave_nothing_behind() {
        let signal = AppendSignal::default();
        let thread = ThreadId::new("t").unwrap();
        let (mut first, mut second) = (signal.subscribe(&thread), signal.subscribe(&thread));
        signal.publish(&thread, 3);
        first.changed().await;
        second.changed().await;
        drop(first);
        assert_eq!(signal.waiters().len(), 1);
        drop(second);
        assert!(signal.waiters().is_empty());
    }
}
