//! A thread as a reader sees it at one moment.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use runledger_core::{Event, EventType, RunId, Scope, SeqPage, SeqScan, ThreadHead, ThreadId};

use super::file::{self, Folder, Result, Trouble};
use super::head::Head;
use super::index::{BLOCK, Entries, Entry, Runs};
use super::scan::ScannedThread;
use super::store::{Reads, Store, not_found};
use super::tail;
use crate::envelope::Envelope;

/// The fewest entries that are read at once.
const FEW: u64 = 32;

/// The index of a thread up to one commit, and its records.
#[derive(Debug)]
pub(super) struct View<'a> {
    store: &'a Store,
    pub(super) head: Head,
    entries: Entries,
    last: Option<Entry>,
    runs: Runs,
    records: Records<'a>,
}

/// Which events a page shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// Only those of this run.
    pub(super) run: Option<&'a RunId>,
    /// Only messages.
    pub(super) messages: bool,
    /// Only of these types, if any; a hash decides, so others may be among them.
    pub(super) types: &'a [EventType],
}

impl<'a> View<'a> {
    /// The thread by its index; `NotFound` where the scope does not see it.
    pub(super) fn open(store: &'a Store, scope: &Scope, thread: &ThreadId) -> Result<Self> {
        Self::over(store, scope, thread, |folder, head| {
            // The entries first: of runs, more may be known than they name.
            let entries = Entries::open(folder, head.generation)?;
            Ok((entries, Runs::read(folder, head.generation, &store.reads)?))
        })
    }

    /// The thread by an index that is made for this view alone, under the thread's lock.
    pub(super) fn made(store: &'a Store, scope: &Scope, thread: &ThreadId) -> Result<Self> {
        Self::over(store, scope, thread, |folder, head| {
            let scanned = ScannedThread::read(folder, thread, &store.reads)?;
            let (entries, runs) = scanned.index(head.cleared_through)?;
            tail::require_unfinished(folder, head, &scanned, &store.reads)?;
            Ok((Entries::Made(entries), runs))
        })
    }

    fn over(
        store: &'a Store,
        scope: &Scope,
        thread: &ThreadId,
        index: impl FnOnce(&Folder, &Head) -> Result<(Entries, Runs)>,
    ) -> Result<Self> {
        let folder = store.folder(thread);
        let head = match file::size(folder.path())? {
            Some(_) => Head::load(&folder, thread)?.map(|(head, _)| head),
            None => None,
        };
        let head = head.filter(|head| head.visible(scope).is_some()).ok_or_else(|| not_found(thread))?;
        let (entries, runs) = index(&folder, &head)?;
        let last = entries.last(&store.reads)?;
        if head.with_first_event && head.next_seq == 1 && last.is_none() {
            return Err(not_found(thread).into());
        }
        let records = Records::new(store, folder, thread.clone());
        Ok(Self { store, head, entries, last, runs, records })
    }

    /// How many messages the log has.
    pub(super) fn messages(&self) -> u64 {
        self.last.map_or(0, |last| last.messages)
    }

    /// The numbers of the thread, as the contract tells them.
    pub(super) fn thread_head(&self) -> ThreadHead {
        ThreadHead {
            thread_id: self.head.thread_id.clone(),
            owner_id: self.head.owner_id.clone(),
            state: self.head.state.clone(),
            next_seq: self.head.next_seq.max(self.last.map_or(0, |last| last.seq) + 1),
            message_count: self.messages(),
            active_run_id: None,
            epoch: 0,
            journal_ordinal: 0,
            parent_thread_id: None,
            last_compact_seq: None,
        }
    }

    /// The number of a run that has records, and where they begin.
    fn place_of(&self, run: &RunId) -> Option<(u32, u64)> {
        let number = self.runs.number(run)?;
        self.runs.row(number).filter(|row| !row.deleted).map(|row| (number, row.first))
    }

    /// A page of the log. Reads the records that it shows; with `accepts`, those of the run that
    /// it looks through.
    pub(super) fn page(
        &mut self,
        scan: SeqScan,
        wanted: Wanted<'_>,
        accepts: Option<&dyn Fn(&Event) -> bool>,
    ) -> Result<SeqPage<Event>> {
        let (file, first) = match wanted.run.map(|run| self.place_of(run)) {
            None => (None, 0),
            Some(Some((number, first))) => (Some(number), first),
            Some(None) => return Ok(scan.page(Vec::new())),
        };
        let wants = |entry: &Entry| {
            file.is_none_or(|file| file == entry.file)
                && (!wanted.messages || entry.may_be_message())
                && (wanted.types.is_empty()
                    || wanted.types.iter().any(|kind| entry.may_have_type(kind.as_str())))
        };
        let reads = &self.store.reads;
        let mut low = self.entries.count_through(scan.after, reads)?.max(first);
        let mut high = self.entries.count_through(scan.before.saturating_sub(1), reads)?;
        let rows_wanted = scan.limit as usize + 1;
        let block = (rows_wanted as u64).clamp(FEW, BLOCK);
        // Of a record its length is known before it is read.
        let mut page = scan.fill::<(Entry, Option<Event>)>();
        let mut is_full = false;
        while low < high && !is_full {
            let entries = if scan.from_end {
                let from = low.max(high.saturating_sub(block));
                let mut entries = self.entries.read(from, high, reads)?;
                entries.reverse();
                high = from;
                entries
            } else {
                let to = high.min(low + block);
                let entries = self.entries.read(low, to, reads)?;
                low = to;
                entries
            };
            for entry in entries.into_iter().filter(wants) {
                let event = accepts.map(|_| self.records.of(&entry, &self.runs)).transpose()?;
                if let (Some(accepts), Some(event)) = (accepts, &event)
                    && !accepts(event)
                {
                    continue;
                }
                let bytes = entry.length as usize;
                if !page.take((entry, event), bytes) {
                    is_full = true;
                    break;
                }
            }
        }
        let SeqPage { items, has_more } = page.page();
        let items = items.into_iter().map(|(entry, event)| match event {
            Some(event) => Ok(event),
            None => self.records.of(&entry, &self.runs),
        });
        Ok(SeqPage { items: items.collect::<Result<_>>()?, has_more })
    }

    /// For each of these runs, the seq of its last message that a person sees.
    pub(super) fn last_visible_ai(&self, runs: &[RunId]) -> Result<BTreeMap<RunId, u64>> {
        let places: HashMap<u32, (&RunId, u64)> = runs
            .iter()
            .filter_map(|run| self.place_of(run).map(|(number, first)| (number, (run, first))))
            .collect();
        let low = places.values().map(|(_, first)| *first).min().unwrap_or(u64::MAX);
        let mut high = self.entries.count();
        let mut found = BTreeMap::new();
        while low < high && found.len() < places.len() {
            let from = low.max(high.saturating_sub(BLOCK));
            for entry in self.entries.read(from, high, &self.store.reads)?.iter().rev() {
                if let Some((run, _)) = places.get(&entry.file).filter(|_| entry.is_visible_ai()) {
                    found.entry((*run).clone()).or_insert(entry.seq);
                }
            }
            high = from;
        }
        Ok(found)
    }
}

/// Reads records where entries say they are.
#[derive(Debug)]
pub(super) struct Records<'a> {
    store: &'a Store,
    folder: Folder,
    thread: ThreadId,
    files: HashMap<u32, (PathBuf, File)>,
}

impl<'a> Records<'a> {
    pub(super) fn new(store: &'a Store, folder: Folder, thread: ThreadId) -> Self {
        Self { store, folder, thread, files: HashMap::new() }
    }

    /// The event of an entry whose file is that of one of these runs, or the thread's own.
    fn of(&mut self, entry: &Entry, runs: &Runs) -> Result<Event> {
        let run = match entry.file {
            0 => None,
            number => Some(&runs.row(number).ok_or(Trouble::Stale)?.run_id),
        };
        self.event(entry, run)
    }

    /// The event of an entry in the file of `run`. `Stale` where another record is there, or none.
    pub(super) fn event(&mut self, entry: &Entry, run: Option<&RunId>) -> Result<Event> {
        let (path, file) = match self.files.entry(entry.file) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let path = self.folder.records(run);
                let file = file::open(&path)?.ok_or(Trouble::Stale)?;
                place.insert((path, file))
            }
        };
        let line = read_line(path, file, entry, &self.store.reads)?;
        let envelope = envelope(&line, entry)?;
        if envelope.run_id.as_ref() != run {
            return Err(Trouble::Stale);
        }
        Ok(envelope.event(&self.thread)?)
    }
}

/// The line of an entry, which ends where the entry says.
pub(super) fn read_line(path: &Path, file: &File, entry: &Entry, reads: &Reads) -> Result<Vec<u8>> {
    let mut line = vec![0; entry.length as usize + 1];
    file::read_part(path, file, entry.offset, &mut line)?;
    reads.count(line.len(), 1);
    if line.pop() == Some(b'\n') { Ok(line) } else { Err(Trouble::Stale) }
}

/// The envelope of an entry's line. `Stale` where another record is there, or none.
pub(super) fn envelope<'a>(line: &'a [u8], entry: &Entry) -> Result<Envelope<'a>> {
    match Envelope::parse(line) {
        Ok(envelope) if envelope.seq == entry.seq => Ok(envelope),
        Ok(_) | Err(_) => Err(Trouble::Stale),
    }
}
