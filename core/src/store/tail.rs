//! Following a log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};

use super::signal::News;
use super::{EventFilter, EventStore, Subscription, ThreadStore, watch};
use crate::record::Event;
use crate::{Applied, Error, Result, Scope, SeqRange, ThreadId};

/// How many events one look reads.
const BATCH: u32 = 200;

/// The first pause before a look that failed is repeated, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait after so many looks that failed in a row.
pub(super) fn pause_after(failures: u32) -> Duration {
    PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
}

/// What a follower of a log is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TailItem {
    /// The next event.
    Event(Box<Event>),
    /// Events with these numbers were deleted before they could be given.
    Gap {
        /// The first missing number.
        from_seq: u64,
        /// The last missing number.
        through_seq: u64,
    },
}

struct Follower {
    events: Arc<dyn EventStore>,
    threads: Arc<dyn ThreadStore>,
    scope: Scope,
    thread: ThreadId,
    after: u64,
    subscription: Subscription,
    ready: VecDeque<TailItem>,
    /// Whether the log may have more than was read.
    is_behind: bool,
    /// What else was known of the thread when it was read last.
    told: (u64, bool),
    failures: u32,
    is_over: bool,
}

/// Follows a log from after `after_seq`, without skipping: what was deleted is said as a gap.
///
/// Appends of this process are seen at once, those of others within `poll`. A ledger that cannot be reached right
/// now is waited for. The stream ends after its first error, which is `NotFound` once the thread is deleted or
/// somebody else's.
pub(super) fn tail(
    events: Arc<dyn EventStore>,
    threads: Arc<dyn ThreadStore>,
    scope: Scope,
    thread: ThreadId,
    after_seq: u64,
    poll: Duration,
) -> BoxStream<'static, Result<TailItem>> {
    let subscription = events.signal().watch(&thread, poll);
    let follower = Follower {
        events,
        threads,
        scope,
        thread,
        after: after_seq,
        subscription,
        ready: VecDeque::new(),
        is_behind: true,
        told: (0, false),
        failures: 0,
        is_over: false,
    };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    }))
}

impl Follower {
    async fn next(&mut self) -> Option<Result<TailItem>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.is_over {
                return None;
            }
            // Before the look: what is told from here on is a change.
            let news = self.subscription.news();
            if news.is_closed {
                self.is_over = true;
                return Some(Err(closed()));
            }
            let told = (news.stirred, news.hides_from(&self.scope));
            self.is_behind |= news.last_seq > self.after || told != self.told;
            if !self.is_behind {
                watch::ensure(&self.events, &self.threads);
                self.subscription.changed().await;
                continue;
            }
            match self.look(&news).await {
                Ok(()) => {
                    self.failures = 0;
                    self.told = told;
                }
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(pause_after(self.failures)).await;
                    self.failures += 1;
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Reads on.
    async fn look(&mut self, news: &News) -> Result<()> {
        let range = SeqRange::after(self.after, BATCH);
        let page =
            self.events.list_events(&self.scope, &self.thread, &EventFilter::default(), &range).await?;
        self.is_behind = page.has_more;
        for event in page.items {
            self.skip_to(event.seq - 1);
            self.after = event.seq;
            self.ready.push_back(TailItem::Event(Box::new(event)));
        }
        if !self.is_behind {
            // What was told before the look and is not there now was deleted.
            self.skip_to(news.last_seq);
        }
        Ok(())
    }

    /// Says as a gap what is missing up to this number.
    fn skip_to(&mut self, through_seq: u64) {
        if through_seq > self.after {
            self.ready.push_back(TailItem::Gap { from_seq: self.after + 1, through_seq });
            self.after = through_seq;
        }
    }
}

fn closed() -> Error {
    Error::Unavailable { applied: Applied::No, source: "the ledger was closed".into() }
}
