//! A few days of agents at work: threads of each kind and end, for looking at.

use std::time::Duration;

use runledger_core::{
    Admission, AgentRunId, AssistantId, Budget, InteractionId, ItemId, ItemKind, ItemStatus, Ledger,
    NewAgentRun, NewInteraction, NewThread, Outcome, RunId, Scope, Spawn, ThreadId, ThreadLifecycle,
    Timestamp, TokenCounts,
};
use serde_json::json;

use crate::script::{Script, json_of};

const BIG: &str = "sonnet-large-2026";
const SMALL: &str = "haiku-small-2026";

fn ago(minutes: u64) -> Timestamp {
    Timestamp::now().before(Duration::from_secs(minutes * 60))
}

fn thread(id: &str, title: &str, assistant: &str) -> NewThread {
    NewThread {
        display_name: Some(title.to_owned()),
        assistant_id: Some(AssistantId::new(assistant).unwrap()),
        metadata: json_of(&json!({ "team": assistant, "priority": 2 })),
        ..NewThread::new(ThreadId::new(id).unwrap())
    }
}

fn asked(at: Timestamp, model: &str) -> Admission {
    Admission { created_at: at, model_name: Some(model.to_owned()), ..Admission::default() }
}

fn tokens(input: u64, output: u64) -> TokenCounts {
    TokenCounts { cache_read: input * 2 / 3, reasoning: output / 4, ..TokenCounts::of(input, output) }
}

/// Tells all of it.
pub(crate) async fn tell(ledger: &Ledger, scope: &Scope) {
    history(ledger, scope).await;
    research(ledger, scope).await;
    failing(ledger, scope).await;
    asking(ledger, scope).await;
    goal(ledger, scope).await;
    coding(ledger, scope).await;
    live(ledger, scope).await;
}

/// Short runs of the last weeks, so that charts and lists have something.
async fn history(ledger: &Ledger, scope: &Scope) {
    for day in 1..24_u64 {
        for number in 0..(day * 7 % 4) {
            let at = ago(day * 1_440 + number * 97);
            let id = format!("daily-{day:02}");
            let thread = thread(&id, &format!("Morning report {day}"), "reporter");
            let model = if (day + number).is_multiple_of(3) { SMALL } else { BIG };
            let mut run = Script::begin(
                ledger,
                scope,
                thread,
                &format!("report-{day}-{number}"),
                "What changed since yesterday?",
                asked(at, model),
            )
            .await;
            run.says(
                "answer",
                model,
                "Two merges, one flaky test, and the nightly benchmark is 3 % faster.",
                1_900,
            )
            .await;
            let input = 4_000 + day * 911 + number * 2_000;
            run.used(
                "call",
                model,
                tokens(input, input / 9),
                Some(input * if model == BIG { 3_400 } else { 420 }),
            );
            run.finish(Outcome::success()).await;
        }
    }
}

async fn coding(ledger: &Ledger, scope: &Scope) {
    let id = "0199f2a4-7c11-7f2e-9a55-4f0b6c1d2e3f";
    let title = "Fix the flaky retry test";
    let at = ago(52);
    let said = "The test `retries_are_bounded` fails about once in fifty runs. Find out why and fix it, please.\n\nDo not just raise the timeout.";
    let mut run = Script::begin(
        ledger,
        scope,
        thread(id, title, "coder"),
        "0199f2a4-8001-7aaa-8bbb-0000000000a1",
        said,
        asked(at, BIG),
    )
    .await;
    run.thinks("think-1", "The test is flaky, so the first thing is to see how it decides that a retry happened. It probably reads a wall clock.\n\nI should look at the test, then at the backoff, and run it in a loop to see the failure myself before changing anything.").await;
    run.says("say-1", BIG, "I'll look at the test and reproduce the failure first.", 2_100).await;
    run.call("call-1", ItemKind::CommandExecution,
        json!({ "name": "shell", "args": { "command": "rg -n retries_are_bounded -A 30 src" }, "detail": { "command": ["rg", "-n", "retries_are_bounded", "-A", "30", "src"], "cwd": "/srv/retry", "exit_code": 0 } }),
        json!({ "content": "src/retry.rs:212:    async fn retries_are_bounded() {\nsrc/retry.rs-213-        let began = Instant::now();\nsrc/retry.rs-214-        let calls = Counter::default();\nsrc/retry.rs-215-        let result = retry(Backoff::new(10), || calls.fail()).await;\nsrc/retry.rs-216-        assert!(result.is_err());\nsrc/retry.rs-217-        assert_eq!(calls.count(), 5);\nsrc/retry.rs-218-        assert!(began.elapsed() < Duration::from_millis(200));\nsrc/retry.rs-219-    }" }), 140).await;
    run.call("call-2", ItemKind::CommandExecution,
        json!({ "name": "shell", "args": {}, "detail": { "command": ["bash", "-c", "for i in $(seq 60); do cargo test -q retries_are_bounded || break; done"], "cwd": "/srv/retry", "exit_code": 101 } }),
        json!({ "content": (1..38).map(|n| format!("test retry::tests::retries_are_bounded ... ok ({n}/60)\n")).collect::<String>() + "test retry::tests::retries_are_bounded ... FAILED\n\nassertion failed: began.elapsed() < Duration::from_millis(200)", "error": { "type": "ExitStatus", "message": "exit code 101" } }), 48_300).await;
    run.thinks("think-2", "Reproduced at the 38th run. elapsed() depends on the machine: it is the wall clock. The fix is paused time.").await;
    run.call("call-3", ItemKind::FileChange,
        json!({ "name": "apply_patch", "args": {}, "detail": { "changes": {
            "src/retry.rs": { "type": "update", "unified_diff": "@@ -210,11 +210,12 @@\n-    #[tokio::test]\n+    #[tokio::test(start_paused = true)]\n     async fn retries_are_bounded() {\n-        let began = Instant::now();\n+        let began = tokio::time::Instant::now();\n         let calls = Counter::default();\n         let result = retry(Backoff::new(10), || calls.fail()).await;\n         assert!(result.is_err());\n         assert_eq!(calls.count(), 5);\n-        assert!(began.elapsed() < Duration::from_millis(200));\n+        assert_eq!(began.elapsed(), Duration::from_millis(150));" },
            "CHANGELOG.md": { "type": "add", "content": "## Unreleased\n\n- The bound of retries is tested in virtual time.\n" } } } }),
        json!({ "content": "Applied to 2 files." }), 60).await;
    run.call("call-4", ItemKind::WebSearch,
        json!({ "name": "web_search", "args": { "query": "tokio test start_paused Instant elapsed" }, "detail": { "query": "tokio test start_paused Instant elapsed" } }),
        json!({ "content": "1. tokio::time::pause - Pauses time. The current value of Instant::now() is saved and all subsequent calls return it.\n2. Unit Testing - Tokio: pausing and resuming time in tests" }), 820).await;
    run.item("plan-1", ItemKind::Plan, ItemStatus::Completed, json!({ "text": "1. Pause time in the test\n2. Compare the whole duration instead of a bound\n3. Run it 500 times" })).await;
    run.call("call-5", ItemKind::ToolCall,
        json!({ "name": "run_tests", "args": { "filter": "retries_are_bounded", "times": 500, "features": ["test-util", "rt"], "env": { "RUST_BACKTRACE": "0", "CI": "true" } } }),
        json!({ "content": "500 passed, 0 failed in 3.1 s" }), 3_100).await;
    run.says("say-2", BIG, "## What was wrong\n\nThe test measured **wall-clock time**: on a busy machine five backoffs of 10 ms took longer than its bound of 200 ms. The code under test was right.\n\n## What I changed\n\n- `retries_are_bounded` runs with paused time (`start_paused = true`), so `elapsed()` is exact.\n- It compares the whole duration, `150 ms`, instead of an upper bound.\n\n```rust\n#[tokio::test(start_paused = true)]\nasync fn retries_are_bounded() {\n    let began = tokio::time::Instant::now();\n    // ...\n    assert_eq!(began.elapsed(), Duration::from_millis(150));\n}\n```\n\nIt passed 500 times in a row.", 6_400).await;
    run.used("1", BIG, tokens(41_200, 1_900), Some(184_000_000));
    run.used("2", SMALL, tokens(8_100, 240), Some(3_900_000));
    run.finish(Outcome::success()).await;

    let mut run = Script::begin(
        ledger,
        scope,
        thread(id, title, "coder"),
        "0199f2a4-8002-7aaa-8bbb-0000000000a2",
        "Thanks! Are there other tests like it?",
        asked(ago(31), BIG),
    )
    .await;
    run.says("say-3", BIG, "I'll let a sub-agent look through the other crates.", 1_200).await;
    run.item("delegate-1", ItemKind::ToolCall, ItemStatus::InProgress, json!({ "name": "delegate", "args": { "agent": "auditor", "task": "Find tests that compare wall-clock time with a bound" } })).await;
    let spawn =
        Spawn::new(ThreadId::new(id).unwrap(), RunId::new("0199f2a4-8002-7aaa-8bbb-0000000000a2").unwrap())
            .by_item(ItemId::new("delegate-1").unwrap())
            .with_lifecycle(ThreadLifecycle::Linked);
    let child = NewThread {
        spawn: Some(spawn),
        ..thread("0199f2a4-9001-7aaa-8bbb-0000000000c1", "Audit of timed tests", "auditor")
    };
    let mut sub = Script::begin(
        ledger,
        scope,
        child,
        "audit-1",
        "Find tests that compare wall-clock time with a bound",
        asked(ago(30), SMALL),
    )
    .await;
    sub.call(
        "grep",
        ItemKind::ToolCall,
        json!({ "name": "grep", "args": { "pattern": "elapsed\\(\\) <" } }),
        json!({ "content": "core/src/pool.rs:88\nhttp/tests/idle.rs:41" }),
        90,
    )
    .await;
    sub.says("found", SMALL, "Two: `core/src/pool.rs:88` and `http/tests/idle.rs:41`. Both assert an upper bound of wall-clock time.", 2_700).await;
    sub.used("1", SMALL, tokens(12_000, 420), Some(6_100_000));
    sub.finish(Outcome::success()).await;
    run.wait(64_000);
    run.item("delegate-1", ItemKind::ToolCall, ItemStatus::Completed, json!({ "name": "delegate", "args": { "agent": "auditor", "task": "Find tests that compare wall-clock time with a bound" }, "content": "Two tests: core/src/pool.rs:88 and http/tests/idle.rs:41", "duration_ms": 64000 })).await;
    run.says(
        "say-4",
        BIG,
        "Yes, two: `core/src/pool.rs:88` and `http/tests/idle.rs:41`. The same change fixes them; shall I?",
        1_800,
    )
    .await;
    run.used("1", BIG, tokens(52_000, 800), Some(201_000_000));
    run.finish(Outcome::success()).await;
}

async fn research(ledger: &Ledger, scope: &Scope) {
    let thread = thread(
        "0199f1b0-1111-7000-8000-000000000b01",
        "Vector index options for 40 M rows, with filters that change often",
        "researcher",
    );
    let mut run = Script::begin(
        ledger,
        scope,
        thread,
        "0199f1b0-1111-7000-8000-000000000b02",
        "Compare HNSW and IVF for 40 million rows with metadata filters. One page, with sources.",
        asked(ago(340), BIG),
    )
    .await;
    run.item(
        "hook",
        ItemKind::HookPrompt,
        ItemStatus::Completed,
        json!({ "content": "The workspace allows web access to documentation only." }),
    )
    .await;
    for number in 1..5 {
        let id = format!("search-{number}");
        run.call(&id, ItemKind::McpToolCall,
            json!({ "name": "search", "args": { "query": format!("hnsw ivf filtered search part {number}"), "limit": 10 }, "detail": { "server": "papers" } }),
            json!({ "content": "Filtered approximate nearest neighbour search: a survey\nGraph indexes under deletion\nInverted files revisited" }), 640 * number).await;
    }
    run.item("fold", ItemKind::ContextCompaction, ItemStatus::Completed, json!({ "content": "Summary of what was read so far: HNSW keeps recall under unselective filters and costs memory; IVF is cheaper to rebuild." })).await;
    run.says("answer", BIG, &format!("# HNSW or IVF\n\n{}", "HNSW keeps its recall where filters are unselective and takes about 1.5 times the memory. IVF rebuilds in minutes, which matters where the filter's columns change often.\n\n".repeat(6)), 9_300).await;
    run.used("1", BIG, tokens(183_000, 6_300), Some(912_000_000));
    run.finish(Outcome::success()).await;
}

async fn failing(ledger: &Ledger, scope: &Scope) {
    let thread = thread("0199f1c0-2222-7000-8000-000000000c01", "Nightly import", "importer");
    let budget = Budget { max_tokens: Some(20_000), ..Budget::default() };
    let admission = Admission { budget, ..asked(ago(190), SMALL) };
    let mut run = Script::begin(
        ledger,
        scope,
        thread,
        "0199f1c0-2222-7000-8000-000000000c02",
        "Import last night's files and tell me what was skipped.",
        admission,
    )
    .await;
    run.call("fetch", ItemKind::ToolCall, json!({ "name": "fetch", "args": { "url": "sftp://files.example.org/nightly/2026-11-21" } }),
        json!({ "error": { "type": "ConnectionRefused", "message": "files.example.org:22 refused the connection\nafter 3 tries in 12 s" } }), 12_400).await;
    run.says(
        "say",
        SMALL,
        "The server refuses connections. I stop here, so that nothing is imported by half.",
        900,
    )
    .await;
    run.used("1", SMALL, tokens(3_000, 120), None);
    run.finish(Outcome::error(
        "fetch failed: files.example.org:22 refused the connection after 3 tries in 12 s",
    ))
    .await;
}

async fn asking(ledger: &Ledger, scope: &Scope) {
    let thread = thread("0199f1d0-3333-7000-8000-000000000d01", "Clean up old branches", "coder");
    let mut run = Script::begin(
        ledger,
        scope,
        thread,
        "0199f1d0-3333-7000-8000-000000000d02",
        "Delete the branches that were merged more than a year ago.",
        asked(ago(75), BIG),
    )
    .await;
    run.says(
        "say",
        BIG,
        "There are 41 such branches. Deleting them cannot be undone, so I ask first.",
        1_400,
    )
    .await;
    run.asks(NewInteraction {
        interaction_id: InteractionId::new("approve-41").unwrap(),
        kind: "approval".to_owned(),
        request: json_of(&json!({ "question": "Delete 41 merged branches?", "options": ["yes", "no", "only those of bots"] })),
        item_id: None,
    });
    run.used("1", BIG, tokens(9_000, 300), Some(31_000_000));
    run.finish(Outcome::interrupted(Outcome::WAITING_FOR_INPUT)).await;
}

async fn goal(ledger: &Ledger, scope: &Scope) {
    let thread = thread("0199f1e0-4444-7000-8000-000000000e01", "Study plan", "study_buddy");
    let agent = NewAgentRun::new(
        AgentRunId::new("0199f1e0-4444-7000-8000-000000000e03").unwrap(),
        "study_buddy",
        "Make a study plan for linear algebra in four weeks, two hours a day",
    );
    let admission = Admission { agent_run: Some(agent), ..asked(ago(128), BIG) };
    let mut run = Script::begin(
        ledger,
        scope,
        thread,
        "0199f1e0-4444-7000-8000-000000000e02",
        "Make a study plan for linear algebra in four weeks.",
        admission,
    )
    .await;
    run.says("plan", BIG, "I look up which chapters build on which.", 1_700).await;
    run.call("chapters", ItemKind::ToolCall, json!({ "name": "chapters", "args": { "book": "Linear Algebra Done Right" } }), json!({ "content": "1 Vector Spaces\n2 Finite-Dimensional Vector Spaces\n3 Linear Maps\n4 Polynomials\n5 Eigenvalues" }), 210).await;
    run.says(
        "answer",
        BIG,
        "Week 1: chapters 1 and 2. Week 2: chapter 3. Week 3: chapter 5. Week 4: exercises.",
        3_300,
    )
    .await;
    run.used("1", BIG, tokens(15_000, 900), Some(58_000_000));
    run.finish(Outcome::success()).await;
}

async fn live(ledger: &Ledger, scope: &Scope) {
    let thread =
        thread("0199f300-5555-7000-8000-000000000f01", "Upgrade to the new database driver", "coder");
    let mut run = Script::begin(
        ledger,
        scope,
        thread,
        "0199f300-5555-7000-8000-000000000f02",
        "Upgrade the driver to version 9 and fix what breaks.",
        asked(ago(2), BIG),
    )
    .await;
    run.says("say", BIG, "I change the version and see what the compiler says.", 1_100).await;
    run.item("build", ItemKind::CommandExecution, ItemStatus::InProgress, json!({ "name": "shell", "args": {}, "detail": { "command": ["cargo", "check", "--workspace"], "cwd": "/srv/app" } })).await;
    let pin = runledger_core::ThreadPatch { pinned: Some(true), ..Default::default() };
    // A ledger that keeps no pins shows the thread among the others.
    drop(
        ledger
            .threads()
            .update(
                scope,
                &ThreadId::new("0199f2a4-7c11-7f2e-9a55-4f0b6c1d2e3f").unwrap(),
                pin,
                Timestamp::now(),
            )
            .await,
    );
}
