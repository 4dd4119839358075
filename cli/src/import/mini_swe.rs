//! Trajectories of mini-SWE-agent, `*.traj.json`.
//!
//! One file is one thread with one run. A person's task comes first; then each answer of the model
//! has one command in its one bash block, and the user message after it is the command's output.
//! An answer with another number of blocks is no command: the message after it tells the model so.

use std::path::Path;

use runledger_core::{
    AgentMessage, CallId, Category, Error, EventDraft, ItemError, ItemId, ItemKind, ItemMark, ItemStatus,
    NewThread, Origin, Outcome, RawJson, RunId, RunProgress, SourceId, TerminalStatus, ThreadId, Timestamp,
    TokenCounts, ToolCall, ToolRequest, UsageDraft, UserMessage, event_type, text,
};
use runledger_journal::ItemIds;
use serde::Deserialize;
use serde_json::json;

use super::fields::Fields;
use super::plan::{Group, RunPlan, ThreadPlan, admission, event, interrupted, record};
use super::source::{Fault, bad_json, read};
use crate::{Failure, money};

/// The tool that runs commands.
const TOOL: &str = "bash";

#[derive(Deserialize)]
struct Trajectory {
    instance_id: String,
    info: Fields,
    messages: Vec<RawMessage>,
}

#[derive(Deserialize)]
struct RawMessage {
    role: String,
    content: String,
    #[serde(default)]
    extra: Option<Fields>,
}

/// Reads a file into a plan; `instance_id` is the thread's id.
pub(crate) fn parse(file: &Path) -> Result<ThreadPlan, Failure> {
    let text = read(file)?;
    let trajectory: Trajectory = serde_json::from_str(&text).map_err(|error| bad_json(file, &error))?;
    let source = super::fields::compact(&RawJson::from_stored(&text));
    plan(file, &trajectory, source.as_str()).map_err(|fault| fault.in_text(file, &text))
}

fn plan(file: &Path, trajectory: &Trajectory, source: &str) -> Result<ThreadPlan, Fault> {
    let thread_id = ThreadId::new(&trajectory.instance_id)
        .map_err(|error| Fault::new("instance_id", format!("is no thread id: {error}")))?;
    let messages = trajectory
        .messages
        .iter()
        .enumerate()
        .map(|(index, raw)| Message::parse(index, raw))
        .collect::<Result<Vec<_>, _>>()?;
    let started = messages.iter().find_map(|message| message.at).ok_or_else(|| {
        let reason = "has no assistant message with extra.response.created, so nothing says when the run was";
        Fault::new("messages", reason)
    })?;
    let system_prompt = messages
        .iter()
        .find(|message| message.role == Role::System)
        .map(|message| message.content.to_owned());
    let mut run = Trace::new(&messages, started);
    run.messages()?;
    let thread = NewThread {
        system_prompt,
        model: run.progress.model_name.clone(),
        display_name: Some(trajectory.instance_id.clone()),
        created_at: started,
        ..NewThread::new(thread_id.clone())
    };
    let plan = run.finish(&thread_id, &trajectory.info, source)?;
    Ok(ThreadPlan { file: file.to_owned(), thread, runs: vec![plan] })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
}

struct Message<'a> {
    index: usize,
    role: Role,
    content: &'a str,
    response: Option<Fields>,
    tokens: TokenCounts,
    cost_nanos: Option<u64>,
    at: Option<Timestamp>,
}

impl<'a> Message<'a> {
    fn parse(index: usize, raw: &'a RawMessage) -> Result<Self, Fault> {
        let path = format!("messages[{index}]");
        let fault = |field: &str, reason: &str| Fault::new(format!("{path}.{field}"), reason);
        let role = match raw.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let reason = format!("is {other:?}; known are system, user, assistant");
                return Err(fault("role", &reason));
            }
        };
        let extra = raw.extra.as_ref();
        let response = extra.and_then(|extra| extra.get("response")).and_then(Fields::parse);
        let at = match response.as_ref().and_then(|response| response.get("created")) {
            Some(created) => {
                Some(moment(created).ok_or_else(|| fault("extra.response.created", "is no time"))?)
            }
            None => None,
        };
        let used = response.as_ref().map(|response| response.object("usage")).unwrap_or_default();
        let tokens = tokens(&used, &format!("{path}.extra.response.usage"))?;
        let in_usage = used.get("cost").map(|cost| ("extra.response.usage.cost", cost));
        let cost = in_usage.or_else(|| Some(("extra.cost", extra?.get("cost")?)));
        let cost_nanos = match cost {
            Some((field, cost)) => {
                Some(money::nanos(cost.as_str()).ok_or_else(|| fault(field, "is no amount of dollars"))?)
            }
            None => None,
        };
        Ok(Self { index, role, content: &raw.content, response, tokens, cost_nanos, at })
    }
}

/// The tokens of a response, as OpenAI's API names them.
fn tokens(used: &Fields, path: &str) -> Result<TokenCounts, Fault> {
    let detail = |of: &str, name: &str| used.object(of).count(&format!("{path}.{of}"), name);
    let input = used.count(path, "prompt_tokens")?.unwrap_or(0);
    let output = used.count(path, "completion_tokens")?.unwrap_or(0);
    let counted = TokenCounts::of(input, output);
    Ok(TokenCounts {
        total: used.count(path, "total_tokens")?.unwrap_or(counted.total),
        cache_read: detail("prompt_tokens_details", "cached_tokens")?.unwrap_or(0),
        reasoning: detail("completion_tokens_details", "reasoning_tokens")?.unwrap_or(0),
        ..counted
    })
}

/// Unix seconds, whole or with a fraction.
fn moment(created: &RawJson) -> Option<Timestamp> {
    let seconds: f64 = created.decode().ok()?;
    let limit = 4_000_000_000_000.0;
    if !seconds.is_finite() || seconds.abs() > limit {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the limit above is far inside of 64 bits")]
    let micros = (seconds * 1e6).round() as i64;
    Timestamp::from_unix_micros(micros).ok()
}

/// The command in the one bash block; `None` where there is none, or more than one.
fn command(content: &str) -> Option<&str> {
    let (inside, rest) = block(content)?;
    block(rest).is_none().then_some(inside.trim())
}

/// The first block that the agent's own pattern finds, and what comes after it. The pattern is
/// "```bash\s*\n(.*?)\n```", where a dot is a line's end too.
fn block(content: &str) -> Option<(&str, &str)> {
    // What Python takes for white space and Rust does not: the four information separators.
    let space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    content.match_indices("```bash").find_map(|(at, opening)| {
        let after = content.get(at + opening.len()..)?;
        let blank = after.get(..after.find(|c| !space(c)).unwrap_or(after.len()))?;
        // As much white space as possible, but the block must still end somewhere.
        blank.rmatch_indices('\n').find_map(|(end, _)| after.get(end + 1..)?.split_once("\n```"))
    })
}

/// The exit code that the output of a command begins with.
fn return_code(output: &str) -> Option<i64> {
    output.strip_prefix("<returncode>")?.split_once("</returncode>")?.0.trim().parse().ok()
}

/// The run as it is built.
struct Trace<'a> {
    source: &'a [Message<'a>],
    started: Timestamp,
    at: Timestamp,
    ids: ItemIds,
    input: Vec<EventDraft>,
    groups: Vec<Group>,
    progress: RunProgress,
    open: Option<(ItemMark, ToolCall)>,
    begun: bool,
}

impl<'a> Trace<'a> {
    fn new(source: &'a [Message<'a>], started: Timestamp) -> Self {
        Self {
            source,
            started,
            at: started,
            ids: ItemIds::default(),
            input: Vec::new(),
            groups: Vec::new(),
            progress: RunProgress::default(),
            open: None,
            begun: false,
        }
    }

    fn messages(&mut self) -> Result<(), Error> {
        let source = self.source;
        for message in source {
            self.at = message.at.unwrap_or(self.at);
            match message.role {
                // The prompt is the thread's; a later one is context.
                Role::System if message.index == 0 => {}
                Role::System => {
                    let content = RawJson::string(message.content);
                    let context = event("context:system", Category::Context, content, self.at);
                    self.groups.push(Group::of(vec![context]));
                }
                Role::User => self.user(message)?,
                Role::Assistant => self.assistant(message)?,
            }
        }
        Ok(())
    }

    fn user(&mut self, message: &Message<'_>) -> Result<(), Error> {
        if let Some((mark, call)) = self.open.take() {
            let event = self.output(mark, call, message.content)?;
            self.groups.push(Group::of(vec![event]));
            return Ok(());
        }
        // After the first answer nobody speaks but the harness.
        let kind = if self.begun { ItemKind::HookPrompt } else { ItemKind::UserMessage };
        let id = self.ids.take(None, &format!("message-{}", message.index));
        let payload = UserMessage { content: RawJson::string(message.content), ..UserMessage::default() };
        let mark = ItemMark::new(id, kind, ItemStatus::Completed);
        let event = record(mark, Category::Message, &payload, Some(&Origin::Admission), self.at)?;
        if self.begun {
            self.groups.push(Group::of(vec![EventDraft { metadata: None, ..event }]));
        } else {
            if self.progress.first_human_message.is_none() {
                self.progress.first_human_message = text::summary(message.content);
            }
            self.input.push(event);
        }
        Ok(())
    }

    fn output(&self, mark: ItemMark, call: ToolCall, output: &str) -> Result<EventDraft, Error> {
        let code = return_code(output);
        let error = match code {
            Some(0) => None,
            Some(code) => Some(("ExitCode", format!("the command exited with {code}"))),
            None if output.starts_with("The last command") && output.contains("timed out") => {
                Some(("TimeoutExpired", "the command timed out".to_owned()))
            }
            None => None,
        };
        let status = if error.is_some() { ItemStatus::Failed } else { ItemStatus::Completed };
        let payload = ToolCall {
            content: Some(RawJson::string(output)),
            error: error.map(|(kind, message)| ItemError { error_type: kind.to_owned(), message }),
            extra: code.map(|code| RawJson::from(json!({ "returncode": code }))),
            ..call
        };
        record(ItemMark { status, ..mark }, Category::Message, &payload, Some(&Origin::ToolEnd), self.at)
    }

    fn assistant(&mut self, message: &Message<'_>) -> Result<(), Error> {
        self.begun = true;
        let mut events: Vec<EventDraft> = self.close()?.into_iter().collect();
        let empty = Fields::default();
        let response = message.response.as_ref().unwrap_or(&empty);
        let fallback = format!("message-{}", message.index);
        let response_id = response.string("id");
        let id = self.ids.take(response_id.as_deref(), &fallback);
        let model = response.string("model").map(|model| text::clean(&model).into_owned());
        let choice = response.elements("choices").first().and_then(Fields::parse).unwrap_or_default();
        let said = choice.object("message");
        events.extend(self.reasoning(&said, &id)?);
        let request = command(message.content).map(|command| ToolRequest {
            id: None,
            name: TOOL.to_owned(),
            args: RawJson::from(json!({ "command": command })),
        });
        let payload = AgentMessage {
            content: RawJson::string(message.content),
            tool_calls: request.clone().into_iter().collect(),
            model: model.clone(),
            usage: response.get("usage").cloned(),
            extra: message.response.as_ref().map(|response| extra(response, &choice, &said)),
            ..AgentMessage::default()
        };
        let mark = ItemMark::new(id.clone(), ItemKind::AgentMessage, ItemStatus::Completed);
        events.push(record(mark, Category::Message, &payload, Some(&Origin::LlmEnd), self.at)?);
        if let Some(request) = request {
            events.push(self.begin(request, &id, &fallback)?);
        }
        if self.progress.model_name.is_none() {
            self.progress.model_name.clone_from(&model);
        }
        if let Some(summary) = text::summary(message.content) {
            self.progress.last_ai_message = Some(summary);
        }
        let usage = message.response.as_ref().map(|response| self.usage(message, response, &id, model));
        self.groups.push(Group { events, usage: usage.into_iter().collect() });
        Ok(())
    }

    fn reasoning(&mut self, said: &Fields, message: &ItemId) -> Result<Option<EventDraft>, Error> {
        let Some(reasoning) = said.string("reasoning").and(said.get("reasoning")).cloned() else {
            return Ok(None);
        };
        let id = self.ids.take(None, &format!("{message}/reasoning"));
        let mark = ItemMark {
            parent_item_id: Some(message.clone()),
            ..ItemMark::new(id, ItemKind::Reasoning, ItemStatus::Completed)
        };
        let payload = Fields::default().with("text", reasoning).to_json();
        record(mark, Category::Reasoning, &payload, Some(&Origin::LlmEnd), self.at).map(Some)
    }

    fn begin(&mut self, request: ToolRequest, parent: &ItemId, fallback: &str) -> Result<EventDraft, Error> {
        let id = self.ids.take(None, &format!("{fallback}-command"));
        let mark = ItemMark {
            call_id: CallId::new(id.as_str()).ok(),
            parent_item_id: Some(parent.clone()),
            ..ItemMark::new(id, ItemKind::CommandExecution, ItemStatus::InProgress)
        };
        let payload = ToolCall::asked(request.name, request.args);
        let event = record(mark.clone(), Category::Lifecycle, &payload, None, self.at)?;
        self.open = Some((mark, payload));
        Ok(event)
    }

    fn usage(
        &self,
        message: &Message<'_>,
        response: &Fields,
        id: &ItemId,
        model: Option<String>,
    ) -> UsageDraft {
        UsageDraft {
            provider: response.string("provider").map(|provider| text::clean(&provider).into_owned()),
            model,
            cost_nanos: message.cost_nanos,
            raw: response.get("usage").cloned(),
            created_at: self.at,
            // The item's id is the response's where that is unique in the file.
            ..UsageDraft::new(SourceId::of_item(id), message.tokens)
        }
    }

    /// A command whose output never came.
    fn close(&mut self) -> Result<Option<EventDraft>, Error> {
        let Some((mark, call)) = self.open.take() else { return Ok(None) };
        let content = RawJson::encode("content", &call)?;
        Ok(Some(interrupted(mark.item_id.clone(), &mark, content, self.at)))
    }

    fn finish(mut self, thread: &ThreadId, info: &Fields, source: &str) -> Result<RunPlan, Error> {
        if let Some(event) = self.close()? {
            self.groups.push(Group::of(vec![event]));
        }
        if let Some(submission) = info.get("submission").filter(|text| text.as_str() != "\"\"") {
            let content = Fields::default().with("submission", submission.clone()).to_json();
            let delivery = event(event_type::RUN_DELIVERY, Category::Outputs, content, self.at);
            self.groups.push(Group::of(vec![delivery]));
        }
        let mut admission = admission("mini-swe-agent", source, self.started);
        admission.first_human_message = self.progress.first_human_message.take();
        admission.model_name.clone_from(&self.progress.model_name);
        admission.metadata = info.clone().without(&["submission", "config"]).to_json();
        if let Some(config) = info.get("config") {
            admission.kwargs = Fields::default().with("config", config.clone()).to_json();
        }
        Ok(RunPlan {
            run_id: RunId::new(format!("{thread}-run-1"))?,
            admission,
            input: self.input,
            groups: self.groups,
            progress: self.progress,
            outcome: outcome(info.string("exit_status")),
            finished_at: self.at,
        })
    }
}

/// What the response has beyond what is stored elsewhere.
fn extra(response: &Fields, choice: &Fields, said: &Fields) -> RawJson {
    let said = said.clone().without(&["content", "reasoning"]).to_json();
    let choice = choice.clone().with("message", said).to_json();
    let response =
        response.clone().without(&["usage"]).with("choices", RawJson::from_stored(&format!("[{choice}]")));
    Fields::default().with("response", response.to_json()).to_json()
}

/// What the agent says of its end: it submitted, a limit stopped it, or an exception did.
fn outcome(exit_status: Option<String>) -> Outcome {
    match exit_status.as_deref() {
        Some("Submitted") => Outcome { stop_reason: Some("submitted".to_owned()), ..Outcome::success() },
        Some("LimitsExceeded") => Outcome {
            status: TerminalStatus::BudgetExhausted,
            error: None,
            stop_reason: Some("limits_exceeded".to_owned()),
        },
        Some(other) => Outcome::error(other),
        None => Outcome::interrupted("no_exit_status"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn one_bash_block_is_a_command() {
        let cases = [
            ("THOUGHT\n\n```bash\nls -l\ncat x\n```\nrest", Some("ls -l\ncat x")),
            ("```bash\na\n```\n```bash\nb\n```", None),
            ("no block", None),
            ("```bash\nnever closed", None),
            ("```python\nx\n```", None),
            (
                "```bash\ncat > a.md <<'E'\n  ```bash\n  ls\n  ```\nE\n```",
                Some("cat > a.md <<'E'\n  ```bash\n  ls\n  ```\nE"),
            ),
            ("```bash\nls\n```bash\npwd\n```", Some("ls")),
            ("```bash ls\n```\n```bash \t\r\n\n  pwd\n```", Some("pwd")),
            ("```bash\n\n```", Some("")),
            ("```bash\n\n```\nls\n```", Some("```\nls")),
            ("```bash\u{1c}\u{a0}\nls\n```", Some("ls")),
        ];
        for (content, expected) in cases {
            assert_eq!(command(content), expected, "{content}");
        }
    }

    #[test]
    fn exit_codes_and_ends_are_read() {
        assert_eq!(return_code("<returncode>127</returncode>\n<output>"), Some(127));
        assert_eq!(return_code("diff --git"), None);
        let ends = ["Submitted", "LimitsExceeded", "RetryError"].map(|s| outcome(Some(s.to_owned())).status);
        assert_eq!(ends, [TerminalStatus::Success, TerminalStatus::BudgetExhausted, TerminalStatus::Error]);
    }
}
