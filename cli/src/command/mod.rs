//! The commands, one room each.

pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod import;
pub(crate) mod prune;
pub(crate) mod readers;
pub(crate) mod replay;
pub(crate) mod spool;
