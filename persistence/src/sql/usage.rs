//! Usage: the records of a run, and sums that the database makes.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    Error, ModelUsage, Result, RunId, RunTotals, Scope, SeqRange, SourceId, ThreadId, TokenCounts,
    UNKNOWN_MODEL, UsageBreakdown, UsageBy, UsageOf, UsageQuery, UsageRecord, UsageStore, UsageSum,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement, Value,
};

use super::{probe, records, rows, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::usage_record::{Column, Entity, Model};

/// Usage over SQL.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) Arc<Database>);

#[async_trait]
impl UsageStore for Usage {
    async fn list_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        after: Option<&SourceId>,
        limit: u32,
    ) -> Result<Vec<UsageRecord>> {
        // The one rule for limits.
        let limit = SeqRange::last(limit).resolve()?.limit;
        let statement = list_by_run(self.backend(), scope, thread, run, after, limit);
        let found = records::<Model, UsageRecord>(&self.0.reader, "to list usage", statement).await?;
        if found.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(found)
    }

    async fn by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<UsageBreakdown> {
        self.sum(scope, thread, Of::Run(run)).await
    }

    async fn by_thread(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        include_active: bool,
    ) -> Result<UsageBreakdown> {
        self.sum(scope, thread, if include_active { Of::Thread } else { Of::EndedRuns }).await
    }

    async fn report(&self, scope: &Scope, query: &UsageQuery) -> Result<Vec<UsageSum>> {
        let limit = query.check(scope)?;
        let statement = report(self.backend(), scope, query, limit);
        let found = rows(&self.0.reader, "to sum usage", statement).await?;
        if found.is_empty()
            && let UsageOf::Thread(thread) | UsageOf::Tree(thread) | UsageOf::Run(thread, _) = &query.of
        {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        let sums = found.iter().map(|row| Keyed::from_query_result(row, "").map_err(unreadable));
        sums.map(|sum| UsageSum::try_from(sum?)).collect()
    }
}

impl Usage {
    fn backend(&self) -> DatabaseBackend {
        self.0.reader.get_database_backend()
    }

    async fn sum(&self, scope: &Scope, thread: &ThreadId, of: Of<'_>) -> Result<UsageBreakdown> {
        let statement = breakdown(self.backend(), scope, thread, of);
        let found = rows(&self.0.reader, "to sum usage", statement).await?;
        if found.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        let sums = found.iter().map(|row| Sum::from_query_result(row, "")).collect::<Result<Vec<_>, _>>();
        combine(sums.map_err(unreadable)?)
    }
}

pub(super) fn list_by_run(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    after: Option<&SourceId>,
    limit: u32,
) -> Statement {
    let mut select = Entity::find()
        .filter(Column::ThreadId.eq(thread.as_str()))
        .filter(Column::RunId.eq(run.as_str()))
        .filter(probe::visible(scope, thread));
    if let Some(after) = after {
        select = select.filter(Column::SourceId.gt(after.as_str()));
    }
    select.order_by_asc(Column::SourceId).limit(u64::from(limit)).build(backend)
}

/// Which calls of a thread are summed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    Thread,
    /// All but those of the run that holds the slot.
    EndedRuns,
    Run(&'a RunId),
}

/// One row for each model, in the three ways people ask for, and on each of them how many runs called
/// any model: a run that called two models is one of both, so that is not the sum of the rows.
///
/// The sums are cast because PostgreSQL makes numbers without a limit of them.
pub(super) fn breakdown(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, of: Of<'_>) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let mut place = |value: &str| {
        values.push(value.into());
        format!("${}", values.len())
    };
    let of_run = match of {
        Of::Thread => String::new(),
        Of::EndedRuns => "AND (run_id IS NULL OR run_id <> \
             COALESCE((SELECT active_run_id FROM thread_heads WHERE thread_id = $1), ''))"
            .to_owned(),
        Of::Run(run) => format!("AND run_id = {}", place(run.as_str())),
    };
    let owned =
        scope.owner().map(|owner| format!("AND h.owner_id = {}", place(owner.as_str()))).unwrap_or_default();
    let sum = |column: &str| format!("CAST(SUM({column}) AS bigint) AS {column}");
    let sum_of = |caller: &str, name: &str| {
        format!("CAST(SUM(CASE WHEN {caller} THEN total_tokens ELSE 0 END) AS bigint) AS {name}")
    };
    let sums = [
        sum("input_tokens"),
        sum("output_tokens"),
        sum("total_tokens"),
        sum("cache_read_tokens"),
        sum("cache_write_tokens"),
        sum("reasoning_tokens"),
        "CAST(COALESCE(SUM(cost_nanos), 0) AS bigint) AS cost_nanos".to_owned(),
        sum_of("substr(caller, 1, 9) = 'subagent:'", "subagent_tokens"),
        sum_of("substr(caller, 1, 11) = 'middleware:'", "middleware_tokens"),
    ]
    .join(", ");
    let sql = format!(
        "SELECT COALESCE(model, '{UNKNOWN_MODEL}') AS model, COUNT(*) AS llm_calls,
           COUNT(DISTINCT run_id) AS runs, {sums},
           (SELECT COUNT(DISTINCT run_id) FROM usage_records WHERE thread_id = $1 {of_run}) AS total_runs
         FROM usage_records
         WHERE thread_id = $1 {of_run}
           AND EXISTS (
             SELECT 1 FROM thread_heads h
             WHERE h.thread_id = $1 AND h.state <> 'deleted' {owned})
         GROUP BY COALESCE(model, '{UNKNOWN_MODEL}')"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// The calls of a thread and of all below it, each once. Of a deleted thread the head is left, with its
/// parent. A thread occurs once, however the heads point at each other.
const TREE: &str = "WITH RECURSIVE tree (thread_id) AS (
       SELECT h.thread_id FROM thread_heads h WHERE h.thread_id = $1 AND h.state <> 'deleted' {owned}
       UNION
       SELECT h.thread_id FROM tree CROSS JOIN thread_heads h WHERE h.parent_thread_id = tree.thread_id {owned})";

/// Sums by key, in the order of their keys' bytes, from the one after `query.after`.
///
/// The sums are cast because PostgreSQL makes numbers without a limit of them.
pub(super) fn report(backend: DatabaseBackend, scope: &Scope, query: &UsageQuery, limit: u32) -> Statement {
    let mut values: Vec<Value> = Vec::new();
    let mut place = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let thread = match &query.of {
        UsageOf::All => None,
        UsageOf::Thread(thread) | UsageOf::Tree(thread) | UsageOf::Run(thread, _) => {
            Some(place(thread.as_str().into()))
        }
    };
    let owner = scope.owner().map(|owner| place(owner.as_str().into()));
    let owned = owner.as_ref().map(|owner| format!("AND h.owner_id = {owner}")).unwrap_or_default();
    let (mut tree, mut from, mut conditions) = (String::new(), "usage_records u", Vec::new());
    match &query.of {
        UsageOf::All => {
            conditions.extend(owner.map(|owner| format!("u.owner_id = {owner}")));
            conditions.push("u.child_thread_id IS NULL".to_owned());
        }
        UsageOf::Tree(_) => {
            tree = TREE.replace("{owned}", &owned);
            from = dialect::each_of(backend);
            conditions.push("u.thread_id = tree.thread_id".to_owned());
            conditions.push(
                "(u.child_thread_id IS NULL OR u.child_thread_id NOT IN (SELECT thread_id FROM tree))"
                    .to_owned(),
            );
        }
        UsageOf::Thread(_) | UsageOf::Run(..) => {
            let thread = thread.unwrap_or_default();
            conditions.push(format!("u.thread_id = {thread}"));
            conditions.push(format!(
                "EXISTS (SELECT 1 FROM thread_heads h \
                 WHERE h.thread_id = {thread} AND h.state <> 'deleted' {owned})"
            ));
        }
    }
    if let UsageOf::Run(_, run) = &query.of {
        conditions.push(format!("u.run_id = {}", place(run.as_str().into())));
    }
    if let Some(from) = query.from {
        conditions.push(format!("u.created_at >= {}", place(from.to_chrono().into())));
    }
    if let Some(before) = query.before {
        conditions.push(format!("u.created_at < {}", place(before.to_chrono().into())));
    }
    let key = dialect::bytewise(backend, &key(backend, query.by));
    if let Some(after) = &query.after {
        conditions.push(format!("{key} > {}", place(after.as_str().into())));
    }
    let limit = place(i64::from(limit).into());
    let filtered =
        if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let sum = |what: &str, name: &str| format!("CAST(COALESCE(SUM({what}), 0) AS bigint) AS {name}");
    let sums = [
        sum("CASE WHEN u.estimated THEN 1 ELSE 0 END", "estimated_calls"),
        sum("u.input_tokens", "input_tokens"),
        sum("u.output_tokens", "output_tokens"),
        sum("u.total_tokens", "total_tokens"),
        sum("u.cache_read_tokens", "cache_read_tokens"),
        sum("u.cache_write_tokens", "cache_write_tokens"),
        sum("u.reasoning_tokens", "reasoning_tokens"),
        sum("u.cost_nanos", "cost_nanos"),
    ]
    .join(", ");
    // The length says where the thread's id ends, so that no two runs look alike.
    let sql = format!(
        "{tree} SELECT {key} AS sum_key, COUNT(*) AS llm_calls, COUNT(u.cost_nanos) AS priced_calls,
           COUNT(DISTINCT length(u.thread_id) || ':' || u.thread_id || u.run_id) AS runs, {sums}
         FROM {from} {filtered} GROUP BY {key} ORDER BY {key} LIMIT {limit}"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// The key of a call's sum, as [`UsageBy::key`] makes it.
fn key(backend: DatabaseBackend, by: UsageBy) -> String {
    match by {
        UsageBy::Total => "''".to_owned(),
        UsageBy::Model => format!("COALESCE(u.model, '{UNKNOWN_MODEL}')"),
        UsageBy::Caller => "u.caller".to_owned(),
        UsageBy::Owner => "COALESCE(u.owner_id, '')".to_owned(),
        UsageBy::Day => dialect::day(backend, "u.created_at"),
        UsageBy::Thread => "u.thread_id".to_owned(),
        UsageBy::Run => {
            "replace(replace(u.thread_id, '%', '%25'), '/', '%2F') || '/' || COALESCE(u.run_id, '')"
                .to_owned()
        }
        UsageBy::Round => {
            let round = dialect::padded(backend, "u.round_index");
            format!("COALESCE(u.run_id, '') || '/' || COALESCE({round}, '')")
        }
    }
}

/// The sums of tokens that every row of sums has.
#[derive(Debug, FromQueryResult)]
struct Tokens {
    input_tokens: i64,
    output_tokens: i64,
    total_tokens: i64,
    cache_read_tokens: i64,
    cache_write_tokens: i64,
    reasoning_tokens: i64,
}

impl TryFrom<Tokens> for TokenCounts {
    type Error = Error;

    fn try_from(sums: Tokens) -> Result<Self> {
        Ok(Self {
            input: count(sums.input_tokens)?,
            output: count(sums.output_tokens)?,
            total: count(sums.total_tokens)?,
            cache_read: count(sums.cache_read_tokens)?,
            cache_write: count(sums.cache_write_tokens)?,
            reasoning: count(sums.reasoning_tokens)?,
        })
    }
}

/// One row of a report.
#[derive(Debug, FromQueryResult)]
struct Keyed {
    sum_key: String,
    llm_calls: i64,
    priced_calls: i64,
    runs: i64,
    estimated_calls: i64,
    #[sea_orm(nested)]
    tokens: Tokens,
    cost_nanos: i64,
}

impl TryFrom<Keyed> for UsageSum {
    type Error = Error;

    fn try_from(row: Keyed) -> Result<Self> {
        Ok(Self {
            key: row.sum_key,
            llm_calls: count(row.llm_calls)?,
            estimated_calls: count(row.estimated_calls)?,
            runs: count(row.runs)?,
            tokens: row.tokens.try_into()?,
            cost_nanos: count(row.cost_nanos)?,
            unpriced_calls: count(row.llm_calls.saturating_sub(row.priced_calls))?,
        })
    }
}

/// One row of the breakdown.
#[derive(Debug, FromQueryResult)]
struct Sum {
    model: String,
    llm_calls: i64,
    runs: i64,
    #[sea_orm(nested)]
    tokens: Tokens,
    cost_nanos: i64,
    subagent_tokens: i64,
    middleware_tokens: i64,
    total_runs: i64,
}

fn combine(sums: Vec<Sum>) -> Result<UsageBreakdown> {
    let mut breakdown = UsageBreakdown::default();
    for sum in sums {
        breakdown.total_runs = count(sum.total_runs)?;
        let usage = ModelUsage {
            llm_calls: count(sum.llm_calls)?,
            runs: count(sum.runs)?,
            tokens: sum.tokens.try_into()?,
            cost_nanos: count(sum.cost_nanos)?,
        };
        add(&mut breakdown.totals, &usage, count(sum.subagent_tokens)?, count(sum.middleware_tokens)?);
        breakdown.by_model.insert(sum.model, usage);
    }
    Ok(breakdown)
}

/// Adds a model's sums. Words of neither a sub-agent nor a middleware are the lead agent's.
fn add(totals: &mut RunTotals, model: &ModelUsage, subagent: u64, middleware: u64) {
    let lead_agent = model.tokens.total.saturating_sub(subagent).saturating_sub(middleware);
    for (total, more) in [
        (&mut totals.input_tokens, model.tokens.input),
        (&mut totals.output_tokens, model.tokens.output),
        (&mut totals.total_tokens, model.tokens.total),
        (&mut totals.cache_read_tokens, model.tokens.cache_read),
        (&mut totals.cache_write_tokens, model.tokens.cache_write),
        (&mut totals.reasoning_tokens, model.tokens.reasoning),
        (&mut totals.llm_calls, model.llm_calls),
        (&mut totals.lead_agent_tokens, lead_agent),
        (&mut totals.subagent_tokens, subagent),
        (&mut totals.middleware_tokens, middleware),
        (&mut totals.cost_nanos, model.cost_nanos),
    ] {
        *total = total.saturating_add(more);
    }
}

fn count(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::corrupt("usage record", "a sum is negative"))
}
