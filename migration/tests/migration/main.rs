//! The schema on real databases: SQLite files always, PostgreSQL when
//! `RUNLEDGER_TEST_DATABASE_URL` names a server on which databases may be created.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should end there")]

mod check;
mod command;
mod concurrency;
mod database;
mod keys;
mod plan;
mod types;
mod up_down;
mod users;

/// Makes one test per backend of each function, which takes a fresh [`database::TestDatabase`].
macro_rules! on_each_backend {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&crate::database::TestDatabase::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                if let Some(database) = crate::database::TestDatabase::postgres().await {
                    super::$case(&database).await;
                }
            })+
        }
    };
}
pub(crate) use on_each_backend;
