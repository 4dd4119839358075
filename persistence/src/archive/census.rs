//! What a thread's rows say about each other, checked before they are believed.

use std::collections::BTreeMap;

use runledger_core::{Error, Result, ThreadId};

use super::row::Row;

/// The rows of a thread, counted as they pass.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// How many rows there were of each table.
    pub(super) rows: BTreeMap<&'static str, u64>,
    next_seq: i64,
    message_count: i64,
    active_run: Option<String>,
    is_deleted: bool,
    messages: i64,
    last_seq: i64,
    active_runs: Vec<String>,
}

impl Census {
    /// Counts a row.
    pub(super) fn count(&mut self, row: &Row) {
        *self.rows.entry(row.table.name).or_default() += 1;
        match row.table.name {
            "thread_heads" => {
                self.next_seq = row.integer("next_seq").unwrap_or_default();
                self.message_count = row.integer("message_count").unwrap_or_default();
                self.active_run = row.text("active_run_id").map(str::to_owned);
                self.is_deleted = row.text("state") == Some("deleted");
            }
            "runs" if matches!(row.text("status"), Some("pending" | "running")) => {
                self.active_runs.extend(row.text("run_id").map(str::to_owned));
            }
            "run_events" => {
                self.last_seq = self.last_seq.max(row.integer("seq").unwrap_or_default());
                self.messages += i64::from(row.text("category") == Some("message"));
            }
            _ => {}
        }
    }

    /// Refuses rows that no ledger can have written.
    pub(super) fn check(&self, thread: &ThreadId) -> Result<()> {
        let rows = |table| self.rows.get(table).copied().unwrap_or_default();
        let wrong = if rows("thread_heads") != 1 {
            Some("has no head".to_owned())
        } else if rows("threads") != u64::from(!self.is_deleted) {
            Some("does not have the one row in threads that its head tells of".to_owned())
        } else if self.next_seq <= self.last_seq {
            Some(format!("would give seq {} again, its last event has {}", self.next_seq, self.last_seq))
        } else if self.message_count != self.messages {
            Some(format!("counts {} messages and has {}", self.message_count, self.messages))
        } else if !self.active_runs.iter().eq(&self.active_run) {
            Some(format!("names {:?} as its active run and has {:?}", self.active_run, self.active_runs))
        } else {
            None
        };
        wrong.map_or(Ok(()), |wrong| Err(Error::corrupt("thread", format!("{thread} {wrong}"))))
    }

    /// The number of the thread's next event.
    pub(super) fn next_seq(&self) -> u64 {
        u64::try_from(self.next_seq).unwrap_or_default()
    }
}
