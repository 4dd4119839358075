//! The log in files: an [`EventStore`] over JSONL, for a machine without a database.
//!
//! It keeps threads and their events. It has no runs as records of their own (a run is there once it has
//! events), no marks, no usage and no item index: its [`Capabilities`] say so, and what needs one
//! of them is `Unsupported`.
//!
//! ```
//! use runledger_core::{
//!     Category, Commit, EventDraft, EventFilter, EventType, NewThread, RawJson, RunId, Scope, SeqRange,
//!     ThreadId,
//! };
//! use runledger_persistence::jsonl::{Durability, JsonlConfig, JsonlLedger};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let config = JsonlConfig { durability: Durability::Sync, ..JsonlConfig::default() };
//! let jsonl = JsonlLedger::open(folder, config).await?;
//! let ledger = jsonl.ledger();
//!
//! let thread = ThreadId::new("t1")?;
//! let note = EventDraft::new(EventType::new("note")?, Category::Message, RawJson::string("hello"));
//! let commit = Commit {
//!     create_missing: Some(NewThread::new(thread.clone())),
//!     ..Commit::of_run(thread.clone(), RunId::new("r1")?).with_events(vec![note])
//! };
//! assert_eq!(ledger.events().append(&Scope::System, commit).await?.seqs, [1]);
//!
//! let file = std::fs::read_to_string(folder.join("threads/t1/runs/r1.jsonl"))?;
//! assert!(file.starts_with(r#"{"v":1,"seq":1,"run_id":"r1","type":"note","end":true,"crc":""#));
//!
//! let all = SeqRange::after(0, 50);
//! let page = ledger.events().list_events(&Scope::System, &thread, &EventFilter::default(), &all).await?;
//! assert_eq!(page.items.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The folder
//!
//! ```text
//! threads/<thread>/thread.jsonl       the records of the thread itself
//! threads/<thread>/runs/<run>.jsonl   the records of one run
//! threads/<thread>/head.json          the thread, and which numbers were given
//! threads/<thread>/lock               who writes
//! threads/<thread>/index/             where each event is; made of the records
//! ```
//!
//! A name is the id where that is short and of `a-z`, `0-9`, `-` and `_`, else `~` and the id's SHA-256:
//! no name leaves its folder, and none depends on whether a file system tells `A` from `a`.
//!
//! # A record
//!
//! One line. `\n` ends it, and nothing else does: U+2028 and its kin are text. The envelope comes first,
//! its fields in this order:
//!
//! | field | holds |
//! |---|---|
//! | `v` | the version, 1 |
//! | `seq` | the number in the thread's log |
//! | `run_id` | the run, or `null` |
//! | `type` | the event's type |
//! | `end` | whether it is the last of its commit |
//! | `crc` | CRC-32 (as of gzip) of the line without these eight digits and the `\n` |
//! | `payload` | the rest of the event; `null` where a run was deleted |
//!
//! The payload has `category`, `created_at`, `content_bytes`, and where there are such `caller`, `task_id`,
//! `item`, `once_key`, `truncated`, `metadata` and `content`. The two documents come back byte for byte;
//! one with line breaks between its tokens is a string, under `metadata_text` or `content_text`.
//! Numbers and the ends of commits are known from envelopes alone. `head.json` is one such record, too.
//!
//! # What is promised
//!
//! - A commit is stored whole or not at all: it goes to one file, and counts once the record that has
//!   `end` is there. What a writer that died left of one is cut off by the next writer of the thread
//!   and told ([`JsonlLedger::recovered`]); it swallows nothing that follows. A whole commit that was
//!   not acknowledged may be there.
//! - Damage amid the records of a file is `Corrupt`, names the file and the line, and is never cut. The
//!   other threads stay as they are.
//! - Numbers are given under the thread's lock, which holds among processes. None is given twice: the
//!   head remembers those of deleted records, and stays when the thread is deleted. A deleted run
//!   leaves a tombstone and takes no late record.
//! - With [`Durability::Sync`] an acknowledged commit survives a loss of power, with
//!   [`Durability::Flush`] the end of the process. Heads and deletions are always synced.
//! - A call that nobody waits for any more goes on to its end.
//! - A newer version's records are read as far as this version understands them. Nothing is written
//!   beside them: that is `SchemaMismatch`.
//!
//! # What it costs
//!
//! A page reads its records, and finds them by bisection in an index of 48 bytes an event. The pages of a
//! run look through the index from the run's first event on; filters by type, task or caller read the
//! run's records. The first write to a thread in a process reads the thread's index and the last record
//! of each file; without an index that fits, it reads the thread. A deletion of a run writes the index
//! anew. Listing threads reads every head. Between calls nothing is kept in memory but, for threads
//! written to lately ([`JsonlConfig::cached_threads`]), where each of their files ends.
//!
//! # Limits
//!
//! File locks must work among all who write, which most network file systems do not promise. After a
//! loss of power under [`Durability::Flush`], readers may miss what survived until the thread is
//! written to, or [`JsonlLedger::recover`] is called.

mod append;
mod delete;
mod file;
mod head;
mod index;
mod record;
mod scan;
mod store;
mod stores;
mod tail;
mod unsupported;
mod view;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

#[expect(unused_imports, reason = "for the documentation")]
use runledger_core::{Capabilities, EventStore};
use runledger_core::{Error, Ledger, Limits, NewThread, Result, Scope, Stores, Thread, ThreadId};

use crate::disk::blocking;
use head::Head;
use store::Store;
use tail::Tail;
use writer::Writer;

pub use store::ReadCounts;

/// How long an `Ok` of an append is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The operating system has it: it survives the end of the process.
    #[default]
    Flush,
    /// The disk has it (`fsync` of the file, and of its folder where it is new): it survives a loss of power.
    Sync,
}

/// How a folder is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonlConfig {
    /// How long an `Ok` of an append is good for.
    pub durability: Durability,
    /// Sizes above which payloads are cut or refused.
    pub limits: Limits,
    /// Of how many threads it is remembered where their files end. Others are looked at anew when
    /// they are written to.
    pub cached_threads: usize,
}

impl Default for JsonlConfig {
    fn default() -> Self {
        Self { durability: Durability::default(), limits: Limits::default(), cached_threads: 1_024 }
    }
}

/// A commit that was never finished, and was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The thread.
    pub thread_id: ThreadId,
    /// The file that was cut.
    pub file: PathBuf,
    /// How many bytes it has now.
    pub kept_bytes: u64,
    /// How many bytes were cut off its end.
    pub cut_bytes: u64,
}

/// What [`JsonlLedger::recover`] did.
#[derive(Debug, Default)]
pub struct Recovery {
    /// How many threads were looked at.
    pub threads: usize,
    /// The commits that were cut off.
    pub cut: Vec<TornTail>,
    /// The threads that cannot be written to, by their folders, and why.
    pub failed: Vec<(PathBuf, Error)>,
}

/// A folder of threads. Cheap to clone; several may be open on one folder, in one process or in many.
#[derive(Clone, Debug)]
pub struct JsonlLedger {
    store: Arc<Store>,
}

impl JsonlLedger {
    /// Opens a folder, and makes it where it is missing. Looks at no thread.
    pub async fn open(folder: impl AsRef<Path>, config: JsonlConfig) -> Result<Self> {
        const OPERATION: &str = "to open a folder";
        let threads = folder.as_ref().join("threads");
        let made = blocking(OPERATION, move || {
            std::fs::create_dir_all(&threads).map_err(file::at(&threads))?;
            threads.parent().map_or(Ok(()), file::sync_folder)?;
            Ok(threads)
        });
        let threads = made.await?.map_err(|trouble: file::Trouble| trouble.into_error(OPERATION))?;
        Ok(Self { store: Arc::new(Store::new(threads, config)) })
    }

    /// Its stores.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let lacking = || Arc::new(unsupported::Lacking);
        Ledger::new(Stores {
            threads: Arc::new(self.clone()),
            runs: lacking(),
            events: Arc::new(self.clone()),
            items: lacking(),
            usage: lacking(),
            context: lacking(),
            interactions: lacking(),
            agent_runs: lacking(),
            imports: lacking(),
            feedback: lacking(),
            api_tokens: lacking(),
            blobs: lacking(),
            search: lacking(),
        })
    }

    /// The commits that were cut off since it was opened, the last 1,000 of them.
    #[must_use]
    pub fn recovered(&self) -> Vec<TornTail> {
        self.store.cuts()
    }

    /// How much was read from files since it was opened.
    #[must_use]
    pub fn reads(&self) -> ReadCounts {
        self.store.reads.now()
    }

    /// Looks at every thread as its next writer would: cuts off what was never finished, finishes
    /// deletions, makes indexes that do not fit anew. Not needed, for each writer does it; it
    /// finds what is damaged before it is asked for.
    pub async fn recover(&self) -> Result<Recovery> {
        const OPERATION: &str = "to recover";
        let store = Arc::clone(&self.store);
        let folders = blocking(OPERATION, move || store.folders()).await?;
        let mut recovery = Recovery::default();
        for folder in folders.map_err(|trouble| trouble.into_error(OPERATION))? {
            let path = folder.path().to_owned();
            let head = blocking(OPERATION, move || Head::read(&folder)).await?;
            let looked = match head.map_err(|trouble| trouble.into_error(OPERATION)) {
                Ok(Some((head, _))) => self.recover_thread(&head.thread_id).await,
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            recovery.threads += 1;
            match looked {
                Ok(cut) => recovery.cut.extend(cut),
                Err(error) => recovery.failed.push((path, error)),
            }
        }
        Ok(recovery)
    }

    async fn recover_thread(&self, thread: &ThreadId) -> Result<Vec<TornTail>> {
        let id = thread.clone();
        let work = move |store: &Store, slot: &mut Option<Tail>| {
            // As if this process had never seen it.
            slot.take();
            let Some(mut writer) = Writer::open(store, &id, slot)? else { return Ok(Vec::new()) };
            let cut = std::mem::take(&mut writer.cut);
            *slot = Some(writer.into_tail());
            Ok(cut)
        };
        self.store.write("to recover", thread, work).await
    }

    /// Makes a new head for a thread whose `head.json` is lost or damaged, with `new` as the record of the
    /// thread; a damaged one is kept as `head.json.damaged`. Events and numbers are those of the
    /// records. For the system only: `InvalidInput` for an owner. `AlreadyExists` where the head can be
    /// read, `NotFound` where there are no records.
    pub async fn restore_head(&self, scope: &Scope, new: NewThread) -> Result<Thread> {
        if scope.owner().is_some() {
            return Err(Error::invalid("scope", "is an owner's; only the system restores a thread"));
        }
        let thread = new.into_thread(scope)?;
        let id = thread.thread_id.clone();
        let work = move |store: &Store, slot: &mut Option<Tail>| {
            slot.take();
            Writer::restore(store, &thread)?;
            Ok(thread)
        };
        self.store.write("to restore a thread", &id, work).await
    }
}
