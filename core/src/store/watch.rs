//! One watcher for all who follow logs of a ledger.
//!
//! Each look reads the heads of every watched thread, a thousand by their keys at once, so what readers that wait cost
//! does not grow with their number. It begins with the first reader and ends with the last. What a backend
//! hears of other processes ([`EventStore::hints`]) makes it look sooner and is never relied on: a hint that is
//! lost costs one interval, never an event.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use super::{AppendSignal, EventStore, ThreadStore};
use crate::{MAX_LIMIT, Scope, ThreadId};

/// The shortest interval.
const LEAST: Duration = Duration::from_millis(5);

/// The longest pause after failures, where the interval is no longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What another process may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Threads with these [fingerprints](Hint::fingerprint).
    Threads(HashSet<u64>),
    /// Nobody knows: look at all.
    All,
}

impl Hint {
    /// What stands for a thread in a hint: the same in every process and version. Another thread's may be the
    /// same, which costs a look.
    #[must_use]
    pub fn fingerprint(thread: &ThreadId) -> u64 {
        // FNV-1a.
        thread
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn means(&self, thread: &ThreadId) -> bool {
        match self {
            Self::Threads(prints) => prints.contains(&Self::fingerprint(thread)),
            Self::All => true,
        }
    }
}

/// Looks for all, as a task; see [`ensure`].
struct Watcher {
    signal: AppendSignal,
    threads: Arc<dyn ThreadStore>,
    failures: u32,
}

/// Says that the watcher is gone, where it did not end by itself.
struct Watching(Option<AppendSignal>);

impl Watching {
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(signal) = &self.0 {
            signal.broke_off();
        }
    }
}

/// Starts the watcher of a ledger, if there is none. Called by each reader that is about to wait, so that one
/// whose runtime ended is replaced.
pub(super) fn ensure(events: &Arc<dyn EventStore>, threads: &Arc<dyn ThreadStore>) {
    let signal = events.signal();
    if signal.begin_watching() {
        let mut watching = Watching(Some(signal.clone()));
        let watcher = Watcher { signal: signal.clone(), threads: Arc::clone(threads), failures: 0 };
        let events = Arc::clone(events);
        tokio::spawn(async move {
            watcher.run(&*events).await;
            watching.ended();
        });
    }
}

impl Watcher {
    async fn run(mut self, events: &dyn EventStore) {
        let mut hints = events.hints();
        let mut looked = Instant::now();
        while let Some(poll) = self.signal.poll() {
            let pause = self.pause(poll).saturating_sub(looked.elapsed());
            let hint = tokio::select! {
                () = tokio::time::sleep(pause) => Hint::All,
                () = self.signal.rewatched() => continue,
                hint = hints.next() => match hint {
                    Some(hint) => hint,
                    None => {
                        hints = stream::pending().boxed();
                        continue;
                    }
                },
            };
            if hint == Hint::All {
                looked = Instant::now();
            }
            self.look(&hint).await;
        }
    }

    /// How long to wait for the next look: longer while looks fail.
    fn pause(&self, poll: Duration) -> Duration {
        let poll = poll.max(LEAST);
        let longest = LONGEST_PAUSE.max(poll);
        poll.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(longest)
    }

    async fn look(&mut self, hint: &Hint) {
        let watched = self.signal.watched(|thread| hint.means(thread));
        for chunk in watched.chunks(MAX_LIMIT as usize) {
            match self.threads.heads(&Scope::System, chunk).await {
                Ok(heads) => {
                    self.failures = 0;
                    self.signal.saw(chunk, heads);
                }
                // Readers wait it out: what they miss is found by the look that succeeds.
                Err(_) => {
                    self.failures = self.failures.saturating_add(1);
                    return;
                }
            }
        }
    }
}
