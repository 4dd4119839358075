//! Model calls and what they add up to.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Caller, Commit, ErrorKind, Ledger, MAX_COST_NANOS, MAX_COUNT, ModelUsage, Outcome, RunTotals, Scope,
    TokenCounts, UsageDraft,
};

fn by(caller: &str, model: Option<&str>, draft: UsageDraft) -> UsageDraft {
    UsageDraft { caller: ok(Caller::new(caller)), model: model.map(str::to_owned), ..draft }
}

fn using(run: &Admitted, calls: Vec<UsageDraft>) -> Commit {
    Commit { usage: calls, ..run.commit(0, Vec::new()) }
}

/// Everything of a call comes back.
pub async fn a_call_comes_back_whole(ledger: &Ledger) {
    let run = running(ledger).await;
    thread(ledger, &Scope::System, "child").await;
    let tokens =
        TokenCounts { input: 100, output: 50, total: 150, cache_read: 40, cache_write: 10, reasoning: 20 };
    let draft = UsageDraft {
        round_index: Some(3),
        caller: ok(Caller::new("subagent:x")),
        provider: Some("p".to_owned()),
        model: Some("m".to_owned()),
        cost_nanos: Some(1_234_567),
        price_table: Some("2026-11".to_owned()),
        estimated: true,
        latency_ms: Some(42),
        child_thread_id: Some(thread_id("child")),
        raw: Some(json(r#"{"total_tokens":150.0}"#)),
        ..call("c", tokens)
    };
    ok(commit(ledger, using(&run, vec![draft.clone()])).await);
    let stored = ok(ledger.usage().list_by_run(&Scope::System, &run.thread, &run.run, None, 10).await);
    let expected = crate::UsageRecord {
        thread_id: run.thread.clone(),
        source_id: draft.source_id,
        owner_id: None,
        run_id: Some(run.run.clone()),
        round_index: draft.round_index,
        caller: draft.caller,
        provider: draft.provider,
        model: draft.model,
        tokens: draft.tokens,
        cost_nanos: draft.cost_nanos,
        price_table: draft.price_table,
        estimated: draft.estimated,
        latency_ms: draft.latency_ms,
        child_thread_id: draft.child_thread_id,
        raw: draft.raw,
        created_at: draft.created_at,
    };
    assert_eq!(stored, [expected]);
}

/// A run's totals are the sum of its calls, each in its caller's bucket.
pub async fn totals_are_the_sum_of_the_calls(ledger: &Ledger) {
    let run = running(ledger).await;
    let tokens = TokenCounts { cache_read: 5, cache_write: 2, reasoning: 3, ..TokenCounts::of(10, 4) };
    let calls = vec![
        UsageDraft { cost_nanos: Some(7), ..by("lead_agent", None, call("a", tokens)) },
        by("subagent:x", None, call("b", TokenCounts::of(100, 1))),
        by("middleware:title", None, call("c", TokenCounts::of(1_000, 2))),
        by("something", None, call("d", TokenCounts::default())),
    ];
    ok(commit(ledger, using(&run, calls)).await);
    let expected = RunTotals {
        input_tokens: 1_110,
        output_tokens: 7,
        total_tokens: 1_117,
        cache_read_tokens: 5,
        cache_write_tokens: 2,
        reasoning_tokens: 3,
        llm_calls: 4,
        lead_agent_tokens: 14,
        subagent_tokens: 101,
        middleware_tokens: 1_002,
        cost_nanos: 7,
    };
    assert_eq!(run_of(ledger, &run).await.totals, expected);
    assert_eq!(ok(ledger.usage().by_run(&Scope::System, &run.thread, &run.run).await).totals, expected);
}

/// A call that is reported twice counts once, in one commit or in two.
pub async fn a_call_counts_once(ledger: &Ledger) {
    let run = running(ledger).await;
    let reported = call("a", TokenCounts::of(1, 2));
    ok(commit(ledger, using(&run, vec![reported.clone(), reported.clone()])).await);
    ok(commit(ledger, using(&run, vec![UsageDraft { tokens: TokenCounts::of(9, 9), ..reported }])).await);
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.total_tokens, totals.llm_calls), (3, 1));
}

/// A call whose tokens were not known is completed once.
pub async fn an_empty_call_is_completed_once(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, using(&run, vec![call("a", TokenCounts::default())])).await);
    let late = by("lead_agent", Some("m"), call("a", TokenCounts::of(5, 6)));
    ok(commit(ledger, using(&run, vec![late.clone()])).await);
    ok(commit(ledger, using(&run, vec![UsageDraft { tokens: TokenCounts::of(50, 60), ..late }])).await);
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.total_tokens, totals.llm_calls, totals.lead_agent_tokens), (11, 1, 11));
    let stored = ok(ledger.usage().list_by_run(&Scope::System, &run.thread, &run.run, None, 10).await);
    assert_eq!(
        stored.first().map(|call| (call.tokens, call.model.as_deref())),
        Some((TokenCounts::of(5, 6), Some("m")))
    );
}

/// Completed within the commit that reported it.
pub async fn an_empty_call_is_completed_in_its_own_commit(ledger: &Ledger) {
    let run = running(ledger).await;
    let calls = vec![call("a", TokenCounts::default()), call("a", TokenCounts::of(5, 6))];
    ok(commit(ledger, using(&run, calls)).await);
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.total_tokens, totals.llm_calls), (11, 1));
}

/// A completion that comes from another run, by another caller, leaves the call where it was
/// counted first, and nothing known of it is lost.
pub async fn a_completed_call_stays_its_runs_own(ledger: &Ledger) {
    let first = running(ledger).await;
    let cached = TokenCounts { cache_read: 7, ..TokenCounts::default() };
    let early = UsageDraft {
        cost_nanos: Some(5),
        round_index: Some(1),
        created_at: at(1),
        ..by("subagent:x", None, call("a", cached))
    };
    ok(commit(ledger, using(&first, vec![early])).await);
    finish(ledger, &first, 0).await;
    let second = admit(ledger, &first.thread, "r2").await;
    let late = UsageDraft {
        cost_nanos: Some(3),
        created_at: at(2),
        ..by("lead_agent", Some("m"), call("a", TokenCounts::of(5, 6)))
    };
    ok(commit(ledger, using(&second, vec![late])).await);
    let (one, two) = (run_of(ledger, &first).await.totals, run_of(ledger, &second).await.totals);
    assert_eq!(two, RunTotals::default());
    assert_eq!((one.total_tokens, one.subagent_tokens, one.lead_agent_tokens), (11, 11, 0));
    assert_eq!((one.cache_read_tokens, one.cost_nanos, one.llm_calls), (7, 5, 1));
    for (run, totals) in [(&first, one), (&second, two)] {
        assert_eq!(ok(ledger.usage().by_run(&Scope::System, &run.thread, &run.run).await).totals, totals);
    }
    let stored = ok(ledger.usage().list_by_run(&Scope::System, &first.thread, &first.run, None, 10).await);
    let stored = stored.first().map(|call| (call.created_at, call.round_index, call.model.as_deref()));
    assert_eq!(stored, Some((at(1), Some(1), Some("m"))));
}

/// Where a provider gave no total, it is input and output.
pub async fn a_total_of_zero_is_the_sum(ledger: &Ledger) {
    let run = running(ledger).await;
    let tokens = TokenCounts { input: 5, output: 6, ..TokenCounts::default() };
    ok(commit(ledger, using(&run, vec![call("a", tokens)])).await);
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.total_tokens, totals.lead_agent_tokens), (11, 11));
}

/// A record names a child thread that the scope has, or had; nothing is stored of one that does not.
pub async fn a_child_thread_is_the_scopes_own(ledger: &Ledger) {
    let child = thread(ledger, &alice(), "child").await;
    let told = |child: &crate::ThreadId, id: &str| UsageDraft {
        child_thread_id: Some(child.clone()),
        ..call(id, TokenCounts::of(1, 1))
    };
    let mine = thread(ledger, &mallory(), "m").await;
    for child in [&child, &thread_id("none")] {
        let commit = Commit { usage: vec![told(child, "a")], ..Commit::new(mine.clone()) };
        assert_eq!(kind(ledger.events().append(&mallory(), commit).await), ErrorKind::NotFound);
    }
    assert_eq!(ok(ledger.usage().by_thread(&mallory(), &mine, true).await).totals, RunTotals::default());
    let own = thread(ledger, &alice(), "own").await;
    let before = Commit { usage: vec![told(&child, "a")], ..Commit::new(own.clone()) };
    ok(ledger.events().append(&alice(), before).await);
    ok(ledger.threads().delete(&alice(), &child).await);
    let after = Commit { usage: vec![told(&child, "b")], ..Commit::new(own.clone()) };
    ok(ledger.events().append(&alice(), after).await);
    assert_eq!(ok(ledger.usage().by_thread(&alice(), &own, true).await).totals.total_tokens, 4);
}

/// Who has lost a run is told that, whatever its calls name.
pub async fn a_lost_run_comes_before_an_unknown_child(ledger: &Ledger) {
    let run = running(ledger).await;
    let end = run.finish(0, Outcome::success());
    ok(ledger.finish(&Scope::System, end.clone()).await);
    let told = || UsageDraft { child_thread_id: Some(thread_id("none")), ..call("a", TokenCounts::of(1, 1)) };
    let late = Commit { usage: vec![told()], ..run.commit(1, vec![note("late")]) };
    assert_eq!(kind(commit(ledger, late).await), ErrorKind::LeaseLost);
    let again = crate::Finish { usage: vec![told()], ..end };
    assert_eq!(
        ok(ledger.finish(&Scope::System, again).await).receipt.map(|receipt| receipt.seqs),
        Some(vec![1])
    );
}

/// Counters are 64-bit.
pub async fn counters_are_64_bit(ledger: &Ledger) {
    let run = running(ledger).await;
    let large = MAX_COUNT - 1;
    ok(commit(
        ledger,
        using(&run, vec![call("a", TokenCounts::of(large, 1)), call("b", TokenCounts::of(1, large))]),
    )
    .await);
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.input_tokens, totals.total_tokens), (large + 1, 2 * large + 2));
    let sums = ok(ledger.usage().by_thread(&Scope::System, &run.thread, true).await);
    assert_eq!(sums.totals, totals);
    for input in [MAX_COUNT + 1, i64::MAX as u64, u64::MAX] {
        let endless = call("c", TokenCounts { input, ..TokenCounts::default() });
        assert_eq!(kind(commit(ledger, using(&run, vec![endless])).await), ErrorKind::InvalidInput);
    }
    let dear = UsageDraft { cost_nanos: Some(MAX_COST_NANOS + 1), ..call("c", TokenCounts::of(1, 1)) };
    assert_eq!(kind(commit(ledger, using(&run, vec![dear])).await), ErrorKind::InvalidInput);
}

/// A thread's usage is broken down by model; runs that called two count for both.
pub async fn usage_is_broken_down_by_model(ledger: &Ledger) {
    let first = running(ledger).await;
    let calls = vec![
        by("lead_agent", Some("m1"), call("a", TokenCounts::of(1, 1))),
        UsageDraft { cost_nanos: Some(5), ..by("lead_agent", Some("m2"), call("b", TokenCounts::of(2, 2))) },
        by("subagent:x", Some("m1"), call("c", TokenCounts::of(3, 3))),
    ];
    ok(commit(ledger, using(&first, calls)).await);
    finish(ledger, &first, 0).await;
    let second = admit(ledger, &first.thread, "r2").await;
    ok(commit(
        ledger,
        using(
            &second,
            vec![
                by("lead_agent", Some("m1"), call("d", TokenCounts::of(4, 4))),
                by("lead_agent", None, call("e", TokenCounts::of(5, 5))),
            ],
        ),
    )
    .await);
    let sums = ok(ledger.usage().by_thread(&Scope::System, &first.thread, true).await);
    assert_eq!((sums.total_runs, sums.totals.total_tokens, sums.totals.subagent_tokens), (2, 30, 6));
    let model = |llm_calls, runs, tokens, cost_nanos| ModelUsage { llm_calls, runs, tokens, cost_nanos };
    assert_eq!(
        sums.by_model.into_iter().collect::<Vec<_>>(),
        [
            ("m1".to_owned(), model(3, 2, TokenCounts::of(8, 8), 0)),
            ("m2".to_owned(), model(1, 1, TokenCounts::of(2, 2), 5)),
            ("unknown".to_owned(), model(1, 1, TokenCounts::of(5, 5), 0)),
        ]
    );
    let of_second = ok(ledger.usage().by_run(&Scope::System, &first.thread, &second.run).await);
    assert_eq!((of_second.total_runs, of_second.totals.total_tokens), (1, 18));
}

/// A run that has not ended counts only where that is asked for; however it ended, it counts.
pub async fn active_runs_count_on_request(ledger: &Ledger) {
    let mut run = running(ledger).await;
    let mut expected = 0;
    for (number, outcome) in
        [Outcome::error("x"), Outcome::interrupted("y"), Outcome::rolled_back(), Outcome::success()]
            .into_iter()
            .enumerate()
    {
        if number > 0 {
            run = admit(ledger, &run.thread, &format!("r{number}")).await;
        }
        let spent = call(&format!("c{number}"), TokenCounts::of(1, 1));
        ok(commit(ledger, using(&run, vec![spent])).await);
        let (scope, t) = (&Scope::System, &run.thread);
        let ended = ok(ledger.usage().by_thread(scope, t, false).await);
        assert_eq!((ended.total_runs, ended.totals.total_tokens), (number as u64, expected));
        let all = ok(ledger.usage().by_thread(scope, t, true).await);
        assert_eq!((all.total_runs, all.totals.total_tokens), (number as u64 + 1, expected + 2));
        ok(ledger.finish(scope, run.finish(0, outcome)).await);
        expected += 2;
    }
    let ended = ok(ledger.usage().by_thread(&Scope::System, &run.thread, false).await);
    assert_eq!((ended.total_runs, ended.totals.total_tokens), (4, 8));
}

/// Calls of the thread itself count for the thread and for no run.
pub async fn a_call_without_a_run_counts_for_the_thread(ledger: &Ledger) {
    let run = running(ledger).await;
    let own = Commit { usage: vec![call("a", TokenCounts::of(1, 1))], ..Commit::new(run.thread.clone()) };
    ok(commit(ledger, own).await);
    assert_eq!(run_of(ledger, &run).await.totals, RunTotals::default());
    let sums = ok(ledger.usage().by_thread(&Scope::System, &run.thread, true).await);
    assert_eq!((sums.total_runs, sums.totals.total_tokens), (0, 2));
}

/// A run's calls are listed by id, page by page.
pub async fn calls_are_listed_in_pages(ledger: &Ledger) {
    let run = running(ledger).await;
    let calls = ["c", "a", "b"].map(|id| call(id, TokenCounts::of(1, 1))).to_vec();
    ok(commit(ledger, using(&run, calls)).await);
    let page = async |after: Option<&str>, limit| {
        let after = after.map(|id| ok(crate::SourceId::new(id)));
        let list =
            ledger.usage().list_by_run(&Scope::System, &run.thread, &run.run, after.as_ref(), limit).await;
        list.map(|calls| calls.iter().map(|call| call.source_id.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(ok(page(None, 2).await), ["a", "b"]);
    assert_eq!(ok(page(Some("b"), 2).await), ["c"]);
    assert_eq!(kind(page(None, 0).await), ErrorKind::InvalidInput);
}

/// What a call took takes the place of its estimate once, whether that was too low or too high; another
/// estimate does not, and the run's totals stay the sum of its calls.
pub async fn an_estimate_gives_way_to_what_was_told(ledger: &Ledger) {
    let run = running(ledger).await;
    let estimate = |id: &str| UsageDraft {
        estimated: true,
        cost_nanos: Some(50),
        ..by("subagent:x", None, call(id, TokenCounts::of(100, 0)))
    };
    ok(commit(ledger, using(&run, vec![estimate("low"), estimate("high"), estimate("same")])).await);
    let again = UsageDraft { tokens: TokenCounts::of(500, 0), ..estimate("same") };
    let told = |id: &str, tokens, cost| UsageDraft {
        cost_nanos: Some(cost),
        ..by("lead_agent", Some("m"), call(id, tokens))
    };
    let cached = TokenCounts { cache_read: 60, ..TokenCounts::of(80, 30) };
    let (low, high) = (told("low", cached, 70), told("high", TokenCounts::of(9, 1), 5));
    ok(commit(ledger, using(&run, vec![again, low.clone(), high])).await);
    let more = UsageDraft { tokens: TokenCounts::of(900, 900), ..low };
    ok(commit(ledger, using(&run, vec![more, told("same", TokenCounts::default(), 9)])).await);
    let totals = run_of(ledger, &run).await.totals;
    let expected = RunTotals {
        input_tokens: 189,
        output_tokens: 31,
        total_tokens: 220,
        cache_read_tokens: 60,
        llm_calls: 3,
        subagent_tokens: 220,
        cost_nanos: 125,
        ..RunTotals::default()
    };
    assert_eq!(totals, expected);
    assert_eq!(ok(ledger.usage().by_run(&Scope::System, &run.thread, &run.run).await).totals, totals);
    let stored = ok(ledger.usage().list_by_run(&Scope::System, &run.thread, &run.run, None, 10).await);
    let shown: Vec<_> =
        stored.iter().map(|call| (call.source_id.as_str(), call.estimated, call.tokens.total)).collect();
    assert_eq!(shown, [("high", false, 10), ("low", false, 110), ("same", true, 100)]);
}

/// Who a caller is, is told by its exact name.
pub async fn callers_are_told_apart_by_case(ledger: &Ledger) {
    let run = running(ledger).await;
    let calls = vec![
        by("SubAgent:x", None, call("a", TokenCounts::of(1, 1))),
        by("Middleware:x", None, call("b", TokenCounts::of(2, 2))),
    ];
    ok(commit(ledger, using(&run, calls)).await);
    let totals = run_of(ledger, &run).await.totals;
    assert_eq!((totals.lead_agent_tokens, totals.subagent_tokens, totals.middleware_tokens), (6, 0, 0));
    assert_eq!(ok(ledger.usage().by_run(&Scope::System, &run.thread, &run.run).await).totals, totals);
}
