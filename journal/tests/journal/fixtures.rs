//! A small stream of our own, with what goes wrong in real ones; what is stored of it is a snapshot.

use pretty_assertions::assert_eq;
use runledger_core::view::legacy::deerflow::completion;
use runledger_core::{
    Error, EventFilter, Ledger, MemoryLedger, NewRun, NewThread, RunId, RunStatus, Scope, SeqRange, ThreadId,
};
use runledger_journal::Settings;
use runledger_journal::adapters::langchain_recording::{Recording, RecordingError, Summary};

const AGENT: &str = include_str!("fixtures/agent.jsonl");

async fn imported() -> (Ledger, Summary) {
    let ledger = MemoryLedger::new().ledger();
    let recording = Recording::parse(AGENT.as_bytes()).unwrap();
    let mut done = 0;
    // As other systems count, so that their figures can be compared.
    let settings = Settings { estimate_failed: false, ..Settings::default() };
    let import = recording.import(&ledger, &Scope::System, &settings, |callbacks| done += callbacks);
    let summary = import.await.unwrap();
    assert_eq!(done, recording.callbacks());
    (ledger, summary)
}

fn thread() -> ThreadId {
    ThreadId::new("fixture").unwrap()
}

#[tokio::test]
async fn the_stored_events_are_these() {
    let (ledger, _) = imported().await;
    let range = SeqRange::after(0, 1_000);
    let filter = EventFilter::default();
    let page = ledger.events().list_events(&Scope::System, &thread(), &filter, &range).await.unwrap();
    let lines: Vec<String> = page.items.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn the_usage_records_are_these() {
    let (ledger, _) = imported().await;
    let run = RunId::new("first").unwrap();
    let usage = ledger.usage().list_by_run(&Scope::System, &thread(), &run, None, 100).await.unwrap();
    let lines: Vec<String> = usage.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn the_runs_say_how_they_ended_and_what_they_took() {
    let (ledger, summary) = imported().await;
    let get = async |id: &str| {
        ledger.runs().get(&Scope::System, &thread(), &RunId::new(id).unwrap()).await.unwrap()
    };
    let first = get("first").await;
    assert_eq!(first.status, RunStatus::Success);
    assert_eq!(first.first_human_message.as_deref(), Some("How many words?"));
    assert_eq!(first.last_ai_message.as_deref(), Some("One word."));
    assert_eq!(first.model_name.as_deref(), Some("large-1"));
    assert_eq!(first.totals.llm_calls, 5);
    assert_eq!(first.totals.total_tokens, 50 + 7 + 10 + 64);
    assert_eq!(first.totals.lead_agent_tokens, 50 + 64);
    assert_eq!(first.totals.middleware_tokens, 7);
    assert_eq!(first.totals.subagent_tokens, 10);
    assert_eq!(first.totals.cache_read_tokens, 8);
    let second = get("second").await;
    assert_eq!(second.status, RunStatus::Interrupted);
    assert_eq!(second.stop_reason.as_deref(), Some("waiting_for_input"));
    let third = get("third").await;
    assert_eq!((third.status, third.error.as_deref()), (RunStatus::Error, Some("KeyError: 'leaf'")));
    assert_eq!(
        summary,
        Summary {
            threads: 1,
            runs: 3,
            events: 32,
            messages: 11,
            usage_records: 6,
            input_tokens: 40 + 5 + 7 + 60 + 1,
            output_tokens: 10 + 2 + 3 + 4 + 1,
            total_tokens: 50 + 7 + 10 + 64 + 2,
            cost_nanos: 0,
            skipped: 0,
            quarantined: 0,
        }
    );
}

#[tokio::test]
async fn deerflow_would_count_it_so() {
    let (ledger, _) = imported().await;
    let id = RunId::new("first").unwrap();
    let run = ledger.runs().get(&Scope::System, &thread(), &id).await.unwrap();
    let usage = ledger.usage().list_by_run(&Scope::System, &thread(), &id, None, 100).await.unwrap();
    let filter = EventFilter::of_run(id);
    let range = SeqRange::after(0, 1_000);
    let events = ledger.events().list_events(&Scope::System, &thread(), &filter, &range).await.unwrap();
    let found = serde_json::to_value(completion(&run, &events.items, &usage)).unwrap();
    assert_eq!(
        found,
        serde_json::json!({
            "total_input_tokens": 112,
            "total_output_tokens": 19,
            "total_tokens": 131,
            // The failed call and the one told of by the sub-agent are none.
            "llm_call_count": 3,
            "lead_agent_tokens": 114,
            "subagent_tokens": 10,
            "middleware_tokens": 7,
            "token_usage_by_model": {
                "large-1": {"input_tokens": 40, "output_tokens": 10, "total_tokens": 50, "cache_read_tokens": 8},
                "large-2": {"input_tokens": 60, "output_tokens": 4, "total_tokens": 64},
                "small": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
                "unknown": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
            },
            // One prompt, three answers, one tool result: no failed or unfinished tool.
            "message_count": 5,
            "last_ai_message": "One word.",
            "first_human_message": "How many words?",
        })
    );
}

#[tokio::test]
async fn a_run_that_a_runtime_works_on_is_not_taken_over() {
    let ledger = MemoryLedger::new().ledger();
    let new = NewRun {
        create_missing: Some(NewThread::new(thread())),
        ..NewRun::new(thread(), RunId::new("first").unwrap())
    };
    ledger.admit(&Scope::System, new).await.unwrap();
    let recording = Recording::parse(AGENT.as_bytes()).unwrap();
    let error = recording.import(&ledger, &Scope::System, &Settings::default(), |_| ()).await.unwrap_err();
    assert!(matches!(error, RecordingError::Ledger { source: Error::Conflict { what: "run", .. }, .. }));
    let head = ledger.threads().head(&Scope::System, &thread()).await.unwrap();
    assert_eq!(head.next_seq, 1);
}

fn refused(text: &str) -> String {
    match Recording::parse(text.as_bytes()).unwrap_err() {
        RecordingError::Line { line, reason } => format!("{line}: {reason}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_bad_line_is_named_with_its_field() {
    let lines: Vec<&str> = AGENT.lines().collect();
    let open = lines[0];
    assert_eq!(refused(&lines[1..].join("\n")), "1: n: is 2, expected 1; lines are missing or out of order");
    assert!(refused(&format!("{open}\n{{")).starts_with("2: is no callback: "));
    assert!(refused(&format!("{open}\n\n")).starts_with("2: is no callback: "));
    let second = |callback: &str, at: &str, args: &str| {
        refused(&format!(
            r#"{open}
{{"n":2,"at":{at},"callback":"{callback}","run_id":"r","parent_run_id":null,"tags":null,"metadata":null,"args":{args}}}"#
        ))
    };
    assert_eq!(second("on_llm_end", "1", "{}"), "2: args.response: is missing");
    assert_eq!(
        second("on_lm_end", "1", "{}"),
        "2: callback: \"on_lm_end\" is not one that a handler receives"
    );
    assert_eq!(second("on_llm_end", "1", "[]"), "2: args: is not a JSON object");
    assert_eq!(
        second("on_llm_end", "0.1", r#"{"response":{}}"#),
        "2: at: is before the line above; lines are in the order of the callbacks"
    );
    assert_eq!(
        second("direct.flush", "1", r#"{"journal":"other"}"#),
        "2: args.journal: \"other\" was never opened"
    );
    assert_eq!(
        refused(&open.replace("direct.__init__", "direct.flush")),
        "1: args.journal: \"first\" was never opened"
    );
    assert!(refused(&open.replace("\"fixture\"", "\"\"")).starts_with("1: args.thread_id: is missing"));
}

#[test]
fn no_cut_or_changed_byte_makes_the_reader_panic() {
    let bytes = AGENT.as_bytes();
    for cut in (0..bytes.len()).step_by(97) {
        let _ = Recording::parse(&bytes[..cut]);
        let mut changed = bytes.to_vec();
        changed[cut] ^= 0x5a;
        let _ = Recording::parse(changed.as_slice());
    }
}
