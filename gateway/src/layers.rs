//! What every request passes, whatever it is about.
//!
//! From the outside in: an id, a span, counts and headers, which every answer has, whatever made it; then what answers in
//! a handler's place: a preflight, a request forged by another site, a panic, a time that is over; then what is done to
//! an answer.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use runledger_core::Error;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tracing::Instrument as _;

use crate::app::Options;
use crate::metrics::{self, OpenStream};
use crate::problem::Problem;
use crate::shutdown::Shutdown;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most characters of a request id that is taken from outside.
const MAX_REQUEST_ID: usize = 64;

/// How long a browser need not ask again whether it may ask.
const PREFLIGHT: Duration = Duration::from_secs(3_600);

/// What a page may load and do: nothing but what comes from here, and no script or style within it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every answer that does not say otherwise.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The last parts of paths that wait on purpose before they answer.
const PATIENT: [&str; 2] = ["/join", "/cancel"];

/// How long these wait at most, beside what any request may take.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A site whose scripts may call this server: `https://app.example`, as browsers spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// Takes a scheme, a host in lower case and a port that is not the scheme's own.
    pub fn parse(text: &str) -> runledger_core::Result<Self> {
        let invalid = |reason: &str| {
            Error::invalid(
                "origin",
                format!("{text:?} {reason}; give it as https://app.example or http://localhost:3000"),
            )
        };
        drop(CsrfLayer::new().add_trusted_origin(text).map_err(|_| invalid("is no origin"))?);
        let is_default = text.starts_with("https:") && text.ends_with(":443")
            || text.starts_with("http:") && text.ends_with(":80");
        if is_default || text.ends_with('/') || text.chars().any(char::is_uppercase) {
            return Err(invalid("is not as browsers spell it"));
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| invalid("has other characters than ASCII"))
    }
}

/// Wraps all routes.
pub(crate) fn wrap(router: Router, options: &Options) -> Router {
    router
        .layer(DefaultBodyLimit::max(options.body_limit))
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(options.timeout, in_time))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(same_site(&options.cors_origins))
        .layer(cors(&options.cors_origins))
        .layer(from_fn_with_state(options.shutdown.clone(), observed))
}

/// The id of a request, as every line that is logged of it has it.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_sane = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    let given = headers.get(REQUEST_ID).filter(is_sane).cloned();
    given.unwrap_or_else(|| {
        let made = runledger_core::ItemId::generate();
        HeaderValue::from_str(made.as_str()).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// Names the request, tells of its answer, and gives that the headers that every one has.
async fn observed(State(shutdown): State<Shutdown>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = metrics::label(request.method());
    // Never the path that was asked for: it has ids, and a query may have anything.
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", request_id = id.to_str().unwrap_or_default(), method, path);
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status(), began.elapsed());
    metrics::answered(method, &path, status, took);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::info!(status = status.as_u16(), duration_ms, "answered"));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_stream(headers) { counted(response, shutdown) } else { response }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/event-stream"))
}

/// The answer, which counts as an open stream until its body is gone, and ends when the server is told to.
fn counted(response: Response, shutdown: Shutdown) -> Response {
    let open = OpenStream::new();
    response.map(|body| {
        let told = async move { shutdown.begun().await };
        let parts = body.into_data_stream().take_until(Box::pin(told));
        Body::from_stream(parts.map(move |part| {
            let _held = &open;
            part
        }))
    })
}

/// Answers in the place of a handler that takes too long.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let waits = path.is_some_and(|path| PATIENT.iter().any(|last| path.as_str().ends_with(last)));
    let limit = if waits { limit.saturating_add(LONGEST_WAIT) } else { limit };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = limit.as_secs_f64();
            let detail = format!(
                "there was no answer within {seconds} seconds; what was asked for may have been done or not"
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail).into_response()
        }
    }
}

/// What a handler that panicked is answered with. The panic itself is in the log.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    tracing::error!(panic = said, "a handler panicked");
    let detail = "the server failed; its log says more under this answer's x-request-id";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}

/// Refuses what a browser sends on behalf of another site and what changes something.
fn same_site(origins: &[Origin]) -> CsrfLayer<fn(ProtectionError) -> Response> {
    let trusted = origins.iter().fold(CsrfLayer::new(), |layer, origin| {
        let Ok(origin) = origin.0.to_str() else { return layer };
        // It was taken when it was parsed.
        layer.clone().add_trusted_origin(origin).unwrap_or(layer)
    });
    trusted.with_rejection_response(forged as fn(ProtectionError) -> Response)
}

fn forged(_: ProtectionError) -> Response {
    let detail = "a browser sent this on behalf of another site; the server's operator can allow that site";
    Problem::new(StatusCode::FORBIDDEN, "cross_site", detail).into_response()
}

/// What scripts of other sites may do: nothing, where none is named.
fn cors(origins: &[Origin]) -> CorsLayer {
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().map(|origin| origin.0.clone())))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            REQUEST_ID,
            name("idempotency-key"),
            name("last-event-id"),
        ])
        .expose_headers([
            REQUEST_ID,
            header::CONTENT_LOCATION,
            header::LOCATION,
            header::RETRY_AFTER,
            name("x-next-cursor"),
        ])
        .max_age(PREFLIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn only_sane_request_ids_are_taken() {
        let id = |given: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"a-B_3.x"), "a-B_3.x");
        for odd in [&b""[..], b"a b", b"\"", b"a\xff", &[b'a'; 65]] {
            assert_eq!(id(odd).len(), 36, "{odd:?}");
        }
    }

    #[test]
    fn origins_are_as_browsers_spell_them() {
        assert!(Origin::parse("https://app.example").is_ok());
        assert!(Origin::parse("http://localhost:3000").is_ok());
        for odd in [
            "*",
            "null",
            "app.example",
            "https://app.example/",
            "https://App.example",
            "https://a.example:443",
            "https://a.example/x",
            "ftp://a.example",
            "",
        ] {
            assert!(Origin::parse(odd).is_err(), "{odd}");
        }
    }
}
