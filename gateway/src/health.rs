//! Whether the process is there, and whether it can be asked anything. Both are told to everybody.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::metrics;
use crate::problem::Problem;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics::show))
}

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

const WELL: Json<Health> = Json(Health { status: "ok" });

/// Whether the process answers.
///
/// It asks nobody else, so that a process is not started anew because its database is away.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    operation_id = "healthz",
    responses((status = 200, description = "It does.", body = Health))
)]
async fn healthz() -> Json<Health> {
    WELL
}

/// Whether requests can be answered: the database is there and its schema fits.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "readyz",
    responses(
        (status = 200, description = "They can.", body = Health),
        (status = 503, description = "They cannot, and why.", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    match app.ready().await {
        Ok(()) => Ok(WELL),
        Err(error) => Err(Problem::from(error).with_status(StatusCode::SERVICE_UNAVAILABLE)),
    }
}
