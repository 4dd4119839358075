//! Context windows: what the newest compaction left, and what came since.
//!
//! A window costs what it has: the compaction's row says where its messages are, and the log is read there
//! and after it. Each of the statements is right by itself: the head is read first, so that a fold which lands
//! in between makes the fold of this window a conflict and no other window of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::view::context::{ContextMessage, ContextWindow, is_message};
use runledger_core::{
    Compaction, ContextStore, Error, Event, Result, Scope, SeqPage, SeqRange, SeqScan, SeqSpan, ThreadId,
};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IdenStatic, Iterable, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, Select, Statement, Value,
};

use super::{events, log, page, probe, record, records, rows, signed, unreadable};
use crate::connect::Database;
use crate::dialect;
use crate::entity::compaction::{Column, Entity, Model};
use crate::entity::run::{Column as RunColumn, Entity as Runs};
use crate::entity::run_event::{Column as EventColumn, Entity as Events, Model as EventModel};

/// The most places of the log that one statement reads.
const SPANS: usize = 200;

/// The most messages that one statement reads. With it a database walks along the index however many it
/// believes there are.
const PAGE: u64 = 1_000;

/// Context windows over SQL.
#[derive(Debug)]
pub(crate) struct Context(pub(crate) Arc<Database>);

#[async_trait]
impl ContextStore for Context {
    async fn load(&self, scope: &Scope, thread: &ThreadId) -> Result<ContextWindow> {
        let backend = self.0.reader.get_database_backend();
        let found = rows(&self.0.reader, "to read the thread", head(backend, scope, thread)).await?;
        let row = found.first().ok_or_else(|| Error::not_found("thread", thread))?;
        let system_prompt: Option<String> = row.try_get_by_index(0).map_err(unreadable)?;
        let last: Option<i64> = row.try_get_by_index(1).map_err(unreadable)?;
        let newest = newest(backend, scope, thread);
        let compaction =
            record::<Model, Compaction>(&self.0.reader, "to read the compaction", newest).await?;
        let spans = compaction.as_ref().map(|compaction| compaction.window.as_slice()).unwrap_or_default();
        let through_seq = compaction.as_ref().map_or(0, |compaction| compaction.through_seq);
        let mut left = BTreeMap::new();
        for spans in spans.chunks(SPANS) {
            let read = self.read(within(backend, scope, thread, spans)).await?;
            left.extend(read.into_iter().map(|event| (event.seq, event)));
        }
        let mut messages = Vec::new();
        for span in spans {
            let within: Vec<u64> = left.range(span.from..=span.through).map(|(seq, _)| *seq).collect();
            messages.extend(within.iter().filter_map(|seq| left.remove(seq)));
        }
        let mut after = through_seq;
        loop {
            let read = self.read(since(backend, scope, thread, after)).await?;
            let is_last = read.len() < PAGE as usize;
            after = read.last().map_or(after, |event| event.seq);
            messages.extend(read);
            if is_last {
                break;
            }
        }
        messages.retain(is_message);
        Ok(ContextWindow {
            thread_id: thread.clone(),
            system_prompt,
            compact_seq: compaction.map(|compaction| compaction.compact_seq),
            last_compact_seq: last.and_then(|last| u64::try_from(last).ok()),
            through_seq,
            messages: messages.into_iter().map(ContextMessage::of).collect(),
        })
    }

    async fn list_compactions(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        range: &SeqRange,
    ) -> Result<SeqPage<Compaction>> {
        let scan = range.resolve()?;
        let statement = list(self.0.reader.get_database_backend(), scope, thread, &scan);
        let found = records::<Model, Compaction>(&self.0.reader, "to list compactions", statement).await?;
        if found.is_empty() {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        Ok(scan.page(found))
    }
}

impl Context {
    async fn read(&self, statement: Statement) -> Result<Vec<Event>> {
        page::<EventModel, Event>(&self.0, "to read the context window", statement).await
    }
}

/// The thread's system prompt, and the number of its last compaction.
pub(super) fn head(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let owned = scope.owner().map(|owner| {
        values.push(owner.as_str().into());
        "AND h.owner_id = $2"
    });
    let sql = format!(
        "SELECT t.system_prompt, h.last_compact_seq FROM thread_heads h
         JOIN threads t ON t.thread_id = h.thread_id
         WHERE h.thread_id = $1 AND h.state <> 'deleted' {}",
        owned.unwrap_or_default()
    );
    Statement::from_sql_and_values(backend, sql, values)
}

fn of_thread(scope: &Scope, thread: &ThreadId) -> Select<Entity> {
    Entity::find().filter(Column::ThreadId.eq(thread.as_str())).filter(probe::visible(scope, thread))
}

/// The newest compaction whose run is shown.
pub(super) fn newest(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId) -> Statement {
    // One look-up for each compaction from the newest on; as an EXISTS it would be a join of all.
    let mut visibility = Query::select();
    visibility
        .column(RunColumn::Visibility)
        .from(Runs)
        .and_where(RunColumn::ThreadId.eq(thread.as_str()))
        .and_where(Expr::col((Runs, RunColumn::RunId)).equals((Entity, Column::RunId)));
    of_thread(scope, thread)
        .filter(Expr::SubQuery(None, Box::new(visibility.into())).eq("shown"))
        .order_by_desc(Column::CompactSeq)
        .limit(1)
        .build(backend)
}

pub(super) fn list(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, scan: &SeqScan) -> Statement {
    log::page(of_thread(scope, thread), Column::CompactSeq, scan, None).build(backend)
}

/// The messages of shown runs in these places of the log, each of which is looked up by itself: as one
/// condition they would be read as everything between the first and the last.
pub(super) fn within(
    backend: DatabaseBackend,
    scope: &Scope,
    thread: &ThreadId,
    spans: &[SeqSpan],
) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let owned = scope.owner().map(|owner| {
        values.push(owner.as_str().into());
        "AND h.owner_id = $2"
    });
    let mut places = Vec::with_capacity(spans.len());
    for span in spans {
        values.extend([signed(span.from).into(), signed(span.through).into()]);
        places.push(dialect::span(backend, values.len() - 1, values.len()));
    }
    let columns = EventColumn::iter().map(|column| format!("e.{}", column.as_str()));
    let sql = format!(
        "WITH spans (first, last) AS (VALUES {places}) SELECT {columns} FROM {events}
         WHERE EXISTS (SELECT 1 FROM thread_heads h WHERE h.thread_id = $1 AND h.state <> 'deleted' {owned})
           AND NOT EXISTS (SELECT 1 FROM runs r
                           WHERE r.thread_id = $1 AND r.run_id = e.run_id AND r.visibility <> 'shown')",
        places = places.join(", "),
        columns = columns.collect::<Vec<_>>().join(", "),
        events = dialect::messages_in_spans(backend),
        owned = owned.unwrap_or_default(),
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// The next messages of shown runs after a seq, but for notes: each is of its own compaction's window only.
pub(super) fn since(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId, seq: u64) -> Statement {
    shown(scope, thread)
        .filter(EventColumn::Seq.gt(signed(seq)))
        .filter(EventColumn::ItemKind.ne("context_compaction"))
        .order_by_asc(EventColumn::Seq)
        .limit(PAGE)
        .build(backend)
}

fn shown(scope: &Scope, thread: &ThreadId) -> Select<Events> {
    events::of_thread(scope, thread)
        // The partial index's own condition, word for word.
        .filter(Expr::cust(r#""run_events"."category" IN ('message', 'reasoning')"#))
        .filter(Expr::exists(events::hidden_run(thread)).not())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{Fold, Ledger, NewRun, NewThread, RunId};

    /// Messages that are folded away, and those that are left.
    const FOLDED: u64 = 200_000;
    const ACTIVE: u64 = 100;

    fn thread(name: &str) -> ThreadId {
        ThreadId::new(name).unwrap()
    }

    /// A thread with so many messages, all but the last of which are folded.
    async fn talk(url: &str, ledger: &Ledger, name: &str, messages: u64) {
        let (thread, run) = (thread(name), RunId::new("r").unwrap());
        let new = NewRun {
            create_missing: Some(NewThread::new(thread.clone())),
            ..NewRun::new(thread.clone(), run.clone())
        };
        ledger.admit(&Scope::System, new).await.unwrap();
        let connection = sea_orm::Database::connect(url).await.unwrap();
        for statement in [
            // Every third record is a message, as in a log with tool calls and traces.
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {records})
                 INSERT INTO run_events (thread_id, seq, run_id, event_type, category, item_id, item_kind, item_status,
                                         content, content_bytes, truncated, created_at)
                 SELECT '{name}', i, 'r', 'item.completed', CASE WHEN i % 3 = 0 THEN 'message' ELSE 'trace' END,
                        'i' || i, 'user_message', 'completed', '{{\"content\":\"some words of a message\"}}', 37, false,
                        CURRENT_TIMESTAMP FROM n",
                records = messages * 3,
            ),
            format!(
                "UPDATE thread_heads SET next_seq = {}, message_count = {messages} WHERE thread_id = '{name}'",
                messages * 3 + 1
            ),
            format!("UPDATE runs SET first_seq = 1, last_seq = {} WHERE thread_id = '{name}'", messages * 3),
        ] {
            connection.execute_unprepared(&statement).await.unwrap();
        }
        connection.close().await.unwrap();
        if messages > ACTIVE {
            let window = ledger.context().load(&Scope::System, &thread).await.unwrap();
            let older = window.messages.iter().map(ContextMessage::seq);
            let folded: BTreeSet<u64> = older.take((messages - ACTIVE + 1) as usize).collect();
            let compaction =
                ledger.fold(&Scope::System, Fold::new(&window, run, folded, "a note")).await.unwrap();
            assert_eq!(compaction.folded.len(), 1);
        }
        let window = ledger.context().load(&Scope::System, &thread).await.unwrap();
        assert_eq!(window.messages.len() as u64, ACTIVE);
    }

    async fn loading(ledger: &Ledger, name: &str) -> Duration {
        let (thread, start) = (thread(name), Instant::now());
        ledger.context().load(&Scope::System, &thread).await.unwrap();
        start.elapsed()
    }

    /// How much longer the window of the long thread takes than that of the short one: medians of turns.
    #[expect(clippy::print_stderr, reason = "the figure is what somebody runs this for")]
    async fn compare(backend: &str, ledger: &Ledger) {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for _ in 0..41 {
            short.push(loading(ledger, "short").await);
            long.push(loading(ledger, "long").await);
        }
        short.sort();
        long.sort();
        let (short, long) = (short[20].as_secs_f64(), long[20].as_secs_f64());
        eprintln!(
            "{backend}: a window of {ACTIVE} messages, {FOLDED} folded: {:.2} ms, none: {:.2} ms, ratio {:.2}",
            long * 1e3,
            short * 1e3,
            long / short
        );
    }

    /// How many rows of the log a plan that was run has read. It gives the mean of its loops.
    fn rows_read(plan: &str) -> u64 {
        let after = |line: &str, word: &str| {
            let rest = line.split(word).nth(1)?;
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
        };
        let (mut of_log, mut loops, mut read) = (false, 0, 0);
        for line in plan.lines() {
            if line.contains("Scan") {
                of_log = line.contains("run_events");
                loops = after(line, "loops=").unwrap_or(0);
                let actual = line.split("(actual").nth(1).and_then(|actual| after(actual, "rows="));
                read += if of_log { actual.unwrap_or(0) * loops } else { 0 };
            } else if let (true, Some(removed)) = (of_log, after(line, "Rows Removed by Filter: ")) {
                read += removed * loops;
            }
        }
        read
    }

    async fn open(url: &str) -> crate::SqlLedger {
        runledger_migration::up(url, &runledger_migration::UpOptions::default()).await.unwrap();
        let ledger = crate::connect(crate::Config::new(url)).await.unwrap();
        talk(url, &ledger, "short", ACTIVE).await;
        talk(url, &ledger, "long", FOLDED).await;
        ledger
    }

    #[tokio::test]
    async fn folded_messages_cost_nothing_on_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("window.db").display());
        let ledger = open(&url).await;
        compare("SQLite", &ledger).await;
        let (backend, long) = (DatabaseBackend::Sqlite, thread("long"));
        let last = SeqRange::last(1);
        let listed = ledger.context().list_compactions(&Scope::System, &long, &last).await.unwrap();
        let compaction = &listed.items[0];
        let connection = sea_orm::Database::connect(&url).await.unwrap();
        for statement in [
            within(backend, &Scope::System, &long, &compaction.window),
            since(backend, &Scope::System, &long, compaction.through_seq),
        ] {
            let explain = Statement::from_string(backend, format!("EXPLAIN QUERY PLAN {statement}"));
            let plan = connection.query_all_raw(explain).await.unwrap();
            let lines: Vec<String> = plan.iter().map(|row| row.try_get_by_index(3).unwrap()).collect();
            let of_log: Vec<&String> = lines.iter().filter(|line| line.contains("run_events")).collect();
            // By the seqs that are asked for, so that what is not asked for is not read.
            assert!(!of_log.is_empty(), "{lines:?}");
            assert!(
                of_log.iter().all(|line| line.starts_with("SEARCH") && line.contains("seq>")),
                "{lines:?}"
            );
        }
        connection.close().await.unwrap();
        ledger.close().await;
    }

    #[tokio::test]
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    async fn folded_messages_cost_nothing_on_postgresql() {
        let Ok(server) = std::env::var("RUNLEDGER_TEST_DATABASE_URL") else {
            eprintln!("SKIPPED: set RUNLEDGER_TEST_DATABASE_URL to a PostgreSQL server to see what it reads");
            return;
        };
        let name = format!("window_{}", std::process::id());
        let admin = sea_orm::Database::connect(&server).await.unwrap();
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        let ledger = open(url.as_str()).await;
        let connection = sea_orm::Database::connect(url.as_str()).await.unwrap();
        connection.execute_unprepared("VACUUM ANALYZE").await.unwrap();
        compare("PostgreSQL", &ledger).await;
        let compactions = ledger.context();
        let scan = SeqRange::last(1);
        let listed = compactions.list_compactions(&Scope::System, &thread("long"), &scan).await.unwrap();
        let compaction = &listed.items[0];
        let (backend, long) = (DatabaseBackend::Postgres, thread("long"));
        let mut read = 0;
        for statement in [
            within(backend, &Scope::System, &long, &compaction.window),
            since(backend, &Scope::System, &long, compaction.through_seq),
        ] {
            let explain = Statement::from_string(backend, format!("EXPLAIN ANALYZE {statement}"));
            let plan = connection.query_all_raw(explain).await.unwrap();
            let lines = plan.iter().map(|row| row.try_get_by_index::<String>(0).unwrap());
            read += rows_read(&lines.collect::<Vec<_>>().join("\n"));
        }
        connection.close().await.unwrap();
        ledger.close().await;
        admin.execute_unprepared(&format!("DROP DATABASE {name}")).await.unwrap();
        // The note, the 99 messages that are left, and what stands between these in the log.
        assert!((ACTIVE..=4 * ACTIVE).contains(&read), "{read} rows of the log were read");
    }
}
