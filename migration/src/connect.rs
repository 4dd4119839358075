//! Opening a database by its URL.
//!
//! Looking never creates: only `up` makes a SQLite file, and then gives it the settings that
//! cannot be changed once it holds a table.

use std::{path::PathBuf, time::Duration};

use sea_orm_migration::sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm_migration::sea_orm::sqlx::{self, ConnectOptions as _};
use sea_orm_migration::sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, RuntimeErr, SqlxSqliteConnector,
    Statement,
};
use url::Url;

use crate::{Error, error::Trouble};

/// The database of somebody who said nothing: a SQLite file in the current folder.
pub const DEFAULT_DATABASE_URL: &str = "sqlite://runledger.db";

/// How long a server may take to answer a connection attempt.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// How long a look at the schema waits for a locked SQLite file.
pub(crate) const READ_WAIT: Duration = Duration::from_secs(10);

/// What a SQLite file keeps for life, set before its first page is written: pages of 8 KiB
/// (events are large), deleted space that can be given back in steps, and the write-ahead log.
/// In this order: switching to the log writes the first page.
pub(crate) const NEW_FILE_SETTINGS: [&str; 3] =
    ["PRAGMA page_size = 8192", "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL"];

/// Where a URL points.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Memory,
    SqliteFile { path: PathBuf, says_mode: bool },
    Postgres,
}

impl Address {
    fn parse(url: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Url { url: redacted(url), reason };
        if let Some(rest) = url.strip_prefix("sqlite:") {
            return Self::sqlite(url, rest).map_err(refuse);
        }
        let parsed = Url::parse(url).map_err(|error| refuse(error.to_string()))?;
        match parsed.scheme() {
            "postgres" | "postgresql" => Ok(Self::Postgres),
            scheme => Err(refuse(format!("{scheme} is not a database of a ledger"))),
        }
    }

    fn sqlite(url: &str, rest: &str) -> Result<Self, String> {
        let options: SqliteConnectOptions = url.parse().map_err(|error: sqlx::Error| error.to_string())?;
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let location = location.trim_start_matches("//");
        let mode = url::form_urlencoded::parse(query.as_bytes())
            .find_map(|(key, value)| (key == "mode").then(|| value.into_owned()));
        if location == ":memory:" || mode.as_deref() == Some("memory") {
            return Ok(Self::Memory);
        }
        if location.is_empty() {
            return Err("it names no file".to_owned());
        }
        Ok(Self::SqliteFile { path: options.get_filename().to_path_buf(), says_mode: mode.is_some() })
    }
}

/// The URL as it may be shown: a password in it is replaced by `***`.
#[must_use]
pub fn redacted(url: &str) -> String {
    const HIDDEN: &str = "***";
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    // What cannot be read may hold a password anywhere.
    let Ok(mut parsed) = Url::parse(url) else {
        return "(an unreadable url)".to_owned();
    };
    // An unescaped `#`, `/` or `?` ends the password early: the rest of it is in what follows.
    let follows = [parsed.path(), parsed.query().unwrap_or_default()];
    if parsed.fragment().is_some() || follows.iter().any(|part| part.contains('@')) {
        return "(an unreadable url)".to_owned();
    }
    if parsed.password().is_some() && parsed.set_password(Some(HIDDEN)).is_err() {
        return format!("{}://{HIDDEN}", parsed.scheme());
    }
    let is_secret = |key: &str| key.to_ascii_lowercase().contains("password");
    if parsed.query_pairs().any(|(key, _)| is_secret(&key)) {
        let pairs: Vec<(String, String)> = parsed
            .query_pairs()
            .map(|(key, value)| {
                let shown = if is_secret(&key) { HIDDEN.into() } else { value };
                (key.into_owned(), shown.into_owned())
            })
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(pairs);
    }
    parsed.to_string()
}

/// A database that was opened to be looked at.
pub(crate) enum Existing {
    /// It is there.
    Open {
        connection: DatabaseConnection,
        /// A SQLite file without a single page, to which `up` would give its settings.
        blank: bool,
    },
    /// The SQLite file does not exist. The connection is to an empty database in memory, which
    /// answers every question as a new file would.
    Missing { stand_in: DatabaseConnection },
}

impl Existing {
    /// The connection that answers, whichever it is.
    pub(crate) const fn connection(&self) -> &DatabaseConnection {
        match self {
            Self::Open { connection, .. } => connection,
            Self::Missing { stand_in } => stand_in,
        }
    }

    /// Whether the database is there at all.
    pub(crate) const fn exists(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Whether `up` would first give a SQLite file its lasting settings.
    pub(crate) const fn wants_settings(&self) -> bool {
        match self {
            Self::Open { blank, .. } => *blank,
            Self::Missing { .. } => true,
        }
    }

    /// Closes the connection; a SQLite file is left without its side files.
    pub(crate) async fn close(self) {
        let connection = match self {
            Self::Open { connection, .. } => connection,
            Self::Missing { stand_in } => stand_in,
        };
        close(connection).await;
    }
}

/// Opens a database to look at it, or to change what is there; a missing file stays missing.
pub(crate) async fn open_existing(url: &str, wait: Duration) -> Result<Existing, Error> {
    let address = Address::parse(url)?;
    if let Address::SqliteFile { path, .. } = &address {
        if !path.exists() {
            let stand_in = in_memory().await?;
            return Ok(Existing::Missing { stand_in });
        }
        let connection = open(url, url, wait).await?;
        let blank = is_blank(&connection).await?;
        return Ok(Existing::Open { connection, blank });
    }
    let connection = open(url, url, wait).await?;
    Ok(Existing::Open { connection, blank: false })
}

/// Opens a database to migrate it; a missing SQLite file is created, with its settings.
pub(crate) async fn open_or_create(url: &str, wait: Duration) -> Result<DatabaseConnection, Error> {
    let Address::SqliteFile { says_mode, .. } = Address::parse(url)? else {
        return open(url, url, wait).await;
    };
    let creating = match (says_mode, url.contains('?')) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}&mode=rwc"),
        (false, false) => format!("{url}?mode=rwc"),
    };
    let connection = open(&creating, url, wait).await?;
    settle_new_file(&connection, wait).await?;
    Ok(connection)
}

/// An empty database that lives as long as the connection.
pub(crate) async fn in_memory() -> Result<DatabaseConnection, Error> {
    const URL: &str = "sqlite::memory:";
    open(URL, URL, READ_WAIT).await
}

/// Closes a connection that this crate opened.
pub(crate) async fn close(connection: DatabaseConnection) {
    // Everything is committed; a failure to say goodbye changes nothing.
    let _ = connection.close().await;
}

async fn open(url: &str, shown: &str, wait: Duration) -> Result<DatabaseConnection, Error> {
    if url.starts_with("sqlite:") {
        return open_sqlite(url, wait)
            .await
            .map_err(|source| unreachable_at(shown, DbErr::Conn(RuntimeErr::SqlxError(source.into()))));
    }
    let mut options = ConnectOptions::new(url);
    options
        // One connection: settings and locks belong to it, and a database in memory is it.
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_timeout(CONNECT_WAIT)
        .acquire_timeout(CONNECT_WAIT)
        .sqlx_logging(false);
    Database::connect(options).await.map_err(|source| unreachable_at(shown, source))
}

/// SeaORM takes fewer spellings of a path than the driver, which is what opens ledgers.
async fn open_sqlite(url: &str, wait: Duration) -> Result<DatabaseConnection, sqlx::Error> {
    let options: SqliteConnectOptions = url.parse()?;
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(CONNECT_WAIT)
        .connect_with(options.busy_timeout(wait).disable_statement_logging())
        .await?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

fn unreachable_at(url: &str, source: DbErr) -> Error {
    let remedy = if url.starts_with("sqlite:") {
        format!(
            "{url} cannot be opened; check that its folder exists and that the file may be read \
             and written"
        )
    } else {
        format!(
            "{} does not answer; check that the server runs and that user, password and \
             database name are right",
            redacted(url)
        )
    };
    Error::Unavailable { remedy, source }
}

async fn is_blank(connection: &DatabaseConnection) -> Result<bool, Error> {
    let backend = connection.get_database_backend();
    connection
        .query_one_raw(Statement::from_string(backend, "PRAGMA page_count"))
        .await
        .and_then(|row| row.map_or(Ok(false), |row| row.try_get_by_index::<i64>(0).map(|pages| pages == 0)))
        .map_err(Error::while_doing("read the size of the file"))
}

/// Gives a SQLite file without a single page its lasting settings; any other is the
/// application's and left alone.
async fn settle_new_file(connection: &DatabaseConnection, wait: Duration) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(20);
    if !is_blank(connection).await? {
        return Ok(());
    }
    let mut waited = Duration::ZERO;
    // Switching to the write-ahead log writes the first page and then needs the file alone, for
    // which the busy timeout does not always wait. Whoever found the file blank goes on until it
    // has switched: another program may see that first page and take the file for settled.
    while let Err(error) = apply_settings(connection).await {
        if Trouble::of(&error) != Trouble::Locked || waited >= wait {
            return Err(Error::while_doing("set up the new file")(error));
        }
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
    Ok(())
}

async fn apply_settings(connection: &DatabaseConnection) -> Result<(), DbErr> {
    for setting in NEW_FILE_SETTINGS {
        connection.execute_unprepared(setting).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::{Address, redacted};

    #[test]
    fn every_form_of_a_sqlite_url_is_understood() {
        let file = |path: &str, says_mode| Address::SqliteFile { path: path.into(), says_mode };
        let read = |url: &str| Address::parse(url).unwrap();
        assert_eq!(read("sqlite://a/b.db"), file("a/b.db", false));
        assert_eq!(read("sqlite:///a/b.db"), file("/a/b.db", false));
        assert_eq!(read("sqlite:b.db"), file("b.db", false));
        assert_eq!(read("sqlite:b%20c.db?mode=rw"), file("b c.db", true));
        assert_eq!(read("sqlite::memory:"), Address::Memory);
        assert_eq!(read("sqlite://:memory:"), Address::Memory);
        assert_eq!(read("sqlite://x?mode=memory"), Address::Memory);
        assert_eq!(read("postgres://u@h/d"), Address::Postgres);
        assert_eq!(read("postgresql://u@h/d"), Address::Postgres);
    }

    #[test]
    fn other_urls_are_refused_without_their_password() {
        let told = |url: &str| Address::parse(url).unwrap_err().to_string();
        assert_eq!(
            told("mysql://root:hunter2@h/d"),
            "cannot use the database url mysql://root:***@h/d: mysql is not a database of a \
             ledger; give sqlite://PATH, sqlite::memory: or postgres://USER@HOST/DATABASE",
        );
        for url in ["", "sqlite:", "sqlite://", "hunter2", "postgres://u:hunter2", "sqlite:x?a=b"] {
            let text = told(url);
            assert!(text.contains("give sqlite://PATH"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn passwords_are_hidden_wherever_they_are() {
        assert_eq!(
            redacted("postgres://u:hunter2@h:5432/d?sslmode=disable"),
            "postgres://u:***@h:5432/d?sslmode=disable",
        );
        assert_eq!(
            redacted("postgres:///d?user=u&password=hunter2&host=h"),
            "postgres:///d?user=u&password=***&host=h",
        );
        for ended_early in ["u:#hunter2@h/d", "u:12#hunter2@h/d", "u:12/hunter2@h/d", "u:12?hunter2@h/d"] {
            assert_eq!(redacted(&format!("postgres://{ended_early}")), "(an unreadable url)");
        }
        assert_eq!(redacted("postgres://u:p:unter2"), "(an unreadable url)");
        assert_eq!(redacted("sqlite://a.db"), "sqlite://a.db");
    }
}
