//! Questions to people. They are written with commits.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    Cursor, Error, Interaction, InteractionFilter, InteractionId, InteractionStore, ListRange, Page, Result,
    Scope, ThreadId,
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Statement,
};

use super::{probe, record, records};
use crate::connect::Database;
use crate::entity::interaction::{Column, Entity, Model};

/// Interactions over SQL.
#[derive(Debug)]
pub(crate) struct Interactions(pub(crate) Arc<Database>);

#[async_trait]
impl InteractionStore for Interactions {
    async fn get(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        interaction: &InteractionId,
    ) -> Result<Interaction> {
        let statement = get(self.0.reader.get_database_backend(), scope, thread, interaction);
        match record::<Model, Interaction>(&self.0.reader, "to read the interaction", statement).await? {
            Some(found) => Ok(found),
            None => {
                probe::require(&self.0.reader, scope, thread).await?;
                Err(Error::not_found("interaction", interaction))
            }
        }
    }

    async fn list(
        &self,
        scope: &Scope,
        filter: &InteractionFilter,
        range: &ListRange,
    ) -> Result<Page<Interaction>> {
        filter.check()?;
        let limit = range.checked_limit()?;
        let statement = list(self.0.reader.get_database_backend(), scope, filter, range, limit)?;
        let found = records::<Model, Interaction>(&self.0.reader, "to list interactions", statement).await?;
        if let (true, Some(thread)) = (found.is_empty(), &filter.thread_id) {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(Page::from_rows(found, limit, |it| {
            Cursor::at_pair(it.created_at, it.interaction_id.as_str(), it.thread_id.as_str())
        }))
    }
}

pub(super) fn get(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    interaction: &InteractionId,
) -> Statement {
    Entity::find()
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::InteractionId.eq(interaction.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    filter: &InteractionFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select = Entity::find();
    if let Some(thread) = &filter.thread_id {
        select = select.filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread));
    } else if let Some(owner) = scope.owner() {
        select = select.filter(Column::OwnerId.eq(owner.as_str()));
    }
    if let Some(status) = &filter.status {
        select = select.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(cursor) = &range.cursor {
        let (at, interaction, thread) = cursor.pair_position()?;
        let place = Expr::tuple([Column::CreatedAt, Column::InteractionId, Column::ThreadId].map(Expr::col));
        select = select.filter(place.lt(Expr::tuple([
            Expr::val(at.to_chrono()),
            Expr::val(interaction),
            Expr::val(thread),
        ])));
    }
    Ok(select
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::InteractionId)
        .order_by_desc(Column::ThreadId)
        .limit(u64::from(limit) + 1)
        .build(backend))
}
