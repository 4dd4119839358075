//! Addresses. Ids are any printable text, so each is one encoded segment; the application may have put the
//! gateway below a path of its own, so each address begins with that.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::Uri;
use axum::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use runledger_core::{AgentRunId, ItemId, RunId, ThreadId};

use super::assets;

/// Where the pages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// What stands before each path; empty at the root.
    pub(super) base: String,
    /// The page that was asked for, with its query.
    pub(super) here: String,
    /// Where whoever logged in ends that.
    pub(super) log_out: Option<String>,
}

/// The text as one part of a path or query.
pub(super) fn encoded(text: &str) -> String {
    const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, &ESCAPED).to_string()
}

impl Site {
    /// Where a request came from: what the router was given of its path, and all of it.
    pub(super) fn of(uri: &Uri, original: Option<&OriginalUri>) -> Self {
        let whole = original.map_or(uri, |OriginalUri(whole)| whole);
        let base = whole.path().strip_suffix(uri.path()).unwrap_or(whole.path()).trim_end_matches('/');
        let here = whole.path_and_query().map_or(whole.path(), |path| path.as_str());
        Self { base: base.to_owned(), here: here.to_owned(), log_out: None }
    }

    /// What scripts put before the paths they ask for.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A page without parameters: `/usage`.
    pub(crate) fn page(&self, path: &str) -> String {
        match path {
            // A router that is nested answers for its first page without a slash at the end.
            "/" if !self.base.is_empty() => self.base.clone(),
            _ => format!("{}{path}", self.base),
        }
    }

    pub(super) fn asset(&self, name: &str) -> String {
        format!("{}/assets/{name}?v={}", self.base, *assets::VERSION)
    }

    pub(super) fn thread(&self, thread: &ThreadId) -> String {
        format!("{}/threads/{}", self.base, encoded(thread.as_str()))
    }

    pub(crate) fn run(&self, thread: &ThreadId, run: &RunId) -> String {
        format!("{}/runs/{}", self.thread(thread), encoded(run.as_str()))
    }

    /// A run's page at one of its items.
    pub(super) fn item(&self, thread: &ThreadId, run: &RunId, item: &ItemId) -> String {
        let item = encoded(item.as_str());
        format!("{}?item={item}#i-{item}", self.run(thread, run))
    }

    pub(super) fn agent_run(&self, agent_run: &AgentRunId) -> String {
        format!("{}/agent-runs/{}", self.base, encoded(agent_run.as_str()))
    }
}

impl<S: Sync> FromRequestParts<S> for Site {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri, parts.extensions.get::<OriginalUri>()))
    }
}

/// An address with parameters; those without a value are left out.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut out = path.to_owned();
    let given = parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    for (number, (name, value)) in given.enumerate() {
        out.push(if number == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&encoded(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn ids_are_one_segment_whatever_is_in_them() {
        let site = Site::of(&Uri::from_static("/threads"), None);
        let thread = ThreadId::new("a/b?c#d %2e\"<ü").unwrap();
        assert_eq!(site.thread(&thread), "/threads/a%2Fb%3Fc%23d%20%252e%22%3C%C3%BC");
        assert_eq!(with_query("/x", &[("a", Some("1&2")), ("b", None), ("c", Some(""))]), "/x?a=1%262&c=");
    }

    #[test]
    fn addresses_begin_where_the_application_put_the_gateway() {
        let below = |inner: &'static str, whole: &'static str| {
            Site::of(&Uri::from_static(inner), Some(&OriginalUri(Uri::from_static(whole))))
        };
        let expected =
            Site { base: "/ledger".to_owned(), here: "/ledger/usage?days=7".to_owned(), log_out: None };
        assert_eq!(below("/usage?days=7", "/ledger/usage?days=7"), expected);
        assert_eq!(below("/", "/ledger").base(), "/ledger");
        assert_eq!(below("/", "/ledger/").base(), "/ledger");
        assert_eq!(below("/", "/").base(), "");
    }
}
