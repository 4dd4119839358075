//! On whose behalf a call is made.

use crate::OwnerId;

/// On whose behalf a store call is made. Every call takes one; there is no default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One owner: sees what it owns, and nothing else exists.
    Owner(OwnerId),
    /// The system itself: sees everything, rows without an owner included.
    System,
}

impl Scope {
    /// The owner that new rows are stamped with, `None` for the system.
    #[must_use]
    pub fn owner(&self) -> Option<&OwnerId> {
        match self {
            Self::Owner(owner) => Some(owner),
            Self::System => None,
        }
    }

    /// Whether a row with this owner is visible. Rows without an owner are the system's only.
    #[must_use]
    pub fn sees(&self, owner: Option<&OwnerId>) -> bool {
        match self {
            Self::Owner(own) => owner == Some(own),
            Self::System => true,
        }
    }
}
