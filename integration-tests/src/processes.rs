//! Worker processes of a test.
//!
//! What several processes do to one database at once can only be seen with several processes. A
//! worker is a program that is told its job by arguments, prints one JSON document a line and
//! ends. Workers are held at a gate until all of them run: a worker calls [`wait_at_gate`] when it
//! is ready, and [`run_together`] opens the gate for all.

use std::{
    ffi::OsStr,
    io::{self, Read as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running worker. Dropping it ends the process.
#[derive(Debug)]
pub struct Worker {
    name: String,
    child: Child,
}

/// Starts `program` with the arguments that tell it its job.
///
/// # Panics
/// When the program cannot be started.
#[must_use]
pub fn spawn(program: impl AsRef<Path>, arguments: &[impl AsRef<OsStr>]) -> Worker {
    let program = program.as_ref();
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    match child {
        Ok(child) => {
            let name = format!("{} (process {})", program.display(), child.id().unwrap_or_default());
            Worker { name, child }
        }
        Err(error) => panic!("failed to start {}: {error}", program.display()),
    }
}

/// Opens the gate for all workers and collects what each printed, in the order given.
///
/// # Panics
/// When a worker fails or prints anything but JSON, with what it said on stderr.
pub async fn run_together(mut workers: Vec<Worker>) -> Vec<Vec<Value>> {
    for worker in &mut workers {
        drop(worker.child.stdin.take());
    }
    let mut outcomes = Vec::with_capacity(workers.len());
    // All of them are read at once: one that fills its pipe must not wait for the others.
    let collecting: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.collect())).collect();
    for outcome in collecting {
        match outcome.await {
            Ok(Ok(documents)) => outcomes.push(documents),
            Ok(Err(reason)) => panic!("{reason}"),
            Err(error) => panic!("failed to collect a worker: {error}"),
        }
    }
    outcomes
}

/// What a worker printed before it ended, however it did.
#[derive(Debug)]
pub struct Ended {
    /// Its documents; of a line that was cut off, nothing.
    pub documents: Vec<Value>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on stderr.
    pub said: String,
}

impl Ended {
    /// Whether a signal ended it.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal().is_some()
    }
}

/// Opens the gate for one worker and waits for its end, which may be a violent one: with `kill_after` it
/// gets a SIGKILL once it printed so many documents.
///
/// # Panics
/// When it prints anything but JSON.
pub async fn run_to_end(worker: Worker, kill_after: Option<usize>) -> Ended {
    let Worker { name, mut child } = worker;
    drop(child.stdin.take());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let saying = tokio::spawn(async move {
        let mut said = String::new();
        if let Some(mut stderr) = stderr {
            // What is not text is shown by its absence.
            let _ = stderr.read_to_string(&mut said).await;
        }
        said
    });
    let mut documents = Vec::new();
    if let Some(stdout) = stdout {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while matches!(lines.read_line(&mut line).await, Ok(1..)) && line.ends_with('\n') {
            match serde_json::from_str(&line) {
                Ok(document) => documents.push(document),
                Err(error) => panic!("{name} printed {line:?}, which is not JSON: {error}"),
            }
            line.clear();
            if kill_after == Some(documents.len()) {
                // It may have ended by itself meanwhile.
                let _ = child.start_kill();
            }
        }
    }
    match child.wait().await {
        Ok(status) => Ended { documents, status, said: saying.await.unwrap_or_default() },
        Err(error) => panic!("failed to wait for {name}: {error}"),
    }
}

impl Worker {
    /// Waits for the end and reads what was printed.
    async fn collect(self) -> Result<Vec<Value>, String> {
        let Self { name, child } = self;
        let output =
            child.wait_with_output().await.map_err(|error| format!("failed to wait for {name}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{name} failed ({}): {}", output.status, said.trim()));
        }
        String::from_utf8_lossy(&output.stdout)
            .split_terminator('\n')
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|error| format!("{name} printed {line:?}, which is not JSON: {error}"))
            })
            .collect()
    }
}

/// What a worker calls before the work that all are to do at once.
///
/// # Errors
/// When stdin, which is the gate, cannot be read.
pub fn wait_at_gate() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    fn shell(script: &str) -> Worker {
        spawn("/bin/sh", &["-c", script])
    }

    #[tokio::test]
    async fn nobody_starts_before_all_run_and_everything_is_collected() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().display();
        let script = |number| {
            // Each waits at the gate, then for the mark of the other: alone neither would end.
            format!(
                "cat; touch {seen}/{number}; until [ -e {seen}/1 ] && [ -e {seen}/2 ]; do sleep 0.01; done; \
                 echo '{{\"worker\":{number}}}'; echo null"
            )
        };
        let workers = vec![shell(&script(1)), shell(&script(2))];
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(
            run_together(workers).await,
            [vec![json!({"worker": 1}), json!(null)], vec![json!({"worker": 2}), json!(null)]]
        );
    }

    #[tokio::test]
    async fn what_a_killed_worker_printed_before_is_kept() {
        let ended = run_to_end(shell("cat; echo 1; echo 2; exec sleep 600"), Some(2)).await;
        assert!(ended.was_killed());
        assert_eq!(ended.documents, [json!(1), json!(2)]);
        let ended = run_to_end(shell("cat; echo 1; printf 2; echo why >&2; kill -ABRT $$"), None).await;
        assert!(ended.was_killed());
        assert_eq!((ended.documents, ended.said.as_str()), (vec![json!(1)], "why\n"));
        assert!(!run_to_end(shell("cat"), None).await.was_killed());
    }

    #[tokio::test]
    #[should_panic(expected = "exit status: 3): the reason")]
    async fn a_worker_that_fails_fails_the_test_with_its_words() {
        run_together(vec![shell("echo the reason >&2; exit 3")]).await;
    }

    #[tokio::test]
    #[should_panic(expected = "printed \"words\", which is not JSON")]
    async fn a_worker_that_prints_anything_else_fails_the_test() {
        run_together(vec![shell("echo words")]).await;
    }
}
