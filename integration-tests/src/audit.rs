//! Looks at what is stored, after something was broken: is everything there that was acknowledged,
//! once, in order, and do the numbers agree?

use std::collections::BTreeMap;

use runledger_core::{
    Event, EventFilter, Ledger, MAX_LIMIT, Result, Run, RunId, RunStatus, RunVisibility, Scope, SeqRange,
    ThreadId, UsageRecord,
};

use crate::script::{RunScript, ThreadScript};

/// What was found, over any number of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Events that were to be there, and are.
    pub found: u64,
    /// Events that are there once too often.
    pub duplicates: u64,
    /// Seqs that were given away and belong to no event, but for those of deleted ones.
    pub holes: u64,
    /// Runs that have not ended.
    pub stuck: u64,
    /// What is wrong, for people.
    pub faults: Vec<String>,
}

impl Audit {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Self) {
        self.found += other.found;
        self.duplicates += other.duplicates;
        self.holes += other.holes;
        self.stuck += other.stuck;
        self.faults.extend(other.faults);
    }

    fn require(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// A thread whose script was told to its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn thread(ledger: &Ledger, script: &ThreadScript) -> Result<Self> {
        let deleted = script.scratch.labels().len() as u64;
        let mut audit = Self::runs(ledger, &script.thread, &script.runs, deleted).await?;
        let thread = ledger.threads().get(&Scope::System, &script.thread).await?;
        for run in script.runs.iter().chain([&script.scratch]) {
            let edited = thread.metadata.as_str().contains(run.run.as_str());
            audit.require(edited, || format!("the edit after run {} is not there", run.run));
        }
        Ok(audit)
    }

    /// A thread on which these runs, and nothing else but `deleted` events that are gone, were told
    /// to their ends.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn runs(
        ledger: &Ledger,
        thread: &ThreadId,
        scripts: &[RunScript],
        deleted: u64,
    ) -> Result<Self> {
        let mut audit = Self::default();
        let events = log(ledger, thread).await?;
        let head = ledger.threads().head(&Scope::System, thread).await?;
        audit.holes = head.next_seq.saturating_sub(1 + deleted + events.len() as u64);
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        audit.require(seqs.iter().copied().eq(1..=events.len() as u64), || {
            format!("the seqs of thread {thread} are not 1 to {}: {seqs:?}", events.len())
        });
        audit.require(head.next_seq == 1 + deleted + events.len() as u64, || {
            format!("the next seq of thread {thread} is {}", head.next_seq)
        });
        audit.require(head.active_run_id.is_none(), || format!("thread {thread} has an active run"));
        let messages = ledger.events().count_messages(&Scope::System, thread, RunVisibility::All).await?;
        let counted = events.iter().filter(|event| event.category.as_str() == "message").count() as u64;
        audit.require(messages == counted, || format!("{counted} messages, counted as {messages}"));
        let told: usize = scripts.iter().map(|script| script.labels().len()).sum();
        audit.require(told == events.len(), || format!("{} events of {told} on {thread}", events.len()));
        for script in scripts {
            audit.run(ledger, script, &events).await?;
        }
        Ok(audit)
    }

    async fn run(&mut self, ledger: &Ledger, script: &RunScript, events: &[Event]) -> Result<()> {
        let id = &script.run;
        let (expected, stored) = (script.labels(), labels(events, id));
        let wanted_labels = count(&expected);
        for (label, times) in count(&stored) {
            let wanted = wanted_labels.get(&label).copied().unwrap_or_default();
            self.found += times.min(wanted);
            self.duplicates += times.saturating_sub(wanted);
        }
        self.require(stored == expected, || format!("run {id} has {stored:?}, not {expected:?}"));
        let run = ledger.runs().get(&Scope::System, &script.thread, id).await?;
        self.stuck += u64::from(!run.status.is_terminal());
        self.require(run.status == RunStatus::Success, || format!("run {id} is {}", run.status));
        let calls = calls(ledger, &run).await?;
        let tokens: u64 = calls.iter().map(|call| call.tokens.total).sum();
        self.require(calls.len() as u64 == script.steps, || format!("run {id} has {} calls", calls.len()));
        let totals = (run.totals.llm_calls, run.totals.total_tokens);
        self.require(tokens == script.total_tokens() && totals == (calls.len() as u64, tokens), || {
            format!(
                "run {id} took {}, {tokens} in its records, {totals:?} in its totals",
                script.total_tokens()
            )
        });
        let items = ledger
            .items()
            .list(
                &Scope::System,
                &script.thread,
                &runledger_core::ItemFilter { run_id: Some(id.clone()), status: None },
                &SeqRange::after(0, MAX_LIMIT),
            )
            .await?;
        let open = items.items.iter().filter(|item| item.status.as_str() == "in_progress").count();
        let wanted = (script.steps * 2 + 1).min(MAX_LIMIT.into());
        self.require(items.items.len() as u64 == wanted && open == 0, || {
            format!("run {id} has {} items, {open} of them open", items.items.len())
        });
        Ok(())
    }
}

/// Whether the first `count` events of a run are there, once and in order; else what is.
///
/// # Errors
/// When the thread cannot be read.
pub async fn has_prefix(
    ledger: &Ledger,
    script: &RunScript,
    count: u64,
) -> Result<std::result::Result<(), String>> {
    let stored = labels(&log(ledger, &script.thread).await?, &script.run);
    let expected = script.labels();
    let known = stored.len() <= expected.len() && expected[..stored.len()] == stored;
    Ok(if known && stored.len() as u64 >= count {
        Ok(())
    } else {
        Err(format!("of run {} {count} events were acknowledged, and {stored:?} are there", script.run))
    })
}

/// Every event of the thread, page by page.
///
/// # Errors
/// When it cannot be read.
pub async fn log(ledger: &Ledger, thread: &ThreadId) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let range = SeqRange::after(events.last().map_or(0, |event| event.seq), MAX_LIMIT);
        let page =
            ledger.events().list_events(&Scope::System, thread, &EventFilter::default(), &range).await?;
        events.extend(page.items);
        if !page.has_more {
            return Ok(events);
        }
    }
}

async fn calls(ledger: &Ledger, run: &Run) -> Result<Vec<UsageRecord>> {
    let mut calls: Vec<UsageRecord> = Vec::new();
    loop {
        let after = calls.last().map(|call| call.source_id.clone());
        let (thread, run) = (&run.thread_id, &run.run_id);
        let page = ledger.usage().list_by_run(&Scope::System, thread, run, after.as_ref(), MAX_LIMIT).await?;
        let full = page.len() == MAX_LIMIT as usize;
        calls.extend(page);
        if !full {
            return Ok(calls);
        }
    }
}

fn labels(events: &[Event], run: &RunId) -> Vec<String> {
    events.iter().filter(|event| event.run_id.as_ref() == Some(run)).map(RunScript::label).collect()
}

fn count(labels: &[String]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for label in labels {
        *counts.entry(label.clone()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use runledger_core::{Category, Commit, EventDraft, EventType, MemoryLedger, RawJson};

    use super::*;

    async fn told(script: &ThreadScript) -> Ledger {
        let ledger = MemoryLedger::new().ledger();
        script.tell(&ledger, 2, &|_| ()).await.unwrap();
        ledger
    }

    async fn append(ledger: &Ledger, run: &RunScript, event: EventDraft) {
        let commit = Commit::of_run(run.thread.clone(), run.run.clone()).with_events(vec![event]);
        ledger.events().append(&Scope::System, commit).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_was_told_twice_is_as_one_that_was_told_once() {
        let script = ThreadScript::new(5, 10);
        let ledger = told(&script).await;
        script.tell(&ledger, 3, &|_| ()).await.unwrap();
        let audit = Audit::thread(&ledger, &script).await.unwrap();
        let events = script.runs.iter().map(|run| run.labels().len() as u64).sum();
        assert_eq!(audit, Audit { found: events, ..Audit::default() });
        for run in &script.runs {
            assert_eq!(has_prefix(&ledger, run, run.labels().len() as u64).await.unwrap(), Ok(()));
            assert!(has_prefix(&ledger, run, run.labels().len() as u64 + 1).await.unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn what_is_missing_doubled_or_open_is_found() {
        let script = ThreadScript::new(5, 10);
        let (first, second) = (&script.runs[0], &script.runs[1]);

        // An event that is there twice.
        let ledger = told(&script).await;
        let doubled = log(&ledger, &script.thread).await.unwrap().swap_remove(2);
        let again = EventDraft {
            item: doubled.item,
            ..EventDraft::new(doubled.event_type, doubled.category, doubled.content)
        };
        append(&ledger, first, again).await;
        let audit = Audit::thread(&ledger, &script).await.unwrap();
        assert_eq!((audit.duplicates, audit.holes), (1, 0));
        assert!(!audit.faults.is_empty());
        assert!(has_prefix(&ledger, first, 3).await.unwrap().is_err());

        // A run that is gone, and its seqs with it.
        let ledger = told(&script).await;
        ledger.events().delete_by_run(&Scope::System, &script.thread, &first.run).await.unwrap();
        let audit = Audit::runs(&ledger, &script.thread, std::slice::from_ref(second), 0).await.unwrap();
        let gone = (first.labels().len() + script.scratch.labels().len()) as u64;
        assert_eq!((audit.holes, audit.duplicates), (gone, 0));
        assert!(!audit.faults.is_empty());

        // A run that has not ended, and an event that nobody told.
        let ledger = MemoryLedger::new().ledger();
        let create = runledger_core::NewThread::new(script.thread.clone());
        ledger.threads().create(&Scope::System, create).await.unwrap();
        let new = runledger_core::NewRun::new(script.thread.clone(), first.run.clone());
        ledger.admit(&Scope::System, new).await.unwrap();
        let note = EventType::new("note").unwrap();
        append(&ledger, first, EventDraft::new(note, Category::Trace, RawJson::null())).await;
        let audit = Audit::runs(&ledger, &script.thread, std::slice::from_ref(first), 0).await.unwrap();
        assert_eq!((audit.found, audit.duplicates, audit.stuck), (0, 1, 1));
    }
}
