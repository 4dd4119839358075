//! `/search`: what was said and what tools returned.

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::view::search::{SearchQuery, Snippet};
use runledger_core::{Cursor, ListRange, SearchFilter, SearchHit, SearchPage, ThreadId};
use serde::Deserialize;

use super::format::{grouped, id, moment};
use super::frame::{Frame, Section, field, nothing, pager};
use super::link::with_query;
use super::text::Shown;
use super::viewer::{QueryOf, Refused, Viewer, filled};
use crate::app::App;

/// Texts on one page.
const ROWS: u32 = 30;

/// The parameters of the page.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    q: Option<String>,
    thread: Option<String>,
    cursor: Option<String>,
}

/// The page.
pub(super) async fn find(
    State(app): State<App>,
    viewer: Viewer,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let (query, thread) = (filled(&wanted.q), filled(&wanted.thread));
    let site = &viewer.site;
    let found = match query {
        Some(query) => {
            let filter =
                SearchFilter { thread_id: thread.map(ThreadId::new).transpose()?, ..SearchFilter::default() };
            let cursor = filled(&wanted.cursor).map(Cursor::parse).transpose()?;
            let range = ListRange { limit: ROWS, cursor };
            Some(app.ledger.search(&viewer.scope, &SearchQuery::parse(query)?, &filter, &range).await?)
        }
        None => None,
    };
    let place = |cursor: Option<&str>| {
        with_query(&site.page("/search"), &[("q", query), ("thread", thread), ("cursor", cursor)])
    };
    let next =
        found.as_ref().and_then(|page| page.next_cursor.as_ref()).map(|cursor| place(Some(cursor.as_str())));
    let first = filled(&wanted.cursor).map(|_| place(None));
    let title = query.map_or_else(|| "Search".to_owned(), |query| format!("Search: {query}"));
    let frame = Frame { query: query.unwrap_or_default(), ..Frame::new(&title, Section::Search, site) };
    Ok(frame.page(html! {
        div.page-head {
            h1 { "Search" }
            form.filters action=(site.page("/search")) {
                (field("q", "Words", query, "words, \"a phrase\", -without"))
                (field("thread", "Thread", thread, "its id"))
                button { "Search" }
            }
        }
        @match &found {
            None => (nothing("What was said and what tools returned.", "Words that begin like this* are found too; a phrase stands in quotes.")),
            Some(page) => (results(&viewer, page)),
        }
        (pager(next.as_deref(), first.as_deref()))
    }))
}

fn results(viewer: &Viewer, page: &SearchPage) -> Markup {
    html! {
        @if page.behind.events > 0 {
            p.note { (grouped(page.behind.events)) " events are not indexed yet; searching again reads further." }
        }
        @if page.items.is_empty() { (nothing("Nothing found.", "Fewer words find more.")) }
        div.rows.hits { @for hit in &page.items { (row(viewer, hit)) } }
    }
}

fn row(viewer: &Viewer, hit: &SearchHit) -> Markup {
    let site = &viewer.site;
    let place = match (&hit.run_id, &hit.item_id) {
        (Some(run), Some(item)) => site.item(&hit.thread_id, run, item),
        (Some(run), None) => {
            let after = hit.seq.saturating_sub(1).to_string();
            let page = site.run(&hit.thread_id, run);
            with_query(&page, &[("view", Some("events")), ("after", Some(&after))])
        }
        (None, _) => site.thread(&hit.thread_id),
    };
    let kind =
        hit.item_kind.as_ref().map_or_else(|| "record".to_owned(), |kind| kind.to_string().replace('_', " "));
    html! {
        article.row data-nav tabindex="-1" {
            div.row-main {
                a.row-title.snippet href=(place) dir="auto" { (snippet(&hit.snippet)) }
                p.row-facts {
                    span.fact { (Shown(&kind)) }
                    a href=(site.thread(&hit.thread_id)) { "thread " (id(hit.thread_id.as_str())) }
                    span.fact { (moment(hit.created_at, viewer.now)) }
                }
            }
        }
    }
}

/// A snippet with its matches marked. Marks are numbers of characters.
fn snippet(snippet: &Snippet) -> Markup {
    let chars: Vec<char> = snippet.text.chars().collect();
    let part = |from: usize, to: usize| {
        chars.get(from..to.min(chars.len())).map(|part| part.iter().collect::<String>()).unwrap_or_default()
    };
    let mut at = 0;
    let mut parts: Vec<(String, String)> = Vec::new();
    for (from, to) in snippet.marks.iter().copied().filter(|(from, to)| from < to) {
        parts.push((part(at, from), part(from.max(at), to)));
        at = to;
    }
    html! {
        @if snippet.cut_before { "… " }
        @for (before, mark) in &parts { (Shown(before)) mark { (Shown(mark)) } }
        (Shown(&part(at, chars.len())))
        @if snippet.cut_after { " …" }
    }
}
