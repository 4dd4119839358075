//! Payloads as raw JSON: carried as text, parsed only when somebody asks.
//!
//! A payload is stored and returned byte for byte. What serde makes of numbers, key order or
//! duplicate keys (and what `serde_json/arbitrary_precision` would change) never touches it.
//! Do not put a [`RawJson`] under serde `flatten` or an untagged enum: those buffer values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Decimal, Error, Result};

/// One JSON document as text. Cheap to clone; equality is of text.
///
/// Escapes are kept as written, so a lone surrogate (`"\udce9"`), which no Rust string can hold,
/// survives; [`RawJson::decode`] refuses it with an error, [`RawJson::decode_lossy`] replaces it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// Takes text that must be exactly one JSON document; surrounding white space is dropped.
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(error) => Err(Error::invalid(field, format!("is not one JSON document: {error}"))),
        }
    }

    /// Takes text that a store returns as it stored it. It is not checked again here;
    /// text that is not JSON shows itself as [`Error::Corrupt`] when it is decoded.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Serialises a value; [`Error::InvalidInput`] where it has no JSON form (a map with keys that are no strings).
    pub fn encode<T: Serialize + ?Sized>(field: &'static str, value: &T) -> Result<Self> {
        serde_json::to_string(value)
            .map(|text| Self(text.into()))
            .map_err(|error| Error::invalid(field, format!("has no JSON form: {error}")))
    }

    /// A JSON string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self(spelled(text).into())
    }

    /// The document `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// The document `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// The document's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the document is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether both are the same JSON value: the order of keys, white space, and how numbers and characters
    /// are spelled make no difference; of a key that is repeated, the last one counts. Where one of them
    /// cannot be read, or is nested deeper than serde_json reads, only the same text is the same.
    #[must_use]
    pub fn is_same_value(&self, other: &Self) -> bool {
        self == other || same_value(self.as_str(), other.as_str()).unwrap_or(false)
    }

    /// Parses the document.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| Error::Corrupt {
            what: "JSON document",
            reason: error.to_string(),
            source: Some(Box::new(error)),
        })
    }

    /// Parses the document, with U+FFFD in place of each lone surrogate.
    pub fn decode_lossy<T: DeserializeOwned>(&self) -> Result<T> {
        match self.decode() {
            Ok(value) => Ok(value),
            Err(error) => match crate::text::replace_lone_surrogates(&self.0) {
                std::borrow::Cow::Borrowed(_) => Err(error),
                std::borrow::Cow::Owned(text) => Self(text.into()).decode(),
            },
        }
    }
}

/// A text as the JSON string that we write.
pub(crate) fn spelled(text: &str) -> String {
    // Text always has a JSON form.
    serde_json::to_string(text).unwrap_or_default()
}

/// Writes a text as [`spelled`] gives it.
pub(crate) fn write_spelled(text: &str, out: &mut String) {
    // Names of fields, most of what comes here, have nothing to escape.
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&spelled(text));
    }
}

/// How deep the one spelling of a document is nested at most.
const CANONICAL_DEPTH: usize = 60;

/// How many digits a number may have in it, and how far its power of ten may be from 0.
const CANONICAL_DIGITS: usize = 1_000;

/// The most zeros that are written out between a number's digits and its decimal point.
const WRITTEN_ZEROS: i64 = 20;

impl RawJson {
    /// The document in the one spelling that its value has: keys in order, each once, no white space,
    /// numbers by their digits, characters as themselves. It is what a jsonb column can keep, so
    /// that what comes back from one is byte for byte what went in.
    ///
    /// What such a column may not take stands there as text: what is nested more than 60 deep, a number of
    /// more than 1,000 digits, and what is no JSON at all.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let escaped = crate::text::escape_jsonb(&self.0);
        let mut out = String::with_capacity(escaped.len());
        write_canonical(&escaped, CANONICAL_DEPTH, &mut out);
        Self(crate::text::unescape_jsonb(&out).as_ref().into())
    }
}

/// Takes a document without halves of surrogate pairs.
fn write_canonical(document: &str, depth: usize, out: &mut String) {
    if try_write_canonical(document, depth, out).is_none() {
        // As it was spelled before it was escaped; the text itself is escaped then.
        let spelled = spelled(&crate::text::unescape_jsonb(document));
        out.push_str(&crate::text::escape_jsonb(&spelled));
    }
}

/// `None`, with nothing written, where the document is to be written as text.
fn try_write_canonical(document: &str, depth: usize, out: &mut String) -> Option<()> {
    let document = document.trim_matches([' ', '\t', '\r', '\n']);
    match document.chars().next()? {
        '{' => {
            let depth = depth.checked_sub(1)?;
            let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(document).ok()?;
            out.push('{');
            for (number, (key, value)) in members.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_spelled(key, out);
                out.push(':');
                write_canonical(value.get(), depth, out);
            }
            out.push('}');
        }
        '[' => {
            let depth = depth.checked_sub(1)?;
            let elements = serde_json::from_str::<Vec<&RawValue>>(document).ok()?;
            out.push('[');
            for (number, element) in elements.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_canonical(element.get(), depth, out);
            }
            out.push(']');
        }
        '"' => {
            let text = serde_json::from_str::<String>(document).ok()?;
            write_spelled(&text, out);
        }
        '-' | '0'..='9' => out.push_str(&canonical_number(document)?),
        _ if ["true", "false", "null"].contains(&document) => out.push_str(document),
        _ => return None,
    }
    Some(())
}

fn canonical_number(number: &str) -> Option<String> {
    let Decimal { is_negative, digits, exponent } = Decimal::parse(number)?;
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let count = i64::try_from(digits.len()).ok()?;
    let most = i64::try_from(CANONICAL_DIGITS).ok()?;
    if digits.len() > CANONICAL_DIGITS || exponent.checked_abs()? > most {
        return None;
    }
    let sign = if is_negative { "-" } else { "" };
    let zeros = |zeros: i64| "0".repeat(usize::try_from(zeros).unwrap_or(0));
    Some(if (0..=WRITTEN_ZEROS).contains(&exponent) {
        format!("{sign}{digits}{}", zeros(exponent))
    } else if exponent < 0 && -exponent < count {
        let (whole, fraction) = digits.split_at(usize::try_from(count + exponent).ok()?);
        format!("{sign}{whole}.{fraction}")
    } else if exponent < 0 && -exponent - count <= WRITTEN_ZEROS {
        format!("{sign}0.{}{digits}", zeros(-exponent - count))
    } else {
        format!("{sign}{digits}e{exponent}")
    })
}

/// `None` where one of them cannot be read.
fn same_value(one: &str, other: &str) -> Option<bool> {
    if one == other {
        return Some(true);
    }
    let (first, second) = (one.trim_start().chars().next()?, other.trim_start().chars().next()?);
    let is_number = |first: char| first == '-' || first.is_ascii_digit();
    if is_number(first) && is_number(second) {
        return Some(Decimal::parse(one.trim())? == Decimal::parse(other.trim())?);
    }
    if first != second {
        return Some(false);
    }
    match first {
        '{' => {
            let read = |text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok();
            let (one, other) = (read(one)?, read(other)?);
            if !one.keys().eq(other.keys()) {
                return Some(false);
            }
            all_same(one.values().copied().zip(other.values().copied()))
        }
        '[' => {
            let read = |text| serde_json::from_str::<Vec<&RawValue>>(text).ok();
            let (one, other) = (read(one)?, read(other)?);
            if one.len() != other.len() {
                return Some(false);
            }
            all_same(one.into_iter().zip(other))
        }
        '"' => {
            let read = |text| serde_json::from_str::<String>(text).ok();
            Some(read(one)? == read(other)?)
        }
        _ => Some(one.trim() == other.trim()),
    }
}

fn all_same<'a>(mut pairs: impl Iterator<Item = (&'a RawValue, &'a RawValue)>) -> Option<bool> {
    pairs.try_fold(true, |same, (one, other)| Some(same && same_value(one.get(), other.get())?))
}

impl Default for RawJson {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&serde_json::Value> for RawJson {
    fn from(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<serde_json::Value> for RawJson {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn a_value_is_the_same_however_it_is_spelled() {
        let same = |one, other| RawJson::from_stored(one).is_same_value(&RawJson::from_stored(other));
        assert!(same(r#"{"a": [1.0, "\u00e9"], "b":null}"#, r#"{"b":null,"a":[1,"é"]}"#));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(same("not JSON", "not JSON"));
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ("9007199254740993", "9007199254740992"),
            ("true", "false"),
            ("\"1\"", "1"),
            ("{}", "[]"),
            ("not JSON", "not json"),
            ("", "{}"),
        ] {
            assert!(!same(one, other) && !same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn text_comes_back_byte_for_byte() {
        let text = "{\"b\":1,\"a\":-1e400,\"a\":12345678901234567890123,\"s\":\"\\u0000\\udce9\u{2028}\"}";
        let raw = RawJson::parse("content", text).unwrap();
        assert_eq!(raw.as_str(), text);
        #[derive(Serialize, Deserialize)]
        struct Line {
            payload: RawJson,
        }
        let line = serde_json::to_string(&Line { payload: raw.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&line).unwrap().payload, raw);
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        for text in ["", "{", "1 2", "nul", "\"\u{1}\""] {
            let error = RawJson::parse("content", text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
        }
    }

    #[test]
    fn a_lone_surrogate_is_an_error_or_replaced_but_never_a_panic() {
        let raw = RawJson::parse("content", r#"["\udce9","\ud83d\ude00","\\udce9"]"#).unwrap();
        assert_eq!(raw.decode::<Value>().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(raw.decode_lossy::<Value>().unwrap(), json!(["\u{fffd}", "😀", "\\udce9"]));
    }

    #[test]
    fn a_value_has_one_spelling() {
        let canonical = |text: &str| RawJson::from_stored(text).canonical().as_str().to_owned();
        for (text, one) in [
            (r#"{ "b" : 1.50, "a":[ -0.0, 1e3, 12E-1 ],"b":2 }"#, r#"{"a":[0,1000,1.2],"b":2}"#),
            (r#""\u00e9\/\u0000\udce9""#, "\"é/\\u0000\\udce9\""),
            (r#"{"\u0000":"\uf5e7"}"#, r#"{"\u0000":"\uf5e7"}"#),
            ("0.00001", "0.00001"),
            ("-123.456e1", "-1234.56"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1e40", "1e40"),
            ("10000000000000000000000000000000000000000", "1e40"),
            ("1e-40", "1e-40"),
            ("1e2000", "\"1e2000\""),
            ("not JSON", "\"not JSON\""),
            ("", "\"\""),
        ] {
            assert_eq!(canonical(text), one, "{text}");
        }
        let nest = |depth: usize| format!("{}\"\\u0000\\\\\"{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(canonical(&nest(60)), nest(60));
        let deep = canonical(&nest(61));
        let told = format!("{}{}{}", "[".repeat(60), Value::from(nest(1)), "]".repeat(60));
        assert_eq!(deep, told);
    }

    proptest! {
        /// The one spelling is the same value, has itself as its spelling, and is what every column takes.
        #[test]
        fn the_one_spelling_is_stable(
            text in "(\\{\"[a-c\u{e9}]\": ?|\\[ ?){0,4}(-?[0-9]{1,20}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?|\"([a-f\u{f5e7}\u{e9}]|\\\\u[0-9a-f]{4}|\\\\[nt\"\\\\/]){0,8}\"|true|null)[\\]} ]{0,6}"
        ) {
            let document = RawJson::from_stored(&text);
            let canonical = document.canonical();
            prop_assert_eq!(&canonical.canonical(), &canonical);
            let within = RawJson::from_stored(&format!("{{\"a\":{canonical}}}"));
            prop_assert!(crate::text::require_jsonb("steps", &within).is_ok());
            // As a column keeps it: other white space, escapes undone and made again.
            let kept = crate::text::escape_jsonb(canonical.as_str()).replace(':', " : ");
            if !text.contains(':') {
                prop_assert_eq!(RawJson::from_stored(&crate::text::unescape_jsonb(&kept)).canonical(), canonical.clone());
            }
            if RawJson::parse("text", &text).is_ok() {
                // A number is compared by its digits: what is read into a float may differ in the last of them.
                let is_exact = document.decode::<Value>().is_ok();
                prop_assert!(!is_exact || document.is_same_value(&canonical), "{} {}", document, canonical);
                let plain = |raw: &RawJson| raw.decode_lossy::<Value>().ok();
                if let (Some(one), Some(other), false) = (plain(&document), plain(&canonical), is_exact) {
                    prop_assert!(RawJson::from(one).is_same_value(&RawJson::from(other)), "{} {}", document, canonical);
                }
            }
        }

        /// Whatever the text is, it is taken as it is or refused.
        #[test]
        fn any_text_is_one_document_or_refused(text in "[ \\[\\]{}\",:\\\\0-9eE.+\\-utrflsnad\\PC]{0,60}") {
            if let Ok(document) = RawJson::parse("content", &text) {
                prop_assert_eq!(document.as_str(), text.trim_matches([' ', '\t', '\r', '\n']));
                let _ = document.decode::<Value>();
                let _ = document.decode_lossy::<Value>();
                let again = RawJson::parse("content", document.as_str());
                prop_assert_eq!(again.unwrap(), document);
            }
        }

        /// Nesting costs no more stack than parsers allow, and no memory beyond the text.
        #[test]
        fn depth_is_refused_or_taken_but_never_felt(depth in 0_usize..200_000, closed in any::<bool>()) {
            let text = format!("{}{}", "[".repeat(depth), if closed { "]".repeat(depth) } else { String::new() });
            if let Ok(document) = RawJson::parse("content", &text) {
                prop_assert_eq!(document.as_str().len(), text.len());
                let _ = document.decode::<Value>();
            }
            let _ = crate::text::require_jsonb("metadata", &RawJson::from_stored(&text));
        }
    }
}
