//! Making a database for each test, and dropping it.
//!
//! A server that was started here has one template, migrated once and copied for each test. A
//! server that outlives us must not keep a template nobody drops, so there each database is
//! migrated; what a killed process left is dropped by the next one.

use std::sync::mpsc as std_mpsc;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::{mpsc, oneshot};

use super::choice::URL;
use crate::database::migrate;

/// What test databases are called, followed by the process and a number.
const PREFIX: &str = "runledger_test_";
/// The first half of the advisory lock that says a process with test databases lives.
const LIVING: i32 = 0x7275_6e6c;

pub(crate) type Requests = mpsc::UnboundedSender<Request>;

/// What [`Databases`] is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// A new database; the answer is its name and URL.
    Make { migrated: bool, made: oneshot::Sender<Result<(String, String), String>> },
    /// The end of one; the answer says that it was tried.
    Remove { name: String, done: std_mpsc::Sender<()> },
}

/// Makes and drops databases over one connection.
pub(crate) struct Databases {
    connection: PgConnection,
    url: url::Url,
    version: String,
    /// Which process: part of every name, so that processes on one server never meet.
    process: i32,
    made: u32,
    templates: Templates,
}

/// Where a migrated database is copied from.
enum Templates {
    /// Nowhere: each is migrated.
    Never,
    NotYet,
    Made(String),
}

impl Databases {
    /// Connects to the server at `url`; `lasting` says that it outlives this process.
    pub(crate) async fn open(url: &str, lasting: bool) -> Result<Self, String> {
        // Without the parser's words: they may repeat a password.
        let parsed = url.parse().map_err(|_| format!("{URL} is not like postgres://user@host/database"))?;
        let mut connection = PgConnection::connect(url).await.map_err(text)?;
        let version = sqlx::query_scalar(
            "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(text)?;
        let process = sqlx::query_scalar("SELECT (random() * 2147483647)::int")
            .fetch_one(&mut connection)
            .await
            .map_err(text)?;
        let templates = if lasting { Templates::Never } else { Templates::NotYet };
        let mut databases = Self { connection, url: parsed, version, process, made: 0, templates };
        if lasting {
            databases.sweep().await.map_err(text)?;
        }
        Ok(databases)
    }

    /// The server's name and version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Answers requests, one after the other, until nobody can ask any more.
    pub(crate) async fn serve(mut self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        while let Some(request) = inbox.recv().await {
            match request {
                Request::Make { migrated, made } => {
                    let _ = made.send(self.make(migrated).await);
                }
                Request::Remove { name, done } => {
                    let _ = self.remove(&name).await;
                    let _ = done.send(());
                }
            }
        }
    }

    async fn make(&mut self, migrated: bool) -> Result<(String, String), String> {
        let template = if migrated { self.template().await? } else { None };
        let name = self.next_name();
        let url = self.url_of(&name);
        if let Some(template) = template {
            // Copying files beats writing the copy to the log for a small database.
            let how = if self.has_strategies().await.map_err(text)? { "STRATEGY file_copy" } else { "" };
            self.execute(format!("CREATE DATABASE {name} TEMPLATE {template} {how}")).await.map_err(text)?;
        } else {
            self.create_empty(&name).await.map_err(text)?;
            if migrated {
                migrate(&url).await?;
            }
        }
        Ok((name, url))
    }

    /// The name of the database to copy, migrated at the first call; none on a server that must not
    /// keep one.
    async fn template(&mut self) -> Result<Option<String>, String> {
        match &self.templates {
            Templates::Never => return Ok(None),
            Templates::Made(name) => return Ok(Some(name.clone())),
            Templates::NotYet => {}
        }
        let name = self.next_name();
        self.create_empty(&name).await.map_err(text)?;
        migrate(&self.url_of(&name)).await?;
        self.execute(format!("ALTER DATABASE {name} IS_TEMPLATE true ALLOW_CONNECTIONS false"))
            .await
            .map_err(text)?;
        self.templates = Templates::Made(name.clone());
        Ok(Some(name))
    }

    /// From the template that nobody can have added tables to.
    async fn create_empty(&mut self, name: &str) -> Result<(), sqlx::Error> {
        self.execute(format!("CREATE DATABASE {name} TEMPLATE template0")).await
    }

    async fn has_strategies(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT current_setting('server_version_num')::int >= 150000")
            .fetch_one(&mut self.connection)
            .await
    }

    async fn remove(&mut self, name: &str) -> Result<(), sqlx::Error> {
        // A pool that the test did not close is no reason to keep its database.
        self.execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
    }

    /// Says that this process lives, for as long as its connection does, and drops the databases of
    /// processes that do not.
    async fn sweep(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT pg_advisory_lock($1, $2)")
            .bind(LIVING)
            .bind(self.process)
            .execute(&mut self.connection)
            .await?;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT datname FROM pg_database WHERE starts_with(datname, $1)")
                .bind(PREFIX)
                .fetch_all(&mut self.connection)
                .await?;
        for name in names {
            let Some(process) = process_of(&name) else { continue };
            if process != self.process && self.is_gone(process).await? {
                // Another process may sweep it first.
                let _ = self.remove(&name).await;
            }
        }
        Ok(())
    }

    async fn is_gone(&mut self, process: i32) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
             AND classid::bigint = $1 AND objid::bigint = $2)",
        )
        .bind(i64::from(LIVING))
        .bind(i64::from(process))
        .fetch_one(&mut self.connection)
        .await
    }

    async fn execute(&mut self, sql: String) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.map(|_| ())
    }

    fn next_name(&mut self) -> String {
        self.made += 1;
        format!("{PREFIX}{:08x}_{}", self.process, self.made)
    }

    fn url_of(&self, name: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(name);
        url.to_string()
    }
}

fn text(error: sqlx::Error) -> String {
    error.to_string()
}

/// The process in a database's name; none for a database that is called alike but not ours.
fn process_of(name: &str) -> Option<i32> {
    let (process, number) = name.strip_prefix(PREFIX)?.split_once('_')?;
    number.parse::<u32>().ok()?;
    i32::from_str_radix(process, 16).ok()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn only_names_made_here_tell_a_process() {
        assert_eq!(process_of("runledger_test_0000002a_7"), Some(42));
        assert_eq!(process_of("runledger_test_7fffffff_1"), Some(i32::MAX));
        for foreign in
            ["runledger_test_", "runledger_test_mine", "runledger_test_2a_x", "runledger_prod_2a_7"]
        {
            assert_eq!(process_of(foreign), None, "{foreign}");
        }
    }
}
