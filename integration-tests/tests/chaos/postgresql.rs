//! PostgreSQL that is paused, killed, cut off, busy, or refuses, while journals write.

use std::time::Duration;

use runledger_integration_tests::fault_table::{Row, is_long};
use runledger_integration_tests::load::Load;
use runledger_integration_tests::postgres::{self, Container};
use runledger_integration_tests::proxy::{Cut, Proxy};
use runledger_migration::UpOptions;
use runledger_persistence::{Config, SqlLedger, connect};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use url::Url;

const BACKEND: &str = "PostgreSQL";

/// Journals that write at once.
const WRITERS: usize = 6;

/// So many events are acknowledged between two faults, so that each meets journals at work.
const BETWEEN: u64 = 60;

/// As many as the form asks for.
fn times(short: u64) -> u64 {
    if is_long() { short * 10 } else { short }
}

async fn open(url: &str) -> SqlLedger {
    connect(Config::new(url)).await.expect("a migrated database")
}

async fn session(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("a connection")
}

async fn run(session: &mut PgConnection, sql: impl Into<String>) {
    session.execute(sqlx::raw_sql(AssertSqlSafe(sql.into()))).await.expect("a statement");
}

/// Ends the load and puts what came of it into the table.
async fn finish(load: Load, quiet: &SqlLedger, fault: &str, injected: u64) {
    let outcome = load.stop(quiet).await.expect("every writer comes to its end");
    crate::say(&format!("{fault}: {} sent again, {} events spooled", outcome.retried, outcome.spooled));
    Row { fault, backend: BACKEND, injected, acknowledged: outcome.acknowledged, audit: &outcome.audit }
        .record();
}

async fn migrated(container: &Container) {
    runledger_migration::up(container.url(), &UpOptions::default()).await.expect("the schema");
}

/// A server that says nothing for a while, and once for longer than it is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn paused_while_journals_write() {
    let Some(container) = postgres::container().await else { return };
    migrated(&container).await;
    let config = Config::new(container.url()).with_statement_timeout(Duration::from_millis(500));
    let (ledger, quiet) = (connect(config).await.expect("a ledger"), open(container.url()).await);
    let load = Load::start(&ledger, &quiet, WRITERS).await.expect("a load");
    let pauses = times(3);
    for pause in 0..pauses {
        load.goes_on(BETWEEN).await;
        container.container().pause().await.expect("a pause");
        // An answer is waited for five seconds longer than a statement may take.
        let silence = if pause == 0 { 7_000 } else { 700 };
        tokio::time::sleep(Duration::from_millis(silence)).await;
        container.container().unpause().await.expect("the end of the pause");
    }
    load.goes_on(BETWEEN).await;
    finish(load, &quiet, "server paused", pauses).await;
}

/// A server that is killed, and started anew on what it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_and_restarted_while_journals_write() {
    let Some(container) = postgres::lasting_container().await else { return };
    migrated(&container).await;
    let ledger = open(container.url()).await;
    let load = Load::start(&ledger, &ledger, WRITERS).await.expect("a load");
    let kills = times(3);
    for _ in 0..kills {
        load.goes_on(BETWEEN).await;
        container.kill_and_restart().await.expect("a restart");
    }
    load.goes_on(BETWEEN).await;
    let quiet = open(container.url()).await;
    finish(load, &quiet, "server killed and restarted", kills).await;
}

/// The database behind a proxy.
fn through(proxy: &Proxy, url: &str) -> String {
    let mut url: Url = url.parse().expect("a URL");
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(proxy.address().port())).expect("a port");
    url.to_string()
}

/// Connections that end at some byte: `cut` is given the number of the connection.
async fn cut_off(fault: &str, cut: fn(u64) -> Cut) {
    let Some(server) = postgres::server() else { return };
    let database = server.database().await;
    let direct: Url = database.url().parse().expect("a URL");
    let address = format!("{}:{}", direct.host_str().unwrap_or("127.0.0.1"), direct.port().unwrap_or(5432));
    let proxy = Proxy::start(address, move |number| Some(cut(number))).await.expect("a proxy");
    let url = through(&proxy, database.url());
    let ledger = loop {
        // Opening is a conversation too, and nobody but us opens it again.
        if let Ok(ledger) = connect(Config::new(&url)).await {
            break ledger;
        }
    };
    let quiet = open(database.url()).await;
    let load = Load::start(&ledger, &quiet, WRITERS).await.expect("a load");
    let wanted = proxy.cuts() + times(40);
    while proxy.cuts() < wanted {
        load.goes_on(1).await;
    }
    load.goes_on(BETWEEN).await;
    finish(load, &quiet, fault, proxy.cuts()).await;
}

/// Half of a statement is delivered, whichever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cut_off_within_a_request() {
    cut_off("connection cut within a request", |number| Cut::Request(2_500 + number * 1_237 % 40_000)).await;
}

/// The statement is delivered, and its answer is not, or half of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cut_off_within_an_answer() {
    cut_off("connection cut within an answer", |number| Cut::Answer(1_500 + number * 613 % 9_000)).await;
}

/// Sessions that an administrator ends, whatever they do at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn terminated_while_journals_write() {
    let Some(server) = postgres::server() else { return };
    let database = server.database().await;
    let ledger = open(database.url()).await;
    let load = Load::start(&ledger, &ledger, WRITERS).await.expect("a load");
    let mut administrator = session(database.url()).await;
    let (wanted, mut terminated) = (times(30).cast_signed(), 0);
    while terminated < wanted {
        load.goes_on(2).await;
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'runledger' \
             AND state <> 'idle' LIMIT 1) AS ended",
        )
        .fetch_one(&mut administrator)
        .await
        .expect("the activity");
        terminated += ended;
    }
    let quiet = open(database.url()).await;
    finish(load, &quiet, "session terminated", terminated.unsigned_abs()).await;
}

/// Heads that somebody else holds for longer than a statement may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn statements_that_take_too_long() {
    let Some(server) = postgres::server() else { return };
    let database = server.database().await;
    let config = Config::new(database.url()).with_statement_timeout(Duration::from_millis(100));
    let (ledger, quiet) = (connect(config).await.expect("a ledger"), open(database.url()).await);
    let load = Load::start(&ledger, &quiet, WRITERS).await.expect("a load");
    let mut other = session(database.url()).await;
    let times = times(4);
    for _ in 0..times {
        load.goes_on(BETWEEN).await;
        run(&mut other, "BEGIN; LOCK TABLE thread_heads IN EXCLUSIVE MODE").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        run(&mut other, "ROLLBACK").await;
    }
    finish(load, &quiet, "statement timeout", times).await;
}

/// Somebody who locks the heads in the other order; the server ends the ledger's transaction each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deadlocks_with_somebody_else() {
    let Some(server) = postgres::server() else { return };
    let database = server.database().await;
    let mut other = session(database.url()).await;
    // A session looks for a deadlock once, so long after it began to wait, and is the one to go if it finds
    // one. The ledger looks after the other has come to wait, and before the other looks.
    run(
        &mut other,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''300ms''', current_database()); \
         END $$; SET deadlock_timeout = '5s'",
    )
    .await;
    // One lane, so that groups have the heads of several threads.
    let config = Config { lanes: 1, ..Config::new(database.url()) };
    let ledger = connect(config).await.expect("a ledger");
    let load = Load::start(&ledger, &ledger, WRITERS).await.expect("a load");
    let wanted = times(3).cast_signed();
    let (mut deadlocks, mut ours) = (0, 0);
    while deadlocks < wanted {
        load.goes_on(1).await;
        let locked = other
            .execute(
                "DO $$ DECLARE head record; BEGIN \
                 FOR head IN SELECT thread_id FROM thread_heads ORDER BY thread_id DESC LOOP \
                 PERFORM FROM thread_heads WHERE thread_id = head.thread_id FOR UPDATE; \
                 PERFORM pg_sleep(0.01); END LOOP; END $$",
            )
            .await;
        if let Err(error) = locked {
            let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
            assert_eq!(code, "40P01", "{error}");
            ours += 1;
        }
        // What a session did is told a little later.
        let told: i64 =
            sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
                .fetch_one(&mut other)
                .await
                .expect("the statistics");
        deadlocks = told - ours;
    }
    finish(load, &ledger, "deadlock with another session", deadlocks.unsigned_abs()).await;
}

/// Where a refusal is raised.
enum Place {
    /// By the statement that writes events.
    Statement,
    /// By the COMMIT.
    Commit,
}

/// Each so many calls fail with one of these codes.
async fn refused(fault: &str, place: Place, codes: &[&str]) {
    let Some(server) = postgres::server() else { return };
    let database = server.database().await;
    let ledger = open(database.url()).await;
    let load = Load::start(&ledger, &ledger, WRITERS).await.expect("a load");
    let mut other = session(database.url()).await;
    let trigger = match place {
        Place::Statement => "CREATE TRIGGER refuse AFTER INSERT ON run_events FOR EACH STATEMENT",
        Place::Commit => {
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON thread_heads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        }
    };
    // A sequence counts on, whatever is taken back.
    run(
        &mut other,
        format!(
            "CREATE SEQUENCE calls; CREATE SEQUENCE refusals;
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE codes text[] := '{{{}}}'; BEGIN
             IF nextval('calls') % 4 = 0 THEN
                 RAISE EXCEPTION 'refused on purpose'
                     USING ERRCODE = codes[1 + nextval('refusals') % array_length(codes, 1)];
             END IF; RETURN NULL; END $$;
             {trigger} EXECUTE FUNCTION refuse()",
            codes.join(",")
        ),
    )
    .await;
    let wanted = times(40).cast_signed();
    let mut refusals: i64 = 0;
    while refusals < wanted {
        load.goes_on(4).await;
        refusals = sqlx::query_scalar("SELECT last_value FROM refusals")
            .fetch_one(&mut other)
            .await
            .expect("a count");
    }
    finish(load, &ledger, fault, refusals.unsigned_abs()).await;
}

/// Serialisation failures, deadlocks and locks that are not to be had.
const AGAIN: [&str; 3] = ["40001", "40P01", "55P03"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refused_for_what_others_do_within_a_statement() {
    refused("40001, 40P01, 55P03 raised by a statement", Place::Statement, &AGAIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refused_for_what_others_do_at_commit() {
    refused("40001, 40P01, 55P03 raised by COMMIT", Place::Commit, &AGAIN).await;
}

/// No room, no memory, cancelled, a failing disk, read-only.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refused_for_want_of_resources() {
    let codes = ["53100", "53200", "57014", "58030", "25006"];
    refused("53100, 53200, 57014, 58030, 25006 raised by a statement", Place::Statement, &codes).await;
}
