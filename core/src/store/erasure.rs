//! Threads that have served, and owners that are forgotten: the same for every backend.

use std::time::Duration;

use super::{ChildFilter, Contents, Erased, Erasure, Ledger, RunFilter, ThreadFilter, require_system_scope};
use crate::commit::Claim;
use crate::record::{Outcome, Run, RunStatus, ThreadLifecycle, ThreadStatus};
use crate::{Error, ErrorKind, ListRange, MAX_LIMIT, OwnerId, Result, RunId, Scope, ThreadId, Timestamp};

/// Why a run was ended whose owner is erased.
const ERASED: &str = "owner_erased";

/// How often the threads of an owner are looked for who still gets new ones.
const LOOKS: u32 = 8;

impl Ledger {
    /// Deletes ephemeral threads whose last run succeeded, `idle` ago or longer, at most `limit`; tells which.
    /// Those whose run failed or was interrupted stay. For the system only.
    ///
    /// Their runs that others pay for are settled before, and a thread stays while that cannot be done.
    /// [`Ledger::finish`] deletes such a thread at once; this is for those where it could not.
    pub async fn discard_spent(&self, scope: &Scope, idle: Duration, limit: u32) -> Result<Vec<ThreadId>> {
        let mut gone = Vec::new();
        for thread in self.threads().list_spent(scope, idle, limit).await? {
            match self.discard(scope, &thread).await {
                Ok(()) => gone.push(thread),
                // The others are not kept by one that runs again, has something at work below it, cannot be
                // charged, or was deleted by somebody faster.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::InvalidInput
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Deletes the thread of a run that succeeded if that was all it was for.
    pub(super) async fn discard_ephemeral(&self, scope: &Scope, run: &Run) {
        let Ok(thread) = self.threads().get(scope, &run.thread_id).await else { return };
        if thread.lifecycle == ThreadLifecycle::Ephemeral {
            // The end of the run is stored, which is what was asked for. What is left of the thread (another
            // run had been queued, say, or the ledger is away) a sweep takes.
            drop(self.discard(scope, &run.thread_id).await);
        }
    }

    /// Deletes a thread with all that goes with it, after whoever pays for their runs was charged: that can be told
    /// only while there is a run to read.
    async fn discard(&self, scope: &Scope, thread: &ThreadId) -> Result<()> {
        let filter = ChildFilter { contents: Contents::Omitted, ..ChildFilter::default() };
        let mut tree = vec![self.threads().get(scope, thread).await?];
        let mut seen = 0;
        while let Some(parent) = tree.get(seen).map(|thread| thread.thread_id.clone()) {
            seen += 1;
            let mut range = ListRange::newest(MAX_LIMIT);
            loop {
                let children = self.threads().list_children(scope, &parent, &filter, &range).await;
                let Some(page) = absent(children)? else { break };
                tree.extend(page.items);
                match page.next_cursor {
                    Some(next) => range.cursor = Some(next),
                    None => break,
                }
            }
        }
        // The deepest first: what a child was charged for is part of its own bill.
        for thread in tree.iter().rev() {
            self.settle_runs(scope, &thread.thread_id).await?;
        }
        self.threads().delete(scope, thread).await.map(drop)
    }

    /// Settles the runs of a thread that have ended and are paid for by another one that is still there.
    async fn settle_runs(&self, scope: &Scope, thread: &ThreadId) -> Result<()> {
        let filter = RunFilter {
            thread_id: Some(thread.clone()),
            contents: Contents::Omitted,
            ..RunFilter::default()
        };
        let mut range = ListRange::newest(MAX_LIMIT);
        loop {
            let page = self.runs().list(scope, &filter, &range).await?;
            for run in page.items.iter().filter(|run| run.payer_run_id.is_some() && run.status.is_terminal())
            {
                match self.settle_child(scope, thread, &run.run_id).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            match page.next_cursor {
                Some(next) => range.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Forgets an owner, as `erasure` says. For the system only: `InvalidInput` for an owner.
    ///
    /// - [`Erasure::Anonymise`] takes the owner's name off threads, runs, usage, interactions and agent runs;
    ///   what was said stays, and the system alone reads it.
    /// - [`Erasure::Delete`] deletes every thread of the owner, tree by tree, with its usage. Runs that are
    ///   active or queued are interrupted first.
    ///
    /// It is done in many transactions; after an error, or the end of the process, the next call goes on. Keep
    /// the owner out first: who still writes gets new threads, which are looked for a few times, and `Conflict`
    /// where there are always more.
    pub async fn erase_owner(
        &self,
        scope: &Scope,
        owner: &OwnerId,
        erasure: Erasure,
        at: Timestamp,
    ) -> Result<Erased> {
        require_system_scope(scope, "erases an owner")?;
        let mut erased = Erased::default();
        for _ in 0..LOOKS {
            let (roots, threads) = self.trees_of(owner).await?;
            if threads == 0 {
                add(&mut erased, self.threads().erase_remains(scope, owner, erasure).await?);
                return Ok(erased);
            }
            match erasure {
                Erasure::Anonymise => {
                    // Before the threads, which do not tell how much of it they had.
                    add(&mut erased, self.threads().erase_remains(scope, owner, erasure).await?);
                    for root in &roots {
                        absent(self.threads().set_owner(scope, root, None).await)?;
                    }
                    erased.threads += threads;
                }
                Erasure::Delete => {
                    self.end_runs_of(owner, at).await?;
                    for root in &roots {
                        if let Some(deleted) = absent(self.threads().delete(scope, root).await)? {
                            erased.threads += deleted.threads;
                            erased.agent_runs += deleted.agent_runs;
                        }
                    }
                }
            }
        }
        Err(Error::conflict("threads of the owner", "none", "new ones, again and again"))
    }

    /// The tops of the owner's trees, and how many threads there are in all.
    async fn trees_of(&self, owner: &OwnerId) -> Result<(Vec<ThreadId>, u64)> {
        let (mut roots, mut threads) = (Vec::new(), 0);
        let owned = Scope::Owner(owner.clone());
        let all = ThreadFilter { contents: Contents::Omitted, ..Default::default() };
        let mut range = ListRange::newest(MAX_LIMIT);
        loop {
            let page = self.threads().list(&owned, &all, &range).await?;
            for thread in page.items {
                threads += 1;
                let below = match &thread.parent_thread_id {
                    Some(parent) => absent(self.threads().head(&owned, parent).await)?.is_some(),
                    None => false,
                };
                if !below {
                    roots.push(thread.thread_id);
                }
            }
            match page.next_cursor {
                Some(next) => range.cursor = Some(next),
                None => return Ok((roots, threads)),
            }
        }
    }

    /// Ends what the owner's threads run and have queued.
    async fn end_runs_of(&self, owner: &OwnerId, at: Timestamp) -> Result<()> {
        let owned = Scope::Owner(owner.clone());
        let contents = Contents::Omitted;
        let busy = ThreadFilter { status: Some(ThreadStatus::Busy), contents, ..Default::default() };
        let mut range = ListRange::newest(MAX_LIMIT);
        loop {
            let page = self.threads().list(&owned, &busy, &range).await?;
            for thread in &page.items {
                // Those that wait first, or each would get the slot in its turn.
                for status in [RunStatus::Queued, RunStatus::Pending, RunStatus::Running] {
                    self.end_runs_on(&owned, &thread.thread_id, status, at).await?;
                }
            }
            match page.next_cursor {
                Some(next) => range.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn end_runs_on(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        status: RunStatus,
        at: Timestamp,
    ) -> Result<()> {
        let filter = RunFilter {
            thread_id: Some(thread.clone()),
            status: Some(status),
            contents: Contents::Omitted,
            ..RunFilter::default()
        };
        let mut range = ListRange::newest(MAX_LIMIT);
        loop {
            let Some(page) = absent(self.runs().list(scope, &filter, &range).await)? else { return Ok(()) };
            for run in &page.items {
                self.end_run(scope, thread, &run.run_id, run.epoch, at).await?;
            }
            match page.next_cursor {
                Some(next) => range.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn end_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        epoch: u64,
        at: Timestamp,
    ) -> Result<()> {
        let outcome = Outcome::interrupted(ERASED);
        absent(self.interrupt(scope, thread, run, Claim::Epoch(epoch), outcome, at).await).map(drop)
    }
}

fn add(erased: &mut Erased, more: Erased) {
    erased.threads += more.threads;
    erased.agent_runs += more.agent_runs;
    erased.usage += more.usage;
}

/// `None` where it is gone, or changed since it was seen: the next look tells.
fn absent<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
