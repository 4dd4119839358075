//! The limit on files: each thread's lines appended to a file of its own, synced or not.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runledger_core::{BoxError, ThreadId};
use tempfile::TempDir;

use super::{Appends, Load, Place, Setting, in_threads};
use crate::measure::Written;
use crate::work::{Envelope, Work};

/// A folder.
pub(crate) struct FileLimit {
    folder: TempDir,
    synced: bool,
}

/// A new folder.
pub(crate) fn open(setting: Setting, place: &Place) -> Result<FileLimit, BoxError> {
    Ok(FileLimit { folder: place.new_folder()?, synced: setting == Setting::JsonlSynced })
}

/// A file and the next number of a line.
struct Lines {
    file: File,
    next: u64,
    text: String,
}

impl Lines {
    fn create(folder: &Path) -> Result<Mutex<Self>, BoxError> {
        let path = folder.join(ThreadId::generate().as_str());
        let file = OpenOptions::new().create_new(true).append(true).open(path)?;
        Ok(Mutex::new(Self { file, next: 1, text: String::new() }))
    }

    fn store(&mut self, work: &Work, numbers: std::ops::Range<u64>, synced: bool) -> Result<(), BoxError> {
        self.text.clear();
        for number in numbers {
            let (seq, event_type) = (self.next, Envelope::of(number).event_type);
            let content = work.content(number).as_str();
            writeln!(self.text, r#"{{"seq":{seq},"type":"{event_type}","content":{content}}}"#)?;
            self.next += 1;
        }
        self.file.write_all(self.text.as_bytes())?;
        if synced {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

fn run(folder: &Path, synced: bool, work: &Work, load: Load) -> Result<Written, BoxError> {
    let count = if load.same_thread { 1 } else { load.writers };
    let files = (0..count).map(|_| Lines::create(folder)).collect::<Result<Vec<_>, _>>()?;
    in_threads(load, |writer, commit| {
        let mut lines = files[writer % files.len()].lock().unwrap_or_else(PoisonError::into_inner);
        lines.store(work, load.numbers(writer, commit), synced)
    })
}

#[async_trait]
impl Appends for FileLimit {
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let (folder, synced, work) = (self.folder.path().to_owned(), self.synced, Arc::clone(work));
        tokio::task::spawn_blocking(move || run(&folder, synced, &work, load)).await?
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        let mut lines = 0;
        for entry in std::fs::read_dir(self.folder.path())? {
            lines += std::fs::read_to_string(entry?.path())?.lines().count() as u64;
        }
        Ok(lines)
    }

    async fn close(self: Box<Self>) {}
}
