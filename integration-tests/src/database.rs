//! One database, for one test.

use tempfile::TempDir;

use crate::postgres::Lent;

/// A database that exists as long as this value: nobody else uses it, and it is removed with it.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    _home: Home,
}

/// What removes the database when it is dropped.
#[derive(Debug)]
enum Home {
    Folder { _folder: TempDir },
    Server { _lent: Lent },
}

impl TestDatabase {
    pub(crate) fn in_folder(url: String, folder: TempDir) -> Self {
        Self { url, _home: Home::Folder { _folder: folder } }
    }

    pub(crate) fn on_server(url: String, lent: Lent) -> Self {
        Self { url, _home: Home::Server { _lent: lent } }
    }

    /// The URL to connect to, for any number of pools and processes.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Applies the schema; the error is for whoever reads the failed test.
pub(crate) async fn migrate(url: &str) -> Result<(), String> {
    runledger_migration::up(url, &runledger_migration::UpOptions::default())
        .await
        .map(|_| ())
        .map_err(|error| format!("failed to migrate a test's database: {error}"))
}
