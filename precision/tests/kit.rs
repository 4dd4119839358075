//! The conformance kit on the memory ledger, whose cases compare numbers by their text.

use runledger_core::{Ledger, MemoryLedger};

async fn open() -> Option<(Ledger, ())> {
    Some((MemoryLedger::new().ledger(), ()))
}

runledger_core::conformance_tests!(open);
