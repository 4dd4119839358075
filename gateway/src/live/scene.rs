//! What a stream of a log has before it: the log's end, what follows it, and what is said meanwhile.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use runledger_core::{Heard, Ledger, Listener, Result, Scope, TailItem, ThreadId};

use super::frame::{Frame, Lagged};

/// A thread that is about to be followed.
#[derive(Debug)]
pub(super) struct Scene {
    listener: Listener,
    pub(super) last_seq: u64,
}

impl Scene {
    /// Begins to listen, and looks where the log ends.
    pub(super) async fn open(ledger: &Ledger, scope: &Scope, thread: &ThreadId) -> Result<Self> {
        let signal = ledger.events().signal();
        let listener = signal.listen(thread);
        let last_seq = ledger.threads().head(scope, thread).await?.last_seq();
        // From here on deltas know which events they come after.
        signal.note(thread, last_seq);
        Ok(Self { listener, last_seq })
    }

    /// Follows it from after `after_seq`.
    pub(super) fn follow(
        self,
        ledger: &Ledger,
        scope: &Scope,
        thread: &ThreadId,
        after_seq: u64,
        poll: Duration,
    ) -> Follower {
        let tail = ledger.tail(scope.clone(), thread.clone(), after_seq, poll);
        Follower { tail, listener: self.listener, position: after_seq, held: None }
    }
}

/// What comes next on a thread.
#[derive(Debug)]
pub(super) enum Next {
    Item(TailItem),
    Heard(Heard),
    Failed(runledger_core::Error),
    Over,
}

/// A log and what is said on its thread, in one order: a delta comes after the events that were stored when it was
/// said, and before those that were stored later. So no piece of an item comes after its completion.
pub(super) struct Follower {
    tail: BoxStream<'static, Result<TailItem>>,
    listener: Listener,
    position: u64,
    held: Option<TailItem>,
}

impl Follower {
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(held) = self.held.take() {
                let (first, last) = match &held {
                    TailItem::Event(event) => (event.seq, event.seq),
                    TailItem::Gap { from_seq, through_seq } => (*from_seq, *through_seq),
                };
                if let Some(heard) = self.listener.heard_before(first) {
                    self.held = Some(held);
                    return Next::Heard(heard);
                }
                self.position = last;
                return Next::Item(held);
            }
            tokio::select! {
                biased;
                item = self.tail.next() => match item {
                    Some(Ok(item)) => self.held = Some(item),
                    Some(Err(error)) => return Next::Failed(error),
                    None => return Next::Over,
                },
                heard = self.listener.next(self.position) => return Next::Heard(heard),
            }
        }
    }
}

/// What is heard, as it is sent.
pub(super) fn heard(heard: Heard) -> Frame {
    match heard {
        Heard::Delta(delta) => Frame::Delta(delta),
        Heard::Lagged(deltas) => Frame::Lagged(Lagged { deltas }),
    }
}
