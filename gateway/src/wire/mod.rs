//! Records in the shapes that programs read.
//!
//! A thread, a run and a sum of usage have the wire names of DeerFlow's API and the LangGraph platform, so
//! that their consumers read them unchanged; what only this ledger knows stands beside them under
//! its own name. What those have no shape for is core's record as it is.

mod context;
mod item;
mod message;
mod page;
mod redact;
mod report;
mod run;
mod thread;
pub(crate) mod thread_pin;
mod usage;

pub use context::{WireWindow, WireWindowMessage, message_kind};
pub use item::{WireItem, WireItemPage, WirePendingCall, WireTurn, WireTurnPage};
pub use message::{WireCanonicalMessage, WireMessage, WireMessageFeedback, WireMessagePage, WireMessageRow};
pub use page::{WireEventPage, WirePage, WireSeqPage};
pub(crate) use redact::{redacted, redacted_event};
pub use report::{WireContextUsage, WireTokenUsage, WireUsageReport};
pub use run::{WireRun, wire_status};
pub use thread::{WireThread, WireThreadValues};
pub use usage::{WireCallerUsage, WireModelUsage, WireUsage};
