//! On whose behalf a request is made.

use std::fmt;

use async_trait::async_trait;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use runledger_core::{OwnerId, Scope};

use crate::app::App;
use crate::problem::Problem;

/// Turns a request into the scope that it is made with: the application's part, for it alone knows who its
/// callers are. Called for each request below `/api` and each page, and again while a stream is open.
#[async_trait]
pub trait Auth: fmt::Debug + Send + Sync + 'static {
    /// On whose behalf the request is made.
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError>;

    /// Where a person without credentials can get some, if there is such a page: a path below the gateway's own, or
    /// a whole URL. The page that was asked for is its parameter `next`.
    fn login_path(&self) -> Option<&str> {
        None
    }

    /// Where whoever logged in ends that, by a form without fields: a path below the gateway's own. Each page has such a
    /// form where there is one.
    fn logout_path(&self) -> Option<&str> {
        None
    }

    /// Pages that it brings along, the one at [`Auth::login_path`] among them. They are served to everybody.
    fn pages(&self) -> Router {
        Router::new()
    }
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What the caller sees.
    pub scope: Scope,
}

impl Caller {
    /// A caller that sees what `scope` sees.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }

    /// The scope of a request that asks for one owner's: the system may narrow what it sees, and an owner may name
    /// itself.
    pub(crate) fn of_owner(&self, owner: Option<OwnerId>) -> Result<Scope, Problem> {
        match (owner, &self.scope) {
            (None, scope) => Ok(scope.clone()),
            (Some(owner), Scope::System) => Ok(Scope::Owner(owner)),
            (Some(owner), Scope::Owner(own)) if owner == *own => Ok(self.scope.clone()),
            (Some(_), Scope::Owner(_)) => {
                let detail = "owner is somebody else; only the system reads on behalf of others";
                Err(Problem {
                    field: Some("owner".to_owned()),
                    ..Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
                })
            }
        }
    }
}

/// Why a request is refused before anything is looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There are no credentials, or nobody has them: 401.
    #[error("{0}")]
    Unauthenticated(String),
    /// The credentials are good, and not for this: 403.
    #[error("{0}")]
    Forbidden(String),
    /// Who it is cannot be found out right now.
    #[error("the caller cannot be checked")]
    Unavailable(#[source] runledger_core::Error),
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(app.auth.authenticate(parts).await?)
    }
}
