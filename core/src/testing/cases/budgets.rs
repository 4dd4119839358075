//! Budgets: what is let through, what comes back, and what sub-agents are given of them.

use std::time::Duration;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::testing::cases::concurrency::together;
use crate::testing::cases::forks::CutShort;
use crate::{
    Admission, Budget, BudgetLimit, Claim, Commit, Delegated, Delegation, ErrorKind, Estimate, Finish,
    Ledger, MAX_COST_NANOS, MAX_COUNT, NewRun, NewThread, Outcome, Reservation, Reserve, ReservedFor, Run,
    RunStatus, Scope, Spawn, ThreadId, ThreadLifecycle, TokenCounts, Transition, UsageBy, UsageDraft,
    UsageOf, UsageQuery,
};

const NONE: Estimate = Estimate { tokens: 0, cost_nanos: 0 };
const NO_LIMITS: Budget = Budget { max_tokens: None, max_cost_nanos: None, max_iterations: None };

fn tokens(limit: u64) -> Budget {
    Budget { max_tokens: Some(limit), ..NO_LIMITS }
}

fn of_tokens(tokens: u64) -> Estimate {
    Estimate { tokens, cost_nanos: 0 }
}

/// A thread with a run that may use this much.
async fn limited(ledger: &Ledger, budget: Budget) -> Admitted {
    limited_on(ledger, "t", budget).await
}

async fn limited_on(ledger: &Ledger, name: &str, budget: Budget) -> Admitted {
    let thread = thread(ledger, &Scope::System, name).await;
    let admission = Admission { budget, created_at: at(0), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(thread.clone(), run_id("r")) };
    let run = ok(ledger.admit(&Scope::System, new).await).run;
    Admitted { thread, run: run.run_id, epoch: run.epoch }
}

async fn reserve(ledger: &Ledger, run: &Admitted, wanted: Reserve) -> Reservation {
    ok(ledger.runs().reserve(&Scope::System, &run.thread, &run.run, run.epoch, wanted).await)
}

/// The limit that refused a model call, if one did.
async fn refusal(ledger: &Ledger, run: &Admitted, estimate: Estimate) -> Option<BudgetLimit> {
    match reserve(ledger, run, Reserve::call(estimate)).await {
        Reservation::Granted(_) => None,
        Reservation::Refused(limit) => Some(limit),
    }
}

/// Tells of a call as who holds the run does.
async fn using(ledger: &Ledger, run: &Admitted, draft: UsageDraft) {
    ok(commit(ledger, Commit { usage: vec![draft], ..run.commit(0, Vec::new()) }).await);
}

/// Tells of a call late, as who holds the run no more does.
async fn having_used(ledger: &Ledger, run: &Admitted, draft: UsageDraft) {
    ok(commit(ledger, Commit { usage: vec![draft], ..run.unmarked(Vec::new()) }).await);
}

fn settling(id: &str, used: u64, reserved: u64) -> UsageDraft {
    UsageDraft { settles: of_tokens(reserved), ..call(id, TokenCounts::of(used, 0)) }
}

/// A call that reaches a limit exactly is let through, the next is not, and a refusal sets nothing aside.
pub async fn a_limit_may_be_reached(ledger: &Ledger) {
    let budget = Budget { max_tokens: Some(100), max_cost_nanos: Some(50), max_iterations: Some(3) };
    let run = limited(ledger, budget).await;
    assert_eq!(refusal(ledger, &run, Estimate { tokens: 60, cost_nanos: 20 }).await, None);
    let beyond = refusal(ledger, &run, Estimate { tokens: 41, cost_nanos: 0 }).await;
    assert_eq!(beyond, Some(BudgetLimit::MaxTokens));
    let dear = refusal(ledger, &run, Estimate { tokens: 40, cost_nanos: 31 }).await;
    assert_eq!(dear, Some(BudgetLimit::MaxCostNanos));
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.iterations, stored.reserved), (1, Estimate { tokens: 60, cost_nanos: 20 }));
    assert_eq!(refusal(ledger, &run, Estimate { tokens: 40, cost_nanos: 30 }).await, None);
    assert_eq!(
        refusal(ledger, &run, Estimate { tokens: 1, cost_nanos: 0 }).await,
        Some(BudgetLimit::MaxTokens)
    );
    assert_eq!(refusal(ledger, &run, Estimate::default()).await, None);
    assert_eq!(refusal(ledger, &run, Estimate::default()).await, Some(BudgetLimit::MaxIterations));
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.iterations, stored.reserved), (3, Estimate { tokens: 100, cost_nanos: 50 }));
}

/// What was granted is the run as it is then.
pub async fn a_grant_shows_the_run(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    let granted = reserve(ledger, &run, Reserve::call(of_tokens(7))).await;
    let stored = run_of(ledger, &run).await;
    assert_eq!(stored.reserved, of_tokens(7));
    assert_eq!(granted, Reservation::Granted(Box::new(stored)));
}

/// A limit of zero lets nothing through that costs something; without limits everything is let through.
pub async fn no_limit_is_not_a_limit_of_zero(ledger: &Ledger) {
    let none = Budget { max_tokens: Some(0), max_cost_nanos: Some(0), max_iterations: None };
    let run = limited(ledger, none).await;
    assert_eq!(refusal(ledger, &run, of_tokens(1)).await, Some(BudgetLimit::MaxTokens));
    let dear = Estimate { tokens: 0, cost_nanos: 1 };
    assert_eq!(refusal(ledger, &run, dear).await, Some(BudgetLimit::MaxCostNanos));
    assert_eq!(refusal(ledger, &run, Estimate::default()).await, None);
    finish(ledger, &run, 0).await;
    let free = admit(ledger, &run.thread, "free").await;
    for _ in 0..3 {
        assert_eq!(refusal(ledger, &free, Estimate { tokens: MAX_COUNT, cost_nanos: MAX_COUNT }).await, None);
    }
    finish(ledger, &free, 0).await;
    let admission =
        Admission { budget: Budget { max_iterations: Some(0), ..NO_LIMITS }, ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(run.thread.clone(), run_id("still")) };
    let still = ok(ledger.admit(&Scope::System, new).await).run;
    let still = Admitted { thread: run.thread, run: still.run_id, epoch: still.epoch };
    assert_eq!(refusal(ledger, &still, Estimate::default()).await, Some(BudgetLimit::MaxIterations));
}

/// A call is one of the run's own unless it says otherwise.
pub async fn only_own_calls_are_iterations(ledger: &Ledger) {
    let run = limited(ledger, Budget { max_iterations: Some(1), ..NO_LIMITS }).await;
    let of_child = Reserve::allowance(of_tokens(1));
    let of_middleware = Reserve { estimate: of_tokens(1), purpose: ReservedFor::Call };
    for wanted in [of_child, of_middleware, of_child] {
        assert!(matches!(reserve(ledger, &run, wanted).await, Reservation::Granted(_)));
    }
    assert_eq!(refusal(ledger, &run, of_tokens(1)).await, None);
    assert_eq!(refusal(ledger, &run, of_tokens(1)).await, Some(BudgetLimit::MaxIterations));
    assert!(matches!(reserve(ledger, &run, of_child).await, Reservation::Granted(_)));
}

/// What no call uses is refused.
pub async fn an_endless_estimate_is_refused(ledger: &Ledger) {
    let run = limited(ledger, NO_LIMITS).await;
    for estimate in
        [of_tokens(MAX_COUNT + 1), of_tokens(u64::MAX), Estimate { tokens: 0, cost_nanos: u64::MAX }]
    {
        let wanted = Reserve::call(estimate);
        let refused = ledger.runs().reserve(&Scope::System, &run.thread, &run.run, run.epoch, wanted).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput);
    }
}

/// A call's record takes the place of what was set aside for it: the rest comes back, and what it took
/// beyond that counts, too.
pub async fn a_settled_call_gives_the_rest_back(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    assert_eq!(refusal(ledger, &run, of_tokens(80)).await, None);
    assert_eq!(refusal(ledger, &run, of_tokens(21)).await, Some(BudgetLimit::MaxTokens));
    using(ledger, &run, settling("a", 30, 80)).await;
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.totals.total_tokens, stored.reserved), (30, Estimate::default()));
    assert_eq!(refusal(ledger, &run, of_tokens(70)).await, None);
    using(ledger, &run, settling("b", 90, 70)).await;
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.totals.total_tokens, stored.reserved), (120, Estimate::default()));
    assert_eq!(refusal(ledger, &run, of_tokens(1)).await, Some(BudgetLimit::MaxTokens));
}

/// A record that is told again, or completed, gives back nothing more.
pub async fn a_retry_gives_nothing_back(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    for _ in 0..2 {
        assert_eq!(refusal(ledger, &run, of_tokens(40)).await, None);
    }
    let told = settling("a", 10, 40);
    for _ in 0..3 {
        using(ledger, &run, told.clone()).await;
    }
    let twice = Commit { usage: vec![told.clone(), told], ..run.commit(0, Vec::new()) };
    ok(commit(ledger, twice).await);
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.totals.total_tokens, stored.reserved), (10, of_tokens(40)));
    using(ledger, &run, settling("b", 0, 40)).await;
    assert_eq!(refusal(ledger, &run, of_tokens(50)).await, None);
    using(ledger, &run, settling("b", 20, 40)).await;
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.totals.total_tokens, stored.reserved), (30, of_tokens(50)));
}

/// What was set aside for a call that is not made comes back, and never more than that.
pub async fn what_is_released_comes_back(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    assert_eq!(refusal(ledger, &run, of_tokens(100)).await, None);
    let release =
        async |epoch, given| ledger.runs().release(&Scope::System, &run.thread, &run.run, epoch, given).await;
    let left = async || {
        let run = run_of(ledger, &run).await;
        (run.reserved, run.allowances, run.iterations)
    };
    // A call that is not made is no iteration.
    let no_iteration = Reserve { estimate: of_tokens(60), purpose: ReservedFor::Call };
    ok(release(run.epoch, no_iteration).await);
    assert_eq!(left().await, (of_tokens(40), NONE, 1));
    for _ in 0..2 {
        ok(release(run.epoch, Reserve::call(of_tokens(90))).await);
        assert_eq!(left().await, (NONE, NONE, 0));
    }
    // What is set aside for a sub-agent is not given back with a call.
    assert!(matches!(
        reserve(ledger, &run, Reserve::allowance(of_tokens(50))).await,
        Reservation::Granted(_)
    ));
    ok(release(run.epoch, Reserve::call(of_tokens(90))).await);
    assert_eq!(left().await, (NONE, of_tokens(50), 0));
    ok(release(run.epoch, Reserve::allowance(of_tokens(20))).await);
    assert_eq!(left().await, (NONE, of_tokens(30), 0));
    assert_eq!(kind(release(run.epoch + 1, Reserve::call(of_tokens(1))).await), ErrorKind::LeaseLost);
}

/// Whatever is set aside comes back when the run ends.
pub async fn the_end_gives_everything_back(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    assert_eq!(refusal(ledger, &run, of_tokens(80)).await, None);
    let ended = finish(ledger, &run, 0).await;
    assert_eq!((ended.reserved, ended.iterations), (Estimate::default(), 1));
    // What the call took is told late, and takes nothing off that is not there.
    having_used(ledger, &run, settling("late", 30, 80)).await;
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.totals.total_tokens, stored.reserved), (30, Estimate::default()));
}

/// Only who holds the run has calls let through.
pub async fn another_epoch_reserves_nothing(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    let wanted = Reserve::call(of_tokens(1));
    let reserve = async |run: &Admitted, epoch| {
        ledger.runs().reserve(&Scope::System, &run.thread, &run.run, epoch, wanted).await
    };
    for epoch in [run.epoch - 1, run.epoch + 1] {
        assert_eq!(kind(reserve(&run, epoch).await), ErrorKind::LeaseLost);
    }
    let none = Admitted { run: run_id("none"), ..run.clone() };
    assert_eq!(kind(reserve(&none, run.epoch).await), ErrorKind::NotFound);
    finish(ledger, &run, 0).await;
    assert_eq!(kind(reserve(&run, run.epoch).await), ErrorKind::LeaseLost);
    let next = admit(ledger, &run.thread, "next").await;
    assert_eq!(kind(reserve(&run, next.epoch).await), ErrorKind::LeaseLost);
    let released = ledger.runs().release(&Scope::System, &run.thread, &run.run, run.epoch, wanted).await;
    assert_eq!(kind(released), ErrorKind::LeaseLost);
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.iterations, stored.reserved), (0, Estimate::default()));
}

/// However many ask at once, what is let through never exceeds the limit, and reaches it.
pub async fn many_calls_never_exceed_a_limit(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    let asked = (0..32).map(|_| {
        let (ledger, run) = (ledger.clone(), run.clone());
        async move { refusal(&ledger, &run, of_tokens(7)).await }
    });
    let answers = together(asked).await;
    let granted = answers.iter().filter(|answer| answer.is_none()).count() as u64;
    assert_eq!(granted, 14);
    assert!(answers.iter().flatten().all(|limit| *limit == BudgetLimit::MaxTokens));
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.iterations, stored.reserved), (14, of_tokens(98)));
}

/// A run whose budget is spent ends as that, with everything it did.
pub async fn a_spent_run_keeps_what_it_did(ledger: &Ledger) {
    let run = limited(ledger, Budget { max_cost_nanos: Some(50), ..NO_LIMITS }).await;
    let wanted = Estimate { tokens: 0, cost_nanos: 40 };
    assert_eq!(refusal(ledger, &run, wanted).await, None);
    ok(commit(ledger, run.start()).await);
    let paid = UsageDraft { cost_nanos: Some(39), settles: wanted, ..call("a", TokenCounts::of(5, 6)) };
    ok(commit(ledger, Commit { usage: vec![paid], ..run.commit(0, vec![message("an answer")]) }).await);
    // The next call is not made: a cost is never beyond its limit by a call that was let through.
    let limit = refusal(ledger, &run, wanted).await;
    assert_eq!(limit, Some(BudgetLimit::MaxCostNanos));
    let outcome = Outcome::budget_exhausted(BudgetLimit::MaxCostNanos);
    let ended = ok(ledger.finish(&Scope::System, run.finish(1, outcome)).await).run;
    assert_eq!(
        (ended.status, ended.stop_reason.as_deref()),
        (RunStatus::BudgetExhausted, Some("max_cost_nanos"))
    );
    assert_eq!((ended.totals.cost_nanos, ended.totals.llm_calls, ended.message_count), (39, 1, 1));
    assert_eq!(texts(&log(ledger, &run.thread).await), ["an answer", "the end"]);
}

/// A sub-agent of `parent` that may use this much.
fn handed(parent: &Admitted, id: &str, budget: Budget) -> Delegation {
    let spawn = Some(Spawn::new(parent.thread.clone(), parent.run.clone()));
    let child = NewThread { created_at: at(0), spawn, ..NewThread::new(thread_id(id)) };
    let admission = Admission { budget, created_at: at(0), ..Admission::default() };
    let run = NewRun { admission, ..NewRun::new(thread_id(id), run_id(&format!("{id}-run"))) };
    Delegation { child, epoch: parent.epoch, run }
}

/// The same on a thread that goes with the run's success.
fn ephemeral(parent: &Admitted, id: &str, budget: Budget) -> Delegation {
    let mut handed = handed(parent, id, budget);
    handed.child.spawn = handed.child.spawn.map(|spawn| spawn.with_lifecycle(ThreadLifecycle::Ephemeral));
    handed
}

async fn delegate(ledger: &Ledger, delegation: Delegation) -> Admitted {
    match ok(ledger.delegate(&Scope::System, delegation).await) {
        Delegated::Admitted(run) => Admitted { thread: run.thread_id, run: run.run_id, epoch: run.epoch },
        Delegated::Refused(limit) => panic!("refused by {limit:?}"),
    }
}

async fn settle(ledger: &Ledger, child: &Admitted) {
    ok(ledger.settle_child(&Scope::System, &child.thread, &child.run).await);
}

/// What a run used, and what is set aside for its sub-agents.
fn used_and_allowed(run: &Run) -> (u64, u64) {
    (run.totals.total_tokens, run.allowances.tokens)
}

/// What a sub-agent may use is set aside before it exists, and is its run's budget.
pub async fn an_allowance_is_set_aside(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, handed(&parent, "child", tokens(60))).await;
    let stored = run_of(ledger, &parent).await;
    assert_eq!((stored.reserved, stored.allowances, stored.iterations), (NONE, of_tokens(60), 0));
    let handed_over = run_of(ledger, &child).await;
    assert_eq!((handed_over.budget, handed_over.payer_run_id), (tokens(60), Some(parent.run.clone())));
    let thread = ok(ledger.threads().get(&Scope::System, &child.thread).await);
    assert_eq!(
        (thread.parent_thread_id, thread.spawn_run_id),
        (Some(parent.thread.clone()), Some(parent.run.clone()))
    );
    assert_eq!(refusal(ledger, &parent, of_tokens(41)).await, Some(BudgetLimit::MaxTokens));
    assert_eq!(refusal(ledger, &child, of_tokens(60)).await, None);
    assert_eq!(refusal(ledger, &child, of_tokens(1)).await, Some(BudgetLimit::MaxTokens));
}

/// An allowance that the budget does not have leaves nothing behind.
pub async fn a_refused_allowance_leaves_nothing(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let refused = ok(ledger.delegate(&Scope::System, handed(&parent, "child", tokens(101))).await);
    assert_eq!(refused, Delegated::Refused(BudgetLimit::MaxTokens));
    assert_eq!(kind(ledger.threads().get(&Scope::System, &thread_id("child")).await), ErrorKind::NotFound);
    assert_eq!(run_of(ledger, &parent).await.allowances, NONE);
    // The id is free, and what is there exactly is enough.
    delegate(ledger, handed(&parent, "child", tokens(100))).await;
}

/// A sub-agent that cannot be made gives its allowance back.
pub async fn a_child_that_is_not_made_costs_nothing(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    thread(ledger, &Scope::System, "taken").await;
    let taken = ledger.delegate(&Scope::System, handed(&parent, "taken", tokens(60))).await;
    assert_eq!(kind(taken), ErrorKind::AlreadyExists);
    assert_eq!(run_of(ledger, &parent).await.allowances, NONE);
    let mut odd = handed(&parent, "odd", tokens(60));
    odd.run.admission.parent_run_id = Some(run_id("none"));
    assert_eq!(kind(ledger.delegate(&Scope::System, odd).await), ErrorKind::NotFound);
    assert_eq!(run_of(ledger, &parent).await.allowances, NONE);
    assert_eq!(kind(ledger.threads().get(&Scope::System, &thread_id("odd")).await), ErrorKind::NotFound);
    let lost = Delegation { epoch: parent.epoch + 1, ..handed(&parent, "lost", tokens(60)) };
    assert_eq!(kind(ledger.delegate(&Scope::System, lost).await), ErrorKind::LeaseLost);
    let without = handed(&parent, "without", NO_LIMITS);
    assert_eq!(kind(ledger.delegate(&Scope::System, without).await), ErrorKind::InvalidInput);
    let mut rootless = handed(&parent, "rootless", tokens(1));
    rootless.child.spawn = None;
    assert_eq!(kind(ledger.delegate(&Scope::System, rootless).await), ErrorKind::InvalidInput);
    assert_eq!(run_of(ledger, &parent).await.allowances, NONE);
}

/// A sub-agent's run is charged once, however often it is settled, and the rest comes back.
pub async fn a_child_is_charged_once(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, handed(&parent, "child", tokens(60))).await;
    let other = delegate(ledger, handed(&parent, "other", tokens(30))).await;
    using(ledger, &child, settling("c", 25, 0)).await;
    let early = ledger.settle_child(&Scope::System, &child.thread, &child.run).await;
    assert_eq!(kind(early), ErrorKind::Conflict);
    finish(ledger, &child, 0).await;
    let together_settled = (0..4).map(|_| {
        let (ledger, child) = (ledger.clone(), child.clone());
        async move { settle(&ledger, &child).await }
    });
    together(together_settled).await;
    let stored = run_of(ledger, &parent).await;
    assert_eq!(used_and_allowed(&stored), (25, 30));
    assert_eq!((stored.totals.llm_calls, stored.totals.subagent_tokens), (1, 25));
    assert_eq!(run_of(ledger, &other).await.totals.total_tokens, 0);
    // The record repeats what the child has records of: the tree counts it once.
    let tree = UsageQuery::new(UsageOf::Tree(parent.thread.clone()), UsageBy::Thread);
    let sums = ok(ledger.usage().report(&Scope::System, &tree).await);
    let shown: Vec<_> = sums.iter().map(|sum| (sum.key.as_str(), sum.tokens.total)).collect();
    assert_eq!(shown, [("child", 25)]);
}

/// A sub-agent whose thread goes with its success is charged before it goes.
pub async fn an_ephemeral_child_is_charged_before_it_goes(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, ephemeral(&parent, "child", tokens(60))).await;
    using(ledger, &child, settling("c", 25, 0)).await;
    finish(ledger, &child, 0).await;
    assert_eq!(kind(ledger.threads().get(&Scope::System, &child.thread).await), ErrorKind::NotFound);
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (25, 0));
    let tree = UsageQuery::new(UsageOf::Tree(parent.thread.clone()), UsageBy::Total);
    let sums = ok(ledger.usage().report(&Scope::System, &tree).await);
    assert_eq!(sums.iter().map(|sum| sum.tokens.total).collect::<Vec<_>>(), [25]);
}

/// A sub-agent that has no limit, because its parent has none, is charged as any other.
pub async fn a_child_without_limits_is_charged_before_it_goes(ledger: &Ledger) {
    let parent = limited(ledger, NO_LIMITS).await;
    let child = delegate(ledger, ephemeral(&parent, "child", NO_LIMITS)).await;
    using(ledger, &child, settling("c", 25, 0)).await;
    finish(ledger, &child, 0).await;
    assert_eq!(kind(ledger.threads().get(&Scope::System, &child.thread).await), ErrorKind::NotFound);
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (25, 0));
}

/// A sweep charges who pays before it deletes what has served, and the deepest first: what ended without
/// `Ledger::finish`, or was not settled by a process that is gone.
pub async fn a_sweep_charges_before_it_deletes(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, ephemeral(&parent, "child", tokens(60))).await;
    let below = delegate(ledger, handed(&child, "below", tokens(20))).await;
    using(ledger, &child, settling("c", 25, 0)).await;
    using(ledger, &below, settling("b", 7, 0)).await;
    let outcome = Outcome::success();
    for run in [&below, &child] {
        let transition = Some(Transition::Finish { outcome: outcome.clone(), asks: Vec::new(), at: at(9) });
        ok(commit(ledger, Commit { transition, ..run.commit(0, vec![terminal(&outcome)]) }).await);
    }
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (0, 60));
    // Whoever pays may have ended, and its thread may have been archived.
    let after = limited_on(ledger, "after", tokens(100)).await;
    let late = delegate(ledger, ephemeral(&after, "late", tokens(60))).await;
    finish(ledger, &after, 0).await;
    ok(ledger.threads().archive(&Scope::System, &after.thread, at(8)).await);
    using(ledger, &late, settling("l", 11, 0)).await;
    finish(ledger, &late, 0).await;
    assert_eq!(kind(ledger.threads().get(&Scope::System, &late.thread).await), ErrorKind::NotFound);
    assert_eq!(used_and_allowed(&run_of(ledger, &after).await), (11, 0));
    let gone = ok(ledger.discard_spent(&Scope::System, Duration::from_secs(60), 10).await);
    assert_eq!(gone, [child.thread]);
    assert_eq!(kind(ledger.threads().get(&Scope::System, &below.thread).await), ErrorKind::NotFound);
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (32, 0));
    assert_eq!(refusal(ledger, &parent, of_tokens(68)).await, None);
    assert_eq!(refusal(ledger, &parent, of_tokens(1)).await, Some(BudgetLimit::MaxTokens));
}

/// What the calls of a worker that is gone had set aside comes back when the run is resumed; what sub-agents were
/// given stays theirs.
pub async fn a_resumed_run_has_what_lost_calls_reserved(ledger: &Ledger) {
    let run = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, handed(&run, "child", tokens(30))).await;
    assert_eq!(refusal(ledger, &run, of_tokens(40)).await, None);
    let (claim, scope) = (Claim::Epoch(run.epoch), Scope::System);
    let resumed = ok(ledger.resume_run(&scope, &run.thread, &run.run, claim, None, at(5)).await);
    assert_eq!((resumed.reserved, resumed.allowances, resumed.iterations), (NONE, of_tokens(30), 1));
    let run = Admitted { epoch: resumed.epoch, ..run };
    assert_eq!(refusal(ledger, &run, of_tokens(71)).await, Some(BudgetLimit::MaxTokens));
    assert_eq!(refusal(ledger, &run, of_tokens(70)).await, None);
    // Late word of the lost call counts it, and takes nothing off what the next one has set aside.
    having_used(ledger, &run, settling("lost", 5, 40)).await;
    assert_eq!(run_of(ledger, &run).await.reserved, of_tokens(70));
    using(ledger, &child, settling("c", 12, 0)).await;
    finish(ledger, &child, 0).await;
    settle(ledger, &child).await;
    let stored = run_of(ledger, &run).await;
    assert_eq!((stored.totals.total_tokens, stored.reserved, stored.allowances), (17, of_tokens(70), NONE));
}

/// What a sub-agent took is charged however it ended, and after the run that pays has ended, too.
pub async fn a_child_is_charged_however_it_ended(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let ends = [
        ("failed", Outcome::error("x")),
        ("stopped", Outcome::interrupted(Outcome::CANCELLED)),
        ("spent", Outcome::budget_exhausted(BudgetLimit::MaxTokens)),
    ];
    for (id, outcome) in ends {
        let child = delegate(ledger, handed(&parent, id, tokens(20))).await;
        let end = Finish { usage: vec![settling(id, 10, 0)], ..child.finish(0, outcome) };
        ok(ledger.finish(&Scope::System, end).await);
        settle(ledger, &child).await;
    }
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (30, 0));
    let late = delegate(ledger, handed(&parent, "late", tokens(20))).await;
    using(ledger, &late, settling("late", 5, 0)).await;
    finish(ledger, &parent, 0).await;
    finish(ledger, &late, 0).await;
    settle(ledger, &late).await;
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (35, 0));
}

/// What a sub-agent took in many calls is charged though no single call may take so much, and its thread goes.
pub async fn a_dear_child_is_charged_whole(ledger: &Ledger) {
    let parent = limited(ledger, NO_LIMITS).await;
    let kept = delegate(ledger, handed(&parent, "kept", NO_LIMITS)).await;
    let goes = delegate(ledger, ephemeral(&parent, "goes", NO_LIMITS)).await;
    for child in [&kept, &goes] {
        for id in ["a", "b", "c"] {
            let dear = call(id, TokenCounts::of(MAX_COUNT - 1, 1));
            using(ledger, child, UsageDraft { cost_nanos: Some(MAX_COST_NANOS), ..dear }).await;
        }
        let cheap = call("d", TokenCounts::of(2, 3));
        using(ledger, child, UsageDraft { cost_nanos: Some(7), ..cheap }).await;
        finish(ledger, child, 0).await;
    }
    for _ in 0..2 {
        settle(ledger, &kept).await;
    }
    assert_eq!(kind(ledger.threads().get(&Scope::System, &goes.thread).await), ErrorKind::NotFound);
    let took = run_of(ledger, &kept).await.totals;
    assert_eq!((took.total_tokens, took.cost_nanos), (3 * MAX_COUNT + 5, 3 * MAX_COST_NANOS + 7));
    let paid = run_of(ledger, &parent).await.totals;
    assert_eq!((paid.total_tokens, paid.cost_nanos), (2 * took.total_tokens, 2 * took.cost_nanos));
    assert_eq!((paid.input_tokens, paid.output_tokens), (2 * took.input_tokens, 2 * took.output_tokens));
}

/// A sub-agent whose run was refused because the ledger was away leaves neither a thread nor an allowance.
pub async fn a_child_is_delegated_again_after_an_outage(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let away = ledger.with_events(CutShort::after(ledger, 0));
    let refused = away.delegate(&Scope::System, handed(&parent, "child", tokens(60))).await;
    assert_eq!(kind(refused), ErrorKind::Unavailable);
    assert_eq!(kind(ledger.threads().get(&Scope::System, &thread_id("child")).await), ErrorKind::NotFound);
    assert_eq!(run_of(ledger, &parent).await.allowances, NONE);
}

/// What a sub-agent's sub-agents took is charged level by level, and nobody uses more than the root may.
pub async fn grandchildren_are_charged_up_the_tree(ledger: &Ledger) {
    let root = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, handed(&root, "child", tokens(60))).await;
    let beyond = ok(ledger.delegate(&Scope::System, handed(&child, "greedy", tokens(61))).await);
    assert_eq!(beyond, Delegated::Refused(BudgetLimit::MaxTokens));
    let last = delegate(ledger, handed(&child, "grandchild", tokens(50))).await;
    using(ledger, &child, settling("c", 8, 0)).await;
    using(ledger, &last, settling("l", 40, 0)).await;
    for below in [&last, &child] {
        finish(ledger, below, 0).await;
        settle(ledger, below).await;
    }
    assert_eq!(used_and_allowed(&run_of(ledger, &child).await), (48, 0));
    assert_eq!(used_and_allowed(&run_of(ledger, &root).await), (48, 0));
    let tree = UsageQuery::new(UsageOf::Tree(root.thread.clone()), UsageBy::Total);
    let sums = ok(ledger.usage().report(&Scope::System, &tree).await);
    assert_eq!(sums.iter().map(|sum| sum.tokens.total).collect::<Vec<_>>(), [48]);
    assert_eq!(refusal(ledger, &root, of_tokens(52)).await, None);
    assert_eq!(refusal(ledger, &root, of_tokens(1)).await, Some(BudgetLimit::MaxTokens));
}

/// Nobody pays for the runs of a thread that no agent spawned, and who pays is nobody's to say but the run that
/// sets the allowance aside.
pub async fn a_root_is_nobodys_child(ledger: &Ledger) {
    let run = limited(ledger, NO_LIMITS).await;
    finish(ledger, &run, 0).await;
    let refused = ledger.settle_child(&Scope::System, &run.thread, &run.run).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    let admission = Admission { payer_run_id: Some(run.run.clone()), ..Admission::default() };
    let claims = NewRun { admission: admission.clone(), ..NewRun::new(run.thread.clone(), run_id("claims")) };
    assert_eq!(kind(ledger.admit(&Scope::System, claims).await), ErrorKind::InvalidInput);
    let mut claims = handed(&run, "child", tokens(1));
    claims.run.admission = Admission { budget: tokens(1), ..admission };
    assert_eq!(kind(ledger.delegate(&Scope::System, claims).await), ErrorKind::InvalidInput);
}

/// A run with a budget of its own that was not handed over costs the parent nothing, on whatever thread it is, and
/// takes nothing off what the parent's calls have set aside.
pub async fn only_what_was_handed_over_is_charged(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    assert_eq!(refusal(ledger, &parent, of_tokens(50)).await, None);
    let own = async |thread: &ThreadId| {
        let admission = Admission { budget: tokens(1_000), created_at: at(1), ..Admission::default() };
        let new = NewRun { admission, ..NewRun::new(thread.clone(), run_id("own")) };
        let run = ok(ledger.admit(&Scope::System, new).await).run;
        let own = Admitted { thread: thread.clone(), run: run.run_id, epoch: run.epoch };
        using(ledger, &own, settling("own", 25, 0)).await;
        finish(ledger, &own, 0).await;
        own
    };
    let untouched = (0, of_tokens(50), NONE);
    let state = async || {
        let run = run_of(ledger, &parent).await;
        (run.totals.total_tokens, run.reserved, run.allowances)
    };
    // On an ephemeral thread that the runtime made by itself, which goes with the run's success.
    let spawn =
        Spawn::new(parent.thread.clone(), parent.run.clone()).with_lifecycle(ThreadLifecycle::Ephemeral);
    let made = NewThread { created_at: at(0), spawn: Some(spawn), ..NewThread::new(thread_id("made")) };
    ok(ledger.threads().create(&Scope::System, made).await);
    let gone = own(&thread_id("made")).await;
    assert_eq!(kind(ledger.threads().get(&Scope::System, &gone.thread).await), ErrorKind::NotFound);
    assert_eq!(state().await, untouched);
    // On the thread of a run that was handed over.
    let child = delegate(ledger, handed(&parent, "child", tokens(30))).await;
    finish(ledger, &child, 0).await;
    settle(ledger, &child).await;
    let second = own(&child.thread).await;
    let refused = ledger.settle_child(&Scope::System, &second.thread, &second.run).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    assert_eq!(state().await, untouched);
}

/// A stranger neither spends of a run's budget nor settles with it.
pub async fn a_stranger_spends_nothing(ledger: &Ledger) {
    let parent = limited(ledger, tokens(100)).await;
    let child = delegate(ledger, handed(&parent, "child", tokens(60))).await;
    finish(ledger, &child, 0).await;
    let refused = ledger.delegate(&mallory(), handed(&parent, "theirs", tokens(1))).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    let refused = ledger.settle_child(&mallory(), &child.thread, &child.run).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    let wanted = Reserve::call(of_tokens(1));
    let refused = ledger.runs().reserve(&mallory(), &parent.thread, &parent.run, parent.epoch, wanted).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    assert_eq!(used_and_allowed(&run_of(ledger, &parent).await), (0, 60));
}
