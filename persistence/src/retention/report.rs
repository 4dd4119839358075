//! What was there, what went and what is left.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::AddAssign;

use runledger_core::{Category, Timestamp};
use serde::Serialize;

use super::PruneMode;
use crate::sql::prune::Surveyed;

/// How much of a log. Bytes are those of payloads and metadata as they are stored: of a payload that was cut, what
/// is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Events.
    pub events: u64,
    /// Bytes of their payloads and metadata.
    pub bytes: u64,
}

impl AddAssign for Volume {
    fn add_assign(&mut self, more: Self) {
        self.events = self.events.saturating_add(more.events);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl Sum for Volume {
    fn sum<I: Iterator<Item = Self>>(volumes: I) -> Self {
        volumes.fold(Self::default(), |mut sum, volume| {
            sum += volume;
            sum
        })
    }
}

impl Volume {
    fn without(self, removed: Self) -> Self {
        Self {
            events: self.events.saturating_sub(removed.events),
            bytes: self.bytes.saturating_sub(removed.bytes),
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneProgress {
    /// How many threads there were at the start.
    pub threads: u64,
    /// How many of them are done.
    pub threads_done: u64,
    /// What was removed so far; of a dry run, what would have been.
    pub removed: Volume,
}

/// One category of a [`PruneReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrunedCategory {
    /// The category.
    pub category: Category,
    /// What was there.
    pub before: Volume,
    /// What went.
    pub removed: Volume,
    /// What is left.
    pub after: Volume,
}

/// What a call of [`SqlLedger::prune`](crate::SqlLedger::prune) removed, or would remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Whether it did.
    pub mode: PruneMode,
    /// What ended, or happened, before this moment was old.
    pub cutoff: Timestamp,
    /// How many threads lost events.
    pub threads: u64,
    /// How many runs lost events.
    pub runs: u64,
    /// What was there.
    pub before: Volume,
    /// What went.
    pub removed: Volume,
    /// What is left.
    pub after: Volume,
    /// The same by category.
    pub categories: Vec<PrunedCategory>,
    /// The files of a SQLite database; `None` for one in memory and for PostgreSQL.
    pub file: Option<FileSpace>,
}

/// What a SQLite database takes on the disk, its write-ahead log included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileSpace {
    /// At the start.
    pub bytes_before: u64,
    /// At the end; `None` of a dry run.
    pub bytes_after: Option<u64>,
    /// Whether what comes free is given back.
    pub shrinks: Shrinks,
}

/// Whether a SQLite file gets smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shrinks {
    /// It does.
    Yes,
    /// It will when the next program closes it: somebody was reading it.
    Later,
    /// It was made without `auto_vacuum`: what comes free is used again. `PRAGMA auto_vacuum = INCREMENTAL; VACUUM;` on
    /// a ledger that nobody uses changes that.
    No,
}

impl PruneReport {
    pub(super) fn new(
        mode: PruneMode,
        cutoff: Timestamp,
        threads: u64,
        runs: u64,
        sums: BTreeMap<Category, Surveyed>,
        file: Option<FileSpace>,
    ) -> Self {
        let categories: Vec<PrunedCategory> = sums
            .into_iter()
            .map(|(category, Surveyed { there, going })| PrunedCategory {
                category,
                before: there,
                removed: going,
                after: there.without(going),
            })
            .collect();
        Self {
            mode,
            cutoff,
            threads,
            runs,
            before: categories.iter().map(|it| it.before).sum(),
            removed: categories.iter().map(|it| it.removed).sum(),
            after: categories.iter().map(|it| it.after).sum(),
            categories,
            file,
        }
    }
}
