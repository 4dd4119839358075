//! Column types give back the values that the stores bind: above all times, truth values and
//! JSON, which SQLite keeps as text and numbers.

use chrono::{DateTime, TimeZone, Utc};
use pretty_assertions::assert_eq;
use runledger_migration::{UpOptions, up};
use sea_orm::{ConnectionTrait, Statement, Value};
use serde_json::{Value as Json, json};

use crate::{database::TestDatabase, on_each_backend};

on_each_backend!(values_come_back_as_they_were_bound, keys_sort_by_their_bytes, times_sort_by_time,);

#[derive(Debug, PartialEq)]
struct AgentRun {
    owner_id: Option<String>,
    goal: String,
    steps: Json,
    input_tokens: i64,
    cost_nanos: Option<i64>,
    confidence: Option<f64>,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

async fn values_come_back_as_they_were_bound(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    let at = Utc.timestamp_micros(1_795_000_000_123_456).unwrap();
    let written = AgentRun {
        owner_id: None,
        goal: "line\u{2028}break, \"quotes\" and \u{1F600}".to_owned(),
        steps: json!([{"n": 1, "nested": {"deep": [null, true, 1.5, "x"]}}]),
        input_tokens: i64::MAX,
        cost_nanos: Some(i64::MIN),
        confidence: Some(0.1),
        started_at: at,
        finished_at: None,
    };
    let connection = database.connect().await;
    insert(
        &connection,
        "agent_runs",
        vec![
            ("agent_run_id", "a".into()),
            ("agent", "agent".into()),
            ("owner_id", written.owner_id.clone().into()),
            ("goal", written.goal.clone().into()),
            ("status", "running".into()),
            ("steps", written.steps.clone().into()),
            ("input_tokens", written.input_tokens.into()),
            ("cost_nanos", written.cost_nanos.into()),
            ("confidence", written.confidence.into()),
            ("started_at", at.into()),
            ("finished_at", written.finished_at.into()),
            ("created_at", at.into()),
        ],
    )
    .await;
    let row = only_row(&connection, "SELECT * FROM agent_runs").await;
    let read = AgentRun {
        owner_id: row.try_get("", "owner_id").unwrap(),
        goal: row.try_get("", "goal").unwrap(),
        steps: row.try_get("", "steps").unwrap(),
        input_tokens: row.try_get("", "input_tokens").unwrap(),
        cost_nanos: row.try_get("", "cost_nanos").unwrap(),
        confidence: row.try_get("", "confidence").unwrap(),
        started_at: row.try_get("", "started_at").unwrap(),
        finished_at: row.try_get("", "finished_at").unwrap(),
    };
    assert_eq!(read, written);
    // What was not bound starts at 0.
    assert_eq!(row.try_get::<i64>("", "tool_calls").unwrap(), 0);

    for truncated in [true, false] {
        let seq = i64::from(truncated);
        insert(&connection, "run_events", event("t", seq, truncated, at)).await;
        let row = only_row(
            &connection,
            &format!("SELECT truncated FROM run_events WHERE thread_id = 't' AND seq = {seq}"),
        )
        .await;
        assert_eq!(row.try_get::<bool>("", "truncated").unwrap(), truncated);
    }
    connection.close().await.unwrap();
}

async fn keys_sort_by_their_bytes(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    let connection = database.connect().await;
    let mut ids = ["b", "B", "a", "_", "Z", "é", "10", "9"];
    for id in ids {
        insert(&connection, "run_events", event(id, 1, false, Utc::now())).await;
    }
    connection.close().await.unwrap();
    ids.sort_unstable();
    let sorted = database.rows("SELECT thread_id FROM run_events ORDER BY thread_id").await;
    assert_eq!(sorted, ids);
}

async fn times_sort_by_time(database: &TestDatabase) {
    up(database.url(), &UpOptions::default()).await.unwrap();
    let connection = database.connect().await;
    let second = 1_795_000_000_000_000;
    // Whole seconds, milliseconds and microseconds have texts of different lengths.
    let micros = [second, second + 1, second + 1_000, second + 999_999, second + 1_000_000];
    for (index, micros) in micros.iter().enumerate().rev() {
        let at = Utc.timestamp_micros(*micros).unwrap();
        let seq = i64::try_from(index).unwrap();
        insert(&connection, "run_events", event("t", seq, false, at)).await;
    }
    connection.close().await.unwrap();
    let sorted = database.rows("SELECT CAST(seq AS text) FROM run_events ORDER BY created_at").await;
    assert_eq!(sorted, ["0", "1", "2", "3", "4"]);
}

fn event(thread: &str, seq: i64, truncated: bool, at: DateTime<Utc>) -> Vec<(&'static str, Value)> {
    vec![
        ("thread_id", thread.into()),
        ("seq", seq.into()),
        ("event_type", "custom".into()),
        ("category", "trace".into()),
        ("content", "{}".into()),
        ("content_bytes", 2i64.into()),
        ("truncated", truncated.into()),
        ("created_at", at.into()),
    ]
}

async fn insert(connection: &impl ConnectionTrait, table: &str, row: Vec<(&str, Value)>) {
    let (columns, values): (Vec<&str>, Vec<Value>) = row.into_iter().unzip();
    let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
    let sql = format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
    let backend = connection.get_database_backend();
    connection.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await.unwrap();
}

async fn only_row(connection: &impl ConnectionTrait, sql: &str) -> sea_orm::QueryResult {
    let backend = connection.get_database_backend();
    let mut rows = connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}
