//! The queues of the lanes, and handing in.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use runledger_core::{
    AppendSignal, Applied, Error, Prepared, Receipt, Result, Scope, ThreadId, Transition, UsageDraft,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::connection::Opener;
use super::lane::Lane;

/// How many commits wait in a lane's queue before their senders do.
const QUEUE: usize = 1024;

/// How many KiB of payload wait in a lane's queue before their senders do.
const QUEUE_KIB: u32 = 64 * 1024;

/// A commit that was handed in.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) scope: Scope,
    pub(super) commit: Arc<Prepared>,
    pub(super) bytes: u64,
    /// Whether an earlier try of it may have been stored.
    pub(super) unsure: bool,
    pub(super) reply: oneshot::Sender<Result<Receipt>>,
    /// Its place in the queue's room, until it is answered.
    pub(super) room: OwnedSemaphorePermit,
}

impl Job {
    /// Whether it may be stored, where trying ends.
    pub(super) fn applied(&self) -> Applied {
        if self.unsure { Applied::Unknown } else { Applied::No }
    }

    /// Answers the caller, if it still listens.
    pub(super) fn answer(self, answer: Result<Receipt>) {
        drop(self.room);
        let _ = self.reply.send(answer);
    }
}

#[derive(Debug)]
struct Entrance {
    /// `None` once closed.
    queue: RwLock<Option<mpsc::Sender<Job>>>,
    room: Arc<Semaphore>,
}

/// The lanes of a database.
#[derive(Debug)]
pub(crate) struct Lanes {
    entrances: Vec<Entrance>,
    /// Each ends with its lane.
    ends: Mutex<Vec<oneshot::Receiver<()>>>,
}

impl Lanes {
    /// Starts `count` lanes, those without a thread of their own as tasks of the runtime this is called in. An error
    /// where no thread is to be had.
    pub(crate) fn start(count: usize, opener: &Opener, signal: &AppendSignal) -> io::Result<Self> {
        let mut entrances = Vec::with_capacity(count);
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            let (sender, queue) = mpsc::channel(QUEUE);
            let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
            entrances.push(Entrance { queue: RwLock::new(Some(sender)), room });
            let (ended, end) = oneshot::channel();
            ends.push(end);
            let lane = Lane::new(opener.clone(), signal.clone()).run(queue);
            let work = async move {
                lane.await;
                // Nobody waits for it where the ledger was not closed.
                let _ = ended.send(());
            };
            if opener.has_a_thread() {
                in_thread(work)?;
            } else {
                tokio::spawn(work);
            }
        }
        Ok(Self { entrances, ends: Mutex::new(ends) })
    }

    /// Hands a commit to its thread's lane and waits for the answer.
    ///
    /// Whoever stops waiting takes nothing back: the commit is stored or refused all the same.
    pub(crate) async fn append(&self, scope: &Scope, commit: Prepared) -> Result<Receipt> {
        let entrance = self.entrance(&commit.thread_id)?;
        let bytes = bytes_of(&commit);
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&entrance.room).acquire_many_owned(kib).await.map_err(|_| closed())?;
        let queue =
            entrance.queue.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { scope: scope.clone(), commit: Arc::new(commit), bytes, unsure: false, reply, room };
        queue.send(job).await.map_err(|_| closed())?;
        drop(queue);
        answer.await.map_err(|_| Error::Unavailable {
            applied: Applied::Unknown,
            source: "the lane of the thread broke off".into(),
        })?
    }

    fn entrance(&self, thread: &ThreadId) -> Result<&Entrance> {
        let mut hasher = DefaultHasher::new();
        thread.as_str().hash(&mut hasher);
        let count = self.entrances.len() as u64;
        let at = hasher.finish().checked_rem(count).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.entrances.get(at)).ok_or_else(closed)
    }

    /// Takes no more commits, and waits until those that were handed in are answered.
    pub(crate) async fn close(&self) {
        for entrance in &self.entrances {
            entrance.queue.write().unwrap_or_else(PoisonError::into_inner).take();
        }
        for end in self.ends.lock().await.drain(..) {
            // A lane that broke off has answered by breaking off.
            let _ = end.await;
        }
    }
}

/// Works in a thread that nothing waits for at the end of the process.
fn in_thread(work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    #[cfg(test)]
    let calls = crate::round_trip::calls();
    let thread = thread::Builder::new().name("runledger-lane".to_owned());
    let started = thread.spawn(move || {
        #[cfg(test)]
        crate::round_trip::count_with(calls);
        runtime.block_on(work);
    });
    started.map(drop)
}

fn closed() -> Error {
    Error::Unavailable { applied: Applied::No, source: "the ledger was closed".into() }
}

/// About how many bytes a commit adds to the database.
fn bytes_of(commit: &Prepared) -> u64 {
    const ROW: usize = 200;
    let events: usize = commit
        .events
        .iter()
        .map(|event| {
            ROW + event.content.as_str().len() + event.metadata.as_ref().map_or(0, |json| json.as_str().len())
        })
        .sum();
    let raw = |call: &UsageDraft| call.raw.as_ref().map_or(0, |json| json.as_str().len());
    let usage: usize = commit.usage.iter().map(|call| ROW + raw(call)).sum();
    let rare = match &commit.transition {
        Some(Transition::Admit(admission)) => {
            admission.metadata.as_str().len() + admission.kwargs.as_str().len()
        }
        _ => 0,
    };
    let thread = commit.create_missing.as_ref().map_or(0, |new| {
        let prompt = new.system_prompt.as_ref().map_or(0, String::len);
        new.config.as_str().len() + new.metadata.as_str().len() + prompt
    });
    let blobs: usize = commit.blobs.iter().map(|blob| ROW + blob.bytes.len()).sum();
    (events + usage + blobs + rare + thread + ROW * (1 + commit.item_changes.len())) as u64
}
