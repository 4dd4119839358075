//! Full-text search: texts of events beside the log, and an index over their words.
//!
//! A batch is one transaction: the texts of some events, and the number up to which their thread is indexed.
//! It holds the thread's head so that no deletion comes between, in a way that lets appends through, and the
//! thread's row of `search_progress`, so that of several who index a thread each begins where another ended.
//!
//! The index finds candidates and no more: it keeps which words a text has, not where. What follows what,
//! and whether the text is what is looked for, is judged by its text ([`SearchQuery::find`]), so both
//! databases and the memory ledger find the same. Besides its words a text has two marks, of its owner and of
//! its thread: an owner's search reads no more of the index than the owner's part. Who may see it is asked of
//! the thread's head all the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::view::search::{Extract, SearchQuery, Term, Words, extract, snippet};
use runledger_core::{
    Behind, Cursor, Error, ErrorKind, IndexBudget, Indexed, ItemId, ItemKind, ListRange, OwnerId, RawJson,
    Result, RunId, RunVisibility, Scope, SearchFilter, SearchHit, SearchPage, SearchStore, ThreadId,
    Timestamp, text,
};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};

use super::{execute, probe, rows, signed, unreadable};
use crate::connect::Database;
use crate::dialect;

/// Events of one transaction at most.
const BATCH_EVENTS: u64 = 500;

/// Bytes of payloads after which a transaction takes no further one.
const BATCH_BYTES: u64 = 1 << 20;

/// Texts that are written by one statement.
const ROWS: usize = 100;

/// Candidates whose texts are in memory at once.
const CANDIDATES: u32 = 128;

/// Candidates that are judged for one page: where so many are not enough, it ends early.
const JUDGED: u32 = 5_000;

/// Begins what is no word: words have letters and digits only.
const MARK: char = '\u{f5e7}';

/// Events whose text is searched, as [`is_searched`](runledger_core::view::search::is_searched) says it.
const SEARCHED: &str = "CASE WHEN item_status IS NULL THEN category = 'message' \
                        ELSE item_status <> 'in_progress' AND category <> 'trace' END";

/// Full-text search over SQL.
#[derive(Debug)]
pub(crate) struct Search(pub(crate) Arc<Database>);

#[async_trait]
impl SearchStore for Search {
    async fn index(&self, scope: &Scope, thread: Option<&ThreadId>, budget: IndexBudget) -> Result<Indexed> {
        let backend = self.0.reader.get_database_backend();
        let statement = match thread {
            Some(thread) => growth_of(backend, scope, thread),
            None => growth(backend, scope),
        };
        let found = rows(&self.0.reader, "to look for what is not indexed", statement).await?;
        if let (true, Some(thread)) = (found.is_empty(), thread) {
            return Err(Error::not_found("thread", thread));
        }
        let (mut indexed, mut left) = (Indexed::default(), budget);
        for row in &found {
            let mut grown = Grown::read(row)?;
            while grown.left() > 0 && left.events > 0 && left.bytes > 0 {
                let batch = match self.batch(scope, &grown.thread_id, left).await {
                    Ok(batch) => batch,
                    // It was deleted meanwhile, and nothing is left of it.
                    Err(error) if thread.is_none() && error.kind() == ErrorKind::NotFound => {
                        grown.last_seq = grown.indexed_seq;
                        break;
                    }
                    Err(error) => return Err(error),
                };
                left.events = left.events.saturating_sub(batch.events());
                left.bytes = left.bytes.saturating_sub(batch.bytes);
                indexed.events += batch.events();
                indexed.documents += batch.documents;
                indexed.unreadable += batch.unreadable;
                grown.indexed_seq = batch.through;
            }
            indexed.behind.threads += u64::from(grown.left() > 0);
            indexed.behind.events += grown.left();
        }
        Ok(indexed)
    }

    async fn forget(&self, scope: &Scope, thread: &ThreadId) -> Result<()> {
        let (scope, thread) = (scope.clone(), thread.clone());
        self.0
            .transaction("to forget what is indexed", move |txn| {
                let (scope, thread) = (scope.clone(), thread.clone());
                Box::pin(async move {
                    hold(txn, &scope, &thread).await?;
                    progress(txn, &thread).await?;
                    let backend = txn.get_database_backend();
                    for sql in [
                        "DELETE FROM search_documents WHERE thread_id = $1",
                        "UPDATE search_progress SET indexed_seq = 0 WHERE thread_id = $1",
                    ] {
                        let statement =
                            Statement::from_sql_and_values(backend, sql, [thread.as_str().into()]);
                        execute(txn, "to forget what is indexed", statement).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn find(
        &self,
        scope: &Scope,
        query: &SearchQuery,
        filter: &SearchFilter,
        range: &ListRange,
    ) -> Result<SearchPage> {
        filter.check()?;
        let limit = range.checked_limit()?;
        let mut end = match &range.cursor {
            Some(cursor) => {
                let (at, thread, seq) = cursor.seq_position()?;
                Some((at, thread.to_owned(), seq))
            }
            None => None,
        };
        let backend = self.0.reader.get_database_backend();
        let (mut items, mut judged) = (Vec::new(), 0);
        let has_more = 'page: loop {
            // One more than the page has, where every candidate is a match.
            let most = if is_decided_by_words(query) {
                (limit + 1).saturating_sub(items.len() as u32).clamp(1, CANDIDATES)
            } else {
                CANDIDATES
            };
            let statement = candidates(backend, scope, query, filter, end.as_ref(), most);
            let found = rows(&self.0.reader, "to search", statement).await?;
            for row in &found {
                let candidate = Candidate::read(row)?;
                let found = query.find(&Words::of(&candidate.text));
                if found.is_some() && items.len() == limit as usize {
                    break 'page true;
                }
                end = Some(candidate.place());
                items.extend(found.map(|found| candidate.into_hit(&found)));
            }
            judged += found.len() as u32;
            if found.len() < most as usize {
                break false;
            }
            if judged >= JUDGED.max(limit) {
                break true;
            }
        };
        if let (true, Some(thread)) = (items.is_empty(), &filter.thread_id) {
            probe::require(&self.0.reader, scope, thread).await?;
        }
        let next_cursor = match end.filter(|_| has_more) {
            Some((at, thread, seq)) => Some(Cursor::at_seq(at, &ThreadId::new(thread)?, seq)),
            None => None,
        };
        Ok(SearchPage { items, has_more, next_cursor, behind: Behind::default() })
    }
}

impl Search {
    /// Indexes the next events of a thread.
    async fn batch(&self, scope: &Scope, thread: &ThreadId, budget: IndexBudget) -> Result<Batch> {
        let (scope, thread) = (scope.clone(), thread.clone());
        self.0
            .transaction("to index the log", move |txn| {
                let (scope, thread) = (scope.clone(), thread.clone());
                Box::pin(async move { index(txn, &scope, &thread, budget).await })
            })
            .await
    }
}

/// A thread, and how far it is indexed.
struct Grown {
    thread_id: ThreadId,
    last_seq: u64,
    indexed_seq: u64,
}

impl Grown {
    fn read(row: &QueryResult) -> Result<Self> {
        let number = |at| -> Result<u64> {
            let number: Option<i64> = row.try_get_by_index(at).map_err(unreadable)?;
            Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
        };
        Ok(Self {
            thread_id: ThreadId::try_from(row.try_get_by_index::<String>(0).map_err(unreadable)?)?,
            last_seq: number(1)?,
            indexed_seq: number(2)?,
        })
    }

    fn left(&self) -> u64 {
        self.last_seq.saturating_sub(self.indexed_seq)
    }
}

/// How far the threads of a scope are indexed that were updated last. Each is looked up by itself: there are as
/// many as are looked at, however many threads there are.
pub(super) fn growth(backend: DatabaseBackend, scope: &Scope) -> Statement {
    let mut values: Vec<Value> = Vec::new();
    let owned = scope.owner().map(|owner| {
        values.push(owner.as_str().into());
        "owner_id = $1 AND"
    });
    // Lists have pinned threads first, and so has their index: each side of it is in order.
    let side = |pinned| {
        format!(
            "SELECT * FROM (SELECT thread_id, updated_at FROM threads WHERE {} pinned = {pinned}
             ORDER BY updated_at DESC, thread_id DESC LIMIT {}) AS side_{pinned}",
            owned.unwrap_or_default(),
            Behind::THREADS
        )
    };
    let sql = format!(
        "SELECT t.thread_id,
                (SELECT h.next_seq - 1 FROM thread_heads h WHERE h.thread_id = t.thread_id),
                (SELECT p.indexed_seq FROM search_progress p WHERE p.thread_id = t.thread_id)
         FROM ({} UNION ALL {}) t ORDER BY t.updated_at DESC, t.thread_id DESC LIMIT {}",
        side("TRUE"),
        side("FALSE"),
        Behind::THREADS
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// How far one thread is indexed; no row where the scope does not see it.
pub(super) fn growth_of(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let owned = owned_by(scope, "h", &mut values);
    let sql = format!(
        "SELECT h.thread_id, h.next_seq - 1,
                (SELECT p.indexed_seq FROM search_progress p WHERE p.thread_id = h.thread_id)
         FROM thread_heads h WHERE h.thread_id = $1 AND h.state <> 'deleted' {owned}"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// That a head is one the scope sees; nothing for the system.
fn owned_by(scope: &Scope, head: &str, values: &mut Vec<Value>) -> String {
    match scope.owner() {
        Some(owner) => {
            values.push(owner.as_str().into());
            format!("AND {head}.owner_id = ${}", values.len())
        }
        None => String::new(),
    }
}

/// What a transaction indexed.
struct Batch {
    after: u64,
    through: u64,
    bytes: u64,
    documents: u64,
    unreadable: u64,
}

impl Batch {
    fn events(&self) -> u64 {
        self.through.saturating_sub(self.after)
    }
}

async fn index(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
    budget: IndexBudget,
) -> Result<Batch> {
    let backend = connection.get_database_backend();
    let (owner, next_seq) = hold(connection, scope, thread).await?;
    let after = progress(connection, thread).await?;
    let (through, bytes) = reach(connection, thread, (after, next_seq), budget).await?;
    let mut batch = Batch { after, through, bytes, documents: 0, unreadable: 0 };
    if batch.events() == 0 {
        return Ok(batch);
    }
    let marks = [owner.map(|owner| mark_of_owner(&owner)), Some(mark_of_thread(thread))];
    let mut documents = Vec::new();
    for row in rows(connection, "to read the log", texts(backend, thread, after, through)).await? {
        match Document::read(&row, &marks) {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => {}
            // Whatever it is, the log behind it is to be found.
            Err(_) => batch.unreadable += 1,
        }
    }
    batch.documents = documents.len() as u64;
    write(connection, thread, documents).await?;
    let sql = "UPDATE search_progress SET indexed_seq = $2 WHERE thread_id = $1";
    let values: Vec<Value> = vec![thread.as_str().into(), signed(through).into()];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    execute(connection, "to note what is indexed", statement).await?;
    Ok(batch)
}

/// Keeps the thread and its log from being deleted and from changing hands, until the transaction ends: says
/// whose it is, and the next number of its log. It goes on growing.
async fn hold(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    thread: &ThreadId,
) -> Result<(Option<String>, u64)> {
    let backend = connection.get_database_backend();
    let found = rows(connection, "to lock the thread's head", held(backend, scope, thread)).await?;
    let row = found.first().ok_or_else(|| Error::not_found("thread", thread))?;
    let next_seq: i64 = row.try_get_by_index(1).map_err(unreadable)?;
    Ok((row.try_get_by_index(0).map_err(unreadable)?, u64::try_from(next_seq).unwrap_or_default()))
}

pub(super) fn held(backend: DatabaseBackend, scope: &Scope, thread: &ThreadId) -> Statement {
    let mut values: Vec<Value> = vec![thread.as_str().into()];
    let owned = owned_by(scope, "h", &mut values);
    let lock = dialect::beside_updates(backend);
    let sql = format!(
        "SELECT h.owner_id, h.next_seq FROM thread_heads h
         WHERE h.thread_id = $1 AND h.state <> 'deleted' {owned} {lock}"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// Up to which number a thread is indexed: nobody else indexes it until the transaction ends.
async fn progress(connection: &impl ConnectionTrait, thread: &ThreadId) -> Result<u64> {
    // An update that changes nothing waits for whoever indexes it, and then reads what that one noted.
    let sql = "INSERT INTO search_progress (thread_id, indexed_seq) VALUES ($1, 0)
               ON CONFLICT (thread_id) DO UPDATE SET indexed_seq = search_progress.indexed_seq
               RETURNING indexed_seq";
    let statement =
        Statement::from_sql_and_values(connection.get_database_backend(), sql, [thread.as_str().into()]);
    let found = rows(connection, "to read what is indexed", statement).await?;
    let seq = found.first().map(|row| row.try_get_by_index::<i64>(0)).transpose().map_err(unreadable)?;
    Ok(seq.and_then(|seq| u64::try_from(seq).ok()).unwrap_or_default())
}

/// How far a batch reaches, and how many bytes its payloads have.
async fn reach(
    connection: &impl ConnectionTrait,
    thread: &ThreadId,
    (after, next_seq): (u64, u64),
    budget: IndexBudget,
) -> Result<(u64, u64)> {
    let events = budget.events.min(BATCH_EVENTS);
    let statement = sizes(connection.get_database_backend(), thread, after, events);
    let found = rows(connection, "to read the log", statement).await?;
    let (mut through, mut bytes) = (after, 0);
    for row in &found {
        if bytes >= budget.bytes.min(BATCH_BYTES) {
            return Ok((through, bytes));
        }
        let (seq, size): (i64, i64) =
            (row.try_get_by_index(0).map_err(unreadable)?, row.try_get_by_index(1).map_err(unreadable)?);
        through = u64::try_from(seq).unwrap_or(through);
        bytes += u64::try_from(size).unwrap_or_default();
    }
    if (found.len() as u64) < events {
        // Behind the last there is nothing but numbers whose events were deleted.
        through = through.max(next_seq.saturating_sub(1));
    }
    Ok((through, bytes))
}

pub(super) fn sizes(backend: DatabaseBackend, thread: &ThreadId, after: u64, events: u64) -> Statement {
    let sql = format!(
        "SELECT seq, CAST(CASE WHEN {SEARCHED} THEN content_bytes ELSE 0 END AS bigint) FROM run_events
         WHERE thread_id = $1 AND seq > $2 ORDER BY seq LIMIT {events}"
    );
    let values: Vec<Value> = vec![thread.as_str().into(), signed(after).into()];
    Statement::from_sql_and_values(backend, sql, values)
}

pub(super) fn texts(backend: DatabaseBackend, thread: &ThreadId, after: u64, through: u64) -> Statement {
    let sql = format!(
        "SELECT seq, run_id, item_id, item_kind, created_at, content FROM run_events
         WHERE thread_id = $1 AND seq > $2 AND seq <= $3 AND {SEARCHED} ORDER BY seq"
    );
    let values: Vec<Value> = vec![thread.as_str().into(), signed(after).into(), signed(through).into()];
    Statement::from_sql_and_values(backend, sql, values)
}

/// The text of an event and the words it is found by.
struct Document {
    seq: i64,
    run_id: Option<String>,
    item_id: Option<String>,
    item_kind: Option<String>,
    created_at: DateTimeUtc,
    text: String,
    words: BTreeSet<String>,
}

impl Document {
    /// `None` where the event has no text.
    fn read(row: &QueryResult, marks: &[Option<String>]) -> Result<Option<Self>> {
        let content: String = row.try_get_by_index(5).map_err(unreadable)?;
        let item_kind: Option<String> = row.try_get_by_index(3).map_err(unreadable)?;
        let kind = item_kind.as_deref().map(ItemKind::from_stored);
        let text = match extract(kind.as_ref(), &RawJson::from_stored(&content)) {
            Extract::Text(text) => text,
            Extract::Nothing => return Ok(None),
            Extract::Unreadable => return Err(Error::corrupt("event", "its payload cannot be read")),
        };
        let words =
            Words::of(&text).iter().map(str::to_owned).chain(marks.iter().flatten().cloned()).collect();
        Ok(Some(Self {
            seq: row.try_get_by_index(0).map_err(unreadable)?,
            run_id: row.try_get_by_index(1).map_err(unreadable)?,
            item_id: row.try_get_by_index(2).map_err(unreadable)?,
            item_kind,
            created_at: row.try_get_by_index(4).map_err(unreadable)?,
            text,
            words,
        }))
    }
}

fn mark_of_owner(owner: &str) -> String {
    format!("{MARK}o{}", text::fingerprint(owner))
}

fn mark_of_thread(thread: &ThreadId) -> String {
    format!("{MARK}t{}", text::fingerprint(thread.as_str()))
}

async fn write(connection: &impl ConnectionTrait, thread: &ThreadId, documents: Vec<Document>) -> Result<()> {
    let backend = connection.get_database_backend();
    let mut number = match backend {
        DatabaseBackend::Postgres => 0,
        _ => last_words(connection).await?,
    };
    let mut documents = documents.into_iter().peekable();
    while documents.peek().is_some() {
        let (mut values, mut words) = (Vec::new(), Vec::new());
        let (mut places, mut of_words) = (Vec::new(), Vec::new());
        for document in documents.by_ref().take(ROWS) {
            number += 1;
            let of_row: Value = match backend {
                DatabaseBackend::Postgres => lexemes(&document.words).into(),
                _ => {
                    words.extend([Value::from(number), Value::from(joined(&document.words))]);
                    of_words.push("(?, ?)");
                    number.into()
                }
            };
            let first = values.len() + 1;
            values.extend([
                thread.as_str().into(),
                document.seq.into(),
                document.run_id.into(),
                document.item_id.into(),
                document.item_kind.into(),
                document.created_at.into(),
                document.text.into(),
                of_row,
            ]);
            let row = dialect::places(backend, first, values.len() - 1);
            places.push(format!("({row}, {})", dialect::words(backend, values.len())));
        }
        let sql = format!(
            "INSERT INTO search_documents (thread_id, seq, run_id, item_id, item_kind, created_at, text, words)
             VALUES {}",
            places.join(", ")
        );
        let statement = Statement::from_sql_and_values(backend, sql, values);
        execute(connection, "to write texts", statement).await?;
        if !of_words.is_empty() {
            let sql = format!("INSERT INTO search_words (rowid, words) VALUES {}", of_words.join(", "));
            execute(connection, "to write words", Statement::from_sql_and_values(backend, sql, words))
                .await?;
        }
    }
    Ok(())
}

/// The largest number of a text's words; the next ones are free.
async fn last_words(connection: &impl ConnectionTrait) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(words), 0) FROM search_documents";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let found = rows(connection, "to number words", statement).await?;
    let last = found.first().map(|row| row.try_get_by_index(0)).transpose().map_err(unreadable)?;
    Ok(last.unwrap_or_default())
}

/// Words as a `tsvector` is spelled. They have no character that would have to be escaped.
fn lexemes(words: &BTreeSet<String>) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}

fn joined(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Whether a text that has the words, and has none of the excluded ones, is always a match.
fn is_decided_by_words(query: &SearchQuery) -> bool {
    query.wanted().iter().chain(query.excluded()).all(|term| term.words().len() == 1)
}

/// What the index is asked for: the words that a match has, and the single ones that it has not.
fn asked(backend: DatabaseBackend, marks: &[String], query: &SearchQuery) -> String {
    let is_postgres = backend == DatabaseBackend::Postgres;
    let quote = if is_postgres { '\'' } else { '"' };
    let begins = if is_postgres { ":*" } else { "*" };
    let spelled = |term: &Term| -> Vec<String> {
        let last = term.words().len() - 1;
        let words = term.words().iter().enumerate();
        words
            .map(|(place, word)| {
                let star = if term.is_prefix() && place == last { begins } else { "" };
                format!("{quote}{word}{quote}{star}")
            })
            .collect()
    };
    let mut wanted: Vec<String> = marks.iter().map(|mark| format!("{quote}{mark}{quote}")).collect();
    wanted.extend(query.wanted().iter().flat_map(spelled));
    // A text may have all words of an excluded phrase and not the phrase.
    let excluded = query.excluded().iter().filter(|term| term.words().len() == 1).flat_map(spelled);
    if is_postgres {
        wanted.extend(excluded.map(|word| format!("!{word}")));
        return wanted.join(" & ");
    }
    let excluded: Vec<String> = excluded.collect();
    match &excluded[..] {
        [] => wanted.join(" AND "),
        excluded => format!("({}) NOT ({})", wanted.join(" AND "), excluded.join(" OR ")),
    }
}

/// Texts that have the words, newest first, from behind `end`.
pub(super) fn candidates(
    backend: DatabaseBackend,
    scope: &Scope,
    query: &SearchQuery,
    filter: &SearchFilter,
    end: Option<&(Timestamp, String, u64)>,
    limit: u32,
) -> Statement {
    let marks = [
        scope.owner().map(|owner| mark_of_owner(OwnerId::as_str(owner))),
        filter.thread_id.as_ref().map(mark_of_thread),
    ];
    let marks: Vec<String> = marks.into_iter().flatten().collect();
    let mut values: Vec<Value> = vec![asked(backend, &marks, query).into()];
    let owned = owned_by(scope, "h", &mut values);
    let mut place = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    // Each row by itself: there are as many as have the words, however many threads and runs there are.
    let mut conditions = vec![format!(
        "(SELECT 1 FROM thread_heads h WHERE h.thread_id = d.thread_id AND h.state <> 'deleted' {owned}) = 1"
    )];
    if let Some(thread) = &filter.thread_id {
        // Hidden from the choice of an index: all texts of the thread may be many more than have the words.
        conditions.push(format!("d.thread_id || '' = {}", place(thread.as_str().into())));
    }
    if !filter.kinds.is_empty() {
        let kinds: Vec<String> = filter.kinds.iter().map(|kind| place(kind.to_string().into())).collect();
        conditions.push(format!("d.item_kind IN ({})", kinds.join(", ")));
    }
    if let Some(from) = filter.created_from {
        conditions.push(format!("d.created_at >= {}", place(from.to_chrono().into())));
    }
    if let Some(before) = filter.created_before {
        conditions.push(format!("d.created_at < {}", place(before.to_chrono().into())));
    }
    if filter.visibility == RunVisibility::Shown {
        conditions.push(
            "COALESCE((SELECT r.visibility FROM runs r \
             WHERE r.thread_id = d.thread_id AND r.run_id = d.run_id), 'shown') = 'shown'"
                .to_owned(),
        );
    }
    if let Some((at, thread, seq)) = end {
        let (at, thread) = (place(at.to_chrono().into()), place(thread.as_str().into()));
        let seq = place(signed(*seq).into());
        conditions.push(format!("(d.created_at, d.thread_id, d.seq) < ({at}, {thread}, {seq})"));
    }
    // Texts are read of the rows that are given, not of those that are sorted.
    let sql = format!(
        "SELECT d.thread_id, d.seq, d.run_id, d.item_id, d.item_kind, d.created_at, d.text
         FROM (SELECT d.thread_id, d.seq, d.created_at FROM {} AND {}
               ORDER BY d.created_at DESC, d.thread_id DESC, d.seq DESC LIMIT {limit}) AS found
         JOIN search_documents d ON d.thread_id = found.thread_id AND d.seq = found.seq
         ORDER BY found.created_at DESC, found.thread_id DESC, found.seq DESC",
        dialect::documents_with_words(backend),
        conditions.join(" AND ")
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// A text that has the words.
struct Candidate {
    thread_id: ThreadId,
    seq: u64,
    run_id: Option<RunId>,
    item_id: Option<ItemId>,
    item_kind: Option<ItemKind>,
    created_at: Timestamp,
    text: String,
}

impl Candidate {
    fn read(row: &QueryResult) -> Result<Self> {
        let text = |at| row.try_get_by_index::<Option<String>>(at).map_err(unreadable);
        let seq: i64 = row.try_get_by_index(1).map_err(unreadable)?;
        let created_at: DateTimeUtc = row.try_get_by_index(5).map_err(unreadable)?;
        Ok(Self {
            thread_id: ThreadId::try_from(text(0)?.unwrap_or_default())?,
            seq: u64::try_from(seq).map_err(|_| Error::corrupt("text", "column seq is negative"))?,
            run_id: text(2)?.map(RunId::try_from).transpose()?,
            item_id: text(3)?.map(ItemId::try_from).transpose()?,
            item_kind: text(4)?.as_deref().map(ItemKind::from_stored),
            created_at: created_at.into(),
            text: text(6)?.unwrap_or_default(),
        })
    }

    fn place(&self) -> (Timestamp, String, u64) {
        (self.created_at, self.thread_id.as_str().to_owned(), self.seq)
    }

    fn into_hit(self, found: &[std::ops::Range<usize>]) -> SearchHit {
        SearchHit {
            snippet: snippet(&self.text, found),
            thread_id: self.thread_id,
            seq: self.seq,
            run_id: self.run_id,
            item_id: self.item_id,
            item_kind: self.item_kind,
            created_at: self.created_at,
        }
    }
}
