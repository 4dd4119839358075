//! The limit on PostgreSQL: one prepared statement for a commit on our schema, a connection for each writer; for a
//! bulk import COPY.
//!
//! It stores the thread's counter and the events and nothing else.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chrono::Utc;
use runledger_core::{BoxError, ThreadId};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};

use super::{Appends, Home, Load, Place, Setting};
use crate::measure::{Stint, Written};
use crate::work::{Envelope, Work, is_item, item_id};

/// The counter first, then the rows behind it.
const COMMIT: &str = "WITH head AS (
    UPDATE thread_heads SET next_seq = next_seq + $2, updated_at = now() WHERE thread_id = $1
    RETURNING next_seq - $2 - 1 AS base)
  INSERT INTO run_events (thread_id, seq, run_id, journal_ordinal, event_type, category, item_id, item_kind,
                          item_status, content, content_bytes, truncated, created_at)
  SELECT $1, base + n, $3, ordinal, event_type, category, item_id, item_kind, item_status, content,
         content_bytes, false, now()
  FROM head, UNNEST($4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                    $11::bigint[]) WITH ORDINALITY AS event
       (ordinal, event_type, category, item_id, item_kind, item_status, content, content_bytes, n)";

const COPY: &str = "COPY run_events (thread_id, seq, run_id, journal_ordinal, event_type, category, item_id,
  item_kind, item_status, content, content_bytes, truncated, created_at) FROM STDIN BINARY";

/// A database.
pub(crate) struct PostgresLimit {
    url: String,
    setting: Setting,
    _home: Home,
}

/// A new database.
pub(crate) async fn open(setting: Setting, place: &Place) -> Result<PostgresLimit, BoxError> {
    let home = place.database(setting.backend()).await?;
    Ok(PostgresLimit { url: home.url(), setting, _home: home })
}

/// A connection; its task ends with it.
pub(crate) async fn connect(url: &str) -> Result<Client, BoxError> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The columns of a commit's events, which the statement takes as arrays.
struct Columns<'a> {
    ordinals: Vec<i64>,
    types: Vec<&'a str>,
    categories: Vec<&'a str>,
    items: Vec<Option<String>>,
    kinds: Vec<Option<&'a str>>,
    statuses: Vec<Option<&'a str>>,
    contents: Vec<&'a str>,
    bytes: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(work: &'a Work, numbers: std::ops::Range<u64>) -> Self {
        let envelopes: Vec<Envelope> = numbers.clone().map(Envelope::of).collect();
        let contents: Vec<&str> = numbers.clone().map(|number| work.content(number).as_str()).collect();
        Self {
            ordinals: numbers.clone().map(|number| number as i64).collect(),
            types: envelopes.iter().map(|envelope| envelope.event_type).collect(),
            categories: envelopes.iter().map(|envelope| envelope.category).collect(),
            items: numbers.map(|number| is_item(number).then(|| item_id(number))).collect(),
            kinds: envelopes.iter().map(|envelope| envelope.item_kind).collect(),
            statuses: envelopes.iter().map(|envelope| envelope.item_status).collect(),
            bytes: contents.iter().map(|content| content.len() as i64).collect(),
            contents,
        }
    }
}

/// One that writes.
struct Writer {
    client: Client,
    statement: Statement,
    thread: String,
    run: String,
}

impl Writer {
    async fn store(&self, work: &Work, numbers: std::ops::Range<u64>) -> Result<(), BoxError> {
        let columns = Columns::of(work, numbers);
        let count = columns.ordinals.len() as i64;
        let stored = self
            .client
            .execute(
                &self.statement,
                &[
                    &self.thread,
                    &count,
                    &self.run,
                    &columns.ordinals,
                    &columns.types,
                    &columns.categories,
                    &columns.items,
                    &columns.kinds,
                    &columns.statuses,
                    &columns.contents,
                    &columns.bytes,
                ],
            )
            .await?;
        if stored == count as u64 { Ok(()) } else { Err(format!("stored {stored} of {count}").into()) }
    }
}

impl PostgresLimit {
    async fn add_thread(&self) -> Result<String, BoxError> {
        let client = connect(&self.url).await?;
        let thread = ThreadId::generate().to_string();
        let add =
            "INSERT INTO thread_heads (thread_id, state, next_seq, updated_at) VALUES ($1, 'open', 1, now())";
        client.execute(add, &[&thread]).await?;
        Ok(thread)
    }

    async fn writer(&self, thread: String) -> Result<Writer, BoxError> {
        let client = connect(&self.url).await?;
        let commit = if self.setting == Setting::PostgresqlRelaxed { "off" } else { "on" };
        client
            .batch_execute(&format!(
                "SET synchronous_commit = {commit}; SET plan_cache_mode = force_generic_plan"
            ))
            .await?;
        let statement = client.prepare(COMMIT).await?;
        Ok(Writer { client, statement, thread, run: ThreadId::generate().to_string() })
    }
}

/// One that copies all events of a load at once.
pub(crate) struct Copy(pub(crate) PostgresLimit);

#[async_trait]
impl Appends for Copy {
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let thread = self.0.add_thread().await?;
        let mut client = connect(&self.0.url).await?;
        let (run, events) = (ThreadId::generate().to_string(), load.events());
        let began = Instant::now();
        let transaction = client.transaction().await?;
        let advance =
            "UPDATE thread_heads SET next_seq = next_seq + $2, updated_at = now() WHERE thread_id = $1";
        transaction.execute(advance, &[&thread, &(events as i64)]).await?;
        let types = [
            Type::TEXT,
            Type::INT8,
            Type::TEXT,
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::INT8,
            Type::BOOL,
            Type::TIMESTAMPTZ,
        ];
        let sink = transaction.copy_in(COPY).await?;
        let writer = BinaryCopyInWriter::new(sink, &types);
        tokio::pin!(writer);
        let now = Utc::now();
        for number in 0..events {
            let (content, envelope) = (work.content(number).as_str(), Envelope::of(number));
            let item = is_item(number).then(|| item_id(number));
            writer
                .as_mut()
                .write(&[
                    &thread,
                    &(number as i64 + 1),
                    &run,
                    &(number as i64),
                    &envelope.event_type,
                    &envelope.category,
                    &item,
                    &envelope.item_kind,
                    &envelope.item_status,
                    &content,
                    &(content.len() as i64),
                    &false,
                    &now,
                ])
                .await?;
        }
        writer.finish().await?;
        transaction.commit().await?;
        Ok(Written::new(events, began.elapsed(), Vec::new()))
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        self.0.stored().await
    }

    async fn close(self: Box<Self>) {}
}

#[async_trait]
impl Appends for PostgresLimit {
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let mut threads = Vec::with_capacity(load.writers);
        let ready = Arc::new(Barrier::new(load.writers + 1));
        let mut tasks = JoinSet::new();
        for number in 0..load.writers {
            if number == 0 || !load.same_thread {
                threads.push(self.add_thread().await?);
            }
            let writer = self.writer(threads[number % threads.len()].clone()).await?;
            let (work, ready) = (Arc::clone(work), Arc::clone(&ready));
            tasks.spawn(async move {
                let warm = writer.store(&work, load.numbers(number, 0)).await;
                ready.wait().await;
                warm?;
                let mut stint = Stint::begin(load.commits);
                for commit in 1..=load.commits {
                    let began = Instant::now();
                    writer.store(&work, load.numbers(number, commit)).await?;
                    stint.note(began);
                }
                Ok::<Stint, BoxError>(stint)
            });
        }
        ready.wait().await;
        let mut stints = Vec::with_capacity(load.writers);
        while let Some(done) = tasks.join_next().await {
            stints.push(done??);
        }
        Ok(Written::by(load.events(), stints).after(load.warm_up()))
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        let row = connect(&self.url).await?.query_one("SELECT count(*) FROM run_events", &[]).await?;
        Ok(row.get::<_, i64>(0).try_into()?)
    }

    async fn close(self: Box<Self>) {}
}
