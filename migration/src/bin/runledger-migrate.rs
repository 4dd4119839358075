//! `runledger-migrate`: looks at and changes the schema of a ledger's database.

use std::{io, process::ExitCode};

use clap::Parser;
use runledger_migration::command::{self, MigrateArgs};

/// Look at and change the schema of a Runledger database.
#[derive(Parser)]
#[command(name = "runledger-migrate", version)]
struct Cli {
    #[command(flatten)]
    args: MigrateArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Cli { args } = Cli::parse();
    command::run(&args, &mut io::stdout(), &mut io::stderr()).await.into()
}
