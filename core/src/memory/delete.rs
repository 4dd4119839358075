//! Edits and deletions.

use std::collections::BTreeMap;

use crate::record::{HeadState, InteractionStatus, Thread, ThreadKind, ThreadPatch};
use crate::store::{Deleted, Deletion, require_system_scope};
use crate::view::tree;
use crate::{Category, Error, OwnerId, Result, RunId, Scope, ThreadId, Timestamp};

use super::MemoryLedger;
use super::state::{Log, State};

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
        require_system_scope(scope, "gives a thread to somebody else")?;
        let mut state = self.state();
        let log = state.log(scope, thread)?;
        let parent = log.head.parent_thread_id.as_ref().and_then(|parent| state.threads.get(parent));
        if let Some(parent) = parent.filter(|parent| parent.head.state != HeadState::Deleted)
            && parent.head.owner_id == log.head.owner_id
            && parent.head.owner_id != owner
        {
            return Err(Error::conflict("parent thread", "none", &parent.head.thread_id));
        }
        let family = state.family(thread);
        for id in &family {
            let Some(log) = state.threads.get_mut(id) else { continue };
            log.head.owner_id = owner.clone();
            log.indexed_seq = 0;
            log.thread.iter_mut().for_each(|thread| thread.owner_id = owner.clone());
            log.runs.values_mut().for_each(|run| run.owner_id = owner.clone());
            log.usage.values_mut().for_each(|call| call.owner_id = owner.clone());
            log.interactions.values_mut().for_each(|interaction| interaction.owner_id = owner.clone());
        }
        for stored in state.agent_runs.values_mut() {
            if stored.agent_run.thread_id.as_ref().is_some_and(|thread| family.contains(thread)) {
                stored.agent_run.owner_id = owner.clone();
            }
        }
        state.thread(scope, thread).cloned()
    }

    pub(super) fn delete_thread_now(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        let mut state = self.state();
        let place = state.thread(scope, thread)?.place();
        let above = place.parent_thread_id.as_ref().and_then(|parent| state.threads.get(parent));
        let above = above.and_then(|log| log.thread.as_ref()).map(Thread::place);
        let felled = tree::fell(thread, above.as_ref(), &state.below(thread));
        for id in &felled.going {
            state.threads.get(id).map_or(Ok(()), Log::require_idle)?;
        }
        let mut deleted = Deleted::default();
        for id in &felled.going {
            let agent_runs = state.forget_agent_runs(id, None);
            let Some(log) = state.threads.get_mut(id) else { continue };
            let of_log = log.bury(scope);
            deleted.threads += 1;
            deleted.events += of_log.events;
            deleted.items += of_log.items;
            deleted.runs += of_log.runs;
            deleted.agent_runs += agent_runs;
        }
        for given in &felled.given {
            let Some(log) = state.threads.get_mut(&given.thread_id) else { continue };
            log.head.parent_thread_id = given.parent_thread_id.clone();
            let Some(thread) = &mut log.thread else { continue };
            thread.spawn_run_id = None;
            thread.spawn_item_id = None;
            if given.parent_thread_id.is_none() {
                thread.kind = ThreadKind::Root;
            }
            thread.parent_thread_id = given.parent_thread_id.clone();
            thread.spawn_depth = given.spawn_depth;
        }
        for lifted in &felled.lifted {
            let log = state.threads.get_mut(&lifted.thread_id);
            if let Some(thread) = log.and_then(|log| log.thread.as_mut()) {
                thread.spawn_depth = lifted.spawn_depth;
            }
        }
        drop(state);
        for id in &felled.going {
            self.signal.stir(id);
        }
        Ok(deleted)
    }

    pub(super) fn clear_thread_now(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        log.require_idle()?;
        let usage = log.usage.len() as u64;
        let deleted = log.clear(scope, "log emptied");
        log.usage.clear();
        Ok(Deleted { usage, agent_runs: state.forget_agent_runs(thread, None), ..deleted })
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
        log.note_deletion(scope, events.iter().map(|event| event.seq), "run deleted");
        log.release_blobs();
        log.head.message_count -= messages;
        log.runs.remove(run);
        log.queued.remove(run);
        log.compactions.retain(|_, compaction| compaction.run_id != *run);
        log.head.last_compact_seq = log.compactions.keys().next_back().copied();
        log.interactions.retain(|_, interaction| interaction.run_id != *run);
        log.feedback.retain(|_, feedback| feedback.run_id != *run);
        for interaction in log.interactions.values_mut() {
            if interaction.answer_run_id.as_ref() == Some(run) {
                interaction.status = InteractionStatus::Open;
                interaction.answer = None;
                interaction.answer_run_id = None;
                interaction.answered_at = None;
            }
        }
        let deleted = Deleted {
            events: events.len() as u64,
            items: take(&mut log.items, |item| item.run_id == *run).len() as u64,
            usage: take(&mut log.usage, |call| call.run_id.as_ref() == Some(run)).len() as u64,
            runs: 1,
            ..Deleted::default()
        };
        Ok(Deleted { agent_runs: state.forget_agent_runs(thread, Some(run)), ..deleted })
    }
}

impl State {
    /// Removes the agent runs of a thread, or of one run of it; says how many.
    fn forget_agent_runs(&mut self, thread: &ThreadId, run: Option<&RunId>) -> u64 {
        let before = self.agent_runs.len();
        self.agent_runs.retain(|_, stored| {
            let (of_thread, of_run) = (&stored.agent_run.thread_id, &stored.agent_run.run_id);
            of_thread.as_ref() != Some(thread) || run.is_some_and(|run| of_run.as_ref() != Some(run))
        });
        (before - self.agent_runs.len()) as u64
    }
}

impl Log {
    /// Removes everything but the thread, its numbers and what it took.
    fn clear(&mut self, scope: &Scope, reason: &'static str) -> Deleted {
        let deleted = Deleted {
            events: self.events.len() as u64,
            items: self.items.len() as u64,
            runs: self.runs.len() as u64,
            ..Deleted::default()
        };
        let seqs: Vec<u64> = std::mem::take(&mut self.events).into_keys().collect();
        if self.head.state != HeadState::Deleted {
            self.note_deletion(scope, seqs.into_iter(), reason);
        }
        self.items.clear();
        self.runs.clear();
        self.leases.clear();
        self.queued.clear();
        self.compactions.clear();
        self.interactions.clear();
        self.feedback.clear();
        self.release_blobs();
        self.head.message_count = 0;
        self.head.last_compact_seq = None;
        deleted
    }

    /// Removes the blobs that no event names any more.
    fn release_blobs(&mut self) {
        self.event_blobs.retain(|(seq, _)| self.events.contains_key(seq));
        self.blobs.retain(|hash, _| self.event_blobs.iter().any(|(_, named)| named == hash));
    }

    /// Leaves the tombstone, with what the thread took.
    fn bury(&mut self, scope: &Scope) -> Deleted {
        self.head.state = HeadState::Deleted;
        self.thread = None;
        self.usage.values_mut().for_each(|call| call.raw = None);
        let through = self.head.next_seq - 1;
        self.note(scope, 0, through, "thread deleted");
        self.quarantine.clear();
        self.clear(scope, "thread deleted")
    }

    /// Notes ascending numbers that went, consecutive ones as one range.
    fn note_deletion(&mut self, scope: &Scope, seqs: impl Iterator<Item = u64>, reason: &'static str) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for seq in seqs {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == seq => *last = seq,
                _ => ranges.push((seq, seq)),
            }
        }
        for (from, through) in ranges {
            self.note(scope, from, through, reason);
        }
    }

    fn note(&mut self, scope: &Scope, from_seq: u64, through_seq: u64, reason: &'static str) {
        self.deletions.push(Deletion {
            thread_id: self.head.thread_id.clone(),
            from_seq,
            through_seq,
            reason: reason.to_owned(),
            deleted_by: scope.owner().cloned(),
            deleted_at: Timestamp::now(),
        });
    }
}

fn take<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, doomed: impl Fn(&V) -> bool) -> Vec<V> {
    let keys: Vec<K> = map.iter().filter(|(_, value)| doomed(value)).map(|(key, _)| key.clone()).collect();
    keys.iter().filter_map(|key| map.remove(key)).collect()
}
