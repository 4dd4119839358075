//! The kit of `runledger-core` on each database.

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
