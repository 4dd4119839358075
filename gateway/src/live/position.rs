//! Where a stream begins.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::problem::Problem;

/// The header with which a client says what it saw last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where to begin, as the query says it.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// Send what follows this number. Without it, the stream of a thread begins with what is new, and the stream of a
    /// run with its first event.
    pub(super) after_seq: Option<u64>,
}

/// The last id that the client saw, which it sends when it connects again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastEventId(pub(super) Option<u64>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Browsers send none where they saw none; some clients send an empty one.
        let Some(value) = parts.headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
            return Ok(Self(None));
        };
        let number = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
        let refused = || {
            let reason = "is no id of this stream; send the last `id` you were sent, or leave the header out";
            Problem::invalid("Last-Event-ID", reason)
        };
        Ok(Self(Some(number.ok_or_else(refused)?)))
    }
}

/// Where a reader of a log goes on: after the last id it saw, else where it asks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    after: Option<u64>,
    field: &'static str,
}

impl Position {
    pub(super) fn new(LastEventId(seen): LastEventId, asked: After) -> Self {
        match seen {
            Some(_) => Self { after: seen, field: "Last-Event-ID" },
            None => Self { after: asked.after_seq, field: "after_seq" },
        }
    }

    /// The number to go on after, in a log that ends with `last_seq`.
    pub(super) fn in_log_until(self, last_seq: u64) -> Result<Option<u64>, Problem> {
        match self.after {
            Some(after) if after > last_seq => {
                let reason = format!("is {after}, and the log ends with {last_seq}; it is another thread's");
                Err(Problem::invalid(self.field, reason))
            }
            after => Ok(after),
        }
    }
}
