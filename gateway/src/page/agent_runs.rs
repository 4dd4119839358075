//! `/agent-runs` and `/agent-runs/{agent_run_id}`: goals, and the transcripts of how they were pursued.

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::{
    AgentMatch, AgentRun, AgentRunFilter, AgentRunId, AgentRunStatus, AgentRunSummary, AgentStep, AgentUsage,
    Cursor, ListRange, RawJson, RawObject, StepKind,
};
use serde::Deserialize;

use super::format::{cost, count, grouped, id, lasted, moment, time};
use super::frame::{Frame, Section, choice, field, nothing, pager};
use super::link::with_query;
use super::prose::prose;
use super::text::{Room, Shown, block, document, one_line, said};
use super::viewer::{PathOf, QueryOf, Refused, Viewer, filled};
use crate::app::App;

/// Agent runs, and steps, on one page.
const ROWS: u32 = 50;
const STEPS: usize = 200;

/// The parameters of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    agent: Option<String>,
    status: Option<String>,
    cursor: Option<String>,
}

impl Wanted {
    fn filter(&self) -> runledger_core::Result<AgentRunFilter> {
        let agent = filled(&self.agent).map(|text| match text.strip_suffix('*') {
            Some(prefix) => AgentMatch::Prefix(prefix.to_owned()),
            None => AgentMatch::Exact(text.to_owned()),
        });
        let status = filled(&self.status).map(|text| AgentRunStatus::parse("status", text)).transpose()?;
        Ok(AgentRunFilter { agent, status, ..AgentRunFilter::default() })
    }
}

fn badge(status: &AgentRunStatus) -> Markup {
    let tone = match status {
        AgentRunStatus::Running => "active",
        AgentRunStatus::Completed => "good",
        AgentRunStatus::Failed => "bad",
        AgentRunStatus::BudgetExhausted | AgentRunStatus::Cancelled | AgentRunStatus::Interrupted => "warn",
        _ => "plain",
    };
    html! { span class={ "badge " (tone) } { (Shown(&status.as_str().replace('_', " "))) } }
}

fn figures(usage: &AgentUsage) -> Markup {
    html! {
        div.calls { dt { "Calls" } dd { (grouped(usage.iterations)) } }
        div.tokens { dt { "Tokens" } dd { (count(usage.input_tokens.saturating_add(usage.output_tokens))) } }
        div { dt { "Cost" } dd { (cost(usage.cost_nanos.unwrap_or(0))) } }
        div { dt { "Took" } dd { (usage.latency_ms.map_or_else(|| "–".to_owned(), lasted)) } }
    }
}

/// The list.
pub(super) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let range = ListRange { limit: ROWS, cursor: filled(&wanted.cursor).map(Cursor::parse).transpose()? };
    let page = app.ledger.agent_runs().list(&viewer.scope, &wanted.filter()?, &range).await?;
    let site = &viewer.site;
    let (agent, status) = (filled(&wanted.agent), filled(&wanted.status));
    let place = |cursor: Option<&str>| {
        with_query(&site.page("/agent-runs"), &[("agent", agent), ("status", status), ("cursor", cursor)])
    };
    let next = page.next_cursor.as_ref().map(|cursor| place(Some(cursor.as_str())));
    let first = range.cursor.is_some().then(|| place(None));
    Ok(Frame::new("Agent runs", Section::AgentRuns, site).page(html! {
        div.page-head {
            h1 { "Agent runs" }
            form.filters action=(site.page("/agent-runs")) {
                (choice("status", "Status", status, AgentRunStatus::KNOWN.iter().map(AgentRunStatus::as_str)))
                (field("agent", "Agent", agent, "name, or crew.*"))
                button { "Filter" }
                @if agent.is_some() || status.is_some() { a href=(site.page("/agent-runs")) { "Clear" } }
            }
        }
        @if page.items.is_empty() {
            (nothing("No agent runs.", "They are goals with a transcript of their own; runs of threads are under Runs."))
        }
        div.rows.agents { @for summary in &page.items { (row(&viewer, summary)) } }
        (pager(next.as_deref(), first.as_deref()))
    }))
}

fn row(viewer: &Viewer, run: &AgentRunSummary) -> Markup {
    html! {
        article.row data-nav tabindex="-1" {
            div.row-main {
                a.row-title href=(viewer.site.agent_run(&run.agent_run_id)) {
                    (Shown(&one_line(if run.goal.trim().is_empty() { "No goal" } else { &run.goal }, 160)))
                }
                @if let Some(error) = &run.error { p.row-error { (Shown(&one_line(error, 160))) } }
                p.row-facts {
                    span.fact { (Shown(&run.agent)) }
                    (id(run.agent_run_id.as_str()))
                    @if let Some(model) = &run.model { span.fact { (Shown(&one_line(model, 48))) } }
                    @if let Some(subject) = &run.subject_id { span.fact { "about " (Shown(subject)) } }
                    span.fact { (moment(run.created_at, viewer.now)) }
                }
            }
            dl.figures {
                div.status { dt { "Status" } dd { (badge(&run.status)) } }
                (figures(&run.usage))
            }
        }
    }
}

/// The parameters of a transcript.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    /// The first step that is shown.
    #[serde(default)]
    from: usize,
}

/// One agent run with its steps.
pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    PathOf(agent_run_id): PathOf<AgentRunId>,
    QueryOf(wanted): QueryOf<From>,
) -> Result<Html<String>, Refused> {
    let run = app.ledger.agent_run(&viewer.scope, &agent_run_id).await?;
    let site = &viewer.site;
    let name = one_line(&run.goal, 120);
    let name = if name.is_empty() { run.agent.clone() } else { name };
    let room = Room::default();
    let from = wanted.from.min(run.steps.len());
    let shown = run.steps.get(from..).unwrap_or_default();
    let shown = shown.get(..STEPS.min(shown.len())).unwrap_or_default();
    let place =
        |from: usize| with_query(&site.agent_run(&agent_run_id), &[("from", Some(&from.to_string()))]);
    Ok(Frame::new(&name, Section::AgentRuns, site).page(html! {
        div.page-head {
            div {
                p.crumb { a href=(site.page("/agent-runs")) { "← Agent runs" } }
                h1 { (Shown(&name)) }
                p.row-facts {
                    (badge(&run.status))
                    span.fact { (Shown(&run.agent)) }
                    (id(agent_run_id.as_str()))
                    @if let Some(model) = &run.model { span.fact { (Shown(model)) } }
                    @if let Some(confidence) = run.confidence { span.fact { "confidence " (format!("{confidence:.2}")) } }
                    @if let (Some(thread), Some(run)) = (&run.thread_id, &run.run_id) { a.fact href=(site.run(thread, run)) { "its run" } }
                    @if let Some(parent) = &run.parent_agent_run_id { a.fact href=(site.agent_run(parent)) { "delegated by " (id(parent.as_str())) } }
                    span.fact { (moment(run.started_at, viewer.now)) }
                }
            }
            dl.figures { (figures(&run.usage)) }
        }
        (ends(&run, &room))
        @if from > 0 { nav.pager aria-label="Earlier steps" { a rel="prev" href=(place(from.saturating_sub(STEPS))) { "↑ Earlier steps" } } }
        @if run.steps.is_empty() { (nothing("No steps.", "It has done nothing yet.")) }
        ol.steps { @for step in shown { (one(&viewer, step, &room)) } }
        @if from + shown.len() < run.steps.len() {
            nav.pager aria-label="Later steps" { a rel="next" href=(place(from + shown.len())) { "↓ Later steps" } }
        }
    }))
}

/// The goal where it is more than the heading shows, and what came of it.
fn ends(run: &AgentRun, room: &Room) -> Markup {
    html! {
        @if run.goal.chars().count() > 120 || run.goal.trim().contains('\n') {
            section.part { h4 { "Goal" } (block(&run.goal, room)) }
        }
        @if let Some(output) = &run.output { section.part.output { h4 { "Output" } (prose(output, room)) } }
        @if let Some(error) = &run.error { div.failure { p.who { span.name { "Error" } } (block(error, room)) } }
    }
}

/// A step by its kind; what has another shape is shown as it is.
fn one(viewer: &Viewer, step: &AgentStep, room: &Room) -> Markup {
    let payload = RawObject::parse(&step.payload).unwrap_or_default();
    let line = |name: &str, facts: Markup, preview: &str, body: Markup| {
        html! {
            details.fold {
                summary { span.name { (Shown(name)) } (facts) span.preview { (Shown(&one_line(preview, 140))) } }
                (body)
            }
        }
    };
    let text = payload.string("text").unwrap_or_default();
    let outcome = match payload.get("ok").map(RawJson::as_str) {
        Some("false") => html! { span.badge.bad { "failed" } },
        Some(_) => super::item::status(&runledger_core::ItemStatus::Completed),
        None => html! {},
    };
    let by = html! { @if let Some(caller) = payload.string("caller") { span.fact { (Shown(&caller)) } } };
    let part = |name: &str, key: &str| {
        html! { @if let Some(value) = payload.get(key).filter(|value| !matches!(value.as_str(), "null" | "{}")) {
            div.part { h4 { (name) } @if key == "result" { (block(&said(value), room)) } @else { (document(value, room)) } }
        } }
    };
    html! {
        li.item id={ "s-" (step.index) } data-nav tabindex="-1" {
            @match &step.kind {
                StepKind::LlmResponse => {
                    p.who {
                        span.seq { (step.index) }
                        span.name { "Model call " (step.iteration) }
                        @if let Some(model) = payload.string("model") { span.fact { (Shown(&model)) } }
                        (by)
                        span.fact.when { (time(step.at, viewer.now)) }
                    }
                    @if !text.trim().is_empty() { (prose(&text, room)) }
                    @for call in payload.get("tool_calls").map(RawJson::elements).unwrap_or_default().iter().take(50) {
                        @let asked = RawObject::parse(call).unwrap_or_default();
                        p.asks { "asks for " code { (Shown(&asked.string("name").unwrap_or_default())) }
                            @if let Some(args) = asked.get("args") { " " span.preview { (Shown(&one_line(&super::call::arguments(args), 120))) } } }
                    }
                }
                StepKind::ToolResult => {
                    @let name = payload.string("tool").unwrap_or_else(|| "tool".to_owned());
                    @let args = payload.get("args").map(super::call::arguments).unwrap_or_default();
                    (line(&name, html! { (outcome) (by) }, &args, html! {
                        (part("Arguments", "args")) (part("Error", "error")) (part("Output", "result"))
                    }))
                }
                StepKind::SubAgent => {
                    @let what = payload.string("description").unwrap_or_default();
                    (line("Sub-agent", html! { (outcome) (by) }, &what, html! {
                        (part("Asked to", "description")) (part("Error", "error")) (part("Detail", "detail"))
                    }))
                }
                other => (line(&other.as_str().replace('_', " "), by.clone(), step.payload.as_str(), document(&step.payload, room))),
            }
        }
    }
}
