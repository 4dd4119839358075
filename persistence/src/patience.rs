//! How long an answer is waited for.
//!
//! A server that was cut off says nothing, not even that it is gone; whoever waits for it without
//! end holds up everybody behind. A connection whose answer did not come is given up, for what it
//! says next is the answer to something else.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, Statement, TransactionOptions, TransactionTrait,
};
use sqlx::Connection as _;
use sqlx::postgres::PgPoolOptions;

/// How long a connection of a pool may take to say that it lives.
const LIVES: Duration = Duration::from_secs(5);

/// After this long without work a connection of a pool is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(1);

/// For so long after an answer was given up, connections are asked when they come back to their pool.
const WATCHED: Duration = Duration::from_secs(60);

/// The longest that an answer is waited for; `None` is without end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience(pub(crate) Option<Duration>);

impl Patience {
    /// The same, but for no longer than this where it has an end.
    pub(crate) fn at_most(self, most: Duration) -> Self {
        Self(self.0.map(|longest| longest.min(most)))
    }

    /// Waits for an answer. What did not answer is dropped.
    pub(crate) async fn wait<T>(self, answer: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        let Some(longest) = self.0 else { return Ok(answer.await) };
        tokio::time::timeout(longest, answer).await.map_err(|_| {
            let reason = format!("no answer within {} seconds", longest.as_secs_f32());
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }

    /// As [`Patience::wait`], for what may fail itself.
    pub(crate) async fn wait_for<T>(
        self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        self.wait(answer).await?
    }
}

/// When an answer was last given up, by whoever waited for it.
///
/// A pool asks every connection that comes back whether it lives, and waits for that without end: one
/// that was cut off would keep its place in the pool until the network gives it up, a quarter of an hour later.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp(Arc<Mutex<Option<Instant>>>);

impl GivenUp {
    fn lately(&self) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < WATCHED)
    }

    /// A pool that does not wait for connections that have become silent.
    pub(crate) fn watch(&self, pool: PgPoolOptions) -> PgPoolOptions {
        let given_up = self.clone();
        pool.test_before_acquire(false)
            .before_acquire(|connection, of| {
                Box::pin(async move {
                    if of.idle_for > IDLE {
                        Patience(Some(LIVES)).wait_for(connection.ping()).await?;
                    }
                    Ok(true)
                })
            })
            .after_release(move |connection, _| {
                let doubtful = given_up.lately();
                Box::pin(async move {
                    if doubtful {
                        Patience(Some(LIVES)).wait_for(connection.ping()).await?;
                    }
                    Ok(true)
                })
            })
    }
}

/// Notes, unless it was answered, that an answer was given up.
struct Waiting<'a> {
    given_up: &'a GivenUp,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            *self.given_up.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

/// A pool, or a transaction of one of its connections, each of whose answers is waited for so long.
#[derive(Debug)]
pub(crate) struct Patient<C> {
    connection: C,
    patience: Patience,
    given_up: GivenUp,
}

impl<C> Patient<C> {
    pub(crate) fn new(connection: C, patience: Patience, given_up: &GivenUp) -> Self {
        Self { connection, patience, given_up: given_up.clone() }
    }

    async fn wait<T>(&self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        wait(self.patience, &self.given_up, answer).await
    }
}

async fn wait<T>(
    patience: Patience,
    given_up: &GivenUp,
    answer: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    let mut answer = pin!(answer);
    // Goes before the answer does, and with that the connection.
    let mut waiting = Waiting { given_up, answered: false };
    match patience.wait(answer.as_mut()).await {
        Ok(answer) => {
            waiting.answered = true;
            answer
        }
        Err(silence) => Err(DbErr::Query(RuntimeErr::SqlxError(silence.into()))),
    }
}

impl Patient<DatabaseConnection> {
    pub(crate) async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<Patient<DatabaseTransaction>, DbErr> {
        note_call!("BEGIN");
        let transaction = self.wait(self.connection.begin_with_options(options)).await?;
        Ok(Patient::new(transaction, self.patience, &self.given_up))
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        self.wait(self.connection.close_by_ref()).await
    }
}

impl Patient<DatabaseTransaction> {
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        note_call!("COMMIT");
        wait(self.patience, &self.given_up, self.connection.commit()).await
    }

    pub(crate) async fn rollback(self) -> Result<(), DbErr> {
        note_call!("ROLLBACK");
        wait(self.patience, &self.given_up, self.connection.rollback()).await
    }
}

#[async_trait::async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Patient<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        note_call!(&statement.sql);
        self.wait(self.connection.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        note_call!(sql);
        self.wait(self.connection.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        note_call!(&statement.sql);
        self.wait(self.connection.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        note_call!(&statement.sql);
        self.wait(self.connection.query_all_raw(statement)).await
    }
}
