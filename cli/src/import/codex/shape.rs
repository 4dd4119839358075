//! What Codex's items and calls are in the log: one table for each, read in both directions.
//!
//! A row says where a member of Codex's object goes. What has no row goes into `extra`, so nothing is lost,
//! and what was read can be written again.

use runledger_core::{ItemKind, RawJson};

use super::json::{Members, Object, string};

/// Where a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// It is the shape's name.
    Type,
    /// It is the item's id.
    Id,
    /// It is the item's status.
    Status,
    /// It is the run.
    Turn,
    /// A member of the content.
    Top(&'static str),
    /// A member of a call's detail.
    Detail(&'static str),
    /// A call's arguments, which the model wrote as text.
    Arguments,
    /// A message's parts.
    Parts,
    /// How long it ran, in seconds and nanoseconds.
    Duration,
    /// What an MCP tool returned.
    McpResult,
    /// `{message}`.
    Error,
}

use To::{Arguments, Detail, Duration, Error, Id, McpResult, Parts, Status, Top, Turn, Type};

/// The member in which an export keeps what Codex has no place for.
const OWN: &str = "runledger";

/// The rest of a duration below a millisecond, in nanoseconds.
const REST: &str = "duration_nanos";

/// How one of Codex's objects is read and written.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its type.
    pub(crate) name: &'static str,
    /// What it is an item of.
    pub(crate) kind: ItemKind,
    /// The tool's name, where the object does not say it.
    tool: &'static str,
    keys: &'static [(&'static str, To)],
}

const TYPE: (&str, To) = ("type", Type);
const ID: (&str, To) = ("id", Id);

/// The items of paginated rollouts.
static ITEMS: &[Shape] = &[
    Shape {
        name: "UserMessage",
        kind: ItemKind::UserMessage,
        tool: "",
        keys: &[TYPE, ID, ("client_id", Top("client_id")), ("content", Top("content"))],
    },
    Shape {
        name: "AgentMessage",
        kind: ItemKind::AgentMessage,
        tool: "",
        keys: &[
            TYPE,
            ID,
            ("content", Parts),
            ("phase", Top("phase")),
            ("memory_citation", Top("memory_citation")),
            ("delivery", Top("delivery")),
            ("questions", Top("questions")),
        ],
    },
    Shape {
        name: "Reasoning",
        kind: ItemKind::Reasoning,
        tool: "",
        keys: &[TYPE, ID, ("summary_text", Top("summary")), ("raw_content", Top("raw"))],
    },
    Shape { name: "Plan", kind: ItemKind::Plan, tool: "", keys: &[TYPE, ID, ("text", Top("text"))] },
    Shape {
        name: "CommandExecution",
        kind: ItemKind::CommandExecution,
        tool: "exec_command",
        keys: &[
            TYPE,
            ID,
            ("plugin_id", Detail("plugin_id")),
            ("script_path", Detail("script_path")),
            ("process_id", Detail("process_id")),
            ("command", Detail("command")),
            ("cwd", Detail("cwd")),
            ("parsed_cmd", Detail("parsed")),
            ("source", Detail("source")),
            ("interaction_input", Detail("interaction_input")),
            ("status", Status),
            ("stdout", Detail("stdout")),
            ("stderr", Detail("stderr")),
            ("aggregated_output", Top("content")),
            ("exit_code", Detail("exit_code")),
            ("duration", Duration),
            ("formatted_output", Detail("formatted_output")),
        ],
    },
    Shape {
        name: "FileChange",
        kind: ItemKind::FileChange,
        tool: "apply_patch",
        keys: &[
            TYPE,
            ID,
            ("changes", Detail("changes")),
            ("status", Status),
            ("auto_approved", Detail("auto_approved")),
            ("stdout", Detail("stdout")),
            ("stderr", Detail("stderr")),
        ],
    },
    Shape {
        name: "McpToolCall",
        kind: ItemKind::McpToolCall,
        tool: "",
        keys: &[
            TYPE,
            ID,
            ("server", Detail("server")),
            ("tool", Top("name")),
            ("arguments", Top("args")),
            ("connector_id", Detail("connector_id")),
            ("mcp_app_resource_uri", Detail("app_resource_uri")),
            ("link_id", Detail("link_id")),
            ("app_name", Detail("app_name")),
            ("action_name", Detail("action_name")),
            ("plugin_id", Detail("plugin_id")),
            ("readOnlyHint", Detail("read_only")),
            ("status", Status),
            ("result", McpResult),
            ("error", Error),
            ("duration", Duration),
        ],
    },
    Shape {
        name: "DynamicToolCall",
        kind: ItemKind::ToolCall,
        tool: "",
        keys: &[
            TYPE,
            ID,
            ("namespace", Detail("namespace")),
            ("tool", Top("name")),
            ("arguments", Top("args")),
            ("status", Status),
            ("content_items", Top("content")),
            ("success", Detail("success")),
            ("error", Error),
            ("duration", Duration),
        ],
    },
    Shape {
        name: "FunctionCallOutput",
        kind: ItemKind::ToolCall,
        tool: "",
        keys: &[
            TYPE,
            ID,
            ("name", Top("name")),
            ("namespace", Detail("namespace")),
            ("output", Top("content")),
        ],
    },
    Shape {
        name: "CollabAgentToolCall",
        kind: ItemKind::CollabAgentCall,
        tool: "",
        keys: &[
            TYPE,
            ID,
            ("tool", Top("name")),
            ("status", Status),
            ("sender_thread_id", Detail("sender_thread_id")),
            ("receiver_thread_ids", Detail("receiver_thread_ids")),
            ("receiver_agents", Detail("receiver_agents")),
            ("prompt", Detail("prompt")),
            ("model", Detail("model")),
            ("reasoning_effort", Detail("reasoning_effort")),
            ("agents_states", Detail("agents_states")),
        ],
    },
    Shape {
        name: "SubAgentActivity",
        kind: ItemKind::SubAgentActivity,
        tool: "",
        keys: &[
            TYPE,
            ("model", Top("model")),
            ("reasoning_effort", Top("reasoning_effort")),
            ID,
            ("kind", Top("activity")),
            ("agent_thread_id", Top("agent_thread_id")),
            ("agent_path", Top("agent_path")),
        ],
    },
    Shape {
        name: "WebSearch",
        kind: ItemKind::WebSearch,
        tool: "web_search",
        keys: &[
            TYPE,
            ID,
            ("query", Detail("query")),
            ("action", Detail("action")),
            ("results", Top("content")),
        ],
    },
    Shape {
        name: "ImageView",
        kind: ItemKind::ImageView,
        tool: "view_image",
        keys: &[TYPE, ID, ("path", Detail("path"))],
    },
    Shape {
        name: "ImageGeneration",
        kind: ItemKind::ImageGeneration,
        tool: "image_generation",
        keys: &[
            TYPE,
            ID,
            ("status", Detail("provider_status")),
            ("revised_prompt", Detail("revised_prompt")),
            ("result", Top("content")),
            ("saved_path", Detail("saved_path")),
        ],
    },
    Shape {
        name: "EnteredReviewMode",
        kind: ItemKind::ReviewEntered,
        tool: "",
        keys: &[TYPE, ID, ("target", Top("target")), ("user_facing_hint", Top("hint"))],
    },
    Shape {
        name: "ExitedReviewMode",
        kind: ItemKind::ReviewExited,
        tool: "",
        keys: &[TYPE, ID, ("review_output", Top("output"))],
    },
    Shape {
        name: "HookPrompt",
        kind: ItemKind::HookPrompt,
        tool: "",
        keys: &[TYPE, ID, ("fragments", Top("fragments"))],
    },
    Shape { name: "ContextCompaction", kind: ItemKind::ContextCompaction, tool: "", keys: &[TYPE, ID] },
];

/// What is an item in rollouts that have no items, and the calls that the model asks for. A call's kind is
/// its tool's, not its shape's.
static PAYLOADS: &[Shape] = &[
    Shape {
        name: "user_message",
        kind: ItemKind::UserMessage,
        tool: "",
        keys: &[TYPE, ("client_id", Top("client_id")), ("message", Top("content"))],
    },
    Shape {
        name: "agent_message",
        kind: ItemKind::AgentMessage,
        tool: "",
        keys: &[
            TYPE,
            ("message", Top("content")),
            ("phase", Top("phase")),
            ("memory_citation", Top("memory_citation")),
        ],
    },
    Shape {
        name: "agent_reasoning",
        kind: ItemKind::Reasoning,
        tool: "",
        keys: &[TYPE, ("text", Top("text"))],
    },
    Shape {
        name: "agent_reasoning_raw_content",
        kind: ItemKind::Reasoning,
        tool: "",
        keys: &[TYPE, ("text", Top("text"))],
    },
    Shape {
        name: "patch_apply_end",
        kind: ItemKind::FileChange,
        tool: "apply_patch",
        keys: &[
            TYPE,
            ("call_id", Id),
            ("turn_id", Turn),
            ("stdout", Detail("stdout")),
            ("stderr", Detail("stderr")),
            ("success", Top("success")),
            ("changes", Detail("changes")),
            ("status", Status),
        ],
    },
    Shape {
        name: "web_search_end",
        kind: ItemKind::WebSearch,
        tool: "web_search",
        keys: &[TYPE, ("call_id", Id), ("query", Detail("query")), ("action", Detail("action"))],
    },
    Shape {
        name: "image_generation_end",
        kind: ItemKind::ImageGeneration,
        tool: "image_generation",
        keys: &[
            TYPE,
            ("call_id", Id),
            ("status", Detail("provider_status")),
            ("revised_prompt", Detail("revised_prompt")),
            ("result", Top("content")),
            ("saved_path", Detail("saved_path")),
        ],
    },
    Shape {
        name: "view_image_tool_call",
        kind: ItemKind::ImageView,
        tool: "view_image",
        keys: &[TYPE, ("call_id", Id), ("path", Detail("path"))],
    },
    Shape {
        name: "entered_review_mode",
        kind: ItemKind::ReviewEntered,
        tool: "",
        keys: &[TYPE, ("target", Top("target")), ("user_facing_hint", Top("hint"))],
    },
    Shape {
        name: "exited_review_mode",
        kind: ItemKind::ReviewExited,
        tool: "",
        keys: &[TYPE, ("review_output", Top("output"))],
    },
    Shape { name: "context_compacted", kind: ItemKind::ContextCompaction, tool: "", keys: &[TYPE] },
    Shape {
        name: "function_call",
        kind: ItemKind::ToolCall,
        tool: "",
        keys: &[TYPE, ("name", Top("name")), ("arguments", Arguments), ("call_id", Id)],
    },
    Shape {
        name: "custom_tool_call",
        kind: ItemKind::ToolCall,
        tool: "",
        keys: &[TYPE, ("call_id", Id), ("name", Top("name")), ("input", Arguments)],
    },
    Shape {
        name: "local_shell_call",
        kind: ItemKind::CommandExecution,
        tool: "local_shell",
        keys: &[TYPE, ("call_id", Id), ("action", Top("args"))],
    },
    Shape {
        name: "function_call_output",
        kind: ItemKind::ToolCall,
        tool: "",
        keys: &[TYPE, ("call_id", Id), ("output", Top("content"))],
    },
    Shape {
        name: "custom_tool_call_output",
        kind: ItemKind::ToolCall,
        tool: "",
        keys: &[TYPE, ("call_id", Id), ("output", Top("content"))],
    },
];

/// The shape of an item of this type.
pub(crate) fn of_item(name: &str) -> Option<&'static Shape> {
    ITEMS.iter().find(|shape| shape.name == name)
}

/// The shape that items of this kind are written in.
pub(crate) fn of_kind(kind: &ItemKind) -> Option<&'static Shape> {
    ITEMS.iter().find(|shape| shape.kind == *kind)
}

/// The shape of a payload of this type.
pub(crate) fn of_payload(name: &str) -> Option<&'static Shape> {
    PAYLOADS.iter().find(|shape| shape.name == name)
}

/// What the log knows of an object besides its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) id: &'a str,
    pub(crate) turn: &'a str,
    pub(crate) status: &'a str,
    /// Its keys in their order; empty for Codex's.
    pub(crate) keys: &'a [String],
}

/// The call that an object is the result of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) args: RawJson,
}

/// An object, read.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) content: RawJson,
}

/// Content as it is put together.
#[derive(Debug, Default)]
struct Content {
    top: Object,
    detail: Object,
    extra: Object,
    has_name: bool,
    has_args: bool,
    has_text: bool,
}

impl Shape {
    fn place(&self, key: &str) -> Option<To> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, to)| *to)
    }

    fn is_call(&self) -> bool {
        self.kind.is_call()
    }

    /// Reads an object. A result repeats what was asked.
    pub(crate) fn read(&self, members: &Members<'_>, asked: Option<&Asked>) -> Told {
        let mut told = Told { id: None, status: None, content: RawJson::null() };
        let mut content = Content::default();
        for (key, value) in members.iter() {
            match self.place(key) {
                Some(Type | Turn) => {}
                Some(Id) => told.id = string(value).filter(|id| !id.is_empty()),
                Some(Status) => told.status = string(value),
                Some(to) => {
                    if content.take(to, value).is_none() {
                        content.extra.put(key, value);
                    }
                }
                None if key == OWN => {}
                None => content.extra.put(key, value),
            }
        }
        if self.is_call() {
            if !content.has_name {
                let name = asked.map_or(self.tool, |asked| &asked.name);
                content.top.put("name", RawJson::string(name).as_str());
            }
            if !content.has_args {
                content.top.put("args", asked.map_or("null", |asked| asked.args.as_str()));
            }
        }
        match self.kind {
            ItemKind::Reasoning if !content.has_text => {
                content.top.put("text", RawJson::string(&reasoning(members)).as_str());
            }
            ItemKind::HookPrompt => content.top.put("content", RawJson::string(&prompt(members)).as_str()),
            ItemKind::ContextCompaction => content.top.put("content", "\"\""),
            _ => {}
        }
        let content = content.text();
        told.content = RawJson::from_stored(&match members.object(OWN) {
            Some(own) => overlaid(&content, &own),
            None => content,
        });
        told
    }

    /// Writes the object that a content was read from; `None` where the content is of another shape.
    pub(crate) fn write(&self, content: &RawJson, named: &Named<'_>) -> Option<String> {
        let content = Members::parse(content.as_str())?;
        let detail = content.object("detail").unwrap_or_default();
        let extra = content.object("extra").unwrap_or_default();
        let mut object = Object::default();
        let mut put = |key: &str| {
            let value = match self.place(key) {
                Some(Type) => Some(RawJson::string(self.name).to_string()),
                Some(Id) => Some(RawJson::string(named.id).to_string()),
                Some(Turn) => Some(RawJson::string(named.turn).to_string()),
                Some(Status) => Some(RawJson::string(named.status).to_string()),
                Some(to) => given(to, &content, &detail, &extra),
                None => None,
            };
            if let Some(value) = value.or_else(|| extra.get(key).map(str::to_owned)) {
                object.put(key, &value);
            }
        };
        if named.keys.is_empty() {
            self.keys.iter().for_each(|(key, _)| put(key));
            extra
                .iter()
                .filter(|(key, _)| *key != REST && self.place(key).is_none())
                .for_each(|(key, _)| put(key));
        } else {
            named.keys.iter().for_each(|key| put(key));
        }
        Some(object.text())
    }

    /// Writes an item that no rollout had: what Codex has no place for stands in a member of its own.
    pub(crate) fn write_own(&self, content: &RawJson, named: &Named<'_>) -> Option<String> {
        let members = Members::parse(content.as_str())?;
        // Its names are another source's, and may be Codex's names for something else.
        let mut told = Object::default();
        members.iter().filter(|(name, _)| *name != "extra").for_each(|(name, value)| told.put(name, value));
        let mut item = self.write(&RawJson::from_stored(&told.text()), named)?;
        let back = self.read(&Members::parse(&item).unwrap_or_default(), None).content;
        let back = Members::parse(back.as_str()).unwrap_or_default();
        let mut own = Object::default();
        for (name, value) in members.iter().filter(|(name, value)| back.get(name) != Some(value)) {
            own.put(name, value);
        }
        if !own.is_empty() {
            item.truncate(item.len() - 1);
            item = format!("{item},\"{OWN}\":{}}}", own.text());
        }
        Some(item)
    }
}

/// A content with members of ours in place of those that were read.
fn overlaid(content: &str, own: &Members<'_>) -> String {
    let mut object = Object::default();
    let read = Members::parse(content).unwrap_or_default();
    read.iter().filter(|(name, _)| own.get(name).is_none()).for_each(|(name, value)| object.put(name, value));
    own.iter().for_each(|(name, value)| object.put(name, value));
    object.text()
}

impl Content {
    /// Puts a member of the content, in place of one that was read.
    fn put(&mut self, name: &str, value: &str) {
        match name {
            "name" => self.has_name = true,
            "args" => self.has_args = true,
            "text" => self.has_text = true,
            _ => {}
        }
        self.top.put(name, value);
    }

    /// `None` where the value is none that belongs there.
    fn take(&mut self, to: To, value: &str) -> Option<()> {
        match to {
            Type | Id | Status | Turn => {}
            Top("name") if !value.starts_with('"') => return None,
            Top(name) => self.put(name, value),
            Detail(name) => self.detail.put(name, value),
            Arguments => {
                let text = string(value)?;
                let is_object = text.starts_with('{') && RawJson::parse("arguments", &text).is_ok();
                self.put("args", if is_object { text.trim_end() } else { value });
            }
            Parts => self.put("content", &parts(value)?),
            Duration => {
                let duration = Members::parse(value)?;
                let (seconds, nanos) = (duration.count("secs")?, duration.count("nanos")?);
                let whole = seconds.checked_mul(1_000)?.checked_add(nanos / 1_000_000)?;
                self.put("duration_ms", &whole.to_string());
                if nanos % 1_000_000 > 0 {
                    self.extra.put(REST, &(nanos % 1_000_000).to_string());
                }
            }
            McpResult => {
                let result = Members::parse(value)?;
                let mut rest = Object::default();
                for (key, value) in result.iter() {
                    match key {
                        "content" => self.put("content", value),
                        "structuredContent" => self.detail.put("structured_content", value),
                        "isError" => self.detail.put("is_error", value),
                        other => rest.put(other, value),
                    }
                }
                if !rest.is_empty() {
                    self.detail.put("result_extra", &rest.text());
                }
            }
            Error => {
                let message = match Members::parse(value) {
                    Some(error) => error.get("message").filter(|message| message.starts_with('"'))?,
                    None => Some(value).filter(|value| value.starts_with('"'))?,
                };
                self.put("error", &format!("{{\"type\":\"codex\",\"message\":{message}}}"));
            }
        }
        Some(())
    }

    fn text(mut self) -> String {
        if !self.detail.is_empty() {
            self.top.put("detail", &self.detail.text());
        }
        if !self.extra.is_empty() {
            self.top.put("extra", &self.extra.text());
        }
        self.top.text()
    }
}

/// What a member was, by what the content has of it.
fn given(to: To, content: &Members<'_>, detail: &Members<'_>, extra: &Members<'_>) -> Option<String> {
    match to {
        Type | Id | Status | Turn => None,
        Top(name) => content.get(name).map(str::to_owned),
        Detail(name) => detail.get(name).map(str::to_owned),
        Arguments => {
            let args = content.get("args")?;
            Some(if args.starts_with('"') { args.to_owned() } else { RawJson::string(args).to_string() })
        }
        Parts => content.get("content").map(parts_of),
        Duration => {
            let whole = content.count("duration_ms")?;
            let rest = extra.count(REST).unwrap_or(0);
            let nanos = (whole % 1_000) * 1_000_000 + rest;
            Some(format!("{{\"secs\":{},\"nanos\":{nanos}}}", whole / 1_000))
        }
        McpResult => {
            let mut result = Object::default();
            for (name, value) in [
                ("content", content.get("content")),
                ("structuredContent", detail.get("structured_content")),
                ("isError", detail.get("is_error")),
            ] {
                if let Some(value) = value {
                    result.put(name, value);
                }
            }
            if let Some(rest) = detail.object("result_extra") {
                rest.iter().for_each(|(key, value)| result.put(key, value));
            }
            (!result.is_empty()).then(|| result.text())
        }
        Error => {
            let message = content.object("error")?.get("message")?;
            Some(format!("{{\"message\":{message}}}"))
        }
    }
}

/// The parts of an agent's message: one text is text, several are text parts as chat APIs have them.
fn parts(value: &str) -> Option<String> {
    let parts: Vec<&serde_json::value::RawValue> = serde_json::from_str(value).ok()?;
    let texts: Option<Vec<&str>> = parts.iter().map(|part| text_of(part.get(), "Text")).collect();
    Some(match texts.as_deref() {
        Some([text]) => (*text).to_owned(),
        Some(texts) if !texts.is_empty() => {
            let parts: Vec<String> =
                texts.iter().map(|text| format!("{{\"type\":\"text\",\"text\":{text}}}")).collect();
            format!("[{}]", parts.join(","))
        }
        _ => value.to_owned(),
    })
}

fn parts_of(content: &str) -> String {
    if content.starts_with('"') {
        return format!("[{{\"type\":\"Text\",\"text\":{content}}}]");
    }
    let parts: Vec<&serde_json::value::RawValue> = serde_json::from_str(content).unwrap_or_default();
    let texts: Option<Vec<&str>> = parts.iter().map(|part| text_of(part.get(), "text")).collect();
    match texts {
        Some(texts) if !texts.is_empty() => {
            let parts: Vec<String> =
                texts.iter().map(|text| format!("{{\"type\":\"Text\",\"text\":{text}}}")).collect();
            format!("[{}]", parts.join(","))
        }
        _ => content.to_owned(),
    }
}

/// The text of a part that has a type and a text, and nothing else.
fn text_of<'a>(part: &'a str, kind: &str) -> Option<&'a str> {
    let part = Members::parse(part)?;
    let is_text = part.iter().count() == 2 && part.string("type").as_deref() == Some(kind);
    part.get("text").filter(|text| is_text && text.starts_with('"'))
}

fn reasoning(members: &Members<'_>) -> String {
    let texts = |name: &str| -> Vec<String> {
        let value = members.get(name).unwrap_or("[]");
        RawJson::from_stored(value).decode_lossy().unwrap_or_default()
    };
    let summary = texts("summary_text");
    if summary.is_empty() { texts("raw_content").join("\n\n") } else { summary.join("\n\n") }
}

fn prompt(members: &Members<'_>) -> String {
    let fragments: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(members.get("fragments").unwrap_or("[]")).unwrap_or_default();
    let texts: Vec<String> =
        fragments.iter().filter_map(|part| Members::parse(part.get())?.string("text")).collect();
    texts.join("\n\n")
}

/// The kind of a call, by its tool: what its item will be when it is completed.
pub(crate) fn kind_of_tool(name: &str, namespace: Option<&str>, is_second_version: bool) -> ItemKind {
    match name {
        "exec_command" | "shell" | "shell_command" | "local_shell" | "container.exec" => {
            ItemKind::CommandExecution
        }
        "apply_patch" => ItemKind::FileChange,
        "view_image" => ItemKind::ImageView,
        // In the second version of Codex's agents these leave what the agent does, not a call.
        "spawn_agent" | "followup_task" | "send_message" | "interrupt_agent" if is_second_version => {
            ItemKind::SubAgentActivity
        }
        "spawn_agent" | "send_input" | "resume_agent" | "wait" | "wait_agent" | "close_agent"
        | "send_message" | "followup_task" | "interrupt_agent" | "list_agents" => ItemKind::CollabAgentCall,
        _ if name.starts_with("mcp__") || namespace.is_some_and(|name| name.starts_with("mcp__")) => {
            ItemKind::McpToolCall
        }
        _ => ItemKind::ToolCall,
    }
}
