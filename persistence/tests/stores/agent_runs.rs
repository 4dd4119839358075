//! Agent runs where only a database can show it: the application's users table, and retention.

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, AgentRunId, AgentRunRecord, Commit, ErrorKind, EventDraft, ItemId, ItemKind, ItemMark,
    ItemStatus, JournalMark, NewAgentRun, NewRun, NewThread, Outcome, OwnerId, RawJson, RunId, Scope,
    ThreadId, Timestamp, Transition,
};
use runledger_migration::{UpOptions, UsersTable, up};
use runledger_persistence::retention::PrunePolicy;
use runledger_persistence::{Config, SqlLedger, connect};
use sea_orm::ConnectionTrait as _;

use crate::backend::{self, Fresh};

fn owner(name: &str) -> Scope {
    Scope::Owner(OwnerId::new(name).unwrap())
}

fn about(id: &str) -> NewAgentRun {
    NewAgentRun::new(AgentRunId::new(id).unwrap(), "buddy", "Find the word")
}

async fn execute(url: &str, sql: &str) {
    let database = sea_orm::Database::connect(url).await.unwrap();
    database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
}

/// The ledger of a database whose agent runs refer to a table of users, Ada among them.
async fn with_users(url: &str) -> SqlLedger {
    execute(url, "CREATE TABLE app_users (id text PRIMARY KEY)").await;
    execute(url, "INSERT INTO app_users VALUES ('ada')").await;
    let users = Some(UsersTable::new("app_users", "id").unwrap());
    up(url, &UpOptions { users, ..UpOptions::default() }).await.unwrap();
    connect(Config::new(url)).await.unwrap()
}

/// TextStack 3.5 #7: an agent run outlives its user, and is the system's then; nobody who is no user gets one.
async fn a_deleted_users_agent_runs_are_the_systems(ledger: &SqlLedger, url: &str) {
    let (ada, eve) = (owner("ada"), owner("eve"));
    let id = AgentRunId::new("a").unwrap();
    let record = || AgentRunRecord::new(about("a"), Timestamp::now()).completed("done", None);
    let refused = ledger.agent_runs().record(&eve, record()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused:?}");
    assert!(refused.to_string().contains("owner_id"), "{refused}");
    let thread = ThreadId::new("t").unwrap();
    let admission = Admission { agent_run: Some(about("b")), ..Admission::default() };
    let create_missing = Some(NewThread::new(thread.clone()));
    let run = RunId::new("r").unwrap();
    let new = NewRun { admission, create_missing, ..NewRun::new(thread, run) };
    let refused = ledger.admit(&eve, new).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused:?}");

    ledger.agent_runs().record(&ada, record()).await.unwrap();
    execute(url, "DELETE FROM app_users WHERE id = 'ada'").await;
    let found = ledger.agent_runs().get(&ada, &id).await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::NotFound);
    let orphan = ledger.agent_run(&Scope::System, &id).await.unwrap();
    assert_eq!((orphan.owner_id, orphan.output.as_deref()), (None, Some("done")));
}

#[tokio::test]
async fn a_deleted_users_agent_runs_are_the_systems_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("ledger.db").display());
    let ledger = with_users(&url).await;
    a_deleted_users_agent_runs_are_the_systems(&ledger, &url).await;
    ledger.close().await;
}

#[tokio::test]
async fn a_deleted_users_agent_runs_are_the_systems_on_postgresql() {
    let Some((fresh, url)) = backend::empty_postgresql().await else { return };
    let ledger = with_users(&url).await;
    a_deleted_users_agent_runs_are_the_systems(&ledger, &url).await;
    ledger.close().await;
    drop(fresh);
}

/// A run whose transcript is only in the log loses none of it; once it is folded, its events go.
async fn a_transcript_in_the_log_is_not_removed(ledger: &SqlLedger, _: &Fresh) {
    let (thread, run) = (ThreadId::new("t").unwrap(), RunId::new("r").unwrap());
    let id = AgentRunId::new("a").unwrap();
    let at = Timestamp::now().before(Duration::from_secs(7_200));
    let admission = Admission { agent_run: Some(about("a")), created_at: at, ..Admission::default() };
    let create_missing = Some(NewThread::new(thread.clone()));
    let new = NewRun { admission, create_missing, ..NewRun::new(thread.clone(), run.clone()) };
    let epoch = ledger.admit(&Scope::System, new).await.unwrap().run.epoch;
    let mark = ItemMark::new(ItemId::new("m").unwrap(), ItemKind::AgentMessage, ItemStatus::Completed);
    let content = RawJson::parse("content", r#"{"content":"three"}"#).unwrap();
    let said = EventDraft::item(mark, runledger_core::Category::Message, content);
    let outcome = Outcome::success();
    // As a process does it that dies right after the end.
    let end = EventDraft { created_at: at, ..EventDraft::terminal(&outcome, None, at) };
    let transition = Some(Transition::Finish { outcome, asks: Vec::new(), at });
    let commit = Commit { transition, ..Commit::of_run(thread, run) }
        .with_events(vec![EventDraft { created_at: at, ..said }, end])
        .with_mark(JournalMark { epoch, ordinal: 0 });
    ledger.events().append(&Scope::System, commit).await.unwrap();

    let policy = PrunePolicy::new(Duration::from_secs(3_600));
    let kept = ledger.prune(&Scope::System, &policy, |_| ()).await.unwrap();
    assert_eq!(kept.removed.events, 0);
    let before = ledger.agent_run(&Scope::System, &id).await.unwrap();
    assert_eq!((before.steps.len(), before.output.as_deref()), (1, Some("three")));

    let folded = ledger.fold_ended(&Scope::System, 10).await.unwrap();
    assert_eq!((folded.folded, folded.failed.len()), (vec![id.clone()], 0));
    let gone = ledger.prune(&Scope::System, &policy, |_| ()).await.unwrap();
    assert_eq!(gone.removed.events, 2);
    assert_eq!(ledger.agent_run(&Scope::System, &id).await.unwrap(), before);
}

#[tokio::test]
async fn a_transcript_in_the_log_is_not_removed_on_sqlite() {
    let (ledger, fresh) = backend::sqlite().await;
    a_transcript_in_the_log_is_not_removed(&ledger, &fresh).await;
    ledger.close().await;
}

#[tokio::test]
async fn a_transcript_in_the_log_is_not_removed_on_postgresql() {
    let Some((ledger, fresh)) = backend::postgresql().await else { return };
    a_transcript_in_the_log_is_not_removed(&ledger, &fresh).await;
    ledger.close().await;
}
