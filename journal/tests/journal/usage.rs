//! What model calls took: rounds, calls that failed, and budgets.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, Budget, BudgetLimit, Caller, ErrorKind, Estimate, Ledger, MemoryLedger, NewRun, NewThread,
    Outcome, RawJson, Reservation, Reserve, RunId, RunStatus, Scope, ThreadId, Timestamp, TokenCounts,
    UsageRecord,
};
use runledger_journal::callbacks::{
    ChatModelStart, Context, ExternalUsage, Failed, Failure, LlmEnd, LlmStart, RuntimeCallbacks,
};
use runledger_journal::{Price, PricedCall, Pricer, RESERVED, RunJournal, Settings};

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn json(text: &str) -> RawJson {
    RawJson::parse("test", text).unwrap()
}

struct Bench {
    ledger: Ledger,
    journal: RunJournal,
}

impl Bench {
    async fn new(settings: Settings, budget: Budget) -> Self {
        let ledger = MemoryLedger::new().ledger();
        let admission = Admission { budget, ..Admission::default() };
        let new = NewRun {
            admission,
            create_missing: Some(NewThread::new(thread())),
            ..NewRun::new(thread(), RunId::new("r").unwrap())
        };
        let journal = RunJournal::begin_with(&ledger, &Scope::System, new, settings).await.unwrap();
        Self { ledger, journal }
    }

    fn starts(&self, call: &str, tags: &[String]) {
        let messages = json(
            r#"[[{"type":"system","content":"12345678"},{"type":"human","content":[{"type":"text","text":"\u00e9\u00e9"}]}]]"#,
        );
        let context = Context { tags, ..Context::new(call) };
        self.journal.on_chat_model_start(ChatModelStart { context, messages: &messages });
    }

    fn ends(&self, call: &str, tokens: u64) {
        let response = json(&format!(
            r#"{{"generations":[[{{"text":"","message":{{"type":"ai","content":"ok",
                "usage_metadata":{{"input_tokens":{tokens},"output_tokens":0,"total_tokens":{tokens}}}}}}}]]}}"#
        ));
        self.journal.on_llm_end(LlmEnd { context: Context::new(call), response: &response });
    }

    fn fails(&self, call: &str) {
        let error = Failure { error_type: "E", message: "no" };
        self.journal.on_llm_error(Failed { context: Context::new(call), error });
    }

    async fn records(&self) -> Vec<UsageRecord> {
        let run = self.journal.run().run_id.clone();
        self.ledger.usage().list_by_run(&Scope::System, &thread(), &run, None, 100).await.unwrap()
    }
}

/// The id, the round, the tokens, and whether they are estimated.
fn shown(records: &[UsageRecord]) -> Vec<(&str, Option<u64>, u64, bool)> {
    records
        .iter()
        .map(|call| (call.source_id.as_str(), call.round_index, call.tokens.total, call.estimated))
        .collect()
}

/// A call that failed, and one that never ended, are billed for what they were shown.
#[tokio::test]
async fn calls_without_an_answer_are_estimated() {
    for (estimate_failed, chat, text) in [(true, 6 + 5, 7), (false, 0, 0)] {
        let settings = Settings { estimate_failed, ..Settings::default() };
        let bench = Bench::new(settings, Budget::default()).await;
        bench.starts("failed", &[]);
        bench.fails("failed");
        bench.starts("late", &[]);
        bench.fails("late");
        bench.ends("late", 3);
        let prompts = json(r#"["123456789012"]"#);
        bench.journal.on_llm_start(LlmStart { context: Context::new("open"), prompts: &prompts });
        let finished = bench.journal.finish(Outcome::error("x")).await.unwrap();
        let records = bench.records().await;
        let expected = [
            ("r/failed", Some(0), chat, true),
            ("r/late", Some(1), 3, false),
            ("r/open", Some(2), text, true),
        ];
        assert_eq!(shown(&records), expected);
        assert_eq!(finished.run.totals.total_tokens, chat + 3 + text);
        assert_eq!(finished.run.totals.llm_calls, 3);
    }
}

/// A round is a call of the lead agent; what others call meanwhile is part of it.
#[tokio::test]
async fn rounds_are_the_calls_of_the_lead_agent() {
    let bench = Bench::new(Settings::default(), Budget::default()).await;
    let middleware = ["middleware:memory".to_owned()];
    for (call, tags) in [("a", &middleware[..]), ("b", &[]), ("c", &middleware[..]), ("d", &[])] {
        bench.starts(call, tags);
        bench.ends(call, 1);
    }
    bench.journal.finish(Outcome::success()).await.unwrap();
    let records = bench.records().await;
    let rounds: Vec<_> = records.iter().map(|call| call.round_index).collect();
    assert_eq!(rounds, [Some(0), Some(0), Some(0), Some(1)]);
}

/// What is reserved is settled by the next call, failed or not, and what calls took is counted before the
/// next is let through.
#[tokio::test]
async fn a_call_settles_what_was_reserved_for_it() {
    let budget = Budget { max_tokens: Some(100), ..Budget::default() };
    let bench = Bench::new(Settings::default(), budget).await;
    let reserve = async |tokens| {
        let wanted = Reserve::call(Estimate { tokens, cost_nanos: 0 });
        match bench.journal.reserve(wanted).await.unwrap() {
            Reservation::Granted(run) => Ok((run.totals.total_tokens, run.reserved.tokens)),
            Reservation::Refused(limit) => Err(limit),
        }
    };
    assert_eq!(reserve(80).await, Ok((0, 80)));
    bench.starts("a", &[]);
    bench.ends("a", 30);
    assert_eq!(reserve(60).await, Ok((30, 60)));
    bench.starts("b", &[]);
    bench.fails("b");
    // The failed call took 11 of its 60.
    assert_eq!(reserve(60).await, Err(BudgetLimit::MaxTokens));
    assert_eq!(reserve(59).await, Ok((41, 59)));
    let spent = reserve(1).await.unwrap_err();
    let finished = bench.journal.finish(Outcome::budget_exhausted(spent)).await.unwrap();
    assert_eq!(finished.run.status, RunStatus::BudgetExhausted);
    assert_eq!((finished.run.totals.total_tokens, finished.run.reserved), (41, Estimate::default()));
    assert_eq!(finished.run.iterations, 3);
}

/// A model that answers without a word of usage is billed all the same: for what it was shown and what it answered.
#[tokio::test]
async fn an_answer_without_usage_is_estimated() {
    for (estimate_failed, input, output) in [(true, 6 + 5, 3), (false, 0, 0)] {
        let budget = Budget { max_tokens: Some(100), ..Budget::default() };
        let bench = Bench::new(Settings { estimate_failed, ..Settings::default() }, budget).await;
        for call in ["silent", "late"] {
            let wanted = Reserve::call(Estimate { tokens: 40, cost_nanos: 0 });
            assert!(matches!(bench.journal.reserve(wanted).await.unwrap(), Reservation::Granted(_)));
            bench.starts(call, &[]);
            let response =
                json(r#"{"generations":[[{"text":"","message":{"type":"ai","content":"123456789012"}}]]}"#);
            bench.journal.on_llm_end(LlmEnd { context: Context::new(call), response: &response });
        }
        // What the call took replaces the estimate.
        bench.ends("late", 2);
        let finished = bench.journal.finish(Outcome::success()).await.unwrap();
        let records = bench.records().await;
        let expected = [("r/late", Some(1), 2, false), ("r/silent", Some(0), input + output, true)];
        let mut told = shown(&records);
        told.sort_unstable();
        assert_eq!(told, expected);
        let totals = finished.run.totals;
        assert_eq!((totals.input_tokens, totals.output_tokens), (input + 2, output));
    }
}

/// Ten billionths a token of one model; it knows no other.
#[derive(Debug)]
struct Tens;

impl Pricer for Tens {
    fn price(&self, call: &PricedCall<'_>) -> Option<Price> {
        assert_ne!(call.model, Some("broken"), "a pricer that panics");
        let cost_nanos = call.tokens.total * 10;
        (call.model == Some("known")).then(|| Price { cost_nanos, price_table: "tens".to_owned() })
    }
}

/// A call of a model that says its name.
fn answers(bench: &Bench, call: &str, model: &str, tokens: u64) {
    bench.starts(call, &[]);
    let response = json(&format!(
        r#"{{"generations":[[{{"text":"","message":{{"type":"ai","content":"ok",
            "response_metadata":{{"model_name":"{model}"}},
            "usage_metadata":{{"input_tokens":{tokens},"output_tokens":0,"total_tokens":{tokens}}}}}}}]]}}"#
    ));
    bench.journal.on_llm_end(LlmEnd { context: Context::new(call), response: &response });
}

async fn cost(bench: &Bench, cost_nanos: u64) -> Result<(u64, u64), BudgetLimit> {
    let wanted = Reserve::call(Estimate { tokens: 0, cost_nanos });
    match bench.journal.reserve(wanted).await.unwrap() {
        Reservation::Granted(run) => Ok((run.totals.cost_nanos, run.reserved.cost_nanos)),
        Reservation::Refused(limit) => Err(limit),
    }
}

const DEAR: Budget = Budget { max_tokens: None, max_cost_nanos: Some(1_000), max_iterations: None };

/// A budget of cost limits the run: each call counts its price, and what has none counts what was set aside for it.
#[tokio::test]
async fn a_budget_of_cost_limits_a_run() {
    let settings = Settings { pricer: Some(Arc::new(Tens)), ..Settings::default() };
    let bench = Bench::new(settings, DEAR).await;
    assert_eq!(cost(&bench, 400).await, Ok((0, 400)));
    answers(&bench, "a", "known", 30);
    assert_eq!(cost(&bench, 400).await, Ok((300, 400)));
    answers(&bench, "b", "other", 30);
    assert_eq!(cost(&bench, 200).await, Ok((700, 200)));
    answers(&bench, "c", "broken", 1);
    assert_eq!(cost(&bench, 101).await, Err(BudgetLimit::MaxCostNanos));
    assert_eq!(cost(&bench, 100).await, Ok((900, 100)));
    bench.starts("d", &[]);
    bench.fails("d");
    let told = |source_id, price| ExternalUsage {
        source_id,
        caller: Caller::lead_agent(),
        model: Some("known"),
        tokens: TokenCounts::of(2, 0),
        price,
        child_thread_id: None,
        at: Timestamp::now(),
    };
    bench.journal.record_external_usage(told(
        "priced",
        Some(Price { cost_nanos: 7, price_table: "theirs".to_owned() }),
    ));
    bench.journal.record_external_usage(told("unpriced", None));
    let finished = bench.journal.finish(Outcome::budget_exhausted(BudgetLimit::MaxCostNanos)).await.unwrap();
    assert_eq!(finished.run.totals.cost_nanos, 1_027);
    let records = bench.records().await;
    let mut prices: Vec<_> =
        records.iter().map(|call| (call.cost_nanos.unwrap(), call.price_table.as_deref().unwrap())).collect();
    prices.sort_unstable();
    let expected =
        [(7, "theirs"), (20, "tens"), (100, RESERVED), (200, RESERVED), (300, "tens"), (400, RESERVED)];
    assert_eq!(prices, expected);
}

/// Without a pricer a call costs what was set aside for it, and where that says nothing of its cost, nothing is.
#[tokio::test]
async fn nothing_is_reserved_that_nothing_would_count() {
    let bench = Bench::new(Settings::default(), DEAR).await;
    for (estimate, used) in [(600, 0), (300, 600)] {
        assert_eq!(cost(&bench, estimate).await, Ok((used, estimate)));
        answers(&bench, &format!("after-{used}"), "known", 1);
    }
    assert_eq!(cost(&bench, 101).await, Err(BudgetLimit::MaxCostNanos));
    let free = bench.journal.reserve(Reserve::call(Estimate { tokens: 5, cost_nanos: 0 })).await;
    assert_eq!(free.unwrap_err().kind(), ErrorKind::InvalidInput);
    let bench = Bench::new(Settings { track_usage: false, ..Settings::default() }, Budget::default()).await;
    let uncounted = bench.journal.reserve(Reserve::call(Estimate { tokens: 5, cost_nanos: 0 })).await;
    assert_eq!(uncounted.unwrap_err().kind(), ErrorKind::InvalidInput);
}
