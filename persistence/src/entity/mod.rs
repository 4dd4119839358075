//! The tables as SeaORM sees them, and what makes a record of a row.
//!
//! One module per table. The `Model` of a table is a row as it is stored: text, integers and
//! times; the conversion beside it, where one is read as a record, makes what `core` promises, and says
//! [`Error::Corrupt`](runledger_core::Error::Corrupt) where a row cannot be one. Nothing of SeaORM
//! leaves this crate.

pub(crate) mod agent_run;
pub(crate) mod api_token;
pub(crate) mod blob;
pub(crate) mod cell;
pub(crate) mod compaction;
pub(crate) mod deletion;
#[expect(unreachable_pub, reason = "SeaORM's macro needs it")]
pub(crate) mod event_blob;
pub(crate) mod feedback;
pub(crate) mod import_cursor;
pub(crate) mod interaction;
pub(crate) mod quarantined;
#[expect(unreachable_pub, reason = "SeaORM's macro needs it")]
pub(crate) mod queued_input;
pub(crate) mod run;
pub(crate) mod run_event;
pub(crate) mod run_lease;
pub(crate) mod thread;
pub(crate) mod thread_head;
pub(crate) mod thread_item;
pub(crate) mod usage_record;
