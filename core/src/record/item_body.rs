//! Items whole: what each kind of item says, read from the record that says it.
//!
//! A call's common part is a [`ToolCall`]; what its kind has beyond that is the call's `detail`. So a reader
//! who knows only calls reads all of them, and one who knows commands reads the exit code too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AgentMessage, CompactionNote, Event, ItemEntry, ItemKind, ReasoningText, SubAgentActivity, ToolCall,
    UserMessage,
};
use crate::RawJson;

/// One item: where it stands, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Item {
    /// Its row of the item index.
    pub entry: ItemEntry,
    /// The payload of its completion, or of its start while it goes on; `None` where that record was removed, or
    /// contents were not asked for.
    pub content: Option<RawJson>,
    /// The payload's size in bytes before anything was left out.
    pub content_bytes: u64,
    /// Whether part of the payload was left out.
    pub truncated: bool,
}

impl Item {
    /// An item and the event that says it: its completion, or its start while it goes on.
    #[must_use]
    pub fn of(entry: ItemEntry, event: &Event) -> Self {
        Self {
            entry,
            content: Some(event.content.clone()),
            content_bytes: event.content_bytes,
            truncated: event.truncated,
        }
    }

    /// An item without its content.
    #[must_use]
    pub fn without_content(entry: ItemEntry) -> Self {
        Self { entry, content: None, content_bytes: 0, truncated: false }
    }

    /// What it says; [`ItemBody::Other`] where its payload has another shape than its kind's.
    #[must_use]
    pub fn body(&self) -> ItemBody {
        match &self.content {
            Some(content) => ItemBody::of(&self.entry.item_kind, content),
            None => ItemBody::Other(RawJson::null()),
        }
    }
}

/// What an item says, by its kind.
///
/// A view of the payload, which stays the authority: fields of a newer version are not in it, and text that no
/// Rust string can hold has U+FFFD in its place. A call's `detail` is beside the call where it has its kind's
/// shape, and left in the call where it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the words of the table in ARCHITECTURE.md")]
pub enum ItemBody {
    UserMessage(UserMessage),
    AgentMessage(AgentMessage),
    Reasoning(ReasoningText),
    Plan(Plan),
    CommandExecution(ToolCall, CommandExecution),
    FileChange(ToolCall, FileChange),
    McpToolCall(ToolCall, McpToolCall),
    ToolCall(ToolCall, DynamicToolCall),
    WebSearch(ToolCall, WebSearch),
    ImageView(ToolCall, ImageView),
    ImageGeneration(ToolCall, ImageGeneration),
    CollabAgentCall(ToolCall, CollabAgentCall),
    SubAgentActivity(SubAgentActivity),
    ContextCompaction(CompactionNote),
    ReviewEntered(ReviewEntered),
    ReviewExited(ReviewExited),
    HookPrompt(HookPrompt),
    /// A call of an extension's tool; its `detail` is the extension's own.
    Extension(ToolCall),
    /// Of a newer version, an extension's that is no call, and whatever has another shape than its kind's.
    Other(RawJson),
}

impl ItemBody {
    /// Reads the payload of a record of an item. In the place of a large part is how it begins: see [`RawJson::shown`].
    #[must_use]
    pub fn of(kind: &ItemKind, content: &RawJson) -> Self {
        Self::read(kind, &content.shown()).unwrap_or_else(|| Self::Other(content.clone()))
    }

    fn read(kind: &ItemKind, content: &RawJson) -> Option<Self> {
        if !content.is_object() {
            // serde reads a record from an array, too.
            return None;
        }
        let call = || content.decode_lossy::<ToolCall>().ok();
        Some(match kind {
            ItemKind::UserMessage => Self::UserMessage(content.decode_lossy().ok()?),
            ItemKind::AgentMessage => Self::AgentMessage(content.decode_lossy().ok()?),
            ItemKind::Reasoning => Self::Reasoning(content.decode_lossy().ok()?),
            ItemKind::Plan => Self::Plan(content.decode_lossy().ok()?),
            ItemKind::CommandExecution => with_detail(call()?, Self::CommandExecution),
            ItemKind::FileChange => with_detail(call()?, Self::FileChange),
            ItemKind::McpToolCall => with_detail(call()?, Self::McpToolCall),
            ItemKind::ToolCall => with_detail(call()?, Self::ToolCall),
            ItemKind::WebSearch => with_detail(call()?, Self::WebSearch),
            ItemKind::ImageView => with_detail(call()?, Self::ImageView),
            ItemKind::ImageGeneration => with_detail(call()?, Self::ImageGeneration),
            ItemKind::CollabAgentCall => with_detail(call()?, Self::CollabAgentCall),
            ItemKind::SubAgentActivity => Self::SubAgentActivity(content.decode_lossy().ok()?),
            ItemKind::ContextCompaction => Self::ContextCompaction(content.decode_lossy().ok()?),
            ItemKind::ReviewEntered => Self::ReviewEntered(content.decode_lossy().ok()?),
            ItemKind::ReviewExited => Self::ReviewExited(content.decode_lossy().ok()?),
            ItemKind::HookPrompt => Self::HookPrompt(content.decode_lossy().ok()?),
            ItemKind::Extension { .. } => Self::Extension(call()?),
            ItemKind::Unknown(_) => return None,
        })
    }

    /// The call that it is, if it is one.
    #[must_use]
    pub fn call(&self) -> Option<&ToolCall> {
        match self {
            Self::CommandExecution(call, _)
            | Self::FileChange(call, _)
            | Self::McpToolCall(call, _)
            | Self::ToolCall(call, _)
            | Self::WebSearch(call, _)
            | Self::ImageView(call, _)
            | Self::ImageGeneration(call, _)
            | Self::CollabAgentCall(call, _)
            | Self::Extension(call) => Some(call),
            Self::UserMessage(_)
            | Self::AgentMessage(_)
            | Self::Reasoning(_)
            | Self::Plan(_)
            | Self::SubAgentActivity(_)
            | Self::ContextCompaction(_)
            | Self::ReviewEntered(_)
            | Self::ReviewExited(_)
            | Self::HookPrompt(_)
            | Self::Other(_) => None,
        }
    }

    /// The payload that says this, for whoever writes items.
    #[must_use]
    pub fn payload(&self) -> RawJson {
        // Text and JSON always have a JSON form.
        fn encoded<T: Serialize>(payload: &T) -> RawJson {
            RawJson::encode("content", payload).unwrap_or_default()
        }
        fn call<D: Serialize + Default + PartialEq>(call: &ToolCall, detail: &D) -> RawJson {
            if *detail == D::default() {
                return encoded(call);
            }
            encoded(&ToolCall { detail: Some(encoded(detail)), ..call.clone() })
        }
        match self {
            Self::UserMessage(message) => encoded(message),
            Self::AgentMessage(message) => encoded(message),
            Self::Reasoning(reasoning) => encoded(reasoning),
            Self::Plan(plan) => encoded(plan),
            Self::CommandExecution(of, detail) => call(of, detail),
            Self::FileChange(of, detail) => call(of, detail),
            Self::McpToolCall(of, detail) => call(of, detail),
            Self::ToolCall(of, detail) => call(of, detail),
            Self::WebSearch(of, detail) => call(of, detail),
            Self::ImageView(of, detail) => call(of, detail),
            Self::ImageGeneration(of, detail) => call(of, detail),
            Self::CollabAgentCall(of, detail) => call(of, detail),
            Self::SubAgentActivity(activity) => encoded(activity),
            Self::ContextCompaction(note) => encoded(note),
            Self::ReviewEntered(review) => encoded(review),
            Self::ReviewExited(review) => encoded(review),
            Self::HookPrompt(prompt) => encoded(prompt),
            Self::Extension(call) => encoded(call),
            Self::Other(payload) => payload.clone(),
        }
    }
}

/// A detail that is missing, or has another shape, is an empty one: the call is still a call.
fn with_detail<T, D>(mut call: ToolCall, body: fn(ToolCall, D) -> T) -> T
where
    D: serde::de::DeserializeOwned + Default + PartialEq,
{
    let given = call.detail.as_ref().filter(|detail| detail.is_object());
    let detail: D = given.and_then(|detail| detail.decode_lossy().ok()).unwrap_or_default();
    if detail != D::default() {
        call.detail = None;
    }
    body(call, detail)
}

/// A record's fields that may be missing: absent in JSON where they are.
macro_rules! optional_fields {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name {
            $($(#[$doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)+
        }
    };
}

optional_fields! {
    /// The detail of a `command_execution`. What it printed is the call's `content`, how long it ran its `duration_ms`.
    pub struct CommandExecution {
        /// The program and its arguments.
        pub command: Vec<String>,
        /// Where it ran: a path, or a `file:` URI.
        pub cwd: String,
        /// What the runtime took the command for, as it gives it.
        pub parsed: RawJson,
        /// Who asked for it: `agent`, `user_shell`, `unified_exec_startup`, `unified_exec_interaction`, or another word.
        pub source: String,
        /// The process.
        pub process_id: String,
        /// What was written to a process that went on.
        pub interaction_input: String,
        /// Its exit code; -1 where it was killed.
        pub exit_code: i64,
        /// What it printed to its output, where that is kept apart.
        pub stdout: String,
        /// What it printed to its error output, where that is kept apart.
        pub stderr: String,
        /// What the model was shown of it, where that is kept apart.
        pub formatted_output: String,
        /// The plugin it is of.
        pub plugin_id: String,
        /// The script it is of.
        pub script_path: String,
    }
}

optional_fields! {
    /// The detail of a `file_change`.
    pub struct FileChange {
        /// What was done to each file, by path.
        pub changes: BTreeMap<String, FileEdit>,
        /// Whether nobody was asked.
        pub auto_approved: bool,
        /// What applying it printed.
        pub stdout: String,
        /// What applying it printed to its error output.
        pub stderr: String,
    }
}

/// What was done to a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEdit {
    /// `add`, `delete`, `update`, or another word.
    #[serde(rename = "type")]
    pub edit: String,
    /// The whole file, where it was added or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What changed, where it was updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified_diff: Option<String>,
    /// Where it was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_path: Option<String>,
}

optional_fields! {
    /// The detail of an `mcp_tool_call`. Its result's content is the call's `content`.
    pub struct McpToolCall {
        /// The server.
        pub server: String,
        /// The result's structured content.
        pub structured_content: RawJson,
        /// Whether the result says of itself that it is an error.
        pub is_error: bool,
        /// Whether the tool says that it only reads.
        pub read_only: bool,
        /// The connector.
        pub connector_id: String,
        /// The app's resource.
        pub app_resource_uri: String,
        /// The app.
        pub app_name: String,
        /// The app's action.
        pub action_name: String,
        /// The link.
        pub link_id: String,
        /// The plugin.
        pub plugin_id: String,
        /// What else the result has, as given.
        pub result_extra: RawJson,
    }
}

optional_fields! {
    /// The detail of a `tool_call`: a tool that the application defines. What it returned is the call's `content`.
    pub struct DynamicToolCall {
        /// The tool's namespace.
        pub namespace: String,
        /// Whether it says that it went well.
        pub success: bool,
    }
}

optional_fields! {
    /// The detail of a `web_search`. What was found is the call's `content`.
    pub struct WebSearch {
        /// What was searched for.
        pub query: String,
        /// What was done, as the provider gives it.
        pub action: RawJson,
    }
}

optional_fields! {
    /// The detail of an `image_view`.
    pub struct ImageView {
        /// The image: a path, or a `file:` URI.
        pub path: String,
    }
}

optional_fields! {
    /// The detail of an `image_generation`. The image is the call's `content`.
    pub struct ImageGeneration {
        /// The provider's word for where it stands.
        pub provider_status: String,
        /// The prompt as the provider revised it.
        pub revised_prompt: String,
        /// Where the image was saved.
        pub saved_path: String,
    }
}

optional_fields! {
    /// The detail of a `collab_agent_call`: an agent talks to others. Which tool it used is the call's `name`.
    pub struct CollabAgentCall {
        /// The thread that calls.
        pub sender_thread_id: String,
        /// The threads that are called.
        pub receiver_thread_ids: Vec<String>,
        /// Who is called, as the runtime gives it.
        pub receiver_agents: RawJson,
        /// What is said to them.
        pub prompt: String,
        /// Their model.
        pub model: String,
        /// How much they reason.
        pub reasoning_effort: String,
        /// Where each agent stands, by thread, as the runtime gives it.
        pub agents_states: RawJson,
    }
}

/// A plan that the agent proposes: the content of a `plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// The plan.
    pub text: String,
}

/// The content of a `review_entered`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReviewEntered {
    /// What is reviewed, as the runtime gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RawJson>,
    /// What is reviewed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The content of a `review_exited`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReviewExited {
    /// What the review found, as the runtime gives it; none where it was left without a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<RawJson>,
}

/// What the runtime put before the model: the content of a `hook_prompt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HookPrompt {
    /// Text, or an array of content parts as chat APIs have them.
    pub content: RawJson,
    /// The parts and the hooks that they are of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fragments: Vec<HookFragment>,
}

/// A part of a [`HookPrompt`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HookFragment {
    /// What it says.
    pub text: String,
    /// The run of the hook that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_run_id: Option<String>,
}
