//! What is around each page: its head, the navigation, and pages of problems. The headers of a page are those of every
//! answer (`layers`).

use axum::extract::{OriginalUri, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};

use super::link::Site;
use super::text::Shown;
use crate::problem::Problem;

/// Which entry of the navigation a page is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Runs,
    Threads,
    AgentRuns,
    Usage,
    Search,
    /// None of them.
    Nowhere,
}

const SECTIONS: [(Section, &str, &str, &str); 4] = [
    (Section::Runs, "/", "Runs", "r"),
    (Section::Threads, "/threads", "Threads", "t"),
    (Section::AgentRuns, "/agent-runs", "Agent runs", "a"),
    (Section::Usage, "/usage", "Usage", "u"),
];

/// What is around a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// What the page is about, for the tab of the browser.
    pub(super) title: &'a str,
    pub(super) section: Section,
    pub(super) site: &'a Site,
    /// What was searched for.
    pub(super) query: &'a str,
}

impl<'a> Frame<'a> {
    pub(super) fn new(title: &'a str, section: Section, site: &'a Site) -> Self {
        Self { title, section, site, query: "" }
    }

    /// The whole page.
    pub(super) fn page(self, main: Markup) -> Html<String> {
        Html(self.markup(main).into_string())
    }

    fn markup(self, main: Markup) -> Markup {
        let site = self.site;
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (Shown(self.title)) " · Runledger" }
                    // Not deferred: the theme is chosen before anything is painted.
                    script src=(site.asset("theme.js")) {}
                    link rel="stylesheet" href=(site.asset("style.css"));
                    link rel="icon" href=(site.asset("icon.svg")) type="image/svg+xml";
                    script src=(site.asset("page.js")) defer {}
                }
                body data-base=(site.base()) {
                    a.skip href="#main" { "Skip to the content" }
                    header.top {
                        a.brand href=(site.page("/")) aria-label="Runledger, all runs" {
                            svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true" {
                                path d="M2 3h12M2 8h8M2 13h10" {}
                                circle cx="13.2" cy="8" r="1.4" {}
                            }
                            span { "Runledger" }
                        }
                        nav aria-label="Pages" {
                            @for (section, path, name, key) in SECTIONS {
                                a href=(site.page(path)) data-key=(key)
                                    aria-current=[(section == self.section).then_some("page")] { (name) }
                            }
                        }
                        form.search role="search" action=(site.page("/search")) {
                            label.unseen for="q" { "Search what was said and returned" }
                            input #q name="q" type="search" value=(Shown(self.query)) placeholder="Search" autocomplete="off";
                            kbd aria-hidden="true" { "/" }
                        }
                        button.tool.scripted #theme type="button" title="Switch between dark and light" aria-label="Switch between dark and light" {
                            svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" {
                                circle cx="8" cy="8" r="6" {}
                                path.half d="M8 2a6 6 0 0 1 0 12z" {}
                            }
                        }
                        @if let Some(log_out) = &site.log_out {
                            form.log-out method="post" action=(log_out) { button.plain { "Log out" } }
                        }
                        button.tool.scripted #help type="button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" { "?" }
                    }
                    main #main tabindex="-1" { (main) }
                    (shortcuts())
                }
            }
        }
    }
}

fn shortcuts() -> Markup {
    let keys = [
        ("/", "search"),
        ("j  k", "next and previous"),
        ("o  Enter", "open or fold the current one"),
        ("e", "open or fold everything on the page"),
        ("f", "follow a run that goes on"),
        ("g r", "go to the runs"),
        ("g t", "go to the threads"),
        ("g a", "go to the agent runs"),
        ("g u", "go to the usage"),
        ("d", "dark or light"),
        ("?", "this help"),
    ];
    html! {
        dialog #shortcuts aria-labelledby="shortcuts-title" {
            h2 #shortcuts-title { "Keyboard shortcuts" }
            dl.keys {
                @for (key, what) in keys {
                    div { dt { @for part in key.split("  ") { kbd { (part) } " " } } dd { (what) } }
                }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}

/// Makes a page of a problem.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let site = Site::of(request.uri(), request.extensions().get::<OriginalUri>());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let status = response.status();
        let kept = response.headers().get(header::WWW_AUTHENTICATE).cloned();
        response = (status, problem_page(&problem, status, &site)).into_response();
        if let Some(challenge) = kept {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

fn problem_page(problem: &Problem, status: StatusCode, site: &Site) -> Html<String> {
    let title = format!("{} {}", status.as_u16(), problem.title);
    Frame::new(&title, Section::Nowhere, site).page(html! {
        section.problem {
            p.status { (status.as_u16()) }
            h1 { (Shown(&problem.title)) }
            p { (Shown(&problem.detail)) }
            @if problem.retryable { p { a href=(site.here) { "Try again" } } }
            p { a href=(site.page("/")) { "All runs" } " · " a href=(site.page("/threads")) { "All threads" } }
        }
    })
}

/// Said where a list has nothing.
pub(super) fn nothing(what: &str, hint: &str) -> Markup {
    html! { div.nothing { p { (what) } p.note { (hint) } } }
}

/// The link to the rest of a list.
pub(super) fn pager(next: Option<&str>, first: Option<&str>) -> Markup {
    html! {
        @if next.is_some() || first.is_some() {
            nav.pager aria-label="More of the list" {
                @if let Some(first) = first { a href=(first) { "← Newest" } }
                @if let Some(next) = next { a.next rel="next" href=(next) { "Older →" } }
            }
        }
    }
}

/// A field of a filter to choose from; the first choice is any.
pub(super) fn choice<'a>(
    name: &str,
    label: &str,
    chosen: Option<&str>,
    choices: impl IntoIterator<Item = &'a str>,
) -> Markup {
    html! {
        label.field {
            span { (label) }
            select name=(name) {
                option value="" { "any" }
                @for choice in choices {
                    option value=(choice) selected[chosen == Some(choice)] { (choice.replace('_', " ")) }
                }
            }
        }
    }
}

/// A field of a filter to write in.
pub(super) fn field(name: &str, label: &str, given: Option<&str>, hint: &str) -> Markup {
    html! {
        label.field {
            span { (label) }
            input name=(name) value=(Shown(given.unwrap_or_default())) placeholder=(hint) autocomplete="off" spellcheck="false";
        }
    }
}
