//! Fresh databases and folders for tests: one per test, gone with the test.

use std::any::Any;

use runledger_migration::{UpOptions, up, up_on};
use runledger_persistence::jsonl::{JsonlConfig, JsonlLedger};
use runledger_persistence::{Config, Connecting, SqlLedger, connect};
use sea_orm::ConnectionTrait;

/// Names a PostgreSQL server; unset, what needs one is skipped with a line that says so.
const SERVER: &str = "RUNLEDGER_TEST_DATABASE_URL";

/// A database of its own, removed with this value: keep it as long as the ledger over it.
pub(crate) struct Fresh {
    /// Where it is.
    pub(crate) url: String,
    #[expect(dead_code, reason = "held for what its drop does")]
    guard: Box<dyn Any + Send>,
}

/// A database on a server.
#[derive(Debug)]
struct Database {
    server: String,
    name: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // On a thread of its own: a test's runtime may be the one that drops this. A database that
        // cannot be dropped is left, for the test has its answer already.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let admin = sea_orm::Database::connect(&server).await.ok()?;
                admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.ok()
            })
        });
        drop(dropped.join());
    }
}

/// A ledger over a new SQLite file.
pub(crate) async fn sqlite() -> (SqlLedger, Fresh) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
    up(&url, &UpOptions::default()).await.unwrap();
    (connect(Config::new(&url)).await.unwrap(), Fresh { url, guard: Box::new(folder) })
}

/// A ledger over a SQLite database in memory, which only its own connection can migrate.
pub(crate) async fn sqlite_memory() -> SqlLedger {
    let connecting = Connecting::open(Config::new("sqlite::memory:")).await.unwrap();
    up_on(connecting.database(), &UpOptions::default()).await.unwrap();
    connecting.ledger().await.unwrap()
}

/// A ledger over a new database on the server that [`SERVER`] names, if it does.
pub(crate) async fn postgresql() -> Option<(SqlLedger, Fresh)> {
    let (database, url) = new_database().await?;
    up(&url, &UpOptions::default()).await.unwrap();
    Some((connect(Config::new(&url)).await.unwrap(), Fresh { url, guard: Box::new(database) }))
}

/// The URL of a new database without a schema, and what removes it.
pub(crate) async fn empty_postgresql() -> Option<(Box<dyn Any + Send>, String)> {
    let (database, url) = new_database().await?;
    Some((Box::new(database), url))
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
async fn new_database() -> Option<(Database, String)> {
    let Ok(server) = std::env::var(SERVER) else {
        eprintln!("SKIPPED: set {SERVER} to a PostgreSQL server to run this there");
        return None;
    };
    let admin = sea_orm::Database::connect(&server).await.unwrap();
    let name = format!("ledger_{}", runledger_core::ThreadId::generate().as_str().replace('-', "_"));
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    admin.close().await.unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    Some((Database { server, name }, url.into()))
}

/// A ledger over a new folder of files.
pub(crate) async fn jsonl() -> (JsonlLedger, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = JsonlLedger::open(folder.path(), JsonlConfig::default()).await.unwrap();
    (ledger, folder)
}
