//! `queued_inputs`: what a queued run begins with, until it is admitted.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "queued_inputs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: String,
    pub input: String,
    pub worker_id: Option<String>,
    pub lease_micros: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
