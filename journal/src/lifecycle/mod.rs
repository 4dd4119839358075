//! The life of runs in a process that executes them.
//!
//! A [`RunManager`] is one per process. It admits runs under a lease, renews the leases of all of
//! them in one statement, tells a run's cancel token when it is asked to stop or was taken away,
//! and ends the runs of processes that are gone. What it does is safe without it: the ledger
//! refuses whatever is written under an epoch that has passed. The manager is how a runtime learns
//! of it in time.
//!
//! It holds something of a run only while the run goes on, and one thread never waits for another.

mod held;
mod keeper;
mod managed;
mod queued;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runledger_core::commit::check_ttl;
use runledger_core::{
    CancelAction, Cancellation, Claim, Claimable, Claimed, Error, ErrorKind, Ledger, MAX_LIMIT, NewLease,
    NewRun, Outcome, Result, Run, RunId, RunStatus, Scope, Sweep, ThreadId, Timestamp, WorkerId,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::run_journal::{Overflow, RunJournal, Settings, make_folder};
use crate::spool::{self, Recovery, RecoveryReport};
use held::{Held, Registry};

pub use held::StopReason;
pub use managed::ManagedRun;
pub use queued::QueuedRun;

/// The stop reason of a run that was not done when its process ended.
const SHUTDOWN: &str = "shutdown";

/// What is called with a run that a sweep ended.
pub type OnClaimed = Arc<dyn Fn(&Claimed) + Send + Sync>;

/// What a sweep does with a run whose worker is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExpired {
    /// It ends the run as interrupted, with what it has open.
    #[default]
    End,
    /// It leaves the run to whoever [resumes](RunManager::resume) it; until then its thread is taken. A run that
    /// was asked to stop is ended all the same.
    Leave,
}

/// How a [`RunManager`] works.
#[derive(Clone)]
pub struct ManagerSettings {
    /// This process among those that work on the ledger: new at each start, never used twice.
    pub worker_id: WorkerId,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// The time between two heartbeats; at most half of `lease`.
    pub heartbeat: Duration,
    /// How much longer than its lease a run of another process is left alone. After that it is left alone
    /// for as many heartbeats as a lease has, counted where the ledger answers them: the other
    /// process, with the same settings, could have renewed it as well.
    pub grace: Duration,
    /// The time between two looks for runs of processes that are gone.
    pub sweep_every: Duration,
    /// See [`Sweep::unleased`]. Zero is right for the only process that works on a ledger and takes over at its
    /// start what an earlier one left without leases; all others are waited for.
    pub unleased: Option<Duration>,
    /// What becomes of runs whose workers are gone. All processes of a ledger say the same: one that ends them
    /// leaves nothing to resume.
    pub on_expired: OnExpired,
    /// A run whose lease could not be renewed for so long is told to stop, though nobody took it: the
    /// process may be cut off. `None` goes on until the ledger says that the run was taken away,
    /// which no write of it survives.
    pub stop_after_silence: Option<Duration>,
    /// The longest time between two looks of a queued run at its place.
    pub poll: Duration,
    /// How runs are journaled. The cancel token is the manager's.
    pub journal: Settings,
    /// Called with each run that a sweep of this process ended: its pending tool calls are listed. A
    /// panic of it is logged.
    pub on_claimed: Option<OnClaimed>,
}

impl Default for ManagerSettings {
    /// Leases of 30 seconds, a heartbeat every 10, a sweep every 30 with 10 seconds' grace; runs
    /// without a lease are left alone.
    fn default() -> Self {
        Self {
            worker_id: WorkerId::generate(),
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            sweep_every: Duration::from_secs(30),
            unleased: None,
            on_expired: OnExpired::End,
            stop_after_silence: None,
            poll: Duration::from_secs(1),
            journal: Settings::default(),
            on_claimed: None,
        }
    }
}

impl fmt::Debug for ManagerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerSettings")
            .field("worker_id", &self.worker_id)
            .field("lease", &self.lease)
            .field("heartbeat", &self.heartbeat)
            .field("grace", &self.grace)
            .field("sweep_every", &self.sweep_every)
            .field("unleased", &self.unleased)
            .field("on_expired", &self.on_expired)
            .field("stop_after_silence", &self.stop_after_silence)
            .field("poll", &self.poll)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

impl ManagerSettings {
    fn check(&self) -> Result<()> {
        if check_ttl(self.lease).is_err() {
            let reason = format!("is {:?}; give from 1 microsecond to 24 hours", self.lease);
            return Err(Error::invalid("lease", reason));
        }
        if self.heartbeat.is_zero() || self.heartbeat.saturating_mul(2) > self.lease {
            let reason =
                format!("is {:?}; give more than nothing and at most half of the lease", self.heartbeat);
            return Err(Error::invalid("heartbeat", reason));
        }
        for (field, duration) in [("sweep_every", self.sweep_every), ("poll", self.poll)] {
            if duration.is_zero() {
                return Err(Error::invalid(field, "is zero; give a time to wait between two looks"));
            }
        }
        Ok(())
    }

    fn new_lease(&self) -> NewLease {
        NewLease { worker_id: self.worker_id.clone(), ttl: self.lease }
    }

    fn sweep(&self) -> Sweep {
        Sweep { grace: self.grace, unleased: self.unleased }
    }

    /// How many heartbeats a lease has.
    fn beats(&self) -> u64 {
        let beats = self.lease.as_nanos().div_ceil(self.heartbeat.as_nanos().max(1));
        u64::try_from(beats).unwrap_or(u64::MAX)
    }

    fn spool_folder(&self) -> Option<PathBuf> {
        match &self.journal.overflow {
            Overflow::Spool(spool) => Some(spool.folder.clone()),
            Overflow::Memory => None,
        }
    }
}

/// What a start found of processes that are gone.
#[derive(Debug)]
pub struct Takeover {
    /// What became of the spool files they left in the folder; `None` where no spool is set.
    pub recovered: Option<RecoveryReport>,
    /// The runs that were ended at once, with their pending tool calls. Those whose leases have ended
    /// are given time to be renewed; [`ManagerSettings::on_claimed`] tells of them.
    pub claimed: Vec<Claimed>,
}

/// The answer of [`RunManager::admit`].
#[derive(Debug)]
pub enum Admission {
    /// The run has the slot, and this process holds it.
    Active(ManagedRun),
    /// The run waits for those before it.
    Queued(QueuedRun),
    /// The idempotency key stands for this run; nothing was written.
    Existing(Box<Run>),
}

/// Executes runs of any thread and owner. Cheap to clone; the last clone, of its runs' included, ends its tasks.
#[derive(Clone, Debug)]
pub struct RunManager {
    shared: Arc<Shared>,
    /// Cancelled when the last of these goes.
    #[expect(dead_code, reason = "held for what its drop does")]
    life: Arc<tokio_util::sync::DropGuard>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    ledger: Ledger,
    settings: ManagerSettings,
    registry: Registry,
    runtime: tokio::runtime::Handle,
    closing: CancellationToken,
}

impl RunManager {
    /// Stores what earlier processes left in the spool, ends the runs of those that are gone, and
    /// starts to renew and to sweep. Must be called in a tokio runtime.
    ///
    /// Any number of processes may start at once.
    pub async fn start(ledger: Ledger, settings: ManagerSettings) -> Result<(Self, Takeover)> {
        settings.check()?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("runtime", "is missing; start a manager inside a tokio runtime"))?;
        make_folder(&settings.journal).await?;
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            ledger,
            settings,
            registry: Registry::default(),
            runtime,
            closing: closing.clone(),
        });
        let recovered = shared.recover().await?;
        let claimed = shared.sweep().await?;
        shared.runtime.spawn(keeper::renew(Arc::clone(&shared)));
        shared.runtime.spawn(keeper::sweep(Arc::clone(&shared)));
        let life = Arc::new(closing.drop_guard());
        Ok((Self { shared, life }, Takeover { recovered, claimed }))
    }

    /// The ledger it works on.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Whose leases this process takes.
    #[must_use]
    pub fn worker_id(&self) -> &WorkerId {
        &self.shared.settings.worker_id
    }

    /// How many runs this process holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.registry.len()
    }

    /// Admits a run under a lease of this process.
    ///
    /// What a taken slot means is the admission's strategy. A run of this process that is replaced
    /// is told at once. Given up, the admission goes on, and a run that nobody receives is ended as
    /// interrupted, `abandoned`.
    pub async fn admit(&self, scope: &Scope, new: NewRun) -> Result<Admission> {
        let (manager, scope) = (self.clone(), scope.clone());
        self.undisturbed(async move { manager.admit_now(scope, new).await }).await
    }

    async fn admit_now(self, scope: Scope, mut new: NewRun) -> Result<Admission> {
        make_folder(&self.shared.settings.journal).await?;
        new.admission.lease = Some(self.shared.settings.new_lease());
        if new.admission.first_human_message.is_none() {
            new.admission.first_human_message = crate::run_journal::first_said(&new.input);
        }
        let input = new.input.clone();
        // From before the commit: a heartbeat may see the lease before this task does.
        let expected = self.shared.registry.expect(&new.thread_id, &new.run_id);
        let admitted = self.shared.ledger.admit(&scope, new).await?;
        let run = admitted.run;
        match (admitted.created, &run.status) {
            (false, _) => Ok(Admission::Existing(Box::new(run))),
            (true, RunStatus::Queued) => {
                Ok(Admission::Queued(QueuedRun::new(self, scope, run, input, expected)))
            }
            (true, _) => Ok(Admission::Active(self.hold(&scope, run, &input)?)),
        }
    }

    /// Takes a run that was admitted without a lease and has not started, such as one that another
    /// process queued. `input` is what it was admitted with. `Conflict` where somebody holds it.
    pub async fn acquire(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        input: Vec<runledger_core::EventDraft>,
    ) -> Result<ManagedRun> {
        let (manager, scope, thread, run) = (self.clone(), scope.clone(), thread.clone(), run.clone());
        self.undisturbed(async move {
            let _expected = manager.shared.registry.expect(&thread, &run);
            make_folder(&manager.shared.settings.journal).await?;
            let lease = manager.shared.settings.new_lease();
            let run = manager.shared.ledger.acquire(&scope, &thread, &run, lease, Timestamp::now()).await?;
            manager.hold(&scope, run, &input)
        })
        .await
    }

    /// Goes on with a run whose worker is gone: it gets a new epoch and a lease of this process, and what it has
    /// open stays open. What that worker left in the spool of this process is stored first.
    ///
    /// `Conflict` where its lease has not ended for as long as [`ManagerSettings::grace`], or it has none and
    /// [`ManagerSettings::unleased`] does not say after what silence it may be taken; where another process
    /// resumed it first; and where it has ended. Of several that resume one gets it.
    /// [`Error::Cancelled`] where it was asked to stop: the next sweep ends it.
    ///
    /// An outage after the run changed hands is waited for, as long as [`Settings::give_up_after`] and the run's
    /// cancel token let a journal wait. Where the run could not be opened after all it is not ended: it may be
    /// resumed again here at once, and once this process has let go of it, with its next heartbeats, anywhere.
    pub async fn resume(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<ManagedRun> {
        let (manager, scope, thread, run) = (self.clone(), scope.clone(), thread.clone(), run.clone());
        self.undisturbed(async move { manager.resume_now(&scope, &thread, &run).await }).await
    }

    async fn resume_now(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<ManagedRun> {
        let shared = &self.shared;
        let Some(_expected) = shared.registry.expect_alone(thread, run) else {
            return Err(Error::conflict("run", "resumed by nobody", "resumed by this process just now"));
        };
        make_folder(&shared.settings.journal).await?;
        shared.recover().await?;
        if shared.registry.is_spooled(thread, run) {
            let found = "a file that another process has, or that could not be stored yet";
            return Err(Error::conflict("spool", "nothing of the run", found));
        }
        let claim = shared.claim_of(scope, thread, run).await?;
        let lease = shared.settings.new_lease();
        let at = Timestamp::now();
        // From here on it may be this process's though no answer says so.
        shared.registry.begin_resume(thread, run);
        let resumed = match shared.ledger.resume_run(scope, thread, run, claim, Some(lease), at).await {
            Ok(resumed) => resumed,
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                shared.resumed(scope, thread, run, error).await?
            }
            Err(error) => {
                shared.registry.end_resume(thread, run);
                return Err(error);
            }
        };
        let held = Arc::new(Held::new(&resumed));
        // Before the log is read, so that a request to stop and the loss of the lease end the reading, too.
        shared.registry.insert(&held);
        match shared.open_resumed(scope, resumed, &held).await {
            Ok(journal) => {
                shared.registry.end_resume(thread, run);
                Ok(ManagedRun::new(self.clone(), held, journal))
            }
            Err(error) => {
                // Again, because it may have taken longer than what was said before is kept.
                shared.registry.begin_resume(thread, run);
                shared.registry.remove(&held);
                Err(error)
            }
        }
    }

    /// The runs that may be resumed: those whose workers were gone in every look for as long as a sweep waits
    /// before it ends a run. With [`OnExpired::End`] the next sweep ends them.
    pub async fn resumable(&self) -> Result<Vec<Claimable>> {
        self.shared.absent().await
    }

    /// Runs something to its end though whoever asked for it gives up.
    async fn undisturbed<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.runtime.spawn(async move {
            // Where nobody receives it, what was made is dropped, and so ended.
            let _ = reply.send(work.await);
        });
        answer.await.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                applied: runledger_core::Applied::Unknown,
                source: "the manager's runtime is gone".into(),
            })
        })
    }

    /// Opens the journal of a run that this process has a lease of.
    fn hold(&self, scope: &Scope, run: Run, input: &[runledger_core::EventDraft]) -> Result<ManagedRun> {
        let held = Arc::new(Held::new(&run));
        let settings = Settings { cancel: Some(held.token.clone()), ..self.shared.settings.journal.clone() };
        let journal = RunJournal::of_admitted(&self.shared.ledger, scope, run, input, settings)?;
        self.shared.registry.insert(&held);
        Ok(ManagedRun::new(self.clone(), held, journal))
    }

    /// Asks a run to stop, wherever it is executed: see [`Ledger::cancel`]. A run of this process is
    /// told at once, one of another process with its next heartbeat.
    pub async fn cancel(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        action: CancelAction,
    ) -> Result<Cancellation> {
        let cancelled = self.shared.ledger.cancel(scope, thread, run, action, Timestamp::now()).await?;
        if let Some(held) = self.shared.registry.get(thread, run) {
            match &cancelled {
                Cancellation::Requested(lease) => held.stop(StopReason::of(lease.cancel_action.clone())),
                Cancellation::Ended(_) | Cancellation::AlreadyEnded(_) => held.stop(StopReason::LeaseLost),
            }
        }
        Ok(cancelled)
    }

    /// Ends the runs of processes that are gone, as far as every look saw so for long enough (see
    /// [`ManagerSettings::grace`]). It is done at the start and every [`ManagerSettings::sweep_every`].
    pub async fn sweep(&self) -> Result<Vec<Claimed>> {
        self.shared.sweep().await
    }

    /// Tells every run of this process to stop, waits for them to end, and ends those that have not
    /// within `patience` as interrupted, `shutdown`. Returns how many those were. A run whose end waits in
    /// the spool is left to the recovery that stores it.
    pub async fn shutdown(self, patience: Duration) -> usize {
        let registry = &self.shared.registry;
        registry.stop_all();
        let emptied = async {
            loop {
                if let Err(error) = self.shared.recover().await {
                    tracing::warn!(%error, "the spool could not be recovered; it is tried again");
                }
                if timeout(self.shared.settings.heartbeat, registry.emptied()).await.is_ok() {
                    return;
                }
            }
        };
        let _ = timeout(patience, emptied).await;
        let mut left = registry.all();
        left.retain(|held| held.file().is_none());
        for held in &left {
            let (thread, run) = (&held.thread_id, &held.run_id);
            let outcome = Outcome::interrupted(SHUTDOWN);
            let claim = Claim::Epoch(held.epoch);
            let ended =
                self.shared.ledger.interrupt(&Scope::System, thread, run, claim, outcome, Timestamp::now());
            if let Err(error) = ended.await
                && error.kind() != ErrorKind::Conflict
            {
                tracing::warn!(%thread, %run, %error, "a run could not be ended; its lease will end it");
            }
            registry.remove(held);
        }
        left.len()
    }
}

impl Shared {
    /// Stores what is left in spool files: of processes that are gone, and of journals of this one that
    /// were closed while the ledger was away. It goes before a sweep: what could not be written
    /// belongs to its runs while they are still theirs.
    async fn recover(&self) -> Result<Option<RecoveryReport>> {
        let Some(folder) = self.settings.spool_folder() else { return Ok(None) };
        let patience = self.settings.heartbeat;
        let recovered = spool::recover(&self.ledger, &Scope::System, &folder, patience).await?;
        let waiting =
            recovered.files.iter().filter(|file| matches!(file.recovery, Recovery::Held | Recovery::Left));
        self.registry.see_spooled(
            waiting.filter_map(|file| Some((file.thread_id.clone()?, file.run_id.clone()?))).collect(),
        );
        for held in self.registry.all() {
            // Its end is stored, or the file was put aside and nobody will store it.
            if let Some(file) = held.file()
                && !spool::is_there(file).await?
            {
                self.registry.remove(&held);
            }
        }
        Ok(Some(recovered))
    }

    /// Ends the runs whose leases had ended in every look for as many heartbeats as a lease has: whoever
    /// lives could have renewed them by then. Right after an outage of the ledger, or of this
    /// machine, nobody's lease says anything.
    async fn sweep(&self) -> Result<Vec<Claimed>> {
        let mut ended = Vec::new();
        for claimable in self.absent().await? {
            if self.leaves(&claimable).await {
                continue;
            }
            match self.ledger.claim(&Scope::System, &claimable, Timestamp::now()).await {
                Ok(Some(claimed)) => {
                    self.tell(&claimed);
                    ended.push(claimed);
                }
                Ok(None) => {}
                // The others are not kept from their threads by this one.
                Err(error) => tracing::warn!(
                    thread_id = %claimable.thread_id, run_id = %claimable.run_id, %error,
                    "a run whose worker is gone could not be ended; it is tried again"
                ),
            }
        }
        Ok(ended)
    }

    /// Folds the agent runs whose runs ended and whose process was gone before it could.
    async fn fold_ended(&self) {
        match self.ledger.fold_ended(&Scope::System, MAX_LIMIT).await {
            Ok(ends) => {
                for (agent_run_id, error) in &ends.failed {
                    tracing::warn!(%agent_run_id, %error, "an agent run could not be folded; it is tried again");
                }
            }
            // A log in files has no agent runs.
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => {
                tracing::warn!(%error, "a look for agent runs to fold failed; the next one is soon")
            }
        }
    }

    /// The runs whose workers are gone, as far as every look saw so for long enough.
    async fn absent(&self) -> Result<Vec<Claimable>> {
        let sweep = self.settings.sweep();
        let seen = self.ledger.runs().list_claimable(&Scope::System, &sweep, MAX_LIMIT).await?;
        Ok(self.registry.see_absent(seen, self.settings.beats()))
    }

    /// Whether a sweep leaves the run to whoever resumes it. Where that cannot be read now, it does.
    async fn leaves(&self, claimable: &Claimable) -> bool {
        let Claimable { thread_id, run_id, .. } = claimable;
        match self.settings.on_expired {
            OnExpired::End => false,
            OnExpired::Leave => match self.ledger.runs().lease(&Scope::System, thread_id, run_id).await {
                Ok(lease) => lease.is_none_or(|lease| lease.cancel_action.is_none()),
                Err(_) => true,
            },
        }
    }

    /// What must hold of a run for this process to resume it.
    async fn claim_of(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Claim> {
        match self.ledger.runs().lease(scope, thread, run).await? {
            Some(lease) if lease.cancel_action.is_some() => Err(Error::Cancelled { run_id: run.to_string() }),
            // An earlier try of this process has it, and nobody executes it.
            Some(lease)
                if lease.worker_id == self.settings.worker_id && self.registry.resumes(thread, run) =>
            {
                Ok(Claim::Epoch(lease.epoch))
            }
            Some(_) => Ok(Claim::Expired { grace: self.settings.grace }),
            None => match self.settings.unleased {
                Some(idle) => Ok(Claim::Unleased { idle }),
                None => Err(Error::conflict("lease", "expired", "none")),
            },
        }
    }

    /// The run that this process resumed though the answer was lost; else the error that came in its place.
    async fn resumed(&self, scope: &Scope, thread: &ThreadId, run: &RunId, error: Error) -> Result<Run> {
        let lease = self.ledger.runs().lease(scope, thread, run).await;
        let stored = self.ledger.runs().get(scope, thread, run).await;
        match (lease, stored) {
            (Ok(Some(lease)), Ok(stored))
                if lease.worker_id == self.settings.worker_id
                    && lease.epoch == stored.epoch
                    && self.registry.get(thread, run).is_none() =>
            {
                Ok(stored)
            }
            _ => Err(error),
        }
    }

    /// Opens the journal of a run that this process just resumed. What the log has of it is read again for as long
    /// as the ledger is away: the run is this process's by now, and nobody else would go on with it.
    async fn open_resumed(&self, scope: &Scope, run: Run, held: &Held) -> Result<RunJournal> {
        let settings = Settings { cancel: Some(held.token.clone()), ..self.settings.journal.clone() };
        let mut backoff = Backoff::new(&settings);
        loop {
            let opened = RunJournal::of_resumed(&self.ledger, scope, run.clone(), settings.clone());
            let error = match opened.await {
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                answer => return answer,
            };
            if held.token.is_cancelled() || backoff.is_over() {
                return Err(error);
            }
            let pause = backoff.next_delay();
            tracing::warn!(
                thread_id = %run.thread_id, run_id = %run.run_id, %error,
                "a run that was resumed could not be read; it is tried again"
            );
            tokio::select! {
                () = held.token.cancelled() => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn tell(&self, claimed: &Claimed) {
        let Claimed { run, interrupted } = claimed;
        tracing::warn!(
            thread_id = %run.thread_id, run_id = %run.run_id, open_items = interrupted.len(),
            "ended a run whose worker is gone"
        );
        let Some(tell) = &self.settings.on_claimed else { return };
        // Nothing of ours is half changed by it, and the sweeps of this process must not end with it.
        if catch_unwind(AssertUnwindSafe(|| tell(claimed))).is_err() {
            tracing::error!(run_id = %run.run_id, "on_claimed panicked");
        }
    }
}
