//! `run_leases`: who holds a run, and until when.

use runledger_core::{CancelAction, Error, Lease, Result};
use sea_orm::entity::prelude::*;

use super::cell::{self, Table};

const TABLE: Table = Table("lease");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_leases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: String,
    pub worker_id: String,
    pub epoch: i64,
    pub expires_at: DateTimeUtc,
    pub cancel_action: Option<String>,
    pub cancel_requested_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Lease {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            run_id: TABLE.id("run_id", row.run_id)?,
            worker_id: TABLE.id("worker_id", row.worker_id)?,
            epoch: TABLE.count("epoch", row.epoch)?,
            expires_at: row.expires_at.into(),
            cancel_action: row.cancel_action.as_deref().map(CancelAction::from_stored),
            cancel_requested_at: cell::optional_time(row.cancel_requested_at),
        })
    }
}
