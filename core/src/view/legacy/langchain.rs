//! Messages as LangChain has them.
//!
//! A message is what `model_dump()` makes of one, and stands as `{type, data}`: what `messages_to_dict` writes,
//! `messages_from_dict` reads, and LangChain's message histories store. The constructor form
//! (`{lc, type: "constructor", id, kwargs}`) names Python classes, and whoever reads it runs what it names, so
//! it is not made. A message that came from LangChain comes back with every field it had.
//!
//! It cannot say: reasoning that is part of no message, plans, what a sub-agent did, how an item stands,
//! when something was.

use serde::Deserialize;

use super::calls::{Calls, own_id};
use super::openai_chat::told;
use super::{plain, tokens};
use crate::view::context::{MessageBody, is_message, is_note};
use crate::{
    AgentMessage, Category, Event, ItemId, ItemKind, ItemStatus, RawJson, RawObject, ReasoningText, RunId,
    ToolCall, ToolRequest, UserMessage,
};

/// A conversation as LangChain messages, as far as its records were taken.
#[derive(Clone, Debug, Default)]
pub struct LangChain {
    calls: Calls,
    beside: Beside,
}

impl LangChain {
    /// A system prompt as a message.
    #[must_use]
    pub fn system(prompt: &str) -> RawJson {
        stored("system", defaults("system", RawJson::string(prompt)))
    }

    /// Takes the next event of a log, and gives the message that it is: of the lead agent's conversation, and the
    /// messages that an application put before the model. Before a result of a call that no message asked
    /// for, a message is made that does. The notes of compactions are not among them: what they stand for is in the log.
    #[must_use]
    pub fn take(&mut self, event: &Event) -> Vec<RawJson> {
        if let Some(message) = shown_to_model(event) {
            return vec![message];
        }
        if !is_message(event) || is_note(event) {
            return Vec::new();
        }
        let reasoning = self.beside.take(event);
        let Some(message) = Message::of(event, Person::AsShown, reasoning) else { return Vec::new() };
        let mut given = Vec::new();
        match MessageBody::of(event) {
            Some(MessageBody::Agent(said)) => {
                self.calls.ask(event, &said);
            }
            Some(MessageBody::Tool(call)) if self.calls.answer(event).is_none() => {
                let asked = ToolRequest { id: Some(own_id(event)), name: call.name, args: call.args };
                let made = AgentMessage {
                    content: RawJson::string(""),
                    tool_calls: vec![asked],
                    ..AgentMessage::default()
                };
                given.push(stored("ai", ai(&made, RawObject::default(), None, None)));
            }
            _ => {}
        }
        given.push(stored(&message.kind, message.fields));
        given
    }
}

fn stored(kind: &str, fields: RawObject) -> RawJson {
    RawObject::default().with_text("type", kind).with("data", fields.to_json()).to_json()
}

/// A message that an application put before the model: context, and no part of what people see.
fn shown_to_model(event: &Event) -> Option<RawJson> {
    if event.category != Category::Context || event.item.is_some() {
        return None;
    }
    let fields = RawObject::parse(&event.content)?;
    let kind = langchain_kind(&fields)?;
    fields.get("content")?;
    Some(stored(&kind, fields))
}

/// The reasoning that stands beside a message, kept until the message that it is part of comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside(Option<(Option<RunId>, ItemId, RawJson)>);

impl Beside {
    /// Keeps the event where it is reasoning, else gives what stands beside it.
    pub(crate) fn take(&mut self, event: &Event) -> Option<RawJson> {
        let mark = event.item.as_ref()?;
        if mark.kind != ItemKind::Reasoning {
            let kept = self.0.take_if(|(run, id, _)| *run == event.run_id && *id == mark.item_id);
            return kept.map(|(_, _, text)| text);
        }
        #[derive(Deserialize)]
        struct Said {
            text: RawJson,
        }
        let parent = mark.parent_item_id.clone()?;
        let said = event.content.decode::<Said>().ok()?;
        self.0 = Some((event.run_id.clone(), parent, said.text));
        None
    }
}

/// Which text of a person's message is told, where an application put its own into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    /// What the model was shown.
    AsShown,
    /// What the person wrote.
    AsWritten,
}

/// A message as its dump.
pub(crate) struct Message {
    /// `human`, `ai`, `tool`, `system`, or the kind that it had where it came from.
    pub(crate) kind: String,
    pub(crate) fields: RawObject,
    /// What its record says, where it is an agent's.
    pub(crate) said: Option<AgentMessage>,
}

impl Message {
    /// The dump of a message's record. `None` where it is none: reasoning, a plan, or a payload of another shape.
    pub(crate) fn of(event: &Event, person: Person, reasoning: Option<RawJson>) -> Option<Self> {
        let id = event.item.as_ref().map(|item| &item.item_id);
        let mut said = None;
        let fields = match MessageBody::of(event)? {
            MessageBody::User(message) => user("human", &message, id, person),
            MessageBody::Prompt(message) => user("system", &message, id, person),
            MessageBody::Agent(message) => {
                let fields = ai(&message, source(message.extra.as_ref()), id, reasoning);
                said = Some(message);
                fields
            }
            MessageBody::Tool(call) => tool(event, &call),
            MessageBody::Reasoning(ReasoningText { .. }) | MessageBody::Note(_) | MessageBody::Other => {
                return None;
            }
        };
        Some(Self { kind: langchain_kind(&fields).unwrap_or_default(), fields, said })
    }
}

/// The kind of a message of LangChain; `None` where it is another system's.
fn langchain_kind(fields: &RawObject) -> Option<String> {
    const KINDS: &[&str] = &[
        "human",
        "ai",
        "tool",
        "system",
        "developer",
        "function",
        "chat",
        "remove",
        "AIMessageChunk",
        "HumanMessageChunk",
        "ToolMessageChunk",
        "SystemMessageChunk",
    ];
    fields.string("type").filter(|kind| KINDS.contains(&kind.as_str()))
}

/// What a message had beyond what its item says, where it came from LangChain.
fn source(extra: Option<&RawJson>) -> RawObject {
    extra.and_then(RawObject::parse).filter(|fields| langchain_kind(fields).is_some()).unwrap_or_default()
}

/// What every message has.
fn defaults(kind: &str, content: RawJson) -> RawObject {
    RawObject::default()
        .with("content", content)
        .with("additional_kwargs", RawJson::empty_object())
        .with("response_metadata", RawJson::empty_object())
        .with_text("type", kind)
        .with("name", RawJson::null())
        .with("id", RawJson::null())
}

/// The fields, with those of the source in their places and the others after them.
fn with_source(mut fields: RawObject, source: RawObject) -> RawObject {
    for name in ["additional_kwargs", "response_metadata", "type", "name", "id"] {
        if let Some(value) = source.get(name) {
            fields.set(name, value.clone());
        }
    }
    fields.with_missing(source)
}

fn id_of(id: Option<&ItemId>) -> RawJson {
    id.map_or_else(RawJson::null, |id| RawJson::string(id.as_str()))
}

fn user(kind: &str, message: &UserMessage, id: Option<&ItemId>, person: Person) -> RawObject {
    let source = source(message.extra.as_ref());
    let shown = source.get("model_content").filter(|_| person == Person::AsShown).cloned();
    let fields = defaults(kind, shown.unwrap_or_else(|| message.content.clone())).with("id", id_of(id));
    with_source(fields, source.without(&["model_content"]))
}

fn ai(
    message: &AgentMessage,
    source: RawObject,
    id: Option<&ItemId>,
    reasoning: Option<RawJson>,
) -> RawObject {
    let is_langchain = source.get("type").is_some();
    let mut fields = defaults("ai", message.content.clone()).with("id", id_of(id));
    if let Some(model) = message.model.as_deref().filter(|_| !is_langchain) {
        fields.set("response_metadata", RawObject::default().with_text("model_name", model).to_json());
    }
    let (calls, invalid): (Vec<_>, Vec<_>) =
        message.tool_calls.iter().partition(|request| request.args.is_object());
    let call = |request: &ToolRequest| {
        RawObject::default()
            .with_text("name", &request.name)
            .with("args", request.args.clone())
            .with("id", request.id.as_deref().map_or_else(RawJson::null, RawJson::string))
    };
    let valid = calls.into_iter().map(|request| call(request).with_text("type", "tool_call").to_json());
    fields.set("tool_calls", RawJson::array(valid));
    let invalid = invalid.into_iter().map(|request| {
        let call = call(request).with("error", RawJson::null());
        call.with_text("type", "invalid_tool_call").to_json()
    });
    let invalid = source.get("invalid_tool_calls").cloned().unwrap_or_else(|| RawJson::array(invalid));
    fields.set("invalid_tool_calls", invalid);
    fields.set("usage_metadata", message.usage.as_ref().and_then(usage).unwrap_or_else(RawJson::null));
    let mut fields = with_source(fields, source);
    if let Some(said) = reasoning {
        let additional = fields.object("additional_kwargs").unwrap_or_default();
        fields.set("additional_kwargs", additional.with("reasoning_content", said).to_json());
    }
    fields
}

/// Usage as LangChain gives it, whoever gave it.
fn usage(given: &RawJson) -> Option<RawJson> {
    let fields = RawObject::parse(given)?;
    if ["input_tokens", "output_tokens", "total_tokens"].iter().all(|name| fields.get(name).is_some()) {
        return Some(given.clone());
    }
    let tokens = tokens(given)?;
    let input = RawObject::default().with("cache_read", plain(tokens.cache_read));
    let output = RawObject::default().with("reasoning", plain(tokens.reasoning));
    let counts = RawObject::default()
        .with("input_tokens", plain(tokens.input))
        .with("output_tokens", plain(tokens.output))
        .with("total_tokens", plain(tokens.total))
        .with("input_token_details", input.to_json())
        .with("output_token_details", output.to_json());
    Some(counts.to_json())
}

fn tool(event: &Event, call: &ToolCall) -> RawObject {
    let is_well = event.item.as_ref().is_some_and(|item| item.status == ItemStatus::Completed);
    let source = source(call.extra.as_ref());
    let kept = ["tool_call_id", "artifact", "status"].map(|name| source.get(name).cloned());
    let [tool_call_id, artifact, status] = kept;
    let fields = defaults("tool", call.content.clone().unwrap_or_else(|| told(event, call)))
        .with_text("name", &call.name)
        .with("tool_call_id", tool_call_id.unwrap_or_else(|| RawJson::string(&own_id(event))))
        .with("artifact", artifact.unwrap_or_else(RawJson::null))
        .with("status", status.unwrap_or_else(|| RawJson::string(if is_well { "success" } else { "error" })));
    with_source(fields, source)
}
