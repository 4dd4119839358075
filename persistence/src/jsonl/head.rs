//! The head of a thread: what is true of it beyond its records.

use std::path::Path;

use runledger_core::{Error, HeadState, OwnerId, Scope, Thread, ThreadId};
use serde::{Deserialize, Serialize};

use super::file::{self, Folder, Result};
use super::record::{self, VERSION};
use crate::envelope::{Envelope, LARGEST};

/// The type of the one record in a head file.
const TYPE: &str = "thread.head";

/// What errors call it.
const WHAT: &str = "head of a thread";

fn corrupt(path: &Path, how: &str) -> Error {
    let remedy = "restore it from a backup, or make a new one with `JsonlLedger::restore_head`";
    Error::corrupt(WHAT, format!("{} {how}; {remedy}", path.display()))
}

/// The head of a thread. Its file is replaced as a whole, and stays when the thread is deleted.
///
/// Its numbers are bounds, not copies: appends do not touch it, and where the records say more,
/// they are right. Where deletions took records away, it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) thread_id: ThreadId,
    pub(super) owner_id: Option<OwnerId>,
    pub(super) state: HeadState,
    /// No event gets a smaller seq.
    pub(super) next_seq: u64,
    /// Records up to this seq are gone, whether their files are already or not.
    pub(super) cleared_through: u64,
    /// Which files of the folder `index` belong to it.
    pub(super) generation: u64,
    /// The thread is there once it has an event: a commit makes both or none.
    pub(super) with_first_event: bool,
    /// `None` once the thread is deleted.
    pub(super) thread: Option<Thread>,
}

impl Head {
    pub(super) fn new(thread: Thread, with_first_event: bool) -> Self {
        Self {
            thread_id: thread.thread_id.clone(),
            owner_id: thread.owner_id.clone(),
            state: HeadState::Open,
            next_seq: 1,
            cleared_through: 0,
            generation: 0,
            with_first_event,
            thread: Some(thread),
        }
    }

    /// The head in a folder, if there is one; what a newer version wrote comes with its version.
    pub(super) fn read(folder: &Folder) -> Result<Option<(Self, u64)>> {
        let path = folder.head();
        let Some(bytes) = file::read(&path)? else { return Ok(None) };
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let envelope = Envelope::parse(line).map_err(|fault| corrupt(&path, fault.as_str()))?;
        let version = envelope.version;
        match serde_json::from_slice::<Self>(envelope.payload) {
            Ok(head)
                if [head.next_seq, head.cleared_through, head.generation].iter().all(|n| *n <= LARGEST) =>
            {
                Ok(Some((head, version)))
            }
            Ok(_) => Err(corrupt(&path, "has a number that none of ours has").into()),
            Err(_) if version > VERSION => Err(record::newer(version, path.display().to_string()).into()),
            Err(_) => Err(corrupt(&path, "is not a head").into()),
        }
    }

    /// The head of a thread, if there is one, and its version. `Corrupt` where records are there without it.
    pub(super) fn load(folder: &Folder, thread: &ThreadId) -> Result<Option<(Self, u64)>> {
        let path = folder.head();
        match Self::read(folder)? {
            Some((head, version)) if head.thread_id == *thread => Ok(Some((head, version))),
            Some((head, _)) => {
                let reason =
                    format!("{} is that of {}; put it back into its folder", path.display(), head.thread_id);
                Err(Error::corrupt(WHAT, reason).into())
            }
            None if file::size(&folder.records(None))?.is_some() || !folder.run_files()?.is_empty() => {
                Err(corrupt(&path, "is missing").into())
            }
            None => Ok(None),
        }
    }

    /// Replaces the file. The disk has it when this returns, whatever else is configured: what it
    /// says is in no other file.
    pub(super) fn write(&self, folder: &Folder) -> Result<()> {
        let mut line = Vec::new();
        record::push(&mut line, self.next_seq.saturating_sub(1), None, TYPE, true, self)?;
        file::replace(&folder.head(), &line)
    }

    /// The thread, if the scope sees it.
    pub(super) fn visible(&self, scope: &Scope) -> Option<&Thread> {
        let thread = self.thread.as_ref().filter(|_| self.state != HeadState::Deleted)?;
        scope.sees(self.owner_id.as_ref()).then_some(thread)
    }
}
