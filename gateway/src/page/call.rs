//! Calls: what was asked of a tool, what came of it, how long it took.

use maud::{Markup, html};
use runledger_core::{
    CollabAgentCall, CommandExecution, FileChange, FileEdit, ItemBody, ItemEntry, ItemStatus, McpToolCall,
    RawJson, RawObject, ThreadId, ToolCall,
};

use super::format::{id, lasted};
use super::item::{View, status};
use super::text::{Shown, block, document, one_line, said};

/// A call of any kind, folded: its line says what, how it ended and how long it took.
pub(super) fn call(view: &View<'_>, entry: &ItemEntry, body: &ItemBody) -> Markup {
    let Some(call) = body.call() else { return html! {} };
    let took = call.duration_ms.or_else(|| {
        entry.completed_at.map(|end| end.millis_since(entry.started_at)).filter(|millis| *millis > 0)
    });
    html! {
        details.fold {
            summary {
                span.name { code { (Shown(&one_line(&name(body, call), 80))) } }
                (status(&entry.status))
                @if let Some(code) = exit_code(body).filter(|code| *code != 0) { span.fact.bad { "exit " (code) } }
                @if let Some(took) = took { span.fact { (lasted(took)) } }
                span.preview { (Shown(&preview(body, call))) }
            }
            (detail(view, body, call))
            @if let Some(error) = &call.error {
                div.part.error {
                    h4 { "Error" }
                    p { strong { (Shown(&error.error_type)) } }
                    (block(&error.message, &view.room))
                }
            }
            @if let Some(content) = &call.content { (output(view, content)) }
            @else if entry.status == ItemStatus::InProgress { p.note { "It has not returned yet." } }
        }
    }
}

fn name(body: &ItemBody, call: &ToolCall) -> String {
    match body {
        ItemBody::McpToolCall(_, McpToolCall { server: Some(server), .. }) => {
            format!("{server}.{}", call.name)
        }
        ItemBody::ToolCall(_, detail) => match &detail.namespace {
            Some(namespace) => format!("{namespace}.{}", call.name),
            None => call.name.clone(),
        },
        ItemBody::CommandExecution(..) if call.name.is_empty() => "command".to_owned(),
        _ if call.name.is_empty() => "call".to_owned(),
        _ => call.name.clone(),
    }
}

fn exit_code(body: &ItemBody) -> Option<i64> {
    match body {
        ItemBody::CommandExecution(_, command) => command.exit_code,
        _ => None,
    }
}

/// What a call is about, in a line.
fn preview(body: &ItemBody, call: &ToolCall) -> String {
    const CHARS: usize = 140;
    let text = match body {
        ItemBody::CommandExecution(_, CommandExecution { command: Some(command), .. }) => command.join(" "),
        ItemBody::FileChange(_, FileChange { changes: Some(changes), .. }) => {
            changes.keys().take(5).map(String::as_str).collect::<Vec<_>>().join(", ")
        }
        ItemBody::WebSearch(_, search) => search.query.clone().unwrap_or_else(|| arguments(&call.args)),
        ItemBody::ImageView(_, image) => image.path.clone().unwrap_or_else(|| arguments(&call.args)),
        ItemBody::CollabAgentCall(_, CollabAgentCall { prompt: Some(prompt), .. }) => prompt.clone(),
        _ => arguments(&call.args),
    };
    one_line(&text, CHARS)
}

/// Arguments in a line: `path=README.md limit=3`.
pub(super) fn arguments(args: &RawJson) -> String {
    let shown = args.shown();
    match RawObject::parse(&shown) {
        Some(object) => {
            let argument = |(name, value): (&str, &RawJson)| {
                let text = value.decode_lossy::<String>().unwrap_or_else(|_| value.as_str().to_owned());
                format!("{name}={}", one_line(&text, 80))
            };
            object.fields().take(8).map(argument).collect::<Vec<_>>().join("  ")
        }
        None => said(args),
    }
}

fn output(view: &View<'_>, content: &RawJson) -> Markup {
    let text = said(content);
    html! {
        div.part {
            h4 { "Output" }
            @if text.is_empty() { p.note { "nothing" } } @else { (block(&text, &view.room)) }
        }
    }
}

fn asked(view: &View<'_>, args: &RawJson) -> Markup {
    html! {
        @if !matches!(args.as_str(), "{}" | "null" | "") {
            div.part { h4 { "Arguments" } (document(args, &view.room)) }
        }
    }
}

/// What its kind has beyond a call.
fn detail(view: &View<'_>, body: &ItemBody, call: &ToolCall) -> Markup {
    match body {
        ItemBody::CommandExecution(_, command) => html! {
            @if let Some(words) = &command.command {
                div.part { h4 { "Command" } pre.text.command { (Shown(&words.join(" "))) } }
            } @else { (asked(view, &call.args)) }
            (facts(&[
                ("in", command.cwd.as_deref()),
                ("by", command.source.as_deref()),
                ("process", command.process_id.as_deref()),
            ]))
            @if let Some(input) = &command.interaction_input { div.part { h4 { "Input" } (block(input, &view.room)) } }
            @if let Some(text) = command.stderr.as_ref().filter(|text| !text.is_empty()) {
                div.part { h4 { "Error output" } (block(text, &view.room)) }
            }
        },
        ItemBody::FileChange(_, change) => html! {
            @if let Some(changes) = &change.changes {
                @for (path, edit) in changes.iter().take(50) { (edited(view, path, edit)) }
                @if changes.len() > 50 { p.note { (changes.len() - 50) " further files" } }
            } @else { (asked(view, &call.args)) }
        },
        ItemBody::WebSearch(_, search) => html! {
            @if let Some(query) = &search.query { div.part { h4 { "Query" } (block(query, &view.room)) } }
            @else { (asked(view, &call.args)) }
            @if let Some(action) = &search.action { div.part { h4 { "Action" } (document(action, &view.room)) } }
        },
        ItemBody::McpToolCall(_, detail) => html! {
            (asked(view, &call.args))
            (facts(&[("server", detail.server.as_deref()), ("app", detail.app_name.as_deref())]))
            @if let Some(content) = &detail.structured_content {
                div.part { h4 { "Structured output" } (document(content, &view.room)) }
            }
        },
        ItemBody::ImageView(_, image) => html! {
            (asked(view, &call.args))
            (facts(&[("picture", image.path.as_deref())]))
        },
        ItemBody::ImageGeneration(_, image) => html! {
            (asked(view, &call.args))
            (facts(&[("saved as", image.saved_path.as_deref()), ("provider says", image.provider_status.as_deref())]))
            @if let Some(prompt) = &image.revised_prompt { div.part { h4 { "Revised prompt" } (block(prompt, &view.room)) } }
        },
        ItemBody::CollabAgentCall(_, talk) => html! {
            @if let Some(prompt) = &talk.prompt { div.part { h4 { "Prompt" } (block(prompt, &view.room)) } }
            @else { (asked(view, &call.args)) }
            @for receiver in talk.receiver_thread_ids.iter().flatten().take(20).filter_map(|id| ThreadId::new(id).ok()) {
                p { a href=(view.site().thread(&receiver)) { "thread " (id(receiver.as_str())) } }
            }
            (facts(&[("model", talk.model.as_deref())]))
        },
        _ => html! {
            (asked(view, &call.args))
            @if let Some(detail) = &call.detail { div.part { h4 { "Detail" } (document(detail, &view.room)) } }
        },
    }
}

fn facts(facts: &[(&str, Option<&str>)]) -> Markup {
    let known = facts.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    html! {
        @if facts.iter().any(|(_, value)| value.is_some()) {
            p.facts { @for (name, value) in known { span.fact { (name) " " code { (Shown(&one_line(value, 200))) } } } }
        }
    }
}

fn edited(view: &View<'_>, path: &str, edit: &FileEdit) -> Markup {
    html! {
        div.part {
            h4.path {
                code { (Shown(path)) }
                span.fact { (Shown(&edit.edit)) }
                @if let Some(to) = &edit.move_path { span.fact { "moved to " code { (Shown(to)) } } }
            }
            @if let Some(diff) = &edit.unified_diff { (changes(view, diff)) }
            @if let Some(content) = &edit.content { (block(content, &view.room)) }
        }
    }
}

/// A diff, its lines told apart by more than their colour: the sign stays.
fn changes(view: &View<'_>, diff: &str) -> Markup {
    const LINES: usize = 40;
    let (diff, left_out) = view.room.take(diff.trim_end());
    let lines: Vec<&str> = diff.lines().collect();
    let (head, rest) = lines.split_at(LINES.min(lines.len()));
    let shown = |lines: &[&str]| {
        html! {
            pre.text.diff { @for line in lines {
                span class=(match line.bytes().next() { Some(b'+') => "add", Some(b'-') => "del", Some(b'@') => "at", _ => "same" }) { (Shown(line)) "\n" }
            } }
        }
    };
    html! {
        (shown(head))
        @if !rest.is_empty() { (super::text::more(&rest.join("\n"), shown(rest))) }
        (super::text::left_out_note(left_out))
    }
}
