//! The traits a backend implements, one per file, and [`Ledger`], which hands them out.
//!
//! Every call takes the [`Scope`](crate::Scope) first. A foreign, deleted or missing thread is
//! [`Error::NotFound`](crate::Error::NotFound) everywhere; creating under an id that is taken is
//! [`Error::AlreadyExists`](crate::Error::AlreadyExists), and nothing of the other row is told.

mod agent_runs;
mod api_tokens;
mod blobs;
mod capabilities;
mod context;
mod delegation;
mod erasure;
mod events;
mod feedback;
mod fork;
mod imports;
mod interactions;
mod items;
mod ledger;
mod lifecycle;
mod live;
mod pending;
mod runs;
mod search;
mod signal;
mod tail;
mod threads;
mod transcript;
mod usage;
mod watch;

pub use agent_runs::{
    AgentMatch, AgentRunFilter, AgentRunStanding, AgentRunStore, RecordedAgentRun, StoredAgentRun, Unfolded,
};
pub use api_tokens::{ApiTokenFilter, ApiTokenStore};
pub use blobs::BlobStore;
pub use capabilities::{Capabilities, Capability};
pub use context::{ContextStore, Fold};
pub use delegation::{Delegated, Delegation};
pub use events::{Deleted, EventFilter, EventStore, PutIfAbsent, RunVisibility, check_run_count};
pub use feedback::{FeedbackFilter, FeedbackStore};
pub use fork::{Fork, ForkPoint, Forked};
pub use imports::{ImportStore, check_quarantined};
pub use interactions::{InteractionFilter, InteractionStore};
pub use items::{
    ClaimedItem, Contents, ItemFilter, ItemPage, ItemQuery, ItemSeq, ItemStore, ListOrder, MAX_ITEM_IDS,
    MAX_TURNS, Turn, TurnPage, TurnQuery, TurnStart, TurnView, check_item_ids,
};
pub use ledger::{Admitted, Finish, Finished, Ledger, NewRun, Stores};
pub use lifecycle::{Cancellation, Claimed, Swept};
pub use live::{DeltaKind, Heard, Listener, LiveDelta};
pub use pending::{Abort, ActiveRun, Healed, OpenItem, PendingCall, Resumption};
pub use runs::{Claimable, Reservation, Reserve, RunFilter, RunStore, Sweep, require_system};
pub use search::{Behind, IndexBudget, Indexed, SearchFilter, SearchHit, SearchPage, SearchStore};
pub use signal::{AppendSignal, Relay, Subscription};
pub use tail::TailItem;
pub use threads::{
    ChildFilter, Deletion, DeletionFilter, Erased, Erasure, MetadataMatch, MetadataValue, ThreadFilter,
    ThreadStore, require_system_scope,
};
pub use transcript::FoldedEnds;
pub use usage::{UsageOf, UsageQuery, UsageStore};
pub use watch::Hint;
