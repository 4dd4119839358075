//! One worker process of a test: does the job in its argument and prints each outcome as a line of JSON.

use std::io::Write as _;
use std::process::ExitCode;

use runledger_integration_tests::processes;
use runledger_integration_tests::worker::{self, Job, Outcome};

#[tokio::main]
#[expect(clippy::print_stderr, reason = "its two streams are its interface to the test")]
async fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let outcome = match serde_json::from_str::<Job>(&argument) {
        Ok(job) => match processes::wait_at_gate() {
            Ok(()) => worker::work(job, say).await,
            Err(error) => Err(format!("failed to wait at the gate: {error}")),
        },
        Err(error) => Err(format!("the argument is not a job: {error}")),
    };
    match outcome {
        Ok(outcome) => {
            say(&outcome);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the line at once: the process may not live to the next.
fn say(outcome: &Outcome) {
    let mut stdout = std::io::stdout().lock();
    let said = serde_json::to_string(outcome)
        .map_err(std::io::Error::other)
        .and_then(|line| writeln!(stdout, "{line}"))
        .and_then(|()| stdout.flush());
    if said.is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}
