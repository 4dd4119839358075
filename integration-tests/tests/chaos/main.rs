//! The tests that break things on purpose: processes that are killed at every write boundary, and
//! databases that stop, vanish, refuse and forget to answer while journals write.
//!
//! Each says in the table of faults what it broke and what it found. `RUNLEDGER_CHAOS=long` breaks more.

#![expect(clippy::expect_used, reason = "in a test an unexpected answer is the finding")]

mod crew;
mod kill;
mod postgresql;
mod sqlite_file;

/// Says how much a fault was felt, beside the table.
#[expect(clippy::print_stderr, reason = "shown where a test fails, or everything is asked for")]
fn say(line: &str) {
    eprintln!("{line}");
}
