//! What the two databases spell differently, and the one place that knows it.

use std::time::Duration;

use runledger_core::{Error, RawJson, Result, Timestamp};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{DatabaseBackend, Value};

/// A database the ledger runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// The dialect that a URL names.
    pub(crate) fn of_url(url: &str) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" => Ok(Self::Postgres),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(Error::invalid(
                "url",
                "names no database of a ledger; give sqlite://PATH, sqlite::memory: or postgres://USER@HOST/DATABASE",
            )),
        }
    }
}

/// So much later than the moment of writing, by the database's clock; SQLite's is this machine's. The
/// value takes its place in `values`.
pub(crate) fn later(backend: DatabaseBackend, by: Duration, values: &mut Vec<Value>) -> String {
    // Not the statement's time: it may have waited for a lock since.
    moment(backend, "clock_timestamp() +", Timestamp::now().after(by), by, values)
}

/// Longer ago than anything; PostgreSQL has no moment much further back.
const AGES: Duration = Duration::from_secs(1_000 * 366 * 24 * 60 * 60);

/// So much ago, by the database's clock.
pub(crate) fn ago(backend: DatabaseBackend, by: Duration, values: &mut Vec<Value>) -> String {
    // Stable within a statement, so that an index can be searched for it.
    let by = by.min(AGES);
    moment(backend, "now() -", Timestamp::now().before(by), by, values)
}

fn moment(
    backend: DatabaseBackend,
    from: &str,
    here: Timestamp,
    by: Duration,
    values: &mut Vec<Value>,
) -> String {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    let postgres = backend == DatabaseBackend::Postgres;
    values.push(if postgres { micros.into() } else { here.to_chrono().into() });
    let place = values.len();
    if postgres { format!("({from} ${place} * interval '1 microsecond')") } else { format!("${place}") }
}

/// A document for a jsonb column: jsonb on PostgreSQL, text on SQLite.
pub(crate) fn jsonb(backend: DatabaseBackend, document: &str) -> Expr {
    match backend {
        DatabaseBackend::Postgres => Expr::val(document).cast_as("jsonb"),
        _ => Expr::val(document),
    }
}

/// What a JSON value is to be, where a database that keeps documents as text is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JsonLike {
    Null,
    True,
    False,
    Number(i64),
    Text(String),
}

/// That the document of a jsonb column has `value` under `key` at its top level. As text it is enough that one of
/// several under a repeated key is like it, and a number is compared as the nearest of 64 bits.
pub(crate) fn json_has(
    backend: DatabaseBackend,
    column: &str,
    key: &str,
    value: &RawJson,
    like: JsonLike,
) -> Expr {
    if backend == DatabaseBackend::Postgres {
        let sql = format!("({column} -> CAST($1 AS text)) = CAST($2 AS jsonb)");
        return Expr::cust_with_values(sql, [Value::from(key), value.as_str().into()]);
    }
    let mut values: Vec<Value> = vec![key.into()];
    let is = match like {
        JsonLike::Null => "j.type = 'null'",
        JsonLike::True => "j.type = 'true'",
        JsonLike::False => "j.type = 'false'",
        JsonLike::Number(number) => {
            values.extend([number.into(), number.into()]);
            "(j.type = 'integer' AND j.atom = ? OR j.type = 'real' AND j.atom = CAST(? AS real))"
        }
        JsonLike::Text(text) => {
            values.push(text.into());
            "j.type = 'text' AND j.atom = ?"
        }
    };
    Expr::cust_with_values(
        format!("EXISTS (SELECT 1 FROM json_each({column}) AS j WHERE j.key = ? AND {is})"),
        values,
    )
}

/// The day of a time in UTC, as `2026-11-21`.
pub(crate) fn day(backend: DatabaseBackend, time: &str) -> String {
    match backend {
        // The year 0 is 1 before Christ there, and written as the year 1.
        DatabaseBackend::Postgres => format!(
            "CASE WHEN {time} < '0001-01-01T00:00:00Z' THEN '0000' ELSE to_char({time} AT TIME ZONE 'UTC', 'YYYY') END \
             || to_char({time} AT TIME ZONE 'UTC', '-MM-DD')"
        ),
        _ => format!("substr({time}, 1, 10)"),
    }
}

/// A number with at least six digits.
pub(crate) fn padded(backend: DatabaseBackend, number: &str) -> String {
    match backend {
        DatabaseBackend::Postgres => {
            format!("lpad(CAST({number} AS text), GREATEST(6, length(CAST({number} AS text))), '0')")
        }
        _ => format!("CASE WHEN {number} IS NOT NULL THEN printf('%06d', {number}) END"),
    }
}

/// Locks a row so that its updates go on and nothing else comes near it: no deletion, and nobody who locks it to
/// change it. SQLite has no row locks and needs none.
pub(crate) fn beside_updates(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Postgres => "FOR KEY SHARE",
        _ => "",
    }
}

/// The places of the statement's values from `first` to `last`, where each value is used once and all in their order.
///
/// They have no numbers on SQLite: it looks each number up among all before it, so that a statement of thousands would
/// take as long as millions.
pub(crate) fn places(backend: DatabaseBackend, first: usize, last: usize) -> String {
    let place = |number| match backend {
        DatabaseBackend::Postgres => format!("${number}"),
        _ => "?".to_owned(),
    };
    (first..=last).map(place).collect::<Vec<_>>().join(", ")
}

/// The value for a column of words, as the last of the statement's values.
pub(crate) fn words(backend: DatabaseBackend, place: usize) -> String {
    match backend {
        DatabaseBackend::Postgres => format!("CAST(${place} AS tsvector)"),
        _ => "?".to_owned(),
    }
}

/// The texts `d` that have the words of the statement's first value, up to the end of the condition that says so.
pub(crate) fn documents_with_words(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Postgres => "search_documents d WHERE d.words @@ CAST($1 AS tsquery)",
        // A cross join is made in the order in which it is written.
        _ => {
            "search_words CROSS JOIN search_documents d ON d.words = search_words.rowid \
             WHERE search_words MATCH $1"
        }
    }
}

/// Text that is compared byte by byte, whatever the database's language.
pub(crate) fn bytewise(backend: DatabaseBackend, text: &str) -> String {
    match backend {
        DatabaseBackend::Postgres => format!("(({text}) COLLATE \"C\")"),
        _ => format!("({text})"),
    }
}

/// The calls `u` of each thread of a `tree`, however many threads the database guesses that to be: neither is
/// to read all calls there are and look for their threads.
pub(crate) fn each_of(backend: DatabaseBackend) -> &'static str {
    match backend {
        // What has an offset is read for each row.
        DatabaseBackend::Postgres => {
            "tree CROSS JOIN LATERAL (SELECT * FROM usage_records c WHERE c.thread_id = tree.thread_id OFFSET 0) u"
        }
        // A cross join is made in the order in which it is written.
        _ => "tree CROSS JOIN usage_records u",
    }
}

/// A row of a list of spans whose ends are these places of the statement's values.
pub(crate) fn span(backend: DatabaseBackend, first: usize, last: usize) -> String {
    match backend {
        DatabaseBackend::Postgres => format!("(${first}::bigint, ${last}::bigint)"),
        _ => format!("(${first}, ${last})"),
    }
}

/// The messages `e` of the thread `$1` in each of some `spans`, found by the index for each.
pub(crate) fn messages_in_spans(backend: DatabaseBackend) -> &'static str {
    // The category is the partial index's own condition, word for word.
    match backend {
        // What has an offset is read for each row.
        DatabaseBackend::Postgres => {
            "spans CROSS JOIN LATERAL (SELECT * FROM run_events m
                WHERE m.thread_id = $1 AND m.seq >= spans.first AND m.seq <= spans.last
                  AND m.category IN ('message', 'reasoning') OFFSET 0) e"
        }
        // A cross join is made in the order in which it is written.
        _ => {
            "spans CROSS JOIN run_events e ON e.thread_id = $1 AND e.seq >= spans.first
                AND e.seq <= spans.last AND e.category IN ('message', 'reasoning')"
        }
    }
}
