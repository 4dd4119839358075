//! The numbers of a log that were removed, and what their absence explains.

use crate::record::SeqSpan;
use crate::view::items::ItemChange;
use crate::{ItemEntry, Run};

/// The ranges of a thread's numbers that were removed, joined where they touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed(Vec<SeqSpan>);

impl Removed {
    /// Adds a range. They come in ascending order of where they begin; the note of a thread that went, from 0, is
    /// no range of events.
    pub fn add(&mut self, span: SeqSpan) {
        if span.from == 0 {
            return;
        }
        match self.0.last_mut() {
            Some(last) if span.from <= last.through.saturating_add(1) => {
                last.through = last.through.max(span.through);
            }
            _ => self.0.push(span),
        }
    }

    /// Whether a number from `from` through `through` was removed.
    #[must_use]
    pub fn touches(&self, from: u64, through: u64) -> bool {
        let next = self.0.partition_point(|span| span.through < from);
        self.0.get(next).is_some_and(|span| span.from <= through)
    }

    /// What of the range was not removed.
    #[must_use]
    pub fn without(&self, from: u64, through: u64) -> Vec<SeqSpan> {
        let mut left = Vec::new();
        let mut from = from;
        let next = self.0.partition_point(|span| span.through < from);
        for span in self.0.iter().skip(next).take_while(|span| span.from <= through) {
            if from < span.from {
                left.push(SeqSpan { from, through: span.from - 1 });
            }
            from = span.through.saturating_add(1);
        }
        if from <= through {
            left.push(SeqSpan { from, through });
        }
        left
    }

    /// The last number that was removed.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|span| span.through)
    }

    /// Whether an item of which the index has no row may have had one: retention went through its run and took
    /// the record that completed it. Retention leaves runs alone that have not ended, and those with an open item.
    #[must_use]
    pub fn may_have_completed(&self, run: &Run) -> bool {
        run.status.is_terminal() && self.took_of(run, run.last_seq.unwrap_or_default())
    }

    /// Whether the start of an item of which the log has the completion alone may have been removed, so that its
    /// row may say more than the log.
    #[must_use]
    pub fn may_have_begun(&self, run: &Run, change: &ItemChange) -> bool {
        let is_alone = change.completed_seq == Some(change.started_seq);
        is_alone && run.status.is_terminal() && self.took_of(run, change.updated_seq)
    }

    fn took_of(&self, run: &Run, through: u64) -> bool {
        run.first_seq.is_some_and(|first| self.touches(first, through))
    }
}

/// What a row has of the records of its item that were removed, given back to what is left of them.
///
/// `stored` is the row, whose item the log tells as `change` where an earlier record of it [may have been
/// removed](Removed::may_have_begun).
#[must_use]
pub fn with_removed(mut change: ItemChange, stored: &ItemEntry) -> ItemChange {
    if stored.started_seq != change.started_seq || stored.completed_seq != change.completed_seq {
        return change;
    }
    change.kind = stored.item_kind.clone();
    change.started_at = stored.started_at;
    change.call_id = change.call_id.or_else(|| stored.call_id.clone());
    change.parent_item_id = change.parent_item_id.or_else(|| stored.parent_item_id.clone());
    change.caller = change.caller.or_else(|| stored.caller.clone());
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn span(from: u64, through: u64) -> SeqSpan {
        SeqSpan { from, through }
    }

    #[test]
    fn ranges_are_joined_and_taken_out_of_others() {
        let mut removed = Removed::default();
        for range in [span(0, 90), span(3, 4), span(5, 5), span(5, 4), span(9, 12)] {
            removed.add(range);
        }
        assert_eq!(removed, Removed(vec![span(3, 5), span(9, 12)]));
        assert_eq!(removed.without(1, 14), [span(1, 2), span(6, 8), span(13, 14)]);
        assert_eq!(removed.without(4, 10), [span(6, 8)]);
        assert_eq!(removed.without(10, 11), []);
        assert_eq!(removed.without(6, 8), [span(6, 8)]);
        assert_eq!(
            [(1, 2), (2, 3), (6, 8), (12, 20), (13, 20)].map(|(a, b)| removed.touches(a, b)),
            [false, true, false, true, false]
        );
        assert_eq!(removed.last(), Some(12));
    }
}
