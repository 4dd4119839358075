//! Whom a stream is for, as long as it is open.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use runledger_core::Scope;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::{Auth, AuthError, Caller};
use crate::problem::Problem;

/// Who opened a stream, and the request with which they said so: what they showed may be revoked while it is open.
pub(super) struct Audience {
    pub(super) scope: Scope,
    auth: Arc<dyn Auth>,
    request: Parts,
    checked: Instant,
}

impl fmt::Debug for Audience {
    // By hand: a request has its token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl FromRequestParts<App> for Audience {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Caller { scope } = Caller::from_request_parts(parts, app).await?;
        let (auth, request) = (Arc::clone(&app.auth), parts.clone());
        Ok(Self { scope, auth, request, checked: Instant::now() })
    }
}

impl Audience {
    /// Why nothing more is sent to them, asked again once in `every`.
    pub(super) async fn refusal(&mut self, every: Duration) -> Option<Problem> {
        if self.checked.elapsed() < every {
            return None;
        }
        self.checked = Instant::now();
        match self.auth.authenticate(&self.request).await {
            Ok(caller) if caller.scope == self.scope => None,
            Ok(_) => {
                let reason = "the caller is another one now; open the stream again".to_owned();
                Some(AuthError::Unauthenticated(reason).into())
            }
            // Who cannot be checked right now is asked for the next time.
            Err(AuthError::Unavailable(_)) => None,
            Err(refused) => Some(refused.into()),
        }
    }
}
