//! Where imports stand.

use async_trait::async_trait;

use crate::record::{ImportCursor, Quarantined};
use crate::store::{ImportStore, check_quarantined};
use crate::{ImportSource, ListRange, QuarantineId, Result, Scope, ThreadId};

use super::MemoryLedger;

#[async_trait]
impl ImportStore for MemoryLedger {
    async fn cursor(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        source: &ImportSource,
    ) -> Result<Option<ImportCursor>> {
        let state = self.state();
        state.log(scope, thread)?;
        let found = state.cursors.get(source).filter(|(of, _)| of == thread);
        Ok(found.map(|(_, cursor)| cursor.clone()))
    }

    async fn set_cursor(&self, scope: &Scope, thread: &ThreadId, cursor: ImportCursor) -> Result<()> {
        cursor.check()?;
        let mut state = self.state();
        state.log(scope, thread)?;
        state.cursors.insert(cursor.source.clone(), (thread.clone(), cursor));
        Ok(())
    }

    async fn quarantine(&self, scope: &Scope, thread: &ThreadId, found: Vec<Quarantined>) -> Result<u64> {
        check_quarantined(&found)?;
        let mut state = self.state();
        let log = state.log_mut(scope, thread)?;
        let before = log.quarantine.len();
        for part in found {
            log.quarantine.entry(part.quarantine_id.clone()).or_insert(part);
        }
        Ok((log.quarantine.len() - before) as u64)
    }

    async fn list_quarantined(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        after: Option<&QuarantineId>,
        limit: u32,
    ) -> Result<Vec<Quarantined>> {
        let limit = ListRange::newest(limit).checked_limit()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        let later =
            log.quarantine.values().filter(|part| after.is_none_or(|after| part.quarantine_id > *after));
        Ok(later.take(limit as usize).cloned().collect())
    }
}
