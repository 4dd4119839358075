//! Items as Codex's `TurnItem`: the canonical snapshot in `item_started` and `item_completed`.

use super::super::{plain, said};
use super::named;
use crate::{
    AgentMessage, CommandExecution, DynamicToolCall, FileChange, FileEdit, HookPrompt, Item, ItemBody,
    ItemKind, ItemStatus, McpToolCall, RawJson, RawObject, ReasoningText, SubAgentActivity, ToolCall,
    UserMessage,
};

/// An item as Codex has it. `None` for what has no shape there: a kind or a payload of a newer version, or a
/// sub-agent without a thread of its own.
#[must_use]
pub fn turn_item(item: &Item) -> Option<RawJson> {
    let status = &item.entry.status;
    let of = |kind: &str| named(kind).with_text("id", item.entry.item_id.as_str());
    let fields = match item.body() {
        ItemBody::UserMessage(message) => of("UserMessage")
            .with_some("client_id", text(message.client_id.as_deref()))
            .with("content", user_input(&message)),
        ItemBody::AgentMessage(message) => agent_message(of("AgentMessage"), &message),
        ItemBody::Reasoning(reasoning) => {
            let (summary, raw) = reasoning_parts(&reasoning);
            of("Reasoning").with("summary_text", summary).with("raw_content", raw)
        }
        ItemBody::Plan(plan) => of("Plan").with_text("text", &plan.text),
        ItemBody::CommandExecution(call, detail) => {
            let fields = command(of("CommandExecution"), &detail).with_text("status", word(status));
            let is_over = *status != ItemStatus::InProgress;
            fields
                .with_some("stdout", text(detail.stdout.as_deref()))
                .with_some("stderr", text(detail.stderr.as_deref()))
                .with_some("aggregated_output", is_over.then(|| RawJson::string(&output(&call))))
                .with_some("exit_code", detail.exit_code.map(plain))
                .with_some("duration", duration(&call))
                .with_some("formatted_output", text(detail.formatted_output.as_deref()))
                .with_some("plugin_id", text(detail.plugin_id.as_deref()))
                .with_some("script_path", text(detail.script_path.as_deref()))
        }
        ItemBody::ToolCall(call, DynamicToolCall { namespace, success }) => of("DynamicToolCall")
            .with_some("namespace", text(namespace.as_deref()))
            .with_text("tool", &call.name)
            .with("arguments", call.args.clone())
            .with_text("status", no_decline(status))
            .with_some("content_items", call.content.as_ref().map(content_items))
            .with_some("success", success.map(plain))
            .with_some("error", call.error.as_ref().map(|error| RawJson::string(&error.message)))
            .with_some("duration", duration(&call)),
        ItemBody::CollabAgentCall(call, detail) => of("CollabAgentToolCall")
            .with_text("tool", &call.name)
            .with_text("status", no_decline(status))
            .with_text("sender_thread_id", detail.sender_thread_id.as_deref().unwrap_or_default())
            .with("receiver_thread_ids", texts(detail.receiver_thread_ids.as_deref().unwrap_or_default()))
            .with("receiver_agents", detail.receiver_agents.unwrap_or_else(|| RawJson::array([])))
            .with_some("prompt", text(detail.prompt.as_deref()))
            .with_some("model", text(detail.model.as_deref()))
            .with_some("reasoning_effort", text(detail.reasoning_effort.as_deref()))
            .with("agents_states", detail.agents_states.unwrap_or_else(RawJson::empty_object)),
        ItemBody::SubAgentActivity(activity) => of("SubAgentActivity")
            .with_text("kind", activity_word(&activity, status))
            .with_text("agent_thread_id", activity.agent_thread_id.as_deref()?)
            .with_text("agent_path", activity.agent_path.as_deref().unwrap_or_default())
            .with("model", text(activity.model.as_deref()).unwrap_or_default())
            .with("reasoning_effort", text(activity.reasoning_effort.as_deref()).unwrap_or_default()),
        ItemBody::WebSearch(call, detail) => of("WebSearch")
            .with_text("query", detail.query.as_deref().unwrap_or_default())
            .with("action", detail.action.unwrap_or_else(|| named("other").to_json()))
            .with_some("results", call.content),
        ItemBody::ImageView(_, detail) => {
            of("ImageView").with_text("path", detail.path.as_deref().unwrap_or_default())
        }
        ItemBody::ImageGeneration(call, detail) => of("ImageGeneration")
            .with_text("status", detail.provider_status.as_deref().unwrap_or(word(status)))
            .with_some("revised_prompt", text(detail.revised_prompt.as_deref()))
            .with_text("result", &output(&call))
            .with_some("saved_path", text(detail.saved_path.as_deref())),
        ItemBody::FileChange(_, detail) => {
            let is_over = *status != ItemStatus::InProgress;
            of("FileChange")
                .with("changes", changes(&detail))
                .with_some("status", is_over.then(|| RawJson::string(word(status))))
                .with_some("auto_approved", detail.auto_approved.map(plain))
                .with_some("stdout", text(detail.stdout.as_deref()))
                .with_some("stderr", text(detail.stderr.as_deref()))
        }
        ItemBody::McpToolCall(call, detail) => {
            let error = call.error.as_ref().filter(|_| call.content.is_none());
            let error =
                error.map(|error| RawObject::default().with_text("message", &error.message).to_json());
            let status = if *status == ItemStatus::InProgress { "inProgress" } else { no_decline(status) };
            let fields = of("McpToolCall")
                .with_text("server", detail.server.as_deref().unwrap_or_default())
                .with_text("tool", &call.name)
                .with("arguments", call.args.clone());
            mcp_names(fields, &detail, &MCP_ITEM_NAMES)
                .with_some("readOnlyHint", detail.read_only.map(plain))
                .with_text("status", status)
                .with_some("result", mcp_result(&call, &detail))
                .with_some("error", error)
                .with_some("duration", duration(&call))
        }
        ItemBody::ContextCompaction(_) => of("ContextCompaction"),
        ItemBody::ReviewEntered(review) => of("EnteredReviewMode")
            .with("target", review.target.unwrap_or_default())
            .with_some("user_facing_hint", text(review.hint.as_deref())),
        ItemBody::ReviewExited(review) => {
            of("ExitedReviewMode").with("review_output", review.output.unwrap_or_default())
        }
        ItemBody::HookPrompt(prompt) => of("HookPrompt").with("fragments", fragments(&prompt)),
        ItemBody::Extension(_) | ItemBody::Other(_) => {
            let kind = &item.entry.item_kind;
            let own = item.content.as_ref().and_then(RawObject::parse)?;
            match kind {
                ItemKind::Extension { .. } => named("Extension")
                    .with_text("kind", &kind.to_string())
                    .with_text("id", item.entry.item_id.as_str())
                    .with_missing(own),
                _ => return None,
            }
        }
    };
    Some(fields.to_json())
}

pub(super) fn text(text: Option<&str>) -> Option<RawJson> {
    text.map(RawJson::string)
}

pub(super) fn texts(texts: &[String]) -> RawJson {
    RawJson::array(texts.iter().map(|text| RawJson::string(text)))
}

/// How an item stands, in the words of commands and patches.
pub(super) fn word(status: &ItemStatus) -> &'static str {
    match status {
        ItemStatus::InProgress => "in_progress",
        ItemStatus::Completed => "completed",
        ItemStatus::Declined => "declined",
        ItemStatus::Failed | ItemStatus::Interrupted | ItemStatus::Unknown(_) => "failed",
    }
}

/// How an item stands, where nothing can be declined.
fn no_decline(status: &ItemStatus) -> &'static str {
    if *status == ItemStatus::Declined { "failed" } else { word(status) }
}

pub(super) fn activity_word<'a>(activity: &'a SubAgentActivity, status: &ItemStatus) -> &'a str {
    activity.activity.as_deref().unwrap_or(match status {
        ItemStatus::InProgress => "started",
        ItemStatus::Interrupted => "interrupted",
        ItemStatus::Completed | ItemStatus::Failed | ItemStatus::Declined | ItemStatus::Unknown(_) => {
            "completed"
        }
    })
}

/// What a call printed or returned, as text; why it failed where it returned nothing.
pub(super) fn output(call: &ToolCall) -> String {
    match (&call.content, &call.error) {
        (None, Some(error)) => error.message.clone(),
        (content, _) => said(content.as_ref()),
    }
}

/// How long a call ran: `{secs, nanos}`.
pub(super) fn duration(call: &ToolCall) -> Option<RawJson> {
    call.duration_ms.map(|ms| {
        RawObject::default()
            .with("secs", plain(ms / 1_000))
            .with("nanos", plain(ms % 1_000 * 1_000_000))
            .to_json()
    })
}

/// The parts of a content, text being one part.
fn parts_of(content: &RawJson) -> Vec<RawJson> {
    match content.as_str() {
        "null" => Vec::new(),
        text if text.starts_with('[') => content.elements(),
        _ => vec![content.clone()],
    }
}

/// A part that is text, whatever its API calls it.
fn part_text(part: &RawJson) -> Option<RawJson> {
    if part.as_str().starts_with('"') {
        return Some(part.clone());
    }
    let fields = RawObject::parse(part)?;
    let kind = fields.string("type")?;
    ["text", "Text", "input_text", "output_text", "inputText"].contains(&kind.as_str()).then_some(())?;
    fields.get("text").cloned()
}

/// The address of a part that is an image.
pub(super) fn part_image(part: &RawJson) -> Option<RawJson> {
    let fields = RawObject::parse(part)?;
    let image = fields.get("image_url").or(fields.get("imageUrl"))?;
    let nested = RawObject::parse(image);
    Some(nested.as_ref().and_then(|image| image.get("url")).unwrap_or(image).clone())
}

/// The parts of a person's message; what Codex has a part of its own for stays as it is.
pub(super) fn user_input(message: &UserMessage) -> RawJson {
    let part = |part: RawJson| match (part_text(&part), part_image(&part)) {
        (Some(text), _) => {
            let elements = RawObject::parse(&part).and_then(|fields| fields.get("text_elements").cloned());
            let elements = elements.unwrap_or_else(|| RawJson::array([]));
            named("text").with("text", text).with("text_elements", elements).to_json()
        }
        (None, Some(url)) => named("image").with("image_url", url).to_json(),
        (None, None) => part,
    };
    RawJson::array(parts_of(&message.content).into_iter().map(part))
}

/// The texts of an agent's message, part by part.
pub(super) fn agent_texts(message: &AgentMessage) -> Vec<RawJson> {
    parts_of(&message.content).iter().filter_map(part_text).filter(|text| text.as_str() != "\"\"").collect()
}

fn agent_message(fields: RawObject, message: &AgentMessage) -> RawObject {
    let texts = agent_texts(message).into_iter();
    fields
        .with("content", RawJson::array(texts.map(|text| named("Text").with("text", text).to_json())))
        .with_some("phase", text(message.phase.as_deref()))
        .with_some("memory_citation", message.memory_citation.clone())
        .with_some("delivery", text(message.delivery.as_deref()))
        .with_some("questions", message.questions.clone())
}

/// The summaries and the raw parts; reasoning that has neither is its own summary.
pub(super) fn reasoning_parts(reasoning: &ReasoningText) -> (RawJson, RawJson) {
    let whole = [reasoning.text.clone()];
    let is_plain = reasoning.summary.is_empty() && reasoning.raw.is_empty() && !reasoning.text.is_empty();
    let summary = if is_plain { whole.as_slice() } else { reasoning.summary.as_slice() };
    (texts(summary), texts(&reasoning.raw))
}

/// What a command is, in the order in which its events have it too.
pub(super) fn command(fields: RawObject, detail: &CommandExecution) -> RawObject {
    fields
        .with_some("process_id", text(detail.process_id.as_deref()))
        .with("command", texts(detail.command.as_deref().unwrap_or_default()))
        .with_text("cwd", detail.cwd.as_deref().unwrap_or_default())
        .with("parsed_cmd", detail.parsed.clone().unwrap_or_else(|| RawJson::array([])))
        .with_text("source", detail.source.as_deref().unwrap_or("agent"))
        .with_some("interaction_input", text(detail.interaction_input.as_deref()))
}

/// What a dynamic tool returned, part by part.
pub(super) fn content_items(content: &RawJson) -> RawJson {
    let part = |part: RawJson| match (part_text(&part), part_image(&part)) {
        (Some(text), _) => named("inputText").with("text", text).to_json(),
        (None, Some(url)) => named("inputImage").with("imageUrl", url).to_json(),
        (None, None) => named("inputText").with_text("text", part.as_str()).to_json(),
    };
    RawJson::array(parts_of(content).into_iter().map(part))
}

/// What was done to each file, by path.
pub(super) fn changes(detail: &FileChange) -> RawJson {
    let mut changes = RawObject::default();
    for (path, edit) in detail.changes.iter().flatten() {
        let FileEdit { edit, content, unified_diff, move_path } = edit;
        let mut fields = named(edit).with_some("content", text(content.as_deref()));
        fields = fields.with_some("unified_diff", text(unified_diff.as_deref()));
        if unified_diff.is_some() || move_path.is_some() {
            fields.set("move_path", text(move_path.as_deref()).unwrap_or_default());
        }
        changes.set(path, fields.to_json());
    }
    changes.to_json()
}

/// The names of what a server's tool is of, in an item.
const MCP_ITEM_NAMES: [&str; 6] =
    ["connectorId", "mcpAppResourceUri", "linkId", "appName", "actionName", "pluginId"];
/// The same, in an event.
pub(super) const MCP_EVENT_NAMES: [&str; 6] =
    ["connector_id", "mcp_app_resource_uri", "link_id", "app_name", "action_name", "plugin_id"];

pub(super) fn mcp_names(mut fields: RawObject, detail: &McpToolCall, names: &[&str; 6]) -> RawObject {
    let McpToolCall { connector_id, app_resource_uri, link_id, app_name, action_name, plugin_id, .. } =
        detail;
    let values = [connector_id, app_resource_uri, link_id, app_name, action_name, plugin_id];
    for (name, value) in names.iter().zip(values) {
        fields = fields.with_some(name, text(value.as_deref()));
    }
    fields
}

/// The result of a server's tool; none where it failed without one.
pub(super) fn mcp_result(call: &ToolCall, detail: &McpToolCall) -> Option<RawJson> {
    if call.content.is_none() && detail.structured_content.is_none() {
        return None;
    }
    let part = |part: RawJson| match part.as_str().starts_with('"') {
        true => named("text").with("text", part).to_json(),
        false => part,
    };
    let parts = call.content.as_ref().map(parts_of).unwrap_or_default();
    let fields = RawObject::default()
        .with("content", RawJson::array(parts.into_iter().map(part)))
        .with_some("structuredContent", detail.structured_content.clone())
        .with_some("isError", detail.is_error.map(plain));
    let extra = detail.result_extra.as_ref().and_then(RawObject::parse).unwrap_or_default();
    Some(fields.with_missing(extra).to_json())
}

fn fragments(prompt: &HookPrompt) -> RawJson {
    let fragment = |text: RawJson, hook: Option<&str>| {
        RawObject::default().with("text", text).with_text("hookRunId", hook.unwrap_or_default()).to_json()
    };
    if prompt.fragments.is_empty() {
        return RawJson::array(
            parts_of(&prompt.content).iter().filter_map(part_text).map(|text| fragment(text, None)),
        );
    }
    let fragments = prompt.fragments.iter();
    RawJson::array(fragments.map(|part| fragment(RawJson::string(&part.text), part.hook_run_id.as_deref())))
}
