//! Runs, for readers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runledger_core::{
    CancelAction, Claimable, Contents, Cursor, Error, Lease, ListRange, Page, Reservation, Reserve, Result,
    Run, RunFilter, RunId, RunStore, Scope, Sweep, ThreadId, Timestamp, Visibility, WorkerId,
    check_run_count,
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
};

use super::{held, leases, listed, one, page, probe, visibility};
use crate::connect::Database;
use crate::entity::run::{Column, Entity, Model};

/// Runs over SQL.
#[derive(Debug)]
pub(crate) struct Runs(pub(crate) Arc<Database>);

#[async_trait]
impl RunStore for Runs {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Run> {
        let statement = get(self.backend(), scope, thread, run);
        match one::<Model, Run>(&self.0, "to read the run", statement).await? {
            Some(found) => Ok(found),
            None => {
                probe::require(&self.0.reader, scope, thread).await?;
                Err(Error::not_found("run", run))
            }
        }
    }

    async fn find(&self, scope: &Scope, run: &RunId) -> Result<Run> {
        let statement = find(self.backend(), scope, run);
        one::<Model, Run>(&self.0, "to find the run", statement)
            .await?
            .ok_or_else(|| Error::not_found("run", run))
    }

    async fn find_by_idempotency_key(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        key: &str,
    ) -> Result<Option<Run>> {
        // No stored key has one, and PostgreSQL takes none in a parameter.
        if key.contains('\0') {
            return Err(Error::invalid("idempotency_key", "contains NUL"));
        }
        let statement = by_idempotency_key(self.backend(), scope, thread, key);
        let found = one::<Model, Run>(&self.0, "to find the run", statement).await?;
        if found.is_none() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(found)
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, range: &ListRange) -> Result<Page<Run>> {
        check_run_count(&filter.run_ids)?;
        let limit = range.checked_limit()?;
        let statement = list(self.backend(), scope, filter, range, limit)?;
        let runs = page::<Model, Run>(&self.0, "to list runs", statement).await?;
        if runs.is_empty()
            && let Some(thread) = &filter.thread_id
        {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(Page::from_rows(runs, limit, |run| Cursor::at_run(run.created_at, &run.run_id, &run.thread_id)))
    }

    async fn set_visibility(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        visibility: Visibility,
    ) -> Result<Run> {
        visibility::set(&self.0, scope, thread, run, &visibility).await
    }

    async fn rewind(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Vec<RunId>> {
        visibility::rewind(&self.0, scope, thread, run).await
    }

    async fn lease(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Option<Lease>> {
        match leases::lease(&self.0, scope, thread, run).await? {
            Some(lease) => Ok(Some(lease)),
            None => self.get(scope, thread, run).await.map(|_| None),
        }
    }

    async fn request_cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
        at: Timestamp,
    ) -> Result<Option<Lease>> {
        match leases::cancel(&self.0, scope, thread, run, &action, at).await? {
            Some(lease) => Ok(Some(lease)),
            None => self.get(scope, thread, run).await.map(|_| None),
        }
    }

    async fn renew_leases(&self, scope: &Scope, worker: &WorkerId, ttl: Duration) -> Result<Vec<Lease>> {
        leases::renew_all(&self.0, scope, worker, ttl).await
    }

    async fn list_claimable(&self, scope: &Scope, sweep: &Sweep, limit: u32) -> Result<Vec<Claimable>> {
        leases::claimable(&self.0, scope, sweep, limit).await
    }

    async fn reserve(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        wanted: Reserve,
    ) -> Result<Reservation> {
        held::reserve(&self.0, scope, thread, run, epoch, wanted).await
    }

    async fn release(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        given: Reserve,
    ) -> Result<()> {
        held::release(&self.0, scope, thread, run, epoch, given).await
    }
}

impl Runs {
    fn backend(&self) -> DatabaseBackend {
        self.0.reader.get_database_backend()
    }
}

pub(super) fn of_thread(scope: &Scope, thread: &ThreadId) -> Select<Entity> {
    Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread))
}

/// Runs of every thread the scope sees. A run is stamped with its thread's owner, and goes with its thread.
fn of_scope(scope: &Scope) -> Select<Entity> {
    match scope.owner() {
        Some(owner) => Entity::find().filter(Column::OwnerId.eq(owner.as_str())),
        None => Entity::find(),
    }
}

pub(super) fn get(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, run: &RunId) -> Statement {
    of_thread(scope, thread).filter(Column::RunId.eq(run.as_str())).build(backend)
}

pub(super) fn find(backend: DatabaseBackend, scope: &Scope, run: &RunId) -> Statement {
    let select = Entity::find().filter(Column::RunId.eq(run.as_str()));
    // The owner is hidden from the choice of an index: SQLite would rather walk all runs of the owner
    // than sort the one or two with this id.
    match scope.owner() {
        Some(owner) => select.filter(Expr::cust(r#""runs"."owner_id" || ''"#).eq(owner.as_str())),
        None => select,
    }
    .order_by_desc(Column::CreatedAt)
    .order_by_desc(Column::ThreadId)
    .limit(1)
    .build(backend)
}

pub(super) fn by_idempotency_key(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    key: &str,
) -> Statement {
    of_thread(scope, thread).filter(Column::IdempotencyKey.eq(key)).build(backend)
}

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    filter: &RunFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select = match &filter.thread_id {
        Some(thread) => of_thread(scope, thread),
        None => of_scope(scope),
    };
    if !filter.run_ids.is_empty() {
        select = select.filter(Column::RunId.is_in(filter.run_ids.iter().map(RunId::as_str)));
    }
    if let Some(status) = &filter.status {
        select = select.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(kind) = &filter.operation_kind {
        select = select.filter(Column::OperationKind.eq(kind.as_str()));
    }
    if let Some(from) = filter.created_from {
        select = select.filter(Column::CreatedAt.gte(from.to_chrono()));
    }
    if let Some(before) = filter.created_before {
        select = select.filter(Column::CreatedAt.lt(before.to_chrono()));
    }
    if let Some(cursor) = &range.cursor {
        let (at, run, thread) = cursor.run_position()?;
        let row =
            [Column::CreatedAt, Column::RunId, Column::ThreadId].map(|column| Expr::col((Entity, column)));
        let end =
            Expr::tuple([Expr::val(at.to_chrono()), Expr::val(run.as_str()), Expr::val(thread.as_str())]);
        select = select.filter(Expr::tuple(row).lt(end));
    }
    if filter.contents == Contents::Omitted {
        select = listed(select, &[Column::Kwargs, Column::Metadata], &[]);
    }
    Ok(select
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::RunId)
        .order_by_desc(Column::ThreadId)
        .limit(u64::from(limit) + 1)
        .build(backend))
}
