//! `usage_records`: one row per model call.

use runledger_core::{Caller, Error, RawJson, Result, TokenCounts, UsageRecord};
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("usage record");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_records")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub source_id: String,
    pub owner_id: Option<String>,
    pub run_id: Option<String>,
    pub round_index: Option<i64>,
    pub caller: String,
    pub provider: Option<String>,
    pub model: Option<String>,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub total_tokens: i64,
    pub cache_read_tokens: i64,
    pub cache_write_tokens: i64,
    pub reasoning_tokens: i64,
    pub cost_nanos: Option<i64>,
    pub price_table: Option<String>,
    pub estimated: bool,
    pub latency_ms: Option<i64>,
    pub child_thread_id: Option<String>,
    pub raw: Option<String>,
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    fn tokens(&self) -> Result<TokenCounts> {
        Ok(TokenCounts {
            input: TABLE.count("input_tokens", self.input_tokens)?,
            output: TABLE.count("output_tokens", self.output_tokens)?,
            total: TABLE.count("total_tokens", self.total_tokens)?,
            cache_read: TABLE.count("cache_read_tokens", self.cache_read_tokens)?,
            cache_write: TABLE.count("cache_write_tokens", self.cache_write_tokens)?,
            reasoning: TABLE.count("reasoning_tokens", self.reasoning_tokens)?,
        })
    }
}

impl TryFrom<Model> for UsageRecord {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            tokens: row.tokens()?,
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            source_id: TABLE.id("source_id", row.source_id)?,
            owner_id: TABLE.optional_id("owner_id", row.owner_id)?,
            run_id: TABLE.optional_id("run_id", row.run_id)?,
            round_index: TABLE.optional_count("round_index", row.round_index)?,
            caller: Caller::from_stored(&row.caller),
            provider: row.provider,
            model: row.model,
            cost_nanos: TABLE.optional_count("cost_nanos", row.cost_nanos)?,
            price_table: row.price_table,
            estimated: row.estimated,
            latency_ms: TABLE.optional_count("latency_ms", row.latency_ms)?,
            child_thread_id: TABLE.optional_id("child_thread_id", row.child_thread_id)?,
            raw: row.raw.as_deref().map(RawJson::from_stored),
            created_at: row.created_at.into(),
        })
    }
}
