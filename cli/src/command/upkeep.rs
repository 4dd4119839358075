//! `deletions`, `erase-owner`, `backup`, `vacuum`: what operators do now and then.

use std::path::PathBuf;

use clap::Args;
use runledger_core::{DeletionFilter, Erasure, Ledger, OwnerId, Scope, ThreadId, Timestamp};
use runledger_gateway::wire::WirePage;
use runledger_persistence::SqlLedger;

use super::prune::file_line;
use super::readers::{finish, moment};
use crate::Failure;
use crate::args::{DatabaseArgs, ListArgs};
use crate::import::counted;
use crate::output::{Align, Output, Table};

/// Arguments of `deletions`.
#[derive(Args, Clone, Debug)]
pub struct DeletionsArgs {
    /// Only those of this thread, which may be gone.
    #[arg(long)]
    pub thread: Option<ThreadId>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub range: ListArgs,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

/// Arguments of `erase-owner`.
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("how").required(true).args(["anonymise", "delete"])))]
pub struct EraseOwnerArgs {
    /// The owner.
    pub owner: OwnerId,

    /// Keep what was said and what it took, and take the owner's name off.
    #[arg(long)]
    pub anonymise: bool,

    /// Delete every thread, run and agent run of the owner, and what they took.
    #[arg(long)]
    pub delete: bool,

    /// Yes, it is meant: nothing brings it back.
    #[arg(long, required = true)]
    pub yes: bool,

    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The file to write, which must not be there. It is a database like any other.
    pub file: PathBuf,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

/// Arguments of `vacuum`.
#[derive(Args, Clone, Debug)]
pub struct VacuumArgs {
    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

/// `deletions`.
pub(crate) async fn deletions(
    args: &DeletionsArgs,
    ledger: &Ledger,
    output: &mut Output,
) -> Result<(), Failure> {
    let filter = DeletionFilter { thread_id: args.thread.clone() };
    let page = ledger.threads().list_deletions(&Scope::System, &filter, &args.range.range()?).await?;
    let next_cursor = page.next_cursor.map(|cursor| cursor.as_str().to_owned());
    let page = WirePage { items: page.items, has_more: page.has_more, next_cursor };
    if args.json {
        return output.json(&page);
    }
    let mut table = Table::new(&[
        ("deleted", Align::Left),
        ("thread", Align::Left),
        ("seqs", Align::Left),
        ("by", Align::Left),
        ("why", Align::Flexible),
    ]);
    for deletion in &page.items {
        table.row(&[
            &moment(deletion.deleted_at),
            deletion.thread_id.as_str(),
            &format!("{}-{}", deletion.from_seq, deletion.through_seq),
            deletion.deleted_by.as_ref().map_or("system", OwnerId::as_str),
            &deletion.reason,
        ]);
    }
    finish(output, &table, page.items.len(), "deletions", page.next_cursor.map(|c| format!("--cursor {c}")))
}

/// `erase-owner`.
pub(crate) async fn erase_owner(
    args: &EraseOwnerArgs,
    ledger: &Ledger,
    output: &mut Output,
) -> Result<(), Failure> {
    let (erasure, done) =
        if args.delete { (Erasure::Delete, "deleted") } else { (Erasure::Anonymise, "anonymised") };
    let erased = ledger.erase_owner(&Scope::System, &args.owner, erasure, Timestamp::now()).await?;
    if args.json {
        return output.json(&erased);
    }
    output.line(format!(
        "{done} {}, {} and {} of {}",
        counted(erased.threads, "thread"),
        counted(erased.agent_runs, "agent run"),
        counted(erased.usage, "usage record"),
        crate::output::printable(args.owner.as_str()),
    ))
}

/// `backup`.
pub(crate) async fn backup(
    args: &BackupArgs,
    ledger: &SqlLedger,
    output: &mut Output,
) -> Result<(), Failure> {
    ledger.backup(&args.file).await?;
    output.line(format!("wrote {}", crate::output::printable(&args.file.display().to_string())))
}

/// `vacuum`.
pub(crate) async fn vacuum(
    args: &VacuumArgs,
    ledger: &SqlLedger,
    output: &mut Output,
) -> Result<(), Failure> {
    let file = ledger.vacuum().await?;
    match (&file, args.json) {
        (_, true) => output.json(&file),
        (Some(file), false) => output.line(file_line(file)),
        // A command opens no database in memory that anybody wrote to.
        (None, false) => output.note("no file to make smaller"),
    }
}
