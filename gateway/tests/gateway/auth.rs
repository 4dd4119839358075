//! Who gets in.

use axum::body::Body;
use axum::http::{Method, Request, header};
use pretty_assertions::assert_eq;
use runledger_core::{ApiToken, ApiTokenId, Ledger, MemoryLedger, OwnerId, Scope, Timestamp};
use runledger_gateway::{Gateway, LoopbackAuth, Options, Pages, Token, TokenAuth};

use crate::support::{Answer, answered};

/// A place where something is read of an owner, and one where something is changed.
const READ: &str = "/api/interactions";
const WRITE: &str = "/api/threads/t/compact";

struct Door {
    ledger: Ledger,
    router: axum::Router,
}

impl Door {
    fn new() -> Self {
        let ledger = MemoryLedger::new().ledger();
        let options = Options { pages: Pages::LeftOut, ..Options::default() };
        let router =
            Gateway::new(ledger.clone(), TokenAuth::new(ledger.clone())).with_options(options).router();
        Self { ledger, router }
    }

    async fn token(&self, owner: Option<&str>, expires_at: Option<Timestamp>) -> (Token, ApiTokenId) {
        let token = Token::generate().unwrap();
        let stored = ApiToken {
            token_id: ApiTokenId::generate(),
            token_hash: token.hash(),
            owner_id: owner.map(|owner| OwnerId::new(owner).unwrap()),
            label: None,
            created_at: Timestamp::now(),
            expires_at,
            revoked_at: None,
        };
        self.ledger.api_tokens().create(&Scope::System, stored.clone()).await.unwrap();
        (token, stored.token_id)
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &'static str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "ledger.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(&self.router, request.body(Body::from(body)).unwrap()).await
    }
}

#[tokio::test]
async fn a_token_speaks_for_its_owner() {
    let door = Door::new();
    let (alice, _) = door.token(Some("alice"), None).await;
    let (system, _) = door.token(None, None).await;
    for (token, by_owner) in [(&alice, 422), (&system, 200)] {
        for scheme in ["Bearer", "bearer"] {
            let bearer = format!("{scheme} {}", token.reveal());
            let answer =
                door.ask(Method::GET, "/api/usage?by=owner", &[("authorization", &bearer)], "").await;
            assert_eq!(answer.status, by_owner);
        }
    }
}

#[tokio::test]
async fn who_is_not_known_stays_out() {
    let door = Door::new();
    let (gone, _) = door.token(Some("alice"), Some(Timestamp::from_unix_micros(1).unwrap())).await;
    let (revoked, id) = door.token(Some("alice"), None).await;
    door.ledger.api_tokens().revoke(&Scope::System, &id, Timestamp::now()).await.unwrap();
    let never = Token::generate().unwrap();
    let bearer = |token: &Token| format!("Bearer {}", token.reveal());
    let basic = format!("Basic {}", never.reveal());
    for (given, why) in [
        (None, "has no token"),
        (Some(bearer(&gone)), "has expired"),
        (Some(bearer(&revoked)), "was revoked"),
        (Some(bearer(&never)), "is not known"),
        (Some("Bearer rl_x".to_owned()), "is no token"),
        (Some("Bearer ".to_owned()), "is no token"),
        (Some(basic), "is not \"Bearer\""),
        (Some("Bearer".to_owned()), "is not \"Bearer\""),
    ] {
        let headers: Vec<(&str, &str)> =
            given.iter().map(|given| ("authorization", given.as_str())).collect();
        let answer = door.ask(Method::GET, READ, &headers, "").await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{why}");
        assert_eq!(answer.kind(), "#unauthenticated");
        let told = answer.body.to_string();
        assert!(answer.body["detail"].as_str().unwrap().contains(why), "{told}");
        // Whatever was shown is not sent back.
        assert!(!given.is_some_and(|given| given.len() > 10 && told.contains(given.split(' ').next_back().unwrap())));
    }
}

#[tokio::test]
async fn a_revoked_token_is_forgotten_where_nothing_remembers_it() {
    let door = Door::new();
    let (token, id) = door.token(Some("alice"), None).await;
    let auth = TokenAuth::new(door.ledger.clone());
    assert!(auth.check(token.reveal()).await.is_ok());
    door.ledger.api_tokens().revoke(&Scope::System, &id, Timestamp::now()).await.unwrap();
    // It was good a moment ago.
    assert!(auth.check(token.reveal()).await.is_ok());
    assert!(TokenAuth::new(door.ledger.clone()).check(token.reveal()).await.is_err());
}

#[tokio::test]
async fn a_login_reads_and_changes_nothing() {
    let door = Door::new();
    let (token, _) = door.token(Some("alice"), None).await;
    let page = door.ask(Method::GET, "/login?next=/threads/t", &[], "").await;
    let page = page.expect(200);
    assert!(page.as_str().unwrap().contains("value=\"/threads/t\""), "{page}");

    let form = ("content-type", "application/x-www-form-urlencoded");
    let typed: &'static str = format!("token={}&next=%2Fthreads%2Ft", token.reveal()).leak();
    let came_in = door.ask(Method::POST, "/login", &[form], typed).await;
    assert_eq!((came_in.status, came_in.header("location")), (303, Some("/threads/t")));
    let cookie = came_in.header("set-cookie").unwrap();
    let kept = format!("runledger_token={}", token.reveal());
    assert_eq!(cookie, format!("{kept}; HttpOnly; SameSite=Strict; Path=/; Secure"));
    // A proxy may ask under a name of this machine; the browser knows where the form was.
    for (host, origin, is_secure) in [
        ("127.0.0.1:8080", Some("http://127.0.0.1:8080"), false),
        ("localhost", Some("http://localhost"), false),
        ("127.0.0.1:8080", Some("https://ledger.example"), true),
        ("127.0.0.1:8080", None, true),
    ] {
        let request = Request::builder().method(Method::POST).uri("/login").header(form.0, form.1);
        let request = request.header(header::HOST, host);
        let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
        // As browsers say of a form of the site itself.
        let request = request.header("sec-fetch-site", "same-origin");
        let answer = answered(&door.router, request.body(Body::from(typed)).unwrap()).await;
        assert_eq!(answer.header("set-cookie").unwrap().contains("Secure"), is_secure, "{host} {origin:?}");
    }

    for method in [Method::GET, Method::HEAD] {
        assert_eq!(door.ask(method, READ, &[("cookie", &kept)], "").await.status, 200);
    }
    let json = ("content-type", "application/json");
    let refused = door.ask(Method::POST, WRITE, &[("cookie", &kept), json], "{\"note\":\"n\"}").await;
    assert_eq!((refused.status, refused.kind()), (401, "#unauthenticated"));
    let bearer = format!("Bearer {}", token.reveal());
    let let_in = door.ask(Method::POST, WRITE, &[("authorization", &bearer), json], "{\"note\":\"n\"}").await;
    assert_eq!(let_in.status, 404);

    let out = door.ask(Method::POST, "/logout", &[("cookie", &kept)], "").await;
    assert_eq!((out.status, out.header("location")), (303, Some("/login")));
    assert!(out.header("set-cookie").unwrap().starts_with("runledger_token=; "));
    assert!(out.header("set-cookie").unwrap().ends_with("; Max-Age=0"));
}

#[tokio::test]
async fn a_login_stays_below_the_path_of_the_application() {
    let ledger = MemoryLedger::new().ledger();
    let inner = Gateway::new(ledger.clone(), TokenAuth::new(ledger.clone())).router();
    let door = Door { ledger, router: axum::Router::new().nest("/ledger", inner) };
    let (token, _) = door.token(Some("alice"), None).await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (next, expected) in [
        ("%2Fledger%2Fthreads%2Ft", "/ledger/threads/t"),
        ("", "/ledger"),
        ("https%3A%2F%2Fevil.example", "/ledger"),
        ("%2F%01", "/ledger"),
    ] {
        let typed: &'static str = format!("token={}&next={next}", token.reveal()).leak();
        let came_in = door.ask(Method::POST, "/ledger/login", &[form], typed).await;
        assert_eq!((came_in.status, came_in.header("location")), (303, Some(expected)), "{next}");
    }
    let kept = format!("runledger_token={}", token.reveal());
    let page = door.ask(Method::GET, "/ledger", &[("cookie", &kept)], "").await.expect(200);
    assert!(
        page.as_str().unwrap().contains("<form class=\"log-out\" method=\"post\" action=\"/ledger/logout\">")
    );
    let out = door.ask(Method::POST, "/ledger/logout", &[("cookie", &kept)], "").await;
    assert_eq!((out.status, out.header("location")), (303, Some("/ledger/login")));
}

#[tokio::test]
async fn a_wrong_login_is_told_and_shown_nothing() {
    let door = Door::new();
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (typed, status) in [
        ("token=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E&next=%22%3E%3Cscript%3E", 401),
        ("next=%2F", 422),
        ("token=%ff", 401),
    ] {
        let answer = door.ask(Method::POST, "/login", &[form], typed).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (status, None), "{typed}");
        let page = answer.body.as_str().unwrap();
        assert!(!page.contains("<script"), "{page}");
    }
    let elsewhere = [form, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    let answer = door.ask(Method::POST, "/login", &elsewhere, "token=rl_x").await;
    assert_eq!((answer.status, answer.kind()), (403, "#cross_site"));
}

#[tokio::test]
async fn on_loopback_only_this_machine_is_let_in() {
    let ledger = MemoryLedger::new().ledger();
    let auth = LoopbackAuth::system("127.0.0.1:8080".parse().unwrap()).unwrap();
    let router = Gateway::new(ledger, auth).router();
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answered(&router, request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(ask(Method::GET, "/api/usage?by=owner", &[("host", "localhost:8080")]).await, 200);
    assert_eq!(ask(Method::GET, READ, &[("host", "rebound.example:8080")]).await, 403);
    assert_eq!(ask(Method::GET, READ, &[]).await, 403);
    let forged = [("host", "127.0.0.1:8080"), ("origin", "https://evil.example")];
    assert_eq!(ask(Method::POST, WRITE, &forged).await, 403);
    let own = [("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")];
    assert_eq!(ask(Method::POST, WRITE, &own).await, 415);
    // There is nothing to log in to.
    assert_eq!(ask(Method::GET, "/login", &[("host", "localhost")]).await, 404);
}
