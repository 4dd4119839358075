//! Places of the write path at which a test can end the process.
//!
//! Each write boundary has one, before and after whatever makes a write durable, so that a test can
//! kill the process there and look at what the next one finds. They are compiled only with the
//! feature `failpoints`, and do nothing until a test asks for one.

macro_rules! fail_points {
    ($($(#[$docs:meta])+ $point:ident => $name:literal),+ $(,)?) => {
        /// A place of the write path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailPoint { $($(#[$docs])+ $point),+ }

        impl FailPoint {
            /// Every one there is: a test that goes through them leaves none out.
            pub const ALL: &[Self] = &[$(Self::$point),+];

            /// Its name: where it is, and what was done there last.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name),+ }
            }
        }
    };
}

fail_points! {
    /// The group is judged by remembered heads; its one call is not sent.
    GuardedUnsent => "guarded.unsent",
    /// The one call of the group is durable; nobody was answered.
    GuardedDurable => "guarded.durable",
    /// The transaction is open; no head is locked.
    LockedBegun => "locked.begun",
    /// The heads are locked and everything is read; nothing is written.
    LockedLoaded => "locked.loaded",
    /// The rows of an admission are written, its events are not.
    AdmissionWritten => "locked.admission_written",
    /// The rows of a start are written, its events are not.
    StartWritten => "locked.start_written",
    /// The rows of an end are written, its events and totals are not.
    FinishWritten => "locked.finish_written",
    /// Everything that goes before the COMMIT is written. SQLite has the hot rows in one string with it.
    LockedUncommitted => "locked.uncommitted",
    /// The COMMIT of the group is durable; nobody was answered.
    LockedDurable => "locked.durable",
    /// The group is durable and remembered; its next caller is not answered.
    Unanswered => "answer.unanswered",
    /// SQLite's log is long enough to be moved into the database; nothing is moved.
    CheckpointDue => "checkpoint.due",
    /// SQLite's log was moved into the database.
    CheckpointDone => "checkpoint.done",
    /// The rows of an edit or a deletion are written; its COMMIT is not sent.
    EditUncommitted => "edit.uncommitted",
    /// An edit or a deletion is durable; its caller is not answered.
    EditDurable => "edit.durable",
}

impl FailPoint {
    /// The place with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|point| point.name() == name)
    }

    /// Calls `action` each time that the place is reached, in the task that reaches it.
    pub fn on_reach(self, action: impl Fn() + Send + Sync + 'static) {
        // It refuses only where the crate was built without fail points, which the feature rules out.
        let _ = fail::cfg_callback(self.name(), action);
    }

    pub(crate) fn reach(self) {
        fail::fail_point!(self.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn each_place_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = FailPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), FailPoint::ALL.len());
        assert!(FailPoint::ALL.iter().all(|point| FailPoint::named(point.name()) == Some(*point)));
        assert_eq!(FailPoint::named("elsewhere"), None);
    }

    #[test]
    fn a_place_that_is_reached_calls_what_was_set_for_it_and_no_other() {
        let seen = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&seen);
        FailPoint::CheckpointDone.on_reach(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        FailPoint::CheckpointDone.reach();
        FailPoint::CheckpointDue.reach();
        FailPoint::CheckpointDone.reach();
        assert_eq!(seen.load(Ordering::Relaxed), 2);
    }
}
