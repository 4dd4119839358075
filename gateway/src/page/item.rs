//! Items: what was said, thought and done, one element each.

use std::collections::BTreeMap;

use maud::{Markup, html};
use runledger_core::{
    AgentMessage, CallerKind, CompactionNote, ContentText as _, HookPrompt, Item, ItemBody, ItemEntry,
    ItemId, ItemStatus, RawJson, ReasoningText, RunId, SubAgentActivity, Thread, ThreadId, Turn, UserMessage,
};

use super::call;
use super::format::{id, lasted, time};
use super::link::Site;
use super::prose::prose;
use super::text::{Room, Shown, block, document, one_line, said};
use super::viewer::Viewer;

/// What items are shown with.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) viewer: &'a Viewer,
    pub(super) room: Room,
    pub(super) children: Children,
}

impl<'a> View<'a> {
    pub(super) fn new(viewer: &'a Viewer, children: Children) -> Self {
        Self { viewer, room: Room::default(), children }
    }

    pub(super) fn site(&self) -> &Site {
        &self.viewer.site
    }
}

/// The sub-agents of a thread and how their turns begin and end.
#[derive(Debug, Default)]
pub(super) struct Children(pub(super) BTreeMap<ThreadId, Child>);

/// A sub-agent's thread.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) thread: Thread,
    /// Its first turns, in summary.
    pub(super) turns: Vec<Turn>,
    /// Whether it has further turns.
    pub(super) has_more: bool,
}

impl Children {
    /// Those that an item spawned.
    pub(super) fn of_item<'s>(&'s self, run: &'s RunId, item: &'s ItemId) -> impl Iterator<Item = &'s Child> {
        self.0.values().filter(move |child| {
            child.thread.spawn_run_id.as_ref() == Some(run)
                && child.thread.spawn_item_id.as_ref() == Some(item)
        })
    }

    /// Those that a run spawned and that no item of it says it spawned.
    pub(super) fn of_run<'s>(&'s self, run: &'s RunId) -> impl Iterator<Item = &'s Child> {
        self.0.values().filter(move |child| {
            child.thread.spawn_run_id.as_ref() == Some(run) && child.thread.spawn_item_id.is_none()
        })
    }
}

/// Items in their order, those that are part of another one below that.
pub(super) fn items(view: &View<'_>, all: &[Item]) -> Markup {
    let parts = Parts::of(all);
    html! { @for item in parts.below(None) { (nested(view, item, &parts, 0)) } }
}

/// What is part of what, each item in one place.
struct Parts<'a> {
    all: &'a [Item],
    /// Where the item stands that each is part of; none for those on top.
    parents: Vec<Option<usize>>,
}

impl<'a> Parts<'a> {
    fn of(all: &'a [Item]) -> Self {
        let places: BTreeMap<&ItemId, usize> =
            all.iter().enumerate().map(|(at, item)| (&item.entry.item_id, at)).collect();
        let parent = |item: &Item| item.entry.parent_item_id.as_ref().and_then(|id| places.get(id)).copied();
        let mut parents: Vec<Option<usize>> = all.iter().map(parent).collect();
        // Whoever writes items may name any parent. Of those that are parts of each other the first stands on top.
        for at in 0..all.len() {
            let mut above = std::iter::successors(parents.get(at).copied().flatten(), |up| {
                parents.get(*up).copied().flatten()
            });
            // Further up than there are items nothing new comes: that circle is above this item.
            if above.by_ref().take(all.len()).any(|up| up == at)
                && let Some(parent) = parents.get_mut(at)
            {
                *parent = None;
            }
        }
        Self { all, parents }
    }

    fn below(&self, parent: Option<usize>) -> impl Iterator<Item = (usize, &'a Item)> {
        let own = self.parents.iter().enumerate().filter(move |(_, above)| **above == parent);
        own.filter_map(|(at, _)| Some((at, self.all.get(at)?)))
    }
}

/// How deep items are shown within each other. Deeper ones stand beside their parent.
const DEEPEST: usize = 4;

fn nested(view: &View<'_>, (at, item): (usize, &Item), parts: &Parts<'_>, depth: usize) -> Markup {
    let mut own = parts.below(Some(at)).peekable();
    if depth == DEEPEST {
        return html! {
            (one(view, item, html! {}))
            @for part in own { (nested(view, part, parts, depth)) }
        };
    }
    let has_parts = own.peek().is_some();
    one(
        view,
        item,
        html! {
            @if has_parts {
                div.parts { @for part in own { (nested(view, part, parts, depth + 1)) } }
            }
        },
    )
}

/// One item, with what is part of it.
pub(super) fn one(view: &View<'_>, item: &Item, parts: Markup) -> Markup {
    let entry = &item.entry;
    let body = item.body();
    let kind = if body.call().is_some() { "call" } else { class(&body) };
    let children: Vec<&Child> = view.children.of_item(&entry.run_id, &entry.item_id).collect();
    html! {
        div class={ "item " (kind) } id={ "i-" (Shown(entry.item_id.as_str())) } data-item=(Shown(entry.item_id.as_str()))
            data-seq=(entry.started_seq) data-parent=[entry.parent_item_id.as_ref().map(|id| Shown(id.as_str()))] {
            (says(view, item, &body))
            @for child in children { (sub_agent(view, child)) }
            (parts)
        }
    }
}

fn class(body: &ItemBody) -> &'static str {
    match body {
        ItemBody::UserMessage(_) => "said user",
        ItemBody::AgentMessage(_) => "said agent",
        ItemBody::Reasoning(_) => "reasoning",
        ItemBody::Plan(_) => "plan",
        ItemBody::SubAgentActivity(_) => "sub-agent",
        ItemBody::ContextCompaction(_) => "compaction",
        ItemBody::HookPrompt(_) => "hook",
        _ => "other",
    }
}

fn says(view: &View<'_>, item: &Item, body: &ItemBody) -> Markup {
    let entry = &item.entry;
    match body {
        ItemBody::UserMessage(message) => user(view, entry, message),
        ItemBody::AgentMessage(message) => agent(view, entry, message),
        ItemBody::Reasoning(text) => reasoning(view, entry, text),
        ItemBody::Plan(plan) => note(view, entry, "Plan", prose(&plan.text, &view.room)),
        ItemBody::SubAgentActivity(activity) => activity_of(view, entry, activity),
        ItemBody::ContextCompaction(compaction) => folded(view, entry, compaction),
        ItemBody::HookPrompt(prompt) => hook(view, entry, prompt),
        ItemBody::ReviewEntered(review) => note(
            view,
            entry,
            "Review begins",
            html! {
                @if let Some(hint) = &review.hint { (block(hint, &view.room)) }
                @if let Some(target) = &review.target { (document(target, &view.room)) }
            },
        ),
        ItemBody::ReviewExited(review) => note(
            view,
            entry,
            "Review ends",
            html! {
                @if let Some(output) = &review.output { (document(output, &view.room)) }
                @else { p.note { "It was left without a result." } }
            },
        ),
        ItemBody::Other(payload) => other(view, item, payload),
        call => call::call(view, entry, call),
    }
}

/// Who, how it stands, and when.
fn head(view: &View<'_>, entry: &ItemEntry, who: &str, facts: Markup) -> Markup {
    html! {
        p.who {
            span.name { (Shown(who)) }
            (facts)
            @if entry.status != ItemStatus::Completed { (status(&entry.status)) }
            span.fact.when { (time(entry.started_at, view.viewer.now)) }
        }
    }
}

/// A status: a sign where all went well, else words and a colour.
pub(super) fn status(status: &ItemStatus) -> Markup {
    let tone = match status {
        ItemStatus::InProgress => "active",
        ItemStatus::Completed => {
            return html! { span.done title="completed" { span aria-hidden="true" { "✓" } span.unseen { "completed" } } };
        }
        ItemStatus::Failed => "bad",
        ItemStatus::Declined | ItemStatus::Interrupted => "warn",
        _ => "plain",
    };
    html! { span class={ "badge " (tone) } { (Shown(&status.as_str().replace('_', " "))) } }
}

/// Content beside its text: pictures and files, which are named and never loaded.
fn message(view: &View<'_>, content: &RawJson, text: &str) -> Markup {
    let others =
        content.shown().elements().iter().filter(|part| part.text().is_empty() && part.is_object()).count();
    html! {
        @if !text.trim().is_empty() { (prose(text, &view.room)) }
        @else if content.is_object() { (document(content, &view.room)) }
        @if others > 0 { p.note { (others) (if others == 1 { " part" } else { " parts" }) " that are no text: pictures or files." } }
    }
}

fn user(view: &View<'_>, entry: &ItemEntry, said: &UserMessage) -> Markup {
    html! { (head(view, entry, "User", html! {})) (message(view, &said.content, &said.content.text())) }
}

fn agent(view: &View<'_>, entry: &ItemEntry, said: &AgentMessage) -> Markup {
    let caller = entry.caller.as_ref().filter(|caller| caller.as_str() != "lead_agent");
    let who = caller.map_or("Agent", |caller| caller.as_str());
    let text = said.content.text();
    let is_quiet = text.trim().is_empty() && !said.tool_calls.is_empty();
    let facts = html! {
        @if caller.is_some_and(|caller| caller.kind() == CallerKind::Subagent) { span.fact { "sub-agent" } }
        @if said.phase.as_deref() == Some("commentary") { span.fact { "commentary" } }
        @if let Some(model) = &said.model { span.fact { (Shown(model)) } }
        @if let Some(millis) = said.latency_ms { span.fact { (lasted(millis)) } }
    };
    if is_quiet {
        // What it asked for stands below, call by call.
        return html! {
            p.who.quiet {
                span.name { (Shown(who)) }
                span.fact { "asks for " @for (at, call) in said.tool_calls.iter().take(6).enumerate() {
                    @if at > 0 { ", " } code { (Shown(&one_line(&call.name, 60))) }
                } @if said.tool_calls.len() > 6 { " and more" } }
                (facts)
            }
        };
    }
    html! {
        (head(view, entry, who, facts))
        (message(view, &said.content, &text))
        @if let Some(questions) = &said.questions { div.question { (document(questions, &view.room)) } }
    }
}

fn reasoning(view: &View<'_>, entry: &ItemEntry, text: &ReasoningText) -> Markup {
    let took = entry.completed_at.map(|end| end.millis_since(entry.started_at)).filter(|millis| *millis > 0);
    html! {
        details.fold {
            summary {
                span.name { "Reasoning" }
                @if let Some(took) = took { span.fact { (lasted(took)) } }
                span.preview { (Shown(&one_line(&text.text, 140))) }
            }
            (prose(&text.text, &view.room))
        }
    }
}

fn note(view: &View<'_>, entry: &ItemEntry, name: &str, body: Markup) -> Markup {
    html! { (head(view, entry, name, html! {})) (body) }
}

fn folded(view: &View<'_>, entry: &ItemEntry, compaction: &CompactionNote) -> Markup {
    html! {
        details.fold {
            summary {
                span.name { "Context folded" }
                span.fact.when { (time(entry.started_at, view.viewer.now)) }
                span.preview { (Shown(&one_line(&compaction.content.text(), 120))) }
            }
            (prose(&said(&compaction.content), &view.room))
        }
    }
}

fn hook(view: &View<'_>, entry: &ItemEntry, prompt: &HookPrompt) -> Markup {
    html! { (head(view, entry, "Hook", html! {})) (message(view, &prompt.content, &prompt.content.text())) }
}

fn activity_of(view: &View<'_>, entry: &ItemEntry, activity: &SubAgentActivity) -> Markup {
    let thread = activity.agent_thread_id.as_deref().and_then(|id| ThreadId::new(id).ok());
    let child = thread.as_ref().and_then(|thread| view.children.0.get(thread));
    // Where the spawning item is this one, it is told below anyway.
    let child = child.filter(|child| child.thread.spawn_item_id.as_ref() != Some(&entry.item_id));
    html! {
        details.fold {
            summary {
                span.name { "Sub-agent" }
                (status(&entry.status))
                @if let Some(word) = &activity.activity { span.fact { (Shown(word)) } }
                @if let Some(model) = &activity.model { span.fact { (Shown(model)) } }
                span.preview { (Shown(&one_line(activity.description.as_deref().unwrap_or_default(), 120))) }
            }
            @if let Some(description) = &activity.description { (block(description, &view.room)) }
            @if let Some(thread) = &thread {
                p { a href=(view.site().thread(thread)) { "Its thread " (id(thread.as_str())) } }
            }
            @if let Some(detail) = &activity.detail { (document(detail, &view.room)) }
        }
        @if let Some(child) = child { (sub_agent(view, child)) }
    }
}

/// What a sub-agent was asked and answered, with the way to all it did.
pub(super) fn sub_agent(view: &View<'_>, child: &Child) -> Markup {
    let thread = &child.thread;
    let name = thread.assistant_id.as_ref().map(|assistant| assistant.as_str());
    let name = name.or(thread.display_name.as_deref()).unwrap_or("sub-agent");
    html! {
        details.fold.child open {
            summary {
                span.name { "Sub-agent" }
                span.fact { (Shown(&one_line(name, 80))) }
                a.fact href=(view.site().thread(&thread.thread_id)) { "open its thread" }
            }
            @for turn in &child.turns { (super::turn::summary(view, turn)) }
            @if child.turns.is_empty() { p.note { "It has not begun." } }
            @if child.has_more { p { a href=(view.site().thread(&thread.thread_id)) { "more turns" } } }
        }
    }
}

/// An item of a kind or shape that this version does not know, or without its record.
fn other(view: &View<'_>, item: &Item, payload: &RawJson) -> Markup {
    let kind = item.entry.item_kind.to_string();
    html! {
        details.fold {
            summary {
                span.name { (Shown(&kind.replace('_', " "))) }
                (status(&item.entry.status))
                @if item.content.is_none() { span.fact { "its record was removed" } }
                @else { span.preview { (Shown(&one_line(payload.as_str(), 120))) } }
            }
            @if item.content.is_some() { (document(payload, &view.room)) }
        }
    }
}
