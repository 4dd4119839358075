//! Full-text search over what was said and what tools returned.
//!
//! The index is a view that lags: nothing of it is part of an append, so an append costs nothing more for it
//! and is never refused because of it. Whoever searches brings it up to date first, as far as a budget
//! reaches, and is told what is left.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Ledger, RunVisibility};
use crate::record::ItemKind;
use crate::view::search::{SearchQuery, Snippet};
use crate::{Cursor, ItemId, ListRange, Result, RunId, Scope, ThreadId, Timestamp, text};

/// Which texts to search. With a thread, that thread's; without one, all that the scope sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchFilter {
    /// Only those of this thread; a foreign or missing one is `NotFound`.
    pub thread_id: Option<ThreadId>,
    /// Only those of items of these kinds; empty is no filter.
    pub kinds: Vec<ItemKind>,
    /// Only those of this time or later.
    pub created_from: Option<Timestamp>,
    /// Only those from before this time.
    pub created_before: Option<Timestamp>,
    /// Whose runs' texts.
    pub visibility: RunVisibility,
}

impl SearchFilter {
    /// Everything of one thread.
    #[must_use]
    pub fn of_thread(thread: ThreadId) -> Self {
        Self { thread_id: Some(thread), ..Self::default() }
    }

    /// Refuses what no item can be, for those who implement a store.
    pub fn check(&self) -> Result<()> {
        self.kinds.iter().try_for_each(|kind| text::require_no_nul("kinds", &kind.to_string()))
    }
}

/// A text that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchHit {
    /// The thread.
    pub thread_id: ThreadId,
    /// The event whose text it is.
    pub seq: u64,
    /// Its run; `None` for records of the thread itself.
    pub run_id: Option<RunId>,
    /// The item that it completes.
    pub item_id: Option<ItemId>,
    /// What that is.
    pub item_kind: Option<ItemKind>,
    /// When it happened.
    pub created_at: Timestamp,
    /// The part of the text around the first match.
    pub snippet: Snippet,
}

/// What is not indexed yet of the threads that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Behind {
    /// Threads that have grown since.
    pub threads: u64,
    /// By how many numbers.
    pub events: u64,
}

impl Behind {
    /// How many threads of a scope are looked at: those that were updated last.
    pub const THREADS: u64 = 1_000;
}

/// Texts that were found, newest first: by time, then by thread and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchPage {
    /// The texts.
    pub items: Vec<SearchHit>,
    /// Whether there may be further ones. A page may have fewer than were asked for, and even none, where
    /// many texts have all the words of a phrase and not the phrase.
    pub has_more: bool,
    /// Where the next page starts; `Some` exactly when there may be further ones.
    pub next_cursor: Option<Cursor>,
    /// What was not searched because it is not indexed yet.
    pub behind: Behind,
}

/// How much is indexed by one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexBudget {
    /// Events that are looked at, at most.
    pub events: u64,
    /// Bytes of payloads after which nothing further is looked at.
    pub bytes: u64,
}

impl IndexBudget {
    /// Nothing: a look at what there would be to do.
    pub const NONE: Self = Self { events: 0, bytes: 0 };
}

impl Default for IndexBudget {
    fn default() -> Self {
        Self { events: 2_000, bytes: 8 << 20 }
    }
}

/// What an indexing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Indexed {
    /// Events that were passed.
    pub events: u64,
    /// Texts that can be found now.
    pub documents: u64,
    /// Payloads among them that could not be read: nothing of them is found.
    pub unreadable: u64,
    /// What is left.
    pub behind: Behind,
}

/// Keeps the texts of events and finds them.
///
/// # To ensure correctness
///
/// - A text is kept for each event that [`is_searched`](crate::view::search::is_searched) names and
///   [`extract`](crate::view::search::extract) finds text in, once, whoever else indexes at the same time; together
///   with it moves the number up to which its thread is indexed. A payload that cannot be read is passed.
/// - What is found is what [`SearchQuery::find`] says of the text, whatever the index believes.
/// - A text goes with its event, in the same transaction, and is seen by whom its thread is seen.
#[async_trait]
pub trait SearchStore: fmt::Debug + Send + Sync + 'static {
    /// Indexes what threads have grown by: one, or of those the scope sees the [`Behind::THREADS`] that were
    /// updated last.
    async fn index(&self, scope: &Scope, thread: Option<&ThreadId>, budget: IndexBudget) -> Result<Indexed>;

    /// Forgets what is indexed of a thread: it is indexed anew, from its beginning.
    async fn forget(&self, scope: &Scope, thread: &ThreadId) -> Result<()>;

    /// Finds what is indexed. [`SearchPage::behind`] is left empty.
    async fn find(
        &self,
        scope: &Scope,
        query: &SearchQuery,
        filter: &SearchFilter,
        range: &ListRange,
    ) -> Result<SearchPage>;
}

impl Ledger {
    /// Searches what was said and what tools returned. What has been appended since the last search is indexed
    /// first, as far as the default [`IndexBudget`] reaches; [`SearchPage::behind`] tells what is left.
    ///
    /// `Unsupported` where the backend has no index.
    pub async fn search(
        &self,
        scope: &Scope,
        query: &SearchQuery,
        filter: &SearchFilter,
        range: &ListRange,
    ) -> Result<SearchPage> {
        let index = self.search_index();
        filter.check()?;
        range.checked_limit()?;
        let indexed = index.index(scope, filter.thread_id.as_ref(), IndexBudget::default()).await?;
        Ok(SearchPage { behind: indexed.behind, ..index.find(scope, query, filter, range).await? })
    }
}
