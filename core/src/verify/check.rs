//! The comparison itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::removed::{Removed, with_removed};
use super::{Finding, FindingKind, ItemKey, MAX_FINDINGS, ThreadRows, Unreadable, Verified};
use crate::record::{Envelope, ItemEntry, Run, RunTotals, ThreadHead};
use crate::view::items::ItemChange;
use crate::{Category, ItemStatus, Result, RunId, ThreadId};

/// Compares what is stored of a thread.
pub async fn verify(thread: &ThreadId, rows: &mut dyn ThreadRows) -> Result<Verified> {
    let mut check = Check::new(thread.clone());
    let head = match rows.head().await? {
        Ok(head) => Some(head),
        Err(unreadable) => {
            check.unreadable("head", &unreadable);
            None
        }
    };
    check.facts(rows).await?;
    check.log(rows, head.as_ref()).await?;
    check.counts(head.as_ref());
    check.index(rows).await?;
    check.totals(rows).await?;
    Ok(check.verified)
}

/// A run, and what the log and the usage say of it.
#[derive(Debug)]
struct Counted {
    run: Run,
    messages: u64,
    totals: RunTotals,
}

/// One verification, half-way.
struct Check {
    verified: Verified,
    removed: Removed,
    quarantined: BTreeSet<u64>,
    runs: BTreeMap<RunId, Counted>,
    /// Whether a run's row cannot be read: then it is not known which runs there are not.
    lacks_runs: bool,
    /// Events that cannot be read: what they count as is not known.
    lacking: u64,
    messages: u64,
    last_seq: u64,
    /// Items that began in what was read and have not ended there.
    open: HashMap<ItemKey, ItemChange>,
    /// Items that something was found about.
    told: HashSet<ItemKey>,
    /// Runs whose events were found to be elsewhere.
    strayed: BTreeSet<RunId>,
}

impl Check {
    fn new(thread_id: ThreadId) -> Self {
        Self {
            verified: Verified::new(thread_id),
            removed: Removed::default(),
            quarantined: BTreeSet::new(),
            runs: BTreeMap::new(),
            lacks_runs: false,
            lacking: 0,
            messages: 0,
            last_seq: 0,
            open: HashMap::new(),
            told: HashSet::new(),
            strayed: BTreeSet::new(),
        }
    }

    fn find(&mut self, kind: FindingKind, run: Option<&RunId>, seq: Option<u64>, detail: String) {
        self.verified.find(Finding { kind, run_id: run.cloned(), item_id: None, seq, detail });
    }

    fn find_item(&mut self, kind: FindingKind, key: &ItemKey, seq: u64, detail: String) {
        // Once for each item; what is known of them is bounded as the findings are.
        if !self.told.contains(key) {
            let (run_id, item_id) = (Some(key.0.clone()), Some(key.1.clone()));
            self.verified.find(Finding { kind, run_id, item_id, seq: Some(seq), detail });
            if self.told.len() < MAX_FINDINGS {
                self.told.insert(key.clone());
            }
        }
    }

    fn unreadable(&mut self, table: &str, unreadable: &Unreadable) {
        let detail = format!("{table} {}: {}", unreadable.key, unreadable.reason);
        self.find(FindingKind::UnreadableRow, None, None, detail);
    }

    /// What the log is judged by.
    async fn facts(&mut self, rows: &mut dyn ThreadRows) -> Result<()> {
        (self.quarantined, self.verified.quarantined) = rows.quarantined().await?;
        loop {
            let page = rows.deletions().await?;
            if page.is_empty() {
                break;
            }
            page.into_iter().for_each(|span| self.removed.add(span));
        }
        loop {
            let page = rows.runs().await?;
            if page.is_empty() {
                return Ok(());
            }
            for run in page {
                self.verified.runs += 1;
                match run {
                    Ok(run) => {
                        let counted = Counted {
                            messages: 0,
                            totals: RunTotals::default(),
                            run: run.without_documents(),
                        };
                        self.runs.insert(counted.run.run_id.clone(), counted);
                    }
                    Err(unreadable) => {
                        self.lacks_runs = true;
                        self.unreadable("run", &unreadable);
                    }
                }
            }
        }
    }

    /// The numbers of the log, and the items that it tells of.
    async fn log(&mut self, rows: &mut dyn ThreadRows, head: Option<&ThreadHead>) -> Result<()> {
        loop {
            let page = rows.events().await?;
            if page.is_empty() {
                break;
            }
            let mut events = Vec::with_capacity(page.len());
            for (seq, event) in page {
                self.verified.events += 1;
                self.gap(self.last_seq + 1, seq.saturating_sub(1));
                self.last_seq = seq;
                match event {
                    Ok(event) => events.push(event),
                    Err(unreadable) => {
                        self.lacking += 1;
                        if !self.quarantined.contains(&seq) {
                            self.unreadable("event", &unreadable);
                        }
                    }
                }
            }
            events.iter().for_each(|event| self.count(event));
            let records: Vec<(ItemKey, u64, ItemChange)> = events
                .iter()
                .filter_map(ItemChange::of_envelope)
                .map(|(run, change)| ((run, change.item_id.clone()), change.updated_seq, change))
                .collect();
            let keys: BTreeSet<&ItemKey> = records.iter().map(|(key, _, _)| key).collect();
            let keys: Vec<ItemKey> = keys.into_iter().cloned().collect();
            let stored = rows.items_of(&keys).await?;
            for (key, seq, change) in records {
                self.record(key, seq, change, &stored);
            }
        }
        let open: Vec<(ItemKey, ItemChange)> = std::mem::take(&mut self.open).into_iter().collect();
        for open in open.chunks(MAX_FINDINGS) {
            let keys: Vec<ItemKey> = open.iter().map(|(key, _)| key.clone()).collect();
            let stored = rows.items_of(&keys).await?;
            for (key, change) in open {
                self.compare(key, change, &stored);
            }
        }
        if let Some(head) = head {
            self.gap(self.last_seq + 1, head.next_seq.saturating_sub(1));
            let last = self.last_seq.max(self.removed.last().unwrap_or_default());
            if head.next_seq <= last {
                let detail = format!("the head's is {}, and the log has had {last}", head.next_seq);
                self.find(FindingKind::NextSeq, None, Some(last), detail);
            }
        }
        Ok(())
    }

    fn gap(&mut self, from: u64, through: u64) {
        for span in self.removed.without(from, through) {
            let detail =
                format!("no event has the numbers {} to {}, and none was removed", span.from, span.through);
            self.find(FindingKind::Gap, None, Some(span.from), detail);
        }
    }

    fn count(&mut self, event: &Envelope) {
        let messages = u64::from(event.category == Category::Message);
        self.messages += messages;
        let Some(run_id) = &event.run_id else { return };
        let kind = match self.runs.get_mut(run_id) {
            Some(counted) => {
                counted.messages += messages;
                let (first, last) = (counted.run.first_seq, counted.run.last_seq);
                if first.is_some_and(|first| first <= event.seq) && last.is_some_and(|last| event.seq <= last)
                {
                    return;
                }
                FindingKind::EventOutsideRun
            }
            None if self.lacks_runs => return,
            None => FindingKind::EventWithoutRun,
        };
        // Once for each run.
        if self.strayed.insert(run_id.clone()) {
            let detail = format!("event {} is of run {run_id}", event.seq);
            self.find(kind, Some(run_id), Some(event.seq), detail);
        }
    }

    /// Takes in a record of an item.
    fn record(
        &mut self,
        key: ItemKey,
        seq: u64,
        change: ItemChange,
        stored: &HashMap<ItemKey, Option<ItemEntry>>,
    ) {
        let change = match self.open.remove(&key) {
            Some(mut known) => {
                known.merge(&change);
                known
            }
            // What comes after the end of an item changes nothing, and where its row says it ended is judged
            // by the record there.
            None if self.told.contains(&key) || has_ended_before(&key, seq, stored) => return,
            None => change,
        };
        if change.status == ItemStatus::InProgress {
            self.open.insert(key, change);
        } else {
            self.compare(&key, &change, stored);
        }
    }

    /// Compares an item as the log tells it with its row.
    fn compare(&mut self, key: &ItemKey, change: &ItemChange, stored: &HashMap<ItemKey, Option<ItemEntry>>) {
        let run = self.runs.get(&key.0).map(|counted| &counted.run);
        let stored = match stored.get(key) {
            Some(Some(stored)) => stored,
            // The walk over the index tells of it.
            Some(None) => return,
            None => {
                if !run.is_some_and(|run| self.removed.may_have_completed(run)) {
                    let detail =
                        format!("the log has it as {} since event {}", change.status, change.started_seq);
                    self.find_item(FindingKind::ItemMissing, key, change.started_seq, detail);
                }
                return;
            }
        };
        let change = if run.is_some_and(|run| self.removed.may_have_begun(run, change)) {
            with_removed(change.clone(), stored)
        } else {
            change.clone()
        };
        let mut told = ItemEntry::of(&stored.thread_id, &stored.run_id, change);
        // Claims are not of the log.
        told.claimed_epoch = stored.claimed_epoch;
        if told != *stored {
            let detail = differences(stored, &told).join(", ");
            self.find_item(FindingKind::ItemDiffers, key, stored.started_seq, detail);
        }
    }

    /// The counts, and who holds the slot.
    fn counts(&mut self, head: Option<&ThreadHead>) {
        // An event that cannot be read may be a message.
        let (messages, lacking) = (self.messages, self.lacking);
        let fits = |stored: u64, counted: u64| (counted..=counted.saturating_add(lacking)).contains(&stored);
        let mut findings = Vec::new();
        for Counted { run, messages, .. } in self.runs.values() {
            if !fits(run.message_count, *messages) {
                let detail = format!(
                    "run {} counts {} messages, its log has {messages}",
                    run.run_id, run.message_count
                );
                findings.push((FindingKind::MessageCount, Some(run.run_id.clone()), detail));
            }
            let holds = head.is_none_or(|head| head.active_run_id.as_ref() == Some(&run.run_id));
            if run.status.is_active() && !holds {
                let detail = format!("run {} is {}, and does not hold the slot", run.run_id, run.status);
                findings.push((FindingKind::ActiveRun, Some(run.run_id.clone()), detail));
            }
        }
        if let Some(head) = head {
            if !fits(head.message_count, messages) {
                let detail =
                    format!("the head counts {} messages, the log has {messages}", head.message_count);
                findings.push((FindingKind::MessageCount, None, detail));
            }
            if let Some(active) = &head.active_run_id {
                let run = self.runs.get(active).map(|counted| &counted.run);
                let detail = match run {
                    None if self.lacks_runs => None,
                    None => Some(format!("run {active} holds the slot, and there is no such run")),
                    Some(run) if !run.status.is_active() => {
                        Some(format!("run {active} holds the slot, and is {}", run.status))
                    }
                    Some(run) if run.epoch != head.epoch => Some(format!(
                        "run {active} is of epoch {}, the slot of epoch {}",
                        run.epoch, head.epoch
                    )),
                    Some(_) => None,
                };
                findings.extend(detail.map(|detail| (FindingKind::ActiveRun, Some(active.clone()), detail)));
            }
        }
        for (kind, run, detail) in findings {
            self.find(kind, run.as_ref(), None, detail);
        }
    }

    /// The rows of the index, which the log must have.
    async fn index(&mut self, rows: &mut dyn ThreadRows) -> Result<()> {
        loop {
            let page = rows.items().await?;
            if page.is_empty() {
                return Ok(());
            }
            self.verified.items += page.len() as u64;
            let seqs: BTreeSet<u64> = page.iter().flatten().flat_map(places).collect();
            let seqs: Vec<u64> = seqs.into_iter().collect();
            let events = rows.events_at(&seqs).await?;
            let records: HashMap<u64, ItemKey> = events
                .into_iter()
                .filter_map(|event| Some((event.seq, (event.run_id?, event.item?.item_id))))
                .collect();
            for row in page {
                match row {
                    Ok(item) => self.row(&item, &records),
                    Err(unreadable) => self.unreadable("item", &unreadable),
                }
            }
        }
    }

    fn row(&mut self, item: &ItemEntry, records: &HashMap<u64, ItemKey>) {
        let key = (item.run_id.clone(), item.item_id.clone());
        if !self.lacks_runs && !self.runs.contains_key(&item.run_id) {
            let detail = format!("there is no run {}", item.run_id);
            self.find_item(FindingKind::ItemWithoutRun, &key, item.started_seq, detail);
        }
        let strange: Vec<String> =
            places(item).filter(|seq| records.get(seq) != Some(&key)).map(|seq| seq.to_string()).collect();
        if !strange.is_empty() {
            let detail = format!("no record of it is at {}", strange.join(" and "));
            self.find_item(FindingKind::ItemExtra, &key, item.started_seq, detail);
        }
    }

    /// The totals of runs, which are the sum of their usage.
    async fn totals(&mut self, rows: &mut dyn ThreadRows) -> Result<()> {
        let mut lacks_usage = false;
        loop {
            let page = rows.usage().await?;
            if page.is_empty() {
                break;
            }
            for call in page {
                self.verified.usage += 1;
                let call = match call {
                    Ok(call) => call,
                    Err(unreadable) => {
                        lacks_usage = true;
                        self.unreadable("usage record", &unreadable);
                        continue;
                    }
                };
                let Some(run_id) = &call.run_id else { continue };
                match self.runs.get_mut(run_id) {
                    Some(counted) => counted.totals.add_call(&call.caller, &call.tokens, call.cost_nanos),
                    None if self.lacks_runs => {}
                    None => {
                        let detail = format!("usage record {} is of run {run_id}", call.source_id);
                        self.find(FindingKind::UsageWithoutRun, Some(run_id), None, detail);
                    }
                }
            }
        }
        // Without all of them a sum says nothing.
        let differing: Vec<(RunId, String)> = self
            .runs
            .values()
            .filter(|counted| !lacks_usage && counted.totals != counted.run.totals)
            .map(|counted| (counted.run.run_id.clone(), totals_of(counted)))
            .collect();
        for (run, detail) in differing {
            self.find(FindingKind::Totals, Some(&run), None, detail);
        }
        Ok(())
    }
}

/// Whether the row of an item says that it ended before an event.
fn has_ended_before(key: &ItemKey, seq: u64, stored: &HashMap<ItemKey, Option<ItemEntry>>) -> bool {
    stored
        .get(key)
        .and_then(Option::as_ref)
        .and_then(|row| row.completed_seq)
        .is_some_and(|ended| ended < seq)
}

/// The numbers that a row points at.
fn places(item: &ItemEntry) -> impl Iterator<Item = u64> + use<> {
    let completed = item.completed_seq.filter(|completed| *completed != item.started_seq);
    std::iter::once(item.started_seq).chain(completed)
}

fn totals_of(counted: &Counted) -> String {
    let (stored, summed) = (&counted.run.totals, &counted.totals);
    format!(
        "run {} has {} calls, {} tokens and {} nanodollars, its usage {}, {} and {}",
        counted.run.run_id,
        stored.llm_calls,
        stored.total_tokens,
        stored.cost_nanos,
        summed.llm_calls,
        summed.total_tokens,
        summed.cost_nanos
    )
}

/// The fields in which two rows of an item differ, with both values.
fn differences(stored: &ItemEntry, told: &ItemEntry) -> Vec<String> {
    fn field<T: PartialEq + std::fmt::Debug>(name: &str, stored: &T, told: &T) -> Option<String> {
        (stored != told).then(|| format!("{name} is {stored:?} and not {told:?}"))
    }
    [
        field("item_kind", &stored.item_kind, &told.item_kind),
        field("status", &stored.status, &told.status),
        field("started_seq", &stored.started_seq, &told.started_seq),
        field("completed_seq", &stored.completed_seq, &told.completed_seq),
        field("updated_seq", &stored.updated_seq, &told.updated_seq),
        field("started_at", &stored.started_at, &told.started_at),
        field("completed_at", &stored.completed_at, &told.completed_at),
        field("parent_item_id", &stored.parent_item_id, &told.parent_item_id),
        field("call_id", &stored.call_id, &told.call_id),
        field("caller", &stored.caller, &told.caller),
    ]
    .into_iter()
    .flatten()
    .collect()
}
