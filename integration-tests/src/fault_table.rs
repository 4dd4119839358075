//! The table of faults: what was broken, how often, and what was found afterwards.
//!
//! Each test that breaks something [records](Row::record) a row, which is printed. Where
//! `RUNLEDGER_FAULT_TABLE` names a file, the row is appended to it too: `just chaos` makes one table of
//! the rows of all test binaries.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};

use crate::audit::Audit;

/// The variable that names the file of rows.
pub const TABLE: &str = "RUNLEDGER_FAULT_TABLE";

/// The variable that asks for the long form: `RUNLEDGER_CHAOS=long`.
pub const CHAOS: &str = "RUNLEDGER_CHAOS";

/// Whether the tests that break things run in their long form.
#[must_use]
pub fn is_long() -> bool {
    env::var(CHAOS).is_ok_and(|form| form == "long")
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// What was broken.
    pub fault: &'a str,
    /// On which database.
    pub backend: &'a str,
    /// How often.
    pub injected: u64,
    /// How many events were acknowledged.
    pub acknowledged: u64,
    /// What was found afterwards.
    pub audit: &'a Audit,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audit { found, duplicates, holes, stuck, .. } = self.audit;
        write!(f, "| {} | {} | {} | {} |", self.fault, self.backend, self.injected, self.acknowledged)?;
        write!(f, " {found} | {duplicates} | {holes} | {stuck} |")
    }
}

impl Row<'_> {
    /// Adds the row to the table.
    ///
    /// # Panics
    /// When the table's file cannot be written, for then the table would be wrong; and when something
    /// that was acknowledged is missing, doubled or open, or nothing was broken at all.
    pub fn record(&self) {
        let line = format!("{self}\n");
        // Past libtest's capture, which hides what a passing test prints; in one piece, for tests run
        // side by side.
        let _ = io::stderr().write_all(line.as_bytes());
        if let Some(path) = env::var_os(TABLE) {
            let opened = OpenOptions::new().create(true).append(true).open(&path);
            if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
                panic!("failed to add to the table of faults at {}: {error}", path.display());
            }
        }
        assert!(self.audit.faults.is_empty(), "{self}: {}", self.audit.faults.join("\n"));
        let Audit { found, duplicates, holes, stuck, .. } = *self.audit;
        assert_eq!((found, duplicates, holes, stuck), (self.acknowledged, 0, 0, 0), "{self}");
        assert!(self.injected > 0, "{self}: nothing was broken");
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn row(audit: &Audit, injected: u64) -> Row<'_> {
        Row { fault: "paused", backend: "PostgreSQL", injected, acknowledged: 7, audit }
    }

    #[test]
    fn a_row_is_a_line_of_markdown() {
        let audit = Audit { found: 7, duplicates: 1, holes: 2, stuck: 3, faults: Vec::new() };
        assert_eq!(row(&audit, 4).to_string(), "| paused | PostgreSQL | 4 | 7 | 7 | 1 | 2 | 3 |");
    }

    #[test]
    fn a_row_that_says_that_something_is_wrong_fails_its_test() {
        let good = Audit { found: 7, ..Audit::default() };
        let bad = [
            (Audit { found: 6, ..Audit::default() }, 1),
            (Audit { duplicates: 1, ..good.clone() }, 1),
            (Audit { holes: 1, ..good.clone() }, 1),
            (Audit { stuck: 1, ..good.clone() }, 1),
            (Audit { faults: vec!["odd".to_owned()], ..good.clone() }, 1),
            (good.clone(), 0),
        ];
        for (audit, injected) in bad {
            // Nothing is recorded of it but the line on stderr, unless a table was asked for.
            if env::var_os(TABLE).is_none() {
                assert!(std::panic::catch_unwind(|| row(&audit, injected).record()).is_err(), "{audit:?}");
            }
        }
    }
}
