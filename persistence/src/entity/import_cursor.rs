//! `import_cursors`: how far sources were read.

use runledger_core::{Error, ImportCursor, Result};
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("import cursor");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_cursors")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub source: String,
    pub byte_offset: i64,
    pub last_line_hash: Option<String>,
    pub thread_id: Option<String>,
    pub updated_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for ImportCursor {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            source: TABLE.id("source", row.source)?,
            byte_offset: TABLE.count("byte_offset", row.byte_offset)?,
            last_line_hash: row.last_line_hash,
            updated_at: row.updated_at.into(),
        })
    }
}
