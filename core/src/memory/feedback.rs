//! Feedback.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::record::{Feedback, FeedbackPatch, FeedbackStats, NewFeedback};
use crate::store::{FeedbackFilter, FeedbackStore, check_run_count};
use crate::{Cursor, Error, FeedbackId, ListRange, Page, Result, RunId, Scope, ThreadId, Timestamp};

use super::MemoryLedger;
use super::read::newest_first;
use super::state::Log;

#[async_trait]
impl FeedbackStore for MemoryLedger {
    async fn create(&self, scope: &Scope, new: NewFeedback) -> Result<Feedback> {
        let new = new.into_feedback(scope)?;
        let mut state = self.state();
        let log = state.log_mut(scope, &new.thread_id)?;
        log.require_subject(&new)?;
        if log.opinion_like(&new).is_some() {
            return Err(Error::already_exists("feedback", &new.feedback_id));
        }
        log.give(new)
    }

    async fn put(&self, scope: &Scope, new: NewFeedback) -> Result<Feedback> {
        let new = new.into_feedback(scope)?;
        let mut state = self.state();
        let log = state.log_mut(scope, &new.thread_id)?;
        log.require_subject(&new)?;
        match log.opinion_like(&new).cloned() {
            Some(old) => {
                let put = old.replaced_by(new);
                log.feedback.insert(put.feedback_id.clone(), put.clone());
                Ok(put)
            }
            None => log.give(new),
        }
    }

    async fn get(&self, scope: &Scope, thread: &ThreadId, feedback: &FeedbackId) -> Result<Feedback> {
        let state = self.state();
        let found = state.log(scope, thread)?.feedback.get(feedback);
        found.cloned().ok_or_else(|| Error::not_found("feedback", feedback))
    }

    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &FeedbackFilter,
        range: &ListRange,
    ) -> Result<Page<Feedback>> {
        check_run_count(&filter.run_ids)?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::position).transpose()?;
        let state = self.state();
        let found = state.log(scope, thread)?.feedback.values().filter(|feedback| {
            (filter.run_ids.is_empty() || filter.run_ids.contains(&feedback.run_id))
                && filter.item_id.as_ref().is_none_or(|item| feedback.item_id.as_ref() == Some(item))
        });
        Ok(newest_first(
            found,
            limit,
            end,
            |feedback| (feedback.created_at, feedback.feedback_id.as_str()),
            |feedback| Cursor::at(feedback.created_at, feedback.feedback_id.as_str()),
        ))
    }

    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        feedback: &FeedbackId,
        patch: FeedbackPatch,
        at: Timestamp,
    ) -> Result<Feedback> {
        let mut state = self.state();
        let found = state.log_mut(scope, thread)?.feedback.get_mut(feedback);
        let found = found.ok_or_else(|| Error::not_found("feedback", feedback))?;
        found.apply(patch, at)?;
        Ok(found.clone())
    }

    async fn delete(&self, scope: &Scope, thread: &ThreadId, feedback: &FeedbackId) -> Result<()> {
        let mut state = self.state();
        let removed = state.log_mut(scope, thread)?.feedback.remove(feedback);
        removed.map(drop).ok_or_else(|| Error::not_found("feedback", feedback))
    }

    async fn stats(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, FeedbackStats>> {
        check_run_count(runs)?;
        let state = self.state();
        let mut stats: BTreeMap<RunId, FeedbackStats> = BTreeMap::new();
        for feedback in state.log(scope, thread)?.feedback.values() {
            if runs.contains(&feedback.run_id) {
                stats.entry(feedback.run_id.clone()).or_default().add(feedback.rating, 1);
            }
        }
        Ok(stats)
    }
}

impl Log {
    /// `NotFound` where the run or the item that feedback is about is not there.
    fn require_subject(&self, feedback: &Feedback) -> Result<()> {
        self.run(&feedback.run_id)?;
        match &feedback.item_id {
            Some(item) if !self.items.contains_key(&(feedback.run_id.clone(), item.clone())) => {
                Err(Error::not_found("item", item))
            }
            _ => Ok(()),
        }
    }

    /// What the same person thought of the same before; of several that are nobody's, the latest.
    fn opinion_like(&self, new: &Feedback) -> Option<&Feedback> {
        let like = self.feedback.values().filter(|feedback| feedback.is_opinion_of(new));
        like.max_by_key(|feedback| (feedback.created_at, &feedback.feedback_id))
    }

    fn give(&mut self, new: Feedback) -> Result<Feedback> {
        if self.feedback.contains_key(&new.feedback_id) {
            return Err(Error::already_exists("feedback", &new.feedback_id));
        }
        self.feedback.insert(new.feedback_id.clone(), new.clone());
        Ok(new)
    }
}
