//! The rows that the plans are asked for.

use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection};

/// Twenty thousand threads of a hundred owners, as many runs, and one thread with a long log.
pub(super) async fn fill(connection: &DatabaseConnection) {
    let is_sqlite = connection.get_database_backend() == DatabaseBackend::Sqlite;
    let (time, far, jsonb, bytes, words) = match connection.get_database_backend() {
        DatabaseBackend::Sqlite => (
            "strftime('%Y-%m-%dT%H:%M:%S+00:00', 1767225600 + i, 'unixepoch')",
            "'2100-01-01T00:00:00+00:00'",
            "'{}'",
            "X'00'",
            "i",
        ),
        _ => (
            "to_timestamp(1767225600 + i)",
            "to_timestamp(4102444800)",
            "CAST('{}' AS jsonb)",
            "'\\x00'",
            "CAST('w' || (i % 1000) || ' w' || (i % 7) AS tsvector)",
        ),
    };
    let numbers =
        |n: u32| format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n}) ");
    let event = "CASE WHEN i % 4 = 0 THEN 'message' ELSE 'trace' END";
    for statement in [
        format!(
            "{} INSERT INTO threads (thread_id, owner_id, status, kind, lifecycle, config, metadata, pinned, created_at, updated_at)
             SELECT 't' || i, 'o' || (i % 100), CASE WHEN i % 3 = 0 THEN 'busy' ELSE 'idle' END, 'root', 'detached',
                    {jsonb}, {jsonb}, i % 50 = 0, {time}, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO thread_heads (thread_id, owner_id, parent_thread_id, state, next_seq, updated_at)
             SELECT 't' || i, 'o' || (i % 100), CASE WHEN i % 10 = 0 THEN 't' || (i / 10) END, 'open', 1, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO runs (thread_id, run_id, owner_id, status, visibility, operation_kind, multitask_strategy,
                                  idempotency_key, metadata, kwargs, epoch, first_seq, last_seq, created_at, updated_at)
             SELECT 't' || (1 + i / 100), 't' || (1 + i / 100) || '-r' || (i % 100), 'o' || ((1 + i / 100) % 100),
                    CASE WHEN i % 5 = 0 THEN 'error' ELSE 'success' END,
                    CASE WHEN i % 50 = 0 THEN 'superseded' ELSE 'shown' END, 'run', 'reject',
                    't' || (1 + i / 100) || '-k' || (i % 100), {jsonb}, {jsonb}, 1, (i % 100) * 100, (i % 100) * 100 + 99,
                    {time}, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO run_events (thread_id, seq, run_id, once_key, event_type, category, item_kind, item_status,
                                        content, content_bytes, truncated, created_at)
             SELECT CASE WHEN i <= 10000 THEN 't1' ELSE 't' || (2 + i % 500) END, i,
                    CASE WHEN i <= 10000 THEN 't1-r' || (i / 100) ELSE 'r' || i END,
                    CASE WHEN i % 100 = 0 THEN 'once-' || i END, 'item.completed', {event}, 'agent_message', 'completed',
                    '\"some content of an event\"', 24, false, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO thread_items (thread_id, run_id, item_id, item_kind, status, started_seq, updated_seq, started_at)
             SELECT CASE WHEN i <= 5000 THEN 't1' ELSE 't' || (2 + i % 500) END, 't1-r' || (i / 50), 't1-i' || i,
                    CASE i % 5 WHEN 0 THEN 'agent_message' ELSE 'tool_call' END, CASE WHEN i % 100 = 0 THEN 'in_progress' WHEN i % 10 = 1 THEN 'failed' ELSE 'completed' END, i * 2, i * 2, {time} FROM n",
            numbers(40_000)
        ),
        format!(
            "{} INSERT INTO usage_records (thread_id, source_id, owner_id, run_id, caller, model, estimated, created_at)
             SELECT CASE WHEN i <= 1000 THEN 't1' ELSE 't' || (2 + i % 500) END, 't1-s' || i, 'o' || (i % 100), 't1-r' || (15 + i % 10),
                    'lead_agent', 'm', false, {time} FROM n",
            numbers(40_000)
        ),
        format!(
            "{} INSERT INTO run_leases (thread_id, run_id, worker_id, epoch, expires_at)
             SELECT 't' || i, 't' || i || '-r1', 'w' || (i % 1000), 1,
                    CASE WHEN i % 500 = 0 THEN {time} ELSE {far} END FROM n",
            numbers(10_000)
        ),
        format!(
            "{} INSERT INTO compactions (thread_id, compact_seq, note_seq, folded, active_window, through_seq,
                                         before_tokens, after_tokens, run_id, created_at)
             SELECT 't' || (1 + i / 10), i, i, '[]', '[]', i, 2, 1, 't1-r' || (i % 100), {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO blobs (thread_id, blob_hash, media_type, bytes, content)
             SELECT CASE WHEN i <= 1000 THEN 't1' ELSE 't' || (2 + i % 500) END, 'sha256:' || i, 'text/plain', 1, {bytes} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO event_blobs (thread_id, seq, blob_hash)
             SELECT CASE WHEN i <= 10000 THEN 't1' ELSE 't' || (2 + i % 500) END, i, 'sha256:' || (1 + i / 10) FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO interactions (thread_id, interaction_id, owner_id, run_id, kind, request, status, created_at)
             SELECT 't' || (1 + i / 100), 't' || (1 + i / 100) || '-q' || (i % 100), 'o' || (i % 100), 'r', 'approval', '{{}}',
                    CASE WHEN i % 3 = 0 THEN 'open' ELSE 'answered' END, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO feedback (thread_id, feedback_id, run_id, item_id, owner_id, rating, created_at, updated_at)
             SELECT 't' || (1 + i / 1000), 't' || (1 + i / 1000) || '-f' || (i % 1000), 't' || (1 + i / 1000) || '-r' || (i % 100),
                    CASE WHEN i % 3 > 0 THEN 't1-i' || i END, CASE WHEN i % 10 > 0 THEN 'o' || i END,
                    CASE WHEN i % 5 = 0 THEN -1 ELSE 1 END, {time}, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO api_tokens (token_id, token_hash, owner_id, created_at)
             SELECT 'k' || i, 'h' || i, 'o' || (i % 2000), {time} FROM n",
            numbers(10_000)
        ),
        format!(
            "{} INSERT INTO import_cursors (source, byte_offset, thread_id, updated_at)
             SELECT 's' || i, i, 't' || i, {time} FROM n",
            numbers(10_000)
        ),
        format!(
            "{} INSERT INTO quarantine (thread_id, quarantine_id, reason, content_hash, created_at)
             SELECT 't' || (1 + i / 100), 't' || (1 + i / 100) || '-b' || (i % 100), 'r', 'h', {time} FROM n",
            numbers(20_000)
        ),
        // Every tenth thread has a parent, and few are ephemeral.
        "UPDATE threads SET parent_thread_id = 't' || (1 + CAST(substr(thread_id, 2) AS bigint) / 100),
           lifecycle = CASE WHEN thread_id LIKE '%00' THEN 'ephemeral' ELSE 'linked' END
         WHERE thread_id LIKE '%0'"
            .to_owned(),
        "UPDATE thread_heads SET parent_thread_id = 't' || (1 + CAST(substr(thread_id, 2) AS bigint) / 100)
         WHERE thread_id LIKE '%0'"
            .to_owned(),
        "UPDATE thread_heads SET state = 'deleted' WHERE thread_id LIKE '%999'".to_owned(),
        format!(
            "{} INSERT INTO deletions (thread_id, from_seq, through_seq, reason, deleted_by, deleted_at)
             SELECT 't' || (1 + i / 100), i, i, 'run deleted', CASE WHEN i % 10 = 0 THEN 'o' || (i / 10) END, {time}
             FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO quarantine (thread_id, quarantine_id, seq, source, reason, content_hash, created_at)
             SELECT 't' || (1 + i / 10), 'log:' || i, i, 'log', 'unreadable', 'sha256:', {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO agent_runs (agent_run_id, agent, owner_id, thread_id, run_id, parent_agent_run_id, goal, status,
                                        steps, started_at, created_at)
             SELECT 'a' || i, 'crew.' || (i % 50), 'o' || (i % 100), 't' || i, 't' || i || '-r1',
                    CASE WHEN i % 10 = 0 THEN 'a' || (i % 100) END, 'a goal', 'completed',
                    CASE WHEN i % 1000 = 0 THEN NULL ELSE {jsonb} END, {time}, {time} FROM n",
            numbers(20_000)
        ),
        format!(
            "{} INSERT INTO search_documents (thread_id, seq, item_kind, created_at, text, words)
             SELECT CASE WHEN i <= 10000 THEN 't1' ELSE 't' || (2 + i % 500) END, i, 'user_message', {time},
                    'w' || (i % 1000) || ' w' || (i % 7), {words} FROM n",
            numbers(20_000)
        ),
        "INSERT INTO search_progress (thread_id, indexed_seq) SELECT thread_id, 1 FROM thread_heads".to_owned(),
    ] {
        connection.execute_unprepared(&statement).await.unwrap();
    }
    if is_sqlite {
        let statement =
            "INSERT INTO search_words (rowid, words) SELECT words, text FROM search_documents".to_owned();
        connection.execute_unprepared(&statement).await.unwrap();
    }
}
