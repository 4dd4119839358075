//! What the router is made of.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::get;
use runledger_core::Ledger;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use crate::auth::Auth;
use crate::layers::{self, Origin};
use crate::metrics::{self, Metrics};
use crate::problem::Problem;
use crate::shutdown::Shutdown;
use crate::{api, health, live, openapi, page};

/// Whether there are pages for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// There are.
    #[default]
    Served,
    /// Programs only.
    LeftOut,
}

/// What can be chosen of a [`Gateway`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The most bytes of a request's body.
    pub body_limit: usize,
    /// How long an answer may take, or the opening of a stream, beside a wait for a run that was asked for.
    pub timeout: Duration,
    /// How often a stream looks for what other processes wrote where nothing tells it.
    pub poll: Duration,
    /// How often a stream on which nothing happens says that it is there.
    pub heartbeat: Duration,
    /// Keys of metadata and kwargs whose values are never sent: a key is matched whole, without regard to case.
    pub redacted_keys: Vec<String>,
    /// Sites whose scripts may call this server; without any, none but its own.
    pub cors_origins: Vec<Origin>,
    /// Whether there are pages for people.
    pub pages: Pages,
    /// Who is shown the metrics.
    pub metrics: Metrics,
    /// When streams and waits for runs are to end.
    pub shutdown: Shutdown,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_limit: 16 << 20,
            timeout: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            redacted_keys: [
                "api_key",
                "apikey",
                "authorization",
                "password",
                "secret",
                "token",
                "access_token",
            ]
            .map(str::to_owned)
            .to_vec(),
            cors_origins: Vec::new(),
            pages: Pages::default(),
            metrics: Metrics::default(),
            shutdown: Shutdown::new(),
        }
    }
}

/// What handlers know. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) auth: Arc<dyn Auth>,
    pub(crate) options: Arc<Options>,
    /// Who verifies a thread: each holds a connection of the ledger while its log is read.
    pub(crate) verifying: Arc<Semaphore>,
}

/// How many threads are verified at once.
const VERIFIED_AT_ONCE: usize = 2;

impl App {
    /// Whether the ledger can be asked.
    pub(crate) async fn ready(&self) -> runledger_core::Result<()> {
        self.ledger.events().ready().await
    }
}

/// A ledger, who may use it, and how it is served.
#[derive(Clone, Debug)]
pub struct Gateway(App);

impl Gateway {
    /// Serves `ledger` to those whom `auth` knows.
    #[must_use]
    pub fn new(ledger: Ledger, auth: impl Auth) -> Self {
        Self(App {
            ledger,
            auth: Arc::new(auth),
            options: Arc::new(Options::default()),
            verifying: Arc::new(Semaphore::new(VERIFIED_AT_ONCE)),
        })
    }

    /// With other options.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self(App { options: Arc::new(options), ..self.0 })
    }

    /// The router, to be served or to be nested into another.
    pub fn router(self) -> Router {
        metrics::describe();
        let app = self.0;
        let (routes, document) = described();
        let document: Arc<str> = document.into();
        let mut routes = routes.route(openapi::PATH, get(move || shown(document)));
        if app.options.pages == Pages::Served {
            routes = routes.merge(page::router());
        }
        let (brought, options) = (app.auth.pages(), Arc::clone(&app.options));
        let router = routes
            .with_state(app)
            .merge(brought)
            .fallback(no_such_path)
            .method_not_allowed_fallback(wrong_method);
        layers::wrap(router, &options)
    }
}

/// The endpoints for programs, and the document of them.
fn described() -> (Router<App>, String) {
    let (routes, document) = OpenApiRouter::with_openapi(openapi::base())
        .nest("/api", api::router().merge(live::router()))
        .merge(health::router())
        .split_for_parts();
    (routes, openapi::text(document))
}

/// The OpenAPI document of everything that a [`Gateway`] serves to programs, as JSON.
#[must_use]
pub fn openapi_document() -> String {
    described().1
}

async fn shown(document: Arc<str>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string())
}

async fn no_such_path(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::no_such_path(&method, &uri)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::wrong_method(&method, &uri)
}
