//! The journal on real databases: what comes back is what the memory ledger gives back.

use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;
use runledger_core::{
    Event, EventFilter, ItemEntry, ItemFilter, Ledger, ListRange, MemoryLedger, Run, RunFilter, Scope,
    SeqRange, ThreadFilter, ThreadId, UsageBreakdown,
};
use runledger_journal::Settings;
use runledger_journal::adapters::langchain_recording::{Recording, Summary};

use crate::backend::{Fresh, on_each_backend};

on_each_backend!(recordings_come_back_as_from_memory, a_recording_is_imported_once);

/// The journal's own fixture, and the recordings of real agents where they are beside the checkout.
fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("journal/tests/journal/fixtures/agent.jsonl")];
    let folder = root.join("../shared/data/callbacks");
    match std::fs::read_dir(&folder) {
        Ok(scenarios) => files.extend(
            scenarios
                .map(|scenario| scenario.expect("a folder").path().join("callbacks.jsonl"))
                .filter(|file| file.exists()),
        ),
        Err(_) => say(&format!("SKIPPED: no recordings at {}", folder.display())),
    }
    files.sort();
    files
}

#[expect(clippy::print_stderr, reason = "what is skipped must be seen")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn parse(file: &Path) -> Recording {
    let bytes = std::fs::read(file).expect("a readable file");
    Recording::parse(bytes.as_slice()).expect("a recording")
}

async fn import(ledger: &Ledger, recording: &Recording) -> Summary {
    // What a recording does not tell is not made up.
    let settings = Settings { estimate_failed: false, ..Settings::default() };
    recording.import(ledger, &Scope::System, &settings, |_| ()).await.expect("an import")
}

/// Everything readers give of one thread.
#[derive(Debug, PartialEq)]
struct Contents {
    runs: Vec<Run>,
    events: Vec<Event>,
    items: Vec<ItemEntry>,
    usage: UsageBreakdown,
}

async fn contents(ledger: &Ledger, thread: &ThreadId) -> Contents {
    let (scope, range) = (Scope::System, SeqRange::after(0, 1_000));
    let of_thread = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    let runs = ledger.runs().list(&scope, &of_thread, &ListRange::newest(1_000)).await.expect("runs");
    let events = ledger.events().list_events(&scope, thread, &EventFilter::default(), &range).await;
    let items = ledger.items().list(&scope, thread, &ItemFilter::default(), &range).await;
    Contents {
        runs: runs.items.into_iter().map(canonical).collect(),
        events: events.expect("events").items,
        items: items.expect("items").items,
        usage: ledger.usage().by_thread(&scope, thread, true).await.expect("usage"),
    }
}

/// jsonb does not keep the order of keys.
fn canonical(run: Run) -> Run {
    let sorted =
        |document: &runledger_core::RawJson| document.decode::<serde_json::Value>().expect("JSON").into();
    Run { metadata: sorted(&run.metadata), kwargs: sorted(&run.kwargs), ..run }
}

/// Every recording, imported into the database and into memory, reads the same.
async fn recordings_come_back_as_from_memory(fresh: &Fresh) {
    let (ledger, memory) = (fresh.ledger(), MemoryLedger::new().ledger());
    for file in recordings() {
        let recording = parse(&file);
        assert_eq!(
            import(&ledger, &recording).await,
            import(&memory, &recording).await,
            "{}",
            file.display()
        );
    }
    let threads = memory.threads();
    let all = threads.list(&Scope::System, &ThreadFilter::default(), &ListRange::newest(1_000)).await;
    for thread in all.expect("threads").items {
        assert_eq!(contents(&ledger, &thread.thread_id).await, contents(&memory, &thread.thread_id).await);
    }
}

/// The same recording again writes nothing.
async fn a_recording_is_imported_once(fresh: &Fresh) {
    let ledger = fresh.ledger();
    for file in recordings() {
        let recording = parse(&file);
        import(&ledger, &recording).await;
        let again = import(&ledger, &recording).await;
        let nothing = Summary { skipped: recording.runs() as u64, ..Summary::default() };
        assert_eq!(again, nothing, "{}", file.display());
    }
}
