//! Folders of JSONL files in which anything was changed: what is read is what was written, or an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use runledger_core::{
    Category, Commit, ErrorKind, Event, EventDraft, EventType, Ledger, NewThread, RawJson, Result, RunId,
    Scope, ThreadId,
};
use runledger_integration_tests::audit::log;
use runledger_integration_tests::fault_table::is_long;
use runledger_persistence::jsonl::{JsonlConfig, JsonlLedger};

/// One change of one of the files.
#[derive(Clone, Debug)]
enum Change {
    Overwrite(usize, Vec<u8>),
    Cut(usize, usize),
    Double(usize, usize),
    Insert(usize, &'static [u8]),
    End(usize),
    Remove,
}

const PIECES: [&[u8]; 6] = [b"\n", b"\0\0\0\0", b"{\"v\":2}\n", b"\xff\xfe", b"\"seq\":1,", b"[[[[[[[["];

fn change() -> impl Strategy<Value = (usize, Change)> {
    let place = any::<usize>;
    let change = prop_oneof![
        4 => (place(), prop::collection::vec(any::<u8>(), 1..6)).prop_map(|(at, with)| Change::Overwrite(at, with)),
        2 => (place(), 1..400_usize).prop_map(|(at, count)| Change::Cut(at, count)),
        2 => (place(), 1..400_usize).prop_map(|(at, count)| Change::Double(at, count)),
        2 => (place(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, PIECES[piece])),
        2 => place().prop_map(Change::End),
        1 => Just(Change::Remove),
    ];
    (place(), change)
}

fn note(text: &str) -> EventDraft {
    let kind = EventType::new("note").expect("a type");
    EventDraft::new(kind, Category::Message, RawJson::string(text))
}

fn thread() -> ThreadId {
    ThreadId::new("t1").expect("an id")
}

async fn append(ledger: &Ledger, run: Option<&str>, text: &str) -> Result<Vec<u64>> {
    let commit = Commit {
        run_id: run.map(|run| RunId::new(run).expect("an id")),
        ..Commit::new(thread()).with_events(vec![note(text), note(&format!("{text}, and more"))])
    };
    Ok(ledger.events().append(&Scope::System, commit).await?.seqs)
}

async fn open(folder: &Path) -> Result<JsonlLedger> {
    JsonlLedger::open(folder, JsonlConfig::default()).await
}

/// The files below a folder, by their paths in it.
fn files(folder: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder.join(below)).expect("a folder") {
        let path = below.join(entry.expect("an entry").file_name());
        if folder.join(&path).is_dir() {
            files(folder, &path, found);
        } else {
            found.insert(path.clone(), fs::read(folder.join(&path)).expect("a file"));
        }
    }
}

/// A thread of two runs and records of its own, as files, and its events.
async fn written() -> (BTreeMap<PathBuf, Vec<u8>>, Vec<Event>) {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path()).await.expect("a ledger").ledger();
    ledger.threads().create(&Scope::System, NewThread::new(thread())).await.expect("a thread");
    for (number, run) in [Some("r1"), None, Some("r2"), Some("r1"), Some("r2"), None].into_iter().enumerate()
    {
        append(&ledger, run, &format!("{number} \u{2028}\0\n")).await.expect("a commit");
    }
    let events = log(&ledger, &thread()).await.expect("a log");
    let mut found = BTreeMap::new();
    files(folder.path(), Path::new(""), &mut found);
    (found, events)
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let length = bytes.len();
    let within = |at: usize| at.checked_rem(length).unwrap_or_default();
    match change {
        Change::Overwrite(at, with) => {
            let at = within(*at);
            let end = (at + with.len()).min(length);
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Change::Cut(at, count) => drop(bytes.drain(within(*at)..(within(*at) + count).min(length))),
        Change::Double(at, count) => {
            let at = within(*at);
            let twice = bytes[at..(at + count).min(length)].to_vec();
            drop(bytes.splice(at..at, twice));
        }
        Change::Insert(at, piece) => drop(bytes.splice(within(*at)..within(*at), piece.iter().copied())),
        Change::End(at) => bytes.truncate(within(*at)),
        Change::Remove => bytes.clear(),
    }
}

/// Whether an error is one that damage may have.
fn is_told(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Corrupt | ErrorKind::SchemaMismatch | ErrorKind::NotFound | ErrorKind::AlreadyExists
    )
}

async fn survives(
    original: &BTreeMap<PathBuf, Vec<u8>>,
    events: &[Event],
    changes: &[(usize, Change)],
) -> std::result::Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut changed = original.clone();
    for (file, change) in changes {
        let path = original.keys().nth(file % original.len()).expect("a file");
        match change {
            Change::Remove => drop(changed.remove(path)),
            change => changed.get_mut(path).into_iter().for_each(|bytes| apply(bytes, change)),
        }
    }
    for (path, bytes) in &changed {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    // Before and after somebody wrote, who cuts off what was torn.
    for writes in [false, true, false] {
        let ledger = match open(folder.path()).await {
            Ok(jsonl) => jsonl.ledger(),
            Err(error) => {
                prop_assert!(is_told(error.kind()), "{error}: {error:?}");
                continue;
            }
        };
        if writes && let Err(error) = append(&ledger, Some("r1"), "new").await {
            prop_assert!(is_told(error.kind()), "{error}: {error:?}");
        }
        match log(&ledger, &thread()).await {
            Err(error) => prop_assert!(is_told(error.kind()), "{error}: {error:?}"),
            Ok(found) => {
                prop_assert!(found.is_sorted_by(|a, b| a.seq < b.seq), "{found:?}");
                for event in found.iter().filter(|event| !event.content.as_str().contains("new")) {
                    prop_assert!(events.contains(event), "nobody wrote {event:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_read_was_written_whatever_was_changed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (original, events) = runtime.block_on(written());
    let drawing =
        Config { cases: if is_long() { 5_000 } else { 200 }, failure_persistence: None, ..Config::default() };
    TestRunner::new(drawing)
        .run(&prop::collection::vec(change(), 1..4), |changes| {
            runtime.block_on(survives(&original, &events, &changes))
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
