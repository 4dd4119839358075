//! `compactions`: which events a note stands for, and what is left beside it.

use runledger_core::{Compaction, Error, Result, SeqSpan};
use sea_orm::entity::prelude::*;

use super::cell::Table;

const TABLE: Table = Table("compaction");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "compactions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub compact_seq: i64,
    pub note_seq: i64,
    pub folded: String,
    pub active_window: String,
    pub through_seq: i64,
    pub before_tokens: i64,
    pub after_tokens: i64,
    pub round_index: Option<i64>,
    pub run_id: String,
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

/// Spans as they are stored: `[[3,7],[9,9]]`.
pub(crate) fn spans_text(spans: &[SeqSpan]) -> String {
    // Numbers always have a JSON form.
    serde_json::to_string(spans).unwrap_or_default()
}

/// Reads what [`spans_text`] wrote.
pub(crate) fn spans(column: &'static str, text: &str) -> Result<Vec<SeqSpan>> {
    serde_json::from_str(text).map_err(|_| TABLE.corrupt(column, "holds no spans of numbers"))
}

impl TryFrom<Model> for Compaction {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            compact_seq: TABLE.count("compact_seq", row.compact_seq)?,
            note_seq: TABLE.count("note_seq", row.note_seq)?,
            run_id: TABLE.id("run_id", row.run_id)?,
            folded: spans("folded", &row.folded)?,
            window: spans("active_window", &row.active_window)?,
            through_seq: TABLE.count("through_seq", row.through_seq)?,
            before_tokens: TABLE.count("before_tokens", row.before_tokens)?,
            after_tokens: TABLE.count("after_tokens", row.after_tokens)?,
            round_index: TABLE.optional_count("round_index", row.round_index)?,
            created_at: row.created_at.into(),
        })
    }
}
