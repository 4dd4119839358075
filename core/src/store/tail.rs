//! Following a log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};

use super::{EventFilter, EventStore, Subscription};
use crate::record::Event;
use crate::{Result, Scope, SeqRange, ThreadId};

/// How many events one look reads.
const BATCH: u32 = 200;

/// What a follower of a log is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    scope: Scope,
    thread: ThreadId,
    after: u64,
    poll: Duration,
    subscription: Subscription,
    ready: VecDeque<TailItem>,
    failed: bool,
}

/// Follows a log from after `after_seq`, without skipping: what was deleted is said as a gap.
///
/// Appends of this process are seen at once, those of others within `poll`. The stream ends
/// after its first error, which is `NotFound` once the thread is deleted.
pub(super) fn tail(
    events: Arc<dyn EventStore>,
    scope: Scope,
    thread: ThreadId,
    after_seq: u64,
    poll: Duration,
) -> BoxStream<'static, Result<TailItem>> {
    let subscription = events.signal().subscribe(&thread);
    let follower = Follower {
        events,
        scope,
        thread,
        after: after_seq,
        poll,
        subscription,
        ready: VecDeque::new(),
        failed: false,
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
            if self.failed {
                return None;
            }
            match self.look().await {
                Ok(true) => {}
                // A lost wake-up costs one poll interval, never an event.
                Ok(false) => {
                    let _ = tokio::time::timeout(self.poll, self.subscription.changed()).await;
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Reads on; says whether there was something.
    async fn look(&mut self) -> Result<bool> {
        let range = SeqRange::after(self.after, BATCH);
        let page =
            self.events.list_events(&self.scope, &self.thread, &EventFilter::default(), &range).await?;
        for event in page.items {
            if event.seq > self.after + 1 {
                self.ready.push_back(TailItem::Gap { from_seq: self.after + 1, through_seq: event.seq - 1 });
            }
            self.after = event.seq;
            self.ready.push_back(TailItem::Event(Box::new(event)));
        }
        Ok(!self.ready.is_empty())
    }
}
