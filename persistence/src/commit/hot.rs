//! The hot path: heads, events, items, usage and runs' growth in one call.
//!
//! Each head is changed only if it is still what the commits were judged by. That guard is what
//! lets a lane use the heads it remembers instead of reading them: where one has changed, nothing
//! at all is written, and the group is judged anew under the lock.
//!
//! - PostgreSQL: one statement, the rows as arrays. A guard that does not hold gives no row; where
//!   other heads of the group were changed already it divides by zero, which takes them back.
//! - SQLite: one string, because each call costs a hop to the driver's thread. A guard that does
//!   not hold writes NULL into a column that takes none, which ends the string before its COMMIT.

use super::decide::{HeadChange, Writes};
use super::rows::{self, Columns, ITEM_CONFLICT, Kind, RUN, signed};
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
        let growth = Columns {
            names: RUN,
            rows: writes.runs.iter().map(|(key, delta)| rows::run(key, delta)).collect(),
        };
        sql.push(", r AS (UPDATE runs SET ")
            .push(&rows::run_assignments(Dialect::Postgres, |_, column| format!("v.{column}")));
        sql.push(" FROM ");
        unnest(&mut sql, growth);
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
];

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
    ]
}

fn update_heads(sql: &mut Statement, writes: &Writes) {
    sql.push(
        "UPDATE thread_heads AS h SET next_seq = v.next_seq, message_count = h.message_count + v.messages, \
         active_run_id = v.active_run_id, epoch = v.epoch, journal_ordinal = v.journal_ordinal, updated_at = ",
    );
    sql.bind(rows::now()).push(" FROM ");
    unnest(sql, Columns { names: HEAD, rows: writes.heads.values().map(head).collect() });
    sql.push(
        " WHERE h.thread_id = v.thread_id AND h.state = v.was_state AND h.next_seq = v.was_next_seq \
         AND h.epoch = v.was_epoch AND h.journal_ordinal = v.was_journal_ordinal \
         AND h.owner_id IS NOT DISTINCT FROM v.was_owner_id \
         AND h.active_run_id IS NOT DISTINCT FROM v.was_active_run_id RETURNING 1",
    );
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

/// Rows of one INSERT: few sizes, so that few texts serve all commits and stay prepared.
const CHUNKS: [usize; 5] = [64, 16, 4, 2, 1];

/// The one string of SQLite, from after BEGIN to before COMMIT.
pub(super) fn sqlite(sql: &mut Statement, writes: &Writes) {
    for change in writes.heads.values() {
        sqlite_head(sql, change);
    }
    sqlite_insert(sql, "run_events", rows::events(&writes.events), "");
    sqlite_insert(sql, "thread_items", rows::items(&writes.items), ITEM_CONFLICT);
    sqlite_insert(sql, "usage_records", rows::usage(writes.usage.values()), "");
    for (key, delta) in &writes.runs {
        let mut values = rows::run(key, delta);
        let growth = values.split_off(2);
        sql.push("UPDATE runs SET ").push(&rows::run_assignments(Dialect::Sqlite, |_, _| "?".to_owned()));
        sql.values.extend(growth);
        sql.push(" WHERE thread_id = ")
            .bind(key.0.as_str())
            .push(" AND run_id = ")
            .bind(key.1.as_str())
            .push(";");
    }
}

fn sqlite_head(sql: &mut Statement, change: &HeadChange) {
    let (before, after) = (&change.before, &change.after);
    sql.push("UPDATE thread_heads SET next_seq = CASE WHEN state = ").bind(before.state.as_str());
    sql.push(" AND next_seq = ").bind(signed(before.next_seq));
    sql.push(" AND epoch = ").bind(signed(before.epoch));
    sql.push(" AND journal_ordinal = ").bind(signed(before.journal_ordinal));
    sql.push(" AND owner_id IS ").bind(before.owner_id.as_ref().map(|id| id.as_str()));
    sql.push(" AND active_run_id IS ").bind(before.active_run_id.as_ref().map(|id| id.as_str()));
    sql.push(" THEN ").bind(signed(after.next_seq)).push(" END, message_count = message_count + ");
    sql.bind(signed(after.message_count - before.message_count));
    sql.push(", active_run_id = ").bind(after.active_run_id.as_ref().map(|id| id.as_str()));
    sql.push(", epoch = ").bind(signed(after.epoch));
    sql.push(", journal_ordinal = ").bind(signed(after.journal_ordinal));
    sql.push(", updated_at = ").bind(rows::now());
    sql.push(" WHERE thread_id = ").bind(after.thread_id.as_str()).push(";");
}

fn sqlite_insert(sql: &mut Statement, table: &str, columns: Columns, conflict: &str) {
    let names = list(columns.names);
    let place = format!("({})", vec!["?"; columns.names.len()].join(", "));
    let mut rows = columns.rows.into_iter();
    while rows.len() > 0 {
        let size = CHUNKS.into_iter().find(|size| *size <= rows.len()).unwrap_or(1);
        sql.push(&format!("INSERT INTO {table} ({names}) VALUES "));
        for (number, row) in rows.by_ref().take(size).enumerate() {
            sql.push(if number == 0 { "" } else { ", " }).push(&place);
            sql.values.extend(row);
        }
        sql.push(conflict).push(";");
    }
}
