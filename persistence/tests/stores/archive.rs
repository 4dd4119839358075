//! Threads from one place to another: nothing is lost, nothing is half there, and what is damaged is told.

use std::fs;
use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runledger_core::{
    BlobForm, BlobHash, BlobRef, Category, Commit, ErrorKind, EventDraft, EventType, Finish, ImportCursor,
    ImportSource, JournalMark, Ledger, MemoryLedger, MultitaskStrategy, NewBlob, NewRun, NewThread, Outcome,
    RawJson, RunId, RunProgress, RunStatus, Scope, SeqRange, ThreadId, Timestamp,
};
use runledger_persistence::SqlLedger;
use runledger_persistence::archive::{CopyOptions, CopyReport, Place, copy};
use sea_orm::ConnectionTrait;

use crate::backend;
use crate::oracle::{edit, read, same, seq_ranges, write};

const VERIFIED: CopyOptions = CopyOptions { threads: None, replace: false, verify: true };
const REPLACING: CopyOptions = CopyOptions { threads: None, replace: true, verify: true };

async fn copied(from: &Place, to: &Place, options: &CopyOptions) -> CopyReport {
    copy(from, to, options, |_| {}).await.unwrap()
}

/// Copies all threads, which are `count`, and finds them equal.
async fn copied_all(from: &Place, to: &Place, count: u64) {
    let report = copied(from, to, &VERIFIED).await;
    assert_eq!((report.copied, report.verified, report.refused), (count, count, 0), "{report:?}");
    let again = copied(from, to, &VERIFIED).await;
    assert_eq!((again.equal, again.copied, again.refused), (count, 0, 0), "{again:?}");
}

fn ledger_of(place: &Place) -> &SqlLedger {
    match place {
        Place::Ledger(ledger) => ledger,
        Place::Folder(folder) => panic!("{} is no ledger", folder.display()),
    }
}

fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

fn message(text: &str) -> EventDraft {
    EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::string(text))
}

async fn append(ledger: &Ledger, id: &str, texts: &[&str]) -> Vec<u64> {
    let commit = Commit {
        create_missing: Some(NewThread::new(thread(id))),
        ..Commit::new(thread(id)).with_events(texts.iter().map(|text| message(text)).collect())
    };
    ledger.events().append(&Scope::System, commit).await.unwrap().seqs
}

async fn admit(ledger: &Ledger, id: &str, run: &str, strategy: MultitaskStrategy) -> u64 {
    let mut new = NewRun::new(thread(id), RunId::new(run).unwrap());
    new.admission.multitask_strategy = strategy;
    new.input = vec![message(&format!("input of {run}"))];
    ledger.admit(&Scope::System, new).await.unwrap().run.epoch
}

async fn finish(ledger: &Ledger, id: &str, run: &str, epoch: u64) {
    let finish = Finish {
        thread_id: thread(id),
        run_id: RunId::new(run).unwrap(),
        mark: JournalMark { epoch, ordinal: 0 },
        outcome: Outcome::success(),
        at: Timestamp::now(),
        events: vec![EventDraft::terminal(&Outcome::success(), None, Timestamp::now())],
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(&Scope::System, finish).await.unwrap();
}

/// Rows of the tables that no store writes yet, with what is hard to carry.
async fn write_rows(url: &str) {
    let database = sea_orm::Database::connect(url).await.unwrap();
    for sql in [
        "INSERT INTO compactions (thread_id, compact_seq, note_seq, folded, active_window, through_seq, before_tokens, \
         after_tokens, run_id, created_at) VALUES ('a', 3, 4, '[1,2]', '[4]', 4, 9007199254740993, 1, 'r1', '2026-11-21T08:00:00.123456+00:00')",
        "INSERT INTO quarantine (thread_id, quarantine_id, reason, content_hash, content, created_at) \
         VALUES ('a', 'q1', 'no JSON', 'h', 'a\u{2028}b\r\n\"', '2026-11-21T08:00:00+00:00')",
        "INSERT INTO agent_runs (agent_run_id, agent, thread_id, goal, status, steps, confidence, iterations, tool_calls, \
         input_tokens, output_tokens, started_at, created_at) VALUES ('x', 'agent', 'a', 'goal', 'success', \
         '[{\"n\": 12345678901234567890123, \"m\": 1.50, \"é\": \"\\u0001\"}]', 0.1, 1, 2, 3, 4, '2026-11-21T08:00:00+00:00', \
         '2026-11-21T08:00:00+00:00')",
    ] {
        database.execute_unprepared(sql).await.unwrap();
    }
    database.close().await.unwrap();
}

/// A ledger with all there can be, and the memory ledger that answers as it does.
async fn full(url: &str, ledger: &Ledger) -> Ledger {
    let memory = MemoryLedger::new().ledger();
    for ledger in [&memory, ledger] {
        write(ledger).await.unwrap();
        // A deleted thread, an emptied log and edits of all kinds among them.
        for step in 0..15 {
            edit(ledger, step).await;
        }
        odd(ledger).await;
    }
    write_rows(url).await;
    memory
}

/// A thread whose id is no file's name.
fn odd_thread() -> ThreadId {
    thread("no file's name/..\u{e9}")
}

/// What an image might hold: every byte, and more of them than a line of text has.
fn picture() -> Vec<u8> {
    (0..=255).cycle().take(300_000).collect()
}

/// It has a text that is hard to carry, and a picture.
async fn odd(ledger: &Ledger) {
    let at = Timestamp::from_unix_micros(1_767_225_600_123_456).unwrap();
    let blob = NewBlob {
        event: 1,
        hash: BlobHash::of(&picture()),
        media_type: "image/png".to_owned(),
        bytes: picture(),
    };
    let named = BlobRef {
        blob: blob.hash.clone(),
        bytes: 300_000,
        media_type: blob.media_type.clone(),
        form: BlobForm::DataUrl,
        preview: None,
    };
    let texts = [message("\u{2028}\0\r\n\u{10ffff}"), message("")];
    let mut events = texts.map(|event| EventDraft { created_at: at, ..event }).to_vec();
    events[1].content = RawJson::encode("content", &named).unwrap();
    let commit = Commit {
        create_missing: Some(NewThread { created_at: at, ..NewThread::new(odd_thread()) }),
        blobs: vec![blob],
        ..Commit::new(odd_thread()).with_events(events)
    };
    ledger.events().append(&Scope::System, commit).await.unwrap();
}

async fn answers_as(memory: &Ledger, place: &Place) {
    let ranges = seq_ranges();
    same(&read(memory, &ranges).await, &read(ledger_of(place), &ranges).await);
    let (scope, odd) = (Scope::System, odd_thread());
    let blobs = ledger_of(place).blobs();
    let listed = memory.blobs().list(&scope, &odd, None, 10).await.unwrap();
    assert_eq!(blobs.list(&scope, &odd, None, 10).await.unwrap(), listed);
    assert_eq!(blobs.get(&scope, &odd, &listed[0].hash).await.unwrap().bytes, picture());
}

#[tokio::test]
async fn everything_goes_along_from_place_to_place() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, fresh) = backend::sqlite().await;
    let memory = full(&fresh.url, &ledger).await;
    let source = Place::Ledger(ledger);
    let archives = Place::Folder(folder.path().join("from-sqlite"));
    // Those of the oracle, the deleted one among them, and the one with the odd id.
    let count = 7;
    copied_all(&source, &archives, count).await;
    let mut last = archives.clone();
    if let Some((ledger, _fresh)) = backend::postgresql().await {
        let postgresql = Place::Ledger(ledger);
        copied_all(&source, &postgresql, count).await;
        answers_as(&memory, &postgresql).await;
        // Both ways around: the documents are spelled otherwise by now.
        let report = copied(&archives, &postgresql, &VERIFIED).await;
        assert_eq!((report.equal, report.refused), (count, 0), "{report:?}");
        last = Place::Folder(folder.path().join("from-postgresql"));
        copied_all(&postgresql, &last, count).await;
        ledger_of(&postgresql).close().await;
    }
    let (other, _other_fresh) = backend::sqlite().await;
    let other = Place::Ledger(other);
    copied_all(&last, &other, count).await;
    answers_as(&memory, &other).await;
    let report = copied(&source, &other, &VERIFIED).await;
    assert_eq!((report.equal, report.refused), (count, 0), "{report:?}");

    let in_memory = Place::Ledger(backend::sqlite_memory().await);
    copied_all(&other, &in_memory, count).await;
    answers_as(&memory, &in_memory).await;
    for place in [&source, &other, &in_memory] {
        ledger_of(place).close().await;
    }
}

/// What is copied lives on: numbers, queues and runs that have not ended.
async fn life_goes_on(from: &Place, to: &Place, folder: &Path) {
    let ledger = ledger_of(from);
    append(ledger, "t", &["one", "two"]).await;
    let epoch = admit(ledger, "t", "r1", MultitaskStrategy::Reject).await;
    admit(ledger, "t", "r2", MultitaskStrategy::Enqueue).await;
    let gone = append(ledger, "gone", &["one"]).await;
    assert_eq!(gone, [1]);
    ledger.threads().delete(&Scope::System, &thread("gone")).await.unwrap();

    let archives = Place::Folder(folder.join("archives"));
    copied_all(from, &archives, 2).await;
    copied_all(&archives, to, 2).await;
    let ledger = ledger_of(to);
    assert_eq!(append(ledger, "t", &["four"]).await, [4]);
    finish(ledger, "t", "r1", epoch).await;
    let run = |id| RunId::new(id).unwrap();
    let waited = ledger.runs().get(&Scope::System, &thread("t"), &run("r2")).await.unwrap();
    assert_eq!(waited.status, RunStatus::Pending);
    assert!(waited.epoch > epoch);
    let last = ledger
        .events()
        .list_messages(&Scope::System, &thread("t"), runledger_core::RunVisibility::Shown, &SeqRange::last(1))
        .await
        .unwrap();
    assert_eq!(last.items[0].content, RawJson::string("input of r2"));
    let revived = ledger.threads().create(&Scope::System, NewThread::new(thread("gone"))).await;
    assert_eq!(revived.unwrap_err().kind(), ErrorKind::AlreadyExists);
    for place in [from, to] {
        ledger_of(place).close().await;
    }
}

#[tokio::test]
async fn life_goes_on_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, _from), (to, _to)) = (backend::sqlite().await, backend::sqlite().await);
    life_goes_on(&Place::Ledger(from), &Place::Ledger(to), folder.path()).await;
}

#[tokio::test]
async fn life_goes_on_on_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let (Some((from, _from)), Some((to, _to))) = (backend::postgresql().await, backend::postgresql().await)
    else {
        return;
    };
    life_goes_on(&Place::Ledger(from), &Place::Ledger(to), folder.path()).await;
}

/// A thread that is there with other content stays as it is, until it is to be replaced.
async fn another_thread_is_not_overwritten(from: &Place, to: &Place, folder: &Path) {
    let archives = Place::Folder(folder.join("archives"));
    append(ledger_of(from), "t", &["one"]).await;
    append(ledger_of(to), "t", &["another"]).await;
    append(ledger_of(from), "u", &["one"]).await;
    for (from, to, others) in [(from, to, 1), (from, &archives, 2), (&archives, to, 0)] {
        let report = copied(from, to, &VERIFIED).await;
        assert_eq!(report.copied, others, "{report:?}");
    }
    let report = copied(from, to, &VERIFIED).await;
    assert_eq!((report.equal, report.refused), (1, 1));
    assert_eq!(report.refusals[0].thread, "t");
    assert_eq!(report.refusals[0].error.kind(), ErrorKind::Conflict);
    assert_eq!(append(ledger_of(to), "t", &["and more"]).await, [2]);

    // A run that is under way is not replaced.
    let epoch = admit(ledger_of(to), "t", "r", MultitaskStrategy::Reject).await;
    let report = copied(from, to, &REPLACING).await;
    assert_eq!((report.equal, report.refused), (1, 1));
    finish(ledger_of(to), "t", "r", epoch).await;
    let report = copied(from, to, &REPLACING).await;
    assert_eq!((report.equal, report.copied, report.replaced, report.verified), (1, 1, 1, 1));
    assert_eq!(append(ledger_of(to), "t", &["two"]).await, [2]);
    let report = copied(to, &archives, &REPLACING).await;
    assert_eq!((report.equal, report.replaced), (1, 1));
    for place in [from, to] {
        ledger_of(place).close().await;
    }
}

#[tokio::test]
async fn another_thread_is_not_overwritten_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, _from), (to, _to)) = (backend::sqlite().await, backend::sqlite().await);
    another_thread_is_not_overwritten(&Place::Ledger(from), &Place::Ledger(to), folder.path()).await;
}

#[tokio::test]
async fn another_thread_is_not_overwritten_on_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let (Some((from, _from)), (to, _to)) = (backend::postgresql().await, backend::sqlite().await) else {
        return;
    };
    another_thread_is_not_overwritten(&Place::Ledger(from), &Place::Ledger(to), folder.path()).await;
}

#[tokio::test]
async fn threads_are_chosen_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, _from), (to, _to)) = (backend::sqlite().await, backend::sqlite().await);
    for id in ["t", "u", "v/w"] {
        append(&from, id, &["one"]).await;
    }
    let (from, to) = (Place::Ledger(from), Place::Ledger(to));
    let archives = Place::Folder(folder.path().to_owned());
    let only = |ids: &[&str]| CopyOptions {
        threads: Some(ids.iter().map(|id| thread(id)).collect()),
        ..CopyOptions::default()
    };
    let report = copied(&from, &archives, &only(&["v/w", "t", "none"])).await;
    assert_eq!((report.copied, report.refused), (2, 1));
    assert_eq!(report.refusals[0].error.kind(), ErrorKind::NotFound);
    let report = copied(&archives, &to, &only(&["v/w", "u"])).await;
    assert_eq!((report.copied, report.refused), (1, 1));
    let one = Place::Folder(folder.path().join("t.jsonl"));
    assert_eq!(copied(&one, &to, &VERIFIED).await.copied, 1);
    for place in [&from, &to] {
        ledger_of(place).close().await;
    }
}

#[tokio::test]
async fn a_thread_of_many_pages_is_copied_whole() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, _from), (to, _to)) = (backend::sqlite().await, backend::sqlite().await);
    let long = "x".repeat(900_000);
    for n in 0..30 {
        append(&from, "t", &[n.to_string().as_str(); 100]).await;
        append(&from, "t", &[&long]).await;
    }
    let (from, to) = (Place::Ledger(from), Place::Ledger(to));
    let archives = Place::Folder(folder.path().to_owned());
    copied_all(&from, &archives, 1).await;
    let report = copied(&archives, &to, &VERIFIED).await;
    assert_eq!((report.verified, report.rows["run_events"]), (1, 3_030));
    for place in [&from, &to] {
        ledger_of(place).close().await;
    }
}

/// While others write, a thread is copied as it was at one moment.
async fn a_copy_is_of_one_moment(from: Place, folder: &Path) {
    let ledger = ledger_of(&from).clone();
    append(&ledger, "t", &["0"]).await;
    let writing = tokio::spawn(async move {
        for n in 1..200 {
            append(&ledger, "t", &[&n.to_string(), "and"]).await;
        }
    });
    let mut copies = 0;
    while !writing.is_finished() {
        let report = copied(&from, &Place::Folder(folder.join(copies.to_string())), &VERIFIED).await;
        assert_eq!((report.verified, report.refused), (1, 0), "{report:?}");
        copies += 1;
    }
    writing.await.unwrap();
    ledger_of(&from).close().await;
}

#[tokio::test]
async fn a_copy_is_of_one_moment_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let (from, _from) = backend::sqlite().await;
    a_copy_is_of_one_moment(Place::Ledger(from), folder.path()).await;
}

#[tokio::test]
async fn a_copy_is_of_one_moment_on_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    if let Some((from, _from)) = backend::postgresql().await {
        a_copy_is_of_one_moment(Place::Ledger(from), folder.path()).await;
    }
}

/// How far an import came says nothing of a log that takes the place of the one it was read into.
#[tokio::test]
async fn a_thread_that_is_replaced_forgets_how_far_imports_came() {
    let folder = tempfile::tempdir().unwrap();
    let (place, _place) = backend::sqlite().await;
    let cursor = |source: &str| ImportCursor {
        source: ImportSource::new(source).unwrap(),
        byte_offset: 5_000,
        last_line_hash: None,
        updated_at: Timestamp::from_unix_micros(0).unwrap(),
    };
    for (id, source) in [("t", "a"), ("other", "b")] {
        append(&place, id, &["one"]).await;
        place.imports().set_cursor(&Scope::System, &thread(id), cursor(source)).await.unwrap();
    }
    let (place, older) = (Place::Ledger(place), Place::Folder(folder.path().join("t.jsonl")));
    let of_t = CopyOptions { threads: Some(vec![thread("t")]), ..REPLACING };
    copied(&place, &Place::Folder(folder.path().to_owned()), &of_t).await;
    append(ledger_of(&place), "t", &["two"]).await;
    copied(&older, &place, &REPLACING).await;
    let imports = ledger_of(&place).imports();
    let there = async |id, source: &str| {
        let source = ImportSource::new(source).unwrap();
        imports.cursor(&Scope::System, &thread(id), &source).await.unwrap()
    };
    assert_eq!((there("t", "a").await, there("other", "b").await), (None, Some(cursor("b"))));
    ledger_of(&place).close().await;
}

#[tokio::test]
async fn one_at_a_time_writes_to_a_folder_and_leftovers_go() {
    let folder = tempfile::tempdir().unwrap();
    let (from, _from) = backend::sqlite().await;
    append(&from, "t", &["one"]).await;
    let (from, to) = (Place::Ledger(from), Place::Folder(folder.path().to_owned()));
    copied_all(&from, &to, 1).await;
    fs::write(folder.path().join("u.jsonl.tmp"), "half").unwrap();
    let held = fs::File::open(folder.path().join("lock")).unwrap();
    held.lock().unwrap();
    let refused = copy(&from, &to, &VERIFIED, |_| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    drop(held);
    copied(&from, &to, &VERIFIED).await;
    assert!(!folder.path().join("u.jsonl.tmp").exists());
    ledger_of(&from).close().await;
}

/// An archive of a thread with a little of everything, and the rows that it has of each table.
async fn archive(folder: &Path) -> PathBuf {
    let (from, _from) = backend::sqlite().await;
    append(&from, "t", &["one", "two"]).await;
    let epoch = admit(&from, "t", "r1", MultitaskStrategy::Reject).await;
    finish(&from, "t", "r1", epoch).await;
    let from = Place::Ledger(from);
    copied_all(&from, &Place::Folder(folder.to_owned()), 1).await;
    ledger_of(&from).close().await;
    folder.join("t.jsonl")
}

/// A damaged archive is refused, and leaves nothing.
async fn is_refused(bytes: &[u8], into: &SqlLedger, how: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.jsonl");
    fs::write(&file, bytes).unwrap();
    let report = copied(&Place::Folder(file), &Place::Ledger(into.clone()), &CopyOptions::default()).await;
    assert_eq!((report.copied, report.refused), (0, 1), "{how}");
    let kind = report.refusals[0].error.kind();
    assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::SchemaMismatch), "{how}: {report:?}");
    let there = into.threads().get(&Scope::System, &thread("t")).await;
    assert_eq!(there.unwrap_err().kind(), ErrorKind::NotFound, "{how}");
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(runtime.block_on(archive(folder.path()))).unwrap();
    let (into, _fresh) = runtime.block_on(backend::sqlite());
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for left_out in 0..lines.len() {
        let mut kept = lines.clone();
        kept.remove(left_out);
        runtime.block_on(is_refused(&kept.concat(), &into, &format!("without line {left_out}")));
        let doubled = [&lines[..=left_out], &lines[left_out..]].concat().concat();
        runtime.block_on(is_refused(&doubled, &into, &format!("with line {left_out} twice")));
    }
    let cases = Config { cases: 64, failure_persistence: None, ..Config::default() };
    TestRunner::new(cases)
        .run(&(any::<proptest::sample::Index>(), 1..=255u8, any::<bool>()), |(place, change, cuts)| {
            let mut damaged = bytes.clone();
            let place = place.index(bytes.len());
            if cuts {
                damaged.truncate(place)
            } else {
                damaged[place] ^= change
            }
            runtime.block_on(is_refused(&damaged, &into, &format!("byte {place}, {change}, {cuts}")));
            Ok(())
        })
        .unwrap();
    runtime.block_on(into.close());
}

/// Rows that contradict each other are refused, on whatever way they came.
#[tokio::test]
async fn rows_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (sql, what)) in [
        ("UPDATE thread_heads SET next_seq = 2", "again"),
        ("UPDATE thread_heads SET message_count = 7", "messages"),
        ("UPDATE thread_heads SET active_run_id = 'r'", "active run"),
        ("UPDATE runs SET status = 'running'", "active run"),
        ("DELETE FROM threads", "threads"),
    ]
    .into_iter()
    .enumerate()
    {
        let (from, fresh) = backend::sqlite().await;
        append(&from, "t", &["one", "two"]).await;
        let epoch = admit(&from, "t", "r1", MultitaskStrategy::Reject).await;
        finish(&from, "t", "r1", epoch).await;
        let database = sea_orm::Database::connect(&fresh.url).await.unwrap();
        database.execute_unprepared(sql).await.unwrap();
        database.close().await.unwrap();
        let from = Place::Ledger(from);
        let to = folder.path().join(number.to_string());
        let report = copied(&from, &Place::Folder(to.clone()), &VERIFIED).await;
        assert_eq!(report.refused, 1, "{sql}");
        let told = report.refusals[0].error.to_string();
        assert!(told.contains(what), "{told}");
        assert!(!to.join("t.jsonl").exists() && !to.join("t.jsonl.tmp").exists());
        ledger_of(&from).close().await;
    }
}

/// What a person sees who opens an archive.
#[tokio::test]
async fn an_archive_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(archive(folder.path()).await).unwrap();
    let types = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["v"], &line["run_id"]), (&1.into(), &serde_json::Value::Null));
        line["type"].as_str().unwrap().to_owned()
    });
    let types: Vec<String> = types.collect();
    assert_eq!(types[..4], ["archive", "thread_heads", "threads", "runs"]);
    assert_eq!(types[4..types.len() - 1], vec!["run_events"; types.len() - 5]);
    assert_eq!(types[types.len() - 1], "archive.end");
    let event = text.lines().find(|line| line.contains(r#""type":"run_events""#)).unwrap();
    assert!(event.contains(r#""content":"\"one\"""#), "{event}");
}
