//! `/`: runs of all threads, newest first.

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::{Contents, Cursor, ListRange, Run, RunFilter, RunStatus, ThreadId};
use serde::Deserialize;

use super::format::{cost, count, id, moment};
use super::frame::{Frame, Section, choice, field, nothing, pager};
use super::link::with_query;
use super::text::{Shown, one_line};
use super::turn::{badge, hidden_mark, took};
use super::viewer::{QueryOf, Refused, Viewer, filled};
use crate::app::App;

/// Runs on one page.
const ROWS: u32 = 50;

/// The parameters of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    status: Option<String>,
    thread: Option<String>,
    cursor: Option<String>,
}

impl Wanted {
    fn filter(&self) -> runledger_core::Result<RunFilter> {
        Ok(RunFilter {
            thread_id: filled(&self.thread).map(ThreadId::new).transpose()?,
            status: filled(&self.status).map(|text| RunStatus::parse("status", text)).transpose()?,
            contents: Contents::Omitted,
            ..RunFilter::default()
        })
    }
}

/// The page.
pub(super) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let range = ListRange { limit: ROWS, cursor: filled(&wanted.cursor).map(Cursor::parse).transpose()? };
    let page = app.ledger.runs().list(&viewer.scope, &wanted.filter()?, &range).await?;
    let site = &viewer.site;
    let (status, thread) = (filled(&wanted.status), filled(&wanted.thread));
    let place = |cursor: Option<&str>| {
        with_query(&site.page("/"), &[("status", status), ("thread", thread), ("cursor", cursor)])
    };
    let next = page.next_cursor.as_ref().map(|cursor| place(Some(cursor.as_str())));
    let first = range.cursor.is_some().then(|| place(None));
    let is_live = range.cursor.is_none();
    Ok(Frame::new("Runs", Section::Runs, site).page(html! {
        div.page-head {
            h1 { "Runs" }
            form.filters action=(site.page("/")) {
                (choice("status", "Status", status, RunStatus::KNOWN.iter().map(RunStatus::as_str)))
                (field("thread", "Thread", thread, "its id"))
                button { "Filter" }
                @if status.is_some() || thread.is_some() { a href=(site.page("/")) { "Clear" } }
            }
        }
        @if page.items.is_empty() && (is_live && status.is_none() && thread.is_none()) {
            (nothing("No runs yet.", "`runledger demo` records one, and so does every agent that has a journal."))
        } @else if page.items.is_empty() {
            (nothing("No such runs.", "Another status or thread may have some."))
        } @else {
            div.refreshed #runs data-refresh=[is_live.then_some("5")] {
                div.rows.runs { @for run in &page.items { (row(&viewer, run)) } }
            }
        }
        (pager(next.as_deref(), first.as_deref()))
    }))
}

/// A run as a row: what was asked is the way to the thread.
pub(super) fn row(viewer: &Viewer, run: &Run) -> Markup {
    let site = &viewer.site;
    let asked =
        run.first_human_message.as_deref().map(|text| one_line(text, 160)).filter(|text| !text.is_empty());
    html! {
        article.row data-nav tabindex="-1" {
            div.row-main {
                a.row-title href=(site.run(&run.thread_id, &run.run_id)) {
                    @if let Some(asked) = &asked { (Shown(asked)) } @else { "Run without a message" }
                }
                @if let Some(error) = &run.error { p.row-error { (Shown(&one_line(error, 160))) } }
                p.row-facts {
                    a href=(site.thread(&run.thread_id)) { "thread " (id(run.thread_id.as_str())) }
                    @if let Some(assistant) = &run.assistant_id { span.fact { (Shown(assistant.as_str())) } }
                    @if let Some(model) = &run.model_name { span.fact { (Shown(&one_line(model, 48))) } }
                    @if let (None, Some(owner)) = (viewer.scope.owner(), &run.owner_id) { span.fact { "of " (Shown(owner.as_str())) } }
                    span.fact { (moment(run.created_at, viewer.now)) }
                }
            }
            dl.figures {
                div.status { dt { "Status" } dd { (badge(&run.status)) (hidden_mark(run)) } }
                div.tokens { dt { "Tokens" } dd { (count(run.totals.total_tokens)) } }
                div { dt { "Cost" } dd { (cost(run.totals.cost_nanos)) } }
                div { dt { "Took" } dd { (took(run, viewer.now).unwrap_or_else(|| "–".to_owned())) } }
            }
        }
    }
}
