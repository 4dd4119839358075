//! The journal of one run: what a runtime holds while the run goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runledger_core::view::transcript::Told;
use runledger_core::{
    Abort, Applied, Caller, Category, ClaimedItem, Commit, Compaction, ContentText, Error, ErrorKind,
    EventDraft, EventType, Fold, ItemId, ItemKind, ItemMark, ItemStatus, JournalMark, Ledger, Limits,
    LiveDelta, NewInteraction, NewRun, Origin, Outcome, PendingCall, RawJson, Reservation, Reserve,
    ReservedFor, Result, Run, RunId, RunStatus, Scope, ThreadId, Timestamp, ToolCall, Transition,
    UserMessage, WhenTaken, event_type,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, ExternalUsage, Failed, ItemRecord, LlmEnd, LlmNewToken, LlmStart,
    MiddlewareRecord, RuntimeCallbacks, SubagentRecord, ToolEnd, ToolError, ToolStart,
};
use crate::mapping::{Billing, Counting, Mapper, Piece, Recorded, resumed};
use crate::pricing::Pricer;
use crate::queue::{Entry, FinishEntry, Shared, Size};
use crate::report::{FinishedRun, Report};
use crate::sender::{Sender, Target};
use crate::spool::Head;
use crate::writer::Writer;

/// How a journal writes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// So many waiting events are written at once.
    pub batch_events: usize,
    /// The longest that an event waits for others.
    pub batch_delay: Duration,
    /// The first pause before a commit is sent again.
    pub retry_min: Duration,
    /// The longest pause before a commit is sent again.
    pub retry_max: Duration,
    /// How long a commit is sent again before the journal stops; `None` for as long as it takes.
    /// What is recorded afterwards goes into the spool, or is lost where there is none.
    pub give_up_after: Option<Duration>,
    /// How long [`RunJournal::finish`] and [`RunJournal::close`] wait for a database that takes
    /// nothing. Whatever it takes starts the time anew. Afterwards `finish` is answered with
    /// [`Error::Unavailable`] while the journal goes on, and `close` leaves the rest in the spool,
    /// or counts it as lost where there is none.
    pub close_patience: Duration,
    /// Where records go that the database does not take now.
    pub overflow: Overflow,
    /// Cancelled when the run is taken away from this journal, so that the runtime stops. `None` makes
    /// a token for each journal; see [`RunJournal::cancel_token`].
    pub cancel: Option<CancellationToken>,
    /// Whether model calls are counted.
    pub track_usage: bool,
    /// Whether a counted call of which nobody told what it took (it failed, or never ended, or its provider says
    /// nothing of usage) is given an estimate, because its provider bills it: a token for four bytes of text and
    /// four a message, of what it was shown and of what it answered. Without, it is counted with no tokens. Its
    /// usage record says that it is estimated in either case.
    pub estimate_failed: bool,
    /// What counted calls cost. Without one, or where it has no price, a call costs what was set aside for it: see
    /// [`RunJournal::reserve`].
    pub pricer: Option<Arc<dyn Pricer>>,
}

impl Default for Settings {
    /// Everything is held in memory, without a bound.
    fn default() -> Self {
        Self {
            batch_events: 20,
            batch_delay: Duration::from_millis(250),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(5),
            give_up_after: None,
            close_patience: Duration::from_secs(30),
            overflow: Overflow::Memory,
            cancel: None,
            track_usage: true,
            estimate_failed: true,
            pricer: None,
        }
    }
}

impl Settings {
    fn billing(&self) -> Billing {
        let counting = match (self.track_usage, self.estimate_failed) {
            (false, _) => Counting::Nothing,
            (true, false) => Counting::Told,
            (true, true) => Counting::Estimates,
        };
        Billing { counting, pricer: self.pricer.clone() }
    }
}

/// Where records go that the database does not take now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// They stay in memory, without a bound: nothing is lost as long as the process lives and has
    /// memory, and all of it when it dies.
    Memory,
    /// Memory is bounded, and the rest is kept in a file of the run.
    Spool(SpoolSettings),
}

/// When the spool takes over, and what may be held in memory.
///
/// Callbacks never wait, not even for the disk. Where they are faster than the database *and* the
/// disk for so long that memory is used up to its bounds, what comes next is dropped, counted as
/// `lost` and logged as an error. The records that are left keep their order and their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The folder of the files, one per run. It is made where it is missing. It must be on a local
    /// disk: the lock that keeps two processes from one file is the operating system's.
    pub folder: PathBuf,
    /// The spool takes over when a commit has waited so long for the database.
    pub after: Duration,
    /// The most events held in memory. The spool takes over at half of it.
    pub max_queued_events: usize,
    /// The most bytes held in memory: payloads, metadata, usage as providers gave it, and a fixed
    /// part for each record. The spool takes over at half of it. One callback's records are taken
    /// whatever their size where nothing else is held.
    pub max_queued_bytes: usize,
    /// The most bytes of a run's file. Beyond it the spool behaves as on a full disk.
    pub max_file_bytes: u64,
}

impl SpoolSettings {
    /// A spool in `folder` that takes over after 2 seconds, with at most 20,000 events or 128 MiB in
    /// memory and 16 GiB in a file.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            after: Duration::from_secs(2),
            max_queued_events: 20_000,
            max_queued_bytes: 128 * 1024 * 1024,
            max_file_bytes: 16 * 1024 * 1024 * 1024,
        }
    }

    fn bound(&self) -> Size {
        Size { events: self.max_queued_events.max(1), bytes: self.max_queued_bytes.max(1) }
    }
}

/// The journal of one run.
///
/// Its [`RuntimeCallbacks`] may be called from any thread, and neither wait nor fail; a task on
/// the runtime in which the journal was made writes what they record. Dropped without
/// [`RunJournal::finish`], it writes what is there and leaves the run as it is.
#[derive(Debug)]
pub struct RunJournal {
    shared: Arc<Shared>,
    ledger: Ledger,
    scope: Scope,
    run: Run,
    billing: Billing,
    cancel: CancellationToken,
}

/// A person's message as an event of an admission's input.
#[must_use]
pub fn user_message(id: ItemId, content: RawJson, at: Timestamp) -> EventDraft {
    let payload = UserMessage { content, ..UserMessage::default() };
    let mark = ItemMark::new(id, ItemKind::UserMessage, ItemStatus::Completed);
    EventDraft {
        caller: Some(Caller::lead_agent()),
        metadata: Some(RawJson::from(serde_json::json!({ "origin": Origin::Admission.as_str() }))),
        created_at: at,
        ..EventDraft::item(mark, Category::Message, RawJson::encode("content", &payload).unwrap_or_default())
    }
}

impl RunJournal {
    /// Admits a run and opens its journal, with the default settings: what the database does not take
    /// is held in memory, without a bound.
    ///
    /// The run's input is durable when this returns. Where the input has no user message, the first
    /// message of a person that a model call shows becomes it. Must be called in a tokio runtime.
    pub async fn begin(ledger: &Ledger, scope: &Scope, new: NewRun) -> Result<Self> {
        Self::begin_with(ledger, scope, new, Settings::default()).await
    }

    /// As [`RunJournal::begin`]. A key that stands for another run already is
    /// [`Error::AlreadyExists`]: a run has one journal. A spool folder that cannot be made is
    /// [`Error::InvalidInput`], before anything is admitted.
    pub async fn begin_with(
        ledger: &Ledger,
        scope: &Scope,
        mut new: NewRun,
        settings: Settings,
    ) -> Result<Self> {
        if new.admission.multitask_strategy.when_taken() == WhenTaken::Wait {
            let reason = "is enqueue; a run that may have to wait is admitted by a RunManager";
            return Err(Error::invalid("multitask_strategy", reason));
        }
        if new.admission.first_human_message.is_none() {
            new.admission.first_human_message = first_said(&new.input);
        }
        make_folder(&settings).await?;
        let mapper = Mapper::new(new.run_id.clone(), settings.billing(), &new.input);
        let admitted = ledger.admit(scope, new).await?;
        if !admitted.created {
            return Err(Error::already_exists("run", &admitted.run.run_id));
        }
        Self::open(ledger, scope, admitted.run, mapper, settings, 0)
    }

    /// Opens the journal of an active run from its beginning, to record the same callbacks again.
    ///
    /// What is stored already is recognised by its ordinal and not written again; a record that
    /// differs from the stored one stops the journal with `Conflict`. `input` is what the run was
    /// admitted with. A run that has ended is `Conflict`.
    pub async fn replay(
        ledger: &Ledger,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        input: &[EventDraft],
        settings: Settings,
    ) -> Result<Self> {
        make_folder(&settings).await?;
        let run = ledger.runs().get(scope, thread, run).await?;
        if !run.status.is_active() {
            return Err(Error::conflict("run status", "pending or running", &run.status));
        }
        let mapper = Mapper::new(run.run_id.clone(), settings.billing(), input);
        Self::open(ledger, scope, run, mapper, settings, 0)
    }

    /// Opens the journal of a run that another process began, and that was
    /// [resumed](Ledger::resume_run) for this one: it goes on where the log ends.
    ///
    /// Calls that are open are known: [`RunJournal::pending`] tells them, and the end of each ends its item. Ids
    /// stay unique, model calls count on, and what a run records once is not recorded again. The runtime may
    /// name its chains and model calls as the other process did. A run that has ended is `Conflict`; one that
    /// was taken away since is [`Error::LeaseLost`].
    ///
    /// It is not [`RunJournal::replay`], which is told everything from the beginning.
    pub async fn resume(
        ledger: &Ledger,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        settings: Settings,
    ) -> Result<Self> {
        let run = ledger.runs().get(scope, thread, run).await?;
        if !run.status.is_active() {
            return Err(Error::conflict("run status", "pending or running", &run.status));
        }
        make_folder(&settings).await?;
        Self::of_resumed(ledger, scope, run, settings).await
    }

    /// Opens the journal of a run that was just resumed, after [`make_folder`].
    pub(crate) async fn of_resumed(
        ledger: &Ledger,
        scope: &Scope,
        run: Run,
        settings: Settings,
    ) -> Result<Self> {
        let mapper = resumed::read(ledger, scope, &run, settings.billing()).await?;
        // After the log was read: whoever wrote since under the same epoch has the ordinal, and this journal is
        // told by its first commit.
        let head = ledger.threads().head(scope, &run.thread_id).await?;
        head.require_held(&run.run_id, run.epoch)?;
        Self::open(ledger, scope, run, mapper, settings, head.journal_ordinal)
    }

    /// Opens the journal of a run that was just admitted with `input`, after [`make_folder`].
    pub(crate) fn of_admitted(
        ledger: &Ledger,
        scope: &Scope,
        run: Run,
        input: &[EventDraft],
        settings: Settings,
    ) -> Result<Self> {
        let mapper = Mapper::new(run.run_id.clone(), settings.billing(), input);
        Self::open(ledger, scope, run, mapper, settings, 0)
    }

    fn open(
        ledger: &Ledger,
        scope: &Scope,
        run: Run,
        mapper: Mapper,
        settings: Settings,
        ordinal: u64,
    ) -> Result<Self> {
        let billing = settings.billing();
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("runtime", "is missing; open a journal inside a tokio runtime"))?;
        let bound = match &settings.overflow {
            Overflow::Memory => None,
            Overflow::Spool(spool) => Some(spool.bound()),
        };
        let shared = Arc::new(Shared::new(mapper, settings.batch_events, bound));
        let cancel = settings.cancel.clone().unwrap_or_default();
        let target = Target {
            thread_id: run.thread_id.clone(),
            run_id: run.run_id.clone(),
            epoch: run.epoch,
            ordinal,
            started: run.status == RunStatus::Running,
            late: false,
        };
        let head = Head::new(&target, scope);
        let sender = Sender::new(ledger.clone(), scope.clone(), target, settings.clone(), cancel.clone());
        let most = Size::of_commit(bound);
        runtime.spawn(Writer::new(Arc::clone(&shared), settings, head, most, sender).run());
        Ok(Self { shared, ledger: ledger.clone(), scope: scope.clone(), run, billing, cancel })
    }

    /// The run as it was admitted, or resumed.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// How many events are held in memory: those that wait, and those on their way.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.lock().held_events()
    }

    /// Cancelled when the run is taken away: by another worker, by an interruption, by its end or its
    /// thread's deletion. What the run does then has no effect any more, so a runtime stops it. It
    /// is [`Settings::cancel`], where that was given.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// How the run ended, as far as its root chain told. `None` before it did.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared.lock().mapper.outcome()
    }

    /// Waits until everything recorded so far is in the ledger, or says why it will not be. What is in
    /// the spool only is waited for, however long the database is away. Given up, it takes nothing back.
    ///
    /// Records that were dropped, for memory was full, are [`Error::Corrupt`] once, with how many
    /// they are; what was taken is durable then. A record that the store refuses by itself is stored
    /// as a note, which is no error: [`Report::quarantined`].
    pub async fn barrier(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.shared.barrier(reply);
        answer.await.unwrap_or_else(|_| Err(writer_gone()))
    }

    /// Sets aside what a model call may use, if the run's budget has it: everything recorded so far is
    /// waited for as by [`RunJournal::barrier`], so that what calls took is counted.
    ///
    /// The next model call that starts settles it with its usage record, failed or not, and what is left
    /// comes back. So it is asked for before each call, and of calls that start together each settles one.
    /// `Refused` says which limit ends the run: [`Outcome::budget_exhausted`].
    /// A sub-agent's allowance is [`Ledger::delegate`].
    ///
    /// A call without a price of [`Settings::pricer`] costs what was set aside for it. `InvalidInput` where nothing
    /// would ever be counted against a limit: the journal counts no calls, or the run's cost is limited and
    /// neither a pricer nor `wanted` says what a call costs.
    pub async fn reserve(&self, wanted: Reserve) -> Result<Reservation> {
        if self.billing.counting == Counting::Nothing {
            let reason =
                "is off, so that no call is ever counted against a budget; count calls, or do not reserve";
            return Err(Error::invalid("track_usage", reason));
        }
        let is_priced = self.billing.pricer.is_some() || wanted.estimate.cost_nanos > 0;
        if self.run.budget.max_cost_nanos.is_some() && !is_priced {
            let reason =
                "is missing, and the run's cost is limited; give a pricer, or what the call may cost";
            return Err(Error::invalid("pricer", reason));
        }
        self.barrier().await?;
        let Run { thread_id, run_id, epoch, .. } = &self.run;
        let reservation = self.ledger.runs().reserve(&self.scope, thread_id, run_id, *epoch, wanted).await?;
        // An allowance is settled with the sub-agent, not with a call.
        if matches!(reservation, Reservation::Granted(_)) && wanted.purpose != ReservedFor::SubAgent {
            self.shared.lock().mapper.reserved(wanted.estimate);
        }
        Ok(reservation)
    }

    /// Ends the run now: closes what is still open and writes the terminal event, the status and the
    /// last totals in one commit. Given up, it goes on.
    ///
    /// A database that takes nothing for [`Settings::close_patience`] is [`Error::Unavailable`]. The end
    /// is not taken back: it is in the spool, from which this journal or the next
    /// [`recover`](crate::spool::recover) stores it; or, without a spool, in memory until the
    /// journal is closed.
    ///
    /// A run that was taken away, or ended by somebody else, is answered as it ended, or with
    /// [`Error::LeaseLost`] where that cannot be read for as long. What is recorded
    /// afterwards is late: it is appended to the run without changing how it ended.
    pub async fn finish(&self, outcome: Outcome) -> Result<FinishedRun> {
        self.finish_at(outcome, Timestamp::now()).await
    }

    /// As [`RunJournal::finish`], at a given time.
    pub async fn finish_at(&self, outcome: Outcome, at: Timestamp) -> Result<FinishedRun> {
        self.ender().finish(outcome, at).await
    }

    /// Notes what an agent run came to.
    pub(crate) fn record_output(&self, told: &Told, at: Timestamp) {
        // Text and a number always have a JSON form, and a number that is none is left out.
        let content = RawJson::encode("content", told).unwrap_or_default();
        let event_type = EventType::from_stored(event_type::RUN_OUTPUT);
        let event = EventDraft { created_at: at, ..EventDraft::new(event_type, Category::Outputs, content) };
        self.shared.record(|_| Recorded { events: vec![event], ..Recorded::default() });
    }

    /// Ends the run now with questions to people: as interrupted, `waiting_for_input`. Their answers are given
    /// with the admission of later runs ([`Admission::answer`](runledger_core::Admission::answer)), in any process;
    /// nothing is held until then.
    ///
    /// `InvalidInput` where a question cannot be stored, `AlreadyExists` where its id is taken on the thread:
    /// then the run goes on. Otherwise as [`RunJournal::finish`].
    pub async fn finish_asking(&self, asks: Vec<NewInteraction>) -> Result<FinishedRun> {
        self.check_asks(&asks).await?;
        self.ender().finish_asking(asks, Timestamp::now()).await
    }

    /// Refuses questions that the end of the run would be refused for.
    pub(crate) async fn check_asks(&self, asks: &[NewInteraction]) -> Result<()> {
        let (outcome, at) = (waiting(), Timestamp::now());
        let run = &self.run;
        let end = Commit {
            mark: Some(JournalMark { epoch: run.epoch, ordinal: 0 }),
            events: vec![EventDraft::terminal(&outcome, None, at)],
            transition: Some(Transition::Finish { outcome, asks: asks.to_vec(), at }),
            ..Commit::of_run(run.thread_id.clone(), run.run_id.clone())
        };
        end.prepare(&Limits::default())?;
        for NewInteraction { interaction_id, .. } in asks {
            match self.ledger.interactions().get(&self.scope, &run.thread_id, interaction_id).await {
                Ok(_) => return Err(Error::already_exists("interaction", interaction_id)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The run's tool calls that have no result, in the order they began: those that an earlier process left,
    /// and those that a model asked for until now. Everything recorded is durable when they are told, so what
    /// is executed was asked for in the log.
    pub async fn pending(&self) -> Result<Vec<PendingCall>> {
        self.barrier().await?;
        let (thread, run) = (&self.run.thread_id, &self.run.run_id);
        let open = self.ledger.open_items(&self.scope, thread, Some(run)).await?;
        Ok(open.into_iter().filter_map(PendingCall::of).collect())
    }

    /// Claims a call before it is executed. [`ClaimedItem::claimed_before`] says whether an earlier process
    /// claimed it, and may have executed it without a result being stored: what to do with such a call is the
    /// runtime's decision. `LeaseLost` where the run was taken away, `Conflict` where this process claimed it
    /// before, or it has ended.
    pub async fn claim_call(&self, call: &PendingCall) -> Result<ClaimedItem> {
        self.ledger.claim_call(&self.scope, call, self.run.epoch).await
    }

    /// Folds part of the thread's context window into a note: see [`Ledger::fold`]. What was recorded until now is
    /// durable before, and the fold is this run's, under the epoch it is held by: `LeaseLost` where it was taken
    /// away.
    pub async fn fold(&self, fold: Fold) -> Result<Compaction> {
        self.barrier().await?;
        let (thread_id, run_id) = (self.run.thread_id.clone(), self.run.run_id.clone());
        self.shared.note_item(&fold.item_id);
        self.ledger.fold(&self.scope, Fold { thread_id, run_id, epoch: Some(self.run.epoch), ..fold }).await
    }

    /// Records the result of a call: failed where it has an error, else completed. Like the callbacks it neither
    /// waits nor fails. A call has one result; a further one changes nothing.
    pub fn complete_call(&self, call: &PendingCall, result: ToolCall, at: Timestamp) {
        let status = if result.error.is_some() { ItemStatus::Failed } else { ItemStatus::Completed };
        self.shared.record(|mapper| mapper.end_call(call, status, result, at));
    }

    /// Records that a call is not executed, and what the model is told instead of a result.
    pub fn abort_call(&self, call: &PendingCall, abort: Abort, at: Timestamp) {
        let (status, reason) = abort.into_parts();
        let told = ToolCall { content: Some(RawJson::string(&reason)), ..call.call.clone() };
        self.shared.record(|mapper| mapper.end_call(call, status, told, at));
    }

    /// What ends the run though the journal itself is gone.
    pub(crate) fn ender(&self) -> Ender {
        Ender(Arc::clone(&self.shared))
    }

    /// Writes what is there, stops the writer, and reports what became of everything.
    ///
    /// It waits for a database that takes nothing for [`Settings::close_patience`] and no longer. What
    /// is unsent then stays in the spool, whose file the report names; without a spool it is lost.
    pub async fn close(self) -> Result<Report> {
        self.ender().close().await
    }
}

/// Ends a journal and its run. Asked before the journal is dropped, it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Ender(Arc<Shared>);

impl Ender {
    /// Asks at once; the answer may be waited for or not.
    pub(crate) fn finish(
        &self,
        outcome: Outcome,
        at: Timestamp,
    ) -> impl Future<Output = Result<FinishedRun>> + Send + use<> {
        self.end(outcome, Vec::new(), at)
    }

    /// The same with questions to people, which were checked.
    pub(crate) fn finish_asking(
        &self,
        asks: Vec<NewInteraction>,
        at: Timestamp,
    ) -> impl Future<Output = Result<FinishedRun>> + Send + use<> {
        self.end(waiting(), asks, at)
    }

    fn end(
        &self,
        outcome: Outcome,
        asks: Vec<NewInteraction>,
        at: Timestamp,
    ) -> impl Future<Output = Result<FinishedRun>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.0.request(|inner| {
            let closing = inner.mapper.finish(&outcome, at);
            Entry::Finish(Box::new(FinishEntry { outcome, asks, at, closing, reply }))
        });
        async move { answer.await.unwrap_or_else(|_| Err(writer_gone())) }
    }

    /// Asks at once for what [`RunJournal::close`] answers.
    pub(crate) fn close(&self) -> impl Future<Output = Result<Report>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.0.request(|_| Entry::Close(Some(reply)));
        async move { answer.await.map_err(|_| writer_gone()) }
    }
}

impl Drop for RunJournal {
    fn drop(&mut self) {
        self.shared.request(|_| Entry::Close(None));
    }
}

/// A folder that cannot be used is told before the run begins, not when it is needed.
pub(crate) async fn make_folder(settings: &Settings) -> Result<()> {
    let Overflow::Spool(spool) = &settings.overflow else { return Ok(()) };
    let folder = spool.folder.clone();
    let made = tokio::task::spawn_blocking(move || std::fs::create_dir_all(folder)).await;
    made.map_err(std::io::Error::other).flatten().map_err(|error| {
        Error::invalid(
            "overflow.folder",
            format!(
                "{} cannot be used: {error}; give a folder that may be written to",
                spool.folder.display()
            ),
        )
    })
}

/// How a run ends that asks a person.
fn waiting() -> Outcome {
    Outcome::interrupted(Outcome::WAITING_FOR_INPUT)
}

fn writer_gone() -> Error {
    Error::Unavailable {
        applied: Applied::Unknown,
        source: "the journal's writer is gone with its runtime".into(),
    }
}

/// What a person says first in a run's input.
pub(crate) fn first_said(input: &[EventDraft]) -> Option<String> {
    input.iter().find_map(said)
}

/// What a person says in an input event.
fn said(event: &EventDraft) -> Option<String> {
    event.item.as_ref().filter(|item| item.kind == ItemKind::UserMessage)?;
    let message = event.content.decode_lossy::<UserMessage>().ok()?;
    runledger_core::text::summary(&message.content.text())
}

impl RuntimeCallbacks for RunJournal {
    fn on_chain_start(&self, start: ChainStart<'_>) {
        self.shared.record(|mapper| mapper.chain_start(&start));
    }
    fn on_chain_end(&self, end: ChainEnd<'_>) {
        self.shared.record(|mapper| mapper.chain_end(&end));
    }
    fn on_chain_error(&self, failed: Failed<'_>) {
        self.shared.record(|mapper| mapper.chain_error(&failed));
    }
    fn on_chat_model_start(&self, start: ChatModelStart<'_>) {
        self.shared.record(|mapper| mapper.chat_model_start(&start));
    }
    fn on_llm_start(&self, start: LlmStart<'_>) {
        self.shared.record(|mapper| mapper.llm_start(&start));
    }
    fn on_llm_new_token(&self, token: LlmNewToken<'_>) {
        let signal = self.ledger.events().signal();
        let Run { thread_id, run_id, .. } = &self.run;
        if !signal.is_heard(thread_id) {
            return;
        }
        let pieces = self.shared.lock().mapper.pieces(&token);
        for Piece { item_id, kind, text } in pieces {
            let (thread_id, run_id) = (thread_id.clone(), run_id.clone());
            signal.say(LiveDelta { thread_id, run_id, item_id, kind, text });
        }
    }
    fn on_llm_end(&self, end: LlmEnd<'_>) {
        self.shared.record(|mapper| mapper.llm_end(&end));
    }
    fn on_llm_error(&self, failed: Failed<'_>) {
        self.shared.record(|mapper| mapper.llm_error(&failed));
    }
    fn on_tool_start(&self, start: ToolStart<'_>) {
        self.shared.record(|mapper| mapper.tool_start(&start));
    }
    fn on_tool_end(&self, end: ToolEnd<'_>) {
        self.shared.record(|mapper| mapper.tool_end(&end));
    }
    fn on_tool_error(&self, failed: ToolError<'_>) {
        self.shared.record(|mapper| mapper.tool_error(&failed));
    }
    fn on_item_started(&self, item: ItemRecord<'_>) {
        self.shared.record(|mapper| mapper.item_record(&item, false));
    }
    fn on_item_completed(&self, item: ItemRecord<'_>) {
        self.shared.record(|mapper| mapper.item_record(&item, true));
    }
    fn record_middleware(&self, record: MiddlewareRecord<'_>) {
        self.shared.record(|mapper| mapper.middleware(&record));
    }
    fn record_memory_context(&self, content: &RawJson, at: Timestamp) {
        self.shared.record(|mapper| mapper.memory(content, at));
    }
    fn record_external_usage(&self, usage: ExternalUsage<'_>) {
        self.shared.record(|mapper| mapper.external_usage(&usage));
    }
    fn record_subagent(&self, record: SubagentRecord<'_>) {
        self.shared.record(|mapper| mapper.subagent(&record));
    }
    fn record_delivery(&self, at: Timestamp) {
        self.shared.record(|mapper| mapper.delivery(at));
    }
    fn record_workspace_changes(&self, changes: &RawJson, at: Timestamp) {
        self.shared.record(|mapper| mapper.workspace(changes, at));
    }
    fn set_first_human_message(&self, text: &str) {
        self.shared.record(|mapper| mapper.preset_human(text));
    }
}
