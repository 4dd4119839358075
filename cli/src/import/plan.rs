//! What a file becomes in the ledger, and the writing of it.
//!
//! A run is admitted with its input, started, appended to by marked commits, and finished.
//! Each step is decided by the plan alone, so whoever repeats it after a crash is answered
//! with what is stored and writes only the rest.

use std::path::PathBuf;

use runledger_core::{
    Admission, Category, Commit, ErrorKind, EventDraft, EventType, Finish, ItemId, ItemMark, JournalMark,
    Ledger, NewRun, NewThread, ONCE_TERMINAL, Outcome, RawJson, Run, RunId, RunProgress, RunStatus, Scope,
    ThreadId, Timestamp, Transition, UsageDraft, event_type, text,
};
use serde_json::{Map, Value};

use super::Summary;
use crate::Failure;

/// Events in one commit, groups permitting.
const BATCH_EVENTS: usize = 500;
/// Bytes of payload in one commit, groups permitting.
const BATCH_BYTES: usize = 4 << 20;

/// What a file becomes.
#[derive(Clone, Debug)]
pub(crate) struct ThreadPlan {
    pub(crate) file: PathBuf,
    pub(crate) thread: NewThread,
    pub(crate) runs: Vec<RunPlan>,
}

/// One run of it.
#[derive(Clone, Debug)]
pub(crate) struct RunPlan {
    pub(crate) run_id: RunId,
    pub(crate) admission: Admission,
    pub(crate) input: Vec<EventDraft>,
    pub(crate) groups: Vec<Group>,
    pub(crate) progress: RunProgress,
    pub(crate) outcome: Outcome,
    pub(crate) finished_at: Timestamp,
}

/// Records that are stored in one commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) events: Vec<EventDraft>,
    pub(crate) usage: Vec<UsageDraft>,
}

impl Group {
    pub(crate) fn of(events: Vec<EventDraft>) -> Self {
        Self { events, usage: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.content.as_str().len()).sum()
    }
}

/// What the admission of an imported run says: the fingerprint tells the same recording from another.
pub(crate) fn admission(format: &str, source: &str, created_at: Timestamp) -> Admission {
    Admission {
        request_hash: Some(format!("{format}:{}", text::fingerprint(source))),
        created_at,
        ..Admission::default()
    }
}

/// The record of an item.
pub(crate) fn item(mark: ItemMark, category: Category, content: RawJson, at: Timestamp) -> EventDraft {
    EventDraft {
        caller: Some(runledger_core::Caller::lead_agent()),
        created_at: at,
        ..EventDraft::item(mark, category, content)
    }
}

/// Where a message is from, as an event's metadata.
pub(crate) fn origin(origin: &runledger_core::Origin) -> Option<RawJson> {
    Some(RawJson::from(serde_json::json!({ "origin": origin.as_str() })))
}

/// A record of no item.
pub(crate) fn event(kind: &str, category: Category, content: RawJson, at: Timestamp) -> EventDraft {
    EventDraft { created_at: at, ..EventDraft::new(EventType::from_stored(kind), category, content) }
}

/// The completion of an item that the recording leaves open.
pub(crate) fn interrupted(item_id: ItemId, open: &ItemMark, content: RawJson, at: Timestamp) -> EventDraft {
    let mark = ItemMark { item_id, status: runledger_core::ItemStatus::Interrupted, ..open.clone() };
    EventDraft {
        metadata: origin(&runledger_core::Origin::RunEnd),
        ..item(mark, Category::Message, content, at)
    }
}

impl RunPlan {
    fn started(&self) -> EventDraft {
        let content = RawJson::from(serde_json::json!({ "run_id": self.run_id.as_str() }));
        event(event_type::RUN_STARTED, Category::Lifecycle, content, self.admission.created_at)
    }

    fn terminal(&self) -> EventDraft {
        let mut content = Map::new();
        content.insert("status".to_owned(), Value::from(self.outcome.status.status().as_str()));
        if let Some(reason) = &self.outcome.stop_reason {
            content.insert("stop_reason".to_owned(), Value::from(reason.as_str()));
        }
        if let Some(error) = &self.outcome.error {
            content.insert("error".to_owned(), Value::from(error.as_str()));
        }
        let content = RawJson::from(Value::Object(content));
        EventDraft {
            once_key: Some(ONCE_TERMINAL.to_owned()),
            ..event(self.outcome.status.event_type(), Category::Lifecycle, content, self.finished_at)
        }
    }

    /// The groups as commits take them; the first begins with the run's start.
    fn batches(&self) -> Vec<Group> {
        let mut batches = vec![Group::of(vec![self.started()])];
        let mut bytes = 0;
        for group in &self.groups {
            let size = group.bytes();
            let full = batches.last().is_none_or(|last| {
                !last.events.is_empty()
                    && (last.events.len() + group.events.len() > BATCH_EVENTS || bytes + size > BATCH_BYTES)
            });
            if full {
                batches.push(Group::default());
                bytes = 0;
            }
            bytes += size;
            if let Some(last) = batches.last_mut() {
                last.events.extend(group.events.iter().cloned());
                last.usage.extend(group.usage.iter().cloned());
            }
        }
        batches
    }

    async fn stored(
        &self,
        ledger: &Ledger,
        scope: &Scope,
        thread: &ThreadId,
    ) -> Result<Option<Run>, Failure> {
        match ledger.runs().get(scope, thread, &self.run_id).await {
            Ok(run) => Ok(Some(run)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Checks, without writing, that nothing of the plan is in the ledger with other content.
pub(crate) async fn check(ledger: &Ledger, scope: &Scope, plan: &ThreadPlan) -> Result<(), Failure> {
    for run in &plan.runs {
        if let Some(stored) = run.stored(ledger, scope, &plan.thread.thread_id).await?
            && stored.request_hash != run.admission.request_hash
        {
            return Err(Failure::Changed { file: plan.file.clone(), run: run.run_id.to_string() });
        }
    }
    Ok(())
}

/// Writes what is not in the ledger yet, and adds it to the summary.
pub(crate) async fn write(
    ledger: &Ledger,
    scope: &Scope,
    plan: &ThreadPlan,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let before = summary.runs;
    for run in &plan.runs {
        match run.stored(ledger, scope, &plan.thread.thread_id).await? {
            Some(stored) if stored.request_hash != run.admission.request_hash => {
                return Err(Failure::Changed { file: plan.file.clone(), run: run.run_id.to_string() });
            }
            Some(stored) if stored.status.is_terminal() => summary.skipped += 1,
            Some(stored) => {
                summary.runs += 1;
                append(ledger, scope, plan, run, &stored, summary).await?;
            }
            None => {
                let admitted = ledger.admit(scope, new_run(plan, run)).await?.run;
                summary.runs += 1;
                count(&run.input, summary);
                append(ledger, scope, plan, run, &admitted, summary).await?;
            }
        }
    }
    summary.threads += u64::from(summary.runs > before);
    Ok(())
}

fn new_run(plan: &ThreadPlan, run: &RunPlan) -> NewRun {
    NewRun {
        admission: run.admission.clone(),
        input: run.input.clone(),
        create_missing: Some(plan.thread.clone()),
        ..NewRun::new(plan.thread.thread_id.clone(), run.run_id.clone())
    }
}

async fn append(
    ledger: &Ledger,
    scope: &Scope,
    plan: &ThreadPlan,
    run: &RunPlan,
    stored: &Run,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let thread = &plan.thread.thread_id;
    let mut mark = JournalMark { epoch: stored.epoch, ordinal: 0 };
    for (index, batch) in run.batches().into_iter().enumerate() {
        // An import that was cut off had started the run already.
        let start = index == 0 && stored.status == RunStatus::Pending;
        let sent = batch.events.len() as u64;
        let commit = Commit {
            mark: Some(mark),
            usage: batch.usage.clone(),
            transition: start.then_some(Transition::Start { at: run.admission.created_at }),
            ..Commit::of_run(thread.clone(), run.run_id.clone())
        };
        let receipt = ledger.events().append(scope, commit.with_events(batch.events.clone())).await?;
        mark.ordinal += sent;
        let new = batch.events.get(receipt.already_stored..).unwrap_or_default();
        count(new, summary);
        if !new.is_empty() {
            batch.usage.iter().for_each(|call| summary.add_usage(call));
        }
    }
    let terminal = vec![run.terminal()];
    let finished = ledger
        .finish(
            scope,
            Finish {
                thread_id: thread.clone(),
                run_id: run.run_id.clone(),
                mark,
                outcome: run.outcome.clone(),
                at: run.finished_at,
                events: terminal.clone(),
                usage: Vec::new(),
                progress: run.progress.clone(),
            },
        )
        .await?;
    if finished.receipt.is_some_and(|receipt| receipt.already_stored == 0) {
        count(&terminal, summary);
    }
    Ok(())
}

fn count(events: &[EventDraft], summary: &mut Summary) {
    summary.events += events.len() as u64;
    summary.messages += events.iter().filter(|event| event.category == Category::Message).count() as u64;
}
