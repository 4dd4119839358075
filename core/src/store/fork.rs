//! Forks: what a thread shows up to a point, copied into a new one that goes on by itself.
//!
//! A fork is built of pages of the source and of commits to the new thread, as an import is, so it is the same for
//! every backend and holds a batch and a page in memory, however long the log is. Where it was cut short the new
//! thread says how far it came: what is there is compared with the source again, and the rest is written.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Capability, EventFilter, Ledger};
use crate::commit::{Admission, Claim, Commit, Expected, JournalMark, Receipt, RunProgress, Transition};
use crate::record::{
    AgentMessage, Compaction, ContentText as _, Event, EventDraft, ForkOrigin, ItemKind, ItemStatus,
    MultitaskStrategy, NewCompaction, NewThread, ONCE_TERMINAL, Outcome, Run, RunStatus, SeqSpan,
    TerminalStatus, Thread, Visibility, blob_refs,
};
use crate::{
    BlobHash, Error, ErrorKind, EventType, ItemId, NewBlob, Result, RunId, Scope, SeqRange, ThreadId,
    Timestamp, text,
};

/// The most events that are read at once, and those of one commit.
const PAGE: u32 = 500;

/// How many events are read first, while nothing is known of how large they are.
const FIRST_PAGE: u32 = 16;

/// The most bytes of one commit, unless a single event has more. A page of a log that had so many is followed by a
/// shorter one.
const BATCH_BYTES: usize = 4 << 20;

/// Compactions that are read at once.
const COMPACTIONS: u32 = 100;

/// Up to where a fork has what its source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForkPoint {
    /// All that is there when the fork is begun.
    Latest,
    /// Through the end of this run, which must be shown; through what is there of one that has not ended.
    Run(RunId),
    /// Everything before this run began.
    BeforeRun(RunId),
    /// Through the last record of this item.
    Item(RunId, ItemId),
}

/// A thread to be made of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The thread it is copied from.
    pub source_thread_id: ThreadId,
    /// The id of the new thread.
    pub thread_id: ThreadId,
    /// Up to where.
    pub through: ForkPoint,
    /// When: the new thread's `created_at`, and when a run that is cut ends there.
    pub at: Timestamp,
}

impl Fork {
    /// Of all that is there, made now.
    #[must_use]
    pub fn new(source_thread_id: ThreadId, thread_id: ThreadId) -> Self {
        Self { source_thread_id, thread_id, through: ForkPoint::Latest, at: Timestamp::now() }
    }

    /// Up to another point.
    #[must_use]
    pub fn through(self, through: ForkPoint) -> Self {
        Self { through, ..self }
    }
}

/// The answer of [`Ledger::fork`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forked {
    /// The new thread.
    pub thread: Thread,
    /// How many events of the source it has.
    pub events: u64,
    /// How many of them this call wrote: fewer where it went on with a fork that was cut short, none where that
    /// was whole.
    pub written: u64,
}

impl Ledger {
    /// Copies what a thread shows up to a point into a new thread, which is the owner's of the source: shown
    /// runs with their ids, times, metadata and ends, their events, the thread's own events, compactions and blobs. Its
    /// context window is what the source's was at that point. The source is only read.
    ///
    /// - Seqs are counted anew, without gaps. A run that is cut in the middle, or has not ended, ends in the fork
    ///   as interrupted with the stop reason [`Outcome::FORKED`], and what it had open is closed.
    /// - Usage is not copied, for it was spent once: the totals of the runs are 0. Neither are the keys of
    ///   requests, leases, questions to people and agent runs: those belong to the source. Runs of which no event
    ///   is in the log are left out.
    /// - It takes many commits. Called again with the same ids and point it goes on where it was cut short, or
    ///   answers what is there, also where the source has grown. That is the point as a place in the source: of a
    ///   run or an item that had not ended it is another one as soon as there is more of it, and [`ForkPoint::Latest`]
    ///   takes any fork of the source, wherever it was cut. Until it answers nobody else may write to
    ///   the new thread. `Conflict` where the new thread or that part of the source was changed meanwhile: delete the
    ///   new one and fork anew. A source that is deleted meanwhile is `NotFound`.
    /// - `AlreadyExists` where the id is taken by anything but this fork; `NotFound` where the source, the run or the
    ///   item is; `Conflict` where that run is hidden or waits.
    pub async fn fork(&self, scope: &Scope, fork: Fork) -> Result<Forked> {
        let has = self.capabilities();
        if let Some(lacking) = Capability::ALL.iter().find(|capability| !has.has(**capability)) {
            return Err(lacking.unsupported());
        }
        let source = self.threads().get(scope, &fork.source_thread_id).await?;
        let through = self.point(scope, &fork).await?;
        let thread = self.fork_thread(scope, &fork, source, through).await?;
        let through = thread.forked_at_seq.unwrap_or(through);
        let mut copy = Copying::begin(self, scope, &fork, through).await?;
        copy.events().await?;
        let (events, written) = (copy.copied, copy.written);
        let thread = self.threads().get(scope, &thread.thread_id).await?;
        Ok(Forked { thread, events, written })
    }

    /// The last seq of the source that the fork has.
    async fn point(&self, scope: &Scope, fork: &Fork) -> Result<u64> {
        let source = &fork.source_thread_id;
        let head = self.threads().head(scope, source).await?;
        let last = head.next_seq.saturating_sub(1);
        match &fork.through {
            ForkPoint::Latest => Ok(last),
            ForkPoint::BeforeRun(run) => {
                let run = self.runs().get(scope, source, run).await?;
                Ok(begun(&run)?.0.saturating_sub(1))
            }
            ForkPoint::Run(run) => {
                let run = self.runs().get(scope, source, run).await?;
                let (_, last_seq) = shown(&run).and_then(begun)?;
                match ending(&run) {
                    Some(outcome) => Ok(self.end_of(scope, &run, &outcome).await?.unwrap_or(last_seq)),
                    None => Ok(last),
                }
            }
            ForkPoint::Item(run, item) => {
                let run = self.runs().get(scope, source, run).await?;
                shown(&run)?;
                Ok(self.items().get(scope, source, &run.run_id, item).await?.updated_seq)
            }
        }
    }

    /// The seq of a run's terminal event, if the log has it. What comes after it is of the run, too, but came late.
    async fn end_of(&self, scope: &Scope, run: &Run, outcome: &Outcome) -> Result<Option<u64>> {
        let types = vec![EventType::from_stored(outcome.status.event_type())];
        let filter = EventFilter { event_types: types, ..EventFilter::of_run(run.run_id.clone()) };
        let mut range = SeqRange::last(PAGE);
        loop {
            let page = self.events().list_events(scope, &run.thread_id, &filter, &range).await?;
            if let Some(end) = page.items.iter().rev().find(|event| is_terminal(event)) {
                return Ok(Some(end.seq));
            }
            match page.items.first() {
                Some(first) if page.has_more => range = SeqRange::before(first.seq, PAGE),
                _ => return Ok(None),
            }
        }
    }

    /// The thread of a fork: the new one, or the one that an earlier call made.
    async fn fork_thread(
        &self,
        scope: &Scope,
        fork: &Fork,
        source: Thread,
        through_seq: u64,
    ) -> Result<Thread> {
        let origin = ForkOrigin { source_thread_id: source.thread_id.clone(), through_seq };
        let new = NewThread {
            owner_id: source.owner_id,
            assistant_id: source.assistant_id,
            display_name: source.display_name,
            system_prompt: source.system_prompt,
            model: source.model,
            config: source.config,
            metadata: source.metadata,
            fork: Some(origin),
            created_at: fork.at,
            ..NewThread::new(fork.thread_id.clone())
        };
        let taken = match self.threads().create(scope, new).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => error,
            made => return made,
        };
        match self.threads().get(scope, &fork.thread_id).await {
            Ok(thread)
                if thread.forked_from_thread_id.as_ref() == Some(&fork.source_thread_id)
                    && (fork.through == ForkPoint::Latest || thread.forked_at_seq == Some(through_seq)) =>
            {
                Ok(thread)
            }
            Ok(_) => Err(taken),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(taken),
            Err(error) => Err(error),
        }
    }
}

/// The first and the last seq of a run that has had the slot.
fn begun(run: &Run) -> Result<(u64, u64)> {
    run.first_seq.zip(run.last_seq).ok_or_else(|| Error::conflict("run", "one that has events", &run.run_id))
}

fn shown(run: &Run) -> Result<&Run> {
    match &run.visibility {
        Visibility::Shown => Ok(run),
        other => Err(Error::conflict("run visibility", Visibility::Shown, other)),
    }
}

fn is_terminal(event: &Event) -> bool {
    event.once_key.as_deref() == Some(ONCE_TERMINAL)
}

/// How a run ended, if it has.
fn ending(run: &Run) -> Option<Outcome> {
    let status = match &run.status {
        RunStatus::Success => TerminalStatus::Success,
        RunStatus::Error => TerminalStatus::Error,
        RunStatus::Timeout => TerminalStatus::Timeout,
        RunStatus::Interrupted => TerminalStatus::Interrupted,
        RunStatus::BudgetExhausted => TerminalStatus::BudgetExhausted,
        RunStatus::Queued | RunStatus::Pending | RunStatus::Running | RunStatus::Unknown(_) => return None,
    };
    Some(Outcome { status, error: run.error.clone(), stop_reason: run.stop_reason.clone() })
}

/// Where a run of the source stands in the new thread.
enum Place {
    /// Readers leave it out, and so does the fork.
    Hidden,
    /// Not admitted yet.
    New(Box<Run>),
    /// Stored as queued, to be ended.
    Waiting(Box<Run>),
    /// Admitted, and no further.
    Open,
    Ended,
}

/// The run that holds the slot of the new thread.
struct Active {
    run: Run,
    mark: JournalMark,
    started: bool,
    /// What the lead agent said last, as far as it was copied.
    said: Option<String>,
}

/// Which seqs of the new thread the copied ones of the source have: stretches of both that run side by side.
#[derive(Default)]
struct Numbers(Vec<(u64, u64, u64)>);

impl Numbers {
    fn push(&mut self, source: u64, new: u64) {
        match self.0.last_mut() {
            Some((from, to, count)) if *from + *count == source && *to + *count == new => *count += 1,
            _ => self.0.push((source, new, 1)),
        }
    }

    /// The new seq of the last copied one up to `source`.
    fn at_or_before(&self, source: u64) -> Option<u64> {
        let after = self.0.partition_point(|(from, _, _)| *from <= source);
        let (from, to, count) = self.0.get(after.checked_sub(1)?)?;
        Some(to + (source - from).min(count - 1))
    }

    /// The new seq of the first copied one from `source` on.
    fn at_or_after(&self, source: u64) -> Option<u64> {
        let at = self.0.partition_point(|(from, _, count)| from + count <= source);
        let (from, to, _) = self.0.get(at)?;
        Some(to + source.saturating_sub(*from))
    }

    fn spans(&self, spans: &[SeqSpan]) -> Vec<SeqSpan> {
        let span = |span: &SeqSpan| {
            let (from, through) = (self.at_or_after(span.from)?, self.at_or_before(span.through)?);
            (from <= through).then_some(SeqSpan { from, through })
        };
        spans.iter().filter_map(span).collect()
    }
}

/// Events that wait to be one commit, all of one run or of none.
#[derive(Default)]
struct Batch {
    run: Option<RunId>,
    events: Vec<EventDraft>,
    blobs: Vec<NewBlob>,
    bytes: usize,
}

/// What an earlier call wrote, read along with the source.
struct Before {
    events: VecDeque<Event>,
    /// The last seq of the new thread that was read.
    read: u64,
    /// How many are read at once.
    page: u32,
    /// The last there was.
    last: u64,
    /// Whether there was nothing, not even a run without events.
    is_new: bool,
}

/// A fork at work.
struct Copying<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    fork: &'a Fork,
    through: u64,
    before: Before,
    runs: HashMap<RunId, Place>,
    active: Option<Active>,
    /// A run that holds the slot and is none of the source's: nothing may be written.
    foreign: Option<RunId>,
    numbers: Numbers,
    /// The seq that the next event gets.
    next_seq: u64,
    batch: Batch,
    compactions: VecDeque<Compaction>,
    /// The last compaction of the source that was read; `None` where there are no more.
    compactions_read: Option<u64>,
    last_compact_seq: Option<u64>,
    /// Blobs that this call brought.
    brought: HashSet<BlobHash>,
    copied: u64,
    written: u64,
}

impl<'a> Copying<'a> {
    async fn begin(ledger: &'a Ledger, scope: &'a Scope, fork: &'a Fork, through: u64) -> Result<Self> {
        let head = ledger.threads().head(scope, &fork.thread_id).await?;
        let (mut runs, mut active, mut foreign) = (HashMap::new(), None, None);
        if let Some(run) = &head.active_run_id {
            let of_source = match ledger.runs().get(scope, &fork.source_thread_id, run).await {
                Ok(run) if run.first_seq.is_some_and(|first| first <= through) => Some(run),
                Ok(_) => None,
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            if let Some(of_source) = of_source {
                let there = ledger.runs().get(scope, &fork.thread_id, run).await?;
                runs.insert(run.clone(), Place::Open);
                active = Some(Active {
                    run: of_source,
                    mark: JournalMark { epoch: head.epoch, ordinal: head.journal_ordinal },
                    started: there.status == RunStatus::Running,
                    said: None,
                });
            } else {
                foreign = Some(run.clone());
            }
        }
        let last = head.next_seq.saturating_sub(1);
        let is_new = last == 0 && head.epoch == 0;
        Ok(Self {
            ledger,
            scope,
            fork,
            through,
            before: Before { events: VecDeque::new(), read: 0, page: FIRST_PAGE, last, is_new },
            runs,
            active,
            foreign,
            numbers: Numbers::default(),
            next_seq: 1,
            batch: Batch::default(),
            compactions: VecDeque::new(),
            compactions_read: Some(0),
            last_compact_seq: head.last_compact_seq,
            brought: HashSet::new(),
            copied: 0,
            written: 0,
        })
    }

    /// Copies everything, and ends what is not to go on.
    async fn events(&mut self) -> Result<()> {
        let source = &self.fork.source_thread_id;
        let (mut after, mut limit) = (0, FIRST_PAGE);
        while after < self.through {
            let range =
                SeqRange { limit, after_seq: Some(after), before_seq: Some(self.through.saturating_add(1)) };
            let filter = EventFilter::default();
            let page = self.ledger.events().list_events(self.scope, source, &filter, &range).await?;
            after = match page.items.last() {
                Some(last) if page.has_more => last.seq,
                _ => self.through,
            };
            limit = next_page(&page.items);
            for event in page.items {
                self.event(event).await?;
            }
        }
        self.flush().await?;
        self.pass_ends().await?;
        let is_whole = |run: &Run| run.last_seq.is_some_and(|last| last <= self.through);
        let outcome =
            self.active.as_ref().and_then(|active| ending(&active.run).filter(|_| is_whole(&active.run)));
        self.end_active(outcome).await
    }

    /// Whether what comes next is there already.
    fn is_before(&self) -> bool {
        self.next_seq <= self.before.last
    }

    async fn event(&mut self, event: Event) -> Result<()> {
        if let Some(run) = &event.run_id
            && matches!(self.place(run).await?, Place::Hidden)
        {
            return Ok(());
        }
        self.copied += 1;
        self.hear(&event);
        if self.is_before() && self.was_copied(&event).await? {
            self.numbers.push(event.seq, self.next_seq);
            self.next_seq += 1;
            return Ok(());
        }
        self.written += 1;
        if self.batch.run != event.run_id || self.batch.events.len() >= PAGE as usize {
            self.flush().await?;
        }
        if let Some(run) = event.run_id.clone()
            && self.begin_run(&run, &event).await?
        {
            return Ok(());
        }
        let ends = is_terminal(&event)
            && self.active.as_ref().is_some_and(|active| event.run_id.as_ref() == Some(&active.run.run_id));
        let compaction = self.compaction_of(&event).await?;
        if ends || compaction.is_some() {
            self.flush().await?;
        }
        // A batch is of one run and follows what was stored, so its numbers are known.
        self.numbers.push(event.seq, self.next_seq + self.batch.events.len() as u64);
        self.add(event).await?;
        match compaction {
            Some(compaction) => self.fold(compaction).await,
            None if ends => self.finish().await,
            None => Ok(()),
        }
    }

    /// Where a run stands in the new thread.
    async fn place(&mut self, run: &RunId) -> Result<&Place> {
        if !self.runs.contains_key(run) {
            let of_source = self.ledger.runs().get(self.scope, &self.fork.source_thread_id, run).await?;
            let place = if of_source.visibility != Visibility::Shown {
                Place::Hidden
            } else if self.before.is_new {
                Place::New(Box::new(of_source))
            } else {
                match self.ledger.runs().get(self.scope, &self.fork.thread_id, run).await {
                    Ok(there) if there.status == RunStatus::Queued => Place::Waiting(Box::new(of_source)),
                    // The active one is known.
                    Ok(_) => Place::Ended,
                    Err(error) if error.kind() == ErrorKind::NotFound => Place::New(Box::new(of_source)),
                    Err(error) => return Err(error),
                }
            };
            self.runs.insert(run.clone(), place);
        }
        Ok(self.runs.get(run).unwrap_or(&Place::Hidden))
    }

    /// Sees to it that an event's run is in the new thread; says whether the event came with that.
    async fn begin_run(&mut self, run: &RunId, event: &Event) -> Result<bool> {
        match self.runs.remove(run) {
            Some(Place::New(run)) if self.active.as_ref().is_some_and(|active| passes(&run, &active.run)) => {
                let waits =
                    Admission { multitask_strategy: MultitaskStrategy::Enqueue, ..self.admission(&run) };
                self.admit(&run, waits).await?;
                self.end_waiting(*run, event).await
            }
            Some(Place::Waiting(run)) => self.end_waiting(*run, event).await,
            Some(Place::New(run)) => {
                // That it ended is certain, for another has the slot.
                let outcome = self.active.as_ref().and_then(|active| ending(&active.run));
                self.end_active(outcome).await?;
                let receipt = self.admit(&run, self.admission(&run)).await?;
                self.runs.insert(run.run_id.clone(), Place::Open);
                let mark = JournalMark { epoch: receipt.epoch, ordinal: 0 };
                self.active = Some(Active { run: *run, mark, started: false, said: None });
                self.hear(event);
                Ok(false)
            }
            Some(place) => {
                self.runs.insert(run.clone(), place);
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Ends a run that passes the one that holds the slot. The store writes its terminal event: the copy of the
    /// source's, where that is what comes next.
    async fn end_waiting(&mut self, run: Run, event: &Event) -> Result<bool> {
        let outcome = ending(&run).unwrap_or_else(|| Outcome::interrupted(Outcome::FORKED));
        let at = run.finished_at.unwrap_or(self.fork.at);
        let interrupt = Transition::Interrupt { outcome, claim: Claim::Epoch(0), at };
        let is_copied = is_terminal(event);
        if is_copied {
            self.numbers.push(event.seq, self.next_seq);
        }
        self.append(Commit {
            transition: Some(interrupt),
            ..Commit::of_run(self.fork.thread_id.clone(), run.run_id.clone())
        })
        .await?;
        self.runs.insert(run.run_id, Place::Ended);
        Ok(is_copied)
    }

    /// Whether the next event of the new thread is this one; ends that a fork wrote in between are passed. `false`
    /// at the end of what is there.
    async fn was_copied(&mut self, event: &Event) -> Result<bool> {
        while let Some(there) = self.there().await? {
            let is_copy = is_copy(event, &there);
            if !is_copy && !is_end(&there) {
                return Err(self.changed(event.seq));
            }
            self.before.events.pop_front();
            if is_copy {
                return Ok(true);
            }
            self.next_seq += 1;
        }
        Ok(false)
    }

    /// Passes the ends that a fork wrote after everything it copied. What comes after them is the thread's own.
    async fn pass_ends(&mut self) -> Result<()> {
        while let Some(there) = self.there().await?
            && is_end(&there)
        {
            self.before.events.pop_front();
            self.next_seq += 1;
        }
        Ok(())
    }

    /// The next event of the new thread that is there already.
    async fn there(&mut self) -> Result<Option<Event>> {
        if self.before.events.is_empty() && self.before.read < self.before.last {
            let range = SeqRange {
                limit: self.before.page,
                after_seq: Some(self.before.read),
                before_seq: Some(self.before.last.saturating_add(1)),
            };
            let filter = EventFilter::default();
            let page =
                self.ledger.events().list_events(self.scope, &self.fork.thread_id, &filter, &range).await?;
            self.before.read = page.items.last().map_or(self.before.last, |event| event.seq);
            self.before.page = next_page(&page.items);
            self.before.events.extend(page.items);
        }
        match self.before.events.front() {
            Some(event) if event.seq == self.next_seq => Ok(Some(event.clone())),
            // Something of it was deleted.
            Some(event) => Err(self.changed(event.seq)),
            None => Ok(None),
        }
    }

    fn changed(&self, seq: u64) -> Error {
        Error::conflict("fork", format!("a copy of event {seq}"), format!("another event {}", self.next_seq))
    }

    /// The compaction whose note an event is.
    async fn compaction_of(&mut self, event: &Event) -> Result<Option<Compaction>> {
        if event.item.as_ref().is_none_or(|item| item.kind != ItemKind::ContextCompaction) {
            return Ok(None);
        }
        loop {
            while let Some(compaction) = self.compactions.front() {
                if compaction.note_seq > event.seq {
                    return Ok(None);
                }
                let compaction = self.compactions.pop_front();
                if let Some(found) = compaction.filter(|compaction| compaction.note_seq == event.seq) {
                    return Ok(Some(found));
                }
            }
            let Some(after) = self.compactions_read else { return Ok(None) };
            let (source, range) = (&self.fork.source_thread_id, SeqRange::after(after, COMPACTIONS));
            let page = self.ledger.context().list_compactions(self.scope, source, &range).await?;
            self.compactions_read =
                page.items.last().filter(|_| page.has_more).map(|compaction| compaction.compact_seq);
            self.compactions.extend(page.items);
        }
    }

    /// Keeps what the lead agent said last, for a run whose summary is cut with it.
    fn hear(&mut self, event: &Event) {
        if let Some(active) = &mut self.active
            && event.run_id.as_ref() == Some(&active.run.run_id)
            && event.is_visible_ai()
            && let Ok(message) = event.content.decode_lossy::<AgentMessage>()
        {
            active.said = text::summary(&message.content.text()).or(active.said.take());
        }
    }

    /// Adds an event to the batch, with the blobs that this call did not bring yet. What waits is stored before
    /// where the commit would have too many bytes with it.
    async fn add(&mut self, event: Event) -> Result<()> {
        let mut blobs = Vec::new();
        for named in blob_refs(&event.content) {
            if self.brought.insert(named.blob.clone()) {
                let source = &self.fork.source_thread_id;
                blobs.extend(self.ledger.find_blob(self.scope, source, &named.blob).await?);
            }
        }
        let bytes = size(&event) + blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
        if self.batch.bytes + bytes > BATCH_BYTES {
            self.flush().await?;
        }
        let place = self.batch.events.len();
        self.batch.blobs.extend(blobs.into_iter().map(|blob| NewBlob {
            event: place,
            hash: blob.hash,
            media_type: blob.media_type,
            bytes: blob.bytes,
        }));
        self.batch.run = event.run_id;
        self.batch.bytes += bytes;
        self.batch.events.push(EventDraft {
            event_type: event.event_type,
            category: event.category,
            caller: event.caller,
            task_id: event.task_id,
            item: event.item,
            once_key: event.once_key,
            content: event.content,
            whole_bytes: event.truncated.then_some(event.content_bytes),
            metadata: event.metadata,
            created_at: event.created_at,
        });
        Ok(())
    }

    /// Stores what waits. A run that holds the slot starts with its first events, if it did.
    async fn flush(&mut self) -> Result<()> {
        if self.batch.events.is_empty() {
            return Ok(());
        }
        let start = self.start();
        self.store(start, RunProgress::default()).await
    }

    /// The start of the run that holds the slot, if what waits is its own and it is yet to start.
    fn start(&mut self) -> Option<Transition> {
        let run = self.batch.run.as_ref();
        let active =
            self.active.as_mut().filter(|active| run == Some(&active.run.run_id) && !active.started)?;
        active.started = true;
        active.run.started_at.map(|at| Transition::Start { at })
    }

    /// Stores what waits as one commit: of the run that holds the slot, as its journal would.
    async fn store(&mut self, transition: Option<Transition>, progress: RunProgress) -> Result<()> {
        let Batch { run, events, blobs, .. } = std::mem::take(&mut self.batch);
        let is_fold = matches!(transition, Some(Transition::Fold(_)));
        let active =
            self.active.as_mut().filter(|active| run.as_ref() == Some(&active.run.run_id) && !is_fold);
        let mark = active.map(|active| {
            let mark = active.mark;
            active.mark.ordinal += events.len() as u64;
            mark
        });
        let thread = self.fork.thread_id.clone();
        self.append(Commit { run_id: run, mark, events, blobs, progress, transition, ..Commit::new(thread) })
            .await
            .map(drop)
    }

    async fn append(&mut self, commit: Commit) -> Result<Receipt> {
        if let Some(run) = &self.foreign {
            return Err(Error::conflict("fork", "runs of its source", run));
        }
        let commit = Commit { expected: Expected::NextSeq(self.next_seq), ..commit };
        let receipt = self.ledger.events().append(self.scope, commit).await?;
        self.next_seq = receipt.next_seq;
        Ok(receipt)
    }

    fn admission(&self, run: &Run) -> Admission {
        // Of others the new thread has only those that are copied.
        let there = |other: &Option<RunId>| {
            let other = other.as_ref()?;
            matches!(self.runs.get(other), Some(Place::Open | Place::Ended)).then(|| other.clone())
        };
        Admission {
            assistant_id: run.assistant_id.clone(),
            operation_kind: run.operation_kind.clone(),
            multitask_strategy: run.multitask_strategy.clone(),
            model_name: run.model_name.clone(),
            metadata: run.metadata.clone(),
            kwargs: run.kwargs.clone(),
            follow_up_to_run_id: there(&run.follow_up_to_run_id),
            parent_run_id: there(&run.parent_run_id),
            budget: run.budget,
            first_human_message: run.first_human_message.clone(),
            created_at: run.created_at,
            ..Admission::default()
        }
    }

    async fn admit(&mut self, run: &Run, admission: Admission) -> Result<Receipt> {
        self.append(Commit {
            transition: Some(Transition::Admit(Box::new(admission))),
            ..Commit::of_run(self.fork.thread_id.clone(), run.run_id.clone())
        })
        .await
    }

    /// Stores the note that waits alone, with what it stands for.
    async fn fold(&mut self, compaction: Compaction) -> Result<()> {
        let note = SeqSpan { from: compaction.note_seq, through: compaction.note_seq };
        let mut window = compaction.window.split(|span| *span == note);
        let mut spans = || self.numbers.spans(window.next().unwrap_or_default());
        let folded = NewCompaction {
            before_note: spans(),
            after_note: spans(),
            folded: self.numbers.spans(&compaction.folded),
            through_seq: self.numbers.at_or_before(compaction.through_seq).unwrap_or(0),
            before_tokens: compaction.before_tokens,
            after_tokens: compaction.after_tokens,
            round_index: compaction.round_index,
            expected_last: self.last_compact_seq,
            epoch: None,
            at: compaction.created_at,
        };
        self.store(Some(Transition::Fold(Box::new(folded))), RunProgress::default()).await?;
        self.last_compact_seq = Some(self.last_compact_seq.unwrap_or(0) + 1);
        Ok(())
    }

    /// Ends the run that holds the slot as its source ended, with the terminal event that waits alone.
    async fn finish(&mut self) -> Result<()> {
        if let Some(start) = self.start() {
            let end = std::mem::take(&mut self.batch);
            self.batch.run = end.run.clone();
            self.store(Some(start), RunProgress::default()).await?;
            self.batch = end;
        }
        let Some(active) = &self.active else { return Ok(()) };
        let outcome = ending(&active.run).unwrap_or_else(|| Outcome::interrupted(Outcome::FORKED));
        let at = active.run.finished_at.unwrap_or(self.fork.at);
        let (run, said) = (active.run.run_id.clone(), active.run.last_ai_message.clone());
        let progress = RunProgress { last_ai_message: said, ..RunProgress::default() };
        self.store(Some(Transition::Finish { outcome, asks: Vec::new(), at }), progress).await?;
        self.active = None;
        self.runs.insert(run, Place::Ended);
        Ok(())
    }

    /// Ends the run that holds the slot without an event of the source that says so: as it ended there, where that
    /// is known, else because it is cut.
    async fn end_active(&mut self, outcome: Option<Outcome>) -> Result<()> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let (run_id, mark) = (active.run.run_id, active.mark);
        let commit = Commit::of_run(self.fork.thread_id.clone(), run_id.clone());
        let (said, at) = match &outcome {
            Some(_) => (active.run.last_ai_message, active.run.finished_at.unwrap_or(self.fork.at)),
            None => (active.said, self.fork.at),
        };
        if said.is_some() {
            let progress = RunProgress { last_ai_message: said, ..RunProgress::default() };
            self.append(Commit { mark: Some(mark), progress, ..commit.clone() }).await?;
        }
        let outcome = outcome.unwrap_or_else(|| Outcome::interrupted(Outcome::FORKED));
        let interrupt = Transition::Interrupt { outcome, claim: Claim::Epoch(mark.epoch), at };
        self.append(Commit { transition: Some(interrupt), ..commit }).await?;
        self.runs.insert(run_id, Place::Ended);
        Ok(())
    }
}

/// Whether a run is in the log without having had the slot before the one that holds it: it was ended while it
/// waited, or is an earlier one of which only late records are left.
fn passes(run: &Run, active: &Run) -> bool {
    run.epoch == 0 || run.first_seq < active.first_seq
}

/// The bytes of an event's payloads.
fn size(event: &Event) -> usize {
    event.content.as_str().len() + event.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len())
}

/// How many events are read after these: as many as a commit has room for if they are as large.
fn next_page(page: &[Event]) -> u32 {
    let bytes = page.iter().map(size).sum::<usize>().max(1);
    let fit = page.len().max(1).saturating_mul(BATCH_BYTES) / bytes;
    u32::try_from(fit).unwrap_or(PAGE).clamp(1, PAGE)
}

/// Whether an event is what a fork makes of one of the source.
fn is_copy(event: &Event, copy: &Event) -> bool {
    event.run_id == copy.run_id
        && event.event_type == copy.event_type
        && event.category == copy.category
        && event.caller == copy.caller
        && event.task_id == copy.task_id
        && event.item == copy.item
        && event.once_key == copy.once_key
        && event.content == copy.content
        && event.content_bytes == copy.content_bytes
        && event.metadata == copy.metadata
        && event.created_at == copy.created_at
}

/// Whether an event may be one by which a store ends a run from outside.
fn is_end(event: &Event) -> bool {
    is_terminal(event) || event.item.as_ref().is_some_and(|item| item.status == ItemStatus::Interrupted)
}
