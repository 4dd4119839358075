//! Where imports stand, and what they could not make records of.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{ErrorKind, ImportCursor, ImportSource, Ledger, QuarantineId, Quarantined, Scope, ThreadId};

fn source(text: &str) -> ImportSource {
    ok(ImportSource::new(text))
}

fn read_to(name: &str, byte_offset: u64) -> ImportCursor {
    let last_line_hash = Some(format!("hash of {byte_offset}"));
    ImportCursor { source: source(name), byte_offset, last_line_hash, updated_at: at(3) }
}

fn part(id: &str, content: &str) -> Quarantined {
    Quarantined {
        quarantine_id: ok(QuarantineId::new(id)),
        seq: Some(7),
        source: Some("a file, line 3".to_owned()),
        reason: "is no JSON: \u{2028} ü".to_owned(),
        content_hash: "sha256:0".to_owned(),
        content: Some(content.to_owned()),
        created_at: at(5),
    }
}

async fn of_alice(ledger: &Ledger) -> ThreadId {
    thread(ledger, &alice(), "t").await
}

/// A cursor comes back as it was set last, and is nobody's but its thread's.
pub async fn a_cursor_is_where_it_was_set_last(ledger: &Ledger) {
    let t = of_alice(ledger).await;
    let other = thread(ledger, &alice(), "other").await;
    let imports = ledger.imports();
    assert_eq!(ok(imports.cursor(&alice(), &t, &source("a")).await), None);
    ok(imports.set_cursor(&alice(), &t, read_to("a", 10)).await);
    ok(imports.set_cursor(&alice(), &t, read_to("b", 20)).await);
    ok(imports.set_cursor(&alice(), &t, ImportCursor { last_line_hash: None, ..read_to("a", 0) }).await);
    let cursor = ok(imports.cursor(&alice(), &t, &source("a")).await);
    assert_eq!(cursor, Some(ImportCursor { last_line_hash: None, ..read_to("a", 0) }));
    assert_eq!(ok(imports.cursor(&Scope::System, &t, &source("b")).await), Some(read_to("b", 20)));
    assert_eq!(ok(imports.cursor(&alice(), &other, &source("b")).await), None);
    ok(imports.set_cursor(&alice(), &other, read_to("b", 5)).await);
    assert_eq!(ok(imports.cursor(&alice(), &t, &source("b")).await), None);
    assert_eq!(ok(imports.cursor(&alice(), &other, &source("b")).await), Some(read_to("b", 5)));
}

/// What is no record comes back whole, once, in pages by id.
pub async fn what_is_no_record_is_kept_once(ledger: &Ledger) {
    let t = of_alice(ledger).await;
    let imports = ledger.imports();
    let bare = Quarantined { seq: None, source: None, content: None, ..part("a:003", "") };
    let found = vec![part("a:002", "{\"torn\":"), bare.clone(), part("a:001", "\\x00")];
    assert_eq!(ok(imports.quarantine(&alice(), &t, found.clone()).await), 3);
    let again = vec![part("a:001", "something else"), part("b", "new")];
    assert_eq!(ok(imports.quarantine(&alice(), &t, again).await), 1);
    assert_eq!(ok(imports.quarantine(&alice(), &t, Vec::new()).await), 0);
    let listed = ok(imports.list_quarantined(&alice(), &t, None, 2).await);
    assert_eq!(listed, [found[2].clone(), found[0].clone()]);
    let last = listed.last().map(|part| part.quarantine_id.clone());
    let listed = ok(imports.list_quarantined(&alice(), &t, last.as_ref(), 10).await);
    assert_eq!(listed, [bare, part("b", "new")]);
    assert_eq!(kind(imports.list_quarantined(&alice(), &t, None, 0).await), ErrorKind::InvalidInput);
}

/// What a database would refuse is refused before one is asked, and stores no part of the rest.
pub async fn a_bad_part_is_refused(ledger: &Ledger) {
    let t = of_alice(ledger).await;
    let imports = ledger.imports();
    let bad = [
        Quarantined { reason: "a\0b".to_owned(), ..part("bad", "x") },
        Quarantined { content: Some("\0".to_owned()), ..part("bad", "x") },
        Quarantined { content_hash: "h".repeat(129), ..part("bad", "x") },
        Quarantined { source: Some("log".to_owned()), ..part("bad", "x") },
        part("log:5", "x"),
    ];
    for bad in bad {
        let found = vec![part("good", "x"), bad];
        assert_eq!(kind(imports.quarantine(&alice(), &t, found).await), ErrorKind::InvalidInput);
    }
    let many = (0..1_001).map(|number| part(&format!("p{number}"), "x")).collect();
    assert_eq!(kind(imports.quarantine(&alice(), &t, many).await), ErrorKind::InvalidInput);
    assert_eq!(ok(imports.list_quarantined(&alice(), &t, None, 10).await), []);
    let cursor = ImportCursor { byte_offset: u64::MAX, ..read_to("a", 0) };
    assert_eq!(kind(imports.set_cursor(&alice(), &t, cursor).await), ErrorKind::InvalidInput);
    let cursor = ImportCursor { last_line_hash: Some("\0".to_owned()), ..read_to("a", 0) };
    assert_eq!(kind(imports.set_cursor(&alice(), &t, cursor).await), ErrorKind::InvalidInput);
    assert_eq!(ok(imports.cursor(&alice(), &t, &source("a")).await), None);
}

/// What was quarantined outlives an emptied log, and goes with the thread.
pub async fn what_is_no_record_goes_with_its_thread(ledger: &Ledger) {
    let t = of_alice(ledger).await;
    let imports = ledger.imports();
    ok(imports.quarantine(&alice(), &t, vec![part("a", "x")]).await);
    ok(ledger.events().delete_by_thread(&alice(), &t).await);
    assert_eq!(ok(imports.list_quarantined(&alice(), &t, None, 10).await), [part("a", "x")]);
    ok(ledger.threads().delete(&alice(), &t).await);
    assert_eq!(kind(imports.list_quarantined(&alice(), &t, None, 10).await), ErrorKind::NotFound);
    assert_eq!(kind(imports.quarantine(&alice(), &t, Vec::new()).await), ErrorKind::NotFound);
}
