//! Who looks at a page, with which parameters, and what they see when they may not.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use runledger_core::{Scope, Timestamp};
use serde::Deserialize;

use super::link::{Site, encoded};
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::problem::Problem;

/// Who looks at a page, from where and when.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    /// What they see.
    pub(super) scope: Scope,
    /// Where the pages are.
    pub(super) site: Site,
    /// The moment that times on the page are told by.
    pub(super) now: Timestamp,
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is told on a page of its own.
    Problem(Box<Problem>),
    /// Whoever looks has to say who they are, at this address.
    Login(String),
}

impl<T: Into<Problem>> From<T> for Refused {
    fn from(problem: T) -> Self {
        Self::Problem(Box::new(problem.into()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            // The frame makes a page of what it finds there.
            Self::Problem(problem) => {
                let mut response = problem.clone().into_response();
                response.extensions_mut().insert(*problem);
                response
            }
            Self::Login(address) => Redirect::to(&address).into_response(),
        }
    }
}

impl FromRequestParts<App> for Viewer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let site = Site::of(&parts.uri, parts.extensions.get::<OriginalUri>());
        match Caller::from_request_parts(parts, app).await {
            Ok(Caller { scope, .. }) => {
                let log_out = app.auth.logout_path().map(|path| site.page(path));
                Ok(Self { scope, site: Site { log_out, ..site }, now: Timestamp::now() })
            }
            Err(problem) => match app.auth.login_path() {
                Some(login) if problem.status == StatusCode::UNAUTHORIZED && wants_page(parts) => {
                    // A path is below the gateway's own; a whole address is the application's.
                    let base = if login.starts_with('/') { site.base() } else { "" };
                    Err(Refused::Login(format!("{base}{login}?next={}", encoded(&site.here))))
                }
                _ => Err(problem.into()),
            },
        }
    }
}

/// Whether a person looks, and no program.
fn wants_page(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A page's path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Path), rejection(Refused))]
pub(super) struct PathOf<T>(pub(super) T);

/// A page's query.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Query), rejection(Refused))]
pub(super) struct QueryOf<T>(pub(super) T);

/// A field of a form, which browsers send empty where nothing was chosen.
pub(super) fn filled(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// Whether something that is hidden is shown: `1` where it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Hidden {
    /// It stays hidden.
    #[default]
    #[serde(rename = "0", alias = "")]
    Left,
    /// It is shown, marked.
    #[serde(rename = "1")]
    Shown,
}
