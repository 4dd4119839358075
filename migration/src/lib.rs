//! The schema of a Runledger database and everything that changes it.
//!
//! A ledger is read and written by the stores; only this crate creates or alters a table. It
//! depends on nothing of ours, so a migration that was released can never change because a
//! record did.
//!
//! | module | holds |
//! |---|---|
//! | `m20261121_000001_ledger` | the first schema, one room per group of tables |
//! | `table` | the vocabulary a migration is written in, and its SQL in both dialects |
//! | `migrator` | the list of migrations and the adapter to SeaORM's runner |
//! | `version` | what a database says was applied |
//! | `work` | what is still to do: the one computation behind `plan` and `up` |
//! | `transaction` | one `up` or `down` at a time, and the snapshot that readers see |
//! | `connect` | opening a database by URL, a new SQLite file's lasting settings |
//! | `users` | the optional foreign key to the application's users table |
//! | `up`, `down`, `plan`, `status`, `check` | one operation each |
//! | [`command`] | `runledger-migrate`, also mounted as `runledger migrate` |
//!
//! ```
//! # async fn example() -> Result<(), runledger_migration::Error> {
//! use runledger_migration::{UpOptions, check, up};
//!
//! let url = "sqlite://runledger.db";
//! let done = up(url, &UpOptions::default()).await?;
//! println!("applied: {:?}", done.applied);
//! assert!(check(url).await?.fits());
//! # Ok(())
//! # }
//! ```

mod check;
pub mod command;
mod connect;
mod down;
mod error;
mod m20261121_000001_ledger;
mod migrator;
mod plan;
mod status;
mod table;
mod transaction;
mod up;
mod users;
mod version;
mod work;

pub use check::{CheckReport, Verdict, check, check_on};
pub use connect::{DEFAULT_DATABASE_URL, redacted};
pub use down::{DownOptions, DownReport, down, down_on};
pub use error::Error;
pub use m20261121_000001_ledger::{NAME as SCHEMA_VERSION, partitioned_by_thread, table_names as tables};
pub use migrator::{MIGRATION_TABLE, needed};
pub use plan::{Plan, PlannedStatement, plan, plan_on};
pub use status::{MigrationState, MigrationStatus, StatusReport, status, status_on};
pub use transaction::ADVISORY_LOCK_KEY;
pub use up::{UpReport, up, up_on};
pub use users::{USERS_FOREIGN_KEY, UsersTable};
pub use work::UpOptions;
