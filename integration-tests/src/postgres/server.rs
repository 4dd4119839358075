//! The server of this process and the thread that looks after it.
//!
//! Each test has a runtime of its own and ends with it, so nothing that all tests share may belong
//! to one of them. The server belongs to a thread with its own runtime, which makes and drops
//! databases on request and lives as long as the process.

use std::{
    env,
    io::Write as _,
    sync::{LazyLock, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    choice::{Choice, URL, Way, Wishes, choose},
    container::Container,
    databases::{Databases, Request, Requests},
    lent::Lent,
    local::LocalServer,
};
use crate::database::TestDatabase;

/// Whether what a server that is started here has acknowledged is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// It need not outlive the server, so it is kept in memory where there is such a place.
    Off,
    /// It is, as in production: for those who measure.
    On,
}

impl Fsync {
    /// The settings of such a server. All tests of a process, each with pools of its own, connect at once.
    pub(crate) fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Off => &["fsync=off", "full_page_writes=off", "max_connections=400", "shared_buffers=64MB"],
            // No checkpoint amid what is measured but those that are due by time.
            Self::On => &["max_connections=400", "shared_buffers=512MB", "max_wal_size=8GB"],
        }
    }
}

/// A guard against a server that never answers, not an expectation.
const READY_GUARD: Duration = Duration::from_secs(60);
const READY_PAUSE: Duration = Duration::from_millis(10);

/// The server that the tests of this process use.
#[derive(Debug)]
pub struct Server {
    url: String,
    requests: Requests,
    lasting: bool,
}

/// The server of this process, decided at the first call, or `None` where none can be had.
///
/// # Panics
/// Where there must be one: under `CI=true`, or when the way that was forced gives none.
#[must_use]
pub fn server() -> Option<&'static Server> {
    static SERVER: LazyLock<Result<Option<Server>, String>> = LazyLock::new(|| decide(Fsync::Off));
    decided(&SERVER)
}

/// As [`server`], one whose commits are on a disk, to measure: the server that is named, or one of this
/// machine's binaries. What a named one does is its own business: ask it for its settings.
///
/// # Panics
/// As [`server`].
#[must_use]
pub fn durable_server() -> Option<&'static Server> {
    static SERVER: LazyLock<Result<Option<Server>, String>> = LazyLock::new(|| decide(Fsync::On));
    decided(&SERVER)
}

fn decided(server: &'static Result<Option<Server>, String>) -> Option<&'static Server> {
    match server {
        Ok(server) => server.as_ref(),
        Err(reason) => panic!("{reason}"),
    }
}

impl Server {
    /// The URL of the server's own database, to ask it about itself. Tests make none of their
    /// tables there.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A migrated database of one's own.
    ///
    /// # Panics
    /// When the server makes none or the migration fails.
    pub async fn database(&self) -> TestDatabase {
        self.make(true).await
    }

    /// A database without any table, for tests of the migration itself.
    ///
    /// # Panics
    /// When the server makes none.
    pub async fn empty_database(&self) -> TestDatabase {
        self.make(false).await
    }

    async fn make(&self, migrated: bool) -> TestDatabase {
        let (made, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Make { migrated, made });
        match (sent, answer.await) {
            (Ok(()), Ok(Ok((name, url)))) => {
                let lent = Lent { name, requests: self.requests.clone(), lasting: self.lasting };
                TestDatabase::on_server(url, lent)
            }
            (_, Ok(Err(reason))) => panic!("failed to make a test's database: {reason}"),
            (Err(_), _) | (_, Err(_)) => {
                panic!("failed to make a test's database: the server's thread ended")
            }
        }
    }
}

fn decide(fsync: Fsync) -> Result<Option<Server>, String> {
    let wishes = Wishes::read(|name| env::var(name).ok());
    let began = Instant::now();
    match choose(&wishes, |way| start(way, fsync, &wishes)) {
        Choice::Server { way, server: (server, what), passed_over } => {
            let why = if passed_over.is_empty() {
                String::new()
            } else {
                format!(" (passed over {})", passed_over.join("; "))
            };
            say(&format!("PostgreSQL by {way}: {what}, ready in {} ms{why}", began.elapsed().as_millis()));
            Ok(Some(server))
        }
        Choice::Skip(line) => {
            say(&line);
            Ok(None)
        }
        Choice::Fail(reason) => Err(reason),
    }
}

/// Prints past libtest's capture, which hides what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Starts the thread and waits until its server answers. The text says what it is.
fn start(way: Way, fsync: Fsync, wishes: &Wishes) -> Result<(Server, String), String> {
    let (started, answer) = std_mpsc::channel();
    let wishes = wishes.clone();
    thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(move || look_after(way, fsync, &wishes, &started))
        .map_err(|error| format!("failed to start a thread: {error}"))?;
    answer.recv().unwrap_or_else(|_| Err("the server's thread ended".to_owned()))
}

fn look_after(
    way: Way,
    fsync: Fsync,
    wishes: &Wishes,
    started: &std_mpsc::Sender<Result<(Server, String), String>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(format!("failed to start a runtime: {error}")));
            return;
        }
    };
    runtime.block_on(async {
        let opened = async {
            let machine = Machine::start(way, fsync, wishes).await?;
            let databases = Databases::open(machine.url(), machine.is_lasting()).await?;
            Ok::<_, String>((machine, databases))
        };
        match opened.await {
            Ok((machine, databases)) => {
                let (requests, inbox) = mpsc::unbounded_channel();
                let server =
                    Server { url: machine.url().to_owned(), requests, lasting: machine.is_lasting() };
                let _ =
                    started.send(Ok((server, format!("{}, {}", machine.what(wishes), databases.version()))));
                databases.serve(inbox).await;
            }
            Err(reason) => {
                let _ = started.send(Err(reason));
            }
        }
    });
}

/// What runs the server.
#[derive(Debug)]
enum Machine {
    Container(Box<Container>),
    Local(LocalServer),
    Elsewhere(String),
}

impl Machine {
    async fn start(way: Way, fsync: Fsync, wishes: &Wishes) -> Result<Self, String> {
        match way {
            Way::Docker if fsync == Fsync::On => Err("its disk is not this machine's".to_owned()),
            Way::Docker => {
                Container::start(&wishes.image).await.map(|container| Self::Container(Box::new(container)))
            }
            Way::Local => LocalServer::start(fsync).await.map(Self::Local),
            Way::Url => wishes.url.clone().map(Self::Elsewhere).ok_or_else(|| format!("{URL} is not set")),
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Container(container) => container.url(),
            Self::Local(server) => &server.url,
            Self::Elsewhere(url) => url,
        }
    }

    fn is_lasting(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    fn what(&self, wishes: &Wishes) -> String {
        match self {
            Self::Container(_) => format!("a container of {}", wishes.image),
            Self::Local(server) => server.binaries.display().to_string(),
            // Never the URL: it may hold a password.
            Self::Elsewhere(_) => format!("the server of {URL}"),
        }
    }
}

/// Waits until `SELECT 1` is answered at one of the URLs, which is returned. An accepted connection
/// is no proof: the proxy of a published port accepts while nothing listens behind it. `running`
/// tells whether waiting has a point.
pub(super) async fn until_ready(
    urls: &[String],
    mut running: impl AsyncFnMut() -> bool,
) -> Result<String, String> {
    let began = Instant::now();
    loop {
        let mut reasons = Vec::new();
        for url in urls {
            match answers(url).await {
                Ok(()) => return Ok(url.clone()),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if !running().await {
            return Err("the server ended before it answered".to_owned());
        }
        if began.elapsed() > READY_GUARD {
            return Err(format!("the server does not answer: {}", reasons.join("; ")));
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
}

async fn answers(url: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query("SELECT 1").execute(&mut connection).await?;
    connection.close().await
}
