//! The command `runledger`: import, read and replay AI-agent runs.
//!
//! A library only so that tests can run a command inside their own process; the binary calls
//! [`main`]. Nothing here is an interface for other programs: they use the crates below it.
//!
//! | module | holds |
//! |---|---|
//! | `args` | the command line |
//! | `command` | one room per command |
//! | `import` | recordings of other systems: files to plans, plans to commits |
//! | `output` | text and JSON, tables, harmless for a terminal |
//! | `money` | dollars by their digits |
//! | `database` | opening the database, and who may make a schema |
//! | `failure` | errors and exit codes |

mod args;
mod command;
mod database;
mod failure;
mod import;
mod money;
mod output;

use std::process::ExitCode;

pub use args::{
    Cli, Command, DatabaseArgs, DemoArgs, EventsArgs, Format, ImportArgs, ListArgs, LogArgs, ReaderArgs,
    ReplayArgs, RunsArgs, SeqArgs, TargetArgs, ThreadsArgs, UsageArgs,
};
pub use command::agent_runs::{AgentRunArgs, AgentRunsArgs};
pub use command::context::{CompactArgs, ContextArgs};
pub use command::copy::{
    ArchiveArgs, ArchiveCommand, ArchiveExportArgs, ArchiveImportArgs, CopyArgs, PlaceUrl, SelectionArgs,
};
pub use command::export::{ExportArgs, Shape};
pub use command::fork::{BlobArgs, ForkArgs, ItemOfRun};
pub use command::prune::PruneArgs;
pub use command::search::{ReindexArgs, SearchArgs};
pub use command::serve::ServeArgs;
pub use command::spool::{SpoolArgs, SpoolCommand, SpoolListArgs, SpoolRecoverArgs};
pub use command::token::{TokenArgs, TokenCommand, TokenCreateArgs, TokenListArgs, TokenRevokeArgs};
pub use command::turns::{First, ItemsArgs, TurnsArgs, View};
pub use command::upkeep::{BackupArgs, DeletionsArgs, EraseOwnerArgs, VacuumArgs};
pub use command::verify::{RebuildArgs, VerifyArgs};
pub use failure::{Failure, Shown};
pub use output::Output;
use runledger_persistence::SqlLedger;

/// Runs the command on the process's own streams.
pub fn main(cli: &Cli) -> ExitCode {
    log_warnings();
    let mut output = Output::process();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(run(cli, &mut output))),
        Err(error) => {
            output.fail(&Failure::io("start the runtime", error), cli.command.wants_json());
            ExitCode::from(1)
        }
    }
}

/// What the libraries warn of goes to standard error; `RUST_LOG` asks for more.
fn log_warnings() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Somebody else's subscriber is as good.
    let _ = subscriber.try_init();
}

/// Runs a command and returns its exit code. Errors are told on the output's second writer.
pub async fn run(cli: &Cli, output: &mut Output) -> u8 {
    let done = match &cli.command {
        Command::Migrate(args) => {
            let (out, err) = output.writers();
            let code = runledger_migration::command::run(args, out, err).await.code();
            return output.flush().map_or_else(|failure| failure.exit_code(), |()| code);
        }
        other => dispatch(other, output).await,
    };
    match done.and_then(|()| output.flush()) {
        Ok(()) => 0,
        Err(failure) => {
            if !matches!(failure, Failure::PipeClosed) {
                // What was written before stands before the error.
                let _ = output.flush();
                output.fail(&failure, cli.command.wants_json());
            }
            failure.exit_code()
        }
    }
}

async fn dispatch(command: &Command, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => command::demo::run(args, output).await,
        Command::Import(args) => command::import::run(args, output).await,
        Command::Archive(args) => command::copy::archive(args, output).await,
        Command::Copy(args) => command::copy::run(args, output).await,
        Command::Prune(args) => command::prune::run(args, output).await,
        Command::Spool(args) => command::spool::run(args, output).await,
        Command::Serve(args) => command::serve::run(args, output).await,
        Command::Token(args) => command::token::run(args, output).await,
        Command::Deletions(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::upkeep::deletions(args, &ledger, output).await).await
        }
        Command::EraseOwner(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::upkeep::erase_owner(args, &ledger, output).await).await
        }
        Command::Backup(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::upkeep::backup(args, &ledger, output).await).await
        }
        Command::Vacuum(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::upkeep::vacuum(args, &ledger, output).await).await
        }
        Command::Replay(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::replay::run(args, &ledger, output).await).await
        }
        Command::Threads(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::readers::threads(args, &ledger, output).await).await
        }
        Command::Runs(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::readers::runs(args, &ledger, output).await).await
        }
        Command::AgentRuns(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::agent_runs::list(args, &ledger, output).await).await
        }
        Command::AgentRun(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::agent_runs::show(args, &ledger, output).await).await
        }
        Command::Messages(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::readers::messages(args, &ledger, output).await).await
        }
        Command::Events(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::readers::events(args, &ledger, output).await).await
        }
        Command::Turns(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::turns::turns(args, &ledger, output).await).await
        }
        Command::Items(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::turns::items(args, &ledger, output).await).await
        }
        Command::Verify(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::verify::verify(args, &ledger, output).await).await
        }
        Command::Rebuild(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::verify::rebuild(args, &ledger, output).await).await
        }
        Command::Usage(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::usage::usage(args, &ledger, output).await).await
        }
        Command::Context(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::context::show(args, &ledger, output).await).await
        }
        Command::Compact(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::context::compact(args, &ledger, output).await).await
        }
        Command::Fork(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::fork::fork(args, &ledger, output).await).await
        }
        Command::Blob(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::fork::blob(args, &ledger, output).await).await
        }
        Command::Search(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::search::search(args, &ledger, output).await).await
        }
        Command::Reindex(args) => {
            let ledger = database::open(&args.reader.database.database_url).await?;
            closing(&ledger, command::search::reindex(args, &ledger, output).await).await
        }
        Command::Export(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            closing(&ledger, command::export::run(args, &ledger, output).await).await
        }
        Command::Migrate(_) => Ok(()),
    }
}

/// Closes the ledger whatever came out.
async fn closing<T>(ledger: &SqlLedger, outcome: Result<T, Failure>) -> Result<T, Failure> {
    ledger.close().await;
    outcome
}
