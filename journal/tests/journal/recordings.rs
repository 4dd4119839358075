//! Recorded streams of real agents, against what DeerFlow's own journal made of them.
//!
//! They are not part of the repository: where the folder is absent the tests say so and pass.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::PathBuf;

use pretty_assertions::assert_eq;
use runledger_core::view::legacy::deerflow::{Completion, completion, llm_error_fallback};
use runledger_core::{
    Event, EventFilter, Ledger, MemoryLedger, ONCE_TERMINAL, RawJson, Run, RunId, RunStatus, Scope, SeqRange,
    ThreadId, UsageRecord,
};
use runledger_journal::Settings;
use runledger_journal::adapters::langchain_recording::{Recording, Summary};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    thread_id: String,
    runs: Vec<ExpectedRun>,
}

#[derive(Deserialize)]
struct ExpectedRun {
    run_id: String,
    thread_id: String,
    outcome: ExpectedOutcome,
    completion_data: Completion,
    had_llm_error_fallback: bool,
}

#[derive(Deserialize)]
struct ExpectedOutcome {
    status: String,
}

fn scenarios() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/callbacks");
    let Ok(folders) = std::fs::read_dir(&root) else {
        println!("SKIPPED: no recordings at {}", root.display());
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = folders
        .filter_map(|folder| folder.ok().map(|folder| folder.path()))
        .filter(|folder| folder.join("callbacks.jsonl").is_file())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} has no recordings", root.display());
    found
}

fn name(scenario: &std::path::Path) -> String {
    scenario.file_name().unwrap().to_string_lossy().into_owned()
}

fn recording(scenario: &std::path::Path) -> Recording {
    let file = std::fs::File::open(scenario.join("callbacks.jsonl")).unwrap();
    Recording::parse(BufReader::new(file)).unwrap()
}

fn expected(scenario: &std::path::Path) -> Expected {
    let text = std::fs::read_to_string(scenario.join("expected.json")).unwrap();
    RawJson::parse("expected", &text).unwrap().decode_lossy().unwrap()
}

async fn import(ledger: &Ledger, recording: &Recording) -> Summary {
    // What a recording does not tell is not made up.
    let settings = Settings { estimate_failed: false, ..Settings::default() };
    recording.import(ledger, &Scope::System, &settings, |_| ()).await.unwrap()
}

async fn stored(ledger: &Ledger, run: &ExpectedRun) -> (Run, Vec<Event>, Vec<UsageRecord>) {
    let (thread, id) = (ThreadId::new(&run.thread_id).unwrap(), RunId::new(&run.run_id).unwrap());
    let scope = Scope::System;
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, |event: &Event| event.seq);
        let range = SeqRange { after_seq: Some(after), limit: 1_000, ..SeqRange::default() };
        let filter = EventFilter::of_run(id.clone());
        let page = ledger.events().list_events(&scope, &thread, &filter, &range).await.unwrap();
        events.extend(page.items);
        if !page.has_more {
            break;
        }
    }
    let usage = ledger.usage().list_by_run(&scope, &thread, &id, None, 1_000).await.unwrap();
    (ledger.runs().get(&scope, &thread, &id).await.unwrap(), events, usage)
}

#[tokio::test]
async fn totals_messages_and_counts_are_deerflows() {
    for scenario in scenarios() {
        let ledger = MemoryLedger::new().ledger();
        import(&ledger, &recording(&scenario)).await;
        let expected = expected(&scenario);
        assert_eq!(expected.runs[0].thread_id, expected.thread_id);
        for run in &expected.runs {
            let (row, events, usage) = stored(&ledger, run).await;
            let found = completion(&row, &events, &usage);
            assert_eq!(found, run.completion_data, "{} {}", name(&scenario), run.run_id);
            assert_eq!(
                llm_error_fallback(&events).is_some(),
                run.had_llm_error_fallback,
                "{} {}",
                name(&scenario),
                run.run_id
            );
        }
    }
}

#[tokio::test]
async fn every_run_ends_as_its_stream_tells() {
    // Breaking out of a stream is told to callbacks only: the program saw no error.
    let broken_off = [("20_cancelled", "run-3")];
    for scenario in scenarios() {
        let ledger = MemoryLedger::new().ledger();
        import(&ledger, &recording(&scenario)).await;
        for run in &expected(&scenario).runs {
            let (row, events, _) = stored(&ledger, run).await;
            let broken = broken_off.contains(&(name(&scenario).as_str(), run.run_id.as_str()));
            let status = match run.outcome.status.as_str() {
                "ok" if !broken => RunStatus::Success,
                "error" => RunStatus::Error,
                "ok" | "cancelled" => RunStatus::Interrupted,
                other => panic!("{other}"),
            };
            assert_eq!(row.status, status, "{} {}", name(&scenario), run.run_id);
            let is_terminal = |event: &&Event| event.once_key.as_deref() == Some(ONCE_TERMINAL);
            assert_eq!(events.iter().filter(is_terminal).count(), 1);
            assert!(events.last().is_some_and(|last| is_terminal(&last)));
        }
    }
}

#[tokio::test]
async fn a_second_import_writes_nothing() {
    for scenario in scenarios() {
        let recording = recording(&scenario);
        let ledger = MemoryLedger::new().ledger();
        let first = import(&ledger, &recording).await;
        let mut before = BTreeMap::new();
        for run in &expected(&scenario).runs {
            before.insert(run.run_id.clone(), stored(&ledger, run).await);
        }
        let second = import(&ledger, &recording).await;
        assert_eq!(second, Summary { skipped: first.runs, ..Summary::default() });
        for run in &expected(&scenario).runs {
            assert_eq!(before[&run.run_id], stored(&ledger, run).await);
        }
    }
}

#[tokio::test]
async fn no_item_is_left_open_and_every_event_has_its_place() {
    for scenario in scenarios() {
        let ledger = MemoryLedger::new().ledger();
        import(&ledger, &recording(&scenario)).await;
        for run in &expected(&scenario).runs {
            let (row, events, _) = stored(&ledger, run).await;
            let thread = ThreadId::new(&run.thread_id).unwrap();
            let filter = runledger_core::ItemFilter {
                run_id: Some(row.run_id.clone()),
                status: Some(runledger_core::ItemStatus::InProgress),
            };
            let range = SeqRange { limit: 10, ..SeqRange::default() };
            let open = ledger.items().list(&Scope::System, &thread, &filter, &range).await.unwrap();
            assert_eq!(open.items, Vec::new(), "{} {}", name(&scenario), run.run_id);
            let ordinals: Vec<u64> = events.iter().filter_map(|event| event.journal_ordinal).collect();
            assert_eq!(ordinals, (0..events.len() as u64).collect::<Vec<_>>());
        }
    }
}
