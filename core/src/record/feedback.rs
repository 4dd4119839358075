//! Feedback: what people think of a run or of one of its messages.

use serde::{Deserialize, Serialize};

use super::Patch;
use crate::{Error, FeedbackId, ItemId, OwnerId, Result, RunId, Scope, ThreadId, Timestamp, text};

/// The longest comment, in characters.
const MAX_COMMENT_CHARS: usize = 10_000;

/// Whether somebody liked it. On the wire 1 and -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i8", into = "i8")]
pub enum Rating {
    /// 1.
    Up,
    /// -1.
    Down,
}

impl From<Rating> for i8 {
    fn from(rating: Rating) -> Self {
        match rating {
            Rating::Up => 1,
            Rating::Down => -1,
        }
    }
}

impl TryFrom<i8> for Rating {
    type Error = Error;

    fn try_from(number: i8) -> Result<Self> {
        match number {
            1 => Ok(Self::Up),
            -1 => Ok(Self::Down),
            _ => Err(Error::invalid("rating", format!("is {number}; it is 1 or -1"))),
        }
    }
}

/// What one person thinks of a run, or of one of its messages.
///
/// A person has one opinion of each: a second one for the same run and item takes the place of the first where
/// it is put, and is `AlreadyExists` where it is created. So has the system; what an erased owner thought is
/// nobody's, and counts as the system's then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Feedback {
    /// The thread.
    pub thread_id: ThreadId,
    /// Its id, unique within the thread.
    pub feedback_id: FeedbackId,
    /// The run it is about.
    pub run_id: RunId,
    /// The message of that run it is about; `None` is the run as a whole.
    pub item_id: Option<ItemId>,
    /// Who gave it: the scope's owner, `None` for the system. It stays when the thread is given to somebody else.
    pub owner_id: Option<OwnerId>,
    /// Whether they liked it.
    pub rating: Rating,
    /// What they wrote, at most 10,000 characters.
    pub comment: Option<String>,
    /// When it was given.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Feedback to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFeedback {
    /// The thread.
    pub thread_id: ThreadId,
    /// Its id.
    pub feedback_id: FeedbackId,
    /// The run it is about; must be of the thread.
    pub run_id: RunId,
    /// The message of that run it is about; must be an item of it.
    pub item_id: Option<ItemId>,
    /// Whether they liked it.
    pub rating: Rating,
    /// What they wrote.
    pub comment: Option<String>,
    /// When it was given.
    pub at: Timestamp,
}

/// How a run was rated, over everybody who gave feedback on it and on its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FeedbackStats {
    /// Ratings in all.
    pub total: u64,
    /// Of these, 1.
    pub positive: u64,
    /// Of these, -1.
    pub negative: u64,
}

/// A change to feedback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedbackPatch {
    /// Whether they liked it.
    pub rating: Option<Rating>,
    /// What they wrote.
    pub comment: Patch<String>,
}

/// The comment as it is stored; `InvalidInput` where it is too long.
fn cleaned(comment: &str) -> Result<String> {
    if comment.chars().nth(MAX_COMMENT_CHARS).is_some() {
        return Err(Error::invalid(
            "comment",
            format!("is too long; write at most {MAX_COMMENT_CHARS} characters"),
        ));
    }
    Ok(text::clean(comment).into_owned())
}

impl NewFeedback {
    /// Checks it and makes the record, given by the scope's owner. That the run and the item are there is
    /// the store's to see.
    pub fn into_feedback(self, scope: &Scope) -> Result<Feedback> {
        Ok(Feedback {
            comment: self.comment.as_deref().map(cleaned).transpose()?,
            thread_id: self.thread_id,
            feedback_id: self.feedback_id,
            run_id: self.run_id,
            item_id: self.item_id,
            owner_id: scope.owner().cloned(),
            rating: self.rating,
            created_at: self.at,
            updated_at: self.at,
        })
    }
}

impl Feedback {
    /// Makes the change; on an error nothing is changed.
    pub fn apply(&mut self, patch: FeedbackPatch, at: Timestamp) -> Result<()> {
        let comment = match patch.comment {
            Patch::Set(comment) => Patch::Set(cleaned(&comment)?),
            other => other,
        };
        comment.apply(&mut self.comment);
        self.rating = patch.rating.unwrap_or(self.rating);
        self.updated_at = at;
        Ok(())
    }

    /// What it is where `new` is put in its place.
    #[must_use]
    pub fn replaced_by(self, new: Self) -> Self {
        Self { feedback_id: self.feedback_id, created_at: self.created_at, ..new }
    }

    /// Whether both are the same person's opinion of the same.
    #[must_use]
    pub fn is_opinion_of(&self, other: &Self) -> bool {
        (&self.run_id, &self.item_id, &self.owner_id) == (&other.run_id, &other.item_id, &other.owner_id)
    }
}

impl FeedbackStats {
    /// Adds a rating that was given so often.
    pub fn add(&mut self, rating: Rating, times: u64) {
        self.total += times;
        match rating {
            Rating::Up => self.positive += times,
            Rating::Down => self.negative += times,
        }
    }
}
