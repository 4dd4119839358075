//! Interactions: questions to people. They are asked by the end of a run and answered by the admission of
//! another.

use std::fmt;

use async_trait::async_trait;

use crate::record::{Interaction, InteractionStatus};
use crate::{InteractionId, ListRange, Page, Result, Scope, ThreadId, text};

/// Which interactions to list. With a thread, that thread's; without one, all that the scope sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InteractionFilter {
    /// Only those of this thread; a foreign or missing one is `NotFound`.
    pub thread_id: Option<ThreadId>,
    /// Only those with this status.
    pub status: Option<InteractionStatus>,
}

impl InteractionFilter {
    /// Refuses what no interaction can have, for those who implement a store.
    pub fn check(&self) -> Result<()> {
        text::require_no_nul("status", self.status.as_ref().map_or("", |status| status.as_str()))
    }
}

/// Reads interactions.
#[async_trait]
pub trait InteractionStore: fmt::Debug + Send + Sync + 'static {
    /// One interaction.
    async fn get(&self, scope: &Scope, thread: &ThreadId, interaction: &InteractionId)
    -> Result<Interaction>;

    /// Interactions, newest first.
    async fn list(
        &self,
        scope: &Scope,
        filter: &InteractionFilter,
        range: &ListRange,
    ) -> Result<Page<Interaction>>;
}
