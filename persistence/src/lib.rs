//! The ledger on SQLite and PostgreSQL, and its log in files.
//!
//! [`connect`] opens a database by URL, checks that its schema is the one this version needs and
//! hands out the stores that `runledger-core` describes. The schema itself belongs to
//! `runledger-migration`: nothing here creates or alters a table.
//!
//! ```
//! use runledger_core::{
//!     Category, Commit, EventDraft, EventType, NewThread, RawJson, RunVisibility, Scope, SeqRange, ThreadId,
//! };
//! use runledger_persistence::{Config, connect};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("sqlite://{}", folder.path().join("runledger.db").display());
//! // The command `runledger-migrate up` does the same.
//! runledger_migration::up(&url, &runledger_migration::UpOptions::default()).await?;
//!
//! let ledger = connect(Config::new(&url)).await?;
//! let thread = ThreadId::generate();
//! ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await?;
//!
//! let note = EventDraft::new(EventType::new("note")?, Category::Message, RawJson::string("hello"));
//! let commit = Commit::new(thread.clone()).with_events(vec![note]);
//! let receipt = ledger.events().append(&Scope::System, commit).await?;
//!
//! let page = ledger
//!     .events()
//!     .list_messages(&Scope::System, &thread, RunVisibility::Shown, &SeqRange::last(50))
//!     .await?;
//! assert_eq!(page.items[0].seq, receipt.seqs[0]);
//! ledger.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `connect` | opening and closing: pools, durability, timeouts |
//! | `schema_check` | whether the schema is the one this version needs, read only |
//! | `dialect` | every difference between SQLite and PostgreSQL |
//! | `error_map` | the one place that knows a driver's codes |
//! | `commit` | the one write: lanes that hold a connection, groups, the statements |
//! | `entity` | the tables as SeaORM sees them, and records of their rows |
//! | `sql` | the stores, one module per trait |
//! | `watch` | telling other processes of appends, and hearing of theirs |
//! | [`jsonl`] | the log in files, without a database |
//! | [`archive`] | whole threads in files, and copies of whole ledgers |
//! | `backup` | a copy of a SQLite file in use, and its free space given back |
//! | `envelope`, `file_name`, `disk` | what files of ours have in common |
//! | [`retention`] | removing old events, and giving their space back |
//! | `fail_point` | with the feature `failpoints`: where tests end the process |

/// A place at which a test can end the process; nothing without the feature `failpoints`.
macro_rules! fail_point {
    ($point:ident) => {
        #[cfg(feature = "failpoints")]
        crate::fail_point::FailPoint::$point.reach();
    };
}

/// Notes a call to a database for the test that counts them; nothing outside of tests.
macro_rules! note_call {
    ($sql:expr) => {
        #[cfg(test)]
        crate::round_trip::note($sql);
    };
}

pub mod archive;
mod backup;
mod commit;
mod connect;
mod dialect;
mod disk;
mod entity;
mod envelope;
mod error_map;
#[cfg(feature = "failpoints")]
pub mod fail_point;
mod file_name;
pub mod jsonl;
mod patience;
pub mod retention;
#[cfg(test)]
mod round_trip;
mod schema_check;
mod sql;
mod sqlite_file;
mod watch;

pub use connect::{Config, Connecting, Durability, Notifications, Pooler, SqlLedger, connect, redacted};

/// The example of the README, so that it is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
