//! An agent whose runs survive their process: a scripted model, real tools, and the loop between them.
//!
//! The loop keeps nothing that the ledger does not have. What to execute is what the ledger says is pending, and
//! what the model is shown is the thread's context window; so going on after a crash is the same loop, begun
//! with a resumed run instead of a new one.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use runledger_core::{
    Caller, Fold, ItemError, ItemId, Ledger, NewRun, NewThread, Outcome, PendingCall, RawJson, RunId, Scope,
    Spawn, ThreadId, Timestamp, ToolCall,
};
use runledger_journal::callbacks::{
    ChainStart, ChatModelStart, Context, ExternalUsage, LlmEnd, RuntimeCallbacks as _,
};
use runledger_journal::{Admission, ManagedRun, ManagerSettings, OnExpired, RunManager, user_message};
use serde_json::{Value, json};

/// Anything may go wrong in an agent.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where the tools note each execution, so that everybody can count them.
pub(crate) const EXECUTIONS: &str = "executions.log";
/// Where the processes find the thread they share.
const THREAD: &str = "thread.txt";

/// What one process does of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Three sends, with a sub-agent and a compaction.
    Sends,
    /// A fourth send, whose process dies amid a batch of four tool calls.
    Killed,
    /// Goes on with what a dead process left.
    Resume {
        /// And dies as that one did.
        dies: bool,
    },
}

/// An agent at work in one process.
pub(crate) struct Agent<'a> {
    manager: RunManager,
    folder: PathBuf,
    /// Whether this process dies after the first result of a batch is durable.
    dies: bool,
    say: &'a (dyn Fn(String) + Send + Sync),
}

/// Does one part, and tells of it.
pub(crate) async fn act(
    ledger: Ledger,
    folder: &Path,
    part: Part,
    say: &(dyn Fn(String) + Send + Sync),
) -> Result<()> {
    let settings = ManagerSettings {
        // Short, so that nobody waits long for a dead process to be noticed. The defaults are for real work.
        lease: Duration::from_millis(1_500),
        heartbeat: Duration::from_millis(250),
        grace: Duration::ZERO,
        // A run whose worker is gone waits for somebody to go on with it, instead of being ended.
        on_expired: OnExpired::Leave,
        ..ManagerSettings::default()
    };
    let (manager, _) = RunManager::start(ledger, settings).await?;
    let agent = Agent {
        manager,
        folder: folder.to_owned(),
        dies: matches!(part, Part::Killed | Part::Resume { dies: true }),
        say,
    };
    let shared = folder.join(THREAD);
    match part {
        Part::Sends => {
            let thread = ThreadId::generate();
            let new = NewThread {
                system_prompt: Some("You count words.".to_owned()),
                ..NewThread::new(thread.clone())
            };
            agent.ledger().threads().create(&Scope::System, new).await?;
            fs::write(folder.join("notes.txt"), "one two three\nfour five\nsix is the last of them\n")?;
            fs::write(shared, thread.as_str())?;
            agent.send(&thread, "How many words are in notes.txt?").await?;
            agent.send(&thread, "Have a colleague find the longest line of notes.txt.").await?;
            agent.send(&thread, "Sum up in report.txt what we know.").await?;
        }
        Part::Killed => {
            let thread = ThreadId::new(fs::read_to_string(shared)?)?;
            agent.send(&thread, "Append a line for each season to seasons.txt.").await?;
        }
        Part::Resume { .. } => {
            let thread = ThreadId::new(fs::read_to_string(shared)?)?;
            agent.go_on(&thread).await?;
        }
    }
    agent.manager.shutdown(Duration::from_secs(30)).await;
    Ok(())
}

impl Agent<'_> {
    fn ledger(&self) -> &Ledger {
        self.manager.ledger()
    }

    fn say(&self, text: String) {
        (self.say)(format!("[process {}] {text}", std::process::id()));
    }

    /// One run: a message of a person, and what the agent makes of it.
    async fn send(&self, thread: &ThreadId, text: &str) -> Result<String> {
        self.say(format!("> {text}"));
        let said = user_message(ItemId::generate(), RawJson::string(text), Timestamp::now());
        let new = NewRun { input: vec![said], ..NewRun::new(thread.clone(), RunId::generate()) };
        // What the person said is durable when this returns, and the run is leased to this process.
        match self.manager.admit(&Scope::System, new).await? {
            Admission::Active(run) => self.work(run).await,
            _ => Err("somebody else works on the thread".into()),
        }
    }

    /// Waits until the run of a thread is left by its worker, or has ended, and goes on with it.
    async fn go_on(&self, thread: &ThreadId) -> Result<()> {
        loop {
            let resumption = self.ledger().resume(&Scope::System, thread).await?;
            let Some(active) = resumption.active else {
                self.say("there is nothing to go on with: the run has ended".to_owned());
                return Ok(());
            };
            let left = self.manager.resumable().await?;
            if left.iter().any(|left| left.run_id == active.run.run_id) {
                // Of several processes that try, one gets the run; whoever held it before writes no more.
                match self.manager.resume(&Scope::System, thread, &active.run.run_id).await {
                    Ok(run) => {
                        self.say(format!(
                            "goes on with a run that has {} open calls",
                            resumption.pending.len()
                        ));
                        self.work(run).await?;
                        return Ok(());
                    }
                    Err(error) => self.say(format!("did not get the run: {error}")),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The loop: execute what is pending, show the model where the thread stands, until it asks for nothing more.
    async fn work(&self, mut run: ManagedRun) -> Result<String> {
        let thread = run.run().thread_id.clone();
        // A resumed run has started already: then this records nothing.
        run.journal().on_chain_start(ChainStart { context: Context::new("loop"), name: Some("agent") });
        let mut round = 0;
        let answer = loop {
            for call in run.journal().pending().await? {
                self.execute(&run, &call).await?;
                if self.dies {
                    self.die(&run).await?;
                }
            }
            run.journal().barrier().await?;
            self.fold(&run).await?;
            let window = self.ledger().context().load(&Scope::System, &thread).await?;
            let shown = window.to_openai_chat();
            round += 1;
            let (text, calls) = model(&shown);
            self.tell_model_call(&run, round, &shown, &text, &calls);
            if calls.is_empty() {
                break text;
            }
        };
        let ended = run.finish(Outcome::success()).await?;
        self.say(format!("< {answer} ({} tokens)", ended.run.totals.total_tokens));
        run.close().await?;
        Ok(answer)
    }

    /// Tells the journal of a model call. The names start anew in each process, and are counted once all the same.
    fn tell_model_call(
        &self,
        run: &ManagedRun,
        round: usize,
        shown: &[RawJson],
        text: &str,
        calls: &[Asked],
    ) {
        let name = format!("model-{round}");
        let context = Context::new(&name);
        let messages = RawJson::encode("messages", &shown).unwrap_or_default();
        run.journal().on_chat_model_start(ChatModelStart { context, messages: &messages });
        let input: usize = shown.iter().map(|message| words(message.as_str())).sum();
        let tool_calls: Vec<Value> = (1..)
            .zip(calls)
            .map(|(number, (tool, args))| json!({"id": format!("{tool}-{round}-{number}"), "name": tool, "args": args}))
            .collect();
        let message = json!({
            "type": "ai", "content": text, "tool_calls": tool_calls,
            "usage_metadata": {"input_tokens": input, "output_tokens": words(text) + calls.len()},
            "response_metadata": {"model_name": "scripted"},
        });
        let response = RawJson::from(json!({"generations": [[{"message": message}]]}));
        run.journal().on_llm_end(LlmEnd { context: Context::new(&name), response: &response });
    }

    /// Executes a call, whoever asked for it, and records its result.
    async fn execute(&self, run: &ManagedRun, call: &PendingCall) -> Result<()> {
        let claimed = run.journal().claim_call(call).await?;
        if claimed.claimed_before.is_some() {
            // An earlier process had it, and nobody knows how far it came. Only the tool can tell: these note
            // what they did. A tool that cannot tell is a question to a person, see `finish_asking`.
            let id = call.item.item_id.as_str();
            let done = executions(&self.folder)?.iter().any(|line| line.ends_with(&format!(" {id}")));
            self.say(format!("{id} was claimed before, and was {}executed", if done { "" } else { "not " }));
            if done {
                let found = ToolCall { content: Some(RawJson::string("done")), ..call.call.clone() };
                run.journal().complete_call(call, found, Timestamp::now());
                return Ok(());
            }
        }
        let arg = |name: &str| {
            let args: Value = call.call.args.decode().unwrap_or_default();
            args[name].as_str().unwrap_or_default().to_owned()
        };
        let answer = match call.call.name.as_str() {
            "delegate" => self.delegate(run, call, arg("task")).await,
            tool => self.tool(call, tool, &arg("path"), &arg("text")),
        };
        self.say(format!("executed {}", call.item.item_id));
        let result = match answer {
            Ok(text) => ToolCall { content: Some(RawJson::string(&text)), ..call.call.clone() },
            // The model is told, and may try something else.
            Err(error) => ToolCall {
                error: Some(ItemError { error_type: "ToolError".to_owned(), message: error.to_string() }),
                ..call.call.clone()
            },
        };
        run.journal().complete_call(call, result, Timestamp::now());
        Ok(())
    }

    /// The tools. Each notes that it was executed, with the call's item.
    fn tool(&self, call: &PendingCall, tool: &str, path: &str, text: &str) -> Result<String> {
        let line = format!("{} {tool} {}\n", std::process::id(), call.item.item_id);
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(EXECUTIONS))?
            .write_all(line.as_bytes())?;
        let path = self.folder.join(path);
        match tool {
            "read_file" => Ok(fs::read_to_string(path)?),
            "count_words" => Ok(words(&fs::read_to_string(path)?).to_string()),
            "write_file" => {
                fs::write(path, text)?;
                Ok(format!("{} bytes written", text.len()))
            }
            "append_line" => {
                fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)?
                    .write_all(format!("{text}\n").as_bytes())?;
                Ok("appended".to_owned())
            }
            other => Err(format!("there is no tool {other}").into()),
        }
    }

    /// A sub-agent: a thread of its own, that knows which call spawned it. What it takes is told here, too, and
    /// counts in sums over the tree once.
    fn delegate<'s>(
        &'s self,
        run: &'s ManagedRun,
        call: &'s PendingCall,
        task: String,
    ) -> Pin<Box<dyn Future<Output = Result<String>> + Send + 's>> {
        Box::pin(async move {
            let (child, parent) = (ThreadId::generate(), run.run());
            let spawn = Spawn {
                item_id: Some(call.item.item_id.clone()),
                ..Spawn::new(parent.thread_id.clone(), parent.run_id.clone())
            };
            let new = NewThread { spawn: Some(spawn), ..NewThread::new(child.clone()) };
            self.ledger().threads().create(&Scope::System, new).await?;
            let answer = self.send(&child, &task).await?;
            let filter = runledger_core::RunFilter { thread_id: Some(child.clone()), ..Default::default() };
            for its in self.ledger().runs().list(&Scope::System, &filter, &Default::default()).await?.items {
                let calls = self
                    .ledger()
                    .usage()
                    .list_by_run(&Scope::System, &child, &its.run_id, None, 1_000)
                    .await?;
                for usage in calls {
                    run.journal().record_external_usage(ExternalUsage {
                        source_id: usage.source_id.as_str(),
                        caller: Caller::new("subagent:colleague")?,
                        model: usage.model.as_deref(),
                        tokens: usage.tokens,
                        price: None,
                        child_thread_id: Some(child.clone()),
                        at: usage.created_at,
                    });
                }
            }
            Ok(answer)
        })
    }

    /// Folds what earlier runs said into a note, once the window has more than a model of this size likes.
    async fn fold(&self, run: &ManagedRun) -> Result<()> {
        let thread = &run.run().thread_id;
        let window = self.ledger().context().load(&Scope::System, thread).await?;
        let earlier =
            window.messages.iter().filter(|message| message.event.run_id.as_ref() != Some(&run.run().run_id));
        let seqs: BTreeSet<u64> = earlier.map(|message| message.seq()).collect();
        if seqs.len() < 8 {
            return Ok(());
        }
        let note = format!("{} earlier messages: notes.txt was read, counted and looked at.", seqs.len());
        let fold = Fold::new(&window, run.run().run_id.clone(), seqs, &note);
        let folded = run.journal().fold(fold).await?;
        self.say(format!("folded the window into message {}: {note}", folded.note_seq));
        Ok(())
    }

    /// Ends the process as a power cut would, at the worst moment: one result is durable, the next call is
    /// claimed, the others are open.
    async fn die(&self, run: &ManagedRun) -> Result<()> {
        if let Some(next) = run.journal().pending().await?.first() {
            run.journal().claim_call(next).await?;
        }
        self.say("dies now".to_owned());
        std::process::abort();
    }
}

/// A tool, and its arguments.
type Asked = (&'static str, Value);

/// The model: what it says depends on the messages it is shown and on nothing else.
fn model(shown: &[RawJson]) -> (String, Vec<Asked>) {
    let shown: Vec<Value> = shown.iter().filter_map(|message| message.decode().ok()).collect();
    let asked = shown.iter().rposition(|message| message["role"] == "user").unwrap_or(0);
    let question = shown.get(asked).and_then(|message| message["content"].as_str()).unwrap_or_default();
    let results: Vec<&str> = shown[asked..]
        .iter()
        .filter(|message| message["role"] == "tool")
        .filter_map(|message| message["content"].as_str())
        .collect();
    let (notes, last) = (json!({"path": "notes.txt"}), results.last().copied().unwrap_or_default());
    let longest = |text: &str| text.lines().max_by_key(|line| line.len()).unwrap_or_default().to_owned();
    let begins = results.is_empty();
    match question.split_whitespace().next() {
        Some("How") if begins => {
            ("I read it and count.".to_owned(), vec![("read_file", notes.clone()), ("count_words", notes)])
        }
        Some("How") => (format!("notes.txt has {last} words."), vec![]),
        Some("Have") if begins => {
            let task = json!({"task": "Find the longest line of notes.txt."});
            ("I ask a colleague.".to_owned(), vec![("delegate", task)])
        }
        Some("Have") => (format!("My colleague says: {last}"), vec![]),
        Some("Find") if begins => ("I look.".to_owned(), vec![("read_file", notes)]),
        Some("Find") => (format!("The longest line is: {}", longest(last)), vec![]),
        Some("Sum") if begins => {
            let args = json!({"path": "report.txt", "text": "notes.txt has 11 words.\n"});
            ("I write it down.".to_owned(), vec![("write_file", args)])
        }
        Some("Sum") => (format!("report.txt is there: {last}."), vec![]),
        Some("Append") if begins => {
            let line = |season: &str| ("append_line", json!({"path": "seasons.txt", "text": season}));
            ("Four lines.".to_owned(), ["spring", "summer", "autumn", "winter"].map(line).to_vec())
        }
        Some("Append") => (format!("{} lines were appended.", results.len()), vec![]),
        _ => ("I do not understand.".to_owned(), vec![]),
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// One line for each execution of a tool: the process, the tool and the call's item.
pub(crate) fn executions(folder: &Path) -> Result<Vec<String>> {
    match fs::read_to_string(folder.join(EXECUTIONS)) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
