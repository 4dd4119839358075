//! What the cases are made of: short ways to threads, runs, events and model calls.
//!
//! Everything here panics where a backend refuses what it must accept: in a test that is the finding.

use crate::{
    Admission, CallId, Caller, Capability, Category, Commit, Deleted, Error, ErrorKind, Event, EventDraft,
    EventFilter, EventType, Finish, ItemId, ItemKind, ItemMark, ItemStatus, JournalMark, Ledger, NewRun,
    NewThread, ONCE_TERMINAL, Outcome, OwnerId, RawJson, Receipt, Result, Run, RunId, RunProgress, Scope,
    SeqRange, SourceId, ThreadId, Timestamp, TokenCounts, Transition, UsageDraft,
};

/// Unwraps what must succeed.
#[track_caller]
pub(super) fn ok<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("refused: {error} ({error:?})"),
    }
}

/// The kind of an error that must be.
#[track_caller]
pub(super) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(value) => panic!("accepted: {value:?}"),
        Err(error) => error.kind(),
    }
}

/// The error that must be.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T>) -> Error {
    match result {
        Ok(value) => panic!("accepted: {value:?}"),
        Err(error) => error,
    }
}

pub(super) fn thread_id(text: &str) -> ThreadId {
    ok(ThreadId::new(text))
}

pub(super) fn run_id(text: &str) -> RunId {
    ok(RunId::new(text))
}

pub(super) fn item_id(text: &str) -> ItemId {
    ok(ItemId::new(text))
}

pub(super) fn owner(name: &str) -> Scope {
    Scope::Owner(ok(OwnerId::new(name)))
}

pub(super) fn alice() -> Scope {
    owner("alice")
}

pub(super) fn mallory() -> Scope {
    owner("mallory")
}

/// The moment that many seconds after a fixed one.
pub(super) fn at(seconds: i64) -> Timestamp {
    ok(Timestamp::from_unix_micros(1_700_000_000_000_000 + seconds * 1_000_000))
}

pub(super) fn json(text: &str) -> RawJson {
    ok(RawJson::parse("content", text))
}

/// An event of an application.
pub(super) fn note(text: &str) -> EventDraft {
    EventDraft {
        created_at: at(0),
        ..EventDraft::new(ok(EventType::new("note")), ok(Category::new("note")), RawJson::string(text))
    }
}

/// A message.
pub(super) fn message(text: &str) -> EventDraft {
    EventDraft { category: Category::Message, ..note(text) }
}

/// The record of an item.
pub(super) fn item(id: &str, kind: ItemKind, status: ItemStatus, category: Category) -> EventDraft {
    let mark = ItemMark::new(item_id(id), kind, status);
    EventDraft { created_at: at(0), ..EventDraft::item(mark, category, json(r#"{"name":"tool"}"#)) }
}

pub(super) fn tool_started(id: &str) -> EventDraft {
    let mut event = item(id, ItemKind::ToolCall, ItemStatus::InProgress, Category::Lifecycle);
    if let Some(mark) = &mut event.item {
        mark.call_id = Some(ok(CallId::new(id)));
    }
    event
}

pub(super) fn tool_ended(id: &str, status: ItemStatus) -> EventDraft {
    item(id, ItemKind::ToolCall, status, Category::Message)
}

/// A message of an agent by `caller`.
pub(super) fn ai(id: &str, caller: &str) -> EventDraft {
    EventDraft {
        caller: Some(ok(Caller::new(caller))),
        ..item(id, ItemKind::AgentMessage, ItemStatus::Completed, Category::Message)
    }
}

/// The terminal event of a run.
pub(super) fn terminal(outcome: &Outcome) -> EventDraft {
    EventDraft {
        event_type: ok(EventType::new(outcome.status.event_type())),
        category: Category::Lifecycle,
        once_key: Some(ONCE_TERMINAL.to_owned()),
        ..note("the end")
    }
}

/// A model call with these tokens.
pub(super) fn call(id: &str, tokens: TokenCounts) -> UsageDraft {
    UsageDraft { created_at: at(0), ..UsageDraft::new(ok(SourceId::new(id)), tokens) }
}

/// A new thread of `scope`.
pub(super) async fn thread(ledger: &Ledger, scope: &Scope, id: &str) -> ThreadId {
    let new = NewThread { created_at: at(0), ..NewThread::new(thread_id(id)) };
    ok(ledger.threads().create(scope, new).await).thread_id
}

/// Appends thread-level events.
pub(super) async fn append(ledger: &Ledger, thread: &ThreadId, events: Vec<EventDraft>) -> Receipt {
    ok(ledger.events().append(&Scope::System, Commit::new(thread.clone()).with_events(events)).await)
}

/// A run that was admitted, and how far its journal has come.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) thread: ThreadId,
    pub(super) run: RunId,
    pub(super) epoch: u64,
}

/// The epoch of a run where the backend admits none: it is there once it has events.
const UNADMITTED: u64 = u64::MAX;

impl Admitted {
    /// A marked commit of events; an unmarked one where the backend has no marks.
    pub(super) fn commit(&self, ordinal: u64, events: Vec<EventDraft>) -> Commit {
        let commit = self.unmarked(events);
        match self.journal_ordinal(ordinal) {
            Some(ordinal) => commit.with_mark(JournalMark { epoch: self.epoch, ordinal }),
            None => commit,
        }
    }

    /// The number that an event of [`Admitted::commit`] gets in the run's journal.
    pub(super) fn journal_ordinal(&self, ordinal: u64) -> Option<u64> {
        (self.epoch != UNADMITTED).then_some(ordinal)
    }

    /// A commit without a mark.
    pub(super) fn unmarked(&self, events: Vec<EventDraft>) -> Commit {
        Commit::of_run(self.thread.clone(), self.run.clone()).with_events(events)
    }

    pub(super) fn start(&self) -> Commit {
        Commit { transition: Some(Transition::Start { at: at(1) }), ..self.commit(0, Vec::new()) }
    }

    pub(super) fn finish(&self, ordinal: u64, outcome: Outcome) -> Finish {
        Finish {
            thread_id: self.thread.clone(),
            run_id: self.run.clone(),
            mark: JournalMark { epoch: self.epoch, ordinal },
            events: vec![terminal(&outcome)],
            outcome,
            at: at(9),
            usage: Vec::new(),
            asks: Vec::new(),
            progress: RunProgress::default(),
        }
    }
}

/// Admits a run without input.
pub(super) async fn admit(ledger: &Ledger, thread: &ThreadId, run: &str) -> Admitted {
    admit_at(ledger, thread, run, 0).await
}

/// Admits a run that was asked for at a given second.
pub(super) async fn admit_at(ledger: &Ledger, thread: &ThreadId, run: &str, second: i64) -> Admitted {
    if !ledger.capabilities().cover(&[Capability::Runs, Capability::Marks]) {
        return Admitted { thread: thread.clone(), run: run_id(run), epoch: UNADMITTED };
    }
    let admission = Admission { created_at: at(second), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(thread.clone(), run_id(run)) };
    let admitted = ok(ledger.admit(&Scope::System, new).await);
    Admitted { thread: thread.clone(), run: admitted.run.run_id, epoch: admitted.run.epoch }
}

/// A thread with an admitted run.
pub(super) async fn running(ledger: &Ledger) -> Admitted {
    let thread = thread(ledger, &Scope::System, "t").await;
    admit(ledger, &thread, "r").await
}

/// Ends the run.
pub(super) async fn finish(ledger: &Ledger, run: &Admitted, ordinal: u64) -> Run {
    ok(ledger.finish(&Scope::System, run.finish(ordinal, Outcome::success())).await).run
}

/// Ends the run; where the backend has no ends of runs, by an event in the place of the terminal one.
pub(super) async fn end(ledger: &Ledger, run: &Admitted, ordinal: u64) {
    if run.epoch == UNADMITTED {
        let last = EventDraft { category: Category::Lifecycle, ..note("the end") };
        ok(commit(ledger, run.unmarked(vec![last])).await);
    } else {
        finish(ledger, run, ordinal).await;
    }
}

/// What a deletion of all this says where the backend may keep no items or usage.
pub(super) fn kept(ledger: &Ledger, deleted: Deleted) -> Deleted {
    let has = ledger.capabilities();
    Deleted {
        items: if has.items { deleted.items } else { 0 },
        usage: if has.usage { deleted.usage } else { 0 },
        ..deleted
    }
}

pub(super) async fn commit(ledger: &Ledger, commit: Commit) -> Result<Receipt> {
    ledger.events().append(&Scope::System, commit).await
}

/// Every event of the thread, page by page.
pub(super) async fn log(ledger: &Ledger, thread: &ThreadId) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let range = SeqRange::after(after, 1_000);
        let page =
            ok(ledger.events().list_events(&Scope::System, thread, &EventFilter::default(), &range).await);
        events.extend(page.items);
        if !page.has_more {
            return events;
        }
    }
}

/// The text of each event's content.
pub(super) fn texts(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| ok(event.content.decode::<String>())).collect()
}

pub(super) fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

pub(super) async fn run_of(ledger: &Ledger, run: &Admitted) -> Run {
    ok(ledger.runs().get(&Scope::System, &run.thread, &run.run).await)
}
