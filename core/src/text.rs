//! Text safety: what databases refuse, and what is too long.
//!
//! PostgreSQL takes neither NUL in text nor `\u0000` or a lone surrogate in jsonb; SQLite takes
//! all of them. Here is the one place where such text is made safe, so that every backend stores
//! and answers the same.

use std::borrow::Cow;

use crate::{Error, RawJson, Result};

/// The most characters kept of a run's first human and last AI message.
pub const SUMMARY_CHARS: usize = 2_000;

/// Marks an escaped code unit in a jsonb column: this character, then four hexadecimal digits.
///
/// A private-use character, so that text hardly ever holds it; where it does, it is escaped too.
const JSONB_ESCAPE: char = '\u{f5e7}';

/// Makes an error or summary text storable everywhere: NUL becomes U+FFFD, and the text says how many did.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    match text.matches('\0').count() {
        0 => Cow::Borrowed(text),
        count => Cow::Owned(format!(
            "{} [{count} NUL {} replaced]",
            text.replace('\0', "\u{fffd}"),
            if count == 1 { "character" } else { "characters" },
        )),
    }
}

/// The summary of a message: white space at both ends dropped, then the first
/// [`SUMMARY_CHARS`] characters; `None` where nothing is left.
///
/// White space is what Python's `str.strip` takes (U+001C to U+001F included), because the
/// summaries of imported runs were made by it.
#[must_use]
pub fn summary(text: &str) -> Option<String> {
    let strip = |c: char| c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}');
    let stripped = text.trim_matches(strip);
    if stripped.is_empty() {
        return None;
    }
    let kept: String = stripped.chars().take(SUMMARY_CHARS).collect();
    Some(clean(&kept).into_owned())
}

/// A short name for a long text: 32 hexadecimal digits (FNV-1a, 128 bits), the same everywhere
/// and for ever. It tells texts apart; it proves nothing against somebody who wants a collision.
#[must_use]
pub fn fingerprint(text: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

/// Cuts a JSON document to `cap` bytes: its first and last parts, as valid JSON.
///
/// A string stays a string with the middle left out. Anything else becomes
/// `{"head": "...", "tail": "..."}`, both being pieces of the document's text.
/// `None` where the document fits. What was cut fits, so that a copy of it is not cut again, if `cap` has room for
/// what stands around the parts, about 50 bytes.
#[must_use]
pub fn truncate_json(document: &str, cap: usize) -> Option<String> {
    if document.len() <= cap {
        return None;
    }
    if let Some(text) = document.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // As it is spelled: what is escaped there stays so.
        let cost = |unit: &str| unit.len();
        let cut = |head: &str, left_out: usize, tail: &str| {
            format!("\"{head}\\n[{left_out} bytes left out]\\n{tail}\"")
        };
        // No number of bytes left out is longer than that of all of them.
        let around = cut("", text.len(), "").len();
        let (head, tail) = ends(text, cap.saturating_sub(around), units, cost);
        return Some(cut(head, text.len() - head.len() - tail.len(), tail));
    }
    let characters = |text: &str| text.chars().map(char::len_utf8).collect();
    let around = r#"{"head":"","tail":""}"#.len();
    let (head, tail) = ends(document, cap.saturating_sub(around), characters, escaped_len);
    Some(serde_json::json!({ "head": head, "tail": tail }).to_string())
}

/// The first units of a text that cost three quarters of `cap`, and the last that cost a quarter.
fn ends(
    text: &str,
    cap: usize,
    units: impl Fn(&str) -> Vec<usize>,
    cost: impl Fn(&str) -> usize,
) -> (&str, &str) {
    let lengths = units(text);
    let (mut head, mut spent) = (0, 0);
    for length in &lengths {
        spent += cost(&text[head..head + length]);
        if spent > cap - cap / 4 {
            break;
        }
        head += length;
    }
    let (mut tail, mut spent) = (text.len(), 0);
    for length in lengths.iter().rev() {
        spent += cost(&text[tail - length..tail]);
        if spent > cap / 4 || tail - length < head {
            break;
        }
        tail -= length;
    }
    (&text[..head], &text[tail..])
}

/// The lengths of what stands for one character each in the text of a JSON string.
fn units(text: &str) -> Vec<usize> {
    let mut lengths = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\\' => escape_at(rest)
                .map_or_else(|| 1 + rest[1..].chars().next().map_or(0, char::len_utf8), |(_, length)| length),
            c => c.len_utf8(),
        };
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

/// How many bytes a character takes in a JSON string.
fn escaped_len(character: &str) -> usize {
    match character {
        "\"" | "\\" | "\n" | "\r" | "\t" | "\u{8}" | "\u{c}" => 2,
        control if control.chars().all(|c| c < ' ') => 6,
        other => other.len(),
    }
}

/// Refuses text with NUL, which PostgreSQL takes nowhere.
pub(crate) fn require_no_nul(field: &'static str, text: &str) -> Result<()> {
    if text.contains('\0') { Err(Error::invalid(field, "contains NUL")) } else { Ok(()) }
}

/// How deep a document in a jsonb column may be nested, and how far from 1 its numbers may be, in
/// digits: well within what databases and parsers take.
const JSONB_DEPTH: usize = 100;
const JSONB_DIGITS: usize = 1_000;

/// Refuses a document that is no object, or that a jsonb column may not take.
pub(crate) fn require_jsonb(field: &'static str, document: &RawJson) -> Result<()> {
    crate::record::require_object(field, document)?;
    let (mut depth, mut in_string, mut escaped, mut digits, mut exponent) = (0_usize, false, false, 0, None);
    for byte in document.as_str().bytes() {
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match (byte, exponent) {
            (b'0'..=b'9', Some(number)) => {
                exponent = Some(JSONB_DIGITS.saturating_add(1).min(number * 10 + usize::from(byte - b'0')));
            }
            (b'0'..=b'9', None) => digits += 1,
            (b'e' | b'E', None) if digits > 0 => exponent = Some(0),
            (b'.' | b'+' | b'-', _) => {}
            _ => (digits, exponent) = (0, None),
        }
        if digits > JSONB_DIGITS || exponent.is_some_and(|exponent| exponent > JSONB_DIGITS) {
            return Err(Error::invalid(field, format!("has a number of more than {JSONB_DIGITS} digits")));
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSONB_DEPTH {
            return Err(Error::invalid(field, format!("is nested more than {JSONB_DEPTH} deep")));
        }
    }
    Ok(())
}

/// Escapes a JSON document for a jsonb column: NUL, lone surrogates and the escape character
/// itself, in every string and key, become the escape character and four digits.
/// [`unescape_jsonb`] undoes it.
#[must_use]
pub fn escape_jsonb(document: &str) -> Cow<'_, str> {
    if !document.contains("\\u") && !document.contains(JSONB_ESCAPE) {
        return Cow::Borrowed(document);
    }
    rewrite(document, |unit| match unit {
        Unit::Lone(code) => Some(escaped(code)),
        Unit::Escape(c) if c == '\0' || c == JSONB_ESCAPE => Some(escaped(c as u32)),
        Unit::Literal(JSONB_ESCAPE) => Some(escaped(JSONB_ESCAPE as u32)),
        Unit::Escape(_) | Unit::Literal(_) => None,
    })
}

fn escaped(code: u32) -> String {
    format!("{JSONB_ESCAPE}{code:04x}")
}

/// Undoes [`escape_jsonb`] in a document that a jsonb column returned.
#[must_use]
pub fn unescape_jsonb(document: &str) -> Cow<'_, str> {
    if !document.contains(JSONB_ESCAPE) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len());
    let mut pieces = document.split(JSONB_ESCAPE);
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match piece.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(digits) => {
                out.push_str("\\u");
                out.push_str(digits);
                out.push_str(&piece[4..]);
            }
            // Not ours: somebody else wrote the column. Kept as it is.
            None => {
                out.push(JSONB_ESCAPE);
                out.push_str(piece);
            }
        }
    }
    Cow::Owned(out)
}

/// A JSON document with U+FFFD in place of each lone surrogate escape.
#[must_use]
pub fn replace_lone_surrogates(document: &str) -> Cow<'_, str> {
    if !document.contains("\\u") {
        return Cow::Borrowed(document);
    }
    rewrite(document, |unit| match unit {
        Unit::Lone(_) => Some("\u{fffd}".to_owned()),
        Unit::Escape(_) | Unit::Literal(_) => None,
    })
}

/// One character of a JSON document's text, as a rewriting function sees it.
enum Unit {
    /// A `\uXXXX` escape, or a pair of them, that stands for this character.
    Escape(char),
    /// A `\uXXXX` escape of half a surrogate pair.
    Lone(u32),
    /// A character that stands for itself.
    Literal(char),
}

/// Walks the document and replaces each unit for which `replace` gives text.
/// A backslash occurs only inside strings in JSON, so no further parsing is needed.
fn rewrite(document: &str, mut replace: impl FnMut(Unit) -> Option<String>) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(c) = document[at..].chars().next() {
        let (unit, len) = if c == '\\' {
            match escape_at(&document[at..]) {
                Some(found) => found,
                None => {
                    // A two-character escape (`\\`, `\"`, `\n`): step over both.
                    at += 1 + document[at + 1..].chars().next().map_or(0, char::len_utf8);
                    continue;
                }
            }
        } else {
            (Unit::Literal(c), c.len_utf8())
        };
        if let Some(text) = replace(unit) {
            out.push_str(&document[copied..at]);
            out.push_str(&text);
            copied = at + len;
        }
        at += len;
    }
    if copied == 0 {
        return Cow::Borrowed(document);
    }
    out.push_str(&document[copied..]);
    Cow::Owned(out)
}

/// The `\uXXXX` escape, or the pair, that `text` starts with, and its length in bytes.
fn escape_at(text: &str) -> Option<(Unit, usize)> {
    let first = code_unit(text)?;
    match first {
        0xd800..0xdc00 => match text.get(6..).and_then(code_unit) {
            Some(second @ 0xdc00..0xe000) => {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                Some((Unit::Escape(char::from_u32(code)?), 12))
            }
            _ => Some((Unit::Lone(first), 6)),
        },
        0xdc00..0xe000 => Some((Unit::Lone(first), 6)),
        _ => Some((Unit::Escape(char::from_u32(first)?), 6)),
    }
}

fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn nul_is_replaced_and_said() {
        assert_eq!(clean("plain"), "plain");
        assert_eq!(clean("a\0b\0"), "a\u{fffd}b\u{fffd} [2 NUL characters replaced]");
    }

    #[test]
    fn summaries_count_characters_and_strip_as_python_does() {
        assert_eq!(summary(" \u{1c}\n "), None);
        assert_eq!(summary(" \u{1f}hé\u{200b} ").as_deref(), Some("hé\u{200b}"));
        assert_eq!(summary(&"é".repeat(3_000)).map(|s| s.chars().count()), Some(2_000));
    }

    #[test]
    fn jsonb_escape_covers_what_postgresql_refuses() {
        let document = "{\"\\u0000k\":[\"\\udce9 \\ud83d\\ude00 \\\\u0000 \u{f5e7} \\uf5e7\"]}";
        let safe = escape_jsonb(document);
        assert_eq!(
            safe,
            "{\"\u{f5e7}0000k\":[\"\u{f5e7}dce9 \\ud83d\\ude00 \\\\u0000 \u{f5e7}f5e7 \u{f5e7}f5e7\"]}"
        );
        assert_eq!(
            unescape_jsonb(&safe),
            "{\"\\u0000k\":[\"\\udce9 \\ud83d\\ude00 \\\\u0000 \\uf5e7 \\uf5e7\"]}"
        );
    }

    #[test]
    fn truncated_documents_are_json_with_both_ends() {
        assert_eq!(truncate_json("\"short\"", 10), None);
        let string = serde_json::Value::from(format!("A{}Z", "é".repeat(9_000))).to_string();
        let cut: String = serde_json::from_str(&truncate_json(&string, 1_000).unwrap()).unwrap();
        assert!(cut.starts_with('A') && cut.ends_with('Z') && cut.len() > 900, "{}", cut.len());
        let object = serde_json::json!({ "key": "x".repeat(9_000) }).to_string();
        let cut: serde_json::Value = serde_json::from_str(&truncate_json(&object, 1_000).unwrap()).unwrap();
        assert!(cut["head"].as_str().unwrap().starts_with("{\"key\":\"xx"));
        assert!(cut["tail"].as_str().unwrap().ends_with("xx\"}"));
    }

    /// A document of strings, spelled in every way that JSON allows: half pairs, escapes of what needs
    /// none, and text that looks like an escape.
    fn spelled() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\\u0000".to_owned()),
            Just("\\ud83d".to_owned()),
            Just("\\ude00".to_owned()),
            Just("\\uF5E7".to_owned()),
            Just("\u{f5e7}".to_owned()),
            Just("\u{f5e7}0000".to_owned()),
            Just("\\\\u0000".to_owned()),
            Just("\\\"".to_owned()),
            Just("\\\\".to_owned()),
            Just("\\n".to_owned()),
            "[a-f0-9u]{0,4}",
            "[^\"\\\\\\x00-\\x1f]{0,6}",
        ];
        let string =
            prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
        prop_oneof![
            string.clone(),
            prop::collection::vec(string.clone(), 0..6)
                .prop_map(|strings| format!("[{}]", strings.join(","))),
            (string.clone(), string).prop_map(|(key, value)| format!("{{{key}:[{value},12]}}")),
        ]
    }

    proptest! {
        #[test]
        fn jsonb_escape_is_reversible(strings in prop::collection::vec("[\u{0}\u{f5e7}\\\\\"u0-9a-f\\PC]{0,20}", 0..4)) {
            let document = serde_json::to_string(&strings).unwrap();
            let safe = escape_jsonb(&document).into_owned();
            let parsed: Vec<String> = serde_json::from_str(&safe).unwrap();
            prop_assert!(parsed.iter().all(|s| !s.contains('\0')));
            let back: Vec<String> = serde_json::from_str(&unescape_jsonb(&safe)).unwrap();
            prop_assert_eq!(back, strings);
        }

        /// A document comes back as JSON, and grows by no more than what an escape adds to a character.
        #[test]
        fn jsonb_escape_is_reversible_however_a_string_is_spelled(document in spelled()) {
            let safe = escape_jsonb(&document);
            prop_assert!(safe.len() <= document.len() * 7 / 3);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&safe).is_ok(), "{}", safe);
            let back = unescape_jsonb(&safe).into_owned();
            prop_assert!(back.len() <= document.len() * 2);
            // Half of a pair is no character to a parser; both spellings must be the same to it otherwise.
            let parsed = |text: &str| -> serde_json::Value {
                serde_json::from_str(&replace_lone_surrogates(text)).unwrap()
            };
            prop_assert_eq!(parsed(&back), parsed(&document));
            // What was escaped once needs nothing more after its return.
            prop_assert_eq!(escape_jsonb(&back).into_owned(), safe.into_owned());
        }

        /// What is cut is JSON still, and fits: it is not cut again.
        #[test]
        fn what_is_cut_is_a_document_that_fits(document in spelled(), cap in 0_usize..300) {
            match truncate_json(&document, cap) {
                None => prop_assert!(document.len() <= cap),
                Some(cut) => {
                    prop_assert!(document.len() > cap);
                    prop_assert!(cut.len() <= cap.max(60), "{} bytes: {}", cut.len(), cut);
                    prop_assert!(RawJson::parse("content", &cut).is_ok(), "{}", cut);
                }
            }
        }

        /// Escaping twice and undoing it twice is as good as once: text that holds the escape already is safe.
        #[test]
        fn what_is_no_document_is_left_as_safe(text in "[\u{f5e7}\\\\u0-9a-fdD\"\\PC]{0,60}", cap in 0usize..64) {
            let escaped = escape_jsonb(&text);
            prop_assert!(escaped.len() <= text.len() * 7 / 3);
            let _ = unescape_jsonb(&escaped);
            let _ = replace_lone_surrogates(&text);
            prop_assert!(unescape_jsonb(&text).len() <= text.len() * 2);
            let _ = truncate_json(&text, cap);
            prop_assert!(summary(&text).is_none_or(|kept| kept.len() <= text.len() * 4 + 40));
        }

        #[test]
        fn rewriting_never_panics(text in "\\PC*", cap in 0usize..64) {
            let _ = escape_jsonb(&text);
            let _ = unescape_jsonb(&text);
            let _ = replace_lone_surrogates(&text);
            let _ = truncate_json(&text, cap);
        }
    }
}
