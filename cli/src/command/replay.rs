//! `replay`: a thread told for people, or as one JSON document.
//!
//! The log is read in pages and printed as it comes, so a thread of any length takes the memory of
//! one page. Runs stand in the order of the log. For people, what belongs to a run that ended is
//! told as late; in JSON it stands with its run.

use runledger_core::{
    AgentMessage, Category, ContentText as _, Contents, Event, EventFilter, ItemKind, ItemStatus, Ledger,
    ListRange, MAX_LIMIT, ONCE_TERMINAL, RawJson, ReasoningText, Run, RunFilter, RunId, RunTotals, Scope,
    ThreadId, ToolCall, UserMessage, event_type,
};
use runledger_gateway::wire::{WireRun, wire_status};

use crate::args::ReplayArgs;
use crate::command::log::Log;
use crate::command::readers::moment;
use crate::import::counted;
use crate::output::{Output, Tone, grouped, one_line, printable};
use crate::{Failure, money};

/// Characters shown of a message.
const MESSAGE_CHARS: usize = 20_000;
/// Lines and characters shown of reasoning and of what a tool returned.
const OUTPUT_LINES: usize = 8;
const OUTPUT_CHARS: usize = 800;
/// Columns of a call's arguments.
const ARGS_COLUMNS: usize = 160;

/// `replay`.
pub(crate) async fn run(args: &ReplayArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    if args.reader.json {
        return document(ledger, &scope, &args.thread, args.run.as_ref(), output).await;
    }
    thread(ledger, &scope, &args.thread, args.run.as_ref(), args.full, output).await
}

/// Tells the thread, or one run of it.
pub(crate) async fn thread(
    ledger: &Ledger,
    scope: &Scope,
    id: &ThreadId,
    only: Option<&RunId>,
    full: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let thread = ledger.threads().get(scope, id).await?;
    if let Some(run) = only {
        ledger.runs().get(scope, id, run).await?;
    }
    let style = output.style();
    let title = thread.display_name.as_deref().map(|title| format!("  {}", one_line(title, 100)));
    let owner = thread.owner_id.as_ref().map(|owner| format!("  owner {owner}"));
    output.line(format!(
        "{}{}{}",
        style.paint(Tone::Title, &printable(&format!("thread {id}"))),
        title.unwrap_or_default(),
        printable(&owner.unwrap_or_default()),
    ))?;
    let mut teller = Teller {
        ledger,
        scope,
        thread: id,
        only: only.is_some(),
        full,
        current: None,
        told: Vec::new(),
        totals: RunTotals::default(),
        runs: 0,
    };
    let filter = only.map(|run| EventFilter::of_run(run.clone())).unwrap_or_default();
    let mut log = Log::new(ledger, scope, id, filter);
    while let Some(events) = log.page().await? {
        for event in &events {
            teller.event(event, output).await?;
        }
    }
    teller.end(output).await
}

/// The thread, or one run of it, with the records as `threads`, `runs` and `events` give them.
async fn document(
    ledger: &Ledger,
    scope: &Scope,
    id: &ThreadId,
    only: Option<&RunId>,
    output: &mut Output,
) -> Result<(), Failure> {
    let thread = ledger.threads().get(scope, id).await?;
    let runs = match only {
        Some(run) => vec![ledger.runs().get(scope, id, run).await?.run_id],
        None => runs_in_order(ledger, scope, id).await?.into_iter().map(|(_, run)| run).collect(),
    };
    output.part("{\"thread\":")?;
    output.json_part(&thread)?;
    output.part(",\"runs\":[")?;
    let mut told = 0;
    for (index, run) in runs.iter().enumerate() {
        output.part(if index == 0 { "{\"run\":" } else { ",{\"run\":" })?;
        output.json_part(&WireRun::from(&ledger.runs().get(scope, id, run).await?))?;
        output.part(",\"events\":")?;
        let log = Log::new(ledger, scope, id, EventFilter::of_run(run.clone()));
        told += records(log, |_| true, output).await?;
        output.part("}")?;
    }
    output.part("],\"events\":")?;
    // Where the runs have every number of the log, it need not be read again for the thread's own records.
    if only.is_none() && told + 1 < ledger.threads().head(scope, id).await?.next_seq {
        let log = Log::new(ledger, scope, id, EventFilter::default());
        records(log, |event| event.run_id.is_none(), output).await?;
    } else {
        output.part("[]")?;
    }
    output.part("}\n")
}

/// Writes the wanted records of a log as a JSON array, and counts them.
async fn records(
    mut log: Log<'_>,
    wanted: impl Fn(&Event) -> bool,
    output: &mut Output,
) -> Result<u64, Failure> {
    let mut count = 0;
    output.part("[")?;
    while let Some(events) = log.page().await? {
        for event in events.iter().filter(|event| wanted(event)) {
            if count > 0 {
                output.part(",")?;
            }
            output.json_part(event)?;
            count += 1;
        }
    }
    output.part("]")?;
    Ok(count)
}

/// The thread's runs by where they begin in the log, last those that have not; ids only, and few beside its events.
async fn runs_in_order(ledger: &Ledger, scope: &Scope, id: &ThreadId) -> Result<Vec<(u64, RunId)>, Failure> {
    let filter =
        RunFilter { thread_id: Some(id.clone()), contents: Contents::Omitted, ..RunFilter::default() };
    let mut range = ListRange { limit: MAX_LIMIT, ..ListRange::default() };
    let mut runs = Vec::new();
    loop {
        let page = ledger.runs().list(scope, &filter, &range).await?;
        runs.extend(page.items.into_iter().map(|run| (run.first_seq.unwrap_or(u64::MAX), run.run_id)));
        if page.next_cursor.is_none() {
            break;
        }
        range.cursor = page.next_cursor;
    }
    runs.sort();
    Ok(runs)
}

struct Teller<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    thread: &'a ThreadId,
    /// Whether it is one run that is told.
    only: bool,
    full: bool,
    current: Option<Run>,
    /// Runs whose header was printed; ids only, and few in a thread beside its events.
    told: Vec<RunId>,
    totals: RunTotals,
    runs: u64,
}

impl Teller<'_> {
    async fn event(&mut self, event: &Event, output: &mut Output) -> Result<(), Failure> {
        if let Some(run) = &event.run_id
            && self.current.as_ref().is_none_or(|current| current.run_id != *run)
        {
            self.enter(run, output).await?;
        }
        if event.once_key.as_deref() == Some(ONCE_TERMINAL) {
            return self.footer(output);
        }
        match &event.item {
            Some(item) => self.item(event, &item.kind, &item.status, output),
            None => self.plain(event, output),
        }
    }

    async fn enter(&mut self, id: &RunId, output: &mut Output) -> Result<(), Failure> {
        let run = self.ledger.runs().get(self.scope, self.thread, id).await?;
        let style = output.style();
        output.line("")?;
        if self.told.contains(id) {
            output.line(style.paint(Tone::Title, &printable(&format!("run {id}, late records"))))?;
        } else {
            self.told.push(id.clone());
            self.runs += 1;
            self.totals.add(&run.totals);
            let model = run.model_name.as_deref().map(|model| format!("  {}", one_line(model, 60)));
            output.line(format!(
                "{}  {}  {}{}",
                style.paint(Tone::Title, &printable(&format!("run {id}"))),
                printable(wire_status(&run.status)),
                moment(run.created_at),
                model.unwrap_or_default(),
            ))?;
        }
        self.current = Some(run);
        Ok(())
    }

    fn footer(&self, output: &mut Output) -> Result<(), Failure> {
        let Some(run) = &self.current else { return Ok(()) };
        let style = output.style();
        let bad = run.error.is_some();
        let took = match (run.started_at, run.finished_at) {
            (Some(from), Some(to)) if to > from => format!(" after {}", lasted(to.millis_since(from))),
            _ => String::new(),
        };
        let reason = run.stop_reason.as_deref().map(|reason| format!(" ({})", one_line(reason, 60)));
        output.line(style.paint(
            if bad { Tone::Bad } else { Tone::Title },
            &printable(&format!("  = {}{}{took}", wire_status(&run.status), reason.unwrap_or_default())),
        ))?;
        if let Some(error) = &run.error {
            self.block(error, MESSAGE_CHARS, usize::MAX, output)?;
        }
        output.line(style.paint(Tone::Faint, &format!("    {}", tokens(&run.totals))))
    }

    fn item(
        &self,
        event: &Event,
        kind: &ItemKind,
        status: &ItemStatus,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match kind {
            ItemKind::UserMessage | ItemKind::HookPrompt => {
                if let Ok(said) = event.content.decode_lossy::<UserMessage>() {
                    let who = if *kind == ItemKind::UserMessage { "user" } else { "hook" };
                    return self.message(who, Tone::Person, &said.content, "", output);
                }
            }
            ItemKind::AgentMessage => {
                if let Ok(said) = event.content.decode_lossy() {
                    return self.agent(event, &said, output);
                }
            }
            ItemKind::Reasoning => {
                if let Ok(said) = event.content.shown().decode_lossy::<ReasoningText>() {
                    output.line(output.style().paint(Tone::Faint, "  reasoning"))?;
                    return self.block(&said.text, OUTPUT_CHARS, OUTPUT_LINES, output);
                }
            }
            ItemKind::ToolCall | ItemKind::CommandExecution | ItemKind::McpToolCall => {
                if let Ok(call) = event.content.shown().decode_lossy() {
                    return self.tool(&call, status, output);
                }
            }
            _ => {}
        }
        // A kind that is not told in its own way, or a payload that no journal of ours wrote.
        let line = format!("  {kind} {status}: {}", one_line(event.content.as_str(), ARGS_COLUMNS));
        output.line(printable(&line))
    }

    fn message(
        &self,
        who: &str,
        tone: Tone,
        content: &RawJson,
        note: &str,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let style = output.style();
        output.line(format!("  {}{}", style.paint(tone, &printable(who)), style.paint(Tone::Faint, note)))?;
        let text = content.text();
        if text.is_empty() && content.as_str() != "\"\"" && content.as_str() != "[]" {
            let what = format!("    [{} of other content]", bytes(content.as_str().len() as u64));
            return output.line(style.paint(Tone::Faint, &what));
        }
        self.block(&text, MESSAGE_CHARS, usize::MAX, output)
    }

    fn agent(&self, event: &Event, said: &AgentMessage, output: &mut Output) -> Result<(), Failure> {
        let caller = event.caller.as_ref().map(runledger_core::Caller::as_str);
        let who = caller.filter(|caller| *caller != "lead_agent").unwrap_or("agent");
        let latency = said.latency_ms.map(|ms| format!("  {}", lasted(ms))).unwrap_or_default();
        if matches!(said.content.as_str(), "\"\"" | "[]" | "null")
            || said.content.text().is_empty() && !said.tool_calls.is_empty()
        {
            // Nothing was said, or the calls speak for themselves.
            return Ok(());
        }
        self.message(who, Tone::Agent, &said.content, &latency, output)
    }

    fn tool(&self, call: &ToolCall, status: &ItemStatus, output: &mut Output) -> Result<(), Failure> {
        let style = output.style();
        let name = one_line(&call.name, 60);
        if *status == ItemStatus::InProgress {
            let args = one_line(call.args.as_str(), if self.full { usize::MAX / 16 } else { ARGS_COLUMNS });
            return output.line(format!("  {} {args}", style.paint(Tone::Tool, &format!("{name} <-"))));
        }
        let took = call.duration_ms.map(|ms| format!(" in {}", lasted(ms))).unwrap_or_default();
        let error = call.error.as_ref().map(|error| format!(": {}: {}", error.error_type, error.message));
        let said = one_line(&format!("{status}{took}{}", error.unwrap_or_default()), ARGS_COLUMNS);
        let tone = if *status == ItemStatus::Completed { Tone::Faint } else { Tone::Bad };
        output.line(format!(
            "  {} {}",
            style.paint(Tone::Tool, &format!("{name} ->")),
            style.paint(tone, &said)
        ))?;
        match &call.content {
            Some(content) => {
                let text = content.text();
                let text =
                    if text.is_empty() && content.as_str() != "\"\"" { content.to_string() } else { text };
                self.block(&text, OUTPUT_CHARS, OUTPUT_LINES, output)
            }
            None => Ok(()),
        }
    }

    fn plain(&self, event: &Event, output: &mut Output) -> Result<(), Failure> {
        let hidden = [event_type::RUN_STARTED, event_type::LLM_STARTED];
        let kind = event.event_type.as_str();
        if hidden.contains(&kind) && !self.full {
            return Ok(());
        }
        let size = bytes(event.content_bytes);
        let line = if kind == event_type::LLM_FAILED || event.category == Category::Error {
            format!("  {kind}: {}", one_line(event.content.as_str(), ARGS_COLUMNS))
        } else {
            format!("  [{kind}, {size}]")
        };
        output.line(output.style().paint(Tone::Faint, &printable(&line)))
    }

    /// Text in full or cut, with what was left out stated.
    fn block(&self, text: &str, chars: usize, lines: usize, output: &mut Output) -> Result<(), Failure> {
        let (chars, lines) = if self.full { (usize::MAX, usize::MAX) } else { (chars, lines) };
        let kept = text.trim_end();
        let mut left = chars;
        let mut shown = 0;
        for (number, line) in kept.split_inclusive('\n').enumerate() {
            if number == lines || left == 0 {
                break;
            }
            let said = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            let part: String = said.chars().take(left).collect();
            left = left.saturating_sub(part.chars().count());
            shown += if part.len() < said.len() { part.len() } else { line.len() };
            output.line(format!("    {}", printable(&part)).trim_end())?;
        }
        if shown < kept.len() {
            let note = format!("    [cut: {} of {} shown]", bytes(shown as u64), bytes(text.len() as u64));
            output.line(output.style().paint(Tone::Faint, &note))?;
        }
        Ok(())
    }

    async fn end(&self, output: &mut Output) -> Result<(), Failure> {
        let begun = if self.only {
            1
        } else {
            let runs = runs_in_order(self.ledger, self.scope, self.thread).await?;
            runs.iter().filter(|(first_seq, _)| *first_seq < u64::MAX).count() as u64
        };
        if begun == 0 {
            return output.line("no runs");
        }
        // Their rows say where their events were.
        let gone = begun.saturating_sub(self.runs);
        output.line("")?;
        if gone > 0 {
            let note = format!("no events are left of {}; `usage` tells its tokens", counted(gone, "run"));
            output.line(output.style().paint(Tone::Faint, &note))?;
        }
        if self.runs == 0 {
            return Ok(());
        }
        let runs = if self.runs == 1 { "1 run".to_owned() } else { format!("{} runs", grouped(self.runs)) };
        output.line(output.style().paint(Tone::Title, &format!("{runs}, {}", tokens(&self.totals))))
    }
}

fn tokens(totals: &RunTotals) -> String {
    if totals.llm_calls == 0 {
        return "no usage recorded".to_owned();
    }
    let cost = match totals.cost_nanos {
        0 => String::new(),
        nanos => format!(", {}", money::shown(nanos)),
    };
    format!(
        "{} model call{}, {} input + {} output = {} tokens{cost}",
        grouped(totals.llm_calls),
        if totals.llm_calls == 1 { "" } else { "s" },
        grouped(totals.input_tokens),
        grouped(totals.output_tokens),
        grouped(totals.total_tokens),
    )
}

fn bytes(count: u64) -> String {
    format!("{} byte{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A duration for people.
fn lasted(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn durations_are_told_in_fitting_units() {
        assert_eq!([7, 1_540, 61_000].map(lasted), ["7 ms", "1.5 s", "1 min 1 s"]);
    }
}
