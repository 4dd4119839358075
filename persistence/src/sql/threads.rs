//! Threads: created, listed and edited. What concerns more than one is in `tree`, `deletion` and `erasure`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runledger_core::{
    AssistantId, ChildFilter, Cursor, Deleted, Deletion, DeletionFilter, Erased, Erasure, Error, HeadState,
    ItemId, ListRange, NewThread, OwnerId, Page, Result, RunId, Scope, Thread, ThreadFilter, ThreadHead,
    ThreadId, ThreadPatch, ThreadStore, Timestamp, check_run_count, require_system_scope, text,
};
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryTrait, Statement,
};

use super::{
    audit, deletion, erasure, execute, one, page, probe, record, records, signed, thread_list, tree,
};
use crate::connect::Database;
use crate::dialect;
use crate::entity::deletion::Model as DeletionModel;
use crate::entity::thread::{Column, Entity, Model};
use crate::entity::thread_head::{Column as HeadColumn, Entity as Heads, Model as HeadModel};

/// Threads over SQL.
#[derive(Debug)]
pub(crate) struct Threads(pub(crate) Arc<Database>);

#[async_trait]
impl ThreadStore for Threads {
    async fn create(&self, scope: &Scope, new: NewThread) -> Result<Thread> {
        let (scope, spawn, fork) = (scope.clone(), new.spawn.clone(), new.fork.clone());
        let thread = new.into_thread(&scope)?;
        self.0
            .transaction("to create the thread", move |txn| {
                let (scope, thread) = (scope.clone(), thread.clone());
                let (spawn, fork) = (spawn.clone(), fork.clone());
                Box::pin(async move {
                    if let Some(origin) = fork {
                        probe::require(txn, &scope, &origin.source_thread_id).await?;
                    }
                    let thread = match spawn {
                        Some(spawn) => tree::place(txn, &scope, spawn, thread).await?,
                        None => thread,
                    };
                    create(txn, thread).await
                })
            })
            .await
    }

    async fn get(&self, scope: &Scope, thread: &ThreadId) -> Result<Thread> {
        let statement = get_statement(self.0.reader.get_database_backend(), scope, thread);
        let found = one::<Model, Thread>(&self.0, "to read the thread", statement).await?;
        found.ok_or_else(|| Error::not_found("thread", thread))
    }

    async fn head(&self, scope: &Scope, thread: &ThreadId) -> Result<ThreadHead> {
        let statement = probe::head_select(scope, thread).build(self.0.reader.get_database_backend());
        let found = one::<HeadModel, ThreadHead>(&self.0, "to read the thread's head", statement).await?;
        found.ok_or_else(|| Error::not_found("thread", thread))
    }

    async fn heads(&self, scope: &Scope, threads: &[ThreadId]) -> Result<Vec<ThreadHead>> {
        probe::heads(&self.0.reader, scope, threads).await
    }

    async fn list(&self, scope: &Scope, filter: &ThreadFilter, range: &ListRange) -> Result<Page<Thread>> {
        thread_list::page(&self.0, scope, filter, range).await
    }

    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        patch: ThreadPatch,
        at: Timestamp,
    ) -> Result<Thread> {
        let (scope, thread) = (scope.clone(), thread.clone());
        self.0
            .transaction("to edit the thread", move |txn| {
                let (scope, thread, patch) = (scope.clone(), thread.clone(), patch.clone());
                Box::pin(async move { update(txn, &scope, &thread, patch, at).await })
            })
            .await
    }

    async fn set_owner(&self, scope: &Scope, thread: &ThreadId, owner: Option<OwnerId>) -> Result<Thread> {
        require_system_scope(scope, "gives a thread to somebody else")?;
        let thread = thread.clone();
        self.0
            .transaction("to change the owner", move |txn| {
                let (thread, owner) = (thread.clone(), owner.clone());
                Box::pin(async move { erasure::set_owner(txn, &thread, owner.as_ref()).await })
            })
            .await
    }

    async fn delete(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        deletion::of_thread(&self.0, scope, thread).await
    }

    async fn list_children(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &ChildFilter,
        range: &ListRange,
    ) -> Result<Page<Thread>> {
        check_run_count(&filter.spawn_run_ids)?;
        let limit = range.checked_limit()?;
        let reader = &self.0.reader;
        let statement = tree::children(reader.get_database_backend(), scope, thread, filter, range, limit)?;
        let children = page::<Model, Thread>(&self.0, "to list the children", statement).await?;
        if children.is_empty() {
            probe::require(reader, scope, thread).await?;
        }
        Ok(Page::from_rows(children, limit, |child| Cursor::at(child.created_at, child.thread_id.as_str())))
    }

    async fn archive(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread> {
        self.set_state(scope, thread, HeadState::Archived, at).await
    }

    async fn unarchive(&self, scope: &Scope, thread: &ThreadId, at: Timestamp) -> Result<Thread> {
        self.set_state(scope, thread, HeadState::Open, at).await
    }

    async fn list_spent(&self, scope: &Scope, idle: Duration, limit: u32) -> Result<Vec<ThreadId>> {
        require_system_scope(scope, "looks for threads that have served")?;
        let limit = ListRange::newest(limit).checked_limit()?;
        let statement = tree::spent(self.0.reader.get_database_backend(), idle, limit);
        tree::read_ids(&self.0.reader, "to list spent threads", statement).await
    }

    async fn list_deletions(
        &self,
        scope: &Scope,
        filter: &DeletionFilter,
        range: &ListRange,
    ) -> Result<Page<Deletion>> {
        require_system_scope(scope, "looks at what was deleted")?;
        let limit = range.checked_limit()?;
        let statement = audit::list(self.0.reader.get_database_backend(), filter, range, limit)?;
        let found =
            records::<DeletionModel, Deletion>(&self.0.reader, "to list deletions", statement).await?;
        Ok(Page::from_rows(found, limit, |it| Cursor::at_seq(it.deleted_at, &it.thread_id, it.from_seq)))
    }

    async fn erase_remains(&self, scope: &Scope, owner: &OwnerId, erasure: Erasure) -> Result<Erased> {
        require_system_scope(scope, "erases an owner")?;
        erasure::remains(&self.0, owner, erasure).await
    }
}

impl Threads {
    async fn set_state(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        wanted: HeadState,
        at: Timestamp,
    ) -> Result<Thread> {
        let (scope, thread) = (scope.clone(), thread.clone());
        self.0
            .transaction("to archive the thread", move |txn| {
                let (scope, thread, wanted) = (scope.clone(), thread.clone(), wanted.clone());
                Box::pin(async move { tree::set_state(txn, &scope, &thread, &wanted, at).await })
            })
            .await
    }
}

/// The statement that reads one thread. `threads.owner_id` is changed with the head's, and a deleted
/// thread has no row here, so the probe needs no other table.
pub(super) fn get_statement(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId) -> Statement {
    let select = Entity::find().filter(Column::ThreadId.eq(thread.as_str()));
    match scope.owner() {
        Some(owner) => select.filter(Column::OwnerId.eq(owner.as_str())),
        None => select,
    }
    .build(backend)
}

pub(super) async fn get(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<Thread> {
    let statement = get_statement(connection.get_database_backend(), scope, thread);
    record::<Model, Thread>(connection, "to read the thread", statement)
        .await?
        .ok_or_else(|| Error::not_found("thread", thread))
}

/// Writes the head, then the thread. A head that is there, a tombstone's included, is `AlreadyExists`.
pub(crate) async fn create(connection: &impl ConnectionTrait, thread: Thread) -> Result<Thread> {
    let backend = connection.get_database_backend();
    let head = execute(connection, "to create the thread's head", insert_head(backend, &thread)?).await?;
    if head.rows_affected() == 0 {
        return Err(Error::already_exists("thread", &thread.thread_id));
    }
    execute(connection, "to create the thread", insert_thread(backend, &thread)?).await?;
    Ok(thread)
}

fn insert_head(backend: DatabaseBackend, thread: &Thread) -> Result<Statement> {
    let mut insert = Query::insert();
    insert
        .into_table(Heads)
        .columns([
            HeadColumn::ThreadId,
            HeadColumn::OwnerId,
            HeadColumn::ParentThreadId,
            HeadColumn::State,
            HeadColumn::NextSeq,
            HeadColumn::UpdatedAt,
        ])
        .values([
            Expr::val(thread.thread_id.as_str()),
            Expr::val(thread.owner_id.as_ref().map(OwnerId::as_str)),
            Expr::val(thread.parent_thread_id.as_ref().map(ThreadId::as_str)),
            Expr::val(HeadState::Open.as_str()),
            Expr::val(1_i64),
            Expr::val(thread.created_at.to_chrono()),
        ])
        .map_err(unbalanced)?
        .on_conflict(OnConflict::column(HeadColumn::ThreadId).do_nothing().to_owned());
    Ok(backend.build(&insert))
}

fn insert_thread(backend: DatabaseBackend, thread: &Thread) -> Result<Statement> {
    let mut insert = Query::insert();
    insert
        .into_table(Entity)
        .columns([
            Column::ThreadId,
            Column::OwnerId,
            Column::AssistantId,
            Column::DisplayName,
            Column::Status,
            Column::Kind,
            Column::ParentThreadId,
            Column::SpawnRunId,
            Column::SpawnItemId,
            Column::SpawnDepth,
            Column::Lifecycle,
            Column::ForkedFromThreadId,
            Column::ForkedAtSeq,
            Column::SystemPrompt,
            Column::Model,
            Column::Config,
            Column::Metadata,
            Column::Pinned,
            Column::CreatedAt,
            Column::UpdatedAt,
        ])
        .values([
            Expr::val(thread.thread_id.as_str()),
            Expr::val(thread.owner_id.as_ref().map(OwnerId::as_str)),
            Expr::val(thread.assistant_id.as_ref().map(AssistantId::as_str)),
            Expr::val(thread.display_name.as_deref()),
            Expr::val(thread.status.as_str()),
            Expr::val(thread.kind.as_str()),
            Expr::val(thread.parent_thread_id.as_ref().map(ThreadId::as_str)),
            Expr::val(thread.spawn_run_id.as_ref().map(RunId::as_str)),
            Expr::val(thread.spawn_item_id.as_ref().map(ItemId::as_str)),
            Expr::val(i64::from(thread.spawn_depth)),
            Expr::val(thread.lifecycle.as_str()),
            Expr::val(thread.forked_from_thread_id.as_ref().map(ThreadId::as_str)),
            Expr::val(thread.forked_at_seq.map(signed)),
            Expr::val(thread.system_prompt.as_deref()),
            Expr::val(thread.model.as_deref()),
            dialect::jsonb(backend, &text::escape_jsonb(thread.config.as_str())),
            dialect::jsonb(backend, &text::escape_jsonb(thread.metadata.as_str())),
            Expr::val(thread.pinned),
            Expr::val(thread.created_at.to_chrono()),
            Expr::val(thread.updated_at.to_chrono()),
        ])
        .map_err(unbalanced)?;
    Ok(backend.build(&insert))
}

/// Columns and values of an INSERT that do not match; they are constants, so a test meets it.
fn unbalanced(error: sea_orm::sea_query::error::Error) -> Error {
    Error::Backend { operation: "to build an INSERT", source: Box::new(error) }
}

/// Edits the row under the lock of its head, so that of two edits the second sees the first.
async fn update(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
    patch: ThreadPatch,
    at: Timestamp,
) -> Result<Thread> {
    probe::lock_head(connection, scope, thread).await?;
    let mut edited = get(connection, scope, thread).await?;
    edited.apply(patch, at)?;
    let backend = connection.get_database_backend();
    let mut update = Query::update();
    update
        .table(Entity)
        .value(Column::DisplayName, edited.display_name.as_deref())
        .value(Column::AssistantId, edited.assistant_id.as_ref().map(AssistantId::as_str))
        .value(Column::Model, edited.model.as_deref())
        .value(Column::Metadata, dialect::jsonb(backend, &text::escape_jsonb(edited.metadata.as_str())))
        .value(Column::Pinned, edited.pinned)
        .value(Column::UpdatedAt, edited.updated_at.to_chrono())
        .and_where(Column::ThreadId.eq(thread.as_str()));
    execute(connection, "to edit the thread", backend.build(&update)).await?;
    Ok(edited)
}
