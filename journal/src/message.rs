//! Messages as runtimes dump them, read without trusting their shape.
//!
//! A message is kept as its fields' raw text; only what a decision needs is parsed. So lone
//! surrogates, huge numbers and blobs survive in what is stored, and replacement characters
//! occur in summaries only.

use runledger_core::{ContentText, RawJson, RawObject, text};

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
        for element in json.elements() {
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
