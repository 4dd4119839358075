//! Callers known by tokens that the ledger keeps.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use runledger_core::{ApiToken, ErrorKind, Ledger, Scope, Timestamp};

use crate::auth::{Auth, AuthError, Caller};
use crate::login;
use crate::token::Token;

/// How long a token is taken without asking the ledger again: so long a revoked one may still be good.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// How many good tokens are remembered.
const REMEMBERED: usize = 1_024;

/// [`Auth`] by the tokens of a ledger.
///
/// A program sends `Authorization: Bearer rl_...`. A person pastes a token on the page `/login` once, which keeps it
/// in a cookie that no script reads. That cookie is good for `GET` and `HEAD` only, so that nothing another site makes a
/// browser send changes anything.
///
/// A token that was good is taken for five seconds without asking the ledger: that is how long a revoked one may
/// outlive its revocation, and streams that are open a heartbeat longer. Its expiry is looked at each time.
///
/// ```
/// # fn serve(ledger: runledger_core::Ledger) {
/// use runledger_gateway::{TokenAuth, router};
///
/// let app = router(ledger.clone(), TokenAuth::new(ledger));
/// # }
/// ```
#[derive(Clone)]
pub struct TokenAuth(Arc<Known>);

struct Known {
    ledger: Ledger,
    /// By their hashes, those that were good a moment ago.
    good: Mutex<HashMap<String, Good>>,
}

struct Good {
    scope: Scope,
    expires_at: Option<Timestamp>,
    until: Instant,
}

impl fmt::Debug for TokenAuth {
    // By hand: hashes of tokens are in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenAuth")
    }
}

impl TokenAuth {
    /// Callers are known by the tokens of this ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Known { ledger, good: Mutex::new(HashMap::new()) }))
    }

    /// On whose behalf whoever shows this asks.
    pub async fn check(&self, token: &str) -> Result<Caller, AuthError> {
        let Some(token) = Token::parse(token) else {
            return Err(refused("is no token; it begins with rl_ and has 46 characters"));
        };
        let hash = token.hash();
        if let Some(scope) = self.remembered(&hash) {
            return Ok(Caller::new(scope));
        }
        let stored = match self.0.ledger.api_tokens().find(&Scope::System, &hash).await {
            Ok(stored) => stored,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(refused("is not known here")),
            Err(error) => return Err(AuthError::Unavailable(error)),
        };
        if stored.revoked_at.is_some() {
            return Err(refused("was revoked"));
        }
        if is_over(stored.expires_at) {
            return Err(refused("has expired"));
        }
        Ok(Caller::new(self.remember(hash, stored)))
    }

    /// Nothing panics while it is held, and what it holds is whole between two calls.
    fn good(&self) -> MutexGuard<'_, HashMap<String, Good>> {
        self.0.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, hash: &str) -> Option<Scope> {
        let good = self.good();
        let known =
            good.get(hash).filter(|known| known.until > Instant::now() && !is_over(known.expires_at))?;
        Some(known.scope.clone())
    }

    fn remember(&self, hash: String, stored: ApiToken) -> Scope {
        let scope = stored.owner_id.map_or(Scope::System, Scope::Owner);
        let now = Instant::now();
        let mut good = self.good();
        if good.len() >= REMEMBERED {
            good.retain(|_, known| known.until > now);
        }
        if good.len() >= REMEMBERED {
            good.clear();
        }
        let known = Good { scope: scope.clone(), expires_at: stored.expires_at, until: now + GOOD_FOR };
        good.insert(hash, known);
        scope
    }
}

fn is_over(expires_at: Option<Timestamp>) -> bool {
    expires_at.is_some_and(|at| at <= Timestamp::now())
}

fn refused(why: &str) -> AuthError {
    AuthError::Unauthenticated(format!("the token {why}; `runledger token create` makes one"))
}

#[async_trait]
impl Auth for TokenAuth {
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError> {
        if let Some(token) = bearer(&request.headers)? {
            return self.check(token).await;
        }
        match login::cookie(&request.headers) {
            Some(token) if matches!(request.method, Method::GET | Method::HEAD) => self.check(token).await,
            Some(_) => Err(AuthError::Unauthenticated(
                "a login is good for reading only; send the token as Authorization: Bearer".to_owned(),
            )),
            None => Err(AuthError::Unauthenticated(
                "the request has no token; send it as Authorization: Bearer, or log in at /login".to_owned(),
            )),
        }
    }

    fn login_path(&self) -> Option<&str> {
        Some(login::PATH)
    }

    fn logout_path(&self) -> Option<&str> {
        Some(login::LOG_OUT)
    }

    fn pages(&self) -> Router {
        login::router(self.clone())
    }
}

/// The token of the header, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token
        .map(Some)
        .ok_or_else(|| AuthError::Unauthenticated("Authorization is not \"Bearer\" and a token".to_owned()))
}
