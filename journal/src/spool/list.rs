//! What is in a folder.

use std::path::{Path, PathBuf};

use runledger_core::{Error, OwnerId, Result, RunId, ThreadId, Timestamp};
use serde::Serialize;

use super::file::{CORRUPT, FENCED, Locked, Scan, WAITING, blocking, lock, scan};
use super::format::ReadError;

/// What a spool file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpoolState {
    /// It waits for [`recover`](super::recover).
    Waiting,
    /// A living process writes or recovers it.
    Held,
    /// It was refused and waits for [`recover_fenced`](super::recover_fenced).
    Fenced,
    /// It cannot be read, or not from some line on.
    Corrupt,
    /// A newer version wrote it.
    Newer,
}

/// A spool file, as it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedSpool {
    /// The file.
    pub file: PathBuf,
    /// What it is.
    pub state: SpoolState,
    /// The thread its run is on, where it can be read.
    pub thread_id: Option<ThreadId>,
    /// Its run.
    pub run_id: Option<RunId>,
    /// On whose behalf its journal wrote; `None` is the system.
    pub owner_id: Option<OwnerId>,
    /// The epoch its journal wrote under.
    pub epoch: Option<u64>,
    /// When it was begun.
    pub created_at: Option<Timestamp>,
    /// Events in it, stored ones included.
    pub events: u64,
    /// Usage records in it.
    pub usage_records: u64,
    /// Whether it holds the end of the run.
    pub ends_run: bool,
    /// Its size.
    pub bytes: u64,
    /// Of these, bytes after the last whole batch.
    pub cut_bytes: u64,
    /// What is wrong with it.
    pub reason: Option<String>,
}

/// Lists the spool files of a folder, by name. Reads each from beginning to end.
///
/// [`Error::InvalidInput`] where the folder cannot be read.
pub async fn list(folder: &Path) -> Result<Vec<ListedSpool>> {
    let mut listed = Vec::new();
    for path in files(folder, &[WAITING, FENCED, CORRUPT]).await? {
        let name = path.clone();
        match blocking(move || look(name)).await {
            Ok(Some(found)) => listed.push(found),
            // It was removed or renamed meanwhile.
            Ok(None) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(listed)
}

/// Whether the folder, or a file of it, is there.
pub(crate) async fn is_there(path: &Path) -> Result<bool> {
    let asked = path.to_owned();
    blocking(move || asked.try_exists()).await.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::invalid("folder", format!("{} cannot be read: {error}", path.display()))
}

/// The folder's files with these endings, by name.
pub(super) async fn files(folder: &Path, endings: &'static [&'static str]) -> Result<Vec<PathBuf>> {
    let path = folder.to_owned();
    let found = blocking(move || {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            let path = entry?.path();
            if path.extension().and_then(|ending| ending.to_str()).is_some_and(|it| endings.contains(&it)) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    });
    found.await.map_err(|error| unreadable(folder, &error))
}

fn look(path: PathBuf) -> std::io::Result<Option<ListedSpool>> {
    let waits = path.extension().is_some_and(|ending| ending == WAITING);
    let state = match lock(&path)? {
        Locked::Gone => return Ok(None),
        Locked::Held => SpoolState::Held,
        Locked::Ours(_) if waits => SpoolState::Waiting,
        Locked::Ours(_) if path.extension().is_some_and(|ending| ending == FENCED) => SpoolState::Fenced,
        Locked::Ours(_) => SpoolState::Corrupt,
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut listed = ListedSpool {
        bytes: file.metadata()?.len(),
        file: path,
        state,
        thread_id: None,
        run_id: None,
        owner_id: None,
        epoch: None,
        created_at: None,
        events: 0,
        usage_records: 0,
        ends_run: false,
        cut_bytes: 0,
        reason: None,
    };
    match scan(&file) {
        Ok(Scan { head, events, usage, ends_run, cut_bytes, damage, .. }) => {
            // What a living process is writing is not whole, and not cut.
            let held = state == SpoolState::Held;
            if damage.is_some() && !held {
                listed.state = SpoolState::Corrupt;
            }
            listed = ListedSpool {
                thread_id: Some(head.thread_id),
                run_id: Some(head.run_id),
                owner_id: head.owner_id,
                epoch: Some(head.epoch),
                created_at: Some(head.created_at),
                events,
                usage_records: usage,
                ends_run,
                cut_bytes: if held { 0 } else { cut_bytes },
                reason: damage.filter(|_| !held),
                ..listed
            };
        }
        Err(ReadError::Io(error)) => return Err(error),
        Err(error) => {
            listed.reason = Some(error.to_string());
            listed.state =
                if matches!(error, ReadError::Newer(_)) { SpoolState::Newer } else { SpoolState::Corrupt };
        }
    }
    Ok(Some(listed))
}
