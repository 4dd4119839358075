//! Logs for the tests of the shapes.

use crate::{
    CallId, Caller, Category, Event, EventDraft, EventType, ItemId, ItemKind, ItemMark, ItemStatus, RawJson,
    RunId, ThreadId, Timestamp,
};

/// A log as it is written: the run `r` of the thread `t`, an event every 250 ms.
#[derive(Default)]
pub(crate) struct Log(Vec<Event>);

impl Log {
    pub(crate) fn events(self) -> Vec<Event> {
        self.0
    }

    /// A completed item of the conversation.
    pub(crate) fn item(self, id: &str, kind: ItemKind, content: &str) -> Self {
        self.marked(id, kind, ItemStatus::Completed, content)
    }

    /// A record of an item; its start is no message.
    pub(crate) fn marked(self, id: &str, kind: ItemKind, status: ItemStatus, content: &str) -> Self {
        self.record(ItemMark::new(ItemId::new(id).unwrap(), kind, status), content)
    }

    /// The result of a tool call.
    pub(crate) fn result(self, id: &str, call: &str, parent: Option<&str>, content: &str) -> Self {
        let mark = ItemMark {
            call_id: Some(CallId::new(call).unwrap()),
            parent_item_id: parent.map(|id| ItemId::new(id).unwrap()),
            ..ItemMark::new(ItemId::new(id).unwrap(), ItemKind::ToolCall, ItemStatus::Completed)
        };
        self.record(mark, content)
    }

    fn record(self, mark: ItemMark, content: &str) -> Self {
        let category = match (&mark.kind, &mark.status) {
            (_, ItemStatus::InProgress) => Category::Lifecycle,
            (ItemKind::Reasoning, _) => Category::Reasoning,
            _ => Category::Message,
        };
        self.draft(EventDraft::item(mark, category, RawJson::from_stored(content)))
    }

    /// An event of no item.
    pub(crate) fn event(self, event_type: &str, category: Category, content: &str) -> Self {
        self.draft(EventDraft::new(
            EventType::new(event_type).unwrap(),
            category,
            RawJson::from_stored(content),
        ))
    }

    /// Any event.
    pub(crate) fn draft(mut self, draft: EventDraft) -> Self {
        let seq = self.0.len() as u64 + 1;
        self.0.push(Event {
            thread_id: ThreadId::new("t").unwrap(),
            seq,
            run_id: RunId::new("r").ok(),
            journal_ordinal: None,
            event_type: draft.event_type,
            category: draft.category,
            caller: draft.caller,
            task_id: draft.task_id,
            item: draft.item,
            once_key: draft.once_key,
            content_bytes: draft.content.as_str().len() as u64,
            content: draft.content,
            truncated: false,
            metadata: draft.metadata,
            created_at: Timestamp::from_unix_micros(1_795_230_448_000_000 + seq as i64 * 250_000).unwrap(),
        });
        self
    }

    /// Changes the last event.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Event)) -> Self {
        self.0.last_mut().map(change);
        self
    }

    /// The last event is this caller's.
    pub(crate) fn by(self, caller: &str) -> Self {
        self.with(|event| event.caller = Some(Caller::new(caller).unwrap()))
    }
}

/// A message of a person.
pub(crate) fn user(text: &str) -> String {
    format!("{{\"content\":{}}}", RawJson::string(text))
}

/// A call with its result.
pub(crate) fn call(name: &str, content: &str) -> String {
    format!("{{\"name\":\"{name}\",\"args\":{{}},\"content\":{}}}", RawJson::string(content))
}
