//! `compactions`: which events a note stands for.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "compactions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub compact_seq: i64,
    pub note_seq: i64,
    pub folded: String,
    pub active_window: String,
    pub before_tokens: i64,
    pub after_tokens: i64,
    pub round_index: Option<i64>,
    pub run_id: Option<String>,
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
