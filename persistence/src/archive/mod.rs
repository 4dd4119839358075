//! Whole threads as files, and copies of whole ledgers.
//!
//! A thread is copied from one [`Place`] to another: a database of either kind, or a folder of archives.
//! Everything of it goes along: the thread and its head, runs, events byte for byte, items, usage,
//! compactions, deletions, quarantine, queued inputs, agent runs; of a deleted thread its tombstone. Who
//! holds a run does not: where it is copied to, a run that has not ended is taken over as one that nobody
//! holds.
//!
//! ```
//! use runledger_core::{Category, Commit, EventDraft, EventType, NewThread, RawJson, Scope, ThreadId};
//! use runledger_persistence::archive::{CopyOptions, Place, copy};
//! # use runledger_persistence::{Config, SqlLedger, connect};
//! # async fn open(folder: &std::path::Path, name: &str) -> Result<SqlLedger, Box<dyn std::error::Error>> {
//! #     let url = format!("sqlite://{}", folder.join(name).display());
//! #     runledger_migration::up(&url, &runledger_migration::UpOptions::default()).await?;
//! #     Ok(connect(Config::new(&url)).await?)
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let ledger = open(folder, "ledger.db").await?;
//! let thread = ThreadId::new("t1")?;
//! let note = EventDraft::new(EventType::new("note")?, Category::Message, RawJson::string("hello"));
//! let commit = Commit {
//!     create_missing: Some(NewThread::new(thread.clone())),
//!     ..Commit::new(thread).with_events(vec![note])
//! };
//! ledger.events().append(&Scope::System, commit).await?;
//!
//! let (ledger, archives) = (Place::Ledger(ledger), Place::Folder(folder.join("archives")));
//! let verified = CopyOptions { verify: true, ..CopyOptions::default() };
//! let report = copy(&ledger, &archives, &verified, |_| {}).await?;
//! assert_eq!((report.copied, report.verified, report.refused), (1, 1, 0));
//!
//! let other = Place::Ledger(open(folder, "other.db").await?);
//! assert_eq!(copy(&archives, &other, &verified, |_| {}).await?.rows["run_events"], 1);
//! // What is there already is not written again.
//! assert_eq!(copy(&ledger, &other, &verified, |_| {}).await?.equal, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - A thread is read as it was at one moment, while others write to it.
//! - It is written whole or not at all: in one transaction, or as a file that takes its place when it is
//!   complete and on the disk. A copy that was cut short is begun again and goes on where it was.
//! - A thread that is there already is compared row by row. An equal one counts as [`CopyReport::equal`], another
//!   is refused and nothing of it is changed, unless [`CopyOptions::replace`] is set.
//! - Texts are equal byte for byte, documents of jsonb columns as JSON values, times by the microsecond.
//! - Rows that contradict each other (a head that would give a seq again, a wrong count of messages, an
//!   active run that is none) are `Corrupt` and are not written.
//! - Memory holds a few MiB of rows, however large a thread is.
//!
//! A copy is the system's: it looks at no owner.
//!
//! # The file
//!
//! `<thread>.jsonl`, named as the log in files names a thread ([`jsonl`](crate::jsonl)), with the same
//! envelope on each line: `v` is the version of this format (1), `seq` the number of the line, `run_id`
//! is `null`, `type` says what the payload is.
//!
//! | `type` | payload |
//! |---|---|
//! | `archive`, the first line | `thread_id`, `created_at` of the file |
//! | the name of a table | a row: its columns without those that are NULL; documents are strings, bytes are base64 |
//! | `archive.end`, the last line | `rows` of each table; `sha256` of all bytes before this line |
//!
//! Beside the archives lies the file `lock`, which whoever writes to the folder holds.
//!
//! # Limits
//!
//! An archive is what a thread was when it was written. Where events were pruned since, `replace` puts
//! what is left in the place of all: export to another folder then.
//!
//! While a thread is written to SQLite, other writers of that file wait, as for any transaction. Agent runs
//! that belong to no thread are in no archive.

mod census;
mod database;
mod file;
mod row;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use runledger_core::{Error, ErrorKind, Result, ThreadId};

use crate::SqlLedger;
use crate::error_map::{self, Trouble};
use crate::sql::walk::Walk;
use database::DatabaseReader;
use file::{FileReader, FileWriter, Folder};
use row::Row;

/// The version of the format that is written here. A newer one is refused.
const VERSION: u64 = 1;

/// About how many bytes of rows are held at once.
const PAGE_BYTES: usize = 4 << 20;

/// How often a thread is tried whose transaction lost against another.
const TRIES: u32 = 8;

/// How many refusals a report tells in full.
const TOLD: usize = 1_000;

/// Where threads are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a database.
    Ledger(SqlLedger),
    /// In a folder of archives, which is made where it is missing and written to; to read from, a single archive
    /// will do.
    Folder(PathBuf),
}

/// What to copy, and how.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Only these threads; without them, all.
    pub threads: Option<Vec<ThreadId>>,
    /// Replace threads that are there with other content. What is replaced is gone.
    pub replace: bool,
    /// Read each thread back after it was written, and compare it.
    pub verify: bool,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyProgress {
    /// How many threads are done.
    pub threads: u64,
    /// Of how many.
    pub of: u64,
}

/// A thread that was not copied.
#[derive(Debug)]
pub struct Refused {
    /// The thread, or the file where it is not known.
    pub thread: String,
    /// Why.
    pub error: Error,
}

/// What a copy did.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Threads that were written.
    pub copied: u64,
    /// Threads among them that were there with other content.
    pub replaced: u64,
    /// Threads that were there already, and are equal.
    pub equal: u64,
    /// Threads that were compared after they were written, and are equal.
    pub verified: u64,
    /// Threads that were not copied.
    pub refused: u64,
    /// Which, and why: the first 1,000 of them.
    pub refusals: Vec<Refused>,
    /// How many rows were written, by table.
    pub rows: BTreeMap<&'static str, u64>,
}

/// Copies threads. What stands in the way of one is told in the report, and the others are copied; a place
/// that cannot be used at all is the error.
pub async fn copy(
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    mut progress: impl FnMut(&CopyProgress) + Send,
) -> Result<CopyReport> {
    let copying = Copying { from, target: Target::open(to).await?, options };
    let mut report = CopyReport::default();
    let mut done = CopyProgress::default();
    match (from, &options.threads) {
        (_, Some(threads)) => {
            done.of = threads.len() as u64;
            for thread in threads {
                copying.thread(Source::Thread(thread), &mut report).await?;
                step(&mut done, &mut progress);
            }
        }
        (Place::Ledger(ledger), None) => {
            done.of = Walk::All.count(&ledger.database).await?;
            let mut threads = Walk::All.after(&ledger.database, None).await?;
            while let Some(last) = threads.last().cloned() {
                for thread in &threads {
                    copying.thread(Source::Thread(thread), &mut report).await?;
                    step(&mut done, &mut progress);
                }
                threads = Walk::All.after(&ledger.database, Some(&last)).await?;
            }
        }
        (Place::Folder(folder), None) => {
            let files = file::list(folder).await?;
            done.of = files.len() as u64;
            for path in &files {
                copying.thread(Source::File(path), &mut report).await?;
                step(&mut done, &mut progress);
            }
        }
    }
    Ok(report)
}

fn step(done: &mut CopyProgress, progress: &mut (impl FnMut(&CopyProgress) + Send)) {
    done.threads += 1;
    // Threads may come and go meanwhile.
    done.of = done.of.max(done.threads);
    progress(done);
}

/// Which thread.
#[derive(Clone, Copy)]
enum Source<'a> {
    Thread(&'a ThreadId),
    File(&'a Path),
}

/// The rows of a thread, in the order of its tables and their keys.
#[derive(Debug)]
struct Rows<'a> {
    reader: Reader<'a>,
    page: VecDeque<Row>,
}

#[derive(Debug)]
enum Reader<'a> {
    Database(Box<DatabaseReader<'a>>),
    File(Box<FileReader>),
}

impl<'a> Rows<'a> {
    fn of(reader: Reader<'a>) -> Self {
        Self { reader, page: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<Row>> {
        if self.page.is_empty() {
            self.page = self.page().await?.into();
        }
        Ok(self.page.pop_front())
    }

    async fn page(&mut self) -> Result<Vec<Row>> {
        match &mut self.reader {
            Reader::Database(reader) => reader.page().await,
            Reader::File(reader) => reader.page().await,
        }
    }

    async fn rewind(&mut self) -> Result<()> {
        self.page.clear();
        match &mut self.reader {
            Reader::Database(reader) => {
                reader.rewind();
                Ok(())
            }
            Reader::File(reader) => reader.rewind().await,
        }
    }

    async fn close(self) {
        if let Reader::Database(reader) = self.reader {
            reader.close().await;
        }
    }

    /// Where another thread first differs.
    async fn difference(&mut self, other: &mut Rows<'_>) -> Result<Option<String>> {
        loop {
            match (self.next().await?, other.next().await?) {
                (None, None) => return Ok(None),
                (Some(one), Some(other)) if one.name() == other.name() => {
                    if let Some(column) = one.difference(&other) {
                        return Ok(Some(format!("{column} of {}", one.name())));
                    }
                }
                (Some(one), None) => return Ok(Some(format!("{} is missing", one.name()))),
                (_, Some(other)) => return Ok(Some(format!("{} is there and should not be", other.name()))),
            }
        }
    }
}

/// Where threads are written to.
#[derive(Debug)]
enum Target<'a> {
    Ledger(&'a SqlLedger),
    Folder(Folder),
}

impl<'a> Target<'a> {
    async fn open(place: &'a Place) -> Result<Self> {
        match place {
            Place::Ledger(ledger) => Ok(Self::Ledger(ledger)),
            Place::Folder(path) => Ok(Self::Folder(Folder::open(path).await?)),
        }
    }

    /// The rows of a thread that is there.
    async fn read(&self, thread: &ThreadId) -> Result<Option<Rows<'_>>> {
        match self {
            Self::Ledger(ledger) => read_database(ledger, thread).await,
            Self::Folder(folder) => read_file(&folder.file(thread)).await,
        }
    }

    /// Writes a thread, whole or not at all; says how many rows of each table.
    async fn write(
        &self,
        thread: &ThreadId,
        rows: &mut Rows<'_>,
        replaces: bool,
    ) -> Result<BTreeMap<&'static str, u64>> {
        match self {
            Self::Ledger(ledger) => Ok(database::write(&ledger.database, thread, rows, replaces).await?.rows),
            Self::Folder(folder) => {
                let mut writer = FileWriter::create(folder.file(thread), thread).await?;
                match fill(&mut writer, thread, rows).await {
                    Ok(census) => {
                        writer.finish().await?;
                        Ok(census.rows)
                    }
                    Err(error) => {
                        writer.abandon().await;
                        Err(error)
                    }
                }
            }
        }
    }
}

async fn fill(writer: &mut FileWriter, thread: &ThreadId, rows: &mut Rows<'_>) -> Result<census::Census> {
    let mut census = census::Census::default();
    loop {
        let page = rows.page().await?;
        if page.is_empty() {
            break;
        }
        page.iter().for_each(|row| census.count(row));
        writer.write(page).await?;
    }
    census.check(thread)?;
    Ok(census)
}

async fn read_database<'a>(ledger: &'a SqlLedger, thread: &ThreadId) -> Result<Option<Rows<'a>>> {
    let reader = DatabaseReader::open(&ledger.database, thread).await?;
    Ok(reader.map(|reader| Rows::of(Reader::Database(Box::new(reader)))))
}

async fn read_file(path: &Path) -> Result<Option<Rows<'static>>> {
    Ok(FileReader::open(path).await?.map(|reader| Rows::of(Reader::File(Box::new(reader)))))
}

/// What became of a thread.
enum Outcome {
    Equal,
    Written { replaced: bool, rows: BTreeMap<&'static str, u64> },
}

/// A copy under way.
struct Copying<'a> {
    from: &'a Place,
    target: Target<'a>,
    options: &'a CopyOptions,
}

impl Copying<'_> {
    /// Copies one thread, or notes why not.
    async fn thread(&self, source: Source<'_>, report: &mut CopyReport) -> Result<()> {
        let mut tried = 1;
        let outcome = loop {
            match self.thread_once(source).await {
                Err(error) if tried < TRIES && error_map::trouble_of(&error) == Trouble::Again => tried += 1,
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(Outcome::Equal) => report.equal += 1,
            Ok(Outcome::Written { replaced, rows }) => {
                report.copied += 1;
                report.replaced += u64::from(replaced);
                report.verified += u64::from(self.options.verify);
                rows.into_iter().for_each(|(table, count)| *report.rows.entry(table).or_default() += count);
            }
            // The others would meet it too.
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                report.refused += 1;
                if report.refusals.len() < TOLD {
                    let thread = match source {
                        Source::Thread(thread) => thread.to_string(),
                        Source::File(path) => path.display().to_string(),
                    };
                    report.refusals.push(Refused { thread, error });
                }
            }
        }
        Ok(())
    }

    async fn thread_once(&self, source: Source<'_>) -> Result<Outcome> {
        let (thread, mut rows) = self.open(source).await?;
        let outcome = self.rows(&thread, &mut rows).await;
        rows.close().await;
        outcome
    }

    async fn open(&self, source: Source<'_>) -> Result<(ThreadId, Rows<'_>)> {
        match (source, self.from) {
            (Source::Thread(thread), Place::Ledger(ledger)) => {
                let rows = read_database(ledger, thread).await?;
                Ok((thread.clone(), rows.ok_or_else(|| Error::not_found("thread", thread))?))
            }
            (Source::Thread(thread), Place::Folder(folder)) => {
                let path = if folder.is_file() { folder.clone() } else { file::archive_of(folder, thread) };
                let (found, rows) = Self::open_file(&path).await?;
                if found == *thread { Ok((found, rows)) } else { Err(Error::not_found("thread", thread)) }
            }
            (Source::File(path), _) => Self::open_file(path).await,
        }
    }

    async fn open_file(path: &Path) -> Result<(ThreadId, Rows<'static>)> {
        let reader = FileReader::open(path).await?;
        let reader = reader.ok_or_else(|| Error::not_found("archive", path.display()))?;
        Ok((reader.thread.clone(), Rows::of(Reader::File(Box::new(reader)))))
    }

    async fn rows(&self, thread: &ThreadId, rows: &mut Rows<'_>) -> Result<Outcome> {
        let there = self.compared(thread, rows).await;
        let replaced = match there {
            Ok(None) => false,
            Ok(Some(None)) => return Ok(Outcome::Equal),
            // Also where what is there cannot be read.
            Ok(Some(Some(_))) | Err(Error::Corrupt { .. }) if self.options.replace => true,
            Ok(Some(Some(difference))) => {
                return Err(Error::conflict(
                    "thread at the target",
                    "none, or an equal one",
                    format!("another one ({difference}); ask for it to be replaced, or delete it there"),
                ));
            }
            Err(error) => return Err(error),
        };
        rows.rewind().await?;
        let written = self.target.write(thread, rows, replaced).await?;
        if self.options.verify {
            rows.rewind().await?;
            let wrong = match self.compared(thread, rows).await? {
                Some(None) => None,
                Some(Some(difference)) => Some(difference),
                None => Some("it is not there".to_owned()),
            };
            if let Some(wrong) = wrong {
                return Err(Error::corrupt("copy", format!("of {thread} is not what was copied: {wrong}")));
            }
        }
        Ok(Outcome::Written { replaced, rows: written })
    }

    /// Where the thread at the target differs, if it does; the outer `None` where there is none.
    async fn compared(&self, thread: &ThreadId, rows: &mut Rows<'_>) -> Result<Option<Option<String>>> {
        let Some(mut there) = self.target.read(thread).await? else { return Ok(None) };
        let difference = rows.difference(&mut there).await;
        there.close().await;
        difference.map(Some)
    }
}
