//! What a file becomes in the ledger, and the writing of it.
//!
//! A run is admitted with its input, started, appended to by marked commits, and finished.
//! Each step is decided by the plan alone, so whoever repeats it after a crash is answered
//! with what is stored and writes only the rest.

use std::path::{Path, PathBuf};

use runledger_core::{
    Admission, Category, Commit, Error, ErrorKind, EventDraft, EventType, ItemId, ItemMark, JournalMark,
    Ledger, Limits, NewThread, Outcome, RawJson, Run, RunId, RunProgress, RunStatus, Scope, ThreadId,
    Timestamp, Transition, UsageDraft, event_type, text,
};

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

impl ThreadPlan {
    /// Refuses a plan that no store takes whole, without asking one.
    pub(crate) fn require_storable(&self) -> Result<(), Failure> {
        self.runs.iter().try_for_each(|run| {
            run.require_storable(&self.thread).map_err(|reason| {
                Failure::file(&self.file, format!("run {:?}: {reason}", run.run_id.as_str()))
            })
        })
    }
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

/// The record of an item with this payload, and where it is from.
pub(crate) fn record<T: serde::Serialize>(
    mark: ItemMark,
    category: Category,
    payload: &T,
    from: Option<&runledger_core::Origin>,
    at: Timestamp,
) -> Result<EventDraft, Error> {
    let content = RawJson::encode("content", payload)?;
    Ok(EventDraft { metadata: from.and_then(origin), ..item(mark, category, content, at) })
}

/// Where a message is from, as an event's metadata.
fn origin(origin: &runledger_core::Origin) -> Option<RawJson> {
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

    /// Everything of the run as it is appended: the admission, the log, the end. The epoch of the
    /// marks is whichever the admission opens.
    fn commits(&self, thread: &NewThread) -> Vec<Commit> {
        let of_run = || Commit::of_run(thread.thread_id.clone(), self.run_id.clone());
        let mut commits = vec![Commit {
            create_missing: Some(thread.clone()),
            transition: Some(Transition::Admit(Box::new(self.admission.clone()))),
            events: self.input.clone(),
            ..of_run()
        }];
        let mut mark = JournalMark { epoch: 0, ordinal: 0 };
        for (index, batch) in self.batches().into_iter().enumerate() {
            let transition = (index == 0).then_some(Transition::Start { at: self.admission.created_at });
            let sent = batch.events.len() as u64;
            commits.push(Commit {
                mark: Some(mark),
                events: batch.events,
                usage: batch.usage,
                transition,
                ..of_run()
            });
            mark.ordinal += sent;
        }
        commits.push(Commit {
            mark: Some(mark),
            events: vec![EventDraft::terminal(&self.outcome, None, self.finished_at)],
            progress: self.progress.clone(),
            transition: Some(Transition::Finish {
                outcome: self.outcome.clone(),
                asks: Vec::new(),
                at: self.finished_at,
            }),
            ..of_run()
        });
        commits
    }

    /// Refuses what no store takes. A store would refuse it too, but only after the commits before it.
    fn require_storable(&self, thread: &NewThread) -> Result<(), String> {
        self.commits(thread).into_iter().try_for_each(|commit| {
            commit.prepare(&Limits::default()).map(drop).map_err(|error| error.to_string())
        })
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

/// Checks, without writing, that the thread is new or the scope's: a store says so only when the
/// files before it are written.
pub(crate) async fn require_free(
    ledger: &Ledger,
    scope: &Scope,
    file: &Path,
    thread: &ThreadId,
) -> Result<(), Failure> {
    match ledger.threads().head(&Scope::System, thread).await {
        Ok(head) if scope.sees(head.owner_id.as_ref()) => Ok(()),
        Ok(_) => Err(Failure::Taken { file: file.to_owned(), thread: thread.to_string() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::from(error).in_file(file)),
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
            stored => {
                summary.runs += 1;
                append(ledger, scope, plan, run, stored.as_ref(), summary).await?;
            }
        }
    }
    summary.threads += u64::from(summary.runs > before);
    Ok(())
}

/// Appends the run's commits, from the admission or, where an import was cut off, from what it left.
async fn append(
    ledger: &Ledger,
    scope: &Scope,
    plan: &ThreadPlan,
    run: &RunPlan,
    stored: Option<&Run>,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let mut epoch = stored.map_or(0, |run| run.epoch);
    for mut commit in run.commits(&plan.thread) {
        match (&commit.transition, stored) {
            (Some(Transition::Admit(_)), Some(_)) => continue,
            (Some(Transition::Start { .. }), Some(run)) if run.status != RunStatus::Pending => {
                commit.transition = None;
            }
            _ => {}
        }
        if let Some(mark) = &mut commit.mark {
            mark.epoch = epoch;
        }
        let admission = matches!(commit.transition, Some(Transition::Admit(_)));
        let (events, usage) = (commit.events.clone(), commit.usage.clone());
        let receipt = match ledger.events().append(scope, commit).await {
            Ok(receipt) => receipt,
            // Another import of the same file may have come first.
            Err(error) if matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::Conflict) => {
                match run.stored(ledger, scope, &plan.thread.thread_id).await? {
                    Some(run) if run.status.is_terminal() => return Ok(()),
                    _ => return Err(error.into()),
                }
            }
            // The admission makes a thread that is missing; one that was deleted is never made anew.
            Err(error) if admission && error.kind() == ErrorKind::NotFound => {
                return Err(Failure::Taken {
                    file: plan.file.clone(),
                    thread: plan.thread.thread_id.to_string(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        epoch = receipt.epoch;
        let new = events.get(receipt.already_stored..).unwrap_or_default();
        count(new, summary);
        if !new.is_empty() {
            usage.iter().for_each(|call| summary.add_usage(call));
        }
    }
    Ok(())
}

fn count(events: &[EventDraft], summary: &mut Summary) {
    summary.events += events.len() as u64;
    summary.messages += events.iter().filter(|event| event.category == Category::Message).count() as u64;
}
