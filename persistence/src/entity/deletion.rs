//! `deletions`: which numbers of a log were taken away.

use runledger_core::{Deletion, Error, Result};
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("deletion");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deletions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub from_seq: i64,
    pub through_seq: i64,
    pub reason: String,
    pub deleted_by: Option<String>,
    pub deleted_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Deletion {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            from_seq: TABLE.count("from_seq", row.from_seq)?,
            through_seq: TABLE.count("through_seq", row.through_seq)?,
            reason: row.reason,
            deleted_by: TABLE.optional_id("deleted_by", row.deleted_by)?,
            deleted_at: row.deleted_at.into(),
        })
    }
}
