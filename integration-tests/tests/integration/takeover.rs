//! A writer that waited for the head row while somebody took its run away.

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::{
    Category, Commit, ErrorKind, EventDraft, EventType, JournalMark, NewRun, NewThread, RawJson, RunId,
    Scope, ThreadId,
};
use sqlx::{Connection as _, Executor as _, Row as _};

use crate::backend;

/// A takeover holds the head row and has not committed; the stale writer's append waits for it. When the
/// takeover commits, the append must be judged by the row as it is then, and be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stale_write_that_waited_is_refused() {
    let Some(fresh) = backend::postgresql().await else { return };
    let ledger = fresh.ledger();
    let (thread, run) = (ThreadId::generate(), RunId::generate());
    ledger.threads().create(&Scope::System, NewThread::new(thread.clone())).await.expect("a thread");
    let admitted =
        ledger.admit(&Scope::System, NewRun::new(thread.clone(), run.clone())).await.expect("a run");
    let mark = JournalMark { epoch: admitted.run.epoch, ordinal: 0 };

    let mut takeover = sqlx::PgConnection::connect(fresh.database.url()).await.expect("a connection");
    let mut txn = takeover.begin().await.expect("a transaction");
    txn.execute(
        sqlx::query("UPDATE thread_heads SET epoch = epoch + 1 WHERE thread_id = $1").bind(thread.as_str()),
    )
    .await
    .expect("the head row is free");

    let stale = {
        let (ledger, thread, run) = (ledger.clone(), thread.clone(), run.clone());
        tokio::spawn(async move {
            let kind = EventType::new("note").expect("a short label");
            let note = EventDraft::new(kind, Category::Trace, RawJson::null());
            let commit = Commit::of_run(thread, run).with_events(vec![note]).with_mark(mark);
            ledger.events().append(&Scope::System, commit).await
        })
    };
    // The takeover commits only once the other is seen to wait for it.
    let mut watcher = sqlx::PgConnection::connect(fresh.database.url()).await.expect("a connection");
    loop {
        let waiting: i64 = watcher
            .fetch_one(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .await
            .expect("the activity")
            .get(0);
        if waiting > 0 {
            break;
        }
        assert!(!stale.is_finished(), "the stale write did not wait for the head row");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    txn.commit().await.expect("the takeover");

    let refused = stale.await.expect("no panic").expect_err("the epoch is another one");
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    let head = ledger.threads().head(&Scope::System, &thread).await.expect("the head");
    assert_eq!((head.next_seq, head.journal_ordinal), (1, 0), "nothing was written");
}
