//! Large parts of payloads. They are written with commits, and go with the last event that names them.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{Blob, BlobEntry, BlobHash, BlobStore, Error, Result, RunId, Scope, SeqRange, ThreadId};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement, Value,
};

use super::{execute, probe, record, records};
use crate::connect::Database;
use crate::entity::blob::{Column, Entity, Listed, Model};
use crate::entity::event_blob;

/// Blobs over SQL.
#[derive(Debug)]
pub(crate) struct Blobs(pub(crate) Arc<Database>);

#[async_trait]
impl BlobStore for Blobs {
    async fn get(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<Blob> {
        let statement = get(self.0.reader.get_database_backend(), scope, thread, hash);
        match record::<Model, Blob>(&self.0.reader, "to read the blob", statement).await? {
            Some(found) => Ok(found),
            None => {
                probe::require(&self.0.reader, scope, thread).await?;
                Err(Error::not_found("blob", hash))
            }
        }
    }

    async fn entry(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<BlobEntry> {
        let statement = entry(self.0.reader.get_database_backend(), scope, thread, hash);
        match record::<Listed, BlobEntry>(&self.0.reader, "to look for the blob", statement).await? {
            Some(found) => Ok(found),
            None => {
                probe::require(&self.0.reader, scope, thread).await?;
                Err(Error::not_found("blob", hash))
            }
        }
    }

    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&BlobHash>,
        limit: u32,
    ) -> Result<Vec<BlobEntry>> {
        // The one rule for limits.
        let limit = SeqRange::last(limit).resolve()?.limit;
        let statement = list(self.0.reader.get_database_backend(), scope, thread, after, limit);
        let found = records::<Listed, BlobEntry>(&self.0.reader, "to list blobs", statement).await?;
        if found.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(found)
    }
}

pub(super) fn get(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Statement {
    Entity::find()
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::BlobHash.eq(hash.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

pub(super) fn entry(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    hash: &BlobHash,
) -> Statement {
    entries(scope, thread).filter(Column::BlobHash.eq(hash.as_str())).build(backend)
}

pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    after: Option<&BlobHash>,
    limit: u32,
) -> Statement {
    let mut select = entries(scope, thread);
    if let Some(after) = after {
        select = select.filter(Column::BlobHash.gt(after.as_str()));
    }
    select.order_by_asc(Column::BlobHash).limit(u64::from(limit)).build(backend)
}

/// The blobs of a thread without what they hold.
fn entries(scope: &Scope, thread: &ThreadId) -> Select<Entity> {
    let of_blob =
        Expr::col((event_blob::Entity, event_blob::Column::BlobHash)).equals((Entity, Column::BlobHash));
    let events = Query::select()
        .expr(Expr::cust("COUNT(*)"))
        .from(event_blob::Entity)
        .and_where(event_blob::Column::ThreadId.eq(thread.as_str()))
        .and_where(of_blob)
        .to_owned();
    Entity::find()
        .select_only()
        .columns([Column::BlobHash, Column::MediaType, Column::Bytes])
        .expr_as(Expr::SubQuery(None, Box::new(events.into())), "events")
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(probe::visible(scope, thread))
}

/// Whose events went.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gone<'a> {
    /// A run's, whose row still says where they were.
    Run(&'a RunId),
    /// Some between these two numbers, both of them among them.
    Span(i64, i64),
}

/// Removes what events of a thread named that are gone, in the transaction that removed them: the blobs first
/// that no other event names.
pub(super) async fn release(
    connection: &impl ConnectionTrait,
    thread: &ThreadId,
    gone: Gone<'_>,
) -> Result<()> {
    let backend = connection.get_database_backend();
    for statement in [release_blobs(backend, thread, gone), release_uses(backend, thread, gone)] {
        execute(connection, "to remove blobs", statement).await?;
    }
    Ok(())
}

/// Which uses are those of events that are gone.
fn unused(thread: &ThreadId, gone: Gone<'_>) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let (from, through) = match gone {
        Gone::Run(run) => {
            values.push(run.as_str().into());
            let end = |column| format!("(SELECT {column} FROM runs WHERE thread_id = $1 AND run_id = $2)");
            (end("first_seq"), end("last_seq"))
        }
        Gone::Span(from, through) => {
            values.extend([from.into(), through.into()]);
            ("$2".to_owned(), "$3".to_owned())
        }
    };
    // The bounds are said of the events too: else PostgreSQL may read the whole log.
    let condition = format!(
        "event_blobs.thread_id = $1 AND event_blobs.seq >= {from} AND event_blobs.seq <= {through} \
         AND NOT EXISTS (SELECT 1 FROM run_events e WHERE e.thread_id = $1 AND e.seq = event_blobs.seq \
           AND e.seq >= {from} AND e.seq <= {through})"
    );
    (condition, values)
}

pub(super) fn release_blobs(backend: DatabaseBackend, thread: &ThreadId, gone: Gone<'_>) -> Statement {
    let (unused, values) = unused(thread, gone);
    let sql = format!(
        "DELETE FROM blobs WHERE thread_id = $1 \
         AND blob_hash IN (SELECT blob_hash FROM event_blobs WHERE {unused}) \
         AND NOT EXISTS (
           SELECT 1 FROM event_blobs k JOIN run_events e ON e.thread_id = k.thread_id AND e.seq = k.seq
           WHERE k.thread_id = $1 AND k.blob_hash = blobs.blob_hash)"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

pub(super) fn release_uses(backend: DatabaseBackend, thread: &ThreadId, gone: Gone<'_>) -> Statement {
    let (unused, values) = unused(thread, gone);
    Statement::from_sql_and_values(backend, format!("DELETE FROM event_blobs WHERE {unused}"), values)
}
