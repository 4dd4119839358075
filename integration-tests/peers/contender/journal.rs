//! Ours with its journal: runs tell what happens by callbacks, and are closed when all of it is durable.
//!
//! One turn of a run is a model call, its answer with a tool call, and what the tool returned: four events.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use runledger_core::{
    BoxError, ItemId, NewRun, NewThread, Outcome, RawJson, RunId, Scope, ThreadId, Timestamp,
};
use runledger_journal::callbacks::{ChatModelStart, Context, LlmEnd, RuntimeCallbacks, ToolEnd, ToolStart};
use runledger_journal::{RunJournal, user_message};
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::ours::OpenLedger;
use super::{Appends, Load};
use crate::measure::{Stint, Written};
use crate::work::Work;

/// Events of a turn.
pub(crate) const TURN: usize = 4;

/// A ledger whose runs have journals. What is told of a commit is told of a callback here.
pub(crate) struct Journal(pub(crate) OpenLedger);

/// What a runtime has to tell of a turn, made before the clock runs.
struct Turn {
    call: String,
    messages: RawJson,
    response: RawJson,
    output: RawJson,
}

impl Turn {
    fn new(work: &Work, number: u64) -> Self {
        let answer = work.content(number * 2).as_str();
        let response = json!({ "generations": [[{ "message": {
            "type": "ai",
            "id": format!("msg-{number}"),
            "content": answer,
            "tool_calls": [{ "id": format!("call-{number}"), "name": "read", "args": { "path": "a" } }],
            "usage_metadata": { "input_tokens": 1_200, "output_tokens": 300, "total_tokens": 1_500 },
        } }]] });
        let output = json!({
            "type": "tool",
            "content": work.content(number * 2 + 1).as_str(),
            "tool_call_id": format!("call-{number}"),
            "name": "read",
        });
        Self {
            call: format!("{number}"),
            messages: RawJson::from(json!([[{ "type": "human", "content": "go on" }]])),
            response: RawJson::from(response),
            output: RawJson::from(output),
        }
    }

    /// Tells it; the time of each callback is noted.
    fn tell(&self, journal: &RunJournal, stint: &mut Stint) {
        let (model, tool) = (format!("model-{}", self.call), format!("tool-{}", self.call));
        let tool_call = format!("call-{}", self.call);
        let mut time = |callback: &dyn Fn()| {
            let began = Instant::now();
            callback();
            stint.note(began);
        };
        let call = Context::new(&model).below("root");
        time(&|| journal.on_chat_model_start(ChatModelStart { context: call, messages: &self.messages }));
        time(&|| journal.on_llm_end(LlmEnd { context: call, response: &self.response }));
        let context = Context::new(&tool).below("root");
        let start = ToolStart { context, name: "read", inputs: None, tool_call_id: Some(&tool_call) };
        time(&|| journal.on_tool_start(start));
        time(&|| journal.on_tool_end(ToolEnd { context, name: Some("read"), output: &self.output }));
    }
}

#[async_trait]
impl Appends for Journal {
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let ready = Arc::new(Barrier::new(load.writers + 1));
        let mut tasks = JoinSet::new();
        for _ in 0..load.writers {
            let thread = ThreadId::generate();
            self.0.threads.push(thread.clone());
            let said = user_message(ItemId::generate(), RawJson::string("go on"), Timestamp::now());
            let new = NewRun {
                input: vec![said],
                create_missing: Some(NewThread::new(thread.clone())),
                ..NewRun::new(thread, RunId::generate())
            };
            let journal = RunJournal::begin(&self.0.ledger, &Scope::System, new).await?;
            let turns: Vec<Turn> = (0..load.commits as u64).map(|number| Turn::new(work, number)).collect();
            let ready = Arc::clone(&ready);
            tasks.spawn(async move {
                ready.wait().await;
                let mut stint = Stint::begin(turns.len() * TURN);
                for turn in &turns {
                    turn.tell(&journal, &mut stint);
                    // An agent waits for its model here; what writes gets its turn.
                    tokio::task::yield_now().await;
                }
                journal.finish(Outcome::success()).await?;
                let report = journal.close().await?;
                if report.lost + report.fenced + report.quarantined.len() as u64 > 0 {
                    return Err(format!("{report:?}").into());
                }
                Ok::<_, BoxError>((report.written, stint.end()))
            });
        }
        ready.wait().await;
        let (mut events, mut stints) = (0, Vec::with_capacity(load.writers));
        while let Some(done) = tasks.join_next().await {
            let (written, stint) = done??;
            events += written;
            stints.push(stint);
        }
        // What the person said was there before.
        Ok(Written::by(events, stints).after(load.writers as u64))
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        self.0.stored().await
    }

    async fn close(self: Box<Self>) {
        Box::new(self.0).close().await;
    }
}
