//! What a backend can do.

use crate::commit::Prepared;
use crate::{Error, Result};

/// Something that not every backend does. What is not named here, each of them does: appends with
/// expectations and once keys, every reader of the log, deletions, tails, and owner checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Runs are records of their own: admitted, started, ended, listed, and told their progress.
    ///
    /// Where a backend lacks it, a run is there once it has events.
    Runs,
    /// Commits with a [`JournalMark`](crate::JournalMark) are stored exactly once.
    Marks,
    /// Model calls are stored, counted once and summed.
    Usage,
    /// The item index.
    Items,
    /// Context windows, agent runs, interactions, where imports stand, and threads that agents spawn, archive or
    /// delete as trees.
    Sessions,
    /// Large payloads stored once, and forks, which need them.
    Blobs,
    /// Full-text search.
    Search,
    /// What people think of runs and messages.
    Feedback,
    /// Tokens of an API.
    ApiTokens,
}

impl Capability {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Runs,
        Self::Marks,
        Self::Usage,
        Self::Items,
        Self::Sessions,
        Self::Blobs,
        Self::Search,
        Self::Feedback,
        Self::ApiTokens,
    ];

    /// What is asked for where it is needed, as errors name it.
    #[must_use]
    pub fn operation(self) -> &'static str {
        match self {
            Self::Runs => "a run as a record of its own",
            Self::Marks => "a commit with a mark",
            Self::Usage => "a usage record",
            Self::Items => "the item index",
            Self::Sessions => "a context window, an agent run, an interaction or a tree of threads",
            Self::Blobs => "a blob or a fork",
            Self::Search => "full-text search",
            Self::Feedback => "feedback",
            Self::ApiTokens => "a token of an API",
        }
    }

    /// The error of whoever is asked for it and lacks it.
    #[must_use]
    pub fn unsupported(self) -> Error {
        Error::Unsupported { operation: self.operation() }
    }
}

/// What a backend can do. What it cannot, it answers with [`Error::Unsupported`] and does no part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Capability::Runs`].
    pub runs: bool,
    /// [`Capability::Marks`].
    pub marks: bool,
    /// [`Capability::Usage`].
    pub usage: bool,
    /// [`Capability::Items`].
    pub items: bool,
    /// [`Capability::Sessions`].
    pub sessions: bool,
    /// [`Capability::Blobs`].
    pub blobs: bool,
    /// [`Capability::Search`].
    pub search: bool,
    /// [`Capability::Feedback`].
    pub feedback: bool,
    /// [`Capability::ApiTokens`].
    pub api_tokens: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self {
        runs: true,
        marks: true,
        usage: true,
        items: true,
        sessions: true,
        blobs: true,
        search: true,
        feedback: true,
        api_tokens: true,
    };

    /// The log alone.
    pub const LOG: Self = Self {
        runs: false,
        marks: false,
        usage: false,
        items: false,
        sessions: false,
        blobs: false,
        search: false,
        feedback: false,
        api_tokens: false,
    };

    /// Whether it has this one.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        match capability {
            Capability::Runs => self.runs,
            Capability::Marks => self.marks,
            Capability::Usage => self.usage,
            Capability::Items => self.items,
            Capability::Sessions => self.sessions,
            Capability::Blobs => self.blobs,
            Capability::Search => self.search,
            Capability::Feedback => self.feedback,
            Capability::ApiTokens => self.api_tokens,
        }
    }

    /// Whether it has all of these.
    #[must_use]
    pub fn cover(self, needed: &[Capability]) -> bool {
        needed.iter().all(|capability| self.has(*capability))
    }

    /// [`Error::Unsupported`] where a commit needs what is lacking, for those who implement a store.
    /// Events of an item need no item index: what they say of it is in the log.
    pub fn require_for(self, commit: &Prepared) -> Result<()> {
        let needed = [
            (Capability::Runs, commit.transition.is_some() || !commit.progress.is_empty()),
            (Capability::Marks, commit.mark.is_some()),
            (Capability::Usage, !commit.usage.is_empty()),
            (Capability::Blobs, !commit.blobs.is_empty()),
        ];
        match needed.into_iter().find(|(capability, asked)| *asked && !self.has(*capability)) {
            Some((capability, _)) => Err(capability.unsupported()),
            None => Ok(()),
        }
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::ALL
    }
}
