//! Agent runs: finished ones recorded at once, those with a run folded, both listed without their transcripts.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    AgentMatch, AgentRun, AgentRunFilter, AgentRunId, AgentRunStanding, AgentRunStatus, AgentRunStore,
    AgentRunSummary, Cursor, Error, FoldedSteps, ListRange, OwnerId, Page, RecordedAgentRun, Result, RunId,
    SUMMARY_GOAL_CHARS, Scope, StoredAgentRun, ThreadId, Unfolded, require_system,
};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Func, OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select, Statement,
};

use super::{execute, position, record, records, rows, signed, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::agent_run::{Column, Entity, Listed, Model, steps_document};
use crate::entity::thread::{Column as ThreadColumn, Entity as Threads};

/// Agent runs over SQL.
#[derive(Debug)]
pub(crate) struct AgentRuns(pub(crate) Arc<Database>);

#[async_trait]
impl AgentRunStore for AgentRuns {
    async fn record(&self, scope: &Scope, agent_run: AgentRun) -> Result<RecordedAgentRun> {
        let (scope, agent_run) = (scope.clone(), agent_run.into_record(scope, &self.0.limits)?);
        self.0
            .transaction("to record the agent run", move |txn| {
                let (scope, agent_run) = (scope.clone(), agent_run.clone());
                Box::pin(async move { record_in(txn, &scope, agent_run).await })
            })
            .await
    }

    async fn get(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<StoredAgentRun> {
        read(&self.0.reader, scope, agent_run).await
    }

    async fn standing(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<AgentRunStanding> {
        let reader = &self.0.reader;
        let statement = standing_statement(reader.get_database_backend(), scope, agent_run);
        let found = rows(reader, "to look at the agent run", statement).await?;
        let row = found.first().ok_or_else(|| Error::not_found("agent run", agent_run))?;
        let steps = row.try_get::<Option<i64>>("", STEPS).map_err(unreadable)?;
        Ok(AgentRunStanding {
            summary: Listed::from_query_result(row, "").map_err(unreadable)?.try_into()?,
            steps: steps.map(u64::try_from).transpose().unwrap_or_default(),
        })
    }

    async fn list(
        &self,
        scope: &Scope,
        filter: &AgentRunFilter,
        range: &ListRange,
    ) -> Result<Page<AgentRunSummary>> {
        filter.check()?;
        let limit = range.checked_limit()?;
        let statement = list(self.0.reader.get_database_backend(), scope, filter, range, limit)?;
        let found =
            records::<Listed, AgentRunSummary>(&self.0.reader, "to list agent runs", statement).await?;
        Ok(Page::from_rows(found, limit, |run| Cursor::at(run.created_at, run.agent_run_id.as_str())))
    }

    async fn fold(&self, scope: &Scope, agent_run: &AgentRunId, folded: FoldedSteps) -> Result<bool> {
        let (scope, agent_run, folded) = (scope.clone(), agent_run.clone(), folded.prepare()?);
        self.0
            .transaction("to fold the agent run", move |txn| {
                let (scope, agent_run, folded) = (scope.clone(), agent_run.clone(), folded.clone());
                Box::pin(async move { fold_in(txn, &scope, &agent_run, &folded).await })
            })
            .await
    }

    async fn list_unfolded(
        &self,
        scope: &Scope,
        after: Option<&AgentRunId>,
        limit: u32,
    ) -> Result<Vec<Unfolded>> {
        require_system(scope)?;
        let limit = ListRange::newest(limit).checked_limit()?;
        let statement = unfolded(self.0.reader.get_database_backend(), after, limit);
        let found = rows(&self.0.reader, "to look for agent runs to fold", statement).await?;
        let found = found.iter().map(|row| {
            let cell = |at| row.try_get_by_index::<String>(at).map_err(unreadable);
            Ok(Unfolded {
                agent_run_id: AgentRunId::try_from(cell(0)?)?,
                thread_id: ThreadId::try_from(cell(1)?)?,
                run_id: RunId::try_from(cell(2)?)?,
            })
        });
        found.collect()
    }

    async fn delete(&self, scope: &Scope, agent_run: &AgentRunId) -> Result<()> {
        let (scope, agent_run) = (scope.clone(), agent_run.clone());
        self.0
            .transaction("to delete the agent run", move |txn| {
                let (scope, agent_run) = (scope.clone(), agent_run.clone());
                Box::pin(async move { delete_in(txn, &scope, &agent_run).await })
            })
            .await
    }
}

/// The statement that reads one agent run.
pub(super) fn get_statement(backend: DatabaseBackend, scope: &Scope, agent_run: &AgentRunId) -> Statement {
    let select = Entity::find().filter(Column::AgentRunId.eq(agent_run.as_str()));
    match scope.owner() {
        Some(owner) => select.filter(Column::OwnerId.eq(owner.as_str())),
        None => select,
    }
    .build(backend)
}

/// How many steps are stored.
const STEPS: &str = "step_count";

/// The statement that reads where one agent run stands.
pub(super) fn standing_statement(
    backend: DatabaseBackend,
    scope: &Scope,
    agent_run: &AgentRunId,
) -> Statement {
    let counted = match backend {
        DatabaseBackend::Postgres => r#"CAST(jsonb_array_length("agent_runs"."steps") AS bigint)"#,
        _ => r#"json_array_length("agent_runs"."steps")"#,
    };
    let select =
        as_listed().column_as(Expr::cust(counted), STEPS).filter(Column::AgentRunId.eq(agent_run.as_str()));
    match scope.owner() {
        Some(owner) => select.filter(Column::OwnerId.eq(owner.as_str())),
        None => select,
    }
    .build(backend)
}

/// What lists have of agent runs.
fn as_listed() -> Select<Entity> {
    let goal = Func::cust("substr").args([
        Expr::col(Column::Goal),
        Expr::cust("1"),
        Expr::cust(SUMMARY_GOAL_CHARS.to_string()),
    ]);
    Entity::find()
        .select_only()
        .columns([
            Column::AgentRunId,
            Column::Agent,
            Column::OwnerId,
            Column::SubjectId,
            Column::ThreadId,
            Column::RunId,
            Column::ParentAgentRunId,
            Column::Status,
            Column::Iterations,
            Column::ToolCalls,
            Column::InputTokens,
            Column::OutputTokens,
            Column::CostNanos,
            Column::LatencyMs,
            Column::Model,
            Column::Confidence,
            Column::Error,
            Column::StartedAt,
            Column::FinishedAt,
            Column::CreatedAt,
        ])
        .column_as(Expr::from(goal), "goal")
}

async fn read(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    agent_run: &AgentRunId,
) -> Result<StoredAgentRun> {
    let statement = get_statement(connection.get_database_backend(), scope, agent_run);
    record::<Model, StoredAgentRun>(connection, "to read the agent run", statement)
        .await?
        .ok_or_else(|| Error::not_found("agent run", agent_run))
}

/// The steps, which may be long, are read only where they have to be compared or given.
pub(super) fn where_it_stands(backend: DatabaseBackend, scope: &Scope, agent_run: &AgentRunId) -> Statement {
    let mut select = Query::select();
    select
        .column(Column::Status)
        .column(Column::ThreadId)
        .from(Entity)
        .and_where(Column::AgentRunId.eq(agent_run.as_str()));
    if let Some(owner) = scope.owner() {
        select.and_where(Column::OwnerId.eq(owner.as_str()));
    }
    backend.build(&select)
}

/// The status of an agent run and its thread; `NotFound` where the scope does not see it.
async fn standing(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    agent_run: &AgentRunId,
) -> Result<(AgentRunStatus, Option<String>)> {
    let statement = where_it_stands(connection.get_database_backend(), scope, agent_run);
    let found = rows(connection, "to look for the agent run", statement).await?;
    let row = found.first().ok_or_else(|| Error::not_found("agent run", agent_run))?;
    let status = row.try_get_by_index::<String>(0).map_err(unreadable)?;
    let thread = row.try_get_by_index::<Option<String>>(1).map_err(unreadable)?;
    Ok((AgentRunStatus::from_stored(&status), thread))
}

async fn record_in(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    agent_run: AgentRun,
) -> Result<RecordedAgentRun> {
    let id = &agent_run.agent_run_id;
    // Before the parent is asked for: a record that was stored stays the same when its parent is gone.
    match read(connection, &Scope::System, id).await {
        Ok(known) => return known_before(scope, &agent_run, known),
        Err(error) if error.kind() != runledger_core::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    if let Some(parent) = &agent_run.parent_agent_run_id {
        standing(connection, scope, parent).await?;
    }
    let statement = insert(connection.get_database_backend(), &agent_run)?;
    if execute(connection, "to record the agent run", statement).await?.rows_affected() == 0 {
        // Another came first, and has committed: PostgreSQL waited for it.
        let known = read(connection, &Scope::System, id).await?;
        return known_before(scope, &agent_run, known);
    }
    Ok(RecordedAgentRun { agent_run, created: true })
}

fn known_before(scope: &Scope, agent_run: &AgentRun, known: StoredAgentRun) -> Result<RecordedAgentRun> {
    let known = known.agent_run;
    if scope.sees(known.owner_id.as_ref()) && agent_run.is_same_record(&known) {
        return Ok(RecordedAgentRun { agent_run: known, created: false });
    }
    Err(Error::already_exists("agent run", &agent_run.agent_run_id))
}

fn optional_signed(count: Option<u64>) -> Option<i64> {
    count.map(signed)
}

pub(super) fn insert(backend: DatabaseBackend, agent_run: &AgentRun) -> Result<Statement> {
    let usage = &agent_run.usage;
    let mut insert = Query::insert();
    insert
        .into_table(Entity)
        .columns([
            Column::AgentRunId,
            Column::Agent,
            Column::OwnerId,
            Column::SubjectId,
            Column::ParentAgentRunId,
            Column::Goal,
            Column::Status,
            Column::Output,
            Column::Steps,
            Column::Iterations,
            Column::ToolCalls,
            Column::InputTokens,
            Column::OutputTokens,
            Column::CostNanos,
            Column::LatencyMs,
            Column::Model,
            Column::Confidence,
            Column::Error,
            Column::StartedAt,
            Column::FinishedAt,
            Column::CreatedAt,
        ])
        .values([
            Expr::val(agent_run.agent_run_id.as_str()),
            Expr::val(agent_run.agent.as_str()),
            Expr::val(agent_run.owner_id.as_ref().map(OwnerId::as_str)),
            Expr::val(agent_run.subject_id.as_deref()),
            Expr::val(agent_run.parent_agent_run_id.as_ref().map(AgentRunId::as_str)),
            Expr::val(agent_run.goal.as_str()),
            Expr::val(agent_run.status.as_str()),
            Expr::val(agent_run.output.as_deref()),
            dialect::jsonb(backend, &steps_document(&agent_run.steps)?),
            Expr::val(signed(usage.iterations)),
            Expr::val(signed(usage.tool_calls)),
            Expr::val(signed(usage.input_tokens)),
            Expr::val(signed(usage.output_tokens)),
            Expr::val(optional_signed(usage.cost_nanos)),
            Expr::val(optional_signed(usage.latency_ms)),
            Expr::val(agent_run.model.as_deref()),
            Expr::val(agent_run.confidence),
            Expr::val(agent_run.error.as_deref()),
            Expr::val(agent_run.started_at.to_chrono()),
            Expr::val(agent_run.finished_at.map(|at| at.to_chrono())),
            Expr::val(agent_run.created_at.to_chrono()),
        ])
        // Columns and values that do not match are constants, so a test meets it.
        .map_err(|error| Error::Backend { operation: "to build an INSERT", source: Box::new(error) })?
        .on_conflict(OnConflict::column(Column::AgentRunId).do_nothing().to_owned());
    Ok(backend.build(&insert))
}

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    filter: &AgentRunFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select = as_listed();
    if let Some(owner) = scope.owner() {
        select = select.filter(Column::OwnerId.eq(owner.as_str()));
    }
    match &filter.agent {
        Some(AgentMatch::Exact(agent)) => select = select.filter(Column::Agent.eq(agent.as_str())),
        // Not as a range of names: that would find all of their runs and sort them, for one page.
        Some(AgentMatch::Prefix(prefix)) => {
            let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
            let begins = Func::cust("substr").args([
                Expr::col(Column::Agent),
                Expr::cust("1"),
                Expr::val(length).cast_as("integer"),
            ]);
            // As a choice: of an equation PostgreSQL believes that few rows pass, and would rather find all of
            // those than walk along the list until the page is full.
            let begins = Expr::from(begins).eq(prefix.as_str());
            let passes = CaseStatement::new().case(begins, Expr::cust("TRUE")).finally(Expr::cust("FALSE"));
            select = select.filter(Expr::Case(Box::new(passes)));
        }
        None => {}
    }
    if let Some(status) = &filter.status {
        select = select.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(parent) = &filter.parent_agent_run_id {
        select = select.filter(Column::ParentAgentRunId.eq(parent.as_str()));
    }
    if let Some(from) = filter.created_from {
        select = select.filter(Column::CreatedAt.gte(from.to_chrono()));
    }
    if let Some(before) = filter.created_before {
        select = select.filter(Column::CreatedAt.lt(before.to_chrono()));
    }
    if let Some(cursor) = &range.cursor {
        let (at, id) = position(cursor)?;
        let row = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::AgentRunId)]);
        select = select.filter(row.lt(Expr::tuple([Expr::val(at), Expr::val(id)])));
    }
    Ok(select
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::AgentRunId)
        .limit(u64::from(limit) + 1)
        .build(backend))
}

pub(super) fn unfolded(backend: DatabaseBackend, after: Option<&AgentRunId>, limit: u32) -> Statement {
    let mut select = Query::select();
    select
        .columns([Column::AgentRunId, Column::ThreadId, Column::RunId])
        .from(Entity)
        .and_where(Column::Steps.is_null())
        .and_where(Column::Status.ne(AgentRunStatus::Running.as_str()))
        .and_where(Column::ThreadId.is_not_null())
        .and_where(Column::RunId.is_not_null());
    if let Some(after) = after {
        select.and_where(Column::AgentRunId.gt(after.as_str()));
    }
    select.order_by(Column::AgentRunId, sea_orm::Order::Asc).limit(u64::from(limit));
    backend.build(&select)
}

pub(super) fn fold(
    backend: DatabaseBackend,
    scope: &Scope,
    agent_run: &AgentRunId,
    folded: &FoldedSteps,
) -> Result<Statement> {
    let usage = &folded.usage;
    let output = Expr::case(
        Column::Status.eq(AgentRunStatus::Completed.as_str()),
        Expr::val(folded.output.as_deref()).cast_as("text"),
    );
    let mut update = Query::update();
    update
        .table(Entity)
        .value(Column::Steps, dialect::jsonb(backend, &steps_document(&folded.steps)?))
        .value(Column::Output, output)
        .value(Column::Iterations, signed(usage.iterations))
        .value(Column::ToolCalls, signed(usage.tool_calls))
        .value(Column::InputTokens, signed(usage.input_tokens))
        .value(Column::OutputTokens, signed(usage.output_tokens))
        .value(Column::CostNanos, optional_signed(usage.cost_nanos))
        .value(Column::LatencyMs, optional_signed(usage.latency_ms))
        .value(Column::Model, folded.model.as_deref())
        .value(Column::Confidence, folded.confidence)
        .and_where(Column::AgentRunId.eq(agent_run.as_str()))
        .and_where(Column::Steps.is_null())
        .and_where(Column::Status.ne(AgentRunStatus::Running.as_str()));
    if let Some(owner) = scope.owner() {
        update.and_where(Column::OwnerId.eq(owner.as_str()));
    }
    Ok(backend.build(&update))
}

/// Of two that fold, one finds the row as it must be: the other waits for it and finds it folded.
async fn fold_in(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    agent_run: &AgentRunId,
    folded: &FoldedSteps,
) -> Result<bool> {
    let statement = fold(connection.get_database_backend(), scope, agent_run, folded)?;
    if execute(connection, "to fold the agent run", statement).await?.rows_affected() > 0 {
        return Ok(true);
    }
    match standing(connection, scope, agent_run).await? {
        (status, _) if status.is_running() => Err(Error::conflict("agent run status", "ended", status)),
        _ => Ok(false),
    }
}

pub(super) fn delete(backend: DatabaseBackend, scope: &Scope, agent_run: &AgentRunId) -> Statement {
    let mut of_thread = Query::select();
    of_thread
        .expr(Expr::cust("1"))
        .from(Threads)
        .and_where(Expr::col((Threads, ThreadColumn::ThreadId)).equals((Entity, Column::ThreadId)));
    let mut delete = Query::delete();
    delete
        .from_table(Entity)
        .and_where(Column::AgentRunId.eq(agent_run.as_str()))
        .and_where(Expr::exists(of_thread).not());
    if let Some(owner) = scope.owner() {
        delete.and_where(Column::OwnerId.eq(owner.as_str()));
    }
    backend.build(&delete)
}

async fn delete_in(connection: &impl ConnectionTrait, scope: &Scope, agent_run: &AgentRunId) -> Result<()> {
    let statement = delete(connection.get_database_backend(), scope, agent_run);
    if execute(connection, "to delete the agent run", statement).await?.rows_affected() > 0 {
        return Ok(());
    }
    let (_, thread) = standing(connection, scope, agent_run).await?;
    Err(Error::conflict("thread of the agent run", "none", thread.unwrap_or_default()))
}
