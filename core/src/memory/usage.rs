//! Usage reports.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{UsageRecord, UsageSum};
use crate::store::{UsageOf, UsageQuery};
use crate::{Result, Scope, ThreadId};

use super::MemoryLedger;
use super::state::State;

impl MemoryLedger {
    pub(super) fn report_now(&self, scope: &Scope, query: &UsageQuery) -> Result<Vec<UsageSum>> {
        let limit = query.check(scope)?;
        let state = self.state();
        let mut sums: BTreeMap<String, UsageSum> = BTreeMap::new();
        let mut runs = BTreeSet::new();
        for call in state.calls(scope, &query.of)? {
            let in_time = query.from.is_none_or(|from| call.created_at >= from)
                && query.before.is_none_or(|before| call.created_at < before);
            let key = query.by.key(call);
            if !in_time || query.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            let sum = sums.entry(key.clone()).or_default();
            sum.add_call(call);
            if let Some(run) = &call.run_id {
                sum.runs += u64::from(runs.insert((key, &call.thread_id, run)));
            }
        }
        let keyed = sums.into_iter().map(|(key, sum)| UsageSum { key, ..sum });
        Ok(keyed.take(limit as usize).collect())
    }
}

impl State {
    /// The calls that a report is of.
    fn calls(&self, scope: &Scope, of: &UsageOf) -> Result<Vec<&UsageRecord>> {
        Ok(match of {
            UsageOf::All => {
                let all = self.threads.values().flat_map(|log| log.usage.values());
                let told_once = all.filter(|call| call.child_thread_id.is_none());
                told_once.filter(|call| scope.sees(call.owner_id.as_ref())).collect()
            }
            UsageOf::Thread(thread) => self.log(scope, thread)?.usage.values().collect(),
            UsageOf::Run(thread, run) => {
                let calls = self.log(scope, thread)?.usage.values();
                calls.filter(|call| call.run_id.as_ref() == Some(run)).collect()
            }
            UsageOf::Tree(root) => {
                let tree = self.tree(scope, root)?;
                let repeats = |call: &UsageRecord| {
                    call.child_thread_id.as_ref().is_some_and(|child| tree.contains(child))
                };
                let logs = tree.iter().filter_map(|thread| self.threads.get(thread));
                logs.flat_map(|log| log.usage.values()).filter(|call| !repeats(call)).collect()
            }
        })
    }

    /// A thread and all below it, deleted ones included.
    fn tree(&self, scope: &Scope, root: &ThreadId) -> Result<BTreeSet<ThreadId>> {
        let mut tree = BTreeSet::from([self.log(scope, root)?.head.thread_id.clone()]);
        loop {
            let below = self.threads.values().map(|log| &log.head).filter(|head| {
                scope.sees(head.owner_id.as_ref())
                    && !tree.contains(&head.thread_id)
                    && head.parent_thread_id.as_ref().is_some_and(|parent| tree.contains(parent))
            });
            let below: Vec<ThreadId> = below.map(|head| head.thread_id.clone()).collect();
            if below.is_empty() {
                return Ok(tree);
            }
            tree.extend(below);
        }
    }
}
