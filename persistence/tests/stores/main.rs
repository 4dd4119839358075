//! The stores on files and on real databases: SQLite always, PostgreSQL when `RUNLEDGER_TEST_DATABASE_URL` names a
//! server on which databases may be created.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should end there")]

mod agent_runs;
mod archive;
mod backend;
mod backup;
mod conformance;
mod damage;
mod deletion;
mod forks;
mod jsonl;
mod locks;
mod oracle;
mod ready;
mod retention;
mod thread_lists;
mod trees;
