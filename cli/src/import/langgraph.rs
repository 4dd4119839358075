//! Threads as the LangGraph platform returns their state: `values.messages` and what goes with it.
//!
//! A run is one human message and what follows it. The state has no times but its own, no usage,
//! and system messages that the application put in: those are context, not conversation.
//! Records have the shapes the journal gives the same messages when it sees them live.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use runledger_core::{
    AgentMessage, CallId, Category, ContentText as _, Error, EventDraft, ItemError, ItemKind, ItemMark,
    ItemStatus, NewThread, Origin, Outcome, RawJson, RunId, RunProgress, SourceId, ThreadId, Timestamp,
    TokenCounts, ToolCall, ToolRequest, UsageDraft, UserMessage, text,
};
use runledger_journal::ItemIds;

use super::fields::{Fields, compact};
use super::plan::{Group, RunPlan, ThreadPlan, admission, event, interrupted, record};
use super::source::{Fault, bad_json, read};
use crate::Failure;

/// Reads a file into a plan; the file's name is the thread's id.
pub(crate) fn parse(file: &Path) -> Result<ThreadPlan, Failure> {
    let text = read(file)?;
    let state: Fields = serde_json::from_str(&text).map_err(|error| bad_json(file, &error))?;
    plan(file, &state).map_err(|fault| fault.in_text(file, &text))
}

fn plan(file: &Path, state: &Fields) -> Result<ThreadPlan, Fault> {
    let stem = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let thread_id =
        ThreadId::new(&stem).map_err(|error| Fault::new("", format!("its name is no thread id: {error}")))?;
    let values = state.get("values").ok_or_else(|| Fault::new("values", "is missing"))?;
    let values = Fields::parse(values).ok_or_else(|| Fault::new("values", "is no object"))?;
    let listed = values.get("messages").ok_or_else(|| Fault::new("values.messages", "is missing"))?;
    let listed: Vec<RawJson> =
        listed.decode().map_err(|error| Fault::new("values.messages", format!("is no array: {error}")))?;
    if listed.is_empty() {
        return Err(Fault::new("values.messages", "is empty"));
    }
    let at = state.string("created_at").ok_or_else(|| Fault::new("created_at", "is missing"))?;
    let at = Timestamp::parse("created_at", &at)
        .map_err(|error| Fault::new("created_at", format!("is no time: {error}")))?;
    let messages = listed
        .iter()
        .enumerate()
        .map(|(index, raw)| Message::parse(index, raw))
        .collect::<Result<Vec<_>, _>>()?;
    let parts = split(&messages);
    let last = parts.len();
    let runs = parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let outcome = if index + 1 == last { outcome(state) } else { Outcome::success() };
            Conversation::new(at).run(&thread_id, index + 1, part, outcome)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let thread = NewThread {
        display_name: values.string("title"),
        metadata: state
            .get("metadata")
            .filter(|value| value.is_object())
            .cloned()
            .unwrap_or(RawJson::empty_object()),
        created_at: at,
        ..NewThread::new(thread_id)
    };
    Ok(ThreadPlan { file: file.to_owned(), thread, runs })
}

/// A state with nothing left to do ended well.
fn outcome(state: &Fields) -> Outcome {
    if state.has_elements("interrupts") {
        Outcome::interrupted("waiting_for_input")
    } else if state.has_elements("next") {
        Outcome::interrupted("not_finished")
    } else {
        Outcome::success()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Human,
    Ai,
    Tool,
    Context,
}

#[derive(Debug)]
struct Message {
    index: usize,
    role: Role,
    kind: String,
    fields: Fields,
    tokens: Option<TokenCounts>,
}

impl Message {
    fn parse(index: usize, raw: &RawJson) -> Result<Self, Fault> {
        let path = format!("values.messages[{index}]");
        let fault = |field: &str, reason: &str| Fault::new(format!("{path}{field}"), reason);
        let fields = Fields::parse(raw).ok_or_else(|| fault("", "is no object with text as keys"))?;
        let kind = fields.string("type").ok_or_else(|| fault(".type", "is missing"))?;
        let role = match kind.as_str() {
            "human" => Role::Human,
            "ai" | "AIMessageChunk" => Role::Ai,
            "tool" => Role::Tool,
            "system" | "developer" => Role::Context,
            other => {
                let reason = format!("is {other:?}; known are human, ai, tool, system, developer");
                return Err(fault(".type", &reason));
            }
        };
        let content = fields.get("content").ok_or_else(|| fault(".content", "is missing"))?;
        if !content.as_str().starts_with(['"', '[']) {
            return Err(fault(".content", "is neither a text nor a list of parts"));
        }
        if role == Role::Tool && fields.string("tool_call_id").is_none() {
            return Err(fault(".tool_call_id", "is missing"));
        }
        for (number, request) in fields.elements("tool_calls").iter().enumerate() {
            let named = Fields::parse(request).is_some_and(|request| request.string("name").is_some());
            if !named {
                return Err(fault(&format!(".tool_calls[{number}].name"), "is missing"));
            }
        }
        let tokens = match role {
            Role::Ai => tokens(&fields, &format!("{path}.usage_metadata"))?,
            Role::Human | Role::Tool | Role::Context => None,
        };
        Ok(Self { index, role, kind, fields, tokens })
    }

    fn content(&self) -> RawJson {
        self.fields.get("content").cloned().unwrap_or_default()
    }

    fn summary(&self) -> Option<String> {
        text::summary(&self.content().text())
    }

    fn fallback_id(&self) -> String {
        format!("message-{}", self.index)
    }

    fn id(&self) -> Option<String> {
        self.fields.string("id")
    }
}

/// A run each: from a human message to the next; what stands before the first belongs to it.
fn split(messages: &[Message]) -> Vec<&[Message]> {
    let mut starts: Vec<usize> =
        messages.iter().filter(|message| message.role == Role::Human).map(|message| message.index).collect();
    match starts.first_mut() {
        Some(first) => *first = 0,
        None => starts.push(0),
    }
    let ends = starts.iter().skip(1).copied().chain([messages.len()]);
    starts.iter().zip(ends).filter_map(|(from, to)| messages.get(*from..to)).collect()
}

/// One run as it is built.
struct Conversation {
    at: Timestamp,
    ids: ItemIds,
    calls: Vec<Call>,
    /// The calls of an id that wait for a result. Models give one id to two calls now and then:
    /// the first that was asked for is answered first.
    waiting: HashMap<String, VecDeque<usize>>,
    progress: RunProgress,
}

struct Call {
    mark: ItemMark,
    payload: ToolCall,
    done: bool,
}

impl Conversation {
    fn new(at: Timestamp) -> Self {
        Self {
            at,
            ids: ItemIds::default(),
            calls: Vec::new(),
            waiting: HashMap::new(),
            progress: RunProgress::default(),
        }
    }

    fn run(
        mut self,
        thread: &ThreadId,
        number: usize,
        messages: &[Message],
        outcome: Outcome,
    ) -> Result<RunPlan, Error> {
        let source: String = messages.iter().map(|message| message.fields.to_json().to_string()).collect();
        let mut admission = admission("langgraph-thread", &source, self.at);
        let mut input = Vec::new();
        let mut groups = Vec::new();
        for (position, message) in messages.iter().enumerate() {
            match message.role {
                Role::Human => {
                    let event = self.human(message)?;
                    admission.first_human_message = message.summary();
                    if position == 0 { input.push(event) } else { groups.push(Group::of(vec![event])) }
                }
                Role::Ai => groups.push(self.ai(message)?),
                Role::Tool => groups.push(Group::of(self.tool(message)?)),
                Role::Context => {
                    let kind = format!("context:{}", message.kind);
                    let content = message.fields.to_json();
                    groups.push(Group::of(vec![event(&kind, Category::Context, content, self.at)]));
                }
            }
        }
        groups.extend(self.close()?);
        Ok(RunPlan {
            run_id: RunId::new(format!("{thread}-run-{number}"))?,
            admission,
            input,
            groups,
            progress: self.progress,
            outcome,
            finished_at: self.at,
        })
    }

    fn human(&mut self, message: &Message) -> Result<EventDraft, Error> {
        let id = self.ids.take(message.id().as_deref(), &message.fallback_id());
        let extra = message.fields.clone().without(&["content"]).to_json();
        let payload =
            UserMessage { content: message.content(), extra: Some(extra), ..UserMessage::default() };
        let mark = ItemMark::new(id, ItemKind::UserMessage, ItemStatus::Completed);
        record(mark, Category::Message, &payload, Some(&Origin::Admission), self.at)
    }

    fn ai(&mut self, message: &Message) -> Result<Group, Error> {
        let fields = &message.fields;
        let id = self.ids.take(message.id().as_deref(), &message.fallback_id());
        let mut extra = fields.clone().without(&["content", "tool_calls", "usage_metadata"]);
        let mut events = Vec::new();
        let additional = fields.object("additional_kwargs");
        if let Some(said) = additional.string("reasoning_content").and(additional.get("reasoning_content")) {
            let reasoning = self.ids.take(None, &format!("{id}/reasoning"));
            let mark = ItemMark {
                parent_item_id: Some(id.clone()),
                ..ItemMark::new(reasoning, ItemKind::Reasoning, ItemStatus::Completed)
            };
            let payload = Fields::default().with("text", said.clone()).to_json();
            events.push(record(mark, Category::Reasoning, &payload, Some(&Origin::LlmEnd), self.at)?);
            extra =
                extra.with("additional_kwargs", additional.clone().without(&["reasoning_content"]).to_json());
        }
        let response = fields.object("response_metadata");
        let model = response.string("model_name").or_else(|| response.string("model"));
        if self.progress.model_name.is_none() {
            self.progress.model_name.clone_from(&model);
        }
        if let Some(said) = message.summary() {
            self.progress.last_ai_message = Some(said);
        }
        let requests = requests(fields);
        let payload = AgentMessage {
            content: message.content(),
            tool_calls: requests.clone(),
            model: model.clone(),
            usage: fields.get("usage_metadata").filter(|usage| usage.is_object()).cloned(),
            extra: Some(extra.to_json()),
            ..AgentMessage::default()
        };
        let mark = ItemMark::new(id.clone(), ItemKind::AgentMessage, ItemStatus::Completed);
        events.push(record(mark, Category::Message, &payload, Some(&Origin::LlmEnd), self.at)?);
        for request in requests {
            events.push(self.request(request, Some(&id), &message.fallback_id())?);
        }
        let usage = message.tokens.map(|tokens| UsageDraft {
            model: model.map(|model| text::clean(&model).into_owned()),
            raw: fields.get("usage_metadata").cloned(),
            created_at: self.at,
            ..UsageDraft::new(SourceId::of_item(&id), tokens)
        });
        Ok(Group { events, usage: usage.into_iter().collect() })
    }

    fn request(
        &mut self,
        request: ToolRequest,
        parent: Option<&runledger_core::ItemId>,
        fallback: &str,
    ) -> Result<EventDraft, Error> {
        let id = self.ids.take(request.id.as_deref(), &format!("{fallback}-call"));
        let mark = ItemMark {
            call_id: request.id.as_deref().and_then(|id| CallId::new(id).ok()),
            parent_item_id: parent.cloned(),
            ..ItemMark::new(id, ItemKind::ToolCall, ItemStatus::InProgress)
        };
        let payload = ToolCall::asked(request.name, request.args);
        let event = record(mark.clone(), Category::Lifecycle, &payload, None, self.at)?;
        if let Some(id) = request.id {
            self.waiting.entry(id).or_default().push_back(self.calls.len());
        }
        self.calls.push(Call { mark, payload, done: false });
        Ok(event)
    }

    fn tool(&mut self, message: &Message) -> Result<Vec<EventDraft>, Error> {
        let id = message.fields.string("tool_call_id").unwrap_or_default();
        let mut events = Vec::new();
        if self.waiting.get(&id).is_none_or(VecDeque::is_empty) {
            let name = message.fields.string("name").unwrap_or_default();
            let request = ToolRequest { id: Some(id.clone()), name, args: RawJson::null() };
            events.push(self.request(request, None, &message.fallback_id())?);
        }
        let index = self.waiting.get_mut(&id).and_then(VecDeque::pop_front);
        let Some(call) = index.and_then(|index| self.calls.get_mut(index)) else { return Ok(events) };
        call.done = true;
        let failed = message.fields.string("status").as_deref() == Some("error");
        let payload = ToolCall {
            content: Some(message.content()),
            error: failed.then(|| ItemError {
                error_type: "ToolMessage".to_owned(),
                message: message.summary().unwrap_or_default(),
            }),
            extra: Some(message.fields.clone().without(&["content"]).to_json()),
            ..call.payload.clone()
        };
        let status = if failed { ItemStatus::Failed } else { ItemStatus::Completed };
        let mark = ItemMark { status, ..call.mark.clone() };
        events.push(record(mark, Category::Message, &payload, Some(&Origin::ToolEnd), self.at)?);
        Ok(events)
    }

    /// Calls that no message answers.
    fn close(&self) -> Result<Vec<Group>, Error> {
        let left = self.calls.iter().filter(|call| !call.done);
        left.map(|call| {
            let content = RawJson::encode("content", &call.payload)?;
            Ok(Group::of(vec![interrupted(call.mark.item_id.clone(), &call.mark, content, self.at)]))
        })
        .collect()
    }
}

fn requests(fields: &Fields) -> Vec<ToolRequest> {
    let read = |raw: &RawJson| {
        let call = Fields::parse(raw)?;
        Some(ToolRequest {
            id: call.string("id"),
            name: call.string("name")?,
            args: call.get("args").map(compact).unwrap_or_default(),
        })
    };
    fields.elements("tool_calls").iter().filter_map(read).collect()
}

/// The tokens of the call, where the message has them.
fn tokens(fields: &Fields, path: &str) -> Result<Option<TokenCounts>, Fault> {
    let Some(used) = fields.get("usage_metadata").and_then(Fields::parse) else { return Ok(None) };
    let detail = |of: &str, name: &str| used.object(of).count(&format!("{path}.{of}"), name);
    let input = used.count(path, "input_tokens")?.unwrap_or(0);
    let output = used.count(path, "output_tokens")?.unwrap_or(0);
    let counted = TokenCounts::of(input, output);
    Ok(Some(TokenCounts {
        total: used.count(path, "total_tokens")?.unwrap_or(counted.total),
        cache_read: detail("input_token_details", "cache_read")?.unwrap_or(0),
        cache_write: detail("input_token_details", "cache_creation")?.unwrap_or(0),
        reasoning: detail("output_token_details", "reasoning")?.unwrap_or(0),
        ..counted
    }))
}
