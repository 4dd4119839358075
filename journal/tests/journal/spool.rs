//! The spool of a journal that lives: what it takes over, in which order it is drained, what is held.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Caller, ErrorKind, Finish, JournalMark, Outcome, RunProgress, RunStatus, Scope, Timestamp, TokenCounts,
};
use runledger_journal::callbacks::{ExternalUsage, RuntimeCallbacks};
use runledger_journal::{Overflow, QUARANTINED, RunJournal, Settings, SpoolSettings, spool};

use crate::faults::{Fault, Faulty, begin, change, log, run, thread};

/// A journal that is quick to use the folder.
pub(crate) fn spooling(folder: &Path) -> Settings {
    let spool = SpoolSettings { after: Duration::from_millis(100), ..SpoolSettings::new(folder) };
    Settings {
        overflow: Overflow::Spool(spool),
        close_patience: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn bounded(folder: &Path, events: usize, bytes: usize) -> Settings {
    let spool =
        SpoolSettings { max_queued_events: events, max_queued_bytes: bytes, ..SpoolSettings::new(folder) };
    Settings { overflow: Overflow::Spool(spool), ..spooling(folder) }
}

pub(crate) fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("c{number}")).collect()
}

/// The folder's files, by name.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

pub(crate) fn spent(journal: &RunJournal, id: &str) {
    journal.record_external_usage(ExternalUsage {
        source_id: id,
        caller: Caller::new("subagent:x").unwrap(),
        model: None,
        tokens: TokenCounts::of(1_000, 1_000),
        price: None,
        child_thread_id: None,
        at: Timestamp::now(),
    });
}

/// Somebody else ends the run.
pub(crate) async fn take_away(faulty: &Faulty, epoch: u64, ordinal: u64) {
    let outcome = Outcome::interrupted("taken");
    let at = Timestamp::now();
    let taken = Finish {
        thread_id: thread(),
        run_id: run(),
        mark: JournalMark { epoch, ordinal },
        events: vec![runledger_core::EventDraft::terminal(&outcome, None, at)],
        outcome,
        at,
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    faulty.inner.ledger().finish(&Scope::System, taken).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_from_the_start_gets_everything_in_order_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    faulty.set_away(true);
    for name in names(0..60) {
        change(&journal, &name);
        pause(20).await;
    }
    spent(&journal, "s");
    pause(1_000).await;
    let listed = spool::list(folder.path()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].state, listed[0].events), (spool::SpoolState::Held, 60));
    assert_eq!(log(&faulty).await, ["item.completed"]);
    faulty.set_away(false);
    for name in names(60..80) {
        change(&journal, &name);
        pause(20).await;
    }
    journal.barrier().await.unwrap();
    assert_eq!(log(&faulty).await[1..], names(0..80));
    // It writes directly again.
    change(&journal, "last");
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!(finished.run.totals.subagent_tokens, 2_000);
    assert_eq!(files(folder.path()), [""; 0].map(PathBuf::from));
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.lost, report.usage_lost, report.left_in_spool), (82, 0, 0, 0));
    assert!(report.spooled >= 60 && report.retried > 0, "{report:?}");
    assert_eq!((report.spool_file, report.stopped), (None, None));
}

#[tokio::test(start_paused = true)]
async fn whatever_the_store_does_each_event_is_stored_once_and_in_order() {
    for seed in 1..40_u64 {
        let folder = tempfile::tempdir().unwrap();
        // Every number's bits give another course of faults.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let faults: Vec<Fault> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                match state >> 61 {
                    0 | 1 => Fault::Away,
                    2 | 3 => Fault::AnswerLost,
                    4 | 5 => Fault::Slow(Duration::from_millis(400)),
                    _ => Fault::Fine,
                }
            })
            .collect();
        let faulty = Faulty::new(faults).poisoned("poison");
        let settings = Settings { retry_max: Duration::from_millis(300), ..spooling(folder.path()) };
        let journal = begin(&faulty, settings).await;
        let mut expected = vec!["item.completed".to_owned()];
        for number in 0..100 {
            let name = if number % 33 == 7 { "poison".to_owned() } else { format!("c{number}") };
            change(&journal, &name);
            expected.push(if name == "poison" { QUARANTINED.to_owned() } else { name });
            if number % 10 == 9 {
                pause(150).await;
            }
        }
        let finished = journal.finish(Outcome::success()).await.unwrap();
        assert!(finished.ended_here, "seed {seed}");
        expected.push("run.completed".to_owned());
        assert_eq!(log(&faulty).await, expected, "seed {seed}");
        let report = journal.close().await.unwrap();
        assert_eq!((report.written, report.lost, report.fenced), (101, 0, 0), "seed {seed}");
        assert_eq!(report.quarantined.len(), 3, "seed {seed}");
        assert_eq!(files(folder.path()).len(), 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_by_events_and_by_bytes_while_the_store_is_away() {
    let large = "x".repeat(4_000);
    for (events, bytes, text) in [(100, usize::MAX, "small"), (usize::MAX, 200_000, large.as_str())] {
        let folder = tempfile::tempdir().unwrap();
        let faulty = Faulty::new([]);
        let journal = begin(&faulty, bounded(folder.path(), events, bytes)).await;
        faulty.set_away(true);
        for _ in 0..200 {
            (0..10).for_each(|_| change(&journal, text));
            pause(1).await;
        }
        assert!(journal.queued() <= 100);
        faulty.set_away(false);
        let finished = journal.finish(Outcome::success()).await.unwrap();
        assert_eq!(finished.report.written, 2_001);
        let report = journal.close().await.unwrap();
        assert_eq!((report.lost, report.left_in_spool), (0, 0));
        assert!(report.queued_peak <= events as u64, "{report:?}");
        assert!(report.queued_bytes_peak <= bytes as u64, "{report:?}");
        assert!(report.spooled > 1_500, "{report:?}");
        assert_eq!(log(&faulty).await.len(), 1_000, "a page of it, without a hole");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_only_slow_is_helped_by_the_spool_before_memory_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new(vec![Fault::Slow(Duration::from_millis(1_500)); 4]);
    let journal = begin(&faulty, bounded(folder.path(), 100, usize::MAX)).await;
    for name in names(0..400) {
        change(&journal, &name);
        pause(1).await;
    }
    journal.barrier().await.unwrap();
    assert_eq!(log(&faulty).await[1..], names(0..400));
    let report = journal.close().await.unwrap();
    assert!(report.queued_peak <= 100 && report.spooled > 200 && report.lost == 0, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_neither_the_store_nor_the_disk_takes_is_counted_and_leaves_no_gap() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, bounded(&folder, 100, usize::MAX)).await;
    faulty.set_away(true);
    // A file in its place: nothing can be made there.
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    for name in names(0..300) {
        change(&journal, &name);
        pause(1).await;
    }
    assert_eq!(journal.queued(), 100);
    // One that nobody waits for tells nobody.
    assert!(tokio::time::timeout(Duration::from_secs(1), journal.barrier()).await.is_err());
    faulty.set_away(false);
    let incomplete = journal.barrier().await.unwrap_err();
    assert_eq!(incomplete.kind(), ErrorKind::Corrupt);
    assert!(incomplete.to_string().contains("200 records were dropped"), "{incomplete}");
    journal.barrier().await.unwrap();
    change(&journal, "later");
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!(finished.run.status, RunStatus::Success);
    let mut expected = names(0..100);
    expected.extend(["later".to_owned(), "run.completed".to_owned()]);
    assert_eq!(log(&faulty).await[1..], expected);
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.lost, report.queued_peak), (102, 200, 100));
    assert_eq!((report.spooled, report.spool_file), (0, None));
}

/// Nobody thought of this error, and it says nothing of the events.
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_everything_for_a_while_costs_no_event() {
    for count in [1, 2, 20] {
        for millis in [100, 1_500, 10_000, 100_000] {
            let folder = tempfile::tempdir().unwrap();
            let faulty = Faulty::new([]);
            let journal = begin(&faulty, spooling(folder.path())).await;
            faulty.set_odd(true);
            names(0..count).iter().for_each(|name| change(&journal, name));
            pause(millis).await;
            faulty.set_odd(false);
            journal.barrier().await.unwrap();
            assert_eq!(log(&faulty).await[1..], names(0..count), "{count} after {millis} ms");
            let report = journal.close().await.unwrap();
            assert_eq!((report.quarantined, report.lost, report.written), (Vec::new(), 0, count as u64));
            assert_eq!((report.stopped, report.spool_file), (None, None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_mended_takes_what_was_held_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(&folder)).await;
    faulty.set_away(true);
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    names(0..50).iter().for_each(|name| change(&journal, name));
    pause(2_000).await;
    std::fs::remove_file(&folder).unwrap();
    names(50..70).iter().for_each(|name| change(&journal, name));
    pause(10_000).await;
    assert_eq!((journal.queued(), spool::list(&folder).await.unwrap()[0].events), (50, 70));
    let report = journal.close().await.unwrap();
    assert_eq!((report.left_in_spool, report.lost), (70, 0));
    faulty.set_away(false);
    spool::recover(&faulty.ledger(), &Scope::System, &folder, Duration::ZERO).await.unwrap();
    assert_eq!(log(&faulty).await[1..], names(0..70));
}

/// Under a paused clock nothing goes on while somebody is busy: a writer that looked again and again at a
/// disk of which nothing is wanted would never get its answer.
#[tokio::test(start_paused = true)]
async fn a_disk_that_failed_is_left_alone_where_nothing_waits_for_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(&folder)).await;
    let slow = Fault::Slow(Duration::from_secs(3));
    for round in 0..3 {
        let of = |part: &str| format!("{round} {part}");
        faulty.set_away(true);
        std::fs::remove_dir(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        change(&journal, &of("no disk"));
        pause(1_000).await;
        if round == 1 {
            // The spool takes over, and more comes while the next commit is slow.
            std::fs::remove_file(&folder).unwrap();
            pause(10_000).await;
            faulty.push(slow);
        }
        faulty.set_away(false);
        pause(100).await;
        change(&journal, &of("more"));
        journal.barrier().await.unwrap();
        if round != 1 {
            std::fs::remove_file(&folder).unwrap();
            std::fs::create_dir(&folder).unwrap();
        }
        faulty.push(slow);
        change(&journal, &of("slow"));
        journal.barrier().await.unwrap();
        // The file is removed after the answer.
        pause(100).await;
        assert_eq!(files(&folder).len(), 0);
    }
    assert_eq!(journal.close().await.unwrap().written, 9);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_may_not_grow_is_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let mut settings = bounded(folder.path(), 100, usize::MAX);
    if let Overflow::Spool(spool) = &mut settings.overflow {
        spool.max_file_bytes = 20_000;
    }
    let journal = begin(&faulty, settings).await;
    faulty.set_away(true);
    for name in names(0..500) {
        change(&journal, &name);
        pause(1).await;
    }
    let report = journal.close().await.unwrap();
    let file = report.spool_file.clone().unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() <= 20_000);
    assert!(report.left_in_spool > 20 && report.queued_peak <= 100, "{report:?}");
    assert_eq!(report.left_in_spool + report.lost, 500);
    faulty.set_away(false);
    let ledger = faulty.ledger();
    let recovered = spool::recover(&ledger, &Scope::System, folder.path(), Duration::ZERO).await.unwrap();
    assert_eq!(recovered.files[0].written, report.left_in_spool);
    assert_eq!(log(&faulty).await[1..], names(0..report.left_in_spool as usize));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_store_does_not_take_is_answered_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    change(&journal, "a");
    journal.barrier().await.unwrap();
    faulty.set_away(true);
    change(&journal, "b");
    let refused = journal.finish(Outcome::error("no")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let file = files(folder.path()).remove(0);
    let said = std::error::Error::source(&refused).unwrap().to_string();
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    change(&journal, "late");
    faulty.set_away(false);
    let report = journal.close().await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "a", "b", "run.failed", "late"]);
    assert_eq!((report.written, report.left_in_spool, report.spool_file), (4, 0, None));
    let stored = faulty.inner.ledger().runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!((stored.status, stored.error.as_deref()), (RunStatus::Error, Some("no")));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_which_half_is_stored_is_counted_by_its_halves() {
    let folder = tempfile::tempdir().unwrap();
    for overflow in [spooling(folder.path()).overflow, Overflow::Memory] {
        // What is refused by itself is found by halves; two of them are stored before the store goes away.
        let faulty = Faulty::new([Fault::Fine, Fault::Fine]).poisoned("poison").afterwards(Fault::Away);
        let spools = overflow != Overflow::Memory;
        let journal = begin(&faulty, Settings { overflow, ..spooling(folder.path()) }).await;
        ["a", "poison", "b", "c"].iter().for_each(|name| change(&journal, name));
        let report = journal.close().await.unwrap();
        let counts = (report.written, report.spooled, report.left_in_spool, report.lost);
        assert_eq!(counts, if spools { (2, 4, 2, 0) } else { (2, 0, 0, 2) });
        assert_eq!(log(&faulty).await, ["item.completed", "a", QUARANTINED]);
        if spools {
            let mended = faulty.afterwards(Fault::Fine);
            spool::recover(&mended.ledger(), &Scope::System, folder.path(), Duration::ZERO).await.unwrap();
            assert_eq!(log(&mended).await, ["item.completed", "a", QUARANTINED, "b", "c"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_does_not_keep_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let faulty = Faulty::new([Fault::Fine, Fault::Slow(day)]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    change(&journal, "a");
    journal.barrier().await.unwrap();
    change(&journal, "b");
    pause(1_000).await;
    change(&journal, "c");
    let began = tokio::time::Instant::now();
    let report = journal.close().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!((report.written, report.left_in_spool, report.lost), (1, 2, 0));
    spool::recover(&faulty.ledger(), &Scope::System, folder.path(), Duration::ZERO).await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_spool_a_close_counts_what_the_store_did_not_take() {
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, Settings::default()).await;
    change(&journal, "a");
    journal.barrier().await.unwrap();
    faulty.set_away(true);
    change(&journal, "b");
    spent(&journal, "s");
    let began = tokio::time::Instant::now();
    assert_eq!(journal.finish(Outcome::success()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    change(&journal, "c");
    let report = journal.close().await.unwrap();
    // Each waits for as long as the settings say, on the test's own clock.
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!((report.written, report.lost, report.usage_lost, report.spool_file), (1, 3, 1, None));
}

/// `Duration::MAX` is how one says for ever.
#[tokio::test(start_paused = true)]
async fn times_that_never_come_are_waited_for() {
    use runledger_core::MemoryLedger;
    let folder = tempfile::tempdir().unwrap();
    let ever = Duration::MAX;
    let spool = SpoolSettings { after: ever, ..SpoolSettings::new(folder.path()) };
    let settings = Settings {
        batch_events: 2,
        batch_delay: ever,
        retry_min: ever,
        retry_max: ever,
        give_up_after: Some(ever),
        close_patience: ever,
        overflow: Overflow::Spool(spool),
        ..Settings::default()
    };
    let faulty = Faulty::new([Fault::Away, Fault::Away, Fault::Fine, Fault::Away]);
    let journal = begin(&faulty, settings.clone()).await;
    names(0..3).iter().for_each(|name| change(&journal, name));
    journal.barrier().await.unwrap();
    assert!(journal.finish(Outcome::success()).await.unwrap().ended_here);
    spent(&journal, "s");
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.lost, report.usage_lost, report.retried), (4, 0, 0, 3));
    // Usage of a run that was taken away has a patience of its own, and so has a file.
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, settings).await;
    take_away(&faulty, journal.run().epoch, 0).await;
    change(&journal, "a");
    spent(&journal, "s");
    assert_eq!(journal.close().await.unwrap().usage_lost, 0);
    let ledger = MemoryLedger::new().ledger();
    spool::recover(&ledger, &Scope::System, folder.path(), ever).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_taken_away_while_its_spool_is_drained_keeps_the_file_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    let cancelled = journal.cancel_token();
    change(&journal, "a");
    journal.barrier().await.unwrap();
    faulty.set_away(true);
    for name in names(0..30) {
        change(&journal, &name);
        pause(50).await;
    }
    spent(&journal, "s");
    pause(1_000).await;
    take_away(&faulty, journal.run().epoch, 1).await;
    assert!(!cancelled.is_cancelled());
    faulty.set_away(false);
    tokio::time::timeout(Duration::from_secs(60), cancelled.cancelled()).await.unwrap();
    change(&journal, "after");
    assert_eq!(journal.barrier().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!((finished.run.stop_reason.as_deref(), finished.ended_here), (Some("taken"), false));
    let report = journal.close().await.unwrap();
    // The end that was asked for is one of them.
    assert_eq!((report.written, report.fenced, report.lost, report.usage_lost), (1, 32, 0, 0));
    assert_eq!(log(&faulty).await, ["item.completed", "a", "run.interrupted"]);
    let stored = faulty.inner.ledger().runs().get(&Scope::System, &thread(), &run()).await.unwrap();
    assert_eq!(stored.totals.subagent_tokens, 2_000);
    assert_eq!(files(folder.path()), [report.spool_file.clone().unwrap()]);
    let listed = spool::list(folder.path()).await.unwrap();
    assert_eq!((listed[0].state, listed[0].events), (spool::SpoolState::Fenced, 30));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_damaged_under_its_journal_is_kept_aside_and_the_journal_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    faulty.set_away(true);
    for name in names(0..40) {
        change(&journal, &name);
        pause(100).await;
    }
    // An end that was asked for is damaged with the rest, and may be asked for again.
    assert_eq!(journal.finish(Outcome::error("lost")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let file = files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    faulty.set_away(false);
    assert_eq!(journal.barrier().await.unwrap_err().kind(), ErrorKind::Corrupt);
    change(&journal, "after");
    let finished = journal.finish(Outcome::success()).await.unwrap();
    assert_eq!(finished.run.status, RunStatus::Success);
    let report = journal.close().await.unwrap();
    let stored = log(&faulty).await;
    let kept = stored.len() - 3;
    assert!(kept > 0 && kept < 40, "{stored:?}");
    assert_eq!(stored[1..=kept], names(0..kept));
    assert_eq!(stored[kept + 1..], ["after", "run.completed"]);
    assert_eq!((report.written, report.lost), (kept as u64 + 2, 41 - kept as u64));
    let aside = report.spool_file.unwrap();
    assert_eq!(aside, file.with_extension("corrupt"));
    assert_eq!(std::fs::read(aside).unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn usage_of_a_run_taken_away_is_waited_for_once_and_not_for_each_call() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, spooling(folder.path())).await;
    let cancelled = journal.cancel_token();
    take_away(&faulty, journal.run().epoch, 0).await;
    change(&journal, "a");
    cancelled.cancelled().await;
    faulty.set_away(true);
    for number in 0..20 {
        spent(&journal, &format!("s{number}"));
        pause(300).await;
    }
    let began = tokio::time::Instant::now();
    let report = journal.close().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!((report.fenced, report.usage_lost, report.lost), (1, 20, 0));
}

#[tokio::test(start_paused = true)]
async fn how_a_run_that_was_taken_away_ended_is_not_waited_for_longer_than_its_end() {
    let faulty = Faulty::new([]);
    let journal = begin(&faulty, Settings::default()).await;
    take_away(&faulty, journal.run().epoch, 0).await;
    change(&journal, "a");
    journal.cancel_token().cancelled().await;
    faulty.set_away(true);
    let began = tokio::time::Instant::now();
    assert_eq!(journal.finish(Outcome::success()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(began.elapsed().as_secs(), 30);
    let report = journal.close().await.unwrap();
    assert_eq!((began.elapsed().as_secs(), report.fenced, report.lost), (30, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_token_that_is_given_is_the_one_that_is_cancelled() {
    let faulty = Faulty::new([]);
    let given = tokio_util::sync::CancellationToken::new();
    let journal = begin(&faulty, Settings { cancel: Some(given.clone()), ..Settings::default() }).await;
    let other = begin_other(&faulty).await;
    take_away(&faulty, journal.run().epoch, 0).await;
    change(&journal, "a");
    assert!(journal.barrier().await.is_err());
    assert!(given.is_cancelled() && journal.cancel_token().is_cancelled());
    assert!(!other.cancel_token().is_cancelled());
}

async fn begin_other(faulty: &Faulty) -> RunJournal {
    let thread = runledger_core::ThreadId::new("other").unwrap();
    let new = runledger_core::NewRun {
        create_missing: Some(runledger_core::NewThread::new(thread.clone())),
        ..runledger_core::NewRun::new(thread, run())
    };
    RunJournal::begin(&faulty.ledger(), &Scope::System, new).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_gave_up_goes_on_into_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty::new([]);
    let settings = Settings { give_up_after: Some(Duration::from_secs(1)), ..spooling(folder.path()) };
    let journal = begin(&faulty, settings).await;
    faulty.set_away(true);
    change(&journal, "a");
    assert_eq!(journal.barrier().await.unwrap_err().kind(), ErrorKind::Unavailable);
    faulty.set_away(false);
    change(&journal, "b");
    assert_eq!(journal.finish(Outcome::success()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let report = journal.close().await.unwrap();
    assert_eq!((report.written, report.left_in_spool, report.lost), (0, 3, 0));
    spool::recover(&faulty.ledger(), &Scope::System, folder.path(), Duration::ZERO).await.unwrap();
    assert_eq!(log(&faulty).await, ["item.completed", "a", "b", "run.completed"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_before_anything_is_admitted() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let faulty = Faulty::new([]);
    let new = crate::faults::new_run();
    let refused = RunJournal::begin_with(&faulty.ledger(), &Scope::System, new, spooling(&file)).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.starts_with("invalid overflow.folder: ") && message.contains("file"), "{message}");
    let threads = faulty.inner.ledger();
    assert_eq!(
        threads.threads().get(&Scope::System, &thread()).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
