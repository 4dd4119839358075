//! What was measured, as Markdown and as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::contender::{About, Backend};

/// Progress, for whoever waits.
pub(crate) fn say(line: &str) {
    // Nobody listens where it cannot be written.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes of one contender: medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) workload: &'static str,
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) events_per_second: f64,
    /// Microseconds of a commit.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Events per second of each round.
    pub(crate) rounds: Vec<f64>,
}

/// Reads of one contender in a log of some length: medians of the rounds, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadRow {
    pub(crate) op: &'static str,
    /// Events of the log.
    pub(crate) events: u64,
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Whether it costs what it sums.
    pub(crate) sums: bool,
}

/// What a log of some length takes on the disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) backend: Backend,
    pub(crate) events: u64,
    /// All tables and indexes.
    pub(crate) bytes: u64,
    /// The payloads among them.
    pub(crate) payload: u64,
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// What it was measured on.
    pub(crate) machine: Vec<(&'static str, String)>,
    /// The peers and their versions.
    pub(crate) peers: Vec<(String, String)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) reads: Vec<ReadRow>,
    pub(crate) sizes: Vec<Size>,
}

impl Report {
    pub(crate) fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// How fast a row is beside its limit, where that was measured.
    fn of_limit(&self, row: &Row) -> Option<f64> {
        let limit = row.about.limit.as_ref()?;
        let limit =
            self.rows.iter().find(|other| other.about.name == *limit && other.workload == row.workload)?;
        Some(row.events_per_second / limit.events_per_second)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| measured on | |\n|---|---|\n");
        let machine = self.machine.iter().map(|(name, value)| (*name, value));
        let peers = self.peers.iter().map(|(name, version)| (name.as_str(), version));
        for (name, value) in machine.chain(peers) {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        for backend in BACKENDS {
            self.writes(&mut text, backend);
        }
        for backend in BACKENDS {
            self.reads(&mut text, backend);
            self.growth(&mut text, backend);
        }
        self.storage(&mut text);
        text
    }

    fn writes(&self, text: &mut String, backend: Backend) {
        for (group, title) in WRITES {
            let rows: Vec<&Row> =
                self.rows.iter().filter(|row| row.about.backend == backend && row.group == group).collect();
            if rows.is_empty() {
                continue;
            }
            section(text, &format!("{title}, {backend}: events a second, and which part of the limit"));
            table(text, &rows, |row| {
                let part = self.of_limit(row).map_or(String::new(), |part| format!(" ({part:.2})"));
                format!("{}{part}", grouped(row.events_per_second))
            });
            if group == "append" {
                section(text, &format!("{title}, {backend}: milliseconds of a commit, p50 / p99"));
                table(text, &rows, |row| format!("{} / {}", millis(row.p50), millis(row.p99)));
            } else if group == "journal" {
                section(text, &format!("{title}, {backend}: microseconds of a callback, p50 / p99"));
                table(text, &rows, |row| format!("{:.1} / {:.1}", row.p50, row.p99));
            }
            self.lead(text, &rows, backend);
        }
    }

    /// How many times as fast ours is as each peer.
    fn lead(&self, text: &mut String, rows: &[&Row], backend: Backend) {
        let is_peer = |row: &&Row| self.peers.iter().any(|(name, _)| *name == row.about.name);
        let peers: Vec<&Row> = rows.iter().copied().filter(is_peer).collect();
        let ours = |peer: &Row| {
            rows.iter().find(|row| {
                row.about.name.starts_with(OURS)
                    && row.about.limit == peer.about.limit
                    && row.workload == peer.workload
            })
        };
        if peers.iter().any(|peer| ours(peer).is_some()) {
            section(text, &format!("Appends, {backend}: how many times as fast ours is"));
            table(text, &peers, |peer| {
                ours(peer).map_or_else(
                    || "-".to_owned(),
                    |ours| format!("{:.1}", ours.events_per_second / peer.events_per_second),
                )
            });
        }
    }

    fn reads(&self, text: &mut String, backend: Backend) {
        let rows: Vec<&ReadRow> = self.reads.iter().filter(|row| row.about.backend == backend).collect();
        for events in in_order(rows.iter().map(|row| row.events)) {
            let rows: Vec<&&ReadRow> = rows.iter().filter(|row| row.events == events).collect();
            let names = in_order(rows.iter().map(|row| row.about.name.as_str()));
            let size = grouped(events as f64);
            section(
                text,
                &format!(
                    "Reads, {backend}, {size} events: microseconds p50 / p99, and times the limit's p50"
                ),
            );
            let _ = writeln!(text, "| | {} |", names.join(" | "));
            let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len()));
            for op in in_order(rows.iter().map(|row| row.op)) {
                let find = |name: &str| rows.iter().find(|row| row.op == op && row.about.name == name);
                let cells = names.iter().map(|name| {
                    let Some(row) = find(name) else { return "-".to_owned() };
                    let limit = row.about.limit.as_deref().and_then(find);
                    let times = limit.map_or(String::new(), |limit| format!(" ({:.1})", row.p50 / limit.p50));
                    format!("{:.0} / {:.0}{times}", row.p50, row.p99)
                });
                let _ = writeln!(text, "| {op} | {} |", cells.collect::<Vec<_>>().join(" | "));
            }
        }
    }

    /// What ours takes in longer logs.
    fn growth(&self, text: &mut String, backend: Backend) {
        let ours = |row: &&ReadRow| row.about.backend == backend && row.about.name.starts_with(OURS);
        let rows: Vec<&ReadRow> = self.reads.iter().filter(ours).collect();
        let sizes = in_order(rows.iter().map(|row| row.events));
        if sizes.len() < 2 {
            return;
        }
        section(
            text,
            &format!("Growth, {backend}: p50 as a multiple of that at {} events", grouped(sizes[0] as f64)),
        );
        let heads = sizes[1..].iter().map(|size| grouped(*size as f64));
        let _ = writeln!(text, "| | {} |", heads.collect::<Vec<_>>().join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(sizes.len() - 1));
        for op in in_order(rows.iter().map(|row| row.op)) {
            let at =
                |size: u64| rows.iter().find(|row| row.op == op && row.events == size).map(|row| row.p50);
            let Some(first) = at(sizes[0]) else { continue };
            let cells = sizes[1..]
                .iter()
                .map(|size| at(*size).map_or_else(|| "-".to_owned(), |p50| format!("{:.2}", p50 / first)));
            let _ = writeln!(text, "| {op} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn storage(&self, text: &mut String) {
        if self.sizes.is_empty() {
            return;
        }
        section(text, "Storage, all tables and indexes");
        let _ = writeln!(text, "| backend | events | bytes an event | bytes for each of payload |");
        let _ = writeln!(text, "|---|---:|---:|---:|");
        for Size { backend, events, bytes, payload } in &self.sizes {
            let an_event = grouped(*bytes as f64 / *events as f64);
            let each = *bytes as f64 / *payload as f64;
            let _ = writeln!(text, "| {backend} | {} | {an_event} | {each:.2} |", grouped(*events as f64));
        }
    }
}

const BACKENDS: [Backend; 4] = [Backend::Sqlite, Backend::Postgresql, Backend::Files, Backend::Memory];
/// How ours are called.
pub(crate) const OURS: &str = "Runledger";
/// The kinds of writes, and their titles.
const WRITES: [(&str, &str); 3] =
    [("append", "Appends"), ("journal", "Callbacks of a journal to durable"), ("import", "Bulk import")];

fn section(text: &mut String, title: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\n### {title}\n\n");
}

/// A line for each contender, a column for each workload, in the order in which they were measured.
fn table(text: &mut String, rows: &[&Row], cell: impl Fn(&Row) -> String) {
    let workloads = in_order(rows.iter().map(|row| row.workload));
    let _ = writeln!(text, "| contender | survives | {} |", workloads.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---:|".repeat(workloads.len()));
    for name in in_order(rows.iter().map(|row| row.about.name.as_str())) {
        let of_name: Vec<&&Row> = rows.iter().filter(|row| row.about.name == name).collect();
        let durability = of_name.first().map_or("", |row| row.about.durability.as_str());
        let cells = workloads.iter().map(|workload| {
            let row = of_name.iter().find(|row| row.workload == *workload);
            row.map_or_else(|| "-".to_owned(), |row| cell(row))
        });
        let _ = writeln!(text, "| {name} | {durability} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

/// Each once.
fn in_order<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds as milliseconds with two digits that mean something.
fn millis(micros: f64) -> String {
    let value = micros / 1e3;
    if value >= 10.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
