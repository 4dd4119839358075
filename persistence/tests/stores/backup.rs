//! Copies of a SQLite file that is in use.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, ErrorKind, EventDraft, EventFilter, EventType, Ledger, NewThread, RawJson, Scope,
    SeqRange, ThreadId,
};
use runledger_persistence::{Config, connect};

use crate::backend;

fn thread(writer: usize) -> ThreadId {
    ThreadId::new(format!("t{writer}")).unwrap()
}

fn commit(writer: usize) -> Commit {
    let note = EventType::new("note").unwrap();
    let pair = vec![EventDraft::new(note, Category::Message, RawJson::string("x")); 2];
    Commit {
        create_missing: Some(NewThread::new(thread(writer))),
        ..Commit::new(thread(writer)).with_events(pair)
    }
}

async fn seqs(ledger: &Ledger, writer: usize) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    loop {
        let range = SeqRange::after(seqs.last().copied().unwrap_or(0), 1_000);
        let events = ledger.events();
        let page = events.list_events(&Scope::System, &thread(writer), &EventFilter::default(), &range).await;
        let page = page.unwrap();
        seqs.extend(page.items.iter().map(|event| event.seq));
        if !page.has_more {
            return seqs;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_all_that_was_acknowledged_while_writers_write() {
    let (ledger, fresh) = backend::sqlite().await;
    let done = Arc::new(AtomicBool::new(false));
    for writer in 0..3 {
        ledger.events().append(&Scope::System, commit(writer)).await.unwrap();
    }
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (ledger, done) = (ledger.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    ledger.events().append(&Scope::System, commit(writer)).await.unwrap();
                }
            })
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for number in 0..3 {
        let file = folder.path().join(format!("backup{number}.db"));
        let mut before = Vec::new();
        for writer in 0..3 {
            before.push(seqs(&ledger, writer).await.len());
        }
        ledger.backup(&file).await.unwrap();
        let copy = connect(Config::new(format!("sqlite://{}", file.display()))).await.unwrap();
        for (writer, before) in before.into_iter().enumerate() {
            let found = seqs(&copy, writer).await;
            let through = u64::try_from(found.len()).unwrap();
            assert_eq!(found, (1..=through).collect::<Vec<_>>());
            assert!(found.len() >= before && found.len() % 2 == 0, "{} of {before}", found.len());
            // It is a ledger that goes on.
            let receipt = copy.events().append(&Scope::System, commit(writer)).await.unwrap();
            assert_eq!(receipt.seqs, [through + 1, through + 2]);
        }
        copy.close().await;
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["backup0.db", "backup1.db", "backup2.db"]);
    drop(fresh);
}

#[tokio::test]
async fn a_backup_writes_over_nothing_and_leaves_nothing_half_written() {
    let (ledger, _fresh) = backend::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    fs::write(&file, "precious").unwrap();
    assert_eq!(ledger.backup(&file).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // What another one writes, or left behind when it died.
    let temporary = folder.path().join("other.db.tmp");
    fs::write(&temporary, "half").unwrap();
    let refused = ledger.backup(&folder.path().join("other.db")).await.unwrap_err();
    assert!(refused.to_string().contains("other.db.tmp"), "{refused}");
    fs::remove_file(&temporary).unwrap();
    ledger.backup(&folder.path().join("other.db")).await.unwrap();
    assert!(!temporary.exists());
    // A folder that is not there.
    assert!(ledger.backup(&folder.path().join("none/backup.db")).await.is_err());
    // A closed ledger fails, and leaves nothing.
    ledger.close().await;
    assert!(ledger.backup(&folder.path().join("late.db")).await.is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_database_in_memory_has_no_file() {
    let ledger = backend::sqlite_memory().await;
    let folder = tempfile::tempdir().unwrap();
    let refused = ledger.backup(&folder.path().join("backup.db")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(ledger.vacuum().await.unwrap(), None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn postgresql_has_tools_of_its_own() {
    let Some((ledger, _fresh)) = backend::postgresql().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let refused = ledger.backup(&folder.path().join("backup.db")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("pg_dump"), "{refused}");
    let refused = ledger.vacuum().await.unwrap_err();
    assert!(refused.to_string().contains("autovacuum"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
