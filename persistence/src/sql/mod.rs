//! The stores over SQL: one module per trait.
//!
//! A reader is one statement. The owner probe is part of it (an `EXISTS` on the thread's head, or
//! the owner column of the row itself), so nothing can change between the probe and the rows. Only
//! where a page comes back empty a second statement says whether the thread is there at all: an
//! empty page of a thread one may see is an answer, of any other it is `NotFound`.
//!
//! Every reader makes its statement in a function of its own, which takes no connection; the
//! tests in `plan` ask both databases how they would run each of them.
//!
//! Appends are not here but in [`commit`](crate::commit). Edits and deletions are transactions
//! that take the head row first, as appends do.

mod agent_runs;
mod api_tokens;
mod audit;
mod blobs;
mod context;
mod deletion;
mod erasure;
mod events;
mod feedback;
mod held;
mod imports;
mod interactions;
mod items;
mod leases;
mod log;
#[cfg(test)]
mod plan;
mod probe;
pub(crate) mod prune;
mod rebuild;
mod runs;
mod search;
#[cfg(test)]
mod statements;
mod thread_list;
mod thread_rows;
mod threads;
mod tree;
mod usage;
mod visibility;
pub(crate) mod walk;

use std::sync::Arc;

use runledger_core::{Cursor, Error, Ledger, Result, Stores};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExecResult, FromQueryResult, IdenStatic, Iterable,
    QueryResult, QuerySelect, Select, Statement,
};

use crate::connect::Database;
use crate::entity::cell::{ByPosition, Cells};
use crate::error_map;

/// Puts the stores over `database` together.
pub(crate) fn ledger(database: &Arc<Database>) -> Ledger {
    Ledger::new(Stores {
        threads: Arc::new(threads::Threads(Arc::clone(database))),
        runs: Arc::new(runs::Runs(Arc::clone(database))),
        events: Arc::new(events::Events(Arc::clone(database))),
        items: Arc::new(items::Items(Arc::clone(database))),
        usage: Arc::new(usage::Usage(Arc::clone(database))),
        context: Arc::new(context::Context(Arc::clone(database))),
        interactions: Arc::new(interactions::Interactions(Arc::clone(database))),
        agent_runs: Arc::new(agent_runs::AgentRuns(Arc::clone(database))),
        imports: Arc::new(imports::Imports(Arc::clone(database))),
        feedback: Arc::new(feedback::FeedbackOf(Arc::clone(database))),
        api_tokens: Arc::new(api_tokens::ApiTokens(Arc::clone(database))),
        blobs: Arc::new(blobs::Blobs(Arc::clone(database))),
        search: Arc::new(search::Search(Arc::clone(database))),
    })
}

/// The rows of a statement. `operation` completes "the database refused".
async fn rows(
    connection: &impl ConnectionTrait,
    operation: &'static str,
    statement: Statement,
) -> Result<Vec<QueryResult>> {
    connection.query_all_raw(statement).await.map_err(|error| error_map::map(operation, error))
}

/// The rows of a statement as records, by way of the table's `Model`.
async fn records<M, R>(
    connection: &impl ConnectionTrait,
    operation: &'static str,
    statement: Statement,
) -> Result<Vec<R>>
where
    M: FromQueryResult,
    R: TryFrom<M, Error = Error>,
{
    let rows = rows(connection, operation, statement).await?;
    rows.iter().map(|row| R::try_from(M::from_query_result(row, "").map_err(unreadable)?)).collect()
}

/// A page: as [`records`], of a statement that selects the table's columns in their order.
async fn page<M, R>(database: &Database, operation: &'static str, statement: Statement) -> Result<Vec<R>>
where
    M: ByPosition,
    R: TryFrom<M, Error = Error> + Send + 'static,
{
    cells(database, operation, statement, by_position::<M, R>).await
}

/// The one record that a statement finds, read as [`page`] reads.
async fn one<M, R>(database: &Database, operation: &'static str, statement: Statement) -> Result<Option<R>>
where
    M: ByPosition,
    R: TryFrom<M, Error = Error> + Send + 'static,
{
    Ok(page::<M, R>(database, operation, statement).await?.pop())
}

/// A record of a row that has the table's columns, in their order, and maybe others behind them.
fn by_position<M, R>(cells: &mut Cells<'_>) -> Result<R>
where
    M: ByPosition,
    R: TryFrom<M, Error = Error>,
{
    R::try_from(M::by_position(cells).map_err(unreadable)?)
}

/// What is made of each row of a page.
async fn cells<T: Send + 'static>(
    database: &Database,
    operation: &'static str,
    statement: Statement,
    decode: fn(&mut Cells<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    match &database.file {
        Some(file) => file.read(operation, statement, decode).await,
        None => {
            let rows = rows(&database.reader, operation, statement).await?;
            rows.iter().map(|row| decode(&mut Cells::new(row))).collect()
        }
    }
}

/// The one record a statement finds.
async fn record<M, R>(
    connection: &impl ConnectionTrait,
    operation: &'static str,
    statement: Statement,
) -> Result<Option<R>>
where
    M: FromQueryResult,
    R: TryFrom<M, Error = Error>,
{
    Ok(records::<M, R>(connection, operation, statement).await?.pop())
}

/// The rows of a select with an empty document, and nothing, in the place of these columns: they are not even read.
fn listed<E: EntityTrait>(select: Select<E>, documents: &[E::Column], texts: &[E::Column]) -> Select<E> {
    E::Column::iter().fold(select.select_only(), |select, column| {
        let is_among = |columns: &[E::Column]| columns.iter().any(|other| other.as_str() == column.as_str());
        let cell = if is_among(documents) {
            Expr::cust("'{}'")
        } else if is_among(texts) {
            Expr::cust("CAST(NULL AS text)")
        } else {
            column.select_as(Expr::col((E::default(), column)))
        };
        select.column_as(cell, column.as_str())
    })
}

/// Runs a statement that returns no rows.
async fn execute(
    connection: &impl ConnectionTrait,
    operation: &'static str,
    statement: Statement,
) -> Result<ExecResult> {
    connection.execute_raw(statement).await.map_err(|error| error_map::map(operation, error))
}

/// A cell whose type is not the one its column is declared with, as SQLite lets somebody write it.
pub(crate) fn unreadable(error: DbErr) -> Error {
    Error::Corrupt {
        what: "row",
        reason: "a column does not have the type of the schema".to_owned(),
        source: Some(Box::new(error)),
    }
}

/// A seq or limit as SQL has it; what is beyond the largest seq there can be is that seq.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Where a listing goes on: the time and id of the row it ended with.
fn position(cursor: &Cursor) -> Result<(DateTimeUtc, &str)> {
    let (at, id) = cursor.position()?;
    // PostgreSQL takes no NUL in a parameter, and no id has one.
    if id.contains('\0') {
        return Err(Error::invalid("cursor", "was not returned by this listing; leave it out to start anew"));
    }
    Ok((at.to_chrono(), id))
}
