//! Agent runs: recorded at once or with a run, listed, folded and deleted.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, AgentMatch, AgentRun, AgentRunFilter, AgentRunId, AgentRunRecord, AgentRunStanding,
    AgentRunStatus, AgentRunSummary, AgentStep, AgentUsage, BudgetLimit, Claim, ErrorKind, EventDraft,
    EventType, Finish, FoldedSteps, ItemStatus, Ledger, ListRange, NewAgentRun, NewRun, Outcome, RawJson,
    Scope, StepKind, TokenCounts, event_type,
};

fn agent_run_id(id: &str) -> AgentRunId {
    ok(AgentRunId::new(id))
}

fn about(id: &str, agent: &str) -> NewAgentRun {
    NewAgentRun::new(agent_run_id(id), agent, "Find the \u{1f50e} word")
}

/// A record with two steps, asked for at a given second.
fn record(id: &str, agent: &str, second: i64) -> AgentRunRecord {
    let mut record =
        AgentRunRecord { finished_at: at(second + 3), ..AgentRunRecord::new(about(id, agent), at(second)) };
    let asked =
        r#"{"tool_calls":[{"name":"grep","id":"c1","args":{"b":1.50,"a":[1e3,"\u00e9"]}}],"text":""}"#;
    record.push(StepKind::LlmResponse, json(asked), at(second + 1));
    let returned = r#"{"tool":"grep","ok":true,"result":"3 words","args":{}}"#;
    record.push(StepKind::ToolResult, json(returned), at(second + 2));
    record.usage.input_tokens = 812;
    record.usage.cost_nanos = Some(1_500_000);
    record.model = Some("vendor/model".to_owned());
    record
}

fn completed(id: &str, agent: &str, second: i64) -> AgentRun {
    AgentRun { created_at: at(second), ..record(id, agent, second).completed("three", Some(0.75)) }
}

async fn get(ledger: &Ledger, scope: &Scope, id: &str) -> AgentRun {
    let stored = ok(ledger.agent_runs().get(scope, &agent_run_id(id)).await);
    stored.agent_run
}

async fn list(ledger: &Ledger, scope: &Scope, filter: &AgentRunFilter) -> Vec<String> {
    let page = ok(ledger.agent_runs().list(scope, filter, &ListRange::default()).await);
    page.items.into_iter().map(|run| run.agent_run_id.to_string()).collect()
}

/// A recorded agent run comes back whole: the same by its own row and by the whole reader.
pub async fn a_record_comes_back_whole(ledger: &Ledger) {
    let recorded = ok(ledger.agent_runs().record(&alice(), completed("a", "buddy", 0)).await);
    assert!(recorded.created);
    assert_eq!(recorded.agent_run.owner_id, alice().owner().cloned());
    assert_eq!(
        recorded.agent_run.usage,
        AgentUsage {
            iterations: 1,
            tool_calls: 1,
            input_tokens: 812,
            output_tokens: 0,
            cost_nanos: Some(1_500_000),
            latency_ms: Some(3_000),
        }
    );
    assert_eq!(get(ledger, &alice(), "a").await, recorded.agent_run);
    assert_eq!(ok(ledger.agent_run(&alice(), &agent_run_id("a")).await), recorded.agent_run);
    let payload = recorded.agent_run.steps.first().map(|step| step.payload.as_str());
    let one = r#"{"text":"","tool_calls":[{"args":{"a":[1000,"é"],"b":1.5},"id":"c1","name":"grep"}]}"#;
    assert_eq!(payload, Some(one));
}

/// Textstack 3.4: however an agent run ended, its steps and what it took are kept; only a completed one has an output.
pub async fn every_end_keeps_steps_and_usage(ledger: &Ledger) {
    let ends: [(&str, AgentRun, AgentRunStatus, Option<&str>); 5] = [
        ("a", record("a", "x", 0).completed("done", None), AgentRunStatus::Completed, None),
        (
            "b",
            record("b", "x", 0).budget_exhausted(BudgetLimit::MaxCostNanos),
            AgentRunStatus::BudgetExhausted,
            Some("the run's budget of cost was spent"),
        ),
        ("c", record("c", "x", 0).failed("529"), AgentRunStatus::Failed, Some("529")),
        ("d", record("d", "x", 0).cancelled(), AgentRunStatus::Cancelled, None),
        ("e", record("e", "x", 0).interrupted("killed"), AgentRunStatus::Interrupted, Some("killed")),
    ];
    for (id, end, status, error) in ends {
        ok(ledger.agent_runs().record(&alice(), end).await);
        let stored = get(ledger, &alice(), id).await;
        assert_eq!((&stored.status, stored.error.as_deref()), (&status, error));
        assert_eq!((stored.steps.len(), stored.usage.input_tokens, stored.usage.tool_calls), (2, 812, 1));
        assert_eq!(stored.output.is_some(), status == AgentRunStatus::Completed);
    }
}

/// The same record twice is stored once; another one under its id is refused, and tells nothing.
pub async fn a_record_is_written_once(ledger: &Ledger) {
    let runs = ledger.agent_runs();
    let first = ok(runs.record(&alice(), completed("a", "buddy", 0)).await);
    // It is built anew by a retry: when it was recorded is told by the first.
    let again = AgentRun { created_at: at(99), ..completed("a", "buddy", 0) };
    let second = ok(runs.record(&alice(), again).await);
    assert_eq!((second.created, &second.agent_run), (false, &first.agent_run));
    let other = record("a", "buddy", 0).failed("no");
    assert_eq!(kind(runs.record(&alice(), other).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(runs.record(&mallory(), completed("a", "buddy", 0)).await), ErrorKind::AlreadyExists);
    assert_eq!(get(ledger, &alice(), "a").await, first.agent_run);
}

/// What is no finished record is refused, and says what is wrong with it.
pub async fn a_bad_record_is_refused(ledger: &Ledger) {
    let good = || completed("a", "buddy", 0);
    let step = |index| AgentStep { index, ..good().steps.remove(0) };
    let bad: [(&str, AgentRun); 9] = [
        ("thread_id", AgentRun { thread_id: Some(thread_id("t")), ..good() }),
        ("run_id", AgentRun { run_id: Some(run_id("r")), ..good() }),
        ("status", AgentRun { status: AgentRunStatus::Running, ..good() }),
        ("finished_at", AgentRun { finished_at: None, ..good() }),
        ("output", AgentRun { status: AgentRunStatus::Failed, ..good() }),
        ("agent", AgentRun { agent: String::new(), ..good() }),
        ("confidence", AgentRun { confidence: Some(f64::NAN), ..good() }),
        ("steps", AgentRun { steps: vec![step(0), step(2)], ..good() }),
        ("owner_id", AgentRun { owner_id: mallory().owner().cloned(), ..good() }),
    ];
    for (field, run) in bad {
        let error = refused(ledger.agent_runs().record(&alice(), run).await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
    assert_eq!(list(ledger, &Scope::System, &AgentRunFilter::default()).await, [""; 0]);
}

/// TextStack 3.5 #5: NUL and halves of characters are stored, in texts as a replacement, in steps as they were.
pub async fn what_databases_refuse_is_stored(ledger: &Ledger) {
    let mut odd = record("a", "buddy", 0);
    odd.about.goal = "a\0b".to_owned();
    let payload = "{\"a\\u0000\":\"\\u0000 \\udce9 \\ud83d\\ude00 \u{f5e7}\",\"deep\":".to_owned()
        + &"[".repeat(200)
        + &"]".repeat(200)
        + ",\"large\":1e400000,\"small\":-0.0000001}";
    odd.push(StepKind::Plan, RawJson::from_stored(&payload), at(2));
    let recorded = ok(ledger.agent_runs().record(&alice(), odd.clone().completed("x\0", None)).await);
    let stored = get(ledger, &alice(), "a").await;
    assert_eq!(stored, recorded.agent_run);
    assert_eq!(stored.goal, "a\u{fffd}b [1 NUL character replaced]");
    assert_eq!(stored.output.as_deref(), Some("x\u{fffd} [1 NUL character replaced]"));
    let kept = stored.steps.last().map(|step| step.payload.as_str().to_owned()).unwrap_or_default();
    let begins = "{\"a\\u0000\":\"\\u0000 \\udce9 \u{1f600} \\uf5e7\",\"deep\":[[";
    assert!(
        kept.starts_with(begins) && kept.ends_with("\"large\":\"1e400000\",\"small\":-0.0000001}"),
        "{kept}"
    );
    // Sent again, it is the same.
    assert!(!ok(ledger.agent_runs().record(&alice(), odd.completed("x\0", None)).await).created);
}

/// Who does not own an agent run is answered as if it were not there; one without an owner is the system's.
pub async fn a_foreign_agent_run_is_not_found(ledger: &Ledger) {
    let runs = ledger.agent_runs();
    ok(runs.record(&alice(), completed("a", "buddy", 0)).await);
    ok(runs.record(&Scope::System, completed("nobodys", "buddy", 1)).await);
    for (scope, id) in [(mallory(), "a"), (alice(), "nobodys"), (alice(), "missing")] {
        let id = agent_run_id(id);
        assert_eq!(kind(runs.get(&scope, &id).await), ErrorKind::NotFound);
        assert_eq!(kind(ledger.agent_run(&scope, &id).await), ErrorKind::NotFound);
        assert_eq!(kind(ledger.fold_agent_run(&scope, &id).await), ErrorKind::NotFound);
        assert_eq!(kind(runs.delete(&scope, &id).await), ErrorKind::NotFound);
        let child = NewAgentRun { parent_agent_run_id: Some(id), ..about("child", "x") };
        let child = AgentRunRecord::new(child, at(0)).cancelled();
        assert_eq!(kind(runs.record(&scope, child).await), ErrorKind::NotFound);
    }
    assert_eq!(kind(runs.list_unfolded(&alice(), None, 10).await), ErrorKind::InvalidInput);
    let all = AgentRunFilter::default();
    assert_eq!(list(ledger, &mallory(), &all).await, [""; 0]);
    assert_eq!(list(ledger, &alice(), &all).await, ["a"]);
    assert_eq!(list(ledger, &Scope::System, &all).await, ["nobodys", "a"]);
}

/// TextStack 3.5 #8: lists are pages in order, whose goals are cut, with neither outputs nor steps.
pub async fn agent_runs_are_listed_in_pages(ledger: &Ledger) {
    for (number, agent) in ["buddy", "crew.critic", "crew.writer", "buddy", "crewman"].into_iter().enumerate()
    {
        let id = format!("r{number}");
        let mut new = record(&id, agent, i64::try_from(number / 2).unwrap_or(0));
        new.about.goal = "é".repeat(200);
        new.about.parent_agent_run_id = (number == 4).then(|| agent_run_id("r0"));
        let run = if number == 3 { new.failed("no") } else { new.completed("x", None) };
        let created_at = run.started_at;
        ok(ledger.agent_runs().record(&alice(), AgentRun { created_at, ..run }).await);
    }
    let of = |agent| AgentRunFilter { agent: Some(agent), ..AgentRunFilter::default() };
    let none = AgentRunFilter::default();
    let cases: [(AgentRunFilter, &[&str]); 8] = [
        (none.clone(), &["r4", "r3", "r2", "r1", "r0"]),
        (of(AgentMatch::Exact("buddy".to_owned())), &["r3", "r0"]),
        (of(AgentMatch::Prefix("crew.".to_owned())), &["r2", "r1"]),
        (of(AgentMatch::Prefix("crew".to_owned())), &["r4", "r2", "r1"]),
        (of(AgentMatch::Prefix("%".to_owned())), &[]),
        (AgentRunFilter { status: Some(AgentRunStatus::Failed), ..none.clone() }, &["r3"]),
        (AgentRunFilter { parent_agent_run_id: Some(agent_run_id("r0")), ..none.clone() }, &["r4"]),
        (
            AgentRunFilter { created_from: Some(at(1)), created_before: Some(at(2)), ..none.clone() },
            &["r3", "r2"],
        ),
    ];
    for (filter, expected) in cases {
        for scope in [alice(), Scope::System] {
            let mut found: Vec<AgentRunSummary> = Vec::new();
            let mut range = ListRange::newest(2);
            loop {
                let page = ok(ledger.agent_runs().list(&scope, &filter, &range).await);
                found.extend(page.items);
                match page.next_cursor {
                    Some(cursor) => range.cursor = Some(cursor),
                    None => break,
                }
            }
            let ids: Vec<&str> = found.iter().map(|run| run.agent_run_id.as_str()).collect();
            assert_eq!(ids, expected, "{filter:?}");
            assert!(found.iter().all(|run| run.goal == "é".repeat(120)));
        }
    }
}

fn said(id: &str, text: &str) -> EventDraft {
    EventDraft { content: json(&format!("{{\"content\":\"{text}\"}}")), ..ai(id, "lead_agent") }
}

fn returned(id: &str, status: ItemStatus) -> EventDraft {
    EventDraft {
        content: json(r#"{"name":"grep","args":{"b":2,"a":1.0},"content":"3 words"}"#),
        ..tool_ended(id, status)
    }
}

/// A run that an agent run is of, two steps into it.
async fn working(ledger: &Ledger, id: &str) -> Admitted {
    let t = thread(ledger, &alice(), &format!("t-{id}")).await;
    let admission =
        Admission { agent_run: Some(about(id, "buddy")), created_at: at(0), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(t.clone(), run_id("r")) };
    let run = ok(ledger.admit(&alice(), new).await).run;
    let run = Admitted { thread: t, run: run.run_id, epoch: run.epoch };
    ok(commit(ledger, run.start()).await);
    let mut work = run.commit(
        0,
        vec![said("m1", "let me look"), tool_started("c1"), returned("c1", ItemStatus::Completed)],
    );
    work.usage = vec![call("call", TokenCounts::of(100, 20))];
    ok(commit(ledger, work).await);
    run
}

fn end(run: &Admitted, outcome: Outcome) -> Finish {
    let told = EventDraft {
        event_type: EventType::from_stored(event_type::RUN_OUTPUT),
        content: json(r#"{"output":"three","confidence":0.5}"#),
        ..note("")
    };
    let finish = run.finish(3, outcome);
    let events = [vec![said("m2", "It is three."), told], finish.events].concat();
    Finish { events, ..finish }
}

/// TextStack 3.5 #1, #3: a run's steps are read while it goes on, and what is stored at its end is the same to the byte.
pub async fn live_and_stored_steps_are_the_same(ledger: &Ledger) {
    let (run, id) = (working(ledger, "a").await, agent_run_id("a"));
    let live = ok(ledger.agent_run(&alice(), &id).await);
    assert_eq!((&live.status, live.output.as_deref(), live.steps.len()), (&AgentRunStatus::Running, None, 2));
    assert_eq!((live.usage.iterations, live.usage.tool_calls, live.usage.input_tokens), (1, 1, 100));
    assert_eq!(kind(ledger.fold_agent_run(&alice(), &id).await), ErrorKind::Conflict);
    let row = ok(ledger.agent_runs().get(&alice(), &id).await);
    assert_eq!((row.folded, &row.agent_run.steps), (false, &Vec::new()));
    let summary = row.agent_run.into_summary();
    let standing = ok(ledger.agent_runs().standing(&alice(), &id).await);
    assert_eq!(standing, AgentRunStanding { summary, steps: None });

    let finished = ok(ledger.finish(&alice(), end(&run, Outcome::success())).await);
    assert_eq!(finished.run.agent_run_id, Some(id.clone()));
    let row = ok(ledger.agent_runs().get(&alice(), &id).await);
    assert!(row.folded);
    let stored = ok(ledger.agent_run(&alice(), &id).await);
    assert_eq!(stored, row.agent_run);
    let summary = stored.clone().into_summary();
    let standing = ok(ledger.agent_runs().standing(&alice(), &id).await);
    assert_eq!(standing, AgentRunStanding { summary, steps: Some(stored.steps.len() as u64) });
    assert_eq!(kind(ledger.agent_runs().standing(&mallory(), &id).await), ErrorKind::NotFound);
    let text =
        |steps: &[AgentStep]| steps.iter().map(|step| ok(RawJson::encode("step", step))).collect::<Vec<_>>();
    assert_eq!(text(&stored.steps)[..2], text(&live.steps)[..]);
    let told = (&stored.status, stored.output.as_deref(), stored.confidence);
    assert_eq!(told, (&AgentRunStatus::Completed, Some("three"), Some(0.5)));
    assert_eq!(
        stored.usage,
        AgentUsage {
            iterations: 2,
            tool_calls: 1,
            input_tokens: 100,
            output_tokens: 20,
            cost_nanos: None,
            latency_ms: Some(9_000),
        }
    );
    // Once: nothing that comes later changes it.
    assert!(!ok(ledger.fold_agent_run(&alice(), &id).await));
}

/// However a run ends, its agent run ends with it and keeps what it did.
pub async fn an_agent_run_ends_with_its_run(ledger: &Ledger) {
    for (id, outcome, status) in [
        ("a", Outcome::success(), AgentRunStatus::Completed),
        ("b", Outcome::error("no"), AgentRunStatus::Failed),
        ("c", Outcome::budget_exhausted(BudgetLimit::MaxTokens), AgentRunStatus::BudgetExhausted),
        ("d", Outcome::interrupted(Outcome::CANCELLED), AgentRunStatus::Cancelled),
        ("e", Outcome::interrupted("stopped"), AgentRunStatus::Interrupted),
    ] {
        let run = working(ledger, id).await;
        ok(ledger.finish(&alice(), end(&run, outcome.clone())).await);
        let stored = get(ledger, &alice(), id).await;
        assert_eq!(
            (&stored.status, &stored.error, stored.finished_at),
            (&status, &outcome.error, Some(at(9)))
        );
        assert_eq!((stored.steps.len(), stored.usage.input_tokens), (3, 100));
        assert_eq!(stored.output.is_some(), status == AgentRunStatus::Completed);
    }
}

/// TextStack 3.5 #2, #3: a run whose process is gone is an interrupted agent run with everything it did, its open calls too.
pub async fn a_takeover_keeps_the_transcript(ledger: &Ledger) {
    let run = working(ledger, "a").await;
    let asked = EventDraft { content: json(r#"{"name":"grep","args":{}}"#), ..tool_started("c2") };
    ok(commit(ledger, run.commit(3, vec![asked])).await);
    let outcome = Outcome::interrupted(Outcome::LEASE_EXPIRED);
    let (system, claim) = (Scope::System, Claim::Epoch(run.epoch));
    ok(ledger.interrupt(&system, &run.thread, &run.run, claim, outcome, at(5)).await);
    let row = ok(ledger.agent_runs().get(&alice(), &agent_run_id("a")).await);
    assert_eq!((row.folded, &row.agent_run.status), (true, &AgentRunStatus::Interrupted));
    let kinds: Vec<&str> = row.agent_run.steps.iter().map(|step| step.kind.as_str()).collect();
    assert_eq!(kinds, ["llm_response", "tool_result", "tool_result"]);
    let last = row.agent_run.steps.last().map(|step| step.payload.as_str());
    assert_eq!(last, Some(r#"{"args":{},"call_id":"c2","error":"interrupted","ok":false,"tool":"grep"}"#));
}

/// What nobody folded is found, and folded once, by however many look for it.
pub async fn steps_are_folded_once(ledger: &Ledger) {
    let runs = [working(ledger, "a").await, working(ledger, "b").await];
    for run in &runs {
        // As a process does it that dies right after the end of its run.
        let finish = run.finish(3, Outcome::success());
        let transition =
            Some(crate::Transition::Finish { outcome: finish.outcome, asks: Vec::new(), at: at(9) });
        ok(commit(ledger, crate::Commit { transition, ..run.commit(3, finish.events) }).await);
    }
    let _running = working(ledger, "c").await;
    let unfolded = |found: Vec<crate::Unfolded>| -> Vec<String> {
        found.into_iter().map(|unfolded| unfolded.agent_run_id.to_string()).collect()
    };
    let first = ok(ledger.agent_runs().list_unfolded(&Scope::System, None, 1).await);
    assert_eq!(unfolded(first), ["a"]);
    let after = agent_run_id("a");
    assert_eq!(unfolded(ok(ledger.agent_runs().list_unfolded(&Scope::System, Some(&after), 9).await)), ["b"]);
    let sweeps = (0..4).map(|_| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ok(ledger.fold_ended(&Scope::System, 100).await) })
    });
    let mut folded = Vec::new();
    for sweep in sweeps.collect::<Vec<_>>() {
        match sweep.await {
            Ok(ends) => {
                assert!(ends.failed.is_empty(), "{:?}", ends.failed);
                folded.extend(ends.folded.iter().map(ToString::to_string));
            }
            Err(error) => panic!("a sweep panicked: {error}"),
        }
    }
    folded.sort();
    assert_eq!(folded, ["a", "b"]);
    assert_eq!(get(ledger, &alice(), "a").await.output.as_deref(), Some("let me look"));
}

/// Of many that record under one id, one is stored, and the equal ones are answered with it.
pub async fn one_of_many_records_is_stored(ledger: &Ledger) {
    let recorders = (0..8).map(|number| {
        let ledger = ledger.clone();
        let run = completed("a", if number % 2 == 0 { "even" } else { "odd" }, 0);
        tokio::spawn(async move { ledger.agent_runs().record(&alice(), run).await })
    });
    let (mut created, mut known, mut taken) = (0, 0, 0);
    for recorder in recorders.collect::<Vec<_>>() {
        match recorder.await {
            Ok(Ok(recorded)) if recorded.created => created += 1,
            Ok(Ok(_)) => known += 1,
            Ok(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
                taken += 1;
            }
            Err(error) => panic!("a recorder panicked: {error}"),
        }
    }
    assert_eq!((created, known, taken), (1, 3, 4));
}

/// A delegated agent run is linked by the id of the one that delegated, which the scope must see.
pub async fn a_delegated_agent_run_is_linked(ledger: &Ledger) {
    let _parent = working(ledger, "parent").await;
    for (scope, id, expected) in [(alice(), "child", None), (mallory(), "stolen", Some(ErrorKind::NotFound))]
    {
        let t = thread(ledger, &scope, id).await;
        let parent_agent_run_id = Some(agent_run_id("parent"));
        let child = NewAgentRun { parent_agent_run_id, ..about(id, "crew.critic") };
        let admission = Admission { agent_run: Some(child), ..Admission::default() };
        let admitted = ledger.admit(&scope, NewRun { admission, ..NewRun::new(t, run_id("r")) }).await;
        assert_eq!(admitted.err().map(|error| error.kind()), expected);
    }
    let filter =
        AgentRunFilter { parent_agent_run_id: Some(agent_run_id("parent")), ..AgentRunFilter::default() };
    assert_eq!(list(ledger, &alice(), &filter).await, ["child"]);
    // An id is taken once, by whatever path.
    let taken = ledger.agent_runs().record(&alice(), completed("child", "x", 0)).await;
    assert_eq!(kind(taken), ErrorKind::AlreadyExists);
}

/// An agent run with a thread goes with it; one without is deleted by itself.
pub async fn an_agent_run_is_deleted(ledger: &Ledger) {
    let runs = ledger.agent_runs();
    ok(runs.record(&alice(), completed("a", "buddy", 0)).await);
    ok(runs.delete(&alice(), &agent_run_id("a")).await);
    assert_eq!(kind(runs.get(&Scope::System, &agent_run_id("a")).await), ErrorKind::NotFound);
    let _working = working(ledger, "b").await;
    assert_eq!(kind(runs.delete(&alice(), &agent_run_id("b")).await), ErrorKind::Conflict);
}

/// What is folded must be what a transcript is.
pub async fn a_bad_fold_is_refused(ledger: &Ledger) {
    let _working = working(ledger, "a").await;
    let mut steps = completed("x", "x", 0).steps;
    steps.remove(0);
    let (usage, model) = (AgentUsage::default(), None);
    let folded = FoldedSteps { output: None, steps, usage, model, confidence: None };
    let refused = ledger.agent_runs().fold(&alice(), &agent_run_id("a"), folded).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
}

/// The steps of a run can be followed from any of them to its end, live or stored.
pub async fn steps_are_followed_to_the_end(ledger: &Ledger) {
    use futures_util::StreamExt as _;
    let (run, id) = (working(ledger, "a").await, agent_run_id("a"));
    let poll = std::time::Duration::from_millis(10);
    let live = ok(ledger.follow_steps(&alice(), &id, Some(0), poll).await);
    let finish = end(&run, Outcome::success());
    let ((), steps) =
        tokio::join!(async { drop(ok(ledger.finish(&alice(), finish).await)) }, live.collect::<Vec<_>>());
    let live: Vec<AgentStep> = steps.into_iter().map(ok).collect();
    let stored = get(ledger, &alice(), "a").await.steps;
    assert_eq!(live, stored[1..]);
    let again = ok(ledger.follow_steps(&alice(), &id, Some(0), poll).await);
    assert_eq!(again.map(ok).collect::<Vec<_>>().await, live);
}

/// A reader that was slow learns that the agent run is gone with the run it was of.
pub async fn following_steps_ends_with_the_agent_run(ledger: &Ledger) {
    use futures_util::StreamExt as _;
    let (run, id) = (working(ledger, "a").await, agent_run_id("a"));
    let mut steps = ok(ledger.follow_steps(&alice(), &id, None, std::time::Duration::from_millis(10)).await);
    assert_eq!(steps.next().await.map(ok).map(|step| step.index), Some(0));
    ok(ledger.finish(&alice(), end(&run, Outcome::success())).await);
    ok(ledger.events().delete_by_run(&alice(), &run.thread, &run.run).await);
    let rest: Vec<_> = steps.collect().await;
    let told: Vec<_> = rest.iter().map(|step| step.as_ref().map_or(None, |step| Some(step.index))).collect();
    assert_eq!(told, [Some(1), None]);
    assert_eq!(
        rest.into_iter().filter_map(Result::err).map(|error| error.kind()).next(),
        Some(ErrorKind::NotFound)
    );
}
