//! Where a test's database comes from, and how a test runs several processes.
//!
//! The tests of this workspace run on SQLite everywhere and on PostgreSQL wherever one can be had.
//! This library finds it, makes one database per test and leaves nothing behind, so that a test
//! says what it needs and nothing about servers.
//!
//! | module | holds |
//! |---|---|
//! | [`postgres`] | the server of this process and databases on it; containers of one's own |
//! | [`sqlite`] | databases in files |
//! | [`processes`] | worker processes that a test starts together and collects |
//! | [`script`] | what runs write that are told again after a process was killed |
//! | [`proxy`] | connections that break at a chosen byte |
//! | [`audit`] | whether everything is there, once, in order, and the numbers agree |
//! | [`load`] | journals that write while something is broken |
//! | [`fault_table`] | the table of what was broken and what was found |
//! | [`worker`] | what a worker process does: the jobs of `runledger-test-worker` |
//!
//! ```no_run
//! use runledger_integration_tests::{postgres, sqlite};
//!
//! # async fn test() {
//! let file = sqlite::database().await;
//! assert!(file.url().starts_with("sqlite://"));
//!
//! // None where no server can be had: the line that says so was printed already.
//! if let Some(server) = postgres::server() {
//!     let database = server.database().await;
//!     assert!(database.url().starts_with("postgres"));
//! }
//! # }
//! ```
//!
//! A connection pool belongs to the runtime of the test that made it: tests share URLs, not pools.

/// The agent of the example, in worker processes.
#[path = "../../journal/examples/agent_loop/agent.rs"]
mod agent_loop;
pub mod audit;
pub mod crew;
mod database;
pub mod fault_table;
pub mod load;
pub mod postgres;
pub mod processes;
pub mod proxy;
pub mod script;
pub mod sqlite;
pub mod worker;

pub use database::TestDatabase;
