//! Full-text search: how far each thread is indexed is a number, and a search looks at every text up to it.

use std::cmp::Reverse;

use async_trait::async_trait;

use crate::record::{Event, Visibility};
use crate::store::{
    Behind, IndexBudget, Indexed, RunVisibility, SearchFilter, SearchHit, SearchPage, SearchStore,
};
use crate::view::search::{Extract, SearchQuery, Words, extract, is_searched, snippet};
use crate::{Cursor, ListRange, Page, Result, Scope, ThreadId};

use super::MemoryLedger;
use super::state::{Log, State};

#[async_trait]
impl SearchStore for MemoryLedger {
    async fn index(&self, scope: &Scope, thread: Option<&ThreadId>, budget: IndexBudget) -> Result<Indexed> {
        let mut state = self.state();
        let threads = match thread {
            Some(thread) => vec![state.log(scope, thread)?.head.thread_id.clone()],
            None => state.updated_last(scope),
        };
        let (mut indexed, mut bytes) = (Indexed::default(), 0);
        for thread in threads {
            let Some(log) = state.threads.get_mut(&thread) else { continue };
            while log.indexed_seq + 1 < log.head.next_seq
                && indexed.events < budget.events
                && bytes < budget.bytes
            {
                log.indexed_seq += 1;
                indexed.events += 1;
                if let Some(event) = log.events.get(&log.indexed_seq).filter(|event| searched(event)) {
                    bytes += event.content_bytes;
                    match text_of(event) {
                        Extract::Text(_) => indexed.documents += 1,
                        Extract::Nothing => {}
                        Extract::Unreadable => indexed.unreadable += 1,
                    }
                }
            }
            let left = log.head.next_seq - 1 - log.indexed_seq;
            indexed.behind.threads += u64::from(left > 0);
            indexed.behind.events += left;
        }
        Ok(indexed)
    }

    async fn forget(&self, scope: &Scope, thread: &ThreadId) -> Result<()> {
        self.state().log_mut(scope, thread)?.indexed_seq = 0;
        Ok(())
    }

    async fn find(
        &self,
        scope: &Scope,
        query: &SearchQuery,
        filter: &SearchFilter,
        range: &ListRange,
    ) -> Result<SearchPage> {
        filter.check()?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::seq_position).transpose()?;
        let state = self.state();
        if let Some(thread) = &filter.thread_id {
            state.log(scope, thread)?;
        }
        let mut found: Vec<SearchHit> = state
            .threads
            .values()
            .filter(|log| log.thread.is_some() && scope.sees(log.head.owner_id.as_ref()))
            .flat_map(|log| log.events.range(..=log.indexed_seq).map(move |(_, event)| (log, event)))
            .filter(|(log, event)| searched(event) && passes(filter, log, event))
            .filter(|(_, event)| {
                end.is_none_or(|end| (event.created_at, event.thread_id.as_str(), event.seq) < end)
            })
            .filter_map(|(_, event)| hit(query, event))
            .collect();
        found.sort_by(|a, b| {
            let place = |hit: &SearchHit| (hit.created_at, hit.thread_id.clone(), hit.seq);
            place(b).cmp(&place(a))
        });
        let page = Page::from_rows(found, limit, |hit: &SearchHit| {
            Cursor::at_seq(hit.created_at, &hit.thread_id, hit.seq)
        });
        Ok(SearchPage {
            items: page.items,
            has_more: page.has_more,
            next_cursor: page.next_cursor,
            behind: Behind::default(),
        })
    }
}

impl State {
    fn updated_last(&self, scope: &Scope) -> Vec<ThreadId> {
        let mut threads: Vec<_> = self
            .threads
            .values()
            .filter_map(|log| log.thread.as_ref())
            .filter(|thread| scope.sees(thread.owner_id.as_ref()))
            .collect();
        threads.sort_by_key(|thread| Reverse((thread.updated_at, thread.thread_id.clone())));
        threads.into_iter().take(Behind::THREADS as usize).map(|thread| thread.thread_id.clone()).collect()
    }
}

fn searched(event: &Event) -> bool {
    is_searched(&event.category, event.item.as_ref().map(|item| &item.status))
}

fn text_of(event: &Event) -> Extract {
    extract(event.item.as_ref().map(|item| &item.kind), &event.content)
}

fn passes(filter: &SearchFilter, log: &Log, event: &Event) -> bool {
    let is_shown = || {
        let run = event.run_id.as_ref().and_then(|run| log.runs.get(run));
        run.is_none_or(|run| run.visibility == Visibility::Shown)
    };
    filter.thread_id.as_ref().is_none_or(|thread| event.thread_id == *thread)
        && (filter.kinds.is_empty()
            || event.item.as_ref().is_some_and(|item| filter.kinds.contains(&item.kind)))
        && filter.created_from.is_none_or(|from| event.created_at >= from)
        && filter.created_before.is_none_or(|before| event.created_at < before)
        && (filter.visibility == RunVisibility::All || is_shown())
}

fn hit(query: &SearchQuery, event: &Event) -> Option<SearchHit> {
    let Extract::Text(text) = text_of(event) else { return None };
    let found = query.find(&Words::of(&text))?;
    Some(SearchHit {
        thread_id: event.thread_id.clone(),
        seq: event.seq,
        run_id: event.run_id.clone(),
        item_id: event.item.as_ref().map(|item| item.item_id.clone()),
        item_kind: event.item.as_ref().map(|item| item.kind.clone()),
        created_at: event.created_at,
        snippet: snippet(&text, &found),
    })
}
