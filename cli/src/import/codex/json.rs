//! JSON objects as their members' text, borrowed and untouched.
//!
//! [`Fields`](crate::import::fields::Fields) drops white space, for what it reads is written anew. A line of a
//! rollout is to come back as it was, so here every value keeps its text and its place.

use std::fmt;

use runledger_core::RawJson;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The members of an object, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Members<'a> {
    /// The object, or `None` where the document is none.
    pub(crate) fn parse(document: &'a str) -> Option<Self> {
        serde_json::from_str(document).ok()
    }

    /// The text of a member; of several with the name, the last.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    /// A member that is a string that is not empty.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        string(self.get(name)?).filter(|text| !text.is_empty())
    }

    /// A member that is an object.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?)
    }

    /// A member that counts something.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.get()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A document that is a string.
pub(crate) fn string(document: &str) -> Option<String> {
    if document.starts_with('"') { RawJson::from_stored(document).decode_lossy().ok() } else { None }
}

/// An object as it is written, without white space of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(String);

impl Object {
    /// Adds a member whose value is JSON already.
    pub(crate) fn put(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(RawJson::string(name).as_str());
        self.0.push(':');
        self.0.push_str(value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object's text.
    pub(crate) fn text(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn members_keep_their_text_and_their_order() {
        let text = "{\"b\": 1.50 ,\"a\":[ 1 ],\"b\":\"\\udce9\"}";
        let members = Members::parse(text).unwrap();
        let told: Vec<_> = members.iter().collect();
        assert_eq!(told, [("b", "1.50"), ("a", "[ 1 ]"), ("b", "\"\\udce9\"")]);
        assert_eq!(members.string("b").as_deref(), Some("\u{fffd}"));
        assert!(Members::parse("[1]").is_none());
        let mut object = Object::default();
        members.iter().for_each(|(key, value)| object.put(key, value));
        assert_eq!(object.text(), "{\"b\":1.50,\"a\":[ 1 ],\"b\":\"\\udce9\"}");
        assert_eq!(Object::default().text(), "{}");
    }
}
