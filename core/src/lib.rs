//! The contract of Runledger, the system of record for agent runs: what a record is, what a commit
//! promises, what a store must do.
//!
//! It is a crate of its own so that runtimes, importers and servers can be written against traits,
//! and so that every backend is held to one set of cases. It knows no database and no server.
//!
//! | where | what |
//! |---|---|
//! | this page | ids, [`Scope`], [`Error`], pages, [`Timestamp`], [`RawJson`]: what every record is built of |
//! | [`record`] | what is stored: threads, runs, events, items, usage |
//! | [`commit`] | the one write, and everything about it that needs no database |
//! | [`store`] | one trait for each store, and [`Ledger`], which hands them out and admits and ends runs |
//! | [`view`] | pure functions of records: the item index, the shapes of other systems |
//! | [`verify`] | whether what is stored of a thread agrees with itself |
//! | [`text`] | what databases refuse, and what is too long |
//! | [`MemoryLedger`] | the reference implementation |
//! | `testing` | the conformance kit, with the feature of that name |
//!
//! A run goes in as commits, and comes back as pages of its log:
//!
//! ```
//! use runledger_core::{
//!     Category, Commit, EventDraft, EventFilter, EventType, JournalMark, MemoryLedger, NewRun, NewThread,
//!     OwnerId, RawJson, RunId, Scope, SeqRange, ThreadId,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> runledger_core::Result<()> {
//! let ledger = MemoryLedger::new().ledger();
//! let alice = Scope::Owner(OwnerId::new("alice")?);
//! let (thread, run) = (ThreadId::generate(), RunId::generate());
//! let said = |text| -> runledger_core::Result<EventDraft> {
//!     Ok(EventDraft::new(EventType::new("note")?, Category::Message, RawJson::string(text)))
//! };
//!
//! // The input is durable before any model is called.
//! let new = NewRun {
//!     input: vec![said("How many words are in README.md?")?],
//!     create_missing: Some(NewThread::new(thread.clone())),
//!     ..NewRun::new(thread.clone(), run.clone())
//! };
//! let admitted = ledger.admit(&alice, new).await?;
//!
//! // A commit with a mark can be sent again without being stored twice.
//! let commit = Commit::of_run(thread.clone(), run)
//!     .with_events(vec![said("412.")?])
//!     .with_mark(JournalMark { epoch: admitted.run.epoch, ordinal: 0 });
//! assert_eq!(ledger.events().append(&alice, commit.clone()).await?.seqs, [2]);
//! assert_eq!(ledger.events().append(&alice, commit).await?.seqs, [2]);
//!
//! let page =
//!     ledger.events().list_events(&alice, &thread, &EventFilter::default(), &SeqRange::after(0, 10)).await?;
//! assert_eq!(page.items.len(), 2);
//! # Ok(())
//! # }
//! ```

mod clock;
pub mod commit;
mod error;
mod id;
mod json;
mod memory;
mod number;
#[cfg(feature = "openapi")]
mod openapi;
mod page;
mod raw_object;
pub mod record;
mod scope;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod verify;
pub mod view;
mod wire;

pub use clock::{Clock, SteppingClock, SystemClock, Timestamp};
pub use commit::{
    Admission, CHILD_THREAD, Claim, Commit, Expected, JournalMark, Limits, MAX_COST_NANOS, MAX_COUNT,
    Prepared, Receipt, RunProgress, Transition,
};
pub use error::{Applied, BoxError, Error, ErrorKind, Result};
pub use id::{
    AgentRunId, ApiTokenId, AssistantId, CallId, FeedbackId, ImportSource, InteractionId, ItemId,
    MAX_ID_BYTES, OwnerId, QuarantineId, RunId, SourceId, TaskId, ThreadId, WorkerId,
};
pub use json::RawJson;
pub use memory::MemoryLedger;
pub use number::Decimal;
pub use page::{
    Cursor, DEFAULT_LIMIT, ListRange, MAX_LIMIT, MAX_PAGE_BYTES, Page, SeqFill, SeqPage, SeqRange, SeqScan,
};
pub use raw_object::RawObject;
pub use record::*;
pub use scope::Scope;
pub use store::*;
