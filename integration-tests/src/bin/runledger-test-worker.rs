//! One worker process of a test: does the job in its argument and prints the outcome as JSON.

use std::process::ExitCode;

use runledger_integration_tests::processes;
use runledger_integration_tests::worker::{self, Job};

#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its two streams are its interface to the test"
)]
async fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let outcome = match serde_json::from_str::<Job>(&argument) {
        Ok(job) => match processes::wait_at_gate() {
            Ok(()) => worker::work(job).await,
            Err(error) => Err(format!("failed to wait at the gate: {error}")),
        },
        Err(error) => Err(format!("the argument is not a job: {error}")),
    };
    match outcome.and_then(|outcome| serde_json::to_string(&outcome).map_err(|error| error.to_string())) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
