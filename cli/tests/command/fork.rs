//! `fork` and `blob`.

use pretty_assertions::assert_eq;
use runledger_core::{
    BlobHash, Category, Commit, EventDraft, EventType, ItemId, ItemKind, ItemMark, ItemStatus, NewRun,
    NewThread, RawJson, RunId, Scope, ThreadId, offload,
};
use serde_json::json;

use crate::Place;

/// A thread with an active run, whose one item has a large text.
async fn talked() -> Place {
    let place = Place::new();
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let (thread, run) = (ThreadId::new("t").unwrap(), RunId::new("r").unwrap());
    let new = NewRun {
        create_missing: Some(NewThread::new(thread.clone())),
        ..NewRun::new(thread.clone(), run.clone())
    };
    ledger.admit(&Scope::System, new).await.unwrap();
    let (content, blobs) = offload(&RawJson::string("a large text"), 0, 10).unwrap();
    let mark = ItemMark::new(ItemId::new("i").unwrap(), ItemKind::Plan, ItemStatus::Completed);
    let mut events = vec![EventDraft::item(mark, Category::Message, content)];
    events.push(EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::string("last")));
    let commit = Commit { blobs, ..Commit::of_run(thread, run).with_events(events) };
    ledger.events().append(&Scope::System, commit).await.unwrap();
    ledger.close().await;
    place
}

#[tokio::test]
async fn a_thread_is_forked_and_forked_again() {
    let place = talked().await;
    let told = place.run(&["fork", "t", "--as", "f", "--item", "r/i", "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let expected = json!({
        "thread_id": "f", "forked_from_thread_id": "t", "forked_at_seq": 1, "events": 1, "written": 1,
    });
    assert_eq!((told.code, document), (0, expected));
    let again = place.run(&["fork", "t", "--as", "f", "--item", "r/i"]).await;
    assert_eq!((again.code, again.out.as_str()), (0, "f  1 events of t\n"));
    let all = place.run(&["fork", "t", "--through-run", "r"]).await;
    assert!(all.code == 0 && all.out.ends_with("  2 events of t\n"), "{}", all.out);
    // Another point under that id, a thread that is not there, and one that is not seen.
    assert_eq!(place.run(&["fork", "t", "--as", "f", "--before-run", "r"]).await.code, 1);
    assert_eq!(place.run(&["fork", "none"]).await.code, 1);
    assert_eq!(place.run(&["fork", "t", "--owner", "mallory"]).await.code, 1);
}

#[tokio::test]
async fn a_blob_is_written_where_it_is_wanted() {
    let place = talked().await;
    let hash = BlobHash::of(b"a large text").to_string();
    let told = place.run(&["blob", "t", &hash]).await;
    assert_eq!((told.code, told.out.as_str()), (0, "a large text"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    let file = path.to_str().unwrap();
    let told = place.run(&["blob", "t", &hash, "-o", file, "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let expected = json!({ "hash": hash, "media_type": "text/plain", "bytes": 12, "file": file });
    assert_eq!((told.code, document), (0, expected));
    assert_eq!(std::fs::read(&path).unwrap(), b"a large text");
    // What is there is not written over.
    assert_eq!(place.run(&["blob", "t", &hash, "-o", file]).await.code, 1);
    assert_eq!(place.run(&["blob", "t", BlobHash::of(b"none").as_str()]).await.code, 1);
    assert_eq!(place.run(&["blob", "t", &hash, "--owner", "mallory"]).await.code, 1);
}
