//! One lane's work: groups, retries, answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use runledger_core::{
    AppendSignal, Applied, Error, Expected, Prepared, Receipt, Result, ThreadHead, ThreadId,
};
use tokio::sync::mpsc;

use super::connection::{Checkpoints, Opener};
use super::decide::{Decision, Facts, Writes, decide};
use super::file::FileWriter;
use super::lanes::Job;
use super::load::{self, Failure};
use super::statement::{Connection, joined};
use super::{hot, steps};
use crate::dialect::Dialect;
use crate::error_map::{self, Trouble};

/// A group takes no further commit beyond this many rows or bytes.
const GROUP_ROWS: usize = 2_000;
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// How often, and for how long, a group is tried that fails for a reason that may pass.
const TRIES: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// How long PostgreSQL lets a lane wait for a lock that somebody else holds: longer than it needs to find
/// a deadlock. The second is for threads that were waited for in vain.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(2);
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '2s'";
const BEGIN_HURRIED: &str = "BEGIN; SET LOCAL lock_timeout = '50ms'";

/// After this long without work a connection is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(1);

/// How many heads a lane remembers.
const HEADS: usize = 4_096;

/// How many groups a thread goes the locked way after its head turned out to be changed by others.
const WARY: u32 = 32;

/// How long a lane with a thread of its own stays awake for the next commit.
const LINGER: Duration = Duration::from_micros(50);

const OPERATION: &str = "the commit";

/// How long to wait before try number `tried` + 1; not the same for all that wait.
pub(crate) fn backoff(tried: u32) -> Duration {
    let spread = u64::from(runledger_core::Timestamp::now().unix_micros().unsigned_abs() as u32 % 1_000);
    Duration::from_micros((1_000 + spread) << tried.min(8))
}

/// Whether a failed write may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Committing,
}

/// Why a group was not stored.
enum Failed {
    Driver { error: Arc<sqlx::Error>, stage: Stage },
    Stored(Error),
}

impl Failed {
    fn before(error: sqlx::Error) -> Self {
        Self::Driver { error: Arc::new(error), stage: Stage::Before }
    }

    fn committing(error: sqlx::Error) -> Self {
        Self::Driver { error: Arc::new(error), stage: Stage::Committing }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Driver(error) => Self::before(error),
            Failure::Stored(error) => Self::Stored(error),
        }
    }
}

/// How patient the locked way is with locks that others hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Calm,
    /// For what was waited for before: the lane's other threads wait meanwhile.
    Hurried,
}

/// A thread whose rows somebody else had locked for longer than a lane waits.
struct Aside {
    /// Its commits, in the order they came. None where their time was up: the lock may still be held.
    jobs: Vec<Job>,
    since: Instant,
    tried: u32,
    due: Instant,
}

/// What became of a group on the locked way.
enum Outcome {
    /// Answered, but for those that have to be asked again.
    Done(Vec<Job>),
    Failed(Vec<Job>, Final),
    /// Somebody holds a lock of one of its threads.
    Held(Vec<Job>, Arc<sqlx::Error>),
}

/// A lane between its groups.
pub(super) struct Lane {
    opener: Opener,
    signal: AppendSignal,
    connection: Option<Connection>,
    file: FileWriter,
    used: Instant,
    heads: HashMap<ThreadId, ThreadHead>,
    wary: HashMap<ThreadId, u32>,
    aside: HashMap<ThreadId, Aside>,
    checkpoints: Checkpoints,
}

impl Lane {
    pub(super) fn new(opener: Opener, signal: AppendSignal) -> Self {
        Self {
            opener,
            signal,
            connection: None,
            file: FileWriter::default(),
            used: Instant::now(),
            heads: HashMap::new(),
            wary: HashMap::new(),
            aside: HashMap::new(),
            checkpoints: Checkpoints::default(),
        }
    }

    /// Works until the queue is closed and everything in it is answered.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut open = true;
        while open || self.aside.values().any(|aside| !aside.jobs.is_empty()) {
            self.linger(&queue);
            let next = async { if open { queue.recv().await } else { std::future::pending().await } };
            let first = match self.due() {
                Some(due) => tokio::time::timeout_at(due.into(), next).await,
                None => Ok(next.await),
            };
            let group = match first {
                Ok(Some(first)) => gather(first, &mut queue),
                Ok(None) => {
                    open = false;
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            // Whoever waits is told by the end of its channel; the lane goes on with a new connection.
            if AssertUnwindSafe(self.serve(group)).catch_unwind().await.is_err() {
                tracing::error!("a lane panicked; its callers were told that the outcome is unknown");
                self.forget();
            }
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
        self.checkpoints.finish();
    }

    /// Waits awake for a moment, where that holds up nobody: who appends one event after the other is back before a
    /// thread that sleeps is woken.
    fn linger(&self, queue: &mpsc::Receiver<Job>) {
        let began = Instant::now();
        while self.opener.has_a_thread() && queue.is_empty() && began.elapsed() < LINGER {
            std::thread::yield_now();
        }
    }

    /// When a thread that was put aside is to be tried again.
    fn due(&self) -> Option<Instant> {
        self.aside.values().filter(|aside| !aside.jobs.is_empty()).map(|aside| aside.due).min()
    }

    fn forget(&mut self) {
        self.connection = None;
        self.file = FileWriter::default();
        self.heads.clear();
    }

    async fn serve(&mut self, group: Vec<Job>) {
        let group = self.put_behind(group);
        let (plain, mut rest) = self.split(group);
        if !plain.is_empty() {
            let (left, held) = self.guarded(plain).await;
            rest.extend(left);
            rest.sort_by(|a, b| a.commit.thread_id.cmp(&b.commit.thread_id));
            for jobs in by_thread(held) {
                self.locked(jobs, Pace::Hurried).await;
            }
        }
        self.locked(rest, Pace::Calm).await;
        self.look_aside().await;
        if !self.opener.is_held() {
            self.connection = None;
        }
        self.used = Instant::now();
    }

    /// Commits of threads that were put aside wait behind those that wait there already.
    fn put_behind(&mut self, group: Vec<Job>) -> Vec<Job> {
        let mut left = Vec::with_capacity(group.len());
        for job in group {
            match self.aside.get_mut(&job.commit.thread_id) {
                Some(aside) => {
                    if aside.jobs.is_empty() {
                        *aside =
                            Aside { jobs: Vec::new(), since: Instant::now(), tried: 0, due: Instant::now() };
                    }
                    aside.jobs.push(job);
                }
                None => left.push(job),
            }
        }
        left
    }

    /// Tries those again that were put aside, where it is time.
    async fn look_aside(&mut self) {
        let now = Instant::now();
        self.aside.retain(|_, aside| !aside.jobs.is_empty() || now.duration_since(aside.due) < PATIENCE);
        let due: Vec<ThreadId> = self
            .aside
            .iter()
            .filter(|(_, aside)| aside.due <= now)
            .map(|(thread, _)| thread.clone())
            .collect();
        for thread in due {
            let jobs = self.aside.get_mut(&thread).map(|aside| std::mem::take(&mut aside.jobs));
            self.locked(jobs.unwrap_or_default(), Pace::Hurried).await;
        }
    }

    /// Keeps the commits of a thread that somebody else has locked, or answers them where that lasts too long.
    fn put_aside(&mut self, jobs: Vec<Job>, error: &Arc<sqlx::Error>) {
        let Some(thread) = jobs.first().map(|job| job.commit.thread_id.clone()) else { return };
        self.heads.remove(&thread);
        let now = Instant::now();
        let aside = self.aside.entry(thread).or_insert_with_key(|thread| {
            tracing::debug!(%thread, "somebody else has locked a thread; its commits wait, others do not");
            Aside { jobs: Vec::new(), since: now, tried: 0, due: now }
        });
        aside.tried += 1;
        aside.due = now + backoff(aside.tried);
        if aside.since.elapsed() <= PATIENCE {
            aside.jobs.extend(jobs);
            return;
        }
        for job in jobs {
            let applied = job.applied();
            job.answer(Err(error_map::map_shared(OPERATION, error, applied)));
        }
    }

    /// The commits whose threads' heads are remembered and that need to know nothing else, and the others.
    fn split(&mut self, group: Vec<Job>) -> (Vec<Job>, Vec<Job>) {
        let threads: BTreeSet<&ThreadId> = group.iter().map(|job| &job.commit.thread_id).collect();
        let mut locked = BTreeSet::new();
        for thread in threads {
            match self.wary.get_mut(thread) {
                Some(0) => drop(self.wary.remove(thread)),
                Some(left) => {
                    *left -= 1;
                    locked.insert(thread.clone());
                }
                None => {}
            }
        }
        for job in &group {
            let commit = &job.commit;
            if commit.transition.is_some()
                || commit.expected != Expected::Any
                || !commit.blob_uses.is_empty()
                || !self.heads.contains_key(&commit.thread_id)
            {
                locked.insert(commit.thread_id.clone());
            }
        }
        group.into_iter().partition(|job| !locked.contains(&job.commit.thread_id))
    }

    async fn connection(&mut self) -> Result<&mut Connection, sqlx::Error> {
        if let Some(connection) = &mut self.connection
            && self.used.elapsed() > IDLE
            && connection.ping().await.is_err()
        {
            self.forget();
        }
        self.used = Instant::now();
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(self.opener.open().await?)),
        }
    }

    /// Stores commits in one call that is guarded by the remembered heads; gives back those that
    /// have to go the locked way, and those of which one met a lock that was waited for in vain.
    async fn guarded(&mut self, jobs: Vec<Job>) -> (Vec<Job>, Vec<Job>) {
        let mut facts = Facts { assumed: true, ..Facts::default() };
        for job in &jobs {
            if let Some(head) = self.heads.get(&job.commit.thread_id) {
                facts.heads.insert(job.commit.thread_id.clone(), head.clone());
            }
        }
        let mut writes = Writes::default();
        let (mut stored, mut left, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match decide(&mut facts, &mut writes, &job.scope, &job.commit) {
                Decision::Stored(receipt) => stored.push((job, receipt)),
                Decision::Refused(_) | Decision::Later => left.push(job),
            }
        }
        if stored.is_empty() {
            return (left, held);
        }
        match self.write_guarded(&writes).await {
            Ok(true) => {
                fail_point!(GuardedDurable);
                self.stored(stored, facts.heads);
            }
            Ok(false) => left.extend(self.changed(stored)),
            Err(Failed::Driver { error, stage }) => match Trouble::of(&error) {
                trouble if trouble.hides_the_outcome() && stage == Stage::Committing => {
                    self.forget();
                    left.extend(lost(stored, &error));
                }
                Trouble::Lost | Trouble::Ended | Trouble::Unreachable => {
                    self.forget();
                    left.extend(stored.into_iter().map(|(job, _)| job));
                }
                Trouble::Held => held = self.changed(stored),
                Trouble::Broken | Trouble::Again | Trouble::Unable | Trouble::Other => {
                    left.extend(self.changed(stored));
                }
            },
            Err(Failed::Stored(_)) => left.extend(self.changed(stored)),
        }
        (left, held)
    }

    /// Says whether the guards held.
    async fn write_guarded(&mut self, writes: &Writes) -> Result<bool, Failed> {
        fail_point!(GuardedUnsent);
        let connection = match &self.opener {
            Opener::File(_, settings) => {
                return self
                    .file
                    .write(settings, &hot::sqlite(writes))
                    .map_err(Failed::committing)
                    .map(|()| true);
            }
            Opener::Memory(_) | Opener::Postgres(..) => self.connection().await.map_err(Failed::before)?,
        };
        match connection.dialect() {
            Dialect::Postgres => {
                let rows = connection.rows(hot::postgres(writes)).await.map_err(Failed::committing)?;
                Ok(rows.first().and_then(|row| row.int(0)) == Some(1))
            }
            Dialect::Sqlite => {
                let sql = joined("BEGIN IMMEDIATE; ", hot::sqlite(writes), "COMMIT");
                match connection.rows(sql).await {
                    Ok(_) => Ok(true),
                    Err(error) => {
                        self.roll_back(Trouble::of(&error)).await;
                        Err(Failed::committing(error))
                    }
                }
            }
        }
    }

    /// What was remembered of these threads is not so, or something of the commits is taken.
    fn changed(&mut self, jobs: Vec<(Job, Receipt)>) -> Vec<Job> {
        tracing::debug!(commits = jobs.len(), "what was remembered does not hold; the locked way is taken");
        for (job, _) in &jobs {
            self.heads.remove(&job.commit.thread_id);
            self.wary.insert(job.commit.thread_id.clone(), WARY);
        }
        jobs.into_iter().map(|(job, _)| job).collect()
    }

    /// Remembers the heads, tells the followers, answers the callers.
    fn stored(&mut self, jobs: Vec<(Job, Receipt)>, heads: HashMap<ThreadId, ThreadHead>) {
        let bytes = jobs.iter().map(|(job, _)| job.bytes).sum();
        if self.heads.len() + heads.len() > HEADS {
            self.heads.clear();
            self.wary.clear();
        }
        for (thread, head) in heads {
            self.signal.publish(&thread, head.next_seq.saturating_sub(1));
            self.heads.insert(thread, head);
        }
        for (job, receipt) in jobs {
            fail_point!(Unanswered);
            job.answer(Ok(receipt));
        }
        if self.checkpoints.wrote(&self.opener, bytes, self.file.log_pages()) {
            self.file.move_log();
        }
    }

    /// Ends whatever is open after a trouble. A connection that cannot even do that is given up; one
    /// that is of no more use is not asked.
    async fn roll_back(&mut self, after: Trouble) {
        if after.ends_the_connection() {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = connection.run("ROLLBACK").await
            && !matches!(Trouble::of(&error), Trouble::Other)
        {
            self.connection = None;
        }
    }

    /// Stores or refuses commits under the locks of their threads' heads, and answers each.
    async fn locked(&mut self, jobs: Vec<Job>, pace: Pace) {
        let mut groups = vec![(jobs, pace)];
        while let Some((group, pace)) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let alone = group.len() == 1;
            let threads: BTreeSet<ThreadId> = group.iter().map(|job| job.commit.thread_id.clone()).collect();
            let one_thread = threads.len() == 1;
            match self.locked_group(group, pace).await {
                Outcome::Done(later) => {
                    // Their locks were to be had.
                    self.aside.retain(|thread, aside| !aside.jobs.is_empty() || !threads.contains(thread));
                    groups.push((later, pace));
                }
                Outcome::Failed(jobs, error) => match jobs.into_iter().rev().map(|job| vec![job]) {
                    // One of them must not fail the others.
                    each if !alone => groups.extend(each.map(|job| (job, pace))),
                    each => {
                        if let Some(job) = each.flatten().next() {
                            let applied = job.applied();
                            job.answer(Err(error.error(applied)));
                        }
                    }
                },
                Outcome::Held(jobs, error) if one_thread => self.put_aside(jobs, &error),
                // One of them must not hold up the others.
                Outcome::Held(jobs, _) => {
                    groups.extend(by_thread(jobs).into_iter().rev().map(|jobs| (jobs, Pace::Hurried)));
                }
            }
        }
    }

    /// Stores a group and answers it, or gives all of it back with what failed.
    async fn locked_group(&mut self, mut jobs: Vec<Job>, pace: Pace) -> Outcome {
        let began = Instant::now();
        let mut tried = 1;
        loop {
            let failed = match self.try_locked(&jobs, pace).await {
                Ok((decisions, heads)) => return Outcome::Done(self.answer(jobs, decisions, heads)),
                Err(failed) => failed,
            };
            let (error, stage) = match failed {
                Failed::Stored(error) => {
                    self.roll_back(Trouble::Other).await;
                    return Outcome::Failed(jobs, Final::Stored(error));
                }
                Failed::Driver { error, stage } => (error, stage),
            };
            let trouble = Trouble::of(&error);
            self.roll_back(trouble).await;
            match trouble {
                // A thread that is not there cannot be locked: somebody else made it meanwhile.
                Trouble::Broken
                    if tried < TRIES && jobs.iter().any(|job| job.commit.create_missing.is_some()) => {}
                Trouble::Broken | Trouble::Unable | Trouble::Other => {
                    return Outcome::Failed(jobs, Final::Driver(error));
                }
                Trouble::Held => return Outcome::Held(jobs, error),
                trouble if trouble.hides_the_outcome() && stage == Stage::Committing => {
                    self.forget();
                    jobs = lost(jobs.into_iter().map(|job| (job, ())).collect(), &error);
                }
                Trouble::Lost | Trouble::Ended | Trouble::Unreachable => self.forget(),
                Trouble::Again => {}
            }
            if jobs.is_empty() {
                return Outcome::Done(Vec::new());
            }
            if tried >= TRIES || began.elapsed() > PATIENCE {
                for job in jobs {
                    let applied = job.applied();
                    job.answer(Err(error_map::map_shared(OPERATION, &error, applied)));
                }
                return Outcome::Done(Vec::new());
            }
            tokio::time::sleep(backoff(tried)).await;
            tried += 1;
        }
    }

    async fn try_locked(
        &mut self,
        jobs: &[Job],
        pace: Pace,
    ) -> Result<(Vec<Decision>, HashMap<ThreadId, ThreadHead>), Failed> {
        let connection = self.connection().await.map_err(Failed::before)?;
        let dialect = connection.dialect();
        let begin = match (dialect, pace) {
            (Dialect::Sqlite, _) => "BEGIN IMMEDIATE",
            (Dialect::Postgres, Pace::Calm) => BEGIN,
            (Dialect::Postgres, Pace::Hurried) => BEGIN_HURRIED,
        };
        connection.run(begin).await.map_err(Failed::before)?;
        fail_point!(LockedBegun);
        let commits: Vec<&Prepared> = jobs.iter().map(|job| job.commit.as_ref()).collect();
        let mut facts = load::load(connection, &commits).await?;
        fail_point!(LockedLoaded);
        let mut writes = Writes::default();
        let decisions =
            jobs.iter().map(|job| decide(&mut facts, &mut writes, &job.scope, &job.commit)).collect();
        if writes.is_empty() {
            connection.run("ROLLBACK").await.map_err(Failed::before)?;
            return Ok((decisions, HashMap::new()));
        }
        for statement in steps::statements(dialect, &writes) {
            connection.rows(statement).await.map_err(Failed::before)?;
        }
        #[cfg(feature = "failpoints")]
        steps::written(&writes);
        match dialect {
            Dialect::Postgres => {
                let rows = connection.rows(hot::postgres(&writes)).await.map_err(Failed::before)?;
                if rows.first().and_then(|row| row.int(0)) != Some(1) {
                    return Err(Failed::Stored(Error::corrupt("head", "changed under its lock")));
                }
                fail_point!(LockedUncommitted);
                connection.run("COMMIT").await.map_err(Failed::committing)?;
            }
            Dialect::Sqlite => {
                fail_point!(LockedUncommitted);
                let sql = joined("", hot::sqlite(&writes), "COMMIT");
                connection.rows(sql).await.map_err(Failed::committing)?;
            }
        }
        fail_point!(LockedDurable);
        Ok((decisions, facts.heads))
    }

    /// Answers what was decided; gives back what has to be asked again.
    fn answer(
        &mut self,
        jobs: Vec<Job>,
        decisions: Vec<Decision>,
        heads: HashMap<ThreadId, ThreadHead>,
    ) -> Vec<Job> {
        let (mut done, mut later) = (Vec::new(), Vec::new());
        let alone = jobs.len() == 1;
        for (job, decision) in jobs.into_iter().zip(decisions) {
            match decision {
                Decision::Stored(receipt) => done.push((job, receipt)),
                Decision::Refused(error) => job.answer(Err(error)),
                // Alone there is nothing it could repeat: what it asks for is not there.
                Decision::Later if alone => {
                    job.answer(Err(Error::conflict("journal event", "a stored event", "none")));
                }
                Decision::Later => later.push(job),
            }
        }
        self.stored(done, heads);
        later
    }
}

/// What a group failed with for good.
enum Final {
    Driver(Arc<sqlx::Error>),
    Stored(Error),
}

impl Final {
    fn error(self, applied: Applied) -> Error {
        match self {
            Self::Driver(error) => error_map::map_shared(OPERATION, &error, applied),
            Self::Stored(error) => error,
        }
    }
}

/// Commits whose fate is unknown: those with a mark can be sent again, the others are told.
fn lost<T>(jobs: Vec<(Job, T)>, error: &Arc<sqlx::Error>) -> Vec<Job> {
    let mut again = Vec::new();
    for (mut job, _) in jobs {
        if job.commit.mark.is_some() {
            job.unsure = true;
            again.push(job);
        } else {
            job.answer(Err(error_map::map_shared(OPERATION, error, Applied::Unknown)));
        }
    }
    again
}

/// The commits of each thread, in the order they came.
fn by_thread(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut threads: BTreeMap<ThreadId, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        threads.entry(job.commit.thread_id.clone()).or_default().push(job);
    }
    threads.into_values().collect()
}

/// Takes what waits, in the order of the threads; within a thread in the order it came.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let rows_of = |job: &Job| (job.commit.events.len() + job.commit.usage.len()).max(1);
    let (mut rows, mut bytes) = (rows_of(&first), first.bytes);
    let mut group = vec![first];
    while rows < GROUP_ROWS && bytes < GROUP_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        rows += rows_of(&next);
        bytes = bytes.saturating_add(next.bytes);
        group.push(next);
    }
    group.sort_by(|a, b| a.commit.thread_id.cmp(&b.commit.thread_id));
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Connecting};
    use pretty_assertions::assert_eq;
    use runledger_core::{Category, Commit, EventDraft, EventType, Limits, NewThread, RawJson, Scope};
    use tokio::sync::{Semaphore, oneshot};

    fn job(commit: Commit) -> (Job, oneshot::Receiver<Result<Receipt>>) {
        let (reply, answer) = oneshot::channel();
        let room = Arc::new(Semaphore::new(1)).try_acquire_many_owned(1).unwrap();
        let commit = Arc::new(commit.prepare(&Limits::default()).unwrap());
        (Job { scope: Scope::System, commit, bytes: 0, unsure: false, reply, room }, answer)
    }

    fn commit(thread: &str) -> Commit {
        let event = EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::null());
        Commit::new(ThreadId::new(thread).unwrap()).with_events(vec![event])
    }

    #[tokio::test]
    async fn remembered_heads_are_enough_for_plain_commits_until_somebody_else_writes() {
        let connecting = Connecting::open(Config::new("sqlite::memory:")).await.unwrap();
        runledger_migration::up_on(connecting.database(), &Default::default()).await.unwrap();
        two_lanes(&connecting.opener).await;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
        runledger_migration::up(&url, &Default::default()).await.unwrap();
        two_lanes(&Connecting::open(Config::new(url)).await.unwrap().opener).await;
    }

    async fn two_lanes(opener: &Opener) {
        let lane = || Lane::new(opener.clone(), AppendSignal::default());
        let (mut one, mut two) = (lane(), lane());
        for thread in ["a", "b"] {
            let new = NewThread::new(ThreadId::new(thread).unwrap());
            let (job, answer) = job(Commit { create_missing: Some(new), ..commit(thread) });
            one.serve(vec![job]).await;
            assert_eq!(answer.await.unwrap().unwrap().seqs, [1]);
        }
        // Two threads in one guarded call.
        let (jobs, answers): (Vec<_>, Vec<_>) =
            ["a", "b"].map(|thread| job(commit(thread))).into_iter().unzip();
        assert_eq!(one.guarded(jobs).await.0.len(), 0);
        for answer in answers {
            assert_eq!(answer.await.unwrap().unwrap().seqs, [2]);
        }
        one.connection = None;
        let (other, answer) = job(commit("b"));
        two.serve(vec![other]).await;
        assert_eq!(answer.await.unwrap().unwrap().seqs, [3]);
        // One head has changed: nothing of the call is stored, and both go the locked way.
        let (jobs, answers): (Vec<_>, Vec<_>) =
            ["a", "b"].map(|thread| job(commit(thread))).into_iter().unzip();
        let (left, _) = one.guarded(jobs).await;
        assert_eq!(left.len(), 2);
        one.locked(left, Pace::Calm).await;
        let mut seqs = Vec::new();
        for answer in answers {
            seqs.extend(answer.await.unwrap().unwrap().seqs);
        }
        assert_eq!(seqs, [3, 4]);
    }
}
