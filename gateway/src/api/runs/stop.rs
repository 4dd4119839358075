//! Stopping runs, and waiting for their end.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use runledger_core::{
    CancelAction, Cancellation, ONCE_TERMINAL, Result as LedgerResult, Run, RunId, Scope, TailItem, ThreadId,
    Timestamp,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{shown, shown_whole};
use crate::api::params::{Flag, seconds};
use crate::api::problems::Conflict;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, RunPath};
use crate::problem::Problem;
use crate::wire::WireRun;

/// What becomes of a run that is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopAction {
    /// What it did is kept and shown.
    #[default]
    Interrupt,
    /// It is undone.
    Rollback,
}

/// How to stop a run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CancelQuery {
    /// What becomes of it. Of several requests the first holds.
    #[serde(default)]
    #[param(inline, default = "interrupt")]
    action: StopAction,
    /// Whether to answer when it has ended.
    #[serde(default)]
    #[param(inline, default = "false")]
    wait: Flag,
    /// How many seconds to wait at most.
    #[param(minimum = 0, maximum = 25, default = 10)]
    timeout: Option<f64>,
}

/// Stop a run.
///
/// A worker that holds it is asked and sees it with its next heartbeat; where nobody holds it, it is ended at once.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/cancel", tag = "runs", operation_id = "cancel_run",
    params(RunPath, CancelQuery),
    responses(
        (status = 202, description = "It is asked to stop: the run as it is", body = WireRun),
        (status = 204, description = "It has ended, where that was waited for"),
        Conflict,
    ),
)]
pub(super) async fn cancel_run(
    State(app): State<App>,
    caller: Caller,
    Path(RunPath { thread_id, run_id }): Path<RunPath>,
    Query(query): Query<CancelQuery>,
) -> Result<Response, Problem> {
    let within = seconds("timeout", query.timeout.unwrap_or(10.0), 0.0, 25.0)?;
    let action = match query.action {
        StopAction::Interrupt => CancelAction::Interrupt,
        StopAction::Rollback => CancelAction::Rollback,
    };
    let scope = &caller.scope;
    let asked = app.ledger.cancel(scope, &thread_id, &run_id, action.clone(), Timestamp::now()).await?;
    let run = match asked {
        Cancellation::Ended(claimed) => claimed.run,
        Cancellation::AlreadyEnded(run) if run.ended_as(&action.outcome()) => *run,
        Cancellation::AlreadyEnded(run) => {
            let detail = format!("run {run_id:?} has ended as {}; there is nothing to stop", run.status);
            return Err(Problem::new(StatusCode::CONFLICT, "not_cancellable", detail));
        }
        Cancellation::Requested(_) if query.wait == Flag::Yes => {
            ended(&app, scope, &thread_id, &run_id, within).await?
        }
        Cancellation::Requested(_) => app.ledger.runs().get(scope, &thread_id, &run_id).await?,
    };
    if query.wait == Flag::Yes && run.status.is_terminal() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(shown(&app, &run))).into_response())
}

/// How long to wait for a run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JoinQuery {
    /// How many seconds to wait at most.
    #[param(minimum = 0, maximum = 600, default = 30)]
    timeout: Option<f64>,
}

/// Wait until a run has ended.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}/join", tag = "runs", operation_id = "join_run",
    params(RunPath, JoinQuery),
    responses(
        (status = 200, description = "The run, which has ended", body = WireRun),
        (status = 202, description = "The run, which goes on: ask again", body = WireRun),
    ),
)]
pub(super) async fn join_run(
    State(app): State<App>,
    caller: Caller,
    Path(RunPath { thread_id, run_id }): Path<RunPath>,
    Query(query): Query<JoinQuery>,
) -> Result<Response, Problem> {
    let within = seconds("timeout", query.timeout.unwrap_or(30.0), 0.0, 600.0)?;
    let run = ended(&app, &caller.scope, &thread_id, &run_id, within).await?;
    let status = if run.status.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, shown_whole(&app, &caller.scope, &run).await?).into_response())
}

/// The run when it has ended, or as it is when the time is over or the server is about to stop.
///
/// It is looked at when the log has its end or lacks what was removed, not with each event.
async fn ended(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    within: Duration,
) -> LedgerResult<Run> {
    let stored = app.ledger.runs().get(scope, thread, run).await?;
    if stored.status.is_terminal() || within.is_zero() {
        return Ok(stored);
    }
    let head = app.ledger.threads().head(scope, thread).await?;
    let mut tail = app.ledger.tail(scope.clone(), thread.clone(), head.last_seq(), app.options.poll);
    let is_end = |item: &TailItem| match item {
        TailItem::Event(event) => {
            event.run_id.as_ref() == Some(run) && event.once_key.as_deref() == Some(ONCE_TERMINAL)
        }
        TailItem::Gap { .. } => true,
    };
    let wait = async {
        loop {
            // It may have ended before the log was followed, so it is looked at first.
            let stored = app.ledger.runs().get(scope, thread, run).await?;
            if stored.status.is_terminal() {
                return Ok(stored);
            }
            loop {
                match tail.next().await {
                    Some(Ok(item)) if is_end(&item) => break,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(stored),
                }
            }
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(within, wait) => {
            if let Ok(ended) = ended {
                return ended;
            }
        }
        // Whoever waits is answered before the server stops.
        () = app.options.shutdown.begun() => {}
    }
    app.ledger.runs().get(scope, thread, run).await
}
