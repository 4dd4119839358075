//! The command from its arguments to what it prints, on a SQLite file of its own each time.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::{Cli, Output};
use runledger_persistence::{Config, SqlLedger, connect};
use serde_json::Value;

mod agent_runs;
mod context;
mod copy;
mod export;
mod fork;
mod imports;
mod prune;
mod readers;
mod refusals;
mod robustness;
mod rollout_pieces;
mod rollouts;
mod search;
mod serve;
mod spool;
mod token;
mod turns;
mod upkeep;
mod usage;
mod verify;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A folder with a database.
struct Place {
    folder: tempfile::TempDir,
}

struct Said {
    code: u8,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("ledger.db")
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.database().display())
    }

    /// The ledger itself, for what no command does.
    async fn ledger(&self) -> SqlLedger {
        connect(Config::new(self.url())).await.unwrap()
    }

    async fn run(&self, args: &[&str]) -> Said {
        let url = self.url();
        let args = ["runledger"].iter().chain(args).copied().chain(["--database-url", &url]);
        let cli = Cli::try_parse_from(args).unwrap();
        let (out, err) = (Written::default(), Written::default());
        let code = runledger::run(&cli, &mut Output::to(Box::new(out.clone()), Box::new(err.clone()))).await;
        Said { code, out: out.text(), err: err.text() }
    }

    /// What a command that does all it is asked says.
    async fn json(&self, args: &[&str]) -> Value {
        let said = self.run(args).await;
        // That it made a schema is a word beside.
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    async fn import(&self, format: &str, path: &Path) -> Value {
        self.json(&["import", format, path.to_str().unwrap(), "--json"]).await
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A summary of which nothing was left out.
fn summary(counts: [u64; 11]) -> Value {
    let names = [
        "files",
        "threads",
        "runs",
        "events",
        "messages",
        "usage_records",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cost_nanos",
        "skipped",
    ];
    let counts = names.into_iter().zip(counts).chain([("quarantined", 0)]);
    counts.map(|(name, count)| (name.to_owned(), Value::from(count))).collect()
}
