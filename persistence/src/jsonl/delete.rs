//! Deletions. Each has one step that decides; whoever dies after it is finished by the next writer.

use runledger_core::{Deleted, Error, HeadState, RunId};

use super::file::{self, Result};
use super::index::{self, Entries, Entry};
use super::record;
use super::writer::Writer;

impl Writer<'_> {
    /// Deletes a run: its file becomes a tombstone, which decides.
    pub(super) fn delete_run(&mut self, run: &RunId) -> Result<Deleted> {
        let entries = self.mended(Self::entries)?;
        let alive = self.tail.runs.number(run).filter(|_| !self.tail.runs.is_deleted(run));
        let number = alive.ok_or_else(|| Error::not_found("run", run))?;
        let (gone, mut left): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| entry.file == number);
        index::count_messages(&mut left);
        let runs = self.tail.runs.after_deletion(|deleted| deleted == number, &left);
        self.lock.set_at_work(true)?;
        self.keep_numbers();
        file::replace(&self.folder.records(Some(run)), &record::tombstone(run, self.head.next_seq - 1)?)?;
        self.switch(&left, &runs)?;
        self.lock.set_at_work(false)?;
        Ok(Deleted { events: gone.len() as u64, runs: 1, ..Deleted::default() })
    }

    /// Empties the log: the head says up to which seq, which decides.
    pub(super) fn clear(&mut self) -> Result<Deleted> {
        let alive: Vec<RunId> = self.tail.runs.alive().cloned().collect();
        let deleted = Deleted { events: self.tail.entries, runs: alive.len() as u64, ..Deleted::default() };
        if deleted == Deleted::default() {
            return Ok(deleted);
        }
        let runs = self.tail.runs.after_deletion(|_| true, &[]);
        self.lock.set_at_work(true)?;
        self.keep_numbers();
        self.head.cleared_through = self.head.next_seq - 1;
        self.switch(&[], &runs)?;
        file::remove(&self.folder.records(None))?;
        for run in alive {
            file::replace(
                &self.folder.records(Some(&run)),
                &record::tombstone(&run, self.head.cleared_through)?,
            )?;
        }
        self.lock.set_at_work(false)?;
        Ok(deleted)
    }

    /// Deletes the thread: its head becomes a tombstone, which decides.
    pub(super) fn delete_thread(&mut self) -> Result<Deleted> {
        let runs = self.tail.runs.alive().count() as u64;
        let deleted = Deleted { events: self.tail.entries, runs, threads: 1, ..Deleted::default() };
        self.lock.set_at_work(true)?;
        self.keep_numbers();
        self.head.state = HeadState::Deleted;
        self.head.thread = None;
        self.head.write(&self.folder)?;
        self.remove_records()?;
        Ok(deleted)
    }

    /// Makes the head remember which numbers were given, before the records that tell are gone.
    fn keep_numbers(&mut self) {
        self.head.next_seq = self.next_seq();
        self.head.with_first_event = false;
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        Entries::open(&self.folder, self.tail.generation)?.read(0, self.tail.entries, &self.store.reads)
    }
}
