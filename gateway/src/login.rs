//! The page on which a person logs in with a token, and the cookie that keeps it.

use axum::Form;
use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, html};
use serde::Deserialize;

use crate::auth::AuthError;
use crate::extract::Query;
use crate::page::link::Site;
use crate::problem::Problem;
use crate::token_auth::TokenAuth;

/// Where the page is.
pub(crate) const PATH: &str = "/login";

/// Where a person logs out.
pub(crate) const LOG_OUT: &str = "/logout";

/// The cookie's name.
const COOKIE: &str = "runledger_token";

/// A form has a token and a path.
const FORM_BYTES: usize = 16 << 10;

pub(crate) fn router(auth: TokenAuth) -> Router {
    Router::new()
        .route(PATH, get(show).post(log_in))
        .route(LOG_OUT, post(log_out))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .with_state(auth)
}

/// The token of the cookie, if the request has it.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    pairs.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == COOKIE).then(|| value.trim())
    })
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Where the person was going.
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct LogIn {
    token: String,
    #[serde(default)]
    next: String,
}

async fn show(Query(wanted): Query<Wanted>) -> Response {
    page(StatusCode::OK, &wanted.next, "")
}

async fn log_in(
    State(auth): State<TokenAuth>,
    headers: HeaderMap,
    site: Site,
    form: Result<Form<LogIn>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else {
        return page(StatusCode::UNPROCESSABLE_ENTITY, "", "The form had no token.");
    };
    let token = form.token.trim();
    match auth.check(token).await {
        Ok(_) => {
            let home = site.page("/");
            with_cookie(&headers, token, "", Redirect::to(within(&form.next).unwrap_or(&home)))
        }
        Err(AuthError::Unauthenticated(why)) => page(StatusCode::UNAUTHORIZED, &form.next, &why),
        Err(error) => {
            let problem = Problem::from(error);
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            page(status, &form.next, &problem.detail)
        }
    }
}

async fn log_out(headers: HeaderMap, site: Site) -> Response {
    let login = site.page(PATH);
    with_cookie(&headers, "", "; Max-Age=0", Redirect::to(&login))
}

/// The answer with the cookie set. Browsers forget it when they are closed.
fn with_cookie(headers: &HeaderMap, token: &str, more: &str, answer: Redirect) -> Response {
    // Over plain HTTP not every browser keeps a secure cookie, and on loopback nobody listens in between.
    let secure = if is_plain_loopback(headers) { "" } else { "; Secure" };
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/{secure}{more}");
    let mut answer = answer.into_response();
    // A token that was good has no character that a header may not have.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// Whether the form was on a page of this machine without TLS. The browser says so itself: a proxy in front of this
/// server may ask it under whatever name.
fn is_plain_loopback(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.and_then(|origin| origin.strip_prefix("http://")).is_some_and(crate::loopback::is_loopback_host)
}

/// A path of this server: what names another one is not gone to, nor what no header has.
fn within(next: &str) -> Option<&str> {
    let is_path = next.starts_with('/') && !next.starts_with("//");
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (is_path && is_plain).then_some(next)
}

fn page(status: StatusCode, next: &str, why: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Log in · Runledger" }
                link rel="stylesheet" href="assets/style.css";
            }
            body.login {
                main #main {
                    h1 { "Runledger" }
                    @if !why.is_empty() { p.error role="alert" { (why) } }
                    form method="post" action="login" {
                        input type="hidden" name="next" value=(within(next).unwrap_or_default());
                        p {
                            label for="token" { "Token" }
                            " "
                            input #token type="password" name="token" required autofocus
                                autocomplete="current-password" spellcheck="false" placeholder="rl_…";
                        }
                        p { button type="submit" { "Log in" } }
                    }
                    p.hint { code { "runledger token create --owner NAME" } " makes a token." }
                }
            }
        }
    };
    (status, Html(page.into_string())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn nobody_is_sent_to_another_server() {
        let cases = [
            ("/threads/t?x=1#a", Some("/threads/t?x=1#a")),
            ("//evil.example", None),
            ("/\\evil.example", None),
            ("/\t/evil.example", None),
            ("/\u{1}", None),
            ("/\u{7f}", None),
            ("/a b", None),
            ("https://evil.example", None),
            ("javascript:alert(1)", None),
            ("", None),
        ];
        for (next, expected) in cases {
            assert_eq!(within(next), expected, "{next}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xrunledger_token=no"));
        assert_eq!(cookie(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("b=2;runledger_token=rl_x; c"));
        assert_eq!(cookie(&headers), Some("rl_x"));
    }
}
