//! What is said while it is being said: token deltas, which are no records.
//!
//! They go from a journal to those who listen in the same process, beside the log and never through it. Each
//! listener has a bounded room of its own, so that one who does not keep up loses the oldest and holds up nobody;
//! and each delta knows after which event it was said, so that a reader of both can put them in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::AppendSignal;
use crate::{ItemId, RunId, ThreadId};

/// How many deltas wait for one listener.
const ROOM: usize = 1_024;

/// What a delta is a piece of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeltaKind {
    /// The message's text.
    Text,
    /// The model's reasoning.
    Reasoning,
    /// The arguments of a call.
    Arguments,
}

/// A piece of an item that is being made. It is heard by those who listen in the same process, and nowhere stored:
/// the item's completion has all of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LiveDelta {
    /// The thread.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// The item that it is a piece of, under the id that its completion will have.
    pub item_id: ItemId,
    /// What it is a piece of.
    pub kind: DeltaKind,
    /// The piece.
    pub text: String,
}

/// What a [`Listener`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next delta.
    Delta(Arc<LiveDelta>),
    /// So many were lost here, for the listener did not keep up.
    Lagged(u64),
}

/// What waits for one listener.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inside: Mutex<Inside>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    /// With the number of the event after which each was said.
    deltas: VecDeque<(u64, Arc<LiveDelta>)>,
    lagged: u64,
}

impl Mailbox {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, delta: &Arc<LiveDelta>, after_seq: u64) {
        let mut inside = self.inside();
        if inside.deltas.len() >= ROOM {
            inside.deltas.pop_front();
            inside.lagged += 1;
        }
        inside.deltas.push_back((after_seq, Arc::clone(delta)));
        drop(inside);
        self.filled.notify_one();
    }

    /// The first of those that were said after no later event than this.
    fn take(&self, seq: u64) -> Option<Heard> {
        let mut inside = self.inside();
        if inside.deltas.front().is_none_or(|(after_seq, _)| *after_seq > seq) {
            return None;
        }
        if inside.lagged > 0 {
            return Some(Heard::Lagged(std::mem::take(&mut inside.lagged)));
        }
        inside.deltas.pop_front().map(|(_, delta)| Heard::Delta(delta))
    }
}

/// Hears what is said on a thread: see [`AppendSignal::listen`].
#[derive(Debug)]
pub struct Listener {
    signal: AppendSignal,
    thread: ThreadId,
    mailbox: Arc<Mailbox>,
}

impl Listener {
    pub(super) fn new(signal: AppendSignal, thread: ThreadId, mailbox: Arc<Mailbox>) -> Self {
        Self { signal, thread, mailbox }
    }

    /// The next delta that waits here and was said before the event with this number was stored.
    #[must_use]
    pub fn heard_before(&self, seq: u64) -> Option<Heard> {
        self.mailbox.take(seq.checked_sub(1)?)
    }

    /// The next delta, for whoever has seen the log up to this number: what was said after a later event waits
    /// until it is asked for with that.
    pub async fn next(&self, seen_seq: u64) -> Heard {
        loop {
            let filled = self.mailbox.filled.notified();
            if let Some(heard) = self.mailbox.take(seen_seq) {
                return heard;
            }
            filled.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.signal.leave(&self.thread, &self.mailbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn delta(text: &str) -> LiveDelta {
        LiveDelta {
            thread_id: ThreadId::new("t").unwrap(),
            run_id: RunId::new("r").unwrap(),
            item_id: ItemId::new("i").unwrap(),
            kind: DeltaKind::Text,
            text: text.to_owned(),
        }
    }

    #[tokio::test]
    async fn deltas_come_in_order_and_after_the_events_before_them() {
        let signal = AppendSignal::default();
        let thread = ThreadId::new("t").unwrap();
        signal.say(delta("to nobody"));
        let listener = signal.listen(&thread);
        signal.say(delta("a"));
        signal.publish(&thread, 5);
        signal.say(delta("b"));
        assert_eq!(listener.next(0).await, Heard::Delta(Arc::new(delta("a"))));
        assert_eq!((listener.heard_before(0), listener.heard_before(5)), (None, None));
        assert_eq!(listener.heard_before(6), Some(Heard::Delta(Arc::new(delta("b")))));
    }

    #[tokio::test]
    async fn who_does_not_keep_up_loses_the_oldest_and_is_told() {
        let signal = AppendSignal::default();
        let thread = ThreadId::new("t").unwrap();
        let (slow, other) = (signal.listen(&thread), signal.listen(&thread));
        for number in 0..ROOM + 3 {
            signal.say(delta(&number.to_string()));
            assert_eq!(other.next(0).await, Heard::Delta(Arc::new(delta(&number.to_string()))));
        }
        assert_eq!(slow.next(0).await, Heard::Lagged(3));
        assert_eq!(slow.next(0).await, Heard::Delta(Arc::new(delta("3"))));
    }
}
