//! Messages as OpenAI's chat completions take them.
//!
//! Such an API refuses a call without its result and a result without its call, so results follow the message
//! that asks for them, whenever they came, and a message is made for calls that none asked for: a recording
//! may have the tools that ran and not the message that wanted them.
//!
//! It cannot say: reasoning, plans, what a sub-agent did, who else than the lead agent spoke, ids of messages.

use std::collections::VecDeque;

use serde::Serialize;

use super::calls::{Calls, as_text, own_id};
use crate::view::context::{ContextMessage, MessageBody, is_message, is_note};
use crate::{Event, ItemStatus, RawJson, RawObject, ToolCall};

/// How many bytes are held back at most while the result of a call does not come.
const HELD_BYTES: usize = 64 << 20;

/// A conversation as chat messages, as far as its records were taken.
#[derive(Clone, Debug)]
pub struct OpenAiChat {
    calls: Calls,
    /// What cannot be given yet, in order: from the first message on whose calls have not all their results.
    held: VecDeque<Held>,
    bytes: usize,
    most_bytes: usize,
}

#[derive(Clone, Debug)]
enum Held {
    /// A message.
    Said(RawJson),
    /// A message that asks for tools, and their results.
    Asking { message: RawJson, first: usize, results: Vec<Option<RawJson>> },
    /// Adjacent calls that no message asked for.
    Unasked(Vec<Unasked>),
}

#[derive(Clone, Debug)]
struct Unasked {
    id: String,
    name: String,
    args: RawJson,
    result: RawJson,
}

impl Default for OpenAiChat {
    fn default() -> Self {
        Self::holding(HELD_BYTES)
    }
}

impl OpenAiChat {
    /// A conversation before its first record, which holds back this many bytes of messages at most.
    ///
    /// A result that comes when the message which asked for it was given already is told as one that
    /// nobody asked for.
    #[must_use]
    pub fn holding(most_bytes: usize) -> Self {
        Self { calls: Calls::default(), held: VecDeque::new(), bytes: 0, most_bytes }
    }

    /// A system prompt as a message.
    #[must_use]
    pub fn system(prompt: &str) -> RawJson {
        chat("system", &RawJson::string(prompt))
    }

    /// Takes the next event of a log, and gives the messages that are whole. The notes of compactions are not
    /// among them: what they stand for is in the log.
    #[must_use]
    pub fn take(&mut self, event: &Event) -> Vec<RawJson> {
        if !is_message(event) || is_note(event) {
            return Vec::new();
        }
        self.take_message(&ContextMessage::of(event.clone()))
    }

    /// Takes the next message of a context window, and gives the messages that are whole.
    #[must_use]
    pub fn take_message(&mut self, message: &ContextMessage) -> Vec<RawJson> {
        match &message.body {
            MessageBody::User(said) => self.hold(Held::Said(chat("user", &said.content))),
            MessageBody::Prompt(said) => self.hold(Held::Said(chat("system", &said.content))),
            MessageBody::Note(note) => self.hold(Held::Said(chat("system", &note.content))),
            MessageBody::Agent(said) => {
                let asked = self.calls.ask(&message.event, said);
                let tool_calls = asked.iter().zip(&said.tool_calls);
                let message = encode(&Chat {
                    role: "assistant",
                    content: &said.content,
                    tool_call_id: None,
                    tool_calls: tool_calls
                        .map(|(asked, request)| ChatCall::of(&asked.chat_id, &request.name, &request.args))
                        .collect(),
                });
                self.hold(match asked.first() {
                    Some(first) => {
                        Held::Asking { message, first: first.number, results: vec![None; asked.len()] }
                    }
                    None => Held::Said(message),
                });
            }
            MessageBody::Tool(call) => self.result(&message.event, call),
            MessageBody::Reasoning(_) | MessageBody::Other => {}
        }
        self.give(false)
    }

    /// What is left. A call whose result did not come stays without one.
    #[must_use]
    pub fn finish(mut self) -> Vec<RawJson> {
        self.give(true)
    }

    fn hold(&mut self, held: Held) {
        self.bytes += held.bytes();
        self.held.push_back(held);
    }

    fn result(&mut self, event: &Event, call: &ToolCall) {
        let told = told(event, call);
        if let Some(asked) = self.calls.answer(event) {
            let result = encode(&Chat {
                role: "tool",
                content: &told,
                tool_call_id: Some(&asked.chat_id),
                tool_calls: Vec::new(),
            });
            for held in self.held.iter_mut().rev() {
                if let Held::Asking { first, results, .. } = held
                    && let Some(place) = asked.number.checked_sub(*first).and_then(|at| results.get_mut(at))
                {
                    self.bytes += result.as_str().len();
                    *place = Some(result);
                    return;
                }
            }
        }
        let unasked =
            Unasked { id: own_id(event), name: call.name.clone(), args: call.args.clone(), result: told };
        if let Some(Held::Unasked(adjacent)) = self.held.back_mut()
            && adjacent.iter().all(|other| other.id != unasked.id)
        {
            self.bytes += unasked.bytes();
            adjacent.push(unasked);
        } else {
            self.hold(Held::Unasked(vec![unasked]));
        }
    }

    /// Takes out what is whole, or all. What nobody asked for is whole when something else follows it.
    fn give(&mut self, all: bool) -> Vec<RawJson> {
        let mut given = Vec::new();
        while let Some(held) = self.held.front() {
            let is_whole = match held {
                Held::Said(_) => true,
                Held::Asking { results, .. } => results.iter().all(Option::is_some),
                Held::Unasked(_) => self.held.len() > 1,
            };
            if !is_whole && !all && self.bytes <= self.most_bytes {
                break;
            }
            self.bytes = self.bytes.saturating_sub(held.bytes());
            match self.held.pop_front() {
                Some(Held::Said(message)) => given.push(message),
                Some(Held::Asking { message, first, results }) => {
                    self.calls.forget_before(first + results.len());
                    given.push(message);
                    given.extend(results.into_iter().flatten());
                }
                Some(Held::Unasked(calls)) => unasked(&calls, &mut given),
                None => {}
            }
        }
        given
    }
}

impl Held {
    fn bytes(&self) -> usize {
        match self {
            Self::Said(message) => message.as_str().len(),
            Self::Asking { message, results, .. } => {
                message.as_str().len()
                    + results.iter().flatten().map(|result| result.as_str().len()).sum::<usize>()
            }
            Self::Unasked(calls) => calls.iter().map(Unasked::bytes).sum(),
        }
    }
}

impl Unasked {
    fn bytes(&self) -> usize {
        self.args.as_str().len() + self.result.as_str().len()
    }
}

/// The message that would have asked for these calls, and their results.
fn unasked(calls: &[Unasked], given: &mut Vec<RawJson>) {
    given.push(encode(&Chat {
        role: "assistant",
        content: &RawJson::null(),
        tool_call_id: None,
        tool_calls: calls.iter().map(|call| ChatCall::of(&call.id, &call.name, &call.args)).collect(),
    }));
    given.extend(calls.iter().map(|call| {
        encode(&Chat {
            role: "tool",
            content: &call.result,
            tool_call_id: Some(&call.id),
            tool_calls: Vec::new(),
        })
    }));
}

#[derive(Serialize)]
struct Chat<'a> {
    role: &'a str,
    content: &'a RawJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChatCall<'a>>,
}

#[derive(Serialize)]
struct ChatCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: ChatFunction<'a>,
}

impl<'a> ChatCall<'a> {
    fn of(id: &'a str, name: &'a str, args: &RawJson) -> Self {
        Self { id, r#type: "function", function: ChatFunction { name, arguments: as_text(args) } }
    }
}

#[derive(Serialize)]
struct ChatFunction<'a> {
    name: &'a str,
    /// Text that is JSON, unless the model wrote none.
    arguments: RawJson,
}

fn encode(chat: &Chat<'_>) -> RawJson {
    // Text and JSON always have a JSON form.
    RawJson::encode("message", chat).unwrap_or_default()
}

fn chat(role: &str, content: &RawJson) -> RawJson {
    encode(&Chat { role, content, tool_call_id: None, tool_calls: Vec::new() })
}

/// What the model is told of a call that ended: text, or an array of content parts.
pub(crate) fn told(event: &Event, result: &ToolCall) -> RawJson {
    if let Some(content) = &result.content {
        // Text and parts as they are; any other value, other arrays too, as its text.
        let parts = content.elements();
        let is_parts = !parts.is_empty() && parts.iter().all(is_part);
        return if is_parts { content.clone() } else { as_text(content) };
    }
    let status = event.item.as_ref().map(|item| &item.status);
    match (&result.error, status) {
        (Some(error), _) => RawJson::string(&error.message),
        (None, Some(ItemStatus::Completed)) => RawJson::string(""),
        (None, status) => {
            let status = status.map_or("", ItemStatus::as_str);
            RawJson::string(&format!("the call has no result: it was {status}"))
        }
    }
}

/// Whether it is a content part as chat APIs have them: an object that says its type.
fn is_part(json: &RawJson) -> bool {
    RawObject::parse(json).is_some_and(|part| part.string("type").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::legacy::testing::{Log, call, user};
    use crate::{ItemKind, ItemStatus};
    use pretty_assertions::assert_eq;

    const ASKS: &str = r#"{"content":"","tool_calls":[{"id":"a","name":"t","args":{}}]}"#;

    /// What each record gives, and what is left at the end.
    fn given(mut chat: OpenAiChat, log: &[Event]) -> Vec<Vec<String>> {
        let text =
            |messages: Vec<RawJson>| messages.iter().map(|message| message.as_str().to_owned()).collect();
        let mut given: Vec<Vec<String>> = log.iter().map(|event| text(chat.take(event))).collect();
        given.push(text(chat.finish()));
        given
    }

    #[test]
    fn what_waits_for_a_result_is_held_back_and_nothing_else() {
        let log = Log::default()
            .item("u", ItemKind::UserMessage, &user("go"))
            .item("m", ItemKind::AgentMessage, ASKS)
            .item("v", ItemKind::UserMessage, &user("wait"))
            .result("c", "a", Some("m"), &call("t", "done"))
            .events();
        let [go, wait] = ["go", "wait"].map(|text| format!(r#"{{"role":"user","content":"{text}"}}"#));
        let asked = r#"{"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"t","arguments":"{}"}}]}"#.to_owned();
        let result = r#"{"role":"tool","content":"done","tool_call_id":"a"}"#.to_owned();
        assert_eq!(
            given(OpenAiChat::default(), &log),
            [vec![go.clone()], vec![], vec![], vec![asked.clone(), result.clone(), wait.clone()], vec![]]
        );
        // Nothing is held back: the result stands with a call of its own.
        let made = asked.replace("\"content\":\"\"", "\"content\":null");
        assert_eq!(
            given(OpenAiChat::holding(0), &log),
            [vec![go], vec![asked], vec![wait], vec![made, result], vec![]]
        );
    }

    #[test]
    fn a_message_is_made_for_adjacent_calls_that_none_asked_for() {
        let log = Log::default()
            .result("1", "a", None, &call("t", "1"))
            .item("r", ItemKind::Reasoning, r#"{"text":"hm"}"#)
            .result("2", "b", Some("gone"), &call("t", "2"))
            .result("3", "a", None, &call("t", "3"))
            .item("u", ItemKind::UserMessage, &user("and"))
            .marked("4", ItemKind::CommandExecution, ItemStatus::Failed, r#"{"name":"sh","args":["ls"]}"#)
            .events();
        let asked = |calls: &[(&str, &str, &str)]| {
            let call = |(id, name, args): &(&str, &str, &str)| {
                format!(
                    r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{args}"}}}}"#
                )
            };
            let calls: Vec<String> = calls.iter().map(call).collect();
            format!(r#"{{"role":"assistant","content":null,"tool_calls":[{}]}}"#, calls.join(","))
        };
        let result =
            |id: &str, text: &str| format!(r#"{{"role":"tool","content":"{text}","tool_call_id":"{id}"}}"#);
        assert_eq!(
            given(OpenAiChat::default(), &log).concat(),
            [
                asked(&[("a", "t", "{}"), ("b", "t", "{}")]),
                result("a", "1"),
                result("b", "2"),
                // One message never asks twice for the same id.
                asked(&[("a", "t", "{}")]),
                result("a", "3"),
                r#"{"role":"user","content":"and"}"#.to_owned(),
                asked(&[("4", "sh", r#"[\"ls\"]"#)]),
                result("4", "the call has no result: it was failed"),
            ]
        );
    }

    #[test]
    fn an_array_that_is_no_content_parts_is_told_as_its_text() {
        let parts = r#"[{"type":"text","text":"a"}]"#;
        for (content, expected) in [
            (parts, parts.to_owned()),
            (r#"["a","b"]"#, RawJson::string(r#"["a","b"]"#).to_string()),
            (r#"[1,"b",{}]"#, RawJson::string(r#"[1,"b",{}]"#).to_string()),
            ("[]", RawJson::string("[]").to_string()),
            (r#"{"a":1}"#, RawJson::string(r#"{"a":1}"#).to_string()),
        ] {
            let returned = format!(r#"{{"name":"find","args":{{}},"content":{content}}}"#);
            let log = Log::default().result("c", "x", None, &returned).events();
            let call = ToolCall {
                content: Some(RawJson::parse("content", content).unwrap()),
                ..ToolCall::default()
            };
            assert_eq!(told(&log[0], &call).as_str(), expected);
        }
    }
}
