//! Large payloads.

use async_trait::async_trait;

use crate::record::{Blob, BlobEntry, BlobHash};
use crate::store::BlobStore;
use crate::{Error, Result, Scope, SeqRange, ThreadId};

use super::MemoryLedger;
use super::state::Log;

#[async_trait]
impl BlobStore for MemoryLedger {
    async fn get(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<Blob> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        let (media_type, bytes) = log.blobs.get(hash).ok_or_else(|| Error::not_found("blob", hash))?;
        Blob::from_stored(hash, media_type.clone(), bytes.to_vec())
    }

    async fn entry(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<BlobEntry> {
        let state = self.state();
        state.log(scope, thread)?.blob_entry(hash).ok_or_else(|| Error::not_found("blob", hash))
    }

    async fn list(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&BlobHash>,
        limit: u32,
    ) -> Result<Vec<BlobEntry>> {
        // The one rule for limits.
        let limit = SeqRange::last(limit).resolve()?.limit;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let hashes = log.blobs.keys().filter(|hash| after.is_none_or(|after| *hash > after));
        Ok(hashes.take(limit as usize).filter_map(|hash| log.blob_entry(hash)).collect())
    }
}

impl Log {
    fn blob_entry(&self, hash: &BlobHash) -> Option<BlobEntry> {
        let (media_type, bytes) = self.blobs.get(hash)?;
        Some(BlobEntry {
            hash: hash.clone(),
            media_type: media_type.clone(),
            bytes: bytes.len() as u64,
            events: self.event_blobs.iter().filter(|(_, named)| named == hash).count() as u64,
        })
    }
}
