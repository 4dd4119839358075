//! The legacy events that an item's canonical event has beside it.

use super::super::plain;
use super::item::{
    MCP_EVENT_NAMES, activity_word, agent_texts, changes, command, content_items, duration, mcp_names,
    mcp_result, output, reasoning_parts, text, texts, user_input, word,
};
use super::{millis, named};
use crate::{
    AgentMessage, CollabAgentCall, ContentText as _, Decimal, Item, ItemBody, ItemStatus, McpToolCall,
    RawJson, RawObject, ToolCall, UserMessage,
};

/// The twins of an item's start or completion, by where the item stands.
pub(super) fn of(item: &Item) -> Vec<RawObject> {
    let events = Events {
        id: item.entry.item_id.as_str(),
        turn: item.entry.run_id.as_str(),
        is_over: item.entry.status != ItemStatus::InProgress,
        status: &item.entry.status,
        at: plain(millis(item.entry.completed_at.unwrap_or(item.entry.started_at))),
    };
    events.of(item.body())
}

struct Events<'a> {
    id: &'a str,
    turn: &'a str,
    is_over: bool,
    status: &'a ItemStatus,
    /// When it began or ended, in milliseconds.
    at: RawJson,
}

impl Events<'_> {
    fn of(&self, body: ItemBody) -> Vec<RawObject> {
        match body {
            ItemBody::CommandExecution(call, detail) => {
                let fields =
                    self.call("exec_command").with_some("process_id", text(detail.process_id.as_deref()));
                let fields = self.when(fields.with_text("turn_id", self.turn));
                let fields = command(fields, &detail);
                if !self.is_over {
                    return vec![fields];
                }
                let or_empty = |text: &Option<String>| RawJson::string(text.as_deref().unwrap_or_default());
                let fields = fields
                    .with("stdout", or_empty(&detail.stdout))
                    .with("stderr", or_empty(&detail.stderr))
                    .with_text("aggregated_output", &output(&call))
                    .with("exit_code", plain(detail.exit_code.unwrap_or_default()))
                    .with("duration", duration(&call).unwrap_or_else(no_time))
                    .with("formatted_output", or_empty(&detail.formatted_output))
                    .with_text("status", word(self.status));
                vec![fields]
            }
            ItemBody::FileChange(_, detail) => {
                let fields = self.call("patch_apply").with_text("turn_id", self.turn);
                if !self.is_over {
                    let approved = plain(detail.auto_approved.unwrap_or(false));
                    return vec![fields.with("auto_approved", approved).with("changes", changes(&detail))];
                }
                let fields = fields
                    .with_text("stdout", detail.stdout.as_deref().unwrap_or_default())
                    .with_text("stderr", detail.stderr.as_deref().unwrap_or_default())
                    .with("success", plain(*self.status == ItemStatus::Completed))
                    .with("changes", changes(&detail))
                    .with_text("status", word(self.status));
                vec![fields]
            }
            ItemBody::McpToolCall(call, detail) => self.mcp(&call, &detail).into_iter().collect(),
            ItemBody::ToolCall(call, detail) => {
                let namespace = text(detail.namespace.as_deref()).unwrap_or_default();
                if !self.is_over {
                    // Not as the others: these are names of the interface that clients answer on.
                    let fields = named("dynamic_tool_call_request")
                        .with_text("callId", self.id)
                        .with_text("turnId", self.turn)
                        .with("startedAtMs", self.at.clone())
                        .with("namespace", namespace)
                        .with_text("tool", &call.name)
                        .with("arguments", call.args);
                    return vec![fields];
                }
                let error = call.error.as_ref().map(|error| RawJson::string(&error.message));
                let items = call.content.as_ref().map(content_items);
                let success = detail.success.unwrap_or(*self.status == ItemStatus::Completed);
                let lasted = duration(&call).unwrap_or_else(no_time);
                let fields = named("dynamic_tool_call_response")
                    .with_text("call_id", self.id)
                    .with_text("turn_id", self.turn)
                    .with("completed_at_ms", self.at.clone())
                    .with("namespace", namespace)
                    .with_text("tool", &call.name)
                    .with("arguments", call.args)
                    .with("content_items", items.unwrap_or_else(|| RawJson::array([])))
                    .with("success", plain(success))
                    .with("error", error.unwrap_or_default())
                    .with("duration", lasted);
                vec![fields]
            }
            ItemBody::CollabAgentCall(call, detail) => self.collab(&call, &detail).into_iter().collect(),
            ItemBody::WebSearch(call, detail) => {
                let fields = self.call("web_search");
                if !self.is_over {
                    return vec![fields];
                }
                let fields = fields
                    .with_text("query", detail.query.as_deref().unwrap_or_default())
                    .with("action", detail.action.unwrap_or_else(|| named("other").to_json()));
                vec![fields.with_some("results", call.content)]
            }
            ItemBody::ImageGeneration(call, detail) => {
                let fields = self.call("image_generation");
                if !self.is_over {
                    return vec![fields];
                }
                let fields = fields
                    .with_text("status", detail.provider_status.as_deref().unwrap_or(word(self.status)))
                    .with_some("revised_prompt", text(detail.revised_prompt.as_deref()))
                    .with_text("result", &output(&call));
                vec![fields.with_some("saved_path", text(detail.saved_path.as_deref()))]
            }
            // The others have no beginning.
            _ if !self.is_over => Vec::new(),
            ItemBody::UserMessage(message) => vec![user_message(&message)],
            ItemBody::AgentMessage(message) => self.agent_messages(&message),
            ItemBody::Reasoning(reasoning) => {
                let (summary, raw) = reasoning_parts(&reasoning);
                let event = |kind: &'static str| move |said: RawJson| named(kind).with("text", said);
                let summary = summary.elements().into_iter().map(event("agent_reasoning"));
                summary.chain(raw.elements().into_iter().map(event("agent_reasoning_raw_content"))).collect()
            }
            ItemBody::ImageView(_, detail) => {
                let fields = named("view_image_tool_call").with_text("call_id", self.id);
                vec![fields.with_text("path", detail.path.as_deref().unwrap_or_default())]
            }
            ItemBody::SubAgentActivity(activity) => {
                let Some(thread) = &activity.agent_thread_id else { return Vec::new() };
                let fields = named("sub_agent_activity")
                    .with_text("event_id", self.id)
                    .with("occurred_at_ms", self.at.clone())
                    .with_text("agent_thread_id", thread)
                    .with_text("agent_path", activity.agent_path.as_deref().unwrap_or_default());
                vec![fields.with_text("kind", activity_word(&activity, self.status))]
            }
            ItemBody::ContextCompaction(_) => vec![named("context_compacted")],
            ItemBody::ReviewEntered(review) => {
                let fields = named("entered_review_mode").with("target", review.target.unwrap_or_default());
                vec![self.of_turn(fields.with_some("user_facing_hint", text(review.hint.as_deref())))]
            }
            ItemBody::ReviewExited(review) => {
                let output = review.output.unwrap_or_default();
                vec![self.of_turn(named("exited_review_mode").with("review_output", output))]
            }
            ItemBody::Plan(_) | ItemBody::HookPrompt(_) | ItemBody::Extension(_) | ItemBody::Other(_) => {
                Vec::new()
            }
        }
    }

    /// An event of a call that has a beginning and an end.
    fn call(&self, kind: &str) -> RawObject {
        let phase = if self.is_over { "end" } else { "begin" };
        named(&format!("{kind}_{phase}")).with_text("call_id", self.id)
    }

    fn when(&self, fields: RawObject) -> RawObject {
        fields.with(if self.is_over { "completed_at_ms" } else { "started_at_ms" }, self.at.clone())
    }

    fn of_turn(&self, fields: RawObject) -> RawObject {
        fields.with_text("turn_id", self.turn).with_text("item_id", self.id)
    }

    /// One for each part, under the item's id.
    fn agent_messages(&self, message: &AgentMessage) -> Vec<RawObject> {
        let said = |said: RawJson| {
            named("agent_message")
                .with_text("id", self.id)
                .with("message", said)
                .with("phase", text(message.phase.as_deref()).unwrap_or_default())
                .with("memory_citation", message.memory_citation.clone().unwrap_or_default())
        };
        agent_texts(message).into_iter().map(said).collect()
    }

    /// The end is told only where there is an outcome, and how long it took.
    fn mcp(&self, call: &ToolCall, detail: &McpToolCall) -> Option<RawObject> {
        let invocation = RawObject::default()
            .with_text("server", detail.server.as_deref().unwrap_or_default())
            .with_text("tool", &call.name)
            .with("arguments", call.args.clone());
        let fields = self.call("mcp_tool_call").with("invocation", invocation.to_json());
        let fields = mcp_names(fields, detail, &MCP_EVENT_NAMES);
        if !self.is_over {
            return Some(fields);
        }
        let outcome = match (mcp_result(call, detail), &call.error) {
            (Some(result), _) => RawObject::default().with("Ok", result),
            (None, Some(error)) => RawObject::default().with_text("Err", &error.message),
            (None, None) => return None,
        };
        Some(fields.with("duration", duration(call)?).with("result", outcome.to_json()))
    }

    fn collab(&self, call: &ToolCall, detail: &CollabAgentCall) -> Option<RawObject> {
        let receiver = detail.receiver_thread_ids.iter().flatten().next().map(String::as_str);
        let kind = match call.name.as_str() {
            "spawn_agent" => "collab_agent_spawn",
            "send_input" => "collab_agent_interaction",
            "resume_agent" => "collab_resume",
            "wait" => "collab_waiting",
            "close_agent" => "collab_close",
            // Tools that are younger than these events.
            _ => return None,
        };
        let or_empty = |text: &Option<String>| RawJson::string(text.as_deref().unwrap_or_default());
        let fields = self.when(self.call(kind)).with("sender_thread_id", or_empty(&detail.sender_thread_id));
        let agents = Agents::of(detail);
        let fields = match kind {
            "collab_agent_spawn" => {
                let fields = if self.is_over {
                    let fields = fields.with("new_thread_id", text(receiver).unwrap_or_default());
                    agents.identity(fields, receiver, ["new_agent_nickname", "new_agent_role"])
                } else {
                    fields
                };
                fields
                    .with("prompt", or_empty(&detail.prompt))
                    .with("model", or_empty(&detail.model))
                    .with("reasoning_effort", or_empty(&detail.reasoning_effort))
            }
            "collab_waiting" if self.is_over => {
                return Some(
                    fields
                        .with("agent_statuses", agents.statuses())
                        .with("statuses", agents.states.to_json()),
                );
            }
            "collab_waiting" => {
                let receivers = texts(detail.receiver_thread_ids.as_deref().unwrap_or_default());
                let agents = detail.receiver_agents.clone().unwrap_or_else(|| RawJson::array([]));
                return Some(fields.with("receiver_thread_ids", receivers).with("receiver_agents", agents));
            }
            // Who has one receiver is told of only where it is known.
            _ => {
                let fields = fields.with_text("receiver_thread_id", receiver?);
                let fields = if self.is_over || kind == "collab_resume" {
                    agents.identity(fields, receiver, ["receiver_agent_nickname", "receiver_agent_role"])
                } else {
                    fields
                };
                let prompt = (kind == "collab_agent_interaction").then(|| or_empty(&detail.prompt));
                fields.with_some("prompt", prompt)
            }
        };
        Some(if self.is_over { fields.with("status", agents.status(receiver)) } else { fields })
    }
}

/// Who is called, and where each stands.
struct Agents {
    known: Vec<RawObject>,
    states: RawObject,
}

impl Agents {
    fn of(detail: &CollabAgentCall) -> Self {
        let known = detail.receiver_agents.iter().flat_map(RawJson::elements);
        let states = detail.agents_states.as_ref().and_then(RawObject::parse).unwrap_or_default();
        Self { known: known.filter_map(|agent| RawObject::parse(&agent)).collect(), states }
    }

    fn identity(&self, fields: RawObject, thread: Option<&str>, names: [&str; 2]) -> RawObject {
        let known = self.known.iter().find(|agent| agent.string("thread_id").as_deref() == thread);
        let known = |name: &str| known.and_then(|agent| text(agent.string(name).as_deref()));
        let [nickname, role] = names;
        fields.with_some(nickname, known("agent_nickname")).with_some(role, known("agent_role"))
    }

    /// Where an agent stands, as the runtime gives it.
    fn status(&self, thread: Option<&str>) -> RawJson {
        let status = thread.and_then(|thread| self.states.get(thread).cloned());
        status.unwrap_or_else(|| RawJson::string("not_found"))
    }

    fn statuses(&self) -> RawJson {
        let status = |agent: &RawObject| {
            let thread = agent.string("thread_id");
            agent.clone().with("status", self.status(thread.as_deref())).to_json()
        };
        RawJson::array(self.known.iter().map(status))
    }
}

fn no_time() -> RawJson {
    RawObject::default().with("secs", plain(0)).with("nanos", plain(0)).to_json()
}

/// The texts as one, the images beside them, and the ranges that name parts of the text, moved to where those stand.
fn user_message(message: &UserMessage) -> RawObject {
    let (mut images, mut local, mut elements) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = 0;
    for part in user_input(message).elements() {
        let Some(fields) = RawObject::parse(&part) else { continue };
        match fields.string("type").as_deref() {
            Some("text") => {
                let ranges = fields.get("text_elements").map(RawJson::elements).unwrap_or_default();
                elements.extend(ranges.iter().map(|range| moved(range, before)));
                before += fields.string("text").unwrap_or_default().len() as u64;
            }
            Some("image") => images.extend(fields.get("image_url").cloned()),
            Some("local_image") => local.extend(fields.get("path").cloned()),
            _ => {}
        }
    }
    named("user_message")
        .with_some("client_id", text(message.client_id.as_deref()))
        .with_text("message", &message.content.text())
        .with("images", RawJson::array(images))
        .with("local_images", RawJson::array(local))
        .with("text_elements", RawJson::array(elements))
}

fn moved(element: &RawJson, by: u64) -> RawJson {
    let move_it = || {
        let fields = RawObject::parse(element)?;
        let range = fields.object("byte_range")?;
        let place =
            |name: &str| Some(plain(Decimal::parse(range.get(name)?.as_str())?.whole()?.checked_add(by)?));
        let range = range.clone().with("start", place("start")?).with("end", place("end")?);
        Some(fields.with("byte_range", range.to_json()).to_json())
    };
    move_it().unwrap_or_else(|| element.clone())
}
