//! What an import found in a rollout.

use std::collections::BTreeMap;

use serde::Serialize;

/// The most findings of a kind that are listed; all are counted.
const LISTED: usize = 100;

/// One file, and what was read of it now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RolloutReport {
    pub(crate) file: String,
    pub(crate) thread_id: String,
    pub(crate) rollout_id: String,
    /// Where reading began: above 0 where the file was imported before.
    pub(crate) from_byte: u64,
    /// Up to where it is imported.
    pub(crate) through_byte: u64,
    /// Lines that were read.
    pub(crate) lines: u64,
    /// Of them: those that are in the log now.
    pub(crate) imported: u64,
    /// Lines of other files that this one goes on from.
    pub(crate) inherited: u64,
    pub(crate) blank: u64,
    /// Lines that repeat another one byte for byte.
    pub(crate) duplicates: u64,
    pub(crate) quarantined: Findings<Unreadable>,
    /// The end of the file, where it is no whole record: it is left for the next import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left: Option<Unreadable>,
    pub(crate) ordinals: Ordinals,
    /// Kinds of records that are not known, and how many: they are kept as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) unknown_kinds: BTreeMap<String, u64>,
    /// What could not be found: the history that the file goes on from, or its parent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<String>,
}

impl RolloutReport {
    /// Whether something is not as Codex writes it.
    pub(crate) fn is_damaged(&self) -> bool {
        self.quarantined.count > 0
            || self.left.is_some()
            || self.ordinals != Ordinals::default()
            || !self.missing.is_empty()
    }
}

/// Findings of one kind, the first of them listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Findings<T> {
    pub(crate) count: u64,
    pub(crate) first: Vec<T>,
}

impl<T> Default for Findings<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T> Findings<T> {
    pub(crate) fn add(&mut self, found: T) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(found);
        }
    }
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unreadable {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: &'static str,
}

/// What is odd about the numbers of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ordinals {
    /// Numbers that no line has, as the first and the last of each gap.
    pub(crate) missing: Findings<[u64; 2]>,
    /// Numbers that several different lines have.
    pub(crate) reused: Findings<u64>,
    /// Numbers that come after a larger one.
    pub(crate) decreasing: Findings<u64>,
    /// Lines without a number, where the others have one.
    pub(crate) lacking: u64,
}
