//! One file on the disk: made, locked, appended to, read back, removed or put aside.
//!
//! Every name is used once, so a path that is still there is the file that was opened. A file gets
//! its name when its head is on the disk and it is locked: nobody ever finds one that is half made.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use runledger_core::text;

use super::format::{Cursor, ReadError, Reader, encode, encode_head};
use super::line::Head;
use crate::mapping::Recorded;
use crate::queue::{Batch, Size};
use crate::run_journal::SpoolSettings;
use crate::sender::{Ending, Piece};

/// What waits to be stored.
pub(super) const WAITING: &str = "spool";
/// What was refused because the run was not the journal's any more.
pub(crate) const FENCED: &str = "fenced";
/// What cannot be read.
pub(crate) const CORRUPT: &str = "corrupt";
/// What is being made.
pub(super) const UNFINISHED: &str = "new";

/// Whose a file is.
pub(super) enum Locked {
    Ours(File),
    /// A living process writes it, or recovers it now.
    Held,
    /// It was removed or renamed.
    Gone,
}

/// Takes the file's lock, if it is free.
pub(super) fn lock(path: &Path) -> io::Result<Locked> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Gone),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        // It may have been removed or renamed between opening and locking.
        Ok(()) => Ok(if path.try_exists()? { Locked::Ours(file) } else { Locked::Gone }),
        Err(TryLockError::WouldBlock) => Ok(Locked::Held),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What a whole file holds, by its envelopes.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) head: Head,
    begin: Cursor,
    end: Cursor,
    pub(super) events: u64,
    pub(super) usage: u64,
    pub(super) ends_run: bool,
    /// Bytes after the last whole batch, where the process that wrote them died.
    pub(super) cut_bytes: u64,
    /// What is wrong with it, where that is not its torn end.
    pub(super) damage: Option<String>,
}

/// Reads a file from its beginning to its end.
pub(super) fn scan(file: &File) -> Result<Scan, ReadError> {
    let (mut input, bytes) = (file, file.metadata()?.len());
    input.seek(SeekFrom::Start(0))?;
    let (head, mut reader) = Reader::open(BufReader::new(input))?;
    let begin = reader.cursor();
    let mut scan =
        Scan { head, begin, end: begin, events: 0, usage: 0, ends_run: false, cut_bytes: 0, damage: None };
    loop {
        match reader.batch() {
            Ok(Some(piece)) => {
                scan.ends_run |= matches!(piece, Piece::End(_));
                let batch = piece.into_batch();
                scan.events += batch.events.len() as u64;
                scan.usage += batch.usage.len() as u64;
                scan.end = reader.cursor();
            }
            Ok(None) => return Ok(scan),
            Err(error @ ReadError::Damaged { .. }) => {
                if reader.goes_on()? {
                    scan.damage = Some(error.to_string());
                }
                scan.cut_bytes = bytes.saturating_sub(scan.end.offset);
                return Ok(scan);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes what was done to the folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Removes a locked file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    sync_folder(folder_of(path))
}

/// Gives a locked file another ending, and no file's name away.
pub(super) fn set_aside(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let mut to = path.with_extension(ending);
    let mut number = 2;
    while to.try_exists()? {
        to = path.with_extension(format!("{number}.{ending}"));
        number += 1;
    }
    std::fs::rename(path, &to)?;
    sync_folder(folder_of(path))?;
    Ok(to)
}

/// A file that is locked and written to.
#[derive(Debug)]
struct Storage {
    file: File,
    path: PathBuf,
    epoch: u64,
    end: Cursor,
    max_bytes: u64,
    /// Makes the next write fail after so many bytes, as a full disk does.
    #[cfg(test)]
    room: Option<usize>,
}

impl Storage {
    fn create(settings: &SpoolSettings, head: &Head, ordinal: u64) -> io::Result<Self> {
        let folder = &settings.folder;
        std::fs::create_dir_all(folder)?;
        let run = text::fingerprint(&format!("{}\0{}", head.thread_id, head.run_id));
        loop {
            // The time keeps apart the files of one run and epoch.
            let begun = runledger_core::Timestamp::now().unix_micros();
            let unfinished = folder.join(format!("{run}-{}-{begun}.{UNFINISHED}", head.epoch));
            let path = unfinished.with_extension(WAITING);
            let mut file = match OpenOptions::new().read(true).write(true).create_new(true).open(&unfinished)
            {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            match file.try_lock() {
                Ok(()) => {}
                // Somebody who cleans up looks at it.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let made = encode_head(head, ordinal).and_then(|(bytes, end)| {
                file.write_all(&bytes)?;
                file.sync_all()?;
                if path.try_exists()? {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                std::fs::rename(&unfinished, &path)?;
                sync_folder(folder)?;
                Ok(end)
            });
            match made {
                Ok(end) => {
                    return Ok(Self {
                        file,
                        path,
                        epoch: head.epoch,
                        end,
                        max_bytes: settings.max_file_bytes,
                        #[cfg(test)]
                        room: None,
                    });
                }
                Err(error) => {
                    // What is left of it holds nothing; the next recovery removes what this cannot.
                    let _ = std::fs::remove_file(&unfinished);
                    if error.kind() != io::ErrorKind::AlreadyExists && error.kind() != io::ErrorKind::NotFound
                    {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn append(&mut self, piece: &Piece) -> io::Result<Cursor> {
        let (bytes, end) = encode(piece, self.epoch, self.end)?;
        if end.offset > self.max_bytes {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("the file would exceed its {} bytes (max_file_bytes)", self.max_bytes),
            ));
        }
        let written = self.write(&bytes);
        if let Err(error) = written {
            // The next batch is written in its place; this only keeps the file readable until then.
            let _ = self.file.set_len(self.end.offset);
            return Err(error);
        }
        self.end = end;
        Ok(end)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end.offset))?;
        #[cfg(test)]
        if let Some(room) = self.room
            && room < bytes.len()
        {
            self.file.write_all(&bytes[..room])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    /// Some batches from `from` on, as one piece where they are parts of the run.
    fn read(&mut self, from: Cursor, most: Size) -> Result<Spooled, ReadError> {
        self.file.seek(SeekFrom::Start(from.offset))?;
        let input = BufReader::new((&self.file).take(self.end.offset - from.offset));
        read_some(&mut Reader::at(input, from, self.epoch), most)?
            .ok_or(ReadError::Damaged { offset: from.offset, reason: "it is missing".to_owned() })
    }
}

/// What was read back as one.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) piece: Piece,
    /// The number of its first event in the run's journal.
    pub(crate) ordinal: u64,
    /// Whether the run had ended before it.
    pub(crate) late: bool,
    pub(crate) size: Size,
    /// How many batches it was.
    pub(crate) batches: u64,
    pub(crate) end: Cursor,
}

/// Reads batches until there is enough for one commit; `None` at the end of the file.
pub(super) fn read_some<R: io::BufRead>(
    reader: &mut Reader<R>,
    most: Size,
) -> Result<Option<Spooled>, ReadError> {
    let begin = reader.cursor();
    let Some(piece) = reader.batch()? else { return Ok(None) };
    let size = piece.size();
    let mut spooled =
        Spooled { piece, ordinal: begin.ordinal, late: begin.late, size, batches: 1, end: reader.cursor() };
    let half = Size { events: most.events / 2, bytes: most.bytes / 2 };
    // What cannot be read here is told when it is read first.
    while matches!(spooled.piece, Piece::Batch(_))
        && !spooled.size.exceeds(half)
        && let Ok(Some(next)) = reader.batch()
    {
        spooled.size += next.size();
        spooled.batches += 1;
        spooled.end = reader.cursor();
        spooled.piece = joined(spooled.piece, next);
    }
    Ok(Some(spooled))
}

/// Two pieces as one; the first is no end of a run.
fn joined(first: Piece, second: Piece) -> Piece {
    let mut whole = first.into_batch();
    let mut add = |Batch { events, usage, progress }| whole.add(Recorded { events, usage, progress });
    match second {
        Piece::Batch(batch) => {
            add(batch);
            Piece::Batch(whole)
        }
        Piece::End(ending) => {
            let Ending { batch, terminal, outcome, asks, at } = *ending;
            add(batch);
            Piece::End(Box::new(Ending { batch: whole, terminal, outcome, asks, at }))
        }
    }
}

/// The spool of a journal that is open. Its file work is done where blocking is allowed.
#[derive(Debug)]
pub(crate) struct Spool {
    storage: Arc<Mutex<Storage>>,
    path: PathBuf,
    /// What is before it is stored.
    read: Cursor,
    unsent: u64,
    end: Cursor,
}

impl Spool {
    /// Begins a file whose first event is the run's `ordinal`-th.
    pub(crate) async fn create(
        settings: SpoolSettings,
        mut head: Head,
        ordinal: u64,
        late: bool,
    ) -> io::Result<Self> {
        head.late = late;
        head.created_at = runledger_core::Timestamp::now();
        let made = blocking(move || Storage::create(&settings, &head, ordinal)).await?;
        let (path, end) = (made.path.clone(), made.end);
        Ok(Self { storage: Arc::new(Mutex::new(made)), path, read: end, unsent: 0, end })
    }

    /// The spool of a journal that is gone, from its locked file.
    pub(super) fn of(path: PathBuf, file: File, scan: &Scan) -> Self {
        let storage = Storage {
            file,
            path: path.clone(),
            epoch: scan.head.epoch,
            end: scan.end,
            max_bytes: u64::MAX,
            #[cfg(test)]
            room: None,
        };
        Self {
            storage: Arc::new(Mutex::new(storage)),
            path,
            read: scan.begin,
            unsent: scan.events,
            end: scan.end,
        }
    }

    /// Reads from another place on.
    pub(super) fn seek(&mut self, to: Cursor) {
        self.read = to;
    }

    /// Where it is read next.
    pub(super) fn cursor(&self) -> Cursor {
        self.read
    }

    /// Puts a piece behind all others, durably. Says where it ends.
    pub(crate) async fn append(&mut self, piece: Arc<Piece>) -> io::Result<Cursor> {
        self.unsent += piece.events();
        let events = piece.events();
        let appended = self.with(move |storage| storage.append(&piece)).await;
        match appended {
            Ok(end) => self.end = end,
            Err(_) => self.unsent -= events,
        }
        appended
    }

    /// What is next, by commits of about this size.
    pub(crate) async fn read(&self, most: Size) -> Result<Spooled, ReadError> {
        let from = self.read;
        self.with(move |storage| Ok(storage.read(from, most))).await?
    }

    /// Everything before `end` is stored.
    pub(crate) fn advance(&mut self, end: Cursor, events: u64) {
        self.read = end;
        self.unsent = self.unsent.saturating_sub(events);
    }

    /// So many events are stored of what is read next.
    pub(crate) fn discount(&mut self, events: u64) {
        self.unsent = self.unsent.saturating_sub(events);
    }

    /// Whether nothing was ever put into it.
    pub(crate) fn is_blank(&self) -> bool {
        self.end.batch <= 1
    }

    /// Whether everything in it is stored.
    pub(crate) fn is_drained(&self) -> bool {
        self.read == self.end
    }

    /// Whether the end of the run is in it and not known to be stored.
    pub(crate) fn ends_run(&self) -> bool {
        self.end.late && !self.read.late
    }

    /// How many of its events are not known to be stored.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        self.with(|storage| remove(&storage.path)).await
    }

    /// Gives the file another ending and says its name.
    pub(crate) async fn set_aside(&self, ending: &'static str) -> io::Result<PathBuf> {
        self.with(move |storage| set_aside(&storage.path, ending)).await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Storage) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let storage = Arc::clone(&self.storage);
        blocking(move || work(&mut storage.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

/// Does file work where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{Category, EventDraft, EventType, RawJson, RunId, Scope, ThreadId};

    use crate::sender::Target;

    fn head() -> Head {
        let target = Target {
            thread_id: ThreadId::new("t").unwrap(),
            run_id: RunId::new("r").unwrap(),
            epoch: 1,
            ordinal: 0,
            started: true,
            late: false,
        };
        Head::new(&target, &Scope::System)
    }

    fn piece(content: &str) -> Piece {
        let event_type = EventType::new("note").unwrap();
        let event = EventDraft::new(event_type, Category::Trace, RawJson::string(content));
        Piece::Batch(Batch { events: vec![event], ..Batch::default() })
    }

    fn scanned(storage: &Storage) -> (u64, u64, Option<String>) {
        let scan = scan(&File::open(&storage.path).unwrap()).unwrap();
        (scan.events, scan.cut_bytes, scan.damage)
    }

    #[test]
    fn a_disk_that_fills_up_anywhere_in_a_batch_leaves_whole_batches_and_takes_more_later() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SpoolSettings::new(folder.path());
        let bytes = encode(&piece("second"), 1, Cursor::default()).unwrap().0.len();
        for room in 0..bytes {
            let mut storage = Storage::create(&settings, &head(), 0).unwrap();
            storage.append(&piece("first")).unwrap();
            storage.room = Some(room);
            let full = storage.append(&piece("second")).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
            assert_eq!(scanned(&storage), (1, 0, None), "room for {room}");
            storage.room = None;
            storage.append(&piece("third")).unwrap();
            assert_eq!(scanned(&storage), (2, 0, None), "room for {room}");
            remove(&storage.path).unwrap();
        }
    }

    #[test]
    fn a_name_is_never_given_twice_nor_a_file_lost_by_another_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SpoolSettings::new(folder.path());
        let made: Vec<_> = (0..20).map(|_| Storage::create(&settings, &head(), 0).unwrap()).collect();
        let mut names: Vec<_> = made.iter().map(|storage| storage.path.clone()).collect();
        names.dedup();
        assert_eq!(names.len(), 20);
        assert!(matches!(lock(&names[0]).unwrap(), Locked::Held));
        drop(made);
        assert!(matches!(lock(&names[0]).unwrap(), Locked::Ours(_)));
        std::fs::write(names[0].with_extension(FENCED), "there already").unwrap();
        let aside = set_aside(&names[0], FENCED).unwrap();
        assert_eq!(aside, names[0].with_extension("2.fenced"));
        assert!(matches!(lock(&names[0]).unwrap(), Locked::Gone));
    }
}
