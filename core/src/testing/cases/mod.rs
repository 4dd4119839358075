//! The cases, by what they are about. Each takes a fresh ledger and panics where a promise is broken.

pub mod capabilities;
pub mod commits;
pub mod concurrency;
pub mod deletions;
pub mod exactly_once;
pub mod items;
pub mod leases;
pub mod pages;
pub mod runs;
pub mod scopes;
pub mod strategies;
pub mod tails;
pub mod texts;
pub mod threads;
pub mod usage;
pub mod visibility;
