//! What an importer has to know when it comes again, and what it could not make records of.

use std::fmt;

use async_trait::async_trait;

use crate::record::{ImportCursor, Quarantined};
use crate::{ImportSource, QuarantineId, Result, Scope, ThreadId};

/// Keeps where imports stand, and what of their sources is no record.
///
/// # To ensure correctness
///
/// - a cursor belongs to the thread it was set for: for any other one there is none.
/// - a part that is quarantined again is ignored, whatever is said of it.
/// - what was quarantined goes with its thread, and not before. Cursors stay: they are the importer's.
#[async_trait]
pub trait ImportStore: fmt::Debug + Send + Sync + 'static {
    /// How far a source was read into the thread, if it was.
    async fn cursor(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        source: &ImportSource,
    ) -> Result<Option<ImportCursor>>;

    /// Says how far a source was read into the thread; replaces what was said of it before.
    async fn set_cursor(&self, scope: &Scope, thread: &ThreadId, cursor: ImportCursor) -> Result<()>;

    /// Keeps what is no record, and says how much of it is new. All of it is stored, or nothing. At most 1,000.
    async fn quarantine(&self, scope: &Scope, thread: &ThreadId, found: Vec<Quarantined>) -> Result<u64>;

    /// What was quarantined of the thread, by id, after the one with this id; at most `limit`, 1 to 1,000.
    async fn list_quarantined(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&QuarantineId>,
        limit: u32,
    ) -> Result<Vec<Quarantined>>;
}

/// Refuses what no store takes at once, for those who implement one.
pub fn check_quarantined(found: &[Quarantined]) -> Result<()> {
    if found.len() > crate::MAX_LIMIT as usize {
        let reason = format!("has {} parts; give at most {}", found.len(), crate::MAX_LIMIT);
        return Err(crate::Error::invalid("found", reason));
    }
    found.iter().try_for_each(Quarantined::check)
}
