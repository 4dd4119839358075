//! Edits and deletions.

use std::collections::BTreeMap;

use crate::record::{HeadState, Thread, ThreadPatch};
use crate::store::Deleted;
use crate::{Category, Error, OwnerId, Result, RunId, Scope, ThreadId, Timestamp};

use super::MemoryLedger;
use super::state::Log;

impl MemoryLedger {
    pub(super) fn update_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        patch: ThreadPatch,
        at: Timestamp,
    ) -> Result<Thread> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let record = log.thread.as_mut().ok_or_else(|| Error::not_found("thread", thread))?;
        let mut edited = record.clone();
        edited.apply(patch, at)?;
        *record = edited.clone();
        Ok(edited)
    }

    pub(super) fn set_owner_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        owner: Option<OwnerId>,
    ) -> Result<Thread> {
        if scope.owner().is_some() {
            return Err(Error::invalid(
                "scope",
                "is an owner's; only the system gives a thread to somebody else",
            ));
        }
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let record = log.thread.as_mut().ok_or_else(|| Error::not_found("thread", thread))?;
        record.owner_id = owner.clone();
        log.head.owner_id = owner.clone();
        log.runs.values_mut().for_each(|run| run.owner_id = owner.clone());
        log.usage.values_mut().for_each(|call| call.owner_id = owner.clone());
        Ok(record.clone())
    }

    pub(super) fn delete_thread_now(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let deleted = log.clear()?;
        log.thread = None;
        log.head.state = HeadState::Deleted;
        Ok(deleted)
    }

    pub(super) fn clear_thread_now(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.state().log_mut(scope, thread)?.clear()
    }

    pub(super) fn delete_run_now(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        log.run(run)?;
        if log.head.active_run_id.as_ref() == Some(run) {
            return Err(Error::conflict("active run", "none", run));
        }
        let events = take(&mut log.events, |event| event.run_id.as_ref() == Some(run));
        let messages = events.iter().filter(|event| event.category == Category::Message).count() as u64;
        log.head.message_count -= messages;
        log.runs.remove(run);
        log.queued.remove(run);
        Ok(Deleted {
            events: events.len() as u64,
            items: take(&mut log.items, |item| item.run_id == *run).len() as u64,
            usage: take(&mut log.usage, |call| call.run_id.as_ref() == Some(run)).len() as u64,
            runs: 1,
        })
    }
}

impl Log {
    /// Removes everything but the thread and its numbers.
    fn clear(&mut self) -> Result<Deleted> {
        self.require_idle()?;
        let deleted = Deleted {
            events: self.events.len() as u64,
            items: self.items.len() as u64,
            usage: self.usage.len() as u64,
            runs: self.runs.len() as u64,
        };
        self.events.clear();
        self.items.clear();
        self.usage.clear();
        self.runs.clear();
        self.leases.clear();
        self.head.message_count = 0;
        Ok(deleted)
    }
}

fn take<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, doomed: impl Fn(&V) -> bool) -> Vec<V> {
    let keys: Vec<K> = map.iter().filter(|(_, value)| doomed(value)).map(|(key, _)| key.clone()).collect();
    keys.iter().filter_map(|key| map.remove(key)).collect()
}
