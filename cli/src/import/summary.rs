//! What an import wrote.

use runledger_core::UsageDraft;
use serde::Serialize;

use crate::output::{Output, grouped};
use crate::{Failure, money};

/// What an import wrote. What was there before is in none of the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Files that were read.
    pub(crate) files: u64,
    /// Threads of which something was written.
    pub(crate) threads: u64,
    /// Runs of which something was written.
    pub(crate) runs: u64,
    pub(crate) events: u64,
    /// Events of category `message`.
    pub(crate) messages: u64,
    /// Model calls.
    pub(crate) usage_records: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) total_tokens: u64,
    /// Billionths of a US dollar.
    pub(crate) cost_nanos: u64,
    /// Runs that were in the ledger already.
    pub(crate) skipped: u64,
    /// Records that the store refused and that were left out.
    pub(crate) quarantined: u64,
}

impl Summary {
    pub(crate) fn add_usage(&mut self, call: &UsageDraft) {
        self.usage_records += 1;
        self.input_tokens = self.input_tokens.saturating_add(call.tokens.input);
        self.output_tokens = self.output_tokens.saturating_add(call.tokens.output);
        self.total_tokens = self.total_tokens.saturating_add(call.tokens.total);
        self.cost_nanos = self.cost_nanos.saturating_add(call.cost_nanos.unwrap_or(0));
    }

    /// Prints it, as text or as one JSON document.
    pub(crate) fn tell(&self, output: &mut Output, json: bool) -> Result<(), Failure> {
        if json {
            return output.json(self);
        }
        if self.runs == 0 {
            return output.line(format!(
                "nothing to write: all {} of {} were imported before",
                counted(self.skipped, "run"),
                counted(self.files, "file"),
            ));
        }
        output.line(format!(
            "imported {} from {}: {}, {}, {}",
            counted(self.threads, "thread"),
            counted(self.files, "file"),
            counted(self.runs, "run"),
            counted(self.events, "event"),
            counted(self.messages, "message"),
        ))?;
        if self.usage_records > 0 {
            output.line(format!(
                "{}: {} input + {} output = {} tokens, {}",
                counted(self.usage_records, "model call"),
                grouped(self.input_tokens),
                grouped(self.output_tokens),
                grouped(self.total_tokens),
                money::shown(self.cost_nanos),
            ))?;
        }
        if self.skipped > 0 {
            output.line(format!("skipped {} imported before", counted(self.skipped, "run")))?;
        }
        Ok(())
    }
}

pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}
