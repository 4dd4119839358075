//! What dead processes left: recovered once, whatever happened to the files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    ErrorKind, Event, EventFilter, ItemFilter, ItemId, ItemKind, ItemMark, ItemStatus, Ledger, Outcome,
    OwnerId, RawJson, RunStatus, Scope, SeqRange, Timestamp,
};
use runledger_journal::callbacks::{ItemRecord, RuntimeCallbacks};
use runledger_journal::spool::{
    FENCED_EVENT, Recovered, Recovery, RecoveryReport, SpoolState, list, recover, recover_fenced,
};
use runledger_journal::{QUARANTINED, RunJournal, Settings};
use runledger_migration::{UpOptions, up};
use runledger_persistence::{Config, SqlLedger, connect};

use crate::faults::{Faulty, begin, change, events, log, new_run, run, thread};
use crate::spool::{files, names, spent, spooling, take_away};

const NO_PATIENCE: Duration = Duration::ZERO;

async fn recovered(ledger: &Ledger, folder: &Path) -> RecoveryReport {
    recover(ledger, &Scope::System, folder, NO_PATIENCE).await.unwrap()
}

/// A run whose journal left `batches` batches of two changes in the folder.
async fn left_behind(faulty: &Faulty, folder: &Path, batches: usize) -> PathBuf {
    let journal = begin(faulty, spooling(folder)).await;
    faulty.set_away(true);
    for batch in 0..batches {
        names(2 * batch..2 * batch + 2).iter().for_each(|name| change(&journal, name));
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let report = journal.close().await.unwrap();
    assert_eq!((report.left_in_spool, report.lost), (2 * batches as u64, 0));
    faulty.set_away(false);
    report.spool_file.unwrap()
}

/// A ledger with the run as it was admitted, and nothing else.
async fn admitted() -> Faulty {
    let faulty = Faulty::new([]);
    faulty.inner.ledger().admit(&Scope::System, new_run()).await.unwrap();
    faulty
}

fn kinds(report: &RecoveryReport) -> Vec<Recovery> {
    report.files.iter().map(|file| file.recovery).collect()
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_dropped_leaves_a_file_that_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    faulty.set_away(true);
    names(0..30).iter().for_each(|name| change(&journal, name));
    spent(&journal, "s");
    drop(journal);
    // Its writer is at work still, and holds the file.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kinds(&recovered(&faulty.ledger(), folder.path()).await), [Recovery::Held]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The database is away still: the file stays.
    let report = recovered(&faulty.ledger(), folder.path()).await;
    assert_eq!((kinds(&report), report.is_complete()), (vec![Recovery::Left], false));
    faulty.set_away(false);
    let report = recovered(&faulty.ledger(), folder.path()).await;
    let expected = Recovered {
        recovery: Recovery::Stored,
        file: report.files[0].file.clone(),
        thread_id: Some(thread()),
        run_id: Some(run()),
        written: 30,
        already_stored: 0,
        fenced: 0,
        quarantined: 0,
        usage_lost: 0,
        cut_bytes: 0,
        reason: None,
    };
    assert_eq!(report.files, [expected]);
    assert_eq!(log(&faulty).await[1..], names(0..30));
    let stored = faulty.inner.ledger().runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!((stored.status, stored.totals.subagent_tokens), (RunStatus::Running, 2_000));
    assert_eq!(recovered(&faulty.ledger(), folder.path()).await.files, []);
}

#[test]
fn a_runtime_that_is_gone_with_its_tasks_leaves_what_was_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let journal = first.block_on(async {
        let journal = begin(&faulty, spooling(folder.path())).await;
        faulty.set_away(true);
        names(0..30).iter().for_each(|name| change(&journal, name));
        while list(folder.path()).await.unwrap().iter().all(|file| file.events < 30) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        journal
    });
    // What a killed process would have in memory only.
    change(&journal, "lost");
    drop(first);
    faulty.set_away(false);
    runtime().block_on(async {
        // Nobody waits for a writer that is gone, and nothing is held for it.
        change(&journal, "lost as well");
        assert_eq!(journal.queued(), 0);
        assert_eq!(journal.barrier().await.unwrap_err().kind(), ErrorKind::Unavailable);
        let ended = journal.finish(Outcome::success()).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(journal.close().await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(kinds(&recovered(&faulty.ledger(), folder.path()).await), [Recovery::Stored]);
        assert_eq!(log(&faulty).await[1..], names(0..30));
    });
}

#[tokio::test(start_paused = true)]
async fn a_file_that_broke_off_anywhere_in_its_last_batch_is_stored_up_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = left_behind(&Faulty::new([]), folder.path(), 3).await;
    let whole = std::fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 7);
    let last = whole.len() - lines[5].len() - lines[6].len();
    for cut in last..=whole.len() {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let faulty = admitted().await;
        let report = recovered(&faulty.ledger(), folder.path()).await;
        let stored = if cut == whole.len() { 6 } else { 4 };
        let cut_bytes = if cut == whole.len() { 0 } else { (cut - last) as u64 };
        let seen = &report.files[0];
        assert_eq!(
            (seen.recovery, seen.written, seen.cut_bytes),
            (Recovery::Stored, stored, cut_bytes),
            "cut at {cut}: {seen:?}"
        );
        assert_eq!(log(&faulty).await[1..], names(0..stored as usize));
        assert_eq!(files(folder.path()).len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn no_changed_byte_stores_anything_wrong_and_damage_inside_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = left_behind(&Faulty::new([]), folder.path(), 3).await;
    let whole = std::fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let ends: Vec<usize> = lines
        .iter()
        .scan(0, |end, line| {
            *end += line.len();
            Some(*end)
        })
        .collect();
    for at in (0..whole.len()).step_by(3).chain(ends.iter().map(|end| end - 1)) {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 7);
        std::fs::write(&file, &changed).unwrap();
        let faulty = admitted().await;
        let report = recovered(&faulty.ledger(), folder.path()).await;
        let seen = report.files[0].clone();
        let batch = ends.iter().take_while(|end| **end <= at).count().div_ceil(2);
        let left = files(folder.path());
        if batch == 3 {
            // It cannot be told from an end that was torn off.
            assert_eq!((seen.recovery, seen.written), (Recovery::Stored, 4), "byte {at}: {seen:?}");
            assert_eq!(left.len(), 0);
        } else {
            assert_eq!(seen.recovery, Recovery::Corrupt, "byte {at}: {seen:?}");
            assert!(seen.reason.is_some());
            assert_eq!(left, std::slice::from_ref(&seen.file));
            assert_eq!(std::fs::read(&seen.file).unwrap(), changed);
            assert_eq!(list(folder.path()).await.unwrap()[0].state, SpoolState::Corrupt);
            // It is nobody's work any more.
            assert_eq!(recovered(&faulty.ledger(), folder.path()).await.files, []);
            std::fs::remove_file(&seen.file).unwrap();
        }
        let stored = log(&faulty).await;
        assert_eq!(stored[1..], names(0..2 * batch.saturating_sub(1)), "byte {at}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_and_a_doubled_line_are_damage_and_not_an_order_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = left_behind(&Faulty::new([]), folder.path(), 3).await;
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let without = [&lines[..3], &lines[4..]].concat().concat();
    let doubled = [&lines[..4], &lines[3..]].concat().concat();
    for text in [without, doubled] {
        std::fs::write(&file, &text).unwrap();
        let faulty = admitted().await;
        let report = recovered(&faulty.ledger(), folder.path()).await;
        assert_eq!(report.files[0].recovery, Recovery::Corrupt);
        assert_eq!(log(&faulty).await[1..], names(0..2));
        std::fs::remove_file(&report.files[0].file).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_versions_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = left_behind(&Faulty::new([]), folder.path(), 1).await;
    // A line of version 2, with a checksum of its own.
    let body = "\"anything\":1}";
    let line =
        format!("{{\"v\":2,\"crc\":\"{:08x}\",{body}\n", crc32fast::hash(format!("2{body}").as_bytes()));
    std::fs::write(&file, &line).unwrap();
    let faulty = admitted().await;
    assert_eq!(kinds(&recovered(&faulty.ledger(), folder.path()).await), [Recovery::Newer]);
    assert_eq!(list(folder.path()).await.unwrap()[0].state, SpoolState::Newer);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), line);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_recover_at_once_one_has_each_file() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    left_behind(&faulty, folder.path(), 3).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (ledger, folder) = (faulty.ledger(), folder.path().to_owned());
            tokio::spawn(async move { recovered(&ledger, &folder).await })
        })
        .collect();
    let mut stored = 0;
    for task in tasks {
        let kinds = kinds(&task.await.unwrap());
        assert!(kinds.iter().all(|kind| matches!(kind, Recovery::Stored | Recovery::Held)), "{kinds:?}");
        stored += kinds.iter().filter(|kind| **kind == Recovery::Stored).count();
    }
    assert_eq!(stored, 1);
    assert_eq!(log(&faulty).await[1..], names(0..6));
    assert_eq!(files(folder.path()).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_asked_for_is_the_runs_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]).poisoned("poison");
    let journal = begin(&faulty, spooling(folder.path())).await;
    faulty.set_away(true);
    for name in ["a", "poison", "b"] {
        change(&journal, name);
    }
    let refused = journal.finish(Outcome::interrupted("asked")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    change(&journal, "late");
    change(&journal, "poison");
    let report = journal.close().await.unwrap();
    assert_eq!((report.left_in_spool, report.lost), (6, 0));
    let file = report.spool_file.unwrap();
    let listed = list(folder.path()).await.unwrap();
    assert_eq!((listed[0].state, listed[0].ends_run), (SpoolState::Waiting, true));
    faulty.set_away(false);
    let whole = std::fs::read(&file).unwrap();
    let expected = ["item.completed", "a", QUARANTINED, "b", "run.interrupted", "late", QUARANTINED];
    // The second time, the process before died when all was stored and the file was not removed.
    for (written, already) in [(6, 0), (6, 6), (6, 6)] {
        std::fs::write(&file, &whole).unwrap();
        let report = recovered(&faulty.ledger(), folder.path()).await;
        let seen = &report.files[0];
        assert_eq!((seen.recovery, seen.written, seen.already_stored), (Recovery::Stored, written, already));
        assert_eq!(log(&faulty).await, expected);
    }
    let stored = faulty.inner.ledger().runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!((stored.status, stored.stop_reason.as_deref()), (RunStatus::Interrupted, Some("asked")));
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_was_killed_half_way_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let source = Faulty::new([]);
    let file = left_behind(&source, folder.path(), 3).await;
    let whole = std::fs::read(&file).unwrap();
    for stored in 0..=6 {
        let faulty = admitted().await;
        // The first of them are in the log already.
        let ledger = faulty.ledger();
        let settings = Settings { batch_events: 1, ..Settings::default() };
        let begun =
            RunJournal::replay(&ledger, &Scope::System, &thread(), &run(), &[], settings).await.unwrap();
        names(0..stored).iter().for_each(|name| change(&begun, name));
        begun.barrier().await.unwrap();
        std::fs::write(&file, &whole).unwrap();
        let report = recovered(&ledger, folder.path()).await;
        assert_eq!((report.files[0].written, report.files[0].already_stored), (6, stored as u64));
        assert_eq!(log(&faulty).await[1..], names(0..6));
    }
}

#[tokio::test(start_paused = true)]
async fn notes_that_an_earlier_try_stored_are_known_again_in_the_places_of_their_events() {
    let folder = tempfile::tempdir().unwrap();
    let all = ["a", "poison", "b", "poison", "c"];
    let source = Faulty::new([]);
    let journal = begin(&source, spooling(folder.path())).await;
    source.set_away(true);
    all.iter().for_each(|name| change(&journal, name));
    assert!(journal.finish(Outcome::success()).await.is_err());
    let file = journal.close().await.unwrap().spool_file.unwrap();
    let whole = std::fs::read(&file).unwrap();
    for stored in 0..=all.len() {
        let faulty = admitted().await.poisoned("poison");
        let ledger = faulty.ledger();
        let (thread, run) = (thread(), run());
        let settings = Settings { batch_events: 1, ..Settings::default() };
        let begun = RunJournal::replay(&ledger, &Scope::System, &thread, &run, &[], settings).await.unwrap();
        all[..stored].iter().for_each(|name| change(&begun, name));
        begun.barrier().await.unwrap();
        std::fs::write(&file, &whole).unwrap();
        let report = recovered(&ledger, folder.path()).await;
        let seen = &report.files[0];
        let counts = (seen.written, seen.already_stored, seen.quarantined);
        assert_eq!((seen.recovery, counts), (Recovery::Stored, (6, stored as u64, 2)), "{stored}: {seen:?}");
        let expected = ["item.completed", "a", QUARANTINED, "b", QUARANTINED, "c", "run.completed"];
        assert_eq!(log(&faulty).await, expected);
    }
}

fn item(journal: &RunJournal, content: &str, done: bool) {
    let status = if done { ItemStatus::Completed } else { ItemStatus::InProgress };
    let record = ItemRecord {
        mark: ItemMark::new(ItemId::new("i").unwrap(), ItemKind::ToolCall, status),
        category: runledger_core::Category::Message,
        caller: None,
        content: &RawJson::string(content),
        at: Timestamp::now(),
    };
    if done { journal.on_item_completed(record) } else { journal.on_item_started(record) }
}

async fn fenced_events(ledger: &Ledger) -> Vec<Event> {
    let filter = EventFilter {
        event_types: vec![runledger_core::EventType::new(FENCED_EVENT).unwrap()],
        ..EventFilter::of_run(run())
    };
    let range = SeqRange::after(0, 100);
    ledger.events().list_events(&Scope::System, &thread(), &filter, &range).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn what_a_run_recorded_after_it_was_taken_away_is_kept_and_appended_once_as_traces() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let ledger = faulty.inner.ledger();
    let journal = begin(&faulty, spooling(folder.path())).await;
    item(&journal, "begun", false);
    journal.barrier().await.unwrap();
    faulty.set_away(true);
    item(&journal, "too late", true);
    spent(&journal, "s");
    assert!(journal.finish(Outcome::success()).await.is_err());
    let report = journal.close().await.unwrap();
    let file = report.spool_file.unwrap();
    take_away(&faulty, 1, 1).await;
    faulty.set_away(false);

    let report = recovered(&faulty.ledger(), folder.path()).await;
    let seen = &report.files[0];
    assert_eq!((seen.recovery, seen.written, seen.fenced), (Recovery::Fenced, 0, 2), "{seen:?}");
    assert_eq!(files(folder.path()), std::slice::from_ref(&seen.file));
    assert_eq!(seen.file, file.with_extension("fenced"));
    let stored = ledger.runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!((stored.status, stored.totals.subagent_tokens), (RunStatus::Interrupted, 2_000));
    assert_eq!(recovered(&faulty.ledger(), folder.path()).await.files, []);

    let whole = std::fs::read(&seen.file).unwrap();
    let before = events(&ledger, &thread()).await.len();
    for already in [0, 2] {
        std::fs::write(&seen.file, &whole).unwrap();
        let mut report =
            recover_fenced(&faulty.ledger(), &Scope::System, folder.path(), NO_PATIENCE).await.unwrap();
        let seen = report.files.remove(0);
        assert_eq!((seen.recovery, seen.written, seen.already_stored), (Recovery::Stored, 2, already));
        assert_eq!(files(folder.path()).len(), 0);
        assert_eq!(events(&ledger, &thread()).await.len(), before + 2);
    }
    let kept = fenced_events(&ledger).await;
    let told: Vec<serde_json::Value> = kept.iter().map(|event| event.content.decode().unwrap()).collect();
    assert_eq!(told[0]["event_type"], "item.completed");
    assert_eq!(
        (&told[0]["item"]["item_status"], &told[0]["content"]),
        (&"completed".into(), &"too late".into())
    );
    assert_eq!((&told[1]["event_type"], &told[1]["ordinal"]), (&"run.completed".into(), &2.into()));
    assert!(kept.iter().all(|event| event.item.is_none() && event.journal_ordinal.is_none()));
    // The item stands where the one who took the run left it.
    let (all, range) = (ItemFilter::default(), SeqRange::default());
    let items = ledger.items().list(&Scope::System, &thread(), &all, &range).await.unwrap();
    let statuses: Vec<_> = items.items.into_iter().map(|item| item.status).collect();
    assert_eq!(statuses, [ItemStatus::Completed, ItemStatus::InProgress]);
    let stored = ledger.runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!((stored.status, stored.totals.subagent_tokens), (RunStatus::Interrupted, 2_000));
}

#[tokio::test(start_paused = true)]
async fn a_file_whose_thread_the_ledger_does_not_have_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let file = left_behind(&faulty, folder.path(), 2).await;
    let ledger = faulty.inner.ledger();
    take_away(&faulty, 1, 0).await;
    ledger.threads().delete(&Scope::System, &thread()).await.unwrap();
    // It looks as in a ledger that is not the file's.
    for ledger in [faulty.ledger(), Faulty::new([]).ledger()] {
        let report = recovered(&ledger, folder.path()).await;
        assert_eq!((report.files[0].recovery, report.files[0].fenced), (Recovery::Left, 0));
        let reason = report.files[0].reason.clone().unwrap();
        assert!(reason.contains("not the ledger that the file is for"), "{reason}");
        assert_eq!(files(folder.path()), std::slice::from_ref(&file));
    }
    // Shown to its own, it is stored.
    let report = recovered(&admitted().await.ledger(), folder.path()).await;
    assert_eq!((kinds(&report), report.files[0].written), (vec![Recovery::Stored], 4));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_gone_from_its_thread_has_its_file_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    left_behind(&faulty, folder.path(), 2).await;
    let ledger = faulty.inner.ledger();
    take_away(&faulty, 1, 0).await;
    ledger.events().delete_by_run(&Scope::System, &thread(), &run()).await.unwrap();
    let report = recovered(&faulty.ledger(), folder.path()).await;
    assert_eq!((report.files[0].recovery, report.files[0].fenced), (Recovery::Fenced, 4));
    let reason = report.files[0].reason.clone().unwrap();
    assert!(reason.contains("not found"), "{reason}");
    let report = recover_fenced(&faulty.ledger(), &Scope::System, folder.path(), NO_PATIENCE).await.unwrap();
    assert_eq!(kinds(&report), [Recovery::Left]);
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_without_those_before_them_are_kept_and_not_written_out_of_order() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    change(&journal, "before");
    journal.barrier().await.unwrap();
    faulty.set_away(true);
    change(&journal, "after");
    journal.close().await.unwrap();
    let other = admitted().await;
    let report = recovered(&other.ledger(), folder.path()).await;
    assert_eq!((report.files[0].recovery, report.files[0].fenced), (Recovery::Fenced, 1));
    let reason = report.files[0].reason.clone().unwrap();
    assert!(reason.contains("journal ordinal"), "{reason}");
    assert_eq!(log(&other).await, ["item.completed"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_recovers_its_own_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    left_behind(&faulty, folder.path(), 1).await;
    let bob = Scope::Owner(OwnerId::new("bob").unwrap());
    let report = recover(&faulty.ledger(), &bob, folder.path(), NO_PATIENCE).await.unwrap();
    assert_eq!(report.files, []);
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn what_a_dead_process_had_begun_to_make_is_cleaned_up_and_no_folder_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0-1-1.new"), "{\"v\":").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let ledger = Faulty::new([]).ledger();
    assert_eq!(recovered(&ledger, folder.path()).await.files, []);
    assert_eq!(files(folder.path()), [folder.path().join("notes.txt")]);
    assert_eq!(recovered(&ledger, &folder.path().join("none")).await.files, []);
    let unreadable = list(&folder.path().join("none")).await.unwrap_err();
    assert_eq!(unreadable.kind(), ErrorKind::InvalidInput);
}

async fn sqlite(folder: &Path) -> SqlLedger {
    let url = format!("sqlite://{}", folder.join("ledger.db").display());
    up(&url, &UpOptions::default()).await.unwrap();
    connect(Config::new(url)).await.unwrap()
}

#[tokio::test]
async fn a_sqlite_file_that_goes_away_has_each_event_once_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let ledger = sqlite(place.path()).await;
    let settings = Settings { close_patience: Duration::from_millis(500), ..spooling(&folder) };
    let journal = RunJournal::begin_with(&ledger, &Scope::System, new_run(), settings).await.unwrap();
    names(0..10).iter().for_each(|name| change(&journal, name));
    journal.barrier().await.unwrap();
    item(&journal, "begun", false);
    ledger.close().await;
    names(10..40).iter().for_each(|name| change(&journal, name));
    item(&journal, " \n[1 ,2]\r\n\u{2028}", true);
    spent(&journal, "s");
    assert_eq!(journal.finish(Outcome::success()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    change(&journal, "late");
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.left_in_spool, report.lost), (10, 34, 0), "{report:?}");
    let (file, ledger) = (report.spool_file.unwrap(), sqlite(place.path()).await);
    let whole = std::fs::read(&file).unwrap();
    for already in [0, 34] {
        std::fs::write(&file, &whole).unwrap();
        let report = recovered(&ledger, &folder).await;
        let seen = &report.files[0];
        assert_eq!((seen.recovery, seen.written, seen.already_stored), (Recovery::Stored, 34, already));
    }
    let stored = events(&ledger, &thread()).await;
    let texts: Vec<_> = stored.iter().map(|event| event.content.as_str().trim_matches('"')).collect();
    let mut expected = names(0..10);
    expected.push("begun".to_owned());
    expected.extend(names(10..40));
    assert_eq!(texts[1..42], expected);
    assert_eq!(stored[42].content, RawJson::string(" \n[1 ,2]\r\n\u{2028}"));
    let types: Vec<_> = stored[43..].iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["run.completed", "workspace_changes"]);
    let run = ledger.runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!((run.status, run.totals.subagent_tokens), (RunStatus::Success, 2_000));
    ledger.close().await;
}

/// Where the process that is killed works.
const PLACE: &str = "RUNLEDGER_TEST_KILLED_IN";

/// Not a test by itself: what [`a_process_that_is_killed_while_it_spools_loses_no_synced_batch`] starts
/// and kills.
#[tokio::test]
async fn records_until_it_is_killed() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let ledger = sqlite(Path::new(&place)).await;
    let settings = spooling(&Path::new(&place).join("spool"));
    let journal = RunJournal::begin_with(&ledger, &Scope::System, new_run(), settings).await.unwrap();
    ledger.close().await;
    for number in 0.. {
        change(&journal, &format!("c{number}"));
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_spools_loses_no_synced_batch() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recovery::records_until_it_is_killed"])
        .env(PLACE, place.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut synced = 0;
    while synced < 100 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
        synced = match list(&folder).await {
            Ok(files) => files.iter().map(|file| file.events).sum(),
            Err(_) => 0,
        };
    }
    // SIGKILL where there are signals.
    child.kill().unwrap();
    child.wait().unwrap();
    let ledger = sqlite(place.path()).await;
    let report = recovered(&ledger, &folder).await;
    assert_eq!(kinds(&report), [Recovery::Stored]);
    let stored = events(&ledger, &thread()).await;
    let texts: Vec<_> = stored.iter().map(|event| event.content.as_str().trim_matches('"')).collect();
    assert!(stored.len() as u64 > synced, "{} of {synced}", stored.len());
    assert_eq!(texts[1..], names(0..stored.len() - 1));
    assert_eq!(stored.len() as u64 - 1, report.files[0].written.min(999));
    ledger.close().await;
}
