//! What the contenders are asked to do.

pub(crate) mod append;
mod fill;
pub(crate) mod read;
