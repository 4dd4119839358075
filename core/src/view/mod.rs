//! Pure functions from records to what readers want.

pub mod context;
pub mod items;
pub mod legacy;
pub mod search;
pub mod transcript;
pub mod tree;
pub mod turns;
