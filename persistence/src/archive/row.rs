//! One row of a table: from a database, from a line, and back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use runledger_core::{Error, RawJson, Result, RunId, Timestamp};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{QueryResult, TryGetError, TryGetable, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::table::{Column, Kind, THREAD, Table};

/// One cell. Documents are text, so that they come back as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Json(String),
    Integer(i64),
    Real(f64),
    Boolean(bool),
    Time(Timestamp),
    Bytes(Vec<u8>),
}

impl Cell {
    fn read(row: &QueryResult, place: usize, kind: Kind) -> Result<Self, TryGetError> {
        fn get<T: TryGetable>(
            row: &QueryResult,
            place: usize,
            cell: fn(T) -> Cell,
        ) -> Result<Cell, TryGetError> {
            match T::try_get_by_index(row, place) {
                Ok(value) => Ok(cell(value)),
                Err(TryGetError::Null(_)) => Ok(Cell::Null),
                Err(error) => Err(error),
            }
        }
        match kind {
            Kind::Text => get(row, place, Self::Text),
            Kind::Json => get(row, place, Self::Json),
            Kind::Integer => get(row, place, Self::Integer),
            Kind::Real => get(row, place, Self::Real),
            Kind::Boolean => get(row, place, Self::Boolean),
            Kind::Time => get(row, place, |at: DateTimeUtc| Self::Time(at.into())),
            Kind::Bytes => get(row, place, Self::Bytes),
        }
    }

    /// As a parameter of a statement; a missing value has the type of its column.
    fn into_value(self, kind: Kind) -> Value {
        match self {
            Self::Null => match kind {
                Kind::Text | Kind::Json => Value::String(None),
                Kind::Integer => Value::BigInt(None),
                Kind::Real => Value::Double(None),
                Kind::Boolean => Value::Bool(None),
                Kind::Time => Value::ChronoDateTimeUtc(None),
                Kind::Bytes => Value::Bytes(None),
            },
            Self::Text(text) | Self::Json(text) => text.into(),
            Self::Integer(number) => number.into(),
            Self::Real(number) => number.into(),
            Self::Boolean(is) => is.into(),
            Self::Time(at) => at.to_chrono().into(),
            Self::Bytes(bytes) => bytes.into(),
        }
    }

    fn decode(column: &Column, value: serde_json::Value) -> Result<Self, String> {
        use serde_json::Value as Json;
        let wrong = || format!("column {} holds what it cannot hold", column.name);
        let text = |text: String| {
            if text.contains('\0') { Err(format!("column {} contains NUL", column.name)) } else { Ok(text) }
        };
        match (column.kind, value) {
            (Kind::Text, Json::String(value)) => {
                let value = text(value)?;
                if column.name == "run_id" {
                    RunId::new(&value).map_err(|error| error.to_string())?;
                }
                Ok(Self::Text(value))
            }
            (Kind::Json, Json::String(value)) => match RawJson::parse(column.name, &value) {
                Ok(_) => Ok(Self::Json(text(value)?)),
                Err(error) => Err(error.to_string()),
            },
            (Kind::Integer, Json::Number(value)) => value.as_i64().map(Self::Integer).ok_or_else(wrong),
            (Kind::Real, Json::Number(value)) => value.as_f64().map(Self::Real).ok_or_else(wrong),
            (Kind::Boolean, Json::Bool(is)) => Ok(Self::Boolean(is)),
            (Kind::Time, Json::String(at)) => {
                Timestamp::parse(column.name, &at).map(Self::Time).map_err(|error| error.to_string())
            }
            (Kind::Bytes, Json::String(value)) => BASE64.decode(value).map(Self::Bytes).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 8,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Json(one), Self::Json(other)) => {
                RawJson::from_stored(one).is_same_value(&RawJson::from_stored(other))
            }
            (one, other) => one == other,
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Text(text) | Self::Json(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Boolean(is) => serializer.serialize_bool(*is),
            Self::Time(at) => at.serialize(serializer),
            Self::Bytes(bytes) => serializer.serialize_str(&BASE64.encode(bytes)),
        }
    }
}

/// One row. It is written as an object of its columns, without those that have no value.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) table: &'static Table,
    cells: Vec<Cell>,
}

impl Row {
    /// Reads a row whose columns are those of the table, in its order.
    pub(super) fn read(table: &'static Table, row: &QueryResult) -> Result<Self> {
        let cells = table.columns.iter().enumerate().map(|(place, column)| {
            Cell::read(row, place, column.kind).map_err(|error| Error::Corrupt {
                what: "row",
                reason: format!("column {} of {} does not have its type", column.name, table.name),
                source: Some(Box::new(sea_orm::DbErr::from(error))),
            })
        });
        Ok(Self { table, cells: cells.collect::<Result<_>>()? })
    }

    /// Reads what [`Serialize`] wrote; says what is wrong with it.
    pub(super) fn decode(table: &'static Table, payload: &[u8]) -> Result<Self, String> {
        let mut values: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let mut cells = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            cells.push(match values.remove(column.name) {
                Some(value) if !value.is_null() => Cell::decode(column, value)?,
                _ if column.is_nullable => Cell::Null,
                _ => return Err(format!("column {} is missing", column.name)),
            });
        }
        match values.into_keys().next() {
            Some(unknown) => Err(format!("{} has no column {unknown}", table.name)),
            None => Ok(Self { table, cells }),
        }
    }

    /// The cells as parameters of a statement.
    pub(super) fn into_values(self) -> impl Iterator<Item = Value> {
        self.cells.into_iter().zip(&self.table.columns).map(|(cell, column)| cell.into_value(column.kind))
    }

    /// What tells it from the thread's other rows, as parameters of a statement.
    pub(super) fn key(&self) -> Vec<Value> {
        let columns = self.table.key.iter().filter_map(|place| {
            Some(self.cells.get(*place)?.clone().into_value(self.table.columns.get(*place)?.kind))
        });
        columns.collect()
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.cells.iter().map(Cell::bytes).sum()
    }

    fn cell(&self, column: &str) -> Option<&Cell> {
        self.cells.get(self.table.place(column)?)
    }

    pub(super) fn text(&self, column: &str) -> Option<&str> {
        match self.cell(column)? {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self, column: &str) -> Option<i64> {
        match self.cell(column)? {
            Cell::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn thread(&self) -> &str {
        self.text(THREAD).unwrap_or_default()
    }

    /// The first column in which another row of the table differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let mut cells = self.cells.iter().zip(&other.cells).zip(&self.table.columns);
        cells.find_map(|((one, other), column)| (!one.is_same(other)).then_some(column.name))
    }

    /// Where it is, for people: the table and the key.
    pub(super) fn name(&self) -> String {
        let key = self.table.key.iter().filter_map(|place| match self.cells.get(*place)? {
            Cell::Text(text) => Some(text.clone()),
            Cell::Integer(number) => Some(number.to_string()),
            _ => None,
        });
        let key: Vec<String> = key.collect();
        format!("{} {}", self.table.name, key.join(" ")).trim_end().to_owned()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (cell, column) in self.cells.iter().zip(&self.table.columns) {
            if *cell != Cell::Null {
                map.serialize_entry(column.name, cell)?;
            }
        }
        map.end()
    }
}
