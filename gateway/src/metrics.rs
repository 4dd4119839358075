//! What is counted, through the `metrics` facade: an application that installs a recorder has it.
//!
//! | name | kind | labels |
//! |---|---|---|
//! | `runledger_http_requests_total` | counter | `method`, `path` (as it was routed, so that no id is in it), `status` |
//! | `runledger_http_request_duration_seconds` | histogram | `method`, `path`: until the head of the answer |
//! | `runledger_http_streams_open` | gauge | |
//! | `runledger_ledger_errors_total` | counter | `kind` |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use runledger_core::{ErrorKind, Scope};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;

const REQUESTS: &str = "runledger_http_requests_total";
const DURATION: &str = "runledger_http_request_duration_seconds";
const STREAMS: &str = "runledger_http_streams_open";
const ERRORS: &str = "runledger_ledger_errors_total";

/// Who is shown the metrics at `/metrics`, and where they come from.
#[derive(Clone, Debug, Default)]
pub enum Metrics {
    /// Nobody: the path is not there.
    #[default]
    Hidden,
    /// The system, by its token: they tell how much everybody does.
    ForSystem(MetricsText),
    /// Everybody who reaches the server.
    ForEveryone(MetricsText),
}

/// Gives the metrics as Prometheus reads them: the recorder's part, which is the application's.
#[derive(Clone)]
pub struct MetricsText(Arc<dyn Fn() -> String + Send + Sync>);

impl MetricsText {
    /// The text is what `render` gives.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

impl fmt::Debug for MetricsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsText(..)")
    }
}

/// Says to the recorder what each is.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests that were answered.");
    describe_histogram!(DURATION, Unit::Seconds, "From a request to the head of its answer.");
    describe_gauge!(STREAMS, "Streams of server-sent events that are open.");
    describe_counter!(ERRORS, "Errors that the ledger answered requests with.");
}

/// A method as a label: anybody may send any word.
pub(crate) fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

pub(crate) fn answered(method: &'static str, path: &str, status: StatusCode, took: Duration) {
    let path = path.to_owned();
    histogram!(DURATION, "method" => method, "path" => path.clone()).record(took);
    counter!(REQUESTS, "method" => method, "path" => path, "status" => status.as_u16().to_string())
        .increment(1);
}

pub(crate) fn failed(kind: ErrorKind) {
    counter!(ERRORS, "kind" => kind.as_str()).increment(1);
}

/// A stream that is open for as long as this is held.
#[derive(Debug)]
pub(crate) struct OpenStream(());

impl OpenStream {
    pub(crate) fn new() -> Self {
        gauge!(STREAMS).increment(1);
        Self(())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(STREAMS).decrement(1);
    }
}

/// Metrics as Prometheus reads them.
///
/// For the system's token; for everybody where the server was started so.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "metrics",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        (status = 403, description = "The token is an owner's.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Result<Caller, Problem>,
) -> Result<Response, Problem> {
    let text = match &app.options.metrics {
        Metrics::Hidden => {
            let detail = "this server shows no metrics";
            return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_path", detail));
        }
        Metrics::ForEveryone(text) => text,
        Metrics::ForSystem(text) => {
            if caller?.scope != Scope::System {
                let detail = "metrics tell how much everybody does; ask with a token of the system";
                return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
            }
            text
        }
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0()).into_response())
}
