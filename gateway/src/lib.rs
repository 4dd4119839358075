//! HTTP for Runledger: an axum router over a [`Ledger`], with JSON, live streams, an OpenAPI document and a
//! page to look at runs.
//!
//! It knows the traits of `runledger-core` and no database, so it serves whatever backend the application
//! opened. Who makes a request is the application's to say: [`Auth`] turns a request into a [`Scope`], and there
//! is no default that lets everyone in.
//!
//! | where | what |
//! |---|---|
//! | [`Auth`], [`Caller`] | on whose behalf a request is made |
//! | [`TokenAuth`], [`Token`], [`LoopbackAuth`] | two ways to know: tokens that the ledger keeps, and nobody else on the machine |
//! | `layers` | what every request passes: ids, limits, headers, counts |
//! | `api` | the endpoints, one file for each thing they are about |
//! | `live` | logs and runs as streams of server-sent events |
//! | `page` | the pages for people |
//! | [`wire`] | records in the shapes that programs read |
//! | `problem` | errors as RFC 9457 problem details |

mod api;
mod app;
mod auth;
mod extract;
mod health;
mod layers;
mod live;
mod login;
mod loopback;
mod metrics;
mod openapi;
mod page;
mod problem;
mod shutdown;
mod token;
mod token_auth;
pub mod wire;

pub use app::{Gateway, Options, Pages, openapi_document};
pub use auth::{Auth, AuthError, Caller};
pub use layers::Origin;
pub use loopback::{LoopbackAuth, NotLoopback};
pub use metrics::{Metrics, MetricsText};
pub use problem::Problem;
pub use shutdown::Shutdown;
pub use token::Token;
pub use token_auth::TokenAuth;

#[cfg(doc)]
use runledger_core::{Ledger, Scope};

/// Everything that a [`Gateway`] with the default [`Options`] serves.
pub fn router(ledger: runledger_core::Ledger, auth: impl Auth) -> axum::Router {
    Gateway::new(ledger, auth).router()
}
