//! Documents: the text of an event, taken out of its JSON.

use serde_json::{Map, Value};

use crate::RawJson;
use crate::record::{Category, ItemKind, ItemStatus};

/// How much of an event's text is searched, in bytes: the first so many, cut between characters.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// What was found in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extract {
    /// The text, at most [`MAX_TEXT_BYTES`], without NUL.
    Text(String),
    /// There is none.
    Nothing,
    /// The payload cannot be read.
    Unreadable,
}

/// Whether an event is one whose text is searched: a message, or the completion of an item, and no trace.
/// `status` is that of the item it records.
#[must_use]
pub fn is_searched(category: &Category, status: Option<&ItemStatus>) -> bool {
    match status {
        Some(status) => *status != ItemStatus::InProgress && *category != Category::Trace,
        None => *category == Category::Message,
    }
}

/// Takes the text out of a payload, by the kind of the item that it is of: what people, models and tools said,
/// which command ran, which files changed. Keys, data: URLs and what is spelled in base64 are no text; of what
/// is stored apart, how it begins.
#[must_use]
pub fn extract(kind: Option<&ItemKind>, content: &RawJson) -> Extract {
    let Ok(payload) = content.decode_lossy::<Value>() else { return Extract::Unreadable };
    let mut pieces = Pieces::default();
    match &payload {
        Value::Object(fields) => of_fields(kind, fields, &mut pieces),
        Value::String(_) | Value::Array(_) => pieces.take(&payload),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    if pieces.text.is_empty() { Extract::Nothing } else { Extract::Text(pieces.text) }
}

/// The fields of a payload in which a kind has its text.
fn of_fields(kind: Option<&ItemKind>, fields: &Map<String, Value>, pieces: &mut Pieces) {
    let detail = |name: &str| fields.get("detail").and_then(|detail| detail.get(name));
    match kind {
        // An application's own message, and what another system has beyond ours.
        None | Some(ItemKind::Extension { .. } | ItemKind::Unknown(_)) => match fields.get("content") {
            Some(content) => pieces.take(content),
            None => pieces.take_values(fields),
        },
        Some(
            ItemKind::UserMessage
            | ItemKind::AgentMessage
            | ItemKind::ContextCompaction
            | ItemKind::HookPrompt,
        ) => pieces.take_of(fields, &["content"]),
        Some(ItemKind::Reasoning) => pieces.take_of(fields, &["text", "raw"]),
        Some(ItemKind::Plan) => pieces.take_of(fields, &["text"]),
        Some(ItemKind::SubAgentActivity) => pieces.take_of(fields, &["description", "detail"]),
        Some(ItemKind::ReviewEntered) => pieces.take_of(fields, &["hint"]),
        Some(ItemKind::ReviewExited) => pieces.take_of(fields, &["output"]),
        Some(
            kind @ (ItemKind::CommandExecution
            | ItemKind::FileChange
            | ItemKind::McpToolCall
            | ItemKind::ToolCall
            | ItemKind::WebSearch
            | ItemKind::ImageView
            | ItemKind::ImageGeneration
            | ItemKind::CollabAgentCall),
        ) => {
            if *kind == ItemKind::FileChange
                && let Some(Value::Object(changes)) = detail("changes")
            {
                for (path, edit) in changes {
                    pieces.push(path);
                    pieces.take(edit);
                }
            }
            for name in ["command", "query", "prompt", "path", "revised_prompt"] {
                pieces.take_some(detail(name));
            }
            let before = pieces.text.len();
            pieces.take_of(fields, &["content"]);
            // What was printed is the content too, unless it is kept apart.
            for name in ["formatted_output", "structured_content", "stdout", "stderr"] {
                if pieces.text.len() == before || name == "stderr" {
                    pieces.take_some(detail(name));
                }
            }
            pieces.take_some(fields.get("error").and_then(|error| error.get("message")));
        }
    }
}

/// Members that are no text for people: what something is, and what proves it.
const LEFT_OUT: [&str; 8] =
    ["type", "id", "call_id", "tool_call_id", "media_type", "mimeType", "signature", "encrypted_content"];

/// Text in pieces, each on lines of its own.
#[derive(Default)]
struct Pieces {
    text: String,
}

impl Pieces {
    fn take_of(&mut self, fields: &Map<String, Value>, names: &[&str]) {
        for name in names {
            self.take_some(fields.get(*name));
        }
    }

    fn take_some(&mut self, value: Option<&Value>) {
        if let Some(value) = value {
            self.take(value);
        }
    }

    /// Takes every text that there is in a value.
    fn take(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.push(text),
            Value::Array(values) => values.iter().for_each(|value| self.take(value)),
            Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
                Some("text" | "input_text" | "output_text") => self.take_some(fields.get("text")),
                _ if is_blob(fields) => self.take_some(fields.get("preview")),
                _ => self.take_values(fields),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn take_values(&mut self, fields: &Map<String, Value>) {
        for (name, value) in fields {
            if !LEFT_OUT.contains(&name.as_str()) {
                self.take(value);
            }
        }
    }

    fn push(&mut self, text: &str) {
        let gap = usize::from(!self.text.is_empty());
        let room = MAX_TEXT_BYTES.saturating_sub(self.text.len() + gap);
        if text.trim().is_empty() || is_encoded(text) || room == 0 {
            return;
        }
        if gap > 0 {
            self.text.push('\n');
        }
        // PostgreSQL takes no NUL, and what takes its place is longer.
        for c in text.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }) {
            if self.text.len() + c.len_utf8() > MAX_TEXT_BYTES {
                break;
            }
            self.text.push(c);
        }
    }
}

/// Whether the object stands for a part that is stored apart, as [`BlobRef`](crate::BlobRef) does.
fn is_blob(fields: &Map<String, Value>) -> bool {
    fields.get("blob").and_then(Value::as_str).is_some_and(|hash| hash.starts_with("sha256:"))
        && fields.contains_key("bytes")
}

/// Texts shorter than this may be words, whatever they look like.
const ENCODED_BYTES: usize = 256;

/// A line of base64 has at least this many characters, but for the last.
const ENCODED_LINE: usize = 60;

/// Whether a text stands for bytes: a data: URL, or base64.
fn is_encoded(text: &str) -> bool {
    let text = text.trim();
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
        && !text[..text.find(',').unwrap_or(0)].contains(char::is_whitespace)
        && text.contains(',')
    {
        return true;
    }
    let is_digit =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    text.len() >= ENCODED_BYTES
        && text.lines().all(|line| line.bytes().all(is_digit))
        && text.lines().rev().skip(1).all(|line| line.len() >= ENCODED_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(kind: ItemKind, payload: Value) -> String {
        match extract(Some(&kind), &RawJson::from(payload)) {
            Extract::Text(text) => text,
            Extract::Nothing => "(nothing)".to_owned(),
            Extract::Unreadable => "(unreadable)".to_owned(),
        }
    }

    #[test]
    fn each_kind_has_its_text() {
        let blob = json!({"blob": format!("sha256:{}", "0".repeat(64)), "bytes": 99, "media_type": "text/plain", "preview": "it begins"});
        for (kind, payload, expected) in [
            (ItemKind::UserMessage, json!({"content": "hello", "client_id": "no"}), "hello"),
            (
                ItemKind::UserMessage,
                json!({"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "b"]}),
                "a\nb",
            ),
            (
                ItemKind::AgentMessage,
                json!({"content": "said", "model": "no", "tool_calls": [{"name": "no", "args": {"no": "no"}}]}),
                "said",
            ),
            (ItemKind::AgentMessage, json!({"content": ""}), "(nothing)"),
            (ItemKind::Reasoning, json!({"text": "so", "raw": ["and", "so"]}), "so\nand\nso"),
            (ItemKind::Plan, json!({"text": "first this"}), "first this"),
            (
                ItemKind::CommandExecution,
                json!({"name": "shell", "args": {}, "content": "out", "detail": {"command": ["ls", "-l"], "cwd": "/", "exit_code": 0, "stdout": "out"}}),
                "ls\n-l\nout",
            ),
            (
                ItemKind::CommandExecution,
                json!({"name": "shell", "args": {}, "detail": {"stdout": "out", "stderr": "err"}}),
                "out\nerr",
            ),
            (
                ItemKind::FileChange,
                json!({"name": "edit", "args": {}, "detail": {"changes": {"src/a.rs": {"type": "update", "unified_diff": "+x"}}}}),
                "src/a.rs\n+x",
            ),
            (
                ItemKind::ToolCall,
                json!({"name": "no", "args": {"q": "no"}, "content": {"city": "Paris", "days": [{"sky": "grey"}], "n": 7}}),
                "Paris\ngrey",
            ),
            (
                ItemKind::ToolCall,
                json!({"name": "no", "args": {}, "error": {"type": "no", "message": "it broke"}}),
                "it broke",
            ),
            (ItemKind::ToolCall, json!({"name": "no", "args": {}, "content": blob}), "it begins"),
            (
                ItemKind::WebSearch,
                json!({"name": "no", "args": {}, "detail": {"query": "weather"}}),
                "weather",
            ),
            (ItemKind::ReviewEntered, json!({"hint": "the change"}), "the change"),
            (ItemKind::from_stored("acme.note"), json!({"a": "one", "type": "no"}), "one"),
            (ItemKind::from_stored("newer"), json!({"content": "one", "b": "no"}), "one"),
        ] {
            assert_eq!(text(kind.clone(), payload.clone()), expected, "{kind} {payload}");
        }
        let of = |text: &str| extract(None, &RawJson::from_stored(text));
        assert_eq!(of("\"plain\""), Extract::Text("plain".to_owned()));
        assert_eq!(of("\"a\\u0000b\\udce9\""), Extract::Text("a\u{fffd}b\u{fffd}".to_owned()));
        assert_eq!(of("17"), Extract::Nothing);
        assert_eq!(of("no JSON"), Extract::Unreadable);
    }

    #[test]
    fn what_stands_for_bytes_is_no_text() {
        let base64 = "QUJD".repeat(100);
        let lines = format!("{}\n{}\n{}\nQUI=", "A".repeat(100), "B".repeat(100), "C".repeat(100));
        let several = format!("{lines}\n{lines}");
        let words = "lines\nof\nshort\nwords\n".repeat(50);
        for (piece, is) in [
            ("data:text/plain,hello", true),
            ("DATA:image/png;base64,AAAA", true),
            ("data: we have none, sorry", false),
            (base64.as_str(), true),
            (&lines, true),
            // Its last line is short, and then it goes on.
            (&several, false),
            (&"ab ".repeat(200), false),
            (&words, false),
            ("QUJD", false),
        ] {
            assert_eq!(is_encoded(piece), is, "{piece}");
        }
    }

    #[test]
    fn completions_and_messages_are_searched() {
        for (category, status, is) in [
            (Category::Message, None, true),
            (Category::Lifecycle, None, false),
            (Category::Lifecycle, Some(ItemStatus::InProgress), false),
            (Category::Lifecycle, Some(ItemStatus::Interrupted), true),
            (Category::Reasoning, Some(ItemStatus::Completed), true),
            (Category::Trace, Some(ItemStatus::Completed), false),
        ] {
            assert_eq!(is_searched(&category, status.as_ref()), is, "{category:?} {status:?}");
        }
    }

    proptest! {
        /// Text is cut between characters, and no larger than it may be.
        #[test]
        fn a_long_text_is_cut(pieces in proptest::collection::vec("[a-z\\x00日]{1,9}", 1..4), times in 1_usize..40_000) {
            let payload = Value::from(pieces.iter().map(|piece| format!("{piece} ").repeat(times)).collect::<Vec<_>>());
            let Extract::Text(text) = extract(None, &RawJson::from(payload)) else { panic!("there is text") };
            prop_assert!(text.len() <= MAX_TEXT_BYTES && !text.contains('\0'));
        }
    }
}
