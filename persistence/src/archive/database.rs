//! A thread in a database: read as it was at one moment, written in one transaction.

use runledger_core::{Error, Result, ThreadId};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, QueryResult, SqliteTransactionMode, Statement, TransactionOptions,
    Value,
};

use super::census::Census;
use super::row::Row;
use super::table::{Column, Kind, TABLES, THREAD, Table};
use super::{PAGE_BYTES, Rows};
use crate::connect::Database;
use crate::dialect::{self, Dialect};
use crate::error_map;
use crate::patience::Patient;
use crate::sql::unreadable;

/// The most parameters of one statement; SQLite takes 32,766, PostgreSQL 65,535.
const PARAMETERS: usize = 30_000;

/// The most rows of one statement: more are no faster.
const ROWS: usize = 500;

/// Tables below a thread that are not part of it: who holds its runs, and what is made of its log.
pub(super) const NOT_CARRIED: [&str; 3] = ["run_leases", "search_documents", "search_progress"];

const READING: &str = "to read a thread";
const WRITING: &str = "to write a thread";

fn failed(operation: &'static str) -> impl Fn(sea_orm::DbErr) -> Error {
    move |error| error_map::map(operation, error)
}

/// A thread as it was when it was opened.
#[derive(Debug)]
pub(super) struct DatabaseReader<'a> {
    database: &'a Database,
    snapshot: Patient<DatabaseTransaction>,
    thread: ThreadId,
    /// Which of the tables is read.
    table: usize,
    /// The key of the last row of that table that was read.
    after: Vec<Value>,
}

impl<'a> DatabaseReader<'a> {
    /// `None` where there is no such thread; one that was deleted is there.
    pub(super) async fn open(database: &'a Database, thread: &ThreadId) -> Result<Option<Self>> {
        let snapshot = database.snapshot(READING).await?;
        if database.dialect == Dialect::Postgres {
            // It locks nothing, and waits for whatever the rows are written to.
            let sql = "SET LOCAL idle_in_transaction_session_timeout = 0";
            snapshot.execute_unprepared(sql).await.map_err(failed(READING))?;
        }
        let mut reader = Self { database, snapshot, thread: thread.clone(), table: 0, after: Vec::new() };
        // The first table holds the head.
        let found = reader.page().await?;
        reader.rewind();
        if found.first().map(|row| row.table.name) == TABLES.first().map(|table| table.name) {
            return Ok(Some(reader));
        }
        reader.close().await;
        Ok(None)
    }

    /// The next rows, all of one table; none at the end.
    pub(super) async fn page(&mut self) -> Result<Vec<Row>> {
        while let Some(table) = TABLES.get(self.table) {
            let rows = self.page_of(table).await?;
            match rows.last() {
                // A table without a key of its own has one row of a thread.
                Some(last) if !table.key.is_empty() => {
                    self.after = last.key();
                    return Ok(rows);
                }
                Some(_) => {
                    self.next_table();
                    return Ok(rows);
                }
                None => self.next_table(),
            }
        }
        Ok(Vec::new())
    }

    fn next_table(&mut self) {
        self.table += 1;
        self.after.clear();
    }

    async fn page_of(&self, table: &'static Table) -> Result<Vec<Row>> {
        let limit = match table.weight {
            Some(weight) => self.within_bytes(table, weight).await?,
            None => table.page,
        };
        let columns: Vec<String> = table.columns.iter().map(|column| self.selected(column)).collect();
        let rows = self.query(table, &columns.join(", "), limit).await?;
        rows.iter().map(|row| Row::read(table, row)).collect()
    }

    /// How many of the next rows are no more than a page may have; at least one.
    async fn within_bytes(&self, table: &Table, weight: &str) -> Result<usize> {
        let mut bytes = 0;
        let rows = self.query(table, weight, table.page).await?;
        for (count, row) in rows.iter().enumerate() {
            bytes += row.try_get_by_index::<i64>(0).map_err(unreadable)?;
            if bytes > PAGE_BYTES as i64 {
                return Ok(count.max(1));
            }
        }
        Ok(rows.len().max(1))
    }

    /// A document is read as text: a JSON value of a driver would round numbers.
    fn selected(&self, column: &Column) -> String {
        let is_document = column.kind == Kind::Json && self.database.dialect == Dialect::Postgres;
        if is_document { format!("{}::text", column.name) } else { column.name.to_owned() }
    }

    async fn query(&self, table: &Table, columns: &str, limit: usize) -> Result<Vec<QueryResult>> {
        let key = table.key.iter().filter_map(|place| table.columns.get(*place));
        let key: Vec<&str> = key.map(|column| column.name).collect();
        let key = key.join(", ");
        let mut sql = format!("SELECT {columns} FROM {} WHERE {THREAD} = $1", table.name);
        if !self.after.is_empty() {
            let places: Vec<String> = (2..self.after.len() + 2).map(|place| format!("${place}")).collect();
            sql.push_str(&format!(" AND ({key}) > ({})", places.join(", ")));
        }
        if !key.is_empty() {
            sql.push_str(&format!(" ORDER BY {key}"));
        }
        sql.push_str(&format!(" LIMIT {limit}"));
        let mut values = vec![Value::from(self.thread.as_str())];
        values.extend(self.after.iter().cloned());
        let statement = Statement::from_sql_and_values(self.snapshot.get_database_backend(), sql, values);
        self.snapshot.query_all_raw(statement).await.map_err(failed(READING))
    }

    /// Goes back to the first row, of the same moment.
    pub(super) fn rewind(&mut self) {
        self.table = 0;
        self.after.clear();
    }

    /// Gives the connection back.
    pub(super) async fn close(self) {
        // It only read.
        let _ = self.snapshot.rollback().await;
    }
}

/// Writes a thread, all of it or nothing. What is there before is refused, or removed where it is to be replaced.
pub(super) async fn write(
    database: &Database,
    thread: &ThreadId,
    rows: &mut Rows<'_>,
    replaces: bool,
) -> Result<Census> {
    let options = TransactionOptions {
        sqlite_transaction_mode: (database.dialect == Dialect::Sqlite)
            .then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = database.writer.begin(options).await.map_err(failed(WRITING))?;
    let writer = Writer { database, transaction: &transaction, thread };
    let written = match writer.make_room(replaces).await {
        Ok(()) => writer.fill(rows).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(census) => {
            transaction.commit().await.map_err(|error| error_map::map_commit(WRITING, error))?;
            database.signal.publish(thread, census.next_seq().saturating_sub(1));
            Ok(census)
        }
        Err(error) => {
            // What failed matters more than what failed after it.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

struct Writer<'a> {
    database: &'a Database,
    transaction: &'a Patient<DatabaseTransaction>,
    thread: &'a ThreadId,
}

impl Writer<'_> {
    async fn make_room(&self, replaces: bool) -> Result<()> {
        let lock = match self.database.dialect {
            Dialect::Postgres => " FOR UPDATE",
            Dialect::Sqlite => "",
        };
        let sql = format!("SELECT active_run_id FROM thread_heads WHERE thread_id = $1{lock}");
        let statement = self.statement(sql, vec![self.thread.as_str().into()]);
        let head = self.transaction.query_one_raw(statement).await.map_err(failed(WRITING))?;
        let Some(head) = head else { return Ok(()) };
        if !replaces {
            return Err(Error::already_exists("thread", self.thread));
        }
        if let Some(run) = head.try_get_by_index::<Option<String>>(0).map_err(unreadable)? {
            return Err(Error::conflict("active run of the thread to replace", "none", run));
        }
        // How far imports came is said of the log that goes: the one that comes may have less.
        for table in TABLES.iter().map(|table| table.name).chain(NOT_CARRIED).chain(["import_cursors"]) {
            let sql = format!("DELETE FROM {table} WHERE {THREAD} = $1");
            self.execute(self.statement(sql, vec![self.thread.as_str().into()])).await?;
        }
        Ok(())
    }

    async fn fill(&self, rows: &mut Rows<'_>) -> Result<Census> {
        let mut census = Census::default();
        let mut batch: Vec<Row> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next().await? {
            census.count(&row);
            let is_full = batch.first().is_some_and(|first| {
                let columns = first.table.columns.len().max(1);
                first.table.name != row.table.name
                    || batch.len() >= ROWS.min(PARAMETERS / columns)
                    || bytes >= PAGE_BYTES
            });
            if is_full {
                self.insert(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += row.bytes();
            batch.push(row);
        }
        self.insert(batch).await?;
        census.check(self.thread)?;
        Ok(census)
    }

    async fn insert(&self, rows: Vec<Row>) -> Result<()> {
        let Some(table) = rows.first().map(|row| row.table) else { return Ok(()) };
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let mut sql = format!("INSERT INTO {} ({}) VALUES ", table.name, columns.join(", "));
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        let backend = self.transaction.get_database_backend();
        for row in rows {
            sql.push_str(if values.is_empty() { "(" } else { ", (" });
            for (place, (value, column)) in row.into_values().zip(&table.columns).enumerate() {
                values.push(value);
                let comma = if place == 0 { "" } else { ", " };
                let is_document = column.kind == Kind::Json && self.database.dialect == Dialect::Postgres;
                let cast = if is_document { "::jsonb" } else { "" };
                let at = dialect::places(backend, values.len(), values.len());
                sql.push_str(&format!("{comma}{at}{cast}"));
            }
            sql.push(')');
        }
        self.execute(self.statement(sql, values)).await
    }

    async fn execute(&self, statement: Statement) -> Result<()> {
        self.transaction.execute_raw(statement).await.map(drop).map_err(failed(WRITING))
    }

    fn statement(&self, sql: String, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.transaction.get_database_backend(), sql, values)
    }
}
