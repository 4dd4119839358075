//! `replay`: a thread told for people.
//!
//! The log is read in pages and printed as it comes, so a thread of any length takes the memory of
//! one page. Runs stand in the order of the log; what belongs to a run that ended is told as late.

use runledger_core::{
    AgentMessage, Category, ContentText as _, Event, EventFilter, ItemKind, ItemStatus, Ledger,
    ONCE_TERMINAL, RawJson, ReasoningText, Run, RunId, RunTotals, Scope, SeqRange, ThreadId, ToolCall,
    UserMessage, event_type,
};

use crate::args::ReplayArgs;
use crate::command::readers::moment;
use crate::output::{Output, Tone, grouped, one_line, printable};
use crate::wire::wire_status;
use crate::{Failure, money};

/// Events read at once. Payloads can be large, so a page is small.
const PAGE: u32 = 200;
/// Characters shown of a message.
const MESSAGE_CHARS: usize = 20_000;
/// Lines and characters shown of reasoning and of what a tool returned.
const OUTPUT_LINES: usize = 8;
const OUTPUT_CHARS: usize = 800;
/// Columns of a call's arguments.
const ARGS_COLUMNS: usize = 160;

/// `replay`.
pub(crate) async fn run(args: &ReplayArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    thread(ledger, &args.scope(), &args.thread, args.run.as_ref(), args.full, output).await
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
        style.paint(Tone::Title, &format!("thread {id}")),
        title.unwrap_or_default(),
        printable(&owner.unwrap_or_default()),
    ))?;
    let mut teller = Teller {
        ledger,
        scope,
        thread: id,
        full,
        current: None,
        told: Vec::new(),
        totals: RunTotals::default(),
        runs: 0,
    };
    let filter = only.map(|run| EventFilter::of_run(run.clone())).unwrap_or_default();
    let mut after = 0;
    loop {
        let page = ledger.events().list_events(scope, id, &filter, &SeqRange::after(after, PAGE)).await?;
        for event in &page.items {
            teller.event(event, output).await?;
            after = event.seq;
        }
        if !page.has_more {
            break;
        }
    }
    teller.end(output)
}

struct Teller<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    thread: &'a ThreadId,
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
            output.line(style.paint(Tone::Title, &format!("run {id}, late records")))?;
        } else {
            self.told.push(id.clone());
            self.runs += 1;
            add(&mut self.totals, &run.totals);
            let model = run.model_name.as_deref().map(|model| format!("  {}", one_line(model, 60)));
            output.line(format!(
                "{}  {}  {}{}",
                style.paint(Tone::Title, &format!("run {id}")),
                wire_status(&run.status),
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
            &format!("  = {}{}{took}", wire_status(&run.status), reason.unwrap_or_default()),
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
                let said: UserMessage = event.content.decode_lossy()?;
                let who = if *kind == ItemKind::UserMessage { "user" } else { "hook" };
                self.message(who, Tone::Person, &said.content, "", output)
            }
            ItemKind::AgentMessage => self.agent(event, output),
            ItemKind::Reasoning => {
                let text = event.content.decode_lossy::<ReasoningText>()?.text;
                output.line(output.style().paint(Tone::Faint, "  reasoning"))?;
                self.block(&text, OUTPUT_CHARS, OUTPUT_LINES, output)
            }
            ItemKind::ToolCall | ItemKind::CommandExecution | ItemKind::McpToolCall => {
                self.tool(event, status, output)
            }
            other => {
                let line = format!("  {other} {status}: {}", one_line(event.content.as_str(), ARGS_COLUMNS));
                output.line(printable(&line))
            }
        }
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

    fn agent(&self, event: &Event, output: &mut Output) -> Result<(), Failure> {
        let said: AgentMessage = event.content.decode_lossy()?;
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

    fn tool(&self, event: &Event, status: &ItemStatus, output: &mut Output) -> Result<(), Failure> {
        let call: ToolCall = event.content.decode_lossy()?;
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
        match call.content {
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
        let mut left = chars;
        let mut shown = 0;
        for (number, line) in text.trim_end().lines().enumerate() {
            if number == lines || left == 0 {
                break;
            }
            let kept: String = line.chars().take(left).collect();
            left = left.saturating_sub(kept.chars().count());
            shown += kept.len() + 1;
            output.line(format!("    {}", printable(&kept)).trim_end())?;
        }
        if shown < text.trim_end().len() {
            let note = format!("    [cut: {} of {} shown]", bytes(shown as u64), bytes(text.len() as u64));
            output.line(output.style().paint(Tone::Faint, &note))?;
        }
        Ok(())
    }

    fn end(&self, output: &mut Output) -> Result<(), Failure> {
        if self.runs == 0 {
            return output.line("no runs");
        }
        output.line("")?;
        let runs = if self.runs == 1 { "1 run".to_owned() } else { format!("{} runs", grouped(self.runs)) };
        output.line(output.style().paint(Tone::Title, &format!("{runs}, {}", tokens(&self.totals))))
    }
}

fn add(sum: &mut RunTotals, run: &RunTotals) {
    sum.input_tokens = sum.input_tokens.saturating_add(run.input_tokens);
    sum.output_tokens = sum.output_tokens.saturating_add(run.output_tokens);
    sum.total_tokens = sum.total_tokens.saturating_add(run.total_tokens);
    sum.llm_calls = sum.llm_calls.saturating_add(run.llm_calls);
    sum.cost_nanos = sum.cost_nanos.saturating_add(run.cost_nanos);
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
