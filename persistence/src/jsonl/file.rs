//! Files: where those of a thread are, locks, atomic replacement, and what errors mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use runledger_core::{Error, RunId, ThreadId};

use crate::disk::{self, FileError};
use crate::file_name;

/// What stands in the way of reading or writing a thread.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The index and the records do not fit together: somebody writes just now, or died while writing.
    Stale,
    /// The file system refused.
    File(FileError),
    /// The answer of the call.
    Failed(Error),
}

pub(super) type Result<T, E = Trouble> = std::result::Result<T, E>;

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Trouble {
    /// The contract's error, of a call that stored nothing.
    pub(super) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::File(error) => error.into_error(operation),
            Self::Stale => Error::corrupt(
                "index",
                "it does not fit the records although nobody writes; remove the thread's folder `index`, it \
                 is made anew",
            ),
        }
    }
}

/// Says which file an error is about.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Trouble {
    move |error| Trouble::File(FileError::new(path, error))
}

fn if_there<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Opens a file for reading, if it is there.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    if_there(path, File::open(path))
}

/// The content of a file, if it is there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    if_there(path, fs::read(path))
}

/// The size of a file in bytes, if it is there.
pub(super) fn size(path: &Path) -> Result<Option<u64>> {
    Ok(if_there(path, fs::metadata(path))?.map(|metadata| metadata.len()))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    if_there(path, fs::remove_file(path)).map(drop)
}

/// Reads exactly this part of a file; [`Trouble::Stale`] where it ends before.
pub(super) fn read_part(path: &Path, mut file: &File, offset: u64, bytes: &mut [u8]) -> Result<()> {
    file.seek(SeekFrom::Start(offset)).map_err(at(path))?;
    match file.read_exact(bytes) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Trouble::Stale),
        Err(error) => Err(at(path)(error)),
    }
}

/// Writes at the end of what a file should have, and makes it where it is missing.
pub(super) fn write_at(path: &Path, offset: u64, bytes: &[u8], sync: bool) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(at(path))?;
    file.seek(SeekFrom::Start(offset)).map_err(at(path))?;
    file.write_all(bytes).map_err(at(path))?;
    if sync { file.sync_data().map_err(at(path)) } else { Ok(()) }
}

/// Makes the folder that a file goes to.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(at(folder)))
}

/// Writes a whole file and syncs it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(at(path))?;
    file.write_all(bytes).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

/// Puts a file in the place of another, whole or not at all, also where the power fails.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = disk::temporary(path);
    write_whole(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(at(path))?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Keeps a file that cannot be read under another name.
pub(super) fn set_aside(path: &Path) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    fs::rename(path, PathBuf::from(aside)).map_err(at(path))
}

/// Cuts a file and syncs it.
pub(super) fn cut(path: &Path, length: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
    file.set_len(length).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    disk::sync_folder(path).map_err(Trouble::File)
}

/// The paths in a folder, in order; none where it is missing.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let Some(entries) = if_there(path, fs::read_dir(path))? else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(at(path))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The ending of a file of records.
const RECORDS: &str = "jsonl";

/// Whether a path is that of a file of records.
fn holds_records(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == RECORDS)
}

/// Where the files of one thread are.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// That of `thread`, below the folder of all threads.
    pub(super) fn of(threads: &Path, thread: &ThreadId) -> Self {
        Self { path: threads.join(file_name::of(thread.as_str())) }
    }

    /// The one at `path`.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn head(&self) -> PathBuf {
        self.path.join("head.json")
    }

    fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("index")
    }

    /// The records of a run, or those of the thread itself.
    pub(super) fn records(&self, run: Option<&RunId>) -> PathBuf {
        match run {
            Some(run) => self.runs().join(file_name::of(run.as_str())).with_extension(RECORDS),
            None => self.path.join("thread").with_extension(RECORDS),
        }
    }

    /// Makes the folders, durably.
    pub(super) fn create(&self) -> Result<()> {
        for path in [self.runs(), self.index()] {
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        sync_folder(&self.path)?;
        match self.path.parent() {
            Some(threads) => sync_folder(threads),
            None => Ok(()),
        }
    }

    /// Every file of records of a run.
    pub(super) fn run_files(&self) -> Result<Vec<PathBuf>> {
        Ok(list(&self.runs())?.into_iter().filter(|path| holds_records(path)).collect())
    }

    /// Removes what replacements that never happened left behind.
    pub(super) fn remove_temporary(&self) -> Result<()> {
        for path in list(&self.path)?.into_iter().chain(list(&self.runs())?) {
            if disk::is_temporary(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// The lock of a thread, among the processes and within this one. It is free when it is dropped.
///
/// The file is made with the thread and never removed, or two could hold what they take for the
/// same lock. While a writer is at work it holds one byte: a writer that died leaves it behind.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the right to write; makes the file where it is missing.
    pub(super) fn exclusive(folder: &Folder) -> Result<Self> {
        let path = folder.lock();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at(&path))?;
        Self::take(path, file, File::lock)
    }

    /// Waits until nobody writes; `None` where nobody ever did.
    pub(super) fn shared(folder: &Folder) -> Result<Option<Self>> {
        let path = folder.lock();
        match open(&path)? {
            Some(file) => Self::take(path, file, File::lock_shared).map(Some),
            None => Ok(None),
        }
    }

    fn take(path: PathBuf, file: File, lock: impl Fn(&File) -> io::Result<()>) -> Result<Self> {
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Self { file, path }),
                // A signal came while it waited.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(at(&path)(error)),
            }
        }
    }

    /// Whether the writer before this one died at work.
    pub(super) fn is_at_work(&self) -> Result<bool> {
        Ok(self.file.metadata().map_err(at(&self.path))?.len() > 0)
    }

    /// Says that files are being changed, or that they are whole again.
    pub(super) fn set_at_work(&self, at_work: bool) -> Result<()> {
        self.file.set_len(u64::from(at_work)).map_err(at(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(list(folder.path()).unwrap(), [path]);
    }

    #[test]
    fn a_full_disk_may_pass_and_a_forbidden_file_does_not() {
        let error = |kind: ErrorKind| at(Path::new("f"))(io::Error::from(kind)).into_error("to test");
        assert!(error(ErrorKind::StorageFull).is_retryable());
        assert!(!error(ErrorKind::PermissionDenied).is_retryable());
    }

    #[test]
    fn a_lock_is_held_by_one_and_says_who_died() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::of(root.path(), &ThreadId::new("t").unwrap());
        assert!(Lock::shared(&folder).unwrap().is_none());
        folder.create().unwrap();
        let held = Lock::exclusive(&folder).unwrap();
        held.set_at_work(true).unwrap();
        let other = File::open(folder.lock()).unwrap();
        assert!(other.try_lock_shared().is_err());
        drop(held);
        assert!(Lock::exclusive(&folder).unwrap().is_at_work().unwrap());
    }
}
