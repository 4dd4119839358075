//! Runs that are told to a ledger event by event, at times of the script's choosing.

use std::time::Duration;

use runledger_core::{
    Admission, CallId, Caller, Category, Commit, ErrorKind, EventDraft, Finish, ItemId, ItemKind, ItemMark,
    ItemStatus, JournalMark, Ledger, NewInteraction, NewRun, NewThread, Outcome, RawJson, Run, RunId,
    RunProgress, Scope, SourceId, ThreadId, Timestamp, TokenCounts, Transition, UsageDraft,
};
use serde_json::{Value, json};

/// A run that goes on.
pub(crate) struct Script {
    ledger: Ledger,
    scope: Scope,
    thread: ThreadId,
    run: RunId,
    epoch: u64,
    /// How many events its journal has sent.
    pub(crate) ordinal: u64,
    at: Timestamp,
    started: Timestamp,
    usage: Vec<UsageDraft>,
    asks: Vec<NewInteraction>,
}

pub(crate) fn json_of(value: &Value) -> RawJson {
    RawJson::encode("content", value).unwrap()
}

fn mark(id: &str, kind: ItemKind, status: ItemStatus) -> ItemMark {
    let mut mark = ItemMark::new(ItemId::new(id).unwrap(), kind, status);
    if mark.kind.is_call() {
        mark.call_id = Some(CallId::new(id).unwrap());
    }
    mark
}

impl Script {
    /// Admits a run with what the person said, on a thread that is made where it is missing.
    pub(crate) async fn begin(
        ledger: &Ledger,
        scope: &Scope,
        thread: NewThread,
        run: &str,
        said: &str,
        admission: Admission,
    ) -> Self {
        let at = admission.created_at;
        let mut input = EventDraft::item(
            mark(&format!("{run}-input"), ItemKind::UserMessage, ItemStatus::Completed),
            Category::Message,
            json_of(&json!({ "content": said })),
        );
        input.created_at = at;
        let new = NewRun {
            admission: Admission { first_human_message: Some(said.to_owned()), ..admission },
            input: vec![input],
            ..NewRun::new(thread.thread_id.clone(), RunId::new(run).unwrap())
        };
        let id = thread.thread_id.clone();
        match ledger.threads().create(scope, thread).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{error}"),
        }
        let Run { run_id, epoch, .. } = ledger.admit(scope, new).await.unwrap().run;
        let start = Commit {
            transition: Some(Transition::Start { at }),
            ..Commit::of_run(id.clone(), run_id.clone()).with_mark(JournalMark { epoch, ordinal: 0 })
        };
        ledger.events().append(scope, start).await.unwrap();
        Self {
            ledger: ledger.clone(),
            scope: scope.clone(),
            thread: id,
            run: run_id,
            epoch,
            ordinal: 0,
            at,
            started: at,
            usage: Vec::new(),
            asks: Vec::new(),
        }
    }

    /// Lets time go by.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.at = self.at.after(Duration::from_millis(millis));
    }

    pub(crate) async fn event(&mut self, mut event: EventDraft) {
        event.created_at = self.at;
        let commit = Commit::of_run(self.thread.clone(), self.run.clone())
            .with_events(vec![event])
            .with_mark(JournalMark { epoch: self.epoch, ordinal: self.ordinal });
        self.ledger.events().append(&self.scope, commit).await.unwrap();
        self.ordinal += 1;
    }

    /// A record of an item.
    pub(crate) async fn item(&mut self, id: &str, kind: ItemKind, status: ItemStatus, content: Value) {
        let category = match (&kind, &status) {
            (ItemKind::Reasoning, _) => Category::Reasoning,
            (_, ItemStatus::InProgress) => Category::Lifecycle,
            _ => Category::Message,
        };
        self.event(EventDraft::item(mark(id, kind, status), category, json_of(&content))).await;
    }

    /// A message of the agent, after a while.
    pub(crate) async fn says(&mut self, id: &str, model: &str, text: &str, millis: u64) {
        self.wait(millis);
        let content = json!({ "content": text, "model": model, "latency_ms": millis });
        let mut event = EventDraft::item(
            mark(id, ItemKind::AgentMessage, ItemStatus::Completed),
            Category::Message,
            json_of(&content),
        );
        event.caller = Some(Caller::lead_agent());
        self.event(event).await;
    }

    pub(crate) async fn thinks(&mut self, id: &str, text: &str) {
        self.item(id, ItemKind::Reasoning, ItemStatus::InProgress, json!({ "text": "" })).await;
        self.wait(2_400);
        self.item(id, ItemKind::Reasoning, ItemStatus::Completed, json!({ "text": text })).await;
    }

    /// A call that begins, takes a while and ends.
    pub(crate) async fn call(&mut self, id: &str, kind: ItemKind, call: Value, end: Value, millis: u64) {
        self.item(id, kind.clone(), ItemStatus::InProgress, call.clone()).await;
        self.wait(millis);
        let mut whole = call;
        whole["duration_ms"] = json!(millis);
        for (key, value) in end.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let status = if end.get("error").is_some() { ItemStatus::Failed } else { ItemStatus::Completed };
        self.item(id, kind, status, whole).await;
    }

    /// A model call, counted when the run ends.
    pub(crate) fn used(&mut self, id: &str, model: &str, tokens: TokenCounts, cost_nanos: Option<u64>) {
        let source = SourceId::new(format!("{}-{id}", self.run)).unwrap();
        self.usage.push(UsageDraft {
            model: Some(model.to_owned()),
            cost_nanos,
            created_at: self.at,
            ..UsageDraft::new(source, tokens)
        });
    }

    pub(crate) fn asks(&mut self, question: NewInteraction) {
        self.asks.push(question);
    }

    pub(crate) async fn finish(self, outcome: Outcome) -> Run {
        let finish = Finish {
            thread_id: self.thread,
            run_id: self.run,
            mark: JournalMark { epoch: self.epoch, ordinal: self.ordinal },
            events: vec![EventDraft::terminal(&outcome, None, self.at)],
            outcome,
            at: self.at.max(self.started),
            usage: self.usage,
            asks: self.asks,
            progress: RunProgress::default(),
        };
        self.ledger.finish(&self.scope, finish).await.unwrap().run
    }
}
