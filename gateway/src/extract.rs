//! Parts of requests, with problems where they cannot be read: one rule for all, 422 with the field at fault.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::StatusCode;
use runledger_core::{ItemId, RunId, RunVisibility, ThreadId};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::problem::Problem;

/// A path's parameters.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(crate) struct Path<T>(pub(crate) T);

/// A query's parameters.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Query<T>(pub(crate) T);

/// A body of JSON.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(crate) struct Body<T>(pub(crate) T);

/// The path of what a thread has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ThreadPath {
    /// The thread.
    pub(crate) thread_id: ThreadId,
}

/// The path of what a run has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RunPath {
    /// The thread.
    pub(crate) thread_id: ThreadId,
    /// The run.
    pub(crate) run_id: RunId,
}

/// The path of an item.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ItemPath {
    /// The thread.
    pub(crate) thread_id: ThreadId,
    /// The run.
    pub(crate) run_id: RunId,
    /// The item.
    pub(crate) item_id: ItemId,
}

/// Whose runs a request asks for.
pub(crate) fn visibility(include_hidden: Option<bool>) -> RunVisibility {
    if include_hidden.unwrap_or_default() { RunVisibility::All } else { RunVisibility::Shown }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        match &rejection {
            PathRejection::FailedToDeserializePathParams(failed) => match failed.kind() {
                ErrorKind::DeserializeError { key, message, .. } => unread(key, message),
                ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
                    Self::invalid(key, format_args!("is no {expected_type}"))
                }
                ErrorKind::InvalidUtf8InPathParam { key } => Self::invalid(key, "is no UTF-8"),
                _ => unread("path", &failed.body_text()),
            },
            _ => Self::new(rejection.status(), "internal", "the path has no parameters"),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        unread("query", &rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = "the body is larger than this server takes; send less at once";
                Self {
                    field: Some("body".to_owned()),
                    ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
                }
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                let detail = "the body is no JSON; send it with Content-Type: application/json";
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
            }
            _ => unread("body", &rejection.body_text()),
        }
    }
}

/// The problem of what could not be read: the reader's text begins with what it was doing, then names the field.
fn unread(whole: &str, text: &str) -> Problem {
    let said = ["target type: ", "body as JSON: ", "query string: "]
        .iter()
        .find_map(|doing| text.split_once(doing).map(|(_, said)| said))
        .unwrap_or(text);
    let (field, reason) = match said.split_once(": ") {
        Some((field, reason)) if !field.is_empty() && !field.contains(char::is_whitespace) => (field, reason),
        _ => (whole, said),
    };
    // A value's own reader names its field, too.
    let reason = match reason.strip_prefix("invalid ").and_then(|rest| rest.split_once(": ")) {
        Some((name, reason)) if field.ends_with(name) => reason,
        _ => reason,
    };
    Problem::invalid(field, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_field_at_fault_is_named_once() {
        let cases = [
            ("Failed to deserialize query string: limit: invalid digit found in string", "limit"),
            (
                "Failed to deserialize the JSON body into the target type: a.thread_id: invalid thread_id: is empty",
                "a.thread_id",
            ),
            (
                "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 0",
                "whole",
            ),
            ("anything else", "whole"),
        ];
        let told: Vec<String> = cases
            .into_iter()
            .map(|(text, field)| {
                let problem = unread("whole", text);
                assert_eq!((problem.status, problem.field.as_deref()), (422, Some(field)));
                problem.detail
            })
            .collect();
        assert_eq!(
            told,
            [
                "invalid limit: invalid digit found in string",
                "invalid a.thread_id: is empty",
                "invalid whole: EOF while parsing a value at line 1 column 0",
                "invalid whole: anything else",
            ]
        );
    }
}
