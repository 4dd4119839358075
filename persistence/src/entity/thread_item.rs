//! `thread_items`: the item index.

use runledger_core::{Caller, Error, ItemEntry, ItemKind, ItemStatus, Result};
use sea_orm::entity::prelude::*;

use super::cell::{self, Table, by_position};

const TABLE: Table = Table("item");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "thread_items")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub item_id: String,
    pub item_kind: String,
    pub status: String,
    pub started_seq: i64,
    pub completed_seq: Option<i64>,
    pub updated_seq: i64,
    pub started_at: DateTimeUtc,
    pub completed_at: Option<DateTimeUtc>,
    pub parent_item_id: Option<String>,
    pub call_id: Option<String>,
    pub caller: Option<String>,
    pub claimed_epoch: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}

by_position! {
    thread_id, run_id, item_id, item_kind, status, started_seq, completed_seq, updated_seq, started_at,
    completed_at, parent_item_id, call_id, caller, claimed_epoch,
}

impl TryFrom<Model> for ItemEntry {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            run_id: TABLE.id("run_id", row.run_id)?,
            item_id: TABLE.id("item_id", row.item_id)?,
            item_kind: ItemKind::from_stored(&row.item_kind),
            status: ItemStatus::from_stored(&row.status),
            started_seq: TABLE.count("started_seq", row.started_seq)?,
            completed_seq: TABLE.optional_count("completed_seq", row.completed_seq)?,
            updated_seq: TABLE.count("updated_seq", row.updated_seq)?,
            started_at: row.started_at.into(),
            completed_at: cell::optional_time(row.completed_at),
            parent_item_id: TABLE.optional_id("parent_item_id", row.parent_item_id)?,
            call_id: TABLE.optional_id("call_id", row.call_id)?,
            caller: row.caller.as_deref().map(Caller::from_stored),
            claimed_epoch: TABLE.optional_count("claimed_epoch", row.claimed_epoch)?,
        })
    }
}
