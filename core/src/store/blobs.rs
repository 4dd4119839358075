//! Blobs: large parts of payloads, stored once per thread and named by events. They are written with commits and
//! go with the last event that names them.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use super::Ledger;
use crate::record::{Blob, BlobEntry, BlobHash, inline, inlined};
use crate::{ErrorKind, RawJson, Result, Scope, ThreadId};

/// Reads blobs.
///
/// # To ensure correctness
///
/// - a blob is stored in the transaction of the commit that brings it, once per thread and hash: who brings
///   one that is there changes nothing, its media type included.
/// - each event whose payload names a blob of its thread counts as a reference to it; so does the end of an item
///   that a store writes by itself. What names a blob that the thread does not have counts as none.
/// - whatever removes events removes, in the same transaction, the blobs that no event names any more.
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// One blob of a thread.
    async fn get(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<Blob>;

    /// One blob of a thread, without what it holds.
    async fn entry(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<BlobEntry>;

    /// The blobs of a thread by their hashes, without what they hold: the first `limit` after `after`.
    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&BlobHash>,
        limit: u32,
    ) -> Result<Vec<BlobEntry>>;
}

impl Ledger {
    /// A payload of a thread's event as it was before its large parts were taken out. A ref whose blob the
    /// thread does not have stays, as do those beyond what a commit may bring.
    pub async fn whole(&self, scope: &Scope, thread: &ThreadId, content: &RawJson) -> Result<RawJson> {
        let mut blobs: BTreeMap<BlobHash, Blob> = BTreeMap::new();
        for hash in inlined(content) {
            if let Some(blob) = self.find_blob(scope, thread, &hash).await? {
                blobs.insert(hash, blob);
            }
        }
        Ok(inline(content, |hash| blobs.get(hash).map(|blob| blob.bytes.as_slice())))
    }

    /// A blob, if the thread has it.
    pub(super) async fn find_blob(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        hash: &BlobHash,
    ) -> Result<Option<Blob>> {
        match self.blobs().get(scope, thread, hash).await {
            Ok(blob) => Ok(Some(blob)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
