//! Large payloads.

use async_trait::async_trait;

use crate::record::{Blob, BlobEntry, BlobHash};
use crate::store::BlobStore;
use crate::{Error, Result, Scope, SeqRange, ThreadId};

use super::MemoryLedger;

#[async_trait]
impl BlobStore for MemoryLedger {
    async fn get(&self, scope: &Scope, thread: &ThreadId, hash: &BlobHash) -> Result<Blob> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        let (media_type, bytes) = log.blobs.get(hash).ok_or_else(|| Error::not_found("blob", hash))?;
        Blob::from_stored(hash, media_type.clone(), bytes.to_vec())
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
        let entries = log.blobs.iter().filter(|(hash, _)| after.is_none_or(|after| *hash > after));
        let entries = entries.map(|(hash, (media_type, bytes))| BlobEntry {
            hash: hash.clone(),
            media_type: media_type.clone(),
            bytes: bytes.len() as u64,
            events: log.event_blobs.iter().filter(|(_, named)| named == hash).count() as u64,
        });
        Ok(entries.take(limit as usize).collect())
    }
}
