//! The traits: readers, and the writers' entrances.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use crate::commit::{Commit, Receipt};
use crate::record::{
    AgentRun, AgentRunSummary, CancelAction, Compaction, Event, EventDraft, FoldedSteps, Interaction,
    ItemEntry, Lease, NewThread, Run, Thread, ThreadHead, ThreadPatch, UNKNOWN_MODEL, UsageBreakdown,
    UsageRecord, UsageSum, Visibility,
};
use crate::store::{
    AgentRunFilter, AgentRunStanding, AgentRunStore, AppendSignal, ChildFilter, Claimable, ClaimedItem,
    Contents, ContextStore, Deleted, Deletion, DeletionFilter, Erased, Erasure, EventFilter, EventStore,
    InteractionFilter, InteractionStore, ItemPage, ItemQuery, ItemStore, PutIfAbsent, RecordedAgentRun,
    Reservation, Reserve, RunFilter, RunStore, RunVisibility, StoredAgentRun, Sweep, ThreadFilter,
    ThreadStore, TurnPage, TurnQuery, Unfolded, UsageQuery, UsageStore, check_run_count,
};
use crate::verify::{self, Rebuilt, Verified};
use crate::view::context::ContextWindow;
use crate::{
    AgentRunId, Category, Cursor, Error, ErrorKind, InteractionId, ItemId, ListRange, OwnerId, Page, RawJson,
    Result, RunId, Scope, SeqPage, SeqRange, SeqScan, SourceId, ThreadId, Timestamp, WorkerId,
};

use super::MemoryLedger;
use super::state::Log;

#[async_trait]
impl ThreadStore for MemoryLedger {
    async fn create(&self, scope: &Scope, new: NewThread) -> Result<Thread> {
        self.create_now(scope, new)
    }

    async fn get(&self, scope: &Scope, thread: &ThreadId) -> Result<Thread> {
        self.state().thread(scope, thread).cloned()
    }

    async fn head(&self, scope: &Scope, thread: &ThreadId) -> Result<ThreadHead> {
        Ok(self.state().log(scope, thread)?.head.clone())
    }

    async fn list(&self, scope: &Scope, filter: &ThreadFilter, range: &ListRange) -> Result<Page<Thread>> {
        let state = self.state();
        let threads = state.threads.values().filter_map(|log| log.thread.as_ref());
        filter.page(threads.filter(|thread| scope.sees(thread.owner_id.as_ref())).cloned().collect(), range)
    }

    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        patch: ThreadPatch,
        at: Timestamp,
    ) -> Result<Thread> {
        self.update_now(scope, thread, patch, at)
    }

    async fn set_owner(&self, scope: &Scope, thread: &ThreadId, owner: Option<OwnerId>) -> Result<Thread> {
        self.set_owner_now(scope, thread, owner)
    }

    async fn list_children(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ChildFilter,
        range: &ListRange,
    ) -> Result<Page<Thread>> {
        self.list_children_now(scope, thread, filter, range)
    }

    async fn archive(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread> {
        self.archive_now(scope, thread, at)
    }

    async fn unarchive(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread> {
        self.unarchive_now(scope, thread, at)
    }

    async fn delete(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.delete_thread_now(scope, thread)
    }

    async fn list_spent(&self, scope: &Scope, idle: Duration, limit: u32) -> Result<Vec<ThreadId>> {
        self.list_spent_now(scope, idle, limit)
    }

    async fn list_deletions(
        &self,
        scope: &Scope,
        filter: &DeletionFilter,
        range: &ListRange,
    ) -> Result<Page<Deletion>> {
        self.list_deletions_now(scope, filter, range)
    }

    async fn erase_remains(&self, scope: &Scope, owner: &OwnerId, erasure: Erasure) -> Result<Erased> {
        self.erase_remains_now(scope, owner, erasure)
    }
}

#[async_trait]
impl RunStore for MemoryLedger {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Run> {
        self.state().log(scope, thread)?.run(run).cloned()
    }

    async fn find(&self, scope: &Scope, run: &RunId) -> Result<Run> {
        let state = self.state();
        state
            .threads
            .values()
            .filter_map(|log| log.runs.get(run))
            .filter(|found| scope.sees(found.owner_id.as_ref()))
            .max_by(|a, b| (a.created_at, &a.thread_id).cmp(&(b.created_at, &b.thread_id)))
            .cloned()
            .ok_or_else(|| Error::not_found("run", run))
    }

    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> Result<Option<Run>> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        Ok(log.runs.values().find(|run| run.idempotency_key.as_deref() == Some(key)).cloned())
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> Result<Page<Run>> {
        check_run_count(&filter.run_ids)?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::run_position).transpose()?;
        let state = self.state();
        let logs: Vec<&Log> = match &filter.thread_id {
            Some(thread) => vec![state.log(scope, thread)?],
            None => state.threads.values().collect(),
        };
        let runs = logs.into_iter().flat_map(|log| log.runs.values()).filter(|run| {
            scope.sees(run.owner_id.as_ref())
                && (filter.run_ids.is_empty() || filter.run_ids.contains(&run.run_id))
                && filter.status.as_ref().is_none_or(|status| run.status == *status)
                && filter.operation_kind.as_ref().is_none_or(|kind| run.operation_kind == *kind)
                && filter.created_from.is_none_or(|from| run.created_at >= from)
                && filter.created_before.is_none_or(|before| run.created_at < before)
        });
        let mut page = newest_first(
            runs,
            limit,
            end,
            |run| (run.created_at, run.run_id.clone(), run.thread_id.clone()),
            |run| Cursor::at_run(run.created_at, &run.run_id, &run.thread_id),
        );
        if filter.contents == Contents::Omitted {
            for run in &mut page.items {
                (run.kwargs, run.metadata) = (RawJson::empty_object(), RawJson::empty_object());
            }
        }
        Ok(page)
    }

    async fn set_visibility(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> Result<Run> {
        self.set_visibility_now(scope, thread, run, visibility)
    }

    async fn rewind(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Vec<RunId>> {
        self.rewind_now(scope, thread, run)
    }

    async fn reserve(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> Result<Reservation> {
        self.reserve_now(scope, thread, run, epoch, wanted)
    }

    async fn release(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> Result<()> {
        self.release_now(scope, thread, run, epoch, given)
    }

    async fn lease(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Option<Lease>> {
        self.lease_now(scope, thread, run)
    }

    async fn request_cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Option<Lease>> {
        self.request_cancel_now(scope, thread, run, action, at)
    }

    async fn renew_leases(&self, scope: &Scope, worker: &WorkerId, ttl: Duration) -> Result<Vec<Lease>> {
        self.renew_leases_now(scope, worker, ttl)
    }

    async fn list_claimable(&self, scope: &Scope, sweep: &Sweep, limit: u32) -> Result<Vec<Claimable>> {
        self.list_claimable_now(scope, sweep, limit)
    }
}

#[async_trait]
impl EventStore for MemoryLedger {
    async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        self.append_now(scope, commit)
    }

    async fn put_if_absent(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        event: EventDraft,
    ) -> Result<PutIfAbsent> {
        let Some(key) = event.once_key.clone() else {
            return Err(Error::invalid("once_key", "is missing; it says which event is the same"));
        };
        let commit = Commit::of_run(thread.clone(), run.clone()).with_events(vec![event]);
        let refusal = match self.append_now(scope, commit) {
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::Conflict => Some(error),
            Err(error) => return Err(error),
        };
        let created = refusal.is_none();
        let state = self.state();
        match (state.log(scope, thread)?.once(Some(run), &key), refusal) {
            (Some(event), _) => Ok(PutIfAbsent { event: event.clone(), created }),
            (None, Some(refusal)) => Err(refusal),
            (None, None) => Err(Error::not_found("event", key)),
        }
    }

    async fn list_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        let scan = range.resolve()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        Ok(page_of(messages(log, visibility), scan))
    }

    async fn list_messages_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        let scan = range.resolve()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let messages = log
            .events
            .values()
            .filter(|event| event.category == Category::Message && event.run_id.as_ref() == Some(run));
        Ok(page_of(messages, scan))
    }

    async fn list_events(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &EventFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        filter.check()?;
        let scan = range.resolve()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        Ok(page_of(log.events.values().filter(|event| filter.accepts(event)), scan))
    }

    async fn count_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
    ) -> Result<u64> {
        Ok(messages(self.state().log(scope, thread)?, visibility).count() as u64)
    }

    async fn last_visible_ai_seq_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, u64>> {
        crate::store::check_run_count(runs)?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let mut last = BTreeMap::new();
        for event in log.events.values().filter(|event| event.is_visible_ai()) {
            if let Some(run) = event.run_id.as_ref().filter(|run| runs.contains(run)) {
                last.insert(run.clone(), event.seq);
            }
        }
        Ok(last)
    }

    async fn delete_by_thread(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.clear_thread_now(scope, thread)
    }

    async fn delete_by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted> {
        self.delete_run_now(scope, thread, run)
    }

    fn signal(&self) -> &AppendSignal {
        &self.signal
    }
}

#[async_trait]
impl ItemStore for MemoryLedger {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId, item: &ItemId) -> Result<ItemEntry> {
        let state = self.state();
        let entry = state.log(scope, thread)?.items.get(&(run.clone(), item.clone()));
        entry.cloned().ok_or_else(|| Error::not_found("item", item))
    }

    async fn read(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        items: &[ItemId],
    ) -> Result<ItemPage> {
        self.read_items_now(scope, thread, run, items)
    }

    async fn page(&self, scope: &Scope, thread: &ThreadId, query: &ItemQuery) -> Result<ItemPage> {
        self.page_of_items_now(scope, thread, query)
    }

    async fn turns(&self, scope: &Scope, thread: &ThreadId, query: &TurnQuery) -> Result<TurnPage> {
        self.turns_now(scope, thread, query)
    }

    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem> {
        self.claim_item_now(scope, thread, run, item, epoch)
    }

    async fn rebuild(&self, scope: &Scope, thread: &ThreadId) -> Result<Rebuilt> {
        self.rebuild_now(scope, thread)
    }

    async fn verify(&self, scope: &Scope, thread: &ThreadId) -> Result<Verified> {
        let mut rows = self.rows_of(scope, thread)?;
        verify::verify(thread, &mut rows).await
    }
}

#[async_trait]
impl ContextStore for MemoryLedger {
    async fn load(&self, scope: &Scope, thread: &ThreadId) -> Result<ContextWindow> {
        self.load_now(scope, thread)
    }

    async fn list_compactions(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        range: &SeqRange,
    ) -> Result<SeqPage<Compaction>> {
        self.list_compactions_now(scope, thread, range)
    }
}

#[async_trait]
impl InteractionStore for MemoryLedger {
    async fn get(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        interaction: &InteractionId,
    ) -> Result<Interaction> {
        self.interaction_now(scope, thread, interaction)
    }

    async fn list(
        &self,
        scope: &Scope,
        filter: &InteractionFilter,
        range: &ListRange,
    ) -> Result<Page<Interaction>> {
        self.list_interactions_now(scope, filter, range)
    }
}

#[async_trait]
impl AgentRunStore for MemoryLedger {
    async fn record(&self, scope: &Scope, agent_run: AgentRun) -> Result<RecordedAgentRun> {
        self.record_now(scope, agent_run)
    }

    async fn get(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<StoredAgentRun> {
        self.agent_run_now(scope, agent_run)
    }

    async fn standing(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<AgentRunStanding> {
        self.agent_run_standing_now(scope, agent_run)
    }

    async fn list(
        &self,
        scope: &Scope,
        filter: &AgentRunFilter,
        range: &ListRange,
    ) -> Result<Page<AgentRunSummary>> {
        self.list_agent_runs_now(scope, filter, range)
    }

    async fn fold(&self, scope: &Scope, agent_run: &AgentRunId, folded: FoldedSteps) -> Result<bool> {
        self.fold_steps_now(scope, agent_run, folded)
    }

    async fn list_unfolded(
        &self,
        scope: &Scope,
        after: Option<&AgentRunId>,
        limit: u32,
    ) -> Result<Vec<Unfolded>> {
        self.list_unfolded_now(scope, after, limit)
    }

    async fn delete(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<()> {
        self.delete_agent_run_now(scope, agent_run)
    }
}

#[async_trait]
impl UsageStore for MemoryLedger {
    async fn list_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        after: Option<&SourceId>,
        limit: u32,
    ) -> Result<Vec<UsageRecord>> {
        let limit = ListRange::newest(limit).checked_limit()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let calls = log.usage.values().filter(|call| {
            call.run_id.as_ref() == Some(run) && after.is_none_or(|after| call.source_id > *after)
        });
        Ok(calls.take(limit as usize).cloned().collect())
    }

    async fn by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<UsageBreakdown> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        Ok(breakdown(log.usage.values().filter(|call| call.run_id.as_ref() == Some(run))))
    }

    async fn by_thread(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        include_active: bool,
    ) -> Result<UsageBreakdown> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        let active = log.head.active_run_id.as_ref().filter(|_| !include_active);
        Ok(breakdown(log.usage.values().filter(|call| active.is_none() || call.run_id.as_ref() != active)))
    }

    async fn report(&self, scope: &Scope, query: &UsageQuery) -> Result<Vec<UsageSum>> {
        self.report_now(scope, query)
    }
}

/// The messages of a log that a reader sees.
fn messages(log: &Log, visibility: RunVisibility) -> impl DoubleEndedIterator<Item = &Event> {
    let hidden: BTreeSet<&RunId> = match visibility {
        RunVisibility::All => BTreeSet::new(),
        RunVisibility::Shown => log
            .runs
            .values()
            .filter(|run| run.visibility != Visibility::Shown)
            .map(|run| &run.run_id)
            .collect(),
    };
    log.events.values().filter(move |event| {
        event.category == Category::Message && event.run_id.as_ref().is_none_or(|run| !hidden.contains(run))
    })
}

fn breakdown<'a>(calls: impl Iterator<Item = &'a UsageRecord>) -> UsageBreakdown {
    let mut sums = UsageBreakdown::default();
    let mut runs = BTreeSet::new();
    let mut model_runs = BTreeSet::new();
    for call in calls {
        sums.totals.add_call(&call.caller, &call.tokens, call.cost_nanos);
        let name = call.model.as_deref().unwrap_or(UNKNOWN_MODEL);
        let model = sums.by_model.entry(name.to_owned()).or_default();
        model.llm_calls += 1;
        model.tokens.add(&call.tokens);
        model.cost_nanos = model.cost_nanos.saturating_add(call.cost_nanos.unwrap_or(0));
        if let Some(run) = &call.run_id {
            runs.insert(run);
            if model_runs.insert((name, run)) {
                model.runs += 1;
            }
        }
    }
    sums.total_runs = runs.len() as u64;
    sums
}

/// A page of events that come in ascending order.
fn page_of<'a>(events: impl DoubleEndedIterator<Item = &'a Event>, scan: SeqScan) -> SeqPage<Event> {
    let mut within = events.filter(|event| (scan.after + 1..scan.before).contains(&event.seq));
    let mut page = scan.fill();
    while let Some(event) = if scan.from_end { within.next_back() } else { within.next() } {
        if !page.take(event.clone(), event.payload_bytes()) {
            break;
        }
    }
    page.page()
}

/// A page of rows that come in ascending order.
pub(super) fn ascending<'a, T: Clone + 'a>(
    rows: impl DoubleEndedIterator<Item = &'a T>,
    scan: SeqScan,
    seq_of: impl Fn(&T) -> u64,
) -> SeqPage<T> {
    let within = rows.filter(|row| (scan.after + 1..scan.before).contains(&seq_of(row)));
    let wanted = scan.limit as usize + 1;
    let rows = if scan.from_end {
        within.rev().take(wanted).cloned().collect()
    } else {
        within.take(wanted).cloned().collect()
    };
    scan.page(rows)
}

/// A page of a newest-first listing, of the rows before `end`.
pub(super) fn newest_first<'a, T: Clone + 'a, K: Ord>(
    rows: impl Iterator<Item = &'a T>,
    limit: u32,
    end: Option<K>,
    position: impl Fn(&'a T) -> K,
    cursor_of: impl Fn(&T) -> Cursor,
) -> Page<T> {
    let mut rows: Vec<&T> = rows.filter(|row| end.as_ref().is_none_or(|end| position(row) < *end)).collect();
    rows.sort_by_key(|row| Reverse(position(row)));
    let rows = rows.into_iter().take(limit as usize + 1).cloned().collect();
    Page::from_rows(rows, limit, cursor_of)
}
