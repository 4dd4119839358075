//! `/threads/{thread_id}`: a conversation, a page of turns at a time, the newest last, and followed while a run goes on.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::{
    ChildFilter, Contents, Cursor, ErrorKind, Interaction, InteractionFilter, Item, ItemFilter, ItemQuery,
    ItemSeq, Ledger, ListOrder, ListRange, RunFilter, RunId, RunVisibility, Scope, SeqRange, Thread,
    ThreadId, Turn, TurnQuery, TurnStart, TurnView,
};
use serde::Deserialize;

use super::format::{cost, count, id, moment};
use super::frame::{Frame, Section, nothing};
use super::item::{Child, Children, View};
use super::link::with_query;
use super::text::{Shown, block, notes};
use super::threads::{badge, title};
use super::turn::{self, Shelf, visibility};
use super::viewer::{Hidden, PathOf, QueryOf, Refused, Viewer, filled};
use crate::app::App;

/// Turns on one page, and items of each.
const TURNS: u32 = 10;
const ITEMS: u32 = 60;
/// Sub-agents that a page knows of, those that are told with their turns, and how many of each.
const LINKED: u32 = 100;
const CHILDREN: usize = 12;
const CHILD_TURNS: u32 = 2;
/// Changed items that one fragment brings.
const CHANGES: u32 = 100;

/// The parameters of the page.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Turns before the one at this cursor.
    before: Option<String>,
    /// Turns after the one at this cursor.
    after: Option<String>,
    #[serde(default)]
    hidden: Hidden,
}

/// The page.
pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    PathOf(thread_id): PathOf<ThreadId>,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let (ledger, scope) = (&app.ledger, &viewer.scope);
    let thread = ledger.threads().get(scope, &thread_id).await?;
    let head = ledger.threads().head(scope, &thread_id).await?;
    // Read from the newest on; what comes after a turn is before it in that order.
    let start = match (filled(&wanted.before), filled(&wanted.after)) {
        (Some(cursor), _) => TurnStart::After(Cursor::parse(cursor)?),
        (None, Some(cursor)) => TurnStart::Before(Cursor::parse(cursor)?),
        (None, None) => TurnStart::First,
    };
    let query = TurnQuery {
        view: TurnView::Full,
        visibility: visibility(wanted.hidden),
        order: ListOrder::NewestFirst,
        start: start.clone(),
        limit: TURNS,
        items: ITEMS,
        ..TurnQuery::default()
    };
    let page = ledger.items().turns(scope, &thread_id, &query).await?;
    let (has_earlier, has_later) = match start {
        TurnStart::First => (page.has_more, false),
        TurnStart::After(_) => (page.has_more, true),
        TurnStart::Before(_) => (true, page.has_more),
    };
    let shelves = shelves(ledger, scope, &thread, page.turns).await?;
    let runs: Vec<RunId> = shelves.iter().map(|shelf| shelf.run.run_id.clone()).collect();
    let children = children(ledger, scope, &thread_id, &runs).await?;
    let usage = match ledger.usage().by_thread(scope, &thread_id, true).await {
        Ok(usage) => Some(usage.totals),
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => return Err(error.into()),
    };
    let view = View::new(&viewer, children);
    let site = &viewer.site;
    let hidden = (wanted.hidden == Hidden::Shown).then_some("1");
    let place = |before: Option<&Cursor>, after: Option<&Cursor>| {
        let (before, after) = (before.map(Cursor::as_str), after.map(Cursor::as_str));
        with_query(&site.thread(&thread_id), &[("before", before), ("after", after), ("hidden", hidden)])
    };
    // The newest page is followed while a run goes on. One that is idle holds no connection: browsers have few.
    let follows = matches!(start, TurnStart::First) && head.active_run_id.is_some();
    let name = title(&thread);
    Ok(Frame::new(&name, Section::Threads, site).page(html! {
        div.page-head.thread-head {
            div {
                h1 { (Shown(&name)) }
                p.row-facts {
                    (badge(&thread.status))
                    (id(thread_id.as_str()))
                    @if let Some(assistant) = &thread.assistant_id { span.fact { (Shown(assistant.as_str())) } }
                    @if let Some(model) = &thread.model { span.fact { (Shown(model)) } }
                    @if let (None, Some(owner)) = (scope.owner(), &thread.owner_id) { span.fact { "of " (Shown(owner.as_str())) } }
                    @if let Some(parent) = &thread.parent_thread_id { a.fact href=(site.thread(parent)) { "sub-agent of " (id(parent.as_str())) } }
                    @if let Some(origin) = &thread.forked_from_thread_id { a.fact href=(site.thread(origin)) { "fork of " (id(origin.as_str())) } }
                    @if let Some(totals) = &usage { span.fact { (count(totals.total_tokens)) " tokens" } @if totals.cost_nanos > 0 { span.fact { (cost(totals.cost_nanos)) } } }
                    span.fact { (moment(thread.updated_at, viewer.now)) }
                }
            }
            p.tools {
                a href=(with_query(&site.page("/search"), &[("thread", Some(thread_id.as_str()))])) { "Search it" }
                @match wanted.hidden {
                    Hidden::Left => a href=(with_query(&site.thread(&thread_id), &[("hidden", Some("1"))])) { "Show hidden runs" },
                    Hidden::Shown => a href=(site.thread(&thread_id)) { "Leave hidden runs out" },
                }
                button.plain.scripted type="button" data-toggle-all { "Open all" }
            }
        }
        @if thread.metadata.as_str() != "{}" || thread.system_prompt.is_some() {
            details.fold.about {
                summary { span.name { "About this thread" } }
                @if let Some(prompt) = &thread.system_prompt { div.part { h4 { "System prompt" } (block(prompt, &view.room)) } }
                (notes("Metadata", &thread.metadata, &app, &view.room))
            }
        }
        @if has_earlier {
            nav.pager aria-label="Earlier turns" { a rel="prev" href=(place(page.next.as_ref(), None)) { "↑ Earlier turns" } }
        }
        @if shelves.is_empty() { (nothing("No turns here.", "Runs that were undone are hidden; they can be shown.")) }
        div #turns.turns data-thread=(Shown(thread_id.as_str())) data-through=(page.projected_through)
            data-live=[follows.then_some("1")] data-hidden=[hidden] {
            @for shelf in &shelves { (turn::full(&view, shelf)) }
        }
        @if has_later {
            nav.pager aria-label="Later turns" {
                a rel="next" href=(place(None, page.previous.as_ref())) { "↓ Later turns" }
                a href=(place(None, None)) { "Newest" }
            }
        }
        @if follows { (follow_bar()) }
    }))
}

fn follow_bar() -> Markup {
    html! {
        div.follow #follow role="status" {
            span #live-state { "This run goes on. Reload the page to see more." }
            button.scripted #follow-toggle type="button" aria-pressed="true" { "Follow" }
        }
    }
}

/// Turns of a page, the oldest first, each with what there is of it. Of a run that goes on and has more items than
/// one page, the last ones.
async fn shelves(
    ledger: &Ledger,
    scope: &Scope,
    thread: &Thread,
    turns: Vec<Turn>,
) -> runledger_core::Result<Vec<Shelf>> {
    let questions = questions(ledger, scope, &thread.thread_id).await?;
    let mut shelves = Vec::with_capacity(turns.len());
    for Turn { run, items, has_more, .. } in turns.into_iter().rev() {
        let questions = questions.iter().filter(|asked| asked.run_id == run.run_id).cloned().collect();
        let (items, has_earlier, has_later) = if has_more && run.status.is_active() {
            let query = ItemQuery {
                filter: ItemFilter { run_id: Some(run.run_id.clone()), status: None },
                range: SeqRange::last(ITEMS),
                ..ItemQuery::default()
            };
            let last = ledger.items().page(scope, &thread.thread_id, &query).await?;
            (last.items, last.has_more, false)
        } else {
            (items, false, has_more)
        };
        shelves.push(Shelf { run, items, has_earlier, has_later, questions });
    }
    Ok(shelves)
}

/// What the thread's runs asked people: the newest, where the backend keeps such.
pub(super) async fn questions(
    ledger: &Ledger,
    scope: &Scope,
    thread: &ThreadId,
) -> runledger_core::Result<Vec<Interaction>> {
    let filter = InteractionFilter { thread_id: Some(thread.clone()), ..InteractionFilter::default() };
    match ledger.interactions().list(scope, &filter, &ListRange::newest(50)).await {
        Ok(page) => Ok(page.items),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The newest sub-agents of these runs, each with the turns it began with.
pub(super) async fn children(
    ledger: &Ledger,
    scope: &Scope,
    thread: &ThreadId,
    runs: &[RunId],
) -> runledger_core::Result<Children> {
    let mut children = Children::default();
    if runs.is_empty() {
        return Ok(children);
    }
    let filter = ChildFilter { spawn_run_ids: runs.to_vec(), contents: Contents::Omitted };
    let page = ledger.threads().list_children(scope, thread, &filter, &ListRange::newest(LINKED)).await?;
    for (at, thread) in page.items.into_iter().enumerate() {
        let query = TurnQuery { order: ListOrder::OldestFirst, limit: CHILD_TURNS, ..TurnQuery::default() };
        let (turns, has_more) = if at < CHILDREN {
            match ledger.items().turns(scope, &thread.thread_id, &query).await {
                Ok(page) => (page.turns, page.has_more),
                // It was deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        } else {
            (Vec::new(), true)
        };
        children.0.insert(thread.thread_id.clone(), Child { thread, turns, has_more });
    }
    Ok(children)
}

/// The parameters of a fragment.
#[derive(Debug, Deserialize)]
pub(super) struct Since {
    /// What changed after this number.
    updated_after: u64,
    #[serde(default)]
    hidden: Hidden,
}

/// What changed on a thread, as markup that the script puts in its place: for each run with a change its head, foot
/// and the items that began or ended.
pub(super) async fn fragment(
    State(app): State<App>,
    viewer: Viewer,
    PathOf(thread_id): PathOf<ThreadId>,
    QueryOf(since): QueryOf<Since>,
) -> Result<Html<String>, Refused> {
    let (ledger, scope) = (&app.ledger, &viewer.scope);
    let query = ItemQuery {
        visibility: visibility(since.hidden),
        by: ItemSeq::Updated,
        range: SeqRange::after(since.updated_after, CHANGES),
        contents: Contents::Read,
        ..ItemQuery::default()
    };
    let page = ledger.items().page(scope, &thread_id, &query).await?;
    let through = match page.items.last() {
        Some(last) if page.has_more => last.entry.updated_seq,
        _ => page.projected_through,
    };
    let has_more = page.has_more;
    let active = ledger.threads().head(scope, &thread_id).await?.active_run_id;
    let shelves = changed(ledger, scope, &thread_id, page.items, query.visibility).await?;
    let runs: Vec<RunId> = shelves.iter().map(|shelf| shelf.run.run_id.clone()).collect();
    let view = View::new(&viewer, children(ledger, scope, &thread_id, &runs).await?);
    let markup = html! {
        div.fragment data-through=(through) data-more=[has_more.then_some("1")] data-live=[active.is_some().then_some("1")] {
            @for shelf in &shelves { (turn::full(&view, shelf)) }
        }
    };
    Ok(Html(markup.into_string()))
}

/// The newest turns, which may have changed without an item, and the turns of changed items.
async fn changed(
    ledger: &Ledger,
    scope: &Scope,
    thread: &ThreadId,
    items: Vec<Item>,
    visibility: RunVisibility,
) -> runledger_core::Result<Vec<Shelf>> {
    let newest = TurnQuery { view: TurnView::NotLoaded, visibility, limit: 2, ..TurnQuery::default() };
    let newest = ledger.items().turns(scope, thread, &newest).await?;
    let questions = questions(ledger, scope, thread).await?;
    let mut runs: Vec<_> = newest.turns.into_iter().map(|turn| turn.run).collect();
    let is_newest = |item: &Item| runs.iter().any(|run| run.run_id == item.entry.run_id);
    let older = items.iter().filter(|item| !is_newest(item)).map(|item| item.entry.run_id.clone());
    let older: BTreeSet<RunId> = older.collect();
    if !older.is_empty() {
        let filter = RunFilter {
            thread_id: Some(thread.clone()),
            run_ids: older.into_iter().collect(),
            contents: Contents::Omitted,
            ..RunFilter::default()
        };
        runs.extend(ledger.runs().list(scope, &filter, &ListRange::newest(CHANGES)).await?.items);
    }
    let mut shelves: Vec<Shelf> = runs
        .into_iter()
        .rev()
        .map(|run| {
            let questions = questions.iter().filter(|asked| asked.run_id == run.run_id).cloned().collect();
            Shelf { run, items: Vec::new(), has_earlier: false, has_later: false, questions }
        })
        .collect();
    for item in items {
        if let Some(shelf) = shelves.iter_mut().find(|shelf| shelf.run.run_id == item.entry.run_id) {
            shelf.items.push(item);
        }
    }
    for shelf in &mut shelves {
        shelf.items.sort_by_key(|item| item.entry.started_seq);
    }
    Ok(shelves)
}
