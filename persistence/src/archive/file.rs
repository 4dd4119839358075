//! One thread as a file: read in pages, written whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use runledger_core::{Error, Result, ThreadId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::row::Row;
use super::table::Table;
use super::{PAGE_BYTES, VERSION};
use crate::disk::{self, FileError, Lines, blocking};
use crate::envelope::{self, Envelope};
use crate::file_name;

/// The ending of an archive.
const ENDING: &str = "jsonl";

/// The type of the first line.
const BEGIN: &str = "archive";

/// The type of the last line.
const END: &str = "archive.end";

const READING: &str = "to read an archive";
const WRITING: &str = "to write an archive";

/// The payload of the first line.
#[derive(Serialize, Deserialize)]
struct Begin {
    thread_id: ThreadId,
    created_at: Timestamp,
}

/// The payload of the last line.
#[derive(Serialize, Deserialize)]
struct End {
    /// How many rows there are of each table.
    rows: BTreeMap<String, u64>,
    /// SHA-256 of all bytes before this line, in hex.
    sha256: String,
}

fn at(path: &Path, operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| FileError::new(path, error).into_error(operation)
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder of archives that is written to, by one at a time.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    #[expect(dead_code, reason = "locked for as long as it is open")]
    lock: File,
}

impl Folder {
    /// Makes the folder where it is missing; `Conflict` while another process writes to it. Removes what
    /// one that died left half-written.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        blocking(WRITING, move || {
            fs::create_dir_all(&path).map_err(at(&path, WRITING))?;
            let lock = path.join("lock");
            let file = File::create(&lock).map_err(at(&lock, WRITING))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    let held = "held by another process; wait until it is done";
                    return Err(Error::conflict("lock of the folder of archives", "free", held));
                }
                Err(fs::TryLockError::Error(error)) => return Err(at(&lock, WRITING)(error)),
            }
            for entry in fs::read_dir(&path).map_err(at(&path, WRITING))? {
                let entry = entry.map_err(at(&path, WRITING))?.path();
                if disk::is_temporary(&entry) {
                    fs::remove_file(&entry).map_err(at(&entry, WRITING))?;
                }
            }
            Ok(Self { path, lock: file })
        })
        .await?
    }

    /// Where the archive of a thread is.
    pub(super) fn file(&self, thread: &ThreadId) -> PathBuf {
        archive_of(&self.path, thread)
    }
}

/// Where the archive of a thread is in a folder.
pub(super) fn archive_of(folder: &Path, thread: &ThreadId) -> PathBuf {
    folder.join(file_name::of(thread.as_str())).with_extension(ENDING)
}

/// The archives in a folder, in order; or the one that is given.
pub(super) async fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let path = path.to_owned();
    blocking(READING, move || {
        if path.is_file() {
            return Ok(vec![path]);
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(at(&path, READING))? {
            let entry = entry.map_err(at(&path, READING))?.path();
            if entry.extension().is_some_and(|ending| ending == ENDING) {
                found.push(entry);
            }
        }
        found.sort();
        Ok(found)
    })
    .await?
}

/// An archive that is being read.
#[derive(Debug)]
pub(super) struct FileReader {
    pub(super) thread: ThreadId,
    /// `None` after a page was not waited for.
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: File,
    lines: Lines,
    line: Vec<u8>,
    digest: Sha256,
    rows: BTreeMap<String, u64>,
    is_done: bool,
}

impl FileReader {
    /// Opens an archive and reads its first line; `None` where it is missing.
    pub(super) async fn open(path: &Path) -> Result<Option<Self>> {
        let path = path.to_owned();
        blocking(READING, move || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(at(&path, READING)(error)),
            };
            let (state, thread) = State::begin(path, file)?;
            Ok(Some(Self { thread, state: Some(state) }))
        })
        .await?
    }

    /// The next rows; none at the end, once the last line told that they were all there.
    pub(super) async fn page(&mut self) -> Result<Vec<Row>> {
        self.work(State::page).await
    }

    /// Goes back to the first row.
    pub(super) async fn rewind(&mut self) -> Result<()> {
        self.work(|state, thread| {
            let (state, found) = State::begin(state.path, state.file)?;
            if found == *thread { Ok((state, ())) } else { Err(state.corrupt("was changed")) }
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(State, &ThreadId) -> Result<(State, T)> + Send + 'static,
    ) -> Result<T> {
        let thread = self.thread.clone();
        let Some(state) = self.state.take() else {
            return Err(Error::corrupt("archive", "is read after an error; open it anew"));
        };
        let (state, done) = blocking(READING, move || work(state, &thread)).await??;
        self.state = Some(state);
        Ok(done)
    }
}

impl State {
    fn begin(path: PathBuf, mut file: File) -> Result<(Self, ThreadId)> {
        file.rewind().map_err(at(&path, READING))?;
        let lines = Lines::of(file.try_clone().map_err(at(&path, READING))?);
        let (digest, rows) = (Sha256::new(), BTreeMap::new());
        let mut state = Self { path, file, lines, line: Vec::new(), digest, rows, is_done: false };
        state.next()?;
        let envelope = state.envelope()?;
        if envelope.event_type != BEGIN {
            return Err(state.corrupt("is no archive"));
        }
        let begin: Result<Begin, _> = serde_json::from_slice(envelope.payload);
        let begin = begin.map_err(|error| state.corrupt(&error.to_string()))?;
        state.count();
        Ok((state, begin.thread_id))
    }

    /// Reads the next line, which is not counted yet.
    fn next(&mut self) -> Result<()> {
        match self.lines.next(&mut self.line).map_err(at(&self.path, READING))? {
            Some(true) => Ok(()),
            _ => Err(self.corrupt("ends before its last line; make it anew")),
        }
    }

    /// The line that was read.
    fn envelope(&self) -> Result<Envelope<'_>> {
        let envelope = Envelope::parse(&self.line).map_err(|fault| self.corrupt(fault.as_str()))?;
        if envelope.version > VERSION {
            return Err(Error::SchemaMismatch {
                found: format!("version {} of {}", envelope.version, self.path.display()),
                needed: format!("version {VERSION} of the archive's format"),
            });
        }
        if envelope.seq != self.lines.number {
            return Err(self.corrupt("does not follow the line before"));
        }
        Ok(envelope)
    }

    /// Counts the line that was read into what the last one tells.
    fn count(&mut self) {
        self.digest.update(&self.line);
        self.digest.update(b"\n");
    }

    fn page(mut self, thread: &ThreadId) -> Result<(Self, Vec<Row>)> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while !self.is_done && bytes < PAGE_BYTES {
            self.next()?;
            let envelope = self.envelope()?;
            if envelope.event_type == END {
                let end: Result<End, _> = serde_json::from_slice(envelope.payload);
                let end = end.map_err(|error| self.corrupt(&error.to_string()))?;
                self.end(&end)?;
                break;
            }
            let Some(table) = Table::named(&envelope.event_type) else {
                let unknown = format!("holds {}, which this version does not know", envelope.event_type);
                return Err(self.corrupt(&unknown));
            };
            let row = match Row::decode(table, envelope.payload) {
                Ok(row) if row.thread() == thread.as_str() => row,
                Ok(_) => return Err(self.corrupt("belongs to another thread")),
                Err(reason) => return Err(self.corrupt(&reason)),
            };
            self.count();
            *self.rows.entry(table.name.to_owned()).or_default() += 1;
            bytes += row.bytes();
            rows.push(row);
        }
        Ok((self, rows))
    }

    /// Checks what the last line tells, and that it is the last.
    fn end(&mut self, end: &End) -> Result<()> {
        if end.rows != self.rows || end.sha256 != hex(self.digest.clone()) {
            return Err(self.corrupt("tells of other lines than are there"));
        }
        let mut more = Vec::new();
        if self.lines.next(&mut more).map_err(at(&self.path, READING))?.is_some() {
            return Err(self.corrupt("follows the end"));
        }
        self.is_done = true;
        Ok(())
    }

    fn corrupt(&self, how: &str) -> Error {
        Error::corrupt("archive", format!("{}, line {}: {how}", self.path.display(), self.lines.number))
    }
}

/// An archive that is being written, beside its place. It takes its place when it is whole.
#[derive(Debug)]
pub(super) struct FileWriter {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` after a page was not waited for.
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    file: BufWriter<File>,
    lines: u64,
    line: Vec<u8>,
    digest: Sha256,
    rows: BTreeMap<String, u64>,
    bytes: u64,
}

impl FileWriter {
    pub(super) async fn create(path: PathBuf, thread: &ThreadId) -> Result<Self> {
        let begin = Begin { thread_id: thread.clone(), created_at: Timestamp::now() };
        let temporary = disk::temporary(&path);
        blocking(WRITING, move || {
            let file = File::create(&temporary).map_err(at(&temporary, WRITING))?;
            let mut body = Body {
                file: BufWriter::with_capacity(256 * 1024, file),
                lines: 0,
                line: Vec::new(),
                digest: Sha256::new(),
                rows: BTreeMap::new(),
                bytes: 0,
            };
            body.push(BEGIN, false, &begin).and_then(|()| body.write(&temporary))?;
            Ok(Self { path, temporary, body: Some(body) })
        })
        .await?
    }

    /// Adds rows.
    pub(super) async fn write(&mut self, rows: Vec<Row>) -> Result<()> {
        let (mut body, temporary) = (self.take()?, self.temporary.clone());
        let body = blocking(WRITING, move || {
            for row in rows {
                body.push(row.table.name, false, &row)?;
                body.write(&temporary)?;
                *body.rows.entry(row.table.name.to_owned()).or_default() += 1;
            }
            Ok::<_, Error>(body)
        });
        self.body = Some(body.await??);
        Ok(())
    }

    /// Writes the last line and puts the file in its place, durably. Says how many bytes it has.
    pub(super) async fn finish(mut self) -> Result<u64> {
        let mut body = self.take()?;
        blocking(WRITING, move || {
            let end = End { rows: std::mem::take(&mut body.rows), sha256: hex(body.digest.clone()) };
            body.push(END, true, &end).and_then(|()| body.write(&self.temporary))?;
            let bytes = body.bytes;
            let file =
                body.file.into_inner().map_err(|error| at(&self.temporary, WRITING)(error.into_error()))?;
            file.sync_all().map_err(at(&self.temporary, WRITING))?;
            fs::rename(&self.temporary, &self.path).map_err(at(&self.path, WRITING))?;
            let folder = self.path.parent().unwrap_or(&self.path);
            disk::sync_folder(folder).map_err(|error| error.into_error(WRITING))?;
            Ok(bytes)
        })
        .await?
    }

    /// Removes what was written.
    pub(super) async fn abandon(self) {
        // What stays is removed by the next that writes to the folder.
        let _ = blocking(WRITING, move || fs::remove_file(&self.temporary)).await;
    }

    fn take(&mut self) -> Result<Body> {
        self.body.take().ok_or_else(|| Error::corrupt("archive", "is written after an error; begin anew"))
    }
}

impl Body {
    fn push<T: Serialize>(&mut self, line_type: &str, end: bool, payload: &T) -> Result<()> {
        self.lines += 1;
        self.line.clear();
        envelope::push(&mut self.line, VERSION, self.lines, None, line_type, end, payload)
    }

    /// Writes the line that was pushed.
    fn write(&mut self, path: &Path) -> Result<()> {
        self.digest.update(&self.line);
        self.bytes += self.line.len() as u64;
        self.file.write_all(&self.line).map_err(at(path, WRITING))
    }
}
