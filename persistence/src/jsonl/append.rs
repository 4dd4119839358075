//! The commit, judged and stored.

use runledger_core::{Applied, Error, Event, Expected, HeadState, Prepared, Receipt, RunId};

use super::Durability;
use super::file::{self, Result, Trouble};
use super::index::{self, BLOCK, Entries, Entry, RunRow};
use super::record;
use super::view::Records;
use super::writer::Writer;

impl Writer<'_> {
    /// Stores a commit and answers it, with its events.
    pub(super) fn append(&mut self, prepared: Prepared) -> Result<(Receipt, Vec<Event>)> {
        let path = self.folder.records(prepared.run_id.as_ref());
        if file::size(&path)?.unwrap_or_default() != self.tail.end_of(self.file_of(prepared.run_id.as_ref()))
        {
            // Somebody else wrote to it. What is whole counts, what is not must not swallow what follows.
            self.recover()?;
        }
        self.mended(|writer| writer.judge(&prepared))?;
        let events: Vec<Event> = prepared.into_events(self.next_seq()).collect();
        self.store(&events)?;
        let seqs = events.iter().map(|event| event.seq).collect();
        let receipt = Receipt { seqs, already_stored: 0, next_seq: self.next_seq(), epoch: 0 };
        Ok((receipt, events))
    }

    /// Looks at what is stored; where index and records do not fit, once more after making them whole.
    pub(super) fn mended<T>(&mut self, look: impl Fn(&Self) -> Result<T>) -> Result<T> {
        match look(self) {
            Err(Trouble::Stale) => {
                self.recover()?;
                look(self)
            }
            answer => answer,
        }
    }

    /// The number of the file that the records of a run go to, or those of the thread itself.
    fn file_of(&self, run: Option<&RunId>) -> u32 {
        let new = || u32::try_from(self.tail.runs.count()).unwrap_or(u32::MAX);
        run.map_or(0, |run| self.tail.runs.number(run).unwrap_or_else(new))
    }

    fn judge(&self, prepared: &Prepared) -> Result<()> {
        if self.head.state != HeadState::Open {
            return Err(Error::conflict("thread state", "open", &self.head.state).into());
        }
        if let Expected::NextSeq(expected) = prepared.expected
            && expected != self.next_seq()
        {
            return Err(Error::conflict("next_seq", expected, self.next_seq()).into());
        }
        let Some(run) = &prepared.run_id else { return Ok(()) };
        if self.tail.runs.is_deleted(run) {
            return Err(Error::not_found("run", run).into());
        }
        for key in prepared.events.iter().filter_map(|event| event.once_key.as_deref()) {
            if let Some(event) = self.once(run, key)? {
                return Err(
                    Error::conflict("once_key", "unused", format!("used by seq {}", event.seq)).into()
                );
            }
        }
        Ok(())
    }

    /// The run's event with this once key.
    pub(super) fn once(&self, run: &RunId, key: &str) -> Result<Option<Event>> {
        let number = self.file_of(Some(run));
        let Some(row) = self.tail.runs.row(number).filter(|row| !row.deleted) else { return Ok(None) };
        let entries = Entries::open(&self.folder, self.tail.generation)?;
        let mut records = Records::new(self.store, self.folder.clone(), self.head.thread_id.clone());
        let mut from = row.first;
        while from < self.tail.entries {
            let to = self.tail.entries.min(from + BLOCK);
            for entry in entries.read(from, to, &self.store.reads)? {
                if entry.file == number && entry.may_have_once_key(key) {
                    let event = records.event(&entry, Some(run))?;
                    if event.once_key.as_deref() == Some(key) {
                        return Ok(Some(event));
                    }
                }
            }
            from = to;
        }
        Ok(None)
    }

    /// Adds a commit's events to the file of their run and to the index.
    fn store(&mut self, events: &[Event]) -> Result<()> {
        let Some(run) = events.first().map(|event| event.run_id.clone()) else { return Ok(()) };
        self.write_new()?;
        let number = self.file_of(run.as_ref());
        let added = Added::new(self, run.as_ref(), number, events)?;
        let before = Before {
            end: self.tail.end_of(number),
            entries: index::bytes_of(self.tail.entries),
            runs: self.tail.runs.bytes,
        };
        // First, for what is stored is never refused afterwards.
        if let Some(row) = added.row.clone() {
            self.tail.runs.push(row);
            self.tail.runs.bytes += added.row_line.len() as u64;
            self.tail.grow();
        }
        added.entries.iter().try_for_each(|entry| self.tail.push(*entry))?;
        let path = self.folder.records(run.as_ref());
        self.lock.set_at_work(true)?;
        if let Err(trouble) = self.write(&path, &before, &added) {
            return Err(self.undo(&path, &before, trouble));
        }
        if let Err(trouble) = self.lock.set_at_work(false) {
            // All is written; the next writer looks through it.
            tracing::warn!(thread_id = %self.head.thread_id, ?trouble, "the mark of a writer could not be taken away");
        }
        Ok(())
    }

    fn write(&self, path: &std::path::Path, before: &Before, added: &Added) -> Result<()> {
        let sync = self.store.config.durability == Durability::Sync;
        if before.end == 0 {
            // Whoever copied the thread may have left out a folder that was empty.
            file::create_parent(path)?;
        }
        file::write_at(path, before.end, &added.lines, sync)?;
        if sync && before.end == 0 {
            file::sync_folder(path.parent().unwrap_or(path))?;
        }
        let generation = self.tail.generation;
        if !added.row_line.is_empty() {
            file::write_at(&index::runs_file(&self.folder, generation), before.runs, &added.row_line, sync)?;
        }
        let entries = index::entries_file(&self.folder, generation);
        file::write_at(&entries, before.entries, &added.entry_bytes, sync)
    }

    /// Takes back what was written of a commit that failed.
    fn undo(&self, path: &std::path::Path, before: &Before, trouble: Trouble) -> Trouble {
        let undo = || {
            match before.end {
                0 => file::remove(path)?,
                end => file::cut(path, end)?,
            }
            file::cut(&index::entries_file(&self.folder, self.tail.generation), before.entries)?;
            file::cut(&index::runs_file(&self.folder, self.tail.generation), before.runs)?;
            self.lock.set_at_work(false)
        };
        match undo() {
            Ok(()) => trouble,
            // The next writer keeps the commit where it is whole and cuts it where it is not.
            Err(_) => {
                let source = Box::new(trouble.into_error("to append"));
                Error::Unavailable { applied: Applied::Unknown, source }.into()
            }
        }
    }
}

/// Where the files ended before a commit.
struct Before {
    end: u64,
    entries: u64,
    runs: u64,
}

/// What a commit adds to the files.
struct Added {
    lines: Vec<u8>,
    entries: Vec<Entry>,
    entry_bytes: Vec<u8>,
    /// The run, if it is new.
    row: Option<RunRow>,
    row_line: Vec<u8>,
}

impl Added {
    fn new(writer: &Writer<'_>, run: Option<&RunId>, number: u32, events: &[Event]) -> Result<Self> {
        let tail = &writer.tail;
        let (mut lines, mut entries, mut entry_bytes) = (Vec::new(), Vec::new(), Vec::new());
        let mut messages = tail.messages();
        for (event, place) in events.iter().zip(tail.entries..) {
            let start = lines.len();
            let end = place + 1 == tail.entries + events.len() as u64;
            record::push_event(&mut lines, event, end)?;
            let length = lines.len() - start - 1;
            let length = u32::try_from(length).map_err(|_| Error::TooLarge {
                field: "content",
                limit: u64::from(u32::MAX),
                actual: length as u64,
            })?;
            let offset = tail.end_of(number) + start as u64;
            let mut entry = Entry::of(event, number, offset, length, end);
            messages += u64::from(entry.is_message());
            entry.messages = messages;
            entry.encode(place, &mut entry_bytes);
            entries.push(entry);
        }
        let row = run.filter(|run| tail.runs.number(run).is_none()).map(|run| RunRow {
            run_id: run.clone(),
            first: tail.entries,
            deleted: false,
        });
        let mut row_line = Vec::new();
        if let Some(row) = &row {
            row.encode(&mut row_line);
        }
        Ok(Self { lines, entries, entry_bytes, row, row_line })
    }
}
