//! Tool calls: from the message that asks for one to the result the model is shown.
//!
//! A failed tool is not stored at once: whether somebody handled it, and what the model is told,
//! shows when the surrounding chain ends. What no callback tells (a call to a tool that does not
//! exist) is found in the messages that the next model call shows, or in the run's last state.

use std::collections::{HashMap, HashSet};

use runledger_core::{
    CallId, Caller, Category, EventDraft, ItemError, ItemId, ItemKind, ItemMark, ItemStatus, Origin, RawJson,
    RawObject, Timestamp, ToolCall,
};

use super::llm::tool_requests;
use super::{Mapper, Recorded, caller_of, encode, item};
use crate::callbacks::{ToolEnd, ToolError, ToolStart};
use crate::message::{Message, Role, messages_in};

/// The tool calls of a run.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    calls: Vec<Call>,
    /// The calls of each id, in the order they were asked for: models repeat ids.
    by_call_id: HashMap<String, Vec<usize>>,
    by_run: HashMap<String, usize>,
    by_item: HashMap<ItemId, usize>,
    /// The items of calls whose result the model was told: each is told one.
    told: HashSet<ItemId>,
    failed: usize,
    open: usize,
}

#[derive(Debug)]
struct Call {
    mark: ItemMark,
    call_id: Option<String>,
    name: String,
    args: RawJson,
    caller: Caller,
    started_at: Option<Timestamp>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// It failed below this chain; what the model is told of it comes with the chain's end.
    Failed {
        error: ItemError,
        parent: Option<String>,
        at: Timestamp,
    },
    Done,
    /// The run ended before it did.
    Left,
}

/// How a call ended.
struct End {
    status: ItemStatus,
    content: Option<RawJson>,
    error: Option<ItemError>,
    /// How long it ran, where whoever executed it says so; else it is measured.
    duration_ms: Option<u64>,
    detail: Option<RawJson>,
    extra: Option<RawJson>,
    origin: Origin,
    at: Timestamp,
}

impl ToolCalls {
    pub(super) fn open(
        &mut self,
        mark: &ItemMark,
        call_id: Option<String>,
        name: &str,
        args: RawJson,
        caller: Caller,
    ) -> usize {
        let index = self.calls.len();
        if let Some(id) = &call_id {
            self.by_call_id.entry(id.clone()).or_default().push(index);
        }
        self.by_item.insert(mark.item_id.clone(), index);
        self.calls.push(Call {
            mark: mark.clone(),
            call_id,
            name: name.to_owned(),
            args,
            caller,
            started_at: None,
            state: State::Open,
        });
        self.open += 1;
        index
    }

    /// Notes a call that another process saw end: what is told of it again is nothing new.
    pub(super) fn know_ended(&mut self, mark: &ItemMark, caller: Caller) {
        let call_id = mark.call_id.as_ref().map(ToString::to_string);
        let index = self.open(mark, call_id, "", RawJson::null(), caller);
        self.told.insert(mark.item_id.clone());
        if let Some(call) = self.calls.get_mut(index) {
            call.state = State::Done;
            self.open -= 1;
        }
    }

    /// Whether what is told of this item now is the result of its call, which it is once.
    pub(super) fn gives_result(&mut self, item: &ItemId) -> bool {
        self.told.insert(item.clone())
    }

    /// Notes that the runtime itself ended an item, with the result of a call or not. Says whether it is a call's
    /// whose result the model has.
    pub(super) fn settle(&mut self, mark: &ItemMark, result: bool) -> bool {
        if let Some(call) = self.by_item.get(&mark.item_id).and_then(|index| self.calls.get_mut(*index)) {
            match call.state {
                State::Open => self.open -= 1,
                State::Failed { .. } => {
                    self.open -= 1;
                    self.failed -= 1;
                }
                State::Done | State::Left => {}
            }
            call.state = State::Done;
        }
        result && !self.gives_result(&mark.item_id)
    }

    /// The call of an item.
    pub(super) fn of_item(&self, item: &ItemId) -> Option<usize> {
        self.by_item.get(item).copied()
    }

    fn find(&self, run_id: &str, call_id: Option<&str>) -> Option<usize> {
        self.by_run.get(run_id).copied().or_else(|| self.asked(call_id?))
    }

    /// The call that something said of this id is about: the first that has not ended, else the last.
    fn asked(&self, call_id: &str) -> Option<usize> {
        let calls = self.by_call_id.get(call_id)?;
        calls.iter().find(|index| !self.is_done(**index)).or(calls.last()).copied()
    }

    /// The call that a tool which starts under this id works on: one that none works on, one that
    /// failed and is tried again, or the one that it is already; `None` where all have ended.
    fn begin(&mut self, call_id: &str) -> Option<usize> {
        let calls = self.by_call_id.get(call_id)?;
        let first = |wanted: fn(&Call) -> bool| {
            calls.iter().copied().find(|index| self.calls.get(*index).is_some_and(wanted))
        };
        let index = first(|call| matches!(call.state, State::Open) && call.started_at.is_none())
            .or_else(|| first(|call| matches!(call.state, State::Failed { .. })))
            .or_else(|| first(|call| matches!(call.state, State::Open)))?;
        if let Some(call) = self.calls.get_mut(index)
            && matches!(call.state, State::Failed { .. })
        {
            call.state = State::Open;
            self.failed -= 1;
        }
        Some(index)
    }

    fn is_done(&self, index: usize) -> bool {
        self.calls.get(index).is_none_or(|call| matches!(call.state, State::Done | State::Left))
    }

    /// The completion of a call; `None` where it is done already.
    ///
    /// What a call that the run left behind gave after all is a record of its item that is no
    /// message any more: the model was told that it was interrupted.
    fn complete(&mut self, index: usize, end: End) -> Option<EventDraft> {
        let call = self.calls.get_mut(index)?;
        let leaves = matches!(end.origin, Origin::RunEnd);
        let next = if leaves { State::Left } else { State::Done };
        let mut category = Category::Message;
        let (error, ended_at) = match std::mem::replace(&mut call.state, next) {
            State::Done => {
                call.state = State::Done;
                return None;
            }
            State::Left if leaves => return None,
            State::Left => {
                category = Category::Lifecycle;
                (end.error, end.at)
            }
            State::Open => {
                self.open -= 1;
                (end.error, end.at)
            }
            State::Failed { error, at, .. } => {
                self.open -= 1;
                self.failed -= 1;
                (Some(error), at)
            }
        };
        let failed = error.is_some() && end.status == ItemStatus::Completed;
        let payload = ToolCall {
            name: call.name.clone(),
            args: if leaves { call.args.clone() } else { std::mem::take(&mut call.args) },
            content: end.content,
            error,
            duration_ms: end
                .duration_ms
                .or_else(|| call.started_at.map(|started| ended_at.millis_since(started))),
            detail: end.detail,
            extra: end.extra,
        };
        let status = if failed { ItemStatus::Failed } else { end.status };
        let mark = ItemMark { status, ..call.mark.clone() };
        if category == Category::Message && !self.told.insert(mark.item_id.clone()) {
            category = Category::Lifecycle;
        }
        Some(item(mark, category, &call.caller, encode(&payload), Some(&end.origin), end.at))
    }

    fn failed_below(&self, parent: &str) -> Vec<usize> {
        if self.failed == 0 {
            return Vec::new();
        }
        let below =
            |call: &Call| matches!(&call.state, State::Failed { parent: Some(id), .. } if id == parent);
        self.indexes(below)
    }

    fn indexes(&self, wanted: impl Fn(&Call) -> bool) -> Vec<usize> {
        self.calls.iter().enumerate().filter(|(_, call)| wanted(call)).map(|(index, _)| index).collect()
    }
}

impl End {
    /// The end that a tool message tells.
    fn told(message: &Message, origin: Origin, at: Timestamp) -> Self {
        let failed = message.is_error();
        Self {
            status: if failed { ItemStatus::Failed } else { ItemStatus::Completed },
            content: Some(message.content()),
            // What went wrong is what the message says; it is not stored twice.
            error: None,
            duration_ms: None,
            detail: None,
            extra: Some(message.fields.clone().without(&["content"]).to_json()),
            origin,
            at,
        }
    }

    /// An end without a message.
    fn silent(status: ItemStatus, content: Option<RawJson>, origin: Origin, at: Timestamp) -> Self {
        Self { status, content, error: None, duration_ms: None, detail: None, extra: None, origin, at }
    }
}

impl Mapper {
    /// A tool was called. A call that no message asked for begins here.
    pub(crate) fn tool_start(&mut self, start: &ToolStart<'_>) -> Recorded {
        let context = &start.context;
        if self.tools.by_run.contains_key(context.run_id) {
            return Recorded::default();
        }
        let known = start.tool_call_id.and_then(|id| self.tools.begin(id));
        let mut recorded = Recorded::default();
        let index = match known {
            Some(index) => index,
            None => {
                let args = start.inputs.cloned().unwrap_or_default();
                let caller = caller_of(context.tags);
                let (index, event) =
                    self.unasked(start.tool_call_id, context.run_id, start.name, args, caller, context.at);
                recorded.events.push(event);
                index
            }
        };
        self.tools.by_run.insert(context.run_id.to_owned(), index);
        if let Some(call) = self.tools.calls.get_mut(index) {
            call.started_at = Some(context.at);
        }
        recorded
    }

    fn unasked(
        &mut self,
        call_id: Option<&str>,
        run_id: &str,
        name: &str,
        args: RawJson,
        caller: Caller,
        at: Timestamp,
    ) -> (usize, EventDraft) {
        let mark = ItemMark {
            call_id: call_id.and_then(|id| CallId::new(id).ok()),
            ..ItemMark::new(self.ids.take(call_id, run_id), ItemKind::ToolCall, ItemStatus::InProgress)
        };
        let payload = ToolCall::asked(name, args.clone());
        let event = item(mark.clone(), Category::Lifecycle, &caller, encode(&payload), None, at);
        (self.tools.open(&mark, call_id.map(str::to_owned), name, args, caller), event)
    }

    /// A tool returned: the messages it gave, or the value.
    pub(crate) fn tool_end(&mut self, end: &ToolEnd<'_>) -> Recorded {
        let context = &end.context;
        let caller = caller_of(context.tags);
        let own = self.tools.find(context.run_id, None);
        let mut recorded = Recorded::default();
        let (messages, origin) = returned(end.output);
        for message in &messages {
            if message.role == Role::Tool {
                self.tool_message(
                    message,
                    own,
                    context.run_id,
                    end.name,
                    &caller,
                    &origin,
                    context.at,
                    &mut recorded,
                );
            } else {
                self.other_message(message, context.run_id, &caller, &origin, context.at, &mut recorded);
            }
        }
        if let Some(index) = own
            && (messages.is_empty() || !self.tools.is_done(index))
        {
            let content = (!is_command(end.output)).then(|| end.output.clone());
            let end = End::silent(ItemStatus::Completed, content, Origin::ToolValue, context.at);
            recorded.events.extend(self.tools.complete(index, end));
        }
        self.present(end.output, own);
        recorded
    }

    #[expect(clippy::too_many_arguments, reason = "one place; the parts of one callback")]
    fn tool_message(
        &mut self,
        message: &Message,
        own: Option<usize>,
        run_id: &str,
        tool: Option<&str>,
        caller: &Caller,
        origin: &Origin,
        at: Timestamp,
        recorded: &mut Recorded,
    ) {
        let call_id = message.tool_call_id();
        // The tool's own call first: models give the same id to two calls now and then.
        let own =
            own.filter(|index| self.tools.calls.get(*index).is_some_and(|call| call.call_id == call_id));
        let known = own.or_else(|| self.tools.asked(call_id.as_deref()?));
        let index = match known {
            Some(index) => index,
            None => {
                let name =
                    message.fields.string("name").or_else(|| tool.map(str::to_owned)).unwrap_or_default();
                let (index, started) =
                    self.unasked(call_id.as_deref(), run_id, &name, RawJson::null(), caller.clone(), at);
                recorded.events.push(started);
                index
            }
        };
        recorded.events.extend(self.tools.complete(index, End::told(message, origin.clone(), at)));
    }

    fn other_message(
        &mut self,
        message: &Message,
        run_id: &str,
        caller: &Caller,
        origin: &Origin,
        at: Timestamp,
        recorded: &mut Recorded,
    ) {
        match message.role {
            Role::Ai => self.agent_message(message, run_id, caller, origin.clone(), at, recorded),
            Role::Human | Role::Other | Role::Tool => {
                let otherwise = format!("{run_id}-message");
                let (mut event, _) = self.user_message(message, &otherwise, caller, origin, at);
                // Not what a person said: what the runtime puts before the model.
                if let Some(mark) = &mut event.item {
                    mark.kind = ItemKind::HookPrompt;
                }
                recorded.events.push(event);
            }
        }
    }

    /// Notes what a command delivers, each path once per tool.
    fn present(&mut self, output: &RawJson, own: Option<usize>) {
        let update = RawObject::parse(output).and_then(|command| command.object("update"));
        let Some(artifacts) = update.as_ref().and_then(|update| update.get("artifacts")) else { return };
        let tool = own.and_then(|index| self.tools.calls.get(index)).map(|call| call.name.clone());
        for path in artifacts.elements().iter().filter_map(|path| path.decode_lossy::<String>().ok()) {
            let artifact = (path, tool.clone().unwrap_or_default());
            if !artifact.0.is_empty() && !self.artifacts.contains(&artifact) {
                self.artifacts.push(artifact);
            }
        }
    }

    /// A tool failed. An interruption (a question to a person, a cancellation) is no failure:
    /// such a call stays open until the run ends.
    pub(crate) fn tool_error(&mut self, failed: &ToolError<'_>) -> Recorded {
        let context = &failed.context;
        if self.run.interruption(failed.error.error_type) {
            return Recorded::default();
        }
        let mut recorded = Recorded::default();
        let index = match self.tools.find(context.run_id, failed.tool_call_id) {
            Some(index) => index,
            None => {
                let caller = caller_of(context.tags);
                let (index, event) = self.unasked(
                    failed.tool_call_id,
                    context.run_id,
                    "",
                    RawJson::null(),
                    caller,
                    context.at,
                );
                recorded.events.push(event);
                index
            }
        };
        let error = ItemError {
            error_type: failed.error.error_type.to_owned(),
            message: failed.error.message.to_owned(),
        };
        if let Some(call) = self.tools.calls.get_mut(index)
            && matches!(call.state, State::Open)
        {
            let parent = context.parent_run_id.map(str::to_owned);
            let alone = parent.is_none();
            call.state = State::Failed { error, parent, at: context.at };
            self.tools.failed += 1;
            if alone {
                recorded.events.extend(self.fail(index, context.at));
            }
        }
        recorded
    }

    /// A call ended as the runtime says, in the words of its item: its name and arguments are those it began with.
    pub(super) fn call_ended(
        &mut self,
        index: usize,
        status: ItemStatus,
        result: ToolCall,
        at: Timestamp,
    ) -> Option<EventDraft> {
        let ToolCall { name: _, args: _, content, error, duration_ms, detail, extra } = result;
        let origin = if error.is_some() { Origin::ToolError } else { Origin::ToolValue };
        self.tools.complete(index, End { status, content, error, duration_ms, detail, extra, origin, at })
    }

    fn fail(&mut self, index: usize, at: Timestamp) -> Option<EventDraft> {
        self.tools.complete(index, End::silent(ItemStatus::Failed, None, Origin::ToolError, at))
    }

    /// The chain around failed tools ended: their errors, with what the model is told of them.
    pub(super) fn settle_below(
        &mut self,
        chain: &str,
        outputs: Option<&RawJson>,
        at: Timestamp,
    ) -> Vec<EventDraft> {
        let failed = self.tools.failed_below(chain);
        if failed.is_empty() {
            return Vec::new();
        }
        let messages = outputs.map(messages_in).unwrap_or_default();
        failed
            .into_iter()
            .filter_map(|index| {
                let call_id = self.tools.calls.get(index)?.call_id.clone();
                let told = call_id.and_then(|id| {
                    messages.iter().find(|message| message.tool_call_id().as_deref() == Some(&id))
                });
                match told {
                    Some(message) => self.tools.complete(index, End::told(message, Origin::ToolError, at)),
                    None => self.fail(index, at),
                }
            })
            .collect()
    }

    /// Results of the run's own calls that no callback told, in what a model is shown next or in
    /// the run's last state.
    pub(super) fn reconcile(&mut self, state: Option<&RawJson>, at: Timestamp) -> Vec<EventDraft> {
        if self.tools.open == 0 {
            return Vec::new();
        }
        let messages = state.map(messages_in).unwrap_or_default();
        let open = self.tools.indexes(|call| matches!(call.state, State::Open | State::Failed { .. }));
        let told: Vec<(usize, End)> = open
            .into_iter()
            .filter_map(|index| {
                let message = self.told_of(index, &messages)?;
                Some((index, End::told(message, Origin::State, at)))
            })
            .collect();
        told.into_iter().filter_map(|(index, end)| self.tools.complete(index, end)).collect()
    }

    /// What a history says came of a call. An id that was used before has results of its own there:
    /// those after the message that asked last are in the order of what it asked for, and where that
    /// message is not shown, each result is the call's in its place.
    fn told_of<'m>(&self, index: usize, messages: &'m [Message]) -> Option<&'m Message> {
        let id = self.tools.calls.get(index)?.call_id.as_deref()?;
        let calls = self.tools.by_call_id.get(id)?;
        let asked = messages.iter().enumerate().rev().find_map(|(at, message)| {
            let requests = if message.role == Role::Ai { tool_requests(message) } else { Vec::new() };
            let count = requests.iter().filter(|request| request.id.as_deref() == Some(id)).count();
            (count > 0).then_some((at, count))
        });
        let (from, count) = asked.unwrap_or((0, calls.len()));
        let place = calls[calls.len().saturating_sub(count)..].iter().position(|call| *call == index)?;
        let is_result =
            |message: &&Message| message.role == Role::Tool && message.tool_call_id().as_deref() == Some(id);
        messages[from..].iter().filter(is_result).nth(place)
    }

    /// Every call that is still open when the run ends.
    pub(super) fn close_tools(&mut self, at: Timestamp) -> Vec<EventDraft> {
        let open = self.tools.indexes(|call| !matches!(call.state, State::Done));
        let close = |index: usize| {
            let failed = matches!(self.tools.calls.get(index)?.state, State::Failed { .. });
            let end = if failed {
                End::silent(ItemStatus::Failed, None, Origin::ToolError, at)
            } else {
                End::silent(ItemStatus::Interrupted, None, Origin::RunEnd, at)
            };
            self.tools.complete(index, end)
        };
        open.into_iter().filter_map(close).collect()
    }
}

fn is_command(output: &RawJson) -> bool {
    RawObject::parse(output).is_some_and(|object| {
        object.string("__type__").as_deref() == Some("Command") || object.get("update").is_some()
    })
}

/// The messages a tool returned and how; none where it returned a bare value.
fn returned(output: &RawJson) -> (Vec<Message>, Origin) {
    if let Some(message) = Message::parse(output) {
        return (vec![message], Origin::ToolEnd);
    }
    if !is_command(output) {
        return (Vec::new(), Origin::ToolValue);
    }
    let update = RawObject::parse(output).and_then(|command| command.get("update").cloned());
    let pairs = update.as_ref().is_some_and(|update| update.as_str().starts_with('['));
    let messages = update.as_ref().map(messages_in).unwrap_or_default();
    (messages, if pairs { Origin::ToolPairs } else { Origin::ToolEnd })
}
