//! `demo`: a small agent with real tools and a scripted model, through the journal into the
//! database and back as a replay.
//!
//! The tools really list, read and count the files of the current folder. Only the model is a
//! script, and it says so: its tokens are the words it was shown and said.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use runledger_core::{
    Admission, ItemId, Ledger, NewRun, NewThread, Outcome, RawJson, RunId, Scope, ThreadId, Timestamp,
};
use runledger_journal::RunJournal;
use runledger_journal::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, Context, LlmEnd, RuntimeCallbacks as _, ToolEnd, ToolStart,
};
use serde_json::{Value, json};

use crate::args::DemoArgs;
use crate::command::{replay, usage};
use crate::output::{Output, Tone};
use crate::{Failure, database};

const MODEL: &str = "scripted-demo";
const QUESTION: &str = "Which files are in this folder, and how many words do the first text files have?";
const ROOT: &str = "chain";
/// Files larger than this are not counted.
const MAX_BYTES: u64 = 1 << 20;
/// Files counted at most, and entries listed at most.
const COUNTED: usize = 3;
const LISTED: usize = 40;

/// `demo`.
pub(crate) async fn run(args: &DemoArgs, output: &mut Output) -> Result<(), Failure> {
    let folder = env::current_dir().map_err(|error| Failure::io("find the current folder", error))?;
    let url = &args.database.database_url;
    let ledger = database::open_or_make(url, output).await?;
    let outcome = show(&ledger, &args.scope(), &folder, output).await;
    ledger.close().await;
    let thread = outcome?;
    let style = output.style();
    output.line("")?;
    output.line(format!("The data is in {}.", runledger_migration::redacted(url)))?;
    output.line(format!("Try next:  {}", style.paint(Tone::Title, "runledger threads")))?;
    output.line(format!("           runledger replay {thread}"))?;
    output.line(format!("           runledger runs --thread {thread} --json"))?;
    output.line(format!("           runledger events --thread {thread}"))?;
    output.line("From the source tree, `cargo run --` stands for `runledger`.")
}

/// Runs the agent and tells of it.
async fn show(
    ledger: &Ledger,
    scope: &Scope,
    folder: &Path,
    output: &mut Output,
) -> Result<ThreadId, Failure> {
    let thread = ThreadId::generate();
    Agent::begin(ledger, scope, &thread, folder).await?.work().await?;
    replay::thread(ledger, scope, &thread, None, false, output).await?;
    output.line("")?;
    usage::usage_tables(output, &ledger.usage().by_thread(scope, &thread, true).await?)?;
    Ok(thread)
}

/// A tool call that the script asks for.
struct Call {
    id: String,
    name: &'static str,
    args: Value,
}

impl Call {
    fn new(number: usize, name: &'static str, path: &str) -> Self {
        Self { id: format!("call-{number}"), name, args: json!({ "path": path }) }
    }
}

struct Agent {
    journal: RunJournal,
    folder: PathBuf,
    messages: Vec<Value>,
    calls: usize,
}

impl Agent {
    /// Admits the run: the question is durable before the model is called.
    async fn begin(
        ledger: &Ledger,
        scope: &Scope,
        thread: &ThreadId,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let at = Timestamp::now();
        let title = folder.file_name().map(|name| format!("Words in {}", name.to_string_lossy()));
        let new = NewRun {
            admission: Admission { created_at: at, ..Admission::default() },
            input: vec![runledger_journal::user_message(ItemId::generate(), RawJson::string(QUESTION), at)],
            create_missing: Some(NewThread { display_name: title, ..NewThread::new(thread.clone()) }),
            ..NewRun::new(thread.clone(), RunId::generate())
        };
        let journal = RunJournal::begin(ledger, scope, new).await?;
        let messages = vec![json!({ "type": "human", "content": QUESTION })];
        Ok(Self { journal, folder: folder.to_owned(), messages, calls: 0 })
    }

    async fn work(mut self) -> Result<(), Failure> {
        self.journal.on_chain_start(ChainStart { context: Context::new(ROOT), name: Some("demo") });
        self.say("I look at what is here.", &[Call::new(1, "list_files", ".")]).await?;
        let listing = self.tool(&Call::new(1, "list_files", "."));
        let files = chosen(&self.folder, &listing);
        let answer = if files.is_empty() {
            "There are no text files here.".to_owned()
        } else {
            let calls: Vec<Call> =
                files.iter().enumerate().map(|(at, file)| Call::new(at + 2, "count_words", file)).collect();
            self.say("", &calls).await?;
            let mut found = Vec::new();
            for (call, file) in calls.iter().zip(&files) {
                found.push(format!("{file}: {}", self.tool(call)));
            }
            format!("I counted {}.", found.join("; "))
        };
        self.say(&answer, &[]).await?;
        self.journal.on_chain_end(ChainEnd { context: Context::new(ROOT), outputs: None });
        let outcome = self.journal.outcome().unwrap_or_else(Outcome::success);
        self.journal.finish(outcome).await?;
        let report = self.journal.close().await?;
        match report.stopped {
            Some(reason) => Err(Failure::Refused(format!("the journal stopped: {reason}"))),
            None => Ok(()),
        }
    }

    /// One call of the scripted model.
    async fn say(&mut self, text: &str, calls: &[Call]) -> Result<(), Failure> {
        self.calls += 1;
        let id = format!("model-{}", self.calls);
        let shown = RawJson::from(Value::Array(self.messages.clone()));
        let context = Context::new(&id).below(ROOT);
        self.journal.on_chat_model_start(ChatModelStart { context, messages: &shown });
        let requests: Vec<Value> = calls
            .iter()
            .map(|call| json!({ "id": call.id, "name": call.name, "args": call.args, "type": "tool_call" }))
            .collect();
        let input = words(shown.as_str());
        let output = words(text) + requests.iter().map(|request| words(&request.to_string())).sum::<usize>();
        let message = json!({
            "type": "ai",
            "content": text,
            "tool_calls": requests,
            "response_metadata": { "model_name": MODEL },
            "usage_metadata": {
                "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
            },
        });
        let response = RawJson::from(json!({ "generations": [[{ "text": text, "message": message }]] }));
        let context = Context::new(&id).below(ROOT);
        self.journal.on_llm_end(LlmEnd { context, response: &response });
        self.messages.push(message);
        // The calls are durable before they are made.
        Ok(self.journal.barrier().await?)
    }

    /// One call of a real tool; what it returns or why it failed.
    fn tool(&mut self, call: &Call) -> String {
        let path = call.args.get("path").and_then(Value::as_str).unwrap_or(".");
        let inputs = RawJson::from(&call.args);
        let id = format!("tool-{}", call.id);
        let context = Context::new(&id).below(ROOT);
        self.journal.on_tool_start(ToolStart {
            context,
            name: call.name,
            inputs: Some(&inputs),
            tool_call_id: Some(&call.id),
        });
        let result = match call.name {
            "list_files" => list_files(&self.folder.join(path)),
            _ => count_words(&self.folder.join(path)),
        };
        let (status, content) = match result {
            Ok(content) => ("success", content),
            Err(error) => ("error", error.to_string()),
        };
        let message = json!({
            "type": "tool", "name": call.name, "tool_call_id": call.id, "status": status, "content": content,
        });
        let told = RawJson::from(&message);
        let context = Context::new(&id).below(ROOT);
        self.journal.on_tool_end(ToolEnd { context, name: Some(call.name), output: &told });
        self.messages.push(message);
        content
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The names in a folder, folders with a slash; hidden ones are left out.
fn list_files(folder: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            names.push(format!("{name}{slash}"));
        }
    }
    names.sort();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    if more > 0 {
        names.push(format!("({more} more)"));
    }
    Ok(names.join("\n"))
}

fn count_words(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    Ok(format!("{} words in {} lines", words(&text), text.lines().count()))
}

/// The files to count: the read-me and the manifest first, then by name.
fn chosen(folder: &Path, listing: &str) -> Vec<String> {
    let countable = |name: &&str| {
        let path = folder.join(name);
        let small = fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() <= MAX_BYTES);
        small && fs::read_to_string(&path).is_ok()
    };
    let mut names: Vec<&str> = listing.lines().filter(|name| !name.ends_with('/')).collect();
    names.sort_by_key(|name| (!matches!(*name, "README.md" | "Cargo.toml"), (*name).to_owned()));
    names.into_iter().filter(countable).take(COUNTED).map(str::to_owned).collect()
}
