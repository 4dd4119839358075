//! Runs and events as DeerFlow's journal stores them.

mod completion;
mod events;

pub use completion::{Completion, ModelTokens, completion, llm_error_fallback};
pub use events::{DeerFlow, Record};

#[cfg(test)]
mod tests;
