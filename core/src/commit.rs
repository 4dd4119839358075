//! The one write.
//!
//! Everything that appends builds a [`Commit`] and hands it to
//! [`EventStore::append`](crate::EventStore::append): one transaction that checks the thread's
//! head, numbers the events, updates the item index, the usage records, the run's totals and the
//! run's state. All of it is stored, or nothing.
//!
//! [`Commit::prepare`] does everything that needs no database (checks, truncation, the item
//! projection), so that backends differ only in how they store.

use crate::record::{NewThread, OperationKind, Outcome, RunStatus};
use crate::view::items::{self, ItemChange};
use crate::{
    AssistantId, Category, Error, Event, EventDraft, MultitaskStrategy, ONCE_TERMINAL, RawJson, Result,
    RunId, ThreadId, Timestamp, UsageDraft, text,
};

/// The most events in one commit, and the most model calls.
pub const MAX_EVENTS: usize = 2_000;

/// The most tokens, milliseconds or rounds that one model call is believed to have taken. A thread's
/// sums stay below 2^63 for as long as it has fewer than 9 million such calls.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// The most that one model call is believed to have cost, a million US dollars in billionths.
pub const MAX_COST_NANOS: u64 = 1_000_000_000_000_000;

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
            idempotency_key: None,
            request_hash: None,
            model_name: None,
            metadata: RawJson::empty_object(),
            kwargs: RawJson::empty_object(),
            follow_up_to_run_id: None,
            parent_run_id: None,
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
    /// the run's input. A taken slot is [`Error::Conflict`].
    Admit(Box<Admission>),
    /// From pending to running. Needs a mark.
    Start {
        /// When it started.
        at: Timestamp,
    },
    /// Ends the run, frees the slot and closes the epoch. Needs a mark, and exactly one event with
    /// the once key [`ONCE_TERMINAL`].
    Finish {
        /// How it ended.
        outcome: Outcome,
        /// When it ended.
        at: Timestamp,
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
    /// ended: late records belong to the run that started them.
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
    pub fn prepare(self, limits: &Limits) -> Result<Prepared> {
        check_shape(&self)?;
        let mut events = self.events;
        let mut sizes = Vec::with_capacity(events.len());
        for event in &mut events {
            sizes.push(prepare_event(event, limits)?);
        }
        let usage = self.usage.into_iter().map(|call| prepare_usage(call, limits)).collect::<Result<_>>()?;
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
            transition,
            item_changes,
            message_count,
        })
    }
}

/// Sizes above which a store cuts or refuses payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payloads of category `trace` are cut to about this many bytes.
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
    pub transition: Option<Transition>,
    /// Changes to the item index; seqs count from 0 at the first event and get the base added.
    pub item_changes: Vec<ItemChange>,
    /// How many of the events are messages.
    pub message_count: u64,
}

/// What is not found where a usage record names a child thread that the scope never had.
pub const CHILD_THREAD: &str = "child thread";

impl Prepared {
    /// The threads whose own model calls the commit's repeat. Each must have been the scope's, else
    /// the commit is [`Error::NotFound`] of a [`CHILD_THREAD`].
    pub fn child_threads(&self) -> impl Iterator<Item = &ThreadId> {
        self.usage.iter().filter_map(|call| call.child_thread_id.as_ref())
    }

    /// What is left to store when the first `stored` events are in the log already, by an earlier
    /// try of this commit or of one that began like it; `started` is whether the run is running.
    ///
    /// Where that is all of them, the step and the last message came with them and are not done
    /// anew. Usage is: it counts once however often it is told.
    #[must_use]
    pub fn without_stored(mut self, stored: usize, started: bool) -> Self {
        let stored = stored.min(self.events.len());
        if stored == self.events.len() {
            if started && matches!(self.transition, Some(Transition::Start { .. })) {
                self.transition = None;
            }
            if stored > 0 {
                self.progress.last_ai_message = None;
            }
        }
        self.events.drain(..stored);
        self.sizes.drain(..stored);
        if let Some(mark) = &mut self.mark {
            mark.ordinal += stored as u64;
        }
        self.item_changes =
            items::project(self.events.iter().enumerate().map(|(offset, event)| (offset as u64, event)));
        self.message_count =
            self.events.iter().filter(|event| event.category == Category::Message).count() as u64;
        self
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
            Self::Start { .. } => *status == RunStatus::Pending,
            Self::Finish { .. } => status.is_active(),
        };
        if possible {
            return Ok(());
        }
        let expected = match self {
            Self::Admit(_) => "no run",
            Self::Start { .. } => "pending",
            Self::Finish { .. } => "pending or running",
        };
        Err(Error::conflict("run status", expected, status))
    }
}

/// What a commit stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The seq of each event of the commit, in its order, those stored by an earlier try included.
    pub seqs: Vec<u64>,
    /// How many of the events an earlier try had stored.
    pub already_stored: usize,
    /// The seq the thread's next event gets.
    pub next_seq: u64,
    /// The thread's epoch after the commit.
    pub epoch: u64,
}

fn check_shape(commit: &Commit) -> Result<()> {
    if commit.events.len() > MAX_EVENTS {
        return Err(Error::invalid(
            "events",
            format!("has {} events; split it, at most {MAX_EVENTS} go into one commit", commit.events.len()),
        ));
    }
    if commit.usage.len() > MAX_EVENTS {
        return Err(Error::invalid(
            "usage",
            format!("has {} calls; split it, at most {MAX_EVENTS} go into one commit", commit.usage.len()),
        ));
    }
    let empty = commit.events.is_empty() && commit.usage.is_empty() && commit.progress.is_empty();
    if empty && commit.transition.is_none() {
        return Err(Error::invalid("events", "is empty, and so is everything else in the commit"));
    }
    if let Some(new) = &commit.create_missing
        && new.thread_id != commit.thread_id
    {
        return Err(Error::invalid("create_missing.thread_id", "is not the commit's thread_id"));
    }
    if commit.run_id.is_none() {
        check_thread_level(commit)?;
    }
    check_once_keys(&commit.events)?;
    let terminal =
        commit.events.iter().filter(|event| event.once_key.as_deref() == Some(ONCE_TERMINAL)).count();
    match (&commit.transition, terminal) {
        (Some(Transition::Finish { .. }), 1) => {}
        (Some(Transition::Finish { .. }), _) => {
            return Err(Error::invalid(
                "events",
                format!(
                    "has {terminal} events with the once key {ONCE_TERMINAL:?}; the end of a run has exactly one"
                ),
            ));
        }
        (_, 0) => {}
        (_, _) => {
            return Err(Error::invalid(
                "once_key",
                format!("{ONCE_TERMINAL:?} is for the end of a run only"),
            ));
        }
    }
    match (&commit.transition, commit.mark) {
        (Some(Transition::Start { .. } | Transition::Finish { .. }), None) => Err(Error::invalid(
            "mark",
            "is missing; a run is started and finished under the epoch it was admitted with",
        )),
        (Some(Transition::Admit(_)), Some(_)) => {
            Err(Error::invalid("mark", "is given; an admission opens the epoch that marks count in"))
        }
        _ => Ok(()),
    }
}

fn check_thread_level(commit: &Commit) -> Result<()> {
    let at_fault = if commit.mark.is_some() {
        Some("a mark")
    } else if commit.transition.is_some() {
        Some("a transition")
    } else if !commit.progress.is_empty() {
        Some("progress")
    } else if commit.events.iter().any(|event| event.item.is_some()) {
        Some("an item")
    } else if commit.events.iter().any(|event| event.once_key.is_some()) {
        Some("a once key")
    } else {
        None
    };
    match at_fault {
        Some(what) => Err(Error::invalid("run_id", format!("is missing; {what} belongs to a run"))),
        None => Ok(()),
    }
}

fn check_once_keys(events: &[EventDraft]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for key in events.iter().filter_map(|event| event.once_key.as_deref()) {
        if key.is_empty() || key.chars().count() > 128 || key.contains('\0') {
            return Err(Error::invalid("once_key", "must have 1 to 128 characters and no NUL"));
        }
        if !seen.insert(key) {
            return Err(Error::invalid("once_key", format!("{key:?} occurs twice in one commit")));
        }
    }
    Ok(())
}

fn prepare_usage(mut call: UsageDraft, limits: &Limits) -> Result<UsageDraft> {
    call.tokens = call.tokens.with_total();
    let t = &call.tokens;
    if let Some(raw) = &call.raw {
        check_size("raw", raw.as_str().len(), limits.content_bytes)?;
    }
    text::require_no_nul("caller", call.caller.as_str())?;
    let counts = [t.input, t.output, t.total, t.cache_read, t.cache_write, t.reasoning];
    let optional = [call.latency_ms, call.round_index];
    let beyond = |count: Option<u64>, most: u64| count.is_some_and(|count| count > most);
    if counts.iter().copied().map(Some).chain(optional).any(|count| beyond(count, MAX_COUNT)) {
        let reason = format!("of {} has a count above {MAX_COUNT}", call.source_id);
        return Err(Error::invalid("usage", reason));
    }
    if beyond(call.cost_nanos, MAX_COST_NANOS) {
        let reason = format!("of {} is above {MAX_COST_NANOS}", call.source_id);
        return Err(Error::invalid("cost_nanos", reason));
    }
    for (field, value) in
        [("provider", &call.provider), ("model", &call.model), ("price_table", &call.price_table)]
    {
        text::require_no_nul(field, value.as_deref().unwrap_or_default())?;
    }
    Ok(call)
}

fn prepare_event(event: &mut EventDraft, limits: &Limits) -> Result<ContentSize> {
    let bytes = event.content.as_str().len();
    check_labels(event)?;
    if let Some(metadata) = &event.metadata {
        crate::record::require_object("metadata", metadata)?;
        check_size("metadata", metadata.as_str().len(), limits.content_bytes)?;
    }
    let mut truncated = false;
    if event.category == Category::Trace {
        if let Some(cut) = text::truncate_json(event.content.as_str(), limits.trace_content_bytes) {
            event.content = RawJson::from_stored(&cut);
            truncated = true;
        }
    } else {
        check_size("content", bytes, limits.content_bytes)?;
    }
    Ok(ContentSize { bytes: bytes as u64, truncated })
}

/// What serde read may hold anything.
fn check_labels(event: &EventDraft) -> Result<()> {
    text::require_no_nul("event_type", event.event_type.as_str())?;
    text::require_no_nul("category", event.category.as_str())?;
    text::require_no_nul("caller", event.caller.as_ref().map_or("", |caller| caller.as_str()))?;
    if let Some(mark) = &event.item {
        text::require_no_nul("item_kind", &mark.kind.to_string())?;
        text::require_no_nul("item_status", mark.status.as_str())?;
    }
    Ok(())
}

fn check_size(field: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        return Err(Error::TooLarge { field, limit: limit as u64, actual: actual as u64 });
    }
    Ok(())
}

fn prepare_transition(transition: Transition, limits: &Limits) -> Result<Transition> {
    match transition {
        Transition::Admit(mut admission) => {
            for (field, document) in [("metadata", &admission.metadata), ("kwargs", &admission.kwargs)] {
                text::require_jsonb(field, document)?;
                check_size(field, document.as_str().len(), limits.content_bytes)?;
            }
            text::require_no_nul("operation_kind", admission.operation_kind.as_str())?;
            text::require_no_nul("multitask_strategy", admission.multitask_strategy.as_str())?;
            for (field, value) in [
                ("idempotency_key", &admission.idempotency_key),
                ("request_hash", &admission.request_hash),
                ("model_name", &admission.model_name),
            ] {
                if let Some(value) = value
                    && (value.is_empty() || value.chars().count() > 255 || value.contains('\0'))
                {
                    return Err(Error::invalid(field, "must have 1 to 255 characters and no NUL"));
                }
            }
            admission.first_human_message = admission.first_human_message.as_deref().and_then(text::summary);
            Ok(Transition::Admit(admission))
        }
        Transition::Start { at } => Ok(Transition::Start { at }),
        Transition::Finish { mut outcome, at } => {
            let clean = |value: Option<String>| value.map(|value| text::clean(&value).into_owned());
            outcome.error = clean(outcome.error);
            outcome.stop_reason = clean(outcome.stop_reason);
            Ok(Transition::Finish { outcome, at })
        }
    }
}
