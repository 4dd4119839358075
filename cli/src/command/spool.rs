//! `spool`: what journals of dead processes left on the disk, and storing it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use runledger_core::{Ledger, Scope};
use runledger_gateway::wire::WirePage;
use runledger_journal::spool::{self, ListedSpool, Recovered, Recovery, RecoveryReport, SpoolState};

use crate::args::DatabaseArgs;
use crate::command::readers::moment;
use crate::import::counted;
use crate::output::{Align, Output, Table, grouped};
use crate::{Failure, database};

/// How long a database that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `spool`.
#[derive(Args, Clone, Debug)]
pub struct SpoolArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SpoolCommand,
}

/// What `spool` can do.
#[derive(Subcommand, Clone, Debug)]
pub enum SpoolCommand {
    /// List the files of a spool folder. Needs no database.
    List(SpoolListArgs),
    /// Store what dead processes left in a spool folder; each event once, however often this is run.
    ///
    /// What was refused because its run was taken away (`*.fenced`) is appended to the run as trace
    /// events. Files of living processes, unreadable files and those of deleted threads are left.
    Recover(SpoolRecoverArgs),
}

/// Arguments of `spool list`.
#[derive(Args, Clone, Debug)]
pub struct SpoolListArgs {
    /// The folder.
    #[arg(long = "spool", value_name = "FOLDER")]
    pub folder: PathBuf,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `spool recover`.
#[derive(Args, Clone, Debug)]
pub struct SpoolRecoverArgs {
    /// The folder.
    #[arg(long = "spool", value_name = "FOLDER")]
    pub folder: PathBuf,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

impl SpoolArgs {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            SpoolCommand::List(args) => args.json,
            SpoolCommand::Recover(args) => args.json,
        }
    }
}

/// `spool`.
pub(crate) async fn run(args: &SpoolArgs, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        SpoolCommand::List(args) => list(args, output).await,
        SpoolCommand::Recover(args) => {
            require_folder(&args.folder)?;
            let ledger = database::open(&args.database.database_url).await?;
            let outcome = recover(&ledger, &args.folder).await;
            ledger.close().await;
            let files = outcome?;
            tell_damaged(&args.folder, &files, output).await?;
            tell(files, args.json, output)
        }
    }
}

fn require_folder(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{} is not a folder; give the one that the journals spool to",
        folder.display()
    )))
}

async fn list(args: &SpoolListArgs, output: &mut Output) -> Result<(), Failure> {
    require_folder(&args.folder)?;
    let files = spool::list(&args.folder).await?;
    if args.json {
        return output.json(&WirePage { items: files, has_more: false, next_cursor: None });
    }
    if files.is_empty() {
        return output.note("no spool files");
    }
    let mut table = Table::new(&[
        ("file", Align::Left),
        ("state", Align::Left),
        ("thread", Align::Left),
        ("run", Align::Left),
        ("begun", Align::Left),
        ("events", Align::Right),
        ("bytes", Align::Right),
        ("what is wrong", Align::Flexible),
    ]);
    for file in &files {
        let ListedSpool { thread_id, run_id, created_at, events, bytes, reason, .. } = file;
        table.row(&[
            &name(&file.file),
            state(file.state),
            thread_id.as_ref().map_or("-", AsRef::as_ref),
            run_id.as_ref().map_or("-", AsRef::as_ref),
            &created_at.map_or_else(|| "-".to_owned(), moment),
            &grouped(*events),
            &grouped(*bytes),
            reason.as_deref().unwrap_or("-"),
        ]);
    }
    output.table(&table)
}

/// Stores the waiting files, then those that were refused, of now or before.
async fn recover(ledger: &Ledger, folder: &Path) -> Result<Vec<Recovered>, Failure> {
    let RecoveryReport { mut files, .. } = spool::recover(ledger, &Scope::System, folder, PATIENCE).await?;
    let fenced = spool::recover_fenced(ledger, &Scope::System, folder, PATIENCE).await?;
    files.retain(|file| fenced.files.iter().all(|later| later.file != file.file));
    files.extend(fenced.files);
    Ok(files)
}

/// Files that an earlier recovery could not read: a person has to look at them, and no recovery does.
async fn tell_damaged(folder: &Path, told: &[Recovered], output: &mut Output) -> Result<(), Failure> {
    let listed = spool::list(folder).await?;
    let damaged = listed.iter().filter(|found| {
        found.state == SpoolState::Corrupt && told.iter().all(|file| file.file != found.file)
    });
    match damaged.count() as u64 {
        0 => Ok(()),
        count => output.note(format!(
            "{} here that cannot be read; `runledger spool list` says why",
            counted(count, "spool file")
        )),
    }
}

fn tell(files: Vec<Recovered>, json: bool, output: &mut Output) -> Result<(), Failure> {
    let left = files.iter().filter(|file| !matches!(file.recovery, Recovery::Stored | Recovery::Held));
    let left = left.count() as u64;
    let replaced: u64 = files.iter().map(|file| file.quarantined).sum();
    let usage_lost: u64 = files.iter().map(|file| file.usage_lost).sum();
    if json {
        output.json(&WirePage { items: files, has_more: false, next_cursor: None })?;
    } else if files.is_empty() {
        return output.note("no spool files");
    } else {
        let mut table = Table::new(&[
            ("file", Align::Left),
            ("outcome", Align::Left),
            ("run", Align::Left),
            ("written", Align::Right),
            ("stored before", Align::Right),
            ("refused", Align::Right),
            ("replaced", Align::Right),
            ("usage lost", Align::Right),
            ("bytes cut", Align::Right),
            ("why", Align::Flexible),
        ]);
        for file in &files {
            table.row(&[
                &name(&file.file),
                outcome(file.recovery),
                file.run_id.as_ref().map_or("-", AsRef::as_ref),
                &grouped(file.written),
                &grouped(file.already_stored),
                &grouped(file.fenced),
                &grouped(file.quarantined),
                &grouped(file.usage_lost),
                &grouped(file.cut_bytes),
                file.reason.as_deref().unwrap_or("-"),
            ]);
        }
        output.table(&table)?;
    }
    if left > 0 {
        return Err(Failure::Refused(format!(
            "{} could not be stored; the output says why, and `runledger spool list` what is there",
            counted(left, "spool file")
        )));
    }
    if replaced + usage_lost > 0 {
        return Err(Failure::Refused(format!(
            "{} replaced by notes and {} not stored, for the database refuses them",
            counted(replaced, "record"),
            counted(usage_lost, "usage record"),
        )));
    }
    Ok(())
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn state(state: SpoolState) -> &'static str {
    match state {
        SpoolState::Waiting => "waiting",
        SpoolState::Held => "in use",
        SpoolState::Fenced => "fenced",
        SpoolState::Corrupt => "corrupt",
        // And what a newer version of the library adds.
        _ => "newer",
    }
}

fn outcome(recovery: Recovery) -> &'static str {
    match recovery {
        Recovery::Stored => "stored",
        Recovery::Held => "in use",
        Recovery::Fenced => "fenced",
        Recovery::Corrupt => "corrupt",
        Recovery::Newer => "newer",
        _ => "left",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn what_was_replaced_or_not_stored_is_no_success() {
        let stored = Recovered {
            file: PathBuf::from("a.spool"),
            recovery: Recovery::Stored,
            thread_id: None,
            run_id: None,
            written: 2,
            already_stored: 0,
            fenced: 0,
            quarantined: 0,
            usage_lost: 0,
            cut_bytes: 0,
            reason: None,
        };
        let told = |file: Recovered| {
            let mut output = Output::to(Box::new(Vec::new()), Box::new(Vec::new()));
            tell(vec![file], false, &mut output).map_err(|failure| failure.to_string())
        };
        assert_eq!(told(stored.clone()), Ok(()));
        for file in [Recovered { quarantined: 1, ..stored.clone() }, Recovered { usage_lost: 1, ..stored }] {
            let refused = told(file).unwrap_err();
            assert!(refused.contains("for the database refuses them"), "{refused}");
        }
    }
}
