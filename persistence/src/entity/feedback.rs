//! `feedback`: what people think of runs and messages.

use runledger_core::{Error, Feedback, Rating, Result};
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("feedback");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "feedback")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub feedback_id: String,
    pub run_id: String,
    pub item_id: Option<String>,
    pub owner_id: Option<String>,
    pub rating: i64,
    pub comment: Option<String>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

/// A rating as it is stored.
pub(crate) fn rating(number: i64) -> Result<Rating> {
    i8::try_from(number)
        .ok()
        .and_then(|number| Rating::try_from(number).ok())
        .ok_or_else(|| TABLE.corrupt("rating", "is neither 1 nor -1"))
}

impl TryFrom<Model> for Feedback {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            feedback_id: TABLE.id("feedback_id", row.feedback_id)?,
            run_id: TABLE.id("run_id", row.run_id)?,
            item_id: TABLE.optional_id("item_id", row.item_id)?,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            rating: rating(row.rating)?,
            comment: row.comment,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}
