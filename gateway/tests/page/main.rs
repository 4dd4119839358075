//! The pages for people, over the memory ledger.

#![expect(clippy::unwrap_used, reason = "in a test an unexpected answer is the finding")]

mod bounds;
mod escaping;
mod pages;
mod script;
mod site;
mod story;
