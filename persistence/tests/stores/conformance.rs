//! The kit of `runledger-core` on each database, and on files as far as they claim.

mod sqlite_file {
    use runledger_core::Ledger;
    use runledger_persistence::SqlLedger;

    use crate::backend::{self, Fresh};

    async fn open() -> Option<(Ledger, (SqlLedger, Fresh))> {
        let (ledger, fresh) = backend::sqlite().await;
        Some((Ledger::clone(&ledger), (ledger, fresh)))
    }

    runledger_core::conformance_tests!(open);
}

mod sqlite_memory {
    use runledger_core::Ledger;
    use runledger_persistence::SqlLedger;

    use crate::backend;

    async fn open() -> Option<(Ledger, SqlLedger)> {
        let ledger = backend::sqlite_memory().await;
        Some((Ledger::clone(&ledger), ledger))
    }

    runledger_core::conformance_tests!(open);
}

mod postgresql {
    use runledger_core::Ledger;
    use runledger_persistence::SqlLedger;

    use crate::backend::{self, Fresh};

    async fn open() -> Option<(Ledger, (SqlLedger, Fresh))> {
        let (ledger, fresh) = backend::postgresql().await?;
        Some((Ledger::clone(&ledger), (ledger, fresh)))
    }

    runledger_core::conformance_tests!(open);
}

mod jsonl {
    use runledger_core::{Capabilities, Ledger, testing};
    use runledger_persistence::jsonl::JsonlLedger;
    use tempfile::TempDir;

    use crate::backend;

    async fn open() -> Option<(Ledger, (JsonlLedger, TempDir))> {
        let (jsonl, folder) = backend::jsonl().await;
        Some((jsonl.ledger(), (jsonl, folder)))
    }

    runledger_core::conformance_tests!(open, lacks [Runs, Marks, Usage, Items, Sessions, Blobs, Search, Feedback, ApiTokens]);

    #[test]
    fn what_is_claimed_does_not_shrink() {
        let claimed = testing::claimed_cases(Capabilities::LOG).len();
        assert!(claimed >= 75, "{claimed} cases are claimed");
    }
}
