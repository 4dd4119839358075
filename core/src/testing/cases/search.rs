//! Full-text search: what is found, by whom, and until when.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::view::search::{MAX_TEXT_BYTES, SearchQuery, Snippet, Words};
use crate::{
    Category, Commit, Cursor, ErrorKind, EventDraft, IndexBudget, Indexed, ItemKind, ItemMark, ItemStatus,
    Ledger, ListRange, RawJson, RunVisibility, Scope, SearchFilter, SearchHit, SearchPage, ThreadId,
    Visibility,
};

/// No numbers.
const NONE: [u64; 0] = [];

fn query(text: &str) -> SearchQuery {
    ok(SearchQuery::parse(text))
}

/// A completed item with this payload, at this second.
fn said(id: &str, kind: ItemKind, content: &str, second: i64) -> EventDraft {
    let mark = ItemMark::new(item_id(id), kind, ItemStatus::Completed);
    EventDraft { created_at: at(second), ..EventDraft::item(mark, Category::Message, json(content)) }
}

/// A person's message.
fn asked(id: &str, text: &str, second: i64) -> EventDraft {
    said(id, ItemKind::UserMessage, &format!("{{\"content\":{}}}", RawJson::string(text)), second)
}

async fn page(
    ledger: &Ledger,
    scope: &Scope,
    text: &str,
    filter: &SearchFilter,
    range: &ListRange,
) -> SearchPage {
    ok(ledger.search(scope, &query(text), filter, range).await)
}

/// Everything that is found, as thread and number.
async fn all(ledger: &Ledger, scope: &Scope, text: &str, filter: &SearchFilter) -> Vec<(String, u64)> {
    let page = page(ledger, scope, text, filter, &ListRange::newest(1_000)).await;
    assert!(!page.has_more && page.next_cursor.is_none(), "{page:?}");
    page.items.into_iter().map(|hit| (hit.thread_id.as_str().to_owned(), hit.seq)).collect()
}

/// The numbers that alice finds.
async fn found(ledger: &Ledger, text: &str) -> Vec<u64> {
    all(ledger, &alice(), text, &SearchFilter::default()).await.into_iter().map(|(_, seq)| seq).collect()
}

/// A thread with a run that goes on.
async fn open(ledger: &Ledger, scope: &Scope, id: &str) -> ThreadId {
    let t = thread(ledger, scope, id).await;
    admit(ledger, &t, "r").await.thread
}

/// Appends to the run of [`open`].
async fn put(ledger: &Ledger, thread: &ThreadId, events: Vec<EventDraft>) {
    ok(commit(ledger, Commit::of_run(thread.clone(), run_id("r")).with_events(events)).await);
}

/// Ends the run of [`open`].
async fn close(ledger: &Ledger, thread: &ThreadId) {
    finish(ledger, &Admitted { thread: thread.clone(), run: run_id("r"), epoch: 1 }, 0).await;
}

/// Alice's thread, on which these were said.
async fn thread_of(ledger: &Ledger, id: &str, texts: &[&str]) -> ThreadId {
    let t = open(ledger, &alice(), id).await;
    let events = texts.iter().enumerate().map(|(n, text)| asked(&format!("i{n}"), text, n as i64));
    put(ledger, &t, events.collect()).await;
    t
}

/// Words in any order, phrases, beginnings and exclusions, whatever their case; what parts words makes a phrase.
pub async fn words_phrases_and_beginnings_are_found(ledger: &Ledger) {
    thread_of(
        ledger,
        "t",
        &[
            "The quick brown fox",
            "A brown, quick dog: foo.bar_baz",
            "Quickly now! ÜBER-große Straße café",
            "今日は良い天気です and x86_64",
            "it's 3.14, 'quoted' & \"double\" \\ back | slash (paren) AND OR NOT",
        ],
    )
    .await;
    for (text, seqs) in [
        ("quick", &[2, 1][..]),
        ("QUICK BROWN", &[2, 1]),
        ("\"quick brown\"", &[1]),
        ("\"brown quick\"", &[2]),
        ("quick*", &[3, 2, 1]),
        ("quick -dog", &[1]),
        ("quick* -\"quick dog\"", &[3, 1]),
        ("quick -qui*", &[]),
        ("foo.bar", &[2]),
        ("bar.foo", &[]),
        ("foo_bar_baz", &[2]),
        ("über", &[3]),
        ("GROSSE", &[]),
        ("Große", &[3]),
        ("café", &[3]),
        ("cafe", &[]),
        ("天気", &[4]),
        ("気天", &[]),
        ("x86", &[4]),
        ("3.14", &[5]),
        ("it's and or not", &[5]),
        ("quoted) OR (x", &[]),
        ("nothing", &[]),
    ] {
        assert_eq!(found(ledger, text).await, seqs, "{text}");
    }
}

/// Messages and what tools returned are searched, by the kind of their item; starts, traces, keys, arguments and
/// bytes are not.
pub async fn what_is_said_and_printed_is_found(ledger: &Ledger) {
    let t = open(ledger, &alice(), "t").await;
    let mut started = tool_started("c");
    started.content = json(r#"{"name":"needle","args":{"q":"needle"}}"#);
    let trace = EventDraft { category: Category::Trace, ..asked("x", "needle", 0) };
    let image = r#"{"content":[{"type":"text","text":"a needle"},{"type":"image_url","image_url":{"url":"data:image/png;base64,needle"}}]}"#;
    put(
        ledger,
        &t,
        vec![
            message("needle of an application"),
            note("needle of no message"),
            started,
            trace,
            said("u", ItemKind::UserMessage, image, 0),
            said("a", ItemKind::AgentMessage, r#"{"content":"needle","tool_calls":[]}"#, 0),
            said("r", ItemKind::Reasoning, r#"{"text":"needle"}"#, 0),
            said(
                "c",
                ItemKind::ToolCall,
                r#"{"name":"look","args":{"q":"hay"},"content":{"needle":"straw"}}"#,
                0,
            ),
            said("d", ItemKind::ToolCall, r#"{"name":"look","args":{},"content":{"found":["needle"]}}"#, 0),
            said(
                "e",
                ItemKind::CommandExecution,
                r#"{"name":"shell","args":{},"detail":{"command":["grep","needle"]}}"#,
                0,
            ),
            said(
                "f",
                ItemKind::ToolCall,
                r#"{"name":"look","args":{},"error":{"type":"E","message":"no needle"}}"#,
                0,
            ),
        ],
    )
    .await;
    assert_eq!(found(ledger, "needle").await, [11, 10, 9, 7, 6, 5, 1]);
    assert_eq!(found(ledger, "straw").await, [8]);
    assert_eq!(found(ledger, "hay").await, NONE);
    assert_eq!(found(ledger, "image_url").await, NONE);
}

/// A match names its event, run and item, and shows what was found.
pub async fn a_match_says_where_it_is(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let run = admit(ledger, &t, "r").await;
    let text = format!("{} the  needle\n{}", "hay ".repeat(200), "straw ".repeat(200));
    ok(commit(ledger, run.commit(0, vec![message("none"), asked("i", &text, 7)])).await);
    let page =
        page(ledger, &alice(), "\"The Needle\"", &SearchFilter::default(), &ListRange::default()).await;
    let snippet = page.items[0].snippet.clone();
    let [(from, to)] = snippet.marks[..] else { panic!("{snippet:?}") };
    let marked: String = snippet.text.chars().skip(from).take(to - from).collect();
    assert_eq!((marked.as_str(), snippet.cut_before, snippet.cut_after), ("the needle", true, true));
    assert!(snippet.text.starts_with("hay hay") && snippet.text.ends_with("straw"), "{snippet:?}");
    let hit = SearchHit {
        thread_id: t,
        seq: 2,
        run_id: Some(run.run.clone()),
        item_id: Some(item_id("i")),
        item_kind: Some(ItemKind::UserMessage),
        created_at: at(7),
        snippet,
    };
    assert_eq!(page.items, [hit]);
    let short = self::page(ledger, &alice(), "none", &SearchFilter::default(), &ListRange::default()).await;
    let whole = Snippet { text: "none".to_owned(), marks: vec![(0, 4)], ..Snippet::default() };
    assert_eq!((&short.items[0].snippet, &short.items[0].item_kind), (&whole, &None));
}

/// Matches of several threads come newest first, in pages that miss nothing and repeat nothing.
pub async fn matches_come_newest_first_in_pages(ledger: &Ledger) {
    let mut expected = Vec::new();
    for (thread, seconds) in [("a", [5, 1, 3, 3]), ("b", [4, 3, 9, 3])] {
        let t = open(ledger, &alice(), thread).await;
        let events =
            seconds.iter().enumerate().map(|(n, second)| asked(&format!("i{n}"), "x y needle", *second));
        put(ledger, &t, events.collect()).await;
        expected.extend(seconds.iter().zip(1..).map(|(second, seq)| (*second, thread.to_owned(), seq)));
    }
    expected.sort_by(|a, b| b.cmp(a));
    let expected: Vec<(String, u64)> = expected.into_iter().map(|(_, thread, seq)| (thread, seq)).collect();
    for text in ["needle", "\"y needle\""] {
        for limit in [1, 3, 8, 100] {
            let (mut cursor, mut seen) = (None, Vec::new());
            loop {
                let range = ListRange { limit, cursor };
                let page = page(ledger, &alice(), text, &SearchFilter::default(), &range).await;
                assert!(page.items.len() <= limit as usize);
                seen.extend(page.items.iter().map(|hit| (hit.thread_id.as_str().to_owned(), hit.seq)));
                assert_eq!(page.has_more, page.next_cursor.is_some());
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected, "{text} by {limit}");
        }
    }
}

/// Filters: a thread, kinds of items, a time.
pub async fn matches_are_filtered(ledger: &Ledger) {
    let t = thread_of(ledger, "t", &["needle", "needle"]).await;
    let call = r#"{"name":"n","args":{},"content":"needle"}"#;
    put(ledger, &t, vec![said("c", ItemKind::ToolCall, call, 9), message("needle")]).await;
    thread_of(ledger, "u", &["needle"]).await;
    let one = |thread: &str, seqs: &[u64]| -> Vec<(String, u64)> {
        seqs.iter().map(|seq| (thread.to_owned(), *seq)).collect()
    };
    let of = |filter: SearchFilter| async move { all(ledger, &alice(), "needle", &filter).await };
    let none = SearchFilter::default();
    assert_eq!(of(SearchFilter::of_thread(t.clone())).await, one("t", &[3, 2, 4, 1]));
    assert_eq!(of(SearchFilter::of_thread(thread_id("u"))).await, one("u", &[1]));
    let kinds = vec![ItemKind::ToolCall, ItemKind::Plan];
    assert_eq!(of(SearchFilter { kinds, ..none.clone() }).await, one("t", &[3]));
    let kinds = vec![ItemKind::UserMessage];
    let filter = SearchFilter { kinds, ..SearchFilter::of_thread(t) };
    assert_eq!(of(filter).await, one("t", &[2, 1]));
    assert_eq!(of(SearchFilter { created_from: Some(at(1)), ..none.clone() }).await, one("t", &[3, 2]));
    let filter = SearchFilter { created_from: Some(at(1)), created_before: Some(at(9)), ..none };
    assert_eq!(of(filter).await, one("t", &[2]));
}

/// What a hidden run said is left out, unless it is asked for; shown again, it is found again.
pub async fn hidden_runs_are_left_out(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        let run = admit_at(ledger, &t, name, number as i64).await;
        ok(commit(ledger, run.commit(0, vec![asked(name, "needle", number as i64)])).await);
        finish(ledger, &run, 1).await;
    }
    let seqs = found(ledger, "needle").await;
    assert_eq!(seqs.len(), 2);
    ok(ledger.runs().set_visibility(&alice(), &t, &run_id("b"), Visibility::Superseded).await);
    assert_eq!(found(ledger, "needle").await, seqs[1..]);
    let every = SearchFilter { visibility: RunVisibility::All, ..SearchFilter::default() };
    assert_eq!(all(ledger, &alice(), "needle", &every).await.len(), 2);
    ok(ledger.runs().set_visibility(&alice(), &t, &run_id("b"), Visibility::Shown).await);
    assert_eq!(found(ledger, "needle").await, seqs);
}

/// A run, a log, a thread and a tree that are deleted are not found any more, and what comes after them is.
pub async fn what_is_deleted_is_not_found(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    for name in ["a", "b"] {
        let run = admit(ledger, &t, name).await;
        ok(commit(ledger, run.commit(0, vec![asked(name, &format!("needle {name}"), 0)])).await);
        finish(ledger, &run, 1).await;
    }
    assert_eq!(found(ledger, "needle").await.len(), 2);
    ok(ledger.events().delete_by_run(&alice(), &t, &run_id("b")).await);
    assert_eq!((found(ledger, "needle").await.len(), found(ledger, "b").await), (1, vec![]));
    ok(ledger.events().delete_by_thread(&alice(), &t).await);
    assert_eq!(found(ledger, "needle").await, NONE);
    let run = admit(ledger, &t, "c").await;
    let seq = ok(commit(ledger, run.commit(0, vec![asked("c", "needle", 0)])).await).seqs;
    assert_eq!(found(ledger, "needle").await, seq);
    finish(ledger, &run, 1).await;
    let u = thread_of(ledger, "u", &["needle needle", "needle"]).await;
    close(ledger, &u).await;
    assert_eq!(found(ledger, "needle").await.len(), 3);
    ok(ledger.threads().delete(&alice(), &t).await);
    assert_eq!(all(ledger, &Scope::System, "needle", &SearchFilter::default()).await.len(), 2);
    let of_deleted = SearchFilter::of_thread(t);
    let refused = ledger.search(&alice(), &query("needle"), &of_deleted, &ListRange::default()).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    ok(ledger.threads().delete(&alice(), &u).await);
    assert!(all(ledger, &Scope::System, "needle", &SearchFilter::default()).await.is_empty());
}

/// Texts change hands with their thread, and an owner who is taken off everything finds nothing.
pub async fn a_thread_that_changes_hands_is_found_by_its_owner(ledger: &Ledger) {
    let t = thread_of(ledger, "t", &["needle"]).await;
    let of =
        |scope: Scope| async move { all(ledger, &scope, "needle", &SearchFilter::default()).await.len() };
    assert_eq!((of(alice()).await, of(mallory()).await), (1, 0));
    ok(ledger.threads().set_owner(&Scope::System, &t, mallory().owner().cloned()).await);
    assert_eq!((of(alice()).await, of(mallory()).await, of(Scope::System).await), (0, 1, 1));
    ok(ledger.threads().set_owner(&Scope::System, &t, None).await);
    assert_eq!((of(alice()).await, of(mallory()).await, of(Scope::System).await), (0, 0, 1));
}

/// An owner finds what is on its threads and nothing else; a foreign thread is as a missing one.
pub async fn an_owner_finds_its_own(ledger: &Ledger) {
    let t = thread_of(ledger, "t", &["needle"]).await;
    let u = open(ledger, &mallory(), "u").await;
    put(ledger, &u, vec![asked("i", "needle", 0)]).await;
    let nobodys = open(ledger, &Scope::System, "v").await;
    put(ledger, &nobodys, vec![asked("i", "needle", 0)]).await;
    let none = SearchFilter::default();
    for (scope, threads) in
        [(alice(), &["t"][..]), (mallory(), &["u"]), (owner("eve"), &[]), (Scope::System, &["v", "u", "t"])]
    {
        let found = all(ledger, &scope, "needle", &none).await;
        let found: Vec<&str> = found.iter().map(|(thread, _)| thread.as_str()).collect();
        assert_eq!(found, threads, "{scope:?}");
    }
    let index = ledger.search_index();
    for thread in [t, nobodys, thread_id("none")] {
        let filter = SearchFilter::of_thread(thread.clone());
        for told in [
            kind(ledger.search(&mallory(), &query("needle"), &filter, &ListRange::default()).await),
            kind(index.find(&mallory(), &query("needle"), &filter, &ListRange::default()).await),
            kind(index.index(&mallory(), Some(&thread), IndexBudget::default()).await),
            kind(index.forget(&mallory(), &thread).await),
        ] {
            assert_eq!(told, ErrorKind::NotFound, "{thread}");
        }
    }
    assert_eq!(all(ledger, &alice(), "needle", &none).await.len(), 1);
}

/// Nothing is indexed by an append; what a budget does not reach is told, and reached later.
pub async fn the_index_lags_and_says_so(ledger: &Ledger) {
    let t = thread_of(ledger, "t", &["needle 1", "needle 2", "needle 3"]).await;
    put(ledger, &t, vec![note("no text"), asked("j", "needle 5", 9)]).await;
    let u = thread_of(ledger, "u", &["needle"]).await;
    let index = ledger.search_index();
    let (scope, none, list) = (alice(), SearchFilter::default(), ListRange::default());
    let seen = || async { ok(index.find(&scope, &query("needle"), &none, &list).await).items.len() };
    let told = ok(index.index(&scope, None, IndexBudget::NONE).await);
    assert_eq!((told.events, told.documents, told.behind.threads, told.behind.events), (0, 0, 2, 6));
    assert_eq!(seen().await, 0);
    let two = IndexBudget { events: 2, ..IndexBudget::default() };
    let told = ok(index.index(&scope, Some(&t), two).await);
    assert_eq!((told.events, told.documents, told.behind.threads, told.behind.events), (2, 2, 1, 3));
    assert_eq!(seen().await, 2);
    // However small, a budget of bytes reaches one payload.
    let few = IndexBudget { bytes: 1, ..IndexBudget::default() };
    let told = ok(index.index(&scope, Some(&t), few).await);
    assert_eq!((told.events, told.documents, told.behind.events), (1, 1, 2));
    let told = ok(index.index(&scope, Some(&t), IndexBudget::default()).await);
    assert_eq!((told.events, told.documents, told.behind.events), (2, 1, 0));
    assert_eq!(seen().await, 4);
    let told = ok(index.index(&owner("eve"), None, IndexBudget::default()).await);
    assert_eq!(told, Indexed::default());
    let page = page(ledger, &scope, "needle", &none, &list).await;
    assert_eq!((page.items.len(), page.behind.threads), (5, 0));
    let told = ok(index.index(&scope, Some(&u), IndexBudget::default()).await);
    assert_eq!(told, Indexed::default());
}

/// What was forgotten is not found, and is made again as it was.
pub async fn an_index_is_made_anew(ledger: &Ledger) {
    let t = thread_of(ledger, "t", &["needle", "hay", "needle \"hay\""]).await;
    thread_of(ledger, "u", &["needle"]).await;
    let before = all(ledger, &alice(), "needle", &SearchFilter::default()).await;
    for _ in 0..2 {
        let index = ledger.search_index();
        ok(index.forget(&alice(), &t).await);
        let left =
            ok(index.find(&alice(), &query("needle"), &SearchFilter::default(), &ListRange::default()).await);
        assert_eq!(left.items.len(), 1);
        let told = ok(index.index(&alice(), None, IndexBudget::NONE).await);
        assert_eq!((told.behind.threads, told.behind.events), (1, 3));
        let told = ok(index.index(&alice(), Some(&t), IndexBudget::default()).await);
        assert_eq!((told.documents, told.behind.events), (3, 0));
        assert_eq!(all(ledger, &alice(), "needle", &SearchFilter::default()).await, before);
    }
}

/// A payload that has another shape than its kind's, or half a character, is searched as far as it can be; one
/// that cannot be read is passed and counted.
pub async fn a_bad_payload_stops_nothing(ledger: &Ledger) {
    let t = open(ledger, &alice(), "t").await;
    let deep = format!("{}\"needle\"{}", "[".repeat(200), "]".repeat(200));
    put(
        ledger,
        &t,
        vec![
            said("a", ItemKind::UserMessage, r#"{"content":{"odd":["needle",7]}}"#, 1),
            said("b", ItemKind::AgentMessage, r#"{"content":"nee\u0000dle needle \ud800"}"#, 2),
            said("c", ItemKind::ToolCall, "[1,2,\"needle\"]", 3),
            said("d", ItemKind::ToolCall, &deep, 4),
            said("e", ItemKind::Plan, "null", 5),
            asked("f", "needle", 6),
        ],
    )
    .await;
    let told = ok(ledger.search_index().index(&alice(), Some(&t), IndexBudget::default()).await);
    assert_eq!((told.events, told.documents, told.unreadable, told.behind.events), (6, 4, 1, 0));
    assert_eq!(found(ledger, "needle").await, [6, 3, 2, 1]);
}

/// Of a long text the beginning is searched, however many words it has, and whatever they are.
pub async fn a_long_text_is_found_by_its_beginning(ledger: &Ledger) {
    let numbers: String = (0..90_000).map(|n| format!("w{n} ")).collect();
    assert!(numbers.len() > 2 * MAX_TEXT_BYTES);
    let (first, last) = (&numbers[..MAX_TEXT_BYTES], &numbers[MAX_TEXT_BYTES + 100..]);
    let in_it: Vec<String> = Words::of(first).iter().map(str::to_owned).collect();
    let one = "needle ".repeat(60_000);
    let endless = format!("a{}", "é".repeat(100_000));
    thread_of(ledger, "t", &[&numbers, &one, &endless, &format!("{}日", "日本".repeat(3_000))]).await;
    let late = &in_it[in_it.len() - 3..in_it.len() - 1];
    assert_eq!(found(ledger, &format!("\"{}\"", late.join(" "))).await, [1]);
    assert_eq!(found(ledger, &late[0]).await, [1]);
    let behind = Words::of(last).iter().nth(1).map(str::to_owned).unwrap_or_default();
    assert_eq!(found(ledger, &behind).await, NONE);
    assert_eq!(found(ledger, "\"needle needle needle\"").await, [2]);
    assert_eq!(found(ledger, &endless[..301]).await, [3]);
    assert_eq!(found(ledger, "日日").await, NONE);
    assert_eq!(found(ledger, "本日本日").await, [4]);
}

/// Of many who index the same threads at once, while others append, each text is kept once.
pub async fn many_index_one_thread_at_once(ledger: &Ledger) {
    let threads =
        [thread_of(ledger, "t", &["needle"; 40]).await, thread_of(ledger, "u", &["needle"; 40]).await];
    let mut tasks = Vec::new();
    for worker in 0..8_usize {
        let (ledger, thread) = (ledger.clone(), threads[worker % 2].clone());
        tasks.push(tokio::spawn(async move {
            let few = IndexBudget { events: 7, ..IndexBudget::default() };
            for round in 0..12 {
                if worker < 2 && round % 3 == 0 {
                    put(&ledger, &thread, vec![asked(&format!("w{worker}-{round}"), "needle", 99)]).await;
                }
                let of = (worker % 3 > 0).then_some(&thread);
                ok(ledger.search_index().index(&alice(), of, few).await);
            }
        }));
    }
    for task in tasks {
        assert!(task.await.is_ok(), "a task failed");
    }
    let mut seqs: Vec<_> = all(ledger, &alice(), "needle", &SearchFilter::default()).await;
    seqs.sort();
    let expected: Vec<_> =
        ["t", "u"].iter().flat_map(|t| (1..=44).map(|seq| ((*t).to_owned(), seq))).collect();
    assert_eq!(seqs, expected);
}

/// A deletion and an indexing of the same texts exclude each other: what is gone is never found.
pub async fn deletions_and_indexing_meet(ledger: &Ledger) {
    let threads: Vec<ThreadId> = {
        let mut threads = Vec::new();
        for n in 0..6 {
            let thread = thread_of(ledger, &format!("t{n}"), &["needle"; 30]).await;
            close(ledger, &thread).await;
            threads.push(thread);
        }
        threads
    };
    let mut tasks = Vec::new();
    for thread in &threads {
        for worker in 0..3 {
            let (ledger, thread) = (ledger.clone(), thread.clone());
            tasks.push(tokio::spawn(async move {
                for _ in 0..4 {
                    let index = ledger.search_index();
                    let few = IndexBudget { events: 5, ..IndexBudget::default() };
                    match index.index(&alice(), Some(&thread), few).await {
                        Ok(_) => {}
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                    }
                }
                if worker == 0 {
                    ok(ledger.threads().delete(&alice(), &thread).await);
                } else if worker == 1 {
                    let _ = ledger.events().delete_by_thread(&alice(), &thread).await;
                }
            }));
        }
    }
    for task in tasks {
        assert!(task.await.is_ok(), "a task failed");
    }
    assert!(all(ledger, &Scope::System, "needle", &SearchFilter::default()).await.is_empty());
    assert_eq!(
        ok(ledger.search_index().index(&alice(), None, IndexBudget::default()).await),
        Indexed::default()
    );
}

/// Numbers that look random, the same ones every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn word(&mut self) -> &'static str {
        const WORDS: [&str; 12] =
            ["a", "ab", "abc", "b", "ba", "Cab", "x1", "1", "café", "日本", "日", "don't"];
        WORDS.get(self.roll(12) as usize).copied().unwrap_or("a")
    }
}

/// Random texts and random queries: found is what a look at every text finds.
pub async fn a_search_equals_a_look_at_every_text(ledger: &Ledger) {
    let mut dice = Dice(2_026);
    let mut texts: Vec<(String, u64, String)> = Vec::new();
    for name in ["t", "u", "v"] {
        let of_thread: Vec<String> = (0..60)
            .map(|_| {
                (0..dice.roll(9))
                    .map(|_| dice.word().to_owned() + [" ", "  ", ", ", "-"][dice.roll(4) as usize])
                    .collect()
            })
            .collect();
        thread_of(ledger, name, &of_thread.iter().map(String::as_str).collect::<Vec<_>>()).await;
        texts.extend(of_thread.into_iter().zip(1..).map(|(text, seq)| (name.to_owned(), seq, text)));
    }
    for _ in 0..120 {
        let mut typed = String::new();
        for _ in 0..=dice.roll(3) {
            let sign = if dice.roll(4) == 0 { "-" } else { "" };
            let star = if dice.roll(3) == 0 { "*" } else { "" };
            let term = match dice.roll(3) {
                0 => format!("{sign}\"{} {}{star}\" ", dice.word(), dice.word()),
                _ => format!("{sign}{}{star} ", dice.word()),
            };
            typed.push_str(&term);
        }
        let Ok(query) = SearchQuery::parse(&typed) else { continue };
        let mut expected: Vec<(String, u64)> = texts
            .iter()
            .filter(|(_, _, text)| query.find(&Words::of(text)).is_some())
            .map(|(thread, seq, _)| (thread.clone(), *seq))
            .collect();
        let mut found = all(ledger, &alice(), &typed, &SearchFilter::default()).await;
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{typed}");
    }
}

/// A limit of nothing, a cursor of another listing and a kind that cannot be are refused; a late record of an
/// application is no cause for refusing an append.
pub async fn what_cannot_be_searched_is_refused(ledger: &Ledger) {
    let t = thread_of(ledger, "t", &["needle"]).await;
    let none = SearchFilter::default();
    for text in ["1:2", "1:1:t", "1:2:ab"] {
        let range = ListRange { limit: 5, cursor: Some(ok(Cursor::parse(text))) };
        let refused = ledger.search(&alice(), &query("needle"), &none, &range).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput, "{text}");
    }
    let refused = ledger.search(&alice(), &query("needle"), &none, &ListRange::newest(0)).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    let odd = SearchFilter { kinds: vec![ItemKind::from_stored("a\0b")], ..none };
    let refused = ledger.search(&alice(), &query("needle"), &odd, &ListRange::default()).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    ok(commit(ledger, Commit::new(t).with_events(vec![message("\u{f5e7} \u{f5e7}o")])).await);
    assert_eq!(found(ledger, "o").await, [2]);
}
