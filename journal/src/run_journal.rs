//! The journal of one run: what a runtime holds while the run goes on.

use std::sync::Arc;
use std::time::Duration;

use runledger_core::{
    Applied, Caller, Category, ContentText, Error, EventDraft, ItemId, ItemKind, ItemMark, ItemStatus,
    Ledger, NewRun, Origin, Outcome, RawJson, Result, Run, RunId, RunStatus, Scope, ThreadId, Timestamp,
    UserMessage,
};
use tokio::sync::oneshot;

use crate::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, ExternalUsage, Failed, ItemRecord, LlmEnd, LlmStart,
    MiddlewareRecord, RuntimeCallbacks, SubagentRecord, ToolEnd, ToolError, ToolStart,
};
use crate::mapping::Mapper;
use crate::queue::{Entry, FinishEntry, Shared};
use crate::report::{FinishedRun, Report};
use crate::writer::Writer;

/// How a journal writes.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub give_up_after: Option<Duration>,
    /// Whether model calls are counted.
    pub track_usage: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_events: 20,
            batch_delay: Duration::from_millis(250),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(5),
            give_up_after: None,
            track_usage: true,
        }
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
    run: Run,
}

/// A person's message as an event of an admission's input.
#[must_use]
pub fn user_message(id: ItemId, content: RawJson, at: Timestamp) -> EventDraft {
    let payload = UserMessage { content, extra: None };
    let mark = ItemMark::new(id, ItemKind::UserMessage, ItemStatus::Completed);
    EventDraft {
        caller: Some(Caller::lead_agent()),
        metadata: Some(RawJson::from(serde_json::json!({ "origin": Origin::Admission.as_str() }))),
        created_at: at,
        ..EventDraft::item(mark, Category::Message, RawJson::encode("content", &payload).unwrap_or_default())
    }
}

impl RunJournal {
    /// Admits a run and opens its journal, with the default settings.
    ///
    /// The run's input is durable when this returns. Where the input has no user message, the first
    /// message of a person that a model call shows becomes it. Must be called in a tokio runtime.
    pub async fn begin(ledger: &Ledger, scope: &Scope, new: NewRun) -> Result<Self> {
        Self::begin_with(ledger, scope, new, Settings::default()).await
    }

    /// As [`RunJournal::begin`]. A key that stands for another run already is
    /// [`Error::AlreadyExists`]: a run has one journal.
    pub async fn begin_with(
        ledger: &Ledger,
        scope: &Scope,
        mut new: NewRun,
        settings: Settings,
    ) -> Result<Self> {
        if new.admission.first_human_message.is_none() {
            new.admission.first_human_message = new.input.iter().find_map(said);
        }
        let mapper = Mapper::new(new.run_id.clone(), settings.track_usage, &new.input);
        let admitted = ledger.admit(scope, new).await?;
        if !admitted.created {
            return Err(Error::already_exists("run", &admitted.run.run_id));
        }
        Self::open(ledger, scope, admitted.run, mapper, settings)
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
        let run = ledger.runs().get(scope, thread, run).await?;
        if !run.status.is_active() {
            return Err(Error::conflict("run status", "pending or running", &run.status));
        }
        let mapper = Mapper::new(run.run_id.clone(), settings.track_usage, input);
        Self::open(ledger, scope, run, mapper, settings)
    }

    fn open(ledger: &Ledger, scope: &Scope, run: Run, mapper: Mapper, settings: Settings) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("runtime", "is missing; open a journal inside a tokio runtime"))?;
        let shared = Arc::new(Shared::new(mapper, settings.batch_events.max(1)));
        let writer = Writer::new(
            Arc::clone(&shared),
            ledger.clone(),
            scope.clone(),
            run.thread_id.clone(),
            run.run_id.clone(),
            settings,
            run.epoch,
            run.status == RunStatus::Running,
        );
        runtime.spawn(writer.run());
        Ok(Self { shared, run })
    }

    /// The run as it was admitted.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// How many events wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.lock().waiting()
    }

    /// How the run ended, as far as its root chain told. `None` before it did.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared.lock().mapper.outcome()
    }

    /// Waits until everything recorded so far is durable, or says why it will not be.
    /// Given up, it takes nothing back.
    pub async fn barrier(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.shared.request(|_| Entry::Barrier(reply));
        answer.await.unwrap_or_else(|_| Err(writer_gone()))
    }

    /// Ends the run now: closes what is still open and writes the terminal event, the status and the
    /// last totals in one commit. Given up, it goes on.
    ///
    /// What is recorded afterwards is late: it is appended to the run without changing how it ended.
    pub async fn finish(&self, outcome: Outcome) -> Result<FinishedRun> {
        self.finish_at(outcome, Timestamp::now()).await
    }

    /// As [`RunJournal::finish`], at a given time.
    pub async fn finish_at(&self, outcome: Outcome, at: Timestamp) -> Result<FinishedRun> {
        let (reply, answer) = oneshot::channel();
        self.shared.request(|mapper| {
            let closing = mapper.finish(&outcome, at);
            Entry::Finish(Box::new(FinishEntry { outcome, at, closing, reply }))
        });
        answer.await.unwrap_or_else(|_| Err(writer_gone()))
    }

    /// Writes what is there, stops the writer, and reports what became of everything.
    pub async fn close(self) -> Result<Report> {
        let (reply, answer) = oneshot::channel();
        self.shared.request(|_| Entry::Close(Some(reply)));
        answer.await.map_err(|_| writer_gone())
    }
}

impl Drop for RunJournal {
    fn drop(&mut self) {
        self.shared.request(|_| Entry::Close(None));
    }
}

fn writer_gone() -> Error {
    Error::Unavailable {
        applied: Applied::Unknown,
        source: "the journal's writer is gone with its runtime".into(),
    }
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
