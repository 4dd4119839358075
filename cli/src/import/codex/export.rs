//! A thread as a paginated rollout.
//!
//! What was imported gives its lines back. What this project's journal wrote becomes the lines that Codex would
//! have written of it, with what Codex has no place for in members of our own; the importer reads them
//! back as they were.

use runledger_core::{
    Category, Event, EventFilter, ItemKind, ItemStatus, Ledger, ONCE_TERMINAL, Outcome, RawJson, Run, RunId,
    RunStatus, Scope, SeqRange, SourceId, Thread, ThreadId, Timestamp, UsageRecord,
};
use serde_json::json;

use super::json::Object;
use super::line::{Source, Written};
use super::shape::{self, Named};
use crate::Failure;
use crate::command::log::Log;

/// So many usage records are read at once.
const PAGE: u32 = 500;

/// Tells the lines of a thread's log before the seq `end`, each without its line feed.
///
/// Records of the thread's log that no rollout has (traces, notes of middleware) are left out where they were
/// not lines. Rolled back turns are told as they were.
pub(crate) async fn export(
    ledger: &Ledger,
    scope: &Scope,
    thread: &ThreadId,
    end: u64,
    mut tell: impl FnMut(String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut export = Export {
        ledger,
        scope,
        thread: ledger.threads().get(scope, thread).await?,
        ordinal: 0,
        begun: None,
        is_begun: false,
        known: None,
    };
    let mut log = Log::new(ledger, scope, thread, EventFilter::default()).until(end);
    while let Some(events) = log.page().await? {
        for event in &events {
            for line in export.lines(event).await? {
                tell(line)?;
            }
        }
    }
    Ok(())
}

struct Export<'a> {
    ledger: &'a Ledger,
    scope: &'a Scope,
    thread: Thread,
    /// The number of the next line of our own.
    ordinal: u64,
    /// The run whose beginning was told last.
    begun: Option<RunId>,
    /// Whether a first line was told.
    is_begun: bool,
    /// Whether the lines of the run that was asked about last were imported.
    known: Option<(RunId, bool)>,
}

impl Export<'_> {
    /// The lines that an event is.
    async fn lines(&mut self, event: &Event) -> Result<Vec<String>, Failure> {
        if let Some(written) = Written::read(event) {
            self.ordinal = written.ordinal.map_or(self.ordinal, |ordinal| self.ordinal.max(ordinal + 1));
            self.is_begun = true;
            self.begun = event.run_id.clone();
            let content = self.ledger.whole(self.scope, &event.thread_id, &event.content).await?;
            return Ok(written.line(Source::of(event, &content)).into_iter().collect());
        }
        let Some(run) = &event.run_id else { return Ok(Vec::new()) };
        let is_terminal = event.once_key.as_deref() == Some(ONCE_TERMINAL);
        let is_item = event.item.as_ref().is_some_and(|item| item.status != ItemStatus::InProgress);
        if !is_terminal && !is_item || self.is_imported(run).await? {
            return Ok(Vec::new());
        }
        let run = self.ledger.runs().get(self.scope, &self.thread.thread_id, run).await?;
        let mut lines = Vec::new();
        if !self.is_begun {
            self.is_begun = true;
            lines.push(self.session(event.created_at));
        }
        if self.begun.as_ref() != Some(&run.run_id) {
            self.begun = Some(run.run_id.clone());
            lines.extend(self.start(&run));
        }
        if is_terminal {
            lines.extend(self.usage(&run).await?);
            lines.push(self.end(&run, event.created_at));
        } else {
            lines.extend(self.item(event, &run));
        }
        Ok(lines)
    }

    /// Whether a run's lines were imported: then what is no line of it was told by none, as the end of a turn that
    /// the importer ended.
    async fn is_imported(&mut self, run: &RunId) -> Result<bool, Failure> {
        if let Some((known, imported)) = &self.known
            && known == run
        {
            return Ok(*imported);
        }
        let filter = EventFilter::of_run(run.clone());
        let range = SeqRange::after(0, 1);
        let page =
            self.ledger.events().list_events(self.scope, &self.thread.thread_id, &filter, &range).await?;
        // A run that ended while it waited begins with its end.
        let is_line = |first: &Event| {
            Written::read(first).is_some() || first.once_key.as_deref() == Some(ONCE_TERMINAL)
        };
        let imported = page.items.first().is_some_and(is_line);
        self.known = Some((run.clone(), imported));
        Ok(imported)
    }

    fn line(&mut self, at: Timestamp, kind: &str, payload: &str) -> String {
        let mut line = Object::default();
        line.put("timestamp", RawJson::string(&moment(at)).as_str());
        line.put("ordinal", &self.ordinal.to_string());
        line.put("type", RawJson::string(kind).as_str());
        line.put("payload", payload);
        self.ordinal += 1;
        line.text()
    }

    fn session(&mut self, at: Timestamp) -> String {
        let id = self.thread.thread_id.as_str();
        let meta = json!({
            "session_id": id,
            "id": id,
            "timestamp": moment(self.thread.created_at),
            "cwd": "",
            "originator": "runledger",
            "cli_version": env!("CARGO_PKG_VERSION"),
            "source": "runledger",
            "model_provider": "",
            "base_instructions": { "text": self.thread.system_prompt.as_deref().unwrap_or_default() },
            "history_mode": "paginated",
        });
        self.line(at, "session_meta", &meta.to_string())
    }

    fn start(&mut self, run: &Run) -> Vec<String> {
        let at = run.created_at;
        let started = json!({
            "type": "task_started",
            "turn_id": run.run_id.as_str(),
            "started_at": seconds(run.started_at.unwrap_or(at)),
            "model_context_window": null,
            "collaboration_mode_kind": "default",
        });
        let mut lines = vec![self.line(at, "event_msg", &started.to_string())];
        if let Some(model) = &run.model_name {
            let context = json!({ "turn_id": run.run_id.as_str(), "model": model });
            lines.push(self.line(at, "turn_context", &context.to_string()));
        }
        lines
    }

    fn item(&mut self, event: &Event, run: &Run) -> Option<String> {
        // A record of an item that is none of its messages is a late one: the item was told.
        let mark = event.item.as_ref()?;
        if event.category == Category::Lifecycle && mark.call_id.is_some() && mark.kind.is_call() {
            return None;
        }
        let named = Named {
            id: mark.item_id.as_str(),
            turn: run.run_id.as_str(),
            status: mark.status.as_str(),
            keys: &[],
        };
        let item = match shape::of_kind(&mark.kind) {
            Some(shape) => shape.write_own(&event.content, &named)?,
            None => own_item(&mark.kind, mark.item_id.as_str(), &event.content),
        };
        let mut payload = Object::default();
        payload.put("type", "\"item_completed\"");
        payload.put("thread_id", RawJson::string(self.thread.thread_id.as_str()).as_str());
        payload.put("turn_id", RawJson::string(run.run_id.as_str()).as_str());
        payload.put("item", &item);
        payload.put("completed_at_ms", &(event.created_at.unix_micros() / 1_000).to_string());
        Some(self.line(event.created_at, "event_msg", &payload.text()))
    }

    /// What the run took, a line for each model call.
    async fn usage(&mut self, run: &Run) -> Result<Vec<String>, Failure> {
        let (mut lines, mut after): (Vec<String>, Option<SourceId>) = (Vec::new(), None);
        loop {
            let thread = &self.thread.thread_id;
            let calls = self
                .ledger
                .usage()
                .list_by_run(self.scope, thread, &run.run_id, after.as_ref(), PAGE)
                .await?;
            let is_last = calls.len() < PAGE as usize;
            after = calls.last().map(|call| call.source_id.clone());
            for call in &calls {
                let told = self.call(call, run);
                lines.push(told);
            }
            if is_last {
                return Ok(lines);
            }
        }
    }

    fn call(&mut self, call: &UsageRecord, run: &Run) -> String {
        let t = &call.tokens;
        let record = json!({
            "thread_id": self.thread.thread_id.as_str(),
            "turn_id": run.run_id.as_str(),
            "session_id": self.thread.thread_id.as_str(),
            "response_id": call.source_id.as_str(),
            "usage": {
                "input_tokens": t.input,
                "cached_input_tokens": t.cache_read,
                "cache_write_input_tokens": t.cache_write,
                "output_tokens": t.output,
                "reasoning_output_tokens": t.reasoning,
                "total_tokens": t.total,
            },
        });
        self.line(call.created_at, "token_usage_record", &record.to_string())
    }

    fn end(&mut self, run: &Run, at: Timestamp) -> String {
        let turn = run.run_id.as_str();
        let (started, completed) = (seconds(run.started_at.unwrap_or(run.created_at)), seconds(at));
        let end = match &run.status {
            RunStatus::Success | RunStatus::BudgetExhausted => json!({
                "type": "task_complete", "turn_id": turn, "last_agent_message": run.last_ai_message,
                "started_at": started, "completed_at": completed,
            }),
            RunStatus::Error | RunStatus::Timeout => json!({
                "type": "task_complete", "turn_id": turn, "last_agent_message": null,
                "error": { "message": run.error.as_deref().unwrap_or(run.status.as_str()), "codex_error_info": "other" },
                "started_at": started, "completed_at": completed,
            }),
            // Interrupted, and what a newer version knows.
            _ => json!({
                "type": "turn_aborted", "turn_id": turn,
                "reason": run.stop_reason.as_deref().unwrap_or(Outcome::REPLACED),
                "started_at": started, "completed_at": completed,
            }),
        };
        self.line(at, "event_msg", &end.to_string())
    }
}

/// An item of a kind that Codex has no shape for.
fn own_item(kind: &ItemKind, id: &str, content: &RawJson) -> String {
    let mut item = Object::default();
    item.put("type", "\"Extension\"");
    item.put("kind", RawJson::string(&kind.to_string()).as_str());
    item.put("id", RawJson::string(id).as_str());
    item.put("content", content.as_str());
    item.text()
}

/// A time as Codex writes it.
fn moment(at: Timestamp) -> String {
    const MILLISECONDS: usize = "2026-11-21T03:07:28.429".len();
    let text = at.to_string();
    format!("{}Z", text.get(..MILLISECONDS).unwrap_or(&text))
}

fn seconds(at: Timestamp) -> i64 {
    at.unix_micros() / 1_000_000
}
