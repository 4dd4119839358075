//! JSON objects as their fields' text, so that what is imported keeps every digit and escape.

use runledger_core::{Decimal, RawJson, RawObject};
use serde::{Deserialize, Deserializer};

use super::source::Fault;
use crate::output::one_line;

/// A JSON object as its fields' text, in order. White space between tokens is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(RawObject);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(RawObject::deserialize(deserializer)?.map(compact)))
    }
}

impl Fields {
    /// The object, or `None` where the document is none.
    pub(crate) fn parse(json: &RawJson) -> Option<Self> {
        if json.is_object() { json.decode().ok() } else { None }
    }

    /// The field; of several with the name, the last. `null` is no value.
    pub(crate) fn get(&self, name: &str) -> Option<&RawJson> {
        self.0.get(name).filter(|value| value.as_str() != "null")
    }

    /// The field where it is a string that is not empty.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        self.0.string(name)
    }

    /// The field as a number that counts something; `path` is the object's own.
    pub(crate) fn count(&self, path: &str, name: &str) -> Result<Option<u64>, Fault> {
        let Some(given) = self.get(name) else { return Ok(None) };
        match Decimal::parse(given.as_str()).and_then(|number| number.whole()) {
            Some(count) => Ok(Some(count)),
            None => {
                let reason =
                    format!("is {}, not a whole number from 0 to 2^63 - 1", one_line(given.as_str(), 40));
                Err(Fault::new(format!("{path}.{name}"), reason))
            }
        }
    }

    /// The field as a nested object, empty where it is none.
    pub(crate) fn object(&self, name: &str) -> Self {
        self.get(name).and_then(Self::parse).unwrap_or_default()
    }

    /// Whether the field is an array with elements.
    pub(crate) fn has_elements(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.as_str().starts_with('[') && value.as_str() != "[]")
    }

    /// The elements of the field where it is an array.
    pub(crate) fn elements(&self, name: &str) -> Vec<RawJson> {
        self.get(name).map(RawJson::elements).unwrap_or_default()
    }

    /// Takes fields out.
    pub(crate) fn without(self, names: &[&str]) -> Self {
        Self(self.0.without(names))
    }

    /// Adds a field, or replaces the one with that name.
    pub(crate) fn with(self, name: &str, value: RawJson) -> Self {
        Self(self.0.with(name, value))
    }

    /// The object's text.
    pub(crate) fn to_json(&self) -> RawJson {
        self.0.to_json()
    }
}

/// A document without the white space between its tokens; every token keeps its text.
pub(crate) fn compact(json: &RawJson) -> RawJson {
    let text = json.as_str();
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if !quoted && matches!(c, ' ' | '\n' | '\r' | '\t') {
            continue;
        }
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            quoted = c == '"';
        }
        out.push(c);
    }
    RawJson::from_stored(&out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn white_space_goes_and_tokens_stay() {
        let text = "{ \"a\" : [ 1e400 ,\n\t\"b \\\" \\\\\" ] , \"c\": \"\\udce9 \" }";
        let json = RawJson::parse("test", text).unwrap();
        assert_eq!(compact(&json).as_str(), r#"{"a":[1e400,"b \" \\"],"c":"\udce9 "}"#);
        assert_eq!(Fields::parse(&json).unwrap().to_json(), compact(&json));
    }
}
