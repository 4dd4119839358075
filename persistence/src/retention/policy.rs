//! What is old, and whether it goes.

use std::time::Duration;

use runledger_core::{Category, Error, Result};
use serde::Serialize;

/// Whether anything is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneMode {
    /// What is old goes.
    #[default]
    Remove,
    /// Nothing is written; the report says what would go.
    DryRun,
}

/// Which events are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunePolicy {
    /// How long ago a run has ended, or an event of no run has happened, before it is old; by the database's clock.
    /// At most [`Self::MAX_AGE`].
    pub older_than: Duration,
    /// Only events of these categories, at most [`Self::MAX_CATEGORIES`]; empty is all.
    pub categories: Vec<Category>,
    /// So many runs of each thread stay whole: the newest, in the order in which runs are listed, whatever their status
    /// and visibility. So do the thread's own events from the `first_seq` of the first of them on.
    pub keep_last: u32,
    /// Whether anything is written.
    pub mode: PruneMode,
}

impl PrunePolicy {
    /// A hundred years: longer is a mistake, and beyond what every database can count back.
    pub const MAX_AGE: Duration = Duration::from_secs(36_525 * 86_400);

    /// The most categories of one policy.
    pub const MAX_CATEGORIES: usize = 100;

    /// Everything that is older goes.
    #[must_use]
    pub fn new(older_than: Duration) -> Self {
        Self { older_than, categories: Vec::new(), keep_last: 0, mode: PruneMode::Remove }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.older_than > Self::MAX_AGE {
            let days = Self::MAX_AGE.as_secs() / 86_400;
            return Err(Error::invalid(
                "older_than",
                format!("is {:?}; give at most {days} days", self.older_than),
            ));
        }
        if self.categories.len() > Self::MAX_CATEGORIES {
            let (given, most) = (self.categories.len(), Self::MAX_CATEGORIES);
            return Err(Error::invalid(
                "categories",
                format!("has {given}; give at most {most}, or none for all"),
            ));
        }
        for category in &self.categories {
            Category::new(category.as_str())?;
        }
        Ok(())
    }

    /// What `deletions` says of it.
    pub(crate) fn reason(&self) -> String {
        let mut reason = format!("pruned: older than {}", age(self.older_than));
        if !self.categories.is_empty() {
            let words: Vec<&str> = self.categories.iter().map(Category::as_str).collect();
            reason.push_str(&format!("; category {}", words.join(", ")));
        }
        if self.keep_last > 0 {
            reason.push_str(&format!("; but the last {} of the thread", counted_runs(self.keep_last)));
        }
        reason
    }
}

fn counted_runs(number: u32) -> String {
    format!("{number} run{}", if number == 1 { "" } else { "s" })
}

/// In the largest unit that says it exactly.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    if age.subsec_nanos() > 0 || seconds == 0 {
        return format!("{}s", age.as_secs_f64());
    }
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    unit.map_or_else(String::new, |(unit, letter)| format!("{}{letter}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::ErrorKind;

    #[test]
    fn the_reason_tells_the_policy() {
        let policy = PrunePolicy::new(Duration::from_secs(30 * 86_400));
        assert_eq!(policy.reason(), "pruned: older than 30d");
        let narrow = PrunePolicy {
            older_than: Duration::from_secs(90 * 60),
            categories: vec![Category::Trace, Category::Middleware],
            keep_last: 1,
            ..policy
        };
        assert_eq!(
            narrow.reason(),
            "pruned: older than 90m; category trace, middleware; but the last 1 run of the thread"
        );
        assert_eq!(
            [0, 1, 1_500, 7_200_000].map(|ms| age(Duration::from_millis(ms))),
            ["0s", "0.001s", "1.5s", "2h"]
        );
    }

    #[test]
    fn what_no_database_can_count_back_is_refused() {
        let ages = [PrunePolicy::MAX_AGE, PrunePolicy::MAX_AGE + Duration::from_nanos(1), Duration::MAX];
        let kinds = ages.map(|age| PrunePolicy::new(age).check().map_err(|error| error.kind()));
        assert_eq!(kinds, [Ok(()), Err(ErrorKind::InvalidInput), Err(ErrorKind::InvalidInput)]);
        for categories in [vec![Category::from_stored("a\0b")], vec![Category::Trace; 101]] {
            let policy = PrunePolicy { categories, ..PrunePolicy::new(Duration::ZERO) };
            assert_eq!(policy.check().map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
        }
    }
}
