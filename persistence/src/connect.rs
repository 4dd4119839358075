//! Opening a database: pools for reading and editing, and the lanes that append.
//!
//! Connecting looks at the schema and never changes it, and never creates a SQLite file.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use runledger_core::{
    AppendSignal, Applied, Commit, Error, Ledger, Limits, Receipt, Result, Scope, ThreadId,
};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, IsolationLevel,
    SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, TransactionOptions,
};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use url::Url;

use crate::commit::{LOCK_WAIT, Lanes, Opener, backoff};
use crate::dialect::Dialect;
use crate::error_map::{self, Trouble};
use crate::patience::{GivenUp, Patience, Patient};
use crate::sql::walk::Walk;
use crate::sqlite_file::{FileReader, FileSettings};
use crate::watch::Watch;
use crate::{schema_check, sql};

/// How often a transaction that lost against another is tried.
const TRIES: u32 = 8;

/// How much longer than PostgreSQL may work on a statement its answer is waited for.
const ANSWER_TRAVELS: Duration = Duration::from_secs(5);

/// The longest that a renewal of leases waits for a connection or an answer: little beside a lease, so that
/// another connection can be tried before it ends.
const RENEWAL: Duration = Duration::from_secs(8);

/// PostgreSQL ends a transaction of ours that does nothing for this long: its process was stopped or is
/// cut off, and nobody else can write what it has locked. Little beside a lease, too.
const ABANDONED: Duration = Duration::from_secs(15);

/// How long an `Ok` of a write is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Survives a loss of power on both databases. SQLite syncs its log at each commit
    /// (`synchronous = FULL`), which a single writer feels.
    Full,
    /// Survives the end of the process. On PostgreSQL this is `synchronous_commit = on`, a loss of
    /// power included; a SQLite file may lose its last commits then, never its consistency
    /// (`synchronous = NORMAL`).
    #[default]
    Normal,
    /// May lose the last commits (PostgreSQL: those of the last moments if the server dies,
    /// `synchronous_commit = off`; SQLite as `Normal`). 1.3 to 2.7 times faster on PostgreSQL.
    Relaxed,
}

/// What stands between this process and a PostgreSQL server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler that keeps a session for as long as the connection lasts.
    #[default]
    Session,
    /// A pooler in transaction mode that keeps prepared statements apart by name: pgbouncer from 1.21
    /// on with `max_prepared_statements` above 0. No settings of the session are made: set durability
    /// and timeouts on the role instead, `lock_timeout` (2 seconds) and
    /// `idle_in_transaction_session_timeout` (15 seconds) among them.
    Transaction,
}

/// Whether processes tell each other of appends (PostgreSQL). Without, followers of a log learn of another process's
/// appends when they look, an interval later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notifications {
    /// They do: appends are told on the channel `runledger_appended`, at most 20 times a second, and heard on a
    /// connection that is open while somebody follows a log.
    #[default]
    On,
    /// They do not.
    Off,
}

/// Where a ledger is and how it is used.
#[derive(Clone)]
pub struct Config {
    /// `sqlite://PATH`, `sqlite::memory:` or `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub url: String,
    /// The most connections that read. Appends have their own.
    pub max_connections: u32,
    /// How long an `Ok` of a write is good for.
    pub durability: Durability,
    /// How long a reader waits for a connection.
    pub acquire_timeout: Duration,
    /// How long PostgreSQL may work on one statement, 60 seconds unless told; `None` is the server's
    /// setting. A little later the connection is given up, because a server that cannot be reached
    /// any more does not answer at all; with `None` it is waited for without end.
    pub statement_timeout: Option<Duration>,
    /// How long SQLite waits for another program's write.
    pub busy_timeout: Duration,
    /// How many connections append to PostgreSQL, at least 1. SQLite has one writer.
    pub lanes: usize,
    /// Sizes above which payloads are cut or refused.
    pub limits: Limits,
    /// What stands between this process and a PostgreSQL server.
    pub pooler: Pooler,
    /// Whether processes tell each other of appends.
    pub notifications: Notifications,
}

impl Config {
    /// The defaults, for the database at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 8,
            durability: Durability::default(),
            acquire_timeout: Duration::from_secs(30),
            statement_timeout: Some(Duration::from_secs(60)),
            busy_timeout: Duration::from_secs(10),
            lanes: 2,
            limits: Limits::default(),
            pooler: Pooler::default(),
            notifications: Notifications::default(),
        }
    }

    /// With another durability.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// With another number of reading connections.
    #[must_use]
    pub fn with_max_connections(self, max_connections: u32) -> Self {
        Self { max_connections, ..self }
    }

    /// With other size limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// With a time limit for each statement (PostgreSQL).
    #[must_use]
    pub fn with_statement_timeout(self, timeout: Duration) -> Self {
        Self { statement_timeout: Some(timeout), ..self }
    }

    /// With another kind of pooler in between.
    #[must_use]
    pub fn with_pooler(self, pooler: Pooler) -> Self {
        Self { pooler, ..self }
    }

    /// With or without telling other processes of appends (PostgreSQL).
    #[must_use]
    pub fn with_notifications(self, notifications: Notifications) -> Self {
        Self { notifications, ..self }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &redacted(&self.url))
            .field("max_connections", &self.max_connections)
            .field("durability", &self.durability)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("busy_timeout", &self.busy_timeout)
            .field("lanes", &self.lanes)
            .field("limits", &self.limits)
            .field("pooler", &self.pooler)
            .field("notifications", &self.notifications)
            .finish()
    }
}

/// The URL as it may be shown: passwords are replaced by `***`.
#[must_use]
pub fn redacted(url: &str) -> String {
    const HIDDEN: &str = "***";
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    // What cannot be read may hold a password anywhere.
    let Ok(mut parsed) = Url::parse(url) else { return "(an unreadable url)".to_owned() };
    if parsed.cannot_be_a_base() || !parsed.has_authority() {
        return format!("{}:{HIDDEN}", parsed.scheme());
    }
    // An unescaped `#`, `/` or `?` ends the password early: the rest of it is in what follows.
    let follows = [parsed.path(), parsed.query().unwrap_or_default()];
    if parsed.fragment().is_some() || follows.iter().any(|part| part.contains('@')) {
        return "(an unreadable url)".to_owned();
    }
    if parsed.password().is_some() && parsed.set_password(Some(HIDDEN)).is_err() {
        return format!("{}://{HIDDEN}", parsed.scheme());
    }
    if parsed.query_pairs().any(|(key, _)| key.to_ascii_lowercase().contains("password")) {
        parsed.set_query(Some(HIDDEN));
    }
    parsed.to_string()
}

/// A database that is open and whose schema was not looked at yet.
///
/// Only a database in memory needs this step of its own: it has to be migrated through the very
/// connection that will use it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use runledger_persistence::{Config, Connecting};
///
/// let connecting = Connecting::open(Config::new("sqlite::memory:")).await?;
/// runledger_migration::up_on(connecting.database(), &Default::default()).await?;
/// let ledger = connecting.ledger().await?;
/// # ledger.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connecting {
    config: Config,
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    renewer: DatabaseConnection,
    dialect: Dialect,
    pub(crate) opener: Opener,
    patience: Patience,
    given_up: GivenUp,
    watch: Option<Watch>,
}

impl Connecting {
    /// Opens the database. A SQLite file that is missing is `SchemaMismatch`, a server that does
    /// not answer `Unavailable`, a URL that cannot be used `InvalidInput`.
    pub async fn open(config: Config) -> Result<Self> {
        match Dialect::of_url(&config.url)? {
            Dialect::Postgres => open_postgres(config).await,
            Dialect::Sqlite => open_sqlite(config).await,
        }
    }

    /// The connection to migrate through.
    #[must_use]
    pub fn database(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Checks the schema and starts the lanes; `SchemaMismatch` where it is not the one needed.
    pub async fn ledger(self) -> Result<SqlLedger> {
        if let Err(error) = schema_check::check(&self.reader).await {
            // The first answer is the one to give.
            let _ = self.reader.close_by_ref().await;
            let _ = self.writer.close_by_ref().await;
            let _ = self.renewer.close_by_ref().await;
            return Err(error);
        }
        let lanes = if self.dialect == Dialect::Sqlite { 1 } else { self.config.lanes.max(1) };
        let signal = self.watch.as_ref().map_or_else(AppendSignal::default, Watch::signal);
        let lanes = Lanes::start(lanes, &self.opener, &signal)
            .map_err(|error| Error::Unavailable { applied: Applied::No, source: error.into() })?;
        let database = Arc::new(Database {
            lanes,
            file: match self.opener {
                Opener::File(_, settings) => Some(FileReader::new(
                    settings,
                    self.config.max_connections.max(1),
                    self.config.acquire_timeout,
                )),
                Opener::Memory(_) | Opener::Postgres(..) => None,
            },
            reader: Patient::new(self.reader, self.patience, &self.given_up),
            writer: Patient::new(self.writer, self.patience, &self.given_up),
            renewer: Patient::new(self.renewer, self.patience.at_most(RENEWAL), &self.given_up),
            dialect: self.dialect,
            limits: self.config.limits,
            signal,
            watch: self.watch,
        });
        Ok(SqlLedger { ledger: sql::ledger(&database), database })
    }
}

/// Opens the database and checks its schema; see [`Connecting::open`] for the errors.
pub async fn connect(config: Config) -> Result<SqlLedger> {
    Connecting::open(config).await?.ledger().await
}

/// A ledger over SQL. Cheap to clone; all clones share connections and lanes.
#[derive(Clone, Debug)]
pub struct SqlLedger {
    ledger: Ledger,
    pub(crate) database: Arc<Database>,
}

impl SqlLedger {
    /// The stores.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// How many threads there are, deleted ones left out.
    pub async fn count_threads(&self) -> Result<u64> {
        Walk::Alive.count(&self.database).await
    }

    /// The threads that come after one in the order of their ids, a page of them, for the system to go through all;
    /// none at the end.
    pub async fn threads_after(&self, after: Option<&ThreadId>) -> Result<Vec<ThreadId>> {
        Walk::Alive.after(&self.database, after).await
    }

    /// Waits for the appends that were handed in, and closes every connection. A SQLite file is
    /// left without its log. Later calls are answered with `Unavailable`, and so are those who follow logs.
    pub async fn close(&self) {
        let database = &self.database;
        database.lanes.close().await;
        // Whoever follows a log is told, and waits for a database no more.
        database.signal.close();
        if let Some(watch) = &database.watch {
            watch.close().await;
        }
        // A failure to say goodbye changes nothing: everything is committed, and the next start
        // moves a log that is still there.
        if let Some(file) = &database.file {
            file.close().await;
            let _ = database.reader.close().await;
            let _ = database.writer.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await;
        }
        let _ = database.reader.close().await;
        let _ = database.writer.close().await;
        let _ = database.renewer.close().await;
    }
}

impl Deref for SqlLedger {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

/// What the stores share.
pub(crate) struct Database {
    pub(crate) reader: Patient<DatabaseConnection>,
    pub(crate) writer: Patient<DatabaseConnection>,
    /// Nothing but renewals of leases: no edit, however long, holds them up.
    renewer: Patient<DatabaseConnection>,
    pub(crate) dialect: Dialect,
    pub(crate) limits: Limits,
    pub(crate) signal: AppendSignal,
    /// What other processes are told and heard by, where the database can do that.
    pub(crate) watch: Option<Watch>,
    /// What reads pages of a SQLite file.
    pub(crate) file: Option<FileReader>,
    lanes: Lanes,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("dialect", &self.dialect)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The body of a transaction, once; it may be asked for several times.
pub(crate) type Body<'c, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>;

impl Database {
    /// Stores a commit.
    pub(crate) async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        let prepared = commit.prepare(&self.limits)?;
        self.lanes.append(scope, prepared).await
    }

    /// A transaction that reads everything as it is now, whatever is written meanwhile. It locks nothing; whoever
    /// has read rolls it back.
    pub(crate) async fn snapshot(&self, operation: &'static str) -> Result<Patient<DatabaseTransaction>> {
        let options = match self.dialect {
            Dialect::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
            Dialect::Sqlite => TransactionOptions::default(),
        };
        self.reader.begin(options).await.map_err(|error| error_map::map(operation, error))
    }

    /// Runs an edit in a transaction of its own, and again where it lost against another.
    ///
    /// `operation` completes "the database refused". An `Err` of the body takes everything back.
    pub(crate) async fn transaction<T, F>(&self, operation: &'static str, body: F) -> Result<T>
    where
        F: for<'c> Fn(&'c Patient<DatabaseTransaction>) -> Body<'c, T>,
    {
        self.transaction_of(&self.writer, operation, body).await
    }

    /// As [`Database::transaction`], for a renewal of leases.
    pub(crate) async fn renewal<T, F>(&self, operation: &'static str, body: F) -> Result<T>
    where
        F: for<'c> Fn(&'c Patient<DatabaseTransaction>) -> Body<'c, T>,
    {
        self.transaction_of(&self.renewer, operation, body).await
    }

    async fn transaction_of<T, F>(
        &self,
        pool: &Patient<DatabaseConnection>,
        operation: &'static str,
        body: F,
    ) -> Result<T>
    where
        F: for<'c> Fn(&'c Patient<DatabaseTransaction>) -> Body<'c, T>,
    {
        let mut tried = 1;
        loop {
            match self.transaction_once(pool, operation, &body).await {
                Err(error)
                    if tried < TRIES
                        && matches!(error_map::trouble_of(&error), Trouble::Again | Trouble::Held) =>
                {
                    tokio::time::sleep(backoff(tried)).await;
                    tried += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn transaction_once<T, F>(
        &self,
        pool: &Patient<DatabaseConnection>,
        operation: &'static str,
        body: &F,
    ) -> Result<T>
    where
        F: for<'c> Fn(&'c Patient<DatabaseTransaction>) -> Body<'c, T>,
    {
        let options = TransactionOptions {
            // A deferred transaction that reads first cannot wait for another writer.
            sqlite_transaction_mode: (self.dialect == Dialect::Sqlite)
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let failed = |error| error_map::map(operation, error);
        let transaction = pool.begin(options).await.map_err(failed)?;
        match body(&transaction).await {
            Ok(value) => {
                fail_point!(EditUncommitted);
                transaction.commit().await.map_err(|error| error_map::map_commit(operation, error))?;
                fail_point!(EditDurable);
                Ok(value)
            }
            Err(error) => {
                // A connection that is of no more use is not asked; its pool ends it.
                if !error_map::trouble_of(&error).ends_the_connection() {
                    // What failed matters more than what failed after it.
                    let _ = transaction.rollback().await;
                }
                Err(error)
            }
        }
    }
}

/// The driver's reason may quote the URL, so it is not shown.
fn refused_url() -> Error {
    Error::invalid("url", "cannot be used; give sqlite://PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE")
}

fn unreachable(error: sqlx::Error) -> Error {
    error_map::map_sqlx("to connect", error, Applied::No)
}

async fn open_postgres(config: Config) -> Result<Connecting> {
    let parsed: PgConnectOptions = config.url.parse().map_err(|_: sqlx::Error| refused_url())?;
    let options = parsed.application_name("runledger").disable_statement_logging();
    let (options, lane) = match config.pooler {
        Pooler::Transaction => {
            // A start parameter that such a pooler refuses.
            let options = options.extra_float_digits(None);
            (options.clone(), options)
        }
        Pooler::Session => {
            let commit = if config.durability == Durability::Relaxed { "off" } else { "on" };
            let mut settings = vec![
                ("synchronous_commit", commit.to_owned()),
                ("idle_in_transaction_session_timeout", ABANDONED.as_millis().to_string()),
            ];
            if let Some(timeout) = config.statement_timeout {
                settings.push(("statement_timeout", timeout.as_millis().to_string()));
            }
            let options = options.options(settings);
            let of_lanes = [
                // Plans made for the values of one commit are no better, and are made each time.
                ("plan_cache_mode", "force_generic_plan".to_owned()),
                // Every row is found by its key. A plan that was made while a table was small would go on reading
                // all of it, and the versions of rows that were updated since.
                ("enable_seqscan", "off".to_owned()),
                ("jit", "off".to_owned()),
                ("lock_timeout", LOCK_WAIT.as_millis().to_string()),
            ];
            (options.clone(), options.options(of_lanes))
        }
    };
    let watch = (config.notifications == Notifications::On).then(|| {
        let hears = config.pooler == Pooler::Session;
        // What it commits is a notification, which no loss of power can lose.
        let options = options.clone();
        let options = if hears { options.options([("synchronous_commit", "off")]) } else { options };
        Watch::new(options, hears)
    });
    let given_up = GivenUp::default();
    let pool =
        |most, acquire| given_up.watch(PgPoolOptions::new().max_connections(most).acquire_timeout(acquire));
    let reader = pool(config.max_connections.max(1), config.acquire_timeout)
        .connect_with(options.clone())
        .await
        .map_err(unreachable)?;
    let writer = pool(2, config.acquire_timeout).connect_lazy_with(options.clone());
    // The second is for when the first has become silent.
    let renewer = pool(2, config.acquire_timeout.min(RENEWAL)).connect_lazy_with(options);
    let patience = Patience(config.statement_timeout.map(|timeout| timeout + ANSWER_TRAVELS));
    Ok(Connecting {
        reader: SqlxPostgresConnector::from_sqlx_postgres_pool(reader),
        writer: SqlxPostgresConnector::from_sqlx_postgres_pool(writer),
        renewer: SqlxPostgresConnector::from_sqlx_postgres_pool(renewer),
        dialect: Dialect::Postgres,
        opener: Opener::Postgres(Box::new(lane), patience),
        patience,
        given_up,
        watch,
        config,
    })
}

/// Whether the URL is of a database that lives and dies with its connection.
fn names_memory(url: &str) -> bool {
    let rest = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    location == ":memory:" || query.split('&').any(|pair| pair == "mode=memory")
}

async fn open_sqlite(config: Config) -> Result<Connecting> {
    let parsed: SqliteConnectOptions = config.url.parse().map_err(|_: sqlx::Error| refused_url())?;
    // To append to a log that was cut off is faster than to write over one, but for whoever waits for the disk: then
    // the file would grow, which is a second thing to sync.
    let (synchronous, log_bytes) = match config.durability {
        Durability::Full => ("FULL", "-1"),
        Durability::Normal | Durability::Relaxed => ("NORMAL", "0"),
    };
    let settings = FileSettings {
        path: parsed.get_filename().to_path_buf(),
        vfs: vfs_of(&config.url),
        busy_timeout: config.busy_timeout,
        pragmas: [
            ("foreign_keys", "ON"),
            ("synchronous", synchronous),
            ("journal_size_limit", log_bytes),
            // In KiB where negative.
            ("cache_size", "-16384"),
            ("temp_store", "memory"),
        ],
    };
    let options =
        parsed.busy_timeout(settings.busy_timeout).statement_cache_capacity(256).disable_statement_logging();
    let options =
        settings.pragmas.iter().fold(options, |options, (name, value)| options.pragma(*name, *value));
    if names_memory(&config.url) {
        open_memory(config, options).await
    } else {
        open_file(config, options, settings).await
    }
}

/// How SQLite is to reach the file, where the URL says so.
fn vfs_of(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "vfs").then(|| value.into_owned()))
}

async fn open_memory(config: Config, options: SqliteConnectOptions) -> Result<Connecting> {
    let pool = SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(config.acquire_timeout)
        .connect_with(options)
        .await
        .map_err(unreachable)?;
    let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.clone());
    Ok(Connecting {
        reader: connection.clone(),
        writer: connection.clone(),
        renewer: connection,
        dialect: Dialect::Sqlite,
        opener: Opener::Memory(pool),
        patience: Patience::default(),
        given_up: GivenUp::default(),
        watch: None,
        config,
    })
}

async fn open_file(
    config: Config,
    options: SqliteConnectOptions,
    settings: FileSettings,
) -> Result<Connecting> {
    if !settings.path.exists() {
        return Err(schema_check::mismatch(format!("missing, there is no file {}", settings.path.display())));
    }
    let options = options.create_if_missing(false).journal_mode(SqliteJournalMode::Wal);
    let reader = SqlitePoolOptions::new()
        .max_connections(config.max_connections.max(1))
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
        .connect_with(options.clone())
        .await
        .map_err(unreachable)?;
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(config.acquire_timeout)
        .connect_lazy_with(options.clone());
    // One at a time can write, on whatever connection.
    let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer);
    Ok(Connecting {
        reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        renewer: writer.clone(),
        writer,
        dialect: Dialect::Sqlite,
        opener: Opener::File(Box::new(options), Arc::new(settings)),
        patience: Patience::default(),
        given_up: GivenUp::default(),
        watch: None,
        config,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::ErrorKind;

    #[test]
    fn passwords_are_shown_nowhere() {
        for url in [
            "postgres://u:hunter2@h:5432/d?sslmode=disable",
            "postgres:///d?user=u&password=hunter2&host=h",
            "postgres://u:p:hunter2",
            "postgres:hunter2",
        ] {
            let shown = format!("{:?}", Config::new(url));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(redacted("postgres://u:x@h:5432/d"), "postgres://u:***@h:5432/d");
        assert_eq!(redacted("sqlite://a.db"), "sqlite://a.db");
        for ended_early in ["u:#x@h/d", "u:12#x@h/d", "u:12/x@h/d", "u:12?x@h/d"] {
            assert_eq!(redacted(&format!("postgres://{ended_early}")), "(an unreadable url)");
        }
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for url in ["mysql://u:hunter2@h/d", "hunter2", "postgres://u:hunter2@h:port/d", "sqlite:x?hunter2=1"]
        {
            let error = Connecting::open(Config::new(url)).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_stays_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.db");
        let error = connect(Config::new(format!("sqlite://{}", path.display()))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        assert!(!path.exists());
    }

    #[test]
    fn databases_in_memory_are_known_by_their_urls() {
        for (url, memory) in [
            ("sqlite::memory:", true),
            ("sqlite://:memory:", true),
            ("sqlite://x?mode=memory", true),
            ("sqlite://memory.db", false),
        ] {
            assert_eq!(names_memory(url), memory, "{url}");
        }
    }
}
