//! Trees of threads, their archive, and what was deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::record::{HeadState, NewThread, RunStatus, Thread, ThreadLifecycle, ThreadStatus};
use crate::store::{
    ChildFilter, Deletion, DeletionFilter, Erased, Erasure, check_run_count, require_system_scope,
};
use crate::view::tree::Place;
use crate::{Cursor, Error, ListRange, OwnerId, Page, Result, Scope, ThreadId, Timestamp};

use super::MemoryLedger;
use super::read::newest_first;
use super::state::{Log, State};

impl MemoryLedger {
    pub(super) fn create_now(&self, scope: &Scope, new: NewThread) -> Result<Thread> {
        let (spawn, fork) = (new.spawn.clone(), new.fork.clone());
        let mut thread = new.into_thread(scope)?;
        let mut state = self.state();
        if let Some(origin) = fork {
            state.log(scope, &origin.source_thread_id)?;
        }
        if let Some(spawn) = spawn {
            let parent = state.log(scope, &spawn.parent_thread_id)?;
            parent.head.require_open()?;
            parent.run(&spawn.run_id)?;
            if let Some(item) = &spawn.item_id
                && !parent.items.contains_key(&(spawn.run_id.clone(), item.clone()))
            {
                return Err(Error::not_found("item", item));
            }
            let parent = state.thread(scope, &spawn.parent_thread_id)?;
            thread = spawn.place(thread, parent)?;
        }
        if state.threads.contains_key(&thread.thread_id) {
            return Err(Error::already_exists("thread", &thread.thread_id));
        }
        state.threads.insert(thread.thread_id.clone(), Log::new(thread.clone()));
        Ok(thread)
    }

    pub(super) fn list_children_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ChildFilter,
        range: &ListRange,
    ) -> Result<Page<Thread>> {
        check_run_count(&filter.spawn_run_ids)?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::position).transpose()?;
        let state = self.state();
        state.log(scope, thread)?;
        let children = state.threads.values().filter_map(|log| log.thread.as_ref());
        let runs = &filter.spawn_run_ids;
        let is_wanted = |child: &&Thread| {
            child.parent_thread_id.as_ref() == Some(thread)
                && (runs.is_empty() || child.spawn_run_id.as_ref().is_some_and(|run| runs.contains(run)))
        };
        let mut page = newest_first(
            children.filter(is_wanted),
            limit,
            end,
            |child| (child.created_at, child.thread_id.as_str()),
            |child| Cursor::at(child.created_at, child.thread_id.as_str()),
        );
        page.items = page.items.into_iter().map(|child| filter.contents.of_thread(child)).collect();
        Ok(page)
    }

    pub(super) fn archive_now(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        if log.head.state == HeadState::Open {
            log.require_idle()?;
            log.head.state = HeadState::Archived;
            if let Some(thread) = &mut log.thread {
                thread.archived_at = Some(at);
                thread.updated_at = at;
            }
        }
        state.thread(scope, thread).cloned()
    }

    pub(super) fn unarchive_now(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        if log.head.state == HeadState::Archived {
            log.head.state = HeadState::Open;
            if let Some(thread) = &mut log.thread {
                thread.archived_at = None;
                thread.updated_at = at;
            }
        }
        state.thread(scope, thread).cloned()
    }

    pub(super) fn list_spent_now(&self, scope: &Scope, idle: Duration, limit: u32) -> Result<Vec<ThreadId>> {
        require_system_scope(scope, "looks for threads that have served")?;
        let limit = ListRange::newest(limit).checked_limit()?;
        let before = Timestamp::now().before(idle);
        let state = self.state();
        let succeeded = |log: &&Log| {
            let last = log.runs.values().max_by_key(|run| run.epoch);
            last.is_some_and(|run| run.status == RunStatus::Success)
        };
        let threads = state.threads.values().filter(succeeded).filter_map(|log| log.thread.as_ref());
        let mut spent: Vec<&Thread> = threads
            .filter(|thread| {
                thread.lifecycle == ThreadLifecycle::Ephemeral
                    && thread.status == ThreadStatus::Idle
                    && thread.archived_at.is_none()
                    && thread.updated_at < before
            })
            .collect();
        spent.sort_by_key(|thread| (thread.updated_at, &thread.thread_id));
        Ok(spent.into_iter().take(limit as usize).map(|thread| thread.thread_id.clone()).collect())
    }

    pub(super) fn list_deletions_now(
        &self,
        scope: &Scope,
        filter: &DeletionFilter,
        range: &ListRange,
    ) -> Result<Page<Deletion>> {
        require_system_scope(scope, "looks at what was deleted")?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::seq_position).transpose()?;
        let state = self.state();
        let logs = state.threads.values();
        let deletions = logs
            .flat_map(|log| &log.deletions)
            .filter(|deletion| filter.thread_id.as_ref().is_none_or(|thread| deletion.thread_id == *thread));
        Ok(newest_first(
            deletions,
            limit,
            end,
            |deletion| (deletion.deleted_at, deletion.thread_id.as_str(), deletion.from_seq),
            |deletion| Cursor::at_seq(deletion.deleted_at, &deletion.thread_id, deletion.from_seq),
        ))
    }

    pub(super) fn erase_remains_now(
        &self,
        scope: &Scope,
        owner: &OwnerId,
        erasure: Erasure,
    ) -> Result<Erased> {
        require_system_scope(scope, "erases an owner")?;
        let mut erased = Erased::default();
        let mut state = self.state();
        let alive: BTreeSet<ThreadId> = state
            .threads
            .values()
            .filter_map(|log| log.thread.as_ref())
            .map(|thread| thread.thread_id.clone())
            .collect();
        for log in state.threads.values_mut() {
            for deletion in &mut log.deletions {
                deletion.deleted_by.take_if(|by| by == owner);
            }
            match erasure {
                Erasure::Anonymise => {
                    for feedback in log.feedback.values_mut() {
                        feedback.owner_id.take_if(|by| by == owner);
                    }
                }
                Erasure::Delete => {
                    log.feedback.retain(|_, feedback| feedback.owner_id.as_ref() != Some(owner))
                }
            }
            let is_gone = log.head.state == HeadState::Deleted;
            if is_gone {
                log.head.owner_id.take_if(|of| of == owner);
            }
            match erasure {
                Erasure::Anonymise => {
                    for call in log.usage.values_mut() {
                        erased.usage += u64::from(call.owner_id.take_if(|of| of == owner).is_some());
                    }
                }
                Erasure::Delete if is_gone => {
                    let before = log.usage.len();
                    log.usage.retain(|_, call| call.owner_id.as_ref() != Some(owner));
                    erased.usage += (before - log.usage.len()) as u64;
                }
                Erasure::Delete => {}
            }
        }
        state.api_tokens.retain(|_, token| token.owner_id.as_ref() != Some(owner));
        state.agent_runs.retain(|_, stored| {
            let agent_run = &mut stored.agent_run;
            if agent_run.owner_id.as_ref() != Some(owner) {
                return true;
            }
            let has_thread = agent_run.thread_id.as_ref().is_some_and(|thread| alive.contains(thread));
            match erasure {
                Erasure::Anonymise => agent_run.owner_id = None,
                Erasure::Delete if has_thread => return true,
                Erasure::Delete => {}
            }
            erased.agent_runs += 1;
            erasure == Erasure::Anonymise
        });
        Ok(erased)
    }
}

impl State {
    /// The thread, if the scope sees it.
    pub(super) fn thread(&self, scope: &Scope, thread: &ThreadId) -> Result<&Thread> {
        self.log(scope, thread)?.thread.as_ref().ok_or_else(|| Error::not_found("thread", thread))
    }

    /// The places of all threads that are there below one.
    pub(super) fn below(&self, root: &ThreadId) -> Vec<Place> {
        let family = self.family(root);
        let threads = self.threads.values().filter_map(|log| log.thread.as_ref());
        let below = threads.filter(|thread| thread.thread_id != *root && family.contains(&thread.thread_id));
        below.map(Thread::place).collect()
    }

    /// A thread and all below it, deleted ones too.
    pub(super) fn family(&self, root: &ThreadId) -> BTreeSet<ThreadId> {
        let mut family = BTreeSet::from([root.clone()]);
        loop {
            let heads = self.threads.values().map(|log| &log.head);
            let children = heads.filter(|head| {
                head.parent_thread_id.as_ref().is_some_and(|parent| family.contains(parent))
                    && !family.contains(&head.thread_id)
            });
            let found: Vec<ThreadId> = children.map(|head| head.thread_id.clone()).collect();
            if found.is_empty() {
                return family;
            }
            family.extend(found);
        }
    }
}
