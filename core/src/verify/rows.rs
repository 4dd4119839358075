//! What a backend gives of a thread for it to be verified.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;

use crate::record::{Envelope, ItemEntry, Run, SeqSpan, ThreadHead, UsageRecord};
use crate::{ItemId, Result, RunId};

/// The run and the id of an item.
pub type ItemKey = (RunId, ItemId);

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which row it is: the key below the thread, as text.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// The rows of one thread as they were at one moment.
///
/// A method that gives a page gives the next one each time it is called, and an empty one at the end. An
/// error is that of the connection; a row that cannot be read is [`Unreadable`].
#[async_trait]
pub trait ThreadRows: Send {
    /// The head.
    async fn head(&mut self) -> Result<Result<ThreadHead, Unreadable>>;

    /// The numbers of events that are noted as quarantined, and how many records are in all.
    async fn quarantined(&mut self) -> Result<(BTreeSet<u64>, u64)>;

    /// A page of the ranges that were removed, ascending.
    async fn deletions(&mut self) -> Result<Vec<SeqSpan>>;

    /// A page of the runs.
    async fn runs(&mut self) -> Result<Vec<Result<Run, Unreadable>>>;

    /// A page of the log, ascending, each event with its number.
    async fn events(&mut self) -> Result<Vec<(u64, Result<Envelope, Unreadable>)>>;

    /// The events with these numbers that are there and can be read.
    async fn events_at(&mut self, seqs: &[u64]) -> Result<Vec<Envelope>>;

    /// A page of the item index.
    async fn items(&mut self) -> Result<Vec<Result<ItemEntry, Unreadable>>>;

    /// The rows of these items that are there; `None` is one that cannot be read.
    async fn items_of(&mut self, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Option<ItemEntry>>>;

    /// A page of the usage records.
    async fn usage(&mut self) -> Result<Vec<Result<UsageRecord, Unreadable>>>;
}
