//! A gateway to ask, and what it answers.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt as _;
use runledger_core::{Ledger, MemoryLedger, OwnerId, Scope};
use runledger_gateway::{Auth, AuthError, Caller, Gateway, Options};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Believes whoever says who they are: `Authorization: Bearer alice` is alice, `Bearer system` the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believing;

#[async_trait]
impl Auth for Believing {
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError> {
        let told = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match told.and_then(|told| told.strip_prefix("Bearer ")) {
            None => Err(AuthError::Unauthenticated("say who you are".to_owned())),
            Some("system") => Ok(Caller::new(Scope::System)),
            Some(name) => Ok(Caller::new(owner(name))),
        }
    }
}

/// The scope of an owner.
pub(crate) fn owner(name: &str) -> Scope {
    Scope::Owner(OwnerId::new(name).unwrap())
}

/// A gateway over an empty memory ledger.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) ledger: Ledger,
    router: Router,
}

/// What was answered. The body is JSON, or text, or null where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The kind of a problem.
    #[track_caller]
    pub(crate) fn kind(&self) -> &str {
        let is_problem = self.header("content-type") == Some("application/problem+json");
        assert!(is_problem, "no problem: {} {}", self.status, self.body);
        self.body["type"].as_str().unwrap()
    }

    /// The field at fault.
    pub(crate) fn field(&self) -> Option<&str> {
        self.body["field"].as_str()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert!(self.status == status, "{} in the place of {status}: {:#}", self.status, self.body);
        self.body
    }
}

/// What a router answers a request with.
pub(crate) async fn answered(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
    let body = match bytes.as_ref() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).unwrap_or_else(|_| text()),
    };
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

impl Server {
    /// With the default options.
    pub(crate) fn new() -> Self {
        Self::with_options(Options::default())
    }

    /// With these options.
    pub(crate) fn with_options(options: Options) -> Self {
        Self::over(MemoryLedger::new().ledger(), options)
    }

    /// Over a ledger.
    pub(crate) fn over(ledger: Ledger, options: Options) -> Self {
        let router = Gateway::new(ledger.clone(), Believing).with_options(options).router();
        Self { ledger, router }
    }

    /// What a request is answered with.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        answered(&self.router, request).await
    }

    /// The answer to a request of `who` with these headers; a body that is null is none.
    pub(crate) async fn ask(
        &self,
        who: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::AUTHORIZATION, format!("Bearer {who}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Value::Null => request.body(Body::empty()),
            body => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(serde_json::to_vec(body).unwrap())),
        };
        self.send(request.unwrap()).await
    }

    pub(crate) async fn get(&self, who: &str, path: &str) -> Answer {
        self.ask(who, Method::GET, path, &[], &Value::Null).await
    }

    pub(crate) async fn put(&self, who: &str, path: &str, body: &Value) -> Answer {
        self.ask(who, Method::PUT, path, &[], body).await
    }

    pub(crate) async fn patch(&self, who: &str, path: &str, body: &Value) -> Answer {
        self.ask(who, Method::PATCH, path, &[], body).await
    }

    pub(crate) async fn delete(&self, who: &str, path: &str) -> Answer {
        self.ask(who, Method::DELETE, path, &[], &Value::Null).await
    }

    /// A thread of alice's with a run that was admitted, and the run's epoch.
    pub(crate) async fn admitted(&self, thread: &str, run: &str) -> u64 {
        let new = json!({"run_id": run, "if_not_exists": "create"});
        let run = self.post("alice", &format!("/api/threads/{thread}/runs"), &new).await.expect(200);
        run["epoch"].as_u64().unwrap()
    }

    pub(crate) async fn post(&self, who: &str, path: &str, body: &Value) -> Answer {
        self.ask(who, Method::POST, path, &[], body).await
    }
}

/// The body with `[time]` for times and `[id]` for ids that were made, so that it is the same each time.
pub(crate) fn still(body: Value) -> Value {
    match body {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| {
                let made =
                    value.as_str().is_some_and(|text| text.len() == 36 && text.split('-').count() == 5);
                let value = match value {
                    Value::String(_) if key.ends_with("_at") => "[time]".into(),
                    Value::String(_) if made => "[id]".into(),
                    other => still(other),
                };
                (key, value)
            })
            .collect(),
        Value::Array(elements) => elements.into_iter().map(still).collect(),
        other => other,
    }
}

/// An event of a runtime: the completion of an item as a message.
pub(crate) fn said(item: &str, kind: &str, caller: &str, content: Value) -> Value {
    json!({
        "event_type": "item.completed", "category": "message", "caller": caller,
        "item": {"item_id": item, "item_kind": kind, "item_status": "completed"},
        "content": content, "created_at": "2026-01-02T03:04:05Z",
    })
}
