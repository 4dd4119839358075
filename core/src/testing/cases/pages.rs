//! Readers of the log.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Caller, ErrorKind, Event, EventDraft, EventFilter, EventType, ItemFilter, Ledger, ListRange, MAX_LIMIT,
    MAX_PAGE_BYTES, RunFilter, RunVisibility, Scope, SeqPage, SeqRange, TaskId, ThreadId,
};

const READERS: [&str; 3] = ["messages", "messages by run", "events"];

/// Reads with one of the three readers.
async fn read(
    ledger: &Ledger,
    reader: &str,
    run: &Admitted,
    range: SeqRange,
) -> crate::Result<SeqPage<Event>> {
    let (events, scope) = (ledger.events(), Scope::System);
    match reader {
        "messages" => events.list_messages(&scope, &run.thread, RunVisibility::Shown, &range).await,
        "messages by run" => events.list_messages_by_run(&scope, &run.thread, &run.run, &range).await,
        _ => events.list_events(&scope, &run.thread, &EventFilter::of_run(run.run.clone()), &range).await,
    }
}

/// Ten messages of one run, as seqs 1 to 10.
async fn ten(ledger: &Ledger) -> Admitted {
    let run = running(ledger).await;
    let messages = (1..=10).map(|number| message(&number.to_string())).collect();
    ok(commit(ledger, run.commit(0, messages)).await);
    run
}

async fn expect(ledger: &Ledger, run: &Admitted, range: SeqRange, expected: &[u64], has_more: bool) {
    for reader in READERS {
        let page = ok(read(ledger, reader, run, range).await);
        assert_eq!((seqs(&page.items), page.has_more), (expected.to_vec(), has_more), "{reader} {range:?}");
    }
}

/// After a seq: the first rows behind it.
pub async fn after_a_seq_come_the_first_rows(ledger: &Ledger) {
    let run = ten(ledger).await;
    expect(ledger, &run, SeqRange::after(0, 3), &[1, 2, 3], true).await;
    expect(ledger, &run, SeqRange::after(3, 3), &[4, 5, 6], true).await;
    expect(ledger, &run, SeqRange::after(7, 3), &[8, 9, 10], false).await;
    expect(ledger, &run, SeqRange::after(10, 3), &[], false).await;
    expect(ledger, &run, SeqRange::after(u64::MAX, 3), &[], false).await;
}

/// A page has so many bytes, and says that there is more.
pub async fn a_page_of_large_rows_is_short(ledger: &Ledger) {
    let run = running(ledger).await;
    let large = "x".repeat(MAX_PAGE_BYTES / 2 + 1);
    for (ordinal, text) in [large.as_str(), large.as_str(), "small"].into_iter().enumerate() {
        ok(commit(ledger, run.commit(ordinal as u64, vec![message(text)])).await);
    }
    expect(ledger, &run, SeqRange::after(0, 10), &[1], true).await;
    expect(ledger, &run, SeqRange::after(1, 10), &[2, 3], false).await;
    expect(ledger, &run, SeqRange::after(1, 1), &[2], true).await;
    expect(ledger, &run, SeqRange::last(10), &[2, 3], true).await;
    expect(ledger, &run, SeqRange::before(2, 10), &[1], false).await;
    let page = ok(read(ledger, "events", &run, SeqRange::after(1, 10)).await);
    let bytes: Vec<usize> = page.items.iter().map(Event::payload_bytes).collect();
    assert_eq!(bytes, [large.len() + 2, 7]);
}

/// Before a seq: the last rows ahead of it, ascending.
pub async fn before_a_seq_come_the_last_rows(ledger: &Ledger) {
    let run = ten(ledger).await;
    expect(ledger, &run, SeqRange::before(10, 3), &[7, 8, 9], true).await;
    expect(ledger, &run, SeqRange::before(4, 3), &[1, 2, 3], false).await;
    expect(ledger, &run, SeqRange::before(1, 3), &[], false).await;
    expect(ledger, &run, SeqRange::before(0, 3), &[], false).await;
    expect(ledger, &run, SeqRange::before(u64::MAX, 2), &[9, 10], true).await;
}

/// Without a cursor: the last rows.
pub async fn without_a_cursor_come_the_last_rows(ledger: &Ledger) {
    let run = ten(ledger).await;
    expect(ledger, &run, SeqRange::last(4), &[7, 8, 9, 10], true).await;
    expect(ledger, &run, SeqRange::last(10), &(1..=10).collect::<Vec<_>>(), false).await;
}

/// Both cursors: a window, read from its start.
pub async fn both_cursors_are_a_window(ledger: &Ledger) {
    let run = ten(ledger).await;
    let window = |after, before, limit| SeqRange { limit, after_seq: Some(after), before_seq: Some(before) };
    expect(ledger, &run, window(2, 8, 3), &[3, 4, 5], true).await;
    expect(ledger, &run, window(2, 6, 3), &[3, 4, 5], false).await;
    expect(ledger, &run, window(5, 6, 3), &[], false).await;
    expect(ledger, &run, window(8, 2, 3), &[], false).await;
}

/// A limit of 0 is refused.
pub async fn a_limit_of_zero_is_refused(ledger: &Ledger) {
    let run = ten(ledger).await;
    for reader in READERS {
        assert_eq!(
            kind(read(ledger, reader, &run, SeqRange::last(0)).await),
            ErrorKind::InvalidInput,
            "{reader}"
        );
    }
}

/// What is wrong with the question is said before what is missing.
pub async fn a_limit_is_checked_before_the_thread(ledger: &Ledger) {
    let nowhere = Admitted { thread: thread_id("none"), run: run_id("none"), epoch: 1 };
    for reader in READERS {
        let page = read(ledger, reader, &nowhere, SeqRange::last(0)).await;
        assert_eq!(kind(page), ErrorKind::InvalidInput, "{reader}");
        let page = read(ledger, reader, &nowhere, SeqRange::last(1)).await;
        assert_eq!(kind(page), ErrorKind::NotFound, "{reader}");
    }
    let (scope, none, has) = (Scope::System, ListRange::newest(0), ledger.capabilities());
    if has.runs {
        let filter = RunFilter { thread_id: Some(nowhere.thread.clone()), ..RunFilter::default() };
        assert_eq!(kind(ledger.runs().list(&scope, &filter, &none).await), ErrorKind::InvalidInput);
    }
    if has.items {
        let filter = ItemFilter::default();
        let items = ledger.items().list(&scope, &nowhere.thread, &filter, &SeqRange::last(0)).await;
        assert_eq!(kind(items), ErrorKind::InvalidInput);
    }
    if has.usage {
        let calls = ledger.usage().list_by_run(&scope, &nowhere.thread, &nowhere.run, None, 0).await;
        assert_eq!(kind(calls), ErrorKind::InvalidInput);
    }
}

/// A limit over 1,000 is 1,000.
pub async fn a_large_limit_is_capped(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![message("m"); MAX_LIMIT as usize + 1])).await);
    for reader in READERS {
        let page = ok(read(ledger, reader, &run, SeqRange::after(0, u32::MAX)).await);
        assert_eq!((page.items.len(), page.has_more), (MAX_LIMIT as usize, true), "{reader}");
    }
}

/// Message readers show messages only, and say nothing of the rest.
pub async fn message_readers_show_messages(ledger: &Ledger) {
    let run = running(ledger).await;
    let mixed = vec![note("a"), message("b"), tool_started("c"), message("d"), note("e")];
    ok(commit(ledger, run.commit(0, mixed)).await);
    for reader in ["messages", "messages by run"] {
        let page = ok(read(ledger, reader, &run, SeqRange::after(0, 2)).await);
        assert_eq!((seqs(&page.items), page.has_more), (vec![2, 4], false), "{reader}");
    }
}

/// The readers of one run show nothing of another, also where their events are mixed.
pub async fn readers_of_a_run_show_that_run(ledger: &Ledger) {
    let first = running(ledger).await;
    ok(commit(ledger, first.commit(0, vec![message("a")])).await);
    end(ledger, &first, 1).await;
    let second = admit(ledger, &first.thread, "r2").await;
    ok(commit(ledger, second.commit(0, vec![message("b")])).await);
    ok(commit(ledger, first.unmarked(vec![message("late")])).await);
    append(ledger, &first.thread, vec![message("of nobody")]).await;
    ok(commit(ledger, second.commit(1, vec![message("c")])).await);
    for (run, expected) in [(&first, vec![1, 4]), (&second, vec![3, 6])] {
        let page = ok(read(ledger, "messages by run", run, SeqRange::after(0, 10)).await);
        assert_eq!(seqs(&page.items), expected);
    }
    let page = ok(read(ledger, "messages", &first, SeqRange::after(0, 10)).await);
    assert_eq!(seqs(&page.items), [1, 3, 4, 5, 6]);
}

/// A run without events, and one that does not exist, have an empty page.
pub async fn a_run_without_events_has_an_empty_page(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run.thread, vec![message("a")]).await;
    for run in [run.clone(), Admitted { run: run_id("nobody"), ..run }] {
        for reader in ["messages by run", "events"] {
            let page = ok(read(ledger, reader, &run, SeqRange::last(10)).await);
            assert_eq!((page.items, page.has_more), (vec![], false), "{reader}");
        }
    }
}

async fn filtered(ledger: &Ledger, thread: &ThreadId, filter: EventFilter) -> Vec<u64> {
    let page =
        ok(ledger.events().list_events(&Scope::System, thread, &filter, &SeqRange::after(0, 10)).await);
    seqs(&page.items)
}

/// Events narrow by type, task and caller; no types are no filter.
pub async fn events_are_filtered(ledger: &Ledger) {
    let run = running(ledger).await;
    let task = |text: &str| Some(ok(TaskId::new(text)));
    let caller = |text: &str| Some(ok(Caller::new(text)));
    let events = vec![
        note("a"),
        EventDraft { task_id: task("t1"), caller: caller("subagent:x"), ..note("b") },
        EventDraft { task_id: task("t2"), caller: caller("subagent:x"), ..message("c") },
        tool_started("d"),
    ];
    ok(commit(ledger, run.commit(0, events)).await);
    let of_run = || EventFilter::of_run(run.run.clone());
    let types = |names: &[&str]| names.iter().map(|name| ok(EventType::new(name))).collect();
    assert_eq!(filtered(ledger, &run.thread, of_run()).await, [1, 2, 3, 4]);
    let by_type = EventFilter { event_types: types(&["item.started"]), ..of_run() };
    assert_eq!(filtered(ledger, &run.thread, by_type).await, [4]);
    let by_types = EventFilter { event_types: types(&["item.started", "note"]), ..of_run() };
    assert_eq!(filtered(ledger, &run.thread, by_types).await, [1, 2, 3, 4]);
    assert_eq!(filtered(ledger, &run.thread, EventFilter { task_id: task("t2"), ..of_run() }).await, [3]);
    let by_caller = EventFilter { caller: caller("subagent:x"), task_id: task("t1"), ..of_run() };
    assert_eq!(filtered(ledger, &run.thread, by_caller).await, [2]);
    let unknown = EventFilter { event_types: types(&["nothing"]), ..of_run() };
    assert_eq!(filtered(ledger, &run.thread, unknown).await, [0_u64; 0]);
}

/// A filter is applied before the page is cut.
pub async fn filters_come_before_the_limit(ledger: &Ledger) {
    let run = running(ledger).await;
    let events = (0..20).map(|n| if n % 5 == 0 { tool_started(&n.to_string()) } else { note("n") }).collect();
    ok(commit(ledger, run.commit(0, events)).await);
    let filter = EventFilter {
        event_types: vec![ok(EventType::new("item.started"))],
        ..EventFilter::of_run(run.run.clone())
    };
    let page =
        async |range| ok(ledger.events().list_events(&Scope::System, &run.thread, &filter, &range).await);
    let first = page(SeqRange::after(0, 3)).await;
    assert_eq!((seqs(&first.items), first.has_more), (vec![1, 6, 11], true));
    let last = page(SeqRange::last(3)).await;
    assert_eq!((seqs(&last.items), last.has_more), (vec![6, 11, 16], true));
}

/// A filter without a run would scan a whole thread, and is refused.
pub async fn a_filter_needs_a_run(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let filter = EventFilter { task_id: Some(ok(TaskId::new("t"))), ..EventFilter::default() };
    let page = ledger.events().list_events(&Scope::System, &t, &filter, &SeqRange::default()).await;
    assert_eq!(kind(page), ErrorKind::InvalidInput);
}

/// The last message a person sees: a middleware's and an unfinished one do not count.
pub async fn the_last_visible_message_is_found(ledger: &Ledger) {
    let first = running(ledger).await;
    let events = vec![
        ai("m1", "lead_agent"),
        ai("m2", "subagent:x"),
        ai("m3", "middleware:title"),
        item("m4", crate::ItemKind::AgentMessage, crate::ItemStatus::InProgress, crate::Category::Message),
        message("no item"),
    ];
    ok(commit(ledger, first.commit(0, events)).await);
    end(ledger, &first, 5).await;
    let second = admit(ledger, &first.thread, "r2").await;
    ok(commit(ledger, second.commit(0, vec![message("only")])).await);
    let runs = [first.run.clone(), second.run, run_id("nobody")];
    let last = ok(ledger.events().last_visible_ai_seq_by_run(&Scope::System, &first.thread, &runs).await);
    assert_eq!(last.into_iter().collect::<Vec<_>>(), [(first.run, 2)]);
    let none = ok(ledger.events().last_visible_ai_seq_by_run(&Scope::System, &first.thread, &[]).await);
    assert!(none.is_empty());
    let many = vec![run_id("r"); MAX_LIMIT as usize + 1];
    let refusal = ledger.events().last_visible_ai_seq_by_run(&Scope::System, &first.thread, &many).await;
    assert_eq!(kind(refusal), ErrorKind::InvalidInput);
}

/// A thread without events has empty pages, and one that does not exist has none.
pub async fn an_empty_thread_has_empty_pages(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    assert_eq!(log(ledger, &t).await, []);
    assert_eq!(ok(ledger.events().count_messages(&Scope::System, &t, RunVisibility::All).await), 0);
    let missing =
        ledger.events().count_messages(&Scope::System, &thread_id("none"), RunVisibility::All).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
}
