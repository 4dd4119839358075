//! What every request passes.

use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request, header};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use runledger_core::MemoryLedger;
use runledger_gateway::{Auth, AuthError, Caller, Gateway, Metrics, MetricsText, Options, Origin, Shutdown};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Believing, Server, answered};

/// Fails as its path says, or never answers.
#[derive(Debug)]
struct Failing;

#[async_trait]
impl Auth for Failing {
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError> {
        match request.headers.get("fail").and_then(|how| how.to_str().ok()) {
            Some("panic") => panic!("as asked"),
            _ => std::future::pending().await,
        }
    }

    fn pages(&self) -> Router {
        let parts = futures_util::stream::pending::<Result<String, std::io::Error>>();
        let forever = || async { ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(parts)) };
        Router::new().route("/forever", axum::routing::get(forever))
    }
}

fn failing(options: Options) -> Router {
    Gateway::new(MemoryLedger::new().ledger(), Failing).with_options(options).router()
}

fn get(path: &str) -> axum::http::request::Builder {
    Request::builder().uri(path)
}

#[tokio::test]
async fn every_answer_has_an_id_and_its_headers() {
    let server = Server::new();
    for (path, status) in
        [("/healthz", 200), ("/api/usage", 200), ("/nowhere", 404), ("/api/usage?by=x", 422)]
    {
        let answer =
            server.ask("system", Method::GET, path, &[("x-request-id", "mine-1")], &Value::Null).await;
        let expected = [
            ("x-request-id", "mine-1"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ];
        assert_eq!(answer.status, status, "{path}");
        for (name, value) in expected {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
    let answer =
        server.ask("system", Method::GET, "/healthz", &[("x-request-id", "a b\"")], &Value::Null).await;
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_taken_are_problems() {
    let server = Server::new();
    let answer = server.get("alice", "/api/nothing").await;
    assert_eq!((answer.status, answer.kind()), (404, "#no_such_path"));
    let answer = server.ask("alice", Method::DELETE, "/api/usage", &[], &Value::Null).await;
    assert_eq!(
        (answer.status, answer.kind(), answer.header("allow")),
        (405, "#method_not_allowed", Some("GET,HEAD"))
    );
}

#[tokio::test]
async fn a_panic_and_a_time_that_is_over_are_problems() {
    let router = failing(Options { timeout: Duration::from_millis(1), ..Options::default() });
    let answer =
        answered(&router, get("/api/usage").header("fail", "panic").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.kind()), (500, "#internal"));
    assert!(!answer.body.to_string().contains("as asked"));
    for path in ["/api/usage", "/api/threads/t/stream"] {
        let answer = answered(&router, get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.kind()), (504, "#timeout"), "{path}");
    }
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let server = Server::with_options(Options { body_limit: 64, ..Options::default() });
    let body = json!({ "note": "n".repeat(100), "keep_last": 1 });
    let answer = server.post("alice", "/api/threads/t/compact", &body).await;
    assert_eq!((answer.status, answer.kind(), answer.field()), (413, "#too_large", Some("body")));
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let server = Server::new();
    for (kind, body, status) in [
        ("application/json", "{", 422),
        ("application/json", "", 422),
        ("application/json", "[]", 422),
        ("text/plain", "{}", 415),
    ] {
        let request = Request::post("/api/threads/t/compact")
            .header(header::AUTHORIZATION, "Bearer alice")
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body));
        let answer = server.send(request.unwrap()).await;
        assert_eq!(answer.status, status, "{kind} {body}");
        answer.kind();
    }
}

#[tokio::test]
async fn answers_are_compressed_for_who_asks() {
    let server = Server::new();
    let request = get("/api/openapi.json").header(header::ACCEPT_ENCODING, "gzip").body(Body::empty());
    let answer = server.send(request.unwrap()).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let answer = server.send(get("/api/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("content-encoding"), None);
}

#[tokio::test]
async fn other_sites_get_in_where_they_are_named() {
    let named =
        Options { cors_origins: vec![Origin::parse("https://app.example").unwrap()], ..Options::default() };
    let preflight = |origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri("/api/threads/t/compact")
            .header(header::HOST, "ledger.example")
            .header(header::ORIGIN, origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .body(Body::empty())
            .unwrap()
    };
    let post = |origin: &str| {
        Request::post("/api/threads/t/compact")
            .header(header::HOST, "ledger.example")
            .header(header::ORIGIN, origin)
            .header(header::AUTHORIZATION, "Bearer alice")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from("{\"note\":\"n\",\"keep_last\":1}"))
            .unwrap()
    };
    let allowed = |server: Server, request| async move {
        let answer = server.send(request).await;
        (answer.status, answer.header("access-control-allow-origin").map(str::to_owned))
    };
    let (ours, other) = ("https://app.example", "https://other.example");
    let open = || Server::with_options(named.clone());
    assert_eq!(allowed(open(), preflight(ours)).await, (200, Some(ours.to_owned())));
    assert_eq!(allowed(open(), preflight(other)).await.1, None);
    assert_eq!(allowed(open(), post(ours)).await, (404, Some(ours.to_owned())));
    assert_eq!(allowed(open(), post(other)).await, (403, None));
    assert_eq!(allowed(Server::new(), preflight(ours)).await.1, None);
    assert_eq!(allowed(Server::new(), post(ours)).await, (403, None));
    assert_eq!(allowed(Server::new(), post("https://ledger.example")).await, (404, None));
}

#[tokio::test]
async fn a_stream_ends_when_the_server_is_told_to() {
    let shutdown = Shutdown::new();
    let router = failing(Options { shutdown: shutdown.clone(), ..Options::default() });
    let answer = router.oneshot(get("/forever").body(Body::empty()).unwrap()).await.unwrap();
    let ended = tokio::spawn(answer.into_body().collect());
    shutdown.begin();
    assert_eq!(ended.await.unwrap().unwrap().to_bytes().len(), 0);
}

#[tokio::test]
async fn metrics_are_for_whom_they_are_meant() {
    let text = || MetricsText::new(|| "# nothing\n".to_owned());
    for (metrics, alice, system) in [
        (Metrics::Hidden, 404, 404),
        (Metrics::ForSystem(text()), 403, 200),
        (Metrics::ForEveryone(text()), 200, 200),
    ] {
        let server = Server::with_options(Options { metrics: metrics.clone(), ..Options::default() });
        let told =
            [server.get("alice", "/metrics").await.status, server.get("system", "/metrics").await.status];
        assert_eq!(told, [alice, system], "{metrics:?}");
        let nobody = server.send(get("/metrics").body(Body::empty()).unwrap()).await.status;
        assert_eq!(nobody, if alice == 403 { 401 } else { alice }, "{metrics:?}");
    }
}

#[tokio::test]
async fn it_is_well_where_the_ledger_answers() {
    let server = Server::new();
    for path in ["/healthz", "/readyz"] {
        let answer = server.send(get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.expect(200), json!({ "status": "ok" }), "{path}");
    }
}

#[tokio::test]
async fn an_application_nests_it_beside_its_own() {
    let gateway = Gateway::new(MemoryLedger::new().ledger(), Believing).router();
    let app = Router::new()
        .route("/", axum::routing::get(|| async { "home" }))
        .nest("/runs", gateway)
        .fallback(|| async { "theirs" });
    let ask = async |path: &str| {
        let request = get(path).header(header::AUTHORIZATION, "Bearer alice").body(Body::empty());
        answered(&app, request.unwrap()).await
    };
    assert_eq!(ask("/").await.expect(200), "home");
    assert_eq!(ask("/elsewhere").await.expect(200), "theirs");
    assert_eq!(ask("/runs/api/usage").await.status, 200);
    let nowhere = ask("/runs/nowhere").await;
    assert_eq!((nowhere.status, nowhere.kind()), (404, "#no_such_path"));
    assert_eq!(ask("/").await.header("x-request-id"), None);
}
