//! Writes: appends (`wN bM` is N writers at once, M events a commit), journals and bulk imports.

use std::sync::Arc;
use std::time::Duration;

use runledger_core::BoxError;

use crate::contender::archive::{Archive, Import};
use crate::contender::journal::{self, Journal};
use crate::contender::postgres_limit::Copy;
use crate::contender::{About, Appends, Load, Setting, file_limit, ours, postgres_limit, sqlite_limit};
use crate::measure::{Written, median, settle};
use crate::report::{Row, say};
use crate::work::Work;
use crate::{Bench, line};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Commits of a size, one after the other.
    Append,
    /// As many events as fast as they can be had.
    Bulk,
    /// Callbacks of runs, until everything is durable.
    Journal,
}

/// A load but for its length.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: Kind,
    name: &'static str,
    writers: usize,
    batch: usize,
    same_thread: bool,
}

const fn shape(kind: Kind, name: &'static str, writers: usize, batch: usize) -> Shape {
    Shape { kind, name, writers, batch, same_thread: false }
}

const fn same(name: &'static str, writers: usize, batch: usize) -> Shape {
    Shape { kind: Kind::Append, name, writers, batch, same_thread: true }
}

const SHAPES: [Shape; 10] = [
    shape(Kind::Append, "w1 b1", 1, 1),
    shape(Kind::Append, "w1 b20", 1, 20),
    shape(Kind::Append, "w1 b100", 1, 100),
    shape(Kind::Append, "w8 b20", 8, 20),
    shape(Kind::Append, "w32 b1", 32, 1),
    shape(Kind::Append, "w32 b20", 32, 20),
    same("w8 b1 same", 8, 1),
    same("w8 b20 same", 8, 20),
    shape(Kind::Journal, "8 runs", 8, journal::TURN),
    shape(Kind::Bulk, "bulk", 1, 1_000),
];

impl Shape {
    fn load(self, commits: usize) -> Load {
        let Self { writers, batch, same_thread, .. } = self;
        Load { writers, batch, commits, same_thread }
    }

    fn group(self) -> &'static str {
        match self.kind {
            Kind::Append => "append",
            Kind::Bulk => "import",
            Kind::Journal => "journal",
        }
    }

    fn rounds(self, bench: &Bench) -> usize {
        // A round of it takes as long as ten of others.
        if self.kind == Kind::Bulk { bench.arguments.rounds().min(3) } else { bench.arguments.rounds() }
    }
}

/// A contender at work.
struct Entry {
    about: About,
    contender: Box<dyn Appends>,
    commits: usize,
    written: Vec<Written>,
    given: u64,
}

impl Entry {
    fn new(about: About, contender: Box<dyn Appends>) -> Self {
        Self { about, contender, commits: 0, written: Vec::new(), given: 0 }
    }

    async fn measure(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let written = self.contender.append(work, load).await?;
        self.given += written.stored;
        Ok(written)
    }

    async fn round(&mut self, bench: &Bench, shape: Shape) -> Result<(), BoxError> {
        if !bench.arguments.smoke {
            settle().await;
        }
        let written = self.measure(&bench.work, shape.load(self.commits)).await?;
        say(&format!(
            "{}: {:.0} events/s, {} events, p50 {:.0} us, p99 {:.0} us",
            line(shape.group(), shape.name, &self.about),
            written.rate(),
            written.events,
            written.p50,
            written.p99
        ));
        self.written.push(written);
        Ok(())
    }

    /// The medians, once everything that it was given is found there.
    async fn finish(mut self, shape: Shape) -> Result<Row, BoxError> {
        let stored = self.contender.stored().await?;
        if stored != self.given {
            return Err(format!("{}: {stored} events are there of {}", self.about.name, self.given).into());
        }
        self.contender.close().await;
        let of = |value: fn(&Written) -> f64| median(self.written.iter().map(value));
        Ok(Row {
            group: shape.group(),
            workload: shape.name,
            events_per_second: of(Written::rate),
            p50: of(|written| written.p50),
            p99: of(|written| written.p99),
            rounds: self.written.iter().map(Written::rate).collect(),
            about: self.about,
        })
    }

    /// Finds how many commits of each writer take about as long as one measurement is to.
    async fn pace(&mut self, shape: Shape, bench: &Bench) -> Result<(), BoxError> {
        let per_commit = (shape.writers * shape.batch) as u64;
        if shape.kind == Kind::Bulk {
            self.commits = (bench.arguments.bulk_events() / per_commit) as usize;
            return Ok(());
        }
        if bench.arguments.smoke {
            self.commits = 2;
            return Ok(());
        }
        let most = (bench.arguments.events() / per_commit).max(4) as usize;
        let wanted = bench.arguments.duration();
        let mut commits = 2.min(most);
        loop {
            let written = self.measure(&bench.work, shape.load(commits)).await?;
            let took = Duration::from_secs_f64(written.seconds);
            if took * 4 >= wanted || commits == most {
                let fitting = commits as f64 * wanted.as_secs_f64() / written.seconds.max(1e-6);
                self.commits = (fitting as usize).clamp(2, most);
                return Ok(());
            }
            commits = (commits * 4).min(most);
        }
    }
}

/// Opens every contender that is wanted for a workload.
async fn open(bench: &Bench, shape: Shape) -> Result<Vec<Entry>, BoxError> {
    let mut entries = Vec::new();
    for setting in Setting::ALL.into_iter().filter(|setting| bench.has(setting.backend())) {
        for about in [Some(setting.ours()), setting.limit()].into_iter().flatten() {
            if !bench.wants(shape.group(), shape.name, &about) {
                continue;
            }
            let is_ours = about.limit.is_some() || setting == Setting::Memory;
            if let Some(contender) = of_setting(bench, shape, setting, is_ours).await? {
                entries.push(Entry::new(about, contender));
            }
        }
    }
    if shape.kind == Kind::Append {
        for peer in &bench.peers.all {
            if bench.wants(shape.group(), shape.name, &peer.about) {
                match bench.peers.open(peer, &bench.place).await {
                    Ok(contender) => entries.push(Entry::new(peer.about.clone(), Box::new(contender))),
                    Err(error) => bench.failed(shape.group(), shape.name, &peer.about, &error)?,
                }
            }
        }
    }
    if shape.kind == Kind::Bulk {
        add_imports(bench, shape, &mut entries).await?;
    }
    Ok(entries)
}

/// Ours or the limit at a workload, where it has a part in it.
async fn of_setting(
    bench: &Bench,
    shape: Shape,
    setting: Setting,
    is_ours: bool,
) -> Result<Option<Box<dyn Appends>>, BoxError> {
    let place = &bench.place;
    let contender: Box<dyn Appends> = match (is_ours, shape.kind, setting) {
        // Its limit is what the store takes.
        (false, Kind::Journal, _) => return Ok(None),
        // Files have no runs, which journals write.
        (true, Kind::Journal, Setting::Jsonl | Setting::JsonlSynced) => return Ok(None),
        (true, Kind::Journal, _) => Box::new(Journal(ours::open(setting, place).await?)),
        (true, ..) => Box::new(ours::open(setting, place).await?),
        (false, _, Setting::SqliteNormal | Setting::SqliteFull) => {
            Box::new(sqlite_limit::open(setting, place).await?)
        }
        (false, Kind::Bulk, Setting::Postgresql) => {
            Box::new(Copy(postgres_limit::open(setting, place).await?))
        }
        // To copy everything at once is to wait for the disk once.
        (false, Kind::Bulk, Setting::PostgresqlRelaxed) => return Ok(None),
        (false, _, Setting::Postgresql | Setting::PostgresqlRelaxed) => {
            Box::new(postgres_limit::open(setting, place).await?)
        }
        (false, _, Setting::Jsonl | Setting::JsonlSynced) => Box::new(file_limit::open(setting, place)?),
        // Nothing is below memory.
        (false, _, Setting::Memory) => return Ok(None),
    };
    Ok(Some(contender))
}

/// Imports of archives, whose limit is that of appends.
async fn add_imports(bench: &Bench, shape: Shape, entries: &mut Vec<Entry>) -> Result<(), BoxError> {
    let mut archive = None;
    for setting in [Setting::SqliteNormal, Setting::Postgresql] {
        let mut about = setting.ours();
        about.name.push_str(", archives");
        if !bench.has(setting.backend()) || !bench.wants(shape.group(), shape.name, &about) {
            continue;
        }
        if archive.is_none() {
            let events = bench.arguments.bulk_events();
            archive = Some(Arc::new(Archive::make(&bench.place, &bench.work, events).await?));
        }
        let Some(archive) = &archive else { continue };
        entries.push(Entry::new(about, Box::new(Import::new(archive, setting, &bench.place))));
    }
    Ok(())
}

/// Measures every contender in each round, beginning with another one each time.
pub(crate) async fn run(bench: &mut Bench) -> Result<(), BoxError> {
    for shape in SHAPES {
        // One that failed leaves its place.
        let mut entries: Vec<Option<Entry>> = open(bench, shape).await?.into_iter().map(Some).collect();
        for place in &mut entries {
            let Some(mut entry) = place.take() else { continue };
            match entry.pace(shape, bench).await {
                Ok(()) => *place = Some(entry),
                Err(error) => bench.failed(shape.group(), shape.name, &entry.about, &error)?,
            }
        }
        let count = entries.len();
        for round in 0..shape.rounds(bench) {
            for turn in 0..count {
                let place = &mut entries[(turn + round) % count];
                let Some(mut entry) = place.take() else { continue };
                match entry.round(bench, shape).await {
                    Ok(()) => *place = Some(entry),
                    Err(error) => bench.failed(shape.group(), shape.name, &entry.about, &error)?,
                }
            }
        }
        for entry in entries.into_iter().flatten() {
            let row = entry.finish(shape).await?;
            bench.report.rows.push(row);
        }
    }
    Ok(())
}
