//! The item index.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    ClaimedItem, Error, ItemEntry, ItemFilter, ItemId, ItemStatus, ItemStore, Result, RunId, Scope, SeqPage,
    SeqRange, SeqScan, ThreadId,
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryTrait, Statement,
};

use super::{held, log, probe, record, records};
use crate::connect::Database;
use crate::entity::thread_item::{Column, Entity, Model};

/// The item index over SQL.
#[derive(Debug)]
pub(crate) struct Items(pub(crate) Arc<Database>);

#[async_trait]
impl ItemStore for Items {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId, item: &ItemId) -> Result<ItemEntry> {
        let statement = get(self.0.reader.get_database_backend(), scope, thread, run, item);
        match record::<Model, ItemEntry>(&self.0.reader, "to read the item", statement).await? {
            Some(entry) => Ok(entry),
            None => {
                probe::require(&self.0.reader, scope, thread).await?;
                Err(Error::not_found("item", item))
            }
        }
    }

    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ItemFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<ItemEntry>> {
        let scan = range.resolve()?;
        let statement = list(self.0.reader.get_database_backend(), scope, thread, filter, &scan);
        let entries = records::<Model, ItemEntry>(&self.0.reader, "to list items", statement).await?;
        if entries.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(scan.page(entries))
    }

    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem> {
        held::claim(&self.0, scope, thread, run, item, epoch).await
    }
}

pub(super) fn get(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    item: &ItemId,
) -> Statement {
    Entity::find()
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::RunId.eq(run.as_str()))
        .filter(Column::ItemId.eq(item.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    filter: &ItemFilter,
    scan: &SeqScan,
) -> Statement {
    let mut select =
        Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread));
    match &filter.status {
        None => {}
        // The partial index's own words; with a parameter it could not be used.
        Some(ItemStatus::InProgress) => {
            select = select.filter(Expr::cust(r#""thread_items"."status" = 'in_progress'"#));
        }
        Some(status) => select = select.filter(Column::Status.eq(status.as_str())),
    }
    if let Some(run) = &filter.run_id {
        // Hidden from the choice of an index: the primary key finds a run's items too, but in the
        // order of their ids, and then they would have to be sorted. The run's range is what bounds the page.
        select = select.filter(Expr::cust(r#""thread_items"."run_id" || ''"#).eq(run.as_str()));
    }
    log::page(select, Column::StartedSeq, scan, filter.run_id.as_ref().map(|run| (thread, run)))
        .build(backend)
}
