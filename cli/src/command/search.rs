//! `search` and `reindex`: finding what was said and what tools returned.

use clap::Args;
use runledger_core::view::search::{SearchQuery, Snippet};
use runledger_core::{
    Contents, ErrorKind, IndexBudget, Indexed, ItemKind, Ledger, ListRange, RunVisibility, Scope,
    SearchFilter, SearchHit, ThreadFilter, ThreadId, Timestamp,
};
use serde::Serialize;

use super::readers::moment;
use crate::Failure;
use crate::args::{ListArgs, ReaderArgs};
use crate::import::counted;
use crate::output::{Output, Style, Tone, one_line, printable};

const HELP: &str = "\
All words must be in the text, whatever their case. Give the query in quotes of the shell:
  'disk full'           both words, anywhere
  '\"disk full\"'         these words, one after the other
  'config*'             words that begin like this
  'disk -\"disk full\"'   texts without that

Searched are messages, reasoning, plans and what tools returned, of each the first 256 KiB; newest first.
What was written since the last search is indexed first; where that is much, `runledger reindex --behind` does it.";

/// Arguments of `search`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = HELP)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct SearchArgs {
    /// What to look for.
    #[arg(required = true, value_name = "QUERY")]
    pub query: Vec<String>,
    /// Only texts of this thread.
    #[arg(long)]
    pub thread: Option<ThreadId>,
    /// Only texts of items of this kind: user_message, agent_message, command_execution, ... May be given several
    /// times.
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<ItemKind>,
    /// Only texts of this time or later: 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Timestamp::parse("from", text))]
    pub from: Option<Timestamp>,
    /// Only texts from before this time.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Timestamp::parse("before", text))]
    pub before: Option<Timestamp>,
    /// Search hidden runs too: superseded ones, and those rolled back.
    #[arg(long)]
    pub hidden: bool,
    #[command(flatten)]
    pub range: ListArgs,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

fn kind(text: &str) -> Result<ItemKind, String> {
    match ItemKind::from_stored(text) {
        ItemKind::Unknown(word) => Err(format!("{word:?} is no kind of item; user_message is one")),
        known => Ok(known),
    }
}

/// Arguments of `reindex`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ReindexArgs {
    /// Only this thread.
    #[arg(long)]
    pub thread: Option<ThreadId>,
    /// Keep what is indexed, and index what is not.
    #[arg(long)]
    pub behind: bool,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// `search`.
pub(crate) async fn search(args: &SearchArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let query = SearchQuery::parse(&args.query.join(" "))?;
    let filter = SearchFilter {
        thread_id: args.thread.clone(),
        kinds: args.kinds.clone(),
        created_from: args.from,
        created_before: args.before,
        visibility: if args.hidden { RunVisibility::All } else { RunVisibility::Shown },
    };
    let page = ledger.search(&args.reader.scope(), &query, &filter, &args.range.range()?).await?;
    if args.reader.json {
        return output.json(&page);
    }
    let style = output.style();
    for hit in &page.items {
        output.line(style.paint(Tone::Faint, &place(hit)))?;
        output.line(format!("  {}", shown(style, &hit.snippet)))?;
    }
    if page.items.is_empty() && !page.has_more {
        output.note("nothing found")?;
    }
    if let Some(cursor) = &page.next_cursor {
        output.note(format!("there are more: add --cursor {}", printable(cursor.as_str())))?;
    }
    if page.behind.threads > 0 {
        let (events, threads) =
            (counted(page.behind.events, "event"), counted(page.behind.threads, "thread"));
        output
            .note(format!("not indexed yet: {events} of {threads}; `runledger reindex --behind` does it"))?;
    }
    Ok(())
}

/// Where a text is.
fn place(hit: &SearchHit) -> String {
    let kind = hit.item_kind.as_ref().map_or_else(|| "message".to_owned(), ToString::to_string);
    let run = hit.run_id.as_ref().map(|run| format!(" run {run}")).unwrap_or_default();
    one_line(&format!("{} {} seq {}{run} {kind}", moment(hit.created_at), hit.thread_id, hit.seq), 512)
}

/// A snippet with its matches in a colour of their own.
fn shown(style: Style, snippet: &Snippet) -> String {
    let mut out = String::new();
    if snippet.cut_before {
        out.push_str("... ");
    }
    let mut chars = snippet.text.chars();
    let mut at = 0;
    for (from, to) in &snippet.marks {
        let plain: String = chars.by_ref().take(from.saturating_sub(at)).collect();
        let mark: String = chars.by_ref().take(to - from).collect();
        out.push_str(&printable(&plain));
        out.push_str(&style.paint(Tone::Title, &printable(&mark)));
        at = *to;
    }
    let rest: String = chars.collect();
    out.push_str(&printable(&rest));
    if snippet.cut_after {
        out.push_str(" ...");
    }
    out
}

/// What `reindex` did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Reindexed {
    threads: u64,
    events: u64,
    documents: u64,
    unreadable: u64,
}

impl Reindexed {
    fn add(&mut self, indexed: &Indexed) {
        self.events += indexed.events;
        self.documents += indexed.documents;
        self.unreadable += indexed.unreadable;
    }
}

/// `reindex`.
pub(crate) async fn reindex(args: &ReindexArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    let mut done = Reindexed::default();
    if let Some(thread) = &args.thread {
        of_thread(args, ledger, &scope, thread, &mut done).await?;
    } else {
        let progress = output.bar("indexing", 0);
        let all = ThreadFilter { contents: Contents::Omitted, ..ThreadFilter::default() };
        let mut range = ListRange::newest(runledger_core::MAX_LIMIT);
        loop {
            let page = ledger.threads().list(&scope, &all, &range).await?;
            progress.inc_length(page.items.len() as u64);
            for thread in &page.items {
                match of_thread(args, ledger, &scope, &thread.thread_id, &mut done).await {
                    Ok(()) => {}
                    // It was deleted meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
                progress.inc(1);
            }
            range.cursor = page.next_cursor;
            if range.cursor.is_none() {
                break;
            }
        }
        progress.finish_and_clear();
    }
    if args.reader.json {
        return output.json(&done);
    }
    output.line(format!(
        "indexed {} of {} on {}",
        counted(done.documents, "text"),
        counted(done.events, "event"),
        counted(done.threads, "thread"),
    ))?;
    if done.unreadable > 0 {
        output.note(format!("{} could not be read", counted(done.unreadable, "payload")))?;
    }
    Ok(())
}

async fn of_thread(
    args: &ReindexArgs,
    ledger: &Ledger,
    scope: &Scope,
    thread: &ThreadId,
    done: &mut Reindexed,
) -> runledger_core::Result<()> {
    let index = ledger.search_index();
    if !args.behind {
        index.forget(scope, thread).await?;
    }
    loop {
        let indexed = index.index(scope, Some(thread), IndexBudget::default()).await?;
        done.add(&indexed);
        if indexed.behind.events == 0 {
            break;
        }
    }
    done.threads += 1;
    Ok(())
}
