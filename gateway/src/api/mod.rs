//! The endpoints, one file for each thing they are about.

mod agent_runs;
mod append;
mod blobs;
mod context;
mod events;
mod feedback;
mod interactions;
mod items;
mod messages;
mod params;
mod problems;
mod runs;
mod search;
mod threads;
mod turns;
mod usage;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(agent_runs::router())
        .merge(append::router())
        .merge(blobs::router())
        .merge(context::router())
        .merge(events::router())
        .merge(feedback::router())
        .merge(interactions::router())
        .merge(items::router())
        .merge(messages::router())
        .merge(runs::router())
        .merge(search::router())
        .merge(threads::router())
        .merge(turns::router())
        .merge(usage::router())
}
