//! The item index: pages, turns, and making it anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;

use crate::record::{Envelope, Item, ItemEntry, Run, SeqSpan, ThreadHead, UsageRecord, Visibility};
use crate::store::{
    Contents, ItemPage, ItemQuery, ItemSeq, RunVisibility, Turn, TurnPage, TurnQuery, TurnStart, TurnView,
    check_item_ids,
};
use crate::verify::{ItemKey, Rebuilt, Removed, ThreadRows, Unreadable, with_removed};
use crate::view::items::project_slice;
use crate::view::turns::{FINAL_LOOK, is_final_candidate, is_first_candidate, summary};
use crate::{ItemId, ItemStatus, Result, RunId, Scope, SeqPage, ThreadId};

use super::MemoryLedger;
use super::read::ascending;
use super::state::Log;

impl MemoryLedger {
    pub(super) fn read_items_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        items: &[ItemId],
    ) -> Result<ItemPage> {
        check_item_ids(items)?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let mut found: Vec<&ItemEntry> =
            log.items.values().filter(|item| item.run_id == *run && items.contains(&item.item_id)).collect();
        found.sort_by_key(|item| item.started_seq);
        let items = found.into_iter().map(|entry| log.item(entry, Contents::Read)).collect();
        Ok(ItemPage::new(SeqPage { items, has_more: false }, &ItemQuery::default(), log.head.last_seq()))
    }

    pub(super) fn page_of_items_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        query: &ItemQuery,
    ) -> Result<ItemPage> {
        let scan = query.range.resolve()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let filter = &query.filter;
        let seq_of = |item: &ItemEntry| match query.by {
            ItemSeq::Started => item.started_seq,
            ItemSeq::Updated => item.updated_seq,
        };
        let mut items: Vec<&ItemEntry> = log
            .items
            .values()
            .filter(|item| {
                let of_run = match &filter.run_id {
                    Some(run) => item.run_id == *run,
                    None => query.visibility == RunVisibility::All || log.shows(&item.run_id),
                };
                of_run
                    && filter.status.as_ref().is_none_or(|status| item.status == *status)
                    && query.kind.as_ref().is_none_or(|kind| item.item_kind == *kind)
            })
            .collect();
        items.sort_by_key(|item| seq_of(item));
        let SeqPage { items, has_more } = ascending(items.into_iter(), scan, seq_of);
        let items = items.iter().map(|entry| log.item(entry, query.contents)).collect();
        Ok(ItemPage::new(SeqPage { items, has_more }, query, log.head.last_seq()))
    }

    pub(super) fn turns_now(&self, scope: &Scope, thread: &ThreadId, query: &TurnQuery) -> Result<TurnPage> {
        let limit = query.checked_limit()?;
        let edge = match &query.start {
            TurnStart::First => None,
            TurnStart::After(cursor) | TurnStart::Before(cursor) => Some(cursor.run_position()?),
        };
        let state = self.state();
        let log = state.log(scope, thread)?;
        let newest_first = query.reads_newest_first();
        let mut runs: Vec<&Run> = log
            .runs
            .values()
            .filter(|run| match &query.run_id {
                Some(id) => run.run_id == *id,
                None => query.visibility == RunVisibility::All || run.visibility == Visibility::Shown,
            })
            .filter(|run| {
                edge.as_ref().is_none_or(|(at, id, thread)| {
                    let edge = (*at, id, thread);
                    let place = (run.created_at, &run.run_id, &run.thread_id);
                    if newest_first { place < edge } else { place > edge }
                })
            })
            .collect();
        runs.sort_by_key(|run| (run.created_at, &run.run_id));
        if newest_first {
            runs.reverse();
        }
        runs.truncate(limit as usize + 1);
        let of_each = query.items_of_each(runs.len().min(limit as usize));
        let turns = runs.into_iter().map(|run| log.turn(run, query.view, of_each)).collect();
        Ok(TurnPage::new(query, limit, turns, log.head.last_seq()))
    }

    pub(super) fn rebuild_now(&self, scope: &Scope, thread: &ThreadId) -> Result<Rebuilt> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let mut rebuilt = Rebuilt::new(thread.clone());
        let removed = log.removed();
        let events: Vec<Envelope> = log.events.values().cloned().map(Envelope::from).collect();
        rebuilt.events = events.len() as u64;
        let mut next = 1;
        for seq in events.iter().map(|event| event.seq).chain([log.head.next_seq]) {
            removed.without(next, seq.saturating_sub(1)).into_iter().for_each(|gap| rebuilt.note_gap(gap));
            next = seq + 1;
        }
        let stored = std::mem::take(&mut log.items);
        rebuilt.items_before = stored.len() as u64;
        for (run_id, mut change) in project_slice(&events) {
            let run = log.runs.get(&run_id);
            let key = (run_id.clone(), change.item_id.clone());
            let row = stored.get(&key);
            if let (Some(run), Some(row)) = (run, row)
                && removed.may_have_begun(run, &change)
            {
                change = with_removed(change, row);
            }
            if row.is_none()
                && change.status == ItemStatus::InProgress
                && run.is_some_and(|run| removed.may_have_completed(run))
            {
                continue;
            }
            let claimed_epoch = row.and_then(|row| row.claimed_epoch);
            let entry = ItemEntry { claimed_epoch, ..ItemEntry::of(thread, &run_id, change) };
            log.items.insert(key, entry);
        }
        rebuilt.items = log.items.len() as u64;
        Ok(rebuilt)
    }

    /// What is stored of a thread at this moment.
    pub(super) fn rows_of(&self, scope: &Scope, thread: &ThreadId) -> Result<MemoryRows> {
        let log = self.state().log(scope, thread)?.clone();
        Ok(MemoryRows { log, given: BTreeSet::new() })
    }
}

impl Log {
    fn item(&self, entry: &ItemEntry, contents: Contents) -> Item {
        match (contents, self.events.get(&entry.updated_seq)) {
            (Contents::Read, Some(event)) => Item::of(entry.clone(), event),
            (Contents::Read | Contents::Omitted, _) => Item::without_content(entry.clone()),
        }
    }

    fn shows(&self, run: &RunId) -> bool {
        self.runs.get(run).is_none_or(|run| run.visibility == Visibility::Shown)
    }

    fn turn(&self, run: &Run, view: TurnView, of_each: usize) -> Turn {
        let mut entries: Vec<&ItemEntry> =
            self.items.values().filter(|item| item.run_id == run.run_id).collect();
        entries.sort_by_key(|item| item.started_seq);
        let read = |entry: &&ItemEntry| self.item(entry, Contents::Read);
        let (items, has_more) = match view {
            TurnView::NotLoaded => (Vec::new(), false),
            TurnView::Summary => {
                let first = entries.iter().find(|item| is_first_candidate(item)).map(read);
                let last = entries.iter().rev().filter(|item| is_final_candidate(item));
                (summary(first, last.take(FINAL_LOOK).map(read)), false)
            }
            TurnView::Full => (entries.iter().take(of_each).map(read).collect(), entries.len() > of_each),
        };
        Turn { run: run.clone(), view, items, has_more }
    }

    /// The ranges of numbers that were removed, ascending.
    fn removed_spans(&self) -> Vec<SeqSpan> {
        let mut spans: Vec<SeqSpan> = self
            .deletions
            .iter()
            .map(|deletion| SeqSpan { from: deletion.from_seq, through: deletion.through_seq })
            .collect();
        spans.sort_by_key(|span| span.from);
        spans
    }

    fn removed(&self) -> Removed {
        let mut removed = Removed::default();
        self.removed_spans().into_iter().for_each(|span| removed.add(span));
        removed
    }
}

/// The rows of a thread, each table as one page.
pub(super) struct MemoryRows {
    log: Log,
    /// The tables that were given.
    given: BTreeSet<&'static str>,
}

impl MemoryRows {
    fn once<T>(&mut self, table: &'static str, rows: impl FnOnce(&Log) -> Vec<T>) -> Vec<T> {
        if self.given.insert(table) { rows(&self.log) } else { Vec::new() }
    }
}

#[async_trait]
impl ThreadRows for MemoryRows {
    async fn head(&mut self) -> Result<Result<ThreadHead, Unreadable>> {
        Ok(Ok(self.log.head.clone()))
    }

    async fn quarantined(&mut self) -> Result<(BTreeSet<u64>, u64)> {
        Ok((BTreeSet::new(), 0))
    }

    async fn deletions(&mut self) -> Result<Vec<SeqSpan>> {
        Ok(self.once("deletions", Log::removed_spans))
    }

    async fn runs(&mut self) -> Result<Vec<Result<Run, Unreadable>>> {
        Ok(self.once("runs", |log| log.runs.values().cloned().map(Ok).collect()))
    }

    async fn events(&mut self) -> Result<Vec<(u64, Result<Envelope, Unreadable>)>> {
        Ok(self.once("events", |log| {
            log.events.values().cloned().map(|event| (event.seq, Ok(Envelope::from(event)))).collect()
        }))
    }

    async fn events_at(&mut self, seqs: &[u64]) -> Result<Vec<Envelope>> {
        Ok(seqs.iter().filter_map(|seq| self.log.events.get(seq)).cloned().map(Envelope::from).collect())
    }

    async fn items(&mut self) -> Result<Vec<Result<ItemEntry, Unreadable>>> {
        Ok(self.once("items", |log| log.items.values().cloned().map(Ok).collect()))
    }

    async fn items_of(&mut self, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Option<ItemEntry>>> {
        let items: &BTreeMap<ItemKey, ItemEntry> = &self.log.items;
        Ok(keys.iter().filter_map(|key| Some((key.clone(), Some(items.get(key)?.clone())))).collect())
    }

    async fn usage(&mut self) -> Result<Vec<Result<UsageRecord, Unreadable>>> {
        Ok(self.once("usage", |log| log.usage.values().cloned().map(Ok).collect()))
    }
}
