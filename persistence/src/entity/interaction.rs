//! `interactions`: questions to people, and their answers.

use runledger_core::{Error, Interaction, InteractionStatus, RawJson, Result};
use sea_orm::entity::prelude::*;

use super::cell::{self, Table};

const TABLE: Table = Table("interaction");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "interactions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub interaction_id: String,
    pub owner_id: Option<String>,
    pub run_id: String,
    pub item_id: Option<String>,
    pub kind: String,
    pub request: String,
    pub status: String,
    pub answer: Option<String>,
    pub answer_run_id: Option<String>,
    pub created_at: DateTimeUtc,
    pub answered_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Interaction {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            interaction_id: TABLE.id("interaction_id", row.interaction_id)?,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            run_id: TABLE.id("run_id", row.run_id)?,
            item_id: TABLE.optional_id("item_id", row.item_id)?,
            kind: row.kind,
            request: RawJson::from_stored(&row.request),
            status: InteractionStatus::from_stored(&row.status),
            answer: row.answer.as_deref().map(RawJson::from_stored),
            answer_run_id: TABLE.optional_id("answer_run_id", row.answer_run_id)?,
            created_at: row.created_at.into(),
            answered_at: cell::optional_time(row.answered_at),
        })
    }
}
