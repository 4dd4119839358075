//! What all threads of a folder share, and where work leaves the async world.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runledger_core::{AppendSignal, Error, Result, Scope, ThreadId};

use super::file::{self, Folder, Trouble};
use super::tail::Tail;
use super::view::View;
use super::writer::Writer;
use super::{JsonlConfig, TornTail};
use crate::disk::blocking;

/// How many cuts are remembered for [`JsonlLedger::recovered`](super::JsonlLedger::recovered).
const REMEMBERED_CUTS: usize = 1_000;

/// How often a reader looks again before it waits for the writer.
const LOOKS: u32 = 4;

/// How much was read from files since the ledger was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Bytes of records and of the index.
    pub bytes: u64,
    /// Records that were parsed.
    pub records: u64,
}

/// [`ReadCounts`] as they grow.
#[derive(Debug, Default)]
pub(super) struct Reads {
    bytes: AtomicU64,
    records: AtomicU64,
}

impl Reads {
    pub(super) fn count(&self, bytes: usize, records: u64) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> ReadCounts {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        ReadCounts { bytes: of(&self.bytes), records: of(&self.records) }
    }
}

/// What this process knows of a thread it wrote to; `None` where it has to look at the files first.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Tail>>>;

/// A folder of threads.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) threads: PathBuf,
    pub(super) config: JsonlConfig,
    pub(super) signal: AppendSignal,
    pub(super) reads: Reads,
    slots: Mutex<HashMap<ThreadId, Slot>>,
    cuts: Mutex<VecDeque<TornTail>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(super) fn new(threads: PathBuf, config: JsonlConfig) -> Self {
        Self {
            threads,
            config,
            signal: AppendSignal::default(),
            reads: Reads::default(),
            slots: Mutex::default(),
            cuts: Mutex::default(),
        }
    }

    pub(super) fn folder(&self, thread: &ThreadId) -> Folder {
        Folder::of(&self.threads, thread)
    }

    /// The folders of all threads.
    pub(super) fn folders(&self) -> file::Result<Vec<Folder>> {
        Ok(file::list(&self.threads)?.into_iter().map(Folder::at).collect())
    }

    fn slot(&self, thread: &ThreadId) -> Slot {
        let mut slots = lock(&self.slots);
        if slots.len() >= self.config.cached_threads && !slots.contains_key(thread) {
            // Those that nobody uses now: what they knew is read again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(thread.clone()).or_default())
    }

    /// Remembers that a tail was cut, and says so.
    pub(super) fn report(&self, cut: TornTail) {
        tracing::warn!(
            thread_id = %cut.thread_id,
            file = %cut.file.display(),
            kept_bytes = cut.kept_bytes,
            cut_bytes = cut.cut_bytes,
            "a commit that was never finished was cut off"
        );
        let mut cuts = lock(&self.cuts);
        if cuts.len() == REMEMBERED_CUTS {
            cuts.pop_front();
        }
        cuts.push_back(cut);
    }

    pub(super) fn cuts(&self) -> Vec<TornTail> {
        lock(&self.cuts).iter().cloned().collect()
    }

    /// Does the work of a writer of `thread`, one at a time and to its end: who no longer waits for the
    /// answer stops nothing. The lock of the thread is the work's own.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        thread: &ThreadId,
        work: impl FnOnce(&Self, &mut Option<Tail>) -> file::Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut slot = self.slot(thread).lock_owned().await;
        let store = Arc::clone(self);
        let worked = blocking(operation, move || work(&store, &mut slot)).await?;
        worked.map_err(|trouble| trouble.into_error(operation))
    }

    /// Changes a thread that the scope sees.
    pub(super) async fn edit<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: &Scope,
        thread: &ThreadId,
        work: impl FnOnce(&mut Writer<'_>) -> file::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (scope, id) = (scope.clone(), thread.clone());
        self.write(operation, thread, move |store, slot| {
            let mut writer = Writer::open(store, &id, slot)?.ok_or_else(|| not_found(&id))?;
            writer.require_visible(&scope)?;
            let done = work(&mut writer)?;
            *slot = Some(writer.into_tail());
            Ok(done)
        })
        .await
    }

    /// Reads from a thread that the scope sees, as it was at one moment.
    pub(super) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: &Scope,
        thread: &ThreadId,
        work: impl Fn(&mut View<'_>) -> file::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, scope, id) = (Arc::clone(self), scope.clone(), thread.clone());
        let looked = blocking(operation, move || store.look_now(&scope, &id, work)).await?;
        looked.map_err(|trouble| trouble.into_error(operation))
    }

    fn look_now<T>(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        work: impl Fn(&mut View<'_>) -> file::Result<T>,
    ) -> file::Result<T> {
        for _ in 0..LOOKS {
            match View::open(self, scope, thread).and_then(|mut view| work(&mut view)) {
                Err(Trouble::Stale) => {}
                answer => return answer,
            }
        }
        // Nobody writes while this is held. What does not fit now was left so by somebody who died:
        // the next writer mends it, a reader makes itself an index of its own.
        let _lock = file::Lock::shared(&self.folder(thread))?;
        match View::open(self, scope, thread).and_then(|mut view| work(&mut view)) {
            Err(Trouble::Stale) => {
                tracing::debug!(thread_id = %thread, "the index is made for one reader");
                work(&mut View::made(self, scope, thread)?)
            }
            answer => answer,
        }
    }
}

pub(super) fn not_found(thread: &ThreadId) -> Error {
    Error::not_found("thread", thread)
}
