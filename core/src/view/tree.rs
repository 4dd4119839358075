//! Trees of threads: which go with one that is deleted, and where the others belong then.

use std::collections::BTreeMap;

use crate::ThreadId;
use crate::record::ThreadLifecycle;

/// A thread, as far as its place in a tree goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The thread.
    pub thread_id: ThreadId,
    /// The thread whose agent spawned it.
    pub parent_thread_id: Option<ThreadId>,
    /// What happens to it when its parent ends.
    pub lifecycle: ThreadLifecycle,
    /// 0 for a root thread, its parent's plus 1 otherwise.
    pub spawn_depth: u32,
}

/// What the deletion of a thread means for all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Felled {
    /// The threads that go, the deleted one first.
    pub going: Vec<ThreadId>,
    /// Those that are left without the thread that spawned them: where they belong now.
    pub given: Vec<Place>,
    /// Those below the given ones, which only come nearer to the root.
    pub lifted: Vec<Place>,
}

/// Judges the deletion of `root`. `above` is the thread above it, where there is one; `below` are the threads
/// below it, in any order.
///
/// Ephemeral and linked children go with their parent. What is detached, or has a lifecycle of a newer version,
/// is given to the thread above, and keeps what is below it.
#[must_use]
pub fn fell(root: &ThreadId, above: Option<&Place>, below: &[Place]) -> Felled {
    let mut children: BTreeMap<&ThreadId, Vec<&Place>> = BTreeMap::new();
    for place in below.iter().filter(|place| place.thread_id != *root) {
        if let Some(parent) = &place.parent_thread_id {
            children.entry(parent).or_default().push(place);
        }
    }
    let mut felled = Felled { going: vec![root.clone()], ..Felled::default() };
    let mut next = 0;
    while let Some(parent) = felled.going.get(next).cloned() {
        next += 1;
        // Each is taken from under its parent once, so that rows which name each other end, too.
        for child in children.remove(&parent).unwrap_or_default() {
            match child.lifecycle {
                ThreadLifecycle::Ephemeral | ThreadLifecycle::Linked => {
                    felled.going.push(child.thread_id.clone());
                }
                ThreadLifecycle::Detached | ThreadLifecycle::Unknown(_) => felled.given.push(Place {
                    parent_thread_id: above.map(|above| above.thread_id.clone()),
                    spawn_depth: above.map_or(0, |above| above.spawn_depth.saturating_add(1)),
                    ..child.clone()
                }),
            }
        }
    }
    let mut parents: Vec<Place> = felled.given.clone();
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent.thread_id).unwrap_or_default() {
            let lifted = Place { spawn_depth: parent.spawn_depth.saturating_add(1), ..child.clone() };
            felled.lifted.push(lifted.clone());
            parents.push(lifted);
        }
    }
    felled
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn place(id: &str, parent: Option<&str>, lifecycle: ThreadLifecycle, spawn_depth: u32) -> Place {
        Place {
            thread_id: ThreadId::new(id).unwrap(),
            parent_thread_id: parent.map(|parent| ThreadId::new(parent).unwrap()),
            lifecycle,
            spawn_depth,
        }
    }

    #[test]
    fn detached_children_are_given_away_with_all_below_them() {
        use ThreadLifecycle::{Detached, Ephemeral, Linked};
        let below = [
            place("linked", Some("root"), Linked, 2),
            place("spent", Some("linked"), Ephemeral, 3),
            place("detached", Some("spent"), Detached, 4),
            place("its own", Some("detached"), Ephemeral, 5),
            place("deeper", Some("its own"), Linked, 6),
        ];
        let top = place("top", None, Detached, 0);
        let felled = fell(&ThreadId::new("root").unwrap(), Some(&top), &below);
        let going: Vec<&str> = felled.going.iter().map(ThreadId::as_str).collect();
        assert_eq!(going, ["root", "linked", "spent"]);
        assert_eq!(felled.given, [place("detached", Some("top"), Detached, 1)]);
        let lifted =
            [place("its own", Some("detached"), Ephemeral, 2), place("deeper", Some("its own"), Linked, 3)];
        assert_eq!(felled.lifted, lifted);
        let felled = fell(&ThreadId::new("root").unwrap(), None, &below);
        assert_eq!(felled.given, [place("detached", None, Detached, 0)]);
    }

    #[test]
    fn rows_that_name_each_other_end() {
        use ThreadLifecycle::Linked;
        let below = [place("a", Some("b"), Linked, 1), place("b", Some("a"), Linked, 1)];
        let going = fell(&ThreadId::new("a").unwrap(), None, &below).going;
        assert_eq!(going.iter().map(ThreadId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
