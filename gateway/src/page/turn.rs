//! Turns: a run as a reader of its thread sees it, whole or in summary.

use maud::{Markup, html};
use runledger_core::{
    BudgetLimit, Interaction, InteractionStatus, Item, OperationKind, Run, RunStatus, RunVisibility,
    Timestamp, Turn, Visibility,
};

use super::format::{id, lasted, moment, time, totals};
use super::item::{self, View, items};
use super::text::{Shown, block, document, one_line};

/// What of a run's items is on the page.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) run: Run,
    pub(super) items: Vec<Item>,
    /// Whether the run has items before those.
    pub(super) has_earlier: bool,
    /// Whether the run has items after those.
    pub(super) has_later: bool,
    /// What it asked a person.
    pub(super) questions: Vec<Interaction>,
}

/// A run's status, in words and a colour.
pub(super) fn badge(status: &RunStatus) -> Markup {
    let tone = match status {
        RunStatus::Queued | RunStatus::Pending | RunStatus::Running => "active",
        RunStatus::Success => "good",
        RunStatus::Error | RunStatus::Timeout => "bad",
        RunStatus::Interrupted | RunStatus::BudgetExhausted => "warn",
        _ => "plain",
    };
    html! { span class={ "badge " (tone) } { (Shown(&status.as_str().replace('_', " "))) } }
}

/// How long a run took, or has taken until now.
pub(super) fn took(run: &Run, now: Timestamp) -> Option<String> {
    let began = run.started_at.unwrap_or(run.created_at);
    match run.finished_at {
        Some(end) => Some(lasted(end.millis_since(began))),
        None if run.status.is_active() => Some(lasted(now.millis_since(began))),
        None => None,
    }
}

/// Marks a run that readers of the thread are not shown.
pub(super) fn hidden_mark(run: &Run) -> Markup {
    html! {
        @if run.visibility != Visibility::Shown {
            span.badge.plain { (Shown(&run.visibility.as_str().replace('_', " "))) }
        }
    }
}

/// The facts of a run, in a line.
pub(super) fn facts(run: &Run, now: Timestamp) -> Markup {
    html! {
        (badge(&run.status))
        (hidden_mark(run))
        @if run.operation_kind != OperationKind::Run {
            span.fact { (Shown(&run.operation_kind.as_str().replace('_', " "))) }
        }
        @if let Some(reason) = &run.stop_reason { span.fact { (Shown(&one_line(reason, 60).replace('_', " "))) } }
        @if let Some(took) = took(run, now) { span.fact { (took) } }
        @if let Some(model) = &run.model_name { span.fact { (Shown(&one_line(model, 60))) } }
        (totals(&run.totals))
    }
}

/// The head of a turn: replaced as a whole while the run goes on.
pub(super) fn head(view: &View<'_>, run: &Run) -> Markup {
    let now = view.viewer.now;
    let reads_as = if run.status.is_terminal() { "ended" } else { "open" };
    html! {
        header.turn-head data-state=(reads_as) {
            h2 { a href=(view.site().run(&run.thread_id, &run.run_id)) { "Run " (id(run.run_id.as_str())) } }
            (facts(run, now))
            span.fact.when { (moment(run.created_at, now)) }
        }
    }
}

/// A turn with its items.
pub(super) fn full(view: &View<'_>, shelf: &Shelf) -> Markup {
    let run = &shelf.run;
    let page = view.site().run(&run.thread_id, &run.run_id);
    let hidden = run.visibility != Visibility::Shown;
    html! {
        article class=(if hidden { "turn hidden-run" } else { "turn" }) id={ "r-" (Shown(run.run_id.as_str())) }
            data-run=(Shown(run.run_id.as_str())) data-nav tabindex="-1" {
            (head(view, run))
            @if shelf.has_earlier { p.elsewhere { a href=(page) { "Earlier items of this run" } } }
            div.items { (items(view, &shelf.items)) }
            @if shelf.has_later {
                p.elsewhere { a href=(page) { "All items of this run" } }
                @if let Some(last) = &run.last_ai_message {
                    div.item.said.agent { p.who { span.name { "Agent" } span.fact { "last message" } } (super::prose::prose(last, &view.room)) }
                }
            }
            (foot(view, shelf))
        }
    }
}

/// How a turn ended: what went wrong, what was asked, and sub-agents that no item tells of.
pub(super) fn foot(view: &View<'_>, shelf: &Shelf) -> Markup {
    let run = &shelf.run;
    html! {
        div.turn-foot {
            @for child in view.children.of_run(&run.run_id) { (item::sub_agent(view, child)) }
            @if let Some(error) = &run.error {
                div.failure role="note" { p.who { span.name { "Error" } } (block(error, &view.room)) }
            }
            @for question in &shelf.questions { (asked(view, question)) }
            @if shelf.items.is_empty() && run.message_count == 0 && run.error.is_none() {
                p.note { (match run.status { RunStatus::Queued => "It waits for the run before it.", _ => "No items." }) }
            }
        }
    }
}

fn asked(view: &View<'_>, question: &Interaction) -> Markup {
    let is_open = question.status == InteractionStatus::Open;
    html! {
        div.question {
            p.who {
                span.name { "Question" }
                span.fact { (Shown(&question.kind)) }
                span class=(if is_open { "badge warn" } else { "badge good" }) { (Shown(question.status.as_str())) }
                span.fact.when { (time(question.created_at, view.viewer.now)) }
            }
            (document(&question.request, &view.room))
            @if let Some(answer) = &question.answer {
                p.who { span.name { "Answer" } @if let Some(at) = question.answered_at { span.fact.when { (time(at, view.viewer.now)) } } }
                (document(answer, &view.room))
            }
        }
    }
}

/// A turn in summary: what was said first and last.
pub(super) fn summary(view: &View<'_>, turn: &Turn) -> Markup {
    let run = &turn.run;
    html! {
        div.turn-summary {
            p.who {
                a href=(view.site().run(&run.thread_id, &run.run_id)) { "Run " (id(run.run_id.as_str())) }
                (facts(run, view.viewer.now))
            }
            @for one in &turn.items { (item::one(view, one, html! {})) }
            @if let Some(error) = &run.error { div.failure { (block(error, &view.room)) } }
        }
    }
}

/// What a budget leaves, where there is one.
pub(super) fn budget(run: &Run) -> Markup {
    let budget = &run.budget;
    let used = [
        (BudgetLimit::MaxTokens, budget.max_tokens, run.totals.total_tokens),
        (BudgetLimit::MaxCostNanos, budget.max_cost_nanos, run.totals.cost_nanos),
        (BudgetLimit::MaxIterations, budget.max_iterations, run.iterations),
    ];
    let shown = |limit: BudgetLimit, number: u64| match limit {
        BudgetLimit::MaxCostNanos => super::format::cost(number),
        BudgetLimit::MaxTokens | BudgetLimit::MaxIterations => super::format::grouped(number),
    };
    let what = |limit: BudgetLimit| match limit {
        BudgetLimit::MaxTokens => "tokens",
        BudgetLimit::MaxCostNanos => "cost",
        BudgetLimit::MaxIterations => "model calls",
    };
    html! {
        @for (limit, most, used) in used.into_iter().filter_map(|(limit, most, used)| Some((limit, most?, used))) {
            div { dt { "Budget of " (what(limit)) } dd { (shown(limit, used)) " of " (shown(limit, most)) } }
        }
    }
}

/// Which runs a page shows.
pub(super) fn visibility(hidden: super::viewer::Hidden) -> RunVisibility {
    match hidden {
        super::viewer::Hidden::Left => RunVisibility::Shown,
        super::viewer::Hidden::Shown => RunVisibility::All,
    }
}
