//! The tests against real databases: the conformance kit on each backend, many processes on one database,
//! and what PostgreSQL does when two writers meet.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "in a test an unexpected answer is the finding")]

mod agent_loop;
mod backend;
mod databases;
mod isolation;
mod journal;
mod jsonl_bytes;
mod kit;
mod model;
mod processes;
mod streams;
mod takeover;
