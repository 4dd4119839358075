//! The pages over a ledger in memory with runs that were made up: `cargo run -p runledger-gateway --example page`.

#![expect(clippy::unwrap_used, reason = "what is made up is right, or there is nothing to look at")]

#[path = "../tests/page/script.rs"]
mod script;
#[path = "../tests/page/story.rs"]
mod story;

use async_trait::async_trait;
use axum::http::request::Parts;
use runledger_core::{MemoryLedger, Scope};
use runledger_gateway::{Auth, AuthError, Caller};

/// Everybody on this machine sees everything: for looking at pages, and for nothing else.
#[derive(Debug)]
struct Everybody;

#[async_trait]
impl Auth for Everybody {
    async fn authenticate(&self, _request: &Parts) -> Result<Caller, AuthError> {
        Ok(Caller::new(Scope::System))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let ledger = MemoryLedger::new().ledger();
    story::tell(&ledger, &Scope::System).await;
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8099".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, runledger_gateway::router(ledger, Everybody)).await
}
