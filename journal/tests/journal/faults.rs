//! Stores that refuse, vanish, forget to answer, or are slow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use pretty_assertions::assert_eq;
use runledger_core::{
    AppendSignal, Applied, Caller, CancelAction, Category, Claim, Claimable, Commit, Deleted, Error,
    ErrorKind, Event, EventDraft, EventFilter, EventStore, EventType, Finish, ItemFilter, ItemId, ItemKind,
    ItemMark, ItemStatus, JournalMark, Lease, Ledger, Limits, ListRange, MemoryLedger, NewRun, NewThread,
    ONCE_TERMINAL, Outcome, Page, PutIfAbsent, RawJson, Receipt, Reservation, Reserve, Result, Run,
    RunFilter, RunId, RunProgress, RunStatus, RunStore, RunVisibility, Scope, SeqPage, SeqRange, Stores,
    Sweep, ThreadId, Timestamp, TokenCounts, Transition, Visibility, WorkerId,
};
use runledger_journal::adapters::langchain_recording::{Recording, RecordingError};
use runledger_journal::callbacks::{ChainStart, Context, ExternalUsage, ItemRecord, RuntimeCallbacks};
use runledger_journal::{QUARANTINED, RunJournal, Settings, user_message};
use tokio::time::Instant;

/// What happens to an append of a journal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is refused before anything is written.
    Away,
    /// It is written, and the answer is lost.
    AnswerLost,
    /// The database says something that nobody thought of.
    Odd,
    /// It is written after a while.
    Slow(Duration),
    /// It goes well.
    Fine,
}

/// A memory ledger whose journal appends have faults.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: MemoryLedger,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    afterwards: Fault,
    poison: Option<&'static str>,
    away: Arc<AtomicBool>,
    odd: Arc<AtomicBool>,
    unread: Arc<AtomicBool>,
    /// When leases end, by the clock of the tests.
    leases: Arc<Mutex<BTreeMap<(ThreadId, RunId), Instant>>>,
    /// The run of which no takeover is ever answered.
    stuck: Option<&'static str>,
}

impl Faulty {
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self {
            inner: MemoryLedger::new(),
            faults: Arc::new(Mutex::new(faults.into_iter().collect())),
            afterwards: Fault::Fine,
            poison: None,
            away: Arc::default(),
            odd: Arc::default(),
            unread: Arc::default(),
            leases: Arc::default(),
            stuck: None,
        }
    }

    /// One that refuses events with this text by themselves.
    pub(crate) fn poisoned(self, text: &'static str) -> Self {
        Self { poison: Some(text), ..self }
    }

    /// What happens when the faults are used up.
    pub(crate) fn afterwards(self, afterwards: Fault) -> Self {
        Self { afterwards, ..self }
    }

    /// One that never answers whoever ends this run from outside.
    pub(crate) fn stuck_at(self, run: &'static str) -> Self {
        Self { stuck: Some(run), ..self }
    }

    /// What happens to the next append, after those that are known.
    pub(crate) fn push(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// Whether every append is refused from now on, for a reason that nobody thought of.
    pub(crate) fn set_odd(&self, odd: bool) {
        self.odd.store(odd, Ordering::Relaxed);
    }

    /// Whether every call is refused from now on.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether no event can be read from now on, though everything else goes well.
    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(Stores {
            runs: Arc::new(self.clone()),
            events: Arc::new(self.clone()),
            ..Stores::all(Arc::new(self.inner.clone()))
        })
    }

    fn is_here(&self) -> Result<()> {
        if self.away.load(Ordering::Relaxed) { Err(away(Applied::No)) } else { Ok(()) }
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<(ThreadId, RunId), Instant>> {
        self.leases.lock().unwrap()
    }

    /// A takeover by the clock of the tests, as one that the inner ledger judges by the epoch.
    async fn judged(&self, scope: &Scope, mut commit: Commit) -> Result<Commit> {
        let Some(Transition::Interrupt { claim, .. }) = &mut commit.transition else { return Ok(commit) };
        let key = (commit.thread_id.clone(), commit.run_id.clone().unwrap());
        if self.stuck.is_some_and(|stuck| key.1.as_str() == stuck) {
            std::future::pending::<()>().await;
        }
        if let Claim::Expired { grace } = claim {
            let ended = self.leases().get(&key).is_some_and(|until| *until + *grace < Instant::now());
            if !ended {
                return Err(Error::Conflict {
                    what: "lease",
                    expected: "expired".into(),
                    actual: "held".into(),
                });
            }
            *claim = Claim::Epoch(self.inner.ledger().runs().get(scope, &key.0, &key.1).await?.epoch);
        }
        Ok(commit)
    }
}

fn away(applied: Applied) -> Error {
    Error::Unavailable { applied, source: "no route".into() }
}

#[async_trait]
impl EventStore for Faulty {
    async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        self.is_here()?;
        let commit = self.judged(scope, commit).await?;
        if let Some(Transition::Admit(admission)) = &commit.transition
            && let Some(lease) = &admission.lease
        {
            let key = (commit.thread_id.clone(), commit.run_id.clone().unwrap());
            self.leases().insert(key, Instant::now() + lease.ttl);
        }
        let poisoned = |event: &EventDraft| self.poison.is_some_and(|p| event.content.as_str().contains(p));
        if commit.events.iter().any(poisoned) {
            return Err(Error::Backend { operation: "insert", source: "a byte it does not take".into() });
        }
        if commit.mark.is_none() {
            return self.inner.append(scope, commit).await;
        }
        let mut fault = self.faults.lock().unwrap().pop_front().unwrap_or(self.afterwards);
        if self.odd.load(Ordering::Relaxed) {
            fault = Fault::Odd;
        }
        match fault {
            Fault::Away => Err(away(Applied::No)),
            Fault::Odd => Err(Error::Backend { operation: "to append", source: "quota exceeded".into() }),
            Fault::AnswerLost => {
                self.inner.append(scope, commit).await?;
                Err(away(Applied::Unknown))
            }
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                self.inner.append(scope, commit).await
            }
            Fault::Fine => self.inner.append(scope, commit).await,
        }
    }

    async fn put_if_absent(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        event: EventDraft,
    ) -> Result<PutIfAbsent> {
        self.inner.put_if_absent(scope, thread, run, event).await
    }

    async fn list_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        self.inner.list_messages(scope, thread, visibility, range).await
    }

    async fn list_messages_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        self.inner.list_messages_by_run(scope, thread, run, range).await
    }

    async fn list_events(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &EventFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        self.is_here()?;
        if self.unread.load(Ordering::Relaxed) {
            return Err(away(Applied::No));
        }
        self.inner.list_events(scope, thread, filter, range).await
    }

    async fn count_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
    ) -> Result<u64> {
        self.inner.count_messages(scope, thread, visibility).await
    }

    async fn last_visible_ai_seq_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, u64>> {
        self.inner.last_visible_ai_seq_by_run(scope, thread, runs).await
    }

    async fn delete_by_thread(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.inner.delete_by_thread(scope, thread).await
    }

    async fn delete_by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted> {
        self.inner.delete_by_run(scope, thread, run).await
    }

    fn signal(&self) -> &AppendSignal {
        self.inner.signal()
    }
}

#[async_trait]
impl RunStore for Faulty {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Run> {
        self.is_here()?;
        RunStore::get(&self.inner, scope, thread, run).await
    }

    async fn find(&self, scope: &Scope, run: &RunId) -> Result<Run> {
        self.is_here()?;
        self.inner.find(scope, run).await
    }

    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> Result<Option<Run>> {
        self.is_here()?;
        self.inner.find_by_idempotency_key(scope, thread, key).await
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> Result<Page<Run>> {
        self.is_here()?;
        RunStore::list(&self.inner, scope, filter, range).await
    }

    async fn set_visibility(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> Result<Run> {
        self.is_here()?;
        self.inner.set_visibility(scope, thread, run, visibility).await
    }

    async fn rewind(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Vec<RunId>> {
        self.is_here()?;
        self.inner.rewind(scope, thread, run).await
    }

    async fn reserve(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> Result<Reservation> {
        self.is_here()?;
        self.inner.reserve(scope, thread, run, epoch, wanted).await
    }

    async fn release(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> Result<()> {
        self.is_here()?;
        self.inner.release(scope, thread, run, epoch, given).await
    }

    async fn lease(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Option<Lease>> {
        self.is_here()?;
        self.inner.lease(scope, thread, run).await
    }

    async fn request_cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Option<Lease>> {
        self.is_here()?;
        self.inner.request_cancel(scope, thread, run, action, at).await
    }

    async fn renew_leases(&self, scope: &Scope, worker: &WorkerId, ttl: Duration) -> Result<Vec<Lease>> {
        self.is_here()?;
        let renewed = self.inner.renew_leases(scope, worker, ttl).await?;
        for lease in &renewed {
            let key = (lease.thread_id.clone(), lease.run_id.clone());
            self.leases().insert(key, Instant::now() + ttl);
        }
        Ok(renewed)
    }

    async fn list_claimable(&self, scope: &Scope, sweep: &Sweep, limit: u32) -> Result<Vec<Claimable>> {
        self.is_here()?;
        let mut found = self.inner.list_claimable(scope, sweep, limit).await?;
        found.retain(|claimable| !matches!(claimable.claim, Claim::Expired { .. }));
        let ended: Vec<_> = {
            let leases = self.leases();
            let ended = leases.iter().filter(|(_, until)| **until + sweep.grace < Instant::now());
            ended.map(|(key, _)| key.clone()).collect()
        };
        for (thread_id, run_id) in ended {
            if self.inner.lease(scope, &thread_id, &run_id).await?.is_some() {
                found.push(Claimable { thread_id, run_id, claim: Claim::Expired { grace: sweep.grace } });
            }
        }
        Ok(found)
    }
}

pub(crate) fn thread() -> ThreadId {
    ThreadId::new("thread").unwrap()
}

pub(crate) fn run() -> RunId {
    RunId::new("run").unwrap()
}

pub(crate) fn new_run() -> NewRun {
    let input = user_message(ItemId::new("m1").unwrap(), RawJson::string(" Hello. "), Timestamp::now());
    NewRun {
        input: vec![input],
        create_missing: Some(NewThread::new(thread())),
        ..NewRun::new(thread(), run())
    }
}

pub(crate) async fn begin(faulty: &Faulty, settings: Settings) -> RunJournal {
    RunJournal::begin_with(&faulty.ledger(), &Scope::System, new_run(), settings).await.unwrap()
}

pub(crate) fn change(journal: &RunJournal, what: &str) {
    journal.record_workspace_changes(&RawJson::string(what), Timestamp::now());
}

/// The run's payloads in order, after checking that numbers have no hole.
pub(crate) async fn log(faulty: &Faulty) -> Vec<String> {
    let events = events(&faulty.inner.ledger(), &thread()).await;
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=events.len() as u64).collect::<Vec<_>>()
    );
    let ordinals: Vec<u64> = events.iter().filter_map(|event| event.journal_ordinal).collect();
    assert_eq!(ordinals, (0..ordinals.len() as u64).collect::<Vec<_>>());
    events
        .iter()
        .map(|event| match event.event_type.as_str() {
            "workspace_changes" => event.content.as_str().trim_matches('"').to_owned(),
            other => other.to_owned(),
        })
        .collect()
}

pub(crate) async fn events(ledger: &Ledger, thread: &ThreadId) -> Vec<Event> {
    let range = SeqRange::after(0, 1_000);
    let page = ledger.events().list_events(&Scope::System, thread, &EventFilter::default(), &range).await;
    page.unwrap().items
}

#[tokio::test]
async fn the_persons_message_is_durable_before_the_run_begins() {
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, Settings::default()).await;
    assert_eq!(log(&faulty).await, ["item.completed"]);
    assert_eq!(journal.run().first_human_message.as_deref(), Some("Hello."));
    // A model call that shows a person's message adds no second one.
    let shown = RawJson::parse("m", r#"[[{"type":"human","content":"Hello.","id":"m1"}]]"#).unwrap();
    let start =
        runledger_journal::callbacks::ChatModelStart { context: Context::new("llm-1"), messages: &shown };
    journal.on_chat_model_start(start);
    journal.barrier().await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "llm.started"]);
}

#[tokio::test(start_paused = true)]
async fn one_refused_event_is_replaced_by_a_note_and_the_rest_is_stored() {
    for at in 0..5 {
        let faulty = Faulty { poison: Some("poison"), ..Faulty::new([]) };
        let journal = begin(&faulty, Settings::default()).await;
        for number in 0..5 {
            change(&journal, if number == at { "poison" } else { "fine" });
        }
        let finished = journal.finish(Outcome::success()).await.unwrap();
        let mut expected = vec!["item.completed"];
        expected.extend((0..5).map(|number| if number == at { QUARANTINED } else { "fine" }));
        expected.push("run.completed");
        assert_eq!(log(&faulty).await, expected);
        let [quarantined] = finished.report.quarantined.as_slice() else { panic!("{:?}", finished.report) };
        assert_eq!(quarantined.ordinal, Some(at));
        assert_eq!(quarantined.event_type, "workspace_changes");
        assert_eq!(quarantined.reason, "the database refused insert: a byte it does not take");
        assert_eq!(finished.report.written, 6);
        assert_eq!(finished.report.lost, 0);
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_is_quarantined_even_among_the_last() {
    let inner = MemoryLedger::with_limits(Limits { content_bytes: 600, ..Limits::default() });
    let faulty = Faulty { inner, ..Faulty::new([]) };
    let journal = begin(&faulty, Settings::default()).await;
    change(&journal, "first");
    journal.barrier().await.unwrap();
    change(&journal, &"x".repeat(1_000));
    change(&journal, "last");
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "first", QUARANTINED, "last", "run.completed"]);
    assert_eq!(finished.run.status, RunStatus::Success);
    assert_eq!(finished.report.quarantined[0].bytes, 1_002);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_note_either_stops_the_journal_and_the_loss_is_told() {
    let faulty = Faulty { poison: Some("\""), ..Faulty::new([]) };
    // The input has the poison too: admit it to the store below.
    let ledger = faulty.inner.ledger();
    ledger.admit(&Scope::System, new_run()).await.unwrap();
    let (store, thread, run, settings) = (faulty.ledger(), thread(), run(), Settings::default());
    let replay = RunJournal::replay(&store, &Scope::System, &thread, &run, &[], settings);
    let journal = replay.await.unwrap();
    change(&journal, "a");
    change(&journal, "b");
    assert_eq!(journal.barrier().await.unwrap_err().kind(), ErrorKind::Backend);
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.lost), (0, 2));
    assert!(report.stopped.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_and_order_is_kept() {
    let faulty = Faulty::new([Fault::Away, Fault::Away, Fault::Away]);
    let journal = begin(&faulty, Settings::default()).await;
    let names: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
    for name in &names {
        change(&journal, name);
    }
    journal.barrier().await.unwrap();
    assert_eq!(log(&faulty).await[1..], names);
    let report = journal.close().await.unwrap();
    assert_eq!((report.retried, report.written, report.already_stored), (3, 50, 0));
    assert_eq!(report.queued_peak, 50);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_writes_nothing_twice() {
    // The first commit (which starts the run), a later one, and the end.
    use Fault::{AnswerLost, Fine};
    let faulty = Faulty::new([AnswerLost, AnswerLost, Fine, AnswerLost, Fine, AnswerLost, AnswerLost]);
    let journal = begin(&faulty, Settings::default()).await;
    for name in ["a", "b"] {
        change(&journal, name);
        journal.barrier().await.unwrap();
    }
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "a", "b", "run.completed"]);
    assert!(finished.ended_here);
    assert_eq!(finished.run.status, RunStatus::Success);
    assert_eq!(finished.run.started_at.is_some(), true);
    assert_eq!((finished.report.retried, finished.report.written), (5, 3));
}

#[tokio::test(start_paused = true)]
async fn a_barrier_and_an_end_that_nobody_waits_for_lose_nothing() {
    let slow = Fault::Slow(Duration::from_secs(60));
    let faulty = Faulty::new([slow, slow]);
    let patient = Settings { close_patience: Duration::from_secs(600), ..Settings::default() };
    let journal = begin(&faulty, patient).await;
    change(&journal, "a");
    let second = Duration::from_secs(1);
    assert!(tokio::time::timeout(second, journal.barrier()).await.is_err());
    change(&journal, "b");
    assert!(tokio::time::timeout(second, journal.finish(Outcome::success())).await.is_err());
    let report = journal.close().await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "a", "b", "run.completed"]);
    assert_eq!(report.written, 3);
    let stored = faulty.inner.ledger().runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!(stored.status, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_dropped_writes_what_it_has() {
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, Settings::default()).await;
    change(&journal, "a");
    drop(journal);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(log(&faulty).await, ["item.completed", "a"]);
}

#[tokio::test(start_paused = true)]
async fn events_are_written_after_a_while_or_when_there_are_many() {
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, Settings::default()).await;
    change(&journal, "a");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(log(&faulty).await, ["item.completed"]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(log(&faulty).await, ["item.completed", "a"]);
    (0..20).for_each(|_| change(&journal, "b"));
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(log(&faulty).await.len(), 22);
}

#[tokio::test]
async fn a_run_taken_away_stops_the_journal_and_is_told() {
    let faulty = Faulty::new([]);
    let ledger = faulty.ledger();
    let journal = begin(&faulty, Settings::default()).await;
    change(&journal, "a");
    journal.barrier().await.unwrap();
    let mark = JournalMark { epoch: journal.run().epoch, ordinal: 1 };
    let terminal = EventDraft {
        once_key: Some(ONCE_TERMINAL.to_owned()),
        ..EventDraft::new(EventType::new("run.interrupted").unwrap(), Category::Lifecycle, RawJson::null())
    };
    let taken = Finish {
        thread_id: thread(),
        run_id: run(),
        mark,
        outcome: Outcome::interrupted("taken"),
        at: Timestamp::now(),
        events: vec![terminal],
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(&Scope::System, taken).await.unwrap();
    change(&journal, "b");
    change(&journal, "c");
    assert_eq!(journal.barrier().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    change(&journal, "d");
    journal.record_external_usage(ExternalUsage {
        source_id: "s",
        caller: Caller::new("subagent:x").unwrap(),
        model: None,
        tokens: TokenCounts::of(1_000, 1_000),
        price: None,
        child_thread_id: None,
        at: Timestamp::now(),
    });
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!((finished.run.stop_reason.as_deref(), finished.ended_here), (Some("taken"), false));
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.fenced, report.lost, report.usage_lost), (1, 4, 0, 0));
    assert_eq!(log(&faulty).await, ["item.completed", "a", "run.interrupted"]);
    // The run is somebody else's; what was spent was spent.
    let stored = ledger.runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!(stored.totals.subagent_tokens, 2_000);
}

#[tokio::test]
async fn what_comes_after_the_end_is_late_and_changes_nothing_of_it() {
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, Settings::default()).await;
    let first = journal.finish(Outcome::success()).await.unwrap();
    change(&journal, "late");
    let second = journal.finish(Outcome::error("no")).await.unwrap();
    assert!(first.ended_here && !second.ended_here);
    assert_eq!(second.run.status, RunStatus::Success);
    assert_eq!(log(&faulty).await, ["item.completed", "run.completed", "late"]);
    journal.on_chain_start(ChainStart { context: Context::new("root"), name: None });
    assert_eq!(journal.close().await.unwrap().written, 3);
}

#[tokio::test(start_paused = true)]
async fn an_import_that_broke_off_anywhere_is_continued() {
    let text = include_str!("fixtures/agent.jsonl");
    let recording = Recording::parse(text.as_bytes()).unwrap();
    let whole = MemoryLedger::new().ledger();
    let settings =
        Settings { batch_events: 1, give_up_after: Some(Duration::from_secs(1)), ..Settings::default() };
    let all = recording.import(&whole, &Scope::System, &settings, |_| ()).await.unwrap();
    let thread = ThreadId::new("fixture").unwrap();
    let expected = events(&whole, &thread).await;
    for commits in 0..3 {
        let store = Faulty { afterwards: Fault::Away, ..Faulty::new(vec![Fault::AnswerLost; commits]) };
        let broken = recording.import(&store.ledger(), &Scope::System, &settings, |_| ()).await.unwrap_err();
        assert!(matches!(broken, RecordingError::Ledger { .. }), "{broken}");
        let mended = store.inner.ledger();
        let again = recording.import(&mended, &Scope::System, &settings, |_| ()).await.unwrap();
        assert_eq!(events(&mended, &thread).await, expected);
        assert_eq!(again.total_tokens, all.total_tokens);
    }
}

#[tokio::test(start_paused = true)]
async fn an_odd_refusal_that_passes_costs_no_event() {
    let faulty = Faulty::new([Fault::Fine, Fault::Odd]);
    let journal = begin(&faulty, Settings::default()).await;
    change(&journal, "a");
    journal.barrier().await.unwrap();
    change(&journal, "b");
    journal.barrier().await.unwrap();
    let report = journal.close().await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "a", "b"]);
    assert_eq!((report.retried, report.quarantined, report.lost), (1, Vec::new(), 0));
}

fn of_item(content: &RawJson) -> ItemRecord<'_> {
    ItemRecord {
        mark: ItemMark::new(ItemId::new("i").unwrap(), ItemKind::ToolCall, ItemStatus::InProgress),
        category: Category::Message,
        caller: None,
        content,
        at: Timestamp::now(),
    }
}

#[tokio::test]
async fn an_item_whose_result_is_refused_is_not_left_open() {
    let limits = Limits { content_bytes: 600, ..Limits::default() };
    let ledger = MemoryLedger::with_limits(limits).ledger();
    let new = NewRun { create_missing: Some(NewThread::new(thread())), ..NewRun::new(thread(), run()) };
    let journal = RunJournal::begin(&ledger, &Scope::System, new).await.unwrap();
    let (nothing, much) = (RawJson::null(), RawJson::string(&"x".repeat(1_000)));
    journal.on_item_started(of_item(&nothing));
    journal.on_item_completed(of_item(&much));
    let report = journal.finish(Outcome::success()).await.unwrap().report;
    assert_eq!((report.quarantined.len(), report.lost), (1, 0));
    let open = ItemFilter { run_id: None, status: Some(ItemStatus::InProgress) };
    let open = ledger.items().list(&Scope::System, &thread(), &open, &SeqRange::default()).await.unwrap();
    assert_eq!(open.items, []);
}

#[tokio::test]
async fn a_recording_that_grew_is_told_from_the_one_that_was_imported() {
    let text = include_str!("fixtures/agent.jsonl");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (half, whole) = (lines[..lines.len() - 2].concat(), text);
    let ledger = MemoryLedger::new().ledger();
    let import = async |text: &str| {
        let recording = Recording::parse(text.as_bytes()).unwrap();
        let checked = recording.check(&ledger, &Scope::System).await;
        let imported = recording.import(&ledger, &Scope::System, &Settings::default(), |_| ()).await;
        assert_eq!(checked.is_ok(), imported.is_ok());
        imported
    };
    assert_eq!(import(&half).await.unwrap().skipped, 0);
    assert_eq!(import(&half).await.unwrap().runs, 0);
    assert!(matches!(import(whole).await, Err(RecordingError::Changed { .. })));
    assert!(matches!(Recording::parse(&b""[..]), Err(RecordingError::Line { line: 1, .. })));
}
