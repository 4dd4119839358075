//! `context` and `compact`: what a model would be sent next, and a note in the place of its older part.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use runledger_core::view::context::{ContextMessage, ContextWindow, MessageBody};
use runledger_core::{Compaction, ContentText as _, Error, Fold, Ledger, ThreadId, ToolCall};
use runledger_gateway::wire::{WireWindow, message_kind};
use serde::Serialize;

use crate::Failure;
use crate::args::ReaderArgs;
use crate::output::{Align, Output, Table, grouped};

/// Arguments of `context`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ContextArgs {
    /// The thread.
    pub thread: ThreadId,
    /// Print the messages as a chat API takes them: one JSON array.
    #[arg(long)]
    pub openai: bool,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Arguments of `compact`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct CompactArgs {
    /// The thread.
    pub thread: ThreadId,
    /// What stands for the messages from now on.
    #[arg(long, value_name = "TEXT", required_unless_present = "note_file")]
    pub note: Option<String>,
    /// A file with that text.
    #[arg(long, value_name = "FILE", conflicts_with = "note")]
    pub note_file: Option<PathBuf>,
    /// How many exchanges stay, each from a person's message on; what is older is folded.
    #[arg(long, value_name = "EXCHANGES", default_value_t = 4)]
    pub keep_last: usize,
    /// Fold these messages instead, by their seqs: 3-9,12.
    #[arg(long, value_name = "SEQS", conflicts_with = "keep_last", value_parser = parse_seqs)]
    pub seqs: Option<Seqs>,
    /// Say what would be folded, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Seqs and ranges of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seqs(Vec<(u64, u64)>);

fn parse_seqs(text: &str) -> Result<Seqs, Error> {
    let invalid = || Error::invalid("seqs", format!("{text:?} is not numbers and ranges, as in 3-9,12"));
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| invalid());
    let ranges = text.split(',').map(|part| match part.split_once('-') {
        Some((from, through)) => Ok((number(from)?, number(through)?)),
        None => number(part).map(|seq| (seq, seq)),
    });
    ranges.collect::<Result<_, _>>().map(Seqs)
}

/// `context`.
pub(crate) async fn show(args: &ContextArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let window = ledger.context().load(&args.reader.scope(), &args.thread).await?;
    if args.openai {
        return output.json(&window.to_openai_chat());
    }
    if args.reader.json {
        return output.json(&WireWindow::from(window));
    }
    let mut table = Table::new(&[
        ("seq", Align::Right),
        ("kind", Align::Left),
        ("run", Align::Left),
        ("content", Align::Flexible),
    ]);
    if let Some(prompt) = &window.system_prompt {
        table.row(&["-", "system", "-", prompt]);
    }
    for message in &window.messages {
        let run = message.event.run_id.as_ref().map_or("-", |run| run.as_str());
        table.row(&[&message.seq().to_string(), message_kind(&message.body), run, &said(message)]);
    }
    output.table(&table)?;
    let unanswered = window.calls().iter().filter(|call| call.answered_by.is_none()).count();
    if unanswered > 0 {
        output.note(format!("{unanswered} of its tool calls have no result yet"))?;
    }
    Ok(())
}

/// What a message says, on one line.
fn said(message: &ContextMessage) -> String {
    match &message.body {
        MessageBody::User(said) | MessageBody::Prompt(said) => said.content.text(),
        MessageBody::Note(note) => note.content.text(),
        MessageBody::Reasoning(reasoning) => reasoning.text.clone(),
        MessageBody::Agent(agent) => {
            let calls = agent.tool_calls.iter().map(|call| format!("{}({})", call.name, call.args.as_str()));
            let text = Some(agent.content.text()).filter(|text| !text.is_empty());
            text.into_iter().chain(calls).collect::<Vec<_>>().join(" ")
        }
        MessageBody::Tool(ToolCall { name, content, error, .. }) => match (content, error) {
            (Some(content), _) => format!("{name} -> {}", content.text()),
            (None, Some(error)) => format!("{name} failed: {}", error.message),
            (None, None) => format!("{name} has no result"),
        },
        MessageBody::Other => message.event.content.as_str().to_owned(),
    }
}

#[derive(Debug, Serialize)]
struct WireFold {
    thread_id: ThreadId,
    folded: BTreeSet<u64>,
    messages_before: usize,
    messages_after: usize,
    /// Absent where nothing was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    compaction: Option<Compaction>,
}

/// `compact`.
pub(crate) async fn compact(args: &CompactArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    let note = match (&args.note, &args.note_file) {
        (Some(note), _) => note.clone(),
        (None, Some(file)) => std::fs::read_to_string(file).map_err(|error| Failure::File {
            file: file.clone(),
            line: None,
            reason: error.to_string(),
        })?,
        (None, None) => String::new(),
    };
    if note.trim().is_empty() {
        return Err(Failure::Usage("the note is empty; say what the folded messages came to".to_owned()));
    }
    let window = ledger.context().load(&scope, &args.thread).await?;
    let seqs = chosen(args, &window);
    if seqs.is_empty() {
        return Err(Failure::Usage(format!(
            "nothing is older than the last {} exchanges; give a smaller --keep-last",
            args.keep_last
        )));
    }
    // Checked for the dry run, too.
    window.fold(&seqs)?;
    let Some(run) = window.last_run() else {
        return Err(Failure::Usage("the thread has no run that the note could belong to".to_owned()));
    };
    let after = window.messages.len() - seqs.len() + 1;
    let compaction = if args.dry_run {
        None
    } else {
        let fold = Fold::estimated(&window, run, seqs.clone(), &note);
        Some(ledger.fold_window(&scope, &window, fold).await?)
    };
    if args.reader.json {
        return output.json(&WireFold {
            thread_id: args.thread.clone(),
            folded: seqs,
            messages_before: window.messages.len(),
            messages_after: after,
            compaction,
        });
    }
    let did = if args.dry_run { "would fold" } else { "folded" };
    output.line(format!(
        "{did} {} messages into a note: the context window has {} instead of {}",
        grouped(seqs.len() as u64),
        grouped(after as u64),
        grouped(window.messages.len() as u64),
    ))
}

fn chosen(args: &CompactArgs, window: &ContextWindow) -> BTreeSet<u64> {
    let Some(Seqs(ranges)) = &args.seqs else { return window.before_last(args.keep_last) };
    let mut chosen = BTreeSet::new();
    for (from, through) in ranges {
        let within =
            window.messages.iter().map(ContextMessage::seq).filter(|seq| (from..=through).contains(&seq));
        chosen.extend(within);
        // A number that is alone is meant: where it is not in the window, the fold is refused by name.
        chosen.extend((from == through).then_some(*from));
    }
    chosen
}
