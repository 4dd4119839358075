//! One line of a recording: read, checked, and played as the callback it is.

use runledger_core::{Caller, RawJson, RawObject, RunId, ThreadId, Timestamp, TokenCounts, text};
use serde::Deserialize;

use crate::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, Context, CustomEvent, ExternalUsage, Failed, Failure, LlmEnd,
    LlmNewToken, LlmStart, MiddlewareRecord, RuntimeCallbacks, ToolEnd, ToolError, ToolStart,
};
use crate::mapping::count_of;

/// A checked line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) at_micros: i64,
    pub(super) at: Timestamp,
    pub(super) run_id: Option<String>,
    pub(super) parent_run_id: Option<String>,
    tags: Vec<String>,
    metadata: Option<RawJson>,
    /// The journal that a direct call names.
    pub(super) journal: Option<String>,
    /// The run that the callback's metadata names.
    pub(super) named_run: Option<String>,
    /// Of its text.
    pub(super) fingerprint: String,
    pub(super) step: Step,
}

/// What a line says.
#[derive(Debug)]
pub(super) enum Step {
    Open {
        journal: String,
        run_id: RunId,
        thread_id: ThreadId,
        track_usage: bool,
    },
    ChainStart {
        name: Option<String>,
    },
    ChainEnd {
        outputs: Option<RawJson>,
    },
    ChainError(Cause),
    ChatModelStart {
        messages: RawJson,
    },
    LlmStart {
        prompts: RawJson,
    },
    NewToken {
        token: RawJson,
        chunk: Option<RawJson>,
    },
    LlmEnd {
        response: RawJson,
    },
    LlmError(Cause),
    ToolStart {
        name: String,
        inputs: Option<RawJson>,
        call_id: Option<String>,
    },
    ToolEnd {
        name: Option<String>,
        output: RawJson,
    },
    ToolError {
        cause: Cause,
        call_id: Option<String>,
    },
    Custom {
        name: String,
        data: RawJson,
    },
    Middleware {
        tag: String,
        name: String,
        hook: String,
        action: String,
        changes: RawJson,
    },
    Memory {
        content: RawJson,
    },
    External {
        records: Vec<Told>,
    },
    FirstHuman {
        content: String,
    },
    Delivery,
    /// Nothing that a journal records.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Cause {
    error_type: String,
    message: String,
}

/// A model call that was counted elsewhere.
#[derive(Debug)]
pub(super) struct Told {
    source_id: String,
    caller: Caller,
    model: Option<String>,
    tokens: TokenCounts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    n: u64,
    at: f64,
    callback: String,
    run_id: Option<String>,
    parent_run_id: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<RawJson>,
    args: RawJson,
}

/// Reads and checks a line; the error says which field is wrong and how.
pub(super) fn parse(number: u64, bytes: &[u8]) -> Result<Line, String> {
    let line = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8: {error}"))?;
    let envelope: Envelope =
        serde_json::from_str(line).map_err(|error| format!("is no callback: {error}"))?;
    if envelope.n != number {
        return Err(format!("n: is {}, expected {number}; lines are missing or out of order", envelope.n));
    }
    let args = RawObject::parse(&envelope.args).ok_or("args: is not a JSON object")?;
    let step = read_step(&envelope.callback, &args)?;
    let direct = envelope.callback.starts_with("direct.");
    if !direct && envelope.run_id.is_none() {
        return Err("run_id: is missing; only direct calls have none".to_owned());
    }
    let journal = if direct { Some(text_arg(&args, "journal")?) } else { None };
    let metadata = envelope.metadata;
    let named_run = metadata.as_ref().and_then(RawObject::parse).and_then(|m| m.string("deerflow_run_id"));
    Ok(Line {
        number,
        at_micros: micros(envelope.at)?,
        at: Timestamp::now(),
        run_id: envelope.run_id,
        parent_run_id: envelope.parent_run_id,
        tags: envelope.tags.unwrap_or_default(),
        metadata,
        journal,
        named_run,
        fingerprint: text::fingerprint(line.trim_end()),
        step,
    })
}

fn micros(seconds: f64) -> Result<i64, String> {
    if !(0.0..=1e9).contains(&seconds) {
        return Err(format!("at: {seconds} is not a number of seconds since the recording began"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Ok((seconds * 1e6).round() as i64)
}

fn read_step(callback: &str, args: &RawObject) -> Result<Step, String> {
    let raw = |name: &str| args.get(name).cloned().ok_or_else(|| format!("args.{name}: is missing"));
    let given = |name: &str| args.get(name).filter(|value| value.as_str() != "null").cloned();
    Ok(match callback {
        "on_chain_start" => Step::ChainStart { name: args.string("name") },
        "on_chain_end" => Step::ChainEnd { outputs: given("outputs") },
        "on_chain_error" => Step::ChainError(cause(args)?),
        "on_chat_model_start" => Step::ChatModelStart { messages: raw("messages")? },
        "on_llm_start" => Step::LlmStart { prompts: raw("prompts")? },
        "on_llm_new_token" => Step::NewToken { token: raw("token")?, chunk: given("chunk") },
        "on_llm_end" => Step::LlmEnd { response: raw("response")? },
        "on_llm_error" => Step::LlmError(cause(args)?),
        "on_tool_start" => Step::ToolStart {
            name: args
                .object("serialized")
                .and_then(|serialized| serialized.string("name"))
                .or_else(|| args.string("name"))
                .ok_or("args.serialized.name: is missing")?,
            inputs: given("inputs"),
            call_id: args.string("tool_call_id"),
        },
        "on_tool_end" => Step::ToolEnd { name: args.string("name"), output: raw("output")? },
        "on_tool_error" => Step::ToolError { cause: cause(args)?, call_id: args.string("tool_call_id") },
        "on_custom_event" => Step::Custom { name: text_arg(args, "name")?, data: raw("data")? },
        "on_retriever_start" | "on_retriever_end" | "on_retriever_error" | "on_retry" | "on_text"
        | "on_agent_action" | "on_agent_finish" | "direct.flush" => Step::Nothing,
        _ => read_direct(callback, args)?,
    })
}

fn read_direct(callback: &str, args: &RawObject) -> Result<Step, String> {
    Ok(match callback {
        "direct.__init__" => Step::Open {
            journal: text_arg(args, "journal")?,
            run_id: RunId::new(text_arg(args, "run_id")?).map_err(|error| format!("args.run_id: {error}"))?,
            thread_id: ThreadId::new(text_arg(args, "thread_id")?)
                .map_err(|error| format!("args.thread_id: {error}"))?,
            track_usage: args.get("track_token_usage").is_none_or(|value| value.as_str() != "false"),
        },
        "direct.record_middleware" => Step::Middleware {
            tag: text_arg(args, "tag")?,
            name: args.string("name").unwrap_or_default(),
            hook: args.string("hook").unwrap_or_default(),
            action: args.string("action").unwrap_or_default(),
            changes: args.get("changes").cloned().unwrap_or_default(),
        },
        "direct.record_memory_context" => {
            Step::Memory { content: args.clone().without(&["journal"]).to_json() }
        }
        "direct.record_external_llm_usage_records" => Step::External {
            records: args
                .get("records")
                .ok_or("args.records: is missing")?
                .elements()
                .iter()
                .filter_map(RawObject::parse)
                .map(|record| told(&record))
                .collect(),
        },
        "direct.set_first_human_message" => Step::FirstHuman { content: text_arg(args, "content")? },
        "direct.record_delivery" => Step::Delivery,
        other => return Err(format!("callback: {other:?} is not one that a handler receives")),
    })
}

fn text_arg(args: &RawObject, name: &str) -> Result<String, String> {
    args.string(name).ok_or_else(|| format!("args.{name}: is missing, or not a text"))
}

fn cause(args: &RawObject) -> Result<Cause, String> {
    let error = args.object("error").ok_or("args.error: is missing, or not an object")?;
    Ok(Cause {
        error_type: error.string("type").ok_or("args.error.type: is missing")?,
        message: error.string("message").unwrap_or_default(),
    })
}

fn told(record: &RawObject) -> Told {
    let count = |name: &str| record.get(name).map_or(0, count_of);
    let source = record.get("source_run_id");
    Told {
        // A missing id has always been written as the text of Python's None.
        source_id: match source.map(RawJson::as_str) {
            Some("null") => "None".to_owned(),
            _ => record.string("source_run_id").unwrap_or_default(),
        },
        caller: record
            .string("caller")
            .and_then(|caller| Caller::new(caller).ok())
            .unwrap_or_else(Caller::lead_agent),
        model: record.string("model_name"),
        tokens: TokenCounts {
            total: count("total_tokens"),
            cache_read: count("cache_read_tokens"),
            ..TokenCounts {
                input: count("input_tokens"),
                output: count("output_tokens"),
                ..TokenCounts::default()
            }
        },
    }
}

impl Cause {
    fn failure(&self) -> Failure<'_> {
        Failure { error_type: &self.error_type, message: &self.message }
    }
}

impl Line {
    /// Calls what the line recorded.
    pub(super) fn play(&self, callbacks: &dyn RuntimeCallbacks) {
        let at = self.at;
        let context = Context {
            run_id: self.run_id.as_deref().unwrap_or_default(),
            parent_run_id: self.parent_run_id.as_deref(),
            tags: &self.tags,
            metadata: self.metadata.as_ref(),
            at,
        };
        match &self.step {
            Step::ChainStart { name } => {
                callbacks.on_chain_start(ChainStart { context, name: name.as_deref() })
            }
            Step::ChainEnd { outputs } => {
                callbacks.on_chain_end(ChainEnd { context, outputs: outputs.as_ref() })
            }
            Step::ChainError(cause) => callbacks.on_chain_error(Failed { context, error: cause.failure() }),
            Step::ChatModelStart { messages } => {
                callbacks.on_chat_model_start(ChatModelStart { context, messages });
            }
            Step::LlmStart { prompts } => callbacks.on_llm_start(LlmStart { context, prompts }),
            Step::NewToken { token, chunk } => {
                callbacks.on_llm_new_token(LlmNewToken { context, token, chunk: chunk.as_ref() });
            }
            Step::LlmEnd { response } => callbacks.on_llm_end(LlmEnd { context, response }),
            Step::LlmError(cause) => callbacks.on_llm_error(Failed { context, error: cause.failure() }),
            Step::ToolStart { name, inputs, call_id } => callbacks.on_tool_start(ToolStart {
                context,
                name,
                inputs: inputs.as_ref(),
                tool_call_id: call_id.as_deref(),
            }),
            Step::ToolEnd { name, output } => {
                callbacks.on_tool_end(ToolEnd { context, name: name.as_deref(), output });
            }
            Step::ToolError { cause, call_id } => callbacks.on_tool_error(ToolError {
                context,
                error: cause.failure(),
                tool_call_id: call_id.as_deref(),
            }),
            Step::Custom { name, data } => callbacks.on_custom_event(CustomEvent { context, name, data }),
            Step::Middleware { tag, name, hook, action, changes } => {
                callbacks.record_middleware(MiddlewareRecord { tag, name, hook, action, changes, at });
            }
            Step::Memory { content } => callbacks.record_memory_context(content, at),
            Step::External { records } => records.iter().for_each(|told| told.record(callbacks, at)),
            Step::FirstHuman { content } => callbacks.set_first_human_message(content),
            Step::Delivery => callbacks.record_delivery(at),
            Step::Open { .. } | Step::Nothing => {}
        }
    }
}

impl Told {
    fn record(&self, callbacks: &dyn RuntimeCallbacks, at: Timestamp) {
        callbacks.record_external_usage(ExternalUsage {
            source_id: &self.source_id,
            caller: self.caller.clone(),
            model: self.model.as_deref(),
            tokens: self.tokens,
            price: None,
            child_thread_id: None,
            at,
        });
    }
}
