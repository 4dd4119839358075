//! The journal against the memory ledger: recorded streams, own callbacks, and stores that fail.

#![expect(clippy::unwrap_used, reason = "a test ends with the first surprise")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod agent_runs;
mod any_stream;
mod deltas;
mod faults;
mod fixtures;
mod lifecycle;
mod recordings;
mod records;
mod recovery;
mod resumed;
mod spool;
mod usage;
