//! Model calls, tokens and cost: of a thread, of a run, and summed by what calls have in common.

use axum::Json;
use axum::extract::State;
use runledger_core::{
    MAX_LIMIT, OwnerId, RunId, SourceId, ThreadId, Timestamp, UsageBy, UsageOf, UsageQuery,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::events::require_run;
use super::params::{one_more, rows_of};
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, RunPath, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WireTokenUsage, WireUsage, WireUsageReport};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(of_thread)).routes(routes!(of_run)).routes(routes!(report))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ThreadQuery {
    /// Whether runs that have not ended count, too.
    include_active: Option<bool>,
}

/// What a thread took, by model and by caller.
///
/// Runs count however they ended, hidden ones too. `context_usage` is there where the thread's config says
/// `max_context_tokens`; its count is an estimate, one token for four bytes.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/token-usage",
    tag = "usage",
    operation_id = "get_token_usage",
    params(ThreadPath, ThreadQuery),
    responses((status = 200, description = "The sums.", body = WireTokenUsage))
)]
async fn of_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ThreadQuery>,
) -> Result<Json<WireTokenUsage>, Problem> {
    let (scope, thread) = (&caller.scope, &path.thread_id);
    let usage = app.ledger.usage();
    let sums = usage.by_thread(scope, thread, query.include_active.unwrap_or_default()).await?;
    let usage = WireUsage::new(thread, None, &sums);
    let stored = app.ledger.threads().get(scope, thread).await?;
    let context_usage = match WireTokenUsage::max_context_tokens(&stored) {
        Some(max) => {
            let window = app.ledger.context().load(scope, thread).await?;
            Some(WireTokenUsage::context_usage(&window, max))
        }
        None => None,
    };
    Ok(Json(WireTokenUsage { usage, context_usage }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RunQuery {
    /// Where the previous page of calls ended: its `next_cursor`.
    cursor: Option<SourceId>,
    /// Calls at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// What a run took, and its model calls.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/runs/{run_id}/usage",
    tag = "usage",
    operation_id = "get_run_usage",
    params(RunPath, RunQuery),
    responses((status = 200, description = "The sums and a page of the calls.", body = WireUsage))
)]
async fn of_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Query(query): Query<RunQuery>,
) -> Result<Json<WireUsage>, Problem> {
    let (scope, thread, run) = (&caller.scope, &path.thread_id, &path.run_id);
    require_run(&app, scope, thread, run).await?;
    let usage = app.ledger.usage();
    let sums = usage.by_run(scope, thread, run).await?;
    let limit = rows_of(query.limit)?;
    let mut calls = usage.list_by_run(scope, thread, run, query.cursor.as_ref(), one_more(limit)).await?;
    let has_more = match calls.get(limit as usize - 1) {
        // No list is longer.
        Some(last) if limit == MAX_LIMIT => {
            !usage.list_by_run(scope, thread, run, Some(&last.source_id), 1).await?.is_empty()
        }
        _ => calls.len() > limit as usize,
    };
    calls.truncate(limit as usize);
    let mut told = WireUsage::new(thread, Some(run), &sums);
    told.with_calls(&calls, has_more);
    Ok(Json(told))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReportQuery {
    /// By what model calls are summed; `owner` is for the system, `round` needs one thread or run.
    by: Option<UsageBy>,
    /// Only calls of this thread. Without it: all there are, those of deleted threads too.
    thread_id: Option<ThreadId>,
    /// Only calls of this run of the thread.
    run_id: Option<RunId>,
    /// Of a thread: with all its sub-agents' threads, each call once.
    tree: Option<bool>,
    /// For the system: only calls of this owner.
    owner: Option<OwnerId>,
    /// Only calls that ended on this day or later, in UTC: `2026-11-21`, or `2026-11-21T08:00:00Z`.
    from: Option<String>,
    /// Only calls that ended before this day.
    before: Option<String>,
    /// Where the previous page ended: its `next_cursor`.
    cursor: Option<String>,
    /// Sums at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

impl ReportQuery {
    fn of(&self) -> Result<UsageOf, Problem> {
        match (&self.thread_id, &self.run_id, self.tree.unwrap_or_default()) {
            (None, None, false) => Ok(UsageOf::All),
            (Some(thread), None, false) => Ok(UsageOf::Thread(thread.clone())),
            (Some(thread), None, true) => Ok(UsageOf::Tree(thread.clone())),
            (Some(thread), Some(run), false) => Ok(UsageOf::Run(thread.clone(), run.clone())),
            (None, _, _) => Err(Problem::invalid("thread_id", "is missing; a run and a tree are a thread's")),
            (Some(_), Some(_), true) => {
                Err(Problem::invalid("tree", "is given beside run_id; give one of them"))
            }
        }
    }
}

/// Sums of model calls, ascending by what they have in common, and all of them in one.
#[utoipa::path(
    get,
    path = "/usage",
    tag = "usage",
    operation_id = "usage_report",
    params(ReportQuery),
    responses((status = 200, description = "A page of sums.", body = WireUsageReport))
)]
async fn report(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ReportQuery>,
) -> Result<Json<WireUsageReport>, Problem> {
    let day = |field, text: &Option<String>| {
        text.as_deref().map(|text| Timestamp::parse_day(field, text)).transpose()
    };
    let wanted = UsageQuery {
        from: day("from", &query.from)?,
        before: day("before", &query.before)?,
        limit: rows_of(query.limit)?,
        after: query.cursor.clone(),
        ..UsageQuery::new(query.of()?, query.by.unwrap_or(UsageBy::Total))
    };
    let scope = caller.of_owner(query.owner)?;
    Ok(Json(WireUsageReport::read(&app.ledger, &scope, wanted).await?))
}
