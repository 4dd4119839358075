//! Whatever order callbacks come in: a run ends once, nothing stays open, and the same stream is
//! stored the same way again.

use proptest::prelude::*;
use runledger_core::{
    Event, EventFilter, ItemFilter, ItemStatus, Ledger, MemoryLedger, NewRun, NewThread, ONCE_TERMINAL,
    Outcome, RawJson, RunId, Scope, SeqRange, ThreadId, Timestamp,
};
use runledger_journal::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, Context, Failed, Failure, LlmEnd, LlmStart, RuntimeCallbacks,
    ToolEnd, ToolError, ToolStart,
};
use runledger_journal::{FinishedRun, RunJournal};

/// Which callback, of which run, below which, with which payload.
type Step = (u8, usize, usize, usize);

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const ERRORS: [&str; 4] = ["ValueError", "GraphInterrupt", "CancelledError", ""];
const PAYLOADS: [&str; 8] = [
    "null",
    r#""text""#,
    r#"{"generations":[[{"text":"t","message":{"type":"ai","content":"x","id":"m","tool_calls":[{"name":"n","args":{},"id":"a"},{"name":"n","args":{},"id":"b"}],"usage_metadata":{"input_tokens":1,"output_tokens":1}}}]]}"#,
    r#"{"generations":[[{"text":"t"}]]}"#,
    r#"{"type":"tool","content":"ok","tool_call_id":"a","status":"error"}"#,
    r#"{"messages":[{"type":"tool","content":"ok","tool_call_id":"b"},{"type":"human","content":"hi","id":"m"}]}"#,
    r#"{"__type__":"Command","update":{"messages":[{"type":"ai","content":"from a tool"}],"artifacts":["p"]}}"#,
    r#"[[{"type":"human","content":"hi","id":"h"},{"type":"tool","content":"ok","tool_call_id":"a"}]]"#,
];

fn play(journal: &RunJournal, number: usize, step: Step) {
    let (kind, id, parent, payload) = step;
    let json = RawJson::parse("test", PAYLOADS[payload]).unwrap();
    let at = Timestamp::from_unix_micros(1_000_000 * number as i64).unwrap();
    let parent_run_id = IDS.get(parent).copied().filter(|parent| *parent != IDS[id]);
    let context = Context { parent_run_id, at, ..Context::new(IDS[id]) };
    let error = Failure { error_type: ERRORS[id], message: "m" };
    let tool_call_id = IDS.get(payload).copied();
    match kind {
        0 => journal.on_chain_start(ChainStart { context, name: None }),
        1 => journal.on_chain_end(ChainEnd { context, outputs: Some(&json) }),
        2 => journal.on_chain_error(Failed { context, error }),
        3 => journal.on_chat_model_start(ChatModelStart { context, messages: &json }),
        4 => journal.on_llm_start(LlmStart { context, prompts: &json }),
        5 => journal.on_llm_end(LlmEnd { context, response: &json }),
        6 => journal.on_llm_error(Failed { context, error }),
        7 => journal.on_tool_start(ToolStart { context, name: "n", inputs: Some(&json), tool_call_id }),
        8 => journal.on_tool_end(ToolEnd { context, name: None, output: &json }),
        _ => journal.on_tool_error(ToolError { context, error, tool_call_id }),
    }
}

async fn record(steps: &[Step]) -> (Ledger, FinishedRun, Vec<Event>) {
    let ledger = MemoryLedger::new().ledger();
    let thread = ThreadId::new("t").unwrap();
    let new = NewRun {
        create_missing: Some(NewThread::new(thread.clone())),
        ..NewRun::new(thread.clone(), RunId::new("r").unwrap())
    };
    let journal = RunJournal::begin(&ledger, &Scope::System, new).await.unwrap();
    for (number, step) in steps.iter().enumerate() {
        play(&journal, number, *step);
    }
    let at = Timestamp::from_unix_micros(1_000_000_000).unwrap();
    let finished = journal.finish_at(Outcome::success(), at).await.unwrap();
    let range = SeqRange::after(0, 1_000);
    let page = ledger.events().list_events(&Scope::System, &thread, &EventFilter::default(), &range).await;
    (ledger, finished, page.unwrap().items)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_run_ends_once_and_leaves_nothing_open(
        steps in prop::collection::vec((0..10_u8, 0..4_usize, 0..5_usize, 0..8_usize), 0..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (ledger, finished, events) = record(&steps).await;
            prop_assert_eq!(&finished.report.quarantined, &Vec::new());
            prop_assert_eq!((finished.report.lost, finished.report.fenced), (0, 0));
            let ends = events.iter().filter(|event| event.once_key.as_deref() == Some(ONCE_TERMINAL)).count();
            prop_assert_eq!(ends, 1);
            let thread = ThreadId::new("t").unwrap();
            let open = ItemFilter { run_id: None, status: Some(ItemStatus::InProgress) };
            let range = SeqRange::after(0, 10);
            let open = ledger.items().list(&Scope::System, &thread, &open, &range).await.unwrap();
            prop_assert_eq!(open.items, Vec::new());
            // Each item is completed exactly once.
            let mut done: Vec<_> = events
                .iter()
                .filter_map(|event| event.item.as_ref())
                .filter(|item| item.status != ItemStatus::InProgress)
                .map(|item| item.item_id.clone())
                .collect();
            let all = done.len();
            done.sort();
            done.dedup();
            prop_assert_eq!(done.len(), all);
            let (_, _, again) = record(&steps).await;
            prop_assert_eq!(events, again);
            Ok(())
        })?;
    }
}
