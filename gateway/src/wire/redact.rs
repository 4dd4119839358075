//! Values that are never sent: those of keys that name secrets, wherever they are in a document.
//!
//! A document is not parsed into values and written again, for that would change how its numbers and texts are
//! spelled: it is walked through once, and only what stands after such a key is another text. The walk
//! needs no stack, however deep the document is.

use runledger_core::{Event, RawJson};

/// What stands in the place of a value.
const REDACTED: &str = "\"[redacted]\"";

/// The document with `"[redacted]"` in the place of each value whose key is one of these, at any depth. A key is
/// matched whole, without regard to case and to how it is spelled. Everything else is the same bytes.
pub(crate) fn redacted(document: &RawJson, keys: &[String]) -> RawJson {
    match redact(document.as_str(), keys) {
        Some(text) => RawJson::from_stored(&text),
        None => document.clone(),
    }
}

/// The event with its metadata redacted. What it says is its own: nobody but its reader knows what of it is secret.
pub(crate) fn redacted_event(event: Event, keys: &[String]) -> Event {
    let metadata = event.metadata.map(|metadata| redacted(&metadata, keys));
    Event { metadata, ..event }
}

/// `None` where there is nothing to redact.
fn redact(text: &str, keys: &[String]) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out: Option<String> = None;
    let (mut at, mut kept) = (0, 0);
    while let Some(found) = find(bytes, at, b'"') {
        let end = string_end(bytes, found);
        at = end;
        let colon = spaces_end(bytes, end);
        // Only a key stands before a colon.
        if bytes.get(colon) != Some(&b':') || !is_one_of(text.get(found..end), keys) {
            continue;
        }
        let value = spaces_end(bytes, colon + 1);
        at = value_end(bytes, value);
        let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
        out.push_str(text.get(kept..value).unwrap_or_default());
        out.push_str(REDACTED);
        kept = at;
    }
    let mut out = out?;
    out.push_str(text.get(kept..).unwrap_or_default());
    Some(out)
}

fn is_one_of(key: Option<&str>, keys: &[String]) -> bool {
    let Some(key) = key else { return false };
    // Nearly all are plain, and are not worth a copy.
    let is_plain = |text: &str| text.is_ascii() && !text.contains('\\');
    let bare = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    if is_plain(bare) && keys.iter().all(|secret| secret.is_ascii()) {
        return keys.iter().any(|secret| secret.eq_ignore_ascii_case(bare));
    }
    let Ok(key) = serde_json::from_str::<String>(key) else { return false };
    let key = key.to_lowercase();
    keys.iter().any(|secret| secret.to_lowercase() == key)
}

fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|byte| *byte == wanted).map(|place| from + place)
}

fn spaces_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// Where the string ends that begins here.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// Where the value ends that begins here.
fn value_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn keys() -> Vec<String> {
        ["token", "api_key", "Größe"].map(str::to_owned).to_vec()
    }

    fn text(document: &str) -> String {
        redacted(&RawJson::from_stored(document), &keys()).as_str().to_owned()
    }

    #[test]
    fn values_of_secret_keys_are_not_sent_and_all_else_stays_byte_for_byte() {
        for (document, sent) in [
            (r#"{"token": "t" , "n":1e400}"#, r#"{"token": "[redacted]" , "n":1e400}"#),
            (r#"{"a":[{"API_KEY":{"b":["]","}"]}}]}"#, r#"{"a":[{"API_KEY":"[redacted]"}]}"#),
            (r#"{"to\u006ben":-1.50,"token":null}"#, r#"{"to\u006ben":"[redacted]","token":"[redacted]"}"#),
            (r#"{"GRÖSSE":1,"grÖße":[[]]}"#, r#"{"GRÖSSE":1,"grÖße":"[redacted]"}"#),
            (
                r#"{"tokens":1,"x":"token","y":["token",":"]}"#,
                r#"{"tokens":1,"x":"token","y":["token",":"]}"#,
            ),
            (r#"{"x":"\"token\":1","token" :true }"#, r#"{"x":"\"token\":1","token" :"[redacted]" }"#),
            (r#""token""#, r#""token""#),
            ("{}", "{}"),
        ] {
            assert_eq!(text(document), sent);
        }
    }

    #[test]
    fn a_deep_document_is_no_deeper_for_it() {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        let document = format!("{{\"token\":{open}{close},\"a\":{open}{{\"token\":1}}{close}}}");
        let sent = format!("{{\"token\":\"[redacted]\",\"a\":{open}{{\"token\":\"[redacted]\"}}{close}}}");
        assert!(text(&document) == sent);
    }

    /// The same by way of values, which is how it is meant.
    fn meant(value: Value) -> Value {
        let secret = |key: &str| keys().iter().any(|secret| secret.to_lowercase() == key.to_lowercase());
        match value {
            Value::Object(fields) => {
                let shown = |(key, value): (String, Value)| {
                    let value = if secret(&key) { json!("[redacted]") } else { meant(value) };
                    (key, value)
                };
                Value::Object(fields.into_iter().map(shown).collect::<Map<_, _>>())
            }
            Value::Array(elements) => elements.into_iter().map(meant).collect(),
            other => other,
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("token".to_owned()),
            Just("Api_Key".to_owned()),
            Just("größe".to_owned()),
            "[a-c\"\\\\:{}\\[\\], ]{0,6}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[token\"\\\\:{}\\[\\], ]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((key.clone(), inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_is_meant_however_a_document_is_spelled(value in document(), pretty in any::<bool>()) {
            let written = if pretty { format!("{value:#}") } else { value.to_string() };
            let sent = text(&written);
            prop_assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), meant(value));
            prop_assert_eq!(text(&sent), sent);
        }

        #[test]
        fn no_text_panics(written in "[token\"\\\\:{}\\[\\], é]{0,40}") {
            let _ = text(&written);
        }
    }
}
