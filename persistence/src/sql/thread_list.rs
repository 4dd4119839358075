//! Lists of threads: pinned ones first, then those that were updated last.
//!
//! A list is two, one of the pinned and one of the others, and each walks one index: PostgreSQL knows nothing of how
//! many rows come after a place that begins with a boolean. Where a filter passes threads over, what a page may look
//! at ends at an edge, a fixed number of threads further on, which is found in the index alone; so no page costs more
//! because nothing passes.

use runledger_core::{
    Contents, Cursor, ListRange, MetadataMatch, MetadataValue, Page, Result, Scope, Thread, ThreadFilter,
    ThreadId, Timestamp,
};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
};

use super::{listed, rows, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::thread::{Column, Entity, Model};

const OPERATION: &str = "to list threads";

/// A page of the threads that a scope sees.
pub(super) async fn page(
    database: &Database,
    scope: &Scope,
    filter: &ThreadFilter,
    range: &ListRange,
) -> Result<Page<Thread>> {
    filter.check()?;
    let limit = range.checked_limit()?;
    let mut threads: Vec<Thread> = Vec::new();
    let mut edge = None;
    let backend = database.reader.get_database_backend();
    for side in sides(filter, range)? {
        let more = limit + 1 - u32::try_from(threads.len()).unwrap_or(limit);
        if more == 0 || edge.is_some() {
            break;
        }
        edge = edge_after(&database.reader, scope, filter, &side).await?;
        let statement = list(backend, scope, filter, &side, more, edge.as_ref())?;
        let found = super::page::<Model, Thread>(database, OPERATION, statement).await?;
        // One that was pinned when the first side was read may not be any more.
        let of_first = threads.len();
        for thread in found {
            if threads[..of_first].iter().all(|known| known.thread_id != thread.thread_id) {
                threads.push(thread);
            }
        }
    }
    let mut page = Page::from_rows(threads, limit, Cursor::at_thread);
    // SQLite finds more than there is: any of several values of a key, and the number nearest to one.
    page.items.retain(|thread| filter.accepts(thread));
    page.items = page.items.into_iter().map(|thread| filter.contents.of_thread(thread)).collect();
    Ok(page.going_on_after(edge.map(|(pinned, place)| place.into_cursor(pinned))))
}

/// Threads that are pinned, or that are not, from the beginning or after a place.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) pinned: bool,
    pub(super) after: Option<Place>,
}

/// A place among the threads of one side.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) at: DateTimeUtc,
    pub(super) thread: ThreadId,
}

impl Place {
    fn into_cursor(self, pinned: bool) -> Cursor {
        Cursor::at_place(pinned, Timestamp::from(self.at), &self.thread)
    }

    fn values(&self) -> Expr {
        Expr::tuple([Expr::val(self.at), Expr::val(self.thread.as_str())])
    }
}

/// What is left of a list from where the range begins. `InvalidInput` for a cursor that no list made.
pub(super) fn sides(filter: &ThreadFilter, range: &ListRange) -> Result<Vec<Side>> {
    let mut sides = vec![Side { pinned: true, after: None }, Side { pinned: false, after: None }];
    if let Some(cursor) = &range.cursor {
        let (pinned, at, thread) = cursor.thread_position()?;
        let place = Place { at: at.to_chrono(), thread: ThreadId::new(thread)? };
        if !pinned {
            sides.remove(0);
        }
        sides.iter_mut().take(1).for_each(|side| side.after = Some(place.clone()));
    }
    sides.retain(|side| filter.pinned.is_none_or(|pinned| side.pinned == pinned));
    Ok(sides)
}

/// The last thread that a page looks at on this side, where there are more.
async fn edge_after(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    filter: &ThreadFilter,
    side: &Side,
) -> Result<Option<(bool, Place)>> {
    if !filter.passes_over() {
        return Ok(None);
    }
    let statement = edge_of(connection.get_database_backend(), scope, side);
    let found = rows(connection, OPERATION, statement).await?;
    // The second says that there is something beyond the first.
    let [last, _] = found.as_slice() else { return Ok(None) };
    let at = last.try_get_by_index(0).map_err(unreadable)?;
    let thread = ThreadId::new(last.try_get_by_index::<String>(1).map_err(unreadable)?)?;
    Ok(Some((side.pinned, Place { at, thread })))
}

fn row() -> Expr {
    Expr::tuple([Column::UpdatedAt, Column::ThreadId].map(|column| Expr::col((Entity, column))))
}

/// The threads of a side, whatever a filter says of them.
fn of_side(scope: &Scope, side: &Side) -> Select<Entity> {
    let mut select = Entity::find().filter(Column::Pinned.eq(side.pinned));
    if let Some(owner) = scope.owner() {
        select = select.filter(Column::OwnerId.eq(owner.as_str()));
    }
    if let Some(place) = &side.after {
        select = select.filter(row().lt(place.values()));
    }
    in_order(select)
}

fn in_order(select: Select<Entity>) -> Select<Entity> {
    select.order_by_desc(Column::UpdatedAt).order_by_desc(Column::ThreadId)
}

/// The last thread that a page looks at, and the one after it.
pub(super) fn edge_of(backend: DatabaseBackend, scope: &Scope, side: &Side) -> Statement {
    of_side(scope, side)
        .select_only()
        .columns([Column::UpdatedAt, Column::ThreadId])
        .offset(u64::from(ThreadFilter::EXAMINED) - 1)
        .limit(2)
        .build(backend)
}

/// At most `limit` threads of a side that pass.
pub(super) fn list(
    backend: DatabaseBackend,
    scope: &Scope,
    filter: &ThreadFilter,
    side: &Side,
    limit: u32,
    edge: Option<&(bool, Place)>,
) -> Result<Statement> {
    let mut looked_at = of_side(scope, side);
    if let Some((_, edge)) = edge {
        looked_at = looked_at.filter(row().gte(edge.values()));
    }
    let mut select = if filter.passes_over() && backend == DatabaseBackend::Postgres {
        // What is looked at is walked by its index, and only then looked at: PostgreSQL would rather read the
        // whole table where it thinks that next to nothing passes.
        let walked = QuerySelect::query(&mut looked_at);
        walked.clear_selects().column((Entity, Asterisk)).limit(u64::from(ThreadFilter::EXAMINED));
        let mut select = in_order(Entity::find());
        QuerySelect::query(&mut select).from_clear().from_subquery(walked.take(), Entity);
        select
    } else {
        looked_at
    };
    if let Some(status) = &filter.status {
        select = select.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(assistant) = &filter.assistant_id {
        select = select.filter(Column::AssistantId.eq(assistant.as_str()));
    }
    for wanted in &filter.metadata {
        select = select.filter(has(backend, wanted)?);
    }
    if filter.contents == Contents::Omitted {
        // What a filter looks for may be one that SQLite finds too much of: then it is looked at again.
        let documents: &[Column] =
            if filter.metadata.is_empty() { &[Column::Config, Column::Metadata] } else { &[Column::Config] };
        select = listed(select, documents, &[Column::SystemPrompt]);
    }
    Ok(select.limit(u64::from(limit)).build(backend))
}

/// That a thread's metadata has a value at the top level. Key and value are parameters.
fn has(backend: DatabaseBackend, wanted: &MetadataMatch) -> Result<Expr> {
    let document = wanted.value.to_jsonb();
    let like = match &wanted.value {
        MetadataValue::Null => dialect::JsonLike::Null,
        MetadataValue::Bool(true) => dialect::JsonLike::True,
        MetadataValue::Bool(false) => dialect::JsonLike::False,
        MetadataValue::Number(number) => dialect::JsonLike::Number(*number),
        MetadataValue::Text(_) => dialect::JsonLike::Text(document.decode()?),
    };
    Ok(dialect::json_has(backend, r#""threads"."metadata""#, &wanted.key, &document, like))
}
