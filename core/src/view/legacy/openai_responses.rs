//! Items as the input of OpenAI's Responses API.
//!
//! A call and its output are items of their own there, matched by the call's id, so the order of the log stays and
//! nothing is held back. A call whose arguments are text is a `custom_tool_call`, any other a `function_call`; one
//! that no message asked for stands before its output. Ids are kept where the API has a place for them.
//!
//! It cannot say: plans, what a sub-agent did, which message asked for a call, how a call ended but by
//! its output, and what only the runtime knows of it.

use super::calls::{Calls, as_text, is_text, own_id};
use super::openai_chat::told;
use super::said;
use crate::view::context::{MessageBody, is_message, is_note};
use crate::{
    AgentMessage, Event, ImageGeneration, ItemBody, ItemMark, ItemStatus, RawJson, RawObject, ReasoningText,
    ToolCall, WebSearch,
};

/// A conversation as input items, as far as its records were taken.
#[derive(Clone, Debug, Default)]
pub struct OpenAiResponses {
    calls: Calls,
}

impl OpenAiResponses {
    /// A system prompt as an item.
    #[must_use]
    pub fn system(prompt: &str) -> RawJson {
        message("system", None, &RawJson::string(prompt)).to_json()
    }

    /// Takes the next event of a log, and gives its items. The notes of compactions are not among them:
    /// what they stand for is in the log.
    #[must_use]
    pub fn take(&mut self, event: &Event) -> Vec<RawJson> {
        let Some(mark) = event.item.as_ref().filter(|_| is_message(event) && !is_note(event)) else {
            return Vec::new();
        };
        match MessageBody::of(event) {
            Some(MessageBody::User(said)) => vec![message("user", Some(mark), &said.content).to_json()],
            Some(MessageBody::Prompt(said)) => {
                vec![message("developer", Some(mark), &said.content).to_json()]
            }
            Some(MessageBody::Agent(said)) => self.answer(event, mark, &said),
            Some(MessageBody::Reasoning(said)) => vec![reasoning(mark, &said)],
            Some(MessageBody::Tool(call)) => self.result(event, mark, &call),
            Some(MessageBody::Note(_) | MessageBody::Other) | None => Vec::new(),
        }
    }

    fn answer(&mut self, event: &Event, mark: &ItemMark, said: &AgentMessage) -> Vec<RawJson> {
        let mut items = Vec::new();
        if !matches!(said.content.as_str(), "\"\"" | "[]" | "null") {
            let item = message("assistant", Some(mark), &said.content).with_text("status", "completed");
            items.push(item.with_some("phase", said.phase.as_deref().map(RawJson::string)).to_json());
        }
        let asked = self.calls.ask(event, said);
        let calls = asked.iter().zip(&said.tool_calls);
        items.extend(calls.map(|(asked, request)| call(&asked.chat_id, &request.name, &request.args)));
        items
    }

    fn result(&mut self, event: &Event, mark: &ItemMark, result: &ToolCall) -> Vec<RawJson> {
        let output = parts(&told(event, result), "input_text");
        if let Some(asked) = self.calls.answer(event) {
            return vec![output_of(&asked.chat_id, asked.is_text, output)];
        }
        if let Some(hosted) = hosted(event, mark) {
            return vec![hosted];
        }
        let id = own_id(event);
        let asked = call(&id, &result.name, &result.args);
        vec![asked, output_of(&id, is_text(&result.args), output)]
    }
}

/// The text that is text stays; parts get the names that this API has for them.
fn parts(content: &RawJson, text_type: &str) -> RawJson {
    if !content.as_str().starts_with('[') {
        return content.clone();
    }
    RawJson::array(content.elements().into_iter().map(|part| part_of(part, text_type)))
}

fn part_of(part: RawJson, text_type: &str) -> RawJson {
    let text = |text: RawJson| RawObject::default().with_text("type", text_type).with("text", text).to_json();
    if is_text(&part) {
        return text(part);
    }
    let Some(fields) = RawObject::parse(&part) else { return part };
    match (fields.string("type").as_deref(), fields.get("text"), fields.get("image_url")) {
        (Some("text" | "Text" | "input_text" | "output_text"), Some(said), _) => text(said.clone()),
        (Some("image_url" | "image"), _, Some(image)) => {
            // Chat completions have an object there.
            let nested = RawObject::parse(image);
            let url = nested.as_ref().and_then(|image| image.get("url")).unwrap_or(image).clone();
            let detail =
                nested.as_ref().and_then(|image| image.get("detail")).or(fields.get("detail")).cloned();
            let image = RawObject::default().with_text("type", "input_image").with("image_url", url);
            image.with_some("detail", detail).to_json()
        }
        _ => part,
    }
}

fn message(role: &str, mark: Option<&ItemMark>, content: &RawJson) -> RawObject {
    let text_type = if role == "assistant" { "output_text" } else { "input_text" };
    let content = if content.as_str().starts_with('[') {
        parts(content, text_type)
    } else {
        RawJson::array([part_of(as_text(content), text_type)])
    };
    RawObject::default()
        .with_text("type", "message")
        .with_some("id", mark.map(|mark| RawJson::string(mark.item_id.as_str())))
        .with_text("role", role)
        .with("content", content)
}

fn reasoning(mark: &ItemMark, said: &ReasoningText) -> RawJson {
    let part = |kind: &str, text: &String| {
        RawObject::default().with_text("type", kind).with_text("text", text).to_json()
    };
    let whole = [said.text.clone()];
    let raw =
        if said.summary.is_empty() && said.raw.is_empty() { whole.as_slice() } else { said.raw.as_slice() };
    let content = raw.iter().filter(|text| !text.is_empty()).map(|text| part("reasoning_text", text));
    let content: Vec<RawJson> = content.collect();
    let encrypted = said.extra.as_ref().and_then(RawObject::parse);
    let encrypted = encrypted.and_then(|extra| extra.get("encrypted_content").cloned());
    RawObject::default()
        .with_text("type", "reasoning")
        .with_text("id", mark.item_id.as_str())
        .with("summary", RawJson::array(said.summary.iter().map(|text| part("summary_text", text))))
        .with_some("content", (!content.is_empty()).then(|| RawJson::array(content)))
        .with_some("encrypted_content", encrypted)
        .to_json()
}

fn call(id: &str, name: &str, args: &RawJson) -> RawJson {
    let (kind, field) =
        if is_text(args) { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
    RawObject::default()
        .with_text("type", kind)
        .with_text("call_id", id)
        .with_text("name", name)
        .with(field, as_text(args))
        .to_json()
}

fn output_of(id: &str, is_custom: bool, output: RawJson) -> RawJson {
    let kind = if is_custom { "custom_tool_call_output" } else { "function_call_output" };
    RawObject::default().with_text("type", kind).with_text("call_id", id).with("output", output).to_json()
}

/// A call that the provider executed itself: one item, with what came of it.
fn hosted(event: &Event, mark: &ItemMark) -> Option<RawJson> {
    let status = if mark.status == ItemStatus::Completed { "completed" } else { "failed" };
    let item =
        |kind: &str| RawObject::default().with_text("type", kind).with_text("id", mark.item_id.as_str());
    match ItemBody::of(&mark.kind, &event.content) {
        ItemBody::WebSearch(_, WebSearch { query, action }) => {
            let search = || {
                let query = query.as_deref().unwrap_or_default();
                RawObject::default().with_text("type", "search").with_text("query", query).to_json()
            };
            let action = action.unwrap_or_else(search);
            Some(item("web_search_call").with_text("status", status).with("action", action).to_json())
        }
        ItemBody::ImageGeneration(call, ImageGeneration { provider_status, revised_prompt, .. }) => {
            let status = provider_status.unwrap_or_else(|| status.to_owned());
            let image = item("image_generation_call").with_text("status", &status);
            let image = image.with_some("revised_prompt", revised_prompt.as_deref().map(RawJson::string));
            Some(image.with_text("result", &said(call.content.as_ref())).to_json())
        }
        _ => None,
    }
}
