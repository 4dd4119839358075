//! The space of a SQLite file. PostgreSQL sees to its own.
//!
//! The log is stored in the order in which it was written, and nothing is ever written amid it: where some events of
//! a page are gone, what they leave is of no use to anybody until the page is empty. So what is left on such pages is
//! written again at the end.

use std::path::{Path, PathBuf};
use std::time::Instant;

use runledger_core::{Error, Result};
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement};

use super::{Shrinks, pause};
use crate::connect::Database;
use crate::dialect::Dialect;
use crate::error_map;

/// Pages of one step: other writers wait no longer than it takes to move them.
const PAGES: i64 = 1_000;

/// Rows of one step. Rows are numbered as they are written, so a number that is missing is room on a page.
const ROWS: i64 = 1_000;

/// Where so many numbers are missing in a row, whole pages are gone and nothing is to be had.
const GAP: i64 = 64;

/// A payload of so many bytes or more has pages of its own, and stays where it is.
const LARGE: i64 = 64 << 10;

/// What the files of the database take; `None` where there are none.
pub(crate) async fn file_bytes(database: &Database) -> Result<Option<u64>> {
    if database.dialect != Dialect::Sqlite {
        return Ok(None);
    }
    let mut path = None;
    for row in pragma(&database.reader, "PRAGMA database_list").await? {
        if text(&row, "name")? == "main" {
            path = Some(text(&row, "file")?).filter(|file| !file.is_empty());
        }
    }
    let Some(path) = path else { return Ok(None) };
    let mut log = path.clone();
    log.push_str("-wal");
    Ok(Some(length(Path::new(&path)) + length(&PathBuf::from(log))))
}

/// 0 where it cannot be read: a size is told, and nothing is decided by it.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map(|file| file.len()).unwrap_or_default()
}

/// Whether the file can get smaller.
pub(super) async fn shrinks(database: &Database) -> Result<Shrinks> {
    Ok(if number(&database.reader, "PRAGMA auto_vacuum").await? == 0 { Shrinks::No } else { Shrinks::Yes })
}

/// Frees pages that hold little, gives free ones back to the file system, so many at a time, and empties the
/// write-ahead log.
pub(crate) async fn give_back(database: &Database) -> Result<Shrinks> {
    gather(database).await?;
    let shrinks = shrinks(database).await?;
    if shrinks == Shrinks::Yes {
        let mut free = number(&database.reader, "PRAGMA freelist_count").await?;
        // Whoever deletes meanwhile must not keep this from ending.
        let mut steps = free / PAGES + 1;
        while free > 0 && steps > 0 {
            let began = Instant::now();
            database
                .transaction("to give space back", |txn| {
                    Box::pin(async move {
                        let step = format!("PRAGMA incremental_vacuum({PAGES})");
                        pragma(txn, &step).await.map(drop)
                    })
                })
                .await?;
            pause(database, began).await;
            free = number(&database.reader, "PRAGMA freelist_count").await?;
            steps -= 1;
        }
    }
    // The file itself gets smaller when the log is moved into it.
    let moved = pragma(&database.writer, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
    let busy = moved.first().map_or(Ok(0), |row| row.try_get_by_index::<i64>(0)).map_err(refused)?;
    Ok(if busy == 0 || shrinks == Shrinks::No { shrinks } else { Shrinks::Later })
}

/// Writes what is left on pages that hold little again at the end, so many rows at a time.
async fn gather(database: &Database) -> Result<()> {
    let end = number(&database.reader, "SELECT COALESCE(MAX(rowid), 0) FROM run_events").await?;
    let mut after = 0;
    while let Some(Rows { first, last, count, missing }) = next_rows(&database.reader, after, end).await? {
        after = last;
        // Three quarters full is full.
        if missing * 3 <= count {
            continue;
        }
        let began = Instant::now();
        database
            .transaction("to gather what is left", |txn| {
                Box::pin(async move {
                    let statement = rewrite(txn.get_database_backend(), first, last);
                    txn.execute_raw(statement).await.map(drop).map_err(refused)
                })
            })
            .await?;
        pause(database, began).await;
    }
    Ok(())
}

/// Rows that follow each other.
struct Rows {
    first: i64,
    last: i64,
    count: i64,
    /// How many numbers between them are of no row.
    missing: i64,
}

async fn next_rows(connection: &impl ConnectionTrait, after: i64, end: i64) -> Result<Option<Rows>> {
    let sql = format!(
        "SELECT MIN(id), MAX(id), COUNT(*), SUM(CASE WHEN gap < {GAP} THEN gap ELSE 0 END)
         FROM (SELECT id, id - LAG(id) OVER (ORDER BY id) - 1 AS gap
               FROM (SELECT rowid AS id FROM run_events WHERE rowid > $1 AND rowid <= $2
                     ORDER BY rowid LIMIT {ROWS}) AS next) AS numbered"
    );
    let backend = connection.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [after.into(), end.into()]);
    let found = connection.query_all_raw(statement).await.map_err(refused)?;
    let Some(row) = found.first() else { return Ok(None) };
    let cell = |at| row.try_get_by_index::<Option<i64>>(at).map_err(refused);
    let (first, last, count, missing) = (cell(0)?, cell(1)?, cell(2)?, cell(3)?);
    Ok(first.zip(last).map(|(first, last)| Rows {
        first,
        last,
        count: count.unwrap_or_default(),
        missing: missing.unwrap_or_default(),
    }))
}

/// Gives rows the numbers after the last, which writes them at the end. Nothing else goes by these numbers.
fn rewrite(backend: DatabaseBackend, first: i64, last: i64) -> Statement {
    let sql = format!(
        "UPDATE run_events SET rowid = (SELECT MAX(rowid) FROM run_events) + left_over.place
         FROM (SELECT rowid AS id, ROW_NUMBER() OVER (ORDER BY rowid) AS place FROM run_events
               WHERE rowid >= $1 AND rowid <= $2 AND octet_length(content) < {LARGE}) AS left_over
         WHERE run_events.rowid = left_over.id"
    );
    Statement::from_sql_and_values(backend, sql, [first.into(), last.into()])
}

async fn number(connection: &impl ConnectionTrait, sql: &str) -> Result<i64> {
    let rows = pragma(connection, sql).await?;
    rows.first().map_or(Ok(0), |row| row.try_get_by_index(0)).map_err(refused)
}

async fn pragma(connection: &impl ConnectionTrait, sql: &str) -> Result<Vec<QueryResult>> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_all_raw(statement).await.map_err(refused)
}

fn text(row: &QueryResult, column: &str) -> Result<String> {
    Ok(row.try_get::<Option<String>>("", column).map_err(refused)?.unwrap_or_default())
}

fn refused(error: sea_orm::DbErr) -> Error {
    error_map::map("to tell or give back its space", error)
}
