//! Events as DeerFlow's event store gives them, under the numbers of the log.
//!
//! Its consumers know `llm.human.input`, `llm.ai.response`, `llm.tool.result` and the `run.*` words. Its handler
//! misses results that tools told in other ways than by a message, and calls that ended with their run; here
//! they stand with the others, for whoever shows a conversation shows what came of each call.
//!
//! It cannot say: that a call began, how an item stands, plans, compactions, and the graph's state at
//! the end of a run, which nothing stores: `run.end` has what the run's terminal event says.

use serde::Deserialize;

use super::super::langchain::{Beside, Message, Person};
use super::super::plain;
use crate::{
    Category, Event, ItemKind, ItemStatus, ONCE_TERMINAL, Origin, RawJson, RawObject, SubAgentActivity,
    event_type,
};

/// A log as DeerFlow's records, as far as its events were taken.
#[derive(Clone, Debug, Default)]
pub struct DeerFlow {
    beside: Beside,
}

/// What a record has in the place of the event's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The word that DeerFlow's consumers know it by.
    pub event_type: String,
    /// What it is about.
    pub category: &'static str,
    /// What it says.
    pub content: RawJson,
    /// What stands beside it.
    pub metadata: RawObject,
}

impl Record {
    fn new(event_type: &str, category: &'static str, content: RawJson) -> Self {
        Self { event_type: event_type.to_owned(), category, content, metadata: RawObject::default() }
    }

    /// The event's time as DeerFlow spells it.
    #[must_use]
    pub fn created_at(event: &Event) -> String {
        event.created_at.to_chrono().to_rfc3339()
    }
}

impl DeerFlow {
    /// Takes the next event, and gives its record: `{thread_id, run_id, event_type, category, content, metadata, seq,
    /// created_at}`. `None` where DeerFlow has none for it.
    #[must_use]
    pub fn take(&mut self, event: &Event) -> Option<RawJson> {
        let record = self.record(event)?;
        let text = |text: &str| RawJson::string(text);
        let fields = RawObject::default()
            .with("thread_id", text(event.thread_id.as_str()))
            .with("run_id", event.run_id.as_ref().map_or_else(RawJson::null, |run| text(run.as_str())))
            .with("event_type", text(&record.event_type))
            .with("category", text(record.category))
            .with("content", record.content)
            .with("metadata", record.metadata.to_json())
            .with("seq", plain(event.seq))
            .with("created_at", text(&Record::created_at(event)));
        Some(fields.to_json())
    }

    /// As [`DeerFlow::take`], for whoever writes the record.
    #[must_use]
    pub fn record(&mut self, event: &Event) -> Option<Record> {
        if let Some(mark) = &event.item {
            let is_over = mark.status != ItemStatus::InProgress;
            return match &mark.kind {
                ItemKind::SubAgentActivity => subagent(event, &mark.status),
                ItemKind::Reasoning => {
                    // Kept for the message that it is part of.
                    self.beside.take(event);
                    None
                }
                _ if is_over && event.category == Category::Message => self.message(event),
                _ => None,
            };
        }
        if event.once_key.as_deref() == Some(ONCE_TERMINAL) {
            return Some(ended(event));
        }
        Some(match event.event_type.as_str() {
            event_type::RUN_STARTED => {
                let chain = RawObject::parse(&event.content).and_then(|content| content.string("chain"));
                let chain = chain.unwrap_or_else(|| "unknown".to_owned());
                let content = RawObject::default().with_text("chain", &chain);
                let record = Record::new("run.start", "trace", content.to_json());
                Record { metadata: caller(event), ..record }
            }
            event_type::LLM_FAILED => {
                let error = RawObject::parse(&event.content).and_then(|content| content.object("error"));
                let message = error.and_then(|error| error.string("message")).unwrap_or_default();
                Record::new("llm.error", "trace", RawJson::string(&message))
            }
            event_type::LLM_STARTED | event_type::RUN_OUTPUT => return None,
            "subagent.step" => {
                let step = RawObject::parse(&event.content).unwrap_or_default();
                Record::new("subagent.step", "subagent", task(event).with_missing(step).to_json())
            }
            other => {
                let category = match &event.category {
                    Category::Middleware => "middleware",
                    Category::Context => "context",
                    Category::Outputs => "outputs",
                    Category::Workspace => "workspace",
                    Category::Error => "error",
                    // Notes of ours, and records of other systems under their own words.
                    Category::Message
                    | Category::Reasoning
                    | Category::Lifecycle
                    | Category::Trace
                    | Category::Subagent
                    | Category::Custom(_) => return None,
                };
                let metadata = event.metadata.as_ref().and_then(RawObject::parse).unwrap_or_default();
                Record { metadata, ..Record::new(other, category, event.content.clone()) }
            }
        })
    }

    fn message(&mut self, event: &Event) -> Option<Record> {
        let reasoning = self.beside.take(event);
        let message = Message::of(event, Person::AsWritten, reasoning)?;
        let content = message.fields.to_json();
        let is_tools = matches!(
            Origin::of(event),
            Some(Origin::ToolEnd | Origin::ToolValue | Origin::ToolPairs | Origin::ToolError)
        );
        Some(match &event.item.as_ref()?.kind {
            ItemKind::UserMessage => {
                Record { metadata: caller(event), ..Record::new("llm.human.input", "message", content) }
            }
            ItemKind::AgentMessage if !is_tools => {
                let said = message.said.unwrap_or_default();
                let metadata = caller(event)
                    .with("usage", said.usage.unwrap_or_else(RawJson::empty_object))
                    .with("latency_ms", said.latency_ms.map_or_else(RawJson::null, plain))
                    .with("llm_call_index", said.call_index.map_or_else(RawJson::null, plain));
                Record { metadata, ..Record::new("llm.ai.response", "message", content) }
            }
            _ => Record::new("llm.tool.result", "message", content),
        })
    }
}

fn caller(event: &Event) -> RawObject {
    let caller = event.caller.as_ref().map_or("lead_agent", |caller| caller.as_str());
    RawObject::default().with_text("caller", caller)
}

fn task(event: &Event) -> RawObject {
    let id = event.task_id.as_ref().map(|id| id.as_str());
    let id = id.or_else(|| event.item.as_ref().map(|item| item.item_id.as_str()));
    RawObject::default().with_some("task_id", id.map(RawJson::string))
}

fn subagent(event: &Event, status: &ItemStatus) -> Option<Record> {
    let activity: SubAgentActivity = event.content.decode_lossy().ok()?;
    if *status == ItemStatus::InProgress {
        let content =
            task(event).with_some("description", activity.description.as_deref().map(RawJson::string));
        return Some(Record {
            metadata: task(event),
            ..Record::new("subagent.start", "subagent", content.to_json())
        });
    }
    let status = match status {
        ItemStatus::Completed => "completed",
        ItemStatus::Interrupted => "cancelled",
        ItemStatus::InProgress | ItemStatus::Failed | ItemStatus::Declined | ItemStatus::Unknown(_) => {
            "failed"
        }
    };
    let told = activity.detail.as_ref().and_then(RawObject::parse).unwrap_or_default();
    let content = task(event).with_text("status", status).with_missing(told);
    Some(Record { metadata: task(event), ..Record::new("subagent.end", "subagent", content.to_json()) })
}

fn ended(event: &Event) -> Record {
    #[derive(Default, Deserialize)]
    struct Cause {
        #[serde(rename = "type")]
        class: String,
    }
    #[derive(Default, Deserialize)]
    struct Told {
        #[serde(default)]
        cause: Option<Cause>,
        #[serde(default)]
        error: Option<String>,
        #[serde(default)]
        status: String,
    }
    let told: Told = event.content.decode_lossy().unwrap_or_default();
    if event.event_type.as_str() == event_type::RUN_COMPLETED {
        let metadata = RawObject::default().with_text("status", "success");
        return Record { metadata, ..Record::new("run.end", "outputs", event.content.clone()) };
    }
    let class = told.cause.map_or_else(|| told.status.clone(), |cause| cause.class);
    let metadata = RawObject::default().with_text("error_type", &class);
    Record {
        metadata,
        ..Record::new("run.error", "error", RawJson::string(&told.error.unwrap_or(told.status)))
    }
}
