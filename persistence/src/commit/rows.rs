//! The rows of the hot path as values, column by column: what both databases insert, each in its
//! own way.

use chrono::{DateTime, Utc};

use super::decide::{EventRow, ItemRow, RunDelta};
use super::statement::{Statement, Value};
use crate::dialect::Dialect;
use runledger_core::{RunId, RunTotals, ThreadId, UsageRecord};

/// The most rows of one statement that lists them.
pub(super) const CHUNK: usize = 64;

/// The type of a column, for PostgreSQL's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Bool,
    Time,
}

/// Rows of one table, by column.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) names: &'static [(&'static str, Kind)],
    /// One for each row, each as long as `names`.
    pub(super) rows: Vec<Vec<Value>>,
}

use Kind::{Bool, Int, Text, Time};

pub(super) const EVENT: &[(&str, Kind)] = &[
    ("thread_id", Text),
    ("seq", Int),
    ("run_id", Text),
    ("journal_ordinal", Int),
    ("once_key", Text),
    ("event_type", Text),
    ("category", Text),
    ("caller", Text),
    ("task_id", Text),
    ("item_id", Text),
    ("item_kind", Text),
    ("item_status", Text),
    ("call_id", Text),
    ("parent_item_id", Text),
    ("content", Text),
    ("content_bytes", Int),
    ("truncated", Bool),
    ("metadata", Text),
    ("created_at", Time),
];

const ITEM: &[(&str, Kind)] = &[
    ("thread_id", Text),
    ("run_id", Text),
    ("item_id", Text),
    ("item_kind", Text),
    ("status", Text),
    ("started_seq", Int),
    ("completed_seq", Int),
    ("updated_seq", Int),
    ("started_at", Time),
    ("completed_at", Time),
    ("parent_item_id", Text),
    ("call_id", Text),
    ("caller", Text),
];

/// What an item's row becomes where it is there and has not ended: a record that completes it ends it, and any
/// adds what the row lacks.
pub(super) const ITEM_CONFLICT: &str = " ON CONFLICT (thread_id, run_id, item_id) DO UPDATE SET \
    status = excluded.status, completed_seq = excluded.completed_seq, completed_at = excluded.completed_at, \
    updated_seq = CASE WHEN excluded.status = 'in_progress' \
        THEN thread_items.updated_seq ELSE excluded.updated_seq END, \
    call_id = COALESCE(thread_items.call_id, excluded.call_id), \
    parent_item_id = COALESCE(thread_items.parent_item_id, excluded.parent_item_id), \
    caller = COALESCE(thread_items.caller, excluded.caller) \
    WHERE thread_items.status = 'in_progress'";

pub(super) const USAGE: &[(&str, Kind)] = &[
    ("thread_id", Text),
    ("source_id", Text),
    ("owner_id", Text),
    ("run_id", Text),
    ("round_index", Int),
    ("caller", Text),
    ("provider", Text),
    ("model", Text),
    ("input_tokens", Int),
    ("output_tokens", Int),
    ("total_tokens", Int),
    ("cache_read_tokens", Int),
    ("cache_write_tokens", Int),
    ("reasoning_tokens", Int),
    ("cost_nanos", Int),
    ("price_table", Text),
    ("estimated", Bool),
    ("latency_ms", Int),
    ("child_thread_id", Text),
    ("raw", Text),
    ("created_at", Time),
];

/// A run's growth: its key, sums that are added, and values that are kept or replaced.
pub(super) const RUN: &[(&str, Kind)] = &[
    ("thread_id", Text),
    ("run_id", Text),
    ("first_seq", Int),
    ("last_seq", Int),
    ("message_count", Int),
    ("input_tokens", Int),
    ("output_tokens", Int),
    ("total_tokens", Int),
    ("cache_read_tokens", Int),
    ("cache_write_tokens", Int),
    ("reasoning_tokens", Int),
    ("llm_calls", Int),
    ("lead_agent_tokens", Int),
    ("subagent_tokens", Int),
    ("middleware_tokens", Int),
    ("cost_nanos", Int),
    ("reserved_tokens", Int),
    ("reserved_cost_nanos", Int),
    ("allowance_tokens", Int),
    ("allowance_cost_nanos", Int),
    ("first_human_message", Text),
    ("last_ai_message", Text),
    ("model_name", Text),
];

/// A number as SQL has it. Everything here was checked or counted, so nothing is cut.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn optional(value: Option<u64>) -> Value {
    Value::Int(value.map(signed))
}

pub(super) fn events(rows: &[EventRow]) -> Columns {
    Columns { names: EVENT, rows: rows.iter().map(event).collect() }
}

fn event(row: &EventRow) -> Vec<Value> {
    let (draft, size, item) = (row.draft(), row.size(), row.draft().item.as_ref());
    vec![
        row.thread().as_str().into(),
        signed(row.seq).into(),
        row.run().map(RunId::as_str).into(),
        optional(row.ordinal()),
        draft.once_key.as_deref().into(),
        draft.event_type.as_str().into(),
        draft.category.as_str().into(),
        draft.caller.as_ref().map(|caller| caller.as_str()).into(),
        draft.task_id.as_ref().map(|id| id.as_str()).into(),
        item.map(|item| item.item_id.as_str()).into(),
        item.map(|item| item.kind.to_string()).into(),
        item.map(|item| item.status.as_str()).into(),
        item.and_then(|item| item.call_id.as_ref()).map(|id| id.as_str()).into(),
        item.and_then(|item| item.parent_item_id.as_ref()).map(|id| id.as_str()).into(),
        draft.content.as_str().into(),
        signed(size.bytes).into(),
        size.truncated.into(),
        draft.metadata.as_ref().map(|metadata| metadata.as_str()).into(),
        draft.created_at.to_chrono().into(),
    ]
}

pub(super) fn items(rows: &[ItemRow]) -> Columns {
    Columns { names: ITEM, rows: rows.iter().map(item).collect() }
}

fn item(row: &ItemRow) -> Vec<Value> {
    let change = &row.change;
    vec![
        row.thread.as_str().into(),
        row.run.as_str().into(),
        change.item_id.as_str().into(),
        change.kind.to_string().into(),
        change.status.as_str().into(),
        signed(change.started_seq).into(),
        optional(change.completed_seq),
        signed(change.updated_seq).into(),
        change.started_at.to_chrono().into(),
        change.completed_at.map(|at| at.to_chrono()).into(),
        change.parent_item_id.as_ref().map(|id| id.as_str()).into(),
        change.call_id.as_ref().map(|id| id.as_str()).into(),
        change.caller.as_ref().map(|caller| caller.as_str()).into(),
    ]
}

pub(super) fn usage<'a>(records: impl Iterator<Item = &'a UsageRecord>) -> Columns {
    Columns { names: USAGE, rows: records.map(call).collect() }
}

/// What is stored of a model call, in the order of [`USAGE`].
pub(super) fn call(call: &UsageRecord) -> Vec<Value> {
    vec![
        call.thread_id.as_str().into(),
        call.source_id.as_str().into(),
        call.owner_id.as_ref().map(|id| id.as_str()).into(),
        call.run_id.as_ref().map(RunId::as_str).into(),
        optional(call.round_index),
        call.caller.as_str().into(),
        call.provider.as_deref().into(),
        call.model.as_deref().into(),
        signed(call.tokens.input).into(),
        signed(call.tokens.output).into(),
        signed(call.tokens.total).into(),
        signed(call.tokens.cache_read).into(),
        signed(call.tokens.cache_write).into(),
        signed(call.tokens.reasoning).into(),
        optional(call.cost_nanos),
        call.price_table.as_deref().into(),
        call.estimated.into(),
        optional(call.latency_ms),
        call.child_thread_id.as_ref().map(ThreadId::as_str).into(),
        call.raw.as_ref().map(|raw| raw.as_str()).into(),
        call.created_at.to_chrono().into(),
    ]
}

/// What a run's row changes by, in the order of [`RUN`].
pub(super) fn run((thread, run): &(ThreadId, RunId), delta: &RunDelta) -> Vec<Value> {
    let mut values = vec![
        thread.as_str().into(),
        run.as_str().into(),
        optional(delta.first_seq),
        optional(delta.last_seq),
        signed(delta.message_count).into(),
    ];
    let (more, less) = (sums(&delta.totals.more), sums(&delta.totals.less));
    values.extend(more.into_iter().zip(less).map(|(more, less)| Value::from(signed(more) - signed(less))));
    for settled in [delta.settled, delta.settled_allowances] {
        values.extend([settled.tokens, settled.cost_nanos].map(|settled| Value::from(signed(settled))));
    }
    for text in
        [&delta.progress.first_human_message, &delta.progress.last_ai_message, &delta.progress.model_name]
    {
        values.push(text.as_deref().into());
    }
    values
}

/// The sums of a run, in the order of [`RUN`].
fn sums(totals: &RunTotals) -> [u64; 11] {
    [
        totals.input_tokens,
        totals.output_tokens,
        totals.total_tokens,
        totals.cache_read_tokens,
        totals.cache_write_tokens,
        totals.reasoning_tokens,
        totals.llm_calls,
        totals.lead_agent_tokens,
        totals.subagent_tokens,
        totals.middleware_tokens,
        totals.cost_nanos,
    ]
}

/// Appends the assignments of a run's row; `put` writes where a column's growth is found.
pub(super) fn push_growth(sql: &mut Statement, mut put: impl FnMut(&mut Statement, &str)) {
    let larger = match sql.dialect {
        Dialect::Postgres => "GREATEST",
        Dialect::Sqlite => "MAX",
    };
    for (number, (column, _)) in RUN.iter().skip(2).enumerate() {
        sql.push(if number == 0 { "" } else { ", " }).push(column).push(" = ");
        let (before, after) = match *column {
            // What is stored stays.
            "first_seq" | "first_human_message" | "model_name" => {
                (format!("COALESCE(runs.{column}, "), ")".to_owned())
            }
            "last_seq" | "last_ai_message" => ("COALESCE(".to_owned(), format!(", runs.{column})")),
            // What comes back of reservations; the run's end gave back all.
            "reserved_tokens" | "reserved_cost_nanos" | "allowance_tokens" | "allowance_cost_nanos" => {
                (format!("{larger}(runs.{column} - "), ", 0)".to_owned())
            }
            _ => (format!("runs.{column} + "), String::new()),
        };
        sql.push(&before);
        put(sql, column);
        sql.push(&after);
    }
}

impl Columns {
    /// The rows as one array for each column.
    pub(super) fn into_arrays(self) -> Vec<Value> {
        let count = self.rows.len();
        let mut arrays: Vec<Value> = self.names.iter().map(|(_, kind)| array(*kind, count)).collect();
        for row in self.rows {
            for (array, value) in arrays.iter_mut().zip(row) {
                append(array, value);
            }
        }
        arrays
    }
}

fn array(kind: Kind, count: usize) -> Value {
    match kind {
        Text => Value::Texts(Vec::with_capacity(count)),
        Int => Value::Ints(Vec::with_capacity(count)),
        Bool => Value::Bools(Vec::with_capacity(count)),
        Time => Value::Times(Vec::with_capacity(count)),
    }
}

/// The columns above say which kind each value has; a test builds every one of them.
fn append(array: &mut Value, value: Value) {
    match (array, value) {
        (Value::Texts(values), Value::Text(value)) => values.push(value),
        (Value::Ints(values), Value::Int(value)) => values.push(value),
        (Value::Bools(values), Value::Bool(value)) => values.push(value),
        (Value::Times(values), Value::Time(value)) => values.push(value),
        // An array that is too short is refused by the database, as a row without its columns.
        _ => {}
    }
}

impl Kind {
    /// The type of PostgreSQL's array.
    pub(super) fn array_type(self) -> &'static str {
        match self {
            Self::Text => "text[]",
            Self::Int => "bigint[]",
            Self::Bool => "boolean[]",
            Self::Time => "timestamptz[]",
        }
    }
}

/// The moment heads are stamped with.
pub(super) fn now() -> DateTime<Utc> {
    runledger_core::Timestamp::now().to_chrono()
}
