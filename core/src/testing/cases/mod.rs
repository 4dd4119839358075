//! The cases, by what they are about. Each takes a fresh ledger and panics where a promise is broken.

pub mod agent_runs;
pub mod budgets;
pub mod capabilities;
pub mod commits;
pub mod concurrency;
pub mod context;
pub mod deletions;
pub mod erasures;
pub mod exactly_once;
pub mod interactions;
pub mod items;
pub mod leases;
pub mod pages;
pub mod pending;
pub mod runs;
pub mod scopes;
pub mod strategies;
pub mod tails;
pub mod texts;
pub mod threads;
pub mod trees;
pub mod usage;
pub mod usage_reports;
pub mod visibility;
