//! `export`: a thread in the shapes that other systems read.
//!
//! What is written is what the log held when the command began: where it ends is asked for once, and what is appended
//! meanwhile is left out. The log is read in pages and written as it comes. A file gets its name when it is whole.
//!
//! Payloads that are kept beside the log as blobs are given as the references that stand in the log.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use runledger_core::view::items::ItemReducer;
use runledger_core::view::legacy::codex::Codex;
use runledger_core::view::legacy::deerflow::DeerFlow;
use runledger_core::view::legacy::langchain::LangChain;
use runledger_core::view::legacy::openai_chat::OpenAiChat;
use runledger_core::view::legacy::openai_responses::OpenAiResponses;
use runledger_core::{
    ErrorKind, Event, EventFilter, ItemStatus, Ledger, RawJson, RunId, RunVisibility, Scope, ThreadId,
    Visibility,
};

use super::log::Log;
use crate::Failure;
use crate::args::DatabaseArgs;
use crate::import::codex;
use crate::output::Output;

/// The shape of an export.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The log as it is: an event a line.
    Events,
    /// Whole items, a line each, in the order in which they ended; last those that go on.
    Items,
    /// Messages of OpenAI's chat completions: one JSON array.
    OpenaiChat,
    /// Input items of OpenAI's Responses API: one JSON array.
    OpenaiResponses,
    /// LangChain's messages as {type, data}: one JSON array.
    Langchain,
    /// Events as DeerFlow's event store has them, one a line.
    Deerflow,
    /// Events as Codex's legacy rollouts have them, one a line.
    CodexLegacy,
    /// A rollout as Codex writes it, line by line: lines that were imported as they were. Hidden runs are told, for
    /// so they stand there.
    CodexRollout,
}

/// Arguments of `export`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ExportArgs {
    /// The thread.
    pub thread: ThreadId,
    /// The shape.
    #[arg(long, value_enum)]
    pub format: Shape,
    /// Only this run.
    #[arg(long)]
    pub run: Option<RunId>,
    /// Records of hidden runs too: superseded ones, and those rolled back.
    #[arg(long, conflicts_with = "run")]
    pub hidden: bool,
    /// Write to this file instead; one that is there is replaced when the export is whole.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Export only what this owner may see; without it, everything.
    #[arg(long)]
    pub owner: Option<runledger_core::OwnerId>,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

impl ExportArgs {
    fn scope(&self) -> Scope {
        self.owner.clone().map_or(Scope::System, Scope::Owner)
    }
}

/// `export`.
pub(crate) async fn run(args: &ExportArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let Some(path) = &args.output else {
        let (out, _) = output.writers();
        return write(args, ledger, out).await;
    };
    let doing = || format!("write {}", path.display());
    let partial = partial_name(path)?;
    let file = File::create(&partial).map_err(|error| Failure::io(doing(), error))?;
    let mut out = BufWriter::new(file);
    let written = write(args, ledger, &mut out).await;
    let whole = written.and_then(|()| {
        let file = out.into_inner().map_err(|error| Failure::io(doing(), error.into_error()))?;
        file.sync_all().map_err(|error| Failure::io(doing(), error))?;
        std::fs::rename(&partial, path).map_err(|error| Failure::io(doing(), error))
    });
    if whole.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&partial);
    }
    whole
}

/// Where a file is until it is whole: beside its own place.
fn partial_name(path: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = path.file_name() else {
        return Err(Failure::Usage(format!("--output {} names no file", path.display())));
    };
    let mut partial = name.to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    Ok(path.with_file_name(partial))
}

async fn write(args: &ExportArgs, ledger: &Ledger, out: &mut dyn Write) -> Result<(), Failure> {
    let scope = args.scope();
    let thread = ledger.threads().get(&scope, &args.thread).await?;
    let end = ledger.threads().head(&scope, &args.thread).await?.next_seq;
    if let Some(run) = &args.run {
        ledger.runs().get(&scope, &args.thread, run).await?;
    }
    let visibility =
        if args.hidden || args.run.is_some() { RunVisibility::All } else { RunVisibility::Shown };
    let mut runs = Runs { ledger, scope: &scope, thread: &args.thread, visibility, known: HashMap::new() };
    let Some(mut export) = Export::of(args.format, &mut *out) else {
        return rollout(args, ledger, end, out).await;
    };
    export.begin(thread.system_prompt.as_deref().filter(|_| args.run.is_none()))?;
    let filter = args.run.clone().map(EventFilter::of_run).unwrap_or_default();
    let mut log = Log::new(ledger, &scope, &args.thread, filter).until(end);
    while let Some(events) = log.page().await? {
        for event in &events {
            if runs.shows(event).await? {
                export.event(event)?;
            }
        }
    }
    export.end()
}

async fn rollout(args: &ExportArgs, ledger: &Ledger, end: u64, out: &mut dyn Write) -> Result<(), Failure> {
    if args.run.is_some() {
        return Err(Failure::Usage(
            "--run cannot be given with codex-rollout: a rollout is a whole thread".to_owned(),
        ));
    }
    let written = |error| Failure::io("write the export", error);
    codex::export::export(ledger, &args.scope(), &args.thread, end, |line| {
        out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(written)
    })
    .await?;
    out.flush().map_err(written)
}

/// Which runs are shown, each asked for once.
struct Runs<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    thread: &'a ThreadId,
    visibility: RunVisibility,
    known: HashMap<RunId, bool>,
}

impl Runs<'_> {
    async fn shows(&mut self, event: &Event) -> Result<bool, Failure> {
        let Some(run) = event.run_id.as_ref().filter(|_| self.visibility == RunVisibility::Shown) else {
            return Ok(true);
        };
        if let Some(shown) = self.known.get(run) {
            return Ok(*shown);
        }
        let shown = match self.ledger.runs().get(self.scope, self.thread, run).await {
            Ok(row) => row.visibility == Visibility::Shown,
            // Nothing says that it is hidden.
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(error.into()),
        };
        self.known.insert(run.clone(), shown);
        Ok(shown)
    }
}

/// A thread as far as it is told.
enum Told {
    Events,
    Items(ItemReducer),
    Chat(OpenAiChat),
    Responses(OpenAiResponses),
    LangChain(LangChain),
    DeerFlow(DeerFlow),
    Codex(Box<Codex>),
}

struct Export<'a> {
    told: Told,
    is_array: bool,
    is_first: bool,
    out: &'a mut dyn Write,
}

impl<'a> Export<'a> {
    /// `None` for a rollout, which is no record a line but what was imported.
    fn of(shape: Shape, out: &'a mut dyn Write) -> Option<Self> {
        let (told, is_array) = match shape {
            Shape::Events => (Told::Events, false),
            Shape::Items => (Told::Items(ItemReducer::default()), false),
            Shape::OpenaiChat => (Told::Chat(OpenAiChat::default()), true),
            Shape::OpenaiResponses => (Told::Responses(OpenAiResponses::default()), true),
            Shape::Langchain => (Told::LangChain(LangChain::default()), true),
            Shape::Deerflow => (Told::DeerFlow(DeerFlow::default()), false),
            Shape::CodexLegacy => (Told::Codex(Box::default()), false),
            Shape::CodexRollout => return None,
        };
        Some(Self { told, is_array, is_first: true, out })
    }

    fn begin(&mut self, system_prompt: Option<&str>) -> Result<(), Failure> {
        if self.is_array {
            self.text("[")?;
        }
        let Some(prompt) = system_prompt else { return Ok(()) };
        let message = match self.told {
            Told::Chat(_) => OpenAiChat::system(prompt),
            Told::Responses(_) => OpenAiResponses::system(prompt),
            Told::LangChain(_) => LangChain::system(prompt),
            Told::Events | Told::Items(_) | Told::DeerFlow(_) | Told::Codex(_) => return Ok(()),
        };
        self.records(vec![message])
    }

    fn event(&mut self, event: &Event) -> Result<(), Failure> {
        let records = match &mut self.told {
            Told::Events => vec![RawJson::encode("event", event)?],
            Told::Items(items) => {
                let ended = items.tell(event).filter(|item| item.entry.status != ItemStatus::InProgress);
                ended.iter().map(|item| RawJson::encode("item", item)).collect::<Result<_, _>>()?
            }
            Told::Chat(chat) => chat.take(event),
            Told::Responses(responses) => responses.take(event),
            Told::LangChain(messages) => messages.take(event),
            Told::DeerFlow(events) => events.take(event).into_iter().collect(),
            Told::Codex(events) => events.take(event),
        };
        self.records(records)
    }

    fn end(mut self) -> Result<(), Failure> {
        let left = match std::mem::replace(&mut self.told, Told::Events) {
            Told::Items(items) => {
                items.items().map(|item| RawJson::encode("item", item)).collect::<Result<_, _>>()?
            }
            Told::Chat(chat) => chat.finish(),
            Told::Events | Told::Responses(_) | Told::LangChain(_) | Told::DeerFlow(_) | Told::Codex(_) => {
                Vec::new()
            }
        };
        self.records(left)?;
        if self.is_array {
            self.text(if self.is_first { "]\n" } else { "\n]\n" })?;
        }
        self.out.flush().map_err(|error| Failure::io("write the export", error))
    }

    /// A record a line, in an array too.
    fn records(&mut self, records: Vec<RawJson>) -> Result<(), Failure> {
        for record in records {
            match (self.is_array, self.is_first) {
                (true, true) => self.text("\n")?,
                (true, false) => self.text(",\n")?,
                (false, _) => {}
            }
            self.is_first = false;
            self.text(record.as_str())?;
            if !self.is_array {
                self.text("\n")?;
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|error| Failure::io("write the export", error))
    }
}
