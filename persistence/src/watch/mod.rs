//! Telling other processes that logs grew, and hearing it of them: PostgreSQL's NOTIFY and LISTEN, as hints.
//!
//! A lane puts a thread into a set and goes on. A task beside it sends what came together in one notification, at
//! most one every [`TOGETHER`], in a transaction of its own: whoever hears it sees what it is about, and neither a
//! commit nor its caller ever waits for it. What is lost (a connection that broke, a pooler in between, a queue that
//! is full) is found by the next look of whoever watches.
//!
//! These two are the only connections that are sqlx's own besides the lanes'.

mod ear;
mod herald;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use runledger_core::{AppendSignal, Hint, ThreadId};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use self::ear::Ear;
use self::herald::{Herald, Pending};

/// The channel that is notified. One for each database: threads of several schemas in one may be mistaken for
/// each other, which costs a look.
const CHANNEL: &str = "runledger_appended";

/// How long what is told is collected.
const TOGETHER: Duration = Duration::from_millis(50);

/// How many threads one notification names: PostgreSQL takes 8,000 bytes. More are told as "any".
const MOST: usize = 400;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A ledger's part in that.
#[derive(Debug)]
pub(crate) struct Watch {
    /// One connection to tell by, one to hear by, opened when they are needed.
    pool: PgPool,
    pending: Arc<Pending>,
    hears: bool,
}

impl Watch {
    /// Connects to nothing yet. `hears` is false where a pooler would take the listening connection away.
    pub(crate) fn new(options: PgConnectOptions, hears: bool) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(FAREWELL)
            .idle_timeout(Duration::from_secs(60))
            .max_lifetime(None)
            .connect_lazy_with(options);
        Self { pool, pending: Arc::default(), hears }
    }

    /// Starts to tell: a signal that passes on what is published.
    pub(crate) fn signal(&self) -> AppendSignal {
        let herald = Herald { pool: self.pool.clone(), pending: Arc::clone(&self.pending) };
        tokio::spawn(herald.run());
        AppendSignal::with_relay(Arc::<Pending>::clone(&self.pending))
    }

    /// What other ledgers tell.
    pub(crate) fn hints(&self) -> BoxStream<'static, Hint> {
        if self.hears {
            Ear::new(self.pool.clone(), self.pending.origin()).hints()
        } else {
            stream::pending().boxed()
        }
    }

    /// Tells and hears nothing any more.
    pub(crate) async fn close(&self) {
        self.pending.close();
        // Whoever cannot say goodbye is gone all the same.
        let _ = tokio::time::timeout(FAREWELL, self.pool.close()).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pending.close();
    }
}

/// What a notification says: who tells it, and the threads it is about; none where that are too many.
fn payload(origin: u64, prints: impl ExactSizeIterator<Item = u64>) -> String {
    let mut payload = format!("{origin:016x}");
    if prints.len() <= MOST {
        for print in prints {
            payload.push_str(&format!(" {print:016x}"));
        }
    }
    payload
}

/// The hint that a notification is, unless it is our own. What cannot be read may be about anything.
fn read(payload: &str, own: u64) -> Option<Hint> {
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    let mut words = payload.split(' ').map(number);
    if words.next().flatten() == Some(own) {
        return None;
    }
    let prints: Option<std::collections::HashSet<u64>> = words.collect();
    Some(prints.filter(|prints| !prints.is_empty()).map_or(Hint::All, Hint::Threads))
}

/// A number that no other ledger has.
fn origin() -> u64 {
    Hint::fingerprint(&ThreadId::generate())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_notification_is_read_as_it_was_meant_and_fits() {
        let prints = [0, 7, u64::MAX];
        let told = payload(1, prints.into_iter());
        assert_eq!(read(&told, 2), Some(Hint::Threads(HashSet::from(prints))));
        assert_eq!(read(&told, 1), None);
        let full = payload(1, vec![u64::MAX; MOST].into_iter());
        assert!(full.len() < 7_000, "{}", full.len());
        let too_many = payload(1, vec![3; MOST + 1].into_iter());
        for any in [too_many.as_str(), "", "another program's", "1 x"] {
            assert_eq!(read(any, 2), Some(Hint::All), "{any}");
        }
    }
}
