//! The traits a backend implements, one per file, and [`Ledger`], which hands them out.
//!
//! Every call takes the [`Scope`](crate::Scope) first. A foreign, deleted or missing thread is
//! [`Error::NotFound`](crate::Error::NotFound) everywhere; creating under an id that is taken is
//! [`Error::AlreadyExists`](crate::Error::AlreadyExists), and nothing of the other row is told.

mod capabilities;
mod events;
mod items;
mod ledger;
mod lifecycle;
mod runs;
mod signal;
mod tail;
mod threads;
mod usage;

pub use capabilities::{Capabilities, Capability};
pub use events::{Deleted, EventFilter, EventStore, PutIfAbsent, RunVisibility, check_run_count};
pub use items::{ItemFilter, ItemStore};
pub use ledger::{Admitted, Finish, Finished, Ledger, NewRun};
pub use lifecycle::{Cancellation, Claimed, Swept};
pub use runs::{Claimable, RunFilter, RunStore, Sweep, require_system};
pub use signal::{AppendSignal, Subscription};
pub use tail::TailItem;
pub use threads::{ThreadFilter, ThreadStore};
pub use usage::UsageStore;
