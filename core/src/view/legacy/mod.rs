//! Records in the shapes that consumers of other systems know.
//!
//! Projections: pure, total, and never written anywhere. Each system has a module of its own, which says what
//! its shape cannot say. Each is a fold over the events of a log in their order, so that a log of any length is
//! told in the memory of what it must remember, and pages of any size make no difference.

pub(crate) mod calls;
pub mod codex;
pub mod deerflow;
#[cfg(test)]
mod golden;
pub mod langchain;
pub mod openai_chat;
pub mod openai_responses;
#[cfg(test)]
pub(crate) mod testing;

use crate::{ContentText as _, Decimal, RawJson, RawObject, TokenCounts};

/// A number or a truth value as JSON.
fn plain(value: impl Into<serde_json::Value>) -> RawJson {
    RawJson::from(value.into())
}

/// What a payload says as plain text: text, the text of its parts, or any other value as JSON.
fn said(content: Option<&RawJson>) -> String {
    match content.map(RawJson::as_str) {
        None | Some("null") => String::new(),
        Some(text) if text.starts_with(['"', '[']) => {
            content.map(|content| content.text()).unwrap_or_default()
        }
        Some(text) => text.to_owned(),
    }
}

/// The tokens that a message says its call took: as LangChain, OpenAI or Codex give them.
fn tokens(usage: &RawJson) -> Option<TokenCounts> {
    let usage = RawObject::parse(usage)?;
    let count = |object: &RawObject, name: &str| {
        object.get(name).and_then(|count| Decimal::parse(count.as_str())?.whole())
    };
    let first = |names: &[&str]| names.iter().find_map(|name| count(&usage, name));
    let detail =
        |objects: &[&str], name: &str| objects.iter().find_map(|object| count(&usage.object(object)?, name));
    let input = first(&["input_tokens", "prompt_tokens"])?;
    let output = first(&["output_tokens", "completion_tokens"])?;
    let counted = TokenCounts::of(input, output);
    let cached = ["input_token_details", "input_tokens_details", "prompt_tokens_details"];
    let reasoned = ["output_token_details", "output_tokens_details", "completion_tokens_details"];
    Some(TokenCounts {
        total: first(&["total_tokens"]).unwrap_or(counted.total),
        cache_read: first(&["cached_input_tokens"])
            .or_else(|| detail(&cached, "cache_read"))
            .or_else(|| detail(&cached, "cached_tokens"))
            .unwrap_or(0),
        cache_write: first(&["cache_write_input_tokens"])
            .or_else(|| detail(&cached, "cache_creation"))
            .unwrap_or(0),
        reasoning: first(&["reasoning_output_tokens"])
            .or_else(|| detail(&reasoned, "reasoning"))
            .or_else(|| detail(&reasoned, "reasoning_tokens"))
            .unwrap_or(0),
        ..counted
    })
}
