//! Pure functions from records to what readers want.

pub mod items;
pub mod legacy;
