//! `agent-runs` and `agent-run`: what agents were to reach, and what they did for it.

use clap::Args;
use runledger_core::{
    AgentMatch, AgentRun, AgentRunFilter, AgentRunId, AgentRunStatus, AgentStep, ContentText as _, Ledger,
    RawJson, StepKind, Timestamp,
};
use runledger_gateway::wire::WirePage;
use serde::Deserialize;

use super::readers::{finish, moment};
use crate::args::{ListArgs, ReaderArgs};
use crate::output::{Align, Output, Style, Table, Tone, grouped, one_line, printable};
use crate::{Failure, money};

/// How much of arguments and of a result a step shows.
const PREVIEW: usize = 160;

/// Arguments of `agent-runs`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct AgentRunsArgs {
    /// Only those of the agent with this name.
    #[arg(long, conflicts_with = "agent_prefix")]
    pub agent: Option<String>,
    /// Only those of agents whose names begin like this: `crew.` finds `crew.critic`.
    #[arg(long)]
    pub agent_prefix: Option<String>,
    /// Only those with this status: running, completed, budget_exhausted, failed, cancelled, interrupted.
    #[arg(long, value_parser = |text: &str| AgentRunStatus::parse("status", text))]
    pub status: Option<AgentRunStatus>,
    /// Only those that this agent run delegated to.
    #[arg(long, value_name = "AGENT_RUN")]
    pub parent: Option<AgentRunId>,
    /// Only those recorded at this time or later: 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Timestamp::parse("from", text))]
    pub from: Option<Timestamp>,
    /// Only those recorded before this time.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Timestamp::parse("before", text))]
    pub before: Option<Timestamp>,
    #[command(flatten)]
    pub range: ListArgs,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// Arguments of `agent-run`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct AgentRunArgs {
    /// The agent run.
    pub id: AgentRunId,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// `agent-runs`.
pub(crate) async fn list(args: &AgentRunsArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let exact = args.agent.clone().map(AgentMatch::Exact);
    let filter = AgentRunFilter {
        agent: exact.or_else(|| args.agent_prefix.clone().map(AgentMatch::Prefix)),
        status: args.status.clone(),
        parent_agent_run_id: args.parent.clone(),
        created_from: args.from,
        created_before: args.before,
    };
    let page = ledger.agent_runs().list(&args.reader.scope(), &filter, &args.range.range()?).await?;
    let next_cursor = page.next_cursor.map(|cursor| cursor.as_str().to_owned());
    if args.reader.json {
        return output.json(&WirePage { items: page.items, has_more: page.has_more, next_cursor });
    }
    let mut table = Table::new(&[
        ("agent run", Align::Left),
        ("agent", Align::Left),
        ("status", Align::Left),
        ("recorded", Align::Left),
        ("calls", Align::Right),
        ("tools", Align::Right),
        ("tokens", Align::Right),
        ("cost", Align::Right),
        ("goal", Align::Flexible),
    ]);
    for run in &page.items {
        let tokens = run.usage.input_tokens.saturating_add(run.usage.output_tokens);
        table.row(&[
            run.agent_run_id.as_str(),
            &run.agent,
            run.status.as_str(),
            &moment(run.created_at),
            &grouped(run.usage.iterations),
            &grouped(run.usage.tool_calls),
            &grouped(tokens),
            &run.usage.cost_nanos.map_or_else(|| "-".to_owned(), money::shown),
            &run.goal,
        ]);
    }
    finish(output, &table, page.items.len(), "agent runs", next_cursor.map(|c| format!("--cursor {c}")))
}

/// `agent-run`.
pub(crate) async fn show(args: &AgentRunArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let run = ledger.agent_run(&args.reader.scope(), &args.id).await?;
    if args.reader.json {
        return output.json(&run);
    }
    let style = output.style();
    let title = format!("{} ({})", run.agent, run.agent_run_id);
    output.line(style.paint(Tone::Title, &one_line(&title, 512)))?;
    told(output, style, Tone::Person, "goal", &run.goal)?;
    for step in &run.steps {
        for line in step_lines(step) {
            let tone = match &step.kind {
                StepKind::LlmResponse => Tone::Agent,
                StepKind::ToolResult => Tone::Tool,
                // A sub-agent, a plan, and what a newer version writes.
                _ => Tone::Faint,
            };
            output.line(style.paint(tone, &line))?;
        }
    }
    if let Some(answer) = &run.output {
        told(output, style, Tone::Agent, "output", answer)?;
    }
    if let Some(error) = &run.error {
        told(output, style, Tone::Bad, "error", error)?;
    }
    output.line(summary(&run))
}

/// Text of people and models, each line harmless on a terminal.
fn told(output: &mut Output, style: Style, tone: Tone, name: &str, text: &str) -> Result<(), Failure> {
    output.line(style.paint(Tone::Faint, &format!("{name}:")))?;
    for line in text.lines() {
        output.line(style.paint(tone, &format!("  {}", printable(line))))?;
    }
    Ok(())
}

/// What the payloads of steps have that is worth a line.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    text: Option<String>,
    tool_calls: Vec<Asked>,
    tool: Option<String>,
    args: Option<RawJson>,
    ok: Option<bool>,
    result: Option<RawJson>,
    error: Option<String>,
    description: Option<String>,
    detail: Option<RawJson>,
    caller: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    args: RawJson,
}

/// A step: its number and what it is, and below it what it did.
fn step_lines(step: &AgentStep) -> Vec<String> {
    let said: Told = step.payload.decode_lossy().unwrap_or_default();
    let by = said.caller.as_deref().map(|caller| format!(" by {caller}")).unwrap_or_default();
    let number = format!("{:>4}  ", step.index);
    let head = |text: String| format!("{number}{}", one_line(&text, 512));
    let below = |text: &str| format!("      {}", one_line(text, PREVIEW));
    let mark = if said.ok == Some(false) { "failed" } else { "ok" };
    match &step.kind {
        StepKind::LlmResponse => {
            let mut lines = vec![head(format!("model call {}{by}", step.iteration))];
            lines.extend(said.text.iter().filter(|text| !text.is_empty()).map(|text| below(text)));
            lines.extend(
                said.tool_calls.iter().map(|call| below(&format!("-> {}({})", call.name, call.args))),
            );
            lines
        }
        StepKind::ToolResult => {
            let args = said.args.as_ref().map(RawJson::as_str).unwrap_or_default();
            let mut lines = vec![head(format!(
                "{} {mark}{by} ({})",
                said.tool.as_deref().unwrap_or("tool"),
                one_line(args, PREVIEW)
            ))];
            lines.extend(said.result.as_ref().map(|result| below(&text_of(result))));
            lines.extend(said.error.as_deref().map(below));
            lines
        }
        StepKind::SubAgent => {
            let what = said.description.unwrap_or_default();
            let mut lines = vec![head(format!("sub-agent {mark}{by}: {what}"))];
            lines.extend(said.detail.as_ref().map(|detail| below(&text_of(detail))));
            lines.extend(said.error.as_deref().map(below));
            lines
        }
        _ => {
            vec![head(step.kind.to_string()), below(step.payload.as_str())]
        }
    }
}

/// The text of a message's content, or the document.
fn text_of(content: &RawJson) -> String {
    let text = content.text();
    if text.is_empty() { content.as_str().to_owned() } else { text }
}

fn summary(run: &AgentRun) -> String {
    let usage = &run.usage;
    let mut parts = vec![
        format!("= {}", run.status),
        format!("{} steps", grouped(run.steps.len() as u64)),
        format!("{} model calls", grouped(usage.iterations)),
        format!("{} tool calls", grouped(usage.tool_calls)),
        format!("{} tokens in, {} out", grouped(usage.input_tokens), grouped(usage.output_tokens)),
    ];
    parts.extend(usage.cost_nanos.map(money::shown));
    parts.extend(usage.latency_ms.map(|millis| format!("{millis} ms")));
    parts.extend(run.confidence.map(|confidence| format!("confidence {confidence}")));
    parts.extend(run.model.clone());
    one_line(&parts.join(" · "), 512)
}
