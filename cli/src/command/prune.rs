//! `prune`: removing old events.

use std::time::Duration;

use clap::Args;
use runledger_core::{Category, Error, Scope};
use runledger_persistence::retention::{
    FileSpace, PruneMode, PrunePolicy, PruneProgress, PruneReport, PrunedCategory, Shrinks, Volume,
};

use crate::args::DatabaseArgs;
use crate::command::readers::moment;
use crate::import::counted;
use crate::output::{Align, Output, Table, grouped};
use crate::{Failure, database};

const HELP: &str = "\
Removed are events of runs that ended longer ago than that, and events of no run that happened longer ago. Runs that \
have not ended, or have an item in progress, keep theirs. Runs, threads, usage and folds with their notes stay \
whatever their age; so do tokens and cost. A run's number of messages follows its log. Numbers are never given again.

It goes in small batches while others write, and can be ended at any time: the next call goes on.

SQLite: the file gets smaller at the end. PostgreSQL: autovacuum frees the space for reuse; nothing here \
makes its files smaller.";

/// Arguments of `prune`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = HELP)]
pub struct PruneArgs {
    /// How long ago a run must have ended: a number of days, hours, minutes or seconds, as in 30d, 12h, 90m, 45s.
    #[arg(long, value_name = "AGE", value_parser = |text: &str| span("older_than", text))]
    pub older_than: Duration,

    /// Only events of this category: message, reasoning, lifecycle, trace, middleware, context, outputs, workspace,
    /// subagent, error, or an application's own. May be given several times.
    #[arg(long = "category", value_name = "CATEGORY", value_parser = |text: &str| Category::new(text))]
    pub categories: Vec<Category>,

    /// Keep the newest so many runs of each thread whole, and the thread's own events from where they begin.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_last: u32,

    /// Remove nothing; say what would go.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub database: DatabaseArgs,
}

impl PruneArgs {
    fn policy(&self) -> PrunePolicy {
        PrunePolicy {
            older_than: self.older_than,
            categories: self.categories.clone(),
            keep_last: self.keep_last,
            mode: if self.dry_run { PruneMode::DryRun } else { PruneMode::Remove },
        }
    }
}

/// Reads a span of time: a whole number and its unit.
pub(crate) fn span(field: &'static str, text: &str) -> Result<Duration, Error> {
    let refused =
        |reason: &str| Error::invalid(field, format!("{text:?} {reason}; give 30d, 12h, 90m or 45s"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(refused("does not begin with a number"));
    }
    let seconds: u64 = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        "" => return Err(refused("has no unit")),
        _ => return Err(refused("has a unit that is none of d, h, m and s")),
    };
    let total =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).map(Duration::from_secs);
    total.filter(|age| *age <= PrunePolicy::MAX_AGE).ok_or_else(|| refused("is more than 36525 days"))
}

/// `prune`.
pub(crate) async fn run(args: &PruneArgs, output: &mut Output) -> Result<(), Failure> {
    let ledger = database::open(&args.database.database_url).await?;
    let progress = output.bar(if args.dry_run { "looking" } else { "pruning" }, 0);
    let tell = |now: &PruneProgress| {
        progress.set_length(now.threads);
        progress.set_position(now.threads_done);
    };
    let outcome = ledger.prune(&Scope::System, &args.policy(), tell).await;
    progress.finish_and_clear();
    ledger.close().await;
    let report = outcome?;
    if args.json { output.json(&report) } else { table(&report, output) }
}

fn table(report: &PruneReport, output: &mut Output) -> Result<(), Failure> {
    let done = if report.mode == PruneMode::DryRun { "would remove" } else { "removed" };
    output.line(format!(
        "{done} {} of {} on {}, from before {}",
        counted(report.removed.events, "event"),
        counted(report.runs, "run"),
        counted(report.threads, "thread"),
        moment(report.cutoff),
    ))?;
    let mut table = Table::new(&[
        ("category", Align::Left),
        ("events", Align::Right),
        ("events removed", Align::Right),
        ("events after", Align::Right),
        ("bytes", Align::Right),
        ("bytes removed", Align::Right),
        ("bytes after", Align::Right),
    ]);
    let mut row = |name: &str, volumes: [Volume; 3]| {
        let cells =
            volumes.map(|it| grouped(it.events)).into_iter().chain(volumes.map(|it| grouped(it.bytes)));
        let cells: Vec<String> = std::iter::once(name.to_owned()).chain(cells).collect();
        table.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    };
    for PrunedCategory { category, before, removed, after } in &report.categories {
        row(category.as_str(), [*before, *removed, *after]);
    }
    row("total", [report.before, report.removed, report.after]);
    output.table(&table)?;
    report.file.iter().try_for_each(|file| output.line(file_line(file)))
}

/// What became of the file.
pub(super) fn file_line(file: &FileSpace) -> String {
    let after = file.bytes_after.map(|bytes| format!(", {} after", grouped(bytes))).unwrap_or_default();
    let why = match file.shrinks {
        Shrinks::Yes => "",
        Shrinks::Later => "; somebody reads it, and it gets smaller when that ends",
        Shrinks::No => {
            "; it was made without auto_vacuum, so what comes free is used again and the file keeps its size: \
             `PRAGMA auto_vacuum = INCREMENTAL; VACUUM;` while nobody uses it changes that"
        }
    };
    format!("file: {} bytes before{after}{why}", grouped(file.bytes_before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn ages_are_numbers_with_a_unit() {
        let seconds =
            |text| span("older_than", text).map(|age| age.as_secs()).map_err(|error| error.to_string());
        assert_eq!(
            ["30d", "12h", "90m", "45s", "0d", "36525d"].map(seconds),
            [2_592_000, 43_200, 5_400, 45, 0, 3_155_760_000].map(Ok)
        );
        for (text, reason) in [
            ("", "does not begin with a number"),
            ("d", "does not begin with a number"),
            ("-1d", "does not begin with a number"),
            ("30", "has no unit"),
            ("30w", "has a unit that is none of d, h, m and s"),
            ("1.5d", "has a unit that is none of d, h, m and s"),
            ("30 d", "has a unit that is none of d, h, m and s"),
            ("36526d", "is more than 36525 days"),
            ("99999999999999999999d", "is more than 36525 days"),
            ("9999999999999999999d", "is more than 36525 days"),
        ] {
            let told = format!("invalid older_than: {text:?} {reason}; give 30d, 12h, 90m or 45s");
            assert_eq!(seconds(text), Err(told));
        }
    }
}
