//! Events as Codex's clients knew them before they read items: `exec_command_begin`, `agent_message`,
//! `task_complete` and their kin, each after the canonical event that it is a twin of.
//!
//! A line is what a legacy rollout has: `{timestamp, type: "event_msg", payload}`, the payload's `type` being the
//! event's name on the wire. A record of ours is told once, under our item's id, which messages have as well; runs
//! are turns. Items of sub-agents and middleware are left out, for Codex's threads have their agent's only.
//!
//! It cannot say: that an item was interrupted (it failed), that a dynamic tool or a server's tool was
//! declined (it failed), sub-agents without a thread of their own, the window of a model and its rate limits, items of a
//! newer version. Tokens are counted where a message names them, and nowhere else.

mod item;
mod twins;

use std::collections::HashMap;

use chrono::SecondsFormat;
use serde::Deserialize;

pub use item::turn_item;

use super::{plain, tokens};
use crate::view::items::ItemReducer;
use crate::{
    AgentMessage, CallerKind, ContentText as _, Event, Item, ItemKind, ItemStatus, ONCE_TERMINAL, RawJson,
    RawObject, RunId, Timestamp, TokenCounts, event_type,
};

/// A log as Codex's events, as far as its records were taken.
#[derive(Clone, Debug, Default)]
pub struct Codex {
    items: ItemReducer,
    turns: HashMap<RunId, Turn>,
    total: TokenCounts,
}

/// A turn that goes on.
#[derive(Clone, Debug, Default)]
struct Turn {
    started_at: Option<Timestamp>,
    last_agent_message: Option<String>,
}

/// The content of a run's terminal event.
#[derive(Default, Deserialize)]
struct Ended {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
}

impl Codex {
    /// Takes the next event of a log, and gives its lines.
    #[must_use]
    pub fn take(&mut self, event: &Event) -> Vec<RawJson> {
        let payloads = if event.once_key.as_deref() == Some(ONCE_TERMINAL) {
            self.ended(event)
        } else if event.event_type.as_str() == event_type::RUN_STARTED {
            self.started(event)
        } else {
            self.items.tell(event).map(|item| self.item(event, &item)).unwrap_or_default()
        };
        let timestamp = event.created_at.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true);
        let line = |payload: RawObject| {
            RawObject::default()
                .with_text("timestamp", &timestamp)
                .with_text("type", "event_msg")
                .with("payload", payload.to_json())
                .to_json()
        };
        payloads.into_iter().map(line).collect()
    }

    fn started(&mut self, event: &Event) -> Vec<RawObject> {
        let Some(run) = &event.run_id else { return Vec::new() };
        self.turns.entry(run.clone()).or_default().started_at = Some(event.created_at);
        let payload = named("task_started")
            .with_text("turn_id", run.as_str())
            .with("started_at", plain(seconds(event.created_at)))
            .with("model_context_window", RawJson::null())
            .with_text("collaboration_mode_kind", "default");
        vec![payload]
    }

    fn ended(&mut self, event: &Event) -> Vec<RawObject> {
        let Some(run) = &event.run_id else { return Vec::new() };
        let turn = self.turns.remove(run).unwrap_or_default();
        let told: Ended = event.content.decode_lossy().unwrap_or_default();
        let payload = match event.event_type.as_str() {
            event_type::RUN_COMPLETED => {
                let said = turn.last_agent_message.as_deref().map_or_else(RawJson::null, RawJson::string);
                named("task_complete").with_text("turn_id", run.as_str()).with("last_agent_message", said)
            }
            event_type::RUN_FAILED => {
                let error = RawObject::default()
                    .with_text("message", told.error.as_deref().unwrap_or_default())
                    .with_text("codex_error_info", "other");
                named("task_complete")
                    .with_text("turn_id", run.as_str())
                    .with("last_agent_message", RawJson::null())
                    .with("error", error.to_json())
            }
            other => {
                let reason = match (other, told.stop_reason.as_deref()) {
                    (event_type::RUN_BUDGET_EXHAUSTED, _) => "budget_limited",
                    (_, Some(reason @ ("replaced" | "review_ended" | "budget_limited"))) => reason,
                    _ => "interrupted",
                };
                named("turn_aborted").with_text("turn_id", run.as_str()).with_text("reason", reason)
            }
        };
        let lasted = turn.started_at.map(|started| plain(event.created_at.millis_since(started)));
        vec![
            payload
                .with_some("started_at", turn.started_at.map(|started| plain(seconds(started))))
                .with("completed_at", plain(seconds(event.created_at)))
                .with_some("duration_ms", lasted),
        ]
    }

    /// The canonical event of an item, its twins, and the tokens that it names.
    fn item(&mut self, event: &Event, item: &Item) -> Vec<RawObject> {
        let entry = &item.entry;
        let is_own = entry.caller.as_ref().is_none_or(|caller| caller.kind() == CallerKind::LeadAgent);
        if !is_own && entry.item_kind != ItemKind::SubAgentActivity {
            return Vec::new();
        }
        let Some(turn_item) = turn_item(item) else { return Vec::new() };
        let is_over = entry.status != ItemStatus::InProgress;
        let canonical = named(if is_over { "item_completed" } else { "item_started" })
            .with_text("thread_id", event.thread_id.as_str())
            .with_text("turn_id", entry.run_id.as_str())
            .with("item", turn_item)
            .with("started_at_ms", plain(millis(entry.started_at)))
            .with_some("completed_at_ms", entry.completed_at.map(|at| plain(millis(at))));
        let mut payloads = vec![canonical];
        payloads.extend(twins::of(item));
        if is_over && entry.item_kind == ItemKind::AgentMessage {
            payloads.extend(self.said(item));
        }
        payloads
    }

    fn said(&mut self, item: &Item) -> Option<RawObject> {
        let message: AgentMessage = item.content.as_ref()?.decode_lossy().ok()?;
        let text = message.content.text();
        if !text.is_empty() && message.phase.as_deref() != Some("commentary") {
            let turn = self.turns.entry(item.entry.run_id.clone()).or_default();
            turn.last_agent_message = Some(text);
        }
        let last = tokens(message.usage.as_ref()?)?;
        let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
        add(&mut self.total.input, last.input);
        add(&mut self.total.output, last.output);
        add(&mut self.total.total, last.total);
        add(&mut self.total.cache_read, last.cache_read);
        add(&mut self.total.cache_write, last.cache_write);
        add(&mut self.total.reasoning, last.reasoning);
        let info = RawObject::default()
            .with("total_token_usage", counts(&self.total))
            .with("last_token_usage", counts(&last))
            .with("model_context_window", RawJson::null());
        Some(named("token_count").with("info", info.to_json()).with("rate_limits", RawJson::null()))
    }
}

fn counts(tokens: &TokenCounts) -> RawJson {
    RawObject::default()
        .with("input_tokens", plain(tokens.input))
        .with("cached_input_tokens", plain(tokens.cache_read))
        .with("cache_write_input_tokens", plain(tokens.cache_write))
        .with("output_tokens", plain(tokens.output))
        .with("reasoning_output_tokens", plain(tokens.reasoning))
        .with("total_tokens", plain(tokens.total))
        .to_json()
}

/// An object with a `type`.
fn named(kind: &str) -> RawObject {
    RawObject::default().with_text("type", kind)
}

fn seconds(at: Timestamp) -> i64 {
    at.unix_micros().div_euclid(1_000_000)
}

fn millis(at: Timestamp) -> i64 {
    at.unix_micros().div_euclid(1_000)
}

#[cfg(test)]
mod tests;
