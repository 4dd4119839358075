//! What a person says to a run, as chat APIs have it.

use std::collections::HashSet;

use runledger_core::{
    Caller, Category, ContentText as _, EventDraft, ItemId, ItemKind, ItemMark, ItemStatus, Origin, RawJson,
    RawObject, Timestamp, UserMessage, text,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// The input of a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunInput {
    /// Messages of a person: `{role: "user" or type: "human", content, id?}`, further fields are kept; or plain text.
    messages: Vec<RawJson>,
}

impl RunInput {
    /// The messages as records of the log.
    pub(super) fn into_events(self, at: Timestamp) -> Result<Vec<EventDraft>, Problem> {
        let mut taken = HashSet::new();
        let messages = self.messages.iter().enumerate();
        messages.map(|(place, message)| event(place, message, &mut taken, at)).collect()
    }
}

fn event(
    place: usize,
    message: &RawJson,
    taken: &mut HashSet<ItemId>,
    at: Timestamp,
) -> Result<EventDraft, Problem> {
    let field = |name: &str| format!("input.messages[{place}]{name}");
    let fields = match message.as_str() {
        text if text.starts_with('"') => RawObject::default().with("content", message.clone()),
        _ => RawObject::parse(message)
            .ok_or_else(|| Problem::invalid(&field(""), "is neither a message nor text"))?,
    };
    for name in ["role", "type"] {
        let said = fields.string(name);
        if said.as_deref().is_some_and(|said| said != "user" && said != "human") {
            let reason = "is not a person's; other messages are records of the run: append them as events";
            return Err(Problem::invalid(&field(&format!(".{name}")), reason));
        }
    }
    let content = fields.get("content").cloned();
    let content = content.filter(|content| content.as_str().starts_with(['"', '[']));
    let content = content
        .ok_or_else(|| Problem::invalid(&field(".content"), "is neither text nor an array of parts"))?;
    // A runtime that shows the message to a model names it by this id.
    let named = fields.string("id");
    let id = named.as_deref().and_then(|id| ItemId::new(id).ok()).filter(|id| !taken.contains(id));
    let id = id.unwrap_or_else(ItemId::generate);
    taken.insert(id.clone());
    let extra = fields.without(&["content", "role"]);
    let extra = Some(extra.to_json()).filter(|extra| *extra != RawJson::empty_object());
    let payload = UserMessage { content, client_id: named, extra };
    let mark = ItemMark::new(id, ItemKind::UserMessage, ItemStatus::Completed);
    let origin = RawObject::default().with_text("origin", Origin::Admission.as_str());
    Ok(EventDraft {
        caller: Some(Caller::lead_agent()),
        metadata: Some(origin.to_json()),
        created_at: at,
        ..EventDraft::item(mark, Category::Message, RawJson::encode("content", &payload)?)
    })
}

/// What the person said first, for the run's summary.
pub(super) fn first_said(input: &[EventDraft]) -> Option<String> {
    input.iter().find_map(|event| {
        let message: UserMessage = event.content.decode_lossy().ok()?;
        text::summary(&message.content.text())
    })
}
