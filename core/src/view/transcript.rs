//! The transcript of an agent run: from the events of its run to numbered steps.
//!
//! A pure fold: it takes the events in order, in pages of any size, and the same events give the same steps
//! however they are cut into pages. What it keeps between pages is the ids of the items that have
//! ended. An item is a step once, by the first record that completes it, as in the item index.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    AgentMessage, AgentStep, AgentUsage, CallerKind, ContentText, Event, ItemId, ItemKind, ItemStatus,
    ONCE_TERMINAL, Origin, RawJson, Run, StepKind, SubAgentActivity, ToolCall, ToolRequest, event_type, text,
};

/// The steps of a run's events: everything from the first on, in order.
#[must_use]
pub fn steps<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<AgentStep> {
    let mut transcript = Transcript::default();
    events.into_iter().filter_map(|event| transcript.take(event)).collect()
}

/// About how many bytes a step's payload has at most. What is left out is in the log.
pub const MAX_STEP_BYTES: usize = 1024 * 1024;

/// A transcript as far as its events were taken.
#[derive(Clone, Debug)]
pub struct Transcript {
    payload_bytes: usize,
    next: u64,
    iterations: u64,
    tool_calls: u64,
    /// The call that the last message of the agent itself was an answer of.
    last_call: Option<u64>,
    ended: HashSet<ItemId>,
    /// What the agent said last without asking for a tool.
    answer: Option<String>,
    told: Option<Told>,
    is_over: bool,
}

/// The content of an event of type [`event_type::RUN_OUTPUT`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Told {
    /// What the agent run came to.
    pub output: String,
    /// How sure it is of it, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

impl Default for Transcript {
    fn default() -> Self {
        Self::with_payloads_of(MAX_STEP_BYTES)
    }
}

impl Transcript {
    /// A transcript before its first event, whose payloads are cut to about this many bytes.
    #[must_use]
    pub fn with_payloads_of(payload_bytes: usize) -> Self {
        Self {
            payload_bytes,
            next: 0,
            iterations: 0,
            tool_calls: 0,
            last_call: None,
            ended: HashSet::new(),
            answer: None,
            told: None,
            is_over: false,
        }
    }

    /// Takes the next event, and gives the step that it is, if it is one.
    pub fn take(&mut self, event: &Event) -> Option<AgentStep> {
        self.is_over |= event.once_key.as_deref() == Some(ONCE_TERMINAL);
        if event.event_type.as_str() == event_type::RUN_OUTPUT {
            self.told = event.content.decode_lossy().ok().or(self.told.take());
        }
        let mark = event.item.as_ref().filter(|mark| mark.status != ItemStatus::InProgress)?;
        let kind = step_kind(&mark.kind)?;
        if !self.ended.insert(mark.item_id.clone()) {
            return None;
        }
        let payload = match kind {
            StepKind::LlmResponse => self.answered(event),
            StepKind::ToolResult => self.returned(event, &mark.status),
            StepKind::SubAgent => self.delegated(event, &mark.status),
            StepKind::Plan | StepKind::Unknown(_) => self.planned(event),
        };
        let index = self.next;
        self.next += 1;
        let payload = payload.canonical();
        Some(AgentStep { index, iteration: self.iterations, kind, payload, at: event.created_at })
    }

    /// Whether the run's terminal event was taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What the run came to, if it completed: what it was told, or what the agent said last.
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        self.told.as_ref().map(|told| told.output.as_str()).or(self.answer.as_deref())
    }

    /// How sure the agent is of its output.
    #[must_use]
    pub fn confidence(&self) -> Option<f64> {
        let told = self.told.as_ref()?.confidence;
        told.filter(|confidence| (0.0..=1.0).contains(confidence))
    }

    /// What the agent run took: what was counted here, and the totals of its run.
    #[must_use]
    pub fn usage(&self, run: &Run) -> AgentUsage {
        AgentUsage {
            iterations: self.iterations,
            tool_calls: self.tool_calls,
            input_tokens: run.totals.input_tokens,
            output_tokens: run.totals.output_tokens,
            // Totals say nothing of prices: nothing spent is nothing priced.
            cost_nanos: Some(run.totals.cost_nanos).filter(|cost| *cost > 0),
            latency_ms: run.finished_at.map(|at| at.millis_since(run.created_at)),
        }
    }

    fn answered(&mut self, event: &Event) -> RawJson {
        #[derive(Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        struct Asked<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            name: &'a str,
            args: RawJson,
        }
        #[derive(Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        struct Payload<'a> {
            text: String,
            tool_calls: Vec<Asked<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            model: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            usage: Option<RawJson>,
            #[serde(flatten)]
            common: Common<'a>,
        }
        let Ok(message) = event.content.decode_lossy::<AgentMessage>() else {
            return self.unread(event, "text");
        };
        let is_own = caller_kind(event) == CallerKind::LeadAgent;
        let is_tools = matches!(
            Origin::of(event),
            Some(Origin::ToolEnd | Origin::ToolValue | Origin::ToolPairs | Origin::ToolError)
        );
        if is_own && !is_tools {
            // One call may be answered with several messages.
            let is_same_call = message.call_index.is_some() && self.last_call == message.call_index;
            self.iterations += u64::from(!is_same_call);
            self.last_call = message.call_index;
        }
        let said = message.content.text();
        if is_own && message.tool_calls.is_empty() {
            self.answer = Some(said.clone());
        }
        let mut cut = Cut::of(self.payload_bytes, 2 + message.tool_calls.len());
        let asked = |request: &ToolRequest, cut: &mut Cut| cut.json(&request.args);
        let args: Vec<RawJson> = message.tool_calls.iter().map(|request| asked(request, &mut cut)).collect();
        let calls = message.tool_calls.iter().zip(args);
        encode(&Payload {
            text: cut.text(said),
            usage: message.usage.as_ref().map(|usage| cut.json(usage)),
            tool_calls: calls
                .map(|(request, args)| Asked { id: request.id.as_deref(), name: &request.name, args })
                .collect(),
            model: message.model.as_deref(),
            common: Common::of(event, &cut),
        })
    }

    fn returned(&mut self, event: &Event, status: &ItemStatus) -> RawJson {
        #[derive(Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        struct Payload<'a> {
            tool: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            call_id: Option<&'a str>,
            args: RawJson,
            ok: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<RawJson>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<String>,
            #[serde(flatten)]
            common: Common<'a>,
        }
        self.tool_calls += 1;
        let Ok(call) = event.content.shown().decode_lossy::<ToolCall>() else {
            return self.unread(event, "result");
        };
        let mut cut = Cut::of(self.payload_bytes, 3);
        let told = call.error.as_ref().map(|error| error.message.clone());
        // Where the result is what went wrong, it is not said twice.
        let is_silent = call.content.is_none();
        let error = told.or_else(|| not_ok(status).filter(|_| is_silent));
        encode(&Payload {
            tool: &call.name,
            call_id: event.item.as_ref().and_then(|mark| mark.call_id.as_ref()).map(|id| id.as_str()),
            args: cut.json(&call.args),
            ok: *status == ItemStatus::Completed,
            result: call.content.as_ref().map(|result| cut.json(result)),
            error: error.map(|error| cut.text(error)),
            common: Common::of(event, &cut),
        })
    }

    fn delegated(&mut self, event: &Event, status: &ItemStatus) -> RawJson {
        #[derive(Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        struct Payload<'a> {
            ok: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            task_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            description: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<RawJson>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<String>,
            #[serde(flatten)]
            common: Common<'a>,
        }
        let Ok(activity) = event.content.shown().decode_lossy::<SubAgentActivity>() else {
            return self.unread(event, "detail");
        };
        let mut cut = Cut::of(self.payload_bytes, 2);
        encode(&Payload {
            ok: *status == ItemStatus::Completed,
            task_id: event.task_id.as_ref().map(|id| id.as_str()),
            description: activity.description.map(|description| cut.text(description)),
            detail: activity.detail.as_ref().map(|detail| cut.json(detail)),
            error: not_ok(status).filter(|_| activity.detail.is_none()),
            common: Common::of(event, &cut),
        })
    }

    fn planned(&mut self, event: &Event) -> RawJson {
        if event.content.is_object() && event.content.as_str().len() <= self.payload_bytes {
            return event.content.clone();
        }
        self.unread(event, "plan")
    }

    /// The payload of an event whose content is not what its kind has, or is too large as it is.
    fn unread(&self, event: &Event, name: &'static str) -> RawJson {
        let mut cut = Cut::of(self.payload_bytes, 1);
        let content = cut.json(&event.content);
        let mut payload = serde_json::Map::new();
        // As text: what is in it need not be JSON that serde reads.
        let content = content.canonical().decode_lossy().unwrap_or(serde_json::Value::Null);
        payload.insert(name.to_owned(), content);
        if cut.is_cut {
            payload.insert("truncated".to_owned(), true.into());
        }
        RawJson::from(serde_json::Value::Object(payload))
    }
}

/// What payloads of every kind may say.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct Common<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl<'a> Common<'a> {
    fn of(event: &'a Event, cut: &Cut) -> Self {
        let caller = event.caller.as_ref().map(|caller| caller.as_str());
        Self {
            caller: caller.filter(|_| caller_kind(event) != CallerKind::LeadAgent),
            truncated: cut.is_cut || event.truncated,
        }
    }
}

/// Cuts the parts of a payload to an equal share of what it may have.
struct Cut {
    share: usize,
    is_cut: bool,
}

impl Cut {
    fn of(bytes: usize, parts: usize) -> Self {
        Self { share: bytes / parts.max(1), is_cut: false }
    }

    fn json(&mut self, document: &RawJson) -> RawJson {
        match text::truncate_json(document.as_str(), self.share) {
            Some(cut) => {
                self.is_cut = true;
                RawJson::from_stored(&cut)
            }
            None => document.clone(),
        }
    }

    fn text(&mut self, given: String) -> String {
        if given.len() <= self.share {
            return given;
        }
        self.json(&RawJson::string(&given)).decode_lossy().unwrap_or(given)
    }
}

fn encode(payload: &impl Serialize) -> RawJson {
    // Texts and documents always have a JSON form.
    RawJson::encode("payload", payload).unwrap_or_else(|_| RawJson::empty_object())
}

fn caller_kind(event: &Event) -> CallerKind {
    event.caller.as_ref().map_or(CallerKind::LeadAgent, |caller| caller.kind())
}

/// Why there is no result, where nothing else says so.
fn not_ok(status: &ItemStatus) -> Option<String> {
    (*status != ItemStatus::Completed).then(|| status.as_str().to_owned())
}

fn step_kind(kind: &ItemKind) -> Option<StepKind> {
    match kind {
        ItemKind::AgentMessage => Some(StepKind::LlmResponse),
        ItemKind::CommandExecution
        | ItemKind::FileChange
        | ItemKind::McpToolCall
        | ItemKind::ToolCall
        | ItemKind::WebSearch
        | ItemKind::ImageView
        | ItemKind::ImageGeneration
        | ItemKind::CollabAgentCall => Some(StepKind::ToolResult),
        ItemKind::SubAgentActivity => Some(StepKind::SubAgent),
        ItemKind::Plan => Some(StepKind::Plan),
        ItemKind::UserMessage
        | ItemKind::Reasoning
        | ItemKind::ContextCompaction
        | ItemKind::ReviewEntered
        | ItemKind::ReviewExited
        | ItemKind::HookPrompt
        | ItemKind::Extension { .. }
        | ItemKind::Unknown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CallId, Caller, Category, EventDraft, EventType, ItemMark, Outcome, TaskId, ThreadId, Timestamp,
    };
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_micros(1_700_000_000_000_000 + second * 1_000_000).unwrap()
    }

    fn event(seq: u64, draft: EventDraft) -> Event {
        Event {
            thread_id: ThreadId::new("t").unwrap(),
            seq,
            run_id: None,
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
            created_at: draft.created_at,
        }
    }

    fn item(id: &str, kind: ItemKind, status: ItemStatus, content: &str) -> EventDraft {
        let mark = ItemMark {
            call_id: (kind == ItemKind::ToolCall).then(|| CallId::new(id).unwrap()),
            ..ItemMark::new(ItemId::new(id).unwrap(), kind, status)
        };
        EventDraft::item(mark, Category::Message, RawJson::parse("content", content).unwrap())
    }

    /// Everything that a run may tell.
    fn log() -> Vec<Event> {
        let by = |caller: &str, draft| EventDraft { caller: Some(Caller::new(caller).unwrap()), ..draft };
        let (done, open) = (ItemStatus::Completed, ItemStatus::InProgress);
        let told = EventType::new(event_type::RUN_OUTPUT).unwrap();
        let drafts = vec![
            item("u", ItemKind::UserMessage, done.clone(), r#"{"content":"How many?"}"#),
            item("p", ItemKind::Plan, done.clone(), r#"{"steps":["count"],"a":1}"#),
            item(
                "m1",
                ItemKind::AgentMessage,
                done.clone(),
                r#"{"content":[{"type":"text","text":"Let me"},{"type":"text","text":" count."}],"call_index":1,
                   "tool_calls":[{"id":"c1","name":"count","args":{"b":1.0,"a":[]}},{"id":null,"name":"grep","args":"{"}],
                   "model":"m","usage":{"output_tokens":2,"input_tokens":1}}"#,
            ),
            item("c1", ItemKind::ToolCall, open.clone(), r#"{"name":"count","args":{}}"#),
            item(
                "c1",
                ItemKind::ToolCall,
                done.clone(),
                r#"{"name":"count","args":{"b":1.0},"content":"3","duration_ms":5}"#,
            ),
            item(
                "c2",
                ItemKind::CommandExecution,
                ItemStatus::Failed,
                r#"{"name":"ls","args":{},"error":{"type":"OSError","message":"gone"}}"#,
            ),
            // Told again, it is no step any more.
            item(
                "c2",
                ItemKind::CommandExecution,
                done.clone(),
                r#"{"name":"ls","args":{},"content":"late"}"#,
            ),
            by("subagent:critic", item("s1", ItemKind::AgentMessage, done.clone(), r#"{"content":"Hm."}"#)),
            EventDraft {
                task_id: Some(TaskId::new("task").unwrap()),
                ..by(
                    "subagent:critic",
                    item(
                        "a",
                        ItemKind::SubAgentActivity,
                        ItemStatus::Interrupted,
                        r#"{"description":"Is it three?"}"#,
                    ),
                )
            },
            item("m2", ItemKind::AgentMessage, done.clone(), r#"{"content":"It is three.","call_index":2}"#),
            item("c3", ItemKind::ToolCall, open, r#"{"name":"never"}"#),
            EventDraft::new(
                told,
                Category::Outputs,
                RawJson::parse("content", r#"{"output":"three","confidence":0.9}"#).unwrap(),
            ),
            item("odd", ItemKind::ToolCall, done, r#"["no call"]"#),
            EventDraft::terminal(&Outcome::success(), None, at(0)),
        ];
        let numbered = drafts.into_iter().zip(1_u64..);
        numbered
            .map(|(draft, seq)| {
                let second = i64::try_from(seq).unwrap();
                event(seq, EventDraft { created_at: at(second), ..draft })
            })
            .collect()
    }

    /// The one shape of a step: what readers are sent while a run goes on, and what is stored.
    #[test]
    fn the_shape_of_steps_is_fixed() {
        let lines: Vec<String> =
            steps(&log()).iter().map(|step| serde_json::to_string(step).unwrap()).collect();
        let expected = include_str!("../../tests/fixtures/agent_steps.jsonl");
        assert_eq!(lines.join("\n"), expected.trim_end());
        for (line, step) in lines.iter().zip(steps(&log())) {
            assert_eq!(serde_json::from_str::<AgentStep>(line).unwrap(), step);
        }
    }

    #[test]
    fn what_an_agent_came_to_is_what_it_was_told_or_what_it_said_last() {
        let mut transcript = Transcript::default();
        let log = log();
        for event in &log[..10] {
            transcript.take(event);
        }
        assert_eq!((transcript.output(), transcript.is_over()), (Some("It is three."), false));
        for event in &log[10..] {
            transcript.take(event);
        }
        assert_eq!((transcript.output(), transcript.confidence()), (Some("three"), Some(0.9)));
        assert!(transcript.is_over());
        assert_eq!((transcript.iterations, transcript.tool_calls), (2, 3));
    }

    #[test]
    fn a_large_payload_is_cut_and_says_so() {
        let content = format!(r#"{{"name":"cat","args":{{}},"content":"{}"}}"#, "é".repeat(4_000));
        let large = event(1, item("c", ItemKind::ToolCall, ItemStatus::Completed, &content));
        let step = Transcript::with_payloads_of(900).take(&large).unwrap();
        let payload: serde_json::Value = step.payload.decode().unwrap();
        assert_eq!((&payload["truncated"], &payload["tool"]), (&true.into(), &"cat".into()));
        assert!(step.payload.as_str().len() < 1_000, "{}", step.payload);
        let whole = Transcript::default().take(&large).unwrap();
        assert!(whole.payload.as_str().len() > 4_000 && !whole.payload.as_str().contains("truncated"));
    }

    proptest! {
        /// However the events are cut into pages, and wherever a reader begins again: the steps are the same.
        #[test]
        fn pages_make_no_difference(cut in 0_usize..14) {
            let log = log();
            let whole = steps(&log);
            let mut transcript = Transcript::default();
            let mut paged: Vec<AgentStep> = log[..cut].iter().filter_map(|event| transcript.take(event)).collect();
            let mut resumed = transcript.clone();
            paged.extend(log[cut..].iter().filter_map(|event| resumed.take(event)));
            prop_assert_eq!(&paged, &whole);
            let numbers: Vec<u64> = paged.iter().map(|step| step.index).collect();
            prop_assert_eq!(numbers, (0..whole.len() as u64).collect::<Vec<_>>());
        }
    }
}
