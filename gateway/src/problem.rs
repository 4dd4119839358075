//! Errors as problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use runledger_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::AuthError;

/// What went wrong, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is, for programs: the path of a fragment, `#not_found` say.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong with this request, and what to do, for people.
    pub detail: String,
    /// The field of the request at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether the same request may succeed when it is made again.
    pub retryable: bool,
}

impl Problem {
    /// A problem of a kind that programs tell apart by `kind`.
    #[must_use]
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("#{kind}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            retryable: false,
        }
    }

    /// The same under another status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { title, status: status.as_u16(), ..self }
    }

    pub(crate) fn invalid(field: &str, reason: impl std::fmt::Display) -> Self {
        let detail = format!("invalid {field}: {reason}");
        let field = Some(field.to_owned());
        Self { field, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_input", detail) }
    }

    pub(crate) fn no_such_path(method: &Method, uri: &Uri) -> Self {
        let detail =
            format!("there is nothing at {method} {}; the paths are in /api/openapi.json", uri.path());
        Self::new(StatusCode::NOT_FOUND, "no_such_path", detail)
    }

    pub(crate) fn wrong_method(method: &Method, uri: &Uri) -> Self {
        let detail = format!("{} does not take {method}; the header Allow names what it takes", uri.path());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }
}

/// The status that an error of the contract is answered with.
fn status_of(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::LeaseLost | ErrorKind::Cancelled => {
            StatusCode::CONFLICT
        }
        ErrorKind::InvalidInput => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::StaleCursor => StatusCode::GONE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::SchemaMismatch | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = status_of(&error);
        crate::metrics::failed(error.kind());
        if status.is_server_error() {
            tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        }
        let field = match &error {
            Error::InvalidInput { field, .. } | Error::TooLarge { field, .. } => Some((*field).to_owned()),
            _ => None,
        };
        // A cause from below the contract may name hosts and statements: it is logged, not sent.
        Self {
            field,
            retryable: error.is_retryable(),
            ..Self::new(status, error.kind().as_str(), error.to_string())
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(detail) => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
            }
            AuthError::Forbidden(detail) => Self::new(StatusCode::FORBIDDEN, "forbidden", detail),
            AuthError::Unavailable(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
