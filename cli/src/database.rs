//! Opening the database.
//!
//! Readers never create or alter one. `import` and `demo` make the schema of a SQLite file
//! themselves, so that a first try needs no second command; a server's schema is its operator's.

use runledger_migration::{UpOptions, redacted, up};
use runledger_persistence::{Config, SqlLedger, connect};

use crate::Failure;
use crate::output::Output;

/// Opens the database for readers.
pub(crate) async fn open(url: &str) -> Result<SqlLedger, Failure> {
    Ok(connect(Config::new(url)).await?)
}

/// Opens the database for writers; the schema of a SQLite file is made where it is missing.
pub(crate) async fn open_or_make(url: &str, output: &mut Output) -> Result<SqlLedger, Failure> {
    if url.starts_with("sqlite") {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(Failure::Usage(
                "a database in memory is gone when the command ends; give a file, as in sqlite://runledger.db"
                    .to_owned(),
            ));
        }
        let made = up(url, &UpOptions::default()).await?;
        if !made.applied.is_empty() {
            output.note(format!("made the schema of {}", redacted(url)))?;
        }
    }
    open(url).await
}
