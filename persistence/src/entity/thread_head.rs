//! `thread_heads`: the narrow row that every append is checked against, and every reader's owner probe.

use runledger_core::{Error, HeadState, Result, ThreadHead};
use sea_orm::entity::prelude::*;

use super::cell::{Table, by_position};

const TABLE: Table = Table("thread head");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "thread_heads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    pub owner_id: Option<String>,
    pub parent_thread_id: Option<String>,
    pub state: String,
    pub next_seq: i64,
    pub message_count: i64,
    pub active_run_id: Option<String>,
    pub epoch: i64,
    pub journal_ordinal: i64,
    pub last_compact_seq: Option<i64>,
    pub updated_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

by_position! {
    thread_id, owner_id, parent_thread_id, state, next_seq, message_count, active_run_id, epoch,
    journal_ordinal, last_compact_seq, updated_at,
}

impl TryFrom<Model> for ThreadHead {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            state: HeadState::from_stored(&row.state),
            next_seq: TABLE.count("next_seq", row.next_seq)?,
            message_count: TABLE.count("message_count", row.message_count)?,
            active_run_id: TABLE.optional_id("active_run_id", row.active_run_id)?,
            epoch: TABLE.count("epoch", row.epoch)?,
            journal_ordinal: TABLE.count("journal_ordinal", row.journal_ordinal)?,
            parent_thread_id: TABLE.optional_id("parent_thread_id", row.parent_thread_id)?,
            last_compact_seq: TABLE.optional_count("last_compact_seq", row.last_compact_seq)?,
        })
    }
}
