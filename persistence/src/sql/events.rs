//! The log: appends are handed to the lanes, pages are read here.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use runledger_core::{
    AppendSignal, Commit, Deleted, Error, ErrorKind, Event, EventDraft, EventFilter, EventStore, Hint,
    MAX_PAGE_BYTES, PutIfAbsent, Receipt, Result, RunId, RunVisibility, Scope, SeqPage, SeqRange, SeqScan,
    ThreadId, check_run_count,
};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IdenStatic, Iterable, QueryFilter,
    QuerySelect, QueryTrait, Select, Statement, Value,
};

use super::{cells, deletion, log, page, probe, rows, signed, unreadable};
use crate::connect::Database;
use crate::entity::cell::Cells;
use crate::entity::run::{Column as RunColumn, Entity as Runs};
use crate::entity::run_event::{Column, Entity, Model};
use crate::schema_check;

/// The log over SQL.
#[derive(Debug)]
pub(crate) struct Events(pub(crate) Arc<Database>);

#[async_trait]
impl EventStore for Events {
    async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        self.0.append(scope, commit).await
    }

    /// One commit where the event is new, one commit and one look-up where it is there. The commit
    /// looks for the key under the lock of the head row, so of two callers one is told.
    async fn put_if_absent(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        event: EventDraft,
    ) -> Result<PutIfAbsent> {
        let Some(once_key) = event.once_key.clone() else {
            return Err(Error::invalid("once_key", "is missing; it is what the event is looked up by"));
        };
        let commit = Commit::of_run(thread.clone(), run.clone()).with_events(vec![event]);
        match self.0.append(scope, commit).await {
            Ok(receipt) => {
                let seq = receipt.seqs.first().copied().unwrap_or_default();
                let stored = self.one(by_seq(self.backend(), scope, thread, seq)).await?;
                let event = stored.ok_or_else(|| Error::not_found("event", seq))?;
                Ok(PutIfAbsent { event, created: true })
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                match self.one(by_once_key(self.backend(), scope, thread, run, &once_key)).await? {
                    Some(event) => Ok(PutIfAbsent { event, created: false }),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn list_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        let scan = range.resolve()?;
        self.page(scope, thread, &scan, messages(self.backend(), scope, thread, visibility, &scan)).await
    }

    async fn list_messages_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        let scan = range.resolve()?;
        self.page(scope, thread, &scan, messages_by_run(self.backend(), scope, thread, run, &scan)).await
    }

    async fn list_events(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &EventFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        filter.check()?;
        let scan = range.resolve()?;
        self.page(scope, thread, &scan, events(self.backend(), scope, thread, filter, &scan)).await
    }

    async fn count_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
    ) -> Result<u64> {
        let statement = message_count(self.backend(), scope, thread, visibility);
        let count = |row: &mut Cells<'_>| row.next::<i64>().map_err(unreadable);
        let counted = cells(&self.0, "to count messages", statement, count).await?;
        let count = counted.first().ok_or_else(|| Error::not_found("thread", thread))?;
        u64::try_from(*count)
            .map_err(|_| Error::corrupt("thread head", "counts fewer messages than its runs"))
    }

    async fn last_visible_ai_seq_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, u64>> {
        check_run_count(runs)?;
        let mut found = BTreeMap::new();
        if !runs.is_empty() {
            let statement = last_visible_ai_seq(self.backend(), scope, thread, runs);
            for row in rows(&self.0.reader, "to find the last messages", statement).await? {
                let (run, seq): (String, Option<i64>) = (
                    row.try_get_by_index(0).map_err(unreadable)?,
                    row.try_get_by_index(1).map_err(unreadable)?,
                );
                if let Some(seq) = seq.and_then(|seq| u64::try_from(seq).ok()) {
                    found.insert(RunId::try_from(run)?, seq);
                }
            }
        }
        if found.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(found)
    }

    async fn delete_by_thread(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        deletion::of_log(&self.0, scope, thread).await
    }

    async fn delete_by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted> {
        deletion::of_run(&self.0, scope, thread, run).await
    }

    async fn ready(&self) -> Result<()> {
        schema_check::check(&self.0.reader).await
    }

    fn signal(&self) -> &AppendSignal {
        &self.0.signal
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        match &self.0.watch {
            Some(watch) => watch.hints(),
            None => stream::pending().boxed(),
        }
    }
}

impl Events {
    fn backend(&self) -> DatabaseBackend {
        self.0.reader.get_database_backend()
    }

    async fn read(&self, statement: Statement) -> Result<Vec<Event>> {
        page::<Model, Event>(&self.0, "to read the log", statement).await
    }

    async fn one(&self, statement: Statement) -> Result<Option<Event>> {
        Ok(self.read(statement).await?.pop())
    }

    async fn page(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        scan: &SeqScan,
        statement: Statement,
    ) -> Result<SeqPage<Event>> {
        let events = self.read(statement).await?;
        if events.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        let mut page = scan.fill();
        for event in events {
            let event = if is_left_out(&event) {
                match self.one(by_seq(self.backend(), scope, thread, event.seq)).await? {
                    Some(event) => event,
                    // It was deleted meanwhile.
                    None => continue,
                }
            } else {
                event
            };
            let bytes = event.payload_bytes();
            if !page.take(event, bytes) {
                break;
            }
        }
        Ok(page.page())
    }
}

/// The least size of payloads that a page leaves out at first.
const LARGE: usize = 32 << 10;

/// A page whose rows together have no more bytes than a page may have: the payloads of those that are larger than
/// their part of it are left out, and read one by one as far as there is room for them. Databases know how long a
/// text is without reading it.
fn without_large(select: Select<Entity>, scan: &SeqScan) -> Select<Entity> {
    let large = (MAX_PAGE_BYTES / (scan.limit as usize + 1)).max(LARGE);
    let bytes = |column: Column| Expr::from(Func::cust("octet_length").arg(Expr::col((Entity, column))));
    let metadata = Expr::from(Func::coalesce([bytes(Column::Metadata), Expr::cust("0")]));
    let fits = bytes(Column::Content).add(metadata).lte(i64::try_from(large).unwrap_or(i64::MAX));
    let or = |column: Column, left_out: &'static str| {
        let choice = CaseStatement::new().case(fits.clone(), Expr::col((Entity, column)));
        Expr::Case(Box::new(choice.finally(Expr::cust(left_out))))
    };
    Column::iter().fold(select.select_only(), |select, column| match column {
        Column::Content => select.column_as(or(column, "''"), column.as_str()),
        Column::Metadata => select.column_as(or(column, "NULL"), column.as_str()),
        _ => select.column(column),
    })
}

/// Whether the event's payloads were left out of its row: no JSON is empty.
fn is_left_out(event: &Event) -> bool {
    event.content.as_str().is_empty()
}

/// The log of a thread that exists for the scope.
pub(super) fn of_thread(scope: &Scope, thread: &ThreadId) -> Select<Entity> {
    Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread))
}

/// The messages of it. The first condition is the partial index's own, word for word: SQLite uses
/// one only then. Both are constants and no parameters, so that a plan made for any value has them.
fn messages_of_thread(scope: &Scope, thread: &ThreadId) -> Select<Entity> {
    of_thread(scope, thread)
        .filter(Expr::cust(r#""run_events"."category" IN ('message', 'reasoning')"#))
        .filter(Expr::cust(r#""run_events"."category" = 'message'"#))
}

pub(super) fn messages(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    visibility: RunVisibility,
    scan: &SeqScan,
) -> Statement {
    let select = messages_of_thread(scope, thread);
    let select = match visibility {
        RunVisibility::All => select,
        RunVisibility::Shown => select.filter(Expr::exists(hidden_run(thread)).not()),
    };
    without_large(log::page(select, Column::Seq, scan, None), scan).build(backend)
}

/// The event's run, if it is one that readers leave out.
pub(super) fn hidden_run(thread: &ThreadId) -> SelectStatement {
    let mut hidden = Query::select();
    hidden
        .expr(Expr::cust("1"))
        .from(Runs)
        .and_where(RunColumn::ThreadId.eq(thread.as_str()))
        .and_where(Expr::col((Runs, RunColumn::RunId)).equals((Entity, Column::RunId)))
        .and_where(RunColumn::Visibility.ne("shown"));
    hidden
}

/// The head's count, without what hidden runs have of it.
pub(super) fn message_count(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    visibility: RunVisibility,
) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let owned = scope.owner().map(|owner| {
        values.push(owner.as_str().into());
        "AND owner_id = $2"
    });
    let hidden = match visibility {
        RunVisibility::All => "0",
        RunVisibility::Shown => {
            "(SELECT COALESCE(SUM(message_count), 0) FROM runs WHERE thread_id = $1 AND visibility <> 'shown')"
        }
    };
    let sql = format!(
        "SELECT CAST(message_count - {hidden} AS bigint) FROM thread_heads
         WHERE thread_id = $1 AND state <> 'deleted' {}",
        owned.unwrap_or_default()
    );
    Statement::from_sql_and_values(backend, sql, values)
}

pub(super) fn messages_by_run(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    scan: &SeqScan,
) -> Statement {
    let select = messages_of_thread(scope, thread).filter(Column::RunId.eq(run.as_str()));
    without_large(log::page(select, Column::Seq, scan, Some((thread, run))), scan).build(backend)
}

pub(super) fn events(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    filter: &EventFilter,
    scan: &SeqScan,
) -> Statement {
    let mut select = of_thread(scope, thread);
    if let Some(run) = &filter.run_id {
        select = select.filter(Column::RunId.eq(run.as_str()));
    }
    if !filter.event_types.is_empty() {
        let types = filter.event_types.iter().map(|event_type| event_type.as_str());
        select = select.filter(Column::EventType.is_in(types));
    }
    if let Some(task) = &filter.task_id {
        select = select.filter(Column::TaskId.eq(task.as_str()));
    }
    if let Some(caller) = &filter.caller {
        select = select.filter(Column::Caller.eq(caller.as_str()));
    }
    let page = log::page(select, Column::Seq, scan, filter.run_id.as_ref().map(|run| (thread, run)));
    without_large(page, scan).build(backend)
}

pub(super) fn by_seq(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, seq: u64) -> Statement {
    of_thread(scope, thread).filter(Column::Seq.eq(signed(seq))).build(backend)
}

pub(super) fn by_once_key(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    once_key: &str,
) -> Statement {
    of_thread(scope, thread)
        .filter(Column::RunId.eq(run.as_str()))
        .filter(Column::OnceKey.eq(once_key))
        .build(backend)
}

/// For each run the seq of its last agent message, or NULL: read from the run's end, so that it
/// costs what lies behind that message and not the run.
pub(super) fn last_visible_ai_seq(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    runs: &[RunId],
) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let owner = match scope.owner() {
        Some(owner) => {
            values.push(owner.as_str().into());
            "AND h.owner_id = $2"
        }
        None => "",
    };
    let first = values.len() + 1;
    values.extend(runs.iter().map(|run| Value::from(run.as_str())));
    let places = (first..=values.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT r.run_id, (
             SELECT e.seq FROM run_events e
             WHERE e.thread_id = r.thread_id AND e.seq >= r.first_seq AND e.seq <= r.last_seq
               AND e.run_id = r.run_id
               AND e.category IN ('message', 'reasoning') AND e.category = 'message'
               AND e.item_kind = 'agent_message' AND e.item_status = 'completed'
               AND (e.caller IS NULL OR substr(e.caller, 1, 11) <> 'middleware:')
             ORDER BY e.seq DESC LIMIT 1)
         FROM runs r
         WHERE r.thread_id = $1 AND r.run_id IN ({places})
           AND EXISTS (
             SELECT 1 FROM thread_heads h
             WHERE h.thread_id = $1 AND h.state <> 'deleted' {owner})"
    );
    Statement::from_sql_and_values(backend, sql, values)
}
