//! Where a thread's log and its files end, as one process knows it between its writes.

use std::path::Path;

use runledger_core::{Error, ThreadId};

use super::file::{self, Folder, Result, Trouble};
use super::head::Head;
use super::index::{self, BLOCK, Entries, Entry, Runs};
use super::record::{self, VERSION};
use super::scan::ScannedThread;
use super::store::Reads;
use super::view;

/// The end of the log and of each file. Costs memory for each run of the thread, not for each event.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) generation: u64,
    /// How many entries the index has.
    pub(super) entries: u64,
    pub(super) last: Option<Entry>,
    pub(super) runs: Runs,
    /// The last entry of each file, by number.
    lasts: Vec<Option<Entry>>,
}

impl Tail {
    /// That of a generation of which nothing was read yet.
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, entries: 0, last: None, runs: Runs::default(), lasts: vec![None] }
    }

    /// Learns what the index has beyond what is known. `Stale` where the entries do not follow each
    /// other as the log and the files do.
    pub(super) fn read_on(&mut self, folder: &Folder, reads: &Reads) -> Result<()> {
        let entries = Entries::open(folder, self.generation)?;
        self.runs.read_on(&index::runs_file(folder, self.generation), reads)?;
        self.lasts.resize(self.runs.count(), None);
        let count = entries.count();
        if count < self.entries {
            return Err(Trouble::Stale);
        }
        while self.entries < count {
            let block = entries.read(self.entries, count.min(self.entries + BLOCK), reads)?;
            block.into_iter().try_for_each(|entry| self.push(entry))?;
        }
        match self.last {
            Some(last) if !last.is_end() => Err(Trouble::Stale),
            _ => Ok(()),
        }
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        let follows = self.last.is_none_or(|last| {
            last.seq < entry.seq && last.messages + u64::from(entry.is_message()) == entry.messages
        });
        let place = self.lasts.get_mut(entry.file as usize).ok_or(Trouble::Stale)?;
        if !follows || place.map_or(0, |last| last.next_offset()) != entry.offset {
            return Err(Trouble::Stale);
        }
        *place = Some(entry);
        self.last = Some(entry);
        self.entries += 1;
        Ok(())
    }

    /// Makes room for the files of runs that were added.
    pub(super) fn grow(&mut self) {
        self.lasts.resize(self.runs.count(), None);
    }

    /// Where a file ends.
    pub(super) fn end_of(&self, file: u32) -> u64 {
        self.lasts.get(file as usize).copied().flatten().map_or(0, |last| last.next_offset())
    }

    /// How many messages the log has.
    pub(super) fn messages(&self) -> u64 {
        self.last.map_or(0, |last| last.messages)
    }

    /// Checks that the files are as long as the index says and end with the records it says: after a
    /// loss of power they may not.
    pub(super) fn require_fitting_files(
        &self,
        folder: &Folder,
        thread: &ThreadId,
        reads: &Reads,
    ) -> Result<()> {
        let mut expected = Vec::new();
        for number in 0..self.runs.count() {
            let number = u32::try_from(number).map_err(|_| Trouble::Stale)?;
            let row = self.runs.row(number);
            let path = folder.records(row.map(|row| &row.run_id));
            let size = file::size(&path)?;
            if row.is_some_and(|row| row.deleted) {
                size.ok_or(Trouble::Stale)?;
            } else if size.unwrap_or_default() != self.end_of(number) {
                return Err(Trouble::Stale);
            }
            if let Some(last) = self.lasts.get(number as usize).copied().flatten() {
                require_record(&path, &last, thread, reads)?;
            }
            if row.is_some() {
                expected.push(path);
            }
        }
        expected.sort();
        if folder.run_files()? == expected { Ok(()) } else { Err(Trouble::Stale) }
    }
}

/// `Corrupt` where what follows the last whole commit of a file was finished: the index knows its end, and
/// all of its last line is there. A write that was cut short, or lost with the power, leaves less, or NUL.
pub(super) fn require_unfinished(
    folder: &Folder,
    head: &Head,
    scanned: &ScannedThread,
    reads: &Reads,
) -> Result<()> {
    let mut known = Tail::new(head.generation);
    // What an index says up to where it is damaged itself is so.
    let _ = known.read_on(folder, reads);
    let ends = known.lasts.iter().flatten().filter(|last| last.is_end() && last.seq > head.cleared_through);
    for last in ends {
        let path = folder.records(known.runs.row(last.file).map(|row| &row.run_id));
        let Some(torn) = scanned.files.iter().find(|file| file.path == path && file.is_torn()) else {
            continue;
        };
        if last.next_offset() <= torn.whole_bytes || last.next_offset() > torn.bytes {
            continue;
        }
        let file = file::open(&path)?.ok_or(Trouble::Stale)?;
        let mut line = vec![0; usize::try_from(last.next_offset() - last.offset).unwrap_or_default()];
        file::read_part(&path, &file, last.offset, &mut line)?;
        if line.pop() == Some(b'\n') && !line.contains(&b'\n') && !line.contains(&0) {
            let reason = format!(
                "the line at byte {} of {} ended a commit and is damaged; restore the file from a backup, or \
                 remove the line to lose that commit",
                last.offset,
                path.display()
            );
            return Err(Error::corrupt("record", reason).into());
        }
    }
    Ok(())
}

fn require_record(path: &Path, entry: &Entry, thread: &ThreadId, reads: &Reads) -> Result<()> {
    let file = file::open(path)?.ok_or(Trouble::Stale)?;
    let line = view::read_line(path, &file, entry, reads)?;
    let version = view::envelope(&line, entry)?.version;
    if version > VERSION {
        return Err(record::newer(version, format!("the records of thread {thread}")).into());
    }
    Ok(())
}
