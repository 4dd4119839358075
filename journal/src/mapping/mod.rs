//! From callbacks to records: what a run's journal remembers, and what it writes for each callback.
//!
//! Pure and synchronous: a callback goes in, a [`Recorded`] group comes out that is stored whole.
//! The table of events is in ARCHITECTURE.md; the rules that callback streams need beyond it
//! (ends that never come, ends that come twice, errors told once per level) are here, by subject:
//! `run` has chains and the application's own records, `llm` model calls, `tools` tool calls. `delta` is what is told
//! of answers while they come, and recorded nowhere.

mod delta;
mod llm;
pub(crate) mod resumed;
pub(crate) mod run;
mod tools;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use runledger_core::{
    Caller, Category, Estimate, EventDraft, EventType, ItemId, ItemMark, Origin, Outcome, RawJson, RunId,
    RunProgress, SourceId, TaskId, Timestamp, UsageDraft, text,
};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::delta::Piece;
pub(crate) use self::llm::count_of;
use crate::callbacks::Context;
use crate::pricing::{Pricer, priced};

/// What one callback adds to the log. Stored in one commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) events: Vec<EventDraft>,
    pub(crate) usage: Vec<UsageDraft>,
    pub(crate) progress: RunProgress,
}

impl Recorded {
    /// Whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.usage.is_empty() && self.progress.is_empty()
    }

    fn event(event: EventDraft) -> Self {
        Self { events: vec![event], ..Self::default() }
    }
}

/// The state of one run's journal.
#[derive(Debug)]
pub(crate) struct Mapper {
    sources: Sources,
    billing: Billing,
    ids: ItemIds,
    run: run::Chains,
    calls: HashMap<String, llm::ModelCall>,
    /// Model calls in the order they began, for those that never end.
    call_order: Vec<String>,
    /// How many model calls of the run other processes began.
    earlier_calls: u64,
    /// How many model calls the lead agent made, in whatever process.
    lead_calls: u64,
    /// What was reserved for calls that have not started.
    reserved: VecDeque<Estimate>,
    human: Human,
    named_model: bool,
    tools: tools::ToolCalls,
    artifacts: Vec<(String, String)>,
    delivered: bool,
    memory_context: bool,
    external: HashSet<SourceId>,
    open_items: Vec<OpenItem>,
    subagents: HashMap<TaskId, run::Subagent>,
}

/// How a run's model calls are counted once each.
#[derive(Debug)]
struct Sources {
    run_id: RunId,
    /// Where the run is another process's that was resumed: the epoch. That process may have named its calls
    /// as this one does.
    resumed: Option<u64>,
}

impl Sources {
    /// A call that the runtime itself made.
    fn of_call(&self, id: &str) -> SourceId {
        match self.resumed {
            None => SourceId::of_call(&self.run_id, id),
            Some(epoch) => SourceId::of_call(&self.run_id, &format!("e{epoch}/{id}")),
        }
    }

    /// A call that was counted elsewhere: the same, whoever tells of it.
    fn external(&self, id: &str) -> SourceId {
        SourceId::external(&self.run_id, id)
    }
}

/// Which model calls are counted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// None.
    Nothing,
    /// All, with the tokens that providers told.
    Told,
    /// All; where no provider told its tokens because the call gave no answer, with an estimate.
    Estimates,
}

/// Which model calls are counted, and what they cost.
#[derive(Clone, Debug)]
pub(crate) struct Billing {
    pub(crate) counting: Counting,
    pub(crate) pricer: Option<Arc<dyn Pricer>>,
}

/// What is known of the person's message.
#[derive(Clone, Copy, Debug, Default)]
struct Human {
    recorded: bool,
    preset: bool,
}

/// An item that the runtime itself began and has not ended.
#[derive(Clone, Debug)]
struct OpenItem {
    mark: ItemMark,
    category: Category,
    caller: Option<Caller>,
    content: RawJson,
}

impl Mapper {
    /// The journal of a run whose admission stored `input`.
    pub(crate) fn new(run_id: RunId, billing: Billing, input: &[EventDraft]) -> Self {
        let mut ids = ItemIds::default();
        for item in input.iter().filter_map(|event| event.item.as_ref()) {
            ids.note(item.item_id.clone());
        }
        let recorded = input.iter().any(|event| {
            event.item.as_ref().is_some_and(|item| item.kind == runledger_core::ItemKind::UserMessage)
        });
        Self {
            sources: Sources { run_id, resumed: None },
            billing,
            ids,
            run: run::Chains::default(),
            calls: HashMap::new(),
            call_order: Vec::new(),
            earlier_calls: 0,
            lead_calls: 0,
            reserved: VecDeque::new(),
            human: Human { recorded, preset: false },
            named_model: false,
            tools: tools::ToolCalls::default(),
            artifacts: Vec::new(),
            delivered: false,
            memory_context: false,
            external: HashSet::new(),
            open_items: Vec::new(),
            subagents: HashMap::new(),
        }
    }

    /// Remembers the id of an item that somebody else writes.
    pub(crate) fn note_item(&mut self, id: &ItemId) {
        self.ids.note(id.clone());
    }

    /// A call as it is counted: with its price. `asked` is the model that was asked for.
    fn priced(&self, call: UsageDraft, asked: Option<&str>) -> UsageDraft {
        priced(self.billing.pricer.as_ref(), call, asked)
    }

    /// How the run ended, as far as its callbacks tell.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.run.outcome.clone()
    }
}

/// The ids of a run's items: the runtime's own where they are valid and not taken, else made from
/// what the runtime calls the thing, so that the same stream gives the same ids again.
#[derive(Clone, Debug, Default)]
pub struct ItemIds {
    used: HashSet<ItemId>,
}

impl ItemIds {
    /// Remembers an id that was given elsewhere.
    pub fn note(&mut self, id: ItemId) {
        self.used.insert(id);
    }

    /// `wanted`, or else `otherwise` with the first number that makes it free.
    pub fn take(&mut self, wanted: Option<&str>, otherwise: &str) -> ItemId {
        let id = self.peek(wanted, otherwise);
        self.used.insert(id.clone());
        id
    }

    /// The id that [`ItemIds::take`] would give now.
    #[must_use]
    pub fn peek(&self, wanted: Option<&str>, otherwise: &str) -> ItemId {
        let is_free = |id: &ItemId| !self.used.contains(id);
        if let Some(id) = wanted.and_then(|text| ItemId::new(text).ok()).filter(is_free) {
            return id;
        }
        let mut number = 1;
        loop {
            let name = if number == 1 { otherwise.to_owned() } else { format!("{otherwise}-{number}") };
            let id = ItemId::new(&name).or_else(|_| ItemId::new(text::fingerprint(&name)));
            if let Some(id) = id.ok().filter(is_free) {
                return id;
            }
            number += 1;
        }
    }
}

/// Who acts: the first tag that names a caller, the lead agent where none does.
fn caller_of(tags: &[String]) -> Caller {
    tags.iter()
        .find(|tag| *tag == "lead_agent" || tag.starts_with("subagent:") || tag.starts_with("middleware:"))
        .and_then(|tag| Caller::new(tag).ok())
        .unwrap_or_else(Caller::lead_agent)
}

/// A payload's JSON. The payloads here always have one.
fn encode<T: Serialize>(payload: &T) -> RawJson {
    RawJson::encode("content", payload).unwrap_or_default()
}

/// Metadata of a message: where it is from.
fn origin(origin: &Origin) -> Option<RawJson> {
    Some(RawJson::from(json!({ "origin": origin.as_str() })))
}

/// An event that records no item.
fn event(
    name: &str,
    category: Category,
    caller: Option<Caller>,
    content: Value,
    at: Timestamp,
) -> EventDraft {
    EventDraft {
        caller,
        created_at: at,
        ..EventDraft::new(event_type(name), category, RawJson::from(content))
    }
}

/// An event type of text that a runtime gave: what is not printable is replaced, what is too long is cut.
fn event_type(name: &str) -> EventType {
    EventType::new(name).unwrap_or_else(|_| {
        let kept: String = name
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .take(EventType::MAX_CHARS)
            .collect();
        EventType::from_stored(&kept)
    })
}

/// The record of an item.
fn item(
    mark: ItemMark,
    category: Category,
    caller: &Caller,
    content: RawJson,
    from: Option<&Origin>,
    at: Timestamp,
) -> EventDraft {
    EventDraft {
        caller: Some(caller.clone()),
        metadata: from.and_then(origin),
        created_at: at,
        ..EventDraft::item(mark, category, content)
    }
}

/// A field of a callback's metadata, where it is text.
fn metadata_text(context: &Context<'_>, name: &str) -> Option<String> {
    runledger_core::RawObject::parse(context.metadata?)?.string(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn taken_and_invalid_ids_are_replaced() {
        let mut ids = ItemIds::default();
        let taken = [ids.take(Some("a"), "x"), ids.take(Some("a"), "x"), ids.take(None, "x")];
        assert_eq!(taken.map(|id| id.to_string()), ["a", "x", "x-2"]);
    }
}
