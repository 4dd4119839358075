//! Chains, the end of the run, and what applications record themselves.

use runledger_core::{
    Caller, Category, EventDraft, ItemId, ItemKind, ItemMark, ItemStatus, Outcome, RawJson, RunProgress,
    SubAgentActivity, TaskId, Timestamp, UsageDraft, event_type, text,
};
use serde_json::{Map, Value, json};

use super::{Counting, Mapper, OpenItem, Recorded, encode, event, item};
use crate::callbacks::{
    ChainEnd, ChainStart, ExternalUsage, Failed, ItemRecord, MiddlewareRecord, SubagentPhase, SubagentRecord,
    SubagentStatus,
};
use crate::pricing::with_price;

/// The stop reason of a run that waits for a person.
pub(crate) const WAITING_FOR_INPUT: &str = "waiting_for_input";
/// The stop reason of a run whose chain was cancelled or abandoned.
pub(crate) const CANCELLED: &str = "cancelled";

/// What is known of the run's chains.
#[derive(Debug, Default)]
pub(super) struct Chains {
    root: Option<String>,
    pub(super) started: bool,
    waiting: bool,
    pub(super) outcome: Option<Outcome>,
    error: Option<(String, String)>,
}

impl Chains {
    /// Whether an error of this class stops a run without being a failure.
    pub(super) fn interruption(&mut self, error_type: &str) -> bool {
        match error_type {
            "GraphInterrupt" | "NodeInterrupt" => {
                self.waiting = true;
                true
            }
            "CancelledError" | "GeneratorExit" | "KeyboardInterrupt" => true,
            _ => false,
        }
    }
}

/// A sub-agent's activity that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Subagent {
    pub(super) mark: ItemMark,
    pub(super) caller: Caller,
    pub(super) description: Option<String>,
}

impl Mapper {
    /// A chain started. The first root is the run's start; later ones continue the run.
    pub(crate) fn chain_start(&mut self, start: &ChainStart<'_>) -> Recorded {
        let context = &start.context;
        if context.parent_run_id.is_some() || self.run.root.as_deref() == Some(context.run_id) {
            return Recorded::default();
        }
        self.run.root = Some(context.run_id.to_owned());
        self.run.waiting = false;
        self.run.outcome = None;
        self.run.error = None;
        if std::mem::replace(&mut self.run.started, true) {
            return Recorded::default();
        }
        let caller = super::caller_of(context.tags);
        let content = json!({ "chain": start.name, "run_id": context.run_id });
        let mut event =
            event(event_type::RUN_STARTED, Category::Lifecycle, Some(caller), content, context.at);
        event.metadata = context.metadata.filter(|metadata| metadata.is_object()).cloned();
        Recorded::event(event)
    }

    /// A chain ended: errors of tools below it are settled, and at the root so is the run.
    pub(crate) fn chain_end(&mut self, end: &ChainEnd<'_>) -> Recorded {
        let context = &end.context;
        let mut events = self.settle_below(context.run_id, end.outputs, context.at);
        if context.parent_run_id.is_none() && self.run.root.as_deref() == Some(context.run_id) {
            events.extend(self.reconcile(end.outputs, context.at));
            self.run.outcome = Some(if self.run.waiting {
                Outcome::interrupted(WAITING_FOR_INPUT)
            } else {
                Outcome::success()
            });
        }
        Recorded { events, ..Recorded::default() }
    }

    /// A chain failed. Every enclosing chain tells the same error; the root's word is the run's.
    pub(crate) fn chain_error(&mut self, failed: &Failed<'_>) -> Recorded {
        let context = &failed.context;
        let events = self.settle_below(context.run_id, None, context.at);
        let interrupted = self.run.interruption(failed.error.error_type);
        if context.parent_run_id.is_none() {
            let (kind, message) = (failed.error.error_type, failed.error.message);
            self.run.outcome = Some(match (kind, interrupted) {
                ("GraphInterrupt" | "NodeInterrupt", _) => Outcome::interrupted(WAITING_FOR_INPUT),
                (_, true) => Outcome::interrupted(CANCELLED),
                (_, false) if message.is_empty() => Outcome::error(kind),
                (_, false) => Outcome::error(format!("{kind}: {message}")),
            });
            self.run.error = Some((kind.to_owned(), message.to_owned()));
        }
        Recorded { events, ..Recorded::default() }
    }

    /// The end of the run: what is still open is closed, then the terminal event.
    pub(crate) fn finish(&mut self, outcome: &Outcome, at: Timestamp) -> Closing {
        let mut events = self.close_tools(at);
        events.extend(self.close_items(at));
        let mut left: Vec<TaskId> = self.subagents.keys().cloned().collect();
        left.sort();
        for task in left {
            events.extend(self.end_subagent(&task, ItemStatus::Interrupted, None, at));
        }
        if !self.delivered && !self.artifacts.is_empty() {
            events.extend(self.delivery(at).events);
        }
        let recorded =
            Recorded { events, usage: self.unfinished_calls(at), progress: RunProgress::default() };
        Closing { recorded, terminal: self.terminal(outcome, at) }
    }

    fn terminal(&self, outcome: &Outcome, at: Timestamp) -> EventDraft {
        let cause = self.run.error.as_ref().map(|(kind, message)| (kind.as_str(), message.as_str()));
        EventDraft::terminal(outcome, cause, at)
    }

    fn close_items(&mut self, at: Timestamp) -> Vec<EventDraft> {
        let close = |open: OpenItem| EventDraft {
            caller: open.caller,
            created_at: at,
            ..EventDraft::item(
                ItemMark { status: ItemStatus::Interrupted, ..open.mark },
                open.category,
                open.content,
            )
        };
        let mut open = std::mem::take(&mut self.open_items);
        open.retain(|open| !open.mark.is_call(&open.content) || self.tools.gives_result(&open.mark.item_id));
        open.into_iter().map(close).collect()
    }

    /// An item of a runtime that speaks of items itself.
    pub(crate) fn item_record(&mut self, record: &ItemRecord<'_>, completed: bool) -> Recorded {
        let mut mark = record.mark.clone();
        if completed && mark.status == ItemStatus::InProgress {
            mark.status = ItemStatus::Completed;
        } else if !completed {
            mark.status = ItemStatus::InProgress;
        }
        self.open_items.retain(|open| open.mark.item_id != mark.item_id);
        if !completed {
            self.open_items.push(OpenItem {
                mark: mark.clone(),
                category: record.category.clone(),
                caller: record.caller.clone(),
                content: record.content.clone(),
            });
        }
        self.ids.note(mark.item_id.clone());
        if mark.kind == ItemKind::UserMessage {
            self.human.recorded = true;
        }
        // The start of an item is no message yet, and what is told of a call after its result is none any more,
        // so that a message counts once.
        let message = record.category == Category::Message;
        let result = message && mark.is_call(record.content);
        let again = completed && self.tools.settle(&mark, result);
        let category =
            if message && (!completed || again) { Category::Lifecycle } else { record.category.clone() };
        Recorded::event(EventDraft {
            caller: record.caller.clone(),
            created_at: record.at,
            ..EventDraft::item(mark, category, record.content.clone())
        })
    }

    /// A middleware changed something.
    pub(crate) fn middleware(&self, record: &MiddlewareRecord<'_>) -> Recorded {
        let mut content = runledger_core::RawObject::default();
        for (name, text) in [("name", record.name), ("hook", record.hook), ("action", record.action)] {
            content.set(name, RawJson::string(text));
        }
        content.set("changes", record.changes.clone());
        let name = format!("middleware:{}", record.tag);
        let caller = Caller::new(&name).ok();
        let mut event = event(&name, Category::Middleware, caller, Value::Null, record.at);
        event.content = content.to_json();
        Recorded::event(event)
    }

    /// The memory context; once per run.
    pub(crate) fn memory(&mut self, content: &RawJson, at: Timestamp) -> Recorded {
        if std::mem::replace(&mut self.memory_context, true) {
            return Recorded::default();
        }
        let mut event = event("context:memory", Category::Context, None, Value::Null, at);
        event.content = content.clone();
        Recorded::event(event)
    }

    /// A call that was counted elsewhere. One that took nothing says nothing, and may be told again.
    pub(crate) fn external_usage(&mut self, told: &ExternalUsage<'_>) -> Recorded {
        let tokens = told.tokens.with_total();
        if self.billing.counting == Counting::Nothing || tokens.total == 0 || told.source_id.is_empty() {
            return Recorded::default();
        }
        let source_id = self.sources.external(told.source_id);
        if !self.external.insert(source_id.clone()) {
            return Recorded::default();
        }
        let usage = UsageDraft {
            round_index: Some(self.round()),
            caller: told.caller.clone(),
            model: told.model.filter(|model| !model.is_empty()).map(|model| text::clean(model).into_owned()),
            child_thread_id: told.child_thread_id.clone(),
            created_at: told.at,
            ..UsageDraft::new(source_id, tokens)
        };
        let usage = match &told.price {
            Some(price) => with_price(usage, price.clone()),
            None => self.priced(usage, None),
        };
        Recorded { usage: vec![usage], ..Recorded::default() }
    }

    /// A sub-agent started, took a step, or ended.
    pub(crate) fn subagent(&mut self, record: &SubagentRecord<'_>) -> Recorded {
        let task = &record.task_id;
        match record.phase {
            SubagentPhase::Start { description } => {
                let caller = self.subagent_caller(record);
                self.begin_subagent(task, caller, Some(description.to_owned()), record.at)
            }
            SubagentPhase::Step { detail } => {
                let caller = self.subagent_caller(record);
                let mut event =
                    event("subagent.step", Category::Subagent, Some(caller), Value::Null, record.at);
                event.task_id = Some(task.clone());
                event.content = detail.clone();
                Recorded::event(event)
            }
            SubagentPhase::End { status, detail } => {
                let status = match status {
                    SubagentStatus::Completed => ItemStatus::Completed,
                    SubagentStatus::Failed => ItemStatus::Failed,
                    SubagentStatus::Cancelled => ItemStatus::Interrupted,
                };
                let mut recorded = Recorded::default();
                if !self.subagents.contains_key(task) {
                    let caller = self.subagent_caller(record);
                    recorded = self.begin_subagent(task, caller, None, record.at);
                }
                recorded.events.extend(self.end_subagent(task, status, detail.cloned(), record.at));
                recorded
            }
        }
    }

    fn subagent_caller(&self, record: &SubagentRecord<'_>) -> Caller {
        let named = record.agent.and_then(|agent| Caller::new(format!("subagent:{agent}")).ok());
        let known = self.subagents.get(&record.task_id).map(|open| open.caller.clone());
        named.or(known).unwrap_or_else(|| Caller::from_stored("subagent:unknown"))
    }

    fn begin_subagent(
        &mut self,
        task: &TaskId,
        caller: Caller,
        description: Option<String>,
        at: Timestamp,
    ) -> Recorded {
        if self.subagents.contains_key(task) {
            return Recorded::default();
        }
        let id: ItemId = self.ids.take(Some(task.as_str()), &format!("{task}-activity"));
        let mark = ItemMark::new(id, ItemKind::SubAgentActivity, ItemStatus::InProgress);
        let payload = SubAgentActivity { description: description.clone(), ..SubAgentActivity::default() };
        let mut event = item(mark.clone(), Category::Subagent, &caller, encode(&payload), None, at);
        event.task_id = Some(task.clone());
        self.subagents.insert(task.clone(), Subagent { mark, caller, description });
        Recorded::event(event)
    }

    fn end_subagent(
        &mut self,
        task: &TaskId,
        status: ItemStatus,
        detail: Option<RawJson>,
        at: Timestamp,
    ) -> Option<EventDraft> {
        let open = self.subagents.remove(task)?;
        let payload =
            SubAgentActivity { description: open.description, detail, ..SubAgentActivity::default() };
        let mark = ItemMark { status, ..open.mark };
        let mut event = item(mark, Category::Subagent, &open.caller, encode(&payload), None, at);
        event.task_id = Some(task.clone());
        Some(event)
    }

    /// The deliverables so far.
    pub(crate) fn delivery(&mut self, at: Timestamp) -> Recorded {
        self.delivered = true;
        let mut paths: Vec<&str> = Vec::new();
        let mut by_tool: Map<String, Value> = Map::new();
        for (path, tool) in &self.artifacts {
            if !paths.contains(&path.as_str()) {
                paths.push(path);
            }
            if !tool.is_empty()
                && let Value::Array(of_tool) =
                    by_tool.entry(tool.as_str()).or_insert_with(|| Value::Array(Vec::new()))
            {
                of_tool.push(Value::from(path.as_str()));
            }
        }
        let content = json!({ "presented": paths.len(), "paths": paths, "by_tool": by_tool });
        Recorded::event(event(event_type::RUN_DELIVERY, Category::Outputs, None, content, at))
    }

    /// Files changed.
    pub(crate) fn workspace(&self, changes: &RawJson, at: Timestamp) -> Recorded {
        let mut event = event(event_type::WORKSPACE_CHANGES, Category::Workspace, None, Value::Null, at);
        event.content = changes.clone();
        Recorded::event(event)
    }

    /// The application's own word on what the person said.
    pub(crate) fn preset_human(&mut self, said: &str) -> Recorded {
        self.human.preset = true;
        let first_human_message = text::summary(said);
        Recorded {
            progress: RunProgress { first_human_message, ..RunProgress::default() },
            ..Recorded::default()
        }
    }
}

/// What ends a run.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    /// What was still open.
    pub(crate) recorded: Recorded,
    /// The one terminal event.
    pub(crate) terminal: EventDraft,
}
