//! Questions to people.

use crate::record::{Interaction, InteractionStatus, NewInteraction, RunStatus, Visibility};
use crate::store::InteractionFilter;
use crate::{Cursor, Error, InteractionId, ListRange, Page, Result, Scope, ThreadId};

use super::MemoryLedger;
use super::read::newest_first;
use super::state::Log;

impl MemoryLedger {
    pub(super) fn interaction_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        interaction: &InteractionId,
    ) -> Result<Interaction> {
        self.state().log(scope, thread)?.interaction(interaction).cloned()
    }

    pub(super) fn list_interactions_now(
        &self,
        scope: &Scope,
        filter: &InteractionFilter,
        range: &ListRange,
    ) -> Result<Page<Interaction>> {
        filter.check()?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::pair_position).transpose()?;
        let state = self.state();
        let logs: Vec<&Log> = match &filter.thread_id {
            Some(thread) => vec![state.log(scope, thread)?],
            None => state.threads.values().collect(),
        };
        let found = logs.into_iter().flat_map(|log| log.interactions.values()).filter(|interaction| {
            scope.sees(interaction.owner_id.as_ref())
                && filter.status.as_ref().is_none_or(|status| interaction.status == *status)
        });
        Ok(newest_first(
            found,
            limit,
            end,
            |it| (it.created_at, it.interaction_id.as_str(), it.thread_id.as_str()),
            |it| Cursor::at_pair(it.created_at, it.interaction_id.as_str(), it.thread_id.as_str()),
        ))
    }
}

impl Log {
    pub(super) fn interaction(&self, id: &InteractionId) -> Result<&Interaction> {
        self.interactions.get(id).ok_or_else(|| Error::not_found("interaction", id))
    }

    /// Refuses a question under an id that is taken.
    pub(super) fn require_unasked(&self, asks: &[NewInteraction]) -> Result<()> {
        match asks.iter().find(|ask| self.interactions.contains_key(&ask.interaction_id)) {
            Some(ask) => Err(Error::already_exists("interaction", &ask.interaction_id)),
            None => Ok(()),
        }
    }

    /// Refuses an answer to a question that is not open.
    pub(super) fn require_open(&self, id: &InteractionId) -> Result<()> {
        let interaction = self.interaction(id)?;
        let answering = interaction.answer_run_id.as_ref().and_then(|run| self.runs.get(run));
        // Nothing went on with the answer of a run that is hidden, or that ended in the queue.
        let undone = answering.is_some_and(|run| {
            run.visibility != Visibility::Shown || (run.epoch == 0 && run.status != RunStatus::Queued)
        });
        match &interaction.status {
            InteractionStatus::Open => Ok(()),
            InteractionStatus::Answered if undone => Ok(()),
            status => Err(Error::conflict("interaction", "open", status)),
        }
    }
}
