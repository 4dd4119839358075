//! `api_tokens`: what programs and browsers show to say on whose behalf they ask, hashed.

use runledger_core::{ApiToken, Error, Result};
use sea_orm::entity::prelude::*;

use super::cell::{self, Table};

const TABLE: Table = Table("token");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_id: String,
    pub token_hash: String,
    pub owner_id: Option<String>,
    pub label: Option<String>,
    pub created_at: DateTimeUtc,
    pub expires_at: Option<DateTimeUtc>,
    pub revoked_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for ApiToken {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            token_id: TABLE.id("token_id", row.token_id)?,
            token_hash: row.token_hash,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            label: row.label,
            created_at: row.created_at.into(),
            expires_at: cell::optional_time(row.expires_at),
            revoked_at: cell::optional_time(row.revoked_at),
        })
    }
}
