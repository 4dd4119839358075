//! The log's side of an import: lines wait in a batch and are stored in order, each commit at the seq that
//! the one before left.
//!
//! Events are appended without marks, so a run may have ended before its last line comes. What makes an import
//! exactly-once is the expected seq: two importers of one file cannot both write the next line.

use runledger_core::{
    Admission, BLOB_BYTES, Category, Claim, Commit, Event, EventDraft, EventFilter, Expected, ItemEntry,
    ItemFilter, ItemMark, ItemStatus, JournalMark, Ledger, MultitaskStrategy, NewBlob, NewThread, Outcome,
    Quarantined, RawJson, Receipt, RunId, RunProgress, Scope, SeqPage, SeqRange, ThreadId, Timestamp,
    Transition, UsageDraft, offload,
};

use crate::Failure;
use crate::import::Summary;
use crate::import::plan;

/// Lines in one commit.
const BATCH_EVENTS: usize = 500;
/// Bytes of payload in one commit.
const BATCH_BYTES: usize = 4 << 20;

/// Lines that wait, all of one run or all of none.
#[derive(Debug, Default)]
struct Batch {
    run: Option<RunId>,
    events: Vec<EventDraft>,
    usage: Vec<UsageDraft>,
    progress: RunProgress,
    blobs: Vec<NewBlob>,
    bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.usage.is_empty() && self.progress.is_empty()
    }
}

/// Writes one thread.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    pub(crate) thread: ThreadId,
    /// The thread, where the first commit makes it.
    new: Option<NewThread>,
    next_seq: u64,
    batch: Batch,
    /// What is no record, until it is stored with the lines around it.
    bad: Vec<Quarantined>,
    pub(crate) summary: &'a mut Summary,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        ledger: &'a Ledger,
        scope: &'a Scope,
        new: NewThread,
        next_seq: Option<u64>,
        summary: &'a mut Summary,
    ) -> Self {
        let thread = new.thread_id.clone();
        let (next_seq, new) = match next_seq {
            Some(next_seq) => (next_seq, None),
            None => (1, Some(new)),
        };
        Self { ledger, scope, thread, new, next_seq, batch: Batch::default(), bad: Vec::new(), summary }
    }

    pub(crate) fn ledger(&self) -> &'a Ledger {
        self.ledger
    }

    pub(crate) fn scope(&self) -> &'a Scope {
        self.scope
    }

    /// Adds a line.
    pub(crate) async fn add(&mut self, run: Option<&RunId>, mut event: EventDraft) -> Result<(), Failure> {
        self.turn_to(run).await?;
        if self.batch.events.len() >= BATCH_EVENTS || self.batch.bytes >= BATCH_BYTES {
            self.flush().await?;
            self.batch.run = run.cloned();
        }
        if let Some((content, blobs)) = offload(&event.content, self.batch.events.len(), BLOB_BYTES) {
            event.content = content;
            self.batch.bytes += blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
            self.batch.blobs.extend(blobs);
        }
        let metadata = event.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len());
        self.batch.bytes += event.content.as_str().len() + metadata;
        self.batch.events.push(event);
        Ok(())
    }

    /// Adds a model call to the last line.
    pub(crate) async fn add_usage(&mut self, run: Option<&RunId>, call: UsageDraft) -> Result<(), Failure> {
        self.turn_to(run).await?;
        self.batch.usage.push(call);
        Ok(())
    }

    /// Says more of the run of the last line.
    pub(crate) async fn tell(&mut self, run: &RunId, progress: RunProgress) -> Result<(), Failure> {
        self.turn_to(Some(run)).await?;
        let told = &mut self.batch.progress;
        told.first_human_message = told.first_human_message.take().or(progress.first_human_message);
        told.last_ai_message = progress.last_ai_message.or(told.last_ai_message.take());
        told.model_name = told.model_name.take().or(progress.model_name);
        Ok(())
    }

    /// Keeps what is no record.
    pub(crate) async fn quarantine(&mut self, part: Quarantined) -> Result<(), Failure> {
        self.bad.push(part);
        if self.bad.len() >= BATCH_EVENTS || self.bad.iter().map(size).sum::<usize>() >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn turn_to(&mut self, run: Option<&RunId>) -> Result<(), Failure> {
        if self.batch.run.as_ref() != run {
            self.flush().await?;
            self.batch.run = run.cloned();
        }
        Ok(())
    }

    /// Stores what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        // Before the lines around it: from the last line of the log on a file is read again, and nothing before it.
        if !self.bad.is_empty() {
            self.make().await?;
            let bad = std::mem::take(&mut self.bad);
            self.summary.quarantined +=
                self.ledger.imports().quarantine(self.scope, &self.thread, bad).await?;
        }
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            let commit = Commit {
                run_id: batch.run,
                usage: batch.usage,
                progress: batch.progress,
                blobs: batch.blobs,
                ..Commit::new(self.thread.clone()).with_events(batch.events)
            };
            self.append(commit).await?;
        }
        Ok(())
    }

    /// Stores what waits, and makes the thread though it has no line.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        self.flush().await?;
        self.make().await
    }

    async fn make(&mut self) -> Result<(), Failure> {
        if let Some(new) = self.new.take() {
            self.ledger.threads().create(self.scope, new).await?;
            self.summary.threads += 1;
        }
        Ok(())
    }

    async fn append(&mut self, mut commit: Commit) -> Result<Receipt, Failure> {
        commit.expected = Expected::NextSeq(self.next_seq);
        commit.create_missing = self.new.clone();
        let events = commit.events.len() as u64;
        let is_message = |event: &&EventDraft| event.category == Category::Message;
        let messages = commit.events.iter().filter(is_message).count() as u64;
        let usage = commit.usage.clone();
        let receipt = self.ledger.events().append(self.scope, commit).await?;
        self.summary.threads += u64::from(self.new.take().is_some());
        self.summary.events += events;
        self.summary.messages += messages;
        usage.iter().for_each(|call| self.summary.add_usage(call));
        self.next_seq = receipt.next_seq;
        Ok(receipt)
    }

    /// Admits a turn and gives it the slot; returns its epoch.
    pub(crate) async fn begin(&mut self, run: &RunId, at: Timestamp) -> Result<u64, Failure> {
        self.flush().await?;
        let admission = Admission { created_at: at, ..Admission::default() };
        let transition = Some(Transition::Admit(Box::new(admission)));
        let of_run = || Commit::of_run(self.thread.clone(), run.clone());
        let epoch = self.append(Commit { transition, ..of_run() }).await?.epoch;
        self.summary.runs += 1;
        self.start(run, epoch, at).await?;
        Ok(epoch)
    }

    /// Says that an admitted turn goes on.
    pub(crate) async fn start(&mut self, run: &RunId, epoch: u64, at: Timestamp) -> Result<(), Failure> {
        let commit = Commit {
            mark: Some(JournalMark { epoch, ordinal: 0 }),
            transition: Some(Transition::Start { at }),
            ..Commit::of_run(self.thread.clone(), run.clone())
        };
        self.append(commit).await?;
        Ok(())
    }

    /// Makes a turn that never gets the slot: it ends while it waits, and its lines are late.
    pub(crate) async fn begin_ended(
        &mut self,
        run: &RunId,
        reason: &str,
        at: Timestamp,
    ) -> Result<(), Failure> {
        self.flush().await?;
        let admission = Admission {
            multitask_strategy: MultitaskStrategy::Enqueue,
            created_at: at,
            ..Admission::default()
        };
        let transition = Some(Transition::Admit(Box::new(admission)));
        self.append(Commit { transition, ..Commit::of_run(self.thread.clone(), run.clone()) }).await?;
        self.summary.runs += 1;
        self.interrupt(run, 0, reason, at).await
    }

    /// Ends a turn whose end no line tells; what it has open is closed.
    pub(crate) async fn interrupt(
        &mut self,
        run: &RunId,
        epoch: u64,
        reason: &str,
        at: Timestamp,
    ) -> Result<(), Failure> {
        self.flush().await?;
        let (outcome, claim) = (Outcome::interrupted(reason), Claim::Epoch(epoch));
        let transition = Some(Transition::Interrupt { outcome, claim, at });
        self.append(Commit { transition, ..Commit::of_run(self.thread.clone(), run.clone()) }).await?;
        Ok(())
    }

    /// Ends a turn as its last line says. The line is part of the same commit.
    pub(crate) async fn finish(
        &mut self,
        run: &RunId,
        epoch: u64,
        outcome: Outcome,
        last: EventDraft,
        at: Timestamp,
    ) -> Result<(), Failure> {
        self.flush().await?;
        let events = vec![last, EventDraft::terminal(&outcome, None, at)];
        let commit = Commit {
            mark: Some(JournalMark { epoch, ordinal: 0 }),
            transition: Some(Transition::Finish { outcome, asks: Vec::new(), at }),
            ..Commit::of_run(self.thread.clone(), run.clone()).with_events(events)
        };
        self.append(commit).await?;
        Ok(())
    }

    /// Whether a turn has anything open.
    pub(crate) async fn has_open_items(&mut self, run: &RunId) -> Result<bool, Failure> {
        self.flush().await?;
        let page = self.open_page(run, &SeqRange::after(0, 1)).await?;
        Ok(!page.items.is_empty())
    }

    async fn open_page(&self, run: &RunId, range: &SeqRange) -> Result<SeqPage<ItemEntry>, Failure> {
        let filter = ItemFilter { run_id: Some(run.clone()), status: Some(ItemStatus::InProgress) };
        Ok(self.ledger.items().list(self.scope, &self.thread, &filter, range).await?)
    }

    /// The records that began what a turn has open.
    pub(crate) async fn open_items(&mut self, run: &RunId) -> Result<Vec<Event>, Failure> {
        self.flush().await?;
        let mut open = Vec::new();
        let mut after = 0;
        loop {
            let page = self.open_page(run, &SeqRange::after(after, 1_000)).await?;
            for item in &page.items {
                after = item.started_seq;
                open.extend(self.event(item.started_seq).await?);
            }
            if !page.has_more {
                return Ok(open);
            }
        }
    }

    /// The event with this number.
    pub(crate) async fn event(&self, seq: u64) -> Result<Option<Event>, Failure> {
        let range = SeqRange { limit: 1, after_seq: Some(seq.saturating_sub(1)), before_seq: Some(seq + 1) };
        let filter = EventFilter::default();
        let page = self.ledger.events().list_events(self.scope, &self.thread, &filter, &range).await?;
        Ok(page.items.into_iter().next())
    }
}

fn size(part: &Quarantined) -> usize {
    part.content.as_ref().map_or(0, String::len)
}

/// The end of an item that no line tells.
pub(crate) fn closing(started: &Event, at: Timestamp) -> Option<EventDraft> {
    let mark = started.item.clone()?;
    let category = if mark.call_id.is_some() { Category::Message } else { started.category.clone() };
    let mark = ItemMark { status: ItemStatus::Interrupted, ..mark };
    Some(plan::item(mark, category, started.content.clone(), at))
}

/// An event's metadata as JSON.
pub(crate) fn metadata(written: super::line::Written) -> Result<Option<RawJson>, Failure> {
    let metadata = super::line::Metadata { codex: written };
    Ok(Some(RawJson::encode("metadata", &metadata)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{EventType, MemoryLedger, QuarantineId, text};

    fn part(id: &str) -> Quarantined {
        Quarantined {
            quarantine_id: QuarantineId::new(id).unwrap(),
            seq: None,
            source: None,
            reason: "invalid_json".to_owned(),
            content_hash: text::fingerprint(id),
            content: None,
            created_at: Timestamp::now(),
        }
    }

    /// Where the lines around it are refused, what is no record is kept all the same: the other way round it would lie
    /// before the place from which the file is read again.
    #[tokio::test]
    async fn what_is_no_record_is_stored_before_the_lines_around_it() {
        let (ledger, scope) = (MemoryLedger::new().ledger(), Scope::System);
        let thread = ThreadId::new("t").unwrap();
        ledger.threads().create(&scope, NewThread::new(thread.clone())).await.unwrap();
        let mut summary = Summary::default();
        // Another importer was here.
        let new = NewThread::new(thread.clone());
        let mut writer = Writer::new(&ledger, &scope, new, Some(7), &mut summary);
        let line = EventDraft::new(EventType::new("codex.x").unwrap(), Category::Trace, RawJson::null());
        writer.add(None, line.clone()).await.unwrap();
        writer.quarantine(part("a")).await.unwrap();
        writer.add(None, line).await.unwrap();
        writer.flush().await.unwrap_err();
        let kept = ledger.imports().list_quarantined(&scope, &thread, None, 10).await.unwrap();
        assert_eq!(kept.iter().map(|part| part.quarantine_id.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}
