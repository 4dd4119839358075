//! The one write.
//!
//! Everything that appends builds a [`Commit`] and hands it to
//! [`EventStore::append`](crate::EventStore::append): one transaction that checks the thread's
//! head, numbers the events, updates the item index, the usage records, the run's totals and the
//! run's state. All of it is stored, or nothing.
//!
//! [`Commit::prepare`] does everything that needs no database (checks, truncation, the item
//! projection), so that backends differ only in how they store.

mod check;
mod takeover;

pub use check::check_ttl;

use std::time::Duration;

use crate::record::{
    Answer, BlobUse, Budget, Estimate, HeadState, NewAgentRun, NewBlob, NewCompaction, NewInteraction,
    NewLease, NewThread, OperationKind, Outcome, ReservedFor, RunStatus, ThreadHead,
};
use crate::view::items::{self, ItemChange};
use crate::{
    AssistantId, Category, Error, Event, EventDraft, MultitaskStrategy, RawJson, Result, RunId, ThreadId,
    Timestamp, UsageDraft, text,
};
use check::{
    blob_uses, check_blobs, check_shape, check_size, check_total, check_uses, prepare_event,
    prepare_transition, prepare_usage,
};

/// The most events in one commit, and the most model calls.
pub const MAX_EVENTS: usize = 2_000;

/// The most bytes of payload in one commit: a database takes one message of at most a gibibyte.
pub const MAX_COMMIT_BYTES: usize = 256 * 1024 * 1024;

/// The most tokens, milliseconds or rounds that one model call is believed to have taken. A thread's
/// sums stay below 2^63 for as long as it has fewer than 9 million such calls.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// The most that one model call is believed to have cost, a thousand US dollars in billionths. Sums stay
/// below 2^63 as those of counts do.
pub const MAX_COST_NANOS: u64 = 1_000_000_000_000;

/// How far a run's journal has come, and under which admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalMark {
    /// The epoch the run was admitted under.
    pub epoch: u64,
    /// How many events the journal sent under this epoch before this commit.
    pub ordinal: u64,
}

/// What the caller expects of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    #[default]
    Any,
    /// That the first event gets this seq.
    NextSeq(u64),
}

/// A new run: what the admission of it stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The agent definition it runs.
    pub assistant_id: Option<AssistantId>,
    /// What it does with the thread's slot.
    pub operation_kind: OperationKind,
    /// What to do when the slot is taken.
    pub multitask_strategy: MultitaskStrategy,
    /// The worker that holds it from when it gets the slot; `None` for a run whose worker takes no
    /// leases, or which some worker [acquires](Transition::Acquire) later.
    pub lease: Option<NewLease>,
    /// The caller's key: a second admission with it is answered with the first run.
    pub idempotency_key: Option<String>,
    /// A fingerprint of the request; the same key with another fingerprint is a conflict.
    pub request_hash: Option<String>,
    /// The model it will mainly use.
    pub model_name: Option<String>,
    /// Notes of the application; must be a JSON object.
    pub metadata: RawJson,
    /// Arguments of the run; must be a JSON object.
    pub kwargs: RawJson,
    /// The run it answers; must exist on the thread.
    pub follow_up_to_run_id: Option<RunId>,
    /// The run that starts it; must exist on the thread.
    pub parent_run_id: Option<RunId>,
    /// What it may use.
    pub budget: Budget,
    /// The run of the thread above that pays for it. [`Ledger::delegate`](crate::Ledger::delegate) says so, who
    /// set an allowance aside.
    pub payer_run_id: Option<RunId>,
    /// The question it answers: in the same commit, once.
    pub answer: Option<Answer>,
    /// The agent run whose transcript it is; its row begins with the run.
    pub agent_run: Option<NewAgentRun>,
    /// What the person said, for the run's summary.
    pub first_human_message: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            assistant_id: None,
            operation_kind: OperationKind::Run,
            multitask_strategy: MultitaskStrategy::Reject,
            lease: None,
            idempotency_key: None,
            request_hash: None,
            model_name: None,
            metadata: RawJson::empty_object(),
            kwargs: RawJson::empty_object(),
            follow_up_to_run_id: None,
            parent_run_id: None,
            budget: Budget::default(),
            payer_run_id: None,
            answer: None,
            agent_run: None,
            first_human_message: None,
            created_at: Timestamp::now(),
        }
    }
}

/// A step in a run's life, stored with the commit that causes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// Creates the run and gives it the thread's slot under a new epoch. The commit's events are
    /// the run's input.
    ///
    /// What happens to a taken slot is the admission's [`MultitaskStrategy`]: it is
    /// [`Error::Conflict`], or the run that holds it is ended first (as it was asked to, if it was asked
    /// to stop), or the new run is stored as
    /// queued. A queued run's input is kept with it and becomes part of the log when it gets the slot.
    Admit(Box<Admission>),
    /// Gives an admitted run that nobody has leased to a worker, under a new epoch. `Conflict` where
    /// the run has started, or somebody holds it.
    Acquire {
        /// The worker, and for how long.
        lease: NewLease,
        /// When it was acquired.
        at: Timestamp,
    },
    /// Ends a run from outside: its open items are closed as interrupted, its terminal event is
    /// written, the slot is freed, the epoch closed, the lease removed, and the next queued run
    /// gets the slot. `Conflict` where the claim does not hold. A queued run needs no claim.
    Interrupt {
        /// How it ends, unless it was asked to stop: then it ends as it was asked to.
        outcome: Outcome,
        /// What must hold of it, judged under the locks of the head and of the lease.
        claim: Claim,
        /// When it is ended.
        at: Timestamp,
    },
    /// From pending to running. Needs a mark.
    Start {
        /// When it started.
        at: Timestamp,
    },
    /// Ends the run, frees the slot, closes the epoch and gives the slot to the next queued run.
    /// Needs a mark, and exactly one event with the once key [`ONCE_TERMINAL`](crate::ONCE_TERMINAL).
    /// [`Error::Cancelled`] where the run was asked to stop and the outcome is another.
    Finish {
        /// How it ended.
        outcome: Outcome,
        /// What it asks a person. Only of a run that ends as interrupted, waiting for input.
        asks: Vec<NewInteraction>,
        /// When it ended.
        at: Timestamp,
    },
    /// Gives an active run whose worker is gone to another, under a new epoch. What it has open stays open.
    /// `Conflict` where the claim does not hold, [`Error::Cancelled`] where the run was asked to stop.
    Resume {
        /// What must hold of it, judged under the locks of the head and of the lease.
        claim: Claim,
        /// The worker that goes on with it, and for how long; `None` for one that takes no leases.
        lease: Option<NewLease>,
        /// When it is resumed.
        at: Timestamp,
    },
    /// Replaces part of the thread's context window by a note: the commit's one event, the completion of
    /// a `context_compaction`. `Conflict` where another compaction came first, `LeaseLost` where an epoch is
    /// given and the run does not hold the slot under it.
    Fold(Box<NewCompaction>),
}

/// What must hold of a run for somebody else to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is still held under this epoch.
    Epoch(u64),
    /// Its lease ended longer than this ago, by the database's clock.
    Expired {
        /// How long.
        grace: Duration,
    },
    /// It has no lease, and its thread's log has not grown for this long.
    Unleased {
        /// How long.
        idle: Duration,
    },
}

/// What a commit says of its run besides events and usage. Tokens are never part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunProgress {
    /// What the person said; kept if none is stored.
    pub first_human_message: Option<String>,
    /// What the lead agent said last; replaces the stored one.
    pub last_ai_message: Option<String>,
    /// The model mainly used; kept if none is stored.
    pub model_name: Option<String>,
}

impl RunProgress {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One atomic append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The thread whose log it goes to.
    pub thread_id: ThreadId,
    /// The run it belongs to; `None` for records of the thread itself.
    ///
    /// With a mark the run must hold the thread's slot. Without one it must exist, and may have
    /// ended: late records belong to the run that started them. Events of a run that is queued are
    /// [`Error::Conflict`].
    pub run_id: Option<RunId>,
    /// Makes the commit exactly-once: events stored by an earlier try are answered with their seqs.
    pub mark: Option<JournalMark>,
    /// What the caller expects of the log.
    pub expected: Expected,
    /// Creates the thread in the same transaction if it does not exist. Never revives a deleted one.
    pub create_missing: Option<NewThread>,
    /// The events, in order.
    pub events: Vec<EventDraft>,
    /// Model calls. May be empty, as may the events, but not both together with no transition and no progress.
    pub usage: Vec<UsageDraft>,
    /// What else is known of the run.
    pub progress: RunProgress,
    /// Large parts of the events' payloads, stored once per thread. A payload may also name what its thread has
    /// already. Not with an admission that may have to wait: its input is kept as one document.
    pub blobs: Vec<NewBlob>,
    /// The step in the run's life that this commit is.
    pub transition: Option<Transition>,
}

impl Commit {
    /// An empty commit to `thread_id`.
    #[must_use]
    pub fn new(thread_id: ThreadId) -> Self {
        Self {
            thread_id,
            run_id: None,
            mark: None,
            expected: Expected::Any,
            create_missing: None,
            events: Vec::new(),
            usage: Vec::new(),
            progress: RunProgress::default(),
            blobs: Vec::new(),
            transition: None,
        }
    }

    /// An empty commit of a run.
    #[must_use]
    pub fn of_run(thread_id: ThreadId, run_id: RunId) -> Self {
        Self { run_id: Some(run_id), ..Self::new(thread_id) }
    }

    /// With these events.
    #[must_use]
    pub fn with_events(self, events: Vec<EventDraft>) -> Self {
        Self { events, ..self }
    }

    /// With this mark.
    #[must_use]
    pub fn with_mark(self, mark: JournalMark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// Checks the commit and computes what needs no database.
    pub fn prepare(mut self, limits: &Limits) -> Result<Prepared> {
        self.events.iter_mut().for_each(EventDraft::mark_result);
        check_shape(&self)?;
        let mut events = self.events;
        let mut sizes = Vec::with_capacity(events.len());
        for event in &mut events {
            sizes.push(prepare_event(event, limits)?);
        }
        let usage =
            self.usage.into_iter().map(|call| prepare_usage(call, limits)).collect::<Result<Vec<_>>>()?;
        check_total(&events, &usage, &self.blobs)?;
        let blob_uses = blob_uses(&events);
        check_uses(&blob_uses)?;
        check_blobs(&self.blobs, &blob_uses, limits)?;
        if let Some(new) = &self.create_missing {
            let documents = [("config", new.config.as_str()), ("metadata", new.metadata.as_str())];
            let prompt = new.system_prompt.as_deref().map(|prompt| ("system_prompt", prompt));
            for (field, text) in documents.into_iter().chain(prompt) {
                check_size(field, text.len(), limits.content_bytes)?;
            }
        }
        let transition =
            self.transition.map(|transition| prepare_transition(transition, limits)).transpose()?;
        let item_changes =
            items::project(events.iter().enumerate().map(|(offset, event)| (offset as u64, event)));
        let message_count = events.iter().filter(|event| event.category == Category::Message).count() as u64;
        Ok(Prepared {
            thread_id: self.thread_id,
            run_id: self.run_id,
            mark: self.mark,
            expected: self.expected,
            create_missing: self.create_missing,
            events,
            sizes,
            usage,
            progress: RunProgress {
                first_human_message: self.progress.first_human_message.as_deref().and_then(text::summary),
                last_ai_message: self.progress.last_ai_message.as_deref().and_then(text::summary),
                model_name: self.progress.model_name.map(|name| text::clean(&name).into_owned()),
            },
            blobs: self.blobs,
            blob_uses,
            transition,
            item_changes,
            message_count,
        })
    }
}

/// Sizes above which a store cuts or refuses payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payloads of category `trace` are cut to this many bytes, so that what was cut fits.
    pub trace_content_bytes: usize,
    /// Payloads of any other category, and metadata, are refused above this many bytes: never cut silently.
    pub content_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { trace_content_bytes: 10 * 1024, content_bytes: 64 * 1024 * 1024 }
    }
}

/// A payload's size before truncation, and whether it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentSize {
    /// Bytes of the payload as it was given.
    pub bytes: u64,
    /// Whether part of it was left out.
    pub truncated: bool,
}

/// A checked commit, ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `Commit`, and those below")]
pub struct Prepared {
    pub thread_id: ThreadId,
    pub run_id: Option<RunId>,
    pub mark: Option<JournalMark>,
    pub expected: Expected,
    pub create_missing: Option<NewThread>,
    pub events: Vec<EventDraft>,
    /// One for each event.
    pub sizes: Vec<ContentSize>,
    pub usage: Vec<UsageDraft>,
    pub progress: RunProgress,
    pub blobs: Vec<NewBlob>,
    /// Which of the events name which blobs. Those that the thread has count as references to it.
    pub blob_uses: Vec<BlobUse>,
    pub transition: Option<Transition>,
    /// Changes to the item index; seqs count from 0 at the first event and get the base added.
    pub item_changes: Vec<ItemChange>,
    /// How many of the events are messages.
    pub message_count: u64,
}

/// What is not found where a usage record names a child thread that the scope never had.
pub const CHILD_THREAD: &str = "child thread";

impl Prepared {
    /// Its events with the numbers they get, `base` being the first.
    pub fn into_events(self, base: u64) -> impl Iterator<Item = Event> {
        let Self { thread_id, run_id, mark, events, sizes, .. } = self;
        events.into_iter().zip(sizes).zip(0..).map(move |((draft, size), place)| Event {
            thread_id: thread_id.clone(),
            seq: base + place,
            run_id: run_id.clone(),
            journal_ordinal: mark.map(|mark| mark.ordinal + place),
            event_type: draft.event_type,
            category: draft.category,
            caller: draft.caller,
            task_id: draft.task_id,
            item: draft.item,
            once_key: draft.once_key,
            content: draft.content,
            content_bytes: size.bytes,
            truncated: size.truncated,
            metadata: draft.metadata,
            created_at: draft.created_at,
        })
    }

    /// Refuses what an archived thread does not take: everything but word of what was spent.
    pub fn require_open(&self, head: &ThreadHead) -> Result<()> {
        let is_usage = !self.usage.is_empty()
            && self.events.is_empty()
            && self.blobs.is_empty()
            && self.progress.is_empty()
            && self.transition.is_none();
        if head.state == HeadState::Archived && !is_usage {
            return Err(Error::conflict("thread state", "open", &head.state));
        }
        Ok(())
    }

    /// What the first record of one of its calls gives back of what was set aside.
    ///
    /// Of a call only under a mark, which proves that the run is still who had it set aside: a run that changed
    /// hands lost that, and what is set aside now is the next holder's. A sub-agent's allowance outlives its run's
    /// holders, and is charged without a mark.
    #[must_use]
    pub fn settled_by(&self, call: &UsageDraft) -> Estimate {
        match call.settles_for() {
            ReservedFor::SubAgent => call.settles,
            ReservedFor::Iteration | ReservedFor::Call if self.mark.is_some() => call.settles,
            ReservedFor::Iteration | ReservedFor::Call => Estimate::default(),
        }
    }

    /// The threads whose own model calls the commit's repeat. Each must have been the scope's, else
    /// the commit is [`Error::NotFound`] of a [`CHILD_THREAD`].
    pub fn child_threads(&self) -> impl Iterator<Item = &ThreadId> {
        self.usage.iter().filter_map(|call| call.child_thread_id.as_ref())
    }

    /// What is left to store when the first `stored` events are in the log already, by an earlier
    /// try of this commit or of one that began like it; `started` is whether the run is running.
    ///
    /// A start came with the first of them; where that is all of them, the last message came with them
    /// too. Neither is done anew. Usage is: it counts once however often it is told.
    #[must_use]
    pub fn without_stored(mut self, stored: usize, started: bool) -> Self {
        let stored = stored.min(self.events.len());
        let all = stored == self.events.len();
        // The start came with the first of them, however many the commit has now.
        if started && (stored > 0 || all) && matches!(self.transition, Some(Transition::Start { .. })) {
            self.transition = None;
        }
        if all && stored > 0 {
            self.progress.last_ai_message = None;
        }
        self.events.drain(..stored);
        self.sizes.drain(..stored);
        // Those of a stored event came with it.
        self.blobs.retain(|blob| blob.event >= stored);
        self.blobs.iter_mut().for_each(|blob| blob.event -= stored);
        self.blob_uses.retain(|named| named.event >= stored);
        self.blob_uses.iter_mut().for_each(|named| named.event -= stored);
        if let Some(mark) = &mut self.mark {
            mark.ordinal += stored as u64;
        }
        self.item_changes =
            items::project(self.events.iter().enumerate().map(|(offset, event)| (offset as u64, event)));
        self.message_count =
            self.events.iter().filter(|event| event.category == Category::Message).count() as u64;
        self
    }

    /// Refuses events of a run that waits: its input comes first, and must find its once keys unused.
    pub fn require_begun(&self, status: &RunStatus) -> Result<()> {
        if *status == RunStatus::Queued && self.transition.is_none() && !self.events.is_empty() {
            return Err(Error::conflict("run status", "a run that has had the slot", status));
        }
        Ok(())
    }

    /// Checks that a stored event is the commit's event at `offset`: a journal that sends another
    /// one under the same ordinal is [`Error::Conflict`]. Times are not compared.
    pub fn require_same(&self, offset: usize, stored: &Event) -> Result<()> {
        let (Some(draft), Some(size)) = (self.events.get(offset), self.sizes.get(offset)) else {
            return Err(Error::invalid("events", format!("has no event {offset}")));
        };
        let same = draft.event_type == stored.event_type
            && draft.category == stored.category
            && draft.item == stored.item
            && draft.once_key == stored.once_key
            && draft.content == stored.content
            && draft.metadata == stored.metadata
            && size.bytes == stored.content_bytes;
        if same {
            return Ok(());
        }
        Err(Error::conflict(
            "journal event",
            format!("{} as stored under seq {}", stored.event_type, stored.seq),
            format!("another {} under the same ordinal", draft.event_type),
        ))
    }
}

impl Transition {
    /// Checks that a run with this status can make the step.
    pub fn require_from(&self, status: &RunStatus) -> Result<()> {
        let possible = match self {
            Self::Admit(_) => false,
            Self::Start { .. } | Self::Acquire { .. } => *status == RunStatus::Pending,
            Self::Finish { .. } => status.is_active(),
            Self::Interrupt { .. } => !status.is_terminal(),
            Self::Resume { .. } => status.is_active(),
            Self::Fold(_) => *status != RunStatus::Queued,
        };
        if possible {
            return Ok(());
        }
        let expected = match self {
            Self::Admit(_) => "no run",
            Self::Start { .. } | Self::Acquire { .. } => "pending",
            Self::Finish { .. } | Self::Resume { .. } => "pending or running",
            Self::Fold(_) => "a run that has had the slot",
            Self::Interrupt { .. } => "queued, pending or running",
        };
        Err(Error::conflict("run status", expected, status))
    }
}

/// What a commit stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The seq of each event of the commit, in its order, those stored by an earlier try included.
    /// Of an [`Interrupt`](Transition::Interrupt) the events that ended the run. None of an admission
    /// that has to wait.
    pub seqs: Vec<u64>,
    /// How many of the events an earlier try had stored.
    pub already_stored: usize,
    /// The seq the thread's next event gets.
    pub next_seq: u64,
    /// The thread's epoch after the commit.
    pub epoch: u64,
}
