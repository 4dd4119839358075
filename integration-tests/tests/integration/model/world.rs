//! Operations become calls: numbers become ids, and marks follow from where journals stand.

use std::time::Duration;

use runledger_core::{
    Admission, Caller, CancelAction, Category, Claim, Commit, Cursor, EventDraft, EventFilter, EventType,
    Expected, Finish, ItemFilter, ItemId, ItemKind, ItemMark, ItemStatus, JournalMark, Ledger, ListRange,
    MultitaskStrategy, NewLease, NewRun, NewThread, ONCE_TERMINAL, Outcome, OwnerId, Patch, RawJson,
    RunFilter, RunId, RunProgress, RunStatus, RunVisibility, Scope, SeqRange, SourceId, TerminalStatus,
    ThreadId, ThreadPatch, Timestamp, TokenCounts, Transition, UsageDraft, Visibility, WorkerId,
};
use serde_json::Value;

use super::call::Call;
use super::op::{self, Op, Who};

/// What was sent so far, from which later calls follow.
pub(super) struct World {
    case: u64,
    sent: Vec<(Scope, Commit)>,
    cursors: Vec<Cursor>,
}

/// Payloads: a plain one, what databases refuse, numbers that no float holds, one that is cut in traces.
fn payload(number: u8) -> RawJson {
    let text = match number {
        0 => "null".to_owned(),
        1 => r#"{"text":"a\u0000b","key\u0000":1}"#.to_owned(),
        2 => r#"["\udce9","\ud83d\ude00","\uf5e7"]"#.to_owned(),
        3 => r#"{"big":123456789012345678901234567890,"small":-1e-300}"#.to_owned(),
        4 => format!("\"{}\"", "long ".repeat(3_000)),
        5 => r#"{"b":1,"a":2,"a":3}"#.to_owned(),
        6 => "\"\u{2028}\u{10ffff}ü\"".to_owned(),
        _ => r#""text""#.to_owned(),
    };
    RawJson::parse("content", &text).expect("JSON")
}

fn at(second: u8) -> Timestamp {
    Timestamp::from_unix_micros(1_700_000_000_000_000 + i64::from(second) * 1_000_000).expect("a time")
}

fn caller(number: u8) -> Caller {
    let name = ["lead_agent", "subagent:coder", "middleware:title", "cron"][usize::from(number % 4)];
    Caller::new(name).expect("a caller")
}

fn visibility(hidden: bool) -> RunVisibility {
    if hidden { RunVisibility::All } else { RunVisibility::Shown }
}

fn event_type(kind: u8) -> EventType {
    EventType::new(["note", "llm.started", "thought"][usize::from(kind % 3)]).expect("a type")
}

fn shifted(number: u64, by: i8) -> u64 {
    number.saturating_add_signed(by.into())
}

impl World {
    /// A world whose ids no other case has.
    pub(super) fn new(case: u64) -> Self {
        Self { case, sent: Vec::new(), cursors: Vec::new() }
    }

    fn thread(&self, number: u8) -> ThreadId {
        ThreadId::new(format!("c{}-t{number}", self.case)).expect("an id")
    }

    fn run(&self, number: u8) -> RunId {
        RunId::new(format!("c{}-r{number}", self.case)).expect("an id")
    }

    fn owner(&self, number: u8) -> OwnerId {
        OwnerId::new(format!("c{}-o{number}", self.case)).expect("an id")
    }

    fn scope(&self, who: Who) -> Scope {
        match who {
            Who::Owner(number) => Scope::Owner(self.owner(number)),
            Who::System => Scope::System,
        }
    }

    /// A new thread; one that the system makes is the first owner's too, most of the time.
    fn new_thread(&self, who: Who, number: u8, second: u8) -> NewThread {
        NewThread {
            owner_id: (who == Who::System && second % 8 != 7).then(|| self.owner(0)),
            metadata: RawJson::parse("metadata", r#"{"k0":"a\u0000b"}"#).expect("JSON"),
            created_at: at(second),
            ..NewThread::new(self.thread(number))
        }
    }

    fn event(&self, event: &op::Event) -> EventDraft {
        let category = match event.kind {
            0 => Category::Message,
            1 => Category::Trace,
            2 => Category::Reasoning,
            3 => Category::Custom("note".into()),
            4 => Category::Message,
            5 => Category::Lifecycle,
            6 => Category::Error,
            _ => Category::Subagent,
        };
        let draft = match event.item {
            Some((item, status)) => {
                let kinds = [ItemKind::AgentMessage, ItemKind::ToolCall, ItemKind::UserMessage];
                let status = [
                    ItemStatus::InProgress,
                    ItemStatus::Completed,
                    ItemStatus::Failed,
                    ItemStatus::Interrupted,
                ][usize::from(status % 4)]
                .clone();
                let id = ItemId::new(format!("i{item}")).expect("an id");
                EventDraft::item(
                    ItemMark::new(id, kinds[usize::from(item % 3)].clone(), status),
                    category,
                    payload(event.payload),
                )
            }
            None => EventDraft::new(event_type(event.kind), category, payload(event.payload)),
        };
        EventDraft {
            caller: (event.caller > 0).then(|| caller(event.caller)),
            once_key: event.once.map(|key| format!("once-{key}")),
            metadata: (event.payload == 7).then(|| payload(1)),
            created_at: at(event.at),
            ..draft
        }
    }

    fn call_of_model(&self, call: &op::Call) -> UsageDraft {
        let tokens = match call.tokens {
            0 => TokenCounts::default(),
            more => TokenCounts { cache_read: 1, reasoning: 2, ..TokenCounts::of(u64::from(more) * 10, 3) },
        };
        UsageDraft {
            caller: caller(call.caller),
            model: (call.tokens > 1).then(|| format!("model-{}", call.tokens)),
            cost_nanos: (call.tokens > 2).then_some(7),
            child_thread_id: call.child.map(|child| self.thread(child)),
            created_at: at(call.at),
            ..UsageDraft::new(SourceId::new(format!("s{}", call.source)).expect("an id"), tokens)
        }
    }

    /// Model calls that repeat, if any, those of threads that are there: of several faults of a commit it
    /// is open which is told first.
    async fn calls_of_models(&self, calls: &[op::Call], who: Who, ledger: &Ledger) -> Vec<UsageDraft> {
        let mut drafts: Vec<_> = calls.iter().map(|call| self.call_of_model(call)).collect();
        for draft in &mut drafts {
            if let Some(child) = &draft.child_thread_id
                && ledger.threads().head(&self.scope(who), child).await.is_err()
            {
                draft.child_thread_id = None;
            }
        }
        drafts
    }

    /// Where the thread's journal stands, moved by what was drawn; and its active run.
    async fn mark(&self, ledger: &Ledger, thread: u8, mark: op::Mark) -> (JournalMark, Option<RunId>) {
        match ledger.threads().head(&Scope::System, &self.thread(thread)).await {
            Ok(head) => {
                let (epoch, ordinal) =
                    (shifted(head.epoch, mark.epoch), shifted(head.journal_ordinal, mark.ordinal));
                (JournalMark { epoch, ordinal }, head.active_run_id)
            }
            Err(_) => (JournalMark { epoch: 1, ordinal: 0 }, None),
        }
    }

    /// The run; `None` too where the active one is asked for and there is none.
    async fn which(&self, ledger: &Ledger, thread: u8, run: op::Run) -> Option<RunId> {
        match run {
            op::Run::None => None,
            op::Run::Number(number) => Some(self.run(number)),
            op::Run::Active => self.mark(ledger, thread, op::Mark { epoch: 0, ordinal: 0 }).await.1,
        }
    }

    fn range(range: op::Range) -> SeqRange {
        SeqRange {
            limit: range.limit.into(),
            before_seq: range.before.map(u64::from),
            after_seq: range.after.map(u64::from),
        }
    }

    /// A cursor that some listing returned: not always the one that is asked, which a store must bear.
    fn list_range(&self, limit: u8, cursor: Option<u8>) -> ListRange {
        let newest_first = |back: u8| self.cursors.iter().rev().nth(back.into()).cloned();
        ListRange { limit: limit.into(), cursor: cursor.and_then(newest_first) }
    }

    async fn append(&self, drawn: &op::Append, ledger: &Ledger) -> Commit {
        let run_id = self.which(ledger, drawn.thread, drawn.run).await;
        let events = drawn.events.iter().map(|event| self.event(event)).collect();
        let usage = self.calls_of_models(&drawn.usage, drawn.who, ledger).await;
        let head = ledger.threads().head(&Scope::System, &self.thread(drawn.thread)).await;
        let next_seq = head.map_or(1, |head| head.next_seq);
        let mark = match drawn.mark {
            Some(mark) if run_id.is_some() => Some(self.mark(ledger, drawn.thread, mark).await.0),
            Some(_) | None => None,
        };
        let last_ai_message = (drawn.progress && run_id.is_some()).then(|| "said".to_owned());
        let progress = RunProgress { last_ai_message, ..RunProgress::default() };
        Commit {
            run_id,
            mark,
            expected: drawn.expected.map_or(Expected::Any, |off| Expected::NextSeq(shifted(next_seq, off))),
            create_missing: drawn
                .create_missing
                .then(|| self.new_thread(drawn.who, drawn.thread, drawn.thread)),
            events,
            usage,
            progress,
            transition: (drawn.starts && mark.is_some()).then(|| Transition::Start { at: at(30) }),
            ..Commit::new(self.thread(drawn.thread))
        }
    }

    fn admission(&self, drawn: &op::Admit) -> Call {
        let id = ItemId::new("u").expect("an id");
        let said = ItemMark::new(id, ItemKind::UserMessage, ItemStatus::Completed);
        let input = EventDraft {
            created_at: at(drawn.at),
            ..EventDraft::item(said, Category::Message, payload(drawn.input))
        };
        let strategies = MultitaskStrategy::KNOWN;
        let admission = Admission {
            idempotency_key: drawn.key.map(|key| format!("key-{key}")),
            request_hash: drawn.key.map(|_| format!("hash-{}", drawn.hash)),
            multitask_strategy: strategies[usize::from(drawn.strategy) % strategies.len()].clone(),
            lease: drawn.leased.then(|| NewLease {
                worker_id: WorkerId::new("worker").expect("an id"),
                ttl: Duration::from_hours(1),
            }),
            kwargs: RawJson::parse("kwargs", r#"{"k":"\u0000"}"#).expect("JSON"),
            created_at: at(drawn.at),
            ..Admission::default()
        };
        let create_missing = drawn.create_missing.then(|| self.new_thread(drawn.who, drawn.thread, drawn.at));
        let new = NewRun {
            admission,
            input: vec![input],
            create_missing,
            ..NewRun::new(self.thread(drawn.thread), self.run(drawn.run))
        };
        Call::Admit(self.scope(drawn.who), Box::new(new))
    }

    /// The call that an operation is now; `ledger` says where journals stand.
    pub(super) async fn call(&self, op: &Op, ledger: &Ledger) -> Call {
        match op {
            Op::Create { who, thread, at } => {
                Call::Create(self.scope(*who), self.new_thread(*who, *thread, *at))
            }
            Op::Append(drawn) => {
                Call::Append(self.scope(drawn.who), Box::new(self.append(drawn, ledger).await))
            }
            Op::Again { back, skip, take } => self.again(*back, *skip, *take),
            Op::Admit(drawn) => self.admission(drawn),
            Op::Cancel { who, thread, run, action, at: second } => {
                let run = self.which(ledger, *thread, *run).await.unwrap_or_else(|| self.run(0));
                let actions = [CancelAction::Interrupt, CancelAction::Rollback];
                let action = actions[usize::from(action % 2)].clone();
                Call::Cancel(self.scope(*who), self.thread(*thread), run, action, at(*second))
            }
            Op::Interrupt { who, thread, run, epoch, outcome, at: second } => {
                let run = self.which(ledger, *thread, *run).await.unwrap_or_else(|| self.run(0));
                let (mark, _) = self.mark(ledger, *thread, op::Mark { epoch: *epoch, ordinal: 0 }).await;
                let (outcome, _) = end(*outcome, *second);
                let claim = Claim::Epoch(mark.epoch);
                Call::Interrupt(self.scope(*who), self.thread(*thread), run, claim, outcome, at(*second))
            }
            Op::SetVisibility { who, thread, run, visibility } => {
                let visibility =
                    Visibility::KNOWN[usize::from(*visibility) % Visibility::KNOWN.len()].clone();
                Call::SetVisibility(self.scope(*who), self.thread(*thread), self.run(*run), visibility)
            }
            Op::Rewind { who, thread, run } => {
                Call::Rewind(self.scope(*who), self.thread(*thread), self.run(*run))
            }
            Op::Start { who, thread, mark, at: second } => {
                let (mark, active) = self.mark(ledger, *thread, *mark).await;
                let run = active.unwrap_or_else(|| self.run(0));
                let transition = Some(Transition::Start { at: at(*second) });
                let commit = Commit::of_run(self.thread(*thread), run).with_mark(mark);
                Call::Append(self.scope(*who), Box::new(Commit { transition, ..commit }))
            }
            Op::Finish { who, thread, run, mark, outcome, events, usage, at: second } => {
                let run_id = self.which(ledger, *thread, *run).await.unwrap_or_else(|| self.run(0));
                let (mark, _) = self.mark(ledger, *thread, *mark).await;
                let (outcome, terminal) = end(*outcome, *second);
                let events = events.iter().map(|event| self.event(event)).chain([terminal]).collect();
                Call::Finish(
                    self.scope(*who),
                    Box::new(Finish {
                        thread_id: self.thread(*thread),
                        run_id,
                        mark,
                        outcome,
                        at: at(*second),
                        events,
                        usage: self.calls_of_models(usage, *who, ledger).await,
                        progress: RunProgress::default(),
                        asks: Vec::new(),
                    }),
                )
            }
            Op::PutIfAbsent { who, thread, run, event } => {
                let run = self.which(ledger, *thread, *run).await.unwrap_or_else(|| self.run(1));
                Call::PutIfAbsent(self.scope(*who), self.thread(*thread), run, self.event(event))
            }
            Op::Update { who, thread, key, value, at: second } => {
                let value = value.map_or(RawJson::null(), payload);
                let changes = format!(r#"{{"k{key}":{value}}}"#);
                let patch = ThreadPatch {
                    display_name: if *key == 0 { Patch::Clear } else { Patch::Set(format!("\0{key}")) },
                    metadata: Some(RawJson::parse("metadata", &changes).expect("JSON")),
                    ..ThreadPatch::default()
                };
                Call::Update(self.scope(*who), self.thread(*thread), patch, at(*second))
            }
            Op::SetOwner { who, thread, owner } => {
                Call::SetOwner(self.scope(*who), self.thread(*thread), owner.map(|owner| self.owner(owner)))
            }
            Op::DeleteRun { who, thread, run } => {
                Call::DeleteRun(self.scope(*who), self.thread(*thread), self.run(*run))
            }
            Op::DeleteLog { who, thread } => Call::DeleteLog(self.scope(*who), self.thread(*thread)),
            Op::DeleteThread { who, thread } => Call::DeleteThread(self.scope(*who), self.thread(*thread)),
            Op::Reopen | Op::Head { .. } | Op::FindRun { .. } => self.record(op),
            Op::Events { .. }
            | Op::Messages { .. }
            | Op::Items { .. }
            | Op::Count { .. }
            | Op::Usage { .. }
            | Op::LastAi { .. }
            | Op::Runs { .. }
            | Op::Threads { .. } => self.reader(op),
        }
    }

    fn record(&self, op: &Op) -> Call {
        match op {
            Op::FindRun { who, run } => Call::FindRun(self.scope(*who), self.run(*run)),
            Op::Head { who, thread } => Call::Thread(self.scope(*who), self.thread(*thread)),
            _ => Call::Thread(Scope::System, self.thread(0)),
        }
    }

    fn reader(&self, op: &Op) -> Call {
        match op {
            Op::Events { who, thread, run, kind, caller: by, range } => {
                let run_id = run.map(|run| self.run(run));
                // The other filters need a run.
                let filter = EventFilter {
                    event_types: kind.filter(|_| run_id.is_some()).map(event_type).into_iter().collect(),
                    caller: by.filter(|_| run_id.is_some()).map(caller),
                    run_id,
                    task_id: None,
                };
                Call::Events(self.scope(*who), self.thread(*thread), filter, Self::range(*range))
            }
            Op::Messages { who, thread, run: Some(run), range, .. } => Call::MessagesOfRun(
                self.scope(*who),
                self.thread(*thread),
                self.run(*run),
                Self::range(*range),
            ),
            Op::Messages { who, thread, run: None, hidden, range } => Call::Messages(
                self.scope(*who),
                self.thread(*thread),
                visibility(*hidden),
                Self::range(*range),
            ),
            Op::Items { who, thread, run, open, range } => {
                let status = open.then_some(ItemStatus::InProgress);
                let filter = ItemFilter { run_id: run.map(|run| self.run(run)), status };
                Call::Items(self.scope(*who), self.thread(*thread), filter, Self::range(*range))
            }
            Op::Count { who, thread, hidden } => {
                Call::Count(self.scope(*who), self.thread(*thread), visibility(*hidden))
            }
            Op::Usage { who, thread, run: Some(run), after, .. } => Call::UsageOfRun(
                self.scope(*who),
                self.thread(*thread),
                self.run(*run),
                after.map(|after| SourceId::new(format!("s{after}")).expect("an id")),
            ),
            Op::Usage { who, thread, run: None, active, .. } => {
                Call::UsageOfThread(self.scope(*who), self.thread(*thread), *active)
            }
            Op::LastAi { who, thread } => {
                let runs = (0..4).map(|run| self.run(run)).collect();
                Call::LastAi(self.scope(*who), self.thread(*thread), runs)
            }
            Op::Runs { owner, thread, status, limit, cursor } => {
                let filter = RunFilter {
                    thread_id: thread.map(|thread| self.thread(thread)),
                    status: status.and_then(|status| RunStatus::KNOWN.get(usize::from(status)).cloned()),
                    ..RunFilter::default()
                };
                let range = self.list_range(*limit, *cursor);
                Call::Runs(Scope::Owner(self.owner(*owner)), filter, range)
            }
            Op::Threads { owner, limit, cursor } => {
                Call::Threads(Scope::Owner(self.owner(*owner)), self.list_range(*limit, *cursor))
            }
            _ => self.record(op),
        }
    }

    /// Part of a commit that was sent before, as a journal sends it that split or joined its batches.
    fn again(&self, back: u8, skip: u8, take: u8) -> Call {
        let Some((scope, commit)) = self.sent.iter().rev().nth(back.into()) else {
            return Call::Thread(Scope::System, self.thread(0));
        };
        let mut commit = commit.clone();
        let skip = usize::from(skip).min(commit.events.len());
        commit.events.drain(..skip);
        // The end of a run keeps its last event.
        if !matches!(commit.transition, Some(Transition::Finish { .. })) {
            commit.events.truncate(take.into());
        }
        if let Some(mark) = &mut commit.mark {
            mark.ordinal += skip as u64;
        }
        Call::Append(scope.clone(), Box::new(commit))
    }

    /// Remembers what later calls may follow from.
    pub(super) fn note(&mut self, call: Call, answer: &Value) {
        match call {
            Call::Append(scope, commit) => self.sent.push((scope, *commit)),
            Call::Finish(scope, finish) => {
                let transition =
                    Some(Transition::Finish { outcome: finish.outcome, asks: finish.asks, at: finish.at });
                let commit = Commit {
                    usage: finish.usage,
                    transition,
                    ..Commit::of_run(finish.thread_id, finish.run_id)
                        .with_events(finish.events)
                        .with_mark(finish.mark)
                };
                self.sent.push((scope, commit));
            }
            Call::Runs(..) | Call::Threads(..) => {
                let cursor = answer["next_cursor"].as_str().and_then(|text| Cursor::parse(text).ok());
                self.cursors.extend(cursor);
            }
            _ => {}
        }
    }

    /// Every question whose answers together are all that is stored.
    pub(super) fn everything(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        for thread in (0..4).map(|number| self.thread(number)) {
            let (system, range) = (Scope::System, SeqRange::after(0, 1_000));
            let of_thread = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
            calls.extend([
                Call::Thread(system.clone(), thread.clone()),
                Call::Events(system.clone(), thread.clone(), EventFilter::default(), range),
                Call::Items(system.clone(), thread.clone(), ItemFilter::default(), range),
                Call::Index(system.clone(), thread.clone()),
                Call::Count(system.clone(), thread.clone(), RunVisibility::Shown),
                Call::Messages(system.clone(), thread.clone(), RunVisibility::Shown, range),
                Call::UsageOfThread(system.clone(), thread.clone(), true),
                Call::UsageOfThread(system.clone(), thread.clone(), false),
                Call::Runs(system, of_thread, ListRange::newest(100)),
            ]);
        }
        for owner in 0..2 {
            let scope = Scope::Owner(self.owner(owner));
            calls.push(Call::Threads(scope.clone(), ListRange::newest(100)));
            calls.push(Call::Runs(scope, RunFilter::default(), ListRange::newest(100)));
        }
        calls
    }
}

/// An outcome and its terminal event.
fn end(outcome: u8, second: u8) -> (Outcome, EventDraft) {
    let (status, error) = match outcome {
        0 => (TerminalStatus::Success, None),
        1 => (TerminalStatus::Error, Some("no\0luck".to_owned())),
        2 => (TerminalStatus::Timeout, None),
        3 => (TerminalStatus::Interrupted, None),
        _ => (TerminalStatus::BudgetExhausted, None),
    };
    let terminal = EventDraft {
        once_key: Some(ONCE_TERMINAL.to_owned()),
        created_at: at(second),
        ..EventDraft::new(EventType::from_stored(status.event_type()), Category::Lifecycle, RawJson::null())
    };
    (Outcome { status, error, stop_reason: None }, terminal)
}
