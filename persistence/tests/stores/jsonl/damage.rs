//! Files that were changed by something else than a crash.

use std::fs;

use pretty_assertions::assert_eq;
use runledger_core::{
    ErrorKind, EventFilter, EventStore as _, NewThread, OwnerId, Scope, SeqRange, ThreadStore as _,
};

use super::scene::{Scene, files, thread};

/// A thread with four commits to one run, and another thread.
async fn four() -> Scene {
    let scene = Scene::with_thread().await;
    for text in ["one", "two", "three", "four"] {
        scene.append(Some("r"), &[text]).await.unwrap();
    }
    scene.ledger.create(&Scope::System, NewThread::new(thread("other"))).await.unwrap();
    scene
}

/// Damage amid the records is told with its place and never cut; all that it is not about stays usable.
#[tokio::test]
async fn damage_amid_the_records_is_told_and_not_cut() {
    let scene = four().await;
    let path = scene.file("runs/r.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let damaged = text.replacen("two", "too", 1);
    fs::write(&path, &damaged).unwrap();
    let offset = text.find('\n').unwrap() + 1;
    let told = |error: runledger_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        for part in [path.to_str().unwrap(), "line 2 ", &format!("byte {offset}"), "restore"] {
            assert!(text.contains(part), "{text}");
        }
    };
    told(scene.log().await.unwrap_err());
    let last = SeqRange::last(2);
    let page = scene.ledger.list_events(&Scope::System, &thread("t"), &EventFilter::default(), &last).await;
    assert_eq!(super::scene::texts(&page.unwrap().items), ["three", "four"]);
    scene.append(Some("r"), &["five"]).await.unwrap();

    // Without its index the whole thread is looked at.
    fs::remove_dir_all(scene.file("index")).unwrap();
    fs::create_dir(scene.file("index")).unwrap();
    let scene = scene.reopen().await;
    let before = files(&scene.file(""));
    told(scene.append(Some("q"), &["six"]).await.unwrap_err());
    told(scene.log().await.unwrap_err());
    let recovery = scene.ledger.recover().await.unwrap();
    assert_eq!((recovery.threads, recovery.failed.len()), (2, 1));
    assert_eq!(files(&scene.file("")), before);
    let other = super::scene::commit("other", None, &["x"]);
    assert_eq!(scene.ledger.append(&Scope::System, other).await.unwrap().seqs, [1]);

    // The remedy: without the line, the rest is whole.
    let kept: String = fs::read_to_string(&path)
        .unwrap()
        .split_inclusive('\n')
        .filter(|line| !line.contains("too"))
        .collect();
    fs::write(&path, kept).unwrap();
    assert_eq!(scene.append(Some("q"), &["six"]).await.unwrap().seqs, [6]);
    assert_eq!(scene.texts().await, ["one", "three", "four", "five", "six"]);
}

/// Damage at the end of a file is told as well where the index knows that it was finished.
#[tokio::test]
async fn damage_of_a_last_commit_is_told_and_not_cut() {
    let whole = Scene::with_thread().await;
    whole.append(Some("r"), &["one", "two"]).await.unwrap();
    whole.append(None, &["three"]).await.unwrap();
    whole.append(Some("q"), &["four", "five"]).await.unwrap();
    for (file, word) in [("runs/r.jsonl", "two"), ("thread.jsonl", "three"), ("runs/q.jsonl", "five")] {
        let scene = whole.copy().await;
        let path = scene.file(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen(word, "xxxxx".get(..word.len()).unwrap(), 1)).unwrap();
        let before = files(&scene.file(""));
        let error = scene.append(Some("p"), &["six"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{file}");
        let said = error.to_string();
        assert!(said.contains(path.to_str().unwrap()) && said.contains("restore"), "{said}");
        assert_eq!(files(&scene.file("")), before, "{file}");

        // The remedy: without the line, its commit is gone and the rest is whole.
        let kept: String = text.split_inclusive('\n').filter(|line| !line.contains(word)).collect();
        fs::write(&path, kept).unwrap();
        assert_eq!(scene.append(Some("p"), &["six"]).await.unwrap().seqs, [6], "{file}");
        let lost: &[&str] = match word {
            "two" => &["one", "two"],
            "three" => &["three"],
            _ => &["four", "five"],
        };
        let left: Vec<_> = ["one", "two", "three", "four", "five", "six"]
            .into_iter()
            .filter(|text| !lost.contains(text))
            .collect();
        assert_eq!(scene.texts().await, left, "{file}");
    }
}

/// The index is made anew whatever happens to it, and never believed where it is wrong.
#[tokio::test]
async fn a_damaged_index_changes_no_answer() {
    let whole = four().await;
    let expected = whole.log().await.unwrap();
    let sizes: Vec<u64> = ["index/0.entries", "index/0.runs"]
        .map(|file| fs::metadata(whole.file(file)).unwrap().len())
        .to_vec();
    for (file, size) in ["index/0.entries", "index/0.runs"].into_iter().zip(sizes) {
        for place in (0..usize::try_from(size).unwrap()).step_by(5) {
            for what in ["changed", "cut"] {
                let scene = whole.copy().await;
                let mut bytes = fs::read(scene.file(file)).unwrap();
                match what {
                    "changed" => bytes[place] ^= 0x11,
                    _ => bytes.truncate(place),
                }
                fs::write(scene.file(file), bytes).unwrap();
                let at = format!("{file}, byte {place} {what}");
                // Where it is cut between two entries, only a writer looks at the files.
                let is_short = file.ends_with("entries") && what == "cut" && place % 48 == 0;
                if !is_short {
                    assert_eq!(scene.log().await.unwrap(), expected, "{at}");
                }
                assert_eq!(scene.append(Some("r"), &["five"]).await.unwrap().seqs, [5], "{at}");
                assert_eq!(scene.log().await.unwrap()[..4], expected, "{at}");
            }
        }
    }
}

/// A head that is lost or damaged is told; a new one goes on with the records and the numbers.
#[tokio::test]
async fn a_lost_head_is_told_and_restored() {
    for how in ["lost", "damaged", "emptied"] {
        let scene = four().await;
        let head = scene.file("head.json");
        match how {
            "lost" => fs::remove_file(&head).unwrap(),
            "damaged" => {
                let text = fs::read_to_string(&head).unwrap();
                fs::write(&head, text.replacen("\"open\"", "\"opan\"", 1)).unwrap();
            }
            _ => fs::write(&head, "").unwrap(),
        }
        let scene = scene.reopen().await;
        let system = Scope::System;
        for error in [
            scene.log().await.unwrap_err(),
            scene.append(Some("r"), &["x"]).await.unwrap_err(),
            scene.ledger.create(&system, NewThread::new(thread("t"))).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{how}");
            assert!(
                error.to_string().contains("head.json") && error.to_string().contains("restore_head"),
                "{error}"
            );
        }
        let alice = OwnerId::new("alice").unwrap();
        let new = NewThread { owner_id: Some(alice.clone()), ..NewThread::new(thread("t")) };
        let own = scene.ledger.restore_head(&Scope::Owner(alice.clone()), new.clone()).await;
        assert_eq!(own.unwrap_err().kind(), ErrorKind::InvalidInput);
        scene.ledger.restore_head(&system, new.clone()).await.unwrap();
        assert_eq!(scene.texts().await, ["one", "two", "three", "four"], "{how}");
        let mine = super::scene::commit("t", Some("r"), &["five"]);
        assert_eq!(scene.ledger.append(&Scope::Owner(alice), mine).await.unwrap().seqs, [5], "{how}");
        assert_eq!(
            scene.ledger.restore_head(&system, new).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        let nothing = scene.ledger.restore_head(&system, NewThread::new(thread("none"))).await;
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(scene.file("head.json.damaged").exists(), how != "lost");
    }
}

/// What a newer version wrote is read as far as it is understood, and nothing is written beside it.
#[tokio::test]
async fn a_newer_version_is_read_and_not_written() {
    let scene = Scene::with_thread().await;
    scene.append(Some("r"), &["a"]).await.unwrap();
    let path = scene.file("runs/r.jsonl");
    let records = fs::read_to_string(&path).unwrap();
    let known = r#"{"v":2,"seq":2,"run_id":"r","type":"note","end":true,"crc":"f99326f6","payload":{"category":"message","created_at":"2026-11-21T00:00:00.000000+00:00","content_bytes":3,"content":"x","new":{}}}"#;
    let unknown = r#"{"v":2,"seq":3,"run_id":"r","type":"note","end":true,"crc":"ca25b1bf","payload":["what","is this"]}"#;
    fs::write(&path, format!("{records}{known}\n{unknown}\n")).unwrap();
    fs::remove_dir_all(scene.file("index")).unwrap();
    let before = files(scene.folder.path());
    let scene = scene.reopen().await;
    let head = scene.ledger.head(&Scope::System, &thread("t")).await.unwrap();
    assert_eq!((head.next_seq, head.message_count), (4, 2));
    let page = async |range| {
        scene.ledger.list_events(&Scope::System, &thread("t"), &EventFilter::default(), &range).await
    };
    let read = page(SeqRange::before(3, 10)).await.unwrap().items;
    assert_eq!(super::scene::texts(&read), ["a", "x"]);
    assert_eq!(page(SeqRange::last(1)).await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    for refused in [
        scene.append(Some("r"), &["b"]).await.map(drop),
        scene.append(None, &["b"]).await.map(drop),
        scene.ledger.delete_by_thread(&Scope::System, &thread("t")).await.map(drop),
        scene.ledger.delete(&Scope::System, &thread("t")).await.map(drop),
        scene
            .ledger
            .update(&Scope::System, &thread("t"), Default::default(), runledger_core::Timestamp::now())
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        assert!(error.to_string().contains("version 2"), "{error}");
    }
    assert_eq!(files(scene.folder.path()), before);
}

/// A file in the place of another, or a head in the folder of another thread, is told.
#[tokio::test]
async fn what_lies_in_a_wrong_place_is_told() {
    let scene = four().await;
    fs::rename(scene.file("runs/r.jsonl"), scene.file("runs/q.jsonl")).unwrap();
    let scene = scene.reopen().await;
    for error in [scene.log().await.unwrap_err(), scene.append(None, &["x"]).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("q.jsonl"), "{error}");
    }
    fs::copy(scene.folder.path().join("threads/other/head.json"), scene.file("head.json")).unwrap();
    assert_eq!(scene.log().await.unwrap_err().kind(), ErrorKind::Corrupt);
}
