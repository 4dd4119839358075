//! `copy` and `archive`: threads from one place to another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use runledger_core::{ErrorKind, ThreadId};
use runledger_persistence::archive::{CopyOptions, CopyProgress, CopyReport, Place, Refused, copy};
use serde_json::{Value, json};

use crate::args::DatabaseArgs;
use crate::import::counted;
use crate::output::{Output, grouped, printable};
use crate::{Failure, database};

/// What a folder of archives is called by.
const ARCHIVE: &str = "archive://";

/// Where threads are: a database's URL, or `archive://PATH`.
#[derive(Clone)]
pub struct PlaceUrl(String);

impl FromStr for PlaceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_place = ["sqlite:", "postgres:", "postgresql:", ARCHIVE].iter().any(|it| text.starts_with(it));
        if is_place && text != ARCHIVE {
            return Ok(Self(text.to_owned()));
        }
        // What is no URL may hold a password all the same, so it is not repeated.
        Err("names no place; give sqlite://PATH, postgres://USER@HOST/DATABASE or archive://PATH".to_owned())
    }
}

impl fmt::Debug for PlaceUrl {
    // By hand: the URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&runledger_migration::redacted(&self.0))
    }
}

/// Arguments of `copy`.
#[derive(Args, Clone, Debug)]
pub struct CopyArgs {
    /// Where the threads are: sqlite://PATH, postgres://USER@HOST/DATABASE, or archive://PATH, a folder of
    /// archives or one of them.
    #[arg(long, value_name = "URL")]
    pub from: PlaceUrl,

    /// Where they are to be. A SQLite file and a folder are made where they are missing; the schema on a
    /// server is not.
    #[arg(long, value_name = "URL")]
    pub to: PlaceUrl,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub selection: SelectionArgs,
}

/// Which threads, and how.
#[derive(Args, Clone, Debug)]
pub struct SelectionArgs {
    /// Only this thread; may be given several times.
    #[arg(long = "thread", value_name = "THREAD")]
    pub threads: Vec<ThreadId>,

    /// Replace threads that are there with other content. What is replaced is gone.
    #[arg(long)]
    pub replace: bool,

    /// Read each thread back after it was written, and compare it with what was copied.
    #[arg(long)]
    pub verify: bool,

    /// Print the summary as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `archive`.
#[derive(Args, Clone, Debug)]
pub struct ArchiveArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ArchiveCommand,
}

/// What `archive` can do.
#[derive(Subcommand, Clone, Debug)]
pub enum ArchiveCommand {
    /// Write threads to a folder, one file each, with everything of them.
    Export(ArchiveExportArgs),
    /// Read threads from files that `archive export` wrote.
    Import(ArchiveImportArgs),
}

/// Arguments of `archive export`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ArchiveExportArgs {
    /// The folder; it is made where it is missing.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments of `archive import`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ArchiveImportArgs {
    /// A folder of archives, or one archive.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

impl ArchiveArgs {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            ArchiveCommand::Export(args) => args.selection.json,
            ArchiveCommand::Import(args) => args.selection.json,
        }
    }
}

/// `archive`.
pub(crate) async fn archive(args: &ArchiveArgs, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        ArchiveCommand::Export(args) => {
            let from = Place::Ledger(database::open(&args.database.database_url).await?);
            transfer(from, Place::Folder(args.folder.clone()), &args.selection, output).await
        }
        ArchiveCommand::Import(args) => {
            let from = archives(&args.path)?;
            let to = Place::Ledger(database::open_or_make(&args.database.database_url, output).await?);
            transfer(from, to, &args.selection, output).await
        }
    }
}

/// `copy`.
pub(crate) async fn run(args: &CopyArgs, output: &mut Output) -> Result<(), Failure> {
    if args.from.0 == args.to.0 {
        return Err(Failure::Usage("--from and --to are the same place".to_owned()));
    }
    let from = match args.from.0.strip_prefix(ARCHIVE) {
        Some(path) => archives(Path::new(path))?,
        None => Place::Ledger(database::open(&args.from.0).await?),
    };
    let to = match args.to.0.strip_prefix(ARCHIVE) {
        Some(path) => Ok(Place::Folder(path.into())),
        None => database::open_or_make(&args.to.0, output).await.map(Place::Ledger),
    };
    match to {
        Ok(to) => transfer(from, to, &args.selection, output).await,
        Err(failure) => {
            close(&from).await;
            Err(failure)
        }
    }
}

/// Archives that are there.
fn archives(path: &Path) -> Result<Place, Failure> {
    if path.exists() {
        return Ok(Place::Folder(path.to_owned()));
    }
    Err(Failure::file(path, "is not there; give a folder of archives, or one of them"))
}

async fn transfer(
    from: Place,
    to: Place,
    selection: &SelectionArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let options = CopyOptions {
        threads: (!selection.threads.is_empty()).then(|| selection.threads.clone()),
        replace: selection.replace,
        verify: selection.verify,
    };
    let bar = output.bar("copying", 0);
    let progress = |now: &CopyProgress| {
        bar.set_length(now.of);
        bar.set_position(now.threads);
    };
    let copied = copy(&from, &to, &options, progress).await;
    bar.finish_and_clear();
    close(&from).await;
    close(&to).await;
    tell(&copied?, selection, output)
}

async fn close(place: &Place) {
    if let Place::Ledger(ledger) = place {
        ledger.close().await;
    }
}

fn tell(report: &CopyReport, selection: &SelectionArgs, output: &mut Output) -> Result<(), Failure> {
    if selection.json {
        output.json(&summary(report))?;
    } else {
        let threads = |number| counted(number, "thread");
        let rows = |table| report.rows.get(table).copied().unwrap_or_default();
        output.line(format!(
            "copied {} with {} and {}",
            threads(report.copied),
            counted(rows("runs"), "run"),
            counted(rows("run_events"), "event"),
        ))?;
        for (number, what) in [
            (report.replaced, "of them replaced"),
            (report.verified, "read back and equal"),
            (report.equal, "there already and equal, row by row"),
            (report.refused, "refused"),
        ] {
            if number > 0 {
                output.line(format!("  {} {what}", grouped(number)))?;
            }
        }
        for Refused { thread, error } in &report.refusals {
            let error = error.to_string();
            // That of a file names it.
            let thread = if error.contains(thread) { String::new() } else { format!(" {thread}") };
            output.line(printable(&format!("refused{thread}: {error}")))?;
        }
    }
    if report.refused == 0 {
        return Ok(());
    }
    let others = report.refusals.iter().any(|refused| refused.error.kind() == ErrorKind::Conflict);
    Err(Failure::Refused(format!(
        "{} not copied; the output says why{}",
        match report.refused {
            1 => "1 thread was".to_owned(),
            number => format!("{} threads were", grouped(number)),
        },
        if others { ". --replace replaces those that are there with other content" } else { "" },
    )))
}

fn summary(report: &CopyReport) -> Value {
    let refusals = report.refusals.iter().map(|refused| {
        let error = &refused.error;
        json!({ "thread": refused.thread, "kind": error.kind().as_str(), "message": error.to_string() })
    });
    json!({
        "copied": report.copied,
        "replaced": report.replaced,
        "equal": report.equal,
        "verified": report.verified,
        "refused": report.refused,
        "refusals": refusals.collect::<Vec<_>>(),
        "rows": report.rows,
    })
}
