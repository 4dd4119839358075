//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runledger_core::{
    Caller, Cursor, EventType, ListRange, OperationKind, OwnerId, RunId, RunStatus, Scope, SeqRange, TaskId,
    ThreadId, Timestamp, UsageBy,
};
use runledger_migration::DEFAULT_DATABASE_URL;

use crate::command::agent_runs::{AgentRunArgs, AgentRunsArgs};
use crate::command::context::{CompactArgs, ContextArgs};
use crate::command::copy::{ArchiveArgs, CopyArgs};
use crate::command::export::ExportArgs;
use crate::command::fork::{BlobArgs, ForkArgs};
use crate::command::prune::PruneArgs;
use crate::command::search::{ReindexArgs, SearchArgs};
use crate::command::serve::ServeArgs;
use crate::command::spool::SpoolArgs;
use crate::command::token::TokenArgs;
use crate::command::turns::{ItemsArgs, TurnsArgs};
use crate::command::upkeep::{BackupArgs, DeletionsArgs, EraseOwnerArgs, VacuumArgs};
use crate::command::verify::{RebuildArgs, VerifyArgs};

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  not found, or refused
  2  wrong usage or input
  3  the database cannot be used, or its schema does not fit
`runledger migrate` has codes of its own, see its help.";

/// The system of record for AI-agent runs: import, read and replay them.
#[derive(Parser, Clone, Debug)]
#[command(name = "runledger", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the command can do.
#[derive(Subcommand, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub enum Command {
    /// Run a small scripted agent with real tools in this folder, then replay it.
    Demo(DemoArgs),
    /// Import recordings of other systems. The same file again writes nothing.
    Import(ImportArgs),
    /// List threads, last updated first.
    Threads(ThreadsArgs),
    /// List runs, newest first.
    Runs(RunsArgs),
    /// List the messages of a thread or a run.
    Messages(LogArgs),
    /// List the events of a thread or a run.
    Events(EventsArgs),
    /// List the turns of a thread: its runs, with what was said or with all their items.
    Turns(TurnsArgs),
    /// List the items of a thread or a run, those in progress included.
    Items(ItemsArgs),
    /// Sum up model calls, tokens and cost: of a thread or a run, or of all by model, day, owner and more.
    Usage(UsageArgs),
    /// List agent runs, newest first, without their outputs and steps.
    AgentRuns(AgentRunsArgs),
    /// Tell an agent run: its goal, its steps, what came of it and what it took.
    AgentRun(AgentRunArgs),
    /// Tell a thread's runs: what was said, which tools ran, what it took.
    Replay(ReplayArgs),
    /// Show the messages a model would be sent next on a thread.
    Context(ContextArgs),
    /// Replace old messages of a thread's context window by a note; the log keeps them.
    Compact(CompactArgs),
    /// Make a thread of the beginning of another. The same call again goes on where it was cut short.
    Fork(ForkArgs),
    /// Write a large part of a payload, which its event only names.
    Blob(BlobArgs),
    /// Find what was said and what tools returned, newest first; of what is stored as a blob, how it begins is searched.
    Search(SearchArgs),
    /// Make the index of `search` anew, or bring it up to date.
    Reindex(ReindexArgs),
    /// Write a thread in the shape that another system reads: OpenAI, LangChain, DeerFlow, Codex.
    Export(ExportArgs),
    /// Write threads to files, or read them from there.
    Archive(ArchiveArgs),
    /// Copy threads from one place to another, with everything of them.
    Copy(CopyArgs),
    /// Remove old events and give their space back; runs, usage and threads stay.
    Prune(PruneArgs),
    /// Compare what is stored with itself; findings are exit code 1.
    Verify(VerifyArgs),
    /// Make the item index anew from the log.
    Rebuild(RebuildArgs),
    /// List what was deleted, by whom and why, newest first.
    Deletions(DeletionsArgs),
    /// Take an owner's name off everything, or delete everything of an owner.
    EraseOwner(EraseOwnerArgs),
    /// Copy a SQLite database to a new file while it is in use.
    Backup(BackupArgs),
    /// Give the free space of a SQLite file back.
    Vacuum(VacuumArgs),
    /// List or store what journals left on the disk while the database was away.
    Spool(SpoolArgs),
    /// Serve everything over HTTP: the API, live streams, and pages for a browser.
    Serve(ServeArgs),
    /// Make, list or revoke the tokens that `serve` asks for.
    Token(TokenArgs),
    /// Make or check the database's schema.
    Migrate(runledger_migration::command::MigrateArgs),
}

/// Which database.
#[derive(Args, Clone)]
pub struct DatabaseArgs {
    /// The database: sqlite://PATH or postgres://USER@HOST/DATABASE.
    #[arg(
        long,
        value_name = "URL",
        env = "RUNLEDGER_DATABASE_URL",
        hide_env_values = true,
        default_value = DEFAULT_DATABASE_URL
    )]
    pub database_url: String,
}

impl std::fmt::Debug for DatabaseArgs {
    // By hand: the URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseArgs")
            .field("database_url", &runledger_migration::redacted(&self.database_url))
            .finish()
    }
}

/// What every reader takes.
#[derive(Args, Clone, Debug)]
pub struct ReaderArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,

    /// Show only what this owner may see; without it, everything is shown.
    #[arg(long)]
    pub owner: Option<OwnerId>,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

impl ReaderArgs {
    /// On whose behalf the ledger is read.
    #[must_use]
    pub fn scope(&self) -> Scope {
        scope_of(self.owner.as_ref())
    }
}

fn scope_of(owner: Option<&OwnerId>) -> Scope {
    owner.map_or(Scope::System, |owner| Scope::Owner(owner.clone()))
}

/// Arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,

    /// Whose run it is.
    #[arg(long)]
    pub owner: Option<OwnerId>,
}

impl DemoArgs {
    /// On whose behalf the run is written.
    #[must_use]
    pub fn scope(&self) -> Scope {
        scope_of(self.owner.as_ref())
    }
}

/// What a file holds.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON file per thread, as the LangGraph platform returns a thread's state.
    LanggraphThread,
    /// Trajectories of mini-SWE-agent, `*.traj.json`.
    MiniSweAgent,
    /// Recorded LangChain callbacks, `*.jsonl`.
    Callbacks,
    /// Rollouts of Codex, `*.jsonl` and `*.jsonl.zst`: read line by line, damage is reported; of a file that was
    /// imported before only what was appended is read. What a fork goes on from is imported before it, if it lies
    /// beside it.
    CodexRollout,
}

/// Arguments of `import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// What the files hold.
    #[arg(value_enum)]
    pub format: Format,

    /// Files, or folders whose matching files are taken, subfolders included. All but rollouts are read and
    /// checked before the first is written.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Whose threads they become; without it, nobody's.
    #[arg(long)]
    pub owner: Option<OwnerId>,

    /// Print the summary as one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

impl ImportArgs {
    /// On whose behalf the files are imported.
    #[must_use]
    pub fn scope(&self) -> Scope {
        scope_of(self.owner.as_ref())
    }
}

/// Which part of a newest-first listing.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Rows at most, 1 to 1000.
    #[arg(long, default_value_t = runledger_core::DEFAULT_LIMIT)]
    pub limit: u32,

    /// Where the previous page ended: its `next_cursor`.
    #[arg(long)]
    pub cursor: Option<String>,
}

impl ListArgs {
    /// The range; a cursor that no listing returned is refused.
    pub fn range(&self) -> runledger_core::Result<ListRange> {
        let cursor = self.cursor.as_deref().map(Cursor::parse).transpose()?;
        Ok(ListRange { limit: self.limit, cursor })
    }
}

/// Which part of a log.
#[derive(Args, Clone, Debug)]
pub struct SeqArgs {
    /// Rows at most, 1 to 1000.
    #[arg(long, default_value_t = runledger_core::DEFAULT_LIMIT)]
    pub limit: u32,

    /// Only rows before this seq; alone, the last of them.
    #[arg(long, value_name = "SEQ")]
    pub before_seq: Option<u64>,

    /// Only rows after this seq, the first of them.
    #[arg(long, value_name = "SEQ")]
    pub after_seq: Option<u64>,
}

impl SeqArgs {
    /// The range.
    #[must_use]
    pub fn range(&self) -> SeqRange {
        SeqRange { limit: self.limit, before_seq: self.before_seq, after_seq: self.after_seq }
    }
}

/// Which thread or run. One of them is needed; a run alone is looked for on every thread.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// The thread.
    #[arg(long, required_unless_present = "run")]
    pub thread: Option<ThreadId>,

    /// The run.
    #[arg(long)]
    pub run: Option<RunId>,
}

/// Arguments of `threads`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ThreadsArgs {
    /// Only this thread.
    #[arg(long)]
    pub thread: Option<ThreadId>,
    #[command(flatten)]
    pub range: ListArgs,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Arguments of `runs`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct RunsArgs {
    /// Only runs of this thread.
    #[arg(long)]
    pub thread: Option<ThreadId>,
    /// Only this run.
    #[arg(long)]
    pub run: Option<RunId>,
    /// Only runs with this status: queued, pending, running, success, error, timeout, interrupted,
    /// budget_exhausted.
    #[arg(long, conflicts_with = "run", value_parser = |text: &str| RunStatus::parse("status", text))]
    pub status: Option<RunStatus>,
    /// Only runs of this kind: run, checkpoint_write, artifact_write, delete.
    #[arg(long, conflicts_with = "run", value_parser = |text: &str| OperationKind::parse("kind", text))]
    pub kind: Option<OperationKind>,
    /// Only runs asked for at this time or later: 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "run", value_parser = |text: &str| Timestamp::parse("from", text))]
    pub from: Option<Timestamp>,
    /// Only runs asked for before this time.
    #[arg(long, value_name = "TIME", conflicts_with = "run", value_parser = |text: &str| Timestamp::parse("before", text))]
    pub before: Option<Timestamp>,
    #[command(flatten)]
    pub range: ListArgs,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Arguments of `messages`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct LogArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub range: SeqArgs,
    /// Show messages of hidden runs too: superseded ones, and those rolled back.
    #[arg(long)]
    pub hidden: bool,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Arguments of `events`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct EventsArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub range: SeqArgs,
    /// Only events of this type; may be given several times. Needs --run.
    #[arg(long = "type", value_name = "TYPE", requires = "run", value_parser = event_type)]
    pub types: Vec<EventType>,
    /// Only events of this delegated task. Needs --run.
    #[arg(long, requires = "run")]
    pub task: Option<TaskId>,
    /// Only events of this caller. Needs --run.
    #[arg(long, requires = "run", value_parser = caller)]
    pub caller: Option<Caller>,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

fn event_type(text: &str) -> runledger_core::Result<EventType> {
    EventType::new(text)
}

fn caller(text: &str) -> runledger_core::Result<Caller> {
    Caller::new(text)
}

/// By what model calls are summed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummedBy {
    /// The model that answered.
    Model,
    /// Who made the call.
    Caller,
    /// The run.
    Run,
    /// The day, in UTC.
    Day,
    /// Whose thread it was.
    Owner,
    /// The round of the agent's loop; needs --thread or --run.
    Round,
    /// The thread.
    Thread,
}

impl From<SummedBy> for UsageBy {
    fn from(by: SummedBy) -> Self {
        match by {
            SummedBy::Model => Self::Model,
            SummedBy::Caller => Self::Caller,
            SummedBy::Run => Self::Run,
            SummedBy::Day => Self::Day,
            SummedBy::Owner => Self::Owner,
            SummedBy::Round => Self::Round,
            SummedBy::Thread => Self::Thread,
        }
    }
}

/// Arguments of `usage`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct UsageArgs {
    /// The thread.
    #[arg(long, required_unless_present_any = ["run", "by"])]
    pub thread: Option<ThreadId>,
    /// The run.
    #[arg(long)]
    pub run: Option<RunId>,
    /// Sum up by this. Without a thread or a run: all calls there are, those of deleted threads too.
    #[arg(long, value_enum)]
    pub by: Option<SummedBy>,
    /// Of a thread: with all its sub-agents' threads, each call once.
    #[arg(long, requires_all = ["by", "thread"], conflicts_with = "run")]
    pub tree: bool,
    /// Only calls that ended on this day or later, in UTC: 2026-11-21, or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "DATE", requires = "by", value_parser = |text: &str| Timestamp::parse_day("from", text))]
    pub from: Option<Timestamp>,
    /// Only calls that ended before this day.
    #[arg(long, value_name = "DATE", requires = "by", value_parser = |text: &str| Timestamp::parse_day("before", text))]
    pub before: Option<Timestamp>,
    /// Of a thread: leave out the run that has not ended.
    #[arg(long, conflicts_with = "by")]
    pub ended: bool,
    /// Model calls of a run, or sums, listed at most, 1 to 1000.
    #[arg(long, default_value_t = runledger_core::DEFAULT_LIMIT)]
    pub limit: u32,
    /// Where the previous page ended: its `next_cursor`.
    #[arg(long)]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Arguments of `replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The thread.
    pub thread: ThreadId,

    /// Only this run.
    #[arg(long)]
    pub run: Option<RunId>,

    /// Cut nothing. JSON is never cut.
    #[arg(long)]
    pub full: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub reader: ReaderArgs,
}

impl Command {
    /// Whether errors are to be JSON too.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Demo(_) | Self::Migrate(_) | Self::Export(_) | Self::Serve(_) => false,
            Self::Import(args) => args.json,
            Self::Threads(args) => args.reader.json,
            Self::Runs(args) => args.reader.json,
            Self::AgentRuns(args) => args.reader.json,
            Self::AgentRun(args) => args.reader.json,
            Self::Messages(args) => args.reader.json,
            Self::Events(args) => args.reader.json,
            Self::Turns(args) => args.reader.json,
            Self::Items(args) => args.reader.json,
            Self::Usage(args) => args.reader.json,
            Self::Replay(args) => args.reader.json,
            Self::Context(args) => args.openai || args.reader.json,
            Self::Compact(args) => args.reader.json,
            Self::Fork(args) => args.reader.json,
            Self::Blob(args) => args.reader.json,
            Self::Search(args) => args.reader.json,
            Self::Reindex(args) => args.reader.json,
            Self::Archive(args) => args.wants_json(),
            Self::Copy(args) => args.selection.json,
            Self::Prune(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Rebuild(args) => args.json,
            Self::Deletions(args) => args.json,
            Self::EraseOwner(args) => args.json,
            Self::Backup(_) => false,
            Self::Vacuum(args) => args.json,
            Self::Spool(args) => args.wants_json(),
            Self::Token(args) => args.wants_json(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
