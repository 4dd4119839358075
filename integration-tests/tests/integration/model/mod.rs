//! The model test: whatever is asked, in whatever order, every database answers as memory does.
//!
//! Operations are drawn at random over a handful of ids, so that they meet. [`op`] says what there is and
//! how often, [`world`] makes an operation a call (marks follow from where a journal stands), [`call`]
//! asks it of a ledger. To add one: a variant and a line in `op`, an arm in `world`, and one in `call`.
//!
//! A failure shrinks to the fewest operations that show it and is kept in `model.regressions`, which is
//! tried first from then on. `RUNLEDGER_CHAOS=long` draws many more.

mod call;
mod op;
mod world;

use proptest::test_runner::{Config as Drawing, FileFailurePersistence, TestCaseError, TestRunner};
use runledger_core::{Ledger, MemoryLedger};
use runledger_integration_tests::fault_table::is_long;
use runledger_integration_tests::{TestDatabase, postgres, sqlite};
use runledger_persistence::{Config, SqlLedger, connect};
use tokio::sync::Mutex;

use op::{Op, ops};
use world::World;

/// A ledger that can be closed and opened again.
struct Reopened<'a> {
    database: &'a TestDatabase,
    sql: SqlLedger,
    /// How many cases were played on it: each has ids and owners of its own.
    cases: u64,
}

impl<'a> Reopened<'a> {
    async fn open(database: &'a TestDatabase) -> Self {
        let sql = connect(Config::new(database.url())).await.expect("a migrated database");
        Self { database, sql, cases: 0 }
    }

    async fn reopen(&mut self) {
        self.sql.close().await;
        self.sql = connect(Config::new(self.database.url())).await.expect("a migrated database");
    }
}

/// Asks both ledgers the same and compares the answers.
async fn play(opened: &mut Reopened<'_>, ops: &[Op]) -> Result<(), TestCaseError> {
    opened.cases += 1;
    let mut world = World::new(opened.cases);
    let memory = MemoryLedger::new().ledger();
    for (number, op) in ops.iter().enumerate() {
        if matches!(op, Op::Reopen) {
            opened.reopen().await;
            same(&world, &memory, &opened.sql.ledger()).await?;
            continue;
        }
        let call = world.call(op, &memory).await;
        let expected = call::answer(&memory, &call).await;
        let actual = call::answer(&opened.sql, &call).await;
        if expected != actual {
            let reason = format!("call {number}, {call:?}:\nmemory says {expected}\nthis says   {actual}");
            return Err(TestCaseError::fail(reason));
        }
        world.note(call, &expected);
    }
    same(&world, &memory, &opened.sql.ledger()).await
}

/// Compares everything that is stored.
async fn same(world: &World, memory: &Ledger, other: &Ledger) -> Result<(), TestCaseError> {
    for call in world.everything() {
        let (expected, actual) = (call::answer(memory, &call).await, call::answer(other, &call).await);
        if expected != actual {
            let reason = format!("in the end, {call:?}:\nmemory says {expected}\nthis says   {actual}");
            return Err(TestCaseError::fail(reason));
        }
    }
    Ok(())
}

fn answers_as_memory_does(
    runtime: &tokio::runtime::Runtime,
    database: &TestDatabase,
    backend: &'static str,
    cases: u32,
) {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/model.regressions");
    let drawing = Drawing {
        cases: if is_long() { cases * 20 } else { cases },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        max_shrink_iters: 4_000,
        source_file: Some(file!()),
        ..Drawing::default()
    };
    let opened = Mutex::new(runtime.block_on(Reopened::open(database)));
    let outcome = TestRunner::new(drawing)
        .run(&ops(), |ops| runtime.block_on(async { play(&mut *opened.lock().await, &ops).await }));
    runtime.block_on(async { opened.lock().await.sql.close().await });
    if let Err(failure) = outcome {
        panic!("{backend}: {failure}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn sqlite_answers_as_memory_does() {
    let runtime = runtime();
    let database = runtime.block_on(sqlite::database());
    answers_as_memory_does(&runtime, &database, "SQLite", 48);
}

#[test]
fn postgresql_answers_as_memory_does() {
    let Some(server) = postgres::server() else { return };
    let runtime = runtime();
    let database = runtime.block_on(server.database());
    answers_as_memory_does(&runtime, &database, "PostgreSQL", 32);
}

/// What the model never draws it never tests: each operation is drawn and accepted, each kind of refusal
/// is met, and a good part of everything is accepted.
#[test]
fn what_is_drawn_covers_the_contract() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use std::collections::BTreeMap;

    let mut runner = TestRunner::deterministic();
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    let runtime = runtime();
    for case in 0..60 {
        let drawn = ops().new_tree(&mut runner).expect("operations").current();
        runtime.block_on(async {
            let (mut world, memory) = (World::new(case), MemoryLedger::new().ledger());
            for op in &drawn {
                let call = world.call(op, &memory).await;
                let answer = call::answer(&memory, &call).await;
                let kind = answer.get("error").and_then(|kind| kind.as_str().map(str::to_owned));
                if kind.is_some() {
                    refused += 1
                } else {
                    accepted += 1
                }
                let named = format!("{} {}", op.name(), kind.unwrap_or_else(|| "ok".to_owned()));
                *answers.entry(named).or_default() += 1;
                world.note(call, &answer);
            }
        });
    }
    for name in Op::NAMES {
        let ok = format!("{name} ok");
        assert!(answers.contains_key(&ok), "{name} is never accepted: {answers:#?}");
    }
    for kind in ["conflict", "lease_lost", "not_found", "already_exists", "invalid_input"] {
        assert!(answers.keys().any(|answer| answer.ends_with(kind)), "nothing is ever {kind}: {answers:#?}");
    }
    assert!(accepted * 3 > accepted + refused, "{accepted} accepted, {refused} refused: {answers:#?}");
}
