//! Ours, importing archives: a folder of whole threads into an empty ledger.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{BoxError, ThreadId};
use runledger_persistence::archive::{self, CopyOptions, CopyReport};
use tempfile::TempDir;

use super::ours::{self, OpenLedger};
use super::{Appends, Load, Place, Setting};
use crate::measure::{Written, timed};
use crate::work::Work;

/// Threads of an archive.
const THREADS: usize = 20;
/// The most events of a commit.
const BATCH: usize = 500;

/// A folder of archives.
pub(crate) struct Archive {
    folder: TempDir,
    threads: Vec<ThreadId>,
    events: u64,
}

impl Archive {
    /// Makes one with about these many events.
    pub(crate) async fn make(place: &Place, work: &Arc<Work>, events: u64) -> Result<Self, BoxError> {
        let mut source = ours::open(Setting::SqliteNormal, place).await?;
        let per_thread = events as usize / THREADS;
        let batch = BATCH.min(per_thread / 2);
        // The first is to warm up.
        let commits = per_thread / batch - 1;
        let load = Load { writers: THREADS, batch, commits, same_thread: false };
        let events = source.append(work, load).await?.stored;
        let folder = place.new_folder()?;
        let sql = source.sql.clone().ok_or("a ledger without a database")?;
        let to = archive::Place::Folder(folder.path().to_owned());
        require_all(&copy(&archive::Place::Ledger(sql), &to).await?, events)?;
        let threads = std::mem::take(&mut source.threads);
        Box::new(source).close().await;
        Ok(Self { folder, threads, events })
    }
}

async fn copy(from: &archive::Place, to: &archive::Place) -> Result<CopyReport, BoxError> {
    Ok(archive::copy(from, to, &CopyOptions::default(), |_| {}).await?)
}

fn require_all(report: &CopyReport, events: u64) -> Result<(), BoxError> {
    let copied = report.rows.get("run_events").copied().unwrap_or_default();
    if report.refused > 0 || copied != events {
        return Err(format!("{copied} events were copied of {events}: {:?}", report.refusals).into());
    }
    Ok(())
}

/// One that imports the archive, each time into a ledger of its own.
pub(crate) struct Import {
    archive: Arc<Archive>,
    setting: Setting,
    place: Place,
    last: Option<OpenLedger>,
    stored: u64,
}

impl Import {
    pub(crate) fn new(archive: &Arc<Archive>, setting: Setting, place: &Place) -> Self {
        Self { archive: Arc::clone(archive), setting, place: place.clone(), last: None, stored: 0 }
    }

    async fn let_go(&mut self) -> Result<(), BoxError> {
        if let Some(mut last) = self.last.take() {
            last.threads.clone_from(&self.archive.threads);
            self.stored += last.stored().await?;
            Box::new(last).close().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Appends for Import {
    async fn append(&mut self, _work: &Arc<Work>, _load: Load) -> Result<Written, BoxError> {
        self.let_go().await?;
        let target = ours::open(self.setting, &self.place).await?;
        let sql = target.sql.clone().ok_or("a ledger without a database")?;
        self.last = Some(target);
        let folder: PathBuf = self.archive.folder.path().to_owned();
        let (from, to) = (archive::Place::Folder(folder), archive::Place::Ledger(sql));
        let (report, elapsed) = timed(copy(&from, &to)).await?;
        require_all(&report, self.archive.events)?;
        Ok(Written::new(self.archive.events, elapsed, Vec::new()))
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        self.let_go().await?;
        Ok(self.stored)
    }

    async fn close(self: Box<Self>) {}
}
