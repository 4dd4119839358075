//! Retention: removing the events of runs that ended long ago, and giving their space back.
//!
//! Runs are the unit. An event goes if its run has ended before the cutoff, has no open item and is not among
//! the newest that are kept; an event of no run goes by its own time. What people count and pay by stays: run
//! rows, threads, usage records, compactions and the events that are their notes. A run keeps its `first_seq`
//! and `last_seq` (where its log was), its totals and its two summaries; `message_count`, its own and the thread's, is
//! what is left. Numbers are never given again, and `deletions` says which went and why.
//!
//! An item is gone from the index with the event that completed it. One that lost its start alone begins with
//! what is left of it, at the time it began. One that lost its completion alone leaves its start in the log.
//!
//! A SQLite file is made smaller at the end: what is left on pages that hold little is written anew, in steps, and free
//! pages are given back. PostgreSQL reuses the room of what its autovacuum found, and keeps its files.
//!
//! It is done in batches, each a short transaction under the lock of one thread's head row that leaves
//! everything consistent: who is ended half-way goes on the next time, and appends go on meanwhile. A once key and an
//! ordinal of an event that is gone are not known any more, so a writer that repeats itself after that long is not
//! answered with what it wrote: a repeated batch is `Conflict`, a record with a once key is stored anew.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use runledger_core::{Category, Scope};
//! use runledger_persistence::retention::PrunePolicy;
//! use runledger_persistence::{Config, connect};
//!
//! # async fn example() -> runledger_core::Result<()> {
//! let ledger = connect(Config::new("sqlite://runledger.db")).await?;
//! let month = Duration::from_secs(30 * 86_400);
//! let policy = PrunePolicy { categories: vec![Category::Trace], ..PrunePolicy::new(month) };
//! let report = ledger.prune(&Scope::System, &policy, |_| ()).await?;
//! assert_eq!(report.before.events, report.removed.events + report.after.events);
//! # Ok(())
//! # }
//! ```

mod policy;
mod report;
pub(crate) mod space;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use runledger_core::{Category, Error, Result, Scope, ThreadId};

pub use policy::{PruneMode, PrunePolicy};
pub use report::{FileSpace, PruneProgress, PruneReport, PrunedCategory, Shrinks, Volume};

use crate::SqlLedger;
use crate::connect::Database;
use crate::dialect::Dialect;
use crate::sql::prune::{self, Applied, Surveyed};
use crate::sql::walk::Walk;

/// The longest that other writers of a SQLite file are left alone between two batches.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl SqlLedger {
    /// Removes old events, or says what would go, and gives the space of a SQLite file back. PostgreSQL's
    /// autovacuum frees the space for reuse by itself.
    ///
    /// `progress` is called after each batch and each thread. What is before and after is told by each thread's
    /// log as it was when its turn came; what is appended meanwhile is in neither.
    ///
    /// `InvalidInput` for an owner's scope and for a policy that cannot be. After any error what was removed until
    /// then stays removed, and the next call goes on.
    pub async fn prune(
        &self,
        scope: &Scope,
        policy: &PrunePolicy,
        mut progress: impl FnMut(&PruneProgress) + Send,
    ) -> Result<PruneReport> {
        if scope.owner().is_some() {
            return Err(Error::invalid("scope", "is an owner's; only the system prunes"));
        }
        policy.check()?;
        let database = &*self.database;
        let cutoff = prune::cutoff(database, policy.older_than).await?;
        let file_before = space::file_bytes(database).await?;
        let mut pruning = Pruning {
            database,
            applied: Applied { policy: policy.clone(), cutoff },
            progress: PruneProgress {
                threads: Walk::Alive.count(database).await?,
                ..PruneProgress::default()
            },
            tell: &mut progress,
            sums: BTreeMap::new(),
            threads: 0,
            runs: 0,
        };
        pruning.all().await?;
        let file = match (file_before, policy.mode) {
            (None, _) => None,
            (Some(bytes_before), PruneMode::DryRun) => {
                let shrinks = space::shrinks(database).await?;
                Some(FileSpace { bytes_before, bytes_after: None, shrinks })
            }
            (Some(bytes_before), PruneMode::Remove) => {
                let shrinks = space::give_back(database).await?;
                let bytes_after = space::file_bytes(database).await?;
                Some(FileSpace { bytes_before, bytes_after, shrinks })
            }
        };
        Ok(PruneReport::new(policy.mode, cutoff.into(), pruning.threads, pruning.runs, pruning.sums, file))
    }
}

/// Lets other writers of a SQLite file in: they ask for its one lock again and again, and would rarely find it free.
async fn pause(database: &Database, began: Instant) {
    if database.dialect == Dialect::Sqlite {
        tokio::time::sleep(began.elapsed().min(LONGEST_PAUSE)).await;
    }
}

/// One call, half-way.
struct Pruning<'a> {
    database: &'a Database,
    applied: Applied,
    progress: PruneProgress,
    tell: &'a mut (dyn FnMut(&PruneProgress) + Send),
    /// What was there and what went, by category.
    sums: BTreeMap<Category, Surveyed>,
    threads: u64,
    runs: u64,
}

impl Pruning<'_> {
    async fn all(&mut self) -> Result<()> {
        let mut after: Option<ThreadId> = None;
        loop {
            let page = Walk::Alive.after(self.database, after.as_ref()).await?;
            for thread in &page {
                self.thread(thread).await?;
                self.progress.threads_done += 1;
                (self.tell)(&self.progress);
            }
            let Some(last) = page.into_iter().next_back() else { return Ok(()) };
            after = Some(last);
        }
    }

    async fn thread(&mut self, thread: &ThreadId) -> Result<()> {
        let surveyed = prune::survey(self.database, &self.applied, thread).await?;
        let going = surveyed.values().any(|of_category| of_category.going.events > 0);
        for (category, of_category) in surveyed {
            let sum = self.sums.entry(category).or_default();
            sum.there += of_category.there;
            if self.applied.policy.mode == PruneMode::DryRun {
                self.progress.removed += of_category.going;
                sum.going += of_category.going;
            }
        }
        if going {
            match self.applied.policy.mode {
                PruneMode::DryRun => {
                    self.threads += 1;
                    self.runs += prune::runs_going(self.database, &self.applied, thread).await?;
                }
                PruneMode::Remove => self.remove(thread).await?,
            }
        }
        Ok(())
    }

    async fn remove(&mut self, thread: &ThreadId) -> Result<()> {
        let mut runs = HashSet::new();
        let mut from = 0;
        let mut touched = false;
        while let Some(span) = prune::next_batch(self.database, &self.applied, thread, from).await? {
            from = span.1.saturating_add(1);
            let began = Instant::now();
            for removed in prune::remove(self.database, &self.applied, thread, span).await? {
                touched = true;
                self.sums.entry(removed.category).or_default().going += removed.volume;
                self.progress.removed += removed.volume;
                runs.extend(removed.run);
            }
            (self.tell)(&self.progress);
            pause(self.database, began).await;
        }
        self.threads += u64::from(touched);
        self.runs += runs.len() as u64;
        Ok(())
    }
}
