//! What a deletion of a tree leaves in the tables, and what an archive makes of it.

use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, EventDraft, EventType, Finish, JournalMark, Ledger, ListRange, NewRun, NewThread,
    Outcome, OwnerId, RawJson, RunId, RunProgress, Scope, SourceId, Spawn, ThreadFilter, ThreadId,
    ThreadLifecycle, Timestamp, TokenCounts, UsageDraft,
};
use runledger_persistence::archive::{CopyOptions, Place, copy};
use sea_orm::{ConnectionTrait, Statement};

use crate::backend::{self, Fresh};

fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

fn run() -> RunId {
    RunId::new("r").unwrap()
}

fn alice() -> Scope {
    Scope::Owner(OwnerId::new("alice").unwrap())
}

/// An ended run with a model call of 15 tokens, of which the provider said something.
async fn execute(ledger: &Ledger, id: &str) {
    let epoch = ledger.admit(&alice(), NewRun::new(thread(id), run())).await.unwrap().run.epoch;
    let note = EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::string("x"));
    let mut call = UsageDraft::new(SourceId::new("call").unwrap(), TokenCounts::of(10, 5));
    call.raw = Some(RawJson::empty_object());
    let mut commit = Commit::of_run(thread(id), run()).with_events(vec![note]);
    commit.usage.push(call);
    ledger.events().append(&alice(), commit).await.unwrap();
    let outcome = Outcome::error("failed");
    let finish = Finish {
        thread_id: thread(id),
        run_id: run(),
        mark: JournalMark { epoch, ordinal: 0 },
        events: vec![EventDraft::terminal(&outcome, None, Timestamp::now())],
        outcome,
        at: Timestamp::now(),
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(&alice(), finish).await.unwrap();
}

async fn root(ledger: &Ledger, id: &str) {
    ledger.threads().create(&alice(), NewThread::new(thread(id))).await.unwrap();
    execute(ledger, id).await;
}

async fn child(ledger: &Ledger, parent: &str, id: &str, lifecycle: ThreadLifecycle) {
    let spawn = Spawn::new(thread(parent), run()).with_lifecycle(lifecycle);
    let new = NewThread { spawn: Some(spawn), ..NewThread::new(thread(id)) };
    ledger.threads().create(&alice(), new).await.unwrap();
    execute(ledger, id).await;
}

/// The rows of a statement, their cells as text.
async fn query(url: &str, sql: &str) -> Vec<String> {
    let database = sea_orm::Database::connect(url).await.unwrap();
    let rows =
        database.query_all_raw(Statement::from_string(database.get_database_backend(), sql)).await.unwrap();
    database.close().await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn write(url: &str, sql: &str) {
    let database = sea_orm::Database::connect(url).await.unwrap();
    database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
}

/// What the tree above a thread took, by the heads that outlive their threads.
const SPENT: &str = "WITH RECURSIVE tree(thread_id) AS (
    SELECT thread_id FROM thread_heads WHERE thread_id = 'top'
    UNION SELECT h.thread_id FROM tree JOIN thread_heads h ON h.parent_thread_id = tree.thread_id)
  SELECT CAST(SUM(u.total_tokens) AS text) FROM tree JOIN usage_records u ON u.thread_id = tree.thread_id";

async fn what_was_spent_outlives_the_thread(ledger: &Ledger, fresh: &Fresh) {
    root(ledger, "top").await;
    child(ledger, "top", "middle", ThreadLifecycle::Linked).await;
    child(ledger, "middle", "linked", ThreadLifecycle::Linked).await;
    child(ledger, "middle", "detached", ThreadLifecycle::Detached).await;
    assert_eq!(query(&fresh.url, SPENT).await, ["60"]);
    let deleted = ledger.threads().delete(&alice(), &thread("middle")).await.unwrap();
    assert_eq!((deleted.threads, deleted.usage), (2, 0));
    // Neither what went nor what moved is lost.
    assert_eq!(query(&fresh.url, SPENT).await, ["60"]);
    let said = "SELECT thread_id FROM usage_records WHERE raw IS NOT NULL ORDER BY thread_id";
    assert_eq!(query(&fresh.url, said).await, ["detached", "top"]);
    for table in ["threads", "runs", "run_events", "thread_items", "run_leases", "queued_inputs"] {
        let left = format!("SELECT thread_id FROM {table} WHERE thread_id IN ('middle', 'linked')");
        assert_eq!(query(&fresh.url, &left).await, Vec::<String>::new(), "{table}");
    }
    ledger.threads().delete(&alice(), &thread("detached")).await.unwrap();
    assert_eq!(query(&fresh.url, SPENT).await, ["60"]);
}

#[tokio::test]
async fn what_was_spent_outlives_the_thread_on_sqlite() {
    let (ledger, fresh) = backend::sqlite().await;
    what_was_spent_outlives_the_thread(&ledger, &fresh).await;
}

#[tokio::test]
async fn what_was_spent_outlives_the_thread_on_postgresql() {
    let Some((ledger, fresh)) = backend::postgresql().await else { return };
    what_was_spent_outlives_the_thread(&ledger, &fresh).await;
}

/// What belongs to a run is in tables that only a session writes.
const OF_RUNS: &str = "
    INSERT INTO compactions (thread_id, compact_seq, note_seq, folded, active_window, through_seq, before_tokens,
      after_tokens, run_id, created_at)
    VALUES ('t', 1, 1, '[]', '[]', 1, 2, 1, 'other', '2026-11-21T08:00:00+00:00'),
           ('t', 2, 2, '[]', '[]', 2, 2, 1, 'r', '2026-11-21T08:00:00+00:00');
    INSERT INTO interactions (thread_id, interaction_id, owner_id, run_id, kind, request, status, created_at)
    VALUES ('t', 'i', 'alice', 'r', 'question', '{}', 'open', '2026-11-21T08:00:00+00:00'),
           ('t', 'j', 'alice', 'other', 'question', '{}', 'open', '2026-11-21T08:00:00+00:00');
    INSERT INTO agent_runs (agent_run_id, agent, owner_id, thread_id, run_id, goal, status, iterations, tool_calls,
      input_tokens, output_tokens, started_at, created_at)
    VALUES ('a', 'agent', 'alice', 't', 'r', 'goal', 'completed', 0, 0, 0, 0, '2026-11-21T08:00:00+00:00',
            '2026-11-21T08:00:00+00:00'),
           ('b', 'agent', 'alice', 't', 'other', 'goal', 'completed', 0, 0, 0, 0, '2026-11-21T08:00:00+00:00',
            '2026-11-21T08:00:00+00:00'),
           ('c', 'agent', 'alice', NULL, NULL, 'goal', 'completed', 0, 0, 0, 0, '2026-11-21T08:00:00+00:00',
            '2026-11-21T08:00:00+00:00');
    UPDATE thread_heads SET last_compact_seq = 2 WHERE thread_id = 't'";

/// Whose the rows of each table are, and that they are there.
const OWNED: &str = "
    SELECT 'c' || CAST(compact_seq AS text) FROM compactions
    UNION ALL SELECT interaction_id || ' ' || COALESCE(owner_id, '-') FROM interactions
    UNION ALL SELECT agent_run_id || ' ' || COALESCE(owner_id, '-') FROM agent_runs
    UNION ALL SELECT 'head ' || COALESCE(CAST(last_compact_seq AS text), '-') FROM thread_heads ORDER BY 1";

async fn what_belongs_to_a_run_goes_with_it(ledger: &Ledger, fresh: &Fresh) {
    root(ledger, "t").await;
    write(&fresh.url, OF_RUNS).await;
    let bob = Some(OwnerId::new("bob").unwrap());
    ledger.threads().set_owner(&Scope::System, &thread("t"), bob).await.unwrap();
    let expected = ["a bob", "b bob", "c alice", "c1", "c2", "head 2", "i bob", "j bob"];
    assert_eq!(query(&fresh.url, OWNED).await, expected);
    let deleted = ledger.events().delete_by_run(&Scope::System, &thread("t"), &run()).await.unwrap();
    assert_eq!((deleted.runs, deleted.agent_runs), (1, 1));
    // The window is what it was before that run folded it.
    assert_eq!(query(&fresh.url, OWNED).await, ["b bob", "c alice", "c1", "head 1", "j bob"]);
    let deleted = ledger.threads().delete(&Scope::System, &thread("t")).await.unwrap();
    assert_eq!((deleted.threads, deleted.agent_runs), (1, 1));
    assert_eq!(query(&fresh.url, OWNED).await, ["c alice", "head -"]);
}

#[tokio::test]
async fn what_belongs_to_a_run_goes_with_it_on_sqlite() {
    let (ledger, fresh) = backend::sqlite().await;
    what_belongs_to_a_run_goes_with_it(&ledger, &fresh).await;
}

#[tokio::test]
async fn what_belongs_to_a_run_goes_with_it_on_postgresql() {
    let Some((ledger, fresh)) = backend::postgresql().await else { return };
    what_belongs_to_a_run_goes_with_it(&ledger, &fresh).await;
}

/// A tree goes from one database to another with its tombstones, and what they took.
#[tokio::test]
async fn tombstones_are_copied_with_what_they_took() {
    let (ledger, fresh) = backend::sqlite().await;
    root(&ledger, "top").await;
    child(&ledger, "top", "gone", ThreadLifecycle::Linked).await;
    child(&ledger, "top", "left", ThreadLifecycle::Linked).await;
    ledger.threads().delete(&alice(), &thread("gone")).await.unwrap();
    let (other, of_other) = backend::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    let archives = Place::Folder(folder.path().to_owned());
    let verified = CopyOptions { verify: true, ..CopyOptions::default() };
    for (from, to) in [(Place::Ledger(ledger), archives.clone()), (archives, Place::Ledger(other.clone()))] {
        let report = copy(&from, &to, &verified, |_| {}).await.unwrap();
        assert_eq!((report.copied, report.verified, report.refused), (3, 3, 0), "{report:?}");
    }
    assert_eq!(query(&of_other.url, SPENT).await, ["45"]);
    assert_eq!(query(&of_other.url, SPENT).await, query(&fresh.url, SPENT).await);
    let noted = "SELECT thread_id || ' ' || deleted_by FROM deletions";
    assert_eq!(query(&of_other.url, noted).await, ["gone alice"]);
}

/// A child that was copied without its parent has none to be given to, and none that is missing afterwards.
#[tokio::test]
async fn a_part_of_a_tree_stands_alone() {
    let (ledger, _fresh) = backend::sqlite().await;
    root(&ledger, "top").await;
    child(&ledger, "top", "child", ThreadLifecycle::Linked).await;
    child(&ledger, "child", "kept", ThreadLifecycle::Detached).await;
    let (other, _of_other) = backend::sqlite().await;
    let some = CopyOptions { threads: Some(vec![thread("child"), thread("kept")]), ..CopyOptions::default() };
    copy(&Place::Ledger(ledger), &Place::Ledger(other.clone()), &some, |_| {}).await.unwrap();
    assert_eq!(other.threads().delete(&alice(), &thread("child")).await.unwrap().threads, 1);
    let list = other.threads().list(&alice(), &ThreadFilter::default(), &ListRange::default()).await.unwrap();
    let told: Vec<_> = list.items.iter().map(|it| (it.parent_thread_id.clone(), it.spawn_depth)).collect();
    assert_eq!(told, [(None, 0)]);
}
