//! A fresh ledger on each backend.

use runledger_core::Ledger;
use runledger_integration_tests::{TestDatabase, postgres, sqlite};
use runledger_persistence::{Config, SqlLedger, connect};

/// A ledger and what must live as long as it.
pub(crate) struct Fresh {
    pub(crate) sql: SqlLedger,
    pub(crate) database: TestDatabase,
}

impl Fresh {
    async fn on(database: TestDatabase) -> Self {
        let sql = connect(Config::new(database.url())).await.expect("a migrated database");
        Self { sql, database }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.sql.ledger()
    }
}

/// On SQLite, in a file.
pub(crate) async fn sqlite_file() -> Option<Fresh> {
    Some(Fresh::on(sqlite::database().await).await)
}

/// On PostgreSQL; `None` where there is no server, which was said already.
pub(crate) async fn postgresql() -> Option<Fresh> {
    Some(Fresh::on(postgres::server()?.database().await).await)
}

/// Makes a test of each backend from an async function that takes a [`Fresh`].
macro_rules! on_each_backend {
    ($($case:ident),+ $(,)?) => {
        mod sqlite_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                if let Some(fresh) = crate::backend::sqlite_file().await {
                    super::$case(&fresh).await;
                }
            })+
        }
        mod postgresql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                if let Some(fresh) = crate::backend::postgresql().await {
                    super::$case(&fresh).await;
                }
            })+
        }
    };
}

pub(crate) use on_each_backend;
