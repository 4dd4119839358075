//! Pieces of answers, told while they come: under the ids that the whole will have.
//!
//! They change nothing of what is recorded: whether somebody listens makes no difference to the log. What is
//! remembered is kept beside the call and only while somebody listens.

use runledger_core::{CallerKind, ContentText as _, DeltaKind, ItemId, RawJson, RawObject};

use super::Mapper;
use super::llm::ModelCall;
use crate::callbacks::LlmNewToken;

/// A piece of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) item_id: ItemId,
    pub(crate) kind: DeltaKind,
    pub(crate) text: String,
}

/// The items of a call that pieces were told of.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    message: Option<ItemId>,
    /// Calls of tools by their place in the answer: only the first piece of each names it.
    tools: Vec<(String, ItemId)>,
}

impl Mapper {
    /// What a piece of an answer says. A middleware's answers are not for people to watch.
    pub(crate) fn pieces(&mut self, token: &LlmNewToken<'_>) -> Vec<Piece> {
        let id = token.context.run_id;
        let Some(mut told) = self.calls.get(id).and_then(ModelCall::watched) else { return Vec::new() };
        let chunk = token.chunk.and_then(RawObject::parse).unwrap_or_default();
        // A generation with its message, or the message itself.
        let message = chunk.object("message").unwrap_or(chunk);
        let item = match &told.message {
            Some(item) => item.clone(),
            None => {
                let wanted = message.string("id").unwrap_or_else(|| format!("lc_run--{id}"));
                let item = self.ids.peek(Some(&wanted), &format!("{id}-0"));
                told.message.insert(item).clone()
            }
        };
        let mut pieces = Vec::new();
        let additional = message.object("additional_kwargs").unwrap_or_default();
        if let Some(text) = additional.string("reasoning_content").filter(|text| !text.is_empty()) {
            let item_id = self.ids.peek(None, &format!("{item}/reasoning"));
            pieces.push(Piece { item_id, kind: DeltaKind::Reasoning, text });
        }
        said(token.token, &item, &mut pieces);
        let calls = message.get("tool_call_chunks").map(RawJson::elements).unwrap_or_default();
        for call in calls.iter().filter_map(RawObject::parse) {
            let place = call.get("index").map_or_else(String::new, |index| index.as_str().to_owned());
            if let Some(name) = call.string("id") {
                let item = self.ids.peek(Some(&name), &format!("{id}-call"));
                told.tools.retain(|(other, _)| *other != place);
                told.tools.push((place.clone(), item));
            }
            let text = call.string("args").filter(|text| !text.is_empty());
            let item = told.tools.iter().find(|(other, _)| *other == place);
            if let (Some(text), Some((_, item))) = (text, item) {
                pieces.push(Piece { item_id: item.clone(), kind: DeltaKind::Arguments, text });
            }
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.told = told;
        }
        pieces
    }
}

impl ModelCall {
    /// What was told of it, while there is something to tell.
    fn watched(&self) -> Option<Told> {
        let is_watched = !self.ended && self.caller.kind() != CallerKind::Middleware;
        is_watched.then(|| self.told.clone())
    }
}

/// The pieces of a message's content: text, or blocks of which some are reasoning.
fn said(content: &RawJson, item: &ItemId, pieces: &mut Vec<Piece>) {
    let blocks = if content.as_str().starts_with('[') { content.elements() } else { vec![content.clone()] };
    for block in blocks {
        let reasoning = RawObject::parse(&block).and_then(|fields| match fields.string("type").as_deref() {
            Some("thinking") => fields.string("thinking"),
            Some("reasoning") => fields.string("reasoning").or_else(|| fields.string("text")),
            _ => None,
        });
        let (kind, text) = match reasoning {
            Some(text) => (DeltaKind::Reasoning, text),
            None => (DeltaKind::Text, RawJson::from_stored(&format!("[{}]", block.as_str())).text()),
        };
        if !text.is_empty() {
            pieces.push(Piece { item_id: item.clone(), kind, text });
        }
    }
}
