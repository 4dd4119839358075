//! Model calls: the messages shown, the answer, its tool calls, and what it took.

use runledger_core::{
    AgentMessage, CallId, Caller, Category, ContentText as _, Estimate, EventDraft, ItemId, ItemKind,
    ItemMark, ItemStatus, Origin, RawJson, RawObject, SourceId, Timestamp, TokenCounts, ToolCall,
    ToolRequest, UsageDraft, UserMessage, event_type, text,
};
use serde_json::json;

use super::delta::Told;
use super::{Counting, Mapper, Recorded, caller_of, encode, event, item, metadata_text};
use crate::callbacks::{ChatModelStart, Context, Failed, LlmEnd, LlmStart};
use crate::message::{Message, Role};

/// A model call as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct ModelCall {
    started_at: Option<Timestamp>,
    index: u64,
    /// The lead agent's call of the run that it is, or was made after; counted from 0.
    round: u64,
    pub(super) caller: Caller,
    provider: Option<String>,
    model: Option<String>,
    /// How long it took, known once it ended.
    latency_ms: Option<u64>,
    /// An answer with a message was stored: a second one is a repetition.
    answered: bool,
    /// It ended, well or not.
    pub(super) ended: bool,
    /// Its tokens were counted: a later report is a repetition.
    counted: bool,
    /// What it was shown, until it ended: a call that fails is billed for it.
    shown: Option<RawJson>,
    /// What was reserved for it.
    settles: Estimate,
    /// The items that pieces were told of, while somebody listens.
    pub(super) told: Told,
}

/// One answer of a model.
struct Answer<'a> {
    message: &'a Message,
    origin: Origin,
    llm_run_id: &'a str,
    caller: &'a Caller,
    latency_ms: Option<u64>,
    call_index: Option<u64>,
    at: Timestamp,
}

impl Mapper {
    /// A chat model was called: the person's message if it is new, then the call.
    pub(crate) fn chat_model_start(&mut self, start: &ChatModelStart<'_>) -> Recorded {
        let context = &start.context;
        let caller = caller_of(context.tags);
        let mut recorded =
            Recorded { events: self.reconcile(Some(start.messages), context.at), ..Recorded::default() };
        if !self.human.recorded && caller == Caller::lead_agent() {
            self.human_input(start.messages, context, &mut recorded);
        }
        recorded.events.extend(self.model_start(context, caller, "chat", start.messages));
        recorded
    }

    /// A text model was called.
    pub(crate) fn llm_start(&mut self, start: &LlmStart<'_>) -> Recorded {
        let caller = caller_of(start.context.tags);
        Recorded {
            events: self.model_start(&start.context, caller, "text", start.prompts).into_iter().collect(),
            ..Recorded::default()
        }
    }

    fn model_start(
        &mut self,
        context: &Context<'_>,
        caller: Caller,
        kind: &str,
        shown: &RawJson,
    ) -> Option<EventDraft> {
        if self.calls.contains_key(context.run_id) {
            return None;
        }
        let kept = (self.billing.counting == Counting::Estimates).then(|| shown.clone());
        let call = self.new_call(context, caller.clone(), Some(context.at));
        call.shown = kept;
        let content = json!({
            "run_id": context.run_id,
            "kind": kind,
            "call_index": call.index,
            "provider": call.provider,
            "model": call.model,
        });
        Some(event(event_type::LLM_STARTED, Category::Trace, Some(caller), content, context.at))
    }

    fn new_call(
        &mut self,
        context: &Context<'_>,
        caller: Caller,
        started_at: Option<Timestamp>,
    ) -> &mut ModelCall {
        self.call_order.push(context.run_id.to_owned());
        self.lead_calls += u64::from(caller == Caller::lead_agent());
        let call = ModelCall {
            started_at,
            index: self.earlier_calls + self.call_order.len() as u64,
            round: self.round(),
            caller,
            provider: metadata_text(context, "ls_provider"),
            model: metadata_text(context, "ls_model_name"),
            latency_ms: None,
            answered: false,
            ended: false,
            counted: false,
            shown: None,
            settles: self.reserved.pop_front().unwrap_or_default(),
            told: Told::default(),
        };
        self.calls.entry(context.run_id.to_owned()).or_insert(call)
    }

    /// The round of the agent's loop that goes on: a call before the lead agent's first is part of the first.
    pub(super) fn round(&self) -> u64 {
        self.lead_calls.saturating_sub(1)
    }

    /// What was reserved is settled by the next model call that starts.
    pub(crate) fn reserved(&mut self, estimate: Estimate) {
        self.reserved.push_back(estimate);
    }

    /// The newest message in which a person speaks becomes the run's user message.
    fn human_input(&mut self, messages: &RawJson, context: &Context<'_>, recorded: &mut Recorded) {
        let shown = messages.elements();
        let batches = shown.iter().rev().map(|batch| {
            if batch.as_str().starts_with('[') { batch.elements() } else { vec![batch.clone()] }
        });
        let found = batches
            .flat_map(|batch| batch.into_iter().rev().collect::<Vec<_>>())
            .filter_map(|message| Message::parse(&message))
            .find(Message::is_input);
        let Some(message) = found else { return };
        let origin = if self.human.preset { Origin::ModelInputPreset } else { Origin::ModelInput };
        let otherwise = format!("{}-input", context.run_id);
        let (event, summary) =
            self.user_message(&message, &otherwise, &Caller::lead_agent(), &origin, context.at);
        self.human.recorded = true;
        recorded.events.push(event);
        if !self.human.preset {
            recorded.progress.first_human_message = summary;
        }
    }

    /// The record of a person's message, and its summary. Where an application put its own text
    /// into the message, the person's is the content and the model's is kept beside it.
    pub(super) fn user_message(
        &mut self,
        message: &Message,
        otherwise: &str,
        caller: &Caller,
        origin: &Origin,
        at: Timestamp,
    ) -> (EventDraft, Option<String>) {
        let mut extra = message.fields.clone().without(&["content"]);
        let shown = message.content();
        let own = message.additional().get("original_user_content").cloned();
        let content = match own.filter(|own| own.as_str().starts_with('"')) {
            Some(own) => {
                extra.set("model_content", shown);
                own
            }
            None => shown,
        };
        let summary = text::summary(&content.text());
        let id = self.ids.take(message.id().as_deref(), otherwise);
        let payload = UserMessage { content, extra: Some(extra.to_json()), ..UserMessage::default() };
        let mark = ItemMark::new(id, ItemKind::UserMessage, ItemStatus::Completed);
        (item(mark, Category::Message, caller, encode(&payload), Some(origin), at), summary)
    }

    /// A model answered: its messages, their tool calls, and what the call took.
    pub(crate) fn llm_end(&mut self, end: &LlmEnd<'_>) -> Recorded {
        let context = &end.context;
        let tagged = caller_of(context.tags);
        if !self.calls.contains_key(context.run_id) {
            self.new_call(context, tagged.clone(), None);
        }
        let Some(mut call) = self.calls.get(context.run_id).cloned() else { return Recorded::default() };
        let caller = if context.tags.is_empty() { call.caller.clone() } else { tagged };
        if !call.ended {
            call.latency_ms = call.started_at.map(|at| context.at.millis_since(at));
        }
        let latency_ms = call.latency_ms;
        let generations = generations(end.response);
        let mut recorded = Recorded::default();
        if !call.answered {
            for generation in &generations {
                self.answer(
                    &Answer {
                        message: &generation.message,
                        origin: generation.origin.clone(),
                        llm_run_id: context.run_id,
                        caller: &caller,
                        latency_ms,
                        call_index: Some(call.index),
                        at: context.at,
                    },
                    &mut recorded,
                );
            }
            call.answered = generations.iter().any(|generation| generation.origin == Origin::LlmEnd);
        }
        self.count(&mut call, context, caller, latency_ms, &generations, &mut recorded);
        call.ended = true;
        call.shown = None;
        call.told = Told::default();
        self.calls.insert(context.run_id.to_owned(), call);
        recorded
    }

    fn count(
        &mut self,
        call: &mut ModelCall,
        context: &Context<'_>,
        caller: Caller,
        latency_ms: Option<u64>,
        generations: &[Generation],
        recorded: &mut Recorded,
    ) {
        if self.billing.counting == Counting::Nothing || call.counted {
            return;
        }
        let used = generations.iter().find_map(|generation| {
            let raw = generation.message.fields.get("usage_metadata")?;
            let tokens = tokens_of(raw)?;
            (tokens.total > 0).then(|| (tokens, raw.clone(), &generation.message))
        });
        call.counted = used.is_some();
        if used.is_none() && call.ended {
            return;
        }
        let named = used.as_ref().map(|(_, _, message)| *message).or(generations.first().map(|g| &g.message));
        let (tokens, raw) = match &used {
            Some((tokens, raw, _)) => (*tokens, Some(raw.clone())),
            // The provider bills it, though it says nothing of it.
            None => (call.estimate(generations), None),
        };
        let model = named.and_then(model_of);
        if let Some(model) = &model
            && !self.named_model
            && caller == Caller::lead_agent()
        {
            self.named_model = true;
            recorded.progress.model_name = Some(model.clone());
        }
        let counted = UsageDraft {
            round_index: Some(call.round),
            settles: call.settles,
            caller,
            provider: call.provider.clone(),
            model,
            estimated: used.is_none(),
            latency_ms,
            raw,
            created_at: context.at,
            ..UsageDraft::new(self.sources.of_call(context.run_id), tokens)
        };
        recorded.usage.push(self.priced(counted, call.model.as_deref()));
    }

    /// A message of an agent: its reasoning, itself, and the tool calls it asks for.
    fn answer(&mut self, answer: &Answer<'_>, recorded: &mut Recorded) {
        let message = answer.message;
        let id = self.ids.take(message.id().as_deref(), &format!("{}-0", answer.llm_run_id));
        let mut extra = message.fields.clone().without(&["content", "tool_calls", "usage_metadata"]);
        if let Some(reasoning) = self.reasoning(answer, &id, &mut extra) {
            recorded.events.push(reasoning);
        }
        let requests = tool_requests(message);
        let payload = AgentMessage {
            content: message.content(),
            tool_calls: requests.clone(),
            model: model_of(message),
            usage: message.fields.get("usage_metadata").filter(|usage| usage.is_object()).cloned(),
            latency_ms: answer.latency_ms,
            call_index: answer.call_index,
            extra: Some(extra.to_json()),
            ..AgentMessage::default()
        };
        let mark = ItemMark::new(id.clone(), ItemKind::AgentMessage, ItemStatus::Completed);
        let origin = Some(&answer.origin);
        recorded.events.push(item(
            mark,
            Category::Message,
            answer.caller,
            encode(&payload),
            origin,
            answer.at,
        ));
        if *answer.caller == Caller::lead_agent()
            && let Some(summary) = message.summary()
        {
            recorded.progress.last_ai_message = Some(summary);
        }
        for request in requests {
            let started = self.request_tool(&request, &id, answer.llm_run_id, answer.caller, answer.at);
            recorded.events.push(started);
        }
    }

    /// Reasoning that stands beside the content, as an item of its own before the message. It is
    /// taken out of the message, whose part it is.
    fn reasoning(
        &mut self,
        answer: &Answer<'_>,
        message: &ItemId,
        extra: &mut RawObject,
    ) -> Option<EventDraft> {
        let additional = answer.message.additional();
        let said = additional.get("reasoning_content")?.clone();
        additional.string("reasoning_content")?;
        extra.set("additional_kwargs", additional.without(&["reasoning_content"]).to_json());
        let mut payload = RawObject::default();
        payload.set("text", said);
        let id = self.ids.take(None, &format!("{message}/reasoning"));
        let mark = ItemMark {
            parent_item_id: Some(message.clone()),
            ..ItemMark::new(id, ItemKind::Reasoning, ItemStatus::Completed)
        };
        let origin = Some(&answer.origin);
        Some(item(mark, Category::Reasoning, answer.caller, payload.to_json(), origin, answer.at))
    }

    fn request_tool(
        &mut self,
        request: &ToolRequest,
        message: &ItemId,
        llm_run_id: &str,
        caller: &Caller,
        at: Timestamp,
    ) -> EventDraft {
        let id = self.ids.take(request.id.as_deref(), &format!("{llm_run_id}-call"));
        let mark = ItemMark {
            call_id: request.id.as_deref().and_then(|id| CallId::new(id).ok()),
            parent_item_id: Some(message.clone()),
            ..ItemMark::new(id, ItemKind::ToolCall, ItemStatus::InProgress)
        };
        self.tools.open(&mark, request.id.clone(), &request.name, request.args.clone(), caller.clone());
        let payload = ToolCall::asked(request.name.as_str(), request.args.clone());
        item(mark, Category::Lifecycle, caller, encode(&payload), None, at)
    }

    /// A message of an agent that a tool returned.
    pub(super) fn agent_message(
        &mut self,
        message: &Message,
        source: &str,
        caller: &Caller,
        origin: Origin,
        at: Timestamp,
        recorded: &mut Recorded,
    ) {
        let answer =
            Answer { message, origin, llm_run_id: source, caller, latency_ms: None, call_index: None, at };
        self.answer(&answer, recorded);
    }

    /// A model call failed. It is counted with an estimate of what it is billed for.
    pub(crate) fn llm_error(&mut self, failed: &Failed<'_>) -> Recorded {
        let context = &failed.context;
        if !self.calls.contains_key(context.run_id) {
            self.new_call(context, caller_of(context.tags), None);
        }
        let Some(call) = self.calls.get_mut(context.run_id) else { return Recorded::default() };
        if call.ended {
            return Recorded::default();
        }
        call.ended = true;
        let latency_ms = call.started_at.map(|at| context.at.millis_since(at));
        let content = json!({
            "run_id": context.run_id,
            "call_index": call.index,
            "error": { "type": failed.error.error_type, "message": failed.error.message },
            "latency_ms": latency_ms,
        });
        let caller = Some(call.caller.clone());
        let event = event(event_type::LLM_FAILED, Category::Trace, caller, content, context.at);
        let usage = call.estimated(self.sources.of_call(context.run_id), latency_ms, context.at);
        let is_counted = self.billing.counting != Counting::Nothing;
        let usage = if is_counted { vec![self.priced(usage, None)] } else { Vec::new() };
        Recorded { usage, ..Recorded::event(event) }
    }

    /// Calls that never ended, because the run did: each was a call, and is billed.
    pub(super) fn unfinished_calls(&mut self, at: Timestamp) -> Vec<UsageDraft> {
        if self.billing.counting == Counting::Nothing {
            return Vec::new();
        }
        let mut usage = Vec::new();
        for id in &self.call_order {
            if let Some(call) = self.calls.get_mut(id)
                && !call.ended
            {
                call.ended = true;
                usage.push(call.estimated(
                    self.sources.of_call(id),
                    call.started_at.map(|started| at.millis_since(started)),
                    at,
                ));
            }
        }
        usage.into_iter().map(|call| self.priced(call, None)).collect()
    }
}

impl ModelCall {
    /// The record of a call that gave no answer. What it was shown is estimated, where that was kept; a later
    /// report of the call takes its place.
    fn estimated(&mut self, id: SourceId, latency_ms: Option<u64>, at: Timestamp) -> UsageDraft {
        let tokens = self.estimate(&[]);
        self.shown = None;
        UsageDraft {
            round_index: Some(self.round),
            settles: self.settles,
            caller: self.caller.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            estimated: true,
            latency_ms,
            created_at: at,
            ..UsageDraft::new(id, tokens)
        }
    }

    /// What it took, as far as can be told of what it was shown and what it answered. Nothing where what it was
    /// shown was not kept.
    fn estimate(&self, answers: &[Generation]) -> TokenCounts {
        let Some(shown) = &self.shown else { return TokenCounts::default() };
        let output = answers.iter().map(|answer| text_tokens(&answer.message.content().text())).sum();
        TokenCounts::of(estimate_input(shown), output)
    }
}

/// A rule of thumb: a token for four bytes of text in UTF-8.
fn text_tokens(text: &str) -> u64 {
    text.len() as u64 / 4
}

/// What a model is billed for what it was shown: its text, and four tokens a message for what stands around it.
/// What is no text (images, tool calls) is left out, so that the estimate is rather too low.
fn estimate_input(shown: &RawJson) -> u64 {
    let tokens_of = |text: &str| 4 + text_tokens(text);
    let messages = shown
        .elements()
        .into_iter()
        .flat_map(|batch| if batch.as_str().starts_with('[') { batch.elements() } else { vec![batch] });
    messages
        .map(|message| match Message::parse(&message) {
            Some(message) => tokens_of(&message.content().text()),
            None => tokens_of(&message.text()),
        })
        .sum()
}

/// One answer in a model's response.
struct Generation {
    message: Message,
    origin: Origin,
}

fn generations(response: &RawJson) -> Vec<Generation> {
    let Some(response) = RawObject::parse(response) else { return Vec::new() };
    let batches = response.get("generations").map(RawJson::elements).unwrap_or_default();
    batches.iter().flat_map(RawJson::elements).filter_map(|generation| read_generation(&generation)).collect()
}

/// A generation's message; of a text model's, which has none, one made of its text.
fn read_generation(generation: &RawJson) -> Option<Generation> {
    let fields = RawObject::parse(generation)?;
    if let Some(message) = fields.get("message").and_then(Message::parse) {
        return Some(Generation { message, origin: Origin::LlmEnd });
    }
    let mut message = RawObject::default();
    message.set("content", fields.get("text")?.clone());
    if let Some(info) = fields.get("generation_info").filter(|info| info.is_object()) {
        message.set("generation_info", info.clone());
    }
    Some(Generation { message: Message { fields: message, role: Role::Ai }, origin: Origin::LlmText })
}

fn model_of(message: &Message) -> Option<String> {
    let metadata = message.fields.object("response_metadata")?;
    let name = metadata.string("model_name").or_else(|| metadata.string("model"))?;
    Some(text::clean(&name).into_owned())
}

pub(super) fn tool_requests(message: &Message) -> Vec<ToolRequest> {
    let calls = message.fields.get("tool_calls").map(RawJson::elements).unwrap_or_default();
    calls
        .iter()
        .filter_map(RawObject::parse)
        .map(|call| ToolRequest {
            id: call.string("id"),
            name: call.string("name").unwrap_or_default(),
            args: call.get("args").cloned().unwrap_or_default(),
        })
        .collect()
}

/// Tokens as LangChain's `usage_metadata` has them; a missing total is input and output.
pub(crate) fn tokens_of(usage: &RawJson) -> Option<TokenCounts> {
    let usage = RawObject::parse(usage)?;
    let count = |object: &RawObject, name: &str| object.get(name).map_or(0, count_of);
    let details = |name: &str| usage.object(name).unwrap_or_default();
    let (input_details, output_details) = (details("input_token_details"), details("output_token_details"));
    let given = TokenCounts {
        input: count(&usage, "input_tokens"),
        output: count(&usage, "output_tokens"),
        total: count(&usage, "total_tokens"),
        cache_read: count(&input_details, "cache_read"),
        cache_write: count(&input_details, "cache_creation"),
        reasoning: count(&output_details, "reasoning"),
    };
    Some(given.with_total())
}

/// A count in any spelling of JSON (`12`, `12.0`, `1.2e1`), its fraction cut off; 0 for what is
/// negative, no number, or too large for a 64-bit column.
pub(crate) fn count_of(value: &RawJson) -> u64 {
    let number = value.as_str();
    let count = number.parse::<u64>().ok().or_else(|| {
        let count = number.parse::<f64>().ok().filter(|count| count.is_finite() && *count >= 0.0)?;
        // The largest that a 64-bit column takes is the smallest that is too large as a float.
        (count < i64::MAX as f64).then_some(count as u64)
    });
    count.filter(|count| i64::try_from(*count).is_ok()).unwrap_or(0)
}
