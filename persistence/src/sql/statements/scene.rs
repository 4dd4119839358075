//! What calls are counted on.

use std::collections::BTreeSet;
use std::time::Duration;

use runledger_core::{
    Admission, AgentRunId, ApiToken, ApiTokenId, CallId, Caller, Category, Commit, EventDraft, EventType,
    FeedbackId, Fold, ImportCursor, ImportSource, InteractionId, ItemId, ItemKind, ItemMark, ItemStatus,
    JournalMark, Ledger, NewAgentRun, NewFeedback, NewInteraction, NewLease, NewRun, NewThread, Outcome,
    OwnerId, QuarantineId, Quarantined, Rating, RawJson, Run, RunId, Scope, SourceId, Spawn, ThreadId,
    ThreadLifecycle, Timestamp, TokenCounts, Transition, UsageDraft, WorkerId, offload,
};

/// A thread with so many of everything, and its owner.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) size: u32,
    pub(super) owner: OwnerId,
    pub(super) scope: Scope,
    /// With so many ended runs, each with a question, an agent run, a blob and feedback; and children.
    pub(super) thread: ThreadId,
    /// Goes on, with so many open calls.
    pub(super) active: Run,
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_700_000_000_000_000 + second * 1_000_000).unwrap()
}

pub(super) fn run_id(name: impl AsRef<str>) -> RunId {
    RunId::new(name).unwrap()
}

pub(super) fn item_id(name: impl AsRef<str>) -> ItemId {
    ItemId::new(name).unwrap()
}

/// A completed item that is a message.
pub(super) fn said(item: &str, kind: ItemKind, content: &str) -> EventDraft {
    let mark = ItemMark::new(item_id(item), kind, ItemStatus::Completed);
    EventDraft {
        caller: Some(Caller::lead_agent()),
        created_at: at(0),
        ..EventDraft::item(mark, Category::Message, RawJson::parse("content", content).unwrap())
    }
}

pub(super) fn user(item: &str) -> EventDraft {
    said(item, ItemKind::UserMessage, r#"{"content":"hello"}"#)
}

/// The start of a call.
pub(super) fn asked(item: &str) -> EventDraft {
    let mut mark = ItemMark::new(item_id(item), ItemKind::ToolCall, ItemStatus::InProgress);
    mark.call_id = Some(CallId::new(item).unwrap());
    let content = RawJson::parse("content", r#"{"name":"tool"}"#).unwrap();
    EventDraft { created_at: at(0), ..EventDraft::item(mark, Category::Lifecycle, content) }
}

/// Events that only the application knows.
pub(super) fn notes(size: u32) -> Vec<EventDraft> {
    let event_type = EventType::new("note").unwrap();
    let note = EventDraft {
        created_at: at(0),
        ..EventDraft::new(event_type, Category::new("note").unwrap(), RawJson::string("text"))
    };
    vec![note; size as usize]
}

pub(super) fn spent(source: impl AsRef<str>) -> UsageDraft {
    let tokens = TokenCounts { input: 10, output: 5, ..TokenCounts::default() }.with_total();
    UsageDraft { created_at: at(0), ..UsageDraft::new(SourceId::new(source).unwrap(), tokens) }
}

/// A commit with an agent's message whose large text is kept apart.
pub(super) fn with_blob(commit: Commit, item: &str) -> Commit {
    let content = format!(r#"{{"content":"{}"}}"#, item.repeat(200));
    let mut message = said(item, ItemKind::AgentMessage, &content);
    let (content, blobs) = offload(&message.content, commit.events.len(), 100).unwrap();
    message.content = content;
    let mut commit = commit;
    commit.events.push(message);
    commit.blobs.extend(blobs);
    commit
}

/// The end of a run, as a commit: nothing is done after it, as [`Ledger::finish`] would.
fn ended(run: &Run, ordinal: u64, outcome: Outcome, asks: Vec<NewInteraction>) -> Commit {
    let terminal = EventDraft::terminal(&outcome, None, at(3));
    Commit {
        transition: Some(Transition::Finish { outcome, asks, at: at(3) }),
        ..Commit::of_run(run.thread_id.clone(), run.run_id.clone())
            .with_events(vec![terminal])
            .with_mark(JournalMark { epoch: run.epoch, ordinal })
    }
}

impl Scene {
    pub(super) fn name(&self, kind: &str, number: u32) -> String {
        format!("{}-{kind}{number}", self.thread)
    }

    pub(super) fn agent_run(&self, number: u32) -> AgentRunId {
        AgentRunId::new(self.name("a", number)).unwrap()
    }

    pub(super) fn worker(&self) -> WorkerId {
        WorkerId::new(self.name("w", 0)).unwrap()
    }

    pub(super) fn cursor(&self) -> ImportCursor {
        let source = ImportSource::new(self.name("s", 0)).unwrap();
        ImportCursor { source, byte_offset: 1, last_line_hash: None, updated_at: at(0) }
    }

    pub(super) fn quarantined(&self, kind: &str) -> Vec<Quarantined> {
        let part = |number| Quarantined {
            quarantine_id: QuarantineId::new(self.name(kind, number)).unwrap(),
            seq: None,
            source: None,
            reason: "is no JSON".to_owned(),
            content_hash: "sha256:0".to_owned(),
            content: Some("text".to_owned()),
            created_at: at(0),
        };
        (0..self.size).map(part).collect()
    }

    pub(super) fn token(&self, number: u32) -> ApiToken {
        let digits = format!("{:032x}{number:032x}", self.size);
        ApiToken {
            token_id: ApiTokenId::new(self.name("k", number)).unwrap(),
            token_hash: digits,
            owner_id: Some(self.owner.clone()),
            label: None,
            created_at: at(i64::from(number)),
            expires_at: None,
            revoked_at: None,
        }
    }

    pub(super) fn opinion(&self, number: u32) -> NewFeedback {
        NewFeedback {
            thread_id: self.thread.clone(),
            feedback_id: FeedbackId::new(self.name("f", number)).unwrap(),
            run_id: run_id(format!("r{number}")),
            item_id: None,
            rating: Rating::Up,
            comment: None,
            at: at(0),
        }
    }

    /// A thread of the owner's, and what else is said of it.
    pub(super) async fn a_thread(&self, ledger: &Ledger, name: &str, spawn: Option<Spawn>) -> ThreadId {
        let new = NewThread { spawn, ..NewThread::new(ThreadId::new(name).unwrap()) };
        ledger.threads().create(&self.scope, new).await.unwrap().thread_id
    }

    pub(super) async fn a_run(
        &self,
        ledger: &Ledger,
        thread: &ThreadId,
        name: &str,
        admission: Admission,
    ) -> Run {
        let new = NewRun { admission, ..NewRun::new(thread.clone(), run_id(name)) };
        ledger.admit(&self.scope, new).await.unwrap().run
    }

    pub(super) async fn append(&self, ledger: &Ledger, commit: Commit) {
        ledger.events().append(&self.scope, commit).await.unwrap();
    }

    /// Makes a scene.
    pub(super) async fn set(ledger: &Ledger, size: u32) -> Self {
        let owner = OwnerId::new(format!("o{size}")).unwrap();
        let scope = Scope::Owner(owner.clone());
        let thread = ThreadId::new(format!("t{size}")).unwrap();
        let new = NewThread {
            system_prompt: Some("be brief".to_owned()),
            metadata: RawJson::parse("metadata", r#"{"k":1}"#).unwrap(),
            ..NewThread::new(thread.clone())
        };
        ledger.threads().create(&scope, new).await.unwrap();
        let first = NewRun::new(thread.clone(), run_id("first"));
        let active = ledger.admit(&scope, first).await.unwrap().run;
        let mut scene = Self { size, owner, scope, thread, active };
        let first = ended(&scene.active, 0, Outcome::success(), Vec::new());
        scene.append(ledger, first).await;
        for number in 0..size {
            scene.ended_run(ledger, number).await;
        }
        scene.active = scene.a_run(ledger, &scene.thread, "active", Admission::default()).await;
        scene.open_calls(ledger).await;
        for number in 0..size {
            scene.around(ledger, number).await;
        }
        scene.folds(ledger).await;
        ledger.imports().set_cursor(&scene.scope, &scene.thread, scene.cursor()).await.unwrap();
        let parts = scene.quarantined("b");
        ledger.imports().quarantine(&scene.scope, &scene.thread, parts).await.unwrap();
        scene
    }

    async fn ended_run(&self, ledger: &Ledger, number: u32) {
        let admission = Admission {
            idempotency_key: Some(format!("k{number}")),
            agent_run: Some(NewAgentRun::new(self.agent_run(number), "finder", "find the word")),
            created_at: at(i64::from(number)),
            ..Admission::default()
        };
        let run = self.a_run(ledger, &self.thread, &format!("r{number}"), admission).await;
        let of_run = Commit::of_run(run.thread_id.clone(), run.run_id.clone());
        let events = vec![user(&format!("u{number}"))];
        let usage = (0..self.size).map(|call| spent(format!("{number}-{call}"))).collect();
        let commit = Commit { usage, ..of_run.with_events(events) }
            .with_mark(JournalMark { epoch: run.epoch, ordinal: 0 });
        self.append(ledger, with_blob(commit, &format!("m{number}"))).await;
        let question = NewInteraction {
            interaction_id: InteractionId::new(self.name("q", number)).unwrap(),
            kind: "approval".to_owned(),
            request: RawJson::parse("request", r#"{"may I":1}"#).unwrap(),
            item_id: None,
        };
        let outcome = Outcome::interrupted(Outcome::WAITING_FOR_INPUT);
        self.append(ledger, ended(&run, 2, outcome, vec![question])).await;
        ledger.feedback().create(&self.scope, self.opinion(number)).await.unwrap();
        ledger.api_tokens().create(&Scope::System, self.token(number)).await.unwrap();
    }

    /// The message that asks for the calls, and their starts.
    async fn open_calls(&self, ledger: &Ledger) {
        let calls: Vec<String> = (0..self.size).map(|number| format!("c{number}")).collect();
        let requests: Vec<String> =
            calls.iter().map(|call| format!(r#"{{"id":"{call}","name":"tool","args":{{}}}}"#)).collect();
        let content = format!(r#"{{"content":"","tool_calls":[{}]}}"#, requests.join(","));
        let mut events = vec![said("asking", ItemKind::AgentMessage, &content)];
        events.extend(calls.iter().map(|call| asked(call)));
        let mark = JournalMark { epoch: self.active.epoch, ordinal: 0 };
        let commit = Commit::of_run(self.thread.clone(), self.active.run_id.clone());
        self.append(ledger, commit.with_events(events).with_mark(mark)).await;
    }

    /// A child that has served, a thread whose worker is gone, and one that was deleted.
    async fn around(&self, ledger: &Ledger, number: u32) {
        let spawn = Spawn::new(self.thread.clone(), self.active.run_id.clone())
            .with_lifecycle(ThreadLifecycle::Ephemeral);
        let child = self.a_thread(ledger, &self.name("c", number), Some(spawn)).await;
        let run = self.a_run(ledger, &child, "r", Admission::default()).await;
        self.append(ledger, ended(&run, 0, Outcome::success(), Vec::new())).await;
        let left = self.a_thread(ledger, &self.name("l", number), None).await;
        let lease = Some(NewLease { worker_id: self.worker(), ttl: Duration::from_micros(1) });
        self.a_run(ledger, &left, "r", Admission { lease, ..Admission::default() }).await;
        let gone = self.a_thread(ledger, &self.name("d", number), None).await;
        ledger.threads().delete(&self.scope, &gone).await.unwrap();
    }

    /// Folds the first message of the window, and then the note of that, again and again.
    async fn folds(&self, ledger: &Ledger) {
        for _ in 0..self.size {
            let fold = self.fold(ledger).await;
            ledger.fold(&self.scope, fold).await.unwrap();
        }
    }

    /// The fold that is next.
    pub(super) async fn fold(&self, ledger: &Ledger) -> Fold {
        let window = ledger.context().load(&self.scope, &self.thread).await.unwrap();
        let first = BTreeSet::from([window.messages[0].seq()]);
        Fold::new(&window, self.active.run_id.clone(), first, "what was said")
    }
}
