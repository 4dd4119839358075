//! Leases: which worker holds a run, and until when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::wire::text_enum;
use crate::{RunId, ThreadId, Timestamp, WorkerId};

text_enum! {
    /// What a run that is asked to stop is to become.
    pub enum CancelAction {
        /// Interrupted; what it did is kept and shown.
        Interrupt = "interrupt",
        /// Undone: it ends as an error with the stop reason `rolled_back`, and readers leave it out.
        Rollback = "rollback",
    }
}

impl CancelAction {
    /// How a run ends that was asked to stop like this. An action of a newer version stops it too.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupt | Self::Unknown(_) => Outcome::interrupted(Outcome::CANCELLED),
            Self::Rollback => Outcome::rolled_back(),
        }
    }
}

/// A lease to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLease {
    /// The worker that holds the run.
    pub worker_id: WorkerId,
    /// How long it lasts without a renewal, from 1 microsecond to 24 hours.
    pub ttl: Duration,
}

/// Who holds a run, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// The run's thread.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// The worker that holds it.
    pub worker_id: WorkerId,
    /// The epoch it holds it under.
    pub epoch: u64,
    /// When the lease ends unless it is renewed, by the database's clock.
    pub expires_at: Timestamp,
    /// What the run was asked to become, by whoever asked first.
    pub cancel_action: Option<CancelAction>,
    /// When that was.
    pub cancel_requested_at: Option<Timestamp>,
}
