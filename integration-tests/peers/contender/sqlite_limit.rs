//! The limit on SQLite: one connection with prepared statements on our schema, without hops between threads.
//!
//! It stores the thread's counter and the events and nothing else. Writers are threads that share the connection.
//! The log is moved into the database beside the writers, as ours does.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use async_trait::async_trait;
use chrono::Utc;
use runledger_core::{BoxError, ThreadId};
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ToSql, params_from_iter};

use super::{Appends, Home, Load, Place, Setting, in_threads};
use crate::measure::Written;
use crate::work::{Envelope, Work, is_item, item_id};

/// What an event fills of its row.
const COLUMNS: &str = "thread_id, seq, run_id, journal_ordinal, event_type, category, item_id, item_kind, \
                       item_status, content, content_bytes, truncated, created_at";
const WIDTH: usize = 13;
/// Rows of one statement: few texts, so that each stays prepared.
const CHUNKS: [usize; 5] = [64, 16, 4, 2, 1];
/// Bytes between two moves of the log.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// A file with a connection.
pub(crate) struct SqliteLimit {
    connection: Arc<Mutex<Connection>>,
    checkpoints: mpsc::Sender<()>,
    mover: thread::JoinHandle<()>,
    _home: Home,
}

/// A new file.
pub(crate) async fn open(setting: Setting, place: &Place) -> Result<SqliteLimit, BoxError> {
    let home = place.database(setting.backend()).await?;
    let path = PathBuf::from(home.url().trim_start_matches("sqlite://"));
    let connection = connect(&path, setting)?;
    let (checkpoints, due) = mpsc::channel();
    let beside = connect(&path, setting)?;
    let mover = thread::spawn(move || {
        while due.recv().is_ok() {
            // A log that is not moved now is moved with the next.
            let _ = beside.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    });
    Ok(SqliteLimit { connection: Arc::new(Mutex::new(connection)), checkpoints, mover, _home: home })
}

/// With the settings of ours.
pub(crate) fn connect(path: &Path, setting: Setting) -> Result<Connection, BoxError> {
    let connection = Connection::open(path)?;
    let (synchronous, log_bytes) = if setting == Setting::SqliteFull { ("FULL", -1) } else { ("NORMAL", 0) };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA journal_size_limit = {log_bytes}; \
         PRAGMA foreign_keys = on; PRAGMA cache_size = -16384; PRAGMA temp_store = memory"
    ))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Adds a thread.
fn add_thread(connection: &Connection) -> Result<String, BoxError> {
    let thread = ThreadId::generate().to_string();
    connection.execute(
        "INSERT INTO thread_heads (thread_id, state, next_seq, updated_at) VALUES (?, 'open', 1, ?)",
        [&thread, &now()],
    )?;
    Ok(thread)
}

fn now() -> String {
    Utc::now().to_rfc3339()
}

/// A cell of an event's row.
enum Cell<'a> {
    Text(&'a str),
    Owned(String),
    Int(i64),
    Null,
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(text) => text.to_sql(),
            Self::Owned(text) => text.to_sql(),
            Self::Int(number) => number.to_sql(),
            Self::Null => Ok(ToSqlOutput::Owned(rusqlite::types::Value::Null)),
        }
    }
}

/// A writer's commit.
struct Commit<'a> {
    thread: &'a str,
    run: &'a str,
    numbers: Range<u64>,
}

impl Commit<'_> {
    /// Stores it; the answer is how many bytes it took, about.
    fn store(&self, connection: &Connection, work: &Work) -> rusqlite::Result<u64> {
        let now = now();
        let count = (self.numbers.end - self.numbers.start) as i64;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let next: i64 = connection
            .prepare_cached(
                "UPDATE thread_heads SET next_seq = next_seq + ?, updated_at = ? WHERE thread_id = ? \
                 RETURNING next_seq",
            )?
            .query_row((count, &now, self.thread), |row| row.get(0))?;
        let mut seq = next - count;
        let mut numbers = self.numbers.clone();
        let mut bytes = 0;
        for chunk in CHUNKS {
            while numbers.end - numbers.start >= chunk as u64 {
                let mut cells = Vec::with_capacity(chunk * WIDTH);
                for number in numbers.by_ref().take(chunk) {
                    let (content, envelope) = (work.content(number).as_str(), Envelope::of(number));
                    let item = if is_item(number) { Cell::Owned(item_id(number)) } else { Cell::Null };
                    let optional = |text: Option<&'static str>| text.map_or(Cell::Null, Cell::Text);
                    cells.extend([
                        Cell::Text(self.thread),
                        Cell::Int(seq),
                        Cell::Text(self.run),
                        Cell::Int(number as i64),
                        Cell::Text(envelope.event_type),
                        Cell::Text(envelope.category),
                        item,
                        optional(envelope.item_kind),
                        optional(envelope.item_status),
                        Cell::Text(content),
                        Cell::Int(content.len() as i64),
                        Cell::Int(0),
                        Cell::Text(&now),
                    ]);
                    seq += 1;
                    bytes += content.len() as u64 + 300;
                }
                connection.prepare_cached(insert(chunk))?.execute(params_from_iter(cells))?;
            }
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(bytes)
    }
}

/// The statement for these many rows.
fn insert(rows: usize) -> &'static str {
    static TEXTS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let row = format!("({})", ["?"; WIDTH].join(", "));
        let texts = CHUNKS.iter().map(|rows| {
            format!("INSERT INTO run_events ({COLUMNS}) VALUES {}", vec![row.as_str(); *rows].join(", "))
        });
        texts.collect()
    });
    let at = CHUNKS.iter().position(|chunk| *chunk == rows).unwrap_or(CHUNKS.len() - 1);
    &TEXTS[at]
}

impl SqliteLimit {
    fn run(
        connection: &Mutex<Connection>,
        checkpoints: &mpsc::Sender<()>,
        work: &Work,
        load: Load,
    ) -> Result<Written, BoxError> {
        let poisoned = |_| BoxError::from("a writer of the limit failed");
        let threads = {
            let connection = connection.lock().map_err(poisoned)?;
            let count = if load.same_thread { 1 } else { load.writers };
            (0..count).map(|_| add_thread(&connection)).collect::<Result<Vec<_>, _>>()?
        };
        let run = ThreadId::generate().to_string();
        let written = AtomicU64::new(0);
        in_threads(load, |writer, commit| {
            let (thread, numbers) = (&threads[writer % threads.len()], load.numbers(writer, commit));
            let bytes = {
                let connection = connection.lock().map_err(poisoned)?;
                Commit { thread, run: &run, numbers }.store(&connection, work)?
            };
            if written.fetch_add(bytes, Ordering::Relaxed) + bytes > CHECKPOINT_BYTES {
                written.store(0, Ordering::Relaxed);
                let _ = checkpoints.send(());
            }
            Ok(())
        })
    }
}

#[async_trait]
impl Appends for SqliteLimit {
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let (connection, work) = (Arc::clone(&self.connection), Arc::clone(work));
        let checkpoints = self.checkpoints.clone();
        tokio::task::spawn_blocking(move || Self::run(&connection, &checkpoints, &work, load)).await?
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        let connection = self.connection.lock().map_err(|_| "a writer of the limit failed")?;
        let count: i64 = connection.query_row("SELECT count(*) FROM run_events", [], |row| row.get(0))?;
        Ok(count.try_into()?)
    }

    async fn close(self: Box<Self>) {
        drop(self.checkpoints);
        // It has nothing to say.
        let _ = self.mover.join();
    }
}
