//! A ledger with a long log, filled as applications would fill it, for those who read.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use runledger_core::{
    BoxError, Commit, EventDraft, Finish, JournalMark, Ledger, NewRun, NewThread, Outcome, OwnerId, RunId,
    RunProgress, Scope, ThreadId, Timestamp,
};

use crate::contender::ours::{self, OpenLedger};
use crate::contender::{Place, Setting};
use crate::work::{Work, calls, draft};

/// Events of a run, its end included.
pub(crate) const RUN: u64 = 500;
/// For so many events there is another thread in the list.
const EVENTS_PER_THREAD: u64 = 100;
/// Messages that a model would be sent next.
const WINDOW: u64 = 100;
/// Callers that write at once.
const WRITERS: usize = 32;

/// A ledger, and what is in it.
pub(crate) struct Filled {
    pub(crate) ledger: OpenLedger,
    /// Events of the long log.
    pub(crate) events: u64,
    /// The thread with the long log.
    pub(crate) thread: ThreadId,
    /// The run amid it.
    pub(crate) run: RunId,
    /// The thread with a window.
    pub(crate) chat: ThreadId,
    pub(crate) owner: Scope,
    /// Bytes of all payloads.
    pub(crate) payload: u64,
}

/// Fills a new ledger.
pub(crate) async fn fill(
    setting: Setting,
    place: &Place,
    work: &Arc<Work>,
    events: u64,
) -> Result<Filled, BoxError> {
    let ledger = ours::open(setting, place).await?;
    let filler = Filler { ledger: &ledger.ledger, owner: OwnerId::new("alice")?, work };
    let (thread, chat) = (ThreadId::generate(), ThreadId::generate());
    let mut run = RunId::generate();
    for number in 0..events / RUN {
        let of_number = filler.run(&thread, number * RUN, RUN).await?;
        if number == events / RUN / 2 {
            run = of_number;
        }
    }
    filler.run(&chat, 0, WINDOW * 5 / 2).await?;
    let others = events / EVENTS_PER_THREAD;
    stream::iter(0..others)
        .map(|number| filler.thread(number))
        .buffer_unordered(WRITERS)
        .try_collect::<Vec<()>>()
        .await?;
    let owner = Scope::Owner(filler.owner.clone());
    let payload = work.bytes(events)
        + work.bytes(WINDOW * 5 / 2)
        + (0..others).map(|number| work.content(single(number)).as_str().len() as u64).sum::<u64>();
    Ok(Filled { ledger, events, thread, run, chat, owner, payload })
}

/// The number of the event of a thread that has one: an item would need a run.
fn single(number: u64) -> u64 {
    number * 5 + 2
}

struct Filler<'a> {
    ledger: &'a Ledger,
    owner: OwnerId,
    work: &'a Work,
}

impl Filler<'_> {
    fn missing(&self, thread: &ThreadId) -> NewThread {
        NewThread { owner_id: Some(self.owner.clone()), ..NewThread::new(thread.clone()) }
    }

    fn drafts(&self, numbers: std::ops::Range<u64>) -> Result<Vec<EventDraft>, BoxError> {
        numbers.map(|number| draft(self.work, number)).collect()
    }

    /// A thread with one event.
    async fn thread(&self, number: u64) -> Result<(), BoxError> {
        let thread = ThreadId::generate();
        let at = single(number);
        let commit = Commit::new(thread.clone()).with_events(self.drafts(at..at + 1)?);
        let commit = Commit { create_missing: Some(self.missing(&thread)), ..commit };
        self.ledger.events().append(&Scope::System, commit).await?;
        Ok(())
    }

    /// A run of these many events, from its admission to its end where the backend knows runs.
    async fn run(&self, thread: &ThreadId, first: u64, events: u64) -> Result<RunId, BoxError> {
        let (run, at) = (RunId::generate(), Timestamp::now());
        let told = first..first + events - 1;
        let of_run = |numbers| {
            let drafts = self.drafts(numbers)?;
            Ok::<_, BoxError>(Commit::of_run(thread.clone(), run.clone()).with_events(drafts))
        };
        let missing = Some(self.missing(thread));
        if !self.ledger.capabilities().runs {
            let commit = Commit { create_missing: missing, ..of_run(first..first + events)? };
            self.ledger.events().append(&Scope::System, commit).await?;
            return Ok(run);
        }
        let new = NewRun { create_missing: missing, ..NewRun::new(thread.clone(), run.clone()) };
        let epoch = self.ledger.admit(&Scope::System, new).await?.run.epoch;
        let commit = of_run(told.clone())?.with_mark(JournalMark { epoch, ordinal: 0 });
        let commit = Commit { usage: calls(told)?, ..commit };
        self.ledger.events().append(&Scope::System, commit).await?;
        let finish = Finish {
            thread_id: thread.clone(),
            run_id: run.clone(),
            mark: JournalMark { epoch, ordinal: events - 1 },
            outcome: Outcome::success(),
            at,
            events: vec![EventDraft::terminal(&Outcome::success(), None, at)],
            usage: Vec::new(),
            progress: RunProgress::default(),
            asks: Vec::new(),
        };
        self.ledger.finish(&Scope::System, finish).await?;
        Ok(run)
    }
}
