//! What every room that keeps files needs: errors that name the file, durable names, lines, and work that
//! waits for files.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use runledger_core::{Applied, Error, Result};

/// The longest record that is taken for one: far above what a store accepts.
const LONGEST: usize = 1 << 30;

/// What the file system says, and of which file.
#[derive(Debug)]
pub(crate) struct FileError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used", self.path.display())
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl FileError {
    pub(crate) fn new(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), error }
    }

    /// The contract's error, of a call that stored nothing.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        if self.may_pass() {
            Error::Unavailable { applied: Applied::No, source: Box::new(self) }
        } else {
            Error::Backend { operation, source: Box::new(self) }
        }
    }

    /// Whether the same call may succeed later.
    fn may_pass(&self) -> bool {
        // Too many open files, here or on the whole machine, have no kind of their own.
        let too_many = cfg!(unix) && matches!(self.error.raw_os_error(), Some(23 | 24));
        too_many
            || matches!(
                self.error.kind(),
                ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::ResourceBusy
                    | ErrorKind::StaleNetworkFileHandle
                    | ErrorKind::TimedOut
                    | ErrorKind::WouldBlock
                    | ErrorKind::Interrupted
            )
    }
}

/// Makes the names in a folder durable. Only Unix opens folders; elsewhere names are durable with their files.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| FileError::new(path, error))
}

/// The ending of a file that is not in its place yet.
const TEMPORARY: &str = ".tmp";

/// Where a file is written before it takes its place.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    PathBuf::from(temporary)
}

/// Whether a file never took its place.
pub(crate) fn is_temporary(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(TEMPORARY)
}

/// Runs work that waits for files where waiting disturbs nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Backend { operation, source: Box::new(error) })
}

/// Lines that end with `\n` and nothing else.
#[derive(Debug)]
pub(crate) struct Lines {
    reader: BufReader<File>,
    /// Where the next line begins.
    pub(crate) offset: u64,
    /// How many lines were read.
    pub(crate) number: u64,
}

impl Lines {
    pub(crate) fn of(file: File) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, file), offset: 0, number: 0 }
    }

    /// Reads the next line without its `\n`; says whether it had one. `None` at the end. Of a line
    /// that is too long to be a record the rest is left out.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
        line.clear();
        let mut is_complete = false;
        let start = self.offset;
        while !is_complete {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let found = chunk.iter().position(|b| *b == b'\n');
            let text = chunk.get(..found.unwrap_or(chunk.len())).unwrap_or_default();
            if line.len() <= LONGEST {
                line.extend_from_slice(text);
            }
            let taken = text.len() + usize::from(found.is_some());
            is_complete = found.is_some();
            self.offset += taken as u64;
            self.reader.consume(taken);
        }
        self.number += 1;
        Ok((self.offset > start).then_some(is_complete))
    }
}
