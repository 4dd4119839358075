//! Messages as runtimes dump them, read without trusting their shape.
//!
//! A message is kept as its fields' raw text; only what a decision needs is parsed. So lone
//! surrogates, huge numbers and blobs survive in what is stored, and replacement characters
//! occur in summaries only.

use std::fmt;

use runledger_core::{ContentText, RawJson, text};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A JSON object as its fields' text, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawObject(Vec<(String, RawJson)>);

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some(field) = map.next_entry::<String, RawJson>()? {
                    fields.push(field);
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl RawObject {
    /// The object, or `None` where it is none (or a key of it is no text).
    pub(crate) fn parse(json: &RawJson) -> Option<Self> {
        if json.is_object() { json.decode().ok() } else { None }
    }

    /// The field's text; of several with the name, the last.
    pub(crate) fn get(&self, name: &str) -> Option<&RawJson> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The field where it is a string that is not empty, with U+FFFD for lone surrogates.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        let text = value.decode_lossy::<String>().ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// The field as a nested object.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?)
    }

    /// Adds a field at the end, or replaces the one with that name.
    pub(crate) fn set(&mut self, name: &str, value: RawJson) {
        match self.0.iter_mut().rev().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Takes fields out.
    pub(crate) fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|(key, _)| !names.contains(&key.as_str()));
        self
    }

    /// The object's text.
    pub(crate) fn to_json(&self) -> RawJson {
        let mut out = String::with_capacity(
            2 + self.0.iter().map(|(k, v)| k.len() + v.as_str().len() + 4).sum::<usize>(),
        );
        out.push('{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(RawJson::string(key).as_str());
            out.push(':');
            out.push_str(value.as_str());
        }
        out.push('}');
        RawJson::from_stored(&out)
    }
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Human,
    Ai,
    Tool,
    Other,
}

/// A chat message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) fields: RawObject,
    pub(crate) role: Role,
}

impl Message {
    /// Reads a message: an object with `content` and a `type` (or `role`).
    pub(crate) fn parse(json: &RawJson) -> Option<Self> {
        let fields = RawObject::parse(json)?;
        fields.get("content")?;
        let role = fields.string("type").or_else(|| fields.string("role"))?;
        let role = match role.as_str() {
            "human" | "user" | "HumanMessageChunk" => Role::Human,
            "ai" | "assistant" | "AIMessageChunk" => Role::Ai,
            "tool" | "ToolMessageChunk" => Role::Tool,
            "system" | "function" | "chat" | "remove" | "developer" => Role::Other,
            _ => return None,
        };
        Some(Self { fields, role })
    }

    /// The content's text, byte for byte.
    pub(crate) fn content(&self) -> RawJson {
        self.fields.get("content").cloned().unwrap_or_default()
    }

    /// The content's plain text as a summary shows it.
    pub(crate) fn summary(&self) -> Option<String> {
        text::summary(&self.content().text())
    }

    /// The message's id.
    pub(crate) fn id(&self) -> Option<String> {
        self.fields.string("id")
    }

    /// The call a tool message answers.
    pub(crate) fn tool_call_id(&self) -> Option<String> {
        self.fields.string("tool_call_id")
    }

    /// Whether a tool message says that the tool failed.
    pub(crate) fn is_error(&self) -> bool {
        self.fields.string("status").as_deref() == Some("error")
    }

    /// What an application adds to the message.
    pub(crate) fn additional(&self) -> RawObject {
        self.fields.object("additional_kwargs").unwrap_or_default()
    }

    /// Whether a person sees it as their own input: not a summary, and not hidden unless it is a
    /// person's answer to a question of the agent.
    pub(crate) fn is_input(&self) -> bool {
        if self.role != Role::Human || self.fields.string("name").as_deref() == Some("summary") {
            return false;
        }
        let additional = self.additional();
        let hidden = additional.get("hide_from_ui").is_some_and(is_true);
        !hidden
            || additional
                .object("human_input_response")
                .is_some_and(|response| response.string("source").as_deref() == Some("ask_clarification"))
    }
}

/// Whether Python would take it for true.
fn is_true(value: &RawJson) -> bool {
    !matches!(value.as_str(), "null" | "false" | "0" | "\"\"" | "[]" | "{}" | "0.0")
}

/// The elements of a JSON array as text; none where it is no array.
pub(crate) fn elements(json: &RawJson) -> Vec<RawJson> {
    if json.as_str().starts_with('[') { json.decode().unwrap_or_default() } else { Vec::new() }
}

/// How deep messages are looked for in what a chain returned.
const DEPTH: usize = 6;

/// Every message in what a chain or a tool returned: a message, a state with `messages`, a command
/// whose update has some, pairs, or lists of these.
pub(crate) fn messages_in(json: &RawJson) -> Vec<Message> {
    let mut found = Vec::new();
    collect(json, DEPTH, &mut found);
    found
}

fn collect(json: &RawJson, depth: usize, found: &mut Vec<Message>) {
    if depth == 0 {
        return;
    }
    if let Some(message) = Message::parse(json) {
        found.push(message);
    } else if let Some(object) = RawObject::parse(json) {
        for name in ["messages", "update"] {
            if let Some(inner) = object.get(name) {
                collect(inner, depth - 1, found);
            }
        }
    } else {
        for element in elements(json) {
            collect(&element, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn json(text: &str) -> RawJson {
        RawJson::parse("test", text).unwrap()
    }

    #[test]
    fn fields_keep_their_text() {
        let text = "{\"content\":\"caf\\udce9\",\"n\":1e400,\"id\":null}";
        let object = RawObject::parse(&json(text)).unwrap();
        assert_eq!(object.to_json().as_str(), text);
        assert_eq!(object.string("content").as_deref(), Some("caf\u{fffd}"));
        assert_eq!(object.string("id"), None);
    }

    #[test]
    fn messages_are_found_in_every_shape_of_output() {
        let message = r#"{"type":"tool","content":"x","tool_call_id":"c"}"#;
        for text in [
            message.to_owned(),
            format!(r#"{{"messages":[{message}]}}"#),
            format!(r#"[{{"__type__":"Command","update":{{"messages":[{message}]}}}}]"#),
            format!(r#"{{"update":[["messages",[{message}]]]}}"#),
        ] {
            let found = messages_in(&json(&text));
            assert_eq!(found.iter().map(|m| m.tool_call_id().unwrap()).collect::<Vec<_>>(), ["c"], "{text}");
        }
        for text in ["null", "3", "\"x\"", "{}", "[[[[[[[[[1]]]]]]]]]"] {
            assert!(messages_in(&json(text)).is_empty(), "{text}");
        }
    }

    #[test]
    fn hidden_input_counts_only_where_it_answers_a_question() {
        let human = |rest: &str| {
            Message::parse(&json(&format!(r#"{{"type":"human","content":"x",{rest}}}"#))).unwrap().is_input()
        };
        assert!(human(r#""name":null"#));
        assert!(!human(r#""name":"summary""#));
        assert!(!human(r#""additional_kwargs":{"hide_from_ui":true}"#));
        assert!(human(
            r#""additional_kwargs":{"hide_from_ui":true,"human_input_response":{"source":"ask_clarification"}}"#
        ));
    }
}
