//! Feedback. Whoever gives or changes some takes the head of its thread first, so that the run stays that it is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    Cursor, Error, Feedback, FeedbackFilter, FeedbackId, FeedbackPatch, FeedbackStats, FeedbackStore, ItemId,
    ListRange, NewFeedback, OwnerId, Page, Result, RunId, Scope, ThreadId, Timestamp, check_run_count,
};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement,
};

use super::{execute, items, position, probe, record, records, rows, runs, unreadable};
use crate::connect::Database;
use crate::entity::feedback::{ActiveModel, Column, Entity, Model, rating};

/// Feedback over SQL.
#[derive(Debug)]
pub(crate) struct FeedbackOf(pub(crate) Arc<Database>);

/// What becomes of feedback where the same person gave some on the same before.
#[derive(Clone, Copy)]
enum Repeated {
    Refused,
    Replaces,
}

#[async_trait]
impl FeedbackStore for FeedbackOf {
    async fn create(&self, scope: &Scope, new: NewFeedback) -> Result<Feedback> {
        self.give(scope, new, Repeated::Refused).await
    }

    async fn put(&self, scope: &Scope, new: NewFeedback) -> Result<Feedback> {
        self.give(scope, new, Repeated::Replaces).await
    }

    async fn get(&self, scope: &Scope, thread: &ThreadId, feedback: &FeedbackId) -> Result<Feedback> {
        let reader = &self.0.reader;
        let statement = get(reader.get_database_backend(), scope, thread, feedback);
        match record::<Model, Feedback>(reader, "to read the feedback", statement).await? {
            Some(found) => Ok(found),
            None => {
                probe::require(reader, scope, thread).await?;
                Err(Error::not_found("feedback", feedback))
            }
        }
    }

    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &FeedbackFilter,
        range: &ListRange,
    ) -> Result<Page<Feedback>> {
        check_run_count(&filter.run_ids)?;
        let limit = range.checked_limit()?;
        let reader = &self.0.reader;
        let statement = list(reader.get_database_backend(), scope, thread, filter, range, limit)?;
        let found = records::<Model, Feedback>(reader, "to list feedback", statement).await?;
        if found.is_empty() {
            probe::require(reader, scope, thread).await?;
        }
        Ok(Page::from_rows(found, limit, |it| Cursor::at(it.created_at, it.feedback_id.as_str())))
    }

    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        feedback: &FeedbackId,
        patch: FeedbackPatch,
        at: Timestamp,
    ) -> Result<Feedback> {
        let (scope, thread, feedback) = (scope.clone(), thread.clone(), feedback.clone());
        self.0
            .transaction("to change the feedback", move |txn| {
                let (scope, thread, feedback) = (scope.clone(), thread.clone(), feedback.clone());
                let patch = patch.clone();
                Box::pin(async move {
                    probe::lock_head(txn, &scope, &thread).await?;
                    let statement = get(txn.get_database_backend(), &scope, &thread, &feedback);
                    let mut found = record::<Model, Feedback>(txn, "to read the feedback", statement)
                        .await?
                        .ok_or_else(|| Error::not_found("feedback", &feedback))?;
                    found.apply(patch, at)?;
                    write(txn, &found).await?;
                    Ok(found)
                })
            })
            .await
    }

    async fn delete(&self, scope: &Scope, thread: &ThreadId, feedback: &FeedbackId) -> Result<()> {
        let (scope, thread, feedback) = (scope.clone(), thread.clone(), feedback.clone());
        self.0
            .transaction("to take the feedback back", move |txn| {
                let (scope, thread, feedback) = (scope.clone(), thread.clone(), feedback.clone());
                Box::pin(async move {
                    probe::lock_head(txn, &scope, &thread).await?;
                    let statement = Entity::delete_many()
                        .filter(Column::ThreadId.eq(thread.as_str()))
                        .filter(Column::FeedbackId.eq(feedback.as_str()))
                        .build(txn.get_database_backend());
                    match execute(txn, "to take the feedback back", statement).await?.rows_affected() {
                        0 => Err(Error::not_found("feedback", &feedback)),
                        _ => Ok(()),
                    }
                })
            })
            .await
    }

    async fn stats(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, FeedbackStats>> {
        check_run_count(runs)?;
        let reader = &self.0.reader;
        let statement = stats(reader.get_database_backend(), scope, thread, runs);
        let found = rows(reader, "to count feedback", statement).await?;
        if found.is_empty() {
            probe::require(reader, scope, thread).await?;
        }
        let mut stats: BTreeMap<RunId, FeedbackStats> = BTreeMap::new();
        for row in &found {
            let run = RunId::new(row.try_get_by_index::<String>(0).map_err(unreadable)?)?;
            let rating = rating(row.try_get_by_index(1).map_err(unreadable)?)?;
            let count: i64 = row.try_get_by_index(2).map_err(unreadable)?;
            stats.entry(run).or_default().add(rating, u64::try_from(count).unwrap_or_default());
        }
        Ok(stats)
    }
}

impl FeedbackOf {
    async fn give(&self, scope: &Scope, new: NewFeedback, repeated: Repeated) -> Result<Feedback> {
        let new = new.into_feedback(scope)?;
        let scope = scope.clone();
        self.0
            .transaction("to give feedback", move |txn| {
                let (scope, new) = (scope.clone(), new.clone());
                Box::pin(async move { give(txn, &scope, new, repeated).await })
            })
            .await
    }
}

async fn give(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    new: Feedback,
    repeated: Repeated,
) -> Result<Feedback> {
    probe::lock_head(connection, scope, &new.thread_id).await?;
    let backend = connection.get_database_backend();
    let is_missing = |statement| async {
        Ok::<_, Error>(rows(connection, "to look for what feedback is about", statement).await?.is_empty())
    };
    if is_missing(runs::get(backend, scope, &new.thread_id, &new.run_id)).await? {
        return Err(Error::not_found("run", &new.run_id));
    }
    if let Some(item) = &new.item_id
        && is_missing(items::get(backend, scope, &new.thread_id, &new.run_id, item)).await?
    {
        return Err(Error::not_found("item", item));
    }
    let before = record::<Model, Feedback>(connection, "to read the feedback", opinion_like(backend, &new));
    match (before.await?, repeated) {
        (Some(before), Repeated::Replaces) => {
            let put = before.replaced_by(new);
            write(connection, &put).await?;
            Ok(put)
        }
        (Some(_), Repeated::Refused) => Err(Error::already_exists("feedback", &new.feedback_id)),
        (None, _) => {
            let inserted = execute(connection, "to give feedback", insert(backend, &new)).await?;
            match inserted.rows_affected() {
                0 => Err(Error::already_exists("feedback", &new.feedback_id)),
                _ => Ok(new),
            }
        }
    }
}

/// Writes what may change of feedback that is there.
async fn write(connection: &impl ConnectionTrait, feedback: &Feedback) -> Result<()> {
    let mut update = Query::update();
    update
        .table(Entity)
        .value(Column::Rating, i64::from(i8::from(feedback.rating)))
        .value(Column::Comment, feedback.comment.as_deref())
        .value(Column::UpdatedAt, feedback.updated_at.to_chrono())
        .and_where(Column::ThreadId.eq(feedback.thread_id.as_str()))
        .and_where(Column::FeedbackId.eq(feedback.feedback_id.as_str()));
    let statement = connection.get_database_backend().build(&update);
    execute(connection, "to change the feedback", statement).await.map(drop)
}

fn insert(backend: DatabaseBackend, feedback: &Feedback) -> Statement {
    let row = ActiveModel {
        thread_id: ActiveValue::Set(feedback.thread_id.to_string()),
        feedback_id: ActiveValue::Set(feedback.feedback_id.to_string()),
        run_id: ActiveValue::Set(feedback.run_id.to_string()),
        item_id: ActiveValue::Set(feedback.item_id.as_ref().map(ItemId::to_string)),
        owner_id: ActiveValue::Set(feedback.owner_id.as_ref().map(OwnerId::to_string)),
        rating: ActiveValue::Set(i64::from(i8::from(feedback.rating))),
        comment: ActiveValue::Set(feedback.comment.clone()),
        created_at: ActiveValue::Set(feedback.created_at.to_chrono()),
        updated_at: ActiveValue::Set(feedback.updated_at.to_chrono()),
    };
    Entity::insert(row).on_conflict(OnConflict::new().do_nothing().to_owned()).build(backend)
}

/// What the same person thought of the same before; of several that are nobody's, the latest.
pub(super) fn opinion_like(backend: DatabaseBackend, new: &Feedback) -> Statement {
    let select = Entity::find()
        .filter(Column::ThreadId.eq(new.thread_id.as_str()))
        .filter(Column::RunId.eq(new.run_id.as_str()));
    let select = match &new.item_id {
        Some(item) => select.filter(Column::ItemId.eq(item.as_str())),
        None => select.filter(Column::ItemId.is_null()),
    };
    let select = match &new.owner_id {
        Some(owner) => select.filter(Column::OwnerId.eq(owner.as_str())),
        None => select.filter(Column::OwnerId.is_null()),
    };
    select.order_by_desc(Column::CreatedAt).order_by_desc(Column::FeedbackId).limit(1).build(backend)
}

pub(super) fn get(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    feedback: &FeedbackId,
) -> Statement {
    Entity::find()
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::FeedbackId.eq(feedback.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    filter: &FeedbackFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select =
        Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread));
    if !filter.run_ids.is_empty() {
        select = select.filter(Column::RunId.is_in(filter.run_ids.iter().map(RunId::as_str)));
    }
    if let Some(item) = &filter.item_id {
        select = select.filter(Column::ItemId.eq(item.as_str()));
    }
    if let Some(cursor) = &range.cursor {
        let (at, id) = position(cursor)?;
        let place = Expr::tuple([Column::CreatedAt, Column::FeedbackId].map(Expr::col));
        select = select.filter(place.lt(Expr::tuple([Expr::val(at), Expr::val(id)])));
    }
    Ok(select
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::FeedbackId)
        .limit(u64::from(limit) + 1)
        .build(backend))
}

/// Runs, ratings, and how often each was given.
pub(super) fn stats(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, runs: &[RunId]) -> Statement {
    Entity::find()
        .select_only()
        .column(Column::RunId)
        .column(Column::Rating)
        .expr(Expr::cust("COUNT(*)"))
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::RunId.is_in(runs.iter().map(RunId::as_str)))
        .filter(probe::visible(scope, thread))
        .group_by(Column::RunId)
        .group_by(Column::Rating)
        .build(backend)
}
