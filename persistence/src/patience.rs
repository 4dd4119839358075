//! How long an answer is waited for.
//!
//! A server that was cut off says nothing, not even that it is gone; whoever waits for it without
//! end holds up everybody behind. A connection whose answer did not come is given up, for what it
//! says next is the answer to something else.

use std::future::Future;
use std::io;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, Statement, TransactionOptions, TransactionTrait,
};

/// The longest that an answer is waited for; `None` is without end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience(pub(crate) Option<Duration>);

impl Patience {
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

    /// As [`Patience::wait`], for what SeaORM answers.
    pub(crate) async fn answer<T>(self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        match self.wait(answer).await {
            Ok(answer) => answer,
            Err(silence) => Err(DbErr::Query(RuntimeErr::SqlxError(silence.into()))),
        }
    }
}

/// A pool whose answers are waited for so long.
#[derive(Debug)]
pub(crate) struct Patient {
    connection: DatabaseConnection,
    patience: Patience,
}

impl Patient {
    pub(crate) fn new(connection: DatabaseConnection, patience: Patience) -> Self {
        Self { connection, patience }
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        self.wait(self.connection.close_by_ref()).await
    }

    /// Begins a transaction, whose own answers are waited for with [`Patience::answer`].
    pub(crate) async fn begin(&self, options: TransactionOptions) -> Result<DatabaseTransaction, DbErr> {
        self.wait(self.connection.begin_with_options(options)).await
    }

    async fn wait<T>(&self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        self.patience.answer(answer).await
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Patient {
    fn get_database_backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.wait(self.connection.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.wait(self.connection.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.wait(self.connection.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.wait(self.connection.query_all_raw(statement)).await
    }
}
