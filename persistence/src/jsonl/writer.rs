//! The right to write one thread, from its lock to its end.

use runledger_core::{Error, HeadState, Scope, Thread, ThreadId};

use super::TornTail;
use super::file::{self, Folder, Lock, Result, Trouble};
use super::head::Head;
use super::index::{self, Entries, Entry, Runs};
use super::record::{self, VERSION};
use super::scan::ScannedThread;
use super::store::{Store, not_found};
use super::tail::{self, Tail};

/// A thread whose lock is held, and whose files and index are whole.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) folder: Folder,
    pub(super) lock: Lock,
    pub(super) head: Head,
    pub(super) tail: Tail,
    /// What was cut off.
    pub(super) cut: Vec<TornTail>,
    /// Whether the head is still to be written.
    is_new: bool,
}

impl<'a> Writer<'a> {
    /// Takes the lock of a thread, and mends what a writer that died or a loss of power left.
    /// `None` where there is no such thread; one that was deleted is there.
    pub(super) fn open(store: &'a Store, thread: &ThreadId, slot: &mut Option<Tail>) -> Result<Option<Self>> {
        let folder = store.folder(thread);
        if file::size(folder.path())?.is_none() {
            return Ok(None);
        }
        let lock = Lock::exclusive(&folder)?;
        Ok(Self::open_locked(store, folder, lock, thread, slot)?.ok())
    }

    /// Gives the lock back where there is no such thread.
    fn open_locked(
        store: &'a Store,
        folder: Folder,
        lock: Lock,
        thread: &ThreadId,
        slot: &mut Option<Tail>,
    ) -> Result<Result<Self, Lock>> {
        let known = slot.take();
        let Some((head, version)) = Head::load(&folder, thread)? else { return Ok(Err(lock)) };
        if version > VERSION {
            return Err(record::newer(version, folder.head().display().to_string()).into());
        }
        let tail = Tail::new(head.generation);
        let mut writer = Self { store, folder, lock, head, tail, cut: Vec::new(), is_new: false };
        if writer.head.state == HeadState::Deleted {
            writer.remove_records()?;
            return Ok(Ok(writer));
        }
        match writer.fitting_tail(known) {
            Ok(tail) => writer.tail = tail,
            Err(Trouble::Stale) => writer.recover()?,
            Err(other) => return Err(other),
        }
        Ok(Ok(writer))
    }

    /// Takes the lock of a thread that is to be made. [`Writer::write_new`] makes it.
    pub(super) fn create(
        store: &'a Store,
        thread: Thread,
        with_first_event: bool,
        slot: &mut Option<Tail>,
    ) -> Result<Self> {
        let id = thread.thread_id.clone();
        let folder = store.folder(&id);
        folder.create()?;
        let lock = Lock::exclusive(&folder)?;
        let mut head = Head::new(thread, with_first_event);
        let lock = match Self::open_locked(store, folder.clone(), lock, &id, slot)? {
            Ok(writer) if writer.exists() => return Err(Error::already_exists("thread", id).into()),
            // A commit that was to make it was never finished.
            Ok(writer) => {
                head.generation = writer.head.generation + 1;
                writer.lock
            }
            Err(lock) => lock,
        };
        Ok(Self {
            store,
            folder,
            lock,
            tail: Tail::new(head.generation),
            head,
            cut: Vec::new(),
            is_new: true,
        })
    }

    /// Makes a head for records that have none that can be read.
    pub(super) fn restore(store: &'a Store, thread: &Thread) -> Result<()> {
        let folder = store.folder(&thread.thread_id);
        if file::size(folder.path())?.is_none() {
            return Err(not_found(&thread.thread_id).into());
        }
        let lock = Lock::exclusive(&folder)?;
        match Head::read(&folder) {
            Ok(Some(_)) => return Err(Error::already_exists("thread", &thread.thread_id).into()),
            Ok(None) => {}
            Err(Trouble::Failed(Error::Corrupt { .. })) => file::set_aside(&folder.head())?,
            Err(other) => return Err(other),
        }
        let scanned = ScannedThread::read(&folder, &thread.thread_id, &store.reads)?;
        if scanned.files.is_empty() {
            return Err(not_found(&thread.thread_id).into());
        }
        // Above every generation that may be there.
        let head = Head { generation: index::newest(&folder)?, ..Head::new(thread.clone(), false) };
        let tail = Tail::new(head.generation);
        Self { store, folder, lock, head, tail, cut: Vec::new(), is_new: false }.recover()
    }

    /// Writes the head, where that is still to be done.
    pub(super) fn write_new(&mut self) -> Result<()> {
        if self.is_new {
            index::write(&self.folder, self.head.generation, &[], &Runs::default())?;
            self.head.write(&self.folder)?;
            index::remove_others(&self.folder, self.head.generation)?;
            self.is_new = false;
        }
        Ok(())
    }

    fn fitting_tail(&self, known: Option<Tail>) -> Result<Tail> {
        if self.lock.is_at_work()? {
            return Err(Trouble::Stale);
        }
        let reads = &self.store.reads;
        if let Some(mut tail) = known.filter(|tail| tail.generation == self.head.generation) {
            tail.read_on(&self.folder, reads)?;
            return Ok(tail);
        }
        let mut tail = Tail::new(self.head.generation);
        tail.read_on(&self.folder, reads)?;
        tail.require_fitting_files(&self.folder, &self.head.thread_id, reads)?;
        Ok(tail)
    }

    /// Makes everything whole from the records: cuts what was never finished, finishes deletions, makes
    /// the index anew. `Corrupt`, and nothing is changed, where records are damaged that were finished.
    pub(super) fn recover(&mut self) -> Result<()> {
        let scanned = ScannedThread::read(&self.folder, &self.head.thread_id, &self.store.reads)?;
        if scanned.version() > VERSION {
            let of = format!("the records of thread {}", self.head.thread_id);
            return Err(record::newer(scanned.version(), of).into());
        }
        let (entries, runs) = scanned.index(self.head.cleared_through)?;
        tail::require_unfinished(&self.folder, &self.head, &scanned, &self.store.reads)?;
        // Whoever followed the log may have seen what was lost: its numbers are not given again.
        let indexed = Entries::open(&self.folder, self.head.generation)
            .and_then(|entries| entries.last(&self.store.reads))
            .ok()
            .flatten();
        let last = scanned.last_seq().max(indexed.map_or(0, |entry| entry.seq));
        self.lock.set_at_work(true)?;
        self.folder.create()?;
        for scanned in &scanned.files {
            let is_cleared =
                scanned.entries.last().is_some_and(|entry| entry.seq <= self.head.cleared_through);
            match &scanned.run_id {
                _ if scanned.whole_bytes == 0 => file::remove(&scanned.path)?,
                Some(run) if is_cleared => {
                    file::replace(&scanned.path, &record::tombstone(run, last)?)?;
                }
                None if is_cleared => file::remove(&scanned.path)?,
                _ if scanned.is_torn() => file::cut(&scanned.path, scanned.whole_bytes)?,
                _ => {}
            }
            if scanned.is_torn() {
                let cut = TornTail {
                    thread_id: self.head.thread_id.clone(),
                    file: scanned.path.clone(),
                    kept_bytes: scanned.whole_bytes,
                    cut_bytes: scanned.bytes - scanned.whole_bytes,
                };
                self.store.report(cut.clone());
                self.cut.push(cut);
            }
        }
        self.folder.remove_temporary()?;
        self.head.next_seq = self.head.next_seq.max(last + 1);
        self.switch(&entries, &runs)?;
        self.lock.set_at_work(false)
    }

    /// Makes these entries the index, in a new generation.
    pub(super) fn switch(&mut self, entries: &[Entry], runs: &Runs) -> Result<()> {
        let generation = self.head.generation + 1;
        index::write(&self.folder, generation, entries, runs)?;
        self.head.generation = generation;
        self.head.write(&self.folder)?;
        index::remove_others(&self.folder, generation)?;
        self.tail = Tail::new(generation);
        self.tail.read_on(&self.folder, &self.store.reads)
    }

    /// Removes the records of a thread that was deleted.
    pub(super) fn remove_records(&self) -> Result<()> {
        file::remove(&self.folder.records(None))?;
        for path in self.folder.run_files()?.into_iter().chain(file::list(&self.folder.index())?) {
            file::remove(&path)?;
        }
        self.folder.remove_temporary()?;
        self.lock.set_at_work(false)
    }

    /// The seq of the next event.
    pub(super) fn next_seq(&self) -> u64 {
        self.head.next_seq.max(self.tail.last.map_or(0, |last| last.seq) + 1)
    }

    /// Whether there is a thread, or was: one that is made with its first event is there with it.
    pub(super) fn exists(&self) -> bool {
        !self.head.with_first_event || self.next_seq() > 1
    }

    /// `NotFound` where the scope does not see the thread.
    pub(super) fn require_visible(&self, scope: &Scope) -> Result<()> {
        let is_there = self.exists() || self.is_new;
        match self.head.visible(scope) {
            Some(_) if is_there => Ok(()),
            _ => Err(not_found(&self.head.thread_id).into()),
        }
    }

    /// What is known for the next writer of this process.
    pub(super) fn into_tail(self) -> Tail {
        self.tail
    }
}
