//! What a page costs, and where records are.

use std::fs;

use pretty_assertions::assert_eq;
use runledger_core::{
    Commit, EventFilter, EventStore as _, EventType, NewThread, RunVisibility, Scope, SeqRange,
    ThreadStore as _,
};

use super::scene::{Scene, message, run, thread};

/// A page reads its records and a part of the index, wherever it is and whoever asks first.
#[tokio::test]
async fn a_page_near_the_end_reads_little() {
    let scene = Scene::with_thread().await;
    let text = "x".repeat(1_000);
    for of in 0..20 {
        let of = format!("r{of}");
        let commit = Commit::of_run(thread("t"), run(&of)).with_events(vec![message(&text); 500]);
        scene.ledger.append(&Scope::System, commit).await.unwrap();
    }
    let stored: u64 =
        (0..20).map(|of| fs::metadata(scene.file(&format!("runs/r{of}.jsonl"))).unwrap().len()).sum();
    let scene = scene.reopen().await;
    for range in [SeqRange::last(10), SeqRange::before(5_000, 10), SeqRange::after(9_900, 10)] {
        let of_run = EventFilter::of_run(run("r10"));
        for reader in ["messages", "events", "messages by run", "events by run"] {
            let before = scene.ledger.reads();
            let (system, t) = (Scope::System, thread("t"));
            let page = match reader {
                "messages" => scene.ledger.list_messages(&system, &t, RunVisibility::All, &range).await,
                "events" => scene.ledger.list_events(&system, &t, &EventFilter::default(), &range).await,
                "messages by run" => {
                    scene.ledger.list_messages_by_run(&system, &t, &run("r10"), &range).await
                }
                _ => scene.ledger.list_events(&system, &t, &of_run, &range).await,
            };
            let after = scene.ledger.reads();
            let (bytes, records) = (after.bytes - before.bytes, after.records - before.records);
            assert_eq!(records, page.unwrap().items.len() as u64, "{reader} {range:?}");
            // Ten records are 11 kB; the index of 10,000 events is 480 kB; the records are 11 MB.
            let most = if reader.ends_with("run") { 300_000 } else { 20_000 };
            assert!(bytes < most && stored > 30 * most, "{bytes} of {stored} bytes for {reader} {range:?}");
        }
    }
    let before = scene.ledger.reads();
    assert_eq!(
        scene.ledger.count_messages(&Scope::System, &thread("t"), RunVisibility::All).await.unwrap(),
        10_000
    );
    assert_eq!(scene.ledger.reads().records, before.records);
}

/// A filter by type reads the records of that type and no others.
#[tokio::test]
async fn a_filter_by_type_reads_what_it_shows() {
    let scene = Scene::with_thread().await;
    let mut events = vec![message("x"); 100];
    events[70].event_type = EventType::new("rare").unwrap();
    scene
        .ledger
        .append(&Scope::System, Commit::of_run(thread("t"), run("r")).with_events(events))
        .await
        .unwrap();
    let before = scene.ledger.reads().records;
    let filter =
        EventFilter { event_types: vec![EventType::new("rare").unwrap()], ..EventFilter::of_run(run("r")) };
    let page =
        scene.ledger.list_events(&Scope::System, &thread("t"), &filter, &SeqRange::last(10)).await.unwrap();
    assert_eq!(page.items.iter().map(|event| event.seq).collect::<Vec<_>>(), [71]);
    assert_eq!(scene.ledger.reads().records - before, 1);
}

/// Once a process knows a thread, an append reads the last entry's worth and no record.
#[tokio::test]
async fn an_append_does_not_read_the_log() {
    let scene = Scene::with_thread().await;
    let many = Commit::of_run(thread("t"), run("r")).with_events(vec![message("x"); 2_000]);
    scene.ledger.append(&Scope::System, many).await.unwrap();
    scene.append(Some("r"), &["known"]).await.unwrap();
    let before = scene.ledger.reads();
    scene.append(Some("r"), &["next"]).await.unwrap();
    assert_eq!(scene.ledger.reads(), before);
}

/// Each commit goes to the file of its run, whatever else is written, and no id leaves its folder.
#[tokio::test]
async fn each_run_has_its_file() {
    let scene = Scene::with_thread().await;
    for of in ["r", "R", "../../evil", "con"] {
        scene.append(Some(of), &[of, of]).await.unwrap();
    }
    scene.append(None, &["own"]).await.unwrap();
    let lines = |name: &str| fs::read(scene.file(name)).unwrap().iter().filter(|b| **b == b'\n').count();
    assert_eq!((lines("runs/r.jsonl"), lines("thread.jsonl")), (2, 1));
    let names: Vec<String> = fs::read_dir(scene.file("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 4);
    assert_eq!(names.iter().filter(|name| name.starts_with('~') && name.len() == 71).count(), 3, "{names:?}");
    assert_eq!(scene.texts().await, ["r", "r", "R", "R", "../../evil", "../../evil", "con", "con", "own"]);
    for id in ["..", "a/b", "T"] {
        scene.ledger.create(&Scope::System, NewThread::new(thread(id))).await.unwrap();
    }
    assert_eq!(fs::read_dir(scene.folder.path().join("threads")).unwrap().count(), 4);
    assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 1);
}
