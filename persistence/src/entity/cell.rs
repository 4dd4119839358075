//! One cell of a stored row as a value of `core`.
//!
//! Everything here was checked before it was written, so a cell that breaks a rule was written by
//! something else: the answer names the table and the column, and never panics.

use runledger_core::{Error, RawJson, Result, Timestamp, text};
use sea_orm::prelude::DateTimeUtc;

/// The table a row is from, for what [`Error::Corrupt`] says.
#[derive(Clone, Copy)]
pub(super) struct Table(pub(super) &'static str);

impl Table {
    /// A counter or a seq: 64 bits without a sign in `core`, a signed 64-bit integer in SQL.
    pub(super) fn count(self, column: &'static str, value: i64) -> Result<u64> {
        u64::try_from(value).map_err(|_| self.corrupt(column, "is negative"))
    }

    /// A counter that may be absent.
    pub(super) fn optional_count(self, column: &'static str, value: Option<i64>) -> Result<Option<u64>> {
        value.map(|value| self.count(column, value)).transpose()
    }

    /// An id.
    pub(super) fn id<T>(self, column: &'static str, value: String) -> Result<T>
    where
        T: TryFrom<String, Error = Error>,
    {
        T::try_from(value).map_err(|error| Error::Corrupt {
            what: self.0,
            reason: format!("column {column} holds no id"),
            source: Some(Box::new(error)),
        })
    }

    /// An id that may be absent.
    pub(super) fn optional_id<T>(self, column: &'static str, value: Option<String>) -> Result<Option<T>>
    where
        T: TryFrom<String, Error = Error>,
    {
        value.map(|value| self.id(column, value)).transpose()
    }

    pub(super) fn corrupt(self, column: &'static str, what: &str) -> Error {
        Error::corrupt(self.0, format!("column {column} {what}"))
    }
}

/// A document of a jsonb column, read as text.
pub(super) fn jsonb(text: &str) -> RawJson {
    RawJson::from_stored(&text::unescape_jsonb(text))
}

/// A time that may be absent.
pub(super) fn optional_time(at: Option<DateTimeUtc>) -> Option<Timestamp> {
    at.map(Timestamp::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{ErrorKind, RunId};

    const TABLE: Table = Table("run");

    #[test]
    fn what_no_writer_of_ours_stored_is_corrupt_and_says_where() {
        let errors = [
            TABLE.count("epoch", -1).unwrap_err(),
            TABLE.optional_count("first_seq", Some(i64::MIN)).unwrap_err(),
            TABLE.id::<RunId>("run_id", "a\0b".to_owned()).unwrap_err(),
            TABLE.optional_id::<RunId>("parent_run_id", Some(String::new())).unwrap_err(),
        ];
        for (error, column) in errors.iter().zip(["epoch", "first_seq", "run_id", "parent_run_id"]) {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let message = error.to_string();
            assert!(message.starts_with("stored run ") && message.contains(column), "{message}");
        }
    }

    #[test]
    fn jsonb_comes_back_as_it_was_before_it_was_escaped() {
        let document = "{\"a\":\"\\u0000\\ud800\u{f5e7}\",\"n\":12345678901234567890}";
        assert_eq!(jsonb(&text::escape_jsonb(document)).as_str(), document.replace('\u{f5e7}', "\\uf5e7"));
    }
}
