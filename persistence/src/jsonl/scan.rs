//! Reading the files of a thread from end to end: what the index is made of, and what recovery knows.

use std::path::{Path, PathBuf};

use runledger_core::{Error, RunId, ThreadId};

use super::file::{self, Folder, Result};
use super::index::{self, Entry, RunRow, Runs};
use super::record::VERSION;
use super::store::Reads;
use crate::disk::Lines;
use crate::envelope::{Envelope, Fault};

/// One file of records.
#[derive(Debug)]
pub(super) struct ScannedFile {
    pub(super) path: PathBuf,
    /// `None` for the thread's own file, and where no record is whole.
    pub(super) run_id: Option<RunId>,
    /// Whether its run was deleted.
    pub(super) is_tombstone: bool,
    /// The records of whole commits. Their file numbers and counts of messages are not known yet.
    pub(super) entries: Vec<Entry>,
    /// The largest seq of a whole commit, or the one that a tombstone tells.
    pub(super) last_seq: u64,
    /// The newest version of a record.
    pub(super) version: u64,
    /// Where the last whole commit ends.
    pub(super) whole_bytes: u64,
    pub(super) bytes: u64,
}

impl ScannedFile {
    /// Whether something follows the last whole commit.
    pub(super) fn is_torn(&self) -> bool {
        self.whole_bytes < self.bytes
    }
}

/// All files of a thread.
#[derive(Debug)]
pub(super) struct ScannedThread {
    pub(super) files: Vec<ScannedFile>,
}

impl ScannedThread {
    /// Reads every file. `Corrupt` where one is damaged before its end.
    pub(super) fn read(folder: &Folder, thread: &ThreadId, reads: &Reads) -> Result<Self> {
        let own = folder.records(None);
        let mut files = Vec::new();
        files.extend(scan(&own, thread, true, reads)?);
        for path in folder.run_files()? {
            files.extend(scan(&path, thread, false, reads)?);
        }
        for file in &files {
            let place = folder.records(file.run_id.as_ref());
            if file.whole_bytes > 0 && file.path != place {
                let reason = format!("{} belongs to {}; move it there", file.path.display(), place.display());
                return Err(Error::corrupt("records", reason).into());
            }
        }
        Ok(Self { files })
    }

    /// The newest version of a record.
    pub(super) fn version(&self) -> u64 {
        self.files.iter().map(|file| file.version).max().unwrap_or(VERSION)
    }

    /// The largest seq that the files tell of.
    pub(super) fn last_seq(&self) -> u64 {
        self.files.iter().map(|file| file.last_seq).max().unwrap_or_default()
    }

    /// The index of these files, without what was cleared.
    pub(super) fn index(&self, cleared_through: u64) -> Result<(Vec<Entry>, Runs)> {
        let left = |file: &ScannedFile| file.entries.iter().any(|entry| entry.seq > cleared_through);
        let mut runs = Runs::default();
        let mut entries = Vec::new();
        for file in &self.files {
            let number = match &file.run_id {
                Some(run) => {
                    let deleted = file.is_tombstone || !left(file);
                    runs.push(RunRow { run_id: run.clone(), first: 0, deleted })
                }
                None => 0,
            };
            let left = file.entries.iter().filter(|entry| entry.seq > cleared_through);
            entries.extend(left.map(|entry| entry.in_file(number)));
        }
        entries.sort_by_key(|entry| entry.seq);
        let twice = entries.array_windows().find(|[one, other]| one.seq == other.seq);
        if let Some([one, other]) = twice {
            let path = |number: u32| {
                let of = if number == 0 { None } else { runs.row(number).map(|row| row.run_id.as_str()) };
                of.unwrap_or("the thread").to_owned()
            };
            let reason = format!(
                "seq {} is in the files of {} and of {}; remove the record that does not belong there",
                one.seq,
                path(one.file),
                path(other.file)
            );
            return Err(Error::corrupt("records", reason).into());
        }
        index::count_messages(&mut entries);
        let runs = runs.after_deletion(|_| false, &entries);
        Ok((entries, runs))
    }
}

/// Reads a file, if it is there.
fn scan(path: &Path, thread: &ThreadId, is_own: bool, reads: &Reads) -> Result<Option<ScannedFile>> {
    let Some(opened) = file::open(path)? else { return Ok(None) };
    let mut lines = Lines::of(opened);
    let mut scanned = ScannedFile {
        path: path.to_owned(),
        run_id: None,
        is_tombstone: false,
        entries: Vec::new(),
        last_seq: 0,
        version: VERSION,
        whole_bytes: 0,
        bytes: 0,
    };
    let (mut line, mut whole, mut previous) = (Vec::new(), 0, 0);
    let mut damage: Option<(u64, u64, Fault)> = None;
    loop {
        let (number, offset) = (lines.number + 1, lines.offset);
        let Some(is_complete) = lines.next(&mut line).map_err(file::at(path))? else { break };
        reads.count(line.len() + 1, 1);
        let parsed = if is_complete { Envelope::parse(&line) } else { Err(Fault::Shape) };
        let envelope = match parsed {
            Ok(envelope) => envelope,
            Err(fault) => {
                damage.get_or_insert((number, offset, fault));
                continue;
            }
        };
        if let Some((number, offset, fault)) = damage {
            return Err(corrupt(path, number, offset, fault.as_str(), "and whole records follow").into());
        }
        if envelope.run_id.is_none() != is_own
            || (scanned.run_id.is_some() && scanned.run_id != envelope.run_id)
        {
            return Err(corrupt(path, number, offset, "is of another run", "than its file").into());
        }
        if envelope.seq <= previous || scanned.is_tombstone {
            return Err(
                corrupt(path, number, offset, "has a seq", "that cannot follow those before it").into()
            );
        }
        previous = envelope.seq;
        scanned.run_id.clone_from(&envelope.run_id);
        scanned.version = scanned.version.max(envelope.version);
        scanned.is_tombstone = envelope.is_tombstone();
        let (seq, end, is_tombstone) = (envelope.seq, envelope.end, scanned.is_tombstone);
        if !is_tombstone {
            let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
            scanned.entries.push(match envelope.event(thread) {
                Ok(event) => Entry::of(&event, 0, offset, length, end),
                Err(_) => Entry::unreadable(seq, offset, length, end),
            });
        }
        if end {
            whole = scanned.entries.len();
            scanned.whole_bytes = lines.offset;
            scanned.last_seq = seq;
        }
    }
    scanned.entries.truncate(whole);
    scanned.bytes = lines.offset;
    if scanned.whole_bytes == 0 {
        scanned.run_id = None;
    }
    Ok(Some(scanned))
}

fn corrupt(path: &Path, line: u64, offset: u64, what: &str, how: &str) -> Error {
    let reason = format!(
        "line {line} of {}, at byte {offset}, {what}, {how}; restore the file from a backup, or remove the \
         line to lose that record alone",
        path.display()
    );
    Error::corrupt("record", reason)
}
