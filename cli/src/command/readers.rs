//! The readers: `threads`, `runs`, `messages`, `events`.
//!
//! Each asks the ledger for one page and prints it, as a table or as one JSON document with
//! `items`, `has_more` and the cursor that goes on.

use runledger_core::{
    Category, ContentText as _, Contents, Event, EventFilter, Ledger, RawJson, Run, RunFilter, RunId,
    RunVisibility, Scope, SeqPage, SeqRange, ThreadFilter, ThreadId,
};
use runledger_gateway::wire::{WirePage, WireRun, WireSeqPage, wire_status};

use crate::args::{EventsArgs, LogArgs, RunsArgs, ThreadsArgs};
use crate::output::{Align, Output, Table, grouped, one_line};
use crate::{Failure, money};

/// How much of a payload a table shows.
const PREVIEW: usize = 160;

/// A table shows nothing of what may be large.
fn contents(json: bool) -> Contents {
    if json { Contents::Read } else { Contents::Omitted }
}

/// `threads`.
pub(crate) async fn threads(args: &ThreadsArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    let page = match &args.thread {
        Some(thread) => WirePage {
            items: vec![ledger.threads().get(&scope, thread).await?],
            has_more: false,
            next_cursor: None,
        },
        None => {
            let all = ThreadFilter { contents: contents(args.reader.json), ..ThreadFilter::default() };
            let page = ledger.threads().list(&scope, &all, &args.range.range()?).await?;
            let next_cursor = page.next_cursor.map(|cursor| cursor.as_str().to_owned());
            WirePage { items: page.items, has_more: page.has_more, next_cursor }
        }
    };
    if args.reader.json {
        return output.json(&page);
    }
    let mut table = Table::new(&[
        ("thread", Align::Left),
        ("status", Align::Left),
        ("owner", Align::Left),
        ("updated", Align::Left),
        ("title", Align::Flexible),
    ]);
    for thread in &page.items {
        table.row(&[
            thread.thread_id.as_str(),
            thread.status.as_str(),
            thread.owner_id.as_ref().map_or("-", AsRef::as_ref),
            &moment(thread.updated_at),
            thread.display_name.as_deref().unwrap_or("-"),
        ]);
    }
    finish(output, &table, page.items.len(), "threads", page.next_cursor.map(|c| format!("--cursor {c}")))
}

/// `runs`.
pub(crate) async fn runs(args: &RunsArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    let (items, has_more, next_cursor) = match &args.run {
        Some(run) => (vec![find_run(ledger, &scope, args.thread.as_ref(), run).await?], false, None),
        None => {
            let filter = RunFilter {
                thread_id: args.thread.clone(),
                status: args.status.clone(),
                operation_kind: args.kind.clone(),
                created_from: args.from,
                created_before: args.before,
                contents: contents(args.reader.json),
                ..RunFilter::default()
            };
            let page = ledger.runs().list(&scope, &filter, &args.range.range()?).await?;
            (page.items, page.has_more, page.next_cursor.map(|cursor| cursor.as_str().to_owned()))
        }
    };
    if args.reader.json {
        let mut rows: Vec<_> = items.iter().map(WireRun::from).collect();
        // One run's models are one query; a page of runs would be one for each.
        let usage = match (&args.run, items.first()) {
            (Some(_), Some(run)) => Some(ledger.usage().by_run(&scope, &run.thread_id, &run.run_id).await?),
            _ => None,
        };
        if let (Some(usage), Some(row)) = (&usage, rows.first_mut()) {
            row.with_models(usage);
        }
        return output.json(&WirePage { items: rows, has_more, next_cursor });
    }
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("thread", Align::Left),
        ("status", Align::Left),
        ("created", Align::Left),
        ("messages", Align::Right),
        ("calls", Align::Right),
        ("tokens", Align::Right),
        ("cost", Align::Right),
        ("asked", Align::Flexible),
    ]);
    for run in &items {
        table.row(&[
            run.run_id.as_str(),
            run.thread_id.as_str(),
            wire_status(&run.status),
            &moment(run.created_at),
            &grouped(run.message_count),
            &grouped(run.totals.llm_calls),
            &grouped(run.totals.total_tokens),
            &money::shown(run.totals.cost_nanos),
            run.first_human_message.as_deref().unwrap_or("-"),
        ]);
    }
    finish(output, &table, items.len(), "runs", next_cursor.map(|c| format!("--cursor {c}")))
}

/// `messages`.
pub(crate) async fn messages(args: &LogArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    let (thread, run) = target(ledger, &scope, args.target.thread.as_ref(), args.target.run.as_ref()).await?;
    let range = args.range.range();
    let page = match run {
        Some(run) => ledger.events().list_messages_by_run(&scope, &thread, &run.run_id, &range).await?,
        None => {
            let visibility = if args.hidden { RunVisibility::All } else { RunVisibility::Shown };
            ledger.events().list_messages(&scope, &thread, visibility, &range).await?
        }
    };
    log(output, &page, &range, args.reader.json, "messages")
}

/// `events`.
pub(crate) async fn events(args: &EventsArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    let (thread, run) = target(ledger, &scope, args.target.thread.as_ref(), args.target.run.as_ref()).await?;
    let filter = EventFilter {
        run_id: run.map(|run| run.run_id),
        event_types: args.types.clone(),
        task_id: args.task.clone(),
        caller: args.caller.clone(),
    };
    let range = args.range.range();
    let page = ledger.events().list_events(&scope, &thread, &filter, &range).await?;
    log(output, &page, &range, args.reader.json, "events")
}

fn log(
    output: &mut Output,
    page: &SeqPage<Event>,
    range: &SeqRange,
    json: bool,
    what: &str,
) -> Result<(), Failure> {
    if json {
        return output.json(&WireSeqPage::new(page.clone(), range, |event| event.seq));
    }
    let mut table = Table::new(&[
        ("seq", Align::Right),
        ("type", Align::Left),
        ("item", Align::Left),
        ("status", Align::Left),
        ("bytes", Align::Right),
        ("content", Align::Flexible),
    ]);
    for event in &page.items {
        let (kind, status) = event
            .item
            .as_ref()
            .map_or(("-".to_owned(), "-"), |item| (item.kind.to_string(), item.status.as_str()));
        table.row(&[
            &event.seq.to_string(),
            event.event_type.as_str(),
            &kind,
            status,
            &grouped(event.content_bytes),
            &preview(event),
        ]);
    }
    let next = if range.after_seq.is_some() {
        page.items.last().map(|event| format!("--after-seq {}", event.seq))
    } else {
        page.items.first().map(|event| format!("--before-seq {}", event.seq))
    };
    finish(output, &table, page.items.len(), what, next.filter(|_| page.has_more))
}

/// What an event says, on one line: the text of a message, the payload of anything else.
fn preview(event: &Event) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        content: RawJson,
    }
    if matches!(event.category, Category::Message)
        && let Ok(said) = event.content.decode_lossy::<Said>()
    {
        let text = said.content.text();
        if !text.is_empty() {
            return one_line(&text, PREVIEW);
        }
    }
    one_line(event.content.as_str(), PREVIEW)
}

/// The thread that is meant, and the run where one is.
pub(super) async fn target(
    ledger: &Ledger,
    scope: &Scope,
    thread: Option<&ThreadId>,
    run: Option<&RunId>,
) -> Result<(ThreadId, Option<Run>), Failure> {
    match (thread, run) {
        (thread, Some(run)) => {
            let run = find_run(ledger, scope, thread, run).await?;
            Ok((run.thread_id.clone(), Some(run)))
        }
        (Some(thread), None) => Ok((thread.clone(), None)),
        (None, None) => Err(Failure::Usage("give --thread or --run".to_owned())),
    }
}

pub(super) async fn find_run(
    ledger: &Ledger,
    scope: &Scope,
    thread: Option<&ThreadId>,
    run: &RunId,
) -> Result<Run, Failure> {
    Ok(match thread {
        Some(thread) => ledger.runs().get(scope, thread, run).await?,
        None => ledger.runs().find(scope, run).await?,
    })
}

/// A moment to the second, in UTC.
pub(crate) fn moment(at: runledger_core::Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).unwrap_or(&text).replacen('T', " ", 1)
}

/// Prints a page, and how to go on.
pub(super) fn finish(
    output: &mut Output,
    table: &Table,
    count: usize,
    what: &str,
    next: Option<String>,
) -> Result<(), Failure> {
    if count == 0 {
        return output.note(format!("no {what}"));
    }
    output.table(table)?;
    match next {
        Some(next) => output.note(format!("there are more: add {}", crate::output::printable(&next))),
        None => Ok(()),
    }
}
