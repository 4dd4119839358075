//! Who holds a run, who executes its calls, and what of its budget is set aside.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runledger_core::{
    BudgetLimit, Claim, Estimate, ItemEntry, Lease, Reservation, Reserve, ReservedFor, Timestamp, WorkerId,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::batch::EstimateBody;
use crate::api::params::{number, seconds};
use crate::api::problems::Conflict;
use crate::api::runs::{NewLeaseBody, lease_of, shown};
use crate::api::threads::require_system;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, ItemPath, Path, RunPath};
use crate::problem::Problem;
use crate::wire::WireRun;

/// The path of what a worker does.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct WorkerPath {
    /// The worker.
    worker_id: WorkerId,
}

/// How long its leases are to last.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Heartbeat {
    /// From now on, by the database's clock.
    #[schema(minimum = 0.001, maximum = 86400)]
    ttl_seconds: f64,
}

/// The leases that a worker has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Leases {
    /// Those that were renewed: what is missing was taken away. A `cancel_action` says that a run is to stop.
    leases: Vec<Lease>,
}

/// Renew all leases of a worker.
///
/// For the system only: a worker's runs may be of many owners.
#[utoipa::path(
    post, path = "/workers/{worker_id}/heartbeat", tag = "runs", operation_id = "heartbeat",
    params(WorkerPath), request_body = Heartbeat,
    responses((status = 200, description = "What it holds", body = Leases)),
)]
pub(super) async fn heartbeat(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<WorkerPath>,
    Body(given): Body<Heartbeat>,
) -> Result<Json<Leases>, Problem> {
    require_system(&caller, "renews leases")?;
    let ttl = seconds("ttl_seconds", given.ttl_seconds, 0.001, 86_400.0)?;
    let leases = app.ledger.runs().renew_leases(&caller.scope, &path.worker_id, ttl).await?;
    Ok(Json(Leases { leases }))
}

/// Take a run that nobody holds and that has not started.
///
/// The epoch of the answer is the one to append under.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/acquire", tag = "runs", operation_id = "acquire_run",
    params(RunPath), request_body = NewLeaseBody,
    responses((status = 200, description = "The run under its new epoch", body = WireRun), Conflict),
)]
pub(super) async fn acquire_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<NewLeaseBody>,
) -> Result<Json<WireRun>, Problem> {
    let lease = lease_of(given)?;
    let at = Timestamp::now();
    let run = app.ledger.acquire(&caller.scope, &path.thread_id, &path.run_id, lease, at).await?;
    Ok(Json(shown(&app, &run)))
}

/// How a run is resumed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    /// The epoch it must be held under still. Without it, its lease must have ended.
    epoch: Option<u64>,
    /// How many seconds ago its lease must have ended, where no epoch is given.
    #[schema(minimum = 0, maximum = 86400)]
    grace_seconds: Option<f64>,
    /// The worker that goes on with it; left out by one that takes no leases.
    lease: Option<NewLeaseBody>,
}

/// Go on with an active run whose worker is gone.
///
/// What it has open stays open, and whoever held it before writes no more. The epoch of the answer is the one to append
/// under, from ordinal 0.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/resume", tag = "runs", operation_id = "resume_run",
    params(RunPath), request_body = Resume,
    responses((status = 200, description = "The run under its new epoch", body = WireRun), Conflict),
)]
pub(super) async fn resume_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<Resume>,
) -> Result<Json<WireRun>, Problem> {
    let claim = match given.epoch {
        Some(epoch) => Claim::Epoch(number("epoch", epoch)?),
        None => {
            let grace = seconds("grace_seconds", given.grace_seconds.unwrap_or(0.0), 0.0, 86_400.0)?;
            Claim::Expired { grace }
        }
    };
    let lease = given.lease.map(lease_of).transpose()?;
    let (thread, run, at) = (&path.thread_id, &path.run_id, Timestamp::now());
    let run = app.ledger.resume_run(&caller.scope, thread, run, claim, lease, at).await?;
    Ok(Json(shown(&app, &run)))
}

/// Who holds the run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    /// The epoch it is held under.
    epoch: u64,
}

/// A call that is granted for execution.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClaimedCall {
    /// The item, claimed under the caller's epoch.
    item: ItemEntry,
    /// The epoch that claimed it before: whoever it was may have executed it, wholly or in part.
    claimed_before: Option<u64>,
}

/// Claim an open tool call for execution.
///
/// Of several workers one gets it.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/items/{item_id}/claim", tag = "items",
    operation_id = "claim_item",
    params(ItemPath), request_body = Held,
    responses((status = 200, description = "It is the caller's", body = ClaimedCall), Conflict),
)]
pub(super) async fn claim_item(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ItemPath>,
    Body(given): Body<Held>,
) -> Result<Json<ClaimedCall>, Problem> {
    let epoch = number("epoch", given.epoch)?;
    let ItemPath { thread_id, run_id, item_id } = &path;
    let claimed = app.ledger.items().claim(&caller.scope, thread_id, run_id, item_id, epoch).await?;
    Ok(Json(ClaimedCall { item: claimed.item, claimed_before: claimed.claimed_before }))
}

/// A part of a run's budget.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    /// The epoch the run is held under.
    epoch: u64,
    /// What is expected to be used at most.
    estimate: Option<EstimateBody>,
    /// What for: an iteration, where it is left out.
    purpose: Option<Purpose>,
}

/// What part of a budget is set aside for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// A model call of the run itself, which counts against `max_iterations`.
    #[default]
    Iteration,
    /// A model call that is no iteration, a middleware's say.
    Call,
    /// A sub-agent.
    SubAgent,
}

impl Share {
    fn parts(self) -> Result<(u64, Reserve), Problem> {
        let purpose = match self.purpose.unwrap_or_default() {
            Purpose::Iteration => ReservedFor::Iteration,
            Purpose::Call => ReservedFor::Call,
            Purpose::SubAgent => ReservedFor::SubAgent,
        };
        let wanted = Reserve { estimate: self.estimate.map(Estimate::from).unwrap_or_default(), purpose };
        wanted.check()?;
        Ok((number("epoch", self.epoch)?, wanted))
    }
}

/// Whether the budget has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reserved {
    /// Whether it was set aside.
    granted: bool,
    /// Which limit does not have it.
    limit: Option<BudgetLimit>,
}

/// Set aside what a model call may use.
///
/// What was set aside comes back with the usage record that `settles` it, and when the run ends.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/budget/reserve", tag = "usage",
    operation_id = "reserve_budget",
    params(RunPath), request_body = Share,
    responses((status = 200, description = "Whether the budget has it", body = Reserved), Conflict),
)]
pub(super) async fn reserve_budget(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<Share>,
) -> Result<Json<Reserved>, Problem> {
    let (epoch, wanted) = given.parts()?;
    let runs = app.ledger.runs();
    Ok(Json(match runs.reserve(&caller.scope, &path.thread_id, &path.run_id, epoch, wanted).await? {
        Reservation::Granted(_) => Reserved { granted: true, limit: None },
        Reservation::Refused(limit) => Reserved { granted: false, limit: Some(limit) },
    }))
}

/// Give back what was set aside for a call that is not made.
///
/// Not exactly-once: what is not given back comes back when the run ends.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs/{run_id}/budget/release", tag = "usage",
    operation_id = "release_budget",
    params(RunPath), request_body = Share,
    responses((status = 204, description = "It is given back"), Conflict),
)]
pub(super) async fn release_budget(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Body(given): Body<Share>,
) -> Result<StatusCode, Problem> {
    let (epoch, wanted) = given.parts()?;
    app.ledger.runs().release(&caller.scope, &path.thread_id, &path.run_id, epoch, wanted).await?;
    Ok(StatusCode::NO_CONTENT)
}
