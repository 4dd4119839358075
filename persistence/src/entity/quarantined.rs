//! `quarantine`: what an import could not store as it was.

use runledger_core::{Error, Quarantined, Result};
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("quarantined part");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "quarantine")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub quarantine_id: String,
    pub seq: Option<i64>,
    pub source: Option<String>,
    pub reason: String,
    pub content_hash: String,
    pub content: Option<String>,
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Quarantined {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            quarantine_id: TABLE.id("quarantine_id", row.quarantine_id)?,
            seq: TABLE.optional_count("seq", row.seq)?,
            source: row.source,
            reason: row.reason,
            content_hash: row.content_hash,
            content: row.content,
            created_at: row.created_at.into(),
        })
    }
}
