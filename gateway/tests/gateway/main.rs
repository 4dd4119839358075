//! The gateway over the memory ledger, one request at a time and without a socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should end there")]

mod append;
mod auth;
mod feedback;
mod isolation;
mod layers;
mod messages;
mod openapi;
mod reads;
mod runs;
mod support;
mod threads;
