//! The item index.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{Category, ErrorKind, ItemEntry, ItemFilter, ItemKind, ItemStatus, Ledger, Scope, SeqRange};

async fn entry(ledger: &Ledger, run: &Admitted, id: &str) -> ItemEntry {
    ok(ledger.items().get(&Scope::System, &run.thread, &run.run, &item_id(id)).await)
}

fn place(item: &ItemEntry) -> (ItemStatus, u64, Option<u64>, u64) {
    (item.status.clone(), item.started_seq, item.completed_seq, item.updated_seq)
}

/// A start makes the row, the completion finishes it, in one commit or in two.
pub async fn an_item_starts_and_completes(ledger: &Ledger) {
    let run = running(ledger).await;
    let both = vec![tool_started("a"), tool_ended("a", ItemStatus::Completed), tool_started("b")];
    ok(commit(ledger, run.commit(0, both)).await);
    assert_eq!(place(&entry(ledger, &run, "a").await), (ItemStatus::Completed, 1, Some(2), 2));
    assert_eq!(place(&entry(ledger, &run, "b").await), (ItemStatus::InProgress, 3, None, 3));
    ok(commit(ledger, run.commit(3, vec![tool_ended("b", ItemStatus::Failed)])).await);
    let b = entry(ledger, &run, "b").await;
    assert_eq!(place(&b), (ItemStatus::Failed, 3, Some(4), 4));
    assert_eq!(b.call_id.map(|id| id.to_string()).as_deref(), Some("b"));
    assert_eq!(b.completed_at, Some(at(0)));
}

/// An item that is only ever completed starts where it completes.
pub async fn a_completion_alone_makes_the_item(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("x"), ai("m", "lead_agent")])).await);
    let message = entry(ledger, &run, "m").await;
    assert_eq!(place(&message), (ItemStatus::Completed, 2, Some(2), 2));
    assert_eq!(message.caller.map(|caller| caller.to_string()).as_deref(), Some("lead_agent"));
}

/// An item has one completion: later records of it change nothing.
pub async fn the_first_completion_holds(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![tool_started("a")])).await);
    ok(commit(ledger, run.commit(1, vec![tool_ended("a", ItemStatus::Interrupted)])).await);
    let completed = entry(ledger, &run, "a").await;
    ok(commit(ledger, run.commit(2, vec![tool_ended("a", ItemStatus::Completed)])).await);
    ok(commit(ledger, run.commit(3, vec![tool_started("a")])).await);
    assert_eq!(entry(ledger, &run, "a").await, completed);
    let twice =
        vec![tool_ended("b", ItemStatus::Failed), tool_ended("b", ItemStatus::Completed), tool_started("b")];
    ok(commit(ledger, run.commit(4, twice)).await);
    assert_eq!(place(&entry(ledger, &run, "b").await), (ItemStatus::Failed, 5, Some(5), 5));
}

/// A second start changes nothing.
pub async fn a_second_start_changes_nothing(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![tool_started("a")])).await);
    let started = entry(ledger, &run, "a").await;
    ok(commit(ledger, run.commit(1, vec![tool_started("a")])).await);
    assert_eq!(entry(ledger, &run, "a").await, started);
}

/// Two runs may use the same item id.
pub async fn an_item_id_is_its_runs_own(ledger: &Ledger) {
    let first = running(ledger).await;
    ok(commit(ledger, first.commit(0, vec![tool_ended("a", ItemStatus::Completed)])).await);
    finish(ledger, &first, 1).await;
    let second = admit(ledger, &first.thread, "r2").await;
    ok(commit(ledger, second.commit(0, vec![tool_started("a")])).await);
    assert_eq!(entry(ledger, &first, "a").await.status, ItemStatus::Completed);
    assert_eq!(entry(ledger, &second, "a").await.status, ItemStatus::InProgress);
}

/// Kinds of extensions and of newer versions come back as they were.
pub async fn unknown_kinds_pass_through(ledger: &Ledger) {
    let run = running(ledger).await;
    let kinds = [ok(ItemKind::extension("clock", "sleep")), ItemKind::Unknown("hologram".into())];
    let events = kinds.iter().enumerate().map(|(n, kind)| {
        item(&n.to_string(), kind.clone(), ItemStatus::Unknown("paused".into()), Category::Lifecycle)
    });
    ok(commit(ledger, run.commit(0, events.collect())).await);
    for (n, kind) in kinds.into_iter().enumerate() {
        let stored = entry(ledger, &run, &n.to_string()).await;
        assert_eq!((stored.item_kind, stored.status), (kind, ItemStatus::Unknown("paused".into())));
    }
}

/// Items are listed in the order they began, narrowed by run and status, in pages both ways.
pub async fn items_are_listed_in_order(ledger: &Ledger) {
    let first = running(ledger).await;
    let events =
        vec![tool_started("a"), tool_started("b"), tool_started("c"), tool_ended("a", ItemStatus::Completed)];
    ok(commit(ledger, first.commit(0, events)).await);
    finish(ledger, &first, 4).await;
    let second = admit(ledger, &first.thread, "r2").await;
    ok(commit(ledger, second.commit(0, vec![tool_started("d")])).await);
    let list = async |filter: ItemFilter, range: SeqRange| {
        let page = ok(ledger.items().list(&Scope::System, &first.thread, &filter, &range).await);
        (page.items.iter().map(|item| item.item_id.to_string()).collect::<Vec<_>>().join(""), page.has_more)
    };
    let all = ItemFilter::default;
    assert_eq!(list(all(), SeqRange::after(0, 3)).await, ("abc".to_owned(), true));
    assert_eq!(list(all(), SeqRange::after(3, 3)).await, ("d".to_owned(), false));
    assert_eq!(list(all(), SeqRange::last(2)).await, ("cd".to_owned(), true));
    assert_eq!(list(all(), SeqRange::before(3, 5)).await, ("ab".to_owned(), false));
    let open = ItemFilter { status: Some(ItemStatus::InProgress), ..ItemFilter::default() };
    assert_eq!(list(open.clone(), SeqRange::after(0, 10)).await, ("bcd".to_owned(), false));
    let open_of_first = ItemFilter { run_id: Some(first.run.clone()), ..open };
    assert_eq!(list(open_of_first, SeqRange::after(0, 10)).await, ("bc".to_owned(), false));
    let of_second = ItemFilter { run_id: Some(second.run.clone()), ..ItemFilter::default() };
    assert_eq!(list(of_second, SeqRange::last(10)).await, ("d".to_owned(), false));
    let none = ledger.items().list(&Scope::System, &first.thread, &all(), &SeqRange::last(0)).await;
    assert_eq!(kind(none), ErrorKind::InvalidInput);
}

/// An item that does not exist is not found.
pub async fn a_missing_item_is_not_found(ledger: &Ledger) {
    let run = running(ledger).await;
    let missing = ledger.items().get(&Scope::System, &run.thread, &run.run, &item_id("none")).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
}
