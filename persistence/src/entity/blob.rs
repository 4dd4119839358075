//! `blobs`: large parts of payloads, once per thread.

use runledger_core::{Blob, BlobEntry, BlobHash, Error, Result};
use sea_orm::FromQueryResult;
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("blob");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub blob_hash: String,
    pub media_type: String,
    pub bytes: i64,
    #[sea_orm(column_type = "Blob")]
    pub content: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}

fn hash(stored: &str) -> Result<BlobHash> {
    BlobHash::new(stored).map_err(|_| TABLE.corrupt("blob_hash", "holds no hash"))
}

impl TryFrom<Model> for Blob {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Self::from_stored(&hash(&row.blob_hash)?, row.media_type, row.content)
    }
}

/// What a listing reads of a blob.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Listed {
    blob_hash: String,
    media_type: String,
    bytes: i64,
    events: i64,
}

impl TryFrom<Listed> for BlobEntry {
    type Error = Error;

    fn try_from(row: Listed) -> Result<Self> {
        Ok(Self {
            hash: hash(&row.blob_hash)?,
            media_type: row.media_type,
            bytes: TABLE.count("bytes", row.bytes)?,
            events: TABLE.count("events", row.events)?,
        })
    }
}
