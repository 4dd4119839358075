//! JSON objects by their fields' text, so that what is read and written again keeps every digit and escape.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::RawJson;
use crate::json::write_spelled;

/// A JSON object as its fields' text, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawObject(Vec<(String, RawJson)>);

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
    #[must_use]
    pub fn parse(json: &RawJson) -> Option<Self> {
        if json.is_object() { json.decode().ok() } else { None }
    }

    /// The fields in order, repeated ones too.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The field's text; of several with the name, the last.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawJson> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The field where it is a string that is not empty, with U+FFFD for lone surrogates.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        let text = value.decode_lossy::<String>().ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// The field as a nested object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?)
    }

    /// Adds a field at the end, or replaces the one with that name.
    pub fn set(&mut self, name: &str, value: RawJson) {
        match self.0.iter_mut().rev().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// With this field, as [`RawObject::set`] does it.
    #[must_use]
    pub fn with(mut self, name: &str, value: RawJson) -> Self {
        self.set(name, value);
        self
    }

    /// With this field, where there is a value for it.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<RawJson>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With this field, a string.
    #[must_use]
    pub fn with_text(self, name: &str, text: &str) -> Self {
        self.with(name, RawJson::string(text))
    }

    /// With those fields of another object that this one lacks.
    #[must_use]
    pub fn with_missing(mut self, other: Self) -> Self {
        for (key, value) in other.0 {
            if self.get(&key).is_none() {
                self.0.push((key, value));
            }
        }
        self
    }

    /// With each value as this makes it.
    #[must_use]
    pub fn map(self, value: impl Fn(&RawJson) -> RawJson) -> Self {
        Self(self.0.into_iter().map(|(key, old)| (key, value(&old))).collect())
    }

    /// Takes fields out.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|(key, _)| !names.contains(&key.as_str()));
        self
    }

    /// The object's text.
    #[must_use]
    pub fn to_json(&self) -> RawJson {
        let mut out = String::with_capacity(
            2 + self.0.iter().map(|(k, v)| k.len() + v.as_str().len() + 4).sum::<usize>(),
        );
        out.push('{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_spelled(key, &mut out);
            out.push(':');
            out.push_str(value.as_str());
        }
        out.push('}');
        RawJson::from_stored(&out)
    }
}

impl RawJson {
    /// A JSON array of these.
    #[must_use]
    pub fn array(elements: impl IntoIterator<Item = Self>) -> Self {
        let mut out = String::from("[");
        for element in elements {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(element.as_str());
        }
        out.push(']');
        Self::from_stored(&out)
    }

    /// The elements of a JSON array as text; none where it is no array.
    #[must_use]
    pub fn elements(&self) -> Vec<Self> {
        if self.as_str().starts_with('[') { self.decode().unwrap_or_default() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn fields_keep_their_text() {
        let text = "{\"content\":\"caf\\udce9\",\"n\":1e400,\"id\":null}";
        let object = RawObject::parse(&RawJson::from_stored(text)).unwrap();
        assert_eq!(object.to_json().as_str(), text);
        assert_eq!(object.string("content").as_deref(), Some("caf\u{fffd}"));
        assert_eq!(object.string("id"), None);
    }

    #[test]
    fn fields_are_added_replaced_and_taken_out() {
        let text = |object: RawObject| object.to_json().as_str().to_owned();
        let object = RawObject::default().with_text("a", "\"").with("b", RawJson::null());
        assert_eq!(text(object.clone()), r#"{"a":"\"","b":null}"#);
        let others = RawObject::default().with_text("b", "old").with_text("c", "new");
        assert_eq!(text(object.clone().with_missing(others)), r#"{"a":"\"","b":null,"c":"new"}"#);
        assert_eq!(text(object.with_text("a", "x").with_some("d", None).without(&["b"])), r#"{"a":"x"}"#);
    }

    #[test]
    fn arrays_keep_their_elements_text() {
        let array = RawJson::from_stored("[ 1e400, \"\\udce9\" ]");
        assert_eq!(RawJson::array(array.elements()).as_str(), "[1e400,\"\\udce9\"]");
        assert_eq!(RawJson::from_stored("{}").elements(), []);
        assert_eq!(RawJson::array([]).as_str(), "[]");
    }
}
