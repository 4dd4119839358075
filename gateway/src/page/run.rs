//! `/threads/{thread_id}/runs/{run_id}`: one run, all of its items by pages, what it used, and its events as they are.

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::{
    Event, EventFilter, Item, ItemFilter, ItemId, ItemQuery, Ledger, Run, RunId, RunVisibility, Scope,
    SeqPage, SeqRange, ThreadId, UsageBreakdown,
};
use serde::Deserialize;

use super::format::{cost, count, grouped, id, moment, time};
use super::frame::{Frame, Section, nothing};
use super::item::{View, items};
use super::link::with_query;
use super::text::{Shown, block, indented, notes, one_line};
use super::turn::{self, Shelf};
use super::viewer::{PathOf, QueryOf, Refused, Viewer, filled};
use crate::app::App;

/// Items, and events, on one page.
const ROWS: u32 = 100;

/// How a run is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Telling {
    #[default]
    Items,
    Events,
}

/// The parameters of the page.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    view: Telling,
    after: Option<u64>,
    before: Option<u64>,
    /// The page that begins with this item.
    item: Option<String>,
}

impl Wanted {
    /// The part of the log that is asked for, from the beginning where none is.
    async fn range(
        &self,
        ledger: &Ledger,
        scope: &Scope,
        (thread, run): (&ThreadId, &RunId),
    ) -> runledger_core::Result<SeqRange> {
        if let Some(item) = filled(&self.item) {
            let entry = ledger.items().get(scope, thread, run, &ItemId::new(item)?).await?;
            return Ok(SeqRange::after(entry.started_seq.saturating_sub(1), ROWS));
        }
        Ok(match (self.after, self.before) {
            (Some(after), _) => SeqRange::after(after, ROWS),
            (None, Some(before)) => SeqRange::before(before, ROWS),
            (None, None) => SeqRange::after(0, ROWS),
        })
    }
}

/// Which sides of a page have more, and the addresses of these.
struct Sides {
    earlier: Option<String>,
    later: Option<String>,
}

impl Sides {
    /// Of a page that was read in this range, with the seqs of its first and last row.
    fn of(
        range: &SeqRange,
        has_more: bool,
        ends: Option<(u64, u64)>,
        place: impl Fn(&str, u64) -> String,
    ) -> Self {
        let forward = range.after_seq.is_some();
        // What is asked for is any number, also one that no log has.
        let (first, last) = ends.unwrap_or_else(|| {
            let (after, before) = (range.after_seq.unwrap_or(0), range.before_seq.unwrap_or(1));
            (after.saturating_add(1), before.saturating_sub(1))
        });
        let earlier = if forward { range.after_seq.is_some_and(|after| after > 0) } else { has_more };
        let later = if forward { has_more } else { true };
        Self { earlier: earlier.then(|| place("before", first)), later: later.then(|| place("after", last)) }
    }

    fn earlier(&self) -> Markup {
        html! { @if let Some(earlier) = &self.earlier { nav.pager aria-label="Earlier" { a rel="prev" href=(earlier) { "↑ Earlier" } } } }
    }

    fn later(&self) -> Markup {
        html! { @if let Some(later) = &self.later { nav.pager aria-label="Later" { a rel="next" href=(later) { "↓ Later" } } } }
    }
}

/// The page.
pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    PathOf((thread_id, run_id)): PathOf<(ThreadId, RunId)>,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let (ledger, scope, site) = (&app.ledger, &viewer.scope, &viewer.site);
    let run = ledger.runs().get(scope, &thread_id, &run_id).await?;
    let usage = ledger.usage().by_run(scope, &thread_id, &run_id).await?;
    let range = wanted.range(ledger, scope, (&thread_id, &run_id)).await?;
    let page = site.run(&thread_id, &run_id);
    let body = match wanted.view {
        Telling::Items => {
            let (items, sides) = run_items(ledger, &viewer, &run, range).await?;
            let questions = super::thread::questions(ledger, scope, &thread_id).await?;
            let questions = questions.into_iter().filter(|asked| asked.run_id == run_id).collect();
            let view = View::new(
                &viewer,
                super::thread::children(ledger, scope, &thread_id, std::slice::from_ref(&run_id)).await?,
            );
            let shelf = Shelf { run: run.clone(), items, has_earlier: false, has_later: false, questions };
            told(&view, &shelf, &sides)
        }
        Telling::Events => {
            let filter = EventFilter::of_run(run_id.clone());
            let found = ledger.events().list_events(scope, &thread_id, &filter, &range).await?;
            events(&viewer, &run, &range, &found)
        }
    };
    let name =
        run.first_human_message.as_deref().map(|text| one_line(text, 120)).filter(|text| !text.is_empty());
    let name = name.unwrap_or_else(|| "Run without a message".to_owned());
    let tab = |telling: Telling, name: &str, parameter: Option<&str>| {
        html! {
            a href=(with_query(&page, &[("view", parameter)])) aria-current=[(wanted.view == telling).then_some("page")] { (name) }
        }
    };
    Ok(Frame::new(&name, Section::Runs, site).page(html! {
        div.page-head {
            div {
                p.crumb { a href=(site.thread(&thread_id)) { "← Thread " (id(thread_id.as_str())) } }
                h1 { (Shown(&name)) }
                p.row-facts { (id(run_id.as_str())) (turn::facts(&run, viewer.now)) span.fact { (moment(run.created_at, viewer.now)) } }
            }
        }
        (about(&app, &viewer, &run, &usage))
        div.tabs-line {
            nav.tabs aria-label="Ways to look at the run" {
                (tab(Telling::Items, "Items", None))
                (tab(Telling::Events, "Events", Some("events")))
            }
            button.plain.scripted type="button" data-toggle-all { "Open all" }
        }
        (body)
    }))
}

async fn run_items(
    ledger: &Ledger,
    viewer: &Viewer,
    run: &Run,
    range: SeqRange,
) -> Result<(Vec<Item>, Sides), Refused> {
    let query = ItemQuery {
        filter: ItemFilter { run_id: Some(run.run_id.clone()), status: None },
        visibility: RunVisibility::All,
        range,
        ..ItemQuery::default()
    };
    let page = ledger.items().page(&viewer.scope, &run.thread_id, &query).await?;
    let here = viewer.site.run(&run.thread_id, &run.run_id);
    let ends = page.items.first().zip(page.items.last());
    let ends = ends.map(|(first, last)| (first.entry.started_seq, last.entry.started_seq));
    let place = |side: &str, seq: u64| with_query(&here, &[(side, Some(&seq.to_string()))]);
    Ok((page.items, Sides::of(&range, page.has_more, ends, place)))
}

fn told(view: &View<'_>, shelf: &Shelf, sides: &Sides) -> Markup {
    html! {
        (sides.earlier())
        div.turn.single data-run=(Shown(shelf.run.run_id.as_str())) {
            div.items { (items(view, &shelf.items)) }
            (turn::foot(view, shelf))
        }
        (sides.later())
    }
}

/// What is known of the run beside what it did.
fn about(app: &App, viewer: &Viewer, run: &Run, usage: &UsageBreakdown) -> Markup {
    let site = &viewer.site;
    let totals = &run.totals;
    let has_models = !usage.by_model.is_empty();
    let room = super::text::Room::default();
    html! {
        details.fold.about open[has_models] {
            summary { span.name { "About this run" } }
            dl.facts-list {
                div { dt { "Asked for" } dd { (moment(run.created_at, viewer.now)) } }
                @if let Some(at) = run.finished_at { div { dt { "Ended" } dd { (moment(at, viewer.now)) } } }
                @if let Some(owner) = &run.owner_id { div { dt { "Owner" } dd { (Shown(owner.as_str())) } } }
                @if let Some(assistant) = &run.assistant_id { div { dt { "Assistant" } dd { (Shown(assistant.as_str())) } } }
                @if let Some(agent_run) = &run.agent_run_id { div { dt { "Agent run" } dd { a href=(site.agent_run(agent_run)) { (id(agent_run.as_str())) } } } }
                @if let Some(parent) = &run.parent_run_id { div { dt { "Started by" } dd { a href=(site.run(&run.thread_id, parent)) { (id(parent.as_str())) } } } }
                @if let Some(before) = &run.follow_up_to_run_id { div { dt { "Follows" } dd { a href=(site.run(&run.thread_id, before)) { (id(before.as_str())) } } } }
                @if let (Some(first), Some(last)) = (run.first_seq, run.last_seq) { div { dt { "Events" } dd { (grouped(first)) "–" (grouped(last)) } } }
                (turn::budget(run))
            }
            (notes("Metadata", &run.metadata, app, &room))
            (notes("Arguments", &run.kwargs, app, &room))
            @if has_models {
                div.scroll tabindex="0" role="region" aria-label="Usage by model" {
                    table {
                        thead { tr { th scope="col" { "Model" } @for name in ["Calls", "Input", "Cached", "Output", "Reasoning", "Total", "Cost"] { th.number scope="col" { (name) } } } }
                        tbody {
                            @for (model, used) in usage.by_model.iter().take(50) {
                                tr {
                                    th scope="row" { (Shown(model)) }
                                    @for number in [used.llm_calls, used.tokens.input, used.tokens.cache_read, used.tokens.output, used.tokens.reasoning, used.tokens.total] { td.number { (grouped(number)) } }
                                    td.number { (cost(used.cost_nanos)) }
                                }
                            }
                        }
                        @if usage.by_model.len() > 1 {
                            tfoot { tr {
                                th scope="row" { "all" }
                                @for number in [totals.llm_calls, totals.input_tokens, totals.cache_read_tokens, totals.output_tokens, totals.reasoning_tokens, totals.total_tokens] { td.number { (grouped(number)) } }
                                td.number { (cost(totals.cost_nanos)) }
                            } }
                        }
                    }
                }
            }
        }
    }
}

/// The events of the run as they are stored.
fn events(viewer: &Viewer, run: &Run, range: &SeqRange, page: &SeqPage<Event>) -> Markup {
    let here = viewer.site.run(&run.thread_id, &run.run_id);
    let place =
        |side: &str, seq: u64| with_query(&here, &[("view", Some("events")), (side, Some(&seq.to_string()))]);
    let ends = page.items.first().zip(page.items.last()).map(|(first, last)| (first.seq, last.seq));
    let sides = Sides::of(range, page.has_more, ends, place);
    let room = super::text::Room::default();
    html! {
        (sides.earlier())
        @if page.items.is_empty() { (nothing("No events here.", "They may have been removed by retention.")) }
        ol.events {
            @for event in &page.items {
                li id={ "e-" (event.seq) } data-nav tabindex="-1" {
                    details.fold {
                        summary {
                            span.seq { (event.seq) }
                            span.name { (Shown(event.event_type.as_str())) }
                            span.fact { (Shown(event.category.as_str())) }
                            @if let Some(item) = &event.item { span.fact { (Shown(&item.kind.to_string())) " " (Shown(item.status.as_str())) } }
                            @if let Some(caller) = &event.caller { span.fact { (Shown(caller.as_str())) } }
                            span.fact { (count(event.content_bytes)) " bytes" }
                            @if event.truncated { span.badge.warn { "cut" } }
                            span.fact.when { (time(event.created_at, viewer.now)) }
                        }
                        (block(&indented(room.take(event.content.as_str()).0), &room))
                    }
                }
            }
        }
        (sides.later())
    }
}
