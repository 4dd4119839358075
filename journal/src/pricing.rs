//! What model calls cost: the application knows its prices, and a journal asks for them where it counts a call.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use runledger_core::{MAX_COST_NANOS, TokenCounts, UsageDraft, text};

/// The price table of a call that nobody priced, and that costs what was set aside for it.
pub const RESERVED: &str = "reserved";

/// A model call, as far as its price depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricedCall<'a> {
    /// Who served it, where that is known.
    pub provider: Option<&'a str>,
    /// The model that answered, or that was asked, where that is known.
    pub model: Option<&'a str>,
    /// What it took; of a call that gave no answer, an estimate.
    pub tokens: &'a TokenCounts,
}

/// What a call costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// In billionths of a US dollar. No call costs more than [`MAX_COST_NANOS`].
    pub cost_nanos: u64,
    /// The price table it was computed with, by a name that finds it again.
    pub price_table: String,
}

/// Knows what model calls cost. It is asked inside a callback, which waits for it, so it computes and neither reads
/// nor asks anybody.
pub trait Pricer: fmt::Debug + Send + Sync {
    /// The price of a call; `None` where there is none for its model.
    fn price(&self, call: &PricedCall<'_>) -> Option<Price>;
}

/// Prices a call that has no price: by the pricer's word, or else with what was set aside for it, so that a budget
/// is never exceeded because a price is missing. `asked` is the model that was asked for, where the answer names none.
pub(crate) fn priced(pricer: Option<&Arc<dyn Pricer>>, call: UsageDraft, asked: Option<&str>) -> UsageDraft {
    if call.cost_nanos.is_some() {
        return call;
    }
    let told = pricer.and_then(|pricer| ask(&**pricer, &call, asked));
    let cost_nanos = call.settles.cost_nanos;
    let reserved = || (cost_nanos > 0).then(|| Price { cost_nanos, price_table: RESERVED.to_owned() });
    match told.or_else(reserved) {
        Some(price) => with_price(call, price),
        None => call,
    }
}

/// The call at this price.
pub(crate) fn with_price(call: UsageDraft, price: Price) -> UsageDraft {
    let Price { cost_nanos, price_table } = price;
    if cost_nanos > MAX_COST_NANOS {
        tracing::error!(
            source_id = %call.source_id, cost_nanos, price_table,
            "a price is above what a call may cost; it is stored as that"
        );
    }
    UsageDraft {
        cost_nanos: Some(cost_nanos.min(MAX_COST_NANOS)),
        price_table: Some(text::clean(&price_table).into_owned()),
        ..call
    }
}

fn ask(pricer: &dyn Pricer, call: &UsageDraft, asked: Option<&str>) -> Option<Price> {
    let priced = PricedCall {
        provider: call.provider.as_deref(),
        model: call.model.as_deref().or(asked),
        tokens: &call.tokens,
    };
    // Nothing of ours is half changed by it, and the call must be counted all the same.
    catch_unwind(AssertUnwindSafe(|| pricer.price(&priced))).unwrap_or_else(|_| {
        tracing::error!(source_id = %call.source_id, "the pricer panicked; the call has no price of it");
        None
    })
}
