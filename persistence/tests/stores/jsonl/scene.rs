//! What these tests are made of.

use std::fs;
use std::path::{Path, PathBuf};

use runledger_core::{
    Category, Commit, Event, EventDraft, EventFilter, EventStore as _, EventType, NewThread, RawJson,
    Receipt, Result, RunId, Scope, SeqRange, ThreadId, ThreadStore as _,
};
use runledger_persistence::jsonl::{JsonlConfig, JsonlLedger};
use tempfile::TempDir;

/// A folder with a ledger over it.
pub(super) struct Scene {
    pub(super) folder: TempDir,
    pub(super) ledger: JsonlLedger,
}

pub(super) fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

pub(super) fn run(id: &str) -> RunId {
    RunId::new(id).unwrap()
}

/// A message; its text has what some readers take for the end of a line.
pub(super) fn message(text: &str) -> EventDraft {
    let text = format!("{text}\u{85}\u{2028}\u{2029}\r");
    EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::string(&text))
}

/// A commit of messages with these texts to run `of`, or to the thread itself.
pub(super) fn commit(id: &str, of: Option<&str>, texts: &[&str]) -> Commit {
    let events = texts.iter().map(|text| message(text)).collect();
    Commit { run_id: of.map(run), ..Commit::new(thread(id)) }.with_events(events)
}

/// The texts of these events.
pub(super) fn texts(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| event.content.decode::<String>().unwrap();
    events.iter().map(|event| text(event).trim_end().trim_end_matches('\u{85}').to_owned()).collect()
}

impl Scene {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path()).await;
        Self { folder, ledger }
    }

    /// With a thread `t`.
    pub(super) async fn with_thread() -> Self {
        let scene = Self::new().await;
        scene.ledger.create(&Scope::System, NewThread::new(thread("t"))).await.unwrap();
        scene
    }

    /// The same folder, as another process opens it.
    pub(super) async fn reopen(self) -> Self {
        let ledger = open(self.folder.path()).await;
        Self { ledger, ..self }
    }

    /// A copy of the folder, opened anew.
    pub(super) async fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        let ledger = open(folder.path()).await;
        Self { folder, ledger }
    }

    /// A file of thread `t`.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("threads/t").join(name)
    }

    pub(super) async fn append(&self, of: Option<&str>, texts: &[&str]) -> Result<Receipt> {
        self.ledger.append(&Scope::System, commit("t", of, texts)).await
    }

    /// All events of thread `t`, in pages.
    pub(super) async fn log(&self) -> Result<Vec<Event>> {
        log(&self.ledger, "t").await
    }

    /// The texts of all events of thread `t`.
    pub(super) async fn texts(&self) -> Vec<String> {
        texts(&self.log().await.unwrap())
    }

    /// Leaves the thread as a writer that died at work does.
    pub(super) fn leave_at_work(&self) {
        fs::write(self.file("lock"), "\0").unwrap();
    }
}

pub(super) async fn open(folder: &Path) -> JsonlLedger {
    JsonlLedger::open(folder, JsonlConfig::default()).await.unwrap()
}

/// All events of a thread, in pages.
pub(super) async fn log(ledger: &JsonlLedger, id: &str) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = SeqRange::after(events.last().map_or(0, |event| event.seq), 1_000);
        let page = ledger.list_events(&Scope::System, &thread(id), &EventFilter::default(), &after).await?;
        events.extend(page.items);
        if !page.has_more {
            return Ok(events);
        }
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every file below a folder, with its bytes.
pub(super) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}
