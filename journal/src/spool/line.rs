//! The payloads of a spool's lines: the drafts of core, field by field.

use std::borrow::Cow;

use runledger_core::{
    CallId, Caller, Category, Estimate, EventDraft, EventType, InteractionId, ItemId, ItemKind, ItemMark,
    ItemStatus, NewInteraction, Outcome, OwnerId, RawJson, RunId, RunStatus, Scope, SourceId, TaskId,
    TerminalStatus, ThreadId, Timestamp, TokenCounts, UsageDraft,
};
use serde::{Deserialize, Serialize};

use crate::sender::Target;

/// Whose file it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(super) thread_id: ThreadId,
    pub(super) run_id: RunId,
    /// On whose behalf the journal writes; `None` is the system.
    pub(super) owner_id: Option<OwnerId>,
    /// Whether the run had ended when the file was begun.
    pub(super) late: bool,
    pub(super) created_at: Timestamp,
    #[serde(skip)]
    pub(super) epoch: u64,
}

impl Head {
    pub(crate) fn run_id(&self) -> &RunId {
        &self.run_id
    }

    pub(crate) fn new(target: &Target, scope: &Scope) -> Self {
        Self {
            thread_id: target.thread_id.clone(),
            run_id: target.run_id.clone(),
            owner_id: scope.owner().cloned(),
            late: target.late,
            created_at: Timestamp::now(),
            epoch: target.epoch,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ItemLine {
    item_id: ItemId,
    kind: ItemKind,
    status: ItemStatus,
    call_id: Option<CallId>,
    parent_item_id: Option<ItemId>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EventLine<'a> {
    event_type: EventType,
    category: Category,
    caller: Option<Caller>,
    task_id: Option<TaskId>,
    item: Option<ItemLine>,
    once_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_bytes: Option<u64>,
    created_at: Timestamp,
    #[serde(borrow)]
    metadata: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

impl<'a> EventLine<'a> {
    pub(super) fn of(event: &'a EventDraft) -> Self {
        // Each field by name, so that a new one is not forgotten.
        let EventDraft {
            event_type,
            category,
            caller,
            task_id,
            item,
            once_key,
            content,
            metadata,
            whole_bytes,
            created_at,
        } = event;
        Self {
            event_type: event_type.clone(),
            category: category.clone(),
            caller: caller.clone(),
            task_id: task_id.clone(),
            item: item.clone().map(|ItemMark { item_id, kind, status, call_id, parent_item_id }| ItemLine {
                item_id,
                kind,
                status,
                call_id,
                parent_item_id,
            }),
            once_key: once_key.clone(),
            whole_bytes: *whole_bytes,
            created_at: *created_at,
            metadata: metadata.as_ref().map(|metadata| Cow::Borrowed(metadata.as_str())),
            content: Cow::Borrowed(content.as_str()),
        }
    }

    pub(super) fn into_draft(self) -> EventDraft {
        EventDraft {
            event_type: self.event_type,
            category: self.category,
            caller: self.caller,
            task_id: self.task_id,
            item: self.item.map(|item| ItemMark {
                item_id: item.item_id,
                kind: item.kind,
                status: item.status,
                call_id: item.call_id,
                parent_item_id: item.parent_item_id,
            }),
            once_key: self.once_key,
            whole_bytes: self.whole_bytes,
            content: RawJson::from_stored(&self.content),
            metadata: self.metadata.as_deref().map(RawJson::from_stored),
            created_at: self.created_at,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct UsageLine<'a> {
    source_id: SourceId,
    round_index: Option<u64>,
    caller: Caller,
    provider: Option<String>,
    model: Option<String>,
    tokens: TokenCounts,
    cost_nanos: Option<u64>,
    price_table: Option<String>,
    estimated: bool,
    latency_ms: Option<u64>,
    child_thread_id: Option<ThreadId>,
    #[serde(borrow)]
    raw: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Estimate::is_zero")]
    settles: Estimate,
    created_at: Timestamp,
}

impl<'a> UsageLine<'a> {
    pub(super) fn of(call: &'a UsageDraft) -> Self {
        let UsageDraft {
            source_id,
            round_index,
            caller,
            provider,
            model,
            tokens,
            cost_nanos,
            price_table,
            estimated,
            latency_ms,
            child_thread_id,
            raw,
            settles,
            created_at,
        } = call;
        Self {
            source_id: source_id.clone(),
            round_index: *round_index,
            caller: caller.clone(),
            provider: provider.clone(),
            model: model.clone(),
            tokens: *tokens,
            cost_nanos: *cost_nanos,
            price_table: price_table.clone(),
            estimated: *estimated,
            latency_ms: *latency_ms,
            child_thread_id: child_thread_id.clone(),
            raw: raw.as_ref().map(|raw| Cow::Borrowed(raw.as_str())),
            settles: *settles,
            created_at: *created_at,
        }
    }

    pub(super) fn into_draft(self) -> UsageDraft {
        UsageDraft {
            source_id: self.source_id,
            round_index: self.round_index,
            caller: self.caller,
            provider: self.provider,
            model: self.model,
            tokens: self.tokens,
            cost_nanos: self.cost_nanos,
            price_table: self.price_table,
            estimated: self.estimated,
            latency_ms: self.latency_ms,
            child_thread_id: self.child_thread_id,
            raw: self.raw.as_deref().map(RawJson::from_stored),
            settles: self.settles,
            created_at: self.created_at,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ProgressLine {
    pub(super) first_human_message: Option<String>,
    pub(super) last_ai_message: Option<String>,
    pub(super) model_name: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct FinishLine<'a> {
    status: RunStatus,
    error: Option<String>,
    stop_reason: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    asks: Vec<AskLine<'a>>,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct AskLine<'a> {
    interaction_id: InteractionId,
    kind: String,
    #[serde(borrow)]
    request: Cow<'a, str>,
    item_id: Option<ItemId>,
}

/// What a line says of the end of a run.
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    pub(super) asks: Vec<NewInteraction>,
    pub(super) at: Timestamp,
}

impl<'a> FinishLine<'a> {
    pub(super) fn of(outcome: &Outcome, asks: &'a [NewInteraction], at: Timestamp) -> Self {
        let Outcome { status, error, stop_reason } = outcome;
        let asks = asks.iter().map(|NewInteraction { interaction_id, kind, request, item_id }| AskLine {
            interaction_id: interaction_id.clone(),
            kind: kind.clone(),
            request: Cow::Borrowed(request.as_str()),
            item_id: item_id.clone(),
        });
        Self {
            status: status.status(),
            error: error.clone(),
            stop_reason: stop_reason.clone(),
            asks: asks.collect(),
            at,
        }
    }

    pub(super) fn finished(self) -> Result<Finished, String> {
        let all = [
            TerminalStatus::Success,
            TerminalStatus::Error,
            TerminalStatus::Timeout,
            TerminalStatus::Interrupted,
            TerminalStatus::BudgetExhausted,
        ];
        let status = all.into_iter().find(|status| status.status() == self.status);
        let status = status.ok_or_else(|| format!("{} is no end of a run", self.status))?;
        let asks = self.asks.into_iter().map(|AskLine { interaction_id, kind, request, item_id }| {
            NewInteraction { interaction_id, kind, request: RawJson::from_stored(&request), item_id }
        });
        Ok(Finished {
            outcome: Outcome { status, error: self.error, stop_reason: self.stop_reason },
            asks: asks.collect(),
            at: self.at,
        })
    }
}
