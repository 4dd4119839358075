//! The context window as typed messages, and as OpenAI chat messages.
//!
//! Pure functions of records. What belongs to a window is decided by an event's envelope; its payload is
//! read by whoever asks for the message, and one that has another shape is [`MessageBody::Other`].

use std::collections::BTreeSet;

use crate::record::{
    AgentMessage, CallerKind, CompactionNote, Event, ItemKind, ItemStatus, NewCompaction, ReasoningText,
    SeqSpan, ToolCall, ToolRequest, UserMessage,
};
use crate::view::legacy::calls::Calls;
use crate::view::legacy::openai_chat::OpenAiChat;
use crate::{Category, Error, RawJson, Result, RunId, ThreadId};

/// The messages a model would be sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextWindow {
    /// The thread.
    pub thread_id: ThreadId,
    /// The thread's system prompt, which comes before everything.
    pub system_prompt: Option<String>,
    /// The compaction the window is made of, if any.
    pub compact_seq: Option<u64>,
    /// The thread's last compaction, which may be one of a hidden run: what a fold of this window expects.
    pub last_compact_seq: Option<u64>,
    /// Up to where that compaction says what is in the window. Of later messages all are.
    pub through_seq: u64,
    /// The messages in logical order.
    pub messages: Vec<ContextMessage>,
}

/// One message of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextMessage {
    /// Its record.
    pub event: Event,
    /// What it says.
    pub body: MessageBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageBody {
    /// A person.
    User(UserMessage),
    /// The agent, with the tools it asks for.
    Agent(AgentMessage),
    /// A tool, to the agent.
    Tool(ToolCall),
    /// The agent's reasoning, where it stands apart.
    Reasoning(ReasoningText),
    /// What stands for folded messages.
    Note(CompactionNote),
    /// What the runtime put before the model.
    Prompt(UserMessage),
    /// Something that no chat model is sent, or whose payload has another shape.
    Other,
}

/// Whether an event is part of context windows: a completed item of the lead agent's conversation.
///
/// Its category is `message` or `reasoning`, and it is nobody's but the lead agent's. Notes are part of the
/// window of their own compaction only.
#[must_use]
pub fn is_message(event: &Event) -> bool {
    matches!(event.category, Category::Message | Category::Reasoning)
        && event.item.as_ref().is_some_and(|item| item.status != ItemStatus::InProgress)
        && event.caller.as_ref().is_none_or(|caller| caller.kind() == CallerKind::LeadAgent)
}

/// Whether an event is the note of a compaction.
#[must_use]
pub fn is_note(event: &Event) -> bool {
    event.item.as_ref().is_some_and(|item| item.kind == ItemKind::ContextCompaction)
}

impl ContextMessage {
    /// Reads a record.
    #[must_use]
    pub fn of(event: Event) -> Self {
        let body = MessageBody::of(&event).unwrap_or(MessageBody::Other);
        Self { event, body }
    }

    /// The seq of its record.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.event.seq
    }

    /// Its tokens, by the rule of thumb of [`estimated_tokens`].
    #[must_use]
    pub fn estimated_tokens(&self) -> u64 {
        estimated_tokens(self.event.content.as_str())
    }
}

/// Tokens of a message with this text, by a rule of thumb: one for four bytes, and four for what stands around it.
#[must_use]
pub fn estimated_tokens(text: &str) -> u64 {
    4 + text.len() as u64 / 4
}

impl MessageBody {
    /// Reads the payload of a message's record. `None` where no chat model is sent such, or it has another shape.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let (kind, content) = (&event.item.as_ref()?.kind, event.content.shown());
        if !content.is_object() {
            // serde reads a record from an array, too.
            return None;
        }
        match kind {
            ItemKind::UserMessage => content.decode().ok().map(Self::User),
            ItemKind::AgentMessage => content.decode().ok().map(Self::Agent),
            ItemKind::Reasoning => content.decode().ok().map(Self::Reasoning),
            ItemKind::ContextCompaction => content.decode().ok().map(Self::Note),
            ItemKind::HookPrompt => content.decode().ok().map(Self::Prompt),
            ItemKind::CommandExecution
            | ItemKind::FileChange
            | ItemKind::McpToolCall
            | ItemKind::ToolCall
            | ItemKind::WebSearch
            | ItemKind::ImageView
            | ItemKind::ImageGeneration
            | ItemKind::CollabAgentCall
            | ItemKind::Extension { .. } => content.decode().ok().map(Self::Tool),
            ItemKind::Plan
            | ItemKind::SubAgentActivity
            | ItemKind::ReviewEntered
            | ItemKind::ReviewExited
            | ItemKind::Unknown(_) => None,
        }
    }
}

/// A tool that a message of the window asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedCall<'a> {
    /// The seq of the message that asks.
    pub asked_by: u64,
    /// What it asks for.
    pub request: &'a ToolRequest,
    /// The seq of the result, if the window has it.
    pub answered_by: Option<u64>,
    /// The id that chat messages know the call by.
    pub chat_id: String,
}

impl ContextWindow {
    /// Every tool call of the window's messages with its result, in the order they were asked for.
    ///
    /// A result belongs to the message it is part of; where its record names none, to the earliest one before it
    /// that asks for a call of its id and has no result yet.
    #[must_use]
    pub fn calls(&self) -> Vec<AskedCall<'_>> {
        let (mut pairs, mut calls) = (Calls::default(), Vec::new());
        for message in &self.messages {
            match &message.body {
                MessageBody::Agent(agent) => {
                    let asked = pairs.ask(&message.event, agent);
                    calls.extend(agent.tool_calls.iter().zip(asked).map(|(request, asked)| AskedCall {
                        asked_by: message.seq(),
                        request,
                        answered_by: None,
                        chat_id: asked.chat_id,
                    }));
                }
                MessageBody::Tool(_) => {
                    let asked = pairs.answer(&message.event);
                    if let Some(call) = asked.and_then(|asked| calls.get_mut(asked.number)) {
                        call.answered_by = Some(message.seq());
                    }
                }
                MessageBody::User(_)
                | MessageBody::Reasoning(_)
                | MessageBody::Note(_)
                | MessageBody::Prompt(_)
                | MessageBody::Other => {}
            }
        }
        calls
    }

    /// The run of the newest message: whose a note is that nobody says otherwise of.
    #[must_use]
    pub fn last_run(&self) -> Option<RunId> {
        let newest = self.messages.iter().max_by_key(|message| message.seq());
        newest.and_then(|newest| newest.event.run_id.clone())
    }

    /// Tokens of its messages, by the rule of thumb of [`estimated_tokens`].
    #[must_use]
    pub fn estimated_tokens(&self) -> u64 {
        self.messages.iter().map(ContextMessage::estimated_tokens).sum()
    }

    /// What may be folded so that the last `exchanges` stay, each from a person's message on: everything before
    /// them but the messages whose calls have no result yet. Empty where the window has no more than these.
    #[must_use]
    pub fn before_last(&self, exchanges: usize) -> BTreeSet<u64> {
        let is_user = |message: &&ContextMessage| matches!(message.body, MessageBody::User(_));
        let said = self.messages.iter().filter(is_user).rev().nth(exchanges.saturating_sub(1));
        let end = match (exchanges, said) {
            (0, _) => self.messages.len(),
            (_, Some(first)) => {
                self.messages.iter().position(|message| message.seq() == first.seq()).unwrap_or(0)
            }
            (_, None) => 0,
        };
        let mut older: BTreeSet<u64> = self.messages.iter().take(end).map(ContextMessage::seq).collect();
        let calls = self.calls();
        let whole = |call: &AskedCall<'_>| call.answered_by.is_some_and(|answer| older.contains(&answer));
        let parted: BTreeSet<u64> =
            calls.iter().filter(|call| !whole(call)).map(|call| call.asked_by).collect();
        for call in calls.iter().filter(|call| parted.contains(&call.asked_by)) {
            older.remove(&call.asked_by);
            call.answered_by.map(|answer| older.remove(&answer));
        }
        older
    }

    /// Checks a fold of these messages and says what it leaves. The note takes the place of the first of them.
    ///
    /// `InvalidInput` where a seq is not of the window, none is given, or a tool call would be folded
    /// without its result, or the other way round.
    pub fn fold(&self, seqs: &BTreeSet<u64>) -> Result<NewCompaction> {
        let invalid = |reason: String| Error::invalid("seqs", reason);
        let of_window: BTreeSet<u64> = self.messages.iter().map(ContextMessage::seq).collect();
        if let Some(foreign) = seqs.difference(&of_window).next() {
            return Err(invalid(format!("has {foreign}, which is not in the thread's context window")));
        }
        if seqs.is_empty() {
            return Err(invalid("is empty; name the messages that the note stands for".to_owned()));
        }
        for call in self.calls() {
            let asked = seqs.contains(&call.asked_by);
            match call.answered_by {
                Some(answer) if seqs.contains(&answer) != asked => {
                    return Err(invalid(format!(
                        "would part the call {:?} of message {} from its result {answer}; give both or neither",
                        call.chat_id, call.asked_by
                    )));
                }
                None if asked => {
                    return Err(invalid(format!(
                        "has message {}, whose call {:?} has no result yet; leave it out",
                        call.asked_by, call.chat_id
                    )));
                }
                _ => {}
            }
        }
        let place = self.messages.iter().position(|message| seqs.contains(&message.seq())).unwrap_or(0);
        let (before, after) = self.messages.split_at(place);
        let left = |part: &[ContextMessage]| self.spans(part, |seq| !seqs.contains(&seq));
        Ok(NewCompaction {
            folded: self.spans(&self.messages, |seq| seqs.contains(&seq)),
            before_note: left(before),
            after_note: left(after),
            through_seq: of_window.last().copied().unwrap_or(0),
            before_tokens: 0,
            after_tokens: 0,
            round_index: None,
            expected_last: self.last_compact_seq,
            epoch: None,
            at: crate::Timestamp::now(),
        })
    }

    /// Messages as spans, of those whose seq passes. Two are of one span where the log has no other message
    /// between them that may once have been of the window.
    fn spans(&self, messages: &[ContextMessage], pass: impl Fn(u64) -> bool) -> Vec<SeqSpan> {
        let mut spans: Vec<SeqSpan> = Vec::new();
        let mut before: Option<&ContextMessage> = None;
        for message in messages {
            let seq = message.seq();
            let fresh =
                |message: &ContextMessage| message.seq() > self.through_seq && !is_note(&message.event);
            let next_to = |before: &ContextMessage| {
                seq == before.seq() + 1 || seq > before.seq() && fresh(before) && fresh(message)
            };
            let continues = before.is_some_and(|before| pass(before.seq()) && next_to(before));
            before = Some(message);
            match spans.last_mut() {
                _ if !pass(seq) => {}
                Some(last) if continues => last.through = seq,
                _ => spans.push(SeqSpan { from: seq, through: seq }),
            }
        }
        spans
    }

    /// The window as a chat API takes it: one JSON object per message, the system prompt first.
    ///
    /// Content parts, images among them, are given as they are. Results follow the message that asks for them, in
    /// its order, whenever they came; for those that no message of the window asks for, one is made, as
    /// [`OpenAiChat`] says. Left out is what such an API has no place for: reasoning, and
    /// [`MessageBody::Other`]. A call whose result is missing stays without one: see [`ContextWindow::calls`].
    #[must_use]
    pub fn to_openai_chat(&self) -> Vec<RawJson> {
        let mut chat = OpenAiChat::holding(usize::MAX);
        let mut told: Vec<RawJson> =
            self.system_prompt.as_deref().map(OpenAiChat::system).into_iter().collect();
        told.extend(self.messages.iter().flat_map(|message| chat.take_message(message)));
        told.extend(chat.finish());
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallId, Caller, EventDraft, EventType, ItemId, ItemMark, Timestamp};
    use pretty_assertions::assert_eq;

    fn event(seq: u64, kind: ItemKind, status: ItemStatus, content: &str) -> Event {
        let mark = ItemMark::new(ItemId::new(format!("i{seq}")).unwrap(), kind, status);
        let draft = EventDraft::item(mark, Category::Message, RawJson::from_stored(content));
        Event {
            thread_id: ThreadId::new("t").unwrap(),
            seq,
            run_id: RunId::new("r").ok(),
            journal_ordinal: None,
            event_type: draft.event_type,
            category: draft.category,
            caller: None,
            task_id: None,
            item: draft.item,
            once_key: None,
            content_bytes: draft.content.as_str().len() as u64,
            content: draft.content,
            truncated: false,
            metadata: None,
            created_at: Timestamp::from_unix_micros(0).unwrap(),
        }
    }

    fn said(seq: u64, kind: ItemKind, content: &str) -> Event {
        event(seq, kind, ItemStatus::Completed, content)
    }

    /// The result of a call; it names the message that asked, if it is given.
    fn result(seq: u64, call: Option<&str>, parent: Option<u64>, status: ItemStatus, content: &str) -> Event {
        let mut event = event(seq, ItemKind::ToolCall, status, content);
        if let Some(item) = &mut event.item {
            item.call_id = call.map(|call| CallId::new(call).unwrap());
            item.parent_item_id = parent.map(|seq| ItemId::new(format!("i{seq}")).unwrap());
        }
        event
    }

    fn window(events: Vec<Event>) -> ContextWindow {
        ContextWindow {
            thread_id: ThreadId::new("t").unwrap(),
            system_prompt: None,
            compact_seq: None,
            last_compact_seq: None,
            through_seq: 0,
            messages: events.into_iter().map(ContextMessage::of).collect(),
        }
    }

    fn chat(window: &ContextWindow) -> Vec<String> {
        window.to_openai_chat().iter().map(|message| message.as_str().to_owned()).collect()
    }

    #[test]
    fn chat_messages_keep_calls_parts_and_numbers() {
        let asks = r#"{"content":"","tool_calls":[{"id":"c1","name":"add","args":{"n":1.50}},{"id":null,"name":"odd","args":"{not json"}]}"#;
        let parts = r#"[{"type":"text","text":"what is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]"#;
        let mut prompted = window(vec![
            said(1, ItemKind::UserMessage, &format!(r#"{{"content":{parts}}}"#)),
            said(2, ItemKind::AgentMessage, asks),
            result(
                3,
                None,
                Some(2),
                ItemStatus::Completed,
                r#"{"name":"odd","args":"","content":{"a":[1e400]}}"#,
            ),
            result(
                4,
                Some("c1"),
                Some(2),
                ItemStatus::Completed,
                r#"{"name":"add","args":{},"content":"2"}"#,
            ),
            said(5, ItemKind::Reasoning, r#"{"text":"hm"}"#),
            said(6, ItemKind::ContextCompaction, r#"{"content":"they spoke"}"#),
            said(7, ItemKind::HookPrompt, r#"{"content":"be kind"}"#),
            said(8, ItemKind::Plan, r#"{"text":"later"}"#),
        ]);
        prompted.system_prompt = Some("you are \"it\"".to_owned());
        assert_eq!(
            chat(&prompted),
            [
                r#"{"role":"system","content":"you are \"it\""}"#.to_owned(),
                format!(r#"{{"role":"user","content":{parts}}}"#),
                concat!(
                    r#"{"role":"assistant","content":"","tool_calls":["#,
                    r#"{"id":"c1","type":"function","function":{"name":"add","arguments":"{\"n\":1.50}"}},"#,
                    r#"{"id":"i2/1","type":"function","function":{"name":"odd","arguments":"{not json"}}]}"#,
                )
                .to_owned(),
                r#"{"role":"tool","content":"2","tool_call_id":"c1"}"#.to_owned(),
                r#"{"role":"tool","content":"{\"a\":[1e400]}","tool_call_id":"i2/1"}"#.to_owned(),
                r#"{"role":"system","content":"they spoke"}"#.to_owned(),
                r#"{"role":"system","content":"be kind"}"#.to_owned(),
            ]
        );
    }

    #[test]
    fn the_model_is_told_of_a_call_without_a_result() {
        let asks = r#"{"content":"","tool_calls":[{"id":"a","name":"t","args":{}},{"id":"b","name":"t","args":{}}]}"#;
        let failed = r#"{"name":"t","args":{},"error":{"type":"E","message":"no room"}}"#;
        let told = window(vec![
            said(1, ItemKind::AgentMessage, asks),
            result(2, Some("a"), None, ItemStatus::Interrupted, r#"{"name":"t","args":{}}"#),
            result(3, Some("b"), None, ItemStatus::Failed, failed),
            result(
                4,
                Some("nobody asked"),
                None,
                ItemStatus::Completed,
                r#"{"name":"t","args":{},"content":"x"}"#,
            ),
        ]);
        assert_eq!(
            chat(&told)[1..],
            [
                r#"{"role":"tool","content":"the call has no result: it was interrupted","tool_call_id":"a"}"#,
                r#"{"role":"tool","content":"no room","tool_call_id":"b"}"#,
                r#"{"role":"assistant","content":null,"tool_calls":[{"id":"nobody asked","type":"function","function":{"name":"t","arguments":"{}"}}]}"#,
                r#"{"role":"tool","content":"x","tool_call_id":"nobody asked"}"#,
            ]
        );
    }

    #[test]
    fn repeated_call_ids_belong_to_the_message_that_asked() {
        let asks = r#"{"content":"","tool_calls":[{"id":"x","name":"t","args":{}}]}"#;
        let repeated = window(vec![
            said(1, ItemKind::AgentMessage, asks),
            said(2, ItemKind::AgentMessage, asks),
            result(3, Some("x"), Some(2), ItemStatus::Completed, r#"{"name":"t","args":{},"content":"2"}"#),
            result(4, Some("x"), None, ItemStatus::Completed, r#"{"name":"t","args":{},"content":"1"}"#),
        ]);
        let answers: Vec<_> = repeated.calls().iter().map(|call| (call.asked_by, call.answered_by)).collect();
        assert_eq!(answers, [(1, Some(4)), (2, Some(3))]);
    }

    #[test]
    fn what_is_no_message_of_the_lead_agent_is_left_out() {
        let own = said(1, ItemKind::AgentMessage, "{}");
        assert!(is_message(&own));
        let with_caller = |caller: &str| Event { caller: Some(Caller::from_stored(caller)), ..own.clone() };
        assert!(is_message(&with_caller("lead_agent")) && is_message(&with_caller("billing")));
        assert!(!is_message(&with_caller("subagent:x")) && !is_message(&with_caller("middleware:x")));
        assert!(!is_message(&event(1, ItemKind::ToolCall, ItemStatus::InProgress, "{}")));
        assert!(!is_message(&Event { category: Category::Lifecycle, ..own.clone() }));
        assert!(!is_message(&Event { item: None, event_type: EventType::from_stored("note"), ..own }));
    }

    #[test]
    fn what_is_older_than_the_last_exchanges_keeps_its_calls_whole() {
        let asks = r#"{"content":"","tool_calls":[{"id":"x","name":"t","args":{}}]}"#;
        let spoken = window(vec![
            said(1, ItemKind::UserMessage, r#"{"content":"1"}"#),
            said(2, ItemKind::AgentMessage, asks),
            said(3, ItemKind::UserMessage, r#"{"content":"2"}"#),
            result(4, Some("x"), Some(2), ItemStatus::Completed, r#"{"name":"t","args":{},"content":"2"}"#),
            said(5, ItemKind::AgentMessage, asks),
        ]);
        let older = |exchanges| Vec::from_iter(spoken.before_last(exchanges));
        assert_eq!(older(0), [1, 2, 3, 4]);
        assert_eq!(older(1), [1]);
        assert_eq!(older(2), [0; 0]);
        assert_eq!(older(9), [0; 0]);
        for exchanges in 0..2 {
            spoken.fold(&spoken.before_last(exchanges)).unwrap();
        }
    }

    #[test]
    fn spans_hold_no_message_that_is_not_of_the_window() {
        // What was folded between 1 and 4 must not come back.
        let mut folded = window([1, 5, 4, 6, 9].map(|seq| said(seq, ItemKind::UserMessage, "{}")).to_vec());
        folded.through_seq = 4;
        folded.messages[1] = ContextMessage::of(said(5, ItemKind::ContextCompaction, "{}"));
        let left = folded.fold(&BTreeSet::from([5])).unwrap();
        let span = |from, through| SeqSpan { from, through };
        assert_eq!((left.before_note, left.after_note), (vec![span(1, 1)], vec![span(4, 4), span(6, 9)]));
    }
}
