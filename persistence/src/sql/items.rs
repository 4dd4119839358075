//! The item index.
//!
//! A page of items is one statement: the head, and beside it the rows of the page, so that an empty page
//! says too how far the log had come at that moment. Turns are a page of runs and one statement for the
//! items of all of them, read from one snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::verify::{self, Rebuilt, Verified};
use runledger_core::view::turns::{FINAL_ANSWER, FINAL_LOOK, summary};
use runledger_core::{
    ClaimedItem, Contents, Error, Item, ItemEntry, ItemId, ItemKind, ItemPage, ItemQuery, ItemSeq,
    ItemStatus, ItemStore, RawJson, Result, Run, RunId, RunVisibility, Scope, SeqPage, SeqScan, ThreadId,
    Turn, TurnPage, TurnQuery, TurnStart, TurnView, check_item_ids,
};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, JoinType, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IdenStatic, Iterable, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, Select, Statement, Value,
};

use super::thread_rows::SqlRows;
use super::{by_position, cells, held, log, probe, rebuild, record, rows, runs, signed, unreadable};
use crate::connect::Database;
use crate::entity::cell::Cells;
use crate::entity::run::{Column as RunColumn, Model as RunModel};
use crate::entity::run_event::{Column as EventColumn, Entity as Events};
use crate::entity::thread_head::{Column as HeadColumn, Entity as Heads};
use crate::entity::thread_item::{Column, Entity, Model};

/// What stands before the columns of an item where a row has others too.
const PREFIX: &str = "i_";

/// The kinds that summaries are made of: the partial index's own words. With parameters it could not be used.
const OF_SUMMARIES: &str = "item_kind IN ('agent_message', 'user_message')";

/// The item index over SQL.
#[derive(Debug)]
pub(crate) struct Items(pub(crate) Arc<Database>);

#[async_trait]
impl ItemStore for Items {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId, item: &ItemId) -> Result<ItemEntry> {
        let statement = get(self.backend(), scope, thread, run, item);
        match record::<Model, ItemEntry>(&self.0.reader, "to read the item", statement).await? {
            Some(entry) => Ok(entry),
            None => {
                probe::require(&self.0.reader, scope, thread).await?;
                Err(Error::not_found("item", item))
            }
        }
    }

    async fn read(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        items: &[ItemId],
    ) -> Result<ItemPage> {
        check_item_ids(items)?;
        let statement = by_ids(self.backend(), scope, thread, run, items);
        let (mut items, projected_through) = self.found(thread, statement).await?;
        items.sort_by_key(|item| item.entry.started_seq);
        Ok(ItemPage::new(SeqPage { items, has_more: false }, &ItemQuery::default(), projected_through))
    }

    async fn page(&self, scope: &Scope, thread: &ThreadId, query: &ItemQuery) -> Result<ItemPage> {
        let scan = query.range.resolve()?;
        let statement = page(self.backend(), scope, thread, query, &scan);
        let (mut items, projected_through) = self.found(thread, statement).await?;
        // A join promises no order.
        items.sort_by_key(|item| match query.by {
            ItemSeq::Started => item.entry.started_seq,
            ItemSeq::Updated => item.entry.updated_seq,
        });
        if scan.from_end {
            items.reverse();
        }
        Ok(ItemPage::new(scan.page(items), query, projected_through))
    }

    async fn turns(&self, scope: &Scope, thread: &ThreadId, query: &TurnQuery) -> Result<TurnPage> {
        const READING: &str = "to read the turns";
        let limit = query.checked_limit()?;
        let statement = runs_of_turns(self.backend(), scope, thread, query, limit)?;
        let snapshot = self.0.snapshot(READING).await?;
        let read = async {
            let head = probe::head(&snapshot, scope, thread).await?;
            let runs = rows(&snapshot, READING, statement).await?;
            let runs = runs.iter().map(|row| by_position::<RunModel, Run>(&mut Cells::new(row)));
            let runs = runs.collect::<Result<Vec<Run>>>()?;
            let shown = runs.get(..limit as usize).unwrap_or(&runs);
            let of_each = query.items_of_each(shown.len());
            let mut items: HashMap<RunId, Vec<Item>> = HashMap::new();
            if let Some(statement) = of_turns(self.backend(), thread, shown, query.view, of_each) {
                for row in rows(&snapshot, READING, statement).await? {
                    let item = item(&mut Cells::new(&row))?;
                    items.entry(item.entry.run_id.clone()).or_default().push(item);
                }
            }
            let turns = runs.into_iter().map(|run| {
                let items = items.remove(&run.run_id).unwrap_or_default();
                turn(run, query.view, of_each, items)
            });
            Ok(TurnPage::new(query, limit, turns.collect(), head.last_seq()))
        };
        let page = read.await;
        // It only read.
        let _ = snapshot.rollback().await;
        page
    }

    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem> {
        held::claim(&self.0, scope, thread, run, item, epoch).await
    }

    async fn rebuild(&self, scope: &Scope, thread: &ThreadId) -> Result<Rebuilt> {
        rebuild::rebuild(&self.0, scope, thread).await
    }

    async fn verify(&self, scope: &Scope, thread: &ThreadId) -> Result<Verified> {
        let mut rows = SqlRows::open(&self.0, scope, thread).await?;
        let verified = verify::verify(thread, &mut rows).await;
        rows.close().await;
        verified
    }
}

impl Items {
    fn backend(&self) -> DatabaseBackend {
        self.0.reader.get_database_backend()
    }

    /// The items that a statement of [`beside_head`] finds, and the last seq of the log.
    async fn found(&self, thread: &ThreadId, statement: Statement) -> Result<(Vec<Item>, u64)> {
        let found = cells(&self.0, "to read items", statement, item_beside_head).await?;
        let (next_seq, _) = found.first().ok_or_else(|| Error::not_found("thread", thread))?;
        let last_seq = u64::try_from(*next_seq).unwrap_or_default().saturating_sub(1);
        Ok((found.into_iter().filter_map(|(_, item)| item).collect(), last_seq))
    }
}

/// A row of [`beside_head`]: the next seq, and the item where there is one.
fn item_beside_head(cells: &mut Cells<'_>) -> Result<(i64, Option<Item>)> {
    let next_seq = cells.next().map_err(unreadable)?;
    let there: Option<String> = cells.peek().map_err(unreadable)?;
    Ok((next_seq, there.map(|_| item(cells)).transpose()?))
}

/// An item of a row that has the index's columns and then the content of its event, the bytes of that, and whether it
/// was cut.
fn item(cells: &mut Cells<'_>) -> Result<Item> {
    let entry = by_position::<Model, ItemEntry>(cells)?;
    let content: Option<String> = cells.next().map_err(unreadable)?;
    let Some(content) = content else { return Ok(Item::without_content(entry)) };
    let content_bytes: i64 = cells.next().map_err(unreadable)?;
    Ok(Item {
        entry,
        content: Some(RawJson::from_stored(&content)),
        content_bytes: u64::try_from(content_bytes)
            .map_err(|_| Error::corrupt("event", "column content_bytes is negative"))?,
        truncated: cells.next().map_err(unreadable)?,
    })
}

/// A turn of the items that [`of_turns`] found of it, in any order.
fn turn(run: Run, view: TurnView, of_each: usize, mut items: Vec<Item>) -> Turn {
    items.sort_by_key(|item| item.entry.started_seq);
    let (items, has_more) = match view {
        TurnView::NotLoaded => (Vec::new(), false),
        TurnView::Summary => {
            let is_first = |item: &Item| item.entry.item_kind == ItemKind::UserMessage;
            let (first, last): (Vec<Item>, Vec<Item>) = items.into_iter().partition(is_first);
            (summary(first.into_iter().next(), last.into_iter().rev()), false)
        }
        TurnView::Full => {
            let has_more = items.len() > of_each;
            items.truncate(of_each);
            (items, has_more)
        }
    };
    Turn { run, view, items, has_more }
}

pub(super) fn get(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    item: &ItemId,
) -> Statement {
    of_run(thread, run)
        .filter(Column::ItemId.eq(item.as_str()))
        .filter(probe::visible(scope, thread))
        .build(backend)
}

fn of_run(thread: &ThreadId, run: &RunId) -> Select<Entity> {
    Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(Column::RunId.eq(run.as_str()))
}

pub(super) fn by_ids(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    items: &[ItemId],
) -> Statement {
    let select = of_run(thread, run).filter(Column::ItemId.is_in(items.iter().map(|item| item.as_str())));
    beside_head(backend, scope, thread, select, Contents::Read)
}

pub(super) fn page(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    query: &ItemQuery,
    scan: &SeqScan,
) -> Statement {
    let filter = &query.filter;
    let mut select = Entity::find().filter(Column::ThreadId.eq(thread.as_str()));
    let seq = match (&filter.status, query.by) {
        // The partial index's own words; with a parameter it could not be used. What goes on changed last
        // where it began.
        (Some(ItemStatus::InProgress), ItemSeq::Started | ItemSeq::Updated) => {
            select = select.filter(Expr::cust(r#""thread_items"."status" = 'in_progress'"#));
            Column::StartedSeq
        }
        (_, ItemSeq::Started) => Column::StartedSeq,
        (_, ItemSeq::Updated) => Column::UpdatedSeq,
    };
    if let Some(status) = filter.status.as_ref().filter(|status| **status != ItemStatus::InProgress) {
        select = select.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(kind) = &query.kind {
        select = select.filter(Column::ItemKind.eq(kind.to_string()));
    }
    match (&filter.run_id, query.visibility) {
        // Hidden from the choice of an index: the primary key finds a run's items too, but in the
        // order of their ids, and then they would have to be sorted. The run's range is what bounds the page.
        (Some(run), _) => {
            select = select.filter(Expr::cust(r#""thread_items"."run_id" || ''"#).eq(run.as_str()));
        }
        (None, RunVisibility::All) => {}
        (None, RunVisibility::Shown) => {
            let mut hidden = Query::select();
            hidden
                .column(RunColumn::RunId)
                .from(crate::entity::run::Entity)
                .and_where(RunColumn::ThreadId.eq(thread.as_str()))
                .and_where(Expr::cust(r#""runs"."visibility" <> 'shown'"#));
            select = select.filter(Column::RunId.not_in_subquery(hidden));
        }
    }
    let run = filter.run_id.as_ref().map(|run| (thread, run));
    let select = log::page(select, seq, scan, run);
    beside_head(backend, scope, thread, select, query.contents)
}

/// The rows of a page beside the thread's next seq: one row without an item where there is none, and no row
/// where the scope sees no such thread.
fn beside_head(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    items: Select<Entity>,
    contents: Contents,
) -> Statement {
    let of = |column: Column| Expr::col((Alias::new("i"), column));
    let mut select: SelectStatement = Query::select();
    select.expr(Expr::col((Heads, HeadColumn::NextSeq))).from(Heads);
    for column in Column::iter() {
        select.expr_as(of(column), Alias::new(format!("{PREFIX}{}", column.as_str())));
    }
    select.join_subquery(JoinType::LeftJoin, items.into_query(), Alias::new("i"), Expr::cust("TRUE"));
    match contents {
        Contents::Omitted => {
            select.expr_as(Expr::cust("CAST(NULL AS text)"), Alias::new("content"));
        }
        Contents::Read => {
            let event = |column: EventColumn| Expr::col((Events, column));
            let says = event(EventColumn::ThreadId)
                .eq(thread.as_str())
                .and(event(EventColumn::Seq).eq(of(Column::UpdatedSeq)));
            select.join(JoinType::LeftJoin, Events, says).columns([
                (Events, EventColumn::Content),
                (Events, EventColumn::ContentBytes),
                (Events, EventColumn::Truncated),
            ]);
        }
    }
    select
        .and_where(Expr::col((Heads, HeadColumn::ThreadId)).eq(thread.as_str()))
        .and_where(Expr::col((Heads, HeadColumn::State)).ne("deleted"));
    if let Some(owner) = scope.owner() {
        select.and_where(Expr::col((Heads, HeadColumn::OwnerId)).eq(owner.as_str()));
    }
    backend.build(&select)
}

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn runs_of_turns(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    query: &TurnQuery,
    limit: u32,
) -> Result<Statement> {
    let mut select = runs::of_thread(scope, thread);
    match (&query.run_id, query.visibility) {
        (Some(run), _) => select = select.filter(RunColumn::RunId.eq(run.as_str())),
        (None, RunVisibility::All) => {}
        (None, RunVisibility::Shown) => {
            select = select.filter(Expr::cust(r#""runs"."visibility" = 'shown'"#));
        }
    }
    let newest_first = query.reads_newest_first();
    if let TurnStart::After(cursor) | TurnStart::Before(cursor) = &query.start {
        let (at, run, _) = cursor.run_position()?;
        let row = Expr::tuple(
            [RunColumn::CreatedAt, RunColumn::RunId]
                .map(|column| Expr::col((crate::entity::run::Entity, column))),
        );
        let edge = Expr::tuple([Expr::val(at.to_chrono()), Expr::val(run.as_str())]);
        select = select.filter(if newest_first { row.lt(edge) } else { row.gt(edge) });
    }
    let order = if newest_first { sea_orm::Order::Desc } else { sea_orm::Order::Asc };
    Ok(select
        .order_by(RunColumn::CreatedAt, order.clone())
        .order_by(RunColumn::RunId, order)
        .limit(u64::from(limit) + 1)
        .build(backend))
}

/// What the view shows of all these runs, in one statement; `None` where that is nothing.
///
/// Of each run its own few rows are looked up along an index, within the run's range of the log. A summary has
/// the first thing a person said and, of the last messages, the last and those in whose payload the word of a
/// final answer stands: whether they are that is seen by [`summary`].
pub(super) fn of_turns(
    backend: DatabaseBackend,
    thread: &ThreadId,
    runs: &[Run],
    view: TurnView,
    of_each: usize,
) -> Option<Statement> {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let columns = Column::iter().map(|column| format!("i.{0} AS {PREFIX}{0}", column.as_str()));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    let mut part = |items: String, of_these: &str| {
        parts.push(format!(
            "SELECT {columns}, e.content AS content, e.content_bytes AS content_bytes, e.truncated AS truncated \
             FROM ({items}) i LEFT JOIN run_events e ON e.thread_id = $1 AND e.seq = i.updated_seq {of_these}"
        ));
    };
    for run in runs {
        let (Some(first), Some(last)) = (run.first_seq, run.last_seq) else { continue };
        let at = values.len() + 1;
        values.extend([signed(first).into(), signed(last).into(), Value::from(run.run_id.as_str())]);
        let of_run = format!(
            "SELECT * FROM thread_items WHERE thread_id = $1 AND started_seq >= ${at} AND started_seq <= ${} \
             AND run_id || '' = ${}",
            at + 1,
            at + 2
        );
        match view {
            TurnView::NotLoaded => {}
            TurnView::Summary => {
                part(
                    format!(
                        "{of_run} AND {OF_SUMMARIES} AND item_kind = 'user_message' ORDER BY started_seq LIMIT 1"
                    ),
                    "",
                );
                let last = format!(
                    "SELECT x.*, ROW_NUMBER() OVER (ORDER BY x.started_seq DESC) AS place FROM (\
                     {of_run} AND {OF_SUMMARIES} AND item_kind = 'agent_message' AND status = 'completed' \
                     AND (caller IS NULL OR (substr(caller, 1, 9) <> 'subagent:' \
                     AND substr(caller, 1, 11) <> 'middleware:')) \
                     ORDER BY started_seq DESC LIMIT {FINAL_LOOK}) x"
                );
                part(last, &format!("WHERE i.place = 1 OR e.content LIKE '%\"{FINAL_ANSWER}\"%'"));
            }
            TurnView::Full => {
                part(format!("{of_run} ORDER BY started_seq LIMIT {}", of_each + 1), "");
            }
        }
    }
    let sql = parts.join(" UNION ALL ");
    (!parts.is_empty()).then(|| Statement::from_sql_and_values(backend, sql, values))
}
