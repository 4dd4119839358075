//! Turns and items as pages, and the index compared with its log and made anew.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::view::items::ItemReducer;
use crate::{
    Category, Contents, Cursor, ErrorKind, EventDraft, Item, ItemFilter, ItemId, ItemKind, ItemPage,
    ItemQuery, ItemSeq, ItemStatus, Ledger, ListOrder, Outcome, RunVisibility, Scope, SeqRange, ThreadId,
    TokenCounts, TurnPage, TurnQuery, TurnStart, TurnView, UsageDraft,
};

async fn page(ledger: &Ledger, thread: &ThreadId, query: &ItemQuery) -> ItemPage {
    ok(ledger.items().page(&Scope::System, thread, query).await)
}

async fn turns(ledger: &Ledger, thread: &ThreadId, query: &TurnQuery) -> TurnPage {
    ok(ledger.items().turns(&Scope::System, thread, query).await)
}

fn ids<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    items.into_iter().map(|item| item.entry.item_id.as_str()).collect::<Vec<_>>().join(" ")
}

fn runs(page: &TurnPage) -> String {
    page.turns.iter().map(|turn| turn.run.run_id.as_str()).collect::<Vec<_>>().join(" ")
}

fn said(id: &str, kind: ItemKind, content: &str) -> EventDraft {
    let draft = item(id, kind, ItemStatus::Completed, Category::Message);
    EventDraft { content: json(content), ..draft }
}

fn user(id: &str) -> EventDraft {
    said(id, ItemKind::UserMessage, r#"{"content":"hello"}"#)
}

fn agent(id: &str, phase: Option<&str>) -> EventDraft {
    let phase = phase.map(|phase| format!(r#","phase":"{phase}""#)).unwrap_or_default();
    said(id, ItemKind::AgentMessage, &format!(r#"{{"content":"done"{phase}}}"#))
}

/// The number of an item that a query's range is over.
fn seq_of(item: &Item, by: ItemSeq) -> u64 {
    match by {
        ItemSeq::Started => item.entry.started_seq,
        ItemSeq::Updated => item.entry.updated_seq,
    }
}

/// Three runs: one whole, one with a call that is open when it ends, one that goes on.
async fn history(ledger: &Ledger) -> ThreadId {
    let first = running(ledger).await;
    let thread = first.thread.clone();
    let events = vec![
        user("u1"),
        agent("m1", Some("commentary")),
        tool_started("t1"),
        note("x"),
        tool_ended("t1", ItemStatus::Completed),
        agent("m2", Some("final_answer")),
        agent("m3", None),
    ];
    ok(commit(ledger, first.commit(0, events)).await);
    finish(ledger, &first, 7).await;
    let second = admit_at(ledger, &thread, "r2", 1).await;
    let events =
        vec![user("u1"), tool_started("t2"), ai("m1", "subagent:coder"), ai("m2", "middleware:title")];
    ok(commit(ledger, second.commit(0, events)).await);
    finish(ledger, &second, 4).await;
    let third = admit_at(ledger, &thread, "r3", 2).await;
    ok(commit(ledger, third.commit(0, vec![agent("m1", None), user("u1"), user("u2"), tool_started("t3")]))
        .await);
    thread
}

/// A page of items is what the events say, read in either direction and order, with contents and without.
pub async fn items_are_read_in_pages(ledger: &Ledger) {
    let thread = history(ledger).await;
    let mut live = ItemReducer::default();
    for event in log(ledger, &thread).await {
        live.apply(&event);
    }
    let whole: Vec<Item> = live.items().cloned().collect();
    assert_eq!(ids(&whole), "u1 m1 t1 m2 m3 u1 t2 m1 m2 m1 u1 u2 t3");
    let last = ok(ledger.threads().head(&Scope::System, &thread).await).last_seq();
    for by in [ItemSeq::Started, ItemSeq::Updated] {
        let mut expected = whole.clone();
        expected.sort_by_key(|item| seq_of(item, by));
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let mut range = SeqRange::after(0, 3);
        loop {
            let query = ItemQuery { by, range, ..ItemQuery::default() };
            let read = page(ledger, &thread, &query).await;
            let newest = page(ledger, &thread, &ItemQuery { order: ListOrder::NewestFirst, ..query }).await;
            assert_eq!(newest.items.iter().rev().cloned().collect::<Vec<_>>(), read.items);
            assert_eq!((read.projected_through, read.is_beyond), (last, false));
            range.after_seq = read.items.last().map(|item| seq_of(item, by));
            forward.extend(read.items);
            if !read.has_more {
                break;
            }
        }
        assert_eq!(forward, expected);
        let mut range = SeqRange::last(4);
        loop {
            let query = ItemQuery { by, range, contents: Contents::Omitted, ..ItemQuery::default() };
            let read = page(ledger, &thread, &query).await;
            range.before_seq = read.items.first().map(|item| seq_of(item, by));
            backward.splice(0..0, read.items);
            if !read.has_more {
                break;
            }
        }
        let entries = expected.into_iter().map(|item| Item::without_content(item.entry)).collect::<Vec<_>>();
        assert_eq!(backward, entries);
    }
    let filter = ItemFilter { run_id: Some(run_id("r3")), status: Some(ItemStatus::InProgress) };
    let open = page(ledger, &thread, &ItemQuery { filter, ..ItemQuery::default() }).await;
    assert_eq!(ids(&open.items), "t3");
    assert_eq!(open.items[0].content, Some(json(r#"{"name":"tool"}"#)));
    let of_kind = async |kind, range| {
        let query = ItemQuery { kind: Some(kind), range, ..ItemQuery::default() };
        let read = page(ledger, &thread, &query).await;
        (ids(&read.items), read.has_more)
    };
    assert_eq!(of_kind(ItemKind::ToolCall, SeqRange::after(0, 2)).await, ("t1 t2".to_owned(), true));
    assert_eq!(of_kind(ItemKind::ToolCall, SeqRange::last(2)).await, ("t2 t3".to_owned(), true));
    assert_eq!(of_kind(ItemKind::Plan, SeqRange::after(0, 2)).await, (String::new(), false));
}

/// A watermark that is the last page's `projected_through` misses no change and tells none twice; and an empty
/// page says whether there was anything to look at.
pub async fn changes_are_read_after_a_watermark(ledger: &Ledger) {
    let run = running(ledger).await;
    let since = async |after: u64| {
        let query =
            ItemQuery { by: ItemSeq::Updated, range: SeqRange::after(after, 10), ..ItemQuery::default() };
        let read = page(ledger, &run.thread, &query).await;
        (ids(&read.items), read.projected_through, read.is_beyond)
    };
    assert_eq!(since(0).await, (String::new(), 0, true));
    ok(commit(ledger, run.commit(0, vec![note("x")])).await);
    assert_eq!(since(0).await, (String::new(), 1, false));
    ok(commit(ledger, run.commit(1, vec![tool_started("a"), tool_started("b"), note("x")])).await);
    assert_eq!(since(1).await, ("a b".to_owned(), 4, false));
    ok(commit(ledger, run.commit(4, vec![note("x"), tool_ended("a", ItemStatus::Failed)])).await);
    assert_eq!(since(4).await, ("a".to_owned(), 6, false));
    assert_eq!(since(6).await, (String::new(), 6, true));
    assert_eq!(since(90).await, (String::new(), 6, true));
}

/// Items are read by their ids, with their contents; what is not there is left out.
pub async fn items_are_read_by_their_ids(ledger: &Ledger) {
    let thread = history(ledger).await;
    let read = async |run: &str, ids: &[ItemId]| {
        ledger.items().read(&Scope::System, &thread, &run_id(run), ids).await
    };
    let wanted = [item_id("m2"), item_id("t2"), item_id("u1"), item_id("none"), item_id("u1")];
    let found = ok(read("r", &wanted).await);
    assert_eq!((ids(&found.items), found.has_more), ("u1 m2".to_owned(), false));
    assert_eq!(found.items[1].content, Some(json(r#"{"content":"done","phase":"final_answer"}"#)));
    assert_eq!(found.projected_through, ok(ledger.threads().head(&Scope::System, &thread).await).last_seq());
    assert_eq!(ids(&ok(read("none", &wanted).await).items), "");
    assert_eq!(kind(read("r", &[]).await), ErrorKind::InvalidInput);
    assert_eq!(kind(read("r", &vec![item_id("m2"); 101]).await), ErrorKind::InvalidInput);
    let foreign = ledger.items().read(&mallory(), &thread, &run_id("r"), &wanted).await;
    assert_eq!(kind(foreign), ErrorKind::NotFound);
}

/// Turns come in pages both ways and in both orders, with cursors that go on from either end.
pub async fn turns_are_read_in_pages(ledger: &Ledger) {
    let thread = thread(ledger, &Scope::System, "t").await;
    let none = turns(ledger, &thread, &TurnQuery::default()).await;
    assert_eq!((none.turns.len(), none.previous, none.next, none.projected_through), (0, None, None, 0));
    for number in 0..5_i64 {
        // Two of them were asked for at the same moment.
        let run = admit_at(ledger, &thread, &format!("r{number}"), number / 2).await;
        ok(commit(ledger, run.commit(0, vec![user("u")])).await);
        finish(ledger, &run, 1).await;
    }
    let query = |order, start| TurnQuery {
        view: TurnView::NotLoaded,
        order,
        start,
        limit: 2,
        ..TurnQuery::default()
    };
    for (order, pages) in [
        (ListOrder::OldestFirst, ["r0 r1", "r2 r3", "r4"]),
        (ListOrder::NewestFirst, ["r4 r3", "r2 r1", "r0"]),
    ] {
        let mut start = TurnStart::First;
        let mut cursors: Vec<Cursor> = Vec::new();
        for (number, expected) in pages.iter().enumerate() {
            let read = turns(ledger, &thread, &query(order, start.clone())).await;
            assert_eq!((runs(&read), read.has_more), ((*expected).to_owned(), number < 2));
            assert!(read.turns.iter().all(|turn| turn.items.is_empty() && turn.view == TurnView::NotLoaded));
            assert_eq!(read.projected_through, 10);
            cursors.extend(read.previous);
            start = read.next.map_or(TurnStart::First, TurnStart::After);
        }
        let end = turns(ledger, &thread, &query(order, start)).await;
        assert_eq!((end.turns.len(), end.has_more), (0, false));
        let back = turns(ledger, &thread, &query(order, TurnStart::Before(cursors[2].clone()))).await;
        assert_eq!((runs(&back), back.has_more), (pages[1].to_owned(), true));
        let first = turns(ledger, &thread, &query(order, TurnStart::Before(cursors[1].clone()))).await;
        assert_eq!((runs(&first), first.has_more), (pages[0].to_owned(), false));
    }
    let zero = TurnQuery { limit: 0, ..TurnQuery::default() };
    assert_eq!(kind(ledger.items().turns(&Scope::System, &thread, &zero).await), ErrorKind::InvalidInput);
    let zero = TurnQuery { items: 0, ..TurnQuery::default() };
    assert_eq!(kind(ledger.items().turns(&Scope::System, &thread, &zero).await), ErrorKind::InvalidInput);
    let strange = TurnQuery { start: TurnStart::After(ok(Cursor::parse("1:x"))), ..TurnQuery::default() };
    assert_eq!(kind(ledger.items().turns(&Scope::System, &thread, &strange).await), ErrorKind::InvalidInput);
    let foreign = ledger.items().turns(&mallory(), &thread, &TurnQuery::default()).await;
    assert_eq!(kind(foreign), ErrorKind::NotFound);
}

/// A summary is the first thing a person said and the lead agent's final message; a turn that goes on has them too.
pub async fn a_summary_is_the_first_and_the_final_message(ledger: &Ledger) {
    let thread = history(ledger).await;
    let read =
        turns(ledger, &thread, &TurnQuery { order: ListOrder::OldestFirst, ..TurnQuery::default() }).await;
    let summaries: Vec<String> = read.turns.iter().map(|turn| ids(&turn.items)).collect();
    assert_eq!(summaries, ["u1 m2", "u1", "m1 u1"]);
    assert_eq!(read.turns[0].items[1].content, Some(json(r#"{"content":"done","phase":"final_answer"}"#)));
    assert!(read.turns.iter().all(|turn| turn.view == TurnView::Summary && !turn.has_more));
    // A message that talks about the phase does not have it.
    let talk = said("m9", ItemKind::AgentMessage, r#"{"content":"x","extra":{"is":"final_answer"}}"#);
    let run = ok(ledger.runs().get(&Scope::System, &thread, &run_id("r3")).await);
    let third = Admitted { thread: thread.clone(), run: run.run_id, epoch: run.epoch };
    ok(commit(ledger, third.commit(4, vec![talk, agent("m10", None)])).await);
    let newest = turns(ledger, &thread, &TurnQuery { limit: 1, ..TurnQuery::default() }).await;
    assert_eq!(ids(&newest.turns[0].items), "u1 m10");
}

/// The full view has each turn's items from the first on, as many as were asked for, and says where there are more.
pub async fn a_full_turn_says_where_it_has_more(ledger: &Ledger) {
    let thread = history(ledger).await;
    let full = |items| TurnQuery {
        view: TurnView::Full,
        order: ListOrder::OldestFirst,
        items,
        ..TurnQuery::default()
    };
    let told = |page: &TurnPage| -> Vec<(String, bool)> {
        page.turns.iter().map(|turn| (ids(&turn.items), turn.has_more)).collect()
    };
    let all = turns(ledger, &thread, &full(10)).await;
    let expected = [("u1 m1 t1 m2 m3", false), ("u1 t2 m1 m2", false), ("m1 u1 u2 t3", false)];
    assert_eq!(told(&all), expected.map(|(items, more)| (items.to_owned(), more)));
    let some = turns(ledger, &thread, &full(4)).await;
    let expected = [("u1 m1 t1 m2", true), ("u1 t2 m1 m2", false), ("m1 u1 u2 t3", false)];
    assert_eq!(told(&some), expected.map(|(items, more)| (items.to_owned(), more)));
    assert_eq!(all.turns[2].items[3].entry.status, ItemStatus::InProgress);
}

/// Hidden runs and their items are left out unless they are asked for.
pub async fn hidden_turns_are_left_out(ledger: &Ledger) {
    let thread = history(ledger).await;
    let third = ok(ledger.runs().get(&Scope::System, &thread, &run_id("r3")).await);
    let third = Admitted { thread: thread.clone(), run: third.run_id, epoch: third.epoch };
    finish(ledger, &third, 4).await;
    ok(ledger.runs().rewind(&Scope::System, &thread, &run_id("r2")).await);
    let shown = turns(ledger, &thread, &TurnQuery::default()).await;
    assert_eq!(runs(&shown), "r");
    let all = TurnQuery { visibility: RunVisibility::All, ..TurnQuery::default() };
    assert_eq!(runs(&turns(ledger, &thread, &all).await), "r3 r2 r");
    let items = page(ledger, &thread, &ItemQuery::default()).await;
    assert_eq!(ids(&items.items), "u1 m1 t1 m2 m3");
    let all = ItemQuery { visibility: RunVisibility::All, ..ItemQuery::default() };
    assert_eq!(page(ledger, &thread, &all).await.items.len(), 13);
    let one = TurnQuery { run_id: Some(run_id("r2")), ..TurnQuery::default() };
    assert_eq!(runs(&turns(ledger, &thread, &one).await), "r2");
    let of_run = ItemFilter { run_id: Some(run_id("r2")), status: None };
    let of_run = page(ledger, &thread, &ItemQuery { filter: of_run, ..ItemQuery::default() }).await;
    assert_eq!(ids(&of_run.items), "u1 t2 m1 m2");
}

/// The index does not depend on which records came in one commit.
pub async fn commits_may_be_cut_anywhere(ledger: &Ledger) {
    let run = running(ledger).await;
    let bare = |id: &str| item(id, ItemKind::ToolCall, ItemStatus::InProgress, Category::Lifecycle);
    ok(commit(ledger, run.commit(0, vec![bare("a"), bare("b")])).await);
    let ended = |id: &str, call: &str| {
        let mut draft = item(id, ItemKind::ToolCall, ItemStatus::Completed, Category::Lifecycle);
        draft.item.iter_mut().for_each(|mark| mark.call_id = Some(ok(crate::CallId::new(call))));
        draft
    };
    // Of `a` a second start and the end come together, of `b` one after the other.
    ok(commit(ledger, run.commit(2, vec![tool_started("a"), ended("a", "y"), tool_started("b")])).await);
    ok(commit(ledger, run.commit(5, vec![ended("b", "y")])).await);
    for id in ["a", "b"] {
        let entry = ok(ledger.items().get(&Scope::System, &run.thread, &run.run, &item_id(id)).await);
        assert_eq!(entry.call_id.map(|call| call.to_string()).as_deref(), Some(id));
    }
    let verified = ok(ledger.items().verify(&Scope::System, &run.thread).await);
    assert_eq!(verified.findings, []);
}

/// What appends made is what a rebuild makes, claims included, and nothing is found wrong before or after.
pub async fn a_rebuild_changes_nothing_that_is_right(ledger: &Ledger) {
    let thread = history(ledger).await;
    let third = ok(ledger.runs().get(&Scope::System, &thread, &run_id("r3")).await);
    let mut calls = crate::Commit::of_run(thread.clone(), third.run_id.clone());
    calls.usage = vec![call("c1", TokenCounts::of(7, 5)), call("c2", TokenCounts::of(1, 1))];
    ok(commit(ledger, calls).await);
    let estimate = UsageDraft { estimated: true, ..call("c3", TokenCounts::of(100, 100)) };
    for usage in [estimate, call("c3", TokenCounts::of(3, 4))] {
        let mut told = crate::Commit::of_run(thread.clone(), third.run_id.clone());
        told.usage = vec![usage];
        ok(commit(ledger, told).await);
    }
    let call = item_id("t3");
    ok(ledger.items().claim(&Scope::System, &thread, &third.run_id, &call, third.epoch).await);
    ok(ledger.events().delete_by_run(&Scope::System, &thread, &run_id("r2")).await);
    let items = async || {
        let all =
            ItemQuery { visibility: RunVisibility::All, range: SeqRange::last(100), ..ItemQuery::default() };
        page(ledger, &thread, &all).await.items
    };
    let before = items().await;
    let verified = ok(ledger.items().verify(&Scope::System, &thread).await);
    assert_eq!(verified.findings, []);
    assert_eq!((verified.events, verified.items, verified.runs, verified.usage), (12, 9, 2, 3));
    assert_eq!((verified.quarantined, verified.is_clean()), (0, true));
    let rebuilt = ok(ledger.items().rebuild(&Scope::System, &thread).await);
    assert_eq!((rebuilt.events, rebuilt.items_before, rebuilt.items), (12, 9, 9));
    assert_eq!((rebuilt.gaps, rebuilt.quarantined), (vec![], 0));
    assert_eq!(items().await, before);
    assert_eq!(ok(ledger.items().verify(&Scope::System, &thread).await), verified);
}

/// A thread with queued and taken-over runs, rollbacks and deletions verifies clean throughout.
pub async fn every_kind_of_end_verifies_clean(ledger: &Ledger) {
    let thread = history(ledger).await;
    let clean = async || {
        assert_eq!(ok(ledger.items().verify(&Scope::System, &thread).await).findings, []);
    };
    clean().await;
    let third = ok(ledger.runs().get(&Scope::System, &thread, &run_id("r3")).await);
    let third = Admitted { thread: thread.clone(), run: third.run_id, epoch: third.epoch };
    let interrupted = third.finish(4, Outcome::interrupted("stopped"));
    ok(ledger.finish(&Scope::System, interrupted).await);
    // It is told late, and the log may go on after the end.
    ok(commit(ledger, third.unmarked(vec![tool_ended("t3", ItemStatus::Completed), note("late")])).await);
    clean().await;
    ok(ledger.runs().rewind(&Scope::System, &thread, &run_id("r3")).await);
    clean().await;
    ok(ledger.events().delete_by_thread(&Scope::System, &thread).await);
    clean().await;
    let missing = ledger.items().verify(&mallory(), &thread).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let missing = ledger.items().rebuild(&mallory(), &thread).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
}
