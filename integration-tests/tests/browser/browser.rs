//! A browser, a gateway over a SQLite file, and what the browser complains of.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::request::Parts;
use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetScriptExecutionDisabledParams,
};
use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use chromiumoxide::cdp::js_protocol::runtime::{EventConsoleApiCalled, EventExceptionThrown};
use chromiumoxide::layout::Point;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures_util::StreamExt as _;
use runledger_core::{Ledger, Scope};
use runledger_gateway::{Auth, AuthError, Caller};
use runledger_integration_tests::{TestDatabase, sqlite};
use runledger_persistence::{Config, SqlLedger, connect};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// The browser's own command, where it is not on the path under one of its names.
const COMMAND: &str = "RUNLEDGER_TEST_CHROMIUM";
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// How a page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    Desktop,
    Phone,
}

/// What the system's theme is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

impl Theme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Everybody who reaches the test's own port sees everything.
#[derive(Debug)]
struct Everybody;

#[async_trait]
impl Auth for Everybody {
    async fn authenticate(&self, _request: &Parts) -> Result<Caller, AuthError> {
        Ok(Caller::new(Scope::System))
    }
}

/// A browser that looks at a gateway.
pub(crate) struct Looking {
    pub(crate) ledger: Ledger,
    sql: SqlLedger,
    pub(crate) page: Page,
    address: String,
    complaints: Arc<Mutex<Vec<String>>>,
    browser: Browser,
    _database: TestDatabase,
    _profile: TempDir,
}

/// The browser's command; where there is none, this says so, and fails where it must be there.
fn command() -> Option<PathBuf> {
    let named = std::env::var_os(COMMAND).map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        let mut places = std::env::split_paths(&paths).flat_map(|folder| NAMES.map(|name| folder.join(name)));
        places.find(|place| place.is_file())
    });
    if found.is_none() {
        let told = format!("there is no Chromium on the path; install one, or name it in {COMMAND}");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{told}");
        // Not the print macros: what they write is shown for failed tests only, and this must be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED in a browser: {told}");
    }
    found
}

impl Looking {
    /// Opens a browser and a gateway; `None` where there is no browser.
    pub(crate) async fn open() -> Option<Self> {
        let command = command()?;
        let database = sqlite::database().await;
        let sql = connect(Config::new(database.url())).await.expect("a migrated database");
        let ledger = sql.ledger();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let router = runledger_gateway::router(ledger.clone(), Everybody);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let profile = TempDir::new().expect("a folder");
        let config = BrowserConfig::builder()
            .chrome_executable(command)
            .user_data_dir(profile.path())
            // Tests run as root in containers, where Chromium's own sandbox does not work.
            .no_sandbox()
            .new_headless_mode()
            .viewport(None)
            .launch_timeout(Duration::from_secs(60))
            .build()
            .expect("a configuration");
        let (browser, mut events) = Browser::launch(config).await.expect("a browser that starts");
        tokio::spawn(async move { while events.next().await.is_some() {} });
        let page = browser.new_page("about:blank").await.expect("a page");
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let looking =
            Self { ledger, sql, page, address, complaints, browser, _database: database, _profile: profile };
        looking.listen().await;
        looking.set(Screen::Desktop, Theme::Light).await;
        Some(looking)
    }

    /// Notes what the console says, exceptions, and refused loads and policies.
    async fn listen(&self) {
        let page = &self.page;
        page.enable_log().await.expect("a log");
        let (said, thrown, logged) = tokio::join!(
            page.event_listener::<EventConsoleApiCalled>(),
            page.event_listener::<EventExceptionThrown>(),
            page.event_listener::<EventEntryAdded>(),
        );
        let notes = [
            said.expect("a listener")
                .map(|event| format!("console: {:?} {:?}", event.r#type, event.args))
                .boxed(),
            thrown.expect("a listener").map(|event| format!("thrown: {:?}", event.exception_details)).boxed(),
            logged
                .expect("a listener")
                .filter(|event| {
                    let is_bad = matches!(event.entry.level, LogEntryLevel::Error | LogEntryLevel::Warning);
                    std::future::ready(is_bad)
                })
                .map(|event| format!("logged: {:?}", event.entry))
                .boxed(),
        ];
        let complaints = Arc::clone(&self.complaints);
        tokio::spawn(futures_util::stream::select_all(notes).for_each(move |note| {
            complaints.lock().expect("a lock").push(note);
            std::future::ready(())
        }));
    }

    pub(crate) async fn set(&self, screen: Screen, theme: Theme) {
        let (width, height, is_mobile) = match screen {
            Screen::Desktop => (1_280, 800, false),
            Screen::Phone => (390, 844, true),
        };
        self.page
            .execute(SetDeviceMetricsOverrideParams::new(width, height, 1.0, is_mobile))
            .await
            .expect("a size");
        let theme = MediaFeature::new("prefers-color-scheme", theme.name());
        let still = MediaFeature::new("prefers-reduced-motion", "reduce");
        self.page.emulate_media_features(vec![theme, still]).await.expect("a theme");
    }

    pub(crate) async fn without_scripts(&self) {
        self.page.execute(SetScriptExecutionDisabledParams::new(true)).await.expect("no scripts");
    }

    pub(crate) async fn go(&self, path: &str) {
        self.page.goto(format!("{}{path}", self.address)).await.expect("a page that loads");
    }

    /// What a script says of the page.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, script: &str) -> T {
        let answer = self.page.evaluate(script).await;
        let answer = answer.unwrap_or_else(|error| panic!("{script}: {error}"));
        answer.into_value().unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script says true.
    pub(crate) async fn until(&self, script: &str) {
        for _ in 0..1_200 {
            // A page that is on its way to another answers nothing.
            if let Ok(answer) = self.page.evaluate(script).await
                && answer.into_value::<bool>().unwrap_or(false)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let text: String = self.ask("document.body.innerText").await;
        panic!("never: {script}, but: {text}\n{:?}", self.complaints());
    }

    pub(crate) async fn press(&self, keys: &[&str]) {
        let body = self.page.find_element("body").await.expect("a body");
        for key in keys {
            body.press_key(key).await.expect("a key");
        }
    }

    pub(crate) async fn click(&self, selector: &str) {
        // Not the client's own click: it waits for a promise, and without scripts none is ever kept.
        let place = format!(
            "(() => {{ const found = document.querySelector({selector:?}); found.scrollIntoView({{ block: 'center' }}); \
             const at = found.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; }})()"
        );
        let [x, y]: [f64; 2] = self.ask(&place).await;
        self.page.click(Point::new(x, y)).await.expect("a click");
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("a lock").clone()
    }

    /// Keeps a picture of the page as an artifact.
    pub(crate) async fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join(format!("{name}.png"));
        self.page.save_screenshot(ScreenshotParams::builder().build(), &file).await.expect("a picture");
    }

    /// Ends the browser; nothing may have been complained of.
    pub(crate) async fn close(mut self) {
        pretty_assertions::assert_eq!(self.complaints(), Vec::<String>::new());
        self.browser.close().await.expect("an end");
        self.browser.wait().await.expect("an end");
        self.sql.close().await;
    }
}
