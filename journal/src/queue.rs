//! What waits to be written.
//!
//! Callbacks put groups in and never wait; the writer takes them out in order. Whoever waits for
//! something puts a request in, which is answered when its turn comes: so a caller that gives up
//! waiting takes nothing away.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runledger_core::{EventDraft, Outcome, Result, RunProgress, Timestamp, UsageDraft};
use tokio::sync::{Notify, oneshot};

use crate::mapping::run::Closing;
use crate::mapping::{Mapper, Recorded};
use crate::report::{FinishedRun, Report};

/// The most events in one commit of the writer.
const MAX_BATCH_EVENTS: usize = 500;
/// The size at which a commit of the writer takes no more.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The journal's shared half: the state that callbacks change, and what waits.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the writer.
    pub(crate) wake: Notify,
    /// How many waiting events make the writer write at once.
    pub(crate) batch_events: usize,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) mapper: Mapper,
    entries: VecDeque<Entry>,
    waiting: usize,
    requests: usize,
    pub(crate) peak: usize,
}

/// Something the writer has to do.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Events, usage and progress of one callback.
    Group(Recorded),
    /// Say when everything before is durable.
    Barrier(oneshot::Sender<Result<()>>),
    /// End the run.
    Finish(Box<FinishEntry>),
    /// Write what is there, and stop.
    Close(Option<oneshot::Sender<Report>>),
}

#[derive(Debug)]
pub(crate) struct FinishEntry {
    pub(crate) outcome: Outcome,
    pub(crate) at: Timestamp,
    pub(crate) closing: Closing,
    pub(crate) reply: oneshot::Sender<Result<FinishedRun>>,
}

/// What goes into one commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<EventDraft>,
    pub(crate) usage: Vec<UsageDraft>,
    pub(crate) progress: RunProgress,
}

impl Shared {
    pub(crate) fn new(mapper: Mapper, batch_events: usize) -> Self {
        Self {
            inner: Mutex::new(Inner { mapper, entries: VecDeque::new(), waiting: 0, requests: 0, peak: 0 }),
            wake: Notify::new(),
            batch_events,
        }
    }

    /// A panic in a callback's mapping must not take the journal with it: the state is still whole,
    /// for a group is put in after it is made.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps a callback and queues what it records, in one step, so that order holds among threads.
    pub(crate) fn record(&self, map: impl FnOnce(&mut Mapper) -> Recorded) {
        let mut inner = self.lock();
        let recorded = map(&mut inner.mapper);
        if recorded.is_empty() {
            return;
        }
        let first = inner.entries.is_empty();
        let full = inner.push_group(recorded, self.batch_events);
        drop(inner);
        if first || full {
            self.wake.notify_one();
        }
    }

    /// Queues a request.
    pub(crate) fn request(&self, make: impl FnOnce(&mut Mapper) -> Entry) {
        let mut inner = self.lock();
        let entry = make(&mut inner.mapper);
        inner.entries.push_back(entry);
        inner.requests += 1;
        drop(inner);
        self.wake.notify_one();
    }
}

impl Inner {
    fn push_group(&mut self, recorded: Recorded, batch_events: usize) -> bool {
        let before = self.waiting;
        self.waiting += recorded.events.len();
        self.peak = self.peak.max(self.waiting);
        self.entries.push_back(Entry::Group(recorded));
        before < batch_events && self.waiting >= batch_events
    }

    /// How many events wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_requested(&self) -> bool {
        self.requests > 0
    }

    /// Takes the next commit's worth of groups, none of them split; empty where a request or nothing is next.
    pub(crate) fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while let Some(Entry::Group(next)) = self.entries.front() {
            let size: usize = next.events.iter().map(|event| event.content.as_str().len()).sum();
            let over =
                batch.events.len() + next.events.len() > MAX_BATCH_EVENTS || bytes + size > MAX_BATCH_BYTES;
            if over && !batch.is_empty() {
                break;
            }
            bytes += size;
            if let Some(Entry::Group(group)) = self.entries.pop_front() {
                self.waiting -= group.events.len();
                batch.add(group);
            }
        }
        batch
    }

    /// Takes the request that is next.
    pub(crate) fn take_request(&mut self) -> Option<Entry> {
        if matches!(self.entries.front(), None | Some(Entry::Group(_))) {
            return None;
        }
        self.requests -= 1;
        self.entries.pop_front()
    }
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.usage.is_empty() && self.progress.is_empty()
    }

    pub(crate) fn add(&mut self, group: Recorded) {
        self.events.extend(group.events);
        for call in group.usage {
            self.add_usage(call);
        }
        let earlier = std::mem::take(&mut self.progress);
        self.progress = RunProgress {
            first_human_message: earlier.first_human_message.or(group.progress.first_human_message),
            last_ai_message: group.progress.last_ai_message.or(earlier.last_ai_message),
            model_name: earlier.model_name.or(group.progress.model_name),
        };
    }

    /// One record per call: a later one completes one that took nothing, as a store would.
    fn add_usage(&mut self, call: UsageDraft) {
        match self.usage.iter_mut().find(|known| known.source_id == call.source_id) {
            Some(known) if known.tokens.total == 0 => *known = call,
            Some(_) => {}
            None => self.usage.push(call),
        }
    }

    /// Two halves, in order; `None` where it holds one thing. Usage and progress stand apart first.
    pub(crate) fn split(mut self) -> Result<(Self, Self), Self> {
        let rest = usize::from(!self.usage.is_empty()) + usize::from(!self.progress.is_empty());
        if !self.events.is_empty() && rest > 0 {
            let events = std::mem::take(&mut self.events);
            return Ok((Self { events, ..Self::default() }, self));
        }
        if self.events.len() > 1 {
            let events = self.events.split_off(self.events.len() / 2);
            return Ok((self, Self { events, ..Self::default() }));
        }
        if !self.usage.is_empty() && !self.progress.is_empty() {
            let usage = std::mem::take(&mut self.usage);
            return Ok((Self { usage, ..Self::default() }, self));
        }
        if self.usage.len() > 1 {
            let usage = self.usage.split_off(self.usage.len() / 2);
            return Ok((self, Self { usage, ..Self::default() }));
        }
        Err(self)
    }
}
