//! Interactions: what a run asked a person, and what the person answered.
//!
//! A run that needs an answer ends, as interrupted with the stop reason
//! [`WAITING_FOR_INPUT`](super::Outcome::WAITING_FOR_INPUT), so that nothing is held while a person
//! thinks. The answer is the input of a new run, in any process.

use serde::{Deserialize, Serialize};

use crate::wire::text_enum;
use crate::{InteractionId, ItemId, OwnerId, RawJson, RunId, ThreadId, Timestamp};

text_enum! {
    /// Where an interaction stands.
    pub enum InteractionStatus {
        /// Nobody has answered.
        Open = "open",
        /// It was answered, once. The answer goes when the run is deleted that was admitted with it.
        Answered = "answered",
    }
}

/// A question that a run ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInteraction {
    /// Its id, unique within the thread.
    pub interaction_id: InteractionId,
    /// What kind of question it is, 1 to 64 characters: `clarification`, `approval`, or the application's own word.
    pub kind: String,
    /// The question, in the application's own shape.
    pub request: RawJson,
    /// The item it is about: the tool call to approve, say.
    pub item_id: Option<ItemId>,
}

impl NewInteraction {
    /// The record of it.
    #[must_use]
    pub fn into_interaction(
        self,
        thread_id: ThreadId,
        run_id: RunId,
        owner_id: Option<OwnerId>,
        at: Timestamp,
    ) -> Interaction {
        Interaction {
            thread_id,
            interaction_id: self.interaction_id,
            owner_id,
            run_id,
            item_id: self.item_id,
            kind: self.kind,
            request: self.request,
            status: InteractionStatus::Open,
            answer: None,
            answer_run_id: None,
            created_at: at,
            answered_at: None,
        }
    }
}

/// The answer to a question, given with the admission of the run that goes on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question. `NotFound` where the thread has none with this id, `Conflict` where it was answered. An answer
    /// that nothing goes on with, because its run is hidden or ended in the queue, gives way to this one.
    pub interaction_id: InteractionId,
    /// The answer, in the application's own shape.
    pub value: RawJson,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Interaction {
    /// The thread.
    pub thread_id: ThreadId,
    /// Its id, unique within the thread.
    pub interaction_id: InteractionId,
    /// The thread's owner.
    pub owner_id: Option<OwnerId>,
    /// The run that asked.
    pub run_id: RunId,
    /// The item it is about.
    pub item_id: Option<ItemId>,
    /// What kind of question it is.
    pub kind: String,
    /// The question.
    pub request: RawJson,
    /// Where it stands.
    pub status: InteractionStatus,
    /// The answer.
    pub answer: Option<RawJson>,
    /// The run that was admitted with the answer.
    pub answer_run_id: Option<RunId>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
}
