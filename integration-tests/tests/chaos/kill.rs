//! Processes that are killed while they write, and what the next one makes of it.

use runledger_core::{ErrorKind, Scope};
use runledger_integration_tests::audit::{Audit, has_prefix};
use runledger_integration_tests::fault_table::{Row, is_long};
use runledger_integration_tests::processes::{Ended, run_to_end, spawn};
use runledger_integration_tests::script::{Durable, ThreadScript};
use runledger_integration_tests::worker::{Death, Job, Outcome};
use runledger_integration_tests::{TestDatabase, postgres, sqlite};
use runledger_persistence::fail_point::FailPoint;
use runledger_persistence::{Config, connect};

/// The threads of one process, told side by side so that their commits meet in groups.
const THREADS: usize = 3;

/// The most times that a process is killed and another goes on before one is left alone.
const LIVES: u64 = 2;

/// Where a process dies by its own hand, or after how many lines it is killed from outside.
#[derive(Clone, Debug)]
enum End {
    At(Death),
    AfterLines(usize),
    Natural,
}

/// What of one thread was said to be durable, by any process so far.
#[derive(Clone, Debug, Default)]
struct Said {
    events: Vec<(runledger_core::RunId, u64)>,
    edits: Vec<runledger_core::RunId>,
    deletion: bool,
}

impl Said {
    fn add(&mut self, what: Durable) {
        match what {
            Durable::Events(run, count) => match self.events.iter_mut().find(|(known, _)| *known == run) {
                Some((_, most)) => *most = count.max(*most),
                None => self.events.push((run, count)),
            },
            Durable::Edit(run) => self.edits.push(run),
            Durable::Deletion => self.deletion = true,
        }
    }
}

/// Threads that several processes tell, one after the death of the other.
struct Scene<'a> {
    database: &'a TestDatabase,
    scripts: Vec<ThreadScript>,
    said: Vec<Said>,
}

impl<'a> Scene<'a> {
    fn new(database: &'a TestDatabase, steps: u64, padding: usize) -> Self {
        let scripts = (0..THREADS).map(|_| ThreadScript::new(steps, padding)).collect();
        Self { database, scripts, said: vec![Said::default(); THREADS] }
    }

    /// Lets a process tell the threads, and looks whether everything is there that it said was durable.
    /// Says whether the process was killed.
    async fn play(&mut self, batch: u64, end: End) -> bool {
        let (death, kill_after) = match end.clone() {
            End::At(death) => (Some(death), None),
            End::AfterLines(lines) => (None, Some(lines)),
            End::Natural => (None, None),
        };
        let job =
            Job::Tell { url: self.database.url().to_owned(), threads: self.scripts.clone(), batch, death };
        let job = serde_json::to_string(&job).expect("a job is JSON");
        let ended = run_to_end(spawn(env!("CARGO_BIN_EXE_runledger-test-worker"), &[job]), kill_after).await;
        let told = self.hear(&ended);
        assert!(told || ended.was_killed(), "{end:?} ended by {}: {}", ended.status, ended.said);
        self.look(&end).await;
        !told
    }

    /// Takes what the process said; whether it came to its end.
    fn hear(&mut self, ended: &Ended) -> bool {
        let mut told = false;
        for document in &ended.documents {
            match serde_json::from_value(document.clone()).expect("an outcome") {
                Outcome::Durable { thread, what } => self.said[thread].add(what),
                Outcome::Told => told = true,
                other => panic!("{other:?} is no answer to this job"),
            }
        }
        told
    }

    async fn look(&self, end: &End) {
        let ledger = connect(Config::new(self.database.url())).await.expect("the database");
        for (script, said) in self.scripts.iter().zip(&self.said) {
            for (run, count) in &said.events {
                let told = script.runs.iter().chain([&script.scratch]).find(|told| told.run == *run);
                let told = told.expect("a run of the thread");
                // Of the run that is deleted in the end either all is there or nothing.
                let gone = *run == script.scratch.run
                    && ledger.runs().get(&Scope::System, &script.thread, run).await.is_err();
                let count = if gone { 0 } else { *count };
                if let Err(missing) = has_prefix(&ledger, told, count).await.expect("a log") {
                    panic!("after {end:?}: {missing}");
                }
            }
            if said.edits.is_empty() && !said.deletion {
                continue;
            }
            let thread = ledger.threads().get(&Scope::System, &script.thread).await.expect("the thread");
            for run in &said.edits {
                assert!(thread.metadata.as_str().contains(run.as_str()), "after {end:?}: no edit of {run}");
            }
            if said.deletion {
                let gone = ledger.runs().get(&Scope::System, &script.thread, &script.scratch.run).await;
                let kind = gone.expect_err("it was deleted").kind();
                assert_eq!(kind, ErrorKind::NotFound, "after {end:?}");
            }
        }
        ledger.close().await;
    }

    /// What is there in the end, and how many events were acknowledged.
    async fn audit(&self) -> (Audit, u64) {
        let ledger = connect(Config::new(self.database.url())).await.expect("the database");
        let (mut audit, mut acknowledged) = (Audit::default(), 0);
        for (script, said) in self.scripts.iter().zip(&self.said) {
            audit.add(Audit::thread(&ledger, script).await.expect("a thread"));
            let kept = said.events.iter().filter(|(run, _)| *run != script.scratch.run);
            acknowledged += kept.map(|(_, count)| count).sum::<u64>();
        }
        ledger.close().await;
        (audit, acknowledged)
    }
}

fn exists_on(point: FailPoint, backend: &str) -> bool {
    match point {
        FailPoint::CheckpointDue | FailPoint::CheckpointDone => backend == "SQLite",
        FailPoint::GuardedUnsent
        | FailPoint::GuardedDurable
        | FailPoint::LockedBegun
        | FailPoint::LockedLoaded
        | FailPoint::AdmissionWritten
        | FailPoint::StartWritten
        | FailPoint::FinishWritten
        | FailPoint::LockedUncommitted
        | FailPoint::LockedDurable
        | FailPoint::Unanswered
        | FailPoint::EditUncommitted
        | FailPoint::EditDurable => true,
    }
}

/// Steps of a run and bytes of each, so that the place is reached.
fn size(point: FailPoint) -> (u64, usize) {
    match point {
        // A checkpoint comes every 16 MiB.
        FailPoint::CheckpointDue | FailPoint::CheckpointDone => (8, 512 * 1024),
        _ => (5, 16),
    }
}

/// At every write boundary: the process dies there, the next dies there too, a third goes on. Each
/// time everything acknowledged is there, and in the end everything is there once.
async fn killed_at_every_write_boundary(database: &TestDatabase, backend: &str) {
    // The first time that the place is reached is an admission, say; later ones are in the midst.
    let hits: Vec<u32> = if is_long() { (1..=24).collect() } else { vec![1, 4] };
    for point in FailPoint::ALL.iter().copied().filter(|point| exists_on(*point, backend)) {
        let (mut all, mut acknowledged, mut killed) = (Audit::default(), 0, 0);
        for hit in &hits {
            let (steps, padding) = size(point);
            let mut scene = Scene::new(database, steps, padding);
            let mut died = 0;
            for life in 0..LIVES {
                // The second life sends other batches than the first.
                let death = Death { point: point.name().to_owned(), hit: if life == 0 { *hit } else { 1 } };
                died += u64::from(scene.play(1 + life, End::At(death)).await);
            }
            assert!(died > 0 || *hit > 1, "no process died at {}: it is not reached", point.name());
            assert!(!scene.play(3, End::Natural).await, "a process died that was left alone");
            let (audit, said) = scene.audit().await;
            all.add(audit);
            acknowledged += said;
            killed += died;
        }
        let fault = format!("process killed at {}", point.name());
        Row { fault: &fault, backend, injected: killed, acknowledged, audit: &all }.record();
    }
}

/// A SIGKILL from outside, whatever the process does at that moment.
async fn killed_at_any_moment(database: &TestDatabase, backend: &str) {
    let rounds = if is_long() { 40 } else { 4 };
    let (mut all, mut acknowledged, mut killed) = (Audit::default(), 0, 0);
    for round in 0..rounds {
        let mut scene = Scene::new(database, 6, 200);
        for life in 0..4 {
            let lines = 1 + (round * 7 + life * 11) % 23;
            killed += u64::from(scene.play(1 + life as u64 % 3, End::AfterLines(lines)).await);
        }
        scene.play(2, End::Natural).await;
        let (audit, said) = scene.audit().await;
        all.add(audit);
        acknowledged += said;
    }
    Row { fault: "process killed at any moment", backend, injected: killed, acknowledged, audit: &all }
        .record();
}

#[tokio::test]
async fn sqlite_processes_killed_at_every_write_boundary() {
    killed_at_every_write_boundary(&sqlite::database().await, "SQLite").await;
}

#[tokio::test]
async fn postgresql_processes_killed_at_every_write_boundary() {
    if let Some(server) = postgres::server() {
        killed_at_every_write_boundary(&server.database().await, "PostgreSQL").await;
    }
}

#[tokio::test]
async fn sqlite_processes_killed_at_any_moment() {
    killed_at_any_moment(&sqlite::database().await, "SQLite").await;
}

#[tokio::test]
async fn postgresql_processes_killed_at_any_moment() {
    if let Some(server) = postgres::server() {
        killed_at_any_moment(&server.database().await, "PostgreSQL").await;
    }
}
