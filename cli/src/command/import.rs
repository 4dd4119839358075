//! `import`: recordings of other systems, all read and checked before the first is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runledger_core::{Ledger, Scope};
use runledger_journal::Settings;

use crate::args::{Format, ImportArgs};
use crate::import::codex::Rollouts;
use crate::import::{
    RecordedFile, Summary, ThreadPlan, callbacks, check, counted, files, langgraph, mini_swe, require_free,
    write,
};
use crate::output::Output;
use crate::{Failure, database};

/// What the files hold.
enum Source {
    Threads(Vec<ThreadPlan>),
    Recordings(Vec<RecordedFile>),
    Rollouts(Rollouts),
}

/// `import`.
pub(crate) async fn run(args: &ImportArgs, output: &mut Output) -> Result<(), Failure> {
    let source = parse(args, output)?;
    let ledger = database::open_or_make(&args.database.database_url, output).await?;
    let outcome = store(&source, &ledger, &args.scope(), output).await;
    ledger.close().await;
    let (summary, left_out) = outcome?;
    summary.tell(output, args.json)?;
    if left_out.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "records that the store refuses were left out: {}; where an event was, one of type \
         journal.quarantined says why",
        left_out.join(", ")
    )))
}

fn parse(args: &ImportArgs, output: &Output) -> Result<Source, Failure> {
    let files = files(args.format, &args.paths)?;
    let bar = output.bar("reading", files.len());
    let read = |file: PathBuf| {
        bar.inc(1);
        file
    };
    let files = files.into_iter().map(read);
    Ok(match args.format {
        Format::LanggraphThread => Source::Threads(plans(files, langgraph::parse)?),
        Format::MiniSweAgent => Source::Threads(plans(files, mini_swe::parse)?),
        Format::Callbacks => Source::Recordings(files.map(callbacks::parse).collect::<Result<_, _>>()?),
        Format::CodexRollout => Source::Rollouts(Rollouts::read(files)?),
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
        plan.require_storable()?;
        if let Some(other) = seen.insert(plan.thread.thread_id.clone(), file.clone()) {
            let reason = format!("is thread {:?}, as {} is", plan.thread.thread_id.as_str(), other.display());
            return Err(Failure::file(file, reason));
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// Writes what is new. With the summary comes what the store refused, by file.
async fn store(
    source: &Source,
    ledger: &Ledger,
    scope: &Scope,
    output: &Output,
) -> Result<(Summary, Vec<String>), Failure> {
    let mut summary = Summary::default();
    let mut left_out = Vec::new();
    match source {
        Source::Threads(plans) => {
            for plan in plans {
                require_free(ledger, scope, &plan.file, &plan.thread.thread_id).await?;
                check(ledger, scope, plan).await.map_err(|failure| failure.in_file(&plan.file))?;
            }
            let bar = output.bar("writing", plans.len());
            for plan in plans {
                write(ledger, scope, plan, &mut summary)
                    .await
                    .map_err(|failure| failure.in_file(&plan.file))?;
                summary.files += 1;
                bar.inc(1);
            }
        }
        Source::Rollouts(rollouts) => {
            let bar = output.bar("importing", rollouts.len());
            rollouts.import(ledger, scope, &mut summary, || bar.inc(1)).await?;
        }
        Source::Recordings(recordings) => {
            for recorded in recordings {
                for thread in recorded.recording.threads() {
                    require_free(ledger, scope, &recorded.file, thread).await?;
                }
                let checked = recorded.recording.check(ledger, scope).await;
                checked.map_err(|error| callbacks::failure(&recorded.file, error))?;
            }
            // One writer and no model to wait for: large batches at once.
            let settings = Settings {
                batch_events: 500,
                batch_delay: Duration::from_millis(2),
                give_up_after: Some(Duration::from_secs(60)),
                // What a recording does not tell is not made up.
                estimate_failed: false,
                ..Settings::default()
            };
            let bar = output.bar("writing", recordings.iter().map(|it| it.recording.callbacks()).sum());
            for RecordedFile { file, recording, .. } in recordings {
                let done = |callbacks: usize| bar.inc(callbacks as u64);
                let stored = recording
                    .import(ledger, scope, &settings, done)
                    .await
                    .map_err(|error| callbacks::failure(file, error))?;
                add(&mut summary, &stored);
                if stored.quarantined > 0 {
                    left_out.push(format!("{} of {}", counted(stored.quarantined, "record"), file.display()));
                }
            }
        }
    }
    Ok((summary, left_out))
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
    sum.quarantined += stored.quarantined;
}
