//! What waits to be written.
//!
//! Callbacks put groups in and never wait; the writer takes them out in order. Whoever waits for
//! something puts a request in, which is answered when its turn comes: so a caller that gives up
//! waiting takes nothing away.
//!
//! What is held is counted from the callback until the store or the spool has it, so the bound is
//! one on memory and not only on the queue.

use std::collections::VecDeque;
use std::ops::{AddAssign, SubAssign};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runledger_core::{
    EventDraft, ItemId, NewInteraction, Outcome, Result, RunProgress, Timestamp, UsageDraft,
};
use tokio::sync::{Notify, oneshot};

use crate::mapping::run::Closing;
use crate::mapping::{Mapper, Recorded};
use crate::report::{FinishedRun, Report};

/// The most events in one commit of the writer.
const MAX_BATCH_EVENTS: usize = 500;
/// The size at which a commit of the writer takes no more.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How much memory records take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Size {
    /// The most of one commit of the writer; `bound` is the most that may be held, if anything is.
    pub(crate) fn of_commit(bound: Option<Self>) -> Self {
        let whole = Self { events: MAX_BATCH_EVENTS, bytes: MAX_BATCH_BYTES };
        bound.map_or(whole, |bound| Self {
            events: (bound.events / 4).clamp(1, whole.events),
            bytes: (bound.bytes / 4).clamp(1, whole.bytes),
        })
    }

    pub(crate) fn of_event(event: &EventDraft) -> Self {
        let texts = [
            event.content.as_str(),
            event.metadata.as_ref().map_or("", |metadata| metadata.as_str()),
            event.once_key.as_deref().unwrap_or_default(),
        ];
        let bytes = size_of::<EventDraft>() + texts.iter().map(|text| text.len()).sum::<usize>();
        Self { events: 1, bytes }
    }

    fn of_call(call: &UsageDraft) -> usize {
        size_of::<UsageDraft>() + call.raw.as_ref().map_or(0, |raw| raw.as_str().len())
    }

    pub(crate) fn of_asks(asks: &[NewInteraction]) -> Self {
        let texts = asks.iter().map(|ask| size_of::<NewInteraction>() + ask.request.as_str().len());
        Self { events: 0, bytes: texts.sum() }
    }

    pub(crate) fn of(events: &[EventDraft], usage: &[UsageDraft], progress: &RunProgress) -> Self {
        let told = [&progress.first_human_message, &progress.last_ai_message, &progress.model_name];
        let told: usize = told.into_iter().flatten().map(String::len).sum();
        let mut size = Self { events: 0, bytes: told + usage.iter().map(Self::of_call).sum::<usize>() };
        events.iter().for_each(|event| size += Self::of_event(event));
        size
    }

    /// Whether one of the two is above the other's.
    pub(crate) fn exceeds(self, bound: Self) -> bool {
        self.events > bound.events || self.bytes > bound.bytes
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        self.events = self.events.saturating_sub(other.events);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// The journal's shared half: the state that callbacks change, and what waits.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the writer.
    pub(crate) wake: Notify,
    /// How many waiting events make the writer write at once.
    batch_events: usize,
    /// The most that may be held; `None` where nobody asked for a bound.
    bound: Option<Size>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) mapper: Mapper,
    entries: VecDeque<Entry>,
    queued: usize,
    requests: usize,
    held: Size,
    peak: Size,
    lost: u64,
    usage_lost: u64,
    /// How many of the lost a barrier told of.
    told: u64,
    writer: Taker,
}

/// Whether anybody takes what is put in.
#[derive(Debug)]
enum Taker {
    There,
    /// It has closed; with its last word.
    Closed(Box<Report>),
    /// It is gone without one: it panicked, or its runtime is gone.
    Gone,
}

/// Something the writer has to do.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Events, usage and progress of one callback.
    Group(Recorded, Size),
    /// Say when everything before is durable; with how many records had been dropped by then.
    Barrier(oneshot::Sender<Result<()>>, u64),
    /// End the run.
    Finish(Box<FinishEntry>),
    /// Write what is there, and stop.
    Close(Option<oneshot::Sender<Report>>),
}

#[derive(Debug)]
pub(crate) struct FinishEntry {
    pub(crate) outcome: Outcome,
    pub(crate) asks: Vec<NewInteraction>,
    pub(crate) at: Timestamp,
    pub(crate) closing: Closing,
    pub(crate) reply: oneshot::Sender<Result<FinishedRun>>,
}

/// What goes into one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: Vec<EventDraft>,
    pub(crate) usage: Vec<UsageDraft>,
    pub(crate) progress: RunProgress,
}

/// What the writer sees of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Whether nothing waits.
    pub(crate) empty: bool,
    /// Whether so much waits that it is written at once.
    pub(crate) full: bool,
    /// Whether somebody waits for an answer.
    pub(crate) requested: bool,
    /// Whether half of what may be held is held.
    pub(crate) pressed: bool,
}

/// What the callbacks did to memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) peak: Size,
    pub(crate) lost: u64,
    pub(crate) usage_lost: u64,
}

impl Shared {
    pub(crate) fn new(mapper: Mapper, batch_events: usize, bound: Option<Size>) -> Self {
        let inner = Inner {
            mapper,
            entries: VecDeque::new(),
            queued: 0,
            requests: 0,
            held: Size::default(),
            peak: Size::default(),
            lost: 0,
            usage_lost: 0,
            told: 0,
            writer: Taker::There,
        };
        Self { inner: Mutex::new(inner), wake: Notify::new(), batch_events: batch_events.max(1), bound }
    }

    /// A panic in a callback's mapping must not take the journal with it: the state is still whole,
    /// for a group is put in after it is made.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps a callback and queues what it records, in one step, so that order holds among threads.
    ///
    /// Where the bound leaves no room the group is counted and dropped before it has a place in the
    /// run's order, so what follows has no gap before it. So it is where nobody takes it any more.
    pub(crate) fn record(&self, map: impl FnOnce(&mut Mapper) -> Recorded) {
        let mut inner = self.lock();
        let recorded = map(&mut inner.mapper);
        if recorded.is_empty() {
            return;
        }
        let size = Size::of(&recorded.events, &recorded.usage, &recorded.progress);
        let gone = !matches!(inner.writer, Taker::There);
        if gone || self.bound.is_some_and(|bound| inner.has_no_room(size, bound)) {
            let first = inner.lost == 0 && inner.usage_lost == 0;
            inner.lost += recorded.events.len() as u64;
            inner.usage_lost += recorded.usage.len() as u64;
            drop(inner);
            if first && gone {
                tracing::error!("a run's journal has no writer any more; events are lost from here on");
            } else if first {
                tracing::error!(
                    "a run's journal holds as much as it may and the spool does not take it fast enough; \
                     events are lost from here on, and counted"
                );
            }
            return;
        }
        let first = inner.entries.is_empty();
        let before = inner.queued;
        inner.queued += size.events;
        inner.entries.push_back(Entry::Group(recorded, size));
        inner.hold(size);
        let full = before < self.batch_events && inner.queued >= self.batch_events;
        let wakes = first || full || self.presses(&inner);
        drop(inner);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Remembers the id of an item that is written past the queue.
    pub(crate) fn note_item(&self, id: &ItemId) {
        self.lock().mapper.note_item(id);
    }

    /// Queues a request. Where the writer is gone it is dropped, which tells whoever waits for it.
    pub(crate) fn request(&self, make: impl FnOnce(&mut Inner) -> Entry) {
        let mut inner = self.lock();
        let entry = make(&mut inner);
        match &inner.writer {
            Taker::There => {}
            Taker::Closed(report) => return entry.answer_closed(report),
            Taker::Gone => return,
        }
        if let Entry::Finish(finish) = &entry {
            // The end of a run is taken whatever is held.
            inner.hold(finish.size());
        }
        inner.entries.push_back(entry);
        inner.requests += 1;
        drop(inner);
        self.wake.notify_one();
    }

    /// Puts in a barrier.
    pub(crate) fn barrier(&self, reply: oneshot::Sender<Result<()>>) {
        self.request(|inner| Entry::Barrier(reply, inner.lost + inner.usage_lost));
    }

    /// How many of so many dropped records no barrier told of yet.
    pub(crate) fn untold(&self, dropped: u64) -> u64 {
        dropped.saturating_sub(self.lock().told)
    }

    /// A barrier told of so many dropped records.
    pub(crate) fn tell(&self, dropped: u64) {
        let mut inner = self.lock();
        inner.told = inner.told.max(dropped);
    }

    /// The writer takes nothing more; `last` is its report, if it lived to make one.
    pub(crate) fn writer_left(&self, last: Option<&Report>) {
        let mut inner = self.lock();
        if !matches!(inner.writer, Taker::There) {
            return;
        }
        inner.writer = last.map_or(Taker::Gone, |report| Taker::Closed(Box::new(report.clone())));
        let entries = std::mem::take(&mut inner.entries);
        (inner.queued, inner.requests, inner.held) = (0, 0, Size::default());
        drop(inner);
        for entry in entries {
            if let Some(report) = last {
                entry.answer_closed(report);
            }
        }
    }

    fn presses(&self, inner: &Inner) -> bool {
        self.bound.is_some_and(|bound| {
            inner.held.exceeds(Size { events: bound.events / 2, bytes: bound.bytes / 2 })
        })
    }

    pub(crate) fn see(&self) -> Seen {
        let inner = self.lock();
        Seen {
            empty: inner.entries.is_empty(),
            full: inner.queued >= self.batch_events,
            requested: inner.requests > 0,
            pressed: self.presses(&inner),
        }
    }

    /// Counts what the writer reads back from the spool.
    pub(crate) fn hold(&self, size: Size) {
        self.lock().hold(size);
    }

    /// The store or the spool has it.
    pub(crate) fn release(&self, size: Size) {
        self.lock().held -= size;
    }

    pub(crate) fn tally(&self) -> Tally {
        let inner = self.lock();
        Tally { peak: inner.peak, lost: inner.lost, usage_lost: inner.usage_lost }
    }
}

impl Inner {
    fn hold(&mut self, size: Size) {
        self.held += size;
        self.peak.events = self.peak.events.max(self.held.events);
        self.peak.bytes = self.peak.bytes.max(self.held.bytes);
    }

    /// Whatever its size, a group is taken where nothing else is held.
    fn has_no_room(&self, size: Size, bound: Size) -> bool {
        let mut then = self.held;
        then += size;
        self.held != Size::default() && then.exceeds(bound)
    }

    /// How many events are held.
    pub(crate) fn held_events(&self) -> usize {
        self.held.events
    }

    /// Takes the next commit's worth of groups, none of them split; empty where a request or nothing is next.
    pub(crate) fn take_batch(&mut self, most: Size) -> (Batch, Size) {
        let mut batch = Batch::default();
        let mut size = Size::default();
        while let Some(Entry::Group(_, next)) = self.entries.front() {
            let mut then = size;
            then += *next;
            if then.exceeds(most) && !batch.is_empty() {
                break;
            }
            if let Some(Entry::Group(group, next)) = self.entries.pop_front() {
                self.queued -= next.events;
                size = then;
                batch.add(group);
            }
        }
        (batch, size)
    }

    /// Takes the request that is next.
    pub(crate) fn take_request(&mut self) -> Option<Entry> {
        if matches!(self.entries.front(), None | Some(Entry::Group(..))) {
            return None;
        }
        self.requests -= 1;
        self.entries.pop_front()
    }
}

impl Entry {
    /// A close that comes after another is told the same.
    fn answer_closed(self, report: &Report) {
        if let Self::Close(Some(reply)) = self {
            // Nobody may be waiting any more.
            let _ = reply.send(report.clone());
        }
    }
}

impl FinishEntry {
    pub(crate) fn size(&self) -> Size {
        let Recorded { events, usage, progress } = &self.closing.recorded;
        let mut size = Size::of(events, usage, progress);
        size += Size::of_event(&self.closing.terminal);
        size += Size::of_asks(&self.asks);
        size
    }
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.usage.is_empty() && self.progress.is_empty()
    }

    /// Whether it holds one thing, and cannot be split.
    pub(crate) fn is_one(&self) -> bool {
        self.events.len() + self.usage.len() + usize::from(!self.progress.is_empty()) == 1
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

    /// One record per call: a later one takes the place of one that took nothing, or of an estimate, as a
    /// store would have it.
    fn add_usage(&mut self, call: UsageDraft) {
        match self.usage.iter_mut().find(|known| known.source_id == call.source_id) {
            Some(known)
                if known.tokens.total == 0 || known.estimated && !call.estimated && call.tokens.total > 0 =>
            {
                *known = call;
            }
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
