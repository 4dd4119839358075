//! The hot path: heads, events, items, usage and runs' growth in one call.
//!
//! Each head is changed only if it is still what the commits were judged by. That guard is what
//! lets a lane use the heads it remembers instead of reading them: where one has changed, nothing
//! at all is written, and the group is judged anew under the lock.
//!
//! - PostgreSQL: one statement, the rows as arrays. A guard that does not hold gives no row; where
//!   other heads of the group were changed already it divides by zero, which takes them back.
//! - SQLite: a few statements. A guard that does not hold writes NULL into a column that takes none, which
//!   ends them before their COMMIT.

use super::decide::{HeadChange, Writes};
use super::rows::{self, CHUNK, Columns, ITEM_CONFLICT, Kind, RUN, signed};
use super::statement::{Statement, Value};
use crate::dialect::Dialect;

/// The one statement of PostgreSQL. Its row holds 1 where the guards held, else 0.
pub(super) fn postgres(writes: &Writes) -> Statement {
    let mut sql = Statement::new(Dialect::Postgres, "WITH g AS (");
    update_heads(&mut sql, writes);
    // Not a constant, so that it is computed only where it is reached.
    sql.push("), ok AS (SELECT CASE WHEN count(*) = ").bind(writes.heads.len() as i64);
    sql.push("::bigint THEN 1 WHEN ").bind(writes.heads.len() as i64);
    sql.push("::bigint = 1 THEN 0 ELSE 1 / (count(*) - count(*)) END AS held FROM g)");
    if !writes.events.is_empty() {
        insert(&mut sql, "e", "run_events", rows::events(&writes.events), "");
    }
    if !writes.items.is_empty() {
        insert(&mut sql, "i", "thread_items", rows::items(&writes.items), ITEM_CONFLICT);
    }
    if !writes.usage.is_empty() {
        insert(&mut sql, "u", "usage_records", rows::usage(writes.usage.values()), "");
    }
    if !writes.runs.is_empty() {
        sql.push(", r AS (UPDATE runs SET ");
        rows::push_growth(&mut sql, |sql, column| {
            sql.push("v.").push(column);
        });
        sql.push(" FROM ");
        unnest(&mut sql, growth(writes));
        sql.push(", ok WHERE runs.thread_id = v.thread_id AND runs.run_id = v.run_id AND ok.held = 1)");
    }
    sql.push(" SELECT held::bigint FROM ok");
    sql
}

const HEAD: &[(&str, Kind)] = &[
    ("thread_id", Kind::Text),
    ("next_seq", Kind::Int),
    ("messages", Kind::Int),
    ("active_run_id", Kind::Text),
    ("epoch", Kind::Int),
    ("journal_ordinal", Kind::Int),
    ("was_owner_id", Kind::Text),
    ("was_next_seq", Kind::Int),
    ("was_active_run_id", Kind::Text),
    ("was_epoch", Kind::Int),
    ("was_journal_ordinal", Kind::Int),
    ("was_state", Kind::Text),
    ("updated_at", Kind::Time),
];

/// What a head must still be, and where the values are.
const GUARDS: [(&str, &str); 6] = [
    ("state", "was_state"),
    ("next_seq", "was_next_seq"),
    ("epoch", "was_epoch"),
    ("journal_ordinal", "was_journal_ordinal"),
    ("owner_id", "was_owner_id"),
    ("active_run_id", "was_active_run_id"),
];

fn heads(writes: &Writes) -> Columns {
    Columns { names: HEAD, rows: writes.heads.values().map(head).collect() }
}

fn growth(writes: &Writes) -> Columns {
    Columns { names: RUN, rows: writes.runs.iter().map(|(key, delta)| rows::run(key, delta)).collect() }
}

fn head(change: &HeadChange) -> Vec<Value> {
    let (before, after) = (&change.before, &change.after);
    vec![
        after.thread_id.as_str().into(),
        signed(after.next_seq).into(),
        signed(after.message_count - before.message_count).into(),
        after.active_run_id.as_ref().map(|id| id.as_str()).into(),
        signed(after.epoch).into(),
        signed(after.journal_ordinal).into(),
        before.owner_id.as_ref().map(|id| id.as_str()).into(),
        signed(before.next_seq).into(),
        before.active_run_id.as_ref().map(|id| id.as_str()).into(),
        signed(before.epoch).into(),
        signed(before.journal_ordinal).into(),
        before.state.as_str().into(),
        rows::now().into(),
    ]
}

fn update_heads(sql: &mut Statement, writes: &Writes) {
    sql.push(
        "UPDATE thread_heads AS h SET next_seq = v.next_seq, message_count = h.message_count + v.messages, \
         active_run_id = v.active_run_id, epoch = v.epoch, journal_ordinal = v.journal_ordinal, \
         updated_at = v.updated_at FROM ",
    );
    unnest(sql, heads(writes));
    sql.push(" WHERE h.thread_id = v.thread_id");
    for (column, was) in GUARDS {
        sql.push(" AND h.").push(column).push(" IS NOT DISTINCT FROM v.").push(was);
    }
    sql.push(" RETURNING 1");
}

fn unnest(sql: &mut Statement, columns: Columns) {
    let names = columns.names;
    sql.push("UNNEST(");
    for (at, (array, (_, kind))) in columns.into_arrays().into_iter().zip(names).enumerate() {
        sql.push(if at == 0 { "" } else { ", " }).bind(array).push("::").push(kind.array_type());
    }
    sql.push(") AS v(").push(&list(names)).push(")");
}

fn list(names: &[(&str, Kind)]) -> String {
    names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn insert(sql: &mut Statement, name: &str, table: &str, columns: Columns, conflict: &str) {
    let names = list(columns.names);
    let values = columns.names.iter().map(|(name, _)| format!("v.{name}")).collect::<Vec<_>>().join(", ");
    sql.push(&format!(", {name} AS (INSERT INTO {table} ({names}) SELECT {values} FROM "));
    unnest(sql, columns);
    sql.push(", ok WHERE ok.held = 1").push(conflict).push(")");
}

/// The statements of SQLite, in their order.
///
/// A text that was not seen before has to be prepared, so there are few: a statement has as many rows as a power
/// of two. Rows of NULLs fill up an update; to leave them out of an insert costs more than further statements.
pub(super) fn sqlite(writes: &Writes) -> Vec<Statement> {
    let mut statements = Vec::new();
    update(&mut statements, heads(writes), sqlite_head);
    insert_rows(&mut statements, "run_events", rows::events(&writes.events), "");
    insert_rows(&mut statements, "thread_items", rows::items(&writes.items), ITEM_CONFLICT);
    insert_rows(&mut statements, "usage_records", rows::usage(writes.usage.values()), "");
    update(&mut statements, growth(writes), sqlite_growth);
    statements
}

fn update(statements: &mut Vec<Statement>, columns: Columns, assign: fn(&mut Statement, &mut Source)) {
    let Columns { names, mut rows } = columns;
    if rows.len() > 1 {
        return chunks(statements, Columns { names, rows }, |sql| assign(sql, &mut Source::Table));
    }
    // One row as it is: a table of one costs a third as much again.
    if let Some(values) = rows.pop() {
        let mut sql = Statement::new(Dialect::Sqlite, "");
        assign(&mut sql, &mut Source::Row { names, values });
        statements.push(sql);
    }
}

fn insert_rows(statements: &mut Vec<Statement>, table: &str, columns: Columns, conflict: &str) {
    let Columns { names, rows } = columns;
    let (place, mut rows) = (place(names), rows.into_iter());
    while rows.len() > 0 {
        let size = 1 << rows.len().min(CHUNK).ilog2();
        let places = vec![place.as_str(); size].join(", ");
        let text = format!("INSERT INTO {table} ({}) VALUES {places}{conflict}", list(names));
        let mut sql = Statement::new(Dialect::Sqlite, text);
        sql.values.reserve_exact(size * names.len());
        rows.by_ref().take(size).for_each(|row| sql.values.extend(row));
        statements.push(sql);
    }
}

/// Statements that begin with the rows as a table `v`, and go on as `push` says.
fn chunks(statements: &mut Vec<Statement>, columns: Columns, push: impl Fn(&mut Statement)) {
    let Columns { names, rows } = columns;
    let (place, mut rows) = (place(names), rows.into_iter());
    while rows.len() > 0 {
        let count = rows.len().min(CHUNK);
        let size = count.next_power_of_two();
        let places = vec![place.as_str(); size].join(", ");
        let mut sql =
            Statement::new(Dialect::Sqlite, format!("WITH v({}) AS (VALUES {places}) ", list(names)));
        sql.values.reserve_exact(size * names.len());
        rows.by_ref().take(count).for_each(|row| sql.values.extend(row));
        sql.values.resize_with(size * names.len(), Value::default);
        push(&mut sql);
        statements.push(sql);
    }
}

/// Where an UPDATE of SQLite has its values from.
enum Source {
    /// The table `v`.
    Table,
    /// The only row.
    Row { names: &'static [(&'static str, Kind)], values: Vec<Value> },
}

impl Source {
    fn put(&mut self, sql: &mut Statement, column: &str) {
        match self {
            Self::Table => {
                sql.push("v.").push(column);
            }
            Self::Row { names, values } => {
                let at = names.iter().position(|(name, _)| *name == column);
                // Every column is named above.
                let value = at.and_then(|at| values.get_mut(at)).map(std::mem::take);
                sql.bind(value.unwrap_or_default());
            }
        }
    }

    fn from(&self, sql: &mut Statement) {
        if let Self::Table = self {
            sql.push(" FROM v");
        }
    }
}

/// A head that is not what it was becomes NULL, which its column refuses.
fn sqlite_head(sql: &mut Statement, source: &mut Source) {
    sql.push("UPDATE thread_heads AS h SET next_seq = CASE WHEN ");
    for (number, (column, was)) in GUARDS.into_iter().enumerate() {
        sql.push(if number == 0 { "h." } else { " AND h." }).push(column).push(" IS ");
        source.put(sql, was);
    }
    sql.push(" THEN ");
    source.put(sql, "next_seq");
    sql.push(" END, message_count = h.message_count + ");
    source.put(sql, "messages");
    for column in ["active_run_id", "epoch", "journal_ordinal", "updated_at"] {
        sql.push(", ").push(column).push(" = ");
        source.put(sql, column);
    }
    source.from(sql);
    sql.push(" WHERE h.thread_id = ");
    source.put(sql, "thread_id");
}

fn sqlite_growth(sql: &mut Statement, source: &mut Source) {
    sql.push("UPDATE runs SET ");
    rows::push_growth(sql, |sql, column| source.put(sql, column));
    source.from(sql);
    sql.push(" WHERE runs.thread_id = ");
    source.put(sql, "thread_id");
    sql.push(" AND runs.run_id = ");
    source.put(sql, "run_id");
}

fn place(names: &[(&str, Kind)]) -> String {
    format!("({})", vec!["?"; names.len()].join(", "))
}
