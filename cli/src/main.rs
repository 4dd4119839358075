//! The command `runledger`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    runledger::main(&runledger::Cli::parse())
}
