//! Reports of usage, and how full a context window is.

use runledger_core::view::context::ContextWindow;
use runledger_core::{Ledger, Result, Scope, Thread, UsageBy, UsageQuery, UsageSum};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::WireUsage;

/// A page of sums of model calls, and all of them in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireUsageReport {
    /// The sums, ascending by their keys.
    pub items: Vec<UsageSum>,
    /// Whether there are further ones.
    pub has_more: bool,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
    /// Everything that the report is of, whatever the page.
    pub total: UsageSum,
}

impl WireUsageReport {
    /// Reads a report.
    pub async fn read(ledger: &Ledger, scope: &Scope, query: UsageQuery) -> Result<Self> {
        let items = ledger.usage().report(scope, &query).await?;
        let next_cursor = match items.last() {
            Some(last) => {
                let rest = UsageQuery { after: Some(last.key.clone()), limit: 1, ..query.clone() };
                let more = !ledger.usage().report(scope, &rest).await?.is_empty();
                more.then(|| last.key.clone())
            }
            None => None,
        };
        let whole = UsageQuery { by: UsageBy::Total, after: None, ..query };
        let total = ledger.usage().report(scope, &whole).await?.pop().unwrap_or_default();
        Ok(Self { items, has_more: next_cursor.is_some(), next_cursor, total })
    }
}

/// What a thread took, and how full its context window is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WireTokenUsage {
    /// The sums.
    #[serde(flatten)]
    pub usage: WireUsage,
    /// How full the context window is, where the thread's config says how large it may be.
    pub context_usage: Option<WireContextUsage>,
}

/// How full a context window is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct WireContextUsage {
    /// Tokens of the window, estimated.
    pub token_count: u64,
    /// How many it may have.
    pub max_context_tokens: u64,
    /// How much of that it has, in percent.
    pub percentage: f64,
}

impl WireTokenUsage {
    /// How many tokens a thread's config says that its context window may have.
    #[must_use]
    pub fn max_context_tokens(thread: &Thread) -> Option<u64> {
        #[derive(Deserialize)]
        struct Config {
            max_context_tokens: u64,
        }
        let config: Config = thread.config.decode().ok()?;
        Some(config.max_context_tokens).filter(|max| *max > 0)
    }

    /// How full a window is of which so many tokens are taken.
    #[must_use]
    pub fn context_usage(window: &ContextWindow, max_context_tokens: u64) -> WireContextUsage {
        let token_count = window.estimated_tokens();
        // Counts of tokens are far below what a float tells apart.
        #[expect(clippy::cast_precision_loss, reason = "a percentage of counts far below 2^52")]
        let percentage = token_count as f64 * 100.0 / max_context_tokens as f64;
        WireContextUsage { token_count, max_context_tokens, percentage }
    }
}
