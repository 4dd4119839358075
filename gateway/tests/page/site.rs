//! A site to look at, and pages as a browser's tokenizer reads them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, header};
use html5gum::{Token, Tokenizer};
use http_body_util::BodyExt as _;
use runledger_core::{Ledger, MemoryLedger, OwnerId, Scope};
use runledger_gateway::{Auth, AuthError, Caller, router};
use tower::ServiceExt as _;

/// Believes whoever says who they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Believing {
    pub(crate) login: Option<&'static str>,
}

#[async_trait]
impl Auth for Believing {
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError> {
        match request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
            None => Err(AuthError::Unauthenticated("say who you are".to_owned())),
            Some("system") => Ok(Caller::new(Scope::System)),
            Some(name) => Ok(Caller::new(owner(name))),
        }
    }

    fn login_path(&self) -> Option<&str> {
        self.login
    }
}

pub(crate) fn owner(name: &str) -> Scope {
    Scope::Owner(OwnerId::new(name).unwrap())
}

/// A gateway over a ledger.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) ledger: Ledger,
    router: Router,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::over(MemoryLedger::new().ledger())
    }

    pub(crate) fn over(ledger: Ledger) -> Self {
        let router = router(ledger.clone(), Believing::default());
        Self { ledger, router }
    }

    /// Below another router's path.
    pub(crate) fn below(ledger: Ledger, path: &str) -> Self {
        let router = Router::new().nest(path, router(ledger.clone(), Believing::default()));
        Self { ledger, router }
    }

    pub(crate) fn with_login(login: &'static str) -> Self {
        let ledger = MemoryLedger::new().ledger();
        let router = router(ledger.clone(), Believing { login: Some(login) });
        Self { ledger, router }
    }

    /// A page, as `who` sees it.
    pub(crate) async fn get(&self, who: Option<&str>, path: &str) -> Page {
        let mut request = Request::builder().uri(path).header(header::ACCEPT, "text/html,*/*;q=0.8");
        if let Some(who) = who {
            request = request.header(header::AUTHORIZATION, who);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let html = String::from_utf8(bytes.to_vec()).unwrap();
        Page::read(parts.status.as_u16(), parts.headers, html)
    }

    /// A page that must be there, as the system sees it.
    pub(crate) async fn page(&self, path: &str) -> Page {
        let page = self.get(Some("system"), path).await;
        assert!(page.status == 200, "{path} is {}: {}", page.status, page.text);
        page
    }
}

/// The start of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Tag {
    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.attribute("class").is_some_and(|classes| classes.split(' ').any(|found| found == class))
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// A page that was read.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) html: String,
    pub(crate) tags: Vec<Tag>,
    /// Everything between tags.
    pub(crate) text: String,
}

impl Page {
    fn read(status: u16, headers: HeaderMap, html: String) -> Self {
        let (mut tags, mut text) = (Vec::new(), String::new());
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !media_type.is_some_and(|media_type| media_type.starts_with("text/html")) {
            return Self { status, headers, html, tags, text };
        }
        let read = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for token in Tokenizer::new(&html) {
            match token.unwrap() {
                Token::StartTag(tag) => {
                    let attributes = tag.attributes.iter().map(|(name, value)| (read(name), read(value)));
                    tags.push(Tag { name: read(&tag.name), attributes: attributes.collect() });
                }
                Token::String(part) => text.push_str(&read(&part)),
                Token::Error(error) => panic!("{error:?} in {html}"),
                Token::EndTag(_) | Token::Comment(_) | Token::Doctype(_) => {}
            }
        }
        Self { status, headers, html, tags, text }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn with_class(&self, class: &str) -> Vec<&Tag> {
        self.tags.iter().filter(|tag| tag.has_class(class)).collect()
    }

    /// The addresses that the page links to.
    pub(crate) fn links(&self) -> Vec<&str> {
        self.tags.iter().filter(|tag| tag.name == "a").filter_map(|tag| tag.attribute("href")).collect()
    }

    /// The address of the first link whose `rel` is this.
    pub(crate) fn rel(&self, rel: &str) -> Option<&str> {
        let link = self.tags.iter().find(|tag| tag.name == "a" && tag.attribute("rel") == Some(rel));
        link.and_then(|tag| tag.attribute("href"))
    }
}
