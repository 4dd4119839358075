//! What a writer that died, or a loss of power, leaves, and what the next one makes of it.

use std::fs;

use pretty_assertions::assert_eq;
use runledger_core::{Commit, ErrorKind, EventStore as _, NewThread, Scope, ThreadStore as _};
use runledger_persistence::jsonl::TornTail;

use super::scene::{Scene, files, open, run, thread};

/// A thread with commits to two runs and to itself, before and after one more commit to run `r`; the
/// records of `r` before and after.
async fn before_and_after() -> (Scene, Scene, Vec<u8>, Vec<u8>) {
    let scene = Scene::with_thread().await;
    scene.append(Some("r"), &["a", "b"]).await.unwrap();
    scene.append(None, &["c"]).await.unwrap();
    scene.append(Some("q"), &["d"]).await.unwrap();
    let before = scene.copy().await;
    scene.append(Some("r"), &["e", "f"]).await.unwrap();
    let records = |scene: &Scene| fs::read(scene.file("runs/r.jsonl")).unwrap();
    let (short, long) = (records(&before), records(&scene));
    (before, scene, short, long)
}

/// A writer that is killed leaves its mark and any part of its commit, and nothing in the index. Readers
/// show the commits that were acknowledged; the next writer goes on after them.
#[tokio::test]
async fn a_killed_writer_leaves_whole_commits_at_every_byte() {
    let (before, _after, short, long) = before_and_after().await;
    for length in short.len()..=long.len() {
        let scene = before.copy().await;
        fs::write(scene.file("runs/r.jsonl"), &long[..length]).unwrap();
        scene.leave_at_work();
        assert_eq!(scene.texts().await, ["a", "b", "c", "d"], "{length} bytes");

        let is_whole = length == long.len();
        let receipt = scene.append(Some("r"), &["next"]).await.unwrap();
        assert_eq!(receipt.seqs, [if is_whole { 7 } else { 5 }], "{length} bytes");
        let all: &[&str] =
            if is_whole { &["a", "b", "c", "d", "e", "f", "next"] } else { &["a", "b", "c", "d", "next"] };
        assert_eq!(scene.texts().await, all, "{length} bytes");
        let cut = (short.len() < length && !is_whole).then(|| TornTail {
            thread_id: thread("t"),
            file: scene.file("runs/r.jsonl"),
            kept_bytes: short.len() as u64,
            cut_bytes: (length - short.len()) as u64,
        });
        assert_eq!(scene.ledger.recovered(), Vec::from_iter(cut), "{length} bytes");
        assert_eq!(scene.reopen().await.texts().await, all, "{length} bytes");
    }
}

/// A loss of power may take the end of a file that the index and a reader know of. What is left
/// are whole commits, and the numbers that were seen are not given again.
#[tokio::test]
async fn a_loss_of_power_leaves_whole_commits_at_every_byte() {
    let (_before, after, short, long) = before_and_after().await;
    for length in short.len()..long.len() {
        // Where the size of a file was stored and its content was not, it ends with NUL.
        let size = if length % 2 == 0 { length } else { long.len() };
        let scene = after.copy().await;
        let mut bytes = long[..length].to_vec();
        bytes.resize(size, 0);
        fs::write(scene.file("runs/r.jsonl"), &bytes).unwrap();
        assert_eq!(scene.texts().await, ["a", "b", "c", "d"], "{length} of {size} bytes");
        assert_eq!(scene.append(Some("r"), &["next"]).await.unwrap().seqs, [7], "{length} of {size} bytes");
        assert_eq!(scene.texts().await, ["a", "b", "c", "d", "next"], "{length} of {size} bytes");
        let cut: u64 = scene.ledger.recovered().iter().map(|cut| cut.cut_bytes).sum();
        assert_eq!(cut, (bytes.len() - short.len()) as u64);
    }
}

/// What follows a torn tail is not swallowed by it, also where nobody left a mark and the process that
/// appends knew the thread before.
#[tokio::test]
async fn a_torn_tail_swallows_nothing() {
    let scene = Scene::with_thread().await;
    scene.append(Some("r"), &["a"]).await.unwrap();
    let whole = fs::read(scene.file("runs/r.jsonl")).unwrap();
    for garbage in [&b"{\"v\":1,\"seq\":2"[..], b"\0\0\0\0", b"\n", b"garbage\n", &whole[..whole.len() / 2]] {
        let mut torn = fs::read(scene.file("runs/r.jsonl")).unwrap();
        torn.extend_from_slice(garbage);
        fs::write(scene.file("runs/r.jsonl"), torn).unwrap();
        scene.append(Some("r"), &["b"]).await.unwrap();
    }
    assert_eq!(scene.texts().await, ["a", "b", "b", "b", "b", "b"]);
    assert_eq!(scene.ledger.recovered().len(), 5);
}

/// Recovery on request does what the next writer would.
#[tokio::test]
async fn recovery_looks_at_every_thread() {
    let (before, _after, short, long) = before_and_after().await;
    let scene = before.copy().await;
    scene.ledger.create(&Scope::System, NewThread::new(thread("other"))).await.unwrap();
    fs::write(scene.file("runs/r.jsonl"), &long[..long.len() - 1]).unwrap();
    let recovery = scene.ledger.recover().await.unwrap();
    assert_eq!((recovery.threads, recovery.failed.len()), (2, 0));
    let cut: Vec<_> = recovery.cut.iter().map(|cut| (cut.kept_bytes, cut.cut_bytes)).collect();
    assert_eq!(cut, [(short.len() as u64, (long.len() - short.len() - 1) as u64)]);
    assert_eq!(scene.ledger.recover().await.unwrap().cut, []);
}

/// Numbers go on after a deletion and a reopening, also where the index is lost.
#[tokio::test]
async fn a_deletion_never_frees_a_seq_whoever_opens() {
    let mut scene = Scene::with_thread().await;
    scene.append(Some("a"), &["1"]).await.unwrap();
    scene.append(Some("b"), &["2", "3"]).await.unwrap();
    scene.ledger.delete_by_run(&Scope::System, &thread("t"), &run("b")).await.unwrap();
    scene = scene.reopen().await;
    assert_eq!(scene.append(Some("c"), &["4"]).await.unwrap().seqs, [4]);
    scene.ledger.delete_by_thread(&Scope::System, &thread("t")).await.unwrap();
    fs::remove_dir_all(scene.file("index")).unwrap();
    fs::create_dir(scene.file("index")).unwrap();
    scene = scene.reopen().await;
    assert_eq!(scene.log().await.unwrap(), []);
    assert_eq!(scene.append(None, &["5"]).await.unwrap().seqs, [5]);
    for gone in ["a", "b", "c"] {
        assert_eq!(scene.append(Some(gone), &["late"]).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    scene.ledger.delete(&Scope::System, &thread("t")).await.unwrap();
    scene = scene.reopen().await;
    let again = scene.ledger.create(&Scope::System, NewThread::new(thread("t"))).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let left: Vec<_> = files(scene.folder.path()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, [scene.file("head.json"), scene.file("lock")]);
}

/// Whoever dies amid a deletion after the step that decides is finished by the next writer; readers see
/// nothing of what is deleted meanwhile.
#[tokio::test]
async fn a_deletion_that_was_cut_short_is_finished() {
    let full = Scene::with_thread().await;
    full.append(Some("a"), &["1"]).await.unwrap();
    full.append(None, &["2"]).await.unwrap();
    full.append(Some("b"), &["3"]).await.unwrap();

    // A run: the tombstone is there; index and head are those of before.
    let done = full.copy().await;
    done.ledger.delete_by_run(&Scope::System, &thread("t"), &run("b")).await.unwrap();
    let scene = full.copy().await;
    fs::copy(done.file("runs/b.jsonl"), scene.file("runs/b.jsonl")).unwrap();
    scene.leave_at_work();
    assert_eq!(scene.texts().await, ["1", "2"]);
    assert_eq!(scene.append(Some("b"), &["late"]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(scene.append(Some("a"), &["4"]).await.unwrap().seqs, [4]);
    assert_eq!(scene.texts().await, ["1", "2", "4"]);

    // The log: the head says so; the files are those of before.
    let done = full.copy().await;
    done.ledger.delete_by_thread(&Scope::System, &thread("t")).await.unwrap();
    for index in ["kept", "lost"] {
        let scene = done.copy().await;
        for file in ["runs/a.jsonl", "runs/b.jsonl", "thread.jsonl"] {
            fs::copy(full.file(file), scene.file(file)).unwrap();
        }
        if index == "lost" {
            fs::remove_dir_all(scene.file("index")).unwrap();
            fs::create_dir(scene.file("index")).unwrap();
        }
        scene.leave_at_work();
        assert_eq!(scene.log().await.unwrap(), [], "{index}");
        assert_eq!(scene.append(Some("a"), &["late"]).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(scene.append(None, &["4"]).await.unwrap().seqs, [4]);
        for (path, bytes) in files(scene.folder.path()) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("1\u{85}") && !text.contains("3\u{85}"), "{}: {text}", path.display());
        }
    }

    // The thread: the head says so; the files are those of before.
    let done = full.copy().await;
    done.ledger.delete(&Scope::System, &thread("t")).await.unwrap();
    let scene = full.copy().await;
    fs::copy(done.file("head.json"), scene.file("head.json")).unwrap();
    scene.leave_at_work();
    assert_eq!(scene.log().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(scene.append(None, &["late"]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!scene.file("runs/a.jsonl").exists() && !scene.file("thread.jsonl").exists());
}

/// A thread that is to be made with its first commit is not there before it, whenever the writer dies.
#[tokio::test]
async fn a_thread_is_made_with_its_first_commit_or_not_at_all() {
    let scene = Scene::new().await;
    let creating = |text| Commit {
        create_missing: Some(NewThread::new(thread("t"))),
        ..super::scene::commit("t", Some("r"), &[text])
    };
    scene.ledger.append(&Scope::System, creating("a")).await.unwrap();
    let generation = scene.file("index/0.entries");
    // Killed after the head, before any record was whole.
    fs::write(scene.file("runs/r.jsonl"), "{\"v\":1").unwrap();
    fs::write(&generation, "").unwrap();
    fs::write(scene.file("index/0.runs"), "").unwrap();
    scene.leave_at_work();
    let scene = scene.reopen().await;
    assert_eq!(scene.log().await.unwrap_err().kind(), ErrorKind::NotFound);
    let list = |ledger: runledger_persistence::jsonl::JsonlLedger| async move {
        ledger.list(&Scope::System, &Default::default(), &Default::default()).await.unwrap().items.len()
    };
    assert_eq!(list(scene.ledger.clone()).await, 0);
    assert_eq!(scene.append(Some("r"), &["x"]).await.unwrap_err().kind(), ErrorKind::NotFound);
    let scene = Scene { ledger: open(scene.folder.path()).await, ..scene };
    assert_eq!(scene.ledger.append(&Scope::System, creating("b")).await.unwrap().seqs, [1]);
    assert_eq!((scene.texts().await, list(scene.ledger.clone()).await), (vec!["b".to_owned()], 1));
}
