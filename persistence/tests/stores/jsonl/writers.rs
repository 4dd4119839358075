//! Many who write one folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};

use pretty_assertions::assert_eq;
use runledger_core::{ErrorKind, EventStore as _, Receipt, Scope};
use runledger_persistence::jsonl::{Durability, JsonlConfig, JsonlLedger};

use super::scene::{Scene, commit, log, open, texts};

/// Names the folder that a writer process works on.
const FOLDER: &str = "RUNLEDGER_TEST_JSONL_FOLDER";

/// Several ledgers over one folder, many tasks each: no gap, no double, commits stay together.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ledgers_over_one_folder_leave_no_gap() {
    let scene = Scene::with_thread().await;
    let mut tasks = Vec::new();
    for ledger in 0..3 {
        let jsonl = open(scene.folder.path()).await;
        for writer in 0..6 {
            let jsonl = jsonl.clone();
            tasks.push(tokio::spawn(async move {
                let (of, mut seqs) = (format!("r{}", writer % 3), Vec::new());
                for n in 0..10 {
                    let text = format!("{ledger}.{writer}.{n}");
                    let commit = commit("t", Some(&of), &[&text, &text]);
                    seqs.push(jsonl.append(&Scope::System, commit).await.unwrap().seqs);
                    log(&jsonl, "t").await.unwrap();
                }
                seqs
            }));
        }
    }
    let mut given = Vec::new();
    for task in tasks {
        given.extend(task.await.unwrap());
    }
    assert!(given.iter().all(|seqs| seqs.len() == 2 && seqs[0] + 1 == seqs[1]));
    let all: BTreeSet<u64> = given.into_iter().flatten().collect();
    assert_eq!(all, (1..=360).collect());
    let events = scene.log().await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=360).collect::<Vec<_>>());
    assert_eq!(scene.ledger.recovered(), []);
}

/// Deletions and appends of several ledgers meet: what was appended after the deletion is there, what was
/// deleted is not, and no number is given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deletions_and_appends_meet() {
    let scene = Scene::with_thread().await;
    let (one, other) = (open(scene.folder.path()).await, open(scene.folder.path()).await);
    let deleting = tokio::spawn(async move {
        for n in 0..20 {
            let doomed = format!("doomed{n}");
            one.append(&Scope::System, commit("t", Some(&doomed), &["gone"])).await.unwrap();
            let (t, doomed) = (super::scene::thread("t"), super::scene::run(&doomed));
            assert_eq!(one.delete_by_run(&Scope::System, &t, &doomed).await.unwrap().events, 1);
        }
    });
    let mut seqs = BTreeSet::new();
    for _ in 0..60 {
        let receipt = other.append(&Scope::System, commit("t", Some("kept"), &["kept"])).await.unwrap();
        assert!(receipt.seqs.iter().all(|seq| seqs.insert(*seq)));
        log(&scene.ledger, "t").await.unwrap();
    }
    deleting.await.unwrap();
    let events = scene.log().await.unwrap();
    let left: Vec<u64> = events
        .iter()
        .filter(|event| texts(std::slice::from_ref(event)) == ["kept"])
        .map(|event| event.seq)
        .collect();
    assert_eq!((left.len(), events.len()), (60, 60));
    assert_eq!(scene.append(None, &["next"]).await.unwrap().seqs, [81]);
}

/// A caller that goes away leaves a whole commit or none, and the lock only when the work is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancelled_caller_leaves_whole_commits() {
    let scene = Scene::with_thread().await;
    for n in 0..50 {
        let mut append = Box::pin(scene.append(Some("r"), &["a", "b", "c"]));
        for _ in 0..n % 5 {
            let _: Poll<_> = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(append);
    }
    assert_eq!(scene.append(None, &["last"]).await.unwrap().seqs.len(), 1);
    let events = scene.log().await.unwrap();
    assert_eq!(events.len() % 3, 1);
    assert!(texts(&events[..events.len() - 1]).chunks(3).all(|commit| commit == ["a", "b", "c"]));
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=events.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(scene.ledger.recovered(), []);
}

/// A commit that the file system refuses leaves nothing, and the next one is stored.
#[tokio::test]
async fn a_refused_write_leaves_nothing() {
    let scene = Scene::with_thread().await;
    scene.append(Some("r"), &["a"]).await.unwrap();
    let aside = scene.file("index.aside");
    fs::rename(scene.file("runs"), &aside).unwrap();
    fs::write(scene.file("runs"), "no folder").unwrap();
    let error = scene.append(Some("new"), &["b"]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Backend | ErrorKind::Unavailable), "{error:?}");
    fs::remove_file(scene.file("runs")).unwrap();
    fs::rename(&aside, scene.file("runs")).unwrap();
    assert_eq!(scene.append(Some("new"), &["c"]).await.unwrap().seqs, [2]);
    assert_eq!(scene.texts().await, ["a", "c"]);
    assert_eq!(scene.ledger.recovered(), []);
}

/// With every durability, what was acknowledged is there for the next process.
#[tokio::test]
async fn an_acknowledged_commit_is_there_after_reopening() {
    for durability in [Durability::Flush, Durability::Sync] {
        let scene = Scene::with_thread().await;
        let config = JsonlConfig { durability, ..JsonlConfig::default() };
        let ledger = JsonlLedger::open(scene.folder.path(), config).await.unwrap();
        for of in [None, Some("r"), Some("r")] {
            ledger.append(&Scope::System, commit("t", of, &["a"])).await.unwrap();
        }
        drop(ledger);
        assert_eq!(scene.reopen().await.texts().await, ["a", "a", "a"], "{durability:?}");
    }
}

/// Few threads are remembered, and all of them are written to.
#[tokio::test]
async fn more_threads_than_are_remembered_are_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let config = JsonlConfig { cached_threads: 2, ..JsonlConfig::default() };
    let ledger = JsonlLedger::open(folder.path(), config).await.unwrap();
    for round in 0..3 {
        for id in ["a", "b", "c", "d"] {
            let new = runledger_core::NewThread::new(super::scene::thread(id));
            let commit = runledger_core::Commit { create_missing: Some(new), ..commit(id, None, &["x"]) };
            assert_eq!(ledger.append(&Scope::System, commit).await.unwrap().seqs, [round + 1]);
        }
    }
}

/// A process whose files end at 20 kB; `signal` is what it does about the signal that says so.
#[cfg(unix)]
fn limited_process(signal: &str, folder: &Path) -> std::process::Output {
    let script = format!(r#"{signal}; ulimit -c 0; ulimit -f 40; exec "$0" "$@""#);
    let mut process = Command::new("sh");
    process.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    as_process(process, "a_limited_process", folder).output().unwrap()
}

/// A commit of which only a part fits on the disk leaves nothing, and others go on.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_leaves_whole_commits() {
    let scene = Scene::with_thread().await;
    let output = limited_process("trap '' XFSZ", scene.folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let acknowledged = String::from_utf8(output.stdout).unwrap().lines().filter_map(stored).count() as u64;
    assert!(acknowledged > 3, "{acknowledged}");
    let events = scene.log().await.unwrap();
    assert_eq!(events.len() as u64, 2 * acknowledged + 1);
    assert_eq!(texts(&events).last().map(String::as_str), Some("beside"));
    assert_eq!(scene.append(Some("full"), &["now"]).await.unwrap().seqs, [2 * acknowledged + 2]);
    assert_eq!(scene.ledger.recovered(), []);
}

/// A process that dies while it writes a record is noticed by one that knew the thread before and writes
/// to another file of it.
#[cfg(unix)]
#[tokio::test]
async fn a_process_that_dies_at_work_is_noticed() {
    let scene = Scene::with_thread().await;
    scene.append(Some("known"), &["a"]).await.unwrap();
    let output = limited_process("trap - XFSZ", scene.folder.path());
    assert!(!output.status.success());
    let acknowledged = String::from_utf8(output.stdout).unwrap().lines().filter_map(stored).count() as u64;
    assert!(acknowledged > 3, "{acknowledged}");
    assert_eq!(scene.append(Some("known"), &["b"]).await.unwrap().seqs, [2 * acknowledged + 2]);
    assert_eq!(scene.ledger.recovered().len(), 1);
    assert_eq!(scene.log().await.unwrap().len() as u64, 2 * acknowledged + 2);
}

/// Not a test of its own: a process whose files cannot grow.
#[tokio::test]
#[ignore = "run as a process by other tests"]
async fn a_limited_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let jsonl = open(Path::new(&folder)).await;
    let text = "x".repeat(700);
    loop {
        match jsonl.append(&Scope::System, commit("t", Some("full"), &[&text, &text])).await {
            Ok(receipt) => tell(&receipt, "x"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
                break;
            }
        }
    }
    jsonl.append(&Scope::System, commit("t", Some("beside"), &["beside"])).await.unwrap();
    assert_eq!(jsonl.recovered(), []);
}

/// Not a test of its own: what the processes below run.
#[tokio::test]
#[ignore = "run as a process by other tests"]
async fn a_writer_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let jsonl = open(Path::new(&folder)).await;
    let of = format!("r{}", std::process::id());
    for n in 0..std::env::var("COMMITS").unwrap().parse().unwrap() {
        let text = format!("{of}.{n}");
        let receipt = jsonl.append(&Scope::System, commit("t", Some(&of), &[&text, &text])).await.unwrap();
        tell(&receipt, &text);
    }
}

fn writer_process(folder: &Path, commits: usize) -> std::process::Child {
    let process = Command::new(std::env::current_exe().unwrap());
    as_process(process, "a_writer_process", folder).env("COMMITS", commits.to_string()).spawn().unwrap()
}

/// Lets a process run one test of this file.
fn as_process(mut process: Command, test: &str, folder: &Path) -> Command {
    process
        .args(["--exact", &format!("jsonl::writers::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    process
}

/// Says that a commit of two events was acknowledged.
fn tell(receipt: &Receipt, text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nstored {} {} {text}", receipt.seqs[0], receipt.seqs[1]).unwrap();
    out.flush().unwrap();
}

/// What a process says that it stored, as `(seq, seq, text)`.
fn stored(line: &str) -> Option<(u64, u64, String)> {
    let mut words = line.strip_prefix("stored ")?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.to_owned()))
}

async fn require_stored(scene: &Scene, stored: &[(u64, u64, String)]) {
    let events = scene.log().await.unwrap();
    let found = texts(&events);
    for (first, second, text) in stored {
        for seq in [first, second] {
            let place = events.iter().position(|event| event.seq == *seq).unwrap();
            assert_eq!(&found[place], text, "seq {seq}");
        }
    }
    let last = events.len() as u64;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    assert!(found.chunks(2).all(|commit| commit[0] == commit[1]), "{found:?}");
}

/// Several processes on one thread: no gap, no double, each commit together.
#[tokio::test]
async fn processes_on_one_thread_leave_no_gap() {
    let scene = Scene::with_thread().await;
    let processes: Vec<_> = (0..4).map(|_| writer_process(scene.folder.path(), 40)).collect();
    let mut acknowledged = Vec::new();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        acknowledged.extend(String::from_utf8(output.stdout).unwrap().lines().filter_map(stored));
    }
    assert_eq!(acknowledged.len(), 160);
    require_stored(&scene, &acknowledged).await;
    assert_eq!(scene.log().await.unwrap().len(), 320);
}

/// Processes that are killed while they write lose nothing that they acknowledged, and leave no half
/// commit; others go on beside them.
#[tokio::test]
async fn killed_processes_lose_nothing_they_acknowledged() {
    let scene = Scene::with_thread().await;
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let mut killed = writer_process(scene.folder.path(), 1_000_000);
        let beside = writer_process(scene.folder.path(), 10);
        let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
        acknowledged.extend(
            lines.by_ref().map_while(|line| line.ok()).filter_map(|line| stored(&line)).take(3 + round),
        );
        killed.kill().unwrap();
        killed.wait().unwrap();
        acknowledged.extend(lines.map_while(|line| line.ok()).filter_map(|line| stored(&line)));
        let output = beside.wait_with_output().unwrap();
        assert!(output.status.success());
        acknowledged.extend(String::from_utf8(output.stdout).unwrap().lines().filter_map(stored));
        scene.append(Some("between"), &["x", "x"]).await.unwrap();
    }
    require_stored(&scene, &acknowledged).await;
}
