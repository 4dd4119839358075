//! SQL text with its values, in either dialect, and the connection that runs it.
//!
//! A lane holds one connection for as long as it lives: a pool pings at each return, which costs as
//! much as a small commit. SeaORM has no call for that, so lanes speak to sqlx.

use std::time::Duration;

use chrono::{DateTime, Utc};
use runledger_core::Timestamp;
use sea_orm::QueryResult;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments, AssertSqlSafe, Column, Connection as _, Executor, Postgres, Row as _, Sqlite,
    SqliteConnection, TypeInfo, ValueRef,
};

use crate::dialect::Dialect;
use crate::patience::Patience;

/// SQLite keeps the text of a statement with up to this many values prepared.
const COMMON_VALUES: usize = 6_000;

/// A value of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(bool),
    Time(Option<DateTime<Utc>>),
    Bytes(Vec<u8>),
    /// PostgreSQL only, as are the arrays below.
    Texts(Vec<Option<String>>),
    Ints(Vec<Option<i64>>),
    Bools(Vec<bool>),
    Times(Vec<Option<DateTime<Utc>>>),
}

macro_rules! from {
    ($($kind:ty, $value:ident => $made:expr;)+) => { $(
        impl From<$kind> for Value {
            fn from($value: $kind) -> Self { $made }
        }
    )+ };
}

from! {
    &str, value => Self::Text(Some(value.to_owned()));
    String, value => Self::Text(Some(value));
    Option<&str>, value => Self::Text(value.map(str::to_owned));
    Option<String>, value => Self::Text(value);
    i64, value => Self::Int(Some(value));
    Option<i64>, value => Self::Int(value);
    bool, value => Self::Bool(value);
    DateTime<Utc>, value => Self::Time(Some(value));
    Option<DateTime<Utc>>, value => Self::Time(value);
}

/// SQL text with its values in the order of their places.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) dialect: Dialect,
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Default for Value {
    fn default() -> Self {
        Self::Text(None)
    }
}

impl Statement {
    pub(super) fn new(dialect: Dialect, sql: impl Into<String>) -> Self {
        Self { dialect, sql: sql.into(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends the place of a value, and the value.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        match self.dialect {
            Dialect::Postgres => {
                self.sql.push('$');
                self.sql.push_str(&self.values.len().to_string());
            }
            // Numbered places would have to be without gaps across the statements of one string.
            Dialect::Sqlite => self.sql.push('?'),
        }
        self
    }

    /// Appends a document for a jsonb column.
    pub(super) fn bind_json(&mut self, document: String) -> &mut Self {
        match self.dialect {
            Dialect::Postgres => self.push("CAST(").bind(document).push(" AS jsonb)"),
            Dialect::Sqlite => self.bind(document),
        }
    }

    /// Appends the moment that much later than now, by the database's clock; SQLite's is this machine's.
    pub(super) fn bind_later(&mut self, by: Duration) -> &mut Self {
        match self.dialect {
            Dialect::Postgres => {
                let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
                self.push("clock_timestamp() + ").bind(micros).push("::bigint * interval '1 microsecond'")
            }
            Dialect::Sqlite => self.bind(Timestamp::now().after(by).to_chrono()),
        }
    }

    /// Appends how many microseconds ago the moment in a column was. SQLite gives the moment itself.
    pub(super) fn push_age(&mut self, column: &str) -> &mut Self {
        match self.dialect {
            Dialect::Postgres => self
                .push("CAST(EXTRACT(EPOCH FROM clock_timestamp() - ")
                .push(column)
                .push(") * 1000000 AS bigint)"),
            Dialect::Sqlite => self.push(column),
        }
    }

    /// Appends a condition: that the columns are one of these tuples.
    pub(super) fn is_one_of<const N: usize>(
        &mut self,
        columns: [&str; N],
        tuples: &[[String; N]],
    ) -> &mut Self {
        self.push("(").push(&columns.join(", ")).push(") IN (");
        match self.dialect {
            Dialect::Postgres => {
                self.push("SELECT * FROM UNNEST(");
                for column in 0..N {
                    let values = tuples.iter().map(|tuple| Some(tuple[column].clone())).collect();
                    self.push(if column == 0 { "" } else { ", " })
                        .bind(Value::Texts(values))
                        .push("::text[]");
                }
                self.push(")");
            }
            Dialect::Sqlite => {
                for (number, tuple) in tuples.iter().enumerate() {
                    self.push(if number == 0 { "VALUES (" } else { ", (" });
                    for (column, value) in tuple.iter().enumerate() {
                        self.push(if column == 0 { "" } else { ", " }).bind(value.as_str());
                    }
                    self.push(")");
                }
            }
        }
        self.push(")")
    }
}

/// Statements of SQLite as one text: each call costs a hop to the driver's thread.
pub(super) fn joined(begin: &str, statements: Vec<Statement>, end: &str) -> Statement {
    let mut all = Statement::new(Dialect::Sqlite, begin);
    for statement in statements {
        all.push(&statement.sql).push("; ");
        all.values.extend(statement.values);
    }
    all.push(end);
    all
}

/// A cell of a row, as far as a commit reads rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row(Vec<Cell>);

impl Row {
    pub(super) fn text(&self, at: usize) -> Option<&str> {
        match self.0.get(at) {
            Some(Cell::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, at: usize) -> Option<i64> {
        match self.0.get(at) {
            Some(Cell::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// What [`Statement::push_age`] asked for.
    pub(super) fn age(&self, at: usize) -> Option<i64> {
        match self.0.get(at) {
            Some(Cell::Int(micros)) => Some(*micros),
            Some(Cell::Text(moment)) => {
                let moment = Timestamp::parse("moment", moment).ok()?;
                Some(Timestamp::now().unix_micros() - moment.unix_micros())
            }
            _ => None,
        }
    }

    pub(super) fn count(&self, at: usize) -> Option<u64> {
        self.int(at).and_then(|number| u64::try_from(number).ok())
    }

    fn of_postgres(row: &PgRow) -> Result<Self, sqlx::Error> {
        let cells = (0..row.len()).map(|at| {
            if row.try_get_raw(at)?.is_null() {
                return Ok(Cell::Null);
            }
            match row.column(at).type_info().name() {
                "INT8" => row.try_get(at).map(Cell::Int),
                "INT4" => row.try_get::<i32, _>(at).map(|number| Cell::Int(number.into())),
                _ => row.try_get(at).map(Cell::Text),
            }
        });
        cells.collect::<Result<_, _>>().map(Self)
    }

    fn of_sqlite(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let cells = (0..row.len()).map(|at| {
            let raw = row.try_get_raw(at)?;
            if raw.is_null() {
                return Ok(Cell::Null);
            }
            let kind = raw.type_info().name().to_owned();
            if kind == "INTEGER" {
                row.try_get_unchecked(at).map(Cell::Int)
            } else {
                row.try_get_unchecked(at).map(Cell::Text)
            }
        });
        cells.collect::<Result<_, _>>().map(Self)
    }
}

/// The connection of a lane.
#[derive(Debug)]
pub(super) enum Connection {
    Postgres(Box<PgConnection>, Patience),
    File(Box<SqliteConnection>),
    /// Borrowed for one commit.
    Memory(PoolConnection<Sqlite>),
}

impl Connection {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(..) => Dialect::Postgres,
            Self::File(_) | Self::Memory(_) => Dialect::Sqlite,
        }
    }

    /// Runs the statement, or the statements of one string, to their end.
    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        self.fetch(statement, |row| Row::of_postgres(&row), |row| Row::of_sqlite(&row)).await
    }

    /// As [`Connection::rows`], for what an entity reads.
    pub(super) async fn results(&mut self, statement: Statement) -> Result<Vec<QueryResult>, sqlx::Error> {
        self.fetch(statement, |row| Ok(row.into()), |row| Ok(row.into())).await
    }

    async fn fetch<T>(
        &mut self,
        statement: Statement,
        of_postgres: fn(PgRow) -> Result<T, sqlx::Error>,
        of_sqlite: fn(SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, sqlx::Error> {
        note_call!(&statement.sql);
        let sqlite = match self {
            Self::Postgres(connection, patience) => {
                let arguments = postgres_arguments(statement.values).map_err(sqlx::Error::Encode)?;
                let query = sqlx::query_with::<Postgres, _>(AssertSqlSafe(statement.sql), arguments);
                let rows = patience.wait_for(connection.fetch_all(query)).await?;
                return rows.into_iter().map(of_postgres).collect();
            }
            Self::File(connection) => &mut **connection,
            Self::Memory(connection) => &mut **connection,
        };
        sqlite_rows(sqlite, statement).await?.into_iter().map(of_sqlite).collect()
    }

    /// Runs text without values.
    pub(super) async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        note_call!(sql);
        match self {
            Self::Postgres(connection, patience) => {
                patience.wait_for(connection.execute(sqlx::raw_sql(sql))).await.map(drop)
            }
            Self::File(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(drop),
            Self::Memory(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(drop),
        }
    }

    pub(super) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection, patience) => patience.wait_for(connection.ping()).await,
            Self::File(_) | Self::Memory(_) => Ok(()),
        }
    }

    pub(super) async fn close(self) {
        // Everything is committed; a failure to say goodbye changes nothing.
        let _ = match self {
            Self::Postgres(connection, patience) => patience.wait_for(connection.close()).await,
            Self::File(connection) => connection.close().await,
            Self::Memory(_) => Ok(()),
        };
    }
}

async fn sqlite_rows(
    connection: &mut SqliteConnection,
    statement: Statement,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    // The text of a large group is hardly ever seen again, and would drive out those that are.
    let is_common = statement.values.len() <= COMMON_VALUES;
    let arguments = sqlite_arguments(statement.values).map_err(sqlx::Error::Encode)?;
    let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(statement.sql), arguments).persistent(is_common);
    // To the end: whoever stops at the first row leaves the rest of the string undone.
    connection.fetch_all(query).await
}

fn postgres_arguments(values: Vec<Value>) -> Result<PgArguments, BoxDynError> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Text(value) => arguments.add(value)?,
            Value::Int(value) => arguments.add(value)?,
            Value::Bool(value) => arguments.add(value)?,
            Value::Time(value) => arguments.add(value)?,
            Value::Bytes(value) => arguments.add(value)?,
            Value::Texts(values) => arguments.add(values)?,
            Value::Ints(values) => arguments.add(values)?,
            Value::Bools(values) => arguments.add(values)?,
            Value::Times(values) => arguments.add(values)?,
        }
    }
    Ok(arguments)
}

fn sqlite_arguments(values: Vec<Value>) -> Result<SqliteArguments, BoxDynError> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Text(value) => arguments.add(value)?,
            Value::Int(value) => arguments.add(value)?,
            Value::Bool(value) => arguments.add(value)?,
            Value::Time(value) => arguments.add(value)?,
            Value::Bytes(value) => arguments.add(value)?,
            Value::Texts(_) | Value::Ints(_) | Value::Bools(_) | Value::Times(_) => {
                return Err("SQLite has no arrays".into());
            }
        }
    }
    Ok(arguments)
}
