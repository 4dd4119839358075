//! A fresh database per test, and questions to it that do not go through the crate under test.

use std::{
    collections::BTreeMap,
    env,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use sea_orm_migration::sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use serde_json::Value;
use tempfile::TempDir;

const SERVER: &str = "RUNLEDGER_TEST_DATABASE_URL";

/// An empty database that is removed with the value.
pub(crate) struct TestDatabase {
    url: String,
    home: Home,
}

enum Home {
    Folder { _folder: TempDir },
    Server { url: String, name: String },
}

impl TestDatabase {
    /// A SQLite file that does not exist yet.
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
        Self { url, home: Home::Folder { _folder: folder } }
    }

    /// An empty PostgreSQL database, or `None` and a line that says so.
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
    pub(crate) async fn postgres() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = env::var(SERVER) else {
            eprintln!("SKIPPED on PostgreSQL: set {SERVER} to a server's URL to run this test");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("runledger_migration_{}_{number}", std::process::id());
        execute(&server, &format!("CREATE DATABASE {name}")).await;
        let mut url: url::Url = server.parse().unwrap();
        url.set_path(&name);
        Some(Self { url: url.to_string(), home: Home::Server { url: server, name } })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.home, Home::Folder { .. })
    }

    /// Runs SQL as the application would.
    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.writable(), sql).await;
    }

    /// Runs SQL that may be refused; the answer is the refusal.
    pub(crate) async fn refusal(&self, sql: &str) -> Option<String> {
        let connection = self.connect().await;
        let refusal = connection.execute_unprepared(sql).await.err();
        connection.close().await.unwrap();
        refusal.map(|error| error.to_string())
    }

    /// The rows of a query whose columns are text, each row's columns joined by a space.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let connection = self.connect().await;
        let backend = connection.get_database_backend();
        let rows = connection
            .query_all_raw(Statement::from_string(backend, sql))
            .await
            .unwrap()
            .into_iter()
            .map(|row| {
                (0..row.column_names().len())
                    .map(|column| {
                        let value: Option<String> = row.try_get_by_index(column).unwrap();
                        value.unwrap_or_else(|| "NULL".to_owned())
                    })
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        connection.close().await.unwrap();
        rows
    }

    pub(crate) async fn connect(&self) -> DatabaseConnection {
        Database::connect(self.writable()).await.unwrap()
    }

    /// Everything the database's catalog says, by kind.
    pub(crate) async fn catalog(&self) -> BTreeMap<&'static str, Vec<String>> {
        let questions: &[(&'static str, &str)] =
            if self.is_sqlite() { &SQLITE_CATALOG } else { &POSTGRES_CATALOG };
        let mut catalog = BTreeMap::new();
        for (kind, question) in questions {
            catalog.insert(*kind, self.rows(question).await);
        }
        catalog
    }

    fn writable(&self) -> String {
        if self.is_sqlite() { format!("{}?mode=rwc", self.url) } else { self.url.clone() }
    }

    /// The command on this database.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runledger-migrate"));
        command.args(arguments).args(["--database-url", &self.url]);
        command
    }

    /// Runs the command and gives its exit code and its JSON document.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.command(arguments).arg("--json").output().unwrap();
        answer(&output)
    }
}

/// The exit code and the JSON document of a command that has ended.
pub(crate) fn answer(output: &Output) -> (i32, Value) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

const SQLITE_CATALOG: [(&str, &str); 2] = [
    ("schema", "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"),
    (
        "settings",
        "SELECT CAST(page_size AS text), CAST(auto_vacuum AS text), journal_mode \
         FROM pragma_page_size, pragma_auto_vacuum, pragma_journal_mode",
    ),
];

const POSTGRES_CATALOG: [(&str, &str); 4] = [
    (
        "columns",
        "SELECT table_name::text, column_name::text, ordinal_position::text, data_type::text, \
         collation_name::text, is_nullable::text, column_default::text \
         FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 3",
    ),
    (
        "constraints",
        "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) \
         FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
    ),
    ("indexes", "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"),
    (
        "tables",
        "SELECT relname::text, relkind::text, reloptions::text FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i' ORDER BY 1",
    ),
];

async fn execute(url: &str, sql: &str) {
    let connection = Database::connect(url).await.unwrap();
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Home::Server { url, name } = &self.home else {
            return;
        };
        let (url, name) = (url.clone(), name.clone());
        // A runtime of its own: this may run while the test's is unwinding.
        let removal = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(execute(&url, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
        });
        let _ = removal.join();
    }
}

/// Makes the database look as if a newer version had migrated it too.
pub(crate) async fn migrated_by_a_newer_version(database: &TestDatabase) {
    database
        .execute(
            "INSERT INTO runledger_migrations (version, applied_at) \
             VALUES ('m29990101_000001_future', 32472144000)",
        )
        .await;
}
