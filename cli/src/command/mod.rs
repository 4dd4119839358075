//! The commands, one room each.

pub(crate) mod agent_runs;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod fork;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod prune;
pub(crate) mod readers;
pub(crate) mod replay;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod spool;
pub(crate) mod token;
pub(crate) mod turns;
pub(crate) mod upkeep;
pub(crate) mod usage;
pub(crate) mod verify;
