//! How many statements each call of a store takes, and how often it goes to the database, on both databases.
//!
//! Every call is made on a scene of 2 rows and on one of 50, and goes to the database as often for either: so a loop
//! over rows that asks for each of them cannot come back. The table is `docs/statements.md`, which the test compares.
//! `RUNLEDGER_WRITE_STATEMENTS=1` writes it anew, with a server of PostgreSQL at hand.
//!
//! PostgreSQL is asked where `RUNLEDGER_TEST_DATABASE_URL` names a server; its column is left alone where it does not.

mod calls;
mod scene;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;
use runledger_core::{Ledger, Result};
use sea_orm::ConnectionTrait;

use crate::round_trip;
use crate::{Config, Notifications, connect};
use scene::Scene;

/// How many rows there are of each kind, in the smaller scene and in the larger.
const SIZES: [u32; 2] = [2, 50];

/// Calls that read everything of a thread, a page at a time: the larger scene has several pages.
const PAGED: [&str; 1] = ["items.verify"];

/// What one call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    /// Without what begins and ends a transaction.
    statements: usize,
    /// With that.
    calls: usize,
}

impl Cost {
    fn of(calls: &[String]) -> Self {
        // No statement has a semicolon of its own: texts are values.
        let statements = calls.iter().flat_map(|sql| sql.split(';')).map(str::trim).filter(|sql| {
            let word = sql.split_whitespace().next();
            !matches!(word, None | Some("BEGIN" | "COMMIT" | "ROLLBACK" | "SET"))
        });
        Self { statements: statements.count(), calls: calls.len() }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.statements == self.calls {
            write!(f, "{}", self.statements)
        } else {
            write!(f, "{} in {}", self.statements, self.calls)
        }
    }
}

/// What the calls took, in the order they were made.
#[derive(Debug, Default)]
struct Tally(Vec<(&'static str, Cost)>);

impl Tally {
    /// Counts a call, which must succeed.
    async fn call<T>(&mut self, name: &'static str, call: impl Future<Output = Result<T>>) -> T {
        let (outcome, calls) = round_trip::of(call).await;
        self.0.push((name, Cost::of(&calls)));
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// What each call took on either scene.
async fn tallies(ledger: &Ledger) -> [Tally; 2] {
    let mut tallies = [Tally::default(), Tally::default()];
    let mut scenes = Vec::new();
    for size in SIZES {
        scenes.push(Scene::set(ledger, size).await);
    }
    for (tally, scene) in tallies.iter_mut().zip(&scenes) {
        calls::reads(ledger, scene, tally).await;
    }
    for (tally, scene) in tallies.iter_mut().zip(&scenes) {
        calls::writes(ledger, scene, tally).await;
    }
    tallies
}

/// A row of the table: the call and its cells.
type Line = (String, Vec<String>);

/// The cells of one database, and which calls take more for more rows.
fn column(tallies: &[Tally; 2]) -> (Vec<(&'static str, String)>, Vec<String>) {
    let [few, many] = tallies;
    let mut growing = Vec::new();
    let mut cells = Vec::new();
    for ((name, few), (same, many)) in few.0.iter().zip(&many.0) {
        assert_eq!(name, same);
        // SQLite is given rows in pieces of powers of two, all in one call.
        if few.calls != many.calls && !PAGED.contains(name) {
            growing.push(format!("{name}: {few} for {} rows, {many} for {}", SIZES[0], SIZES[1]));
        }
        cells.push((*name, if few == many { few.to_string() } else { format!("{few}; {many}") }));
    }
    (cells, growing)
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/statements.md")
}

fn rendered(lines: &[Line]) -> String {
    let mut text = "# Statements per call

How many statements each call of a store takes, and in how many calls of the driver where that is another number:
a transaction is begun and ended by calls of its own, and one call can have several statements. On PostgreSQL a call
is a round trip, and one more the first time that a connection sees a statement.

Each call is made on a scene of 2 rows and on one of 50: pages, and threads with so many runs, messages, open calls
and children, and takes as many calls for either. There are both numbers where 50 rows take more statements: SQLite is
given rows in pieces of powers of two, in one call, and verifying reads a whole thread in pages.

Compared by a test in `persistence/src/sql/statements.rs`; `just statements` writes it anew.

| call | SQLite | PostgreSQL |
|---|---|---|
"
    .to_owned();
    for (name, cells) in lines {
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    text
}

/// The rows of the committed table.
fn committed() -> Vec<Line> {
    let text = std::fs::read_to_string(document()).unwrap_or_default();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| call "));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        (cells.next().unwrap_or_default(), cells.collect())
    })
    .collect()
}

async fn on_sqlite() -> [Tally; 2] {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("statements.db").display());
    runledger_migration::up(&url, &runledger_migration::UpOptions::default()).await.unwrap();
    let ledger = connect(Config::new(url)).await.unwrap();
    let tallies = tallies(&ledger).await;
    ledger.close().await;
    tallies
}

async fn on_postgresql(server: &str) -> [Tally; 2] {
    let name = format!("statements_{}", std::process::id());
    let admin = sea_orm::Database::connect(server).await.unwrap();
    admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut url = url::Url::parse(server).unwrap();
    url.set_path(&name);
    runledger_migration::up(url.as_str(), &runledger_migration::UpOptions::default()).await.unwrap();
    let config = Config::new(url.as_str()).with_notifications(Notifications::Off);
    let ledger = connect(config).await.unwrap();
    let tallies = tallies(&ledger).await;
    ledger.close().await;
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    tallies
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped in part says so")]
async fn a_call_takes_as_many_statements_as_the_table_says_however_many_rows() {
    let (sqlite, mut growing) = column(&on_sqlite().await);
    let mut lines: Vec<Line> = sqlite.into_iter().map(|(name, cell)| (name.to_owned(), vec![cell])).collect();
    let mut committed = committed();
    match std::env::var("RUNLEDGER_TEST_DATABASE_URL") {
        Ok(server) => {
            let (postgresql, more) = column(&on_postgresql(&server).await);
            growing.extend(more);
            for ((name, row), (same, cell)) in lines.iter_mut().zip(postgresql) {
                assert_eq!(name, same);
                row.push(cell);
            }
            if std::env::var_os("RUNLEDGER_WRITE_STATEMENTS").is_some() {
                std::fs::write(document(), rendered(&lines)).unwrap();
            } else {
                assert_eq!(rendered(&lines), std::fs::read_to_string(document()).unwrap_or_default());
            }
        }
        Err(_) => {
            eprintln!(
                "SKIPPED: set RUNLEDGER_TEST_DATABASE_URL to a PostgreSQL server to count its statements"
            );
            committed.iter_mut().for_each(|(_, cells)| cells.truncate(1));
            assert_eq!(lines, committed);
        }
    }
    assert_eq!(growing.join("\n"), "");
}

/// A method that is added to a trait is counted, too.
#[test]
fn every_method_of_a_store_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/store");
    let counted: BTreeSet<String> = committed()
        .into_iter()
        .map(|(name, _)| name.split([',', ' ']).next().unwrap_or_default().to_owned())
        .collect();
    let mut methods = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let store = path.file_stem().unwrap().to_string_lossy().into_owned();
        let traits = text.split("\npub trait ").skip(1).map(|rest| rest.split("\n}\n").next().unwrap());
        for line in
            traits.filter(|body| body.split(':').next().unwrap().ends_with("Store")).flat_map(str::lines)
        {
            if let Some(method) = line.strip_prefix("    async fn ") {
                methods.insert(format!("{store}.{}", method.split('(').next().unwrap()));
            }
        }
    }
    let missing: Vec<_> = methods.difference(&counted).collect();
    assert!(methods.len() > 50, "{methods:?}");
    assert_eq!(missing, Vec::<&String>::new());
}
