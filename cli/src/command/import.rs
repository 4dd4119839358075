//! `import`: recordings of other systems, all read and checked before the first is written.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runledger_core::{Ledger, Scope};
use runledger_journal::Settings;
use runledger_journal::adapters::langchain_recording::{Recording, RecordingError};

use crate::args::{Format, ImportArgs};
use crate::import::{Summary, ThreadPlan, check, files, langgraph, mini_swe, write};
use crate::output::Output;
use crate::{Failure, database};

/// What the files hold.
pub(crate) enum Source {
    Threads(Vec<ThreadPlan>),
    Recordings(Vec<(PathBuf, Recording)>),
}

/// `import`.
pub(crate) async fn run(args: &ImportArgs, output: &mut Output) -> Result<(), Failure> {
    let source = parse(args, output)?;
    let ledger = database::open_or_make(&args.database.database_url, output).await?;
    let outcome = store(&source, &ledger, &args.scope(), output).await;
    ledger.close().await;
    outcome?.tell(output, args.json)
}

fn parse(args: &ImportArgs, output: &Output) -> Result<Source, Failure> {
    let files = files(args.format, &args.paths)?;
    let bar = bar(output, "reading", files.len());
    let read = |file: PathBuf| {
        bar.inc(1);
        file
    };
    let files = files.into_iter().map(read);
    Ok(match args.format {
        Format::LanggraphThread => Source::Threads(plans(files, langgraph::parse)?),
        Format::MiniSweAgent => Source::Threads(plans(files, mini_swe::parse)?),
        Format::Callbacks => Source::Recordings(
            files.map(|file| recording(&file).map(|it| (file, it))).collect::<Result<_, _>>()?,
        ),
    })
}

/// The plans of the files; two files for one thread are a mistake that only one of them survives.
fn plans(
    files: impl Iterator<Item = PathBuf>,
    parse: fn(&Path) -> Result<ThreadPlan, Failure>,
) -> Result<Vec<ThreadPlan>, Failure> {
    let mut seen: std::collections::HashMap<_, PathBuf> = std::collections::HashMap::new();
    let mut plans = Vec::new();
    for file in files {
        let plan = parse(&file)?;
        if let Some(other) = seen.insert(plan.thread.thread_id.clone(), file.clone()) {
            let reason = format!("is thread {:?}, as {} is", plan.thread.thread_id.as_str(), other.display());
            return Err(Failure::file(file, reason));
        }
        plans.push(plan);
    }
    Ok(plans)
}

fn recording(file: &Path) -> Result<Recording, Failure> {
    let opened = File::open(file).map_err(|error| Failure::file(file, format!("cannot be read: {error}")))?;
    Recording::parse(BufReader::new(opened)).map_err(|error| recording_failure(file, error))
}

fn recording_failure(file: &Path, error: RecordingError) -> Failure {
    match error {
        RecordingError::Line { line, reason } => {
            Failure::File { file: file.to_owned(), line: usize::try_from(line).ok(), reason }
        }
        RecordingError::Read { line, source } => Failure::File {
            file: file.to_owned(),
            line: usize::try_from(line).ok(),
            reason: format!("cannot be read: {source}"),
        },
        RecordingError::Ledger { source, .. } => Failure::from(source),
        other => Failure::file(file, other.to_string()),
    }
}

/// Writes what is new.
pub(crate) async fn store(
    source: &Source,
    ledger: &Ledger,
    scope: &Scope,
    output: &Output,
) -> Result<Summary, Failure> {
    let mut summary = Summary::default();
    match source {
        Source::Threads(plans) => {
            for plan in plans {
                check(ledger, scope, plan).await?;
            }
            let bar = bar(output, "writing", plans.len());
            for plan in plans {
                write(ledger, scope, plan, &mut summary).await?;
                summary.files += 1;
                bar.inc(1);
            }
        }
        Source::Recordings(recordings) => {
            // One writer and no model to wait for: large batches at once.
            let settings = Settings {
                batch_events: 500,
                batch_delay: Duration::from_millis(2),
                give_up_after: Some(Duration::from_secs(60)),
                ..Settings::default()
            };
            let bar = bar(output, "writing", recordings.iter().map(|(_, it)| it.callbacks()).sum());
            for (file, recording) in recordings {
                let done = |callbacks: usize| bar.inc(callbacks as u64);
                let stored = recording
                    .import(ledger, scope, &settings, done)
                    .await
                    .map_err(|error| recording_failure(file, error))?;
                add(&mut summary, &stored);
                if stored.quarantined > 0 {
                    let left_out =
                        format!("{} records that the store refuses were left out", stored.quarantined);
                    return Err(Failure::Refused(format!("{}: {left_out}", file.display())));
                }
            }
        }
    }
    Ok(summary)
}

fn add(sum: &mut Summary, stored: &runledger_journal::adapters::langchain_recording::Summary) {
    sum.files += 1;
    sum.threads += stored.threads;
    sum.runs += stored.runs;
    sum.events += stored.events;
    sum.messages += stored.messages;
    sum.usage_records += stored.usage_records;
    sum.input_tokens += stored.input_tokens;
    sum.output_tokens += stored.output_tokens;
    sum.total_tokens += stored.total_tokens;
    sum.cost_nanos += stored.cost_nanos;
    sum.skipped += stored.skipped;
}

/// A progress bar on standard error, where somebody looks at it. It goes away when dropped.
fn bar(output: &Output, doing: &'static str, length: usize) -> ProgressBar {
    let target =
        if output.shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length as u64), target).with_message(doing);
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
    .with_finish(indicatif::ProgressFinish::AndClear)
}
