//! `threads`: what a conversation is, for those who list and edit it.

use runledger_core::{Error, Result, Thread, ThreadKind, ThreadLifecycle, ThreadStatus};
use sea_orm::entity::prelude::*;

use super::cell::{self, Table, by_position};

const TABLE: Table = Table("thread");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "threads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    pub owner_id: Option<String>,
    pub assistant_id: Option<String>,
    pub display_name: Option<String>,
    pub status: String,
    pub kind: String,
    pub parent_thread_id: Option<String>,
    pub spawn_run_id: Option<String>,
    pub spawn_item_id: Option<String>,
    pub spawn_depth: i64,
    pub lifecycle: String,
    pub forked_from_thread_id: Option<String>,
    pub forked_at_seq: Option<i64>,
    pub system_prompt: Option<String>,
    pub model: Option<String>,
    // As text: a JSON value of a driver would round numbers.
    #[sea_orm(column_type = "JsonBinary", select_as = "text")]
    pub config: String,
    #[sea_orm(column_type = "JsonBinary", select_as = "text")]
    pub metadata: String,
    pub pinned: bool,
    pub archived_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

by_position! {
    thread_id, owner_id, assistant_id, display_name, status, kind, parent_thread_id, spawn_run_id,
    spawn_item_id, spawn_depth, lifecycle, forked_from_thread_id, forked_at_seq, system_prompt, model, config,
    metadata, pinned, archived_at, created_at, updated_at,
}

impl TryFrom<Model> for Thread {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            assistant_id: TABLE.optional_id("assistant_id", row.assistant_id)?,
            display_name: row.display_name,
            status: ThreadStatus::from_stored(&row.status),
            kind: ThreadKind::from_stored(&row.kind),
            parent_thread_id: TABLE.optional_id("parent_thread_id", row.parent_thread_id)?,
            spawn_run_id: TABLE.optional_id("spawn_run_id", row.spawn_run_id)?,
            spawn_item_id: TABLE.optional_id("spawn_item_id", row.spawn_item_id)?,
            spawn_depth: u32::try_from(row.spawn_depth)
                .map_err(|_| TABLE.corrupt("spawn_depth", "is out of range"))?,
            lifecycle: ThreadLifecycle::from_stored(&row.lifecycle),
            forked_from_thread_id: TABLE.optional_id("forked_from_thread_id", row.forked_from_thread_id)?,
            forked_at_seq: TABLE.optional_count("forked_at_seq", row.forked_at_seq)?,
            system_prompt: row.system_prompt,
            model: row.model,
            config: cell::jsonb(&row.config),
            metadata: cell::jsonb(&row.metadata),
            pinned: row.pinned,
            archived_at: cell::optional_time(row.archived_at),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}
