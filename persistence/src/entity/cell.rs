//! One cell of a stored row as a value of `core`.
//!
//! Everything here was checked before it was written, so a cell that breaks a rule was written by
//! something else: the answer names the table and the column, and never panics.

use chrono::NaiveDateTime;
use runledger_core::{Error, RawJson, Result, Timestamp, text};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{DbErr, QueryResult, TryGetable};
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};

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

/// Hands out a row's cells from left to right, whichever driver it is from.
///
/// Pages are read by position: looking up each of dozens of columns by name in every row is a tenth of a page.
pub(crate) struct Cells<'a> {
    row: Row<'a>,
    at: usize,
}

enum Row<'a> {
    /// Without a look at the types of columns for each cell: they are the schema's.
    Postgres(&'a PgRow),
    Other(&'a QueryResult),
    File(&'a rusqlite::Row<'a>),
}

impl<'a> Cells<'a> {
    /// The cells of a row.
    pub(crate) fn new(row: &'a QueryResult) -> Self {
        Self { row: row.try_as_pg_row().map_or(Row::Other(row), Row::Postgres), at: 0 }
    }

    /// The cells of a row of a SQLite file.
    pub(crate) fn of_file(row: &'a rusqlite::Row<'a>) -> Self {
        Self { row: Row::File(row), at: 0 }
    }

    pub(crate) fn next<T: Cell>(&mut self) -> Result<T, DbErr> {
        let cell = self.peek()?;
        self.at += 1;
        Ok(cell)
    }

    /// The next cell, which stays the next.
    pub(crate) fn peek<T: Cell>(&self) -> Result<T, DbErr> {
        let unreadable =
            |reason: &dyn std::error::Error| DbErr::Type(format!("column {}: {reason}", self.at));
        match &self.row {
            Row::Postgres(row) => row.try_get_unchecked(self.at).map_err(|error| unreadable(&error)),
            Row::Other(row) => row.try_get_by_index(self.at),
            Row::File(row) => {
                let value = row.get_ref(self.at).map_err(|error| unreadable(&error))?;
                T::of_file(value).map_err(|error| unreadable(&error))
            }
        }
    }
}

/// What a cell can be read as.
pub(crate) trait Cell: TryGetable + for<'r> Decode<'r, Postgres> + Type<Postgres> {
    fn of_file(value: ValueRef<'_>) -> FromSqlResult<Self>;
}

macro_rules! cell_as_the_driver_reads_it {
    ($($type:ty),+) => {
        $(impl Cell for $type {
            fn of_file(value: ValueRef<'_>) -> FromSqlResult<Self> {
                FromSql::column_result(value)
            }
        })+
    };
}
cell_as_the_driver_reads_it!(String, i64, bool);

impl Cell for DateTimeUtc {
    fn of_file(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(time.to_utc()),
            // As SQLite itself writes one.
            Err(error) => NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
                .map(|time| time.and_utc())
                .map_err(|_| FromSqlError::other(error)),
        }
    }
}

impl<T: Cell> Cell for Option<T> {
    fn of_file(value: ValueRef<'_>) -> FromSqlResult<Self> {
        if value == ValueRef::Null { Ok(None) } else { T::of_file(value).map(Some) }
    }
}

/// A table's row whose cells are those of its columns, in their order, as `Entity::find` selects them.
pub(crate) trait ByPosition: Sized {
    fn by_position(cells: &mut Cells<'_>) -> Result<Self, DbErr>;
}

/// Reads a `Model` by position; the fields are those of the entity, in its order.
macro_rules! by_position {
    ($($field:ident),+ $(,)?) => {
        impl crate::entity::cell::ByPosition for Model {
            fn by_position(cells: &mut crate::entity::cell::Cells<'_>) -> Result<Self, sea_orm::DbErr> {
                Ok(Self { $($field: cells.next()?),+ })
            }
        }

        #[cfg(test)]
        #[test]
        fn cells_are_read_in_the_order_of_the_columns() {
            use sea_orm::{IdenStatic as _, Iterable as _};
            let columns: Vec<&str> = Column::iter().map(|column| column.as_str()).collect();
            pretty_assertions::assert_eq!([$(stringify!($field)),+].to_vec(), columns);
        }
    };
}
pub(super) use by_position;

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
