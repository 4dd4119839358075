//! The index of a thread: where each event is, in the order of the log.
//!
//! Two files of one generation. `N.entries` has one entry of fixed size for each event, so that a
//! seq is found by bisection and a page reads what it shows; `N.runs` says which run a number in an
//! entry stands for. Both are made of the records and made anew from them where they are damaged or
//! missing. Appends add to them; what takes entries away writes the next generation, which counts
//! from when the head names it.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use runledger_core::{Category, Event, RunId};
use serde::{Deserialize, Serialize};

use super::file::{self, Folder, Result, Trouble};
use super::store::Reads;

/// Bytes of an entry.
const ENTRY_BYTES: usize = 48;

/// Entries that are read at once.
pub(super) const BLOCK: u64 = 512;

/// Where an event is, and what decides whether a reader wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) seq: u64,
    /// Where its record begins in its file.
    pub(super) offset: u64,
    /// How many messages the log has up to and with it.
    pub(super) messages: u64,
    /// Bytes of its record without the `\n`.
    pub(super) length: u32,
    /// The number of its file: 0 is the thread's own, others stand in [`Runs`].
    pub(super) file: u32,
    flags: u32,
    /// A hash of its once key; means nothing without one.
    once: u32,
    /// A hash of its type.
    kind: u32,
}

const END: u32 = 1;
const MESSAGE: u32 = 2;
const VISIBLE_AI: u32 = 4;
const ONCE: u32 = 8;
const UNREADABLE: u32 = 16;

/// A hash that tells most texts apart; who needs to be sure looks at the record.
fn hash(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

impl Entry {
    /// The entry of an event that a file holds at `offset`.
    pub(super) fn of(event: &Event, file: u32, offset: u64, length: u32, end: bool) -> Self {
        let flags = [
            (END, end),
            (MESSAGE, event.category == Category::Message),
            (VISIBLE_AI, event.is_visible_ai()),
            (ONCE, event.once_key.is_some()),
        ];
        let flags = flags.into_iter().filter(|(_, is)| *is).fold(0, |flags, (flag, _)| flags | flag);
        let once = event.once_key.as_deref().map_or(0, hash);
        let kind = hash(event.event_type.as_str());
        Self { seq: event.seq, offset, messages: 0, length, file, flags, once, kind }
    }

    /// The entry of a record whose payload this version does not know.
    pub(super) fn unreadable(seq: u64, offset: u64, length: u32, end: bool) -> Self {
        let flags = UNREADABLE | if end { END } else { 0 };
        Self { seq, offset, messages: 0, length, file: 0, flags, once: 0, kind: 0 }
    }

    /// The same, in the file with this number.
    pub(super) fn in_file(self, file: u32) -> Self {
        Self { file, ..self }
    }

    /// Where the next record of its file begins.
    pub(super) fn next_offset(&self) -> u64 {
        self.offset + u64::from(self.length) + 1
    }

    pub(super) fn is_end(&self) -> bool {
        self.flags & END != 0
    }

    pub(super) fn is_message(&self) -> bool {
        self.flags & MESSAGE != 0
    }

    /// Whether it may be a message: of what cannot be read, that is not known.
    pub(super) fn may_be_message(&self) -> bool {
        self.flags & (MESSAGE | UNREADABLE) != 0
    }

    pub(super) fn is_visible_ai(&self) -> bool {
        self.flags & VISIBLE_AI != 0
    }

    pub(super) fn may_have_once_key(&self, key: &str) -> bool {
        self.flags & UNREADABLE != 0 || (self.flags & ONCE != 0 && self.once == hash(key))
    }

    pub(super) fn may_have_type(&self, event_type: &str) -> bool {
        self.flags & UNREADABLE != 0 || self.kind == hash(event_type)
    }

    /// Adds its bytes, of which the checksum counts its place too: an entry that stands elsewhere is none.
    pub(super) fn encode(&self, place: u64, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        for number in [self.seq, self.offset, self.messages] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.length, self.file, self.flags, self.once, self.kind] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = Self::checksum(place, bytes.get(start..).unwrap_or_default());
        bytes.extend_from_slice(&crc.to_le_bytes());
    }

    fn checksum(place: u64, fields: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&place.to_le_bytes());
        hasher.update(fields);
        hasher.finalize()
    }

    /// `None` where the bytes are not those of the entry at this place.
    fn decode(place: u64, bytes: &[u8]) -> Option<Self> {
        let (long, short) = bytes.split_at_checked(24)?;
        let mut long = long.chunks_exact(8).filter_map(|part| part.try_into().ok()).map(u64::from_le_bytes);
        let mut short = short.chunks_exact(4).filter_map(|part| part.try_into().ok()).map(u32::from_le_bytes);
        let entry = Self {
            seq: long.next()?,
            offset: long.next()?,
            messages: long.next()?,
            length: short.next()?,
            file: short.next()?,
            flags: short.next()?,
            once: short.next()?,
            kind: short.next()?,
        };
        let crc = Self::checksum(place, bytes.get(..ENTRY_BYTES - 4)?);
        (short.next()? == crc && entry.seq > 0).then_some(entry)
    }
}

/// The file of the entries of a generation.
pub(super) fn entries_file(folder: &Folder, generation: u64) -> PathBuf {
    folder.index().join(format!("{generation}.entries"))
}

/// The file of the runs of a generation.
pub(super) fn runs_file(folder: &Folder, generation: u64) -> PathBuf {
    folder.index().join(format!("{generation}.runs"))
}

/// How many bytes this many entries take.
pub(super) fn bytes_of(entries: u64) -> u64 {
    entries * ENTRY_BYTES as u64
}

/// Writes a generation, which nobody reads before the head names it.
pub(super) fn write(folder: &Folder, generation: u64, entries: &[Entry], runs: &Runs) -> Result<()> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    (0..).zip(entries).for_each(|(place, entry)| entry.encode(place, &mut bytes));
    file::write_whole(&entries_file(folder, generation), &bytes)?;
    let mut lines = Vec::new();
    runs.rows.iter().for_each(|row| row.encode(&mut lines));
    file::write_whole(&runs_file(folder, generation), &lines)?;
    file::sync_folder(&folder.index())
}

/// Whether a generation has an entry.
pub(super) fn is_begun(folder: &Folder, generation: u64) -> Result<bool> {
    Ok(file::size(&entries_file(folder, generation))?.is_some_and(|size| size >= bytes_of(1)))
}

/// The newest generation that a folder has files of.
pub(super) fn newest(folder: &Folder) -> Result<u64> {
    let files = file::list(&folder.index())?;
    let generations = files.iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
    Ok(generations.max().unwrap_or_default())
}

/// Removes every other generation.
pub(super) fn remove_others(folder: &Folder, generation: u64) -> Result<()> {
    let kept = [entries_file(folder, generation), runs_file(folder, generation)];
    file::list(&folder.index())?
        .iter()
        .filter(|path| !kept.contains(path))
        .try_for_each(|path| file::remove(path))
}

/// The entries of a generation as they were at one moment.
#[derive(Debug)]
pub(super) enum Entries {
    /// In their file.
    Stored { path: PathBuf, file: File, count: u64 },
    /// Made of the records just now.
    Made(Vec<Entry>),
}

impl Entries {
    /// Those of a generation; `Stale` where its file is missing or ends within an entry.
    pub(super) fn open(folder: &Folder, generation: u64) -> Result<Self> {
        let path = entries_file(folder, generation);
        let file = file::open(&path)?.ok_or(Trouble::Stale)?;
        let size = file.metadata().map_err(file::at(&path))?.len();
        let entry = ENTRY_BYTES as u64;
        if !size.is_multiple_of(entry) {
            return Err(Trouble::Stale);
        }
        Ok(Self::Stored { path, file, count: size / entry })
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Stored { count, .. } => *count,
            Self::Made(entries) => entries.len() as u64,
        }
    }

    /// Those at these places; `Stale` where one is damaged.
    pub(super) fn read(&self, from: u64, to: u64, reads: &Reads) -> Result<Vec<Entry>> {
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or_default();
        match self {
            Self::Made(entries) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                Ok(entries.get(from..from.saturating_add(count)).unwrap_or_default().to_vec())
            }
            Self::Stored { path, file, .. } => {
                let mut bytes = vec![0; count * ENTRY_BYTES];
                file::read_part(path, file, bytes_of(from), &mut bytes)?;
                reads.count(bytes.len(), 0);
                (from..)
                    .zip(bytes.chunks(ENTRY_BYTES))
                    .map(|(place, bytes)| Entry::decode(place, bytes).ok_or(Trouble::Stale))
                    .collect()
            }
        }
    }

    /// The one at this place.
    pub(super) fn get(&self, place: u64, reads: &Reads) -> Result<Entry> {
        self.read(place, place + 1, reads)?.pop().ok_or(Trouble::Stale)
    }

    /// The last one, which must end a commit.
    pub(super) fn last(&self, reads: &Reads) -> Result<Option<Entry>> {
        match self.count() {
            0 => Ok(None),
            count => match self.get(count - 1, reads)? {
                last if last.is_end() => Ok(Some(last)),
                _ => Err(Trouble::Stale),
            },
        }
    }

    /// How many have a seq of at most this.
    pub(super) fn count_through(&self, seq: u64, reads: &Reads) -> Result<u64> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle, reads)?.seq <= seq { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

/// A run that has, or had, records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunRow {
    pub(super) run_id: RunId,
    /// The place of its first entry.
    pub(super) first: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
}

impl RunRow {
    /// A line: a checksum, a space, the row.
    pub(super) fn encode(&self, lines: &mut Vec<u8>) {
        // Ids are text, which always has a JSON form.
        let row = serde_json::to_string(self).unwrap_or_default();
        lines.extend_from_slice(format!("{:08x} {row}\n", hash(&row)).as_bytes());
    }

    fn decode(line: &str) -> Option<Self> {
        let (crc, row) = line.split_once(' ')?;
        if crc != format!("{:08x}", hash(row)) {
            return None;
        }
        serde_json::from_str(row).ok()
    }
}

/// The runs of a generation, by the numbers that entries have.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    rows: Vec<RunRow>,
    numbers: HashMap<RunId, u32>,
    /// How much of the file is known.
    pub(super) bytes: u64,
}

impl Runs {
    /// Those of a generation.
    pub(super) fn read(folder: &Folder, generation: u64, reads: &Reads) -> Result<Self> {
        let mut runs = Self::default();
        runs.read_on(&runs_file(folder, generation), reads)?;
        Ok(runs)
    }

    /// Learns what the file has beyond what is known; `Stale` where that is damaged.
    pub(super) fn read_on(&mut self, path: &Path, reads: &Reads) -> Result<()> {
        let file = file::open(path)?.ok_or(Trouble::Stale)?;
        let size = file.metadata().map_err(file::at(path))?.len();
        let more = size.checked_sub(self.bytes).ok_or(Trouble::Stale)?;
        let mut bytes = vec![0; usize::try_from(more).map_err(|_| Trouble::Stale)?];
        file::read_part(path, &file, self.bytes, &mut bytes)?;
        reads.count(bytes.len(), 0);
        let lines = std::str::from_utf8(&bytes).map_err(|_| Trouble::Stale)?;
        for line in lines.split_terminator('\n') {
            self.push(RunRow::decode(line).ok_or(Trouble::Stale)?);
        }
        self.bytes = size;
        Ok(())
    }

    /// Adds a run, and gives its number.
    pub(super) fn push(&mut self, row: RunRow) -> u32 {
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX - 1) + 1;
        self.numbers.insert(row.run_id.clone(), number);
        self.rows.push(row);
        number
    }

    /// How many numbers are given, the thread's own included.
    pub(super) fn count(&self) -> usize {
        self.rows.len() + 1
    }

    pub(super) fn number(&self, run: &RunId) -> Option<u32> {
        self.numbers.get(run).copied()
    }

    /// The run with this number; `None` for the thread itself and for what is unknown.
    pub(super) fn row(&self, number: u32) -> Option<&RunRow> {
        usize::try_from(number).ok()?.checked_sub(1).and_then(|place| self.rows.get(place))
    }

    pub(super) fn is_deleted(&self, run: &RunId) -> bool {
        self.number(run).and_then(|number| self.row(number)).is_some_and(|row| row.deleted)
    }

    /// The runs that were not deleted.
    pub(super) fn alive(&self) -> impl Iterator<Item = &RunId> {
        self.rows.iter().filter(|row| !row.deleted).map(|row| &row.run_id)
    }

    /// Marks these runs deleted and looks up where the others begin now.
    pub(super) fn after_deletion(&self, gone: impl Fn(u32) -> bool, left: &[Entry]) -> Self {
        let mut first: HashMap<u32, u64> = HashMap::new();
        for (place, entry) in left.iter().enumerate() {
            first.entry(entry.file).or_insert(place as u64);
        }
        let mut runs = Self::default();
        for (number, row) in (1..).zip(&self.rows) {
            let deleted = row.deleted || gone(number);
            runs.push(RunRow {
                first: first.get(&number).copied().unwrap_or_default(),
                deleted,
                run_id: row.run_id.clone(),
            });
        }
        runs
    }
}

/// Counts the messages anew, after entries were taken away or put together.
pub(super) fn count_messages(entries: &mut [Entry]) {
    let mut messages = 0;
    for entry in entries {
        messages += u64::from(entry.is_message());
        entry.messages = messages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn an_entry_has_its_size_and_comes_back() {
        let entry = Entry { file: 3, ..Entry::unreadable(7, 1_000, 99, true) };
        let mut bytes = Vec::new();
        entry.encode(5, &mut bytes);
        assert_eq!(bytes.len(), ENTRY_BYTES);
        assert_eq!(Entry::decode(5, &bytes), Some(entry));
        assert_eq!(Entry::decode(4, &bytes), None, "at another place");
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(Entry::decode(5, &changed), None, "byte {place}");
        }
        assert_eq!(Entry::decode(0, &[0; ENTRY_BYTES]), None);
    }

    #[test]
    fn a_damaged_run_is_seen() {
        let row = RunRow { run_id: RunId::new("r\n1".replace('\n', "é")).unwrap(), first: 9, deleted: true };
        let mut line = Vec::new();
        row.encode(&mut line);
        let line = String::from_utf8(line).unwrap();
        assert_eq!(RunRow::decode(line.trim_end()), Some(row));
        assert_eq!(RunRow::decode(&line.trim_end().replace('9', "8")), None);
    }
}
