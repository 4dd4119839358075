//! How readers of the same process learn of appends, and hear what is said meanwhile, without asking the
//! database.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::live::{Listener, LiveDelta, Mailbox};
use crate::record::{HeadState, ThreadHead};
use crate::{OwnerId, Scope, ThreadId};

/// Passes on to other processes that a log has grown, for backends that can. It is called by whoever appended,
/// so it neither waits nor fails: what it loses is found by the next look of who watches.
pub trait Relay: fmt::Debug + Send + Sync + 'static {
    /// A thread's log has grown, or something else of it changed.
    fn pass_on(&self, thread: &ThreadId);
}

/// What is known of a thread without asking the database.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// The last number of its log, as far as anybody told: what comes up to it is stored, or was deleted.
    pub(super) last_seq: u64,
    /// Grows with whatever else happens to it.
    pub(super) stirred: u64,
    /// Whose it is, as the watcher saw it last; `None` where it has not looked yet.
    seen: Option<Seen>,
    /// Nothing will be told any more.
    pub(super) is_closed: bool,
}

/// Whether a thread is there, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Gone,
    Of(Option<OwnerId>),
}

impl News {
    /// Whether the watcher saw that these do not see the thread any more.
    pub(super) fn hides_from(&self, scope: &Scope) -> bool {
        match &self.seen {
            None => false,
            Some(Seen::Gone) => true,
            Some(Seen::Of(owner)) => !scope.sees(owner.as_ref()),
        }
    }
}

/// Those who wait for one thread.
#[derive(Debug)]
struct Waiting {
    news: watch::Sender<News>,
    /// How many of them want it looked at.
    watched: usize,
    listeners: Vec<Arc<Mailbox>>,
}

impl Waiting {
    fn is_over(&self) -> bool {
        self.news.receiver_count() == 0 && self.listeners.is_empty()
    }
}

#[derive(Debug, Default)]
struct Threads {
    waiting: HashMap<ThreadId, Waiting>,
    /// How often those who want looks want them, and how many want it so often.
    polls: BTreeMap<Duration, usize>,
    /// Whether somebody looks for all.
    is_watching: bool,
    is_closed: bool,
}

impl Threads {
    fn waiting(&mut self, thread: &ThreadId) -> &mut Waiting {
        let is_closed = self.is_closed;
        self.waiting.entry(thread.clone()).or_insert_with(|| Waiting {
            news: watch::Sender::new(News { is_closed, ..News::default() }),
            watched: 0,
            listeners: Vec::new(),
        })
    }
}

#[derive(Debug, Default)]
struct Shared {
    threads: Mutex<Threads>,
    /// Told when the watcher has to look sooner, or not at all.
    watched: Notify,
    relay: OnceLock<Arc<dyn Relay>>,
}

/// Tells waiting readers that a thread's log grew, and listeners what is said meanwhile. Costs one map look-up
/// for a thread nobody waits for, and holds nothing of such threads.
#[derive(Clone, Debug, Default)]
pub struct AppendSignal {
    shared: Arc<Shared>,
}

impl AppendSignal {
    /// A signal that also passes on what is published.
    #[must_use]
    pub fn with_relay(relay: Arc<dyn Relay>) -> Self {
        let signal = Self::default();
        // It is new: nothing was set.
        let _ = signal.shared.relay.set(relay);
        signal
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, thread: &ThreadId) {
        if let Some(relay) = self.shared.relay.get() {
            relay.pass_on(thread);
        }
    }

    /// Says that `thread` now ends with `last_seq`, which readers can see.
    pub fn publish(&self, thread: &ThreadId, last_seq: u64) {
        self.note(thread, last_seq);
        self.pass_on(thread);
    }

    /// Says that `thread` was seen to end with `last_seq`: nothing was appended, so no other process is told.
    pub fn note(&self, thread: &ThreadId, last_seq: u64) {
        if let Some(waiting) = self.threads().waiting.get(thread) {
            waiting.news.send_modify(|news| news.last_seq = last_seq.max(news.last_seq));
        }
    }

    /// Says that something of `thread` changed beside its end: it was deleted, changed hands, lost events.
    pub fn stir(&self, thread: &ThreadId) {
        if let Some(waiting) = self.threads().waiting.get(thread) {
            waiting.news.send_modify(|news| news.stirred += 1);
        }
        self.pass_on(thread);
    }

    /// Ends every tail over this signal, now and later: the ledger is closed, or the process is about to be.
    pub fn close(&self) {
        let mut threads = self.threads();
        threads.is_closed = true;
        for waiting in threads.waiting.values() {
            waiting.news.send_modify(|news| news.is_closed = true);
        }
        drop(threads);
        self.shared.watched.notify_one();
    }

    /// Whether it was [closed](Self::close).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.threads().is_closed
    }

    /// Starts to listen for appends to `thread`; what is published from now on is seen.
    #[must_use]
    pub fn subscribe(&self, thread: &ThreadId) -> Subscription {
        self.subscription(thread, None)
    }

    /// As [`AppendSignal::subscribe`], for whoever wants the thread looked at so often.
    pub(super) fn watch(&self, thread: &ThreadId, poll: Duration) -> Subscription {
        self.subscription(thread, Some(poll))
    }

    fn subscription(&self, thread: &ThreadId, poll: Option<Duration>) -> Subscription {
        let mut threads = self.threads();
        let waiting = threads.waiting(thread);
        let receiver = waiting.news.subscribe();
        let mut is_sooner = false;
        if let Some(poll) = poll {
            waiting.watched += 1;
            is_sooner = threads.polls.keys().next().is_none_or(|least| poll < *least);
            *threads.polls.entry(poll).or_default() += 1;
        }
        drop(threads);
        if is_sooner {
            self.shared.watched.notify_one();
        }
        Subscription { signal: self.clone(), thread: thread.clone(), poll, receiver: Some(receiver) }
    }

    /// Starts to listen for what is said on `thread` in this process while it is being said.
    #[must_use]
    pub fn listen(&self, thread: &ThreadId) -> Listener {
        let mailbox = Arc::<Mailbox>::default();
        self.threads().waiting(thread).listeners.push(Arc::clone(&mailbox));
        Listener::new(self.clone(), thread.clone(), mailbox)
    }

    /// Whether anybody listens to `thread`, so that a delta is worth making.
    #[must_use]
    pub fn is_heard(&self, thread: &ThreadId) -> bool {
        self.threads().waiting.get(thread).is_some_and(|waiting| !waiting.listeners.is_empty())
    }

    /// Says a piece of an item to those who listen. It never waits: who does not keep up loses the oldest.
    pub fn say(&self, delta: LiveDelta) {
        let threads = self.threads();
        let Some(waiting) = threads.waiting.get(&delta.thread_id) else { return };
        let after_seq = waiting.news.borrow().last_seq;
        let delta = Arc::new(delta);
        for listener in &waiting.listeners {
            listener.put(&delta, after_seq);
        }
    }

    pub(super) fn leave(&self, thread: &ThreadId, mailbox: &Arc<Mailbox>) {
        let mut threads = self.threads();
        if let Some(waiting) = threads.waiting.get_mut(thread) {
            waiting.listeners.retain(|other| !Arc::ptr_eq(other, mailbox));
            if waiting.is_over() {
                threads.waiting.remove(thread);
            }
        }
    }
}

/// What the watcher needs: see `watch`.
impl AppendSignal {
    /// Makes the caller the watcher, if there is none and one is wanted.
    pub(super) fn begin_watching(&self) -> bool {
        let mut threads = self.threads();
        let begins = !threads.is_watching && !threads.is_closed && !threads.polls.is_empty();
        threads.is_watching |= begins;
        begins
    }

    /// How often to look; `None` where nobody wants it any more, and then the caller is the watcher no longer.
    pub(super) fn poll(&self) -> Option<Duration> {
        let mut threads = self.threads();
        let poll = threads.polls.keys().next().copied().filter(|_| !threads.is_closed);
        threads.is_watching = poll.is_some();
        poll
    }

    /// The watcher broke off: whoever waits sees to another.
    pub(super) fn broke_off(&self) {
        let mut threads = self.threads();
        if std::mem::take(&mut threads.is_watching) {
            for waiting in threads.waiting.values().filter(|waiting| waiting.watched > 0) {
                waiting.news.send_modify(|_| {});
            }
        }
    }

    /// Returns when the watcher has to look sooner than it knew, or not at all.
    pub(super) async fn rewatched(&self) {
        self.shared.watched.notified().await;
    }

    /// The threads to look at, of those that a hint may mean.
    pub(super) fn watched(&self, is_meant: impl Fn(&ThreadId) -> bool) -> Vec<ThreadId> {
        let threads = self.threads();
        let watched =
            threads.waiting.iter().filter(|(thread, waiting)| waiting.watched > 0 && is_meant(thread));
        watched.map(|(thread, _)| thread.clone()).collect()
    }

    /// What a look at these threads saw; those without a head are gone.
    pub(super) fn saw(&self, looked_at: &[ThreadId], heads: Vec<ThreadHead>) {
        let mut heads: HashMap<_, _> = heads.into_iter().map(|head| (head.thread_id.clone(), head)).collect();
        let threads = self.threads();
        for thread in looked_at {
            let Some(waiting) = threads.waiting.get(thread) else { continue };
            let head = heads.remove(thread).filter(|head| head.state != HeadState::Deleted);
            let last_seq = head.as_ref().map_or(0, ThreadHead::last_seq);
            let seen = Some(head.map_or(Seen::Gone, |head| Seen::Of(head.owner_id)));
            waiting.news.send_if_modified(|news| {
                // What was told since is newer.
                let grew = last_seq > news.last_seq;
                let turned = news.seen != seen;
                // Its being there is no news to who waits for it.
                let is_news = grew || (turned && (news.seen.is_some() || seen == Some(Seen::Gone)));
                news.last_seq = last_seq.max(news.last_seq);
                news.seen.clone_from(&seen);
                is_news
            });
        }
    }
}

/// A reader's wait for appends to one thread.
#[derive(Debug)]
pub struct Subscription {
    signal: AppendSignal,
    thread: ThreadId,
    poll: Option<Duration>,
    /// There until it is dropped.
    receiver: Option<watch::Receiver<News>>,
}

impl Subscription {
    /// Returns when something was published since the last call.
    pub async fn changed(&mut self) {
        let changed = match &mut self.receiver {
            Some(receiver) => receiver.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            // The sender lives as long as this subscription does; if it were gone, waiting is all that is left.
            std::future::pending::<()>().await;
        }
    }

    /// What is known now; what is told from now on is a change.
    pub(super) fn news(&mut self) -> News {
        self.receiver.as_mut().map(|receiver| receiver.borrow_and_update().clone()).unwrap_or_default()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut threads = self.signal.threads();
        // Under the lock, or two that leave at once would each take the other for one that stays.
        self.receiver = None;
        let mut is_last = false;
        if let Some(poll) = self.poll {
            if let Some(count) = threads.polls.get_mut(&poll) {
                *count -= 1;
                if *count == 0 {
                    threads.polls.remove(&poll);
                }
            }
            is_last = threads.polls.is_empty();
        }
        if let Some(waiting) = threads.waiting.get_mut(&self.thread) {
            waiting.watched -= usize::from(self.poll.is_some());
            if waiting.is_over() {
                threads.waiting.remove(&self.thread);
            }
        }
        drop(threads);
        if is_last {
            self.signal.shared.watched.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_leave_at_once_leave_nothing_behind() {
        let (signal, thread) = (AppendSignal::default(), ThreadId::new("t").unwrap());
        let ready = std::sync::Barrier::new(2);
        let leaves = || {
            let mut left_behind = 0;
            for _ in 0..2_000 {
                let reader = signal.subscribe(&thread);
                ready.wait();
                drop(reader);
                ready.wait();
                left_behind += signal.threads().waiting.len();
                ready.wait();
            }
            left_behind
        };
        let counts = std::thread::scope(|scope| {
            let other = scope.spawn(leaves);
            (leaves(), other.join().unwrap())
        });
        assert_eq!(counts, (0, 0));
    }

    #[derive(Debug, Default)]
    struct Passed(std::sync::atomic::AtomicUsize);

    impl Relay for Passed {
        fn pass_on(&self, _: &ThreadId) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn what_was_only_seen_is_not_passed_on() {
        let passed = Arc::new(Passed::default());
        let signal = AppendSignal::with_relay(Arc::<Passed>::clone(&passed));
        let thread = ThreadId::new("t").unwrap();
        let mut reader = signal.subscribe(&thread);
        signal.note(&thread, 3);
        assert_eq!(reader.news().last_seq, 3);
        let counted = || passed.0.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(counted(), 0);
        signal.publish(&thread, 4);
        assert_eq!(counted(), 1);
    }

    #[tokio::test]
    async fn waiting_readers_wake_and_leave_nothing_behind() {
        let signal = AppendSignal::default();
        let thread = ThreadId::new("t").unwrap();
        let (mut first, mut second) = (signal.subscribe(&thread), signal.watch(&thread, Duration::ZERO));
        let listener = signal.listen(&thread);
        signal.publish(&thread, 3);
        first.changed().await;
        second.changed().await;
        drop(first);
        assert_eq!(signal.threads().waiting.len(), 1);
        drop(second);
        assert!(signal.threads().polls.is_empty() && signal.is_heard(&thread));
        drop(listener);
        assert!(signal.threads().waiting.is_empty() && !signal.is_heard(&thread));
    }
}
