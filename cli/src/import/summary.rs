//! What an import wrote.

use runledger_core::UsageDraft;
use serde::Serialize;

use super::codex::RolloutReport;
use crate::output::{Output, grouped};
use crate::{Failure, money};

/// What an import wrote. What was there before is in none of the sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// What was found in rollouts, by file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rollouts: Vec<RolloutReport>,
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
        if self.runs == 0 && self.events == 0 {
            self.tell_rollouts(output)?;
            return output.line(format!(
                "nothing to write: all {} of {} were imported before",
                counted(self.skipped, if self.rollouts.is_empty() { "run" } else { "rollout" }),
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
            let what = if self.rollouts.is_empty() { "run" } else { "rollout" };
            output.line(format!("skipped {} imported before", counted(self.skipped, what)))?;
        }
        self.tell_rollouts(output)
    }

    /// What is not as it should be in rollouts.
    fn tell_rollouts(&self, output: &mut Output) -> Result<(), Failure> {
        for rollout in self.rollouts.iter().filter(|rollout| rollout.is_damaged()) {
            output.note(format!("{}:", rollout.file))?;
            for line in &rollout.quarantined.first {
                output.note(format!(
                    "  byte {}: {}, {} kept apart",
                    line.offset,
                    line.reason,
                    counted(line.bytes, "byte")
                ))?;
            }
            if let Some(left) = &rollout.left {
                output.note(format!("  byte {}: {}, left for the next import", left.offset, left.reason))?;
            }
            let ordinals = &rollout.ordinals;
            for (what, count) in [
                ("gap in the ordinals", ordinals.missing.count),
                ("reused ordinal", ordinals.reused.count),
                ("decreasing ordinal", ordinals.decreasing.count),
                ("line without an ordinal", ordinals.lacking),
            ] {
                if count > 0 {
                    output.note(format!("  {}", counted(count, what)))?;
                }
            }
            for missing in &rollout.missing {
                output.note(format!("  missing: {missing}"))?;
            }
        }
        Ok(())
    }
}

pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}
