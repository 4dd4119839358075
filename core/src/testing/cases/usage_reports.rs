//! Reports of usage: whose calls, summed by what, each call once.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Caller, Commit, ErrorKind, Ledger, NewThread, Outcome, Scope, SourceId, Spawn, Timestamp, TokenCounts,
    UsageBy, UsageDraft, UsageOf, UsageQuery, UsageRecord, UsageSum,
};

fn by(caller: &str, model: Option<&str>, draft: UsageDraft) -> UsageDraft {
    UsageDraft { caller: ok(Caller::new(caller)), model: model.map(str::to_owned), ..draft }
}

fn of_round(round: u64, draft: UsageDraft) -> UsageDraft {
    UsageDraft { round_index: Some(round), ..draft }
}

async fn using(ledger: &Ledger, run: &Admitted, usage: Vec<UsageDraft>) {
    ok(commit(ledger, Commit { usage, ..run.unmarked(Vec::new()) }).await);
}

async fn report(ledger: &Ledger, of: UsageOf, by: UsageBy) -> Vec<UsageSum> {
    ok(ledger.usage().report(&Scope::System, &UsageQuery::new(of, by)).await)
}

/// The keys of a report and the total tokens of each.
async fn totals(ledger: &Ledger, of: UsageOf, by: UsageBy) -> Vec<(String, u64)> {
    let sums = report(ledger, of, by).await;
    sums.into_iter().map(|sum| (sum.key, sum.tokens.total)).collect()
}

fn keyed(totals: &[(&str, u64)]) -> Vec<(String, u64)> {
    totals.iter().map(|(key, tokens)| ((*key).to_owned(), *tokens)).collect()
}

/// A sub-agent's thread of `parent`, with a run.
async fn child(ledger: &Ledger, parent: &Admitted, id: &str) -> Admitted {
    let spawn = Some(Spawn::new(parent.thread.clone(), parent.run.clone()));
    let new = NewThread { created_at: at(0), spawn, ..NewThread::new(thread_id(id)) };
    let thread = ok(ledger.threads().create(&Scope::System, new).await).thread_id;
    admit(ledger, &thread, &format!("{id}-run")).await
}

/// What a parent's record repeats of a child's call.
fn repeated(child: &Admitted, draft: UsageDraft) -> UsageDraft {
    UsageDraft { child_thread_id: Some(child.thread.clone()), ..by("subagent:x", Some("m"), draft) }
}

/// Two threads, three runs and a call of no run.
async fn scene(ledger: &Ledger) -> [Admitted; 3] {
    let a = running(ledger).await;
    using(
        ledger,
        &a,
        vec![
            UsageDraft {
                cost_nanos: Some(5),
                ..of_round(0, by("lead_agent", Some("m1"), call("a1", TokenCounts::of(1, 10))))
            },
            UsageDraft {
                estimated: true,
                created_at: at(86_400),
                ..of_round(0, by("subagent:x", Some("m2"), call("a2", TokenCounts::of(2, 20))))
            },
            of_round(1, by("middleware:title", None, call("a3", TokenCounts::of(3, 30)))),
        ],
    )
    .await;
    finish(ledger, &a, 0).await;
    let b = admit(ledger, &a.thread, "r2").await;
    let of_b = UsageDraft {
        cost_nanos: Some(7),
        ..by("lead_agent", Some("m1"), call("b1", TokenCounts::of(4, 40)))
    };
    using(ledger, &b, vec![of_b]).await;
    let of_none = by("lead_agent", Some("unknown"), call("n1", TokenCounts::of(5, 50)));
    ok(commit(ledger, Commit { usage: vec![of_none], ..Commit::new(a.thread.clone()) }).await);
    let other = ok(ledger
        .threads()
        .create(&alice(), NewThread { created_at: at(0), ..NewThread::new(thread_id("u")) })
        .await);
    let c = admit(ledger, &other.thread_id, "r").await;
    using(ledger, &c, vec![by("lead_agent", Some("m1"), call("c1", TokenCounts::of(6, 60)))]).await;
    [a, b, c]
}

/// Calls are summed by whatever they have in common, each once in each report.
pub async fn calls_are_summed_by_each_key(ledger: &Ledger) {
    scene(ledger).await;
    let all = async |by| totals(ledger, UsageOf::All, by).await;
    assert_eq!(all(UsageBy::Total).await, keyed(&[("", 231)]));
    // A call that names no model is under the key of a model of that name.
    assert_eq!(all(UsageBy::Model).await, keyed(&[("m1", 121), ("m2", 22), ("unknown", 88)]));
    let callers = [("lead_agent", 176), ("middleware:title", 33), ("subagent:x", 22)];
    assert_eq!(all(UsageBy::Caller).await, keyed(&callers));
    assert_eq!(all(UsageBy::Owner).await, keyed(&[("", 165), ("alice", 66)]));
    assert_eq!(all(UsageBy::Day).await, keyed(&[("2023-11-14", 209), ("2023-11-15", 22)]));
    assert_eq!(all(UsageBy::Thread).await, keyed(&[("t", 165), ("u", 66)]));
    assert_eq!(all(UsageBy::Run).await, keyed(&[("t/", 55), ("t/r", 66), ("t/r2", 44), ("u/r", 66)]));
    let rounds = totals(ledger, UsageOf::Thread(thread_id("t")), UsageBy::Round).await;
    assert_eq!(rounds, keyed(&[("/", 55), ("r/000000", 33), ("r/000001", 33), ("r2/", 44)]));
}

/// Everything of a sum: calls, estimates, runs, tokens, cost, and what has no price.
pub async fn a_sum_says_everything_of_its_calls(ledger: &Ledger) {
    let [a, b, _] = scene(ledger).await;
    let sums = report(ledger, UsageOf::Thread(a.thread.clone()), UsageBy::Total).await;
    let whole = UsageSum {
        key: String::new(),
        llm_calls: 5,
        estimated_calls: 1,
        runs: 2,
        tokens: TokenCounts::of(15, 150),
        cost_nanos: 12,
        unpriced_calls: 3,
    };
    assert_eq!(sums, [whole]);
    let one = report(ledger, UsageOf::Run(b.thread.clone(), b.run.clone()), UsageBy::Model).await;
    let of_b = UsageSum {
        key: "m1".to_owned(),
        llm_calls: 1,
        estimated_calls: 0,
        runs: 1,
        tokens: TokenCounts::of(4, 40),
        cost_nanos: 7,
        unpriced_calls: 0,
    };
    assert_eq!(one, [of_b]);
    // A run counts for each model that it called, and once for all of them.
    let models = report(ledger, UsageOf::Run(a.thread.clone(), a.run.clone()), UsageBy::Model).await;
    assert_eq!(models.iter().map(|sum| sum.runs).collect::<Vec<_>>(), [1, 1, 1]);
}

/// Cached tokens are part of the input and reasoning of the output: nothing is added to a total.
pub async fn cached_and_reasoning_tokens_are_not_added_again(ledger: &Ledger) {
    let run = running(ledger).await;
    let tokens = TokenCounts { cache_read: 60, cache_write: 30, reasoning: 40, ..TokenCounts::of(100, 50) };
    using(ledger, &run, vec![call("a", tokens), call("b", tokens)]).await;
    let sums = report(ledger, UsageOf::Thread(run.thread.clone()), UsageBy::Total).await;
    let twice = TokenCounts { cache_read: 120, cache_write: 60, reasoning: 80, ..TokenCounts::of(200, 100) };
    assert_eq!(sums.iter().map(|sum| sum.tokens).collect::<Vec<_>>(), [twice]);
}

/// A report goes on after a key, and its limit is that of every list.
pub async fn a_report_comes_in_pages(ledger: &Ledger) {
    let run = running(ledger).await;
    let calls = ["b", "", "B", "a", "\u{e9}", "Z", "~"].iter().enumerate().map(|(number, model)| {
        by("lead_agent", Some(model), call(&format!("c{number}"), TokenCounts::of(1, 0)))
    });
    using(ledger, &run, calls.collect()).await;
    let mut after: Option<String> = None;
    let mut keys = Vec::new();
    loop {
        let of = UsageOf::Thread(run.thread.clone());
        let query = UsageQuery { after: after.clone(), limit: 2, ..UsageQuery::new(of, UsageBy::Model) };
        let page = ok(ledger.usage().report(&Scope::System, &query).await);
        assert!(page.len() <= 2, "{page:?}");
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        keys.extend(page.into_iter().map(|sum| sum.key));
    }
    // By their bytes, whatever the language of a database.
    assert_eq!(keys, ["", "B", "Z", "a", "b", "~", "\u{e9}"]);
    let of = || UsageOf::Thread(run.thread.clone());
    let none = UsageQuery { limit: 0, ..UsageQuery::new(of(), UsageBy::Model) };
    assert_eq!(kind(ledger.usage().report(&Scope::System, &none).await), ErrorKind::InvalidInput);
    let nul = UsageQuery { after: Some("a\0".to_owned()), ..UsageQuery::new(of(), UsageBy::Model) };
    assert_eq!(kind(ledger.usage().report(&Scope::System, &nul).await), ErrorKind::InvalidInput);
    let many = UsageQuery { limit: u32::MAX, ..UsageQuery::new(of(), UsageBy::Model) };
    assert_eq!(ok(ledger.usage().report(&Scope::System, &many).await).len(), 7);
}

/// A report of a time has the calls from its beginning to before its end.
pub async fn a_report_is_of_a_time(ledger: &Ledger) {
    let run = running(ledger).await;
    let calls = (0..4).map(|second| UsageDraft {
        created_at: at(second),
        ..call(&format!("c{second}"), TokenCounts::of(10_u64.pow(u32::try_from(second).unwrap_or(0)), 0))
    });
    using(ledger, &run, calls.collect()).await;
    let within = async |from: Option<i64>, before: Option<i64>| {
        let query = UsageQuery {
            from: from.map(at),
            before: before.map(at),
            ..UsageQuery::new(UsageOf::All, UsageBy::Total)
        };
        let sums = ok(ledger.usage().report(&Scope::System, &query).await);
        sums.iter().map(|sum| sum.tokens.total).sum::<u64>()
    };
    assert_eq!(within(None, None).await, 1_111);
    assert_eq!(within(Some(1), None).await, 1_110);
    assert_eq!(within(None, Some(3)).await, 111);
    assert_eq!(within(Some(1), Some(3)).await, 110);
    assert_eq!(within(Some(3), Some(1)).await, 0);
}

/// A day is one of UTC, in every year there is.
pub async fn days_are_those_of_utc(ledger: &Ledger) {
    let run = running(ledger).await;
    let times = [
        "0000-02-29T12:00:00Z",
        "0001-01-01T00:00:00Z",
        "2026-03-28T23:59:59.999999Z",
        "2026-03-29T00:00:00Z",
        "2026-03-29T01:00:00+02:00",
        "9999-12-31T23:59:59.999999Z",
    ];
    let calls = times.iter().enumerate().map(|(number, time)| UsageDraft {
        created_at: ok(Timestamp::parse("at", time)),
        ..call(&format!("c{number}"), TokenCounts::of(1, 0))
    });
    using(ledger, &run, calls.collect()).await;
    let days = totals(ledger, UsageOf::All, UsageBy::Day).await;
    let expected =
        [("0000-02-29", 1), ("0001-01-01", 1), ("2026-03-28", 2), ("2026-03-29", 1), ("9999-12-31", 1)];
    assert_eq!(days, keyed(&expected));
}

/// An owner sums up what is stamped with it; of a foreign thread it sees nothing.
pub async fn an_owner_sums_up_its_own(ledger: &Ledger) {
    let [_, _, of_alice] = scene(ledger).await;
    let usage = ledger.usage();
    let own = ok(usage.report(&alice(), &UsageQuery::new(UsageOf::All, UsageBy::Thread)).await);
    assert_eq!(
        own.into_iter().map(|sum| (sum.key, sum.tokens.total)).collect::<Vec<_>>(),
        keyed(&[("u", 66)])
    );
    let all = UsageQuery::new(UsageOf::All, UsageBy::Model);
    assert_eq!(ok(usage.report(&mallory(), &all).await), []);
    let (thread, run) = (of_alice.thread.clone(), of_alice.run.clone());
    let missing = thread_id("none");
    for of in [
        UsageOf::Thread(thread.clone()),
        UsageOf::Tree(thread.clone()),
        UsageOf::Run(thread, run.clone()),
        UsageOf::Thread(missing.clone()),
        UsageOf::Tree(missing.clone()),
        UsageOf::Run(missing, run),
    ] {
        let query = UsageQuery::new(of.clone(), UsageBy::Total);
        assert_eq!(kind(usage.report(&mallory(), &query).await), ErrorKind::NotFound, "{of:?}");
    }
    let owners = UsageQuery::new(UsageOf::All, UsageBy::Owner);
    assert_eq!(kind(usage.report(&alice(), &owners).await), ErrorKind::InvalidInput);
}

/// Rounds are those of a run: they are summed of one thread or one run.
pub async fn rounds_are_those_of_one_thread(ledger: &Ledger) {
    let run = running(ledger).await;
    for of in [UsageOf::All, UsageOf::Tree(run.thread.clone())] {
        let query = UsageQuery::new(of, UsageBy::Round);
        assert_eq!(kind(ledger.usage().report(&Scope::System, &query).await), ErrorKind::InvalidInput);
    }
    let many = of_round(1_234_567, call("a", TokenCounts::of(1, 0)));
    using(ledger, &run, vec![many, of_round(7, call("b", TokenCounts::of(2, 0)))]).await;
    let of_run = totals(ledger, UsageOf::Run(run.thread.clone(), run.run.clone()), UsageBy::Round).await;
    assert_eq!(of_run, keyed(&[("r/000007", 2), ("r/1234567", 1)]));
}

/// Two runs that count their rounds from 0, and a call that is told twice: nothing takes the place of
/// anything else.
pub async fn rounds_of_two_runs_stay_apart(ledger: &Ledger) {
    let first = running(ledger).await;
    let told = of_round(0, call("first/0", TokenCounts::of(1, 0)));
    using(ledger, &first, vec![told.clone(), of_round(1, call("first/1", TokenCounts::of(2, 0)))]).await;
    using(ledger, &first, vec![told]).await;
    finish(ledger, &first, 0).await;
    let second = admit(ledger, &first.thread, "r2").await;
    using(ledger, &second, vec![of_round(0, call("second/0", TokenCounts::of(4, 0)))]).await;
    let rounds = totals(ledger, UsageOf::Thread(first.thread.clone()), UsageBy::Round).await;
    assert_eq!(rounds, keyed(&[("r/000000", 1), ("r/000001", 2), ("r2/000000", 4)]));
}

/// A call that failed, and one that was cut off, have their rows, and the run that failed with them keeps both.
pub async fn failed_calls_are_counted(ledger: &Ledger) {
    let run = running(ledger).await;
    let failed = UsageDraft { estimated: true, ..call("a", TokenCounts::of(9, 0)) };
    let cut_off = UsageDraft { estimated: true, ..call("b", TokenCounts::default()) };
    let end = crate::Finish { usage: vec![failed, cut_off], ..run.finish(0, Outcome::error("no model")) };
    let ended = ok(ledger.finish(&Scope::System, end).await).run;
    assert_eq!((ended.totals.llm_calls, ended.totals.total_tokens), (2, 9));
    let sums = report(ledger, UsageOf::Run(run.thread.clone(), run.run.clone()), UsageBy::Total).await;
    let shown: Vec<_> =
        sums.iter().map(|sum| (sum.llm_calls, sum.estimated_calls, sum.tokens.total)).collect();
    assert_eq!(shown, [(2, 2, 9)]);
}

/// What was never called has no sum, and is no error.
pub async fn no_calls_have_no_sum(ledger: &Ledger) {
    let run = running(ledger).await;
    for of in [
        UsageOf::All,
        UsageOf::Thread(run.thread.clone()),
        UsageOf::Tree(run.thread.clone()),
        UsageOf::Run(run.thread.clone(), run_id("none")),
    ] {
        assert_eq!(report(ledger, of.clone(), UsageBy::Total).await, [], "{of:?}");
    }
}

/// Ids of other systems may have slashes: no two runs share a key for it.
pub async fn no_two_runs_share_a_key(ledger: &Ledger) {
    let mut tokens = 1;
    for (t, r) in [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c")] {
        let thread = thread(ledger, &Scope::System, t).await;
        let run = admit(ledger, &thread, r).await;
        using(ledger, &run, vec![call("c", TokenCounts::of(tokens, 0))]).await;
        tokens *= 10;
    }
    let runs = totals(ledger, UsageOf::All, UsageBy::Run).await;
    assert_eq!(runs, keyed(&[("a%252Fb/c", 100), ("a%2Fb/c", 1), ("a/b/c", 10)]));
    let sums = report(ledger, UsageOf::All, UsageBy::Total).await;
    assert_eq!(sums.iter().map(|sum| sum.runs).collect::<Vec<_>>(), [3]);
}

/// What sub-agents took counts in the tree above them, once, whatever their parents' records repeat.
pub async fn a_tree_counts_each_call_once(ledger: &Ledger) {
    let root = running(ledger).await;
    let below = child(ledger, &root, "child").await;
    let last = child(ledger, &below, "grandchild").await;
    let beside = thread(ledger, &Scope::System, "beside").await;
    let other = admit(ledger, &beside, "r").await;
    using(ledger, &last, vec![call("l", TokenCounts::of(1, 0))]).await;
    using(
        ledger,
        &below,
        vec![call("b", TokenCounts::of(10, 0)), repeated(&last, call("l", TokenCounts::of(1, 0)))],
    )
    .await;
    using(
        ledger,
        &root,
        vec![call("r", TokenCounts::of(100, 0)), repeated(&below, call("b", TokenCounts::of(11, 0)))],
    )
    .await;
    using(ledger, &other, vec![call("o", TokenCounts::of(1_000, 0))]).await;
    // The parent's run pays for what its sub-agents took.
    let paid = run_of(ledger, &root).await.totals;
    assert_eq!((paid.total_tokens, paid.subagent_tokens), (111, 11));
    for (thread, own, tree) in [(&root, 111, 111), (&below, 11, 11), (&last, 1, 1)] {
        let of_thread = totals(ledger, UsageOf::Thread(thread.thread.clone()), UsageBy::Total).await;
        let of_tree = totals(ledger, UsageOf::Tree(thread.thread.clone()), UsageBy::Total).await;
        assert_eq!((of_thread, of_tree), (keyed(&[("", own)]), keyed(&[("", tree)])));
    }
    let threads = totals(ledger, UsageOf::Tree(root.thread.clone()), UsageBy::Thread).await;
    assert_eq!(threads, keyed(&[("child", 10), ("grandchild", 1), ("t", 100)]));
    let all = totals(ledger, UsageOf::All, UsageBy::Total).await;
    assert_eq!(all, keyed(&[("", 1_111)]));
}

/// What a sub-agent took is counted after its thread was deleted, in the tree and for its owner.
pub async fn a_childs_usage_survives_its_deletion(ledger: &Ledger) {
    let root = running(ledger).await;
    let below = child(ledger, &root, "child").await;
    let last = child(ledger, &below, "grandchild").await;
    using(ledger, &root, vec![call("r", TokenCounts::of(100, 0))]).await;
    using(ledger, &below, vec![call("b", TokenCounts::of(10, 0))]).await;
    using(ledger, &last, vec![call("l", TokenCounts::of(1, 0))]).await;
    let before = report(ledger, UsageOf::Tree(root.thread.clone()), UsageBy::Thread).await;
    finish(ledger, &last, 0).await;
    finish(ledger, &below, 0).await;
    ok(ledger.threads().delete(&Scope::System, &below.thread).await);
    assert_eq!(report(ledger, UsageOf::Tree(root.thread.clone()), UsageBy::Thread).await, before);
    assert_eq!(totals(ledger, UsageOf::All, UsageBy::Total).await, keyed(&[("", 111)]));
    let gone = UsageQuery::new(UsageOf::Tree(below.thread.clone()), UsageBy::Total);
    assert_eq!(kind(ledger.usage().report(&Scope::System, &gone).await), ErrorKind::NotFound);
}

/// A small generator of numbers that look random: the same seed gives the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }
}

/// What is known of any call by any key adds up to what adding up the records gives.
pub async fn every_report_adds_up(ledger: &Ledger) {
    let mut numbers = Numbers(20_261_121);
    let mut runs: Vec<Admitted> = Vec::new();
    for number in 0..4 {
        let owner = if number < 2 { alice() } else { Scope::System };
        let thread = thread(ledger, &owner, &format!("t{number}")).await;
        for run in 0..3 {
            let run = admit(ledger, &thread, &format!("r{run}")).await;
            let calls = (0..10 + numbers.below(10)).map(|_| random_call(&mut numbers)).collect();
            using(ledger, &run, calls).await;
            finish(ledger, &run, 0).await;
            runs.push(run);
        }
    }
    let mut records: Vec<UsageRecord> = Vec::new();
    for run in &runs {
        let list = ledger.usage().list_by_run(&Scope::System, &run.thread, &run.run, None, 1_000).await;
        records.extend(ok(list));
    }
    for by in [
        UsageBy::Total,
        UsageBy::Model,
        UsageBy::Caller,
        UsageBy::Owner,
        UsageBy::Day,
        UsageBy::Thread,
        UsageBy::Run,
    ] {
        assert_eq!(report(ledger, UsageOf::All, by).await, added_up(&records, by), "{by:?}");
    }
    let thread = thread_id("t1");
    let own: Vec<_> = records.iter().filter(|call| call.thread_id == thread).cloned().collect();
    let rounds = report(ledger, UsageOf::Thread(thread), UsageBy::Round).await;
    assert_eq!(rounds, added_up(&own, UsageBy::Round));
}

fn random_call(numbers: &mut Numbers) -> UsageDraft {
    let (input, output) = (numbers.below(1_000), numbers.below(1_000));
    let tokens = TokenCounts {
        cache_read: numbers.below(input + 1),
        reasoning: numbers.below(output + 1),
        ..TokenCounts::of(input, output)
    };
    // Some ids come twice: the second is a retry.
    let id = format!("c{}", numbers.below(200));
    UsageDraft {
        model: numbers.one_of(&[None, Some("m1"), Some("m2"), Some("unknown")]).map(str::to_owned),
        caller: ok(Caller::new(numbers.one_of(&["lead_agent", "subagent:x", "middleware:y"]))),
        round_index: numbers.one_of(&[None, Some(0), Some(1), Some(12)]),
        cost_nanos: numbers.one_of(&[None, Some(0), Some(1_234_567)]),
        estimated: numbers.below(4) == 0,
        created_at: at(i64::try_from(numbers.below(5 * 86_400)).unwrap_or(0)),
        ..UsageDraft::new(ok(SourceId::new(id)), tokens)
    }
}

/// The sums, added up in the plainest way.
fn added_up(records: &[UsageRecord], by: UsageBy) -> Vec<UsageSum> {
    let mut groups: BTreeMap<String, Vec<&UsageRecord>> = BTreeMap::new();
    for record in records {
        let run = record.run_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let key = match by {
            UsageBy::Total => String::new(),
            UsageBy::Model => record.model.clone().unwrap_or_else(|| "unknown".to_owned()),
            UsageBy::Caller => record.caller.as_str().to_owned(),
            UsageBy::Owner => record.owner_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            UsageBy::Day => record.created_at.to_chrono().date_naive().to_string(),
            UsageBy::Thread => record.thread_id.to_string(),
            UsageBy::Run => format!("{}/{run}", record.thread_id),
            UsageBy::Round => {
                format!(
                    "{run}/{}",
                    record.round_index.map(|round| format!("{round:0>6}")).unwrap_or_default()
                )
            }
        };
        groups.entry(key).or_default().push(record);
    }
    let sums = groups.into_iter().map(|(key, calls)| {
        let sum = |of: fn(&TokenCounts) -> u64| calls.iter().map(|call| of(&call.tokens)).sum();
        let mut runs: Vec<_> = calls.iter().map(|call| (&call.thread_id, &call.run_id)).collect();
        runs.sort_unstable();
        runs.dedup();
        UsageSum {
            key,
            llm_calls: calls.len() as u64,
            estimated_calls: calls.iter().filter(|call| call.estimated).count() as u64,
            runs: runs.len() as u64,
            tokens: TokenCounts {
                input: sum(|tokens| tokens.input),
                output: sum(|tokens| tokens.output),
                total: sum(|tokens| tokens.total),
                cache_read: sum(|tokens| tokens.cache_read),
                cache_write: sum(|tokens| tokens.cache_write),
                reasoning: sum(|tokens| tokens.reasoning),
            },
            cost_nanos: calls.iter().filter_map(|call| call.cost_nanos).sum(),
            unpriced_calls: calls.iter().filter(|call| call.cost_nanos.is_none()).count() as u64,
        }
    });
    sums.collect()
}
