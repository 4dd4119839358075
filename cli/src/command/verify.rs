//! `verify` and `rebuild`: whether what is stored agrees with itself, and making the item index anew.

use std::collections::VecDeque;

use clap::Args;
use indicatif::ProgressBar;
use runledger_core::verify::{Finding, Rebuilt, Verified};
use runledger_core::{ErrorKind, Result as CoreResult, Scope, ThreadId};
use runledger_persistence::SqlLedger;
use serde::Serialize;

use crate::Failure;
use crate::args::DatabaseArgs;
use crate::import::counted;
use crate::output::{Output, one_line};

const VERIFY_HELP: &str = "\
Compared are, thread by thread and each as it is at one moment: the item index with what a rebuild would make, the \
numbers of the log with each other and with what was deleted, counts of messages and who holds the slot with the \
log, and totals of runs with the sums of their usage. Nothing is locked and nothing is changed. A record that cannot be \
read is a finding until a rebuild has noted it as quarantined; then it is counted.

Exit codes, for cron:
  0  everything agrees
  1  there are findings, or the thread is not there
  2  wrong usage or input
  3  the database cannot be used, or its schema does not fit";

const REBUILD_HELP: &str = "\
Each thread is one transaction, for which appends to that thread wait. The log is never changed. Claims stay, and so \
does what retention left of items. A record of the log that cannot be read is noted in the table `quarantine` and left \
out of the index. What is beside the index (counts, totals) is as it was: `runledger verify` tells of it.";

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = VERIFY_HELP)]
pub struct VerifyArgs {
    /// Only this thread; without it, every one.
    #[arg(long)]
    pub thread: Option<ThreadId>,

    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

/// Arguments of `rebuild`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = REBUILD_HELP)]
pub struct RebuildArgs {
    /// Only this thread; without it, every one.
    #[arg(long)]
    pub thread: Option<ThreadId>,

    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

/// The threads that are meant, read page by page.
struct Threads<'a> {
    ledger: &'a SqlLedger,
    one: Option<&'a ThreadId>,
    page: VecDeque<ThreadId>,
    after: Option<ThreadId>,
    progress: ProgressBar,
}

impl<'a> Threads<'a> {
    async fn new(
        ledger: &'a SqlLedger,
        one: Option<&'a ThreadId>,
        doing: &'static str,
        output: &Output,
    ) -> CoreResult<Self> {
        let count = if one.is_some() { 1 } else { ledger.count_threads().await? };
        let progress = output.bar(doing, 0);
        progress.set_length(count);
        Ok(Self { ledger, one, page: VecDeque::new(), after: None, progress })
    }

    /// The next thread; `None` after the last.
    async fn next(&mut self) -> CoreResult<Option<ThreadId>> {
        if self.page.is_empty() {
            self.page = match (self.one, &self.after) {
                (Some(thread), None) => vec![thread.clone()].into(),
                (Some(_), Some(_)) => VecDeque::new(),
                (None, after) => self.ledger.threads_after(after.as_ref()).await?.into(),
            };
        }
        let next = self.page.pop_front();
        self.after = next.clone().or(self.after.take());
        Ok(next)
    }

    /// What was answered about a thread; none where it was deleted since it was listed.
    fn answered<T>(&self, answer: CoreResult<T>) -> CoreResult<Option<T>> {
        self.progress.inc(1);
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == ErrorKind::NotFound && self.one.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A JSON document that is written as its parts become known: the damaged threads, then the sums.
#[derive(Default)]
struct Document {
    damaged: u64,
}

impl Document {
    fn begin(&self, output: &mut Output) -> Result<(), Failure> {
        output.part(if self.damaged == 0 { "{\"damaged\":[" } else { "," })
    }

    fn add<T: Serialize>(&mut self, thread: &T, output: &mut Output) -> Result<(), Failure> {
        self.begin(output)?;
        self.damaged += 1;
        output.json_part(thread)
    }

    fn end<T: Serialize>(self, summary: &T, output: &mut Output) -> Result<(), Failure> {
        if self.damaged == 0 {
            self.begin(output)?;
        }
        output.part("],\"summary\":")?;
        output.json_part(summary)?;
        output.line("}")
    }
}

#[derive(Debug, Default, Serialize)]
struct VerifySum {
    threads: u64,
    damaged_threads: u64,
    events: u64,
    items: u64,
    runs: u64,
    usage: u64,
    quarantined: u64,
    findings: u64,
}

impl VerifySum {
    fn add(&mut self, verified: &Verified) {
        self.threads += 1;
        self.damaged_threads += u64::from(!verified.is_clean());
        self.events += verified.events;
        self.items += verified.items;
        self.runs += verified.runs;
        self.usage += verified.usage;
        self.quarantined += verified.quarantined;
        self.findings += verified.findings.len() as u64 + verified.more_findings;
    }
}

/// `verify`. The threads that something was found on are told as they are found.
pub(crate) async fn verify(
    args: &VerifyArgs,
    ledger: &SqlLedger,
    output: &mut Output,
) -> Result<(), Failure> {
    let stores = ledger.ledger();
    let mut threads = Threads::new(ledger, args.thread.as_ref(), "verifying", output).await?;
    let (mut sum, mut document) = (VerifySum::default(), Document::default());
    while let Some(thread) = threads.next().await? {
        let answer = stores.items().verify(&Scope::System, &thread).await;
        let Some(verified) = threads.answered(answer)? else { continue };
        sum.add(&verified);
        if args.json && !verified.is_clean() {
            document.add(&verified, output)?;
        } else {
            findings(&verified, output)?;
        }
    }
    threads.progress.finish_and_clear();
    if args.json {
        document.end(&sum, output)?;
    } else {
        output.line(format!(
            "verified {} with {}, {}, {} and {}: {}, {} quarantined",
            counted(sum.threads, "thread"),
            counted(sum.events, "event"),
            counted(sum.items, "item"),
            counted(sum.runs, "run"),
            counted(sum.usage, "usage record"),
            counted(sum.findings, "finding"),
            counted(sum.quarantined, "record"),
        ))?;
    }
    if sum.findings > 0 {
        return Err(Failure::Refused(format!(
            "{} on {}; `runledger rebuild` makes the item index anew",
            counted(sum.findings, "finding"),
            counted(sum.damaged_threads, "thread")
        )));
    }
    Ok(())
}

fn findings(verified: &Verified, output: &mut Output) -> Result<(), Failure> {
    let thread = verified.thread_id.as_str();
    for Finding { kind, run_id, item_id, detail, .. } in &verified.findings {
        let run = run_id.as_ref().map(|run| format!(" run {run}")).unwrap_or_default();
        let item = item_id.as_ref().map(|item| format!(" item {item}")).unwrap_or_default();
        output.line(one_line(&format!("{thread}{run}{item}: {kind}: {detail}"), 1_000))?;
    }
    if verified.more_findings > 0 {
        output.line(format!(
            "{}: {} more",
            one_line(thread, 128),
            counted(verified.more_findings, "finding")
        ))?;
    }
    Ok(())
}

#[derive(Debug, Default, Serialize)]
struct RebuildSum {
    threads: u64,
    events: u64,
    items_before: u64,
    items: u64,
    quarantined: u64,
    gaps: u64,
}

/// `rebuild`. The threads whose log has gaps or records that cannot be read are told.
pub(crate) async fn rebuild(
    args: &RebuildArgs,
    ledger: &SqlLedger,
    output: &mut Output,
) -> Result<(), Failure> {
    let stores = ledger.ledger();
    let mut threads = Threads::new(ledger, args.thread.as_ref(), "rebuilding", output).await?;
    let (mut sum, mut document) = (RebuildSum::default(), Document::default());
    while let Some(thread) = threads.next().await? {
        let answer = stores.items().rebuild(&Scope::System, &thread).await;
        let Some(rebuilt) = threads.answered(answer)? else { continue };
        sum.threads += 1;
        sum.events += rebuilt.events;
        sum.items_before += rebuilt.items_before;
        sum.items += rebuilt.items;
        sum.quarantined += rebuilt.quarantined;
        sum.gaps += rebuilt.gaps.len() as u64 + rebuilt.more_gaps;
        if rebuilt.quarantined == 0 && rebuilt.gaps.is_empty() {
            continue;
        }
        if args.json {
            document.add(&rebuilt, output)?;
        } else {
            damage(&rebuilt, output)?;
        }
    }
    threads.progress.finish_and_clear();
    if args.json {
        return document.end(&sum, output);
    }
    output.line(format!(
        "rebuilt the index of {} from {}: {} before, {} after; {} quarantined, {}",
        counted(sum.threads, "thread"),
        counted(sum.events, "event"),
        counted(sum.items_before, "item"),
        counted(sum.items, "item"),
        counted(sum.quarantined, "record"),
        counted(sum.gaps, "gap"),
    ))
}

fn damage(rebuilt: &Rebuilt, output: &mut Output) -> Result<(), Failure> {
    let thread = one_line(rebuilt.thread_id.as_str(), 128);
    if rebuilt.quarantined > 0 {
        output.line(format!("{thread}: {} quarantined", counted(rebuilt.quarantined, "record")))?;
    }
    for gap in &rebuilt.gaps {
        output.line(format!("{thread}: no event has the numbers {} to {}", gap.from, gap.through))?;
    }
    if rebuilt.more_gaps > 0 {
        output.line(format!("{thread}: {} more", counted(rebuilt.more_gaps, "gap")))?;
    }
    Ok(())
}
