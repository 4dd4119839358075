//! What somebody else has locked on PostgreSQL holds up nothing but itself.

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, Category, Commit, EventDraft, EventType, Ledger, NewLease, NewRun, NewThread, RawJson, RunId,
    Scope, ThreadId, WorkerId,
};
use runledger_persistence::{Config, connect};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement, TransactionTrait};

use crate::backend;

const LONG: Duration = Duration::from_secs(3_600);

fn thread(name: &str) -> ThreadId {
    ThreadId::new(name).unwrap()
}

fn note(name: &str) -> Commit {
    let event = EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::null());
    Commit::new(thread(name)).with_events(vec![event])
}

async fn create(ledger: &Ledger, name: &str) {
    ledger.threads().create(&Scope::System, NewThread::new(thread(name))).await.unwrap();
    ledger.events().append(&Scope::System, note(name)).await.unwrap();
}

async fn leased(ledger: &Ledger, name: &str) {
    ledger.threads().create(&Scope::System, NewThread::new(thread(name))).await.unwrap();
    let lease = NewLease { worker_id: WorkerId::new("w").unwrap(), ttl: LONG };
    let admission = Admission { lease: Some(lease), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(thread(name), RunId::new("r").unwrap()) };
    ledger.admit(&Scope::System, new).await.unwrap();
}

async fn number(connection: &impl ConnectionTrait, sql: &str) -> i64 {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// Waits until so many statements of the ledger wait for a lock.
async fn until_they_wait(watch: &DatabaseConnection, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
               AND datname = current_database() AND application_name = 'runledger'";
    while number(watch, sql).await < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_locked_thread_holds_up_no_other() {
    let Some((_, fresh)) = backend::postgresql().await else { return };
    let ledger = connect(Config { lanes: 1, ..Config::new(&fresh.url) }).await.unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    for name in names.iter().map(String::as_str).chain(["held"]) {
        create(&ledger, name).await;
    }
    let other = Database::connect(&fresh.url).await.unwrap();
    let holder = other.begin().await.unwrap();
    holder
        .execute_unprepared("SELECT 1 FROM thread_heads WHERE thread_id = 'held' FOR UPDATE")
        .await
        .unwrap();
    let append = |name: &str| {
        let (ledger, commit) = (ledger.ledger(), note(name));
        tokio::spawn(async move { ledger.events().append(&Scope::System, commit).await })
    };
    let held = [append("held"), append("held")];
    for _ in 0..2 {
        let others: Vec<_> = names.iter().map(|name| append(name)).collect();
        for other in others {
            other.await.unwrap().unwrap();
        }
    }
    assert_eq!(held.iter().map(tokio::task::JoinHandle::is_finished).collect::<Vec<_>>(), [false, false]);
    holder.rollback().await.unwrap();
    let mut seqs = Vec::new();
    for held in held {
        seqs.extend(held.await.unwrap().unwrap().seqs);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, [2, 3]);
    ledger.close().await;
    other.close().await.unwrap();
}

/// Who indexes a thread keeps its head from going, not its log from growing: neither by a plain append nor by an
/// admission, whose head is locked before anything is judged.
#[tokio::test]
async fn a_thread_that_is_indexed_goes_on() {
    let Some((ledger, fresh)) = backend::postgresql().await else { return };
    create(&ledger, "t").await;
    let other = Database::connect(&fresh.url).await.unwrap();
    let indexing = other.begin().await.unwrap();
    indexing
        .execute_unprepared("SELECT 1 FROM thread_heads WHERE thread_id = 't' FOR KEY SHARE")
        .await
        .unwrap();
    ledger.events().append(&Scope::System, note("t")).await.unwrap();
    let admitted = ledger.admit(&Scope::System, NewRun::new(thread("t"), RunId::new("r").unwrap())).await;
    assert_eq!(admitted.unwrap().run.epoch, 1);
    indexing.rollback().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_writer_that_is_never_heard_again_lets_go() {
    let Some((_, fresh)) = backend::postgresql().await else { return };
    let gone = runledger_persistence::Connecting::open(Config::new(&fresh.url)).await.unwrap();
    let ledger = connect(Config::new(&fresh.url)).await.unwrap();
    create(&ledger, "t").await;
    let transaction = gone.database().begin().await.unwrap();
    transaction
        .execute_unprepared("SELECT 1 FROM thread_heads WHERE thread_id = 't' FOR UPDATE")
        .await
        .unwrap();
    let receipt = ledger.events().append(&Scope::System, note("t")).await.unwrap();
    assert_eq!(receipt.seqs, [2]);
    drop(transaction);
}

#[tokio::test]
async fn a_renewal_locks_in_the_order_of_the_ends_and_counts_from_when_it_may() {
    let Some((ledger, fresh)) = backend::postgresql().await else { return };
    // The other way round in the table.
    for name in ["b", "a"] {
        leased(&ledger, name).await;
    }
    let (other, watch) =
        (Database::connect(&fresh.url).await.unwrap(), Database::connect(&fresh.url).await.unwrap());
    let ender = other.begin().await.unwrap();
    ender.execute_unprepared("SELECT 1 FROM run_leases WHERE thread_id = 'a' FOR UPDATE").await.unwrap();
    let renewal = tokio::spawn({
        let ledger = ledger.ledger();
        async move { ledger.runs().renew_leases(&Scope::System, &WorkerId::new("w").unwrap(), LONG).await }
    });
    until_they_wait(&watch, 1).await;
    ender
        .execute_unprepared("SELECT 1 FROM run_leases WHERE thread_id = 'b' FOR UPDATE NOWAIT")
        .await
        .unwrap();
    let micros = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint";
    let freed = number(&ender, micros).await;
    ender.commit().await.unwrap();
    let renewed = renewal.await.unwrap().unwrap();
    assert_eq!(renewed.len(), 2);
    for lease in renewed {
        assert!(lease.expires_at.unix_micros() - freed >= LONG.as_micros() as i64, "{lease:?}");
    }
    other.close().await.unwrap();
    watch.close().await.unwrap();
}

#[tokio::test]
async fn edits_however_long_hold_up_no_renewal() {
    let Some((ledger, fresh)) = backend::postgresql().await else { return };
    leased(&ledger, "t").await;
    for name in ["x", "y"] {
        create(&ledger, name).await;
    }
    let (other, watch) =
        (Database::connect(&fresh.url).await.unwrap(), Database::connect(&fresh.url).await.unwrap());
    let holder = other.begin().await.unwrap();
    let sql = "SELECT 1 FROM thread_heads WHERE thread_id IN ('x', 'y') FOR UPDATE";
    holder.execute_unprepared(sql).await.unwrap();
    let edits = ["x", "y"].map(|name| {
        let ledger = ledger.ledger();
        tokio::spawn(async move { ledger.events().delete_by_thread(&Scope::System, &thread(name)).await })
    });
    until_they_wait(&watch, 2).await;
    let renewed = ledger.runs().renew_leases(&Scope::System, &WorkerId::new("w").unwrap(), LONG).await;
    assert_eq!(renewed.unwrap().len(), 1);
    assert_eq!(edits.each_ref().map(tokio::task::JoinHandle::is_finished), [false, false]);
    holder.rollback().await.unwrap();
    for edit in edits {
        assert_eq!(edit.await.unwrap().unwrap().events, 1);
    }
    other.close().await.unwrap();
    watch.close().await.unwrap();
}
