//! Which message asked for the call that a result is of.
//!
//! A result belongs to the message it is part of; where its record names none, to the earliest one before it
//! that asks for a call of its id and has no result yet. A fold, so that a log of any length is paired with the
//! memory that its unanswered calls take.

use crate::{AgentMessage, CallId, Event, ItemId, RawJson, RunId, ToolRequest};

/// A call that a message asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its number among all calls that were asked for, from 0.
    pub(crate) number: usize,
    /// The id that the message knows it by.
    pub(crate) chat_id: String,
    /// Whether its arguments are text: the model wrote no JSON for it.
    pub(crate) is_text: bool,
    /// `None` where it has none, or one that is no id of ours and is not in the result's record either.
    call_id: Option<CallId>,
    run_id: Option<RunId>,
    message: Option<ItemId>,
}

/// The calls that have no result yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    waiting: Vec<Asked>,
    next: usize,
}

impl Calls {
    /// Notes what a message asks for, and gives it in its order.
    pub(crate) fn ask(&mut self, event: &Event, message: &AgentMessage) -> Vec<Asked> {
        let item = event.item.as_ref().map(|item| &item.item_id);
        let asked = |(place, request): (usize, &ToolRequest)| Asked {
            number: self.next + place,
            chat_id: match (&request.id, item) {
                (Some(id), _) => id.clone(),
                (None, Some(item)) => format!("{item}/{place}"),
                (None, None) => format!("{}/{place}", event.seq),
            },
            is_text: is_text(&request.args),
            call_id: request.id.as_deref().and_then(|id| CallId::new(id).ok()),
            run_id: event.run_id.clone(),
            message: item.cloned(),
        };
        let asked: Vec<Asked> = message.tool_calls.iter().enumerate().map(asked).collect();
        self.next += asked.len();
        self.waiting.extend(asked.iter().cloned());
        asked
    }

    /// The call that a result is of, which waits no longer; `None` where no message asked for it.
    pub(crate) fn answer(&mut self, event: &Event) -> Option<Asked> {
        let item = event.item.as_ref()?;
        let fits = |asked: &Asked| asked.call_id == item.call_id;
        let own = |asked: &Asked| {
            fits(asked) && asked.run_id == event.run_id && asked.message == item.parent_item_id
        };
        let named = item.parent_item_id.is_none() && item.call_id.is_some();
        let found = self
            .waiting
            .iter()
            .position(own)
            .or_else(|| self.waiting.iter().position(|asked| named && fits(asked)))?;
        Some(self.waiting.remove(found))
    }

    /// Waits no longer for the calls before this number.
    pub(crate) fn forget_before(&mut self, number: usize) {
        self.waiting.retain(|asked| asked.number >= number);
    }
}

/// The id that a result which nobody asked for is known by: its call's, or its item's.
pub(crate) fn own_id(event: &Event) -> String {
    match &event.item {
        Some(item) => item.call_id.as_ref().map_or_else(|| item.item_id.to_string(), ToString::to_string),
        None => event.seq.to_string(),
    }
}

/// Whether the document is a string.
pub(crate) fn is_text(json: &RawJson) -> bool {
    json.as_str().starts_with('"')
}

/// A JSON string as it is; of any other value its text, as a JSON string.
pub(crate) fn as_text(json: &RawJson) -> RawJson {
    if is_text(json) { json.clone() } else { RawJson::string(json.as_str()) }
}
