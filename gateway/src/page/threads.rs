//! `/threads`: conversations, pinned ones first.

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::{
    AssistantId, Contents, Cursor, Error, ListRange, MetadataMatch, MetadataValue, Thread, ThreadFilter,
    ThreadKind, ThreadStatus,
};
use serde::Deserialize;

use super::format::{id, moment};
use super::frame::{Frame, Section, choice, field, nothing, pager};
use super::link::with_query;
use super::text::{Shown, one_line};
use super::viewer::{QueryOf, Refused, Viewer, filled};
use crate::app::App;

/// Threads on one page.
const ROWS: u32 = 50;

/// The parameters of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    status: Option<String>,
    assistant: Option<String>,
    metadata: Option<String>,
    cursor: Option<String>,
}

impl Wanted {
    fn filter(&self) -> runledger_core::Result<ThreadFilter> {
        Ok(ThreadFilter {
            status: filled(&self.status).map(|text| ThreadStatus::parse("status", text)).transpose()?,
            assistant_id: filled(&self.assistant).map(AssistantId::new).transpose()?,
            metadata: filled(&self.metadata).map(matched).transpose()?.into_iter().collect(),
            contents: Contents::Omitted,
            ..ThreadFilter::default()
        })
    }
}

/// `key=value`: a value that is written as JSON writes one is of that type, anything else is text.
fn matched(text: &str) -> runledger_core::Result<MetadataMatch> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Error::invalid("metadata", "has no '='; write key=value, as in project=apollo"))?;
    let value = match value.trim() {
        "null" => MetadataValue::Null,
        "true" => MetadataValue::Bool(true),
        "false" => MetadataValue::Bool(false),
        value => match value.parse() {
            Ok(number) => MetadataValue::Number(number),
            Err(_) => {
                let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                MetadataValue::Text(quoted.unwrap_or(value).to_owned())
            }
        },
    };
    Ok(MetadataMatch { key: key.trim().to_owned(), value })
}

/// The page.
pub(super) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let range = ListRange { limit: ROWS, cursor: filled(&wanted.cursor).map(Cursor::parse).transpose()? };
    let page = app.ledger.threads().list(&viewer.scope, &wanted.filter()?, &range).await?;
    let site = &viewer.site;
    let (status, assistant, metadata) =
        (filled(&wanted.status), filled(&wanted.assistant), filled(&wanted.metadata));
    let place = |cursor: Option<&str>| {
        let parameters =
            [("status", status), ("assistant", assistant), ("metadata", metadata), ("cursor", cursor)];
        with_query(&site.page("/threads"), &parameters)
    };
    let next = page.next_cursor.as_ref().map(|cursor| place(Some(cursor.as_str())));
    let first = range.cursor.is_some().then(|| place(None));
    let is_filtered = status.is_some() || assistant.is_some() || metadata.is_some();
    Ok(Frame::new("Threads", Section::Threads, site).page(html! {
        div.page-head {
            h1 { "Threads" }
            form.filters action=(site.page("/threads")) {
                (choice("status", "Status", status, ThreadStatus::KNOWN.iter().map(ThreadStatus::as_str)))
                (field("assistant", "Assistant", assistant, "its id"))
                (field("metadata", "Metadata", metadata, "key=value"))
                button { "Filter" }
                @if is_filtered { a href=(site.page("/threads")) { "Clear" } }
            }
        }
        @if page.items.is_empty() {
            (nothing(if is_filtered { "No such threads." } else { "No threads yet." }, "A thread begins with its first run."))
        }
        div.rows.threads {
            @for thread in &page.items { (row(&viewer, thread)) }
        }
        (pager(next.as_deref(), first.as_deref()))
    }))
}

/// A thread's status, in words and a colour.
pub(super) fn badge(status: &ThreadStatus) -> Markup {
    let tone = match status {
        ThreadStatus::Busy => "active",
        ThreadStatus::Interrupted => "warn",
        ThreadStatus::Error => "bad",
        _ => "plain",
    };
    html! { span class={ "badge " (tone) } { (Shown(status.as_str())) } }
}

/// What a thread is called.
pub(super) fn title(thread: &Thread) -> String {
    let name = thread.display_name.as_deref().map(|name| one_line(name, 160)).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "Untitled thread".to_owned())
}

fn row(viewer: &Viewer, thread: &Thread) -> Markup {
    html! {
        article.row data-nav tabindex="-1" {
            div.row-main {
                a.row-title href=(viewer.site.thread(&thread.thread_id)) { (Shown(&title(thread))) }
                p.row-facts {
                    (id(thread.thread_id.as_str()))
                    @if let Some(assistant) = &thread.assistant_id { span.fact { (Shown(assistant.as_str())) } }
                    @if thread.kind == ThreadKind::Subagent { span.fact { "sub-agent" } }
                    @if let (None, Some(owner)) = (viewer.scope.owner(), &thread.owner_id) { span.fact { "of " (Shown(owner.as_str())) } }
                    span.fact { (moment(thread.updated_at, viewer.now)) }
                }
            }
            p.row-side {
                @if thread.pinned { span.badge.plain { "pinned" } }
                @if thread.archived_at.is_some() { span.badge.plain { "archived" } }
                (badge(&thread.status))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn metadata_is_matched_by_type() {
        let value = |text| matched(text).unwrap().value;
        assert_eq!(value("a=null"), MetadataValue::Null);
        assert_eq!(value("a=true"), MetadataValue::Bool(true));
        assert_eq!(value("a=-12"), MetadataValue::Number(-12));
        assert_eq!(value("a=\"12\""), MetadataValue::Text("12".to_owned()));
        assert_eq!(value("a=b=c"), MetadataValue::Text("b=c".to_owned()));
        assert_eq!(matched("a").unwrap_err().kind(), runledger_core::ErrorKind::InvalidInput);
    }
}
