//! Where imports stand, and what they could not make records of.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    ImportCursor, ImportSource, ImportStore, ListRange, QuarantineId, Quarantined, Result, Scope, ThreadId,
    check_quarantined,
};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement,
};

use super::{execute, probe, record, records, signed};
use crate::connect::Database;
use crate::entity::{import_cursor, quarantined};

/// How many parts one statement keeps, so that no database runs out of parameters.
const ROWS: usize = 500;

/// Imports over SQL.
#[derive(Debug)]
pub(crate) struct Imports(pub(crate) Arc<Database>);

#[async_trait]
impl ImportStore for Imports {
    async fn cursor(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        source: &ImportSource,
    ) -> Result<Option<ImportCursor>> {
        let statement = cursor(self.0.reader.get_database_backend(), scope, thread, source);
        let operation = "to read where the import stands";
        let found =
            record::<import_cursor::Model, ImportCursor>(&self.0.reader, operation, statement).await?;
        if found.is_none() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(found)
    }

    async fn set_cursor(&self, scope: &Scope, thread: &ThreadId, cursor: ImportCursor) -> Result<()> {
        cursor.check()?;
        let (scope, thread) = (scope.clone(), thread.clone());
        self.0
            .transaction("to keep where the import stands", move |txn| {
                let (scope, thread, cursor) = (scope.clone(), thread.clone(), cursor.clone());
                Box::pin(async move {
                    probe::lock_head(txn, &scope, &thread).await?;
                    let statement = set_cursor(txn.get_database_backend(), &thread, cursor);
                    execute(txn, "to keep where the import stands", statement).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn quarantine(&self, scope: &Scope, thread: &ThreadId, found: Vec<Quarantined>) -> Result<u64> {
        check_quarantined(&found)?;
        let (scope, thread) = (scope.clone(), thread.clone());
        self.0
            .transaction("to keep what is no record", move |txn| {
                let (scope, thread, found) = (scope.clone(), thread.clone(), found.clone());
                Box::pin(async move {
                    probe::lock_head(txn, &scope, &thread).await?;
                    let mut new = 0;
                    for parts in found.chunks(ROWS) {
                        let statement = quarantine(txn.get_database_backend(), &thread, parts);
                        new += execute(txn, "to keep what is no record", statement).await?.rows_affected();
                    }
                    Ok(new)
                })
            })
            .await
    }

    async fn list_quarantined(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&QuarantineId>,
        limit: u32,
    ) -> Result<Vec<Quarantined>> {
        let limit = ListRange::newest(limit).checked_limit()?;
        let statement = list_quarantined(self.0.reader.get_database_backend(), scope, thread, after, limit);
        let operation = "to list what is no record";
        let found = records::<quarantined::Model, Quarantined>(&self.0.reader, operation, statement).await?;
        if found.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(found)
    }
}

pub(super) fn cursor(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    source: &ImportSource,
) -> Statement {
    use import_cursor::{Column, Entity};
    Entity::find()
        .filter(Column::Source.eq(source.as_str()))
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

fn set_cursor(backend: DatabaseBackend, thread: &ThreadId, cursor: ImportCursor) -> Statement {
    use import_cursor::{ActiveModel, Column, Entity};
    let row = ActiveModel {
        source: ActiveValue::Set(cursor.source.to_string()),
        byte_offset: ActiveValue::Set(signed(cursor.byte_offset)),
        last_line_hash: ActiveValue::Set(cursor.last_line_hash),
        thread_id: ActiveValue::Set(Some(thread.to_string())),
        updated_at: ActiveValue::Set(cursor.updated_at.to_chrono()),
    };
    let replaced = [Column::ByteOffset, Column::LastLineHash, Column::ThreadId, Column::UpdatedAt];
    Entity::insert(row)
        .on_conflict(OnConflict::column(Column::Source).update_columns(replaced).to_owned())
        .build(backend)
}

fn quarantine(backend: DatabaseBackend, thread: &ThreadId, parts: &[Quarantined]) -> Statement {
    use quarantined::{ActiveModel, Column, Entity};
    let rows = parts.iter().map(|part| ActiveModel {
        thread_id: ActiveValue::Set(thread.to_string()),
        quarantine_id: ActiveValue::Set(part.quarantine_id.to_string()),
        seq: ActiveValue::Set(part.seq.map(signed)),
        source: ActiveValue::Set(part.source.clone()),
        reason: ActiveValue::Set(part.reason.clone()),
        content_hash: ActiveValue::Set(part.content_hash.clone()),
        content: ActiveValue::Set(part.content.clone()),
        created_at: ActiveValue::Set(part.created_at.to_chrono()),
    });
    let key = [Column::ThreadId, Column::QuarantineId];
    Entity::insert_many(rows).on_conflict(OnConflict::columns(key).do_nothing().to_owned()).build(backend)
}

pub(super) fn list_quarantined(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    after: Option<&QuarantineId>,
    limit: u32,
) -> Statement {
    use quarantined::{Column, Entity};
    let mut select =
        Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread));
    if let Some(after) = after {
        select = select.filter(Column::QuarantineId.gt(after.as_str()));
    }
    select.order_by_asc(Column::QuarantineId).limit(u64::from(limit)).build(backend)
}
