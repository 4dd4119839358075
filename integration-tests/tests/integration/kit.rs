//! The conformance kit on each backend, opened as an application opens it.

mod sqlite_file {
    use runledger_core::Ledger;

    use crate::backend::{self, Fresh};

    async fn open() -> Option<(Ledger, Fresh)> {
        let fresh = backend::sqlite_file().await?;
        Some((fresh.ledger(), fresh))
    }

    runledger_core::conformance_tests!(open);
}

mod sqlite_memory {
    use runledger_core::Ledger;
    use runledger_migration::{UpOptions, up_on};
    use runledger_persistence::{Config, Connecting, SqlLedger};

    async fn open() -> Option<(Ledger, SqlLedger)> {
        let connecting =
            Connecting::open(Config::new("sqlite::memory:")).await.expect("a database in memory");
        up_on(connecting.database(), &UpOptions::default()).await.expect("the schema");
        let sql = connecting.ledger().await.expect("a ledger");
        Some((sql.ledger(), sql))
    }

    runledger_core::conformance_tests!(open);
}

mod postgresql {
    use runledger_core::Ledger;

    use crate::backend::{self, Fresh};

    async fn open() -> Option<(Ledger, Fresh)> {
        let fresh = backend::postgresql().await?;
        Some((fresh.ledger(), fresh))
    }

    runledger_core::conformance_tests!(open);
}
