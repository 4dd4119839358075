//! The journal: a runtime's callbacks become durable, replayable records.
//!
//! A runtime opens a [`RunJournal`] for each run, calls its [`RuntimeCallbacks`](callbacks::RuntimeCallbacks)
//! while the agent works, and ends it. The callbacks are synchronous, cheap, never wait and never
//! fail; one task per journal writes what they record, in order and exactly once, however often
//! the store is away or forgets to answer. The records and their meaning are `runledger_core`'s;
//! this crate knows its traits only, never a backend.
//!
//! ```
//! use runledger_core::{
//!     ItemId, MemoryLedger, NewRun, NewThread, Outcome, RawJson, RunId, Scope, ThreadId, Timestamp,
//! };
//! use runledger_journal::callbacks::{ChatModelStart, Context, LlmEnd, RuntimeCallbacks};
//! use runledger_journal::{RunJournal, user_message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> runledger_core::Result<()> {
//! let ledger = MemoryLedger::new().ledger();
//! let thread = ThreadId::generate();
//! let asked = user_message(ItemId::generate(), RawJson::string("What is 2 + 2?"), Timestamp::now());
//! let run = NewRun {
//!     input: vec![asked],
//!     create_missing: Some(NewThread::new(thread.clone())),
//!     ..NewRun::new(thread, RunId::generate())
//! };
//! // What the person said is durable from here on.
//! let journal = RunJournal::begin(&ledger, &Scope::System, run).await?;
//!
//! let call = Context::new("call-1");
//! let messages = RawJson::parse("messages", r#"[{"type": "human", "content": "What is 2 + 2?"}]"#)?;
//! journal.on_chat_model_start(ChatModelStart { context: call, messages: &messages });
//! let response = RawJson::parse(
//!     "response",
//!     r#"{"generations": [[{"message": {"type": "ai", "content": "4",
//!         "usage_metadata": {"input_tokens": 12, "output_tokens": 1}}}]]}"#,
//! )?;
//! journal.on_llm_end(LlmEnd { context: call, response: &response });
//! // Where it matters that the answer is stored before a tool acts on it:
//! journal.barrier().await?;
//!
//! let finished = journal.finish(Outcome::success()).await?;
//! assert_eq!(finished.run.last_ai_message.as_deref(), Some("4"));
//! assert_eq!(finished.run.totals.total_tokens, 13);
//! assert_eq!(journal.close().await?.lost, 0);
//! # Ok(())
//! # }
//! ```
//!
//! A process that executes runs for others has a [`RunManager`], which leases them, tells them when they
//! are to stop, and ends those of processes that are gone:
//!
//! ```
//! use runledger_core::{MemoryLedger, NewRun, NewThread, Outcome, RunId, Scope, ThreadId};
//! use runledger_journal::{Admission, ManagerSettings, RunManager};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> runledger_core::Result<()> {
//! let ledger = MemoryLedger::new().ledger();
//! let (manager, takeover) = RunManager::start(ledger, ManagerSettings::default()).await?;
//! assert!(takeover.claimed.is_empty());
//!
//! let thread = ThreadId::generate();
//! let new = NewRun {
//!     create_missing: Some(NewThread::new(thread.clone())),
//!     ..NewRun::new(thread, RunId::generate())
//! };
//! if let Admission::Active(mut run) = manager.admit(&Scope::System, new).await? {
//!     let stop = run.cancel_token();
//!     tokio::select! {
//!         // The agent works here, with `run.journal()` for its callbacks.
//!         () = async {} => run.finish(Outcome::success()).await?,
//!         () = stop.cancelled() => run.finish(Outcome::interrupted("stopped")).await?,
//!     };
//! }
//! # Ok(())
//! # }
//! ```

pub mod adapters;
mod agent_run_recorder;
mod backoff;
pub mod callbacks;
mod intake;
mod lifecycle;
mod mapping;
mod message;
mod pricing;
mod queue;
mod report;
mod run_journal;
mod sender;
pub mod spool;
mod writer;

pub use agent_run_recorder::{AgentRunRecorder, EndedAgentRun, Ending, Recorded, record_agent_run};
pub use lifecycle::{
    Admission, ManagedRun, ManagerSettings, OnClaimed, OnExpired, QueuedRun, RunManager, StopReason, Takeover,
};
pub use mapping::ItemIds;
pub use pricing::{Price, PricedCall, Pricer, RESERVED};
pub use report::{FinishedRun, QUARANTINED, Quarantined, Report};
pub use run_journal::{Overflow, RunJournal, Settings, SpoolSettings, user_message};

/// The example of the README, so that it is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
