//! Events and model calls as a runtime sends them. What a record may not be is refused by its place.

use runledger_core::{
    CallId, Caller, Category, Error, Estimate, EventDraft, EventType, InteractionId, ItemId, ItemKind,
    ItemMark, ItemStatus, MAX_COUNT, NewInteraction, RawJson, Result, SourceId, TaskId, ThreadId, Timestamp,
    TokenCounts, UsageDraft,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// An event to append.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEvent {
    /// What kind of record it is.
    #[schema(min_length = 1, max_length = 64, examples("item.completed"))]
    event_type: String,
    /// What it is about; messages are what conversations show.
    #[schema(min_length = 1, max_length = 16, examples("message"))]
    category: String,
    /// Who caused it.
    #[schema(
        min_length = 1,
        max_length = 128,
        examples("lead_agent", "subagent:research", "middleware:title")
    )]
    caller: Option<String>,
    /// The delegated task it belongs to.
    task_id: Option<TaskId>,
    /// The item it records.
    item: Option<NewItemMark>,
    /// At most one event of a run has this key.
    #[schema(min_length = 1, max_length = 128)]
    once_key: Option<String>,
    /// The payload, kept as it is.
    content: RawJson,
    /// Further facts.
    #[schema(value_type = Option<Object>)]
    metadata: Option<RawJson>,
    /// When it happened; now, where it is left out.
    created_at: Option<Timestamp>,
}

/// What makes an event a record of an item.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewItemMark {
    /// The item.
    item_id: ItemId,
    /// What it is.
    #[schema(examples("user_message", "agent_message", "tool_call", "reasoning"))]
    item_kind: String,
    /// Where it stands after this event: `in_progress` marks its start, any other its completion.
    #[schema(examples("in_progress", "completed", "failed", "declined", "interrupted"))]
    item_status: String,
    /// The tool call it is about.
    call_id: Option<CallId>,
    /// The item it is part of.
    parent_item_id: Option<ItemId>,
}

/// A model call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUsage {
    /// The call, in the ids of whoever counts it; unique within the thread.
    source_id: SourceId,
    /// The round of the agent's loop it belongs to, from 0.
    round_index: Option<u64>,
    /// Who made the call; the lead agent, where it is left out.
    caller: Option<String>,
    /// Who served it.
    provider: Option<String>,
    /// The model that answered.
    model: Option<String>,
    /// Input tokens, cached ones included.
    #[serde(default)]
    input_tokens: u64,
    /// Output tokens, reasoning included.
    #[serde(default)]
    output_tokens: u64,
    /// As the provider counted it; input and output, where it is left out.
    #[serde(default)]
    total_tokens: u64,
    /// Of the input: read from a cache.
    #[serde(default)]
    cache_read_tokens: u64,
    /// Of the input: written to a cache.
    #[serde(default)]
    cache_write_tokens: u64,
    /// Of the output: reasoning.
    #[serde(default)]
    reasoning_tokens: u64,
    /// Cost in billionths of a US dollar.
    cost_nanos: Option<u64>,
    /// The price table the cost was computed with.
    price_table: Option<String>,
    /// Whether the tokens are an estimate.
    #[serde(default)]
    estimated: bool,
    /// How long the call took, in milliseconds.
    latency_ms: Option<u64>,
    /// The sub-agent's thread whose own record this repeats.
    child_thread_id: Option<ThreadId>,
    /// The usage as the provider gave it.
    raw: Option<RawJson>,
    /// What was reserved for the call, and comes back to the run's budget.
    settles: Option<EstimateBody>,
    /// When the call ended; now, where it is left out.
    created_at: Option<Timestamp>,
}

/// What a call is expected to use at most.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EstimateBody {
    /// Tokens, input and output.
    #[serde(default)]
    tokens: u64,
    /// Cost in billionths of a US dollar.
    #[serde(default)]
    cost_nanos: u64,
}

impl From<EstimateBody> for Estimate {
    fn from(given: EstimateBody) -> Self {
        Self { tokens: given.tokens, cost_nanos: given.cost_nanos }
    }
}

/// A question to a person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAsk {
    /// Its id, unique within the thread; one is made where it has none.
    interaction_id: Option<InteractionId>,
    /// What kind of question it is.
    #[schema(min_length = 1, max_length = 64, examples("clarification", "approval"))]
    kind: String,
    /// The question, in the application's own shape.
    request: RawJson,
    /// The item it is about.
    item_id: Option<ItemId>,
}

impl NewAsk {
    pub(super) fn into_interaction(self) -> NewInteraction {
        NewInteraction {
            interaction_id: self.interaction_id.unwrap_or_else(InteractionId::generate),
            kind: self.kind,
            request: self.request,
            item_id: self.item_id,
        }
    }
}

/// Names the place of what a record may not be.
fn within(place: &str, number: usize) -> impl Fn(Error) -> Problem {
    move |error| {
        let problem = Problem::from(error);
        let field = problem.field.as_deref().unwrap_or_default();
        Problem { field: Some(format!("{place}[{number}].{field}")), ..problem }
    }
}

/// The events as the log takes them.
pub(super) fn events(given: Vec<NewEvent>, now: Timestamp) -> Result<Vec<EventDraft>, Problem> {
    let draft = |(number, event): (usize, NewEvent)| event.into_draft(now).map_err(within("events", number));
    given.into_iter().enumerate().map(draft).collect()
}

/// The model calls as the ledger takes them.
pub(super) fn usage(given: Vec<NewUsage>, now: Timestamp) -> Result<Vec<UsageDraft>, Problem> {
    let draft = |(number, call): (usize, NewUsage)| call.into_draft(now).map_err(within("usage", number));
    given.into_iter().enumerate().map(draft).collect()
}

impl NewEvent {
    fn into_draft(self, now: Timestamp) -> Result<EventDraft> {
        Ok(EventDraft {
            event_type: EventType::new(self.event_type)?,
            category: Category::new(self.category)?,
            caller: self.caller.map(Caller::new).transpose()?,
            task_id: self.task_id,
            item: self.item.map(NewItemMark::into_mark).transpose()?,
            once_key: self.once_key,
            content: self.content,
            whole_bytes: None,
            metadata: self.metadata,
            created_at: self.created_at.unwrap_or(now),
        })
    }
}

impl NewItemMark {
    fn into_mark(self) -> Result<ItemMark> {
        Ok(ItemMark {
            item_id: self.item_id,
            kind: kind(&self.item_kind)?,
            status: ItemStatus::parse("item_status", &self.item_status)?,
            call_id: self.call_id,
            parent_item_id: self.parent_item_id,
        })
    }
}

/// A kind that this version knows, or an extension's.
fn kind(text: &str) -> Result<ItemKind> {
    match ItemKind::from_stored(text) {
        ItemKind::Extension { namespace, kind } => ItemKind::extension(&namespace, &kind),
        ItemKind::Unknown(text) => {
            let known: Vec<String> = ItemKind::KNOWN.iter().map(ToString::to_string).collect();
            let known = known.join(", ");
            let reason = format!("{text:?} is not one of {known}, and no namespace.kind of an extension");
            Err(Error::invalid("item_kind", reason))
        }
        known => Ok(known),
    }
}

impl NewUsage {
    fn into_draft(self, now: Timestamp) -> Result<UsageDraft> {
        let tokens = TokenCounts {
            input: self.input_tokens,
            output: self.output_tokens,
            total: self.total_tokens,
            cache_read: self.cache_read_tokens,
            cache_write: self.cache_write_tokens,
            reasoning: self.reasoning_tokens,
        };
        let settles = self.settles.map(Estimate::from).unwrap_or_default();
        if settles.tokens > MAX_COUNT || settles.cost_nanos > MAX_COUNT {
            return Err(Error::invalid("settles", format!("is above {MAX_COUNT}")));
        }
        let caller = self.caller.map(Caller::new).transpose()?;
        Ok(UsageDraft {
            round_index: self.round_index,
            caller: caller.unwrap_or_else(Caller::lead_agent),
            provider: self.provider,
            model: self.model,
            cost_nanos: self.cost_nanos,
            price_table: self.price_table,
            estimated: self.estimated,
            latency_ms: self.latency_ms,
            child_thread_id: self.child_thread_id,
            raw: self.raw,
            settles,
            created_at: self.created_at.unwrap_or(now),
            ..UsageDraft::new(self.source_id, tokens)
        })
    }
}
