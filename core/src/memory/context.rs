//! Context windows.

use crate::record::{Compaction, Event, Visibility};
use crate::view::context::{ContextMessage, ContextWindow, is_message, is_note};
use crate::{Result, RunId, Scope, SeqPage, SeqRange, ThreadId};

use super::MemoryLedger;
use super::read::ascending;
use super::state::Log;

impl MemoryLedger {
    pub(super) fn load_now(&self, scope: &Scope, thread: &ThreadId) -> Result<ContextWindow> {
        let state = self.state();
        let log = state.log(scope, thread)?;
        let compaction =
            log.compactions.values().rev().find(|compaction| log.is_shown(Some(&compaction.run_id)));
        let through_seq = compaction.map_or(0, |compaction| compaction.through_seq);
        let of_window = |event: &&Event| is_message(event) && log.is_shown(event.run_id.as_ref());
        let spans = compaction.map(|compaction| compaction.window.as_slice()).unwrap_or_default();
        let left = spans.iter().flat_map(|span| log.events.range(span.from..=span.through));
        let since = log.events.range(through_seq + 1..).filter(|(_, event)| !is_note(event));
        let messages = left.chain(since).map(|(_, event)| event).filter(of_window);
        Ok(ContextWindow {
            thread_id: thread.clone(),
            system_prompt: log.thread.as_ref().and_then(|thread| thread.system_prompt.clone()),
            compact_seq: compaction.map(|compaction| compaction.compact_seq),
            last_compact_seq: log.head.last_compact_seq,
            through_seq,
            messages: messages.cloned().map(ContextMessage::of).collect(),
        })
    }

    pub(super) fn list_compactions_now(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        range: &SeqRange,
    ) -> Result<SeqPage<Compaction>> {
        let scan = range.resolve()?;
        let state = self.state();
        let log = state.log(scope, thread)?;
        Ok(ascending(log.compactions.values(), scan, |compaction| compaction.compact_seq))
    }
}

impl Log {
    /// Whether readers show what belongs to this run.
    fn is_shown(&self, run: Option<&RunId>) -> bool {
        run.is_none_or(|run| self.runs.get(run).is_some_and(|run| run.visibility == Visibility::Shown))
    }
}
