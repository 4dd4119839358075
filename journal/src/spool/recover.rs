//! What becomes of the files that dead processes left.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runledger_core::{
    Category, Error, ErrorKind, EventDraft, EventFilter, EventType, Ledger, MAX_LIMIT, RawJson, RawObject,
    Result, RunId, Scope, SeqRange, ThreadId,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::file::{
    CORRUPT, FENCED, Locked, Scan, Spool, UNFINISHED, WAITING, blocking, lock, remove, scan, set_aside,
};
use super::format::{ReadError, Reader};
use super::line::Head;
use super::list::{files, is_there};
use super::log::Log;
use crate::queue::{Batch, Size};
use crate::report::reason;
use crate::run_journal::Settings;
use crate::sender::{Piece, Sender, Stop, Target, Unsent};

/// The type of the event that keeps what a run's journal recorded after the run was taken away.
pub const FENCED_EVENT: &str = "journal.fenced";

/// What became of a spool file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recovery {
    /// Everything in it is in the ledger; the file is removed.
    Stored,
    /// A living process has it; it was left alone.
    Held,
    /// Its run was taken away, or is gone from its thread. Its usage is stored; the file is kept as
    /// `.fenced`.
    Fenced,
    /// It cannot be read from some line on. What is before is stored; the file is kept as `.corrupt`.
    Corrupt,
    /// A newer version wrote it; it was left alone.
    Newer,
    /// The ledger did not take all of it, or does not have its thread; it was left for another time.
    Left,
}

/// What became of one spool file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// The file, under the name it has now, or had.
    pub file: PathBuf,
    /// What became of it.
    pub recovery: Recovery,
    /// The thread its run is on, where it can be read.
    pub thread_id: Option<ThreadId>,
    /// Its run.
    pub run_id: Option<RunId>,
    /// Its events that are in the log now, those stored before included.
    pub written: u64,
    /// Of these, events that were stored before.
    pub already_stored: u64,
    /// Its events that were refused because the run was taken away or is gone.
    pub fenced: u64,
    /// Records that the store refuses by themselves, and that notes stand for.
    pub quarantined: u64,
    /// Usage records that are not stored.
    pub usage_lost: u64,
    /// Bytes at its end that were cut, for the process died while it wrote them.
    pub cut_bytes: u64,
    /// Why not all of it was stored.
    pub reason: Option<String>,
}

/// What became of the spool files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    /// One for each file that was found, by name.
    pub files: Vec<Recovered>,
}

impl RecoveryReport {
    /// Whether every file is stored, or in the hands of a living process.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.files.iter().all(|file| matches!(file.recovery, Recovery::Stored | Recovery::Held))
    }
}

/// Stores what dead processes left in a folder's `.spool` files, each event once.
///
/// Files of living processes are skipped, so any number of processes may do this at once, whenever
/// they like: one gets a file, the others see it held. A file of a run that was taken away or is gone
/// is kept as `.fenced`; what its model calls took is stored all the same. A file whose thread the
/// ledger does not have is left as it is: it may be another's. A file that cannot be read
/// is kept as `.corrupt`, and nothing is ever deleted that is not stored. `patience` is how
/// long a database that is away is waited for. Under an owner's scope, only files of the owner's
/// journals are looked at. A folder that is not there has no files.
pub async fn recover(
    ledger: &Ledger,
    scope: &Scope,
    folder: &Path,
    patience: Duration,
) -> Result<RecoveryReport> {
    if !is_there(folder).await? {
        return Ok(RecoveryReport::default());
    }
    for path in files(folder, &[UNFINISHED]).await? {
        // It holds nothing. What cannot be removed now is removed another time.
        let _ = blocking(move || match lock(&path)? {
            Locked::Ours(_) => remove(&path),
            Locked::Held | Locked::Gone => Ok(()),
        })
        .await;
    }
    Recoverer::new(ledger, scope, patience).all(folder, WAITING).await
}

/// Appends what a folder's `.fenced` files hold to the runs they were refused for, as late events of
/// type [`FENCED_EVENT`] and category `trace`, and removes the files.
///
/// An event's content there is `{epoch, ordinal, event_type, category, item, metadata, content}`: it
/// changes no item, no message and not how the run ended. Done twice, by two at once or after being
/// killed, each is appended once; events that are in the log as what they were are left out.
/// A file whose run is gone stays.
pub async fn recover_fenced(
    ledger: &Ledger,
    scope: &Scope,
    folder: &Path,
    patience: Duration,
) -> Result<RecoveryReport> {
    if !is_there(folder).await? {
        return Ok(RecoveryReport::default());
    }
    Recoverer::new(ledger, scope, patience).all(folder, FENCED).await
}

/// A file as it is opened to be recovered.
enum Opened {
    /// With its head, where it can be read.
    Held(Option<Head>),
    Gone,
    Newer(String),
    /// Its head cannot be read; under the name it has now.
    Headless(PathBuf, String),
    Readable(Box<(Spool, Scan)>),
}

fn open(path: PathBuf) -> std::io::Result<Opened> {
    let file = match lock(&path)? {
        Locked::Held => return Ok(Opened::Held(head(&path))),
        Locked::Gone => return Ok(Opened::Gone),
        Locked::Ours(file) => file,
    };
    match scan(&file) {
        Ok(scan) => Ok(Opened::Readable(Box::new((Spool::of(path, file, &scan), scan)))),
        Err(ReadError::Io(error)) => Err(error),
        Err(error @ ReadError::Newer(_)) => Ok(Opened::Newer(error.to_string())),
        Err(error @ ReadError::Damaged { .. }) => {
            Ok(Opened::Headless(set_aside(&path, CORRUPT)?, error.to_string()))
        }
    }
}

/// What is known of a file that somebody else has: it may be gone any moment.
fn head(path: &Path) -> Option<Head> {
    let (head, _) = Reader::open(BufReader::new(File::open(path).ok()?)).ok()?;
    Some(head)
}

/// Why a file was not stored whole.
enum Failed {
    /// The run is not the journal's any more.
    Fenced(String),
    /// The ledger or the disk may be well another time.
    Later(String),
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Later(error.to_string())
    }
}

struct Recoverer<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    settings: Settings,
    /// Why the ledger cannot be reached, once that is known.
    away: Option<String>,
}

impl<'a> Recoverer<'a> {
    fn new(ledger: &'a Ledger, scope: &'a Scope, patience: Duration) -> Self {
        let settings =
            Settings { give_up_after: Some(patience), close_patience: patience, ..Settings::default() };
        Self { ledger, scope, settings, away: None }
    }

    async fn all(&mut self, folder: &Path, ending: &'static str) -> Result<RecoveryReport> {
        let mut report = RecoveryReport::default();
        let endings: &[&str] = if ending == FENCED { &[FENCED] } else { &[WAITING] };
        for path in files(folder, endings).await? {
            if let Some(recovered) = self.one(path, ending).await {
                report.files.push(recovered);
            }
        }
        Ok(report)
    }

    async fn one(&mut self, path: PathBuf, ending: &str) -> Option<Recovered> {
        let mut file = Recovered {
            file: path.clone(),
            recovery: Recovery::Left,
            thread_id: None,
            run_id: None,
            written: 0,
            already_stored: 0,
            fenced: 0,
            quarantined: 0,
            usage_lost: 0,
            cut_bytes: 0,
            reason: None,
        };
        let (mut spool, scan) = match blocking(move || open(path)).await {
            Ok(Opened::Readable(opened)) => *opened,
            Ok(Opened::Gone) => return None,
            Ok(Opened::Held(head)) => {
                if head.as_ref().is_some_and(|head| !self.scope.sees(head.owner_id.as_ref())) {
                    return None;
                }
                let (thread_id, run_id) = head.map(|head| (head.thread_id, head.run_id)).unzip();
                return Some(Recovered { recovery: Recovery::Held, thread_id, run_id, ..file });
            }
            Ok(Opened::Newer(reason)) => {
                return Some(Recovered { recovery: Recovery::Newer, reason: Some(reason), ..file });
            }
            Ok(Opened::Headless(path, reason)) => {
                return Some(Recovered {
                    file: path,
                    recovery: Recovery::Corrupt,
                    reason: Some(reason),
                    ..file
                });
            }
            Err(error) => return Some(Recovered { reason: Some(error.to_string()), ..file }),
        };
        if !self.scope.sees(scan.head.owner_id.as_ref()) {
            return None;
        }
        file.thread_id = Some(scan.head.thread_id.clone());
        file.run_id = Some(scan.head.run_id.clone());
        file.cut_bytes = scan.cut_bytes;
        let done = match &self.away {
            Some(reason) => Err(Failed::Later(reason.clone())),
            None if ending == FENCED => self.append_fenced(&mut spool, &scan, &mut file).await,
            None => self.drain(&mut spool, &scan, &mut file).await,
        };
        let done = match (done, scan.damage) {
            (Ok(()), None) => spool.remove().await.map(|()| Recovery::Stored),
            (Ok(()), Some(damage)) => {
                file.reason = Some(damage);
                self.aside(&mut file, &spool, CORRUPT).await.map(|()| Recovery::Corrupt)
            }
            (Err(Failed::Fenced(reason)), _) => {
                file.reason = Some(reason);
                if ending == FENCED {
                    Ok(Recovery::Left)
                } else {
                    self.aside(&mut file, &spool, FENCED).await.map(|()| Recovery::Fenced)
                }
            }
            (Err(Failed::Later(reason)), _) => {
                file.reason = Some(reason);
                Ok(Recovery::Left)
            }
        };
        match done {
            Ok(recovery) => file.recovery = recovery,
            Err(error) => file.reason = Some(error.to_string()),
        }
        tracing::info!(file = %file.file.display(), recovery = ?file.recovery, written = file.written, reason = file.reason, "a spool file was recovered");
        Some(file)
    }

    async fn aside(&self, file: &mut Recovered, spool: &Spool, ending: &'static str) -> std::io::Result<()> {
        file.file = spool.set_aside(ending).await?;
        Ok(())
    }

    fn sender(&self, scan: &Scan, ordinal: u64, started: bool, late: bool) -> Sender {
        let target = Target {
            thread_id: scan.head.thread_id.clone(),
            run_id: scan.head.run_id.clone(),
            epoch: scan.head.epoch,
            ordinal,
            started,
            late,
        };
        let (ledger, scope) = (self.ledger.clone(), self.scope.clone());
        Sender::new(ledger, scope, target, self.settings.clone(), CancellationToken::new())
    }

    /// Stores a file of a run that is active, or had ended by what is in the file.
    async fn drain(&mut self, spool: &mut Spool, scan: &Scan, file: &mut Recovered) -> Result<(), Failed> {
        let begin = spool.cursor();
        let mut sender = self.sender(scan, begin.ordinal, true, begin.late);
        let run = match sender.run_patiently().await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.require_thread(&scan.head.thread_id).await?;
                return Err(self.fence(spool, scan, file, reason(&error)).await);
            }
            Err(error) => return Err(self.failed(&error)),
        };
        let mut taken = "the run was taken away, or ended otherwise".to_owned();
        if run.status.is_active() || begin.late {
            sender = self.sender(scan, begin.ordinal, run.started_at.is_some(), begin.late);
            match self.send(spool, &mut sender, file, |piece, _| piece).await {
                // It may have been ended meanwhile, by this very file even.
                Err(Failed::Fenced(reason)) => taken = reason,
                done => return done,
            }
            spool.seek(begin);
        }
        self.drain_ended(spool, scan, file, taken).await
    }

    /// Stores what is late in a file whose run has ended with everything else in it; where something
    /// else is missing, the run ended otherwise: only what its calls took is stored.
    async fn drain_ended(
        &mut self,
        spool: &mut Spool,
        scan: &Scan,
        file: &mut Recovered,
        taken: String,
    ) -> Result<(), Failed> {
        let begin = spool.cursor();
        let log = self.log(scan).await?;
        (file.written, file.already_stored) = (0, 0);
        let mut missing = false;
        while !spool.is_drained() && !spool.cursor().late {
            let read = spool.read(Size::of_commit(None)).await?;
            spool.advance(read.end, 0);
            for (event, ordinal) in read.piece.into_batch().events.iter().zip(read.ordinal..) {
                let stored = log.has(event, ordinal);
                file.already_stored += u64::from(stored);
                missing |= !stored;
            }
        }
        file.written = file.already_stored;
        if missing {
            spool.seek(begin);
            return Err(self.fence(spool, scan, file, taken).await);
        }
        let mut sender = self.sender(scan, spool.cursor().ordinal, true, true);
        self.send(spool, &mut sender, file, |piece, _| piece).await
    }

    /// Counts what is refused, and stores what its calls took.
    async fn fence(&self, spool: &mut Spool, scan: &Scan, file: &mut Recovered, taken: String) -> Failed {
        let mut sender = self.sender(scan, spool.cursor().ordinal, true, true);
        file.fenced = scan.events - file.already_stored;
        while !spool.is_drained() {
            match spool.read(Size::of_commit(None)).await {
                Ok(read) => {
                    spool.advance(read.end, 0);
                    let usage = read.piece.into_batch().usage;
                    sender.fence(Batch { usage, ..Batch::default() }).await;
                }
                Err(error) => return error.into(),
            }
        }
        file.usage_lost = sender.report.usage_lost;
        Failed::Fenced(taken)
    }

    /// Appends a refused file as late events.
    async fn append_fenced(
        &mut self,
        spool: &mut Spool,
        scan: &Scan,
        file: &mut Recovered,
    ) -> Result<(), Failed> {
        let begin = spool.cursor();
        let mut sender = self.sender(scan, begin.ordinal, true, true);
        if let Err(error) = sender.run_patiently().await {
            return Err(self.failed(&error));
        }
        let log = self.log(scan).await?;
        let epoch = scan.head.epoch;
        self.send(spool, &mut sender, file, |piece, ordinal| {
            let Batch { events, usage, .. } = piece.into_batch();
            let numbered = events.into_iter().zip(ordinal..);
            let missing = numbered.filter(|(event, ordinal)| !log.has(event, *ordinal));
            let events = missing.map(|(event, ordinal)| fenced_event(&event, epoch, ordinal)).collect();
            Piece::Batch(Batch { events, usage, ..Batch::default() })
        })
        .await
    }

    /// Sends what is left of a file.
    async fn send(
        &mut self,
        spool: &mut Spool,
        sender: &mut Sender,
        file: &mut Recovered,
        as_sent: impl Fn(Piece, u64) -> Piece,
    ) -> Result<(), Failed> {
        let before = file.written;
        let mut outcome = Ok(());
        while !spool.is_drained() {
            let read = spool.read(Size::of_commit(None)).await?;
            let events = read.piece.events();
            sender.seek(read.ordinal);
            if let Err(Unsent(_)) = sender.deliver(&as_sent(read.piece, read.ordinal)).await {
                outcome = Err(match sender.stopped() {
                    Some((error, Stop::Away)) => self.failed(error),
                    Some((error, Stop::Taken | Stop::Refused)) => Failed::Fenced(reason(error)),
                    None => Failed::Later("the sender stopped".to_owned()),
                });
                break;
            }
            spool.advance(read.end, events);
        }
        file.written = before + sender.report.written;
        file.already_stored += sender.report.already_stored;
        file.fenced += sender.report.fenced;
        file.quarantined = sender.report.quarantined.len() as u64;
        file.usage_lost = sender.report.usage_lost;
        outcome
    }

    /// What an answer to a read means for a file.
    fn failed(&mut self, error: &Error) -> Failed {
        let why = reason(error);
        if error.kind() == ErrorKind::Unavailable {
            self.away = Some(why.clone());
        }
        Failed::Later(why)
    }

    /// A thread that was deleted cannot be told from one of another ledger, to which the file may still
    /// be shown: only where the thread is there, what is missing of it is gone.
    async fn require_thread(&mut self, thread: &ThreadId) -> Result<(), Failed> {
        match self.ledger.threads().head(self.scope, thread).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Failed::Later(format!(
                "{}; it was deleted, or this is not the ledger that the file is for",
                reason(&error)
            ))),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What the run's log has of its journal under the file's epoch.
    async fn log(&mut self, scan: &Scan) -> Result<Log, Failed> {
        let mut log = Log::default();
        let mut after = 0;
        let filter = EventFilter::of_run(scan.head.run_id.clone());
        loop {
            let range = SeqRange::after(after, MAX_LIMIT);
            let thread = &scan.head.thread_id;
            let page = match self.ledger.events().list_events(self.scope, thread, &filter, &range).await {
                Ok(page) => page,
                Err(error) => return Err(self.failed(&error)),
            };
            page.items.iter().for_each(|event| log.add(event));
            match page.items.last() {
                Some(last) if page.has_more => after = last.seq,
                _ => return Ok(log),
            }
        }
    }
}

/// What keeps a refused event: it tells of an item without being a record of it.
fn fenced_event(event: &EventDraft, epoch: u64, ordinal: u64) -> EventDraft {
    let mut content = RawObject::default();
    content.set("epoch", RawJson::from(serde_json::Value::from(epoch)));
    content.set("ordinal", RawJson::from(serde_json::Value::from(ordinal)));
    content.set("event_type", RawJson::string(event.event_type.as_str()));
    content.set("category", RawJson::string(event.category.as_str()));
    if let Some(Ok(item)) = event.item.as_ref().map(|item| RawJson::encode("item", item)) {
        content.set("item", item);
    }
    if let Some(metadata) = &event.metadata {
        content.set("metadata", metadata.clone());
    }
    content.set("content", event.content.clone());
    EventDraft {
        caller: event.caller.clone(),
        task_id: event.task_id.clone(),
        once_key: Some(format!("{FENCED_EVENT}/{epoch}/{ordinal}")),
        created_at: event.created_at,
        ..EventDraft::new(EventType::from_stored(FENCED_EVENT), Category::Trace, content.to_json())
    }
}
