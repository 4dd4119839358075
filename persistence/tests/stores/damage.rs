//! Rows that were damaged by hand: each kind is found, and a rebuild leaves nothing of the index to find.

use pretty_assertions::assert_eq;
use runledger_core::verify::{Finding, FindingKind};
use runledger_core::{
    Category, Commit, EventDraft, EventType, Finish, ItemEntry, ItemFilter, ItemId, ItemKind, ItemMark,
    ItemStatus, JournalMark, Ledger, NewRun, NewThread, Outcome, RawJson, RunId, RunProgress, Scope,
    SeqRange, SourceId, ThreadId, Timestamp, TokenCounts, UsageDraft,
};
use sea_orm::{ConnectionTrait, Statement};

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn run(id: &str) -> RunId {
    RunId::new(id).unwrap()
}

fn item(id: &str, status: ItemStatus) -> EventDraft {
    let mark = ItemMark::new(ItemId::new(id).unwrap(), ItemKind::ToolCall, status);
    EventDraft::item(mark, Category::Message, RawJson::empty_object())
}

/// Two runs of six events: two items that ended, and of the second run one that goes on and is claimed.
async fn fill(ledger: &Ledger) {
    ledger.threads().create(&Scope::System, NewThread::new(thread())).await.unwrap();
    for id in ["a", "b"] {
        let admitted = ledger.admit(&Scope::System, NewRun::new(thread(), run(id))).await.unwrap();
        let note = EventType::new("note").unwrap();
        let mut commit = Commit::of_run(thread(), run(id)).with_events(vec![
            item("i1", ItemStatus::InProgress),
            EventDraft::new(note, Category::Message, RawJson::string("x")),
            item("i2", ItemStatus::InProgress),
            item("i1", ItemStatus::Completed),
            if id == "a" { item("i2", ItemStatus::Failed) } else { item("i3", ItemStatus::Completed) },
        ]);
        commit.usage = vec![
            UsageDraft::new(SourceId::new(format!("{id}1")).unwrap(), TokenCounts::of(10, 5)),
            UsageDraft::new(SourceId::new(format!("{id}2")).unwrap(), TokenCounts::of(1, 2)),
        ];
        ledger.events().append(&Scope::System, commit).await.unwrap();
        if id == "b" {
            let item = ItemId::new("i2").unwrap();
            let epoch = admitted.run.epoch;
            ledger.items().claim(&Scope::System, &thread(), &run("b"), &item, epoch).await.unwrap();
            continue;
        }
        let outcome = Outcome::success();
        let finish = Finish {
            thread_id: thread(),
            run_id: run(id),
            mark: JournalMark { epoch: admitted.run.epoch, ordinal: 0 },
            events: vec![EventDraft::terminal(&outcome, None, Timestamp::now())],
            outcome,
            at: Timestamp::now(),
            usage: Vec::new(),
            progress: RunProgress::default(),
            asks: Vec::new(),
        };
        ledger.finish(&Scope::System, finish).await.unwrap();
    }
}

async fn write(url: &str, sql: &str) {
    let database = sea_orm::Database::connect(url).await.unwrap();
    database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
}

async fn findings(ledger: &Ledger) -> Vec<Finding> {
    ledger.items().verify(&Scope::System, &thread()).await.unwrap().findings
}

async fn items(ledger: &Ledger) -> Vec<ItemEntry> {
    let range = SeqRange::after(0, 100);
    ledger.items().list(&Scope::System, &thread(), &ItemFilter::default(), &range).await.unwrap().items
}

/// What is done to the index, and what is found of it. The next one is done to the rebuilt index.
const OF_THE_INDEX: &[(&str, &[(FindingKind, &str)])] = &[
    ("DELETE FROM thread_items WHERE run_id = 'a' AND item_id = 'i1'", &[(FindingKind::ItemMissing, "a i1")]),
    ("DELETE FROM thread_items WHERE run_id = 'b' AND item_id = 'i3'", &[(FindingKind::ItemMissing, "b i3")]),
    (
        "UPDATE thread_items SET item_id = 'i9' WHERE run_id = 'a' AND item_id = 'i2'",
        &[(FindingKind::ItemMissing, "a i2"), (FindingKind::ItemExtra, "a i9")],
    ),
    (
        "UPDATE thread_items SET run_id = 'gone' WHERE run_id = 'a' AND item_id = 'i2'",
        &[(FindingKind::ItemMissing, "a i2"), (FindingKind::ItemWithoutRun, "gone i2")],
    ),
    (
        "UPDATE thread_items SET status = 'failed' WHERE run_id = 'a' AND item_id = 'i1'",
        &[(FindingKind::ItemDiffers, "a i1")],
    ),
    (
        "UPDATE thread_items SET status = 'in_progress', completed_seq = NULL WHERE run_id = 'a' AND item_id = 'i1'",
        &[(FindingKind::ItemDiffers, "a i1")],
    ),
    (
        "UPDATE thread_items SET completed_seq = 9 WHERE run_id = 'b' AND item_id = 'i2'",
        &[(FindingKind::ItemDiffers, "b i2")],
    ),
    (
        "UPDATE thread_items SET started_seq = 2 WHERE run_id = 'a' AND item_id = 'i1'",
        &[(FindingKind::ItemDiffers, "a i1")],
    ),
    (
        "UPDATE thread_items SET completed_seq = 1 WHERE run_id = 'a' AND item_id = 'i2'",
        &[(FindingKind::ItemExtra, "a i2")],
    ),
    (
        "UPDATE thread_items SET updated_seq = 1, caller = 'x', call_id = 'x', parent_item_id = 'x' \
         WHERE run_id = 'a' AND item_id = 'i2'",
        &[(FindingKind::ItemDiffers, "a i2")],
    ),
    (
        "UPDATE thread_items SET item_kind = 'plan', started_at = '2020-01-01T00:00:00+00:00' \
         WHERE run_id = 'b' AND item_id = 'i3'",
        &[(FindingKind::ItemDiffers, "b i3")],
    ),
    (
        "UPDATE thread_items SET started_seq = -7 WHERE run_id = 'a' AND item_id = 'i2'",
        &[(FindingKind::UnreadableRow, " ")],
    ),
    (
        "UPDATE thread_items SET call_id = '' WHERE run_id = 'b'",
        &[
            (FindingKind::UnreadableRow, " "),
            (FindingKind::UnreadableRow, " "),
            (FindingKind::UnreadableRow, " "),
        ],
    ),
];

/// What is done beside the index, what is found of it, and what undoes it.
const BESIDE_THE_INDEX: &[(&str, FindingKind, &str)] = &[
    (
        "UPDATE thread_heads SET message_count = message_count + 1",
        FindingKind::MessageCount,
        "UPDATE thread_heads SET message_count = message_count - 1",
    ),
    (
        "UPDATE runs SET message_count = message_count - 1 WHERE run_id = 'a'",
        FindingKind::MessageCount,
        "UPDATE runs SET message_count = message_count + 1 WHERE run_id = 'a'",
    ),
    (
        "UPDATE thread_heads SET next_seq = next_seq + 2",
        FindingKind::Gap,
        "UPDATE thread_heads SET next_seq = next_seq - 2",
    ),
    (
        "UPDATE thread_heads SET next_seq = next_seq - 1",
        FindingKind::NextSeq,
        "UPDATE thread_heads SET next_seq = next_seq + 1",
    ),
    (
        "UPDATE thread_heads SET epoch = epoch + 1",
        FindingKind::ActiveRun,
        "UPDATE thread_heads SET epoch = epoch - 1",
    ),
    (
        "UPDATE thread_heads SET active_run_id = NULL",
        FindingKind::ActiveRun,
        "UPDATE thread_heads SET active_run_id = 'b'",
    ),
    (
        "UPDATE runs SET total_tokens = total_tokens + 1 WHERE run_id = 'a'",
        FindingKind::Totals,
        "UPDATE runs SET total_tokens = total_tokens - 1 WHERE run_id = 'a'",
    ),
    (
        "UPDATE runs SET last_seq = last_seq - 1 WHERE run_id = 'b'",
        FindingKind::EventOutsideRun,
        "UPDATE runs SET last_seq = last_seq + 1 WHERE run_id = 'b'",
    ),
    (
        "UPDATE usage_records SET run_id = 'gone' WHERE source_id = 'a1'",
        FindingKind::UsageWithoutRun,
        "UPDATE usage_records SET run_id = 'a' WHERE source_id = 'a1'",
    ),
    (
        "UPDATE run_events SET run_id = 'gone' WHERE seq = 6",
        FindingKind::EventWithoutRun,
        "UPDATE run_events SET run_id = 'a' WHERE seq = 6",
    ),
    (
        "UPDATE usage_records SET output_tokens = -1 WHERE source_id = 'a1'",
        FindingKind::UnreadableRow,
        "UPDATE usage_records SET output_tokens = 5 WHERE source_id = 'a1'",
    ),
    (
        "UPDATE thread_heads SET message_count = -1 - message_count",
        FindingKind::UnreadableRow,
        "UPDATE thread_heads SET message_count = -1 - message_count",
    ),
];

fn told(findings: &[Finding]) -> Vec<(FindingKind, String)> {
    let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
    let mut told: Vec<(FindingKind, String)> = findings
        .iter()
        .map(|finding| {
            let run = id(finding.run_id.as_ref().map(RunId::as_str));
            (finding.kind.clone(), format!("{run} {}", id(finding.item_id.as_ref().map(ItemId::as_str))))
        })
        .collect();
    told.sort();
    told
}

async fn damage_is_found_and_mended(ledger: &Ledger, url: &str) {
    fill(ledger).await;
    let whole = items(ledger).await;
    assert_eq!((findings(ledger).await, whole.len()), (vec![], 5));
    for (damage, expected) in OF_THE_INDEX {
        write(url, damage).await;
        let mut expected: Vec<(FindingKind, String)> =
            expected.iter().map(|(kind, of)| (kind.clone(), (*of).to_owned())).collect();
        expected.sort();
        assert_eq!(told(&findings(ledger).await), expected, "{damage}");
        let rebuilt = ledger.items().rebuild(&Scope::System, &thread()).await.unwrap();
        assert_eq!((rebuilt.events, rebuilt.items, rebuilt.quarantined, rebuilt.gaps.len()), (11, 5, 0, 0));
        assert_eq!(items(ledger).await, whole, "{damage}");
        assert_eq!(findings(ledger).await, [], "{damage}");
    }
    for (damage, expected, undone) in BESIDE_THE_INDEX {
        write(url, damage).await;
        let found = findings(ledger).await;
        assert!(found.iter().any(|finding| finding.kind == *expected), "{damage}: {found:?}");
        write(url, undone).await;
        assert_eq!(findings(ledger).await, [], "{damage}");
    }
}

/// A record that cannot be read is told, noted by a rebuild, and then known; what it began is gone from the index.
async fn an_unreadable_record_stops_nothing(ledger: &Ledger, url: &str) {
    fill(ledger).await;
    write(url, "UPDATE run_events SET content_bytes = -1 WHERE seq = 5").await;
    let found = findings(ledger).await;
    assert!(found.iter().any(|finding| finding.kind == FindingKind::UnreadableRow), "{found:?}");
    assert!(found.iter().any(|finding| finding.kind == FindingKind::ItemDiffers), "{found:?}");
    let rebuilt = ledger.items().rebuild(&Scope::System, &thread()).await.unwrap();
    assert_eq!((rebuilt.events, rebuilt.items, rebuilt.quarantined), (11, 5, 1));
    // It was the end of the first run's second item.
    let open: Vec<ItemEntry> =
        items(ledger).await.into_iter().filter(|item| item.status == ItemStatus::InProgress).collect();
    let open: Vec<(&str, &str)> =
        open.iter().map(|item| (item.run_id.as_str(), item.item_id.as_str())).collect();
    assert_eq!(open, [("a", "i2"), ("b", "i2")]);
    let verified = ledger.items().verify(&Scope::System, &thread()).await.unwrap();
    assert_eq!((verified.findings, verified.quarantined), (vec![], 1));
    let database = sea_orm::Database::connect(url).await.unwrap();
    let sql = "SELECT seq, source, content_hash, reason FROM quarantine WHERE thread_id = 't'";
    let noted = Statement::from_string(database.get_database_backend(), sql);
    let noted = database.query_one_raw(noted).await.unwrap().unwrap();
    database.close().await.unwrap();
    assert_eq!(noted.try_get_by_index::<i64>(0).unwrap(), 5);
    assert_eq!(noted.try_get_by_index::<String>(1).unwrap(), "log");
    let hash: String = noted.try_get_by_index(2).unwrap();
    assert_eq!(hash, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    let reason: String = noted.try_get_by_index(3).unwrap();
    assert!(reason.contains("content_bytes"), "{reason}");
    // What can be read again is not quarantined any more.
    write(url, "UPDATE run_events SET content_bytes = 2 WHERE seq = 5").await;
    let rebuilt = ledger.items().rebuild(&Scope::System, &thread()).await.unwrap();
    assert_eq!(rebuilt.quarantined, 0);
    let verified = ledger.items().verify(&Scope::System, &thread()).await.unwrap();
    assert_eq!((verified.findings, verified.quarantined), (vec![], 0));
}

/// Numbers that are missing are told by both, until a deletion explains them.
async fn a_gap_is_told(ledger: &Ledger, url: &str) {
    fill(ledger).await;
    write(url, "DELETE FROM run_events WHERE seq = 2").await;
    let found = findings(ledger).await;
    assert_eq!(found[0].kind, FindingKind::Gap);
    let rebuilt = ledger.items().rebuild(&Scope::System, &thread()).await.unwrap();
    assert_eq!(rebuilt.gaps.iter().map(|gap| (gap.from, gap.through)).collect::<Vec<_>>(), [(2, 2)]);
    let explained = "INSERT INTO deletions (thread_id, from_seq, through_seq, reason, deleted_at) \
                     VALUES ('t', 2, 2, 'by hand', '2026-01-01T00:00:00+00:00')";
    write(url, explained).await;
    write(url, "UPDATE thread_heads SET message_count = message_count - 1").await;
    write(url, "UPDATE runs SET message_count = message_count - 1 WHERE run_id = 'a'").await;
    assert_eq!(findings(ledger).await, []);
    assert_eq!(ledger.items().rebuild(&Scope::System, &thread()).await.unwrap().gaps, []);
}

macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite { $(
            #[tokio::test]
            async fn $case() {
                let (ledger, fresh) = crate::backend::sqlite().await;
                super::$case(&ledger.ledger(), &fresh.url).await;
                ledger.close().await;
            }
        )+ }
        mod postgresql { $(
            #[tokio::test]
            async fn $case() {
                if let Some((ledger, fresh)) = crate::backend::postgresql().await {
                    super::$case(&ledger.ledger(), &fresh.url).await;
                    ledger.close().await;
                }
            }
        )+ }
    };
}

on_both!(damage_is_found_and_mended, an_unreadable_record_stops_nothing, a_gap_is_told);
