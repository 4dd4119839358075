//! The space of a SQLite file. PostgreSQL sees to its own.

use std::path::{Path, PathBuf};

use runledger_core::{Error, Result};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::Shrinks;
use crate::connect::Database;
use crate::dialect::Dialect;
use crate::error_map;

/// Pages of one step: other writers wait no longer than it takes to move them.
const PAGES: i64 = 1_000;

/// What the files of the database take; `None` where there are none.
pub(super) async fn file_bytes(database: &Database) -> Result<Option<u64>> {
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

/// Gives free pages back to the file system, so many at a time, and empties the write-ahead log.
pub(super) async fn give_back(database: &Database) -> Result<Shrinks> {
    let shrinks = shrinks(database).await?;
    if shrinks == Shrinks::Yes {
        let mut free = number(&database.reader, "PRAGMA freelist_count").await?;
        // Whoever deletes meanwhile must not keep this from ending.
        let mut steps = free / PAGES + 1;
        while free > 0 && steps > 0 {
            database
                .transaction("to give space back", |txn| {
                    Box::pin(async move {
                        let step = format!("PRAGMA incremental_vacuum({PAGES})");
                        pragma(txn, &step).await.map(drop)
                    })
                })
                .await?;
            free = number(&database.reader, "PRAGMA freelist_count").await?;
            steps -= 1;
        }
    }
    // The file itself gets smaller when the log is moved into it.
    let moved = pragma(&database.writer, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
    let busy = moved.first().map_or(Ok(0), |row| row.try_get_by_index::<i64>(0)).map_err(refused)?;
    Ok(if busy == 0 || shrinks == Shrinks::No { shrinks } else { Shrinks::Later })
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
