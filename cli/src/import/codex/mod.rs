//! Rollouts of Codex: read line by line into threads, as often as one likes, and written from threads.
//!
//! Other recordings are read whole and checked before anything is written. A rollout may have a gigabyte, is
//! appended to for weeks and may be damaged anywhere, so it is streamed instead: each line goes into the log
//! in its order, and what is no record goes beside it. The log says how far a file was imported, for every event
//! knows the bytes that it was; the cursor only saves looking for the last one.
//!
//! | module | holds |
//! |---|---|
//! | `header` | which rollout a file is, and the order of files |
//! | `lines` | lines of plain and compressed files |
//! | `line` | one line as a record, and back |
//! | `shape` | Codex's items and calls as ours, and back |
//! | `thread` | lines become turns, items and usage of a thread |
//! | `writer` | the batches that are stored |
//! | `report` | what was found |
//! | `export` | a thread as a rollout |

pub(crate) mod export;
mod header;
mod json;
mod line;
mod lines;
mod report;
mod shape;
mod thread;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use runledger_core::{
    Contents, Deletion, DeletionFilter, ErrorKind, EventFilter, ForkOrigin, ImportCursor, Ledger, ListRange,
    NewThread, RunFilter, RunId, Scope, SeqRange, Spawn, ThreadId, Timestamp, text,
};

use super::{Summary, require_free};
use crate::Failure;
use header::{Base, Known, Rollout, in_order, require_one_of_each};
use line::{Record, Written};
use lines::{Lines, RawLine, escape};
pub(crate) use report::RolloutReport;
use report::Unreadable;
use thread::{From, Thread};
use writer::Writer;

/// So many bytes are read before it is noted how far.
const NOTED_BYTES: u64 = 16 << 20;
/// So many lines of a sub-agent's file are looked at for the run that spawned it.
const SPAWN_LINES: usize = 200;

/// Rollouts in the order in which they are to be imported.
#[derive(Debug)]
pub(crate) struct Rollouts {
    rollouts: Vec<Rollout>,
    /// Those that nobody asked for, by their ids: others are forks of them.
    bases: HashSet<String>,
    known: Known,
}

impl Rollouts {
    /// Reads the first record of each file, and of those that these are forks of, as far as they are beside them.
    pub(crate) fn read(files: impl Iterator<Item = PathBuf>) -> Result<Self, Failure> {
        let mut rollouts = files.map(|file| Rollout::read(&file)).collect::<Result<Vec<_>, _>>()?;
        require_one_of_each(&rollouts)?;
        let known = Known::of(&rollouts);
        let mut there: HashSet<String> = rollouts.iter().map(|rollout| rollout.id.clone()).collect();
        let (mut bases, mut place) = (HashSet::new(), 0);
        while let Some(rollout) = rollouts.get(place) {
            place += 1;
            let base = rollout.base.as_ref().filter(|base| !there.contains(&base.rollout));
            let found = base.and_then(|base| known.find(&base.rollout));
            if let Some(base) = found.filter(|base| base.thread != rollout.thread) {
                there.insert(base.id.clone());
                bases.insert(base.id.clone());
                rollouts.push(base);
            }
        }
        Ok(Self { rollouts: in_order(rollouts), bases, known })
    }

    pub(crate) fn len(&self) -> usize {
        self.rollouts.len()
    }

    /// Imports what the ledger does not have yet of each file; `done` is called after each.
    pub(crate) async fn import(
        &self,
        ledger: &Ledger,
        scope: &Scope,
        summary: &mut Summary,
        done: impl Fn(),
    ) -> Result<(), Failure> {
        for rollout in self.rollouts.iter().filter(|rollout| !self.bases.contains(&rollout.id)) {
            require_free(ledger, scope, &rollout.file, &rollout.thread).await?;
        }
        for rollout in &self.rollouts {
            let import = Import { ledger, scope, rollout, known: &self.known };
            if self.bases.contains(&rollout.id) && !import.is_missing().await? {
                done();
                continue;
            }
            let report = import.run(summary).await.map_err(|failure| failure.in_file(&rollout.file))?;
            summary.files += 1;
            summary.skipped += u64::from(report.lines == 0);
            summary.rollouts.push(report);
            done();
        }
        Ok(())
    }
}

/// The import of one file.
#[derive(Clone, Copy)]
struct Import<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    rollout: &'a Rollout,
    known: &'a Known,
}

impl Import<'_> {
    async fn run(self, summary: &mut Summary) -> Result<RolloutReport, Failure> {
        let rollout = self.rollout;
        let mut report = RolloutReport {
            file: rollout.file.display().to_string(),
            thread_id: rollout.thread.to_string(),
            rollout_id: rollout.id.clone(),
            ..RolloutReport::default()
        };
        let created_at = rollout.created_at.unwrap_or_else(Timestamp::now);
        let new = NewThread {
            metadata: rollout.about.clone(),
            created_at,
            ..NewThread::new(rollout.thread.clone())
        };
        let mut next_seq = self.next_seq(&rollout.thread).await?;
        let is_new = next_seq.is_none();
        if is_new {
            let new = NewThread {
                spawn: self.spawn(&mut report).await?,
                fork: self.origin().await?,
                ..new.clone()
            };
            if new.spawn.is_some() || new.fork.is_some() {
                self.ledger.threads().create(self.scope, new).await?;
                summary.threads += 1;
                next_seq = Some(1);
            }
        }
        let writer = Writer::new(self.ledger, self.scope, new, next_seq, summary);
        let mut thread = Thread::new(writer, created_at);
        if !is_new {
            thread.resume(&rollout.id).await?;
        }
        let own_place = self.place(rollout, &rollout.thread).await?;
        if own_place == 0 {
            self.inherit(&mut thread, is_new, &mut report).await?;
        }
        report.from_byte = own_place;
        report.through_byte = own_place;
        self.read(&mut thread, From { rollout, base: None }, own_place, None, &mut report).await?;
        Ok(report)
    }

    /// Whether nobody has the thread, or had it: a fork names who told first what it took, so its base is imported
    /// before it.
    async fn is_missing(&self) -> Result<bool, Failure> {
        let thread = &self.rollout.thread;
        match self.ledger.threads().head(&Scope::System, thread).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(self.deletion(thread).await?.is_none()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a thread's lines are told of in the ledger, or were until the thread was deleted: its usage stays.
    async fn is_told(&self, thread: &ThreadId) -> Result<bool, Failure> {
        if self.next_seq(thread).await?.is_some() {
            return Ok(true);
        }
        // Another owner's cannot be named.
        let owner = self.scope.owner();
        let deletion = self.deletion(thread).await?;
        Ok(deletion.is_some_and(|deletion| owner.is_none() || deletion.deleted_by.as_ref() == owner))
    }

    /// What says that a thread was deleted, if it was.
    async fn deletion(&self, thread: &ThreadId) -> Result<Option<Deletion>, Failure> {
        let filter = DeletionFilter { thread_id: Some(thread.clone()) };
        // The thread's own is the last there can be.
        let range = ListRange::newest(1);
        let page = self.ledger.threads().list_deletions(&Scope::System, &filter, &range).await?;
        Ok(page.items.into_iter().find(|deletion| deletion.from_seq == 0))
    }

    async fn next_seq(&self, thread: &ThreadId) -> Result<Option<u64>, Failure> {
        match self.ledger.threads().head(self.scope, thread).await {
            Ok(head) => Ok(Some(head.next_seq)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Up to where a file is in the thread. A file that is not the one that was imported is refused.
    async fn place(&self, rollout: &Rollout, thread: &ThreadId) -> Result<u64, Failure> {
        let Some(next_seq) = self.next_seq(thread).await? else { return Ok(0) };
        let cursor = self.ledger.imports().cursor(self.scope, thread, &rollout.source()?).await?;
        if let Some(cursor) = &cursor {
            require_same(&rollout.file, cursor)?;
        }
        let stored = self.stored_to(rollout, thread, next_seq).await?;
        Ok(stored.max(cursor.map_or(0, |cursor| cursor.byte_offset)))
    }

    /// The end of the last line of a file that the log has.
    async fn stored_to(&self, rollout: &Rollout, thread: &ThreadId, next_seq: u64) -> Result<u64, Failure> {
        let mut before = next_seq;
        loop {
            let range = SeqRange::before(before, 200);
            let page =
                self.ledger.events().list_events(self.scope, thread, &EventFilter::default(), &range).await?;
            for event in page.items.iter().rev() {
                before = event.seq;
                let Some(written) = Written::read(event) else { continue };
                if written.rollout.as_deref().unwrap_or(thread.as_str()) == rollout.id {
                    return Ok(written.to);
                }
            }
            if !page.has_more {
                return Ok(0);
            }
        }
    }

    /// Where a fork's history comes from, where the ledger has that thread.
    async fn origin(&self) -> Result<Option<ForkOrigin>, Failure> {
        let Some(base) = &self.rollout.base else { return Ok(None) };
        let Some(found) = self.known.find(&base.rollout) else { return Ok(None) };
        if found.thread == self.rollout.thread {
            return Ok(None);
        }
        let Some(mut before) = self.next_seq(&found.thread).await? else { return Ok(None) };
        loop {
            let range = SeqRange::before(before, 200);
            let filter = EventFilter::default();
            let page = self.ledger.events().list_events(self.scope, &found.thread, &filter, &range).await?;
            for event in page.items.iter().rev() {
                before = event.seq;
                let Some(written) = Written::read(event) else { continue };
                let is_of_base = written.rollout.as_deref().unwrap_or(found.thread.as_str()) == found.id
                    && !base.is_left_before(&written);
                if is_of_base {
                    let source_thread_id = found.thread.clone();
                    return Ok(Some(ForkOrigin { source_thread_id, through_seq: event.seq }));
                }
            }
            if !page.has_more {
                return Ok(None);
            }
        }
    }

    /// What spawned the thread, where its parent is in the ledger.
    async fn spawn(&self, report: &mut RolloutReport) -> Result<Option<Spawn>, Failure> {
        let Some(parent) = &self.rollout.parent else { return Ok(None) };
        if self.next_seq(parent).await?.is_none() {
            report.missing.push(format!("parent {parent}"));
            return Ok(None);
        }
        for run in spawned_by(self.rollout).unwrap_or_default() {
            match self.ledger.runs().get(self.scope, parent, &run).await {
                Ok(_) => {
                    let spawn = Spawn::new(parent.clone(), run).with_max_depth(u32::MAX);
                    return Ok(Some(spawn));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        report.missing.push(format!("the run of {parent} that spawned it"));
        Ok(None)
    }

    /// Reads what the file goes on from into its thread, or undoes what came after it.
    async fn inherit(
        &self,
        thread: &mut Thread<'_>,
        is_new: bool,
        report: &mut RolloutReport,
    ) -> Result<(), Failure> {
        let Some(base) = &self.rollout.base else { return Ok(()) };
        if !is_new && base.rollout != self.rollout.id && self.has_lines_of(&base.rollout).await? {
            return self.revert(thread, base).await;
        }
        // From the file at the end of the chain on.
        let (mut chain, mut seen) = (Vec::new(), HashSet::from([self.rollout.id.clone()]));
        let mut next = Some(base.clone());
        while let Some(base) = next {
            let found = if seen.insert(base.rollout.clone()) { self.known.find(&base.rollout) } else { None };
            let Some(found) = found else {
                report.missing.push(format!("history {}", base.rollout));
                break;
            };
            next = found.base.clone();
            chain.push((base, found));
        }
        for (base, found) in chain.into_iter().rev() {
            let told = found.thread != self.rollout.thread && self.is_told(&found.thread).await?;
            let from = From { rollout: &found, base: Some(&found.thread).filter(|_| told) };
            let place = self.stored_place(&found).await?;
            let mut of_base = RolloutReport::default();
            let end = End { offset: base.end_offset, ordinal: base.end_ordinal };
            self.read(thread, from, place, Some(end), &mut of_base).await?;
            report.inherited += of_base.imported;
        }
        Ok(())
    }

    /// Up to where a base is in this thread already, when an import was cut short.
    async fn stored_place(&self, base: &Rollout) -> Result<u64, Failure> {
        match self.next_seq(&self.rollout.thread).await? {
            Some(next_seq) => self.stored_to(base, &self.rollout.thread, next_seq).await,
            None => Ok(0),
        }
    }

    /// Whether the thread is the one that a rollout was imported into as its own.
    async fn has_lines_of(&self, rollout: &str) -> Result<bool, Failure> {
        let is_own = rollout == self.rollout.thread.as_str()
            || self.known.find(rollout).is_some_and(|base| base.thread == self.rollout.thread);
        Ok(is_own && self.next_seq(&self.rollout.thread).await?.is_some_and(|next_seq| next_seq > 1))
    }

    /// Undoes the turns of a rollout that began after its history was left.
    async fn revert(&self, thread: &mut Thread<'_>, base: &Base) -> Result<(), Failure> {
        let own = self.rollout.thread.clone();
        let filter =
            RunFilter { thread_id: Some(own.clone()), contents: Contents::Omitted, ..RunFilter::default() };
        let mut range = ListRange::newest(200);
        let mut first: Option<RunId> = None;
        'pages: loop {
            let page = self.ledger.runs().list(self.scope, &filter, &range).await?;
            for run in page.items {
                let began = match run.first_seq {
                    Some(seq) => thread.writer().event(seq).await?,
                    None => None,
                };
                let Some(written) = began.as_ref().and_then(Written::read) else { continue };
                let is_later = written.rollout.as_deref().unwrap_or(own.as_str()) == base.rollout
                    && base.is_left_before(&written);
                if !is_later {
                    break 'pages;
                }
                first = Some(run.run_id);
            }
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(cursor),
                None => break,
            }
        }
        if let Some(first) = first {
            thread.leave(self.rollout.created_at.unwrap_or_else(Timestamp::now)).await?;
            self.ledger.runs().rewind(self.scope, &own, &first).await?;
        }
        Ok(())
    }

    /// Reads a file from a place on.
    async fn read(
        &self,
        thread: &mut Thread<'_>,
        from: From<'_>,
        place: u64,
        end: Option<End>,
        report: &mut RolloutReport,
    ) -> Result<(), Failure> {
        let file = &from.rollout.file;
        let unreadable = |error: std::io::Error| {
            Failure::file(
                file,
                format!("cannot be read: {error}; was it replaced or cut since it was imported?"),
            )
        };
        thread.turn_to(from.rollout, place == 0);
        let mut lines = Lines::open(file, place).map_err(unreadable)?;
        let (mut noted, mut last) = (place, None);
        while let Some(line) = lines.read().map_err(unreadable)? {
            if end.is_some_and(|end| end.is_before(&line)) {
                break;
            }
            if !line.is_whole
                && let Some(left) = left(&line)
            {
                report.left = Some(left);
                break;
            }
            thread.read(from, &line, report).await?;
            report.through_byte = line.to;
            last = Some(line);
            if report.through_byte - noted >= NOTED_BYTES {
                noted = report.through_byte;
                self.note(thread, from.rollout, last.as_ref()).await?;
            }
        }
        thread.writer().close().await?;
        self.note(thread, from.rollout, last.as_ref()).await
    }

    /// Notes how far a file is imported.
    async fn note(
        &self,
        thread: &mut Thread<'_>,
        rollout: &Rollout,
        last: Option<&RawLine>,
    ) -> Result<(), Failure> {
        thread.writer().flush().await?;
        // A base's own cursor is its own thread's.
        let (Some(line), true) = (last, rollout.id == self.rollout.id) else { return Ok(()) };
        let cursor = ImportCursor {
            source: rollout.source()?,
            byte_offset: line.to,
            last_line_hash: Some(format!("{}:{}", line.to - line.at, hash(line.bytes.as_deref()))),
            updated_at: Timestamp::now(),
        };
        self.ledger.imports().set_cursor(self.scope, &self.rollout.thread, cursor).await?;
        Ok(())
    }
}

/// Where a history ends that another file goes on from.
#[derive(Clone, Copy)]
struct End {
    offset: Option<u64>,
    ordinal: Option<u64>,
}

impl End {
    fn is_before(self, line: &RawLine) -> bool {
        if let Some(offset) = self.offset {
            return line.at >= offset;
        }
        let text = line.bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let ordinal = text.and_then(Record::parse).and_then(|record| record.ordinal);
        self.ordinal.zip(ordinal).is_some_and(|(end, ordinal)| ordinal >= end)
    }
}

/// What is left for the next import: the end of a file, where it is no whole record yet.
fn left(line: &RawLine) -> Option<Unreadable> {
    let reason = match &line.bytes {
        None => "too_long",
        Some(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => return None,
        Some(bytes) => match Thread::is_record(bytes) {
            Ok(()) => return None,
            Err("invalid_utf8") => "torn_tail",
            Err(reason) => reason,
        },
    };
    Some(Unreadable { offset: line.at, bytes: line.to - line.at, reason })
}

fn hash(line: Option<&[u8]>) -> String {
    text::fingerprint(&line.map(escape).unwrap_or_default())
}

/// Refuses a file whose last imported line is not where it was.
fn require_same(file: &Path, cursor: &ImportCursor) -> Result<(), Failure> {
    let Some((length, hashed)) = cursor.last_line_hash.as_deref().and_then(|hash| hash.split_once(':'))
    else {
        return Ok(());
    };
    let at = length.parse().ok().and_then(|length| cursor.byte_offset.checked_sub(length));
    let line = at.and_then(|at| Lines::open(file, at).ok()?.read().ok()?);
    let is_same = line.is_some_and(|line| {
        // A last line without its line feed was a record, whatever has come behind it since.
        let bytes = line.bytes.as_deref();
        let until = usize::try_from(cursor.byte_offset - line.at).unwrap_or(usize::MAX);
        let then = bytes.map(|bytes| bytes.get(..until).unwrap_or(bytes));
        line.to >= cursor.byte_offset && hash(then) == hashed
    });
    if is_same {
        return Ok(());
    }
    let reason = format!(
        "is not the file that was imported: the line that ended at byte {} is another one; a rollout is only appended \
         to, so import the file that it was, or this one into another database",
        cursor.byte_offset
    );
    Err(Failure::file(file, reason))
}

/// The runs that may have spawned a sub-agent's thread, as its first turn names them.
fn spawned_by(rollout: &Rollout) -> Option<Vec<RunId>> {
    let mut lines = Lines::open(&rollout.file, 0).ok()?;
    for _ in 0..SPAWN_LINES {
        let line = lines.read().ok()??;
        let bytes = line.bytes.unwrap_or_default();
        let Some(record) = std::str::from_utf8(&bytes).ok().and_then(Record::parse) else { continue };
        let is_own = rollout.own_from.zip(record.ordinal).is_none_or(|(own, ordinal)| ordinal >= own);
        if !is_own || record.payload_kind() != "task_started" {
            continue;
        }
        let told = record.members.object("turn_attribution").unwrap_or_default();
        let named = [
            told.string("parent_turn_id"),
            told.string("root_turn_id"),
            record.members.string("root_turn_id"),
        ];
        return Some(named.into_iter().flatten().filter_map(|run| RunId::new(run).ok()).collect());
    }
    None
}
