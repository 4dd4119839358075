//! `usage`: what a run or a thread took, and sums of model calls by what they have in common.

use runledger_core::{
    Ledger, RunId, Scope, SourceId, ThreadId, UsageBreakdown, UsageBy, UsageOf, UsageQuery, UsageRecord,
};
use runledger_gateway::wire::{WireUsage, WireUsageReport};

use super::readers::{find_run, finish, target};
use crate::args::UsageArgs;
use crate::output::{Align, Output, Table, grouped};
use crate::{Failure, money};

/// `usage`.
pub(crate) async fn usage(args: &UsageArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let scope = args.reader.scope();
    if let Some(by) = args.by {
        return report(args, by.into(), &scope, ledger, output).await;
    }
    let (thread, run) = target(ledger, &scope, args.thread.as_ref(), args.run.as_ref()).await?;
    let run = run.map(|run| run.run_id);
    let breakdown = match &run {
        Some(run) => ledger.usage().by_run(&scope, &thread, run).await?,
        None => ledger.usage().by_thread(&scope, &thread, !args.ended).await?,
    };
    let calls = match &run {
        Some(run) => Some(calls(args, ledger, &scope, &thread, run).await?),
        None => None,
    };
    if !args.reader.json {
        return usage_tables(output, &breakdown);
    }
    let mut usage = WireUsage::new(&thread, run.as_ref(), &breakdown);
    if let Some((items, has_more)) = &calls {
        usage.with_calls(items, *has_more);
    }
    output.json(&usage)
}

async fn calls(
    args: &UsageArgs,
    ledger: &Ledger,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
) -> Result<(Vec<UsageRecord>, bool), Failure> {
    let after = args.cursor.as_deref().map(SourceId::new).transpose()?;
    let list = ledger.usage();
    let items = list.list_by_run(scope, thread, run, after.as_ref(), args.limit).await?;
    let has_more = match items.last() {
        Some(last) => !list.list_by_run(scope, thread, run, Some(&last.source_id), 1).await?.is_empty(),
        None => false,
    };
    Ok((items, has_more))
}

/// What models and callers took, as two tables.
pub(crate) fn usage_tables(output: &mut Output, breakdown: &UsageBreakdown) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("model", Align::Left),
        ("runs", Align::Right),
        ("calls", Align::Right),
        ("input", Align::Right),
        ("cached", Align::Right),
        ("output", Align::Right),
        ("reasoning", Align::Right),
        ("total", Align::Right),
        ("cost", Align::Right),
    ]);
    for (model, used) in &breakdown.by_model {
        table.row(&[
            model,
            &grouped(used.runs),
            &grouped(used.llm_calls),
            &grouped(used.tokens.input),
            &grouped(used.tokens.cache_read),
            &grouped(used.tokens.output),
            &grouped(used.tokens.reasoning),
            &grouped(used.tokens.total),
            &money::shown(used.cost_nanos),
        ]);
    }
    let totals = &breakdown.totals;
    table.row(&[
        "all",
        &grouped(breakdown.total_runs),
        &grouped(totals.llm_calls),
        &grouped(totals.input_tokens),
        &grouped(totals.cache_read_tokens),
        &grouped(totals.output_tokens),
        &grouped(totals.reasoning_tokens),
        &grouped(totals.total_tokens),
        &money::shown(totals.cost_nanos),
    ]);
    output.table(&table)?;
    output.line("")?;
    let mut callers = Table::new(&[("caller", Align::Left), ("tokens", Align::Right)]);
    callers.row(&["lead agent", &grouped(totals.lead_agent_tokens)]);
    callers.row(&["sub-agents", &grouped(totals.subagent_tokens)]);
    callers.row(&["middleware", &grouped(totals.middleware_tokens)]);
    output.table(&callers)
}

async fn report(
    args: &UsageArgs,
    by: UsageBy,
    scope: &Scope,
    ledger: &Ledger,
    output: &mut Output,
) -> Result<(), Failure> {
    let of = match (&args.thread, &args.run) {
        (None, None) => UsageOf::All,
        (Some(thread), None) if args.tree => UsageOf::Tree(thread.clone()),
        (Some(thread), None) => UsageOf::Thread(thread.clone()),
        (thread, Some(run)) => {
            let run = find_run(ledger, scope, thread.as_ref(), run).await?;
            UsageOf::Run(run.thread_id, run.run_id)
        }
    };
    let (after, limit) = (args.cursor.clone(), args.limit);
    let query = UsageQuery { from: args.from, before: args.before, after, limit, ..UsageQuery::new(of, by) };
    let report = WireUsageReport::read(ledger, scope, query).await?;
    if args.reader.json {
        return output.json(&report);
    }
    let WireUsageReport { items, next_cursor, total, .. } = report;
    let mut table = Table::new(&[
        (head(by), Align::Left),
        ("runs", Align::Right),
        ("calls", Align::Right),
        ("estimated", Align::Right),
        ("input", Align::Right),
        ("cached", Align::Right),
        ("output", Align::Right),
        ("reasoning", Align::Right),
        ("total", Align::Right),
        ("cost", Align::Right),
        ("unpriced", Align::Right),
    ]);
    // A total is its own last row.
    let rows = items.iter().filter(|_| by != UsageBy::Total);
    for (name, sum) in rows.map(|sum| (sum.key.as_str(), sum)).chain([("all", &total)]) {
        table.row(&[
            if name.is_empty() { "-" } else { name },
            &grouped(sum.runs),
            &grouped(sum.llm_calls),
            &grouped(sum.estimated_calls),
            &grouped(sum.tokens.input),
            &grouped(sum.tokens.cache_read),
            &grouped(sum.tokens.output),
            &grouped(sum.tokens.reasoning),
            &grouped(sum.tokens.total),
            &money::exact(sum.cost_nanos),
            &grouped(sum.unpriced_calls),
        ]);
    }
    let next = next_cursor.map(|key| format!("--cursor {key:?}"));
    finish(output, &table, items.len(), "model calls", next)
}

fn head(by: UsageBy) -> &'static str {
    match by {
        UsageBy::Total => "calls of",
        UsageBy::Model => "model",
        UsageBy::Caller => "caller",
        UsageBy::Owner => "owner",
        UsageBy::Day => "day",
        UsageBy::Thread => "thread",
        UsageBy::Run => "run",
        UsageBy::Round => "round",
    }
}
