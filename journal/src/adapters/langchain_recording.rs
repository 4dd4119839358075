//! Recorded LangChain callback streams: one callback a line, replayed into journals.
//!
//! A recording is read and checked whole before anything is written. Everything that is written
//! follows from it alone (ids are its own, times are counted from the moment in its first
//! time-ordered run id, else from 2025-01-01), so that a recording imported twice is imported once,
//! and an import that broke off is continued.

mod line;

use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;

use runledger_core::{
    Admission, Error, ErrorKind, Ledger, NewRun, NewThread, Outcome, RawJson, RawObject, Run, RunId,
    RunTotals, Scope, ThreadId, Timestamp, text,
};
use serde::Serialize;

use self::line::{Line, Step};
use crate::report::FinishedRun;
use crate::run_journal::{RunJournal, Settings};

/// 2025-01-01T00:00:00Z in microseconds: when a recording without a dated run id begins.
const BASE_MICROS: i64 = 1_735_689_600_000_000;

/// Why a recording cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// A line is not what the format says. Nothing was written.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read.
    #[error("line {line} cannot be read")]
    Read {
        /// The line's number, from 1.
        line: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The run was imported from a recording that says something else, an unfinished one perhaps.
    #[error(
        "run {run:?} of thread {thread:?} was imported from another recording; \
         delete the run, or import under another id"
    )]
    Changed {
        /// The run.
        run: RunId,
        /// Its thread.
        thread: ThreadId,
    },
    /// The ledger refused a run. Runs before it are stored; import the file again to continue.
    #[error("run {run:?} of thread {thread:?} was not imported; import the file again to continue")]
    Ledger {
        /// The run.
        run: RunId,
        /// Its thread.
        thread: ThreadId,
        /// The ledger's error.
        #[source]
        source: Error,
    },
}

/// What an import stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Threads with at least one run stored now.
    pub threads: u64,
    /// Runs stored now.
    pub runs: u64,
    /// Their events.
    pub events: u64,
    /// Of these, messages.
    pub messages: u64,
    /// Their model calls.
    pub usage_records: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// All tokens, as the providers counted them.
    pub total_tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
    /// Runs that were there already.
    pub skipped: u64,
    /// Records that the store refused and that notes stand for.
    pub quarantined: u64,
}

/// A checked recording.
#[derive(Debug)]
pub struct Recording {
    runs: Vec<RecordedRun>,
}

#[derive(Debug)]
struct RecordedRun {
    thread_id: ThreadId,
    run_id: RunId,
    track_usage: bool,
    /// Of all its lines.
    fingerprint: String,
    started_at: Timestamp,
    ended_at: Timestamp,
    lines: Vec<Line>,
}

impl Recording {
    /// Reads and checks a recording.
    pub fn parse(reader: impl BufRead) -> Result<Self, RecordingError> {
        let lines = read_lines(reader)?;
        let base = lines.iter().find_map(base_of).unwrap_or(BASE_MICROS);
        let mut sorter = Sorter { base, runs: Vec::new(), by_journal: HashMap::new(), roots: HashMap::new() };
        for line in lines {
            sorter.put(line)?;
        }
        if sorter.runs.is_empty() {
            let reason = "is missing; a recording begins with a direct.__init__".to_owned();
            return Err(RecordingError::Line { line: 1, reason });
        }
        Ok(Self { runs: sorter.runs })
    }

    /// The threads it writes to.
    #[must_use]
    pub fn threads(&self) -> BTreeSet<&ThreadId> {
        self.runs.iter().map(|run| &run.thread_id).collect()
    }

    /// Checks, without writing, that each run is new to the ledger, stored as it is here, or begun by
    /// an import that broke off.
    pub async fn check(&self, ledger: &Ledger, scope: &Scope) -> Result<(), RecordingError> {
        for run in &self.runs {
            run.stored(ledger, scope).await.map_err(|error| run.failed(error))?;
        }
        Ok(())
    }

    /// How many runs it has.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// How many callbacks it has.
    #[must_use]
    pub fn callbacks(&self) -> usize {
        self.runs.iter().map(|run| run.lines.len()).sum()
    }

    /// Plays each run into a journal of its own, in the order the runs began. `progress` is
    /// called with the number of callbacks of each run that is done.
    pub async fn import(
        &self,
        ledger: &Ledger,
        scope: &Scope,
        settings: &Settings,
        mut progress: impl FnMut(usize),
    ) -> Result<Summary, RecordingError> {
        let mut summary = Summary::default();
        let mut threads = BTreeSet::new();
        for run in &self.runs {
            let settings =
                Settings { track_usage: run.track_usage && settings.track_usage, ..settings.clone() };
            let imported = run.import(ledger, scope, settings).await.map_err(|error| run.failed(error))?;
            match imported {
                Some(finished) => {
                    threads.insert(&run.thread_id);
                    summary.add(&finished);
                }
                None => summary.skipped += 1,
            }
            progress(run.lines.len());
        }
        summary.threads = threads.len() as u64;
        Ok(summary)
    }
}

impl Summary {
    fn add(&mut self, finished: &FinishedRun) {
        let RunTotals { llm_calls, input_tokens, output_tokens, total_tokens, cost_nanos, .. } =
            finished.run.totals;
        self.runs += 1;
        self.events += finished.report.written;
        self.messages += finished.run.message_count;
        self.usage_records += llm_calls;
        self.input_tokens += input_tokens;
        self.output_tokens += output_tokens;
        self.total_tokens += total_tokens;
        self.cost_nanos += cost_nanos;
        self.quarantined += finished.report.quarantined.len() as u64;
    }
}

impl RecordedRun {
    fn failed(&self, source: Error) -> RecordingError {
        let (run, thread) = (self.run_id.clone(), self.thread_id.clone());
        match source {
            Error::Conflict { what: FINGERPRINT, .. } => RecordingError::Changed { run, thread },
            source => RecordingError::Ledger { run, thread, source },
        }
    }

    /// The run as an earlier import left it, if there was one.
    async fn stored(&self, ledger: &Ledger, scope: &Scope) -> Result<Option<Run>, Error> {
        let run = match ledger.runs().get(scope, &self.thread_id, &self.run_id).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !is_import(&run.metadata) {
            return Err(Error::conflict("run", "one that an import began", "one of a runtime"));
        }
        if run.request_hash.as_deref() != Some(self.fingerprint.as_str()) {
            let stored = run.request_hash.as_deref().unwrap_or("none");
            return Err(Error::conflict(FINGERPRINT, &self.fingerprint, stored));
        }
        Ok(Some(run))
    }

    /// Plays the run into a journal; `None` where it is stored already.
    async fn import(
        &self,
        ledger: &Ledger,
        scope: &Scope,
        settings: Settings,
    ) -> Result<Option<FinishedRun>, Error> {
        let journal = match self.stored(ledger, scope).await? {
            Some(run) if run.status.is_terminal() => return Ok(None),
            Some(_) => {
                RunJournal::replay(ledger, scope, &self.thread_id, &self.run_id, &[], settings).await?
            }
            None => RunJournal::begin_with(ledger, scope, self.admission(), settings).await?,
        };
        for line in &self.lines {
            line.play(&journal);
        }
        let finished = journal.finish_at(self.outcome(&journal), self.ended_at).await?;
        journal.close().await?;
        Ok(Some(finished))
    }

    fn admission(&self) -> NewRun {
        let admission = Admission {
            metadata: RawJson::from(serde_json::json!({ IMPORTED_FROM: FORMAT })),
            request_hash: Some(self.fingerprint.clone()),
            created_at: self.started_at,
            ..Admission::default()
        };
        let thread = NewThread { created_at: self.started_at, ..NewThread::new(self.thread_id.clone()) };
        NewRun {
            admission,
            create_missing: Some(thread),
            ..NewRun::new(self.thread_id.clone(), self.run_id.clone())
        }
    }

    /// How the run ended: as its root chain told; without a word of it, well if there was none, and
    /// broken off if there was one.
    fn outcome(&self, journal: &RunJournal) -> Outcome {
        let rooted = || {
            self.lines
                .iter()
                .any(|line| matches!(line.step, Step::ChainStart { .. }) && line.parent_run_id.is_none())
        };
        journal.outcome().unwrap_or_else(|| {
            if rooted() { Outcome::interrupted("recording_ended") } else { Outcome::success() }
        })
    }
}

/// Marks the runs that an import admitted, so that it continues none that a runtime works on.
const IMPORTED_FROM: &str = "imported_from";
const FORMAT: &str = "callbacks";
const FINGERPRINT: &str = "recording";

fn is_import(metadata: &RawJson) -> bool {
    RawObject::parse(metadata).and_then(|notes| notes.string(IMPORTED_FROM)).as_deref() == Some(FORMAT)
}

/// Gives each line to its run.
struct Sorter {
    base: i64,
    runs: Vec<RecordedRun>,
    /// The run of each journal.
    by_journal: HashMap<String, usize>,
    /// The run that each runtime id belongs to, where its root names one.
    roots: HashMap<String, usize>,
}

impl Sorter {
    fn put(&mut self, mut line: Line) -> Result<(), RecordingError> {
        let fault = |reason: String| RecordingError::Line { line: line.number, reason };
        line.at = Timestamp::from_unix_micros(self.base.saturating_add(line.at_micros))
            .map_err(|error| fault(format!("at: {error}")))?;
        if let Step::Open { journal, run_id, thread_id, track_usage } = &line.step {
            if self.runs.iter().any(|run| run.run_id == *run_id && run.thread_id == *thread_id) {
                return Err(fault(format!(
                    "args.run_id: {:?} was opened before on its thread",
                    run_id.as_str()
                )));
            }
            self.by_journal.insert(journal.clone(), self.runs.len());
            self.runs.push(RecordedRun {
                thread_id: thread_id.clone(),
                run_id: run_id.clone(),
                track_usage: *track_usage,
                fingerprint: line.fingerprint,
                started_at: line.at,
                ended_at: line.at,
                lines: Vec::new(),
            });
            return Ok(());
        }
        let index = self.run_of(&line).map_err(fault)?;
        if let Some(id) = &line.run_id {
            self.roots.entry(id.clone()).or_insert(index);
        }
        if let Some(run) = self.runs.get_mut(index) {
            run.ended_at = line.at;
            run.fingerprint = text::fingerprint(&format!("{}{}", run.fingerprint, line.fingerprint));
            run.lines.push(line);
        }
        Ok(())
    }

    fn run_of(&self, line: &Line) -> Result<usize, String> {
        if let Some(journal) = &line.journal {
            let known = self.by_journal.get(journal).copied();
            return known.ok_or_else(|| format!("args.journal: {journal:?} was never opened"));
        }
        let ids = [line.run_id.as_deref(), line.parent_run_id.as_deref()];
        let known = ids.into_iter().flatten().find_map(|id| self.roots.get(id)).copied();
        let named = || {
            let name = line.named_run.as_deref()?;
            self.runs.iter().rposition(|run| run.run_id.as_str() == name)
        };
        known
            .or_else(named)
            .or_else(|| self.runs.len().checked_sub(1))
            .ok_or_else(|| "callback: comes before the first direct.__init__".to_owned())
    }
}

fn read_lines(mut reader: impl BufRead) -> Result<Vec<Line>, RecordingError> {
    let mut lines: Vec<Line> = Vec::new();
    let mut bytes = Vec::new();
    loop {
        let number = lines.len() as u64 + 1;
        bytes.clear();
        // Only `\n` ends a line: strings hold other line separators unescaped.
        let read = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| RecordingError::Read { line: number, source })?;
        if read == 0 {
            return Ok(lines);
        }
        let line =
            line::parse(number, &bytes).map_err(|reason| RecordingError::Line { line: number, reason })?;
        if lines.last().is_some_and(|before| before.at_micros > line.at_micros) {
            let reason = "at: is before the line above; lines are in the order of the callbacks".to_owned();
            return Err(RecordingError::Line { line: number, reason });
        }
        lines.push(line);
    }
}

/// When the recording began, in microseconds since 1970, by a run id that is a UUID of version 7.
fn base_of(line: &Line) -> Option<i64> {
    let id = line.run_id.as_deref()?;
    let (high, rest) = (id.get(..8)?, id.get(8..)?.strip_prefix('-')?);
    let (low, rest) = (rest.get(..4)?, rest.get(4..)?.strip_prefix('-')?);
    if !rest.starts_with('7') || id.len() != 36 {
        return None;
    }
    let millis = i64::from_str_radix(&format!("{high}{low}"), 16).ok()?;
    millis.checked_mul(1_000)?.checked_sub(line.at_micros)
}
