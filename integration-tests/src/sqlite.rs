//! Databases in files of a temporary folder.

use tempfile::TempDir;

use crate::database::{TestDatabase, migrate};

/// A migrated database in a file of its own.
///
/// # Panics
/// When the temporary folder cannot be written or the migration fails.
pub async fn database() -> TestDatabase {
    let database = empty_database();
    match migrate(database.url()).await {
        Ok(()) => database,
        Err(reason) => panic!("{reason}"),
    }
}

/// The URL of a file that does not exist yet, for tests of the migration itself.
///
/// # Panics
/// When no temporary folder can be made.
#[must_use]
pub fn empty_database() -> TestDatabase {
    let folder = match TempDir::with_prefix("runledger-sqlite-") {
        Ok(folder) => folder,
        Err(error) => panic!("failed to make a folder for a test's database: {error}"),
    };
    let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
    TestDatabase::in_folder(url, folder)
}
